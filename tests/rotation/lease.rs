//! What agents answer for their nodes, while a collector of a few lines says what it likes.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{IN, NODES, OUT, wait};
use crate::support::{
    graphite::Carbon,
    haproxy::Balancer,
    node::Node,
    ports::Port,
    recorder::{Advice, Recorder},
};

/// For how many seconds haproxy is waited for: it asks every two, and an agent asks its collector every second.
const PATIENCE: u64 = 60;

/// A carbon, the agent that stands beside it, and whom that reports to.
struct Place {
    carbon: Carbon,
    agent: Node,
    recorder: Recorder,
    check: Port,
}

impl Place {
    #[track_caller]
    fn start(name: &str) -> Self {
        let (carbon, recorder, check) = (Carbon::start(), Recorder::start(), Port::claim());
        let agent = Node::start(&format!(
            "[vantage]\nkind = \"loopback\"\nregion = \"dc\"\nnode = \"{name}\"\n\
             [agent]\nlisten = \"@listen@\"\ncollector = [\"{}\"]\nagent_check = \"{}\"\n\
             [[service]]\nname = \"ingest\"\nendpoints = [\"tcp://{}\"]\n",
            recorder.url(),
            check.address(),
            carbon.line()
        ));
        Self { carbon, agent, recorder, check }
    }

    fn advise(&self, state: &'static str, weight: u8, seconds: u64) {
        let lease = Duration::from_secs(seconds);
        self.recorder.advise(Some(Advice { service: "ingest", state, weight, lease }));
    }
}

#[test]
fn a_node_is_out_for_haproxy_only_while_a_collector_says_so() {
    let mut places = thread::scope(|scope| {
        let starting = NODES.map(|name| scope.spawn(move || Place::start(name)));
        starting.map(|place| place.join().expect("it starts"))
    });
    let servers = NODES.iter().zip(&places);
    let servers: Vec<_> = servers
        .map(|(name, place)| (*name, place.carbon.line(), place.check.address(), "ingest\\n"))
        .collect();
    let balancer = Balancer::start(&servers);
    thread::sleep(Duration::from_secs(3));
    wait(&balancer, PATIENCE, [IN, IN, IN]);

    places[1].advise("out", 0, 60);
    wait(&balancer, PATIENCE, [IN, OUT, IN]);
    let (status, health) = places[1].agent.ask("/health/ingest");
    assert_eq!(status, 503, "{health}");
    assert_eq!((&health["rotation"], &health["weight"]), (&json!("out"), &json!(0)));
    assert_eq!(health["reason"], "the recorder says so");
    assert_eq!(places[0].agent.ask("/health/ingest").0, 200);

    places[1].advise("returning", 10, 60);
    wait(&balancer, PATIENCE, [IN, (IN.0, 10), IN]);
    assert_eq!(places[1].agent.ask("/health/ingest").0, 200);
    places[1].recorder.advise(None);
    wait(&balancer, PATIENCE, [IN, IN, IN]);

    // The collector goes while a node is out: its lease ends.
    places[1].advise("out", 0, 15);
    wait(&balancer, PATIENCE, [IN, OUT, IN]);
    let closed = Instant::now();
    places[1].recorder.close();
    wait(&balancer, PATIENCE, [IN, IN, IN]);
    assert!(closed.elapsed() > Duration::from_secs(5), "it holds until it ends: {:?}", closed.elapsed());

    // An agent that is asked to end says that its node is in before it goes.
    places[2].advise("out", 0, 60);
    wait(&balancer, PATIENCE, [IN, IN, OUT]);
    places[2].agent.process().stop();
    wait(&balancer, PATIENCE, [IN, IN, IN]);
    places[2].recorder.advise(None);
    places[2].agent.run(|_| {});

    // What all of them share is broken, and no collector is there.
    for place in &mut places {
        place.recorder.close();
        place.carbon.process().freeze();
    }
    for place in &places {
        let health = place.agent.wait_for("/health/ingest", |_, health| health["state"] == "down");
        assert_eq!(health["rotation"], "in", "{health}");
        assert_eq!(place.agent.ask("/health/ingest").0, 200);
    }
    thread::sleep(Duration::from_secs(3));
    wait(&balancer, 1, [IN, IN, IN]);
    for place in &mut places {
        place.carbon.process().thaw();
    }
}
