//! One incident, and who is told of it.

use std::collections::BTreeMap;

use crate::{
    Timestamp,
    page::{
        delivery::{Belief, Delivery, Message},
        notice::{Change, Notice, Urgency},
        route::{Paging, Receiver},
    },
};

/// The microseconds of a second.
pub(super) const SECOND: u64 = 1_000_000;

/// If nobody took an opening for so long, the next is told.
pub const RECEIPT_SECONDS: u64 = 60;

/// An incident, as far as others are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its latest state.
    pub notice: Notice,
    /// When it was opened, the last time that it was.
    pub opened: Timestamp,
    /// When it was over.
    pub over: Option<Timestamp>,
    /// Somebody is on it: nobody else is asked.
    pub acknowledged: bool,
    /// So many steps of its escalation are taken.
    pub steps: usize,
    /// When somebody more was told.
    pub widened: Timestamp,
    /// What became of it at each receiver.
    pub deliveries: BTreeMap<String, Delivery>,
    /// It is a test of its receivers, and nothing else.
    pub is_test: bool,
}

impl Case {
    pub(super) fn new(notice: Notice, now: Timestamp) -> Self {
        let held = |name: &String| (name.clone(), Delivery { belief: Belief::Open, ..Delivery::default() });
        Self {
            deliveries: notice.held_by.iter().map(held).collect(),
            over: (notice.change == Change::Resolved).then_some(now),
            notice,
            opened: now,
            acknowledged: false,
            steps: 0,
            widened: now,
            is_test: false,
        }
    }

    /// What a receiver is to be told next, quiet hours allowing.
    pub(super) fn next(
        &self,
        delivery: &Delivery,
        receiver: Receiver,
        paging: &Paging,
        now: Timestamp,
    ) -> Option<Message> {
        let message = delivery.next(&self.notice, receiver.wakes && !self.is_test, now)?;
        if self.is_test {
            // Whoever refuses a test for good has shown what was to be seen.
            return match message {
                _ if delivery.dead.is_some() => None,
                Message::Opened => Some(Message::Test),
                Message::Resolved => Some(Message::TestOver),
                Message::Updated | Message::FiredAndRecovered | Message::Test | Message::TestOver => None,
            };
        }
        let may_wait = self.notice.urgency < Urgency::Page && message != Message::Resolved;
        (!may_wait || !paging.is_quiet(&self.notice, now.second())).then_some(message)
    }

    /// Asks everybody whom its route names. Whether there is a route.
    pub(super) fn notify(&mut self, paging: &Paging, now: Timestamp) -> bool {
        let Some(route) = paging.route(&self.notice) else { return false };
        self.ask(&route.notify, paging, now);
        true
    }

    fn ask(&mut self, names: &[String], paging: &Paging, now: Timestamp) {
        let before = self.deliveries.len();
        for name in names.iter().filter(|name| paging.receiver(name).is_some()) {
            self.deliveries.entry(name.clone()).or_default();
        }
        if self.deliveries.len() > before {
            self.widened = now;
        }
    }

    /// Asks somebody more, where it is time.
    pub(super) fn escalate(&mut self, paging: &Paging, now: Timestamp) {
        let is_page = self.notice.urgency == Urgency::Page && !self.is_test;
        if !is_page || self.acknowledged || self.over.is_some() {
            return;
        }
        let Some(route) = paging.route(&self.notice) else { return };
        while let Some(step) = route.escalate.get(self.steps)
            && now.since(self.opened) >= step.after * SECOND
        {
            self.steps += 1;
            self.ask(&step.notify, paging, now);
        }
        let reopens = self.notice.reopens;
        let refused = |delivery: &Delivery| {
            delivery
                .dead
                .as_ref()
                .is_some_and(|dead| dead.message == Message::Opened && dead.reopens == reopens)
        };
        let is_taken = self.deliveries.values().any(|delivery| delivery.belief == Belief::Open);
        let all_refused = self.deliveries.values().all(refused);
        let is_late = now.since(self.widened) >= RECEIPT_SECONDS * SECOND;
        if is_taken || !(all_refused || is_late) {
            return;
        }
        if let Some(step) = route.escalate.get(self.steps) {
            self.steps += 1;
            self.ask(&step.notify, paging, now);
        } else if let Some(name) = paging.receivers().find(|name| !self.deliveries.contains_key(*name)) {
            self.ask(&[name.to_owned()], paging, now);
        }
    }
}
