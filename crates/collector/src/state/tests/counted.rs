//! What is counted since the start.

use std::sync::Arc;

use aviary_core::histogram::Histogram;
use aviary_wire::report::PhaseTimings;

use super::*;
use crate::{history::History, state::counted::GROUPS_MAX};

#[test]
fn a_slot_is_counted_once_as_it_stands_a_minute_after_its_second() {
    let mut state = state(false);
    let roster = roster("n", &["tcp://h:1"]);
    state.count_slots(at(0));
    let slots = (0..30).map(|offset| slot(0, offset, if offset < 20 { DELIVERED } else { TIMED_OUT }));
    state.take(&report(&roster, slots.collect()), None, at(31)).unwrap();
    let counts = |state: &mut State, now| {
        state.advance(at(now));
        state.count_slots(at(now));
        let (counts, left_out) = state.slot_counts(at(now));
        assert_eq!((counts.len(), left_out), (1, 0));
        (counts[0].total, counts[0].recent)
    };
    // At the first look nothing was old enough.
    let (total, recent) = counts(&mut state, 59);
    let before = total.scheduled;
    assert_eq!((total.delivered, total.lost), (0, 0));
    assert_eq!((recent.delivered, recent.lost, recent.unknown), (20, 10, 26));
    let (total, _) = counts(&mut state, 89);
    assert_eq!((total.scheduled - before, total.delivered, total.lost), (20, 20, 0), "in steps of ten");
    let (total, recent) = counts(&mut state, 90);
    assert_eq!((total.delivered, total.lost), (20, 10));
    assert_eq!((recent.scheduled, recent.delivered), (60, 0));
    let again = counts(&mut state, 90).0;
    assert_eq!(again, total, "once");
    // What was counted stays, whatever is told later.
    state.take(&report(&roster, vec![slot(0, 31, DELIVERED)]), None, at(95)).unwrap();
    assert_eq!(counts(&mut state, 99).0, total);
    assert_eq!(counts(&mut state, 100).0.delivered, 21);
}

#[test]
fn groups_beyond_the_bound_are_summed_by_protocol_and_said() {
    let mut state = state(false);
    state.count_slots(at(0));
    let endpoints = ["tcp://h:1", "udp://h:1"];
    for number in 0..GROUPS_MAX / 2 + 5 {
        let mut roster = roster("n", &endpoints);
        roster.vantage.region = format!("r{number}");
        state.take(&report(&roster, vec![slot(0, 5, DELIVERED)]), None, at(6)).unwrap();
        state.slot_counts(at(6));
    }
    state.advance(at(70));
    state.count_slots(at(70));
    let (counts, left_out) = state.slot_counts(at(70));
    assert_eq!((counts.len(), left_out), (GROUPS_MAX + 2, 10));
    let others: Vec<_> = counts.iter().filter(|it| it.region == "(others)").collect();
    assert_eq!(others.len(), 2);
    assert!(others.iter().all(|it| it.service == "(others)"), "{others:?}");
    assert_eq!(others.iter().map(|it| it.total.delivered).sum::<u64>(), 5);
    let all: u64 = counts.iter().map(|it| it.total.delivered).sum();
    assert_eq!(all, GROUPS_MAX as u64 / 2 + 5, "each slot is in one group");
}

#[test]
fn every_series_is_in_one_class() {
    let mut state = state(false);
    let roster = roster("n", &["tcp://h:1", "tls://h:1", "udp://h:1", "https://h/"]);
    let closed = [DELIVERED, TIMED_OUT, DELIVERED].into_iter();
    let slots = (0..).zip(closed).map(|(series, outcome)| slot(series, 10, outcome));
    state.take(&report(&roster, slots.collect()), None, at(12)).unwrap();
    let expected =
        Window { scheduled: 4, delivered: 1, lost: 1, unproven: 1, unknown: 1, ..Window::default() };
    assert_eq!(state.series_by_class(at(19)), expected);
}

#[test]
fn what_is_told_again_of_phases_is_counted_once() {
    let mut state = state(false);
    state.keep_history(Arc::new(History::in_memory(3_600)), at(0)).unwrap();
    let roster = roster("n", &["tcp://h:1"]);
    let mut tell = |counts: &[(u32, u64)], minute: i64, now| {
        let mut histogram = Histogram::default();
        for (micros, count) in counts {
            (0..*count).for_each(|_| histogram.record(*micros));
        }
        let timings = PhaseTimings {
            service: "ingest".to_owned(),
            protocol: Protocol::Tcp,
            phase: Phase::Connect,
            minute: second(minute),
            histogram,
        };
        let report = Report { timings: vec![timings], ..report(&roster, Vec::new()) };
        state.take(&report, None, at(now)).unwrap();
        let phases = state.phases();
        let connect = phases.first().and_then(|(.., phases)| phases[Phase::Connect as usize].clone());
        connect.map_or(0, |histogram| histogram.count())
    };
    assert_eq!(tell(&[(70, 3)], 0, 5), 3);
    assert_eq!(tell(&[(70, 3)], 0, 6), 3, "the same again");
    assert_eq!(tell(&[(70, 5), (900, 1)], 0, 7), 6, "a later state");
    assert_eq!(tell(&[(70, 2)], 0, 8), 6, "an earlier one, late");
    assert_eq!(tell(&[(70, 2)], 60, 65), 8, "another minute");
    assert_eq!(tell(&[(70, 9)], 0, 600), 8, "of a minute that is not remembered any more");
}
