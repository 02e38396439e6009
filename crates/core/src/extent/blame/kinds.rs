//! What the kinds of vantage say of each other: outside, in the data centre, on the nodes.
//!
//! | lost | and beside it | whose fault |
//! |---|---|---|
//! | all that is outside | the data centre, or the nodes, well | the path: the way from outside |
//! | outside and the data centre | the nodes well on themselves | the path: the network in front of the nodes |
//! | the data centre | outside well | the path: the way from there |
//! | any of these, by one vantage | from it other services are well | the path; if not, nobody can tell |
//! | one node on itself, or some | its peers well on themselves | the service: that node |
//! | the same, and outside a part of all | its peers well on themselves | the service: that node, of which outside gets a part |
//! | all nodes on themselves | outside or the data centre well | nobody can tell: what they share, or their probes |
//! | outside and all nodes on themselves | the data centre well | nobody can tell: nothing is known that only those two share |
//! | one region outside | outside well from others | as without kinds; what is well inside speaks for it |
//! | all kinds | | the service |

use std::collections::BTreeSet;

use super::{Attribution, Blame, Court, Grounds, Rule};
use crate::{
    Tag,
    extent::kinds::{self, OfKind, Place},
    vantage::VantageKind,
};

/// What is lost to this share and more is not what one node of several serves.
const PART_MAX: f64 = 0.9;

impl Court<'_> {
    /// Kinds of vantage all of which lose what `rules` say, where another kind is well; none where it is not so.
    pub(super) fn judge_kinds(&self, rules: &[&Rule]) -> Option<Attribution> {
        let is_of_address = |rule: &&Rule| rule.matches.0.contains_key(&Tag::Address);
        if !kinds::are_many(self.population) || rules.is_empty() || rules.iter().any(is_of_address) {
            return None;
        }
        let is_lost = |cell: usize| rules.iter().any(|rule| self.covers(rule, cell));
        let cells = self.measured(is_lost);
        let losing: BTreeSet<Place<'_>> =
            cells.iter().map(|cell| kinds::vantage(self.population, *cell)).collect();
        let rest = self
            .measured(|cell| !losing.contains(&kinds::vantage(self.population, cell)) && !self.is_told(cell));
        let (lost, well) = (self.of_kinds(&cells), self.of_kinds(&rest));
        let is_there = |kind| lost.iter().any(|(known, _)| *known == kind);
        if lost.is_empty() || well.is_empty() || well.iter().any(|(kind, of)| is_there(*kind) || !of.is_well)
        {
            return None;
        }
        let mut grounds = Grounds::default();
        grounds.evidence.extend(lost.iter().map(|(kind, of)| self.loses(*kind, of, &cells)));
        grounds.evidence.extend(well.iter().map(|(kind, of)| does(*kind, of, false)));
        if is_there(VantageKind::Loopback) {
            let why = match lost.as_slice() {
                [_] => "what the nodes share is lost there, or their own probes are: others do not miss it",
                _ => "nothing is known that these share and those who do not lose it lack",
            };
            grounds.against.push(why.to_owned());
            return Some(Attribution { blame: Blame::Unclear, grounds });
        }
        let vantages = losing.len();
        let is_of_protocol = rules.iter().any(|rule| rule.matches.0.contains_key(&Tag::Protocol));
        let beside = self.beside(&cells).filter(|_| !is_of_protocol);
        let others_are_well = beside.as_ref().is_some_and(|how| how.is_well);
        if let Some(how) = beside {
            grounds.compare(how);
        }
        let blame = if vantages > 1 || others_are_well {
            Blame::Path
        } else {
            grounds.against.push("one vantage loses it: the vantage and the way look the same".to_owned());
            Blame::Unclear
        };
        Some(Attribution { blame, grounds })
    }

    /// What other kinds than those of `cells` say of what `rule` says of these.
    pub(super) fn compare_kinds(&self, rule: &Rule, cells: &[usize], grounds: &mut Grounds) {
        if !kinds::are_many(self.population) {
            return;
        }
        let own = kinds::among(self.population, cells);
        let others = self.others(rule, &kinds::PLACES).unwrap_or_default();
        for (kind, of) in self.of_kinds(&others).iter().filter(|(kind, _)| !own.contains(kind)) {
            let side = if of.is_well { &mut grounds.evidence } else { &mut grounds.against };
            side.push(does(*kind, of, false));
        }
    }

    /// Some nodes lose on themselves, and their peers do not.
    pub(super) fn judge_nodes(&self, rule: &Rule, cells: &[usize]) -> Attribution {
        let nodes = if self.vantages(cells) == 1 { "node itself" } else { "nodes themselves" };
        let mut grounds =
            Grounds { evidence: vec![format!("it was measured on the {nodes}")], against: Vec::new() };
        let others = self.others(rule, &kinds::PLACES).unwrap_or_default();
        for (_, of) in self.of_kinds(&others).iter().filter(|(kind, _)| *kind == VantageKind::Loopback) {
            let side = if of.is_well { &mut grounds.evidence } else { &mut grounds.against };
            side.push(does(VantageKind::Loopback, of, true));
        }
        self.compare_kinds(rule, cells, &mut grounds);
        Attribution { blame: Blame::Service, grounds }
    }

    /// Whether `rule` says that some nodes lose on themselves.
    pub(super) fn is_of_nodes(&self, rule: &Rule) -> bool {
        let cells = self.measured(|cell| self.covers(rule, cell));
        kinds::among(self.population, &cells) == [VantageKind::Loopback]
    }

    /// Whether some nodes lose on themselves, and all else is what others get of these: lost in part.
    pub(super) fn is_felt_elsewhere(&self) -> bool {
        let (nodes, others): (Vec<&Rule>, Vec<&Rule>) =
            self.rules.iter().copied().partition(|rule| self.is_of_nodes(rule));
        !nodes.is_empty() && !others.is_empty() && others.iter().all(|rule| rule.loss < PART_MAX)
    }

    /// Who lose it, where kinds are to be told apart.
    pub(super) fn seen_by_kinds(&self, cells: &[usize]) -> Vec<String> {
        if !kinds::are_many(self.population) {
            return vec![self.seen_by(cells)];
        }
        self.of_kinds(cells).iter().map(|(kind, of)| self.loses(*kind, of, cells)).collect()
    }

    pub(super) fn of_kinds(&self, cells: &[usize]) -> Vec<(VantageKind, OfKind)> {
        kinds::sums(self.population, self.counts, cells.iter().copied())
    }

    /// "outside it is lost, from 2 of 2 vantages in 2 regions: 360 of 360 lost".
    fn loses(&self, kind: VantageKind, of: &OfKind, cells: &[usize]) -> String {
        let of_kind = |cell: &&usize| kinds::kind(self.population, **cell) == Some(kind);
        let cells: Vec<usize> = cells.iter().filter(of_kind).copied().collect();
        let regions = self.values(&cells, Tag::Region);
        let regions = if regions > 1 { format!(" in {regions} regions") } else { String::new() };
        let whose = of.of_how_many(kind, of.vantages - of.well);
        let (lost, judged) = (of.sum.lost, of.sum.judged);
        let (place, from) = (kind.words_of_many(), preposition(kind));
        format!("{place} it is lost, {from} {whose}{regions}: {lost} of {judged} lost")
    }
}

/// "in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost"; of the peers of nodes, "its peers are ...".
fn does(kind: VantageKind, of: &OfKind, are_peers: bool) -> String {
    let whose = of.of_how_many(kind, of.well);
    let how = if of.is_well { "well" } else { "not well either" };
    let (lost, judged) = (of.sum.lost, of.sum.judged);
    let subject =
        if are_peers { "its peers are".to_owned() } else { format!("{} it is", kind.words_of_many()) };
    format!("{subject} {how}, {} {whose}: {lost} of {judged} lost", preposition(kind))
}

const fn preposition(kind: VantageKind) -> &'static str {
    match kind {
        VantageKind::Loopback => "on",
        VantageKind::Datacentre | VantageKind::External => "from",
    }
}
