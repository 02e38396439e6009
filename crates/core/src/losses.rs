//! What a lost or local slot needs beside its mark: a bounded sparse table.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::{
    Evidence, LocalFault, Phase,
    ledger::SeriesId,
    outcome::Fault,
    time::{Second, Span},
};

/// Why a slot was not delivered: the service's fault or our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The agent's own fault.
    Local(LocalFault),
    /// Held against the service.
    Service(Fault),
}

/// What is known of one slot that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Loss {
    /// Where the attempt stood.
    pub phase: Phase,
    /// What went wrong.
    pub cause: Cause,
    /// How far the proof had reached by then.
    pub reached: Option<Evidence>,
    /// The address that was tried.
    pub address: Option<SocketAddr>,
}

/// The losses of the newest slots, at most as many as the table was made for; the oldest are dropped and counted.
pub struct Losses {
    table: BTreeMap<(Second, SeriesId), Loss>,
    capacity: usize,
    dropped: u64,
}

impl Losses {
    /// An empty table for at most `capacity` losses.
    pub const fn new(capacity: usize) -> Self {
        Self { table: BTreeMap::new(), capacity, dropped: 0 }
    }

    /// Notes a loss. Of two accounts of one slot the greater stays, whichever came first.
    ///
    /// A full table has no place for what is older than all it holds: so a repeat of what was dropped changes nothing.
    pub fn note(&mut self, series: SeriesId, second: Second, loss: Loss) {
        let oldest = self.table.keys().next();
        if self.table.len() >= self.capacity && oldest.is_some_and(|oldest| (second, series) < *oldest) {
            return;
        }
        self.table.entry((second, series)).and_modify(|known| *known = loss.max(*known)).or_insert(loss);
        while self.table.len() > self.capacity {
            self.table.pop_first();
            self.dropped += 1;
        }
    }

    /// What is known of one slot.
    pub fn get(&self, series: SeriesId, second: Second) -> Option<&Loss> {
        self.table.get(&(second, series))
    }

    /// The losses inside `span`, in order of time.
    pub fn within(&self, span: Span) -> impl Iterator<Item = (Second, SeriesId, &Loss)> {
        let from = (span.from, SeriesId(0));
        let until = (span.until.max(span.from), SeriesId(0));
        self.table.range(from..until).map(|((second, series), loss)| (*second, *series, loss))
    }

    /// Forgets everything before `second`.
    pub fn forget_before(&mut self, second: Second) {
        self.table = self.table.split_off(&(second, SeriesId(0)));
    }

    /// How many losses were dropped because the table was full.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Loss =
        Loss { phase: Phase::Connect, cause: Cause::Service(Fault::Refused), reached: None, address: None };

    #[test]
    fn the_table_is_bounded_and_says_what_it_dropped() {
        let mut losses = Losses::new(3);
        for second in 0..5 {
            losses.note(SeriesId(0), Second(second), REFUSED);
        }
        losses.note(SeriesId(0), Second(0), REFUSED);
        assert_eq!(losses.dropped(), 2);
        assert_eq!(losses.get(SeriesId(0), Second(1)), None);
        assert_eq!(losses.within(Span::new(Second(3), Second(9))).count(), 2);
        losses.forget_before(Second(4));
        assert_eq!(losses.within(Span::new(Second(0), Second(9))).count(), 1);
    }

    #[test]
    fn two_accounts_of_one_slot_agree_in_either_order() {
        let other = Loss { phase: Phase::Confirm, cause: Cause::Service(Fault::Timeout), ..REFUSED };
        let told = |order: [Loss; 2]| {
            let mut losses = Losses::new(3);
            order.into_iter().for_each(|loss| losses.note(SeriesId(0), Second(1), loss));
            losses.get(SeriesId(0), Second(1)).copied()
        };
        assert_eq!(told([REFUSED, other]), told([other, REFUSED]));
    }
}
