//! Losses whose causes are known: six families of synthetic cases.
//!
//! A case has one to three faults. A fault is a set of one to three tags with a value each, and in most families takes
//! up to three values of one of them (*siblings*), never more than half of what there are, so that saying which is shorter
//! than saying which not. Faults that overlap do so by at most 34 % of the smaller, and add up as independent causes.

use std::collections::BTreeSet;

use aviary_core::{
    Tag,
    extent::{Counts, Population, Predicate},
};
use fastrand::Rng;

/// The tags of a case; what they are called says nothing here.
const TAGS: [Tag; 5] = [Tag::Service, Tag::Protocol, Tag::Region, Tag::Network, Tag::Kind];

/// What the cases of a family have in common.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) goal: f64,
    /// How many values each tag has.
    pub(crate) values: [usize; 5],
    /// The share of combinations that do not exist.
    pub(crate) missing: f64,
    /// Slots of a cell.
    pub(crate) seconds: u64,
    /// The losses that a fault may cause.
    pub(crate) severities: &'static [f64],
    pub(crate) siblings: usize,
    /// How unequally a fault takes from its cells: the correlation of two slots in one.
    pub(crate) heterogeneity: f64,
    /// The share of cells that lose some slots in a row beside.
    pub(crate) bursts: f64,
    /// The cells are cut to so many.
    pub(crate) cells: usize,
}

const PLAIN: Family = Family {
    name: "E1",
    goal: 0.98,
    values: [8, 6, 5, 3, 4],
    missing: 0.1,
    seconds: 60,
    severities: &[1.0, 0.5, 0.2, 0.1, 0.05],
    siblings: 1,
    heterogeneity: 0.0,
    bursts: 0.0,
    cells: usize::MAX,
};

/// The six families.
pub(crate) const FAMILIES: [Family; 6] = [
    PLAIN,
    Family { name: "E2", goal: 0.96, siblings: 3, ..PLAIN },
    Family { name: "E3", goal: 0.97, seconds: 10, severities: &[0.2, 0.1, 0.05], ..PLAIN },
    Family { name: "E4", goal: 0.85, siblings: 3, heterogeneity: 0.1, ..PLAIN },
    Family { name: "E5", goal: 0.88, siblings: 3, bursts: 0.05, ..PLAIN },
    Family {
        name: "E6",
        goal: 0.96,
        values: [20, 6, 8, 4, 5],
        missing: 0.3,
        siblings: 1,
        heterogeneity: 0.05,
        bursts: 0.01,
        ..PLAIN
    },
];

/// The sixth, with more values, cut to exactly 20,000 cells.
pub(crate) const LARGE: Family =
    Family { name: "20,000 cells", values: [32, 6, 8, 4, 5], cells: 20_000, ..FAMILIES[5] };

/// The share of cells whose agent told of only some of their slots.
const PARTIAL: f64 = 0.05;
/// What is lost without a fault.
const QUIET: f64 = 1e-3;
/// The longest burst of a cell, in slots; the shortest is two.
const BURST_MAX: u64 = 15;
/// What two faults may have in common, as a share of the smaller.
const OVERLAP_MAX: f64 = 0.34;

/// A loss, and its causes.
pub(crate) struct Case {
    pub(crate) population: Population,
    pub(crate) counts: Vec<Counts>,
    pub(crate) truth: BTreeSet<Predicate>,
}

/// A fault: what matches, and how much is lost.
struct Fault {
    matches: Vec<Vec<(usize, usize)>>,
    severity: f64,
}

impl Fault {
    fn tags(&self) -> Vec<usize> {
        self.matches[0].iter().map(|(tag, _)| *tag).collect()
    }

    fn covers(&self, row: &[usize; 5]) -> bool {
        self.matches.iter().any(|matches| matches.iter().all(|(tag, value)| row[*tag] == *value))
    }
}

fn name(tag: usize, value: usize) -> String {
    format!("{}{value:02}", char::from(b'a' + tag as u8))
}

/// A case of `family`.
pub(crate) fn case(family: &Family, rng: &mut Rng) -> Case {
    let mut rows: Vec<[usize; 5]> = Vec::new();
    let size: usize = family.values.iter().product();
    for mut index in 0..size {
        let row = family.values.map(|values| {
            let value = index % values;
            index /= values;
            value
        });
        if rng.f64() >= family.missing {
            rows.push(row);
        }
    }
    if rows.len() > family.cells {
        rng.shuffle(&mut rows);
        rows.truncate(family.cells);
    }
    let named = |row: &[usize; 5]| -> Vec<String> {
        row.iter().enumerate().map(|(tag, value)| name(tag, *value)).collect()
    };
    rows.sort_by_cached_key(named);
    let faults = faults(family, &rows, rng);
    let counts = rows.iter().map(|row| counts(family, row, &faults, rng)).collect();
    let predicate = |matches: &Vec<(usize, usize)>| {
        Predicate(matches.iter().map(|(tag, value)| (TAGS[*tag], name(*tag, *value))).collect())
    };
    Case {
        population: Population::new(&TAGS, rows.iter().map(named)),
        counts,
        truth: faults.iter().flat_map(|fault| fault.matches.iter().map(predicate)).collect(),
    }
}

fn faults(family: &Family, rows: &[[usize; 5]], rng: &mut Rng) -> Vec<Fault> {
    let wanted = rng.usize(1..=3);
    let mut faults: Vec<(Fault, BTreeSet<usize>)> = Vec::new();
    let mut rejected = 0;
    while faults.len() < wanted {
        // Two faults that share all values of a tag leave no room for a third.
        if rejected > 50 {
            faults.clear();
            rejected = 0;
        }
        let mut tags = [0, 1, 2, 3, 4];
        rng.shuffle(&mut tags);
        let tags = &tags[..rng.usize(1..=3)];
        let fixed: Vec<(usize, usize)> =
            tags.iter().map(|tag| (*tag, rng.usize(0..family.values[*tag]))).collect();
        let (varied, first) = fixed[0];
        let siblings = rng.usize(1..=family.siblings).min(family.values[varied] / 2).max(1);
        let matches = (0..siblings).map(|step| {
            let mut matches = fixed.clone();
            matches[0].1 = (first + step) % family.values[varied];
            matches.sort_unstable();
            matches
        });
        let fault = Fault {
            matches: matches.collect(),
            severity: family.severities[rng.usize(0..family.severities.len())],
        };
        let cells: BTreeSet<usize> = (0..rows.len()).filter(|cell| fault.covers(&rows[*cell])).collect();
        let too_close = |(earlier, other): &(Fault, BTreeSet<usize>)| {
            // Two that only differ in values would be one with more values than it may have.
            let one_fault = earlier.severity == fault.severity && earlier.tags() == fault.tags();
            one_fault
                || cells.intersection(other).count() as f64
                    > OVERLAP_MAX * cells.len().min(other.len()) as f64
        };
        if !cells.is_empty() && !faults.iter().any(too_close) {
            faults.push((fault, cells));
        } else {
            rejected += 1;
        }
    }
    faults.into_iter().map(|fault| fault.0).collect()
}

fn counts(family: &Family, row: &[usize; 5], faults: &[Fault], rng: &mut Rng) -> Counts {
    let judged = if rng.f64() < PARTIAL { rng.u64(1..family.seconds) } else { family.seconds };
    let kept = faults
        .iter()
        .filter(|fault| fault.covers(row))
        .fold(1.0 - QUIET, |kept, fault| kept * (1.0 - unequal(fault.severity, family.heterogeneity, rng)));
    let mut lost = (0..judged).filter(|_| rng.f64() >= kept).count() as u64;
    if rng.f64() < family.bursts {
        lost += rng.u64(2..=BURST_MAX);
    }
    Counts { judged, lost: lost.min(judged), acceptable: QUIET }
}

/// A draw from the beta distribution with the mean `loss`, in which two slots of a cell have the correlation `spread`.
fn unequal(loss: f64, spread: f64, rng: &mut Rng) -> f64 {
    if spread == 0.0 || loss >= 1.0 {
        return loss;
    }
    let whole = (1.0 - spread) / spread;
    let (lost, kept) = (gamma(loss * whole, rng), gamma((1.0 - loss) * whole, rng));
    lost / (lost + kept)
}

/// A draw from the gamma distribution of `shape` (Marsaglia and Tsang, 2000).
fn gamma(shape: f64, rng: &mut Rng) -> f64 {
    if shape < 1.0 {
        return gamma(shape + 1.0, rng) * rng.f64().powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    loop {
        let x = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
        let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
        if v > 0.0 && (1.0 - rng.f64()).ln() < 0.5 * x * x + d * (1.0 - v + v.ln()) {
            return d * v;
        }
    }
}
