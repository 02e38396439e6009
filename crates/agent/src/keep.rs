//! Making reports of closed slots, and having them kept before anybody is told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aviary_core::{Clock, Second, Span};
use aviary_store::{Record, RecordId};
use aviary_wire::{
    progress::{CrewProgress, Progress, SeriesProgress},
    report::{CERTIFICATES_MAX, ClosedSlot, GAPS_MAX, Gap, Report, Roster, TIMINGS_MAX},
};
use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    News,
    batch::{Batch, Crew, TakenSlots},
    controls::{Controls, Suspicion},
    push::Body,
    spool::SpoolThread,
};

/// Reports are made so often when nothing is urgent.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Two reports are at least so far apart, so that a thousand series lost at once are a few reports and not a thousand.
const REPORT_GAP: Duration = Duration::from_millis(20);

/// One report carries at most so many slots; more are split.
pub(crate) const SLOTS_PER_REPORT: usize = 65_536;

/// How many bytes of reports wait in memory to be pushed at most. What does not fit is fetched from the spool later.
const FRESH_BYTES_MAX: usize = 8 << 20;

/// Certificates are told again so often, to whoever did not hear of them.
const CERTIFICATES_SECONDS: u64 = 600;

/// A series that closed no slot for so long is not ticking.
const TICKING_SECONDS: u64 = 4;

/// A crew whose roster is known from now on.
pub(crate) struct Enrolment {
    pub(crate) crew: Crew,
    pub(crate) roster: Roster,
    pub(crate) configuration: String,
}

/// A report that nobody has taken yet.
pub(crate) struct Kept {
    /// Where it is in the spool; `None` if that could not take it.
    pub(crate) id: Option<RecordId>,
    pub(crate) slots: u64,
    pub(crate) body: Body,
}

/// Reports that were just made, on their way to the shipper.
#[derive(Default)]
pub(crate) struct Fresh {
    state: Mutex<FreshState>,
    changed: Notify,
}

#[derive(Default)]
struct FreshState {
    reports: VecDeque<Kept>,
    bytes: usize,
    is_last: bool,
}

impl Fresh {
    /// Puts reports in, and returns how many slots of others were dropped for want of room: only reports that are in no
    /// spool are lost by that.
    fn put(&self, reports: Vec<Kept>, is_last: bool) -> u64 {
        let mut lost = 0;
        let mut state = self.lock();
        state.is_last |= is_last;
        for report in reports {
            state.bytes += report.body.report.len();
            state.reports.push_back(report);
        }
        while state.bytes > FRESH_BYTES_MAX {
            let Some(oldest) = state.reports.pop_front() else { break };
            state.bytes -= oldest.body.report.len();
            lost += if oldest.id.is_none() { oldest.slots } else { 0 };
        }
        drop(state);
        self.changed.notify_one();
        lost
    }

    /// Takes everything out, the newest first.
    pub(crate) fn take(&self) -> Vec<Kept> {
        let mut state = self.lock();
        state.bytes = 0;
        state.reports.drain(..).rev().collect()
    }

    /// Puts back what only exists here.
    pub(crate) fn put_back(&self, reports: impl Iterator<Item = Kept>) {
        let mut state = self.lock();
        for report in reports.filter(|report| report.id.is_none()) {
            state.bytes += report.body.report.len();
            state.reports.push_front(report);
        }
    }

    /// How many slots wait here that no spool has.
    pub(crate) fn unkept_slots(&self) -> u64 {
        self.lock().reports.iter().filter(|report| report.id.is_none()).map(|report| report.slots).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().reports.is_empty()
    }

    /// Whether the last report was put in.
    pub(crate) fn is_last(&self) -> bool {
        self.lock().is_last
    }

    /// Waits for reports, or for the last.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, FreshState> {
        // Each change is whole by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    spool: SpoolThread,
    fresh: Arc<Fresh>,
    standing: Arc<Mutex<KeeperStanding>>,
    controls: Controls,
    suspicion: Suspicion,
    crews: BTreeMap<Crew, Enrolled>,
    /// What was closed by crews whose roster is not known yet.
    early: BTreeMap<Crew, TakenSlots>,
    boot: u64,
    sequence: u64,
    certificates_told: Second,
    listener: Box<dyn FnMut(News<'_>) + Send>,
}

struct Enrolled {
    configuration: String,
    roster: Bytes,
    is_spooled: bool,
    progress: CrewProgress,
}

impl<C: Clock> Keeper<C> {
    pub(crate) fn new(
        batch: Arc<Batch>,
        clock: C,
        (spool, fresh): (SpoolThread, Arc<Fresh>),
        standing: Arc<Mutex<KeeperStanding>>,
        controls: Controls,
        (boot, sequence): (u64, u64),
        listener: Box<dyn FnMut(News<'_>) + Send>,
    ) -> Self {
        Self {
            batch,
            clock,
            spool,
            fresh,
            standing,
            controls,
            suspicion: Suspicion::default(),
            crews: BTreeMap::new(),
            early: BTreeMap::new(),
            boot,
            sequence,
            certificates_told: Second(0),
            listener,
        }
    }

    /// Keeps what `batch` gathers until it is finished.
    pub(crate) async fn run(mut self, mut enrolments: mpsc::Receiver<Enrolment>) {
        let mut second = interval(REPORT_INTERVAL);
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let is_second = tokio::select! {
                biased;
                Some(enrolment) = enrolments.recv() => {
                    self.enrol(enrolment);
                    false
                }
                () = self.batch.urgent() => {
                    sleep(REPORT_GAP).await;
                    false
                }
                _ = second.tick() => true,
            };
            while let Ok(enrolment) = enrolments.try_recv() {
                self.enrol(enrolment);
            }
            if self.keep(is_second).await {
                return;
            }
        }
    }

    fn enrol(&mut self, Enrolment { crew, roster, configuration }: Enrolment) {
        // Whoever was enrolled before ends where these begin.
        for enrolled in self.crews.values_mut() {
            enrolled.progress.until.get_or_insert(roster.since);
        }
        (self.listener)(News::Roster(&roster));
        let series = vec![SeriesProgress::starting(roster.since); roster.series.len()];
        let progress = CrewProgress { roster_id: roster.id(), since: roster.since, until: None, series };
        let roster = roster.encode_part().into();
        self.crews.insert(crew, Enrolled { configuration, roster, is_spooled: false, progress });
        // The progress that is kept is to speak of it before its first slot is told.
        self.note_progress(self.clock.wall().second());
    }

    /// Makes reports of what waits in the batch, and returns whether those were the last.
    async fn keep(&mut self, is_second: bool) -> bool {
        let now = self.clock.wall().second();
        if is_second && now.0 >= self.certificates_told.0 + CERTIFICATES_SECONDS {
            self.certificates_told = now;
            self.batch.tell_certificates_again();
        }
        let mut taken = self.batch.take();
        for (crew, slots) in std::mem::take(&mut taken.crews) {
            let early = self.early.entry(crew).or_default();
            early.slots.extend(slots.slots);
            early.gaps.extend(slots.gaps);
            early.is_over |= slots.is_over;
        }
        let known =
            self.early.keys().filter(|crew| self.crews.contains_key(crew)).copied().collect::<Vec<_>>();
        let newest = self.crews.keys().next_back().copied();
        let dropped = taken.dropped + self.spool.standing().dropped;
        let mut timings = taken.timings.into_iter();
        let mut certificates = taken.certificates.into_iter();
        let mut events = taken.events;
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
                let tells = !report.slots.is_empty() || !report.gaps.is_empty() || !report.timings.is_empty();
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

    async fn spool_and_hand_over(&mut self, reports: Vec<(Crew, Report)>, is_last: bool) {
        let mut fresh = Vec::with_capacity(reports.len());
        for (crew, report) in reports {
            let Some(enrolled) = self.crews.get_mut(&crew) else { continue };
            let roster_id = report.roster_id;
            let slots = slots_of(&report);
            let report = Bytes::from(report.encode());
            let record =
                Record { roster: roster_id, slots, second: self.clock.wall().second(), body: report.clone() };
            let roster = (!enrolled.is_spooled).then(|| (roster_id, enrolled.roster.clone()));
            let ids = self.spool.keep(roster, vec![record]).await;
            enrolled.is_spooled |= ids.is_some();
            let body = Body { report, roster_id, roster: Some(enrolled.roster.clone()) };
            fresh.push(Kept { id: ids.and_then(|ids| ids.first().copied()), slots, body });
        }
        if is_last || !fresh.is_empty() {
            let lost = self.fresh.put(fresh, is_last);
            if lost > 0 {
                self.batch.lost(lost);
                tracing::error!(
                    slots = lost,
                    "Neither a collector nor the spool takes reports: the oldest were dropped."
                );
            }
        }
    }

    /// Has it kept how far the series were told, and counts those that tick.
    fn note_progress(&mut self, now: Second) {
        for enrolled in self.crews.values_mut() {
            // A clock that was set back: what was told of times to come is not what happened.
            for series in enrolled.progress.series.iter_mut().filter(|it| it.next > now.plus(2)) {
                *series = SeriesProgress::starting(now);
            }
        }
        let crews: Vec<_> = self.crews.values().map(|enrolled| enrolled.progress.clone()).collect();
        if let Some(newest) = self.crews.values().next_back() {
            let series = &newest.progress.series;
            let is_ticking = |it: &&SeriesProgress| it.next.plus(TICKING_SECONDS) >= now;
            let standing = KeeperStanding {
                configuration: newest.configuration.clone(),
                series: series.len(),
                ticking: series.iter().filter(is_ticking).count(),
                is_suspect: self.suspicion.is_suspect(),
            };
            *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        }
        let rosters: BTreeSet<_> = crews.iter().map(|crew| crew.roster_id).collect();
        self.spool.flush(&Progress { boot: self.boot, sequence: self.sequence, crews }, rosters, now);
    }
}

/// How many slots a report tells.
pub(crate) fn slots_of(report: &Report) -> u64 {
    let skipped: u64 = report.gaps.iter().map(|gap| u64::from(gap.count) * gap.span.seconds()).sum();
    report.slots.len() as u64 + skipped
}

/// What an earlier life of this agent did not tell: reports of it, made by the life `boot` that begins at `first`.
pub(crate) fn untold<C: Clock>(
    progress: &Progress,
    configuration: &str,
    boot: u64,
    first: Second,
    clock: &C,
) -> Vec<Report> {
    let mut reports = Vec::new();
    for crew in &progress.crews {
        let until = crew.until.map_or(first, |until| until.min(first));
        let gaps = crew.series.iter().enumerate().flat_map(|(place, series)| {
            series.untold(until).map(move |span| Gap {
                first: place as u32,
                count: 1,
                span,
                outcome: aviary_core::Outcome::Missed,
            })
        });
        let gaps = crate::batch::merged(gaps.collect());
        for gaps in gaps.chunks(GAPS_MAX) {
            reports.push(Report {
                boot,
                sequence: reports.len() as u64,
                wall: clock.wall(),
                monotonic: clock.monotonic(),
                configuration: configuration.to_owned(),
                roster_id: crew.roster_id,
                gaps: gaps.to_vec(),
                ..Report::default()
            });
        }
    }
    reports
}

/// Tells `progress` of what reports say that were spooled after it.
pub(crate) fn catch_up(progress: &mut Progress, reports: &[Report]) {
    for report in reports.iter().filter(|it| it.boot == progress.boot && it.sequence >= progress.sequence) {
        let crews = progress.crews.iter_mut();
        for crew in crews.filter(|crew| crew.roster_id == report.roster_id) {
            crew.tell(&report.slots, &report.gaps);
        }
    }
}

trait Tell {
    fn tell(&mut self, slots: &[ClosedSlot], gaps: &[Gap]);
}

impl Tell for CrewProgress {
    fn tell(&mut self, slots: &[ClosedSlot], gaps: &[Gap]) {
        for gap in gaps {
            let places = gap.first as usize..(gap.first + gap.count) as usize;
            self.series.get_mut(places).into_iter().flatten().for_each(|series| series.tell(gap.span));
        }
        for slot in slots {
            if let Some(series) = self.series.get_mut(slot.series as usize) {
                series.tell(Span::new(slot.second, slot.second.plus(1)));
            }
        }
    }
}
