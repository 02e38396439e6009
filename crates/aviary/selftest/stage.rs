//! Where cases are played: each with a sink of its own, and a name server where it is about names, on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::Context as _;
use aviary_core::{Clock as _, Fault, LocalFault, Outcome, Protocol};
use aviary_probe::{
    AddressChoice, DEADLINE_US, Dns, Family, Host, KeyExchange, Prober, STARVED_US, SystemClock, Target,
    TlsClient,
};
use aviary_sink::{Addresses, Arrival, Authority, Identity, Misbehaviour, NameServer, Options, Sink};
use tokio::{sync::mpsc, time::timeout};

use super::cases::{Play, Row};

/// What sinks are called where names are asked for. No host has it: the ending is kept for tests (RFC 6761).
const NAME: &str = "sink.aviary.test";

/// How long a datapoint that must arrive may take from the verdict to the sink's hand.
const ARRIVAL: Duration = Duration::from_secs(2);

/// How long one that must not arrive is waited for.
const NO_ARRIVAL: Duration = Duration::from_millis(30);

/// How often a case is played where the machine was too busy to measure anything.
const TRIES: usize = 4;

/// What was seen of a case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) outcome: Outcome,
    /// From the start of the attempt to its outcome, in microseconds.
    pub(super) elapsed_us: u32,
    /// Whether the sink has the datapoint.
    pub(super) arrived: bool,
}

/// What all cases share.
pub(super) struct Stage {
    authority: Authority,
    good: Identity,
    tls: TlsClient,
    /// Whether this host has an IPv6 loopback address.
    has_ipv6: bool,
}

/// The names that certificates are for.
const NAMES: &[&str] = &[NAME, "127.0.0.1", "::1"];

impl Stage {
    pub(super) fn new() -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let good = authority.identity(NAMES)?;
        let tls = TlsClient::new(&[authority.pem().as_bytes()], KeyExchange::Classic)?;
        let has_ipv6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        Ok(Self { authority, good, tls, has_ipv6 })
    }

    /// Why `row` cannot be played on this host, if it cannot.
    pub(super) fn obstacle(&self, row: &Row) -> Option<&'static str> {
        (listen_at(row).is_ipv6() && !self.has_ipv6).then_some("this host has no address ::1")
    }

    /// Plays `row` over `protocol`. Where the machine gave the attempt, or the sink, no processor time, what was seen says
    /// nothing of the fault, and it is played again, a few times.
    pub(super) async fn play(&self, row: &Row, protocol: Protocol) -> anyhow::Result<Seen> {
        let expected = row.outcome(protocol);
        let mut seen = self.play_once(row, protocol).await?;
        for _ in 1..TRIES {
            if !is_starved(&seen) && (seen.outcome == expected || !is_timed_out(&seen)) {
                break;
            }
            seen = self.play_once(row, protocol).await?;
        }
        Ok(seen)
    }

    async fn play_once(&self, row: &Row, protocol: Protocol) -> anyhow::Result<Seen> {
        let at = SocketAddr::new(listen_at(row), 0);
        let identity = match row.play {
            Play::Certificate(flaw) => self.authority.flawed(NAMES, flaw)?,
            _ => self.good.clone(),
        };
        let mut listen = Addresses::default();
        *listen.get_mut(protocol) = Some(at);
        let (sink, arrivals) = Sink::start(Options::new(listen, identity), SystemClock).await?;
        let address = sink.addresses().get(protocol).context("the sink has no address")?;
        if let Play::Sink(how) = row.play
            && how != Misbehaviour::None
        {
            sink.misbehave(protocol, how).await?;
        }

        let (host, dns, family, _name_server) = match row.play {
            Play::Names(how, addresses, family) => {
                let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let name_server = NameServer::start(at, addresses.to_vec(), how).await?;
                (NAME.to_owned(), Dns::with_servers(&[name_server.address()])?, family, Some(name_server))
            }
            // Nobody is there to be asked: an address is no name.
            _ => (bracketed(address.ip()), Dns::with_servers(&[])?, Family::Any, None),
        };
        let endpoint = format!("{protocol}://{host}:{}", address.port()).parse()?;
        let name = format!("aviary.selftest.{}", protocol.graphite_name());
        let target = Target::new(endpoint, &name, &self.tls, None)?;
        let target = target.addressing(AddressChoice::First, family);
        let seen = attempt(dns, &target).await;

        let arrived = arrives(arrivals, row.arrives, &name).await;
        sink.stop().await;
        Ok(Seen { arrived, ..seen })
    }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Where the sink listens: where the name server will say that it does, if an attempt is to get so far.
const fn listen_at(row: &Row) -> IpAddr {
    match row.play {
        Play::Names(_, [IpAddr::V6(address), ..], Family::Any) => IpAddr::V6(*address),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

async fn attempt(dns: Dns, target: &Target) -> Seen {
    let prober = Prober::new(Host::new(dns), SystemClock);
    let second = SystemClock.wall().second();
    let observed = prober.run(target, second, SystemClock.monotonic().plus(DEADLINE_US)).await;
    Seen { outcome: observed.outcome, elapsed_us: observed.timings.total_us, arrived: false }
}

async fn arrives(mut arrivals: mpsc::Receiver<Arrival>, expected: Option<bool>, name: &str) -> bool {
    let patience = if expected == Some(true) { ARRIVAL } else { NO_ARRIVAL };
    let arrival = timeout(patience, arrivals.recv()).await.ok().flatten();
    arrival.is_some_and(|arrival| arrival.name == name)
}

const fn is_timed_out(seen: &Seen) -> bool {
    matches!(seen.outcome, Outcome::Lost { fault: Fault::Timeout, .. })
}

fn is_starved(seen: &Seen) -> bool {
    matches!(seen.outcome, Outcome::Local { fault: LocalFault::Starved, .. })
        || u64::from(seen.elapsed_us) > DEADLINE_US + STARVED_US / 2
}
