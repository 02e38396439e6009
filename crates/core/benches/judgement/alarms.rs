//! How often a fleet that is well would wake somebody.

use std::{
    io::{self, Write as _, stdout},
    time::Instant,
};

use aviary_core::{AcceptableLoss, detect::Budget};

use crate::{
    Plan,
    random::Random,
    simulation::{Alarm, Group, START, Setting, Thresholds},
    traffic::{Kind, Traffic},
};

const GROUPS: u64 = 100;
const YEARS: u64 = 10;
const YEAR: u64 = 31_557_600;

/// Groups take turns in these.
const SERIES: [u64; 3] = [1, 6, 36];
const ACCEPTABLE: [&str; 2] = ["0.1%", "1%"];

/// What the budget allows: one a month for a thousand groups is one in ten months for a hundred.
const fn allowed(years: u64) -> f64 {
    years as f64 * 12.0 * GROUPS as f64 / 1_000.0
}

/// The last has no goal: it shows what a mean of all bursts would not see.
const KINDS: [(Kind, &str); 5] = [
    (Kind::Independent, "independent"),
    (Kind::Bursts(2.0), "bursts of 2 s"),
    (Kind::Bursts(5.0), "bursts of 5 s"),
    (Kind::Bursts(10.0), "bursts of 10 s"),
    (Kind::Hidden(10.0), "1 of 20 bursts of 10 s"),
];

pub(crate) fn print(plan: &Plan) -> io::Result<()> {
    let mut out = stdout().lock();
    let years = if plan.quick { 1 } else { YEARS };
    let budget = allowed(years);
    writeln!(
        out,
        "\nalarms: pages of {GROUPS} groups that are well (N = 1, 6, 36; acceptable 0.1 % and 1 %) in {years} years, each episode once"
    )?;
    writeln!(
        out,
        "all start cold and learn in closed loop, and page at once where a window fires and is confirmed"
    )?;
    writeln!(out, "budget: {budget:.1} for each line, being one a month for each 1,000 groups")?;
    writeln!(
        out,
        "gate: pages besides, because two of six vantages agreed and the burst was not waited out (N = 6, 36)"
    )?;
    writeln!(
        out,
        "from loss to loss is second by second, on a day of each kind: {}",
        if is_same(plan) { "yes" } else { "NO: the figures are void" }
    )?;
    for part in [10, 3] {
        for (kind, name) in KINDS {
            let start = now();
            let alarms = fleet(plan, years, part, kind);
            let alone = alarms.iter().filter(|alarm| !alarm.by_agreement).count();
            let early = alarms.iter().filter(|alarm| alarm.second < START.plus(YEAR / 12)).count();
            let met = match kind {
                Kind::Hidden(_) => "no goal",
                _ if alone as f64 <= budget => "met",
                _ => "NOT met",
            };
            writeln!(
                out,
                "  1/{part:<3}{name:<24}{alone:>5} {met:<8} gate: {:>3}   in the first month: {early:>4}   {:>4.0} s",
                alarms.len() - alone,
                start.elapsed().as_secs_f64(),
            )?;
            out.flush()?;
        }
    }
    Ok(())
}

/// Whether both ways to run page at the same seconds and learn the same, with a budget so bold that there is much to compare.
fn is_same(plan: &Plan) -> bool {
    KINDS.into_iter().map(|(kind, _)| kind).chain([Kind::Common(2.0)]).all(|kind| {
        SERIES.into_iter().all(|series| {
            let acceptable = AcceptableLoss::default();
            let setting =
                Setting { acceptable, budget: Budget::new(1, 600), series, vantages: series.min(6) };
            let group =
                || Group::new(setting, Traffic::new(kind, series, 0.003, Random::new(plan.seed, series)));
            let (mut skipping, mut walking) = (group(), group());
            skipping.run(86_400, &mut Thresholds::default());
            walking.run_each(86_400);
            skipping.alarms == walking.alarms && skipping.burstiness() == walking.burstiness()
        })
    })
}

fn fleet(plan: &Plan, years: u64, part: u32, kind: Kind) -> Vec<Alarm> {
    // By acceptable loss: thresholds are of one.
    let mut thresholds = ACCEPTABLE.map(|_| Thresholds::default());
    let mut alarms = Vec::new();
    for number in 0..GROUPS {
        let series = SERIES[number as usize % SERIES.len()];
        let which = number as usize / SERIES.len() % ACCEPTABLE.len();
        let acceptable: AcceptableLoss = ACCEPTABLE[which].parse().expect("the table is written right");
        let setting = Setting { acceptable, budget: Budget::default(), series, vantages: series.min(6) };
        let loss = f64::from(acceptable.parts_per_million()) / 1e6 / f64::from(part);
        let mut group = Group::new(setting, Traffic::new(kind, series, loss, Random::new(plan.seed, number)));
        group.run(years * YEAR, &mut thresholds[which]);
        alarms.append(&mut group.alarms);
    }
    alarms
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is printed")]
fn now() -> Instant {
    Instant::now()
}
