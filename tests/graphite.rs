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
    slots::{Slots, is_starved, is_starved_or_timed_out, unlike_but_for_few, wait_until_closed},
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
    // What is said of each second that somebody did not get to in time, and may be stored or not.
    let late = |protocol: &str| {
        let slots = slots[protocol].iter().filter(|(_, slot)| is_starved_or_timed_out(&slot.outcome));
        slots.map(|(second, _)| *second).collect::<BTreeSet<_>>()
    };
    for (protocol, seconds) in stored(&service, span, Duration::from_secs(10)) {
        let lacking: BTreeSet<Second> = whole.difference(&seconds).copied().collect();
        assert!(lacking.is_subset(&late(&protocol)), "{protocol}: Graphite lacks {lacking:?}");
    }
    for (protocol, slots) in &slots {
        let said = if protocol == "udp" { "unproven" } else { "delivered" };
        assert_eq!(
            slots.keys().copied().collect::<BTreeSet<_>>(),
            whole,
            "{protocol}: every second has an outcome"
        );
        assert_eq!(unlike_but_for_few(slots, said, is_starved_or_timed_out), [], "{protocol}");
    }
    let sums = aviary.get(&format!("/api/v1/sums?by=protocol&window=60s&until={}", span.until));
    for group in sums["groups"].as_array().unwrap() {
        let proven = if group["by"]["protocol"] == "udp" { "unproven" } else { "delivered" };
        let late = late(group["by"]["protocol"].as_str().unwrap()).len();
        assert_eq!((&group["scheduled"], &group[proven]), (&60.into(), &(60 - late).into()), "{group}");
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
    // It reads first what was held meanwhile.
    let from = now().plus(4);
    let thawed = Span::new(from, from.plus(5));
    wait_until_closed(thawed);
    // haproxy goes on trying for three seconds what we gave up after one: what comes then may still be stored, late.
    let stopped = during(|| service.graphite.stop_carbon(), 8, 4);
    service.graphite.restart_carbon();
    let from = now().plus(4);
    let restarted = Span::new(from, from.plus(6));
    wait_until_closed(restarted);
    thread::sleep(Duration::from_secs(2));

    let told = |span: Span, says_nothing: fn(&str) -> bool| {
        let mut said = aviary.closed_slots(span);
        for (protocol, slots) in &mut said {
            assert_eq!(slots.len() as u64, span.seconds(), "{protocol}: {slots:?}");
            slots.retain(|_, slot| !says_nothing(&slot.outcome));
            assert!(slots.len() as u64 > span.seconds() / 2, "{protocol}: {slots:?}");
        }
        Episode { span, stored: stored(&service, span, Duration::ZERO), said }
    };
    for well in [healthy, thawed, restarted] {
        let Episode { stored, said, .. } = told(well, is_starved_or_timed_out);
        for (protocol, slots) in &said {
            let expected = if protocol == "udp" { "unproven" } else { "delivered" };
            for (second, slot) in slots {
                assert_eq!(slot.outcome, expected, "{protocol} at {second}: {slot:?}");
                assert!(stored[protocol].contains(second), "{protocol} at {second} is stored");
            }
        }
    }

    // Frozen: the kernel takes the bytes and nobody reads. Sent, stored after the thaw, and not delivered in time.
    let Episode { span, stored, said } = told(frozen, is_starved);
    for (protocol, slots) in &said {
        let expected = if protocol == "udp" { "unproven" } else { "lost confirm timeout" };
        assert_eq!(unlike_but_for_few(slots, expected, is_starved_or_timed_out), [], "{protocol}");
        // A datapoint that we abandoned is reset, and may be stored all the same: that is what `late` will be.
        println!("frozen: {protocol}: {} of {} stored afterwards", stored[protocol].len(), span.seconds());
    }

    // Stopped: what is said to be lost is nowhere, and nothing is said to be delivered.
    let Episode { stored, said, .. } = told(stopped, is_starved);
    for (protocol, slots) in &said {
        let expected = match protocol.as_str() {
            "tcp" | "pickle" => "lost connect refused",
            "udp" => "lost confirm refused",
            "https" => "lost confirm status",
            // haproxy accepts, shakes hands, and tries for three seconds to reach carbon.
            _ => "lost confirm timeout",
        };
        assert_eq!(unlike_but_for_few(slots, expected, is_starved_or_timed_out), [], "{protocol}");
        for second in slots.keys() {
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
