//! What changes from one configuration to the next: which series come, go and stay, which keys act at once, and which
//! wait for a restart. A reload and `aviary check --against` say the same because both ask here.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use super::{
    Config,
    service::Addresses,
    values::{Value, values},
};

/// Keys, or beginnings of keys up to a dot, that a running process does not take up. What a sink or collector listens on
/// is bound when it starts; where an agent keeps its spool cannot be moved under it; and another vantage is another
/// place, so that every series would end and another begin.
const NEEDS_RESTART: [&str; 14] = [
    "vantage",
    "agent.data",
    "agent.listen",
    "collector.data",
    "collector.listen",
    "collector.name",
    "collector.open",
    "collector.retain",
    "collector.token",
    "collector.url",
    "log.file",
    "log.format",
    "receiver",
    "sink",
];

/// A series as far as a file knows it: the vantage is one for all, and which addresses a name has is found out later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeriesName {
    /// The service.
    pub(crate) service: String,
    /// Its endpoint.
    pub(crate) endpoint: String,
    /// What its Graphite name begins with: another is another series.
    pub(crate) prefix: String,
    /// Whether each address of the endpoint's name has a series of its own.
    pub(crate) each_address: bool,
}

impl fmt::Display for SeriesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, endpoint, prefix, each_address } = self;
        write!(f, "{prefix}.{service} {endpoint}")?;
        if *each_address { f.write_str(", each address") } else { Ok(()) }
    }
}

/// A key whose value is another now. Of secrets and certificates nothing but their place is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// The key, with a service's name for its number: `service.ingest.family`.
    pub(crate) key: String,
    /// The value before, if the key had one that may be shown.
    pub(crate) from: Option<String>,
    /// The value after, likewise.
    pub(crate) to: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, from, to } = self;
        match (from, to) {
            (None, None) => f.write_str(key),
            (from, to) if from == to => f.write_str(key),
            (Some(from), None) => write!(f, "{key}: {from}, and then none"),
            (None, Some(to)) => write!(f, "{key}: {to}"),
            (Some(from), Some(to)) => write!(f, "{key}: {from}, and then {to}"),
        }
    }
}

/// What changes from one configuration to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Series that begin, at their first full slot.
    pub(crate) added: Vec<SeriesName>,
    /// Series that end.
    pub(crate) removed: Vec<SeriesName>,
    /// Series that keep their phase, ledger and counters.
    pub(crate) unchanged: Vec<SeriesName>,
    /// Keys whose new value acts at once.
    pub(crate) applied: Vec<Change>,
    /// Keys whose new value acts after a restart only.
    pub(crate) needs_restart: Vec<Change>,
}

impl Difference {
    /// Whether a reload would change nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { added, removed, unchanged: _, applied, needs_restart } = self;
        added.is_empty() && removed.is_empty() && applied.is_empty() && needs_restart.is_empty()
    }
}

/// What changes from `running` to `new`.
pub(crate) fn between(running: &Config, new: &Config) -> Difference {
    let (before, after) = (series(running), series(new));
    let mut difference = Difference {
        added: after.difference(&before).cloned().collect(),
        removed: before.difference(&after).cloned().collect(),
        unchanged: before.intersection(&after).cloned().collect(),
        ..Difference::default()
    };
    // A role that comes or goes is said once, and not again with each of its keys.
    let (roles_before, roles_after) = (roles(running), roles(new));
    for (role, (was, is)) in ROLES.iter().zip(roles_before.into_iter().zip(roles_after)) {
        if was != is {
            let word = |is_there: bool| is_there.then(|| "present".to_owned());
            difference.needs_restart.push(Change { key: (*role).to_owned(), from: word(was), to: word(is) });
        }
    }
    let is_of_changed_role = |key: &str| {
        let section = key.split('.').next();
        ROLES
            .iter()
            .zip(roles_before.iter().zip(roles_after))
            .any(|(role, (was, is))| section == Some(*role) && *was != is)
    };
    let (before, after) = (values(running), values(new));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let (from, to) = (before.get(key), after.get(key));
        if from == to || is_of_changed_role(key) || is_of_changed_service(key, running, new) {
            continue;
        }
        let shown =
            |value: Option<&Value>| value.map(|value| value.shown.clone()).filter(|text| !text.is_empty());
        let change = Change { key: key.clone(), from: shown(from), to: shown(to) };
        if needs_restart(key) {
            difference.needs_restart.push(change);
        } else {
            difference.applied.push(change);
        }
    }
    difference
}

/// The sections that a process runs.
const ROLES: [&str; 4] = ["vantage", "agent", "collector", "sink"];

fn roles(config: &Config) -> [bool; 4] {
    let Config { vantage, agent, collector, sink, .. } = config;
    [vantage.is_some(), agent.is_some(), collector.is_some(), sink.is_some()]
}

/// Whether `key` speaks of a service, or of an endpoint, that only one of the two has: its series say that already.
fn is_of_changed_service(key: &str, running: &Config, new: &Config) -> bool {
    let Some((name, key)) = key.strip_prefix("service.").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let has = |config: &Config| {
        let mut services = config.services.iter().filter(|service| service.name == name);
        services.any(|service| match key.strip_prefix("endpoints.") {
            None => true,
            Some(rest) => service.endpoints.iter().any(|endpoint| {
                let url = endpoint.endpoint.to_string();
                rest.strip_prefix(&url).is_some_and(|rest| rest.starts_with('.'))
            }),
        })
    };
    !(has(running) && has(new))
}

fn needs_restart(key: &str) -> bool {
    NEEDS_RESTART
        .iter()
        .any(|start| key.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

fn series(config: &Config) -> BTreeSet<SeriesName> {
    let of_service = config.services.iter().flat_map(|service| {
        service.endpoints.iter().map(|endpoint| SeriesName {
            service: service.name.clone(),
            endpoint: endpoint.endpoint.to_string(),
            prefix: service.prefix.clone(),
            each_address: endpoint.addresses == Addresses::All,
        })
    });
    of_service.collect()
}
