//! What happened, for somebody who does not know our words, with the numbers that were measured.

use aviary_core::{Evidence, Fault, LocalFault, Outcome, Phase, Protocol};
use aviary_probe::Observation;

/// A duration as people say it: three digits at most.
pub(crate) fn human(micros: u32) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        // What would be rounded up to 10.0 is 10.
        1_000..9_950 => format!("{:.1} ms", f64::from(micros) / 1_000.0),
        _ => format!("{:.0} ms", f64::from(micros) / 1_000.0),
    }
}

/// What came of an attempt over `protocol`.
pub(super) fn sentence(protocol: Protocol, observed: &Observation) -> String {
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
        Outcome::Lost { phase, fault } => {
            let took = |phase| observed.timings.get(phase).map_or_else(|| "no time".to_owned(), human);
            let story = Story { protocol, so_far: so_far(protocol, phase, took), spent: took(phase) };
            match phase {
                Phase::Dns => story.dns(fault),
                Phase::Connect => story.connect(fault),
                Phase::Tls => story.tls(fault),
                Phase::Send => story.send(fault),
                Phase::Confirm => story.confirm(fault, observed.reached),
            }
        }
        Outcome::Local { phase, fault } => local(phase, fault).to_owned(),
        Outcome::Missed => "the attempt was not made".to_owned(),
        Outcome::Muted => "probing is muted".to_owned(),
    }
}

/// What went well before `phase`.
fn so_far(protocol: Protocol, phase: Phase, took: impl Fn(Phase) -> String) -> String {
    let connected = format!("connected in {}", took(Phase::Connect));
    match phase {
        Phase::Send | Phase::Confirm if protocol.is_tls() => {
            format!("{connected}, shook hands in {}", took(Phase::Tls))
        }
        _ => connected,
    }
}

/// What a sentence about a loss is made of.
struct Story {
    protocol: Protocol,
    /// What went well.
    so_far: String,
    /// How long the phase took in which it ended.
    spent: String,
}

impl Story {
    fn dns(&self, fault: Fault) -> String {
        let spent = &self.spent;
        match fault {
            Fault::Timeout => format!("no name server answered in {spent}"),
            Fault::NameNotFound => {
                format!(
                    "the name does not exist, or has no address of the wanted family: known after {spent}"
                )
            }
            Fault::Resolver => {
                format!("the name server failed, refused or cannot be reached: known after {spent}")
            }
            other => self.otherwise("looking the name up", other),
        }
    }

    fn connect(&self, fault: Fault) -> String {
        let spent = &self.spent;
        match fault {
            Fault::Timeout => format!(
                "no answer to the connection request in {spent}: a firewall that drops it, or a dead host"
            ),
            Fault::Refused => {
                format!("the connection was refused after {spent}: nothing listens on that port")
            }
            Fault::Reset => {
                format!(
                    "the connection was reset after {spent}, before it was open: a firewall or proxy on the way"
                )
            }
            Fault::Unreachable => {
                format!("a router answered after {spent} that the address cannot be reached")
            }
            other => self.otherwise("opening the connection", other),
        }
    }

    fn tls(&self, fault: Fault) -> String {
        let Self { so_far, spent, .. } = self;
        match fault {
            Fault::Timeout => format!(
                "{so_far}, then the TLS handshake stalled until the deadline, {spent}: the server accepts but does not \
                 shake hands"
            ),
            Fault::Reset => format!(
                "{so_far}, then reset {spent} into the TLS handshake: no TLS on this port, or a proxy with no server \
                 behind it"
            ),
            Fault::Closed => format!(
                "{so_far}, then the peer ended the connection {spent} into the TLS handshake: it gave up, or speaks no TLS"
            ),
            Fault::BadCertificate => format!(
                "{so_far}, but the certificate does not verify: expired or not yet valid, of another name, or of an \
                 unknown issuer (--ca adds one)"
            ),
            Fault::TlsProtocol => format!(
                "{so_far}, then the TLS handshake failed after {spent}: no TLS on this port, or nothing in common, such \
                 as TLS 1.1 only"
            ),
            Fault::Unreachable => {
                format!("{so_far}, then a router answered that the address cannot be reached any more")
            }
            other => self.otherwise("the TLS handshake", other),
        }
    }

    fn send(&self, fault: Fault) -> String {
        let Self { so_far, spent, .. } = self;
        match fault {
            Fault::Timeout => {
                format!("{so_far}, but the datapoint could not be written in the {spent} until the deadline")
            }
            Fault::Reset => format!(
                "{so_far}, then reset while the datapoint was written: the server turns us away without reading"
            ),
            Fault::Closed => {
                format!("{so_far}, then the peer ended the connection while the datapoint was written")
            }
            Fault::TlsProtocol => format!(
                "{so_far}, then the server broke TLS off while the datapoint was written: does it want a client \
                 certificate?"
            ),
            Fault::Unreachable => {
                format!(
                    "{so_far}, then a router answered, as the datapoint was written, that the address cannot be reached"
                )
            }
            other => self.otherwise("writing the datapoint", other),
        }
    }

    fn confirm(&self, fault: Fault, reached: Option<Evidence>) -> String {
        let Self { so_far, spent, protocol } = self;
        match (fault, protocol) {
            (Fault::Timeout, Protocol::Https) => {
                format!("{so_far}, then silence until the deadline: the server accepts but does not answer")
            }
            (Fault::Timeout, _) if reached == Some(Evidence::KernelAcked) => format!(
                "{so_far}, then silence until the deadline: the server accepts but does not read, or not to the end"
            ),
            (Fault::Timeout, _) => format!(
                "{so_far}, then nothing written was acknowledged in {spent}: the peer vanished, or takes no more"
            ),
            (Fault::Refused, Protocol::Udp) => {
                format!("the host answered within {spent} that nothing listens on that UDP port")
            }
            (Fault::Reset, _) => {
                format!(
                    "{so_far} and sent, then reset after {spent}: the peer closed without reading everything"
                )
            }
            (Fault::Closed, _) => format!(
                "{so_far} and sent, then the peer ended the connection after {spent} without a whole answer"
            ),
            (Fault::Unreachable, _) => {
                format!("sent, then a router answered within {spent} that the address cannot be reached")
            }
            (Fault::TlsProtocol, _) => format!(
                "{so_far} and sent, then the server broke TLS off after {spent}: does it want a client certificate?"
            ),
            (Fault::Status(0), _) => format!("{so_far} and sent, but what came after {spent} is no HTTP"),
            (Fault::Status(ref status), _) => {
                format!("the server answered after {spent} with HTTP status {status}{}", hint(*status))
            }
            (other, _) => self.otherwise("waiting for the end", other),
        }
    }

    /// For what no peer is known to do in that phase, so that it is said even so.
    fn otherwise(&self, doing: &str, fault: Fault) -> String {
        let what = match fault {
            Fault::BadCertificate => "a certificate that does not verify",
            Fault::Closed => "the peer ended the connection",
            Fault::NameNotFound => "the name was not found",
            Fault::Refused => "the peer refused",
            Fault::Reset => "the connection was reset",
            Fault::Resolver => "a name server failed",
            Fault::Status(_) => "an HTTP status that is no success",
            Fault::Timeout => "silence until the deadline",
            Fault::TlsProtocol => "TLS broke",
            Fault::Unreachable => "the address cannot be reached",
        };
        format!("{doing} ended after {}: {what}", self.spent)
    }
}

/// What somebody would look at who gets this status.
const fn hint(status: u16) -> &'static str {
    match status {
        300..=399 => ": a redirection, which is not followed; give the URL that it leads to",
        401 | 403 => ": it does not know us, or does not let us",
        404 | 405 => ": is the path in the URL right?",
        413 | 429 => ": it takes no more from us at the moment",
        502..=504 => ": a proxy without a server behind it that answers",
        500..600 => ": it failed itself",
        _ => "",
    }
}

const fn local(phase: Phase, fault: LocalFault) -> &'static str {
    match (fault, phase) {
        (LocalFault::Bug, _) => "aviary itself failed; please report it",
        (LocalFault::ClockStep, _) => "this host's clock was stepped",
        (LocalFault::NoBuffers, _) => "this host is out of socket buffers or memory",
        (LocalFault::NoFiles, _) => "this host or process is out of file descriptors (see ulimit -n)",
        (LocalFault::NoPorts, _) => "this host has no free port towards that address",
        (LocalFault::NoRoute, Phase::Dns) => "this host has no way to any name server",
        (LocalFault::NoRoute, _) => "this host has no route to that address, or its own firewall forbids it",
        (LocalFault::Starved, _) => {
            "this host gave aviary no processor time, so the measurement means nothing"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aviary_core::Timings;

    use super::*;

    fn observed(outcome: Outcome, reached: Option<Evidence>) -> Observation {
        let mut timings = Timings::default();
        timings.total_us = 1_000_400;
        for (phase, micros) in Phase::ALL.iter().zip([250, 12_300, 3_456, 18, 984_000]) {
            timings.set(*phase, micros);
        }
        Observation { outcome, timings, address: None, reached, tls: None }
    }

    fn lost(protocol: Protocol, phase: Phase, fault: Fault, reached: Option<Evidence>) -> String {
        sentence(protocol, &observed(Outcome::Lost { phase, fault }, reached))
    }

    #[test]
    fn durations_have_three_digits() {
        let table = [(0, "0 us"), (999, "999 us"), (1_000, "1.0 ms"), (9_949, "9.9 ms"), (9_950, "10 ms")];
        for (micros, expected) in table.into_iter().chain([(12_300, "12 ms"), (1_000_400, "1000 ms")]) {
            assert_eq!(human(micros), expected);
        }
    }

    #[test]
    fn every_loss_has_a_sentence_of_its_own_with_a_number() {
        for protocol in Protocol::ALL {
            let mut seen = BTreeSet::new();
            for phase in Phase::ALL {
                for fault in Fault::ALL {
                    let said = lost(*protocol, *phase, fault, Some(Evidence::Sent));
                    let has_number = said.contains(|char: char| char.is_ascii_digit());
                    assert!(has_number, "{protocol} {phase} {fault:?}: {said}");
                    assert!(
                        seen.insert(said.clone()),
                        "{protocol} {phase} {fault:?} reads as another: {said}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_people_meet_reads_so() {
        use {Fault as F, Phase as P};
        let acked = Some(Evidence::KernelAcked);
        let table = [
            (
                lost(Protocol::Tcp, P::Confirm, F::Timeout, acked),
                "connected in 12 ms, then silence until the deadline: the server accepts but does not read",
            ),
            (
                lost(Protocol::Https, P::Confirm, F::Timeout, Some(Evidence::Sent)),
                "until the deadline: the server accepts but does not answer",
            ),
            (
                lost(Protocol::Tcp, P::Confirm, F::Timeout, Some(Evidence::Sent)),
                "nothing written was acknowledged in 984 ms",
            ),
            (
                lost(Protocol::Tls, P::Tls, F::Timeout, None),
                "connected in 12 ms, then the TLS handshake stalled",
            ),
            (
                lost(Protocol::Tls, P::Tls, F::Closed, None),
                "ended the connection 3.5 ms into the TLS handshake",
            ),
            (lost(Protocol::Udp, P::Confirm, F::Refused, None), "nothing listens on that UDP port"),
            (
                lost(Protocol::Tcp, P::Connect, F::Refused, None),
                "refused after 12 ms: nothing listens on that port",
            ),
            (lost(Protocol::Tcp, P::Dns, F::Timeout, None), "no name server answered in 250 us"),
            (
                lost(Protocol::Https, P::Confirm, F::Status(503), None),
                "after 984 ms with HTTP status 503: a proxy",
            ),
            (lost(Protocol::Https, P::Confirm, F::Status(418), None), "with HTTP status 418"),
        ];
        for (said, expected) in table {
            assert!(said.contains(expected), "{said}");
        }
        let no_route = Outcome::Local { phase: Phase::Dns, fault: LocalFault::NoRoute };
        assert!(sentence(Protocol::Tcp, &observed(no_route, None)).contains("no way to any name server"));
    }
}
