//! Who waits to be told: what shows that the outbox drains.

use std::collections::BTreeMap;

use aviary_core::{
    Timestamp,
    incident::Id,
    page::{Belief, Case, Message, Outbox, Paging, Urgency},
};

/// By receiver since when the oldest incident that it is to know of, or to know the end of, is not taken; those that wait
/// for nothing are left out. What is only news of an incident that it knows does not count.
pub fn oldest_waiting(outbox: &Outbox, paging: &Paging, now: Timestamp) -> BTreeMap<String, Timestamp> {
    let mut oldest: BTreeMap<String, Timestamp> = BTreeMap::new();
    for (_, case) in outbox.cases().filter(|(_, case)| !case.is_test) {
        let may_wait = case.notice.urgency < Urgency::Page && case.over.is_none();
        if may_wait && paging.is_quiet(&case.notice, now.second()) {
            continue;
        }
        let since = case.over.unwrap_or(case.opened);
        for (name, delivery) in &case.deliveries {
            let Some(receiver) = paging.receiver(name) else { continue };
            let is_known = delivery.belief == Belief::Closed;
            match delivery.next(&case.notice, receiver.wakes, now) {
                None | Some(Message::Updated) => continue,
                // It is only said again.
                Some(Message::Resolved) if is_known => continue,
                Some(_) => {}
            }
            let held = oldest.entry(name.clone()).or_insert(since);
            *held = since.min(*held);
        }
    }
    oldest
}

/// Since when the oldest page waits that no receiver at all has taken: nobody was woken. One receiver that is dead while
/// another takes it is no reason for alarm, and shown by [`oldest_waiting`].
pub fn untold_since(outbox: &Outbox) -> Option<Timestamp> {
    let is_untold = |(_, case): &(&Id, &Case)| {
        case.notice.urgency == Urgency::Page
            && !case.is_test
            && case.over.is_none()
            && !case.deliveries.is_empty()
            && case.deliveries.values().all(|delivery| delivery.belief != Belief::Open)
    };
    outbox.cases().filter(is_untold).map(|(_, case)| case.opened).min()
}
