//! The roles as they run: started in the order in which data flows backwards, stopped in the order in which it flows.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use aviary_collector::{
    Arrived, Collector, Limits, Options, Scope, SecretHash, Server, ServiceOptions, TokenRule,
    delivery::{Delivery, Outside},
    replay::Rules,
};
use aviary_core::{Protocol, Vantage};
use aviary_probe::SystemClock;
use aviary_sink::{Addresses, Arrival, Count, Identity, Sink};
use aviary_store::{RedbStore, Store, StoreError};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

use super::{
    agent::{Here, RunningAgent},
    paging,
    tls::{Paths, Pems, Tls, TlsListener},
};
use crate::{
    admin::metrics,
    config::{self, Config},
    service_manager::ServiceManager,
};

/// How many arrivals are handed to the collector in one go.
const ARRIVALS_AT_ONCE: usize = 1_024;

/// The roles that run.
pub(super) struct Roles {
    agent: Option<RunningAgent>,
    collector: Option<RunningCollector>,
    sink: Option<(Arc<Sink>, JoinHandle<()>)>,
}

/// The collector of this process.
struct RunningCollector {
    collector: Collector,
    delivery: Delivery<SystemClock>,
    servers: Vec<Server>,
    address: SocketAddr,
    /// Where the status page is served.
    status: Option<SocketAddr>,
    /// Where the agent of this process reports to: in plain HTTP, also where the API is served over TLS.
    way_in: SocketAddr,
    /// Follows the files of certificates.
    follow: Option<JoinHandle<()>>,
}

impl Roles {
    /// Starts what `config` has sections for; where one cannot start, none runs.
    pub(super) async fn start(
        config: &Config,
        vantage: Option<&Vantage>,
        manager: &ServiceManager,
    ) -> anyhow::Result<Self> {
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
                let collector = collector.as_ref().map(|running| running.collector.clone());
                (Some(start_sink(section, identity, config, collector).await?), trusted)
            }
            None => (None, None),
        };
        let agent = match (&config.agent, vantage) {
            (Some(section), Some(vantage)) => {
                let here = Here {
                    vantage: vantage.clone(),
                    collector: collector.as_ref().map(|running| (running.way_in, internal.clone())),
                    trusted,
                };
                Some(RunningAgent::start(section, config, here, manager).await?)
            }
            _ => None,
        };
        Ok(Self { agent, collector, sink })
    }

    /// The collector of this process and where it listens.
    pub(super) fn collector(&self) -> Option<(&Collector, SocketAddr)> {
        self.collector.as_ref().map(|running| (&running.collector, running.address))
    }

    /// Where the status page is served.
    pub(super) fn status(&self) -> Option<SocketAddr> {
        self.collector.as_ref().and_then(|running| running.status)
    }

    /// Lets the collector of this process judge and tell as `config` says from now on, by the ways `outside`.
    pub(super) fn take_on(&self, config: &Config, outside: Outside) {
        if let Some(RunningCollector { collector, delivery, .. }) = &self.collector {
            collector.take_on(services(config), config.services_document.clone());
            paging::take_on(collector, delivery, config, outside);
        }
    }

    /// Waits until the collector of this process can keep nothing more, and returns why.
    pub(super) async fn failed(&self) -> Arc<StoreError> {
        match &self.collector {
            Some(running) => running.collector.failed().await,
            None => std::future::pending().await,
        }
    }

    /// The agent of this process.
    pub(super) const fn agent(&self) -> Option<&RunningAgent> {
        self.agent.as_ref()
    }

    /// See [`Self::agent`], to change what it does.
    pub(super) const fn agent_mut(&mut self) -> Option<&mut RunningAgent> {
        self.agent.as_mut()
    }

    /// From now on nothing here is ready for more.
    pub(super) fn shutting_down(&self) {
        self.agent.iter().for_each(RunningAgent::shutting_down);
        self.collector.iter().for_each(|running| running.collector.shutting_down());
    }

    /// The sink of this process.
    pub(super) fn sink(&self) -> Option<&Sink> {
        self.sink.as_ref().map(|(sink, _)| &**sink)
    }

    /// Ends what runs: the agent first, so that its last report still finds the collector. Returns how many slots of
    /// the agent no collector took, and whether they are kept for its next start.
    pub(super) async fn stop(self) -> (u64, bool) {
        let mut untaken = (0, false);
        if let Some(agent) = self.agent {
            untaken = agent.stop().await;
        }
        if let Some((sink, pump)) = self.sink {
            drop(sink);
            pump.abort();
        }
        if let Some(running) = self.collector {
            if let Some(follow) = running.follow {
                follow.abort();
            }
            for server in running.servers {
                server.stop().await;
            }
            running.delivery.stop().await;
            running.collector.close().await;
        }
        untaken
    }
}

/// A token that the agent of this process shows its collector, where that asks for tokens.
fn internal_token() -> anyhow::Result<String> {
    let words = [random()?, random()?, random()?];
    Ok(words.iter().map(|word| format!("{word:016x}")).collect())
}

/// Eight random bytes.
pub(crate) fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    filled.context("the system gives no random numbers")?;
    Ok(u64::from_ne_bytes(bytes))
}

async fn start_collector(
    section: &config::collector::Collector,
    config: &Config,
    internal: &str,
) -> anyhow::Result<RunningCollector> {
    let listener = TcpListener::bind(section.listen).await.with_context(|| {
        let port = section.listen.port();
        format!(
            "the collector cannot listen on {}; find who has the port with `ss -ltnp sport = :{port}`, or set \
             another collector.listen",
            section.listen
        )
    })?;
    let address = listener.local_addr()?;
    let store = match &section.data {
        Some(directory) => Some(open_store(directory.clone()).await?),
        None => None,
    };
    let own_token = TokenRule {
        name: "the agent of this process".to_owned(),
        secret: SecretHash::of(internal),
        scopes: vec![Scope::Report],
        region: None,
        node: None,
        limits: Limits::AGENT,
    };
    let mut tokens: Vec<TokenRule> = section.tokens.iter().map(token_rule).collect();
    if !tokens.is_empty() {
        tokens.push(own_token.clone());
    }
    let options = Options {
        name: section.name.clone(),
        services: services(config),
        tokens,
        open: section.open,
        certified: section.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        services_document: config.services_document.clone(),
        metrics: Some(metrics::collector_page),
        store,
        retain_seconds: Some(section.retain.as_secs()),
        url: paging::url(config),
        paging: paging::paging(config),
        silences: config.silences.clone(),
        test_pages: paging::test_pages(config),
        has_status: section.status.is_some(),
    };
    let outside = paging::outside(config)?;
    let status = match &section.status {
        Some(status) => Some((status.page.clone(), listen_for_customers(status).await?)),
        None => None,
    };
    let collector = Collector::new(options, SystemClock)?;
    let delivery = paging::deliver(&collector, config, outside);
    let mut servers = Vec::new();
    let mut status_address = None;
    if let Some((page, listener)) = status {
        status_address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        servers.push(collector.serve_status(page, listener));
    }
    let status = status_address;
    let Some(section) = &section.tls else {
        servers.push(collector.serve(listener));
        let way_in = address;
        return Ok(RunningCollector { collector, delivery, servers, address, status, way_in, follow: None });
    };
    let (pems, paths) = tls_files(section);
    let tls = Tls::new(&pems)?;
    let mut way_in = address;
    if config.agent.as_ref().is_some_and(|agent| agent.collectors.is_empty()) {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        way_in = listener.local_addr()?;
        servers.push(collector.serve_reports(listener, own_token));
    }
    servers.push(collector.serve(TlsListener::new(listener, tls.clone(), SystemClock)?));
    let follow = Some(tokio::spawn(tls.follow(paths, pems)));
    Ok(RunningCollector { collector, delivery, servers, address, status, way_in, follow })
}

/// Where the status page is served, if it is.
async fn listen_for_customers(status: &config::status::Status) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = status.listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        let port = address.port();
        format!(
            "the status page cannot be served on {address}; find who has the port with `ss -ltnp sport = :{port}`, or set \
             another collector.status.listen"
        )
    })?;
    Ok(Some(listener))
}

/// Opens the collector's store, and says what was found.
async fn open_store(directory: PathBuf) -> anyhow::Result<Arc<dyn Store>> {
    let store =
        tokio::task::spawn_blocking(move || RedbStore::open(&directory)).await?.context("collector.data")?;
    let found = store.found();
    let (path, bytes) = (store.path().display().to_string(), found.bytes);
    if found.was_cut {
        tracing::warn!(
            path,
            bytes,
            "The process before was killed, or the power went. What it was writing then, and had acknowledged to nobody, is cut off."
        );
    } else {
        tracing::info!(path, bytes, is_new = found.is_new, "Reports are kept on disk.");
    }
    Ok(Arc::new(store))
}

fn tls_files(section: &config::collector::Tls) -> (Pems, Paths) {
    let config::collector::Tls { certificate, key, client_ca } = section;
    let pems = Pems {
        certificate: certificate.text().to_owned(),
        key: key.text().to_owned(),
        client_ca: client_ca.as_ref().map(|pem| pem.text().to_owned()),
    };
    let paths = Paths {
        certificate: certificate.path.clone(),
        key: key.path.clone(),
        client_ca: client_ca.as_ref().and_then(|pem| pem.path.clone()),
    };
    (pems, paths)
}

fn token_rule(token: &config::collector::Token) -> TokenRule {
    let scope = |scope: &config::collector::Scope| match scope {
        config::collector::Scope::Admin => Scope::Admin,
        config::collector::Scope::Read => Scope::Read,
        config::collector::Scope::Report => Scope::Report,
    };
    TokenRule {
        name: token.name.clone(),
        secret: token.secret,
        scopes: token.scope.iter().map(scope).collect(),
        region: token.region.clone(),
        node: token.node.clone(),
        limits: token.limits,
    }
}

/// By what rules `config` has services judged.
pub(crate) fn rules(config: &Config) -> Rules {
    Rules {
        name: config.collector.as_ref().map_or_else(String::new, |section| section.name.clone()),
        services: services(config),
        paging: paging::paging(config),
        silences: config.silences.clone(),
    }
}

/// The services that a collector judges.
fn services(config: &Config) -> Vec<ServiceOptions> {
    config.services.iter().map(|service| service_options(service, config)).collect()
}

fn service_options(service: &config::service::Service, config: &Config) -> ServiceOptions {
    ServiceOptions {
        name: service.name.clone(),
        policy: service.policy.clone(),
        counts_as_delivered: service.counts_as_delivered,
        storage: config.sink.is_some() || service.readback.is_some(),
        readback: service.readback.as_ref().map(config::readback::Readback::options),
        endpoints: service.endpoints.iter().map(|it| (it.endpoint.clone(), it.required)).collect(),
        alerting: paging::alerting(service, config),
        owner: service.owner.clone(),
        runbook: service.runbook.clone(),
        status: service.status.clone(),
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
pub(crate) async fn pump(
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
            collector.received(waiting.iter().map(|arrival| {
                let Arrival { name, second, value, at, .. } = arrival;
                Arrived { name, second: *second, value: *value, at: *at }
            }));
        }
        waiting.clear();
    }
}

fn overflow(sink: &Sink) -> u64 {
    let counts = sink.counts();
    Protocol::ALL.iter().map(|protocol| counts.get(*protocol, Count::Overflowed)).sum()
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
