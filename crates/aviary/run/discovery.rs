//! Asks for endpoints: DNS, files and HTTP servers, each by a task of its own, and none by a thread that probes.

mod ask;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aviary_agent::discovery::Discovered;
use aviary_core::{Clock as _, Endpoint, Second, Series, Vantage};
use aviary_probe::{Dns, Family, SystemClock};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::ask::Asker;
use crate::{
    admin::standing,
    config::{
        Config,
        discovery::{Discovery, Found, Source},
        endpoint::ServiceEndpoint,
        service,
    },
    replace::{make_directory_of, replace},
};

/// How long a start waits for the first answers. What is found later comes as a change.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether they have come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// At most one change in so many seconds, however a record flaps: each gives the agent another crew of lanes.
const CHANGE_EVERY: u64 = 5;

/// What was found last, for a start at which nobody answers.
const COPY: &str = "discovered.json";

/// The discoveries of an agent.
pub(super) struct Discoveries {
    running: Vec<Running>,
    dns: Dns,
    copy: Option<PathBuf>,
    /// What was found before, by service and question.
    kept: BTreeMap<String, Vec<String>>,
    /// The revisions of what is probed, and since when it is.
    taken: (Vec<u64>, Second),
    seen: Arc<Mutex<Vec<standing::Discovery>>>,
}

/// A question that is asked again and again.
struct Running {
    service: String,
    discovery: Discovery,
    family: Family,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// What came of it.
struct State {
    discovered: Discovered<Endpoint>,
    /// For each endpoint that was found, whether it is going: whoever probes it looks there.
    going: BTreeMap<Endpoint, Arc<AtomicBool>>,
    /// Labels in the last answer, of which nothing is made.
    labels: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start(service: &service::Service, discovery: &Discovery, dns: &Dns, kept: Vec<Endpoint>) -> Self {
        let grace = discovery.grace.as_secs();
        let mut state = State {
            discovered: Discovered::new(grace, discovery.at_most, kept),
            going: BTreeMap::new(),
            labels: 0,
        };
        state.mark();
        let state = Arc::new(Mutex::new(state));
        let asker = Asker::new(discovery, dns.clone(), service.family);
        let task = tokio::spawn(ask(asker, name(&service.name, discovery), Arc::clone(&state)));
        let (service, family) = (service.name.clone(), service.family);
        Self { service, discovery: discovery.clone(), family, state, task }
    }

    fn is_of(&self, service: &service::Service, discovery: &Discovery) -> bool {
        (&self.service, &self.discovery, self.family) == (&service.name, discovery, service.family)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Lets whoever probes know what is going.
    fn mark(&mut self) {
        let Self { discovered, going, .. } = self;
        let known: BTreeMap<&Endpoint, bool> = discovered.known().collect();
        going.retain(|endpoint, _| known.contains_key(endpoint));
        for (endpoint, is_going) in known {
            going.entry(endpoint.clone()).or_default().store(is_going, Ordering::Relaxed);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a discovery is called, where there may be others like it.
fn name(service: &str, discovery: &Discovery) -> String {
    format!("{service}: {}", discovery.name())
}

/// Asks for ever.
async fn ask(asker: Asker, name: String, state: Arc<Mutex<State>>) {
    let mut trouble = None;
    loop {
        let answer = asker.ask().await;
        {
            let mut state = lock(&state);
            state.labels = answer.labels;
            state.discovered.answered(SystemClock.wall().second(), answer.found);
            state.mark();
            let now = state.discovered.trouble();
            if now != trouble.as_deref() {
                match now {
                    Some(reason) => tracing::warn!(
                        discovery = name,
                        reason,
                        "Nothing new is found; what was found last stands."
                    ),
                    None => tracing::info!(discovery = name, "Endpoints are found again."),
                }
                trouble = now.map(str::to_owned);
            }
        }
        sleep(answer.ask_again).await;
    }
}

impl Discoveries {
    /// The discoveries of `config` for an agent that keeps its files in `directory`. Asks them for the first time.
    pub(super) async fn start(config: &Config, dns: &Dns, directory: Option<&Path>) -> Self {
        let copy = directory.map(|directory| directory.join(COPY));
        let kept = copy.as_deref().map(read).unwrap_or_default();
        let mut discoveries = Self {
            running: Vec::new(),
            dns: dns.clone(),
            copy,
            kept,
            taken: (Vec::new(), Second::default()),
            seen: Arc::default(),
        };
        discoveries.take_on(config).await;
        discoveries
    }

    /// Asks what `config` says from now on; those that it said before go on.
    pub(super) async fn take_on(&mut self, config: &Config) {
        self.kept.extend(self.found());
        let mut before = std::mem::take(&mut self.running);
        for service in &config.services {
            for discovery in service.discoveries.iter().filter(|it| it.kinds.has(config.kind())) {
                let running = match before.iter().position(|it| it.is_of(service, discovery)) {
                    Some(place) => before.swap_remove(place),
                    None => {
                        let kept = self.kept.get(&name(&service.name, discovery));
                        let kept = kept.into_iter().flatten().filter_map(|url| url.parse().ok()).collect();
                        Running::start(service, discovery, &self.dns, kept)
                    }
                };
                self.running.push(running);
            }
        }
        let all_answered = async {
            while !self.running.iter().all(|it| it.state().discovered.is_answered()) {
                sleep(LOOK_EVERY).await;
            }
        };
        _ = timeout(PATIENCE, all_answered).await;
        self.show();
    }

    /// Whether something has come or gone for good, and long enough after the last such change.
    pub(super) fn have_changed(&self) -> bool {
        let now = SystemClock.wall().second();
        self.running.iter().for_each(|it| {
            let mut state = it.state();
            state.discovered.pass(now);
            state.mark();
        });
        self.show();
        self.revisions() != self.taken.0 && now.0.abs_diff(self.taken.1.0) >= CHANGE_EVERY
    }

    /// `config` with what is found now among the endpoints of its services, as far as that may stand beside the others.
    pub(super) async fn completed(&mut self, config: &Config, vantage: &Vantage) -> Config {
        self.taken = (self.revisions(), SystemClock.wall().second());
        self.keep().await;
        let mut config = config.clone();
        let kind = config.kind();
        for service in &mut config.services {
            let name_of = |endpoint: &Endpoint, service: &service::Service| {
                let series = Series {
                    service: service.name.clone(),
                    vantage: vantage.clone(),
                    endpoint: endpoint.clone(),
                    address: None,
                };
                series.graphite_name(&service.prefix)
            };
            let mut names: BTreeMap<String, Endpoint> = service
                .probed(kind)
                .map(|it| (name_of(&it.endpoint, service), it.endpoint.clone()))
                .collect();
            for running in self.running.iter().filter(|it| it.service == service.name) {
                let Discovery { source, addresses, kinds, .. } = &running.discovery;
                let known_as = match source {
                    Source::Addresses(name, _) => Some(name.clone()),
                    _ => None,
                };
                for (endpoint, is_going) in &running.state().going {
                    let name = name_of(endpoint, service);
                    let bytes = service::payload_bytes(service, &name, *addresses);
                    match names.get(&name) {
                        // Found twice, or written down as well: it is one.
                        Some(other) if other == endpoint => continue,
                        Some(other) => {
                            tracing::error!(%endpoint, %other, name, "Is not probed: another endpoint has its Graphite name.");
                            continue;
                        }
                        None if bytes > service::PAYLOAD_BYTES_MAX => {
                            tracing::error!(%endpoint, bytes, "Is not probed: its datapoints would be too long; shorten prefix or node.");
                            continue;
                        }
                        None => drop(names.insert(name, endpoint.clone())),
                    }
                    service.endpoints.push(ServiceEndpoint {
                        endpoint: endpoint.clone(),
                        required: true,
                        addresses: *addresses,
                        kinds: kinds.clone(),
                        found: Some(Found { known_as: known_as.clone(), is_going: Arc::clone(is_going) }),
                    });
                }
            }
        }
        config
    }

    /// How they are, for whoever asks.
    pub(super) fn standing(&self) -> Arc<Mutex<Vec<standing::Discovery>>> {
        Arc::clone(&self.seen)
    }

    fn show(&self) {
        let shown = self.running.iter().map(|it| {
            let state = it.state();
            let endpoints: Vec<_> =
                state.discovered.known().map(|(it, going)| (it.to_string(), going)).collect();
            standing::Discovery {
                service: it.service.clone(),
                name: it.discovery.name(),
                endpoints,
                trouble: state.discovered.trouble().map(str::to_owned),
                labels: state.labels,
            }
        });
        let shown = shown.collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    fn revisions(&self) -> Vec<u64> {
        self.running.iter().map(|it| it.state().discovered.revision()).collect()
    }

    fn found(&self) -> BTreeMap<String, Vec<String>> {
        let found = self.running.iter().map(|it| {
            let known = it.state().discovered.known().map(|(known, _)| known.to_string()).collect();
            (name(&it.service, &it.discovery), known)
        });
        found.collect()
    }

    /// Keeps what is found for a start at which nobody answers.
    async fn keep(&mut self) {
        let found = self.found();
        // Where nothing is asked yet, whoever says what to ask may be away.
        if found.is_empty() || found == self.kept {
            return;
        }
        self.kept = found;
        let Some(copy) = self.copy.clone() else { return };
        let found = self.kept.clone();
        let written = tokio::task::spawn_blocking(move || write(&copy, &found)).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            tracing::error!(%error, "What is found is not kept for a start at which nobody answers.");
        }
    }
}

/// What an earlier life found. What cannot be read is said, and found anew.
fn read(copy: &Path) -> BTreeMap<String, Vec<String>> {
    let read = fs::read(copy).and_then(|text| Ok(serde_json::from_slice(&text)?));
    read.unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::error!(copy = %copy.display(), %error, "What was found before cannot be read.");
        }
        BTreeMap::new()
    })
}

fn write(copy: &Path, found: &BTreeMap<String, Vec<String>>) -> io::Result<()> {
    // At the first start it is not there yet.
    make_directory_of(copy)?;
    replace(copy, &serde_json::to_vec(found)?, 0o644)
}

/// What an answer has in it.
struct Answer {
    found: Result<BTreeSet<Endpoint>, String>,
    labels: u64,
    ask_again: Duration,
}
