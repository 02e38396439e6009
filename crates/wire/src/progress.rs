//! How far an agent's series have been told: what it keeps on its disk, so that its next life can say what was missed.

use aviary_core::{Second, Span};
use prost::Message as _;

use crate::report::{ClosedSlot, Gap, SERIES_MAX, SPAN_SECONDS_MAX};

/// How far the series of each roster of an agent have been told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The life of the agent that wrote this.
    pub boot: u64,
    /// The number of its next report: those from here on say more than this does.
    pub sequence: u64,
    /// One for each roster that is being probed; more than one while others take over.
    pub crews: Vec<CrewProgress>,
    /// The seconds that were walked, also by lives before this one, oldest first: nothing is sent for them again, whatever
    /// the clock is set to. Seconds that it only jumped over are not among them.
    pub walked: Vec<Span>,
}

/// How far the series of one roster have been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrewProgress {
    /// The hash of the roster.
    pub roster_id: u64,
    /// Where its slots begin.
    pub since: Second,
    /// Where its slots end, once others have taken over.
    pub until: Option<Second>,
    /// For each series, in the order of the roster.
    pub series: Vec<SeriesProgress>,
}

/// How far one series has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesProgress {
    /// Every slot before this was told.
    pub next: Second,
    /// What was told beyond, rising and apart from each other: a slot can close before the one before it.
    pub ahead: Vec<Span>,
}

impl CrewProgress {
    /// The slots and gaps of a report of this crew are told.
    pub fn tell(&mut self, slots: &[ClosedSlot], gaps: &[Gap]) {
        for gap in gaps {
            let places = gap.first as usize..(gap.first + gap.count) as usize;
            self.series.get_mut(places).into_iter().flatten().for_each(|series| series.tell(gap.span));
        }
        for slot in slots {
            if let Some(series) = self.series.get_mut(slot.series as usize) {
                series.tell(Span::new(slot.second, slot.second.plus(1)));
            }
        }
    }
}

impl SeriesProgress {
    /// Nothing was told yet of a series whose slots begin at `since`.
    pub const fn starting(since: Second) -> Self {
        Self { next: since, ahead: Vec::new() }
    }

    /// The clock was stepped, and the walk goes on at `to`. What comes before it is told. Of what lies behind it in a time
    /// that is yet to come, nothing is.
    pub fn step_to(&mut self, to: Second) {
        if self.next > to {
            *self = Self::starting(to);
        }
    }

    /// The slots of `span` are told.
    pub fn tell(&mut self, span: Span) {
        if span.from > self.next {
            let place = self.ahead.partition_point(|told| told.from < span.from);
            self.ahead.insert(place, span);
            self.ahead.dedup_by(|later, earlier| {
                let touch = later.from <= earlier.until;
                if touch {
                    earlier.until = earlier.until.max(later.until);
                }
                touch
            });
        } else {
            self.next = self.next.max(span.until);
        }
        while let Some(first) = self.ahead.first().filter(|first| first.from <= self.next) {
            self.next = self.next.max(first.until);
            self.ahead.remove(0);
        }
    }

    /// The end of what was told last: a slot that was dropped on its way leaves a hole before it for good.
    pub fn newest(&self) -> Second {
        self.ahead.last().map_or(self.next, |told| told.until)
    }

    /// What was not told of the slots before `until`.
    pub fn untold(&self, until: Second) -> impl Iterator<Item = Span> {
        let begins = std::iter::once(self.next).chain(self.ahead.iter().map(|told| told.until));
        let ends = self.ahead.iter().map(move |told| told.from.min(until)).chain(std::iter::once(until));
        begins.zip(ends).map(|(from, until)| Span::new(from, until)).filter(|span| !span.is_empty())
    }
}

/// Bytes that are no progress of ours: of another version, or damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record of what was told cannot be read: {0}")]
pub struct ProgressError(String);

impl Progress {
    /// The progress as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let crews = self.crews.iter().map(|crew| {
            let base = crew.series.iter().map(|series| series.next.0).min().unwrap_or(0);
            let ahead = crew.series.iter().enumerate().flat_map(|(place, series)| {
                series.ahead.iter().map(move |span| message::Ahead {
                    place: place as u32,
                    from: span.from.0,
                    seconds: span.seconds(),
                })
            });
            message::Crew {
                roster_id: crew.roster_id,
                since: crew.since.0,
                until: crew.until.map(|until| until.0),
                base,
                after: crew.series.iter().map(|series| series.next.0 - base).collect(),
                ahead: ahead.collect(),
            }
        });
        let walked =
            self.walked.iter().map(|span| message::Walked { from: span.from.0, seconds: span.seconds() });
        message::Progress {
            boot: self.boot,
            sequence: self.sequence,
            crews: crews.collect(),
            walked: walked.collect(),
        }
        .encode_to_vec()
    }

    /// The progress in `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProgressError> {
        let message = message::Progress::decode(bytes).map_err(|error| ProgressError(error.to_string()))?;
        let crews = message.crews.into_iter().map(|crew| {
            if crew.after.len() > SERIES_MAX {
                return Err(ProgressError(format!("{} series in a roster", crew.after.len())));
            }
            let base = Second(crew.base);
            let mut series: Vec<_> =
                crew.after.iter().map(|after| SeriesProgress::starting(base.plus(*after))).collect();
            for message::Ahead { place, from, seconds } in crew.ahead {
                let series = series
                    .get_mut(place as usize)
                    .ok_or_else(|| ProgressError(format!("no series has place {place}")))?;
                let from = Second(from);
                series.tell(Span::new(from, from.plus(seconds.min(SPAN_SECONDS_MAX))));
            }
            Ok(CrewProgress {
                roster_id: crew.roster_id,
                since: Second(crew.since),
                until: crew.until.map(Second),
                series,
            })
        });
        let crews = crews.collect::<Result<_, _>>()?;
        let walked = message.walked.into_iter().map(|walked| {
            let from = Second(walked.from);
            Span::new(from, from.plus(walked.seconds.min(SPAN_SECONDS_MAX)))
        });
        Ok(Self { boot: message.boot, sequence: message.sequence, crews, walked: walked.collect() })
    }
}

mod message {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Progress {
        #[prost(fixed64, tag = "1")]
        pub(super) boot: u64,
        #[prost(uint64, tag = "2")]
        pub(super) sequence: u64,
        #[prost(message, repeated, tag = "3")]
        pub(super) crews: Vec<Crew>,
        #[prost(message, repeated, tag = "4")]
        pub(super) walked: Vec<Walked>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Walked {
        #[prost(uint64, tag = "1")]
        pub(super) from: u64,
        #[prost(uint64, tag = "2")]
        pub(super) seconds: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Crew {
        #[prost(fixed64, tag = "1")]
        pub(super) roster_id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) since: u64,
        #[prost(uint64, optional, tag = "3")]
        pub(super) until: Option<u64>,
        #[prost(uint64, tag = "4")]
        pub(super) base: u64,
        /// How many seconds after `base` the first slot is that was not told, of each series.
        #[prost(uint64, repeated, tag = "5")]
        pub(super) after: Vec<u64>,
        #[prost(message, repeated, tag = "6")]
        pub(super) ahead: Vec<Ahead>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Ahead {
        #[prost(uint32, tag = "1")]
        pub(super) place: u32,
        #[prost(uint64, tag = "2")]
        pub(super) from: u64,
        #[prost(uint64, tag = "3")]
        pub(super) seconds: u64,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn span(from: u64, seconds: u64) -> Span {
        Span::new(Second(from), Second(from + seconds))
    }

    proptest! {
        #[test]
        fn what_is_told_and_untold_is_everything(told in prop::collection::vec((0u64..60, 1u64..6), 0..30)) {
            let mut series = SeriesProgress::starting(Second(10));
            let mut model = BTreeSet::new();
            for (from, seconds) in told {
                series.tell(span(from, seconds));
                model.extend(from..from + seconds);
            }
            let untold: Vec<_> = series.untold(Second(50)).flat_map(Span::iter).map(|second| second.0).collect();
            let expected: Vec<_> = (10..50).filter(|second| !model.contains(second)).collect();
            prop_assert_eq!(untold, expected);
            let crews = vec![CrewProgress {
                roster_id: 7, since: Second(10), until: Some(Second(99)),
                series: vec![series, SeriesProgress::starting(Second(3))],
            }];
            let progress = Progress { boot: 1, sequence: 2, crews, walked: vec![span(3, 7), span(20, 1)] };
            prop_assert_eq!(Progress::decode(&progress.encode()), Ok(progress));
        }

        #[test]
        fn a_step_leaves_nothing_before_it_and_nothing_to_come_told(told in 11u64..60, to in 1u64..60) {
            let mut series = SeriesProgress::starting(Second(10));
            series.tell(span(10, told - 10));
            series.tell(span(told + 3, 2));
            let before = series.clone();
            series.step_to(Second(to));
            if to < told {
                prop_assert_eq!(series, SeriesProgress::starting(Second(to)));
            } else {
                prop_assert_eq!(series, before);
            }
        }

        #[test]
        fn damaged_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Whatever it says, it says it: no panic, no endless list.
            drop(Progress::decode(&bytes));
        }
    }
}
