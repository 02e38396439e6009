//! Reports that are not as they should be: refused whole, with a reason, and nothing else is lost.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use aviary_core::{Fault, Outcome, Phase, Second, Span};
use aviary_wire::report::{
    Certificate, ClosedSlot, Event, EventKind, REPORT_BYTES_MAX, Report, Roster, RosterSeries, What,
};
use serde_json::Value;

use crate::support::{
    aviary::{Aviary, aviary, command, now, run},
    http, report,
    slots::wait_until_closed,
    wait::{wait_for, wait_until},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn roster(region: &str) -> Roster {
    let endpoint = ("tcp://graphite.example.com:2003".to_owned(), "canary.ingest.tcp".to_owned());
    report::roster((region, "canary-7"), now().minus(60), [endpoint])
}

fn report(roster: &Roster, series: u32, second: Second) -> Report {
    Report { slots: vec![report::delivered(series, second)], ..report::telling(roster, now()) }
}

#[track_caller]
fn post(running: &Aviary, path: &str, token: Option<&str>, body: &[u8]) -> (u16, Value) {
    let bearer = format!("Bearer {}", token.unwrap_or_default());
    let headers: &[_] = if token.is_some() { &[("Authorization", bearer.as_str())] } else { &[] };
    let (status, body) = http::request(running.collector, "POST", path, headers, body, PATIENCE)
        .expect("the collector answers");
    (status, serde_json::from_str(&body).expect("the collector answers JSON"))
}

#[track_caller]
fn delivered(running: &Aviary) -> u64 {
    let sums = running.get("/api/v1/sums?window=60s");
    sums["groups"][0]["delivered"].as_u64().unwrap_or(0)
}

#[test]
fn a_bad_report_is_refused_whole_and_loses_nothing_else() {
    let running = Aviary::start("");
    let good = report(&roster("eu"), 0, now().minus(10));
    let bytes = good.encode();
    let (status, receipt) = post(&running, "/api/v1/reports", None, &bytes);
    assert_eq!(status, 200);
    let told = receipt["now_us"].as_u64().unwrap();
    assert!(now().0.abs_diff(told / 1_000_000) <= 2, "the receipt tells the collector's clock: {receipt}");
    assert_eq!(delivered(&running), 1);
    assert_eq!(post(&running, "/api/v1/reports", None, &bytes).0, 200, "a repeat is welcome");
    assert_eq!(delivered(&running), 1, "and changes nothing");

    let unknown = Report { roster: None, roster_id: 7, ..good.clone() }.encode();
    let out_of_place = report(&roster("eu"), 1, now().minus(9)).encode();
    let ahead = report(&roster("eu"), 0, now().plus(3_600)).encode();
    let refused = |path: &str, body: &[u8], status: u16, code: &str, message: &str| {
        let (answered, answer) = post(&running, path, None, body);
        assert_eq!((answered, answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(message), "{answer}");
    };
    let path = "/api/v1/reports";
    refused(path, &bytes[..bytes.len() - 1], 400, "bad_report", "truncated");
    refused(path, b"hello", 400, "bad_report", "no report");
    refused(path, &vec![0; REPORT_BYTES_MAX + 1], 413, "report_too_large", "several smaller");
    refused("/api/v2/reports", &bytes, 404, "not_found", "speaks version 1");
    refused(path, &unknown, 400, "unknown_roster", "again with its roster");
    refused(path, &out_of_place, 400, "bad_report", "its roster has 1");
    refused(path, &ahead, 400, "clock_ahead", "compare the clocks");
    assert_eq!(delivered(&running), 1);
    assert_eq!(
        post(&running, "/api/v1/reports", None, &report(&roster("eu"), 0, now().minus(9)).encode()).0,
        200
    );
    assert_eq!(delivered(&running), 2, "what comes after is taken");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_report_may_be_packed_and_a_bomb_is_refused() {
    let running = Aviary::start("");
    let path = "/api/v1/reports";
    let sent = |encoding: &str, body: &[u8]| {
        let headers = [("Content-Encoding", encoding)];
        let (status, body) =
            http::request(running.collector, "POST", path, &headers, body, PATIENCE).unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let bomb = gzip(&vec![0; 1 << 30]);
    let good = report(&roster("eu"), 0, now().minus(10)).encode();
    let packed = gzip(&good);
    assert!(bomb.len() < REPORT_BYTES_MAX, "{}", bomb.len());
    let table: [(&str, &[u8], u16, &str); 7] = [
        ("gzip", &packed, 200, ""),
        ("identity", &good, 200, ""),
        ("gzip", &packed[..packed.len() - 9], 400, "bad_encoding"),
        ("gzip", &good, 400, "bad_encoding"),
        ("gzip", &gzip(&good[..good.len() - 1]), 400, "bad_report"),
        ("gzip", &bomb, 413, "report_too_large"),
        ("br", &good, 415, "unknown_encoding"),
    ];
    for (encoding, body, status, code) in table {
        assert_eq!(sent(encoding, body), (status, code.to_owned()), "{encoding} {}", body.len());
    }
    assert_eq!(delivered(&running), 1);
}

#[test]
fn when_too_many_report_at_once_the_rest_is_told_when_to_come_back() {
    let running = Aviary::start("");
    let body = report(&roster("eu"), 0, now().minus(10)).encode();
    let head = format!(
        "POST /api/v1/reports HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let begun = |part: &[u8]| {
        let mut stream = TcpStream::connect(running.collector).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[head.as_bytes(), part].concat()).unwrap();
        stream
    };
    let answer = |mut stream: TcpStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    // Each has a place while its body is on the way.
    let mut waiting: Vec<TcpStream> = (0..64).map(|_| begun(&body[..1])).collect();
    // A body may be on the way for ten seconds.
    let mut answers = (0..60).map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        answer(begun(&body)).to_lowercase()
    });
    let busy = answers.find(|answer| answer.starts_with("http/1.1 503 ")).expect("no more than 64 at once");
    assert!(busy.contains("\r\nretry-after: "), "{busy}");
    waiting.iter_mut().for_each(|stream| stream.write_all(&body[1..]).unwrap());
    for stream in waiting {
        assert!(answer(stream).starts_with("HTTP/1.1 200 "));
    }
    assert!(answer(begun(&body)).starts_with("HTTP/1.1 200 "), "there is room again");
    assert_eq!(delivered(&running), 1);
}

#[test]
fn what_an_agent_tells_is_shown_and_what_it_stops_probing_ends() {
    let running = Aviary::start("");
    let first = now().minus(30);
    let mut all = roster("eu");
    let series = all.series[0].clone();
    let address = "192.0.2.7".parse().unwrap();
    all.series.push(RosterSeries {
        address: Some(address),
        name: "canary.ingest.tcp.one".to_owned(),
        ..series
    });
    let refused = ClosedSlot {
        series: 1,
        second: first,
        outcome: Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused },
        reached: None,
        address: Some("192.0.2.7:2003".parse().unwrap()),
    };
    let mut told = report(&all, 0, first);
    told.slots.push(refused);
    told.self_suspect = vec![Span::new(now().minus(8), now())];
    told.certificates = vec![Certificate {
        endpoint: all.series[0].endpoint.clone(),
        address: "192.0.2.7:2003".parse().unwrap(),
        not_after: 4_000_000_000,
    }];
    told.events = vec![Event {
        second: first,
        what: What::Address {
            kind: EventKind::AddressAdded,
            host: "graphite.example.com".to_owned(),
            address,
        },
    }];
    for _ in 0..2 {
        assert_eq!(post(&running, "/api/v1/reports", None, &told.encode()).0, 200);
    }
    let agents = running.get("/api/v1/agents");
    let agent = &agents["agents"][0];
    assert_eq!((&agent["self_suspect"], &agent["double"]), (&true.into(), &false.into()), "{agent}");
    let certificate = serde_json::json!([{"endpoint": "tcp://graphite.example.com:2003", "address": "192.0.2.7:2003",
        "not_after": 4_000_000_000_i64}]);
    assert_eq!(agent["certificates"], certificate);
    let sums = running.get("/api/v1/sums?by=address");
    let addresses: Vec<_> =
        sums["groups"].as_array().unwrap().iter().map(|row| &row["by"]["address"]).collect();
    assert_eq!(addresses, ["192.0.2.7", "none"]);
    let slots =
        running.get(&format!("/api/v1/slots?series=address:192.0.2.7&from={first}&until={}", first.plus(1)));
    let slot = &slots["series"][0]["slots"][0];
    assert_eq!((&slot["outcome"], &slot["address"]), (&"lost".into(), &"192.0.2.7:2003".into()), "{slots}");

    let deploy = br#"{"kind":"deploy","text":"release 42","service":"ingest"}"#;
    assert_eq!(post(&running, "/api/v1/events", None, deploy).0, 201);
    assert_eq!(post(&running, "/api/v1/events", None, b"{}").0, 400);
    assert_eq!(post(&running, "/api/v1/events", None, &[b' '; 20 << 10]).0, 413);
    let events = running.get("/api/v1/events");
    let kinds: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["address_added", "deploy"], "{events}");
    let before = running.get(&format!("/api/v1/events?from={first}&until={}", first.plus(1)));
    assert_eq!(before["events"][0]["vantage"]["node"], "canary-7", "{before}");

    let ends = now().minus(5);
    let rest = Roster { since: ends, series: all.series[..1].to_vec(), ..all };
    let told = Report { sequence: 1, ..report(&rest, 0, ends) };
    assert_eq!(post(&running, "/api/v1/reports", None, &told.encode()).0, 200);
    let until = ends.plus(2);
    let sums = running.get(&format!("/api/v1/sums?by=address&window=12s&until={until}"));
    let scheduled: Vec<_> = sums["groups"].as_array().unwrap().iter().map(|row| &row["scheduled"]).collect();
    assert_eq!(scheduled, [10, 12], "two seconds after its end: {sums}");
}

#[test]
fn an_unknown_agent_may_not_report_and_a_known_one_only_for_its_region() {
    let configuration = "[[collector.token]]\nname = \"eu-agents\"\nsecret = { env = \"EU_TOKEN\" }\nscope = [\"report\"]\n\
        region = \"eu\"\n[[collector.token]]\nname = \"people\"\nsecret = { env = \"READ_TOKEN\" }\nscope = [\"read\"]\n";
    let (eu, read) = ("eu-token-of-some-length", "read-token-of-some-length");
    let running = Aviary::start_with(configuration, |command| {
        command.env("EU_TOKEN", eu).env("READ_TOKEN", read);
    });
    let second = now().minus(10);
    let (own, other) = (report(&roster("eu"), 0, second).encode(), report(&roster("us"), 0, second).encode());
    let table: [(&str, Option<&str>, &[u8], u16); 5] = [
        ("no token", None, &own, 401),
        ("an unknown token", Some("eu-token-of-some-lengtX"), &own, 401),
        ("a token to read with", Some(read), &own, 403),
        ("another region", Some(eu), &other, 403),
        ("its own region", Some(eu), &own, 200),
    ];
    for (what, token, body, status) in table {
        let (answered, answer) = post(&running, "/api/v1/reports", token, body);
        assert_eq!(answered, status, "{what}: {answer}");
    }
    let url = format!("http://{}", running.collector);
    let refused = aviary(&["sums", &url]);
    assert!(refused.status == 2 && refused.err.contains("set AVIARY_TOKEN"), "{}", refused.err);
    let answered = run(command().args(["sums", &url, "--by", "region"]).env("AVIARY_TOKEN", read));
    assert!(
        answered.out.contains("eu ") && !answered.out.contains("us "),
        "{}{}",
        answered.out,
        answered.err
    );
    for secret in [eu, read] {
        assert!(!running.log().contains(secret), "no token in a log");
    }
}

#[test]
fn an_agent_waits_for_a_collector_that_is_away_and_nothing_counts_twice() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "agent-token-of-some-length\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let tokens =
        "[[collector.token]]\nname = \"agents\"\nsecret = { env = \"TOKEN\" }\nscope = [\"admin\"]\n";
    let mut collector = Aviary::start_with(tokens, |command| {
        command.env("TOKEN", "agent-token-of-some-length");
    });
    let sink = crate::support::ports::Port::claim();
    // The agent is a process of its own; its `aviary run` has a collector too, which nobody reports to.
    let agent = Aviary::start(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\ncollector = [\"http://{}\"]\ntoken = {{ file = \"{}\" }}\n\
         [sink]\ntcp = \"{sink}\"\n[[service]]\nname = \"ingest\"\ncounts_as_delivered = \"peer_closed\"\n\
         endpoints = [\"tcp://{sink}\"]\n",
        collector.collector,
        token.display(),
        sink = sink.address(),
    ));
    let address = collector.collector;
    let token = [("Authorization", "Bearer agent-token-of-some-length")];
    let asked = |path: &str| -> Value {
        let (_, body) = http::request(address, "GET", path, &token, &[], PATIENCE).unwrap();
        serde_json::from_str(&body).unwrap()
    };
    wait_until(
        PATIENCE,
        || agent.log(),
        || asked("/api/v1/sums?window=60s")["groups"][0]["delivered"].as_u64() >= Some(1),
    );
    // Frozen, it is away: connections are accepted and time out, and reports are sent again.
    let from = now();
    collector.process().freeze();
    std::thread::sleep(Duration::from_secs(12));
    collector.process().thaw();
    let span = Span::new(from, now().plus(2));
    wait_until_closed(span);
    let path = format!("/api/v1/sums?window={}s&until={}", span.seconds(), span.until);
    let group = wait_for(
        PATIENCE,
        || format!("something is never told\n{}", agent.log()),
        || Some(asked(&path)["groups"][0].clone()).filter(|group| group["unknown"] == 0),
    );
    let count = |outcome: &str| group[outcome].as_u64().unwrap();
    let told = count("delivered") + count("local") + count("missed");
    assert_eq!((count("scheduled"), told), (span.seconds(), span.seconds()), "{group}\n{}", agent.log());
    assert!(count("delivered") * 2 > told, "{group}\n{}", agent.log());
    assert!(
        agent.log().contains("does not take reports") && agent.log().contains("takes reports again"),
        "{}",
        agent.log()
    );
}
