//! What a group loses while it is well, from one second with loss to the next.

use crate::random::Random;

/// In which way it loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Each slot by itself.
    Independent,
    /// Each series by itself, in bursts of geometric length of this mean in seconds (Gilbert-Elliott, all lost within one).
    Bursts(f64),
    /// Likewise, but nineteen of twenty bursts are of one second.
    Hidden(f64),
    /// All series of the group together, in bursts.
    Common(f64),
}

/// The losses of one group.
pub(crate) struct Traffic {
    kind: Kind,
    series: u64,
    /// How many fail by themselves: the group is one where all lose together.
    units: u64,
    /// The chance of a slot to be lost, or of a series that is well to begin a burst.
    chance: f64,
    /// The chance that any of all does, and, given that, that at most one, two, ... do.
    any: f64,
    at_most: Vec<f64>,
    /// The series in a burst, each with its chance to end in a second.
    active: Vec<(u64, f64)>,
    random: Random,
}

/// A second in which something was lost.
pub(crate) struct Lossy {
    /// How many seconds before it lost nothing.
    pub(crate) after: u64,
    /// Which series lost.
    pub(crate) series: Vec<u64>,
}

impl Traffic {
    /// A group of `series` that loses a share of `loss`.
    pub(crate) fn new(kind: Kind, series: u64, loss: f64, random: Random) -> Self {
        let chance = match kind {
            Kind::Independent => loss,
            Kind::Bursts(mean) | Kind::Common(mean) => loss / (1.0 - loss) / mean,
            Kind::Hidden(mean) => loss / (1.0 - loss) / (0.95 + 0.05 * mean),
        };
        let units = if matches!(kind, Kind::Common(_)) { 1 } else { series };
        let any = -(units as f64 * (-chance).ln_1p()).exp_m1();
        // Of the binomial distribution, from the term for none on; what is left beyond a trillionth is the last.
        let mut term = 1.0 - any;
        let mut at_most = Vec::new();
        while at_most.last().is_none_or(|sum| *sum < 1.0 - 1e-12) && (at_most.len() as u64) < units {
            let count = at_most.len() as f64;
            term *= (units as f64 - count) / (count + 1.0) * chance / (1.0 - chance);
            at_most.push(at_most.last().unwrap_or(&0.0) + term / any);
        }
        Self { kind, series, units, chance, any, at_most, active: Vec::new(), random }
    }

    /// Goes on to the next second with loss, which is written to `lossy`.
    pub(crate) fn next(&mut self, lossy: &mut Lossy) {
        lossy.after = 0;
        lossy.series.clear();
        let random = &mut self.random;
        match self.kind {
            Kind::Independent => self.active.clear(),
            _ => self.active.retain(|(_, end)| !random.chance(*end)),
        }
        if self.active.is_empty() {
            lossy.after = self.random.failures(self.any);
            let rank = self.random.unit();
            let more = self.at_most.iter().take_while(|sum| **sum < rank).count() as u64;
            self.begin((1 + more).min(self.units));
        } else {
            let idle = self.units - self.active.len() as u64;
            let more = self.random.binomial(idle, self.chance);
            self.begin(more);
        }
        match self.kind {
            Kind::Common(_) => lossy.series.extend(0..self.series),
            _ => lossy.series.extend(self.active.iter().map(|(series, _)| series)),
        }
    }

    /// Begins bursts in so many series that are well, whichever.
    fn begin(&mut self, count: u64) {
        for _ in 0..count {
            let end = match self.kind {
                Kind::Independent => 1.0,
                Kind::Bursts(mean) | Kind::Common(mean) => 1.0 / mean,
                Kind::Hidden(mean) => {
                    if self.random.chance(0.05) {
                        1.0 / mean
                    } else {
                        1.0
                    }
                }
            };
            let mut series = self.random.below(self.units);
            while self.active.iter().any(|(known, _)| *known == series) {
                series = (series + 1) % self.units;
            }
            self.active.push((series, end));
        }
    }
}
