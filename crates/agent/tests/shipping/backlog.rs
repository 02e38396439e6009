//! What an earlier life left: an hour that no collector took, or little more than its beginning.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{Clock as _, Evidence, Fault, Outcome, Phase, Second, Span};
use aviary_probe::SystemClock;
use aviary_store::{Limits, Record, Spool};
use aviary_wire::{
    progress::{CrewProgress, Progress, SeriesProgress},
    report::{ClosedSlot, Gap, Report, Roster},
};
use tokio::time::sleep;

use crate::{
    rig::{Answer, Peer, agent_with, clear, clock, earlier_roster, slots, until},
    seconds,
};

const HOUR: u64 = 3_600;
const SERIES: u16 = 100;
const EARLIER_BOOT: u64 = 99;

fn spool(directory: &Path) -> Spool {
    let limits = Limits { bytes: 64 << 20, age_seconds: 2 * HOUR };
    Spool::open(directory, limits, SystemClock.wall().second()).unwrap()
}

/// What became of a slot of the hour: mostly delivered, a loss here and there.
fn outcome(place: u32, second: Second) -> Outcome {
    if (u64::from(place) * 7 + second.0).is_multiple_of(97) {
        Outcome::Lost { phase: Phase::Connect, fault: Fault::Timeout }
    } else {
        Outcome::Delivered(Evidence::PeerClosed)
    }
}

fn report(sequence: u64, roster: &Roster, second: Second) -> Report {
    let slot = |series| ClosedSlot {
        series,
        second,
        outcome: outcome(series, second),
        reached: None,
        address: None,
    };
    Report {
        boot: EARLIER_BOOT,
        sequence,
        wall: second.start(),
        configuration: "test".to_owned(),
        roster_id: roster.id(),
        slots: (0..roster.series.len() as u32).map(slot).collect(),
        ..Report::default()
    }
}

fn record(report: &Report, second: Second) -> Record {
    let slots = report.slots.len() as u64;
    Record { roster: report.roster_id, slots, second, body: report.encode().into() }
}

fn keep(spool: &mut Spool, roster: &Roster, progress: &Progress) {
    spool.put(&format!("roster-{:016x}", roster.id()), roster.encode_part().into()).unwrap();
    spool.put("progress", progress.encode().into()).unwrap();
}

/// How far the series of `roster` were told in the earlier life: everything before `next`.
fn told_until(next: Second, roster: &Roster, sequence: u64) -> Progress {
    let series = vec![SeriesProgress::starting(next); roster.series.len()];
    let crew = CrewProgress { roster_id: roster.id(), since: roster.since, until: None, series };
    Progress { boot: EARLIER_BOOT, sequence, crews: vec![crew], walked: vec![Span::new(roster.since, next)] }
}

#[tokio::test]
async fn a_collector_that_was_away_for_an_hour_gets_all_of_it_without_being_flooded_and_what_is_new_at_once()
{
    let directory = tempfile::tempdir().unwrap();
    let end = SystemClock.wall().second().minus(1);
    let hour = Span::before(end, HOUR);
    let roster = earlier_roster(hour.from, SERIES);
    let mut left = spool(directory.path());
    for (sequence, second) in hour.iter().enumerate() {
        left.append(record(&report(sequence as u64, &roster, second), second)).unwrap();
    }
    keep(&mut left, &roster, &told_until(end, &roster, HOUR));
    left.flush(end).unwrap();
    drop(left);

    let mut known = Vec::new();
    let peer = Peer::start(move |report| {
        known.extend(report.roster.as_ref().map(Roster::id));
        if known.contains(&report.roster_id) { Answer::Take } else { Answer::error(400, "unknown_roster") }
    })
    .await;
    let started = clock();
    // How long everything on this thread waited for its turn at most, the keeper and this collector included.
    let held_up_us = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&held_up_us);
    let heart = tokio::spawn(async move {
        loop {
            let before = clock();
            sleep(Duration::from_millis(10)).await;
            noted.fetch_max(clock().since(before), Ordering::Relaxed);
        }
    });
    let agent = agent_with(spool(directory.path()), &[&peer], SERIES, clear);
    let is_of_the_hour = |report: &Report| report.roster_id == roster.id();
    let told = peer
        .until(|told| {
            let hour = told.iter().filter(|it| it.answer == Answer::Take && is_of_the_hour(&it.report));
            hour.map(|it| it.report.slots.len() as u64).sum::<u64>() >= HOUR * u64::from(SERIES)
        })
        .await;
    sleep(seconds(2)).await;
    assert_eq!(agent.stop().await, 0);

    let mut arrived = BTreeMap::new();
    let backlog: Vec<_> = told.iter().filter(|it| is_of_the_hour(&it.report)).collect();
    for (place, second, outcome) in backlog.iter().flat_map(|it| slots(&it.report)) {
        if hour.contains(second) {
            assert!(arrived.insert((place, second), outcome).is_none_or(|before| before == outcome));
        }
    }
    assert_eq!(arrived.len() as u64, HOUR * u64::from(SERIES));
    assert!(arrived.iter().all(|((place, second), it)| *it == outcome(*place, *second)));
    // Not second by second, and compressed.
    assert!(backlog.len() < 60, "{} pushes", backlog.len());
    let large = backlog.iter().filter(|it| it.report.slots.len() > 10_000);
    assert!(large.clone().count() >= 4 && large.clone().all(|it| it.body.1), "compressed");
    let (bytes, count) =
        large.fold((0, 0), |(bytes, count), it| (bytes + it.body.0, count + it.report.slots.len()));
    assert!(bytes < count, "{bytes} bytes for {count} slots");
    // Five in any second: four of what waited, and what is new.
    for (first, told) in backlog.iter().enumerate() {
        let within = backlog[first..].iter().take_while(|it| it.at.since(told.at) < 1_000_000).count();
        assert!(within <= 5, "{within} pushes within a second");
    }
    heart.abort();
    // What is new does not wait for what is old.
    let late_max = 4_000_000 + held_up_us.load(Ordering::Relaxed);
    for told in peer.told().iter().filter(|it| !is_of_the_hour(&it.report) && !it.report.slots.is_empty()) {
        let oldest = told.report.slots.iter().map(|slot| slot.second).min().unwrap();
        let late = told.report.wall.0 - oldest.start().0;
        assert!(
            late < late_max,
            "a report of {late} us before, {} ms after the start",
            told.at.since(started) / 1_000
        );
    }
}

#[tokio::test]
async fn a_life_that_was_killed_as_it_began_hides_nothing_of_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let end = SystemClock.wall().second().minus(5);
    let roster = earlier_roster(end.minus(10), 3);
    let mut left = spool(directory.path());
    // The first life: its progress, and two more seconds in a report.
    keep(&mut left, &roster, &told_until(end.minus(2), &roster, 7));
    for (sequence, second) in [(7, end.minus(2)), (8, end.minus(1))] {
        left.append(record(&report(sequence, &roster, second), second)).unwrap();
    }
    // The second: it told what the first had not, and was killed.
    let gap = Gap { first: 0, count: 3, span: Span::new(end, end.plus(1)), outcome: Outcome::Missed };
    let untold = Report { boot: 100, slots: Vec::new(), gaps: vec![gap], ..report(0, &roster, end) };
    left.append(record(&untold, end)).unwrap();
    left.flush(end).unwrap();
    drop(left);

    let peer = Peer::start(|_| Answer::Take).await;
    let agent = agent_with(spool(directory.path()), &[&peer], 3, clear);
    peer.until(|told| told.len() >= 4).await;
    assert_eq!(agent.stop().await, 0);
    let mut said: BTreeMap<(u32, Second), Outcome> = BTreeMap::new();
    for (place, second, outcome) in peer.told().iter().flat_map(|told| slots(&told.report)) {
        let before = *said.entry((place, second)).or_insert(outcome);
        assert_eq!(before, outcome, "series {place} at {second} has two outcomes");
    }
    for place in 0..3 {
        for second in [end.minus(2), end.minus(1)] {
            assert_eq!(said[&(place, second)], outcome(place, second), "as the first life told");
        }
        assert_eq!(said[&(place, end)], Outcome::Missed);
    }
}

#[tokio::test]
async fn a_spool_that_is_full_drops_the_oldest_and_the_reports_say_how_much() {
    let peer = Peer::closed(|_| Answer::Take).await;
    // Room for a handful of reports.
    let small = Spool::in_memory(Limits { bytes: 1_000, age_seconds: HOUR });
    let agent = agent_with(small, &[&peer], 10, clear);
    until(|| agent.observer().standing().spool.dropped >= 40).await;
    let waiting = agent.observer().standing().spool;
    assert!(waiting.records >= 2, "no more than it has to: {waiting:?}");
    peer.open().await;
    peer.until(|told| told.len() >= 4).await;
    assert_eq!(agent.stop().await, 0);
    let told = peer.told();
    let first = told.iter().find_map(|it| it.report.roster.as_ref()).unwrap().series[0].from;
    let known: BTreeSet<_> =
        told.iter().flat_map(|told| slots(&told.report)).map(|it| (it.0, it.1)).collect();
    let last = known.iter().map(|(_, second)| *second).max().unwrap();
    let hole: Vec<_> =
        Span::new(first, last.plus(1)).iter().filter(|it| !known.contains(&(0, *it))).collect();
    assert!(hole.len() >= 2, "{hole:?}");
    let (_, oldest) = *known.range((0, first.plus(1))..).next().unwrap();
    assert!(hole.contains(&first.plus(1)), "the oldest: {hole:?}");
    assert!(hole.iter().all(|it| *it < oldest), "no other: {hole:?}");
    let missing =
        10 * (last.0 + 1 - first.0) - known.iter().filter(|(_, second)| *second >= first).count() as u64;
    let dropped = told.last().unwrap().report.dropped;
    // What is dropped while it is on its way arrives all the same.
    assert!((missing..missing + 20).contains(&dropped), "{dropped} are told, {missing} are missing");
}
