//! The machine: cases, deliveries, and what is due.

use std::collections::BTreeMap;

use crate::{
    Timestamp,
    incident::Id,
    page::{
        backoff::{self, RETRY_AFTER_MAX},
        case::{Case, SECOND},
        delivery::{Attempt, Belief, Dead, Delivery, Message},
        notice::{Change, Notice, Urgency},
        route::{Paging, Receiver},
    },
};

/// So many incidents are held; the one that has been over for longest is let go for another.
pub const CASES_MAX: usize = 16_384;

/// What is over is told for so long: a day.
pub const KEPT_SECONDS: u64 = 86_400;

/// The end is said again for so long to receivers that ask for it: Alertmanager's peers forget otherwise.
pub const SAY_AGAIN_SECONDS: u64 = 300;

/// A test that does not arrive is given up after so long.
const TEST_SECONDS: u64 = 300;

/// A message of which nothing was heard for so long is taken for lost: whoever sends gives up far earlier.
const SILENT_SECONDS: u64 = 60;

/// So many messages may follow each other at once before the rate of a receiver holds.
const BURST: u64 = 5;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The receiver took it.
    Taken {
        /// What it holds is to be said again after so many seconds, or it forgets.
        say_again: Option<u64>,
    },
    /// It surely did not take it: it could not be reached, or has too much to do.
    NotTaken {
        /// It wants to be left alone for so many seconds.
        retry_after: Option<u64>,
    },
    /// Nobody can tell: it did not answer in time, was reset, or failed while it answered.
    Unknown {
        /// It wants to be left alone for so many seconds.
        retry_after: Option<u64>,
    },
    /// It will never take this.
    Refused(String),
}

/// What happens to the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An incident was opened, changed or is over.
    Told(Notice),
    /// Somebody is on it.
    Acknowledged(Id),
    /// An attempt came to an end.
    Finished {
        /// Of which incident.
        id: Id,
        /// At which receiver.
        receiver: String,
        /// Which attempt.
        attempt: u64,
        /// What came of it.
        sent: Sent,
    },
    /// Somebody wants to see that messages arrive: the notice goes to this receiver alone, and resolves itself.
    Test(Notice, String),
    /// The receivers or routes are others now.
    Configured,
    /// Time has passed: at least once a second.
    Tick,
}

/// What is to be done, once the outbox is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message, made of the incident as it is by now; then tell what came of it.
    Send {
        /// Of which incident.
        id: Id,
        /// The incident's one key.
        key: String,
        /// To which receiver.
        receiver: String,
        /// What it says, of which state, and which attempt it is.
        attempt: Attempt,
        /// How often the incident was opened again.
        reopens: u32,
    },
    /// To the log, and to nobody: the service runs beside what is trusted today.
    Log(Notice),
    /// A message will never be taken; or, without a refusal, was not taken for a day, or has no receiver any more.
    Dead {
        /// Of which incident.
        id: Id,
        /// At which receiver.
        receiver: String,
        /// Why.
        why: String,
    },
    /// No route takes this incident: nobody is told.
    Unrouted(Id),
    /// Everybody who was told of it knows that it is over; the outbox holds it no more.
    Done(Id),
}

/// What a life leaves to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Every incident of which somebody is still to be told something.
    pub cases: BTreeMap<Id, Case>,
}

/// How busy a receiver is. No need to keep it: a new life begins with all at rest.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// The rate is kept until here (the theoretical arrival time of the generic cell rate algorithm).
    busy_until: Timestamp,
    /// It asked to be left alone until here.
    shut_until: Timestamp,
    in_flight: usize,
}

impl Line {
    fn is_free(&self, receiver: Receiver, now: Timestamp) -> bool {
        self.in_flight < receiver.in_flight.max(1)
            && self.shut_until <= now
            && self.busy_until <= now.plus((BURST - 1) * between(receiver))
    }
}

/// Microseconds between two messages at a receiver's rate.
fn between(receiver: Receiver) -> u64 {
    60 * SECOND / u64::from(receiver.per_minute.max(1))
}

/// What goes first where a receiver cannot take all: pages, then ends, then what is only news.
const fn weight(message: Message) -> u8 {
    match message {
        Message::Opened => 0,
        Message::Resolved => 1,
        Message::FiredAndRecovered => 2,
        Message::Updated => 3,
        Message::Test | Message::TestOver => 4,
    }
}

/// The outbox.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    cases: BTreeMap<Id, Case>,
    lines: BTreeMap<String, Line>,
}

impl Outbox {
    /// What an earlier life left. Of what was on its way nobody knows whether it arrived: it is sent again.
    pub fn from_kept(kept: Kept) -> Self {
        let mut cases = kept.cases;
        for delivery in cases.values_mut().flat_map(|case| case.deliveries.values_mut()) {
            delivery.in_flight = None;
            delivery.not_before = Timestamp(0);
        }
        Self { cases, lines: BTreeMap::new() }
    }

    /// What the next life needs.
    pub fn kept(&self) -> Kept {
        Kept { cases: self.cases.clone() }
    }

    /// An incident, while somebody is still to be told something of it.
    pub fn case(&self, id: &Id) -> Option<&Case> {
        self.cases.get(id)
    }

    /// Every incident of which somebody is still to be told something.
    pub fn cases(&self) -> impl Iterator<Item = (&Id, &Case)> {
        self.cases.iter()
    }

    /// Since when the oldest message that is due has waited, where one is: what shows that the outbox drains.
    pub fn oldest_due(&self, paging: &Paging, now: Timestamp) -> Option<Timestamp> {
        let due = self.cases.values().filter(|case| {
            case.deliveries.iter().any(|(name, delivery)| {
                let receiver = paging.receiver(name).unwrap_or_default();
                case.next(delivery, receiver, paging, now).is_some()
            })
        });
        due.map(|case| case.over.unwrap_or(case.opened)).min()
    }

    /// Takes `event` in, and says what is due at `now`. `seed` is any number, a new one each time.
    pub fn step(&mut self, event: Event, paging: &Paging, now: Timestamp, seed: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            // What was told before it became a shadow is told to its end.
            Event::Told(notice) if notice.shadow && !self.cases.contains_key(&notice.id) => {
                actions.push(Action::Log(notice));
            }
            Event::Told(notice) => self.told(notice, paging, now, &mut actions),
            Event::Acknowledged(id) => {
                if let Some(case) = self.cases.get_mut(&id) {
                    case.acknowledged = true;
                }
            }
            Event::Finished { id, receiver, attempt, sent } => {
                self.finished(&id, &receiver, attempt, sent, now, seed, &mut actions);
            }
            Event::Test(notice, receiver) => {
                let mut case = Case::new(notice, now);
                case.is_test = true;
                case.deliveries.insert(receiver, Delivery::default());
                self.hold(case, &mut actions);
            }
            Event::Configured => self.configured(paging, now, &mut actions),
            Event::Tick => {}
        }
        self.expire(now, seed, &mut actions);
        for case in self.cases.values_mut() {
            case.escalate(paging, now);
        }
        self.send(paging, now, &mut actions);
        self.forget(paging, now, &mut actions);
        actions
    }

    fn told(&mut self, notice: Notice, paging: &Paging, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(case) = self.cases.get_mut(&notice.id) else {
            // Of what is over, and was never told, there is nothing to tell but to those who have it from elsewhere.
            if notice.change != Change::Resolved || !notice.held_by.is_empty() {
                let mut case = Case::new(notice, now);
                if case.over.is_none() && !case.notify(paging, now) {
                    actions.push(Action::Unrouted(case.notice.id.clone()));
                }
                self.hold(case, actions);
            }
            return;
        };
        if notice.revision <= case.notice.revision {
            return;
        }
        let is_reopened = notice.reopens > case.notice.reopens;
        let wakes_now = notice.urgency > case.notice.urgency;
        case.over = (notice.change == Change::Resolved).then_some(now);
        case.notice = notice;
        if is_reopened {
            case.acknowledged = false;
            // Who knows of nothing is asked when it is his turn again.
            case.deliveries.retain(|_, delivery| {
                delivery.in_flight.is_some() || !matches!(delivery.belief, Belief::Nothing | Belief::Closed)
            });
        }
        if is_reopened || wakes_now {
            (case.opened, case.widened, case.steps) = (now, now, 0);
        }
        if is_reopened || case.over.is_some() {
            // News that cannot wait for the end of a back-off.
            case.deliveries.values_mut().for_each(|delivery| delivery.in_vain = 0);
            case.deliveries.values_mut().for_each(|delivery| delivery.not_before = Timestamp(0));
        }
        if case.over.is_none() && !case.is_test {
            case.notify(paging, now);
        }
    }

    /// Holds `case`, and lets go of the one that has been over for longest where there are too many.
    fn hold(&mut self, case: Case, actions: &mut Vec<Action>) {
        if self.cases.len() >= CASES_MAX && !self.cases.contains_key(&case.notice.id) {
            let oldest = self.cases.iter().min_by_key(|(_, case)| case.over.unwrap_or(Timestamp(u64::MAX)));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.bury(&id, &format!("{CASES_MAX} incidents wait, which is the limit"), actions);
            }
        }
        self.cases.insert(case.notice.id.clone(), case);
    }

    /// Lets go of an incident of which not everybody was told.
    fn bury(&mut self, id: &Id, why: &str, actions: &mut Vec<Action>) {
        let Some(case) = self.cases.remove(id) else { return };
        for (receiver, delivery) in case.deliveries {
            if delivery.in_flight.is_some() {
                self.landed(&receiver);
            }
            if delivery.belief != Belief::Closed {
                actions.push(Action::Dead { id: id.clone(), receiver, why: why.to_owned() });
            }
        }
        actions.push(Action::Done(id.clone()));
    }

    /// A message to `receiver` is not on its way any more.
    fn landed(&mut self, receiver: &str) {
        if let Some(line) = self.lines.get_mut(receiver) {
            line.in_flight = line.in_flight.saturating_sub(1);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one event")]
    fn finished(
        &mut self,
        id: &Id,
        receiver: &str,
        number: u64,
        sent: Sent,
        now: Timestamp,
        seed: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(case) = self.cases.get_mut(id) else { return };
        let Some(delivery) = case.deliveries.get_mut(receiver) else { return };
        // An answer to what an earlier life sent, or to what was given up: what followed it decides.
        let Some(attempt) = delivery.in_flight.take_if(|attempt| attempt.number == number) else { return };
        let wait = |asked: Option<u64>, in_vain: u32| match asked {
            Some(seconds) => seconds.min(RETRY_AFTER_MAX) * SECOND,
            None => backoff::wait(in_vain, backoff::draw(seed, id.as_str(), receiver, number)),
        };
        match sent {
            Sent::Taken { say_again } => {
                let until = case.over.map(|over| over.plus(SAY_AGAIN_SECONDS * SECOND));
                let again = say_again.map(|seconds| now.plus(seconds.max(1) * SECOND));
                let again = again.filter(|at| until.is_none_or(|until| *at <= until));
                delivery.took(attempt, again);
                if case.is_test && case.over.is_none() {
                    case.over = Some(now);
                    case.notice.change = Change::Resolved;
                }
            }
            Sent::NotTaken { retry_after } | Sent::Unknown { retry_after } => {
                if matches!(sent, Sent::NotTaken { .. }) {
                    delivery.belief = attempt.before;
                }
                delivery.in_vain = delivery.in_vain.saturating_add(1);
                delivery.not_before = now.plus(wait(retry_after, delivery.in_vain));
                if retry_after.is_some() {
                    let line = self.lines.entry(receiver.to_owned()).or_default();
                    line.shut_until = line.shut_until.max(delivery.not_before);
                }
            }
            Sent::Refused(why) => {
                delivery.belief = attempt.before;
                delivery.in_vain = 0;
                if case.is_test {
                    case.over = Some(now);
                }
                delivery.dead = Some(Dead {
                    message: attempt.message,
                    revision: attempt.revision,
                    reopens: case.notice.reopens,
                    why: why.clone(),
                });
                actions.push(Action::Dead { id: id.clone(), receiver: receiver.to_owned(), why });
            }
        }
        self.landed(receiver);
    }

    /// Lets go of what goes to receivers that are no more, and asks those that the routes name now.
    fn configured(&mut self, paging: &Paging, now: Timestamp, actions: &mut Vec<Action>) {
        self.lines.retain(|name, _| paging.receiver(name).is_some());
        for (id, case) in &mut self.cases {
            case.deliveries.retain(|name, delivery| {
                let is_held = paging.receiver(name).is_some();
                if !is_held && !matches!(delivery.belief, Belief::Nothing | Belief::Closed) {
                    let why = "the receiver is not in the configuration any more".to_owned();
                    actions.push(Action::Dead { id: id.clone(), receiver: name.clone(), why });
                }
                is_held
            });
            if case.over.is_none() && !case.is_test {
                case.notify(paging, now);
            }
        }
    }

    /// Gives up what nothing was heard of.
    fn expire(&mut self, now: Timestamp, seed: u64, actions: &mut Vec<Action>) {
        let is_silent = |attempt: &Attempt| now.since(attempt.since) >= SILENT_SECONDS * SECOND;
        let mut silent = Vec::new();
        for (id, case) in &self.cases {
            for (receiver, delivery) in &case.deliveries {
                if let Some(attempt) = delivery.in_flight.filter(is_silent) {
                    silent.push((id.clone(), receiver.clone(), attempt.number));
                }
            }
        }
        for (id, receiver, number) in silent {
            let sent = Sent::Unknown { retry_after: None };
            self.finished(&id, &receiver, number, sent, now, seed, actions);
        }
    }

    /// Sends what is due: openings first, then ends, then the rest, the longest open first.
    fn send(&mut self, paging: &Paging, now: Timestamp, actions: &mut Vec<Action>) {
        let mut due = Vec::new();
        for (id, case) in &self.cases {
            for (name, delivery) in &case.deliveries {
                let Some(receiver) = paging.receiver(name) else { continue };
                if delivery.in_flight.is_none()
                    && delivery.not_before <= now
                    && let Some(message) = case.next(delivery, receiver, paging, now)
                {
                    let rank = (case.notice.urgency < Urgency::Page, weight(message), case.opened);
                    due.push((rank, id.clone(), name.clone(), receiver, message));
                }
            }
        }
        due.sort_by(|left, right| (&left.0, &left.1, &left.2).cmp(&(&right.0, &right.1, &right.2)));
        for (_, id, name, receiver, message) in due {
            let line = self.lines.entry(name.clone()).or_default();
            let case = self.cases.get_mut(&id);
            let Some(case) = case.filter(|_| line.is_free(receiver, now)) else { continue };
            let Some(delivery) = case.deliveries.get_mut(&name) else { continue };
            line.in_flight += 1;
            line.busy_until = line.busy_until.max(now).plus(between(receiver));
            let attempt = delivery.send(message, case.notice.revision, now);
            let (key, reopens) = (case.notice.key.clone(), case.notice.reopens);
            actions.push(Action::Send { id, key, receiver: name, attempt, reopens });
        }
    }

    /// Lets go of what is over and known to be, and after a day of what is not.
    fn forget(&mut self, paging: &Paging, now: Timestamp, actions: &mut Vec<Action>) {
        let mut done = Vec::new();
        let mut late = Vec::new();
        for (id, case) in &self.cases {
            let since = case.over.or_else(|| case.is_test.then_some(case.opened));
            let Some(since) = since else { continue };
            let kept = if case.is_test { TEST_SECONDS } else { KEPT_SECONDS };
            let is_done = case.over.is_some()
                && case.deliveries.iter().all(|(name, delivery)| {
                    let receiver = paging.receiver(name).unwrap_or_default();
                    delivery.in_flight.is_none()
                        && delivery.say_again.is_none_or(|at| at <= now)
                        && case.next(delivery, receiver, paging, now).is_none()
                });
            if is_done {
                done.push(id.clone());
            } else if now.since(since) >= kept * SECOND {
                late.push((id.clone(), kept));
            }
        }
        for id in done {
            self.cases.remove(&id);
            actions.push(Action::Done(id));
        }
        for (id, kept) in late {
            self.bury(&id, &format!("the receiver did not take the end for {kept} s"), actions);
        }
    }
}
