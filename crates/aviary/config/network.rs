//! The values that say how packets find their way: name servers, sources, and peers that are resolved later.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use aviary_core::{Endpoint, Protocol};

use super::{
    context::Refusal,
    kind::{Kind, text},
    scalar,
    source::quotable,
};

/// The port that name servers listen on.
const DNS_PORT: u16 = 53;

/// The longest name of an interface: `IFNAMSIZ` of Linux without the byte that ends it.
const INTERFACE_BYTES_MAX: usize = 15;

/// Where connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From this address of the host.
    Address(IpAddr),
    /// Through this interface.
    Interface(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface(name) => f.write_str(name),
        }
    }
}

/// Where connections come from: what is no address is an interface.
pub(super) fn source() -> impl Kind<Output = Source> {
    text("an address or an interface", "10.0.0.7", |given| {
        const HELP: &str =
            "write an address of this host, such as \"10.0.0.7\", or an interface, such as \"eth1\"";
        if let Ok(address) = given.parse::<IpAddr>() {
            if address.is_unspecified() || address.is_multicast() {
                return Err(Refusal::new(format!("nothing can come from {address}")).help(HELP));
            }
            return Ok(Source::Address(address.to_canonical()));
        }
        let is_name_byte = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
        let is_name = (1..=INTERFACE_BYTES_MAX).contains(&given.len())
            && given.bytes().all(is_name_byte)
            && !matches!(given, "." | "..")
            // Four numbers are an address that was mistyped.
            && given.bytes().any(|byte| byte.is_ascii_alphabetic());
        if is_name {
            Ok(Source::Interface(given.to_owned()))
        } else {
            let message = format!("`{}` is neither an address nor an interface", quotable(given));
            Err(Refusal::new(message).help(HELP))
        }
    })
}

/// A name server: an address, on port 53 unless it says another.
pub(super) fn name_server() -> impl Kind<Output = SocketAddr> {
    text("an address", "192.0.2.53", |given| {
        let with_port = || given.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, DNS_PORT));
        let address = given.parse().ok().or_else(with_port);
        address.filter(|address| address.port() != 0 && !address.ip().is_unspecified()).ok_or_else(|| {
            Refusal::new(format!("`{}` is no address of a name server", quotable(given)))
                .help("write a number such as \"192.0.2.53\" or \"192.0.2.53:5353\": a name would have to be looked up")
        })
    })
}

/// A peer that datagrams are sent to, as `HOST:PORT`: a name is looked up again and again while the program runs.
pub(super) fn peer(example: &'static str) -> impl Kind<Output = String> {
    text("a host with its port", example, move |given| {
        // An endpoint without its protocol: the same hosts are right, and the same are not.
        let endpoint = format!("udp://{given}").parse::<Endpoint>().map_err(|_| {
            Refusal::new(format!("`{}` is no host with its port", quotable(given)))
                .help(format!("write HOST:PORT, such as \"{example}\""))
        })?;
        Ok(format!("{}:{}", endpoint.host(), endpoint.port()))
    })
}

/// An endpoint that is known as good: it must be able to show that it works.
pub(super) fn control() -> impl Kind<Output = Endpoint> {
    text("an endpoint's URL", "tcp://192.0.2.1:80", |given| {
        let endpoint = scalar::parse_endpoint(given)?;
        if endpoint.protocol() == Protocol::Udp {
            let message = format!("{endpoint} can show nothing: a datagram is not answered, working or not");
            return Err(Refusal::new(message).help("name an endpoint of another protocol, such as tcp://"));
        }
        Ok(endpoint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalar::tests::read;

    #[test]
    fn a_source_is_an_address_or_an_interface() {
        let address = |text: &str| Ok(Source::Address(text.parse().unwrap()));
        let interface = |name: &str| Ok(Source::Interface(name.to_owned()));
        let table = [
            ("10.0.0.7", address("10.0.0.7")),
            ("2001:db8::7", address("2001:db8::7")),
            ("::ffff:10.0.0.7", address("10.0.0.7")),
            ("eth1", interface("eth1")),
            ("br-lan.4", interface("br-lan.4")),
        ];
        for (given, expected) in table {
            assert_eq!(read(source(), given), expected, "{given}");
        }
        assert_eq!(read(source(), "0.0.0.0"), Err("nothing can come from 0.0.0.0".to_owned()));
        for given in ["", "10.0.0", "10.0.0.7:1", "a/b", "eth 1", "..", "wireguard-to-far"] {
            assert_eq!(
                read(source(), given),
                Err(format!("`{given}` is neither an address nor an interface"))
            );
        }
    }

    #[test]
    fn a_name_server_is_an_address_and_has_a_port() {
        let table = [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.54:5353", "192.0.2.54:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
        ];
        for (given, expected) in table {
            assert_eq!(read(name_server(), given), Ok(expected.parse().unwrap()), "{given}");
        }
        for given in ["dns.example.com", "", "192.0.2.53:0", "0.0.0.0", "192.0.2.53:99999"] {
            assert_eq!(read(name_server(), given), Err(format!("`{given}` is no address of a name server")));
        }
    }

    #[test]
    fn a_peer_keeps_its_name() {
        let table = [
            ("127.0.0.1:8125", "127.0.0.1:8125"),
            ("StatsD.example.com:8125", "statsd.example.com:8125"),
            ("[::1]:8125", "[::1]:8125"),
        ];
        for (given, expected) in table {
            assert_eq!(read(peer("127.0.0.1:8125"), given), Ok(expected.to_owned()), "{given}");
        }
        for given in ["statsd", "statsd:", ":8125", "a b:1", "h:0", "h:1/x", "me@h:1"] {
            assert_eq!(
                read(peer("127.0.0.1:8125"), given),
                Err(format!("`{given}` is no host with its port"))
            );
        }
    }

    #[test]
    fn a_control_can_show_that_it_works() {
        assert_eq!(read(control(), "tcp://192.0.2.1:80").unwrap().to_string(), "tcp://192.0.2.1:80");
        let message = "udp://192.0.2.1:80 can show nothing: a datagram is not answered, working or not";
        assert_eq!(read(control(), "udp://192.0.2.1:80"), Err(message.to_owned()));
    }
}
