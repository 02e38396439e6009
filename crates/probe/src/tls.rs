//! TLS as a prober needs it: nothing resumed, and each handshake asserted to have been a full one.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, HandshakeKind, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::fault::find;

/// How keys are agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyExchange {
    /// X25519, and the NIST curves for peers without it: a ClientHello that fits one segment.
    #[default]
    Classic,
    /// X25519 with ML-KEM-768 first: a ClientHello of about 1,460 bytes, which meets middleboxes differently.
    Hybrid,
}

/// The settings of TLS connections: made once, shared by every target that has the same.
#[derive(Clone)]
pub struct TlsClient {
    plain: Arc<ClientConfig>,
    http: Arc<ClientConfig>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClient(..)")
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate of the given file is none.
    #[error("no PEM certificate: {0}; the file must hold one or more -----BEGIN CERTIFICATE----- blocks")]
    Certificate(String),
    /// The provider lacks what is asked of it.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl TlsClient {
    /// Trusts the system's roots and, beside them, the PEM certificates in `extra`.
    pub fn new(extra: &[&[u8]], exchange: KeyExchange) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        // Roots that rustls cannot read are skipped as browsers do.
        roots.add_parsable_certificates(trusted_roots(extra)?);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider(exchange)))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // rustls keeps sessions of 256 servers unless told not to: half of a handshake's work would go unmeasured.
        config.resumption = Resumption::disabled();
        let mut http = config.clone();
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { plain: Arc::new(config), http: Arc::new(http) })
    }

    /// The same settings, offering HTTP/1.1.
    pub(crate) fn for_http(&self) -> Self {
        Self { plain: Arc::clone(&self.http), http: Arc::clone(&self.http) }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.plain)
    }
}

/// The certificates to trust: the system's roots and, beside them, the PEM certificates in `extra`. A host without any
/// roots of its own has none here, and can still trust `extra`.
pub fn trusted_roots(extra: &[&[u8]]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut roots = rustls_native_certs::load_native_certs().certs;
    for pem in extra {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| TlsError::Certificate(error.to_string()))?;
            // What no store takes is no certificate.
            RootCertStore::empty()
                .add(certificate.clone())
                .map_err(|error| TlsError::Certificate(error.to_string()))?;
            roots.push(certificate);
        }
        if roots.len() == before {
            return Err(TlsError::Certificate("none is there".to_owned()));
        }
    }
    Ok(roots)
}

fn provider(exchange: KeyExchange) -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let classic = [X25519, SECP256R1, SECP384R1];
    let kx_groups = match exchange {
        KeyExchange::Classic => classic.to_vec(),
        KeyExchange::Hybrid => [X25519MLKEM768].into_iter().chain(classic).collect(),
    };
    CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() }
}

/// Makes aws-lc-rs the provider of whatever in this process asks for a default, such as control traffic.
pub fn install_crypto_provider() {
    // It fails only if one is installed already, which then is this one.
    _ = aws_lc_rs::default_provider().install_default();
}

/// Does what the first use of a cryptographic library does slowly: seeding its generator takes 42 ms here, once in a
/// process, and would otherwise be the first slot's latency.
pub fn warm_up() {
    for group in provider(KeyExchange::Hybrid).kx_groups {
        // A failure would show again, with its reason, in the first handshake.
        _ = group.start();
    }
}

/// How the handshake went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// In full, as every probe's must.
    Full,
    /// A session was resumed, although that is off: our own fault.
    Resumed,
    /// Not to its end: the certificate has expired, and nothing else is known.
    Failed,
}

const UNKNOWN: &str = "unknown";

/// What a handshake showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// Such as `1.3`; `unknown` where the handshake failed.
    pub version: &'static str,
    /// The cipher suite's name; empty where the handshake failed.
    pub cipher: String,
    /// Whether it was a full handshake.
    pub handshake: Handshake,
    /// When the server's certificate ends, or the one of its chain that has ended, in seconds since the Unix epoch.
    pub not_after: Option<i64>,
}

impl TlsFacts {
    /// What is known of a handshake that failed with `error` for a certificate that has expired.
    pub(crate) fn of_expired(error: &io::Error) -> Option<Self> {
        let Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) =
            find(error)
        else {
            return None;
        };
        let not_after = i64::try_from(not_after.as_secs()).ok();
        Some(Self { version: UNKNOWN, cipher: String::new(), handshake: Handshake::Failed, not_after })
    }

    pub(crate) fn of(connection: &rustls::ClientConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => UNKNOWN,
        };
        let cipher = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        Self {
            version,
            cipher: cipher.unwrap_or_default(),
            handshake: handshake(connection),
            not_after: connection.peer_certificates().and_then(<[_]>::first).and_then(|leaf| not_after(leaf)),
        }
    }
}

pub(crate) fn handshake(connection: &rustls::ClientConnection) -> Handshake {
    match connection.handshake_kind() {
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => Handshake::Full,
        _ => Handshake::Resumed,
    }
}

fn not_after(leaf: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
