//! The collector: takes reports, keeps the ledger, says what it says of each service, and answers questions about it.
//!
//! ```text
//! intake -> state (catalog, ledger, losses) -> windows -> verdicts -> API
//!    v          ^ what storage shows
//! journal, and each minute a checkpoint -> the next start
//! ```
//!
//! **Architecture invariants:** nothing here assumes that it is the only collector or that reports arrive in order:
//! every change of the ledger is a join. The collector knows nothing of the agent but its reports.

mod access;
mod agents;
mod api;
mod checkpoint;
pub mod delivery;
mod document;
mod error;
mod events;
mod figures;
mod health;
mod history;
mod intake;
mod journal;
mod judgement;
mod judging;
mod keeping;
mod options;
mod pages;
mod readback;
mod received;
pub mod replay;
mod rollout;
mod rotation;
pub mod runbooks;
mod services;
mod serving;
mod slots;
mod start;
mod state;
mod status;
mod stored;
mod stream;
mod sums;
mod telling;
mod timings;
mod tokens;
#[cfg(test)]
mod troubled;
mod visitor;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{Clock, Micros, Second, Tag, Timestamp, rollout::Version};
use aviary_store::StoreError;
use axum::{Router, middleware};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};

pub use access::{
    CertificateRule, Limits, Peer, ProxyRule, Scope, SecretHash, SecretHashError, SessionKey, Subject,
    TokenCounts, TokenRule, leads_nowhere_else,
};
pub use aviary_store::{Store, StoreFigures};
pub use axum::serve::Listener;
pub use error::{ERROR_CODES, ErrorCode};
pub use figures::{Figures, MetricsPage, ServiceFigures};
pub use history::HistoryError;
pub use journal::JournalFigures;
pub use judgement::{Alerting, Burst, TestPages};
pub use options::{Options, ServiceOptions};
pub use pages::LiveFigures;
pub use readback::{
    Credentials, RESOLUTION_SECONDS_MAX, Readback, Reader, SETTLE_SECONDS_MAX, SetUpError, Shown, look,
};
pub use received::{Arrived, ReceivedCounts};
pub use rollout::{ROLLOUT_TIMEOUT, RolloutFigures};
pub use rotation::{FleetSteering, OutletFigures, PoolFigures, RotationFigures, Steering};
pub use serving::Server;
pub use state::{Counts, Phases, ReadBackFigures, SlotCounts};
pub use status::{Publish, ServiceStatus, StatusFigures, StatusPage};

use crate::{
    access::{Access, Rules, issued::Issued},
    delivery::{DeliveryFigures, Signs, pagerduty},
    document::Document,
    history::{Fleet, History, Lives, Record},
    judgement::Judgement,
    rollout::Rollouts,
    rotation::Steerer,
    serving::serve_until,
    start::Durable,
    state::State,
};

/// A second is closed so many seconds after it began: its last slot is due almost a second in, has a second to its
/// deadline, and its report leaves within another.
pub const CLOSED_AFTER_SECONDS: u64 = 3;

/// What storage has not shown so many seconds after a second was closed, it lacks: a relay on the way may hold
/// datapoints back for a second or two.
const SETTLE_SECONDS: u64 = 5;

/// How many reports are read and taken at once; more are told to come back.
const REPORTS_AT_ONCE: usize = 64;

/// How many questions about slots and sums are answered at once; more are told to come back.
const QUESTIONS_AT_ONCE: usize = 16;

/// A collector: cheap to clone, all clones are the same one.
#[derive(Clone)]
pub struct Collector {
    inner: Arc<Inner>,
    access: Arc<Access>,
}

struct Inner {
    state: Mutex<State>,
    rollouts: Rollouts,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    monotonic: Box<dyn Fn() -> Micros + Send + Sync>,
    intake: Semaphore,
    /// By the monotonic clock: the wall clock may be stepped.
    started: Micros,
    started_at: Timestamp,
    is_shutting_down: AtomicBool,
    newest_by_place: Arc<tokio::sync::Mutex<health::Newest>>,
    metrics: Option<MetricsPage>,
    questions: Arc<Semaphore>,
    history: Arc<History>,
    judgement: Arc<Judgement>,
    /// Something lost was told of, which nobody has looked at yet.
    lost: Notify,
    pagerduty: Arc<pagerduty::Secrets>,
    /// What the newest loop of judgement saw.
    signs: watch::Sender<Option<Signs>>,
    url: Mutex<Option<String>>,
    /// Those who watch pages change.
    live: pages::Live,
    /// The public status page, if there is to be one.
    status: status::Running,
    has_status: bool,
    /// Tells what became of pages.
    delivery: Mutex<Option<Box<dyn Fn() -> DeliveryFigures + Send + Sync>>>,
    durable: Option<Durable>,
    /// When the certificate of its listener ends, in Unix seconds; 0 where there is none.
    certificate_ends: AtomicU64,
    steerer: Steerer,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.history.close();
    }
}

/// The collector as its history sees it: the history's thread does not keep it alive.
impl Fleet for Weak<Inner> {
    fn lives(&self) -> Option<(Lives, Arc<Vec<aviary_core::SeriesId>>)> {
        self.upgrade()?.lives()
    }

    fn records(&self, first: usize, count: usize) -> Vec<Record> {
        self.upgrade().map(|inner| inner.records(first, count)).unwrap_or_default()
    }

    fn now(&self) -> Option<Second> {
        Fleet::now(&*self.upgrade()?)
    }
}

impl Fleet for Inner {
    fn lives(&self) -> Option<(Lives, Arc<Vec<aviary_core::SeriesId>>)> {
        self.state().lives()
    }

    fn records(&self, first: usize, count: usize) -> Vec<Record> {
        self.state().records(first, count)
    }

    fn now(&self) -> Option<Second> {
        Some((self.now)().second())
    }
}

/// What the public is told of.
fn shown(services: &[ServiceOptions], has_status: bool) -> status::Shown {
    let services = services.iter().filter(|_| has_status);
    status::Shown::new(services.map(|service| (service.name.clone(), service.status.clone())))
}

/// Where slots are kept beyond the ledger.
fn open_history(options: &Options) -> History {
    let retain_seconds = options.retain_seconds.unwrap_or(u64::MAX);
    match &options.store {
        Some(store) => History::open(Arc::clone(store), retain_seconds),
        None => History::in_memory(retain_seconds),
    }
}

impl Collector {
    /// A collector by `clock`. One with a store begins to take up what that holds, and takes reports and answers
    /// questions once it has; see [`Self::failed`] for where it cannot.
    ///
    /// # Errors
    /// If the system gives no thread, or the tokens that the store holds cannot be read.
    pub fn new(options: Options, clock: impl Clock) -> Result<Self, HistoryError> {
        let durable = options.store.clone().map(Durable::new);
        Self::assemble(options, durable, clock)
    }

    fn assemble(options: Options, durable: Option<Durable>, clock: impl Clock) -> Result<Self, HistoryError> {
        let history = Arc::new(open_history(&options));
        let issued = Issued::open(options.store.clone())?;
        let rollouts = Rollouts::open(options.store.clone(), options.rollout_timeout, clock.wall())?;
        let document = options.services_document.clone();
        let access = Access::new(Rules {
            tokens: options.tokens,
            certificates: options.certificates,
            proxy: options.proxy,
            open: options.open,
            certified: options.certified,
            session_key: options.session_key,
            probe_auth: options.probe_auth,
            name: options.name.clone(),
        })
        .with_issued(issued);
        let judgement = Judgement::new(&options.name, options.store, options.paging);
        judgement.plan(options.silences, clock.wall());
        judgement.test_by(options.test_pages);
        judgement.show(shown(&options.services, options.has_status));
        let state = State::new(options.name, options.services, clock.wall());
        let (monotonic, started, started_at) = (clock.clone(), clock.monotonic(), clock.wall());
        let inner = Inner {
            state: Mutex::new(state),
            rollouts,
            now: Box::new(move || clock.wall()),
            monotonic: Box::new(move || monotonic.monotonic()),
            intake: Semaphore::new(REPORTS_AT_ONCE),
            started,
            started_at,
            is_shutting_down: AtomicBool::new(false),
            newest_by_place: Arc::default(),
            metrics: options.metrics,
            questions: Arc::new(Semaphore::new(QUESTIONS_AT_ONCE)),
            history: Arc::clone(&history),
            judgement: Arc::new(judgement),
            lost: Notify::new(),
            pagerduty: Arc::default(),
            signs: watch::Sender::new(None),
            url: Mutex::new(options.url),
            live: pages::Live::default(),
            status: status::Running::default(),
            has_status: options.has_status,
            delivery: Mutex::new(None),
            durable,
            certificate_ends: AtomicU64::new(0),
            steerer: Steerer::new(options.rotation),
        };
        let inner = Arc::new(inner);
        if inner.durable.is_some() {
            start::begin(&inner);
        } else {
            let (mut state, now) = (inner.state(), (inner.now)());
            state.keep_history(Arc::clone(&history), now)?;
            state.judge(now);
            drop(state);
            let fleet = Arc::downgrade(&inner);
            let thread = std::thread::Builder::new().name("history".to_owned());
            thread.spawn(move || history.keep(&fleet)).map_err(HistoryError::Thread)?;
        }
        let collector = Self { inner, access: Arc::new(access) };
        collector.offer(document);
        Ok(collector)
    }

    /// Commits what was told before this is called: reports that were taken before need not be told again. It may wait
    /// for the disk.
    ///
    /// # Errors
    /// What could not be committed is still held.
    pub fn settle_history(&self) -> Result<(), HistoryError> {
        self.inner.history.settle(&*self.inner)
    }

    /// Waits until nothing can be kept any more in the life of this process, and returns why: then it is to be ended,
    /// since what is told from then on would be lost. Without a store, or while all is well, it waits for ever.
    pub async fn failed(&self) -> Arc<StoreError> {
        match &self.inner.durable {
            Some(durable) => durable.failed().await,
            None => std::future::pending().await,
        }
    }

    /// From now on it is not ready, whatever else, and works all the same: the process ends, and whoever balances is to look
    /// elsewhere. To be called before its servers are stopped.
    pub fn shutting_down(&self) {
        self.inner.is_shutting_down.store(true, Ordering::Relaxed);
    }

    /// Notes that what its listener shows is valid until `end`: it warns of that in time.
    pub fn certificate_ends(&self, end: Second) {
        self.inner.certificate_ends.store(end.0, Ordering::Relaxed);
    }

    fn is_shutting_down(&self) -> bool {
        self.inner.is_shutting_down.load(Ordering::Relaxed)
    }

    /// Microseconds since it was made.
    fn uptime_us(&self) -> u64 {
        self.monotonic().since(self.inner.started)
    }

    /// Keeps what is known for the next start, and nothing more afterwards. To be called when its servers have stopped.
    pub async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        if let Err(error) = tokio::task::spawn_blocking(move || start::end(&inner)).await {
            tracing::error!(%error, "What is known could not be kept for the next start.");
        }
    }

    /// Serves the pages and the API on `listener`, and judges each second, until the server is stopped.
    pub fn serve<L>(&self, listener: L) -> Server
    where
        L: Listener,
        L::Addr: Clone + fmt::Debug + Into<Peer>,
    {
        self.serve_with(listener, |router| router)
    }

    /// The same, with what `around` makes of the pages and the API.
    pub fn serve_with<L>(&self, listener: L, around: impl FnOnce(Router) -> Router) -> Server
    where
        L: Listener,
        L::Addr: Clone + fmt::Debug + Into<Peer>,
    {
        let (stop, stopped) = watch::channel(false);
        let router = around(api::router(self.clone(), stopped.clone()));
        let http = serve_until(stopped.clone(), router, listener);
        let judged = tokio::spawn(self.clone().judge_each_second(stopped.clone()));
        let read_back = tokio::spawn(readback::task::run(self.clone(), stopped));
        Server { stop, http, own_work: vec![judged, read_back] }
    }

    /// Serves the pages and the API, and judges nothing by itself: for a test that does, the loop of judgement would judge
    /// seconds of before once more.
    #[cfg(test)]
    fn serve_unjudged(&self, listener: tokio::net::TcpListener) -> Server {
        let (stop, stopped) = watch::channel(false);
        let router = api::router(self.clone(), stopped.clone());
        Server { stop, http: serve_until(stopped, router, listener), own_work: Vec::new() }
    }

    /// Serves `router`, and nothing else, on `listener`, which knows who asks: see [`Self::for_admins`].
    pub fn serve_beside<L>(&self, listener: L, router: Router) -> Server
    where
        L: Listener,
        L::Addr: Clone + fmt::Debug + Into<Peer>,
    {
        let (stop, stopped) = watch::channel(false);
        Server { stop, http: serve_until(stopped, router, listener), own_work: Vec::new() }
    }

    /// `router`, for those who may administer this collector, on one of its listeners.
    pub fn for_admins(&self, router: Router) -> Router {
        router.route_layer(middleware::from_fn_with_state(self.clone(), api::admins_only))
    }

    /// Takes reports, and nothing else, on `listener` from whoever shows `token`: a way in for the agent of this
    /// process where the API is served in a way that it cannot use.
    pub fn serve_reports<L: Listener<Addr = SocketAddr>>(&self, listener: L, token: TokenRule) -> Server {
        let (stop, stopped) = watch::channel(false);
        let rules = Rules { tokens: vec![token], ..Rules::default() };
        let way_in = Self { inner: Arc::clone(&self.inner), access: Arc::new(Access::new(rules)) };
        Server { stop, http: serve_until(stopped, api::intake_only(way_in), listener), own_work: Vec::new() }
    }

    /// Judges these services from now on, and rolls `document`, in which agents are told of them, out. What was counted stays counted.
    pub fn take_on(&self, services: Vec<ServiceOptions>, document: Option<String>) {
        let now = self.now();
        let known: Vec<String> = self.state().services().into_iter().map(|service| service.name).collect();
        for name in known.iter().filter(|name| !services.iter().any(|service| service.name == **name)) {
            self.judgement().removed(Tag::Service, name, now);
        }
        self.judgement().show(shown(&services, self.inner.has_status));
        {
            let mut state = self.state();
            state.configure(services, now);
            state.judge(now);
        }
        self.offer(document);
    }

    /// Gives rollouts so long from now on.
    pub fn allow_rollouts(&self, timeout: Duration) {
        self.inner.rollouts.set_timeout(timeout);
    }

    /// Notes that storage has a datapoint called `name` (without an API key) for `second`.
    pub fn stored<'a>(&self, points: impl IntoIterator<Item = (&'a str, Second)>) {
        let now = self.now();
        let mut state = self.state();
        state.advance(now);
        for (name, second) in points {
            state.stored(name, second);
        }
    }

    /// Notes that the service under test forwarded these datapoints to us, which is as good as having stored them.
    pub fn received<'a>(&self, points: impl IntoIterator<Item = Arrived<'a>>) {
        let now = self.now();
        let mut state = self.state();
        state.advance(now);
        for point in points {
            state.receive(point);
        }
    }

    /// Storage may have datapoints that were not told: slots up to now are not settled as lost for want of them.
    pub fn storage_untold(&self) {
        let now = self.now();
        self.state().storage_untold(now.second());
    }

    /// The newest seconds that are closed, `count` of them.
    pub fn newest_closed(&self, count: u64) -> aviary_core::Span {
        aviary_core::Span::before(closed_until(self.now()), count)
    }

    /// Delivered and scheduled slots of `span` by protocol.
    pub fn by_protocol(&self, span: aviary_core::Span) -> Vec<(String, aviary_core::Window)> {
        let now = self.now();
        let mut state = self.state();
        state.advance(now);
        let lives = |id| state.ledger().life(id).until > span.from;
        let grouping = state.catalog().group(&[Tag::Protocol], lives);
        let windows = state.ledger().sums(span, &grouping.group_of, grouping.values.len());
        grouping.values.into_iter().flatten().zip(windows).collect()
    }

    /// The state of each service, with what was counted of the collector's own work.
    pub fn standing(&self) -> (Vec<(String, aviary_core::State)>, Counts) {
        let now = self.now();
        let mut state = self.state();
        state.judge(now);
        (
            state.standing().map(|(name, standing)| (name.to_owned(), standing.verdict.state)).collect(),
            state.counts(),
        )
    }

    /// A place among the reports that are taken, unless too many are.
    fn admit(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.intake.try_acquire().ok()
    }

    /// A place among the questions that are answered, unless too many are.
    fn question(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.questions).try_acquire_owned().ok()
    }

    /// The share of what it kept that it has taken up, unless that is all.
    fn replaying(&self) -> Option<f64> {
        self.inner.durable.as_ref().and_then(Durable::replaying)
    }

    fn now(&self) -> Timestamp {
        (self.inner.now)()
    }

    fn metrics_page(&self) -> Option<MetricsPage> {
        self.inner.metrics
    }

    fn monotonic(&self) -> Micros {
        (self.inner.monotonic)()
    }

    pub(crate) fn judgement(&self) -> &Judgement {
        &self.inner.judgement
    }

    fn history(&self) -> &History {
        &self.inner.history
    }

    fn status_page(&self) -> &status::Running {
        &self.inner.status
    }

    fn access(&self) -> &Access {
        &self.access
    }

    /// The services for agents: the active version, or the one that is asked for.
    fn services_document(&self, version: Option<Version>) -> Option<Arc<Document>> {
        self.inner.rollouts.now().document(version)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a join of whole facts: what a panicking thread left behind is a ledger that lacks some.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the report says that stands under `key` in the journal of a store, as JSON for people.
pub fn journalled(key: &[u8], value: &[u8]) -> Option<serde_json::Value> {
    journal::shown(key, value)
}

/// The first second that is not closed at `now`.
pub(crate) const fn closed_until(now: Timestamp) -> Second {
    now.second().minus(CLOSED_AFTER_SECONDS)
}

/// The first second that is not settled at `now`.
pub(crate) const fn settled_until(now: Timestamp) -> Second {
    closed_until(now).minus(SETTLE_SECONDS)
}
