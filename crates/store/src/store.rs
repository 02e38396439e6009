//! The seam behind which the collector keeps everything that is to outlive it.

use std::{
    fmt, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use aviary_core::histogram::Histogram;
use bytes::Bytes;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1 << 10;

/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// What a key belongs to. The store knows nothing else of what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Reports as they came, by their number: what is acknowledged is here first.
    Journal,
    /// The live window as it was at some place of the journal, and where that is.
    Checkpoint,
    /// The tags of every series, by its number.
    Series,
    /// Slots of sealed minutes and packed hours, by time first.
    Slots,
    /// Sums of groups, by time first.
    Sums,
    /// Phase timings, by time first.
    Timings,
    /// What changed around the services, by time first.
    Events,
    /// Incidents, by their ids, which begin with time.
    Incidents,
    /// Who is told of incidents, silences, and what was learnt of services.
    Judgement,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Journal,
        Self::Checkpoint,
        Self::Series,
        Self::Slots,
        Self::Sums,
        Self::Timings,
        Self::Events,
        Self::Incidents,
        Self::Judgement,
    ];

    /// Its one name, in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Checkpoint => "checkpoint",
            Self::Series => "series",
            Self::Slots => "slots",
            Self::Sums => "sums",
            Self::Timings => "timings",
            Self::Events => "events",
            Self::Incidents => "incidents",
            Self::Judgement => "judgement",
        }
    }
}

/// Changes that happen together or not at all. Removals come first: what is put in the same batch stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys from the first, inclusive, to the second, exclusive.
    pub remove: Vec<(Table, Bytes, Bytes)>,
    /// Keys and their values, replacing what they had.
    pub put: Vec<(Table, Bytes, Bytes)>,
}

/// Tells whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Keeps bytes under ordered keys, and does not forget what it has acknowledged.
///
/// Keys begin with time (big-endian), so that what is written together lies together: series-first keys cost 20 to 66
/// times in writes. A key has at most [`KEY_BYTES_MAX`] bytes, a value [`VALUE_BYTES_MAX`]. Everything here may block on
/// a disk.
pub trait Store: fmt::Debug + Send + Sync {
    /// Makes the changes of `batch`, durably: when this returns, a crash at any moment leaves them.
    ///
    /// # Errors
    /// None of the changes is made. After [`StoreError::Unsound`] nothing more may be written by this process: what the
    /// disk holds is not known, the changes of the batch included.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// The value of `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits the keys from `from` to before `until` in their order, as they all were at one moment.
    fn range(&self, table: Table, from: &[u8], until: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Visits the same keys from the last to the first.
    fn range_back(&self, table: Table, from: &[u8], until: &[u8], visit: Visit<'_>)
    -> Result<(), StoreError>;

    /// Writes everything, as it all is at one moment, into a new file at `target`; others go on writing meanwhile.
    /// Returns the size of the copy in bytes.
    fn backup(&self, target: &Path) -> Result<u64, StoreError>;

    /// What it costs the disk; nothing where there is none.
    fn figures(&self) -> StoreFigures {
        StoreFigures::default()
    }

    /// Where it keeps what it keeps, for people.
    fn place(&self) -> String;

    /// Ends its use well: the next start is told so. Nothing can be kept or read afterwards.
    fn close(&self);
}

/// What a store costs its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// The size of its file in bytes.
    pub bytes: u64,
    /// How long the disk took to confirm what was written, in microseconds, each time since it is measured.
    pub syncs: Histogram,
}

/// Why something could not be kept or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room: free some, and it goes on by itself.
    #[error("no room to write {path}: {reason}; free some on its disk, and it goes on by itself")]
    Full {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// A write was not confirmed by the disk: what it holds now is not known, and only a fresh start may look.
    #[error(
        "the disk did not confirm what was written to {path}: {reason}; look at the disk, then start again"
    )]
    Unsound {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// What is there is not what was written.
    #[error(
        "{path} is damaged at {place}: {reason}; restore it from a backup (`aviary store restore`), or move it away to \
         begin anew"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where in it, as far as that is known.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Another process has it.
    #[error(
        "{path} is in use by process {owner}: stop that process, or use another `data` directory; a running collector \
         makes a copy with `aviary store backup --url`"
    )]
    InUse {
        /// The directory.
        path: String,
        /// The other process's id, as far as it could be read.
        owner: String,
    },
    /// A later version of this program wrote it.
    #[error(
        "{path} has format {found}, and this version of aviary knows formats up to {known}: run the version that wrote \
         it, or restore a backup of before"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: u64,
        /// The newest format that this version knows.
        known: u64,
    },
    /// Anything else.
    #[error("cannot use {path}: {reason}")]
    Failed {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
}

impl StoreError {
    /// What the system said while `action` was tried at `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| {
            let path = path.display().to_string();
            let reason = format!("cannot {action} it: {error}");
            if is_full(&error) { Self::Full { path, reason } } else { Self::Failed { path, reason } }
        }
    }

    /// It is not there.
    pub(crate) fn missing(path: &Path) -> Self {
        Self::Failed { path: path.display().to_string(), reason: "it is not there".to_owned() }
    }
}

/// Whether the system says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Refuses what is too large before anything is begun.
pub(crate) fn check(batch: &Batch, path: impl FnOnce() -> PathBuf) -> Result<(), StoreError> {
    let is_fine = |(_, key, value): &(Table, Bytes, Bytes)| {
        key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX
    };
    let Some((table, key, value)) = batch.put.iter().find(|put| !is_fine(put)) else { return Ok(()) };
    let reason = format!(
        "a record of {} with {} bytes under a key of {} is larger than it takes, which is {VALUE_BYTES_MAX} and \
         {KEY_BYTES_MAX}",
        table.name(),
        value.len(),
        key.len()
    );
    Err(StoreError::Failed { path: path().display().to_string(), reason })
}
