use aviary_core::{Fault, LocalFault, Phase, Vantage, VantageKind};
use aviary_wire::report::RosterSeries;

use super::*;

const LOST: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };
const TAKEN: Outcome = Outcome::Delivered(Evidence::PeerClosed);
const SENT: Outcome = Outcome::Delivered(Evidence::Sent);
const OURS: Outcome = Outcome::Local { phase: Phase::Connect, fault: LocalFault::NoPorts };

const START: Second = Second(1_000);
/// The window from ten seconds after the start on has settled.
const NOW: Second = Second(1_023);

/// Two series that are required and one that is not, of which each does the same in each second.
fn seen(outcomes: [Outcome; 3], acceptable_loss: &str) -> Own {
    let endpoints = ["tcp://h:1", "udp://h:1", "tcp://h:9"];
    let series = endpoints.map(|endpoint| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: endpoint.parse().unwrap(),
        address: None,
        name: endpoint.to_owned(),
        from: START,
    });
    let vantage = Vantage {
        kind: VantageKind::Loopback,
        region: "r".to_owned(),
        zone: None,
        network: None,
        node: "n1".to_owned(),
    };
    let looked = Looked {
        acceptable_loss: acceptable_loss.parse().unwrap(),
        optional: [endpoints[2].parse().unwrap()].into(),
    };
    let mut own = Own::default();
    own.assign(
        &Roster { vantage, since: START, series: series.into() },
        &[("ingest".to_owned(), looked)].into(),
        START,
    );
    for second in (START.0..NOW.0).map(Second) {
        for (series, outcome) in outcomes.iter().enumerate() {
            own.observe(series as u32, second, outcome);
        }
    }
    own
}

#[test]
fn the_last_window_says_how_a_service_is() {
    let table = [
        ([TAKEN, TAKEN, TAKEN], State::Healthy),
        ([TAKEN, SENT, TAKEN], State::Healthy),
        ([TAKEN, TAKEN, LOST], State::Healthy),
        ([LOST, TAKEN, TAKEN], State::Down),
        ([LOST, SENT, TAKEN], State::Down),
        ([SENT, SENT, TAKEN], State::Unproven),
        ([OURS, Outcome::Missed, TAKEN], State::Unproven),
        ([OURS, TAKEN, TAKEN], State::Healthy),
    ];
    for (outcomes, expected) in table {
        assert_eq!(seen(outcomes, "0.5%").state("ingest", NOW), Some(expected), "{outcomes:?}");
    }
    assert_eq!(seen([TAKEN; 3], "0.5%").state("other", NOW), None);
}

#[test]
fn a_window_is_looked_at_once_it_is_whole() {
    let own = seen([TAKEN; 3], "0.5%");
    for (now, expected) in [(1_000, State::Starting), (1_012, State::Starting), (1_013, State::Healthy)] {
        assert_eq!(own.state("ingest", Second(now)), Some(expected), "{now}");
    }
}

#[test]
fn little_is_degraded_and_what_may_be_lost_is_healthy() {
    for (acceptable_loss, expected) in [("0.5%", State::Degraded), ("10%", State::Healthy)] {
        let mut own = seen([TAKEN; 3], acceptable_loss);
        for _ in 0..2 {
            own.observe(0, NOW.minus(5), &LOST);
        }
        assert_eq!(
            own.state("ingest", NOW),
            Some(expected),
            "2 of 22, of which {acceptable_loss} may be lost"
        );
    }
}

#[test]
fn a_clock_that_was_ahead_leaves_nothing_behind() {
    let mut own = seen([TAKEN; 3], "0.5%");
    own.observe(0, NOW.plus(86_400), &TAKEN);
    assert_eq!(own.state("ingest", NOW), Some(State::Unproven));
    for second in (NOW.0..NOW.0 + 13).map(Second) {
        own.observe(0, second, &LOST);
    }
    assert_eq!(own.state("ingest", NOW.plus(13)), Some(State::Down));
}
