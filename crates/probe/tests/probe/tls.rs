//! TLS: who the server must be, that nothing is resumed, what our first flight looks like, and servers that end badly.

use std::{io, net::SocketAddr, sync::Arc};

use aviary_core::{Evidence, Fault, Outcome, Phase, Protocol};
use aviary_probe::{Handshake, KeyExchange, Observation, Target, TlsClient};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs, aws_lc_rs::kx_group},
    server::{Acceptor, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    rig::{
        A_SECOND, NAME, Rig, attempt, attempt_once, delivered, in_time, lost, prober, run, run_once, target,
        target_with, this_second,
    },
    sockets::{accept, listener, read_to_end, try_accept},
};

/// An authority of the test's own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
type Leaf = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of the test's own");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A prober's settings that trust it.
    pub(crate) fn client(&self) -> TlsClient {
        crate::rig::trusting(&[self.0.pem().as_bytes()])
    }

    /// A server's certificate for `name`.
    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        self.sign(name, |_| {})
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let (mut params, key) = leaf_params(name);
        change(&mut params);
        let leaf = params.signed_by(&key, &self.0).expect("a certificate");
        (leaf.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate");
        roots
    }

    /// A server's settings with `leaf`.
    pub(crate) fn server(&self, leaf: &Leaf) -> Arc<ServerConfig> {
        server(leaf, &[&TLS13, &TLS12], aws_lc_rs::ALL_KX_GROUPS)
    }
}

fn leaf_params(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params, KeyPair::generate().expect("a key"))
}

fn provider(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() })
}

fn server(
    (leaf, key): &Leaf,
    versions: &[&'static SupportedProtocolVersion],
    groups: &[&'static dyn SupportedKxGroup],
) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider(groups))
        .with_protocol_versions(versions)
        .expect("versions that the provider has")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.clone()], key.clone_key())
        .expect("a pair");
    Arc::new(config)
}

/// How a server ends a connection that it has read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Notifies,
    MerelyCloses,
}

/// One attempt over `tls` at a server with these settings; returns what the server read too.
async fn exchange(
    config: &Arc<ServerConfig>,
    end: End,
    host: &str,
    client: &TlsClient,
) -> (Observation, io::Result<Vec<u8>>) {
    exchange_with(config, end, host, |url| target_with(url, client, None)).await
}

/// The same with a target that `make` makes of the URL.
async fn exchange_with(
    config: &Arc<ServerConfig>,
    end: End,
    host: &str,
    make: impl FnOnce(&str) -> Target,
) -> (Observation, io::Result<Vec<u8>>) {
    let (listener, address) = listener();
    let target = make(&format!("tls://{host}:{}", address.port()));
    let prober = prober().inspecting_tls();
    let serve = async || {
        let mut stream = TlsAcceptor::from(Arc::clone(config)).accept(try_accept(&listener).await?).await?;
        let mut read = Vec::new();
        let ended = stream.read_to_end(&mut read).await;
        if end == End::Notifies {
            stream.shutdown().await.ok();
        }
        ended.map(|_| read)
    };
    in_time(async || tokio::join!(run_once(&prober, &target, this_second()), serve())).await
}

#[tokio::test]
async fn an_address_is_known_by_the_name_that_it_was_found_under() {
    let authority = Authority::new();
    let (config, client) = (authority.server(&authority.leaf("g.test")), authority.client());
    let wrong = lost(Phase::Tls, Fault::BadCertificate);
    for (name, expected) in [("g.test", delivered(Evidence::PeerClosed)), ("h.test", wrong)] {
        let make = |url: &str| target_with(url, &client, None).known_as(name).expect("a name");
        let (seen, _) = exchange_with(&config, End::Notifies, "127.0.0.1", make).await;
        assert_eq!(seen.outcome, expected, "{name}");
    }
}

#[tokio::test]
async fn every_handshake_is_a_full_one() {
    let rig = Rig::start().await;
    let prober = prober().inspecting_tls();
    for protocol in [Protocol::Tls, Protocol::PickleTls, Protocol::Https] {
        let target = rig.target(protocol);
        for _ in 0..3 {
            let seen = run(&prober, &target, this_second(), A_SECOND).await;
            assert_eq!(seen.outcome, delivered(protocol.strongest_evidence()), "{protocol}");
            let facts = seen.tls.expect("asked for");
            assert_eq!((facts.handshake, facts.version), (Handshake::Full, "1.3"), "{protocol}");
            assert!(facts.cipher.starts_with("TLS13_"), "{protocol}: {}", facts.cipher);
            assert_eq!(facts.not_after, Some(67_090_118_400), "rcgen's 4096-01-01");
        }
    }
}

#[tokio::test]
async fn now_and_then_is_once_a_minute_for_each_target() {
    let rig = Rig::start().await;
    let prober = prober().inspecting_tls_sometimes();
    let tcp = rig.target(Protocol::Tcp);
    let start = this_second();
    let mut inspected = Vec::new();
    for name in ["canary.one", "canary.two"] {
        let target = Target::new(rig.url(Protocol::Tls).parse().unwrap(), name, &rig.tls, None).unwrap();
        for after in 0..120 {
            let seen = run(&prober, &target, start.plus(after), A_SECOND).await;
            assert_eq!(seen.outcome, delivered(Evidence::PeerClosed));
            if let Some(facts) = seen.tls {
                assert_eq!(facts.not_after, Some(67_090_118_400), "rcgen's 4096-01-01");
                inspected.push((name, after));
            }
        }
    }
    let [(_, one), (_, one_again), (_, two), (_, two_again)] = inspected[..] else { panic!("{inspected:?}") };
    assert_eq!((one_again - one, two_again - two), (60, 60));
    assert_ne!(one, two, "each in a second of its own");
    assert_eq!(run(&prober, &tcp, start.plus(one), A_SECOND).await.tls, None);
}

/// Which is when somebody most wants to know it.
#[tokio::test]
async fn an_expired_certificate_tells_when_it_ended() {
    let authority = Authority::new();
    let leaf = authority.sign("localhost", |leaf| leaf.not_after = date_time_ymd(2024, 1, 1));
    let acceptor = acceptor(authority.server(&leaf));
    let (listener, address) = listener();
    let target = target_with(&format!("tls://localhost:{}", address.port()), &authority.client(), None);
    let probers = [prober().inspecting_tls(), prober().inspecting_tls_sometimes(), prober()];
    let mut told = Vec::new();
    for prober in probers {
        let serve = async || acceptor.accept(try_accept(&listener).await?).await;
        let once = async || tokio::join!(run_once(&prober, &target, this_second()), serve());
        let (seen, _) = in_time(once).await;
        assert_eq!(seen.outcome, BAD);
        told.push(seen.tls.map(|facts| (facts.handshake, facts.not_after)));
    }
    let ended = Some((Handshake::Failed, Some(1_704_067_200)));
    assert_eq!(told, [ended, ended, None]);
}

/// The proof that the test above would notice: the same kind of server resumes sessions of whoever wants it to.
#[tokio::test]
async fn others_do_resume() {
    let authority = Authority::new();
    let acceptor = acceptor(authority.server(&authority.leaf("localhost")));
    let (listener, address) = listener();
    let config = ClientConfig::builder_with_provider(provider(aws_lc_rs::ALL_KX_GROUPS))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let client = std::net::TcpStream::connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        let client = tokio::net::TcpStream::from_std(client).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let (client, server) = tokio::join!(connector.connect(name, client), async {
            acceptor.accept(accept(&listener).await).await
        });
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        kinds.push(client.get_ref().1.handshake_kind());
        server.shutdown().await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
    }
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

pub(crate) fn acceptor(config: Arc<ServerConfig>) -> TlsAcceptor {
    TlsAcceptor::from(config)
}

#[tokio::test]
async fn a_certificate_must_be_of_a_known_issuer_for_the_name_and_of_this_time() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let client = authority.client();
    let good = authority.leaf("localhost");
    let (lone, lone_key) = leaf_params("localhost");
    let lone = lone.self_signed(&lone_key).unwrap().der().clone();
    let table = [
        ("good", good, delivered(Evidence::PeerClosed)),
        ("of an unknown issuer", stranger.leaf("localhost"), BAD),
        ("signed by itself", (lone, PrivateKeyDer::Pkcs8(lone_key.serialize_der().into())), BAD),
        ("of another name", authority.leaf("example.com"), BAD),
        ("of the address only", authority.leaf("127.0.0.1"), BAD),
        ("expired", authority.sign("localhost", |leaf| leaf.not_after = date_time_ymd(2024, 1, 1)), BAD),
        (
            "not yet valid",
            authority.sign("localhost", |leaf| leaf.not_before = date_time_ymd(2999, 1, 1)),
            BAD,
        ),
        (
            "for clients",
            authority.sign("localhost", |leaf| {
                leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
            }),
            BAD,
        ),
    ];
    for versions in [[&TLS13], [&TLS12]] {
        for (what, leaf, outcome) in &table {
            let config = server(leaf, &versions, aws_lc_rs::ALL_KX_GROUPS);
            let (seen, read) = exchange(&config, End::Notifies, "localhost", &client).await;
            assert_eq!(seen.outcome, *outcome, "{what}: {seen:?}");
            assert_eq!(read.is_ok(), *outcome != BAD, "{what}: nothing is sent to a stranger: {read:?}");
            assert!(seen.timings.get(Phase::Tls).is_some(), "{what}");
        }
    }
}

const BAD: Outcome = lost(Phase::Tls, Fault::BadCertificate);

#[tokio::test]
async fn an_address_is_verified_as_one() {
    let authority = Authority::new();
    let config = authority.server(&authority.leaf("127.0.0.1"));
    let (seen, _) = exchange(&config, End::Notifies, "127.0.0.1", &authority.client()).await;
    assert_eq!(seen.outcome, delivered(Evidence::PeerClosed));
}

#[tokio::test]
async fn both_versions_and_servers_that_want_another_curve() {
    let authority = Authority::new();
    let leaf = authority.leaf("localhost");
    let table: [(&str, &'static SupportedProtocolVersion, &[&'static dyn SupportedKxGroup]); 5] = [
        ("1.2", &TLS12, &[kx_group::X25519]),
        ("1.2", &TLS12, &[kx_group::SECP384R1]),
        ("1.3", &TLS13, &[kx_group::X25519]),
        ("1.3", &TLS13, &[kx_group::SECP256R1]),
        ("1.3", &TLS13, &[kx_group::SECP384R1]),
    ];
    for (version, protocol, groups) in table {
        let config = server(&leaf, &[protocol], groups);
        let (seen, read) = exchange(&config, End::Notifies, "localhost", &authority.client()).await;
        assert_eq!(seen.outcome, delivered(Evidence::PeerClosed), "{version} {groups:?}");
        let facts = seen.tls.unwrap();
        assert_eq!((facts.version, facts.handshake), (version, Handshake::Full), "{groups:?}");
        assert!(read.unwrap().starts_with(NAME.as_bytes()));
    }
    // Nothing in common.
    let config = server(&leaf, &[&TLS13], &[kx_group::MLKEM768]);
    let (seen, _) = exchange(&config, End::Notifies, "localhost", &authority.client()).await;
    assert_eq!(seen.outcome, lost(Phase::Tls, Fault::TlsProtocol));
}

#[tokio::test]
async fn a_peer_that_closes_without_saying_so_has_closed() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let config = server(&authority.leaf("localhost"), &[version], aws_lc_rs::ALL_KX_GROUPS);
        let (seen, read) = exchange(&config, End::MerelyCloses, "localhost", &authority.client()).await;
        assert_eq!(seen.outcome, delivered(Evidence::PeerClosed), "{version:?}");
        assert!(read.unwrap().starts_with(NAME.as_bytes()), "whole, with our close_notify");
    }
}

/// As a proxy without a backend does: the handshake is complete, and nobody reads. With TLS 1.2, where the server has
/// the last word of the handshake and so can close before anything of ours is under way.
#[tokio::test]
async fn a_peer_that_closes_behind_the_handshake_has_read_nothing() {
    let authority = Authority::new();
    let leaf = authority.leaf("localhost");
    let acceptor = acceptor(server(&leaf, &[&TLS12], aws_lc_rs::ALL_KX_GROUPS));
    let (listener, address) = listener();
    let target = target_with(&format!("tls://localhost:{}", address.port()), &authority.client(), None);
    for notifies in [true, false] {
        let serve = async || -> io::Result<()> {
            let mut stream = acceptor.accept(try_accept(&listener).await?).await?;
            if notifies {
                stream.shutdown().await.ok();
            }
            Ok(())
        };
        let once = async || tokio::join!(attempt_once(&target, this_second()), serve());
        let (seen, served) = in_time(once).await;
        served.unwrap();
        let expected = [(Phase::Send, Fault::Reset), (Phase::Confirm, Fault::Reset)]
            .map(|(phase, fault)| lost(phase, fault));
        assert!(expected.contains(&seen.outcome), "{notifies}: {seen:?}");
    }
}

/// With TLS 1.3 the client's handshake is complete before the server has looked at who the client is.
#[tokio::test]
async fn a_server_that_wants_to_know_who_we_are_takes_nothing() {
    let authority = Authority::new();
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(authority.roots()),
        provider(aws_lc_rs::ALL_KX_GROUPS),
    )
    .build()
    .unwrap();
    let (leaf, key) = authority.leaf("localhost");
    for version in [&TLS13, &TLS12] {
        let config = ServerConfig::builder_with_provider(provider(aws_lc_rs::ALL_KX_GROUPS))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(vec![leaf.clone()], key.clone_key())
            .unwrap();
        let (seen, read) = exchange(&Arc::new(config), End::Notifies, "localhost", &authority.client()).await;
        read.unwrap_err();
        let phases = if version == &TLS13 { [Phase::Send, Phase::Confirm] } else { [Phase::Tls; 2] };
        let expected = phases.map(|phase| [Fault::TlsProtocol, Fault::Reset].map(|fault| lost(phase, fault)));
        assert!(expected.concat().contains(&seen.outcome), "{version:?}: {seen:?}");
    }
}

#[tokio::test]
async fn what_is_no_tls() {
    // Nothing is answered by a server that waits for the end of a line.
    let rig = Rig::start().await;
    let url = format!("tls://localhost:{}", rig.address(Protocol::Tcp).port());
    assert_eq!(attempt(&target(&url)).await.outcome, lost(Phase::Tls, Fault::Timeout));

    let table: [(&str, &[u8], Fault); 4] = [
        ("a greeting", b"220 mail.example.com ESMTP\r\n", Fault::TlsProtocol),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n", Fault::TlsProtocol),
        ("an alert", b"\x15\x03\x03\x00\x02\x02\x28", Fault::TlsProtocol),
        ("an end", b"", Fault::Closed),
    ];
    for (what, says, fault) in table {
        let (listener, address) = listener();
        let target = target(&format!("tls://localhost:{}", address.port()));
        let serve = async || -> io::Result<()> {
            let mut stream = try_accept(&listener).await?;
            // The first flight, so that nothing is left unread that would make of the end a reset.
            stream.read_buf(&mut Vec::with_capacity(4096)).await?;
            stream.write_all(says).await?;
            stream.shutdown().await?;
            // We hang up as soon as we know.
            read_to_end(&mut stream).await.1.ok();
            Ok(())
        };
        let once = async || tokio::join!(attempt_once(&target, this_second()), serve());
        let (seen, served) = in_time(once).await;
        served.unwrap();
        assert_eq!(seen.outcome, lost(Phase::Tls, fault), "{what}: {seen:?}");
        assert_eq!(seen.tls, None);
    }

    let (listener, address) = listener();
    let target = target(&format!("tls://localhost:{}", address.port()));
    let peek = async || try_accept(&listener).await?.peek(&mut [0]).await;
    let (seen, peeked) = in_time(async || tokio::join!(attempt_once(&target, this_second()), peek())).await;
    peeked.unwrap();
    assert_eq!(seen.outcome, lost(Phase::Tls, Fault::Reset), "closed unread");
}

/// What a first flight shows.
struct Hello {
    bytes: usize,
    server_name: Option<String>,
    protocols: Vec<Vec<u8>>,
    key_shares: Vec<u16>,
    resumes: bool,
}

async fn hello(url: impl FnOnce(SocketAddr) -> String, exchange: KeyExchange) -> Hello {
    let (listener, address) = listener();
    let client = TlsClient::new(&[], exchange).expect("settings");
    let target = target_with(&url(address), &client, None);
    let read = async || -> io::Result<_> {
        let mut stream = try_accept(&listener).await?;
        let mut bytes = vec![0; 5];
        stream.read_exact(&mut bytes).await?;
        let length = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
        bytes.resize(5 + length, 0);
        stream.read_exact(&mut bytes[5..]).await?;
        Ok(bytes)
    };
    let (seen, bytes) = in_time(async || tokio::join!(attempt_once(&target, this_second()), read())).await;
    let bytes = bytes.expect("a ClientHello");
    assert_eq!(bytes[0], 22, "a record of the handshake");
    assert_eq!(seen.outcome, lost(Phase::Tls, Fault::Closed));
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut bytes.as_slice()).expect("in memory");
    let accepted =
        acceptor.accept().map_err(|(error, _)| error).expect("a ClientHello").expect("one whole message");
    let read = accepted.client_hello();
    Hello {
        bytes: bytes.len(),
        server_name: read.server_name().map(str::to_owned),
        protocols: read.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
        key_shares: key_shares(&bytes[9..]),
        resumes: extension(&bytes[9..], 41).is_some(),
    }
}

/// The body of the extension `wanted` of a ClientHello (RFC 8446, 4.1.2).
fn extension(hello: &[u8], wanted: u16) -> Option<&[u8]> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    // The version and the random, then the session, the cipher suites and the compression methods.
    let mut rest = &hello[34..];
    for header in [1, 2, 1] {
        rest = &rest[header + number(&rest[..header])..];
    }
    rest = &rest[2..];
    while !rest.is_empty() {
        let (kind, length) = (number(&rest[..2]), number(&rest[2..4]));
        if kind == usize::from(wanted) {
            return Some(&rest[4..4 + length]);
        }
        rest = &rest[4 + length..];
    }
    None
}

/// The groups of a ClientHello's key shares, in their order.
fn key_shares(hello: &[u8]) -> Vec<u16> {
    let mut shares = &extension(hello, 51).expect("TLS 1.3 is offered")[2..];
    let mut groups = Vec::new();
    while let [a, b, c, d, rest @ ..] = shares {
        groups.push(u16::from_be_bytes([*a, *b]));
        shares = &rest[usize::from(u16::from_be_bytes([*c, *d]))..];
    }
    groups
}

#[tokio::test]
async fn the_first_flight() {
    const X25519: u16 = 0x001d;
    const X25519_MLKEM768: u16 = 0x11ec;
    let tls = |address: SocketAddr| format!("tls://localhost:{}", address.port());
    let classic = hello(tls, KeyExchange::Classic).await;
    assert_eq!(classic.key_shares, [X25519]);
    assert!(classic.bytes < 400, "one segment: {}", classic.bytes);
    assert_eq!(classic.server_name.as_deref(), Some("localhost"), "the name that is configured");
    assert_eq!(classic.protocols, [] as [Vec<u8>; 0]);
    assert!(!classic.resumes);

    let hybrid = hello(tls, KeyExchange::Hybrid).await;
    assert_eq!(hybrid.key_shares[0], X25519_MLKEM768);
    assert!((1200..2000).contains(&hybrid.bytes), "{}", hybrid.bytes);

    let https = hello(|address| format!("https://localhost:{}/", address.port()), KeyExchange::Classic).await;
    assert_eq!(https.protocols, [b"http/1.1"]);
    assert!(https.bytes < 400, "{}", https.bytes);

    let address = hello(|address| format!("tls://{address}"), KeyExchange::Classic).await;
    assert_eq!(address.server_name, None, "addresses are not names (RFC 6066, 3)");
}
