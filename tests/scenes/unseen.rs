//! What nobody can see, and what is only slow or comes and goes.

use std::{thread, time::Duration};

use super::{
    border::Border,
    fleet::{Fleet, NODES, service, source},
};
use crate::support::{graphite::Graphite, ports::Port, tcp_server::TcpServer};

#[test]
fn what_cannot_be_seen_is_no_loss() {
    let mut graphite = Graphite::start();
    let [orders_port, search_port, control_port] = [(); 3].map(|()| Port::claim());
    let orders = Border::open(orders_port.address(), graphite.line());
    let search = Border::open(search_port.address(), graphite.line());
    let control = TcpServer::start(control_port.address());
    let services = [
        service(
            "ingest",
            &[format!("tcp://{}", graphite.line()), format!("pickle://{}", graphite.pickle())],
            &format!("[service.readback]\ngraphite = \"http://{}\"\n", graphite.http()),
        ),
        service(
            "orders",
            &[format!("tcp://{}", orders_port.address())],
            "latency_p99 = { confirm = \"200ms\" }\n",
        ),
        service("search", &[format!("tcp://{}", search_port.address())], ""),
    ];
    let controls = format!("controls = [\"tcp://{}\"]", control_port.address());
    let of_agent = |node: &str| if node == "us-1" { controls.clone() } else { String::new() };
    let mut fleet = Fleet::start(&services.concat(), of_agent);
    fleet.wait_until_well(services.len());

    graphite.web().stop();
    drop(control);
    for border in [&orders, &search] {
        border.stick(&[source("us-1")]);
    }
    orders.delay(Duration::from_millis(400));
    for (node, agent) in NODES.iter().zip(&mut fleet.agents) {
        if node.starts_with("ap") {
            agent.process().freeze();
        }
    }
    let unseen = ["ingest: we cannot tell", "us-1 in us", "we cannot see ap", "orders: confirm takes"];
    fleet.wait_until_opened(&unseen);

    graphite.web().restart();
    let _control = TcpServer::start(control_port.address());
    for border in [&orders, &search] {
        border.stick(&[]);
    }
    orders.delay(Duration::ZERO);
    for (node, agent) in NODES.iter().zip(&mut fleet.agents) {
        if node.starts_with("ap") {
            agent.process().thaw();
        }
    }
    fleet.wait_until_resolved(&unseen[..3]);

    thread::sleep(Duration::from_secs(2));
    let pages = unseen.map(|begin| fleet.page(begin, !begin.starts_with("orders"))).join("\n---\n");
    assert_eq!(fleet.opened(), unseen.len(), "{}", fleet.story());
    println!("{pages}\n{}", fleet.story());
}
