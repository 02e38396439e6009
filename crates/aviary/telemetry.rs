//! The log: what an operator must do something about, on standard error.

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Starts the log. `AVIARY_LOG` sets its level, or levels by module; `info` by default.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_env_var("AVIARY_LOG")
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .from_env_lossy();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
