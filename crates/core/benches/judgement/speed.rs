//! How many groups one core judges in a second, and what each costs in memory.

use std::{
    hint::black_box,
    io::{self, Write as _, stdout},
    time::{Duration, Instant},
};

use aviary_core::{
    Second,
    detect::{Bank, Budget, Burstiness, Learning, Level, Quiet, Tally, Test},
};

use crate::{Plan, random::Random};

const GROUPS: u64 = 100_000;

pub(crate) fn print(plan: &Plan) -> io::Result<()> {
    let mut out = stdout().lock();
    let groups = if plan.quick { GROUPS / 10 } else { GROUPS };
    writeln!(
        out,
        "\njudgement: a second set, judged and learnt for each of {groups} groups of 36 series, one core; goal {GROUPS} groups a second"
    )?;
    // Lossless, at a third of what is acceptable, at what is, and while everything is down.
    for (name, loss) in
        [("no loss", 0.0), ("a third of acceptable", 0.003_3), ("acceptable", 0.01), ("all lost", 1.0)]
    {
        let mut random = Random::new(plan.seed, groups);
        let test =
            Test::new("1%".parse().expect("per cent"), Budget::default(), Burstiness::learnt(3.0, 2.0));
        let mut banks = banks(&mut random, groups, loss);
        let tallies: Vec<_> =
            (0..groups).map(|_| Tally { judged: 36, lost: random.binomial(36, loss) }).collect();
        let start = now();
        let mut fired = 0_u64;
        for ((bank, learning), tally) in banks.iter_mut().zip(&tallies) {
            let second = bank.until();
            let is_set = bank.set(second, *tally);
            learning.learn(aviary_core::Span::new(second, second.plus(1)), *tally, test.acceptable());
            let detection = test.with(learning.burstiness()).judge(bank);
            fired += u64::from(is_set && black_box(detection).level >= Level::Suspected);
        }
        let took = start.elapsed();
        writeln!(
            out,
            "  {name:<24}{:>10} groups a second ({fired} of {groups} suspected)   {}",
            rate(groups, took),
            met(rate(groups, took) >= GROUPS)
        )?;
    }
    let bytes = size_of::<Bank>() + Bank::BYTES + size_of::<Learning>();
    writeln!(
        out,
        "  {bytes} bytes a group: bank {}, what is learnt {}; goal: one or two KiB",
        bytes - size_of::<Learning>(),
        size_of::<Learning>()
    )
}

/// Six hours of each group, as a start makes them.
fn banks(random: &mut Random, groups: u64, loss: f64) -> Vec<(Bank, Learning)> {
    let until = Second(1_000_000);
    let bank = |_| {
        let bank = Bank::rebuilt(until, |span| {
            let judged = 36 * span.seconds().min(21_600);
            Tally { judged, lost: if loss >= 1.0 { judged } else { random.binomial(judged, loss) } }
        });
        (bank, Learning::new(Quiet::default(), until))
    };
    (0..groups).map(bank).collect()
}

fn rate(groups: u64, took: Duration) -> u64 {
    (groups as f64 / took.as_secs_f64()) as u64
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "NOT met" }
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is measured")]
fn now() -> Instant {
    Instant::now()
}
