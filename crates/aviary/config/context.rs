//! What the reading of one file shares: where everything stands, what the environment overrides, and what is wrong.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

use toml::de::{DeTable, DeValue};

use super::{
    Environment,
    problem::{Level, Location, Problem},
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

/// What every reader of one file shares.
pub(crate) struct Context<'c> {
    source: &'c Source,
    environment: &'c Environment,
    /// The host's name, the default of `vantage.node`.
    pub(crate) host: &'c str,
    /// Variables that the file itself names, as in `{ env = "AVIARY_AGENT_TOKEN" }`: never overrides.
    named_variables: BTreeSet<String>,
    places: RefCell<BTreeMap<String, Place>>,
    overrides: RefCell<BTreeMap<String, String>>,
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
            environment,
            host,
            named_variables,
            places: RefCell::default(),
            overrides: RefCell::default(),
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

    /// The directory that relative paths in the file start from.
    pub(crate) fn directory(&self) -> &Path {
        self.source.path().parent().unwrap_or_else(|| Path::new(""))
    }

    /// The variable `name` of the environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&'c str> {
        self.environment.get(name)
    }

    /// The text of the variable `name`, unless the file names it for another purpose.
    pub(super) fn overriding(&self, name: &str) -> Option<&'c str> {
        self.variable(name).filter(|_| !self.named_variables.contains(name))
    }

    /// The variables that override keys of `[section]`, with those keys.
    pub(super) fn overrides_of(&self, section: &str) -> impl Iterator<Item = (&'c str, String)> {
        let is_named = |name: &str| self.named_variables.contains(name);
        self.environment.of_section(section).into_iter().filter(move |(name, _)| !is_named(name))
    }

    /// Notes where `path` stands.
    pub(super) fn remember(&self, path: &str, span: Range<usize>) {
        self.places.borrow_mut().insert(path.to_owned(), Place::Span(span));
    }

    /// Notes that the variable `name` speaks of `path`.
    pub(super) fn remember_variable(&self, path: &str, name: &str) {
        self.places.borrow_mut().insert(path.to_owned(), Place::Variable(name.to_owned()));
    }

    /// Notes that the variable `name` overrides `path` by `text`, which is empty for a secret.
    pub(super) fn remember_override(&self, path: &str, name: &str, text: &str) {
        self.remember_variable(path, name);
        self.overrides.borrow_mut().insert(path.to_owned(), text.to_owned());
    }

    /// Whether what stands at `path` begins with `start`.
    pub(super) fn begins(&self, path: &str, start: &str) -> bool {
        matches!(self.places.borrow().get(path), Some(Place::Span(span)) if self.source.begins(span, start))
    }

    /// Whether the last problem is one of `path`, or of a part of it.
    pub(super) fn is_last_refused(&self, path: &str) -> bool {
        self.problems.borrow().last().is_some_and(|(_, problem)| problem.key.starts_with(path))
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

    /// The problems found, in the order of the file.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(offset, _)| *offset);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }

    /// The overrides that were taken, by path; those of secrets without their value.
    pub(crate) fn overrides(&self) -> BTreeMap<String, String> {
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
