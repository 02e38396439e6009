//! `[sink]`: the receiving side, for what has no Graphite behind it.

use std::net::SocketAddr;

use super::{
    context::Refusal,
    reader::Reader,
    scalar,
    secret::{self, Secret},
};

/// The sink's part of the configuration: where it listens, by protocol.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    /// Lines over TCP.
    pub(crate) tcp: Option<SocketAddr>,
    /// Lines in UDP datagrams.
    pub(crate) udp: Option<SocketAddr>,
    /// Pickles over TCP.
    pub(crate) pickle: Option<SocketAddr>,
    /// Lines over TLS.
    pub(crate) tls: Option<SocketAddr>,
    /// Pickles over TLS.
    pub(crate) pickle_tls: Option<SocketAddr>,
    /// Lines in the bodies of HTTPS requests.
    pub(crate) https: Option<SocketAddr>,
    /// The certificates and the key of the TLS listeners, as PEM; absent: made at start.
    pub(crate) certificate: Option<Secret>,
}

impl Sink {
    /// The listeners by their keys.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let listeners = [
            ("tcp", self.tcp),
            ("udp", self.udp),
            ("pickle", self.pickle),
            ("tls", self.tls),
            ("pickle_tls", self.pickle_tls),
            ("https", self.https),
        ];
        listeners.into_iter().filter_map(|(key, address)| Some((key, address?)))
    }
}

/// Reads `[sink]`.
pub(super) fn sink(reader: &mut Reader<'_>) -> Option<Sink> {
    let sink = Sink {
        tcp: reader.optional("tcp", "takes lines over TCP", scalar::listener("127.0.0.1:2003")),
        udp: reader.optional("udp", "takes lines in UDP datagrams", scalar::listener("127.0.0.1:2003")),
        pickle: reader.optional("pickle", "takes pickles over TCP", scalar::listener("127.0.0.1:2004")),
        tls: reader.optional("tls", "takes lines over TLS", scalar::listener("127.0.0.1:2030")),
        pickle_tls: reader.optional(
            "pickle_tls",
            "takes pickles over TLS",
            scalar::listener("127.0.0.1:2040"),
        ),
        https: reader.optional("https", "takes lines in HTTPS requests", scalar::listener("127.0.0.1:2443")),
        certificate: reader.optional(
            "certificate",
            "certificates and key in one PEM file; absent: made at start, for localhost and 127.0.0.1",
            secret::certificate_and_key(),
        ),
    };
    let keys = ["tcp", "udp", "pickle", "tls", "pickle_tls", "https"];
    if !keys.iter().any(|key| reader.has(key)) {
        let message = "[sink] has no listener, and would receive nothing";
        reader.refuse_whole(Refusal::new(message).help("add one, such as tcp = \"127.0.0.1:2003\""));
    }
    Some(sink)
}
