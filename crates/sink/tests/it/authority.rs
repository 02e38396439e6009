//! Certificates with a flaw are refused for that flaw, and for no other.

use std::sync::Arc;

use aviary_sink::{Authority, Flaw, Identity};
use rustls::{
    CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};

use crate::client::NOW;

const NAMES: &[&str] = &["sink.test", "127.0.0.1"];

/// What a verifier that trusts `authority` says of `identity` under `name`, in the second of the tests.
fn verify(authority: &Authority, identity: &Identity, name: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.0));
    verifier.verify_server_cert(identity.certificate(), &[], &name, &[], now).map(drop)
}

#[test]
fn each_flaw_is_the_one_that_was_asked_for() {
    let authority = Authority::new().unwrap();
    let good = authority.identity(NAMES).unwrap();
    for name in NAMES {
        assert_eq!(verify(&authority, &good, name), Ok(()), "{name}");
    }
    let found = |flaw| {
        let identity = authority.flawed(NAMES, flaw).unwrap();
        match verify(&authority, &identity, "sink.test") {
            Err(rustls::Error::InvalidCertificate(error)) => error,
            other => panic!("{flaw:?}: {other:?}"),
        }
    };
    assert!(matches!(found(Flaw::Expired), CertificateError::ExpiredContext { .. }));
    assert!(matches!(found(Flaw::NotYetValid), CertificateError::NotValidYetContext { .. }));
    assert!(matches!(found(Flaw::WrongName), CertificateError::NotValidForNameContext { .. }));
    let stranger = found(Flaw::UnknownIssuer);
    assert!(
        matches!(stranger, CertificateError::UnknownIssuer | CertificateError::BadSignature),
        "{stranger:?}"
    );
    assert_eq!(format!("{authority:?}"), "Authority { .. }");
}
