//! Detection in closed loop: what the benchmark of false alarms simulates, over hours instead of years.

#[path = "../benches/judgement/random.rs"]
mod random;
#[path = "../benches/judgement/simulation.rs"]
mod simulation;
#[path = "../benches/judgement/traffic.rs"]
mod traffic;

use aviary_core::detect::Budget;

use crate::{
    random::Random,
    simulation::{Group, Setting, Thresholds},
    traffic::{Kind, Traffic},
};

const TWO_HOURS: u64 = 7_200;

fn group(kind: Kind, series: u64, loss: f64, budget: Budget, seed: u64) -> Group {
    let acceptable = "0.5%".parse().expect("per cent");
    let setting = Setting { acceptable, budget, series, vantages: series.min(6) };
    Group::new(setting, Traffic::new(kind, series, loss, Random::new(20_261_121, seed)))
}

#[test]
fn from_loss_to_loss_is_second_by_second() {
    // So bold that there is something to compare.
    let budget = Budget::new(1, 100);
    let kinds =
        [Kind::Independent, Kind::Bursts(2.0), Kind::Bursts(10.0), Kind::Common(2.0), Kind::Hidden(10.0)];
    let mut alarms = 0;
    for (seed, kind) in (0..).zip(kinds) {
        for series in [1, 6, 36] {
            let mut thresholds = Thresholds::default();
            let mut skipping = group(kind, series, 0.003, budget, seed);
            skipping.run(TWO_HOURS, &mut thresholds);
            let mut walking = group(kind, series, 0.003, budget, seed);
            walking.run_each(TWO_HOURS);
            assert_eq!(skipping.alarms, walking.alarms, "{kind:?}, {series} series");
            assert_eq!(skipping.burstiness(), walking.burstiness(), "{kind:?}, {series} series");
            assert!(skipping.judged < walking.judged, "{kind:?}, {series} series: nothing was skipped");
            alarms += walking.alarms.len();
        }
    }
    assert!(alarms > 20, "only {alarms} alarms to compare");
}
