//! `cargo bench -p aviary-core --bench extent [-- SEED [CASES]]`: is the extent of a loss found, and how fast?
//!
//! Six families of losses whose causes are known, and what simpler methods make of the same cases. A case counts as
//! right in a cause if the very predicate is named; everything is summed over the cases (micro-F1). Milliseconds are of
//! processor time, since others may use this machine at the same time. Nothing here fails because it is slow or wrong.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod generator;
mod kinds;
mod rivals;

use std::collections::BTreeSet;

use aviary_core::extent::{Predicate, explain};
use fastrand::Rng;
use generator::{Case, FAMILIES, Family, LARGE};
use rustix::time::{ClockId, clock_gettime};

/// What finds the causes in a case.
type Method = fn(&Case) -> BTreeSet<Predicate>;

const OURS: &str = "extent";
const METHODS: [(&str, Method); 5] = [
    (OURS, ours),
    ("one predicate", rivals::one_predicate),
    ("007 votes", rivals::votes),
    ("set cover", rivals::set_cover),
    ("tree of 3", rivals::tree),
];

/// Goal for the slowest in a hundred cases of 20,000 cells, in milliseconds.
const P99_GOAL: f64 = 50.0;

/// Goal for the cases of several kinds of vantage whose losing series are told from all others, in per cent.
const KINDS_GOAL: f64 = 95.0;

fn ours(case: &Case) -> BTreeSet<Predicate> {
    explain(&case.population, &case.counts).rules.into_iter().map(|rule| rule.matches).collect()
}

/// How often a method was right, and how long it took.
#[derive(Default)]
struct Score {
    right: usize,
    wrong: usize,
    missing: usize,
    exact: usize,
    milliseconds: Vec<f64>,
}

impl Score {
    fn add(&mut self, truth: &BTreeSet<Predicate>, found: &BTreeSet<Predicate>, milliseconds: f64) {
        let right = truth.intersection(found).count();
        self.right += right;
        self.wrong += found.len() - right;
        self.missing += truth.len() - right;
        self.exact += usize::from(truth == found);
        self.milliseconds.push(milliseconds);
    }

    fn f1(&self) -> f64 {
        2.0 * self.right as f64 / (2 * self.right + self.wrong + self.missing) as f64
    }

    fn line(&mut self) -> String {
        self.milliseconds.sort_by(f64::total_cmp);
        let cases = self.milliseconds.len();
        let at = |share: f64| self.milliseconds[((cases as f64 * share).ceil() as usize).clamp(1, cases) - 1];
        let share = |of: usize| self.right as f64 / of.max(1) as f64;
        format!(
            "F1 {:.3}  precision {:.3}  recall {:.3}  exact {:3.0} %  ms mean {:6.2}  p50 {:6.2}  p99 {:6.2}  max {:6.2}",
            self.f1(),
            share(self.right + self.wrong),
            share(self.right + self.missing),
            100.0 * self.exact as f64 / cases as f64,
            self.milliseconds.iter().sum::<f64>() / cases as f64,
            at(0.5),
            at(0.99),
            at(1.0),
        )
    }
}

fn processor_milliseconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Runs the methods on `cases` cases of `family`; prints, and returns our score.
fn run(family: &Family, methods: &[(&str, Method)], seed: u64, cases: u64) -> Score {
    let mut scores: Vec<Score> = methods.iter().map(|_| Score::default()).collect();
    let mut cells = 0;
    for number in 0..cases {
        // A stream for each case, so that one can be looked at alone.
        let case =
            generator::case(family, &mut Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number));
        cells += case.population.len();
        for ((_, method), score) in methods.iter().zip(&mut scores) {
            let begin = processor_milliseconds();
            let found = method(&case);
            score.add(&case.truth, &found, processor_milliseconds() - begin);
        }
    }
    println!("{}: {} cells a case, {cases} cases", family.name, cells as u64 / cases);
    for ((name, _), score) in methods.iter().zip(&mut scores) {
        println!("  {name:14} {}", score.line());
    }
    scores.swap_remove(0)
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

fn main() {
    // `cargo test --benches` only wants to know whether it starts.
    let trial = std::env::args().any(|argument| argument == "--test");
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let seed = numbers.next().unwrap_or(1);
    let cases = numbers.next().unwrap_or(if trial { 1 } else { 200 }).max(1);
    println!("seed {seed}");
    let mut summary = Vec::new();
    for family in &FAMILIES {
        let f1 = run(family, &METHODS, seed, cases).f1();
        summary.push(format!(
            "{} F1 {f1:.3}, goal {:.2}: {}",
            family.name,
            family.goal,
            verdict(f1 >= family.goal)
        ));
    }
    for unequal in [0.2, 0.3] {
        let harder = Family { name: "E4, less equal", heterogeneity: unequal, ..FAMILIES[3] };
        println!("(each cause takes from its cells with the correlation {unequal})");
        run(&harder, &METHODS[..1], seed, cases);
    }
    let score = run(&LARGE, &METHODS[..1], seed, cases);
    let place = (score.milliseconds.len() * 99).div_ceil(100) - 1;
    let p99 = score.milliseconds[place];
    summary.push(format!("20,000 cells p99 {p99:.1} ms, goal {P99_GOAL} ms: {}", verdict(p99 <= P99_GOAL)));
    for shape in &kinds::SHAPES {
        let (named, attributed) = kinds::right(shape, seed, cases);
        let share = |right: u64| 100.0 * right as f64 / cases as f64;
        summary.push(format!(
            "kinds of vantage, {}: named rightly {:.0} %, goal {KINDS_GOAL} %: {}; blame {:.0} %",
            shape.0,
            share(named),
            verdict(share(named) >= KINDS_GOAL),
            share(attributed),
        ));
    }
    println!("\n{}", summary.join("\n"));
}
