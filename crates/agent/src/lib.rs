//! The agent: when each series probes, the attempts, and the shipping of what came of them.
//!
//! ```text
//! ticker thread -> beats -> crew of lanes (threads of their own) -> batch -> keeper -> spool (a thread) -> shipper -> collector
//! ```
//!
//! **Architecture invariants:** every slot of the plan leaves exactly once, whatever happens: what did not run leaves
//! as `Missed`, also what a life of the agent that was killed left untold. A report is spooled before it is pushed.
//! Nothing downstream slows anything upstream: lanes never wait for the batch's reader, the ticker never waits for a
//! lane, the shipper hardly for the disk. The agent knows nothing of the collector but the address that it pushes to.

mod batch;
mod controls;
mod groups;
mod keep;
mod lane;
mod merge;
mod push;
mod ship;
mod slots;
mod spool;
mod ticker;
mod timings;

use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
};

use aviary_core::{Clock, Endpoint, Outcome, Second, Span, Timestamp, Vantage, plan::Plan};
use aviary_probe::{Network, Prober, Target};
use aviary_store::Spool;
use aviary_wire::{
    progress::Progress,
    report::{Certificate, Event, Report, Roster, RosterSeries},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

pub use batch::{Batch, Crew, Stats};
pub use groups::{Class, GroupTotals};
pub use lane::Lane;
pub use push::{ClientIdentity, Push, PushError, Token, http_client};
pub use ship::ShippingStanding;
pub use spool::SpoolStanding;
pub use ticker::{Beat, Ticker};

use crate::{
    controls::Controls,
    keep::{Enrolment, Fresh, Keeper, KeeperStanding, untold},
    push::Pusher,
    ship::Shipper,
    spool::SpoolThread,
    ticker::{Relief, TickerThread},
};

/// How many beats a lane may lag behind the ticker; what does not fit is dropped, and its slots close as missed.
const BEATS_QUEUED_MAX: usize = 1_024;

/// One lane serves so many series before another thread is worth its wake-ups.
const SERIES_PER_LANE: usize = 1_000;

/// How many crews may wait for the keeper to know their roster: a reload makes one.
const ENROLMENTS_MAX: usize = 16;

/// So much of what an earlier life spooled is looked through for slots that its progress does not mention.
const RECOVERED_BYTES_MAX: u64 = 64 << 20;
const RECOVERED_RECORDS_MAX: usize = 1_000;

/// One series of this agent.
#[derive(Clone, Debug)]
pub struct AgentSeries {
    /// The service under test.
    pub service: String,
    /// The Graphite name of its datapoints, without an API key.
    pub name: String,
    /// The one address that it goes to, where each address of a name has a series of its own.
    pub address: Option<std::net::IpAddr>,
    /// What to probe, and with what.
    pub target: Target,
}

/// What an agent probes: what a reload can change.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Where its probes run from.
    pub vantage: Vantage,
    /// Its series.
    pub series: Vec<AgentSeries>,
    /// The version of its configuration, for its reports.
    pub configuration: String,
}

/// What an agent is to do.
pub struct Options {
    /// What it probes.
    pub assignment: Assignment,
    /// Random at each start.
    pub boot: u64,
    /// Where its reports go.
    pub push: Push,
    /// Where reports wait for a collector.
    pub spool: Spool,
    /// The spool is meant to outlive the process.
    pub is_durable: bool,
    /// Endpoints known as good: when everything fails, they too, the agent suspects itself.
    pub controls: Vec<Target>,
    /// Called at each turn of the ticker, several times a second: when it is no longer, the agent has stalled.
    pub pulse: Box<dyn Fn() + Send>,
    /// Told of what is reported.
    pub listener: Box<dyn FnMut(News<'_>) + Send>,
}

/// What an agent reports, for whoever logs it.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// These are the series from now on.
    Roster(&'a Roster),
    /// A slot of a series, by its place in the roster.
    Slot {
        /// The series' place.
        series: u32,
        /// The slot's second.
        second: Second,
        /// What came of it.
        outcome: &'a Outcome,
    },
    /// A second has passed.
    Second(Second),
}

/// Why an agent cannot start, or take on another assignment.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A thread could not be made.
    #[error("cannot start a thread for probing: {0}; raise the limit on processes of this user or container")]
    Thread(std::io::Error),
    /// A runtime could not be made.
    #[error(
        "cannot set up a thread for probing: {0}; is the limit on open files (`ulimit -n`) large enough?"
    )]
    Runtime(std::io::Error),
    /// Reports could not be pushed as configured.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The ticker is gone.
    #[error("the ticker has stopped; restart the agent, and report what its log says")]
    Stopped,
}

/// How an agent is: everything that its health and metrics tell.
#[derive(Clone, Debug)]
pub struct Standing {
    /// When it was started.
    pub started: Timestamp,
    /// When this was.
    pub now: Timestamp,
    /// The version of the configuration that runs.
    pub configuration: String,
    /// How often the wall clock was stepped.
    pub epoch: u32,
    /// Whether the thread that starts the attempts lives.
    pub ticker_is_alive: bool,
    /// How many series there are.
    pub series: usize,
    /// How many of them closed a slot within the last seconds.
    pub ticking: usize,
    /// How the probing is doing.
    pub stats: Stats,
    /// What came of all slots since the start.
    pub groups: Vec<GroupTotals>,
    /// What waits for a collector.
    pub spool: SpoolStanding,
    /// How the collectors take reports.
    pub shipping: ShippingStanding,
    /// How each control answered when it was last tried.
    pub controls: Vec<(Endpoint, bool)>,
    /// Everything fails, and the controls too.
    pub self_suspect: bool,
    /// When the certificates that were seen end.
    pub certificates: Vec<Certificate>,
}

/// A running agent.
pub struct Agent<N, C> {
    network: N,
    clock: C,
    started: Timestamp,
    ticker: TickerThread,
    lanes: Vec<thread::JoinHandle<()>>,
    crew: Crew,
    roster: Roster,
    enrolments: mpsc::Sender<Enrolment>,
    redirect: watch::Sender<Push>,
    stop_controls: watch::Sender<bool>,
    controls: Controls,
    batch: Arc<Batch>,
    spool: SpoolThread,
    keeper: JoinHandle<()>,
    keeper_standing: Arc<Mutex<KeeperStanding>>,
    shipper: JoinHandle<u64>,
    shipping: Arc<Mutex<ShippingStanding>>,
}

impl<N: Network, C: Clock> Agent<N, C> {
    /// Starts probing on threads of its own, and shipping on the runtime of the caller. What an earlier life spooled is
    /// shipped, and what it left untold is told as missed. Blocks for a moment, to read the spool.
    pub fn start(options: Options, network: N, clock: C) -> Result<Self, AgentError> {
        let Options { assignment, boot, push, mut spool, is_durable, controls, pulse, listener } = options;
        let pusher = Pusher::new(&push, boot)?;
        let left = recover(&mut spool);
        let plan = Arc::new(plan(&assignment.series));
        let ticker = Ticker::new(Arc::clone(&plan), clock.clone(), left.as_ref().map_or(NOTHING, walked));
        let first = ticker.second();
        let reports =
            left.map_or_else(Vec::new, |left| untold(&left, &assignment.configuration, boot, first, &clock));
        let sequence = reports.len() as u64;
        for report in reports {
            let slots = keep::slots_of(&report);
            let record = aviary_store::Record {
                roster: report.roster_id,
                slots,
                second: first,
                body: report.encode().into(),
            };
            match spool.append(record) {
                Ok(_) => tracing::warn!(slots, "Slots since the last life of this agent are told as missed."),
                Err(error) => tracing::error!(%error, "What was missed since the last life is not told."),
            }
        }

        let batch = Arc::new(Batch::default());
        let spool = SpoolThread::start(spool, is_durable).map_err(AgentError::Thread)?;
        let (stop_controls, stopped) = watch::channel(false);
        let prober = Prober::new(network.clone(), clock.clone());
        let controls =
            Controls::start(controls, prober, clock.clone(), stopped).map_err(AgentError::Runtime)?;
        let lanes = Lanes::start(&assignment.series, &plan, &network, &clock, &batch)?;
        let roster = roster(&assignment, first, None);
        let ticker = TickerThread::start(ticker, lanes.senders, Arc::clone(&batch), pulse)
            .map_err(AgentError::Thread)?;

        let (enrolments, enrolled) = mpsc::channel(ENROLMENTS_MAX);
        let (redirect, redirected) = watch::channel(push);
        let fresh = Arc::<Fresh>::default();
        let keeper_standing = Arc::<Mutex<KeeperStanding>>::default();
        let keeper = Keeper::new(
            Arc::clone(&batch),
            clock.clone(),
            (spool.clone(), Arc::clone(&fresh)),
            Arc::clone(&keeper_standing),
            controls.clone(),
            (boot, sequence),
            listener,
        );
        let shipping = Arc::<Mutex<ShippingStanding>>::default();
        let shipper = Shipper::new(
            Arc::clone(&batch),
            clock.clone(),
            spool.clone(),
            fresh,
            (pusher, boot, redirected),
            Arc::clone(&shipping),
        );
        let enrolment =
            Enrolment { crew: lanes.crew, roster: roster.clone(), configuration: assignment.configuration };
        // The queue is empty, and its other end is held here.
        _ = enrolments.try_send(enrolment);
        Ok(Self {
            started: clock.wall(),
            network,
            clock,
            ticker,
            lanes: lanes.threads,
            crew: lanes.crew,
            roster,
            enrolments,
            redirect,
            stop_controls,
            controls,
            batch,
            spool,
            keeper: tokio::spawn(keeper.run(enrolled)),
            keeper_standing,
            shipper: tokio::spawn(shipper.run()),
            shipping,
        })
    }

    /// Takes on another assignment as the next second begins. Series that stay keep their phase, their first slot and
    /// their counts; those that go end there, and new ones begin there, at a full second.
    ///
    /// If it fails, everything goes on as before.
    pub async fn reassign(&mut self, assignment: Assignment) -> Result<Second, AgentError> {
        if !self.ticker.is_alive() {
            return Err(AgentError::Stopped);
        }
        let plan = Arc::new(plan(&assignment.series));
        let lanes = Lanes::start(&assignment.series, &plan, &self.network, &self.clock, &self.batch)?;
        let (taken_over, first) = oneshot::channel();
        self.ticker.relieve(Relief { plan, lanes: lanes.senders, taken_over });
        let first = first.await.map_err(|_| AgentError::Stopped)?;
        self.roster = roster(&assignment, first, Some(&self.roster));
        let enrolment = Enrolment {
            crew: lanes.crew,
            roster: self.roster.clone(),
            configuration: assignment.configuration,
        };
        self.enrolments.send(enrolment).await.map_err(|_| AgentError::Stopped)?;
        let relieved = std::mem::replace(&mut self.lanes, lanes.threads);
        let crew = std::mem::replace(&mut self.crew, lanes.crew);
        let batch = Arc::clone(&self.batch);
        // Attempts that are under way have up to a second left.
        tokio::task::spawn_blocking(move || {
            join(relieved);
            batch.dismiss(crew);
        });
        Ok(first)
    }

    /// Pushes to other collectors, or with other credentials, from now on.
    ///
    /// If it fails, reports go on as before.
    pub fn redirect(&self, push: Push) -> Result<(), AgentError> {
        Pusher::new(&push, 0)?;
        self.redirect.send_if_modified(|current| {
            let changes = *current != push;
            *current = push;
            changes
        });
        Ok(())
    }

    /// Reports that something changed around the agent.
    pub fn noticed(&self, event: Event) {
        self.batch.noticed(event);
    }

    /// How the probing is doing.
    pub fn stats(&self) -> Stats {
        self.batch.stats()
    }

    /// Who can be asked how the agent is, also from elsewhere and after its end.
    pub fn observer(&self) -> Observer<C> {
        Observer {
            started: self.started,
            clock: self.clock.clone(),
            ticker: self.ticker.life(),
            batch: Arc::clone(&self.batch),
            spool: self.spool.clone(),
            controls: self.controls.clone(),
            keeper: Arc::clone(&self.keeper_standing),
            shipping: Arc::clone(&self.shipping),
        }
    }

    /// Ends: starts no more slots, lets what is in flight finish or be abandoned, sends the last report. Returns how
    /// many slots no collector took; a durable spool keeps them for the next life.
    pub async fn stop(self) -> u64 {
        let Self { ticker, lanes, keeper, shipper, batch, spool, stop_controls, clock, enrolments, .. } =
            self;
        stop_controls.send_replace(true);
        let joined = tokio::task::spawn_blocking(move || {
            ticker.stop();
            join(lanes);
        });
        if let Err(error) = joined.await {
            tracing::error!(%error, "The probing threads did not end as they should.");
        }
        batch.finish();
        drop(enrolments);
        if let Err(error) = keeper.await {
            tracing::error!(%error, "The last slots are in no report.");
        }
        let untaken = shipper.await.unwrap_or_else(|error| {
            tracing::error!(%error, "The shipper had panicked; what it had not sent waits in the spool.");
            u64::MAX
        });
        spool.end(clock.wall().second()).await;
        untaken
    }
}

/// Who can be asked how an agent is.
#[derive(Clone)]
pub struct Observer<C> {
    started: Timestamp,
    clock: C,
    ticker: Weak<()>,
    batch: Arc<Batch>,
    spool: SpoolThread,
    controls: Controls,
    keeper: Arc<Mutex<KeeperStanding>>,
    shipping: Arc<Mutex<ShippingStanding>>,
}

impl<C: Clock> Observer<C> {
    /// How the agent is.
    pub fn standing(&self) -> Standing {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Standing {
            started: self.started,
            now: self.clock.wall(),
            configuration: keeper.configuration,
            epoch: self.batch.epoch(),
            ticker_is_alive: self.ticker.strong_count() > 0,
            series: keeper.series,
            ticking: keeper.ticking,
            stats: self.batch.stats(),
            groups: self.batch.totals(),
            spool: self.spool.standing(),
            shipping: self.shipping.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            controls: self.controls.newest(),
            self_suspect: keeper.is_suspect,
            certificates: self.batch.certificates(),
        }
    }
}

/// The lanes of one roster.
struct Lanes {
    crew: Crew,
    senders: Vec<mpsc::Sender<Beat>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Lanes {
    fn start<N: Network, C: Clock>(
        series: &[AgentSeries],
        plan: &Arc<Plan>,
        network: &N,
        clock: &C,
        batch: &Arc<Batch>,
    ) -> Result<Self, AgentError> {
        let series: Arc<[AgentSeries]> = series.into();
        let crew = batch.enlist(&series);
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let count = (1 + series.len() / SERIES_PER_LANE).min(cores);
        let mut lanes = Self { crew, senders: Vec::with_capacity(count), threads: Vec::with_capacity(count) };
        for number in 0..count {
            let (sender, beats) = mpsc::channel(BEATS_QUEUED_MAX);
            let prober = Prober::new(network.clone(), clock.clone()).inspecting_tls_sometimes();
            let lane = Lane::new(
                (number, count),
                Arc::clone(&series),
                prober,
                clock.clone(),
                (Arc::clone(batch), crew),
            );
            let plan = Arc::clone(plan);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(AgentError::Runtime)?;
            let thread = thread::Builder::new().name(format!("probe-{number}"));
            let probing = move || runtime.block_on(lane.run(plan, beats));
            lanes.threads.push(thread.spawn(probing).map_err(AgentError::Thread)?);
            lanes.senders.push(sender);
        }
        Ok(lanes)
    }
}

fn join(lanes: Vec<thread::JoinHandle<()>>) {
    let panicked = lanes.into_iter().map(thread::JoinHandle::join).filter(Result::is_err).count();
    if panicked > 0 {
        tracing::error!(panicked, "Probing threads had panicked; their last slots are not reported.");
    }
}

const NOTHING: Span = Span::new(Second(0), Second(0));

/// What an earlier life left of how far it had told its series.
fn recover(spool: &mut Spool) -> Option<Progress> {
    let mut progress = spool::progress(spool)?;
    let spooled = spool.newest(RECOVERED_BYTES_MAX, RECOVERED_RECORDS_MAX);
    let reports: Vec<_> = spooled
        .into_iter()
        .map_while(|(_, record)| Report::decode(&record.body).ok())
        .take_while(|report| report.boot == progress.boot && report.sequence >= progress.sequence)
        .collect();
    keep::catch_up(&mut progress, &reports);
    Some(progress)
}

/// The seconds in which an earlier life told slots.
fn walked(progress: &Progress) -> Span {
    let from = progress.crews.iter().map(|crew| crew.since).min();
    let until = progress.crews.iter().flat_map(|crew| &crew.series).map(|series| series.next).max();
    Span::new(from.unwrap_or_default(), until.unwrap_or_default())
}

fn plan(series: &[AgentSeries]) -> Plan {
    Plan::new(series.iter().map(|series| series.name.as_str()))
}

/// The roster of an assignment that begins at `since`. Series of the `earlier` one keep their first slot.
fn roster(assignment: &Assignment, since: Second, earlier: Option<&Roster>) -> Roster {
    let earlier: std::collections::HashMap<_, _> =
        earlier.iter().flat_map(|it| &it.series).map(|series| (series.name.as_str(), series.from)).collect();
    let series = assignment.series.iter().map(|series| RosterSeries {
        service: series.service.clone(),
        endpoint: series.target.endpoint().clone(),
        address: series.address,
        name: series.name.clone(),
        from: earlier.get(series.name.as_str()).copied().unwrap_or(since),
    });
    Roster { vantage: assignment.vantage.clone(), since, series: series.collect() }
}
