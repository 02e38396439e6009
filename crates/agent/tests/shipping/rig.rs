//! A collector that answers as a script says and keeps what it was sent, and an agent that reports to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aviary_agent::{Agent, AgentSeries, Assignment, Options, Push, Token};
use aviary_core::{Clock as _, Endpoint, Micros, Outcome, Second, Timestamp, Vantage, VantageKind};
use aviary_probe::{
    KeyExchange, SystemClock, Target, TlsClient, install_crypto_provider,
    scripted::{PausedClock, Scripted, Weather},
};
use aviary_store::{Limits, Spool};
use aviary_wire::report::{REPORT_BYTES_MAX, Report, Roster, RosterSeries};
use flate2::read::GzDecoder;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

pub(crate) const TOKEN: &str = "agent-token-of-some-length";

/// The port of the first series; the others follow.
const FIRST_PORT: u16 = 1_000;

/// What is waited for comes by then, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a collector does about a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Take,
    Say { status: u16, headers: &'static str, body: String },
    Hang,
}

impl Answer {
    /// An error as our collectors tell it.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"as the script says","detail":null}}}}"#);
        Self::Say { status, headers: "Content-Type: application/json\r\n", body }
    }

    /// An error of somebody on the way.
    pub(crate) fn foreign(status: u16, body: &str) -> Self {
        Self::Say { status, headers: "Content-Type: text/html\r\n", body: body.to_owned() }
    }

    pub(crate) const fn is_taken(&self) -> bool {
        matches!(self, Self::Take | Self::Say { status: 200, .. })
    }
}

/// A report as it came.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) at: Micros,
    pub(crate) report: Report,
    pub(crate) token: Option<String>,
    /// Its body's bytes, and whether they were compressed.
    pub(crate) body: (usize, bool),
    pub(crate) answer: Answer,
}

type Script = Box<dyn FnMut(&Report) -> Answer + Send>;

/// A scripted collector.
pub(crate) struct Peer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    told: Arc<Mutex<Vec<Told>>>,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl Peer {
    pub(crate) async fn start(script: impl FnMut(&Report) -> Answer + Send + 'static) -> Self {
        let peer = Self::closed(script).await;
        peer.open().await;
        peer
    }

    /// One that refuses connections until it is opened.
    pub(crate) async fn closed(script: impl FnMut(&Report) -> Answer + Send + 'static) -> Self {
        // An address of its own, since connections go out from 127.0.0.1: its port is still free when it comes back.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = std::process::id() << 8 | NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, b, c, d] = number.to_be_bytes();
        let probe = TcpListener::bind((Ipv4Addr::new(127, b | 1, c, d), 0)).await.unwrap();
        Self {
            address: probe.local_addr().unwrap(),
            script: Arc::new(Mutex::new(Box::new(script))),
            told: Arc::default(),
            serving: Mutex::default(),
        }
    }

    pub(crate) async fn open(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let serving = tokio::spawn(accept(listener, Arc::clone(&self.script), Arc::clone(&self.told)));
        *self.serving.lock().unwrap() = Some(serving);
    }

    /// Refuses connections from now on, and cuts those that there are.
    pub(crate) async fn close(&self) {
        let serving = self.serving.lock().unwrap().take().unwrap();
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
    }

    pub(crate) fn answers(&self, script: impl FnMut(&Report) -> Answer + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Everything that came so far.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until `seen` holds of everything that came so far.
    pub(crate) async fn until(&self, seen: impl Fn(&[Told]) -> bool) -> Vec<Told> {
        let since = clock();
        loop {
            // Looked at in place: what an hour left is large, and whoever waits for it runs on this thread as well.
            {
                let told = self.told.lock().unwrap();
                if seen(&told) {
                    return told.clone();
                }
                let waited = clock().since(since);
                assert!(
                    u128::from(waited) < PATIENCE.as_micros(),
                    "{} reports came: {:#?}",
                    told.len(),
                    told.last()
                );
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn accept(listener: TcpListener, script: Arc<Mutex<Script>>, told: Arc<Mutex<Vec<Told>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&script), Arc::clone(&told)));
    }
}

/// Answers the requests of one connection, until the other end has enough of it.
async fn serve(stream: TcpStream, script: Arc<Mutex<Script>>, told: Arc<Mutex<Vec<Told>>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        assert_eq!(head[0], "POST /api/v1/reports HTTP/1.1");
        let header = |wanted: &str| {
            let pairs = head[1..].iter().filter_map(|line| line.split_once(": "));
            pairs
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.to_owned())
                .next()
        };
        let mut body = vec![0; header("content-length").unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await?;
        let is_compressed = header("content-encoding").is_some_and(|encoding| encoding == "gzip");
        let length = body.len();
        if is_compressed {
            let mut plain = Vec::new();
            GzDecoder::new(body.as_slice()).take(REPORT_BYTES_MAX as u64).read_to_end(&mut plain)?;
            body = plain;
        }
        let report = Report::decode(&body).unwrap();
        let answer = script.lock().unwrap()(&report);
        let token = header("authorization");
        let body = (length, is_compressed);
        told.lock().unwrap().push(Told { at: clock(), report, token, body, answer: answer.clone() });
        let (status, headers, body) = match answer {
            Answer::Take => {
                (200, "Content-Type: application/json\r\n", r#"{"slots":1,"too_old":0,"ahead":0}"#.to_owned())
            }
            Answer::Say { status, headers, body } => (status, headers, body),
            Answer::Hang => std::future::pending().await,
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// An agent of `count` series that reports to `peers`, in the weather that each series (by its place) has.
pub(crate) fn agent(
    peers: &[&Peer],
    count: u16,
    weather: impl Fn(u32) -> Weather + Send + Sync + 'static,
) -> Agent<Scripted, SystemClock> {
    let spool = Spool::in_memory(Limits { bytes: 32 << 20, age_seconds: 7_200 });
    agent_with(spool, peers, count, weather)
}

/// The same with a spool that may hold something.
pub(crate) fn agent_with(
    spool: Spool,
    peers: &[&Peer],
    count: u16,
    weather: impl Fn(u32) -> Weather + Send + Sync + 'static,
) -> Agent<Scripted, SystemClock> {
    install_crypto_provider();
    let tls = TlsClient::new(&[], KeyExchange::Classic).unwrap();
    let one = |place: u16| {
        let (name, endpoint) = (name(place), endpoint(place));
        let target = Target::new(endpoint, &name, &tls, None).unwrap();
        AgentSeries { service: "ingest".to_owned(), name, address: None, target }
    };
    let collectors = peers.iter().map(|peer| format!("http://{}", peer.address)).collect();
    let assignment = Assignment {
        vantage: vantage(),
        series: (0..count).map(one).collect(),
        configuration: "test".to_owned(),
        services: None,
    };
    let options = Options {
        assignment,
        boot: 7,
        push: Push { collectors, token: Some(Token::new(TOKEN)), ..Push::default() },
        spool,
        held: None,
        is_durable: false,
        controls: Vec::new(),
        pulse: Box::new(|| ()),
        listener: Box::new(|_| ()),
    };
    let weather = move |address: SocketAddr, _: Timestamp| weather(u32::from(address.port() - FIRST_PORT));
    // Nothing pauses time here, so that the clock of the network is as good as the system's.
    let network = Scripted::new(PausedClock::starting_at(SystemClock.wall()), weather);
    Agent::start(options, network, SystemClock).unwrap()
}

fn name(place: u16) -> String {
    format!("canary.ingest.tcp.node-{place}")
}

fn endpoint(place: u16) -> Endpoint {
    format!("tcp://10.0.0.1:{}", FIRST_PORT + place).parse().unwrap()
}

fn vantage() -> Vantage {
    Vantage {
        kind: VantageKind::External,
        region: "eu".to_owned(),
        zone: None,
        network: None,
        node: "canary-7".to_owned(),
    }
}

/// Who the `count` series were in a life that began at `since`.
pub(crate) fn earlier_roster(since: Second, count: u16) -> Roster {
    let one = |place| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: endpoint(place),
        address: None,
        name: name(place),
        from: since,
    };
    Roster { vantage: vantage(), since, series: (0..count).map(one).collect() }
}

/// Weather in which everything is delivered.
pub(crate) fn clear(_: u32) -> Weather {
    Weather::Clear(Duration::ZERO)
}

/// What `peers` took, slot by slot. No slot may have two outcomes, and none of any series may lack from the first second
/// to a common end.
pub(crate) fn whole(peers: &[&Peer]) -> BTreeMap<(u32, Second), Outcome> {
    let mut taken: BTreeMap<(u32, Second), Outcome> = BTreeMap::new();
    let mut rosters = Vec::new();
    for told in peers.iter().flat_map(|peer| peer.told()).filter(|told| told.answer == Answer::Take) {
        for (place, second, outcome) in slots(&told.report) {
            let before = *taken.entry((place, second)).or_insert(outcome);
            assert_eq!(before, outcome, "series {place} at {second} has two outcomes");
        }
        rosters.extend(told.report.roster);
    }
    let roster = rosters.first().expect("a report with the roster was taken");
    let end = taken.keys().map(|(_, second)| second.plus(1)).max().expect("slots were taken");
    let from = roster.series[0].from;
    assert!(end.0 - from.0 >= 2, "hardly a second from {from} to {end}");
    for place in 0..roster.series.len() as u32 {
        for second in from.0..end.0 {
            let slot = (place, Second(second));
            assert!(taken.contains_key(&slot), "series {place} lacks {second} of {from} to {end}");
        }
    }
    assert_eq!(taken.len() as u64, roster.series.len() as u64 * (end.0 - from.0), "none is before the first");
    taken
}

/// Every slot that a report speaks of.
pub(crate) fn slots(report: &Report) -> Vec<(u32, Second, Outcome)> {
    let gaps = report.gaps.iter().flat_map(|gap| {
        (gap.first..gap.first + gap.count)
            .flat_map(move |place| gap.span.iter().map(move |second| (place, second, gap.outcome)))
    });
    report.slots.iter().map(|slot| (slot.series, slot.second, slot.outcome)).chain(gaps).collect()
}

/// The slots that were refused and never taken.
pub(crate) fn refused(told: &[Told]) -> BTreeSet<(u32, Second)> {
    let of = |is_taken: bool| -> BTreeSet<_> {
        let told = told.iter().filter(|told| told.answer.is_taken() == is_taken);
        told.flat_map(|told| slots(&told.report)).map(|(place, second, _)| (place, second)).collect()
    };
    &of(false) - &of(true)
}

/// Waits until `seen` holds.
pub(crate) async fn until(seen: impl Fn() -> bool) {
    let seen = async {
        while !seen() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, seen).await.expect("it comes");
}

/// The monotonic clock.
pub(crate) fn clock() -> Micros {
    SystemClock.monotonic()
}

/// Milliseconds from one to the other.
pub(crate) fn millis(from: Micros, until: Micros) -> u64 {
    until.since(from) / 1_000
}
