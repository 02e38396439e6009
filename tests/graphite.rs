//! The straight line on a real Graphite: what aviary says of each slot, held against what was stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use aviary_core::{Protocol, Second, Span};

use crate::support::{
    aviary::{Aviary, now},
    service::Service,
    slots::{Slots, is_starved, unlike, wait_until_closed},
};

const NODE: &str = "canary-7";

fn start(service: &Service) -> Aviary {
    let endpoints: Vec<_> =
        Protocol::ALL.iter().map(|protocol| format!("{:?}", service.endpoint(*protocol))).collect();
    let aviary = Aviary::start(&format!(
        r#"
[vantage]
kind = "external"
region = "eu-west-1"
network = "aws"
node = "{NODE}"

[agent]

[[service]]
name = "ingest"
endpoints = [{}]
ca = {{ file = "{}" }}
"#,
        endpoints.join(", "),
        service.ca().display(),
    ));
    aviary.wait_until_begun(endpoints.len());
    aviary
}

/// The Graphite name of a series, as design.md has it.
fn name(service: &Service, protocol: Protocol) -> String {
    let address = service.address(protocol).to_string().replace(['.', ':'], "_");
    let protocol = protocol.name().replace('+', "_");
    format!("canary.ingest.{protocol}.external.eu-west-1.none.aws.{NODE}.{address}")
}

fn names(service: &Service) -> Vec<String> {
    Protocol::ALL.iter().map(|protocol| name(service, *protocol)).collect()
}

/// The seconds of each protocol that Graphite has of `span`, every one of which holds exactly 1; all of them, if it comes to
/// that within `patience`.
#[track_caller]
fn stored(service: &Service, span: Span, patience: Duration) -> BTreeMap<String, BTreeSet<Second>> {
    let rendered = service.graphite.render_until_stored(&names(service), span, patience);
    let rendered = rendered.expect("graphite-web answers");
    let of = |protocol: &Protocol| {
        let name = name(service, *protocol);
        let points = rendered.series(&name).unwrap_or_default();
        assert!(points.iter().all(|(_, value)| value.is_none_or(|value| value == 1.0)), "{name}: {points:?}");
        (protocol.name().to_owned(), rendered.stored(&name))
    };
    Protocol::ALL.iter().map(of).collect()
}

#[test]
fn every_second_of_a_minute_is_found_over_every_path() {
    let service = Service::start();
    let mut aviary = start(&service);
    // The first points of new series are written together, a second or so after they come.
    let from = now().plus(3);
    let span = Span::new(from, from.plus(60));

    let whole: BTreeSet<Second> = span.iter().collect();
    let slots = aviary.closed_slots(span);
    let starved = |protocol: &str| {
        let slots = slots[protocol].iter().filter(|(_, slot)| is_starved(&slot.outcome));
        slots.map(|(second, _)| *second).collect::<BTreeSet<_>>()
    };
    for (protocol, seconds) in stored(&service, span, Duration::from_secs(10)) {
        let lacking: BTreeSet<Second> = whole.difference(&seconds).copied().collect();
        assert!(lacking.is_subset(&starved(&protocol)), "{protocol}: Graphite lacks {lacking:?}");
    }
    for (protocol, slots) in &slots {
        let said = if protocol == "udp" { "unproven" } else { "delivered" };
        assert_eq!(
            slots.keys().copied().collect::<BTreeSet<_>>(),
            whole,
            "{protocol}: every second has an outcome"
        );
        assert_eq!(unlike(slots, said), [], "{protocol}");
    }
    let sums = aviary.get(&format!("/api/v1/sums?by=protocol&window=60s&until={}", span.until));
    for group in sums["groups"].as_array().unwrap() {
        let proven = if group["by"]["protocol"] == "udp" { "unproven" } else { "delivered" };
        let starved = starved(group["by"]["protocol"].as_str().unwrap()).len();
        assert_eq!((&group["scheduled"], &group[proven]), (&60.into(), &(60 - starved).into()), "{group}");
    }
    let ingest = aviary.get("/api/v1/services/ingest");
    assert_eq!(ingest["state"], "healthy", "{ingest:#}");
    let udp = ingest["protocols"].as_array().unwrap().iter().find(|part| part["protocol"] == "udp").unwrap();
    assert_eq!(udp["state"], "unproven", "datagrams that were merely sent are never green");
    assert!(aviary.stop().success());
}

/// What happened to carbon in some seconds, with a margin around the moments of change.
struct Episode {
    span: Span,
    stored: BTreeMap<String, BTreeSet<Second>>,
    said: BTreeMap<String, Slots>,
}

#[test]
fn what_is_said_of_a_frozen_and_a_stopped_carbon_is_what_is_stored() {
    let mut service = Service::start();
    let aviary = start(&service);
    let from = now().plus(3);
    let healthy = Span::new(from, from.plus(5));
    wait_until_closed(healthy);

    let frozen = during(|| service.graphite.freeze_carbon(), 8, 0);
    service.graphite.thaw_carbon();
    let from = now().plus(2);
    let thawed = Span::new(from, from.plus(5));
    wait_until_closed(thawed);
    // haproxy goes on trying for three seconds what we gave up after one: what comes then may still be stored, late.
    let stopped = during(|| service.graphite.stop_carbon(), 8, 4);
    service.graphite.restart_carbon();
    let from = now().plus(2);
    let restarted = Span::new(from, from.plus(6));
    wait_until_closed(restarted);
    thread::sleep(Duration::from_secs(2));

    let told = |span: Span| {
        let mut said = aviary.closed_slots(span);
        for (protocol, slots) in &mut said {
            assert_eq!(slots.len() as u64, span.seconds(), "{protocol}: {slots:?}");
            slots.retain(|_, slot| !is_starved(&slot.outcome));
            assert!(slots.len() as u64 > span.seconds() / 2, "{protocol}: {slots:?}");
        }
        Episode { span, stored: stored(&service, span, Duration::ZERO), said }
    };
    for well in [healthy, thawed, restarted] {
        let Episode { stored, said, .. } = told(well);
        for (protocol, slots) in &said {
            let expected = if protocol == "udp" { "unproven" } else { "delivered" };
            for (second, slot) in slots {
                assert_eq!(slot.outcome, expected, "{protocol} at {second}: {slot:?}");
                assert!(stored[protocol].contains(second), "{protocol} at {second} is stored");
            }
        }
    }

    // Frozen: the kernel takes the bytes and nobody reads. Sent, stored after the thaw, and not delivered in time.
    let Episode { span, stored, said } = told(frozen);
    for (protocol, slots) in &said {
        for (second, slot) in slots {
            let outcome = slot.outcome.as_str();
            match protocol.as_str() {
                "udp" => assert_eq!(outcome, "unproven"),
                _ => assert_eq!(outcome, "lost confirm timeout", "{protocol} at {second}"),
            }
        }
        // A datapoint that we abandoned is reset, and may be stored all the same: that is what `late` will be.
        println!("frozen: {protocol}: {} of {} stored afterwards", stored[protocol].len(), span.seconds());
    }

    // Stopped: what is said to be lost is nowhere, and nothing is said to be delivered.
    let Episode { stored, said, .. } = told(stopped);
    for (protocol, slots) in &said {
        for (second, slot) in slots {
            let outcome = slot.outcome.as_str();
            let expected = match protocol.as_str() {
                "tcp" | "pickle" => "lost connect refused",
                "udp" => "lost confirm refused",
                "https" => "lost confirm status",
                // haproxy accepts, shakes hands, and tries for three seconds to reach carbon.
                _ => "lost confirm timeout",
            };
            assert_eq!(outcome, expected, "{protocol} at {second}");
            assert!(!stored[protocol].contains(second), "{protocol} at {second} is not stored");
        }
    }
}

/// Lets `happen` happen, waits for `seconds` and `more`, and returns the seconds that lie wholly inside the former.
fn during(happen: impl FnOnce(), seconds: u64, more: u64) -> Span {
    happen();
    // The slot of the running second may have been sent before; attempts of the last second need one more to end.
    let span = Span::new(now().plus(1), now().plus(seconds - 1));
    thread::sleep(Duration::from_secs(seconds + 1 + more));
    span
}
