//! Names: the hosts file, then DNS, afresh for each attempt.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use aviary_core::{Fault, Phase};
use hickory_resolver::{
    Resolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
};

use crate::{
    fault::{Failure, dns_failure},
    network::Family,
};

/// One query waits so long; with [`ATTEMPTS`] more, a lookup that nobody answers ends within the deadline.
const QUERY_TIMEOUT: Duration = Duration::from_millis(300);
const ATTEMPTS: usize = 2;

/// A resolver that keeps nothing: each lookup asks again.
pub struct Dns {
    ipv4: Resolver<TokioRuntimeProvider>,
    ipv6: Resolver<TokioRuntimeProvider>,
}

/// The host's resolver configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up name lookups from /etc/resolv.conf and /etc/hosts: {0}")]
pub struct DnsError(#[from] NetError);

impl Dns {
    /// Asks the name servers of `/etc/resolv.conf`.
    pub fn from_system() -> Result<Self, DnsError> {
        let (config, _) = hickory_resolver::system_conf::read_system_conf()?;
        Self::with(config)
    }

    /// Asks the name servers of `config`.
    pub fn with(config: ResolverConfig) -> Result<Self, DnsError> {
        let build = |strategy| {
            let mut builder = Resolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
            *builder.options_mut() = options(strategy);
            builder.build()
        };
        Ok(Self { ipv4: build(LookupIpStrategy::Ipv4Only)?, ipv6: build(LookupIpStrategy::Ipv6Only)? })
    }

    pub(crate) async fn resolve(&self, name: &str, family: Family) -> Result<Vec<IpAddr>, Failure> {
        // RFC 6761: names below .invalid do not exist, and nobody needs to be asked.
        if name.trim_end_matches('.').rsplit('.').next() == Some("invalid") {
            return Err(NOT_FOUND);
        }
        // The dot at the end says that the name is whole: search domains would make it depend on the host.
        let absolute = if name.ends_with('.') { name.to_owned() } else { format!("{name}.") };
        match family {
            Family::Ipv4 => lookup(&self.ipv4, absolute).await,
            Family::Ipv6 => lookup(&self.ipv6, absolute).await,
            // Not hickory's own "then", which goes on after a failure too: that there is no IPv6 address either would
            // then stand for a name server that failed.
            Family::Any => match lookup(&self.ipv4, absolute.clone()).await {
                Err(NOT_FOUND) => lookup(&self.ipv6, absolute).await,
                ended => ended,
            },
        }
    }
}

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);

const NOT_FOUND: Failure = Failure::service(Phase::Dns, Fault::NameNotFound);

async fn lookup(resolver: &Resolver<TokioRuntimeProvider>, name: String) -> Result<Vec<IpAddr>, Failure> {
    let found = resolver.lookup_ip(name).await.map_err(|error| match error {
        // hickory keeps to itself why. Whether it is for want of files or ports, a socket of our own shows.
        NetError::NoConnections => dns_failure(&UdpSocket::bind(ANY).err().map_or(error, NetError::from)),
        error => dns_failure(&error),
    })?;
    let addresses: Vec<_> = found.iter().collect();
    if addresses.is_empty() { Err(NOT_FOUND) } else { Ok(addresses) }
}

fn options(strategy: LookupIpStrategy) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.cache_size = 0;
    options.timeout = QUERY_TIMEOUT;
    options.attempts = ATTEMPTS;
    options.ndots = 0;
    options.use_hosts_file = ResolveHosts::Always;
    options.ip_strategy = strategy;
    options
}
