//! Seconds from the onset of a loss to the first that fires.

use std::{
    collections::BTreeMap,
    io::{self, Write, stdout},
};

use aviary_core::{
    AcceptableLoss, Second,
    detect::{Bank, Budget, Burstiness, Level, Tally, Test, gate, tail},
};

use crate::{
    Plan,
    random::Random,
    simulation::{Group, Setting, Thresholds},
    traffic::{Kind, Traffic},
};

const LOSSES: [f64; 5] = [1.0, 0.5, 0.1, 0.02, 0.01];

/// Acceptable loss, series, and the medians to reach at dispersion 1; none where the loss is what is acceptable.
const GOALS: [(&str, u64, [Option<u64>; 5]); 8] = [
    ("0.1%", 1, [Some(4), Some(9), Some(73), Some(586), Some(1_694)]),
    ("0.1%", 6, [Some(1), Some(2), Some(11), Some(96), Some(278)]),
    ("0.1%", 36, [Some(1), Some(1), Some(2), Some(15), Some(50)]),
    ("0.1%", 216, [Some(1), Some(1), Some(1), Some(3), Some(8)]),
    ("1%", 1, [Some(7), Some(15), Some(151), Some(6_550), None]),
    ("1%", 6, [Some(1), Some(3), Some(28), Some(1_244), None]),
    ("1%", 36, [Some(1), Some(1), Some(5), Some(160), None]),
    ("1%", 216, [Some(1), Some(1), Some(1), Some(29), None]),
];

/// What is known of a group that is judged.
struct Known {
    name: &'static str,
    test: Test,
    /// What the bound is for.
    dispersion: f64,
    /// Whether vantages that agree are not waited for.
    is_gated: bool,
}

/// All that is measured of a group; what is learnt comes from a year in closed loop at a third of the acceptable loss.
fn known(plan: &Plan, acceptable: AcceptableLoss, series: u64) -> Vec<Known> {
    let budget = Budget::default();
    let learnt = |kind| {
        let setting = Setting { acceptable, budget, series, vantages: series.min(VANTAGES) };
        let loss = f64::from(acceptable.parts_per_million()) / 3e6;
        let mut group = Group::new(setting, Traffic::new(kind, series, loss, Random::new(plan.seed, series)));
        group.run(31_557_600, &mut Thresholds::default());
        group.burstiness()
    };
    let all = [
        ("dispersion 1", Burstiness::fixed(1.0), 1.0, false),
        ("dispersion 3", Burstiness::fixed(3.0), 3.0, false),
        ("cold start", Burstiness::default(), 3.0, false),
        ("cold start, agreed", Burstiness::default(), 3.0, true),
        ("learnt, independent", learnt(Kind::Independent), 1.0, false),
        ("learnt, 2 s", learnt(Kind::Bursts(2.0)), 3.0, false),
        ("learnt, 2 s, agreed", learnt(Kind::Bursts(2.0)), 3.0, true),
        ("learnt, 10 s", learnt(Kind::Bursts(10.0)), 19.0, false),
        ("learnt, 10 s, agreed", learnt(Kind::Bursts(10.0)), 19.0, true),
    ];
    all.into_iter()
        .filter(|(.., is_gated)| !is_gated || series > 1)
        .map(|(name, burstiness, dispersion, is_gated)| Known {
            name,
            test: Test::new(acceptable, budget, burstiness),
            dispersion,
            is_gated,
        })
        .collect()
}

/// Over which the series are spread alike.
const VANTAGES: u64 = 6;

/// Nobody waits for longer.
const HOURS_MAX: u64 = 8;

/// How often a figure was within its bound, how often it reached the table, and of how many.
#[derive(Default)]
struct Count {
    within: u32,
    reached: u32,
    cells: u32,
}

pub(crate) fn print(plan: &Plan) -> io::Result<()> {
    let rounds = if plan.quick { 20 } else { 100 };
    let mut out = stdout().lock();
    let nats = -Budget::default().alpha().ln();
    writeln!(
        out,
        "\ndelay: seconds from onset, p50/p95 of {rounds}; a tenth of the acceptable loss before it; independent losses"
    )?;
    writeln!(out, "bound: d h / (N KL), h = ln(1/alpha) = {nats:.1}; within: p50 <= 1.3 bound + 1 s")?;
    writeln!(out, "agreed: the burst is not waited out, because two of {VANTAGES} vantages agree")?;
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for (acceptable, series, goals) in GOALS {
        let acceptable: AcceptableLoss = acceptable.parse().expect("the table is written right");
        let known = known(plan, acceptable, series);
        for (loss, goal) in LOSSES.into_iter().zip(goals) {
            let Some(goal) = goal else { continue };
            writeln!(out, "{acceptable} N={series} loss {} %: goal at dispersion 1: {goal}", loss * 100.0)?;
            for (known, mut delays) in known.iter().zip(measure(plan, &known, series, loss, rounds)) {
                delays.sort_unstable();
                let (median, late) = (delays[rounds / 2], delays[rounds * 95 / 100]);
                let divergence = tail::divergence(loss.min(1.0 - 1e-12), known.test.acceptable());
                let bound = known.dispersion * nats / (series as f64 * divergence);
                let (is_within, is_reached) = (median as f64 <= 1.3 * bound + 1.0, median <= goal);
                let count = counts.entry(known.name).or_default();
                count.within += u32::from(is_within);
                count.reached += u32::from(is_reached);
                count.cells += 1;
                writeln!(
                    out,
                    "  {:<22}{:>12}   bound {bound:>8.1}  {:<11}{}",
                    known.name,
                    format!("{}/{}", shown(median), shown(late)),
                    if is_within { "within" } else { "NOT within" },
                    if is_reached { "goal met" } else { "" },
                )?;
            }
        }
    }
    for (name, Count { within, reached, cells }) in counts {
        writeln!(
            out,
            "{name}: within the bound in {within} of {cells}, at or below the table's median in {reached}"
        )?;
    }
    print_least(&mut out)
}

/// What no detector can beat: who pages after x seconds of solid loss of one series pages for each burst of x seconds.
fn print_least(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "solid loss of one series, bursts at a third of the acceptable loss: no detector keeps the budget that pages within"
    )?;
    for acceptable in [0.001, 0.01] {
        for mean in [2.0, 5.0, 10.0_f64] {
            // In a second of one group, and what the budget leaves of them.
            let (begun, pages) = (acceptable / 3.0 / mean, 1.0 / (1_000.0 * 2_592_000.0));
            let least = 1.0 + (begun / pages).ln() / -(1.0 - 1.0 / mean).ln();
            writeln!(out, "  acceptable {} %, mean {mean} s: {least:.0} s", acceptable * 100.0)?;
        }
    }
    Ok(())
}

fn shown(delay: u64) -> String {
    if delay > HOURS_MAX * 3_600 { format!(">{HOURS_MAX}h") } else { delay.to_string() }
}

/// A group whose losses are kept by vantage beside.
struct Judged {
    bank: Bank,
    vantages: Vec<Bank>,
    series: u64,
}

impl Judged {
    fn step(&mut self, random: &mut Random, loss: f64) {
        let second = self.bank.until();
        let each = self.series / self.vantages.len() as u64;
        let mut lost_by_all = 0;
        for bank in &mut self.vantages {
            let lost = random.binomial(each, loss);
            lost_by_all += lost;
            assert!(bank.set(second, Tally { judged: each, lost }), "the next second is in reach");
        }
        assert!(
            self.bank.set(second, Tally { judged: self.series, lost: lost_by_all }),
            "the next second is in reach"
        );
    }

    fn pages(&self, known: &Known) -> bool {
        let detection = known.test.judge(&self.bank);
        let Some(window) = detection.strongest else { return false };
        let worst =
            || self.vantages.iter().map(|bank| bank.newest(window.seconds)).max_by_key(|tally| tally.lost);
        let is_agreed =
            || worst().is_some_and(|worst| gate::is_agreed(&known.test, window.seconds, window.tally, worst));
        (detection.level == Level::Firing || known.is_gated && is_agreed())
            && gate::is_confirmed(&known.test, &self.bank, window.seconds)
    }
}

/// The delays of each of `known`, over the same losses.
fn measure(plan: &Plan, known: &[Known], series: u64, loss: f64, rounds: usize) -> Vec<Vec<u64>> {
    let mut delays: Vec<Vec<u64>> = known.iter().map(|_| Vec::with_capacity(rounds)).collect();
    let before = known.first().map_or(0.0, |known| known.test.acceptable() / 10.0);
    for round in 0..rounds {
        let mut random = Random::new(plan.seed, round as u64);
        let bank = Bank::new(Second(1_000_000 + random.below(21_600)));
        let vantages = vec![bank.clone(); series.min(VANTAGES) as usize];
        let mut group = Judged { bank, vantages, series };
        (0..21_600).for_each(|_| group.step(&mut random, before));
        let mut left: Vec<_> = known.iter().zip(&mut delays).collect();
        for second in 1..=HOURS_MAX * 3_600 {
            group.step(&mut random, loss);
            left.retain_mut(|(known, delays)| {
                let pages = group.pages(known);
                if pages {
                    delays.push(second);
                }
                !pages
            });
            if left.is_empty() {
                break;
            }
        }
        left.into_iter().for_each(|(_, delays)| delays.push(u64::MAX));
    }
    delays
}
