//! An endpoint: an address with a protocol, written as a URL.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::named::named;

named! {
    /// The six ways in which a datapoint is handed over. A closed set: `match`, no plug-ins.
    pub enum Protocol {
        /// A Graphite line in the body of an HTTP request over TLS.
        Https = "https",
        /// A length-prefixed pickle over TCP.
        Pickle = "pickle",
        /// A length-prefixed pickle over TLS.
        PickleTls = "pickle+tls",
        /// A Graphite line over TCP.
        Tcp = "tcp",
        /// A Graphite line over TLS.
        Tls = "tls",
        /// A Graphite line in a UDP datagram.
        Udp = "udp",
    }
}

impl Protocol {
    /// Whether the connection is encrypted.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::PickleTls | Self::Tls)
    }

    /// Whether the datapoint travels as a pickle.
    pub const fn is_pickle(self) -> bool {
        matches!(self, Self::Pickle | Self::PickleTls)
    }

    /// The name as part of a Graphite name, where `+` may not stand.
    pub const fn graphite_name(self) -> &'static str {
        match self {
            Self::PickleTls => "pickle_tls",
            other => other.name(),
        }
    }

    /// The highest rung of evidence that the protocol itself can show, storage aside.
    pub const fn strongest_evidence(self) -> crate::Evidence {
        match self {
            Self::Https => crate::Evidence::AppAcked,
            Self::Pickle | Self::PickleTls | Self::Tcp | Self::Tls => crate::Evidence::PeerClosed,
            Self::Udp => crate::Evidence::Sent,
        }
    }
}

/// The host of an endpoint: a name to look up, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address, not looked up.
    Address(IpAddr),
    /// A name, in lower case, looked up for each attempt.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// An address with a protocol, such as `tls://graphite.example.com:2030`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    protocol: Protocol,
    host: Host,
    port: u16,
    path: String,
}

impl Endpoint {
    /// The protocol.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The host.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path, for HTTPS; empty otherwise.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}{}", self.protocol, self.host, self.port, self.path)
    }
}

/// Why a text is no endpoint, and what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error("not a URL ({0}); write PROTOCOL://HOST:PORT, such as tcp://graphite.example.com:2003")]
    NotAUrl(url::ParseError),
    /// A space or control character anywhere.
    #[error("there is a space or control character in the URL; take it out")]
    Blank,
    /// No scheme of ours.
    #[error(
        "protocol `{0}` is not known; it is one of tcp, tls, udp, pickle, pickle+tls, https, as in \
         tcp://graphite.example.com:2003"
    )]
    Protocol(String),
    /// No host.
    #[error("the host is missing; write PROTOCOL://HOST:PORT")]
    NoHost,
    /// A host with characters that no host name has.
    #[error(
        "`{0}` is no host name: letters, digits, `-`, `_` and dots, at most 63 between dots and 253 in all"
    )]
    HostName(String),
    /// No port where none can be assumed.
    #[error("the port is missing; it may be left out for https only")]
    NoPort,
    /// Port 0.
    #[error("port 0 cannot be connected to")]
    PortZero,
    /// User or password in the URL.
    #[error("a user or password does not belong in the URL, where logs would show it; use api_key")]
    Credentials,
    /// A query in the URL.
    #[error(
        "a query (`?...`) does not belong in the URL, where tags and pages would show it; use api_key for a key"
    )]
    Query,
    /// A path where there is none.
    #[error("`{0}` after the port is not understood; only https endpoints have a path")]
    Path(String),
    /// A fragment.
    #[error("`#{0}` is never sent to a server; leave it out")]
    Fragment(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The parser of URLs would silently take these out.
        if text.contains(|char: char| char.is_whitespace() || char.is_control()) {
            return Err(EndpointError::Blank);
        }
        let url = url::Url::parse(text).map_err(EndpointError::NotAUrl)?;
        let protocol =
            url.scheme().parse::<Protocol>().map_err(|_| EndpointError::Protocol(url.scheme().to_owned()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Credentials);
        }
        if url.query().is_some() {
            return Err(EndpointError::Query);
        }
        if let Some(fragment) = url.fragment() {
            return Err(EndpointError::Fragment(fragment.to_owned()));
        }
        let host = parse_host(url.host().ok_or(EndpointError::NoHost)?)?;
        let port = match (url.port(), protocol) {
            (Some(0), _) => return Err(EndpointError::PortZero),
            (Some(port), _) => port,
            (None, Protocol::Https) => 443,
            (None, _) => return Err(EndpointError::NoPort),
        };
        let path = match (protocol, url.path()) {
            (Protocol::Https, "") => "/".to_owned(),
            (_, "/" | "") if protocol != Protocol::Https => String::new(),
            (Protocol::Https, path) => path.to_owned(),
            (_, path) => return Err(EndpointError::Path(path.to_owned())),
        };
        Ok(Self { protocol, host, port, path })
    }
}

/// URLs of schemes that browsers do not know have opaque hosts, so names and IPv4 addresses are told apart here.
fn parse_host(host: url::Host<&str>) -> Result<Host, EndpointError> {
    let name = match host {
        url::Host::Ipv4(address) => return Ok(Host::Address(address.into())),
        url::Host::Ipv6(address) => return Ok(Host::Address(address.into())),
        // With or without the dot of the root it is the same host, and must be the same series.
        url::Host::Domain(name) => name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(Host::Address(address));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // A name whose last label is a number is an address with a typing error, such as 10.0.0.256.
    let ends_in_number =
        name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if name.len() > 253 || ends_in_number || !name.split('.').all(is_label) {
        return Err(EndpointError::HostName(name));
    }
    Ok(Host::Name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written_alike() {
        let table = [
            ("tcp://graphite.example.com:2003", "tcp://graphite.example.com:2003"),
            ("tls://Graphite.Example.COM:2030", "tls://graphite.example.com:2030"),
            ("udp://127.0.0.1:2003", "udp://127.0.0.1:2003"),
            ("pickle://[::1]:2004", "pickle://[::1]:2004"),
            ("pickle+tls://host:2040/", "pickle+tls://host:2040"),
            ("https://graphite.example.com/api/v1/sink", "https://graphite.example.com:443/api/v1/sink"),
            ("https://h:8443", "https://h:8443/"),
            ("tcp://h.example.:2003", "tcp://h.example:2003"),
        ];
        for (text, canonical) in table {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), canonical);
            assert_eq!(canonical.parse::<Endpoint>().unwrap(), endpoint);
        }
        assert_eq!(
            "tcp://127.0.0.1:1".parse::<Endpoint>().unwrap().host(),
            &Host::Address([127, 0, 0, 1].into())
        );
    }

    #[test]
    fn what_is_no_endpoint_says_why() {
        let table = [
            ("graphite.example.com:2003", "protocol `graphite.example.com` is not known"),
            ("graphite", "not a URL"),
            ("http://h:80", "protocol `http` is not known"),
            ("tcp://h", "the port is missing"),
            ("tcp://h:0", "port 0"),
            ("tcp://h:70000", "not a URL (invalid port number)"),
            ("tcp://:2003", "not a URL"),
            ("tcp:///2003", "the host is missing"),
            ("tcp://key@h:2003", "use api_key"),
            ("tcp://h:2003/path", "`/path` after the port"),
            ("https://h/#x", "`#x` is never sent"),
            ("tcp://10.0.0.256:1", "is no host name"),
            ("tcp://a..b:1", "is no host name"),
            ("tcp://exa mple:1", "a space or control character"),
            ("tcp://h:20\n03", "a space or control character"),
            ("https://h/sink?token=secret", "a query"),
        ];
        for (text, expected) in table {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
