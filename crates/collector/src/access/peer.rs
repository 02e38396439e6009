//! Who is at the other end of a connection, as far as the connection itself tells.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// One of the names that a certificate says its holder has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The common name of its subject.
    CommonName(String),
    /// A host's name, of its subject's alternative names as the following are.
    Dns(String),
    /// An address of mail.
    Email(String),
    /// A URI, such as a SPIFFE ID.
    Uri(String),
}

impl Subject {
    /// Whether both name the same; of hosts' names alone the case means nothing.
    pub(super) fn names(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dns(this), Self::Dns(other)) => this.eq_ignore_ascii_case(other),
            (this, other) => this == other,
        }
    }

    /// The name without its kind.
    pub fn text(&self) -> &str {
        match self {
            Self::CommonName(name) | Self::Dns(name) | Self::Email(name) | Self::Uri(name) => name,
        }
    }
}

/// The other end of a connection, whatever the listener.
#[derive(Clone, Debug)]
pub struct Peer {
    address: SocketAddr,
    /// The names in the certificate that it has shown; `None` where there is no TLS.
    subjects: Option<Arc<[Subject]>>,
}

impl Peer {
    /// Who is at `address`, over TLS, and has shown a certificate with these names; with none it has shown no certificate.
    /// The listener is to have verified it.
    pub fn over_tls(address: SocketAddr, subjects: Vec<Subject>) -> Self {
        Self { address, subjects: Some(subjects.into()) }
    }

    /// Where it is.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same without its port; an IPv4 address is one, however it is written.
    pub(super) fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }

    pub(super) const fn is_over_tls(&self) -> bool {
        self.subjects.is_some()
    }

    pub(super) fn subjects(&self) -> &[Subject] {
        self.subjects.as_deref().unwrap_or_default()
    }
}

/// Without TLS.
impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { address, subjects: None }
    }
}
