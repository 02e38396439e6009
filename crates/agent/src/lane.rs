//! A lane: one thread that makes the attempts of its series.

use std::{panic::AssertUnwindSafe, sync::Arc};

use aviary_core::{
    Clock, Fault, LocalFault, Outcome, Phase, Timings,
    plan::{Due, Plan},
};
use aviary_probe::{DEADLINE_US, Network, Observation, Prober, STARVED_US};
use futures_util::FutureExt as _;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    AgentSeries,
    batch::{Batch, Crew},
    slots::Slots,
    ticker::Beat,
};

/// Makes the attempts of every `count`th series.
pub struct Lane<N, C> {
    number: usize,
    count: usize,
    series: Arc<[AgentSeries]>,
    prober: Prober<N, C>,
    clock: C,
    batch: Arc<Batch>,
    crew: Crew,
}

impl<N: Network, C: Clock> Lane<N, C> {
    /// The lane `number` of `count` of `crew`.
    pub fn new(
        (number, count): (usize, usize),
        series: Arc<[AgentSeries]>,
        prober: Prober<N, C>,
        clock: C,
        (batch, crew): (Arc<Batch>, Crew),
    ) -> Self {
        Self { number, count, series, prober, clock, batch, crew }
    }

    /// Makes attempts as `beats` come, from the beginning that is told to the end; then waits for what is in flight,
    /// which is at most until its deadline.
    pub async fn run(self, plan: Arc<Plan>, mut beats: mpsc::Receiver<Beat>) {
        let Some(Beat::Begin(first)) = beats.recv().await else { return };
        let mut slots = Slots::new(self.series.len(), first);
        let mut attempts = JoinSet::new();
        while let Some(beat) = beats.recv().await {
            match beat {
                Beat::Begin(_) => {}
                Beat::Due(due) => {
                    for series in
                        plan.series_at(due.phase).iter().copied().filter(|series| self.is_mine(*series))
                    {
                        self.open(&mut slots, &mut attempts, series, due);
                    }
                }
                Beat::Step(step) => {
                    for series in self.mine() {
                        slots
                            .step(series as usize, step)
                            .for_each(|skipped| self.batch.skip(self.crew, series, skipped));
                    }
                }
                Beat::End(end) => {
                    for series in self.mine() {
                        if let Some(skipped) = slots.end(series as usize, end) {
                            self.batch.skip(self.crew, series, skipped);
                        }
                    }
                    break;
                }
            }
            while attempts.try_join_next().is_some() {}
        }
        while attempts.join_next().await.is_some() {}
    }

    fn open(&self, slots: &mut Slots, attempts: &mut JoinSet<()>, series: u32, due: Due) {
        if due.is_repeated {
            // The clock was set back: this second has an outcome already, or was the clock's fault before.
            slots.repeat(series as usize, due.second);
            return self.batch.close(self.crew, series, due.second, &not_run(STEPPED));
        }
        let Some(skipped) = slots.open(series as usize, due.second) else { return };
        if let Some(skipped) = skipped {
            self.batch.skip(self.crew, series, skipped);
        }
        let late = self.clock.monotonic().since(due.at);
        if late > STARVED_US {
            // Too late to mean anything, and after a stall all series are: starting them now would be a burst.
            let starved = Outcome::Local { phase: Phase::Dns, fault: LocalFault::Starved };
            return self.batch.close(self.crew, series, due.second, &not_run(starved));
        }
        let attempt = Attempt {
            series,
            due,
            all: Arc::clone(&self.series),
            prober: self.prober.clone(),
            clock: self.clock.clone(),
            batch: Arc::clone(&self.batch),
            crew: self.crew,
        };
        attempts.spawn(attempt.run());
    }

    fn mine(&self) -> impl Iterator<Item = u32> {
        (self.number..self.series.len()).step_by(self.count).map(|series| series as u32)
    }

    fn is_mine(&self, series: u32) -> bool {
        series as usize % self.count == self.number
    }
}

struct Attempt<N, C> {
    series: u32,
    due: Due,
    all: Arc<[AgentSeries]>,
    prober: Prober<N, C>,
    clock: C,
    batch: Arc<Batch>,
    crew: Crew,
}

impl<N: Network, C: Clock> Attempt<N, C> {
    /// Runs the attempt and closes its slot, whatever happens in between.
    async fn run(self) {
        let series = &self.all[self.series as usize];
        let late = self.clock.monotonic().since(self.due.at);
        self.batch.started(late.try_into().unwrap_or(u32::MAX));
        let deadline = self.due.at.plus(DEADLINE_US);
        let attempt = self.prober.run(&series.target, self.due.second, deadline);
        let observed = AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(series = series.name, second = %self.due.second, "An attempt panicked.");
            not_run(Outcome::Local { phase: Phase::Dns, fault: LocalFault::Bug })
        });
        if matches!(observed.outcome, Outcome::Lost { fault: Fault::Timeout, .. }) {
            let late = self.clock.monotonic().since(deadline);
            self.batch.abandoned(late.try_into().unwrap_or(u32::MAX));
        }
        self.batch.close(self.crew, self.series, self.due.second, &observed);
    }
}

/// The outcome of a second that the clock had shown before.
const STEPPED: Outcome = Outcome::Local { phase: Phase::Dns, fault: LocalFault::ClockStep };

fn not_run(outcome: Outcome) -> Observation {
    Observation { outcome, timings: Timings::default(), address: None, reached: None, tls: None }
}
