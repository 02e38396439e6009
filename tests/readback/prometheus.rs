//! Reading back by Prometheus' query API, from VictoriaMetrics.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aviary_core::Span;

use super::stage::{once_known, read_unlike, wait_until};
use crate::support::{
    aviary::{Aviary, now},
    slots::unlike,
    victoria_metrics::VictoriaMetrics,
};

/// Closed, hidden for half a minute, settled, and asked for twice; and it is in no hurry with new series.
const READ_AFTER: u64 = 50;

#[test]
fn seconds_are_counted_one_by_one_and_holes_are_not_filled() {
    let mut storage = VictoriaMetrics::start();
    let line = storage.line();
    let aviary = Aviary::start(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\n[[service]]\nname = \"ingest\"\n\
         endpoints = [\"tcp://{line}\", \"udp://{line}\"]\n\
         [service.readback]\nprometheus = \"http://{}\"\n",
        storage.http(),
    ));
    let begin = now().plus(10);
    wait_until(begin.plus(10));
    // Nobody is there for datagrams: the sender of UDP is none the wiser.
    let before = now();
    storage.process().freeze();
    let frozen = now();
    thread::sleep(Duration::from_secs(13));
    let hole = Span::new(frozen.plus(1), now().minus(1));
    storage.process().thaw();
    // Around the hole, whatever was under way.
    let around = Span::new(before.minus(1), now().plus(4));
    let span = Span::new(begin, now().plus(5));
    wait_until(span.until.plus(READ_AFTER));
    let path = "/api/v1/services/ingest";
    let said = aviary.wait_for(path, Duration::from_secs(60), |said| said["readback"]["shown"] == 2);
    assert_eq!(said["readback"]["reader"], "prometheus");
    for (protocol, slots) in once_known(|| aviary.slots(span)) {
        let outside = slots.iter().filter(|(second, _)| !around.contains(**second));
        assert_eq!(read_unlike(outside, "delivered"), [], "{protocol}, and frozen was {hole:?}");
        if protocol != "udp" {
            let inside = slots.iter().filter(|(second, _)| hole.contains(**second));
            assert_eq!(unlike(inside, "lost confirm timeout"), [], "{protocol} while frozen");
        }
    }
}

#[test]
fn a_second_without_a_sample_is_a_hole_and_its_neighbours_are_counted_once() {
    let storage = VictoriaMetrics::start();
    let name = |second: u64| format!("canary.by.hand 1 {second}\n");
    let begin = now().minus(60);
    for second in (0..20).filter(|second| second % 5 != 3) {
        let mut stream = std::net::TcpStream::connect(storage.line()).unwrap();
        std::io::Write::write_all(&mut stream, name(begin.0 + second).as_bytes()).unwrap();
    }
    let form = format!(
        "query=count_over_time({{__name__=\"canary.by.hand\"}}[999ms])&start={begin}&end={}&step=1&nocache=1",
        begin.plus(19)
    );
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let until = now().plus(30);
    loop {
        let (status, body) = crate::support::http::request(
            storage.http(),
            "POST",
            "/api/v1/query_range",
            &headers,
            form.replace('{', "%7B").replace('}', "%7D").replace('"', "%22").as_bytes(),
            Duration::from_secs(30),
        )
        .unwrap();
        assert_eq!(status, 200, "{body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let values = answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
        let seconds: Vec<u64> = values.iter().map(|value| value[0].as_u64().unwrap() - begin.0).collect();
        let expected: Vec<u64> = (0..20).filter(|second| second % 5 != 3).collect();
        if seconds == expected {
            assert!(values.iter().all(|value| value[1] == "1"), "{body}");
            return;
        }
        assert!(now() < until, "{seconds:?}");
        thread::sleep(Duration::from_millis(500));
    }
}

/// Hands datagrams on to `to`, but for those that it drops while it is told to.
fn forwarder(to: SocketAddr, drops: Arc<AtomicBool>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 2_048];
        while let Ok(length) = socket.recv(&mut datagram) {
            if !drops.load(Ordering::Relaxed) {
                socket.send_to(&datagram[..length], to).unwrap();
            }
        }
    });
    address
}

#[test]
fn a_datagram_that_the_network_drops_is_lost_because_it_was_not_stored() {
    let storage = VictoriaMetrics::start();
    let drops = Arc::new(AtomicBool::new(false));
    let aviary = Aviary::start(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\n[[service]]\nname = \"ingest\"\n\
         endpoints = [\"udp://{}\"]\n[service.readback]\nprometheus = \"http://{}\"\n",
        forwarder(storage.line(), Arc::clone(&drops)),
        storage.http(),
    ));
    let begin = now().plus(10);
    wait_until(begin.plus(8));
    let before = now();
    drops.store(true, Ordering::Relaxed);
    let dropping = now();
    thread::sleep(Duration::from_secs(13));
    let hole = Span::new(dropping.plus(1), now().minus(1));
    drops.store(false, Ordering::Relaxed);
    // The seconds in which the dropping began and ended are neither.
    let around = Span::new(before.minus(1), now().plus(1));
    let span = Span::new(begin, now().plus(5));
    wait_until(span.until.plus(READ_AFTER));
    let slots = &once_known(|| aviary.slots(span))["udp"];
    let outside = slots.iter().filter(|(second, _)| !around.contains(**second));
    assert_eq!(unlike(outside, "delivered"), [], "dropped were {hole:?}");
    let inside = slots.iter().filter(|(second, _)| hole.contains(**second));
    assert_eq!(unlike(inside, "lost"), [], "dropped were {hole:?}");
    let lost = slots.values().filter(|slot| slot.outcome == "lost").count();
    assert!(lost >= 4, "{lost} were lost");
}
