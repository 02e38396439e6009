//! The configuration: one TOML language for all roles.
//!
//! Each section has a module that says in one place which keys it has, what each must be and what it is for (see
//! [`reader`]); whatever is wrong is collected, with its line, so that all of it is said at once. The program gets
//! plain structs, and only when nothing is wrong.
//!
//! A key that this version does not act on is read like any other and followed by `reader.not_yet(...)`, which makes a
//! note of it. The version that acts on it deletes that line.

use std::{collections::BTreeMap, ffi::OsString, io::Read, net::SocketAddr, path::Path};

use aviary_core::{Vantage, fnv::fnv1a};
use toml::de::{DeTable, DeValue};

pub(crate) mod agent;
pub(crate) mod collector;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod sink;

mod context;
mod kind;
mod paging;
mod problem;
mod reader;
mod scalar;
mod source;

pub(crate) use problem::{Level, Problem, Problems};

use agent::Agent;
use collector::Collector;
use context::{Context, Refusal};
use kind::{At, list, section};
use problem::Location;
use reader::Reader;
use service::Service;
use sink::Sink;
use source::Source;

/// The largest file that is read: ten thousand endpoints are a tenth of it.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The most series of one agent.
const SERIES_MAX: usize = 10_000;

/// A configuration without an error.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where probes run from.
    pub(crate) vantage: Option<Vantage>,
    /// What to run as an agent.
    pub(crate) agent: Option<Agent>,
    /// What to run as a collector.
    pub(crate) collector: Option<Collector>,
    /// What to run as a sink.
    pub(crate) sink: Option<Sink>,
    /// What is probed and judged.
    pub(crate) services: Vec<Service>,
    /// What was understood but is not acted on, to be logged.
    pub(crate) notes: Vec<Problem>,
    /// Sixteen hexadecimal digits that change with what is configured, and not with comments, order or secrets.
    pub(crate) version: String,
}

/// The variables of the environment, as they were when the program started. They may hold secrets: no `Debug`.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variable `name`.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The variable that overrides `key` of `[section]`.
    fn name_of(section: &str, key: &str) -> String {
        format!("AVIARY_{section}_{key}").to_ascii_uppercase()
    }

    /// The variables that override keys of `[section]`, with those keys.
    fn of_section(&self, section: &str) -> Vec<(&str, String)> {
        let prefix = Self::name_of(section, "");
        let key = |name: &str| name.strip_prefix(&prefix).map(str::to_ascii_lowercase);
        self.0
            .keys()
            .filter_map(|name| Some((name.as_str(), key(name).filter(|key| !key.is_empty())?)))
            .collect()
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

/// Reads the configuration in the file at `path`, with the overrides of `environment`, on the host called `host`.
///
/// # Errors
///
/// Everything that is wrong with it, the notes included, in the order of the file.
pub(crate) fn load(path: &Path, environment: &Environment, host: &str) -> Result<Config, Problems> {
    let text = read(path).map_err(|problem| Problems(vec![*problem]))?;
    parse(path, text, environment, host)
}

/// Reads the configuration `text`, which stands at `path`.
///
/// # Errors
///
/// As [`load`].
pub(crate) fn parse(
    path: &Path,
    text: String,
    environment: &Environment,
    host: &str,
) -> Result<Config, Problems> {
    let mut source = Source::new(path, text.clone());
    let (document, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        // What a broken file says beside is guesswork: its other problems wait until it can be read.
        source.hide(source::possible_secrets_of(&text));
        return Err(Problems(syntax_problems(&source, &errors)));
    }
    let document = document.get_ref();
    source.hide(source::secrets_of(document));

    let context = Context::new(&source, document, environment, host);
    let draft = Reader::read(&context, document, "", read_document);
    draft.refuse_contradictions(&context);
    let version = version(document, context.overrides());
    let problems = context.into_problems();
    if problems.iter().any(|problem| problem.level == Level::Error) {
        return Err(Problems(problems));
    }
    Ok(Config {
        vantage: draft.vantage,
        agent: draft.agent,
        collector: draft.collector,
        sink: draft.sink,
        services: draft.services.into_iter().map(|draft| draft.value.service).collect(),
        notes: problems,
        version,
    })
}

/// The JSON schema of the language, for editors.
pub(crate) fn schema() -> serde_json::Value {
    let mut schema = Reader::describe(read_document);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "aviary".into();
    schema
}

/// The text of the file at `path`. A pipe will do, as in `aviary check <(...)`.
fn read(path: &Path) -> Result<String, Box<Problem>> {
    let unreadable = |error: std::io::Error| {
        let message = format!("cannot read the configuration: {}", secret::io_text(&error));
        Box::new(Problem::of_file(path, message, "name an existing file that this user may read"))
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Box::new(Problem::of_file(
            path,
            "the file is larger than 16 MiB",
            "name the right file",
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let message =
            format!("the file is not UTF-8 text: byte {} is none", error.utf8_error().valid_up_to() + 1);
        Box::new(Problem::of_file(path, message, "save it as UTF-8, or name the right file"))
    })
}

/// The parser goes on after an error and may stumble again over the same line: the first of each line is said.
fn syntax_problems(source: &Source, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut by_line = BTreeMap::new();
    for error in errors {
        let excerpt = source.excerpt(&error.span().unwrap_or(0..0));
        let (message, help) = match error.message().split_once(", expected ") {
            Some((message, "literal string" | "nothing")) => (message, None),
            Some((message, expected)) => (message, Some(format!("expected {expected}"))),
            None => (error.message(), None),
        };
        by_line.entry(excerpt.line).or_insert_with(|| Problem {
            level: Level::Error,
            file: source.path().to_owned(),
            location: Location::Line(excerpt),
            key: String::new(),
            message: format!("this is no TOML: {message}"),
            help,
        });
    }
    by_line.into_values().collect()
}

/// The sections as they stand in the file, before they are held against each other.
struct Draft {
    vantage: Option<Vantage>,
    agent: Option<Agent>,
    collector: Option<Collector>,
    sink: Option<Sink>,
    services: Vec<At<service::Draft>>,
    /// The sections that are given, rightly or wrongly.
    given: Vec<&'static str>,
}

fn read_document(reader: &mut Reader<'_>) -> Draft {
    let vantage = reader.optional("vantage", "where probes run from", section(agent::vantage));
    let agent = reader.optional("agent", "probes, and reports to collectors", section(agent::agent));
    let collector =
        reader.optional("collector", "takes reports, sums and judges", section(collector::collector));
    let sink = reader.optional("sink", "the receiving side", section(sink::sink));
    let services = reader.optional("service", "what is probed and judged", list(section(service::service)));
    reader.optional("receiver", "who is paged", list(section(paging::receiver)));
    reader.not_yet("receiver", "does not page yet");
    reader.optional("route", "which incident goes to whom", list(section(paging::route)));
    reader.not_yet("route", "does not page yet");

    let sections = ["vantage", "agent", "collector", "sink", "service"];
    let given = sections.into_iter().filter(|section| reader.has(section)).collect();
    Draft { vantage, agent, collector, sink, services: services.unwrap_or_default(), given }
}

impl Draft {
    fn has(&self, section: &str) -> bool {
        self.given.contains(&section)
    }

    /// What is wrong with the sections taken together.
    fn refuse_contradictions(&self, context: &Context<'_>) {
        if !["agent", "collector", "sink"].iter().any(|role| self.has(role)) {
            let help = "add one of the sections [agent], [collector] and [sink]";
            context.refuse("", Refusal::new("there is nothing to run").help(help));
        }
        if self.agent.is_some() {
            self.refuse_useless_agent(context);
        }
        if self.has("collector") && !self.has("service") {
            let message = "no [[service]] is given: reports are summed, but nothing is judged";
            context.note("collector", Refusal::new(message).help("add the services that the agents probe"));
        }
        self.refuse_equal_listeners(context);
        service::refuse_contradictions(
            &self.services,
            context,
            self.vantage.as_ref(),
            self.has("collector"),
            self.has("sink"),
        );
    }

    fn refuse_useless_agent(&self, context: &Context<'_>) {
        if self.vantage.is_none() && !self.has("vantage") {
            let help = "add [vantage] with at least a region";
            context.refuse("agent", Refusal::new("[agent] does not know where it probes from").help(help));
        }
        if !self.has("service") {
            let help = "add a [[service]] with its endpoints";
            context.refuse("agent", Refusal::new("[agent] has nothing to probe").help(help));
        }
        if !self.has("collector") && !context.is_given("agent.collector") {
            let help =
                "add collector = [\"https://collector.example.net:8610\"], or a [collector] to this file";
            context.refuse("agent", Refusal::new("[agent] has no collector to report to").help(help));
        }
        let series: usize = self.services.iter().map(|draft| draft.value.service.endpoints.len()).sum();
        if series > SERIES_MAX {
            let message = format!("{series} series are too many for one agent: it runs {SERIES_MAX} at most");
            context.refuse(
                "service",
                Refusal::new(message).help("share the endpoints out among several agents"),
            );
        }
    }

    /// TCP and UDP have ports of their own, and any number of listeners may be given free ones.
    fn refuse_equal_listeners(&self, context: &Context<'_>) {
        let of_collector = self.collector.iter().map(|collector| ("collector", "listen", collector.listen));
        let of_sink = self.sink.iter().flat_map(Sink::listeners).map(|(key, address)| ("sink", key, address));
        let listeners: Vec<_> = of_collector.chain(of_sink).collect();
        for (index, (section, key, address)) in listeners.iter().enumerate() {
            let in_the_way = listeners.iter().take(index).find(|(_, earlier_key, earlier)| {
                (*key == "udp") == (*earlier_key == "udp") && are_in_the_way(*address, *earlier)
            });
            if let Some((earlier_section, earlier_key, earlier)) = in_the_way {
                let message =
                    format!("{address} is in the way of {earlier_section}.{earlier_key} at {earlier}");
                let refusal = Refusal::new(message).help("give each listener a port of its own");
                context.refuse(&format!("{section}.{key}"), refusal);
            }
        }
    }
}

/// Whether the system would refuse to listen on both.
fn are_in_the_way(one: SocketAddr, other: SocketAddr) -> bool {
    let any_of_family =
        (one.ip().is_unspecified() || other.ip().is_unspecified()) && one.is_ipv4() == other.is_ipv4();
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || any_of_family)
}

/// FNV-1a over the keys and values in the order of their keys. Of secrets it holds only where they are to be found.
fn version(document: &DeTable<'_>, overrides: BTreeMap<String, String>) -> String {
    let mut effective = BTreeMap::new();
    flatten("", document, &mut effective);
    effective.extend(overrides);
    let line = |(path, value): (String, String)| format!("{path}={value}\n").into_bytes();
    let hash = fnv1a(effective.into_iter().flat_map(line));
    format!("{hash:016x}")
}

fn flatten(path: &str, table: &DeTable<'_>, found: &mut BTreeMap<String, String>) {
    fn visit(path: String, value: &DeValue<'_>, found: &mut BTreeMap<String, String>) {
        let text = match value {
            // That an empty section is there is a difference too.
            DeValue::Table(table) => {
                flatten(&path, table, found);
                String::new()
            }
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    visit(format!("{path}[{index}]"), item.get_ref(), found);
                }
                return;
            }
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) => integer.to_string(),
            DeValue::Float(float) => float.to_string(),
            DeValue::Boolean(boolean) => boolean.to_string(),
            DeValue::Datetime(time) => time.to_string(),
        };
        found.insert(path, text);
    }
    for (key, value) in table {
        let separator = if path.is_empty() { "" } else { "." };
        visit(format!("{path}{separator}{}", key.get_ref()), value.get_ref(), found);
    }
}

#[cfg(test)]
mod tests;
