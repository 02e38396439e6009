//! Services that a collector hands out.

use std::fs;

use aviary_core::Span;
use serde_json::Value;

use super::none_missed_at;
use crate::support::{aviary::now, node::Node, ports::Port, slots::all_delivered, tcp_server::TcpServer};

/// A collector that hands out these endpoints, with more keys for their service.
fn collector(endpoints: &[&str], more: &str) -> String {
    format!(
        "[collector]\nlisten = \"@listen@\"\n[[service]]\nname = \"ingest\"\n{more}\nendpoints = {endpoints:?}\n"
    )
}

/// An agent of `collector`, which keeps what it is told.
fn agent(collector: &Node, node: &Node) -> String {
    format!(
        "[vantage]\nregion = \"eu\"\nnode = \"n\"\n[agent]\nlisten = \"@listen@\"\ndata = {:?}\n\
         collector = [\"http://{}\"]\nservices = {{ from = \"collector\" }}\n",
        node.file("data"),
        collector.address()
    )
}

/// The version that the agent's reports tell.
fn version(collector: &Node) -> Value {
    collector.ask("/api/v1/agents").1["agents"][0]["configuration"].clone()
}

#[test]
fn an_agent_probes_what_its_collector_says_and_what_it_said_last() {
    let ports = [Port::claim(), Port::claim()];
    let receivers = ports.each_ref().map(|port| TcpServer::start(port.address()));
    let [first, second] = ports.each_ref().map(|port| format!("tcp://{}", port.address()));
    let mut there = Node::start(&collector(&[&first], ""));
    let began = now();
    let mut node = Node::new();
    node.configure(&agent(&there, &node));
    node.run(|_| {});
    there.wait_until_delivered(&first, 2);
    let earlier = version(&there);

    // The collector takes other services on, and the agent hears of them.
    there.configure(&collector(&[&first, &second], ""));
    there.process().hang_up();
    let told = now();
    there.wait_until_delivered(&second, 1);
    assert!(now() < told.plus(45), "told with the answer to a report, prepared, and taken on");
    node.wait_until_said("why=\"the collector tells other services\"", 1);
    assert_ne!(version(&there), earlier);
    let current = version(&there);

    // There is such a file on the collector's host, and none on the agent's.
    there.place("ca.pem", &crate::tls::Authority::new().pem);
    there.configure(&collector(&[&first], "ca = { file = \"ca.pem\" }"));
    there.process().hang_up();
    node.wait_until_said("The services cannot be used here, those before stand", 1);
    let (status, ready) = node.ask("/readyz");
    let warnings = ready["warnings"].to_string();
    assert!(status == 200 && warnings.contains("services from http://"), "{ready:#}");
    assert!(warnings.contains("ca.pem"), "{ready:#}");
    assert_eq!(node.ask("/healthcheck").0, 500);
    // Its own file is its own: a reload goes on with the services that can be used.
    node.configure(&(agent(&there, &node) + "statsd = \"127.0.0.1:9\"\n"));
    node.wait_until_said("agent.statsd: 127.0.0.1:9", 1);
    let (_, checked) = node.ask("/healthcheck");
    assert!(checked["failed"].to_string().contains("ca.pem"), "nothing of that has changed: {checked:#}");

    there.configure(&collector(&[&first, &second], ""));
    there.process().hang_up();
    node.wait_for("/healthcheck", |status, _| status == 200);
    node.wait("the version tells the file's change too", || version(&there) != current);

    let span = Span::new(began, now());
    let slots = there.closed_slots("endpoint", span);
    all_delivered(&slots[&first]);
    none_missed_at(*slots[&second].keys().next().unwrap(), &slots[&first]);

    // Without a collector it begins with what it was told last.
    assert!(node.process().stop().success());
    assert!(there.process().stop().success());
    let before = receivers.each_ref().map(TcpServer::connections);
    node.run(|_| {});
    let came = || receivers.each_ref().map(TcpServer::connections).into_iter().zip(before);
    node.wait("it probes", || came().any(|(came, before)| came > before));
    let from = now().plus(1);
    node.wait("it probes both", || came().all(|(came, before)| came >= before + 8));
    let (_, metrics) = node.ask("/metrics");
    let waiting =
        metrics.as_str().unwrap().lines().find_map(|line| line.strip_prefix("aviary_agent_spool_slots "));
    assert!(waiting.is_some_and(|slots| slots.parse::<f64>().unwrap() >= 6.0), "{metrics}");
    there.run(|_| {});
    let until = now();
    there.wait_until_delivered(&second, 5);
    for (endpoint, slots) in there.closed_slots("endpoint", Span::new(from, until)) {
        assert_eq!(all_delivered(&slots), (from, until.minus(1)), "{endpoint}");
    }
}

#[test]
fn a_damaged_copy_is_refused_and_a_useless_collector_waited_for() {
    let port = Port::claim();
    let receiver = TcpServer::start(port.address());
    let endpoint = format!("tcp://{}", port.address());
    let mut there = Node::start(&collector(&[&endpoint], ""));
    let mut node = Node::new();
    node.configure(&agent(&there, &node));
    node.run(|_| {});
    node.wait("it probes", || receiver.connections() >= 1);
    assert!(node.process().stop().success());
    assert!(there.process().stop().success());
    let copy = node.file("data").join("services.toml");
    let kept = fs::read_to_string(&copy).unwrap();
    assert!(kept.contains(&endpoint), "{kept}");
    fs::write(&copy, kept.replace("ingest", "digest")).unwrap();

    let before = receiver.connections();
    node.run(|_| {});
    node.wait_until_said("The copy of the services is damaged, and not used.", 1);
    node.wait_until_said("Nothing is probed until a collector tells the services.", 1);
    let (_, ready) = node.ask("/readyz");
    assert!(ready["warnings"].to_string().contains("series: there are none"), "{ready:#}");

    // Services that this agent cannot use are no reason to end either.
    there.place("ca.pem", &crate::tls::Authority::new().pem);
    there.configure(&collector(&[&endpoint], "ca = { file = \"ca.pem\" }"));
    there.run(|_| {});
    node.wait_until_said("The configuration is not taken on", 1);
    assert!(node.process().stop().success());
    node.run(|_| {});
    node.wait_until_said("The services cannot be used", 1);
    node.wait_for("/healthcheck", |_, checked| checked["failed"].to_string().contains("ca.pem"));
    assert_eq!(receiver.connections(), before);
    there.configure(&collector(&[&endpoint], ""));
    there.process().hang_up();
    node.wait("it probes again", || receiver.connections() > before);
    there.wait_until_delivered(&endpoint, 1);
}
