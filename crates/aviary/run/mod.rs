//! `aviary run`: the roles that the configuration has sections for, in one process.

mod agent;
mod discovery;
mod fallback;
mod host;
mod paging;
mod reload;
mod roles;
mod services;
mod session_key;
mod summary;
mod tls;
mod watch;

use std::{io::Write as _, path::Path, time::Duration};

use anyhow::Context as _;
use aviary_collector::delivery::Signs;
use aviary_probe::SystemClock;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

pub(crate) use self::roles::{pump, random, rules};
use self::{
    reload::{Change, Reloader},
    roles::Roles,
};
use crate::{
    Ending,
    config::{self, Config, Environment, Problems},
    service_manager::ServiceManager,
    telemetry::{self, Log, LogFormat, LogOptions},
};

/// Threads for everything but probing: shipping, the collector, the sink.
const CONTROL_THREADS: usize = 2;

/// How often changes of addresses and endpoints are asked for.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Runs the roles of the configuration at `path` until SIGTERM or SIGINT. The `format` of the log that the command line
/// asks for goes before the configuration's.
pub(crate) fn run(
    path: &Path,
    environment: &Environment,
    host: &str,
    format: Option<LogFormat>,
) -> anyhow::Result<Ending> {
    let config = match config::load(path, environment, host) {
        Ok(config) => config,
        Err(problems) => {
            refuse(&problems, path)?;
            return Ok(Ending::Unusable);
        }
    };
    let options = LogOptions {
        level: config.log.level.clone(),
        format: format.unwrap_or(config.log.format),
        file: config.log.file.clone(),
    };
    let log = telemetry::start(&options)?;
    for note in &config.notes {
        tracing::warn!(key = note.key, "{}", note.message);
    }
    if !host::can_carry(&config, path)? {
        return Ok(Ending::Unusable);
    }
    aviary_probe::warm_up();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(serve(config, path, environment, host, &log))
}

fn refuse(Problems(problems): &Problems, path: &Path) -> std::io::Result<()> {
    let mut err = std::io::stderr().lock();
    for problem in problems {
        writeln!(err, "{problem}")?;
    }
    writeln!(err, "{}: not started: the configuration has problems", path.display())
}

/// The signals that are waited for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
        })
    }

    /// Waits until somebody asks the program to end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: ending."),
            _ = self.interrupt.recv() => tracing::info!("Interrupted: ending."),
        }
    }
}

/// Whether a loop of judgement has ended since this was asked last, or none could yet.
fn goes_on(signs: &mut tokio::sync::watch::Receiver<Option<Signs>>) -> bool {
    let seen = signs.borrow_and_update();
    seen.is_none() || seen.has_changed()
}

async fn serve(
    config: Config,
    path: &Path,
    environment: &Environment,
    host: &str,
    log: &Log,
) -> anyhow::Result<Ending> {
    let mut signals = Signals::new()?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let manager = ServiceManager::from_environment().unwrap_or_else(|error| {
        tracing::warn!("{error}");
        ServiceManager::default()
    });
    let mut reloader = Reloader::new(config, path, environment, host);
    let vantage = tokio::select! {
        vantage = host::vantage(reloader.config()) => match vantage {
            Ok(vantage) => vantage,
            Err(error) => {
                // A cloud's metadata may be away while a host starts: that is no mistake in the file, and whoever starts programs is to
                // try again.
                tracing::error!("Not started: {error:#}");
                return Ok(Ending::Unwell);
            }
        },
        () = signals.end() => return Ok(Ending::Well),
    };
    tokio::select! {
        () = reloader.fetch_services() => {}
        () = signals.end() => return Ok(Ending::Well),
    }
    if !host::can_carry(reloader.config(), path)? {
        return Ok(Ending::Unusable);
    }
    let mut roles = Roles::start(reloader.config(), vantage.as_ref(), &manager).await?;
    reloader.follow_versions(&roles);
    reloader.tell_failure(&roles);
    let printer = summary::Printer::start()?;
    printer.print(summary::where_to_look(reloader.config(), vantage.as_ref(), &roles));
    let status = |config: &Config| format!("runs configuration {}", config.version);
    manager.ready(&status(reloader.config()));

    // Where no agent's ticker tells that we live, each loop of judgement does.
    let judging = roles.collector().filter(|_| roles.agent().is_none());
    let mut judging = judging.map(|(collector, _)| collector.signs());
    let watchdog = manager.watchdog(SystemClock);
    let mut summaries = summary::Schedule::new(reloader.config());
    let mut failure = None;
    let mut follow = interval(FOLLOW_EVERY);
    follow.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.end() => break,
            why = roles.failed() => {
                failure = Some(why);
                break;
            }
            _ = hangup.recv() => {
                manager.reloading();
                log.reopen();
                reloader.reload(&mut roles, log, "SIGHUP").await;
                manager.ready(&status(reloader.config()));
            }
            change = reloader.changed() => match change {
                Change::Build => reloader.build(&mut roles, log).await,
                Change::Forget => reloader.tell_failure(&roles),
                Change::Reload(why) => {
                    manager.reloading();
                    reloader.reload(&mut roles, log, why).await;
                    manager.ready(&status(reloader.config()));
                }
            },
            _ = follow.tick() => {
                if judging.as_mut().is_some_and(goes_on) {
                    watchdog.beat();
                }
                log.tell_dropped();
                reloader.follow(&mut roles).await;
            }
            () = summaries.due() => printer.print(summary::summary(&roles)),
        }
        summaries.set(reloader.config());
    }

    manager.stopping("ends what is in flight, and reports it");
    roles.shutting_down();
    let has_agent = roles.agent().is_some();
    tokio::select! {
        (untaken, kept) = roles.stop() => match (has_agent, untaken) {
            (false, _) => tracing::info!("Ended."),
            (true, 0) => tracing::info!("Ended; the last report was sent."),
            (true, slots) if kept => {
                tracing::warn!(slots, "Ended; no collector took the last slots, which are kept for the next start.");
            }
            (true, slots) => {
                tracing::error!(slots, "Ended; no collector took the last slots, which stay unknown.");
            }
        },
        _ = signals.interrupt.recv() => tracing::warn!("Interrupted again: ended at once."),
    }
    match failure {
        None => Ok(Ending::Well),
        Some(why) => Err(anyhow::anyhow!("the collector cannot go on: {why}")),
    }
}
