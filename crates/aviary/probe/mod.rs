//! `aviary probe`: attempts by hand, with their phases; what `nc`, `openssl s_client` and `curl -w` are reached for.

pub(crate) mod json;
pub(crate) mod paint;
pub(crate) mod sentence;
mod summary;
mod text;

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use aviary_core::{Clock as _, Endpoint, Evidence, Micros, Outcome, endpoint};
use aviary_probe::{
    AddressChoice, DEADLINE_US, Dns, Family, Host, KeyExchange, Network as _, Observation, Prober, Question,
    Source, SystemClock, Target, TlsClient,
};
use clap::{Args, ValueEnum};

use self::{summary::Summary, text::Screen};
use crate::{ask, output::Format};

/// Makes attempts and shows what came of them.
#[derive(Args, Debug)]
pub(crate) struct ProbeArguments {
    /// What to probe: PROTOCOL://HOST:PORT, with tcp, tls, udp, pickle, pickle+tls or https
    #[arg(value_name = "URL", required = true)]
    endpoints: Vec<Endpoint>,

    /// How many attempts to make for each URL, one a second; a summary comes at the end, and at Ctrl-C
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,

    /// The Graphite name to send, instead of aviary.probe.PROTOCOL
    #[arg(long, value_parser = graphite_name)]
    name: Option<String>,

    /// PEM certificates to trust beside the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Count a datapoint as delivered once the peer's kernel has acknowledged it, for peers that never close
    #[arg(long)]
    kernel_acked: bool,

    /// Which addresses of a name to use
    #[arg(long, value_enum, default_value_t)]
    family: FamilyArgument,

    /// Probe every address of a name, not one of them: the dead one of four is seen
    #[arg(long)]
    all_addresses: bool,

    /// Use this address for a name at a port instead of looking it up; several take turns
    #[arg(long, value_name = "HOST:PORT:ADDRESS")]
    resolve: Vec<Override>,

    /// Ask this name server instead of the host's; may be given several times
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = name_server)]
    name_server: Vec<SocketAddr>,

    /// Leave this host from one of its addresses, or through an interface
    #[arg(long, value_name = "ADDRESS|INTERFACE")]
    source: Option<Source>,

    /// Offer X25519MLKEM768 before X25519
    #[arg(long)]
    hybrid: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum FamilyArgument {
    /// IPv4, and IPv6 where there is none
    #[default]
    Any,
    /// IPv4 only
    Ipv4,
    /// IPv6 only
    Ipv6,
}

impl From<FamilyArgument> for Family {
    fn from(family: FamilyArgument) -> Self {
        match family {
            FamilyArgument::Any => Self::Any,
            FamilyArgument::Ipv4 => Self::Ipv4,
            FamilyArgument::Ipv6 => Self::Ipv6,
        }
    }
}

fn graphite_name(name: &str) -> Result<String, String> {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(aviary_core::graphite::is_name_byte);
    if name.split('.').all(is_part) {
        Ok(name.to_owned())
    } else {
        Err("a Graphite name is parts of letters, digits, `_` and `-` with dots between".to_owned())
    }
}

/// An address to use for a name at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Override {
    host: String,
    port: u16,
    address: IpAddr,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (host, rest) = text.split_once(':')?;
            let (port, address) = rest.split_once(':')?;
            // With or without the dot of the root, and in any case: as endpoints are read.
            let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            let address =
                address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
            Some(Self { host, port: port.parse().ok()?, address: address.parse().ok()? })
        };
        let parsed =
            parsed().filter(|parsed| !parsed.host.is_empty() && parsed.host.parse::<IpAddr>().is_err());
        parsed.ok_or_else(|| {
            "write HOST:PORT:ADDRESS, a name and the address to use for it, such as \
             graphite.example.com:2003:192.0.2.7"
                .to_owned()
        })
    }
}

impl Override {
    fn is_of(&self, endpoint: &Endpoint) -> bool {
        matches!(endpoint.host(), endpoint::Host::Name(name) if *name == self.host)
            && endpoint.port() == self.port
    }
}

const DNS_PORT: u16 = 53;

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match (text.parse::<SocketAddr>(), bracketed.parse::<IpAddr>()) {
        (Ok(address), _) if address.port() != 0 => Ok(address),
        (_, Ok(address)) => Ok(SocketAddr::new(address, DNS_PORT)),
        _ => Err("write the name server's address, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53"
            .to_owned()),
    }
}

/// One URL, at one of its addresses or at whichever has its turn.
struct Place {
    only: Option<IpAddr>,
    summary: Summary,
}

/// What is probed, and what came of it so far.
struct Probed {
    target: Target,
    /// What `--resolve` says of it.
    given: Vec<IpAddr>,
    /// In the order in which they were first probed.
    places: Vec<Place>,
}

/// How many addresses of one name are probed, and summed up, at most.
const ADDRESSES_MAX: usize = 256;

/// Makes the attempts and prints each. Returns whether every one was delivered, as far as its protocol can show.
pub(crate) fn probe(arguments: &ProbeArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut probed = arguments.probed()?;
    aviary_probe::warm_up();
    ask::runtime()?.block_on(async {
        let dns = match arguments.name_server.as_slice() {
            [] => Dns::from_system()?,
            servers => Dns::with_servers(servers)?,
        };
        let dns = arguments
            .resolve
            .iter()
            .fold(dns, |dns, Override { host, port, address }| dns.overriding(host, *port, *address));
        let session = Session { arguments, host: Host::new(dns), screen: Screen::for_stdout() };
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        let mut all_delivered = true;
        let mut is_interrupted = false;
        for round in 1..=arguments.count {
            tokio::select! {
                biased;
                _ = &mut interrupt => is_interrupted = true,
                delivered = session.round(round, &mut probed, out) => all_delivered &= delivered?,
            }
            if is_interrupted {
                break;
            }
        }
        if arguments.format == Format::Text && arguments.count > 1 {
            session.sum_up(&probed, out)?;
        }
        Ok(all_delivered && !is_interrupted)
    })
}

impl ProbeArguments {
    fn probed(&self) -> anyhow::Result<Vec<Probed>> {
        let exchange = if self.hybrid { KeyExchange::Hybrid } else { KeyExchange::Classic };
        let ca = match &self.ca {
            Some(path) => {
                vec![std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?]
            }
            None => Vec::new(),
        };
        let ca: Vec<&[u8]> = ca.iter().map(Vec::as_slice).collect();
        let tls = TlsClient::new(&ca, exchange)
            .with_context(|| self.ca.as_ref().map_or_else(String::new, |path| path.display().to_string()))?;
        for unused in &self.resolve {
            if !self.endpoints.iter().any(|endpoint| unused.is_of(endpoint)) {
                let Override { host, port, address } = unused;
                return Err(anyhow!(
                    "--resolve {host}:{port}:{address} is for no URL: none has the host {host} and the port {port}"
                ));
            }
        }
        let probed = self.endpoints.iter().map(|endpoint| {
            let default = || format!("aviary.probe.{}", endpoint.protocol().graphite_name());
            let name = self.name.clone().unwrap_or_else(default);
            let target = Target::new(endpoint.clone(), &name, &tls, None)?;
            let target = target.addressing(AddressChoice::Rotate, self.family.into());
            let target = if self.kernel_acked { target.counting(Evidence::KernelAcked) } else { target };
            let target = match &self.source {
                Some(source) => target.from_source(source.clone()),
                None => target,
            };
            let given = self.resolve.iter().filter(|given| given.is_of(endpoint)).map(|given| given.address);
            Ok(Probed { target, given: given.collect(), places: Vec::new() })
        });
        probed.collect()
    }
}

/// What stays the same from round to round.
struct Session<'a> {
    arguments: &'a ProbeArguments,
    host: Host,
    screen: Screen,
}

impl Session<'_> {
    /// One attempt at each place, and then, unless it is the last round, the rest of a second.
    async fn round(&self, number: u64, probed: &mut [Probed], out: &mut impl Write) -> anyhow::Result<bool> {
        let mut all_delivered = true;
        let mut started = SystemClock.monotonic();
        // One after the other: what one handshake costs must not show in another's timings.
        for probed in probed {
            for only in self.addresses(probed).await {
                started = SystemClock.monotonic();
                let observed = self.attempt(number, &probed.target, only, started, out).await?;
                all_delivered &= matches!(observed.outcome, Outcome::Delivered(_));
                probed.count(only, &observed);
            }
        }
        if number < self.arguments.count {
            // From the last attempt on, so that no place sees two within a second whatever the others took.
            let spent = SystemClock.monotonic().since(started);
            tokio::time::sleep(Duration::from_micros(1_000_000_u64.saturating_sub(spent))).await;
        }
        Ok(all_delivered)
    }

    async fn attempt(
        &self,
        number: u64,
        target: &Target,
        only: Option<IpAddr>,
        started: Micros,
        out: &mut impl Write,
    ) -> anyhow::Result<Observation> {
        let at_one;
        let target = match only {
            Some(address) => {
                let choice = AddressChoice::Only(address);
                at_one = target.clone().addressing(choice, self.arguments.family.into());
                &at_one
            }
            None => target,
        };
        let prober = Prober::new(self.host.clone(), SystemClock).inspecting_tls();
        let second = SystemClock.wall().second();
        let observed = prober.run(target, second, started.plus(DEADLINE_US)).await;
        let endpoint = target.endpoint();
        match self.arguments.format {
            Format::Json => writeln!(out, "{}", json::line(endpoint, second, &observed))?,
            Format::Text if self.arguments.count > 1 => {
                self.screen.show_line(out, number, endpoint, &observed)?
            }
            Format::Text => self.screen.show(out, endpoint, second, &observed)?,
        }
        out.flush()?;
        Ok(observed)
    }

    /// The addresses to probe one by one in one round; `None` for whichever has its turn.
    async fn addresses(&self, probed: &Probed) -> Vec<Option<IpAddr>> {
        let endpoint::Host::Name(name) = probed.target.endpoint().host() else { return vec![None] };
        if !self.arguments.all_addresses {
            return vec![None];
        }
        if !probed.given.is_empty() {
            return probed.given.iter().copied().map(Some).collect();
        }
        let second = SystemClock.wall().second();
        let lookup = self.host.resolve(Question { name, family: self.arguments.family.into(), second });
        match tokio::time::timeout(Duration::from_micros(DEADLINE_US), lookup).await {
            Ok(Ok(mut addresses)) => {
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(ADDRESSES_MAX);
                addresses.into_iter().map(Some).collect()
            }
            // An attempt says best what is wrong with the name.
            _ => vec![None],
        }
    }

    fn sum_up(&self, probed: &[Probed], out: &mut impl Write) -> std::io::Result<()> {
        if let Some(legend) = self.screen.legend() {
            writeln!(out, "      {legend}")?;
        }
        for probed in probed {
            for Place { only, summary } in &probed.places {
                let at = only.map(|address| format!(" at {address}")).unwrap_or_default();
                writeln!(out, "{}{at}", self.screen.paint.strong(probed.target.endpoint()))?;
                writeln!(out, "  {}", summary.text())?;
            }
        }
        Ok(())
    }
}

impl Probed {
    fn count(&mut self, only: Option<IpAddr>, observed: &Observation) {
        let known = self.places.iter().position(|place| place.only == only);
        let index = known.unwrap_or_else(|| {
            // Names whose addresses come and go for ever are summed up in the last place.
            if self.places.len() < ADDRESSES_MAX {
                self.places.push(Place { only, summary: Summary::default() });
            }
            self.places.len() - 1
        });
        self.places[index].summary.add(observed);
    }
}
