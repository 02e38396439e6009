//! What groups judged and lost in each second of a block: the whole of the live window in one pass over it.
//!
//! Of most series all is delivered in most blocks, and then a group counts the series and not their seconds. Only where
//! that is not so the seconds are counted one by one.

use super::{BLOCK_SECONDS, Chunk, Ledger, NO_GROUP, SeriesId};
use crate::{Second, Span, detect::Tally, window::Proof};

const NO_ROW: u32 = u32::MAX;

/// The most seconds of one span.
pub const SECONDS: usize = BLOCK_SECONDS as usize;

/// Judged and lost of each second of a block.
type Row = [[u32; 2]; SECONDS];

/// How series are told apart, and from when on they count.
#[derive(Clone, Copy, Debug)]
pub struct Which<'a> {
    /// Each series' group, [`NO_GROUP`] for none.
    pub group_of: &'a [u32],
    /// By group, from when on what is not known is taken for delivered; before that it is not judged.
    pub at_best_from: &'a [Second],
    /// Series that are not counted before some second, in their order.
    pub begins: &'a [(SeriesId, Second)],
}

/// What groups judged and lost in each second of a span of at most a block.
#[derive(Clone, Debug)]
pub struct BySecond {
    span: Span,
    /// By group, of how many series all of these seconds were delivered.
    even: Vec<u32>,
    /// By group, where the others are counted second by second.
    row_of: Vec<u32>,
    rows: Vec<Row>,
}

impl Ledger {
    /// What groups judged and lost in each held second of block `number` that lies in `span`.
    ///
    /// # Panics
    /// If `which` names fewer series than there are, or a group that has no second in `at_best_from`.
    pub fn by_second(&self, number: u64, span: Span, which: Which<'_>) -> BySecond {
        let block = Span::new(Second(number * BLOCK_SECONDS), Second((number + 1) * BLOCK_SECONDS));
        let span = block.intersection(span).intersection(self.held());
        let groups = which.at_best_from.len();
        let mut sums =
            BySecond { span, even: vec![0; groups], row_of: vec![NO_ROW; groups], rows: Vec::new() };
        if span.is_empty() {
            return sums;
        }
        let chunk = Chunk::of(span);
        let first_bit = span.from.0 - block.from.0;
        let mut begins = which.begins.iter().peekable();
        let rows = self.lives.iter().zip(&which.group_of[..self.lives.len()]);
        for (id, (life, &group)) in (0..).map(SeriesId).zip(rows) {
            let begin = begins.next_if(|(begins, _)| *begins == id);
            if group == NO_GROUP {
                continue;
            }
            let (mut alive, [s0, s1, t0, t1]) = self.row(&chunk, id, life);
            if let Some((_, from)) = begin {
                alive &= chunk.mask(Span::new(*from, span.until));
            }
            let counted = !(s0 & s1) & !(t0 & t1);
            let delivered = counted & s0;
            let lost = alive & (counted & s1 | delivered & t1);
            let silent = delivered & !t0 & !t1;
            let (shown, open) = match life.proof {
                Proof::Sender | Proof::Nothing => (delivered, counted & !s0 & !s1),
                Proof::Storage => (delivered & t0, counted & !s0 & !s1 | silent),
            };
            let best = match which.at_best_from[group as usize] {
                from if from >= span.until => 0,
                from => chunk.mask(Span::new(from, span.until)),
            };
            let judged = alive & (shown | open & best) | lost;
            if judged == chunk.early && lost == 0 {
                sums.even[group as usize] += 1;
            } else if judged != 0 {
                let row = sums.row(group);
                for (bit, [judged_in, lost_in]) in
                    (first_bit..).zip(row.iter_mut()).take(SECONDS - first_bit as usize)
                {
                    *judged_in += (judged >> bit & 1) as u32;
                    *lost_in += (lost >> bit & 1) as u32;
                }
            }
        }
        sums
    }
}

impl BySecond {
    /// The seconds.
    pub const fn span(&self) -> Span {
        self.span
    }

    /// What was judged and lost of some groups together, second by second, in `into`, which begins with the span.
    pub fn add_to(&self, groups: &[u32], into: &mut [Tally; SECONDS]) {
        let even: u64 = groups.iter().map(|group| u64::from(self.even[*group as usize])).sum();
        into.iter_mut().for_each(|tally| tally.judged += even);
        for group in groups {
            let row = self.row_of[*group as usize];
            if row != NO_ROW {
                for (tally, [judged, lost]) in into.iter_mut().zip(&self.rows[row as usize]) {
                    *tally += Tally { judged: u64::from(*judged), lost: u64::from(*lost) };
                }
            }
        }
    }

    fn row(&mut self, group: u32) -> &mut Row {
        let place = &mut self.row_of[group as usize];
        if *place == NO_ROW {
            // There are no more of them than groups.
            *place = self.rows.len() as u32;
            self.rows.push([[0; 2]; SECONDS]);
        }
        &mut self.rows[*place as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mark::Mark;

    proptest! {
        #[test]
        fn each_second_is_its_own_window(
            marks in prop::collection::vec((0u32..4, 1_000u64..1_400, 0u8..16), 0..300),
            full in prop::collection::vec((0u32..4, 1_000u64..1_300, 1u64..90), 0..6),
            lives in prop::collection::vec((900u64..1_200, 1_100u64..1_500, 0usize..3), 4),
            (pause, begin, best) in (1_000u64..1_400, 900u64..1_400, 900u64..1_500),
            (from, until) in (1_000u64..1_400, 1_000u64..1_450),
        ) {
            let mut ledger = Ledger::new(Second(1_420));
            for (from, until, proof) in lives {
                let proof = [Proof::Sender, Proof::Storage, Proof::Nothing][proof];
                let id = ledger.register(Second(from), proof);
                ledger.end(id, Second(until));
            }
            for (series, second, bits) in marks {
                ledger.merge(SeriesId(series), Second(second), Mark::from_bits(bits)).unwrap();
            }
            for (series, from, seconds) in full {
                let delivered = Mark::sent(crate::mark::Sender::Delivered);
                ledger.merge_span(SeriesId(series), Span::new(Second(from), Second(from + seconds)), delivered);
            }
            ledger.pause(SeriesId(1), Second(0), &[Span::new(Second(pause), Second(pause + 30))]);
            let (span, begins) = (Span::new(Second(from), Second(until)), [(SeriesId(2), Second(begin))]);
            let (group_of, at_best_from) = ([0, 1, 0, NO_GROUP], [Second(best), Second(1_200)]);
            let which = Which { group_of: &group_of, at_best_from: &at_best_from, begins: &begins };
            for number in ledger.block_numbers() {
                let sums = ledger.by_second(number, span, which);
                for (groups, also) in [(&[0][..], &[][..]), (&[1], &[]), (&[0], &[1])] {
                    let mut each = [Tally::default(); SECONDS];
                    let groups = [groups, also].concat();
                    sums.add_to(&groups, &mut each);
                    for (second, tally) in sums.span().iter().zip(each) {
                        let of = group_of.map(|group| if groups.contains(&group) { group } else { NO_GROUP });
                        let of = if second < Second(begin) { [of[0], of[1], NO_GROUP, NO_GROUP] } else { of };
                        let windows = ledger.sums(Span::new(second, second.plus(1)), &of, 2);
                        let mut expected = Tally::default();
                        for (window, best) in windows.iter().zip(at_best_from) {
                            let open = if second >= best { window.unknown } else { 0 };
                            let judged = window.judged() + window.unproven + open;
                            expected += Tally { judged, lost: window.lost };
                        }
                        prop_assert_eq!(tally, expected, "{:?} in {}", groups, second);
                    }
                }
            }
        }
    }
}
