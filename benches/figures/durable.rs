//! A collector that keeps what it is told: how many slots it takes, and how soon it is ready again.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use aviary_collector::{Collector, Options};
use aviary_core::{Clock as _, Evidence, Fault, Outcome, Phase, Second, Timestamp, Vantage, VantageKind};
use aviary_probe::SystemClock;
use aviary_store::{RedbStore, Store};
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};
use rustix::time::{ClockId, clock_gettime};
use tokio::{net::TcpListener, runtime::Builder};

use crate::{
    Plan, progress,
    table::{Figure, Table},
};

const INTAKE_GOAL: f64 = 5e6;
const START_GOAL_SECONDS: f64 = 5.0;

/// Series of one agent here.
pub(crate) const SERIES: u32 = 1_000;

/// Agents of the largest fleet here.
pub(crate) const AGENTS: u64 = 100;

/// A backlog comes in reports of so many seconds.
const BACKLOG_SECONDS: u64 = 30;

/// Of so many slots one is lost.
const LOST_EACH: u64 = 1_000;

/// How many agents tell at once.
const AT_ONCE: usize = 4;

/// Measures what a collector takes, and how long it takes up a full live window.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    for (name, seconds) in
        [("durable, intake of a backlog", BACKLOG_SECONDS), ("durable, intake each second", 1)]
    {
        if plan.wants(name) {
            progress(name);
            intake(name, seconds, plan.pick(AGENTS, 4), table)?;
        }
    }
    let name = "durable, start";
    if plan.wants(name) {
        progress(name);
        start(name, plan.pick(AGENTS, 2), table)?;
    }
    Ok(())
}

fn intake(name: &str, seconds: u64, agents: u64, table: &mut Table) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let running = Running::start(directory.path())?;
    let from = SystemClock.wall().second().minus(600);
    let spans: u64 = 300 / BACKLOG_SECONDS;
    let reports = (0..spans).flat_map(|span| {
        (0..agents).map(move |agent| report(agent, span, from.plus(span * BACKLOG_SECONDS), seconds).encode())
    });
    let reports: Vec<_> = reports.collect();
    // The first of each agent has its roster, which it tells once in its life.
    let (first, reports) = reports.split_at(agents as usize);
    tell(running.address, first)?;
    let (wall, cpu) = (SystemClock.monotonic(), cpu_us()?);
    tell(running.address, reports)?;
    let (wall, cpu) = (SystemClock.monotonic().since(wall), cpu_us()?.saturating_sub(cpu));
    running.stop();
    let slots = (reports.len() as u64 * u64::from(SERIES) * seconds) as f64;
    let (a_core, a_second) = (slots / cpu as f64 * 1e6, slots / wall as f64 * 1e6);
    table.push(Figure {
        name: name.to_owned(),
        aviary: format!("{:.2} M slots a core and second", a_core / 1e6),
        rival: String::new(),
        ratio: String::new(),
        goal: "over 5 M".to_owned(),
        met: a_core > INTAKE_GOAL,
    });
    table.note(format!(
        "{name}: {} reports of {SERIES} series and {seconds} s, one slot of {LOST_EACH} lost, over HTTP from {AT_ONCE} \
         connections to a collector with its journal on this disk, each acknowledged once it is there, after those with the rosters; divided by all CPU \
         that the process used, its clients' included. By the clock it were {:.2} M a second.",
        reports.len(),
        a_second / 1e6
    ));
    Ok(())
}

fn start(name: &str, agents: u64, table: &mut Table) -> anyhow::Result<()> {
    const WINDOW_SECONDS: u64 = 870;
    let directory = tempfile::tempdir()?;
    let running = Running::start(directory.path())?;
    let from = SystemClock.wall().second().minus(WINDOW_SECONDS);
    for span in 0..WINDOW_SECONDS / BACKLOG_SECONDS {
        let from = from.plus(span * BACKLOG_SECONDS);
        let reports: Vec<_> =
            (0..agents).map(|agent| report(agent, span, from, BACKLOG_SECONDS).encode()).collect();
        tell(running.address, &reports)?;
    }
    running.stop();
    let began = SystemClock.monotonic();
    let running = Running::start(directory.path())?;
    let took = SystemClock.monotonic().since(began) as f64 / 1e6;
    running.stop();
    table.push(Figure {
        name: name.to_owned(),
        aviary: format!("{took:.2} s to be ready"),
        rival: String::new(),
        ratio: String::new(),
        goal: "under 5 s".to_owned(),
        met: took < START_GOAL_SECONDS,
    });
    let bytes = std::fs::metadata(directory.path().join(aviary_store::FILE_NAME))?.len();
    table.note(format!(
        "{name}: from opening the file to 200 at /readyz, with a checkpoint of {} series and {WINDOW_SECONDS} s of each, \
         one slot of {LOST_EACH} lost; the file has {bytes} bytes.",
        agents * u64::from(SERIES)
    ));
    Ok(())
}

/// A collector on its store, in this process.
struct Running {
    runtime: tokio::runtime::Runtime,
    collector: Collector,
    server: aviary_collector::Server,
    address: SocketAddr,
}

impl Running {
    /// Starts it, and waits until it is ready.
    fn start(directory: &Path) -> anyhow::Result<Self> {
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(directory)?);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let entered = runtime.enter();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let options = Options { store: Some(store), ..Options::default() };
        let collector = Collector::new(options, SystemClock)?;
        let server = collector.serve(listener);
        drop(entered);
        let mut connection = Connection::open(address)?;
        while connection.ask("GET", "/readyz", &[])? != 200 {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { runtime, collector, server, address })
    }

    fn stop(self) {
        self.runtime.block_on(async {
            self.server.stop().await;
            self.collector.close().await;
        });
    }
}

/// Tells all reports, a few at a time; each must be acknowledged.
fn tell(address: SocketAddr, reports: &[Vec<u8>]) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let tellers = (0..AT_ONCE).map(|teller| {
            scope.spawn(move || {
                let mut connection = Connection::open(address)?;
                for report in reports.iter().skip(teller).step_by(AT_ONCE) {
                    let status = connection.ask("POST", "/api/v1/reports", report)?;
                    anyhow::ensure!(status == 200, "a report was answered {status}");
                }
                Ok(())
            })
        });
        let tellers: Vec<_> = tellers.collect();
        tellers
            .into_iter()
            .try_for_each(|teller| teller.join().unwrap_or_else(|_| anyhow::bail!("a client failed")))
    })
}

/// A client that costs next to nothing.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The status of the answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<u16> {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse()?;
            } else if status.is_none() {
                status = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
            }
        }
        self.stream.by_ref().take(length).read_to_end(&mut Vec::new())?;
        status.context("no HTTP answer")
    }
}

/// The `span`th report of an agent. Only the first has its roster.
pub(crate) fn report(agent: u64, span: u64, from: Second, seconds: u64) -> Report {
    // The same in all its reports, so that it is one roster.
    let since = Second(1_700_000_000);
    let series = (0..SERIES).map(|place| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: format!("tcp://graphite-{place}.example.net:2003").parse().expect("it is one"),
        address: None,
        name: format!("canary.{agent}.{place}"),
        from: since,
    });
    let vantage = Vantage {
        kind: VantageKind::External,
        region: format!("region-{}", agent % 12),
        zone: None,
        network: None,
        node: format!("canary-{agent}.probes.example.net"),
    };
    let roster = Roster { vantage, since, series: series.collect() };
    let slots = (0..seconds).flat_map(|offset| {
        (0..SERIES).map(move |series| {
            let second = from.plus(offset);
            let mixed = (second.0 * 1_000_003 + agent * 7_919 + u64::from(series))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let outcome = if (mixed >> 32).is_multiple_of(LOST_EACH) {
                Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused }
            } else {
                Outcome::Delivered(Evidence::PeerClosed)
            };
            ClosedSlot { series, second, outcome, reached: None, address: None }
        })
    });
    Report {
        boot: agent,
        sequence: span,
        wall: Timestamp((from.0 + seconds) * 1_000_000),
        configuration: "bench".to_owned(),
        roster_id: roster.id(),
        slots: slots.collect(),
        roster: (span == 0).then_some(roster),
        ..Report::default()
    }
}

/// The CPU that this process used so far, in microseconds.
fn cpu_us() -> anyhow::Result<u64> {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Ok(u64::try_from(used.tv_sec)? * 1_000_000 + u64::try_from(used.tv_nsec)? / 1_000)
}
