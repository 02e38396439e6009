//! The spool on a thread of its own: a disk that hangs holds up neither probes nor pushes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use aviary_core::Second;
use aviary_store::{Record, RecordId, Spool};
use aviary_wire::progress::Progress;
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// How many requests wait for the spool at most; whoever asks then waits, or goes on without.
const REQUESTS_MAX: usize = 64;

/// How long a report waits for being written before it leaves all the same: a loss is not to be told late because a
/// disk hangs.
const PATIENCE: Duration = Duration::from_millis(500);

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
    /// Why the disk does not take it.
    pub last_error: Option<String>,
}

/// A record with the bytes of its roster.
pub(crate) struct Waiting {
    pub(crate) id: RecordId,
    pub(crate) record: Record,
    pub(crate) roster: Option<Bytes>,
}

enum Request {
    Keep { roster: Option<(u64, Bytes)>, records: Vec<Record>, kept: oneshot::Sender<Vec<RecordId>> },
    Acknowledge(Vec<RecordId>),
    Newest { bytes: u64, count: usize, found: oneshot::Sender<Vec<Waiting>> },
    Flush { progress: Bytes, rosters: BTreeMap<u64, Bytes>, now: Second },
    End { now: Second, flushed: oneshot::Sender<()> },
}

/// How the spool's thread is asked. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SpoolThread {
    requests: mpsc::Sender<Request>,
    standing: Arc<Mutex<SpoolStanding>>,
}

impl SpoolThread {
    pub(crate) fn start(spool: Spool, is_durable: bool) -> std::io::Result<Self> {
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let standing = Arc::<Mutex<SpoolStanding>>::default();
        let worker = Worker { spool, is_durable, standing: Arc::clone(&standing), unkept: BTreeMap::new() };
        worker.note();
        thread::Builder::new().name("spool".to_owned()).spawn(move || worker.run(received))?;
        Ok(Self { requests, standing })
    }

    pub(crate) fn standing(&self) -> SpoolStanding {
        lock(&self.standing).clone()
    }

    /// Writes records, with their roster if it is new. `None`: the disk hangs, and they may be written or not.
    pub(crate) async fn keep(
        &self,
        roster: Option<(u64, Bytes)>,
        records: Vec<Record>,
    ) -> Option<Vec<RecordId>> {
        let (kept, ids) = oneshot::channel();
        let asked = async {
            self.requests.send(Request::Keep { roster, records, kept }).await.ok()?;
            ids.await.ok()
        };
        timeout(PATIENCE, asked).await.ok().flatten()
    }

    /// A collector has these: they go with the next flush.
    pub(crate) async fn acknowledge(&self, ids: Vec<RecordId>) {
        // A spool that takes no requests keeps them, and they are pushed once more: that says the same.
        _ = timeout(PATIENCE, self.requests.send(Request::Acknowledge(ids))).await;
    }

    /// The newest records that wait, newest first. `None`: the disk hangs, and nobody knows.
    pub(crate) async fn newest(&self, bytes: u64, count: usize) -> Option<Vec<Waiting>> {
        let (found, waiting) = oneshot::channel();
        let asked = async {
            self.requests.send(Request::Newest { bytes, count, found }).await.ok()?;
            waiting.await.ok()
        };
        timeout(PATIENCE, asked).await.ok().flatten()
    }

    /// Brings everything to the disk, with how far the series of `rosters` were told.
    pub(crate) fn flush(&self, progress: &Progress, rosters: BTreeMap<u64, Bytes>, now: Second) {
        // The next second's says more than this one: while the disk hangs, it need not wait.
        _ = self.requests.try_send(Request::Flush { progress: progress.encode().into(), rosters, now });
    }

    /// Brings everything that was asked for to the disk, and ends.
    pub(crate) async fn end(&self, now: Second) {
        let (flushed, done) = oneshot::channel();
        if self.requests.send(Request::End { now, flushed }).await.is_ok() {
            // The thread gone is the end as well.
            _ = done.await;
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

struct Worker {
    spool: Spool,
    is_durable: bool,
    standing: Arc<Mutex<SpoolStanding>>,
    /// Rosters in use that the spool has no room for.
    unkept: BTreeMap<u64, Bytes>,
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
                Request::End { now, flushed } => {
                    self.save(now);
                    self.note();
                    drop(self.spool);
                    _ = flushed.send(());
                    return;
                }
            }
        }
    }

    fn keep(&mut self, roster: Option<(u64, Bytes)>, records: Vec<Record>) -> Vec<RecordId> {
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
                Ok(id) => ids.push(id),
                Err(error) => tracing::error!(%error, slots, "A report is not spooled."),
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
        match self.spool.flush(now) {
            Ok(flushed) => {
                if flushed.dropped_slots > 0 {
                    let (records, slots) = (flushed.dropped_records, flushed.dropped_slots);
                    tracing::error!(
                        records,
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
            last_error: self.spool.trouble().map(ToString::to_string),
        };
    }
}

#[cfg(test)]
mod tests {
    use aviary_store::{Limits, STATE_VALUES_MAX};

    use super::*;

    fn worker() -> Worker {
        let spool = Spool::in_memory(Limits { bytes: 1 << 20, age_seconds: 3_600 });
        Worker { spool, is_durable: false, standing: Arc::default(), unkept: BTreeMap::new() }
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
}
