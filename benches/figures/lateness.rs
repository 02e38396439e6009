//! How late attempts start after they are due, and how late they are given up after their deadline.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use aviary_core::{
    Clock as _,
    histogram::{self, Histogram},
    plan::GRAIN_US,
};
use aviary_probe::SystemClock;

use crate::{
    Plan,
    child::Child,
    collector::Collector,
    fleet::Fleet,
    pace, progress,
    role::{Reading, Role},
    table::{Figure, Table},
};

const SERIES: usize = 2_000;
const SILENT_SERIES: usize = 500;
const START_GOAL_US: u32 = 2_000;
const ABANDON_GOAL_US: u32 = 5_000;

/// Measures both.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let (starts, abandons) = ("lateness of starts", "lateness of abandonment");
    if plan.wants(starts) {
        progress(starts);
        let seconds = plan.pick(8, 2);
        let alone = sleep_for(Duration::from_secs(seconds.div_ceil(3)));
        let (late, beside) =
            observe(false, SERIES, seconds, |before, after| grown(&before.start_late, &after.start_late))?;
        table.push(figure(starts, &late, &beside, START_GOAL_US));
        table.note(format!(
            "{starts}: {SERIES} TCP series against a server that answers, {} attempts; the agent's own count of the time \
             from due to started. The rival is a thread that does nothing but sleep from one grain of {} ms to the next, \
             beside the agent; on the machine alone it is late by p50 {}, p99 {}, at most {}. All times are upper \
             bounds of histogram buckets an eighth wide.",
            late.count(),
            GRAIN_US / 1_000,
            quantile(&alone, 0.5),
            quantile(&alone, 0.99),
            quantile(&alone, 1.0),
        ));
    }
    if plan.wants(abandons) {
        progress(abandons);
        let seconds = plan.pick(5, 2);
        let (late, beside) = observe(true, SILENT_SERIES, seconds, |before, after| {
            grown(&before.abandon_late, &after.abandon_late)
        })?;
        table.push(figure(abandons, &late, &beside, ABANDON_GOAL_US));
        table.note(format!(
            "{abandons}: {SILENT_SERIES} TCP series against a server that accepts and never reads, so that all of them \
             run to their deadline, {} attempts counted; the agent's own count of the time from the deadline to closed. \
             The rival as above.",
            late.count(),
        ));
    }
    Ok(())
}

fn figure(name: &str, late: &Histogram, beside: &Histogram, goal_us: u32) -> Figure {
    let spread = |late: &Histogram| format!("p50 {}, p99 {}", quantile(late, 0.5), quantile(late, 0.99));
    Figure {
        name: name.to_owned(),
        aviary: spread(late),
        rival: format!("{}, only sleeping", spread(beside)),
        ratio: String::new(),
        goal: format!("p99 at most {} ms", goal_us / 1_000),
        met: upper_bound(late, 0.99).is_some_and(|us| us <= goal_us),
    }
}

/// Runs an agent for some seconds, and returns what `take` takes of its readings, with how late a thread was that only
/// slept meanwhile.
fn observe(
    never_reads: bool,
    series: usize,
    seconds: u64,
    take: impl Fn(&Reading, &Reading) -> Histogram,
) -> anyhow::Result<(Histogram, Histogram)> {
    let server = Child::start(&Role::Server { never_reads })?;
    let collector = Collector::start()?;
    let fleet = Fleet {
        series,
        protocols: vec!["tcp".to_owned()],
        ports: server.ready.ports.clone(),
        ca: server.ready.ca.clone(),
        told_apart: false,
    };
    let role = Role::Agent { fleet, collector: collector.url.clone(), data: None, with_the_second: false };
    let mut agent = Child::start(&role)?;
    Child::warm_up();
    // The first attempts that run to their deadline end a second after the first that are answered.
    thread::sleep(Duration::from_secs(1));
    let before = agent.read()?;
    let beside = sleep_for(Duration::from_secs(seconds));
    let after = agent.read()?;
    let late = take(&before, &after);
    anyhow::ensure!(late.count() > 0, "the agent counted nothing: {after:?}");
    Ok((late, beside))
}

/// How late a thread wakes that only sleeps from grain to grain.
fn sleep_for(time: Duration) -> Histogram {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            pace::be_precise();
            let mut late = Histogram::default();
            let mut at = SystemClock.monotonic().plus(GRAIN_US);
            while !stop.load(Ordering::Relaxed) {
                pace::sleep_until(at);
                let now = SystemClock.monotonic();
                late.record(u32::try_from(now.since(at)).unwrap_or(u32::MAX));
                at = at.plus(GRAIN_US * (1 + now.since(at) / GRAIN_US));
            }
            late
        });
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        sleeper.join().unwrap_or_default()
    })
}

/// What was counted between two readings.
pub(crate) fn grown(before: &[(usize, u64)], after: &[(usize, u64)]) -> Histogram {
    let mut grown = Histogram::default();
    for (bucket, count) in after {
        let earlier = before.iter().find(|(known, _)| known == bucket).map_or(0, |(_, count)| *count);
        grown.add(*bucket, count - earlier);
    }
    grown
}

/// What that share of attempts was not later than, in microseconds.
pub(crate) fn upper_bound(late: &Histogram, quantile: f64) -> Option<u32> {
    let bucket = histogram::bucket(late.quantile(quantile)?);
    Some(if bucket + 1 < histogram::BUCKETS { histogram::lower_bound(bucket + 1) } else { u32::MAX })
}

/// The same, in words.
pub(crate) fn quantile(late: &Histogram, quantile: f64) -> String {
    match upper_bound(late, quantile) {
        Some(u32::MAX) => "over 2 s".to_owned(),
        Some(us) => format!("{:.2} ms", f64::from(us) / 1_000.0),
        None => "nothing".to_owned(),
    }
}
