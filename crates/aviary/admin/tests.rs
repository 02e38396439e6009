//! The address as load balancers and Prometheus meet it: over a real socket.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Mutex,
};

use aviary_core::{Micros, Timestamp};

use super::*;
use crate::{
    admin::standing::{Reload, Shipping},
    steer::Answer,
};

#[derive(Clone, Default)]
struct Paused(Arc<std::sync::atomic::AtomicU64>);

impl Clock for Paused {
    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Micros {
        Micros(self.0.load(Ordering::Relaxed))
    }
}

/// An agent of six series that all tick, in a state that the test may change.
struct Rig {
    runtime: tokio::runtime::Runtime,
    admin: Admin,
    standing: Arc<Mutex<Standing>>,
    clock: Paused,
}

impl Rig {
    fn start() -> Self {
        Self::guarded(Guard::default())
    }

    fn guarded(guard: Guard) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shipping = Shipping { last_taken: Some(Timestamp(100_000_000)), ..Shipping::default() };
        let standing = Standing {
            started: Timestamp(90_000_000),
            now: Timestamp(100_000_000),
            series: 6,
            ticking: 6,
            shipping,
            ..Standing::default()
        };
        let standing = Arc::new(Mutex::new(standing));
        let clock = Paused::default();
        let source = Arc::clone(&standing);
        let admin = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let standing = Arc::new(move || source.lock().unwrap().clone());
            Admin::start(Some(listener), None, None, clock.clone(), standing, guard).unwrap()
        });
        clock.0.store(10_000_000, Ordering::Relaxed);
        Self { runtime, admin, standing, clock }
    }

    fn change(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing.lock().unwrap());
    }

    /// Status, head and body of one answer.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.admin.address().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    fn json(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.ask("GET", path, "");
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[test]
fn each_address_answers_as_the_table_says() {
    let rig = Rig::start();
    let ready = |rig: &Rig| (rig.json("/readyz"), rig.json("/v1/ready"));

    let alive = (200, json!({"status": "ok", "version": env!("CARGO_PKG_VERSION"), "uptime_ms": 10_000}));
    assert_eq!((rig.json("/healthz"), rig.json("/v1/health")), (alive.clone(), alive));
    let well = (200, json!({"status": "ready"}));
    assert_eq!(ready(&rig), (well.clone(), well));
    let (status, checked) = rig.json("/healthcheck");
    assert_eq!((status, checked["failed"].as_array().unwrap().len()), (200, 0), "{checked}");
    assert!(
        checked["ok"]
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it == "lanes: 6 of 6 series opened a slot within the last 3 s")
    );

    let (status, depends) = rig.json("/deepcheck");
    assert_eq!((status, depends["ok"].as_array().unwrap().len()), (200, 2), "{depends}");
    rig.change(|standing| {
        standing.now = Timestamp(142_000_000);
        standing.shipping.collector = "https://c:8610".to_owned();
        standing.shipping.last_error = Some("refused".to_owned());
        standing.controls = vec![("tcp://control:1".parse().unwrap(), false)];
    });
    let failed = json!([
        "collector: none took a report for 42 s (https://c:8610: refused); 0 slots wait",
        "controls: 0 of 1 were reached; look at this host and its network first",
    ]);
    assert_eq!(rig.json("/deepcheck"), (500, json!({"ok": [], "failed": failed})));
    rig.change(|standing| (standing.now, standing.controls) = (Timestamp(100_000_000), Vec::new()));

    rig.change(|standing| standing.reload = Reload { at: None, error: Some("aviary.toml:3: no".to_owned()) });
    let said = "configuration: not loaded, the one before stands: aviary.toml:3: no";
    let warned = (200, json!({"status": "ready", "warnings": [said]}));
    assert_eq!(ready(&rig), (warned.clone(), warned));
    let (status, checked) = rig.json("/healthcheck");
    assert_eq!((status, &checked["failed"]), (500, &json!([said])));

    rig.change(|standing| (standing.ticking, standing.reload) = (2, Reload::default()));
    let reasons = ["series: 2 of 6 opened a slot within the last 3 s"];
    let stalled = (503, json!({"status": "not_ready", "reasons": reasons}));
    assert_eq!(ready(&rig), (stalled.clone(), stalled));
    assert!(rig.ask("GET", "/readyz", "").1.contains("retry-after: 1"));
    assert_eq!(rig.json("/healthz").0, 200, "it lives");
    assert_eq!(rig.ask("GET", "/metrics", "").0, 200, "and says how it is");

    rig.admin.shutting_down();
    let ending = (503, json!({"status": "shutting_down"}));
    assert_eq!(ready(&rig), (ending.clone(), ending));
    rig.clock.0.store(11_000_000, Ordering::Relaxed);
    assert_eq!(rig.json("/healthz").1["uptime_ms"], 11_000);

    for (method, path, status, code) in [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("DELETE", "/metrics", 405, "method_not_allowed"),
    ] {
        let (answered, _, body) = rig.ask(method, path, "");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((answered, body["error"]["code"].as_str()), (status, Some(code)), "{method} {path}");
    }
    assert_eq!(rig.ask("HEAD", "/healthz", "").0, 200, "some load balancers ask so");

    let address = rig.admin.address().unwrap();
    rig.runtime.block_on(rig.admin.stop());
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

/// What is answered of a service: that it is in rotation, or else this.
fn answer(service: &str, rotation: InRotation, weight: u8) -> Answer {
    let is_in = rotation == InRotation::In;
    Answer {
        service: service.to_owned(),
        state: aviary_core::verdict::State::Down,
        rotation,
        weight,
        reason: (!is_in).then(|| "lost 24 of 24 <from n1>".to_owned()),
        until: (!is_in).then(|| "2025-11-21T02:01:00Z".to_owned()),
    }
}

#[test]
fn a_node_is_unavailable_while_it_is_out_and_not_for_being_down() {
    let rig = Rig::guarded(Guard {
        read_token: Some(aviary_collector::SecretHash::of("0123456789abcdef")),
        probe_auth: false,
    });
    let token = "Authorization: Bearer 0123456789abcdef\r\n";
    rig.change(|standing| {
        standing.rotation.answers = vec![
            answer("a", InRotation::In, 100),
            answer("b", InRotation::Out, 0),
            answer("c", InRotation::Returning, 10),
        ];
    });
    let asked = |service: &str, headers: &str| {
        let (status, _, body) = rig.ask("GET", &format!("/health/{service}"), headers);
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let said = |service, rotation, weight, reason: Option<&str>, until: Option<&str>| json!({"service": service, "state": "down", "rotation": rotation, "weight": weight, "reason": reason, "until": until});
    let (reason, until) = (Some("lost 24 of 24 <from n1>"), Some("2025-11-21T02:01:00Z"));
    assert_eq!(asked("a", token), (200, said("a", "in", 100, None, None)));
    assert_eq!(asked("b", token), (503, said("b", "out", 0, reason, until)));
    assert_eq!(asked("c", token), (200, said("c", "returning", 10, reason, until)));
    assert_eq!(asked("b", ""), (503, said("b", "out", 0, None, until)), "in states, without reasons");
    let unknown = |reason: Option<&str>| json!({"service": "d", "state": "blind", "rotation": "in", "weight": 100, "reason": reason, "until": null});
    let known = "this agent probes no service of that name; it probes a, b, c";
    assert_eq!(asked("d", token), (200, unknown(Some(known))), "an error would empty the pool");
    assert_eq!(asked("d", ""), (200, unknown(None)));

    let (_, _, page) = rig.ask("GET", "/metrics", &format!("{token}Accept: text/plain\r\n"));
    for line in [
        "aviary_agent_rotation_leases 2",
        "aviary_agent_rotation_weight{service=\"c\"} 0.1",
        "aviary_agent_rotation_answers_total{by=\"health\",rotation=\"out\"} 2",
        "aviary_agent_rotation_answers_total{by=\"agent_check\",rotation=\"in\"} 0",
        "aviary_agent_rotation_in_vain_total{by=\"consul\"} 0",
    ] {
        assert!(page.lines().any(|it| it == line), "{line}:\n{page}");
    }
    let (_, _, html) = rig.ask("GET", "/", &format!("{token}Accept: text/html\r\n"));
    for line in [
        "b: this node is out of rotation, until 2025-11-21T02:01:00Z unless the collector says so again: lost 24 of 24 &lt;from n1&gt;",
        "c: this node returns with 10 % of its load",
    ] {
        assert!(html.contains(line), "{line}:\n{html}");
    }
    assert!(!html.contains("a: this node"), "{html}");
}

#[test]
fn metrics_come_in_the_format_that_was_asked_for() {
    let rig = Rig::start();
    let (_, head, body) = rig.ask("GET", "/metrics", "");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n") && body.contains("\naviary_agent_series 6\n"), "{body}");
    let (_, head, body) = rig.ask("GET", "/v1/metrics", "Accept: text/plain\r\n");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(!body.contains("# EOF") && body.contains("\naviary_agent_series 6\n"), "{body}");
    let (_, head, json) = rig.ask("GET", "/metrics", "Accept: application/json\r\n");
    assert!(head.contains("content-type: application/json"), "{head}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["aviary_agent_series"], 6);
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<_> = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    assert!(json.as_object().unwrap().keys().eq(&names), "the same series: {json:#}");
}

#[test]
fn who_may_ask_is_as_the_table_says() {
    let health = ["/healthz", "/v1/health", "/readyz", "/v1/ready", "/healthcheck", "/deepcheck"];
    let others = ["/", "/metrics", "/v1/metrics", "/debug/vars", "/nothing"];
    let right = "Authorization: bearer 0123456789abcdef\r\n";
    let wrong =
        ["", "Authorization: Bearer 0123456789abcdeF\r\n", "Authorization: Basic 0123456789abcdef\r\n"];
    for probe_auth in [false, true] {
        let read_token = Some(aviary_collector::SecretHash::of("0123456789abcdef"));
        let rig = Rig::guarded(Guard { read_token, probe_auth });
        let error = Some("/etc/aviary.toml:3: no".to_owned());
        rig.change(|standing| standing.reload = Reload { at: None, error });
        let asked = |path, headers| rig.ask("GET", path, headers).0;
        for headers in wrong {
            for path in others {
                assert_eq!(asked(path, headers), 401, "{path} {headers}");
            }
            assert_ne!(asked("/health/ingest", headers), 401, "whoever balances takes it for out");
            for path in health {
                assert_eq!(asked(path, headers) == 401, probe_auth, "{path} {headers}");
            }
        }
        for path in health.iter().chain(&others) {
            assert_ne!(asked(path, right), 401, "{path}");
        }
        assert!(rig.ask("GET", "/metrics", "").1.contains("www-authenticate: Bearer"));
        for path in ["/readyz", "/healthcheck"] {
            let (told, states) = (rig.ask("GET", path, right).2, rig.ask("GET", path, "").2);
            assert!(told.contains("/etc/aviary.toml") && !states.contains("/etc/aviary.toml"), "{states}");
            assert_eq!(states.contains(r#""configuration""#), !probe_auth, "{states}");
        }
    }
}

/// How many of these connections the other end has taken from the kernel's queue: one that waits there has no inode yet
/// (`get_tcp4_sock` of Linux' `net/ipv4/tcp_ipv4.c`).
fn accepted(connections: &[TcpStream]) -> usize {
    let known = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let known: Vec<Vec<_>> = known.lines().map(|row| row.split_whitespace().collect()).collect();
    // On loopback the bytes of the address are in the order of the host.
    let shown = |address: SocketAddr| {
        let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let is_accepted = |connection: &&TcpStream| {
        let (here, there) = (connection.local_addr().unwrap(), connection.peer_addr().unwrap());
        known.iter().any(|row| row[1] == shown(there) && row[2] == shown(here) && row[9] != "0")
    };
    connections.iter().filter(is_accepted).count()
}

#[test]
fn who_opens_connections_and_says_nothing_holds_neither_files_nor_places() {
    let rig = Rig::start();
    let address = rig.admin.address().unwrap();
    let mut silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let is_begun = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        accepted(&silent) > 0
    });
    assert!(is_begun, "none was accepted within ten seconds");
    std::thread::sleep(Duration::from_millis(300));
    let accepted = accepted(&silent);
    assert!((1..=64).contains(&accepted), "{accepted} were accepted");
    assert_eq!(rig.json("/healthz").0, 200, "answered once the silent are shown out");
    silent[0].set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0, "closed");
}

#[test]
fn people_see_the_agent_and_are_led_to_the_fleet() {
    let rig = Rig::start();
    rig.change(|standing| {
        standing.shipping.collector = "https://c.example:8610".to_owned();
        standing.shipping.last_error = Some("<b>refused</b>".to_owned());
        let outcomes = [(("delivered", None, None), 41), (("lost", Some("connect"), Some("refused")), 2)];
        standing.groups = vec![standing::Group {
            service: "in<gest".to_owned(),
            protocol: aviary_core::Protocol::Tcp,
            outcomes: outcomes.into(),
            phases: Default::default(),
        }];
        standing.now = Timestamp(107_000_000);
    });
    let (status, head, html) = rig.ask("GET", "/", "Accept: text/html,*/*;q=0.8\r\n");
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'self'"), "{head}");
    for part in [
        "<th scope=\"row\">in&lt;gest</th>",
        "<td>41</td><td>2</td>",
        "<a href=\"https://c.example:8610/\">https://c.example:8610</a>",
        "took a report 7 s ago",
        "&lt;b&gt;refused",
        "6 of 6 series",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("<script") && !html.contains("style="), "{html}");
    assert!(rig.ask("GET", "/style.css", "").1.contains("text/css"));
    let (_, _, json) = rig.ask("GET", "/", "Accept: application/json\r\n");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["slots"][0]["outcomes"], json!({"delivered": 41, "lost": 2}));
    assert_eq!(json["collector"]["report_taken_seconds_ago"], 7);
}

#[test]
fn the_process_can_be_looked_into_where_it_should_and_nowhere_else() {
    let rig = Rig::start();
    rig.ask("GET", "/healthz", "");
    let (status, vars) = rig.json("/debug/vars");
    assert_eq!((status, &vars["aviary_agent_series"]), (200, &json!(6)));
    assert!(vars["cmdline"].as_array().is_some_and(|words| !words.is_empty()), "{vars}");
    assert!(vars["requests"]["by_status"].is_object(), "{vars}");
    rig.clock.0.store(11_000_000, Ordering::Relaxed);
    assert_eq!(rig.json("/debug/vars").1["requests"]["by_status"], json!({"200": 2}));
    for path in ["profile", "heap", "trace"] {
        let (status, refused) = rig.json(&format!("/debug/pprof/{path}"));
        assert_eq!((status, &refused["error"]["code"]), (404, &json!("no_profiles")), "{path}");
    }

    for (host, expected) in
        [("localhost:1", 200), ("[::1]", 200), ("127.0.0.1:1", 200), ("rebound.example:1", 403), ("", 403)]
    {
        let head = format!("GET /debug/vars HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(rig.admin.address().unwrap()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{host}: {answer}");
    }

    let (alone, profiler) = rig.runtime.block_on(async {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (listen, debug) = (bind().await.unwrap(), bind().await.unwrap());
        let address = debug.local_addr().unwrap();
        let source = Arc::clone(&rig.standing);
        let standing = Arc::new(move || source.lock().unwrap().clone());
        let profiler = Some(Profiler::new(rig.clock.clone()));
        let admin =
            Admin::start(Some(listen), Some(debug), profiler, rig.clock.clone(), standing, Guard::default());
        (admin.unwrap(), address)
    });
    let ask = |address: SocketAddr, path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).split_whitespace().nth(1).unwrap().to_owned()
    };
    let main = alone.address().unwrap();
    let table = [
        (main, "/healthz", "200"),
        (main, "/debug/vars", "404"),
        (main, "/debug/pprof/heap", "404"),
        (profiler, "/debug/vars", "200"),
        (profiler, "/debug/pprof/heap", "200"),
        (profiler, "/debug/pprof/profile?seconds=0", "400"),
        (profiler, "/debug/pprof/profile?seconds=301", "400"),
        (profiler, "/healthz", "404"),
        (profiler, "/metrics", "404"),
    ];
    for (address, path, status) in table {
        assert_eq!(ask(address, path), status, "{path} on {address}");
    }
    rig.runtime.block_on(alone.stop());
}
