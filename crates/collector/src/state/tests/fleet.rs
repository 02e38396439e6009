//! Agents as the collector sees them.

use super::*;
use crate::agents::AgentState;

const A: &str = "tcp://h:1";

fn is(state: &State, seconds: u64) -> AgentState {
    AgentState::of(state.agents.values().next().unwrap(), at(seconds))
}

#[test]
fn an_agent_goes_from_starting_to_retired() {
    let mut state = state(false);
    let roster = roster("n", &[A]);
    let tell = |state: &mut State, boot, seconds: u64, roster: &Roster| {
        let told = Report { boot, sequence: seconds, wall: at(seconds), ..report(roster, Vec::new()) };
        state.take(&told, None, at(seconds)).unwrap();
    };
    for seconds in 0..=29 {
        tell(&mut state, 1, seconds, &roster);
        assert_eq!(is(&state, seconds), AgentState::Starting, "{seconds}");
    }
    tell(&mut state, 1, 30, &roster);
    let table = [
        (30, AgentState::Reporting),
        (35, AgentState::Reporting),
        (36, AgentState::Late),
        (60, AgentState::Late),
        (61, AgentState::Unreachable),
        (86_400 + 30, AgentState::Unreachable),
        (86_400 + 31, AgentState::Retired),
    ];
    for (seconds, expected) in table {
        assert_eq!(is(&state, seconds), expected, "{seconds}");
    }
    tell(&mut state, 2, 100, &roster);
    assert_eq!(is(&state, 101), AgentState::Starting, "another life starts");
    let nothing = Roster { since: second(200), series: Vec::new(), ..roster };
    tell(&mut state, 2, 200, &nothing);
    assert_eq!(
        is(&state, 201),
        AgentState::Reporting,
        "an agent without anything to probe is there all the same"
    );
    assert_eq!(is(&state, 206), AgentState::Retired);
}

#[test]
fn slots_of_a_silent_agent_stay_unknown_until_it_tells_and_then_its_service_is_seen_again() {
    let policy = Policy { min_vantages: 2, ..Policy::default() };
    let mut state = State::new("test".to_owned(), vec![ServiceOptions { policy, ..service(false) }], NOW);
    let (one, two) = (roster("one", &[A]), roster("two", &[A]));
    let slots =
        |range: std::ops::Range<i64>| range.map(|offset| slot(0, offset, DELIVERED)).collect::<Vec<_>>();
    let judged = |state: &mut State, seconds| {
        state.judge(at(seconds));
        let (_, standing) = state.standing().next().unwrap();
        (standing.verdict.state, standing.vantages_seen)
    };
    state.take(&report(&two, slots(0..60)), None, at(60)).unwrap();
    state.take(&report(&one, slots(0..60)), None, at(60)).unwrap();
    assert_eq!(judged(&mut state, 63), (aviary_core::State::Healthy, 2));
    // Thirteen minutes without a word from one of the two.
    for minute in 1..14 {
        state
            .take(&report(&two, slots(minute * 60..minute * 60 + 60)), None, at(minute as u64 * 60 + 60))
            .unwrap();
    }
    assert_eq!(judged(&mut state, 843), (aviary_core::State::Blind, 1), "never down: nobody says that it is");
    let unknown = Window { scheduled: 1_560, delivered: 780, unknown: 780, ..Window::default() };
    assert_eq!(window(&state, 60, 840), unknown);
    // Its spool comes, the newest first.
    for (sequence, minute) in (1..14).rev().enumerate() {
        let mut told = report(&one, slots(minute * 60..minute * 60 + 60));
        told.sequence = sequence as u64;
        told.slots[7].outcome = REFUSED;
        let taken = state.take(&told, None, at(843)).unwrap();
        assert_eq!((taken.slots, taken.too_old), (60, 0));
    }
    let told = Window { scheduled: 1_560, delivered: 1_547, lost: 13, ..Window::default() };
    assert_eq!(window(&state, 60, 840), told);
    assert_eq!(judged(&mut state, 843).1, 2);
}

#[test]
fn what_an_agent_measures_bounds_the_difference_of_its_clock() {
    let mut state = state(false);
    let roster = roster("n", &[A]);
    let offset = |state: &State| state.agents.values().next().unwrap().clock_offset();
    let told = Report { wall: at(10).plus(250_000), ..report(&roster, Vec::new()) };
    state.take(&told, None, at(10).plus(300_000)).unwrap();
    assert_eq!((offset(&state).us, offset(&state).uncertainty_us), (-50_000, None), "at least that");
    let anybody = Reporter::default();
    state.measured(&told, &anybody, ClockOffset { offset_us: 1_500, uncertainty_us: 900 });
    assert_eq!((offset(&state).us, offset(&state).uncertainty_us), (1_500, Some(900)));
    let other = Report { boot: 9, ..told.clone() };
    state.measured(&other, &anybody, ClockOffset { offset_us: 0, uncertainty_us: 0 });
    assert_eq!(offset(&state).us, 1_500, "a life that does not speak does not measure");
    let stepped = Report { epoch: 1, sequence: 1, wall: at(70), ..told };
    state.take(&stepped, None, at(10).plus(400_000)).unwrap();
    assert_eq!((offset(&state).us, offset(&state).uncertainty_us), (59_600_000, None), "known anew");
}
