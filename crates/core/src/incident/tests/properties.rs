//! What holds whatever is seen.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::page::{self, Message, Outbox, Paging, Receiver, Sent};

const RULES: [&str; 6] =
    ["", "protocol=udp", "region=eu", "region=eu,protocol=udp", "region=eu;region=us", "scattered"];
const SERVICES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Seen {
    Lost { rules: usize, level: Level, is_down: bool, agree: usize },
    Quiet,
    Clear,
    Blind,
    Nothing,
}

fn seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        4 => (0..RULES.len(), prop::sample::select(vec![Level::Suspected, Level::Full, Level::Full]), any::<bool>(), 0usize..3)
            .prop_map(|(rules, level, is_down, agree)| Seen::Lost { rules, level, is_down, agree }),
        1 => Just(Seen::Quiet),
        3 => Just(Seen::Clear),
        1 => Just(Seen::Blind),
        1 => Just(Seen::Nothing),
    ]
}

impl Seen {
    fn of(&self, service: &str) -> Option<Observation> {
        match self {
            Self::Lost { rules, level, is_down, agree } => Some(Observation {
                level: *level,
                is_down: *is_down,
                vantages: *agree,
                networks: *agree,
                ..lost(service, RULES[*rules])
            }),
            Self::Quiet => Some(quiet(service)),
            Self::Clear => Some(clear(service)),
            Self::Blind => Some(blind(service)),
            Self::Nothing => None,
        }
    }
}

/// For so many seconds, this is seen of each service, under a silence or not; then perhaps somebody does something.
#[derive(Clone, Debug)]
struct Stretch {
    seconds: u64,
    seen: [Seen; 3],
    is_silenced: bool,
    /// Acknowledge, resolve, or remove the first that is there.
    deed: usize,
}

prop_compose! {
    fn stretch()(
        seconds in prop_oneof![8 => 1u64..20, 8 => 20u64..120, 1 => 200u64..2_500],
        seen in [seen(), seen(), seen()],
        is_silenced in prop::bool::weighted(0.15),
        deed in 0usize..12,
    ) -> Stretch {
        Stretch { seconds, seen, is_silenced, deed }
    }
}

/// What was told of one incident.
#[derive(Default)]
struct Listener {
    is_open: bool,
    revision: u64,
    openings: u32,
    last: u64,
    severity: Option<Severity>,
}

impl Listener {
    fn hear(&mut self, now: u64, notice: &Notice) {
        assert!(notice.revision > self.revision, "each is newer than the last: {notice:?}");
        match notice.change {
            Change::Opened => {
                assert!(!self.is_open, "never twice without an end: {notice:?}");
                assert!(self.openings == 0 || notice.reopens > 0, "{notice:?}");
                (self.is_open, self.openings) = (true, self.openings + 1);
                assert!(
                    self.openings <= notice.reopens + 1,
                    "once for each time that it was opened: {notice:?}"
                );
            }
            Change::Updated => {
                assert!(self.is_open, "{notice:?}");
                let is_worse = self.severity.is_some_and(|severity| notice.severity > severity);
                assert!(is_worse || now - self.last >= 60, "no more than one a minute: {notice:?}");
            }
            Change::Resolved => {
                assert!(self.is_open, "no end without a beginning: {notice:?}");
                self.is_open = false;
            }
        }
        (self.revision, self.last, self.severity) = (notice.revision, now, Some(notice.severity));
    }
}

/// Lives through `stretches`, and begins a new life where `restarts` says so. Gives all actions.
fn live(stretches: &[Stretch], restarts: impl Fn(u64) -> bool) -> Vec<Vec<Action>> {
    let mut incidents = Incidents::new("main");
    let mut listeners: BTreeMap<Id, Listener> = BTreeMap::new();
    let mut all = Vec::new();
    let mut now = 1_000_000;
    for stretch in stretches {
        let services: Vec<Observation> =
            SERVICES.iter().zip(&stretch.seen).filter_map(|(name, seen)| seen.of(name)).collect();
        let silences = if stretch.is_silenced { vec![silence("s", &[(Tag::Region, "eu")])] } else { vec![] };
        let nobody_sees = stretch.seen.iter().all(|seen| matches!(seen, Seen::Blind | Seen::Nothing));
        for second in 0..=stretch.seconds {
            let event = if second < stretch.seconds {
                now += 1;
                let observed =
                    Observed { services: services.clone(), conditions: vec![], silences: silences.clone() };
                Event::Observed(observed)
            } else {
                let there = incidents.iter().find(|incident| incident.state.is_active());
                let Some(id) = there.map(|incident| incident.id.clone()) else { continue };
                match stretch.deed {
                    0 | 1 => Event::Acknowledged { id, by: "ada".to_owned() },
                    2 => Event::Resolved { id, by: "ada".to_owned() },
                    3 => Event::Removed { tag: Tag::Service, value: "b".to_owned() },
                    4 => Event::Removed { tag: Tag::Region, value: "eu".to_owned() },
                    _ => continue,
                }
            };
            let is_seen = matches!(event, Event::Observed(_));
            if restarts(now) {
                incidents = Incidents::from_kept("main", incidents.kept());
            }
            let actions = incidents.step(event, Second(now));
            for action in &actions {
                let Action::Tell(notice) = action else { continue };
                listeners.entry(notice.id.clone()).or_default().hear(now, notice);
                if is_seen && nobody_sees {
                    assert_ne!(notice.change, Change::Resolved, "no data is no recovery");
                }
            }
            check(&incidents);
            all.push(actions);
        }
    }
    for incident in incidents.iter() {
        let is_open = listeners.get(&incident.id).is_some_and(|listener| listener.is_open);
        assert!(!is_open || incident.state.is_active(), "whoever was told is told the end: {incident:?}");
    }
    all
}

/// Whether each of two receivers holds an incident open in the end, if each takes what it is told at once, but for
/// every `deaf`th message.
fn deliver(actions: Vec<Vec<Action>>, deaf: usize) -> BTreeMap<(Id, String), bool> {
    let receivers = ["pager", "chat"]
        .map(|name| (name.to_owned(), Receiver { wakes: name == "pager", per_minute: 6_000, in_flight: 99 }));
    let paging = Paging::new(receivers.to_vec(), vec![], BTreeMap::new());
    let mut outbox = Outbox::default();
    let mut held = BTreeMap::new();
    let mut sent = 0;
    let ticks = std::iter::repeat_n(vec![], 200);
    for (second, actions) in (1_000_000u64..).zip(actions.into_iter().chain(ticks)) {
        let told = actions.into_iter().filter_map(|action| match action {
            Action::Tell(notice) => Some(page::Event::Told(notice)),
            Action::Acknowledged(id) => Some(page::Event::Acknowledged(id)),
            Action::Changed(_) | Action::Archived(_) => None,
        });
        let mut events: Vec<page::Event> = told.chain([page::Event::Tick]).collect();
        while let Some(event) = (!events.is_empty()).then(|| events.remove(0)) {
            for action in outbox.step(event, &paging, Second(second).start(), second) {
                let page::Action::Send { id, receiver, attempt, .. } = action else { continue };
                sent += 1;
                let is_deaf = sent % deaf == 0;
                if !is_deaf {
                    let is_open = matches!(attempt.message, Message::Opened | Message::Updated);
                    held.insert((id.clone(), receiver.clone()), is_open);
                }
                let sent = if is_deaf {
                    Sent::NotTaken { retry_after: Some(20) }
                } else {
                    Sent::Taken { say_again: None }
                };
                events.push(page::Event::Finished { id, receiver, attempt: attempt.number, sent });
            }
        }
    }
    held
}

fn check(incidents: &Incidents) {
    let mut homes: BTreeMap<&str, Vec<&Shape>> = BTreeMap::new();
    for incident in incidents.iter().filter(|incident| incident.cause == Cause::Loss) {
        assert_ne!(incident.parts.len(), 0, "there is something that it is about: {incident:?}");
        if incident.state.is_active() {
            assert!(incident.parts().next().is_some(), "{incident:?}");
            for (service, part) in incident.parts() {
                homes.entry(service).or_default().push(&part.shape);
            }
        }
        if incident.state == State::Suspected {
            assert!(incident.told.is_none() && incident.parts().next().is_none(), "{incident:?}");
        }
    }
    for (service, shapes) in homes {
        assert_eq!(shapes.len(), 1, "a service is lost in one incident at a time: {service} {shapes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn nobody_is_told_twice_and_everybody_is_told_the_end(stretches in prop::collection::vec(stretch(), 1..12)) {
        live(&stretches, |_| false);
    }

    #[test]
    fn every_receiver_ends_with_what_was_told_last(stretches in prop::collection::vec(stretch(), 1..8), deaf in 2usize..9) {
        let actions = live(&stretches, |_| false);
        let mut last: BTreeMap<Id, Change> = BTreeMap::new();
        for action in actions.iter().flatten() {
            if let Action::Tell(notice) = action {
                last.insert(notice.id.clone(), notice.change);
            }
        }
        let held = deliver(actions, deaf);
        for (id, change) in last {
            for receiver in ["pager", "chat"] {
                let is_open = held.get(&(id.clone(), receiver.to_owned())).copied().unwrap_or(false);
                prop_assert_eq!(is_open, change != Change::Resolved, "{} at {}", id, receiver);
            }
        }
    }

    #[test]
    fn a_life_that_ends_anywhere_changes_nothing(
        stretches in prop::collection::vec(stretch(), 1..8),
        every in 1u64..50,
    ) {
        prop_assert_eq!(live(&stretches, |_| false), live(&stretches, |now| now % every == 0));
    }
}
