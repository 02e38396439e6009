//! Test pages: once whenever their hours come, each receiver is told that nothing is wrong, and that this is over.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{
    Second, Timestamp,
    incident::Id,
    page::{self, Change, Notice, Severity, Urgency},
    silence::Hours,
};

use super::Held;

/// When test pages are sent, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestPages {
    /// Once whenever these begin, or at the first moment in them at which the collector runs.
    pub hours: Hours,
    /// These receivers; all, where none is named.
    pub notify: Vec<String>,
}

impl Held {
    /// Sends test pages where their hours have come, and none were sent in them.
    pub(super) fn test_pages(&mut self, now: Timestamp) {
        let Some(TestPages { hours, notify }) = &self.test_pages else { return };
        let Some(from) = hours.around(now.second()).map(|hours| hours.from) else { return };
        if self.tested == Some(from) {
            return;
        }
        let is_named = |name: &&str| notify.is_empty() || notify.iter().any(|named| named == name);
        let receivers: Vec<String> = self.paging.receivers().filter(is_named).map(str::to_owned).collect();
        for receiver in receivers {
            let notice = notice(&self.name, &format!("test {receiver}"), now.second());
            self.deliver(page::Event::Test(notice, receiver), now);
        }
        self.tested = Some(from);
        self.pending.put_tested(from);
    }
}

/// What the outbox is told of a test for this `cause`.
pub(super) fn notice(collector: &str, cause: &str, now: Second) -> Notice {
    let id = Id::new(collector, cause, now);
    Notice {
        key: id.key(collector),
        id,
        revision: 1,
        reopens: 0,
        change: Change::Opened,
        urgency: Urgency::Information,
        severity: Severity::Info,
        tags: BTreeMap::new(),
        shadow: false,
        held_by: BTreeSet::new(),
    }
}
