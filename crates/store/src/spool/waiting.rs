//! What waits, in memory: an index of every record, and the bodies of some.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::Second;
use bytes::Bytes;

use super::{Limits, Record};

/// How many bytes of bodies that the disk has are held in memory as well.
const CACHED_BYTES_MAX: u64 = 4 << 20;

/// What a record costs beside its body, against the bound in bytes: else records without one had none.
const HEAD_BYTES: u64 = 64;

/// A record without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) roster: u64,
    pub(super) slots: u64,
    pub(super) second: Second,
    /// The size of its body.
    pub(super) bytes: u64,
}

#[derive(Debug)]
struct Entry {
    head: Head,
    /// Always there while the database does not have it.
    body: Option<Bytes>,
}

/// Every record that waits, by id.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    entries: BTreeMap<u64, Entry>,
    bytes: u64,
    slots: u64,
    /// What the database does not have yet.
    unsaved: BTreeSet<u64>,
    /// Of those, what it has all the same: from a transaction of which nobody knows whether it is durable.
    in_doubt: BTreeSet<u64>,
    saved_bytes: u64,
    /// What the database has and should not have any more.
    gone: BTreeSet<u64>,
    /// Saved records of which the body is in memory too.
    cached: BTreeSet<u64>,
    cached_bytes: u64,
}

impl Waiting {
    /// Adds a record that the database does not have.
    pub(super) fn add(&mut self, id: u64, record: Record) {
        let Record { roster, slots, second, body } = record;
        let head = Head { roster, slots, second, bytes: body.len() as u64 };
        self.insert(id, head, Some(body));
        self.unsaved.insert(id);
    }

    /// Adds a record that the database has.
    pub(super) fn add_saved(&mut self, id: u64, head: Head) {
        self.saved_bytes += head.bytes;
        self.insert(id, head, None);
    }

    fn insert(&mut self, id: u64, head: Head, body: Option<Bytes>) {
        self.bytes += head.bytes;
        self.slots += head.slots;
        self.entries.insert(id, Entry { head, body });
    }

    /// Takes a record out, for good.
    pub(super) fn remove(&mut self, id: u64) -> Option<Head> {
        let Entry { head, .. } = self.entries.remove(&id)?;
        self.bytes -= head.bytes;
        self.slots -= head.slots;
        if self.unsaved.remove(&id) {
            if self.in_doubt.remove(&id) {
                self.gone.insert(id);
            }
        } else {
            self.saved_bytes -= head.bytes;
            self.gone.insert(id);
            if self.cached.remove(&id) {
                self.cached_bytes -= head.bytes;
            }
        }
        Some(head)
    }

    /// Takes out the oldest record if there is more than `limits` allow; with `now` also by age.
    pub(super) fn remove_beyond(&mut self, limits: Limits, now: Option<Second>) -> Option<Head> {
        let (&id, oldest) = self.entries.first_key_value()?;
        let is_old = now.is_some_and(|now| oldest.head.second < now.minus(limits.age_seconds));
        (is_old || self.cost() > limits.bytes).then(|| self.remove(id)).flatten()
    }

    fn cost(&self) -> u64 {
        self.bytes + self.len() * HEAD_BYTES
    }

    /// The database has all of it now, and nothing that is gone.
    pub(super) fn all_saved(&mut self) {
        self.gone.clear();
        self.in_doubt.clear();
        for id in std::mem::take(&mut self.unsaved) {
            let bytes = self.entries[&id].head.bytes;
            self.saved_bytes += bytes;
            self.cached_bytes += bytes;
            self.cached.insert(id);
        }
        // The newest are read first.
        while self.cached_bytes > CACHED_BYTES_MAX {
            let Some(oldest) = self.cached.pop_first() else { break };
            if let Some(entry) = self.entries.get_mut(&oldest) {
                self.cached_bytes -= entry.head.bytes;
                entry.body = None;
            }
        }
    }

    /// Holds what is here against the ids that a database turned out to have; returns what was lost with it.
    pub(super) fn reconcile(&mut self, has: &BTreeSet<u64>) -> Vec<Head> {
        self.gone = has.iter().copied().filter(|id| !self.entries.contains_key(id)).collect();
        self.in_doubt = self.unsaved.intersection(has).copied().collect();
        let missing: Vec<u64> = self
            .entries
            .keys()
            .copied()
            .filter(|id| !self.unsaved.contains(id) && !has.contains(id))
            .collect();
        let mut lost = Vec::new();
        for id in missing {
            if self.cached.remove(&id) {
                let bytes = self.entries[&id].head.bytes;
                self.cached_bytes -= bytes;
                self.saved_bytes -= bytes;
                self.unsaved.insert(id);
            } else {
                lost.extend(self.remove(id));
                self.gone.remove(&id);
            }
        }
        lost
    }

    /// What the next transaction has to insert.
    pub(super) fn unsaved(&self) -> impl Iterator<Item = (u64, &Head, &Bytes)> {
        self.unsaved.iter().filter_map(|&id| {
            let entry = self.entries.get(&id)?;
            Some((id, &entry.head, entry.body.as_ref()?))
        })
    }

    /// What the next transaction has to delete.
    pub(super) const fn gone(&self) -> &BTreeSet<u64> {
        &self.gone
    }

    /// Whether the database has all of it, and nothing else.
    pub(super) fn is_saved(&self) -> bool {
        self.unsaved.is_empty() && self.gone.is_empty()
    }

    /// Every record, newest first, with its body if that is in memory.
    pub(super) fn newest(&self) -> impl Iterator<Item = (u64, &Head, Option<&Bytes>)> {
        self.entries.iter().rev().map(|(&id, entry)| (id, &entry.head, entry.body.as_ref()))
    }

    /// The second of the oldest record.
    pub(super) fn oldest(&self) -> Option<Second> {
        self.entries.first_key_value().map(|(_, entry)| entry.head.second)
    }

    /// Whether there is a record of that id.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.entries.contains_key(&id)
    }

    /// How many records wait.
    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The size of all bodies.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The size of the bodies that the database has.
    pub(super) const fn saved_bytes(&self) -> u64 {
        self.saved_bytes
    }

    /// How many slots all records speak of.
    pub(super) const fn slots(&self) -> u64 {
        self.slots
    }
}
