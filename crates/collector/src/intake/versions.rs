//! Reports of other versions at the door, and what other versions kept.
#![expect(clippy::disallowed_methods, reason = "who asks here goes to an address of this process")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{Clock, Micros, Second, Timestamp};
use aviary_store::{Batch, FILE_NAME, MemoryStore, RedbStore, Store, StoreError, Table};
use aviary_wire::report::{Report, Roster, Version};
use axum::body::{Bytes, to_bytes};
use flate2::read::GzDecoder;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{Collector, Options, journal, slots};

/// What version 1 left.
fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/versions/1")
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(recorded().join(name)).unwrap()).unwrap()
}

/// A wall clock that is set, in microseconds.
#[derive(Clone, Default)]
struct Stage(Arc<AtomicU64>);

impl Clock for Stage {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

/// A collector that is asked over HTTP.
struct Door {
    collector: Collector,
    address: std::net::SocketAddr,
    stage: Stage,
    server: crate::Server,
}

impl Door {
    async fn open(store: Arc<dyn Store>, now_us: u64) -> Self {
        let stage = Stage::default();
        stage.0.store(now_us, Ordering::SeqCst);
        let collector =
            Collector::new(Options { store: Some(store), ..Options::default() }, stage.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = collector.serve(listener);
        for _ in 0..2_000 {
            if collector.replaying().is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(collector.replaying().is_none(), "it is never ready");
        Self { collector, address, stage, server }
    }

    /// A push; the status, the head and the JSON of the answer.
    async fn push(&self, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head = format!(
            "POST /api/v1/reports HTTP/1.0\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
    }

    /// Every slot that is known in these spans: node, endpoint, second; with its class, phase and fault.
    async fn known(&self, spans: &[(u64, u64)]) -> Known {
        let collector = self.collector.clone();
        tokio::task::spawn_blocking(move || collector.settle_history()).await.unwrap().unwrap();
        let mut known = Known::new();
        for (from, until) in spans {
            let given = [("from", from), ("until", until)].map(|(key, at)| (key.to_owned(), at.to_string()));
            let query = slots::Query::parse(&given, self.collector.now()).unwrap();
            let answer = slots::answer(&self.collector, query).await.unwrap();
            let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            let answer: Value = serde_json::from_slice(&body).unwrap();
            for series in answer["series"].as_array().unwrap() {
                let tag = |tag: &str| series["tags"][tag].as_str().unwrap().to_owned();
                for slot in series["slots"].as_array().unwrap() {
                    let words = ["outcome", "phase", "fault"].map(|key| slot[key].as_str().unwrap_or(""));
                    if words[0] != "unknown" {
                        let key = (tag("node"), tag("endpoint"), slot["second"].as_u64().unwrap());
                        let was = known.insert(key, words.join(" ").trim().to_owned());
                        assert_eq!(was, None, "told twice");
                    }
                }
            }
        }
        known
    }

    async fn agents(&self) -> Value {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(b"GET /api/v1/agents HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    async fn close(self) {
        self.server.stop().await;
        self.collector.close().await;
    }
}

type Known = BTreeMap<(String, String, u64), String>;

/// What the texts beside the reports say of each slot.
fn said() -> Known {
    let text = fs::read_to_string(recorded().join("reports.txt")).unwrap();
    let mut texts: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("report ") {
            texts.push(String::new());
        }
        if let Some(text) = texts.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    // Rosters first: an early report may refer to one that travelled with a later one.
    texts.sort_by_key(|text| !text.contains("\nroster "));
    let mut rosters: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut known = Known::new();
    for text in &texts {
        let mut roster = String::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let after = |word: &str| words[words.iter().position(|it| *it == word).unwrap() + 1].to_owned();
            let number = |place: usize| words[place].parse::<u64>().unwrap();
            let mut told = |place: u64, second: u64, outcome: &[&str]| {
                let (node, endpoints) = &rosters[&roster];
                // What was merely sent over UDP proves nothing; of what was delivered, the rung is not shown.
                let outcome = match outcome {
                    ["delivered", "sent", ..] => "unproven".to_owned(),
                    ["delivered", ..] => "delivered".to_owned(),
                    ["lost" | "local", phase, fault, ..] => format!("{} {phase} {fault}", outcome[0]),
                    _ => outcome[0].to_owned(),
                };
                let key = (node.clone(), endpoints[place as usize].clone(), second);
                let was = known.insert(key, outcome.clone());
                assert!(was.is_none_or(|was| was == outcome), "said twice, and otherwise: {line}");
            };
            match words[0] {
                "report" => roster = after("roster"),
                "roster" => _ = rosters.entry(roster.clone()).or_insert_with(|| (after("node"), Vec::new())),
                "series" => {
                    let (_, endpoints) = rosters.get_mut(&roster).unwrap();
                    if endpoints.len() as u64 == number(1) {
                        endpoints.push(after("endpoint"));
                    }
                }
                "slot" => told(number(1), number(2), &words[3..]),
                "gap" => {
                    for (place, second) in (number(1)..number(1) + number(3))
                        .flat_map(|place| (number(5)..number(7)).map(move |second| (place, second)))
                    {
                        told(place, second, &words[8..]);
                    }
                }
                _ => {}
            }
        }
    }
    known
}

/// The spans in which `known` has slots: one for each life that was hours before the next.
fn spans(known: &Known) -> Vec<(u64, u64)> {
    let seconds: BTreeSet<u64> = known.keys().map(|(.., second)| *second).collect();
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for second in seconds {
        match spans.last_mut() {
            Some((_, until)) if second < *until + 600 => *until = second + 1,
            _ => spans.push((second, second + 1)),
        }
    }
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_version_1_are_taken_as_they_were_and_the_ledger_has_exactly_their_slots() {
    let pushes = json("pushes.json");
    let pushes = pushes.as_array().unwrap();
    let at = |push: &Value| push["at_us"].as_u64().unwrap();
    let door = Door::open(Arc::new(MemoryStore::default()), at(&pushes[0])).await;
    let bytes = fs::read(recorded().join("reports.bin")).unwrap();
    let mut bytes = bytes.as_slice();
    for (name, push) in pushes.iter().enumerate() {
        door.stage.0.store(at(push), Ordering::SeqCst);
        let (length, rest) = bytes.split_first_chunk::<4>().unwrap();
        let (body, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        bytes = rest;
        let headers = push["headers"].as_object().unwrap().iter();
        let headers: Vec<_> = headers
            .filter(|(name, _)| *name != "content-encoding")
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let (status, _, answer) = door.push(&headers, body).await;
        assert_eq!(u64::from(status), push["status"], "{name}: {answer}");
        for key in ["slots", "too_old", "ahead"] {
            assert_eq!(answer[key], push["answer"][key], "{name}: `{key}`");
        }
        assert_eq!(answer["report_versions"], serde_json::json!([Version::OLDEST.0, Version::NEWEST.0]));
    }
    let said = said();
    let spans = spans(&said);
    assert!(said.len() > 200, "{} slots in {spans:?} prove little", said.len());
    let known = door.known(&spans).await;
    let differs = said.iter().find(|(slot, outcome)| known.get(*slot) != Some(*outcome));
    assert_eq!(differs, None, "said, and not known: {:?}", differs.and_then(|(slot, _)| known.get(slot)));
    let more = known.iter().find(|(slot, _)| !said.contains_key(*slot));
    assert_eq!(more, None, "known, and not said");
    let agents = door.agents().await;
    assert_eq!(agents["agents"].as_array().map(Vec::len), Some(1), "{agents}");
    assert_eq!(
        (&agents["agents"][0]["report_version"], &agents["agents"][0]["program"]),
        (&1.into(), &Value::Null)
    );
    door.close().await;
}

fn report(program: &str) -> Report {
    let now = Second(1_763_690_400);
    let vantage = aviary_core::Vantage {
        kind: aviary_core::VantageKind::External,
        region: "eu".to_owned(),
        zone: None,
        network: None,
        node: "canary-7".to_owned(),
    };
    let roster = Roster { vantage, since: now, series: Vec::new() };
    Report {
        boot: 1,
        wall: now.start(),
        configuration: "c".to_owned(),
        roster_id: roster.id(),
        roster: Some(roster),
        program: program.to_owned(),
        ..Report::default()
    }
}

/// The same report as a version to come would tell it.
fn of_version(number: u8, report: &Report) -> Vec<u8> {
    // Field 22, a varint: what stands last counts.
    [report.encode(), vec![0xb0, 0x01, number]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_a_version_to_come_is_refused_with_the_remedy_and_nothing_of_it_is_taken() {
    let now = Second(1_763_690_400).start();
    let directory = tempfile::tempdir().unwrap();
    let store = || Arc::new(RedbStore::open(directory.path()).unwrap());
    let kept = store();
    let door = Door::open(Arc::clone(&kept) as Arc<dyn Store>, now.0).await;
    let (status, head, answer) = door.push(&[], &of_version(3, &report("9.0.0"))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("unsupported_version")), "{answer}");
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(
        answer["error"]["message"].as_str().unwrap(),
        format!(
            "the report, of aviary 9.0.0, has version 3, and this collector, of aviary {own}, takes versions 1 and 2: \
             upgrade this collector to the agent's version or a later one; until then the agent keeps what it has to tell"
        )
    );
    assert!(head.contains("retry-after: 30"), "{head}");
    let agents = door.agents().await;
    assert_eq!(agents["agents"].as_array().map(Vec::len), Some(0), "{agents}");
    assert_eq!(agents["tokens"][0]["refused"]["version"], 1, "{agents}");
    let mut journalled = 0;
    let counted = kept.range(Table::Journal, &[], &[u8::MAX; 9], &mut |_, _| {
        journalled += 1;
        std::ops::ControlFlow::Continue(())
    });
    counted.unwrap();
    assert_eq!(journalled, 0, "it is not in the journal either");

    let (status, _, answer) = door.push(&[], &report("0.1.0").encode()).await;
    assert_eq!(status, 200, "{answer}");
    let agents = door.agents().await;
    let agent = &agents["agents"][0];
    assert_eq!((&agent["report_version"], &agent["program"]), (&2.into(), &"0.1.0".into()), "{agents}");
    door.close().await;
    drop(kept);
    // Also after a restart.
    let door = Door::open(store(), now.0).await;
    assert_eq!(door.agents().await["agents"][0]["program"], "0.1.0");
    door.close().await;
}

/// A directory with the store that a version left.
fn unpacked(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let packed = fs::read(recorded().join(name).join("collector.redb.gz")).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    fs::write(directory.path().join(FILE_NAME), bytes).unwrap();
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_of_version_1_kept_is_taken_up_with_every_slot() {
    let told = json("store.json");
    let mut expected = Known::new();
    for run in told.as_array().unwrap() {
        let series: Vec<&str> = run["series"].as_str().unwrap().split(' ').collect();
        let from = run["from"].as_u64().unwrap();
        for second in from..from + run["seconds"].as_u64().unwrap() {
            let key = (series[0].to_owned(), series[2].to_owned(), second);
            expected.insert(key, run["outcome"].as_str().unwrap().to_owned());
        }
    }
    let spans = spans(&expected);
    assert!(expected.len() > 500, "{} slots in {spans:?}", expected.len());
    let last = expected.keys().map(|(.., second)| *second).max().unwrap();
    let pushes = json("pushes.json");
    let killed = pushes.as_array().unwrap().last().unwrap()["at_us"].as_u64().unwrap() / 1_000_000;
    // One was ended; of the other, which was killed, the journal is what is newest.
    for (name, until, was_cut) in [("store-ended", last, false), ("store-killed", killed - 4, true)] {
        let directory = unpacked(name);
        let store = RedbStore::open(directory.path()).unwrap();
        assert_eq!(store.found().was_cut, was_cut, "{name}");
        let door = Door::open(Arc::new(store), Second(last + 5).start().0).await;
        let known = door.known(&spans).await;
        for (slot, outcome) in expected.iter().filter(|((.., second), _)| *second <= until) {
            assert_eq!(known.get(slot), Some(outcome), "{name}: {slot:?}");
        }
        let more = known.keys().find(|slot| slot.2 <= until && !expected.contains_key(*slot));
        assert_eq!(more, None, "{name}: known, and never told");
        let agents = door.agents().await;
        assert_eq!(agents["agents"].as_array().map(Vec::len), Some(3), "{name}: {agents}");
        assert_eq!(agents["agents"][0]["report_version"], 1, "{name}");
        door.close().await;
        // And what this version has made of it is opened again.
        drop(RedbStore::open(directory.path()).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_kept_is_refused_and_all_of_it_stays() {
    let newer = of_version(3, &report("9.0.0"));
    let entry = journal::entry(Timestamp(0), "eu", &newer);
    let mut later_entry = journal::entry(Timestamp(0), "eu", &report("9.0.0").encode()).to_vec();
    later_entry[0] = journal::VERSION + 1;
    let later_head = vec![8, 2];
    let table = [
        (Table::Journal, journal::key(1 << 40), entry, "journal 1099511627776 in "),
        (Table::Journal, journal::key(1 << 40), Bytes::from(later_entry), "journal 1099511627776 in "),
        (Table::Checkpoint, Bytes::from_static(&[0]), Bytes::from(later_head), "the checkpoint in "),
    ];
    for (table, key, value, place) in table {
        let directory = unpacked("store-ended");
        let store = RedbStore::open(directory.path()).unwrap();
        store.commit(Batch { put: vec![(table, key, value)], ..Batch::default() }).unwrap();
        drop(store);
        let before = records(directory.path());
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(directory.path()).unwrap());
        let stage = Stage(Arc::new(AtomicU64::new(Second(1_795_000_000).start().0)));
        let collector =
            Collector::new(Options { store: Some(Arc::clone(&store)), ..Options::default() }, stage).unwrap();
        let why = collector.failed().await;
        assert!(matches!(*why, StoreError::Newer { .. }), "{why}");
        let why = why.to_string();
        assert!(why.starts_with(place) && why.contains("run the version that wrote it"), "{why}");
        collector.close().await;
        drop((collector, store));
        assert!(records(directory.path()) == before, "{place}: not a record is another");
    }
}

/// Every record of a store that nobody has in use.
fn records(directory: &Path) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    let visited = aviary_store::dump(directory, &Table::ALL, |table, key, value| {
        records.push((table, key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    });
    visited.unwrap();
    records
}
