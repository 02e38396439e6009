//! What is played, and what must be seen of it: the one table of expectations.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use aviary_core::{Evidence, Fault, Outcome, Phase, Protocol};
use aviary_probe::Family;
use aviary_sink::{Flaw, Misbehaviour, NameMisbehaviour};

/// One fault, over the protocols that must show it alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The fault's name.
    pub(super) fault: &'static str,
    pub(super) play: Play,
    pub(super) protocols: &'static [Protocol],
    pub(super) expected: Expected,
    /// Whether the datapoint must be found at the sink; `None` where either may be.
    pub(super) arrives: Option<bool>,
    /// What is played and why it must be seen so, for whoever reads the output; a line of 80 columns with the name.
    pub(super) why: &'static str,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Play {
    /// The server.
    Sink(Misbehaviour),
    /// The server's certificate.
    Certificate(Flaw),
    /// The name server, which has these addresses of the sink, of which the prober wants those of a family.
    Names(NameMisbehaviour, &'static [IpAddr], Family),
}

/// Which outcome must be seen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// Delivered, as far as the protocol can show.
    Delivered,
    /// This one.
    Outcome(Outcome),
}

impl Row {
    /// The outcome that must be seen over `protocol`.
    pub(super) const fn outcome(&self, protocol: Protocol) -> Outcome {
        match self.expected {
            Delivered => Outcome::Delivered(protocol.strongest_evidence()),
            Expected::Outcome(outcome) => outcome,
        }
    }
}

use Expected::Delivered;
use Misbehaviour as Sink;
use NameMisbehaviour as Names;

const ALL: &[Protocol] = Protocol::ALL;
const UDP: &[Protocol] = &[Protocol::Udp];
const HTTPS: &[Protocol] = &[Protocol::Https];
const PLAIN: &[Protocol] = &[Protocol::Pickle, Protocol::Tcp];
const TLS: &[Protocol] = &[Protocol::Https, Protocol::PickleTls, Protocol::Tls];
const STREAMS: &[Protocol] =
    &[Protocol::Https, Protocol::Pickle, Protocol::PickleTls, Protocol::Tcp, Protocol::Tls];

const IPV4: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::LOCALHOST)];
const IPV6: &[IpAddr] = &[IpAddr::V6(Ipv6Addr::LOCALHOST)];

const SENT: Expected = Expected::Outcome(Outcome::Delivered(Evidence::Sent));

const fn lost(phase: Phase, fault: Fault) -> Expected {
    Expected::Outcome(Outcome::Lost { phase, fault })
}

const fn slow(millis: u64) -> Play {
    Play::Sink(Sink::Slow { by: Duration::from_millis(millis) })
}

const fn row(
    fault: &'static str,
    play: Play,
    protocols: &'static [Protocol],
    expected: Expected,
    arrives: Option<bool>,
    why: &'static str,
) -> Row {
    Row { fault, play, protocols, expected, arrives, why }
}

/// A fault of the server, or of its certificate.
const fn server(
    fault: &'static str,
    play: Play,
    protocols: &'static [Protocol],
    expected: Expected,
    why: &'static str,
) -> Row {
    row(fault, play, protocols, expected, Some(false), why)
}

/// A fault of the name server, over every protocol: lookups come before them all.
const fn names(fault: &'static str, how: Names, expected: Expected, why: &'static str) -> Row {
    let arrives = Some(matches!(expected, Delivered));
    row(fault, Play::Names(how, IPV4, Family::Any), ALL, expected, arrives, why)
}

/// Every fault over every protocol that it concerns.
pub(super) const TABLE: &[Row] = &[
    row(
        "healthy",
        Play::Sink(Sink::None),
        ALL,
        Delivered,
        Some(true),
        "it reads to the end, and closes or answers",
    ),
    // The server.
    server(
        "refuse",
        Play::Sink(Sink::Refuse),
        STREAMS,
        lost(Phase::Connect, Fault::Refused),
        "nothing listens, and the host says so with a reset",
    ),
    server(
        "refuse",
        Play::Sink(Sink::Refuse),
        UDP,
        lost(Phase::Confirm, Fault::Refused),
        "nothing listens; ICMP says so once the datagram is sent",
    ),
    server(
        "never_read",
        Play::Sink(Sink::NeverRead),
        STREAMS,
        lost(Phase::Confirm, Fault::Timeout),
        "its system takes the bytes, its program never does",
    ),
    server(
        "never_read",
        Play::Sink(Sink::NeverRead),
        UDP,
        SENT,
        "datagrams are discarded: sent is all that UDP can show",
    ),
    server(
        "read_then_reset",
        Play::Sink(Sink::ReadThenReset),
        STREAMS,
        lost(Phase::Confirm, Fault::Reset),
        "a reset is no orderly end, whatever was read",
    ),
    server(
        "tar_pit",
        Play::Sink(Sink::TarPit),
        STREAMS,
        lost(Phase::Confirm, Fault::Timeout),
        "a byte a second is read: it is not through in time",
    ),
    server(
        "status=503",
        Play::Sink(Sink::Status(503)),
        HTTPS,
        lost(Phase::Confirm, Fault::Status(503)),
        "the answer is a refusal, and says which",
    ),
    server(
        "status=302",
        Play::Sink(Sink::Status(302)),
        HTTPS,
        lost(Phase::Confirm, Fault::Status(302)),
        "a redirection has stored nothing",
    ),
    server(
        "drop",
        Play::Sink(Sink::Drop { share: 1.0 }),
        ALL,
        Delivered,
        "thrown away behind a good face: only storage can tell",
    ),
    row("slow=300ms", slow(300), ALL, Delivered, Some(true), "slow and within the deadline is delivered"),
    row(
        "slow=1500ms",
        slow(1500),
        STREAMS,
        lost(Phase::Confirm, Fault::Timeout),
        None,
        "beyond the deadline is lost, even where it is stored late",
    ),
    row("slow=1500ms", slow(1500), UDP, SENT, None, "nobody waits for a datagram to be read"),
    // The handshake.
    server(
        "stall_handshake",
        Play::Sink(Sink::StallHandshake),
        TLS,
        lost(Phase::Tls, Fault::Timeout),
        "the ClientHello is never answered",
    ),
    server(
        "stall_handshake",
        Play::Sink(Sink::StallHandshake),
        PLAIN,
        lost(Phase::Confirm, Fault::Timeout),
        "without TLS it is a server that never reads",
    ),
    server(
        "cut_handshake",
        Play::Sink(Sink::CutHandshake),
        TLS,
        lost(Phase::Tls, Fault::Closed),
        "the connection ends in the middle of the handshake",
    ),
    server(
        "old_version",
        Play::Sink(Sink::OldVersion),
        TLS,
        lost(Phase::Tls, Fault::TlsProtocol),
        "the server speaks TLS 1.1 only",
    ),
    server(
        "tls_alert",
        Play::Sink(Sink::TlsAlert),
        TLS,
        lost(Phase::Tls, Fault::TlsProtocol),
        "the server has nothing in common, and alerts",
    ),
    server(
        "plain_text",
        Play::Sink(Sink::PlainText),
        TLS,
        lost(Phase::Tls, Fault::TlsProtocol),
        "the server answers in the clear: no TLS is there",
    ),
    server(
        "expired",
        Play::Certificate(Flaw::Expired),
        TLS,
        lost(Phase::Tls, Fault::BadCertificate),
        "the certificate ended in 2001",
    ),
    server(
        "not_yet_valid",
        Play::Certificate(Flaw::NotYetValid),
        TLS,
        lost(Phase::Tls, Fault::BadCertificate),
        "the certificate begins in 2999",
    ),
    server(
        "wrong_name",
        Play::Certificate(Flaw::WrongName),
        TLS,
        lost(Phase::Tls, Fault::BadCertificate),
        "the certificate is for elsewhere.invalid",
    ),
    server(
        "unknown_issuer",
        Play::Certificate(Flaw::UnknownIssuer),
        TLS,
        lost(Phase::Tls, Fault::BadCertificate),
        "nobody we trust has signed the certificate",
    ),
    // The name.
    names("name", Names::None, Delivered, "the name server answers well"),
    names("name_slow=200ms", slow_name(200), Delivered, "late and within the deadline"),
    names(
        "name_slow=1500ms",
        slow_name(1500),
        lost(Phase::Dns, Fault::Timeout),
        "the answer comes behind the deadline",
    ),
    names("name_silent", Names::Silent, lost(Phase::Dns, Fault::Timeout), "questions are dropped"),
    names(
        "name_closed",
        Names::Closed,
        lost(Phase::Dns, Fault::Timeout),
        "nobody listens where names are asked",
    ),
    names("name_fails", Names::Fails, lost(Phase::Dns, Fault::Resolver), "the name server answers SERVFAIL"),
    names(
        "name_refused",
        Names::Refuses,
        lost(Phase::Dns, Fault::Resolver),
        "the name server answers REFUSED",
    ),
    names(
        "name_unknown",
        Names::NoSuchName,
        lost(Phase::Dns, Fault::NameNotFound),
        "the name server answers NXDOMAIN",
    ),
    names(
        "name_empty",
        Names::NoAddress,
        lost(Phase::Dns, Fault::NameNotFound),
        "the name exists, and has no address",
    ),
    names(
        "name_garbage",
        Names::Garbage,
        lost(Phase::Dns, Fault::Resolver),
        "the name server answers with noise: it failed",
    ),
    names("name_truncated", Names::Truncated, Delivered, "what was cut is asked for again over TCP"),
    names("name_wrong_id", Names::WrongId, Delivered, "a forged answer comes first, and is ignored"),
    names(
        "name_elsewhere",
        Names::WrongSource,
        Delivered,
        "an answer of another server comes first, and is ignored",
    ),
    row(
        "name_lies",
        Play::Names(Names::WrongFamily, IPV4, Family::Ipv4),
        ALL,
        lost(Phase::Dns, Fault::NameNotFound),
        Some(false),
        "asked for IPv4, it answers with IPv6: no address to use",
    ),
    row(
        "name_ipv6_only",
        Play::Names(Names::None, IPV6, Family::Ipv4),
        ALL,
        lost(Phase::Dns, Fault::NameNotFound),
        Some(false),
        "only IPv6 is there, only IPv4 is wanted",
    ),
    row(
        "name_ipv6_only",
        Play::Names(Names::None, IPV6, Family::Any),
        ALL,
        Delivered,
        Some(true),
        "only IPv6 is there, and is used",
    ),
];

const fn slow_name(millis: u64) -> Names {
    Names::Slow { by: Duration::from_millis(millis) }
}
