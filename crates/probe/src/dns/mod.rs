//! Names: the hosts file, then DNS, afresh for each attempt or once a second for all of them.

mod asked;
mod records;
mod shared;
mod sightings;
mod upstream;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aviary_core::{Fault, Phase, Second};
use hickory_resolver::{config::ResolverConfig, net::NetError};
use tokio::runtime::Handle;

pub(crate) use self::upstream::LOOKUP_MAX;
pub use self::{
    records::{HostAndPort, Records, RecordsError},
    sightings::AddressChange,
};
use self::{
    shared::Shared,
    sightings::Sightings,
    upstream::{Ended, Upstream},
};
use crate::{
    fault::Failure,
    network::{Family, Question},
};

/// Looks names up, and keeps no answer for longer than the second in which it was asked for.
///
/// Its clones are one: they share lookups, and what was seen of names.
#[derive(Clone)]
pub struct Dns {
    names: Arc<Names>,
    overrides: Vec<Override>,
    shared: Option<Arc<Shared>>,
}

/// The host's resolver configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up name lookups from /etc/resolv.conf and /etc/hosts: {0}")]
pub struct DnsError(#[from] NetError);

/// Where a name at a port is, whatever its name server says.
#[derive(Clone)]
struct Override {
    name: String,
    port: u16,
    addresses: Vec<IpAddr>,
}

const NOT_FOUND: Failure = Failure::service(Phase::Dns, Fault::NameNotFound);

impl Dns {
    /// Asks the name servers of `/etc/resolv.conf`, and follows that file as it changes. Where it names none, the one
    /// of this host is asked, as resolv.conf(5) has it.
    pub fn from_system() -> Result<Self, DnsError> {
        Ok(Self::asking(Upstream::of_system()?))
    }

    /// Asks the name servers of `config`.
    pub fn with(config: ResolverConfig) -> Result<Self, DnsError> {
        Ok(Self::asking(Upstream::of(config)?))
    }

    /// Asks the name servers at these addresses: over UDP, and over TCP where an answer is too long for that.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, DnsError> {
        Self::with(upstream::config_of(servers))
    }

    fn asking(upstream: Upstream) -> Self {
        let names = Names { upstream, sightings: Mutex::default() };
        Self { names: Arc::new(names), overrides: Vec::new(), shared: None }
    }

    /// Shares one lookup per name, family and second among all who ask, and makes it on `runtime`, which must outlive
    /// them: a lookup goes on when the runtime that first asked for it ends.
    ///
    /// Only then can a silent name server be told from an agent that reaches none.
    #[must_use]
    pub fn shared_on(mut self, runtime: Handle) -> Self {
        self.shared = Some(Arc::new(Shared::new(runtime)));
        self
    }

    /// Takes `name` at `port` to be at `address`, and asks nobody. Told more than once, it is at each of them.
    #[must_use]
    pub fn overriding(mut self, name: &str, port: u16, address: IpAddr) -> Self {
        let name = whole(name).to_ascii_lowercase();
        match self.overrides.iter_mut().find(|known| known.port == port && known.name == name) {
            Some(known) => known.addresses.push(address),
            None => self.overrides.push(Override { name, port, addresses: vec![address] }),
        }
        self
    }

    /// What of the addresses of names has changed since this was asked last. The newest thousand or so are kept.
    pub fn take_changes(&self) -> Vec<AddressChange> {
        self.names.sightings().take_changes()
    }

    /// How many changes were dropped since the start, for nobody took them in time.
    pub fn dropped_changes(&self) -> u64 {
        self.names.sightings().dropped()
    }

    /// The addresses of `family` at which `name` has been seen of late, sorted; `None` if it was never found.
    pub fn addresses(&self, name: &str, family: Family) -> Option<Vec<IpAddr>> {
        self.names.sightings().addresses(whole(name), family)
    }

    pub(crate) fn overridden(&self, name: &str, port: u16) -> &[IpAddr] {
        let known = self.overrides.iter().find(|known| known.port == port && known.name == whole(name));
        known.map_or(&[], |known| &known.addresses)
    }

    pub(crate) async fn resolve(&self, question: Question<'_>) -> Result<Vec<IpAddr>, Failure> {
        let question = Question { name: whole(question.name), ..question };
        // RFC 6761: names below .invalid do not exist, and nobody needs to be asked.
        if question.name.rsplit('.').next() == Some("invalid") {
            return Err(NOT_FOUND);
        }
        if let Some(shared) = &self.shared {
            return shared.resolve(&self.names, question).await;
        }
        self.names.upstream.reread_if_due();
        match self.names.on_file(question) {
            Some(found) => Ok(found),
            None => self.names.look_up(question).await.result,
        }
    }
}

/// The name without the dot that says that it is whole, which all of ours are.
fn whole(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Where names are asked for, and where they were seen to be.
struct Names {
    upstream: Upstream,
    sightings: Mutex<Sightings>,
}

impl Names {
    /// What the hosts file has; nobody is asked.
    fn on_file(&self, question: Question<'_>) -> Option<Vec<IpAddr>> {
        let found = self.upstream.on_file(question.name, question.family)?;
        self.saw(question.name, question.family, &found, question.second);
        Some(found)
    }

    /// What the name servers have.
    async fn look_up(&self, question: Question<'_>) -> Ended {
        let ended = self.upstream.look_up(question.name, question.family).await;
        if let Ok(found) = &ended.result {
            self.saw(question.name, question.family, found, question.second);
        }
        ended
    }

    fn saw(&self, name: &str, family: Family, found: &[IpAddr], second: Second) {
        self.sightings().saw(name, family, found, second);
    }

    fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
