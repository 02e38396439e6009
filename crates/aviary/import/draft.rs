//! Our configuration as it is put together, and the list of what is not in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, Write},
};

use aviary_core::Endpoint;

/// What was translated, and what was not.
#[derive(Debug, Default)]
pub(super) struct Draft {
    services: BTreeMap<String, Service>,
    receivers: Vec<Receiver>,
    lost: Vec<Remark>,
    otherwise: Vec<Remark>,
}

#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) endpoints: BTreeSet<String>,
    pub(super) ca: Option<String>,
    pub(super) family: Option<&'static str>,
}

#[derive(Debug)]
struct Receiver {
    name: String,
    kind: &'static str,
    keys: Vec<(&'static str, Said)>,
}

/// What a key of a receiver says.
#[derive(Debug)]
pub(super) enum Said {
    Text(String),
    List(Vec<String>),
    Number(u16),
    /// A secret, which is in this variable.
    Variable(String),
}

/// Something about a line of a file.
#[derive(Debug)]
struct Remark {
    file: String,
    line: usize,
    what: String,
    why: String,
}

impl Draft {
    /// Something that is checked there, and will not be here.
    pub(super) fn lose(&mut self, (file, line): (&str, usize), what: &str, why: &str) {
        self.lost.push(Remark { file: file.to_owned(), line, what: what.to_owned(), why: why.to_owned() });
    }

    /// Something that will be otherwise.
    pub(super) fn differ(&mut self, (file, line): (&str, usize), what: &str, why: &str) {
        self.otherwise.push(Remark {
            file: file.to_owned(),
            line,
            what: what.to_owned(),
            why: why.to_owned(),
        });
    }

    /// Adds an endpoint to the service of this name, if it is one.
    pub(super) fn probe(&mut self, service: &str, url: &str) -> Result<&mut Service, String> {
        let endpoint: Endpoint =
            url.parse().map_err(|error: aviary_core::endpoint::EndpointError| error.to_string())?;
        let service = self.services.entry(service_name(service)).or_default();
        service.endpoints.insert(endpoint.to_string());
        Ok(service)
    }

    pub(super) fn tell(&mut self, kind: &'static str, keys: Vec<(&'static str, Said)>) {
        self.receivers.push(Receiver { name: kind.to_owned(), kind, keys });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether nothing had to be left out.
    pub(super) const fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }

    /// Lists what was left out, and what will be otherwise.
    pub(super) fn list(&self, out: &mut impl Write) -> io::Result<()> {
        for (word, remarks) in [("left out", &self.lost), ("otherwise", &self.otherwise)] {
            for Remark { file, line, what, why } in remarks {
                writeln!(out, "{file}:{line}: {word}: {what}: {why}")?;
            }
        }
        Ok(())
    }

    /// The variables that must hold secrets.
    fn variables(&self) -> impl Iterator<Item = &str> {
        self.receivers.iter().flat_map(|receiver| &receiver.keys).filter_map(|(_, said)| match said {
            Said::Variable(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Our configuration.
    pub(super) fn configuration(&self) -> String {
        let mut text = "\
# Written by `aviary import`: an agent and a collector in one process; config/ has one of each kind.
"
        .to_owned();
        let variables: Vec<&str> = self.variables().collect();
        if !variables.is_empty() {
            // Writing to a string does not fail, here and below.
            _ = writeln!(text, "# Secrets are expected in the environment: {}.", variables.join(", "));
        }
        text += "\n[vantage]\nkind = \"external\"\nregion = \"here\"               # where this host stands, as pages are to say it\n\n\
                 [agent]\n\n[collector]\nlisten = \"127.0.0.1:8610\"\n";
        for (name, Service { endpoints, ca, family }) in &self.services {
            _ = write!(
                text,
                "\n[[service]]\nname = {}\nacceptable_loss = \"0.5%\"\nendpoints = [\n",
                quoted(name)
            );
            for endpoint in endpoints {
                _ = writeln!(text, "  {},", quoted(endpoint));
            }
            text += "]\n";
            if let Some(ca) = ca {
                _ = writeln!(text, "ca = {{ file = {} }}", quoted(ca));
            }
            if let Some(family) = family {
                _ = writeln!(text, "family = {}", quoted(family));
            }
        }
        for Receiver { name, kind, keys } in &self.receivers {
            _ = write!(text, "\n[[receiver]]\nname = {}\nkind = {}\n", quoted(name), quoted(kind));
            for (key, said) in keys {
                _ = match said {
                    Said::Text(said) => writeln!(text, "{key} = {}", quoted(said)),
                    Said::Number(said) => writeln!(text, "{key} = {said}"),
                    Said::List(said) => {
                        let said: Vec<String> = said.iter().map(|one| quoted(one)).collect();
                        writeln!(text, "{key} = [{}]", said.join(", "))
                    }
                    Said::Variable(variable) => writeln!(text, "{key} = {{ env = {} }}", quoted(variable)),
                };
            }
        }
        text
    }
}

/// What may be a service's name: paths of the API go by it.
fn service_name(given: &str) -> String {
    let safe = |char: char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' };
    let name: String = given.trim().chars().take(60).map(safe).collect();
    // `import_` in front keeps it from being a path of the API.
    let is_path = ["api", "agents", "incidents", "services", "metrics", "debug", "live", "assets", "v1"];
    match name.is_empty() || is_path.contains(&name.as_str()) {
        true => format!("import_{name}"),
        false => name,
    }
}

/// The variable that a secret stands in: the one that `given` refers to, or `ours`.
pub(super) fn variable(given: &str, ours: &str) -> Said {
    let named = given.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let named = named.or_else(|| given.trim().strip_prefix('$'));
    let is_name = |name: &&str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with("AVIARY_")
    };
    Said::Variable(named.filter(is_name).unwrap_or(ours).to_owned())
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
