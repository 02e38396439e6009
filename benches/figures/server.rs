//! The server that is probed: aviary's own sink, in a process of its own.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::Context as _;
use aviary_core::Protocol;
use aviary_probe::SystemClock;
use aviary_sink::{Addresses, Count, Identity, Misbehaviour, Options, Sink};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::fleet;

/// A running server.
pub(crate) struct Server {
    sink: Sink,
    pub(crate) ca: String,
}

impl Server {
    /// Listens for all six protocols on every address of this host, on ports that are free.
    pub(crate) async fn start(never_reads: bool) -> anyhow::Result<Self> {
        let Certified { leaf, key, ca } = Certified::new()?;
        let identity =
            Identity::from_pem(leaf.as_bytes(), key.as_bytes()).context("the benchmark's certificate")?;
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let options = Options::new(Addresses::all(everywhere), identity);
        let (sink, mut arrivals) = Sink::start(options, SystemClock).await?;
        tokio::spawn(async move { while arrivals.recv().await.is_some() {} });
        if never_reads {
            sink.misbehave(Protocol::Tcp, Misbehaviour::NeverRead).await?;
        }
        Ok(Self { sink, ca })
    }

    /// Its ports, by the names of the protocols.
    pub(crate) fn ports(&self) -> BTreeMap<String, u16> {
        let port = |protocol: &Protocol| {
            let address = self.sink.addresses().get(*protocol)?;
            Some((protocol.name().to_owned(), address.port()))
        };
        Protocol::ALL.iter().filter_map(port).collect()
    }

    /// How many datapoints it was handed.
    pub(crate) fn arrived(&self) -> u64 {
        let counts = self.sink.counts();
        counts.total(Count::Arrived) + counts.total(Count::Overflowed)
    }
}

/// A certificate for each address that a server is reached under, its key, and the authority that signed it, as PEM.
pub(crate) struct Certified {
    pub(crate) leaf: String,
    pub(crate) key: String,
    pub(crate) ca: String,
}

impl Certified {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "aviary figures");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = rcgen::CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
        let addresses = (0..usize::from(fleet::ADDRESSES)).map(|index| fleet::address(index).to_string());
        let mut leaf = CertificateParams::new(addresses.collect::<Vec<_>>())?;
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = leaf.signed_by(&key, &ca)?.pem();
        Ok(Self { leaf, key: key.serialize_pem(), ca: ca.pem() })
    }
}
