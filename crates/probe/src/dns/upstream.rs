//! Where answers come from: the hosts file and name servers, as they are configured now.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{Clock as _, Fault, Micros, Phase};
use hickory_resolver::{
    Hosts, Resolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, Record, RecordType},
    },
    system_conf::parse_resolv_conf,
};

use super::{DnsError, NOT_FOUND};
use crate::{
    clock::SystemClock,
    fault::{Failure, dns_failure},
    network::Family,
};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// One query waits so long; with [`ATTEMPTS`] more, a lookup that nobody answers ends within the deadline.
const QUERY_TIMEOUT: Duration = Duration::from_millis(300);
const ATTEMPTS: usize = 2;

/// No lookup takes longer, whatever is asked again: who asked first has a second, of which 50 ms may be gone, and is to
/// hear why it failed.
pub(crate) const LOOKUP_MAX: Duration = Duration::from_millis(940);

/// From look to look whether the files have changed.
const CHECK_EVERY_US: u64 = 2_000_000;

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);

/// The hosts file and the name servers, which are read again when their files have changed.
pub(crate) struct Upstream {
    /// Whether the name servers are those of `/etc/resolv.conf`.
    follows_system: bool,
    now: RwLock<Arc<Configured>>,
    stamps: Mutex<Stamps>,
    next_check: AtomicU64,
}

struct Configured {
    hosts: Hosts,
    resolver: Resolver<TokioRuntimeProvider>,
}

/// How a lookup ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) result: Result<Vec<IpAddr>, Failure>,
    pub(crate) heard: Heard,
}

/// What a lookup shows of the name servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// One answered, if only that it failed.
    Answer,
    /// They were asked, and none answered.
    Silence,
    /// None was asked.
    Nobody,
}

/// What tells one version of a file from the next; `None` where it is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamps {
    hosts: Stamp,
    resolv_conf: Stamp,
}

impl Upstream {
    /// The name servers of the system.
    pub(crate) fn of_system() -> Result<Self, DnsError> {
        // Before they are read: what is written meanwhile is noticed later.
        let stamps = Stamps::take();
        Self::new(true, system_config()?, stamps)
    }

    /// These name servers.
    pub(crate) fn of(config: ResolverConfig) -> Result<Self, DnsError> {
        let stamps = Stamps::take();
        Self::new(false, config, stamps)
    }

    fn new(follows_system: bool, config: ResolverConfig, stamps: Stamps) -> Result<Self, DnsError> {
        let configured =
            Configured { hosts: Hosts::from_system().unwrap_or_default(), resolver: resolver(config)? };
        Ok(Self {
            follows_system,
            now: RwLock::new(Arc::new(configured)),
            stamps: Mutex::new(stamps),
            next_check: AtomicU64::new(SystemClock.monotonic().plus(CHECK_EVERY_US).0),
        })
    }

    /// Whether it is time to look for changes of the files; says so once.
    pub(crate) fn is_check_due(&self, now: Micros) -> bool {
        let due = self.next_check.load(Ordering::Relaxed);
        let next = now.plus(CHECK_EVERY_US).0;
        now.0 >= due
            && self.next_check.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// See [`Self::reread`], as often as it is time for it.
    pub(crate) fn reread_if_due(&self) {
        if self.is_check_due(SystemClock.monotonic()) {
            self.reread();
        }
    }

    /// Reads the files again if they have changed. What cannot be used changes nothing, and is said once.
    pub(crate) fn reread(&self) {
        let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = Stamps::take();
        if stamps == *known {
            return;
        }
        let before = std::mem::replace(&mut *known, stamps);
        let current = self.current();
        let resolver = if self.follows_system && stamps.resolv_conf != before.resolv_conf {
            match system_config().and_then(resolver) {
                Ok(resolver) => resolver,
                Err(error) => {
                    tracing::warn!(
                        "{RESOLV_CONF} has changed and cannot be used: {error}; the name servers before it are asked"
                    );
                    current.resolver.clone()
                }
            }
        } else {
            current.resolver.clone()
        };
        let hosts = Hosts::from_system().unwrap_or_default();
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Configured { hosts, resolver });
        tracing::info!("{RESOLV_CONF} or {HOSTS} has changed and was read again.");
    }

    /// The addresses that the hosts file has for `name`.
    pub(crate) fn on_file(&self, name: &str, family: Family) -> Option<Vec<IpAddr>> {
        let name = absolute(name)?;
        let current = self.current();
        let of = |kind| {
            let found = current.hosts.lookup_static_host(&Query::query(name.clone(), kind))?;
            Some(addresses(found.answers())).filter(|found| !found.is_empty())
        };
        match family {
            Family::Ipv4 => of(RecordType::A),
            Family::Ipv6 => of(RecordType::AAAA),
            Family::Any => of(RecordType::A).or_else(|| of(RecordType::AAAA)),
        }
    }

    /// Asks the name servers.
    pub(crate) async fn look_up(&self, name: &str, family: Family) -> Ended {
        // A name that DNS cannot carry does not exist there.
        let Some(name) = absolute(name) else {
            return Ended { result: Err(NOT_FOUND), heard: Heard::Nobody };
        };
        let resolver = &self.current().resolver;
        let started = SystemClock.monotonic();
        match family {
            Family::Ipv4 => ask(resolver, name, RecordType::A, LOOKUP_MAX).await,
            Family::Ipv6 => ask(resolver, name, RecordType::AAAA, LOOKUP_MAX).await,
            // Not hickory's own "then", which goes on after a failure too: that there is no IPv6 address either would
            // then stand for a name server that failed.
            Family::Any => match ask(resolver, name.clone(), RecordType::A, LOOKUP_MAX).await {
                Ended { result: Err(NOT_FOUND), heard } => {
                    let spent = Duration::from_micros(SystemClock.monotonic().since(started));
                    let left = LOOKUP_MAX.saturating_sub(spent);
                    // The name servers have answered, whatever becomes of this.
                    Ended { heard, ..ask(resolver, name, RecordType::AAAA, left).await }
                }
                ended => ended,
            },
        }
    }

    /// The records of one kind that the name servers have.
    pub(crate) async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, Failure> {
        let name = absolute(name).ok_or(NOT_FOUND)?;
        let asked = tokio::time::timeout(LOOKUP_MAX, self.current().resolver.lookup(name, kind)).await;
        match asked {
            Err(_) => Err(Failure::service(Phase::Dns, Fault::Timeout)),
            Ok(Ok(found)) => {
                Ok(found.answers().iter().filter(|it| it.record_type() == kind).cloned().collect())
            }
            Ok(Err(error)) => failed(error).result.map(|_| Vec::new()),
        }
    }

    fn current(&self) -> Arc<Configured> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Stamps {
    fn take() -> Self {
        let of = |path| {
            let file = fs::metadata(path).ok()?;
            // A file that replaces another may be as old and as long.
            Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
        };
        Self { hosts: of(HOSTS), resolv_conf: of(RESOLV_CONF) }
    }
}

/// The name as one that is whole: search domains would make it depend on the host.
fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

pub(super) fn addresses(records: &[Record]) -> Vec<IpAddr> {
    records.iter().filter_map(|record| record.data.ip_addr()).collect()
}

async fn ask(
    resolver: &Resolver<TokioRuntimeProvider>,
    name: Name,
    kind: RecordType,
    at_most: Duration,
) -> Ended {
    // RFC 6761: hickory knows where these are.
    let is_localhost = name.is_localhost();
    let ended = match tokio::time::timeout(at_most, resolver.lookup(name, kind)).await {
        Err(_) => {
            let timeout = Failure::service(Phase::Dns, Fault::Timeout);
            Ended { result: Err(timeout), heard: Heard::Silence }
        }
        Ok(Ok(found)) => {
            let found = addresses(found.answers());
            Ended { result: if found.is_empty() { Err(NOT_FOUND) } else { Ok(found) }, heard: Heard::Answer }
        }
        Ok(Err(error)) => failed(error),
    };
    if is_localhost { Ended { heard: Heard::Nobody, ..ended } } else { ended }
}

fn failed(error: NetError) -> Ended {
    let heard = match error {
        NetError::Timeout | NetError::NoConnections | NetError::Busy | NetError::Io(_) => Heard::Silence,
        // Everything else was read in an answer.
        _ => Heard::Answer,
    };
    let failure = match error {
        // hickory keeps to itself why. Whether it is for want of files or ports, a socket of our own shows.
        NetError::NoConnections => dns_failure(&UdpSocket::bind(ANY).err().map_or(error, NetError::from)),
        error => dns_failure(&error),
    };
    let heard = if failure.is_local() { Heard::Nobody } else { heard };
    Ended { result: Err(failure), heard }
}

fn system_config() -> Result<ResolverConfig, NetError> {
    let text = match fs::read(Path::new(RESOLV_CONF)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let names_one = String::from_utf8_lossy(&text).lines().any(|line| line.trim().starts_with("nameserver"));
    if names_one {
        Ok(parse_resolv_conf(text)?.0)
    } else {
        let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        Ok(ResolverConfig::from_parts(None, Vec::new(), vec![local]))
    }
}

/// Name servers at `servers`.
pub(crate) fn config_of(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.to_vec())
    });
    ResolverConfig::from_parts(None, Vec::new(), servers.collect())
}

fn resolver(config: ResolverConfig) -> Result<Resolver<TokioRuntimeProvider>, NetError> {
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.cache_size = 0;
    options.timeout = QUERY_TIMEOUT;
    options.attempts = ATTEMPTS;
    options.ndots = 0;
    // It is read here, so that a change is noticed.
    options.use_hosts_file = ResolveHosts::Never;
    // hickory would take any port from 1024 on, for a moment also the one on which a restarting daemon of this host
    // wants to listen, and the host's reserved ones. What it gains against forged answers, one bit, is worth less here,
    // where no answer is kept; and that the host is out of ports shows only so.
    options.os_port_selection = true;
    builder.build()
}
