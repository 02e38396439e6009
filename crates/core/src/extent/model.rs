//! How likely a cell's count is, at each loss that it may suffer.
//!
//! A quiet cell loses what is acceptable: binomial. A cell in rules loses that and what they add: beta-binomial, because
//! one cause seldom takes the same share from all; how unequal they are (`spread`) is learnt. In either a cell may
//! instead have had a burst of its own (`scatter`, and its mean length `burst`, learnt too), so that a rule is never
//! made of a few unlucky cells, and a strong rule is not weakened by many.
//!
//! Cells with equal counts are one class, and the log-likelihood of a class is tabulated over the loss, so that a
//! search only adds. Between the columns it is interpolated by a cubic.

use std::sync::LazyLock;

/// One cell's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Delivered and lost.
    pub judged: u64,
    /// Lost.
    pub lost: u64,
    /// The share that may be lost without anybody wondering, 0 to 1.
    pub acceptable: f64,
}

/// What is learnt from a first description for the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Noise {
    /// The share of cells that have a burst of their own.
    pub(super) scatter: f64,
    /// The mean slots of such a burst.
    pub(super) burst: f64,
    /// How unequally a rule takes from its cells: the correlation of two slots in one cell.
    pub(super) spread: f64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { scatter: 0.01, burst: 5.0, spread: 0.02 }
    }
}

/// What spreads are tried.
pub(super) const SPREADS: [f64; 7] = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3];

/// Columns of the table: quiet, [`STEPS`] losses equally spaced in log-odds, and all.
pub(super) const COLUMNS: usize = STEPS + 2;
const STEPS: usize = 41;
const LOWEST: f64 = -7.0;
const STEP: f64 = 0.35;
/// The column where all is lost.
pub(super) const ALL: usize = COLUMNS - 1;

/// Log-likelihoods over the loss, one a column.
pub(super) type Curve = [f64; COLUMNS];

/// The loss that a column stands for.
pub(super) fn loss_at(column: usize) -> f64 {
    static LOSSES: LazyLock<[f64; COLUMNS]> = LazyLock::new(|| {
        std::array::from_fn(|column| match column {
            0 => 0.0,
            ALL => 1.0,
            step => loss_between(step, 0.0),
        })
    });
    LOSSES[column]
}

/// The loss beside a column between the first and the last step, by so many columns.
pub(super) fn loss_between(column: usize, offset: f64) -> f64 {
    1.0 / (1.0 + (-(LOWEST + STEP * (column as f64 - 1.0 + offset))).exp())
}

/// The value of `curve` at `loss`.
pub(super) fn at(curve: &Curve, loss: f64) -> f64 {
    if loss <= 0.0 {
        return curve[0];
    }
    if loss >= 1.0 {
        return curve[ALL];
    }
    let place = ((loss / (1.0 - loss)).ln() - LOWEST) / STEP;
    if place <= 0.0 {
        let share = loss / loss_at(1);
        return curve[0] * (1.0 - share) + curve[1] * share;
    }
    if place >= (STEPS - 1) as f64 {
        let share = (loss - loss_at(STEPS)) / (1.0 - loss_at(STEPS));
        return curve[STEPS] * (1.0 - share) + curve[ALL] * share;
    }
    let left = (place as usize).clamp(1, STEPS - 3);
    let x = place - left as f64;
    let [a, b, c, d] = [curve[left], curve[left + 1], curve[left + 2], curve[left + 3]];
    // Lagrange's polynomial through the points -1, 0, 1 and 2.
    -a * x * (x - 1.0) * (x - 2.0) / 6.0 + b * (x + 1.0) * (x - 1.0) * (x - 2.0) / 2.0
        - c * (x + 1.0) * x * (x - 2.0) / 2.0
        + d * (x + 1.0) * x * (x - 1.0) / 6.0
}

/// Cells with equal counts, and how likely those are.
pub(super) struct Scores {
    /// Each cell's class.
    pub(super) class_of: Vec<u32>,
    classes: Vec<Class>,
    pub(super) noise: Noise,
    curves: Vec<Curve>,
}

#[derive(Clone, Copy)]
struct Class {
    judged: f64,
    lost: f64,
    acceptable: f64,
    /// The logarithm of how many ways there are to lose so many of so many.
    ways: f64,
    cells: u32,
}

impl Scores {
    pub(super) fn new(counts: &[Counts], noise: Noise) -> Self {
        let mut order: Vec<((u64, u64, u64), u32)> = counts
            .iter()
            .zip(0..)
            .map(|(cell, index)| ((cell.judged, cell.lost.min(cell.judged), rounded(cell.acceptable)), index))
            .collect();
        order.sort_unstable();
        let mut scores =
            Self { class_of: vec![0; counts.len()], classes: Vec::new(), noise, curves: Vec::new() };
        for same in order.chunk_by(|left, right| left.0 == right.0) {
            let (judged, lost, acceptable) = same[0].0;
            for (_, cell) in same {
                scores.class_of[*cell as usize] = scores.classes.len() as u32;
            }
            let (judged, lost) = (judged as f64, lost as f64);
            scores.classes.push(Class {
                judged,
                lost,
                acceptable: f64::from_bits(acceptable),
                ways: ln_gamma(judged + 1.0) - ln_gamma(lost + 1.0) - ln_gamma(judged - lost + 1.0),
                cells: same.len() as u32,
            });
        }
        scores.set_noise(noise);
        scores
    }

    /// Tabulates anew.
    pub(super) fn set_noise(&mut self, noise: Noise) {
        self.noise = noise;
        let mut shapes: Vec<(f64, Vec<Shape>)> = Vec::new();
        self.curves.clear();
        for class in &self.classes {
            let shapes = match shapes.iter().position(|(acceptable, _)| *acceptable == class.acceptable) {
                Some(known) => &shapes[known].1,
                None => {
                    let shape = |column| Shape::new(class.acceptable, loss_at(column), noise.spread);
                    shapes.push((class.acceptable, (0..COLUMNS).map(shape).collect()));
                    &shapes[shapes.len() - 1].1
                }
            };
            let burst = class.burst(noise);
            let keep = (1.0 - noise.scatter).ln();
            let slots = ln_gamma(class.judged + Shape::concentration(noise.spread));
            self.curves.push(std::array::from_fn(|column| {
                ln_add(keep + shapes[column].ln_likely(class, slots), burst)
            }));
        }
    }

    pub(super) fn classes(&self) -> usize {
        self.classes.len()
    }

    pub(super) fn curve(&self, class: u32) -> &Curve {
        &self.curves[class as usize]
    }

    /// The log-likelihood of all cells if no rule holds.
    pub(super) fn quiet(&self) -> f64 {
        self.classes.iter().zip(&self.curves).map(|(class, curve)| f64::from(class.cells) * curve[0]).sum()
    }

    /// What the cells of no rule say of bursts (`uncovered`, cells of each class), and those of rules of how unequally
    /// they lose (`covered`: class, the rules' loss, cells).
    pub(super) fn learn(&self, uncovered: &[u32], covered: &[(u32, f64, u32)]) -> Noise {
        // A fleet that was never seen has one burst in a hundred cells; that counts as much as a hundred cells.
        let (prior_bursts, prior_cells) = (1.0, 100.0);
        let mut noise = self.noise;
        for _ in 0..8 {
            let (mut bursts, mut slots, mut cells) =
                (prior_bursts, prior_bursts * Noise::default().burst, prior_cells);
            for (class, count) in self.classes.iter().zip(uncovered).filter(|(_, count)| **count > 0) {
                let quiet =
                    (1.0 - noise.scatter).ln() + Shape::new(class.acceptable, 0.0, 0.0).ln_likely(class, 0.0);
                let burst = class.burst(noise);
                let share = f64::from(*count) * (burst - ln_add(quiet, burst)).exp();
                bursts += share;
                slots += share * class.lost;
                cells += f64::from(*count);
            }
            noise.scatter = (bursts / cells).clamp(1e-3, 0.2);
            noise.burst = (slots / bursts).clamp(2.0, 10.0);
        }
        let likely = |spread: f64| -> f64 {
            let scores = covered.iter().map(|(class, loss, count)| {
                let class = &self.classes[*class as usize];
                let shape = Shape::new(class.acceptable, *loss, spread);
                let slots = ln_gamma(class.judged + Shape::concentration(spread));
                f64::from(*count)
                    * ln_add((1.0 - noise.scatter).ln() + shape.ln_likely(class, slots), class.burst(noise))
            });
            // Inequality has to be shown.
            scores.sum::<f64>() - if spread > 0.0 { 2.0 } else { 0.0 }
        };
        let spreads = SPREADS.iter().map(|spread| (likely(*spread), *spread));
        noise.spread = spreads.max_by(|left, right| left.0.total_cmp(&right.0)).map_or(0.0, |best| best.1);
        noise
    }
}

/// Acceptable loss to within 3 %, as bits, so that there are few: 0 would make a single lost slot infinitely unlikely.
fn rounded(acceptable: f64) -> u64 {
    ((acceptable.clamp(1e-5, 0.5).ln() * 16.0).round() / 16.0).exp().to_bits()
}

impl Class {
    /// The log-likelihood of a burst that lost so many: geometric.
    fn burst(&self, noise: Noise) -> f64 {
        if self.lost < 1.0 {
            return f64::NEG_INFINITY;
        }
        let end = 1.0 / noise.burst;
        noise.scatter.ln() + end.ln() + (self.lost - 1.0) * (1.0 - end).ln()
    }
}

/// What of a loss is the same for all counts.
struct Shape {
    loss: f64,
    /// Of the beta distribution of the cells' losses, and the logarithm of its norm; none if all lose alike.
    beta: Option<(f64, f64, f64)>,
}

impl Shape {
    fn concentration(spread: f64) -> f64 {
        if spread > 0.0 { (1.0 - spread) / spread } else { 1.0 }
    }

    /// `loss` by rules beside what is `acceptable`.
    fn new(acceptable: f64, loss: f64, spread: f64) -> Self {
        let together = 1.0 - (1.0 - acceptable) * (1.0 - loss);
        let unequal = spread > 0.0 && loss > 0.0 && loss < 1.0;
        let beta = unequal.then(|| {
            let whole = Self::concentration(spread);
            let (lost, kept) = (together * whole, (1.0 - together) * whole);
            (lost, kept, ln_gamma(whole) - ln_gamma(lost) - ln_gamma(kept))
        });
        // Not quite all, so that a slot that was delivered is very unlikely rather than impossible.
        Self { loss: together.min(1.0 - 1e-12), beta }
    }

    /// The log-likelihood of a class; `slots` is the logarithm of the gamma function of its slots and the concentration.
    fn ln_likely(&self, class: &Class, slots: f64) -> f64 {
        let (lost, kept) = (class.lost, class.judged - class.lost);
        let times = |count: f64, share: f64| if count > 0.0 { count * share.ln() } else { 0.0 };
        class.ways
            + match self.beta {
                None => times(lost, self.loss) + times(kept, 1.0 - self.loss),
                Some((alpha, beta, norm)) => ln_gamma(lost + alpha) + ln_gamma(kept + beta) - slots + norm,
            }
    }
}

/// The logarithm of the sum of two numbers that are given by theirs.
fn ln_add(left: f64, right: f64) -> f64 {
    let (high, low) = if left > right { (left, right) } else { (right, left) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The logarithm of the gamma function, for numbers above 0, to 1e-9: Stirling's series (DLMF 5.11.1), reached by its
/// recurrence (5.5.1).
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 1.0);
    while x < 8.0 {
        shift *= x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))) / x;
    let half_ln_tau = 0.918_938_533_204_672_7;
    (x - 0.5) * x.ln() - x + half_ln_tau + series - if shift == 1.0 { 0.0 } else { shift.ln() }
}
