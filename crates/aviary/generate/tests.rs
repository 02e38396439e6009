//! What is written for people, held against the program: the reference, the runbooks, and where links lead.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::Parser as _;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{metrics, reference};
use crate::cli::Cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `directory` whose name ends so, but for what is built or hidden.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let is_ours = !name.starts_with('.') && !name.starts_with("target") && name != "node_modules";
        match entry.file_type().unwrap().is_dir() {
            true if is_ours => found.extend(files(&path, extension)),
            false if path.extension().is_some_and(|it| it == extension) => found.push(path),
            _ => {}
        }
    }
    found
}

/// The Markdown below `directory`, by its path in the repository.
fn documents(directory: &str) -> Vec<(String, String)> {
    let documents = files(&root().join(directory), "md").into_iter().map(|path| {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    documents.collect()
}

fn events(text: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// The headings of a document, as they are read.
fn headings(text: &str) -> Vec<String> {
    let (mut headings, mut is_in) = (Vec::new(), false);
    for event in events(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => {
                is_in = true;
                headings.push(String::new());
            }
            Event::End(TagEnd::Heading(_)) => is_in = false,
            Event::Text(text) | Event::Code(text) if is_in => headings.last_mut().unwrap().push_str(&text),
            _ => {}
        }
    }
    headings
}

/// The lines of a document that are to be typed and begin with `aviary`.
fn commands(text: &str) -> Vec<String> {
    let (mut lines, mut is_in) = (Vec::new(), false);
    for event in events(text) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => is_in = true,
            Event::End(TagEnd::CodeBlock) => is_in = false,
            Event::Text(text) if is_in => {
                lines.extend(text.lines().map(|line| line.trim().to_owned()));
            }
            Event::Code(code) => lines.push(code.to_string()),
            _ => {}
        }
    }
    lines.retain(|line| line.starts_with("aviary "));
    lines
}

/// What a shell makes of a line without variables.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for character in line.chars() {
        match (quote, character) {
            (None, '|' | '#' | '>') => break,
            (None, ' ') => words.push(String::new()),
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (_, character) => words.last_mut().unwrap().push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Each word of `text` that is made of these and begins with `prefix`.
fn named<'t>(text: &'t str, prefix: &str) -> BTreeSet<&'t str> {
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_of_name(character));
    words.filter(|word| word.starts_with(prefix) && word.len() > prefix.len()).collect()
}

#[test]
fn the_reference_is_as_the_code_has_it() {
    let directory = root().join("docs/reference");
    for (name, text) in reference().unwrap() {
        let kept = fs::read(directory.join(&name)).unwrap_or_default();
        assert!(
            kept == text,
            "docs/reference/{name} has drifted: run `cargo run -- generate reference docs/reference`"
        );
    }
    let kept = files(&directory, "md").len();
    assert_eq!(kept, reference().unwrap().len(), "nothing else is there");
}

#[test]
fn every_metric_that_there_is_has_an_example() {
    for (whose, all) in [("agent", metrics::of_agent()), ("collector", metrics::of_collector())] {
        for metric in all.unwrap() {
            assert!(metric.samples > 0, "{whose}: {} has no sample; which labels has it?", metric.name);
        }
    }
    let agent = metrics::of_agent().unwrap();
    let slots = agent.iter().find(|it| it.name == "aviary_agent_slots_total").unwrap();
    assert_eq!(slots.kind, "counter");
    let labels: Vec<&str> = slots.labels.iter().map(String::as_str).collect();
    assert_eq!(labels, ["fault", "outcome", "phase", "protocol", "service"]);
}

#[test]
fn every_runbook_says_what_is_to_be_said() {
    const HEADINGS: [&str; 6] =
        ["What you see", "What it means", "Is anybody hurt?", "Check", "Mend", "Afterwards"];
    let runbooks = documents("docs/runbooks");
    assert!(runbooks.len() > 20, "{}", runbooks.len());
    for (name, text) in runbooks {
        let headings = headings(&text);
        assert_eq!(headings[1..], HEADINGS, "{name}");
        assert!(text.starts_with(&format!("# {}\n", headings[0])), "{name}");
    }
}

#[test]
fn every_alert_leads_to_a_runbook_and_documents_name_alerts_that_there_are() {
    let rules = fs::read_to_string(root().join("deploy/prometheus/rules.yml")).unwrap();
    let said = |key: &str| {
        let lines = rules.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key));
        lines.map(|value| value.trim().to_owned()).collect::<Vec<String>>()
    };
    let (alerts, runbooks) = (said("alert:"), said("runbook_url:"));
    assert!(alerts.len() >= 24 && alerts.len() == runbooks.len(), "{alerts:?}");
    for (alert, runbook) in alerts.iter().zip(&runbooks) {
        let text = fs::read_to_string(root().join(runbook));
        let text = text.unwrap_or_else(|error| panic!("{alert}: {runbook}: {error}"));
        assert!(text.contains(alert.as_str()), "{runbook} does not speak of {alert}");
    }
    for (name, text) in documents("docs") {
        for alert in named(&text, "Aviary") {
            assert!(alerts.iter().any(|it| it == alert), "{name} speaks of {alert}");
        }
    }
}

#[test]
fn every_command_that_documents_name_is_one() {
    let mut seen = 0;
    for (name, text) in documents("docs/runbooks").into_iter().chain(documents("docs")) {
        for line in commands(&text).iter().filter(|_| !name.starts_with("docs/reference")) {
            // A command that is only named has no arguments yet.
            let words = words(line);
            let parsed = Cli::try_parse_from(&words);
            let is_short = |error: &clap::Error| {
                use clap::error::ErrorKind as Kind;
                matches!(
                    error.kind(),
                    Kind::MissingRequiredArgument
                        | Kind::InvalidValue
                        | Kind::DisplayHelpOnMissingArgumentOrSubcommand
                )
            };
            let is_named_only = words.len() <= 4 && parsed.as_ref().is_err_and(is_short);
            assert!(parsed.is_ok() || is_named_only, "{name}: {line}: {}", parsed.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
    assert!(Cli::try_parse_from(words("aviary silence add --match 'region=eu'")).is_err());
}

#[test]
fn every_metric_that_documents_name_is_one() {
    let all: Vec<_> =
        metrics::of_agent().unwrap().into_iter().chain(metrics::of_collector().unwrap()).collect();
    let is_known = |name: &str| all.iter().any(|metric| metric.name == name);
    let mut documents = documents("docs");
    // The reference has names of other things, and is held against the code itself.
    documents.retain(|(name, _)| !name.starts_with("docs/reference"));
    for (name, text) in &documents {
        let ours = named(text, "aviary_").into_iter().chain(named(text, "process_"));
        for metric in ours {
            assert!(is_known(metric), "{name} speaks of {metric}");
        }
    }
    assert!(documents.iter().any(|(_, text)| !named(text, "aviary_").is_empty()));
}

/// What documents say that the log says, it says.
#[test]
fn every_line_of_a_log_that_documents_quote_is_written_somewhere() {
    let sources = files(&root().join("crates"), "rs").into_iter().filter(|path| !path.ends_with(file!()));
    let source: String = sources.map(|path| fs::read_to_string(path).unwrap()).collect();
    // A literal that goes on in the next line is one line of the log.
    let source: String = source.split("\\\n").map(str::trim_start).collect();
    let mut seen = 0;
    for (name, text) in documents("docs") {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // What is quoted as a whole sentence is a line of the log.
        for quoted in text.split('"').skip(1).step_by(2) {
            if quoted.starts_with(char::is_uppercase) && quoted.ends_with('.') {
                assert!(source.contains(quoted), "{name}: nothing logs {quoted:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "{seen}");
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let slug = |heading: &String| {
        let kept = heading.to_lowercase();
        let kept = kept.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
        kept.map(|it| if it == ' ' { '-' } else { it }).collect::<String>()
    };
    let mut seen = 0;
    for (name, text) in documents("") {
        let directory = root().join(&name).parent().unwrap().to_owned();
        for event in events(&text) {
            let (Event::Start(Tag::Link { dest_url: to, .. })
            | Event::Start(Tag::Image { dest_url: to, .. })) = event
            else {
                continue;
            };
            if to.contains("://") || to.starts_with("mailto:") {
                continue;
            }
            let (file, part) = to.split_once('#').map_or((&*to, None), |(file, part)| (file, Some(part)));
            let target = if file.is_empty() { root().join(&name) } else { directory.join(file) };
            assert!(target.exists(), "{name} links to {to}");
            if let Some(part) = part {
                let headings = headings(&fs::read_to_string(target).unwrap());
                assert!(headings.iter().map(slug).any(|it| it == part), "{name} links to {to}: {headings:?}");
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}
