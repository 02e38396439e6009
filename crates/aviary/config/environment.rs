//! The environment: which variable overrides which key.
//!
//! `AVIARY_SECTION_KEY` overrides a scalar, or a list of scalars with commas between them; the keys of a table inside a
//! section follow after another `_`, as in `AVIARY_AGENT_SPOOL_SIZE`. Of sections that come in lists, each is meant by
//! its name: `AVIARY_SERVICE_INGEST_FAMILY`. Names are written in capitals, with `_` for whatever is neither letter nor
//! digit. A variable for a secret holds the secret itself, or `AVIARY_AGENT_TOKEN_FILE` says where it is.

use std::{collections::BTreeMap, ffi::OsString};

/// What all our variables begin with.
pub(super) const PREFIX: &str = "AVIARY_";

/// What variables for `[log]` begin with.
pub(super) const LOG_PREFIX: &str = "AVIARY_LOG_";

/// The variable for `log.level`.
pub(super) const LOG_LEVEL: &str = "AVIARY_LOG_LEVEL";

/// Its older name, which also sets the level of commands that read no configuration.
pub(super) const LOG: &str = "AVIARY_LOG";

/// The variables of the environment, as they were when the program started. They may hold secrets: no `Debug`.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variable `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names of the variables that begin with `prefix`, but for those that Kubernetes sets.
    pub(super) fn beginning(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.0
            .range(prefix.to_owned()..)
            .map(|(name, _)| name.as_str())
            .take_while(move |name| name.starts_with(prefix))
            .filter(move |name| name.len() > prefix.len() && !is_of_kubernetes(name))
    }
}

/// From [`std::env::vars_os`]. What is not UTF-8 is of no use to us, and may well belong to somebody else.
impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self(variables.into_iter().filter_map(text).collect())
    }
}

/// The variable that overrides `key` of the table whose variables begin with `prefix`.
pub(super) fn name(prefix: &str, key: &str) -> String {
    format!("{prefix}{}", upper(key))
}

/// `key` as it stands in the name of a variable.
pub(super) fn upper(key: &str) -> String {
    key.chars()
        .map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' })
        .collect()
}

/// Whether Kubernetes sets a variable of this name in every pod beside a service, such as one called
/// `aviary-collector`: its `AVIARY_COLLECTOR_PORT_8610_TCP` is nobody's mistake.
fn is_of_kubernetes(name: &str) -> bool {
    let is_port = |rest: &str| {
        let mut parts = rest.split('_');
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        parts.next().is_some_and(is_number)
            && parts.next().is_some_and(|part| matches!(part, "TCP" | "UDP" | "SCTP"))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.match_indices("_PORT_").any(|(at, port)| name.get(at + port.len()..).is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_sets_is_not_taken_for_ours() {
        let table = [
            ("AVIARY_SERVICE_HOST", true),
            ("AVIARY_SERVICE_PORT", true),
            ("AVIARY_COLLECTOR_SERVICE_PORT_HTTP", true),
            ("AVIARY_COLLECTOR_PORT", true),
            ("AVIARY_COLLECTOR_PORT_8610_TCP", true),
            ("AVIARY_COLLECTOR_PORT_8610_TCP_ADDR", true),
            ("AVIARY_COLLECTOR_LISTEN", false),
            ("AVIARY_SERVICE_HOST_FAMILY", false),
            ("AVIARY_SERVICE_PORT_8_FAMILY", true),
            ("AVIARY_SERVICE_INGEST_PORTAL", false),
        ];
        for (name, expected) in table {
            assert_eq!(is_of_kubernetes(name), expected, "{name}");
        }
    }

    #[test]
    fn a_variable_is_found_by_what_it_begins_with() {
        let names = [
            "AVIARY_AGEN",
            "AVIARY_AGENT",
            "AVIARY_AGENT_",
            "AVIARY_AGENT_A",
            "AVIARY_AGENT_PORT",
            "AVIARY_B",
        ];
        let environment: Environment =
            names.iter().map(|name| (OsString::from(name), OsString::new())).collect();
        assert_eq!(environment.beginning("AVIARY_AGENT_").collect::<Vec<_>>(), ["AVIARY_AGENT_A"]);
        assert_eq!(name("AVIARY_", "eu-west_1") + "_", "AVIARY_EU_WEST_1_");
    }
}
