//! Every second of every series beyond what the ledger holds.
//!
//! ```text
//! ledger -> minute, when it is about to leave  \
//! reports, of what the ledger has let go of     > blocks -> packed by the hour -> expired
//! phase timings                                /     \-> sums of groups by hour and day
//! ```
//!
//! **Invariants.** Merging is the join of the ledger, so a report that comes late, twice, or after its minute was
//! sealed and told again by the journal leaves the same block. A second is read from the ledger or from here, and never
//! from both: the seam moves when a minute can be read here. Sums that are rolled up go in the same changes that touch
//! what they sum, and are made again later; where there are none, blocks are counted. All of that is the work of a
//! thread of its own: the state's lock is held to copy a minute, and no longer.

mod block;
mod codec;
mod keep;
mod key;
mod late;
mod lives;
mod question;
mod records;
mod rollup;
mod seal;
mod shelf;
mod tally;
mod timings;
mod varint;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{Second, Span};
use aviary_store::{MemoryStore, Store, StoreError};

pub(crate) use self::{
    block::Value,
    key::{Chunk, Level},
    late::{Late, LateGap},
    lives::{FormerProofs, Lives},
    question::chunks_of,
    records::Record,
    rollup::{Reps, TAGS as ROLLED_TAGS},
    seal::RawMinute,
    tally::{Steps, Tally},
    timings::{TAGS as TIMED_TAGS, Timed},
};
use self::{keep::Writer, shelf::Shelf, timings::HeldTimings};

/// A minute is sealed so many seconds after it ended: as late as the ledger certainly still holds it, so that what
/// comes late until then costs nothing.
pub(crate) const SEAL_AFTER_SECONDS: u64 = 840;

/// So long a collector that keeps nothing on disk remembers.
const MEMORY_SECONDS: u64 = 3_600;

/// And at most in so many bytes; of more, the oldest hours go.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// So many minutes may wait to be sealed; whoever adds another does the work.
const MINUTES_MAX: usize = 4;

/// So many late slots may wait to be merged; reports that tell more are told to come back.
const LATE_SLOTS_MAX: usize = 2 << 20;

/// How long the thread rests between two rounds.
const REST: Duration = Duration::from_secs(1);

/// Why history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that keeps it could not be started.
    #[error("no thread can be started to keep history: {0}")]
    Thread(std::io::Error),
    /// The store has had no room for too long.
    #[error("too much waits to be written; free some room on the disk of the collector's data")]
    Waiting,
    /// The series that is remembered under a number is not the one that has it.
    #[error(
        "series {series} of what is stored is another than the one that the collector has under that number; restore \
         the collector's data from a backup"
    )]
    Unlike {
        /// The number.
        series: u32,
    },
    /// What is stored under a key is not what was written.
    #[error("what is stored under {key} is damaged: {reason}; restore the collector's data from a backup")]
    Damaged {
        /// The key, with what it stands for.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// What the history asks of the collector whose slots it keeps.
pub(crate) trait Fleet: Send {
    /// The lives of all series, and which stand for which in what is rolled up; `None` when the collector is gone.
    fn lives(&self) -> Option<(Lives, Arc<Vec<aviary_core::SeriesId>>)>;

    /// What is to be remembered of at most `count` series from number `first` on.
    fn records(&self, first: usize, count: usize) -> Vec<Record>;

    /// The second that it is.
    fn now(&self) -> Option<Second>;
}

/// Every second of every series beyond what the ledger holds.
#[derive(Debug)]
pub(crate) struct History {
    shelf: Shelf,
    queue: Mutex<Queue>,
    wake: Condvar,
    writer: Mutex<Writer>,
    /// One round follows another: what one has taken and not yet made blocks of, another could not wait for.
    rounds: Mutex<()>,
    timings: Mutex<HeldTimings>,
    /// Seconds before this are read here.
    visible_until: AtomicU64,
    /// The first second of which anything can be known.
    first: AtomicU64,
    retain_seconds: u64,
    is_durable: bool,
    /// Before this, slots were let go of early.
    let_go_before: AtomicU64,
    /// Slots that were told and could not be kept.
    unkept: AtomicU64,
}

/// What waits for the thread.
#[derive(Debug, Default)]
struct Queue {
    minutes: VecDeque<RawMinute>,
    late: Late,
    repaused: Vec<Span>,
    is_closed: bool,
}

impl History {
    /// A history of at most an hour that is forgotten with its process.
    pub(crate) fn in_memory(retain_seconds: u64) -> Self {
        Self::new(Arc::new(MemoryStore::default()), retain_seconds.min(MEMORY_SECONDS), false)
    }

    /// What `store` keeps, for `retain_seconds`.
    pub(crate) fn open(store: Arc<dyn Store>, retain_seconds: u64) -> Self {
        Self::new(store, retain_seconds, true)
    }

    fn new(store: Arc<dyn Store>, retain_seconds: u64, is_durable: bool) -> Self {
        Self {
            shelf: Shelf::new(store),
            queue: Mutex::default(),
            wake: Condvar::new(),
            writer: Mutex::default(),
            rounds: Mutex::new(()),
            timings: Mutex::default(),
            visible_until: AtomicU64::new(0),
            first: AtomicU64::new(u64::MAX),
            retain_seconds,
            is_durable,
            let_go_before: AtomicU64::new(0),
            unkept: AtomicU64::new(0),
        }
    }

    /// The ledger begins with `held`, and what is before `sealed_until` is read here.
    pub(crate) fn begin(&self, held: Second, sealed_until: Second) -> Result<(), HistoryError> {
        self.visible_until.store(sealed_until.0, Ordering::Release);
        let stored = self.first_stored()?.unwrap_or(held);
        self.first.fetch_min(stored.min(held).0, Ordering::AcqRel);
        Ok(())
    }

    /// Seconds before this are read here, later ones from the ledger.
    pub(crate) fn visible_until(&self) -> Second {
        Second(self.visible_until.load(Ordering::Acquire))
    }

    /// The first second of which anything can be known at `now`.
    pub(crate) fn first(&self, now: Second) -> Second {
        Second(self.first.load(Ordering::Acquire)).max(self.retained_from(now))
    }

    /// The first second that is kept at `now`.
    pub(crate) fn retained_from(&self, now: Second) -> Second {
        now.minus(self.retain_seconds).max(Second(self.let_go_before.load(Ordering::Acquire)))
    }

    /// Slots that were told and could not be kept.
    pub(crate) fn unkept(&self) -> u64 {
        self.unkept.load(Ordering::Relaxed)
    }

    /// Whether there is room for what comes late.
    pub(crate) fn has_room(&self) -> bool {
        self.queue().late.cost() < LATE_SLOTS_MAX && self.shelf.waiting_bytes() < shelf::WAITING_BYTES_MAX
    }

    /// Takes a minute that the ledger is about to let go of.
    pub(crate) fn seal(&self, minute: RawMinute) {
        let mut queue = self.queue();
        queue.minutes.push_back(minute);
        let are_too_many = queue.minutes.len() > MINUTES_MAX;
        drop(queue);
        if are_too_many {
            self.catch_up();
        }
        self.wake.notify_one();
    }

    /// Lets what is before `until` be read here at once, and the minutes that wait with it.
    pub(crate) fn read_here_until(&self, until: Second) {
        self.catch_up();
        self.visible_until.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Takes what came late.
    pub(crate) fn take(&self, late: Late) {
        if let Some(earliest) = late.earliest() {
            self.first.fetch_min(earliest.0, Ordering::AcqRel);
        }
        self.queue().late.append(late);
        self.wake.notify_one();
    }

    /// Agents say otherwise of where in `span` some series were muted.
    pub(crate) fn repaused(&self, span: Span) {
        let mut queue = self.queue();
        if queue.repaused.last() != Some(&span) {
            queue.repaused.push(span);
        }
    }

    /// Does what is to be done, again and again, until [`Self::close`].
    pub(crate) fn keep(&self, fleet: &dyn Fleet) {
        while let Some(now) = fleet.now() {
            if let Err(error) = self.round(fleet, now, false) {
                tracing::error!(%error, "History cannot be kept; it waits, and is tried again.");
            }
            let queue = self.queue();
            if queue.is_closed {
                return;
            }
            // Poisoned or not, the next round looks at it.
            drop(self.wake.wait_timeout(queue, REST));
        }
    }

    /// Lets [`Self::keep`] end.
    pub(crate) fn close(&self) {
        self.queue().is_closed = true;
        self.wake.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // What is in it are whole facts.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // It remembers what is left to do; to do some of it twice changes nothing.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
