//! Each misbehaviour of the sink over each protocol that has a place for it: what the attempt says of it, and whether
//! the datapoint arrived.

use std::time::Duration;

use aviary_core::{Evidence, Fault, Outcome, Phase, Protocol};
use aviary_sink::Misbehaviour;

use crate::rig::{A_WHILE, AT_ONCE_US, Rig, STREAMS, delivered, lost};

const TLS: [Protocol; 3] = [Protocol::Https, Protocol::PickleTls, Protocol::Tls];
const PLAIN: [Protocol; 2] = [Protocol::Pickle, Protocol::Tcp];

/// All protocols at once, each with what is expected of it; and all that arrives is `arriving`.
async fn check(
    how: Misbehaviour,
    protocols: &[Protocol],
    arriving: usize,
    expected: impl Fn(Protocol) -> Outcome,
) -> Vec<u32> {
    let mut rig = Rig::start().await;
    let mut totals = Vec::new();
    for (protocol, seen) in rig.attempt_all(protocols, how).await {
        assert_eq!(seen.outcome, expected(protocol), "{how} over {protocol}: {seen:?}");
        totals.push(seen.timings.total_us);
    }
    for _ in 0..arriving {
        rig.arrival().await;
    }
    rig.nothing_arrives().await;
    totals
}

fn all_in(totals: &[u32], range: std::ops::Range<u32>) {
    assert!(totals.iter().all(|total| range.contains(total)), "{totals:?}");
}

#[tokio::test]
async fn refuse() {
    let totals = check(Misbehaviour::Refuse, Protocol::ALL, 0, |protocol| match protocol {
        Protocol::Udp => lost(Phase::Confirm, Fault::Refused),
        _ => lost(Phase::Connect, Fault::Refused),
    })
    .await;
    all_in(&totals, 0..AT_ONCE_US);
}

#[tokio::test]
async fn never_read() {
    let rig = Rig::start().await;
    for (protocol, seen) in rig.attempt_all(Protocol::ALL, Misbehaviour::NeverRead).await {
        let (outcome, reached) = match protocol {
            Protocol::Udp => (delivered(Evidence::Sent), Evidence::Sent),
            // What a request's kernel took is nothing that anybody would count.
            Protocol::Https => (lost(Phase::Confirm, Fault::Timeout), Evidence::Sent),
            _ => (lost(Phase::Confirm, Fault::Timeout), Evidence::KernelAcked),
        };
        assert_eq!((seen.outcome, seen.reached), (outcome, Some(reached)), "{protocol}: {seen:?}");
    }
}

#[tokio::test]
async fn never_read_where_the_kernel_counts() {
    let rig = Rig::start().await;
    let streams = [Protocol::Pickle, Protocol::PickleTls, Protocol::Tcp, Protocol::Tls];
    for protocol in streams {
        rig.sink.misbehave(protocol, Misbehaviour::NeverRead).await.unwrap();
    }
    let targets = streams.map(|protocol| (protocol, rig.target(protocol).counting(Evidence::KernelAcked)));
    for (protocol, seen) in crate::rig::attempt_all(targets).await {
        assert_eq!(seen.outcome, delivered(Evidence::KernelAcked), "{protocol}");
        assert!((1_000_000..1_050_000).contains(&seen.timings.total_us), "{protocol}: {:?}", seen.timings);
    }
}

#[tokio::test]
async fn read_then_reset() {
    let expected = |_| lost(Phase::Confirm, Fault::Reset);
    let totals = check(Misbehaviour::ReadThenReset, &STREAMS, 0, expected).await;
    all_in(&totals, 0..AT_ONCE_US);
}

#[tokio::test]
async fn tar_pit() {
    let expected = |_| lost(Phase::Confirm, Fault::Timeout);
    let totals = check(Misbehaviour::TarPit, &STREAMS, 0, expected).await;
    all_in(&totals, 1_000_000..1_050_000);
}

#[tokio::test]
async fn stall_handshake() {
    let expected = |_| lost(Phase::Tls, Fault::Timeout);
    let totals = check(Misbehaviour::StallHandshake, &TLS, 0, expected).await;
    all_in(&totals, 1_000_000..1_050_000);
}

#[tokio::test]
async fn stall_without_a_handshake_to_stall() {
    let expected = |_| lost(Phase::Confirm, Fault::Timeout);
    let totals = check(Misbehaviour::StallHandshake, &PLAIN, 0, expected).await;
    all_in(&totals, 1_000_000..1_050_000);
}

#[tokio::test]
async fn status() {
    for status in [503, 429, 301, 404] {
        let expected = |_| lost(Phase::Confirm, Fault::Status(status));
        let totals = check(Misbehaviour::Status(status), &[Protocol::Https], 0, expected).await;
        all_in(&totals, 0..AT_ONCE_US);
    }
    check(Misbehaviour::Status(204), &[Protocol::Https], 0, |_| delivered(Evidence::AppAcked)).await;
}

/// Why storage decides where it can: the sender's evidence is the same for what is thrown away.
#[tokio::test]
async fn drop() {
    let how = Misbehaviour::Drop { share: 1.0 };
    check(how, Protocol::ALL, 0, |protocol| delivered(protocol.strongest_evidence())).await;
}

#[tokio::test]
async fn slow_and_in_time() {
    let rig = Rig::start().await;
    let how = Misbehaviour::Slow { by: Duration::from_millis(300) };
    for (protocol, seen) in rig.attempt_all(Protocol::ALL, how).await {
        assert_eq!(seen.outcome, delivered(protocol.strongest_evidence()), "{protocol}");
        if protocol != Protocol::Udp {
            let confirm = seen.timings.get(Phase::Confirm).unwrap();
            assert!(confirm >= 300_000 - 20_000, "{protocol}: the wait is in its phase: {:?}", seen.timings);
            assert!((300_000..1_000_000).contains(&seen.timings.total_us), "{protocol}: {:?}", seen.timings);
        }
    }
}

#[tokio::test]
async fn slow_and_too_late() {
    let mut rig = Rig::start().await;
    let how = Misbehaviour::Slow { by: Duration::from_millis(1500) };
    for (protocol, seen) in rig.attempt_all(Protocol::ALL, how).await {
        if protocol == Protocol::Udp {
            assert_eq!(seen.outcome, delivered(Evidence::Sent));
        } else {
            assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Timeout), "{protocol}");
            assert!(
                (1_000_000..1_050_000).contains(&seen.timings.total_us),
                "{protocol}: {:?}",
                seen.timings
            );
        }
    }
    // What had reached the sink is stored late, and nobody can take it back: these are the slots that are counted as
    // lost and late.
    tokio::time::sleep(A_WHILE).await;
    for _ in [Protocol::Udp, Protocol::Tcp, Protocol::Pickle] {
        rig.arrival().await;
    }
}
