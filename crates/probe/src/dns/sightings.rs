//! The addresses at which names are seen, and what changes of them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use aviary_core::Second;

use crate::network::Family;

/// An address that this many seconds' answers in turn have left out is gone. Name servers that know more addresses than
/// they tell at once give each its turn well within it.
const GONE_AFTER: u64 = 60;

/// Of a name that has more addresses, those seen last are kept.
const ADDRESSES_MAX: usize = 64;

/// Changes that nobody took are dropped past this number, oldest first.
const CHANGES_MAX: usize = 1_024;

/// Names that were not found for so many seconds are forgotten, and those past this number are not kept at all: an agent
/// has at most 10,000 series.
const FORGOTTEN_AFTER: u64 = 600;
const NAMES_MAX: usize = 3 * 10_000;

/// A change of the addresses at which a name is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressChange {
    /// The name, without a dot at its end.
    pub host: String,
    /// Which of its addresses were asked for.
    pub family: Family,
    /// The address that came or went.
    pub address: IpAddr,
    /// Whether it came.
    pub added: bool,
    /// The second whose answer showed it.
    pub at: Second,
}

/// Where names were seen of late.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    names: HashMap<Arc<str>, BTreeMap<Family, Seen>>,
    changes: VecDeque<AddressChange>,
    dropped: u64,
    /// When names were last looked through for those to forget.
    tidied: Second,
}

/// Where a name was seen of late.
#[derive(Debug)]
struct Seen {
    /// The second of the last answer.
    at: Second,
    /// How many seconds had an answer.
    answers: u64,
    /// The addresses, with the number of the answer that last had each.
    addresses: BTreeMap<IpAddr, u64>,
}

impl Sightings {
    /// `name` was found at `found` in the second `at`.
    pub(crate) fn saw(&mut self, name: &str, family: Family, found: &[IpAddr], at: Second) {
        self.tidy(at);
        if !self.names.contains_key(name) {
            if self.names.len() >= NAMES_MAX {
                return;
            }
            self.names.insert(name.into(), BTreeMap::new());
        }
        let Some(families) = self.names.get_mut(name) else { return };
        let mut note = |address, added| {
            if self.changes.len() == CHANGES_MAX {
                self.changes.pop_front();
                self.dropped += 1;
            }
            self.changes.push_back(AddressChange { host: name.to_owned(), family, address, added, at });
        };
        let found = found.iter().copied().take(ADDRESSES_MAX);
        let Some(seen) = families.get_mut(&family) else {
            // Where it was from the first is no change.
            let addresses = found.map(|address| (address, 0)).collect();
            families.insert(family, Seen { at, answers: 0, addresses });
            return;
        };
        if seen.at != at {
            seen.at = at;
            seen.answers += 1;
        }
        for address in found {
            if seen.addresses.insert(address, seen.answers).is_none() {
                note(address, true);
            }
        }
        let answers = seen.answers;
        let mut gone: Vec<_> = seen
            .addresses
            .iter()
            .filter(|(_, last)| answers - **last >= GONE_AFTER)
            .map(|(gone, _)| *gone)
            .collect();
        let left = seen.addresses.len() - gone.len();
        if left > ADDRESSES_MAX {
            let mut oldest: Vec<_> = seen.addresses.iter().map(|(address, last)| (*last, *address)).collect();
            oldest.sort_unstable();
            gone =
                oldest.into_iter().take(seen.addresses.len() - ADDRESSES_MAX).map(|(_, gone)| gone).collect();
        }
        for address in gone {
            seen.addresses.remove(&address);
            note(address, false);
        }
    }

    /// The addresses of `name`, sorted; `None` if it has not been found of late.
    pub(crate) fn addresses(&self, name: &str, family: Family) -> Option<Vec<IpAddr>> {
        Some(self.names.get(name)?.get(&family)?.addresses.keys().copied().collect())
    }

    /// The changes since this was asked last.
    pub(crate) fn take_changes(&mut self) -> Vec<AddressChange> {
        self.changes.drain(..).collect()
    }

    /// How many changes were dropped.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets names that are no longer asked for. One that is merely not found keeps its addresses for a while.
    fn tidy(&mut self, now: Second) {
        if now.0.abs_diff(self.tidied.0) < FORGOTTEN_AFTER {
            return;
        }
        self.tidied = now;
        self.names.retain(|_, families| {
            families.retain(|_, seen| now.0.abs_diff(seen.at.0) < FORGOTTEN_AFTER);
            !families.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(hosts: impl IntoIterator<Item = u8>) -> Vec<IpAddr> {
        hosts.into_iter().map(|host| IpAddr::from([192, 0, 2, host])).collect()
    }

    fn changes(sightings: &mut Sightings) -> Vec<(u8, bool, u64)> {
        let last_byte = |address| match address {
            IpAddr::V4(address) => u8::try_from(u32::from(address) & 0xff).unwrap(),
            IpAddr::V6(_) => 0,
        };
        let changes = sightings.take_changes().into_iter();
        changes.map(|change| (last_byte(change.address), change.added, change.at.0)).collect()
    }

    #[test]
    fn an_address_comes_at_once_and_goes_after_a_minute_of_answers() {
        let mut sightings = Sightings::default();
        assert_eq!(sightings.addresses("a.test", Family::Any), None);
        let see = |sightings: &mut Sightings, hosts: &[u8], at| {
            sightings.saw("a.test", Family::Any, &addresses(hosts.iter().copied()), Second(at));
        };
        see(&mut sightings, &[2, 1], 100);
        assert_eq!(changes(&mut sightings), [], "where it was from the first");
        assert_eq!(sightings.addresses("a.test", Family::Any), Some(addresses([1, 2])));
        see(&mut sightings, &[1, 2, 3], 101);
        assert_eq!(changes(&mut sightings), [(3, true, 101)]);
        (102..161).for_each(|at| see(&mut sightings, &[1, 2], at));
        // An hour without an answer, and a second with many, tell nothing of it.
        (0..100).for_each(|_| see(&mut sightings, &[1, 2], 160));
        assert_eq!(changes(&mut sightings), []);
        see(&mut sightings, &[1, 2], 161 + 500);
        assert_eq!(changes(&mut sightings), [(3, false, 661)]);
        assert_eq!(sightings.addresses("a.test", Family::Any), Some(addresses([1, 2])));
    }

    #[test]
    fn answers_that_take_turns_change_nothing() {
        let mut sightings = Sightings::default();
        for at in 0..300 {
            // Two of eight at a time.
            let turn = u8::try_from(at % 4 * 2).unwrap();
            sightings.saw("a.test", Family::Ipv4, &addresses([turn, turn + 1]), Second(1_000 + at));
        }
        let seen = changes(&mut sightings);
        assert_eq!(seen.len(), 6, "each but the first two came once: {seen:?}");
        assert!(seen.iter().all(|(_, added, at)| *added && *at < 1_004), "{seen:?}");
        assert_eq!(sightings.addresses("a.test", Family::Ipv4), Some(addresses(0..8)));
        assert_eq!(sightings.addresses("a.test", Family::Any), None, "which was not asked for");
    }

    #[test]
    fn nothing_grows_without_a_bound() {
        let mut sightings = Sightings::default();
        for at in 0..2_000_u32 {
            let address = IpAddr::from((0xc633_6400 + at).to_be_bytes());
            sightings.saw("liar.test", Family::Any, &[address], Second(at.into()));
        }
        assert!(sightings.addresses("liar.test", Family::Any).unwrap().len() <= ADDRESSES_MAX);
        let dropped = sightings.dropped();
        let taken = sightings.take_changes();
        assert_eq!(taken.len(), CHANGES_MAX);
        assert_eq!(taken.last().unwrap().at, Second(1_999), "the newest are kept");
        assert!(dropped > 0);

        for number in 0..2 * NAMES_MAX {
            sightings.saw(&format!("{number}.test"), Family::Any, &addresses([1]), Second(2_000));
        }
        assert_eq!(sightings.names.len(), NAMES_MAX);
        sightings.saw("later.test", Family::Any, &addresses([1]), Second(2_000 + 2 * FORGOTTEN_AFTER));
        assert_eq!(sightings.names.len(), 1);
    }
}
