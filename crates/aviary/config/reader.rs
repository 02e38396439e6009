//! Reads a table of the configuration key by key, and collects what is wrong with it instead of stopping at the first.
//!
//! What a section asks its [`Reader`] for is the whole description of the language: the keys that exist (all others are
//! problems), what each must be, and what it is for. Read without a document, the same calls give the JSON schema.

use std::path::Path;

use serde_json::{Value as Json, json};
use toml::de::{DeTable, DeValue};

use super::{
    Environment,
    context::{Context, Given, Overridable, Refusal, Value},
    environment,
    kind::Kind,
    source::{self, Source},
};

/// The sections that may come from the environment alone, so that one file serves a fleet. A role does not start
/// because of a variable.
const FROM_ENVIRONMENT_ALONE: [&str; 2] = ["log", "vantage"];

/// A key that a reader was asked for.
struct Asked {
    key: &'static str,
    about: &'static str,
    required: bool,
    /// Whether it is a table, whose keys may be overridden one by one.
    is_table: bool,
    schema: Json,
}

/// Reads one table.
pub(crate) struct Reader<'r> {
    context: &'r Context<'r>,
    table: &'r DeTable<'r>,
    path: &'r str,
    /// What the variables begin with that override keys of this table, where any do.
    variables: Option<&'r str>,
    asked: Vec<Asked>,
}

impl<'r> Reader<'r> {
    /// Reads the document `table` with `read`. Whatever `read` does not ask for is an unknown key.
    pub(crate) fn read<T>(
        context: &'r Context<'r>,
        table: &'r DeTable<'r>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        Self::read_at(context, table, "", Some(environment::PREFIX), read)
    }

    /// Reads `table`, which stands at `path` and whose keys are overridden by variables that begin with `variables`.
    pub(crate) fn read_at<T>(
        context: &'r Context<'r>,
        table: &'r DeTable<'r>,
        path: &'r str,
        variables: Option<&'r str>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut reader = Self { context, table, path, variables, asked: Vec::new() };
        let value = read(&mut reader);
        reader.refuse_unknown_keys();
        if let Some(prefix) = variables {
            let keys = reader.asked.iter().map(|asked| asked.key).collect();
            context.overridable(Overridable { prefix: prefix.to_owned(), path: path.to_owned(), keys });
        }
        value
    }

    /// The JSON schema of the table that `read` reads.
    pub(crate) fn describe<T>(read: impl FnOnce(&mut Reader<'_>) -> T) -> Json {
        let (source, environment) = (Source::new(Path::new(""), String::new()), Environment::default());
        let nothing = DeTable::new();
        let context = Context::describing(&source, &nothing, &environment);
        let mut reader =
            Reader { context: &context, table: &nothing, path: "", variables: None, asked: Vec::new() };
        read(&mut reader);

        let mut properties = serde_json::Map::new();
        let mut required = Vec::new();
        for Asked { key, about, required: is_required, mut schema, .. } in reader.asked {
            if let Json::Object(schema) = &mut schema {
                schema.insert("description".to_owned(), about.into());
            }
            properties.insert(key.to_owned(), schema);
            if is_required {
                required.push(key);
            }
        }
        let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }

    /// What every reader of this file shares.
    pub(crate) fn context(&self) -> &'r Context<'r> {
        self.context
    }

    /// The path of `key` in this table.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the table has no key at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether `key` is given, rightly or wrongly.
    pub(crate) fn has(&self, key: &str) -> bool {
        let is_table = self.asked.iter().any(|asked| asked.key == key && asked.is_table);
        self.is_given(key, is_table)
    }

    fn is_given(&self, key: &str, is_table: bool) -> bool {
        self.table.contains_key(key)
            || self.override_of(key).is_some()
            || (is_table && self.is_from_environment(key))
    }

    /// Whether variables override keys of the table under `key`, which the file need not have then.
    fn is_from_environment(&self, key: &str) -> bool {
        let may_be = !self.path.is_empty() || FROM_ENVIRONMENT_ALONE.contains(&key);
        may_be && self.variables_of(key).is_some_and(|prefix| self.context.has_variable(&prefix))
    }

    /// What the variables begin with that override keys of the table under `key`.
    fn variables_of(&self, key: &str) -> Option<String> {
        Some(format!("{}{}_", self.variables?, environment::upper(key)))
    }

    /// The value of a key that may be absent; `about` says what it is for.
    pub(crate) fn optional<K: Kind>(
        &mut self,
        key: &'static str,
        about: &'static str,
        kind: K,
    ) -> Option<K::Output> {
        self.ask(key, about, false, kind)
    }

    /// The value of a key that must be there. `None` is accounted for by a problem.
    pub(crate) fn required<K: Kind>(
        &mut self,
        key: &'static str,
        about: &'static str,
        kind: K,
    ) -> Option<K::Output> {
        if !self.is_given(key, kind.is_table()) {
            let message = format!("`{key}` is missing{}", self.named_place(" in"));
            let example = kind.example(&without_indexes(&self.path_of(key)));
            self.refuse(key, Refusal::new(message).help(format!("{about}: add {example}")));
        }
        self.ask(key, about, true, kind)
    }

    /// Refuses what stands under `key`, or misses there.
    pub(crate) fn refuse(&self, key: &str, refusal: Refusal) {
        self.context.refuse(&self.path_of(key), refusal);
    }

    /// Says something of what stands under `key` that is no reason to fail.
    pub(crate) fn note(&self, key: &str, refusal: Refusal) {
        self.context.note(&self.path_of(key), refusal);
    }

    /// Refuses the table as a whole.
    pub(crate) fn refuse_whole(&self, refusal: Refusal) {
        self.context.refuse(self.path, refusal);
    }

    fn ask<K: Kind>(
        &mut self,
        key: &'static str,
        about: &'static str,
        required: bool,
        kind: K,
    ) -> Option<K::Output> {
        // Only when described: a schema for each of ten thousand endpoints is a waste.
        let schema = if self.context.is_describing() { kind.schema() } else { Json::Null };
        let is_table = kind.is_table();
        self.asked.push(Asked { key, about, required, is_table, schema });

        let path = self.path_of(key);
        if let Some((name, text)) = self.override_of(key) {
            let written = (!kind.is_secret()).then(|| kind.written(text));
            self.context.remember_override(&path, &name, written);
            let value = Value { given: Given::Variable(text), path: &path, variables: None };
            return kind.read(value, self.context);
        }
        let value = match self.table.get(key) {
            Some(value) => {
                self.context.remember(&path, value.span());
                value.get_ref()
            }
            None if is_table && self.is_from_environment(key) => self.context.absent(),
            None => return None,
        };
        let variables = self.variables_of(key);
        let value = Value { given: Given::Toml(value), path: &path, variables: variables.as_deref() };
        kind.read(value, self.context)
    }

    /// The variable that overrides `key`, with its text.
    fn override_of(&self, key: &str) -> Option<(String, &'r str)> {
        // A section is no scalar, and what has a name in a list is known to the environment by that name.
        if self.path.is_empty() || (key == "name" && self.path.ends_with(']')) {
            return None;
        }
        let name = format!("{}{}", self.variables?, environment::upper(key));
        let overriding = |name: String| Some((self.context.overriding(&name)?, name));
        let by_its_name = overriding(name.clone());
        let older = || (name == environment::LOG_LEVEL).then(|| overriding(environment::LOG.to_owned()))?;
        let (text, name) = by_its_name.or_else(older)?;
        Some((name, text))
    }

    fn refuse_unknown_keys(&self) {
        for (key, value) in self.table {
            let key_text: &str = key.get_ref();
            if self.asked.iter().any(|asked| asked.key == key_text) {
                continue;
            }
            let what = if self.path.is_empty() && !is_scalar(value.get_ref()) { "section" } else { "key" };
            self.context.remember(&self.path_of(key_text), key.span());
            let message = format!("unknown {what} `{}`", source::quotable(key_text));
            let keys: Vec<&str> = self.asked.iter().map(|asked| asked.key).collect();
            let help = match closest(key_text, keys.iter().copied()) {
                Some(key) => format!("did you mean `{key}`?"),
                None if what == "section" => format!("the sections are {}", keys.join(", ")),
                None if self.path.is_empty() => {
                    format!("keys stand in sections, which are {}", keys.join(", "))
                }
                None => format!("the keys{} are {}", self.named_place(" of"), keys.join(", ")),
            };
            self.refuse(key_text, Refusal::new(message).help(help));
        }
    }

    fn named_place(&self, preposition: &str) -> String {
        match self.path {
            "" => String::new(),
            path => format!("{preposition} [{}]", without_indexes(path)),
        }
    }
}

/// The known name that `given` most probably stands for.
pub(crate) fn closest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let given = given.to_ascii_lowercase();
    let tolerated = |name: &str| given.chars().count().max(name.chars().count()).div_ceil(4);
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&given, name), name))
        .filter(|(distance, name)| *distance <= tolerated(name))
        .min()
        .map(|(_, name)| name)
}

/// `service[0].readback` as the header has it: `service.readback`.
pub(super) fn without_indexes(path: &str) -> String {
    path.split(['[', ']']).step_by(2).collect()
}

fn is_scalar(value: &DeValue<'_>) -> bool {
    !value.is_table() && !value.is_array()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        kind::{Boolean, Decimal, Either, Or, Whole, choice, list, section, some},
        problem::Problem,
        scalar,
    };

    /// What `read` makes of `text`, and the problems as `LINE:COLUMN MESSAGE`.
    fn read<T>(text: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> (T, Vec<String>) {
        let (source, environment) =
            (Source::new(Path::new("a.toml"), text.to_owned()), Environment::default());
        let document = DeTable::parse(text).unwrap();
        let context = Context::new(&source, document.get_ref(), &environment, "host");
        let value = Reader::read(&context, document.get_ref(), read);
        let shown = |problem: Problem| {
            let at = match problem.location {
                crate::config::problem::Location::Line(excerpt) => {
                    format!("{}:{}", excerpt.line, excerpt.column)
                }
                other => format!("{other:?}"),
            };
            format!("{at} {}", problem.message)
        };
        (value, context.into_problems().into_iter().map(shown).collect())
    }

    #[test]
    fn values_of_every_kind_are_read() {
        let text =
            "a = true\nb = 0x10\nc = 1.5\nd = \"two\"\ne = [\"x\", \"y\"]\nf = 3\n[g]\nh = 1\n[[i]]\n[[i]]\n";
        let (_, problems) = read(text, |reader| {
            assert_eq!(reader.optional("a", "", Boolean), Some(true));
            assert_eq!(reader.optional("b", "", Whole(16)), Some(16));
            assert_eq!(reader.optional("c", "", Decimal(1.5)), Some(1.5));
            assert_eq!(reader.required("d", "", choice([("one", 1), ("two", 2)])), Some(2));
            let items = reader.optional("e", "", some(scalar::line("x"))).unwrap();
            assert_eq!(items.iter().map(|item| item.path.as_str()).collect::<Vec<_>>(), ["e[0]", "e[1]"]);
            assert_eq!(reader.optional("f", "", Either(Boolean, Whole(0))), Some(Or::Second(3)));
            assert_eq!(
                reader.optional("g", "", section(|reader| reader.required("h", "", Whole(0)))),
                Some(1)
            );
            assert_eq!(reader.optional("i", "", list(section(|_| Some(())))).unwrap().len(), 2);
            assert_eq!(reader.optional("absent", "", Boolean), None);
        });
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn every_problem_is_said_in_the_order_of_the_file() {
        let text = "z = 1\na = 2\n[g]\nx = 3\nb = -1\n[[i]]\n[[i]]\nc = [1, \"x\", 2]\n";
        let (_, problems) = read(text, |reader| {
            reader.optional("i", "", list(section(|reader| reader.optional("c", "", list(Boolean)))));
            reader.optional("g", "", section(|reader| reader.required("b", "", Whole(0))));
            reader.optional("a", "", Boolean);
            reader.required("missing", "", Boolean);
        });
        assert_eq!(
            problems,
            [
                "1:1 unknown key `z`",
                "2:5 expected true or false, found an integer",
                "4:1 unknown key `x`",
                "5:5 expected a whole number of at least 0, found -1",
                "8:6 expected true or false, found an integer",
                "8:9 expected true or false, found text",
                "8:14 expected true or false, found an integer",
                "File `missing` is missing",
            ]
        );
    }

    #[test]
    fn a_misspelt_name_is_close_to_the_right_one() {
        let known = ["region", "zone", "network", "kind", "node"];
        let table = [
            ("regoin", Some("region")),
            ("Region", Some("region")),
            ("regions", Some("region")),
            ("nod", Some("node")),
            ("mode", Some("node")),
            ("colour", None),
            ("", None),
        ];
        for (given, expected) in table {
            assert_eq!(closest(given, known), expected, "{given}");
        }
    }

    #[test]
    fn the_same_calls_describe_the_language() {
        let schema = Reader::describe(|reader| {
            reader.required("a", "whether", Boolean);
            reader.optional("b", "which", list(section(|reader| reader.optional("c", "how many", Whole(1)))));
        });
        let expected = json!({
            "type": "object", "additionalProperties": false, "required": ["a"],
            "properties": {
                "a": { "type": "boolean", "description": "whether" },
                "b": { "type": "array", "description": "which", "items": {
                    "type": "object", "additionalProperties": false,
                    "properties": { "c": { "type": "integer", "minimum": 1, "description": "how many" } },
                } },
            },
        });
        assert_eq!(schema, expected);
    }
}
