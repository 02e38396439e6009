//! The fleet: what is probed, who probes it from three regions, and who judges, all in this process and on loopback.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use aviary_agent::{Agent, AgentSeries, Assignment, Options, Push, Token};
use aviary_collector::{
    Alerting, Burst, Collector, Limits as IntakeLimits, Options as CollectorOptions, Scope, SecretHash,
    Server, ServiceOptions, TokenRule,
    delivery::{Delivery, Outside},
};
use aviary_core::{
    AcceptableLoss, Clock as _, Endpoint, Protocol, Series, State, Vantage, VantageKind,
    page::{Paging, Receiver as Manners},
    verdict::Policy,
};
use aviary_probe::{AddressChoice, Dns, Host, KeyExchange, SystemClock, Target, TlsClient};
use aviary_sink::{Addresses, Authority, Identity, Misbehaviour, Options as SinkOptions, Sink};
use aviary_store::{Limits, Spool};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use super::{fault::Fault, pager::Pager};
use crate::run::{pump, random};

/// The service with a front of its own in each region.
pub(super) const INGEST: &str = "ingest";
/// The service with four addresses, each of which has a series of its own.
pub(super) const EDGE: &str = "edge";

const REGIONS: [&str; 3] = ["eu", "us", "ap"];
pub(super) const LOST_REGION: &str = "us";
pub(super) const SILENT_REGION: &str = "ap";

/// How the services are reached.
const INGEST_PROTOCOLS: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Tls, Protocol::Pickle];
const EDGE_PROTOCOLS: [Protocol; 1] = [Protocol::Tcp];

/// The fronts of [`INGEST`], one for each of [`REGIONS`], and the addresses of [`EDGE`].
const FRONTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::new(127, 0, 2, 1), Ipv4Addr::new(127, 0, 3, 1)];
const EDGES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 9, 1),
    Ipv4Addr::new(127, 0, 9, 2),
    Ipv4Addr::new(127, 0, 9, 3),
    Ipv4Addr::new(127, 0, 9, 4),
];
pub(super) const LOST_ADDRESS: Ipv4Addr = EDGES[2];

/// A name's port is the same at each of its addresses, and one that is free at the first may be taken at another.
const PORT_ATTEMPTS: usize = 8;

/// What the names of datapoints begin with.
const PREFIX: &str = "canary";

/// An agent tells its first second within three, where it is not starved.
const GROWN_WITHIN: u64 = 30_000_000;

/// What waits for the collector is little: it is in this process.
const SPOOL: Limits = Limits { bytes: 16 << 20, age_seconds: 600 };

/// The sinks behind one name: the same ports at each of its addresses.
struct Fronts {
    name: &'static str,
    protocols: &'static [Protocol],
    sinks: Vec<(Ipv4Addr, Arc<Sink>, JoinHandle<()>)>,
}

/// The whole of it. Dropped, it ends with the process.
pub(super) struct Fleet {
    ingest: Fronts,
    edge: Fronts,
    agents: BTreeMap<&'static str, Agent<Host, SystemClock>>,
    /// What makes an agent of a region, also a second time.
    tls: TlsClient,
    collector: Collector,
    servers: Vec<Server>,
    delivery: Delivery<SystemClock, Pager>,
    address: SocketAddr,
    /// Where the agents report to, and what they show there.
    push: Push,
}

impl Fronts {
    async fn start(
        service: &'static str,
        protocols: &'static [Protocol],
        addresses: &[Ipv4Addr],
        identity: &Identity,
        collector: &Collector,
    ) -> anyhow::Result<Self> {
        let mut attempts = 0;
        let sinks = loop {
            attempts += 1;
            match start_alike(protocols, addresses, identity, collector).await {
                Ok(sinks) => break sinks,
                Err(error) if attempts == PORT_ATTEMPTS => {
                    return Err(error).with_context(|| format!("{service} cannot be played on loopback"));
                }
                Err(_) => {}
            }
        };
        Ok(Self { name: service, protocols, sinks })
    }

    fn host(&self) -> String {
        format!("{}.demo", self.name)
    }

    fn port(&self, protocol: Protocol) -> u16 {
        let listener = self.sinks.first().and_then(|(_, sink, _)| sink.addresses().get(protocol));
        listener.map_or(0, |address| address.port())
    }

    /// Lets those at `address`, or at every one, misbehave over `protocols`.
    async fn misbehave(
        &self,
        address: Option<Ipv4Addr>,
        protocols: &[Protocol],
        how: Misbehaviour,
    ) -> anyhow::Result<()> {
        for (at, sink, _) in &self.sinks {
            if address.is_none_or(|address| address == *at) {
                for protocol in protocols {
                    sink.misbehave(*protocol, how).await?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Fronts {
    fn drop(&mut self) {
        self.sinks.iter().for_each(|(_, _, pump)| pump.abort());
    }
}

/// A sink at each of `addresses`, all with the ports that the first found free.
async fn start_alike(
    protocols: &[Protocol],
    addresses: &[Ipv4Addr],
    identity: &Identity,
    collector: &Collector,
) -> anyhow::Result<Vec<(Ipv4Addr, Arc<Sink>, JoinHandle<()>)>> {
    let mut sinks: Vec<(Ipv4Addr, Arc<Sink>, JoinHandle<()>)> = Vec::new();
    for address in addresses {
        let mut listen = Addresses::default();
        for protocol in protocols {
            let first = sinks.first().and_then(|(_, sink, _)| sink.addresses().get(*protocol));
            let port = first.map_or(0, |first| first.port());
            *listen.get_mut(*protocol) = Some(SocketAddr::from((*address, port)));
        }
        let (sink, arrivals) = Sink::start(SinkOptions::new(listen, identity.clone()), SystemClock).await?;
        let sink = Arc::new(sink);
        let pump = tokio::spawn(pump(Arc::downgrade(&sink), arrivals, Some(collector.clone())));
        sinks.push((*address, sink, pump));
    }
    Ok(sinks)
}

/// Whoever shows `token` may report, and nothing else.
fn token_rule(token: &str) -> TokenRule {
    TokenRule {
        name: "the agents of this process".to_owned(),
        secret: SecretHash::of(token),
        scopes: vec![Scope::Report],
        region: None,
        node: None,
        limits: IntakeLimits::AGENT,
    }
}

/// A service that pages at once about one per cent: nothing else happens on loopback.
fn service(name: &str) -> ServiceOptions {
    ServiceOptions {
        policy: Policy {
            acceptable_loss: AcceptableLoss::of_million(10_000),
            min_vantages: 2,
            ..Policy::default()
        },
        storage: true,
        alerting: Alerting {
            page_after: 0,
            burst: Burst::Fixed(1.0),
            start_up_grace: 5,
            ..Alerting::default()
        },
        owner: Some("whoever looks at this terminal".to_owned()),
        ..ServiceOptions::unconfigured(name)
    }
}

impl Fleet {
    /// Starts everything; pages go to `pager`.
    pub(super) async fn start(pager: Pager) -> anyhow::Result<Self> {
        let name = "terminal".to_owned();
        let manners = Manners { wakes: true, per_minute: 600, ..Manners::default() };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let options = CollectorOptions {
            name: "demo".to_owned(),
            url: Some(format!("http://{address}")),
            services: vec![service(INGEST), service(EDGE)],
            paging: Paging::new(vec![(name.clone(), manners)], Vec::new(), BTreeMap::new()),
            ..CollectorOptions::default()
        };
        let collector = Collector::new(options, SystemClock)?;
        let outside = Outside { receivers: vec![(name, pager)], watchdog: None };
        let delivery = Delivery::start(&collector, outside, SystemClock);
        let reports = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let token = format!("{:016x}{:016x}", random()?, random()?);
        let push = Push {
            collectors: vec![format!("http://{}", reports.local_addr()?)],
            token: Some(Token::new(&token)),
            ..Push::default()
        };
        let servers = vec![collector.serve_reports(reports, token_rule(&token))];

        let identity = Authority::new()?.identity(&["ingest.demo", "edge.demo"])?;
        let ingest = Fronts::start(INGEST, &INGEST_PROTOCOLS, &FRONTS, &identity, &collector).await?;
        let edge = Fronts::start(EDGE, &EDGE_PROTOCOLS, &EDGES, &identity, &collector).await?;
        let trusted: Vec<&[u8]> = identity.ca_pem().map(str::as_bytes).into_iter().collect();
        let tls = TlsClient::new(&trusted, KeyExchange::Classic)?;
        let agents = BTreeMap::new();
        let mut fleet = Self { ingest, edge, agents, tls, collector, servers, delivery, address, push };
        for region in REGIONS {
            fleet.start_agent(region)?;
        }
        // Nothing is judged before all of the fleet is known: it has not grown over days.
        let deadline = SystemClock.monotonic().plus(GROWN_WITHIN);
        while fleet.is_growing() {
            ensure!(SystemClock.monotonic() < deadline, "the agents of the demo do not report");
            sleep(Duration::from_millis(100)).await;
        }
        fleet.servers.push(fleet.collector.serve(listener));
        Ok(fleet)
    }

    /// Where the collector answers.
    pub(super) const fn collector(&self) -> SocketAddr {
        self.address
    }

    /// Whether there is a series of which nobody has told the collector yet.
    fn is_growing(&self) -> bool {
        let known = self.collector.by_protocol(self.collector.newest_closed(1));
        let known: u64 = known.into_iter().map(|(_, window)| window.scheduled).sum();
        let each = self.ingest.protocols.len() + self.edge.protocols.len() * EDGES.len();
        known < (REGIONS.len() * each) as u64
    }

    /// Whether every service is measured, and well.
    pub(super) fn is_well(&self) -> bool {
        let (services, _) = self.collector.standing();
        services.iter().all(|(_, state)| *state == State::Healthy)
    }

    /// Breaks it, or mends it.
    pub(super) async fn set(&mut self, fault: Fault, is_broken: bool) -> anyhow::Result<()> {
        let how = if is_broken { Misbehaviour::Refuse } else { Misbehaviour::None };
        match fault {
            Fault::Udp => self.ingest.misbehave(None, &[Protocol::Udp], how).await,
            Fault::Region => {
                let front = REGIONS.iter().position(|region| *region == LOST_REGION).map(|at| FRONTS[at]);
                self.ingest.misbehave(front, &INGEST_PROTOCOLS, how).await
            }
            Fault::Address => self.edge.misbehave(Some(LOST_ADDRESS), &EDGE_PROTOCOLS, how).await,
            Fault::Agent if is_broken => {
                if let Some(agent) = self.agents.remove(SILENT_REGION) {
                    agent.stop().await;
                }
                Ok(())
            }
            Fault::Agent => self.start_agent(SILENT_REGION),
        }
    }

    /// Ends all of it in the order in which data flow.
    pub(super) async fn stop(self) {
        let Self { agents, ingest, edge, servers, delivery, collector, .. } = self;
        futures_util::future::join_all(agents.into_values().map(Agent::stop)).await;
        drop((ingest, edge));
        for server in servers {
            server.stop().await;
        }
        delivery.stop().await;
        collector.close().await;
    }

    fn start_agent(&mut self, region: &'static str) -> anyhow::Result<()> {
        let front = REGIONS.iter().position(|known| *known == region).map_or(FRONTS[0], |at| FRONTS[at]);
        // Whoever is asked for another name would not answer: nobody has port 9 here, and all names are known.
        let mut names = Dns::with_servers(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 9))])?;
        for protocol in self.ingest.protocols {
            names = names.overriding(&self.ingest.host(), self.ingest.port(*protocol), front.into());
        }
        for protocol in self.edge.protocols {
            for address in EDGES {
                names = names.overriding(&self.edge.host(), self.edge.port(*protocol), address.into());
            }
        }
        let options = Options {
            assignment: self.assignment(region)?,
            boot: random()?,
            push: self.push.clone(),
            spool: Spool::in_memory(SPOOL),
            held: None,
            is_durable: false,
            controls: Vec::new(),
            pulse: Box::new(|| {}),
            listener: Box::new(|_| {}),
        };
        self.agents.insert(region, Agent::start(options, Host::new(names), SystemClock)?);
        Ok(())
    }

    /// What the agent of `region` probes.
    fn assignment(&self, region: &str) -> anyhow::Result<Assignment> {
        let vantage = Vantage {
            kind: VantageKind::External,
            region: region.to_owned(),
            zone: None,
            network: None,
            node: format!("canary-{region}"),
        };
        let mut series = Vec::new();
        for (fronts, addresses) in [(&self.ingest, &[None][..]), (&self.edge, &EDGES.map(Some))] {
            for protocol in fronts.protocols {
                let url = format!("{protocol}://{}:{}", fronts.host(), fronts.port(*protocol));
                let endpoint: Endpoint = url.parse().with_context(|| url.clone())?;
                for address in addresses.iter().map(|address| address.map(IpAddr::from)) {
                    let service = fronts.name.to_owned();
                    let one =
                        Series { service, vantage: vantage.clone(), endpoint: endpoint.clone(), address };
                    let name = one.graphite_name(PREFIX);
                    let target = Target::new(one.endpoint, &name, &self.tls, None)?;
                    let target = match address {
                        Some(address) => {
                            target.addressing(AddressChoice::Only(address), aviary_probe::Family::default())
                        }
                        None => target,
                    };
                    series.push(AgentSeries { service: one.service, name, address, target });
                }
            }
        }
        Ok(Assignment { vantage, series, configuration: "demo".to_owned(), services: None })
    }
}
