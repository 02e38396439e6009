//! What the kernel lets a client see of delivery: each row of the table in `reference/rust.md` 4.2.

use std::{io, net::UdpSocket, time::Duration};

use aviary_core::{Evidence, Fault, Outcome, Phase};
use aviary_probe::{Observation, Target};
use tokio::io::AsyncWriteExt as _;

use crate::{
    rig::{
        A_WHILE, ANY, AT_ONCE_US, NAME, again_if, attempt, attempt_once, attempt_within, delivered, in_time,
        lost, target, this_second, tls,
    },
    sockets::{
        TIME_WAIT, accept, closed_port, connections_to, let_go_of, lone_listener, read_to_end, tight_listener,
    },
};

/// More than a tight listener's connection takes unread, less than the kernel takes of us to send.
const BULK: usize = 100_000;

#[tokio::test]
async fn a_peer_that_never_accepts_has_a_kernel_that_takes_everything() {
    let (listener, address) = lone_listener();
    let at_all = target(&format!("tcp://{address}"));
    let seen = attempt(&at_all).await;
    assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Timeout));
    assert_eq!(seen.reached, Some(Evidence::KernelAcked));
    assert!((1_000_000..1_050_000).contains(&seen.timings.total_us), "{:?}", seen.timings);

    // At a listener of its own: where it was late and is made again, the one before does not stand in the queue.
    let second = this_second();
    let counting = async || {
        let (listener, address) = lone_listener();
        let counting = target(&format!("tcp://{address}")).counting(Evidence::KernelAcked);
        (attempt_once(&counting, second).await, listener)
    };
    let (seen, counting) = in_time(counting).await;
    assert_eq!(seen.outcome, delivered(Evidence::KernelAcked));
    assert_eq!(seen.reached, Some(Evidence::KernelAcked));

    // Whoever accepts in the end can still read what its kernel had taken by then, the end included: nobody can take
    // that back. But the first connection is dead, and the second, which counted, is not.
    let mut abandoned = accept(&listener).await;
    read_to_end(&mut abandoned).await.1.unwrap();
    assert_eq!(abandoned.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let mut counting = accept(&counting).await;
    let (read, counted) = read_to_end(&mut counting).await;
    assert_eq!(String::from_utf8(read).unwrap(), format!("{NAME} 1 {second}\n"));
    counted.unwrap();
    counting.write_all(b"x").await.unwrap();
}

#[tokio::test]
async fn a_peer_that_reads_to_the_end_and_closes_has_everything() {
    let second = this_second();
    let once = async || {
        let (listener, address) = lone_listener();
        let target = target(&format!("tcp://{address}"));
        let peer = async { read_to_end(&mut accept(&listener).await).await };
        tokio::join!(attempt_once(&target, second), peer)
    };
    let (seen, read) = in_time(once).await;
    assert_eq!(seen.outcome, delivered(Evidence::PeerClosed));
    assert_eq!(String::from_utf8(read.0).unwrap(), format!("{NAME} 1 {second}\n"));
    read.1.expect("an orderly end, not a reset");
    // We closed first and politely, so that it is our kernel that remembers.
    assert_eq!(let_go_of(seen.address.unwrap()).await, [TIME_WAIT]);
}

#[tokio::test]
async fn a_peer_that_closes_without_reading_resets() {
    let (listener, address) = lone_listener();
    let target = target(&format!("tcp://{address}"));
    let peer = async || accept(&listener).await.peek(&mut [0]).await;
    let once = async || tokio::join!(attempt_once(&target, this_second()), peer());
    let (seen, peeked) = in_time(once).await;
    assert_eq!(peeked.unwrap(), 1);
    assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Reset));
    assert!(seen.timings.total_us < AT_ONCE_US, "at once, not at the deadline: {:?}", seen.timings);
    assert_eq!(let_go_of(address).await, []);
}

/// An overloaded server, or a proxy without a backend, accepts and closes at once: its end comes before it could have
/// read anything, and the reset that answers our datapoint comes too late to be read.
#[tokio::test]
async fn a_peer_that_closes_before_the_datapoint_came_has_not_read_it() {
    let (listener, address) = lone_listener();
    let target = target(&format!("tcp://{address}"));
    let peer = async || drop(accept(&listener).await);
    for _ in 0..20 {
        let once = async || tokio::join!(attempt_once(&target, this_second()), peer());
        let (seen, ()) = in_time(once).await;
        let expected = [(Phase::Send, Fault::Reset), (Phase::Confirm, Fault::Reset)]
            .map(|(phase, fault)| lost(phase, fault));
        assert!(expected.contains(&seen.outcome), "{seen:?}");
        assert!(seen.timings.total_us < AT_ONCE_US, "{:?}", seen.timings);
        assert_eq!(let_go_of(address).await, []);
    }
}

#[tokio::test]
async fn what_was_abandoned_does_not_go_on_arriving() {
    let (listener, address) = tight_listener();
    let bulky = bulky(&format!("tcp://{address}"));
    let seen = attempt_within(&bulky, Duration::from_millis(300)).await;
    assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Timeout));
    assert_eq!(seen.reached, Some(Evidence::Sent), "the peer's kernel has no room for all of it");
    assert_eq!(let_go_of(address).await, [], "the kernel keeps nothing that it could go on sending");

    let (read, ended) = read_to_end(&mut accept(&listener).await).await;
    assert!(read.len() < BULK / 2, "{} bytes", read.len());
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// The reason for the reset, and the proof that the test above would notice its absence.
#[tokio::test]
async fn what_is_merely_dropped_goes_on_arriving() {
    let (listener, address) = tight_listener();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    io::Write::write_all(&mut stream, &vec![b'x'; BULK]).unwrap();
    drop(stream);
    let (read, ended) = read_to_end(&mut accept(&listener).await).await;
    assert_eq!(read.len(), BULK);
    ended.unwrap();
}

#[tokio::test]
async fn an_attempt_that_cannot_write_everything_is_reset_too() {
    let (listener, address) = tight_listener();
    // More than the kernel takes of us at once.
    let name = "x".repeat(32 << 20);
    let endless = Target::new(format!("tcp://{address}").parse().unwrap(), &name, tls(), None).unwrap();
    let seen = attempt_within(&endless, Duration::from_millis(300)).await;
    assert_eq!(seen.outcome, lost(Phase::Send, Fault::Timeout));
    assert_eq!(seen.reached, None);
    assert_eq!(let_go_of(address).await, []);
    let (_, ended) = read_to_end(&mut accept(&listener).await).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_attempt_that_is_dropped_is_reset() {
    let (listener, address) = tight_listener();
    let bulky = bulky(&format!("tcp://{address}"));
    let dropped = tokio::time::timeout(A_WHILE, attempt(&bulky)).await;
    assert!(dropped.is_err(), "{dropped:?}");
    assert_eq!(connections_to(address), []);
    let (read, ended) = read_to_end(&mut accept(&listener).await).await;
    assert!(read.len() < BULK / 2, "{} bytes", read.len());
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_the_peer_says_is_thrown_away() {
    let once = async || {
        let (listener, address) = lone_listener();
        let target = target(&format!("tcp://{address}"));
        let peer = async {
            let mut stream = accept(&listener).await;
            stream.write_all(&[b'x'; 100_000]).await?;
            read_to_end(&mut stream).await.1
        };
        tokio::join!(attempt_once(&target, this_second()), peer)
    };
    let (seen, ended) = in_time(once).await;
    assert_eq!(seen.outcome, delivered(Evidence::PeerClosed));
    ended.expect("not reset over what it said");
    assert_eq!(let_go_of(seen.address.unwrap()).await, [TIME_WAIT]);
}

#[tokio::test]
async fn a_peer_that_says_no_end_of_things_confirms_nothing() {
    let (listener, address) = lone_listener();
    let target = target(&format!("tcp://{address}"));
    let talk = async || {
        let mut stream = accept(&listener).await;
        while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
    };
    let once = async || tokio::join!(attempt_once(&target, this_second()), talk());
    let (seen, ()) = in_time(once).await;
    assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Timeout));
    assert_eq!(let_go_of(address).await, []);
}

#[tokio::test]
async fn nobody_at_the_port() {
    let (_reserved, address) = closed_port();
    let seen = attempt(&target(&format!("tcp://{address}"))).await;
    assert_eq!(seen.outcome, lost(Phase::Connect, Fault::Refused));
    assert_eq!((seen.address, seen.reached), (Some(address), None));
    // The same port of UDP is closed too.
    let url = format!("udp://{address}");
    for _ in 0..2 {
        // The first send goes well, and what comes back of it is nothing that a second attempt would see.
        let seen = attempt(&target(&url)).await;
        assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Refused));
        assert_eq!(seen.reached, Some(Evidence::Sent));
    }
}

/// Why the probe connects its sockets: the kernel tells others nothing.
#[tokio::test]
async fn an_unconnected_socket_hears_of_nothing() {
    let (_reserved, address) = closed_port();
    let socket = UdpSocket::bind(ANY).unwrap();
    for _ in 0..2 {
        socket.send_to(b"x", address).unwrap();
        tokio::time::sleep(A_WHILE).await;
        assert!(socket.take_error().unwrap().is_none());
    }
}

#[tokio::test]
async fn a_datagram_that_nobody_reads_was_sent() {
    let unread = UdpSocket::bind(ANY).unwrap();
    let target = target(&format!("udp://{}", unread.local_addr().unwrap()));
    let seen = attempt(&target).await;
    assert_eq!(seen.outcome, delivered(Evidence::Sent));
    assert_eq!(seen.reached, Some(Evidence::Sent));
    assert!((50_000..AT_ONCE_US).contains(&seen.timings.total_us), "{:?}", seen.timings);
}

#[tokio::test]
async fn a_datagram_with_little_time_left_was_sent_all_the_same() {
    let unread = UdpSocket::bind(ANY).unwrap();
    let unread = target(&format!("udp://{}", unread.local_addr().unwrap()));
    // So little that a busy machine may not even get to sending.
    let is_late = |seen: &Observation| {
        seen.timings.total_us >= 50_000 || matches!(seen.outcome, Outcome::Lost { fault: Fault::Timeout, .. })
    };
    let with_little_time = async |target| {
        again_if(is_late, async || attempt_within(target, Duration::from_millis(20)).await).await
    };
    let seen = with_little_time(&unread).await;
    assert_eq!(seen.outcome, delivered(Evidence::Sent));
    assert!(seen.timings.total_us < 50_000, "not for as long as an ICMP error may take: {:?}", seen.timings);

    let (_reserved, address) = closed_port();
    let refused = target(&format!("udp://{address}"));
    let seen = with_little_time(&refused).await;
    assert_eq!(seen.outcome, lost(Phase::Confirm, Fault::Refused));
}

/// A target whose datapoint is longer than a tight listener's connection takes unread.
fn bulky(url: &str) -> Target {
    Target::new(url.parse().expect("an endpoint"), &"x".repeat(BULK), tls(), None).expect("a target")
}
