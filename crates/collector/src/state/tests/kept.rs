use aviary_core::{Endpoint, LocalFault, Window};
use aviary_store::MemoryStore;
use aviary_wire::report::{self, Certificate, EventKind};

use super::*;
use crate::{
    checkpoint::{Checkpoint, pack_slots},
    state::Texts,
};

/// What is kept of a state and made anew of that, by way of a store.
fn again(state: &State, texts: &mut Texts, now: Timestamp) -> State {
    let store = MemoryStore::default();
    let (mut kept, pool) = state.keep(texts);
    texts.put(&mut kept);
    pool.finish(&mut kept);
    let series = texts.series();
    let block = |number| (number, pack_slots(&state.keep_block(number, series)));
    let blocks = state.block_numbers().into_iter().map(block).collect();
    Checkpoint { covers: 3, kept, series, blocks }.write(&store).unwrap();
    let mut checkpoint = Checkpoint::read(&store).unwrap().unwrap();
    let slots = checkpoint.take_slots().unwrap();
    State::restore("test".to_owned(), state.services(), checkpoint.kept, slots, now).unwrap()
}

/// A state in which there is something of everything.
fn full() -> State {
    let mut state = state(true);
    let mut first = roster("one", &["tcp://h:1", "https://h/path", "udp://h:3"]);
    first.vantage.zone = Some("a".to_owned());
    first.series[1].address = Some("2001:db8::1".parse().unwrap());
    let outcomes = [
        DELIVERED,
        TIMED_OUT,
        Outcome::Lost { phase: Phase::Confirm, fault: Fault::Status(503) },
        Outcome::Local { phase: Phase::Connect, fault: LocalFault::NoPorts },
        Outcome::Missed,
        Outcome::Muted,
    ];
    let slots =
        (0_i64..).zip(outcomes).flat_map(|(offset, outcome)| (0..3).map(move |it| slot(it, offset, outcome)));
    let mut told = report(&first, slots.collect());
    told.slots[4].address = Some("[2001:db8::1]:443".parse().unwrap());
    told.slots[4].reached = Some(Evidence::KernelAcked);
    told.certificates = vec![Certificate {
        endpoint: "https://h/path".parse().unwrap(),
        address: "[2001:db8::1]:443".parse().unwrap(),
        not_after: 4_000_000_000,
    }];
    told.self_suspect = vec![Span::new(second(1), second(4))];
    told.events = vec![report::Event {
        second: second(2),
        what: report::What::Address {
            kind: EventKind::AddressAdded,
            host: "h".to_owned(),
            address: "192.0.2.7".parse().unwrap(),
        },
    }];
    state.take(&told, None, at(7)).unwrap();
    // A series pauses and comes back, another ends; and a second agent has lives that overlap.
    let without = Roster { since: second(8), series: first.series[..1].to_vec(), ..first.clone() };
    state
        .take(
            &Report { sequence: 1, wall: at(8), ..report(&without, vec![slot(0, 8, DELIVERED)]) },
            None,
            at(9),
        )
        .unwrap();
    let back = Roster { since: second(12), series: first.series[..2].to_vec(), ..first.clone() };
    state
        .take(
            &Report { sequence: 2, wall: at(12), ..report(&back, vec![slot(1, 12, DELIVERED)]) },
            None,
            at(13),
        )
        .unwrap();
    let second_agent = roster("two", &["tcp://h:1"]);
    for (boot, offset) in [(1, 3), (2, 9), (1, 4)] {
        let told = Report {
            boot,
            wall: at(offset),
            ..report(&second_agent, vec![slot(0, offset as i64, DELIVERED)])
        };
        state.take(&told, None, at(14)).unwrap();
    }
    for offset in [0, 2] {
        state.stored(&first.series[0].name, second(offset));
    }
    state.note_event(Event::of_ours("deploy", "release 42".to_owned(), second(3)));
    state.storage_untold(second(1));
    state.judge(at(15));
    state
}

fn window_of(state: &State, series: u32, from: i64, until: i64) -> Window {
    let mut groups = vec![aviary_core::ledger::NO_GROUP; state.ledger.len()];
    groups[series as usize] = 0;
    state.ledger.sums(Span::new(second(from), second(until)), &groups, 1)[0]
}

fn assert_same(left: &State, right: &State, until: i64) {
    assert_eq!(left.catalog.len(), right.catalog.len());
    for id in left.catalog.ids() {
        for tag in Tag::ALL {
            assert_eq!(left.catalog.tag(id, *tag), right.catalog.tag(id, *tag));
        }
        for offset in -100..until {
            let slot = (id, second(offset));
            assert_eq!(left.ledger.mark(slot.0, slot.1), right.ledger.mark(slot.0, slot.1));
            assert_eq!(left.losses.get(slot.0, slot.1), right.losses.get(slot.0, slot.1));
        }
        assert_eq!(window_of(left, id.0, -100, until), window_of(right, id.0, -100, until), "{id:?}");
    }
    let kept = |state: &State| {
        let mut kept = state.keep(&mut Texts::default()).0;
        // Tables without an order.
        kept.rosters.sort_by_key(|roster| roster.id);
        kept.rosters.iter_mut().for_each(|roster| (roster.list, roster.vantage) = (0, 0));
        kept.agents.iter_mut().for_each(|agent| agent.statements.iter_mut().for_each(|it| it.list = 0));
        kept.agents.iter_mut().for_each(|agent| agent.vantage = 0);
        kept.events.iter_mut().for_each(|event| event.vantage = 0);
        kept.stored.sort_by_key(|stored| stored.series);
        kept.untold_until = 0;
        kept
    };
    assert_eq!(kept(left), kept(right));
}

#[test]
fn a_state_made_anew_knows_the_same_and_goes_on_alike() {
    let mut before = full();
    let mut texts = Texts::default();
    let mut after = again(&before, &mut texts, at(15));
    assert_same(&before, &after, 15);
    assert_eq!(after.catalog.tag(SeriesId(1), Tag::Address), "2001:db8::1");
    assert!(after.catalog.tag(SeriesId(1), Tag::Endpoint).parse::<Endpoint>().is_ok());

    // Whoever reported goes on without its roster; somebody new comes.
    let back = before.agents.values().find(|agent| agent.series == 2).unwrap().roster.id;
    let new = roster("three", &["tcp://h:9"]);
    for state in [&mut before, &mut after] {
        let mut told = report(&new, vec![slot(0, 16, REFUSED), slot(0, 17, DELIVERED)]);
        state.take(&told, None, at(18)).unwrap();
        told = Report { roster_id: back, roster: None, sequence: 3, wall: at(17), ..told };
        told.slots = vec![slot(0, 16, TIMED_OUT), slot(1, 17, DELIVERED)];
        state.take(&told, None, at(18)).unwrap();
    }
    assert_same(&before, &after, 20);
    // The texts of one checkpoint serve the next, and so do those of the one that a start began with.
    let third = again(&after, &mut texts, at(18));
    assert_same(&after, &third, 20);
    assert_eq!(third.catalog.tag(SeriesId(third.catalog.len() as u32 - 1), Tag::Node), "three");
}

#[test]
fn the_time_between_an_end_and_a_start_is_unknown_and_can_still_be_told() {
    let before = full();
    let mut after = again(&before, &mut Texts::default(), at(100));
    after.begin_to_watch(at(100));
    after.judge(at(130));
    let away = window_of(&after, 0, 20, 100);
    assert_eq!(
        away,
        Window { scheduled: 80, unknown: 80, ..Window::default() },
        "nobody told, and nobody looked"
    );
    let roster = before.agents.values().find(|agent| agent.series == 2).unwrap().roster.id;
    let slots = (20..100).map(|offset| slot(0, offset, DELIVERED)).collect();
    let told =
        Report { roster_id: roster, roster: None, sequence: 9, ..report(&self::roster("x", &[]), slots) };
    after.take(&told, None, at(131)).unwrap();
    after.judge(at(140));
    assert_eq!(window_of(&after, 0, 20, 100).lost, 0, "storage had no chance to show them");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    type Spoil = fn(&mut crate::checkpoint::message::Kept);
    let table: [(&str, Spoil); 8] = [
        ("a text", |kept| kept.tags[0] = 9_999),
        ("twice", |kept| kept.tags.copy_within(..9, 9)),
        ("lives", |kept| kept.lives.as_mut().unwrap().from.truncate(1)),
        ("delivery", |kept| kept.lives.as_mut().unwrap().proofs[0] = 7),
        ("a series", |kept| kept.losses.as_mut().unwrap().series[0] = 9_999),
        ("a list", |kept| kept.rosters[0].list = 9_999),
        ("a vantage", |kept| kept.agents[0].vantage = 9_999),
        ("roster", |kept| kept.lists[0].series[0] = 9_999),
    ];
    for (expected, spoil) in table {
        let state = full();
        let mut texts = Texts::default();
        let (mut kept, pool) = state.keep(&mut texts);
        texts.put(&mut kept);
        pool.finish(&mut kept);
        spoil(&mut kept);
        let refused = State::restore("test".to_owned(), Vec::new(), kept, Vec::new(), at(15)).err().unwrap();
        assert!(format!("{refused:?}").contains(expected), "{expected}: {refused:?}");
    }
}
