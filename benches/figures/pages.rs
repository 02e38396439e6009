//! The operator's pages: how soon one is there, and what it costs to tell those who look on.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use aviary_core::{Clock as _, Evidence, Fault, Outcome, Phase, Second, Vantage, VantageKind};
use aviary_probe::SystemClock;
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};

use crate::{
    Plan,
    durable::{AGENTS, Connection, report},
    history::{self, Stage},
    live::Program,
    pace, process, progress,
    table::{Figure, Table, median},
};

const PAGE: &str = "pages, first byte over 100000 series";
const YEAR: &str = "pages, a year's chart";
const LIVE: &str = "pages, 200 viewers";

const FIRST_BYTE_GOAL_MS: f64 = 50.0;
const PAGE_BYTES_GOAL: usize = 100 << 10;
const YEAR_GOAL_MS: f64 = 200.0;
const LIVE_CPU_GOAL: f64 = 5.0;
const LIVE_DELAY_GOAL_SECONDS: f64 = 2.0;

const VIEWERS: usize = 200;

/// The service of one agent by itself, which loses one slot now and then.
const LONELY: &str = "lonely";
/// Its slots are lost so many seconds apart, so that each is a time of its own.
const LOST_EACH: u64 = 5;

/// Measures what was asked for.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    if plan.wants(PAGE) {
        progress(PAGE);
        page(plan, table)?;
    }
    if plan.wants(YEAR) {
        progress(YEAR);
        year(plan, table)?;
    }
    if plan.wants(LIVE) {
        progress(LIVE);
        live(plan, table)?;
    }
    Ok(())
}

/// Milliseconds to the first byte of the page at `path` and to its last, and how many bytes it has, as a browser asks for it.
fn ask(address: SocketAddr, token: &str, path: &str) -> anyhow::Result<(f64, f64, usize)> {
    let question = format!(
        "GET {path} HTTP/1.1\r\nHost: figures\r\nAuthorization: Bearer {token}\r\nAccept: text/html\r\n\
         Accept-Encoding: gzip\r\nConnection: close\r\n\r\n"
    );
    let mut answer = vec![0; 1];
    let started = SystemClock.monotonic();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(question.as_bytes())?;
    stream.read_exact(&mut answer)?;
    let first = SystemClock.monotonic().since(started) as f64 / 1e3;
    stream.read_to_end(&mut answer)?;
    let last = SystemClock.monotonic().since(started) as f64 / 1e3;
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{path}: {}", String::from_utf8_lossy(&answer));
    Ok((first, last, answer.len()))
}

fn page(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let stage = Stage::of_a_fleet()?;
    for (name, path) in
        [("/", "/"), ("/SERVICE", "/ingest-0"), ("/?by=node", "/?by=node"), ("/agents", "/agents")]
    {
        let asked = (0..plan.pick(100, 10)).map(|_| ask(stage.address, history::TOKEN, path));
        let asked = asked.collect::<anyhow::Result<Vec<_>>>()?;
        let mut first: Vec<f64> = asked.iter().map(|(first, ..)| *first).collect();
        first.sort_by(f64::total_cmp);
        let (p50, p99) = (first[first.len() / 2], first[first.len() * 99 / 100]);
        let bytes = asked.iter().map(|(.., bytes)| *bytes).max().unwrap_or_default();
        table.push(Figure {
            name: format!("{PAGE}, {name}"),
            aviary: format!("p99 {p99:.1} ms, p50 {p50:.1} ms, {:.1} KiB", bytes as f64 / 1_024.0),
            rival: String::new(),
            ratio: String::new(),
            goal: "50 ms, under 100 KiB".to_owned(),
            met: p99 <= FIRST_BYTE_GOAL_MS && bytes < PAGE_BYTES_GOAL,
        });
    }
    table.note(format!(
        "{PAGE}: HTML over loopback as a browser asks for it, with gzip; five services of 20,000 series each, a thousandth of the \
         slots lost at random."
    ));
    Ok(())
}

fn year(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let (stage, _) = Stage::of_a_year(plan)?;
    let asked = (0..plan.pick(31, 5)).map(|_| Ok(ask(stage.address, history::TOKEN, "/ingest-0?span=1y")?.1));
    let took = median(asked.collect::<anyhow::Result<Vec<_>>>()?);
    table.push(Figure {
        name: YEAR.to_owned(),
        aviary: format!("{took:.1} ms"),
        rival: String::new(),
        ratio: String::new(),
        goal: format!("{YEAR_GOAL_MS:.0} ms"),
        met: took <= YEAR_GOAL_MS,
    });
    table.note(format!(
        "{YEAR}: the whole page of a service of 72 series with a point a day, to its last byte; the median."
    ));
    Ok(())
}

/// A viewer's connection, which reads what it is told until it is told to end.
fn watch(address: SocketAddr, page: &str) -> anyhow::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let at = page.replace('/', "%2F");
    write!(stream, "GET /live?at={at} HTTP/1.1\r\nHost: figures\r\nAccept: text/event-stream\r\n\r\n")?;
    Ok(BufReader::new(stream))
}

/// What the lonely agent tells of one second.
fn lonely(second: Second, outcome: Outcome) -> Report {
    let roster = Roster {
        vantage: Vantage {
            kind: VantageKind::External,
            region: LONELY.to_owned(),
            zone: None,
            network: None,
            node: LONELY.to_owned(),
        },
        since: Second(0),
        series: vec![RosterSeries {
            service: LONELY.to_owned(),
            endpoint: "tcp://lonely.example.net:2003".parse().expect("it is one"),
            address: None,
            name: "canary.lonely".to_owned(),
            from: Second(0),
        }],
    };
    Report {
        boot: 1,
        sequence: second.0,
        wall: second.start(),
        configuration: "figures".to_owned(),
        roster_id: roster.id(),
        roster: Some(roster),
        slots: vec![ClosedSlot { series: 0, second, outcome, reached: None, address: None }],
        ..Report::default()
    }
}

fn live(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let built = std::env::current_exe()?;
    let data = tempfile::tempdir_in(built.parent().unwrap_or(&built))?;
    let (collector, mut connection) = Program::start(data.path())?;
    let (id, address) = (collector.id(), collector.address);
    // Beside the lonely one, as many as a collector takes.
    let agents = plan.pick(AGENTS, 10) - 1;
    let seconds = plan.pick(60, 10);
    let mut sequence = 0;
    let mut run = |connection: &mut Connection, seconds: u64, told: &dyn Fn(Second)| -> anyhow::Result<f64> {
        let (started, began, before) =
            (SystemClock.monotonic(), SystemClock.wall().second(), process::cpu_ns(id)?);
        for second in 0..seconds {
            let now = began.plus(second);
            for agent in 0..agents {
                pace::sleep_until(started.plus(second * 1_000_000 + agent * 1_000_000 / agents));
                let status = connection.ask(
                    "POST",
                    "/api/v1/reports",
                    &report(agent, sequence, now.minus(1), 1).encode(),
                )?;
                anyhow::ensure!(status == 200, "a report was answered {status}");
            }
            sequence += 1;
            let slot = now.minus(1);
            let outcome = if slot.0.is_multiple_of(LOST_EACH) {
                Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused }
            } else {
                Outcome::Delivered(Evidence::PeerClosed)
            };
            let status = connection.ask("POST", "/api/v1/reports", &lonely(slot, outcome).encode())?;
            anyhow::ensure!(status == 200, "a report was answered {status}");
            told(slot);
        }
        Ok((process::cpu_ns(id)? - before) as f64 / (seconds as f64 * 1e9) * 100.0)
    };
    run(&mut connection, 20, &|_| {})?;
    let alone = run(&mut connection, seconds, &|_| {})?;

    let (ends, events) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let viewers = (1..VIEWERS).map(|_| {
        let (mut stream, ends, events) = (watch(address, "/")?, Arc::clone(&ends), Arc::clone(&events));
        Ok(thread::Builder::new().stack_size(64 << 10).spawn(move || {
            let mut part = [0; 16 << 10];
            while !ends.load(Ordering::Relaxed) && stream.get_mut().read(&mut part).is_ok_and(|read| read > 0)
            {
                events.fetch_add(1, Ordering::Relaxed);
            }
        })?)
    });
    let viewers = viewers.collect::<anyhow::Result<Vec<_>>>()?;
    // One looks closely: when is a loss on its page that was told just now?
    let told: Arc<std::sync::Mutex<Option<(String, aviary_core::Micros)>>> = Arc::default();
    let (mut stream, of_viewer, ended) = (watch(address, "/lonely")?, Arc::clone(&told), Arc::clone(&ends));
    let close = thread::spawn(move || {
        let (mut line, mut delays) = (Vec::new(), Vec::new());
        while !ended.load(Ordering::Relaxed) && stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0)
        {
            let mut told = of_viewer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let shown =
                |(mark, _): &(String, _)| line.windows(mark.len()).any(|part| part == mark.as_bytes());
            if let Some((_, at)) = told.take_if(|told| shown(told)) {
                delays.push(SystemClock.monotonic().since(at) as f64 / 1e6);
            }
            line.clear();
        }
        delays
    });
    let watched = run(&mut connection, seconds, &|slot| {
        if slot.0.is_multiple_of(LOST_EACH) {
            // As a page writes the second of a loss in its list.
            let mark = aviary_notify::rfc3339(slot.start());
            let mark = format!(
                "<time datetime=\"{mark}\">{}</time></a>, 1 s: tcp",
                mark.replace('T', " ").replace('Z', " UTC")
            );
            *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                Some((mark, SystemClock.monotonic()));
        }
    })?;
    ends.store(true, Ordering::Relaxed);
    viewers.into_iter().for_each(|viewer| _ = viewer.join().is_ok());
    let mut delays = close.join().map_err(|_| anyhow::anyhow!("a viewer failed"))?;
    anyhow::ensure!(
        delays.len() as u64 >= seconds / LOST_EACH / 2,
        "of the losses {} were shown",
        delays.len()
    );
    anyhow::ensure!(
        events.load(Ordering::Relaxed) >= seconds * VIEWERS as u64 / 2,
        "viewers were told too little"
    );
    delays.sort_by(f64::total_cmp);
    let (slowest, middle) = (delays[delays.len() - 1], delays[delays.len() / 2]);
    let cpu = watched - alone;
    table.push(Figure {
        name: LIVE.to_owned(),
        aviary: format!("{cpu:.1} % of a core"),
        rival: String::new(),
        ratio: String::new(),
        goal: format!("at most {LIVE_CPU_GOAL:.0} %"),
        met: cpu <= LIVE_CPU_GOAL,
    });
    table.push(Figure {
        name: "pages, a loss on the page".to_owned(),
        aviary: format!("{slowest:.2} s at most, {middle:.2} s in the middle"),
        rival: String::new(),
        ratio: String::new(),
        goal: format!("{LIVE_DELAY_GOAL_SECONDS:.0} s"),
        met: slowest <= LIVE_DELAY_GOAL_SECONDS,
    });
    table.note(format!(
        "{LIVE}: {} series told each second over HTTP to `aviary run`, whose CPU without viewers ({alone:.1} %) is taken from that with them \
         ({watched:.1} %), {seconds} s each; {} look at the same page and one at another. A loss: from the acknowledgement of its report until that \
         one was told of it, {} times.",
        agents * 1_000,
        VIEWERS - 1,
        delays.len()
    ));
    Ok(())
}
