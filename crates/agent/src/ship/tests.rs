//! The shipper with a collector of a few lines: it answers as a test says, and notes what it took.

use std::{collections::BTreeMap, io::Read as _};

use aviary_core::{Evidence, Outcome, Span, VantageKind};
use aviary_probe::{SystemClock, scripted::PausedClock};
use aviary_store::{Limits, Record, Spool};
use aviary_wire::report::{ClosedSlot, Roster, RosterSeries};
use flate2::read::GzDecoder;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;

const NOW: Second = Second(1_763_690_400);
const TAKEN: (u16, &str) = (200, r#"{"slots":1,"now_us":1}"#);

type Script = dyn Fn(&Report) -> Option<(u16, &'static str)> + Send + Sync;

/// A collector that answers a report as a script says, or not at all.
struct Collector {
    url: String,
    /// How often each slot was taken, by the life that told it and its second.
    taken: Arc<Mutex<BTreeMap<(u64, u64), usize>>>,
    /// The size and encoding of each request.
    asked: Arc<Mutex<Vec<(usize, bool)>>>,
}

impl Collector {
    async fn start(script: impl Fn(&Report) -> Option<(u16, &'static str)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (taken, asked) = (Arc::default(), Arc::default());
        let (notes, requests) = (Arc::clone(&taken), Arc::clone(&asked));
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (notes, requests, script) =
                    (Arc::clone(&notes), Arc::clone(&requests), Arc::clone(&script));
                tokio::spawn(async move { answer(stream, &notes, &requests, &*script).await });
            }
        });
        Self { url, taken, asked }
    }

    fn taken(&self) -> BTreeMap<(u64, u64), usize> {
        self.taken.lock().unwrap().clone()
    }

    /// Waits until `seen` holds of what was taken.
    async fn until(&self, seen: impl Fn(&BTreeMap<(u64, u64), usize>) -> bool) {
        let taken = async {
            while !seen(&self.taken()) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), taken).await.expect("it is taken");
    }

    fn pusher(&self) -> (Pusher, Push) {
        aviary_probe::install_crypto_provider();
        let push = Push { collectors: vec![self.url.clone()], ..Push::default() };
        (Pusher::new(&push, 1).unwrap(), push)
    }
}

async fn answer(
    mut stream: TcpStream,
    taken: &Mutex<BTreeMap<(u64, u64), usize>>,
    asked: &Mutex<Vec<(usize, bool)>>,
    script: &Script,
) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
        while bytes.len() < end + length {
            stream.read_buf(&mut bytes).await.ok()?;
        }
        let body = bytes.drain(..end + length).skip(end).collect::<Vec<_>>();
        let is_gzip = head.contains("content-encoding: gzip");
        let mut plain = Vec::new();
        if is_gzip {
            GzDecoder::new(&body[..]).read_to_end(&mut plain).ok()?;
        } else {
            plain = body;
        }
        asked.lock().unwrap().push((plain.len(), is_gzip));
        let report = Report::decode(&plain).expect("what is pushed is a report");
        let Some((status, body)) = script(&report) else { return std::future::pending().await };
        if status == 200 {
            let mut taken = taken.lock().unwrap();
            report.slots.iter().for_each(|it| *taken.entry((report.boot, it.second.0)).or_default() += 1);
        }
        let length = body.len();
        let response = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(response.as_bytes()).await.ok()?;
    }
}

fn report(boot: u64, second: Second) -> Report {
    let outcome = Outcome::Delivered(Evidence::PeerClosed);
    Report {
        boot,
        sequence: second.0,
        configuration: "c".to_owned(),
        slots: vec![ClosedSlot { series: 0, second, outcome, reached: None, address: None }],
        ..Report::default()
    }
}

fn record(boot: u64, second: Second) -> Record {
    Record { roster: 0, slots: 1, second, body: report(boot, second).encode().into() }
}

fn kept(id: Option<RecordId>, report: &Report) -> Kept {
    let body = Body { report: report.encode().into(), roster_id: 0, roster: None };
    Kept { id, slots: report.slots.len() as u64, body }
}

fn memory() -> Spool {
    Spool::in_memory(Limits { bytes: 64 << 20, age_seconds: 3_600 })
}

struct Rig {
    batch: Arc<Batch>,
    fresh: Arc<Fresh>,
    spool: SpoolThread,
    shipper: JoinHandle<u64>,
    leases: watch::Receiver<Leases>,
    _redirect: watch::Sender<Push>,
}

/// One that pushes to `collector`, with whoever can redirect it.
fn shipper(collector: &Collector, spool: SpoolThread) -> (Shipper<PausedClock>, watch::Sender<Push>) {
    let (pusher, push) = collector.pusher();
    let (redirect, redirected) = watch::channel(push);
    let shipper = Shipper::new(
        Arc::default(),
        PausedClock::starting_at(NOW.start()),
        spool,
        Arc::default(),
        (pusher, 1, redirected),
        (Arc::default(), watch::Sender::new(Leases::default()), watch::Sender::new(None)),
    );
    (shipper, redirect)
}

impl Rig {
    fn new(collector: &Collector, spool: SpoolThread) -> Self {
        let (shipper, redirect) = shipper(collector, spool.clone());
        let (batch, fresh) = (Arc::clone(&shipper.batch), Arc::clone(&shipper.fresh));
        let leases = shipper.leases.subscribe();
        Self { batch, fresh, spool, shipper: tokio::spawn(shipper.run()), leases, _redirect: redirect }
    }

    /// As the keeper does it: where the spool hangs, it is told all the same.
    async fn tell(&self, boot: u64, second: Second) {
        let ids = self.spool.keep(None, vec![record(boot, second)]).await.unwrap_or_default();
        let id = ids.into_iter().next().flatten();
        self.fresh.put(vec![kept(id, &report(boot, second))], false);
    }

    async fn end(self) -> u64 {
        self.batch.finish();
        self.fresh.put(Vec::new(), true);
        timeout(Duration::from_secs(20), self.shipper).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_backlog_has_its_turn_while_fresh_reports_never_end() {
    let collector = Collector::start(|_| Some(TAKEN)).await;
    let mut spool = memory();
    for boot in 100..104 {
        spool.append(record(boot, NOW)).unwrap();
    }
    let rig = Rig::new(&collector, SpoolThread::start(spool, false).unwrap());
    let of_earlier_lives = || collector.taken().keys().filter(|(boot, _)| *boot >= 100).count();
    let began = SystemClock.monotonic();
    let mut told = 0;
    while told < 1_000 || (of_earlier_lives() < 4 && told < 5_000) {
        rig.tell(1, NOW.plus(told)).await;
        sleep(Duration::from_millis(2)).await;
        told += 1;
    }
    assert_eq!(of_earlier_lives(), 4, "every one of four lives is told, beside {told} slots");
    assert_eq!(rig.end().await, 0);
    let turns = SystemClock.monotonic().since(began) / CATCH_UP_GAP.as_micros() as u64;
    let taken = collector.taken();
    assert_eq!(taken.len() as u64, told + 4);
    // In a turn of the backlog, what is just on its way to be pushed.
    let twice = taken.values().filter(|times| **times > 1).count() as u64;
    assert!(twice < turns + 10, "{twice} are told twice in {turns} turns");
}

#[tokio::test]
async fn what_a_disk_that_hung_has_is_pushed_when_it_answers() {
    let collector = Collector::start(|_| Some(TAKEN)).await;
    let mut spool = memory();
    spool.append(record(100, NOW)).unwrap();
    let spool = SpoolThread::start_after(spool, false, Duration::from_secs(5)).unwrap();
    let rig = Rig::new(&collector, spool);
    // What is in no spool is told at once all the same.
    rig.fresh.put(vec![kept(None, &report(1, NOW))], false);
    collector.until(|taken| !taken.is_empty()).await;
    assert_eq!(collector.taken().into_keys().collect::<Vec<_>>(), [(1, NOW.0)]);
    collector.until(|taken| taken.len() > 1).await;
    assert_eq!(collector.taken().into_keys().collect::<Vec<_>>(), [(1, NOW.0), (100, NOW.0)]);
    assert_eq!(rig.end().await, 0);
}

#[tokio::test]
async fn one_report_that_no_collector_can_take_holds_up_no_other() {
    let is_poison = |report: &Report| report.slots.iter().any(|slot| slot.second == NOW.plus(2));
    let collector =
        Collector::start(move |report| Some(if is_poison(report) { (500, "{}") } else { TAKEN })).await;
    let mut spool = memory();
    for slot in 0..5 {
        spool.append(record(1, NOW.plus(slot))).unwrap();
    }
    let rig = Rig::new(&collector, SpoolThread::start(spool, false).unwrap());
    for slot in 10..30 {
        rig.tell(1, NOW.plus(slot)).await;
        sleep(Duration::from_millis(200)).await;
    }
    let is_newer = |(_, second): &&(u64, u64)| *second >= NOW.0 + 10;
    // And one at least of those that waited with it.
    collector.until(|taken| taken.keys().filter(is_newer).count() == 20 && taken.len() > 20).await;
    assert!(rig.end().await <= 4);
}

#[tokio::test]
async fn of_many_reports_only_the_bad_one_is_refused() {
    let is_bad = |report: &Report| report.slots.iter().any(|slot| slot.second == NOW.plus(2));
    let refusal = (400, r#"{"error":{"code":"bad_report","message":"no"}}"#);
    let collector = Collector::start(move |report| Some(if is_bad(report) { refusal } else { TAKEN })).await;
    let mut spool = memory();
    for slot in 0..10 {
        spool.append(record(1, NOW.plus(slot))).unwrap();
    }
    let rig = Rig::new(&collector, SpoolThread::start(spool, false).unwrap());
    collector.until(|taken| taken.len() == 9 && rig.batch.stats().dropped > 0).await;
    let lost = rig.batch.stats().dropped;
    assert_eq!(rig.end().await, 0);
    assert_eq!((collector.taken().len(), lost), (9, 1));
}

#[tokio::test]
async fn what_is_in_no_spool_survives_a_push_that_is_broken_off_and_is_counted() {
    let collector = Collector::start(|_| None).await;
    let mut spool = memory();
    let id = spool.append(record(1, NOW)).unwrap();
    let rig = Rig::new(&collector, SpoolThread::start(spool, false).unwrap());
    // One that is spooled and one that is not go together.
    rig.fresh.put(vec![kept(None, &report(1, NOW.plus(1))), kept(Some(id), &report(1, NOW))], false);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.end().await, 2, "both are still there");
}

#[tokio::test]
async fn what_is_in_no_spool_survives_an_end_that_comes_while_the_spool_is_asked() {
    let collector = Collector::start(|_| Some(TAKEN)).await;
    let spool = SpoolThread::start(memory(), false).unwrap();
    let (mut shipper, _redirect) = shipper(&collector, spool);
    let fresh = Arc::clone(&shipper.fresh);
    sleep(CATCH_UP_GAP).await;
    let is_broken_off = (0..100).any(|_| {
        fresh.take();
        fresh.put(vec![kept(None, &report(1, NOW))], false);
        // Then the spool is asked first.
        (shipper.has_backlog, shipper.caught_up) = (true, Micros(0));
        // The thread of the spool may answer at once.
        shipper.next().now_or_never().is_none()
    });
    assert!(is_broken_off);
    assert_eq!(fresh.unkept_slots(), 1, "it is in nobody's hand");
}

#[tokio::test]
async fn plain_bodies_are_sent_to_whoever_understands_no_others_and_no_more_is_made_of_it() {
    let collector = Collector::start(|_| Some((415, "{}"))).await;
    let (mut pusher, _) = collector.pusher();
    let large = Report { configuration: "c".repeat(2_000), ..report(1, NOW) };
    let large = Report {
        gaps: (0..1_000)
            .map(|at| aviary_wire::report::Gap {
                first: 0,
                count: 1,
                span: Span::before(NOW.minus(at * 2), 1),
                outcome: Outcome::Missed,
            })
            .collect(),
        ..large
    };
    let body = kept(None, &large).body;
    assert_eq!(pusher.push(&body).await, Pushed::Again);
    assert!(matches!(pusher.push(&body).await, Pushed::Later(pause) if !pause.is_zero()), "no hot loop");
    let encodings: Vec<_> = collector.asked.lock().unwrap().iter().map(|(_, is_gzip)| *is_gzip).collect();
    assert_eq!(encodings, [true, false]);
}

#[tokio::test]
async fn a_roster_that_leaves_no_room_for_a_report_goes_ahead() {
    let collector = Collector::start(|_| Some(TAKEN)).await;
    let (mut pusher, _) = collector.pusher();
    let one = |number: usize| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: "tcp://192.0.2.1:2003".parse().unwrap(),
        address: None,
        name: format!("canary.{}.{number}", "long".repeat(500)),
        from: NOW,
    };
    let vantage = aviary_core::Vantage {
        kind: VantageKind::External,
        region: "eu".to_owned(),
        zone: None,
        network: None,
        node: "n".to_owned(),
    };
    let roster = Roster { vantage, since: NOW, series: (0..2_000).map(one).collect() };
    let outcome = Outcome::Delivered(Evidence::PeerClosed);
    let slot = |number: u64| ClosedSlot {
        series: if number.is_multiple_of(2) { 1 } else { 1_900 },
        second: NOW.plus(number),
        outcome,
        reached: None,
        address: None,
    };
    let told = Report { roster_id: roster.id(), slots: (0..20_000).map(slot).collect(), ..report(1, NOW) };
    let (report, roster_id) = (Bytes::from(told.encode()), roster.id());
    let body = Body { report, roster_id, roster: Some(roster.encode_part().into()) };
    assert!(matches!(pusher.push(&body).await, Pushed::Taken { .. }));
    assert_eq!(collector.taken().len(), 20_000);
    assert_eq!(collector.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_collector_advises_is_held_until_it_answers_otherwise() {
    // What follows what it took; `now_us` is the paused clock's, so that a minute is left.
    let answers = [
        (r#","rotation":{"a":{"state":"out","weight":0,"reason":"r","until_us":1763690460000000}}"#, Some(0)),
        (r#","rotation":{"a":{"state":"returning","weight":25,"until_us":1763690460000000}}"#, Some(25)),
        (r#","rotation":{"a":{"state":"sideways","until_us":1763690460000000},"b":7}"#, None),
        (r#","rotation":{"a":{"state":"out","until_us":1763690460000000,"zone":"z"},"b":7}"#, Some(0)),
        (r#","rotation":["a"]"#, None),
        (r#","rotation":null"#, None),
        (r#","rotation":{"a":{"state":"out","until_us":1763690400000000}}"#, None),
        ("", None),
    ];
    let bodies = answers.map(|(rest, _)| {
        let body = format!(r#"{{"slots":1,"now_us":1763690400000000{rest}}}"#);
        &*Box::leak(body.into_boxed_str())
    });
    let collector = Collector::start(move |report| Some((200, bodies[report.sequence as usize]))).await;
    let mut rig = Rig::new(&collector, SpoolThread::start(memory(), false).unwrap());
    // Half a minute after the clock began: whatever is held for longer is still held then.
    let now = (NOW.plus(30).start(), Micros(30_000_000));
    for (turn, (rest, expected)) in answers.into_iter().enumerate() {
        let told = Report { sequence: turn as u64, ..report(1, NOW.plus(turn as u64)) };
        rig.fresh.put(vec![kept(None, &told)], false);
        timeout(Duration::from_secs(5), rig.leases.changed()).await.expect("each answer is told").unwrap();
        let weight = rig.leases.borrow_and_update().of("a", now).map(|lease| lease.weight);
        assert_eq!(weight, expected, "{rest}");
    }
    assert_eq!(rig.end().await, 0, "whatever it says, it took the report");
}
