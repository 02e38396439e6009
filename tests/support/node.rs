//! `aviary run` as one node of a fleet: an agent or a collector, with a directory of its own whose files a test changes.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aviary_core::Span;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    aviary::AVIARY,
    http,
    ports::Port,
    process::{Process, program},
    slots::{Slots, by_tag, closed},
    wait::wait_until,
};

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One node. `@listen@` in its configuration is its address.
pub(crate) struct Node {
    process: Option<Process>,
    port: Port,
    dir: TempDir,
}

impl Node {
    /// A node that does not run yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("aviary-node-").tempdir().expect("a temporary directory");
        Self { process: None, port: Port::claim(), dir }
    }

    /// A node with this configuration that runs, and answers at its address.
    #[track_caller]
    pub(crate) fn start(configuration: &str) -> Self {
        let mut node = Self::new();
        node.configure(configuration);
        node.run(|_| {});
        node
    }

    /// Starts it, with more in the command's environment, and waits until it answers.
    #[track_caller]
    pub(crate) fn run(&mut self, change: impl FnOnce(&mut Command)) {
        let mut command = program(AVIARY);
        command.arg("run").arg(self.file("aviary.toml")).env_remove("AVIARY_LOG");
        change(&mut command);
        let process = Process::start("aviary", command, self.dir.path());
        process.wait_until_listening(self.address(), PATIENCE);
        self.process = Some(process);
    }

    /// Replaces its configuration, as editors do it.
    pub(crate) fn configure(&self, configuration: &str) {
        let text = configuration.replace("@listen@", &self.address().to_string());
        self.place("aviary.toml", &text);
    }

    /// Replaces a file beside its configuration.
    pub(crate) fn place(&self, name: &str, text: &str) {
        let mut file = tempfile::NamedTempFile::new_in(self.dir.path()).expect("a temporary file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("the temporary file can be written");
        fs::set_permissions(file.path(), Permissions::from_mode(0o600)).expect("it is our file");
        file.persist(self.file(name)).expect("the file can be replaced");
    }

    /// A file beside its configuration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its process.
    #[track_caller]
    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// Everything that it printed, in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("aviary.log")).unwrap_or_default()
    }

    /// How many lines of its log have `part` in them.
    pub(crate) fn said(&self, part: &str) -> usize {
        self.log().lines().filter(|line| line.contains(part)).count()
    }

    /// Waits until `seen` holds.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, seen: impl FnMut() -> bool) {
        wait_until(PATIENCE, || format!("{what}\n{}", self.log()), seen);
    }

    /// Waits until its log has `count` lines with `part` in them.
    #[track_caller]
    pub(crate) fn wait_until_said(&self, part: &str, count: usize) {
        self.wait(&format!("`{part}` is said {count} times"), || self.said(part) >= count);
    }

    /// What it answers at `path`: status and JSON.
    #[track_caller]
    pub(crate) fn ask(&self, path: &str) -> (u16, Value) {
        self.ask_with(path, &[])
    }

    /// The same with headers, such as that which shows a token.
    #[track_caller]
    pub(crate) fn ask_with(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let answer = http::request(self.address(), "GET", path, headers, &[], PATIENCE);
        let (status, body) = answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()));
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Waits until `seen` holds of what it answers at `path`.
    #[track_caller]
    pub(crate) fn wait_for(&self, path: &str, seen: impl Fn(u16, &Value) -> bool) -> Value {
        self.wait_for_within(PATIENCE, path, seen)
    }

    /// The same for what may take another time.
    #[track_caller]
    pub(crate) fn wait_for_within(
        &self,
        patience: Duration,
        path: &str,
        seen: impl Fn(u16, &Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + patience;
        loop {
            let (status, body) = self.ask(path);
            if seen(status, &body) {
                return body;
            }
            assert!(Instant::now() < deadline, "{path}: {status} {body:#}\n{}", self.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Of a collector: the slots of `span` by the value of `tag`.
    #[track_caller]
    pub(crate) fn slots(&self, tag: &str, span: Span) -> BTreeMap<String, Slots> {
        let (status, answer) = self.ask(&format!("/api/v1/slots?from={}&until={}", span.from, span.until));
        assert_eq!(status, 200, "{answer:#}");
        by_tag(&answer, tag)
    }

    /// The same, once `span` is closed.
    #[track_caller]
    pub(crate) fn closed_slots(&self, tag: &str, span: Span) -> BTreeMap<String, Slots> {
        closed(span, || self.slots(tag, span))
    }

    /// Of a collector: waits until somebody delivered to `endpoint` in `count` seconds.
    #[track_caller]
    pub(crate) fn wait_until_delivered(&self, endpoint: &str, count: u64) {
        self.wait_for("/api/v1/sums?by=endpoint&window=60s", |_, sums| {
            let groups = sums["groups"].as_array().expect("a list of groups");
            let mut groups = groups.iter().filter(|group| group["by"]["endpoint"] == endpoint);
            groups.any(|group| group["delivered"].as_u64() >= Some(count))
        });
    }
}
