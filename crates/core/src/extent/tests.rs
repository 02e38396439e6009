//! What a person is told of losses whose cause is known.

use super::*;

const TAGS: [Tag; 8] =
    [Tag::Service, Tag::Protocol, Tag::Region, Tag::Zone, Tag::Network, Tag::Node, Tag::Kind, Tag::Address];

/// Vantages as `region zone network node kind`.
const SIX_REGIONS: &[&str] = &[
    "af-1 af-1a aws n1 external",
    "af-1 af-1b aws n2 external",
    "ap-1 ap-1a aws n3 external",
    "ap-1 ap-1b aws n4 external",
    "eu-1 eu-1a aws n5 external",
    "eu-1 eu-1b gcp n6 external",
    "eu-2 eu-2a gcp n7 external",
    "eu-2 eu-2b gcp n8 external",
    "us-1 us-1a aws n9 external",
    "us-1 us-1b gcp n10 external",
    "us-2 us-2a gcp n11 external",
    "us-2 us-2b gcp n12 external",
];
const THREE_REGIONS: &[&str] =
    &["eu none none n1 external", "eu none none n2 external", "sa none none n3 external", "us none none n4 external"];
const ONE_NODE: &[&str] = &["eu eu-a aws n1 external"];
const ONE_EACH: &[&str] = &["eu eu-a aws n1 external", "us us-a gcp n2 external", "ap ap-a aws n3 external"];
const ON_THE_NODES: &[&str] = &[
    "eu none none ingest-1 loopback",
    "eu none none ingest-2 loopback",
    "eu none none ingest-3 loopback",
    "eu none none watch-1 external",
    "us none none watch-2 external",
];

const PAIRS: &[&str] = &[
    "eu eu-a aws n1 external",
    "eu eu-a aws n2 external",
    "eu eu-b aws n3 external",
    "eu eu-b aws n4 external",
    "us us-a aws n5 external",
    "us us-a aws n6 external",
    "us us-b aws n7 external",
    "us us-b aws n8 external",
];

const SIX: &[&str] = &["https", "pickle", "pickle+tls", "tcp", "tls", "udp"];
const THREE: &[&str] = &["tcp", "tls", "udp"];

/// The series of a fleet: each service over each protocol at each address from each vantage.
fn fleet(services: &[&str], protocols: &[&str], vantages: &[&str], addresses: &[&str]) -> Population {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for service in services {
        for protocol in protocols {
            for vantage in vantages {
                for address in addresses {
                    let place: Vec<&str> = vantage.split(' ').collect();
                    let row = [service, protocol, place[0], place[1], place[2], place[3], place[4], address];
                    rows.push(row.map(str::to_owned).to_vec());
                }
            }
        }
    }
    Population::new(&TAGS, rows)
}

/// A minute in which each cell loses the share of whatever in `lossy` matches it, such as `udp eu-1`; a share below 0 is
/// not measured.
fn minute(population: &Population, lossy: &[(&str, f64)]) -> Vec<Counts> {
    let counts = population.rows().iter().map(|row| {
        let share = lossy.iter().find(|(all, _)| all.split(' ').all(|one| one == "*" || row.iter().any(|v| v == one)));
        let share = share.map_or(0.0, |found| found.1);
        let judged = if share < 0.0 { 0 } else { 60 };
        Counts { judged, lost: (judged as f64 * share).round() as u64, acceptable: 0.005 }
    });
    counts.collect()
}

fn told(population: &Population, counts: &[Counts]) -> String {
    let extent = explain(population, counts);
    let questions = questions(population, counts, &extent);
    let blame = blame(population, counts, &extent, &Suspects::default());
    format!(
        "{} | {} {} | {}: {}",
        summary(population, counts, &extent),
        questions.one_zone,
        questions.one_protocol,
        blame.blame,
        blame.evidence.join("; ")
    )
}

#[test]
fn print() {
    let one = &["ingest"][..];
    let three = &["ingest", "login", "search"][..];
    let no = &["none"][..];
    let four = &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"][..];
    let f6 = fleet(one, SIX, SIX_REGIONS, no);
    let f3 = fleet(three, THREE, SIX_REGIONS, no);
    let small = fleet(one, THREE, THREE_REGIONS, no);
    let single = fleet(one, THREE, ONE_NODE, no);
    let solo = fleet(one, &["tcp"], SIX_REGIONS, no);
    let each = fleet(one, THREE, ONE_EACH, no);
    let addr = fleet(one, THREE, THREE_REGIONS, four);
    let nodes = fleet(one, THREE, ON_THE_NODES, no);
    let pairs = fleet(one, THREE, PAIRS, no);
    let eachthree = fleet(three, THREE, ONE_EACH, no);
    for (name, f, lossy) in [
        ("f6", &f6, &[][..]),
        ("f6", &f6, &[("udp", 1.0)]),
        ("f6", &f6, &[("*", 1.0)]),
        ("f6", &f6, &[("*", 0.3)]),
        ("f6", &f6, &[("eu-1", 1.0)]),
        ("f6", &f6, &[("eu-1a", 1.0)]),
        ("f6", &f6, &[("n5 udp", 1.0)]),
        ("f6", &f6, &[("tls", 0.0), ("*", 1.0)]),
        ("f6", &f6, &[("eu-1", 0.0), ("*", 1.0)]),
        ("f6", &f6, &[("udp eu-1", 0.0), ("udp", 1.0)]),
        ("f6", &f6, &[("udp eu-1", -1.0), ("udp", 1.0)]),
        ("f6", &f6, &[("udp eu-1", 1.0)]),
        ("f6", &f6, &[("udp", 1.0), ("n9", 0.5)]),
        ("f6", &f6, &[("udp", 1.0), ("tls", 1.0)]),
        ("f6", &f6, &[("eu-1", 1.0), ("eu-2", 1.0)]),
        ("f6", &f6, &[("eu-1", 1.0), ("eu-2", 0.2)]),
        ("f6", &f6, &[("gcp", 1.0)]),
        ("f6", &f6, &[("udp gcp", 1.0)]),
        ("f6", &f6, &[("udp n1", 0.1), ("tls n6", 0.08), ("tcp n9", 0.1), ("https n3", 0.08), ("pickle n12", 0.1)]),
        ("f6", &f6, &[("udp n1", 0.1), ("tls n6", 0.08), ("tcp n9", 0.1), ("https n3", 0.08), ("eu-2", 0.5)]),
        ("f3", &f3, &[("udp", 1.0)]),
        ("f3", &f3, &[("ingest", 1.0)]),
        ("f3", &f3, &[("ingest udp", 1.0)]),
        ("f3", &f3, &[("ingest eu-1", 1.0)]),
        ("f3", &f3, &[("ingest eu-1a", 1.0)]),
        ("f3", &f3, &[("n9", 1.0)]),
        ("f3", &f3, &[("eu-1", 1.0)]),
        ("f3", &f3, &[("*", 1.0)]),
        ("f3", &f3, &[("search", 0.0), ("*", 1.0)]),
        ("f3", &f3, &[("ingest udp", 1.0), ("login", 0.1)]),
        ("small", &small, &[("n4", 1.0)]),
        ("small", &small, &[("n1", 1.0)]),
        ("small", &small, &[("eu", 1.0), ("us", 1.0)]),
        ("small", &small, &[("eu", 1.0)]),
        ("small", &small, &[("*", 1.0)]),
        ("single", &single, &[("*", 1.0)]),
        ("single", &single, &[("udp", 1.0)]),
        ("solo", &solo, &[("*", 1.0)]),
        ("solo", &solo, &[("us-1", 1.0)]),
        ("each", &each, &[("eu", 1.0)]),
        ("each3", &eachthree, &[("eu", 1.0)]),
        ("each3", &eachthree, &[("eu ingest", 1.0)]),
        ("addr", &addr, &[("10.0.0.3", 1.0)]),
        ("addr", &addr, &[("10.0.0.3 tls", 1.0)]),
        ("addr", &addr, &[("10.0.0.3 eu", 1.0)]),
        ("addr", &addr, &[("10.0.0.2", 1.0), ("10.0.0.3", 1.0)]),
        ("nodes", &nodes, &[("ingest-2", 1.0)]),
        ("nodes", &nodes, &[("external", 1.0)]),
        ("pairs", &pairs, &[("eu-a", 1.0)]),
        ("pairs", &pairs, &[("eu-a", 1.0), ("us-b", 1.0)]),
        ("pairs", &pairs, &[("udp eu-a", 1.0)]),
        ("pairs", &pairs, &[("n3", 1.0)]),
        ("pairs", &pairs, &[("n3 tls", 1.0)]),
        ("pairs", &pairs, &[("n3", 0.0), ("eu", 1.0)]),
        ("pairs", &pairs, &[("n3", -1.0), ("eu-b", 1.0)]),
        ("pairs", &pairs, &[("*", -1.0)]),
        ("pairs", &pairs, &[("n5", 0.0), ("*", -1.0)]),
        ("pairs", &pairs, &[("n5", 1.0), ("*", -1.0)]),
        ("pairs", &pairs, &[("*", 0.004)]),
    ] {
        println!("{name} {lossy:?}\n    {}", told(f, &minute(f, lossy)));
    }
}

fn planted(rng: &mut fastrand::Rng, population: &Population) -> (Vec<search::Clause>, Vec<Counts>) {
    let clauses: Vec<search::Clause> = (0..rng.usize(1..=3))
        .map(|_| {
            let cuboid = rng.u32(0..population.cuboids().len() as u32);
            let group = rng.u32(0..population.cuboids()[cuboid as usize].len() as u32);
            let loss = [1.0, 0.5, 0.2, 0.1, 0.05][rng.usize(0..5)];
            search::Clause { loss, ..search::Clause::new(population::Set { cuboid, group }) }
        })
        .collect();
    let mut loss = vec![0.002; population.len()];
    for (cell, rules) in search::matching(population, &clauses) {
        loss[cell as usize] = 1.0 - 0.998 * search::kept(&clauses, rules);
    }
    let counts = loss.into_iter().map(|loss| {
        let judged = rng.u64(0..=60);
        Counts { judged, lost: (0..judged).filter(|_| rng.f64() < loss).count() as u64, acceptable: 0.005 }
    });
    (clauses, counts.collect())
}

#[test]
fn bound() {
    let population = fleet(&["ingest", "login"], THREE, PAIRS, &["10.0.0.1", "10.0.0.2"]);
    println!("cells {} cuboids {}", population.len(), population.cuboids().len());
    let mut bad = 0;
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (clauses, counts) = planted(&mut rng, &population);
        let mut search = search::Search::new(&population, &counts);
        let found = search.run();
        let known = search.weigh(clauses.clone());
        if found.cost > known.cost + 1e-6 {
            bad += 1;
            println!("seed {seed} found {:.2} known {:.2}", found.cost, known.cost);
            for c in &found.clauses { println!("   found {:?} ex {} {:.3}", population.predicate(c.set).0, c.except.len(), c.loss); }
            for c in &clauses { println!("   known {:?} {:.3} {}", population.predicate(c.set).0, c.loss, population.members(c.set).len()); }
        }
    }
    println!("bad {bad}");
}
