//! The rival: one thread that makes the same exchanges with blocking calls and nothing else.
//!
//! No deadline, no phases, no reports, no two attempts at once. It is due when the agent is, in the same grains of the
//! same plan, so that neither gains by doing more on one wake-up.

use std::{
    io::{self, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aviary_core::{
    Clock as _, Endpoint, Protocol, Second,
    endpoint::Host,
    plan::{self, Schedule},
};
use aviary_probe::SystemClock;
use aviary_wire::{line, pickle};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::{fleet::Fleet, pace};

/// What the loop has done.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) delivered: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// Probes each series of `fleet` once a second, for ever.
pub(crate) fn run(fleet: &Fleet, done: &Done) -> anyhow::Result<()> {
    let series = fleet.series()?;
    let plan = plan::Plan::new(series.iter().map(|(name, _)| name.as_str()));
    let config = client_config(&fleet.ca)?;
    let peers = series.into_iter().map(|(name, endpoint)| Peer::new(name, &endpoint, &config));
    let mut peers = peers.collect::<anyhow::Result<Vec<_>>>()?;
    pace::be_precise();
    let mut schedule = Schedule::starting(SystemClock.wall(), SystemClock.monotonic());
    while let Some(due) = schedule.due(&plan) {
        pace::sleep_until(due.at);
        for index in plan.series_at(due.phase) {
            let counter = match peers[*index as usize].deliver(due.second) {
                Ok(()) => &done.delivered,
                Err(_) => &done.failed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        schedule.advance(&plan);
    }
    Ok(())
}

/// The settings that the agent's handshakes have: X25519, the system's roots beside `ca`, nothing resumed.
fn client_config(ca: &str) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?)?;
    let kx_groups = vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

struct Peer {
    name: String,
    protocol: Protocol,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    payload: Vec<u8>,
}

impl Peer {
    fn new(name: String, endpoint: &Endpoint, config: &ClientConfig) -> anyhow::Result<Self> {
        let Host::Address(ip) = endpoint.host() else { anyhow::bail!("{endpoint} is looked up") };
        let mut config = config.clone();
        if endpoint.protocol() == Protocol::Https {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(Self {
            name,
            protocol: endpoint.protocol(),
            address: SocketAddr::new(*ip, endpoint.port()),
            config: Arc::new(config),
            payload: Vec::new(),
        })
    }

    fn deliver(&mut self, second: Second) -> io::Result<()> {
        self.payload.clear();
        match self.protocol {
            Protocol::Udp => {
                line::encode_into(&mut self.payload, &self.name, 1.0, second);
                self.send_datagram()
            }
            Protocol::Tcp => {
                line::encode_into(&mut self.payload, &self.name, 1.0, second);
                self.write_plain()
            }
            Protocol::Pickle => {
                pickle::encode_frame_into(&mut self.payload, &self.name, 1.0, second);
                self.write_plain()
            }
            Protocol::Tls => {
                line::encode_into(&mut self.payload, &self.name, 1.0, second);
                self.write_secure()
            }
            Protocol::PickleTls => {
                pickle::encode_frame_into(&mut self.payload, &self.name, 1.0, second);
                self.write_secure()
            }
            Protocol::Https => self.post(second),
        }
    }

    fn send_datagram(&self) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        rustix::net::connect(&socket, &self.address)?;
        rustix::net::send(&socket, &self.payload, SendFlags::empty())?;
        Ok(())
    }

    fn write_plain(&self) -> io::Result<()> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.write_all(&self.payload)?;
        socket.shutdown(Shutdown::Write)?;
        read_to_end(&mut socket).map(drop)
    }

    fn write_secure(&self) -> io::Result<()> {
        let (mut session, mut socket) = self.open()?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        // The datapoint and the end behind it leave in one packet, as the agent's do.
        session.writer().write_all(&self.payload)?;
        session.send_close_notify();
        while session.wants_write() {
            session.write_tls(&mut socket)?;
        }
        socket.shutdown(Shutdown::Write)?;
        read_to_end(&mut Stream::new(&mut session, &mut socket)).map(drop)
    }

    fn post(&mut self, second: Second) -> io::Result<()> {
        let mut body = Vec::new();
        line::encode_into(&mut body, &self.name, 1.0, second);
        write!(
            self.payload,
            "POST /api/v1/sink HTTP/1.1\r\nhost: {}\r\ncontent-type: text/plain\r\nconnection: close\r\n\
             user-agent: bare\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len(),
        )?;
        self.payload.extend_from_slice(&body);
        let (mut session, mut socket) = self.open()?;
        let mut stream = Stream::new(&mut session, &mut socket);
        stream.write_all(&self.payload)?;
        let answer = read_to_end(&mut stream)?;
        if answer == *b"HTTP/1.1 2" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn open(&self) -> io::Result<(ClientConnection, TcpStream)> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        let server = ServerName::IpAddress(self.address.ip().into());
        let session = ClientConnection::new(Arc::clone(&self.config), server).map_err(io::Error::other)?;
        Ok((session, socket))
    }
}

/// Reads to the end, and returns the first bytes that came.
fn read_to_end(stream: &mut impl io::Read) -> io::Result<[u8; 10]> {
    let mut first = [0; 10];
    let mut buffer = [0; 512];
    let mut read = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(first),
            Ok(bytes) => {
                let room = &mut first[read.min(10)..];
                let fitting = room.len().min(bytes);
                room[..fitting].copy_from_slice(&buffer[..fitting]);
                read += bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(first),
            Err(error) => return Err(error),
        }
    }
}
