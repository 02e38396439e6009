//! What was told long ago, asked of a running collector.

use std::time::Duration;

use aviary_core::{Evidence, Fault, Outcome, Phase, Protocol, Second, Span, histogram::Histogram};
use aviary_wire::report::{ClosedSlot, Gap, PhaseTimings, Report, Roster};
use serde_json::{Value, json};

use crate::support::{
    aviary::{Aviary, now},
    http, report,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that was started so long ago that the collector's ledger holds nothing of then.
fn roster(since: Second) -> Roster {
    let endpoints = ["tcp", "tls"].map(|protocol| {
        (format!("{protocol}://graphite.example.com:2003"), format!("canary.ingest.{protocol}"))
    });
    report::roster(("eu", "canary-7"), since, endpoints)
}

#[track_caller]
fn post(running: &Aviary, report: &Report) -> Value {
    let (status, body) =
        http::request(running.collector, "POST", "/api/v1/reports", &[], &report.encode(), PATIENCE).unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn what_comes_most_of_an_hour_late_is_kept_summed_and_told_second_by_second() {
    let running = Aviary::start("");
    let since = Second((now().0 - 3_000) / 60 * 60);
    let roster = roster(since);
    let lost = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };
    let slot = |(second, series): (u64, u32)| {
        let is_lost = second % 100 == 7 && series == 1;
        ClosedSlot {
            series,
            second: Second(second),
            outcome: if is_lost { lost } else { Outcome::Delivered(Evidence::PeerClosed) },
            reached: None,
            address: is_lost.then(|| "192.0.2.1:2003".parse().unwrap()),
        }
    };
    let until = now().minus(10);
    let mut histogram = Histogram::default();
    (0..60).for_each(|_| histogram.record(64));
    let timings = PhaseTimings {
        service: "ingest".to_owned(),
        protocol: Protocol::Tls,
        phase: Phase::Tls,
        minute: since,
        histogram,
    };
    let away = Span::new(since.plus(600), since.plus(660));
    let told = Report {
        slots: (since.0..until.0)
            .filter(|second| !away.contains(Second(*second)))
            .flat_map(|second| [(second, 0), (second, 1)])
            .map(slot)
            .collect(),
        gaps: vec![Gap { first: 0, count: 2, span: away, outcome: Outcome::Missed }],
        timings: vec![timings],
        ..report::telling(&roster, until)
    };
    let receipt = post(&running, &told);
    assert_eq!((receipt["too_old"].as_u64(), receipt["ahead"].as_u64()), (Some(0), Some(0)), "{receipt}");
    post(&running, &told);

    let seconds = until.0 - since.0;
    let losses =
        (since.0..until.0).filter(|second| second % 100 == 7 && !away.contains(Second(*second))).count();
    // Across the seam between what is live and what is not, in one sum.
    let sums = format!("/api/v1/sums?by=protocol&until={until}&window={seconds}s");
    let all = running.wait_for(&sums, PATIENCE, |sums| {
        sums["groups"].as_array().is_some_and(|groups| groups.iter().all(|group| group["unknown"] == 0))
    });
    let groups = all["groups"].as_array().unwrap();
    let counts =
        |row: &Value| ["scheduled", "delivered", "lost", "missed"].map(|class| row[class].as_u64().unwrap());
    assert_eq!(
        groups.iter().map(counts).collect::<Vec<_>>(),
        [[seconds, seconds - 60, 0, 60], [seconds, seconds - 60 - losses as u64, losses as u64, 60],]
    );
    let in_steps = running.get(&format!("{sums}&step=1s"));
    let rows = in_steps["groups"].as_array().unwrap();
    assert_eq!(rows.len() as u64, 2 * seconds, "however many rows, they come");
    assert_eq!(rows.iter().map(|row| row["lost"].as_u64().unwrap()).sum::<u64>(), losses as u64);

    let slots = running.get(&format!("/api/v1/slots?series=protocol:tls&from={since}&until={until}"));
    let slots = slots["series"][0]["slots"].as_array().unwrap();
    assert_eq!(slots.len() as u64, seconds);
    assert!((since.0..).zip(slots).all(|(second, slot)| slot["second"] == second), "each once, in order");
    let refused = slots.iter().find(|slot| slot["outcome"] == "lost").unwrap();
    let expected = json!({"second": refused["second"], "outcome": "lost", "stored": false, "phase": "connect",
        "fault": "refused", "address": "192.0.2.1:2003"});
    assert_eq!(*refused, expected);
    assert_eq!(slots[600]["outcome"], "missed");

    let timings = format!("/api/v1/timings?by=protocol,node&until={}&window=1m", since.plus(60));
    let expected = json!({"groups": [{"by": {"node": "canary-7", "protocol": "tls"}, "phase": "tls",
        "from": since.0, "until": since.0 + 60, "count": 60, "p50_us": 64, "p90_us": 64, "p99_us": 64}]});
    assert_eq!(running.get(&timings), expected);
}

#[test]
fn a_collector_without_a_disk_says_how_far_back_it_knows() {
    let running = Aviary::start("");
    let path = format!("/api/v1/sums?until={}&window=60s", now().minus(90_000));
    let (status, body) = http::request(running.collector, "GET", &path, &[], &[], PATIENCE).unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("beyond_history")), "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("this collector holds the seconds from"), "{message}");
    // Whoever asks for slots gets those that there are.
    let slots = running.get(&format!("/api/v1/slots?from=0&until={}", now().minus(90_000)));
    assert_eq!(slots, json!({"series": []}));
}
