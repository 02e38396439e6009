//! Pushing reports to a collector, again and again until it has taken them.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aviary_core::{Clock, Micros, Second, Timestamp};
use aviary_store::RecordId;
use aviary_wire::{clock::ClockOffset, report::Report};
use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    batch::Batch,
    fallback::Reach,
    fresh::{Fresh, Kept},
    keep::REPORT_BYTES,
    lease::{Asked, Leases},
    merge::{merge, mergeable},
    push::{Body, Push, Pushed, Pusher, RETRY_MIN, Unanswered},
    reminder::{REMIND_SECONDS, Reminder},
    spool::{SpoolThread, Waiting},
    versions::ToldVersions,
};

/// After an outage, reports that waited are pushed so far apart: recovery is not to be the second outage.
const CATCH_UP_GAP: Duration = Duration::from_millis(250);

/// So many bytes and reports that waited are fetched at once, to be told as one.
const CATCH_UP_BYTES: u64 = 1 << 20;
const CATCH_UP_RECORDS: usize = 300;

/// What has waited in the spool for so long, and is not known as backlog, was forgotten there.
const FORGOTTEN_SECONDS: u64 = 5;

/// How long the last reports are tried for before the agent ends without having delivered them.
const FAREWELL: Duration = Duration::from_secs(4);

/// How long one push of the farewell may take, so that a collector that hangs leaves time for another.
const FAREWELL_PUSH: Duration = Duration::from_secs(1);

/// So many keys of alerts that a collector has are held for whoever asks.
const ADOPTED_MAX: usize = 1_024;

/// A secret that ends within so many seconds is warned of.
pub const WARNED_SECONDS: u64 = 14 * 86_400;

/// A trouble that lasts is told again so often.
const REMIND: Duration = Duration::from_secs(REMIND_SECONDS);

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
    /// When the token ends under which it took the last, if it does.
    pub token_expires: Option<Second>,
    /// Whether somebody answers as a collector.
    pub reach: Reach,
    /// The newest keys of alerts that a collector ends from now on, see [`crate::fallback`].
    pub adopted: VecDeque<String>,
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
    leases: watch::Sender<Leases>,
    versions: watch::Sender<Option<ToldVersions>>,
    /// The spool may hold reports that nobody took.
    has_backlog: bool,
    /// When of those some were pushed last.
    caught_up: Micros,
    /// So many pushes carry one report each: of several together one was refused for good, and nobody said which.
    alone: usize,
    /// What is being pushed: a push can be broken off.
    underway: Option<Parcel>,
    /// So many reports are pushed as one: fewer after a failure, and more again as they are taken.
    together: usize,
    reminded: Option<Micros>,
    /// Reports that were refused for good, and why the last of them.
    refused: Reminder,
    refusal: String,
}

/// What is pushed in one go, with what it was made of, newest first.
#[derive(Clone, Debug)]
struct Parcel {
    kept: Vec<Kept>,
    body: Body,
}

impl Parcel {
    fn slots(&self) -> u64 {
        self.kept.iter().map(|kept| kept.slots).sum()
    }

    fn ids(&self) -> impl Iterator<Item = RecordId> {
        self.kept.iter().filter_map(|kept| kept.id)
    }
}

impl<C: Clock> Shipper<C> {
    pub(crate) fn new(
        batch: Arc<Batch>,
        clock: C,
        spool: SpoolThread,
        fresh: Arc<Fresh>,
        (pusher, boot, redirected): (Pusher, u64, watch::Receiver<Push>),
        (standing, leases, versions): (
            Arc<Mutex<ShippingStanding>>,
            watch::Sender<Leases>,
            watch::Sender<Option<ToldVersions>>,
        ),
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
            leases,
            versions,
            has_backlog: true,
            caught_up: Micros(0),
            alone: 0,
            underway: None,
            together: CATCH_UP_RECORDS,
            reminded: None,
            refused: Reminder::default(),
            refusal: String::new(),
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
                    () = self.batch.until_finished() => {}
                    () = self.fresh.changed() => {}
                    Ok(()) = self.redirected.changed() => self.redirect(),
                }
            } else if !pause.is_zero() {
                let is_away = self.pusher.failures() > 0;
                tokio::select! {
                    biased;
                    () = self.batch.until_finished() => {}
                    Ok(()) = self.redirected.changed() => self.redirect(),
                    () = self.fresh.changed(), if !is_away => {}
                    () = sleep(pause) => {}
                }
            }
            if self.batch.is_finished() {
                return self.farewell().await;
            }
            self.look_for_forgotten();
            let parcel = self.next().await;
            let Some(parcel) = parcel else {
                // Without a parcel there is a backlog only if the spool hangs.
                pause = if self.has_backlog { RETRY_MIN } else { Duration::ZERO };
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
                None if self.has_backlog && self.fresh.is_empty() => CATCH_UP_GAP,
                None => Duration::ZERO,
            };
            self.remind();
            self.tell_refused();
        }
    }

    /// What could not be acknowledged, or was written when nobody waited for it any more, is pushed once more.
    fn look_for_forgotten(&mut self) {
        let is_forgotten = |oldest: Second| oldest.plus(FORGOTTEN_SECONDS) < self.clock.wall().second();
        self.has_backlog |= self.spool.standing().oldest.is_some_and(is_forgotten);
    }

    /// The newest reports that can be pushed as one.
    async fn next(&mut self) -> Option<Parcel> {
        let is_away = self.pusher.failures() > 0;
        let now = self.clock.monotonic();
        // Fresh reports may never end, so that those that wait have their turn in between.
        let is_turn = self.has_backlog && now.since(self.caught_up) >= CATCH_UP_GAP.as_micros() as u64;
        if !self.fresh.is_empty() && !is_away && !is_turn {
            return self.parcel_of(self.fresh.take());
        }
        let waiting = self.spool.newest(CATCH_UP_BYTES, CATCH_UP_RECORDS).await;
        // Not before: this may be broken off while it waits, and what was taken by then would be in nobody's hand.
        let fresh = self.fresh.take();
        let Ok(waiting) = waiting else {
            self.has_backlog = true;
            return self.parcel_of(fresh);
        };
        // While the collector is away, what the spool has becomes backlog, which comes back at a bounded rate.
        let (later, fresh): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|kept| is_away && kept.id.is_some());
        self.has_backlog = !waiting.is_empty() || !later.is_empty();
        let soon: BTreeSet<_> = fresh.iter().filter_map(|kept| kept.id).collect();
        let backlog = waiting.into_iter().filter(|waiting| !soon.contains(&waiting.id));
        let kept = backlog.map(|Waiting { id, record, roster }| Kept {
            id: Some(id),
            slots: record.slots,
            body: Body { report: record.body, roster_id: record.roster, roster },
        });
        let (parcel, _) = parcel(kept.collect(), self.together());
        if parcel.is_none() {
            return self.parcel_of(fresh);
        }
        self.caught_up = now;
        self.fresh.put_back(fresh);
        parcel
    }

    /// How many reports to push as one. A parcel that is too much for a collector, or for what is on the way, is to fail a
    /// few times and not for ever.
    const fn together(&self) -> usize {
        if self.alone > 0 { 1 } else { self.together }
    }

    fn parcel_of(&self, fresh: Vec<Kept>) -> Option<Parcel> {
        let (parcel, rest) = parcel(fresh, self.together());
        self.fresh.put_back(rest);
        parcel
    }

    /// Has what was not taken pushed again: from the spool, or from where it was if that does not have it.
    fn set_aside(&mut self, parcel: Option<Parcel>) {
        let Some(Parcel { kept, .. }) = parcel else { return };
        self.has_backlog |= kept.iter().any(|kept| kept.id.is_some());
        self.fresh.put_back(kept.into_iter().filter(|kept| kept.id.is_none()));
    }

    /// Pushes, and returns how long to wait if it was not taken.
    async fn push(&mut self, parcel: Parcel) -> Option<Duration> {
        let collector = self.pusher.collector().to_string();
        let began = self.clock.monotonic();
        let body = parcel.body.clone();
        self.underway = Some(parcel);
        let pushed = self.pusher.push(&body).await;
        self.note_reach();
        let parcel = self.underway.take()?;
        let pause = match pushed {
            Pushed::Taken { now_us, adopted, rotation, versions } => {
                self.note_adopted(adopted);
                let midway = self.note_taken(collector, now_us, began);
                self.leases.send_modify(|leases| leases.answered(rotation, Asked { began, midway, now_us }));
                self.versions.send_if_modified(|known| {
                    let is_news = *known != versions;
                    *known = versions;
                    is_news
                });
                self.reminded = None;
                self.together = (self.together * 2).min(CATCH_UP_RECORDS);
                self.done_with(&parcel).await;
                return None;
            }
            Pushed::Refused(reason) if parcel.kept.len() > 1 => {
                tracing::warn!(
                    reason,
                    reports = parcel.kept.len(),
                    "Refused together, reports are pushed one by one."
                );
                self.alone = parcel.kept.len();
                Duration::ZERO
            }
            Pushed::Refused(reason) => {
                self.batch.lost(parcel.slots());
                self.refused.note(1, parcel.slots());
                self.refusal = reason;
                self.tell_refused();
                self.done_with(&parcel).await;
                return None;
            }
            Pushed::Again => Duration::ZERO,
            Pushed::Gone(pause) => {
                self.together = CATCH_UP_RECORDS;
                pause
            }
            Pushed::Later(pause) => {
                if parcel.kept.len() > 1 {
                    self.together = (self.together / 4).max(1);
                }
                pause
            }
        };
        self.set_aside(Some(parcel));
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.failures = self.pusher.failures();
        standing.last_error = self.pusher.last_error().map(str::to_owned);
        standing.collector = collector;
        drop(standing);
        Some(pause)
    }

    async fn done_with(&mut self, parcel: &Parcel) {
        self.alone = self.alone.saturating_sub(1);
        self.spool.acknowledge(parcel.ids().collect()).await;
    }

    /// Notes whether the collector that was asked last answered.
    fn note_reach(&self) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.reach = match (self.pusher.unanswered(), standing.reach) {
            (Unanswered::None, _) => Reach::Answered,
            (Unanswered::Each, reach @ Reach::Silent { .. }) => reach,
            (Unanswered::Each, _) => Reach::Silent { since: self.clock.wall(), from: self.clock.monotonic() },
            (Unanswered::Some, _) => Reach::Unknown,
        };
    }

    fn note_adopted(&self, adopted: Vec<String>) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.adopted.extend(adopted);
        let beyond = standing.adopted.len().saturating_sub(ADOPTED_MAX);
        standing.adopted.drain(..beyond);
    }

    /// Notes that the push that `began` then was taken; returns when it was midway, by the wall clock.
    fn note_taken(&mut self, collector: String, now_us: Option<u64>, began: Micros) -> Timestamp {
        let (wall, took) = (self.clock.wall(), self.clock.monotonic().since(began));
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.taken += 1;
        standing.last_taken = Some(wall);
        standing.failures = 0;
        standing.last_error = None;
        standing.collector = collector;
        let ends = self.pusher.token_expires();
        let is_news = standing.token_expires != ends;
        standing.token_expires = ends;
        if let Some(ends) = ends.filter(|ends| is_news && ends.0 <= wall.second().0 + WARNED_SECONDS) {
            let days = ends.0.saturating_sub(wall.second().0) / 86_400;
            tracing::warn!(days, "The secret of this agent's token ends soon; put another in its place.");
        }
        let midway = Timestamp(wall.0.saturating_sub(took / 2));
        if let Some(now_us) = now_us {
            let offset_us = midway.0.cast_signed().saturating_sub(now_us.cast_signed());
            standing.clock_offset_us = Some(offset_us);
            // Rounded up: it is a bound.
            let uncertainty_us = u32::try_from(took / 2 + 1).unwrap_or(u32::MAX);
            self.pusher.measured(ClockOffset { offset_us, uncertainty_us });
        }
        midway
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
        let broken_off = self.underway.take();
        self.set_aside(broken_off);
        let all = async {
            while !self.fresh.is_last() {
                self.fresh.changed().await;
            }
            self.has_backlog = true;
            loop {
                let Some(parcel) = self.next().await else {
                    if !self.has_backlog {
                        break;
                    }
                    // The spool hangs.
                    sleep(RETRY_MIN).await;
                    continue;
                };
                match timeout(FAREWELL_PUSH, self.push(parcel)).await {
                    Ok(None) => {}
                    // It has turned to the next collector already, unless this one only asks for the roster.
                    Ok(Some(pause)) => sleep(pause.min(RETRY_MIN)).await,
                    Err(_) => {
                        let broken_off = self.underway.take();
                        self.set_aside(broken_off);
                        self.pusher.turn();
                    }
                }
            }
        };
        // Whether all was taken is seen below.
        _ = timeout(FAREWELL, all).await;
        let broken_off = self.underway.take();
        self.set_aside(broken_off);
        // Once it answers, it knows what was acknowledged.
        _ = self.spool.newest(0, 0).await;
        self.spool.standing().slots + self.fresh.unkept_slots()
    }

    fn tell_refused(&mut self) {
        if let Some((reports, slots)) = self.refused.due(self.clock.monotonic().0 / 1_000_000) {
            let reason = &self.refusal;
            tracing::error!(
                reason,
                reports,
                slots,
                "The collector refused reports for good; their slots stay unknown."
            );
        }
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

/// As many of `kept`, newest first and at most `count_max`, as can be told as one report, and the rest.
fn parcel(mut kept: Vec<Kept>, count_max: usize) -> (Option<Parcel>, Vec<Kept>) {
    let mut bytes = 0;
    let fits = |kept: &&Kept| {
        bytes += kept.body.report.len();
        bytes <= REPORT_BYTES
    };
    let count = kept.iter().take(count_max).take_while(fits).count();
    if count <= 1 {
        let rest = kept.split_off(kept.len().min(1));
        let parcel = kept.pop().map(|kept| Parcel { body: kept.body.clone(), kept: vec![kept] });
        return (parcel, rest);
    }
    // What is not a report any more cannot be merged: it is pushed by itself, and the collector says what is wrong.
    let reports = kept[..count].iter();
    let decoded: Vec<_> = reports.map_while(|kept| Report::decode(&kept.body.report).ok()).collect();
    let count = mergeable(&decoded).max(1);
    let rest = kept.split_off(count);
    let Some(first) = kept.first() else { return (None, rest) };
    let report = if count == 1 {
        first.body.report.clone()
    } else {
        merge(decoded.into_iter().take(count).collect())
            .map_or_else(|| first.body.report.clone(), |report| Bytes::from(report.encode()))
    };
    let body = Body { report, ..first.body.clone() };
    (Some(Parcel { kept, body }), rest)
}

#[cfg(test)]
mod tests;
