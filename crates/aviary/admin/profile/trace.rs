//! Which thread runs when: what `/proc/self/task/*/schedstat` says, a hundred times a second.
//!
//! In each hundredth a thread has one slice, as long as it ran; with it goes how long it stood in line for a processor.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::{ProfileError, blocking};

const STEP: Duration = Duration::from_millis(10);

/// The most slices of one trace: of more it ends early.
const SLICES_MAX: usize = 200_000;

/// Nanoseconds that a thread ran, and that it stood in line.
type Spent = (u64, u64);

/// What a thread ran within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    thread: u32,
    from_us: u64,
    ran_us: u64,
    waited_us: u64,
}

/// The trace of `seconds` from now on.
pub(super) async fn trace(seconds: u64) -> Result<Vec<u8>, ProfileError> {
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = steps.tick().await;
    let mut slices = Vec::new();
    let mut before = threads();
    let mut seen: BTreeSet<u32> = before.keys().copied().collect();
    let mut last_us = 0;
    while last_us < seconds * 1_000_000 {
        let now_us = micros(steps.tick().await.duration_since(began));
        let now = threads();
        slices.extend(ran(&before, &now, last_us, now_us));
        seen.extend(now.keys());
        (before, last_us) = (now, now_us);
        if slices.len() >= SLICES_MAX {
            break;
        }
    }
    blocking(move || Ok(written(&seen, &slices))).await
}

fn written(seen: &BTreeSet<u32>, slices: &[Slice]) -> Vec<u8> {
    let process = std::process::id();
    let names = seen.iter().map(|thread| {
        let name = fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
        json!({"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name.trim()}})
    });
    let slices = slices.iter().map(|Slice { thread, from_us, ran_us, waited_us }| {
        json!({"ph": "X", "name": "runs", "pid": process, "tid": thread, "ts": from_us, "dur": ran_us,
            "args": {"in_line_us": waited_us}})
    });
    let events: Vec<String> = names.chain(slices).map(|event| event.to_string()).collect();
    format!(r#"{{"traceEvents":[{}],"displayTimeUnit":"ms"}}"#, events.join(",")).into_bytes()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What each thread has spent since its start.
fn threads() -> BTreeMap<u32, Spent> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(Result::ok);
    let spent = tasks.filter_map(|task| {
        let thread = task.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut words = text.split_whitespace().map(str::parse);
        Some((thread, (words.next()?.ok()?, words.next()?.ok()?)))
    });
    spent.collect()
}

/// Who ran between two looks.
fn ran(before: &BTreeMap<u32, Spent>, now: &BTreeMap<u32, Spent>, from_us: u64, until_us: u64) -> Vec<Slice> {
    let slices = now.iter().filter_map(|(thread, (ran, waited))| {
        let (ran_before, waited_before) = before.get(thread).copied().unwrap_or_default();
        let ran_us = (ran.saturating_sub(ran_before) / 1_000).min(until_us.saturating_sub(from_us));
        let waited_us = waited.saturating_sub(waited_before) / 1_000;
        (ran_us > 0).then_some(Slice { thread: *thread, from_us, ran_us, waited_us })
    });
    slices.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_what_a_thread_ran_within_a_step() {
        let before = BTreeMap::from([(7, (1_000_000, 0)), (8, (5_000, 0))]);
        let now = BTreeMap::from([(7, (3_500_000, 400_000)), (8, (5_000, 0)), (9, (90_000_000, 0))]);
        let slices = ran(&before, &now, 20_000, 30_000);
        let slice = |thread, ran_us, waited_us| Slice { thread, from_us: 20_000, ran_us, waited_us };
        let expected = [slice(7, 2_500, 400), slice(9, 10_000, 0)];
        assert_eq!(slices, expected, "who did not run has none, and none is longer than the step");
    }
}
