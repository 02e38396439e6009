//! Which series storage may speak of, and since when it has.

mod kept;

use std::collections::{HashMap, HashSet};

use aviary_core::{Second, SeriesId};

/// The names that series carry to storage, and the first second that storage has shown of each.
///
/// A series that storage never showed, or whose name is not its own, is none of which storage can say that it lacks a
/// second.
#[derive(Default)]
pub(crate) struct StoredSeries {
    owners: HashMap<Box<str>, SeriesId>,
    names: HashMap<SeriesId, Box<str>>,
    /// Names that two series carry: what is stored under them says nothing of either.
    shared: HashSet<Box<str>>,
    first: HashMap<SeriesId, Second>,
    /// Those whose storage is read back: what it lacks is for whoever reads to say.
    read_back: HashSet<SeriesId>,
}

impl StoredSeries {
    /// From now on, the datapoints of `series` are called `name`.
    pub(crate) fn carry(&mut self, series: SeriesId, name: &str) {
        if self.names.get(&series).is_some_and(|known| **known == *name) {
            return;
        }
        if let Some(former) = self.names.insert(series, name.into()) {
            self.owners.remove(&former);
            self.first.remove(&series);
        }
        match self.owners.insert(name.into(), series) {
            Some(other) if other != series => {
                tracing::warn!(
                    name,
                    "Two series carry one Graphite name, so storage cannot tell them apart; rename a node."
                );
                self.owners.remove(name);
                self.first.remove(&other);
                self.shared.insert(name.into());
            }
            _ if self.shared.contains(name) => {
                self.owners.remove(name);
            }
            _ => {}
        }
    }

    /// Whose name it is.
    pub(crate) fn owner(&self, name: &str) -> Option<SeriesId> {
        self.owners.get(name).copied()
    }

    /// What the datapoints of `series` are called, if no other's are.
    pub(crate) fn name(&self, series: SeriesId) -> Option<&str> {
        self.names.get(&series).map(|name| &**name).filter(|name| self.owner(name) == Some(series))
    }

    /// The series whose names others carry too, each with its name.
    pub(crate) fn shared(&self) -> impl Iterator<Item = (SeriesId, &str)> {
        let named = self.names.iter().filter(|_| !self.shared.is_empty());
        let named = named.map(|(series, name)| (*series, &**name));
        named.filter(|(_, name)| self.shared.contains(*name))
    }

    /// From now on the storage of `series` is read back, or is not.
    pub(crate) fn read_back(&mut self, series: SeriesId, is_read_back: bool) {
        if is_read_back {
            self.read_back.insert(series);
        } else {
            self.read_back.remove(&series);
        }
    }

    /// Storage has shown `second` of `series`.
    pub(crate) fn shown(&mut self, series: SeriesId, second: Second) {
        self.first.entry(series).and_modify(|first| *first = second.min(*first)).or_insert(second);
    }

    /// The series whose storage is known to tell us by itself, each with the first second that it told.
    pub(crate) fn proven(&self) -> impl Iterator<Item = (SeriesId, Second)> {
        let told = self.first.iter().filter(|(series, _)| !self.read_back.contains(series));
        told.map(|(series, first)| (*series, *first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_starts_anew_and_a_shared_one_says_nothing() {
        let mut stored = StoredSeries::default();
        let (one, two) = (SeriesId(1), SeriesId(2));
        stored.carry(one, "canary.a");
        stored.shown(one, Second(5));
        stored.carry(one, "canary.a");
        assert_eq!(stored.proven().collect::<Vec<_>>(), [(one, Second(5))]);
        stored.carry(one, "canary.b");
        assert_eq!((stored.owner("canary.a"), stored.owner("canary.b")), (None, Some(one)));
        assert_eq!(stored.proven().count(), 0, "nothing was shown under the new name yet");
        stored.shown(one, Second(9));
        stored.carry(two, "canary.b");
        assert_eq!((stored.owner("canary.b"), stored.proven().count()), (None, 0));
    }
}
