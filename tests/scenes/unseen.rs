//! What nobody can see, which is no loss: graphite-web is stopped, the processes of a region's agents are frozen, and what comes
//! from one node gets stuck on the way, its own controls too.

use std::{thread, time::Duration};

use super::{
    border::Border,
    fleet::{Fleet, LIMITS, NODES, service, source},
};
use crate::support::{graphite::Graphite, ports::Port, tcp_server::TcpServer};

const PAGES: &str = "\
page: ingest: we cannot tell how it does: http://127.0.0.1:PORT cannot be reached: Connection refused (os error #)
Since TIME, # s before this message. Severity error, state open.
Nothing says that the service lost anything: by what its senders saw, no more is lost than may be. Only what is stored cannot be told.
Just one zone? cannot tell. All of one protocol? cannot tell.
Whose fault: who reads back what was stored, not the service.
Owner: ingest team
---
ticket: us-1 in us fails its own controls: what it says is set apart
Since TIME, # s before this message. Severity warning, state open.
In # of the newest # s its own controls failed: what it says of services tells nothing.
Just one zone? cannot tell. All of one protocol? cannot tell.
Whose fault: where we probe from, not the service.
---
page: we cannot see ap: nobody reports from there
Since TIME, # s before this message. Severity error, state open.
Nothing is measured from there, and nothing says that a service lost anything.
Just one zone? cannot tell. All of one protocol? cannot tell.
Whose fault: cannot tell.";

#[test]
fn what_cannot_be_seen_is_no_loss() {
    let mut graphite = Graphite::start();
    let ports: Vec<Port> = (0..3).map(|_| Port::claim()).collect();
    let line = |port: &Port| Border::open(port.address(), graphite.line());
    let borders: Vec<Border> = ports[..2].iter().map(line).collect();
    let endpoints: Vec<String> = ports.iter().map(|port| format!("tcp://{}", port.address())).collect();
    let control_port = &ports[2];
    let control = TcpServer::start(control_port.address());
    let readback = format!("[service.readback]\ngraphite = \"http://{}\"\n", graphite.http());
    let services = [
        service("ingest", &endpoints[..1], LIMITS, &readback),
        service("search", &endpoints[1..2], LIMITS, ""),
    ];
    let controls = format!("controls = [\"tcp://{}\"]", control_port.address());
    // It fails at all that it probes; what a service loses that cannot be read would be a loss all the same.
    let of_agent = |node: &str| match node {
        "us-1" => (controls.clone(), services[1..].concat()),
        _ => (String::new(), services.concat()),
    };
    let mut fleet = Fleet::start(&services.concat(), of_agent);
    fleet.wait_until_well(services.len());

    graphite.web().stop();
    drop(control);
    borders.iter().for_each(|border| border.stick(&[source("us-1")]));
    for (node, agent) in NODES.iter().zip(&mut fleet.agents) {
        if node.starts_with("ap") {
            agent.process().freeze();
        }
    }
    let unseen = ["ingest: we cannot tell", "us-1 in us", "we cannot see ap"];
    fleet.wait_until_opened(&unseen);

    graphite.web().restart();
    let _control = TcpServer::start(control_port.address());
    borders.iter().for_each(|border| border.stick(&[]));
    for (node, agent) in NODES.iter().zip(&mut fleet.agents) {
        if node.starts_with("ap") {
            agent.process().thaw();
        }
    }
    fleet.wait_until_resolved(&unseen);

    thread::sleep(Duration::from_secs(2));
    let pages = unseen.map(|begin| fleet.page(begin, true)).join("\n---\n");
    assert_eq!(fleet.opened(), unseen.len(), "{}", fleet.story());
    assert_eq!(pages, PAGES, "{}", fleet.story());
}
