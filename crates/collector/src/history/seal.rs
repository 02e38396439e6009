//! A minute of the ledger, and the blocks that it becomes.

use aviary_core::{Second, SeriesId, losses::Loss, mark::Mark};

use super::{
    block::{Editor, ROWS, Value},
    key::{Chunk, Time},
};

/// What the ledger holds of a minute: copied under its lock, and made into blocks elsewhere.
#[derive(Debug)]
pub(crate) struct RawMinute {
    /// Which.
    pub(crate) minute: Time,
    /// The planes of each series, whose bits are the seconds from its first on.
    pub(crate) planes: Vec<[u64; 4]>,
    /// What the losses need beside.
    pub(crate) losses: Vec<(Second, SeriesId, Loss)>,
}

impl RawMinute {
    /// How many slots of it say anything.
    pub(super) fn told(&self) -> u64 {
        let told = |[a, b, c, d]: &[u64; 4]| u64::from((a | b | c | d).count_ones());
        self.planes.iter().map(told).sum()
    }

    /// Its slots, by chunk.
    pub(super) fn editors(&self) -> impl Iterator<Item = (Chunk, Editor)> {
        let seconds = self.minute.level.seconds();
        let start = self.minute.span().from;
        let mut losses = self.losses.clone();
        losses.sort_by_key(|(second, series, _)| (*series, *second));
        let mut losses = losses.into_iter().peekable();
        (0u32..).step_by(ROWS).map(SeriesId).zip(self.planes.chunks(ROWS)).map(move |(first, rows)| {
            let mut editor = Editor::new(seconds as u16);
            for (row, planes) in rows.iter().enumerate() {
                merge_planes(&mut editor, row, *planes, seconds as u32);
            }
            let chunk = Chunk::of(first).0;
            while let Some((second, series, loss)) =
                losses.next_if(|(_, series, _)| Chunk::of(*series).0 <= chunk)
            {
                let at = second.0.saturating_sub(start.0) as u16;
                let value = Value { loss: Some(loss), ..Value::UNKNOWN };
                editor.merge(Chunk::of(series).1, at, at + 1, value);
            }
            (chunk, editor)
        })
    }
}

/// Merges the `seconds` slots that these planes hold, run by run.
fn merge_planes(editor: &mut Editor, row: usize, planes: [u64; 4], seconds: u32) {
    // A bit where a slot differs from the one before.
    let changes = planes.iter().fold(0, |changes, plane| changes | plane ^ (plane << 1));
    let mut from = 0;
    while from < seconds {
        let later = changes & u64::MAX.checked_shl(from + 1).unwrap_or(0);
        let until = later.trailing_zeros().min(seconds);
        let bits = (0..4).map(|plane| ((planes[plane] >> from & 1) as u8) << plane).sum();
        // A minute has sixty seconds.
        editor.merge(row, from as u16, until as u16, Value::of(Mark::from_bits(bits)));
        from = until;
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::{Ledger, Span, window::Proof};
    use proptest::prelude::*;

    use super::{super::key::Level, *};

    proptest! {
        #[test]
        fn a_sealed_minute_has_the_slots_of_the_ledger(
            told in prop::collection::vec((0u32..600, 0u64..60, 0u64..30, 0u8..16), 0..60),
        ) {
            let minute = Level::Minute.at(Second(999_960));
            let mut ledger = Ledger::new(Second(1_000_100));
            for _ in 0..600 {
                ledger.register(Second(0), Proof::Sender);
            }
            for (series, at, seconds, bits) in told {
                let from = minute.span().from.plus(at);
                ledger.merge_span(SeriesId(series), Span::new(from, from.plus(seconds)), Mark::from_bits(bits));
            }
            let raw = RawMinute { minute, planes: ledger.planes(minute.span()), losses: Vec::new() };
            let blocks: Vec<_> = raw.editors().map(|(chunk, editor)| (chunk, editor.finish())).collect();
            prop_assert_eq!(blocks.len(), 3);
            for series in (0..600).map(SeriesId) {
                let (chunk, row) = Chunk::of(series);
                let (_, block) = blocks.iter().find(|(of, _)| *of == chunk).unwrap();
                for (at, second) in (0..).zip(minute.span().iter()) {
                    prop_assert_eq!(Ok(block.get(row, at).mark), ledger.mark(series, second));
                }
            }
        }
    }
}
