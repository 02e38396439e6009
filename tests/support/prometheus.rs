//! Prometheus as Debian has it, and its promtool; unpacked by `tests/setup`, so that no service starts that nobody asked for.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    http,
    ports::Port,
    process::{Process, program, readers},
};

/// How long it may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Prometheus that scrapes each second.
pub(crate) struct Prometheus {
    process: Process,
    http: Port,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts it with `jobs`, each a name and an address that answers `/metrics`, and with `rules`, which are judged each second.
    #[track_caller]
    pub(crate) fn start(jobs: &[(&str, SocketAddr)], rules: &str) -> Self {
        let dir =
            tempfile::Builder::new().prefix("aviary-prometheus-").tempdir().expect("a temporary directory");
        let mut configuration = "global: { scrape_interval: 1s, evaluation_interval: 1s }\n\
                                 rule_files: [rules.yml]\nscrape_configs:\n"
            .to_owned();
        let mut names: Vec<&str> = jobs.iter().map(|(name, _)| *name).collect();
        names.dedup();
        for name in names {
            let targets = jobs.iter().filter(|(job, _)| *job == name).map(|(_, address)| address.to_string());
            let targets: Vec<String> = targets.collect();
            writeln!(configuration, "  - job_name: {name}\n    static_configs: [{{ targets: {targets:?} }}]")
                .expect("writing to memory does not fail");
        }
        let write = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).expect("the temporary directory can be written");
        };
        write("prometheus.yml", &configuration);
        // As often as it scrapes, whatever a group says: nobody waits here for minutes.
        let rules = rules.lines().filter(|line| !line.trim_start().starts_with("interval:"));
        write("rules.yml", &rules.collect::<Vec<_>>().join("\n"));
        let http = Port::claim();
        let mut command = program(readers().join("bin/prometheus"));
        command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={}", http.address()));
        let process = Process::start("prometheus", command, dir.path());
        process.wait_until_listening(http.address(), PATIENCE);
        let prometheus = Self { process, http, _dir: dir };
        prometheus.wait_until_ready();
        prometheus
    }

    /// Waits until it has opened its store: before that it refuses what it is asked, and not in JSON.
    #[track_caller]
    fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        let ready = || http::request(self.http.address(), "GET", "/-/ready", &[], &[], PATIENCE);
        while !matches!(ready(), Ok((200, _))) {
            assert!(Instant::now() < deadline, "not ready within {PATIENCE:?}: {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// The `data` that it answers at `path`, to these parameters.
    ///
    /// # Errors
    /// What it says where it refuses the question.
    #[track_caller]
    pub(crate) fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let query: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let path = format!("{path}?{}", query.join("&"));
        let (status, body) =
            http::request(self.http.address(), "GET", &path, &[], &[], PATIENCE).expect("Prometheus answers");
        let mut answer: Value = serde_json::from_str(&body).expect("Prometheus answers JSON");
        if status == 200 { Ok(answer["data"].take()) } else { Err(answer["error"].to_string()) }
    }
}

/// Runs promtool, which must be content; what it says.
#[track_caller]
pub(crate) fn promtool(arguments: &[&str], dir: &Path) -> String {
    let output = Command::new(readers().join("bin/promtool"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("promtool runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// `text` as a part of a query.
pub(crate) fn encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}
