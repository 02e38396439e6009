//! StatsD: once a second, what was added since, in packets that nobody waits for.
//!
//! For dashboards that live on StatsD; reports and verdicts never take this way, since the protocol loses, has neither
//! tags nor time, and averages. The `statsd` crate packs and sends. What it leaves to its caller is done here: names are
//! sanitised, gauges are never negative (StatsD would subtract them) and no number is NaN, being made of integers; the
//! address is looked up again every minute, by the caller's [`Network`] and not by the crate, which would block and
//! keep the first answer for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aviary_core::{Clock, Phase, Protocol, Second, Vantage, graphite::sanitise, histogram::Histogram};
use aviary_probe::{Blame, Failure, Family, Network, Question};
use statsd::client::{Client, Pipeline};
use tokio::task::JoinHandle;

use crate::admin::{
    Source,
    metrics::middle_us,
    standing::{Class, Group, Standing},
};

/// How often metrics are sent.
const INTERVAL: Duration = Duration::from_secs(1);

/// After how many of those intervals the address is looked up again.
const LOOK_UP_EVERY: u64 = 60;

/// How many timer samples of a phase are sent in one interval. Where more attempts were timed, these are their quantiles
/// (5 %, 15 %, ... 95 %): the server's percentiles stay right, while its count of samples is not the count of slots;
/// that is what the counters are for.
const SAMPLES_MAX: u64 = 10;

/// How many lines may be sent in one interval; what is beyond them waits for the next, as part of its difference.
const LINES_MAX: usize = 5_000;

/// A packet of this size crosses any network in one piece.
const PACKET_MAX: usize = 1_432;

/// What every name begins with, so that agents which share a server are told apart.
pub(crate) fn prefix(vantage: &Vantage) -> String {
    format!("aviary.agent.{}.{}", sanitise(&vantage.region), sanitise(&vantage.node))
}

/// The task that tells StatsD.
pub(crate) struct Statsd(JoinHandle<()>);

impl Statsd {
    /// Sends to `address` (host and port, as configured) how the agent of `standing` stands, from a task of the caller's
    /// runtime. Nothing that happens to name or packets ends it.
    pub(crate) fn start<N: Network, C: Clock>(
        address: String,
        prefix: String,
        network: N,
        clock: C,
        standing: Source,
    ) -> Self {
        Self(tokio::spawn(run(address, prefix, network, clock, standing, INTERVAL)))
    }

    /// Ends it, with the difference of the last second untold.
    pub(crate) fn stop(self) {
        self.0.abort();
    }
}

async fn run<N: Network, C: Clock>(
    address: String,
    prefix: String,
    network: N,
    clock: C,
    standing: Source,
    every: Duration,
) {
    let mut told = Told::default();
    let mut server: Option<(SocketAddr, Arc<Client>)> = None;
    let mut failing = false;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 0_u64.. {
        ticks.tick().await;
        if tick % LOOK_UP_EVERY == 0 {
            let second = clock.wall().second();
            match connect(&address, &prefix, (&network, second), server.take()).await {
                Ok(found) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(server = %found.0, "StatsD is told again.");
                    }
                    server = Some(found);
                }
                Err((error, before)) => {
                    // The last address is better than none: name servers fail more often than addresses change.
                    server = before;
                    if !std::mem::replace(&mut failing, true) {
                        let goes_on = server.is_some();
                        tracing::warn!(
                            address,
                            error,
                            goes_on,
                            "StatsD's address cannot be used; looking again each minute."
                        );
                    }
                }
            }
        }
        let Some((_, client)) = &server else { continue };
        let lines = told.since(&standing());
        let client = Arc::clone(client);
        // A full queue of the network card would hold up whoever sends.
        let sent = tokio::task::spawn_blocking(move || send(&client, lines)).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "StatsD was not told.");
        }
    }
}

type Server = (SocketAddr, Arc<Client>);

/// The server at `address` as it resolves now: `before` where that is the same.
async fn connect<N: Network>(
    address: &str,
    prefix: &str,
    network: (&N, Second),
    before: Option<Server>,
) -> Result<Server, (String, Option<Server>)> {
    let found = match resolve(address, network).await {
        Ok(found) => found,
        Err(error) => return Err((error, before)),
    };
    // An address that is among the answers still is kept: answers take turns, counters should not.
    if let Some(server) = before.as_ref().filter(|(address, _)| found.contains(address)) {
        return Ok(server.clone());
    }
    // `resolve` answers with one address at least.
    let Some(first) = found.first() else { return Err(("no address".to_owned(), before)) };
    match Client::new(first, prefix) {
        Ok(client) => Ok((*first, Arc::new(client))),
        Err(error) => Err((format!("no socket: {error}"), before)),
    }
}

async fn resolve<N: Network>(
    address: &str,
    (network, second): (&N, Second),
) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let (host, port) = address.rsplit_once(':').ok_or("the port is missing")?;
    let port: u16 = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    let host = host.trim_matches(['[', ']']);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    let cannot = |why: &str| format!("{host} cannot be looked up: {}", why.replace('_', " "));
    match network.resolve(Question { name: host, family: Family::Any, second }).await {
        Ok(found) => Ok(found.into_iter().map(|ip| (ip, port).into()).collect()),
        Err(Failure { blame: Blame::Service(fault), .. }) => Err(cannot(fault.name())),
        Err(Failure { blame: Blame::Local(fault), .. }) => Err(cannot(fault.name())),
    }
}

fn send(client: &Client, lines: Vec<Line>) {
    let mut pipeline = Pipeline::new();
    pipeline.set_max_udp_size(PACKET_MAX);
    for line in lines {
        match line {
            Line::Count(name, count) => pipeline.count(&name, count as f64),
            Line::Gauge(name, value) => pipeline.gauge(&name, value as f64),
            Line::Timer(name, milliseconds) => pipeline.timer(&name, milliseconds),
        }
    }
    pipeline.send(client);
}

/// One metric, its name sanitised and without the prefix.
#[derive(Clone, Debug, PartialEq)]
enum Line {
    /// So many more.
    Count(String, u64),
    /// So many now: unsigned, since StatsD takes a sign for a difference.
    Gauge(String, u64),
    /// A duration in milliseconds.
    Timer(String, f64),
}

/// What StatsD has been told of each service and protocol.
#[derive(Default)]
struct Told {
    groups: BTreeMap<(String, Protocol), Totals>,
    /// Which group is told first: the one for which there was no room before.
    first: usize,
    dropped: u64,
    skipped: u64,
}

#[derive(Default)]
struct Totals {
    outcomes: BTreeMap<Class, u64>,
    phases: [Option<Histogram>; Phase::ALL.len()],
}

impl Told {
    /// What is to be told of an agent that stands so; afterwards it counts as told.
    fn since(&mut self, standing: &Standing) -> Vec<Line> {
        let mut lines = gauges(standing);
        for (name, total, told) in [
            ("slots.dropped", standing.dropped, &mut self.dropped),
            ("slots.skipped", standing.skipped, &mut self.skipped),
        ] {
            count(&mut lines, name.to_owned(), total, told);
        }
        let (begun, rest) = standing.groups.split_at(self.first.min(standing.groups.len()));
        for (place, group) in rest.iter().chain(begun).enumerate() {
            if lines.len() >= LINES_MAX {
                self.first = (self.first + place) % standing.groups.len();
                break;
            }
            let totals = self.groups.entry((group.service.clone(), group.protocol)).or_default();
            totals.since(group, &mut lines);
        }
        // Of what was removed nothing is kept; if it comes back, it begins anew.
        if self.groups.len() > standing.groups.len() {
            let are = |group: &Group| (group.service.clone(), group.protocol);
            let there: BTreeSet<_> = standing.groups.iter().map(are).collect();
            self.groups.retain(|group, _| there.contains(group));
        }
        lines
    }
}

impl Totals {
    fn since(&mut self, group: &Group, lines: &mut Vec<Line>) {
        let name = format!("{}.{}", sanitise(&group.service), group.protocol.graphite_name());
        for (class, total) in &group.outcomes {
            let (outcome, _, fault) = *class;
            // Not by phase: phases tell where, and that is what /metrics and the collector are for.
            let name = match fault {
                Some(fault) => format!("{name}.{outcome}.{fault}"),
                None => format!("{name}.{outcome}"),
            };
            count(lines, name, *total, self.outcomes.entry(*class).or_default());
        }
        for ((phase, now), told) in Phase::ALL.iter().zip(&group.phases).zip(&mut self.phases) {
            let Some(now) = now else { continue };
            let samples = samples(&added(told.as_ref(), now));
            lines.extend(
                samples.into_iter().map(|micros| Line::Timer(format!("{name}.{phase}"), micros / 1e3)),
            );
            *told = Some(now.clone());
        }
    }
}

/// A total that is below what was told has begun anew.
fn count(lines: &mut Vec<Line>, name: String, total: u64, told: &mut u64) {
    let added = if total < *told { total } else { total - *told };
    *told = total;
    if added > 0 {
        lines.push(Line::Count(name, added));
    }
}

fn gauges(standing: &Standing) -> Vec<Line> {
    let Standing { spool, shipping, .. } = standing;
    let gauge = |name: &str, value| Line::Gauge(name.to_owned(), value);
    let mut gauges = vec![
        gauge("series", standing.series as u64),
        gauge("series.ticking", standing.ticking as u64),
        gauge("spool.slots", spool.slots),
        gauge("spool.bytes", spool.bytes),
        gauge("reports.failures", u64::from(shipping.failures)),
    ];
    if let Some(offset) = shipping.clock_offset_us {
        gauges.push(gauge("clock.apart_us", offset.unsigned_abs()));
    }
    gauges
}

/// How many durations each bucket has more than it had.
fn added(told: Option<&Histogram>, now: &Histogram) -> Vec<(usize, u64)> {
    let told: BTreeMap<usize, u64> = told.into_iter().flat_map(Histogram::buckets).collect();
    let more = |(bucket, count): (usize, u64)| {
        let before = told.get(&bucket).copied().unwrap_or(0);
        let more = if count < before { count } else { count - before };
        (bucket, more)
    };
    now.buckets().map(more).filter(|(_, more)| *more > 0).collect()
}

/// Each of a few durations, or the quantiles of many, in microseconds.
fn samples(added: &[(usize, u64)]) -> Vec<f64> {
    let all: u64 = added.iter().map(|(_, count)| count).sum();
    let count = all.min(SAMPLES_MAX);
    let mut samples = Vec::with_capacity(count as usize);
    let (mut place, mut passed) = (added.iter(), 0);
    let mut current = place.next();
    for number in 0..count {
        // The middle of each of `count` equal parts.
        let rank = (2 * number + 1) * all / (2 * count);
        while let Some((_, many)) = current.filter(|(_, many)| passed + many <= rank) {
            passed += many;
            current = place.next();
        }
        samples.extend(current.map(|(bucket, _)| middle_us(*bucket)));
    }
    samples
}

#[cfg(test)]
mod tests;
