//! Names: the hosts file, then DNS, afresh for each attempt.

use std::{net::IpAddr, time::Duration};

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
    any: Resolver<TokioRuntimeProvider>,
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
        Ok(Self {
            any: build(LookupIpStrategy::Ipv4thenIpv6)?,
            ipv4: build(LookupIpStrategy::Ipv4Only)?,
            ipv6: build(LookupIpStrategy::Ipv6Only)?,
        })
    }

    pub(crate) async fn resolve(&self, name: &str, family: Family) -> Result<Vec<IpAddr>, Failure> {
        let not_found = Failure::service(Phase::Dns, Fault::NameNotFound);
        // RFC 6761: names below .invalid do not exist, and nobody needs to be asked.
        if name.trim_end_matches('.').rsplit('.').next() == Some("invalid") {
            return Err(not_found);
        }
        let resolver = match family {
            Family::Any => &self.any,
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        };
        // The dot at the end says that the name is whole: search domains would make it depend on the host.
        let absolute = if name.ends_with('.') { name.to_owned() } else { format!("{name}.") };
        let found = resolver.lookup_ip(absolute).await.map_err(|error| dns_failure(&error))?;
        let addresses: Vec<_> = found.iter().collect();
        if addresses.is_empty() { Err(not_found) } else { Ok(addresses) }
    }
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
