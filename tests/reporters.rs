//! Who may report, and how the collector sees those who do.

use std::{fs, thread::sleep, time::Duration};

use aviary_core::{Second, Span};
use aviary_wire::report::{ClosedSlot, Report, Roster};
use serde_json::Value;

use crate::support::{
    aviary::{Aviary, aviary, now, run},
    clock::libfaketime,
    http,
    ports::Port,
    report,
    slots::wait_until_closed,
    wait::wait_until,
};

const PATIENCE: Duration = Duration::from_secs(40);

const ONE: &str = "token-of-node-one";
const TWO: &str = "token-of-node-two";
const SLOW: &str = "token-of-the-slow";
const READER: &str = "token-to-read-with";

fn token(name: &str, variable: &str, more: &str) -> String {
    format!("[[collector.token]]\nname = \"{name}\"\nsecret = {{ env = \"{variable}\" }}\n{more}\n")
}

/// A collector that knows the four tokens; `slow` goes into one of them.
fn collector(slow: &str) -> Aviary {
    let tokens = [
        token("one", "ONE", "region = \"eu\"\nnode = \"one\""),
        token("two", "TWO", "node = \"two\""),
        token("slow", "SLOW", slow),
        token("reader", "READER", "scope = [\"read\"]"),
    ];
    Aviary::start_with(&tokens.concat(), |command| {
        command.env("ONE", ONE).env("TWO", TWO).env("SLOW", SLOW).env("READER", READER);
    })
}

fn roster(region: &str, node: &str, series: usize) -> Roster {
    let endpoint = |number: usize| {
        (format!("tcp://graphite-{number}.example.com:2003"), format!("canary.{node}.{number}"))
    };
    report::roster((region, node), now().minus(60), (0..series).map(endpoint))
}

fn report(roster: &Roster, second: Second) -> Report {
    Report { slots: vec![report::delivered(0, second)], ..report::telling(roster, now()) }
}

/// The status, the code of the error and its message.
#[track_caller]
fn post(running: &Aviary, token: &str, report: &Report) -> (u16, String, String) {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let (status, body) =
        http::request(running.collector, "POST", "/api/v1/reports", &headers, &report.encode(), PATIENCE)
            .unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    let text = |key: &str| answer["error"][key].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}

#[track_caller]
fn read(running: &Aviary, path: &str) -> String {
    let bearer = format!("Bearer {READER}");
    let headers = [("Authorization", bearer.as_str())];
    let (status, body) = http::request(running.collector, "GET", path, &headers, &[], PATIENCE).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[test]
fn an_agent_cannot_write_the_slots_of_another() {
    let running = collector("");
    let second = now().minus(10);
    let (one, two) = (roster("eu", "one", 1), roster("us", "two", 1));
    assert_eq!(post(&running, ONE, &report(&one, second)).0, 200);
    let claims = Report { roster: None, ..report(&one, second.plus(1)) };
    let table = [
        (TWO, report(&one, second.plus(1)), 403, "forbidden_node"),
        (TWO, claims.clone(), 400, "unknown_roster"),
        (SLOW, claims.clone(), 400, "unknown_roster"),
        (ONE, report(&two, second), 403, "forbidden_region"),
        (ONE, report(&roster("eu", "two", 1), second), 403, "forbidden_node"),
        (READER, report(&one, second), 403, "forbidden"),
        ("token-of-node-onE", report(&one, second), 401, "unauthorized"),
        (TWO, report(&two, second), 200, ""),
    ];
    for (token, report, status, code) in table {
        let (answered, found, message) = post(&running, token, &report);
        assert_eq!((answered, found.as_str()), (status, code), "{token}: {message}");
    }
    let sums: Value = serde_json::from_str(&read(&running, "/api/v1/sums?by=node&window=60s")).unwrap();
    let delivered = sums["groups"].as_array().unwrap().iter().map(|it| (&it["by"]["node"], &it["delivered"]));
    assert_eq!(delivered.collect::<Vec<_>>(), [(&"one".into(), &1.into()), (&"two".into(), &1.into())]);
    assert_eq!(post(&running, ONE, &claims).0, 200, "its own");

    let agents: Value = serde_json::from_str(&read(&running, "/api/v1/agents")).unwrap();
    let refused = |name: &str| {
        let token = agents["tokens"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap();
        (token["refused"]["forbidden"].as_u64().unwrap(), token["reports"].as_u64().unwrap())
    };
    assert_eq!(
        (refused("one"), refused("two"), &agents["strangers"]),
        ((2, 2), (1, 1), &1.into()),
        "{agents}"
    );
    assert!(!agents["tokens"].to_string().contains("reader"), "that one reports nothing: {agents}");
    assert_eq!(agents["agents"][0]["token"], "one");
    for secret in [ONE, TWO, SLOW, READER] {
        assert!(!running.log().contains(secret) && !agents.to_string().contains(secret), "no token is shown");
    }
}

#[test]
fn what_is_over_a_limit_is_refused_and_counted() {
    let limits = "reports_per_second = 2\nslots_per_second = 100\nreport_size = \"64KiB\"\nseries = 3";
    let running = collector(limits);
    let second = now().minus(10);
    let small = roster("eu", "a", 2);
    let table = [
        (report(&small, second), 200, "", ""),
        (report(&roster("eu", "b", 2), second), 429, "too_many_series", "brought 2 series and may bring 3"),
        (report(&roster("eu", "c", 3_000), second), 413, "too_large_for_token", "at most 65536 bytes"),
        (Report { roster: None, ..report(&small, second.plus(1)) }, 200, "", ""),
    ];
    for (report, status, code, message) in table {
        let (answered, found, told) = post(&running, SLOW, &report);
        assert_eq!((answered, found.as_str()), (status, code), "{told}");
        assert!(told.contains(message), "{told}");
    }
    let refused =
        (0..1_000).find_map(|_| Some(post(&running, SLOW, &report(&small, second))).filter(|it| it.0 != 200));
    let (status, code, message) = refused.unwrap();
    assert_eq!((status, code.as_str()), (429, "too_fast"), "{message}");
    assert!(message.contains("token slow may report 2 reports a second"), "{message}");
    assert_eq!(post(&running, ONE, &report(&roster("eu", "one", 1), second)).0, 200, "the others go on");

    sleep(Duration::from_secs(1));
    let mut many = report(&small, second);
    let slots = |series| (0..800).map(move |offset| report::delivered(series, second.minus(offset)));
    many.slots = [0, 1].into_iter().flat_map(slots).collect();
    assert_eq!(post(&running, SLOW, &many).0, 200, "what is too much at once is owed");
    let (status, _, message) = post(&running, SLOW, &many);
    assert!(status == 429 && message.contains("100 slots a second"), "{message}");

    let metrics = read(&running, "/metrics");
    let value = |sample: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in {metrics}")).parse::<f64>().unwrap()
    };
    for (reason, least) in [("reports", 1.0), ("slots", 1.0), ("series", 1.0), ("bytes", 1.0)] {
        let sample = format!("aviary_collector_refused_total{{token=\"slow\",reason=\"{reason}\"}}");
        assert!(value(&sample) >= least, "{reason}");
    }
    assert_eq!(value("aviary_collector_series{token=\"slow\"}"), 2.0);
    assert_eq!(value("aviary_collector_reports_total{token=\"one\"}"), 1.0);
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let (status, _) = http::request(running.collector, "GET", "/metrics", &[], &[], PATIENCE).unwrap();
    assert_eq!(status, 401, "not for everybody");
}

/// The text of a configuration of an agent that reports to `collector`, and of nothing that it could lose.
fn agent(collector: &Aviary, sink: &Port) -> String {
    format!(
        "[vantage]\nregion = \"eu\"\nnode = \"one\"\n[agent]\ncollector = [\"http://{}\"]\ntoken = {{ env = \"TOKEN\" }}\n\
         [sink]\ntcp = \"{sink}\"\n[[service]]\nname = \"ingest\"\ncounts_as_delivered = \"peer_closed\"\n\
         endpoints = [\"tcp://{sink}\"]\n",
        collector.collector,
        sink = sink.address(),
    )
}

#[test]
fn an_agent_that_is_refused_says_why_and_keeps_what_it_has() {
    // Nothing but the hash of the token stands on the collector's host: printf %s token-of-node-one | sha256sum
    let rule = |more: &str| {
        let hash = "1b35c5fa34a26c50b721312de8869446a577920401d592c89847b41ef6cc73a0";
        format!("[[collector.token]]\nname = \"one\"\nsecret = {{ hash = \"sha256:{hash}\" }}\n{more}")
    };
    let mut collector =
        Aviary::start_with(&rule("slots_per_second = 1\nscope = [\"report\", \"read\"]\n"), |_| {});
    let sink = Port::claim();
    let agent = Aviary::start_with(&agent(&collector, &sink), |command| {
        command.env("TOKEN", ONE);
    });
    let address = collector.collector;
    let bearer = format!("Bearer {ONE}");
    let of_node = |path: &str, seen: &dyn Fn(&Value) -> bool| {
        let (_, body) =
            http::request(address, "GET", path, &[("Authorization", bearer.as_str())], &[], PATIENCE)
                .unwrap();
        let sums: Value = serde_json::from_str(&body).unwrap();
        let mut groups = sums["groups"].as_array().unwrap().iter();
        groups.any(|it| it["by"]["node"] == "one" && seen(it))
    };
    let has_begun = |it: &Value| it["delivered"].as_u64() >= Some(1);
    wait_until(PATIENCE, || agent.log(), || of_node("/api/v1/sums?by=node&window=60s", &has_begun));
    // As many agents as there are cannot tell more than a slot a second; and now there is another reporter.
    let flood = report(&roster("eu", "other", 1), now().minus(10));
    let flood = Report {
        slots: (0..30).map(|age| ClosedSlot { second: now().minus(10 + age), ..flood.slots[0] }).collect(),
        ..flood
    };
    while post(&collector, ONE, &flood).0 != 200 {
        sleep(Duration::from_millis(200));
    }
    let from = now().plus(1);
    sleep(Duration::from_secs(8));
    let refusal = "429 Too Many Requests token one may report 1 slots a second";
    wait_until(PATIENCE, || agent.log(), || agent.log().contains(refusal));

    let file = collector.file("aviary.toml");
    let text = fs::read_to_string(&file).unwrap().replace("slots_per_second = 1\n", "");
    fs::write(&file, text).unwrap();
    collector.process().restart();
    collector.process().wait_until_listening(address, PATIENCE);
    let span = Span::new(from, now().plus(2));
    wait_until_closed(span);
    let path = format!("/api/v1/sums?by=node&window={}s&until={}", span.seconds(), span.until);
    let all = Value::from(span.seconds());
    // A busy host may miss a second; that is told as well.
    let is_told = |it: &Value| it["scheduled"] == all && it["unknown"] == 0 && it["lost"] == 0;
    wait_until(
        PATIENCE,
        || format!("nothing is lost and nothing told twice\n{}", agent.log()),
        || of_node(&path, &is_told),
    );
}

#[test]
fn an_agent_is_seen_with_its_clock_and_missed_when_it_is_silent() {
    let collector = Aviary::start("");
    let sink = Port::claim();
    let mut skewed = Aviary::start_with(&agent(&collector, &sink), |command| {
        let fake = command.env("TOKEN", ONE).env("LD_PRELOAD", libfaketime()).env("FAKETIME", "+1.5");
        fake.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
    });
    let agents = collector.wait_for("/api/v1/agents", PATIENCE, |agents| {
        agents["agents"][0]["clock_uncertainty_seconds"].as_f64().is_some_and(|seconds| seconds < 0.25)
    });
    let agent = &agents["agents"][0];
    let offset = agent["clock_offset_seconds"].as_f64().unwrap();
    let uncertainty = agent["clock_uncertainty_seconds"].as_f64().unwrap();
    assert!((offset - 1.5).abs() <= uncertainty + 0.001, "{agent}");
    assert_eq!(agent["series"], 1, "{agent}");
    assert!(
        agent["configuration"].as_str().unwrap().len() == 16 && agent["lag_seconds"].as_f64().unwrap() < 5.0
    );

    let state = |name: &'static str| {
        collector.wait_for("/api/v1/agents", PATIENCE, |agents| agents["agents"][0]["state"] == name)
    };
    state("reporting");
    skewed.process().freeze();
    state("late");
    let url = format!("http://{}", collector.collector);
    assert!(
        aviary(&["status", &url]).out.contains("one in eu: late, for "),
        "{}",
        aviary(&["status", &url]).out
    );
    let found = state("unreachable");
    assert!(found["agents"][0]["lag_seconds"].as_f64().unwrap() > 30.0, "{found}");
    let told = aviary(&["status", &url]).out;
    assert!(
        told.contains("one in eu: unreachable, for ") && told.contains("unknown until they tell"),
        "{told}"
    );
    let json = run(crate::support::aviary::command().args(["status", &url, "--format", "json"])).out;
    assert!(!json.contains("unreachable"), "one service a line, as before: {json}");
    let only = collector.get("/api/v1/agents?state=starting,reporting");
    assert_eq!(only["agents"], Value::Array(Vec::new()), "{only}");
    skewed.process().thaw();
    state("reporting");
    assert!(!aviary(&["status", &url]).out.contains("Nothing is heard"));
}
