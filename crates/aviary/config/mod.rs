//! The configuration: one TOML language for all roles.
//!
//! Each section has a module that says in one place which keys it has, what each must be and what it is for (see
//! [`reader`]); whatever is wrong is collected, with its line, so that all of it is said at once. The program gets
//! plain structs, and only when nothing is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
};

use aviary_core::{VantageKind, page::Route, rollout::Version, silence::Silence};
use toml::de::DeTable;

pub(crate) mod access;
pub(crate) mod agent;
pub(crate) mod alerting;
pub(crate) mod collector;
pub(crate) mod debugging;
pub(crate) mod difference;
pub(crate) mod discovery;
pub(crate) mod endpoint;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod network;
pub(crate) mod readback;
pub(crate) mod receiver;
pub(crate) mod rotation;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod silence;
pub(crate) mod sink;
pub(crate) mod status;
pub(crate) mod steer;
pub(crate) mod vantage;
pub(crate) mod watchdog;

mod context;
mod draft;
mod effective;
mod environment;
mod hours;
mod kind;
mod problem;
mod reach;
mod reader;
mod route;
mod scalar;
mod source;
mod tags;
mod template;
mod values;

pub(crate) use effective::{ServicesText, sha256, version_of};
pub(crate) use environment::Environment;
pub(crate) use problem::{Level, Problem, Problems};

use agent::Agent;
use collector::Collector;
use context::{Context, Refusal};
use draft::{Draft, read_services};
use effective::Effective;
use log::Log;
use problem::Location;
use reader::Reader;
use receiver::Receiver;
use service::Service;
use sink::Sink;
use source::Source;
use vantage::Vantage;

/// The largest file that is read: ten thousand endpoints are a tenth of it.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A configuration without an error.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where probes run from, as far as the file says it.
    pub(crate) vantage: Option<Vantage>,
    /// What to run as an agent.
    pub(crate) agent: Option<Agent>,
    /// What to run as a collector.
    pub(crate) collector: Option<Collector>,
    /// What to run as a sink.
    pub(crate) sink: Option<Sink>,
    /// What is written of the program's life.
    pub(crate) log: Log,
    /// What is probed and judged; empty where that is a collector's to say, and it has not been asked.
    pub(crate) services: Vec<Service>,
    /// Who is told of incidents.
    pub(crate) receivers: Vec<Receiver>,
    /// Which incidents go to whom, the first match first; without any, every incident goes to every receiver.
    pub(crate) routes: Vec<Route>,
    /// What nobody is to be paged about. Some may have ended: no clock is asked here.
    pub(crate) silences: Vec<Silence>,
    /// Of a collector: the services as it hands them out to agents, in TOML.
    pub(crate) services_document: Option<String>,
    /// Of an agent: the version of the services that a collector handed out.
    pub(crate) services_version: Option<Version>,
    /// What is worth knowing and no reason to fail, to be logged.
    pub(crate) notes: Vec<Problem>,
    /// Sixteen hexadecimal digits that change with what is configured, and not with comments, order or secrets.
    pub(crate) version: String,
    /// The files that it was read from, its own and those that it refers to: when one changes, so may the whole.
    pub(crate) files: BTreeSet<PathBuf>,
}

impl Config {
    /// The kind of vantage that this process probes from, if it probes.
    pub(crate) fn kind(&self) -> Option<VantageKind> {
        self.vantage.as_ref().filter(|_| self.agent.is_some()).map(|vantage| vantage.kind)
    }
}

/// Reads the configuration in the file at `path`, with the overrides of `environment`, on the host called `host`.
///
/// # Errors
///
/// Everything that is wrong with it, the notes included, in the order of the file.
pub(crate) fn load(path: &Path, environment: &Environment, host: &str) -> Result<Config, Problems> {
    parse(path, read(path)?, None, environment, host)
}

/// As [`load`], for an agent whose services come from a collector: as if `services` stood in its file.
///
/// # Errors
///
/// As [`load`]; problems of the services are said with their origin in the place of a file.
pub(crate) fn load_with_services(
    path: &Path,
    services: &ServicesText,
    environment: &Environment,
    host: &str,
) -> Result<Config, Problems> {
    parse(path, read(path)?, Some(services), environment, host)
}

/// Reads the configuration `text`, which stands at `path`.
fn parse(
    path: &Path,
    text: String,
    services: Option<&ServicesText>,
    environment: &Environment,
    host: &str,
) -> Result<Config, Problems> {
    let mut source = Source::new(path, text.clone());
    let document = parse_toml(&mut source, &text)?;
    let document = document.get_ref();
    let context = Context::new(&source, document, environment, host);
    let mut draft = Reader::read(&context, document, Draft::read);
    draft.refuse_two_lists(&context);
    let asks_collector = draft.agent.as_ref().is_some_and(|agent| agent.services_from_collector);
    let mut sections = Draft::SECTIONS.to_vec();
    sections.retain(|section| *section != "service" || !(asks_collector || draft.services_file.is_some()));
    context.refuse_unknown_variables(&sections);
    let mut effective = Effective::new(&text, context.overrides());
    let mut files = context.files();
    files.insert(path.to_owned());

    let services = services.filter(|_| asks_collector);
    let services_version = services.map(|services| version_of(&services.text));
    let elsewhere = match (services, &draft.services_file) {
        (Some(services), _) => Some((PathBuf::from(&services.origin), services.text.clone())),
        (None, Some(file)) => match text_of(file) {
            Ok(text) => {
                files.insert(file.clone());
                Some((file.clone(), text))
            }
            Err(refusal) => {
                context.refuse("services.file", refusal);
                return Err(Problems(context.into_problems()));
            }
        },
        (None, None) => None,
    };
    let mut problems_elsewhere = Vec::new();
    match elsewhere {
        None => {
            let here = &context;
            draft.refuse_contradictions(here, here);
        }
        Some((origin, text)) => {
            let mut source = Source::new(&origin, text.clone());
            let document = parse_toml(&mut source, &text)?;
            let document = document.get_ref();
            let there = Context::new(&source, document, environment, host);
            let directory = path.parent().unwrap_or_else(|| Path::new(""));
            let there = if asks_collector { there.foreign(directory) } else { there };
            let services = Reader::read(&there, document, read_services);
            draft.include(services, !asks_collector && there.is_given("service"));
            there.refuse_unknown_variables(&["service"]);
            draft.refuse_contradictions(&context, &there);
            if asks_collector {
                effective.add_services(&text, there.overrides());
            } else {
                effective.include_services(&text, there.overrides());
            }
            files.extend(there.files());
            problems_elsewhere = there.into_problems();
        }
    }
    let mut problems = context.into_problems();
    problems.extend(problems_elsewhere);
    if problems.iter().any(|problem| problem.level == Level::Error) {
        return Err(Problems(problems));
    }
    Ok(Config {
        services_document: draft.collector.as_ref().map(|_| effective.services_document()),
        version: effective.version(),
        services_version,
        vantage: draft.vantage,
        agent: draft.agent,
        collector: draft.collector,
        sink: draft.sink,
        log: draft.log.unwrap_or_default(),
        services: draft.services.into_iter().map(|draft| draft.value.service).collect(),
        receivers: draft.receivers.into_iter().filter_map(|draft| draft.value.receiver).collect(),
        routes: draft.routes.into_iter().map(|draft| draft.value.route).collect(),
        silences: draft.silences.into_iter().filter_map(|draft| draft.value.silence).collect(),
        notes: problems,
        files,
    })
}

/// The document that `text` is, and its secrets hidden in `source`.
fn parse_toml<'t>(source: &mut Source, text: &'t str) -> Result<toml::Spanned<DeTable<'t>>, Problems> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        source.hide(source::secrets_of(document.get_ref()));
        return Ok(document);
    }
    // What a broken file says beside is guesswork: its other problems wait until it can be read.
    source.hide(source::possible_secrets_of(text));
    Err(Problems(syntax_problems(source, &errors)))
}

/// The JSON schema of the language, for editors.
pub(crate) fn schema() -> serde_json::Value {
    let mut schema = Reader::describe(Draft::read);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "aviary".into();
    schema
}

/// The text of the configuration at `path`. A pipe will do, as in `aviary check <(...)`.
fn read(path: &Path) -> Result<String, Problems> {
    text_of(path).map_err(|Refusal { message, help }| {
        Problems(vec![Problem::of_file(path, message, help.unwrap_or_default())])
    })
}

/// The text of a file of the configuration.
fn text_of(path: &Path) -> Result<String, Refusal> {
    let unreadable = |error: std::io::Error| {
        Refusal::new(format!("cannot read the configuration: {}", secret::io_text(&error)))
            .help("name an existing file that this user may read")
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Refusal::new("the file is larger than 16 MiB").help("name the right file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let message =
            format!("the file is not UTF-8 text: byte {} is none", error.utf8_error().valid_up_to() + 1);
        Refusal::new(message).help("save it as UTF-8, or name the right file")
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

#[cfg(test)]
mod tests;
