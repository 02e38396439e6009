//! Seconds from the onset of a loss to the first that fires.

use std::io::{self, Write as _, stdout};

use aviary_core::{
    Second,
    detect::{Bank, Budget, Burstiness, Level, Tally, Test, gate, tail},
};

use crate::{Plan, random::Random};

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

/// What is known of the group, and the dispersion that the bound is for.
const KNOWN: [(&str, Burstiness, f64); 5] = [
    ("dispersion 1", Burstiness::fixed(1.0), 1.0),
    ("dispersion 3", Burstiness::fixed(3.0), 3.0),
    ("cold start", Burstiness::learnt(3.0, 2.0), 3.0),
    ("learnt: independent", Burstiness::learnt(1.0, 1.1), 1.0),
    ("learnt: bursts of 10 s", Burstiness::learnt(19.0, 11.0), 19.0),
];

/// Nobody waits for longer.
const HOURS_MAX: u64 = 8;

pub(crate) fn print(plan: &Plan) -> io::Result<()> {
    let rounds = if plan.quick { 20 } else { 400 };
    let mut out = stdout().lock();
    writeln!(
        out,
        "\ndelay: seconds from onset, p50/p95 of {rounds}; a tenth of the acceptable loss before it; independent losses"
    )?;
    writeln!(
        out,
        "bound: d h / (N KL), h = ln(1/alpha) = {:.1}; within: p50 <= 1.3 bound + 1 s",
        -Budget::default().alpha().ln()
    )?;
    let mut met = [[0; 2]; KNOWN.len()];
    let mut cells = 0;
    for (acceptable, series, goals) in GOALS {
        for (loss, goal) in LOSSES.into_iter().zip(goals) {
            let Some(goal) = goal else { continue };
            cells += 1;
            writeln!(
                out,
                "{acceptable} N={series} loss {} %: to reach at dispersion 1: {goal}",
                loss * 100.0
            )?;
            let delays = measure(plan, acceptable, series, loss, rounds);
            for (((name, _, dispersion), mut delays), met) in KNOWN.into_iter().zip(delays).zip(&mut met) {
                delays.sort_unstable();
                let (median, late) = (delays[rounds / 2], delays[rounds * 95 / 100]);
                let test = Test::new(parse(acceptable), Budget::default(), Burstiness::fixed(1.0));
                let nats = series as f64 * tail::divergence(loss.min(1.0 - 1e-12), test.acceptable());
                let bound = -dispersion * Budget::default().alpha().ln() / nats;
                let is_within = median as f64 <= 1.3 * bound + 1.0;
                met[0] += u32::from(is_within);
                met[1] += u32::from(median <= goal);
                let reached = if dispersion > 1.0 {
                    ""
                } else if median <= goal {
                    ", reached"
                } else {
                    ", NOT reached"
                };
                writeln!(
                    out,
                    "  {name:<24}{:>12}   bound {bound:>8.1}  {}{reached}",
                    format!("{}/{}", shown(median), shown(late)),
                    if is_within { "within" } else { "NOT within" }
                )?;
            }
        }
    }
    for ((name, ..), [within, reached]) in KNOWN.into_iter().zip(met) {
        writeln!(
            out,
            "{name}: within the bound in {within} of {cells} cells; the table's median in {reached}"
        )?;
    }
    Ok(())
}

fn shown(delay: u64) -> String {
    if delay > HOURS_MAX * 3_600 { format!(">{HOURS_MAX}h") } else { delay.to_string() }
}

fn parse(acceptable: &str) -> aviary_core::AcceptableLoss {
    acceptable.parse().expect("the table is written right")
}

/// The delays of each of [`KNOWN`], over the same losses.
fn measure(plan: &Plan, acceptable: &str, series: u64, loss: f64, rounds: usize) -> [Vec<u64>; KNOWN.len()] {
    let tests = KNOWN.map(|(_, burstiness, _)| Test::new(parse(acceptable), Budget::default(), burstiness));
    let mut delays = KNOWN.map(|_| Vec::with_capacity(rounds));
    for round in 0..rounds {
        let mut random = Random::new(plan.seed, round as u64);
        let mut bank = Bank::new(Second(1_000_000 + random.below(21_600)));
        let mut step = |bank: &mut Bank, loss: f64| {
            let lost = random.binomial(series, loss);
            assert!(bank.set(bank.until(), Tally { judged: series, lost }), "the next second is in reach");
        };
        let before = tests[0].acceptable() / 10.0;
        (0..21_600).for_each(|_| step(&mut bank, before));
        let mut left: Vec<_> = tests.iter().zip(&mut delays).collect();
        for second in 1..=HOURS_MAX * 3_600 {
            step(&mut bank, loss);
            left.retain_mut(|(test, delays)| {
                let detection = test.judge(&bank);
                let pages = detection.level == Level::Firing
                    && detection
                        .strongest
                        .is_some_and(|window| gate::is_confirmed(test, &bank, window.seconds));
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
