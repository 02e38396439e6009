//! `aviary check`: says everything that is wrong with configuration files, at once.

use std::{io::Write, path::PathBuf};

use clap::Args;

use crate::{
    config::{self, Config, Environment, Level, Problem, Problems},
    output::Format,
};

/// Says every problem in configuration files, each with its line and what would be right.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// The configuration files, each looked at by itself
    #[arg(value_name = "CONFIG", required_unless_present = "schema")]
    files: Vec<PathBuf>,

    /// How to print the problems: for people, or as one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Print the JSON schema of the configuration instead, for editors
    #[arg(long, conflicts_with = "files")]
    schema: bool,
}

/// Prints the problems of the named files to `out`. Returns whether there are none.
///
/// # Errors
///
/// Only where `out` cannot be written to: a file that cannot be read is a problem like others.
pub(crate) fn check(
    arguments: &CheckArguments,
    out: &mut impl Write,
    environment: &Environment,
    host: &str,
) -> anyhow::Result<bool> {
    if arguments.schema {
        serde_json::to_writer_pretty(&mut *out, &config::schema())?;
        writeln!(out)?;
        return Ok(true);
    }
    let mut all_well = true;
    for file in &arguments.files {
        let outcome = config::load(file, environment, host);
        all_well &= outcome.is_ok();
        let problems = match &outcome {
            Ok(config) => &config.notes,
            Err(Problems(problems)) => problems,
        };
        if arguments.format == Format::Json {
            for problem in problems {
                writeln!(out, "{}", problem.to_json()?)?;
            }
            continue;
        }
        for problem in problems {
            writeln!(out, "{problem}")?;
        }
        let summary = match &outcome {
            Ok(config) => format!("no problem: {}", roles(config)),
            Err(Problems(problems)) => count(problems),
        };
        writeln!(out, "{}: {summary}", file.display())?;
    }
    Ok(all_well)
}

/// How many problems there are; notes are none.
fn count(problems: &[Problem]) -> String {
    match problems.iter().filter(|problem| problem.level == Level::Error).count() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    }
}

/// What `aviary run` would run.
fn roles(config: &Config) -> String {
    let mut roles = Vec::new();
    if let Some(agent) = &config.agent {
        let series: usize = config.services.iter().map(|service| service.endpoints.len()).sum();
        roles.push("agent".to_owned());
        roles.push(format!("{series} series"));
        roles.extend(agent.collectors.iter().map(|collector| format!("reporting to {collector}")));
    }
    if let Some(collector) = &config.collector {
        roles.push(format!("collector at {}", collector.listen));
    }
    if let Some(sink) = &config.sink {
        let listeners: Vec<&str> = sink.listeners().map(|(key, _)| key).collect();
        roles.push(format!("sink for {}", listeners.join(", ")));
    }
    roles.join(", ")
}
