//! Metrics and profiles, read by those who are to read them: Prometheus and promtool, the pprof of Go's tools, and StatsD.

#![expect(clippy::disallowed_methods, reason = "real processes keep real time")]

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    aviary::Aviary,
    http,
    ports::Port,
    process::{Process, program, readers},
    prometheus::Prometheus,
    wait::{wait_for, wait_until},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Agent, collector and sink in one process, one of whose two series is delivered.
struct Fleet {
    aviary: Aviary,
    agent: SocketAddr,
    debug: SocketAddr,
    _ports: [Port; 3],
    _data: TempDir,
}

impl Fleet {
    fn start(agent_keys: &str, environment: &[(&str, &str)]) -> Self {
        let ports = [Port::claim(), Port::claim(), Port::claim()];
        let [agent, sink, debug] = ports.each_ref().map(Port::address);
        let configuration = format!(
            "[vantage]\nregion = \"eu\"\nnode = \"n\"\n[agent]\nlisten = \"{agent}\"\n{agent_keys}\n[sink]\ntcp = \"{sink}\"\n\
             [[service]]\nname = \"ingest\"\nendpoints = [\"tcp://{sink}\", \"tls://127.0.0.1:1\"]\n"
        );
        let data = tempfile::Builder::new().prefix("aviary-data-").tempdir().unwrap();
        let aviary = Aviary::start_with(&configuration, |command| {
            command
                .env("AVIARY_COLLECTOR_DATA", data.path())
                .env("AVIARY_COLLECTOR_DEBUG_LISTEN", debug.to_string());
            command.env("AVIARY_COLLECTOR_PROFILING", "true").envs(environment.iter().copied());
        });
        // Each listener is there in its own time.
        wait_until(
            PATIENCE,
            || aviary.log(),
            || [agent, debug].iter().all(|listener| TcpStream::connect(listener).is_ok()),
        );
        Self { aviary, agent, debug, _ports: ports, _data: data }
    }
}

fn ask(address: SocketAddr, path: &str, accept: &str) -> (u16, String) {
    http::request(address, "GET", path, &[("Accept", accept)], &[], PATIENCE).unwrap()
}

/// What `command` prints when it is given `input`; it must end well.
#[track_caller]
fn piped(command: &mut Command, input: &[u8]) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

/// The values that `query` has, each with its labels; none where it is refused.
fn queried(prometheus: &Prometheus, query: &str) -> Vec<(Value, f64)> {
    let Ok(data) = prometheus.ask("/api/v1/query", &[("query", query)]) else { return Vec::new() };
    let value = |result: &Value| result["value"][1].as_str().unwrap().parse().unwrap();
    let results = data["result"].as_array().unwrap();
    results.iter().map(|result| (result["metric"].clone(), value(result))).collect()
}

#[test]
fn prometheus_and_promtool_read_agent_and_collector() {
    let fleet = Fleet::start("", &[]);
    let (agent, collector) = (fleet.agent, fleet.aviary.collector);
    let prometheus = Prometheus::start(&[("agent", agent), ("collector", collector)], "groups: []\n");
    let log = || format!("{}\n{}", prometheus.log(), fleet.aviary.log());
    for (query, least) in [
        ("min(up)", 1.0),
        ("count(up == 1)", 2.0),
        ("sum(aviary_agent_slots_total{outcome='delivered',protocol='tcp'})", 3.0),
        ("aviary_agent_ready", 1.0),
        (
            "sum(aviary_service_recent_slots{service='ingest',protocol='tcp',region='eu',outcome='delivered'})",
            3.0,
        ),
        ("aviary_service_delivery_ratio{protocol='tcp'}", 0.9),
        ("sum(aviary_service_state{service='ingest'})", 1.0),
        ("aviary_service_phase_duration_seconds_count{protocol='tcp',phase='connect'}", 1.0),
        ("histogram_quantile(0.9, aviary_collector_store_fsync_duration_seconds_bucket)", 0.000_001),
        ("aviary_collector_journal_frames_total", 3.0),
        ("aviary_collector_journal_batches_total", 3.0),
        ("aviary_collector_journal_disk_bytes", 10.0),
        ("aviary_collector_store_bytes", 4_096.0),
        ("aviary_collector_ready", 1.0),
        ("sum(aviary_collector_series_by_class)", 2.0),
        ("aviary_collector_intake_reports_total{result='taken'}", 3.0),
        ("aviary_collector_agents{state='reporting'}", 1.0),
        ("process_resident_memory_bytes{job='collector'}", 1e6),
        ("process_start_time_seconds{job='collector'}", 1.7e9),
    ] {
        let lacking = || format!("{query}\n{}", log());
        wait_until(PATIENCE, lacking, || {
            queried(&prometheus, query).iter().any(|(_, value)| *value >= least)
        });
    }
    let ratio = wait_for(PATIENCE, log, || {
        Some(queried(&prometheus, "aviary_service_delivery_ratio{protocol='tls'}").first()?.1)
    });
    assert_eq!(ratio, 0.0);
    for address in [agent, collector] {
        let (status, text) = ask(address, "/v1/metrics", "text/plain");
        assert_eq!(status, 200);
        let promtool = readers().join("bin/promtool");
        let said = piped(Command::new(promtool).args(["check", "metrics"]), text.as_bytes());
        assert_eq!(said, "", "promtool has nothing to say");

        // Some come and go, as that of the oldest report in a spool that is empty most of the time.
        let names_and_missing = || {
            let (_, text) = ask(address, "/v1/metrics", "text/plain");
            let (_, json) = ask(address, "/metrics", "application/json");
            let json: Value = serde_json::from_str(&json).unwrap();
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            let names: Vec<&str> = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
            let missing = names.iter().filter(|name| json.get(**name).is_none());
            (names.len(), missing.map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let lacking = || format!("the same series, and not {:?}", names_and_missing());
        wait_until(PATIENCE, lacking, || {
            let (names, missing) = names_and_missing();
            missing.is_empty() && names > 30
        });
    }
}

#[test]
fn debug_has_a_port_of_its_own_and_asks_for_an_admin() {
    let mut fleet = Fleet::start("", &[]);
    let (collector, debug) = (fleet.aviary.collector, fleet.debug);
    for (address, path, status) in [
        (collector, "/debug/vars", 404),
        (collector, "/debug/pprof/heap", 404),
        (debug, "/metrics", 404),
        (debug, "/healthz", 404),
        (debug, "/", 404),
        (debug, "/debug/vars", 200),
        // The agent of this process has no port of its own for it, and nobody wanted profiles of it.
        (fleet.agent, "/debug/vars", 200),
        (fleet.agent, "/debug/pprof/heap", 404),
    ] {
        assert_eq!(ask(address, path, "").0, status, "{path} on {address}");
    }
    let vars = wait_for(
        PATIENCE,
        || fleet.aviary.log(),
        || {
            ask(collector, "/metrics", "");
            let vars: Value = serde_json::from_str(&ask(debug, "/debug/vars", "").1).unwrap();
            let is_counted = vars["requests"]["by_status"]["200"].as_u64() > Some(0);
            (is_counted && vars["aviary_collector_ready"] == 1).then_some(vars)
        },
    );
    assert_eq!(vars["cmdline"][1], "run");
    assert!(vars["requests"]["latency_seconds"]["p99"].as_f64() > Some(0.0), "{}", vars["requests"]);
    assert!(fleet.aviary.stop().success());

    let port = Port::claim();
    let admin = ("Authorization", "Bearer 0123456789abcdef-admin");
    let reader = ("Authorization", "Bearer 0123456789abcdef-read");
    let tokens = "[[collector.token]]\nname = \"a\"\nscope = [\"admin\"]\nsecret = { env = \"ADMIN\" }\n\
                  [[collector.token]]\nname = \"r\"\nscope = [\"read\"]\nsecret = { env = \"READ\" }\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aviary.toml");
    let collector = Port::claim();
    let text = format!(
        "[collector]\nlisten = \"{}\"\ndebug_listen = \"{}\"\n{tokens}",
        collector.address(),
        port.address()
    );
    fs::write(&path, text).unwrap();
    let mut command = program(crate::support::aviary::AVIARY);
    command.arg("run").arg(&path);
    command.env("ADMIN", "0123456789abcdef-admin").env("READ", "0123456789abcdef-read");
    let process = Process::start("aviary", command, dir.path());
    process.wait_until_listening(port.address(), PATIENCE);
    for (headers, status) in [(&[][..], 401), (&[reader][..], 403), (&[admin][..], 200)] {
        let (answered, body) =
            http::request(port.address(), "GET", "/debug/vars", headers, &[], PATIENCE).unwrap();
        assert_eq!(answered, status, "{headers:?}: {body}");
    }
}

/// The bytes at `path`, taken by curl, as people do.
fn fetched(debug: SocketAddr, path: &str, dir: &Path) -> Vec<u8> {
    let file = dir.join("fetched");
    let url = format!("http://{debug}{path}");
    let curl = Command::new("curl").args(["-sSf", "-o"]).arg(&file).arg(url).output().unwrap();
    assert!(curl.status.success(), "{path}: {}", String::from_utf8_lossy(&curl.stderr));
    fs::read(file).unwrap()
}

#[test]
fn pprof_reads_profiles_and_they_are_made_one_at_a_time() {
    let fleet = Fleet::start("", &[]);
    let dir = tempfile::tempdir().unwrap();
    let pprof = |path: &str, arguments: &[&str]| {
        let file = dir.path().join("profile.pb.gz");
        fs::write(&file, fetched(fleet.debug, path, dir.path())).unwrap();
        let mut command = Command::new(readers().join("bin/pprof"));
        command.env("HOME", dir.path()).args(["-top", "-nodecount=500"]).args(arguments).arg(&file);
        piped(&mut command, &[])
    };
    let long = thread::spawn({
        let debug = fleet.debug;
        move || {
            let url = format!("http://{debug}/debug/pprof/profile?seconds=14");
            Command::new("curl").args(["-sSf", "-o", "/dev/null"]).arg(url).status().unwrap()
        }
    });
    let url = format!("http://{}/debug/pprof/heap", fleet.debug);
    let (said, waited) = loop {
        let began = Instant::now();
        let said = Command::new("curl").args(["-s", "-i"]).arg(&url).output().unwrap().stdout;
        // One that came before the other began is served.
        if said.starts_with(b"HTTP/1.1 503") || long.is_finished() {
            break (String::from_utf8_lossy(&said).into_owned(), began.elapsed());
        }
    };
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("retry-after: "), "{said}");
    assert!(waited >= Duration::from_secs(4), "it waited a while: {waited:?}");
    assert!(long.join().unwrap().success());

    // So that there is something to do.
    let busy = thread::spawn({
        let collector = fleet.aviary.collector;
        move || (0..400).for_each(|_| assert_eq!(ask(collector, "/metrics", "").0, 200))
    });
    let cpu = pprof("/debug/pprof/profile?seconds=2", &["-sample_index=samples"]);
    busy.join().unwrap();
    assert!(cpu.contains("Type: samples") && cpu.contains("Duration: 2s"), "{cpu}");
    assert!(cpu.contains("aviary") || cpu.contains("tokio"), "functions have names: {cpu}");
    for (index, kind) in [("inuse_space", "Type: inuse_space"), ("alloc_objects", "Type: alloc_objects")] {
        let heap = pprof("/debug/pprof/heap", &[&format!("-sample_index={index}")]);
        assert!(heap.contains(kind) && heap.contains("aviary"), "{heap}");
    }
    let trace: Value =
        serde_json::from_slice(&fetched(fleet.debug, "/debug/pprof/trace?seconds=1", dir.path())).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    assert!(of("M") >= 3 && of("X") >= 10, "{} threads, {} slices", of("M"), of("X"));
    assert!(events.iter().any(|event| event["args"]["name"] == "control"), "threads have names");
}

/// Etsy's StatsD, which prints what it has each second.
struct Statsd {
    process: Process,
    port: Port,
    _management: Port,
    _dir: TempDir,
}

impl Statsd {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("aviary-statsd-").tempdir().unwrap();
        let (port, management) = (Port::claim(), Port::claim());
        let config = json!({
            "address": "127.0.0.1", "port": port.address().port(), "mgmt_address": "127.0.0.1",
            "mgmt_port": management.address().port(), "backends": ["./backends/console"], "flushInterval": 1_000,
            "deleteIdleStats": true, "console": {"prettyprint": false},
        });
        let path = dir.path().join("config.js");
        fs::write(&path, config.to_string()).unwrap();
        let mut command = program("node");
        command.arg(readers().join("node_modules/statsd/stats.js")).arg(path);
        let process = Process::start("statsd", command, dir.path());
        process.wait_until_listening(management.address(), PATIENCE);
        Self { process, port, _management: management, _dir: dir }
    }

    /// Waits until it has had a value of at least `least` under each of these names.
    #[track_caller]
    fn has(&self, names: &[(&str, f64)], log: impl Fn() -> String) {
        for (name, least) in names {
            // As Node.js shows objects: `'NAME': 3`, and `'NAME': [ 0.5 ]` of timers.
            let is_it = |line: &str| {
                let (_, value) = line.split_once(&format!("'{name}': "))?;
                let value = value.trim_matches(['[', ' ', ',']).split([',', ' ', ']']).next()?;
                value.parse().is_ok_and(|value: f64| value >= *least).then_some(())
            };
            let both = || format!("{name}\n{}\n{}", self.process.log(), log());
            wait_for(PATIENCE, both, || self.process.log().lines().find_map(is_it));
        }
        let log = self.process.log();
        let mut bad = log.lines().filter_map(|line| line.trim().strip_prefix("'statsd.bad_lines_seen': "));
        assert!(bad.all(|count| count.starts_with('0')), "every line is understood: {log}");
    }
}

#[test]
fn statsd_hears_agent_and_collector_plain_and_with_tags() {
    let statsd = Statsd::start();
    let address = statsd.port.address().to_string();
    let plain = Fleet::start(&format!("statsd = \"{address}\""), &[("AVIARY_COLLECTOR_STATSD", &address)]);
    statsd.has(
        &[
            ("aviary.agent.eu.n.ingest.tcp.delivered", 1.0),
            ("aviary.agent.eu.n.ingest.tcp.connect", 0.0),
            ("aviary.agent.eu.n.series", 2.0),
            ("aviary.collector.main.agents.starting", 1.0),
            ("aviary.collector.main.reports.taken", 1.0),
        ],
        || plain.aviary.log(),
    );
    drop(plain);
    let environment = [("AVIARY_COLLECTOR_STATSD", &*address), ("AVIARY_COLLECTOR_STATSD_TAGS", "true")];
    let tagged = Fleet::start(&format!("statsd = \"{address}\"\nstatsd_tags = true"), &environment);
    let ours = "region=eu;node=n";
    statsd.has(
        &[
            (&format!("aviary.agent.slots;{ours};service=ingest;protocol=tcp;outcome=delivered"), 1.0),
            (&format!("aviary.agent.phase;{ours};service=ingest;protocol=tcp;phase=connect"), 0.0),
            (&format!("aviary.agent.series;{ours}"), 2.0),
            ("aviary.collector.agents;collector=main;state=starting", 1.0),
            ("aviary.collector.reports;collector=main;result=taken", 1.0),
        ],
        || tagged.aviary.log(),
    );
}
