//! Whose fault a loss looks like, and what speaks against it.
//!
//! | lost | and beside it | whose fault |
//! |---|---|---|
//! | all that one place measures, of every service | the same is well from elsewhere | the source |
//! | one service from one place | from there other services are well, or several vantages there lose it | the path |
//! | one address from one place | from there its other addresses are well | the path |
//! | one service from one vantage, the only one measured from there | its neighbours are well | the source |
//! | the same, without neighbours, or one protocol of it | | nobody can tell: the vantage and the way look the same |
//! | all of a service, a protocol, an address or a node | from several vantages, or on the node itself | the service |
//! | anything, from all but some places | from those it is well | nobody can tell |
//! | anything | nobody else measured the same | nobody can tell |
//!
//! What fits as well to somebody else's fault, and what was not measured, is said against it. What the kinds of vantage say of
//! each other comes first ([`kinds`]). A rule that says but of a part of another that it loses a little more has no say of its own.

mod kinds;

use std::collections::BTreeSet;

use super::{
    Blame, Counts, Extent, Population, Predicate, Rule,
    kinds::{PLACES, vantage},
};
use crate::Tag;

/// A rule that explains less of the loss than this has no say.
const SHARE_MIN: f64 = 0.05;

/// Nor has one within another that takes at least this share of what both take there.
const WIDER_MIN: f64 = 0.5;

/// What is known beside the counts of who else may be at fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// What ails the collector itself, such as "judgement is 40 s behind".
    pub us: Option<String>,
    /// What ails who reads back what was stored, such as "the reader answers 500".
    pub reader: Option<String>,
    /// Lost slots that the sender saw delivered: only the reader says that they are lost.
    pub only_unread: u64,
    /// What other services lose from each cell's vantage, in the cells' order; empty where the population has all services, or
    /// nobody knows.
    pub beside: Vec<Beside>,
}

/// What the services that a population leaves out lose from a vantage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Delivered and lost slots of services that lose no more than is acceptable.
    pub well: u64,
    /// Lost ones among them.
    pub lost: u64,
    /// How many other services were measured from there.
    pub services: u64,
}

/// What speaks for something and what against it, each a short sentence without its full stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds {
    /// For it.
    pub evidence: Vec<String>,
    /// Against it: what does not fit, and what nobody measured.
    pub against: Vec<String>,
}

/// Whose fault it looks like, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// Whose.
    pub blame: Blame,
    /// Why it looks so, and what speaks against it.
    pub grounds: Grounds,
}

impl Attribution {
    fn new(blame: Blame, evidence: Vec<String>) -> Self {
        Self { blame, grounds: Grounds { evidence, against: Vec::new() } }
    }
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
        return Attribution::new(Blame::Us, vec![us.clone()]);
    }
    let only_unread = suspects.only_unread;
    let unread = (only_unread > 0)
        .then(|| format!("{only_unread} of {lost} lost were taken by the service, and not found stored"));
    if let Some(reader) = suspects.reader.as_ref().filter(|_| only_unread > 0 && only_unread == lost) {
        return Attribution::new(Blame::Reader, unread.into_iter().chain([reader.clone()]).collect());
    }
    let shares: Vec<&Rule> = extent.rules.iter().filter(|rule| rule.share >= SHARE_MIN).collect();
    let is_own = |rule: &&Rule| !shares.iter().any(|wider| is_part(population, rule, wider));
    let told: Vec<&Rule> = shares.iter().copied().filter(is_own).collect();
    let court = Court { population, counts, rules: &told, beside: &suspects.beside };
    let mut grounds = Grounds::default();
    let mut blamed = BTreeSet::new();
    let together = court.judge_kinds(&told);
    let each = if together.is_some() { &[][..] } else { &told[..] };
    for found in together.into_iter().chain(each.iter().map(|rule| court.judge(rule))) {
        blamed.insert(found.blame);
        add_new(&mut grounds.evidence, found.grounds.evidence);
        add_new(&mut grounds.against, found.grounds.against);
    }
    if told.is_empty() && lost > 0 {
        grounds.evidence.push("no place or protocol explains the loss".to_owned());
    }
    let blame = match blamed.into_iter().collect::<Vec<_>>().as_slice() {
        [one] => *one,
        _ if court.is_felt_elsewhere() => {
            grounds
                .evidence
                .push("what is lost elsewhere is a part, as a node that is lost takes with it".to_owned());
            Blame::Service
        }
        _ => Blame::Unclear,
    };
    match blame {
        // What was taken got there.
        Blame::Source | Blame::Path => grounds.against.extend(unread),
        _ => grounds.evidence.extend(unread),
    }
    Attribution { blame, grounds }
}

/// Whether `rule` is about some of what `wider` is about, and what it adds there is less than what that takes.
fn is_part(population: &Population, rule: &Rule, wider: &Rule) -> bool {
    let both = 1.0 - (1.0 - rule.loss) * (1.0 - wider.loss);
    let mut cells =
        (0..population.len()).map(|cell| (covers(population, rule, cell), covers(population, wider, cell)));
    wider.loss >= WIDER_MIN * both
        && cells.clone().all(|(is_in, is_in_wider)| is_in_wider || !is_in)
        && cells.any(|(is_in, is_in_wider)| is_in_wider && !is_in)
}

fn covers(population: &Population, rule: &Rule, cell: usize) -> bool {
    population.matches(cell, &rule.matches)
        && !rule.except.iter().any(|except| population.matches(cell, except))
}

fn add_new(known: &mut Vec<String>, sentences: Vec<String>) {
    let new: Vec<String> = sentences.into_iter().filter(|sentence| !known.contains(sentence)).collect();
    known.extend(new);
}

struct Court<'a> {
    population: &'a Population,
    counts: &'a [Counts],
    rules: &'a [&'a Rule],
    beside: &'a [Beside],
}

/// How some cells do.
struct How {
    is_well: bool,
    sentence: String,
}

impl Grounds {
    /// Takes in how something else does: that it is well fits, that it is not does not.
    fn compare(&mut self, how: How) {
        if how.is_well { &mut self.evidence } else { &mut self.against }.push(how.sentence);
    }
}

impl Court<'_> {
    fn judge(&self, rule: &Rule) -> Attribution {
        if let Some(found) = self.judge_kinds(&[rule]) {
            return found;
        }
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
            let why = "only one vantage was measured: the way from there looks the same".to_owned();
            return Attribution::new(Blame::Unclear, vec![why]);
        }
        if rule.matches.0.is_empty() && rule.except.is_empty() && services > 1 {
            let why = format!("all {services} services at once: what they share is lost, or the probes are");
            return Attribution::new(Blame::Unclear, vec![why]);
        }
        let excepted =
            self.measured(|cell| rule.except.iter().any(|except| self.population.matches(cell, except)));
        let by_place = rule.except.iter().any(|except| PLACES.iter().any(|tag| except.0.contains_key(tag)));
        let mut grounds = Grounds { evidence: self.seen_by_kinds(cells), against: Vec::new() };
        for (tag, others) in
            [(Tag::Protocol, "protocols"), (Tag::Address, "addresses"), (Tag::Service, "services")]
        {
            let others =
                self.others(rule, &[tag]).and_then(|cells| self.how(&format!("other {others} are"), &cells));
            others.into_iter().for_each(|how| grounds.compare(how));
        }
        if by_place {
            let how = self.how(&format!("from {} it is", self.place_of(&excepted)), &excepted);
            grounds.against.extend(how.map(|how| how.sentence));
            return Attribution { blame: Blame::Unclear, grounds };
        }
        self.how("what is excepted is", &excepted).into_iter().for_each(|how| grounds.compare(how));
        if self.values(cells, Tag::Region) == 1 && self.population.values_of(Tag::Region).len() < 2 {
            grounds
                .against
                .push("all of them are in one region: the way from there looks the same".to_owned());
        }
        Attribution { blame: Blame::Service, grounds }
    }

    /// The rule says from where.
    fn judge_place(&self, rule: &Rule, cells: &[usize]) -> Attribution {
        let vantages = self.vantages(cells);
        let matches = &rule.matches.0;
        if self.is_of_nodes(rule) {
            return self.judge_nodes(rule, cells);
        }
        let services = self.values(cells, Tag::Service);
        let same = match (matches.get(&Tag::Address), services) {
            (Some(_), _) => "the same address is",
            (None, 0 | 1) => "the same service is",
            (None, _) => "all of it is",
        };
        let elsewhere = self.of_same_kind(cells, self.others(rule, &PLACES).unwrap_or_default());
        let Some(how) = self.how(&format!("from {} {same}", self.elsewhere(&elsewhere, rule)), &elsewhere)
        else {
            let mut grounds = Grounds::default();
            self.compare_kinds(rule, cells, &mut grounds);
            grounds.evidence.push("nobody else measured the same".to_owned());
            return Attribution { blame: Blame::Unclear, grounds };
        };
        let mut grounds = Grounds::default();
        grounds.compare(how);
        self.compare_kinds(rule, cells, &mut grounds);
        let is_one_node = PLACES.iter().all(|tag| matches.contains_key(tag) == (*tag == Tag::Node));
        if is_one_node && vantages > 1 {
            grounds.evidence.push(format!("{} to that node", self.seen_by(cells)));
            return Attribution { blame: Blame::Service, grounds };
        }
        let whole = !matches.contains_key(&Tag::Protocol) && !matches.contains_key(&Tag::Address);
        // What one protocol lacks from there, others may do well without.
        let beside = || self.beside(cells).filter(|_| !matches.contains_key(&Tag::Protocol));
        let from_there = |tag, others: &str| {
            let cells = self.others(rule, &[tag])?;
            self.how(&format!("from there other {others} are"), &cells)
        };
        let other_services = from_there(Tag::Service, "services").or_else(beside);
        let others = from_there(Tag::Address, "addresses").filter(|how| how.is_well).or(other_services);
        let neighbours = self.how(&format!("from its neighbours {same}"), &self.neighbours(rule, cells));
        let many = || format!("{vantages} vantages there lose it");
        let unmeasured = || "no other service was measured from there".to_owned();
        let blame = match others {
            _ if whole && services > 1 => {
                grounds.evidence.push(format!("all {services} services are lost from there"));
                Blame::Source
            }
            Some(how) if how.is_well => {
                grounds.evidence.push(how.sentence);
                if vantages > 1 {
                    grounds.evidence.push(many());
                }
                Blame::Path
            }
            Some(how) if whole => {
                grounds.evidence.push(how.sentence);
                Blame::Source
            }
            others if vantages > 1 => {
                grounds.evidence.push(many());
                grounds.against.push(others.map_or_else(unmeasured, |how| how.sentence));
                Blame::Path
            }
            None if whole && neighbours.is_some() => {
                neighbours.into_iter().for_each(|how| grounds.compare(how));
                grounds.against.push(unmeasured());
                Blame::Source
            }
            others => {
                let why = "one vantage and one service: the vantage and the way look the same";
                grounds.evidence.push(why.to_owned());
                grounds.against.extend(others.map(|how| how.sentence));
                Blame::Unclear
            }
        };
        Attribution { blame, grounds }
    }

    /// From where `cells` are lost.
    fn seen_by(&self, cells: &[usize]) -> String {
        let (vantages, regions) = (self.vantages(cells), self.values(cells, Tag::Region));
        match regions {
            0 | 1 => format!("{vantages} vantages lose it"),
            _ => format!("{vantages} vantages in {regions} regions lose it"),
        }
    }

    /// How services that the population leaves out do from the vantages of `cells`; none where nobody measured any.
    fn beside(&self, cells: &[usize]) -> Option<How> {
        let mut vantages = BTreeSet::new();
        let each = cells.iter().filter(|cell| vantages.insert(vantage(self.population, **cell)));
        let known: Vec<Beside> = each.filter_map(|cell| self.beside.get(*cell)).copied().collect();
        let sum = |count: fn(&Beside) -> u64| known.iter().map(count).sum::<u64>();
        let (services, well, lost) = (sum(|it| it.services), sum(|it| it.well), sum(|it| it.lost));
        (services > 0).then(|| How {
            is_well: well > 0,
            sentence: match well {
                0 => "from there nothing else that is measured is well either".to_owned(),
                _ => format!("from there other services are well: {lost} of {well} lost"),
            },
        })
    }

    /// What differs from a rule in some of `tags`, and in nothing else, and is in no rule; none if the rule names none of them.
    fn others(&self, rule: &Rule, tags: &[Tag]) -> Option<Vec<usize>> {
        let (differ, agree): (Vec<_>, Vec<_>) =
            rule.matches.0.iter().partition(|(tag, _)| tags.contains(tag));
        let agree = Predicate(agree.into_iter().map(|(tag, value)| (*tag, value.clone())).collect());
        let differs = |cell| {
            self.population.matches(cell, &agree)
                && !self.population.matches(cell, &rule.matches)
                && !self.is_told(cell)
        };
        (!differ.is_empty()).then(|| self.measured(differs))
    }

    /// The same from the other vantages of a vantage's region.
    fn neighbours(&self, rule: &Rule, cells: &[usize]) -> Vec<usize> {
        let region = cells.first().and_then(|cell| self.population.tag(*cell, Tag::Region));
        let there = self.measured(|cell| {
            self.population.tag(cell, Tag::Region) == region
                && !self.population.matches(cell, &rule.matches)
                && !self.is_told(cell)
        });
        self.of_same_kind(cells, there)
    }

    /// Those of `others` that are of a kind of `cells`: another kind answers another question.
    fn of_same_kind(&self, cells: &[usize], mut others: Vec<usize>) -> Vec<usize> {
        let kind = |cell: &usize| self.population.tag(*cell, Tag::Kind);
        let kinds: BTreeSet<Option<&str>> = cells.iter().map(kind).collect();
        others.retain(|cell| kinds.contains(&kind(cell)));
        others
    }

    /// Whether a rule that is told says that a cell loses.
    fn is_told(&self, cell: usize) -> bool {
        self.rules.iter().any(|rule| self.covers(rule, cell))
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
    fn how(&self, whose: &str, cells: &[usize]) -> Option<How> {
        let sum =
            |count: fn(&Counts) -> u64| cells.iter().map(|cell| count(&self.counts[*cell])).sum::<u64>();
        let (judged, lost) = (sum(|cell| cell.judged), sum(|cell| cell.lost));
        let acceptable: f64 =
            cells.iter().map(|cell| self.counts[*cell].acceptable * self.counts[*cell].judged as f64).sum();
        let is_well = lost as f64 <= acceptable;
        let how = if is_well { "well" } else { "not well either" };
        (judged > 0).then(|| How { is_well, sentence: format!("{whose} {how}: {lost} of {judged} lost") })
    }

    fn covers(&self, rule: &Rule, cell: usize) -> bool {
        covers(self.population, rule, cell)
    }

    fn measured(&self, keep: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.population.len()).filter(|cell| self.counts[*cell].judged > 0 && keep(*cell)).collect()
    }

    fn vantages(&self, cells: &[usize]) -> usize {
        cells.iter().map(|cell| vantage(self.population, *cell)).collect::<BTreeSet<_>>().len()
    }

    fn values(&self, cells: &[usize], tag: Tag) -> usize {
        cells.iter().filter_map(|cell| self.population.tag(*cell, tag)).collect::<BTreeSet<_>>().len()
    }
}
