//! Signing in, in a real browser: with the right token and the wrong one, out again, and from a page of somebody else.

use std::{fs, thread, time::Duration};

use serde_json::json;
use tempfile::TempDir;

use super::look_at;
use crate::support::{
    aviary::AVIARY,
    browser::Browser,
    ports::Port,
    process::{Process, program},
};

const ADMIN: &str = "an-admin-token-of-some-length";
const READER: &str = "a-reader-token-of-some-length";
const AGENT: &str = "an-agent-token-of-some-length";

/// A collector that knows people and agents by their tokens, and keeps its data; `more` is said of it too.
fn start(more: &str) -> (TempDir, Port, Process, String) {
    let dir = tempfile::Builder::new().prefix("aviary-sign-in-").tempdir().unwrap();
    let port = Port::claim();
    let configuration = format!(
        "[collector]\nlisten = \"{}\"\ndata = \"data\"\n\
         [[collector.token]]\nname = \"people\"\nsecret = {{ env = \"ADMIN\" }}\nscope = [\"admin\"]\n\
         [[collector.token]]\nname = \"guests\"\nsecret = {{ env = \"READER\" }}\nscope = [\"read\"]\n\
         [[collector.token]]\nname = \"agents\"\nsecret = {{ env = \"AGENT\" }}\n\
         [[service]]\nname = \"ingest\"\nendpoints = [\"tcp://127.0.0.1:1\"]\n{more}",
        port.address()
    );
    let path = dir.path().join("aviary.toml");
    fs::write(&path, configuration).unwrap();
    let mut command = program(AVIARY);
    command.arg("run").arg(path).current_dir(dir.path());
    command.env("ADMIN", ADMIN).env("READER", READER).env("AGENT", AGENT);
    let process = Process::start("aviary", command, dir.path());
    process.wait_until_listening(port.address(), Duration::from_secs(20));
    let url = format!("http://{}", port.address());
    (dir, port, process, url)
}

/// Sends the form that is shown, with this token in it.
fn sign_in(browser: &Browser, token: &str) {
    browser.wait_until("document.querySelector('#token')");
    browser.script(&format!(
        "document.querySelector('#token').value = {token:?}; window.isOld = true; document.querySelector('main button').click()"
    ));
    browser.wait_until("!window.isOld && document.readyState == 'complete'");
}

#[test]
fn whoever_wants_to_look_signs_in_and_out() {
    let (_dir, port, mut process, url) = start("");
    let browser = Browser::start();
    browser.look(768, "light");
    let open = |path: &str| browser.open(&format!("{url}{path}"));
    let at = || browser.script("return location.pathname + location.search");
    open("/agents?page=1");
    assert_eq!(at(), json!("/sign-in?to=%2Fagents%3Fpage%3D1"));
    browser.wait_until("document.activeElement.id == 'token'");
    look_at(&browser, "sign-in");

    sign_in(&browser, "no token of this collector");
    assert!(browser.text("[role=alert]").contains("This is no token of this collector"));
    assert_eq!(browser.script("return document.querySelector('#token').value"), json!(""));
    // The browser says itself that it was answered 401.
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|it| it.contains("401")), "{complaints:?}");
    look_at(&browser, "sign-in-wrong");
    sign_in(&browser, AGENT);
    assert!(browser.text("[role=alert]").contains("an agent's, to report with"));

    sign_in(&browser, READER);
    browser.wait_until("location.pathname + location.search == '/agents?page=1'");
    assert!(browser.text("header .caller").contains("Signed in as guests"));
    assert_eq!(browser.script("return document.cookie"), json!(""), "no script sees the session");
    let posted = "const asked = new XMLHttpRequest(); asked.open('POST', '/api/v1/silences', false); asked.send('{}'); return asked.status";
    assert_eq!(browser.script(posted), json!(403), "who may read changes nothing");
    browser.complaints();
    look_at(&browser, "signed-in");

    // A restart signs nobody out.
    process.restart();
    process.wait_until_listening(port.address(), Duration::from_secs(20));
    // Until it has read what it kept, it says so.
    for _ in 0..100 {
        open("/agents");
        if browser.text("h1") != "Not now" {
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    assert!(browser.text("header .caller").contains("Signed in as guests"));
    assert_eq!(browser.text("h1"), "Agents");

    browser.script("window.isOld = true; document.querySelector('header .caller button').click()");
    browser.wait_until("!window.isOld && location.pathname == '/sign-in'");
    open("/agents");
    assert_eq!(at(), json!("/sign-in?to=%2Fagents"));

    sign_in(&browser, ADMIN);
    browser.wait_until("location.pathname == '/agents'");
    assert_eq!(browser.script(posted), json!(400), "what is sent is no silence, and who sends it may");
}

#[test]
fn a_page_of_somebody_else_changes_nothing() {
    let (_dir, _port, _process, url) = start("");
    let browser = Browser::start();
    browser.look(768, "light");
    browser.open(&format!("{url}/sign-in"));
    sign_in(&browser, ADMIN);
    for (action, field) in [("incidents/x/notes", "text"), ("sign-out", "a"), ("sign-in", "token")] {
        let form = format!(
            "<form method=post action={url}/{action}><input name={field} value=x><button>go</button></form>"
        );
        browser.open(&format!("data:text/html,{form}"));
        browser.script("document.querySelector('button').click()");
        browser.wait_until("location.protocol == 'http:' && document.querySelector('h1')");
        // The cookie is not sent along with what another site sends, so that nobody is known who might have been refused.
        let expected =
            if action.starts_with("incidents") { "Not allowed" } else { "sent by a page of somebody else" };
        assert!(browser.text("main").contains(expected), "{action}: {}", browser.text("main"));
        browser.open(&format!("{url}/agents"));
        assert!(browser.text("header .caller").contains("Signed in as people"), "{action}");
    }
}

#[test]
fn a_proxy_says_who_looks() {
    let more = "[collector.proxy]\nfrom = [\"127.0.0.1\"]\nuser = \"X-Forwarded-User\"\n\
                groups = \"X-Forwarded-Groups\"\n[[collector.proxy.group]]\nname = \"oncall\"\nscope = [\"admin\"]\n";
    let (dir, port, _process, url) = start(more);
    let fronts = [("ada", "staff,oncall", Port::claim()), ("bob", "staff", Port::claim())];
    let front = |(user, groups, front): &(&str, &str, Port)| {
        format!(
            "frontend {user}\n    bind {}\n    http-request set-header X-Forwarded-User {user}\n    \
             http-request set-header X-Forwarded-Groups {groups}\n    default_backend collector\n",
            front.address()
        )
    };
    let config = format!(
        "defaults\n    mode http\n    timeout connect 5s\n    timeout client 1m\n    timeout server 1m\n{}{}\
         backend collector\n    server collector {}\n",
        front(&fronts[0]),
        front(&fronts[1]),
        port.address()
    );
    fs::write(dir.path().join("haproxy.cfg"), config).unwrap();
    let mut command = program("haproxy");
    command.arg("-f").arg(dir.path().join("haproxy.cfg"));
    let haproxy = Process::start("haproxy", command, dir.path());
    let browser = Browser::start();
    browser.look(768, "light");
    let silenced = "const asked = new XMLHttpRequest(); asked.open('POST', '/api/v1/silences', false); \
        asked.send(JSON.stringify({match: {region: ['eu']}, until: Math.floor(Date.now() / 1000) + 600, by: 'eve', reason: 'x'})); \
        return [asked.status, JSON.parse(asked.responseText).author ?? '']";
    for ((user, _, front), silence) in fronts.iter().zip([json!([201, "ada"]), json!([403, ""])]) {
        haproxy.wait_until_listening(front.address(), Duration::from_secs(20));
        browser.open(&format!("http://{}/agents", front.address()));
        assert_eq!(browser.text("header .caller"), format!("{user}, as the proxy says"));
        assert_eq!(browser.script(silenced), silence, "{user} is the author, whomever the request names");
    }
    // Who comes past the proxy is nobody, also on its own host.
    browser.open(&format!("{url}/agents"));
    assert_eq!(browser.script("return location.pathname"), json!("/sign-in"));
}
