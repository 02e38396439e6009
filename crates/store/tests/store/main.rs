//! The collector's store: what it promises on a disk and in memory, and what it does when a disk, a process or a file
//! comes to an end.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conformance;
mod damage;
mod full;
mod kill;
#[path = "../support/mod.rs"]
mod support;
mod upkeep;

use std::ops::ControlFlow;

use aviary_store::{Batch, Store, StoreError, Table};
use bytes::Bytes;

fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

/// A batch that puts one record.
fn put(table: Table, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Batch {
    Batch { put: vec![(table, bytes(key), bytes(value))], ..Batch::default() }
}

/// A batch that removes a range.
fn remove(table: Table, from: impl AsRef<[u8]>, until: impl AsRef<[u8]>) -> Batch {
    Batch { remove: vec![(table, bytes(from), bytes(until))], ..Batch::default() }
}

/// The records of a range, in order.
fn range(
    store: &dyn Store,
    table: Table,
    from: impl AsRef<[u8]>,
    until: impl AsRef<[u8]>,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut found = Vec::new();
    store.range(table, from.as_ref(), until.as_ref(), &mut |key, value| {
        found.push((bytes(key), bytes(value)));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// The keys of a range as text.
fn keys(store: &dyn Store, table: Table, from: &str, until: &str) -> Vec<String> {
    let found = range(store, table, from, until).unwrap();
    found.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
}
