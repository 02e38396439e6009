//! Detection: is more lost of a group than is acceptable, beyond what chance does?
//!
//! Each second a group's [`Bank`] is judged by a [`Test`]: fourteen windows, each against what an acceptable service would
//! lose in it. Everything here is a function of the ledger, the acceptable loss and what was learnt of the group.
//!
//! **The rule.** A window of n judged slots and k lost *is suspected* if `P(Bin(n/d, p) >= k/d) <= alpha`: p is the acceptable
//! loss, d the group's dispersion (variance over mean of what its quiet minutes lose), alpha the share of the fleet's
//! [`Budget`] that one second of one window has.
//!
//! A divisor alone makes a long burst likelier than it takes it for: one of d slots is common, and one of 4 d fires. So a window
//! *fires* only if its loss is besides no burst, or few, of the kind that the group is known for: [`Burstiness`] has
//! their mean size L. If all that is acceptable were lost in bursts of geometric size, `n p / L` would begin in the W seconds of
//! the window and `n p / W` be under way in its first; and the count of lost slots would rise to k in a second as often
//! as a slot is lost, `n p / W`, times [`tail::rise`]. That is at most alpha where the window fires. It counts each rise of
//! the window above its threshold once, however long it stays there, so that a burst is waited out no longer than it must be.
//! The losses of such bursts have a variance of `2 L - 1` times their mean, which joins this to the divisor: over many
//! bursts the two agree.
//!
//! **The budget** is shared by a union bound over seconds, groups and windows, so it holds however these depend on each other.

pub mod bank;
pub mod burstiness;
pub mod gate;
pub mod tail;

pub use bank::{Bank, Tally, WINDOWS};
pub use burstiness::{Burstiness, Learning, Quiet};

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
