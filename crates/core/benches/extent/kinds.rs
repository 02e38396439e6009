//! Losses of fleets that look from outside, from the data centre and on the nodes: are they told apart?
//!
//! A case is right if the rules cover the series that lose and no others; and its blame if that is what the shape says.

use std::collections::BTreeSet;

use aviary_core::{
    Tag,
    extent::{Blame, Counts, Population, Suspects, blame, explain},
};
use fastrand::Rng;

const TAGS: [Tag; 7] =
    [Tag::Service, Tag::Protocol, Tag::Kind, Tag::Region, Tag::Zone, Tag::Network, Tag::Node];

const PROTOCOLS: [&str; 6] = ["https", "pickle", "pickle+tls", "tcp", "tls", "udp"];
const SECONDS: u64 = 60;
const LOSSES: [f64; 4] = [1.0, 0.5, 0.2, 0.1];
/// What is lost without a fault, and what may be.
const QUIET: f64 = 1e-3;
const ACCEPTABLE: f64 = 5e-3;

/// From where a cell is looked at.
pub(crate) struct Place<'a> {
    kind: &'a str,
    region: &'a str,
    node: &'a str,
}

/// A shape: its name, what of a fleet loses, and whose fault that is.
pub(crate) type Shape = (&'static str, fn(&Place<'_>) -> bool, Blame);

pub(crate) const SHAPES: [Shape; 7] = [
    ("all outside", |at| at.kind == "external", Blame::Path),
    ("one node on itself", |at| at.node == "node-1", Blame::Service),
    ("outside and the data centre", |at| at.kind != "loopback", Blame::Path),
    ("all kinds", |_| true, Blame::Service),
    ("one region outside", |at| at.region == "region-0", Blame::Path),
    ("all nodes on themselves", |at| at.kind == "loopback", Blame::Unclear),
    ("the data centre", |at| at.kind == "datacentre", Blame::Path),
];

/// A fleet of two agents in each of two to five regions outside, two in the data centre, and 3 to 100 nodes in three zones.
fn fleet(rng: &mut Rng) -> Vec<[String; 7]> {
    let mut vantages: Vec<[String; 5]> = Vec::new();
    let of = |parts: [&str; 5]| parts.map(str::to_owned);
    for region in 0..rng.usize(2..=5) {
        for zone in ["a", "b"] {
            let (region, network) = (format!("region-{region}"), ["aws", "gcp"][region % 2]);
            let (zone, node) = (format!("{region}{zone}"), format!("canary-{region}{zone}"));
            vantages.push(of(["external", &region, &zone, network, &node]));
        }
    }
    for zone in ["dc-a", "dc-b"] {
        vantages.push(of(["datacentre", "dc", zone, "none", &format!("canary-{zone}")]));
    }
    for node in 0..rng.usize(3..=100) {
        let zone = ["dc-a", "dc-b", "dc-c"][node % 3];
        vantages.push(of(["loopback", "dc", zone, "none", &format!("node-{node}")]));
    }
    let mut rows: Vec<[String; 7]> = Vec::new();
    for protocol in &PROTOCOLS[..rng.usize(2..=6)] {
        for [kind, region, zone, network, node] in vantages.clone() {
            rows.push(["ingest".to_owned(), (*protocol).to_owned(), kind, region, zone, network, node]);
        }
    }
    rows.sort_unstable();
    rows
}

/// How many of `cases` cases of a shape are named rightly, and of how many the blame is right.
pub(crate) fn right((_, is_lost, blamed): &Shape, seed: u64, cases: u64) -> (u64, u64) {
    let (mut named, mut attributed) = (0, 0);
    for number in 0..cases {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
        let rows = fleet(&mut rng);
        let loss = LOSSES[rng.usize(0..LOSSES.len())];
        let losing = |row: &[String; 7]| is_lost(&Place { kind: &row[2], region: &row[3], node: &row[6] });
        let counts: Vec<Counts> = rows
            .iter()
            .map(|row| {
                let share = if losing(row) { loss } else { QUIET };
                let lost = (0..SECONDS).filter(|_| rng.f64() < share).count() as u64;
                Counts { judged: SECONDS, lost, acceptable: ACCEPTABLE }
            })
            .collect();
        let truth: BTreeSet<usize> = (0..rows.len()).filter(|cell| losing(&rows[*cell])).collect();
        let population = Population::new(&TAGS, rows);
        let extent = explain(&population, &counts);
        let covered = extent.rules.iter().flat_map(|rule| {
            let is_excepted =
                |cell: &usize| rule.except.iter().any(|except| population.matches(*cell, except));
            population.matching(&rule.matches).filter(move |cell| !is_excepted(cell)).collect::<Vec<_>>()
        });
        named += u64::from(covered.collect::<BTreeSet<_>>() == truth);
        let found = blame(&population, &counts, &extent, &Suspects::default());
        attributed += u64::from(found.blame == *blamed);
    }
    (named, attributed)
}
