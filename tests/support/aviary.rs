//! aviary itself: its commands, and its running process with the API that it serves.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus, Output},
    thread,
    time::{Duration, Instant, SystemTime},
};

use aviary_core::{Second, Span};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    http,
    ports::Port,
    process::{Process, program},
    slots::{Slots, by_tag, closed},
};

/// The program that was built for this test.
pub(crate) const AVIARY: &str = env!("CARGO_BIN_EXE_aviary");

/// How long starting, ending and answering may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command of aviary printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) status: i32,
}

/// Runs a command of aviary, in an environment without anything of aviary's.
#[track_caller]
pub(crate) fn aviary(arguments: &[&str]) -> Ran {
    run(command().args(arguments))
}

/// A command of aviary to be changed further.
pub(crate) fn command() -> Command {
    let mut command = Command::new(AVIARY);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AVIARY_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `command` to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().expect("aviary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("aviary prints UTF-8");
    Ran { out: text(stdout), err: text(stderr), status: status.code().expect("aviary ends by itself") }
}

/// How long agent and collector may take to begin.
const BEGUN_WITHIN: Duration = Duration::from_secs(60);

/// A running `aviary run`.
pub(crate) struct Aviary {
    process: Process,
    /// The collector's address.
    pub(crate) collector: SocketAddr,
    dir: TempDir,
}

impl Aviary {
    /// Starts `aviary run` with this configuration and a `[collector]` on a free port, and waits until that answers.
    #[track_caller]
    pub(crate) fn start(configuration: &str) -> Self {
        Self::start_with(configuration, |_| {})
    }

    /// The same, with more in the command's environment or arguments.
    #[track_caller]
    pub(crate) fn start_with(configuration: &str, change: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::Builder::new().prefix("aviary-").tempdir().expect("a temporary directory");
        let port = Port::claim();
        let collector = port.address();
        let whole = format!("{configuration}\n[collector]\nlisten = \"{collector}\"\n");
        fs::write(dir.path().join("aviary.toml"), whole).expect("the temporary directory can be written");
        let mut command = program(AVIARY);
        command.arg("run").arg(dir.path().join("aviary.toml"));
        change(&mut command);
        let process = Process::start("aviary", command, dir.path());
        process.wait_until_listening(collector, PATIENCE);
        Self { process, collector, dir }
    }

    /// Waits until the series of so many protocols have begun: an agent listens before it probes.
    #[track_caller]
    pub(crate) fn wait_until_begun(&self, protocols: usize) {
        self.wait_for("/api/v1/sums?by=protocol&window=60s", BEGUN_WITHIN, |sums| {
            let groups = sums["groups"].as_array().expect("a list of groups").iter();
            groups.filter(|group| group["scheduled"].as_u64() >= Some(1)).count() == protocols
        });
    }

    /// The answer of the API at `path`, which must be 200.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) =
            http::request(self.collector, "GET", path, &[], &[], PATIENCE).expect("the collector answers");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("the collector answers JSON")
    }

    /// What the collector holds of each second of `span`, by protocol.
    #[track_caller]
    pub(crate) fn slots(&self, span: Span) -> BTreeMap<String, Slots> {
        let answer = self.get(&format!("/api/v1/slots?from={}&until={}", span.from, span.until));
        by_tag(&answer, "protocol")
    }

    /// The same, once `span` is closed.
    #[track_caller]
    pub(crate) fn closed_slots(&self, span: Span) -> BTreeMap<String, Slots> {
        closed(span, || self.slots(span))
    }

    /// Waits until `seen` holds of what the API answers at `path`.
    #[track_caller]
    pub(crate) fn wait_for(&self, path: &str, patience: Duration, seen: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.get(path);
            if seen(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "not within {patience:?}: {answer:#}\n{}", self.log());
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Everything that the process printed.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// What it has had of a processor.
    #[track_caller]
    pub(crate) fn processor_time(&self) -> Duration {
        self.process.processor_time()
    }

    /// The process.
    pub(crate) const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it with SIGTERM.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.process.stop()
    }

    /// A file beside its configuration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The second that it is.
pub(crate) fn now() -> Second {
    Second(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs())
}
