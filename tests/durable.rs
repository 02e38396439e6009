//! A collector that keeps what it was told: the real program, killed, ended, without room, with a disk that gives up.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aviary_core::{Evidence, Fault, Outcome, Phase, Second, Span};
use aviary_wire::report::{ClosedSlot, Report, Roster};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    aviary::{AVIARY, Ran, aviary, now},
    http,
    ports::Port,
    process::{Process, program},
    report,
    slots::classes,
    small_disk::on_a_small_disk,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// How many series each of the agents here has.
const SERIES: u32 = 5;

/// A collector with a directory of its own, a process of its own.
struct Collector {
    process: Process,
    port: Port,
    dir: TempDir,
}

impl Collector {
    #[track_caller]
    fn start() -> Self {
        Self::start_with(None, |_| {})
    }

    /// The same with its data in another place, and with more in the command.
    #[track_caller]
    fn start_with(data: Option<&Path>, change: impl FnOnce(&mut Command)) -> Self {
        let dir =
            tempfile::Builder::new().prefix("aviary-durable-").tempdir().expect("a temporary directory");
        let port = Port::claim();
        let own = dir.path().join("data");
        let data = data.unwrap_or(&own).display();
        let config = format!("[collector]\nlisten = \"{}\"\ndata = \"{data}\"\n", port.address());
        fs::write(dir.path().join("aviary.toml"), config).expect("the temporary directory can be written");
        let mut command = program(AVIARY);
        command.arg("run").arg(dir.path().join("aviary.toml")).env_remove("AVIARY_LOG");
        change(&mut command);
        let process = Process::start("collector", command, dir.path());
        let collector = Self { process, port, dir };
        collector.wait_until_ready();
        collector
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !matches!(request(self.address(), "GET", "/readyz", &[]), Some((200, _))) {
            assert!(self.process.is_running(), "it ended: {}", self.process.log());
            assert!(Instant::now() < deadline, "not ready: {}", self.process.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let (status, body) = request(self.address(), "GET", path, &[]).expect("the collector answers");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Every slot that was told, by node and place: its second and outcome.
    #[track_caller]
    fn told(&self, span: Span) -> BTreeMap<(String, String), BTreeMap<Second, String>> {
        let answer = self.get(&format!("/api/v1/slots?from={}&until={}", span.from, span.until));
        let mut told = classes(&answer);
        told.values_mut().for_each(|slots| slots.retain(|_, class| class != "unknown"));
        told
    }
}

/// A request, and the JSON that was answered; nothing where nobody answers whole.
fn request(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Option<(u16, Value)> {
    let (status, body) = http::request(address, method, path, &[], body, Duration::from_secs(20)).ok()?;
    Some((status, serde_json::from_str(&body).ok()?))
}

fn endpoint(place: u32) -> String {
    format!("tcp://graphite.example.com:{}", 2_003 + place)
}

/// A small agent, which tells each slot once and notes what was acknowledged.
struct Agent {
    roster: Roster,
    is_introduced: bool,
    sequence: u64,
    acknowledged: BTreeSet<(u32, Second)>,
    /// How many were acknowledged, those that were told again included.
    count: usize,
}

impl Agent {
    fn new(node: &str, since: Second) -> Self {
        let endpoints = (0..SERIES).map(|place| (endpoint(place), format!("canary.{node}.{place}")));
        let roster = report::roster(("eu", node), since, endpoints);
        Self { roster, is_introduced: false, sequence: 0, acknowledged: BTreeSet::new(), count: 0 }
    }

    /// Which slots are lost, so that what is there can be told from what could be anything.
    fn outcome(place: u32, second: Second) -> Outcome {
        if (u64::from(place) + second.0).is_multiple_of(7) {
            Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused }
        } else {
            Outcome::Delivered(Evidence::PeerClosed)
        }
    }

    /// Tells all series' slots of `second`; the status that was answered, if anything was.
    fn tell(&mut self, collector: SocketAddr, second: Second) -> Option<u16> {
        let slots = (0..SERIES).map(|series| ClosedSlot {
            series,
            second,
            outcome: Self::outcome(series, second),
            reached: None,
            address: None,
        });
        self.sequence += 1;
        let report = Report {
            sequence: self.sequence,
            roster: (!self.is_introduced).then(|| self.roster.clone()),
            slots: slots.collect(),
            ..report::telling(&self.roster, now())
        };
        let (status, body) = request(collector, "POST", "/api/v1/reports", &report.encode())?;
        if status == 200 {
            self.is_introduced = true;
            self.count += SERIES as usize;
            self.acknowledged.extend((0..SERIES).map(|place| (place, second)));
        } else if body["error"]["code"] == "unknown_roster" {
            self.is_introduced = false;
        }
        Some(status)
    }

    /// What was acknowledged is there, as it was told.
    #[track_caller]
    fn assert_kept(&self, collector: &Collector, span: Span) -> usize {
        let told = collector.told(span);
        let node = &self.roster.vantage.node;
        for (place, second) in &self.acknowledged {
            let expected = match Self::outcome(*place, *second) {
                Outcome::Lost { .. } => "lost",
                _ => "delivered",
            };
            let found = told.get(&(node.clone(), endpoint(*place))).and_then(|slots| slots.get(second));
            assert_eq!(found.map(String::as_str), Some(expected), "{node} {place} at {second}");
        }
        told.values().map(BTreeMap::len).sum()
    }
}

/// Says that it is done, a panic included: others wait for that.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn sums(collector: &Collector, span: Span) -> Value {
    let path = format!("/api/v1/sums?by=node,endpoint&window={}s&until={}", span.seconds(), span.until);
    collector.get(&path)["groups"].clone()
}

/// Agents tell the seconds of ten minutes, each once, as fast as they can, while the collector is killed or ended again
/// and again.
#[test]
fn what_was_acknowledged_is_there_after_a_hundred_kills_and_nothing_is_twice() {
    const KILLS: u64 = 100;
    let began = now();
    let span = Span::new(began.minus(600), began.minus(10));
    let mut collector = Collector::start();
    let address = collector.address();
    let done = AtomicBool::new(false);
    let agents: Vec<_> = ["one", "two", "three"].map(|node| Mutex::new(Agent::new(node, span.from))).into();
    let next = AtomicU64::new(0);
    let acknowledged = || agents.iter().map(|agent| agent.lock().unwrap().count).sum::<usize>();
    thread::scope(|scope| {
        let _ends = Ends(&done);
        for agent in &agents {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let second = span.from.plus(next.fetch_add(1, Ordering::SeqCst) % span.seconds());
                    let status = agent.lock().unwrap().tell(address, second);
                    assert!(matches!(status, None | Some(200 | 503 | 400)), "{status:?}");
                    if status != Some(200) {
                        thread::sleep(Duration::from_millis(3));
                    }
                }
            });
        }
        for kill in 0..KILLS {
            // From before it is ready to well into its work.
            thread::sleep(Duration::from_millis(20 + kill * 7_919 % 230));
            if kill % 10 == 9 {
                // Before it waits for signals, one ends it as a kill does. However slow a machine is, this life gets to its work.
                collector.wait_until_ready();
                let (before, deadline) = (acknowledged(), Instant::now() + PATIENCE);
                while acknowledged() < before + 60 {
                    assert!(Instant::now() < deadline, "{before} slots acknowledged, and no more");
                    thread::sleep(Duration::from_millis(5));
                }
                let status = collector.process.stop();
                assert!(status.success(), "{status}: {}", collector.process.log());
            } else {
                collector.process.kill();
            }
            collector.process.restart();
        }
        collector.wait_until_ready();
    });
    assert!(acknowledged() > 500, "{} slots were acknowledged: this proves little", acknowledged());
    let before = sums(&collector, span);
    for agent in &agents {
        agent.lock().unwrap().assert_kept(&collector, span);
    }
    // A slot counts once however often it was told.
    let told = collector.told(span);
    for group in before.as_array().unwrap() {
        let text = |tag: &str| group["by"][tag].as_str().unwrap().to_owned();
        let slots = &told[&(text("node"), text("endpoint"))];
        let counted = |outcome: &str| slots.values().filter(|it| *it == outcome).count();
        assert_eq!(group["delivered"], counted("delivered"), "{group}");
        assert_eq!(group["lost"], counted("lost"), "{group}");
        assert_eq!(counted("delivered") + counted("lost"), slots.len(), "{group}");
    }
    // And once more, by the replay and by the checkpoint: the same.
    collector.process.kill();
    collector.process.restart();
    collector.wait_until_ready();
    assert_eq!(sums(&collector, span), before);
    collector.process.stop();
    collector.process.restart();
    collector.wait_until_ready();
    assert_eq!(sums(&collector, span), before);
    let log = collector.process.log();
    assert!(log.contains("is cut off") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_restart_answers_the_same_and_agents_go_on_without_their_rosters() {
    let mut collector = Collector::start();
    let span = Span::new(now().minus(200), now().minus(5));
    let mut agent = Agent::new("one", span.from);
    for second in span.iter().take(150) {
        assert_eq!(agent.tell(collector.address(), second), Some(200));
    }
    let deploy = br#"{"kind":"deploy","text":"release 42"}"#;
    assert_eq!(request(collector.address(), "POST", "/api/v1/events", deploy).unwrap().0, 201);
    let paths = [
        format!("/api/v1/slots?from={}&until={}", span.from, span.until),
        format!("/api/v1/sums?by=node,protocol&window={}s&step=5s&until={}", span.seconds(), span.until),
        "/api/v1/events".to_owned(),
    ];
    let answers = |collector: &Collector| paths.each_ref().map(|path| collector.get(path));
    let before = answers(&collector);
    let agent_before = collector.get("/api/v1/agents");
    // Ended well it begins with a checkpoint; killed after that it replays what came since.
    assert!(collector.process.stop().success());
    collector.process.restart();
    collector.wait_until_ready();
    assert_eq!(answers(&collector), before);
    let agents = collector.get("/api/v1/agents");
    assert_eq!(agents["agents"][0]["last_report"], agent_before["agents"][0]["last_report"]);
    assert_eq!(agents["agents"][0]["series"], SERIES);
    for second in span.iter().skip(150).take(20) {
        assert_eq!(agent.tell(collector.address(), second), Some(200), "it knows the roster");
    }
    let before = answers(&collector);
    collector.process.kill();
    collector.process.restart();
    collector.wait_until_ready();
    assert_eq!(answers(&collector), before);
    // What nobody told, of the time while it was away too, is unknown and not lost.
    let groups = sums(&collector, Span::new(span.until.minus(10), span.until));
    let first = &groups[0];
    assert_eq!((&first["unknown"], &first["lost"]), (&10.into(), &0.into()), "{first}");
}

#[test]
fn what_was_told_an_hour_late_is_there_after_a_kill_and_after_an_end() {
    let mut collector = Collector::start();
    let span = Span::new(now().minus(3_600), now().minus(5));
    let mut agent = Agent::new("one", span.from);
    // Some of it lies beyond the live window, some in it, and some on the seam.
    for second in span.iter().step_by(9) {
        assert_eq!(agent.tell(collector.address(), second), Some(200));
    }
    let until = now();
    for how in ["kill", "kill", "end", "kill"] {
        if how == "kill" {
            collector.process.kill();
        } else {
            assert!(collector.process.stop().success(), "{}", collector.process.log());
        }
        collector.process.restart();
        collector.wait_until_ready();
        // What is late is seen within a second or two.
        let told = |collector: &Collector| {
            let groups = sums(collector, Span::new(span.from, until));
            let all = groups.as_array().into_iter().flatten();
            all.map(|group| group["delivered"].as_u64().unwrap() + group["lost"].as_u64().unwrap())
                .sum::<u64>()
        };
        let deadline = Instant::now() + PATIENCE;
        while told(&collector) != agent.acknowledged.len() as u64 {
            assert!(Instant::now() < deadline, "{} of {}", told(&collector), agent.acknowledged.len());
            thread::sleep(Duration::from_millis(100));
        }
        agent.assert_kept(&collector, Span::new(span.from, until));
    }
    let log = collector.process.log();
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn a_store_is_looked_through_copied_and_restored_while_it_runs_and_while_it_does_not() {
    let mut collector = Collector::start();
    let span = Span::new(now().minus(100), now().minus(5));
    let mut agent = Agent::new("one", span.from);
    for second in span.iter().take(60) {
        assert_eq!(agent.tell(collector.address(), second), Some(200));
    }
    let before = sums(&collector, span);
    let url = format!("http://{}", collector.address());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (data, copy) = (text(&collector.data()), text(&collector.dir.path().join("copy.redb")));
    #[track_caller]
    fn ended(ran: &Ran, status: i32, expected: &str) {
        let said = format!("{}{}", ran.out, ran.err);
        assert!(ran.status == status && said.contains(expected), "{}: {said}", ran.status);
    }
    ended(&aviary(&["store", "verify", &data]), 2, "is in use by process");
    ended(&aviary(&["store", "backup", "--url", &url, "copy.redb"]), 2, "file on the collector's host");
    ended(&aviary(&["store", "backup", "--url", &url, &copy]), 0, "bytes");
    ended(&aviary(&["store", "backup", "--url", &url, &copy]), 2, "is there already");
    ended(&aviary(&["store", "verify", &copy]), 0, "whole");
    let dumped = aviary(&["store", "dump", "--table", "journal", "--format", "json", &copy]);
    let lines: Vec<Value> = dumped.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 60, "{}", dumped.err);
    assert_eq!(
        (&lines[7]["report"]["slots"], &lines[7]["key"]),
        (&SERIES.into(), &"0000000000000007".into())
    );
    assert_eq!(lines[0]["report"]["roster"]["node"], "one");

    // What comes after the copy is not in it; what it has is answered the same by whoever is started on it.
    for second in span.iter().skip(60).take(10) {
        assert_eq!(agent.tell(collector.address(), second), Some(200));
    }
    assert_ne!(sums(&collector, span), before);
    collector.process.stop();
    ended(&aviary(&["store", "verify", "--format", "json", &data]), 0, "\"whole\":true");
    ended(&aviary(&["store", "compact", &data]), 0, "bytes before");
    ended(&aviary(&["store", "restore", &copy, &data]), 2, "--force");
    ended(&aviary(&["store", "restore", "--force", &copy, &data]), 0, "whole");
    collector.process.restart();
    collector.wait_until_ready();
    assert_eq!(sums(&collector, span), before);
    collector.process.stop();

    let path = collector.data().join("collector.redb");
    let mut file = fs::read(&copy).unwrap();
    let at = file.windows(10).position(|window| window == b"canary.one").expect("a name of the roster");
    file[at] ^= 1;
    fs::write(&path, &file).unwrap();
    ended(&aviary(&["store", "verify", &data]), 1, "is damaged at");
    ended(&aviary(&["store", "verify", "/nowhere"]), 2, "it is not there");
    let config = text(&collector.dir.path().join("aviary.toml"));
    ended(&aviary(&["run", &config]), 2, "restore it from a backup");
}

/// The disk confirms nothing any more: the process ends, says why, and writes nothing further.
#[test]
fn a_collector_whose_disk_gives_up_ends_and_says_so() {
    let mut collector = Collector::start();
    // What a start has to keep is kept by then, so that what fails is the next report.
    let mut agent = Agent::new("one", now().minus(60));
    let address = collector.address();
    assert_eq!(agent.tell(address, now().minus(30)), Some(200));
    thread::sleep(Duration::from_secs(2));
    let mut command = program("strace");
    let pid = collector.process.pid().as_raw_nonzero().to_string();
    let inject = "inject=fdatasync:error=EIO";
    command.args(["-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject, "-p", &pid]);
    let disk = Process::start("strace", command, collector.dir.path());
    let deadline = Instant::now() + PATIENCE;
    while !disk.log().contains("attached") {
        assert!(disk.is_running() && Instant::now() < deadline, "{}", disk.log());
        thread::sleep(Duration::from_millis(20));
    }
    let deadline = Instant::now() + PATIENCE;
    let mut answers = BTreeSet::new();
    while collector.process.is_running() && Instant::now() < deadline {
        answers.extend(agent.tell(address, now().minus(20)));
        thread::sleep(Duration::from_millis(50));
    }
    let status = collector.process.stop();
    let log = collector.process.log();
    assert_eq!(status.code(), Some(2), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("aviary: the collector cannot go on: the disk did not confirm"), "{log}");
    assert_eq!(answers, [503].into(), "whoever told it something is not told that it is kept: {log}");
    let kept = agent.acknowledged.len();
    collector.process.restart();
    collector.wait_until_ready();
    agent.assert_kept(&collector, Span::new(now().minus(60), now().minus(5)));
    assert!(kept <= SERIES as usize * 7);
}

/// No room: reports are applied and refused, and it goes on by itself.
#[test]
fn a_collector_without_room_refuses_reports_judges_from_memory_and_recovers_by_itself() {
    let name = "durable::a_collector_without_room_refuses_reports_judges_from_memory_and_recovers_by_itself";
    on_a_small_disk(name, 6, without_room);
}

fn without_room(mounted: &Path) {
    let mut collector = Collector::start_with(Some(&mounted.join("data")), |_| {});
    let mut agent = Agent::new("one", now().minus(300));
    let first = now().minus(290);
    assert_eq!(agent.tell(collector.address(), first), Some(200));
    let ballast = mounted.join("ballast");
    // It ends where the disk does.
    fs::write(&ballast, vec![1; 8 << 20]).unwrap_err();
    let mut second = first;
    let deadline = Instant::now() + PATIENCE;
    while agent.tell(collector.address(), second.plus(1)) != Some(503) {
        second = second.plus(u64::from(second < first.plus(200)));
        assert!(Instant::now() < deadline, "6 MiB are full by now");
    }
    let refused = second.plus(1);
    let slots = collector.told(Span::new(refused, refused.plus(1)));
    assert!(slots.values().all(|slots| slots.len() == 1), "it is applied all the same: {slots:?}");
    let kinds = || {
        let events = collector.get("/api/v1/events");
        let events = events["events"].as_array().unwrap();
        events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let wait_for = |expected: &dyn Fn(&[String]) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !expected(&kinds()) {
            assert!(Instant::now() < deadline, "{:?} {}", kinds(), collector.process.log());
            thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for(&|kinds| kinds.first().is_some_and(|kind| kind == "store_full"));

    fs::remove_file(&ballast).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while agent.tell(collector.address(), refused) != Some(200) {
        assert!(Instant::now() < deadline, "{}", collector.process.log());
        thread::sleep(Duration::from_millis(200));
    }
    // A checkpoint takes less room than what it covers, so that one may have let it go on for a while before there was
    // more.
    wait_for(&|kinds| kinds.last().is_some_and(|kind| kind == "store_recovered"));
    collector.process.kill();
    collector.process.restart();
    collector.wait_until_ready();
    agent.assert_kept(&collector, Span::new(first, now().minus(10)));
    assert!(collector.process.log().contains("no room to write"), "{}", collector.process.log());
}
