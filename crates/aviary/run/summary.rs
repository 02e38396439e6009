//! What `aviary run` prints for whoever started it by hand: where to look, and a line every ten seconds.

use std::io::Write as _;

use aviary_core::Protocol;
use aviary_sink::Count;
use tokio::time::{Instant, interval_at};

use super::roles::{Roles, SUMMARY_INTERVAL, reachable};
use crate::config::Config;

/// Says what runs, and where to look.
pub(super) fn print_where_to_look(config: &Config, roles: &Roles) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "aviary {} runs, configuration {}:", env!("CARGO_PKG_VERSION"), config.version)?;
    if let Some(sink) = roles.sink() {
        let listeners = Protocol::ALL
            .iter()
            .filter_map(|protocol| Some(format!("{protocol} {}", sink.addresses().get(*protocol)?)));
        writeln!(out, "  sink       {}", listeners.collect::<Vec<_>>().join(", "))?;
    }
    if let (Some(agent), Some(vantage)) = (&config.agent, &config.vantage) {
        let series: usize = config.services.iter().map(|service| service.endpoints.len()).sum();
        let collectors: Vec<_> = agent.collectors.iter().map(ToString::to_string).collect();
        let whom = if collectors.is_empty() { "this process".to_owned() } else { collectors.join(", ") };
        writeln!(
            out,
            "  agent      {series} series from {} in {}, reporting to {whom}",
            vantage.node, vantage.region
        )?;
    }
    if let Some((_, address)) = roles.collector() {
        let base = format!("http://{}", reachable(address));
        writeln!(out, "  collector  {base}/api/v1/services")?;
        writeln!(out, "             {base}/api/v1/sums?by=protocol&window=60s")?;
        writeln!(out, "             aviary status {base}")?;
    }
    writeln!(out, "A line follows every {} s; Ctrl-C ends it.", SUMMARY_INTERVAL.as_secs())?;
    Ok(())
}

/// Prints a line every ten seconds, for as long as anybody reads it.
pub(super) async fn print_regularly(roles: &Roles) {
    let mut ticks = interval_at(now() + SUMMARY_INTERVAL, SUMMARY_INTERVAL);
    loop {
        ticks.tick().await;
        let line = summary(roles);
        if writeln!(std::io::stdout().lock(), "{line}").is_err() {
            // Nobody reads it any more: that is no reason to end.
            return std::future::pending().await;
        }
    }
}

fn summary(roles: &Roles) -> String {
    let time = jiff::Timestamp::now().strftime("%H:%M:%S UTC");
    let mut parts = vec![time.to_string()];
    if let Some((collector, _)) = roles.collector() {
        let span = collector.newest_closed(SUMMARY_INTERVAL.as_secs());
        for (protocol, window) in collector.by_protocol(span) {
            parts.push(format!("{protocol} {}/{}", window.delivered, window.scheduled));
        }
        let (standing, _) = collector.standing();
        parts.extend(standing.into_iter().map(|(service, state)| format!("{service}: {state}")));
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
