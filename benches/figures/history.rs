//! The history: bytes a slot, one series' day second by second, sums of a large fleet, a year of sums.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aviary_collector::{Limits, Options, Scope, SecretHash, Server, Store, TokenRule};
use aviary_core::{
    Clock, Evidence, Fault, Micros, Outcome, Phase, Protocol, Second, Span, Timestamp, Vantage, VantageKind,
};
use aviary_probe::SystemClock;
use aviary_store::{MemoryStore, Table as Stored};
use aviary_wire::report::{ClosedSlot, Gap, Report, Roster, RosterSeries};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

use crate::{
    Plan, progress,
    table::{Figure, Table, median},
};

/// A day begins.
const START: u64 = 1_763_596_800;
const HOUR: u64 = 3_600;
/// More than any answer here has.
const ANSWER_BYTES: usize = 8 << 20;
pub(crate) const TOKEN: &str = "figures-of-the-history";
const DAY: u64 = 24 * HOUR;

/// As many as lie in one block.
const SERIES: usize = 256;
const FLEET: usize = 100_000;
/// As many as one agent may have.
const PER_AGENT: usize = 10_000;
/// And of the fleet of a year.
const YEAR_AGENTS: usize = 12;

const BYTES_GOAL: f64 = 0.01;
const DAY_GOAL_MS: f64 = 10.0;
const SUMS_GOAL_MS: f64 = 5.0;
const JUDGEMENT_GOAL_MS: f64 = 20.0;
const YEAR_GOAL_MS: f64 = 100.0;

/// A clock that is set.
#[derive(Clone)]
struct SetClock(Arc<AtomicU64>);

impl Clock for SetClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed) * 1_000_000)
    }

    fn monotonic(&self) -> Micros {
        SystemClock.monotonic()
    }
}

/// A collector whose time is set, and which is asked over HTTP.
pub(crate) struct Stage {
    clock: SetClock,
    store: Arc<MemoryStore>,
    collector: aviary_collector::Collector,
    pub(crate) address: SocketAddr,
    client: reqwest::Client,
    runtime: Runtime,
    _server: Server,
}

impl Stage {
    fn new() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let entered = runtime.enter();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let clock = SetClock(Arc::new(AtomicU64::new(START)));
        let store = Arc::new(MemoryStore::default());
        // A year is told in a moment here, which nobody may do otherwise.
        let limits = Limits { slots: u32::MAX, ..Limits::FLEET };
        let token = TokenRule {
            name: "figures".to_owned(),
            secret: SecretHash::of(TOKEN),
            scopes: vec![Scope::Report, Scope::Read],
            region: None,
            node: None,
            limits,
        };
        let store_of_it = Arc::clone(&store) as Arc<dyn Store>;
        let options = Options { store: Some(store_of_it), tokens: vec![token], ..Options::default() };
        let collector = aviary_collector::Collector::new(options, clock.clone())?;
        let server = collector.serve(listener);
        drop(entered);
        let client = reqwest::Client::new();
        Ok(Self { clock, store, collector, address, client, runtime, _server: server })
    }

    /// A fleet of a hundred seconds, of which the newest are closed.
    pub(crate) fn of_a_fleet() -> anyhow::Result<Self> {
        let stage = Self::new()?;
        for agent in 0..FLEET / PER_AGENT {
            let roster = roster(agent, PER_AGENT)?;
            stage.set(START + 100);
            stage.tell(&told(agent, &roster, Span::new(Second(START), Second(START + 100))))?;
        }
        Ok(stage)
    }

    /// A year of twelve agents, and how many days that is here.
    pub(crate) fn of_a_year(plan: &Plan) -> anyhow::Result<(Self, u64)> {
        let days = plan.pick(366, 31);
        let stage = Self::new()?;
        stage.set(START + days * DAY + HOUR);
        for agent in 0..YEAR_AGENTS {
            let roster = roster(agent, 30)?;
            let gap = |day: u64| {
                let from = Second(START + day * DAY);
                Gap { first: 0, count: 30, span: Span::new(from, from.plus(DAY)), outcome: Outcome::Missed }
            };
            let wall = Second(START + days * DAY);
            stage.tell(&Report { gaps: (0..days).map(gap).collect(), ..report(agent, &roster, wall) })?;
            // A second of each agent was lost, so that sums are no constant.
            stage.tell(&told(agent, &roster, Span::new(Second(START), Second(START + 600))))?;
        }
        stage.collector.settle_history()?;
        Ok((stage, days))
    }

    fn set(&self, second: u64) {
        self.clock.0.store(second, Ordering::Relaxed);
    }

    fn tell(&self, report: &Report) -> anyhow::Result<()> {
        let url = format!("http://{}/api/v1/reports", self.address);
        let body = report.encode();
        self.runtime.block_on(async {
            self.client.post(url).bearer_auth(TOKEN).body(body).send().await?.error_for_status()?;
            anyhow::Ok(())
        })
    }

    /// How many milliseconds the answer at `path` takes to its last byte, and the answer.
    fn ask(&self, path: &str) -> anyhow::Result<(f64, String)> {
        let question = format!(
            "GET {path} HTTP/1.1\r\nHost: figures\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        );
        // A client that costs next to nothing, since it shares the machine with what is measured.
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        let started = SystemClock.monotonic();
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(question.as_bytes())?;
        stream.read_to_end(&mut answer)?;
        let took = SystemClock.monotonic().since(started) as f64 / 1e3;
        let answer = String::from_utf8(answer)?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        Ok((took, answer))
    }

    /// The bytes of all keys and values of `table`.
    fn bytes(&self, table: Stored) -> anyhow::Result<u64> {
        let mut bytes = 0;
        self.store.range(table, &[], &[u8::MAX; 16], &mut |key, value| {
            bytes += (key.len() + value.len()) as u64;
            ControlFlow::Continue(())
        })?;
        Ok(bytes)
    }
}

/// Measures what was asked for.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    if plan.wants("history, bytes a slot") || plan.wants("history, a day of one series") {
        progress("history, bytes a slot; a day of one series");
        day(plan, table)?;
    }
    if plan.wants("history, sums of 100000 series") || plan.wants("history, judgement of 100000 series") {
        progress("history, sums of 100000 series");
        sums(plan, table)?;
    }
    if plan.wants("history, a year of sums") {
        progress("history, a year of sums");
        year(plan, table)?;
    }
    Ok(())
}

/// Series of one agent: five services over six protocols, on hosts of their own beyond that.
fn roster(agent: usize, series: usize) -> anyhow::Result<Roster> {
    let one = |place: usize| {
        let (service, protocol) = (place / 6 % 5, Protocol::ALL[place % 6]);
        let path = if protocol == Protocol::Https { "/api/v1/sink" } else { "" };
        let (host, port) = (place / 30, 2_003 + place % 6);
        Ok(RosterSeries {
            service: format!("ingest-{service}"),
            endpoint: format!("{protocol}://host-{host}.example.net:{port}{path}").parse()?,
            address: None,
            name: format!("canary.{agent}.{place}"),
            from: Second(START),
        })
    };
    let vantage = Vantage {
        kind: VantageKind::External,
        region: format!("region-{}", agent % 12),
        zone: Some(format!("zone-{}", agent % 3)),
        network: Some("aws".to_owned()),
        node: format!("canary-{agent}.probes.example.net"),
    };
    let series = (0..series).map(one).collect::<anyhow::Result<_>>()?;
    Ok(Roster { vantage, since: Second(START), series })
}

/// What is told of `span`: one slot in a thousand lost at random, in one of four ways.
fn told(agent: usize, roster: &Roster, span: Span) -> Report {
    let slots =
        span.iter().flat_map(|second| (0..roster.series.len() as u32).map(move |series| (second, series)));
    let slot = |(second, series): (Second, u32)| {
        let mut random =
            (second.0 << 20 ^ u64::from(series) ^ (agent as u64) << 52).wrapping_add(0x9e37_79b9_7f4a_7c15);
        random = (random ^ random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        random = (random ^ random >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        random ^= random >> 31;
        let is_lost = random.is_multiple_of(1_000);
        let (phase, fault) = [
            (Phase::Confirm, Fault::Timeout),
            (Phase::Connect, Fault::Timeout),
            (Phase::Connect, Fault::Refused),
            (Phase::Send, Fault::Reset),
        ][(random >> 32) as usize % 4];
        ClosedSlot {
            series,
            second,
            outcome: if is_lost {
                Outcome::Lost { phase, fault }
            } else {
                Outcome::Delivered(Evidence::PeerClosed)
            },
            reached: None,
            address: is_lost.then(|| ([192, 0, 2, (series / 6) as u8], 2_003).into()),
        }
    };
    Report { slots: slots.map(slot).collect(), ..report(agent, roster, span.until) }
}

fn report(agent: usize, roster: &Roster, wall: Second) -> Report {
    Report {
        boot: 1 + agent as u64,
        sequence: wall.0,
        wall: wall.start(),
        configuration: "figures".to_owned(),
        roster_id: roster.id(),
        roster: Some(roster.clone()),
        ..Report::default()
    }
}

fn day(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let stage = Stage::new()?;
    let roster = roster(0, SERIES)?;
    stage.set(START + DAY + HOUR);
    for hour in 0..DAY / HOUR {
        let from = Second(START + hour * HOUR);
        stage.tell(&told(0, &roster, Span::new(from, from.plus(HOUR))))?;
    }
    stage.collector.settle_history()?;
    let slots = (SERIES as u64 * DAY) as f64;
    let each = stage.bytes(Stored::Slots)? as f64 / slots;
    table.push(Figure {
        name: "history, bytes a slot".to_owned(),
        aviary: format!("{each:.4} B, {:.0} kB a year of one series", each * 365.0 * DAY as f64 / 1e3),
        rival: "0.009 B bare, 0.1 indexed".to_owned(),
        ratio: String::new(),
        goal: "at most 0.01 B, 316 kB".to_owned(),
        met: each <= BYTES_GOAL,
    });
    let sums = stage.bytes(Stored::Sums)? as f64 / slots;
    table.note(format!(
        "history, bytes a slot: keys and values of the packed hours of {SERIES} series over a day, a thousandth of the slots \
         lost at random, each with its phase, fault and one of {} addresses; rolled-up sums take {sums:.5} B a slot more, \
         what the store's file takes beside is not in it. The rival is VictoriaMetrics 1.79, as measured before, which \
         keeps no causes.",
        SERIES.div_ceil(6),
    ));

    let RosterSeries { service, endpoint, .. } = &roster.series[100];
    let until = START + DAY;
    let path =
        format!("/api/v1/slots?series=endpoint:{endpoint},service:{service}&from={START}&until={until}");
    let (_, body) = stage.ask(&path)?;
    let count = body.matches("\"second\":").count() as u64;
    anyhow::ensure!(count == DAY, "of {DAY} seconds {count} were told");
    let took = (0..plan.pick(31, 5)).map(|_| Ok(stage.ask(&path)?.0)).collect::<anyhow::Result<Vec<_>>>()?;
    let took = median(took);
    table.push(Figure {
        name: "history, a day of one series".to_owned(),
        aviary: format!("{took:.1} ms"),
        rival: String::new(),
        ratio: String::new(),
        goal: "10 ms".to_owned(),
        met: took <= DAY_GOAL_MS,
    });
    table.note(format!(
        "history, a day of one series: /api/v1/slots over loopback, {DAY} seconds one by one in {:.1} MB of JSON, to the last \
         byte; the median. Of the same {SERIES} series.",
        body.len() as f64 / 1e6
    ));
    Ok(())
}

fn sums(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let stage = Stage::of_a_fleet()?;
    judgement(plan, &stage, table);
    let path = format!("/api/v1/sums?by=region,protocol&window=60s&until={}", START + 90);
    let mut took = (0..plan.pick(400, 50))
        .map(|_| {
            let (took, body) = stage.ask(&path)?;
            let scheduled = body.matches("\"scheduled\":").count();
            anyhow::ensure!(scheduled == 60, "{scheduled} groups: {body}");
            Ok(took)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    took.sort_by(f64::total_cmp);
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    table.push(Figure {
        name: "history, sums of 100000 series".to_owned(),
        aviary: format!("p99 {p99:.1} ms, p50 {p50:.1} ms"),
        rival: String::new(),
        ratio: String::new(),
        goal: "p99 5 ms".to_owned(),
        met: p99 <= SUMS_GOAL_MS,
    });
    table.note(format!(
        "history, sums of 100000 series: /api/v1/sums?by=region,protocol&window=60s over loopback, {FLEET} live series in 60 \
         groups, to the last byte."
    ));
    Ok(())
}

/// What is done once a second: states of all services, and of each of their parts.
fn judgement(plan: &Plan, stage: &Stage, table: &mut Table) {
    let mut took: Vec<_> = (0..plan.pick(200, 20))
        .map(|_| {
            let started = SystemClock.monotonic();
            std::hint::black_box(stage.collector.standing());
            SystemClock.monotonic().since(started) as f64 / 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    table.push(Figure {
        name: "history, judgement of 100000 series".to_owned(),
        aviary: format!("p99 {p99:.1} ms, p50 {p50:.1} ms"),
        rival: String::new(),
        ratio: String::new(),
        goal: "20 ms".to_owned(),
        met: p99 <= JUDGEMENT_GOAL_MS,
    });
}

fn year(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let (stage, days) = Stage::of_a_year(plan)?;
    let until = START + days * DAY - 7_777;
    let window = (days - 1) * DAY;
    let path = format!("/api/v1/sums?by=protocol,region&window={window}s&until={until}");
    let (_, body) = stage.ask(&path)?;
    let groups = body.matches(&format!("\"missed\":{}", window * 5)).count();
    anyhow::ensure!(groups == 72, "{groups} groups of so many slots: {body}");
    let took = (0..plan.pick(31, 5)).map(|_| Ok(stage.ask(&path)?.0)).collect::<anyhow::Result<Vec<_>>>()?;
    let took = median(took);
    table.push(Figure {
        name: "history, a year of sums".to_owned(),
        aviary: format!("{took:.1} ms"),
        rival: String::new(),
        ratio: String::new(),
        goal: "tens of ms".to_owned(),
        met: took <= YEAR_GOAL_MS,
    });
    table.note(format!(
        "history, a year of sums: /api/v1/sums?by=protocol,region over {} days that begin and end in the middle of an hour, \
         {} series in 360 tuples of the tags that are rolled up, to the last byte; the median.",
        days - 1,
        YEAR_AGENTS * 30,
    ));
    Ok(())
}
