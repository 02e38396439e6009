//! The agent of this process, with what tells how it is, and how it takes on another configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use aviary_agent::{Agent, AgentSeries, Assignment, ClientIdentity, News, Observer, Options, Push, Token};
use aviary_core::{Clock as _, Endpoint, Evidence, Second, Series, Vantage, endpoint};
use aviary_probe::{
    AddressChoice, ApiKey, Dns, Family, Host, KeyExchange, Network as _, Question, Source, SystemClock,
    Target, TlsClient,
};
use aviary_store::{Limits, Spool, SpoolError};
use aviary_wire::report::{Event, EventKind, Version, What};
use tokio::{net::TcpListener, runtime::Runtime, time::timeout};

use super::{
    discovery::Discoveries,
    fallback::{Fallback, Shared},
    roles::{random, reachable},
    tls::end_of,
};
use crate::{
    admin::{
        Admin, Profiler,
        guard::Guard,
        standing::{Discovery, Reload, Rotation, Standing},
    },
    config::{
        self, Config,
        discovery::Found,
        endpoint::{Addresses, ServiceEndpoint},
        limits::{self, HostLimits},
        network::Source as ConfiguredSource,
        secret::Pem,
        service::Service,
    },
    service_manager::ServiceManager,
    statsd::{self, Statsd},
    steer::{Hooks, Node, Steering, View, agent_check},
    telemetry::state_lines::{SeriesLabel, StateLines},
};

/// How long the start waits for the addresses of names each of whose addresses has a series of its own. Later ones come
/// as changes.
const ADDRESSES_PATIENCE: Duration = Duration::from_secs(2);

/// How many series an agent has at most, also of names with many addresses.
const SERIES_MAX: usize = aviary_wire::report::SERIES_MAX;

/// What the configuration does not say: where this agent stands, and what it finds in this process.
pub(super) struct Here {
    /// Where its probes run from.
    pub(super) vantage: Vantage,
    /// The collector of this process, and the token that it takes.
    pub(super) collector: Option<(SocketAddr, String)>,
    /// The authority of the sink of this process.
    pub(super) trusted: Option<String>,
}

/// Threads that nobody waits for, wherever they are dropped: also when the program is interrupted while it ends.
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// A running agent.
pub(super) struct RunningAgent {
    agent: Agent<Host, SystemClock>,
    here: Here,
    /// The configuration with what was found beside it.
    config: Config,
    discoveries: Discoveries,
    dns: Dns,
    host: Host,
    /// Where names are looked up: it outlives the lanes, which come and go.
    _names: Background,
    admin: Admin,
    statsd: Option<(config::debugging::Statsd, Statsd)>,
    reload: Arc<Mutex<Reload>>,
    certificate: Arc<Mutex<Option<Second>>>,
    fallback: Option<Fallback>,
    view: Arc<View>,
    node: Arc<Node>,
    steering: Steering,
    push: Push,
    /// The names of the series that are probed, and the version that they come from.
    assigned: (BTreeSet<String>, String),
    is_durable: bool,
}

impl RunningAgent {
    /// Starts the agent of `section`.
    pub(super) async fn start(
        section: &config::agent::Agent,
        config: &Config,
        here: Here,
        manager: &ServiceManager,
    ) -> anyhow::Result<Self> {
        let names = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("names")
            .enable_all()
            .build()
            .context("cannot start the thread that looks names up")?;
        let looking_up = names.handle().clone();
        // Before anything that can fail: dropped as it is, it would wait, which nothing here may.
        let names = Background(Some(names));
        let dns = match section.name_servers.as_slice() {
            [] => Dns::from_system(),
            servers => Dns::with_servers(servers),
        };
        let dns = dns?.shared_on(looking_up);
        let host = Host::new(dns.clone());
        let listener = bound(section.listen, "agent.listen").await?;
        let debug = bound(section.debugging.listen, "agent.debug_listen").await?;
        let agent_check = bound(section.steering.agent_check, "agent.agent_check").await?;
        let hooks = Hooks::new(section.steering.clone(), here.vantage.node.clone())?;
        let mut discoveries = Discoveries::start(config, &dns, section.data.as_deref()).await;
        let config = discoveries.completed(config, &here.vantage).await;
        find_addresses(&host, &config).await;
        let assignment = assignment(&config, &here, &dns)?;
        let assigned = (names_of(&assignment), assignment.configuration.clone());
        let push = push(section, here.collector.as_ref());
        let watchdog = manager.watchdog(SystemClock);
        let mut fallback = Fallback::new(section, &config, &here.vantage)?;
        let heard = fallback.as_ref().map(Fallback::listener);
        let view = Arc::new(View::of(&config));
        let options = Options {
            assignment,
            boot: random()?,
            push: push.clone(),
            spool: spool(section)?,
            held: section.services_from_collector.then(Vec::new),
            is_durable: section.data.is_some(),
            controls: controls(section, here.trusted.as_deref())?,
            pulse: Box::new(move || watchdog.beat()),
            listener: Box::new(told_of(heard.clone(), Arc::clone(&view))),
        };
        let agent = Agent::start(options, host.clone(), SystemClock)?;
        fallback.iter_mut().for_each(|fallback| fallback.start(agent.observer()));
        let reload = Arc::<Mutex<Reload>>::default();
        let certificate = Arc::new(Mutex::new(end_of_certificate(section)));
        let node = Arc::new(Node::new(Arc::clone(&view), agent.observer().leases(), SystemClock));
        let answering = agent_check.map(|it| tokio::spawn(agent_check::serve(it, Arc::clone(&node))));
        let steering = Steering::start(Arc::clone(&node), hooks, answering);
        let source = source(&agent.observer(), &reload, &certificate, heard, discoveries.standing(), &node);
        let profiler = section.debugging.profiling.then(|| Profiler::new(SystemClock));
        let guard = Guard { read_token: section.read_token, probe_auth: section.probe_auth };
        let admin = Admin::start(listener, debug, profiler, SystemClock, source, guard)?;
        let mut running = Self {
            agent,
            here,
            config,
            discoveries,
            dns,
            host,
            _names: names,
            admin,
            statsd: None,
            reload,
            certificate,
            fallback,
            view,
            node,
            steering,
            push,
            assigned,
            is_durable: section.data.is_some(),
        };
        running.tell_statsd(&section.statsd);
        Ok(running)
    }

    /// Where the agent answers for its health.
    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.address()
    }

    /// How many series there are.
    pub(super) fn series(&self) -> usize {
        self.assigned.0.len()
    }

    /// How the probing is doing.
    pub(super) fn stats(&self) -> aviary_agent::Stats {
        self.agent.stats()
    }

    /// Who can be asked how it is, and told what it is to report.
    pub(super) fn observer(&self) -> Observer<SystemClock> {
        self.agent.observer()
    }

    /// Does all of taking `config` on that can fail, and changes nothing.
    ///
    /// # Errors
    /// Something that cannot be probed.
    pub(super) fn prepare(&self, config: &Config) -> anyhow::Result<()> {
        assignment(config, &self.here, &self.dns).map(drop)
    }

    /// Takes on another configuration: series that stay keep what they have.
    ///
    /// # Errors
    /// Something that cannot be probed or pushed with; what ran before goes on.
    pub(super) async fn take_on(
        &mut self,
        section: &config::agent::Agent,
        config: &Config,
    ) -> anyhow::Result<()> {
        self.discoveries.take_on(config).await;
        let taken = self.try_take_on(section, config).await;
        if taken.is_err() {
            // All of it, or nothing.
            self.agent.redirect(self.push.clone())?;
            self.discoveries.take_on(&self.config).await;
        }
        taken
    }

    async fn try_take_on(&mut self, section: &config::agent::Agent, config: &Config) -> anyhow::Result<()> {
        let config = self.discoveries.completed(config, &self.here.vantage).await;
        find_addresses(&self.host, &config).await;
        let assignment = assignment(&config, &self.here, &self.dns)?;
        let push = push(section, self.here.collector.as_ref());
        self.agent.redirect(push.clone())?;
        self.fallback.iter().for_each(|fallback| fallback.take_on(&config));
        self.view.take_on(&config);
        self.assign(assignment).await?;
        self.push = push;
        self.config = config;
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = end_of_certificate(section);
        self.tell_statsd(&section.statsd);
        Ok(())
    }

    /// Tells the agent which addresses came and went. Where each has a series of its own, begins and ends them, as those
    /// of endpoints that are found, or no more.
    pub(super) async fn follow(&mut self, config: &Config) -> anyhow::Result<()> {
        let changes = self.dns.take_changes();
        for change in &changes {
            let kind = if change.added { EventKind::AddressAdded } else { EventKind::AddressRemoved };
            let (host, address) = (change.host.clone(), change.address);
            tracing::info!(host, %address, added = change.added, "The addresses of a name changed.");
            let what = What::Address { kind, host, address };
            self.agent.noticed(Event { second: change.at, what });
        }
        if self.discoveries.have_changed() {
            let completed = self.discoveries.completed(config, &self.here.vantage).await;
            if let Some(excess) = limits::exceeded(&completed, &HostLimits::of_this_process()).first() {
                anyhow::bail!("{excess}; {}", excess.help());
            }
            find_addresses(&self.host, &completed).await;
            self.assign(assignment(&completed, &self.here, &self.dns)?).await?;
            self.config = completed;
            return Ok(());
        }
        // A name that had no address at the start has no change either when it gets its first.
        let has_each = probed(&self.config).any(|(_, it)| it.addresses == Addresses::All);
        if has_each && self.names_now() != self.assigned.0 {
            self.assign(assignment(&self.config, &self.here, &self.dns)?).await?;
        }
        Ok(())
    }

    /// What became of a reload, for whoever asks.
    pub(super) fn reloaded(&self, error: Option<String>) {
        let mut reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        *reload = Reload { at: Some(SystemClock.wall()), error };
    }

    /// From now on the agent is not ready.
    pub(super) fn shutting_down(&self) {
        self.admin.shutting_down();
    }

    /// Ends; returns how many slots no collector took, and whether they are kept for the next start.
    pub(super) async fn stop(mut self) -> (u64, bool) {
        self.steering.end();
        self.fallback.into_iter().for_each(Fallback::stop);
        let untaken = self.agent.stop().await;
        if let Some((_, statsd)) = self.statsd {
            statsd.stop();
        }
        self.steering.stop().await;
        self.admin.stop().await;
        (untaken, self.is_durable)
    }

    /// The names that the series would have now: cheap enough to be asked each second.
    fn names_now(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (service, endpoint) in probed(&self.config) {
            let addresses = addresses(service, endpoint, &self.dns).into_iter();
            names.extend(
                addresses
                    .map(|address| series(service, endpoint, address, &self.here.vantage))
                    .map(|series| series.graphite_name(&service.prefix)),
            );
        }
        names
    }

    async fn assign(&mut self, assignment: Assignment) -> anyhow::Result<()> {
        let assigned = (names_of(&assignment), assignment.configuration.clone());
        let series = assigned.0.len();
        let first = self.agent.reassign(assignment).await?;
        let (began, ended) = (
            assigned.0.difference(&self.assigned.0).count(),
            self.assigned.0.difference(&assigned.0).count(),
        );
        self.assigned = assigned;
        tracing::info!(series, began, ended, %first, "The series were assigned anew.");
        Ok(())
    }

    fn tell_statsd(&mut self, wanted: &config::debugging::Statsd) {
        let Some(address) = &wanted.address else {
            self.statsd.take().into_iter().for_each(|(_, statsd)| statsd.stop());
            return;
        };
        if self.statsd.as_ref().is_some_and(|(now, _)| now == wanted) {
            return;
        }
        self.statsd.take().into_iter().for_each(|(_, statsd)| statsd.stop());
        let heard = self.fallback.as_ref().map(Fallback::listener);
        let standing = self.discoveries.standing();
        let source =
            source(&self.agent.observer(), &self.reload, &self.certificate, heard, standing, &self.node);
        let told = (statsd::agent_naming(&self.here.vantage, wanted.tags), statsd::of_agent(source));
        let (host, every) = (self.host.clone(), statsd::AGENT_INTERVAL);
        let statsd = Statsd::start(address.clone(), told, every, host, SystemClock);
        self.statsd = Some((wanted.clone(), statsd));
    }
}

/// What listens on `address`, if there is one, which `key` of the configuration says.
pub(super) async fn bound(address: Option<SocketAddr>, key: &str) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        let port = address.port();
        format!(
            "cannot listen on {address}; find who has the port with `ss -ltnp sport = :{port}`, or set another {key}"
        )
    })?;
    Ok(Some(listener))
}

fn source(
    observer: &Observer<SystemClock>,
    reload: &Arc<Mutex<Reload>>,
    certificate: &Arc<Mutex<Option<Second>>>,
    fallback: Option<Arc<Shared>>,
    discoveries: Arc<Mutex<Vec<Discovery>>>,
    node: &Arc<Node>,
) -> crate::admin::Source {
    let (observer, reload, certificate) = (observer.clone(), Arc::clone(reload), Arc::clone(certificate));
    let node = Arc::clone(node);
    Arc::new(move || {
        let reload = reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fallback = fallback.as_ref().map(|fallback| fallback.figures());
        let discoveries = discoveries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let certificate_expires = *certificate.lock().unwrap_or_else(PoisonError::into_inner);
        let rotation = Rotation { answers: node.answers(), counted: Arc::clone(node.counted()) };
        let known = Standing::of(observer.standing(), reload);
        Standing { fallback, discoveries, certificate_expires, rotation, ..known }
    })
}

/// When the certificate ends that the agent shows the collector.
fn end_of_certificate(section: &config::agent::Agent) -> Option<Second> {
    section.identity.as_ref().and_then(|it| end_of(it.certificate.text()))
}

/// Who hears what the agent reports: the log, the view of its services, and the fallback if there is one.
fn told_of(fallback: Option<Arc<Shared>>, view: Arc<View>) -> impl FnMut(News<'_>) + Send {
    let mut log = state_lines();
    move |news| {
        fallback.iter().for_each(|fallback| fallback.hear(&news));
        view.hear(&news);
        log(news);
    }
}

/// One line in the log when a series turns from delivering to losing or back.
fn state_lines() -> impl FnMut(News<'_>) + Send {
    let mut lines = StateLines::new(Vec::new());
    move |news| match news {
        News::Roster(roster) => {
            let label = |series: &aviary_wire::report::RosterSeries| SeriesLabel {
                service: series.service.clone(),
                endpoint: series.endpoint.clone(),
                address: series.address,
            };
            lines.relabel(roster.series.iter().map(label).collect());
        }
        News::Slot { series, second, outcome } => lines.observe(second, series, outcome),
        News::Second(now) => lines.lines(now).iter().for_each(|line| line.log()),
    }
}

fn spool(section: &config::agent::Agent) -> anyhow::Result<Spool> {
    let limits = Limits { bytes: section.spool.bytes, age_seconds: section.spool.age.as_secs() };
    let Some(directory) = &section.data else { return Ok(Spool::in_memory(limits)) };
    let now = SystemClock.wall().second();
    let place = || format!("agent.data = \"{}\"", directory.display());
    let open = || Spool::open(directory, limits, now);
    // Who probes goes on: that is worth more than what waits, and what waits is kept for whoever understands it.
    let begin_anew = |why: String| -> anyhow::Result<Spool> {
        let aside = Spool::set_aside(directory, now).with_context(place)?;
        tracing::error!(aside = %aside.display(),
            "A later version of aviary wrote the spool, and this one begins another: {why}. What waits there is reported by \
             that version, with its directory as `data`.");
        open().with_context(place)
    };
    let mut spool = match open() {
        Err(error @ SpoolError::Newer { .. }) => begin_anew(error.to_string())?,
        opened => opened.with_context(place)?,
    };
    if let Some(version) = aviary_agent::later_version(&mut spool) {
        drop(spool);
        spool =
            begin_anew(format!("its reports have version {version}, and {} are known", Version::known()))?;
    }
    if let Some(trouble) = spool.trouble() {
        tracing::error!(%trouble, "Reports are kept in memory for the time being.");
    }
    let recovered = spool.recovered();
    if let Some(damaged) = &recovered.damaged {
        tracing::error!(reason = damaged.reason, aside = %damaged.aside.display(),
            "The spool was damaged and set aside; what waited in it is not reported.");
    }
    if recovered.records > 0 {
        tracing::info!(reports = recovered.records, "Reports of an earlier life wait for a collector.");
    }
    Ok(spool)
}

pub(super) fn push(section: &config::agent::Agent, own: Option<&(SocketAddr, String)>) -> Push {
    let mut token = section.token.as_ref().map(|token| Token::new(token.expose()));
    let mut collectors: Vec<String> = section.collectors.iter().map(ToString::to_string).collect();
    if let (true, Some((address, internal))) = (collectors.is_empty(), own) {
        collectors.push(format!("http://{}", reachable(*address)));
        token = token.or_else(|| Some(Token::new(internal)));
    }
    let identity = section.identity.as_ref();
    Push {
        collectors,
        token,
        ca: section.ca.as_ref().map(|pem| pem.text().as_bytes().to_vec()),
        identity: identity.map(|it| ClientIdentity::from_pem(it.certificate.text(), it.key.text())),
    }
}

fn controls(section: &config::agent::Agent, trusted: Option<&str>) -> anyhow::Result<Vec<Target>> {
    let extra: Vec<&[u8]> = trusted.into_iter().map(str::as_bytes).collect();
    let tls = TlsClient::new(&extra, KeyExchange::Classic)?;
    let target = |endpoint: &Endpoint| {
        // Nothing is ever sent there, so that the name is nobody's.
        let target = Target::new(endpoint.clone(), "aviary.control", &tls, None)?;
        Ok(match &section.source {
            Some(source) => target.from_source(source_of(source)),
            None => target,
        })
    };
    section.controls.iter().map(target).collect()
}

fn source_of(source: &ConfiguredSource) -> Source {
    match source {
        ConfiguredSource::Address(address) => Source::Address(*address),
        ConfiguredSource::Interface(name) => Source::Interface(name.clone()),
    }
}

/// Looks up the names each of whose addresses has a series of its own.
async fn find_addresses(host: &Host, config: &Config) {
    let second = SystemClock.wall().second();
    let mut names: BTreeSet<(&str, Family)> = BTreeSet::new();
    for (service, endpoint) in probed(config).filter(|(_, it)| it.addresses == Addresses::All) {
        if let endpoint::Host::Name(name) = endpoint.endpoint.host() {
            names.insert((name, service.family));
        }
    }
    let lookups = names.into_iter().map(|(name, family)| host.resolve(Question { name, family, second }));
    // What is not found by then is one series until it is.
    _ = timeout(ADDRESSES_PATIENCE, futures_util::future::join_all(lookups)).await;
}

/// What is probed from here, of each service.
fn probed(config: &Config) -> impl Iterator<Item = (&Service, &ServiceEndpoint)> {
    let of_service =
        |service| Service::probed(service, config.kind()).map(move |endpoint| (service, endpoint));
    config.services.iter().flat_map(of_service)
}

fn names_of(assignment: &Assignment) -> BTreeSet<String> {
    assignment.series.iter().map(|series| series.name.clone()).collect()
}

/// Every series of `config`, seen from here.
fn assignment(config: &Config, here: &Here, dns: &Dns) -> anyhow::Result<Assignment> {
    let mut tls_clients: BTreeMap<Option<&str>, TlsClient> = BTreeMap::new();
    let mut series = Vec::new();
    for service in &config.services {
        let ca = service.ca.as_ref().map(Pem::text);
        let tls = match tls_clients.get(&ca) {
            Some(tls) => tls.clone(),
            None => {
                let trusted = here.trusted.as_deref();
                let extra: Vec<&[u8]> = [ca, trusted].into_iter().flatten().map(str::as_bytes).collect();
                let tls = TlsClient::new(&extra, KeyExchange::Classic)
                    .with_context(|| format!("service {}", service.name))?;
                tls_clients.entry(ca).or_insert(tls).clone()
            }
        };
        for endpoint in service.probed(config.kind()) {
            for address in addresses(service, endpoint, dns) {
                series.push(one(config, service, endpoint, address, &tls, &here.vantage)?);
            }
        }
    }
    if series.len() > SERIES_MAX {
        anyhow::bail!(
            "{} series are too many for one agent, which runs {SERIES_MAX} at most: names have more addresses than \
             when it was configured; share the endpoints out among several agents, or set addresses = \"rotate\"",
            series.len()
        );
    }
    let (vantage, configuration) = (here.vantage.clone(), config.version.clone());
    Ok(Assignment { vantage, series, configuration, services: config.services_version })
}

/// The addresses that have a series of their own; one without an address for all others.
fn addresses(service: &Service, endpoint: &ServiceEndpoint, dns: &Dns) -> Vec<Option<IpAddr>> {
    let each = match (endpoint.addresses, endpoint.endpoint.host()) {
        (Addresses::All, endpoint::Host::Name(name)) => dns.addresses(name, service.family),
        _ => None,
    };
    match each {
        Some(addresses) if !addresses.is_empty() => addresses.into_iter().map(Some).collect(),
        _ => vec![None],
    }
}

fn series(
    service: &Service,
    endpoint: &ServiceEndpoint,
    address: Option<IpAddr>,
    vantage: &Vantage,
) -> Series {
    Series {
        service: service.name.clone(),
        vantage: vantage.clone(),
        endpoint: endpoint.endpoint.clone(),
        address,
    }
}

fn one(
    config: &Config,
    service: &Service,
    endpoint: &ServiceEndpoint,
    address: Option<IpAddr>,
    tls: &TlsClient,
    vantage: &Vantage,
) -> anyhow::Result<AgentSeries> {
    let series = series(service, endpoint, address, vantage);
    let name = series.graphite_name(&service.prefix);
    let choice = match (address, endpoint.addresses) {
        (Some(address), _) => AddressChoice::Only(address),
        (None, Addresses::First) => AddressChoice::First,
        (None, Addresses::Rotate | Addresses::All) => AddressChoice::Rotate,
    };
    let key = service.api_key.as_ref().map(|key| ApiKey::new(key.expose()));
    let mut target =
        Target::new(series.endpoint, &name, tls, key.as_ref())?.addressing(choice, service.family);
    if let Some(Found { known_as, is_going }) = &endpoint.found {
        target = match known_as {
            Some(name) => target.known_as(name)?,
            None => target,
        };
        target = target.withdrawn_by(Arc::clone(is_going));
    }
    if let Some(rung) = service.counts_as_delivered.filter(|rung| *rung < Evidence::PeerClosed) {
        target = target.counting(rung);
    }
    let own = config.agent.as_ref().and_then(|agent| agent.source.as_ref());
    if let Some(source) = service.source.as_ref().or(own) {
        target = target.from_source(source_of(source));
    }
    Ok(AgentSeries { service: series.service, name, address, target })
}
