//! What an upgrade costs: the program of an earlier commit and this one, both real, exchanged for each other while agents probe.
//!
//! A collector and agents with data directories of their own begin as the one and end as the other. In the end each second of
//! each agent has to have an outcome, and none but those of the agent's own restarts may be missed.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use aviary_core::{Clock as _, Second};
use aviary_probe::SystemClock;
use serde_json::Value;

use crate::{
    Plan, progress,
    support::{
        http,
        ports::Port,
        process::{Process, program},
    },
    table::{Figure, Table},
};

/// The last commit whose reports had version 1.
const BEFORE: &str = "acb5012a5852a3d2ddf0ea13e58ce3c1a5ac3601";

const NEW: &str = env!("CARGO_BIN_EXE_aviary");

const AGENTS: usize = 3;

const PATIENCE: Duration = Duration::from_secs(60);

/// A restart may miss so many seconds: the one in which it ends, and those until it probes again.
const RESTART_SECONDS: u64 = 8;

/// Measures upgrades in both orders, and a downgrade.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let old = match &plan.old {
        Some(old) => fs::canonicalize(old).with_context(|| format!("--old {}", old.display()))?,
        None => built(BEFORE)?,
    };
    let new = PathBuf::from(NEW);
    let seconds = plan.pick(10, 5);
    for (name, from, to, is_collector_first) in [
        ("upgrade, collector first", &old, &new, true),
        ("upgrade, agents first", &old, &new, false),
        ("downgrade, agents first", &new, &old, false),
    ] {
        progress(name);
        let sums = Fleet::start(from)?.exchange(to, is_collector_first, seconds)?;
        let Sums { scheduled, delivered, missed, local, unknown, other } = sums;
        table.push(Figure {
            name: name.to_owned(),
            aviary: format!(
                "{scheduled} slots: {delivered} delivered, {missed} missed, {local} local, {other} else, {unknown} unknown"
            ),
            rival: String::new(),
            ratio: String::new(),
            goal: format!("0 unknown, at most {} missed", RESTART_SECONDS * AGENTS as u64),
            met: unknown == 0 && missed <= RESTART_SECONDS * AGENTS as u64 && other == 0,
        });
    }
    table.note(format!("Upgrades: from {} and back, {AGENTS} agents of one series each.", old.display()));
    Ok(())
}

/// Builds the program of `commit` into a target directory of its own.
fn built(commit: &str) -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upgrade");
    let source = place.join(commit);
    fs::create_dir_all(&source)?;
    let archive = place.join(format!("{commit}.tar"));
    let run = |command: &mut Command| -> anyhow::Result<()> {
        let status = command.status().with_context(|| format!("{command:?}"))?;
        ensure!(status.success(), "{command:?}: {status}");
        Ok(())
    };
    progress("the program of before is built");
    run(Command::new("git").current_dir(root).args(["archive", "-o"]).arg(&archive).arg(commit))?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?;
    let target = place.join("target");
    run(Command::new("cargo")
        .current_dir(&source)
        .args(["build", "--locked", "--bin", "aviary"])
        .env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("debug/aviary"))
}

/// What became of all slots.
struct Sums {
    scheduled: u64,
    delivered: u64,
    missed: u64,
    /// What this machine did not get to.
    local: u64,
    unknown: u64,
    other: u64,
}

struct Fleet {
    dir: tempfile::TempDir,
    port: Port,
    collector: Process,
    agents: Vec<Process>,
    _sink: Process,
}

impl Fleet {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (port, sink) = (Port::claim(), Port::claim());
        let path = dir.path();
        let write = |name: &str, text: String| fs::write(path.join(format!("{name}.toml")), text);
        write("sink", format!("[sink]\ntcp = \"{}\"\n", sink.address()))?;
        write(
            "collector",
            format!(
                "[collector]\nlisten = \"{}\"\ndata = \"{}\"\n",
                port.address(),
                path.join("collector").display()
            ),
        )?;
        for agent in 0..AGENTS {
            write(
                &format!("agent-{agent}"),
                format!(
                    "[vantage]\nkind = \"external\"\nregion = \"r\"\nnode = \"n{agent}\"\n\
                 [agent]\ncollector = [\"http://{}\"]\ndata = \"{}\"\n\
                 [[service]]\nname = \"s\"\nendpoints = [\"tcp://{}\"]\n",
                    port.address(),
                    path.join(format!("spool-{agent}")).display(),
                    sink.address()
                ),
            )?;
        }
        let sink_process = run(Path::new(NEW), path, "sink");
        sink_process.wait_until_listening(sink.address(), PATIENCE);
        let collector = run(program, path, "collector");
        ready(port.address(), &collector)?;
        let agents = (0..AGENTS).map(|agent| run(program, path, &format!("agent-{agent}"))).collect();
        Ok(Self { port, collector, agents, _sink: sink_process, dir })
    }

    /// Exchanges everything for `program`, one by one, with so many seconds in between; then ends it and counts.
    fn exchange(mut self, program: &Path, is_collector_first: bool, seconds: u64) -> anyhow::Result<Sums> {
        let pause = || thread::sleep(Duration::from_secs(seconds));
        pause();
        for is_collector in [is_collector_first, !is_collector_first] {
            if is_collector {
                self.collector.stop();
                self.collector = run(program, self.dir.path(), "collector");
                ready(self.port.address(), &self.collector)?;
                pause();
                continue;
            }
            for agent in 0..AGENTS {
                self.agents[agent].stop();
                self.agents[agent] = run(program, self.dir.path(), &format!("agent-{agent}"));
                pause();
            }
        }
        pause();
        let until = SystemClock.wall().second().minus(4);
        self.sums(until)
    }

    fn sums(&self, until: Second) -> anyhow::Result<Sums> {
        let path = format!("/api/v1/sums?by=node&window=600s&until={until}");
        let (status, body) = http::request(self.port.address(), "GET", &path, &[], &[], PATIENCE)?;
        ensure!(status == 200, "{path}: {status} {body}");
        let answer: Value = serde_json::from_str(&body)?;
        let groups = answer["groups"].as_array().context("no groups")?;
        ensure!(groups.len() == AGENTS, "{} of {AGENTS} agents are known: {body}", groups.len());
        let sum = |class: &str| groups.iter().filter_map(|group| group[class].as_u64()).sum();
        let [scheduled, delivered, missed, local, unknown]: [u64; 5] =
            ["scheduled", "delivered", "missed", "local", "unknown"].map(sum);
        ensure!(delivered > 0, "nothing was delivered: {body}");
        let other = scheduled - delivered - missed - local - unknown;
        Ok(Sums { scheduled, delivered, missed, local, unknown, other })
    }
}

fn run(aviary: &Path, dir: &Path, name: &str) -> Process {
    let mut command = program(aviary.display().to_string());
    command.arg("run").arg(dir.join(format!("{name}.toml"))).env_remove("AVIARY_LOG");
    Process::start(name, command, dir)
}

fn ready(address: SocketAddr, collector: &Process) -> anyhow::Result<()> {
    let began = SystemClock.monotonic();
    while !matches!(http::request(address, "GET", "/readyz", &[], &[], PATIENCE), Ok((200, _))) {
        ensure!(
            u128::from(SystemClock.monotonic().since(began)) < PATIENCE.as_micros(),
            "the collector is not ready: {}",
            collector.log()
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
