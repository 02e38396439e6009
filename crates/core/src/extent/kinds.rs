//! The kinds of vantage, each by itself: what of a service is well from where else.
//!
//! A thousand nodes that look at themselves would hide two agents outside in any sum, and each kind answers a question of
//! its own. So vantages are counted and slots summed by kind, and compared.

use std::collections::{BTreeMap, BTreeSet};

use super::{Counts, Extent, Population, Rule};
use crate::{
    Tag,
    detect::{Tally, tail},
    vantage::VantageKind,
};

/// The tags of a vantage.
pub(super) const PLACES: [Tag; 5] = [Tag::Node, Tag::Zone, Tag::Region, Tag::Network, Tag::Kind];

/// A vantage loses more than is acceptable if chance loses as much less often than this.
const CHANCE_MAX: f64 = 1e-3;

/// A cell's vantage: its values of [`PLACES`].
pub(super) type Place<'a> = [Option<&'a str>; PLACES.len()];

/// In the order in which they are said: from where customers are to the node.
pub(super) const KINDS: [VantageKind; 3] =
    [VantageKind::External, VantageKind::Datacentre, VantageKind::Loopback];

/// What the vantages of one kind measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct OfKind {
    /// Those that measured anything.
    pub(super) vantages: usize,
    /// Of those, how many lose no more than is acceptable, chance aside.
    pub(super) well: usize,
    /// All that they measured.
    pub(super) sum: Tally,
    /// They lose no more than is acceptable together, chance aside.
    pub(super) is_well: bool,
}

impl OfKind {
    /// "2 of 2 vantages", "6 of 6 nodes".
    pub(super) fn of_how_many(&self, kind: VantageKind, count: usize) -> String {
        let whose = if kind == VantageKind::Loopback { "node" } else { "vantage" };
        let plural = if self.vantages == 1 { "" } else { "s" };
        format!("{count} of {} {whose}{plural}", self.vantages)
    }
}

pub(super) fn vantage(population: &Population, cell: usize) -> Place<'_> {
    PLACES.map(|tag| population.tag(cell, tag))
}

pub(super) fn kind(population: &Population, cell: usize) -> Option<VantageKind> {
    population.tag(cell, Tag::Kind)?.parse().ok()
}

/// Whether there is more than one kind to be told apart.
pub(super) fn are_many(population: &Population) -> bool {
    population.values_of(Tag::Kind).len() > 1
}

/// Those of `cells`, in the order of [`KINDS`].
pub(super) fn among(population: &Population, cells: &[usize]) -> Vec<VantageKind> {
    let found: BTreeSet<VantageKind> = cells.iter().filter_map(|cell| kind(population, *cell)).collect();
    KINDS.into_iter().filter(|kind| found.contains(kind)).collect()
}

/// Of each rule of `extent`, the kind of vantage that all of it is from; none where it is from several, or there is but one.
pub fn of_rules(population: &Population, extent: &Extent) -> Vec<Option<VantageKind>> {
    let of_rule = |rule: &Rule| {
        let is_excepted = |cell: &usize| rule.except.iter().any(|except| population.matches(*cell, except));
        let cells: Vec<usize> =
            population.matching(&rule.matches).filter(|cell| !is_excepted(cell)).collect();
        match among(population, &cells).as_slice() {
            [kind] if are_many(population) => Some(*kind),
            _ => None,
        }
    };
    extent.rules.iter().map(of_rule).collect()
}

/// What each kind measured in `cells`, in the order of [`KINDS`]; of one that has cells and measured nothing, that.
pub(super) fn sums(
    population: &Population,
    counts: &[Counts],
    cells: impl IntoIterator<Item = usize>,
) -> Vec<(VantageKind, OfKind)> {
    let mut vantages: BTreeMap<(Option<VantageKind>, Place<'_>), (Tally, f64)> = BTreeMap::new();
    for cell in cells {
        let place = (kind(population, cell), vantage(population, cell));
        let (sum, acceptable) = vantages.entry(place).or_default();
        let Counts { judged, lost, acceptable: share } = counts[cell];
        *sum += Tally { judged, lost };
        *acceptable += share * judged as f64;
    }
    let of_kind = |wanted: VantageKind| {
        let (mut found, mut whole) = (OfKind::default(), 0.0);
        let mut is_there = false;
        for (_, (sum, acceptable)) in vantages.iter().filter(|((kind, _), _)| *kind == Some(wanted)) {
            is_there = true;
            found.vantages += usize::from(sum.judged > 0);
            found.well += usize::from(sum.judged > 0 && is_well(*sum, *acceptable));
            found.sum += *sum;
            whole += acceptable;
        }
        found.is_well = found.sum.judged > 0 && is_well(found.sum, whole);
        is_there.then_some((wanted, found))
    };
    KINDS.into_iter().filter_map(of_kind).collect()
}

/// No more is lost than `acceptable` slots, or chance loses as much.
fn is_well(Tally { judged, lost }: Tally, acceptable: f64) -> bool {
    let share = acceptable / judged.max(1) as f64;
    lost as f64 <= acceptable || !tail::binomial_is_rare(lost as f64, judged as f64, share, CHANCE_MAX)
}
