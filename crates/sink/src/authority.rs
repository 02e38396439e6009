//! An authority that certifies servers, well or with a flaw.

use std::{fmt, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::PrivateKeyDer;

use crate::{Identity, IdentityError};

/// An authority that nobody knows until shown [`Authority::pem`]. Its key is in memory only, and gone with it.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It ended in 2001.
    Expired,
    /// It begins in 2999.
    NotYetValid,
    /// It is for `elsewhere.invalid`, whatever name was asked for.
    WrongName,
    /// An authority of the same name signed it, with another key.
    UnknownIssuer,
}

impl Authority {
    /// A new authority. Its dates are as wide as rcgen's defaults (1975 to 4096): it lives as long as the process.
    pub fn new() -> Result<Self, IdentityError> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "aviary sink, made at start");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().map_err(IdentityError::Making)?;
        CertifiedIssuer::self_signed(ca, key).map(Self).map_err(IdentityError::Making)
    }

    /// The certificate that a prober must trust, as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// An identity for `names`, which are host names and addresses, with a key of its own.
    pub fn identity(&self, names: &[&str]) -> Result<Identity, IdentityError> {
        self.sign(names, None)
    }

    /// An identity for `names` whose certificate nobody should accept, for this one reason.
    pub fn flawed(&self, names: &[&str], flaw: Flaw) -> Result<Identity, IdentityError> {
        match flaw {
            Flaw::UnknownIssuer => Self::new()?.sign(names, None),
            Flaw::WrongName => self.sign(&["elsewhere.invalid"], None),
            Flaw::Expired | Flaw::NotYetValid => self.sign(names, Some(flaw)),
        }
    }

    fn sign(&self, names: &[&str], flaw: Option<Flaw>) -> Result<Identity, IdentityError> {
        let owned: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut leaf = CertificateParams::new(owned).map_err(IdentityError::Making)?;
        leaf.distinguished_name = DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or_default());
        leaf.use_authority_key_identifier_extension = true;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        match flaw {
            Some(Flaw::Expired) => leaf.not_after = date_time_ymd(2001, 1, 1),
            Some(Flaw::NotYetValid) => leaf.not_before = date_time_ymd(2999, 1, 1),
            _ => {}
        }
        let key = KeyPair::generate().map_err(IdentityError::Making)?;
        let leaf = leaf.signed_by(&key, &self.0).map_err(IdentityError::Making)?;
        let key = Arc::new(PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        Ok(Identity::signed(leaf.der().clone(), key, self.pem()))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}
