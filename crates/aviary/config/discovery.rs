//! Questions whose answers are endpoints: DNS records, files and HTTP servers that others keep up to date.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use aviary_core::{Endpoint, Protocol, endpoint::Host};
use reqwest::Url;

use super::{
    agent::is_loopback,
    context::Refusal,
    endpoint::{Addresses, Kinds},
    kind::{Kind, Whole, member, text},
    reader::Reader,
    scalar,
    secret::{self, Pem, Secret},
    source::quotable,
};

/// How long what is answered no more is probed on.
const GRACE: Duration = Duration::from_secs(60);

/// How many endpoints an answer may have where the file does not say it.
const AT_MOST: u32 = 256;

/// How often an HTTP server is asked where the file does not say it, and at most.
const EVERY: Duration = Duration::from_secs(60);
const EVERY_MIN: Duration = Duration::from_secs(5);

/// The keys of which one says who is asked.
const SOURCES: [&str; 4] = ["srv", "a", "file_sd", "http_sd"];

/// Keys, and with which of the sources they go.
const GO_WITH: [(&str, &[&str]); 7] = [
    ("protocol", &SOURCES),
    ("grace", &SOURCES),
    ("at_most", &SOURCES),
    ("port", &["a"]),
    ("every", &["http_sd"]),
    ("token", &["http_sd"]),
    ("ca", &["http_sd"]),
];

/// A question whose answers are endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discovery {
    /// Who is asked.
    pub(crate) source: Source,
    /// How what is found is probed.
    pub(crate) protocol: Protocol,
    /// And over HTTPS, at which path.
    pub(crate) path: String,
    /// How long what is answered no more is probed on.
    pub(crate) grace: Duration,
    /// An answer with more endpoints is refused.
    pub(crate) at_most: usize,
    /// Which of a name's addresses is probed, of names that are found.
    pub(crate) addresses: Addresses,
    /// From which kinds of vantage.
    pub(crate) kinds: Kinds,
}

/// Who is asked for endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// DNS, for the hosts and ports of a service.
    Srv(String),
    /// DNS, for the addresses of a name, each of which is an endpoint at this port.
    Addresses(String, u16),
    /// Files in the form of Prometheus' `file_sd`; one `*` may stand in the name of the last part.
    Files(PathBuf),
    /// An HTTP server that answers in the form of Prometheus' `http_sd`.
    Http(Box<Http>),
}

/// An HTTP server that knows endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    /// What is asked for.
    pub(crate) url: Url,
    /// How often.
    pub(crate) every: Duration,
    /// What it knows this agent by.
    pub(crate) token: Option<Secret>,
    /// An authority to trust beside the system's.
    pub(crate) ca: Option<Pem>,
}

/// How an endpoint was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The name whose address it is: the one that its certificate is for.
    pub(crate) known_as: Option<String>,
    /// Whether it is answered no more.
    pub(crate) is_going: Arc<AtomicBool>,
}

impl Discovery {
    /// What it is called where it is shown: `srv _graphite._tcp.example.com, tcp`.
    pub(crate) fn name(&self) -> String {
        let source = match &self.source {
            Source::Srv(name) => format!("srv {name}"),
            Source::Addresses(name, port) => format!("a {name}:{port}"),
            Source::Files(path) => format!("file_sd {}", path.display()),
            Source::Http(http) => format!("http_sd {}", http.url),
        };
        format!("{source}, {}{}", self.protocol, self.path)
    }

    /// The endpoint at `authority`, such as `graphite-1.example.com:2003`.
    ///
    /// # Errors
    /// Why it is none, by the rules for those that stand in a file.
    pub(crate) fn endpoint(&self, authority: &str) -> Result<Endpoint, String> {
        let is_plain = !authority.contains(['/', '?', '#', '@', '\\']);
        let text = format!("{}://{authority}{}", self.protocol, self.path);
        let parsed = text.parse::<Endpoint>().map_err(|error| error.to_string());
        let endpoint = parsed.map_err(|error| format!("`{}`: {error}", quotable(authority)))?;
        if is_plain { Ok(endpoint) } else { Err(format!("`{}` is no HOST:PORT", quotable(authority))) }
    }
}

/// Whether the table says that endpoints are to be found.
pub(super) fn is_meant(reader: &Reader<'_>) -> bool {
    SOURCES.iter().any(|key| reader.has(key))
}

/// Reads the keys of a discovery among those of an endpoint.
pub(super) fn discovery(reader: &mut Reader<'_>) -> Option<Discovery> {
    let srv = reader.optional(
        "srv",
        "DNS records that name hosts and ports",
        dns_name("_graphite._tcp.example.com"),
    );
    let a = reader.optional(
        "a",
        "a name each of whose addresses is an endpoint",
        dns_name("graphite.example.com"),
    );
    let file_sd = "files with targets, in Prometheus' JSON; one * may stand in the file's name";
    let file_sd = reader.optional("file_sd", file_sd, pattern());
    let http_sd = "a server that answers with targets, in Prometheus' JSON";
    let http_sd =
        reader.optional("http_sd", http_sd, scalar::http_url("https://inventory.example.com/graphite"));
    let protocol = reader.optional("protocol", "how what is found is probed", member(Protocol::ALL));
    let port = reader.optional("port", "the port at the addresses of `a`", Whole(1));
    let path = reader.optional("path", "the path of what is found, for https", url_path());
    let grace = "how long what is answered no more is probed on; 60s by default";
    let grace = reader.optional("grace", grace, scalar::seconds("60s"));
    let at_most = "an answer with more endpoints is refused; 256 by default";
    let at_most = reader.optional("at_most", at_most, Whole(1));
    let every =
        reader.optional("every", "how often `http_sd` is asked; 60s by default", scalar::duration("60s"));
    let token = reader.optional("token", "what `http_sd` knows this agent by", secret::api_key());
    let ca = reader.optional(
        "ca",
        "an authority to trust for `http_sd`, beside the system's",
        secret::authorities(),
    );

    refuse_what_does_not_go_together(reader);
    let addresses = |name| {
        let port = port.and_then(|port| u16::try_from(port).ok());
        if port.is_none() {
            let refusal =
                Refusal::new("the port of the addresses is missing, or none").help("add port = 2003");
            reader.refuse(if reader.has("port") { "port" } else { "a" }, refusal);
        }
        port.map(|port| Source::Addresses(name, port))
    };
    let every = every.unwrap_or(EVERY);
    if every < EVERY_MIN {
        reader.refuse("every", Refusal::new("that is too often").help("write \"5s\" or more"));
    }
    let http = |url: Url| {
        if token.is_some() && url.scheme() == "http" && !is_loopback(&url) {
            let message = format!("the token would cross the network to {url} in the clear");
            reader.refuse(
                "http_sd",
                Refusal::new(message).help("write https://, with `ca` where the authority is your own"),
            );
        }
        Source::Http(Box::new(Http { url, every, token, ca }))
    };
    let source = srv
        .map(Source::Srv)
        .or_else(|| a.and_then(addresses))
        .or_else(|| file_sd.map(Source::Files))
        .or_else(|| http_sd.map(http));
    if is_meant(reader) && !reader.has("protocol") {
        let help = "add protocol = \"tcp\", or another";
        let given = SOURCES.iter().find(|key| reader.has(key)).copied().unwrap_or("protocol");
        reader.refuse(given, Refusal::new("nothing says how what is found is probed").help(help));
    }
    let protocol = protocol?;
    if path.is_some() && protocol != Protocol::Https {
        let message = format!("`path` is of https, and this is {protocol}");
        reader.refuse("path", Refusal::new(message).help("take it out"));
    }
    Some(Discovery {
        source: source?,
        protocol,
        path: path.unwrap_or_default(),
        grace: grace.map_or(GRACE, Duration::from_secs),
        at_most: at_most.unwrap_or(AT_MOST) as usize,
        addresses: Addresses::default(),
        kinds: Kinds::default(),
    })
}

fn refuse_what_does_not_go_together(reader: &Reader<'_>) {
    let given: Vec<&str> = ["url"].into_iter().chain(SOURCES).filter(|key| reader.has(key)).collect();
    if let [one, others @ ..] = given.as_slice() {
        for other in others {
            let message = format!("`{other}` beside `{one}`: an entry has one of them");
            reader.refuse(other, Refusal::new(message).help("write an entry for each"));
        }
        for (key, sources) in GO_WITH.iter().chain(&[("path", SOURCES.as_slice())]) {
            if reader.has(key) && !sources.contains(one) {
                let message = format!("`{key}` goes with {}, and not with `{one}`", sources.join(", "));
                reader.refuse(key, Refusal::new(message).help("take it out"));
            }
        }
    }
}

/// A name that DNS is asked for.
fn dns_name(example: &'static str) -> impl Kind<Output = String> {
    text("a name", example, |given| {
        let endpoint = format!("tcp://{given}:1").parse::<Endpoint>();
        match endpoint.as_ref().map(Endpoint::host) {
            Ok(Host::Name(name)) if !given.contains([':', '/', '@']) => Ok(name.clone()),
            Ok(_) => Err(Refusal::new(format!("`{}` is no name that DNS knows", quotable(given)))
                .help("an address is written as a URL, such as \"tcp://192.0.2.7:2003\"")),
            Err(error) => Err(Refusal::new(error.to_string())),
        }
    })
}

/// Where files with targets are.
fn pattern() -> impl Kind<Output = PathBuf> {
    secret::beside(text("a path", "targets/*.json", |given| {
        let (directory, file) = given.rsplit_once('/').unwrap_or(("", given));
        if directory.contains('*') || file.matches('*').count() > 1 {
            let refusal = Refusal::new("a `*` may stand once, and in the last part of the path");
            return Err(refusal.help("write such as \"targets/*.json\""));
        }
        if !file.ends_with(".json") {
            let message = format!("`{}` is no file with JSON", quotable(file));
            return Err(
                Refusal::new(message).help("write the targets as JSON, in a file whose name ends in .json")
            );
        }
        Ok(given.to_owned())
    }))
}

fn url_path() -> impl Kind<Output = String> {
    text("a path", "/api/v1/sink", |given| {
        let parsed = format!("https://x{given}").parse::<Endpoint>();
        match parsed {
            Ok(endpoint) if given.starts_with('/') && endpoint.path() == given => Ok(given.to_owned()),
            _ => Err(Refusal::new(format!("`{}` is no path", quotable(given)))
                .help("write it as it stands in a URL, such as \"/api/v1/sink\"")),
        }
    })
}
