//! The disk under a spool: lock, database and tail, and what happens when one of them fails.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    ops::RangeInclusive,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use aviary_core::Second;

use super::{
    Damaged, Record, Recovered, SpoolError,
    database::{Changes, Contents, Database, DiskUse, Unopened, set_aside},
    lock::{Lock, opening},
    state::State,
    tail::{Frame, Held, TAIL_BYTES_MAX, Tail},
    waiting::{Head, Waiting},
};

/// The files in the directory.
const DATABASE: &str = "spool.redb";
const TAIL: &str = "spool.tail";

/// So many names are tried for what is set aside; there is one a second.
const ASIDE_TRIES: usize = 100;

/// A disk that failed is tried again after so many seconds.
const RETRY_SECONDS: u64 = 10;

/// A file below this is not worth compacting.
const COMPACT_BYTES_MIN: u64 = 16 << 20;

/// A file is compacted when it is so many times larger than the bodies in it.
const COMPACT_RATIO: u64 = 4;

/// Compacting rewrites what is left, in steps that each wait for the disk: not again before so many flushes.
const COMPACT_FLUSHES: u32 = 60;

/// A directory, and what of it is open.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
    lock: Option<Lock>,
    database: Option<Database>,
    tail: Option<Tail>,
    /// Why the disk is not written to.
    trouble: Option<SpoolError>,
    tried: Second,
    /// What the disk held at the start has been read: from then on memory knows better.
    is_loaded: bool,
    flushes_since_compact: u32,
    pub(super) usage: DiskUse,
}

impl Disk {
    pub(super) fn new(directory: PathBuf, usage: DiskUse) -> Self {
        Self {
            directory,
            lock: None,
            database: None,
            tail: None,
            trouble: None,
            tried: Second(0),
            is_loaded: false,
            flushes_since_compact: COMPACT_FLUSHES,
            usage,
        }
    }

    /// The number of this opening of the spool; without a lock, what the clock makes of it.
    pub(super) fn opening(&self, now: Second) -> u32 {
        self.lock.as_ref().map_or_else(|| opening(now), |lock| lock.opening)
    }

    /// The size of its files; what cannot be looked at counts as nothing.
    pub(super) fn bytes(&self) -> u64 {
        let size = |name| fs::metadata(self.directory.join(name)).map_or(0, |metadata| metadata.len());
        size(DATABASE) + size(TAIL)
    }

    /// Why the disk is not used, if it is not.
    pub(super) const fn trouble(&self) -> Option<&SpoolError> {
        self.trouble.as_ref()
    }

    /// Goes on without the disk. A database that failed is not to be trusted until it was opened again; returns whether
    /// there was one.
    pub(super) fn fail(&mut self, error: SpoolError, now: Second) -> bool {
        self.trouble = Some(error);
        self.tried = now;
        self.database.take().is_some()
    }

    /// Opens whatever is not open, and joins what the disk holds with what is in memory.
    pub(super) fn attach(
        &mut self,
        waiting: &mut Waiting,
        state: &mut State,
        now: Second,
    ) -> Result<Recovered, SpoolError> {
        if self.lock.is_none() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
            made.map_err(SpoolError::io("make the directory", &self.directory))?;
            self.lock = Some(Lock::take(&self.directory, now)?);
        }
        if self.tail.is_none() {
            // Before anything here is changed.
            Tail::look(&self.directory.join(TAIL))?;
        }
        let (database, contents, damaged) = self.open_database(now)?;
        let mut recovered = Recovered { damaged, ..Recovered::default() };
        let mut held = Held::default();
        if self.tail.is_none() {
            let (tail, read) = Tail::open(self.directory.join(TAIL), contents.taken_in)?;
            self.tail = Some(tail);
            held = read;
        }
        recovered.torn_bytes = held.torn_bytes;
        if self.is_loaded {
            reconcile(contents, waiting, state, &mut recovered);
        } else {
            load(contents, held.frames, waiting, state);
            self.is_loaded = true;
        }
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(SpoolError::io("sync", &self.directory))?;
        recovered.records = waiting.len();
        self.database = Some(database);
        Ok(recovered)
    }

    fn open_database(&self, now: Second) -> Result<(Database, Contents, Option<Damaged>), SpoolError> {
        let path = self.directory.join(DATABASE);
        let damaged = match Database::open(path.clone(), &self.usage) {
            Ok((database, contents)) => return Ok((database, contents, None)),
            Err(Unopened::Error(error)) => return Err(error),
            Err(Unopened::Damaged(reason)) => Damaged { reason, aside: set_aside(&path, now)? },
        };
        match Database::open(path.clone(), &self.usage) {
            Ok((database, contents)) => Ok((database, contents, Some(damaged))),
            Err(Unopened::Error(error)) => Err(error),
            Err(Unopened::Damaged(reason)) => Err(SpoolError::Database { action: "begin", path, reason }),
        }
    }

    /// Writes a frame to the tail, unless the disk is in trouble already.
    pub(super) fn append(&mut self, frame: &Frame, now: Second) {
        if self.trouble.is_some() {
            return;
        }
        let Some(tail) = &mut self.tail else { return };
        if let Err(error) = tail.append(frame) {
            // The database is whole, and what is in it can still be read and sent.
            self.trouble = Some(error);
            self.tried = now;
        }
    }

    /// Whether the tail has grown so long that it cannot wait for the next flush.
    pub(super) fn is_overdue(&self) -> bool {
        self.trouble.is_none() && self.tail.as_ref().is_some_and(|tail| tail.length() > TAIL_BYTES_MAX)
    }

    /// Whether there is any use in writing now.
    pub(super) const fn is_due(&self, now: Second) -> bool {
        // The clock may be stepped either way.
        self.trouble.is_none() || now.0.abs_diff(self.tried.0) >= RETRY_SECONDS
    }

    /// Makes what is in memory durable.
    pub(super) fn save(
        &mut self,
        waiting: &mut Waiting,
        state: &mut State,
        now: Second,
    ) -> Result<Option<Recovered>, SpoolError> {
        self.tried = now;
        let recovered = match self.database {
            Some(_) => None,
            None => Some(self.attach(waiting, state, now)?),
        };
        let (Some(database), Some(tail)) = (&mut self.database, &mut self.tail) else { return Ok(recovered) };
        let has_changes = !(waiting.is_saved() && state.is_saved());
        if has_changes {
            database.commit(&Changes {
                insert: waiting.unsaved().collect(),
                delete: runs(waiting.gone()),
                put: state.changed().collect(),
                remove: state.removed().collect(),
                taken_in: tail.generation,
            })?;
            waiting.all_saved();
            state.all_saved();
        }
        // Also where it is empty: the database now says that it has taken in whatever this start of the tail will hold.
        if has_changes || tail.has_frames() {
            tail.restart()?;
        }
        self.trouble = None;
        self.flushes_since_compact = self.flushes_since_compact.saturating_add(1);
        if self.flushes_since_compact >= COMPACT_FLUSHES {
            let bytes = database.file_bytes();
            if bytes > COMPACT_BYTES_MIN && bytes / COMPACT_RATIO > waiting.saved_bytes() {
                self.flushes_since_compact = 0;
                database.compact()?;
            }
        }
        Ok(recovered)
    }

    /// The record of `id` as the database has it; nothing while the database is not open.
    pub(super) fn record(&self, id: u64) -> Result<Option<Record>, SpoolError> {
        self.database.as_ref().map_or(Ok(None), |database| database.record(id))
    }
}

/// Moves the files of the spool in `directory` out of the way, as they are; returns where to. Nobody else takes it meanwhile.
pub(super) fn set_aside_whole(directory: &Path, now: Second) -> Result<PathBuf, SpoolError> {
    let _lock = Lock::take(directory, now)?;
    let aside = (0..).map(|more: u64| directory.join(format!("spool.newer-{}", now.plus(more))));
    let aside = aside.take(ASIDE_TRIES).find(|aside| !aside.exists());
    let aside = aside.unwrap_or_else(|| directory.join(format!("spool.newer-{now}")));
    DirBuilder::new().mode(0o700).create(&aside).map_err(SpoolError::io("make the directory", &aside))?;
    for name in [DATABASE, TAIL] {
        let path = directory.join(name);
        if path.exists() {
            fs::rename(&path, aside.join(name)).map_err(SpoolError::io("rename", &path))?;
        }
    }
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(SpoolError::io("sync", directory))?;
    Ok(aside)
}

/// Takes in what the disk held when this process first looked.
fn load(contents: Contents, frames: Vec<Frame>, waiting: &mut Waiting, state: &mut State) {
    for (id, head) in contents.records {
        if !waiting.contains(id) {
            waiting.add_saved(id, head);
        }
    }
    let meanwhile = std::mem::replace(state, State::saved(contents.state));
    for frame in frames {
        match frame {
            Frame::Record(id, record) if !waiting.contains(id) => waiting.add(id, record),
            Frame::Record(..) => {}
            Frame::Put(key, value) => state.put(key, value),
            Frame::Remove(key) => {
                state.remove(&key);
            }
        }
    }
    for (key, value) in meanwhile.into_values() {
        state.put(key, value);
    }
}

/// Holds memory, which knows better, against a database that was opened anew.
fn reconcile(contents: Contents, waiting: &mut Waiting, state: &mut State, recovered: &mut Recovered) {
    let has: BTreeSet<u64> = contents.records.iter().map(|(id, _)| *id).collect();
    let lost = waiting.reconcile(&has);
    recovered.lost_records = lost.len() as u64;
    recovered.lost_slots = lost.iter().map(|head: &Head| head.slots).sum();
    state.reconcile(contents.state.into_iter().map(|(key, _)| key));
}

/// `ids` as runs without a hole.
fn runs(ids: &BTreeSet<u64>) -> Vec<RangeInclusive<u64>> {
    let mut runs: Vec<RangeInclusive<u64>> = Vec::new();
    for &id in ids {
        match runs.last_mut() {
            Some(run) if run.end().checked_add(1) == Some(id) => *run = *run.start()..=id,
            _ => runs.push(id..=id),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_runs_without_a_hole() {
        let table: [(&[u64], &[RangeInclusive<u64>]); 4] = [
            (&[], &[]),
            (&[7], &[7..=7]),
            (&[1, 2, 3, 5, 8, 9], &[1..=3, 5..=5, 8..=9]),
            (&[u64::MAX - 1, u64::MAX], &[u64::MAX - 1..=u64::MAX]),
        ];
        for (ids, expected) in table {
            assert_eq!(runs(&ids.iter().copied().collect()), expected);
        }
    }
}
