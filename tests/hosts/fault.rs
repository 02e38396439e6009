//! What is injected: rules of the router between some of the hosts, which count what they did.

use std::{path::PathBuf, time::Duration};

use tempfile::TempDir;

use super::{services::Service, stage::Stage};
use crate::support::process::{Process, program};

/// A way through the network, from some hosts: to a service or to another host.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// Hosts, which are regions, or `dc` for the data centre.
    pub(super) from: &'static [&'static str],
    pub(super) to: To,
}

/// Where a way leads.
#[derive(Clone, Debug)]
pub(super) enum To {
    /// To a service on some nodes, by their places, over some protocols.
    Service { name: &'static str, nodes: Vec<usize>, protocols: &'static [&'static str] },
    /// To the collector.
    Collector,
    /// To the name server, with what is asked about one service's name.
    Name(&'static str),
    /// To the name server, with any question.
    Names,
}

/// What the router knows the packets of a way by.
struct Matches {
    to: String,
    back: String,
    /// Addresses there.
    addresses: Vec<String>,
}

/// What is done to the packets of a way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Deed {
    /// Datagrams are lost, so many of a thousand.
    LoseDatagrams(u32),
    /// All packets of so many of a thousand connections are lost.
    LoseConnections(u32),
    /// Everything to the nodes is lost.
    Cut,
    /// Everything from the nodes is lost.
    CutBack,
    /// Packets take so many seconds longer.
    Delay(f64),
    /// Each second packet takes so many seconds longer, and so the next ones overtake it.
    Reorder(f64),
    /// Packets come twice.
    Duplicate,
    /// Packets of more bytes than this are lost either way, and nobody tells who sent them.
    BlackHole(u32),
}

/// A deed that is being done, until this is dropped.
pub(super) struct Injected<'a> {
    stage: &'a Stage,
    table: String,
    /// For how long packets are on their way yet.
    held: Duration,
    _detour: Option<(Process, TempDir)>,
}

/// How many packets a fault has met: datagrams, the first packets of connections, or all there are, by the deed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// That could have been hit.
    pub(super) seen: u64,
    pub(super) hit: u64,
}

impl Stage {
    /// Begins to do `deed` on `way`. `number` is another one for each fault of a stage.
    #[track_caller]
    pub(super) fn inject(&self, services: &[Service], way: &Way, deed: Deed, number: usize) -> Injected<'_> {
        let table = format!("fault_{number}");
        let mut rules = String::new();
        let mut chain = "type filter hook forward priority 0";
        let mut sets = "";
        for Matches { to, back, addresses } in self.matches(services, way) {
            const ALL: &str = "counter name seen counter name hit";
            match deed {
                Deed::LoseDatagrams(share) => {
                    rules += &format!(
                        "{to} counter name seen\n{to} numgen random mod 1000 < {share} counter name hit drop\n"
                    );
                }
                Deed::LoseConnections(share) => {
                    sets = "set lost {\ntype ipv4_addr . inet_service . ipv4_addr . inet_service\n\
                            flags dynamic,timeout\ntimeout 10s\n}\n";
                    let connection = "ip saddr . tcp sport . ip daddr . tcp dport";
                    let first = "tcp flags & (syn | ack) == syn";
                    // A connection meets its fate once: who is lost and asks again is lost again, and not counted.
                    rules += &format!(
                        "{to} {connection} @lost drop\n{to} {first} counter name seen\n\
                         {to} {first} numgen random mod 1000 < {share} add @lost {{ {connection} }} \
                         counter name hit drop\n"
                    );
                }
                Deed::Cut => rules += &format!("{to} {ALL} drop\n"),
                Deed::CutBack => rules += &format!("{back} {ALL} drop\n"),
                Deed::Delay(_) | Deed::Reorder(_) => {
                    chain = "type filter hook prerouting priority -150";
                    let which = if matches!(deed, Deed::Delay(_)) { "" } else { "numgen inc mod 2 == 0" };
                    rules += &format!(
                        "{to} counter name seen\n{to} {which} counter name hit meta mark set {}\n",
                        mark(number)
                    );
                }
                Deed::Duplicate => {
                    for address in &addresses {
                        let node = self.link_to(address);
                        rules += &format!("{to} ip daddr {address} {ALL} dup to {address} device {node}\n");
                    }
                }
                Deed::BlackHole(bytes) => {
                    for either in [to, back] {
                        rules += &format!(
                            "{either} counter name seen\n{either} ip length > {bytes} counter name hit drop\n"
                        );
                    }
                }
            }
        }
        let (detour, held) = match deed {
            Deed::Delay(seconds) | Deed::Reorder(seconds) => {
                (Some(self.detour(number, seconds)), Duration::from_secs_f64(seconds + 0.2))
            }
            _ => (None, Duration::ZERO),
        };
        self.network.router.nft(&format!(
            "table ip {table} {{\ncounter seen {{\n}}\ncounter hit {{\n}}\n{sets}chain packets {{\n{chain};\n{rules}}}\n}}\n"
        ));
        Injected { stage: self, table, held, _detour: detour }
    }

    #[track_caller]
    fn matches(&self, services: &[Service], way: &Way) -> Vec<Matches> {
        let links: Vec<String> =
            way.from.iter().map(|name| format!("\"{}\"", self.host(name).link)).collect();
        let links = format!("{{ {} }}", links.join(", "));
        let of = |addresses: Vec<String>, to: &str, back: &str| Matches {
            to: format!("iifname {links} ip daddr {{ {} }} {to}", addresses.join(", ")),
            back: format!("oifname {links} ip saddr {{ {} }} {back}", addresses.join(", ")),
            addresses,
        };
        let address = |host: &str| self.host(host).address.to_string();
        match &way.to {
            To::Collector => vec![of(vec![address("collector")], "", "")],
            To::Names => vec![of(vec![address("names")], "udp dport 53", "udp sport 53")],
            To::Name(service) => {
                // The first label of the name that is asked for, behind the heads of UDP and DNS (RFC 1035, 4.1).
                let length = service.len();
                let bytes: String = service.bytes().map(|byte| format!("{byte:02x}")).collect();
                let asked = format!("udp dport 53 @th,160,8 {length} @th,168,{} 0x{bytes}", length * 8);
                vec![of(vec![address("names")], &asked, "udp sport 53")]
            }
            To::Service { name, nodes, protocols } => {
                let service = services.iter().find(|service| service.name == *name);
                let service = service.unwrap_or_else(|| panic!("there is no service {name}"));
                let ways = protocols.iter().map(|protocol| {
                    let (first, last) = service.ports(protocol);
                    let transport = if *protocol == "udp" { "udp" } else { "tcp" };
                    let nodes = nodes.iter().map(|place| address(&format!("n{}", place + 1))).collect();
                    let (to, back) = (
                        format!("{transport} dport {first}-{last}"),
                        format!("{transport} sport {first}-{last}"),
                    );
                    of(nodes, &to, &back)
                });
                ways.collect()
            }
        }
    }

    /// A way through the router on which packets with the mark of `number` are held for so long.
    #[track_caller]
    fn detour(&self, number: usize, seconds: f64) -> (Process, TempDir) {
        let (device, mark) = (format!("detour-{number}"), mark(number));
        self.network.router.batch(&format!(
            "tuntap add {device} mode tun\nlink set {device} up\n\
             route add default dev {device} table {mark}\nrule add fwmark {mark} lookup {mark}"
        ));
        let dir = tempfile::Builder::new().prefix("aviary-detour-").tempdir().expect("a temporary directory");
        let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/detour.py"));
        let process = self.network.router.inside(|| {
            let mut command = program("python3");
            command.arg(&script).arg(&device).arg(seconds.to_string());
            Process::start("detour", command, dir.path())
        });
        self.network.router.wait_until_up(&device);
        (process, dir)
    }

    fn link_to(&self, address: &str) -> &str {
        let found = self.hosts().find(|host| host.address.to_string() == address);
        &found.expect("it is a node's").link
    }
}

impl Injected<'_> {
    /// What it has met so far.
    #[track_caller]
    pub(super) fn counted(&self) -> Counted {
        let counted = |counter| self.stage.network.router.counted(&self.table, counter);
        // In this order, so that no share is above 1.
        let hit = counted("hit");
        Counted { seen: counted("seen"), hit }
    }

    /// Ends it, and says what it has met in all.
    #[track_caller]
    pub(super) fn end(self) -> Counted {
        self.stage.network.router.nft(&format!("flush chain ip {} packets\n", self.table));
        // What is on a detour is to arrive.
        std::thread::sleep(self.held);
        self.counted()
    }
}

impl Drop for Injected<'_> {
    fn drop(&mut self) {
        // With the network gone so are its rules.
        if !std::thread::panicking() {
            self.stage.network.router.nft(&format!("delete table ip {}\n", self.table));
        }
    }
}

/// What packets of a detour are marked with, and the number of its routing table.
const fn mark(number: usize) -> usize {
    100 + number
}
