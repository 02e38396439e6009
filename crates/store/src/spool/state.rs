//! Small named values that outlive the process, beside the records.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::SpoolError;

/// How many named values a spool keeps.
pub const STATE_VALUES_MAX: usize = 64;

/// The longest name of a value, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 128;

/// The largest named value, in bytes: a roster of 10,000 series has room.
pub const STATE_BYTES_MAX: usize = 4 << 20;

/// The values, and which of them the database has.
#[derive(Debug, Default)]
pub(super) struct State {
    values: BTreeMap<String, Bytes>,
    /// Keys that the database has, with whatever value.
    saved: BTreeSet<String>,
    /// Keys whose value the database does not have.
    changed: BTreeSet<String>,
}

impl State {
    /// Refuses what the spool would not take.
    pub(super) fn check(&self, key: &str, value: &Bytes) -> Result<(), SpoolError> {
        let sizes = [
            ("a value's name", key.len(), STATE_KEY_BYTES_MAX),
            ("a named value", value.len(), STATE_BYTES_MAX),
        ];
        for (what, bytes, limit) in sizes {
            if bytes > limit {
                return Err(SpoolError::TooLarge { what, bytes: bytes as u64, limit: limit as u64 });
            }
        }
        if self.values.len() >= STATE_VALUES_MAX && !self.values.contains_key(key) {
            return Err(SpoolError::StateFull { key: key.to_owned(), limit: STATE_VALUES_MAX });
        }
        Ok(())
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Bytes> {
        self.values.get(key)
    }

    /// Sets a value that the database does not have.
    pub(super) fn put(&mut self, key: String, value: Bytes) {
        self.changed.insert(key.clone());
        self.values.insert(key, value);
    }

    /// Forgets a value; returns whether there was one.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        self.changed.remove(key);
        self.values.remove(key).is_some()
    }

    /// The values of a database.
    pub(super) fn saved(values: Vec<(String, Bytes)>) -> Self {
        let saved = values.iter().map(|(key, _)| key.clone()).collect();
        Self { values: values.into_iter().collect(), saved, changed: BTreeSet::new() }
    }

    /// The values, whoever has them.
    pub(super) fn into_values(self) -> BTreeMap<String, Bytes> {
        self.values
    }

    /// The database has these keys, and its values are not to be relied on.
    pub(super) fn reconcile(&mut self, keys: impl Iterator<Item = String>) {
        self.saved = keys.collect();
        self.changed = self.values.keys().cloned().collect();
    }

    /// What the next transaction has to set.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.changed.iter().filter_map(|key| Some((key.as_str(), self.values.get(key)?)))
    }

    /// What the next transaction has to remove.
    pub(super) fn removed(&self) -> impl Iterator<Item = &str> {
        self.saved.iter().filter(|key| !self.values.contains_key(*key)).map(String::as_str)
    }

    /// Whether the database has all of it, and nothing else.
    pub(super) fn is_saved(&self) -> bool {
        self.changed.is_empty() && self.removed().next().is_none()
    }

    /// The database has all of it now.
    pub(super) fn all_saved(&mut self) {
        self.changed.clear();
        self.saved = self.values.keys().cloned().collect();
    }

    /// The names of all values.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}
