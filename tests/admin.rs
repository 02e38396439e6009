//! How a running agent tells how it is: to the service manager, to scrapers, to StatsD.

#![expect(clippy::disallowed_methods, reason = "real processes keep real time")]

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddress, UnixDatagram},
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    aviary::{AVIARY, Aviary},
    http,
    ports::Port,
    process::{Process, program, test_python},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the service manager is told until `last` is among it, each datagram as its lines.
fn told(socket: &UnixDatagram, last: &str) -> Vec<Vec<String>> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut told: Vec<Vec<String>> = Vec::new();
    while told.last().is_none_or(|lines| !lines.iter().any(|line| line == last)) {
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{last}: {error}; {told:?}"));
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        told.push(text.lines().map(str::to_owned).collect());
    }
    told
}

/// A service manager in the file system, and one with an abstract name: `NOTIFY_SOCKET`, and what listens there.
fn managers(dir: &Path) -> [(String, UnixDatagram); 2] {
    let path = dir.join("notify");
    // Names of directories are not given twice, and tests run side by side.
    let name = format!("aviary-it-{}", dir.file_name().unwrap().to_str().unwrap());
    let abstract_address = UnixAddress::from_abstract_name(&name).unwrap();
    [
        (path.to_str().unwrap().to_owned(), UnixDatagram::bind(&path).unwrap()),
        (format!("@{name}"), UnixDatagram::bind_addr(&abstract_address).unwrap()),
    ]
}

#[test]
fn the_service_manager_is_told_of_the_start_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    for (address, socket) in managers(dir.path()) {
        let mut aviary = Aviary::start_with("", |command| _ = command.env("NOTIFY_SOCKET", &address));
        let start = told(&socket, "READY=1");
        assert!(start[0][1].starts_with("STATUS=runs configuration "), "{start:?}");
        assert!(aviary.stop().success());
        let end = told(&socket, "STOPPING=1");
        assert_eq!(end.len(), 1, "{end:?}");
    }
}

#[test]
fn a_service_manager_that_is_not_there_is_no_obstacle() {
    for (address, said) in [("/nonexistent/notify", ""), ("vsock:2:1", "NOTIFY_SOCKET is \"vsock:2:1\"")] {
        let mut aviary = Aviary::start_with("", |command| _ = command.env("NOTIFY_SOCKET", address));
        assert!(aviary.stop().success(), "{}", aviary.log());
        assert!(aviary.log().contains(said), "{}", aviary.log());
    }
}

/// A running agent with an address of its own, in front of a sink.
struct Agent {
    process: Process,
    listen: SocketAddr,
    _ports: [Port; 2],
    _dir: tempfile::TempDir,
}

impl Agent {
    /// An agent of two series: one that is delivered, and one that is refused; reporting to nobody who is there.
    fn start(keys: &str, change: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = [Port::claim(), Port::claim()];
        let (listen, tcp) = (ports[0].address(), ports[1].address());
        let path = dir.path().join("aviary.toml");
        let text = format!(
            "[vantage]\nregion = \"eu\"\nnode = \"n\"\n[agent]\ncollector = [\"http://127.0.0.1:1\"]\n\
             listen = \"{listen}\"\n{keys}\n[sink]\ntcp = \"{tcp}\"\n[[service]]\nname = \"ingest\"\n\
             counts_as_delivered = \"peer_closed\"\nendpoints = [\"tcp://{tcp}\", \"tls://127.0.0.1:1\"]\n"
        );
        fs::write(&path, text).unwrap();
        let mut command = program(AVIARY);
        command.arg("run").arg(&path);
        change(&mut command);
        let process = Process::start("aviary", command, dir.path());
        process.wait_until_listening(listen, PATIENCE);
        Self { process, listen, _ports: ports, _dir: dir }
    }

    fn ask(&self, path: &str) -> (u16, Value) {
        let (status, body) = http::request(self.listen, "GET", path, &[], &[], PATIENCE).unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    #[track_caller]
    fn wait_for(&self, path: &str, seen: impl Fn(u16, &Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.ask(path);
            if seen(status, &body) {
                return body;
            }
            assert!(Instant::now() < deadline, "{path}: {status} {body:#}\n{}", self.process.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What prometheus_client reads at the address: each sample with its labels, by format.
fn scraped(listen: SocketAddr) -> BTreeMap<String, Vec<(String, Value, f64)>> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/openmetrics.py");
    let url = format!("http://{listen}/metrics");
    let output = Command::new(test_python()).arg(script).arg(url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut formats: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (format, name, labels, value) =
            serde_json::from_str::<(String, String, Value, f64)>(line).unwrap();
        formats.entry(format).or_default().push((name, labels, value));
    }
    formats
}

#[test]
fn an_agent_answers_for_its_health_and_in_numbers() {
    let mut agent = Agent::start("", |_| {});
    agent.wait_for("/readyz", |status, body| (status, body["status"].as_str()) == (200, Some("ready")));
    agent.wait_for("/v1/ready", |status, _| status == 200);
    for path in ["/healthz", "/v1/health"] {
        let (status, health) = agent.ask(path);
        assert_eq!(
            (status, &health["status"], &health["version"]),
            (200, &json!("ok"), &json!(env!("CARGO_PKG_VERSION")))
        );
        assert!(health["uptime_ms"].is_u64(), "{health}");
    }
    let checked = agent.wait_for("/healthcheck", |status, _| status == 200);
    assert_eq!(checked["failed"], json!([]));
    assert!(checked["ok"].as_array().unwrap().len() >= 8, "{checked}");

    // It reports to nobody who is there.
    let depends = agent.wait_for("/deepcheck", |status, _| status == 500);
    assert!(
        depends["failed"][0].as_str().unwrap().starts_with("collector: none took a report for"),
        "{depends}"
    );

    let is = |labels: &Value, protocol: &str, outcome: &str| {
        (&labels["service"], &labels["protocol"], &labels["outcome"])
            == (&json!("ingest"), &json!(protocol), &json!(outcome))
    };
    let deadline = Instant::now() + PATIENCE;
    let formats = loop {
        let formats = scraped(agent.listen);
        let total = |protocol, outcome| -> f64 {
            let slots = formats["openmetrics"].iter().filter(|(name, ..)| name == "aviary_agent_slots_total");
            slots.filter(|(_, labels, _)| is(labels, protocol, outcome)).map(|(.., value)| value).sum()
        };
        if total("tcp", "delivered") >= 2.0 && total("tls", "lost") >= 2.0 {
            assert!(
                total("tcp", "lost") <= total("tcp", "delivered") && total("tls", "delivered") == 0.0,
                "{formats:#?}"
            );
            break formats;
        }
        assert!(Instant::now() < deadline, "{formats:#?}\n{}", agent.process.log());
        std::thread::sleep(Duration::from_millis(200));
    };
    for (format, samples) in formats {
        let has = |name: &str| samples.iter().find(|(sample, ..)| sample == name).map(|(.., value)| *value);
        assert_eq!(has("aviary_agent_series"), Some(2.0), "{format}");
        assert!(has("process_open_fds").is_some_and(|files| files > 5.0), "{format}");
        assert!(has("process_cpu_seconds_total").is_some_and(|seconds| seconds > 0.0), "{format}");
        assert!(has("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{format}");
        assert!(has("aviary_agent_phase_duration_seconds_bucket").is_some(), "{format}");
        assert!(
            has("aviary_agent_start_lateness_seconds_count").is_some_and(|count| count >= 4.0),
            "{format}"
        );
        assert_eq!(has("aviary_build_info"), Some(1.0), "{format}");
        let refused = |(name, labels, _): &(String, Value, f64)| {
            name == "aviary_agent_slots_total" && is(labels, "tls", "lost") && labels["fault"] == "refused"
        };
        assert!(samples.iter().any(refused), "{format}: {samples:?}");
    }
    assert!(agent.process.stop().success());
}

#[test]
fn statsd_hears_what_was_delivered_and_lost() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let agent = Agent::start(&format!("statsd = \"localhost:{port}\""), |_| {});
    let mut missing = vec![
        "aviary.agent.eu.n.ingest.tcp.delivered:1|c",
        "aviary.agent.eu.n.ingest.tls.lost.refused:1|c",
        "aviary.agent.eu.n.series:2|g",
    ];
    let deadline = Instant::now() + PATIENCE;
    let mut timed = false;
    while !missing.is_empty() || !timed {
        assert!(Instant::now() < deadline, "{missing:?}\n{}", agent.process.log());
        let mut buffer = [0; 65_536];
        let length = socket.recv(&mut buffer).unwrap();
        for line in std::str::from_utf8(&buffer[..length]).unwrap().lines() {
            missing.retain(|expected| *expected != line);
            timed |= line.starts_with("aviary.agent.eu.n.ingest.tcp.connect:") && line.ends_with("|ms");
        }
    }
}

#[test]
fn the_ticker_feeds_the_watchdog() {
    let dir = tempfile::tempdir().unwrap();
    let [(address, socket), _] = managers(dir.path());
    let _agent = Agent::start("", |command| {
        command.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    });
    told(&socket, "READY=1");
    let took = || {
        let began = Instant::now();
        for _ in 0..10 {
            told(&socket, "WATCHDOG=1");
        }
        began.elapsed()
    };
    let expected = Duration::from_millis(1_500)..Duration::from_millis(4_000);
    let rounds: Vec<_> = (0..5).map(|_| took()).collect();
    // Held up, this test finds some waiting, or the agent is late with one.
    let regular = rounds.iter().filter(|took| expected.contains(*took)).count();
    assert!(regular >= 2, "ten signs of life, each after 200 ms, five times: {rounds:?}");
}
