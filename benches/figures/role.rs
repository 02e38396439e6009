//! The roles that this program plays when it starts itself again, and what they and the measuring process say to each
//! other: a line of JSON each time, over the child's standard input and output.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, Write as _, stdin, stdout},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    thread,
};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Runtime};

use crate::{
    agent, bare, blackbox::driver, collector::Collector, fleet::Fleet, process::Memory, server::Server,
};

/// Threads for everything but probing, as `aviary run` has them.
const CONTROL_THREADS: usize = 2;

/// The question for a reading.
pub(crate) const ASKED: &str = "read";
/// The question for a reading with [`Reading::memory`].
pub(crate) const ASKED_WITH_MEMORY: &str = "read with memory";

/// The part that a child plays.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// The server that is probed.
    Server {
        /// Its TCP listener accepts, and never reads.
        never_reads: bool,
    },
    /// The agent, as `aviary run` puts it together.
    Agent {
        /// Its series.
        fleet: Fleet,
        /// The base URL of its collector.
        collector: String,
        /// Where its spool is, if not in memory.
        data: Option<PathBuf>,
        /// Starts with a second, so that what it says when ready was read before its first attempt.
        with_the_second: bool,
    },
    /// The collector that an agent reports to.
    Collector,
    /// The loop of blocking calls.
    Bare {
        /// Its series.
        fleet: Fleet,
    },
    /// Whoever asks the blackbox exporter to probe, as Prometheus would.
    Driver {
        /// What is to be probed.
        fleet: Fleet,
        /// The exporter.
        exporter: SocketAddr,
    },
}

/// What a child says once it plays its part.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Of the server, by the names of the protocols.
    pub(crate) ports: BTreeMap<String, u16>,
    /// The authority of the server.
    pub(crate) ca: String,
    /// The base URL of the collector.
    pub(crate) url: String,
    pub(crate) memory: Memory,
}

/// What a child says whenever it is asked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// Processor time of this process since its start, in nanoseconds: all its threads, in user space and the kernel.
    pub(crate) cpu_ns: u64,
    /// Attempts that came to an end, datapoints that arrived, or reports that were taken.
    pub(crate) done: u64,
    /// Attempts known to have failed; of the agent, slots that were not delivered, for whatever reason.
    pub(crate) failed: u64,
    /// Slots by what became of them: as the agent closed them since its start, with phase and fault (`lost connect
    /// timeout`), or as the collector holds them.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Bytes that the collector received.
    pub(crate) received: u64,
    /// The buckets of [`aviary_agent::Stats::start_late`].
    pub(crate) start_late: Vec<(usize, u64)>,
    /// The buckets of [`aviary_agent::Stats::abandon_late`].
    pub(crate) abandon_late: Vec<(usize, u64)>,
    /// Where it was asked for.
    pub(crate) memory: Memory,
}

/// A child in its part: the runtime that it needs, what it says when it is ready, and how it answers.
type Part = (Option<Runtime>, Ready, Box<dyn Fn() -> anyhow::Result<Reading>>);

/// Plays the part that the first line of standard input describes, and answers each further line with a reading, until
/// that input ends: with the process that started this one.
pub(crate) fn play() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    let mut lines = stdin().lock().lines();
    let first = lines.next().context("nobody said which part to play")??;
    let (_runtime, ready, read) = enter(parse(&first)?)?;
    let mut out = stdout();
    writeln!(out, "{}", serde_json::to_string(&ready)?)?;
    for asked in lines {
        let mut answer = read()?;
        // Walking its own pages costs a process time that would be counted as its work.
        if asked? == ASKED_WITH_MEMORY {
            answer.memory = Memory::of(std::process::id())?;
        }
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

fn enter(role: Role) -> anyhow::Result<Part> {
    Ok(match role {
        Role::Server { never_reads } => {
            let runtime = runtime(1)?;
            let server = runtime.block_on(Server::start(never_reads))?;
            let ready = Ready { ports: server.ports(), ca: server.ca.clone(), ..Ready::default() };
            (Some(runtime), ready, Box::new(move || Ok(Reading { done: server.arrived(), ..reading()? })))
        }
        Role::Agent { fleet, collector, data, with_the_second } => {
            let runtime = runtime(CONTROL_THREADS)?;
            let options = agent::options(&fleet, collector, data.as_deref())?;
            let agent = agent::start(&runtime, options, with_the_second)?;
            drop(fleet);
            let ready = Ready { memory: Memory::of(std::process::id())?, ..Ready::default() };
            (Some(runtime), ready, Box::new(move || agent::read(&agent)))
        }
        Role::Collector => {
            let collector = Collector::start()?;
            let ready = Ready { url: collector.url.clone(), ..Ready::default() };
            let read = move || {
                let (done, received) = (collector.reports(), collector.received());
                Ok(Reading { done, received, outcomes: collector.ledger(), ..reading()? })
            };
            (None, ready, Box::new(read))
        }
        Role::Bare { fleet } => attempts("The bare loop cannot run", move |done| bare::run(&fleet, done)),
        Role::Driver { fleet, exporter } => {
            attempts("The exporter is not asked", move |done| driver::run(&fleet, exporter, done))
        }
    })
}

/// A part that makes attempts on a thread of its own and counts them, for ever.
fn attempts(
    trouble: &'static str,
    run: impl FnOnce(&Arc<bare::Done>) -> anyhow::Result<()> + Send + 'static,
) -> Part {
    let done = Arc::new(bare::Done::default());
    let counted = Arc::clone(&done);
    thread::spawn(move || {
        if let Err(error) = run(&done) {
            tracing::error!("{trouble}: {error:#}");
        }
    });
    let read = move || {
        let failed = counted.failed.load(Ordering::Relaxed);
        let done = counted.delivered.load(Ordering::Relaxed) + failed;
        Ok(Reading { done, failed, ..reading()? })
    };
    (None, Ready::default(), Box::new(read))
}

/// What the other side said.
pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> anyhow::Result<T> {
    serde_json::from_str(line).with_context(|| format!("not understood: {line}"))
}

fn runtime(threads: usize) -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(threads).thread_name("control").enable_all().build()?)
}

/// What every process can say of itself.
pub(crate) fn reading() -> anyhow::Result<Reading> {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ns = u64::try_from(cpu.tv_sec)? * 1_000_000_000 + u64::try_from(cpu.tv_nsec)?;
    Ok(Reading { cpu_ns, ..Reading::default() })
}
