//! A collector lives through a script, and what it stored is replayed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aviary_core::{
    Clock, Evidence, Fault, Micros, Outcome, Phase, Tag, VantageKind,
    page::Receiver,
    silence::{Matches, When},
};
use aviary_wire::report::{Report, Roster, RosterSeries};
use tokio::net::TcpListener;

use super::*;
use crate::{Alerting, Collector, Options};

const START: u64 = 1_763_690_400;
const REGIONS: [&str; 3] = ["ap", "eu", "us"];
const ENDPOINTS: [&str; 2] = ["tcp://h:1", "tls://h:2"];

const DELIVERED: Outcome = Outcome::Delivered(Evidence::PeerClosed);
const TIMED_OUT: Outcome = Outcome::Lost { phase: Phase::Confirm, fault: Fault::Timeout };
const REFUSED: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };

/// What becomes of a slot: what its sender tells, and whether storage shows it.
type Script = fn(&str, &str, u64) -> (Outcome, bool);

/// A clock that is set.
#[derive(Clone, Default)]
struct Set(Arc<AtomicU64>);

impl Clock for Set {
    fn wall(&self) -> Timestamp {
        at(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

fn at(second: u64) -> Timestamp {
    Second(START + second).start()
}

fn name(region: &str, endpoint: &str) -> String {
    format!("canary.{region}.{}", endpoint.replace(['/', ':', '.'], "_"))
}

fn roster(region: &str) -> Roster {
    let series = ENDPOINTS.iter().map(|url| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: url.parse().unwrap(),
        address: None,
        name: name(region, url),
        from: Second(START),
    });
    let vantage = Vantage {
        kind: VantageKind::External,
        region: region.to_owned(),
        zone: None,
        network: Some(format!("net-{region}")),
        node: format!("node-{region}"),
    };
    Roster { vantage, since: Second(START), series: series.collect() }
}

fn rules(service: ServiceOptions) -> Rules {
    let receiver = Receiver { wakes: true, ..Receiver::default() };
    let paging = Paging::new(vec![("oncall".to_owned(), receiver)], vec![], BTreeMap::new());
    Rules { name: "main".to_owned(), services: vec![service], paging, silences: Vec::new() }
}

/// When an incident was told and when it was over, in seconds from the start.
type Story = Vec<(u64, Option<u64>)>;

/// Lives through `seconds` of `script` with a collector, and returns what it told, and then its stored slots.
async fn live(rules: &Rules, seconds: u64, script: Script) -> (Story, Vec<Stored>) {
    aviary_probe::install_crypto_provider();
    let clock = Set::default();
    let options = Options {
        name: rules.name.clone(),
        services: rules.services.clone(),
        paging: rules.paging.clone(),
        silences: rules.silences.clone(),
        ..Options::default()
    };
    let collector = Collector::new(options, clock.clone()).unwrap();
    let mut actions = collector.page_actions().unwrap();
    let mut story = Story::new();
    for second in 1..=seconds {
        for region in REGIONS {
            let roster = roster(region);
            // Whoever waits for the deadline knows it a second later.
            let slots = [second - 1, second.saturating_sub(2)].into_iter().flat_map(|of| {
                let slots = ENDPOINTS.iter().zip(0..).filter_map(move |(endpoint, series)| {
                    let outcome = script(region, endpoint, of).0;
                    let is_due = if outcome == TIMED_OUT { of + 2 } else { of + 1 } == second;
                    let second = Second(START + of);
                    is_due.then_some(ClosedSlot { series, second, outcome, reached: None, address: None })
                });
                slots.collect::<Vec<_>>()
            });
            let report = Report {
                boot: 1,
                sequence: second,
                wall: at(second),
                roster_id: roster.id(),
                roster: Some(roster),
                slots: slots.collect(),
                ..Report::default()
            };
            collector.state().take(&report, None, at(second)).unwrap();
            for endpoint in ENDPOINTS.iter().filter(|endpoint| script(region, endpoint, second - 1).1) {
                collector.state().stored(&name(region, endpoint), Second(START + second - 1));
            }
        }
        clock.0.store(second, Ordering::SeqCst);
        collector.judge(at(second)).await;
        while let Ok(action) = actions.try_recv() {
            if let Action::Send { id, receiver, attempt, .. } = action {
                match attempt.message {
                    Message::Opened => story.push((second, None)),
                    Message::Resolved => story.last_mut().unwrap().1 = Some(second),
                    _ => {}
                }
                let sent = Sent::Taken { say_again: None };
                collector
                    .take_ended(page::Event::Finished { id, receiver, attempt: attempt.number, sent }, None);
            }
        }
    }
    // What is asked for is settled by then.
    clock.0.store(seconds + 30, Ordering::SeqCst);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v1/slots", listener.local_addr().unwrap());
    let server = collector.serve(listener);
    let url = format!("{url}?from={START}&until={}", START + seconds);
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status(), 200);
    #[derive(serde::Deserialize)]
    struct Answer {
        series: Vec<Stored>,
    }
    let answer: Answer = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    server.stop().await;
    (story, answer.series)
}

/// The same slots in parts of `seconds` each.
fn parts(stored: &[Stored], whole: u64, seconds: u64) -> Vec<(Vec<Stored>, Second)> {
    let part = |first: u64| {
        let span = Span::new(Second(START + first), Second(START + (first + seconds).min(whole)));
        let cut = |stored: &Stored| Stored {
            tags: stored.tags.clone(),
            slots: stored.slots.iter().filter(|slot| span.contains(Second(slot.second))).cloned().collect(),
        };
        (stored.iter().map(cut).collect(), span.until)
    };
    (0..whole).step_by(seconds as usize).map(part).collect()
}

fn replayed(rules: Rules, parts: Vec<(Vec<Stored>, Second)>) -> Vec<Told> {
    let mut replay = Replay::new(rules, Second(START));
    let mut told = Vec::new();
    for (stored, until) in parts {
        told.extend(replay.feed(stored, until).unwrap());
    }
    told.extend(replay.finish());
    told
}

fn story(told: &[Told]) -> Story {
    told.iter().map(|told| (told.at - START, told.cleared.map(|at| at - START))).collect()
}

/// Two losses: a protocol for a while, and then a region.
fn two_losses(region: &str, endpoint: &str, second: u64) -> (Outcome, bool) {
    match second {
        120..160 if endpoint.starts_with("tcp") => (TIMED_OUT, false),
        400..430 if region == "eu" => (REFUSED, false),
        _ => (DELIVERED, true),
    }
}

#[tokio::test]
async fn what_was_paged_is_what_replay_tells_second_for_second() {
    let rules = rules(ServiceOptions::unconfigured("ingest"));
    let (lived, stored) = live(&rules, 600, two_losses).await;
    assert_eq!(lived.len(), 2, "{lived:?}");
    assert!(lived.iter().all(|(_, over)| over.is_some()), "{lived:?}");
    for seconds in [600, 97] {
        let told = replayed(rules.clone(), parts(&stored, 600, seconds));
        assert_eq!(story(&told), lived, "in parts of {seconds} s");
        assert_eq!(told[0].summary, "ingest: tcp in every region (3/3), 100 % lost; nothing else");
        assert_eq!((told[0].urgency, &told[0].to), ("page", &["oncall".to_owned()].into()));
        assert_eq!(told[0].extent[0]["matches"]["protocol"], "tcp", "{:?}", told[0].extent);
    }
}

#[tokio::test]
async fn a_stricter_rule_pages_earlier_and_a_silenced_one_not_at_all() {
    let usual = rules(ServiceOptions::unconfigured("ingest"));
    let (lived, stored) = live(&usual, 300, two_losses).await;
    let at_once = Alerting { page_after: 0, ..Alerting::default() };
    let strict = rules(ServiceOptions { alerting: at_once, ..ServiceOptions::unconfigured("ingest") });
    let told = replayed(strict, parts(&stored, 300, 300));
    assert!(told[0].at - START < lived[0].0, "{told:?} and {lived:?}");
    let silence = Silence {
        id: "works".to_owned(),
        matches: Matches::one(Tag::Protocol, "tcp"),
        when: When::Once(Span::new(Second(START), Second(START + 300))),
        author: "ada".to_owned(),
        reason: "new switches".to_owned(),
        announce: None,
    };
    let silent = Rules { silences: vec![silence], ..usual.clone() };
    assert_eq!(replayed(silent, parts(&stored, 300, 300)), []);
    let shadow = Alerting { shadow: true, ..Alerting::default() };
    let shadow = rules(ServiceOptions { alerting: shadow, ..ServiceOptions::unconfigured("ingest") });
    let told = replayed(shadow, parts(&stored, 300, 300));
    assert_eq!(story(&told), lived);
    assert!(told[0].shadow && told[0].to.is_empty(), "{told:?}");
}

#[tokio::test]
async fn what_storage_lacked_is_lost_when_that_was_settled() {
    let rules = rules(ServiceOptions { storage: true, ..ServiceOptions::unconfigured("ingest") });
    // Every sender says that it was delivered.
    let swallowed: Script =
        |_, endpoint, second| (DELIVERED, !(endpoint.starts_with("tls") && (120..170).contains(&second)));
    let (lived, stored) = live(&rules, 400, swallowed).await;
    assert_eq!(lived.len(), 1, "{lived:?}");
    let told = replayed(rules.clone(), parts(&stored, 400, 100));
    assert_eq!(story(&told), lived);
    assert!(told[0].summary.starts_with("ingest: tls in every region"), "{}", told[0].summary);
}

#[tokio::test]
async fn a_series_that_ended_is_not_missed() {
    let rules = rules(ServiceOptions::unconfigured("ingest"));
    let (_, mut stored) = live(&rules, 300, |_, _, _| (DELIVERED, true)).await;
    for series in stored.iter_mut().filter(|series| series.tags["region"] == "eu") {
        series.slots.retain(|slot| slot.second < START + 150);
    }
    assert_eq!(replayed(rules, parts(&stored, 300, 100)), []);
}

#[test]
fn what_is_no_answer_of_a_collector_is_refused() {
    let stored = |tags: Value, slot: Value| -> Vec<Stored> {
        serde_json::from_value(serde_json::json!([{"tags": tags, "slots": [slot]}])).unwrap()
    };
    let tags = |endpoint: &str| {
        serde_json::json!({"service": "ingest", "kind": "external", "region": "eu", "zone": "none", "network": "aws",
            "node": "a", "endpoint": endpoint, "address": "none", "protocol": "tcp"})
    };
    let slot = |second: u64, fault: &str| serde_json::json!({"second": second, "outcome": "lost", "phase": "connect", "fault": fault});
    let table = [
        (stored(tags("tcp://h:1"), slot(START + 99, "refused")), "were told of the seconds from"),
        (stored(tags("tcp://h:1"), slot(START, "gremlins")), "fault"),
        (stored(tags("gopher://h:1"), slot(START, "refused")), "endpoint"),
        (stored(serde_json::json!({"service": "ingest"}), slot(START, "refused")), "series"),
    ];
    for (stored, expected) in table {
        let mut replay = Replay::new(rules(ServiceOptions::unconfigured("ingest")), Second(START));
        let error = replay.feed(stored, Second(START + 10)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
