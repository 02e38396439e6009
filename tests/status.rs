//! The public status page of a service that breaks: drafted, edited and published by the command line, read by listener, files,
//! feed and JSON, looked at in a browser, and there again after a kill, with the seconds that nobody measured said as such.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    pages::look_at,
    support::{
        aviary::{Aviary, aviary},
        browser::Browser,
        http,
        ports::Port,
        process::test_python,
        receiver::Receiver,
        wait::wait_until,
    },
};

const PATIENCE: Duration = Duration::from_secs(180);

/// aviary with a status page, and where that is.
struct Fleet {
    running: Aviary,
    page: SocketAddr,
    files: PathBuf,
}

impl Fleet {
    /// Two services at two receivers, of which one is called otherwise outside.
    fn start(ingest: &Receiver, edge: &Receiver, dir: &Path) -> Self {
        let port = Port::claim();
        let page = port.address();
        let files = dir.join("public");
        let config = format!(
            "[vantage]\nregion = \"eu\"\nnode = \"canary-node-7\"\n\
             [agent]\ndata = \"{}\"\n\
             [[service]]\nname = \"svc-ingest-7\"\nendpoints = [\"tcp://{}\"]\npage_after = \"0s\"\nstart_up_grace = \"1s\"\n\
             status = {{ name = \"Ingest\", description = \"Takes your metrics.\", group = \"Metrics\" }}\n\
             [[service]]\nname = \"edge\"\nendpoints = [\"tcp://{}\"]\n\
             [[silence]]\nname = \"switches\"\nmatch = {{ service = [\"edge\"] }}\nfrom = 2099-01-01T00:00:00Z\nuntil = 2099-01-01T01:00:00Z\n\
             author = \"ada\"\nreason = \"canary-node-7 is moved\"\nannounce = \"We replace switches.\"\n\
             [collector.status]\ntitle = \"Example status\"\nlisten = \"{page}\"\ndirectory = \"{}\"\n\
             url = \"https://status.example.com\"\ncontact = \"support@example.com\"\n",
            dir.join("agent").display(),
            ingest.address(),
            edge.address(),
            files.display(),
        );
        let running = Aviary::start_with(&config, |command| {
            command.env("AVIARY_COLLECTOR_DATA", dir.join("collector"));
        });
        Self { running, page, files }
    }

    /// What the listener answers.
    fn get(&self, path: &str) -> (u16, String) {
        http::request(self.page, "GET", path, &[], &[], PATIENCE).unwrap_or((0, String::new()))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.get(&format!("/api/v2/{name}.json")).1).unwrap_or_default()
    }

    /// A file as it is now.
    fn file(&self, path: &str) -> String {
        fs::read_to_string(self.files.join(path)).unwrap_or_default()
    }

    /// Waits until something is so.
    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let lacking = || format!("{what}; {}\n{}", self.json("summary"), self.running.log());
        wait_until(PATIENCE, lacking, || is_so(self));
    }

    /// What a command prints.
    #[track_caller]
    fn ask(&self, arguments: &[&str]) -> String {
        let url = format!("http://{}", self.running.collector);
        let ran = aviary(&[arguments, &["--collector", &url]].concat());
        assert_eq!(ran.status, 0, "{arguments:?}: {}{}", ran.out, ran.err);
        ran.out
    }

    /// The component that customers know as Ingest.
    fn ingest(&self) -> Value {
        let components = self.json("components");
        let found = components["components"].as_array().into_iter().flatten();
        found.into_iter().find(|it| it["name"] == "Ingest").cloned().unwrap_or_default()
    }
}

/// The feed in `file`, as a reader of feeds has it.
#[track_caller]
fn feed(file: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/feed.py");
    let output = Command::new(test_python()).arg(script).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn customers_read_what_was_published_and_what_was_measured() {
    let dir = tempfile::Builder::new().prefix("aviary-status-").tempdir().unwrap();
    let (ingest, edge) = (Receiver::start(), Receiver::start());
    let mut fleet = Fleet::start(&ingest, &edge, dir.path());
    fleet.wait("all is well", |it| it.json("summary")["status"]["description"] == "All Systems Operational");
    fleet.wait("it is in the files", |it| it.file("index.html").contains("All Systems Operational"));
    assert_eq!(feed(&fleet.files.join("feed.atom"))["entries"], serde_json::json!([]));
    let planned = &fleet.json("summary")["scheduled_maintenances"][0];
    assert_eq!(
        (&planned["status"], &planned["scheduled_for"]),
        (&"scheduled".into(), &"2099-01-01T00:00:00Z".into())
    );
    // Windows of a minute, so that what comes is loss and no beginning.
    let is_well = |service: &Value| service["window"]["delivered"].as_u64() > Some(35);
    fleet.running.wait_for("/api/v1/services/svc-ingest-7", PATIENCE, is_well);

    let address = ingest.address();
    drop(ingest);
    let is_open = |answer: &Value| answer["incidents"][0]["state"] == "open";
    let incidents = fleet.running.wait_for("/api/v1/incidents?active=true", PATIENCE, is_open);
    let id = incidents["incidents"][0]["id"].as_str().unwrap().to_owned();
    // What is measured is seen, whoever publishes.
    fleet.wait("the component is down", |it| it.ingest()["status"] == "major_outage");
    assert_eq!(fleet.json("incidents")["incidents"], serde_json::json!([]));
    let draft = fleet.ask(&["incident", "draft", &id]);
    for expected in
        ["draft", "Ingest: data is lost", "data sent to Ingest has been lost", "We are looking into it."]
    {
        assert!(draft.contains(expected), "{expected}: {draft}");
    }

    let title = "Ingest <loses> what you send";
    fleet.ask(&["incident", "edit", &id, "--title", title, "--impact", "major", "--by", "ada"]);
    assert!(!fleet.file("index.html").contains("&lt;loses&gt;"), "a draft is nobody's but ours");
    fleet.ask(&["incident", "publish", &id, "--by", "ada"]);
    let published = Instant::now();
    fleet.wait("it is in the files", |it| {
        it.file("index.html").contains("Ingest &lt;loses&gt; what you send")
    });
    let seen = published.elapsed();
    // The pages are looked through each minute; this does not wait for that.
    assert!(seen < Duration::from_secs(15), "customers read it {seen:?} after it was published");
    fleet.ask(&[
        "incident",
        "update",
        &id,
        "A switch is <replaced>.",
        "--status",
        "identified",
        "--by",
        "grace",
    ]);
    fleet.wait("the update is served", |it| it.get("/").1.contains("A switch is &lt;replaced&gt;."));
    fleet.wait("and written", |it| it.get("/").1 == it.file("index.html"));
    let incident = fleet.json("incidents/unresolved")["incidents"][0].clone();
    assert_eq!((&incident["name"], &incident["status"]), (&title.into(), &"identified".into()));
    assert_eq!(
        (&incident["impact"], &incident["components"][0]["name"]),
        (&"major".into(), &"Ingest".into())
    );
    assert_eq!(incident["incident_updates"].as_array().map(Vec::len), Some(2), "{incident}");
    let read = feed(&fleet.files.join("feed.atom"));
    assert_eq!((&read["version"], &read["title"]), (&"atom10".into(), &"Example status".into()));
    let entry = &read["entries"][0];
    assert_eq!(
        (&entry["title"], &entry["text"]),
        (&format!("Identified: {title}").into(), &"A switch is <replaced>.".into())
    );
    assert_eq!(entry["link"], format!("https://status.example.com/incidents/{id}.html"));

    // Killed while nobody looks: all of it is there again, and what nobody measured is not taken for good.
    let unmeasured = |it: &Fleet| {
        let of_today = it.ingest()["protocols"][0]["days"].as_array().and_then(|days| days.last().cloned());
        let of_today = of_today.unwrap_or_default();
        Some(of_today["planned"].as_u64()? - of_today["measured"].as_u64()?)
    };
    let before = unmeasured(&fleet).unwrap();
    assert!(before < 20, "{before} s were not measured, of about 80");
    fleet.running.process().kill();
    assert!(fleet.file("index.html").contains("&lt;loses&gt;"), "the files outlive us");
    thread::sleep(Duration::from_secs(6));
    fleet.running.process().restart();
    fleet.running.process().wait_until_listening(fleet.page, PATIENCE);
    fleet.wait("what was published is there", |it| {
        it.json("incidents/unresolved")["incidents"][0]["id"] == id.as_str()
    });
    let again = fleet.json("incidents/unresolved")["incidents"][0].clone();
    assert_eq!(again["incident_updates"], incident["incident_updates"]);
    assert_eq!(again["name"], incident["name"]);
    fleet.wait("blind seconds are said", |it| unmeasured(it) >= Some(before + 5));
    assert!(fleet.get("/").1.contains(" not measured"), "{}", fleet.get("/").1);

    let browser = Browser::start();
    let at = |path: &str| format!("http://{}{path}", fleet.page);
    browser.open(&at("/"));
    browser.wait_until("document.querySelector('#as-of')");
    assert!(browser.text("main").contains("We replace switches."), "{}", browser.text("main"));
    look_at(&browser, "status");
    // Whoever left it open sees that it is old.
    let script =
        fleet.file("index.html").split('"').find(|it| it.contains("assets/script")).unwrap().to_owned();
    let aged = format!(
        "document.querySelector('#as-of').dataset.asOf = 1000; const again = document.createElement('script'); again.src = '{script}'; document.head.append(again)"
    );
    browser.script(&aged);
    browser.wait_until("document.body.classList.contains('stale') && document.querySelector('#as-of').innerText.includes('minutes old')");
    browser.run_scripts(false);
    browser.open(&at("/"));
    let whole = browser.text("body");
    for expected in
        ["Ingest <loses> what you send", "A switch is <replaced>.", "Major outage", "not measured", "As of "]
    {
        assert!(whole.contains(expected), "{expected}: {whole}");
    }
    browser.run_scripts(true);
    let component = fleet.ingest()["id"].as_str().unwrap().to_owned();
    for (name, path) in [
        ("status-component", format!("/components/{component}.html")),
        ("status-incident", format!("/incidents/{id}.html")),
        ("status-history", "/history.html".to_owned()),
    ] {
        browser.open(&at(&path));
        look_at(&browser, name);
    }
    // The operator's page, where the rest is said.
    browser.open(&format!("http://{}/incidents/{id}", fleet.running.collector));
    browser.script("document.querySelectorAll('details:has(form)').forEach(it => { it.open = true })");
    look_at(&browser, "incident-public");
    browser.script(
        "document.querySelector('#update-by').value = 'grace'; document.querySelector('#update-text').value = 'It works again.'; \
         document.querySelector('#update-status').value = 'resolved'; document.querySelector('form[action$=\"public/update\"] button').click()",
    );
    browser.wait_until("document.querySelector('#public')?.innerText.includes('It works again.')");
    fleet.wait("it is resolved", |it| it.json("incidents")["incidents"][0]["status"] == "resolved");
    fleet.ask(&["incident", "post-mortem", &id, "The switch was old.", "--by", "grace"]);
    fleet.wait("what was learnt is read", |it| {
        it.file(&format!("incidents/{id}.html")).contains("The switch was old.")
    });

    let month: String = incident["created_at"].as_str().unwrap().chars().take(7).collect();
    let report = fleet.running.get(&format!("/api/v1/report?month={month}"));
    let row =
        report["rows"].as_array().unwrap().iter().find(|it| it["service"] == "svc-ingest-7").unwrap().clone();
    assert!(row["lost"].as_u64() > Some(5) && row["measured_fraction"].as_f64() < Some(100.0), "{row}");
    let url = format!("http://{}", fleet.running.collector);
    let csv = aviary(&["report", "--month", &month, "--format", "csv", "--collector", &url]);
    assert_eq!(csv.status, 1, "its budget is overspent: {}{}", csv.out, csv.err);
    assert!(csv.out.lines().any(|line| line.contains(",svc-ingest-7,tcp,")), "{}", csv.out);
    for ours in ["svc-ingest-7", "canary-node-7", &address.to_string(), "ada", "grace"] {
        for path in ["index.html", "feed.atom", "api/v2/summary.json", &format!("incidents/{id}.html")] {
            assert!(!fleet.file(path).contains(ours), "{ours} in {path}: {}", fleet.file(path));
        }
    }
}
