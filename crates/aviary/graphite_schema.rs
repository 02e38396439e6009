//! `aviary graphite-schema`: what carbon must be told so that single seconds can be read back.

use std::{collections::BTreeSet, io::Write, path::PathBuf};

use clap::Args;

use crate::config::{self, Environment, Problems, service::Service};

/// A day of seconds, and a quarter of minutes: 1 MiB and 1.5 MiB a series.
const RETENTIONS: &str = "1s:1d,60s:90d";

/// The size of a Whisper file with them: 12 bytes a slot, and 16 and 12 an archive before.
pub(crate) const WHISPER_BYTES: u64 = 16 + 2 * 12 + (86_400 + 90 * 1_440) * 12;

/// Prints the storage schema and aggregation that one-second slots need.
#[derive(Args, Debug)]
pub(crate) struct GraphiteSchemaArguments {
    /// The configuration whose services are to be read back
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
}

/// Prints the sections of both files. Returns whether there was anything to print them for.
pub(crate) fn graphite_schema(
    arguments: &GraphiteSchemaArguments,
    out: &mut impl Write,
    environment: &Environment,
    host: &str,
) -> anyhow::Result<bool> {
    let config = match config::load(&arguments.config, environment, host) {
        Ok(config) => config,
        Err(Problems(problems)) => {
            problems.iter().try_for_each(|problem| writeln!(out, "{problem}"))?;
            return Ok(false);
        }
    };
    if config.services.is_empty() {
        writeln!(out, "{}: there is no [[service]] in it", arguments.config.display())?;
        return Ok(false);
    }
    write!(out, "{}", sections(&config.services))?;
    Ok(true)
}

fn sections(services: &[Service]) -> String {
    // Endpoints and vantages come after these two, so that one pattern holds for all series of a service.
    let patterns: BTreeSet<(&str, String)> = services
        .iter()
        .map(|service| (service.name.as_str(), pattern(&service.prefix, &service.name)))
        .collect();
    let mut text = "\
# storage-schemas.conf: before any section that matches these names as well, since the first that matches counts.
# Whisper files that exist keep the slots that they began with: remove those of the canaries, or use whisper-resize.py.
"
    .to_owned();
    for (name, pattern) in &patterns {
        text += &format!("\n[aviary_{name}]\npattern = {pattern}\nretentions = {RETENTIONS}\n");
    }
    text += "\n# storage-aggregation.conf: the sum of what came is what a longer slot must hold, also if it is one datapoint.\n";
    for (name, pattern) in &patterns {
        text +=
            &format!("\n[aviary_{name}]\npattern = {pattern}\nxFilesFactor = 0\naggregationMethod = sum\n");
    }
    text += "\n# carbon.conf: MAX_CREATES_PER_MINUTE drops the datapoints of series that it puts off; `inf` puts none off.\n";
    text
}

/// The names of a service's series, also behind a key that tells customers apart.
fn pattern(prefix: &str, service: &str) -> String {
    format!(r"(^|\.){}\.{service}\.", prefix.replace('.', r"\."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_for_themselves() {
        assert_eq!(pattern("team.canary", "ingest"), r"(^|\.)team\.canary\.ingest\.");
    }
}
