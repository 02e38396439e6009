//! Which seconds were walked, over all steps of the clock and all lives of the agent: whatever the clock is set to,
//! nothing is sent for them again.

use aviary_core::{Second, Span, plan::Step};

/// So many spans are remembered; the oldest are forgotten.
const SPANS_MAX: usize = 64;

/// Spans so close to each other are one: an agent that is restarted again and again leaves no more than that between.
const APART_SECONDS: u64 = 10;

/// The seconds that were walked.
#[derive(Clone, Debug)]
pub(crate) struct Walked {
    /// In earlier lives and epochs.
    spans: Vec<Span>,
    /// Where the walk of this epoch began.
    since: Second,
}

impl Walked {
    /// Of a life that begins at `since`, after others that walked `spans`.
    pub(crate) const fn new(spans: Vec<Span>, since: Second) -> Self {
        Self { spans, since }
    }

    /// The clock was stepped. What it jumped over was not walked.
    pub(crate) fn step(&mut self, step: Step) {
        remember(&mut self.spans, Span::new(self.since, step.from));
        self.since = step.to;
    }

    /// Everything that was walked when the walk has come to `next`.
    pub(crate) fn until(&self, next: Second) -> Vec<Span> {
        let mut spans = self.spans.clone();
        remember(&mut spans, Span::new(self.since, next));
        spans
    }
}

fn remember(spans: &mut Vec<Span>, span: Span) {
    if span.is_empty() {
        return;
    }
    match spans.last_mut() {
        Some(last) if last.from <= span.from && span.from <= last.until.plus(APART_SECONDS) => {
            last.until = last.until.max(span.until);
        }
        _ => spans.push(span),
    }
    if spans.len() > SPANS_MAX {
        spans.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn span(from: u64, until: u64) -> Span {
        Span::new(Second(from), Second(until))
    }

    #[test]
    fn what_was_walked_is_known_over_lives_and_steps_and_what_was_jumped_over_is_not_walked() {
        let mut walked = Walked::new(Vec::new(), Second(1_000));
        assert_eq!(walked.until(Second(1_000)), [], "nothing yet");
        assert_eq!(walked.until(Second(1_050)), [span(1_000, 1_050)]);
        walked.step(Step { epoch: 1, from: Second(1_050), to: Second(4_650) });
        assert_eq!(walked.until(Second(4_660)), [span(1_000, 1_050), span(4_650, 4_660)]);
        walked.step(Step { epoch: 2, from: Second(4_660), to: Second(1_061) });
        let before = walked.until(Second(1_070));
        assert_eq!(before, [span(1_000, 1_050), span(4_650, 4_660), span(1_061, 1_070)]);
        let again = Walked::new(before, Second(1_075));
        let after = again.until(Second(1_080));
        assert_eq!(
            after,
            [span(1_000, 1_050), span(4_650, 4_660), span(1_061, 1_080)],
            "a short end between"
        );
    }

    #[test]
    fn a_clock_that_is_set_all_the_time_fills_no_memory() {
        let mut walked = Walked::new(Vec::new(), Second(0));
        for number in 1..1_000 {
            let at = Second(number * 100);
            walked.step(Step { epoch: number as u32, from: at.minus(90), to: at });
        }
        let spans = walked.until(Second(99_905));
        assert_eq!((spans.len(), spans.last()), (SPANS_MAX, Some(&span(99_900, 99_905))));
    }
}
