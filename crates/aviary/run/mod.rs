//! `aviary run`: the roles that the configuration has sections for, in one process.

mod host;
mod roles;
mod summary;

use std::{io::Write as _, path::Path};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Ending,
    config::{self, Config, Environment, Problems},
};

/// Threads for everything but probing: shipping, the collector, the sink.
const CONTROL_THREADS: usize = 2;

/// Runs the roles of the configuration at `path` until SIGTERM or SIGINT.
pub(crate) fn run(path: &Path, environment: &Environment, host: &str) -> anyhow::Result<Ending> {
    let config = match config::load(path, environment, host) {
        Ok(config) => config,
        Err(Problems(problems)) => {
            let mut err = std::io::stderr().lock();
            for problem in &problems {
                writeln!(err, "{problem}")?;
            }
            writeln!(err, "{}: not started: the configuration has problems", path.display())?;
            return Ok(Ending::Unusable);
        }
    };
    if !host::can_carry(&config, path)? {
        return Ok(Ending::Unusable);
    }
    for note in &config.notes {
        tracing::warn!(key = note.key, "{}", note.message);
    }
    aviary_probe::warm_up();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<Ending> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let vantage = tokio::select! {
        vantage = host::vantage(&config) => vantage?,
        _ = terminate.recv() => return Ok(Ending::Well),
        _ = interrupt.recv() => return Ok(Ending::Well),
    };
    let roles = roles::Roles::start(&config, vantage.as_ref()).await?;
    let printer = summary::Printer::start()?;
    printer.print(summary::where_to_look(&config, vantage.as_ref(), &roles));
    tokio::select! {
        () = summary::print_regularly(&printer, &roles) => {}
        _ = terminate.recv() => tracing::info!("SIGTERM: ending."),
        _ = interrupt.recv() => tracing::info!("Interrupted: ending."),
    }
    let has_agent = roles.agent().is_some();
    tokio::select! {
        untaken = roles.stop() => match (has_agent, untaken) {
            (false, _) => tracing::info!("Ended."),
            (true, 0) => tracing::info!("Ended; the last report was sent."),
            (true, slots) => tracing::error!(slots, "Ended; no collector took the last slots, which stay unknown."),
        },
        _ = interrupt.recv() => tracing::warn!("Interrupted again: ended at once."),
    }
    Ok(Ending::Well)
}
