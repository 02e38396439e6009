//! A collector at its full size, told each second by a hundred agents: what it costs to keep it.

use std::time::Duration;

use aviary_core::{Clock as _, Second};
use aviary_probe::SystemClock;

use crate::{
    Plan,
    child::Child,
    durable::{AGENTS, Connection, SERIES, report},
    pace, progress,
    role::Role,
    table::{Figure, Table},
};

const NAME: &str = "live, 100000 series at one a second";
const CPU_GOAL: f64 = 15.0;
const RESIDENT_GOAL_MIB: f64 = 250.0;

/// Seconds that are told at once before any counts: so many that the live window is full, and minutes leave it.
const BACKLOG: u64 = 870;
const AT_ONCE: u64 = 30;
/// Seconds that are told one by one before they count.
const BEFORE: u64 = 10;

/// Measures what was asked for.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    if !plan.wants(NAME) {
        return Ok(());
    }
    progress(NAME);
    // Beside this program, because what is temporary may be in memory.
    let built = std::env::current_exe()?;
    let data = tempfile::tempdir_in(built.parent().unwrap_or(&built))?;
    let mut collector = Child::start(&Role::Collector { data: Some(data.path().to_owned()) })?;
    let address = collector.ready.url.trim_start_matches("http://").parse()?;
    let mut connection = Connection::open(address)?;
    while connection.ask("GET", "/readyz", &[])? != 200 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut tell = |agent: u64, sequence: u64, from: Second, seconds: u64| {
        let status =
            connection.ask("POST", "/api/v1/reports", &report(agent, sequence, from, seconds).encode())?;
        anyhow::ensure!(status == 200, "a report was answered {status}");
        Ok(())
    };
    let backlog = SystemClock.wall().second().minus(BACKLOG);
    let mut sequence = 0;
    for from in (0..BACKLOG).step_by(AT_ONCE as usize) {
        for agent in 0..AGENTS {
            tell(agent, sequence, backlog.plus(from), AT_ONCE)?;
        }
        sequence += 1;
    }
    // A checkpoint is made each minute, and a minute leaves the live window.
    let seconds = plan.pick(180, 30);
    let started = SystemClock.monotonic();
    let began = SystemClock.wall().second();
    let mut before = 0;
    for second in 0..BEFORE + seconds {
        if second == BEFORE {
            before = collector.read()?.cpu_ns;
        }
        for agent in 0..AGENTS {
            // As agents do: each at a time of its own within the second.
            pace::sleep_until(started.plus(second * 1_000_000 + agent * 1_000_000 / AGENTS));
            tell(agent, sequence + second, began.plus(second).minus(1), 1)?;
        }
    }
    let reading = collector.read_with_memory()?;
    let cpu = (reading.cpu_ns - before) as f64 / (seconds as f64 * 1e9) * 100.0;
    let resident = reading.memory.resident as f64 / 1_024.0;
    table.push(Figure {
        name: NAME.to_owned(),
        aviary: format!("{cpu:.1} % of a core"),
        rival: String::new(),
        ratio: String::new(),
        goal: format!("at most {CPU_GOAL:.0} %"),
        met: cpu <= CPU_GOAL,
    });
    table.push(Figure {
        name: "live, resident".to_owned(),
        aviary: format!("{resident:.0} MiB"),
        rival: String::new(),
        ratio: String::new(),
        goal: format!("at most {RESIDENT_GOAL_MIB:.0} MiB"),
        met: resident <= RESIDENT_GOAL_MIB,
    });
    table.note(format!(
        "live: {AGENTS} agents of {SERIES} series each, a full live window, and then a report of each agent each second for {seconds} s over HTTP to a \
         collector of its own process with its journal, checkpoints and history on this disk, judged each second; one slot \
         of a thousand lost. All CPU of that process; what is resident at the end, shared files included."
    ));
    Ok(())
}
