//! Lines out of datagrams.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use aviary_core::Protocol;
use socket2::{Socket, Type};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};
use tracing::warn;

use crate::{
    Misbehaviour, SinkError,
    counts::Count,
    intake::Intake,
    listener::{self, Command, report_panic},
};

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// What the kernel is asked to hold while nobody reads; it may grant less. Its usual 208 KiB are 256 datagrams, which
/// is less than many probers send at one instant.
const RECEIVE_BYTES: usize = 4 << 20;

/// The socket of the datagram listener.
pub(crate) enum Door {
    Open(UdpSocket),
    /// Bound, and connected to itself: it takes datagrams from nobody else, so that they are answered with ICMP, and
    /// the port stays ours.
    Closed {
        _reserved: Option<Socket>,
    },
}

impl Door {
    pub(crate) fn open(address: SocketAddr) -> Result<Self, SinkError> {
        let socket = listener::bind(Protocol::Udp, address, Type::DGRAM)?;
        socket.set_recv_buffer_size(RECEIVE_BYTES).ok();
        let opened = UdpSocket::from_std(socket.into()).map(Self::Open);
        opened.map_err(|source| SinkError::Bind { protocol: Protocol::Udp, address, source })
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Open(socket) => socket.local_addr().ok(),
            Self::Closed { .. } => None,
        }
    }

    fn obey(&mut self, how: Misbehaviour, address: SocketAddr) -> Result<(), SinkError> {
        match (how, &*self) {
            (Misbehaviour::Refuse, Self::Open(_)) => {
                *self = Self::Closed { _reserved: None };
                let reserved = listener::bind(Protocol::Udp, address, Type::DGRAM)?;
                let connected = reserved.connect(&address.into());
                connected.map_err(|source| SinkError::Bind { protocol: Protocol::Udp, address, source })?;
                *self = Self::Closed { _reserved: Some(reserved) };
            }
            (Misbehaviour::Refuse, Self::Closed { .. }) | (_, Self::Open(_)) => {}
            (_, Self::Closed { .. }) => {
                // Two sockets cannot be bound to the port at once: the one that reserves it goes first.
                *self = Self::Closed { _reserved: None };
                *self = Self::open(address)?;
            }
        }
        Ok(())
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Open(socket) => socket.recv(buffer).await,
            Self::Closed { .. } => pending().await,
        }
    }
}

/// The datagram listener with everything it needs.
pub(crate) struct Listener {
    pub(crate) door: Door,
    pub(crate) address: SocketAddr,
    pub(crate) intake: Arc<Intake>,
    /// How many datagrams may wait to be handed on slowly.
    pub(crate) waiting_max: usize,
}

impl Listener {
    /// Takes datagrams until nobody can send commands any more.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut waiting = JoinSet::new();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let Some(Command { how, done }) = command else { break };
                    let opened = self.door.obey(how, self.address);
                    self.intake.misbehave(how);
                    // Who asked may have stopped waiting.
                    done.send(opened).ok();
                }
                Some(ended) = waiting.join_next() => report_panic(ended),
                received = self.door.receive(&mut buffer) => match received {
                    Ok(bytes) => self.take(&buffer[..bytes], &mut waiting),
                    Err(error) => {
                        warn!(protocol = %Protocol::Udp, "cannot receive a datagram: {error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        waiting.shutdown().await;
    }

    fn take(&self, datagram: &[u8], waiting: &mut JoinSet<()>) {
        self.intake.count(Count::Connections);
        match self.intake.how() {
            Misbehaviour::NeverRead => self.intake.count(Count::Withheld),
            Misbehaviour::Slow { .. } if waiting.len() >= self.waiting_max => {
                self.intake.count(Count::Overflowed)
            }
            Misbehaviour::Slow { .. } => {
                let (intake, datagram) = (Arc::clone(&self.intake), datagram.to_vec());
                waiting.spawn(async move {
                    intake.be_slow().await;
                    take_lines(&datagram, &intake);
                });
            }
            _ => take_lines(datagram, &self.intake),
        }
    }
}

/// The last line needs no newline, as with carbon: a datagram comes whole or not at all.
fn take_lines(datagram: &[u8], intake: &Intake) {
    let lines = datagram.strip_suffix(b"\n").unwrap_or(datagram);
    for line in lines.split(|byte| *byte == b'\n') {
        // What is refused is counted and said where that is found out; the lines behind it are good.
        intake.take_line(line).ok();
    }
}
