//! All six protocols, well.

use aviary_core::{Evidence, Fault, Phase, Protocol, Timings};
use aviary_probe::ApiKey;

use crate::{
    rig::{
        A_SECOND, NAME, Rig, attempt, attempt_once, delivered, in_time, lost, prober, run, target,
        target_with, this_second,
    },
    sockets::{accept, read_to_end},
};

#[tokio::test]
async fn every_protocol_delivers_its_datapoint() {
    let mut rig = Rig::start().await;
    for protocol in Protocol::ALL.iter().copied() {
        let target = rig.target(protocol);
        // Not the second that it is, to see whose it is.
        let second = this_second().minus(2);
        let seen = run(&prober(), &target, second, A_SECOND).await;
        let evidence = protocol.strongest_evidence();
        assert_eq!(seen.outcome, delivered(evidence), "{protocol}");
        assert_eq!(seen.reached, Some(evidence), "{protocol}");
        assert_eq!(seen.address, Some(rig.address(protocol)), "{protocol}");
        assert_eq!(seen.tls, None, "nobody asked");
        check_timings(protocol, &seen.timings);

        let arrival = rig.arrival().await;
        assert_eq!(arrival.protocol, protocol);
        assert_eq!((arrival.name.as_str(), arrival.value, arrival.second), (NAME, 1.0, second), "{protocol}");
    }
    rig.nothing_arrives().await;
}

fn check_timings(protocol: Protocol, timings: &Timings) {
    let phases: Vec<_> = Phase::ALL.iter().filter_map(|phase| timings.get(*phase)).collect();
    assert_eq!(timings.get(Phase::Dns), Some(0), "{protocol}: an address is not looked up");
    assert_eq!(timings.get(Phase::Tls).is_some(), protocol.is_tls(), "{protocol}");
    assert_eq!(phases.len(), if protocol.is_tls() { 5 } else { 4 }, "{protocol}: {timings:?}");
    let sum: u32 = phases.iter().sum();
    assert!(sum <= timings.total_us, "{protocol}: phases overlap: {timings:?}");
    assert!(timings.total_us < sum + 100_000, "{protocol}: much time is in no phase: {timings:?}");
}

#[tokio::test]
async fn names_are_looked_up_for_each_attempt() {
    let mut rig = Rig::start().await;
    for protocol in Protocol::ALL.iter().copied() {
        let url = format!("{protocol}://localhost:{}", rig.address(protocol).port());
        let seen = attempt(&target_with(&url, &rig.tls, None)).await;
        assert_eq!(seen.outcome, delivered(protocol.strongest_evidence()), "{protocol}");
        assert_eq!(seen.address, Some(rig.address(protocol)), "from the hosts file, IPv4 first");
        assert!(seen.timings.get(Phase::Dns).is_some());
        assert_eq!(rig.arrival().await.name, NAME);
    }
}

#[tokio::test]
async fn ipv6_is_spoken() {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = target(&format!("tcp://{address}"));
    let peer = async || read_to_end(&mut accept(&listener).await).await.1;
    let once = async || tokio::join!(attempt_once(&target, this_second()), peer());
    let (seen, read) = in_time(once).await;
    read.unwrap();
    assert_eq!(seen.outcome, delivered(Evidence::PeerClosed));
    assert_eq!(seen.address, Some(address));
}

#[tokio::test]
async fn the_api_key_goes_before_the_name_or_into_the_header() {
    let key = ApiKey::new("s3cr3t");
    // A sink that knows no keys shows names as they came.
    let mut rig = Rig::start().await;
    for protocol in Protocol::ALL.iter().copied() {
        let target = rig.target_with_key(protocol, Some(&key));
        let shown = format!("{target:?}");
        // `echo -n s3cr3t: | base64`
        assert!(!shown.contains("s3cr3t") && !shown.contains("czNjcjN0Og"), "{shown}");
        assert_eq!(attempt(&target).await.outcome, delivered(protocol.strongest_evidence()), "{protocol}");
        let name = rig.arrival().await.name;
        let expected = if protocol == Protocol::Https { NAME.to_owned() } else { format!("s3cr3t.{NAME}") };
        assert_eq!(name, expected, "{protocol}");
    }

    let mut rig = Rig::with_keys(&["s3cr3t"]).await;
    let table = [
        (None, lost(Phase::Confirm, Fault::Status(401))),
        (Some(ApiKey::new("other")), lost(Phase::Confirm, Fault::Status(401))),
        (Some(key), delivered(Evidence::AppAcked)),
    ];
    for (key, outcome) in table {
        let seen = attempt(&rig.target_with_key(Protocol::Https, key.as_ref())).await;
        assert_eq!(seen.outcome, outcome, "{key:?}");
    }
    assert_eq!(rig.arrival().await.name, NAME);
    rig.nothing_arrives().await;
}
