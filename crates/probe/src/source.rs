//! Where connections leave the host.

use std::{fmt, io, net::IpAddr, str::FromStr};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::Socket;

/// The kernel's IFNAMSIZ, without the byte that ends a name.
const INTERFACE_BYTES_MAX: usize = 15;

/// Where connections leave the host: from one of its addresses, or through one of its interfaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// From this address. Targets of the other family cannot be reached so.
    Address(IpAddr),
    /// Through this interface, whatever the routes say.
    Interface(String),
}

/// Why a text is no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither an address nor an interface; write an address of this host such as 192.0.2.7, or a name that `ip link` shows"
)]
pub struct SourceError(String);

impl Source {
    /// Whether a target at `address` can be reached from there, as far as families go.
    pub(crate) const fn reaches(&self, address: IpAddr) -> bool {
        match self {
            Self::Address(source) => source.is_ipv4() == address.is_ipv4(),
            Self::Interface(_) => true,
        }
    }

    /// Gives the socket its source.
    pub(crate) fn bind(&self, socket: &Socket) -> io::Result<()> {
        match self {
            Self::Address(address) => {
                // A port that is chosen here is taken whoever the peer is; one that connecting chooses, towards that
                // peer only. The option is one of IPv4's that sockets of IPv6 have too.
                setsockopt(socket, IpBindAddressNoPort, &true)?;
                socket.bind(&std::net::SocketAddr::new(*address, 0).into())
            }
            Self::Interface(name) => socket.bind_device(Some(name.as_bytes())),
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        // What the kernel takes for the name of an interface, in ASCII.
        let is_name = !matches!(text, "" | "." | "..")
            && text.len() <= INTERFACE_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
        if is_name { Ok(Self::Interface(text.to_owned())) } else { Err(SourceError(text.to_owned())) }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_an_interface() {
        let address = |text: &str| Ok(Source::Address(text.parse().unwrap()));
        let interface = |text: &str| Ok(Source::Interface(text.to_owned()));
        let table = [
            ("192.0.2.7", address("192.0.2.7")),
            ("2001:db8::7", address("2001:db8::7")),
            ("eth0", interface("eth0")),
            ("enp0s31f6.4000", interface("enp0s31f6.4000")),
            ("an_interface_of_16", Err(())),
            ("192.0.2.7:0", Err(())),
            ("two words", Err(())),
            ("a/b", Err(())),
            ("..", Err(())),
            ("", Err(())),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Source>().map_err(drop), expected, "{text}");
            if let Ok(source) = expected {
                assert_eq!(source.to_string(), text);
            }
        }
    }
}
