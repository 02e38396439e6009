//! Detection: is more lost of a group than is acceptable, beyond what chance does?
//!
//! Each second a group's [`Bank`] is judged by a [`Test`]: fourteen windows, each against the tail of what an acceptable
//! service would lose in it. Everything here is a function of the ledger, the acceptable loss and what was learnt of the group.
//!
//! **The rule.** A window of n judged slots and k lost *is suspected* if `P(Bin(n/d, p) >= k/d) <= alpha`: p is the acceptable
//! loss, d the group's dispersion (variance over mean of what its quiet minutes lose), alpha the share of the fleet's
//! [`Budget`] that one look at one window has. It *fires* if the loss is besides no burst of the kind that the group is known
//! for: `P(K >= k) <= alpha`, where K is a sum of bursts of geometric size of mean L, as many as make up the acceptable
//! loss. See [`Burstiness`] for L. With `n p / L` bursts that begin in the window, and `n p / W` that were under way in the
//! W seconds' first, K has a Pólya-Aeppli distribution ([`tail::compound`]). Its variance over mean is `2 L - 1`, which
//! joins it to the divisor: over many bursts the two tests agree, and over one or two the divisor is far too bold.
//!
//! **The budget** is a union bound over seconds, groups and windows, so it holds whatever the dependence between looks.

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

/// A total outage is waited out for about 25 mean bursts at worst, so bursts of more than this many slots a series are not
/// believed: that is five minutes, in which somebody wants to know.
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
        let (judged, seconds) = (tally.judged as f64, seconds as f64);
        let size = size.min(BURST_SECONDS_MAX * (judged / seconds).max(1.0));
        let bursts = judged * self.acceptable * (1.0 / size + 1.0 / seconds);
        tail::compound_is_rare(tally.lost as f64, bursts, size, self.budget.alpha)
    }

    fn nats(&self, tally: Tally) -> f64 {
        tally.judged as f64 * tail::divergence(tally.loss(), self.acceptable) / self.burstiness.dispersion()
    }
}
