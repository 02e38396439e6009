//! What a report costs in bytes, as real agents make them in the weather of a script.

mod recorder;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use aviary_agent::Agent;
use aviary_core::Clock as _;
use aviary_probe::{
    SystemClock,
    scripted::{PausedClock, Scripted, Weather},
};
use tokio::runtime::Builder;

use self::recorder::Tally;
use crate::{
    Plan, agent,
    child::Child,
    fleet::{ADDRESSES, Fleet},
    progress,
    table::{Figure, Table},
};

const SIZES: [usize; 3] = [500, 2_000, 10_000];
const GOAL_BYTES: f64 = 10.0;

/// A name, and how many of a hundred slots are lost.
const WEATHERS: [(&str, u64); 3] = [("delivered", 0), ("1 % lost", 1), ("all lost", 100)];

/// Measures every size that was asked for.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let name = |size: usize| format!("report bytes, {size} series");
    let wanted: Vec<_> = SIZES.into_iter().filter(|size| plan.wants(&name(*size))).collect();
    let seconds = plan.pick(5, 2);
    let mut rosters = Vec::new();
    for size in &wanted {
        progress(&name(*size));
        for ((weather, _), tally) in WEATHERS.iter().zip(observe(*size, seconds)?) {
            let per_slot = |bytes: u64| bytes as f64 / tally.slots as f64;
            table.push(Figure {
                name: format!("{}, {weather}", name(*size)),
                aviary: format!("{:.2} B a slot", per_slot(tally.sent)),
                rival: format!("{:.2} B uncompressed", per_slot(tally.plain)),
                ratio: format!("{:.0} reports/s", tally.reports as f64 / seconds as f64),
                goal: format!("at most {GOAL_BYTES:.0} B"),
                met: per_slot(tally.sent) <= GOAL_BYTES,
            });
            if tally.roster > 0 && *weather == WEATHERS[0].0 {
                rosters.push(format!("{:.1} B for each of {size}", tally.roster as f64 / *size as f64));
            }
        }
    }
    if !wanted.is_empty() {
        table.note(format!(
            "report bytes: bodies of reports to a collector that only counts, over {seconds} s, divided by the slots they \
             tell; heads of requests aside. Agents as `aviary run` puts them together, on a scripted network: what is \
             delivered is confirmed after 5 to 100 ms, what is lost is refused by one of {ADDRESSES} addresses, which the \
             report names, and leaves at once, so that losses make many small reports. Bodies from 4 KiB up are compressed. \
             The roster, told once, is not counted: {}.",
            rosters.join(", ")
        ));
    }
    Ok(())
}

/// Runs an agent of `size` series in each weather, all at once, for so many seconds.
fn observe(size: usize, seconds: u64) -> anyhow::Result<Vec<Tally>> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _entered = runtime.enter();
    let fleet = Fleet {
        series: size,
        protocols: vec!["tcp".to_owned()],
        ports: BTreeMap::from([("tcp".to_owned(), 2_003)]),
        ca: String::new(),
        told_apart: false,
    };
    let mut agents = Vec::new();
    for (_, lost) in WEATHERS {
        let (url, tally) = runtime.block_on(recorder::start())?;
        let options = agent::options(&fleet, url, None)?;
        // Nothing pauses time here, so that the clock of the network is as good as the system's.
        let network = Scripted::new(PausedClock::starting_at(SystemClock.wall()), weather(lost));
        agents.push((Agent::start(options, network, SystemClock)?, tally));
    }
    Child::warm_up();
    // The first report of all slots of a second.
    thread::sleep(Duration::from_millis(1_500));
    let before: Vec<_> = agents.iter().map(|(_, tally)| read(tally)).collect();
    thread::sleep(Duration::from_secs(seconds));
    let after: Vec<_> = agents.iter().map(|(_, tally)| read(tally)).collect();
    let skipped: u64 = agents.iter().map(|(agent, _)| agent.stats().skipped).sum();
    anyhow::ensure!(skipped == 0, "{skipped} slots were skipped: this machine is too busy");
    runtime.block_on(async {
        for (agent, _) in agents {
            agent.stop().await;
        }
    });
    let grown = before.iter().zip(after).map(|(before, after)| {
        let slots = after.slots - before.slots;
        anyhow::ensure!(
            slots * 2 > seconds * size as u64,
            "of {seconds} s and {size} series {slots} slots were told"
        );
        Ok(Tally {
            reports: after.reports - before.reports,
            slots,
            sent: after.sent - before.sent,
            plain: after.plain - before.plain,
            roster: after.roster,
        })
    });
    grown.collect()
}

fn read(tally: &Arc<Mutex<Tally>>) -> Tally {
    *tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Weather in which so many of a hundred attempts are refused, and the others are confirmed sooner or later.
fn weather<T>(lost: u64) -> impl Fn(T, aviary_core::Timestamp) -> Weather + Send + Sync + 'static {
    let attempts = AtomicU64::new(0);
    move |_, _| {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed);
        let drawn = attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        if drawn % 100 < lost {
            Weather::Refused
        } else {
            Weather::Clear(Duration::from_micros(5_000 + (drawn >> 8) % 95_000))
        }
    }
}
