//! How often a fleet that is well would wake somebody.

use std::{
    io::{self, Write as _, stdout},
    time::Instant,
};

use aviary_core::detect::Budget;

use crate::{
    Plan,
    random::Random,
    simulation::{Group, Setting, Thresholds},
    traffic::{Kind, Traffic},
};

const GROUPS: u64 = 100;
const YEARS: u64 = 10;
const SERIES: [u64; 3] = [1, 6, 36];
const YEAR: u64 = 31_557_600;

/// What the budget allows: one a month for a thousand groups is one in ten months for a hundred.
const fn allowed(years: u64) -> f64 {
    years as f64 * 12.0 * GROUPS as f64 / 1_000.0
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Independent, "independent"),
    (Kind::Bursts(2.0), "bursts of 2 s"),
    (Kind::Bursts(5.0), "bursts of 5 s"),
    (Kind::Bursts(10.0), "bursts of 10 s"),
    (Kind::Hidden(10.0), "1 of 20 bursts of 10 s (no goal)"),
    (Kind::Common(2.0), "all series at once, 2 s (no goal)"),
];

pub(crate) fn print(plan: &Plan) -> io::Result<()> {
    let mut out = stdout().lock();
    let years = if plan.quick { 1 } else { YEARS };
    writeln!(
        out,
        "\nalarms: pages of {GROUPS} groups (N = 1, 6, 36) in {years} years that are well, each episode once, learning from nothing in closed loop"
    )?;
    writeln!(
        out,
        "budget: {:.1} for each line, being one a month for each 1,000 groups; gate: six vantages (N = 6, 36), of which two agree",
        allowed(years)
    )?;
    for acceptable in ["0.1%", "1%"] {
        for part in [10.0, 3.0] {
            for (kind, name) in KINDS {
                let took = now();
                let line = [false, true].map(|is_gated| fleet(plan, years, acceptable, part, kind, is_gated));
                let [alone, gated] = &line;
                writeln!(
                    out,
                    "{acceptable} / {part:<3} {name:<34} {:>4} alarms (N=1: {}, 6: {}, 36: {}; {} in the first month)  {}  gated: {:>4}  {:>4.0} s",
                    alone.total(),
                    alone.alarms[0],
                    alone.alarms[1],
                    alone.alarms[2],
                    alone.first_month,
                    if alone.total() as f64 <= allowed(years).max(1.0) { "met" } else { "NOT met" },
                    gated.total(),
                    took.elapsed().as_secs_f64(),
                )?;
                out.flush()?;
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Alarms {
    alarms: [usize; SERIES.len()],
    first_month: usize,
}

impl Alarms {
    fn total(&self) -> usize {
        self.alarms.iter().sum()
    }
}

fn fleet(plan: &Plan, years: u64, acceptable: &str, part: f64, kind: Kind, is_gated: bool) -> Alarms {
    let acceptable: aviary_core::AcceptableLoss = acceptable.parse().expect("the table is written right");
    let mut thresholds = Thresholds::default();
    let mut counted = Alarms::default();
    for number in 0..GROUPS {
        let kind_of = number as usize % SERIES.len();
        let series = SERIES[kind_of];
        let setting =
            Setting { acceptable, budget: Budget::default(), series, vantages: series.min(6), is_gated };
        let loss = f64::from(acceptable.parts_per_million()) / 1e6 / part;
        let mut group = Group::new(setting, Traffic::new(kind, series, loss, Random::new(plan.seed, number)));
        group.run(years * YEAR, &mut thresholds);
        counted.alarms[kind_of] += group.alarms.len();
        let month = group.alarms.iter().filter(|alarm| alarm.second.0 < 1_000_800 + YEAR / 12).count();
        counted.first_month += month;
        if std::env::var_os("AVIARY_TRACE").is_some() {
            for alarm in &group.alarms {
                eprintln!("{number} {series} {alarm:?}");
            }
            eprintln!("{number} {series} end {:?} judged {}", group.burstiness(), group.judged);
        }
    }
    counted
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is printed")]
fn now() -> Instant {
    Instant::now()
}
