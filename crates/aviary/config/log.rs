//! `[log]`: what is written of the program's life, and where to.

use std::{path::PathBuf, time::Duration};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    context::Refusal,
    kind::{Kind, choice, text},
    reader::Reader,
    scalar,
    source::quotable,
};
use crate::telemetry::LogFormat;

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// A level, or directives as `tracing` has them.
    pub(crate) level: String,
    /// For people or for programs.
    pub(crate) format: LogFormat,
    /// The file, opened anew on SIGHUP; absent: standard error.
    pub(crate) file: Option<PathBuf>,
    /// How often a line sums up what happened; zero for never; absent: every ten seconds where a person looks on, and
    /// never elsewhere.
    pub(crate) summary: Option<Duration>,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text, file: None, summary: None }
    }
}

/// Reads `[log]`.
pub(super) fn log(reader: &mut Reader<'_>) -> Option<Log> {
    let level_about = "error, warn, info, debug or trace, as a whole or by module such as \"info,aviary_agent=debug\"; info by default";
    let level = reader.optional("level", level_about, level());
    let formats = choice([("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let format = reader.optional("format", "for people or one JSON object a line; text by default", formats);
    let file = "a file, opened anew on SIGHUP; standard error by default";
    let file = reader.optional("file", file, scalar::place("/var/log/aviary.log"));
    let summary =
        "how often a line sums up what happened, \"0s\" for never; 10s on a terminal, else never by default";
    let summary = reader.optional("summary", summary, scalar::duration("10s"));
    if let Some(short) = summary.filter(|interval| !interval.is_zero() && *interval < Duration::from_secs(1))
    {
        let message =
            format!("a summary every {} ms says nothing: seconds are what is counted", short.as_millis());
        reader.refuse("summary", Refusal::new(message).help("write \"1s\" or more, or \"0s\" for none"));
    }
    let default = Log::default();
    Some(Log {
        level: level.unwrap_or(default.level),
        format: format.unwrap_or(default.format),
        file,
        summary,
    })
}

/// A level or directives. A word alone would be taken for a module, so that `inof` would silence the program.
fn level() -> impl Kind<Output = String> {
    text("a level", "info", |given| {
        const HELP: &str =
            "write error, warn, info, debug or trace, or directives such as \"info,aviary_agent=debug\"";
        let refusal = || Refusal::new(format!("`{}` is no level of the log", quotable(given))).help(HELP);
        for directive in given.split(',').map(str::trim) {
            let is_level = directive.parse::<LevelFilter>().is_ok() && !directive.is_empty();
            if !is_level && !directive.contains(['=', '[']) {
                return Err(refusal());
            }
        }
        EnvFilter::builder().parse(given).map(|_| given.to_owned()).map_err(|_| refusal())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalar::tests::read;

    #[test]
    fn a_level_is_one_that_the_log_knows() {
        for given in
            ["info", "DEBUG", "off", "warn,aviary_agent=debug", "aviary_probe=trace", "info,[span]=debug"]
        {
            assert_eq!(read(level(), given), Ok(given.to_owned()));
        }
        for given in ["", "inof", "info,", "info,aviary_agent", "aviary_agent=loud"] {
            assert_eq!(read(level(), given), Err(format!("`{given}` is no level of the log")));
        }
    }
}
