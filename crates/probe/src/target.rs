//! What stays the same from attempt to attempt.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aviary_core::{Endpoint, Evidence, Protocol, endpoint, fnv::fnv1a};
use base64::Engine as _;
use hyper::header::HeaderValue;
use rustls_pki_types::ServerName;

use crate::{network::Family, source::Source, tls::TlsClient};

/// Every so many seconds a handshake is looked at where that is done now and then.
pub(crate) const INSPECTED_EVERY: u64 = 60;

/// What an attempt is made against, and with: everything that stays the same from attempt to attempt.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) endpoint: Endpoint,
    /// The Graphite name on the wire, with the API key before it where the protocol carries it so.
    pub(crate) name: WireName,
    pub(crate) tls: Option<(TlsClient, ServerName<'static>)>,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) host_header: String,
    /// The lowest rung that counts, which matters below [`Evidence::PeerClosed`].
    pub(crate) counts: Evidence,
    pub(crate) choice: AddressChoice,
    pub(crate) family: Family,
    pub(crate) source: Option<Source>,
    /// Whether nobody is told any more to send there.
    pub(crate) withdrawn: Option<Arc<AtomicBool>>,
    /// In which second of a minute its handshakes are looked at where that is done now and then.
    pub(crate) inspected_at: u64,
}

/// A Graphite name that may hold an API key, and so is shown to nobody.
#[derive(Clone)]
pub(crate) struct WireName(pub(crate) String);

impl std::fmt::Debug for WireName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WireName(..)")
    }
}

/// A key that a hosted service tells its customers apart by. Shown to nobody.
#[derive(Clone)]
pub struct ApiKey(Arc<str>);

impl ApiKey {
    /// Wraps a key.
    pub fn new(key: &str) -> Self {
        Self(key.into())
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Which of a name's addresses an attempt goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressChoice {
    /// The first that the lookup gave.
    First,
    /// Each in turn, second by second.
    #[default]
    Rotate,
    /// This one, whether or not the name has it now. The name is looked up all the same: without it, nobody would find
    /// the address.
    Only(IpAddr),
}

/// Why there is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No certificate can be for this host.
    #[error("{0}: no certificate can be for this host name")]
    ServerName(Endpoint),
    /// A header cannot carry the key.
    #[error("{0}: the API key has characters that an HTTP header cannot carry")]
    ApiKey(Endpoint),
}

impl Target {
    /// A target at `endpoint` whose datapoints are called `name`; `tls` is used by the protocols that need it.
    pub fn new(
        endpoint: Endpoint,
        name: &str,
        tls: &TlsClient,
        key: Option<&ApiKey>,
    ) -> Result<Self, TargetError> {
        let protocol = endpoint.protocol();
        let host = match endpoint.host() {
            endpoint::Host::Address(address) => address.to_string(),
            endpoint::Host::Name(name) => name.trim_end_matches('.').to_owned(),
        };
        let tls = if protocol.is_tls() {
            let server = ServerName::try_from(host).map_err(|_| TargetError::ServerName(endpoint.clone()))?;
            let client = if protocol == Protocol::Https { tls.for_http() } else { tls.clone() };
            Some((client, server))
        } else {
            None
        };
        let inspected_at = fnv1a(name.bytes()) % INSPECTED_EVERY;
        let (name, authorization) = match (protocol, key) {
            (_, None) => (name.to_owned(), None),
            (Protocol::Https, Some(key)) => {
                let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{}:", key.0));
                let mut header = HeaderValue::try_from(format!("Basic {credentials}"))
                    .map_err(|_| TargetError::ApiKey(endpoint.clone()))?;
                header.set_sensitive(true);
                (name.to_owned(), Some(header))
            }
            (_, Some(key)) => (format!("{}.{name}", key.0), None),
        };
        let host_header = host_header(endpoint.host(), endpoint.port());
        Ok(Self {
            endpoint,
            name: WireName(name),
            tls,
            authorization,
            host_header,
            counts: protocol.strongest_evidence(),
            choice: AddressChoice::default(),
            family: Family::default(),
            source: None,
            withdrawn: None,
            inspected_at,
        })
    }

    /// Counts bytes that the peer's kernel acknowledged as delivered, for peers that never close.
    pub const fn counting(mut self, lowest: Evidence) -> Self {
        self.counts = lowest;
        self
    }

    /// Goes to other addresses of a name than each in turn, IPv4 first.
    pub const fn addressing(mut self, choice: AddressChoice, family: Family) -> Self {
        self.choice = choice;
        self.family = family;
        self
    }

    /// Leaves the host from `source` instead of wherever the route goes.
    #[must_use]
    pub fn from_source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Knows the peer by `host`, whose address the endpoint has: its certificate must be for that name.
    ///
    /// # Errors
    /// No certificate can be for that name.
    pub fn known_as(mut self, host: &str) -> Result<Self, TargetError> {
        if let Some((_, server)) = &mut self.tls {
            *server = ServerName::try_from(host.to_owned())
                .map_err(|_| TargetError::ServerName(self.endpoint.clone()))?;
        }
        self.host_header = host_header(host, self.endpoint.port());
        Ok(self)
    }

    /// While `withdrawn` is set, nobody is told any more to send there: attempts are made all the same, but what they
    /// lose is nobody's loss, and is told as [`muted`](aviary_core::Outcome::Muted).
    #[must_use]
    pub fn withdrawn_by(mut self, withdrawn: Arc<AtomicBool>) -> Self {
        self.withdrawn = Some(withdrawn);
        self
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.as_ref().is_some_and(|withdrawn| withdrawn.load(Ordering::Relaxed))
    }

    /// What is probed.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

fn host_header(host: impl std::fmt::Display, port: u16) -> String {
    match port {
        443 => host.to_string(),
        port => format!("{host}:{port}"),
    }
}
