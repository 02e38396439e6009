//! What is rare and must not matter: questions at the ends of the numbers, a reader that stopped reading, a host without
//! certificates, a collector that was started again, an endpoint that nobody reports, strangers that connect and say nothing.

#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use aviary_core::{Outcome, Span};
use aviary_wire::report::{GAPS_MAX, Gap, Report};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::support::{
    aviary::{AVIARY, Aviary, command, now, run},
    http,
    ports::Port,
    process::program,
    report,
};

/// No question may take more of a processor, whatever else goes on beside it.
const QUICKLY: Duration = Duration::from_secs(2);

const PATIENCE: Duration = Duration::from_secs(60);

/// A sink and a service of one TCP endpoint, with an agent that probes it.
fn probing(port: &Port) -> String {
    format!(
        "[vantage]\nregion = \"eu\"\nnode = \"canary-7\"\n[agent]\n[sink]\ntcp = \"{port}\"\n[[service]]\n\
         name = \"ingest\"\nendpoints = [\"tcp://{port}\"]\n",
        port = port.address()
    )
}

#[track_caller]
fn ask(running: &Aviary, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    let before = running.processor_time();
    let short: String = path.chars().take(100).collect();
    let (status, body) = http::request(running.collector, method, path, &[], body, PATIENCE)
        .unwrap_or_else(|error| panic!("{method} {short}: {error}"));
    let took = running.processor_time() - before;
    assert!(took < QUICKLY, "{method} {short}: answered with {took:?} of a processor");
    (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{method} {short}: no JSON: {body}")))
}

#[test]
fn questions_at_the_ends_of_the_numbers_are_answered_at_once() {
    let port = Port::claim();
    let mut running = Aviary::start(&probing(&port));
    running.wait_for("/api/v1/sums?window=10s", PATIENCE, |sums| {
        sums["groups"][0]["delivered"].as_u64().is_some_and(|delivered| delivered >= 2)
    });
    let endless = format!("/api/v1/sums?by={}protocol", "protocol,".repeat(5_000));
    let last = u64::MAX;
    let table = [
        ("GET", "/api/v1/slots?from=0&until=9223372036854775808", 200, ""),
        ("GET", &format!("/api/v1/slots?from=0&until={last}"), 200, ""),
        ("GET", &format!("/api/v1/slots?from={last}&until=0"), 200, ""),
        ("GET", &format!("/api/v1/slots?until={last}"), 200, ""),
        ("GET", "/api/v1/slots?from=18446744073709551616", 400, "bad_parameter"),
        ("GET", "/api/v1/slots?from=-1", 400, "bad_parameter"),
        ("GET", "/api/v1/slots?series=:", 400, "bad_parameter"),
        ("GET", "/api/v1/slots?series=protocol", 400, "bad_parameter"),
        ("GET", "/api/v1/slots?series=protocol:nothing", 200, ""),
        (
            "GET",
            &format!("/api/v1/sums?until={last}&window=9000000000s&step=1s&service=nobody"),
            400,
            "beyond_history",
        ),
        ("GET", &format!("/api/v1/sums?until={last}&window=1s"), 400, "beyond_history"),
        ("GET", "/api/v1/sums?until=0", 400, "beyond_history"),
        ("GET", &format!("/api/v1/sums?window={last}s"), 400, "bad_parameter"),
        ("GET", &format!("/api/v1/sums?window={}s&step=1s", i64::MAX), 400, "beyond_history"),
        ("GET", "/api/v1/sums?window=-60s", 400, "bad_parameter"),
        ("GET", "/api/v1/sums?window=0s", 400, "bad_parameter"),
        ("GET", "/api/v1/sums?window=60s&step=0s", 400, "bad_parameter"),
        ("GET", "/api/v1/sums?window=1s&step=2s", 400, "bad_parameter"),
        ("GET", "/api/v1/sums?window=1500ms", 400, "bad_parameter"),
        ("GET", "/api/v1/sums?by=", 200, ""),
        ("GET", "/api/v1/sums?by=,,,", 200, ""),
        ("GET", "/api/v1/sums?by=protocol,protocol", 200, ""),
        ("GET", &endless, 200, ""),
        ("GET", "/api/v1/sums?by=%ff", 400, "bad_parameter"),
        ("GET", "/api/v1/sums?colour=red", 400, "bad_parameter"),
        ("GET", "/api/v1/sums?service=nobody", 200, ""),
        ("GET", "/api/v1/services/%ff", 400, "bad_parameter"),
        ("GET", "/api/v1/services/nobody", 404, "unknown_service"),
        ("GET", "/api/v1/services/", 404, "not_found"),
        ("GET", "/nothing/here", 404, "not_found"),
        ("POST", "/api/v1/sums", 405, "method_not_allowed"),
        ("GET", "/v1/health", 200, ""),
        ("GET", "/v1/ready", 200, ""),
        ("GET", "/healthcheck", 200, ""),
        ("GET", "/ingest/health", 200, ""),
        ("GET", "/nobody/health", 404, "unknown_service"),
        ("GET", "/%ff/health", 400, "bad_parameter"),
        ("POST", "/services/health", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
        ("GET", "/api/v1/reports", 405, "method_not_allowed"),
        ("POST", "/api/v1/reports", 400, "bad_report"),
    ];
    for (method, path, status, code) in table {
        let (answered, answer) = ask(&running, method, path, b"");
        let short: String = path.chars().take(100).collect();
        assert_eq!(answered, status, "{method} {short}: {answer}");
        let error = &answer["error"];
        assert_eq!(error["code"].as_str().unwrap_or_default(), code, "{method} {short}: {answer}");
        assert_eq!(error["message"].is_string(), status != 200, "{method} {short}: {answer}");
    }
    let (_, twice) = ask(&running, "GET", "/api/v1/sums?by=protocol,protocol&window=2s", b"");
    assert_eq!(twice["groups"].as_array().unwrap().len(), 1, "{twice}");
    assert_eq!(twice["groups"][0]["by"], serde_json::json!({"protocol": "tcp"}));
    let (_, nobody) = ask(&running, "GET", "/api/v1/sums?service=nobody", b"");
    assert_eq!(nobody["groups"], serde_json::json!([]));

    assert_eq!(ask(&running, "GET", "/healthz", b"").1["status"], "ok");
    let asked = Instant::now();
    assert!(running.stop().success(), "{}", running.log());
    assert!(asked.elapsed() < Duration::from_secs(9), "ended after {:?}", asked.elapsed());
    assert!(!running.log().contains("panicked"), "{}", running.log());
}

/// A report of a few kilobytes whose gaps, each by itself allowed, tell the same slots again and again.
fn gap_upon_gap() -> Report {
    let endpoint =
        |place: u16| (format!("tcp://10.0.0.1:{}", 1_000 + place), format!("canary.ingest.{place}"));
    let roster = report::roster(("eu", "canary-8"), now().minus(800), (0..2_000).map(endpoint));
    let span = Span::before(now().minus(5), 800);
    let gap = Gap { first: 0, count: 2_000, span, outcome: Outcome::Missed };
    Report { gaps: vec![gap; GAPS_MAX], ..report::telling(&roster, now()) }
}

#[test]
fn a_report_that_tells_the_same_gaps_again_and_again_holds_up_nobody() {
    let running = Aviary::start("");
    let bytes = gap_upon_gap().encode();
    let (status, answer) = ask(&running, "POST", "/api/v1/reports", &bytes);
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("bad_report")), "{answer}");
    let mut once = gap_upon_gap();
    once.gaps.truncate(1);
    let (status, answer) = ask(&running, "POST", "/api/v1/reports", &once.encode());
    assert_eq!((status, answer["slots"].as_u64()), (200, Some(2_000 * 800)), "{answer}");
    assert_eq!(ask(&running, "GET", "/healthz", b"").1["status"], "ok");
}

/// A child that does not outlive its test.
struct Guarded(Child);

impl Guarded {
    /// Asks it to end, and waits until it has.
    #[track_caller]
    fn terminate(&mut self, patience: Duration) -> ExitStatus {
        kill_process_group(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it runs {patience:?} after SIGTERM");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Gone already where the test went well.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn a_reader_that_stopped_reading_does_not_hold_up_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (port, collector) = (Port::claim(), Port::claim());
    let path = dir.path().join("aviary.toml");
    let listen = collector.address();
    std::fs::write(&path, format!("{}[collector]\nlisten = \"{listen}\"\n", probing(&port))).unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    // Blocks when the pipe is full, and fails when the reader is gone.
    let filling = thread::spawn(move || filler.write_all(&[b'.'; 4 << 20]).is_err());
    thread::sleep(Duration::from_millis(300));
    assert!(!filling.is_finished(), "the pipe is full");
    let mut command = program(AVIARY);
    let log = writer.try_clone().unwrap();
    command.arg("run").arg(&path).stdin(Stdio::null()).stdout(writer).stderr(log);
    let mut child = Guarded(command.spawn().unwrap());
    drop(command);
    let deadline = Instant::now() + PATIENCE;
    let answers =
        || http::request(listen, "GET", "/api/v1/sums?window=10s", &[], &[], Duration::from_secs(2));
    // It works while nobody reads what it says.
    while !answers().is_ok_and(|(_, body)| {
        let sums: Value = serde_json::from_str(&body).unwrap();
        sums["groups"][0]["delivered"].as_u64().is_some_and(|delivered| delivered >= 2)
    }) {
        assert!(Instant::now() < deadline, "it does not probe");
        thread::sleep(Duration::from_millis(100));
    }
    let status = child.terminate(Duration::from_secs(9));
    assert_eq!(status.code(), Some(0));
    drop(reader);
    assert!(filling.join().unwrap(), "the pipe was full all the time");
}

#[test]
fn a_host_without_certificates_probes_and_reports_in_the_clear_on_loopback() {
    let none = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    let port = Port::claim();
    let mut running = Aviary::start_with(&probing(&port), |command| _ = command.envs(none));
    running.wait_for("/api/v1/sums?window=10s", PATIENCE, |sums| {
        sums["groups"][0]["delivered"].as_u64().is_some_and(|delivered| delivered >= 2)
    });
    let url = format!("http://{}", running.collector);
    let ran = run(command().args(["status", &url]).envs(none));
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("ingest") && ran.out.contains("1 place"), "{}", ran.out);
    assert!(running.stop().success());
    assert!(!running.log().contains("ERROR"), "{}", running.log());
}

/// An agent in a process of its own, which reports on `endpoints` to `collector`.
fn agent(collector: &Aviary, sinks: &str, endpoints: &str) -> Aviary {
    Aviary::start(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\ncollector = [\"http://{}\"]\n[sink]\n{sinks}[[service]]\n\
         name = \"ingest\"\ncounts_as_delivered = \"peer_closed\"\nendpoints = [{endpoints}]\n",
        collector.collector,
    ))
}

#[test]
fn a_collector_that_was_started_again_begins_anew_and_is_not_blind() {
    let (tcp, pickle) = (Port::claim(), Port::claim());
    let (tcp, pickle) = (tcp.address(), pickle.address());
    let endpoints = format!("\"tcp://{tcp}\", \"pickle://{pickle}\"");
    let mut collector =
        Aviary::start(&format!("[[service]]\nname = \"ingest\"\nendpoints = [{endpoints}]\n"));
    let agent = agent(&collector, &format!("tcp = \"{tcp}\"\npickle = \"{pickle}\"\n"), &endpoints);
    let is_healthy = |ingest: &Value| ingest["state"] == "healthy";
    collector.wait_for("/api/v1/services/ingest", PATIENCE, is_healthy);

    collector.process().kill();
    thread::sleep(Duration::from_secs(3));
    collector.process().restart();
    let address = collector.collector;
    collector.process().wait_until_listening(address, PATIENCE);
    let mut states: Vec<String> = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while states.last().is_none_or(|state| state != "healthy") && Instant::now() < deadline {
        let state = collector.get("/api/v1/services/ingest")["state"].as_str().unwrap().to_owned();
        if states.last() != Some(&state) {
            states.push(state);
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(states, ["starting", "healthy"], "{}\n{}", collector.log(), agent.log());
    assert!(!agent.log().contains("does not accept our roster"), "{}", agent.log());
    let ingest = collector.wait_for("/api/v1/services/ingest", PATIENCE, |ingest| {
        is_healthy(ingest) && ingest["window"]["unknown"] == 0
    });
    let lost = ingest["window"]["lost"].as_u64();
    assert!(lost.is_some_and(|lost| lost <= 1), "what waited meanwhile has arrived: {ingest}");
}

#[test]
fn an_endpoint_that_nobody_reports_is_shown_and_blinds_nobody() {
    let (alive, dead, nobodys) = (Port::claim(), Port::claim(), Port::claim());
    let (alive, dead, nobodys) = (alive.address(), dead.address(), nobodys.address());
    let optional = format!("{{ url = \"pickle://{dead}\", required = false }}");
    let collector = Aviary::start(&format!(
        "[[service]]\nname = \"ingest\"\nendpoints = [\"tcp://{alive}\", \"tcp://{nobodys}\", {optional}]\n"
    ));
    let _agent =
        agent(&collector, &format!("tcp = \"{alive}\"\n"), &format!("\"tcp://{alive}\", {optional}"));
    let state = |ingest: &Value, url: &str| -> String {
        let endpoints = ingest["endpoints"].as_array().unwrap();
        let found = endpoints.iter().find(|part| part["endpoint"] == url);
        found.map(|part| part["state"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    let (alive, dead, nobodys) =
        (format!("tcp://{alive}"), format!("pickle://{dead}"), format!("tcp://{nobodys}"));
    let ingest = collector.wait_for("/api/v1/services/ingest", PATIENCE, |ingest| {
        let parts = [&alive, &nobodys, &dead].map(|url| state(ingest, url));
        ingest["state"] == "healthy" && parts == ["healthy", "blind", "down"]
    });
    assert_eq!(ingest["window"]["lost"], 0, "{ingest:#}");
    let ran = run(command().args(["status", &format!("http://{}", collector.collector)]));
    assert_eq!(ran.status, 0, "nothing that is required and probed is unwell: {}{}", ran.out, ran.err);
    let row = |url: &str| ran.out.lines().find(|line| line.contains(url)).unwrap_or_default();
    assert!(row(&nobodys).contains("cannot tell") && !row(&nobodys).contains("not required"), "{}", ran.out);
    assert!(row(&dead).contains("down") && row(&dead).contains("(not required)"), "{}", ran.out);
    assert_eq!(row(&alive), "", "what is well is not listed: {}", ran.out);
}

#[test]
fn strangers_that_connect_and_say_nothing_are_shown_out() {
    let port = Port::claim();
    let running = Aviary::start(&probing(&port));
    let mut silent: Vec<_> = (0..100).map(|_| TcpStream::connect(running.collector).unwrap()).collect();
    assert_eq!(ask(&running, "GET", "/healthz", b"").0, 200, "nobody waits for them");
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed without a word");
    }
}
