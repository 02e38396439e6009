//! Slots as a collector tells them at `/api/v1/slots`.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use aviary_core::{Second, Span};
use serde_json::Value;

use super::aviary::now;

/// How long a report may be under way beyond the time in which it usually arrives.
const UNDER_WAY: Duration = Duration::from_secs(20);

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

/// Those of a whole answer, by the value of `tag`.
#[track_caller]
pub(crate) fn by_tag(answer: &Value, tag: &str) -> BTreeMap<String, Slots> {
    let mut found: BTreeMap<String, Slots> = BTreeMap::new();
    for series in answer["series"].as_array().expect("a list of series") {
        let value = series["tags"][tag].as_str().expect("a tag").to_owned();
        found.entry(value).or_default().extend(slots_of(series));
    }
    found
}

/// The class of each slot of a whole answer, by node and endpoint.
#[track_caller]
pub(crate) fn classes(answer: &Value) -> BTreeMap<(String, String), BTreeMap<Second, String>> {
    let of = |series: &Value| {
        let tag = |tag: &str| series["tags"][tag].as_str().expect("a tag").to_owned();
        let slots = series["slots"].as_array().expect("a list of slots").iter();
        ((tag("node"), tag("endpoint")), slots.map(|slot| (second(slot), class(slot))).collect())
    };
    answer["series"].as_array().expect("a list of series").iter().map(of).collect()
}

fn second(slot: &Value) -> Second {
    Second(slot["second"].as_u64().expect("a second"))
}

fn class(slot: &Value) -> String {
    slot["outcome"].as_str().expect("an outcome").to_owned()
}

fn slot(slot: &Value) -> (Second, Slot) {
    let word = |key: &str| slot[key].as_str().map(|word| format!(" {word}")).unwrap_or_default();
    let outcome = class(slot) + &word("phase") + &word("fault");
    let address = slot["address"].as_str().map(str::to_owned);
    (second(slot), Slot { outcome, address, late: slot["late"].as_bool().unwrap_or(false) })
}

/// Waits until `span` is closed: every slot of it told, and the reports on their way had time to arrive.
pub(crate) fn wait_until_closed(span: Span) {
    while now() < span.until.plus(4) {
        thread::sleep(Duration::from_millis(100));
    }
}

/// What `read` finds of `span` once that is closed, and all of it told, if that comes.
pub(crate) fn closed<T>(span: Span, read: impl Fn() -> BTreeMap<T, Slots>) -> BTreeMap<T, Slots> {
    wait_until_closed(span);
    once_none_is(&["unknown"], UNDER_WAY, read)
}

/// What `read` finds once none of it is one of `outcomes` any more, or when `patience` is over.
pub(crate) fn once_none_is<T>(
    outcomes: &[&str],
    patience: Duration,
    read: impl Fn() -> BTreeMap<T, Slots>,
) -> BTreeMap<T, Slots> {
    let deadline = Instant::now() + patience;
    loop {
        let found = read();
        let is_one = |slot: &Slot| outcomes.contains(&slot.outcome.as_str());
        if Instant::now() >= deadline || !found.values().flat_map(Slots::values).any(is_one) {
            return found;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// Whether it is the outcome of an agent that did not get to it, or not in time, which says nothing of a service.
pub(crate) fn is_starved(outcome: &str) -> bool {
    outcome == "missed" || outcome.starts_with("local ") && outcome.ends_with(" starved")
}

/// Whether it is the outcome of an agent, or of a server, that did not get to it in time, as on a machine busy with other tests.
pub(crate) fn is_starved_or_timed_out(outcome: &str) -> bool {
    is_starved(outcome) || outcome.starts_with("lost ") && outcome.ends_with(" timeout")
}

/// What has another outcome than `expected`, but for the few slots that a machine busy with other tests did not get to.
pub(crate) fn unlike<'a>(
    slots: impl IntoIterator<Item = (&'a Second, &'a Slot)>,
    expected: &str,
) -> Vec<(Second, &'a str)> {
    unlike_but_for_few(slots, expected, is_starved)
}

/// The same, with another notion of what may become of a fifth of them.
pub(crate) fn unlike_but_for_few<'a>(
    slots: impl IntoIterator<Item = (&'a Second, &'a Slot)>,
    expected: &str,
    may_become: impl Fn(&str) -> bool,
) -> Vec<(Second, &'a str)> {
    let mut count = 0;
    let outcomes = slots.into_iter().map(|(second, slot)| (*second, slot.outcome.as_str()));
    let mut others: Vec<_> =
        outcomes.inspect(|_| count += 1).filter(|(_, outcome)| *outcome != expected).collect();
    if others.len() <= count / 5 {
        others.retain(|(_, outcome)| !may_become(outcome));
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
