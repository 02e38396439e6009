mod counted;
mod fleet;
mod kept;
mod lives;
mod reading;
mod receiving;
mod reporters;

use aviary_core::{Evidence, Micros, VantageKind, Window, verdict::Policy};
use aviary_wire::report::RosterSeries;
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_763_690_400_000_000);

fn at(seconds: u64) -> Timestamp {
    NOW.plus(seconds * 1_000_000)
}

fn second(offset: i64) -> Second {
    Second(NOW.second().0.saturating_add_signed(offset))
}

fn roster(node: &str, endpoints: &[&str]) -> Roster {
    let series = endpoints.iter().map(|url| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: url.parse().unwrap(),
        address: None,
        name: format!("canary.{node}.{}", url.replace(['/', ':', '.'], "_")),
        from: second(-100),
    });
    let vantage = Vantage {
        kind: VantageKind::External,
        region: "eu".to_owned(),
        zone: None,
        network: None,
        node: node.to_owned(),
    };
    Roster { vantage, since: second(-100), series: series.collect() }
}

fn slot(series: u32, offset: i64, outcome: Outcome) -> ClosedSlot {
    ClosedSlot { series, second: second(offset), outcome, reached: None, address: None }
}

const DELIVERED: Outcome = Outcome::Delivered(Evidence::PeerClosed);
const TIMED_OUT: Outcome = Outcome::Lost { phase: Phase::Confirm, fault: Fault::Timeout };
const REFUSED: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };

fn report(roster: &Roster, slots: Vec<ClosedSlot>) -> Report {
    Report {
        boot: 1,
        sequence: 0,
        epoch: 0,
        wall: NOW,
        monotonic: Micros(0),
        configuration: "test".to_owned(),
        dropped: 0,
        roster_id: roster.id(),
        roster: Some(roster.clone()),
        slots,
        gaps: Vec::new(),
        ..Report::default()
    }
}

fn service(storage: bool) -> ServiceOptions {
    ServiceOptions { storage, ..ServiceOptions::unconfigured("ingest") }
}

fn state(storage: bool) -> State {
    State::new("test".to_owned(), vec![service(storage)], NOW)
}

fn window(state: &State, from: i64, until: i64) -> Window {
    let groups = vec![0; state.ledger.len()];
    state.ledger.sums(Span::new(second(from), second(until)), &groups, 1)[0]
}

#[test]
fn storage_decides_and_what_it_lacks_is_lost_once_settled() {
    let mut state = state(true);
    let roster = roster("n", &["tcp://h:1"]);
    let name = roster.series[0].name.clone();
    let outcomes = [DELIVERED, DELIVERED, TIMED_OUT, TIMED_OUT, REFUSED, Outcome::Missed];
    let slots = (0_i64..).zip(outcomes).map(|(offset, outcome)| slot(0, offset, outcome)).collect();
    state.take(&report(&roster, slots), None, at(6)).unwrap();
    assert_eq!(
        window(&state, 0, 6),
        Window { scheduled: 6, unknown: 2, lost: 3, missed: 1, ..Window::default() }
    );
    for stored in [0, 2] {
        state.stored(&name, second(stored));
    }
    state.stored("canary.of.somebody.else", second(0));
    assert_eq!(state.counts().unowned, 1);
    state.judge(at(9));
    let settled = Window { scheduled: 6, delivered: 1, lost: 4, late: 1, missed: 1, ..Window::default() };
    assert_eq!(window(&state, 0, 6), Window { unknown: 1, lost: 3, ..settled }, "second 1 can still come");
    state.judge(at(20));
    assert_eq!(window(&state, 0, 6), settled);
    state.stored(&name, second(1));
    assert_eq!(window(&state, 0, 6), Window { delivered: 2, lost: 3, ..settled }, "found after all");
}

#[test]
fn a_series_that_storage_never_showed_stays_unknown() {
    let mut state = state(true);
    let roster = roster("n", &["tcp://h:1"]);
    state.take(&report(&roster, vec![slot(0, 0, DELIVERED)]), None, at(1)).unwrap();
    state.judge(at(60));
    assert_eq!(window(&state, 0, 1), Window { scheduled: 1, unknown: 1, ..Window::default() });
}

#[test]
fn what_storage_may_have_kept_to_itself_is_not_settled() {
    let mut state = state(true);
    let roster = roster("n", &["tcp://h:1"]);
    let slots = (0..8).map(|offset| slot(0, offset, DELIVERED)).collect();
    state.take(&report(&roster, slots), None, at(8)).unwrap();
    state.stored(&roster.series[0].name, second(0));
    state.storage_untold(second(4));
    state.judge(at(20));
    let expected = Window { scheduled: 8, delivered: 1, unknown: 4, lost: 3, ..Window::default() };
    assert_eq!(window(&state, 0, 8), expected);
}

#[test]
fn udp_without_storage_is_unproven_and_a_mixed_service_is_not_blamed_for_it() {
    let mut state = state(false);
    let roster = roster("n", &["tcp://h:1", "udp://h:1"]);
    let slots = (0..60)
        .flat_map(|offset| [slot(0, offset, DELIVERED), slot(1, offset, Outcome::Delivered(Evidence::Sent))]);
    state.take(&report(&roster, slots.collect()), None, at(60)).unwrap();
    state.judge(at(63));
    let (_, standing) = state.standing().next().unwrap();
    assert_eq!(standing.verdict.state, aviary_core::State::Healthy);
    assert_eq!(standing.verdict.window.unproven, 60);
}

#[test]
fn a_silent_fleet_is_blind_and_never_down() {
    let mut state = State::new("test".to_owned(), Vec::new(), NOW);
    state.configured.insert(
        "ingest".to_owned(),
        ServiceOptions { policy: Policy { min_vantages: 2, ..Policy::default() }, ..service(false) },
    );
    let (one, two) = (roster("one", &["tcp://h:1"]), roster("two", &["tcp://h:1"]));
    let slots =
        |range: std::ops::Range<i64>| range.map(|offset| slot(0, offset, DELIVERED)).collect::<Vec<_>>();
    state.take(&report(&one, slots(0..60)), None, at(60)).unwrap();
    state.take(&report(&two, slots(0..45)), None, at(60)).unwrap();
    let verdict = |state: &mut State, seconds| {
        state.judge(at(seconds));
        state.standing().next().unwrap().1.verdict.state
    };
    assert_eq!(verdict(&mut state, 55), aviary_core::State::Healthy);
    assert_eq!(
        verdict(&mut state, 63),
        aviary_core::State::Blind,
        "one of the two has not been seen for 15 s"
    );
    assert_eq!(verdict(&mut state, 200), aviary_core::State::Blind);
}

#[test]
fn a_gap_fills_its_series_and_what_is_too_old_is_counted() {
    let mut state = state(false);
    let roster = roster("n", &["tcp://h:1", "tcp://h:2"]);
    let mut told = report(&roster, Vec::new());
    told.gaps = vec![Gap {
        first: 0,
        count: 2,
        span: Span::new(second(-5_000), second(5)),
        outcome: Outcome::Missed,
    }];
    let taken = state.take(&told, None, at(6)).unwrap();
    assert_eq!(taken.slots, 2 * 5_005);
    assert!(taken.too_old > 2 * 3_900 && state.counts().too_old == taken.too_old);
    assert_eq!(window(&state, -100, 5).missed, 2 * 105);
}

proptest! {
    #[test]
    fn reports_in_any_order_and_number_make_the_same_ledger(
        slots in prop::collection::vec((0u32..2, 0i64..20, 0usize..4), 1..60),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let roster = roster("n", &["tcp://h:1", "tcp://h:2"]);
        let outcomes = [DELIVERED, TIMED_OUT, REFUSED, Outcome::Missed];
        let reports: Vec<_> = slots
            .chunks(5)
            .map(|chunk| {
                let mut slots: Vec<ClosedSlot> = Vec::new();
                for (series, offset, outcome) in chunk {
                    if !slots.iter().any(|slot| slot.series == *series && slot.second == second(*offset)) {
                        slots.push(slot(*series, *offset, outcomes[*outcome]));
                    }
                }
                report(&roster, slots)
            })
            .collect();
        let (mut straight, mut shuffled) = (state(false), state(false));
        for report in &reports {
            straight.take(report, None, at(30)).unwrap();
        }
        for index in &order {
            shuffled.take(index.get(&reports), None, at(30)).unwrap();
        }
        for report in reports.iter().rev() {
            shuffled.take(report, None, at(30)).unwrap();
        }
        for series in 0..2 {
            for offset in 0..20 {
                let slot = (SeriesId(series), second(offset));
                prop_assert_eq!(straight.ledger.mark(slot.0, slot.1), shuffled.ledger.mark(slot.0, slot.1));
                prop_assert_eq!(straight.losses.get(slot.0, slot.1), shuffled.losses.get(slot.0, slot.1));
            }
        }
    }
}
