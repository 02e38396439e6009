//! The seam to the network.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aviary_core::Second;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{fault::Failure, source::Source};

/// The network as an attempt sees it: the host's own, or the scripted one of a test.
pub trait Network: Clone + Send + Sync + 'static {
    /// An open stream.
    type Connection: Connection;
    /// A socket for datagrams to one peer.
    type Datagram: Datagram;

    /// Looks a name up, in the question's second: the addresses of its family, IPv4 before IPv6, at least one.
    fn resolve(&self, question: Question<'_>) -> impl Future<Output = Result<Vec<IpAddr>, Failure>> + Send;

    /// Where `name` at `port` was said to be, whatever its name server says; empty where it is to be looked up.
    fn overridden(&self, name: &str, port: u16) -> &[IpAddr] {
        _ = (name, port);
        &[]
    }

    /// Opens a fresh stream, from `source` if there is one. What fails is in phase `connect`.
    fn connect(
        &self,
        address: SocketAddr,
        source: Option<&Source>,
    ) -> impl Future<Output = Result<Self::Connection, Failure>> + Send;

    /// Opens a fresh socket for datagrams, from `source` if there is one, connected so that it hears of ICMP errors.
    fn datagram(&self, address: SocketAddr, source: Option<&Source>) -> Result<Self::Datagram, Failure>;
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

/// What is asked of name servers, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// The name.
    pub name: &'a str,
    /// Which of its addresses are wanted.
    pub family: Family,
    /// The second of the slot that needs to know: whoever asks in the same one may get the same answer.
    pub second: Second,
}

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, and IPv6 where there is none.
    #[default]
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

impl Family {
    /// How many there are.
    pub(crate) const COUNT: usize = 3;
}
