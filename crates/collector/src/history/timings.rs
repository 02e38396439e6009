//! Phase timings by minute: states of histograms that only grow, merged by the greater count.
//!
//! A histogram is one life's of an agent, of one service, protocol and phase, and is kept under the first series that has
//! those tags. Of the newest minutes the states are held until they have stopped growing.

use std::collections::BTreeMap;

use aviary_core::{
    Phase, Second, SeriesId, Span, Tag,
    histogram::{BUCKETS, Histogram},
};
use aviary_store::Table;
use bytes::Bytes;

use super::{
    History, HistoryError, codec,
    keep::{damaged, minutes_of, parse},
    key::{Chunk, Level, Time},
    shelf::Changes,
    varint::{Damage, Reader, put},
};

/// What a histogram is of, beside its phase.
pub(crate) const TAGS: [Tag; 7] =
    [Tag::Kind, Tag::Network, Tag::Node, Tag::Protocol, Tag::Region, Tag::Service, Tag::Zone];

/// A minute's states are written so long after its end: by then hardly one of them grows.
const WRITTEN_AFTER_SECONDS: u64 = 120;

/// The most states that are held; those of further minutes are not taken, and counted.
const HELD_MAX: usize = 1 << 20;

const FORM: u8 = 0x40;

/// Counts by bucket, of those that are not empty.
type Counts = Vec<(u8, u64)>;

/// Which histogram: its minute, the series it is kept under, the life of the agent, and the phase's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Of {
    minute: u64,
    series: SeriesId,
    boot: u64,
    phase: u8,
}

/// The state of a histogram, as a report tells it.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    /// The first series with its tags.
    pub(crate) series: SeriesId,
    /// The life of the agent that tells it.
    pub(crate) boot: u64,
    pub(crate) phase: Phase,
    /// A second of its minute.
    pub(crate) minute: Second,
    counts: Counts,
}

impl Timed {
    pub(crate) fn new(
        series: SeriesId,
        boot: u64,
        phase: Phase,
        minute: Second,
        histogram: &Histogram,
    ) -> Self {
        // There are fewer buckets than a byte tells apart.
        let counts = histogram.buckets().map(|(bucket, count)| (bucket as u8, count)).collect();
        Self { series, boot, phase, minute, counts }
    }
}

/// What was measured in one minute, of one series and those it stands for.
pub(crate) struct TimedMinute<'a> {
    pub(crate) series: SeriesId,
    pub(crate) phase: Phase,
    pub(crate) minute: Second,
    counts: &'a [(u8, u64)],
}

impl TimedMinute<'_> {
    /// Adds what was measured to `histogram`.
    pub(crate) fn add_to(&self, histogram: &mut Histogram) {
        self.counts.iter().for_each(|(bucket, count)| histogram.add(usize::from(*bucket), *count));
    }
}

/// The states of the newest minutes.
#[derive(Debug, Default)]
pub(super) struct HeldTimings {
    states: BTreeMap<Of, Counts>,
    dropped: u64,
}

/// The greater count of each bucket. Returns by how much each grew.
fn join(known: &mut Counts, told: &[(u8, u64)]) -> Counts {
    let mut grown = Counts::new();
    for (bucket, count) in told {
        let before = match known.binary_search_by_key(bucket, |(bucket, _)| *bucket) {
            Ok(place) => {
                let known = &mut known[place].1;
                std::mem::replace(known, (*count).max(*known))
            }
            Err(place) => {
                known.insert(place, (*bucket, *count));
                0
            }
        };
        if *count > before {
            grown.push((*bucket, count - before));
        }
    }
    grown
}

impl History {
    /// Takes what a report told at `now`; what is older than is retained, or ahead, is none of ours. Calls `grew` with what
    /// each of the newest minutes has more than before, once however often it is told: of older ones it is not remembered.
    pub(crate) fn take_timings(&self, told: Vec<Timed>, now: Second, mut grew: impl FnMut(TimedMinute<'_>)) {
        let held_from = Level::Minute.at(now.minus(WRITTEN_AFTER_SECONDS)).number;
        let wanted = Span::new(self.retained_from(now), now.plus(Level::Minute.seconds()));
        let mut held = self.held_timings();
        for timed in told.into_iter().filter(|timed| wanted.contains(timed.minute)) {
            let Timed { series, boot, phase, minute, ref counts } = timed;
            let of = Of { minute: Level::Minute.at(minute).number, series, boot, phase: phase as u8 };
            if held.states.len() >= HELD_MAX && !held.states.contains_key(&of) {
                held.dropped += 1;
                continue;
            }
            let grown = join(held.states.entry(of).or_default(), counts);
            if of.minute >= held_from && !grown.is_empty() {
                grew(TimedMinute { series, phase, minute, counts: &grown });
            }
        }
    }

    /// How many states were dropped because too many were held.
    pub(crate) fn timings_dropped(&self) -> u64 {
        self.held_timings().dropped
    }

    /// Writes the states of minutes that ended a while ago, or all, and lets go of the former.
    pub(super) fn flush_timings(&self, now: Second, everything: bool) -> Result<(), HistoryError> {
        let done = Level::Minute.at(now.minus(WRITTEN_AFTER_SECONDS)).number;
        let due: BTreeMap<Of, Counts> = {
            let held = self.held_timings();
            let is_due = |of: &Of| everything || of.minute < done;
            held.states
                .iter()
                .filter(|(of, _)| is_due(of))
                .map(|(of, counts)| (*of, counts.clone()))
                .collect()
        };
        let mut blocks: BTreeMap<(Time, Chunk), Vec<(Of, Counts)>> = BTreeMap::new();
        for (of, counts) in &due {
            let minute = Time { level: Level::Minute, number: of.minute };
            let start = minute.span().from;
            let time = if start < self.packed_until() { Level::Hour.at(start) } else { minute };
            blocks.entry((time, Chunk::of(of.series).0)).or_default().push((*of, counts.clone()));
        }
        let _writer = self.writer();
        let mut changes = Changes::default();
        for ((time, chunk), told) in blocks {
            let key = time.chunk_key(chunk);
            let stored = self.shelf.view().get(Table::Timings, &key)?;
            let mut states = match &stored {
                Some(stored) => decode(&key, stored)?,
                None => BTreeMap::new(),
            };
            for (of, counts) in told {
                join(states.entry(of).or_default(), &counts);
            }
            let bytes = encode(time, chunk, &states);
            if stored.as_ref() != Some(&bytes) {
                changes.put(Table::Timings, key, bytes);
            }
        }
        self.shelf.make(changes);
        // What grew meanwhile stays for the next time.
        self.held_timings().states.retain(|of, counts| of.minute >= done || due.get(of) != Some(counts));
        Ok(())
    }

    /// Lets the minutes of `hour` become one.
    pub(super) fn pack_timings(&self, hour: Time) -> Result<(), HistoryError> {
        let _writer = self.writer();
        let mut chunks: BTreeMap<Chunk, BTreeMap<Of, Counts>> = BTreeMap::new();
        for (key, value) in self.stored_timings(hour)? {
            let chunk = chunk_of(&key)?;
            for (of, counts) in decode(&key, &value)? {
                join(chunks.entry(chunk).or_default().entry(of).or_default(), &counts);
            }
        }
        let mut changes = Changes::default();
        let (from, until) = minutes_of(hour);
        changes.remove(Table::Timings, from, until);
        for (chunk, states) in chunks {
            changes.put(Table::Timings, hour.chunk_key(chunk), encode(hour, chunk, &states));
        }
        self.shelf.make(changes);
        Ok(())
    }

    /// Visits what was measured in the minutes that begin in `span`: each life of an agent for itself.
    pub(crate) fn timings(
        &self,
        span: Span,
        mut visit: impl FnMut(TimedMinute<'_>),
    ) -> Result<(), HistoryError> {
        for hour in Time::within(Level::Hour, span) {
            let part = hour.span().intersection(span);
            let minute = |second: Second| second.0.div_ceil(Level::Minute.seconds());
            let (from, until) = (minute(part.from), minute(part.until));
            // Held first: what is written meanwhile is in both, and joined.
            let mut states: BTreeMap<Of, Counts> = BTreeMap::new();
            {
                let held = self.held_timings();
                let first = |minute| Of { minute, series: SeriesId(0), boot: 0, phase: 0 };
                let range = held.states.range(first(from)..first(until.max(from)));
                states.extend(range.map(|(of, counts)| (*of, counts.clone())));
            }
            for (key, value) in self.stored_timings(hour)? {
                for (of, counts) in decode(&key, &value)? {
                    if (from..until).contains(&of.minute) {
                        join(states.entry(of).or_default(), &counts);
                    }
                }
            }
            for (of, counts) in &states {
                let minute = Time { level: Level::Minute, number: of.minute }.span().from;
                let phase = Phase::ALL[usize::from(of.phase)];
                visit(TimedMinute { series: of.series, phase, minute, counts });
            }
        }
        Ok(())
    }

    fn held_timings(&self) -> std::sync::MutexGuard<'_, HeldTimings> {
        // Each state is a whole fact.
        self.timings.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn chunk_of(key: &[u8]) -> Result<Chunk, HistoryError> {
    let chunk = parse(Table::Timings, key)?.1;
    chunk.ok_or_else(|| damaged(Table::Timings, key, Damage("it names no series")))
}

fn encode(time: Time, chunk: Chunk, states: &BTreeMap<Of, Counts>) -> Bytes {
    let first = time.span().from.0 / Level::Minute.seconds();
    let mut boots: Vec<u64> = states.keys().map(|of| of.boot).collect();
    boots.sort_unstable();
    boots.dedup();
    let mut body = Vec::new();
    put(&mut body, boots.len() as u64);
    boots.iter().for_each(|boot| body.extend_from_slice(&boot.to_le_bytes()));
    put(&mut body, states.len() as u64);
    for (of, counts) in states {
        put(&mut body, of.minute - first);
        put(&mut body, u64::from(of.series.0 - chunk.first().0));
        // All are among them.
        put(&mut body, boots.binary_search(&of.boot).unwrap_or_default() as u64);
        put(&mut body, u64::from(of.phase));
        put(&mut body, counts.len() as u64);
        let mut last = 0;
        for (bucket, count) in counts {
            put(&mut body, u64::from(bucket - last));
            put(&mut body, *count);
            last = *bucket;
        }
    }
    codec::packed(FORM, &body)
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<BTreeMap<Of, Counts>, HistoryError> {
    let time = parse(Table::Timings, key)?.0;
    let chunk = chunk_of(key)?;
    read(time, chunk, bytes).map_err(|damage| damaged(Table::Timings, key, damage))
}

fn read(time: Time, chunk: Chunk, bytes: &[u8]) -> Result<BTreeMap<Of, Counts>, Damage> {
    let body = codec::unpacked(FORM, bytes)?;
    let mut reader = Reader::new(&body);
    let boots = reader.list(|reader| reader.bytes().map(u64::from_le_bytes))?;
    let first = time.span().from.0 / Level::Minute.seconds();
    let minutes = time.level.seconds() / Level::Minute.seconds();
    let states = reader.list(|reader| {
        let minute = first + reader.at_most(minutes - 1, "a minute is beyond its time")?;
        let row = reader.at_most(super::block::ROWS as u64 - 1, "a series is beyond its chunk")?;
        let boot = reader.number()?;
        let boot = usize::try_from(boot).ok().and_then(|place| boots.get(place)).copied();
        let boot = boot.ok_or(Damage("a life is not listed"))?;
        let phase = reader.at_most(Phase::ALL.len() as u64 - 1, "a phase is none")? as u8;
        let mut bucket = 0;
        let counts = reader.list(|reader| {
            bucket += reader.at_most(BUCKETS as u64 - 1 - bucket, "a bucket is none")?;
            Ok((bucket as u8, reader.number()?))
        })?;
        Ok((Of { minute, series: SeriesId(chunk.first().0 + row as u32), boot, phase }, counts))
    })?;
    Ok(states.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Time = Time { level: Level::Hour, number: 489_914 };

    fn any_states() -> impl Strategy<Value = Vec<(u64, u32, u64, u8, Vec<u32>)>> {
        prop::collection::vec(
            (0u64..60, 0u32..256, 0u64..3, 0u8..5, prop::collection::vec(0u32..1_000_000, 1..9)),
            0..40,
        )
    }

    fn states(told: &[(u64, u32, u64, u8, Vec<u32>)]) -> BTreeMap<Of, Counts> {
        let mut states = BTreeMap::new();
        for (minute, row, boot, phase, micros) in told {
            let mut histogram = Histogram::default();
            micros.iter().for_each(|micros| histogram.record(*micros));
            let series = SeriesId(256 + row);
            let of = Of { minute: HOUR.number * 60 + minute, series, boot: *boot, phase: *phase };
            let timed = Timed::new(series, *boot, Phase::ALL[usize::from(*phase)], Second(0), &histogram);
            join(states.entry(of).or_default(), &timed.counts);
        }
        states
    }

    proptest! {
        #[test]
        fn states_come_back_as_they_were(told in any_states(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let states = states(&told);
            let chunk = Chunk::of(SeriesId(256)).0;
            let bytes = encode(HOUR, chunk, &states);
            prop_assert_eq!(read(HOUR, chunk, &bytes), Ok(states));
            let mut damaged = bytes.to_vec();
            *at.get_mut(&mut damaged) ^= 1 << bit;
            prop_assert!(read(HOUR, chunk, &damaged).is_err());
        }

        #[test]
        fn order_and_repeats_do_not_matter((told, shuffled) in any_states().prop_flat_map(|told| (Just(told.clone()), Just(told).prop_shuffle()))) {
            let twice: Vec<_> = shuffled.iter().chain(&told).cloned().collect();
            prop_assert_eq!(states(&told), states(&twice));
        }
    }
}
