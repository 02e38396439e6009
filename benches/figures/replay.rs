//! A replay: how long a day of a fleet's stored slots takes to be lived through again.

use std::fmt::Write as _;

use anyhow::ensure;
use aviary_collector::{
    ServiceOptions,
    replay::{Replay, Rules, Stored},
};
use aviary_core::{Clock as _, Protocol, Second, Span, fnv::fnv1a};
use aviary_probe::SystemClock;

use crate::{
    Plan, progress,
    table::{Figure, Table},
};

const START: u64 = 1_763_690_400;
const DAY: u64 = 86_400;
const REGIONS: [&str; 3] = ["ap-south-1", "eu-west-1", "us-east-1"];

/// So many seconds are fed at a time, as `aviary replay` does.
const PART_SECONDS: u64 = 3_600;

const GOAL_SECONDS: f64 = 60.0;

/// One protocol is lost in a region for so long.
const OUTAGE: std::ops::Range<u64> = 30_000..30_300;

/// Measures what was asked for.
pub(crate) fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    if !plan.wants("replay") {
        return Ok(());
    }
    progress("replay");
    let seconds = plan.pick(DAY, DAY / 12);
    let rules = Rules { services: vec![ServiceOptions::unconfigured("ingest")], ..Rules::default() };
    let mut replay = Replay::new(rules, Second(START));
    let (mut told, mut took_us) = (0, 0);
    for first in (0..seconds).step_by(PART_SECONDS as usize) {
        let span = Span::new(Second(START + first), Second(START + (first + PART_SECONDS).min(seconds)));
        let answer = answer(span)?;
        // Reading what the collector answers is part of it; that it answers is not.
        let begun = SystemClock.monotonic();
        let stored: Vec<Stored> = serde_json::from_str(&answer)?;
        told += replay.feed(stored, span.until)?.len();
        took_us += SystemClock.monotonic().since(begun);
    }
    told += replay.finish().len();
    let is_in = OUTAGE.start < seconds;
    ensure!(told == usize::from(is_in), "{told} incidents were told of {}", usize::from(is_in));
    let took = took_us as f64 / 1e6 * DAY as f64 / seconds as f64;
    table.push(Figure {
        name: "replay of a day of 18 series".to_owned(),
        aviary: format!("{took:.1} s"),
        rival: String::new(),
        ratio: format!("{:.0} times as fast as it was", DAY as f64 / took),
        goal: format!("{GOAL_SECONDS:.0} s"),
        met: took <= GOAL_SECONDS,
    });
    Ok(())
}

/// The series of a fleet as the collector answers them: one slot in ten thousand is lost, and an outage.
fn answer(span: Span) -> anyhow::Result<String> {
    let mut text = String::from("[");
    for region in REGIONS {
        for protocol in Protocol::ALL {
            let comma = if text.len() > 1 { "," } else { "" };
            write!(
                text,
                r#"{comma}{{"tags":{{"service":"ingest","kind":"external","region":"{region}","zone":"none","network":"aws","node":"canary","endpoint":"{protocol}://graphite.example.com:2003","address":"none","protocol":"{protocol}"}},"slots":["#
            )?;
            for second in span.iter() {
                let comma = if second == span.from { "" } else { "," };
                let hash = fnv1a(region.bytes().chain(protocol.name().bytes()).chain(second.0.to_be_bytes()));
                let is_out = region == REGIONS[1]
                    && OUTAGE.contains(&(second.0 - START))
                    && *protocol == Protocol::Tls;
                let what = match is_out || (hash >> 7).is_multiple_of(10_000) {
                    true => r#""lost","phase":"confirm","fault":"timeout""#,
                    false => r#""delivered""#,
                };
                write!(text, r#"{comma}{{"second":{second},"outcome":{what}}}"#)?;
            }
            text += "]}";
        }
    }
    Ok(text + "]")
}
