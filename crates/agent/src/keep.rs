//! Making reports of closed slots, and having them kept before anybody is told.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aviary_core::{
    Clock, Second,
    rollout::{Held, HeldState, Version},
};
use aviary_store::Record;
use aviary_wire::{
    progress::{CrewProgress, Progress, SeriesProgress},
    report::{CERTIFICATES_MAX, ClosedSlot, GAPS_MAX, Report, Roster, TIMINGS_MAX, VERSIONS_MAX},
};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    News, PROGRAM,
    batch::{Batch, Crew, TakenSlots},
    believed::Believed,
    controls::{Controls, Suspicion},
    fresh::{Fresh, Kept},
    push::Body,
    reminder::Reminder,
    spool::SpoolThread,
    walked::Walked,
};

/// Reports are made so often when nothing is urgent.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What closes within so much of a loss is told with it: a thousand series lost at once are one report.
const REPORT_GAP: Duration = Duration::from_millis(20);

/// Urgent reports are at least so far apart: the first loss leaves at once, and an outage is five reports a second from
/// each agent and not fifty, which the collector can take from all of them.
const URGENT_APART: Duration = Duration::from_millis(200);

/// One report carries at most so many slots; more are split.
pub(crate) const SLOTS_PER_REPORT: usize = 65_536;

/// A report of more bytes is split: it is to pass the collector's bound with its roster beside it, and a slow line within
/// the time that a push may take.
pub(crate) const REPORT_BYTES: usize = 1 << 20;

/// Certificates are told again so often, to whoever did not hear of them.
const CERTIFICATES_SECONDS: u64 = 600;

/// A series that closed no slot for so long is not ticking.
const TICKING_SECONDS: u64 = 4;

/// A crew whose roster is known from now on.
pub(crate) struct Enrolment {
    pub(crate) crew: Crew,
    pub(crate) roster: Roster,
    pub(crate) configuration: String,
    pub(crate) services: Option<Version>,
}

/// What the keeper tells of the series.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeeperStanding {
    pub(crate) configuration: String,
    pub(crate) series: usize,
    pub(crate) ticking: usize,
    pub(crate) is_suspect: bool,
}

/// Makes reports of what the lanes close, at once when something was not delivered, else once a second; has them
/// spooled; and hands them to the shipper.
pub(crate) struct Keeper<C> {
    batch: Arc<Batch>,
    clock: C,
    believed: Believed,
    spool: SpoolThread,
    fresh: Arc<Fresh>,
    standing: Arc<Mutex<KeeperStanding>>,
    controls: Controls,
    /// The versions of the services that are held beside those that crews probe by.
    held: watch::Receiver<Option<Vec<Held>>>,
    suspicion: Suspicion,
    crews: BTreeMap<Crew, Enrolled>,
    /// What was closed by crews whose roster is not known yet.
    early: BTreeMap<Crew, TakenSlots>,
    boot: u64,
    sequence: u64,
    walked: Walked,
    certificates_told: Second,
    /// Reports that nobody had room for.
    dropped: Reminder,
    listener: Box<dyn FnMut(News<'_>) + Send>,
}

struct Enrolled {
    configuration: String,
    services: Option<Version>,
    roster: Bytes,
    is_spooled: bool,
    progress: CrewProgress,
}

impl<C: Clock> Keeper<C> {
    pub(crate) fn new(
        batch: Arc<Batch>,
        clock: C,
        spool: SpoolThread,
        (fresh, standing): (Arc<Fresh>, Arc<Mutex<KeeperStanding>>),
        (controls, held): (Controls, watch::Receiver<Option<Vec<Held>>>),
        (boot, sequence, believed, walked): (u64, u64, Believed, Walked),
        listener: Box<dyn FnMut(News<'_>) + Send>,
    ) -> Self {
        Self {
            batch,
            clock,
            believed,
            spool,
            fresh,
            standing,
            controls,
            held,
            suspicion: Suspicion::default(),
            crews: BTreeMap::new(),
            early: BTreeMap::new(),
            boot,
            sequence,
            walked,
            certificates_told: Second(0),
            dropped: Reminder::default(),
            listener,
        }
    }

    /// Keeps what `batch` gathers until it is finished.
    pub(crate) async fn run(mut self, mut enrolments: mpsc::Receiver<Enrolment>) {
        let mut second = interval(REPORT_INTERVAL);
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut apart = pin!(sleep(Duration::ZERO));
        loop {
            let is_second = tokio::select! {
                biased;
                Some(enrolment) = enrolments.recv() => {
                    self.enrol(enrolment);
                    false
                }
                // Before what is urgent: while everything fails, something always is.
                _ = second.tick() => true,
                () = self.batch.urgent() => {
                    tokio::join!(sleep(REPORT_GAP), apart.as_mut());
                    apart.set(sleep(URGENT_APART));
                    false
                }
            };
            while let Ok(enrolment) = enrolments.try_recv() {
                self.enrol(enrolment);
            }
            if self.keep(is_second).await {
                return;
            }
        }
    }

    fn enrol(&mut self, Enrolment { crew, roster, configuration, services }: Enrolment) {
        // Whoever was enrolled before ends where these begin.
        for enrolled in self.crews.values_mut() {
            enrolled.progress.until.get_or_insert(roster.since);
        }
        (self.listener)(News::Roster(&roster));
        let series = vec![SeriesProgress::starting(roster.since); roster.series.len()];
        let progress = CrewProgress { roster_id: roster.id(), since: roster.since, until: None, series };
        let roster = roster.encode_part().into();
        self.crews.insert(crew, Enrolled { configuration, services, roster, is_spooled: false, progress });
        // The progress that is kept is to speak of it before its first slot is told.
        self.note_progress(self.clock.wall().second());
    }

    /// Makes reports of what waits in the batch, and returns whether those were the last.
    async fn keep(&mut self, is_second: bool) -> bool {
        let now = self.clock.wall().second();
        // The clock may be stepped either way.
        if is_second && now.0.abs_diff(self.certificates_told.0) >= CERTIFICATES_SECONDS {
            self.certificates_told = now;
            self.batch.tell_certificates_again(now);
        }
        let mut taken = self.batch.take();
        for step in std::mem::take(&mut taken.steps) {
            self.walked.step(step);
            let crews = self.crews.values_mut();
            crews.flat_map(|it| &mut it.progress.series).for_each(|series| series.step_to(step.to));
        }
        for (crew, slots) in std::mem::take(&mut taken.crews) {
            let early = self.early.entry(crew).or_default();
            early.slots.extend(slots.slots);
            early.gaps.extend(slots.gaps);
            early.is_over |= slots.is_over;
        }
        // Of a reload that failed: it closed nothing.
        self.early.retain(|crew, slots| !slots.is_over || self.crews.contains_key(crew));
        let known =
            self.early.keys().filter(|crew| self.crews.contains_key(crew)).copied().collect::<Vec<_>>();
        let newest = self.crews.keys().next_back().copied();
        let dropped = taken.dropped + self.spool.standing().dropped;
        let mut timings = taken.timings.into_iter();
        let mut certificates = taken.certificates.into_iter();
        let mut events = taken.events;
        let services = self.services();
        let mut reports = Vec::new();
        for crew in known {
            let Some(slots) = self.early.remove(&crew) else { continue };
            let is_newest = newest == Some(crew);
            for slot in &slots.slots {
                self.suspicion.observe(slot.second, &slot.outcome);
                if is_newest {
                    let ClosedSlot { series, second, ref outcome, .. } = *slot;
                    (self.listener)(News::Slot { series, second, outcome });
                }
            }
            let mut suspect = if is_newest { self.suspicion.judge(&self.controls, now) } else { Vec::new() };
            let Some(enrolled) = self.crews.get_mut(&crew) else { continue };
            enrolled.progress.tell(&slots.slots, &slots.gaps);
            let (mut closed, mut gaps) = (slots.slots.into_iter(), slots.gaps.into_iter());
            loop {
                let mut report = Report {
                    boot: self.boot,
                    sequence: self.sequence,
                    epoch: taken.epoch,
                    wall: self.clock.wall(),
                    monotonic: self.clock.monotonic(),
                    configuration: enrolled.configuration.clone(),
                    dropped,
                    roster_id: enrolled.progress.roster_id,
                    slots: closed.by_ref().take(SLOTS_PER_REPORT).collect(),
                    gaps: gaps.by_ref().take(GAPS_MAX).collect(),
                    program: PROGRAM.to_owned(),
                    services: services.clone(),
                    ..Report::default()
                };
                if is_newest {
                    report.timings = timings.by_ref().take(TIMINGS_MAX).collect();
                    report.certificates = certificates.by_ref().take(CERTIFICATES_MAX).collect();
                    report.events = std::mem::take(&mut events);
                    report.self_suspect = std::mem::take(&mut suspect);
                }
                let is_whole = report.slots.len() < SLOTS_PER_REPORT
                    && report.gaps.len() < GAPS_MAX
                    && report.timings.len() < TIMINGS_MAX;
                // What was taken out of the batch is in this report or nowhere.
                let tells = !report.slots.is_empty()
                    || !report.gaps.is_empty()
                    || !report.timings.is_empty()
                    || !report.certificates.is_empty()
                    || !report.events.is_empty()
                    || !report.self_suspect.is_empty();
                if tells || (is_newest && is_second) || taken.finished {
                    self.sequence += 1;
                    reports.push((crew, report));
                }
                if is_whole {
                    break;
                }
            }
            if slots.is_over && !is_newest {
                // Its last slots are in the reports above, which are spooled before the progress is.
                enrolled.progress.series.clear();
            }
        }
        self.spool_and_hand_over(reports, taken.finished).await;
        self.crews.retain(|crew, enrolled| newest == Some(*crew) || !enrolled.progress.series.is_empty());
        if is_second || taken.finished {
            (self.listener)(News::Second(now));
            self.note_progress(now);
        }
        taken.finished
    }

    /// The versions of its services that the agent holds now, if it takes them by version: what the newest crew probes by, what
    /// the program prepares or refuses beside, and what crews probe by that come to their end.
    fn services(&self) -> Option<Vec<Held>> {
        let beside = self.held.borrow().clone()?;
        let mut crews = self.crews.values().rev();
        let active = crews.next().and_then(|newest| newest.services);
        let mut held: Vec<Held> =
            active.into_iter().map(|version| Held::new(version, HeldState::Active)).collect();
        held.extend(beside.into_iter().filter(|held| Some(held.version) != active));
        for version in crews.filter_map(|crew| crew.services).filter(|version| Some(*version) != active) {
            let removing = Held::new(version, HeldState::Removing);
            if !held.contains(&removing) {
                held.push(removing);
            }
        }
        held.truncate(VERSIONS_MAX);
        Some(held)
    }

    async fn spool_and_hand_over(&mut self, reports: Vec<(Crew, Report)>, is_last: bool) {
        let second = self.clock.wall().second();
        let mut fresh = Vec::with_capacity(reports.len());
        for of_crew in reports.chunk_by(|one, next| one.0 == next.0) {
            let Some(enrolled) = of_crew.first().and_then(|(crew, _)| self.crews.get_mut(crew)) else {
                continue;
            };
            let roster_id = enrolled.progress.roster_id;
            let encoded: Vec<_> = of_crew.iter().flat_map(|(_, report)| within_bytes(report)).collect();
            let record = |(slots, body): &(u64, Bytes)| Record {
                roster: roster_id,
                slots: *slots,
                second,
                body: body.clone(),
            };
            let roster = (!enrolled.is_spooled).then(|| (roster_id, enrolled.roster.clone()));
            // In one go: a disk that hangs is waited for once.
            let kept = self.spool.keep(roster, encoded.iter().map(record).collect()).await;
            enrolled.is_spooled |= kept.is_ok();
            let ids = kept.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
            for ((slots, report), id) in encoded.into_iter().zip(ids) {
                let body = Body { report, roster_id, roster: Some(enrolled.roster.clone()) };
                fresh.push(Kept { id, slots, body });
            }
        }
        if is_last || !fresh.is_empty() {
            let lost = self.fresh.put(fresh, is_last);
            if lost > 0 {
                self.batch.lost(lost);
                self.dropped.note(0, lost);
            }
            if let Some((_, slots)) = self.dropped.due(self.clock.monotonic().0 / 1_000_000) {
                tracing::error!(
                    slots,
                    "Neither a collector nor the spool takes reports: the oldest were dropped."
                );
            }
        }
    }

    /// Has it kept how far the series were told, and counts those that tick.
    fn note_progress(&mut self, now: Second) {
        let aging = self.believed.second(self.clock.wall(), self.clock.monotonic());
        let crews: Vec<_> = self.crews.values().map(|enrolled| enrolled.progress.clone()).collect();
        if let Some(newest) = self.crews.values().next_back() {
            let series = &newest.progress.series;
            let is_ticking = |it: &&SeriesProgress| it.newest().plus(TICKING_SECONDS) >= now;
            let standing = KeeperStanding {
                configuration: newest.configuration.clone(),
                series: series.len(),
                ticking: series.iter().filter(is_ticking).count(),
                is_suspect: self.suspicion.is_suspect(),
            };
            *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        }
        let rosters = self.crews.values().map(|it| (it.progress.roster_id, it.roster.clone())).collect();
        let next = crews.iter().flat_map(|crew| &crew.series).map(|series| series.next).max();
        let walked = self.walked.until(next.unwrap_or_default());
        let progress = Progress { boot: self.boot, sequence: self.sequence, crews, walked };
        self.spool.flush(&progress, rosters, aging);
    }
}

/// The report as bytes, with how many slots it tells: several where one would be larger than is good to push.
fn within_bytes(report: &Report) -> Vec<(u64, Bytes)> {
    let bytes = report.encode();
    let counts = [
        report.slots.len(),
        report.gaps.len(),
        report.timings.len(),
        report.events.len(),
        report.certificates.len(),
        report.self_suspect.len(),
    ];
    if bytes.len() <= REPORT_BYTES || counts.iter().all(|count| *count <= 1) {
        return vec![(slots_of(report), bytes.into())];
    }
    let mut first = report.clone();
    let mut second = Report {
        slots: halved(&mut first.slots),
        gaps: halved(&mut first.gaps),
        timings: halved(&mut first.timings),
        events: halved(&mut first.events),
        certificates: halved(&mut first.certificates),
        self_suspect: halved(&mut first.self_suspect),
        ..Report::default()
    };
    (second.boot, second.sequence, second.epoch) = (report.boot, report.sequence, report.epoch);
    (second.wall, second.monotonic, second.dropped) = (report.wall, report.monotonic, report.dropped);
    (second.configuration, second.roster_id) = (report.configuration.clone(), report.roster_id);
    second.program.clone_from(&report.program);
    second.services.clone_from(&report.services);
    let mut all = within_bytes(&first);
    all.extend(within_bytes(&second));
    all
}

fn halved<T>(list: &mut Vec<T>) -> Vec<T> {
    list.split_off(list.len().div_ceil(2))
}

/// How many slots a report tells.
pub(crate) fn slots_of(report: &Report) -> u64 {
    let skipped: u64 = report.gaps.iter().map(|gap| u64::from(gap.count) * gap.span.seconds()).sum();
    report.slots.len() as u64 + skipped
}

#[cfg(test)]
mod tests;
