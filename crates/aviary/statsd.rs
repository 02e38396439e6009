//! StatsD: once a second, what was added since, in packets that nobody waits for.
//!
//! For dashboards that live on StatsD; reports and verdicts never take this way, since the protocol loses, has no time, and
//! averages. Names and tags are sanitised, gauges are never negative (StatsD would subtract them) and no number is NaN, being
//! made of integers; the address is looked up again every minute, by the caller's [`Network`].
//!
//! What tells one metric from another is part of its name, as StatsD has it (`aviary.agent.eu.n.ingest.tcp.delivered`), or, for
//! those who understand it, tags as DogStatsD has them
//! (`aviary.agent.slots|#region:eu,node:n,service:ingest,protocol:tcp,outcome:delivered`).

mod agent;
mod collector;
mod line;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use aviary_core::{Clock, Second};
use aviary_probe::{Blame, Failure, Family, Network, Question};
use tokio::task::JoinHandle;

use self::line::Line;
pub(crate) use self::{
    agent::{agent_naming, of_agent},
    collector::{collector_naming, of_collector},
    line::Naming,
};

/// What tells the newest, as lines.
pub(crate) type Lines = Box<dyn FnMut() -> Vec<Line> + Send>;

/// How often an agent's metrics are sent.
pub(crate) const AGENT_INTERVAL: Duration = Duration::from_secs(1);

/// How often a collector's are: StatsD itself tells them on as often.
pub(crate) const COLLECTOR_INTERVAL: Duration = Duration::from_secs(10);

/// How often the address is looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);

/// The task that tells StatsD.
pub(crate) struct Statsd(JoinHandle<()>);

impl Statsd {
    /// Sends to `address` (host and port, as configured) what `lines` tells, named as `naming` says, from a task of the
    /// caller's runtime, each `every`. Nothing that happens to name or packets ends it.
    pub(crate) fn start<N: Network, C: Clock>(
        address: String,
        (naming, lines): (Naming, Lines),
        every: Duration,
        network: N,
        clock: C,
    ) -> Self {
        let look_up_every = (LOOK_UP_EVERY.as_secs() / every.as_secs().max(1)).max(1);
        Self(tokio::spawn(run(address, naming, lines, (every, look_up_every), network, clock)))
    }

    /// Ends it, with the difference of the last second untold.
    pub(crate) fn stop(self) {
        self.0.abort();
    }
}

async fn run<N: Network, C: Clock>(
    address: String,
    naming: Naming,
    mut lines: Lines,
    (every, look_up_every): (Duration, u64),
    network: N,
    clock: C,
) {
    let mut server: Option<Server> = None;
    let mut failing = false;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 0_u64.. {
        ticks.tick().await;
        if tick.is_multiple_of(look_up_every) {
            let second = clock.wall().second();
            match connect(&address, (&network, second), server.take()).await {
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
        let Some((address, socket)) = server.clone() else { continue };
        let packets = naming.packets(&lines());
        // A full queue of the network card would hold up whoever sends.
        let sent = tokio::task::spawn_blocking(move || send(&socket, address, &packets)).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "StatsD was not told.");
        }
    }
}

type Server = (SocketAddr, Arc<UdpSocket>);

/// The server at `address` as it resolves now: `before` where that is the same.
async fn connect<N: Network>(
    address: &str,
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
    let any: IpAddr =
        if first.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    match UdpSocket::bind((any, 0)) {
        Ok(socket) => Ok((*first, Arc::new(socket))),
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

fn send(socket: &UdpSocket, address: SocketAddr, packets: &[String]) {
    for packet in packets {
        if let Err(error) = socket.send_to(packet.as_bytes(), address) {
            tracing::debug!(%error, %address, "StatsD was not told.");
        }
    }
}

#[cfg(test)]
mod tests;
