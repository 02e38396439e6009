//! The host's own network and clocks.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use aviary_core::Phase;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::{
    dns::Dns,
    fault::{Failure, Origin, io_failure},
    network::{Connection, Datagram, Fuse, Network, Question},
    source::Source,
    unacknowledged::unacknowledged,
};

/// The host's own network.
#[derive(Clone)]
pub struct Host {
    // Behind one pointer: it is cloned for each attempt.
    dns: Arc<Dns>,
}

impl Host {
    /// The host's network, with names looked up by `dns`.
    pub fn new(dns: Dns) -> Self {
        Self { dns: Arc::new(dns) }
    }
}

impl Network for Host {
    type Connection = HostConnection;
    type Datagram = HostDatagram;

    async fn resolve(&self, question: Question<'_>) -> Result<Vec<IpAddr>, Failure> {
        self.dns.resolve(question).await
    }

    fn overridden(&self, name: &str, port: u16) -> &[IpAddr] {
        self.dns.overridden(name, port)
    }

    async fn connect(&self, address: SocketAddr, source: Option<&Source>) -> Result<HostConnection, Failure> {
        let socket = open(address, Type::STREAM, source)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(failed(origin_of_immediate(&error))(error));
            }
            _ => {}
        }
        let stream = TcpStream::from_std(socket.into()).map_err(failed(Origin::Call))?;
        let connection = HostConnection { stream, fuse: Fuse::new() };
        let ready = connection.stream.ready(Interest::WRITABLE | Interest::ERROR).await;
        let ready = ready.map_err(failed(Origin::Network))?;
        // Only then is there an error to ask for: the question is a system call for each attempt.
        if ready.is_error() || ready.is_write_closed() {
            match connection.stream.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return Err(failed(Origin::Network)(error)),
            }
        }
        Ok(connection)
    }

    fn datagram(&self, address: SocketAddr, source: Option<&Source>) -> Result<HostDatagram, Failure> {
        let socket = open(address, Type::DGRAM, source)?;
        socket.connect(&address.into()).map_err(failed(Origin::Connect))?;
        Ok(HostDatagram(socket.into()))
    }
}

/// A refusal on loopback can come back before the call returns; anything else that fails at once never left the host.
fn origin_of_immediate(error: &io::Error) -> Origin {
    if error.kind() == io::ErrorKind::ConnectionRefused { Origin::Network } else { Origin::Connect }
}

fn open(address: SocketAddr, kind: Type, source: Option<&Source>) -> Result<Socket, Failure> {
    if source.is_some_and(|source| !source.reaches(address.ip())) {
        return Err(failed(Origin::Bind)(Errno::AFNOSUPPORT.into()));
    }
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), None);
    let socket = socket.map_err(failed(Origin::Call))?;
    if let Some(source) = source {
        source.bind(&socket).map_err(failed(Origin::Bind))?;
    }
    Ok(socket)
}

fn failed(origin: Origin) -> impl Fn(io::Error) -> Failure {
    move |error| io_failure(Phase::Connect, origin, &error)
}

/// A TCP connection of the host.
#[derive(Debug)]
pub struct HostConnection {
    stream: TcpStream,
    fuse: Fuse,
}

impl Drop for HostConnection {
    fn drop(&mut self) {
        if self.fuse.is_in() {
            // The socket is being given up: there is nobody left to tell that it could not be reset.
            _ = self.stream.set_zero_linger();
        }
    }
}

impl Connection for HostConnection {
    fn fuse(&self) -> &Fuse {
        &self.fuse
    }

    fn set_nodelay(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
    }

    fn unacknowledged(&self) -> io::Result<u32> {
        unacknowledged(self.stream.as_fd())
    }

    fn error(&self) -> io::Result<Option<io::Error>> {
        self.stream.take_error()
    }
}

impl AsyncRead for HostConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for HostConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connected UDP socket of the host. It is not registered with the reactor: sending never waits, and what ICMP told
/// is asked for once.
#[derive(Debug)]
pub struct HostDatagram(UdpSocket);

impl Datagram for HostDatagram {
    fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.0.send(payload).map(drop)
    }

    fn error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }
}
