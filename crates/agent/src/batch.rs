//! Closed slots on their way from the lanes to the shipper.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aviary_core::{Outcome, Protocol, Second, histogram::Histogram};
use aviary_probe::Observation;
use aviary_wire::report::{ClosedSlot, Gap, PhaseTimings};
use tokio::sync::Notify;

use crate::{AgentSeries, slots::Skipped, timings::MinuteTimings};

/// How many closed slots wait for the shipper at most: it takes them once a second, so more only gather while it
/// hangs. What does not fit is dropped, oldest first, and counted.
const SLOTS_WAITING_MAX: usize = 262_144;

/// How many gaps wait at most; a gap can be any number of seconds.
const GAPS_WAITING_MAX: usize = 65_536;

/// Closed slots that no report carries yet. Lanes put in, without ever waiting for the shipper; the shipper takes out.
pub struct Batch {
    waiting: Mutex<Waiting>,
    /// Told when something other than a delivery was closed, and at the end.
    urgent: Notify,
    /// Told at the end.
    finished: Notify,
    services: Vec<String>,
    /// Service number and protocol of each series.
    groups: Vec<(usize, Protocol)>,
}

#[derive(Default)]
struct Waiting {
    slots: Vec<ClosedSlot>,
    gaps: VecDeque<Gap>,
    timings: MinuteTimings,
    stats: Stats,
    epoch: u32,
    finished: bool,
}

/// What a report is made of.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) slots: Vec<ClosedSlot>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) timings: Vec<PhaseTimings>,
    pub(crate) epoch: u32,
    pub(crate) dropped: u64,
    pub(crate) finished: bool,
}

/// How the agent itself is doing, since its start.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Slots closed one by one.
    pub closed: u64,
    /// Seconds of series that were skipped.
    pub skipped: u64,
    /// Slots that were dropped unreported because nobody took them.
    pub dropped: u64,
    /// Beats that a lane was too far behind to take.
    pub beats_dropped: u64,
    /// How late attempts started, in microseconds after they were due.
    pub start_late: Histogram,
    /// How late attempts that ran to their deadline were given up, in microseconds after it.
    pub abandon_late: Histogram,
}

impl Batch {
    /// An empty batch for the slots of `series`.
    pub fn new(series: &[AgentSeries]) -> Self {
        let mut services: Vec<String> = Vec::new();
        let groups = series.iter().map(|series| {
            let known = services.iter().position(|service| *service == series.service);
            let number = known.unwrap_or_else(|| {
                services.push(series.service.clone());
                services.len() - 1
            });
            (number, series.target.endpoint().protocol())
        });
        let groups = groups.collect();
        Self { waiting: Mutex::default(), urgent: Notify::new(), finished: Notify::new(), services, groups }
    }

    /// How the agent itself is doing.
    pub fn stats(&self) -> Stats {
        self.lock().stats.clone()
    }

    /// Takes out what was closed, where no shipper does: slots closed one by one, and gaps.
    pub fn drain(&self) -> (Vec<ClosedSlot>, Vec<Gap>) {
        let taken = self.take();
        (taken.slots, taken.gaps)
    }

    pub(crate) fn close(&self, series: u32, second: Second, observed: &Observation) {
        let delivered = matches!(observed.outcome, Outcome::Delivered(_));
        let failed = matches!(observed.outcome, Outcome::Lost { .. } | Outcome::Local { .. });
        let slot = ClosedSlot {
            series,
            second,
            outcome: observed.outcome,
            reached: observed.reached.filter(|_| failed),
            address: observed.address.filter(|_| failed),
        };
        let mut waiting = self.lock();
        waiting.stats.closed += 1;
        if delivered {
            let (service, protocol) = self.groups[series as usize];
            waiting.timings.record(second, service, protocol, &observed.timings);
        }
        if waiting.slots.len() >= SLOTS_WAITING_MAX {
            let oldest = SLOTS_WAITING_MAX / 8;
            waiting.slots.drain(..oldest);
            waiting.stats.dropped += oldest as u64;
        }
        waiting.slots.push(slot);
        drop(waiting);
        if !delivered {
            self.urgent.notify_one();
        }
    }

    pub(crate) fn skip(&self, series: u32, (span, outcome): Skipped) {
        let mut waiting = self.lock();
        waiting.stats.skipped += span.seconds();
        if waiting.gaps.len() >= GAPS_WAITING_MAX {
            let oldest = waiting.gaps.pop_front();
            waiting.stats.dropped += oldest.map_or(0, |gap| u64::from(gap.count) * gap.span.seconds());
        }
        waiting.gaps.push_back(Gap { first: series, count: 1, span, outcome });
        drop(waiting);
        self.urgent.notify_one();
    }

    pub(crate) fn started(&self, late_us: u32) {
        self.lock().stats.start_late.record(late_us);
    }

    /// An attempt that ran to its deadline was given up so many microseconds after it.
    pub(crate) fn abandoned(&self, late_us: u32) {
        self.lock().stats.abandon_late.record(late_us);
    }

    pub(crate) fn stepped(&self, epoch: u32) {
        self.lock().epoch = epoch;
    }

    pub(crate) fn beat_dropped(&self) {
        self.lock().stats.beats_dropped += 1;
    }

    /// Nothing more will be closed.
    pub(crate) fn finish(&self) {
        self.lock().finished = true;
        self.urgent.notify_one();
        self.finished.notify_one();
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.lock().finished
    }

    /// Waits until nothing more will be closed.
    pub(crate) async fn until_finished(&self) {
        self.finished.notified().await;
    }

    /// Waits until something should not wait for the second to be over.
    pub(crate) async fn urgent(&self) {
        self.urgent.notified().await;
    }

    pub(crate) fn take(&self) -> Taken {
        let mut waiting = self.lock();
        let taken = Taken {
            slots: std::mem::take(&mut waiting.slots),
            gaps: std::mem::take(&mut waiting.gaps).into(),
            timings: waiting.timings.take(&self.services),
            epoch: waiting.epoch,
            dropped: waiting.stats.dropped,
            finished: waiting.finished,
        };
        drop(waiting);
        Taken { gaps: merged(taken.gaps), ..taken }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic while holding the lock can have lost one slot, not broken the lists: going on is right.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Neighbouring series with the same gap as one: after a stall all of them have it.
fn merged(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_unstable_by_key(|gap| (gap.span, gap.outcome, gap.first));
    let mut merged: Vec<Gap> = Vec::new();
    for gap in gaps {
        match merged.last_mut() {
            Some(last)
                if (last.span, last.outcome) == (gap.span, gap.outcome)
                    && last.first + last.count == gap.first =>
            {
                last.count += gap.count;
            }
            _ => merged.push(gap),
        }
    }
    merged
}
