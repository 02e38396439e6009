//! An agent for minutes at a stretch: whether anything is missed, late, or grows.

use std::{collections::BTreeMap, time::Duration};

use aviary_core::{Clock as _, Timestamp};
use aviary_probe::SystemClock;

use crate::{
    child::Child,
    collector::LEDGER_SECONDS,
    fleet::{ADDRESSES, Fleet},
    lateness::{grown, quantile, upper_bound},
    machine, pace,
    process::{self, Memory},
    progress,
    role::{Reading, Role},
    table::{Figure, Table, median},
};

/// Of five series four are TCP and one is TLS.
const PROTOCOLS: [&str; 5] = ["tcp", "tcp", "tcp", "tcp", "tls"];
const SERIES: usize = 2_500;
const LATE_GOAL_US: u32 = 2_000;
const BYTES_GOAL: f64 = 10.0;
/// What the last minute may have more than the second, as a share.
const GROWTH_GOAL: f64 = 0.02;
const PROGRESS_SECONDS: u64 = 10;

/// Memory and open files of the agent, second by second.
#[derive(Default)]
struct Sizes {
    resident_kib: Vec<f64>,
    files: Vec<f64>,
}

/// The minute of `values` that ends after so many minutes.
fn minute(values: &[f64], ends: u64) -> impl Iterator<Item = f64> {
    let until = (ends * 60) as usize;
    values[until - 60..until].iter().copied()
}

/// Processor time of everybody who takes part, in nanoseconds, and of the whole machine.
#[derive(Clone, Copy)]
struct Busy {
    agent: u64,
    others: u64,
    machine: u64,
}

/// Everything that takes part.
struct Stage {
    server: Child,
    collector: Child,
    agent: Child,
}

impl Stage {
    fn busy(&mut self) -> anyhow::Result<Busy> {
        let others = self.server.read()?.cpu_ns + self.collector.read()?.cpu_ns;
        let ourselves = process::cpu_ns(std::process::id())?;
        Ok(Busy { agent: self.agent.read()?.cpu_ns, others: others + ourselves, machine: machine::busy_ns() })
    }
}

/// Runs an agent for so many minutes.
pub(crate) fn measure(minutes: u64, table: &mut Table) -> anyhow::Result<()> {
    // Beside this program, because what is temporary may be in memory.
    let built = std::env::current_exe()?;
    let data = tempfile::tempdir_in(built.parent().unwrap_or(&built))?;
    let server = Child::start(&Role::Server { never_reads: false })?;
    let collector = Child::start(&Role::Collector)?;
    let role = Role::Agent {
        fleet: Fleet {
            series: SERIES,
            protocols: PROTOCOLS.map(str::to_owned).to_vec(),
            ports: server.ready.ports.clone(),
            ca: server.ready.ca.clone(),
            told_apart: true,
        },
        collector: collector.ready.url.clone(),
        data: Some(data.path().to_owned()),
        with_the_second: false,
    };
    let agent = Child::start(&role)?;
    let mut stage = Stage { server, collector, agent };
    Child::warm_up();

    let began = SystemClock.wall();
    let started = SystemClock.monotonic();
    let (first, received) = (stage.agent.read()?, stage.collector.read()?.received);
    let busy_before = stage.busy()?;
    let mut sizes = Sizes::default();
    let mut earlier = stage.agent.read()?;
    let seconds = minutes * 60;
    for second in 1..=seconds {
        // At another phase of each second: at one and the same, the same series would be under way each time.
        pace::sleep_until(started.plus(second * 1_000_000 + second * 37_000 % 1_000_000));
        sizes.resident_kib.push(Memory::of(stage.agent.id())?.resident as f64);
        sizes.files.push(process::open_files(stage.agent.id())? as f64);
        if second % PROGRESS_SECONDS == 0 {
            let now = stage.agent.read()?;
            tell(second, seconds, &now, &earlier, &sizes);
            earlier = now;
        }
    }
    let busy_after = stage.busy()?;
    let last = stage.agent.read()?;
    let received = stage.collector.read()?.received - received;
    // What the agent closed last is in the report of the next second, and closed by the collector after some more.
    std::thread::sleep(Duration::from_secs(1));
    let ledger = stage.collector.read()?.outcomes;
    let told = last.done - first.done;
    anyhow::ensure!(told > 0, "the agent closed no slot: {last:?}");

    table.push(slots(&last));
    table.push(late(&first, &last));
    let resident = |ends| median(minute(&sizes.resident_kib, ends));
    table.push(grows("soak, memory", resident, minutes, |kib| format!("{:.2} MiB", kib / 1_024.0)));
    // What is open between two attempts; those under way come and go.
    let files = |ends| minute(&sizes.files, ends).fold(f64::INFINITY, f64::min);
    table.push(grows("soak, open files", files, minutes, |files| format!("{files:.0}")));
    let agent_ns = (busy_after.agent - busy_before.agent) as f64;
    table.push(Figure::told(
        "soak, cpu",
        format!(
            "{:.1} % of a core, {:.1} us a slot",
            agent_ns / (seconds as f64 * 1e9) * 100.0,
            agent_ns / 1e3 / told as f64
        ),
    ));
    let bytes = received as f64 / told as f64;
    table.push(Figure {
        goal: format!("at most {BYTES_GOAL:.0} B"),
        met: bytes <= BYTES_GOAL,
        ..Figure::told("soak, report bytes", format!("{bytes:.2} B a slot, with HTTP"))
    });
    table.push(held(&ledger, seconds)?);
    table.note(note(began, minutes, busy_before, busy_after));
    Ok(())
}

fn tell(second: u64, seconds: u64, now: &Reading, earlier: &Reading, sizes: &Sizes) {
    let late = grown(&earlier.start_late, &now.start_late);
    let newest = |values: &[f64]| values.last().copied().unwrap_or_default();
    progress(&format!(
        "soak, {second} s of {seconds}: {}; late by p50 {}, p99 {}; {:.2} MiB, {:.0} files; {:.0} us of cpu a slot",
        counts(&now.outcomes),
        quantile(&late, 0.5),
        quantile(&late, 0.99),
        newest(&sizes.resident_kib) / 1_024.0,
        newest(&sizes.files),
        (now.cpu_ns - earlier.cpu_ns) as f64 / 1e3 / (now.done - earlier.done).max(1) as f64,
    ));
}

fn counts(outcomes: &BTreeMap<String, u64>) -> String {
    let counts = outcomes.iter().filter(|(_, count)| **count > 0);
    counts.map(|(outcome, count)| format!("{count} {outcome}")).collect::<Vec<_>>().join(", ")
}

fn slots(last: &Reading) -> Figure {
    let is_ours = |outcome: &String| outcome.starts_with("missed") || outcome.starts_with("local");
    Figure {
        goal: "none missed, none local".to_owned(),
        met: !last.outcomes.keys().any(is_ours),
        ..Figure::told("soak, slots", counts(&last.outcomes))
    }
}

fn late(first: &Reading, last: &Reading) -> Figure {
    let late = grown(&first.start_late, &last.start_late);
    let spread = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0)];
    let spread = spread.map(|(name, share)| format!("{name} {}", quantile(&late, share))).join(", ");
    Figure {
        goal: format!("p99 at most {} ms", LATE_GOAL_US / 1_000),
        met: upper_bound(&late, 0.99).is_some_and(|us| us <= LATE_GOAL_US),
        ..Figure::told("soak, lateness of starts", spread)
    }
}

/// What the last minute has, beside the second: the first is for warming up.
fn grows(name: &str, of_minute: impl Fn(u64) -> f64, minutes: u64, show: impl Fn(f64) -> String) -> Figure {
    let last = of_minute(minutes);
    if minutes < 3 {
        return Figure::told(name, format!("{} in the last minute; three minutes show growth", show(last)));
    }
    let second = of_minute(2);
    let growth = last / second - 1.0;
    Figure {
        ratio: format!("{:+.2} %", growth * 100.0),
        goal: format!("at most {:.0} % more", GROWTH_GOAL * 100.0),
        met: growth <= GROWTH_GOAL,
        ..Figure::told(name, format!("{}, then {}", show(second), show(last)))
    }
}

fn held(ledger: &BTreeMap<String, u64>, seconds: u64) -> anyhow::Result<Figure> {
    let count = |class: &str| ledger.get(class).copied().unwrap_or_default();
    // A second is closed a few after its end.
    let least = (seconds.min(LEDGER_SECONDS) - 5) * SERIES as u64;
    anyhow::ensure!(count("scheduled") >= least, "the collector does not have {least} slots: {ledger:?}");
    Ok(Figure {
        goal: "none unknown".to_owned(),
        met: count("unknown") == 0,
        ..Figure::told("soak, as the collector has it", counts(ledger))
    })
}

fn note(began: Timestamp, minutes: u64, before: Busy, after: Busy) -> String {
    let whole = minutes as f64 * 60.0 * 1e9 * machine::cores() as f64;
    let share = |ns: u64| ns as f64 / whole * 100.0;
    let (agent, others) = (after.agent - before.agent, after.others - before.others);
    let strangers = (after.machine - before.machine).saturating_sub(agent + others);
    let tls = PROTOCOLS.iter().filter(|protocol| **protocol == "tls").count() * SERIES / PROTOCOLS.len();
    format!(
        "soak: from second {} for {minutes} min; {} TCP and {tls} TLS series over {ADDRESSES} loopback addresses, the \
         agent with its spool on a disk, the sink and a collector in processes of their own. Slots are all since the \
         agent's start; lateness is the time from due to started, by the agent's own count, in upper bounds of buckets an \
         eighth wide. Memory is what is resident, the median of a minute of readings a second apart, of the second minute \
         and the last; open files are the fewest of each of those minutes, which leaves out what is under way. Report bytes \
         are what the collector received, with the heads of the requests. What the collector has are the newest ten minutes or less. Of the machine's time, the agent took {:.1} %, \
         the other processes of this benchmark {:.1} %, and strangers {:.1} %, the kernel's own work for all of them \
         included: what disturbs the agent shows in its lateness.",
        began.second(),
        SERIES - tls,
        share(agent),
        share(others),
        share(strangers),
    )
}
