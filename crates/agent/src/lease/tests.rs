//! The leases by themselves: each history is told by a list of what happens, and compared with what a person would say.

use proptest::prelude::*;

use super::*;

const START: u64 = 1_763_690_400_000_000;
const SECOND: u64 = 1_000_000;

fn advice(state: Advised, until_us: u64) -> BTreeMap<String, Advice> {
    let reason = "lost 24 of 24".to_owned();
    [("ingest".to_owned(), Advice { state, weight: None, reason, until_us })].into()
}

/// Asked at `began`, microseconds after the start by both of the agent's clocks, and answered at once by a collector whose clock is
/// `ahead` of the agent's.
fn asked(began: u64, ahead: i64) -> Asked {
    let now_us = (START + began).saturating_add_signed(ahead);
    Asked { began: Micros(began), midway: Timestamp(START + began), now_us: Some(now_us) }
}

/// What is held, `wall` and `monotonic` microseconds after the start.
fn at(leases: &Leases, wall: u64, monotonic: u64) -> Option<(Advised, u8)> {
    let lease = leases.of("ingest", (Timestamp(START + wall), Micros(monotonic)));
    lease.map(|lease| (lease.state, lease.weight))
}

#[test]
fn a_lease_ends_when_it_says_by_whichever_clock_is_sooner() {
    let out = Some((Advised::Out, 0));
    // How long it is to last; how far the collector's clock is ahead; the agent's clocks when it is looked at; what is held.
    let table = [
        (60, 0, 0, 0, out),
        (60, 0, 59, 59, out),
        (60, 0, 60, 60, None),
        (5, 0, 4, 4, out),
        (5, 0, 5, 5, None),
        (3_600, 0, 59, 59, out),
        (3_600, 0, 60, 60, None),
        (0, 0, 0, 0, None),
        // The clocks do not agree: what counts is the time that is left.
        (60, 7_200, 59, 59, out),
        (60, 7_200, 60, 60, None),
        (60, -7_200, 59, 59, out),
        // The agent's is stepped back, or on; or the host was suspended.
        (60, 0, 0, 60, None),
        (60, 0, 7_200, 1, None),
    ];
    for (left, ahead, wall, monotonic, expected) in table {
        let mut leases = Leases::default();
        let until = (START + left * SECOND).saturating_add_signed(ahead * SECOND.cast_signed());
        leases.answered(advice(Advised::Out, until), asked(0, ahead * SECOND.cast_signed()));
        let case = (left, ahead, wall, monotonic);
        assert_eq!(at(&leases, wall * SECOND, monotonic * SECOND), expected, "{case:?}");
    }
}

#[test]
fn what_an_answer_says_goes_before_what_was_held() {
    let mut leases = Leases::default();
    leases.answered(advice(Advised::Out, START + 60 * SECOND), asked(0, 0));
    leases.answered(advice(Advised::Returning, START + 90 * SECOND), asked(30 * SECOND, 0));
    assert_eq!(at(&leases, 61 * SECOND, 61 * SECOND), Some((Advised::Returning, 10)), "it is renewed");
    assert_eq!(leases.of("other", (Timestamp(START), Micros(0))), None);
    leases.answered(BTreeMap::new(), asked(31 * SECOND, 0));
    assert_eq!(at(&leases, 31 * SECOND, 31 * SECOND), None, "it is ended");
}

#[test]
fn whoever_returns_has_some_of_its_load_and_whoever_is_out_has_none() {
    for (state, weight, expected) in [
        (Advised::Out, Some(50), 0),
        (Advised::Returning, Some(0), 1),
        (Advised::Returning, Some(25), 25),
        (Advised::Returning, Some(255), 100),
    ] {
        let mut leases = Leases::default();
        let mut told = advice(state, START + SECOND);
        told.values_mut().for_each(|advice| advice.weight = weight);
        leases.answered(told, asked(0, 0));
        assert_eq!(at(&leases, 0, 0), Some((state, expected)));
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// Both clocks go on.
    Pass(u64),
    /// The agent's wall clock is stepped, and the monotonic is not.
    Step(i64),
    /// The host is suspended: the wall clock goes on, and the monotonic may not.
    Suspend(u64),
    /// A collector answers after so long, by its own clock so far ahead, that the node is out for so long; or that it is in.
    Answer { took: u64, ahead: i64, out_for: Option<u64> },
}

fn event() -> impl Strategy<Value = Event> {
    let out_for = prop_oneof![Just(None), (0..200 * SECOND).prop_map(Some), Just(Some(u64::MAX / 4))];
    let ahead = prop_oneof![Just(0), -10_000_000_000_000_i64..10_000_000_000_000];
    prop_oneof![
        4 => (0..40 * SECOND).prop_map(Event::Pass),
        1 => (-86_400_000_000_i64..86_400_000_000).prop_map(Event::Step),
        1 => (0..600 * SECOND).prop_map(Event::Suspend),
        4 => (0..3 * SECOND, ahead, out_for)
            .prop_map(|(took, ahead, out_for)| Event::Answer { took, ahead, out_for }),
    ]
}

proptest! {
    /// Whatever happens, a node is out only if the last answer said so, and less than a lease's time ago, by a clock that nobody
    /// steps.
    #[test]
    fn no_history_without_a_live_lease_takes_a_node_out(events in prop::collection::vec(event(), 1..60)) {
        let (mut wall, mut monotonic) = (START, 0_u64);
        let mut leases = Leases::default();
        // When the last answer came that said that it is out, and for how long that was to be.
        let mut said: Option<(u64, u64)> = None;
        for event in events {
            match event {
                Event::Pass(micros) => (wall, monotonic) = (wall + micros, monotonic + micros),
                Event::Step(micros) => wall = wall.saturating_add_signed(micros),
                Event::Suspend(micros) => wall += micros,
                Event::Answer { took, ahead, out_for } => {
                    let (began, midway) = (Micros(monotonic), Timestamp(wall + took / 2));
                    let now_us = midway.0.saturating_add_signed(ahead);
                    (wall, monotonic) = (wall + took, monotonic + took);
                    let told = out_for.map(|micros| advice(Advised::Out, now_us.saturating_add(micros)));
                    leases.answered(told.unwrap_or_default(), Asked { began, midway, now_us: Some(now_us) });
                    said = out_for.map(|micros| (monotonic, micros));
                }
            }
            let held = leases.of("ingest", (Timestamp(wall), Micros(monotonic))).is_some();
            let may = said.is_some_and(|(at, micros)| monotonic - at < micros.min(LEASE_MAX_US));
            prop_assert!(!held || may, "out without a lease");
        }
    }

    /// A node that the collector has out stays out while it is told so each second, wherever either clock stands.
    #[test]
    fn a_lease_that_is_renewed_holds(ahead in -10_000_000_000_000_i64..10_000_000_000_000, seconds in 1_u64..200) {
        let mut leases = Leases::default();
        for second in 0..seconds {
            let asked = asked(second * SECOND, ahead);
            leases.answered(advice(Advised::Out, asked.now_us.unwrap() + LEASE_MAX_US), asked);
            let now = (second + 1) * SECOND - 1;
            prop_assert_eq!(at(&leases, now, now), Some((Advised::Out, 0)));
        }
    }
}
