//! `aviary check`: says everything that is wrong with configuration files, at once.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use crate::{
    config::{
        self, Config, Environment, Level, Problem, Problems,
        difference::{Difference, SeriesName, between},
        discovery::Discovery,
        limits::{self, HostLimits},
    },
    cost,
    output::Format,
};

/// How many series of one kind are named for people; more are counted.
const NAMED_MAX: usize = 20;

/// How many are named for programs.
const NAMED_IN_JSON_MAX: usize = 1_000;

/// Says every problem in configuration files, each with its line and what would be right.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// The configuration files, each looked at by itself
    #[arg(value_name = "CONFIG", required_unless_present = "schema")]
    files: Vec<PathBuf>,

    /// Say what a reload would change in a process that runs with this file, if CONFIG took its place
    #[arg(long, value_name = "RUNNING", conflicts_with = "schema")]
    against: Option<PathBuf>,

    /// Say what probing costs an agent with this file, and a fleet of them: traffic, connections, ports and storage
    #[arg(long, conflicts_with = "schema")]
    cost: bool,

    /// How many agents there are
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "cost", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    agents: u64,

    /// In how many regions they are, each with a NAT
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "cost", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    regions: u64,

    /// How many bytes of certificates, with the tickets of OpenSSL, an endpoint sends in a handshake
    #[arg(long, value_name = "BYTES", default_value_t = cost::CHAIN, requires = "cost", value_parser = clap::value_parser!(u64).range(..=100_000))]
    chain: u64,

    /// How to print the problems: for people, or as one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Print the JSON schema of the configuration instead, for editors
    #[arg(long, conflicts_with = "files")]
    schema: bool,
}

/// Prints the problems of the named files to `out`, and what they would change. Returns whether there are none.
///
/// # Errors
///
/// Only where `out` cannot be written to: a file that cannot be read is a problem like others.
pub(crate) fn check(
    arguments: &CheckArguments,
    out: &mut impl Write,
    environment: &Environment,
    host: &str,
    limits: &HostLimits,
) -> anyhow::Result<bool> {
    if arguments.schema {
        serde_json::to_writer_pretty(&mut *out, &config::schema())?;
        writeln!(out)?;
        return Ok(true);
    }
    let mut all_well = true;
    let running = match &arguments.against {
        None => None,
        Some(path) => match config::load(path, environment, host) {
            Ok(config) => Some((path, config)),
            Err(Problems(problems)) => {
                all_well = false;
                print_problems(out, arguments.format, &problems)?;
                if arguments.format == Format::Text {
                    writeln!(out, "{}: {}: nothing runs with it", path.display(), count(&problems))?;
                }
                None
            }
        },
    };
    for file in &arguments.files {
        let outcome = config::load(file, environment, host);
        all_well &= outcome.is_ok();
        let summary = match &outcome {
            Ok(config) => {
                print_problems(out, arguments.format, &config.notes)?;
                print_problems(out, arguments.format, &beyond(file, config, limits))?;
                format!("no problem: {}", roles(config))
            }
            Err(Problems(problems)) => {
                print_problems(out, arguments.format, problems)?;
                count(problems)
            }
        };
        if arguments.format == Format::Text {
            writeln!(out, "{}: {summary}", file.display())?;
        }
        if let (true, Ok(config)) = (arguments.cost, &outcome) {
            let CheckArguments { agents, regions, chain, .. } = *arguments;
            cost::print(config, cost::Fleet { agents, regions, chain }, arguments.format, out)?;
        }
        if let (Some((path, running)), Ok(new)) = (&running, &outcome) {
            let difference = between(running, new);
            match arguments.format {
                Format::Text => print_difference(out, path, file, &difference)?,
                Format::Json => writeln!(out, "{}", difference_in_json(path, file, &difference))?,
            }
        }
    }
    Ok(all_well)
}

fn print_problems(out: &mut impl Write, format: Format, problems: &[Problem]) -> anyhow::Result<()> {
    for problem in problems {
        match format {
            Format::Text => writeln!(out, "{problem}")?,
            Format::Json => writeln!(out, "{}", problem.to_json()?)?,
        }
    }
    Ok(())
}

/// What this host could not carry. Another may well: the file may be meant for that.
fn beyond(file: &Path, config: &Config, limits: &HostLimits) -> Vec<Problem> {
    let note = |excess: limits::Excess| Problem {
        level: Level::Note,
        ..Problem::of_file(file, format!("this host cannot carry the plan: {excess}"), excess.help())
    };
    limits::exceeded(config, limits).into_iter().map(note).collect()
}

fn print_difference(
    out: &mut impl Write,
    running: &Path,
    file: &Path,
    difference: &Difference,
) -> io::Result<()> {
    let (running, file) = (running.display(), file.display());
    if difference.is_empty() {
        return writeln!(out, "{file}: changes nothing of {running}");
    }
    let Difference { added, removed, unchanged, applied, needs_restart } = difference;
    writeln!(
        out,
        "{file}: in the place of {running}: {} series added, {} removed, {} unchanged",
        added.len(),
        removed.len(),
        unchanged.len()
    )?;
    for (sign, series) in [('+', added), ('-', removed)] {
        for name in series.iter().take(NAMED_MAX) {
            writeln!(out, "  {sign} {name}")?;
        }
        if series.len() > NAMED_MAX {
            writeln!(out, "  {sign} {} more", series.len() - NAMED_MAX)?;
        }
    }
    for (title, changes) in [("acts at once", applied), ("needs a restart", needs_restart)] {
        for change in changes {
            writeln!(out, "  {title}: {change}")?;
        }
    }
    Ok(())
}

fn difference_in_json(running: &Path, file: &Path, difference: &Difference) -> serde_json::Value {
    let Difference { added, removed, unchanged, applied, needs_restart } = difference;
    let named = |series: &[SeriesName]| {
        let names: Vec<String> = series.iter().take(NAMED_IN_JSON_MAX).map(ToString::to_string).collect();
        json!({ "count": series.len(), "names": names })
    };
    json!({
        "file": file.display().to_string(),
        "against": running.display().to_string(),
        "series": { "added": named(added), "removed": named(removed), "unchanged": named(unchanged) },
        "applied": applied,
        "needs_restart": needs_restart,
    })
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
        roles.push("agent".to_owned());
        if agent.services_from_collector {
            roles.push("services from its collector".to_owned());
        } else {
            let services = || config.services.iter();
            let series: usize = services().map(|service| service.probed(config.kind()).count()).sum();
            let here = |discovery: &&Discovery| discovery.kinds.has(config.kind());
            let discoveries: usize =
                services().map(|service| service.discoveries.iter().filter(here).count()).sum();
            roles.push(match discoveries {
                0 => format!("{series} series"),
                1 => format!("{series} series and what 1 discovery finds"),
                _ => format!("{series} series and what {discoveries} discoveries find"),
            });
        }
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
