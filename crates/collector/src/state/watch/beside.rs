//! What other services lose from the vantages of one that loses: a vantage that reaches them is not at fault.

use std::{collections::HashMap, ops::Range};

use aviary_core::{
    detect::{Tally, tail},
    extent::Beside,
};

use super::groups::Groups;

/// What a service loses from a vantage is more than is acceptable if chance loses as much less often than this.
const CHANCE_MAX: f64 = 1e-3;

/// What all services lose from each vantage, by its number.
pub(super) fn by_vantage(groups: &Groups, tallies: &[Tally]) -> HashMap<u32, Beside> {
    let mut sums: HashMap<u32, Beside> = HashMap::new();
    for judged in groups.services.values() {
        for (vantage, one) in of_service(groups, judged.cells.clone(), tallies) {
            let sum = sums.entry(vantage).or_default();
            *sum = Beside {
                well: sum.well + one.well,
                lost: sum.lost + one.lost,
                services: sum.services + one.services,
            };
        }
    }
    sums
}

/// What services other than that of `cells` lose from the vantage of each of them, of what all do.
pub(super) fn of_others(
    groups: &Groups,
    cells: Range<usize>,
    tallies: &[Tally],
    all: &HashMap<u32, Beside>,
) -> Vec<Beside> {
    let own = of_service(groups, cells.clone(), tallies);
    let others = cells.map(|cell| {
        let vantage = groups.vantage_of[cell];
        let known = |sums: &HashMap<u32, Beside>| sums.get(&vantage).copied().unwrap_or_default();
        let (all, own) = (known(all), known(&own));
        Beside { well: all.well - own.well, lost: all.lost - own.lost, services: all.services - own.services }
    });
    others.collect()
}

fn of_service(groups: &Groups, cells: Range<usize>, tallies: &[Tally]) -> HashMap<u32, Beside> {
    let mut sums: HashMap<u32, (Tally, f64)> = HashMap::new();
    for cell in cells {
        let (sum, acceptable) = sums.entry(groups.vantage_of[cell]).or_default();
        *sum += tallies[cell];
        *acceptable += groups.acceptable[cell] * tallies[cell].judged as f64;
    }
    let measured = sums.into_iter().filter(|(_, (sum, _))| sum.judged > 0);
    let known = measured.map(|(vantage, (Tally { judged, lost }, acceptable))| {
        let acceptable = acceptable / judged as f64;
        let is_lost = lost > 0 && tail::binomial_is_rare(lost as f64, judged as f64, acceptable, CHANCE_MAX);
        let (well, lost) = if is_lost { (0, 0) } else { (judged, lost) };
        (vantage, Beside { well, lost, services: 1 })
    });
    known.collect()
}
