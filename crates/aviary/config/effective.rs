//! What a configuration comes to: the file with the overrides of the environment, without comments and order. Its hash
//! is the configuration's version, and its services are what a collector hands out to agents.

use std::collections::BTreeMap;

use aviary_core::{fnv::fnv1a, rollout::Version};
use toml::{Table, Value};

/// The keys of a service that are the collector's business alone.
const JUDGED: [&str; 14] = [
    "acceptable_loss",
    "burst",
    "certificate_days",
    "latency_p99",
    "min_vantages",
    "owner",
    "page_after",
    "quiet_hours",
    "readback",
    "rotation",
    "runbook",
    "severity",
    "shadow",
    "start_up_grace",
];

/// The services that a collector hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServicesText {
    /// Whence, in the place of a file's name: `services from https://collector.example.net:8610/`.
    pub(crate) origin: String,
    /// Their `[[service]]` sections.
    pub(crate) text: String,
}

/// The SHA-256 of services with this text.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The version of services with this text.
pub(crate) fn version_of(text: &str) -> Version {
    Version::of_sha256(&sha256(text))
}

/// A file with its overrides. Of secrets it holds only where they are to be found.
pub(super) struct Effective {
    document: Table,
    /// The services of a collector, and the hash of their text as it came.
    services: Option<(Table, u64)>,
}

impl Effective {
    /// The file with this text, which has been read, and these overrides by path.
    pub(super) fn new(text: &str, overrides: BTreeMap<String, Value>) -> Self {
        Self { document: overridden(text, overrides), services: None }
    }

    /// Puts the services of another file where those of this one would stand: it makes no difference where they are.
    pub(super) fn include_services(&mut self, text: &str, overrides: BTreeMap<String, Value>) {
        let services = overridden(text, overrides).remove("service");
        self.document.extend(services.map(|services| ("service".to_owned(), services)));
    }

    /// Adds what came from a collector.
    pub(super) fn add_services(&mut self, text: &str, overrides: BTreeMap<String, Value>) {
        self.services = Some((overridden(text, overrides), fnv1a(text.bytes())));
    }

    /// Sixteen hexadecimal digits: FNV-1a over the keys and values in the order of their keys.
    pub(super) fn version(&self) -> String {
        let mut effective = BTreeMap::new();
        flatten("", &self.document, &mut effective);
        if let Some((services, hash)) = &self.services {
            flatten("", services, &mut effective);
            effective.insert("services from collector".to_owned(), format!("{hash:016x}"));
        }
        let line = |(path, value): (String, String)| format!("{path}={value}\n").into_bytes();
        format!("{:016x}", fnv1a(effective.into_iter().flat_map(line)))
    }

    /// The `[[service]]` sections as agents need them: the same text for the same services, whatever the file's order
    /// and comments. Secrets and certificates stand there as references, which each agent resolves on its own host.
    pub(super) fn services_document(&self) -> String {
        let mut services = self.document.get("service").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
        for service in services.as_array_mut().into_iter().flatten().filter_map(Value::as_table_mut) {
            service.retain(|key, _| !JUDGED.contains(&key));
            let endpoints = service.get_mut("endpoints").and_then(Value::as_array_mut);
            for endpoint in endpoints.into_iter().flatten().filter_map(Value::as_table_mut) {
                // Which node it is of is asked where nodes are steered.
                endpoint.remove("node");
            }
        }
        Table::from_iter([("service".to_owned(), services)]).to_string()
    }
}

/// The document `text` with `overrides`. What cannot be placed was refused when it was read.
fn overridden(text: &str, overrides: BTreeMap<String, Value>) -> Table {
    let mut document = Value::Table(text.parse().unwrap_or_default());
    for (path, value) in overrides {
        if let Some(place) = place(&mut document, &path) {
            *place = value;
        }
    }
    match document {
        Value::Table(document) => document,
        _ => Table::new(),
    }
}

/// What stands at `path`, such as `service[0].family`; made where it misses.
fn place<'d>(document: &'d mut Value, path: &str) -> Option<&'d mut Value> {
    let mut at = document;
    for part in path.split('.') {
        let (key, indexes) = part.split_once('[').unwrap_or((part, ""));
        at = at.as_table_mut()?.entry(key).or_insert_with(|| Value::Table(Table::new()));
        for index in indexes.split(['[', ']']).filter(|index| !index.is_empty()) {
            at = at.as_array_mut()?.get_mut(index.parse::<usize>().ok()?)?;
        }
    }
    Some(at)
}

fn flatten(path: &str, table: &Table, found: &mut BTreeMap<String, String>) {
    fn visit(path: String, value: &Value, found: &mut BTreeMap<String, String>) {
        let text = match value {
            // That an empty section is there is a difference too.
            Value::Table(table) => {
                flatten(&path, table, found);
                String::new()
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    visit(format!("{path}[{index}]"), item, found);
                }
                return;
            }
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        found.insert(path, text);
    }
    for (key, value) in table {
        let separator = if path.is_empty() { "" } else { "." };
        visit(format!("{path}{separator}{key}"), value, found);
    }
}
