use std::sync::atomic::{AtomicU64, Ordering};

use aviary_core::{Fault, Micros, Outcome, Phase, Span, Timings, Vantage, VantageKind};
use aviary_probe::{KeyExchange, Observation, Target, TlsClient, scripted::PausedClock};
use aviary_store::{Limits, Spool};
use aviary_wire::report::{Gap, RosterSeries};
use tokio::time::timeout;

use super::*;
use crate::AgentSeries;

const SINCE: Second = Second(1_763_690_400);

struct Rig {
    batch: Arc<Batch>,
    fresh: Arc<Fresh>,
    spool: SpoolThread,
    crew: Crew,
    seconds: Arc<AtomicU64>,
    standing: Arc<Mutex<KeeperStanding>>,
    enrolments: mpsc::Sender<Enrolment>,
    keeper: tokio::task::JoinHandle<()>,
}

fn vantage() -> Vantage {
    Vantage {
        kind: VantageKind::External,
        region: "eu".to_owned(),
        zone: None,
        network: None,
        node: "n".to_owned(),
    }
}

impl Rig {
    fn new() -> Self {
        Self::holding(None)
    }

    fn holding(held: Option<Vec<Held>>) -> Self {
        let batch = Arc::new(Batch::default());
        let tls = TlsClient::new(&[], KeyExchange::Classic).unwrap();
        let endpoint: aviary_core::Endpoint = "tcp://192.0.2.1:2003".parse().unwrap();
        let target = Target::new(endpoint.clone(), "canary.a", &tls, None).unwrap();
        let series =
            AgentSeries { service: "ingest".to_owned(), name: "canary.a".to_owned(), address: None, target };
        let crew = batch.enlist(&[series]);
        let limits = Limits { bytes: 64 << 20, age_seconds: 3_600 };
        let spool = SpoolThread::start(Spool::in_memory(limits), false).unwrap();
        let fresh = Arc::<Fresh>::default();
        let standing = Arc::<Mutex<KeeperStanding>>::default();
        let seconds = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&seconds);
        let keeper = Keeper::new(
            Arc::clone(&batch),
            PausedClock::starting_at(SINCE.start()),
            spool.clone(),
            (Arc::clone(&fresh), Arc::clone(&standing)),
            (Controls::default(), watch::channel(held).1),
            (7, 0, Believed::starting(SINCE.start(), Micros(0), None), Walked::new(Vec::new(), SINCE)),
            Box::new(move |news| {
                if matches!(news, News::Second(_)) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }),
        );
        let one = RosterSeries {
            service: "ingest".to_owned(),
            endpoint,
            address: None,
            name: "canary.a".to_owned(),
            from: SINCE,
        };
        let roster = Roster { vantage: vantage(), since: SINCE, series: vec![one] };
        let (enrolments, enrolled) = mpsc::channel(1);
        enrolments
            .try_send(Enrolment { crew, roster, configuration: "c".to_owned(), services: Some(Version(1)) })
            .unwrap();
        let keeper = tokio::spawn(keeper.run(enrolled));
        Self { batch, fresh, spool, crew, seconds, standing, enrolments, keeper }
    }

    fn lose(&self, second: Second) {
        let outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Timeout };
        let observed =
            Observation { outcome, timings: Timings::default(), address: None, reached: None, tls: None };
        self.batch.close(self.crew, 0, second, &observed);
    }

    /// Waits until a report says this of the versions that are held.
    async fn until_told(&self, expected: Option<Vec<Held>>) {
        let told = async {
            loop {
                let kept = self.fresh.take();
                let mut reports = kept.iter().map(|kept| Report::decode(&kept.body.report).unwrap());
                if reports.any(|report| report.services == expected) {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), told).await.unwrap_or_else(|_| panic!("{expected:?} is not told"));
    }

    async fn end(self) {
        self.batch.finish();
        drop(self.enrolments);
        timeout(Duration::from_secs(5), self.keeper).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_slot_that_was_dropped_does_not_make_its_series_silent_for_good() {
    let rig = Rig::new();
    for slot in (0..60).filter(|slot| *slot != 3) {
        rig.lose(SINCE.plus(slot));
    }
    let noted = async {
        while rig.spool.standing().slots < 59 {
            sleep(Duration::from_millis(10)).await;
        }
        // The standing is as of the last second.
        let before = rig.seconds.load(Ordering::Relaxed);
        while rig.seconds.load(Ordering::Relaxed) == before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), noted).await.expect("all are spooled, and a second passes");
    // By the clock of this test no time has passed, and each slot beyond the hole is newer.
    let standing = rig.standing.lock().unwrap().clone();
    assert_eq!((standing.series, standing.ticking), (1, 1));
    assert_eq!(rig.spool.standing().slots, 59);
    assert_eq!(rig.fresh.take().iter().map(|kept| kept.slots).sum::<u64>(), 59);
    rig.end().await;
}

#[test]
fn no_report_is_too_large_to_be_taken() {
    let outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Timeout };
    let slot = |number: u32| ClosedSlot {
        series: number % 10_000,
        second: SINCE.plus(u64::from(number / 10_000)),
        outcome,
        reached: None,
        address: Some(
            format!("[2001:db8:1234:5678:9abc:def0:{:x}:{:x}]:20030", number >> 16, number).parse().unwrap(),
        ),
    };
    let report = Report {
        configuration: "c".to_owned(),
        slots: (0..60_000).map(slot).collect(),
        gaps: vec![Gap { first: 0, count: 9, span: Span::before(SINCE, 9), outcome: Outcome::Missed }],
        ..Report::default()
    };
    assert!(report.encode().len() > REPORT_BYTES);
    let parts = within_bytes(&report);
    assert!(parts.iter().all(|(_, bytes)| bytes.len() <= REPORT_BYTES));
    let decoded: Vec<_> = parts.iter().map(|(_, bytes)| Report::decode(bytes).unwrap()).collect();
    assert_eq!(parts.iter().map(|(slots, _)| slots).sum::<u64>(), slots_of(&report));
    assert_eq!(decoded.iter().flat_map(|part| part.slots.clone()).collect::<Vec<_>>(), report.slots);
    assert_eq!(decoded.iter().flat_map(|part| part.gaps.clone()).collect::<Vec<_>>(), report.gaps);
}

#[tokio::test]
async fn reports_say_which_versions_of_the_services_are_held() {
    let elsewhere = Rig::new();
    // Its own file says what it probes.
    elsewhere.until_told(None).await;
    elsewhere.end().await;

    let candidate = Held::new(Version(2), HeldState::Available);
    let rig = Rig::holding(Some(vec![candidate.clone()]));
    rig.until_told(Some(vec![Held::new(Version(1), HeldState::Active), candidate])).await;
    // Another crew probes by what was prepared; the one before has attempts that end.
    let crew = rig.batch.enlist(&[]);
    let roster = Roster { vantage: vantage(), since: SINCE.plus(9), series: Vec::new() };
    let (configuration, services) = ("d".to_owned(), Some(Version(2)));
    rig.enrolments.send(Enrolment { crew, roster, configuration, services }).await.unwrap();
    let removing = Held::new(Version(1), HeldState::Removing);
    rig.until_told(Some(vec![Held::new(Version(2), HeldState::Active), removing])).await;
    rig.batch.dismiss(rig.crew);
    rig.until_told(Some(vec![Held::new(Version(2), HeldState::Active)])).await;
    rig.end().await;
}

#[tokio::test]
async fn seconds_go_on_while_everything_fails() {
    let rig = Rig::new();
    // Losses so close to each other that something is urgent all the time.
    for slot in 0..1_000 {
        rig.lose(SINCE.plus(slot));
        sleep(Duration::from_micros(2_500)).await;
    }
    let seconds = rig.seconds.load(Ordering::Relaxed);
    assert!(seconds >= 2, "{seconds} seconds were noted in at least two and a half");
    let reports = rig.fresh.take().len() as u64;
    assert!(reports <= 7 * (seconds + 1), "{reports} reports in {seconds} seconds: an outage is no flood");
    rig.end().await;
}
