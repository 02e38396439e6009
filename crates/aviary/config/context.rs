//! What the reading of one file shares: where everything stands, what the environment overrides, and what is wrong.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    Environment, environment,
    problem::{Level, Location, Problem},
    reader::{closest, without_indexes},
    source::Source,
};

/// Why a value is refused, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What is wrong.
    pub(crate) message: String,
    /// What would be right.
    pub(crate) help: Option<String>,
}

impl Refusal {
    /// A refusal without a remedy, for messages that name it themselves.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// The same with a remedy.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// Where a value stands.
#[derive(Clone, Debug)]
enum Place {
    Span(Range<usize>),
    Variable(String),
}

/// A value as it was given, secret or not: no `Debug`.
#[derive(Clone, Copy)]
pub(crate) enum Given<'v> {
    /// In the file.
    Toml(&'v DeValue<'v>),
    /// In the environment.
    Variable(&'v str),
}

/// A value with the path of its key, such as `service[0].endpoints[2]`.
#[derive(Clone, Copy)]
pub(crate) struct Value<'v> {
    /// What was given.
    pub(crate) given: Given<'v>,
    /// Where in the configuration.
    pub(crate) path: &'v str,
    /// What the variables begin with that override what is inside, where any do.
    pub(crate) variables: Option<&'v str>,
}

impl<'v> Value<'v> {
    /// The text, if it is text.
    pub(crate) fn text(self) -> Option<&'v str> {
        match self.given {
            Given::Toml(value) => value.as_str(),
            Given::Variable(text) => Some(text),
        }
    }

    /// The TOML value, if it came from the file.
    pub(crate) fn toml(self) -> Option<&'v DeValue<'v>> {
        match self.given {
            Given::Toml(value) => Some(value),
            Given::Variable(_) => None,
        }
    }

    /// What type of value this is, with its article.
    pub(crate) fn type_name(self) -> &'static str {
        match self.given {
            Given::Variable(_) => "the text of a variable",
            Given::Toml(DeValue::String(_)) => "text",
            Given::Toml(DeValue::Integer(_)) => "an integer",
            Given::Toml(DeValue::Float(_)) => "a decimal number",
            Given::Toml(DeValue::Boolean(_)) => "a boolean",
            Given::Toml(DeValue::Datetime(_)) => "a date",
            Given::Toml(DeValue::Array(_)) => "an array",
            Given::Toml(DeValue::Table(_)) => "a table",
        }
    }
}

/// A table whose keys can be overridden by variables.
pub(super) struct Overridable {
    /// What those variables begin with, such as `AVIARY_AGENT_`.
    pub(super) prefix: String,
    /// Where the table stands; empty for the document itself.
    pub(super) path: String,
    /// Its keys.
    pub(super) keys: Vec<&'static str>,
}

/// What every reader of one file shares.
pub(crate) struct Context<'c> {
    source: &'c Source,
    /// The directory that relative paths start from.
    directory: &'c Path,
    /// Whether the text came over the network: what it may refer to on this host is restricted.
    is_foreign: bool,
    environment: &'c Environment,
    /// The host's name, the default of `vantage.node`.
    pub(crate) host: &'c str,
    /// Variables that the file itself names, as in `{ env = "AVIARY_AGENT_TOKEN" }`: never overrides.
    named_variables: BTreeSet<String>,
    places: RefCell<BTreeMap<String, Place>>,
    overrides: RefCell<BTreeMap<String, toml::Value>>,
    /// The variables that were taken, each with the path of what it overrides.
    taken: RefCell<BTreeMap<String, String>>,
    overridable: RefCell<Vec<Overridable>>,
    files: RefCell<BTreeSet<PathBuf>>,
    problems: RefCell<Vec<(usize, Problem)>>,
    absent: DeValue<'static>,
    /// Whether nothing is read, and the language itself is asked for.
    describing: bool,
}

impl<'c> Context<'c> {
    /// For reading `document`, the parsed text of `source`.
    pub(crate) fn new(
        source: &'c Source,
        document: &DeTable<'_>,
        environment: &'c Environment,
        host: &'c str,
    ) -> Self {
        let mut named_variables = BTreeSet::new();
        collect_named_variables(document, &mut named_variables);
        Self {
            source,
            directory: source.path().parent().unwrap_or_else(|| Path::new("")),
            is_foreign: false,
            environment,
            host,
            named_variables,
            places: RefCell::default(),
            overrides: RefCell::default(),
            taken: RefCell::default(),
            overridable: RefCell::default(),
            files: RefCell::default(),
            problems: RefCell::default(),
            absent: DeValue::Table(DeTable::new()),
            describing: false,
        }
    }

    /// For asking what the language is, without a document.
    pub(super) fn describing(
        source: &'c Source,
        nothing: &DeTable<'_>,
        environment: &'c Environment,
    ) -> Self {
        Self { describing: true, ..Self::new(source, nothing, environment, "") }
    }

    /// Whether nothing is read, and the language itself is asked for.
    pub(super) fn is_describing(&self) -> bool {
        self.describing
    }

    /// The section that the file does not have.
    pub(super) fn absent(&self) -> &DeValue<'static> {
        &self.absent
    }

    /// The same for a text that came over the network, whose references are to files in `directory`.
    pub(super) fn foreign(self, directory: &'c Path) -> Self {
        Self { directory, is_foreign: true, ..self }
    }

    /// Whether the text came over the network.
    pub(super) fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// The path that is written as `path`.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// The file that is written as `path`, which is remembered as one that the configuration is made of.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        let path = self.beside(path);
        self.files.borrow_mut().insert(path.clone());
        path
    }

    /// The files that the configuration refers to and is made of, whether or not they could be read.
    pub(super) fn files(&self) -> BTreeSet<PathBuf> {
        self.files.borrow().clone()
    }

    /// The variable `name` of the environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&'c str> {
        self.environment.get(name)
    }

    /// The text of the variable `name`, unless the file names it for another purpose.
    pub(super) fn overriding(&self, name: &str) -> Option<&'c str> {
        self.variable(name).filter(|_| !self.named_variables.contains(name))
    }

    /// Whether a variable is set that begins with `prefix` and is ours.
    pub(super) fn has_variable(&self, prefix: &str) -> bool {
        let is_log_level = prefix == environment::LOG_PREFIX && self.overriding(environment::LOG).is_some();
        is_log_level || self.environment.beginning(prefix).any(|name| !self.named_variables.contains(name))
    }

    /// Notes that `table` has been read, and what could have been overridden in it.
    pub(super) fn overridable(&self, table: Overridable) {
        self.overridable.borrow_mut().push(table);
    }

    /// Notes where `path` stands.
    pub(super) fn remember(&self, path: &str, span: Range<usize>) {
        self.places.borrow_mut().insert(path.to_owned(), Place::Span(span));
    }

    /// Notes that the variable `name` speaks of `path`.
    pub(super) fn remember_variable(&self, path: &str, name: &str) {
        self.places.borrow_mut().insert(path.to_owned(), Place::Variable(name.to_owned()));
    }

    /// Notes that the variable `name` overrides `path` by `value`, or by a secret.
    pub(super) fn remember_override(&self, path: &str, name: &str, value: Option<toml::Value>) {
        self.remember_variable(path, name);
        self.overrides.borrow_mut().extend(value.map(|value| (path.to_owned(), value)));
        let earlier = self.taken.borrow_mut().insert(name.to_owned(), path.to_owned());
        if let Some(earlier) = earlier.filter(|earlier| earlier != path) {
            let message = format!("the variable {name} would override {earlier} as well as {path}");
            let help =
                "names that differ only in case, `-` and `_` are one name there: rename one of the two";
            self.refuse(path, Refusal::new(message).help(help));
        }
    }

    /// Refuses the variables for `sections` that override nothing in what has been read: a misspelt one would go
    /// unnoticed otherwise. One for a section or a service that is not there is noted only, since several processes
    /// may share an environment.
    pub(super) fn refuse_unknown_variables(&self, sections: &[&str]) {
        let overridable = self.overridable.take();
        for section in sections {
            let prefix = environment::name(environment::PREFIX, section) + "_";
            for name in self.environment.beginning(&prefix) {
                if self.taken.borrow().contains_key(name) || self.named_variables.contains(name) {
                    continue;
                }
                let inside = overridable.iter().filter(|table| !table.path.is_empty());
                let table = inside
                    .filter(|table| name.starts_with(&table.prefix))
                    .max_by_key(|table| table.prefix.len());
                match table {
                    Some(table) => self.refuse_unknown_variable(name, table),
                    None => {
                        let is_list = self.is_given(&format!("{section}[0]"));
                        let why = match *section {
                            section if is_list => format!("no [[{section}]] has such a name"),
                            "service" => "the file has no [[service]]".to_owned(),
                            section => format!("the file has no [{section}]"),
                        };
                        let path = format!(
                            "{section}.{}",
                            name.strip_prefix(&prefix).unwrap_or_default().to_ascii_lowercase()
                        );
                        self.remember_variable(&path, name);
                        let message = format!("the variable {name} changes nothing: {why}");
                        self.note(&path, Refusal::new(message));
                    }
                }
            }
        }
        self.overridable.replace(overridable);
    }

    fn refuse_unknown_variable(&self, name: &str, table: &Overridable) {
        let Overridable { prefix, path, keys } = table;
        let key = name.strip_prefix(prefix.as_str()).unwrap_or_default().to_ascii_lowercase();
        let place = without_indexes(path);
        let brackets = if path.ends_with(']') { format!("[[{place}]]") } else { format!("[{place}]") };
        let message = format!("the variable {name} overrides no key of {brackets}");
        let help = match closest(&key, keys.iter().copied()) {
            Some(key) => format!("did you mean {}?", environment::name(prefix, key)),
            None => format!("unset it; the keys of {brackets} are {}", keys.join(", ")),
        };
        let path = format!("{path}.{key}");
        self.remember_variable(&path, name);
        self.refuse(&path, Refusal::new(message).help(help));
    }

    /// Refuses what stands at `path`, or misses there.
    pub(crate) fn refuse(&self, path: &str, refusal: Refusal) {
        self.report(Level::Error, path, refusal);
    }

    /// Says something of what stands at `path` that is no reason to fail.
    pub(crate) fn note(&self, path: &str, refusal: Refusal) {
        self.report(Level::Note, path, refusal);
    }

    /// Whether something is given at `path`, rightly or wrongly.
    pub(crate) fn is_given(&self, path: &str) -> bool {
        self.places.borrow().contains_key(path)
    }

    /// The line of what stands at `path`, for a message about another place.
    pub(crate) fn line(&self, path: &str) -> Option<usize> {
        match self.places.borrow().get(path)? {
            Place::Span(span) => Some(self.source.position(span.start).0),
            Place::Variable(_) => None,
        }
    }

    /// Whether anything has been refused so far.
    pub(super) fn is_refused(&self) -> bool {
        self.problems.borrow().iter().any(|(_, problem)| problem.level == Level::Error)
    }

    /// The problems found, in the order of the file.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(offset, _)| *offset);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }

    /// The overrides that were taken, by path, but for those of secrets.
    pub(crate) fn overrides(&self) -> BTreeMap<String, toml::Value> {
        self.overrides.borrow().clone()
    }

    /// What is missing has no place: it is reported where its table begins.
    fn report(&self, level: Level, path: &str, refusal: Refusal) {
        let places = self.places.borrow();
        let place =
            std::iter::successors(Some(path), |path| path.rfind(['.', '[']).and_then(|at| path.get(..at)))
                .find_map(|path| places.get(path));
        let (offset, location) = match place {
            Some(Place::Span(span)) => (span.start, Location::Line(self.source.excerpt(span))),
            Some(Place::Variable(name)) => (usize::MAX, Location::Variable(name.clone())),
            None => (usize::MAX, Location::File),
        };
        let Refusal { message, help } = refusal;
        let (file, key) = (self.source.path().to_owned(), path.to_owned());
        self.problems.borrow_mut().push((offset, Problem { level, file, location, key, message, help }));
    }
}

fn collect_named_variables(table: &DeTable<'_>, found: &mut BTreeSet<String>) {
    fn visit(value: &DeValue<'_>, found: &mut BTreeSet<String>) {
        match value {
            DeValue::Table(table) => collect_named_variables(table, found),
            DeValue::Array(items) => items.iter().for_each(|item| visit(item.get_ref(), found)),
            _ => {}
        }
    }
    for (key, value) in table {
        if let ("env", Some(name)) = (&**key.get_ref(), value.get_ref().as_str()) {
            found.insert(name.to_owned());
        }
        visit(value.get_ref(), found);
    }
}
