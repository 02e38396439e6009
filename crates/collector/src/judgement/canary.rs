//! A canary of our own, that must fail: each five minutes a service that does not exist loses half a minute.
//!
//! What it loses takes the way that every loss takes (a bank, its windows, an incident, the outbox) to a receiver that is
//! nobody. How long that took is measured, and where nothing arrives we are blind, whatever else looks well: then the dead
//! man's switch is not to be told that we watch. It is in no list, and nobody is told of it.

use aviary_core::{
    AcceptableLoss, Second, Timestamp,
    detect::{Bank, Budget, Burstiness, Level as Found, Tally, Test, WINDOWS},
    extent::{Extent, Predicate, Rule},
    incident::{self, Firing, Incidents, Level, Observation, Observed, Policy},
    page::{self, Message, Outbox, Paging, Receiver, Sent},
};

use crate::state::found;

/// A round takes so long.
const ROUND_SECONDS: u64 = 300;

/// It loses all from this second of a round on, for so long.
const ONSET: u64 = 60;
const LOST_SECONDS: u64 = 30;

/// So many slots it has in a second.
const SLOTS: u64 = 6;

/// Nothing was heard for more than a round, and the time that it may take.
const SILENT_SECONDS: u64 = ROUND_SECONDS + 120;

const NAME: &str = "aviary-canary";
const NOBODY: &str = "nobody";

/// The canary of a collector.
pub(super) struct Canary {
    round: Round,
    paging: Paging,
    /// Since when it runs.
    since: Timestamp,
    /// When a loss was told of last, and how many microseconds after it began.
    told: Option<(Timestamp, u64)>,
}

/// One loss, from before it to after it.
struct Round {
    number: u64,
    bank: Bank,
    incidents: Incidents,
    outbox: Outbox,
}

impl Round {
    fn new(number: u64) -> Self {
        Self {
            number,
            bank: Bank::new(Second(number * ROUND_SECONDS)),
            incidents: Incidents::new(NAME),
            outbox: Outbox::default(),
        }
    }
}

impl Canary {
    pub(super) fn new(now: Timestamp) -> Self {
        let nobody = (NOBODY.to_owned(), Receiver { wakes: true, ..Receiver::default() });
        Self {
            round: Round::new(now.second().0 / ROUND_SECONDS),
            paging: Paging::new(vec![nobody], Vec::new(), std::collections::BTreeMap::new()),
            since: now,
            told: None,
        }
    }

    /// How many seconds its last loss took to be told of, if any was.
    pub(super) fn delay_seconds(&self) -> Option<f64> {
        self.told.map(|(_, delay)| delay as f64 / 1e6)
    }

    /// Since when nothing was heard of it that should have been.
    pub(super) fn silent_since(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.told.map_or(self.since, |(told, _)| told);
        (now.since(last) > SILENT_SECONDS * 1_000_000).then_some(last)
    }

    /// Lets it live through the second before `now`.
    pub(super) fn step(&mut self, now: Timestamp) {
        let second = now.second().minus(1);
        let number = second.0 / ROUND_SECONDS;
        if number != self.round.number {
            self.round = Round::new(number);
        }
        let place = second.0 % ROUND_SECONDS;
        let is_lost = (ONSET..ONSET + LOST_SECONDS).contains(&place);
        let tally = Tally { judged: SLOTS, lost: if is_lost { SLOTS } else { 0 } };
        // It is the newest.
        _ = self.round.bank.set(second, tally);
        let observed = Observed { services: vec![self.observe(now.second())], ..Observed::default() };
        for action in self.round.incidents.step(incident::Event::Observed(observed), now.second()) {
            if let incident::Action::Tell(notice) = action {
                self.deliver(page::Event::Told(notice), now);
            }
        }
        self.deliver(page::Event::Tick, now);
    }

    fn observe(&self, now: Second) -> Observation {
        let acceptable = AcceptableLoss::default();
        let test = Test::new(acceptable, Budget::default(), Burstiness::fixed(1.0));
        let found = found(&self.round.bank, &test, WINDOWS[WINDOWS.len() - 1]);
        let firing = found.iter().map(|found| Firing {
            seconds: found.seconds,
            reach: found.seconds,
            scheduled: SLOTS * found.seconds,
            judged: found.tally.judged,
            lost: found.tally.lost,
            threshold: found.tally.lost,
            acceptable,
        });
        let (lost, judged) = found.first().map_or((0, 0), |found| (found.tally.lost, found.tally.judged));
        let (matches, except) = (Predicate::default(), Vec::new());
        let rule = Rule { matches, except, loss: 1.0, share: 1.0, lost, judged };
        Observation {
            level: match found.first().map(|found| found.level) {
                Some(Found::Firing) => Level::Full,
                Some(_) => Level::Suspected,
                None => Level::Quiet,
            },
            firing: firing.collect(),
            confirmed: !found.is_empty(),
            clear: self
                .round
                .incidents
                .clearing(NAME, now)
                .is_some_and(|clearing| self.round.bank.newest(clearing.at_least.max(60)).lost == 0),
            is_down: true,
            vantages: 1,
            networks: 1,
            extent: Extent { rules: vec![rule], ..Extent::default() },
            summary: format!("{NAME}: lost on purpose"),
            ..Observation::quiet(NAME, Policy::default())
        }
    }

    /// Nobody takes whatever is sent, at once.
    fn deliver(&mut self, event: page::Event, now: Timestamp) {
        let mut actions = self.round.outbox.step(event, &self.paging, now, 0);
        while let Some(action) = actions.pop() {
            let page::Action::Send { id, receiver, attempt, .. } = action else { continue };
            if attempt.message == Message::Opened {
                let onset = Second(self.round.number * ROUND_SECONDS + ONSET).start();
                self.told = Some((now, now.since(onset)));
            }
            let sent = Sent::Taken { say_again: None };
            let event = page::Event::Finished { id, receiver, attempt: attempt.number, sent };
            actions.extend(self.round.outbox.step(event, &self.paging, now, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_763_690_400;

    fn at(second: u64) -> Timestamp {
        Timestamp((START + second) * 1_000_000)
    }

    #[test]
    fn it_fails_in_every_round_and_is_heard_within_the_time_that_a_page_takes() {
        let mut canary = Canary::new(at(0));
        for second in 1..1_500 {
            canary.step(at(second));
            assert_eq!(canary.silent_since(at(second)), None, "second {second}");
            if second % ROUND_SECONDS == ONSET + LOST_SECONDS {
                let (told, _) = canary.told.unwrap();
                assert!(told.second().0 >= START + second - LOST_SECONDS, "of this round, at {second}");
            }
        }
        // A second until it is looked at, another until it is beyond chance, ten of `page_after`.
        let delay = canary.delay_seconds().unwrap();
        assert!((10.0..=14.0).contains(&delay), "{delay} s");
    }

    #[test]
    fn where_nothing_arrives_it_is_said() {
        let mut canary = Canary::new(at(0));
        canary.paging = Paging::default();
        let silent = (1..1_000).find(|second| {
            canary.step(at(*second));
            canary.silent_since(at(*second)).is_some()
        });
        assert_eq!(silent, Some(SILENT_SECONDS + 1));
        assert_eq!(canary.delay_seconds(), None);
    }

    #[test]
    fn a_stall_is_seen_in_the_delay() {
        let mut canary = Canary::new(at(0));
        for second in (1..=62).chain(80..=95) {
            canary.step(at(second));
        }
        assert!(canary.delay_seconds().unwrap() >= 20.0, "{:?}", canary.told);
    }
}
