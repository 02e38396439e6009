//! Counting stored slots into windows, by group and step.

use aviary_core::{
    Second, SeriesId, Span, Window,
    ledger::NO_GROUP,
    mark::{Mark, Sender},
    window::Proof,
};

use super::{block::Block, key::Chunk, lives::Lives};

/// Equal spans, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) from: Second,
    pub(crate) seconds: u64,
    pub(crate) count: u64,
}

impl Steps {
    pub(crate) const fn span(self, step: u64) -> Span {
        let from = self.from.plus(step * self.seconds);
        Span::new(from, from.plus(self.seconds))
    }

    pub(crate) const fn whole(self) -> Span {
        Span::new(self.from, self.from.plus(self.seconds * self.count))
    }

    /// The one step that all of `span` lies in.
    pub(crate) fn step_of(self, span: Span) -> Option<u64> {
        let step = span.from.0.checked_sub(self.from.0)? / self.seconds;
        (step < self.count && span.until <= self.span(step).until).then_some(step)
    }

    /// The steps that `span` has seconds of, with those seconds.
    fn parts(self, span: Span) -> impl Iterator<Item = (usize, Span)> {
        let span = span.intersection(self.whole());
        let first = span.from.0.saturating_sub(self.from.0) / self.seconds;
        let until = if span.is_empty() { first } else { (span.until.0 - self.from.0).div_ceil(self.seconds) };
        (first..until).map(move |step| (step as usize, self.span(step).intersection(span)))
    }
}

/// Windows by step and group.
pub(crate) struct Tally<'a> {
    lives: &'a Lives,
    group_of: &'a [u32],
    groups: usize,
    pub(crate) steps: Steps,
    windows: Vec<Window>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(lives: &'a Lives, group_of: &'a [u32], groups: usize, steps: Steps) -> Self {
        let windows = vec![Window::default(); steps.count as usize * groups];
        Self { lives, group_of, groups, steps, windows }
    }

    fn group(&self, series: SeriesId) -> Option<usize> {
        let group = self.group_of.get(series.0 as usize).copied().unwrap_or(NO_GROUP);
        (group != NO_GROUP).then_some(group as usize)
    }

    /// Adds a window that was counted elsewhere.
    pub(crate) fn add(&mut self, step: u64, group: usize, window: Window) {
        self.windows[step as usize * self.groups + group] += window;
    }

    /// Counts as muted what lies in pauses within `span`; what is told of those slots comes after.
    pub(crate) fn mute(&mut self, span: Span) {
        for series in self.lives.paused() {
            let Some(group) = self.group(series) else { continue };
            for muted in self.lives.muted(series, span) {
                for (step, part) in self.steps.parts(muted) {
                    let window = &mut self.windows[step * self.groups + group];
                    window.add_slots(Mark::sent(Sender::Muted), Proof::Sender, part.seconds());
                }
            }
        }
    }

    /// Counts what `block`, which begins at `start`, says of the slots within `span`.
    pub(crate) fn block(&mut self, chunk: Chunk, start: Second, block: &Block, span: Span) {
        for row in 0..block.rows() {
            let series = SeriesId(chunk.first().0 + row as u32);
            let Some(group) = self.group(series) else { continue };
            let span = span.intersection(self.lives.span(series));
            for (from, until, value) in block.runs(row) {
                if value.mark.sender() == Sender::Unknown {
                    continue;
                }
                let run = Span::new(start.plus(from.into()), start.plus(until.into())).intersection(span);
                if !run.is_empty() {
                    self.run(series, group, run, value.mark);
                }
            }
        }
    }

    fn run(&mut self, series: SeriesId, group: usize, run: Span, mark: Mark) {
        for (step, part) in self.steps.parts(run) {
            let window = &mut self.windows[step * self.groups + group];
            for (part, proof) in self.lives.proofs(series, part) {
                window.add_slots(mark, proof, part.seconds());
            }
            if self.lives.is_paused(series) {
                // What a sender told is not muted.
                for muted in self.lives.muted(series, part) {
                    window.scheduled -= muted.seconds();
                    window.muted -= muted.seconds();
                }
            }
        }
    }

    /// Counts as unknown what was scheduled within `span` and is not counted yet.
    pub(crate) fn schedule(&mut self, span: Span) {
        let span = span.intersection(self.steps.whole());
        if span.is_empty() {
            return;
        }
        let (steps, groups) = (self.steps, self.groups);
        let mut scheduled = vec![0u64; self.windows.len()];
        // How many series more than in the step before live all of a step.
        let mut whole = vec![0i64; self.windows.len() + groups];
        for series in (0..self.lives.len() as u32).map(SeriesId) {
            let Some(group) = self.group(series) else { continue };
            let life = self.lives.span(series).intersection(span);
            if life.is_empty() {
                continue;
            }
            let first = ((life.from.0 - steps.from.0) / steps.seconds) as usize;
            let last = ((life.until.0 - 1 - steps.from.0) / steps.seconds) as usize;
            if first == last {
                scheduled[first * groups + group] += life.seconds();
                continue;
            }
            scheduled[first * groups + group] += steps.span(first as u64).until.0 - life.from.0;
            scheduled[last * groups + group] += life.until.0 - steps.span(last as u64).from.0;
            whole[(first + 1) * groups + group] += 1;
            whole[last * groups + group] -= 1;
        }
        for place in 0..self.windows.len() {
            if place >= groups {
                whole[place] += whole[place - groups];
            }
            let scheduled = scheduled[place] + whole[place].unsigned_abs() * steps.seconds;
            let window = &mut self.windows[place];
            // All that was told is part of the series' life.
            window.unknown += scheduled.saturating_sub(window.scheduled);
            window.scheduled = scheduled.max(window.scheduled);
        }
    }

    /// The windows, step by step, those of each in the order of the groups.
    pub(crate) fn finish(self) -> Vec<Window> {
        self.windows
    }
}
