//! The half of the plan that looks again: pieces of the past, from new to old, each asked for twice.

use std::sync::Arc;

use aviary_core::{Second, SeriesId, Span, Timestamp};

use super::{
    super::{
        reader::Said,
        sweep::{self, First, agreed},
    },
    Conclusion, Counts, Kind, Plan, Question, Slots, Sweep,
};

/// How many pieces are looked through for something to sweep at a time.
const PIECES_AT_ONCE: usize = 4;

impl Plan {
    pub(super) fn sweep(&mut self, now: Timestamp, slots: &impl Slots) -> Option<Question> {
        if let Some(sweep) = &self.sweep {
            if sweep.first.as_ref().is_none_or(|first| now.since(first.at) < sweep::AGAIN_US) {
                return None;
            }
            let (series, span) = (Arc::clone(&sweep.series), sweep.span);
            return Some(self.question(series, span, now, Kind::Sweep));
        }
        let held = slots.held();
        self.gaps.retain(|gap| gap.until > held.from);
        let until = if self.pace.resolution == 1 { self.open_from } else { self.settled(now) };
        for _ in 0..PIECES_AT_ONCE {
            let span = self.next_piece(Span::new(held.from, until))?;
            let (first, limit) = (std::mem::take(&mut self.next_series), sweep::SERIES_MAX + 1);
            let mut series = self.asked(span, slots, first, limit, |id| slots.lacks(id, span));
            if series.is_empty() {
                self.filled(span);
                continue;
            }
            let is_whole = series.len() <= sweep::SERIES_MAX;
            series.truncate(sweep::SERIES_MAX);
            let series: Arc<[usize]> = series.into();
            self.sweep = Some(Sweep { span, series: Arc::clone(&series), is_whole, first: None });
            return Some(self.question(series, span, now, Kind::Sweep));
        }
        None
    }

    /// The next piece of `whole` to look through: a gap first, else the one before the last.
    fn next_piece(&mut self, whole: Span) -> Option<Span> {
        let step = self.pace.resolution;
        let piece = sweep::PIECE_SECONDS.max(step) / step * step;
        let gap = self.gaps.front().map(|gap| gap.until.min(whole.until));
        let next = if self.cursor > whole.from { self.cursor.min(whole.until) } else { whole.until };
        let until = gap.unwrap_or(next);
        let until = Second(until.0 / step * step);
        let from = until.minus(piece).max(Second(whole.from.0.next_multiple_of(step)));
        self.cursor = from;
        let span = Span::new(from, until);
        if span.is_empty() {
            self.cursor = Second(0);
            return None;
        }
        Some(span)
    }

    /// What there was to read of `span` was read.
    fn filled(&mut self, span: Span) {
        let gaps = std::mem::take(&mut self.gaps);
        let parts = gaps.into_iter().flat_map(|gap| {
            let before = Span::new(gap.from, gap.until.min(span.from));
            let after = Span::new(gap.from.max(span.until), gap.until);
            [after, before]
        });
        self.gaps = parts.filter(|part| !part.is_empty()).collect();
    }

    pub(super) fn sweep_answered(
        &mut self,
        question: &Question,
        said: &[Said],
        took_us: u64,
    ) -> Option<Vec<Conclusion>> {
        let mut sweep = self.sweep.take_if(|sweep| sweep.span == question.span)?;
        let pairs = |first: &First| -> Vec<_> {
            first.said.iter().zip(said).map(|(first, second)| agreed(first, second)).collect()
        };
        let pairs = sweep.first.as_ref().map(pairs);
        let contradicts = pairs.iter().flatten().flatten().any(|agreed| agreed.is_contradicted);
        let believed = self.believed(question, said, took_us, false, contradicts);
        let Some(pairs) = pairs else {
            if believed {
                sweep.first = Some(First { at: question.at, said: said.to_vec() });
                self.sweep = Some(sweep);
            }
            return None;
        };
        let closes = believed && !self.health.is_doubted(question.at);
        let mut conclusions = Vec::new();
        for (index, agreed) in question.series.iter().zip(pairs) {
            let Some(agreed) = agreed else { continue };
            let track = &mut self.tracks[*index];
            track.is_proven |= !agreed.there.is_empty();
            if self.pace.resolution > 1 {
                if closes && track.is_proven {
                    conclusions.extend(counted(
                        track.id,
                        question.span,
                        self.pace.resolution,
                        &agreed,
                        &mut self.counts,
                    ));
                }
                continue;
            }
            for (second, value) in &agreed.there {
                self.counts.note(*value);
                conclusions.push(Conclusion::Stored(track.id, *second));
            }
            if closes && track.is_proven {
                let lacks =
                    |second: &Second| !agreed.there.contains_key(second) && !agreed.disputed.contains(second);
                let lacking = question.span.iter().filter(lacks);
                conclusions.extend(lacking.map(|second| Conclusion::NotStored(track.id, second)));
            }
        }
        if closes && sweep.is_whole {
            self.filled(question.span);
        } else if closes {
            // The rest of the same piece.
            self.next_series = question.series.last().map_or(0, |last| last + 1);
            self.cursor = question.span.until;
        }
        Some(conclusions)
    }
}

/// What the slots of one series hold, by both answers.
fn counted(
    id: SeriesId,
    span: Span,
    step: u64,
    agreed: &sweep::Agreed,
    counts: &mut Counts,
) -> Vec<Conclusion> {
    let slots = (span.from.0..span.until.0).step_by(step as usize).map(Second);
    let mut conclusions = Vec::new();
    for slot in slots.filter(|slot| !agreed.disputed.contains(slot)) {
        let value = agreed.there.get(&slot).copied().unwrap_or(0.0);
        if value.fract() == 0.0 && (0.0..=1e9).contains(&value) {
            conclusions.push(Conclusion::Counted(id, Span::new(slot, slot.plus(step)), value as u64));
        } else {
            counts.mangled += 1;
        }
    }
    conclusions
}
