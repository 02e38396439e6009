//! Whether the loss of a service is over.

use std::collections::BTreeMap;

use aviary_core::{
    detect::{Tally, Test, WINDOWS, gate::Outage},
    incident::Clearing,
};

use super::groups::{Group, Judged, Key};

/// Loss that goes on is seen by as many slots as this over its share, but for one time in a thousand: `ln 1000`.
const HIDDEN_NATS: f64 = 6.9;

/// And looked for in so many seconds at least.
const GONE_SECONDS: u64 = 10;

/// For how many seconds nothing was lost, if that is long enough for every group of a service.
pub(super) fn cleared(
    judged: &Judged,
    storage: bool,
    clearing: Clearing,
    test: &impl Fn(&Group) -> Test,
    rates: &mut BTreeMap<Key, f64>,
) -> Option<u64> {
    let mut longest = 0;
    for group in &judged.groups {
        let rate =
            *rates.entry(group.key.clone()).or_insert_with(|| group.bank.newest(60).judged as f64 / 60.0);
        if rate <= 0.0 || group.series == 0 {
            continue;
        }
        let reopened = (clearing.at_least / 30).max(1).ilog2();
        // Where series were taken away, what is left is all that can be judged.
        let judged_per_second = rate.min(group.series as f64);
        let outage = Outage { loss: clearing.loss.max(f64::MIN_POSITIVE), judged_per_second, reopened };
        if !judged.views(group, storage).all(|bank| outage.is_clear(&test(group), bank)) {
            return None;
        }
        longest = longest.max(outage.clear_seconds());
    }
    (longest > 0).then_some(longest)
}

/// Whether nothing is lost of any group any more, for as long as a loss that goes on is seen in; it has yet to last.
pub(super) fn is_gone(
    judged: &Judged,
    storage: bool,
    clearing: Clearing,
    test: &impl Fn(&Group) -> Test,
    rates: &BTreeMap<Key, f64>,
) -> bool {
    judged.groups.iter().all(|group| {
        let rate = rates.get(&group.key).copied().unwrap_or_default().min(group.series as f64);
        // From a float the cast saturates, which the bound takes care of.
        let hidden = (HIDDEN_NATS / (rate * clearing.loss)).ceil() as u64;
        let seconds = hidden.clamp(GONE_SECONDS, WINDOWS[WINDOWS.len() - 1]);
        let is_well = |newest: Tally| newest.judged > 0 && newest.loss() <= test(group).acceptable();
        rate <= 0.0 || judged.views(group, storage).all(|bank| is_well(bank.newest(seconds)))
    })
}
