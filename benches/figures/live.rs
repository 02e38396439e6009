//! A collector at its full size, told each second by a hundred agents: what it costs to keep it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use aviary_core::{Clock as _, Second};
use aviary_probe::SystemClock;

use crate::{
    Plan,
    durable::{AGENTS, Connection, SERIES, report},
    pace,
    process::{self, Memory},
    progress,
    table::{Figure, Table},
};

const NAME: &str = "live, 100000 series at one a second";
const CPU_GOAL: f64 = 15.0;
const RESIDENT_GOAL_MIB: f64 = 250.0;
const METRICS_GOAL_MS: f64 = 50.0;

/// So often it is asked for its metrics.
const SCRAPES: usize = 21;

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
    let (collector, mut connection) = Program::start(data.path())?;
    let id = collector.id();
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
            before = process::cpu_ns(id)?;
        }
        for agent in 0..AGENTS {
            // As agents do: each at a time of its own within the second.
            pace::sleep_until(started.plus(second * 1_000_000 + agent * 1_000_000 / AGENTS));
            tell(agent, sequence + second, began.plus(second).minus(1), 1)?;
        }
    }
    let cpu = (process::cpu_ns(id)? - before) as f64 / (seconds as f64 * 1e9) * 100.0;
    let resident = Memory::of(id)?.resident as f64 / 1_024.0;
    let metrics_ms = metrics_ms(&mut connection)?;
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
    table.push(Figure {
        name: "live, /metrics".to_owned(),
        aviary: format!("{metrics_ms:.1} ms"),
        rival: String::new(),
        ratio: String::new(),
        goal: format!("at most {METRICS_GOAL_MS:.0} ms"),
        met: metrics_ms <= METRICS_GOAL_MS,
    });
    table.note(format!(
        "live: {AGENTS} agents of {SERIES} series each, a full live window, and then a report of each agent each second for {seconds} s over HTTP to \
         `aviary run` with its journal, checkpoints and history on this disk, judged each second; one slot \
         of a thousand lost. All CPU of that process; what is resident at the end, shared files included."
    ));
    Ok(())
}

/// The median of how long the whole of `/metrics` takes, asked over a connection that is open, a second after the last report.
fn metrics_ms(connection: &mut Connection) -> anyhow::Result<f64> {
    let mut took = Vec::new();
    for _ in 0..SCRAPES {
        thread::sleep(Duration::from_millis(100));
        let began = SystemClock.monotonic();
        let status = connection.ask("GET", "/metrics", &[])?;
        anyhow::ensure!(status == 200, "/metrics was answered {status}");
        took.push(SystemClock.monotonic().since(began) as f64 / 1e3);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() / 2])
}

/// `aviary run`, which ends when this is dropped.
pub(crate) struct Program {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts a collector that keeps what it knows in `data`, and waits until it is ready.
    pub(crate) fn start(data: &Path) -> anyhow::Result<(Self, Connection)> {
        // It is told where to listen. Nobody else takes the port here between the two.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let configuration = data.join("aviary.toml");
        let text = format!("[collector]\nlisten = \"{address}\"\ndata = {data:?}\n");
        fs::write(&configuration, text)?;
        let child = Command::new(env!("CARGO_BIN_EXE_aviary"))
            .arg("run")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let mut program = Self { child, address };
        let connection = program.connect()?;
        Ok((program, connection))
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn connect(&mut self) -> anyhow::Result<Connection> {
        loop {
            anyhow::ensure!(
                self.child.try_wait()?.is_none(),
                "`aviary run` has ended; what it said stands above"
            );
            if let Ok(mut connection) = Connection::open(self.address)
                && connection.ask("GET", "/readyz", &[])? == 200
            {
                return Ok(connection);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, and then both have nothing to do.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
