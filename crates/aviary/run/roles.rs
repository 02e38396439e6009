//! The roles as they run: started in the order in which data flows backwards, stopped in the order in which it flows.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use aviary_agent::{Agent, AgentSeries, Push, Token};
use aviary_collector::{Collector, Options, Scope, Server, ServiceOptions, TokenRule};
use aviary_core::{Endpoint, Evidence, Protocol, Series, Vantage};
use aviary_probe::{AddressChoice, ApiKey, Dns, Host, KeyExchange, SystemClock, Target, TlsClient};
use aviary_sink::{Addresses, Arrival, Count, Identity, Sink};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

use crate::config::{self, Config, secret::Pem, service::Addresses as Choice};

/// How many arrivals are handed to the collector in one go.
const ARRIVALS_AT_ONCE: usize = 1_024;

/// The roles that run.
pub(super) struct Roles {
    agent: Option<Agent>,
    collector: Option<(Collector, Server, SocketAddr)>,
    sink: Option<(Arc<Sink>, JoinHandle<()>)>,
}

impl Roles {
    /// Starts what `config` has sections for; where one cannot start, none runs.
    pub(super) async fn start(config: &Config, vantage: Option<&Vantage>) -> anyhow::Result<Self> {
        let internal = internal_token()?;
        let collector = match &config.collector {
            Some(section) => Some(start_collector(section, config, &internal).await?),
            None => None,
        };
        let (sink, trusted) = match &config.sink {
            Some(section) => {
                let identity = match &section.certificate {
                    Some(pem) => Identity::from_pem(pem.expose().as_bytes(), pem.expose().as_bytes())
                        .context("sink.certificate")?,
                    None => Identity::self_signed()?,
                };
                let trusted = identity.ca_pem().map(str::to_owned);
                let collector = collector.as_ref().map(|(collector, ..)| collector.clone());
                (Some(start_sink(section, identity, config, collector).await?), trusted)
            }
            None => (None, None),
        };
        let agent = match (&config.agent, vantage) {
            (Some(section), Some(vantage)) => {
                let own = collector.as_ref().map(|(_, _, address)| (*address, internal.as_str()));
                Some(start_agent(section, vantage, config, own, trusted.as_deref())?)
            }
            _ => None,
        };
        Ok(Self { agent, collector, sink })
    }

    /// The collector of this process and where it listens.
    pub(super) fn collector(&self) -> Option<(&Collector, SocketAddr)> {
        self.collector.as_ref().map(|(collector, _, address)| (collector, *address))
    }

    /// The agent of this process.
    pub(super) const fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// The sink of this process.
    pub(super) fn sink(&self) -> Option<&Sink> {
        self.sink.as_ref().map(|(sink, _)| &**sink)
    }

    /// Ends what runs: the agent first, so that its last report still finds the collector. Returns how many slots of
    /// the agent no collector took.
    pub(super) async fn stop(self) -> u64 {
        let mut untaken = 0;
        if let Some(agent) = self.agent {
            untaken = agent.stop().await;
        }
        if let Some((sink, pump)) = self.sink {
            drop(sink);
            pump.abort();
        }
        if let Some((_, server, _)) = self.collector {
            server.stop().await;
        }
        untaken
    }
}

/// A token that the agent of this process shows its collector, where that asks for tokens.
fn internal_token() -> anyhow::Result<String> {
    let words = [random()?, random()?, random()?];
    Ok(words.iter().map(|word| format!("{word:016x}")).collect())
}

fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    filled.context("the system gives no random numbers")?;
    Ok(u64::from_ne_bytes(bytes))
}

async fn start_collector(
    section: &config::collector::Collector,
    config: &Config,
    internal: &str,
) -> anyhow::Result<(Collector, Server, SocketAddr)> {
    let listener = TcpListener::bind(section.listen).await.with_context(|| {
        let port = section.listen.port();
        format!(
            "the collector cannot listen on {}; find who has the port with `ss -ltnp sport = :{port}`, or set \
             another collector.listen",
            section.listen
        )
    })?;
    let address = listener.local_addr()?;
    let mut tokens: Vec<TokenRule> = section.tokens.iter().map(token_rule).collect();
    if !tokens.is_empty() {
        tokens.push(TokenRule {
            name: "the agent of this process".to_owned(),
            secret: internal.to_owned(),
            scopes: vec![Scope::Report],
            region: None,
        });
    }
    let services = config.services.iter().map(|service| service_options(service, config.sink.is_some()));
    let options =
        Options { name: section.name.clone(), services: services.collect(), tokens, open: section.open };
    let collector = Collector::new(options, SystemClock);
    let server = collector.serve(listener);
    Ok((collector, server, address))
}

fn token_rule(token: &config::collector::Token) -> TokenRule {
    let scope = |scope: &config::collector::Scope| match scope {
        config::collector::Scope::Admin => Scope::Admin,
        config::collector::Scope::Read => Scope::Read,
        config::collector::Scope::Report => Scope::Report,
    };
    TokenRule {
        name: token.name.clone(),
        secret: token.secret.expose().to_owned(),
        scopes: token.scope.iter().map(scope).collect(),
        region: token.region.clone(),
    }
}

fn service_options(service: &config::service::Service, storage: bool) -> ServiceOptions {
    ServiceOptions {
        name: service.name.clone(),
        policy: service.policy.clone(),
        counts_as_delivered: service.counts_as_delivered,
        storage,
        endpoints: service.endpoints.iter().map(|it| (it.endpoint.clone(), it.required)).collect(),
        owner: service.owner.clone(),
        runbook: service.runbook.clone(),
    }
}

async fn start_sink(
    section: &config::sink::Sink,
    identity: Identity,
    config: &Config,
    collector: Option<Collector>,
) -> anyhow::Result<(Arc<Sink>, JoinHandle<()>)> {
    let listen = Addresses {
        tcp: section.tcp,
        udp: section.udp,
        pickle: section.pickle,
        tls: section.tls,
        pickle_tls: section.pickle_tls,
        https: section.https,
    };
    let mut options = aviary_sink::Options::new(listen, identity);
    options.keys = config
        .services
        .iter()
        .filter_map(|service| service.api_key.as_ref())
        .map(|key| key.expose().to_owned())
        .collect();
    let (sink, arrivals) = Sink::start(options, SystemClock).await?;
    let sink = Arc::new(sink);
    let pump = tokio::spawn(pump(Arc::downgrade(&sink), arrivals, collector));
    Ok((sink, pump))
}

/// Hands what arrives to the collector of this process, if there is one.
async fn pump(
    sink: std::sync::Weak<Sink>,
    mut arrivals: mpsc::Receiver<Arrival>,
    collector: Option<Collector>,
) {
    let mut waiting = Vec::with_capacity(ARRIVALS_AT_ONCE);
    let mut overflowed = 0;
    while arrivals.recv_many(&mut waiting, ARRIVALS_AT_ONCE).await > 0 {
        if let Some(collector) = &collector {
            // What overflowed did arrive: that the collector was not told of it is no loss.
            let now = sink.upgrade().map_or(overflowed, |sink| overflow(&sink));
            if now > overflowed {
                tracing::warn!(
                    datapoints = now - overflowed,
                    "Arrivals overflowed; their seconds are not judged by storage."
                );
                overflowed = now;
                collector.storage_untold();
            }
            collector.stored(waiting.iter().map(|arrival| (arrival.name.as_str(), arrival.second)));
        }
        waiting.clear();
    }
}

fn overflow(sink: &Sink) -> u64 {
    let counts = sink.counts();
    Protocol::ALL.iter().map(|protocol| counts.get(*protocol, Count::Overflowed)).sum()
}

fn start_agent(
    section: &config::agent::Agent,
    vantage: &Vantage,
    config: &Config,
    own_collector: Option<(SocketAddr, &str)>,
    trusted: Option<&str>,
) -> anyhow::Result<Agent> {
    let mut tls_clients: BTreeMap<Option<&str>, TlsClient> = BTreeMap::new();
    let mut series = Vec::new();
    for service in &config.services {
        let ca = service.ca.as_ref().map(Pem::text);
        let tls = match tls_clients.get(&ca) {
            Some(tls) => tls.clone(),
            None => {
                let extra: Vec<&[u8]> = [ca, trusted].into_iter().flatten().map(str::as_bytes).collect();
                let tls = TlsClient::new(&extra, KeyExchange::Classic)
                    .with_context(|| format!("service {}", service.name))?;
                tls_clients.entry(ca).or_insert(tls).clone()
            }
        };
        let key = service.api_key.as_ref().map(|key| ApiKey::new(key.expose()));
        for endpoint in &service.endpoints {
            let name = graphite_name(&service.name, vantage, &endpoint.endpoint, &service.prefix);
            let target = Target::new(endpoint.endpoint.clone(), &name, &tls, key.as_ref())?
                .addressing(address_choice(endpoint.addresses), service.family);
            let target = match service.counts_as_delivered {
                Some(rung) if rung < Evidence::PeerClosed => target.counting(rung),
                _ => target,
            };
            series.push(AgentSeries { service: service.name.clone(), name, target });
        }
    }
    let mut token = section.token.as_ref().map(|token| Token::new(token.expose()));
    let mut collectors: Vec<String> = section.collectors.iter().map(ToString::to_string).collect();
    if let (true, Some((address, internal))) = (collectors.is_empty(), own_collector) {
        collectors.push(format!("http://{}", reachable(address)));
        token = token.or_else(|| Some(Token::new(internal)));
    }
    let push = Push { collectors, token, ca: section.ca.as_ref().map(|pem| pem.text().as_bytes().to_vec()) };
    let options = aviary_agent::Options {
        vantage: vantage.clone(),
        series,
        configuration: config.version.clone(),
        boot: random()?,
        push,
    };
    Ok(Agent::start(options, Host::new(Dns::from_system()?), SystemClock)?)
}

const fn address_choice(addresses: Choice) -> AddressChoice {
    match addresses {
        Choice::First => AddressChoice::First,
        Choice::Rotate | Choice::All => AddressChoice::Rotate,
    }
}

fn graphite_name(service: &str, vantage: &Vantage, endpoint: &Endpoint, prefix: &str) -> String {
    let series = Series {
        service: service.to_owned(),
        vantage: vantage.clone(),
        endpoint: endpoint.clone(),
        address: None,
    };
    series.graphite_name(prefix)
}

/// Where a listener on every address is reached from here.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    SocketAddr::new(ip, address.port())
}
