//! Pushing reports to a collector, again and again until it has taken them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aviary_core::{Clock, Micros, Timestamp};
use aviary_store::RecordId;
use aviary_wire::report::Report;
use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    batch::Batch,
    keep::{Fresh, Kept},
    merge::{merge, mergeable},
    push::{Body, Push, Pushed, Pusher, RETRY_MIN},
    spool::{SpoolThread, Waiting},
};

/// After an outage, reports that waited are pushed so far apart: recovery is not to be the second outage.
const CATCH_UP_GAP: Duration = Duration::from_millis(250);

/// So many bytes and reports that waited are fetched at once, to be told as one.
const CATCH_UP_BYTES: u64 = 1 << 20;
const CATCH_UP_RECORDS: usize = 300;

/// How long the last reports are tried for before the agent ends without having delivered them.
const FAREWELL: Duration = Duration::from_secs(4);

/// How long one push of the farewell may take, so that a collector that hangs leaves time for another.
const FAREWELL_PUSH: Duration = Duration::from_secs(1);

/// A trouble that lasts is told again so often.
const REMIND: Duration = Duration::from_secs(60);

/// How the collectors take reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShippingStanding {
    /// Pushes that a collector took.
    pub taken: u64,
    /// When it took the last, by the agent's wall clock.
    pub last_taken: Option<Timestamp>,
    /// Pushes that failed in a row.
    pub failures: u32,
    /// Why, while they fail.
    pub last_error: Option<String>,
    /// The collector that is tried.
    pub collector: String,
    /// How far the agent's wall clock is ahead of the collector's, in microseconds, where that tells its own. Known to
    /// half the time that a push takes.
    pub clock_offset_us: Option<i64>,
}

/// Pushes reports, one at a time: the newest first, since they say how it is now. To the collector the order makes no
/// difference.
pub(crate) struct Shipper<C> {
    batch: Arc<Batch>,
    clock: C,
    spool: SpoolThread,
    fresh: Arc<Fresh>,
    pusher: Pusher,
    boot: u64,
    redirected: watch::Receiver<Push>,
    standing: Arc<Mutex<ShippingStanding>>,
    /// The spool may hold reports that nobody took.
    has_backlog: bool,
    reminded: Option<Micros>,
}

/// What is pushed in one go, with where it came from.
struct Parcel {
    ids: Vec<RecordId>,
    slots: u64,
    body: Body,
}

impl<C: Clock> Shipper<C> {
    pub(crate) fn new(
        batch: Arc<Batch>,
        clock: C,
        spool: SpoolThread,
        fresh: Arc<Fresh>,
        (pusher, boot, redirected): (Pusher, u64, watch::Receiver<Push>),
        standing: Arc<Mutex<ShippingStanding>>,
    ) -> Self {
        Self {
            batch,
            clock,
            spool,
            fresh,
            pusher,
            boot,
            redirected,
            standing,
            has_backlog: true,
            reminded: None,
        }
    }

    /// Pushes what is kept until everything was taken after the last, or nobody takes it any more; returns how many
    /// slots were not taken in the end.
    pub(crate) async fn run(mut self) -> u64 {
        let mut pause = Duration::ZERO;
        loop {
            // A collector that does not take reports is left alone for the pause; one that does gets fresh ones at once
            // and those that waited in turn.
            if pause.is_zero() && !self.has_backlog && self.fresh.is_empty() {
                tokio::select! {
                    () = self.fresh.changed() => {}
                    _ = self.redirected.changed() => self.redirect(),
                }
            } else if !pause.is_zero() {
                let is_away = self.pusher.failures() > 0;
                tokio::select! {
                    biased;
                    () = self.batch.until_finished() => {}
                    _ = self.redirected.changed() => self.redirect(),
                    () = self.fresh.changed(), if !is_away => {}
                    () = sleep(pause) => {}
                }
            }
            if self.batch.is_finished() {
                return self.farewell().await;
            }
            let parcel = self.next().await;
            let Some(parcel) = parcel else {
                pause = Duration::ZERO;
                continue;
            };
            // A push that hangs does not hold up the end: what it carries is pushed again, which says the same.
            let batch = Arc::clone(&self.batch);
            let pushed = tokio::select! {
                biased;
                pushed = self.push(parcel) => pushed,
                () = batch.until_finished() => return self.farewell().await,
            };
            pause = match pushed {
                Some(pause) => pause,
                None if self.has_backlog => CATCH_UP_GAP,
                None => Duration::ZERO,
            };
            self.remind();
        }
    }

    /// The newest reports that can be pushed as one.
    async fn next(&mut self) -> Option<Parcel> {
        let is_away = self.pusher.failures() > 0;
        let fresh = self.fresh.take();
        if !fresh.is_empty() && !is_away {
            // What hung on its way to the spool may be there by now, under a name that nobody was told.
            self.has_backlog |= fresh.iter().any(|kept| kept.id.is_none());
            let (parcel, rest) = parcel(fresh);
            // What does not go with it goes next: from the spool, or from where it was.
            self.has_backlog |= rest.iter().any(|kept| kept.id.is_some());
            self.fresh.put_back(rest.into_iter());
            return parcel;
        }
        let found = self.spool.newest(CATCH_UP_BYTES, CATCH_UP_RECORDS).await;
        // A disk that hangs does not say that nothing waits.
        self.has_backlog &= found.as_ref().is_none_or(|waiting| !waiting.is_empty());
        let waiting = found.unwrap_or_default();
        if waiting.is_empty() {
            let (parcel, rest) = parcel(fresh);
            self.fresh.put_back(rest.into_iter());
            return parcel;
        }
        self.fresh.put_back(fresh.into_iter());
        let kept = waiting.into_iter().map(|Waiting { id, record, roster }| Kept {
            id: Some(id),
            slots: record.slots,
            body: Body { report: record.body, roster_id: record.roster, roster },
        });
        parcel(kept.collect()).0
    }

    /// Pushes, and returns how long to wait if it was not taken.
    async fn push(&mut self, parcel: Parcel) -> Option<Duration> {
        let collector = self.pusher.collector().to_string();
        let began = self.clock.monotonic();
        let pushed = self.pusher.push(&parcel.body).await;
        let pause = match pushed {
            Pushed::Taken { now_us } => {
                self.reminded = None;
                self.spool.acknowledge(parcel.ids).await;
                self.note_taken(collector, now_us, began);
                return None;
            }
            Pushed::Again => Duration::ZERO,
            Pushed::Refused(reason) => {
                self.batch.lost(parcel.slots);
                tracing::error!(
                    reason,
                    slots = parcel.slots,
                    "The collector refused a report for good; its slots stay unknown."
                );
                self.spool.acknowledge(parcel.ids).await;
                return None;
            }
            Pushed::Later(pause) => pause,
        };
        let is_spooled = !parcel.ids.is_empty();
        self.has_backlog |= is_spooled;
        if !is_spooled {
            let Parcel { slots, body, .. } = parcel;
            self.fresh.put_back(std::iter::once(Kept { id: None, slots, body }));
        }
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.failures = self.pusher.failures();
        standing.last_error = self.pusher.last_error().map(str::to_owned);
        standing.collector = collector;
        drop(standing);
        Some(pause)
    }

    fn note_taken(&self, collector: String, now_us: Option<u64>, began: Micros) {
        let (wall, took) = (self.clock.wall(), self.clock.monotonic().since(began));
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.taken += 1;
        standing.last_taken = Some(wall);
        standing.failures = 0;
        standing.last_error = None;
        standing.collector = collector;
        if let Some(now_us) = now_us {
            let midway = wall.0.cast_signed().saturating_sub((took / 2).cast_signed());
            standing.clock_offset_us = Some(midway.saturating_sub(now_us.cast_signed()));
        }
    }

    /// Pushes to other collectors, or with other credentials, from now on.
    fn redirect(&mut self) {
        let push = self.redirected.borrow_and_update().clone();
        match Pusher::new(&push, self.boot) {
            Ok(pusher) => self.pusher = pusher,
            Err(error) => tracing::error!(%error, "Reports go on as before."),
        }
    }

    /// Tries to get everything across, and gives up after a while; returns how many slots were not taken.
    async fn farewell(mut self) -> u64 {
        let all = async {
            while !self.fresh.is_last() {
                self.fresh.changed().await;
            }
            self.has_backlog = true;
            loop {
                let Some(parcel) = self.next().await else {
                    if self.has_backlog || !self.fresh.is_empty() {
                        continue;
                    }
                    break;
                };
                match timeout(FAREWELL_PUSH, self.push(parcel)).await {
                    Ok(None) => {}
                    // It has turned to the next collector already, unless this one only asks for the roster.
                    Ok(Some(pause)) => sleep(pause.min(RETRY_MIN)).await,
                    Err(_) => self.pusher.turn(),
                }
            }
        };
        // Whether all was taken is seen below.
        _ = timeout(FAREWELL, all).await;
        self.spool.newest(0, 0).await;
        self.spool.standing().slots + self.fresh.unkept_slots()
    }

    /// Says again that nobody takes reports, so that a log that was rotated still shows it.
    fn remind(&mut self) {
        let now = self.clock.monotonic();
        if self.pusher.failures() == 0 {
            return;
        }
        let last = *self.reminded.get_or_insert(now);
        if now.since(last) >= REMIND.as_micros() as u64 {
            self.reminded = Some(now);
            let standing = self.spool.standing();
            tracing::warn!(
                slots = standing.slots,
                bytes = standing.bytes,
                failures = self.pusher.failures(),
                reason = self.pusher.last_error(),
                "No collector takes reports; they still wait."
            );
        }
    }
}

/// As many of `kept`, newest first, as can be told as one report, and the rest.
fn parcel(mut kept: Vec<Kept>) -> (Option<Parcel>, Vec<Kept>) {
    if kept.len() <= 1 {
        let parcel = kept.pop().map(|kept| Parcel {
            ids: kept.id.into_iter().collect(),
            slots: kept.slots,
            body: kept.body,
        });
        return (parcel, Vec::new());
    }
    // What is not a report any more cannot be merged: it is pushed by itself, and the collector says what is wrong.
    let decoded: Vec<_> = kept.iter().map_while(|kept| Report::decode(&kept.body.report).ok()).collect();
    let count = mergeable(&decoded).max(1);
    let rest = kept.split_off(count);
    let slots = kept.iter().map(|kept| kept.slots).sum();
    let ids = kept.iter().filter_map(|kept| kept.id).collect();
    let Some(first) = kept.into_iter().next() else { return (None, rest) };
    let report = if count == 1 {
        first.body.report
    } else {
        merge(decoded.into_iter().take(count).collect())
            .map_or(first.body.report, |report| Bytes::from(report.encode()))
    };
    let body = Body { report, ..first.body };
    (Some(Parcel { ids, slots, body }), rest)
}
