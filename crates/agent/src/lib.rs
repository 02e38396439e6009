//! The agent: when each series probes, the attempts, and the shipping of what came of them.
//!
//! ```text
//! ticker thread -> beats -> lanes (threads of their own) -> batch -> shipper (the caller's runtime) -> collector
//! ```
//!
//! **Architecture invariants:** every slot of the plan leaves exactly once, whatever happens: what did not run leaves
//! as `Missed`. Nothing downstream slows anything upstream: lanes never wait for the batch's reader, the ticker never
//! waits for a lane. The agent knows nothing of the collector but the address that it pushes to.

mod batch;
mod lane;
mod ship;
mod slots;
mod ticker;
mod timings;

use std::{num::NonZero, sync::Arc, thread};

use aviary_core::{Clock, Second, Vantage, plan::Plan};
use aviary_probe::{Network, Prober, Target};
use aviary_wire::report::{Roster, RosterSeries};
use tokio::{sync::mpsc, task::JoinHandle};

pub use batch::{Batch, Stats};
pub use lane::Lane;
pub use ship::{Push, PushError, Shipper, Token};
pub use ticker::{Beat, Ticker};

/// How many beats a lane may lag behind the ticker; what does not fit is dropped, and its slots close as missed.
const BEATS_QUEUED_MAX: usize = 1_024;

/// One lane serves so many series before another thread is worth its wake-ups.
const SERIES_PER_LANE: usize = 1_000;

/// One series of this agent.
#[derive(Clone, Debug)]
pub struct AgentSeries {
    /// The service under test.
    pub service: String,
    /// The Graphite name of its datapoints, without an API key.
    pub name: String,
    /// What to probe, and with what.
    pub target: Target,
}

/// What an agent is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its probes run from.
    pub vantage: Vantage,
    /// Its series.
    pub series: Vec<AgentSeries>,
    /// The version of its configuration, for its reports.
    pub configuration: String,
    /// Random at each start.
    pub boot: u64,
    /// Where its reports go.
    pub push: Push,
}

/// Why an agent cannot start.
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
}

/// A running agent.
pub struct Agent {
    ticker: ticker::TickerThread,
    lanes: Vec<thread::JoinHandle<()>>,
    shipper: JoinHandle<u64>,
    batch: Arc<Batch>,
}

impl Agent {
    /// Starts probing on threads of its own, and shipping on the runtime of the caller.
    pub fn start<N: Network, C: Clock>(options: Options, network: N, clock: C) -> Result<Self, AgentError> {
        let ticker =
            Ticker::new(Plan::new(options.series.iter().map(|series| series.name.as_str())), clock.clone());
        let roster = roster(&options, ticker.second());
        let batch = Arc::new(Batch::new(&options.series));
        let shipper = Shipper::new(&options.push, &roster, options.configuration.clone(), options.boot)?;
        let series: Arc<[AgentSeries]> = options.series.into();
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let count = (1 + series.len() / SERIES_PER_LANE).min(cores);
        let mut senders = Vec::with_capacity(count);
        let mut lanes = Vec::with_capacity(count);
        for number in 0..count {
            let (sender, beats) = mpsc::channel(BEATS_QUEUED_MAX);
            let prober = Prober::new(network.clone(), clock.clone());
            let lane =
                Lane::new(number, count, Arc::clone(&series), prober, clock.clone(), Arc::clone(&batch));
            let plan = ticker.plan();
            let first = ticker.second();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(AgentError::Runtime)?;
            let thread = thread::Builder::new().name(format!("probe-{number}"));
            let probing = move || runtime.block_on(lane.run(plan, first, beats));
            lanes.push(thread.spawn(probing).map_err(AgentError::Thread)?);
            senders.push(sender);
        }
        let ticker =
            ticker::TickerThread::start(ticker, senders, Arc::clone(&batch)).map_err(AgentError::Thread)?;
        let shipper = tokio::spawn(shipper.run(Arc::clone(&batch), clock));
        Ok(Self { ticker, lanes, shipper, batch })
    }

    /// How the agent itself is doing.
    pub fn stats(&self) -> Stats {
        self.batch.stats()
    }

    /// Ends: starts no more slots, lets what is in flight finish or be abandoned, sends the last report. Returns how
    /// many slots no collector took.
    pub async fn stop(self) -> u64 {
        let Self { ticker, lanes, shipper, batch } = self;
        let joined = tokio::task::spawn_blocking(move || {
            ticker.stop();
            lanes.into_iter().map(thread::JoinHandle::join).filter(Result::is_err).count()
        });
        if joined.await.is_ok_and(|panicked| panicked > 0) {
            tracing::error!("A probing thread had panicked; its last slots are not reported.");
        }
        batch.finish();
        shipper.await.unwrap_or_else(|error| {
            tracing::error!(%error, "The shipper had panicked; what it had not sent is lost.");
            u64::MAX
        })
    }
}

fn roster(options: &Options, from: Second) -> Roster {
    let series = options.series.iter().map(|series| RosterSeries {
        service: series.service.clone(),
        endpoint: series.target.endpoint().clone(),
        name: series.name.clone(),
        from,
        address: None,
    });
    Roster { vantage: options.vantage.clone(), since: from, series: series.collect() }
}
