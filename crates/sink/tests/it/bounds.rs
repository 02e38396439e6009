//! Ports, queues and connections end somewhere, and say so.

use std::{io, net::SocketAddr};

use aviary_core::{Clock, Micros, Protocol, Timestamp};
use aviary_sink::{Addresses, Count, Misbehaviour, Sink, SinkError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{A_WHILE, NOW, Rig, options, payload};

#[derive(Clone)]
struct Stopped;

impl Clock for Stopped {
    fn wall(&self) -> Timestamp {
        NOW.start()
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let rig = Rig::start().await;
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Https] {
        let taken = rig.address(protocol);
        let mut options = options();
        *options.listen.get_mut(protocol) = Some(taken);
        let error = Sink::start(options, Stopped).await.unwrap_err();
        assert!(matches!(error, SinkError::Bind { .. }));
        let said = error.to_string();
        for part in
            [protocol.name(), &taken.to_string(), "in use", &format!("ss -lnp sport = :{}", taken.port())]
        {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[tokio::test]
async fn an_address_of_another_host_is_said() {
    let mut options = options();
    options.listen = Addresses { tcp: Some(SocketAddr::from(([192, 0, 2, 1], 0))), ..Addresses::default() };
    let error = Sink::start(options, Stopped).await.unwrap_err().to_string();
    assert!(
        error.contains("tcp listener cannot have 192.0.2.1:0: the address is not one of this host's"),
        "{error}"
    );
}

#[tokio::test]
async fn only_the_listeners_asked_for_are_there() {
    let mut options = options();
    options.listen.udp = None;
    let (sink, _arrivals) = Sink::start(options, Stopped).await.unwrap();
    assert_eq!(sink.addresses().udp, None);
    assert!(sink.addresses().tcp.is_some_and(|address| address.port() != 0));
    let error = sink.misbehave(Protocol::Udp, Misbehaviour::None).await.unwrap_err();
    assert!(matches!(error, SinkError::NoListener(Protocol::Udp)), "{error}");
}

#[tokio::test]
async fn arrivals_that_nobody_takes_are_counted_and_dropped() {
    let mut options = options();
    options.queue = 10;
    let mut rig = Rig::with(options).await;
    let hundred: Vec<u8> = (0..100).flat_map(|_| payload(Protocol::Tcp, "canary.a")).collect();
    rig.send(Protocol::Tcp, &hundred).await.unwrap();
    assert_eq!(rig.count(Protocol::Tcp, Count::Arrived), 10);
    assert_eq!(rig.count(Protocol::Tcp, Count::Overflowed), 90);
    rig.names(10).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_reset() {
    let mut options = options();
    options.connections = 3;
    let mut rig = Rig::with(options).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = rig.open(Protocol::Tcp).await.unwrap();
        stream.write_all(&payload(Protocol::Tcp, "canary.a")).await.unwrap();
        rig.names(1).await;
        held.push(stream);
    }
    let mut fourth = rig.open(Protocol::Tcp).await.unwrap();
    let error = fourth.read(&mut [0; 9]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(rig.count(Protocol::Tcp, Count::TurnedAway), 1);
    let mut first = held.remove(0);
    first.shutdown().await.unwrap();
    assert_eq!(first.read(&mut [0; 9]).await.unwrap(), 0);
    rig.deliver(Protocol::Tcp, "canary.b").await.unwrap();
}

#[tokio::test]
async fn a_peer_that_never_completes_anything_is_cut() {
    let rig = Rig::start().await;
    let mut begun = Vec::new();
    for (protocol, bytes) in [
        (Protocol::Tcp, &b"canary.a 1"[..]),
        (Protocol::Pickle, b"\0\0\0\x20\x80"),
        (Protocol::Https, b"POST / HT"),
    ] {
        let mut stream = rig.open(protocol).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        begun.push((protocol, stream));
    }
    // All of it has arrived by then. From there on the sink's patience passes as soon as nobody has anything else to do.
    tokio::time::sleep(A_WHILE).await;
    tokio::time::pause();
    for (protocol, mut stream) in begun {
        let end = stream.read_to_end(&mut Vec::new()).await;
        assert!(protocol == Protocol::Https || end.is_err(), "{protocol}: {end:?}");
        assert_eq!(rig.count(protocol, Count::Idle), 1, "{protocol}");
    }
}

#[tokio::test]
async fn stopping_closes_every_listener_and_connection() {
    let rig = Rig::start().await;
    rig.sink.misbehave(Protocol::Tls, Misbehaviour::NeverRead).await.unwrap();
    let mut held = rig.open(Protocol::Tls).await.unwrap();
    let addresses = rig.sink.addresses().clone();
    rig.sink.stop().await;
    assert!(!matches!(held.read(&mut [0; 9]).await, Ok(1..)));
    for address in [addresses.tcp, addresses.tls, addresses.https].into_iter().flatten() {
        std::net::TcpListener::bind(address).unwrap();
    }
    std::net::UdpSocket::bind(addresses.udp.unwrap()).unwrap();
}
