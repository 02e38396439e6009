//! Whose fault a loss looks like, and what speaks against it.
//!
//! A source loses everything from one vantage; a path is lost from one region to one service, by whoever sends there; a
//! service loses from everywhere. Where nobody else measured the same, these look alike, and so it is said.

use std::collections::BTreeSet;

use super::{Blame, Counts, Extent, Population, Predicate, Rule};
use crate::Tag;

/// A rule that explains less of the loss than this has no say.
const SHARE_MIN: f64 = 0.05;

/// The tags of a vantage.
const PLACES: [Tag; 5] = [Tag::Region, Tag::Zone, Tag::Network, Tag::Node, Tag::Kind];

/// What is known beside the counts of who else may be at fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// What ails the collector itself, such as "judgement is 40 s behind".
    pub us: Option<String>,
    /// What ails who reads back what was stored, such as "the reader answers 500".
    pub reader: Option<String>,
    /// Lost slots that the sender saw delivered: only the reader says that they are lost.
    pub only_unread: u64,
}

/// Whose fault it looks like, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// Whose.
    pub blame: Blame,
    /// For and against, each a short sentence without its full stop.
    pub evidence: Vec<String>,
}

/// Whose fault the loss of `extent` looks like, which is what [`explain`](super::explain()) made of `counts`.
pub fn blame(
    population: &Population,
    counts: &[Counts],
    extent: &Extent,
    suspects: &Suspects,
) -> Attribution {
    let lost: u64 = counts.iter().map(|cell| cell.lost).sum();
    if let Some(us) = &suspects.us {
        return Attribution { blame: Blame::Us, evidence: vec![us.clone()] };
    }
    let mut unread = Vec::new();
    if suspects.only_unread > 0 {
        let sentence = format!(
            "{} of {lost} lost were taken by the service, and not found stored",
            suspects.only_unread
        );
        unread.push(sentence);
    }
    if let Some(reader) =
        suspects.reader.as_ref().filter(|_| suspects.only_unread > 0 && suspects.only_unread == lost)
    {
        unread.push(reader.clone());
        return Attribution { blame: Blame::Reader, evidence: unread };
    }
    let told: Vec<&Rule> = extent.rules.iter().filter(|rule| rule.share >= SHARE_MIN).collect();
    let court = Court { population, counts, rules: &told };
    let mut evidence = Vec::new();
    let mut blamed = BTreeSet::new();
    for rule in &told {
        let found = court.judge(rule);
        blamed.insert(found.blame);
        evidence.extend(
            found.evidence.into_iter().filter(|sentence| !evidence.contains(sentence)).collect::<Vec<_>>(),
        );
    }
    if told.is_empty() && lost > 0 {
        evidence.push("no place or protocol explains the loss".to_owned());
    }
    evidence.extend(unread);
    let blame = match blamed.into_iter().collect::<Vec<_>>().as_slice() {
        [one] => *one,
        _ => Blame::Unclear,
    };
    Attribution { blame, evidence }
}

struct Court<'a> {
    population: &'a Population,
    counts: &'a [Counts],
    rules: &'a [&'a Rule],
}

impl Court<'_> {
    fn judge(&self, rule: &Rule) -> Attribution {
        let cells = self.measured(|cell| self.covers(rule, cell));
        if PLACES.iter().any(|tag| rule.matches.0.contains_key(tag)) {
            self.judge_place(rule, &cells)
        } else {
            self.judge_everywhere(rule, &cells)
        }
    }

    /// Nothing in the rule says from where.
    fn judge_everywhere(&self, rule: &Rule, cells: &[usize]) -> Attribution {
        let vantages = self.vantages(cells);
        let services = self.values(cells, Tag::Service);
        if vantages < 2 {
            let evidence =
                vec!["only one vantage was measured: the way from there looks the same".to_owned()];
            return Attribution { blame: Blame::Unclear, evidence };
        }
        if rule.matches.0.is_empty() && rule.except.is_empty() && services > 1 {
            let evidence =
                vec![format!("all {services} services at once: what they share is lost, or the probes are")];
            return Attribution { blame: Blame::Unclear, evidence };
        }
        let excepted =
            self.measured(|cell| rule.except.iter().any(|except| self.population.matches(cell, except)));
        let by_place = rule.except.iter().any(|except| PLACES.iter().any(|tag| except.0.contains_key(tag)));
        let regions = self.values(cells, Tag::Region);
        let mut evidence = vec![match regions {
            0 | 1 => format!("{vantages} vantages lose it"),
            _ => format!("{vantages} vantages in {regions} regions lose it"),
        }];
        for (tag, others) in
            [(Tag::Protocol, "protocols"), (Tag::Address, "addresses"), (Tag::Service, "services")]
        {
            let others =
                self.others(rule, &[tag]).and_then(|cells| self.how(&format!("other {others} are"), &cells));
            evidence.extend(others);
        }
        if by_place {
            evidence.extend(self.how(&format!("from {} it is", self.place_of(&excepted)), &excepted));
            return Attribution { blame: Blame::Unclear, evidence };
        }
        evidence.extend(self.how("what is excepted is", &excepted));
        Attribution { blame: Blame::Service, evidence }
    }

    /// The rule says from where.
    fn judge_place(&self, rule: &Rule, cells: &[usize]) -> Attribution {
        let vantages = self.vantages(cells);
        let matches = &rule.matches.0;
        if cells.iter().all(|cell| self.population.tag(*cell, Tag::Kind) == Some("loopback")) {
            return Attribution {
                blame: Blame::Service,
                evidence: vec!["it was measured on the node itself".to_owned()],
            };
        }
        let services = self.values(cells, Tag::Service);
        let same = match (matches.get(&Tag::Address), services) {
            (Some(_), _) => "the same address is",
            (None, 0 | 1) => "the same service is",
            (None, _) => "all of it is",
        };
        let elsewhere = self.others(rule, &PLACES).unwrap_or_default();
        let Some(elsewhere) =
            self.how(&format!("from {} {same}", self.elsewhere(&elsewhere, rule)), &elsewhere)
        else {
            return Attribution {
                blame: Blame::Unclear,
                evidence: vec!["nobody else measured the same".to_owned()],
            };
        };
        let other_services = self
            .others(rule, &[Tag::Service])
            .and_then(|cells| self.how("from there other services are", &cells));
        let neighbours = self.how(&format!("from its neighbours {same}"), &self.neighbours(rule, cells));
        let whole = !matches.contains_key(&Tag::Protocol) && !matches.contains_key(&Tag::Address);
        let mut evidence = vec![elsewhere];
        let blame = if whole && services > 1 {
            evidence.push(format!("all {services} services are lost from there"));
            Blame::Source
        } else if let Some(other_services) = other_services {
            evidence.push(other_services);
            Blame::Path
        } else if vantages > 1 {
            evidence.push(format!("{vantages} vantages there lose it"));
            Blame::Path
        } else if let Some(neighbours) = neighbours.filter(|_| whole) {
            evidence.push(neighbours);
            Blame::Source
        } else {
            evidence.push("one vantage and one service: the vantage and the way look the same".to_owned());
            Blame::Unclear
        };
        Attribution { blame, evidence }
    }

    /// What differs from a rule in some of `tags`, and in nothing else, and is in no rule; none if the rule names none of them.
    fn others(&self, rule: &Rule, tags: &[Tag]) -> Option<Vec<usize>> {
        let (differ, agree): (Vec<_>, Vec<_>) =
            rule.matches.0.iter().partition(|(tag, _)| tags.contains(tag));
        let agree = Predicate(agree.into_iter().map(|(tag, value)| (*tag, value.clone())).collect());
        let differs = |cell| {
            self.population.matches(cell, &agree)
                && !self.population.matches(cell, &rule.matches)
                && !self.rules.iter().any(|other| self.covers(other, cell))
        };
        (!differ.is_empty()).then(|| self.measured(differs))
    }

    /// The same from the other vantages of a vantage's region.
    fn neighbours(&self, rule: &Rule, cells: &[usize]) -> Vec<usize> {
        let region = cells.first().and_then(|cell| self.population.tag(*cell, Tag::Region));
        self.measured(|cell| {
            self.population.tag(cell, Tag::Region) == region
                && !self.population.matches(cell, &rule.matches)
                && !self.rules.iter().any(|other| self.covers(other, cell))
        })
    }

    /// Where `cells` are as seen from a rule: their regions, if it is about regions.
    fn elsewhere(&self, cells: &[usize], rule: &Rule) -> String {
        if rule.matches.0.contains_key(&Tag::Region) { self.place_of(cells) } else { "elsewhere".to_owned() }
    }

    /// The regions of `cells`, or how many if they are more than two.
    fn place_of(&self, cells: &[usize]) -> String {
        let regions: BTreeSet<&str> =
            cells.iter().filter_map(|cell| self.population.tag(*cell, Tag::Region)).collect();
        match regions.len() {
            0 => "elsewhere".to_owned(),
            1 | 2 => regions.into_iter().collect::<Vec<_>>().join(" and "),
            many => format!("{many} other regions"),
        }
    }

    /// How `cells` do, none if they were not measured: "`whose` well: 0 of 600 lost".
    fn how(&self, whose: &str, cells: &[usize]) -> Option<String> {
        let sum =
            |count: fn(&Counts) -> u64| cells.iter().map(|cell| count(&self.counts[*cell])).sum::<u64>();
        let (judged, lost) = (sum(|cell| cell.judged), sum(|cell| cell.lost));
        let acceptable: f64 =
            cells.iter().map(|cell| self.counts[*cell].acceptable * self.counts[*cell].judged as f64).sum();
        let how = if lost as f64 <= acceptable { "well" } else { "not well either" };
        (judged > 0).then(|| format!("{whose} {how}: {lost} of {judged} lost"))
    }

    fn covers(&self, rule: &Rule, cell: usize) -> bool {
        self.population.matches(cell, &rule.matches)
            && !rule.except.iter().any(|except| self.population.matches(cell, except))
    }

    fn measured(&self, keep: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.population.len()).filter(|cell| self.counts[*cell].judged > 0 && keep(*cell)).collect()
    }

    fn vantages(&self, cells: &[usize]) -> usize {
        let vantages = cells.iter().map(|cell| PLACES.map(|tag| self.population.tag(*cell, tag)));
        vantages.collect::<BTreeSet<_>>().len()
    }

    fn values(&self, cells: &[usize], tag: Tag) -> usize {
        cells.iter().filter_map(|cell| self.population.tag(*cell, tag)).collect::<BTreeSet<_>>().len()
    }
}
