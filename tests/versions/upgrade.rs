//! An upgrade in either order, while probes go on. The old side is what version 1 put on the wire and on the disk: its data as
//! they were recorded, its reports as it would encode them, its answers as a collector of few lines gives them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use aviary_core::{Outcome, Second, Span};
use aviary_wire::report::Report;
use prost::Message as _;
use serde_json::Value;
use tempfile::TempDir;

use super::unpack;
use crate::support::{
    aviary::{AVIARY, now},
    http,
    ports::Port,
    process::{Process, program},
    receiver::Receiver,
    recorder::{Recorder, Said},
    report,
    slots::classes,
};

#[path = "../../crates/wire/tests/versions/first.rs"]
mod first;

const PATIENCE: Duration = Duration::from_secs(30);

/// What this version says of itself.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

fn pause(seconds: u64) {
    thread::sleep(Duration::from_secs(seconds));
}

fn start(name: &str, dir: &Path, text: &str) -> Process {
    let config = dir.join(format!("{name}.toml"));
    fs::write(&config, text).expect("the temporary directory can be written");
    let mut command: Command = program(AVIARY);
    command.arg("run").arg(config).env_remove("AVIARY_LOG");
    Process::start(name, command, dir)
}

fn agent_config(collectors: &[String], data: &Path, endpoints: &[String]) -> String {
    format!(
        "[vantage]\nkind = \"external\"\nregion = \"r\"\nnode = \"new\"\n\
         [agent]\ncollector = {collectors:?}\ndata = \"{}\"\n[[service]]\nname = \"s\"\nendpoints = {endpoints:?}\n",
        data.display()
    )
}

struct Collector {
    process: Process,
    port: Port,
}

impl Collector {
    #[track_caller]
    fn start(dir: &Path, data: &Path) -> Self {
        let port = Port::claim();
        let text = format!("[collector]\nlisten = \"{}\"\ndata = \"{}\"\n", port.address(), data.display());
        let collector = Self { process: start("collector", dir, &text), port };
        collector.wait_until_ready();
        collector
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        let ready = || http::request(self.address(), "GET", "/readyz", &[], &[], PATIENCE);
        while !matches!(ready(), Ok((200, _))) {
            assert!(self.process.is_running(), "it ended: {}", self.process.log());
            assert!(Instant::now() < deadline, "not ready: {}", self.process.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let (status, body) =
            http::request(self.address(), "GET", path, &[], &[], PATIENCE).expect("the collector answers");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("it answers JSON")
    }

    /// What is known of each second of `span`, by the node and endpoint.
    #[track_caller]
    fn slots(&self, span: Span) -> BTreeMap<(String, String), BTreeMap<Second, String>> {
        classes(&self.get(&format!("/api/v1/slots?from={}&until={}", span.from, span.until)))
    }
}

/// Tells one slot a second as an agent of version 1 does, until each was taken; ends when `is_over`.
fn tell_as_version_1(collector: SocketAddr, is_over: &AtomicBool) -> Span {
    let since = now();
    let roster = report::roster(("r", "old"), since, [("tcp://h:1".to_owned(), "canary.old".to_owned())]);
    let mut next = since;
    let mut is_introduced = false;
    while !is_over.load(Ordering::SeqCst) || next < now() {
        if next >= now() {
            thread::sleep(Duration::from_millis(50));
            continue;
        }
        let told = Report {
            sequence: next.0 - since.0,
            roster: (!is_introduced).then(|| roster.clone()),
            slots: vec![report::delivered(0, next)],
            ..report::telling(&roster, now())
        };
        // As version 1 has it: without anything that it does not know.
        let body = first::Report::decode(told.encode().as_slice()).unwrap().encode_to_vec();
        assert_eq!(Report::decode(&body).unwrap().version.0, 1);
        match http::request(collector, "POST", "/api/v1/reports", &[], &body, Duration::from_secs(3)) {
            Ok((200, _)) => {
                is_introduced = true;
                next = next.plus(1);
            }
            Ok((400, answer)) if answer.contains("unknown_roster") => is_introduced = false,
            // It is being upgraded.
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
    Span::new(since, next)
}

#[test]
fn the_collector_is_upgraded_first_and_no_slot_of_either_agent_is_lost() {
    let dir: TempDir = tempfile::Builder::new().prefix("aviary-upgrade-").tempdir().unwrap();
    let receiver = Receiver::start();
    // On the data that a collector of version 1 left when it was killed.
    let data = dir.path().join("collector");
    unpack("1/store-killed/collector.redb", &data);
    let mut collector = Collector::start(dir.path(), &data);
    let address = collector.address();
    let endpoints = [receiver.tcp(1), receiver.tcp(2)];
    let url = vec![format!("http://{address}")];
    let mut agent = start("agent", dir.path(), &agent_config(&url, &dir.path().join("spool"), &endpoints));
    let is_over = AtomicBool::new(false);
    let old = thread::scope(|scope| {
        let telling = scope.spawn(|| tell_as_version_1(address, &is_over));
        pause(5);
        // Each restart is an upgrade: once it is ended, once it is killed.
        collector.process.stop();
        pause(2);
        collector.process.restart();
        collector.wait_until_ready();
        pause(3);
        collector.process.kill();
        collector.process.restart();
        collector.wait_until_ready();
        pause(4);
        let agents = collector.get("/api/v1/agents");
        let of = |node: &str| {
            let agents = agents["agents"].as_array().unwrap();
            let agent = agents.iter().find(|agent| agent["node"] == node).unwrap();
            (agent["report_version"].as_u64().unwrap(), agent["program"].as_str().map(str::to_owned))
        };
        assert_eq!((of("old"), of("new")), ((1, None), (2, Some(PROGRAM.to_owned()))));
        assert_eq!(of("n1").0, 1, "and of what version 1 left");
        is_over.store(true, Ordering::SeqCst);
        telling.join().unwrap()
    });
    let ended = now();
    assert!(agent.stop().success(), "{}", agent.log());
    let is_told = |agent: &Process| agent.log().contains("the last report was sent");
    if !is_told(&agent) {
        // An end waits a few seconds for the collector. What a busy machine did not get told by then, the next life tells.
        agent.restart();
        pause(10);
        assert!(agent.stop().success(), "{}", agent.log());
    }
    assert!(is_told(&agent), "{}", agent.log());

    let slots = collector.slots(Span::new(old.from.minus(10), now()));
    let told = &slots[&("old".to_owned(), "tcp://h:1".to_owned())];
    for second in old.iter() {
        assert_eq!(told.get(&second).map(String::as_str), Some("delivered"), "of version 1 at {second}");
    }
    let came = receiver.each_once();
    assert_eq!(came.len(), 2);
    for endpoint in &endpoints {
        let seconds = &slots[&("new".to_owned(), endpoint.clone())];
        let known: BTreeSet<Second> =
            seconds.iter().filter(|(_, outcome)| *outcome != "unknown").map(|(second, _)| *second).collect();
        let (first, last) = (*known.first().unwrap(), *known.last().unwrap());
        assert!(known.len() as u64 == last.0 + 1 - first.0 && known.len() > 10, "{endpoint}: {seconds:?}");
        let others: Vec<_> = seconds
            .iter()
            .filter(|(second, outcome)| {
                **second < ended && !matches!(outcome.as_str(), "delivered" | "unknown" | "local")
            })
            .collect();
        // What a busy machine does not get to is no slot that an upgrade costs.
        let is_missed = |(_, outcome): &(&Second, &String)| *outcome == "missed";
        let are_few = others.len() * 5 <= known.len();
        assert!(are_few && others.iter().all(is_missed), "the agent was not restarted: {others:?}");
    }
}

/// What was said of each series to the collector of before, and is known to the one after: one outcome each.
fn joined(
    said: &Said,
    slots: &BTreeMap<(String, String), BTreeMap<Second, String>>,
    endpoint: &str,
) -> BTreeMap<Second, String> {
    let name = endpoint.trim_start_matches("tcp://").replace(['.', ':'], "_");
    let mut joined: BTreeMap<Second, String> = BTreeMap::new();
    for (_, seconds) in said.iter().filter(|(series, _)| series.ends_with(&name)) {
        for (second, outcomes) in seconds {
            let [outcome] = outcomes.as_slice() else { panic!("{endpoint} at {second}: {outcomes:?}") };
            let word = match outcome {
                Outcome::Delivered(_) => "delivered",
                Outcome::Lost { .. } => "lost",
                Outcome::Local { .. } => "local",
                Outcome::Missed => "missed",
                Outcome::Muted => "muted",
            };
            joined.insert(*second, word.to_owned());
        }
    }
    for (second, outcome) in slots.get(&("new".to_owned(), endpoint.to_owned())).into_iter().flatten() {
        if outcome != "unknown" {
            let was = joined.insert(*second, outcome.clone());
            assert!(
                was.is_none_or(|was| was == *outcome),
                "{endpoint} at {second} is told twice, and otherwise"
            );
        }
    }
    joined
}

#[test]
fn the_agents_are_upgraded_first_and_no_slot_is_lost() {
    let dir: TempDir = tempfile::Builder::new().prefix("aviary-upgrade-").tempdir().unwrap();
    let (mut before, receiver) = (Recorder::start(), Receiver::start());
    let endpoints = [receiver.tcp(1), receiver.tcp(2)];
    let data = dir.path().join("collector");
    unpack("1/store-ended/collector.redb", &data);
    let mut after = Collector::start(dir.path(), &data);
    after.process.stop();
    // The agent knows both addresses: the second is the same collector, once it was upgraded.
    let urls = vec![before.url(), format!("http://{}", after.address())];
    let mut agent = start("agent", dir.path(), &agent_config(&urls, &dir.path().join("spool"), &endpoints));
    before.until(PATIENCE, |said| said.len() == 2 && said.values().all(|seconds| seconds.len() >= 3));
    // The upgrade of the agent: its spool stays.
    let ended = now();
    assert!(agent.stop().success(), "{}", agent.log());
    let restarting = now();
    agent.restart();
    let again = receiver.runs_from(restarting);
    before.until(PATIENCE, |said| said.values().all(|seconds| seconds.contains_key(&again)));
    // That of the collector: for a while nobody is there.
    before.close();
    pause(3);
    after.process.restart();
    after.wait_until_ready();
    pause(5);
    assert!(agent.stop().success(), "{}", agent.log());

    let said = before.said();
    let from = said.values().filter_map(|seconds| seconds.keys().next()).min().unwrap();
    let slots = after.slots(Span::new(*from, now()));
    receiver.each_once();
    for endpoint in &endpoints {
        let seconds = joined(&said, &slots, endpoint);
        let (first, last) = (*seconds.keys().next().unwrap(), *seconds.keys().next_back().unwrap());
        assert_eq!(
            seconds.len() as u64,
            last.0 + 1 - first.0,
            "{endpoint}: none is without an outcome: {seconds:?}"
        );
        assert!(last >= again.plus(4), "{endpoint}: it went on to {last}");
        let mut missed = 0;
        for (second, outcome) in &seconds {
            // The restart's own seconds, and the one in which it ends; and the few that a busy machine does not get to.
            let is_restart = (ended.minus(1)..again).contains(second) || *second == last;
            missed += usize::from(!is_restart && outcome == "missed");
            let is_expected = ["delivered", "local", "missed"].contains(&outcome.as_str());
            assert!(is_expected, "{endpoint} at {second}: {outcome}");
        }
        assert!(missed * 5 <= seconds.len(), "{endpoint}: {seconds:?}");
    }
    let agents = after.get("/api/v1/agents");
    let agents = agents["agents"].as_array().unwrap();
    let new = agents.iter().find(|agent| agent["node"] == "new").unwrap();
    assert_eq!((new["report_version"].as_u64(), new["program"].as_str()), (Some(2), Some(PROGRAM)));
}
