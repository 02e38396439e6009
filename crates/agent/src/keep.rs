//! Making reports of closed slots, and having them kept before anybody is told.

use std::{
    collections::{BTreeMap, VecDeque},
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
    believed::Believed,
    controls::{Controls, Suspicion},
    push::Body,
    spool::SpoolThread,
    walked::Walked,
};

/// Reports are made so often when nothing is urgent.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Two reports are at least so far apart, so that a thousand series lost at once are a few reports and not a thousand.
const REPORT_GAP: Duration = Duration::from_millis(20);

/// One report carries at most so many slots; more are split.
pub(crate) const SLOTS_PER_REPORT: usize = 65_536;

/// A report of more bytes is split: it is to pass the collector's bound with its roster beside it, and a slow line within
/// the time that a push may take.
pub(crate) const REPORT_BYTES: usize = 1 << 20;

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
#[derive(Clone, Debug)]
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
    pub(crate) fn put(&self, reports: Vec<Kept>, is_last: bool) -> u64 {
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

    /// Takes everything out, the newest first; what is put back has its place again.
    pub(crate) fn take(&self) -> Vec<Kept> {
        let mut state = self.lock();
        state.bytes = 0;
        state.reports.drain(..).rev().collect()
    }

    /// Puts back what was taken out, the newest first.
    pub(crate) fn put_back(&self, reports: impl IntoIterator<Item = Kept>) {
        let mut state = self.lock();
        for report in reports {
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
    believed: Believed,
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
    walked: Walked,
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
        spool: SpoolThread,
        (fresh, standing): (Arc<Fresh>, Arc<Mutex<KeeperStanding>>),
        controls: Controls,
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
            suspicion: Suspicion::default(),
            crews: BTreeMap::new(),
            early: BTreeMap::new(),
            boot,
            sequence,
            walked,
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
                // Before what is urgent: while everything fails, something always is.
                _ = second.tick() => true,
                () = self.batch.urgent() => {
                    sleep(REPORT_GAP).await;
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
                tracing::error!(
                    slots = lost,
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

/// What an earlier life of this agent did not tell: reports of it, made by the life `boot` that begins at `first`.
pub(crate) fn untold<C: Clock>(
    (progress, rosters): (Progress, Vec<Roster>),
    configuration: &str,
    boot: u64,
    first: Second,
    clock: &C,
) -> Vec<Report> {
    let mut reports = Vec::new();
    for crew in &progress.crews {
        let roster = rosters.iter().find(|roster| roster.id() == crew.roster_id);
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
                roster: roster.cloned(),
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use aviary_core::{Fault, Micros, Outcome, Phase, Timings, Vantage, VantageKind};
    use aviary_probe::{KeyExchange, Observation, Target, TlsClient, scripted::PausedClock};
    use aviary_store::{Limits, Spool};
    use aviary_wire::report::RosterSeries;
    use tokio::time::timeout;

    use super::*;
    use crate::AgentSeries;

    const SINCE: Second = Second(1_763_690_400);

    struct Rig {
        batch: Arc<Batch>,
        fresh: Arc<Fresh>,
        spool: SpoolThread,
        crew: Crew,
        seconds: Arc<AtomicU64>,
        standing: Arc<Mutex<KeeperStanding>>,
        enrolments: mpsc::Sender<Enrolment>,
        keeper: tokio::task::JoinHandle<()>,
    }

    impl Rig {
        fn new() -> Self {
            let batch = Arc::new(Batch::default());
            let tls = TlsClient::new(&[], KeyExchange::Classic).unwrap();
            let endpoint: aviary_core::Endpoint = "tcp://192.0.2.1:2003".parse().unwrap();
            let target = Target::new(endpoint.clone(), "canary.a", &tls, None).unwrap();
            let series = AgentSeries {
                service: "ingest".to_owned(),
                name: "canary.a".to_owned(),
                address: None,
                target,
            };
            let crew = batch.enlist(&[series]);
            let limits = Limits { bytes: 64 << 20, age_seconds: 3_600 };
            let spool = SpoolThread::start(Spool::in_memory(limits), false).unwrap();
            let fresh = Arc::<Fresh>::default();
            let standing = Arc::<Mutex<KeeperStanding>>::default();
            let seconds = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&seconds);
            let keeper = Keeper::new(
                Arc::clone(&batch),
                PausedClock::starting_at(SINCE.start()),
                spool.clone(),
                (Arc::clone(&fresh), Arc::clone(&standing)),
                Controls::default(),
                (7, 0, Believed::starting(SINCE.start(), Micros(0), None), Walked::new(Vec::new(), SINCE)),
                Box::new(move |news| {
                    if matches!(news, News::Second(_)) {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                }),
            );
            let vantage = Vantage {
                kind: VantageKind::External,
                region: "eu".to_owned(),
                zone: None,
                network: None,
                node: "n".to_owned(),
            };
            let one = RosterSeries {
                service: "ingest".to_owned(),
                endpoint,
                address: None,
                name: "canary.a".to_owned(),
                from: SINCE,
            };
            let roster = Roster { vantage, since: SINCE, series: vec![one] };
            let (enrolments, enrolled) = mpsc::channel(1);
            enrolments.try_send(Enrolment { crew, roster, configuration: "c".to_owned() }).unwrap();
            let keeper = tokio::spawn(keeper.run(enrolled));
            Self { batch, fresh, spool, crew, seconds, standing, enrolments, keeper }
        }

        fn lose(&self, second: Second) {
            let outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Timeout };
            let observed =
                Observation { outcome, timings: Timings::default(), address: None, reached: None, tls: None };
            self.batch.close(self.crew, 0, second, &observed);
        }

        async fn end(self) {
            self.batch.finish();
            drop(self.enrolments);
            timeout(Duration::from_secs(5), self.keeper).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_slot_that_was_dropped_does_not_make_its_series_silent_for_good() {
        let rig = Rig::new();
        for slot in (0..60).filter(|slot| *slot != 3) {
            rig.lose(SINCE.plus(slot));
        }
        sleep(Duration::from_millis(1_300)).await;
        // By the clock of this test no time has passed, and each slot beyond the hole is newer.
        let standing = rig.standing.lock().unwrap().clone();
        assert_eq!((standing.series, standing.ticking), (1, 1));
        assert_eq!(rig.spool.standing().slots, 59);
        assert_eq!(rig.fresh.take().iter().map(|kept| kept.slots).sum::<u64>(), 59);
        rig.end().await;
    }

    #[test]
    fn no_report_is_too_large_to_be_taken() {
        let outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Timeout };
        let slot = |number: u32| ClosedSlot {
            series: number % 10_000,
            second: SINCE.plus(u64::from(number / 10_000)),
            outcome,
            reached: None,
            address: Some(
                format!("[2001:db8:1234:5678:9abc:def0:{:x}:{:x}]:20030", number >> 16, number)
                    .parse()
                    .unwrap(),
            ),
        };
        let report = Report {
            configuration: "c".to_owned(),
            slots: (0..60_000).map(slot).collect(),
            gaps: vec![Gap { first: 0, count: 9, span: Span::before(SINCE, 9), outcome: Outcome::Missed }],
            ..Report::default()
        };
        assert!(report.encode().len() > REPORT_BYTES);
        let parts = within_bytes(&report);
        assert!(parts.iter().all(|(_, bytes)| bytes.len() <= REPORT_BYTES));
        let decoded: Vec<_> = parts.iter().map(|(_, bytes)| Report::decode(bytes).unwrap()).collect();
        assert_eq!(parts.iter().map(|(slots, _)| slots).sum::<u64>(), slots_of(&report));
        assert_eq!(decoded.iter().flat_map(|part| part.slots.clone()).collect::<Vec<_>>(), report.slots);
        assert_eq!(decoded.iter().flat_map(|part| part.gaps.clone()).collect::<Vec<_>>(), report.gaps);
    }

    #[tokio::test]
    async fn seconds_go_on_while_everything_fails() {
        let rig = Rig::new();
        // Losses so close to each other that something is urgent all the time.
        for slot in 0..1_000 {
            rig.lose(SINCE.plus(slot));
            sleep(Duration::from_micros(2_500)).await;
        }
        let seconds = rig.seconds.load(Ordering::Relaxed);
        assert!(seconds >= 2, "{seconds} seconds were noted in at least two and a half");
        rig.end().await;
    }
}
