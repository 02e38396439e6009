//! `aviary init`: which usual ports a host answers, whether it can be read back, and a configuration for that.

mod draft;

use std::{
    fs::File,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use aviary_collector::{Credentials, Readback, Reader, Shown, look};
use aviary_core::{Clock as _, Endpoint, Fault, Outcome, Protocol, Second, Span, endpoint};
use aviary_probe::{
    Connection as _, DEADLINE_US, Dns, Family, Host, KeyExchange, Network as _, Prober, Question,
    SystemClock, Target, TlsClient,
};
use clap::Args;
use futures_util::future::join_all;
use reqwest::Url;
use tokio::{net::TcpStream, time::timeout};

use crate::ask;

/// Where ingestion usually is, by port: carbon, carbon-relay, carbon-relay-ng, and what hosted services add.
const ENDPOINTS: [(Protocol, u16); 11] = [
    (Protocol::Tcp, 2003),
    (Protocol::Tcp, 2023),
    (Protocol::Udp, 2003),
    (Protocol::Udp, 2023),
    (Protocol::Pickle, 2004),
    (Protocol::Pickle, 2013),
    (Protocol::Pickle, 2024),
    (Protocol::Tls, 2030),
    (Protocol::Tls, 20_030),
    (Protocol::PickleTls, 2040),
    (Protocol::PickleTls, 20_040),
];

/// Where storage can usually be read: graphite-web behind a proxy or not, Prometheus, VictoriaMetrics.
const READERS: [(&str, u16); 7] = [
    ("https", 443),
    ("http", 80),
    ("http", 8080),
    ("http", 8000),
    ("http", 8888),
    ("http", 9090),
    ("http", 8428),
];

/// How many datapoints are sent to each endpoint, one a second.
const DATAPOINTS: u64 = 3;

/// How long storage may take to show the first datapoint of a new series.
const SHOWN_WITHIN: Duration = Duration::from_secs(12);

/// How long an API may take over a connection.
const LISTENS_WITHIN: Duration = Duration::from_secs(3);

/// How often an API that takes connections is asked that has not answered yet: one that was just started is slow at first.
const ASKED_TIMES: u32 = 3;

/// How much of the past is looked at: enough for slots of a minute to show that they are.
const LOOKED_AT_SECONDS: u64 = 30;

/// Finds which protocols a host answers and whether it can be read back, and writes a configuration.
#[derive(Args, Debug)]
pub(crate) struct InitArguments {
    /// The host's name or address
    #[arg(value_name = "HOST")]
    host: String,

    /// Send datapoints called aviary.init.PROTOCOL_PORT, and look whether they are stored: without, what a port speaks
    /// is guessed from its number, since Graphite never answers
    #[arg(long)]
    send: bool,

    /// Look here too: an endpoint such as tls://HOST:12030, or an API to read from such as http://HOST:18080
    #[arg(long, value_name = "URL")]
    also: Vec<String>,

    /// Look only where --also says
    #[arg(long, requires = "also")]
    only: bool,

    /// PEM certificates to trust beside the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The configuration to write; one that exists is left alone
    #[arg(long, short, value_name = "FILE", default_value = "aviary.toml")]
    output: PathBuf,
}

/// What was found at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// Nobody answers, or not as the protocol has it.
    Nothing,
    /// The port answers; nothing was sent.
    Open,
    /// A datapoint was taken, as far as the protocol shows.
    Taken,
    /// A datapoint is in storage.
    Stored,
    /// A datapoint was taken, but storage, which can be read, does not show it.
    NotShown,
}

/// Where storage can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReadAt {
    url: Url,
    is_prometheus: bool,
    /// The seconds of its slots, where they are not single ones.
    coarse: Option<u64>,
}

/// Looks, says what it finds, and writes a configuration. Returns whether one was written.
pub(crate) fn init(arguments: &InitArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    if arguments.output.exists() {
        return Err(already_there(arguments));
    }
    aviary_probe::warm_up();
    ask::runtime()?.block_on(arguments.look(out))
}

fn already_there(arguments: &InitArguments) -> anyhow::Error {
    anyhow!("{} exists and is left alone; name another with --output", arguments.output.display())
}

impl InitArguments {
    async fn look(&self, out: &mut impl Write) -> anyhow::Result<bool> {
        let (endpoints, readers) = self.candidates()?;
        let ca = self
            .ca
            .as_ref()
            .map(|path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display())));
        let ca = ca.transpose()?;
        let begun = SystemClock.wall().second();
        let mut found = Vec::with_capacity(endpoints.len());
        if self.send {
            let tls = TlsClient::new(ca.as_deref().as_slice(), KeyExchange::Classic)?;
            found = send(&endpoints, &tls).await?;
        } else {
            let host = Host::new(Dns::from_system()?);
            for endpoint in &endpoints {
                found.push(knock(&host, endpoint).await);
            }
        }
        let mut read_at = Vec::new();
        for url in readers {
            if !is_listening(&url).await {
                continue;
            }
            let options = |reader| Readback {
                reader,
                url: url.clone(),
                credentials: Credentials::None,
                ca: ca.clone(),
                settle_seconds: 5,
            };
            let graphite = Reader::Graphite { resolution_seconds: 1, sum: String::new() };
            for (reader, is_prometheus) in [(graphite, false), (Reader::Prometheus, true)] {
                // VictoriaMetrics answers at once and shows nothing of the newest half minute.
                let is_sent = self.send && !is_prometheus;
                let sent = is_sent.then_some((&endpoints[..], &mut found[..]));
                if let Some(coarse) = read(&options(reader), sent, begun).await {
                    read_at.push(ReadAt { url: url.clone(), is_prometheus, coarse });
                    break;
                }
            }
        }
        for (endpoint, found) in endpoints.iter().zip(&found) {
            if let Some(words) = in_words(found, endpoint) {
                writeln!(out, "{endpoint}: {words}")?;
            }
        }
        tell_readers(out, &read_at, self.send)?;
        let is_worth = |found: &Found| *found != Found::Nothing;
        let usable: Vec<&Endpoint> =
            endpoints.iter().zip(&found).filter(|(_, found)| is_worth(found)).map(|(it, _)| it).collect();
        if usable.is_empty() {
            writeln!(out, "{} answers on none of the ports that were tried; nothing is written.", self.host)?;
            return Ok(false);
        }
        let text = draft::configuration(&self.host, &usable, read_at.first(), self.ca.as_deref());
        let mut file = match File::create_new(&self.output) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(already_there(self)),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write {}", self.output.display()));
            }
        };
        file.write_all(text.as_bytes())?;
        let name = self.output.display();
        writeln!(out, "Written to {name}. Look it through, then: aviary check {name} && aviary run {name}")?;
        Ok(true)
    }

    /// What is looked at: endpoints, and the roots of APIs.
    fn candidates(&self) -> anyhow::Result<(Vec<Endpoint>, Vec<Url>)> {
        let host = match self.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.host.clone(),
        };
        let (mut endpoints, mut readers) = (Vec::new(), Vec::new());
        let no_host = || format!("{} is no host's name or address", self.host);
        if !self.only {
            for (protocol, port) in ENDPOINTS {
                endpoints.push(format!("{protocol}://{host}:{port}").parse().with_context(no_host)?);
            }
            endpoints.push(format!("https://{host}/api/v1/sink").parse().with_context(no_host)?);
            for (scheme, port) in READERS {
                readers.push(Url::parse(&format!("{scheme}://{host}:{port}")).with_context(no_host)?);
            }
        }
        for also in &self.also {
            let url = Url::parse(also).with_context(|| format!("--also {also} is no URL"))?;
            // What ends in a path is a sink over HTTPS, and the root of an API otherwise.
            if url.scheme() == "http" || (url.scheme() == "https" && url.path() == "/") {
                readers.push(url);
            } else {
                endpoints.push(also.parse().with_context(|| format!("--also {also}"))?);
            }
        }
        Ok((endpoints, readers))
    }
}

/// Whether whatever `url` leads to takes connections, at any of its addresses: who does not is not asked.
#[expect(clippy::disallowed_methods, reason = "it is found as whoever reads will find it: by the system")]
async fn is_listening(url: &Url) -> bool {
    let (Some(name), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    let connect = TcpStream::connect((name.trim_matches(['[', ']']), port));
    timeout(LISTENS_WITHIN, connect).await.is_ok_and(|connected| connected.is_ok())
}

/// The name under which datapoints go to `endpoint`.
fn name(endpoint: &Endpoint) -> String {
    format!("aviary.init.{}_{}", endpoint.protocol().graphite_name(), endpoint.port())
}

/// Whether the port answers; nothing is sent. UDP never answers, and what HTTPS takes is not known from its port.
async fn knock(host: &Host, endpoint: &Endpoint) -> Found {
    if matches!(endpoint.protocol(), Protocol::Udp | Protocol::Https) {
        return Found::Nothing;
    }
    let connect = async {
        let address = match endpoint.host() {
            endpoint::Host::Address(address) => *address,
            endpoint::Host::Name(name) => {
                let second = SystemClock.wall().second();
                *host.resolve(Question { name, family: Family::Any, second }).await.ok()?.first()?
            }
        };
        host.connect(SocketAddr::new(address, endpoint.port()), None).await.ok()
    };
    match timeout(Duration::from_micros(DEADLINE_US), connect).await {
        Ok(Some(connection)) => {
            // Nothing was sent that could arrive late: it is closed as others are.
            connection.fuse().take_out();
            Found::Open
        }
        Ok(None) | Err(_) => Found::Nothing,
    }
}

/// Sends datapoints to each endpoint, one a second. One that was taken is enough, since a service, or this host, may be held up
/// for a second, and so is one that was refused.
async fn send(endpoints: &[Endpoint], tls: &TlsClient) -> anyhow::Result<Vec<Found>> {
    let prober = Prober::new(Host::new(Dns::from_system()?), SystemClock);
    let targets = endpoints.iter().map(|endpoint| Target::new(endpoint.clone(), &name(endpoint), tls, None));
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    let (mut taken, mut refused) = (vec![false; targets.len()], vec![false; targets.len()]);
    for _ in 0..DATAPOINTS {
        let begun = SystemClock.monotonic();
        let second = SystemClock.wall().second();
        // Systems say only so often a second that nobody is there, and of UDP nothing else is heard.
        let asked: Vec<usize> = (0..targets.len()).filter(|place| !refused[*place]).collect();
        let attempts =
            asked.iter().map(|place| prober.run(&targets[*place], second, begun.plus(DEADLINE_US)));
        for (place, observation) in asked.iter().zip(join_all(attempts).await) {
            match observation.outcome {
                Outcome::Delivered(_) => taken[*place] = true,
                Outcome::Lost { fault: Fault::Refused, .. } => refused[*place] = true,
                _ => {}
            }
        }
        let spent = SystemClock.monotonic().since(begun);
        tokio::time::sleep(Duration::from_micros(1_000_000_u64.saturating_sub(spent))).await;
    }
    let found = |place: usize| if taken[place] && !refused[place] { Found::Taken } else { Found::Nothing };
    Ok((0..targets.len()).map(found).collect())
}

/// Looks whether this API answers, and where datapoints were sent, which of them it shows. `None` where it does not;
/// otherwise the seconds of its slots where they are longer ones.
async fn read(
    options: &Readback,
    mut sent: Option<(&[Endpoint], &mut [Found])>,
    begun: Second,
) -> Option<Option<u64>> {
    let names: Vec<String> = match &sent {
        Some((endpoints, _)) => endpoints.iter().map(name).collect(),
        None => vec!["aviary.init.nobody".to_owned()],
    };
    let mut unanswered = 0;
    let patience = SystemClock.monotonic().plus(u64::try_from(SHOWN_WITHIN.as_micros()).unwrap_or(u64::MAX));
    loop {
        let now = SystemClock.wall().second();
        let span = Span::before(now, LOOKED_AT_SECONDS);
        let shown = match look(options, &names, span).await {
            Ok(shown) => shown,
            Err(error) => {
                unanswered += 1;
                if !error.is_passing || unanswered == ASKED_TIMES {
                    return None;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let coarse = shown.iter().find_map(|shown| match shown {
            Shown::Coarse(step) => Some(*step),
            _ => None,
        });
        let Some((_, found)) = &mut sent else { return Some(None) };
        let mut all_shown = true;
        for (shown, found) in shown.iter().zip(found.iter_mut()) {
            if !matches!(found, Found::Taken | Found::NotShown) {
                continue;
            }
            let is_there = match shown {
                Shown::Seconds(seconds) => seconds.iter().any(|second| *second >= begun),
                Shown::Coarse(_) => true,
                Shown::Absent => false,
            };
            *found = if is_there { Found::Stored } else { Found::NotShown };
            all_shown &= is_there;
        }
        if all_shown || SystemClock.monotonic() >= patience {
            return Some(coarse);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn in_words(found: &Found, endpoint: &Endpoint) -> Option<String> {
    let protocol = endpoint.protocol();
    Some(match found {
        Found::Nothing => return None,
        Found::Open => format!("answers; by its number it speaks {protocol} (--send tries it)"),
        Found::Taken if protocol == Protocol::Udp => {
            "sent; only storage can tell whether it arrives".to_owned()
        }
        Found::Taken => "takes datapoints, as far as the protocol can show".to_owned(),
        Found::Stored => "takes datapoints, and they are stored".to_owned(),
        Found::NotShown => {
            format!("takes connections, but {} is not in storage: is it {protocol} there?", name(endpoint))
        }
    })
}

fn tell_readers(out: &mut impl Write, readers: &[ReadAt], is_sent: bool) -> io::Result<()> {
    for ReadAt { url, is_prometheus, coarse } in readers {
        let api = if *is_prometheus { "Prometheus' query API" } else { "Graphite's /render" };
        write!(out, "{url}: answers as {api} does")?;
        match coarse {
            Some(step) => writeln!(
                out,
                ", and stores in slots of {step} s: single seconds cannot be read back before `aviary graphite-schema` is \
                 followed"
            )?,
            None if is_sent && !is_prometheus => writeln!(out, ", second by second")?,
            None => writeln!(out, "; whether it keeps single seconds was not tried")?,
        }
    }
    if readers.is_empty() {
        writeln!(out, "Nothing was found by which what is stored could be read back: UDP will be unproven.")?;
    }
    Ok(())
}
