//! The log: what an operator must do something about, on standard error.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// How many lines wait for whoever reads standard error; more are dropped.
const LINES_WAITING_MAX: usize = 4_096;

/// Starts the log. `AVIARY_LOG` sets its level, or levels by module; `info` by default. What is written reaches standard
/// error by a thread of its own, so that a full pipe holds up nothing; dropping what is returned waits for the rest.
pub(crate) fn start(format: LogFormat) -> WorkerGuard {
    let filter = EnvFilter::builder()
        .with_env_var("AVIARY_LOG")
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .from_env_lossy();
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .lossy(true)
        .finish(std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    guard
}
