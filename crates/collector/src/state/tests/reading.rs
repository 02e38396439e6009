//! What reading back makes of the ledger.

use std::collections::BTreeSet;

use super::*;
use crate::readback::{
    Credentials, Readback, Reader,
    reader::{Said, Unreadable},
};

const URLS: [&str; 2] = ["tcp://h:1", "udp://h:1"];

fn read_back(resolution_seconds: u64) -> ServiceOptions {
    let readback = Readback {
        reader: Reader::Graphite { resolution_seconds, sum: ":sum".to_owned() },
        url: "http://g.example".parse().unwrap(),
        credentials: Credentials::None,
        ca: None,
        settle_seconds: 5,
    };
    ServiceOptions { readback: Some(readback), ..service(true) }
}

/// Reads back each second from `from` to `until`, from a storage that has what `stored` says by name and slot.
fn read(
    state: &mut State,
    seconds: std::ops::Range<u64>,
    stored: impl Fn(&str, Second) -> Option<f64>,
    step: u64,
) {
    for now in seconds.map(at) {
        for question in state.questions("ingest", now) {
            let slots = |name: &str| {
                let slots = (question.span.from.0..question.span.until.0).step_by(step as usize).map(Second);
                Said::Slots(slots.filter_map(|slot| Some((slot, stored(name, slot)?))).collect())
            };
            let said = question.names.iter().map(|name| slots(name)).collect();
            state.answered("ingest", &question, &Ok(said), 1_000, now);
        }
        state.judge(now);
    }
}

fn delivered(state: &mut State, roster: &Roster, seconds: std::ops::Range<i64>) {
    let slots = seconds
        .flat_map(|offset| [slot(0, offset, DELIVERED), slot(1, offset, Outcome::Delivered(Evidence::Sent))]);
    state.take(&report(roster, slots.collect()), None, at(60)).unwrap();
}

#[test]
fn datagrams_become_delivered_and_lost_by_what_is_read_back() {
    let mut state = State::new("test".to_owned(), vec![read_back(1)], NOW);
    let roster = roster("n", &URLS);
    delivered(&mut state, &roster, 0..60);
    let lost = second(30);
    let has = |name: &str, slot: Second| {
        (slot >= second(0) && !(slot == lost && name.contains("udp"))).then_some(1.0)
    };
    read(&mut state, 0..75, has, 1);
    let expected = Window { scheduled: 120, delivered: 119, lost: 1, ..Window::default() };
    assert_eq!(window(&state, 0, 60), expected);
    // What arrives late is found by looking again.
    read(&mut state, 75..150, |_, slot| (slot >= second(0)).then_some(1.0), 1);
    assert_eq!(window(&state, 0, 60), Window { scheduled: 120, delivered: 120, ..Window::default() });
}

#[test]
fn a_sum_tells_of_all_or_none_and_names_no_second_otherwise() {
    let mut state = State::new("test".to_owned(), vec![read_back(30)], NOW);
    let roster = roster("n", &URLS);
    delivered(&mut state, &roster, -90..120);
    let counts = [30.0, 29.0, 30.0, 31.0, 30.0];
    let begin = second(-60);
    assert_eq!(begin.0 % 30, 0);
    let has = |name: &str, slot: Second| {
        let index = slot.0.checked_sub(begin.0)? / 30;
        let count = if name.contains("tcp") { 30.0 } else { *counts.get(index as usize)? };
        Some(count)
    };
    read(&mut state, 60..180, has, 30);
    // Of UDP the second slot lacks one and the fourth has one too many: which second, nobody can say.
    let classes = |from, until| {
        let Window { delivered, lost, unknown, .. } = window(&state, from, until);
        (delivered, lost, unknown)
    };
    assert_eq!(classes(-60, -30), (60, 0, 0));
    assert_eq!(classes(-30, 0), (30, 0, 30));
    assert_eq!(classes(0, 30), (60, 0, 0));
    assert_eq!(classes(30, 60), (30, 0, 30));
    let body = serde_json::to_value(state.read_back("ingest").unwrap().body(None)).unwrap();
    assert_eq!((&body["unplaced"], &body["duplicates"]), (&1.into(), &1.into()), "{body}");
    assert_eq!(body["resolution_seconds"], 30);
}

#[test]
fn what_nobody_can_read_is_blind_for_a_reason_and_no_loss() {
    let mut state = State::new("test".to_owned(), vec![read_back(1)], NOW);
    let roster = roster("n", &URLS);
    delivered(&mut state, &roster, 0..60);
    let unreachable = Unreadable::Timeout { at: "http://g.example".into(), seconds: 3 };
    for now in (0..70).map(at) {
        for question in state.questions("ingest", now) {
            state.answered("ingest", &question, &Err(unreachable.clone()), 3_000_000, now);
        }
        state.judge(now);
    }
    assert_eq!(window(&state, 0, 60), Window { scheduled: 120, unknown: 120, ..Window::default() });
    let (_, standing) = state.standing().next().unwrap();
    assert_eq!(standing.verdict.state, aviary_core::State::Blind);
    assert_eq!(standing.verdict.reason.as_deref(), Some("http://g.example does not answer within 3 s"));
}

#[test]
fn a_name_that_two_series_carry_or_that_is_an_expression_is_not_asked_for() {
    let mut state = State::new("test".to_owned(), vec![read_back(1)], NOW);
    let (one, mut two) = (roster("one", &URLS), roster("two", &["tcp://h:1", "tcp://h:2", "tcp://h:3"]));
    two.series[0].name.clone_from(&one.series[0].name);
    two.series[1].name = "sumSeries(canary.*)".to_owned();
    for roster in [&one, &two] {
        state.take(&report(roster, vec![slot(0, 0, DELIVERED)]), None, at(1)).unwrap();
    }
    let mut asked = BTreeSet::new();
    for now in (1..20).map(at) {
        for question in state.questions("ingest", now) {
            asked.extend(question.names.iter().map(|name| name.to_string()));
            let said = question.names.iter().map(|_| Said::Absent).collect();
            state.answered("ingest", &question, &Ok(said), 1_000, now);
        }
    }
    assert_eq!(asked, [one.series[1].name.clone(), two.series[2].name.clone()].into());
}

#[test]
fn a_service_that_is_read_back_from_now_on_has_its_names_told_again() {
    let mut state = state(false);
    let roster = roster("n", &URLS);
    let mut told = report(&roster, vec![slot(0, 0, DELIVERED)]);
    state.take(&told, None, at(1)).unwrap();
    state.configure(vec![read_back(1)], at(2));
    told.roster = None;
    assert_eq!(state.take(&told, None, at(3)), Err(Refusal::UnknownRoster(told.roster_id)));
    told.roster = Some(roster.clone());
    state.take(&told, None, at(3)).unwrap();
    let names: Vec<_> =
        state.questions("ingest", at(5)).into_iter().flat_map(|question| question.names).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    // Another pace keeps what is known, and none asks no more.
    state.configure(vec![read_back(1)], at(6));
    let body = serde_json::to_value(state.read_back("ingest").unwrap().body(None)).unwrap();
    assert_eq!(body["series"], 2);
    state.configure(vec![service(true)], at(7));
    assert!(state.questions("ingest", at(8)).is_empty());
}
