//! A listener's socket: opened, closed while it refuses, opened again.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use aviary_core::Protocol;
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tracing::{error, warn};

use crate::{Misbehaviour, SinkError, connection, counts::Count, intake::Intake};

/// How many connections may wait to be accepted. Probers that start at one instant are many; carbon's 50 overflow.
const BACKLOG: i32 = 1024;

/// How long nothing is accepted when the host has no file or memory for it: until then nothing will have changed.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// What a listener is told, and where it says that it is so.
pub(crate) struct Command {
    pub(crate) how: Misbehaviour,
    pub(crate) done: oneshot::Sender<Result<(), SinkError>>,
}

/// A socket of `kind`, bound to `address`.
pub(crate) fn bind(protocol: Protocol, address: SocketAddr, kind: Type) -> Result<Socket, SinkError> {
    let bound = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        if kind == Type::STREAM {
            // Or a restart would have to wait until the last connections are forgotten. For datagrams it would let two
            // sinks share a port, each with a part of what comes.
            socket.set_reuse_address(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    bound().map_err(|source| SinkError::Bind { protocol, address, source })
}

/// The socket of a stream listener.
pub(crate) enum Door {
    Open(TcpListener),
    /// Bound without listening, so that connections are refused and the port stays ours.
    Closed(Option<Socket>),
}

impl Door {
    pub(crate) fn open(protocol: Protocol, address: SocketAddr) -> Result<Self, SinkError> {
        Self::listen(protocol, address, bind(protocol, address, Type::STREAM)?)
    }

    fn listen(protocol: Protocol, address: SocketAddr, socket: Socket) -> Result<Self, SinkError> {
        let listen = || {
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        };
        listen().map(Self::Open).map_err(|source| SinkError::Bind { protocol, address, source })
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Open(listener) => listener.local_addr().ok(),
            Self::Closed(_) => None,
        }
    }

    fn obey(&mut self, how: Misbehaviour, protocol: Protocol, address: SocketAddr) -> Result<(), SinkError> {
        let failed = |source| SinkError::Bind { protocol, address, source };
        match (how, &mut *self) {
            (Misbehaviour::Refuse, Self::Open(_)) => {
                *self = Self::Closed(None);
                let reserved = bind(protocol, address, Type::STREAM)?;
                // Not to be shared while nobody listens on it.
                reserved.set_reuse_address(false).map_err(failed)?;
                *self = Self::Closed(Some(reserved));
            }
            (Misbehaviour::Refuse, Self::Closed(_)) | (_, Self::Open(_)) => {}
            (_, Self::Closed(reserved)) => {
                let socket = reserved.take().map_or_else(|| bind(protocol, address, Type::STREAM), Ok)?;
                // Connections from before may still be open on the port.
                socket.set_reuse_address(true).map_err(failed)?;
                *self = Self::listen(protocol, address, socket)?;
            }
        }
        Ok(())
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Self::Open(listener) => listener.accept().await.map(|(stream, _)| stream),
            Self::Closed(_) => pending().await,
        }
    }
}

/// A stream listener with everything it needs.
pub(crate) struct Listener {
    pub(crate) door: Door,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) connections_max: usize,
}

impl Listener {
    /// Accepts and serves connections until nobody can send commands any more; then drops all that are open.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let Some(Command { how, done }) = command else { break };
                    let opened = self.door.obey(how, self.intake.protocol, self.address);
                    self.intake.misbehave(how);
                    // Who asked may have stopped waiting.
                    done.send(opened).ok();
                }
                Some(ended) = connections.join_next() => report_panic(ended),
                accepted = self.door.accept() => match accepted {
                    Ok(tcp) if connections.len() >= self.connections_max => {
                        self.intake.count(Count::TurnedAway);
                        connection::reset(&tcp);
                    }
                    Ok(tcp) => {
                        connections.spawn(connection::serve(tcp, self.tls.clone(), Arc::clone(&self.intake)));
                    }
                    Err(error) => {
                        self.intake.count(Count::NotAccepted);
                        warn!(protocol = %self.intake.protocol, "cannot accept a connection: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
        connections.shutdown().await;
    }
}

/// A task that panicked is a bug of the sink; the listener goes on.
pub(crate) fn report_panic(ended: Result<(), JoinError>) {
    if let Err(ended) = ended
        && ended.is_panic()
    {
        error!("a connection's task panicked: {ended}");
    }
}
