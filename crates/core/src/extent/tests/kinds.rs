//! What is said where outside, the data centre and the nodes themselves are looked at.

use super::*;

/// As a collector orders them.
const ORDERED: [Tag; 8] =
    [Tag::Service, Tag::Protocol, Tag::Kind, Tag::Region, Tag::Zone, Tag::Network, Tag::Node, Tag::Address];

/// Two regions outside, an agent in the data centre, and six nodes in three zones of it.
const THREE_KINDS: &[&str] = &[
    "external eu-1 eu-1a aws canary-1",
    "external us-1 us-1a aws canary-2",
    "datacentre dc dc-a none canary-3",
    "loopback dc dc-a none n1",
    "loopback dc dc-a none n2",
    "loopback dc dc-b none n3",
    "loopback dc dc-b none n4",
    "loopback dc dc-c none n5",
    "loopback dc dc-c none n6",
];

/// A second agent in each region outside, and in the data centre.
const MORE_OUTSIDE: &[&str] = &[
    "external eu-1 eu-1b aws canary-4",
    "external us-1 us-1b aws canary-5",
    "datacentre dc dc-b none canary-6",
];

fn seen_from(vantages: &[&str], addresses: &[&str]) -> Population {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for protocol in THREE {
        for vantage in vantages {
            let place: Vec<&str> = vantage.split(' ').collect();
            // A node that looks at itself has no choice of addresses.
            let addresses = if place[0] == "loopback" { &["none"][..] } else { addresses };
            for address in addresses {
                let row = ["ingest", protocol, place[0], place[1], place[2], place[3], place[4], address];
                rows.push(row.map(str::to_owned).to_vec());
            }
        }
    }
    Population::new(&ORDERED, rows)
}

#[test]
fn kinds_of_vantage_are_told_apart() {
    let fleet = seen_from(THREE_KINDS, &["none"]);
    let in_pairs = seen_from(&[THREE_KINDS, MORE_OUTSIDE].concat(), &["none"]);
    let by_address = seen_from(THREE_KINDS, &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    let one_outside = seen_from(&THREE_KINDS[1..], &["none"]);
    let well = Some(Beside { well: 600, lost: 1, services: 1 });
    let lost = Some(Beside { well: 0, lost: 0, services: 2 });
    // The fleet, what loses how much, how other services do from there; the summary, whose fault, why.
    for (fleet, lossy, beside, said, blamed, why) in [
        (
            &fleet,
            &[("external", 1.0)] as &[(&str, f64)],
            None,
            "ingest: outside only (2/2 regions), all protocols (3/3), 100 % lost: the network in front of the nodes, not the service; well in the data centre (1 of 1) and on its nodes (6 of 6)",
            Blame::Path,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 360 of 360 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost",
        ),
        (
            &fleet,
            &[("external", 0.2)] as &[(&str, f64)],
            None,
            "ingest: outside only (2/2 regions), all protocols (3/3), 20 % lost: the network in front of the nodes, not the service; well in the data centre (1 of 1) and on its nodes (6 of 6)",
            Blame::Path,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 72 of 360 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost",
        ),
        (
            &fleet,
            &[("external udp", 1.0)] as &[(&str, f64)],
            None,
            "ingest: udp outside only (2/2 regions), 100 % lost: the network in front of the nodes, not the service; well in the data centre (1 of 1) and on its nodes (6 of 6)",
            Blame::Path,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 120 of 120 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost",
        ),
        (
            &fleet,
            &[("external", 1.0)] as &[(&str, f64)],
            lost,
            "ingest: outside only (2/2 regions), all protocols (3/3), 100 % lost: the network in front of the nodes, not the service; well in the data centre (1 of 1) and on its nodes (6 of 6)",
            Blame::Path,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 360 of 360 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost; but from there nothing else that is measured is well either",
        ),
        (
            &fleet,
            &[("external", 1.0), ("datacentre", -1.0)] as &[(&str, f64)],
            None,
            "ingest: outside only (2/2 regions), all protocols (3/3), 100 % lost: the network in front of the nodes, not the service; well on its nodes (6 of 6); not measured in the data centre",
            Blame::Path,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 360 of 360 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost",
        ),
        (
            &one_outside,
            &[("external", 1.0)] as &[(&str, f64)],
            None,
            "ingest: outside only (1/1 vantage), all protocols (3/3), 100 % lost; well in the data centre (1 of 1) and on its nodes (6 of 6)",
            Blame::Unclear,
            "outside it is lost, from 1 of 1 vantage: 180 of 180 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost; but one vantage loses it: the vantage and the way look the same",
        ),
        (
            &one_outside,
            &[("external", 1.0)] as &[(&str, f64)],
            well,
            "ingest: outside only (1/1 vantage), all protocols (3/3), 100 % lost; well in the data centre (1 of 1) and on its nodes (6 of 6)",
            Blame::Path,
            "outside it is lost, from 1 of 1 vantage: 180 of 180 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost; from there other services are well: 1 of 600 lost",
        ),
        (
            &fleet,
            &[("n3", 1.0)] as &[(&str, f64)],
            None,
            "ingest: node n3 on itself only (1/6 nodes), all protocols (3/3), 100 % lost: the node, not the network; well on its peers (5 of 5), outside (2 of 2) and in the data centre (1 of 1)",
            Blame::Service,
            "it was measured on the node itself; its peers are well, on 5 of 5 nodes: 0 of 900 lost; outside it is well, from 2 of 2 vantages: 0 of 360 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost",
        ),
        (
            &by_address,
            &[("n3", 1.0), ("10.0.0.3", 1.0)] as &[(&str, f64)],
            None,
            "ingest: address 10.0.0.3 (1/4 addresses) outside (2/2) and in the data centre (1/1), 100 % lost; and node n3 on itself (1/6 nodes), all protocols (3/3), 100 % lost; well on its peers (5 of 5)",
            Blame::Service,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 360 of 360 lost; in the data centre it is lost, from 1 of 1 vantage: 180 of 180 lost; other addresses are well: 0 of 2520 lost; it was measured on the node itself; its peers are well, on 5 of 5 nodes: 0 of 900 lost; outside it is well, from 2 of 2 vantages: 0 of 1080 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 540 lost",
        ),
        (
            &fleet,
            &[("n3", 1.0), ("external", 0.17), ("datacentre", 0.17)] as &[(&str, f64)],
            None,
            "ingest: node n3 on itself (1/6 nodes), all protocols (3/3), 100 % lost; and outside (2/2) and in the data centre (1/1), all protocols (3/3), 16 % lost; well on its peers (5 of 5)",
            Blame::Service,
            "it was measured on the node itself; its peers are well, on 5 of 5 nodes: 0 of 900 lost; outside it is lost, from 2 of 2 vantages in 2 regions: 60 of 360 lost; in the data centre it is lost, from 1 of 1 vantage: 30 of 180 lost; on its nodes it is well, on 5 of 5 nodes: 0 of 900 lost; what is lost elsewhere is a part, as a node that is lost takes with it",
        ),
        (
            &fleet,
            &[("n3", 1.0), ("external", 1.0)] as &[(&str, f64)],
            None,
            "ingest: outside (2/2 regions), all protocols (3/3), 100 % lost; and node n3 on itself (1/6 nodes), all protocols (3/3), 100 % lost; well on its peers (5 of 5) and in the data centre (1 of 1)",
            Blame::Unclear,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 360 of 360 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost; on its nodes it is well, on 5 of 5 nodes: 0 of 900 lost; it was measured on the node itself; its peers are well, on 5 of 5 nodes: 0 of 900 lost",
        ),
        (
            &fleet,
            &[("n3", 1.0), ("n5", 1.0)] as &[(&str, f64)],
            None,
            "ingest: nodes n3 and n5 on themselves only (2/6 nodes), all protocols (3/3), 100 % lost: the nodes, not the network; well on the other nodes (4 of 4), outside (2 of 2) and in the data centre (1 of 1)",
            Blame::Service,
            "it was measured on the node itself; its peers are well, on 4 of 4 nodes: 0 of 720 lost; outside it is well, from 2 of 2 vantages: 0 of 360 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost",
        ),
        (
            &fleet,
            &[("external", 1.0), ("datacentre", 1.0)] as &[(&str, f64)],
            None,
            "ingest: outside (2/2) and in the data centre (1/1) only, all protocols (3/3), 100 % lost: the network in front of the nodes, not the service; well on its nodes (6 of 6)",
            Blame::Path,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 360 of 360 lost; in the data centre it is lost, from 1 of 1 vantage: 180 of 180 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost",
        ),
        (
            &fleet,
            &[("*", 1.0)] as &[(&str, f64)],
            None,
            "ingest: everything outside (2/2), in the data centre (1/1) and on its nodes (6/6), all protocols (3/3), 100 % lost; nothing else",
            Blame::Service,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 360 of 360 lost; in the data centre it is lost, from 1 of 1 vantage: 180 of 180 lost; on its nodes it is lost, on 6 of 6 nodes: 1080 of 1080 lost",
        ),
        (
            &fleet,
            &[("udp", 1.0)] as &[(&str, f64)],
            None,
            "ingest: udp outside (2/2), in the data centre (1/1) and on its nodes (6/6), 100 % lost; nothing else",
            Blame::Service,
            "outside it is lost, from 2 of 2 vantages in 2 regions: 120 of 120 lost; in the data centre it is lost, from 1 of 1 vantage: 60 of 60 lost; on its nodes it is lost, on 6 of 6 nodes: 360 of 360 lost; other protocols are well: 0 of 1080 lost",
        ),
        (
            &fleet,
            &[("eu-1", 1.0)] as &[(&str, f64)],
            None,
            "ingest: eu-1 outside only (1/2 regions), all protocols (3/3), 100 % lost; well elsewhere outside (1 of 1), in the data centre (1 of 1) and on its nodes (6 of 6)",
            Blame::Unclear,
            "from us-1 the same service is well: 0 of 180 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost; one vantage and one service: the vantage and the way look the same",
        ),
        (
            &in_pairs,
            &[("eu-1", 1.0)] as &[(&str, f64)],
            None,
            "ingest: eu-1 outside only (1/2 regions), all protocols (3/3), 100 % lost; well elsewhere outside (2 of 2), in the data centre (2 of 2) and on its nodes (6 of 6)",
            Blame::Path,
            "from us-1 the same service is well: 0 of 360 lost; in the data centre it is well, from 2 of 2 vantages: 0 of 360 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost; 2 vantages there lose it; but no other service was measured from there",
        ),
        (
            &fleet,
            &[("loopback", 1.0)] as &[(&str, f64)],
            None,
            "ingest: on its nodes only (6/6 nodes), all protocols (3/3), 100 % lost; well outside (2 of 2) and in the data centre (1 of 1)",
            Blame::Unclear,
            "on its nodes it is lost, on 6 of 6 nodes: 1080 of 1080 lost; outside it is well, from 2 of 2 vantages: 0 of 360 lost; in the data centre it is well, from 1 of 1 vantage: 0 of 180 lost; but what the nodes share is lost there, or their own probes are: others do not miss it",
        ),
        (
            &fleet,
            &[("dc", 1.0)] as &[(&str, f64)],
            None,
            "ingest: in the data centre (1/1) and on its nodes (6/6) only, all protocols (3/3), 100 % lost; well outside (2 of 2)",
            Blame::Unclear,
            "in the data centre it is lost, from 1 of 1 vantage: 180 of 180 lost; on its nodes it is lost, on 6 of 6 nodes: 1080 of 1080 lost; outside it is well, from 2 of 2 vantages: 0 of 360 lost; but nothing is known that these share and those who do not lose it lack",
        ),
        (
            &fleet,
            &[("datacentre", 1.0)] as &[(&str, f64)],
            None,
            "ingest: in the data centre only (1/1 vantage), all protocols (3/3), 100 % lost; well outside (2 of 2) and on its nodes (6 of 6)",
            Blame::Unclear,
            "in the data centre it is lost, from 1 of 1 vantage: 180 of 180 lost; outside it is well, from 2 of 2 vantages: 0 of 360 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost; but one vantage loses it: the vantage and the way look the same",
        ),
        (
            &in_pairs,
            &[("datacentre", 1.0)] as &[(&str, f64)],
            None,
            "ingest: in the data centre only (2/2 vantages), all protocols (3/3), 100 % lost; well outside (4 of 4) and on its nodes (6 of 6)",
            Blame::Path,
            "in the data centre it is lost, from 2 of 2 vantages: 360 of 360 lost; outside it is well, from 4 of 4 vantages: 0 of 720 lost; on its nodes it is well, on 6 of 6 nodes: 0 of 1080 lost",
        ),
    ] {
        let counts = minute(fleet, lossy);
        let extent = explain(fleet, &counts);
        assert_eq!(summary(fleet, &counts, &extent), said, "{lossy:?}");
        let beside = beside.map(|beside: Beside| vec![beside; fleet.len()]).unwrap_or_default();
        let found = blame(fleet, &counts, &extent, &Suspects { beside, ..Suspects::default() });
        let Grounds { evidence, against } = found.grounds;
        let against = against.iter().map(|sentence| format!("but {sentence}"));
        assert_eq!(evidence.into_iter().chain(against).collect::<Vec<_>>().join("; "), why, "{lossy:?}");
        assert_eq!(found.blame, blamed, "{lossy:?}");
    }
}
