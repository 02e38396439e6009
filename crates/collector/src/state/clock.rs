//! How far an agent's wall clock is from ours.
//!
//! Two things tell it. Each report says when it was made by the agent's clock, and arrives later by ours: whatever that
//! took, the agent's clock is *at least* as far ahead as the one reading is of the other. The report that took least says
//! most, and no number of them says how far ahead it is at most. And the agent measures: it knows when it sent a push
//! and when the receipt came, between which our clock was read, so that the difference is known to within half the time
//! of the push ([`aviary_wire::clock`]). Of the last few measurements the one that took least is believed, as NTP does,
//! unless a report shows that it cannot hold any more: then a clock was stepped since.

use std::collections::VecDeque;

use aviary_wire::clock::ClockOffset;

/// How many of the newest reports and measurements are looked at: half a minute of slewing is less than a round trip.
const KEPT: usize = 16;

/// What is known of the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    /// How far the agent's clock is ahead, in microseconds.
    pub(crate) us: i64,
    /// Give or take so many; `None` where that is only known to be the least.
    pub(crate) uncertainty_us: Option<u32>,
}

/// The newest that was told and measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks {
    /// How far each report's reading was ahead of its arrival.
    told: VecDeque<i64>,
    measured: VecDeque<ClockOffset>,
}

impl Clocks {
    /// A report arrived whose reading was so far ahead of ours.
    pub(super) fn told(&mut self, ahead_us: i64) {
        push(&mut self.told, ahead_us);
        // What was measured before the clock went ahead of that was of another clock, so to speak.
        self.measured.retain(|it| ahead_us <= most(it));
    }

    /// The agent has measured.
    pub(super) fn measured(&mut self, measured: ClockOffset) {
        // The clock was set back since those readings: the difference is smaller than they say it is at least.
        self.told.retain(|ahead_us| *ahead_us <= most(&measured));
        let overlaps = |it: &ClockOffset| least(it) <= most(&measured) && least(&measured) <= most(it);
        self.measured.retain(overlaps);
        push(&mut self.measured, measured);
    }

    /// The clock was stepped, or is another one: what was known of it holds no more.
    pub(super) fn forget(&mut self) {
        self.told.clear();
        self.measured.clear();
    }

    /// What is known; `None` before the first report.
    pub(super) fn offset(&self) -> Option<Offset> {
        // The newest of equals, which stands first: clocks drift.
        let best = self.measured.iter().min_by_key(|it| it.uncertainty_us);
        match best {
            Some(it) => Some(Offset { us: it.offset_us, uncertainty_us: Some(it.uncertainty_us) }),
            None => self.told.iter().max().map(|us| Offset { us: *us, uncertainty_us: None }),
        }
    }
}

fn push<T>(kept: &mut VecDeque<T>, new: T) {
    kept.truncate(KEPT - 1);
    kept.push_front(new);
}

fn least(it: &ClockOffset) -> i64 {
    it.offset_us.saturating_sub(i64::from(it.uncertainty_us))
}

fn most(it: &ClockOffset) -> i64 {
    it.offset_us.saturating_add(i64::from(it.uncertainty_us))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn measured(offset_us: i64, uncertainty_us: u32) -> ClockOffset {
        ClockOffset { offset_us, uncertainty_us }
    }

    fn known(us: i64, uncertainty_us: impl Into<Option<u32>>) -> Option<Offset> {
        Some(Offset { us, uncertainty_us: uncertainty_us.into() })
    }

    #[test]
    fn the_quickest_report_and_the_quickest_measurement_say_most() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.offset(), None);
        for ahead_us in [-900, -120, -5_000] {
            clocks.told(ahead_us);
        }
        assert_eq!(clocks.offset(), known(-120, None), "at least that far ahead");
        clocks.measured(measured(40, 300));
        clocks.measured(measured(-20, 150));
        clocks.measured(measured(100, 2_000));
        assert_eq!(clocks.offset(), known(-20, 150));
        for _ in 0..KEPT {
            clocks.measured(measured(100, 2_000));
        }
        assert_eq!(clocks.offset(), known(100, 2_000), "an old measurement is forgotten");
    }

    #[test]
    fn a_clock_that_was_stepped_is_known_anew() {
        let mut clocks = Clocks::default();
        clocks.told(-100);
        clocks.measured(measured(0, 200));
        clocks.told(5_000_000);
        assert_eq!(clocks.offset(), known(5_000_000, None), "the measurement cannot hold any more");
        clocks.measured(measured(5_000_200, 900));
        assert_eq!(clocks.offset(), known(5_000_200, 900));
        clocks.measured(measured(-3_000_000, 900));
        assert_eq!(clocks.offset(), known(-3_000_000, 900), "set back");
        clocks.forget();
        clocks.told(7);
        assert_eq!(clocks.offset(), known(7, None));
    }

    proptest! {
        /// A clock that runs `true_us` ahead, whatever the ways take.
        #[test]
        fn the_truth_is_never_outside(
            true_us in -3_000_000i64..3_000_000,
            pushes in prop::collection::vec((0i64..400_000, 0i64..400_000, any::<bool>()), 1..60),
        ) {
            let mut clocks = Clocks::default();
            for (there_us, back_us, measures) in pushes {
                clocks.told(true_us - there_us);
                if measures {
                    let took = there_us + back_us;
                    // As the agent does it: the middle of its two readings, less ours in between.
                    let middle = true_us + (back_us - there_us) / 2;
                    clocks.measured(measured(middle, u32::try_from(took / 2 + 1).unwrap()));
                }
                let offset = clocks.offset().unwrap();
                match offset.uncertainty_us {
                    Some(uncertainty) => {
                        prop_assert!((offset.us - true_us).abs() <= i64::from(uncertainty), "{offset:?}");
                    }
                    None => prop_assert!(offset.us <= true_us, "{offset:?}"),
                }
            }
        }
    }
}
