//! The roles as they run: started in the order in which data flows backwards, stopped in the order in which it flows.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use aviary_collector::{
    Arrived, CertificateRule, Collector, Limits, Options, ProxyRule, Scope, SecretHash, Server,
    ServiceOptions, SessionKey, TokenRule,
    delivery::{Delivery, Outside},
    replay::Rules,
};
use aviary_core::{Protocol, Vantage};
use aviary_probe::{Dns, Host, SystemClock};
use aviary_sink::{Addresses, Arrival, Count, Identity, Sink};
use aviary_store::{RedbStore, Store, StoreError};
use axum::Router;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    task::JoinHandle,
};

use super::{
    agent::{Here, RunningAgent, bound},
    paging, session_key,
    tls::{Paths, Pems, Tls, TlsListener},
};
use crate::{
    admin::{
        Profiler, Requests,
        debug::{self, Debug},
        metrics,
    },
    bounded::Bounded,
    config::{self, Config, limits::HostLimits},
    service_manager::ServiceManager,
    statsd::{self, Statsd},
};

/// How many arrivals are handed to the collector in one go.
const ARRIVALS_AT_ONCE: usize = 1_024;

/// How many connections to the collector are open at most: an agent has one or two.
const CONNECTIONS_MAX: usize = 16_384;

/// And where it is looked into.
const DEBUG_CONNECTIONS_MAX: usize = 64;

/// And to the status page, which is for everybody: what they hold, nobody else lacks.
const STATUS_CONNECTIONS_MAX: usize = 1_024;

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
    statsd: Option<Statsd>,
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
            if let Some(section) = &config.collector {
                collector.allow_rollouts(section.rollout_timeout);
            }
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
            running.statsd.into_iter().for_each(Statsd::stop);
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
    // Where somebody is asked who they are, so is the agent of this process.
    if !tokens.is_empty() || !section.clients.is_empty() || section.proxy.is_some() {
        tokens.push(own_token.clone());
    }
    let session_key = match &section.data {
        Some(directory) => session_key::kept(directory.clone()).await?,
        None => SessionKey::new(&session_key::random()?),
    };
    let options = Options {
        name: section.name.clone(),
        services: services(config),
        tokens,
        certificates: section.clients.iter().map(certificate_rule).collect(),
        proxy: section.proxy.as_ref().map(proxy_rule),
        session_key: Some(session_key),
        probe_auth: section.probe_auth,
        open: section.open,
        certified: section.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        services_document: config.services_document.clone(),
        rollout_timeout: Some(section.rollout_timeout),
        metrics: Some(metrics::collector_page),
        store,
        retain_seconds: Some(section.retain.as_secs()),
        url: paging::url(config),
        paging: paging::paging(config),
        silences: config.silences.clone(),
        test_pages: paging::test_pages(config),
        has_status: section.status.is_some(),
        rotation: section.rotation.as_ref().map(config::rotation::Rotation::options).unwrap_or_default(),
    };
    let outside = paging::outside(config)?;
    let status = match &section.status {
        Some(status) => Some((status.page.clone(), listen_for_customers(status).await?)),
        None => None,
    };
    let checks = section.rotation.as_ref().and_then(|rotation| rotation.agent_check);
    let checks = checks.map(bound_for_checks).transpose()?;
    let outlets = paging::outlets(section)?;
    let collector = Collector::new(options, SystemClock)?;
    let delivery = paging::deliver(&collector, config, outside);
    let statsd = tell_statsd(&section.name, &section.statsd, &collector)?;
    let (around, mut servers) = debugging(&section.debugging, &collector).await?;
    servers.extend(collector.serve_outlets(outlets));
    servers.extend(checks.map(|socket| collector.serve_agent_checks(socket)));
    let open_max = connections_max();
    let mut status_address = None;
    if let Some((page, listener)) = status {
        status_address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        servers.push(collector.serve_status(
            page,
            listener.map(|listener| Bounded::new(listener, STATUS_CONNECTIONS_MAX.min(open_max / 4))),
        ));
    }
    let status = status_address;
    let Some(section) = &section.tls else {
        servers.push(collector.serve_with(Bounded::new(listener, open_max), around));
        let (way_in, follow) = (address, None);
        return Ok(RunningCollector {
            collector,
            delivery,
            servers,
            statsd,
            address,
            status,
            way_in,
            follow,
        });
    };
    let (pems, paths) = tls_files(section);
    let tls = Tls::new(&pems)?;
    let mut way_in = address;
    if config.agent.as_ref().is_some_and(|agent| agent.collectors.is_empty()) {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        way_in = listener.local_addr()?;
        servers.push(collector.serve_reports(listener, own_token));
    }
    let listener = TlsListener::new(listener, tls.clone(), SystemClock)?;
    servers.push(collector.serve_with(Bounded::new(listener, open_max), around));
    let told = collector.clone();
    let follow = Some(tokio::spawn(tls.follow(paths, pems, move |end| told.certificate_ends(end))));
    Ok(RunningCollector { collector, delivery, servers, statsd, address, status, way_in, follow })
}

/// What is to be put around the pages and the API of `collector`, and the server of what has an address of its own.
async fn debugging(
    section: &config::debugging::Debugging,
    collector: &Collector,
) -> anyhow::Result<(impl FnOnce(Router) -> Router, Vec<Server>)> {
    let requests = Requests::new(SystemClock);
    let of_vars = collector.clone();
    let series = Box::new(move || metrics::collector_series(of_vars.figures()));
    let profiler = section.profiling.then(|| Profiler::new(SystemClock));
    let debug = Debug::new(series, Arc::clone(&requests), profiler);
    let debug = collector.for_admins(debug::router(debug));
    let (beside, servers) = match bound(section.listen, "collector.debug_listen").await? {
        Some(listener) => {
            let router = requests.counted(debug::alone(debug));
            (None, vec![collector.serve_beside(Bounded::new(listener, DEBUG_CONNECTIONS_MAX), router)])
        }
        None => (Some(debug), Vec::new()),
    };
    let around = move |router: Router| {
        requests.counted(beside.into_iter().fold(router, |router, debug| router.merge(debug)))
    };
    Ok((around, servers))
}

fn tell_statsd(
    name: &str,
    section: &config::debugging::Statsd,
    collector: &Collector,
) -> anyhow::Result<Option<Statsd>> {
    let Some(address) = &section.address else { return Ok(None) };
    let (naming, collector) = (statsd::collector_naming(name, section.tags), collector.clone());
    let lines = statsd::of_collector(move || collector.figures());
    let (host, every) = (Host::new(Dns::from_system()?), statsd::COLLECTOR_INTERVAL);
    Ok(Some(Statsd::start(address.clone(), (naming, lines), every, host, SystemClock)))
}

/// How many connections to the collector may be open at once: half of the files that this process may have are left to
/// whatever else it does.
fn connections_max() -> usize {
    let half = HostLimits::of_this_process().files / 2;
    half.min(CONNECTIONS_MAX as u64) as usize
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

/// Where agent checks will be answered: nobody can connect there before the collector knows what to say.
fn bound_for_checks(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Answered checks linger, and are no reason not to start.
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| {
        let port = address.port();
        format!(
            "agent checks cannot be answered on {address}; find who has the port with `ss -ltnp sport = :{port}`, or set \
             another collector.rotation.agent_check"
        )
    })?;
    Ok(socket)
}

/// Opens the collector's store, and says what was found.
async fn open_store(directory: PathBuf) -> anyhow::Result<Arc<dyn Store>> {
    let store =
        tokio::task::spawn_blocking(move || RedbStore::open(&directory)).await?.context("collector.data")?;
    store.time_syncs(SystemClock);
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

fn scopes(given: &[config::collector::Scope]) -> Vec<Scope> {
    let scope = |scope: &config::collector::Scope| match scope {
        config::collector::Scope::Admin => Scope::Admin,
        config::collector::Scope::Read => Scope::Read,
        config::collector::Scope::Report => Scope::Report,
    };
    given.iter().map(scope).collect()
}

fn certificate_rule(client: &config::access::Client) -> CertificateRule {
    let config::access::Client { name, subjects, scope, region, node } = client.clone();
    CertificateRule { name, subjects, scopes: scopes(&scope), region, node }
}

fn proxy_rule(proxy: &config::access::Proxy) -> ProxyRule {
    let config::access::Proxy { from, user, groups, scope, group } = proxy.clone();
    let scopes_of = group.into_iter().map(|(name, scope)| (name, scopes(&scope))).collect();
    ProxyRule { from, user, groups, scopes_of, scopes: scopes(&scope) }
}

fn token_rule(token: &config::collector::Token) -> TokenRule {
    TokenRule {
        name: token.name.clone(),
        secret: token.secret,
        scopes: scopes(&token.scope),
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
    // One that is listed for each kind of vantage by itself is one endpoint all the same.
    let mut endpoints = BTreeMap::<_, bool>::new();
    for it in &service.endpoints {
        *endpoints.entry(it.endpoint.clone()).or_default() |= it.required;
    }
    ServiceOptions {
        name: service.name.clone(),
        policy: service.policy.clone(),
        counts_as_delivered: service.counts_as_delivered,
        storage: config.sink.is_some() || service.readback.is_some(),
        readback: service.readback.as_ref().map(config::readback::Readback::options),
        endpoints: endpoints.into_iter().collect(),
        alerting: paging::alerting(service, config),
        owner: service.owner.clone(),
        runbook: service.runbook.clone(),
        status: service.status.clone(),
        steering: service.rotation.clone(),
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
