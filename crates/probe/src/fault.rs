//! The one table from errors of the operating system, rustls, hyper and hickory to faults.

use std::{error::Error, io};

use aviary_core::{Fault, LocalFault, Outcome, Phase};
use hickory_resolver::{
    net::{DnsError, NetError},
    proto::op::ResponseCode,
};
use rustix::io::Errno;

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The agent's host.
    Local(LocalFault),
    /// The service, or the way to it.
    Service(Fault),
}

/// Why an attempt stopped short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it stood.
    pub phase: Phase,
    /// Whose fault it was.
    pub blame: Blame,
}

impl Failure {
    /// The service's fault.
    pub const fn service(phase: Phase, fault: Fault) -> Self {
        Self { phase, blame: Blame::Service(fault) }
    }

    /// The host's fault.
    pub const fn local(phase: Phase, fault: LocalFault) -> Self {
        Self { phase, blame: Blame::Local(fault) }
    }

    pub(crate) const fn is_local(self) -> bool {
        matches!(self.blame, Blame::Local(_))
    }

    /// The outcome of the slot.
    pub const fn outcome(self) -> Outcome {
        match self.blame {
            Blame::Local(fault) => Outcome::Local { phase: self.phase, fault },
            Blame::Service(fault) => Outcome::Lost { phase: self.phase, fault },
        }
    }
}

/// Who reported an error of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The call itself failed: nothing left the host.
    Call,
    /// As [`Origin::Call`], of connect(2), for which some errors mean something else.
    Connect,
    /// As [`Origin::Call`], of what gives a socket its source.
    Bind,
    /// It came back later, from the network.
    Network,
}

/// The phase and fault of an error that a socket, or TLS over one, gave.
pub(crate) fn io_failure(phase: Phase, origin: Origin, error: &io::Error) -> Failure {
    if let Some(error) = find::<rustls::Error>(error) {
        return Failure::service(phase, tls_fault(error));
    }
    let blame = match error.raw_os_error() {
        Some(errno) => errno_blame(Errno::from_raw_os_error(errno), origin),
        None => Blame::Service(match error.kind() {
            io::ErrorKind::ConnectionRefused => Fault::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Fault::Reset
            }
            io::ErrorKind::TimedOut => Fault::Timeout,
            _ => Fault::Closed,
        }),
    };
    Failure { phase, blame }
}

fn errno_blame(errno: Errno, origin: Origin) -> Blame {
    match (errno, origin) {
        // How UDP says that no port is left, and how a route says that it is a black hole.
        (Errno::AGAIN, Origin::Connect) => Blame::Local(LocalFault::NoPorts),
        (Errno::INVAL, Origin::Connect) => Blame::Local(LocalFault::NoRoute),
        // The source is an address that the host does not have; no port is taken there.
        (Errno::ADDRNOTAVAIL, Origin::Bind) => Blame::Local(LocalFault::NoRoute),
        (Errno::ADDRNOTAVAIL | Errno::ADDRINUSE, _) => Blame::Local(LocalFault::NoPorts),
        (Errno::MFILE | Errno::NFILE, _) => Blame::Local(LocalFault::NoFiles),
        (Errno::NOBUFS | Errno::NOMEM, _) => Blame::Local(LocalFault::NoBuffers),
        // Our own firewall, or a security module.
        (Errno::ACCESS | Errno::PERM, _) => Blame::Local(LocalFault::NoRoute),
        // Without a route the call itself fails; told by a router, it is the way that is broken.
        (
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::AFNOSUPPORT | Errno::NODEV,
            Origin::Call | Origin::Connect | Origin::Bind,
        ) => Blame::Local(LocalFault::NoRoute),
        (Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NETDOWN, Origin::Network) => {
            Blame::Service(Fault::Unreachable)
        }
        (Errno::CONNREFUSED, _) => Blame::Service(Fault::Refused),
        (Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE, _) => Blame::Service(Fault::Reset),
        (Errno::TIMEDOUT, _) => Blame::Service(Fault::Timeout),
        // A datagram that is too long for the way, or a protocol that a router filters.
        (Errno::MSGSIZE | Errno::PROTO | Errno::NOPROTOOPT, Origin::Network) => {
            Blame::Service(Fault::Unreachable)
        }
        // What is left are calls on sockets that we made wrongly.
        (_, Origin::Call | Origin::Connect | Origin::Bind) => Blame::Local(LocalFault::Bug),
        (_, Origin::Network) => Blame::Service(Fault::Closed),
    }
}

fn tls_fault(error: &rustls::Error) -> Fault {
    match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::NoCertificatesPresented
        | rustls::Error::UnsupportedNameType
        | rustls::Error::InvalidCertRevocationList(_) => Fault::BadCertificate,
        _ => Fault::TlsProtocol,
    }
}

/// The fault of an HTTP exchange that gave no response. `sent` tells whether the request had been written.
pub(crate) fn http_failure(sent: bool, error: &hyper::Error) -> Failure {
    let phase = if sent { Phase::Confirm } else { Phase::Send };
    if let Some(error) = find::<io::Error>(error) {
        return io_failure(phase, Origin::Network, error);
    }
    // An answer that is no HTTP has no status.
    Failure::service(phase, if error.is_parse() { Fault::Status(0) } else { Fault::Closed })
}

/// The fault of a lookup.
pub(crate) fn dns_failure(error: &NetError) -> Failure {
    let blame = match error {
        NetError::Timeout => Blame::Service(Fault::Timeout),
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain | ResponseCode::NoError => Blame::Service(Fault::NameNotFound),
            _ => Blame::Service(Fault::Resolver),
        },
        NetError::Io(error) => match error.raw_os_error() {
            // The lookup's own socket: without files or ports the agent is at fault; a name server that cannot be
            // reached is a resolver that does not answer.
            Some(errno) => match errno_blame(Errno::from_raw_os_error(errno), Origin::Call) {
                Blame::Local(fault @ (LocalFault::NoFiles | LocalFault::NoPorts | LocalFault::NoBuffers)) => {
                    Blame::Local(fault)
                }
                _ => Blame::Service(Fault::Resolver),
            },
            None => Blame::Service(Fault::Resolver),
        },
        _ => Blame::Service(Fault::Resolver),
    };
    Failure { phase: Phase::Dns, blame }
}

/// The first error of type `E` in the chain, also where an [`io::Error`] wraps it.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError};

    use super::*;

    #[test]
    fn errors_of_the_operating_system() {
        use Blame::{Local, Service};
        use Origin::{Bind, Call, Connect, Network};
        let table = [
            (Errno::CONNREFUSED, Network, Service(Fault::Refused)),
            (Errno::CONNRESET, Network, Service(Fault::Reset)),
            (Errno::PIPE, Network, Service(Fault::Reset)),
            (Errno::CONNABORTED, Network, Service(Fault::Reset)),
            (Errno::TIMEDOUT, Network, Service(Fault::Timeout)),
            (Errno::HOSTUNREACH, Network, Service(Fault::Unreachable)),
            (Errno::NETUNREACH, Network, Service(Fault::Unreachable)),
            (Errno::MSGSIZE, Network, Service(Fault::Unreachable)),
            (Errno::NETUNREACH, Call, Local(LocalFault::NoRoute)),
            (Errno::AFNOSUPPORT, Call, Local(LocalFault::NoRoute)),
            (Errno::PERM, Call, Local(LocalFault::NoRoute)),
            (Errno::ADDRNOTAVAIL, Bind, Local(LocalFault::NoRoute)),
            (Errno::AFNOSUPPORT, Bind, Local(LocalFault::NoRoute)),
            (Errno::NODEV, Bind, Local(LocalFault::NoRoute)),
            (Errno::ADDRNOTAVAIL, Call, Local(LocalFault::NoPorts)),
            (Errno::ADDRINUSE, Call, Local(LocalFault::NoPorts)),
            (Errno::MFILE, Call, Local(LocalFault::NoFiles)),
            (Errno::NFILE, Call, Local(LocalFault::NoFiles)),
            (Errno::NOBUFS, Call, Local(LocalFault::NoBuffers)),
            (Errno::NOMEM, Call, Local(LocalFault::NoBuffers)),
            (Errno::INVAL, Call, Local(LocalFault::Bug)),
            (Errno::INVAL, Connect, Local(LocalFault::NoRoute)),
            (Errno::AGAIN, Connect, Local(LocalFault::NoPorts)),
            (Errno::NETUNREACH, Connect, Local(LocalFault::NoRoute)),
            (Errno::ISCONN, Connect, Local(LocalFault::Bug)),
            (Errno::IO, Network, Service(Fault::Closed)),
        ];
        for (errno, origin, blame) in table {
            let error = io::Error::from(errno);
            assert_eq!(
                io_failure(Phase::Connect, origin, &error),
                Failure { phase: Phase::Connect, blame },
                "{error}"
            );
        }
    }

    #[test]
    fn errors_of_tls_come_wrapped_in_errors_of_io() {
        let table = [
            (rustls::Error::InvalidCertificate(CertificateError::Expired), Fault::BadCertificate),
            (rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), Fault::BadCertificate),
            (rustls::Error::InvalidCertificate(CertificateError::NotValidForName), Fault::BadCertificate),
            (rustls::Error::NoCertificatesPresented, Fault::BadCertificate),
            (rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), Fault::TlsProtocol),
            (
                rustls::Error::PeerMisbehaved(rustls::PeerMisbehaved::TooManyEmptyFragments),
                Fault::TlsProtocol,
            ),
        ];
        for (error, fault) in table {
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(
                io_failure(Phase::Tls, Origin::Network, &wrapped),
                Failure::service(Phase::Tls, fault)
            );
        }
        let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(
            io_failure(Phase::Tls, Origin::Network, &eof),
            Failure::service(Phase::Tls, Fault::Closed)
        );
    }

    #[test]
    fn errors_of_lookups() {
        let none = |code| {
            let query = hickory_resolver::proto::op::Query::default();
            NetError::Dns(DnsError::NoRecordsFound(hickory_resolver::net::NoRecords::new(query, code)))
        };
        let io = |errno: Errno| NetError::from(io::Error::from(errno));
        let table = [
            (none(ResponseCode::NXDomain), Blame::Service(Fault::NameNotFound)),
            (none(ResponseCode::NoError), Blame::Service(Fault::NameNotFound)),
            (none(ResponseCode::ServFail), Blame::Service(Fault::Resolver)),
            (NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)), Blame::Service(Fault::Resolver)),
            (NetError::Timeout, Blame::Service(Fault::Timeout)),
            (NetError::NoConnections, Blame::Service(Fault::Resolver)),
            (io(Errno::CONNREFUSED), Blame::Service(Fault::Resolver)),
            (io(Errno::NETUNREACH), Blame::Service(Fault::Resolver)),
            (io(Errno::MFILE), Blame::Local(LocalFault::NoFiles)),
        ];
        for (error, blame) in table {
            assert_eq!(dns_failure(&error), Failure { phase: Phase::Dns, blame }, "{error}");
        }
    }
}
