//! The operator's pages in a real browser: a fleet runs, one thing after another is broken, and somebody looks on.
#![expect(clippy::disallowed_methods, reason = "a browser is waited for on the real clock")]

mod sign_in;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{aviary::command, browser::Browser};

/// `aviary demo`, which is told what to break.
struct Demo {
    child: Child,
    told: ChildStdin,
    url: String,
    runbooks: Receiver<String>,
}

impl Demo {
    #[track_caller]
    fn start() -> Self {
        let mut command = command();
        command.arg("demo").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let told = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let url =
            lines.find_map(|line| Some(line.strip_prefix("The same in a browser: ")?.to_owned())).unwrap();
        // What it says further is read, so that it can go on.
        let (found, runbooks) = mpsc::channel();
        thread::spawn(move || {
            let linked = lines.filter_map(|line| Some(line.strip_prefix("Runbook: ")?.to_owned()));
            // Whoever wanted no more of them has gone.
            linked.for_each(|runbook| drop(found.send(runbook)));
        });
        Self { child, told, url: url.trim_end_matches('/').to_owned(), runbooks }
    }

    /// Breaks something, or mends it.
    #[track_caller]
    fn press(&self, key: &str) {
        writeln!(&self.told, "{key}").unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself, and then both have nothing to do.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Looks at the page that is open on each screen, in both schemes, and with axe-core.
#[track_caller]
pub(crate) fn look_at(browser: &Browser, name: &str) {
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    for scheme in ["light", "dark"] {
        for width in [320, 768, 1440] {
            browser.look(width, scheme);
            browser.picture(&pictures.join(format!("{name}-{width}-{scheme}.png")));
            let wide = browser.script("return document.documentElement.scrollWidth");
            assert!(
                wide.as_u64().unwrap() <= u64::from(width),
                "{name} is {wide} wide on a screen of {width}"
            );
            assert_eq!(browser.audit(), [""; 0], "{name}, {width} pixels, {scheme}");
        }
    }
    let from = browser.script(
        "return [...new Set(performance.getEntriesByType('resource').map(it => new URL(it.name).origin))]",
    );
    assert_eq!(from, browser.script("return [location.origin]"), "nothing is asked of anybody else");
    assert_eq!(browser.complaints(), [""; 0], "{name}");
}

#[test]
fn whoever_is_on_call_sees_what_is_lost_and_says_that_he_is_on_it() {
    let demo = Demo::start();
    let browser = Browser::start();
    browser.look(1440, "light");
    let open = |path: &str| browser.open(&format!("{}{path}", demo.url));
    open("/");
    let state = |service: &str| {
        format!(
            "[...document.querySelectorAll('.verdicts tbody tr')].find(row => row.querySelector('th').innerText == '{service}')?.querySelector('.state').innerText"
        )
    };
    for service in ["ingest", "edge"] {
        browser.wait_until(&format!("{}?.includes('healthy')", state(service)));
    }
    browser.wait_until("document.querySelector('#freshness')?.innerText == 'Live'");

    // Nobody loads the page again: what is broken shows by itself.
    demo.press("u");
    let broken = Instant::now();
    let cells = "[...document.querySelectorAll('.matrix tbody tr')].filter(row => row.querySelector('th').innerText == 'udp').flatMap(row => [...row.querySelectorAll('td')])";
    browser.wait_until("document.querySelector('.lane path.loss')");
    let marked = broken.elapsed();
    assert!(marked < Duration::from_secs(30), "the first loss was marked after {marked:?}");
    browser.wait_until(
        "document.querySelector('.where a')?.innerText.startsWith('ingest: udp in every region (3/3)')",
    );
    browser.wait_until(&format!("{}.match(/down|degraded/)", state("ingest")));
    browser.wait_until(&format!(
        "{cells}.length == 3 && {cells}.every(cell => /[1-9].* % lost/.test(cell.innerText))"
    ));
    let others = "[...document.querySelectorAll('.matrix tbody tr')].filter(row => row.querySelector('th').innerText != 'udp').flatMap(row => [...row.querySelectorAll('td')])";
    browser.wait_until(&format!(
        "{others}.length > 0 && !{others}.some(cell => / % lost/.test(cell.innerText))"
    ));
    browser.wait_until("document.title.startsWith('(1) ')");
    look_at(&browser, "services");

    // The same without any script.
    browser.run_scripts(false);
    open("/?by=node&span=1m");
    browser.picture(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages/without-script.png"));
    browser.run_scripts(true);
    let whole = browser.text("body");
    for expected in ["load it again", "udp", "Delivered by protocol and node", "% lost"] {
        assert!(whole.contains(expected), "{expected} in {whole}");
    }
    browser.look(1440, "light");

    open("/");
    browser.script("document.querySelector('.where a').click()");
    browser
        .wait_until("location.pathname.startsWith('/incidents/') && document.querySelector('#timeline li')");
    let path = browser.script("return location.pathname").as_str().unwrap().to_owned();
    // What the page says was so up to a second ago.
    browser.wait_until(
        "(() => { const asked = new XMLHttpRequest(); asked.open('GET', '/api/v1' + location.pathname + '/explanation', false); asked.send(); const first = asked.responseText.split('\\n')[0]; return asked.status == 200 && first && document.querySelector('#explanation')?.innerText.includes(first) })()",
    );
    // What somebody opened stays open.
    browser.script("document.querySelectorAll('#evidence details').forEach(it => { it.open = true })");
    let evidence = browser.text("#evidence");
    browser.wait_until(&format!("document.querySelector('#evidence').innerText != {evidence:?}"));
    assert!(browser.text("#evidence").contains("127.0."), "addresses: {evidence}");
    browser.script(
        "document.querySelector('#by').value = 'ada'; document.querySelector('#text').value = 'it is the <switch>'; \
         document.querySelector('form button').click()",
    );
    browser.wait_until("document.querySelector('#notes')?.innerText.includes('ada: it is the <switch>')");
    browser.script(
        "document.querySelector('#by').value = 'ada'; document.querySelector('[formaction]').click()",
    );
    browser.wait_until("document.querySelector('#incident')?.innerText.includes('ada')");
    look_at(&browser, "incident");

    // The page that was sent leads to what to do, and so does the incident's.
    let sent = demo.runbooks.recv_timeout(Duration::from_secs(20)).unwrap();
    browser.script("[...document.querySelectorAll('.facts a')].find(it => it.innerText.startsWith('/runbooks/')).click()");
    browser.wait_until("document.querySelector('.runbook h2')");
    assert_eq!(browser.script("return location.href"), json!(sent));
    assert_eq!(browser.text("h1"), "A service loses");
    look_at(&browser, "runbook");
    browser.script("document.querySelector('.runbook a[href=\"certificate-ends\"]').click()");
    browser.wait_until("document.querySelector('h1').innerText == 'A certificate ends'");
    open("/runbooks");
    assert!(browser.text("#main").contains("Everything fails at once from one agent"));
    look_at(&browser, "runbooks");

    open("/ingest");
    browser.wait_until("document.querySelector('.strip .lost')");
    assert!(browser.text("#series").contains("udp://"), "{}", browser.text("#series"));
    assert!(
        browser.text("#timings").contains("connect")
            || browser.text("#timings").contains("ten whole minutes")
    );
    look_at(&browser, "service");
    open("/agents");
    browser.wait_until("document.querySelectorAll('#fleet tbody tr').length == 3");
    look_at(&browser, "agents");
    open("/incidents");
    browser.wait_until("document.querySelector('#incidents tbody tr')");
    look_at(&browser, "incidents");
    open("/nobody");
    assert_eq!(browser.text("h1"), "Nothing is here");

    demo.press("m");
    open(&path);
    browser.wait_until("document.querySelector('#timeline').innerText.includes('nothing is lost any more')");
}

#[test]
fn a_keyboard_is_enough() {
    let demo = Demo::start();
    let browser = Browser::start();
    browser.look(768, "light");
    browser.open(&format!("{}/?span=1m", demo.url));
    let press = |key: &str, code: u32| {
        for kind in ["rawKeyDown", "keyUp"] {
            browser.devtools(
                "Input.dispatchKeyEvent",
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}),
            );
        }
    };
    press("Tab", 9);
    let focused = || browser.script("return document.activeElement.innerText");
    assert_eq!(focused(), json!("Skip to the content"));
    let outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, json!("solid"), "where the focus is can be seen");
    for _ in 0..3 {
        press("Tab", 9);
    }
    assert_eq!(focused(), json!("Incidents"));
    // What is brought up to date does not take the focus from whoever has it.
    browser.wait_until("document.querySelector('#chart nav a')");
    browser.script("document.querySelector('#chart nav a').focus()");
    let before = browser.text("#chart .axis");
    browser.wait_until(&format!("document.querySelector('#chart .axis').innerText != {before:?}"));
    assert_eq!(focused(), json!("← earlier"));
}
