//! Names with several addresses, of which one is dead, and which come and go.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use aviary_core::{Second, Span};

use super::none_missed_at;
use crate::support::{
    aviary::now,
    names::Names,
    node::Node,
    ports::Port,
    slots::{all_delivered, is_starved_or_timed_out, unlike},
    tcp_server::TcpServer,
};

const NAME: &str = "ingest.test";

fn loopback(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

/// 127.0.0.1 to 127.0.0.4 at one port, with nobody at 127.0.0.3.
fn three_of_four(port: &Port) -> (Names, Vec<TcpServer>) {
    let names = Names::start(&[1, 2, 3, 4].map(loopback));
    let receivers =
        [1, 2, 4].map(|last| TcpServer::start(SocketAddr::new(loopback(last).into(), port.number())));
    (names, receivers.into())
}

const COLLECTOR: &str = "[collector]\nlisten = \"@listen@\"\n";

fn agent(collector: &Node, names: &Names, addresses: &str, endpoints: &[String]) -> Node {
    Node::start(&format!(
        "[vantage]\nregion = \"eu\"\nnode = \"n\"\n[agent]\nlisten = \"@listen@\"\n\
         name_servers = [\"{}\"]\ncollector = [\"http://{}\"]\n\
         [[service]]\nname = \"ingest\"\naddresses = \"{addresses}\"\nendpoints = {endpoints:?}\n",
        names.address(),
        collector.address()
    ))
}

#[test]
fn with_rotate_one_dead_address_of_four_is_a_quarter_lost() {
    let port = Port::claim();
    let (names, _receivers) = three_of_four(&port);
    let collector = Node::start(COLLECTOR);
    // Three protocols at one name.
    let endpoints = ["tcp", "pickle", "udp"].map(|protocol| format!("{protocol}://{NAME}:{}", port.number()));
    let _agent = agent(&collector, &names, "rotate", &endpoints);
    collector.wait_until_delivered(&endpoints[0], 3);
    let from = now();
    let span = Span::new(from, from.plus(40));
    let slots = collector.closed_slots("endpoint", span);
    let dead = SocketAddr::new(loopback(3).into(), port.number()).to_string();
    for endpoint in &endpoints[..2] {
        // Few enough that a slot at the dead address is among the others.
        let late = slots[endpoint].values().filter(|slot| is_starved_or_timed_out(&slot.outcome)).count();
        assert!(slots[endpoint].len() == 40 && late <= 8, "{endpoint}: {:#?}", slots[endpoint]);
        for (second, slot) in
            slots[endpoint].iter().filter(|(_, slot)| !is_starved_or_timed_out(&slot.outcome))
        {
            // Each address has its turn, in their order.
            if second.0 % 4 == 2 {
                assert_eq!(slot.outcome, "lost connect refused", "{endpoint} at {second}");
                assert_eq!(slot.address.as_ref(), Some(&dead), "{endpoint} at {second}");
            } else {
                assert_eq!(slot.outcome, "delivered", "{endpoint} at {second}");
            }
        }
    }
    let asked = names.asked();
    let often: Vec<_> = asked.iter().filter(|(_, times)| **times > 1).collect();
    // A lookup may begin at the end of its second, and be noted in the next one; and a question that is not answered within
    // 300 ms is asked again.
    assert!(often.len() <= asked.len() / 5, "one question a second serves three protocols: {often:?}");
    let during =
        asked.keys().filter(|(second, name, _)| name == NAME && span.contains(Second(*second))).count();
    assert!((30..=41).contains(&during), "{during} questions in 40 s: {asked:?}");
}

#[test]
fn with_all_each_address_is_a_series_that_comes_and_goes_with_the_address() {
    let port = Port::claim();
    let (names, _receivers) = three_of_four(&port);
    let collector = Node::start(COLLECTOR);
    let began = now();
    let endpoint = format!("tcp://{NAME}:{}", port.number());
    let agent = agent(&collector, &names, "all", &[endpoint]);
    thread::sleep(Duration::from_secs(12));

    let sums = || {
        let (status, sums) = collector.ask("/api/v1/sums?by=address&window=5s");
        assert_eq!(status, 200, "{sums:#}");
        let groups = sums["groups"].as_array().unwrap().clone();
        let row = |group: &serde_json::Value| {
            let number = |key: &str| group[key].as_u64().unwrap();
            let address = group["by"]["address"].as_str().unwrap().to_owned();
            (address, number("delivered"), number("lost"), number("unknown"))
        };
        groups.iter().map(row).collect::<Vec<_>>()
    };
    let expected = [("127.0.0.1", 5, 0), ("127.0.0.2", 5, 0), ("127.0.0.3", 0, 5), ("127.0.0.4", 5, 0)];
    let expected = expected.map(|(address, delivered, lost)| (address.to_owned(), delivered, lost, 0));
    agent.wait("each address has a say", || sums() == expected);

    // The dead one is replaced. One that is left out of the answers of a minute is gone.
    let _fifth = TcpServer::start(SocketAddr::new(loopback(5).into(), port.number()));
    let changed = now();
    names.set(&[1, 2, 4, 5].map(loopback));
    let events = || {
        let (_, events) = collector.ask(&format!("/api/v1/events?from={began}"));
        let events = events["events"].as_array().unwrap().clone();
        let row = |event: &serde_json::Value| {
            let text = |key: &str| event[key].as_str().unwrap().to_owned();
            assert_eq!((text("host"), event["vantage"]["node"].as_str()), (NAME.to_owned(), Some("n")));
            (text("kind"), text("address"), event["at"].as_u64().unwrap())
        };
        events.iter().map(row).collect::<Vec<_>>()
    };
    agent.wait("the new address is an event", || {
        events()
            .iter()
            .any(|(kind, address, _)| (kind.as_str(), address.as_str()) == ("address_added", "127.0.0.5"))
    });
    let (kind, address, at) = &events()[0];
    assert_eq!((kind.as_str(), address.as_str()), ("address_added", "127.0.0.5"));
    assert!((changed.0..changed.0 + 30).contains(at), "{at} and {changed}");
    // Seconds without an answer of the name server do not count.
    while events().len() < 2 && now() < changed.plus(150) {
        thread::sleep(Duration::from_millis(200));
    }
    let events = events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!((events[1].0.as_str(), events[1].1.as_str()), ("address_removed", "127.0.0.3"));
    let expected = ["127.0.0.1", "127.0.0.2", "127.0.0.4", "127.0.0.5"].map(|it| (it.to_owned(), 5, 0, 0));
    agent.wait("each address has a say", || sums() == expected);

    let span = Span::new(began, now().minus(4));
    let slots = collector.closed_slots("address", span);
    // No second is left out at either change.
    let (_, last) = all_delivered(&slots["127.0.0.1"]);
    assert_eq!(last.plus(1), span.until);
    let (beginning, _) = all_delivered(&slots["127.0.0.5"]);
    let gone = &slots["127.0.0.3"];
    assert_eq!(unlike(gone, "lost connect refused"), []);
    let end = gone.keys().next_back().unwrap();
    assert!((changed.0 + 55..changed.0 + 150).contains(&end.0), "{end} and {changed}");
    none_missed_at(beginning, &slots["127.0.0.1"]);
    none_missed_at(*end, &slots["127.0.0.1"]);
}

#[test]
fn where_the_name_server_is_silent_for_every_name_it_is_the_agent_that_is_cut_off() {
    let port = Port::claim();
    let (names, _receivers) = three_of_four(&port);
    let collector = Node::start(COLLECTOR);
    let endpoints = ["a.test", "b.test"].map(|name| format!("tcp://{name}:{}", port.number()));
    let _agent = agent(&collector, &names, "first", &endpoints);
    collector.wait_until_delivered(&endpoints[0], 3);
    names.silence();
    let from = now().plus(3);
    let span = Span::new(from, from.plus(20));
    for (endpoint, slots) in collector.closed_slots("endpoint", span) {
        assert_eq!(slots.len(), 20, "{endpoint}");
        assert_eq!(unlike(&slots, "local dns no_route"), [], "{endpoint}");
    }
}

#[test]
fn probes_come_from_the_source_of_the_service_or_of_the_agent() {
    let ports = [Port::claim(), Port::claim()];
    let receivers = ports.each_ref().map(|port| TcpServer::start(port.address()));
    let [agents, own] = ports.each_ref().map(|port| format!("tcp://{}", port.address()));
    let text = format!(
        "[vantage]\nregion = \"eu\"\n[agent]\nlisten = \"@listen@\"\nsource = \"127.0.0.9\"\n\
         collector = [\"http://127.0.0.1:1\"]\n[[service]]\nname = \"a\"\nendpoints = [{agents:?}]\n\
         [[service]]\nname = \"b\"\nsource = \"127.0.0.8\"\nendpoints = [{own:?}]\n"
    );
    let mut node = Node::start(&text);
    let seen = |receiver: &TcpServer, last: &[u8]| {
        receiver.connections() >= 2
            && receiver.peers() == last.iter().map(|last| IpAddr::V4(loopback(*last))).collect()
    };
    node.wait("they come", || seen(&receivers[0], &[9]) && seen(&receivers[1], &[8]));
    // A reload takes another up at once.
    node.configure(&text.replace("127.0.0.9", "127.0.0.7"));
    node.process().hang_up();
    node.wait("they come from elsewhere", || seen(&receivers[0], &[7, 9]));
    let (_, metrics) = node.ask("/metrics");
    assert!(!metrics.as_str().unwrap().contains("outcome=\"lost\""), "{metrics}");
}
