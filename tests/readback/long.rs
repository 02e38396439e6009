//! Minutes of reading back, healthy and not, against what is on carbon's disk second by second.
//!
//! A minute of each is part of every test run; `AVIARY_READBACK_MINUTES=10 tests/run readback::long` makes it ten.

#![expect(clippy::print_stdout, reason = "the figures of a long run are its result")]

use std::{collections::BTreeSet, thread, time::Duration};

use aviary_core::{Protocol, Second, Span};

use super::stage::{Stage, lacking, wait_until};
use crate::support::{aviary::now, graphite::Setup};

const PATIENCE: Duration = Duration::from_secs(150);

/// How long each run takes, in seconds.
fn seconds() -> u64 {
    let minutes = std::env::var("AVIARY_READBACK_MINUTES").ok();
    60 * minutes.map_or(1, |minutes| minutes.parse::<u64>().expect("a number of minutes"))
}

#[test]
fn a_healthy_run_is_on_disk_second_by_second() {
    let stage = Stage::start(Setup::default(), Protocol::ALL);
    let begin = now().plus(4);
    wait_until(begin);
    let flaps = flaps(&stage, begin.plus(seconds()));
    println!(
        "{flaps} times a datapoint was shown, then null, then shown, to somebody who asks again and again"
    );
    let span = Span::new(begin, now());
    stage.wait_until_read(span.until);
    check(&stage, span);
    for (protocol, slots) in stage.slots(span) {
        assert_eq!(lacking(&slots), [], "{protocol}");
    }
}

#[test]
fn a_run_through_every_trouble_is_on_disk_second_by_second() {
    // One series is created in a minute and after each start; of the others nothing is kept until then.
    let mut stage = Stage::start(Setup { creates_per_minute: "1", ..Setup::default() }, Protocol::ALL);
    let begin = now().plus(4);
    let end = begin.plus(seconds());
    let mut turn = 0;
    while now() < end {
        thread::sleep(Duration::from_secs(10));
        match turn % 2 {
            0 => {
                stage.service.graphite.freeze_carbon();
                thread::sleep(Duration::from_secs(9));
                stage.service.graphite.thaw_carbon();
            }
            _ => {
                stage.service.graphite.stop_carbon();
                thread::sleep(Duration::from_secs(9));
                stage.service.graphite.restart_carbon();
            }
        }
        turn += 1;
    }
    thread::sleep(Duration::from_secs(8));
    let span = Span::new(begin, now());
    stage.wait_until_read(span.until);
    check(&stage, span);
}

/// Asks for the newest seconds of one series again and again until `end`, and counts how often one was taken back: carbon
/// takes points from its memory before they are on disk.
fn flaps(stage: &Stage, end: Second) -> u32 {
    let name = stage.name(Protocol::Tcp);
    let (mut shown, mut gone) = (BTreeSet::new(), BTreeSet::new());
    let mut flaps = 0;
    while now() < end {
        let span = Span::before(now(), 5);
        let rendered = stage.service.graphite.render(&[&name], span).expect("graphite-web is well");
        let stored = rendered.stored(&name);
        gone.extend(
            shown.iter().filter(|second| span.contains(**second) && !stored.contains(second)).copied(),
        );
        flaps += stored.iter().filter(|second| gone.remove(second)).count() as u32;
        shown.extend(stored);
        shown.retain(|second| *second >= span.from);
        // Without a pause it would have a processor to itself that agent and carbon need.
        thread::sleep(Duration::from_millis(200));
    }
    for second in gone {
        let span = Span::new(second, second.plus(1));
        let rendered = stage.service.graphite.render_until_stored(&[&name], span, Duration::from_secs(60));
        let rendered = rendered.expect("graphite-web is well");
        assert!(rendered.stored(&name).contains(&second), "{second} was taken back for good");
    }
    flaps
}

/// Holds the newest of `span` that the collector has slot by slot against the disk, and prints the figures.
#[track_caller]
fn check(stage: &Stage, span: Span) {
    // The ledger holds a quarter of an hour.
    let span = Span::new(span.from.max(now().minus(800)), span.until);
    stage.settles_as_the_disk(span, PATIENCE);
    let mut counts = std::collections::BTreeMap::new();
    for slot in stage.slots(span).values().flat_map(|slots| slots.values()) {
        let late = if slot.late { ", late" } else { "" };
        *counts.entry(format!("{}{late}", slot.outcome)).or_insert(0_u32) += 1;
    }
    let created = stage.protocols.iter().filter(|protocol| stage.is_created(**protocol)).count();
    println!(
        "{} s of {} series, {created} of them created, equal the disk: {counts:?}",
        span.seconds(),
        stage.protocols.len()
    );
}
