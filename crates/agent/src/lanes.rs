//! The threads that probe one roster.

use std::{num::NonZero, sync::Arc, thread};

use aviary_core::{Clock, plan::Plan};
use aviary_probe::{Network, Prober};
use tokio::sync::mpsc;

use crate::{
    AgentError, AgentSeries,
    batch::{Batch, Crew},
    lane::Lane,
    ticker::Beat,
};

/// How many beats a lane may lag behind the ticker; what does not fit is dropped, and its slots close as missed.
const BEATS_QUEUED_MAX: usize = 1_024;

/// One lane serves so many series before another thread is worth its wake-ups.
const SERIES_PER_LANE: usize = 1_000;

/// The lanes of one roster.
pub(crate) struct Lanes {
    pub(crate) crew: Crew,
    pub(crate) senders: Vec<mpsc::Sender<Beat>>,
    pub(crate) threads: Vec<thread::JoinHandle<()>>,
}

impl Lanes {
    pub(crate) fn start<N: Network, C: Clock>(
        series: &[AgentSeries],
        plan: &Arc<Plan>,
        network: &N,
        clock: &C,
        batch: &Arc<Batch>,
    ) -> Result<Self, AgentError> {
        let series: Arc<[AgentSeries]> = series.into();
        let crew = batch.enlist(&series);
        Self::start_crew(crew, series, plan, network, clock, batch).inspect_err(|_| batch.dismiss(crew))
    }

    fn start_crew<N: Network, C: Clock>(
        crew: Crew,
        series: Arc<[AgentSeries]>,
        plan: &Arc<Plan>,
        network: &N,
        clock: &C,
        batch: &Arc<Batch>,
    ) -> Result<Self, AgentError> {
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

pub(crate) fn join(lanes: Vec<thread::JoinHandle<()>>) {
    let panicked = lanes.into_iter().map(thread::JoinHandle::join).filter(Result::is_err).count();
    if panicked > 0 {
        tracing::error!(panicked, "Probing threads had panicked; their last slots are not reported.");
    }
}
