//! Each misbehaviour is what it says, to a client.

use std::{io, time::Duration};

use aviary_core::Protocol;
use aviary_sink::{Count, Misbehaviour, SinkError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::client::{A_WHILE, NOW, Rig, SOON, STREAMS, payload};

#[tokio::test]
async fn refuse_closes_the_listener_and_keeps_its_port() {
    let mut rig = Rig::start().await;
    for protocol in STREAMS {
        for _ in 0..3 {
            rig.sink.misbehave(protocol, Misbehaviour::Refuse).await.unwrap();
            let error = rig.connect(protocol).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{protocol}");
            let taken = std::net::TcpListener::bind(rig.address(protocol));
            assert!(taken.is_err(), "nobody else gets the port meanwhile");
            rig.sink.misbehave(protocol, Misbehaviour::None).await.unwrap();
            rig.deliver(protocol, "canary.a").await.unwrap();
            rig.names(1).await;
        }
    }
}

#[tokio::test]
async fn refused_datagrams_are_answered_with_icmp() {
    let mut rig = Rig::start().await;
    for _ in 0..3 {
        rig.sink.misbehave(Protocol::Udp, Misbehaviour::Refuse).await.unwrap();
        let socket = rig.udp().await;
        socket.send(&payload(Protocol::Udp, "canary.a")).await.unwrap();
        let error = timeout(SOON, socket.recv(&mut [0; 9])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(std::net::UdpSocket::bind(rig.address(Protocol::Udp)).is_err(), "nobody else gets the port");
        rig.sink.misbehave(Protocol::Udp, Misbehaviour::None).await.unwrap();
        rig.deliver(Protocol::Udp, "canary.a").await.unwrap();
        rig.names(1).await;
    }
}

#[tokio::test]
async fn never_read_and_tar_pit_take_everything_and_never_end() {
    let mut rig = Rig::start().await;
    for protocol in STREAMS {
        for how in [Misbehaviour::NeverRead, Misbehaviour::TarPit] {
            rig.sink.misbehave(protocol, how).await.unwrap();
            let mut stream = rig.open(protocol).await.unwrap();
            stream.write_all(&payload(protocol, "canary.a")).await.unwrap();
            stream.shutdown().await.unwrap();
            let silence = timeout(A_WHILE, stream.read(&mut [0; 9])).await;
            assert!(silence.is_err(), "{how} over {protocol}: {silence:?}");
            rig.sink.misbehave(protocol, Misbehaviour::None).await.unwrap();
            let end = timeout(SOON, stream.read(&mut [0; 9])).await.expect("what was held is let go");
            assert!(!matches!(end, Ok(1..)), "{how} over {protocol}: {end:?}");
            assert!(rig.arrivals.try_recv().is_err());
        }
    }
}

#[tokio::test]
async fn unread_datagrams_are_discarded() {
    let mut rig = Rig::start().await;
    rig.sink.misbehave(Protocol::Udp, Misbehaviour::NeverRead).await.unwrap();
    rig.deliver(Protocol::Udp, "canary.a").await.unwrap();
    rig.counted(Protocol::Udp, Count::Withheld, 1).await;
    assert!(rig.arrivals.try_recv().is_err());
}

#[tokio::test]
async fn what_a_gone_peer_leaves_is_not_held() {
    let mut options = crate::client::options();
    options.connections = 4;
    let rig = Rig::with(options).await;
    let mut connections = 0;
    for how in [Misbehaviour::NeverRead, Misbehaviour::TarPit, Misbehaviour::StallHandshake] {
        rig.sink.misbehave(Protocol::Tcp, how).await.unwrap();
        for _ in 0..12 {
            let mut stream = rig.connect(Protocol::Tcp).await.unwrap();
            stream.write_all(b"xyz").await.unwrap();
            connections += 1;
            rig.counted(Protocol::Tcp, Count::Connections, connections).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            // As a prober abandons an attempt.
            stream.set_zero_linger().unwrap();
            drop(stream);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(rig.count(Protocol::Tcp, Count::TurnedAway), 0);
}

#[tokio::test]
async fn a_stalled_handshake_is_never_answered() {
    let rig = Rig::start().await;
    for protocol in [Protocol::Tls, Protocol::PickleTls, Protocol::Https] {
        rig.sink.misbehave(protocol, Misbehaviour::StallHandshake).await.unwrap();
        assert!(timeout(A_WHILE, rig.open(protocol)).await.is_err(), "{protocol}");
    }
    rig.sink.misbehave(Protocol::Tcp, Misbehaviour::StallHandshake).await.unwrap();
    let mut silent = rig.open(Protocol::Tcp).await.unwrap();
    silent.shutdown().await.unwrap();
    assert!(timeout(A_WHILE, silent.read(&mut [0; 9])).await.is_err());
}

/// The error that ends a handshake, with an end of the connection as `None`.
async fn handshake_error(rig: &Rig, protocol: Protocol) -> Option<rustls::Error> {
    let error = timeout(SOON, rig.open(protocol)).await.expect("an answer").err().expect("no handshake");
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return None;
    }
    let error = error.into_inner().expect("an error of TLS, not of the socket");
    Some(*error.downcast::<rustls::Error>().expect("an error of TLS"))
}

#[tokio::test]
async fn handshakes_fail_as_asked() {
    let rig = Rig::start().await;
    for protocol in [Protocol::Tls, Protocol::PickleTls, Protocol::Https] {
        rig.sink.misbehave(protocol, Misbehaviour::CutHandshake).await.unwrap();
        assert_eq!(handshake_error(&rig, protocol).await, None, "{protocol}");
        rig.sink.misbehave(protocol, Misbehaviour::OldVersion).await.unwrap();
        let error = handshake_error(&rig, protocol).await;
        assert!(matches!(error, Some(rustls::Error::PeerIncompatible(_))), "{protocol}: {error:?}");
        rig.sink.misbehave(protocol, Misbehaviour::TlsAlert).await.unwrap();
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        assert_eq!(handshake_error(&rig, protocol).await, Some(alert), "{protocol}");
        rig.sink.misbehave(protocol, Misbehaviour::PlainText).await.unwrap();
        let error = handshake_error(&rig, protocol).await;
        assert!(matches!(error, Some(rustls::Error::InvalidMessage(_))), "{protocol}: {error:?}");
    }
}

/// What a client hears is half of an answer, and not just an end.
#[tokio::test]
async fn a_cut_handshake_is_cut_in_the_middle() {
    let rig = Rig::start().await;
    rig.sink.misbehave(Protocol::Tls, Misbehaviour::CutHandshake).await.unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut stream = rig.connect(Protocol::Tls).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(&[22, 3, 3]) && answer.len() > 300, "{} bytes", answer.len());
}

#[tokio::test]
async fn read_then_reset_is_a_reset() {
    let mut rig = Rig::start().await;
    for protocol in STREAMS {
        rig.sink.misbehave(protocol, Misbehaviour::ReadThenReset).await.unwrap();
        let mut stream = rig.open(protocol).await.unwrap();
        stream.write_all(&payload(protocol, "canary.a")).await.unwrap();
        let error = timeout(SOON, stream.read(&mut [0; 9])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{protocol}");
        assert!(rig.arrivals.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_status_is_answered_and_nothing_handed_on() {
    let mut rig = Rig::start().await;
    for status in [500, 503, 302, 204] {
        rig.sink.misbehave(Protocol::Https, Misbehaviour::Status(status)).await.unwrap();
        let answer = rig.send(Protocol::Https, &payload(Protocol::Https, "canary.a")).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(rig.arrivals.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_share_is_dropped_exactly_and_nobody_is_told() {
    let mut rig = Rig::start().await;
    for protocol in [Protocol::Tcp, Protocol::PickleTls] {
        rig.sink.misbehave(protocol, "drop=7%".parse().unwrap()).await.unwrap();
        let thousand: Vec<u8> = (0..1000).flat_map(|_| payload(protocol, "canary.a")).collect();
        assert_eq!(rig.send(protocol, &thousand).await.unwrap(), b"");
        rig.names(930).await;
        assert_eq!(rig.count(protocol, Count::Withheld), 70);
    }
    rig.sink.misbehave(Protocol::Https, Misbehaviour::Drop { share: 1.0 }).await.unwrap();
    rig.deliver(Protocol::Https, "canary.a").await.unwrap();
    assert_eq!(rig.count(Protocol::Https, Count::Withheld), 1);
}

#[tokio::test]
async fn slow_hands_on_and_ends_late() {
    let mut rig = Rig::start().await;
    for protocol in Protocol::ALL.iter().copied() {
        rig.sink.misbehave(protocol, Misbehaviour::Slow { by: 2 * A_WHILE }).await.unwrap();
        if protocol == Protocol::Udp {
            rig.deliver(protocol, "canary.a").await.unwrap();
        } else {
            let mut stream = rig.open(protocol).await.unwrap();
            stream.write_all(&payload(protocol, "canary.a")).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(timeout(A_WHILE, stream.read(&mut [0; 9])).await.is_err(), "{protocol}");
            timeout(SOON, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
        }
        if protocol == Protocol::Udp {
            assert!(timeout(A_WHILE, rig.arrivals.recv()).await.is_err());
        }
        assert_eq!(rig.arrival().await.second, NOW);
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut rig = Rig::start().await;
    for (protocol, how) in [
        (Protocol::Udp, Misbehaviour::ReadThenReset),
        (Protocol::Udp, Misbehaviour::StallHandshake),
        (Protocol::Tcp, Misbehaviour::Status(503)),
        (Protocol::Pickle, Misbehaviour::CutHandshake),
        (Protocol::Udp, Misbehaviour::PlainText),
    ] {
        let error = rig.sink.misbehave(protocol, how).await.unwrap_err();
        assert!(matches!(error, SinkError::Unfit { .. }));
        assert!(error.to_string().contains(&format!("{protocol} cannot misbehave as `{how}`")), "{error}");
        rig.deliver(protocol, "canary.a").await.unwrap();
        rig.names(1).await;
    }
}
