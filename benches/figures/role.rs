//! The roles that this program plays when it starts itself again, and what they and the measuring process say to each
//! other: a line of JSON each time, over the child's standard input and output.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, Write as _, stdin, stdout},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use aviary_agent::{Agent, AgentSeries, Assignment, Options, Push};
use aviary_core::{Clock as _, histogram::Histogram};
use aviary_probe::{Dns, Host, KeyExchange, SystemClock, Target, TlsClient};
use aviary_store::{Limits, Spool};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Runtime};

use crate::{
    bare,
    fleet::{self, Fleet},
    server::Server,
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
        /// Starts with a second, so that what it says when ready was read before its first attempt.
        with_the_second: bool,
    },
    /// The loop of blocking calls.
    Bare {
        /// Its series.
        fleet: Fleet,
    },
}

/// What a child says once it plays its part.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) ca: String,
    pub(crate) memory: Memory,
}

/// What a child says whenever it is asked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// Processor time of this process since its start, in nanoseconds: all its threads, in user space and the kernel.
    pub(crate) cpu_ns: u64,
    /// Attempts that came to an end, or datapoints that arrived.
    pub(crate) done: u64,
    /// Attempts known to have failed; the agent does not count them apart.
    pub(crate) failed: u64,
    /// The buckets of [`aviary_agent::Stats::start_late`].
    pub(crate) start_late: Vec<(usize, u64)>,
    /// The buckets of [`aviary_agent::Stats::abandon_late`].
    pub(crate) abandon_late: Vec<(usize, u64)>,
    /// Where it was asked for.
    pub(crate) memory: Memory,
}

/// The memory of a process, in KiB, from `/proc/self/smaps_rollup`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// What is resident, shared files included.
    pub(crate) resident: u64,
    /// What belongs to this process alone.
    pub(crate) private: u64,
}

impl Memory {
    fn now() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/self/smaps_rollup")?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            value.with_context(|| format!("no {name} in smaps_rollup"))
        };
        let private = field("Private_Clean:")? + field("Private_Dirty:")?;
        Ok(Self { resident: field("Rss:")?, private })
    }
}

/// Plays the part that the first line of standard input describes, and answers each further line with a reading, until
/// that input ends: with the process that started this one.
pub(crate) fn play() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    let mut lines = stdin().lock().lines();
    let first = lines.next().context("nobody said which part to play")??;
    let (_runtime, ready, read): (_, _, Box<dyn Fn() -> anyhow::Result<Reading>>) = match parse(&first)? {
        Role::Server { never_reads } => {
            let runtime = runtime(1)?;
            let server = runtime.block_on(Server::start(never_reads))?;
            let ready = Ready { ports: server.ports(), ca: server.ca.clone(), ..Ready::default() };
            (Some(runtime), ready, Box::new(move || Ok(Reading { done: server.arrived(), ..reading()? })))
        }
        Role::Agent { fleet, collector, with_the_second } => {
            let runtime = runtime(CONTROL_THREADS)?;
            let agent = start_agent(&runtime, &fleet, collector, with_the_second)?;
            drop(fleet);
            let ready = Ready { memory: Memory::now()?, ..Ready::default() };
            (Some(runtime), ready, Box::new(move || read_agent(&agent)))
        }
        Role::Bare { fleet } => {
            let done = Arc::new(bare::Done::default());
            let counted = Arc::clone(&done);
            thread::spawn(move || {
                if let Err(error) = bare::run(&fleet, &done) {
                    tracing::error!("The bare loop cannot run: {error:#}");
                }
            });
            let read = move || {
                let failed = counted.failed.load(Ordering::Relaxed);
                let done = counted.delivered.load(Ordering::Relaxed) + failed;
                Ok(Reading { done, failed, ..reading()? })
            };
            (None, Ready::default(), Box::new(read))
        }
    };
    let mut out = stdout();
    writeln!(out, "{}", serde_json::to_string(&ready)?)?;
    for asked in lines {
        let mut answer = read()?;
        // Walking its own pages costs a process time that would be counted as its work.
        if asked? == ASKED_WITH_MEMORY {
            answer.memory = Memory::now()?;
        }
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

/// What the other side said.
pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> anyhow::Result<T> {
    serde_json::from_str(line).with_context(|| format!("not understood: {line}"))
}

fn runtime(threads: usize) -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(threads).thread_name("control").enable_all().build()?)
}

fn start_agent(
    runtime: &Runtime,
    fleet: &Fleet,
    collector: String,
    with_the_second: bool,
) -> anyhow::Result<Agent<Host, SystemClock>> {
    aviary_probe::warm_up();
    let tls = TlsClient::new(&[fleet.ca.as_bytes()], KeyExchange::Classic)?;
    let series = fleet.series()?.into_iter().map(|(name, endpoint)| {
        let target = Target::new(endpoint, &name, &tls, None)?;
        Ok(AgentSeries { service: fleet::SERVICE.to_owned(), name, address: None, target })
    });
    let assignment = Assignment {
        vantage: fleet::vantage("figures"),
        series: series.collect::<anyhow::Result<_>>()?,
        configuration: "figures".to_owned(),
    };
    let options = Options {
        assignment,
        boot: SystemClock.wall().0,
        push: Push { collectors: vec![collector], ..Push::default() },
        spool: Spool::in_memory(Limits { bytes: 256 << 20, age_seconds: 86_400 }),
        is_durable: false,
        controls: Vec::new(),
        pulse: Box::new(|| ()),
        listener: Box::new(|_| ()),
    };
    let network = Host::new(Dns::from_system()?);
    if with_the_second {
        let rest = 1_000_000 - SystemClock.wall().0 % 1_000_000;
        thread::sleep(Duration::from_micros(rest));
    }
    let _entered = runtime.enter();
    let agent = Agent::start(options, network, SystemClock)?;
    if with_the_second {
        // Long enough for the first report with the roster to be out, and well before the first full second.
        thread::sleep(Duration::from_millis(500));
    }
    Ok(agent)
}

fn read_agent(agent: &Agent<Host, SystemClock>) -> anyhow::Result<Reading> {
    let stats = agent.stats();
    let buckets = |histogram: &Histogram| histogram.buckets().collect();
    Ok(Reading {
        done: stats.closed,
        start_late: buckets(&stats.start_late),
        abandon_late: buckets(&stats.abandon_late),
        ..reading()?
    })
}

/// What every process can say of itself.
fn reading() -> anyhow::Result<Reading> {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ns = u64::try_from(cpu.tv_sec)? * 1_000_000_000 + u64::try_from(cpu.tv_nsec)?;
    Ok(Reading { cpu_ns, ..Reading::default() })
}
