//! How much may be reported under one token: so many reports and slots a second, so many bytes at once, so many series.
//!
//! A bucket fills at the token's rate, up to [`BURST_SECONDS`] of it. A report is let in while anything is in the bucket,
//! whatever it costs, and what it costs beyond is owed: a report that tells more than a burst, as the first after a day
//! without power does, is taken, and the next ones wait for it. Otherwise it could never be told.

use aviary_core::{Micros, ledger::LIVE_SECONDS};
use aviary_wire::report::{self, REPORT_BYTES_MAX, Report};

/// How many seconds' worth a token that was silent may report at once.
const BURST_SECONDS: i64 = 4;

/// How many seconds' worth is owed at most: an agent does not wait longer than it takes its host to start.
const DEBT_SECONDS: i64 = 60;

/// How much may be reported under a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Reports a second.
    pub reports: u32,
    /// Slots a second.
    pub slots: u32,
    /// Bytes of one report, unpacked.
    pub bytes: usize,
    /// Series in all that this collector had not heard of.
    pub series: usize,
}

impl Limits {
    /// For the agents of a whole fleet: 100,000 series at one slot a second use a hundredth of the slots, and the rest is
    /// for what waited while the collector was away. Ten thousand agents, each of which tells ten losses a second at
    /// once, use all of the reports.
    pub const FLEET: Self =
        Self { reports: 100_000, slots: 10_000_000, bytes: REPORT_BYTES_MAX, series: 100_000 };

    /// For one agent: it reports at most fifty times a second and has at most ten thousand series.
    pub const AGENT: Self =
        Self { reports: 200, slots: 1_000_000, bytes: REPORT_BYTES_MAX, series: report::SERIES_MAX };
}

impl Default for Limits {
    fn default() -> Self {
        Self::FLEET
    }
}

/// What may be spent at a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Units a second.
    rate: i64,
    /// In millionths of a unit; below 0 it is owed.
    level: i64,
    filled: Micros,
}

impl Bucket {
    pub(super) fn full(rate: u32, now: Micros) -> Self {
        let rate = i64::from(rate.max(1));
        Self { rate, level: rate * 1_000_000 * BURST_SECONDS, filled: now }
    }

    /// Whether there is something to spend, or after how many seconds there is again.
    pub(super) fn ready(&mut self, now: Micros) -> Result<(), u64> {
        let second = self.rate * 1_000_000;
        let elapsed = i64::try_from(now.since(self.filled)).unwrap_or(i64::MAX);
        // A unit a second is a millionth of it a microsecond.
        let filled = self.level.saturating_add(elapsed.saturating_mul(self.rate));
        self.level = filled.min(second * BURST_SECONDS);
        self.filled = self.filled.max(now);
        if self.level > 0 {
            return Ok(());
        }
        Err(self.level.unsigned_abs().div_ceil(second.unsigned_abs()).max(1))
    }

    /// Whether nothing was taken out for long.
    pub(super) fn is_full(&mut self, now: Micros) -> bool {
        self.ready(now).is_ok() && self.level == self.rate * 1_000_000 * BURST_SECONDS
    }

    /// Takes `units` out, also where so many are not in it.
    pub(super) fn charge(&mut self, units: u64) {
        let cost = i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        self.level = self.level.saturating_sub(cost).max(-self.rate * 1_000_000 * DEBT_SECONDS);
    }
}

/// How many slots a report tells, of each series at most those of the live window: what a gap tells beyond costs as
/// little as it is long.
pub(super) fn slots_told(report: &Report) -> u64 {
    let gaps = report.gaps.iter().map(|gap| u64::from(gap.count) * gap.span.seconds().min(LIVE_SECONDS));
    gaps.fold(report.slots.len() as u64, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    impl Bucket {
        fn spend(&mut self, units: u64, now: Micros) -> Result<(), u64> {
            self.ready(now)?;
            self.charge(units);
            Ok(())
        }
    }

    #[test]
    fn a_bucket_lets_in_its_rate_and_says_when_to_come_back() {
        let mut bucket = Bucket::full(10, Micros(0));
        // When, in milliseconds, how many units, and what comes of it.
        let table: [(u64, u64, Result<(), u64>); 9] = [
            (0, 39, Ok(())),
            (0, 1, Ok(())),
            (0, 1, Err(1)),
            (99, 1, Ok(())),
            (100, 1, Err(1)),
            (1_000, 1_000_000, Ok(())),
            (1_000, 1, Err(60)),
            (58_500, 1, Err(3)),
            (61_001, 1, Ok(())),
        ];
        for (place, (at, units, expected)) in table.into_iter().enumerate() {
            assert_eq!(bucket.spend(units, Micros(at * 1_000)), expected, "{place}: {bucket:?}");
        }
    }

    #[test]
    fn silence_earns_a_burst_and_no_more_and_a_clock_that_stands_earns_nothing() {
        let mut bucket = Bucket::full(5, Micros(SECOND));
        let taken =
            |bucket: &mut Bucket, at| (0..1_000).filter(|_| bucket.spend(1, Micros(at)).is_ok()).count();
        assert_eq!(taken(&mut bucket, SECOND), 20);
        assert_eq!(taken(&mut bucket, 0), 0);
        assert_eq!(taken(&mut bucket, u64::MAX), 20);
        assert_eq!(taken(&mut bucket, u64::MAX), 0);
    }

    #[test]
    fn a_fleet_of_100_000_series_is_far_from_every_limit() {
        let mut reports = Bucket::full(Limits::FLEET.reports, Micros(0));
        let mut slots = Bucket::full(Limits::FLEET.slots, Micros(0));
        // A minute in which every slot is lost, told at once, while an hour that waited comes in at ten times its pace.
        for second in 0..60 {
            for part in 0..100 {
                let now = Micros(second * SECOND + part * SECOND / 100);
                for _ in 0..1_000 {
                    assert_eq!(reports.spend(1, now), Ok(()));
                }
                assert_eq!(slots.spend(11 * 1_000, now), Ok(()));
            }
        }
    }

    proptest! {
        #[test]
        fn in_the_long_run_no_more_than_the_rate_gets_in(
            rate in 1u32..1_000,
            // Reports of up to twenty seconds' worth.
            steps in prop::collection::vec((0u64..SECOND, 1u64..20_000), 1..300),
        ) {
            let mut bucket = Bucket::full(rate, Micros(0));
            let (mut now, mut spent, mut last) = (0, 0, 0);
            for (pause, thousandths) in steps {
                now += pause;
                let units = (u64::from(rate) * thousandths).div_ceil(1_000);
                if bucket.spend(units, Micros(now)).is_ok() {
                    last = units;
                    spent += units;
                }
            }
            let earned = u64::from(rate) * (4 + now / SECOND + 1);
            prop_assert!(spent <= earned + last, "{spent} of {earned}");
        }
    }
}
