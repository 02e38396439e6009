//! Hours of three agents in virtual time, against a plain table of every slot.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use aviary_core::{
    Clock, Evidence, Fault, LocalFault, Micros, Outcome, Phase, Second, SeriesId, Span, Timestamp, Vantage,
    VantageKind,
    histogram::Histogram,
    mark::{Mark, Sender},
};
use aviary_store::{MemoryStore, Store, Table};
use aviary_wire::report::{ClosedSlot, Gap, PhaseTimings, Report, Roster, RosterSeries};
use axum::{body::to_bytes, response::Response};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::{
    History, RawMinute,
    key::{Level, end_of, first_of},
};
use crate::{
    Collector, Options,
    error::ApiError,
    slots, sums, timings,
    troubled::{Trouble, Troubled},
};

/// The second that everything begins with: in the middle of an hour, and of a minute.
const START: u64 = 1_763_692_217;

const ENDPOINTS: [&str; 3] = ["tcp://h:1", "udp://h:2", "tcp://h:3"];
const REGIONS: [&str; 3] = ["eu", "eu", "us"];

/// Agents report so often.
const TICK: u64 = 30;

#[derive(Clone, Default)]
struct Stage {
    now: Arc<AtomicU64>,
}

impl Clock for Stage {
    fn wall(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst) * 1_000_000)
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

impl Stage {
    fn at(second: u64) -> Self {
        let stage = Self::default();
        stage.set(second);
        stage
    }

    fn set(&self, second: u64) {
        self.now.store(second, Ordering::SeqCst);
    }

    fn collector(&self, store: &Arc<MemoryStore>, retain_seconds: u64) -> Collector {
        let options = Options {
            store: Some(Arc::clone(store) as Arc<dyn Store>),
            retain_seconds: Some(retain_seconds),
            ..Options::default()
        };
        Collector::assemble(options, None, self.clone()).unwrap()
    }
}

fn told(collector: &Collector, report: &Report) {
    let now = collector.now();
    collector.state().take(report, None, now).unwrap();
}

fn ask(answer: impl Future<Output = Result<Response, ApiError>>) -> Result<Json, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = answer.await.map_err(|error| error.code().to_owned())?;
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Ok(serde_json::from_slice(&body).unwrap())
    })
}

fn parameters(given: &[(&str, String)]) -> Vec<(String, String)> {
    given.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn sums_of(collector: &Collector, by: &str, span: Span, step: u64) -> Result<Json, String> {
    let given = parameters(&[
        ("by", by.to_owned()),
        ("until", span.until.to_string()),
        ("window", format!("{}s", span.seconds())),
        ("step", format!("{step}s")),
    ]);
    let query = sums::Query::parse(&given, collector.now()).unwrap();
    ask(sums::answer(collector, query)).map(|mut answer| answer["groups"].take())
}

fn slots_of(collector: &Collector, series: &str, span: Span) -> Json {
    let given = parameters(&[
        ("series", series.to_owned()),
        ("from", span.from.to_string()),
        ("until", span.until.to_string()),
    ]);
    let query = slots::Query::parse(&given, collector.now()).unwrap();
    ask(slots::answer(collector, query)).unwrap()["series"].take()
}

fn roster(node: usize, since: u64, endpoints: &[usize]) -> Roster {
    let series = endpoints.iter().map(|endpoint| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: ENDPOINTS[*endpoint].parse().unwrap(),
        address: None,
        name: format!("canary.{node}.{endpoint}"),
        from: Second(since),
    });
    let vantage = Vantage {
        kind: VantageKind::External,
        region: REGIONS[node].to_owned(),
        zone: None,
        network: None,
        node: format!("n{node}"),
    };
    Roster { vantage, since: Second(since), series: series.collect() }
}

fn report(roster: &Roster, boot: u64, wall: u64) -> Report {
    Report {
        boot,
        sequence: wall,
        wall: Timestamp(wall * 1_000_000),
        roster_id: roster.id(),
        roster: Some(roster.clone()),
        ..Report::default()
    }
}

/// What may become of a slot, and how the API tells it.
fn outcomes() -> [(Outcome, &'static str); 6] {
    [
        (Outcome::Delivered(Evidence::PeerClosed), "delivered"),
        (Outcome::Lost { phase: Phase::Confirm, fault: Fault::Timeout }, "lost confirm timeout"),
        (Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused }, "lost connect refused"),
        (Outcome::Lost { phase: Phase::Send, fault: Fault::Status(503) }, "lost send status"),
        (Outcome::Local { phase: Phase::Connect, fault: LocalFault::NoPorts }, "local connect no_ports"),
        (Outcome::Missed, "missed"),
    ]
}

/// One agent over the hours: when it was started with which endpoints, and what became of its slots.
#[derive(Clone, Debug)]
struct Script {
    /// At which ticks it was started anew, and with which endpoints, as bits.
    starts: Vec<(u64, u8)>,
    /// Of each tick: what becomes of the slots (as a seed), how late the report comes, and whether it comes twice.
    ticks: Vec<(u64, u64, bool)>,
}

const TICKS: u64 = 7_500 / TICK;

/// By then everything has arrived, however late.
const LAST_TICK: u64 = TICKS + 300;

fn any_script() -> impl Strategy<Value = Script> {
    let starts = prop::collection::vec((1..TICKS, 0u8..8), 0..5);
    let late = prop_oneof![6 => Just(0), 2 => 1u64..10, 1 => 30u64..140];
    (starts, prop::collection::vec((any::<u64>(), late, any::<bool>()), TICKS as usize)).prop_map(
        |(mut starts, ticks)| {
            starts.push((0, 7));
            starts.sort();
            starts.dedup_by_key(|(tick, _)| *tick);
            Script { starts, ticks }
        },
    )
}

/// Every slot, as plain as can be.
#[derive(Default)]
struct Model {
    /// What was told, by series and second; an index of [`outcomes`].
    told: BTreeMap<(usize, usize), BTreeMap<u64, usize>>,
    /// When each series was scheduled: one after another, the last possibly for good.
    scheduled: BTreeMap<(usize, usize), Vec<Span>>,
}

impl Model {
    /// How the API tells the slots of `span` that are part of a series' life.
    fn slots(&self, series: (usize, usize), span: Span) -> Vec<(u64, &'static str)> {
        let none = BTreeMap::new();
        let told = self.told.get(&series).unwrap_or(&none);
        let scheduled = &self.scheduled[&series];
        let (first, last) = (scheduled[0], scheduled[scheduled.len() - 1]);
        let life = Span::new(first.from, last.until).intersection(span);
        let word = |second: u64| match told.get(&second) {
            Some(0) if series.1 == 1 => "unproven",
            Some(outcome) => outcomes()[*outcome].1,
            None if scheduled.iter().any(|part| part.contains(Second(second))) => "unknown",
            None => "muted",
        };
        life.iter().map(|second| (second.0, word(second.0))).collect()
    }
}

/// The reports of an agent, each with the tick that it arrives in; and what they say, in the model.
fn reports(node: usize, script: &Script, model: &mut Model) -> Vec<(u64, Report)> {
    let mut reports = Vec::new();
    let (mut current, mut boot) = (roster(node, START, &[]), 0);
    let silent = (0, 0, false);
    for tick in 0..LAST_TICK {
        let (seed, late, twice) = script.ticks.get(tick as usize).unwrap_or(&silent);
        let from = START + tick * TICK;
        if let Some((_, bits)) = script.starts.iter().find(|(start, _)| *start == tick) {
            let endpoints: Vec<usize> = (0..3).filter(|endpoint| bits >> endpoint & 1 == 1).collect();
            boot += 1;
            current = roster(node, from, &endpoints);
            for endpoint in 0..3 {
                let parts = model.scheduled.entry((node, endpoint)).or_default();
                if let Some(open) = parts.last_mut().filter(|part| part.until == Second(u64::MAX)) {
                    open.until = Second(from);
                }
                if endpoints.contains(&endpoint) {
                    parts.push(Span::new(Second(from), Second(u64::MAX)));
                }
            }
        }
        // What is new is never late, and comes before the backlog: so everybody knows which life of the agent speaks.
        reports.push((tick, report(&current, boot, from)));
        if tick >= TICKS {
            continue;
        }
        let mut told = report(&current, boot, from + TICK);
        let mut random = *seed;
        for place in 0..current.series.len() {
            let endpoint =
                ENDPOINTS.iter().position(|url| current.series[place].endpoint.to_string() == *url).unwrap();
            // Some seconds at the end of a tick are told as a gap, and some not at all.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (silent, gap) = (random >> 40 & 3, random >> 44 & 7);
            let slots = TICK - silent - gap;
            let ours = model.told.entry((node, endpoint)).or_default();
            for second in from..from + slots {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let outcome = if random >> 58 == 0 { (random >> 40) as usize % 6 } else { 0 };
                ours.insert(second, outcome);
                let mut slot = ClosedSlot {
                    series: place as u32,
                    second: Second(second),
                    outcome: outcomes()[outcome].0,
                    reached: None,
                    address: None,
                };
                if outcome > 0 && outcome < 5 {
                    slot.address = Some("192.0.2.1:2003".parse().unwrap());
                }
                if endpoint == 1 && outcome == 0 {
                    slot.outcome = Outcome::Delivered(Evidence::Sent);
                }
                told.slots.push(slot);
            }
            if gap > 0 {
                let span = Span::new(Second(from + slots), Second(from + slots + gap));
                span.iter().for_each(|second| {
                    ours.insert(second.0, 5);
                });
                told.gaps.push(Gap { first: place as u32, count: 1, span, outcome: Outcome::Missed });
            }
        }
        reports.push((tick + 1 + late, told.clone()));
        if *twice {
            reports.push((tick + 2 + late * 2, told));
        }
    }
    reports
}

/// Puts reports in the order in which they arrive: of each tick, what is new first.
fn arrive(arriving: &mut BTreeMap<u64, Vec<Report>>, mut reports: Vec<(u64, Report)>) {
    reports.sort_by_key(|(tick, report)| (*tick, std::cmp::Reverse(report.wall)));
    for (tick, report) in reports {
        arriving.entry(tick).or_default().push(report);
    }
}

/// Ends it without a word. A killed process takes its threads along; here what is under way is waited for.
fn kill(collector: Collector) {
    let history = Arc::downgrade(&collector.inner.history);
    drop(collector);
    while history.strong_count() > 0 {
        std::thread::yield_now();
    }
}

/// A collector that these agents told everything, and what they told. If it is killed in the tick `killed`, another is
/// told all of it again that had arrived by then.
fn lived(scripts: &[Script], killed: Option<u64>, settles: u64) -> (Collector, Model) {
    let stage = Stage::at(START);
    let store = Arc::new(MemoryStore::default());
    let mut collector = stage.collector(&store, 86_400);
    let mut model = Model::default();
    let mut arriving: BTreeMap<u64, Vec<Report>> = BTreeMap::new();
    for (node, script) in scripts.iter().enumerate() {
        arrive(&mut arriving, reports(node, script, &mut model));
    }
    for tick in 0..LAST_TICK {
        stage.set(START + tick * TICK + 1);
        if killed == Some(tick) {
            kill(collector);
            collector = stage.collector(&store, 86_400);
            arriving
                .range(..tick)
                .flat_map(|(_, reports)| reports)
                .for_each(|report| told(&collector, report));
        }
        collector.state().judge(collector.now());
        arriving.get(&tick).into_iter().flatten().for_each(|report| told(&collector, report));
        if tick % settles == 0 {
            collector.settle_history().unwrap();
        }
    }
    collector.settle_history().unwrap();
    (collector, model)
}

/// An endpoint that comes back after hours, when what its agent stated as it went is forgotten: by a collector that
/// heard all of it, and by one that is told it again at once.
#[test]
fn what_comes_back_was_muted_since_it_went_however_long_ago() {
    type Starts = &'static [(u64, u8)];
    let table: [(Starts, Option<u64>); 4] = [
        // The agent was started anew twice between, and long after that.
        (&[(0, 7), (10, 6), (20, 6), (200, 6), (210, 7)], None),
        (&[(0, 7), (10, 6), (20, 6), (200, 6), (210, 7)], Some(230)),
        // One came back before the other.
        (&[(0, 7), (1, 2), (104, 6), (105, 5)], None),
        (&[(0, 7), (1, 2), (104, 6), (105, 5)], Some(262)),
    ];
    for (starts, killed) in table {
        let script = Script { starts: starts.to_vec(), ticks: vec![(0, 0, false); TICKS as usize] };
        let (collector, model) = lived(&[script], killed, 36);
        let span = Span::new(Second(START), Second(START + TICKS * TICK));
        check(&collector, &model, span.until.0, span, span.seconds());
    }
}

fn check(collector: &Collector, model: &Model, told_until: u64, span: Span, step: u64) {
    let steps = Span::new(span.from, span.until.min(Second(told_until))).seconds() / step;
    let span = Span::new(span.from, span.from.plus(steps * step));
    if span.is_empty() {
        return;
    }
    let mut expected: BTreeMap<(u64, String, String), BTreeMap<&str, u64>> = BTreeMap::new();
    for (node, endpoint) in (0..3).flat_map(|node| (0..3).map(move |endpoint| (node, endpoint))) {
        if model.scheduled.get(&(node, endpoint)).is_none_or(|parts| parts.is_empty()) {
            continue;
        }
        let words = model.slots((node, endpoint), span);
        let shown = slots_of(collector, &format!("node:n{node},endpoint:{}", ENDPOINTS[endpoint]), span);
        let shown: Vec<(u64, String)> = shown
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|series| series["slots"].as_array().unwrap())
            .map(|slot| {
                let word = |key: &str| slot[key].as_str().map(|word| format!(" {word}")).unwrap_or_default();
                let outcome = slot["outcome"].as_str().unwrap().to_owned() + &word("phase") + &word("fault");
                (slot["second"].as_u64().unwrap(), outcome)
            })
            .collect();
        assert_eq!(
            shown.len(),
            words.len(),
            "n{node} {endpoint} {span:?}: {:?}",
            model.scheduled[&(node, endpoint)]
        );
        for (shown, (second, word)) in shown.iter().zip(&words) {
            assert_eq!((shown.0, &*shown.1), (*second, *word), "n{node} {endpoint}");
        }
        let protocol = ENDPOINTS[endpoint].split(':').next().unwrap();
        for (second, word) in words {
            let step = span.from.0 + (second - span.from.0) / step * step;
            let group = (step, protocol.to_owned(), REGIONS[node].to_owned());
            let classes = expected.entry(group).or_default();
            *classes.entry("scheduled").or_default() += 1;
            *classes.entry(word.split(' ').next().unwrap()).or_default() += 1;
        }
    }
    let rows = sums_of(collector, "protocol,region", span, step).unwrap();
    for row in rows.as_array().unwrap() {
        let text = |tag: &str| row["by"][tag].as_str().unwrap().to_owned();
        let group = (row["from"].as_u64().unwrap(), text("protocol"), text("region"));
        let classes = expected.remove(&group).unwrap_or_default();
        for class in ["scheduled", "delivered", "lost", "local", "missed", "muted", "unproven", "unknown"] {
            let count = classes.get(class).copied().unwrap_or(0);
            assert_eq!(row[class].as_u64(), Some(count), "{class} of {group:?}: {row} {classes:?}");
        }
    }
    assert_eq!(expected, BTreeMap::new(), "no group is missing");
    // Over all of it at once, what is rolled up answers by region, and blocks by node.
    let all = |by: &str, step| {
        let rows = sums_of(collector, by, span, step).unwrap();
        let sum = |class: &str| {
            rows.as_array().unwrap().iter().map(|row| row[class].as_u64().unwrap()).sum::<u64>()
        };
        ["scheduled", "delivered", "lost", "local", "missed", "muted", "unproven", "unknown", "late"].map(sum)
    };
    let stepwise = all("protocol,region", step);
    assert_eq!(all("region", span.seconds()), stepwise, "in one step, by what is rolled up");
    assert_eq!(all("node,endpoint", span.seconds()), stepwise, "in one step, by blocks");
}

/// Checks the seconds before the last tick that are no older than these ages, whether or not the thread has sealed what
/// it was given.
fn meet(scripts: &[Script], ages: &[u64]) {
    let stage = Stage::at(START);
    let collector = stage.collector(&Arc::new(MemoryStore::default()), 86_400);
    let mut model = Model::default();
    let mut arriving: BTreeMap<u64, Vec<Report>> = BTreeMap::new();
    for (node, script) in scripts.iter().enumerate() {
        let prompt = script.ticks.iter().map(|(seed, ..)| (*seed, 0, true)).collect();
        arrive(&mut arriving, reports(node, &Script { ticks: prompt, ..script.clone() }, &mut model));
    }
    // The first report of a life is no later than the last of the one before, and believed once another comes: so all
    // that started in the last tick is believed in the one that follows.
    for tick in 0..=TICKS {
        stage.set(START + tick * TICK + 1);
        collector.state().judge(collector.now());
        arriving.remove(&tick).into_iter().flatten().for_each(|report| told(&collector, &report));
    }
    let now = START + (TICKS - 1) * TICK;
    for age in ages {
        check(&collector, &model, now, Span::new(Second(now - age), Second(now)), (*age).max(1));
    }
}

#[test]
fn what_comes_back_in_the_last_tick_was_muted_until_then() {
    let starts = vec![(0, 7), (198, 0), (TICKS - 1, 2)];
    meet(&[Script { starts, ticks: vec![(0, 0, true); TICKS as usize] }], &[60, 900, 2_000]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn every_slot_is_as_it_was_told(
        scripts in prop::collection::vec(any_script(), 3),
        ranges in prop::collection::vec((0u64..9_000, 1u64..40, prop_oneof![Just(1u64), Just(60), Just(97), Just(600)]), 8),
    ) {
        let stage = Stage::at(START);
        let store = Arc::new(MemoryStore::default());
        let collector = stage.collector(&store, 86_400);
        let mut model = Model::default();
        let mut arriving: BTreeMap<u64, Vec<Report>> = BTreeMap::new();
        for (node, script) in scripts.iter().enumerate() {
            arrive(&mut arriving, reports(node, script, &mut model));
        }
        for tick in 0..LAST_TICK {
            stage.set(START + tick * TICK + 1);
            collector.state().judge(collector.now());
            arriving.remove(&tick).into_iter().flatten().for_each(|report| told(&collector, &report));
            if tick % 20 == 0 {
                collector.settle_history().unwrap();
            }
        }
        collector.settle_history().unwrap();
        let count = |table, level: Level| {
            let mut count = 0;
            store.range(table, &first_of(level), &end_of(level), &mut |_, _| {
                count += 1;
                ControlFlow::Continue(())
            }).unwrap();
            count
        };
        prop_assert!(count(Table::Slots, Level::Hour) >= 3 && count(Table::Sums, Level::Hour) >= 3);
        prop_assert!(count(Table::Slots, Level::Minute) < 70, "the minutes of complete hours are packed");
        let ranges = ranges.into_iter().map(|(from, steps, step)| {
            (Span::new(Second(START + from), Second(START + from + steps * step)), step)
        });
        let ranges: Vec<_> = ranges.collect();
        for (span, step) in &ranges {
            check(&collector, &model, collector.now().second().0, *span, *step);
        }
        let whole = Span::new(Second(START - START % 3_600 + 3_600), Second(START - START % 3_600 + 10_800));
        check(&collector, &model, collector.now().second().0, whole, 3_600);
        check(&collector, &model, collector.now().second().0, whole, 7_200);
        // Another process finds the same, series by series under the numbers that they had.
        drop(collector);
        stage.set(START + 20_000);
        let collector = stage.collector(&store, 86_400);
        for (span, step) in &ranges {
            check(&collector, &model, START + TICKS * TICK, *span, *step);
        }
    }

    #[test]
    fn a_kill_after_which_the_journal_is_told_again_changes_nothing(
        scripts in prop::collection::vec(any_script(), 3), killed in 1..TICKS + 100, settles in 10u64..60,
        ranges in prop::collection::vec((0u64..7_000, 1u64..600), 4),
    ) {
        let (collector, model) = lived(&scripts, Some(killed), settles);
        for (from, seconds) in ranges {
            let from = Second(START + from);
            check(&collector, &model, START + TICKS * TICK, Span::new(from, from.plus(seconds)), seconds);
        }
    }

    #[test]
    fn what_is_live_and_what_is_sealed_meet_without_a_seam(
        scripts in prop::collection::vec(any_script(), 3), ages in prop::collection::vec(0u64..2_400, 6),
    ) {
        meet(&scripts, &ages);
    }
}

const HOUR: u64 = 3_600;
/// An hour begins.
const O_CLOCK: u64 = 1_763_690_400;

/// A collector that has watched one agent for so long, all of whose seconds from `O_CLOCK` on were delivered.
fn watched(stage: &Stage, collector: &Collector, seconds: u64) -> Roster {
    let roster = roster(0, O_CLOCK, &[0, 1, 2]);
    for tick in 0..seconds / 60 {
        let from = O_CLOCK + tick * 60;
        stage.set(from + 61);
        told(collector, &delivered(&roster, from..from + 60));
    }
    collector.state().judge(collector.now());
    collector.settle_history().unwrap();
    roster
}

fn delivered(roster: &Roster, seconds: std::ops::Range<u64>) -> Report {
    let slot = |second| {
        (0..3).map(move |series| ClosedSlot {
            series,
            second: Second(second),
            outcome: Outcome::Delivered(Evidence::PeerClosed),
            reached: None,
            address: None,
        })
    };
    Report { slots: seconds.clone().flat_map(slot).collect(), ..report(roster, 1, seconds.end) }
}

fn sum(collector: &Collector, from: u64, until: u64, class: &str) -> u64 {
    let span = Span::new(Second(from), Second(until));
    sums_of(collector, "", span, span.seconds()).unwrap()[0][class].as_u64().unwrap()
}

#[test]
fn a_report_an_hour_late_fills_its_slots_and_corrects_the_sums() {
    let stage = Stage::at(O_CLOCK);
    let collector = stage.collector(&Arc::new(MemoryStore::default()), 86_400);
    let roster = watched(&stage, &collector, 3 * HOUR);
    let other = self::roster(2, O_CLOCK, &[0]);
    told(&collector, &report(&other, 1, O_CLOCK + 3 * HOUR));
    collector.settle_history().unwrap();
    let unknown = |from, until| sum(&collector, from, until, "unknown");
    assert_eq!(unknown(O_CLOCK, O_CLOCK + HOUR), HOUR, "nobody has told of the other agent's");

    // An hour of slots, and what was not run of the next, in one go.
    let lost = Outcome::Lost { phase: Phase::Tls, fault: Fault::BadCertificate };
    let slot = |second| ClosedSlot {
        series: 0,
        second: Second(second),
        outcome: lost,
        reached: None,
        address: None,
    };
    let span = Span::new(Second(O_CLOCK + HOUR), Second(O_CLOCK + 2 * HOUR));
    let late = Report {
        slots: (O_CLOCK..O_CLOCK + HOUR).map(slot).collect(),
        gaps: vec![Gap { first: 0, count: 1, span, outcome: Outcome::Missed }],
        ..report(&other, 1, O_CLOCK + 2 * HOUR)
    };
    for _ in 0..2 {
        let now = collector.now();
        let taken = collector.state().take(&late, None, now).unwrap();
        assert_eq!((taken.slots, taken.too_old), (2 * HOUR, 0));
        collector.settle_history().unwrap();
        assert_eq!(
            (unknown(O_CLOCK, O_CLOCK + HOUR), sum(&collector, O_CLOCK, O_CLOCK + HOUR, "lost")),
            (0, HOUR)
        );
        assert_eq!(sum(&collector, O_CLOCK, O_CLOCK + 2 * HOUR, "missed"), HOUR);
        assert_eq!(sum(&collector, O_CLOCK, O_CLOCK + 2 * HOUR, "scheduled"), 8 * HOUR);
    }
    let shown =
        slots_of(&collector, "node:n2", Span::new(Second(O_CLOCK + HOUR - 1), Second(O_CLOCK + HOUR + 1)));
    let expected = serde_json::json!([
        {"second": O_CLOCK + HOUR - 1, "outcome": "lost", "stored": false, "phase": "tls", "fault": "bad_certificate"},
        {"second": O_CLOCK + HOUR, "outcome": "missed"},
    ]);
    assert_eq!(shown[0]["slots"], expected);

    // What is older than the series, or than is retained, is none of ours.
    let before = delivered(&roster, O_CLOCK - 10..O_CLOCK);
    let now = collector.now();
    assert_eq!(collector.state().take(&before, None, now).unwrap().too_old, 30);
}

#[test]
fn what_is_older_than_is_retained_is_let_go_of_and_said_so() {
    let stage = Stage::at(O_CLOCK);
    let store = Arc::new(MemoryStore::default());
    let collector = stage.collector(&store, 2 * HOUR);
    let roster = watched(&stage, &collector, 4 * HOUR);
    let now = collector.now().second();
    let oldest = now.minus(2 * HOUR).0;
    let span = |from: u64| Span::new(Second(from), Second(from + 60));
    assert_eq!(sums_of(&collector, "", span(oldest - 1), 60), Err("beyond_history".to_owned()));
    assert_eq!(sum(&collector, oldest, oldest + 60, "delivered"), 2 * 60);
    let late = delivered(&roster, oldest - 60..oldest + 60);
    let taken = collector.state().take(&late, None, collector.now()).unwrap();
    assert_eq!((taken.slots, taken.too_old), (3 * 120, 3 * 60));
    collector.settle_history().unwrap();
    for table in [Table::Slots, Table::Sums] {
        for level in [Level::Minute, Level::Hour] {
            let until = level.at(Second(oldest)).key();
            let mut found = 0;
            let mut count = |_: &[u8], _: &[u8]| {
                found += 1;
                ControlFlow::Continue(())
            };
            store.range(table, &first_of(level), &until, &mut count).unwrap();
            assert_eq!(found, 0, "{table:?} {level:?}");
        }
    }
}

#[test]
fn what_showed_delivery_then_shows_it_still() {
    let stage = Stage::at(O_CLOCK);
    let collector = stage.collector(&Arc::new(MemoryStore::default()), 86_400);
    watched(&stage, &collector, HOUR);
    let read_back = crate::ServiceOptions { storage: true, ..crate::ServiceOptions::unconfigured("ingest") };
    collector.take_on(vec![read_back], None);
    let delivered = |from, until| sum(&collector, from, until, "delivered");
    assert_eq!(delivered(O_CLOCK, O_CLOCK + 1_800), 2 * 1_800, "last month nobody read back");
    assert_eq!(delivered(O_CLOCK + HOUR - 60, O_CLOCK + HOUR), 0, "from now on, storage decides");
}

#[test]
fn timings_are_told_by_any_of_their_tags() {
    let stage = Stage::at(O_CLOCK);
    let store = Arc::new(MemoryStore::default());
    let collector = stage.collector(&store, 86_400);
    let timed = |node: usize, boot: u64, minute: u64, micros: &[u32]| {
        let mut histogram = Histogram::default();
        micros.iter().for_each(|micros| histogram.record(*micros));
        let roster = roster(node, O_CLOCK, &[0, 1]);
        let timings = PhaseTimings {
            service: "ingest".to_owned(),
            protocol: aviary_core::Protocol::Tcp,
            phase: Phase::Connect,
            minute: Second(O_CLOCK + minute * 60),
            histogram,
        };
        Report { timings: vec![timings], ..report(&roster, boot, O_CLOCK + minute * 60 + boot) }
    };
    let asked = |collector: &Collector, given: &[(&str, &str)]| {
        let given: Vec<_> = given.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let query = timings::Query::parse(&parameters(&given), collector.now()).unwrap();
        let groups = ask(timings::answer(collector, query)).unwrap()["groups"].take();
        let row = |row: &Json| {
            (row["by"].to_string(), row["count"].as_u64().unwrap(), row["p50_us"].as_u64().unwrap())
        };
        groups.as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    for minute in 0..150 {
        stage.set(O_CLOCK + minute * 60 + 50);
        told(&collector, &timed(0, 1, minute, &[64, 64]));
        told(&collector, &timed(0, 1, minute, &[64, 64, 64]));
        // Another life of the same agent, in the same minute, has measured for itself.
        told(&collector, &timed(0, 2, minute, &[1_024]));
        told(&collector, &timed(2, 1, minute, &[512]));
        told(&collector, &timed(0, 1, minute, &[64, 64]));
        collector.state().judge(collector.now());
        if minute % 7 == 0 {
            collector.settle_history().unwrap();
        }
    }
    collector.settle_history().unwrap();
    let expected = |minutes: u64| {
        vec![
            (r#"{"region":"eu"}"#.to_owned(), 4 * minutes, 64),
            (r#"{"region":"us"}"#.to_owned(), minutes, 512),
        ]
    };
    let end = (O_CLOCK + 149 * 60).to_string();
    let by_region = |window| [("by", "region"), ("window", window), ("until", &*end), ("phase", "connect")];
    assert_eq!(asked(&collector, &by_region("2m")), expected(2));
    assert_eq!(asked(&collector, &by_region("149m")), expected(149));
    assert_eq!(asked(&collector, &[("window", "1m"), ("until", &end)]), [("{}".to_owned(), 5, 64)]);
    assert_eq!(asked(&collector, &[("phase", "tls")]), []);
    drop(collector);
    let collector = stage.collector(&store, 86_400);
    assert_eq!(asked(&collector, &by_region("149m")), expected(149), "they are kept");
}

/// What is kept, and then a little less.
struct Bitten;

impl Trouble for Bitten {
    fn show<'a>(&self, table: Table, value: &'a [u8]) -> &'a [u8] {
        if table == Table::Slots { &value[..value.len() - 1] } else { value }
    }
}

#[test]
fn what_is_damaged_is_named_and_not_made_up() {
    let stage = Stage::at(O_CLOCK);
    let store = Arc::new(MemoryStore::default());
    drop(watched(&stage, &stage.collector(&store, 86_400), 2 * HOUR));
    let bitten = Troubled { store, trouble: Bitten };
    let options = Options { store: Some(Arc::new(bitten)), ..Options::default() };
    let collector = Collector::assemble(options, None, stage).unwrap();
    let span = Span::new(Second(O_CLOCK), Second(O_CLOCK + 60));
    assert_eq!(sums_of(&collector, "node", span, 60), Err("history_unreadable".to_owned()));
    let series = SeriesId(0);
    let error = collector.history().slots(series, span, |_, _| true).unwrap_err().to_string();
    assert!(error.contains(&format!("(Hour from second {O_CLOCK} of series 0 and on)")), "{error}");
}

#[test]
fn numbers_of_series_are_never_given_to_others() {
    let stage = Stage::at(O_CLOCK);
    let store = Arc::new(MemoryStore::default());
    drop(watched(&stage, &stage.collector(&store, 86_400), HOUR));
    let collector = stage.collector(&store, 86_400);
    told(&collector, &report(&roster(1, O_CLOCK + HOUR, &[2, 1, 0]), 1, O_CLOCK + HOUR));
    let shown = slots_of(&collector, "", Span::new(Second(O_CLOCK), Second(O_CLOCK + 60)));
    let counts = shown.as_array().unwrap().iter().map(|series| series["slots"].as_array().unwrap().len());
    assert_eq!(counts.collect::<Vec<_>>(), [60, 60, 60, 0, 0, 0]);
}

/// Something happens in the middle of the first question.
#[derive(Default)]
struct Interrupted {
    happens: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Trouble for Interrupted {
    fn get(&self) {
        let happens = self.happens.lock().unwrap().take();
        happens.into_iter().for_each(|happens| happens());
    }
}

/// Nobody of whom anything is to be remembered.
struct Nobody;

impl super::Fleet for Nobody {
    fn lives(&self) -> Option<(super::Lives, Arc<Vec<SeriesId>>)> {
        None
    }

    fn records(&self, _: usize, _: usize) -> Vec<super::Record> {
        Vec::new()
    }

    fn now(&self) -> Option<Second> {
        Some(Second(O_CLOCK + 1_000))
    }
}

fn late(series: SeriesId, second: Second) -> super::Late {
    let mut late = super::Late::default();
    late.slot(series, second, Mark::sent(Sender::Delivered));
    late
}

/// Who settles would otherwise return while another round still holds what was told before.
#[test]
fn one_round_takes_nothing_while_another_is_under_way() {
    let (series, second) = (SeriesId(0), Second(O_CLOCK + 7));
    let store = Arc::new(Troubled::<Interrupted>::default());
    let history = Arc::new(History::open(Arc::clone(&store) as Arc<dyn Store>, 86_400));
    history.begin(Second(O_CLOCK), Second(O_CLOCK + 60)).unwrap();
    history.take(late(series, second));
    let (second_round, told) = (Arc::new(Mutex::new(None)), Arc::clone(&history));
    let begun = Arc::clone(&second_round);
    *store.trouble.happens.lock().unwrap() = Some(Box::new(move || {
        told.take(late(series, second.plus(1)));
        let settles = Arc::clone(&told);
        let settling = std::thread::spawn(move || settles.settle(&Nobody));
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(told.queue().late.cost() > 0, "it waits for the round that is under way");
        *begun.lock().unwrap() = Some(settling);
    }));
    history.settle(&Nobody).unwrap();
    second_round.lock().unwrap().take().unwrap().join().unwrap().unwrap();
    let mut found = 0;
    let span = Span::new(second, second.plus(2));
    history
        .slots(series, span, |told, _| {
            found += told.seconds();
            true
        })
        .unwrap();
    assert_eq!(found, 2);
}

/// Until then the ledger shows it.
#[test]
fn what_came_late_while_its_minute_was_sealed_is_there_when_the_minute_is_read_here() {
    let (series, second) = (SeriesId(0), Second(O_CLOCK + 7));
    let store = Arc::new(Troubled::<Interrupted>::default());
    let history = Arc::new(History::open(Arc::clone(&store) as Arc<dyn Store>, 86_400));
    history.begin(Second(O_CLOCK), Second(O_CLOCK)).unwrap();
    let minute = Level::Minute.at(second);
    history.seal(RawMinute { minute, planes: vec![[u64::MAX << 30, 0, 0, 0]], losses: Vec::new() });
    let told = Arc::clone(&history);
    *store.trouble.happens.lock().unwrap() = Some(Box::new(move || {
        told.take(late(series, second));
    }));
    history.round(&Nobody, Second(O_CLOCK + 1_000), false).unwrap();
    assert_eq!(history.visible_until(), minute.span().until);
    let mut found = Vec::new();
    history
        .slots(series, Span::new(second, second.plus(1)), |_, value| {
            found.push(value.mark.sender());
            true
        })
        .unwrap();
    assert_eq!(found, [Sender::Delivered]);
}
