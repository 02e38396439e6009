//! The receiving side: a real relay forwards the canaries to our sink, and what arrives there is what was delivered.

use std::{thread::sleep, time::Duration};

use aviary_core::{Second, Span};
use serde_json::Value;

use crate::support::{
    aviary::{Aviary, aviary, now},
    ports::Port,
    relay::{Gate, Relay},
    slots::wait_until_closed,
};

const PATIENCE: Duration = Duration::from_secs(60);
const INGEST: &str = "/api/v1/services/ingest";

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
}

/// How many slots of `span` say something of the service: all but the few that a machine busy with other tests did not get
/// to.
#[track_caller]
fn judged(group: &Value, span: Span) -> u64 {
    let starved = group["local"].as_u64().unwrap() + group["missed"].as_u64().unwrap();
    assert!(starved * 2 <= span.seconds(), "{group}");
    span.seconds() - starved
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
    wait_until_closed(Span::new(queued.from, queued.until.plus(7)));
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
                (&judged(&group, span).into(), &0.into()),
                "{what}: {group}"
            );
        }
    }
    for group in before {
        assert_eq!(group["lost"], judged(&group, queued), "settled, and not there: {group}");
    }
    for group in rig.sums(stopped) {
        let found = (&group["delivered"], &group["lost"], &group["late"]);
        assert_eq!(found, (&0.into(), &judged(&group, stopped).into(), &0.into()), "{group}");
    }
    let [tcp, udp] = rig.sums(frozen).try_into().unwrap();
    let lost = judged(&tcp, frozen);
    assert_eq!((&tcp["lost"], &tcp["late"]), (&lost.into(), &lost.into()), "{tcp}");
    assert_eq!(udp["delivered"], judged(&udp, frozen), "nobody asks when a datagram arrives: {udp}");
    for protocol in 0..2 {
        let delay = |ingest: &Value, share: &str| {
            ingest["protocols"][protocol]["received"]["delay_seconds"][share].as_f64().unwrap()
        };
        // Until most came when nothing was wrong.
        let ingest =
            rig.aviary.wait_for(INGEST, Duration::from_secs(60), |ingest| delay(ingest, "p50") < 1.0);
        let received = &ingest["protocols"][protocol]["received"];
        assert!(delay(&ingest, "p99") > 1.9, "what waited is seen: {received}");
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
    let second = now().plus(28);
    let line = format!("{name} 2 {second}\n");
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(line.as_bytes(), rig.relay.address()).unwrap();
    let services = rig.aviary.wait_for("/api/v1/services", PATIENCE, |services| {
        let protocols = &services["services"][0]["protocols"];
        services["unowned"]["datapoints"].as_u64() > Some(0)
            && protocols[0]["received"]["mangled"] == 1
            && protocols[1]["received"]["duplicates"].as_u64() > Some(3)
    });
    assert!(!services.to_string().contains("secret-key"), "{services}");
    // That second's own comes by and by.
    let duplicates = services["services"][0]["protocols"][0]["received"]["duplicates"].as_u64();
    assert!(duplicates <= Some(1), "{services}");
    let shown = services["unowned"]["names"][0]["name"].as_str().unwrap();
    assert!(shown.starts_with("….canary.renamed."), "{services}");
    let told = aviary(&["status", &format!("http://{}", rig.aviary.collector)]);
    assert!(told.out.contains("under names that no series owns") && told.out.contains(shown), "{}", told.out);
    assert!(!rig.aviary.log().contains("secret-key"));
}
