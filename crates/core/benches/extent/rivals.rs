//! Simpler methods on the same cases.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::extent::Predicate;

use crate::generator::Case;

/// Sums of a set of cells.
#[derive(Clone, Copy, Default)]
struct Sum {
    judged: f64,
    lost: f64,
    expected: f64,
}

impl Sum {
    fn add(&mut self, case: &Case, cell: usize) {
        let counts = &case.counts[cell];
        self.judged += counts.judged as f64;
        self.lost += counts.lost as f64;
        self.expected += counts.acceptable * counts.judged as f64;
    }

    fn minus(self, other: Self) -> Self {
        Self {
            judged: self.judged - other.judged,
            lost: self.lost - other.lost,
            expected: self.expected - other.expected,
        }
    }

    fn loss(self) -> f64 {
        if self.judged > 0.0 { (self.lost / self.judged).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The binomial log-likelihood at its own loss.
    fn own(self) -> f64 {
        Self::log_likely(self, self.loss())
    }

    fn log_likely(self, loss: f64) -> f64 {
        let times = |count: f64, share: f64| if count > 0.0 { count * share.max(1e-12).ln() } else { 0.0 };
        times(self.lost, loss) + times(self.judged - self.lost, 1.0 - loss)
    }

    /// What is gained by saying that it loses what it does rather than what is acceptable.
    fn gain(self) -> f64 {
        if self.lost <= self.expected {
            return 0.0;
        }
        self.own() - self.log_likely(self.expected / self.judged)
    }
}

/// The sums of all predicates of one to three tags over `cells`.
fn sums(case: &Case, cells: impl Iterator<Item = usize>) -> BTreeMap<Vec<(usize, String)>, Sum> {
    let tags = case.population.by().len();
    let masks: Vec<u32> = (1..1_u32 << tags).filter(|mask| mask.count_ones() <= 3).collect();
    let mut sums: BTreeMap<Vec<(usize, String)>, Sum> = BTreeMap::new();
    for cell in cells {
        let row = &case.population.rows()[cell];
        for mask in &masks {
            let chosen =
                (0..tags).filter(|tag| mask >> tag & 1 == 1).map(|tag| (tag, row[tag].clone())).collect();
            sums.entry(chosen).or_default().add(case, cell);
        }
    }
    sums
}

fn predicate(case: &Case, chosen: &[(usize, String)]) -> Predicate {
    Predicate(chosen.iter().map(|(tag, value)| (case.population.by()[*tag], value.clone())).collect())
}

fn matches(case: &Case, cell: usize, chosen: &[(usize, String)]) -> bool {
    chosen.iter().all(|(tag, value)| case.population.rows()[cell][*tag] == *value)
}

/// All predicates one by one: the one that makes the counts most likely.
pub(crate) fn one_predicate(case: &Case) -> BTreeSet<Predicate> {
    let cells = 0..case.population.len();
    let best = sums(case, cells).into_iter().max_by(|left, right| left.1.gain().total_cmp(&right.1.gain()));
    best.iter().map(|(chosen, _)| predicate(case, chosen)).collect()
}

/// As 007 does (Arzani and others, NSDI 2018): each lost slot votes with an equal part for each of its cell's values; the
/// most voted is blamed, its cells are put aside, and so on while a value has more than a hundredth of the votes.
pub(crate) fn votes(case: &Case) -> BTreeSet<Predicate> {
    let mut left: Vec<usize> =
        (0..case.population.len()).filter(|cell| case.counts[*cell].lost > 0).collect();
    let all: u64 = left.iter().map(|cell| case.counts[*cell].lost).sum();
    let mut blamed = BTreeSet::new();
    while blamed.len() < 8 {
        let mut votes: BTreeMap<(usize, &String), f64> = BTreeMap::new();
        for cell in &left {
            let row = &case.population.rows()[*cell];
            for (tag, value) in row.iter().enumerate() {
                *votes.entry((tag, value)).or_default() += case.counts[*cell].lost as f64 / row.len() as f64;
            }
        }
        let Some((most, count)) = votes.into_iter().max_by(|left, right| left.1.total_cmp(&right.1)) else {
            break;
        };
        if count < all as f64 / 100.0 {
            break;
        }
        let chosen = [(most.0, most.1.clone())];
        left.retain(|cell| !matches(case, *cell, &chosen));
        blamed.insert(predicate(case, &chosen));
    }
    blamed
}

/// Takes the predicate that gains most, puts its cells aside, and so on while the gain is worth a predicate.
pub(crate) fn set_cover(case: &Case) -> BTreeSet<Predicate> {
    let mut all = sums(case, 0..case.population.len());
    let mut left: BTreeSet<usize> = (0..case.population.len()).collect();
    let worth = 2.0 * (all.len() as f64).ln();
    let mut blamed = BTreeSet::new();
    while blamed.len() < 8 {
        let best = all.iter().max_by(|left, right| left.1.gain().total_cmp(&right.1.gain()));
        let Some((chosen, _)) = best.filter(|(_, sum)| sum.gain() > worth) else { break };
        let chosen = chosen.clone();
        let covered: Vec<usize> = left.iter().copied().filter(|cell| matches(case, *cell, &chosen)).collect();
        for (other, gone) in sums(case, covered.iter().copied()) {
            if let Some(sum) = all.get_mut(&other) {
                *sum = sum.minus(gone);
            }
        }
        covered.iter().for_each(|cell| {
            left.remove(cell);
        });
        all.remove(&chosen);
        blamed.insert(predicate(case, &chosen));
    }
    blamed
}

/// A decision tree of depth three: each node splits by the value that makes its counts most likely; the leaves that lose
/// more than ten times what is acceptable are blamed, by the values that they have.
pub(crate) fn tree(case: &Case) -> BTreeSet<Predicate> {
    let mut blamed = BTreeSet::new();
    grow(case, (0..case.population.len()).collect(), &mut Vec::new(), 3, &mut blamed);
    blamed
}

fn grow(
    case: &Case,
    cells: Vec<usize>,
    path: &mut Vec<(usize, String)>,
    depth: usize,
    blamed: &mut BTreeSet<Predicate>,
) {
    let mut whole = Sum::default();
    cells.iter().for_each(|cell| whole.add(case, *cell));
    let mut parts: BTreeMap<(usize, &String), Sum> = BTreeMap::new();
    for cell in &cells {
        for (tag, value) in case.population.rows()[*cell].iter().enumerate() {
            parts.entry((tag, value)).or_default().add(case, *cell);
        }
    }
    let gain = |part: &Sum| part.own() + whole.minus(*part).own() - whole.own();
    let best = parts.iter().max_by(|left, right| gain(left.1).total_cmp(&gain(right.1)));
    match best.filter(|(_, part)| depth > 0 && gain(part) > 10.0) {
        Some(((tag, value), _)) => {
            let chosen = (*tag, (*value).clone());
            let (inside, outside) =
                cells.iter().partition(|cell| matches(case, **cell, std::slice::from_ref(&chosen)));
            path.push(chosen);
            grow(case, inside, path, depth - 1, blamed);
            path.pop();
            grow(case, outside, path, depth - 1, blamed);
        }
        None if whole.lost > 10.0 * whole.expected => {
            blamed.insert(predicate(case, path));
        }
        None => {}
    }
}
