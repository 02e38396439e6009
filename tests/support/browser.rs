//! Headless Chromium, driven over WebDriver as `chromedriver` speaks it.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::{
    ports::Port,
    process::{Process, program, test_python},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one window. It ends with this, and so does its driver.
pub(crate) struct Browser {
    session: String,
    runtime: Runtime,
    client: reqwest::Client,
    port: Port,
    _driver: Process,
    _dir: TempDir,
}

impl Browser {
    /// Starts it, with nothing open.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let dir =
            tempfile::Builder::new().prefix("aviary-browser-").tempdir().expect("a temporary directory");
        let port = Port::claim();
        let mut command = program("chromedriver");
        command.arg(format!("--port={}", port.address().port())).env("HOME", dir.path());
        let driver = Process::start("chromedriver", command, dir.path());
        driver.wait_until_listening(port.address(), PATIENCE);
        aviary_probe::install_crypto_provider();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().expect("a client");
        let mut browser = Self { session: String::new(), runtime, client, port, _driver: driver, _dir: dir };
        // Root has no sandbox in Chromium, and containers little shared memory.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-proxy-server",
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": PATIENCE.as_secs() * 1_000},
        }}});
        let session = browser.command("POST", "", &capabilities);
        browser.session = session["sessionId"].as_str().expect("a session has an id").to_owned();
        browser
    }

    /// Opens `url`, and waits until it is loaded.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({"url": url}));
    }

    /// What the body of a function returns in the page.
    #[track_caller]
    pub(crate) fn script(&self, body: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({"script": body, "args": []}))
    }

    /// The text of the first element that `selector` finds; empty where there is none.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let found = self.script(&format!("return document.querySelector({selector:?})?.innerText ?? ''"));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until `condition` holds in the page.
    #[track_caller]
    pub(crate) fn wait_until(&self, condition: &str) {
        let begun = Instant::now();
        while self.script(&format!("return Boolean({condition})")) != Value::Bool(true) {
            assert!(begun.elapsed() < PATIENCE, "never: {condition}; the page says\n{}", self.text("main"));
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// A command of the DevTools protocol.
    #[track_caller]
    pub(crate) fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Shows pages so many pixels wide, light or dark.
    #[track_caller]
    pub(crate) fn look(&self, width: u32, scheme: &str) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// Whether scripts of pages run.
    #[track_caller]
    pub(crate) fn run_scripts(&self, run: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": !run}));
    }

    /// Writes a picture of the whole page to `file`.
    #[track_caller]
    pub(crate) fn picture(&self, file: &Path) {
        let picture = self.devtools("Page.captureScreenshot", json!({"captureBeyondViewport": true}));
        let picture = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("it is base64");
        fs::create_dir_all(file.parent().expect("it is in a directory")).expect("it can be made");
        fs::write(file, picture).expect("a picture can be written");
    }

    /// What axe-core finds amiss with the page for those who do not see, or not well, in a line each.
    #[track_caller]
    pub(crate) fn audit(&self) -> Vec<String> {
        let axe = fs::read_to_string(axe()).expect("axe-core can be read");
        self.script(&axe);
        let run = "const done = arguments[arguments.length - 1]; axe.run().then(found => done(found.violations.flatMap(
            it => it.nodes.map(node => it.id + ': ' + it.help + ': ' + node.html + ' ' + node.failureSummary))));";
        let found = self.command("POST", "/execute/async", &json!({"script": run, "args": []}));
        let found = found.as_array().expect("a list");
        found.iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What the browser complained of since it was asked last: refused by the policy, not found, thrown.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("a list").iter();
        entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[track_caller]
    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = match self.session.as_str() {
            "" => "/session".to_owned(),
            session => format!("/session/{session}{path}"),
        };
        let method = method.parse().expect("it is a method");
        let asked = self.client.request(method, format!("http://{}{path}", self.port.address())).json(body);
        let (status, mut answer) = self.runtime.block_on(async {
            let answer = asked.send().await.expect("the driver answers");
            (answer.status(), answer.json::<Value>().await.expect("the driver answers JSON"))
        });
        assert_eq!(status, 200, "{path} {body:.200}: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !thread::panicking() {
            self.command("DELETE", "", &json!({}));
        }
    }
}

/// axe-core's script, as the package of its name for Python has it.
#[track_caller]
fn axe() -> PathBuf {
    let packages = test_python().parent().and_then(Path::parent).map(|venv| venv.join("lib"));
    let versions =
        fs::read_dir(packages.expect("an interpreter lies in an environment")).expect("it has packages");
    let found = versions
        .flatten()
        .map(|version| version.path().join("site-packages/axe_playwright_python/axe.min.js"))
        .find(|file| file.is_file());
    found.expect("axe-core is missing: run tests/setup")
}
