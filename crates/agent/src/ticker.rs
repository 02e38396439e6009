//! The ticker: one thread on an absolute kernel timer, which says when series are due and does nothing else.
//!
//! tokio's wheel rounds up to the next millisecond and is 1.25 ms late at the median; this thread is late by tens of
//! microseconds.

use std::{
    num::NonZero,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aviary_core::{
    Clock, Micros, Second, Span,
    plan::{Due, Plan, Schedule, Step},
};
use rustix::{thread::ClockId, time::Timespec};
use tokio::sync::{mpsc, oneshot};

use crate::batch::Batch;

/// Due no sooner than this, a stop is noticed within as much.
const NAP_US: u64 = 100_000;

/// A beat so late that its second is over is left out: those slots close as missed, and no burst follows a stall.
const STALE_US: u64 = 1_000_000;

/// What the ticker tells the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The first slots of the crew are those of this second.
    Begin(Second),
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
    /// A walk that begins with the first full second from now. The seconds of `walked` were walked in an earlier life:
    /// if the clock was set back since, nothing is sent for them again.
    pub fn new(plan: Arc<Plan>, clock: C, walked: Span) -> Self {
        let mut schedule = Schedule::starting(clock.wall(), clock.monotonic());
        schedule.remember(walked);
        Self { plan, schedule, clock }
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

    /// Goes on with another plan, from the second that is returned. Only between two seconds: nothing is cut short.
    pub fn adopt(&mut self, plan: Arc<Plan>) -> Second {
        self.plan = plan;
        self.schedule.second()
    }

    /// Whether the ticker stands between two seconds. With nothing to walk it always does.
    pub fn is_between_seconds(&mut self) -> bool {
        if self.plan.phases() == 0 {
            self.schedule.restart(self.clock.wall(), self.clock.monotonic());
        }
        self.schedule.is_between_seconds()
    }

    /// The second after the one that is being walked.
    pub fn end(&self) -> Second {
        self.clock.wall().second().plus(1).max(self.schedule.second())
    }

    fn align(&mut self) -> Option<Step> {
        self.schedule.align(self.clock.wall(), self.clock.monotonic())
    }
}

/// Lanes that take over from others between two seconds.
pub(crate) struct Relief {
    pub(crate) plan: Arc<Plan>,
    pub(crate) lanes: Vec<mpsc::Sender<Beat>>,
    /// Told the first second of the new lanes, which is the end of the others.
    pub(crate) taken_over: oneshot::Sender<Second>,
}

/// The thread around a [`Ticker`].
pub(crate) struct TickerThread {
    thread: thread::JoinHandle<()>,
    stop: Arc<AtomicBool>,
    relief: Arc<Mutex<Option<Relief>>>,
    life: Weak<()>,
}

impl TickerThread {
    /// Starts walking; `pulse` is called at each turn, so that somebody notices when they stop.
    pub(crate) fn start<C: Clock>(
        mut ticker: Ticker<C>,
        lanes: Vec<mpsc::Sender<Beat>>,
        batch: Arc<Batch>,
        pulse: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let relief = Arc::<Mutex<Option<Relief>>>::default();
        let (stopped, relieved) = (Arc::clone(&stop), Arc::clone(&relief));
        let mut lanes = lanes;
        let alive = Arc::new(());
        let life = Arc::downgrade(&alive);
        let walk = move || {
            let _alive = alive;
            // Without it the kernel may let a sleep run 50 us over, to save wake-ups. Best effort.
            _ = rustix::thread::set_current_timer_slack(NonZero::new(1));
            begin(&lanes, ticker.second(), &batch);
            while !stopped.load(Ordering::Relaxed) {
                pulse();
                if ticker.is_between_seconds()
                    && let Some(relief) = lock(&relieved).take()
                {
                    let from = ticker.adopt(relief.plan);
                    lanes.drain(..).for_each(|lane| end(lane, from));
                    lanes = relief.lanes;
                    begin(&lanes, from, &batch);
                    // Whoever asked may have gone; the new lanes probe all the same.
                    _ = relief.taken_over.send(from);
                }
                let now = ticker.clock.monotonic();
                let nap = now.plus(NAP_US);
                sleep_until(ticker.next_at().map_or(nap, |at| at.min(nap)));
                for beat in ticker.fire().into_iter().flatten() {
                    if let Beat::Step(step) = beat {
                        let skipped = step.skipped().seconds();
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
            lanes.drain(..).for_each(|lane| end(lane, ticker.end()));
        };
        Ok(Self { thread: thread::Builder::new().name("ticker".to_owned()).spawn(walk)?, stop, relief, life })
    }

    /// Lets other lanes take over as the next second begins.
    pub(crate) fn relieve(&self, relief: Relief) {
        *lock(&self.relief) = Some(relief);
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.life.strong_count() > 0
    }

    /// What lives as long as the thread does.
    pub(crate) fn life(&self) -> Weak<()> {
        Weak::clone(&self.life)
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("The ticker had panicked.");
        }
    }
}

fn lock(relief: &Mutex<Option<Relief>>) -> MutexGuard<'_, Option<Relief>> {
    // It is only ever replaced or taken whole.
    relief.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(lanes: &[mpsc::Sender<Beat>], first: Second, batch: &Batch) {
    for lane in lanes {
        // The first beat of an empty queue; only a lane that is gone does not take it.
        if lane.try_send(Beat::Begin(first)).is_err() {
            batch.beat_dropped();
        }
    }
}

/// Tells a lane its end, which must come last and must come: a lane that is behind still works through its beats, and
/// the ticker does not wait for it.
fn end(lane: mpsc::Sender<Beat>, second: Second) {
    match lane.try_send(Beat::End(second)) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(end)) => _ = thread::spawn(move || lane.blocking_send(end)),
        Err(mpsc::error::TrySendError::Closed(_)) => {
            tracing::error!("A probing thread ended early; its last slots are not reported.");
        }
    }
}

fn tell(lanes: &[mpsc::Sender<Beat>], beat: Beat, plan: &Plan, batch: &Batch) {
    for (number, lane) in lanes.iter().enumerate() {
        let concerned = match beat {
            Beat::Due(due) => {
                plan.series_at(due.phase).iter().any(|series| *series as usize % lanes.len() == number)
            }
            Beat::Begin(_) | Beat::Step(_) | Beat::End(_) => true,
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
