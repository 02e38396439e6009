//! Who the sink says it is: a certificate chain with its key.

use std::{fmt, sync::Arc};

use rustls::{ServerConfig, crypto::aws_lc_rs, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::Authority;

/// A certificate chain with its private key. `Debug` does not show the key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    ca_pem: Option<String>,
}

/// Why there is no identity to be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No certificate in the text.
    #[error("no certificate is in the PEM text; it needs a block BEGIN CERTIFICATE, the server's own first")]
    NoCertificate,
    /// A certificate block that cannot be read.
    #[error("a certificate in the PEM text cannot be read: {0}")]
    Certificate(rustls_pki_types::pem::Error),
    /// No key in the text.
    #[error(
        "no private key can be read from the PEM text: {0}; it needs a block BEGIN PRIVATE KEY, unencrypted"
    )]
    Key(rustls_pki_types::pem::Error),
    /// A pair that rustls refuses.
    #[error("the certificate and its key are refused: {0}; are they a pair?")]
    Refused(rustls::Error),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Making(rcgen::Error),
}

impl Identity {
    /// The identity in PEM texts, which may be one and the same: the chain, the server's own certificate first, and the
    /// unencrypted key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(IdentityError::Certificate)?;
        if chain.is_empty() {
            return Err(IdentityError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(IdentityError::Key)?;
        let identity = Self { chain, key: Arc::new(key), ca_pem: None };
        identity.server_config(&[]).map(|_| identity)
    }

    /// A new identity for `localhost`, `127.0.0.1` and `::1`, signed by an authority of its own that nobody knows until
    /// shown [`Identity::ca_pem`] and whose key is forgotten at once.
    pub fn self_signed() -> Result<Self, IdentityError> {
        Authority::new()?.identity(&["localhost", "127.0.0.1", "::1"])
    }

    /// An identity that an [`Authority`] has signed, whose certificate is `ca_pem`.
    pub(crate) fn signed(
        leaf: CertificateDer<'static>,
        key: Arc<PrivateKeyDer<'static>>,
        ca_pem: String,
    ) -> Self {
        Self { chain: vec![leaf], key, ca_pem: Some(ca_pem) }
    }

    /// The certificate of the authority that signed, as PEM; `None` of an identity that was not made here.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The server's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        // Checked where identities are made: there is one.
        &self.chain[0]
    }

    /// What a listener needs: TLS 1.2 and 1.3, no client certificates, aws-lc-rs by name and never the process's
    /// default.
    ///
    /// TLS 1.3 tickets stay on, although nobody resumes: they are what turns a peer that closes without reading into a
    /// reset, and real services send them.
    pub(crate) fn server_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, IdentityError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(IdentityError::Refused)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(IdentityError::Refused)?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    #[test]
    fn an_identity_is_read_from_pem() {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (cert.pem(), signing_key.serialize_pem());
        let both = format!("{key}{cert}");
        let identity = Identity::from_pem(both.as_bytes(), both.as_bytes()).unwrap();
        assert_eq!(identity.ca_pem(), None);
        assert_eq!(format!("{identity:?}"), "Identity { certificates: 1, .. }");

        let other = KeyPair::generate().unwrap().serialize_pem();
        let table = [
            (key.as_str(), key.as_str(), "no certificate is in the PEM text"),
            (&cert, &cert, "no private key can be read"),
            (&cert, &other, "are they a pair?"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", &key, "cannot be read"),
        ];
        for (chain, key, expected) in table {
            let error = Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
