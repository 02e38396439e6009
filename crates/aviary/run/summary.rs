//! What `aviary run` prints for whoever started it by hand: where to look, and a line every ten seconds.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Duration,
};

use aviary_core::{Protocol, Vantage};
use aviary_sink::Count;
use tokio::time::{Instant, sleep_until};

use super::{
    agent::RunningAgent,
    roles::{Roles, reachable},
};
use crate::config::Config;

/// How often a line is printed.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many texts wait for a terminal that was stopped; more are dropped.
const WAITING_MAX: usize = 2;

/// Prints on a thread of its own: a full pipe or a terminal that was stopped holds up nothing else.
pub(super) struct Printer(SyncSender<String>);

impl Printer {
    pub(super) fn start() -> std::io::Result<Self> {
        let (sender, texts) = sync_channel::<String>(WAITING_MAX);
        let print = move || {
            for text in texts {
                // Nobody reads it any more: that is no reason to end.
                _ = writeln!(std::io::stdout().lock(), "{text}");
            }
        };
        thread::Builder::new().name("printer".to_owned()).spawn(print)?;
        Ok(Self(sender))
    }

    pub(super) fn print(&self, text: String) {
        // Full, or its thread gone: a line less.
        _ = self.0.try_send(text);
    }
}

/// What runs, and where to look.
pub(super) fn where_to_look(config: &Config, vantage: Option<&Vantage>, roles: &Roles) -> String {
    let mut lines =
        vec![format!("aviary {} runs, configuration {}:", env!("CARGO_PKG_VERSION"), config.version)];
    if let Some(sink) = roles.sink() {
        let listeners = Protocol::ALL
            .iter()
            .filter_map(|protocol| Some(format!("{protocol} {}", sink.addresses().get(*protocol)?)));
        lines.push(format!("  sink       {}", listeners.collect::<Vec<_>>().join(", ")));
    }
    if let (Some(agent), Some(vantage)) = (&config.agent, vantage) {
        let series = roles.agent().map_or(0, RunningAgent::series);
        let collectors: Vec<_> = agent.collectors.iter().map(ToString::to_string).collect();
        let whom = if collectors.is_empty() { "this process".to_owned() } else { collectors.join(", ") };
        lines.push(format!(
            "  agent      {series} series from {} in {}, reporting to {whom}",
            vantage.node, vantage.region
        ));
        if let Some(address) = roles.agent().and_then(RunningAgent::admin_address) {
            lines.push(format!("             http://{}/healthcheck, /metrics", reachable(address)));
        }
    }
    if let Some((_, address)) = roles.collector() {
        let url = config.collector.as_ref().and_then(|collector| collector.url.as_ref());
        let base = match url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => {
                let is_tls = config.collector.as_ref().is_some_and(|collector| collector.tls.is_some());
                format!("{}://{}", if is_tls { "https" } else { "http" }, reachable(address))
            }
        };
        lines.push(format!("  collector  {base}/"));
        lines.push(format!("             {base}/api/v1/services, /api/v1/sums?by=protocol&window=60s"));
        lines.push(format!("             aviary status {base}"));
        if let Some(address) = roles.status() {
            lines.push(format!("  customers  http://{}/", reachable(address)));
        }
    }
    lines.push(match interval(config) {
        Some(every) => format!("A line follows every {} s; Ctrl-C ends it.", every.as_secs()),
        None => "Ctrl-C ends it.".to_owned(),
    });
    lines.join("\n")
}

/// When the next line is due.
pub(super) struct Schedule {
    every: Option<Duration>,
    next: Instant,
}

impl Schedule {
    /// Lines as `config` wants them.
    pub(super) fn new(config: &Config) -> Self {
        let every = interval(config);
        Self { every, next: now() + every.unwrap_or_default() }
    }

    /// Lines as `config` wants them from now on.
    pub(super) fn set(&mut self, config: &Config) {
        let every = interval(config);
        if every != self.every {
            *self = Self::new(config);
        }
    }

    /// Waits until a line is due.
    pub(super) async fn due(&mut self) {
        let Some(every) = self.every else { return std::future::pending().await };
        sleep_until(self.next).await;
        self.next = (self.next + every).max(now());
    }
}

/// How often a line is printed; by default to people only.
fn interval(config: &Config) -> Option<Duration> {
    let default = if std::io::stdout().is_terminal() { INTERVAL } else { Duration::ZERO };
    Some(config.log.summary.unwrap_or(default)).filter(|every| !every.is_zero())
}

/// What has happened of late, in a line.
pub(super) fn summary(roles: &Roles) -> String {
    let time = jiff::Timestamp::now().strftime("%H:%M:%S UTC");
    let mut parts = vec![time.to_string()];
    if let Some((collector, _)) = roles.collector() {
        let span = collector.newest_closed(INTERVAL.as_secs());
        for (protocol, window) in collector.by_protocol(span) {
            parts.push(format!("{protocol} {}/{}", window.delivered, window.scheduled));
        }
        let (standing, _) = collector.standing();
        parts.extend(
            standing
                .into_iter()
                .map(|(service, state)| format!("{service}: {}", crate::status::in_words(state.name()))),
        );
    } else if let Some(agent) = roles.agent() {
        let stats = agent.stats();
        parts.push(format!(
            "{} slots closed, {} skipped, {} dropped",
            stats.closed, stats.skipped, stats.dropped
        ));
    } else if let Some(sink) = roles.sink() {
        let counts = sink.counts();
        for protocol in Protocol::ALL.iter().filter(|protocol| sink.addresses().get(**protocol).is_some()) {
            parts.push(format!("{protocol} {} arrived", counts.get(*protocol, Count::Arrived)));
        }
    }
    parts.join("  ")
}

#[expect(clippy::disallowed_methods, reason = "when to print a line is nobody's measurement")]
fn now() -> Instant {
    Instant::now()
}
