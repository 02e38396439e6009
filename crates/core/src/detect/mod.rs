//! Detection: is more lost of a group than is acceptable, beyond what chance does?
//!
//! Each second a group's [`Bank`] is judged by a [`Test`]: fourteen windows, each against what an acceptable service would
//! lose in it. Everything here is a function of the ledger, the acceptable loss and what was learnt of the group.
//!
//! **The rule.** A window of n judged slots and k lost *is suspected* if `P(Bin(n/d, p) >= k/d) <= alpha`: p is the acceptable
//! loss, d the group's dispersion (variance over mean of what its quiet minutes lose), alpha the share of the fleet's
//! [`Budget`] that one second of one window has.
//!
//! A divisor says how far counts spread, and not how long a burst is: where bursts are of d slots, one of 4 d is no
//! wonder, and fires. So a window *fires* only if its loss is besides no sum of bursts of the kind that the group is known for
//! ([`Burstiness`]), geometric in size, of mean L. If all that is acceptable were lost so, `n p / L` would begin in the W seconds
//! of the window and `n p / W` be under way in its first, and the count of lost slots would rise to k as often as a slot is
//! lost, `n p / W` times a second, times [`tail::rise`]. The window fires where that is at most alpha. So each rise of a window
//! above its threshold is counted once, however long it stays there, and a burst is waited out no longer than it must be. The
//! variance of such a sum is `2 L - 1` times its mean, which joins the two tests: over many bursts they agree.
//!
//! **The budget** is shared by a union bound over seconds, groups and windows, so it holds however these depend on each other.

pub mod bank;
pub mod burstiness;
pub mod gate;
pub mod learning;
pub mod tail;

pub use bank::{Bank, Tally, View, WINDOWS};
pub use burstiness::{Burstiness, Quiet};
pub use learning::Learning;

use crate::AcceptableLoss;

/// How often the fleet may cry wolf, as the probability that one look at one window of one group may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    alpha: f64,
}

impl Budget {
    /// One false alarm in `seconds` seconds among `groups` groups that are looked at each second.
    pub fn new(groups: u64, seconds: u64) -> Self {
        let looks = groups.max(1) as f64 * seconds.max(1) as f64 * WINDOWS.len() as f64;
        Self { alpha: 1.0 / looks }
    }

    /// The probability of each look.
    pub const fn alpha(self) -> f64 {
        self.alpha
    }
}

/// One in thirty days for each thousand groups, however many there are.
impl Default for Budget {
    fn default() -> Self {
        Self::new(1_000, 30 * 86_400)
    }
}

/// What a window says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What is lost is acceptable, or may be chance.
    #[default]
    Quiet,
    /// Too much for chance, were it not for the bursts that the group is known for. Where independent vantages agree, that is
    /// enough; else the burst is waited out.
    Suspected,
    /// Too much for chance, and for bursts.
    Firing,
}

/// The window with the most evidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strongest {
    /// Its length.
    pub seconds: u64,
    /// What was judged and lost in it.
    pub tally: Tally,
    /// How improbable that is under the acceptable loss, as `n KL(k/n || p) / d` nats: about `-ln` of the probability.
    pub nats: f64,
}

/// What the windows of a group say in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Detection {
    /// The highest of all windows.
    pub level: Level,
    /// Of each of [`WINDOWS`].
    pub levels: [Level; WINDOWS.len()],
    /// Of the windows of that level, the one with the most evidence; none while all is quiet.
    pub strongest: Option<Strongest>,
}

/// What a group is tested against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Test {
    acceptable: f64,
    budget: Budget,
    burstiness: Burstiness,
}

/// A total outage is waited out for some fifteen to twenty mean bursts, so bursts of more than this many slots a series are not
/// believed: that is four minutes, in which somebody wants to know.
const BURST_SECONDS_MAX: f64 = 12.0;

impl Test {
    /// A test against `acceptable`, of what loses in the way of `burstiness`.
    pub fn new(acceptable: AcceptableLoss, budget: Budget, burstiness: Burstiness) -> Self {
        // Nothing at all would make each loss a certainty, so "0%" is the least that can be written.
        let share = f64::from(acceptable.parts_per_million().max(1)) / 1e6;
        Self { acceptable: share, budget, burstiness }
    }

    /// The same test of what loses in another way.
    pub const fn with(self, burstiness: Burstiness) -> Self {
        Self { burstiness, ..self }
    }

    /// The acceptable loss, 0 to 1.
    pub const fn acceptable(&self) -> f64 {
        self.acceptable
    }

    /// In which way the group is taken to lose.
    pub const fn burstiness(&self) -> Burstiness {
        self.burstiness
    }

    /// Judges all windows of a group.
    pub fn judge(&self, bank: &Bank) -> Detection {
        let mut detection = Detection::default();
        for (seconds, level) in WINDOWS.into_iter().zip(&mut detection.levels) {
            let tally = bank.newest(seconds);
            *level = self.level(seconds, tally);
            if *level == Level::Quiet || *level < detection.level {
                continue;
            }
            let nats = self.nats(tally);
            let is_stronger = detection.strongest.is_none_or(|strongest| nats > strongest.nats);
            if *level > detection.level || is_stronger {
                detection.strongest = Some(Strongest { seconds, tally, nats });
            }
            detection.level = *level;
        }
        detection
    }

    /// What a window of `seconds` says in which so much was judged and lost.
    pub fn level(&self, seconds: u64, tally: Tally) -> Level {
        if tally.lost == 0 || !self.is_beyond_chance(tally) {
            Level::Quiet
        } else if self.is_beyond_bursts(seconds, tally) {
            Level::Firing
        } else {
            Level::Suspected
        }
    }

    /// How many slots must be lost of `judged` in a window of `seconds` for it to reach `level`: none if all were not enough.
    pub fn needed(&self, seconds: u64, judged: u64, level: Level) -> Option<u64> {
        let reaches = |lost| self.level(seconds, Tally { judged, lost }) >= level;
        let (mut short, mut enough) = (0, judged);
        if !reaches(judged) {
            return None;
        }
        while short + 1 < enough {
            let middle = short.midpoint(enough);
            *if reaches(middle) { &mut enough } else { &mut short } = middle;
        }
        Some(enough)
    }

    fn is_beyond_chance(&self, tally: Tally) -> bool {
        let dispersion = self.burstiness.dispersion();
        let (lost, judged) = (tally.lost as f64 / dispersion, tally.judged as f64 / dispersion);
        tail::binomial_is_rare(lost, judged, self.acceptable, self.budget.alpha)
    }

    fn is_beyond_bursts(&self, seconds: u64, tally: Tally) -> bool {
        let Some(size) = self.burstiness.burst() else {
            return true;
        };
        let (judged, lost) = (tally.judged as f64, tally.lost as f64);
        let per_second = judged / seconds as f64;
        let size = size.min(BURST_SECONDS_MAX * per_second.max(1.0));
        let bursts = self.acceptable * (judged / size + per_second);
        // Below the mean, counts are the rarer the fewer they are.
        lost > bursts * size
            && tail::rise_is_rare(lost, bursts, size, self.budget.alpha / (self.acceptable * per_second))
    }

    fn nats(&self, tally: Tally) -> f64 {
        tally.judged as f64 * tail::divergence(tally.loss(), self.acceptable) / self.burstiness.dispersion()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Second;

    fn test(acceptable: &str, burstiness: Burstiness) -> Test {
        Test::new(acceptable.parse().unwrap(), Budget::default(), burstiness)
    }

    /// Six quiet hours of `series`, then so many lost in each second.
    fn bank(series: u64, lost: &[u64]) -> Bank {
        let start = Second(1_000_000);
        let mut bank =
            Bank::rebuilt(start, |span| Tally { judged: series * span.seconds().min(21_600), lost: 0 });
        for lost in lost {
            assert!(bank.set(bank.until(), Tally { judged: series, lost: *lost }));
        }
        bank
    }

    #[test]
    fn how_many_seconds_of_total_loss_fire() {
        // Bursts of mean 10 s on one series are not told from an outage before their tail ends.
        let bursts = Burstiness::learnt(19.0, 10.0);
        let table = [
            ("0.1%", 1, Burstiness::fixed(1.0), 4, 4),
            ("1%", 1, Burstiness::fixed(1.0), 6, 6),
            ("0.1%", 6, Burstiness::fixed(1.0), 1, 1),
            ("0.1%", 1, Burstiness::fixed(3.0), 12, 12),
            ("0.1%", 1, Burstiness::default(), 12, 26),
            ("0.1%", 6, Burstiness::default(), 2, 5),
            ("0.1%", 1, bursts, 76, 149),
            ("0.1%", 36, bursts, 2, 6),
        ];
        for (acceptable, series, burstiness, suspected, firing) in table {
            let test = test(acceptable, burstiness);
            let first = |level| {
                (1..300).find(|seconds| test.judge(&bank(series, &vec![series; *seconds])).level >= level)
            };
            assert_eq!(
                (first(Level::Suspected), first(Level::Firing)),
                (Some(suspected), Some(firing)),
                "{acceptable} of {series}, {burstiness:?}"
            );
        }
    }

    #[test]
    fn the_strongest_window_is_as_long_as_the_loss() {
        let test = test("0.1%", Burstiness::fixed(1.0));
        for (seconds, expected) in [(8, 8), (30, 30), (120, 120)] {
            let strongest = test.judge(&bank(6, &vec![6; seconds])).strongest.unwrap();
            assert_eq!(strongest.seconds, expected, "{strongest:?}");
            assert_eq!(strongest.tally, Tally { judged: 6 * expected, lost: 6 * expected });
        }
        assert_eq!(test.judge(&bank(6, &[])), Detection::default());
    }

    #[test]
    fn nothing_judged_is_nothing_lost() {
        let test = test("0.1%", Burstiness::default());
        assert_eq!(test.judge(&Bank::new(Second(1_000_000))), Detection::default());
        assert_eq!(test.needed(60, 0, Level::Suspected), None);
        assert_eq!(test.needed(1, 1, Level::Suspected), None, "one slot proves nothing");
    }

    #[test]
    fn nothing_acceptable_is_one_in_a_million() {
        let test = test("0%", Burstiness::fixed(1.0));
        assert_eq!(test.needed(2, 2, Level::Firing), Some(2));
        assert_eq!(test.needed(1, 1, Level::Firing), None);
    }

    #[test]
    fn the_budget_is_one_a_month_for_a_thousand_groups() {
        assert!((Budget::default().alpha() * 1_000.0 * 2_592_000.0 * 14.0 - 1.0).abs() < 1e-12);
        assert!(Budget::new(0, 0).alpha() <= 1.0);
    }

    proptest! {
        #[test]
        fn more_lost_is_never_less(
            window in 0..WINDOWS.len(), series in 1u64..300, share in 0.0..1.0f64,
            dispersion in 1.0..20.0f64, burst in 1.0..12.0f64, parts in 1u32..200_000,
        ) {
            let acceptable = format!("{}.{:04}%", parts / 10_000, parts % 10_000);
            let test = test(&acceptable, Burstiness::learnt(dispersion, burst));
            let (seconds, judged) = (WINDOWS[window], WINDOWS[window] * series);
            for level in [Level::Suspected, Level::Firing] {
                let Some(needed) = test.needed(seconds, judged, level) else { continue };
                let more = needed + ((judged - needed) as f64 * share) as u64;
                let level_of = |lost| test.level(seconds, Tally { judged, lost });
                prop_assert!(level_of(more) >= level);
                prop_assert!(level_of(needed - 1) < level);
            }
        }
    }
}
