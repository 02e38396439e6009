//! What is told of slots that the ledger has let go of, on its way into the blocks.

use std::{collections::BTreeMap, sync::Arc};

use aviary_core::{Second, SeriesId, Span, losses::Loss, mark::Mark};

use super::{
    block::{Editor, Value},
    key::{Chunk, Level, Time},
};

/// Slots and gaps that were told after their minute was sealed.
#[derive(Debug, Default)]
pub(crate) struct Late {
    marks: Vec<(SeriesId, Second, Mark)>,
    losses: Vec<(SeriesId, Second, Loss)>,
    gaps: Vec<LateGap>,
}

/// Neighbouring series of a roster over a span, all of whose slots are alike.
#[derive(Debug)]
pub(crate) struct LateGap {
    /// The roster: each series, with the first slot that it can tell of.
    pub(crate) series: Arc<[(SeriesId, Second)]>,
    /// Which of them.
    pub(crate) places: std::ops::Range<usize>,
    /// When.
    pub(crate) span: Span,
    /// What is told.
    pub(crate) value: Value,
}

impl Late {
    pub(crate) fn slot(&mut self, series: SeriesId, second: Second, mark: Mark) {
        self.marks.push((series, second, mark));
    }

    pub(crate) fn loss(&mut self, series: SeriesId, second: Second, loss: Loss) {
        self.losses.push((series, second, loss));
    }

    pub(crate) fn gap(&mut self, gap: LateGap) {
        self.gaps.push(gap);
    }

    /// How much room it takes, in slots.
    pub(crate) const fn cost(&self) -> usize {
        self.marks.len() + self.losses.len() + self.gaps.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.cost() == 0
    }

    /// The earliest second that is told.
    pub(super) fn earliest(&self) -> Option<Second> {
        let gaps = self.gaps.iter().map(|gap| {
            let from = gap.series[gap.places.clone()].iter().map(|(_, from)| *from).min();
            gap.span.from.max(from.unwrap_or_default())
        });
        self.marks.iter().map(|(_, second, _)| *second).chain(gaps).min()
    }

    /// How many slots are told.
    pub(super) fn told(&self) -> u64 {
        let gaps = self.gaps.iter().map(|gap| gap.places.len() as u64 * gap.span.seconds());
        self.marks.len() as u64 + gaps.sum::<u64>()
    }

    /// Adds `other` to it.
    pub(super) fn append(&mut self, mut other: Self) {
        self.marks.append(&mut other.marks);
        self.losses.append(&mut other.losses);
        self.gaps.append(&mut other.gaps);
    }

    /// What it says of each block, in the order of their keys; seconds before `packed_until` are in hours. The blocks
    /// of `merge` come to it one by one: an hour of an agent is few of them, however many reports told it.
    pub(super) fn into_blocks<E>(
        self,
        packed_until: Second,
        mut merge: impl FnMut(Time, Chunk, Editor) -> Result<(), E>,
    ) -> Result<(), E> {
        let level = |second: Second| if second < packed_until { Level::Hour } else { Level::Minute };
        let mut blocks: BTreeMap<(Time, Chunk), Told<'_>> = BTreeMap::new();
        for (place, (series, second, _)) in self.marks.iter().enumerate() {
            blocks.entry((level(*second).at(*second), Chunk::of(*series).0)).or_default().marks.push(place);
        }
        for (place, (series, second, _)) in self.losses.iter().enumerate() {
            blocks.entry((level(*second).at(*second), Chunk::of(*series).0)).or_default().losses.push(place);
        }
        for gap in &self.gaps {
            let (old, new) = (
                Span::new(gap.span.from, gap.span.until.min(packed_until)),
                Span::new(gap.span.from.max(packed_until), gap.span.until),
            );
            let times = Time::within(Level::Hour, old).chain(Time::within(Level::Minute, new));
            let mut chunks: Vec<Chunk> =
                gap.series[gap.places.clone()].iter().map(|(series, _)| Chunk::of(*series).0).collect();
            chunks.sort();
            chunks.dedup();
            for time in times {
                for chunk in &chunks {
                    blocks.entry((time, *chunk)).or_default().gaps.push(gap);
                }
            }
        }
        for ((time, chunk), told) in blocks {
            let mut editor = Editor::new(time.level.seconds() as u16);
            let start = time.span().from;
            let mut add = |series: SeriesId, span: Span, value: Value| {
                let inside = span.intersection(time.span());
                // Both ends are within the block.
                let (from, until) =
                    (inside.from.0.saturating_sub(start.0), inside.until.0.saturating_sub(start.0));
                editor.merge(Chunk::of(series).1, from as u16, until as u16, value);
            };
            for place in told.marks {
                let (series, second, mark) = self.marks[place];
                add(series, Span::new(second, second.plus(1)), Value::of(mark));
            }
            for place in told.losses {
                let (series, second, loss) = self.losses[place];
                let value = Value { loss: Some(loss), ..Value::UNKNOWN };
                add(series, Span::new(second, second.plus(1)), value);
            }
            for gap in told.gaps {
                let ours = gap.series[gap.places.clone()].iter().filter(|(id, _)| Chunk::of(*id).0 == chunk);
                for (series, from) in ours {
                    add(*series, Span::new(gap.span.from.max(*from), gap.span.until), gap.value);
                }
            }
            merge(time, chunk, editor)?;
        }
        Ok(())
    }
}

/// What is told of one block.
#[derive(Default)]
struct Told<'a> {
    marks: Vec<usize>,
    losses: Vec<usize>,
    gaps: Vec<&'a LateGap>,
}
