//! The host's network, with an attempt sent to an address of the caller's choice: its name stays in the handshake and
//! in the `Host` header.

use std::net::{IpAddr, SocketAddr};

use aviary_probe::{Failure, Family, Host, Network};

/// Where an attempt goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the addresses that a lookup gives.
    Lookup,
    /// To this one of them: the lookup is made, and its failure is the attempt's.
    Only(IpAddr),
    /// To one of these, without a lookup.
    Instead(Vec<IpAddr>),
}

/// The host's network, on a given way.
#[derive(Clone)]
pub(super) struct Directed {
    pub(super) host: Host,
    pub(super) way: Way,
}

impl Network for Directed {
    type Connection = <Host as Network>::Connection;
    type Datagram = <Host as Network>::Datagram;

    async fn resolve(&self, name: &str, family: Family) -> Result<Vec<IpAddr>, Failure> {
        match &self.way {
            Way::Lookup => self.host.resolve(name, family).await,
            Way::Only(address) => self.host.resolve(name, family).await.map(|_| vec![*address]),
            Way::Instead(addresses) => Ok(addresses.clone()),
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<Self::Connection, Failure> {
        self.host.connect(address).await
    }

    fn datagram(&self, address: SocketAddr) -> Result<Self::Datagram, Failure> {
        self.host.datagram(address)
    }
}
