//! Answers of the real graphite-web that mislead whoever takes them at their word.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use aviary_core::{Protocol, Second, Span};
use serde_json::Value;

use super::stage::{READ_AFTER, READ_WITHIN, Stage, lacking, once_known, read_unlike, wait_until};
use crate::support::{
    aviary::{Aviary, now},
    graphite::{Front, Graphite, RenderError, Setup},
    node::Node,
    service::Service,
    slots::{Slot, once_none_is},
};

const PATIENCE: Duration = Duration::from_secs(120);
const SERVICE: &str = "/api/v1/services/ingest";

fn reason(said: &Value) -> &str {
    said["reason"].as_str().unwrap_or_default()
}

/// Waits until `seen` holds of what `node` says of the service: reading back takes longer than a node is waited for.
#[track_caller]
fn wait_for(node: &Node, seen: impl Fn(&Value) -> bool) -> Value {
    node.wait_for_within(PATIENCE, SERVICE, |_, said| seen(said))
}

#[test]
fn an_answer_of_500_after_six_seconds_is_no_loss() {
    let mut stage = Stage::start(Setup::default(), Protocol::ALL);
    stage.aviary.wait_for(SERVICE, PATIENCE, |said| said["state"] == "healthy");
    let begin = now().plus(2);
    wait_until(begin);
    stage.service.graphite.freeze_carbon();
    thread::sleep(Duration::from_secs(2));
    let names: Vec<_> = stage.protocols.iter().map(|protocol| stage.name(*protocol)).collect();
    let asked = now();
    let refused = stage.service.graphite.render(&names, Span::before(now(), 10));
    assert!(matches!(refused, Err(RenderError::Status(500, _))), "{refused:?}");
    assert!(now() >= asked.plus(5), "it waits for carbon: from {asked} to {}", now());
    stage.aviary.wait_for(SERVICE, PATIENCE, |said| !said["readback"]["untold"].is_null());
    let frozen = Span::new(begin, now());
    let udp = stage.slots(frozen).remove("udp").unwrap();
    assert_eq!(lacking(&udp), [], "datagrams of which nobody can tell");
    stage.service.graphite.thaw_carbon();
    stage.wait_until_read(frozen.until);
    stage.settles_as_the_disk(frozen, PATIENCE);
}

/// Hands on what is asked `by` later than it came.
fn slowed(to: SocketAddr, by: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for asker in listener.incoming().flatten() {
            let Ok(there) = TcpStream::connect(to) else { continue };
            let (mut answers, mut back) = (there.try_clone().unwrap(), asker.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut answers, &mut back).map(|_| back.shutdown(Shutdown::Both)));
            thread::spawn(move || hand_on(asker, there, by));
        }
    });
    address
}

fn hand_on(mut asker: TcpStream, mut there: TcpStream, by: Duration) -> io::Result<()> {
    let mut buffer = [0; 65_536];
    loop {
        let length = asker.read(&mut buffer)?;
        if length == 0 {
            return there.shutdown(Shutdown::Both);
        }
        thread::sleep(by);
        there.write_all(&buffer[..length])?;
    }
}

#[test]
fn an_answer_that_takes_long_and_has_all_that_was_sent_blinds_nobody() {
    let service = Service::start();
    let http = slowed(service.graphite.http(), Duration::from_millis(1_200));
    let endpoints = [Protocol::Tcp, Protocol::Udp].map(|protocol| service.endpoint(protocol));
    let aviary = Aviary::start(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\n[[service]]\nname = \"ingest\"\nendpoints = {endpoints:?}\n\
         [service.readback]\ngraphite = \"http://{http}\"\n"
    ));
    aviary.wait_for(SERVICE, PATIENCE, |said| said["state"] == "healthy");
    let begin = now();
    let span = Span::new(begin, begin.plus(25));
    let (mut looks, mut others) = (0, Vec::new());
    while now() < span.until.plus(READ_AFTER) {
        let said = aviary.get(SERVICE);
        looks += 1;
        // What a busy server is late with is lost; that tells nothing of reading.
        let can_tell = ["healthy", "degraded", "down"].iter().any(|state| said["state"] == *state);
        others.extend(Some(said).filter(|_| !can_tell));
        thread::sleep(Duration::from_millis(500));
    }
    // On a machine that is busy with other tests reading may fall behind.
    assert!(others.len() * 5 <= looks, "{} of {looks}: {:#}", others.len(), others[0]);
    for (protocol, slots) in once_known(|| aviary.slots(span)) {
        assert_eq!(read_unlike(&slots, "delivered"), [], "{protocol}");
    }
}

#[test]
fn an_answer_without_what_one_of_two_backends_has_is_no_loss() {
    let (mut left, right) = (Graphite::start(), Graphite::start());
    let front = Front::start(&[&left, &right]);
    let node = Node::start(&format!(
        "[vantage]\nregion = \"eu\"\n[agent]\n[collector]\nlisten = \"@listen@\"\n[[service]]\nname = \"ingest\"\n\
         endpoints = [\"tcp://{}\", \"tcp://{}\"]\n[service.readback]\ngraphite = \"http://{}\"\n",
        left.line(),
        right.line(),
        front.http(),
    ));
    wait_for(&node, |said| said["state"] == "healthy");
    let begin = now();
    left.web().stop();
    // On a busy machine it may be blind before, because reading falls behind.
    let said = wait_for(&node, |said| reason(said).contains("leave out 1 of 2 series"));
    assert_eq!(said["state"], "blind", "{said:#}\n{}", front.log());
    thread::sleep(Duration::from_secs(12));
    for (endpoint, slots) in node.slots("endpoint", Span::new(begin, now())) {
        assert_eq!(lacking(&slots), [], "{endpoint}");
    }
    left.web().restart();
    wait_for(&node, |said| said["state"] == "healthy");
    let span = Span::new(begin, now().minus(READ_AFTER));
    for (endpoint, slots) in once_none_is(&["unknown", "lost"], READ_WITHIN, || node.slots("endpoint", span))
    {
        assert_eq!(read_unlike(&slots, "delivered"), [], "what was left out of {endpoint} is read");
    }
}

#[test]
fn seconds_that_only_a_coarse_archive_has_are_unknown() {
    // Seconds for a minute, and then only sums of ten.
    let setup = Setup { retentions: Some("1s:1m,10s:1h"), ..Setup::default() };
    let mut stage = Stage::start(setup, &[Protocol::Tcp, Protocol::Udp]);
    stage.aviary.wait_for(SERVICE, PATIENCE, |said| said["state"] == "healthy");
    stage.service.graphite.web().stop();
    let begin = now().plus(2);
    let gone = Span::new(begin, begin.plus(20));
    // What was sent while nobody read is older than a minute by the time that somebody can.
    wait_until(gone.until.plus(70));
    stage.service.graphite.web().restart();
    stage.aviary.wait_for(SERVICE, PATIENCE, |said| said["state"] == "healthy");
    let fresh = Span::new(now(), now().plus(6));
    let read = stage.read_slots(fresh);
    for (protocol, slots) in stage.slots(gone) {
        assert_eq!(seconds_of(&slots, &["delivered", "lost"]), [], "{protocol}");
    }
    for (protocol, slots) in read {
        assert_eq!(seconds_of(&slots, &["unknown", "lost"]), [], "{protocol}");
        assert_ne!(seconds_of(&slots, &["delivered"]), [], "{protocol}");
    }
}

/// The seconds that are one of `outcomes`: what a busy machine itself left out or was late with is none of them.
fn seconds_of(slots: &BTreeMap<Second, Slot>, outcomes: &[&str]) -> Vec<Second> {
    let is_one = |slot: &Slot| outcomes.contains(&slot.outcome.as_str());
    slots.iter().filter(|(_, slot)| is_one(slot)).map(|(second, _)| *second).collect()
}

#[test]
fn two_canaries_on_one_name_are_not_read_back_as_one() {
    let graphite = Graphite::start();
    // Where one of two is lost the other's datapoint fills the slot: storage cannot tell them apart.
    let service = format!(
        "[[service]]\nname = \"ingest\"\nendpoints = [\"udp://{}\"]\n[service.readback]\ngraphite = \"http://{}\"\n",
        graphite.line(),
        graphite.http(),
    );
    let first = Node::start(&format!(
        "[vantage]\nregion = \"eu\"\nnode = \"canary.7\"\n[agent]\n[collector]\nlisten = \"@listen@\"\n{service}"
    ));
    wait_for(&first, |said| said["readback"]["shown"] == 1);
    let second = Aviary::start(&format!(
        "[vantage]\nregion = \"eu\"\nnode = \"canary_7\"\n[agent]\ncollector = [\"http://{}\"]\n{service}",
        first.address()
    ));
    let said = wait_for(&first, |said| reason(said).contains("one name"));
    assert_eq!(said["state"], "blind", "{said:#}\n{}", second.log());
}
