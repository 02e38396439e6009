//! The seam to the network.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::fault::Failure;

/// The network as an attempt sees it: the host's own, or the scripted one of a test.
pub trait Network: Clone + Send + Sync + 'static {
    /// An open stream.
    type Connection: Connection;
    /// A socket for datagrams to one peer.
    type Datagram: Datagram;

    /// Looks a name up, afresh: the addresses of `family`, IPv4 before IPv6, at least one.
    fn resolve(
        &self,
        name: &str,
        family: Family,
    ) -> impl Future<Output = Result<Vec<IpAddr>, Failure>> + Send;

    /// Opens a fresh stream. What fails is in phase `connect`.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = Result<Self::Connection, Failure>> + Send;

    /// Opens a fresh socket for datagrams, connected so that it hears of ICMP errors.
    fn datagram(&self, address: SocketAddr) -> Result<Self::Datagram, Failure>;
}

/// A stream that is reset when it is dropped, unless its [`Fuse`] was taken out: whatever the reason that an attempt
/// stops short, its bytes must not arrive after the verdict.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// What makes dropping the stream a reset.
    fn fuse(&self) -> &Fuse;

    /// Lets each write leave at once. Plain protocols write once on a fresh connection, which nothing delays; a
    /// handshake followed by data would wait for a delayed acknowledgement.
    fn set_nodelay(&self) -> io::Result<()>;

    /// How many written bytes the peer's kernel has not acknowledged; a half-close counts as one.
    fn unacknowledged(&self) -> io::Result<u32>;

    /// What the network has told of the stream that no read or write has said.
    fn error(&self) -> io::Result<Option<io::Error>>;
}

/// A socket for datagrams to one peer.
pub trait Datagram: Send + Sync + 'static {
    /// Hands the datagram to the operating system.
    fn send(&self, payload: &[u8]) -> io::Result<()>;

    /// What ICMP has told since.
    fn error(&self) -> io::Result<Option<io::Error>>;
}

/// What makes dropping a stream a reset, until it is taken out.
#[derive(Clone, Debug)]
pub struct Fuse(Arc<AtomicBool>);

impl Fuse {
    /// A fuse that is in.
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// From now on, dropping the stream closes it as usual.
    pub fn take_out(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether dropping the stream must reset it.
    pub fn is_in(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Fuse {
    fn default() -> Self {
        Self::new()
    }
}

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// IPv4, and IPv6 where there is none.
    #[default]
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}
