//! Slots as a collector tells them at `/api/v1/slots`.

use std::collections::BTreeMap;

use aviary_core::{Second, Span};
use serde_json::Value;

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The class, with phase and fault where it has them: `lost connect refused`.
    pub(crate) outcome: String,
    /// Where a lost slot went.
    pub(crate) address: Option<String>,
    /// Found stored although it was lost.
    pub(crate) late: bool,
}

/// Slots by second.
pub(crate) type Slots = BTreeMap<Second, Slot>;

/// Those of `series`, an element of the answer's `series`.
#[track_caller]
pub(crate) fn slots_of(series: &Value) -> Slots {
    series["slots"].as_array().expect("a list of slots").iter().map(slot).collect()
}

fn slot(slot: &Value) -> (Second, Slot) {
    let word = |key: &str| slot[key].as_str().map(|word| format!(" {word}")).unwrap_or_default();
    let outcome = slot["outcome"].as_str().expect("an outcome").to_owned() + &word("phase") + &word("fault");
    let address = slot["address"].as_str().map(str::to_owned);
    let second = Second(slot["second"].as_u64().expect("a second"));
    (second, Slot { outcome, address, late: slot["late"].as_bool().unwrap_or(false) })
}

/// Whether it is the outcome of an agent that did not get to it, which says nothing of a service.
pub(crate) fn is_starved(outcome: &str) -> bool {
    outcome.starts_with("local ") && outcome.ends_with(" starved")
}

/// What has another outcome than `expected`, but for the few slots that a machine busy with other tests did not get to.
pub(crate) fn unlike<'a>(
    slots: impl IntoIterator<Item = (&'a Second, &'a Slot)>,
    expected: &str,
) -> Vec<(Second, &'a str)> {
    let mut count = 0;
    let outcomes = slots.into_iter().map(|(second, slot)| (*second, slot.outcome.as_str()));
    let mut others: Vec<_> =
        outcomes.inspect(|_| count += 1).filter(|(_, outcome)| *outcome != expected).collect();
    if others.len() <= count / 5 {
        others.retain(|(_, outcome)| !is_starved(outcome));
    }
    others
}

/// The first and the last second of slots that were all delivered, with no second left out between them; but for the few that
/// a machine busy with other tests did not get to.
#[track_caller]
pub(crate) fn all_delivered(slots: &Slots) -> (Second, Second) {
    assert_eq!(unlike(slots, "delivered"), []);
    let (first, last) = slots.keys().next().zip(slots.keys().next_back()).expect("there are slots");
    assert_eq!(slots.len() as u64, Span::new(*first, last.plus(1)).seconds(), "{:?}", slots.keys());
    (*first, *last)
}
