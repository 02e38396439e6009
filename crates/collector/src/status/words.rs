//! An incident in words that are fit for customers: which service, over what, from where, since when. No host, node, address
//! or other name of what is inside, and no number that changes from second to second.

use std::collections::BTreeSet;

use aviary_core::{
    Second, Tag,
    extent::{Extent, Predicate, Rule},
    incident::Incident,
    page::Severity,
};

use super::publication::Impact;

/// What explains less of a loss than this is not worth a word.
const SHARE_MIN: f64 = 0.05;

/// So many names are said before the rest are counted.
const NAMED_MAX: usize = 4;

/// A draft's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) impact: Impact,
}

/// What customers would be told of `incident` first, of the services that `shown` has a name for.
pub(crate) fn draft(incident: &Incident, shown: impl Fn(&str) -> Option<String>) -> Option<Draft> {
    let mut worst = Severity::Info;
    let parts: Vec<(String, Affected)> = incident
        .parts()
        .filter_map(|(service, part)| {
            let seen = part.worst.as_ref().map_or(&part.extent, |worst| &worst.extent);
            let extent = if part.is_lost { &part.extent } else { seen };
            let name = shown(service)?;
            worst = worst.max(part.severity);
            Some((name, Affected::of(extent)))
        })
        .collect();
    let (first, affected) = parts.first()?;
    let title = match parts.len() {
        1 => format!("{first}: {}", affected.title()),
        _ => {
            let names: BTreeSet<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
            format!("{}: data is lost", list(&names))
        }
    };
    let mut text = format!("Since {}, ", moment(incident.since));
    let said: Vec<String> = parts.iter().map(|(name, affected)| affected.sentence(name)).collect();
    text.push_str(&said.join("; "));
    text.push('.');
    if parts.iter().all(|(_, affected)| affected.is_all_known) {
        text.push_str(" Nothing else is known to be affected.");
    }
    text.push_str(" We are looking into it.");
    Some(Draft { title, text, impact: impact(worst) })
}

/// What is said when nothing is lost any more.
pub(crate) fn monitoring(since: u64) -> String {
    format!("Nothing has been lost since {}. We go on watching.", moment(Second(since)))
}

/// What is said once that has lasted.
pub(crate) fn resolved(since: u64) -> String {
    format!("Nothing has been lost since {}. This incident is resolved.", moment(Second(since)))
}

/// What is said when it comes back.
pub(crate) const BACK: &str = "Data is being lost again. We are looking into it.";

/// Such as `2026-11-22 03:14 UTC`.
pub(crate) fn moment(second: Second) -> String {
    let exact = crate::delivery::words::rfc3339(second);
    format!("{} UTC", exact.get(..16).unwrap_or(&exact).replace('T', " "))
}

/// How much it matters to customers, by how bad it is to those who are paged.
pub(crate) const fn impact(severity: Severity) -> Impact {
    match severity {
        Severity::Info => Impact::None,
        Severity::Warning => Impact::Minor,
        Severity::Error => Impact::Major,
        Severity::Critical => Impact::Critical,
    }
}

/// What of a service is lost, as far as customers can know it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Affected {
    protocols: BTreeSet<String>,
    regions: BTreeSet<String>,
    /// Regions or protocols that are well all the same.
    except: BTreeSet<String>,
    /// A cause is narrower than customers can tell: a node, an address, a zone.
    is_narrow: bool,
    /// All of the loss has a cause that is said here.
    is_all_known: bool,
    /// How much is lost of what is affected: nearly all, more than half, or less.
    share: Share,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    #[default]
    Some,
    Most,
    All,
}

impl Affected {
    fn of(extent: &Extent) -> Self {
        let rules: Vec<&Rule> = extent.rules.iter().filter(|rule| rule.share >= SHARE_MIN).collect();
        let values = |tag: Tag| -> BTreeSet<String> {
            // One cause that is not bound to a place is in all of them.
            let values: Option<BTreeSet<String>> =
                rules.iter().map(|rule| rule.matches.0.get(&tag).cloned()).collect();
            values.unwrap_or_default()
        };
        let is_public = |tag: &Tag| matches!(tag, Tag::Service | Tag::Protocol | Tag::Region);
        let is_narrow = |predicate: &Predicate| !predicate.0.keys().all(is_public);
        let excepted = rules.iter().flat_map(|rule| &rule.except).filter(|except| !is_narrow(except));
        let least = rules.iter().map(|rule| rule.loss).fold(f64::INFINITY, f64::min);
        let share = match least {
            _ if rules.is_empty() => Share::Some,
            0.995.. => Share::All,
            0.5.. => Share::Most,
            _ => Share::Some,
        };
        let narrow = rules.iter().any(|rule| is_narrow(&rule.matches) || rule.except.iter().any(is_narrow));
        let (protocols, regions) = (values(Tag::Protocol), values(Tag::Region));
        Self {
            except: excepted
                .filter_map(|except| except.0.get(&Tag::Region).or_else(|| except.0.get(&Tag::Protocol)))
                .cloned()
                .collect(),
            is_narrow: narrow,
            is_all_known: !rules.is_empty()
                && rules.len() == extent.rules.len()
                && extent.scattered < SHARE_MIN
                && !(protocols.is_empty() && regions.is_empty()),
            share,
            protocols,
            regions,
        }
    }

    /// Such as `data sent over udp from eu-west-1 is lost`.
    fn title(&self) -> String {
        format!("{} is lost", self.what("data"))
    }

    fn sentence(&self, name: &str) -> String {
        let (much, narrow) = match (self.share, self.is_narrow) {
            (Share::All, false) => ("", ""),
            (Share::Most, false) => ("most of the ", ""),
            (Share::Some, false) => ("some of the ", ""),
            (_, true) => ("some of the ", " by some ways into it"),
        };
        let except = match self.except.is_empty() {
            true => String::new(),
            false => format!(" ({} excepted)", list(&borrowed(&self.except))),
        };
        let data = self.what(&format!("data sent to {name}{narrow}"));
        format!("{much}{data}{except} has been lost")
    }

    fn what(&self, data: &str) -> String {
        let mut text = data.to_owned();
        if !self.protocols.is_empty() {
            let sent = if data.contains("sent") { "" } else { " sent" };
            text.push_str(&format!("{sent} over {}", list(&borrowed(&self.protocols))));
        }
        if !self.regions.is_empty() {
            text.push_str(&format!(" from {}", list(&borrowed(&self.regions))));
        }
        text
    }
}

fn borrowed(values: &BTreeSet<String>) -> BTreeSet<&str> {
    values.iter().map(String::as_str).collect()
}

/// "a", "a and b", "a, b and c", "a, b, c, d and 2 more".
fn list(values: &BTreeSet<&str>) -> String {
    let values: Vec<&str> = values.iter().copied().collect();
    match values.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] if values.len() <= NAMED_MAX => format!("{} and {last}", most.join(", ")),
        _ => format!("{} and {} more", values[..NAMED_MAX].join(", "), values.len() - NAMED_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(matches: &[(Tag, &str)], except: &[&[(Tag, &str)]], loss: f64) -> Rule {
        let predicate = |tags: &[(Tag, &str)]| {
            Predicate(tags.iter().map(|(tag, value)| (*tag, (*value).to_owned())).collect())
        };
        let except = except.iter().map(|except| predicate(except)).collect();
        Rule { matches: predicate(matches), except, loss, share: 1.0, lost: 9, judged: 10 }
    }

    fn said(rules: Vec<Rule>, scattered: f64) -> (String, String, bool) {
        let affected = Affected::of(&Extent { rules, scattered });
        (affected.title(), affected.sentence("Ingest"), affected.is_all_known)
    }

    #[test]
    fn loss_is_said_by_protocol_and_region_and_by_nothing_that_is_ours() {
        use Tag::{Address, Node, Protocol, Region, Zone};
        let table = [
            (
                vec![rule(&[(Protocol, "udp")], &[], 1.0)],
                "data sent over udp is lost",
                "data sent to Ingest over udp has been lost",
                true,
            ),
            (
                vec![rule(&[(Protocol, "udp"), (Region, "eu")], &[], 0.6)],
                "data sent over udp from eu is lost",
                "most of the data sent to Ingest over udp from eu has been lost",
                true,
            ),
            (
                vec![rule(&[(Region, "eu")], &[], 0.02), rule(&[(Region, "us")], &[], 1.0)],
                "data from eu and us is lost",
                "some of the data sent to Ingest from eu and us has been lost",
                true,
            ),
            (
                vec![rule(&[(Region, "eu")], &[], 1.0), rule(&[], &[], 0.7)],
                "data is lost",
                "most of the data sent to Ingest has been lost",
                false,
            ),
            (
                vec![rule(&[], &[&[(Region, "us")]], 1.0)],
                "data is lost",
                "data sent to Ingest (us excepted) has been lost",
                false,
            ),
            (
                vec![rule(&[(Node, "canary-7.example.net")], &[], 1.0)],
                "data is lost",
                "some of the data sent to Ingest by some ways into it has been lost",
                false,
            ),
            (
                vec![rule(&[(Address, "192.0.2.7:2003"), (Region, "eu")], &[&[(Zone, "rack-4")]], 1.0)],
                "data from eu is lost",
                "some of the data sent to Ingest by some ways into it from eu has been lost",
                true,
            ),
            (Vec::new(), "data is lost", "some of the data sent to Ingest has been lost", false),
        ];
        for (rules, title, sentence, is_all_known) in table {
            assert_eq!(
                said(rules.clone(), 0.0),
                (title.to_owned(), sentence.to_owned(), is_all_known),
                "{rules:?}"
            );
        }
        assert!(!said(vec![rule(&[(Region, "eu")], &[], 1.0)], 0.2).2, "what is scattered is not explained");
    }

    #[test]
    fn a_cause_that_explains_little_is_not_said() {
        let mut little = rule(&[(Tag::Region, "asia")], &[], 1.0);
        little.share = 0.01;
        let (title, _, is_all_known) = said(vec![rule(&[(Tag::Region, "eu")], &[], 1.0), little], 0.0);
        assert_eq!((title.as_str(), is_all_known), ("data from eu is lost", false));
    }

    #[test]
    fn times_name_their_zone() {
        assert_eq!(moment(Second(1_763_690_400)), "2025-11-21 02:00 UTC");
        assert_eq!(list(&["a", "b", "c", "d", "e", "f"].into()), "a, b, c, d and 2 more");
    }
}
