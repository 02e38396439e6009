//! What came of a slot: exactly one [`Outcome`], and the facts that travel beside it.

use crate::named::named;

named! {
    /// How far the proof of delivery reaches: a ladder, each rung implying those below it.
    pub enum Evidence {
        /// The operating system took the bytes. All that UDP ever shows.
        Sent = "sent",
        /// The peer's kernel acknowledged every byte; its program may be frozen.
        KernelAcked = "kernel_acked",
        /// After our half-close the peer read to the end and closed.
        PeerClosed = "peer_closed",
        /// The peer's application answered that it took the datapoint (HTTP 2xx).
        AppAcked = "app_acked",
        /// The datapoint was found in storage.
        Stored = "stored",
    }
}

named! {
    /// The phases of an attempt, in their order.
    pub enum Phase {
        /// Looking the name up.
        Dns = "dns",
        /// Opening the connection.
        Connect = "connect",
        /// The TLS handshake.
        Tls = "tls",
        /// Writing the datapoint.
        Send = "send",
        /// Waiting for what shows that it arrived.
        Confirm = "confirm",
    }
}

/// What was wrong with the service, or on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The certificate did not verify: expired, of another name, of an unknown issuer.
    BadCertificate,
    /// The peer ended the connection before the exchange was complete.
    Closed,
    /// The name does not exist, or has no address of the wanted family.
    NameNotFound,
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The name server failed or refused to answer.
    Resolver,
    /// The application answered with this HTTP status, which is not 2xx.
    Status(u16),
    /// The deadline passed.
    Timeout,
    /// The TLS handshake failed for another reason than the certificate.
    TlsProtocol,
    /// A router said that the address cannot be reached.
    Unreachable,
}

impl Fault {
    /// One of each kind, [`Fault::Status`] with 0, in order of declaration.
    pub const ALL: [Self; 10] = [
        Self::BadCertificate,
        Self::Closed,
        Self::NameNotFound,
        Self::Refused,
        Self::Reset,
        Self::Resolver,
        Self::Status(0),
        Self::Timeout,
        Self::TlsProtocol,
        Self::Unreachable,
    ];

    /// The one spelling of this fault, as contracts and pages have it; the status itself is a field beside it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadCertificate => "bad_certificate",
            Self::Closed => "closed",
            Self::NameNotFound => "name_not_found",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Resolver => "resolver",
            Self::Status(_) => "status",
            Self::Timeout => "timeout",
            Self::TlsProtocol => "tls_protocol",
            Self::Unreachable => "unreachable",
        }
    }
}

named! {
    /// What was wrong with the agent or its host: never held against the service.
    pub enum LocalFault {
        /// The agent itself failed; its log says how.
        Bug = "bug",
        /// The wall clock was stepped, and this second had already been used or was skipped.
        ClockStep = "clock_step",
        /// The host is out of socket buffers or memory.
        NoBuffers = "no_buffers",
        /// The process or the host is out of file descriptors.
        NoFiles = "no_files",
        /// No ephemeral port is left towards that address.
        NoPorts = "no_ports",
        /// The host has no route, or its own firewall forbids the way.
        NoRoute = "no_route",
        /// The agent got no processor time for so long that its measurement means nothing.
        Starved = "starved",
    }
}

/// What came of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The datapoint arrived, as far as the evidence reaches.
    Delivered(Evidence),
    /// The datapoint did not arrive within the deadline, by this fault in this phase.
    Lost {
        /// Where the attempt stood.
        phase: Phase,
        /// What went wrong there.
        fault: Fault,
    },
    /// The agent's own fault, in this phase.
    Local {
        /// Where the attempt stood.
        phase: Phase,
        /// What went wrong.
        fault: LocalFault,
    },
    /// The agent did not run the slot.
    Missed,
    /// The agent was told not to probe.
    Muted,
}

impl Outcome {
    /// The name of the outcome's class, as `aviary probe --format json` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered(_) => "delivered",
            Self::Lost { .. } => "lost",
            Self::Local { .. } => "local",
            Self::Missed => "missed",
            Self::Muted => "muted",
        }
    }
}

/// How long each phase took, in microseconds of the monotonic clock; `None` where it was not reached.
///
/// A phase that ended in the loss has the time spent in it until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Microseconds by phase, in the order of [`Phase::ALL`].
    phases: [Option<u32>; 5],
    /// From the start of the attempt to its outcome, in microseconds.
    pub total_us: u32,
}

impl Timings {
    /// The microseconds that `phase` took.
    pub const fn get(&self, phase: Phase) -> Option<u32> {
        self.phases[phase as usize]
    }

    /// Notes that `phase` took `micros` microseconds.
    pub const fn set(&mut self, phase: Phase, micros: u32) {
        self.phases[phase as usize] = Some(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_is_ordered() {
        let rungs = Evidence::ALL;
        assert!(rungs.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(rungs.first(), Some(&Evidence::Sent));
        assert_eq!("peer_closed".parse(), Ok(Evidence::PeerClosed));
    }

    #[test]
    fn an_unknown_name_says_what_would_be_right() {
        let error = "peer-closed".parse::<Evidence>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`peer-closed` is not known; it is one of sent, kernel_acked, peer_closed, app_acked, stored"
        );
    }
}
