//! The hosts: who runs on which, and what each of them is told to probe.

use std::{
    net::Ipv4Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::services::{Kind, LINES, Service, TLS, WEB, Who, configuration};
use crate::support::{
    clock::skew,
    graphite::{Carbon, Graphite},
    haproxy::{Haproxy, TlsVersions},
    names::Names,
    network::{Host, Network},
    node::Node,
    pager::Pager,
    pki::Pki,
};

/// The regions that customers send from, a host and an agent in each.
pub(super) const REGIONS: [&str; 3] = ["ap", "eu", "us"];

/// The last parts but one of addresses.
const COLLECTOR: u8 = 1;
const NAMES: u8 = 2;
const FIRST_REGION: u8 = 3;
const DATACENTRE: u8 = 9;
const FIRST_NODE: u8 = 11;

/// Who asks the collector shows this.
const READER: &str = "Bearer token-of-who-reads";

const COLLECTOR_PORT: u16 = 8_610;
const DNS: u16 = 53;

/// How long until all is well; the machine may be busy with much else.
const PATIENCE: Duration = Duration::from_secs(90);

/// What each stands on. Whoever is stopped first stands first; the network goes last.
pub(super) struct Stage {
    /// By their nodes.
    agents: Vec<(String, Node)>,
    collector: Node,
    pub(super) pager: Pager,
    _names: Names,
    _fronts: [Haproxy; 2],
    _graphite: Graphite,
    _carbons: Vec<Carbon>,
    hosts: Vec<(String, Host)>,
    pub(super) network: Network,
    /// Whose clock is ahead, by how many seconds.
    pub(super) skewed: (&'static str, u64),
    /// Whether nothing else is tested beside it.
    pub(super) is_alone: bool,
    _pki: Pki,
}

/// What is to stand on it.
pub(super) struct Plan {
    pub(super) services: Vec<Service>,
    pub(super) nodes: usize,
    /// How all services are judged, as keys.
    pub(super) judged: &'static str,
    /// Whose clock is so many seconds ahead.
    pub(super) skewed: (&'static str, u64),
    /// Whether nothing else is tested beside it.
    pub(super) is_alone: bool,
}

impl Stage {
    /// Builds the network, starts everybody, and waits until all services are well.
    #[track_caller]
    pub(super) fn start(plan: &Plan) -> Self {
        let network = Network::new();
        let nodes: Vec<Host> = (0..plan.nodes)
            .map(|place| network.host(&format!("n{}", place + 1), FIRST_NODE + place as u8))
            .collect();
        let addresses: Vec<Ipv4Addr> = nodes.iter().map(|host| host.address).collect();
        let tls = tls_node(plan);
        let of_collector = network_address(COLLECTOR).to_string();
        let pki = Pki::of(&[&addresses[tls].to_string(), &of_collector]);

        // A node is a host with carbon; the first has graphite-web as well, and one has haproxy.
        let (graphite, carbons) = thread::scope(|scope| {
            let carbons: Vec<_> =
                nodes[1..].iter().map(|host| scope.spawn(|| host.namespace.inside(Carbon::start))).collect();
            let graphite = nodes[0].namespace.inside(Graphite::start);
            (
                graphite,
                carbons.into_iter().map(|carbon| carbon.join().expect("it starts")).collect::<Vec<_>>(),
            )
        });
        let lines: Vec<_> = [graphite.line()]
            .into_iter()
            .chain(carbons.iter().map(Carbon::line))
            .map(|it| it.port())
            .collect();
        let haproxy = nodes[tls].namespace.inside(|| {
            let line = (Ipv4Addr::LOCALHOST, lines[tls]).into();
            Haproxy::start(&pki.good(), TlsVersions::Both, line, line)
        });
        for (place, host) in nodes.iter().enumerate() {
            let (all, secure, line) = (range(LINES), range(TLS), lines[place]);
            let mut doors = vec![("tcp", all.as_str(), line), ("udp", all.as_str(), line)];
            let web = WEB.to_string();
            if place == 0 {
                doors.push(("tcp", &web, graphite.http().port()));
            }
            if place == tls {
                doors.push(("tcp", &secure, haproxy.line().port()));
            }
            host.doors(&doors);
        }

        let host = network.host("names", NAMES);
        let names = host.namespace.inside(|| Names::start(&addresses));
        host.doors(&[("udp", &DNS.to_string(), names.address().port())]);
        let mut hosts = vec![("names".to_owned(), host)];

        let all = |who| configuration(&plan.services, &addresses, who, plan.judged, &pki.ca());
        let on_nodes = (1..=plan.nodes).map(|number| format!("n{number}"));
        let reporting: Vec<_> =
            REGIONS.iter().map(|it| (*it).to_owned()).chain(["dc".to_owned()]).chain(on_nodes).collect();
        let host = network.host("collector", COLLECTOR);
        let (collector, pager, front) = host.namespace.inside(|| {
            let (collector, pager) = collector(&all(None), &reporting);
            let address = collector.address();
            let front = Haproxy::start(&pki.good(), TlsVersions::Both, address, address);
            (collector, pager, front)
        });
        host.doors(&[("tcp", &COLLECTOR_PORT.to_string(), front.line().port())]);
        let url = format!("https://{of_collector}:{COLLECTOR_PORT}");
        let name_server = network_address(NAMES);
        hosts.push(("collector".to_owned(), host));

        for (place, region) in REGIONS.iter().enumerate() {
            hosts.push(((*region).to_owned(), network.host(region, FIRST_REGION + place as u8)));
        }
        hosts.push(("dc".to_owned(), network.host("dc", DATACENTRE)));
        hosts.extend(nodes.into_iter().enumerate().map(|(place, host)| (format!("n{}", place + 1), host)));
        let agents = thread::scope(|scope| {
            let probing = hosts.iter().filter(|(name, _)| name != "names" && name != "collector");
            let starting: Vec<_> = probing
                .map(|(name, host)| {
                    let own = name.strip_prefix('n').map(|number| number.parse::<usize>().expect("a node") - 1);
                    let (kind, region) = match (name.as_str(), own) {
                        (_, Some(_)) => (Kind::Loopback, "home"),
                        ("dc", None) => (Kind::Datacentre, "home"),
                        (region, None) => (Kind::External, region),
                    };
                    let text = format!(
                        "[vantage]\nkind = \"{}\"\nregion = \"{region}\"\nnode = \"{name}\"\nnetwork = \"net-{region}\"\n\
                         [agent]\nlisten = \"@listen@\"\ncollector = [\"{url}\"]\nname_servers = [\"{name_server}\"]\n\
                         ca = {{ file = \"{}\" }}\ntoken = {{ env = \"TOKEN\" }}\n",
                        kind.word(),
                        pki.ca().display()
                    );
                    let services = all(Some(Who { host: name, kind, node: own }));
                    let skewed = Some(plan.skewed.1).filter(|_| plan.skewed.0 == name);
                    scope.spawn(move || {
                        let node = host.namespace.inside(|| agent(name, &(text + "data = \"@data@\"\n" + &services), skewed));
                        (name.clone(), node)
                    })
                })
                .collect();
            starting.into_iter().map(|agent| agent.join().expect("it starts")).collect()
        });
        let stage = Self {
            agents,
            collector,
            pager,
            _names: names,
            _fronts: [haproxy, front],
            _graphite: graphite,
            _carbons: carbons,
            hosts,
            network,
            skewed: plan.skewed,
            is_alone: plan.is_alone,
            _pki: pki,
        };
        stage.wait_until_well(plan.services.len());
        stage
    }

    /// The host of this name.
    #[track_caller]
    pub(super) fn host(&self, name: &str) -> &Host {
        let found = self.hosts.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("there is no host {name}")).1
    }

    /// All hosts.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().map(|(_, host)| host)
    }

    /// What the collector answers at `path`.
    #[track_caller]
    pub(super) fn ask(&self, path: &str) -> Value {
        let (status, body) = self
            .host("collector")
            .namespace
            .inside(|| self.collector.ask_with(path, &[("Authorization", READER)]));
        assert_eq!(status, 200, "{path}: {body:#}");
        body
    }

    /// What the collector and all agents printed.
    pub(super) fn logs(&self) -> String {
        let agents = self.agents.iter().map(|(name, node)| format!("-- {name}\n{}", node.log()));
        format!("-- collector\n{}{}", self.collector.log(), agents.collect::<String>())
    }

    #[track_caller]
    fn wait_until_well(&self, services: usize) {
        let begun = Instant::now();
        loop {
            let answer = self.ask("/api/v1/services");
            let states = answer["services"].as_array().expect("a list of services");
            if states.iter().filter(|service| service["state"] == "healthy").count() == services {
                return;
            }
            let states: Vec<_> = states.iter().map(|it| format!("{} {}", it["name"], it["state"])).collect();
            assert!(begun.elapsed() < PATIENCE, "{states:?}\n{}", self.logs());
            thread::sleep(Duration::from_millis(300));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Nobody waits for their last words.
        for (_, agent) in &mut self.agents {
            agent.process().kill();
        }
        self.collector.process().kill();
    }
}

/// The place of the node before whose carbon TLS is ended: the last.
pub(super) const fn tls_node(plan: &Plan) -> usize {
    plan.nodes - 1
}

fn network_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, number, 2)
}

fn range((first, last): (u16, u16)) -> String {
    format!("{first}-{last}")
}

/// A collector, and beside it whoever is paged. It answers in plain HTTP, and has a proxy before it that ends TLS.
#[track_caller]
fn collector(services: &str, agents: &[String]) -> (Node, Pager) {
    let (pager, hook) = Pager::start();
    let mut collector = Node::new();
    let token = |name: &str, more: &str| {
        format!("[[collector.token]]\nname = \"{name}\"\nsecret = {{ env = \"TOKEN_{name}\" }}\n{more}\n")
    };
    let tokens: String = agents.iter().map(|name| token(name, &format!("node = \"{name}\""))).collect();
    collector.configure(&format!(
        "[collector]\nlisten = \"@listen@\"\n{tokens}{}{services}\n\
         [[receiver]]\nname = \"oncall\"\nkind = \"webhook\"\nallow_private = true\n\
         url = \"http://{hook}/hook\"\nsecret = {{ env = \"SECRET\" }}\n",
        token("reader", "scope = [\"read\"]")
    ));
    collector.run(|command| {
        command.env("SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        command.env("TOKEN_reader", READER.trim_start_matches("Bearer "));
        for name in agents {
            command.env(format!("TOKEN_{name}"), token_of(name));
        }
    });
    (collector, pager)
}

/// What the agent of this name shows the collector, which takes reports of no other node under it.
fn token_of(name: &str) -> String {
    format!("token-of-agent-{name}")
}

/// An agent that keeps what no collector took.
#[track_caller]
fn agent(name: &str, configuration: &str, skewed: Option<u64>) -> Node {
    let mut agent = Node::new();
    let data = agent.file("spool").display().to_string();
    agent.configure(&configuration.replace("@data@", &data));
    agent.run(|command: &mut Command| {
        command.env("TOKEN", token_of(name));
        if let Some(seconds) = skewed {
            skew(command, seconds);
        }
    });
    agent
}
