//! The spool on a thread of its own: a disk that hangs holds up neither probes nor pushes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aviary_core::Second;
use aviary_store::{Record, RecordId, Spool};
use aviary_wire::{
    progress::Progress,
    report::{self, ReportError, Version},
};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::reminder::Reminder;

/// How many requests wait for the spool at most; whoever asks then waits, or goes on without.
const REQUESTS_MAX: usize = 64;

/// How long a report waits for being written before it leaves all the same: a loss is not to be told late because a
/// disk hangs.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long the end waits for the disk.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Under which the progress is kept.
const PROGRESS: &str = "progress";

/// What the keys of rosters begin with.
const ROSTER: &str = "roster-";

/// What waits for a collector, and how well it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolStanding {
    /// Reports that wait.
    pub records: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many slots they tell.
    pub slots: u64,
    /// When the oldest of them was made.
    pub oldest: Option<Second>,
    /// Slots that were dropped because they had waited for too long, or were too many.
    pub dropped: u64,
    /// Whether what waits would survive the process. `None`: it is not configured to.
    pub on_disk: Option<bool>,
    /// The size of its files in bytes; none where it is in memory only.
    pub disk_bytes: Option<u64>,
    /// Why the disk does not take it.
    pub last_error: Option<String>,
}

/// A record with the bytes of its roster.
pub(crate) struct Waiting {
    pub(crate) id: RecordId,
    pub(crate) record: Record,
    pub(crate) roster: Option<Bytes>,
}

/// The disk hangs: it did not answer within the patience.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hangs;

/// Which records are kept, under which ids; in the order of what was asked for.
type Ids = Vec<Option<RecordId>>;

enum Request {
    Keep { roster: Option<(u64, Bytes)>, records: Vec<Record>, kept: oneshot::Sender<Ids> },
    Acknowledge(Vec<RecordId>),
    Newest { bytes: u64, count: usize, found: oneshot::Sender<Vec<Waiting>> },
    Flush { progress: Bytes, rosters: BTreeMap<u64, Bytes>, now: Second },
    End { flushed: oneshot::Sender<()> },
}

/// How the spool's thread is asked. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SpoolThread {
    requests: mpsc::Sender<Request>,
    standing: Arc<Mutex<SpoolStanding>>,
    /// Somebody lost patience since it last did something: until then nobody else waits for it.
    hangs: Arc<AtomicBool>,
}

impl SpoolThread {
    pub(crate) fn start(spool: Spool, is_durable: bool) -> std::io::Result<Self> {
        Self::start_after(spool, is_durable, Duration::ZERO)
    }

    /// Starts with a disk that hangs for so long.
    pub(crate) fn start_after(spool: Spool, is_durable: bool, hung: Duration) -> std::io::Result<Self> {
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let standing = Arc::<Mutex<SpoolStanding>>::default();
        let hangs = Arc::<AtomicBool>::default();
        let (told, is_told) = (Arc::clone(&standing), Arc::clone(&hangs));
        let worker = Worker {
            spool,
            is_durable,
            standing: told,
            hangs: is_told,
            now: Second(0),
            unkept: BTreeMap::new(),
            dropped: Reminder::default(),
        };
        worker.note();
        thread::Builder::new().name("spool".to_owned()).spawn(move || {
            thread::sleep(hung);
            worker.run(received);
        })?;
        Ok(Self { requests, standing, hangs })
    }

    pub(crate) fn standing(&self) -> SpoolStanding {
        lock(&self.standing).clone()
    }

    /// Writes records, with their roster if it is new. If the disk hangs, they may be written later, or not.
    pub(crate) async fn keep(
        &self,
        roster: Option<(u64, Bytes)>,
        records: Vec<Record>,
    ) -> Result<Ids, Hangs> {
        let (kept, ids) = oneshot::channel();
        let without = vec![None; records.len()];
        let kept = self.ask(Request::Keep { roster, records, kept }, ids).await?;
        Ok(kept.unwrap_or(without))
    }

    /// A collector has these: they go with the next flush.
    pub(crate) async fn acknowledge(&self, ids: Vec<RecordId>) {
        // A spool that takes no requests keeps them, and they are pushed once more: that says the same.
        _ = timeout(self.patience(), self.requests.send(Request::Acknowledge(ids))).await;
    }

    /// The newest records that wait, newest first.
    pub(crate) async fn newest(&self, bytes: u64, count: usize) -> Result<Vec<Waiting>, Hangs> {
        let (found, waiting) = oneshot::channel();
        Ok(self.ask(Request::Newest { bytes, count, found }, waiting).await?.unwrap_or_default())
    }

    /// What the thread answers; `None` if it is gone.
    async fn ask<T>(&self, request: Request, answer: oneshot::Receiver<T>) -> Result<Option<T>, Hangs> {
        let asked = async {
            self.requests.send(request).await.ok()?;
            answer.await.ok()
        };
        timeout(self.patience(), asked).await.map_err(|_| {
            self.hangs.store(true, Ordering::Relaxed);
            Hangs
        })
    }

    fn patience(&self) -> Duration {
        if self.hangs.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE }
    }

    /// Brings everything to the disk, with how far the series of `rosters` were told.
    pub(crate) fn flush(&self, progress: &Progress, rosters: BTreeMap<u64, Bytes>, now: Second) {
        // The next second's says more than this one: while the disk hangs, it need not wait.
        _ = self.requests.try_send(Request::Flush { progress: progress.encode().into(), rosters, now });
    }

    /// Brings everything that was asked for to the disk, and ends.
    pub(crate) async fn end(&self) {
        let (flushed, done) = oneshot::channel();
        let ended = async {
            if self.requests.send(Request::End { flushed }).await.is_ok() {
                // The thread gone is the end as well.
                _ = done.await;
            }
        };
        if timeout(END_PATIENCE, ended).await.is_err() {
            tracing::error!("The disk of the spool hangs: what was not written yet is not kept.");
        }
    }
}

fn lock(standing: &Mutex<SpoolStanding>) -> MutexGuard<'_, SpoolStanding> {
    // It is only ever replaced whole.
    standing.lock().unwrap_or_else(PoisonError::into_inner)
}

fn roster_key(id: u64) -> String {
    format!("{ROSTER}{id:016x}")
}

/// The progress that an earlier life left, and the rosters that it speaks of.
pub(crate) fn progress(spool: &Spool) -> Option<Progress> {
    let bytes = spool.get(PROGRESS)?;
    match Progress::decode(&bytes) {
        Ok(progress) => Some(progress),
        Err(error) => {
            tracing::error!(%error, "What was missed since the last life of this agent cannot be told.");
            None
        }
    }
}

/// The version of the newest report that waits, if it is one that this version of aviary does not know: then a later one
/// ran on this spool, and what it left is not to be told as missed for want of understanding it.
pub fn later_version(spool: &mut Spool) -> Option<Version> {
    let (_, newest) = spool.newest(0, 1).pop()?;
    match report::version_of(&newest.body) {
        Err(ReportError::Version { found, .. }) => Some(found),
        // What is no report at all is the collector's to refuse.
        _ => None,
    }
}

struct Worker {
    spool: Spool,
    is_durable: bool,
    standing: Arc<Mutex<SpoolStanding>>,
    hangs: Arc<AtomicBool>,
    /// The second of the last flush.
    now: Second,
    /// Rosters in use that the spool has no room for.
    unkept: BTreeMap<u64, Bytes>,
    /// Reports that the spool let go of.
    dropped: Reminder,
}

impl Worker {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.blocking_recv() {
            match request {
                Request::Keep { roster, records, kept } => {
                    let ids = self.keep(roster, records);
                    self.note();
                    // Whoever asked may have lost patience, and pushes them all the same.
                    _ = kept.send(ids);
                }
                Request::Acknowledge(ids) => {
                    self.spool.acknowledge(&ids);
                    self.note();
                }
                Request::Newest { bytes, count, found } => {
                    let waiting = self.newest(bytes, count);
                    self.note();
                    _ = found.send(waiting);
                }
                Request::Flush { progress, rosters, now } => {
                    self.flush(progress, rosters, now);
                    self.note();
                }
                Request::End { flushed } => {
                    self.save(self.now);
                    self.note();
                    drop(self.spool);
                    _ = flushed.send(());
                    return;
                }
            }
            self.hangs.store(false, Ordering::Relaxed);
        }
    }

    fn keep(&mut self, roster: Option<(u64, Bytes)>, records: Vec<Record>) -> Ids {
        if let Some((id, bytes)) = roster {
            self.keep_roster(id, bytes);
        }
        let mut ids = Vec::with_capacity(records.len());
        for mut record in records {
            if let Some(roster) = self.unkept.get(&record.roster) {
                record.body = Bytes::from([&roster[..], &record.body[..]].concat());
            }
            let slots = record.slots;
            match self.spool.append(record) {
                Ok(id) => ids.push(Some(id)),
                Err(error) => {
                    tracing::error!(%error, slots, "A report is not spooled.");
                    ids.push(None);
                }
            }
        }
        ids
    }

    fn newest(&mut self, bytes: u64, count: usize) -> Vec<Waiting> {
        let records = self.spool.newest(bytes, count);
        let mut rosters = BTreeMap::new();
        let waiting = records.into_iter().map(|(id, record)| {
            let roster =
                rosters.entry(record.roster).or_insert_with(|| self.spool.get(&roster_key(record.roster)));
            Waiting { id, roster: roster.clone(), record }
        });
        waiting.collect()
    }

    fn flush(&mut self, progress: Bytes, rosters: BTreeMap<u64, Bytes>, now: Second) {
        self.unkept.retain(|id, _| rosters.contains_key(id));
        let mut in_use: BTreeSet<_> = rosters.keys().map(|id| roster_key(*id)).collect();
        // First, so that there is no progress of series that a life which begins now would not know.
        rosters.into_iter().for_each(|(id, bytes)| self.keep_roster(id, bytes));
        self.put(PROGRESS, progress);
        in_use.extend(self.spool.rosters_in_use().into_iter().map(roster_key));
        let is_unused = |key: &&str| key.starts_with(ROSTER) && !in_use.contains(*key);
        let unused: Vec<_> = self.spool.keys().filter(is_unused).map(str::to_owned).collect();
        unused.iter().for_each(|key| self.spool.remove(key));
        self.save(now);
    }

    fn save(&mut self, now: Second) {
        self.now = now;
        match self.spool.flush(now) {
            Ok(flushed) => {
                self.dropped.note(flushed.dropped_records, flushed.dropped_slots);
                if let Some((reports, slots)) = self.dropped.due(now.0) {
                    tracing::error!(
                        reports,
                        slots,
                        "Reports waited for so long, or are so many, that the oldest were dropped."
                    );
                }
                if let Some(recovered) = flushed.recovered {
                    let lost_slots = recovered.lost_slots;
                    tracing::info!(lost_slots, "Reports are spooled on the disk again.");
                }
            }
            Err(error) => tracing::error!(%error, "Reports are kept in memory for the time being."),
        }
    }

    /// A process that cannot stay alive while no collector answers leaves a roster each time, more than a spool keeps:
    /// then the reports bring it along themselves.
    fn keep_roster(&mut self, id: u64, bytes: Bytes) {
        match self.spool.put(&roster_key(id), bytes.clone()) {
            Ok(()) => _ = self.unkept.remove(&id),
            Err(_) => _ = self.unkept.insert(id, bytes),
        }
    }

    fn put(&mut self, key: &str, value: Bytes) {
        if let Err(error) = self.spool.put(key, value) {
            tracing::error!(%error, key, "A restart of this agent will not know what it has to.");
        }
    }

    fn note(&self) {
        let depth = self.spool.depth();
        let (_, dropped) = self.spool.dropped();
        *lock(&self.standing) = SpoolStanding {
            records: depth.records,
            bytes: depth.bytes,
            slots: depth.slots,
            oldest: depth.oldest,
            dropped,
            on_disk: self.is_durable.then(|| self.spool.is_on_disk()),
            disk_bytes: self.spool.disk_bytes(),
            last_error: self.spool.trouble().map(ToString::to_string),
        };
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::Clock as _;
    use aviary_probe::SystemClock;
    use aviary_store::{Limits, STATE_VALUES_MAX};

    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_is_waited_for_once_and_writes_later_what_it_can() {
        let spool = Spool::in_memory(Limits { bytes: 1 << 20, age_seconds: 60 });
        // Longer than the patience by far: a busy machine may be late for the first as well.
        let spool = SpoolThread::start_after(spool, true, Duration::from_secs(5)).unwrap();
        let record =
            || vec![Record { roster: 1, slots: 1, second: Second(1), body: Bytes::from_static(b"r") }];
        let began = SystemClock.monotonic();
        assert_eq!(spool.keep(None, record()).await, Err(Hangs));
        let patience = SystemClock.monotonic().since(began);
        for _ in 0..20 {
            assert_eq!(spool.keep(None, record()).await, Err(Hangs));
        }
        assert!(spool.newest(1, 1).await.is_err());
        // Each time once more would be ten seconds.
        assert!(SystemClock.monotonic().since(began) < patience + 4_000_000, "waited again");
        let written = async {
            loop {
                if let Ok(waiting) = spool.newest(1_000, 100).await {
                    return waiting.len();
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        assert_eq!(timeout(Duration::from_secs(20), written).await, Ok(21));
        let taken = async {
            while spool.keep(None, record()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(Duration::from_secs(20), taken).await.expect("it takes more");
        spool.end().await;
    }

    fn worker() -> Worker {
        let spool = Spool::in_memory(Limits { bytes: 1 << 20, age_seconds: 3_600 });
        Worker {
            spool,
            is_durable: false,
            standing: Arc::default(),
            hangs: Arc::default(),
            now: Second(0),
            unkept: BTreeMap::new(),
            dropped: Reminder::default(),
        }
    }

    fn record(roster: u64, body: &'static [u8]) -> Record {
        Record { roster, slots: 1, second: Second(100), body: Bytes::from_static(body) }
    }

    #[test]
    fn there_is_no_progress_of_a_roster_that_is_not_kept() {
        let mut worker = worker();
        let rosters = BTreeMap::from([(7, Bytes::from_static(b"who"))]);
        worker.flush(Bytes::from_static(b"how far"), rosters, Second(100));
        assert_eq!(worker.spool.get(&roster_key(7)).unwrap(), "who");
        worker.flush(Bytes::from_static(b"how far"), BTreeMap::new(), Second(101));
        assert_eq!(worker.spool.get(&roster_key(7)), None, "nobody needs it any more");
    }

    #[test]
    fn reports_bring_along_a_roster_that_the_spool_has_no_room_for() {
        let mut worker = worker();
        // As many lives as there is room for, none of whose reports was taken.
        for roster in 0..STATE_VALUES_MAX as u64 {
            worker.keep(Some((roster, Bytes::from_static(b"who"))), vec![record(roster, b"what")]);
        }
        let one_more = STATE_VALUES_MAX as u64;
        worker.keep(Some((one_more, Bytes::from_static(b"who "))), vec![record(one_more, b"first")]);
        worker.keep(None, vec![record(one_more, b"second")]);
        let newest = worker.newest(1 << 20, 3);
        let bodies: Vec<_> = newest.iter().map(|it| (it.roster.is_some(), &it.record.body[..])).collect();
        assert_eq!(bodies, [(false, &b"who second"[..]), (false, b"who first"), (true, b"what")]);
    }

    /// The spool that an agent of version 1 left when it was killed while no collector answered.
    fn of_version_1() -> tempfile::TempDir {
        let recorded =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/versions/1/spool");
        let directory = tempfile::tempdir().unwrap();
        for name in ["spool.redb", "spool.tail"] {
            let packed = std::fs::read(recorded.join(format!("{name}.gz"))).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut bytes)
                .unwrap();
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        directory
    }

    #[test]
    fn what_an_agent_of_version_1_left_is_taken_up() {
        let directory = of_version_1();
        let limits = Limits { bytes: 1 << 20, age_seconds: 3_600 };
        let mut spool = Spool::open(directory.path(), limits, Second(1_795_400_000)).unwrap();
        assert_eq!(later_version(&mut spool), None);
        let progress = progress(&spool).unwrap();
        assert!(progress.boot != 0 && progress.crews.len() == 1, "{progress:?}");
        let waiting = spool.newest(u64::MAX, usize::MAX);
        assert!(waiting.len() >= 3, "{} reports wait", waiting.len());
        for (_, record) in waiting {
            let report = report::Report::decode(&record.body).unwrap();
            assert_eq!((report.version, report.boot), (Version::FIRST, progress.boot));
            assert!(spool.get(&roster_key(record.roster)).is_some(), "with its roster");
        }
    }

    #[test]
    fn a_report_of_a_later_version_is_noticed() {
        let mut spool = Spool::in_memory(Limits { bytes: 1 << 20, age_seconds: 3_600 });
        assert_eq!(later_version(&mut spool), None);
        // Field 22, a varint.
        spool.append(record(1, &[0xb0, 0x01, 2])).unwrap();
        assert_eq!(later_version(&mut spool), None);
        spool.append(record(1, &[0xb0, 0x01, 3])).unwrap();
        assert_eq!(later_version(&mut spool), Some(Version(3)));
        spool.append(record(1, b"no report at all")).unwrap();
        assert_eq!(later_version(&mut spool), None);
    }
}
