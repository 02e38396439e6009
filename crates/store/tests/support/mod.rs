//! What is the same for the spool and the store.

pub(crate) mod killed;
pub(crate) mod small_disk;
