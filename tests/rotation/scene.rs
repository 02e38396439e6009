//! The whole of it: agents beside three carbons, one in the data centre that probes all of them, a collector that steers, and
//! haproxy, which asks the agents.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{IN, NODES, OUT, wait};
use crate::support::{graphite::Carbon, haproxy::Balancer, node::Node, pager::Pager, ports::Port};

/// How soon a node that is frozen is to have left rotation, on a machine that is not held up.
const OUT_WITHIN: Duration = Duration::from_secs(25);

struct Scene {
    carbons: [Carbon; 3],
    /// Each beside its carbon.
    agents: [Node; 3],
    collector: Node,
    balancer: Balancer,
    pager: Pager,
    _datacentre: Node,
    _checks: [Port; 3],
}

impl Scene {
    /// Starts it, and waits until all is well for long enough.
    #[track_caller]
    fn start() -> Self {
        let carbons = thread::scope(|scope| {
            let starting = NODES.map(|_| scope.spawn(Carbon::start));
            starting.map(|carbon| carbon.join().expect("it starts"))
        });
        let checks = NODES.map(|_| Port::claim());
        let (pager, hook) = Pager::start();
        let places: Vec<_> = NODES.iter().zip(&carbons).map(|(name, it)| (*name, it.line())).collect();
        let endpoint = |(name, line): &(&str, _)| format!("{{ url = \"tcp://{line}\", node = \"{name}\" }}");
        let endpoints = places.iter().map(endpoint).collect::<Vec<_>>().join(", ");
        let service =
            |endpoints: &str| format!("[[service]]\nname = \"ingest\"\nendpoints = [{endpoints}]\n");
        let mut collector = Node::new();
        collector.configure(&format!(
            "[collector]\nlisten = \"@listen@\"\n{}start_up_grace = \"5s\"\nburst = 1.0\npage_after = \"0s\"\n\
             [service.rotation]\nmode = \"live\"\nnodes = {NODES:?}\nreadmit_after = \"10s\"\n\
             [[receiver]]\nname = \"oncall\"\nkind = \"webhook\"\nallow_private = true\n\
             url = \"http://{hook}/hook\"\nsecret = {{ env = \"SECRET\" }}\n",
            service(&endpoints)
        ));
        collector.run(|command| {
            command.env("SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        });
        let url = format!("http://{}", collector.address());
        let agent = |kind: &str, node: &str, keys: &str, endpoints: &str| {
            Node::start(&format!(
                "[vantage]\nkind = \"{kind}\"\nregion = \"dc\"\nnode = \"{node}\"\n\
                 [agent]\nlisten = \"@listen@\"\ncollector = [\"{url}\"]\n{keys}\n{}",
                service(endpoints)
            ))
        };
        let datacentre = agent("datacentre", "dc-1", "", &endpoints);
        let agents = [0, 1, 2].map(|at: usize| {
            let check = format!("agent_check = \"{}\"", checks[at].address());
            agent("loopback", NODES[at], &check, &format!("\"tcp://{}\"", places[at].1))
        });
        let servers: Vec<_> = places
            .iter()
            .zip(&checks)
            .map(|((name, line), check)| (*name, *line, check.address(), "ingest\\n"))
            .collect();
        let balancer = Balancer::start(&servers);
        // What was lost while all of it started is looked at for a minute.
        let is_healthy = |_, service: &Value| service["state"] == "healthy";
        collector.wait_for_within(Duration::from_secs(90), "/api/v1/services/ingest", is_healthy);
        collector.wait_for("/v1/nodes/ingest", |status, nodes| {
            status == 200 && nodes["nodes"].as_object().is_some_and(|nodes| nodes.len() == NODES.len())
        });
        wait(&balancer, 60, [IN, IN, IN]);
        Self { carbons, agents, collector, balancer, pager, _datacentre: datacentre, _checks: checks }
    }

    /// Freezes the carbon of a node, and waits until it alone has left rotation.
    #[track_caller]
    #[expect(clippy::print_stderr, reason = "a figure for who reads the test's output")]
    fn freeze_until_out(&mut self, at: usize) {
        let began = Instant::now();
        self.carbons[at].process().freeze();
        let mut expected = [IN; 3];
        expected[at] = OUT;
        let (_, delay) = wait(&self.balancer, 60, expected);
        let took = began.elapsed();
        eprintln!("{} left rotation {:.1} s after it froze", NODES[at], took.as_secs_f64());
        assert!(took <= OUT_WITHIN + delay, "{took:?}, where the machine was held up for {delay:?}");
    }
}

#[test]
fn a_frozen_node_leaves_rotation_and_returns_when_it_is_well() {
    let mut scene = Scene::start();
    scene.freeze_until_out(0);
    let (_, nodes) = scene.collector.ask("/v1/nodes/ingest");
    assert_eq!(nodes["nodes"]["n1"]["state"], "out", "{nodes:#}");
    let (status, health) = scene.agents[0].ask("/health/ingest");
    assert_eq!((status, &health["rotation"]), (503, &json!("out")), "{health:#}");
    assert!(health["reason"].as_str().is_some_and(|reason| reason.contains(" lost in ")), "{health:#}");

    scene.carbons[0].process().thaw();
    wait(&scene.balancer, 90, [(IN.0, 10), IN, IN]);
    wait(&scene.balancer, 90, [IN, IN, IN]);
    assert_eq!(scene.agents[0].ask("/health/ingest").0, 200);
}

#[test]
fn of_two_frozen_nodes_one_leaves_and_nobody_else_whatever_becomes_of_the_collector() {
    let mut scene = Scene::start();
    scene.freeze_until_out(0);
    scene.carbons[1].process().freeze();
    let held_back = |text: &str| text.contains("n2") && text.contains("not taken out");
    let pager = scene.pager.clone();
    scene.collector.wait("a page says why", || pager.told().iter().any(|told| held_back(&told.to_string())));
    wait(&scene.balancer, 1, [OUT, IN, IN]);

    scene.collector.process().kill();
    scene.carbons[2].process().freeze();
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        wait(&scene.balancer, 1, [OUT, IN, IN]);
        thread::sleep(Duration::from_millis(500));
    }
    for carbon in &mut scene.carbons {
        carbon.process().thaw();
    }
}
