//! Each slot of each series is opened at most once, and what was not opened is told as a gap.

use aviary_core::{LocalFault, Outcome, Phase, Second, Span, plan::Step};

/// The next slot of each series of a lane.
///
/// A slot is either opened here, once, or lies in a gap that is returned here, once: that is what makes "exactly one
/// outcome" hold whatever beats are lost, late or repeated.
pub(crate) struct Slots {
    next: Vec<Second>,
}

/// What became of seconds that were not opened.
pub(crate) type Skipped = (Span, Outcome);

impl Slots {
    /// `count` series, each of which is scheduled from `first` on.
    pub(crate) fn new(count: usize, first: Second) -> Self {
        Self { next: vec![first; count] }
    }

    /// Opens a slot, or returns `None` if it was already. With it come the seconds that were left out before.
    pub(crate) fn open(&mut self, series: usize, second: Second) -> Option<Option<Skipped>> {
        let next = &mut self.next[series];
        if second < *next {
            return None;
        }
        let missed = Span::new(*next, second);
        *next = second.plus(1);
        Some((!missed.is_empty()).then_some((missed, Outcome::Missed)))
    }

    /// The clock was stepped: what was not opened before was missed, what the clock jumped over is its fault. The walk
    /// goes on where the clock shows now, which may be earlier.
    pub(crate) fn step(&mut self, series: usize, step: Step) -> impl Iterator<Item = Skipped> + use<> {
        let next = &mut self.next[series];
        let missed = Span::new(*next, step.from);
        let jumped = Span::new((*next).max(step.from), step.to);
        let stepped = Outcome::Local { phase: Phase::Dns, fault: LocalFault::ClockStep };
        *next = step.to;
        [(missed, Outcome::Missed), (jumped, stepped)].into_iter().filter(|(span, _)| !span.is_empty())
    }

    /// A second that was walked before is walked again: it is told as the clock's fault, and not as missed.
    pub(crate) fn repeat(&mut self, series: usize, second: Second) {
        let next = &mut self.next[series];
        *next = (*next).max(second.plus(1));
    }

    /// No slot from `end` on will be opened: what was not opened before was missed.
    pub(crate) fn end(&mut self, series: usize, end: Second) -> Option<Skipped> {
        let missed = Span::new(self.next[series], end);
        self.next[series] = self.next[series].max(end);
        (!missed.is_empty()).then_some((missed, Outcome::Missed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(from: u64, until: u64) -> Skipped {
        (Span::new(Second(from), Second(until)), Outcome::Missed)
    }

    #[test]
    fn every_second_is_opened_or_skipped_exactly_once() {
        let mut slots = Slots::new(1, Second(100));
        assert_eq!(slots.open(0, Second(100)), Some(None));
        assert_eq!(slots.open(0, Second(100)), None, "a repeated beat");
        assert_eq!(slots.open(0, Second(99)), None, "a beat out of order");
        assert_eq!(slots.open(0, Second(104)), Some(Some(missed(101, 104))));
        assert_eq!(slots.end(0, Second(107)), Some(missed(105, 107)));
        assert_eq!(slots.end(0, Second(107)), None);
        assert_eq!(slots.open(0, Second(106)), None);
    }

    #[test]
    fn a_clock_that_jumps_is_not_the_agent_that_missed() {
        let mut slots = Slots::new(1, Second(100));
        let step = |from, to| Step { epoch: 1, from: Second(from), to: Second(to) };
        let told: Vec<_> = slots.step(0, step(103, 3_700)).collect();
        let stepped = Outcome::Local { phase: Phase::Dns, fault: LocalFault::ClockStep };
        assert_eq!(told, [missed(100, 103), (Span::new(Second(103), Second(3_700)), stepped)]);
        assert_eq!(slots.open(0, Second(3_700)), Some(None));
        let told: Vec<_> = slots.step(0, step(3_703, 103)).collect();
        assert_eq!(told, [missed(3_701, 3_703)], "what was left out before a jump back was missed");
        slots.repeat(0, Second(103));
        assert_eq!(
            slots.open(0, Second(104)),
            Some(None),
            "and what was jumped over is walked when it comes"
        );
    }
}
