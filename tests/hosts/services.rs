//! What is probed: a service for each fault, so that many can be had at once and none is mistaken for another.

use std::{fmt::Write as _, net::Ipv4Addr, path::Path};

/// Datapoints by the line, over TCP and UDP, are taken at all of these ports of a node, and over TLS at these.
pub(super) const LINES: (u16, u16) = (3_000, 4_999);
pub(super) const TLS: (u16, u16) = (5_000, 6_999);
/// graphite-web, where a node has one.
pub(super) const WEB: u16 = 80;

/// So many ports each service has of each kind.
const PORTS: u16 = 60;

/// At so many of them a service is probed by those who probe only a little.
const LITTLE: u16 = 2;

/// Who probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    External,
    Datacentre,
    Loopback,
}

impl Kind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Datacentre => "datacentre",
            Self::Loopback => "loopback",
        }
    }
}

/// An agent, as its services are made for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) host: &'a str,
    pub(super) kind: Kind,
    /// The place of the node that it is on.
    pub(super) node: Option<usize>,
}

/// What customers could send to, of one service.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) protocol: &'static str,
    /// The place of a node; `None` for all of them, under a name.
    pub(super) node: Option<usize>,
    /// So many ports there, each an endpoint.
    pub(super) ports: u16,
}

/// One service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    /// Its place among all of them.
    pub(super) place: u16,
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether what the first node stored is read back.
    pub(super) is_read_back: bool,
    /// Whether the nodes probe themselves.
    pub(super) on_nodes: bool,
    pub(super) acceptable_loss: &'static str,
    /// The host that probes all of it, where others probe only a little.
    pub(super) mostly_from: Option<&'static str>,
}

impl Service {
    pub(super) fn new(
        name: &'static str,
        place: u16,
        endpoints: &[(&'static str, Option<usize>, u16)],
    ) -> Self {
        let endpoints = endpoints.iter();
        Self {
            name,
            place,
            endpoints: endpoints.map(|&(protocol, node, ports)| Endpoint { protocol, node, ports }).collect(),
            is_read_back: false,
            on_nodes: false,
            acceptable_loss: "0.5%",
            mostly_from: None,
        }
    }

    pub(super) fn accepts(self, acceptable_loss: &'static str) -> Self {
        Self { acceptable_loss, ..self }
    }

    pub(super) fn read_back(self) -> Self {
        Self { is_read_back: true, ..self }
    }

    pub(super) fn on_nodes(self) -> Self {
        Self { on_nodes: true, ..self }
    }

    pub(super) fn mostly_from(self, host: &'static str) -> Self {
        Self { mostly_from: Some(host), ..self }
    }

    /// Its first and last port of those for `protocol`.
    pub(super) fn ports(&self, protocol: &str) -> (u16, u16) {
        let (first, last) = if protocol == "tls" { TLS } else { LINES };
        let first = first + self.place * PORTS;
        assert!(first + PORTS - 1 <= last, "{} has no ports left", self.name);
        (first, first + PORTS - 1)
    }

    /// Its URLs as `who` probes them.
    fn urls(&self, nodes: &[Ipv4Addr], who: Option<Who<'_>>) -> String {
        let mut text = String::new();
        let is_little = who.is_some_and(|who| self.mostly_from.is_some_and(|most| most != who.host));
        for Endpoint { protocol, node, ports } in &self.endpoints {
            let (first, _) = self.ports(protocol);
            let is_for_nodes = self.on_nodes && node.is_some();
            if who.is_some_and(|who| who.kind == Kind::Loopback && (!is_for_nodes || *node != who.node)) {
                continue;
            }
            let kinds = if is_for_nodes { "" } else { ", kinds = [\"external\", \"datacentre\"]" };
            for port in first..first + if is_little { LITTLE.min(*ports) } else { *ports } {
                let (host, named) = match node {
                    Some(place) => (nodes[*place].to_string(), format!(", node = \"n{}\"", place + 1)),
                    None => (format!("{}.test", self.name), String::new()),
                };
                _ = writeln!(text, "  {{ url = \"{protocol}://{host}:{port}\"{named}{kinds} }},");
            }
        }
        text
    }
}

/// The services as `who` probes them, or a collector has them where that is nobody; `judged` are keys of how each is judged.
pub(super) fn configuration(
    services: &[Service],
    nodes: &[Ipv4Addr],
    who: Option<Who<'_>>,
    judged: &str,
    ca: &Path,
) -> String {
    let mut text = String::new();
    for service in services {
        let urls = service.urls(nodes, who);
        if urls.is_empty() {
            continue;
        }
        _ = writeln!(
            text,
            "[[service]]\nname = \"{}\"\nendpoints = [\n{urls}]\naddresses = \"all\"\n\
             acceptable_loss = \"{}\"\nstart_up_grace = \"5s\"\n{judged}\nca = {{ file = \"{}\" }}",
            service.name,
            service.acceptable_loss,
            ca.display()
        );
        if service.is_read_back {
            _ = writeln!(text, "[service.readback]\ngraphite = \"http://{}:{WEB}\"", nodes[0]);
        }
    }
    text
}
