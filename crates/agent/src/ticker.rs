//! The ticker: one thread on an absolute kernel timer, which says when series are due and does nothing else.
//!
//! tokio's wheel rounds up to the next millisecond and is 1.25 ms late at the median; this thread is late by tens of
//! microseconds.

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aviary_core::{
    Clock, Micros, Second,
    plan::{Due, Plan, Schedule, Step},
};
use rustix::{thread::ClockId, time::Timespec};
use tokio::sync::mpsc;

use crate::batch::Batch;

/// Due no sooner than this, a stop is noticed within as much.
const NAP_US: u64 = 100_000;

/// A beat so late that its second is over is left out: those slots close as missed, and no burst follows a stall.
const STALE_US: u64 = 1_000_000;

/// What the ticker tells the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The series of a phase are due.
    Due(Due),
    /// The wall clock was stepped.
    Step(Step),
    /// No slot of this second or a later one will start.
    End(Second),
}

/// Walks a plan by a clock. The thread around it sleeps; a test lets virtual time pass instead.
pub struct Ticker<C> {
    plan: Arc<Plan>,
    schedule: Schedule,
    clock: C,
}

impl<C: Clock> Ticker<C> {
    /// A walk that begins with the first full second from now.
    pub fn new(plan: Plan, clock: C) -> Self {
        let schedule = Schedule::starting(clock.wall(), clock.monotonic());
        Self { plan: Arc::new(plan), schedule, clock }
    }

    /// The plan that is walked.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }

    /// The second that is walked next, or is being walked.
    pub const fn second(&self) -> Second {
        self.schedule.second()
    }

    /// When to call [`Self::fire`] next; `None` if nothing is ever due.
    pub fn next_at(&self) -> Option<Micros> {
        self.schedule.due(&self.plan).map(|due| due.at)
    }

    /// What is to be told now: nothing if called early.
    pub fn fire(&mut self) -> [Option<Beat>; 2] {
        let Some(due) = self.schedule.due(&self.plan) else { return [None, None] };
        let now = self.clock.monotonic();
        if now < due.at {
            return [None, None];
        }
        if now.since(due.at) >= STALE_US {
            self.schedule.skip_to(now);
            return [None, self.align().map(Beat::Step)];
        }
        let step = if self.schedule.advance(&self.plan) { self.align() } else { None };
        [Some(Beat::Due(due)), step.map(Beat::Step)]
    }

    /// The second after the one that is being walked.
    pub fn end(&self) -> Second {
        self.clock.wall().second().plus(1).max(self.schedule.second())
    }

    fn align(&mut self) -> Option<Step> {
        self.schedule.align(self.clock.wall(), self.clock.monotonic())
    }
}

/// The thread around a [`Ticker`].
pub(crate) struct TickerThread {
    thread: thread::JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl TickerThread {
    pub(crate) fn start<C: Clock>(
        mut ticker: Ticker<C>,
        lanes: Vec<mpsc::Sender<Beat>>,
        batch: Arc<Batch>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let walk = move || {
            // Without it the kernel may let a sleep run 50 us over, to save wake-ups. Best effort.
            _ = rustix::thread::set_current_timer_slack(NonZero::new(1));
            while !stopped.load(Ordering::Relaxed) {
                let now = ticker.clock.monotonic();
                let nap = now.plus(NAP_US);
                sleep_until(ticker.next_at().map_or(nap, |at| at.min(nap)));
                for beat in ticker.fire().into_iter().flatten() {
                    if let Beat::Step(step) = beat {
                        let skipped = step.skipped.seconds();
                        tracing::warn!(
                            epoch = step.epoch,
                            skipped,
                            "The wall clock was stepped; is time synchronised on this host?"
                        );
                        batch.stepped(step.epoch);
                    }
                    tell(&lanes, beat, &ticker.plan, &batch);
                }
            }
            let end = Beat::End(ticker.end());
            for lane in &lanes {
                // The lane still works through its beats, and the end must come last and must come.
                if lane.blocking_send(end).is_err() {
                    tracing::error!("A probing thread ended early; its last slots are not reported.");
                }
            }
        };
        Ok(Self { thread: thread::Builder::new().name("ticker".to_owned()).spawn(walk)?, stop })
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("The ticker had panicked.");
        }
    }
}

fn tell(lanes: &[mpsc::Sender<Beat>], beat: Beat, plan: &Plan, batch: &Batch) {
    for (number, lane) in lanes.iter().enumerate() {
        let concerned = match beat {
            Beat::Due(due) => {
                plan.series_at(due.phase).iter().any(|series| *series as usize % lanes.len() == number)
            }
            Beat::Step(_) | Beat::End(_) => true,
        };
        if concerned && lane.try_send(beat).is_err() {
            batch.beat_dropped();
        }
    }
}

fn sleep_until(at: Micros) {
    let (seconds, micros) = (at.0 / 1_000_000, at.0 % 1_000_000);
    let Ok(tv_sec) = seconds.try_into() else { return thread::sleep(Duration::from_micros(NAP_US)) };
    let until = Timespec { tv_sec, tv_nsec: (micros * 1_000) as _ };
    // Woken early by a signal, the loop asks what is due and sleeps again.
    _ = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &until);
}
