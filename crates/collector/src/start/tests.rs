use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use aviary_core::{Clock, Micros, Second, Timestamp, Vantage, VantageKind};
use aviary_store::{Batch, MemoryStore};
use aviary_wire::report::Roster;

use super::*;
use crate::{
    Collector, Options, ServiceOptions, services,
    troubled::{Trouble, Troubled},
};

const NOW: Timestamp = Timestamp(1_763_690_400_000_000);

#[derive(Clone)]
struct Stopped;

impl Clock for Stopped {
    fn wall(&self) -> Timestamp {
        NOW
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

/// A clock that goes when it is told to.
#[derive(Clone, Default)]
struct Wound(Arc<std::sync::atomic::AtomicU64>);

impl Clock for Wound {
    fn wall(&self) -> Timestamp {
        NOW.plus(self.monotonic().0)
    }

    fn monotonic(&self) -> Micros {
        Micros(self.0.load(Ordering::SeqCst))
    }
}

/// The journal is shown report by report, when it is told to.
struct Slow {
    go: Mutex<Receiver<()>>,
}

impl Trouble for Slow {
    fn show<'a>(&self, table: Table, value: &'a [u8]) -> &'a [u8] {
        if table == Table::Journal {
            self.go.lock().unwrap().recv().unwrap();
        }
        value
    }
}

/// A store with so many reports in its journal.
fn journalled(reports: u64) -> (Troubled<Slow>, SyncSender<()>) {
    let (go, waits) = sync_channel(0);
    let store = Troubled { store: Arc::default(), trouble: Slow { go: Mutex::new(waits) } };
    let vantage = Vantage {
        kind: VantageKind::External,
        region: "eu".to_owned(),
        zone: None,
        network: None,
        node: "n".to_owned(),
    };
    let roster = Roster { vantage, since: Second(0), series: Vec::new() };
    for number in 0..reports {
        let report = Report {
            boot: 1,
            sequence: number,
            configuration: "test".to_owned(),
            roster_id: roster.id(),
            roster: (number == 0).then(|| roster.clone()),
            ..Report::default()
        };
        let entry = journal::entry(NOW, "eu", &report.encode());
        let put = vec![(Table::Journal, journal::key(number), entry)];
        store.commit(Batch { put, ..Batch::default() }).unwrap();
    }
    (store, go)
}

async fn ask(address: SocketAddr, head: &'static str) -> String {
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{head} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.to_lowercase()
    });
    asked.await.unwrap()
}

/// What `GET /readyz` answers, once it says `expected`.
async fn ready(address: SocketAddr, expected: &str) -> String {
    for _ in 0..3_000 {
        let answer = ask(address, "GET /readyz").await;
        if answer.contains(expected) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never says {expected}: {}", ask(address, "GET /readyz").await);
}

#[tokio::test]
async fn until_all_is_taken_up_it_says_how_much_is_and_answers_nobody() {
    let (store, go) = journalled(4);
    let options = Options { store: Some(Arc::new(store)), ..Options::default() };
    let collector = Collector::new(options, Stopped).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = collector.serve(listener);
    for (replayed, taken) in
        ["0.0", "0.25", "0.5", "0.75"].into_iter().enumerate().map(|(at, share)| (share, at))
    {
        let answer = ready(address, &format!("{{\"status\":\"not_ready\",\"replayed\":{replayed}}}")).await;
        assert!(answer.starts_with("http/1.0 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
        for head in ["POST /api/v1/reports", "GET /api/v1/sums", "POST /api/v1/store/backup"] {
            let answer = ask(address, head).await;
            assert!(answer.starts_with("http/1.0 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
            assert!(answer.contains("\"code\":\"not_ready\""), "{answer}");
        }
        assert!(ask(address, "GET /").await.starts_with("http/1.0 503 "));
        // What to do while it is so can be read.
        assert!(ask(address, "GET /runbooks/collector-not-ready").await.starts_with("http/1.0 200 "));
        assert!(ask(address, "GET /healthz").await.starts_with("http/1.0 200 "));
        assert!(ask(address, "GET /services/health").await.starts_with("http/1.0 503 "));
        let answer = ask(address, "GET /ingest/health").await;
        assert!(answer.starts_with("http/1.0 200 ") && answer.contains("\"state\":\"starting\""), "{answer}");
        assert_eq!(collector.standing().1.reports, 0, "{taken} of 4 are applied where nobody sees them");
        go.send(()).unwrap();
    }
    let answer = ready(address, "{\"status\":\"ready\"}").await;
    assert!(answer.starts_with("http/1.0 200 "), "{answer}");
    assert_eq!(collector.standing().1.reports, 4);
    assert!(ask(address, "GET /api/v1/sums").await.starts_with("http/1.0 200 "));
    server.stop().await;
    collector.close().await;
}

#[tokio::test]
async fn a_report_that_cannot_be_read_keeps_it_from_starting() {
    let (store, go) = journalled(2);
    let put = vec![(Table::Journal, journal::key(1), journal::entry(NOW, "eu", b"hello"))];
    store.commit(Batch { put, ..Batch::default() }).unwrap();
    let collector =
        Collector::new(Options { store: Some(Arc::new(store)), ..Options::default() }, Stopped).unwrap();
    let telling = tokio::task::spawn_blocking(move || (0..2).for_each(|_| go.send(()).unwrap()));
    let why = collector.failed().await.to_string();
    assert!(why.contains("the memory is damaged at journal 1: "), "{why}");
    assert!(collector.replaying().is_some(), "and it is never ready");
    telling.await.unwrap();
}

#[tokio::test]
async fn an_end_does_not_wait_for_a_long_replay() {
    const REPORTS: u64 = 1_500;
    let (store, go) = journalled(REPORTS);
    let collector =
        Collector::new(Options { store: Some(Arc::new(store)), ..Options::default() }, Stopped).unwrap();
    let ended = {
        let collector = collector.clone();
        tokio::spawn(async move { collector.close().await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The one that is under way, and those that come before the end is noticed.
    let mut shown = 0;
    while !ended.is_finished() {
        shown += u64::from(go.try_send(()).is_ok());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ended.await.unwrap();
    assert!(shown < REPORTS && collector.replaying().is_some(), "{shown} were replayed");
}

#[tokio::test]
async fn each_minute_a_checkpoint_takes_the_place_of_the_journal() {
    let (slow, go) = journalled(3);
    let store = Arc::new(slow);
    let clock = Wound::default();
    let options = Options { store: Some(Arc::clone(&store) as Arc<dyn Store>), ..Options::default() };
    let collector = Collector::new(options, clock.clone()).unwrap();
    (0..3).for_each(|_| go.send(()).unwrap());
    let records = |table: Table| {
        let mut records = 0;
        let counted = store.store.range(table, &[], &[u8::MAX; 9], &mut |_, _| {
            records += 1;
            ControlFlow::Continue(())
        });
        counted.unwrap();
        records
    };
    let mut minutes = 0;
    for _ in 0..1_500 {
        if records(Table::Journal) == 0 {
            break;
        }
        // Its thread looks at the clock when it begins, which may be later than the first minute.
        if collector.replaying().is_none() {
            minutes += 1;
            clock.0.fetch_add(CHECKPOINT_US / 10, Ordering::SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(records(Table::Journal) == 0 && minutes >= 10, "{minutes} tenths of a minute");
    assert!(records(Table::Checkpoint) > 2);
    let kept = Checkpoint::read(&*store.store).unwrap().unwrap();
    assert_eq!((kept.covers, kept.kept.agents.len(), kept.kept.rosters.len()), (3, 1, 1));
    collector.close().await;
}

#[tokio::test]
async fn a_configured_service_is_known_to_whoever_asks_first() {
    let service = |name: &str| ServiceOptions::unconfigured(name);
    let stores: [Option<Arc<dyn Store>>; 2] = [None, Some(Arc::new(MemoryStore::default()))];
    for store in stores {
        let options = Options { store, services: vec![service("ingest")], ..Options::default() };
        let collector = Collector::new(options, Stopped).unwrap();
        while collector.replaying().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let known = |name: &str| services::one(&collector.state(), &BTreeMap::new(), name).is_some();
        assert!(known("ingest"), "before any report, and before any second was judged");
        collector.take_on(vec![service("billing")], None);
        assert!(known("billing") && !known("ingest"), "from the reload on");
        collector.close().await;
    }
}
