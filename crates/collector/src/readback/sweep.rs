//! Looking again at seconds that left the tail: what nobody could read, and what may have been stored since.

use std::collections::BTreeMap;

use aviary_core::{Second, Timestamp};

use super::reader::Said;

/// The most series that are asked for in one sweep: their answers are kept until they were asked again.
pub(super) const SERIES_MAX: usize = 5_000;

/// The longest piece that is asked for in one sweep, in seconds.
pub(super) const PIECE_SECONDS: u64 = 60;

/// How long after the first answer the second is asked for: what is in carbon's memory is on disk by then, or lost.
pub(super) const AGAIN_US: u64 = 2_000_000;

/// The answers to the first of the two questions of a sweep.
pub(super) struct First {
    pub(super) at: Timestamp,
    pub(super) said: Vec<Said>,
}

/// What two answers agree on: the slots that are there with what they hold, and whether one shows what the other lacks.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Agreed {
    pub(super) there: BTreeMap<Second, f64>,
    pub(super) disputed: Vec<Second>,
    /// The first showed what the second lacks.
    pub(super) is_contradicted: bool,
}

/// What two answers about one series agree on; `None` where either tells nothing of it.
pub(super) fn agreed(first: &Said, second: &Said) -> Option<Agreed> {
    let (Said::Slots(first), Said::Slots(second)) = (first, second) else { return None };
    let first: BTreeMap<Second, f64> = first.iter().copied().collect();
    let second: BTreeMap<Second, f64> = second.iter().copied().collect();
    let mut agreed = Agreed::default();
    for (slot, value) in &second {
        match first.get(slot) {
            Some(before) if before.to_bits() == value.to_bits() => drop(agreed.there.insert(*slot, *value)),
            _ => agreed.disputed.push(*slot),
        }
    }
    let gone = first.keys().filter(|slot| !second.contains_key(slot));
    agreed.disputed.extend(gone);
    agreed.is_contradicted = first.keys().any(|slot| !second.contains_key(slot));
    Some(agreed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_answers_agree_on_what_both_say() {
        let said = |slots: &[(u64, f64)]| {
            Said::Slots(slots.iter().map(|(second, value)| (Second(*second), *value)).collect())
        };
        let (first, second) = (said(&[(1, 1.0), (2, 1.0), (3, 5.0)]), said(&[(1, 1.0), (3, 6.0), (4, 1.0)]));
        let found = agreed(&first, &second).unwrap();
        assert_eq!(found.there, [(Second(1), 1.0)].into());
        assert_eq!(found.disputed, [Second(3), Second(4), Second(2)]);
        assert!(found.is_contradicted);
        assert_eq!(agreed(&said(&[]), &said(&[])), Some(Agreed::default()));
        assert_eq!(agreed(&Said::Absent, &second), None);
        assert_eq!(agreed(&first, &Said::Coarse(60)), None);
    }
}
