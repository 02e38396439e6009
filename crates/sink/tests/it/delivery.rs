//! What is sent arrives, over each protocol.

use aviary_core::Protocol;
use aviary_sink::Count;
use rustls::version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{NOW, Rig, options, payload};

#[tokio::test]
async fn every_protocol_delivers() {
    let mut rig = Rig::start().await;
    for protocol in Protocol::ALL.iter().copied() {
        rig.deliver(protocol, "canary.a").await.unwrap();
        let arrival = rig.arrival().await;
        assert_eq!(
            (arrival.name.as_str(), arrival.second, arrival.value),
            ("canary.a", NOW, 1.0),
            "{protocol}"
        );
        assert_eq!((arrival.protocol, arrival.at), (protocol, NOW.start().plus(250_000)));
        assert_eq!(rig.count(protocol, Count::Arrived), 1);
        assert_eq!(rig.count(protocol, Count::Connections), 1);
    }
    for count in Count::ALL.iter().filter(|count| !matches!(count, Count::Arrived | Count::Connections)) {
        assert_eq!(rig.sink.counts().total(*count), 0, "{}", count.name());
    }
    rig.sink.stop().await;
}

#[tokio::test]
async fn tls_ends_with_close_notify_in_both_versions() {
    let mut rig = Rig::start().await;
    for version in [&version::TLS12, &version::TLS13] {
        let tcp = rig.connect(Protocol::Tls).await.unwrap();
        let mut stream = rig.tls(tcp, &[version]).await.unwrap();
        stream.write_all(&payload(Protocol::Tls, "canary.a")).await.unwrap();
        stream.shutdown().await.unwrap();
        // rustls calls an end without `close_notify` an error.
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
        rig.names(1).await;
    }
}

#[tokio::test]
async fn a_connection_may_bring_many_in_pieces() {
    let mut rig = Rig::start().await;
    for protocol in [Protocol::Tcp, Protocol::Pickle, Protocol::Tls] {
        let names: Vec<_> = (0..300).map(|index| format!("canary.{index}")).collect();
        let bytes: Vec<u8> = names.iter().flat_map(|name| payload(protocol, name)).collect();
        let mut stream = rig.open(protocol).await.unwrap();
        for piece in bytes.chunks(37) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
        assert_eq!(rig.names(300).await, names, "{protocol}");
    }
}

#[tokio::test]
async fn keys_are_stripped_from_names() {
    let mut options = options();
    options.keys = vec!["secret-1".to_owned(), "secret-2".to_owned()];
    assert!(!format!("{options:?}").contains("secret"));
    let mut rig = Rig::with(options).await;
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Pickle, Protocol::Tls, Protocol::PickleTls] {
        for name in ["secret-1.canary.a", "secret-2.canary.a", "canary.a"] {
            rig.deliver(protocol, name).await.unwrap();
            assert_eq!(rig.arrival().await.name, "canary.a", "{protocol}");
        }
    }
}
