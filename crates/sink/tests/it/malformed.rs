//! What is malformed costs itself only, is counted by kind, and is never shown.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use aviary_core::Protocol;
use aviary_sink::Count;

use crate::client::{NOW, Rig, options, payload};

#[tokio::test]
async fn good_lines_behind_a_bad_one_are_taken() {
    let now = NOW.0;
    let table: [(Vec<u8>, Count); 11] = [
        (b"\n".to_vec(), Count::BadLine),
        (b"a.b 1\n".to_vec(), Count::BadLine),
        (b"\xff\xfe\n".to_vec(), Count::BadLine),
        (format!("a..b 1 {now}\n").into(), Count::BadName),
        (format!("\u{e9} 1 {now}\n").into(), Count::BadName),
        (format!("a.b NaN {now}\n").into(), Count::BadValue),
        (b"a.b 1 -1\n".to_vec(), Count::BadSecond),
        (format!("a.b 1 {}\n", now - 86_401).into(), Count::TooOld),
        (format!("a.b 1 {}\n", now + 61).into(), Count::TooNew),
        ([b"x".repeat(1024), b"\n".to_vec()].concat(), Count::LongLine),
        ([b"x".repeat(100_000), b" 1 7\n".to_vec()].concat(), Count::LongLine),
    ];
    for (bad, count) in table {
        for protocol in [Protocol::Tcp, Protocol::Tls, Protocol::Udp] {
            if protocol == Protocol::Udp && bad.len() > 60_000 {
                continue;
            }
            let mut rig = Rig::start().await;
            let bytes = [payload(protocol, "canary.a"), bad.clone(), payload(protocol, "canary.b")].concat();
            match protocol {
                Protocol::Udp => drop(rig.udp().await.send(&bytes).await.unwrap()),
                _ => drop(rig.send(protocol, &bytes).await.unwrap()),
            }
            assert_eq!(rig.names(2).await, ["canary.a", "canary.b"], "{} over {protocol}", count.name());
            assert_eq!(rig.count(protocol, count), 1, "{} over {protocol}", count.name());
        }
    }
}

#[tokio::test]
async fn a_last_line_without_newline_is_dropped_from_a_stream_and_taken_from_a_datagram() {
    let mut rig = Rig::start().await;
    let unfinished = format!("canary.a 1 {NOW}\ncanary.b 1 {NOW}");
    rig.send(Protocol::Tcp, unfinished.as_bytes()).await.unwrap();
    assert_eq!(rig.names(1).await, ["canary.a"]);
    rig.counted(Protocol::Tcp, Count::Unfinished, 1).await;
    rig.udp().await.send(unfinished.as_bytes()).await.unwrap();
    assert_eq!(rig.names(2).await, ["canary.a", "canary.b"]);
}

#[tokio::test]
async fn a_bad_pickle_costs_its_frame_and_a_bad_length_the_connection() {
    let mut rig = Rig::start().await;
    let good = payload(Protocol::Pickle, "canary.a");
    let hostile = b"cos\nsystem\n(S'id'\ntR.";
    let hostile = [&(hostile.len() as u32).to_be_bytes(), &hostile[..]].concat();
    let mixed = b"]((X\x01\0\0\0a(K\x07K\x01ttJ\0\0\0\0e.";
    let mixed = [&(mixed.len() as u32).to_be_bytes(), &mixed[..]].concat();
    rig.send(Protocol::Pickle, &[hostile, mixed, good.clone()].concat()).await.unwrap();
    assert_eq!(rig.names(1).await, ["canary.a"]);
    // The hostile frame whole; of the other a datapoint of 1970, and one that is a number.
    rig.counted(Protocol::Pickle, Count::BadPickle, 2).await;
    rig.counted(Protocol::Pickle, Count::TooOld, 1).await;

    for bytes in 1..good.len() {
        assert_eq!(rig.send(Protocol::Pickle, &good[..bytes]).await.unwrap(), b"");
    }
    rig.counted(Protocol::Pickle, Count::Unfinished, good.len() as u64 - 1).await;

    for (index, header) in [[0; 4], [0xff; 4], *b"secr"].iter().enumerate() {
        let error = rig.send(Protocol::Pickle, &[header, &good[..]].concat()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "an orderly end would say that it was read");
        rig.counted(Protocol::Pickle, Count::BadFrame, index as u64 + 1).await;
    }
    assert!(rig.arrivals.try_recv().is_err());
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while logging").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens to the whole test program: a subscriber of one thread would miss what other threads met first.
#[tokio::test]
async fn no_log_shows_what_may_be_a_key() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");

    let mut options = options();
    options.keys = vec!["secret".to_owned()];
    let mut rig = Rig::with(options).await;
    let lines = format!(
        "secret.a nan {NOW}\nsecret..a 1 {NOW}\n1 secret.a {NOW}\n{NOW} 1 secret.a\nsecret\nsecret.a 1 7\n\
         secret.good 1 {NOW}\nsecret.b"
    );
    for protocol in [Protocol::Tcp, Protocol::Tls, Protocol::Pickle] {
        rig.send(protocol, lines.as_bytes()).await.ok();
    }
    rig.udp().await.send(lines.as_bytes()).await.unwrap();
    rig.send(Protocol::Pickle, b"\0\0\0\x20](U\x08secret.a(K\x07U\x06secrettte.xxxxxxxx").await.unwrap();
    rig.connect(Protocol::Tls).await.unwrap();
    rig.counted(Protocol::Udp, Count::BadName, 1).await;
    assert_eq!(rig.arrival().await.name, "good");

    let said = String::from_utf8(log.0.lock().expect("no panic while logging").clone()).unwrap();
    assert!(said.contains("the value at byte 9 is NaN"), "{said}");
    assert!(said.contains("text where the 4-byte length"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}
