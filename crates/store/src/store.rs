//! The seam behind which the collector keeps everything that is to outlive it.

use std::{fmt, ops::ControlFlow};

use bytes::Bytes;

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
/// times in writes. Everything here may block on a disk.
pub trait Store: fmt::Debug + Send + Sync {
    /// Makes the changes of `batch`, durably: when this returns, a crash at any moment leaves them.
    ///
    /// # Errors
    /// None of the changes is made. After [`StoreError::Unsound`] nothing more may be written by this process: what the
    /// disk holds is not known.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// The value of `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits the keys from `from` to before `until` in their order, as they all were at one moment.
    fn range(&self, table: Table, from: &[u8], until: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Visits the same keys from the last to the first.
    fn range_back(&self, table: Table, from: &[u8], until: &[u8], visit: Visit<'_>)
    -> Result<(), StoreError>;
}

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
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
        "{path} is damaged at {place}: {reason}; restore it from a backup, or move it away to begin anew"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where in it, as far as that is known.
        place: String,
        /// What is wrong.
        reason: String,
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
