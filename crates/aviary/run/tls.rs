//! TLS for the collector's listener, with certificates that follow their files.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aviary_collector::{Listener, Peer, Subject};
use aviary_core::{Clock, Micros, Second};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{VerifierBuilderError, WebPkiClientVerifier},
    version,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::extensions::GeneralName;

/// A peer that takes longer to shake hands is turned away.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many may shake hands at once; more are turned away, and agents come back.
const HANDSHAKES_MAX: usize = 512;

/// How many connections wait for the server to take them.
const READY_MAX: usize = 64;

/// How long nothing is accepted when the host has no file or memory for it: until then nothing will have changed.
const PAUSE: Duration = Duration::from_millis(50);

/// How often the files are looked at. A change is taken up when two looks in turn saw it: certificate and key are two
/// files, and are not replaced at one instant.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Refusals are told at most this often: anybody who reaches the port can be refused.
const TELL_EVERY_US: u64 = 1_000_000;

/// The texts that TLS needs, in PEM. The key is a secret: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pems {
    /// The server's certificate, and those that lead to its authority.
    pub(super) certificate: String,
    /// The certificate's private key.
    pub(super) key: String,
    /// The authority whose certificates clients must show; absent: none are asked for.
    pub(super) client_ca: Option<String>,
}

/// Where the texts stand; one that stands in no file never changes.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
}

/// Why there can be no TLS with some texts.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("{key}: a certificate cannot be read: {source}; it needs blocks BEGIN CERTIFICATE")]
    Certificate { key: &'static str, source: pem::Error },
    #[error("{key}: no certificate is in the PEM text; it needs a block BEGIN CERTIFICATE")]
    NoCertificate { key: &'static str },
    #[error(
        "collector.key: no private key can be read: {0}; it needs a block BEGIN PRIVATE KEY, unencrypted"
    )]
    Key(pem::Error),
    #[error("collector.client_ca: a certificate is no authority's: {0}")]
    Authority(rustls::Error),
    #[error("collector.client_ca: {0}")]
    Verifier(VerifierBuilderError),
    #[error("collector.certificate and collector.key are refused: {0}; are they a pair?")]
    Refused(rustls::Error),
}

/// What connections are accepted with, now. Clones are the same.
#[derive(Clone)]
pub(super) struct Tls(Arc<Mutex<Arc<ServerConfig>>>);

/// When the first certificate in this PEM text ends, as far as it tells.
pub(super) fn end_of(pem: &str) -> Option<Second> {
    let certificate = CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok().map(Second)
}

impl Tls {
    /// TLS with these texts.
    pub(super) fn new(pems: &Pems) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Mutex::new(server_config(pems)?))))
    }

    /// From now on, new connections get these texts; with an error nothing changes. Connections that are open stay.
    pub(super) fn reload(&self, pems: &Pems) -> Result<(), TlsError> {
        let config = server_config(pems)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Looks at the files, and reloads when they changed; `ends` is told when what is shown ends. Never ends.
    pub(super) async fn follow(self, paths: Paths, mut loaded: Pems, ends: impl Fn(Second)) {
        end_of(&loaded.certificate).into_iter().for_each(&ends);
        let mut before = loaded.clone();
        let mut told = None;
        loop {
            sleep(LOOK_EVERY).await;
            let (paths, known) = (paths.clone(), loaded.clone());
            let Ok(seen) = tokio::task::spawn_blocking(move || read(&paths, &known)).await else { continue };
            let problem = match seen {
                Ok(seen) if seen == loaded => None,
                Ok(seen) if seen != before => {
                    before = seen;
                    continue;
                }
                Ok(seen) => match self.reload(&seen) {
                    Ok(()) => {
                        tracing::info!(
                            "The collector's certificate files changed; new connections get them."
                        );
                        loaded = seen;
                        end_of(&loaded.certificate).into_iter().for_each(&ends);
                        None
                    }
                    Err(error) => Some(error.to_string()),
                },
                Err(problem) => Some(problem),
            };
            if let Some(problem) = problem.as_ref().filter(|_| problem != told) {
                tracing::error!(
                    problem,
                    "The collector's certificate files changed and cannot be used; those from before stay."
                );
            }
            told = problem;
        }
    }
}

fn server_config(pems: &Pems) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates("collector.certificate", &pems.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(pems.key.as_bytes()).map_err(TlsError::Key)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(TlsError::Refused)?;
    let builder = match &pems.client_ca {
        Some(client_ca) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("collector.client_ca", client_ca)? {
                roots.add(authority).map_err(TlsError::Authority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(TlsError::Verifier)?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(key: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Certificate { key, source })?;
    if chain.is_empty() { Err(TlsError::NoCertificate { key }) } else { Ok(chain) }
}

/// The texts as their files have them now.
fn read(paths: &Paths, known: &Pems) -> Result<Pems, String> {
    let text = |path: &Option<PathBuf>, known: &str| match path {
        Some(path) => read_file(path).map_err(|error| format!("{}: {error}", path.display())),
        None => Ok(known.to_owned()),
    };
    Ok(Pems {
        certificate: text(&paths.certificate, &known.certificate)?,
        key: text(&paths.key, &known.key)?,
        client_ca: known.client_ca.as_ref().map(|known| text(&paths.client_ca, known)).transpose()?,
    })
}

/// As the configuration reads it: without its last line break.
fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// A TCP listener whose connections have shaken hands.
pub(super) struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, Peer)>,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    /// Listens with `tls` on `tcp`.
    pub(super) fn new(tcp: TcpListener, tls: Tls, clock: impl Clock) -> io::Result<Self> {
        let address = tcp.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let accepting = tokio::spawn(accept(tcp, tls, sender, clock));
        Ok(Self { address, ready, accepting })
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Peer) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task only ends with this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(self.address.into())
    }
}

/// Accepts connections and lets each shake hands by itself: a peer that dawdles holds up nobody.
async fn accept(
    tcp: TcpListener,
    tls: Tls,
    ready: mpsc::Sender<(TlsStream<TcpStream>, Peer)>,
    clock: impl Clock,
) {
    let mut handshakes = JoinSet::new();
    let mut told: Option<Micros> = None;
    let mut untold = 0_u64;
    loop {
        let refusal = tokio::select! {
            Some(ended) = handshakes.join_next() => match ended {
                Ok(Err(refusal)) => refusal,
                Ok(Ok(())) => continue,
                Err(ended) => format!("a handshake's task failed: {ended}"),
            },
            accepted = tcp.accept() => match accepted {
                Ok((_, peer)) if handshakes.len() >= HANDSHAKES_MAX => {
                    format!("{peer}: {HANDSHAKES_MAX} others are shaking hands")
                }
                Ok((stream, peer)) => {
                    handshakes.spawn(shake_hands(stream, peer, tls.acceptor(), ready.clone()));
                    continue;
                }
                Err(error) => {
                    sleep(PAUSE).await;
                    format!("cannot accept: {error}")
                }
            },
        };
        let now = clock.monotonic();
        if told.is_some_and(|told| now.since(told) < TELL_EVERY_US) {
            untold += 1;
            continue;
        }
        let others = std::mem::take(&mut untold);
        tracing::warn!(refusal, others, "The collector turned a connection away.");
        told = Some(now);
    }
}

async fn shake_hands(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, Peer)>,
) -> Result<(), String> {
    // Only answers' speed depends on it.
    _ = stream.set_nodelay(true);
    let shaken = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let Ok(shaken) = shaken else {
        return Err(format!("{peer}: no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()));
    };
    let stream = shaken.map_err(|error| format!("{peer}: {error}"))?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = Peer::over_tls(peer, shown.map(subjects).unwrap_or_default());
    // Nobody listens any more: the connection is closed.
    _ = ready.send((stream, peer)).await;
    Ok(())
}

/// The names in a certificate that was verified; none in one that only rustls can read.
fn subjects(certificate: &CertificateDer<'_>) -> Vec<Subject> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.map(|it| &*it.value.general_names).unwrap_or_default();
    let mut subjects: Vec<Subject> = alternative
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(Subject::Dns((*name).to_owned())),
            GeneralName::RFC822Name(name) => Some(Subject::Email((*name).to_owned())),
            GeneralName::URI(name) => Some(Subject::Uri((*name).to_owned())),
            _ => None,
        })
        .collect();
    let common_names = certificate.subject().iter_common_name();
    subjects
        .extend(common_names.filter_map(|name| Some(Subject::CommonName(name.as_str().ok()?.to_owned()))));
    subjects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pems() -> Pems {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Pems { certificate: cert.pem(), key: signing_key.serialize_pem(), client_ca: None }
    }

    #[test]
    fn the_names_in_a_certificate_are_told_with_their_kinds() {
        let mut params = rcgen::CertificateParams::new(["canary.example.net".to_owned()]).unwrap();
        let text = |text: &str| text.try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(text("spiffe://example.net/canary")));
        params.subject_alt_names.push(rcgen::SanType::Rfc822Name(text("ada@example.net")));
        params.subject_alt_names.push(rcgen::SanType::IpAddress([192, 0, 2, 1].into()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "canary-7");
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let expected = [
            Subject::Dns("canary.example.net".to_owned()),
            Subject::Uri("spiffe://example.net/canary".to_owned()),
            Subject::Email("ada@example.net".to_owned()),
            Subject::CommonName("canary-7".to_owned()),
        ];
        assert_eq!(subjects(certificate.der()), expected);
        assert_eq!(subjects(&CertificateDer::from(b"no certificate".to_vec())), []);
    }

    #[test]
    fn texts_that_do_not_fit_are_refused_by_their_key_and_change_nothing() {
        let (good, other) = (pems(), pems());
        let tls = Tls::new(&good).unwrap();
        let before = Arc::clone(&tls.0.lock().unwrap());
        let table = [
            (Pems { key: other.key.clone(), ..good.clone() }, "are they a pair?"),
            (Pems { key: good.certificate.clone(), ..good.clone() }, "collector.key: no private key"),
            (Pems { certificate: good.key.clone(), ..good.clone() }, "collector.certificate: no certificate"),
            (Pems { client_ca: Some(String::new()), ..good.clone() }, "collector.client_ca: no certificate"),
        ];
        for (pems, expected) in table {
            let error = tls.reload(&pems).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(Arc::ptr_eq(&before, &tls.0.lock().unwrap()), "{expected}");
        }
        tls.reload(&other).unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.0.lock().unwrap()));
    }
}
