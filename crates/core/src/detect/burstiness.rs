//! In which way a group loses while it is well: one slot here and there, or in bursts.
//!
//! **Dispersion** is the variance over the mean of what its minutes lose: 1 where losses are independent, `2 L - 1` where
//! they come in bursts of geometric length of mean L.
//!
//! **The size of a burst** is counted in lost slots of the group, not in seconds. Where paths fail one by one, as most do, a
//! burst of L seconds is L slots, and an outage of all N series outgrows it N times as fast as by the clock; where all
//! fail together, the bursts are N times as large, and are learnt so.
//!
//! **The tail** of these sizes is taken to be geometric beyond what was seen, its mean being the greatest mean excess over
//! any of the sizes 0, 1, 2, 4, 8, ... that is known from [`EXCESS_BURSTS`] bursts. For a geometric distribution the mean
//! excess is the same everywhere; where a hundred single losses hide one long burst, the mean of all says nothing of it.
//! One standard error of a geometric mean is added, so that what is known from little is waited out longer.
//!
//! Where a loss is expected more often than every other second, bursts overlap and cannot be told apart. Such a group has
//! its L from its dispersion, `(d + 1) / 2`.
//!
//! **Before anything is learnt** d is 3 and L is 2, its equal, as if one burst of two slots had been seen. What was lost
//! during an incident is not learnt, nor in the two minutes before it paged ([`Learning`](crate::detect::Learning)): bursts that are cut off where they page make the
//! mean too small, but only until those that are shorter have raised it.
//!
//! **What is learnt counts from the next full minute on**, so that whoever reads the same seconds judges alike.

/// In which way a group is taken to lose while it is well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burstiness {
    dispersion: f64,
    burst: Option<f64>,
}

impl Burstiness {
    /// A dispersion that somebody set, and no test against bursts: 1 is for losses that are independent.
    pub const fn fixed(dispersion: f64) -> Self {
        Self { dispersion: dispersion.max(1.0), burst: None }
    }

    /// What is known of a group.
    pub const fn learnt(dispersion: f64, burst: f64) -> Self {
        Self { dispersion: dispersion.clamp(1.0, DISPERSION_MAX), burst: Some(burst.max(1.0)) }
    }

    /// The variance over the mean of what a minute loses.
    pub const fn dispersion(self) -> f64 {
        self.dispersion
    }

    /// The mean size of a burst in slots, for its tail; none where a burst is not waited out.
    pub const fn burst(self) -> Option<f64> {
        self.burst
    }
}

/// Nothing learnt yet.
impl Default for Burstiness {
    fn default() -> Self {
        Self::learnt(DISPERSION_UNLEARNT, BURST_UNLEARNT)
    }
}

const DISPERSION_MAX: f64 = 20.0;
const DISPERSION_UNLEARNT: f64 = 3.0;
const BURST_UNLEARNT: f64 = 2.0;

/// How many minutes with loss a dispersion is learnt from.
const LOSSY_MINUTES: f64 = 200.0;

/// Until so many bursts are known, a burst is not taken to be smaller than before anything was learnt.
const BURSTS: f64 = 30.0;

/// How many bursts beyond a size make their mean excess known.
pub const EXCESS_BURSTS: f64 = 10.0;

/// What is older than a day fades, but for so many minutes with loss and bursts: a group that seldom loses is remembered longer.
const REMEMBERED: f64 = 2_000.0;

/// Each hour this much of the past stays.
const HOUR_STAYS: f64 = 23.0 / 24.0;

/// Sizes by powers of two: up to 1, 2, 4, ...
const BUCKETS: usize = 16;

/// Sums over quiet minutes and bursts, faded: what is kept of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quiet {
    /// Minutes.
    pub minutes: Minutes,
    /// How many bursts were of a size above half of, and up to, 2 to the power of the index.
    pub bursts: [f64; BUCKETS],
    /// Their sizes together.
    pub sizes: [f64; BUCKETS],
}

/// Sums over minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minutes {
    /// How many.
    pub count: f64,
    /// How many lost anything.
    pub lossy: f64,
    /// What they lost.
    pub lost: f64,
    /// The squares of what each lost.
    pub squares: f64,
}

impl Minutes {
    pub(super) fn add(&mut self, lost: u64) {
        let lost = lost as f64;
        self.merge(&Self { count: 1.0, lossy: lost.min(1.0), lost, squares: lost * lost });
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.lossy += other.lossy;
        self.lost += other.lost;
        self.squares += other.squares;
    }

    fn dispersion(&self) -> Option<f64> {
        let mean = self.lost / self.count;
        (self.lossy >= LOSSY_MINUTES).then(|| (self.squares / self.count - mean * mean) / mean)
    }
}

impl Quiet {
    /// Adds what was learnt elsewhere of the same group, from other seconds.
    pub fn merge(&mut self, other: &Self) {
        self.minutes.merge(&other.minutes);
        self.bursts.iter_mut().zip(other.bursts).for_each(|(mine, theirs)| *mine += theirs);
        self.sizes.iter_mut().zip(other.sizes).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// What is known of the group; `is_busy` if its bursts cannot be told apart.
    pub fn burstiness(&self, is_busy: bool) -> Burstiness {
        let dispersion = self.minutes.dispersion();
        let burst = match dispersion {
            Some(dispersion) if is_busy => (dispersion + 1.0) / 2.0 * (1.0 + 1.0 / self.minutes.lossy.sqrt()),
            None if is_busy => BURST_UNLEARNT,
            _ => self.burst(),
        };
        Burstiness::learnt(dispersion.unwrap_or(DISPERSION_UNLEARNT), burst)
    }

    fn burst(&self) -> f64 {
        let bursts: f64 = self.bursts.iter().sum();
        let sizes: f64 = self.sizes.iter().sum();
        let mean = (BURST_UNLEARNT + sizes) / (1.0 + bursts);
        // The variance of a geometric size is mean (mean - 1).
        let mean = mean + (mean * (mean - 1.0) * bursts).sqrt() / (1.0 + bursts);
        let floor = if bursts < BURSTS { BURST_UNLEARNT } else { 1.0 };
        let (mut beyond, mut size_beyond) = (bursts, sizes);
        let mut greatest = mean.max(floor);
        for (index, (bursts, sizes)) in self.bursts.iter().zip(self.sizes).enumerate() {
            beyond -= bursts;
            size_beyond -= sizes;
            if beyond < EXCESS_BURSTS {
                break;
            }
            greatest = greatest.max(size_beyond / beyond - f64::from(1_u32 << index));
        }
        greatest
    }

    /// A burst of so many slots is over.
    pub(super) fn add_burst(&mut self, size: u64) {
        let bucket = (size.next_power_of_two().ilog2() as usize).min(BUCKETS - 1);
        self.bursts[bucket] += 1.0;
        self.sizes[bucket] += size as f64;
    }

    /// An hour has passed.
    pub(super) fn fade(&mut self) {
        let stays = |known: f64| (REMEMBERED / known.max(1.0)).clamp(HOUR_STAYS, 1.0);
        let Minutes { count, lossy, lost, squares } = &mut self.minutes;
        let factor = stays(*lossy);
        [count, lossy, lost, squares].into_iter().for_each(|sum| *sum *= factor);
        let factor = stays(self.bursts.iter().sum());
        self.bursts.iter_mut().chain(&mut self.sizes).for_each(|sum| *sum *= factor);
    }
}
