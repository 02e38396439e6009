//! Series that end and come back, and agents that are started again.

use aviary_core::verdict::JUDGED_SECONDS;
use aviary_wire::report::{Certificate, Event as ToldEvent, EventKind, What};

use super::*;

const A: &str = "tcp://h:1";
const B: &str = "tcp://h:2";

/// A roster of the node `n` from `since` on, whose series have their first full slot then.
fn from(since: i64, endpoints: &[&str]) -> Roster {
    let mut roster = roster("n", endpoints);
    roster.since = second(since);
    roster.series.iter_mut().for_each(|series| series.from = second(since));
    roster
}

/// A report that is made at `offset` by the life `boot`.
fn said(boot: u64, sequence: u64, offset: i64, roster: &Roster, slots: Vec<ClosedSlot>) -> Report {
    let wall = Timestamp(NOW.0.saturating_add_signed(offset * 1_000_000));
    Report { boot, sequence, wall, ..report(roster, slots) }
}

fn id(state: &State, endpoint: &str) -> SeriesId {
    let is_it = |id: &SeriesId| state.catalog.tag(*id, Tag::Endpoint) == endpoint;
    state.catalog.ids().find(is_it).unwrap()
}

fn sum(state: &State, endpoint: &str, from: i64, until: i64) -> Window {
    let series = id(state, endpoint);
    let groups: Vec<u32> = state
        .catalog
        .ids()
        .map(|other| if other == series { 0 } else { aviary_core::ledger::NO_GROUP })
        .collect();
    state.ledger.sums(Span::new(second(from), second(until)), &groups, 1)[0]
}

fn agent(state: &State) -> &AgentSeen {
    state.agents.values().next().unwrap()
}

#[test]
fn a_series_that_is_removed_ends_and_blinds_nobody() {
    let mut state = State::new("test".to_owned(), Vec::new(), NOW);
    let (both, one) = (from(0, &[A, B]), from(40, &[A]));
    let slots = (0..40).flat_map(|offset| [slot(0, offset, DELIVERED), slot(1, offset, TIMED_OUT)]);
    state.take(&said(1, 1, 40, &both, slots.collect()), None, at(40)).unwrap();
    state.judge(at(43));
    assert_eq!(state.standing().next().unwrap().1.verdict.state, aviary_core::State::Down);

    let slots = (40..60).map(|offset| slot(0, offset, DELIVERED)).collect();
    state.take(&said(1, 2, 60, &one, slots), None, at(60)).unwrap();
    state.judge(at(63));
    let (_, standing) = state.standing().next().unwrap();
    assert_eq!(standing.verdict.state, aviary_core::State::Healthy);
    let endpoints = standing.verdict.parts.iter();
    assert!(
        !endpoints.into_iter().any(|part| format!("{:?}", part.part).contains(B)),
        "it is judged no more"
    );
    assert_eq!(sum(&state, B, 0, 60), Window { scheduled: 40, lost: 40, ..Window::default() });

    state.take(&said(1, 3, 70, &from(70, &[]), Vec::new()), None, at(70)).unwrap();
    state.judge(at(75));
    assert_eq!(state.standing().count(), 0, "nobody probes it, and it is not configured");
}

#[test]
fn an_ended_vantage_is_not_one_that_fell_silent() {
    let policy = Policy { min_vantages: 1, ..Policy::default() };
    let mut state = State::new("test".to_owned(), vec![ServiceOptions { policy, ..service(false) }], NOW);
    let (stays, goes) = (roster("stays", &[A]), from(0, &[A]));
    let slots = |range: std::ops::Range<i64>| range.map(|offset| slot(0, offset, DELIVERED)).collect();
    state.take(&report(&stays, slots(0..60)), None, at(60)).unwrap();
    state.take(&said(1, 1, 10, &goes, slots(0..10)), None, at(60)).unwrap();
    state.take(&said(1, 2, 60, &from(10, &[]), Vec::new()), None, at(60)).unwrap();
    state.judge(at(63));
    let (_, standing) = state.standing().next().unwrap();
    assert_eq!((standing.vantages_seen, standing.verdict.window.unknown), (1, 0));
    assert_eq!(standing.verdict.window.scheduled, JUDGED_SECONDS);
}

#[test]
fn what_comes_back_was_muted_meanwhile_and_what_was_told_stands() {
    let mut state = state(false);
    let rosters = [from(0, &[A, B]), from(20, &[A]), from(50, &[A, B])];
    for (sequence, roster) in (1..).zip(&rosters) {
        state.take(&said(1, sequence, 60, roster, Vec::new()), None, at(60)).unwrap();
    }
    let expected = Window { scheduled: 60, unknown: 30, muted: 30, ..Window::default() };
    assert_eq!(sum(&state, B, 0, 60), expected);
    state.take(&said(1, 9, 60, &rosters[0], vec![slot(1, 20, REFUSED)]), None, at(60)).unwrap();
    assert_eq!(sum(&state, B, 0, 60), Window { muted: 29, lost: 1, ..expected });
}

/// What is in a crash loop states more than is kept of it, all within the live window.
#[test]
fn what_comes_back_was_muted_since_it_went_however_often_the_agent_was_started_between() {
    let mut state = state(false);
    let rosters = [from(0, &[A, B])].into_iter().chain((10..90).map(|since| from(since, &[A])));
    for (sequence, roster) in (1..).zip(rosters.chain([from(100, &[A, B])])) {
        state.take(&said(1, sequence, 100 + sequence as i64, &roster, Vec::new()), None, at(200)).unwrap();
    }
    assert_eq!(
        sum(&state, B, 0, 110),
        Window { scheduled: 110, muted: 90, unknown: 20, ..Window::default() }
    );
}

#[test]
fn backlog_of_an_earlier_life_changes_nothing_of_the_newest() {
    let mut state = state(false);
    let (before, after) = (from(0, &[A, B]), from(30, &[A]));
    let new =
        Report { configuration: "new".to_owned(), ..said(2, 1, 40, &after, vec![slot(0, 35, DELIVERED)]) };
    state.take(&new, None, at(40)).unwrap();
    // The spool's backlog, the newest of it first, after what is new.
    for (sequence, offset) in [(20, 20), (10, 10)] {
        let told = said(1, sequence, offset, &before, vec![slot(1, offset - 1, DELIVERED)]);
        state.take(&told, None, at(41)).unwrap();
    }
    let seen = agent(&state);
    assert_eq!((seen.boot, seen.sequence, seen.series, &*seen.configuration), (2, 1, 1, "new"));
    assert_eq!(
        sum(&state, B, 0, 60),
        Window { scheduled: 30, delivered: 2, unknown: 28, ..Window::default() }
    );
    // Both rosters stay known: neither life has to send its own again.
    for (told, boot) in [(&after, 2), (&before, 1), (&after, 2)] {
        let told = Report { roster: None, ..said(boot, 30, 42, told, Vec::new()) };
        state.take(&told, None, at(42)).unwrap();
    }
    let told = Report { roster: None, ..said(2, 0, 30, &after, Vec::new()) };
    state.take(&told, None, at(43)).unwrap();
    assert_eq!(agent(&state).sequence, 30, "late news of the same life is no news");
}

#[test]
fn an_agent_whose_clock_was_set_back_speaks_once_its_former_life_is_silent() {
    let mut state = state(false);
    let (before, after) = (from(20, &[A, B]), from(10, &[A]));
    // By its own clock, the first life is 20 s ahead.
    state.take(&said(1, 1, 21, &before, Vec::new()), None, at(1)).unwrap();
    state.take(&said(2, 1, 3, &after, Vec::new()), None, at(3)).unwrap();
    assert_eq!(agent(&state).boot, 1, "it may be backlog as well");
    for second in 4..12 {
        state.take(&said(2, second, second as i64, &after, Vec::new()), None, at(second)).unwrap();
    }
    assert_eq!(agent(&state).boot, 2);
    assert_eq!(sum(&state, A, 0, 40).scheduled, 30);
    assert_eq!(sum(&state, B, 0, 60).scheduled, 0, "the former life's word does not outlast it");
    // Backlog of the former life, late by its clock and early by ours.
    state.take(&said(1, 0, 20, &before, Vec::new()), None, at(13)).unwrap();
    assert_eq!((agent(&state).boot, sum(&state, B, 0, 60).scheduled), (2, 0));
}

#[test]
fn two_agents_of_one_vantage_are_told_and_hide_nothing() {
    // The second agent's clock is behind, the same, and ahead of the first's.
    for (ahead, speaker) in [(-2, 1), (0, 1), (2, 2)] {
        let mut state = state(false);
        let (one, two) = (from(0, &[A]), from(10, &[B]));
        for offset in 10..50 {
            let told = |boot, by, roster| said(boot, offset, by, roster, vec![slot(0, by - 1, TIMED_OUT)]);
            let wall = offset.cast_signed();
            state.take(&told(1, wall, &one), None, at(offset)).unwrap();
            state.take(&told(2, wall + ahead, &two), None, at(offset)).unwrap();
            assert_eq!(agent(&state).boot, speaker, "they do not take turns");
        }
        assert!(agent(&state).is_double, "{ahead}");
        assert_eq!((sum(&state, A, 0, 60).lost, sum(&state, B, 0, 60).lost), (40, 40));
    }
}

#[test]
fn a_restart_with_backlog_is_no_second_agent() {
    let mut state = state(false);
    let (before, after) = (from(0, &[A]), from(10, &[A]));
    state.take(&said(1, 9, 9, &before, Vec::new()), None, at(9)).unwrap();
    for offset in 11..60 {
        state.take(&said(2, offset as u64, offset, &after, Vec::new()), None, at(offset as u64)).unwrap();
        // Its first life's backlog, sent bit by bit.
        state.take(&said(1, 8, 5 + offset / 20, &before, Vec::new()), None, at(offset as u64)).unwrap();
    }
    assert_eq!((agent(&state).boot, agent(&state).is_double), (2, false));
}

#[test]
fn rosters_of_one_agent_are_bounded_and_the_newest_is_never_forgotten() {
    let mut state = state(false);
    let newest = from(100, &[A]);
    state.take(&said(2, 1, 100, &newest, Vec::new()), None, at(100)).unwrap();
    for since in 0..40 {
        state.take(&said(1, since, 50, &from(since as i64, &[A, B]), Vec::new()), None, at(100)).unwrap();
    }
    assert!(state.rosters.len() <= 8, "{}", state.rosters.len());
    let told = Report { roster: None, ..said(2, 2, 101, &newest, Vec::new()) };
    assert!(state.take(&told, None, at(101)).is_ok());
    assert_eq!(sum(&state, B, 90, 120).scheduled, 10, "all of them ended what the newest lacks");
}

#[test]
fn an_agent_tells_of_itself_and_of_what_it_sees() {
    let mut state = state(false);
    let roster = from(0, &[A]);
    let shown = |not_after| Certificate {
        endpoint: A.parse().unwrap(),
        address: "192.0.2.1:443".parse().unwrap(),
        not_after,
    };
    let came = |address: &str| ToldEvent {
        second: second(5),
        what: What::Address {
            kind: EventKind::AddressAdded,
            host: "h".to_owned(),
            address: address.parse().unwrap(),
        },
    };
    let suspects = |from, until| Span::new(second(from), second(until));
    let new = Report {
        certificates: vec![shown(7)],
        events: vec![came("192.0.2.1"), came("192.0.2.1"), came("192.0.2.2")],
        self_suspect: vec![suspects(5, 8)],
        ..said(1, 2, 10, &roster, Vec::new())
    };
    let old = Report {
        certificates: vec![shown(3)],
        self_suspect: vec![suspects(3, 5)],
        ..said(1, 1, 9, &roster, Vec::new())
    };
    for told in [&new, &old, &new] {
        state.take(told, None, at(10)).unwrap();
    }
    let seen = agent(&state);
    assert_eq!(seen.certificates().map(|(.., not_after)| not_after).collect::<Vec<_>>(), [7]);
    assert!(seen.is_suspect(suspects(3, 4)) && seen.is_suspect(suspects(7, 9)));
    assert!(!seen.is_suspect(suspects(8, 20)));
    assert_eq!(state.events().counts(), (2, 0), "told twice is told once");
    state.take(&said(1, 3, 20, &from(20, &[B]), Vec::new()), None, at(20)).unwrap();
    assert_eq!(agent(&state).certificates().count(), 0, "nobody probes that endpoint any more");
}

proptest! {
    #[test]
    fn rosters_in_any_order_and_number_make_the_same_lives(
        lists in prop::collection::vec((0i64..60, 0usize..8), 1..8),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let all = [A, B, "tcp://h:3"];
        let reports: Vec<Report> = (1..)
            .zip(&lists)
            .map(|(sequence, (since, chosen))| {
                let endpoints: Vec<&str> =
                    all.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, it)| *it).collect();
                said(1, sequence, 60 + sequence as i64, &from(*since, &endpoints), Vec::new())
            })
            .collect();
        let (mut straight, mut shuffled) = (state(false), state(false));
        for report in &reports {
            straight.take(report, None, at(70)).unwrap();
        }
        for report in order.iter().map(|index| index.get(&reports)).chain(reports.iter().rev()) {
            shuffled.take(report, None, at(70)).unwrap();
        }
        let known: Vec<&str> =
            all.into_iter().filter(|url| straight.catalog.ids().any(|id| straight.catalog.tag(id, Tag::Endpoint) == *url)).collect();
        for endpoint in known {
            for from in 0..70 {
                prop_assert_eq!(sum(&straight, endpoint, from, from + 1), sum(&shuffled, endpoint, from, from + 1), "{} {}", endpoint, from);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// More than are kept, most of them of one endpoint only, of lives that are not all believed at once; and what was
    /// told long ago is told again.
    #[test]
    fn rosters_that_were_forgotten_still_hold(
        lists in prop::collection::vec(
            (1i64..7, prop_oneof![12 => Just(1), 1 => 0usize..8], any::<bool>(), any::<Option<prop::sample::Index>>()),
            1..120,
        ),
    ) {
        let all = [A, B, "tcp://h:3"];
        let mut state = state(false);
        let (mut since, mut wall, mut told) = (0, 900, Vec::<(i64, usize, Report)>::new());
        for (boot, (gap, chosen, is_doubted, again)) in (1..).zip(lists) {
            since += gap;
            let endpoints: Vec<&str> =
                all.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, it)| *it).collect();
            let roster = from(since, &endpoints);
            // By a clock that is no later than its predecessor's, it is not known to be the successor.
            if is_doubted {
                state.take(&said(boot, 0, wall, &roster, Vec::new()), None, at(860)).unwrap();
            }
            wall += 1;
            let report = said(boot, 1, wall, &roster, Vec::new());
            state.take(&report, None, at(860)).unwrap();
            told.push((since, chosen, report));
            if let Some(again) = again {
                state.take(&again.get(&told).2, None, at(860)).unwrap();
            }
        }
        for (bit, endpoint) in all.into_iter().enumerate() {
            let is_in = |(_, chosen, _): &&(i64, usize, Report)| chosen >> bit & 1 == 1;
            let (Some(first), Some(last)) = (told.iter().find(is_in), told.iter().rfind(is_in)) else { continue };
            let without = told.iter().find(|(since, ..)| *since > last.0);
            let end = without.map_or(Second(u64::MAX), |(since, ..)| second(*since));
            let (series, life) = (id(&state, endpoint), Span::new(second(first.0), end));
            prop_assert_eq!(state.ledger.life(series), life);
            for at in life.intersection(state.ledger.held()).iter() {
                let said = told.iter().rfind(|(since, ..)| second(*since) <= at);
                let expected = if said.as_ref().is_some_and(is_in) { Sender::Unknown } else { Sender::Muted };
                prop_assert_eq!(state.ledger.mark(series, at).unwrap().sender(), expected, "{} {}", endpoint, at);
            }
        }
    }
}
