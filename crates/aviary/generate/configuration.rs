//! `configuration.md`: every key, from the schema, which is made of the calls that read it.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::cell;
use crate::config::{self, difference::needs_restart};

const HEAD: &str = "\
# Configuration

Made from the code by `aviary generate reference`. The same as a JSON schema, for editors, is
[config/aviary.schema.json](../../config/aviary.schema.json); commented examples are in [config/](../../config/). Unknown keys are
errors; `aviary check` says all problems of a file at once.

A variable `AVIARY_SECTION_KEY` overrides a key, such as `AVIARY_VANTAGE_REGION`; of what has a `name` in a list,
`AVIARY_SERVICE_INGEST_OWNER`. Durations are written such as `90s`, `5m`, `1h`, `30d`. A running process takes up a changed file by itself
and at SIGHUP; `aviary check --against` says what that would change.
";

/// The whole page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    let schema = config::schema();
    for (name, section) in properties(&schema) {
        let is_list = section["type"] == "array";
        let heading = if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
        let table = if is_list { &section["items"] } else { section };
        section_of(&mut page, &heading, name, table, about(section));
    }
    page
}

fn properties(table: &Json) -> impl Iterator<Item = (&str, &Json)> {
    table["properties"].as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

fn about(value: &Json) -> &str {
    value["description"].as_str().unwrap_or_default()
}

/// A table under a heading, and those below it after it.
fn section_of(page: &mut String, heading: &str, path: &str, table: &Json, about: &str) {
    // Writing to memory does not fail.
    _ = write!(page, "\n## `{heading}`\n\n");
    if !about.is_empty() {
        _ = write!(page, "{}.\n\n", capitalised(about));
    }
    page.push_str("| key | value | what it is for |\n|---|---|---|\n");
    let required =
        |key: &str| table["required"].as_array().is_some_and(|keys| keys.iter().any(|it| it == key));
    let mut below = Vec::new();
    for (key, value) in properties(table) {
        let path = format!("{path}.{key}");
        let mut said = format!("{}.", capitalised(self::about(value)));
        if required(key) {
            said.push_str(" **Needed.**");
        }
        if needs_restart(&path) {
            said.push_str(" *Acts after a restart.*");
        }
        _ = writeln!(page, "| `{key}` | {} | {} |", cell(&kind(value, &path, &mut below)), cell(&said));
    }
    for (heading, path, table) in below {
        section_of(page, &heading, &path, table, "");
    }
}

/// What `value` is, in words; a table that it is or may be is told of in a section of its own, which is added to `below`.
fn kind<'a>(value: &'a Json, path: &str, below: &mut Vec<(String, String, &'a Json)>) -> String {
    if let Some(kinds) = value["anyOf"].as_array() {
        let kinds: Vec<String> = kinds.iter().map(|it| kind(it, path, below)).collect();
        return kinds.join(", or ");
    }
    if let Some(names) = value["enum"].as_array() {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        return format!("one of {}", names.join(", "));
    }
    let number = || value["minimum"].to_string();
    match value["type"].as_str() {
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("integer") => format!("a whole number, at least {}", number()),
        Some("number") => format!("a number, at least {}", number()),
        Some("array") if value["items"]["properties"].is_object() => {
            let heading = format!("[[{path}]]");
            below.push((heading.clone(), path.to_owned(), &value["items"]));
            format!("tables, see `{heading}`")
        }
        Some("array") => format!("a list, each {}", kind(&value["items"], path, below)),
        Some("object") if is_secret(value) => {
            let from: Vec<&str> = properties(value).filter_map(|(key, _)| place(key)).collect();
            format!("`{}`", from.join("` or `"))
        }
        Some("object") if value["properties"].is_object() => {
            let heading = format!("[{path}]");
            below.push((heading.clone(), path.to_owned(), value));
            format!("a table, see `{heading}`")
        }
        _ => match value["examples"][0].as_str() {
            Some(example) => format!("such as `\"{example}\"`"),
            None => "a table with keys of your own".to_owned(),
        },
    }
}

/// Whether a table says only where something stands: nothing more is to be told of that.
fn is_secret(table: &Json) -> bool {
    properties(table).all(|(key, _)| place(key).is_some())
}

/// How it is written where something stands.
fn place(key: &str) -> Option<&'static str> {
    match key {
        "file" => Some("{ file = \"PATH\" }"),
        "env" => Some("{ env = \"VARIABLE\" }"),
        "hash" => Some("{ hash = \"sha256:DIGITS\" }"),
        _ => None,
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        // A key at the beginning is as it is written.
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}
