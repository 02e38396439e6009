//! An extent as a person says it: "udp in every region (6/6), 100 % lost; nothing else".
//!
//! Each phrase says what is lost, from where, of how many, and how much; then what no rule explains. "6/6" counts the
//! values that lose more than is acceptable among those that there are; what was not measured is said, not counted as well.
//! Where a service has several kinds of vantage, those that do not lose it are said last, each with how many of its vantages
//! are well: "ingest: outside only (2/2 regions), 100 % lost; well in the data centre (1 of 1) and on its nodes (6 of 6)".

mod from_kinds;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Counts, Extent, Population, Predicate, Rule,
    kinds::{self, PLACES},
};
use crate::{Tag, vantage::VantageKind};

/// What explains less of a loss than this is not worth a word.
const SHARE_MIN: f64 = 0.01;

/// More causes than this are counted rather than said.
const PHRASES_MAX: usize = 3;

/// How many values are named before the rest are counted.
const NAMED_MAX: usize = 3;

/// Where loss is, in one line; `extent` is what [`explain`](super::explain()) made of `counts`.
///
/// It begins with the service if all of it is about one.
pub fn summary(population: &Population, counts: &[Counts], extent: &Extent) -> String {
    let scene = Scene { population, counts };
    let told: Vec<&Rule> = extent.rules.iter().filter(|rule| rule.share >= SHARE_MIN).collect();
    let mut phrases = merged(&told);
    phrases.iter_mut().for_each(|phrase| scene.name_kinds(phrase));
    let service = scene.common_service(&phrases);
    let mut text = service.as_ref().map_or_else(String::new, |service| format!("{service}: "));
    if phrases.is_empty() {
        text.push_str(&scene.scattered());
        return text;
    }
    let alone = phrases.len() == 1 && extent.scattered < SHARE_MIN;
    let said: Vec<String> = phrases
        .iter()
        .take(PHRASES_MAX)
        .map(|phrase| scene.phrase(phrase, alone, service.is_some()))
        .collect();
    text.push_str(&said.join("; and "));
    let unsaid = extent.rules.len() - told.len() + phrases.len().saturating_sub(PHRASES_MAX);
    match unsaid {
        0 => {}
        1 => text.push_str("; and a lesser cause"),
        _ => text.push_str(&format!("; and {unsaid} lesser causes")),
    }
    if extent.scattered >= SHARE_MIN {
        text.push_str(&format!("; {} of the loss is scattered", percent(extent.scattered)));
    }
    match scene.well_elsewhere(&phrases) {
        Some(elsewhere) => text.push_str(&format!("; {elsewhere}")),
        None if unsaid == 0 && extent.scattered < SHARE_MIN => text.push_str("; nothing else"),
        None => {}
    }
    text
}

/// A share as per cent: whole ones from ten up, one decimal below; 100 % only if nothing is left.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 99.0 && percent < 100.0 - 1e-6 {
        format!("{:.1} %", percent.min(99.9))
    } else if percent >= 9.95 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// Rules that differ in one value, said together.
struct Phrase {
    matches: BTreeMap<Tag, Vec<String>>,
    except: Vec<Predicate>,
    loss: f64,
}

/// Joins the rules that differ in the value of one tag and lose about as much.
fn merged(rules: &[&Rule]) -> Vec<Phrase> {
    let mut phrases: Vec<Phrase> = Vec::new();
    for rule in rules {
        let joins = |phrase: &Phrase| -> Option<Tag> {
            let same_tags = phrase.matches.keys().eq(rule.matches.0.keys());
            let alike = (phrase.loss - rule.loss).abs() <= 0.05_f64.max(0.2 * phrase.loss.min(rule.loss));
            if !same_tags || !alike || !phrase.except.is_empty() || !rule.except.is_empty() {
                return None;
            }
            let mut different = rule
                .matches
                .0
                .iter()
                .filter(|(tag, value)| phrase.matches[tag] != [(*value).clone()])
                .map(|found| *found.0);
            let tag = different.next()?;
            let others_are_one =
                phrase.matches.iter().all(|(other, values)| *other == tag || values.len() == 1);
            (different.next().is_none() && others_are_one).then_some(tag)
        };
        match phrases.iter_mut().find_map(|phrase| joins(phrase).map(|tag| (phrase, tag))) {
            Some((phrase, tag)) => {
                let values = phrase.matches.entry(tag).or_default();
                values.extend(rule.matches.0.get(&tag).cloned());
                values.sort_unstable();
                phrase.loss = phrase.loss.max(rule.loss);
            }
            None => phrases.push(Phrase {
                matches: rule.matches.0.iter().map(|(tag, value)| (*tag, vec![value.clone()])).collect(),
                except: rule.except.clone(),
                loss: rule.loss,
            }),
        }
    }
    phrases
}

/// What the phrases are about.
struct Scene<'a> {
    population: &'a Population,
    counts: &'a [Counts],
}

impl Scene<'_> {
    /// The one service that all is about.
    fn common_service(&self, phrases: &[Phrase]) -> Option<String> {
        let known = self.population.values_of(Tag::Service);
        if let [service] = known {
            return Some(service.clone());
        }
        let first = phrases.first()?.matches.get(&Tag::Service)?;
        let common =
            first.len() == 1 && phrases.iter().all(|phrase| phrase.matches.get(&Tag::Service) == Some(first));
        common.then(|| first[0].clone())
    }

    fn scattered(&self) -> String {
        let mut lossy = (0..self.counts.len()).filter(|cell| is_lossy(&self.counts[*cell]));
        let (first, more) = (lossy.next(), lossy.count());
        let lost: u64 = self.counts.iter().map(|cell| cell.lost).sum();
        let judged: u64 = self.counts.iter().map(|cell| cell.judged).sum();
        let Some(first) = first else { return "nothing is lost beyond what is acceptable".to_owned() };
        let share = percent(lost as f64 / judged.max(1) as f64);
        let all = self.counts.len();
        if more == 0 {
            return format!("{share} lost, in 1 of {all} series: {}", self.series(first));
        }
        format!("100 % scattered: {share} lost, in {} of {all} series that have nothing in common", more + 1)
    }

    /// One cell, by what tells it from the others: a burst that has not lasted for long enough to make a rule of is somewhere, too.
    fn series(&self, cell: usize) -> String {
        let value = |tag: &Tag| {
            let place = self.population.by().iter().position(|known| known == tag)?;
            let is_told = self.population.values_of(*tag).len() > 1;
            is_told.then(|| self.population.rows()[cell][place].clone())
        };
        let what: Vec<String> =
            [Tag::Service, Tag::Protocol, Tag::Address].iter().filter_map(value).collect();
        let from = [Tag::Node, Tag::Zone, Tag::Network, Tag::Region].iter().find_map(value);
        let region = value(&Tag::Region).filter(|region| from.as_ref() != Some(region));
        let from = match (from, region) {
            (Some(from), Some(region)) => Some(format!("from {from} in {region}")),
            (Some(from), None) => Some(format!("from {from}")),
            (None, _) => None,
        };
        let what = if what.is_empty() { None } else { Some(what.join(" to ")) };
        what.into_iter().chain(from).collect::<Vec<_>>().join(" ")
    }

    fn phrase(&self, phrase: &Phrase, alone: bool, service_said: bool) -> String {
        let cells = self.cells(phrase);
        let only = if alone { " only" } else { "" };
        let what = self.what(phrase, service_said);
        let (except, excepted) = self.except(phrase);
        let is_everywhere = excepted.is_none_or(|tag| !PLACES.contains(&tag));
        let kinds = || self.of_kinds(phrase, &cells, only).filter(|_| is_everywhere);
        let mut text = match (what, self.place(phrase, &cells, only)) {
            (Some(what), Some(place)) => format!("{what} from {place}{except}"),
            (None, Some(place)) => format!("{place}{except}"),
            (what, None) => match (what, kinds()) {
                (Some(what), Some(kinds)) => format!("{what} {kinds}{except}"),
                (None, Some(kinds)) if phrase.matches.contains_key(&Tag::Kind) => format!("{kinds}{except}"),
                (None, Some(kinds)) => format!("everything{except} {kinds}"),
                (Some(what), None) => format!("{what}{}{except}", self.everywhere(&cells, excepted, " ")),
                (None, None) if except.is_empty() => {
                    format!("everything{}", self.everywhere(&cells, excepted, " "))
                }
                (None, None) => format!("everything{except}{}", self.everywhere(&cells, excepted, ", ")),
            },
        };
        for (tag, plural) in [(Tag::Protocol, "protocols"), (Tag::Service, "services")] {
            let told = phrase.matches.contains_key(&tag) || excepted == Some(tag);
            let told = told || (tag == Tag::Protocol && phrase.matches.contains_key(&Tag::Address));
            let Spread { lossy, all, .. } = self.spread(&cells, tag);
            if told || all < 2 {
                continue;
            }
            let count = if lossy == all {
                format!(", all {plural} ({all}/{all})")
            } else {
                format!(", {lossy} of {all} {plural}")
            };
            text.push_str(&count);
        }
        let (seen, culprit) = if alone { self.culprit(phrase, &cells) } else { ("", "") };
        format!("{text}{seen}, {} lost{culprit}", percent(phrase.loss))
    }

    /// Protocol, address and service, if any is named and not yet said.
    fn what(&self, phrase: &Phrase, service_said: bool) -> Option<String> {
        let with_count = |tag, values: &Vec<String>| {
            format!(
                "{}{}",
                named(tag, values),
                of_how_many(tag, values.len(), self.population.values_of(tag).len())
            )
        };
        let protocol = phrase.matches.get(&Tag::Protocol).map(|values| list(values));
        let address = phrase.matches.get(&Tag::Address).map(|values| with_count(Tag::Address, values));
        let service = phrase.matches.get(&Tag::Service).filter(|_| !service_said);
        let what = match (protocol, address) {
            (None, None) => return service.map(|values| with_count(Tag::Service, values)),
            (Some(what), None) | (None, Some(what)) => what,
            (Some(protocol), Some(address)) => format!("{protocol} to {address}"),
        };
        Some(service.map_or_else(|| what.clone(), |values| format!("{what} of {}", list(values))))
    }

    /// In how many regions; where there is but one, in how many zones or from how many nodes.
    fn everywhere(&self, cells: &[usize], excepted: Option<Tag>, before: &str) -> String {
        let scales = [(Tag::Region, "in", "region"), (Tag::Zone, "in", "zone"), (Tag::Node, "from", "node")];
        for (tag, preposition, singular) in scales {
            let Spread { lossy, all, unmeasured } = self.spread(cells, tag);
            if excepted == Some(tag) {
                return String::new();
            }
            if all < 2 {
                continue;
            }
            let unmeasured = match unmeasured.as_slice() {
                [] => String::new(),
                names => format!(" ({} not measured)", list(names)),
            };
            return if lossy == all {
                format!("{before}{preposition} every {singular} ({all}/{all})")
            } else {
                format!("{before}{preposition} {lossy} of {all} {singular}s{unmeasured}")
            };
        }
        format!("{before}from the only vantage")
    }

    /// What is well within a phrase, and by which tag if by one.
    fn except(&self, phrase: &Phrase) -> (String, Option<Tag>) {
        let more: Vec<Vec<(Tag, &String)>> = phrase
            .except
            .iter()
            .map(|except| {
                except
                    .0
                    .iter()
                    .filter(|(tag, _)| !phrase.matches.contains_key(tag))
                    .map(|(tag, value)| (*tag, value))
                    .collect()
            })
            .collect();
        let Some(first) = more.first().and_then(|except| except.first()) else {
            return (String::new(), None);
        };
        let tag = first.0;
        if more.iter().all(|except| except.len() == 1 && except[0].0 == tag) {
            let values: Vec<String> = more.iter().map(|except| except[0].1.clone()).collect();
            let from = if PLACES.contains(&tag) { "from " } else { "" };
            let whole = Phrase { matches: phrase.matches.clone(), except: Vec::new(), loss: phrase.loss };
            let all = self.spread(&self.cells(&whole), tag).all;
            let lossy = all - values.len();
            return (
                format!(" except {from}{} ({lossy}/{all} {})", named(tag, &values), plural(tag)),
                Some(tag),
            );
        }
        let each = more.iter().map(|except| {
            except
                .iter()
                .map(|(tag, value)| named(*tag, std::slice::from_ref(*value)))
                .collect::<Vec<_>>()
                .join(" from ")
        });
        (format!(" except {}", each.collect::<Vec<_>>().join(" and ")), None)
    }

    /// Who saw one node or address alone, and what that says of the network before it.
    fn culprit(&self, phrase: &Phrase, cells: &[usize]) -> (&'static str, &'static str) {
        let vantages: BTreeSet<kinds::Place<'_>> =
            cells.iter().map(|cell| kinds::vantage(self.population, *cell)).collect();
        let on_itself = kinds::among(self.population, cells) == [VantageKind::Loopback];
        let mut named = phrase.matches.iter().filter(|(tag, _)| **tag != Tag::Service);
        match (named.next(), named.next()) {
            _ if !phrase.except.is_empty() => ("", ""),
            _ if phrase.matches.contains_key(&Tag::Kind) => ("", self.network(phrase, &vantages)),
            (Some((Tag::Address, addresses)), None) if vantages.len() > 1 => (
                "",
                if addresses.len() > 1 {
                    ": the addresses, not the network"
                } else {
                    ": the address, not the network"
                },
            ),
            (Some((Tag::Node, nodes)), None) if on_itself => {
                // Where there are other kinds, the place says so.
                let seen = if kinds::are_many(self.population) { "" } else { ", measured on itself" };
                (
                    seen,
                    if nodes.len() > 1 {
                        ": the nodes, not the network"
                    } else {
                        ": the node, not the network"
                    },
                )
            }
            (Some((Tag::Node, nodes)), None) if vantages.len() > nodes.len() => {
                (", from every vantage", ": the node, not the network")
            }
            _ => ("", ""),
        }
    }

    fn cells(&self, phrase: &Phrase) -> Vec<usize> {
        let matches = |cell: &usize| {
            let well = phrase.except.iter().any(|except| self.population.matches(*cell, except));
            !well
                && phrase.matches.iter().all(|(tag, values)| {
                    self.population
                        .tag(*cell, *tag)
                        .is_some_and(|value| values.iter().any(|other| other == value))
                })
        };
        (0..self.population.len()).filter(matches).collect()
    }

    /// How many values of a tag `cells` have, how many of those lose, and which were not measured.
    fn spread(&self, cells: &[usize], tag: Tag) -> Spread {
        let mut sums: BTreeMap<&str, (bool, u64)> = BTreeMap::new();
        for cell in cells {
            if let Some(value) = self.population.tag(*cell, tag) {
                let sum = sums.entry(value).or_default();
                sum.0 |= is_lossy(&self.counts[*cell]);
                sum.1 += self.counts[*cell].judged;
            }
        }
        Spread {
            lossy: sums.values().filter(|sum| sum.0).count(),
            all: sums.len(),
            unmeasured: sums
                .iter()
                .filter(|(_, sum)| sum.1 == 0)
                .map(|(value, _)| (*value).to_owned())
                .collect(),
        }
    }
}

struct Spread {
    lossy: usize,
    all: usize,
    unmeasured: Vec<String>,
}

/// More is lost than is acceptable.
fn is_lossy(cell: &Counts) -> bool {
    cell.lost as f64 > cell.acceptable * cell.judged as f64
}

/// Of how many values of a tag these are one or some.
fn of_how_many(tag: Tag, some: usize, all: usize) -> String {
    if all < 2 { String::new() } else { format!(" ({some}/{all} {})", plural(tag)) }
}

/// Values of a tag as they are said.
fn named(tag: Tag, values: &[String]) -> String {
    let many = values.len() > 1;
    match tag {
        Tag::Region | Tag::Protocol | Tag::Service | Tag::Endpoint => list(values),
        Tag::Kind => format!("{} vantages", list(values)),
        _ if many => format!("{} {}", plural(tag), list(values)),
        _ => format!("{tag} {}", list(values)),
    }
}

fn plural(tag: Tag) -> &'static str {
    match tag {
        Tag::Address => "addresses",
        Tag::Endpoint => "endpoints",
        Tag::Kind => "kinds of vantage",
        Tag::Network => "networks",
        Tag::Node => "nodes",
        Tag::Protocol => "protocols",
        Tag::Region => "regions",
        Tag::Service => "services",
        Tag::Zone => "zones",
    }
}

/// "a", "a and b", "a, b and c", "a, b, c and 4 more".
fn list(values: &[String]) -> String {
    match values {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] if values.len() <= NAMED_MAX => format!("{} and {last}", most.join(", ")),
        _ => format!("{} and {} more", values[..NAMED_MAX].join(", "), values.len() - NAMED_MAX),
    }
}
