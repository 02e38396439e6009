//! A collector that records every statement that it takes: what an agent said of each second of each series, and when.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Read as _},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant, SystemTime},
};

use aviary_core::{Outcome, Second, Span};
use aviary_wire::report::{REPORT_BYTES_MAX, Report};
use flate2::read::GzDecoder;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
};

use super::ports::Port;

/// A body of an agent is far below this.
const BODY_BYTES_MAX: usize = 2 * REPORT_BYTES_MAX;

/// The recording collector. Opened and closed as a service that is restarted, and made to hang as one that is frozen.
pub(crate) struct Recorder {
    port: Port,
    runtime: Runtime,
    record: Arc<Mutex<Record>>,
    serving: Option<JoinHandle<()>>,
}

/// What was taken.
#[derive(Default)]
struct Record {
    hangs: bool,
    /// The names and first seconds of the series of each roster.
    rosters: HashMap<u64, Vec<(String, Second)>>,
    said: Said,
    told: Vec<Told>,
    advice: Option<Advice>,
}

/// What it advises in each answer for the agent's own node, in one service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advice {
    /// The service.
    pub(crate) service: &'static str,
    /// `out` or `returning`.
    pub(crate) state: &'static str,
    /// In per cent.
    pub(crate) weight: u8,
    /// How long each answer is good for.
    pub(crate) lease: Duration,
}

/// What was said of each second of each series, by name: the outcomes that differ, in the order in which they came.
pub(crate) type Said = BTreeMap<String, BTreeMap<Second, Vec<Outcome>>>;

/// A report that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) epoch: u32,
    pub(crate) dropped: u64,
    pub(crate) self_suspect: Vec<Span>,
}

impl Recorder {
    /// One that takes everything.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let mut recorder = Self::closed();
        recorder.open();
        recorder
    }

    /// One that refuses connections until it is opened.
    #[track_caller]
    pub(crate) fn closed() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads and files are left");
        Self { port: Port::claim(), runtime, record: Arc::default(), serving: None }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Takes reports from now on.
    #[track_caller]
    pub(crate) fn open(&mut self) {
        let address: SocketAddr = self.port.address();
        let listener = self.runtime.block_on(TcpListener::bind(address)).expect("the port is claimed");
        self.serving = Some(self.runtime.spawn(accept(listener, Arc::clone(&self.record))));
    }

    /// Refuses connections from now on, and cuts those that there are.
    pub(crate) fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let ended = self.runtime.block_on(serving);
            assert!(ended.is_err_and(|error| error.is_cancelled()), "it serves until it is closed");
        }
    }

    /// Takes connections and reads, but neither answers nor records.
    pub(crate) fn hang(&self, hangs: bool) {
        self.lock().hangs = hangs;
    }

    /// Advises this from the next answer on.
    pub(crate) fn advise(&self, advice: Option<Advice>) {
        self.lock().advice = advice;
    }

    /// Everything that was said so far.
    pub(crate) fn said(&self) -> Said {
        self.lock().said.clone()
    }

    /// The reports that were taken so far.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.lock().told.clone()
    }

    /// Waits until `seen` holds of everything that was said.
    #[track_caller]
    pub(crate) fn until(&self, patience: Duration, seen: impl Fn(&Said) -> bool) {
        let deadline = Instant::now() + patience;
        while !seen(&self.lock().said) {
            assert!(Instant::now() < deadline, "not within {patience:?}: {}", summary(&self.said()));
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("whoever records does not panic")
    }
}

impl Record {
    /// What stands in an answer of what is advised.
    fn advised(&self) -> String {
        let Some(Advice { service, state, weight, lease }) = self.advice else { return String::new() };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let advice = serde_json::json!({"state": state, "weight": weight, "reason": "the recorder says so",
            "until_us": (now + lease).as_micros() as u64});
        format!(",\"rotation\":{{\"{service}\":{advice}}}")
    }

    /// Takes a report, or returns the code of the error for it.
    fn take(&mut self, body: &[u8]) -> Result<u64, &'static str> {
        let report = Report::decode(body).map_err(|_| "bad_report")?;
        if let Some(roster) = &report.roster {
            assert_eq!(roster.id(), report.roster_id);
            let series = roster.series.iter().map(|series| (series.name.clone(), series.from));
            self.rosters.insert(report.roster_id, series.collect());
        }
        let roster = self.rosters.get(&report.roster_id).ok_or("unknown_roster")?;
        let singles = report
            .slots
            .iter()
            .map(|slot| (slot.series, Span::new(slot.second, slot.second.plus(1)), slot.outcome));
        let gaps = report
            .gaps
            .iter()
            .flat_map(|gap| (gap.first..gap.first + gap.count).map(|place| (place, gap.span, gap.outcome)));
        let mut count = 0;
        for (place, span, outcome) in singles.chain(gaps) {
            let (name, _) = &roster[place as usize];
            let seconds = self.said.entry(name.clone()).or_default();
            for second in span.iter() {
                let outcomes = seconds.entry(second).or_default();
                if !outcomes.contains(&outcome) {
                    outcomes.push(outcome);
                }
                count += 1;
            }
        }
        let Report { epoch, dropped, self_suspect, .. } = report;
        self.told.push(Told { epoch, dropped, self_suspect });
        Ok(count)
    }
}

async fn accept(listener: TcpListener, record: Arc<Mutex<Record>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(serve(stream, Arc::clone(&record)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, record: Arc<Mutex<Record>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head: HashMap<String, String> = HashMap::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) => _ = head.insert(name.to_ascii_lowercase(), value.to_owned()),
                None if line.trim_end().is_empty() => break,
                None => assert_eq!(line, "POST /api/v1/reports HTTP/1.1\r\n"),
            }
        }
        let length: usize = head["content-length"].parse().expect("a length");
        assert!(length <= BODY_BYTES_MAX, "a body of {length} bytes");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if head.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            let mut plain = Vec::new();
            GzDecoder::new(body.as_slice()).take(BODY_BYTES_MAX as u64).read_to_end(&mut plain)?;
            body = plain;
        }
        let taken = {
            let mut record = record.lock().expect("whoever records does not panic");
            if record.hangs { None } else { Some(record.take(&body).map(|slots| (slots, record.advised()))) }
        };
        let (status, body) = match taken {
            Some(Ok((slots, advised))) => {
                ("200 OK", format!("{{\"slots\":{slots},\"too_old\":0,\"ahead\":0{advised}}}"))
            }
            Some(Err(code)) => {
                ("400 Bad Request", format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"recorder\"}}}}"))
            }
            None => std::future::pending().await,
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + &body).as_bytes()).await?;
    }
}

/// The word for an outcome: its class, and for our own faults which.
pub(crate) fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered(_) => "delivered".to_owned(),
        Outcome::Lost { phase, fault } => format!("lost {} {}", phase.name(), fault.name()),
        Outcome::Local { fault, .. } => format!("local {}", fault.name()),
        Outcome::Missed => "missed".to_owned(),
        Outcome::Muted => "muted".to_owned(),
    }
}

/// How often each outcome was said, of each series.
pub(crate) fn summary(said: &Said) -> String {
    let lines = said.iter().map(|(name, seconds)| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for outcomes in seconds.values() {
            let words: Vec<_> = outcomes.iter().map(word).collect();
            *counts.entry(words.join(" then ")).or_default() += 1;
        }
        let (first, last) = (seconds.keys().next(), seconds.keys().next_back());
        format!("{name} from {first:?} to {last:?}: {counts:?}\n")
    });
    lines.collect()
}

/// The one outcome of each second of each series. Panics where one has none from the first second of any to the last, or
/// has two.
#[track_caller]
pub(crate) fn whole(said: &Said) -> BTreeMap<String, BTreeMap<Second, Outcome>> {
    let from = said.values().filter_map(|seconds| seconds.keys().next()).min().expect("something was said");
    let last =
        said.values().filter_map(|seconds| seconds.keys().next_back()).max().expect("something was said");
    let mut faults = BTreeSet::new();
    for (name, seconds) in said {
        for second in Span::new(*from, last.plus(1)).iter() {
            match seconds.get(&second).map(Vec::as_slice) {
                Some([_]) => {}
                None => _ = faults.insert((second, name, "nothing".to_owned())),
                Some(several) => {
                    let words: Vec<_> = several.iter().map(word).collect();
                    faults.insert((second, name, words.join(", then ")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "not one outcome each: {faults:#?}\nof\n{}", summary(said));
    let one =
        |seconds: &BTreeMap<Second, Vec<Outcome>>| seconds.iter().map(|(at, it)| (*at, it[0])).collect();
    said.iter().map(|(name, seconds)| (name.clone(), one(seconds))).collect()
}
