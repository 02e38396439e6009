//! The series that are probed, the same for the agent and its rival.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::Context as _;
use aviary_core::{Endpoint, Protocol, Series, Vantage, VantageKind};
use serde::{Deserialize, Serialize};

/// The server is reached under so many loopback addresses, because the ports of one do not last: each connection
/// keeps one for a minute after its end.
pub(crate) const ADDRESSES: u8 = 16;

/// The `index`th address of the server.
pub(crate) const fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 1 + (index % ADDRESSES as usize) as u8)
}

/// The service that all series belong to.
pub(crate) const SERVICE: &str = "figures";

/// Series that share the server's addresses evenly, and the protocols as well.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fleet {
    /// How many.
    pub(crate) series: usize,
    /// The names of their protocols.
    pub(crate) protocols: Vec<String>,
    /// The server's port for each protocol, by name.
    pub(crate) ports: BTreeMap<String, u16>,
    /// The authority that the server's certificate is signed by, as PEM; empty where nobody shows one.
    pub(crate) ca: String,
    /// Each series is told the collector with an address of its own, which nothing is sent to: it would take those that
    /// share an endpoint for one.
    pub(crate) told_apart: bool,
}

impl Fleet {
    /// Each series' Graphite name, which also decides when it is due, and its endpoint.
    pub(crate) fn series(&self) -> anyhow::Result<Vec<(String, Endpoint)>> {
        (0..self.series)
            .map(|index| {
                let protocol = &self.protocols[index % self.protocols.len()];
                let port = self.ports.get(protocol).context("the server has no such listener")?;
                let path = if *protocol == Protocol::Https.name() { "/api/v1/sink" } else { "" };
                let address = address(index / self.protocols.len());
                let endpoint: Endpoint = format!("{protocol}://{address}:{port}{path}").parse()?;
                let vantage = vantage(&format!("node-{index}"));
                let series = Series { service: SERVICE.to_owned(), vantage, endpoint, address: None };
                Ok((series.graphite_name("canary"), series.endpoint))
            })
            .collect()
    }
}

/// An address that only tells the `index`th series from others: of the range that is set aside for benchmarks.
pub(crate) const fn label(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() | index as u32)
}

/// Where `node` probes from.
pub(crate) fn vantage(node: &str) -> Vantage {
    Vantage {
        kind: VantageKind::External,
        region: "eu-west-1".to_owned(),
        zone: Some("eu-west-1a".to_owned()),
        network: Some("aws".to_owned()),
        node: node.to_owned(),
    }
}
