//! Certificates, good and bad, made anew for each test.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// An authority, and one server certificate for each way in which a certificate can be right or wrong.
///
/// Each server file holds the certificate and then its key, as haproxy, openssl and Python's `ssl` take them.
pub(crate) struct Pki {
    dir: TempDir,
}

impl Pki {
    /// Makes the authority and the certificates.
    pub(crate) fn new() -> Self {
        Self::of(&["localhost", "127.0.0.1"])
    }

    /// The same for a server of these names, which may be addresses.
    pub(crate) fn of(names: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("aviary-pki-")
            .tempdir()
            .expect("the temporary directory can be written");
        let pki = Self { dir };
        let ours = authority("aviary test authority");
        let theirs = authority("an authority that nobody trusts");
        pki.write("ca.pem", &ours.certificate);

        let (valid, past) = ((2024, 2124), (2020, 2021));
        pki.write("good.pem", &server(&ours, names, valid));
        pki.write("expired.pem", &server(&ours, names, past));
        pki.write("wrong-name.pem", &server(&ours, &["elsewhere.example"], valid));
        pki.write("unknown-issuer.pem", &server(&theirs, names, valid));
        pki
    }

    /// The authority's certificate: what a client is to trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// For `localhost` and `127.0.0.1`, signed by [`ca`](Self::ca), valid.
    pub(crate) fn good(&self) -> PathBuf {
        self.path("good.pem")
    }

    /// As [`good`](Self::good), but it ended with the year 2020.
    pub(crate) fn expired(&self) -> PathBuf {
        self.path("expired.pem")
    }

    /// As [`good`](Self::good), but for another host.
    pub(crate) fn wrong_name(&self) -> PathBuf {
        self.path("wrong-name.pem")
    }

    /// As [`good`](Self::good), but signed by somebody else.
    pub(crate) fn unknown_issuer(&self) -> PathBuf {
        self.path("unknown-issuer.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, pem: &str) {
        let path: &Path = &self.path(name);
        fs::write(path, pem).expect("the temporary directory can be written");
        // Some readers of secrets refuse a file that everybody can read.
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is our file");
    }
}

/// An authority that can sign.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2125, 1, 1));
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = params.self_signed(&key).expect("the parameters are right").pem();
    Authority { certificate, issuer: Issuer::new(params, key) }
}

/// A server's certificate and key, valid from one New Year to another.
fn server(authority: &Authority, names: &[&str], (from, until): (i32, i32)) -> String {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("the names are ASCII");
    params.distinguished_name.push(DnType::CommonName, "aviary test server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = params.signed_by(&key, &authority.issuer).expect("the parameters are right");
    certificate.pem() + &key.serialize_pem()
}
