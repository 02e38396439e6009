//! The file under the database, as redb uses it, and what it had to say when something failed.

use std::{
    fmt,
    fs::File,
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use aviary_core::{Clock, Micros, histogram::Histogram};
use redb::{StorageBackend, backends::FileBackend};
use rustix::{fs::fstatvfs, io::Errno};

use crate::{file::grow, store::is_full};

/// So much of a disk is left to others, and to what has to be written to make room: a sixty-fourth, and no more than
/// [`RESERVE_BYTES_MAX`].
const RESERVE_SHARE: u64 = 64;
const RESERVE_BYTES_MAX: u64 = 16 << 20;

/// What failed under redb, which only says that something did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no room for it.
    Full(String),
    /// It may or may not be on the disk.
    Unsound(String),
}

/// What happened to the disk, shared by all openings of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    failure: Arc<Mutex<Option<Failure>>>,
    syncs: Arc<Syncs>,
    /// How many syncs to fail after so many that go well: what no file system does on request.
    #[cfg(test)]
    pub(super) failing_sync_in: Arc<std::sync::atomic::AtomicU64>,
}

impl Disk {
    /// What failed since this was asked last.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, failure: Failure) {
        let mut noted = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        // The first is the cause; and that the disk's state is not known goes before anything else.
        if noted.is_none() || matches!(failure, Failure::Unsound(_)) {
            *noted = Some(failure);
        }
    }

    /// From now on it is measured how long syncs take.
    pub(super) fn time_syncs(&self, clock: impl Clock) {
        // Whoever was first goes on.
        _ = self.syncs.monotonic.set(Box::new(move || clock.monotonic()));
    }

    /// How long syncs took since they are measured.
    pub(super) fn syncs(&self) -> Histogram {
        self.syncs.took().clone()
    }

    fn sync(&self, file: &FileBackend) -> io::Result<()> {
        #[cfg(test)]
        if self.fails_now() {
            return Err(io::Error::other("the disk gave up"));
        }
        let Some(monotonic) = self.syncs.monotonic.get() else { return file.sync_data() };
        let began = monotonic();
        let synced = file.sync_data();
        let micros = u32::try_from(monotonic().since(began)).unwrap_or(u32::MAX);
        self.syncs.took().record(micros);
        synced
    }

    #[cfg(test)]
    fn fails_now(&self) -> bool {
        use std::sync::atomic::Ordering::SeqCst;
        let left = self.failing_sync_in.load(SeqCst);
        self.failing_sync_in.store(left.saturating_sub(1), SeqCst);
        left == 1
    }
}

/// How long the disk took to confirm what was written.
#[derive(Default)]
struct Syncs {
    monotonic: OnceLock<Box<dyn Fn() -> Micros + Send + Sync>>,
    took: Mutex<Histogram>,
}

impl Syncs {
    fn took(&self) -> MutexGuard<'_, Histogram> {
        // A count is added or not.
        self.took.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Syncs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Syncs").field("count", &self.took().count()).finish_non_exhaustive()
    }
}

/// redb's file. It takes no locks on it: the directory has one of its own.
#[derive(Debug)]
pub(super) struct Backend {
    /// The same file, for what redb does not know of.
    handle: File,
    file: FileBackend,
    disk: Disk,
}

impl Backend {
    pub(super) fn new(file: File, disk: Disk) -> Result<Self, redb::DatabaseError> {
        let handle = file.try_clone().map_err(redb::StorageError::Io)?;
        Ok(Self { handle, file: FileBackend::new(file)?, disk })
    }

    /// Grows as long as enough is left to others.
    fn grow(&self, old: u64, len: u64) -> io::Result<()> {
        if let Ok(disk) = fstatvfs(&self.handle) {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let reserve =
                (disk.f_blocks.saturating_mul(disk.f_frsize) / RESERVE_SHARE).min(RESERVE_BYTES_MAX);
            if free < (len - old).saturating_add(reserve) {
                return Err(Errno::NOSPC.into());
            }
        }
        grow(&self.file, &self.handle, old, len)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let old = self.file.len()?;
        let set = if len > old { self.grow(old, len) } else { self.file.set_len(len) };
        set.inspect_err(|error| {
            if is_full(error) {
                self.disk.note(Failure::Full(error.to_string()));
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        // What it did not confirm may be dropped from the system's memory, and the next call would know nothing of it:
        // asking again proves nothing.
        self.disk.sync(&self.file).inspect_err(|error| self.disk.note(Failure::Unsound(error.to_string())))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data).inspect_err(|error| {
            let what = error.to_string();
            self.disk.note(if is_full(error) { Failure::Full(what) } else { Failure::Unsound(what) });
        })
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
