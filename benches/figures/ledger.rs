//! The ledger: slots merged per second, the time of a sum, bytes per series; beside a table with a byte for each slot.

use std::hint::black_box;

use aviary_core::{
    Catalog, Clock as _, Endpoint, Evidence, Ledger, Protocol, Second, Series, SeriesId, Span, Tag, Vantage,
    VantageKind, Window,
    catalog::Grouping,
    ledger::LIVE_SECONDS,
    mark::{Mark, Sender, Storage},
    window::Proof,
};
use aviary_probe::SystemClock;

use crate::{
    Plan, allocation, progress,
    table::{Figure, Table, median},
};

const SERIES: usize = 10_000;
const CATALOGUED: usize = 20_000;
const MERGES_GOAL: f64 = 20e6;
const SUM_GOAL_NS: f64 = 200_000.0;
const BYTES_GOAL: f64 = 700.0;

/// A second that a block of the ledger begins with.
const START: u64 = 1_763_690_432;

/// The rival: one byte for each slot, the seconds of a series side by side.
struct Bytes {
    slots: Vec<Mark>,
    proofs: Vec<Proof>,
}

/// As many seconds as the ledger holds.
const BYTE_SECONDS: usize = 1_024;

impl Bytes {
    fn new(proofs: Vec<Proof>) -> Self {
        Self { slots: vec![Mark::UNKNOWN; proofs.len() * BYTE_SECONDS], proofs }
    }

    fn merge(&mut self, series: SeriesId, second: Second, mark: Mark) -> bool {
        let slot =
            &mut self.slots[series.0 as usize * BYTE_SECONDS + (second.0 % BYTE_SECONDS as u64) as usize];
        let before = *slot;
        *slot = before.join(mark);
        before != *slot
    }

    fn sums(&self, span: Span, group_of: &[u32], groups: usize) -> Vec<Window> {
        let mut windows = vec![Window::default(); groups];
        let rows = self.slots.chunks_exact(BYTE_SECONDS).zip(&self.proofs).zip(group_of);
        for ((slots, proof), group) in rows {
            for second in span.iter() {
                let mark = slots[(second.0 % BYTE_SECONDS as u64) as usize];
                windows[*group as usize].add(mark, *proof);
            }
        }
        windows
    }
}

/// Measures what was asked for.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    if plan.wants("ledger, merging") {
        progress("ledger, merging");
        merging(plan, table)?;
    }
    if plan.wants("ledger, summing") {
        progress("ledger, summing");
        summing(plan, table)?;
    }
    if plan.wants("ledger, memory") {
        progress("ledger, memory");
        memory(table)?;
    }
    Ok(())
}

/// Every kind of proof, as UDP, stored and other series have them.
fn proof(series: usize) -> Proof {
    [Proof::Sender, Proof::Storage, Proof::Nothing][series % 3]
}

fn ledger(series: usize) -> Ledger {
    let mut ledger = Ledger::new(Second(START));
    for index in 0..series {
        ledger.register(Second(START), proof(index));
    }
    ledger
}

/// What becomes of each series in a second, of which a hundredth is lost: a different hundredth in each.
fn marks() -> Vec<Mark> {
    let mark = |index: u64| {
        let lost = (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).is_multiple_of(100);
        Mark::sent(if lost { Sender::Lost } else { Sender::Delivered })
    };
    (0..2 * SERIES as u64).map(mark).collect()
}

/// The marks of one second, by series.
fn marks_of(marks: &[Mark], second: Second) -> &[Mark] {
    let from = (second.0 * 31 % SERIES as u64) as usize;
    &marks[from..from + SERIES]
}

fn merging(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    // Fifteen rounds fit into what either table holds, so that no slot is met twice.
    const SECONDS: u64 = 64;
    let marks = marks();
    let (mut ledger, mut bytes) = (ledger(SERIES), Bytes::new((0..SERIES).map(proof).collect()));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let rate = |took_us: u64| (SECONDS * SERIES as u64) as f64 / took_us.max(1) as f64 * 1e6;
    for round in 0..plan.pick(15, 5) {
        let seconds = (START + round * SECONDS..START + (round + 1) * SECONDS).map(Second);
        let (mut changed, mut changed_there) = (0, 0);
        let took = us(|| {
            for second in seconds.clone() {
                ledger.advance(second.plus(1));
                for (series, mark) in (0..).map(SeriesId).zip(marks_of(&marks, second)) {
                    changed +=
                        u32::from(black_box(&mut ledger).merge(series, second, *mark).unwrap_or(false));
                }
            }
        });
        ours.push(rate(took));
        let took = us(|| {
            for second in seconds.clone() {
                for (series, mark) in (0..).map(SeriesId).zip(marks_of(&marks, second)) {
                    changed_there += u32::from(black_box(&mut bytes).merge(series, second, *mark));
                }
            }
        });
        theirs.push(rate(took));
        let all = SECONDS as u32 * SERIES as u32;
        anyhow::ensure!(changed == all, "of {all} slots {changed} were merged");
        anyhow::ensure!(changed_there == all, "of {all} slots {changed_there} were merged into bytes");
    }
    let (ours, theirs) = (median(ours), median(theirs));
    table.push(Figure {
        name: "ledger, merging".to_owned(),
        aviary: format!("{:.1} million slots/s", ours / 1e6),
        rival: format!("{:.1} million/s, bytes", theirs / 1e6),
        ratio: format!("{:.2}", ours / theirs),
        goal: "at least 20 million/s".to_owned(),
        met: ours >= MERGES_GOAL,
    });
    table.note(format!(
        "ledger, merging: {SERIES} series, all slots of one second and then those of the next, as reports bring them, 1 % \
         of them lost; one thread, slot by slot, forgetting what is old included; the median of rounds of {SECONDS} \
         seconds. The rival is a Vec with one byte for each slot, the seconds of a series side by side."
    ));
    Ok(())
}

fn summing(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    const SECONDS: u64 = 256;
    const SUMS: u32 = 50;
    let marks = marks();
    let (mut ledger, mut bytes) = (ledger(SERIES), Bytes::new((0..SERIES).map(proof).collect()));
    for second in (START..START + SECONDS).map(Second) {
        ledger.advance(second.plus(1));
        for (index, (series, mark)) in (0..).map(SeriesId).zip(marks_of(&marks, second)).enumerate() {
            let mark = match (proof(index), mark.sender()) {
                (Proof::Storage, Sender::Delivered) => Mark::new(Sender::Delivered, Storage::Stored),
                _ => *mark,
            };
            ledger.merge(series, second, mark)?;
            bytes.merge(series, second, mark);
        }
    }
    let grouping = by_protocol();
    let (group_of, groups) = (&grouping.group_of, grouping.values.len());
    // Twenty seconds into the newest block: the span lies in two.
    let span = Span::before(Second(START + SECONDS - 44), 60);
    let sums = ledger.sums(span, group_of, groups);
    anyhow::ensure!(sums == bytes.sums(span, group_of, groups), "the two tables disagree: {sums:?}");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let each_ns = |took_us: u64, times: u32| took_us as f64 * 1e3 / f64::from(times);
    for _ in 0..plan.pick(21, 5) {
        let took = us(|| {
            for _ in 0..SUMS {
                black_box(black_box(&ledger).sums(black_box(span), group_of, groups));
            }
        });
        ours.push(each_ns(took, SUMS));
        let took = us(|| {
            black_box(black_box(&bytes).sums(black_box(span), group_of, groups));
        });
        theirs.push(each_ns(took, 1));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    table.push(Figure {
        name: "ledger, summing".to_owned(),
        aviary: format!("{ours:.0} ns a sum"),
        rival: format!("{theirs:.0} ns, bytes"),
        ratio: format!("{:.3}", ours / theirs),
        goal: "under 200000 ns".to_owned(),
        met: ours < SUM_GOAL_NS,
    });
    let lost: u64 = sums.iter().map(|window| window.lost).sum();
    table.note(format!(
        "ledger, summing: 60 seconds that lie in two blocks, {SERIES} series in {groups} groups by protocol, a third each \
         proven by the sender, by storage and by nothing; {lost} of {} slots lost. The rival counts its bytes one by \
         one; both give the same sums.",
        SERIES * 60,
    ));
    Ok(())
}

fn memory(table: &mut Table) -> anyhow::Result<()> {
    let fleet: Vec<_> = (0..CATALOGUED).map(series).collect::<Result<_, _>>()?;
    let (built, kept) = allocation::bytes_kept(|| {
        let mut catalog = Catalog::new(100_000);
        let mut ledger = Ledger::new(Second(START));
        for series in &fleet {
            let proof = Proof::of(series.endpoint.protocol(), Some(Evidence::PeerClosed), false);
            if catalog.intern(series).is_ok() {
                ledger.register(Second(START), proof);
            }
        }
        (catalog, ledger)
    });
    let (catalog, ledger) = &built;
    anyhow::ensure!(
        catalog.len() == CATALOGUED && ledger.len() == CATALOGUED,
        "{} series were interned",
        catalog.len()
    );
    let each = kept as f64 / CATALOGUED as f64;
    table.push(Figure {
        name: "ledger, memory".to_owned(),
        aviary: format!("{each:.0} B a series"),
        rival: format!("{LIVE_SECONDS} B, bytes without tags"),
        ratio: format!("{:.2}", each / LIVE_SECONDS as f64),
        goal: "under 700 B".to_owned(),
        met: each < BYTES_GOAL,
    });
    table.note(format!(
        "ledger, memory: bytes asked of the allocator for {CATALOGUED} series with their tags, divided by the series: \
         {} nodes in 12 regions, each probing five services over six protocols; the last {LIVE_SECONDS} seconds of each \
         are held. The collector keeps more beside: causes of losses, and names where storage is read.",
        CATALOGUED.div_ceil(PER_NODE),
    ));
    drop(black_box(built));
    Ok(())
}

/// Five services over six protocols.
const PER_NODE: usize = 30;

/// The `index`th series of a fleet of nodes that all probe the same.
fn series(index: usize) -> Result<Series, aviary_core::endpoint::EndpointError> {
    let (node, place) = (index / PER_NODE, index % PER_NODE);
    let (service, protocol) = (place / 6, Protocol::ALL[place % 6]);
    let region = ["eu-west", "us-east", "ap-south", "sa-east"][node % 4];
    let number = 1 + node / 4 % 3;
    let path = if protocol == Protocol::Https { "/api/v1/sink" } else { "" };
    Ok(Series {
        service: format!("ingest-{service}"),
        vantage: Vantage {
            kind: VantageKind::External,
            region: format!("{region}-{number}"),
            zone: Some(format!("{region}-{number}{}", ["a", "b", "c"][node % 3])),
            network: Some(["aws", "hetzner", "ovh"][node / 12 % 3].to_owned()),
            node: format!("canary-{node}.probes.example.net"),
        },
        endpoint: format!("{protocol}://ingest-{service}.example.net:{}{path}", 2_003 + place % 6)
            .parse::<Endpoint>()?,
        address: None,
    })
}

fn by_protocol() -> Grouping {
    let group_of = (0..SERIES).map(|index| (index % Protocol::ALL.len()) as u32).collect();
    let values = Protocol::ALL.iter().map(|protocol| vec![protocol.name().to_owned()]).collect();
    Grouping { by: vec![Tag::Protocol], values, group_of }
}

/// How many microseconds `work` takes.
fn us(work: impl FnOnce()) -> u64 {
    let started = SystemClock.monotonic();
    work();
    SystemClock.monotonic().since(started)
}
