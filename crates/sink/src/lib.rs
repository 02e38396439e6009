//! The receiving end: six listeners that decode datapoints and hand on name, second and arrival time, and that
//! misbehave when told to.
//!
//! It receives for three purposes: as the service that the local example and the tests probe, as the server of the
//! benchmark, and as the place that a service under test forwards to, where what arrives is the proof of delivery.
//!
//! **Architecture invariant:** nothing a peer sends can exhaust the sink. Connections, waiting arrivals, what is being
//! read at once and the time for each whole line, frame, request and handshake are bounded, and what a bound costs is
//! counted ([`Count`]). What is malformed costs itself only: the lines behind it are taken. No name that came is ever
//! logged, because its first part may be an API key.
//!
//! Beside the listeners there is a [`NameServer`], which misbehaves in the ways of name servers.
//!
//! A stream is read to its end and then closed, so that a peer that half-closes and reads to the end knows that the
//! sink has read everything. Where the sink gives a stream up, it resets it: an orderly end would claim the same.

mod authority;
mod connection;
mod counts;
mod handshake;
mod https;
mod identity;
mod intake;
mod listener;
mod misbehaviour;
mod name_server;
mod stream;
mod udp;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use aviary_core::{Clock, Protocol};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

pub use crate::{
    authority::{Authority, Flaw},
    counts::{Count, Counts},
    identity::{Identity, IdentityError},
    intake::Arrival,
    misbehaviour::{Misbehaviour, MisbehaviourError},
    name_server::{DECOY, NameMisbehaviour, NameServer, NameServerError},
};
use crate::{
    counts::Counters,
    intake::{Common, Intake},
    listener::Command,
};

/// An address for each listener, `None` for one that is not wanted; port 0 asks for any that is free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Lines over TCP.
    pub tcp: Option<SocketAddr>,
    /// Lines in datagrams.
    pub udp: Option<SocketAddr>,
    /// Pickles over TCP.
    pub pickle: Option<SocketAddr>,
    /// Lines over TLS.
    pub tls: Option<SocketAddr>,
    /// Pickles over TLS.
    pub pickle_tls: Option<SocketAddr>,
    /// Lines in HTTP requests over TLS.
    pub https: Option<SocketAddr>,
}

impl Addresses {
    /// All six listeners at `address`; with port 0 each on a port of its own.
    pub const fn all(address: SocketAddr) -> Self {
        let address = Some(address);
        Self {
            tcp: address,
            udp: address,
            pickle: address,
            tls: address,
            pickle_tls: address,
            https: address,
        }
    }

    /// The address for `protocol`.
    pub const fn get(&self, protocol: Protocol) -> Option<SocketAddr> {
        match protocol {
            Protocol::Https => self.https,
            Protocol::Pickle => self.pickle,
            Protocol::PickleTls => self.pickle_tls,
            Protocol::Tcp => self.tcp,
            Protocol::Tls => self.tls,
            Protocol::Udp => self.udp,
        }
    }

    /// Where the address for `protocol` is kept.
    pub const fn get_mut(&mut self, protocol: Protocol) -> &mut Option<SocketAddr> {
        match protocol {
            Protocol::Https => &mut self.https,
            Protocol::Pickle => &mut self.pickle,
            Protocol::PickleTls => &mut self.pickle_tls,
            Protocol::Tcp => &mut self.tcp,
            Protocol::Tls => &mut self.tls,
            Protocol::Udp => &mut self.udp,
        }
    }
}

/// What a sink is started with. `Debug` does not show the keys.
#[derive(Clone)]
pub struct Options {
    /// Where to listen.
    pub listen: Addresses,
    /// Who the TLS listeners are.
    pub identity: Identity,
    /// API keys. A name that begins with one is handed on without it; HTTPS requests need one as their Basic user.
    /// Without any, everybody may send.
    pub keys: Vec<String>,
    /// How many arrivals may wait to be taken; what comes beyond is counted and dropped.
    pub queue: usize,
    /// How many connections a listener holds at once; what comes beyond is reset.
    pub connections: usize,
}

impl Options {
    /// The options for `listen` and `identity`, without keys and with room for a few thousand series.
    pub const fn new(listen: Addresses, identity: Identity) -> Self {
        Self { listen, identity, keys: Vec::new(), queue: 16_384, connections: 4096 }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("identity", &self.identity)
            .field("keys", &self.keys.len())
            .field("queue", &self.queue)
            .field("connections", &self.connections)
            .finish()
    }
}

/// Why a sink cannot start, or not do as told.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A listener has no socket.
    #[error("the sink's {protocol} listener cannot have {address}: {}", remedy(source, *address))]
    Bind {
        /// Which listener.
        protocol: Protocol,
        /// The address it was to have.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The certificate does not serve.
    #[error("the sink's certificate: {0}")]
    Identity(#[from] IdentityError),
    /// There is no such listener.
    #[error("the sink has no {0} listener; give it an address in [sink]")]
    NoListener(Protocol),
    /// A misbehaviour that the protocol has no place for.
    #[error(
        "{protocol} cannot misbehave as `{how}`; `refuse`, `never_read`, `drop` and `slow` fit every protocol"
    )]
    Unfit {
        /// The protocol.
        protocol: Protocol,
        /// The misbehaviour.
        how: Misbehaviour,
    },
}

fn remedy(error: &io::Error, address: SocketAddr) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "the port is in use; find by whom with `ss -lnp sport = :{port}`, or set another port in [sink]"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            "the address is not one of this host's (`ip address` lists them); set another in [sink]"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied if port < 1024 => {
            format!(
                "{error}; ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or set another port in [sink]"
            )
        }
        _ => error.to_string(),
    }
}

/// A running sink. Dropped, it stops at once; [`Sink::stop`] waits until it has.
#[derive(Debug)]
pub struct Sink {
    addresses: Addresses,
    commands: [Option<mpsc::Sender<Command>>; Protocol::ALL.len()],
    counters: Arc<Counters>,
    listeners: JoinSet<()>,
}

impl Sink {
    /// Opens every listener that `options` name, and returns the sink with what arrives at it. Where one cannot be
    /// opened, none stays open.
    pub async fn start(
        options: Options,
        clock: impl Clock,
    ) -> Result<(Self, mpsc::Receiver<Arrival>), SinkError> {
        let Options { listen, identity, keys, queue, connections } = options;
        let (sender, arrivals) = mpsc::channel(queue.max(1));
        let common = Arc::new(Common::new(Box::new(move || clock.wall()), keys, sender));
        let tls = TlsAcceptor::from(identity.server_config(&[])?);
        let https = TlsAcceptor::from(identity.server_config(&[b"http/1.1"])?);

        let mut sink = Self {
            addresses: Addresses::default(),
            commands: [const { None }; Protocol::ALL.len()],
            counters: Arc::clone(&common.counters),
            listeners: JoinSet::new(),
        };
        for protocol in Protocol::ALL.iter().copied() {
            let Some(address) = listen.get(protocol) else { continue };
            let intake = Arc::new(Intake::new(protocol, Arc::clone(&common)));
            let (commands, received) = mpsc::channel(1);
            sink.commands[protocol as usize] = Some(commands);
            *sink.addresses.get_mut(protocol) = if protocol == Protocol::Udp {
                let door = udp::Door::open(address)?;
                let address = door.address().unwrap_or(address);
                let listener = udp::Listener { door, address, intake, waiting_max: connections };
                sink.listeners.spawn(listener.run(received));
                Some(address)
            } else {
                let door = listener::Door::open(protocol, address)?;
                let address = door.address().unwrap_or(address);
                let tls = match protocol {
                    Protocol::Https => Some(https.clone()),
                    protocol => protocol.is_tls().then(|| tls.clone()),
                };
                let listener =
                    listener::Listener { door, address, tls, intake, connections_max: connections };
                sink.listeners.spawn(listener.run(received));
                Some(address)
            };
        }
        Ok((sink, arrivals))
    }

    /// Where the listeners are: the addresses asked for, with the ports that were found.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Lets the listener of `protocol` misbehave. It does so for every connection and datagram that comes after this
    /// returns; connections held by an earlier misbehaviour are dropped.
    ///
    /// # Errors
    /// Where the misbehaviour does not fit the protocol, there is no such listener, or its port cannot be had again;
    /// in the last case it refuses until told anew.
    pub async fn misbehave(&self, protocol: Protocol, how: Misbehaviour) -> Result<(), SinkError> {
        if !how.fits(protocol) {
            return Err(SinkError::Unfit { protocol, how });
        }
        let commands = self.commands[protocol as usize].as_ref().ok_or(SinkError::NoListener(protocol))?;
        let (done, obeyed) = oneshot::channel();
        commands.send(Command { how, done }).await.map_err(|_| SinkError::NoListener(protocol))?;
        obeyed.await.map_err(|_| SinkError::NoListener(protocol))?
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// Closes all listeners and connections, and returns when every task has ended.
    pub async fn stop(mut self) {
        self.commands = [const { None }; Protocol::ALL.len()];
        while self.listeners.join_next().await.is_some() {}
    }
}
