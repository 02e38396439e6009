//! What an incident keeps of things that there is no end of: the newest, and how many there were.

use std::collections::VecDeque;

use crate::Span;

/// The newest of something, and how many older ones were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest<T> {
    /// The newest, oldest first.
    pub kept: VecDeque<T>,
    /// How many were dropped.
    pub dropped: u64,
}

/// So many of each are kept with an incident.
pub const NEWEST_MAX: usize = 256;

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self { kept: VecDeque::new(), dropped: 0 }
    }
}

impl<T> Newest<T> {
    /// How many there were.
    pub fn total(&self) -> u64 {
        self.dropped + self.kept.len() as u64
    }

    /// Takes in one more.
    pub(super) fn push(&mut self, one: T) {
        if self.kept.len() >= NEWEST_MAX {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back(one);
    }
}

/// Seconds as ranges that do not touch, the newest of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seconds {
    /// The ranges, oldest first.
    pub spans: Vec<Span>,
    /// How many seconds of older ranges were dropped.
    pub dropped: u64,
}

impl Seconds {
    /// Takes in the seconds of `span`; those that are known, and what is older than all ranges of a full list, change
    /// nothing.
    pub(super) fn insert(&mut self, mut span: Span) {
        let is_full = self.spans.len() >= NEWEST_MAX;
        if span.is_empty() || is_full && span.until < self.spans[0].from {
            return;
        }
        let first = self.spans.partition_point(|held| held.until < span.from);
        let last = self.spans.partition_point(|held| held.from <= span.until);
        if let Some(touched) = self.spans.get(first..last).filter(|touched| !touched.is_empty()) {
            span.from = span.from.min(touched[0].from);
            span.until = span.until.max(touched[touched.len() - 1].until);
        }
        self.spans.splice(first..last, [span]);
        if self.spans.len() > NEWEST_MAX {
            self.dropped += self.spans.remove(0).seconds();
        }
    }

    /// How many seconds there are, those that were dropped among them.
    pub fn total(&self) -> u64 {
        self.dropped + self.spans.iter().map(|span| span.seconds()).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::Second;

    proptest! {
        #[test]
        fn lost_seconds_are_a_set(spans in prop::collection::vec((0u64..300, 0u64..20), 0..60)) {
            let mut seconds = Seconds::default();
            let mut set = BTreeSet::new();
            for (from, length) in spans {
                let span = Span::new(Second(from), Second(from + length));
                seconds.insert(span);
                seconds.insert(span);
                set.extend(span.iter());
            }
            let held: Vec<Second> = seconds.spans.iter().flat_map(|span| span.iter()).collect();
            prop_assert_eq!(held, set.into_iter().collect::<Vec<_>>());
            prop_assert!(seconds.spans.windows(2).all(|pair| pair[0].until < pair[1].from));
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_dropped_is_counted() {
        let mut seconds = Seconds::default();
        let mut newest = Newest::default();
        for number in 0..1_000 {
            seconds.insert(Span::before(Second(10 * number + 2), 2));
            newest.push(number);
        }
        assert_eq!((seconds.spans.len(), seconds.total()), (NEWEST_MAX, 2_000));
        assert_eq!((newest.kept.len(), newest.dropped, newest.kept.back()), (NEWEST_MAX, 744, Some(&999)));
    }
}
