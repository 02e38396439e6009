//! Living with change: configurations, services, credentials and addresses that are others while the agent runs.

mod addresses;
mod credentials;
mod discovery;
mod reload;
mod rollout;
mod services;
mod telling;

use aviary_core::Second;

use crate::support::slots::Slots;

/// No slot was missed at `change`. Elsewhere a machine that is busy may not have got to one.
#[track_caller]
fn none_missed_at(change: Second, slots: &Slots) {
    let mut near = slots.range(change.minus(1)..=change);
    assert!(near.all(|(_, slot)| slot.outcome != "missed"), "at {change}: {slots:#?}");
}
