//! A whole ingestion service, as a customer sees one: six endpoints before one real Graphite.

use std::{net::SocketAddr, path::PathBuf, thread};

use aviary_core::Protocol;

use super::{
    gateway::Gateway,
    graphite::{Graphite, Setup},
    haproxy::{Haproxy, TlsVersions},
    pki::Pki,
};

/// Graphite with haproxy and the HTTPS gateway in front of it; the fields are dropped, and so stopped, front first.
pub(crate) struct Service {
    /// The HTTPS gateway.
    pub(crate) gateway: Gateway,
    /// TLS before carbon's line and pickle ports.
    pub(crate) haproxy: Haproxy,
    /// carbon and graphite-web.
    pub(crate) graphite: Graphite,
    /// The certificates; the fronts show the good one.
    pub(crate) pki: Pki,
}

impl Service {
    /// Starts everything, which takes a second or two.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_as(Setup::default())
    }

    /// Starts everything before a Graphite that is set up otherwise.
    #[track_caller]
    pub(crate) fn start_as(setup: Setup) -> Self {
        let pki = Pki::new();
        let graphite = Graphite::start_as(setup);
        let (line, pickle, certificate) = (graphite.line(), graphite.pickle(), pki.good());
        let (haproxy, gateway) = thread::scope(|scope| {
            let gateway = scope.spawn(|| Gateway::start(&certificate, line));
            let haproxy = Haproxy::start(&certificate, TlsVersions::Both, line, pickle);
            (haproxy, gateway.join().expect("what went wrong is printed above"))
        });
        Self { gateway, haproxy, graphite, pki }
    }

    /// Where a protocol is spoken.
    pub(crate) fn address(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Https => self.gateway.address(),
            Protocol::Pickle => self.graphite.pickle(),
            Protocol::PickleTls => self.haproxy.pickle(),
            Protocol::Tcp | Protocol::Udp => self.graphite.line(),
            Protocol::Tls => self.haproxy.line(),
        }
    }

    /// The endpoint of a protocol as a URL.
    pub(crate) fn endpoint(&self, protocol: Protocol) -> String {
        let path = if protocol == Protocol::Https { "/api/v1/sink" } else { "" };
        format!("{protocol}://{}{path}", self.address(protocol))
    }

    /// The authority that signed the certificates of the fronts.
    pub(crate) fn ca(&self) -> PathBuf {
        self.pki.ca()
    }
}
