//! The receiving side: a real relay forwards the canaries to our sink, and what arrives there is what was delivered.

use std::{thread::sleep, time::Duration};

use aviary_core::{Second, Span};
use serde_json::Value;

use crate::support::{
    aviary::{Aviary, aviary, now},
    ports::Port,
    relay::{Gate, Relay},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A relay before a gate before the sink of an aviary that probes the relay over TCP and UDP.
struct Rig {
    aviary: Aviary,
    gate: Gate,
    relay: Relay,
    _sink: Port,
}

impl Rig {
    fn start(rules: &str) -> Self {
        let sink = Port::claim();
        let gate = Gate::open_to(sink.address());
        let relay = Relay::start(gate.address(), rules);
        let aviary = Aviary::start(&format!(
            "[vantage]\nregion = \"eu\"\nnode = \"n\"\n[agent]\n[sink]\ntcp = \"{}\"\n[[service]]\nname = \"ingest\"\n\
             endpoints = [\"tcp://{relay}\", \"udp://{relay}\"]\n",
            sink.address(),
            relay = relay.address(),
        ));
        Self { aviary, gate, relay, _sink: sink }
    }

    /// Waits until both protocols are delivered, as storage shows.
    fn until_well(&self) {
        self.aviary.wait_for("/api/v1/sums?by=protocol&window=2s", PATIENCE, |sums| {
            let groups = sums["groups"].as_array().unwrap();
            groups.len() == 2 && groups.iter().all(|group| group["delivered"] == 2)
        });
    }

    fn sums(&self, span: Span) -> Vec<Value> {
        let path = format!("/api/v1/sums?by=protocol&window={}s&until={}", span.seconds(), span.until);
        self.aviary.get(&path)["groups"].as_array().unwrap().clone()
    }

    fn received(&self, protocol: usize) -> Value {
        self.aviary.get("/api/v1/services/ingest")["protocols"][protocol]["received"].clone()
    }
}

/// The whole seconds that lie in between.
fn inside(from: Second, until: Second) -> Span {
    Span::new(from.plus(1), until.minus(1))
}

#[test]
fn what_a_relay_forwards_is_delivered_and_what_it_cannot_is_lost() {
    let mut rig = Rig::start("");
    rig.until_well();
    let from = now();
    sleep(Duration::from_secs(5));
    let well = inside(from, now());

    // Stopped: nobody takes anything.
    rig.relay.process().stop();
    let from = now();
    sleep(Duration::from_secs(5));
    let stopped = inside(from, now());
    rig.relay.restart();
    rig.until_well();

    // It takes what it cannot forward: the sender is content, and storage not.
    rig.gate.shut();
    let from = now();
    sleep(Duration::from_secs(5));
    let queued = inside(from, now());
    rig.aviary.wait_until_closed(Span::new(queued.from, queued.until.plus(7)));
    let before = rig.sums(queued);
    rig.gate.open();
    rig.until_well();

    // Frozen: the kernel takes for it what it reads when the sender has given up.
    rig.relay.process().freeze();
    let from = now();
    sleep(Duration::from_secs(5));
    let frozen = inside(from, now());
    rig.relay.process().thaw();
    rig.until_well();

    for (what, span) in [("well", well), ("queued", queued)] {
        for group in rig.sums(span) {
            assert_eq!(
                (&group["delivered"], &group["lost"]),
                (&span.seconds().into(), &0.into()),
                "{what}: {group}"
            );
        }
    }
    for group in before {
        assert_eq!(group["lost"], queued.seconds(), "settled, and not there: {group}");
    }
    for group in rig.sums(stopped) {
        let found = (&group["delivered"], &group["lost"], &group["late"]);
        assert_eq!(found, (&0.into(), &stopped.seconds().into(), &0.into()), "{group}");
    }
    let [tcp, udp] = rig.sums(frozen).try_into().unwrap();
    assert_eq!((&tcp["lost"], &tcp["late"]), (&frozen.seconds().into(), &frozen.seconds().into()), "{tcp}");
    assert_eq!(udp["delivered"], frozen.seconds(), "nobody asks when a datagram arrives: {udp}");
    // So that most came when nothing was wrong.
    sleep(Duration::from_secs(10));
    for protocol in 0..2 {
        let received = rig.received(protocol);
        let delay = |share: &str| received["delay_seconds"][share].as_f64().unwrap();
        assert!(
            delay("p50") < 1.0 && delay("p99") > 1.9,
            "most are quick, and what waited is seen: {received}"
        );
        assert_eq!((&received["duplicates"], &received["mangled"]), (&0.into(), &0.into()), "{received}");
    }
}

#[test]
fn what_a_relay_does_to_datapoints_is_counted_and_shown() {
    // Every canary over UDP is forwarded twice, and once more under another name with a key before it.
    let rules = "match ^canary\\.ingest\\.udp\\. send to sink ;
match ^canary\\.ingest\\.udp\\. send to sink ;
rewrite ^canary\\.ingest\\.udp\\.(.+)$ into 0a1b2c-secret-key.canary.renamed.\\1 ;
match ^0a1b2c send to sink stop ;";
    let rig = Rig::start(rules);
    let endpoint = rig.relay.address().to_string().replace(['.', ':'], "_");
    let name = format!("canary.ingest.tcp.external.eu.none.none.n.{endpoint}");
    // A value that was not sent, of a second that was not probed yet.
    let second = now().plus(20);
    let line = format!("{name} 2 {second}\n");
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(line.as_bytes(), rig.relay.address()).unwrap();
    let services = rig.aviary.wait_for("/api/v1/services", PATIENCE, |services| {
        let protocols = &services["services"][0]["protocols"];
        services["unowned"]["datapoints"].as_u64() > Some(0)
            && protocols[0]["received"]["mangled"] == 1
            && protocols[1]["received"]["duplicates"].as_u64() > Some(3)
    });
    assert!(!services.to_string().contains("secret-key"), "{services}");
    assert_eq!(services["services"][0]["protocols"][0]["received"]["duplicates"], 0, "{services}");
    let shown = services["unowned"]["names"][0]["name"].as_str().unwrap();
    assert!(shown.starts_with("….canary.renamed."), "{services}");
    let told = aviary(&["status", &format!("http://{}", rig.aviary.collector)]);
    assert!(told.out.contains("under names that no series owns") && told.out.contains(shown), "{}", told.out);
    assert!(!rig.aviary.log().contains("secret-key"));
}
