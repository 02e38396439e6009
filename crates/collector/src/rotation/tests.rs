//! Three nodes, their loopback agents and one beside them, second by second: who is advised to leave, and what others are told.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{
    Clock, Evidence, Fault, Micros, Outcome, Phase, Second, Timestamp, Vantage, VantageKind,
    incident::{Cause, Incident},
    rotation::{Mode, State as Of},
};
use aviary_notify::{Outlet, OutletKind, Request};
use aviary_store::MemoryStore;
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};
use axum::routing::put;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    sync::watch,
};

use super::*;
use crate::{Options, Server, ServiceOptions, delivery::explain::in_words, serving::serve_until};

const START: u64 = 1_763_690_400;
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Nobody listens there, on any node.
const TYPO: &str = "tcp://127.0.0.1:2033";
const DELIVERED: Outcome = Outcome::Delivered(Evidence::PeerClosed);
const TIMED_OUT: Outcome = Outcome::Lost { phase: Phase::Confirm, fault: Fault::Timeout };

/// A clock that is set.
#[derive(Clone)]
struct Set(Arc<AtomicU64>);

impl Clock for Set {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed) * 1_000_000)
    }

    fn monotonic(&self) -> Micros {
        Micros(self.wall().0)
    }
}

fn roster(kind: VantageKind, node: &str, urls: &[String]) -> Roster {
    let series = urls.iter().map(|url| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: url.parse().unwrap(),
        address: None,
        name: format!("canary.{node}.{}", url.replace(['/', ':', '.'], "_")),
        from: Second(START),
    });
    let vantage = Vantage {
        kind,
        region: "eu".to_owned(),
        zone: Some(format!("zone-of-{node}")),
        network: None,
        node: node.to_owned(),
    };
    Roster { vantage, since: Second(START), series: series.collect() }
}

struct Stage {
    clock: Set,
    store: Arc<MemoryStore>,
    mode: Mode,
    collector: Collector,
    rosters: Vec<Roster>,
    /// With how many reports later lost slots are told: two, where attempts begin late in a second, are given up at the end of the next
    /// and told a moment after that was judged.
    told_after: usize,
    /// Those of each roster.
    untold: RefCell<BTreeMap<usize, VecDeque<Vec<ClosedSlot>>>>,
}

impl Stage {
    async fn new(mode: Mode) -> Self {
        let clock = Set(Arc::new(AtomicU64::new(START)));
        let store = Arc::new(MemoryStore::default());
        let loopbacks =
            NODES.map(|node| roster(VantageKind::Loopback, node, &["tcp://127.0.0.1:2003".to_owned()]));
        let beside = NODES.map(|node| format!("tcp://{node}.example.net:2003"));
        let beside = roster(VantageKind::Datacentre, "dc-1", &beside);
        let collector = started(&clock, &store, mode).await;
        let rosters = loopbacks.into_iter().chain([beside]).collect();
        Self { clock, store, mode, collector, rosters, told_after: 0, untold: RefCell::default() }
    }

    /// Another life begins where the last was killed.
    async fn killed(&mut self) {
        self.collector = started(&self.clock, &self.store, self.mode).await;
    }

    /// Seconds pass in which these nodes are frozen.
    fn pass(&self, seconds: u64, frozen: &[&str]) {
        for _ in 0..seconds {
            let second = self.clock.wall().second();
            self.clock.0.fetch_add(1, Ordering::Relaxed);
            for (place, roster) in self.rosters.iter().enumerate() {
                let mut report = report(roster, second, frozen);
                let is_lost = |slot: &mut ClosedSlot| slot.outcome == TIMED_OUT;
                let lost = report.slots.extract_if(.., is_lost).collect();
                let mut untold = self.untold.borrow_mut();
                let untold = untold.entry(place).or_default();
                untold.push_back(lost);
                while untold.len() > self.told_after {
                    report.slots.extend(untold.pop_front().unwrap());
                }
                self.collector.state().take(&report, None, self.clock.wall()).unwrap();
            }
            self.collector.judge_now();
        }
    }

    fn state(&self, node: &str) -> (Of, u8) {
        let advised = self.collector.advised().unwrap();
        let advice = advised.of("ingest", node, self.clock.wall().second()).unwrap();
        (advice.state, advice.weight)
    }

    fn out(&self) -> Vec<&str> {
        NODES.into_iter().filter(|node| self.state(node).0 == Of::Out).collect()
    }

    fn incidents(&self) -> Vec<Incident> {
        self.collector.judgement().incidents()
    }

    /// What the history of the loss says of nodes.
    fn history(&self) -> Vec<String> {
        self.history_of(|cause| *cause == Cause::Loss)
    }

    /// What the history of such an incident says of nodes.
    fn history_of(&self, is_it: impl Fn(&Cause) -> bool) -> Vec<String> {
        let incident = self.incidents().into_iter().find(|it| is_it(&it.cause)).unwrap();
        let lines = incident.timeline.kept.iter().map(|(_, happened)| in_words(happened));
        let of_nodes =
            |line: &String| ["rotation", "taken out", "returns at"].iter().any(|it| line.contains(it));
        lines.filter(of_nodes).collect()
    }

    /// The API, without a loop of judgement.
    async fn served(&self) -> (String, Server) {
        aviary_probe::install_crypto_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (url, self.collector.serve_unjudged(listener))
    }
}

fn report(roster: &Roster, second: Second, frozen: &[&str]) -> Report {
    let slot = |(place, series): (usize, &RosterSeries)| {
        let node = match roster.vantage.kind {
            VantageKind::Loopback => roster.vantage.node.clone(),
            _ => series.endpoint.host().to_string().replace(".example.net", ""),
        };
        let is_lost = frozen.contains(&node.as_str()) || series.endpoint.to_string() == TYPO;
        let outcome = if is_lost { TIMED_OUT } else { DELIVERED };
        ClosedSlot { series: place as u32, second, outcome, reached: None, address: None }
    };
    Report {
        boot: 1,
        sequence: second.0,
        wall: second.plus(1).start(),
        configuration: "test".to_owned(),
        roster_id: roster.id(),
        roster: Some(roster.clone()),
        slots: roster.series.iter().enumerate().map(slot).collect(),
        ..Report::default()
    }
}

async fn started(clock: &Set, store: &Arc<MemoryStore>, mode: Mode) -> Collector {
    let named = NODES.map(|node| (format!("tcp://{node}.example.net:2003"), node.to_owned()));
    let steering = Steering { mode, named: named.into(), ..Steering::default() };
    let service = ServiceOptions { steering: Some(steering), ..ServiceOptions::unconfigured("ingest") };
    let options = Options {
        name: "main".to_owned(),
        services: vec![service],
        store: Some(Arc::clone(store) as Arc<dyn crate::Store>),
        ..Options::default()
    };
    let collector = Collector::new(options, clock.clone()).unwrap();
    while collector.replaying().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    collector
}

#[tokio::test]
async fn a_frozen_node_is_out_within_fifteen_seconds_and_back_after_it_recovered() {
    for told_after in 0..=2 {
        let stage = Stage { told_after, ..Stage::new(Mode::Live).await };
        leaves_and_returns(&stage);
    }
}

fn leaves_and_returns(stage: &Stage) {
    stage.pass(60, &[]);
    assert!(stage.out().is_empty());
    let mut seconds = 0;
    while stage.out().is_empty() && seconds < 15 {
        stage.pass(1, &["n3"]);
        seconds += 1;
    }
    assert_eq!(stage.out(), ["n3"], "after {seconds} s");
    stage.pass(20, &["n3"]);
    let history = stage.history();
    assert_eq!(history.len(), 1, "{history:?}");
    assert!(history[0].starts_with("n3 was taken out of rotation (live): "), "{history:?}");
    assert!(
        history[0].contains(" slots lost in 8 s from dc-1, loopback, while its 2 peers lost 0 of "),
        "{history:?}"
    );

    stage.pass(75, &[]);
    assert_eq!(stage.state("n3"), (Of::Returning, 10));
    stage.pass(75, &[]);
    assert_eq!(stage.state("n3"), (Of::In, 100));
    let history = stage.history();
    assert_eq!(history[1], "n3 returns at 10 % of its weight (live): it has been well again for long enough");
    assert_eq!(history[2], "n3 is in rotation again (live): it was well while it returned");
}

#[tokio::test]
async fn a_node_that_stays_out_is_paged_until_it_returns() {
    let stage = Stage::new(Mode::Live).await;
    stage.pass(60, &[]);
    let stays = || {
        let incidents = stage.incidents();
        let stays = incidents.into_iter().find(|it| matches!(it.cause, Cause::Ejected { .. }));
        stays.map(|it| (it.state.is_active(), it.summary()))
    };
    stage.pass(3_600, &["n3"]);
    assert_eq!(stays(), None);
    stage.pass(30, &["n3"]);
    let summary = "ingest: n3 has been out of rotation for more than an hour: it needs a person".to_owned();
    assert_eq!(stays(), Some((true, summary.clone())));
    stage.pass(240, &[]);
    assert_eq!(stage.state("n3"), (Of::In, 100));
    assert_eq!(stays().map(|(is_active, _)| is_active), Some(false));
    // Whoever was woken by it reads there what became of the node, as those do who were woken by the loss.
    assert_eq!(
        stage.history_of(|cause| matches!(cause, Cause::Ejected { .. })),
        [
            "told that it is there, error: ingest: n3 has been out of rotation for more than an hour: it needs a person",
            "n3 returns at 10 % of its weight (live): it has been well again for long enough",
            "n3 is in rotation again (live): it was well while it returned"
        ]
    );
}

#[tokio::test]
async fn the_page_of_a_node_that_was_out_for_days_ends_with_that_too() {
    for is_stopped in [false, true] {
        let stage = Stage::new(Mode::Live).await;
        let is_paged = || {
            let incidents = stage.incidents();
            incidents.iter().any(|it| matches!(it.cause, Cause::Ejected { .. }) && it.state.is_active())
        };
        stage.pass(60, &[]);
        stage.pass(15, &["n3"]);
        stage.clock.0.fetch_add(90_000, Ordering::Relaxed);
        stage.pass(30, &["n3"]);
        assert!(is_paged());
        if is_stopped {
            stage.collector.judgement().stop_steering(Some("ada".to_owned()), stage.clock.wall());
        }
        stage.pass(600, &[]);
        assert!(!is_paged(), "stopped: {is_stopped}");
    }
}

#[tokio::test]
async fn where_two_are_frozen_none_leaves_and_a_page_says_why() {
    let stage = Stage::new(Mode::Live).await;
    stage.pass(60, &[]);
    stage.pass(30, &["n2", "n3"]);
    assert!(stage.out().is_empty());
    let incidents = stage.incidents();
    let refused = incidents.iter().find(|it| matches!(it.cause, Cause::NotEjected { .. })).unwrap();
    assert!(refused.state.is_active());
    assert_eq!(
        refused.summary(),
        "ingest: 2 nodes are bad, none is taken out: of 3 nodes 2 must stay in rotation (n2, n3); this is no failure of single nodes"
    );
    assert!(stage.history()[0].starts_with("2 nodes are bad, none is taken out: "));
    stage.pass(200, &[]);
    let incidents = stage.incidents();
    let refused = incidents.iter().find(|it| matches!(it.cause, Cause::NotEjected { .. })).unwrap();
    assert!(!refused.state.is_active(), "it is over with its cause");
}

#[tokio::test]
async fn a_life_that_is_killed_forgets_neither_who_is_out_nor_the_budget() {
    let mut stage = Stage::new(Mode::Live).await;
    stage.pass(60, &[]);
    stage.pass(15, &["n3"]);
    assert_eq!(stage.out(), ["n3"]);
    stage.killed().await;
    assert!(stage.collector.advised().is_none(), "nothing is said before a second was judged");
    stage.pass(90, &["n2", "n3"]);
    assert_eq!(stage.out(), ["n3"]);
    assert!(stage.history().iter().any(|line| line.starts_with("1 node is bad, it is not taken out: ")));
}

#[tokio::test]
async fn silence_and_what_all_share_take_none_out() {
    let stage = Stage::new(Mode::Live).await;
    stage.pass(60, &[]);
    stage.pass(60, &NODES);
    assert!(stage.out().is_empty());
    stage.clock.0.fetch_add(45, Ordering::Relaxed);
    stage.collector.judge_now();
    assert!(stage.out().is_empty());
}

#[tokio::test]
async fn a_dry_run_changes_nothing_but_the_history() {
    let stage = Stage::new(Mode::DryRun).await;
    stage.pass(60, &[]);
    stage.pass(40, &["n3"]);
    assert_eq!(stage.state("n3"), (Of::In, 100));
    assert!(stage.history()[0].starts_with("n3 would be taken out of rotation (dry run): "));
    assert_eq!(stage.collector.leases("n3"), None);
}

/// In a list that all loopback agents share, or in that of the node which fails.
#[tokio::test]
async fn an_endpoint_that_never_worked_hides_no_node_neither_while_it_is_there_nor_after() {
    for mistaken in [&NODES[..], &["n3"]] {
        for is_removed in [false, true] {
            let mut stage = Stage::new(Mode::Live).await;
            let listed = |node: &str, urls: &[&str]| {
                let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
                roster(VantageKind::Loopback, node, &urls)
            };
            let right: Vec<Roster> = stage.rosters[..3].to_vec();
            for (place, node) in NODES.iter().enumerate().filter(|(_, node)| mistaken.contains(node)) {
                stage.rosters[place] = listed(node, &["tcp://127.0.0.1:2003", TYPO]);
            }
            stage.pass(70, &[]);
            if is_removed {
                let since = stage.clock.wall().second();
                for (roster, right) in stage.rosters.iter_mut().zip(right) {
                    *roster = Roster { since, ..right };
                }
                stage.pass(70, &[]);
            }
            assert!(stage.out().is_empty());
            stage.pass(15, &["n3"]);
            assert_eq!(stage.out(), ["n3"], "mistaken on {mistaken:?}, removed: {is_removed}");
            // And it is seen to be well again.
            stage.pass(75, &[]);
            assert_eq!(stage.state("n3"), (Of::Returning, 10));
        }
    }
}

#[tokio::test]
async fn an_agent_that_fell_silent_lends_the_others_nothing() {
    let mut stage = Stage::new(Mode::Live).await;
    let more = ["old1", "old2", "old3"]
        .map(|node| roster(VantageKind::Loopback, node, &["tcp://127.0.0.1:2003".to_owned()]));
    let few = std::mem::take(&mut stage.rosters);
    stage.rosters = few.iter().cloned().chain(more).collect();
    stage.pass(60, &[]);
    stage.rosters = few;
    stage.pass(30, &[]);
    stage.pass(30, &["n3"]);
    assert!(stage.out().is_empty());
    let expected = "1 node is bad, it is not taken out: of 6 nodes 3 must stay in rotation, and 3 of them are measured by nobody (n3)";
    assert_eq!(stage.history(), [expected]);
}

async fn answer(client: &Client, url: &str) -> (StatusCode, Value) {
    let answer = client.get(url).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_is_told_where_nodes_are_and_until_when() {
    let stage = Stage::new(Mode::Live).await;
    let (url, _server) = stage.served().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let nodes = format!("{url}/v1/nodes/ingest");
    let early = client.get(&nodes).send().await.unwrap();
    assert_eq!((early.status().as_u16(), &early.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(answer(&client, &format!("{url}/v1/nodes/other")).await.0, StatusCode::NOT_FOUND);

    stage.pass(60, &[]);
    stage.pass(15, &["n3"]);
    let (status, body) = answer(&client, &nodes).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&body["service"], &body["mode"]), (&json!("ingest"), &json!("live")));
    let well = &body["nodes"]["n1"];
    assert_eq!(
        (&well["state"], &well["weight"], &well["evidence"]),
        (&json!("in"), &json!(100), &Value::Null)
    );
    let out = &body["nodes"]["n3"];
    assert_eq!((&out["state"], &out["weight"]), (&json!("out"), &json!(0)));
    assert_eq!(out["evidence"]["vantages"], json!(["dc-1", "loopback"]));
    assert_eq!((&out["evidence"]["window"], &out["evidence"]["peers"]["lost"]), (&json!(8), &json!(0)));
    assert_eq!(out["until"], "2025-11-21T02:02:15Z");

    // The agent on that node is told with the answer to its report, and no other.
    let now = stage.clock.wall().second();
    for (roster, is_told) in stage.rosters.iter().zip([false, false, true, false]) {
        let body = report(roster, now, &["n3"]).encode();
        let answer = client.post(format!("{url}/api/v1/reports")).body(body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer.get("rotation").is_some(), is_told, "{answer}");
        if is_told {
            let lease = &answer["rotation"]["ingest"];
            assert_eq!((&lease["state"], &lease["weight"]), (&json!("out"), &json!(0)));
            assert_eq!(lease["until_us"], json!((now.0 + 60) * 1_000_000));
        }
    }

    // Somebody stops it: all are in, before they are answered, and it is said.
    let stopped = client.post(format!("{url}/api/v1/rotation/stop")).send().await.unwrap();
    assert_eq!(stopped.status(), StatusCode::OK);
    assert!(stage.collector.advised().unwrap().services.is_empty());
    stage.pass(30, &["n3"]);
    let (_, status) = answer(&client, &format!("{url}/api/v1/rotation")).await;
    assert!(status["stopped"].is_string(), "{status}");
    assert_eq!(status["ejections"][0]["node"], "n3");
    client.post(format!("{url}/api/v1/rotation/resume")).send().await.unwrap();
    stage.pass(60, &["n3"]);
    assert_eq!(stage.out(), ["n3"]);

    // What is not judged any more is not told for longer than it was promised.
    stage.clock.0.fetch_add(61, Ordering::Relaxed);
    assert_eq!(answer(&client, &nodes).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(stage.collector.leases("n3"), None);
}

/// Another system that is asked to set nodes: each body that it was sent, and whether it confirms them.
struct Other {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
    confirms: Arc<AtomicBool>,
    _stop: watch::Sender<bool>,
}

impl Other {
    async fn new() -> Self {
        aviary_probe::install_crypto_provider();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let confirms = Arc::new(AtomicBool::new(true));
        let (kept, is_well) = (Arc::clone(&seen), Arc::clone(&confirms));
        let take = move |body: String| async move {
            kept.lock().unwrap().push(body);
            let is_well = is_well.load(Ordering::Relaxed);
            if is_well { StatusCode::NO_CONTENT } else { StatusCode::INTERNAL_SERVER_ERROR }
        };
        let (stop, stopped) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        serve_until(stopped, axum::Router::new().route("/{node}", put(take)), listener);
        Self { url, seen, confirms, _stop: stop }
    }

    fn outlet(&self) -> Outlet {
        let request = Request {
            method: "PUT".to_owned(),
            url: format!("{}/{{{{ node }}}}", self.url),
            headers: Vec::new(),
            body: Some("{{ weight }}".to_owned()),
            statuses: Vec::new(),
            allow_private: true,
        };
        Outlet::new(OutletKind::Request(request), &[]).unwrap()
    }

    /// What it applied last, whether or not it confirmed that.
    fn weight(&self) -> Option<String> {
        self.seen.lock().unwrap().last().cloned()
    }
}

/// Seconds pass by the stage's clock, and attempts by the real one, until that is enough.
async fn pass_until(
    stage: &Stage,
    frozen: &[&str],
    is_enough: impl Fn(OutletFigures) -> bool,
) -> OutletFigures {
    for _ in 0..400 {
        stage.pass(1, frozen);
        tokio::time::sleep(Duration::from_millis(25)).await;
        if let [figures] = stage.collector.figures().rotation.outlets[..]
            && is_enough(figures)
        {
            return figures;
        }
    }
    panic!("{:?}", stage.collector.figures().rotation.outlets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outlet_is_told_until_it_confirms_and_what_it_has_not_confirmed_is_counted() {
    let stage = Stage::new(Mode::Live).await;
    let other = Other::new().await;
    let _servers = stage.collector.serve_outlets(vec![other.outlet()]);
    stage.pass(60, &[]);
    let idle = OutletFigures { outlet: "request", ..OutletFigures::default() };
    pass_until(&stage, &[], |it| it == idle).await;
    other.confirms.store(false, Ordering::Relaxed);
    let owing = pass_until(&stage, &["n3"], |it| it.in_vain == 2).await;
    assert_eq!((owing.owed, owing.confirmed), (1, 0), "{owing:?}");
    other.confirms.store(true, Ordering::Relaxed);
    let taken = pass_until(&stage, &["n3"], |it| it.owed == 0).await;
    assert_eq!(taken.confirmed, 1, "{taken:?}");
    assert_eq!(other.weight().as_deref(), Some("0"));
}

/// The switch is laid while the other system applies what it never confirms, of a node that it knew to be in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_applied_and_not_confirmed_is_taken_back() {
    let stage = Stage::new(Mode::Live).await;
    let other = Other::new().await;
    let _servers = stage.collector.serve_outlets(vec![other.outlet()]);
    stage.pass(60, &[]);
    pass_until(&stage, &["n3"], |it| it.confirmed == 1).await;
    stage.pass(200, &[]);
    pass_until(&stage, &[], |it| it.owed == 0).await;
    assert_eq!((stage.state("n3"), other.weight().as_deref()), ((Of::In, 100), Some("100")));

    other.confirms.store(false, Ordering::Relaxed);
    let tried = stage.collector.figures().rotation.outlets[0].in_vain;
    pass_until(&stage, &["n3"], |it| it.in_vain > tried).await;
    assert_eq!(other.weight().as_deref(), Some("0"));
    stage.collector.judgement().stop_steering(Some("somebody".to_owned()), stage.clock.wall());
    stage.pass(1, &["n3"]);
    other.confirms.store(true, Ordering::Relaxed);
    pass_until(&stage, &["n3"], |it| it.owed == 0).await;
    assert_eq!(other.weight().as_deref(), Some("100"), "all nodes are in rotation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_life_tells_that_a_node_is_in_which_it_never_saw_out_and_tells_it_once() {
    let mut stage = Stage::new(Mode::Live).await;
    let other = Other::new().await;
    let servers = stage.collector.serve_outlets(vec![other.outlet()]);
    stage.pass(60, &[]);
    // The ejection is forgotten after a day, and the node is still out.
    pass_until(&stage, &["n3"], |it| it.confirmed == 1).await;
    stage.clock.0.fetch_add(2 * 86_400, Ordering::Relaxed);
    stage.pass(1, &["n3"]);
    for server in servers {
        server.stop().await;
    }
    stage.mode = Mode::DryRun;
    for told in [2, 2] {
        stage.killed().await;
        let servers = stage.collector.serve_outlets(vec![other.outlet()]);
        stage.pass(1, &["n3"]);
        // Nothing is owed before the first look either.
        let is_told = |it: OutletFigures| it.owed == 0 && other.seen.lock().unwrap().len() >= told;
        pass_until(&stage, &["n3"], is_told).await;
        for _ in 0..20 {
            stage.pass(1, &["n3"]);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(other.seen.lock().unwrap().len(), told);
        assert_eq!(
            other.weight().as_deref(),
            Some("100"),
            "whoever was told it is out is told that it is not"
        );
        for server in servers {
            server.stop().await;
        }
    }
}

/// What is answered to a check.
async fn checked(at: std::net::SocketAddr, question: &[u8]) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    let mut stream = socket.connect(at).await.unwrap();
    stream.write_all(question).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_checks_are_answered_with_weights_and_never_before_anything_is_known() {
    let stage = Stage::new(Mode::Live).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let at = socket.local_addr().unwrap();
    let server = stage.collector.serve_agent_checks(socket);
    assert!(TcpSocket::new_v4().unwrap().connect(at).await.is_err(), "a failed check changes nothing");

    stage.pass(60, &[]);
    while TcpSocket::new_v4().unwrap().connect(at).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(checked(at, b"ingest/n3\n").await, "100%\n");
    stage.pass(15, &["n3"]);
    let table: [(&[u8], &str); 7] = [
        (b"ingest/n3\n", "0%\n"),
        (b"ingest/n3\r\n", "0%\n"),
        (b"ingest/n1\n", "100%\n"),
        (b"ingest/n9\n", "100%\n"),
        (b"other/n3\n", "100%\n"),
        (b"\n", "100%\n"),
        (&[0xff; 600], "100%\n"),
    ];
    for (question, expected) in table {
        assert_eq!(checked(at, question).await, expected, "{question:?}");
    }
    stage.pass(75, &[]);
    assert_eq!(checked(at, b"ingest/n3\n").await, "10%\n");
    server.stop().await;
}
