//! Each row of the tables, over the real router.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aviary_core::{
    Clock, Evidence, Fault, Micros, Outcome, Phase, Second, Timestamp, Vantage, VantageKind, Window,
    page::{Paging, Receiver},
    verdict,
};
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};
use axum::{Json, http::StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::checks::{of_itself, of_others};
use crate::{Collector, Options, Server, ServiceOptions, visitor::Onlooker};

const START: u64 = 1_763_690_400;

const DELIVERED: Outcome = Outcome::Delivered(Evidence::PeerClosed);
const SENT: Outcome = Outcome::Delivered(Evidence::Sent);
const REFUSED: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };

const REGIONS: [&str; 3] = ["ap", "eu", "us"];

/// What becomes of the slot of a region in a second after the start; none where nobody tells.
type Script = fn(&str, u64) -> Option<Outcome>;

/// A clock that is set.
#[derive(Clone, Default)]
struct Set(Arc<AtomicU64>);

impl Clock for Set {
    fn wall(&self) -> Timestamp {
        Second(START + self.0.load(Ordering::SeqCst)).start()
    }

    fn monotonic(&self) -> Micros {
        Micros(self.0.load(Ordering::SeqCst) * 1_000_000)
    }
}

/// A collector that watches `ingest` from three regions.
struct Served {
    clock: Set,
    collector: Collector,
    server: Server,
    url: String,
    client: reqwest::Client,
}

impl Served {
    async fn begin(services: Vec<ServiceOptions>) -> Self {
        aviary_probe::install_crypto_provider();
        let clock = Set::default();
        let collector = Collector::new(Options { services, ..Options::default() }, clock.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = collector.serve_unjudged(listener);
        Self { clock, collector, server, url, client: reqwest::Client::new() }
    }

    async fn watching() -> Self {
        Self::begin(vec![ServiceOptions::unconfigured("ingest")]).await
    }

    fn run(&self, endpoint: &str, until: u64, script: Script) {
        run(&self.collector, &self.clock, endpoint, until, script);
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    async fn end(self) {
        self.server.stop().await;
    }
}

/// Tells and judges the seconds up to `until`.
fn run(collector: &Collector, clock: &Set, endpoint: &str, until: u64, script: Script) {
    for second in clock.0.load(Ordering::SeqCst)..until {
        for region in REGIONS {
            let Some(outcome) = script(region, second) else { continue };
            let report = report(region, endpoint, second, outcome);
            collector.state().take(&report, None, clock.wall()).unwrap();
        }
        clock.0.store(second + 1, Ordering::SeqCst);
        collector.judge_now();
    }
}

fn report(region: &str, endpoint: &str, second: u64, outcome: Outcome) -> Report {
    let vantage = Vantage {
        kind: VantageKind::External,
        region: region.to_owned(),
        zone: None,
        network: None,
        node: format!("node-{region}"),
    };
    let series = RosterSeries {
        service: "ingest".to_owned(),
        endpoint: endpoint.parse().unwrap(),
        address: None,
        name: format!("canary.{region}"),
        from: Second(START),
    };
    let roster = Roster { vantage, since: Second(START), series: vec![series] };
    let second = Second(START + second);
    Report {
        boot: 1,
        sequence: second.0,
        wall: second.start(),
        configuration: "test".to_owned(),
        roster_id: roster.id(),
        roster: Some(roster),
        slots: vec![ClosedSlot { series: 0, second, outcome, reached: None, address: None }],
        ..Report::default()
    }
}

const TCP: &str = "tcp://h:1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_state_answers_as_the_table_says() {
    struct Row {
        script: Script,
        endpoint: &'static str,
        seconds: u64,
        is_silenced: bool,
        state: &'static str,
        status: &'static str,
        /// What `/services/health` and `/ingest/health` answer.
        answers: (u16, u16),
    }
    let usual = Row {
        script: |_, _| Some(DELIVERED),
        endpoint: TCP,
        seconds: 120,
        is_silenced: false,
        state: "healthy",
        status: "healthy",
        answers: (200, 200),
    };
    let down: Script = |_, second| Some(if second < 90 { DELIVERED } else { REFUSED });
    let table = [
        Row {
            script: |region, second| Some(if region == "eu" && second >= 60 { REFUSED } else { DELIVERED }),
            state: "degraded",
            status: "degraded",
            answers: (503, 200),
            ..usual
        },
        Row { script: down, seconds: 150, state: "down", status: "down", answers: (503, 503), ..usual },
        Row {
            script: down,
            seconds: 150,
            is_silenced: true,
            state: "down",
            status: "down (silenced until 2025-11-21T03:00:00Z)",
            answers: (503, 503),
            ..usual
        },
        Row { seconds: 5, state: "starting", status: "starting", answers: (503, 200), ..usual },
        Row {
            script: |_, second| (second < 60).then_some(DELIVERED),
            state: "blind",
            status: "cannot tell",
            answers: (503, 200),
            ..usual
        },
        Row {
            script: |_, _| Some(SENT),
            endpoint: "udp://h:1",
            state: "unproven",
            status: "unproven",
            answers: (503, 200),
            ..usual
        },
        usual,
    ];
    for Row { script, endpoint, seconds, is_silenced, state, status, answers } in table {
        let served = Served::watching().await;
        if is_silenced {
            let silence = json!({"until": 1_763_694_000, "by": "ada", "reason": "new switches"});
            let posted = served.client.post(format!("{}/api/v1/silences", served.url));
            assert_eq!(posted.body(silence.to_string()).send().await.unwrap().status(), 201);
        }
        served.run(endpoint, seconds, script);
        let (of_all, all) = served.get("/services/health").await;
        let (of_one, one) = served.get("/ingest/health").await;
        assert_eq!(
            (&one["service"], &one["state"], &one["status"]),
            (&json!("ingest"), &json!(state), &json!(status)),
            "{one}"
        );
        assert_eq!((of_all, of_one), answers, "{one}");
        assert_eq!(all, json!({"all_healthy": of_all == 200, "services": [one]}));
        assert_eq!(one["silenced_until"], if is_silenced { json!(1_763_694_000) } else { Value::Null });
        served.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_loses_all_is_told_from_those_that_do_not() {
    let served = Served::watching().await;
    served.run(TCP, 120, |region, second| match region {
        "eu" if second >= 60 => Some(REFUSED),
        // Silent for the last twenty seconds.
        "us" if second >= 100 => None,
        _ => Some(DELIVERED),
    });
    let (_, told) = served.get("/ingest/health").await;
    // The newest minute that is closed ends at 117.
    let eu = json!({"state": "down", "delivered": 3, "lost": 57, "rate": 0.05});
    assert_eq!((&told["regions"]["eu"], &told["nodes"]["node-eu"]), (&eu, &eu), "{told}");
    let ap = json!({"state": "healthy", "delivered": 60, "lost": 0, "rate": 1.0});
    assert_eq!(told["regions"]["ap"], ap, "{told}");
    assert_eq!(told["regions"]["us"]["state"], "blind", "{told}");
    assert_eq!((told.get("regions_left_out"), told.get("nodes_left_out")), (None, None));
    // Whoever asks in the same second is told the same; in the next, what is then.
    served.run(TCP, 180, |_, _| Some(DELIVERED));
    let (_, told) = served.get("/ingest/health").await;
    assert_eq!(told["regions"]["us"]["state"], "healthy", "{told}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_depend_on_a_service_answers_as_the_table_says() {
    let served = Served::begin(Vec::new()).await;
    served.run(TCP, 40, |_, _| None);
    assert_eq!(served.get("/services/health").await, (503, json!({"all_healthy": false, "services": []})));
    let (status, unknown) = served.get("/ingest/health").await;
    assert_eq!((status, &unknown["error"]["code"]), (404, &json!("unknown_service")));
    for path in ["/healthz", "/v1/health"] {
        let (status, health) = served.get(path).await;
        assert_eq!((status, &health["status"]), (200, &json!("ok")));
        assert_eq!(health["uptime_ms"], 40_000, "{health}");
    }
    for path in ["/readyz", "/v1/ready"] {
        assert_eq!(served.get(path).await, (200, json!({"status": "ready"})));
    }
    served.collector.shutting_down();
    for path in ["/readyz", "/v1/ready"] {
        assert_eq!(served.get(path).await, (503, json!({"status": "shutting_down"})));
    }
    assert_eq!(served.get("/healthz").await.0, 200, "it serves until its listener goes");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_say_what_is_well_and_what_is_not() {
    let has = |told: &Value, part: &str| told.as_array().unwrap().iter().any(|it| it == part);
    let served = Served::watching().await;
    served.run(TCP, 120, |_, _| Some(DELIVERED));
    let (status, itself) = served.get("/healthcheck").await;
    assert_eq!((status, &itself["failed"]), (200, &json!([])), "{itself}");
    assert_eq!(itself["ok"].as_array().unwrap().len(), 5, "{itself}");
    let (status, others) = served.get("/deepcheck").await;
    assert_eq!((status, &others["failed"]), (200, &json!([])), "{others}");
    assert!(has(&others["ok"], "agents: 3 of 3 report; see /api/v1/agents"), "{others}");
    // Two of three fall silent: what it depends on is not well, and it is.
    served.run(TCP, 130, |region, _| (region == "eu").then_some(DELIVERED));
    let (status, others) = served.get("/deepcheck").await;
    assert_eq!(status, 500);
    assert_eq!(others["failed"], json!(["agents: 1 of 3 report; see /api/v1/agents"]), "{others}");
    assert_eq!(served.get("/healthcheck").await.0, 200);
    served.end().await;
}

/// Somebody who may read what checks find.
fn reader(collector: &Collector) -> Onlooker {
    Onlooker { collector: collector.clone(), may_read: true }
}

#[tokio::test]
async fn a_page_that_nobody_takes_and_a_judgement_that_stands_still_fail_their_checks() {
    let receiver = Receiver { wakes: true, ..Receiver::default() };
    let paging = Paging::new(vec![("oncall".to_owned(), receiver)], vec![], BTreeMap::new());
    let services = vec![ServiceOptions::unconfigured("ingest")];
    let options = Options { services, paging, ..Options::default() };
    let clock = Set::default();
    let collector = Collector::new(options, clock.clone()).unwrap();
    let failed = |answer: (StatusCode, Json<Value>)| (answer.0.as_u16(), answer.1.0["failed"].to_string());
    // Nobody serves it: it judges when it is told to.
    let ran = |until, script: Script| run(&collector, &clock, TCP, until, script);
    ran(90, |_, _| Some(DELIVERED));
    ran(150, |_, _| Some(REFUSED));
    assert_eq!(failed(of_others(reader(&collector)).await), (200, "[]".to_owned()), "not for a minute yet");
    ran(180, |_, _| Some(REFUSED));
    let (status, said) = failed(of_others(reader(&collector)).await);
    assert!(status == 500 && said.contains("receiver oncall: an incident has waited for 1 min"), "{said}");
    assert_eq!(failed(of_itself(reader(&collector)).await), (200, "[]".to_owned()));
    clock.0.store(186, Ordering::SeqCst);
    let said = json!(["judgement: the newest second was judged 6 s ago"]).to_string();
    assert_eq!(failed(of_itself(reader(&collector)).await), (500, said));
}

#[test]
fn of_many_places_those_that_are_not_healthy_are_told() {
    let place = |number: usize| {
        let state = if number % 100 == 99 { verdict::State::Down } else { verdict::State::Healthy };
        (format!("node-{number:03}"), crate::state::Place { state, window: Window::default() })
    };
    let places: BTreeMap<_, _> = (0..500).map(place).collect();
    let (told, left_out) = super::service::bounded(Some(&places));
    assert_eq!((told.len(), left_out), (200, 300));
    assert_eq!(told.values().filter(|place| place.state == "down").count(), 5);
    assert!(told.contains_key("node-499") && told.contains_key("node-000") && !told.contains_key("node-300"));
}
