//! `aviary probe`: one attempt per URL, with its phases.

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::Context as _;
use aviary_core::{Clock as _, Endpoint, Evidence, Fault, LocalFault, Outcome, Phase, Second};
use aviary_probe::{
    AddressChoice, DEADLINE_US, Dns, Family, Handshake, Host, KeyExchange, Observation, Prober, SystemClock,
    Target, TlsClient, TlsFacts,
};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::{ask, output::Format};

/// Makes attempts and shows what came of them.
#[derive(Args, Debug)]
pub(crate) struct ProbeArguments {
    /// What to probe: PROTOCOL://HOST:PORT, with tcp, tls, udp, pickle, pickle+tls or https
    #[arg(value_name = "URL", required = true)]
    endpoints: Vec<Endpoint>,

    /// How many attempts to make for each URL, one a second
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

/// Makes the attempts and prints each. Returns whether every one was delivered, as far as its protocol can show.
pub(crate) fn probe(arguments: &ProbeArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let exchange = if arguments.hybrid { KeyExchange::Hybrid } else { KeyExchange::Classic };
    let ca = match &arguments.ca {
        Some(path) => vec![std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?],
        None => Vec::new(),
    };
    let ca: Vec<&[u8]> = ca.iter().map(Vec::as_slice).collect();
    let tls = TlsClient::new(&ca, exchange)
        .with_context(|| arguments.ca.as_ref().map_or_else(String::new, |path| path.display().to_string()))?;
    let targets = arguments.endpoints.iter().map(|endpoint| {
        let default = || format!("aviary.probe.{}", endpoint.protocol().graphite_name());
        let name = arguments.name.clone().unwrap_or_else(default);
        let target = Target::new(endpoint.clone(), &name, &tls, None)?;
        let target = target.addressing(AddressChoice::Rotate, arguments.family.into());
        Ok(if arguments.kernel_acked { target.counting(Evidence::KernelAcked) } else { target })
    });
    let targets = targets.collect::<anyhow::Result<Vec<_>>>()?;
    aviary_probe::warm_up();
    ask::runtime()?.block_on(async {
        let prober = Prober::new(Host::new(Dns::from_system()?), SystemClock).inspecting_tls();
        let mut all_delivered = true;
        for round in 0..arguments.count {
            let started = SystemClock.monotonic();
            let second = SystemClock.wall().second();
            // One after the other: what one handshake costs must not show in another's timings.
            for target in &targets {
                let deadline = SystemClock.monotonic().plus(DEADLINE_US);
                let observed = prober.run(target, second, deadline).await;
                all_delivered &= matches!(observed.outcome, Outcome::Delivered(_));
                match arguments.format {
                    Format::Text => print_text(out, target.endpoint(), &observed)?,
                    Format::Json => writeln!(out, "{}", to_json(target.endpoint(), second, &observed))?,
                }
                out.flush()?;
            }
            if round + 1 < arguments.count {
                let spent = SystemClock.monotonic().since(started);
                tokio::time::sleep(Duration::from_micros(1_000_000_u64.saturating_sub(spent))).await;
            }
        }
        Ok(all_delivered)
    })
}

fn to_json(endpoint: &Endpoint, second: Second, observed: &Observation) -> Value {
    let mut line = Map::new();
    line.insert("endpoint".to_owned(), endpoint.to_string().into());
    line.insert("protocol".to_owned(), endpoint.protocol().name().into());
    line.insert("slot".to_owned(), second.0.into());
    line.insert("outcome".to_owned(), observed.outcome.name().into());
    match observed.outcome {
        Outcome::Delivered(evidence) => {
            line.insert("evidence".to_owned(), evidence.name().into());
        }
        Outcome::Lost { phase, fault } => {
            line.insert("phase".to_owned(), phase.name().into());
            line.insert("fault".to_owned(), fault.name().into());
            if let Fault::Status(status) = fault {
                line.insert("status".to_owned(), status.into());
            }
        }
        Outcome::Local { phase, fault } => {
            line.insert("phase".to_owned(), phase.name().into());
            line.insert("fault".to_owned(), fault.name().into());
        }
        Outcome::Missed | Outcome::Muted => {}
    }
    if let (Some(reached), false) = (observed.reached, matches!(observed.outcome, Outcome::Delivered(_))) {
        line.insert("reached".to_owned(), reached.name().into());
    }
    line.insert("address".to_owned(), observed.address.map(|address| address.to_string()).into());
    let mut timings = Map::new();
    for phase in Phase::ALL {
        if let Some(micros) = observed.timings.get(*phase) {
            timings.insert(phase.name().to_owned(), micros.into());
        }
    }
    timings.insert("total".to_owned(), observed.timings.total_us.into());
    line.insert("timings_us".to_owned(), timings.into());
    if let Some(tls) = &observed.tls {
        line.insert(
            "tls".to_owned(),
            json!({
                "version": tls.version,
                "cipher": tls.cipher,
                "handshake": handshake_name(tls.handshake),
                "not_after": not_after(tls),
            }),
        );
    }
    line.into()
}

const fn handshake_name(handshake: Handshake) -> &'static str {
    match handshake {
        Handshake::Full => "full",
        Handshake::Resumed => "resumed",
        Handshake::Failed => "failed",
    }
}

fn not_after(tls: &TlsFacts) -> Option<String> {
    jiff::Timestamp::from_second(tls.not_after?).ok().map(|at| at.to_string())
}

fn print_text(out: &mut impl Write, endpoint: &Endpoint, observed: &Observation) -> std::io::Result<()> {
    let total = duration(observed.timings.total_us);
    let via = match observed.address {
        Some(address) => format!(" via {address}"),
        None => String::new(),
    };
    writeln!(out, "{endpoint}  {} after {total}{via}: {}", observed.outcome.name(), sentence(observed))?;
    let phases = Phase::ALL
        .iter()
        .filter_map(|phase| Some(format!("{phase} {}", duration(observed.timings.get(*phase)?))))
        .collect::<Vec<_>>();
    if !phases.is_empty() {
        writeln!(out, "    {}", phases.join("  "))?;
    }
    if let Some(tls) = &observed.tls {
        let ends = not_after(tls).unwrap_or_else(|| "unknown".to_owned());
        let handshake = handshake_name(tls.handshake);
        if tls.handshake == Handshake::Failed {
            return writeln!(out, "    certificate until {ends}");
        }
        writeln!(
            out,
            "    TLS {}, {}, {handshake} handshake, certificate until {ends}",
            tls.version, tls.cipher
        )?;
    }
    Ok(())
}

fn duration(micros: u32) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        _ => format!("{:.1} ms", f64::from(micros) / 1_000.0),
    }
}

/// What happened, for somebody who does not know our words.
fn sentence(observed: &Observation) -> String {
    match observed.outcome {
        Outcome::Delivered(Evidence::Sent) => {
            "the datagram left this host; nothing can show whether it arrived".to_owned()
        }
        Outcome::Delivered(Evidence::KernelAcked) => {
            "the peer's system took every byte; its program did not close".to_owned()
        }
        Outcome::Delivered(Evidence::PeerClosed) => "the peer read everything and closed".to_owned(),
        Outcome::Delivered(Evidence::AppAcked) => "the server answered that it took the datapoint".to_owned(),
        Outcome::Delivered(Evidence::Stored) => "the datapoint was found stored".to_owned(),
        Outcome::Lost { phase, fault } => lost(phase, fault, observed.reached),
        Outcome::Local { fault, .. } => local(fault).to_owned(),
        Outcome::Missed => "the attempt was not made".to_owned(),
        Outcome::Muted => "probing is muted".to_owned(),
    }
}

fn lost(phase: Phase, fault: Fault, reached: Option<Evidence>) -> String {
    let text = match (phase, fault) {
        (Phase::Dns, Fault::Timeout) => "no name server answered in time",
        (_, Fault::NameNotFound) => "the name does not exist, or has no address of the wanted family",
        (_, Fault::Resolver) => "the name server failed or cannot be reached",
        (Phase::Connect, Fault::Timeout) => "no answer to the connection request: a firewall or a dead host",
        (Phase::Confirm, Fault::Refused) => "the host answered that nothing listens on that UDP port",
        (_, Fault::Refused) => "the connection was refused: nothing listens on that port",
        (Phase::Tls, Fault::Timeout) => "connected, then the TLS handshake stalled",
        (_, Fault::BadCertificate) => {
            "the certificate does not verify: expired, of another name, or of an unknown issuer"
        }
        (_, Fault::TlsProtocol) => "the TLS handshake failed: is this a TLS port, with a version in common?",
        (Phase::Confirm, Fault::Timeout) if reached == Some(Evidence::KernelAcked) => {
            "connected and sent, then silence: the peer's system takes the bytes, its program does not read or close"
        }
        (_, Fault::Timeout) => "silence until the deadline of one second",
        (_, Fault::Reset) => "the peer reset the connection: it closed without reading everything",
        (_, Fault::Closed) => "the peer ended the connection before the exchange was complete",
        (_, Fault::Unreachable) => "a router answered that the address cannot be reached",
        (_, Fault::Status(0)) => "the answer was no HTTP",
        (_, Fault::Status(status)) => return format!("the server answered with HTTP status {status}"),
    };
    text.to_owned()
}

const fn local(fault: LocalFault) -> &'static str {
    match fault {
        LocalFault::Bug => "aviary itself failed; please report it",
        LocalFault::ClockStep => "this host's clock was stepped",
        LocalFault::NoBuffers => "this host is out of socket buffers or memory",
        LocalFault::NoFiles => "this host or process is out of file descriptors",
        LocalFault::NoPorts => "this host has no free port towards that address",
        LocalFault::NoRoute => "this host has no route to that address, or its own firewall forbids it",
        LocalFault::Starved => "this host gave aviary no processor time, so the measurement means nothing",
    }
}
