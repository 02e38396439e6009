//! The agent's own faults on the real kernel, and what a router or a firewall does to an attempt.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
};

use aviary_core::{Evidence, Fault, LocalFault, Phase};
use aviary_probe::{Dns, Host, Prober, SystemClock};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Handle;

use crate::{
    cell::{self, run_command, run_tool},
    name_server::{NameServer, prober_asking},
    rig::{A_SECOND, AT_ONCE_US, attempt, delivered, local, lost, prober, run, target, this_second},
    sockets::listener,
};

/// An address of nobody (RFC 5737), which a network of the test's own has no route to.
const NOWHERE: &str = "192.0.2.1:9";

#[test]
fn no_file_is_left() {
    cell::own_process("local::no_file_is_left", async {
        let (_listener, address) = listener();
        let names = NameServer::of(["127.0.0.1"]).await;
        let (literal, looking_up) = (prober(), names.prober());
        let sharing = Prober::new(Host::new(names.dns().shared_on(Handle::current())), SystemClock);
        let targets = [
            (&literal, target(&format!("tcp://{address}")), Phase::Connect),
            (&literal, target(&format!("tls://{address}")), Phase::Connect),
            (&literal, target(&format!("udp://{address}")), Phase::Connect),
            (&looking_up, target("tcp://probed.test:2003"), Phase::Dns),
            (&sharing, target("tcp://probed.test:2003"), Phase::Dns),
        ];
        let before = getrlimit(Resource::Nofile);
        let last = fs::File::open("/dev/null").unwrap();
        let none = u64::from(rustix::fd::AsRawFd::as_raw_fd(&last).unsigned_abs());
        drop(last);
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(none), ..before }).unwrap();
        let mut seen = Vec::new();
        for (prober, target, _) in &targets {
            seen.push(run(prober, target, this_second(), A_SECOND).await.outcome);
        }
        setrlimit(Resource::Nofile, before).unwrap();
        assert_eq!(seen, targets.map(|(_, _, phase)| local(phase, LocalFault::NoFiles)));
        let again = attempt(&target(&format!("tcp://{address}")).counting(Evidence::KernelAcked)).await;
        assert_eq!(again.outcome, delivered(Evidence::KernelAcked), "and it goes on");
    });
}

#[test]
fn no_port_is_left() {
    cell::own_network("local::no_port_is_left", async {
        let names = NameServer::of(["127.0.0.1"]).await;
        // Towards one peer each port can be used once.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").unwrap();
        let listener = std::net::TcpListener::bind("0.0.0.0:2003").unwrap();
        let connections = (0..9).map_while(|_| std::net::TcpStream::connect("127.0.0.1:2003").ok());
        let held: Vec<_> = connections.collect();
        assert!(held.len() <= 4);
        for url in ["tcp://127.0.0.1:2003", "tls://127.0.0.1:2003", "pickle://127.0.0.1:2003"] {
            assert_eq!(
                attempt(&target(url)).await.outcome,
                local(Phase::Connect, LocalFault::NoPorts),
                "{url}"
            );
        }
        let elsewhere = target("tcp://127.0.0.2:2003").counting(Evidence::KernelAcked);
        assert_eq!(attempt(&elsewhere).await.outcome, delivered(Evidence::KernelAcked));
        drop((listener, held));

        // Ports of UDP are used up by whoever has one, whatever for.
        let held = [40000, 40001, 40002, 40003].map(|port| UdpSocket::bind(("0.0.0.0", port)).unwrap());
        let datagram = target("udp://127.0.0.1:2003");
        assert_eq!(attempt(&datagram).await.outcome, local(Phase::Connect, LocalFault::NoPorts));
        let sharing = Prober::new(Host::new(names.dns().shared_on(Handle::current())), SystemClock);
        for prober in [&names.prober(), &sharing] {
            let seen = run(prober, &target("tcp://probed.test:2003"), this_second(), A_SECOND).await;
            assert_eq!(seen.outcome, local(Phase::Dns, LocalFault::NoPorts), "{seen:?}");
        }
        assert_eq!(names.asked(), []);
        drop(held);
        let _unread = UdpSocket::bind("127.0.0.1:2003").unwrap();
        assert_eq!(attempt(&datagram).await.outcome, delivered(Evidence::Sent));
    });
}

#[test]
fn no_route() {
    cell::own_network("local::no_route", async {
        let nowhere = [NOWHERE, "[2001:db8::1]:9"];
        for protocol in ["tcp", "tls", "pickle", "pickle+tls", "https", "udp"] {
            for address in nowhere {
                let seen = attempt(&target(&format!("{protocol}://{address}"))).await;
                assert_eq!(
                    seen.outcome,
                    local(Phase::Connect, LocalFault::NoRoute),
                    "{protocol}://{address}"
                );
            }
        }
        // A name server that cannot be reached is one that does not answer.
        let asking = prober_asking(NOWHERE.parse().unwrap());
        let seen = run(&asking, &target("tcp://probed.test:2003"), this_second(), A_SECOND).await;
        assert_eq!(seen.outcome, lost(Phase::Dns, Fault::Resolver));
        // And where every name meets that, it is our own fault.
        let dns = Dns::with_servers(&[NOWHERE.parse().unwrap()]).unwrap().shared_on(Handle::current());
        let sharing = Prober::new(Host::new(dns), SystemClock);
        let seen = run(&sharing, &target("tcp://probed.test:2003"), this_second(), A_SECOND).await;
        assert_eq!(seen.outcome, local(Phase::Dns, LocalFault::NoRoute));

        for kind in ["unreachable", "prohibit", "blackhole"] {
            run_tool("ip", &format!("route add {kind} 192.0.2.0/24"));
            for protocol in ["tcp", "udp"] {
                let seen = attempt(&target(&format!("{protocol}://{NOWHERE}"))).await;
                assert_eq!(seen.outcome, local(Phase::Connect, LocalFault::NoRoute), "{protocol}, {kind}");
            }
            run_tool("ip", &format!("route del {kind} 192.0.2.0/24"));
        }
    });
}

#[test]
fn the_hosts_own_firewall() {
    cell::own_network("local::the_hosts_own_firewall", async {
        let (_listener, address) = listener();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagram = target(&format!("udp://{}", udp.local_addr().unwrap()));
        let stream = target(&format!("tcp://{address}"));
        run_tool("nft", "add table inet guard");
        run_tool("nft", "add chain inet guard out { type filter hook output priority 0 ; }");
        let forbid = |rule: &str| {
            run_tool("nft", "flush chain inet guard out");
            run_tool("nft", &format!("add rule inet guard out {rule}"));
        };

        forbid("meta l4proto udp drop");
        assert_eq!(attempt(&datagram).await.outcome, local(Phase::Send, LocalFault::NoRoute));
        // The kernel tells nobody of a SYN that the host's own firewall drops: it is sent again, in vain.
        forbid(&format!("tcp dport {} drop", address.port()));
        let seen = attempt(&stream).await;
        assert_eq!(seen.outcome, lost(Phase::Connect, Fault::Timeout));
        assert!((1_000_000..1_050_000).contains(&seen.timings.total_us), "{:?}", seen.timings);
        // Nor can what the host answers itself be told from what the peer answers.
        forbid(&format!("tcp dport {} reject with tcp reset", address.port()));
        assert_eq!(attempt(&stream).await.outcome, lost(Phase::Connect, Fault::Refused));
    });
}

#[test]
fn a_firewall_on_the_way() {
    cell::own_network("local::a_firewall_on_the_way", async {
        let (_listener, address) = listener();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagram = target(&format!("udp://{}", udp.local_addr().unwrap()));
        let stream = target(&format!("tcp://{address}"));
        run_tool("nft", "add table inet guard");
        run_tool("nft", "add chain inet guard in { type filter hook input priority 0 ; }");
        let forbid = |rule: &str| {
            run_tool("nft", "flush chain inet guard in");
            run_tool("nft", &format!("add rule inet guard in {rule}"));
        };
        let (tcp_port, udp_port) = (address.port(), udp.local_addr().unwrap().port());
        let tcp_to = format!("tcp dport {tcp_port}");
        let udp_to = format!("udp dport {udp_port}");

        forbid(&format!("{tcp_to} drop"));
        assert_eq!(attempt(&stream).await.outcome, lost(Phase::Connect, Fault::Timeout));
        forbid(&format!("{udp_to} drop"));
        assert_eq!(attempt(&datagram).await.outcome, delivered(Evidence::Sent), "of UDP nobody can know");

        forbid(&format!("{tcp_to} reject with tcp reset"));
        assert_eq!(attempt(&stream).await.outcome, lost(Phase::Connect, Fault::Refused));
        let table = [
            ("port-unreachable", Fault::Refused, Some(Fault::Refused)),
            ("admin-prohibited", Fault::Unreachable, Some(Fault::Unreachable)),
            ("host-prohibited", Fault::Unreachable, Some(Fault::Unreachable)),
            // Which the kernel takes for passing, and so keeps from a socket that has not set IP_RECVERR.
            ("host-unreachable", Fault::Unreachable, None),
            ("net-unreachable", Fault::Unreachable, None),
        ];
        for (kind, of_stream, of_datagram) in table {
            forbid(&format!("{tcp_to} reject with icmp type {kind}"));
            let seen = attempt(&stream).await;
            assert_eq!(seen.outcome, lost(Phase::Connect, of_stream), "{kind}");
            assert!(seen.timings.total_us < AT_ONCE_US, "{kind}: {:?}", seen.timings);
            forbid(&format!("{udp_to} reject with icmp type {kind}"));
            let expected = of_datagram.map_or(delivered(Evidence::Sent), |fault| lost(Phase::Confirm, fault));
            assert_eq!(attempt(&datagram).await.outcome, expected, "UDP, {kind}");
        }

        // A connection that is cut between its opening and its datapoint.
        let bytes = "tcp flags & (syn | rst) == 0 meta length > 60";
        forbid(&format!("{tcp_to} {bytes} drop"));
        let seen = attempt(&stream.clone().counting(Evidence::KernelAcked)).await;
        assert_eq!(
            (seen.outcome, seen.reached),
            (lost(Phase::Confirm, Fault::Timeout), Some(Evidence::Sent))
        );
        forbid(&format!("{tcp_to} {bytes} reject with tcp reset"));
        assert_eq!(attempt(&stream).await.outcome, lost(Phase::Confirm, Fault::Reset));
    });
}

/// Another network, with a router in it; gone when dropped.
struct Router(Child);

impl Router {
    /// Makes a network that is ours by one wire: we are 10.9.9.1, the router is 10.9.9.2 and the way to everywhere.
    fn start() -> Self {
        let mut unshare = Command::new("unshare");
        let child =
            unshare.args(["--net", "sleep", "60"]).stdin(Stdio::null()).spawn().expect("checked before");
        let router = Self(child);
        // The wire's other end can be moved only once the network is there, which has no sign but its being another.
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        while namespace(&router.0.id().to_string()) == namespace("self") {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        run_tool("ip", &format!("link add near type veth peer name far netns {}", router.0.id()));
        run_tool("ip", "address add 10.9.9.1/24 dev near");
        run_tool("ip", "link set near up");
        run_tool("ip", "route add default via 10.9.9.2");
        router.inside("ip address add 10.9.9.2/24 dev far");
        router.inside("ip link set far up");
        router.inside("echo 1 > /proc/sys/net/ipv4/ip_forward");
        router.inside("echo 0 > /proc/sys/net/ipv4/icmp_ratelimit");
        router
    }

    fn inside(&self, command: &str) {
        let network = format!("--net=/proc/{}/ns/net", self.0.id());
        run_command(Command::new("nsenter").args([&network, "sh", "-c", command]));
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_router_that_knows_no_way() {
    cell::own_network("local::a_router_that_knows_no_way", async {
        let router = Router::start();
        let beyond: SocketAddr = NOWHERE.parse().unwrap();
        let both = async |connect, confirm| {
            let seen = attempt(&target(&format!("tcp://{beyond}"))).await;
            assert_eq!(seen.outcome, connect, "{seen:?}");
            let seen = attempt(&target(&format!("udp://{beyond}"))).await;
            assert_eq!(seen.outcome, confirm, "{seen:?}");
        };
        let unreachable = |phase| lost(phase, Fault::Unreachable);
        // Whatever its limits, it sends each host five of these errors at once, and then one a second: no more is tried.
        // It has no route itself: network unreachable, which a UDP socket is not told.
        both(unreachable(Phase::Connect), delivered(Evidence::Sent)).await;
        router.inside("ip route add prohibit 192.0.2.0/24");
        both(unreachable(Phase::Connect), unreachable(Phase::Confirm)).await;
        router.inside("ip route replace blackhole 192.0.2.0/24");
        both(lost(Phase::Connect, Fault::Timeout), delivered(Evidence::Sent)).await;
        // Our own wire is cut.
        run_tool("ip", "link set near down");
        both(local(Phase::Connect, LocalFault::NoRoute), local(Phase::Connect, LocalFault::NoRoute)).await;
    });
}
