//! One attempt over one of six protocols: a target and a second in, an outcome with its timings out.
//!
//! **Architecture invariants:** each attempt makes a fresh connection, resumes nothing, and is over at its deadline:
//! nothing is spawned that outlives it, and what was abandoned is reset, so that the kernel does not go on delivering
//! it. Lookups that many share are the exception: they run on a runtime of their caller's, and end within a second. This is the only room that names rustls, hyper and hickory for probing. Time comes from a
//! [`Clock`](aviary_core::Clock), the network through [`Network`].
//!
//! [`Prober::run`] is the entry. [`Target`] is what stays the same from attempt to attempt; [`Host`] is the real
//! network, `scripted` (with the feature of that name) the one of tests.

mod attempt;
mod clock;
mod datagram;
mod dns;
mod fault;
mod host;
mod https;
mod network;
#[cfg(feature = "scripted")]
pub mod scripted;
mod source;
mod steps;
mod stream;
mod target;
mod tls;
mod unacknowledged;

pub use attempt::{DEADLINE_US, Prober};
pub use clock::SystemClock;
pub use dns::{AddressChange, Dns, DnsError, HostAndPort, Records, RecordsError};
pub use fault::{Blame, Failure};
pub use host::Host;
pub use network::{Connection, Datagram, Family, Fuse, Network, Question};
pub use source::{Source, SourceError};
pub use steps::{Observation, STARVED_US};
pub use target::{AddressChoice, ApiKey, Target, TargetError};
pub use tls::{
    Handshake, KeyExchange, TlsClient, TlsError, TlsFacts, install_crypto_provider, trusted_roots, warm_up,
};
