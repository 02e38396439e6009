//! What a person is told of losses whose cause is known.

mod kinds;

use proptest::prelude::*;

use super::{
    population::Set,
    search::{Clause, Search, kept, matching},
    *,
};

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
const THREE_REGIONS: &[&str] = &[
    "eu none none n1 external",
    "eu none none n2 external",
    "sa none none n3 external",
    "us none none n4 external",
];
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
        let share = lossy
            .iter()
            .find(|(all, _)| all.split(' ').all(|one| one == "*" || row.iter().any(|v| v == one)));
        let share = share.map_or(0.0, |found| found.1);
        let judged = if share < 0.0 { 0 } else { 60 };
        Counts { judged, lost: (judged as f64 * share).round() as u64, acceptable: 0.005 }
    });
    counts.collect()
}

#[test]
fn losses_are_told_as_a_person_would() {
    let ingest = &["ingest"][..];
    let three_services = &["ingest", "login", "search"][..];
    let none = &["none"][..];
    let six = fleet(ingest, SIX, SIX_REGIONS, none);
    let services = fleet(three_services, THREE, SIX_REGIONS, none);
    let small = fleet(ingest, THREE, THREE_REGIONS, none);
    let single = fleet(ingest, THREE, ONE_NODE, none);
    let solo = fleet(ingest, &["tcp"], SIX_REGIONS, none);
    let each = fleet(ingest, THREE, ONE_EACH, none);
    let each_of_three = fleet(three_services, THREE, ONE_EACH, none);
    let addresses = fleet(ingest, THREE, THREE_REGIONS, &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    let nodes = fleet(ingest, THREE, ON_THE_NODES, none);
    let pairs = fleet(ingest, THREE, PAIRS, none);
    // The fleet, what loses how much; the summary, just one zone, all of one protocol, whose fault, why.
    for (fleet, lossy, said, answers, why) in [
        (&six, &[][..], "ingest: nothing is lost beyond what is acceptable", ["no", "no", "unclear"], ""),
        (
            &six,
            &[("udp", 1.0)][..],
            "ingest: udp in every region (6/6), 100 % lost; nothing else",
            ["no", "yes", "service"],
            "12 vantages in 6 regions lose it; other protocols are well: 0 of 3600 lost",
        ),
        (
            &six,
            &[("*", 1.0)][..],
            "ingest: everything in every region (6/6), all protocols (6/6), 100 % lost; nothing else",
            ["no", "no", "service"],
            "12 vantages in 6 regions lose it",
        ),
        (
            &six,
            &[("*", 0.3)][..],
            "ingest: everything in every region (6/6), all protocols (6/6), 30 % lost; nothing else",
            ["no", "no", "service"],
            "12 vantages in 6 regions lose it",
        ),
        (
            &six,
            &[("eu-1", 1.0)][..],
            "ingest: eu-1 only (1/6 regions), all protocols (6/6), 100 % lost; nothing else",
            ["no", "no", "path"],
            "from 5 other regions the same service is well: 0 of 3600 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &six,
            &[("eu-1a", 1.0)][..],
            "ingest: zone eu-1a only (1/12 zones), all protocols (6/6), 100 % lost; nothing else",
            ["cannot_tell", "no", "source"],
            "from elsewhere the same service is well: 0 of 3960 lost; from its neighbours the same service is well: 0 of 360 lost; but no other service was measured from there",
        ),
        (
            &six,
            &[("n5 udp", 1.0)][..],
            "ingest: udp from zone eu-1a only (1/12 zones), 100 % lost; nothing else",
            ["no", "no", "unclear"],
            "from elsewhere the same service is well: 0 of 660 lost; one vantage and one service: the vantage and the way look the same",
        ),
        (
            &six,
            &[("tls", 0.0), ("*", 1.0)][..],
            "ingest: everything except tls (5/6 protocols), in every region (6/6), 100 % lost; nothing else",
            ["no", "no", "service"],
            "12 vantages in 6 regions lose it; what is excepted is well: 0 of 720 lost",
        ),
        (
            &six,
            &[("eu-1", 0.0), ("*", 1.0)][..],
            "ingest: everything except from eu-1 (5/6 regions), all protocols (6/6), 100 % lost; nothing else",
            ["no", "no", "unclear"],
            "10 vantages in 5 regions lose it; but from eu-1 it is well: 0 of 720 lost",
        ),
        (
            &six,
            &[("udp eu-1", 0.0), ("udp", 1.0)][..],
            "ingest: udp except from eu-1 (5/6 regions), 100 % lost; nothing else",
            ["no", "no", "unclear"],
            "10 vantages in 5 regions lose it; other protocols are well: 0 of 3600 lost; but from eu-1 it is well: 0 of 120 lost",
        ),
        (
            &six,
            &[("udp eu-1", -1.0), ("udp", 1.0)][..],
            "ingest: udp in 5 of 6 regions (eu-1 not measured), 100 % lost; nothing else",
            ["no", "yes", "service"],
            "10 vantages in 5 regions lose it; other protocols are well: 0 of 3600 lost",
        ),
        (
            &six,
            &[("udp eu-1", 1.0)][..],
            "ingest: udp from eu-1 only (1/6 regions), 100 % lost; nothing else",
            ["no", "no", "path"],
            "from 5 other regions the same service is well: 0 of 600 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &six,
            &[("udp", 1.0), ("n9", 0.5)][..],
            "ingest: udp in every region (6/6), 100 % lost; and zone us-1a (1/12 zones), all protocols (6/6), 50 % lost; nothing else",
            ["no", "no", "unclear"],
            "12 vantages in 6 regions lose it; other protocols are well: 0 of 3300 lost; from elsewhere the same service is well: 0 of 3300 lost; from its neighbours the same service is well: 0 of 300 lost; but no other service was measured from there",
        ),
        (
            &six,
            &[("udp", 1.0), ("tls", 1.0)][..],
            "ingest: tls and udp in every region (6/6), 100 % lost; nothing else",
            ["no", "no", "service"],
            "12 vantages in 6 regions lose it; other protocols are well: 0 of 2880 lost",
        ),
        (
            &six,
            &[("eu-1", 1.0), ("eu-2", 1.0)][..],
            "ingest: eu-1 and eu-2 only (2/6 regions), all protocols (6/6), 100 % lost; nothing else",
            ["no", "no", "path"],
            "from 4 other regions the same service is well: 0 of 2880 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &six,
            &[("eu-1", 1.0), ("eu-2", 0.2)][..],
            "ingest: eu-1 (1/6 regions), all protocols (6/6), 100 % lost; and eu-2 (1/6 regions), all protocols (6/6), 20 % lost; nothing else",
            ["no", "no", "path"],
            "from 4 other regions the same service is well: 0 of 2880 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &six,
            &[("gcp", 1.0)][..],
            "ingest: network gcp only (1/2 networks), all protocols (6/6), 100 % lost; nothing else",
            ["no", "no", "path"],
            "from elsewhere the same service is well: 0 of 2160 lost; 6 vantages there lose it; but no other service was measured from there",
        ),
        (
            &six,
            &[("udp gcp", 1.0)][..],
            "ingest: udp from network gcp only (1/2 networks), 100 % lost; nothing else",
            ["no", "no", "path"],
            "from elsewhere the same service is well: 0 of 360 lost; 6 vantages there lose it; but no other service was measured from there",
        ),
        (
            &six,
            &[("udp n1", 0.1), ("tls n6", 0.08), ("tcp n9", 0.1), ("https n3", 0.08), ("pickle n12", 0.1)][..],
            "ingest: 100 % scattered: 0.6 % lost, in 5 of 72 series that have nothing in common",
            ["no", "no", "unclear"],
            "no place or protocol explains the loss",
        ),
        (
            &six,
            &[("udp n1", 0.1)][..],
            "ingest: 0.1 % lost, in 1 of 72 series: udp from n1 in af-1",
            ["no", "no", "unclear"],
            "no place or protocol explains the loss",
        ),
        (
            &six,
            &[("udp n1", 0.1), ("tls n6", 0.08), ("tcp n9", 0.1), ("https n3", 0.08), ("eu-2", 0.5)][..],
            "ingest: eu-2 (1/6 regions), all protocols (6/6), 50 % lost; 5.5 % of the loss is scattered",
            ["no", "no", "path"],
            "2 vantages there lose it; but from 5 other regions the same service is not well either: 22 of 3600 lost; but no other service was measured from there",
        ),
        (
            &services,
            &[("udp", 1.0)][..],
            "udp in every region (6/6), all services (3/3), 100 % lost; nothing else",
            ["no", "yes", "service"],
            "12 vantages in 6 regions lose it; other protocols are well: 0 of 4320 lost",
        ),
        (
            &services,
            &[("ingest", 1.0)][..],
            "ingest: everything in every region (6/6), all protocols (3/3), 100 % lost; nothing else",
            ["no", "no", "service"],
            "12 vantages in 6 regions lose it; other services are well: 0 of 4320 lost",
        ),
        (
            &services,
            &[("ingest udp", 1.0)][..],
            "ingest: udp in every region (6/6), 100 % lost; nothing else",
            ["no", "yes", "service"],
            "12 vantages in 6 regions lose it; other protocols are well: 0 of 1440 lost; other services are well: 0 of 1440 lost",
        ),
        (
            &services,
            &[("ingest eu-1", 1.0)][..],
            "ingest: eu-1 only (1/6 regions), all protocols (3/3), 100 % lost; nothing else",
            ["no", "no", "path"],
            "from 5 other regions the same service is well: 0 of 1800 lost; from there other services are well: 0 of 720 lost; 2 vantages there lose it",
        ),
        (
            &services,
            &[("ingest eu-1a", 1.0)][..],
            "ingest: zone eu-1a only (1/12 zones), all protocols (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "path"],
            "from elsewhere the same service is well: 0 of 1980 lost; from there other services are well: 0 of 360 lost",
        ),
        (
            &services,
            &[("n9", 1.0)][..],
            "zone us-1a only (1/12 zones), all protocols (3/3), all services (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "source"],
            "from elsewhere all of it is well: 0 of 5940 lost; all 3 services are lost from there",
        ),
        (
            &services,
            &[("eu-1", 1.0)][..],
            "eu-1 only (1/6 regions), all protocols (3/3), all services (3/3), 100 % lost; nothing else",
            ["no", "no", "source"],
            "from 5 other regions all of it is well: 0 of 5400 lost; all 3 services are lost from there",
        ),
        (
            &services,
            &[("*", 1.0)][..],
            "everything in every region (6/6), all protocols (3/3), all services (3/3), 100 % lost; nothing else",
            ["no", "no", "unclear"],
            "all 3 services at once: what they share is lost, or the probes are",
        ),
        (
            &services,
            &[("search", 0.0), ("*", 1.0)][..],
            "everything except search (2/3 services), in every region (6/6), all protocols (3/3), 100 % lost; nothing else",
            ["no", "no", "service"],
            "12 vantages in 6 regions lose it; what is excepted is well: 0 of 2160 lost",
        ),
        (
            &services,
            &[("ingest udp", 1.0), ("login", 0.1)][..],
            "udp of ingest in every region (6/6), 100 % lost; and login (1/3 services) in every region (6/6), all protocols (3/3), 9.5 % lost; nothing else",
            ["no", "no", "service"],
            "12 vantages in 6 regions lose it; other protocols are well: 0 of 1440 lost; other services are well: 0 of 720 lost; other services are well: 0 of 3600 lost",
        ),
        (
            &small,
            &[("n4", 1.0)][..],
            "ingest: us only (1/3 regions), all protocols (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "unclear"],
            "from eu and sa the same service is well: 0 of 540 lost; one vantage and one service: the vantage and the way look the same",
        ),
        (
            &small,
            &[("n1", 1.0)][..],
            "ingest: node n1 only (1/4 nodes), all protocols (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "source"],
            "from elsewhere the same service is well: 0 of 540 lost; from its neighbours the same service is well: 0 of 180 lost; but no other service was measured from there",
        ),
        (
            &small,
            &[("eu", 1.0), ("us", 1.0)][..],
            "ingest: everything except from sa (2/3 regions), all protocols (3/3), 100 % lost; nothing else",
            ["no", "no", "unclear"],
            "3 vantages in 2 regions lose it; but from sa it is well: 0 of 180 lost",
        ),
        (
            &small,
            &[("eu", 1.0)][..],
            "ingest: eu only (1/3 regions), all protocols (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "path"],
            "from sa and us the same service is well: 0 of 360 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &small,
            &[("*", 1.0)][..],
            "ingest: everything in every region (3/3), all protocols (3/3), 100 % lost; nothing else",
            ["no", "no", "service"],
            "4 vantages in 3 regions lose it",
        ),
        (
            &single,
            &[("*", 1.0)][..],
            "ingest: everything from the only vantage, all protocols (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "unclear"],
            "only one vantage was measured: the way from there looks the same",
        ),
        (
            &single,
            &[("udp", 1.0)][..],
            "ingest: udp from the only vantage, 100 % lost; nothing else",
            ["no", "yes", "unclear"],
            "only one vantage was measured: the way from there looks the same",
        ),
        (
            &solo,
            &[("*", 1.0)][..],
            "ingest: everything in every region (6/6), 100 % lost; nothing else",
            ["no", "cannot_tell", "service"],
            "12 vantages in 6 regions lose it",
        ),
        (
            &solo,
            &[("us-1", 1.0)][..],
            "ingest: us-1 only (1/6 regions), 100 % lost; nothing else",
            ["no", "no", "path"],
            "from 5 other regions the same service is well: 0 of 600 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &each,
            &[("eu", 1.0)][..],
            "ingest: eu only (1/3 regions), all protocols (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "unclear"],
            "from ap and us the same service is well: 0 of 360 lost; one vantage and one service: the vantage and the way look the same",
        ),
        (
            &each_of_three,
            &[("eu", 1.0)][..],
            "eu only (1/3 regions), all protocols (3/3), all services (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "source"],
            "from ap and us all of it is well: 0 of 1080 lost; all 3 services are lost from there",
        ),
        (
            &each_of_three,
            &[("eu ingest", 1.0)][..],
            "ingest: eu only (1/3 regions), all protocols (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "path"],
            "from ap and us the same service is well: 0 of 360 lost; from there other services are well: 0 of 360 lost",
        ),
        (
            &addresses,
            &[("10.0.0.3", 1.0)][..],
            "ingest: address 10.0.0.3 (1/4 addresses) in every region (3/3), 100 % lost: the address, not the network; nothing else",
            ["no", "no", "service"],
            "4 vantages in 3 regions lose it; other addresses are well: 0 of 2160 lost",
        ),
        (
            &addresses,
            &[("10.0.0.3 tls", 1.0)][..],
            "ingest: tls to address 10.0.0.3 (1/4 addresses) in every region (3/3), 100 % lost; nothing else",
            ["no", "no", "service"],
            "4 vantages in 3 regions lose it; other protocols are well: 0 of 480 lost; other addresses are well: 0 of 720 lost",
        ),
        (
            &addresses,
            &[("10.0.0.3 eu", 1.0)][..],
            "ingest: address 10.0.0.3 (1/4 addresses) from eu only (1/3 regions), 100 % lost; nothing else",
            ["cannot_tell", "no", "path"],
            "from sa and us the same address is well: 0 of 360 lost; from there other addresses are well: 0 of 1080 lost; 2 vantages there lose it",
        ),
        (
            &addresses,
            &[("10.0.0.2", 1.0), ("10.0.0.3", 1.0)][..],
            "ingest: addresses 10.0.0.2 and 10.0.0.3 (2/4 addresses) in every region (3/3), 100 % lost: the addresses, not the network; nothing else",
            ["no", "no", "service"],
            "4 vantages in 3 regions lose it; other addresses are well: 0 of 1440 lost",
        ),
        (
            &nodes,
            &[("ingest-2", 1.0)][..],
            "ingest: node ingest-2 on itself only (1/3 nodes), all protocols (3/3), 100 % lost: the node, not the network; well on its peers (2 of 2) and outside (2 of 2)",
            ["cannot_tell", "no", "service"],
            "it was measured on the node itself; its peers are well, on 2 of 2 nodes: 0 of 360 lost; outside it is well, from 2 of 2 vantages: 0 of 360 lost",
        ),
        (
            &nodes,
            &[("external", 1.0)][..],
            "ingest: outside only (2/2 regions), all protocols (3/3), 100 % lost: the network in front of the nodes, not the service; well on its nodes (3 of 3)",
            ["no", "no", "path"],
            "outside it is lost, from 2 of 2 vantages in 2 regions: 360 of 360 lost; on its nodes it is well, on 3 of 3 nodes: 0 of 540 lost",
        ),
        (
            &pairs,
            &[("eu-a", 1.0)][..],
            "ingest: zone eu-a only (1/4 zones), all protocols (3/3), 100 % lost; nothing else",
            ["yes", "no", "path"],
            "from elsewhere the same service is well: 0 of 1080 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &pairs,
            &[("eu-a", 1.0), ("us-b", 1.0)][..],
            "ingest: zones eu-a and us-b only (2/4 zones), all protocols (3/3), 100 % lost; nothing else",
            ["no", "no", "path"],
            "from elsewhere the same service is well: 0 of 720 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &pairs,
            &[("udp eu-a", 1.0)][..],
            "ingest: udp from zone eu-a only (1/4 zones), 100 % lost; nothing else",
            ["no", "no", "path"],
            "from elsewhere the same service is well: 0 of 360 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &pairs,
            &[("n3", 1.0)][..],
            "ingest: node n3 only (1/8 nodes), all protocols (3/3), 100 % lost; nothing else",
            ["no", "no", "source"],
            "from elsewhere the same service is well: 0 of 1260 lost; from its neighbours the same service is well: 0 of 540 lost; but no other service was measured from there",
        ),
        (
            &pairs,
            &[("n3 tls", 1.0)][..],
            "ingest: tls from node n3 only (1/8 nodes), 100 % lost; nothing else",
            ["no", "no", "unclear"],
            "from elsewhere the same service is well: 0 of 420 lost; one vantage and one service: the vantage and the way look the same",
        ),
        (
            &pairs,
            &[("n3", 0.0), ("eu", 1.0)][..],
            "ingest: zone eu-a (1/4 zones), all protocols (3/3), 100 % lost; and node n4 (1/8 nodes), all protocols (3/3), 100 % lost; nothing else",
            ["no", "no", "unclear"],
            "from elsewhere the same service is well: 0 of 900 lost; 2 vantages there lose it; from its neighbours the same service is well: 0 of 180 lost; but no other service was measured from there",
        ),
        (
            &pairs,
            &[("n3", -1.0), ("eu-b", 1.0)][..],
            "ingest: zone eu-b only (1/4 zones), all protocols (3/3), 100 % lost; nothing else",
            ["cannot_tell", "no", "source"],
            "from elsewhere the same service is well: 0 of 1080 lost; from its neighbours the same service is well: 0 of 360 lost; but no other service was measured from there",
        ),
        (
            &pairs,
            &[("*", -1.0)][..],
            "ingest: nothing is lost beyond what is acceptable",
            ["no", "no", "unclear"],
            "",
        ),
        (
            &pairs,
            &[("n5", 0.0), ("*", -1.0)][..],
            "ingest: nothing is lost beyond what is acceptable",
            ["no", "no", "unclear"],
            "",
        ),
        (
            &pairs,
            &[("n5", 1.0), ("*", -1.0)][..],
            "ingest: everything in 1 of 2 regions (eu not measured), all protocols (3/3), 100 % lost; nothing else",
            ["no", "no", "unclear"],
            "only one vantage was measured: the way from there looks the same",
        ),
        (
            &pairs,
            &[("*", 0.004)][..],
            "ingest: nothing is lost beyond what is acceptable",
            ["no", "no", "unclear"],
            "",
        ),
    ] {
        let counts = minute(fleet, lossy);
        let extent = explain(fleet, &counts);
        let questions = questions(fleet, &counts, &extent);
        let found = blame(fleet, &counts, &extent, &Suspects::default());
        assert_eq!(summary(fleet, &counts, &extent), said, "{lossy:?}");
        assert_eq!(
            [questions.one_zone.name(), questions.one_protocol.name(), found.blame.name()],
            answers,
            "{lossy:?}"
        );
        let Grounds { evidence, against } = found.grounds;
        let against = against.iter().map(|sentence| format!("but {sentence}"));
        assert_eq!(evidence.into_iter().chain(against).collect::<Vec<_>>().join("; "), why, "{lossy:?}");
    }
}

/// A service as its collector judges it, by itself, with what the others lose from each vantage: the fleet, what of the service
/// loses how much, the vantages of which other services lose so much of 600 slots, and who is blamed, for and against.
#[test]
fn whose_fault_it_is_takes_the_other_services_into_account() {
    let none = &["none"][..];
    let pairs = fleet(&["ingest"], THREE, PAIRS, none);
    let each = fleet(&["ingest"], THREE, ONE_EACH, none);
    let single = fleet(&["ingest"], THREE, ONE_NODE, none);
    let addresses = fleet(&["ingest"], &["tcp"], PAIRS, &["10.0.0.1", "10.0.0.2"]);
    let same_node: &[&str] =
        &["eu none aws ingest-1 external", "us none gcp ingest-1 external", "eu none aws ingest-2 external"];
    let same_node = fleet(&["ingest"], THREE, same_node, none);
    let well = Beside { well: 600, lost: 1, services: 1 };
    let lost = Beside { well: 0, lost: 0, services: 2 };
    // One vantage, everything; and one service of it.
    type Row<'a> = (&'a Population, &'a str, Option<Beside>, Blame, &'a str, &'a str);
    let table: &[Row<'_>] = &[
        (&pairs, "n3", Some(lost), Blame::Source, "nothing else that is measured", ""),
        (&pairs, "n3", Some(well), Blame::Path, "other services are well: 1 of 600 lost", ""),
        (&pairs, "n3", None, Blame::Source, "from its neighbours the same", "no other service was measured"),
        (&each, "eu", Some(lost), Blame::Source, "nothing else that is measured", ""),
        (&each, "eu", Some(well), Blame::Path, "other services are well", ""),
        (&each, "eu", None, Blame::Unclear, "the vantage and the way look the same", ""),
        // One region, one service; and everything of it.
        (&pairs, "eu", Some(well), Blame::Path, "4 vantages there lose it", ""),
        (&pairs, "eu", None, Blame::Path, "4 vantages there lose it", "no other service was measured"),
        (&pairs, "eu", Some(lost), Blame::Source, "nothing else that is measured", ""),
        // One protocol, one address, one node, all of it: from everywhere.
        (&pairs, "tls", Some(well), Blame::Service, "8 vantages in 2 regions lose it", ""),
        (&addresses, "10.0.0.2", Some(well), Blame::Service, "other addresses are well", ""),
        (&same_node, "ingest-1", None, Blame::Service, "2 vantages in 2 regions lose it to that node", ""),
        (&pairs, "ingest", Some(well), Blame::Service, "8 vantages in 2 regions lose it", ""),
        // One protocol or address from one vantage.
        (&pairs, "n3 tls", Some(well), Blame::Unclear, "the vantage and the way look the same", ""),
        (&addresses, "n3 10.0.0.2", None, Blame::Path, "from there other addresses are well", ""),
        // Nobody else looks.
        (&single, "ingest", Some(well), Blame::Unclear, "only one vantage was measured", ""),
        (&single, "tls", Some(well), Blame::Unclear, "only one vantage was measured", ""),
    ];
    for (fleet, lossy, beside, blamed, why, against) in table {
        let counts = minute(fleet, &[(lossy, 1.0)]);
        let extent = explain(fleet, &counts);
        let beside = vec![beside.unwrap_or_default(); fleet.len()];
        let found = blame(fleet, &counts, &extent, &Suspects { beside, ..Suspects::default() });
        assert_eq!(found.blame, *blamed, "{lossy}: {:?}", found.grounds);
        let says = |sentences: &[String], part: &str| sentences.join("; ").contains(part);
        assert!(says(&found.grounds.evidence, why), "{lossy}: {:?}", found.grounds);
        assert!(says(&found.grounds.against, against), "{lossy}: {:?}", found.grounds);
        assert_eq!(found.grounds.against.is_empty(), against.is_empty(), "{lossy}: {:?}", found.grounds);
    }
}

/// Of everything so much is lost, and of one region all.
#[test]
fn what_loses_but_a_little_more_than_the_whole_has_no_say_of_its_own() {
    let fleet = fleet(&["ingest"], THREE, PAIRS, &["none"]);
    for (everywhere, blamed) in [(0.7, Blame::Service), (0.2, Blame::Unclear)] {
        let counts = minute(&fleet, &[("eu", 1.0), ("*", everywhere)]);
        let rule = |matches: &[(Tag, &str)], loss| Rule {
            matches: Predicate(matches.iter().map(|(tag, value)| (*tag, (*value).to_owned())).collect()),
            except: Vec::new(),
            loss,
            share: 0.5,
            lost: 0,
            judged: 0,
        };
        let rules = vec![rule(&[], everywhere), rule(&[(Tag::Region, "eu")], 1.0)];
        let extent = Extent { rules, scattered: 0.0 };
        let found = blame(&fleet, &counts, &extent, &Suspects::default());
        assert_eq!(found.blame, blamed, "{everywhere}: {:?}", found.grounds);
    }
}

#[test]
fn whoever_tells_of_the_loss_is_suspected_too() {
    let fleet = fleet(&["ingest"], THREE, PAIRS, &["none"]);
    let counts = minute(&fleet, &[("udp", 1.0)]);
    let extent = explain(&fleet, &counts);
    let reader = Some("the reader answers 500".to_owned());
    for (suspects, blamed) in [
        (Suspects::default(), Blame::Service),
        (Suspects { us: Some("judgement is 40 s behind".to_owned()), ..Suspects::default() }, Blame::Us),
        (Suspects { reader: reader.clone(), only_unread: 480, ..Suspects::default() }, Blame::Reader),
        // A reader that is ill explains nothing that the senders saw lost themselves.
        (Suspects { reader: reader.clone(), only_unread: 479, ..Suspects::default() }, Blame::Service),
        (Suspects { reader, ..Suspects::default() }, Blame::Service),
        // The service takes and does not store: nothing is wrong with who reads.
        (Suspects { only_unread: 480, ..Suspects::default() }, Blame::Service),
    ] {
        assert_eq!(blame(&fleet, &counts, &extent, &suspects).blame, blamed, "{suspects:?}");
    }
}

#[test]
fn shares_are_said_without_hiding_a_remainder() {
    for (share, said) in [
        (0.0, "0.0 %"),
        (0.0123, "1.2 %"),
        (0.0996, "10 %"),
        (0.5, "50 %"),
        (0.9999, "99.9 %"),
        (0.992, "99.2 %"),
        (1.0, "100 %"),
    ] {
        assert_eq!(percent(share), said);
    }
}

#[test]
fn predicates_that_mean_the_same_are_one() {
    let fleet = fleet(&["ingest"], THREE, PAIRS, &["none"]);
    let set = |pairs: &[(Tag, &str)]| {
        let predicate = Predicate(pairs.iter().map(|(tag, value)| (*tag, (*value).to_owned())).collect());
        fleet.set(&predicate).map(|set| fleet.predicate(set))
    };
    let zone = set(&[(Tag::Zone, "eu-a")]);
    assert_eq!(zone.as_ref().map(|zone| zone.0.len()), Some(1));
    assert_eq!(set(&[(Tag::Zone, "eu-a"), (Tag::Region, "eu"), (Tag::Service, "ingest")]), zone);
    assert_eq!(set(&[(Tag::Service, "ingest")]), Some(Predicate::default()));
    assert_eq!(set(&[(Tag::Zone, "eu-a"), (Tag::Region, "us")]), None);
    assert_eq!(set(&[(Tag::Zone, "none")]), None);
}

/// One to `most` causes of `severities`, whose cells are a third the same at most, and what a minute shows of them.
fn planted(
    most: usize,
    seed: u64,
    population: &Population,
    severities: &[f64],
) -> (Vec<Clause>, Vec<Counts>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut clauses: Vec<Clause> = Vec::new();
    for _ in 0..rng.usize(1..=most) {
        let cuboid = rng.u32(0..population.cuboids().len() as u32);
        let groups = population.cuboids()[cuboid as usize].len() as u32;
        if groups == 0 {
            continue;
        }
        let set = Set { cuboid, group: rng.u32(0..groups) };
        let loss = severities[rng.usize(0..severities.len())];
        let cells = population.members(set);
        let too_close = |other: &Clause| {
            let theirs = population.members(other.set);
            3 * cells.iter().filter(|cell| theirs.contains(cell)).count() > cells.len().min(theirs.len())
        };
        if !clauses.iter().any(too_close) {
            clauses.push(Clause { loss, ..Clause::new(set) });
        }
    }
    let mut loss = vec![0.002; population.len()];
    for (cell, rules) in matching(population, &clauses) {
        loss[cell as usize] = 1.0 - 0.998 * kept(&clauses, rules);
    }
    let counts = loss.into_iter().map(|loss| {
        let judged = if rng.f64() < 0.1 { rng.u64(0..=60) } else { 60 };
        Counts { judged, lost: (0..judged).filter(|_| rng.f64() < loss).count() as u64, acceptable: 0.005 }
    });
    (clauses, counts.collect())
}

/// Several causes that overlap can end a search beside the best: it only ever goes downhill.
#[test]
fn of_a_hundred_descriptions_ninety_five_are_as_short_as_what_was_planted() {
    let fleet = fleet(&["ingest", "login"], THREE, PAIRS, &["10.0.0.1", "10.0.0.2"]);
    let longer = (0..100).filter(|seed| {
        let (causes, counts) = planted(3, *seed, &fleet, &[1.0, 0.5, 0.2, 0.1, 0.05]);
        let mut search = Search::new(&fleet, &counts);
        let found = search.run();
        found.cost > search.weigh(causes).cost + 1e-6
    });
    assert!(longer.count() <= 5);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_planted_cause_is_never_shorter(seed in any::<u64>()) {
        let fleet = fleet(&["ingest", "login"], THREE, PAIRS, &["10.0.0.1", "10.0.0.2"]);
        let (causes, counts) = planted(1, seed, &fleet, &[1.0, 0.5, 0.2, 0.1]);
        let mut search = Search::new(&fleet, &counts);
        let found = search.run();
        let known = search.weigh(causes);
        prop_assert!(found.cost <= known.cost + 1e-6, "{:?} is longer than {:?}", found, known);
    }

    #[test]
    fn the_order_of_the_cells_says_nothing(seed in any::<u64>()) {
        let ordered = fleet(&["ingest", "login"], THREE, PAIRS, &["none"]);
        let (_, counts) = planted(3, seed, &ordered, &[1.0, 0.5, 0.2, 0.1, 0.05]);
        let mut rows: Vec<(Vec<String>, Counts)> = ordered.rows().iter().cloned().zip(counts.iter().copied()).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut rows);
        let shuffled = Population::new(&TAGS, rows.iter().map(|row| row.0.clone()));
        let by_row: std::collections::HashMap<Vec<String>, Counts> = rows.into_iter().collect();
        let again: Vec<Counts> = shuffled.rows().iter().map(|row| by_row[row]).collect();
        prop_assert_eq!(explain(&ordered, &counts), explain(&shuffled, &again));
    }

    #[test]
    fn shares_and_slots_add_up(seed in any::<u64>()) {
        let fleet = fleet(&["ingest", "login"], THREE, PAIRS, &["none"]);
        let (_, counts) = planted(3, seed, &fleet, &[1.0, 0.5, 0.2, 0.1, 0.05]);
        let extent = explain(&fleet, &counts);
        let shares: f64 = extent.rules.iter().map(|rule| rule.share).sum::<f64>() + extent.scattered;
        prop_assert!((shares - 1.0).abs() < 1e-9 || counts.iter().all(|cell| cell.lost == 0), "{}", shares);
        for rule in &extent.rules {
            let cells = fleet.matching(&rule.matches).filter(|cell| !rule.except.iter().any(|except| fleet.matches(*cell, except)));
            let (judged, lost) = cells.fold((0, 0), |sum, cell| (sum.0 + counts[cell].judged, sum.1 + counts[cell].lost));
            prop_assert_eq!((rule.judged, rule.lost), (judged, lost));
            prop_assert!((0.0..=1.0).contains(&rule.loss) && rule.share >= 0.0);
        }
    }
}
