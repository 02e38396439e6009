//! What is lost: of one protocol, from one region, from one node, at one address of four, and altogether.
//!
//! A protocol is lost because the gateway of a real service is stopped, everything because a real carbon is; a region and a node
//! because what comes from there gets stuck on the way; and one address of four because the front there, a sink of ours before
//! carbon, goes on taking connections and reads nothing any more.

use std::{net::Ipv4Addr, thread, time::Duration};

use aviary_core::Protocol;
use aviary_sink::Misbehaviour;

use super::{
    border::Border,
    fleet::{Fleet, LIMITS, service, source},
    front::Front,
    words::as_told,
};
use crate::support::{graphite::Graphite, names::Names, ports::Port, service::Service};

/// Two protocols through a border each before a Graphite.
fn borders(graphite: &Graphite) -> (Vec<Border>, Vec<String>, Vec<Port>) {
    let (tcp, pickle) = (Port::claim(), Port::claim());
    let borders =
        vec![Border::open(tcp.address(), graphite.line()), Border::open(pickle.address(), graphite.pickle())];
    let endpoints = vec![format!("tcp://{}", tcp.address()), format!("pickle://{}", pickle.address())];
    (borders, endpoints, vec![tcp, pickle])
}

const PAGES: &str = "\
page: ingest: https in every region (3/3), # % lost; nothing else
Since TIME, # s before this message. Severity warning, state open.
Delivered # of # in # s (# %), # lost; # % may be lost.
Seen from 6 of 6 vantage points.
Just one zone? no. All of one protocol? yes.
Cause: protocol https: # of # lost, # % of the loss
Evidence: connect refused, # of #
Evidence: 6 vantages in 3 regions lose it
Evidence: other protocols are well: # of # lost
Whose fault: the service.
Owner: ingest team
---
page: billing: everything in every region (3/3), all protocols (2/2), # % lost; nothing else
Since TIME, # s before this message. Severity critical, state open.
Delivered # of # in # s (# %), # lost; # % may be lost.
Seen from 6 of 6 vantage points.
Just one zone? no. All of one protocol? no.
Cause: everything: # of # lost, # % of the loss
Evidence: connect refused, # of #
Evidence: 6 vantages in 3 regions lose it
Whose fault: the service.
Owner: billing team
---
page: orders: us only (1/3 regions), all protocols (2/2), # % lost; nothing else
Since TIME, # s before this message. Severity warning, state open.
Delivered # of # in # s (# %), # lost; # % may be lost.
Seen from 2 of 6 vantage points.
Just one zone? cannot tell. All of one protocol? no.
Cause: region us: # of # lost, # % of the loss
Evidence: confirm timeout, # of #
Evidence: from ap and eu the same service is well: # of # lost
Evidence: from there other services are well: # of # lost
Evidence: 2 vantages there lose it
Evidence: 4 vantage points of 6 do not see it
Whose fault: the way from there to the service.
Owner: orders team
---
ticket: search: node eu-1 only (1/6 nodes), all protocols (2/2), # % lost; nothing else
Since TIME, # s before this message. Severity warning, state open.
Delivered # of # in # s (# %), # lost; # % may be lost.
Seen from 1 of 6 vantage points.
Just one zone? cannot tell. All of one protocol? no.
Cause: node eu-1: # of # lost, # % of the loss
Evidence: confirm timeout, # of #
Evidence: from elsewhere the same service is well: # of # lost
Evidence: from there other services are well: # of # lost
Evidence: 5 vantage points of 6 do not see it
Whose fault: the way from there to the service.
Owner: search team
---
page: mirror: address 127.0.0.3 (1/4 addresses) in every region (3/3), # % lost: the address, not the network; nothing else
Since TIME, # s before this message. Severity warning, state open.
Delivered # of # in # s (# %), # lost; # % may be lost.
Seen from 6 of 6 vantage points.
Just one zone? no. All of one protocol? no.
Cause: address 127.0.0.3: # of # lost, # % of the loss
Evidence: confirm timeout, # of #
Evidence: 6 vantages in 3 regions lose it
Evidence: other addresses are well: # of # lost
Whose fault: the service.
Owner: mirror team";

#[test]
fn five_losses_are_five_pages() {
    let mut ingest = Service::start();
    let mut billing = Graphite::start();
    let (orders, orders_endpoints, _orders_ports) = borders(&ingest.graphite);
    let (search, search_endpoints, _search_ports) = borders(&ingest.graphite);
    let port = Port::claim();
    let addresses = [1, 2, 3, 4].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let names = Names::start(&addresses);
    let mirror =
        addresses.map(|address| Front::open((address, port.number()).into(), ingest.graphite.line()));
    let all = Protocol::ALL.iter().map(|protocol| ingest.endpoint(*protocol)).collect::<Vec<_>>();
    let reads =
        |graphite: &Graphite| format!("[service.readback]\ngraphite = \"http://{}\"\n", graphite.http());
    let ca = format!("ca = {{ file = \"{}\" }}\n", ingest.ca().display());
    let services = [
        service("ingest", &all, LIMITS, &(ca + &reads(&ingest.graphite))),
        service(
            "billing",
            &[format!("tcp://{}", billing.line()), format!("pickle://{}", billing.pickle())],
            LIMITS,
            &reads(&billing),
        ),
        service("orders", &orders_endpoints, LIMITS, ""),
        service("search", &search_endpoints, LIMITS, ""),
        service(
            "mirror",
            &[format!("tcp://mirror.test:{}", port.number())],
            LIMITS,
            &("addresses = \"all\"\n".to_owned() + &reads(&ingest.graphite)),
        ),
    ];
    let name_servers = format!("name_servers = [\"{}\"]", names.address());
    let mut fleet = Fleet::start(&services.concat(), |_| (name_servers.clone(), services.concat()));
    fleet.wait_until_well(services.len());

    ingest.gateway.process().stop();
    billing.stop_carbon();
    orders.iter().for_each(|border| border.stick(&["us-1", "us-2"].map(source)));
    search.iter().for_each(|border| border.stick(&[source("eu-1")]));
    mirror[2].misbehave(Misbehaviour::NeverRead);
    let all = ["ingest: ", "billing: ", "orders: ", "search: ", "mirror: "];
    fleet.wait_until_opened(&all);
    thread::sleep(Duration::from_secs(10));

    ingest.gateway.process().restart();
    billing.restart_carbon();
    orders.iter().chain(&search).for_each(|border| border.stick(&[]));
    mirror[2].misbehave(Misbehaviour::None);
    fleet.wait_until_resolved(&all);
    thread::sleep(Duration::from_secs(2));
    let pages = all.map(|begin| fleet.page(begin, true)).join("\n---\n");
    assert_eq!(fleet.opened(), all.len(), "{}", fleet.story());
    assert_eq!(pages, as_told(PAGES, &pages), "{}", fleet.story());
}
