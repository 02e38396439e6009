//! What aviary keeps on disk, so that nothing is lost by a crash, a restart or a collector that is away.
//!
//! The agent's [`Spool`] holds reports on their way to the collector. The collector's journal and state live behind
//! [`Store`]: a spool belongs to one process and empties itself, a journal is read again and again and may be shared, so
//! they have a file format in common and no more. [`RedbStore`] keeps it in a file, [`MemoryStore`] as long as the
//! process lives; what holds of the one holds of the other, but for the file.
//!
//! **Architecture invariants:** everything here blocks, so its callers give it a thread of its own. Time comes in as an
//! argument. What is kept is opaque bytes: this crate knows neither reports nor the wire. Only this crate names redb.

mod durable;
mod file;
mod look;
mod memory;
mod spool;
mod store;

pub use durable::{Contents, Counted, FILE_NAME, Found, Progress, RedbStore, compact, dump, restore, verify};
pub use memory::MemoryStore;
pub use spool::{
    Damaged, Depth, Flushed, Limits, RECORD_BYTES_MAX, Record, RecordId, Recovered, STATE_BYTES_MAX,
    STATE_KEY_BYTES_MAX, STATE_VALUES_MAX, Spool, SpoolError,
};
pub use store::{Batch, KEY_BYTES_MAX, Store, StoreError, StoreFigures, Table, VALUE_BYTES_MAX, Visit};
