//! What the demo breaks, and which page that has to give.

use std::collections::BTreeMap;

use aviary_core::{Tag, extent::Rule};
use aviary_notify::Page;

use super::fleet::{EDGE, INGEST, LOST_ADDRESS, LOST_REGION, SILENT_REGION};

/// What a key breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// UDP of a service, from everywhere.
    Udp,
    /// The way from one region to a service.
    Region,
    /// One of the four addresses of a service's name.
    Address,
    /// An agent, with which nobody looks from its region any more.
    Agent,
}

impl Fault {
    pub(super) const ALL: [Self; 4] = [Self::Udp, Self::Region, Self::Address, Self::Agent];

    /// The key that breaks it, and mends it.
    pub(super) const fn key(self) -> char {
        match self {
            Self::Udp => 'u',
            Self::Region => 'r',
            Self::Address => 'a',
            Self::Agent => 'n',
        }
    }

    /// What the key does.
    pub(super) fn words(self) -> String {
        match self {
            Self::Udp => format!("{INGEST} refuses UDP in every region"),
            Self::Region => format!("{INGEST} refuses everything in {LOST_REGION}"),
            Self::Address => format!("{EDGE} refuses everything at one address of four, {LOST_ADDRESS}"),
            Self::Agent => format!("the agent in {SILENT_REGION} stops, which is told after half a minute"),
        }
    }

    /// Whether `page` is the one that this has to give while `broken` are broken: it is about them, and no more and no less.
    pub(super) fn is_told_by(self, page: &Page, broken: &[Self]) -> bool {
        let Some(own) = self.rule() else {
            return page.summary.starts_with(&format!("we cannot see {SILENT_REGION}"));
        };
        let expected: Vec<_> = broken.iter().filter_map(|fault| fault.rule()).collect();
        let told: Vec<_> = page.rules.iter().map(|rule| (matches(rule), rule.except.is_empty())).collect();
        let is_told = |rule: &Expected| told.contains(&(rule.matches.clone(), true));
        let is_expected = |rule: &BTreeMap<Tag, String>| expected.iter().any(|it| it.matches == *rule);
        page.services.iter().any(|service| service == own.service)
            && is_told(&own)
            && told.iter().all(|(rule, _)| is_expected(rule))
    }

    /// What a page has to say of it; none of an agent, without which nothing is lost.
    fn rule(self) -> Option<Expected> {
        let (service, tag, value) = match self {
            Self::Udp => (INGEST, Tag::Protocol, "udp".to_owned()),
            Self::Region => (INGEST, Tag::Region, LOST_REGION.to_owned()),
            Self::Address => (EDGE, Tag::Address, LOST_ADDRESS.to_string()),
            Self::Agent => return None,
        };
        Some(Expected { service, matches: BTreeMap::from([(tag, value)]) })
    }
}

/// The loss that a page has to name.
struct Expected {
    service: &'static str,
    matches: BTreeMap<Tag, String>,
}

/// Which series a cause is about, whatever their service: that is named only where there are several.
fn matches(rule: &Rule) -> BTreeMap<Tag, String> {
    rule.matches
        .0
        .iter()
        .filter(|(tag, _)| **tag != Tag::Service)
        .map(|(tag, it)| (*tag, it.clone()))
        .collect()
}
