//! What the service under test forwards to us.

use aviary_core::{Protocol, plan::phase_us};

use super::*;
use crate::received::Arrived;

const A: &str = "tcp://h:1";

fn point(name: &str, offset: i64, late_us: u64) -> Arrived<'_> {
    let second = second(offset);
    Arrived { name, second, value: 1.0, at: second.start().plus(u64::from(phase_us(name)) + late_us) }
}

#[test]
fn what_arrives_is_stored_and_timed_and_what_is_odd_is_counted() {
    let mut state = state(true);
    let roster = roster("n", &[A]);
    let name = &*roster.series[0].name;
    let outcomes = [DELIVERED, TIMED_OUT, DELIVERED, DELIVERED];
    let slots = (0_i64..).zip(outcomes).map(|(offset, outcome)| slot(0, offset, outcome)).collect();
    state.take(&report(&roster, slots), None, at(4)).unwrap();
    state.receive(point(name, 0, 4_000));
    state.receive(point(name, 0, 9_000));
    state.receive(Arrived { value: 2.0, ..point(name, 1, 1_500_000) });
    state.receive(point(name, 2, 7_200_000_000));
    state.judge(at(20));
    let expected = Window { scheduled: 4, delivered: 2, lost: 2, late: 1, ..Window::default() };
    assert_eq!(window(&state, 0, 4), expected, "one came late, and one did not");
    let counts = state.received().group("ingest", Protocol::Tcp).unwrap();
    assert_eq!((counts.arrived, counts.duplicates, counts.mangled), (3, 1, 1));
    let delays: Vec<_> =
        [0.0, 0.5, 1.0].iter().map(|share| counts.delays.quantile(*share).unwrap()).collect();
    assert_eq!(delays, [3_840, 1_441_792, 1 << 21], "to within an eighth, and no more than two seconds");
}

#[test]
fn a_datapoint_that_is_faster_than_the_first_report_waits_for_it() {
    let mut state = state(true);
    let roster = roster("n", &[A]);
    let name = &*roster.series[0].name;
    state.receive(point(name, 0, 4_000));
    state.receive(point("canary.somebody.else", 0, 4_000));
    state.advance(at(2));
    assert_eq!(state.counts().unowned, 0);
    state.take(&report(&roster, vec![slot(0, 0, DELIVERED)]), None, at(2)).unwrap();
    assert_eq!(window(&state, 0, 1), Window { scheduled: 1, delivered: 1, ..Window::default() });
    state.advance(at(12));
    assert_eq!(state.counts().unowned, 1);
    let shown = serde_json::to_value(state.received().unowned()).unwrap();
    assert_eq!(shown[0]["name"], "canary.somebody.else", "{shown}");
}

#[test]
fn what_waits_is_bounded() {
    let mut state = state(true);
    for number in 0..10_000_u32 {
        state.receive(point(&format!("x.y.z{number}"), 0, 0));
    }
    assert_eq!(state.counts().unowned, 10_000 - 8_192);
    state.advance(at(30));
    assert_eq!(state.counts().unowned, 10_000);
}
