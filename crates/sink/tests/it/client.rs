//! A sink to talk to, and a client that does what a prober does: connect, write, half-close, read to the end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use aviary_core::{Clock, Micros, Protocol, Second, Timestamp};
use aviary_sink::{Addresses, Arrival, Count, Identity, Options, Sink};
use aviary_wire::pickle;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::aws_lc_rs, version};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// What is surely long enough for something that happens on loopback.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What is surely enough to notice something that would happen at once.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);

/// The second in which every test runs.
pub(crate) const NOW: Second = Second(1_763_690_400);

pub(crate) const STREAMS: [Protocol; 5] =
    [Protocol::Https, Protocol::Pickle, Protocol::PickleTls, Protocol::Tcp, Protocol::Tls];

#[derive(Clone)]
struct Stopped;

impl Clock for Stopped {
    fn wall(&self) -> Timestamp {
        NOW.start().plus(250_000)
    }

    fn monotonic(&self) -> Micros {
        Micros(0)
    }
}

pub(crate) fn options() -> Options {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Options::new(Addresses::all(any), Identity::self_signed().expect("a certificate can be made"))
}

pub(crate) struct Rig {
    pub(crate) sink: Sink,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    ca: CertificateDer<'static>,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let pem = options.identity.ca_pem().expect("made here").to_owned();
        let ca = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let (sink, arrivals) = Sink::start(options, Stopped).await.expect("free ports");
        Self { sink, arrivals, ca }
    }

    pub(crate) fn address(&self, protocol: Protocol) -> SocketAddr {
        self.sink.addresses().get(protocol).expect("all are open")
    }

    pub(crate) fn count(&self, protocol: Protocol, count: Count) -> u64 {
        self.sink.counts().get(protocol, count)
    }

    /// Waits until something was counted `times` times: the sink works on after the client is done.
    pub(crate) async fn counted(&self, protocol: Protocol, count: Count, times: u64) {
        let reached = async {
            while self.count(protocol, count) < times {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(SOON, reached)
            .await
            .unwrap_or_else(|_| panic!("{} over {protocol}: {:?}", count.name(), self.sink.counts()));
        assert_eq!(self.count(protocol, count), times, "{} over {protocol}", count.name());
    }

    pub(crate) async fn arrival(&mut self) -> Arrival {
        timeout(SOON, self.arrivals.recv()).await.expect("something arrives").expect("the sink runs")
    }

    pub(crate) async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        while names.len() < count {
            names.push(self.arrival().await.name);
        }
        assert!(self.arrivals.try_recv().is_err(), "nothing more arrives");
        names
    }

    #[expect(clippy::disallowed_methods, reason = "a test's client connects to an address, with no options")]
    pub(crate) async fn connect(&self, protocol: Protocol) -> io::Result<TcpStream> {
        TcpStream::connect(self.address(protocol)).await
    }

    pub(crate) async fn tls(
        &self,
        tcp: TcpStream,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions that the provider has")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// A connection over which `protocol` is spoken.
    pub(crate) async fn open(&self, protocol: Protocol) -> io::Result<Box<dyn Stream>> {
        let tcp = self.connect(protocol).await?;
        Ok(match protocol.is_tls() {
            true => Box::new(self.tls(tcp, &[&version::TLS13]).await?),
            false => Box::new(tcp),
        })
    }

    /// Sends `bytes` over a fresh connection, and returns what came back up to the end.
    pub(crate) async fn send(&self, protocol: Protocol, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let exchange = async {
            let mut stream = self.open(protocol).await?;
            stream.write_all(bytes).await?;
            stream.shutdown().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok(answer)
        };
        timeout(SOON, exchange).await.map_err(io::Error::from)?
    }

    pub(crate) async fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        socket.connect(self.address(Protocol::Udp)).await.expect("loopback is there");
        socket
    }

    /// Sends a datapoint of value 1 in whatever way `protocol` has; HTTP is checked to have been accepted.
    pub(crate) async fn deliver(&self, protocol: Protocol, name: &str) -> io::Result<()> {
        match protocol {
            Protocol::Udp => self.udp().await.send(&payload(protocol, name)).await.map(drop),
            Protocol::Https => {
                let answer =
                    String::from_utf8(self.send(protocol, &payload(protocol, name)).await?).expect("text");
                assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
                Ok(())
            }
            _ => self.send(protocol, &payload(protocol, name)).await.map(|answer| assert!(answer.is_empty())),
        }
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A datapoint of value 1 in this second.
pub(crate) fn payload(protocol: Protocol, name: &str) -> Vec<u8> {
    let line = format!("{name} 1 {NOW}\n");
    match protocol {
        Protocol::Https => request("POST", "", line.as_bytes()),
        Protocol::Pickle | Protocol::PickleTls => pickle::encode_frame(name, 1.0, NOW),
        Protocol::Tcp | Protocol::Tls | Protocol::Udp => line.into_bytes(),
    }
}

/// An HTTP request after which the connection ends; `headers` each end in `\r\n`.
pub(crate) fn request(method: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} /api/v1/sink HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
