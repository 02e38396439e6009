//! Learns from a group's seconds in which way it loses.
//!
//! Losses belong to one burst if hardly any other loss would be expected between them: at most 0.1 / (N p) seconds without
//! loss lie between them, where all that is acceptable is lost of N slots a second; at least one such second, and at most five.

use crate::{
    Second, Span,
    detect::{
        Tally,
        burstiness::{Burstiness, Minutes, Quiet},
    },
};

/// A burst that may go on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Open {
    size: u64,
    /// After the newest second that lost something.
    until: Second,
}

/// Learns in which way a group loses, from its seconds in order.
///
/// Feed it a second when it is final: when it leaves [`Bank::REACH`](crate::detect::Bank::REACH).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learning {
    quiet: Quiet,
    /// Minutes that a burst that may go on touches: learnt with it, or not at all.
    touched: Minutes,
    open: Option<Open>,
    /// What the minute lost so far, none if it is not learnt.
    minute: Option<u64>,
    until: Second,
    is_busy: bool,
    /// As of the last full minute.
    burstiness: Burstiness,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// Losses a second, if all that is acceptable were lost, from which on bursts cannot be told apart.
const BUSY: f64 = 0.5;

impl Learning {
    /// Goes on from `quiet` with the second `from`.
    pub fn new(quiet: Quiet, from: Second) -> Self {
        Self {
            quiet,
            touched: Minutes::default(),
            open: None,
            minute: from.0.is_multiple_of(MINUTE).then_some(0),
            until: from,
            is_busy: false,
            burstiness: quiet.burstiness(false),
        }
    }

    /// The first second that is not yet learnt.
    pub const fn until(&self) -> Second {
        self.until
    }

    /// What is to be kept over a restart.
    pub const fn quiet(&self) -> &Quiet {
        &self.quiet
    }

    /// What is known of the group, as of the last full minute.
    pub const fn burstiness(&self) -> Burstiness {
        self.burstiness
    }

    /// Learns from the seconds of `span`, in `each` of which so much was judged and lost, where `acceptable` (0 to 1) is.
    /// Seconds that were learnt before are passed over. What was left out before `span` was not measured.
    pub fn learn(&mut self, span: Span, each: Tally, acceptable: f64) {
        self.pass_over(span.from);
        self.walk(span, |learning, piece| {
            if each.judged == 0 {
                learning.minute = None;
                return;
            }
            let expected = each.judged as f64 * acceptable;
            learning.is_busy = expected > BUSY;
            if let Some(lost) = &mut learning.minute {
                *lost += each.lost * piece.seconds();
            }
            let apart = (0.1 / expected).clamp(1.0, 5.0) as u64;
            let goes_on = |open: Open| piece.from <= open.until.plus(apart);
            if learning.is_busy {
                learning.close();
            } else if each.lost > 0 {
                if !learning.open.is_some_and(goes_on) {
                    learning.close();
                }
                let size = learning.open.map_or(0, |open| open.size) + each.lost * piece.seconds();
                learning.open = Some(Open { size, until: piece.until });
            } else if learning.open.is_some_and(|open| open.until.plus(apart) < piece.until) {
                learning.close();
            }
        });
    }

    /// Leaves out the seconds before `until`: of an incident, or not measured. A burst that is cut off so is not learnt, nor
    /// are the minutes that it touches.
    pub fn pass_over(&mut self, until: Second) {
        if until > self.until {
            (self.open, self.touched) = (None, Minutes::default());
            self.walk(Span::new(self.until, until), |learning, _| learning.minute = None);
        }
    }

    /// Calls `learn` for what is new of `span`, minute by minute.
    fn walk(&mut self, span: Span, learn: impl Fn(&mut Self, Span)) {
        while self.until < span.until {
            let ends = Second((self.until.0 / MINUTE + 1) * MINUTE);
            let piece = Span::new(self.until, ends.min(span.until));
            learn(self, piece);
            self.until = piece.until;
            if piece.until == ends {
                self.end_minute();
            }
        }
    }

    fn end_minute(&mut self) {
        let lost = self.minute.replace(0);
        if let Some(lost) = lost {
            let minutes = if self.open.is_some() { &mut self.touched } else { &mut self.quiet.minutes };
            minutes.add(lost);
        }
        let is_hour = self.until.0.is_multiple_of(HOUR);
        if is_hour {
            self.quiet.fade();
        }
        // A minute without loss tells little, and that at the full hour.
        if is_hour || lost != Some(0) {
            self.burstiness = self.quiet.burstiness(self.is_busy);
        }
    }

    /// The burst is over, and was none of an incident.
    fn close(&mut self) {
        self.quiet.minutes.merge(&std::mem::take(&mut self.touched));
        if let Some(open) = self.open.take() {
            self.quiet.add_burst(open.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACCEPTABLE: f64 = 0.001;
    const START: Second = Second(1_000_800);

    /// Learns one series that loses a burst of each of `sizes`, one in a time of `every` seconds.
    fn learnt(sizes: impl IntoIterator<Item = u64>, every: u64) -> Learning {
        let mut learning = Learning::new(Quiet::default(), START);
        for size in sizes {
            let from = learning.until();
            lose(&mut learning, size);
            learning.learn(
                Span::new(learning.until(), from.plus(every)),
                Tally { judged: 1, lost: 0 },
                ACCEPTABLE,
            );
        }
        learning
    }

    fn lose(learning: &mut Learning, seconds: u64) {
        let from = learning.until();
        learning.learn(Span::new(from, from.plus(seconds)), Tally { judged: 1, lost: 1 }, ACCEPTABLE);
    }

    fn burst(learning: &Learning) -> f64 {
        learning.quiet().burstiness(false).burst().unwrap()
    }

    #[test]
    fn what_is_learnt_of_a_group() {
        // Single losses; bursts of ten; one long burst among a hundred single losses.
        let single = learnt((0..400).map(|_| 1), 600);
        assert!((burst(&single) - 1.0).abs() < 0.02, "{:?}", single.burstiness());
        assert!((single.burstiness().dispersion() - 1.0).abs() < 0.2, "{:?}", single.burstiness());
        let tens = learnt((0..400).map(|_| 10), 600);
        assert!((10.0..10.7).contains(&burst(&tens)), "{:?}", tens.burstiness());
        assert!((8.0..=10.0).contains(&tens.burstiness().dispersion()), "{:?}", tens.burstiness());
        let hidden = learnt((0..2_000).map(|number| if number % 100 == 0 { 40 } else { 1 }), 600);
        assert!(burst(&hidden) > 35.0, "{:?}", hidden.burstiness());
    }

    #[test]
    fn nothing_learnt_is_what_is_stated() {
        let cold = Learning::new(Quiet::default(), START).burstiness();
        assert_eq!((cold.dispersion(), cold.burst()), (3.0, Some(2.0)));
        let few = learnt((0..20).map(|_| 1), 600).burstiness();
        assert_eq!((few.dispersion(), few.burst()), (3.0, Some(2.0)), "until there are enough");
        assert!(learnt([10], 600).burstiness().burst().unwrap() > 5.0, "the first burst counts at once");
    }

    #[test]
    fn losses_near_each_other_are_one_burst() {
        for (apart, bursts) in [(1, 1.0), (5, 1.0), (7, 2.0)] {
            let mut learning = learnt([3], 3 + apart);
            lose(&mut learning, 2);
            let end = learning.until();
            learning.learn(Span::new(end, end.plus(60)), Tally { judged: 1, lost: 0 }, ACCEPTABLE);
            assert_eq!(learning.quiet().bursts.iter().sum::<f64>(), bursts, "{apart} s apart");
            assert_eq!(learning.quiet().sizes.iter().sum::<f64>(), 5.0);
        }
    }

    #[test]
    fn what_an_incident_cuts_off_is_not_learnt() {
        let mut learning = learnt([1], 600);
        let before = *learning.quiet();
        lose(&mut learning, 100);
        learning.pass_over(learning.until().plus(3_000));
        let quiet = *learning.quiet();
        assert_eq!((quiet.bursts, quiet.minutes.lost), (before.bursts, before.minutes.lost));
        let from = learning.until();
        learning.learn(Span::new(from.minus(50), from), Tally { judged: 1, lost: 1 }, ACCEPTABLE);
        assert_eq!(*learning.quiet(), quiet, "what was passed over is not learnt later");
    }

    #[test]
    fn a_busy_group_has_its_bursts_from_its_dispersion() {
        let mut learning = Learning::new(Quiet::default(), START);
        let mut from = START;
        for minute in 0..400 {
            // Minutes of none and of twice as many: a variance of as much as the mean squared.
            let lost = if minute % 2 == 0 { 0 } else { 1 };
            learning.learn(Span::new(from, from.plus(60)), Tally { judged: 1_000, lost }, ACCEPTABLE);
            from = from.plus(60);
        }
        assert_eq!(learning.quiet().bursts.iter().sum::<f64>(), 0.0);
        // 30 squared over 30, which is more than is believed.
        let burstiness = learning.burstiness();
        assert_eq!(burstiness.dispersion(), 20.0);
        assert!(burstiness.burst().unwrap() > 15.0, "{burstiness:?}");
    }

    proptest! {
        #[test]
        fn seconds_are_learnt_alike_in_any_portions(lost in prop::collection::vec(prop_oneof![9 => Just(0u64), 1 => 1u64..4], 1..2_000)) {
            let (mut apart, mut together) = (Learning::new(Quiet::default(), START), Learning::new(Quiet::default(), START));
            for (second, lost) in (START.0..).map(Second).zip(&lost) {
                apart.learn(Span::new(second, second.plus(1)), Tally { judged: 4, lost: *lost }, ACCEPTABLE);
            }
            for run in lost.chunk_by(|left, right| left == right) {
                let from = together.until();
                let span = Span::new(from, from.plus(run.len() as u64));
                together.learn(span, Tally { judged: 4, lost: run[0] }, ACCEPTABLE);
                // Once more changes nothing.
                together.learn(span, Tally { judged: 4, lost: run[0] }, ACCEPTABLE);
            }
            prop_assert_eq!(apart, together);
        }

        #[test]
        fn two_halves_merged_are_the_whole(sizes in prop::collection::vec(1u64..50, 2..60)) {
            let (left, right) = sizes.split_at(sizes.len() / 2);
            let mut merged = *learnt(left.iter().copied(), 60).quiet();
            merged.merge(learnt(right.iter().copied(), 60).quiet());
            prop_assert_eq!(merged.bursts, learnt(sizes, 60).quiet().bursts);
        }
    }
}
