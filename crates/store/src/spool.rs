//! The agent's spool: reports from before they are sent until a collector has answered.
//!
//! A record is written to a file, the [`tail`], before [`Spool::append`] returns, so that it outlives the process, even
//! one that is killed. Once a second [`Spool::flush`] makes durable what no collector has taken by then, with one fsync,
//! in a [`database`]; what was taken within the second never gets there. A power cut therefore costs the reports of at
//! most one second and otherwise, like every other failure here, says again what was said: to a collector, a report
//! seen twice is a report seen once.
//!
//! **Architecture invariants:** memory has an index of everything that waits, and decides; files only follow. A record
//! that the database is not known to have keeps its body in memory. So a disk that is full or broken costs durability,
//! told by [`Spool::is_on_disk`], and nothing else while the process lives.

mod database;
mod disk;
mod error;
mod lock;
mod state;
mod tail;
mod waiting;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use aviary_core::Second;
use bytes::Bytes;

use self::{
    database::DiskUse,
    disk::Disk,
    state::State,
    tail::Frame,
    waiting::{Head, Waiting},
};

pub use self::{
    error::SpoolError,
    state::{STATE_BYTES_MAX, STATE_KEY_BYTES_MAX, STATE_VALUES_MAX},
};

/// The largest body of a record, in bytes: twice the largest report that a collector takes.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// Ids of one opening of the spool: four thousand million, which at fifty reports a second are two years and a half.
const IDS_BITS: u32 = 32;

/// How much waits at most; the oldest is dropped beyond, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of bodies, and 64 for each record. The file may for a while be a few times larger.
    pub bytes: u64,
    /// Seconds since the record was made.
    pub age_seconds: u64,
}

/// What waits: one report, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The id of the roster that the report's series are places in.
    pub roster: u64,
    /// How many slots it speaks of.
    pub slots: u64,
    /// When it was made.
    pub second: Second,
    /// The report.
    pub body: Bytes,
}

/// The name of a record: it rises with time, through the life of a spool, and none is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

/// What a spool found on its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// How many records waited there.
    pub records: u64,
    /// Bytes at the end of the tail that were no whole record: what was being written when the power went, or the
    /// process was killed.
    pub torn_bytes: u64,
    /// A damaged database was found instead of a good one.
    pub damaged: Option<Damaged>,
    /// Records of this process that were in a database no longer there, or no longer whole.
    pub lost_records: u64,
    /// The slots that they spoke of.
    pub lost_slots: u64,
}

/// A database that was no good any more, and was replaced by an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// What is wrong with it.
    pub reason: String,
    /// Where it was put. The next damaged one takes its place.
    pub aside: PathBuf,
}

/// What became of a flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Records dropped since the last flush that said so, because there were too many or they were too old, or because
    /// the disk lost them.
    pub dropped_records: u64,
    /// The slots that they spoke of.
    pub dropped_slots: u64,
    /// The disk had failed, and is in use again.
    pub recovered: Option<Recovered>,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Records.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// The slots that they speak of.
    pub slots: u64,
    /// When the oldest was made.
    pub oldest: Option<Second>,
}

/// Reports, and small named values beside them, that outlive the process. See [the crate](crate).
#[derive(Debug)]
pub struct Spool {
    limits: Limits,
    waiting: Waiting,
    state: State,
    disk: Option<Disk>,
    recovered: Recovered,
    next: u64,
    /// The second of the last flush, or of the start.
    now: Second,
    /// Not told by a flush yet.
    untold: Flushed,
    /// Not told by a flush yet: the disk failed.
    has_failed: bool,
    /// What was found when the database was opened again after it failed; told once it takes writes again.
    reopened: Option<Recovered>,
    dropped_records: u64,
    dropped_slots: u64,
}

impl Spool {
    /// Opens the spool in `directory`, which is made if it is not there, and locks it.
    ///
    /// A disk that is full or broken is no reason not to start: then the spool is in memory, and [`Self::trouble`] says
    /// why. What a person has to put right is an error: a directory that is in use, that cannot be made or written to
    /// for lack of permission, or that a newer version wrote.
    pub fn open(directory: &Path, limits: Limits, now: Second) -> Result<Self, SpoolError> {
        Self::open_with(directory, limits, now, DiskUse::default())
    }

    fn open_with(directory: &Path, limits: Limits, now: Second, usage: DiskUse) -> Result<Self, SpoolError> {
        let mut spool = Self::in_memory(limits);
        spool.now = now;
        let mut disk = Disk::new(directory.to_owned(), usage);
        match disk.attach(&mut spool.waiting, &mut spool.state, now) {
            Ok(recovered) => spool.recovered = recovered,
            Err(error) if error.may_pass() => {
                disk.fail(error, now);
            }
            Err(error) => return Err(error),
        }
        let newest = spool.waiting.newest().next().map_or(0, |(id, ..)| id);
        spool.next = (u64::from(disk.opening(now)) << IDS_BITS).max(newest + 1);
        spool.disk = Some(disk);
        Ok(spool)
    }

    /// Moves the files of the spool in `directory` into a directory of their own beside it, as they are, so that
    /// [`Self::open`] begins anew; returns where they are. For what a newer version left: whoever probes is not to stop for
    /// it, and what waits there is not lost.
    ///
    /// # Errors
    /// Another process has the spool, or the system refuses something.
    pub fn set_aside(directory: &Path, now: Second) -> Result<PathBuf, SpoolError> {
        disk::set_aside_whole(directory, now)
    }

    /// A spool that ends with the process, for where no directory is configured.
    pub fn in_memory(limits: Limits) -> Self {
        Self {
            limits,
            waiting: Waiting::default(),
            state: State::default(),
            disk: None,
            recovered: Recovered::default(),
            next: 1,
            now: Second(0),
            untold: Flushed::default(),
            has_failed: false,
            reopened: None,
            dropped_records: 0,
            dropped_slots: 0,
        }
    }

    /// What was found on the disk at the start.
    pub const fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Adds a record. When this returns, it outlives the process, unless [`Self::is_on_disk`] says otherwise; once
    /// flushed, the machine.
    ///
    /// The only error is a record too large to be taken.
    pub fn append(&mut self, record: Record) -> Result<RecordId, SpoolError> {
        let bytes = record.body.len() as u64;
        let limit = self.limits.bytes.min(RECORD_BYTES_MAX as u64);
        if bytes > limit {
            return Err(SpoolError::TooLarge { what: "a report", bytes, limit });
        }
        let id = self.next;
        self.next += 1;
        self.write(&Frame::Record(id, record.clone()));
        self.waiting.add(id, record);
        self.drop_beyond(None);
        self.relieve();
        Ok(RecordId(id))
    }

    /// Lets go of records that a collector has taken, for good with the next flush. Ids that are not there are no matter.
    pub fn acknowledge(&mut self, ids: &[RecordId]) {
        for id in ids {
            self.waiting.remove(id.0);
        }
    }

    /// Sets a named value. When this returns, it outlives the process as a record does, and before any record that is
    /// appended after it.
    pub fn put(&mut self, key: &str, value: Bytes) -> Result<(), SpoolError> {
        self.state.check(key, &value)?;
        if self.state.get(key) == Some(&value) {
            return Ok(());
        }
        self.write(&Frame::Put(key.to_owned(), value.clone()));
        self.state.put(key.to_owned(), value);
        self.relieve();
        Ok(())
    }

    /// A named value.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.state.get(key).cloned()
    }

    /// Forgets a named value.
    pub fn remove(&mut self, key: &str) {
        if self.state.remove(key) {
            self.write(&Frame::Remove(key.to_owned()));
        }
    }

    /// The names of all values, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.state.keys()
    }

    /// The newest records that wait, newest first: at most `count_max`, and at most `bytes_max` bytes of bodies unless
    /// the first alone has more. What the database has is left out while it cannot be read.
    pub fn newest(&mut self, bytes_max: u64, count_max: usize) -> Vec<(RecordId, Record)> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut failure = None;
        for (id, head, body) in self.waiting.newest() {
            if records.len() == count_max || (bytes + head.bytes > bytes_max && !records.is_empty()) {
                break;
            }
            let record = match (body, &self.disk) {
                (Some(body), _) => {
                    let Head { roster, slots, second, .. } = *head;
                    Some(Record { roster, slots, second, body: body.clone() })
                }
                (None, Some(disk)) => disk.record(id).unwrap_or_else(|error| {
                    failure = Some(error);
                    None
                }),
                (None, None) => None,
            };
            if failure.is_some() {
                break;
            }
            if let Some(record) = record {
                bytes += head.bytes;
                records.push((RecordId(id), record));
            }
        }
        if let Some(error) = failure {
            self.fail(error);
        }
        records
    }

    /// Makes durable what waits and what was put, deletes what was acknowledged, and drops what is beyond the limits.
    /// To be called once a second; waits for the disk once, and not at all if nothing changed.
    ///
    /// It fails when the disk has failed since the last flush, and says so once. Everything goes on in memory then,
    /// and the disk is tried again every ten seconds.
    pub fn flush(&mut self, now: Second) -> Result<Flushed, SpoolError> {
        self.now = now;
        self.drop_beyond(Some(now));
        self.save();
        if std::mem::take(&mut self.has_failed)
            && let Some(error) = self.trouble()
        {
            return Err(error.clone());
        }
        Ok(std::mem::take(&mut self.untold))
    }

    /// How much waits.
    pub fn depth(&self) -> Depth {
        Depth {
            records: self.waiting.len(),
            bytes: self.waiting.bytes(),
            slots: self.waiting.slots(),
            oldest: self.waiting.oldest(),
        }
    }

    /// Records that were dropped since the start, and the slots that they spoke of.
    pub const fn dropped(&self) -> (u64, u64) {
        (self.dropped_records, self.dropped_slots)
    }

    /// The rosters that waiting records refer to.
    pub fn rosters_in_use(&self) -> BTreeSet<u64> {
        self.waiting.newest().map(|(_, head, _)| head.roster).collect()
    }

    /// Whether what is appended outlives the process.
    pub fn is_on_disk(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.trouble().is_none())
    }

    /// Why the disk is not used although there is one.
    pub fn trouble(&self) -> Option<&SpoolError> {
        self.disk.as_ref()?.trouble()
    }

    /// The size of its files in bytes; none where it is in memory only.
    pub fn disk_bytes(&self) -> Option<u64> {
        self.disk.as_ref().map(Disk::bytes)
    }

    /// How often the database waited for the disk since the start.
    pub fn syncs(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.usage.syncs())
    }

    fn write(&mut self, frame: &Frame) {
        let Some(disk) = &mut self.disk else { return };
        let was_on_disk = disk.trouble().is_none();
        disk.append(frame, self.now);
        self.has_failed |= was_on_disk && disk.trouble().is_some();
    }

    /// Flushes out of turn where nobody does, before the tail grows beyond its bound.
    fn relieve(&mut self) {
        if self.disk.as_ref().is_some_and(Disk::is_overdue) {
            self.save();
        }
    }

    fn save(&mut self) {
        let Some(disk) = self.disk.as_mut().filter(|disk| disk.is_due(self.now)) else { return };
        let had_failed = disk.trouble().is_some();
        match disk.save(&mut self.waiting, &mut self.state, self.now) {
            Ok(_) if !had_failed => {}
            Ok(recovered) => {
                // A start without the disk could not know which ids were given out before.
                self.next = self.next.max(u64::from(disk.opening(self.now)) << IDS_BITS);
                let reopened = recovered.or_else(|| self.reopened.take()).unwrap_or_default();
                self.count_dropped(reopened.lost_records, reopened.lost_slots);
                self.untold.recovered = Some(Recovered { records: self.waiting.len(), ..reopened });
            }
            Err(error) => self.fail(error),
        }
    }

    /// Goes on without the disk, but for reading what can be read: a collector may take what is there.
    fn fail(&mut self, error: SpoolError) {
        let Some(disk) = &mut self.disk else { return };
        self.has_failed |= disk.trouble().is_none();
        // Not to be opened now is no news: it is tried again, and why it failed first says more.
        if disk.fail(error, self.now)
            && let Ok(recovered) = disk.attach(&mut self.waiting, &mut self.state, self.now)
        {
            self.reopened = Some(recovered);
        }
    }

    fn drop_beyond(&mut self, now: Option<Second>) {
        while let Some(head) = self.waiting.remove_beyond(self.limits, now) {
            self.count_dropped(1, head.slots);
        }
    }

    const fn count_dropped(&mut self, records: u64, slots: u64) {
        self.dropped_records += records;
        self.dropped_slots += slots;
        self.untold.dropped_records += records;
        self.untold.dropped_slots += slots;
    }
}
