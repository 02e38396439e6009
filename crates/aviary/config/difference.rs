//! What changes from one configuration to the next: which series come, go and stay, which keys act at once, and which
//! wait for a restart. A reload and `aviary check --against` say the same because both ask here.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use super::{
    Config,
    endpoint::Addresses,
    values::{Value, values},
};

/// Keys, or beginnings of keys up to a dot, that a running process does not take up. What a sink or collector listens on
/// is bound when it starts; where an agent keeps its spool cannot be moved under it; and another vantage is another
/// place, so that every series would end and another begin.
const NEEDS_RESTART: [&str; 42] = [
    "vantage",
    "agent.agent_check",
    "agent.consul",
    "agent.controls",
    "agent.data",
    "agent.debug_listen",
    "agent.fallback",
    "agent.fallback_after",
    "agent.listen",
    "agent.name_servers",
    "agent.probe_auth",
    "agent.profiling",
    "agent.read_token",
    "agent.rotation",
    "agent.services",
    "agent.spool",
    "collector.client",
    "collector.data",
    "collector.debug_listen",
    "collector.listen",
    "collector.name",
    "collector.open",
    "collector.probe_auth",
    "collector.profiling",
    "collector.proxy",
    "collector.quiet_hours",
    "collector.retain",
    "collector.rotation",
    "collector.shadow",
    "collector.statsd",
    "collector.statsd_tags",
    "collector.status",
    "collector.test_pages",
    "collector.token",
    "collector.url",
    "collector.watchdog",
    "log.file",
    "log.format",
    "receiver",
    "route",
    "silence",
    "sink",
];

/// Keys of files that a running process follows where they are, and whose texts therefore act at once.
const FOLLOWED_IN_PLACE: [&str; 3] = ["collector.certificate", "collector.key", "collector.client_ca"];

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
        let is_elsewhere = FOLLOWED_IN_PLACE.contains(&key.as_str()) && change.from != change.to;
        if needs_restart(key) || is_elsewhere {
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

/// Whether a running process does not take up another value of `key`, such as `collector.token.name`.
pub(crate) fn needs_restart(key: &str) -> bool {
    NEEDS_RESTART
        .iter()
        .any(|start| key.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

fn series(config: &Config) -> BTreeSet<SeriesName> {
    let of_service = config.services.iter().flat_map(|service| {
        service.probed(config.kind()).map(|endpoint| SeriesName {
            service: service.name.clone(),
            endpoint: endpoint.endpoint.to_string(),
            prefix: service.prefix.clone(),
            each_address: endpoint.addresses == Addresses::All,
        })
    });
    of_service.collect()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, path::Path};

    use super::*;
    use crate::config::{Environment, parse};

    const RUNNING: &str = r#"
        [vantage]
        region = "eu"
        [agent]
        collector = ["https://127.0.0.1:1"]
        listen = "127.0.0.1:8611"
        [log]
        level = "info"
        [[service]]
        name = "a"
        endpoints = ["tcp://h:1", "udp://h:1"]
        [[service]]
        name = "b"
        endpoints = ["tcp://h:2"]
    "#;

    fn config(text: &str, variables: &[(&str, &str)]) -> Config {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let environment: Environment = variables.collect();
        parse(Path::new("a.toml"), text.to_owned(), None, &environment, "host").unwrap()
    }

    /// What changes, a line each: `+` and `-` for series, `=` for how many stay, `now` and `later` for keys.
    fn shown(difference: &Difference) -> Vec<String> {
        let Difference { added, removed, unchanged, applied, needs_restart } = difference;
        let lines = [
            added.iter().map(|name| format!("+ {name}")).collect::<Vec<_>>(),
            removed.iter().map(|name| format!("- {name}")).collect(),
            vec![format!("= {}", unchanged.len())],
            applied.iter().map(|change| format!("now {change}")).collect(),
            needs_restart.iter().map(|change| format!("later {change}")).collect(),
        ];
        lines.concat()
    }

    #[test]
    fn what_changes_is_told_by_what_it_takes() {
        let table: [(&str, &str, &[&str]); 14] = [
            ("\"udp://h:1\"", "\"udp://h:3\"", &["+ canary.a udp://h:3", "- canary.a udp://h:1", "= 2"]),
            ("name = \"b\"", "name = \"c\"", &["+ canary.c tcp://h:2", "- canary.b tcp://h:2", "= 2"]),
            (
                "name = \"b\"",
                "name = \"b\"\nprefix = \"team\"",
                &[
                    "+ team.b tcp://h:2",
                    "- canary.b tcp://h:2",
                    "= 2",
                    "now service.b.prefix: canary, and then team",
                ],
            ),
            (
                "name = \"b\"",
                "name = \"b\"\naddresses = \"all\"",
                &[
                    "+ canary.b tcp://h:2, each address",
                    "- canary.b tcp://h:2",
                    "= 2",
                    "now service.b.endpoints.tcp://h:2.addresses: rotate, and then all",
                ],
            ),
            (
                "name = \"b\"",
                "name = \"b\"\nfamily = \"ipv6\"",
                &["= 3", "now service.b.family: any, and then ipv6"],
            ),
            (
                "name = \"b\"",
                "name = \"b\"\nacceptable_loss = \"1%\"",
                &["= 3", "now service.b.acceptable_loss: 0.5%, and then 1%"],
            ),
            ("level = \"info\"", "level = \"debug\"", &["= 3", "now log.level: info, and then debug"]),
            ("level = \"info\"", "file = \"x\"", &["= 3", "later log.file: x"]),
            ("[agent]", "[agent]\nspool.age = \"1d\"", &["= 3", "later agent.spool.age: 7d, and then 1d"]),
            ("[agent]", "[agent]\nspool.age = \"168h\"", &["= 3"]),
            ("8611", "8612", &["= 3", "later agent.listen: 127.0.0.1:8611, and then 127.0.0.1:8612"]),
            ("[agent]", "[agent]\ndata = \"x\"", &["= 3", "later agent.data: x"]),
            ("\"eu\"", "\"us\"", &["= 3", "later vantage.region: eu, and then us"]),
            ("[log]", "[sink]\ntcp = \"127.0.0.1:1\"\n[log]", &["= 3", "later sink: present"]),
        ];
        let running = config(RUNNING, &[]);
        for (from, to, expected) in table {
            assert!(RUNNING.contains(from), "{from}");
            let difference = between(&running, &config(&RUNNING.replace(from, to), &[]));
            assert_eq!(shown(&difference), expected, "{from} {to}");
            assert_eq!(difference.is_empty(), expected.len() == 1);
        }
    }

    #[test]
    fn a_secret_is_known_to_have_changed_and_not_shown() {
        let with_token = |token| config(RUNNING, &[("AVIARY_AGENT_TOKEN", token)]);
        let table = [
            (config(RUNNING, &[]), with_token("hunter2hunter2hunter2"), vec!["= 3", "now agent.token"]),
            (
                with_token("0123456789abcdef"),
                with_token("hunter2hunter2hunter2"),
                vec!["= 3", "now agent.token"],
            ),
            (with_token("0123456789abcdef"), with_token("0123456789abcdef"), vec!["= 3"]),
        ];
        for (running, new, expected) in table {
            let difference = between(&running, &new);
            assert_eq!(shown(&difference), expected);
            assert!(!format!("{difference:?}").contains("hunter2"));
        }
    }
}
