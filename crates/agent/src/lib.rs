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
mod believed;
mod controls;
pub mod discovery;
mod earlier_life;
pub mod fallback;
mod fresh;
mod groups;
mod keep;
mod lane;
mod lanes;
pub mod lease;
mod merge;
pub mod own;
mod push;
mod reminder;
mod ship;
mod slots;
mod spool;
mod standing;
mod ticker;
mod timings;
mod versions;
mod walked;

use std::{
    sync::{Arc, Mutex},
    thread,
};

use aviary_core::{
    Clock, Outcome, Second, Timestamp, Vantage,
    plan::Plan,
    rollout::{Held, Version},
};
use aviary_probe::{Network, Prober, Target};
use aviary_store::Spool;
use aviary_wire::report::{Event, Roster, RosterSeries};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};

pub use batch::{Batch, Crew, Stats};
pub use groups::{Class, GroupTotals};
pub use lane::Lane;
pub use push::{ClientIdentity, Push, PushError, Token, http_client};
pub use ship::{ShippingStanding, WARNED_SECONDS};
pub use spool::{SpoolStanding, later_version};
pub use standing::{Observer, Standing};
pub use ticker::{Beat, Ticker};
pub use versions::ToldVersions;

use crate::{
    believed::Believed,
    controls::Controls,
    earlier_life::{recover, untold},
    fresh::Fresh,
    keep::{Enrolment, Keeper, KeeperStanding},
    lanes::{Lanes, join},
    lease::Leases,
    push::Pusher,
    ship::Shipper,
    spool::SpoolThread,
    ticker::{Relief, TickerThread},
    walked::Walked,
};

/// The version of aviary that this is, as reports say it.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// How many crews may wait for the keeper to know their roster: a reload makes one.
const ENROLMENTS_MAX: usize = 16;

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
    /// The version of the services that a collector handed out, if one did.
    pub services: Option<Version>,
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
    /// The versions that it holds of services that a collector hands out, beside what it probes; none where no collector does.
    pub held: Option<Vec<Held>>,
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

/// A running agent.
pub struct Agent<N, C> {
    network: N,
    clock: C,
    started: Timestamp,
    ticker: TickerThread,
    lanes: Vec<thread::JoinHandle<()>>,
    /// Those that others took over from, until they are done.
    relieved: JoinSet<()>,
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
    leases: watch::Receiver<Leases>,
    versions: watch::Receiver<Option<ToldVersions>>,
    held: watch::Sender<Option<Vec<Held>>>,
}

impl<N: Network, C: Clock> Agent<N, C> {
    /// Starts probing on threads of its own, and shipping on the runtime of the caller. What an earlier life spooled is
    /// shipped, and what it left untold is told as missed. Blocks for a moment, to read the spool.
    pub fn start(options: Options, network: N, clock: C) -> Result<Self, AgentError> {
        let Options { assignment, boot, push, mut spool, held, is_durable, controls, pulse, listener } =
            options;
        let pusher = Pusher::new(&push, boot)?;
        let left = recover(&mut spool);
        let newest = spool.newest(0, 1).first().map(|(_, record)| record.second);
        let believed = Believed::starting(clock.wall(), clock.monotonic(), newest);
        let plan = Arc::new(plan(&assignment.series));
        let walked = left.as_ref().map_or_else(Vec::new, |(left, _)| left.walked.clone());
        let ticker = Ticker::new(Arc::clone(&plan), clock.clone(), &walked);
        let first = ticker.second();
        let reports = left.map_or_else(Vec::new, |left| {
            untold(left, (&assignment.configuration, &held), boot, first, &clock)
        });
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
        let (held, told_held) = watch::channel(held);
        let fresh = Arc::<Fresh>::default();
        let keeper_standing = Arc::<Mutex<KeeperStanding>>::default();
        let keeper = Keeper::new(
            Arc::clone(&batch),
            clock.clone(),
            spool.clone(),
            (Arc::clone(&fresh), Arc::clone(&keeper_standing)),
            (controls.clone(), told_held),
            (boot, sequence, believed, Walked::new(walked, first)),
            listener,
        );
        let shipping = Arc::<Mutex<ShippingStanding>>::default();
        let (tell_leases, leases) = watch::channel(Leases::default());
        let (tell_versions, versions) = watch::channel(None);
        let shipper = Shipper::new(
            Arc::clone(&batch),
            clock.clone(),
            spool.clone(),
            fresh,
            (pusher, boot, redirected),
            (Arc::clone(&shipping), tell_leases, tell_versions),
        );
        let enrolment = Enrolment {
            crew: lanes.crew,
            roster: roster.clone(),
            configuration: assignment.configuration,
            services: assignment.services,
        };
        // The queue is empty, and its other end is held here.
        _ = enrolments.try_send(enrolment);
        Ok(Self {
            started: clock.wall(),
            network,
            clock,
            ticker,
            lanes: lanes.threads,
            relieved: JoinSet::new(),
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
            leases,
            versions,
            held,
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
            services: assignment.services,
        };
        self.enrolments.send(enrolment).await.map_err(|_| AgentError::Stopped)?;
        let relieved = std::mem::replace(&mut self.lanes, lanes.threads);
        let crew = std::mem::replace(&mut self.crew, lanes.crew);
        let batch = Arc::clone(&self.batch);
        // Attempts that are under way have up to a second left.
        while self.relieved.try_join_next().is_some() {}
        self.relieved.spawn_blocking(move || {
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
            leases: self.leases.clone(),
            versions: self.versions.clone(),
            held: self.held.clone(),
        }
    }

    /// Ends: starts no more slots, lets what is in flight finish or be abandoned, sends the last report. Returns how
    /// many slots no collector took; a durable spool keeps them for the next life.
    pub async fn stop(self) -> u64 {
        let Self {
            ticker,
            lanes,
            mut relieved,
            keeper,
            shipper,
            batch,
            spool,
            stop_controls,
            enrolments,
            ..
        } = self;
        stop_controls.send_replace(true);
        let joined = tokio::task::spawn_blocking(move || {
            ticker.stop();
            join(lanes);
        });
        if let Err(error) = joined.await {
            tracing::error!(%error, "The probing threads did not end as they should.");
        }
        // A reload just before: their slots too are to be in the last report.
        while relieved.join_next().await.is_some() {}
        batch.finish();
        drop(enrolments);
        if let Err(error) = keeper.await {
            tracing::error!(%error, "The last slots are in no report.");
        }
        let untaken = shipper.await.unwrap_or_else(|error| {
            tracing::error!(%error, "The shipper had panicked; what it had not sent waits in the spool.");
            u64::MAX
        });
        spool.end().await;
        untaken
    }
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
