//! Names looked up at name servers of the caller's choice.

use std::net::SocketAddr;

use aviary_probe::{Dns, DnsError};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};

/// Lookups that ask `servers` instead of the host's: over UDP, and over TCP what was cut.
pub(crate) fn asking(servers: &[SocketAddr]) -> Result<Dns, DnsError> {
    let server = |server: &SocketAddr| {
        let at_port = |mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port).to_vec();
        NameServerConfig::new(server.ip(), true, connections)
    };
    Dns::with(ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect()))
}
