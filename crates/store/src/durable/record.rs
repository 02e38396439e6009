//! Values as they stand in the file: with a checksum that covers table, key and value.
//!
//! redb sums its pages, and looks at those sums when a file is repaired or checked, not when a page is read. The sum of
//! the record is looked at each time: so a file of gigabytes starts at once, and what was altered in it is still never
//! taken for what was written.

use std::fmt::Write as _;

use crate::store::Table;

/// How many bytes the sum takes, at the end of the value.
pub(super) const SUM_BYTES: usize = 4;

/// The sum of a record.
pub(super) fn sum(table: Table, key: &[u8], value: &[u8]) -> [u8; SUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.name().as_bytes());
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// The value without its sum, if it is as it was written.
pub(super) fn open<'a>(table: Table, key: &[u8], kept: &'a [u8]) -> Option<&'a [u8]> {
    let (value, sum_kept) = kept.split_at_checked(kept.len().checked_sub(SUM_BYTES)?)?;
    (sum(table, key, value) == sum_kept).then_some(value)
}

/// Where a record stands, for people.
pub(super) fn place(table: Table, key: &[u8]) -> String {
    let mut place = format!("{} ", table.name());
    for byte in key {
        // Writing to a string does not fail.
        _ = write!(place, "{byte:02x}");
    }
    place
}
