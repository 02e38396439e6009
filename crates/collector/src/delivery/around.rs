//! What a page says beside its incident: what changed, what else is wrong, and what went wrong first.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap};

use aviary_core::{
    Fault, Phase, Second,
    incident::{Id, Incident},
    losses,
};

use super::words::{counted, lasted, rfc3339};

/// A change before the onset is told of for so long: what was changed the day before is no news.
const CHANGE_SECONDS: u64 = 86_400;

/// So many causes of lost slots are named, the most frequent first.
const CAUSES_MAX: usize = 3;

/// What a page says beside its incident: what only the collector knows when it leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Where the collector is found: links begin with it.
    pub collector_url: Option<String>,
    /// From so many vantages the service that is worst is measured.
    pub vantages: Option<u64>,
    /// The first causes, such as `confirm timeout, 40 of 48`, and why the blame is what it is; a line each.
    pub evidence: Vec<String>,
    /// What speaks against the blame, a line each.
    pub against: Vec<String>,
    /// What changed last, see [`last_change`].
    pub last_change: Option<String>,
    /// What else is wrong, see [`also_open`].
    pub also_open: Vec<String>,
}

/// Something that was changed around the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<'a> {
    /// When.
    pub at: Second,
    /// In a word, such as `deploy`.
    pub kind: &'a str,
    /// What.
    pub text: Cow<'a, str>,
    /// Of which service; of any where none is named.
    pub service: Option<&'a str>,
    /// By whom.
    pub by: Option<&'a str>,
}

/// What went wrong in lost slots, a line for each kind, such as `confirm timeout, 40 of 48`. The agents' own faults are none
/// of the service's.
pub fn first_causes<'a>(losses: impl IntoIterator<Item = &'a losses::Loss>) -> Vec<String> {
    let mut counts: BTreeMap<(Phase, Fault), u64> = BTreeMap::new();
    for loss in losses {
        if let losses::Cause::Service(fault) = loss.cause {
            *counts.entry((loss.phase, fault)).or_default() += 1;
        }
    }
    let all: u64 = counts.values().sum();
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    let others: u64 = counts.iter().skip(CAUSES_MAX).map(|(_, count)| count).sum();
    let line = |((phase, fault), count): &((Phase, Fault), u64)| match fault {
        Fault::Status(status) => format!("{phase} status {status}, {count} of {all}"),
        fault => format!("{phase} {}, {count} of {all}", fault.name().replace('_', " ")),
    };
    let mut lines: Vec<String> = counts.iter().take(CAUSES_MAX).map(line).collect();
    if others > 0 {
        lines.push(format!("{} by other causes", counted(others, "slot")));
    }
    lines
}

/// What changed last around the services of `incident`, in a line: before it began, or since.
pub fn last_change<'a>(
    changes: impl IntoIterator<Item = Changed<'a>>,
    incident: &Incident,
) -> Option<String> {
    let services = incident.services();
    let concerns = |changed: &Changed<'_>| {
        changed.service.is_none_or(|service| services.contains(service))
            && changed.at.plus(CHANGE_SECONDS) > incident.since
    };
    let Changed { at, kind, text, service, by } =
        changes.into_iter().filter(concerns).max_by_key(|changed| changed.at)?;
    let of = service.map(|service| format!(" of {service}")).unwrap_or_default();
    let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
    let apart = lasted(at.0.abs_diff(incident.since.0));
    let when = if at <= incident.since { "before" } else { "after" };
    Some(format!("{kind}{of}{by}, {text}, {}, {apart} {when} it began", rfc3339(at)))
}

/// What else is wrong beside `id`, a line each, the oldest first.
pub fn also_open<'a>(incidents: impl IntoIterator<Item = &'a Incident>, id: &Id) -> Vec<String> {
    let is_other = |incident: &&Incident| {
        let is_told = incident.told.is_some() && incident.storm.is_none();
        incident.state.is_active() && is_told && incident.id != *id
    };
    let line = |incident: &Incident| format!("{}, since {}", incident.summary(), rfc3339(incident.since));
    incidents.into_iter().filter(is_other).map(line).collect()
}
