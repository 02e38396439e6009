//! The spool on real disks: what it promises on any, and what it does when they, or its process, come to an end.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conformance;
mod damage;
mod full;
mod kill;
mod model;
mod steady;
#[path = "../support/mod.rs"]
mod support;

use aviary_core::Second;
use aviary_store::{Limits, Record, RecordId, Spool};
use bytes::Bytes;

/// Limits that no test comes near.
const WIDE: Limits = Limits { bytes: 1 << 30, age_seconds: 86_400 };

/// A record of `second` with a body that no other second has.
fn record(second: u64, bytes: usize) -> Record {
    let body: Vec<u8> = second.to_le_bytes().into_iter().cycle().take(bytes).collect();
    Record { roster: second / 10, slots: 3, second: Second(second), body: Bytes::from(body) }
}

/// Everything that waits, oldest first.
fn all(spool: &mut Spool) -> Vec<(RecordId, Record)> {
    let mut records = spool.newest(u64::MAX, usize::MAX);
    records.reverse();
    records
}

/// The seconds of everything that waits, oldest first.
fn seconds(spool: &mut Spool) -> Vec<u64> {
    all(spool).iter().map(|(_, record)| record.second.0).collect()
}
