//! What the service under test forwards to us, and what it says of the slots.

use aviary_core::{
    SeriesId, Tag, Timestamp,
    mark::{Mark, Storage},
    plan::phase_us,
};

use super::State;
use crate::received::{Arrived, Waiting};

/// How long a datapoint waits for somebody to own its name.
const WAIT_SECONDS: u64 = 10;

/// How many datapoints wait for that.
const WAITING_MAX: usize = 8_192;

impl State {
    /// A datapoint came.
    pub(crate) fn receive(&mut self, point: Arrived<'_>) {
        if let Some(series) = self.stored.owner(point.name) {
            return self.receive_of(series, point);
        }
        if self.received.waiting.len() >= WAITING_MAX {
            self.give_up_on_one();
        }
        let Arrived { name, second, value, at } = point;
        self.received.waiting.push_back(Waiting { name: name.into(), second, value, at });
    }

    /// There are names that were not known before: what waited may be theirs.
    pub(crate) fn receive_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.received.waiting) {
            let Waiting { name, second, value, at } = &waiting;
            match self.stored.owner(name) {
                Some(series) => {
                    self.receive_of(series, Arrived { name, second: *second, value: *value, at: *at });
                }
                None => self.received.waiting.push_back(waiting),
            }
        }
    }

    /// Nobody owns what has waited for too long.
    pub(crate) fn give_up_waiting(&mut self, now: Timestamp) {
        let is_over = |waiting: &Waiting| now.since(waiting.at) > WAIT_SECONDS * 1_000_000;
        while self.received.waiting.front().is_some_and(is_over) {
            self.give_up_on_one();
        }
    }

    fn give_up_on_one(&mut self) {
        if let Some(Waiting { name, at, .. }) = self.received.waiting.pop_front() {
            self.counts.unowned += 1;
            self.received.note_unowned(&name, at);
        }
    }

    fn receive_of(&mut self, series: SeriesId, point: Arrived<'_>) {
        let Arrived { name, second, value, at } = point;
        let changed = self.ledger.merge(series, second, Mark::stored(Storage::Stored));
        if changed.is_ok() {
            self.watch.touch(second);
            self.stored.shown(series, second);
        }
        let recent = self.received.recent.entry(series).or_default().note(second);
        let is_duplicate = recent.unwrap_or_else(|| changed == Ok(false));
        let Ok(protocol) = self.catalog.tag(series, Tag::Protocol).parse() else { return };
        let counts = self.received.counts(self.catalog.tag(series, Tag::Service), protocol);
        #[expect(clippy::float_cmp, reason = "the 1 that was sent, or not")]
        let is_mangled = value != 1.0;
        counts.mangled += u64::from(is_mangled);
        if is_duplicate {
            counts.duplicates += 1;
            return;
        }
        counts.arrived += 1;
        let due = second.start().plus(u64::from(phase_us(name)));
        counts.delays.record(u32::try_from(at.since(due)).unwrap_or(u32::MAX));
    }
}
