//! Where connections leave the host: on the real kernel, in networks of the tests' own.

use std::{fs, net::UdpSocket};

use aviary_core::{Evidence, LocalFault, Phase};
use aviary_probe::{Source, Target};
use tokio::net::TcpListener;

use crate::{
    cell::{self, run_tool},
    rig::{SOON, attempt, attempt_once, delivered, in_time, local, target, this_second},
    sockets::{accept, read_to_end},
};

fn from(url: &str, source: &str) -> Target {
    target(url).from_source(source.parse::<Source>().expect("a source"))
}

#[test]
fn the_peer_sees_the_source() {
    cell::own_network("source::the_peer_sees_the_source", async {
        run_tool("ip", "address add 2001:db8::7/128 dev lo nodad");
        run_tool("ip", "address add 192.0.2.7/32 dev lo");
        let listener = TcpListener::bind("[::]:2003").await.unwrap();
        let udp = UdpSocket::bind("[::]:2003").unwrap();
        udp.set_read_timeout(Some(SOON)).unwrap();
        let table = [
            ("127.0.0.1:2003", "127.0.0.7", "127.0.0.7"),
            ("127.0.0.1:2003", "192.0.2.7", "192.0.2.7"),
            ("[::1]:2003", "2001:db8::7", "2001:db8::7"),
            ("127.0.0.1:2003", "lo", "127.0.0.1"),
            ("[::1]:2003", "lo", "::1"),
        ];
        for (address, source, seen) in table {
            let stream = from(&format!("tcp://{address}"), source);
            let peer = async || {
                let mut stream = accept(&listener).await;
                let peer = stream.peer_addr();
                read_to_end(&mut stream).await.1.and(peer)
            };
            let once = async || tokio::join!(attempt_once(&stream, this_second()), peer());
            let (ended, peer) = in_time(once).await;
            assert_eq!(ended.outcome, delivered(Evidence::PeerClosed), "{address} from {source}");
            let peer = peer.unwrap();
            assert_eq!(peer.ip().to_canonical().to_string(), seen, "{address} from {source}");

            let ended = attempt(&from(&format!("udp://{address}"), source)).await;
            assert_eq!(ended.outcome, delivered(Evidence::Sent), "UDP, {address} from {source}");
            let (_, peer) = udp.recv_from(&mut [0; 512]).unwrap();
            assert_eq!(peer.ip().to_canonical().to_string(), seen, "UDP, {address} from {source}");
        }
    });
}

#[test]
fn what_cannot_be_the_source_is_our_own_fault() {
    cell::own_network("source::what_cannot_be_the_source_is_our_own_fault", async {
        let _listener = TcpListener::bind("[::]:2003").await.unwrap();
        let table = [
            ("127.0.0.1:2003", "::1", "an address of the other family"),
            ("[::1]:2003", "127.0.0.1", "an address of the other family"),
            ("127.0.0.1:2003", "192.0.2.7", "an address that the host does not have"),
            ("[::1]:2003", "2001:db8::7", "an address that the host does not have"),
            ("127.0.0.1:2003", "nowhere0", "an interface that does not exist"),
        ];
        for (address, source, what) in table {
            for protocol in ["tcp", "tls", "pickle", "pickle+tls", "https", "udp"] {
                let seen = attempt(&from(&format!("{protocol}://{address}"), source)).await;
                let ours = local(Phase::Connect, LocalFault::NoRoute);
                assert_eq!(seen.outcome, ours, "{protocol} to {address} from {source}: {what}");
            }
        }
    });
}

/// A port that is chosen as the source is bound is taken for every peer; the kernel must choose it as we connect.
#[test]
fn a_source_has_its_ports_for_each_peer_anew() {
    cell::own_network("source::a_source_has_its_ports_for_each_peer_anew", async {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40099").unwrap();
        fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "0").unwrap();
        for address in ["2001:db8::7", "2001:db8::11", "2001:db8::12"] {
            run_tool("ip", &format!("address add {address}/128 dev lo nodad"));
        }
        let listener = TcpListener::bind("[::]:2003").await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move { read_to_end(&mut stream).await.1.ok() });
            }
        });
        let families: [(&str, &[&str]); 2] = [
            ("127.0.0.9", &["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]),
            ("2001:db8::7", &["[2001:db8::11]", "[2001:db8::12]"]),
        ];
        for (source, peers) in families {
            for peer in peers {
                let target = from(&format!("tcp://{peer}:2003"), source);
                for number in 0..100 {
                    let seen = attempt(&target).await;
                    let arrived = delivered(Evidence::PeerClosed);
                    assert_eq!(seen.outcome, arrived, "{peer} from {source}, number {number}");
                }
                let seen = attempt(&target).await;
                assert_eq!(seen.outcome, local(Phase::Connect, LocalFault::NoPorts), "{peer}: all are used");
            }
        }
    });
}
