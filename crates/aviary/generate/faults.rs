//! `faults.md`: what can come of a second, and what to look at first. Whoever adds a fault has to say it here.

use std::fmt::Write as _;

use aviary_core::{Evidence, Fault, LocalFault, Phase, State};

const HEAD: &str = "\
# Outcomes, phases and faults

Made from the code by `aviary generate reference`. Each second of each series has exactly one outcome: `delivered`, with its evidence; `lost`,
in a phase and by a fault; `local`, the agent's own fault; `missed`, not run; `muted`, told not to run. `aviary probe`, the page of an incident,
`/api/v1/slots` and `aviary_agent_slots_total` name them so. Which faults this host can tell rightly, `aviary selftest` shows.
";

/// The whole page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    let (means, look) = ("what it means", "look first at");
    let phases = Phase::ALL.iter().map(|it| (it.name(), of_phase(*it)));
    let heads = ["phase", "what happens in it", "if it is lost here, look first at"];
    table(&mut page, "Phases", heads, phases);
    let faults = Fault::ALL.iter().map(|it| (it.name(), of_fault(*it)));
    table(&mut page, "Faults of the service, or of the way to it", ["fault", means, look], faults);
    let faults = LocalFault::ALL.iter().map(|it| (it.name(), of_local(*it)));
    table(&mut page, "Faults of the agent: never held against the service", ["fault", means, look], faults);
    let rungs = Evidence::ALL.iter().map(|it| (it.name(), of_evidence(*it)));
    let heads = ["evidence", "what it shows", "what it does not"];
    table(&mut page, "Evidence, from the weakest to the strongest", heads, rungs);
    let states = State::ALL.iter().map(|it| (it.name(), of_state(*it)));
    table(&mut page, "States of a service", ["state", means, look], states);
    page
}

fn table(
    page: &mut String,
    title: &str,
    heads: [&str; 3],
    rows: impl Iterator<Item = (&'static str, [&'static str; 2])>,
) {
    // Writing to memory does not fail.
    _ = write!(page, "\n## {title}\n\n| {} |\n|---|---|---|\n", heads.join(" | "));
    for (name, [means, look]) in rows {
        _ = writeln!(page, "| `{name}` | {means} | {look} |");
    }
}

const fn of_phase(phase: Phase) -> [&'static str; 2] {
    match phase {
        Phase::Dns => [
            "The name is looked up, in the hosts file and then by DNS.",
            "The name servers of the agent; the zone.",
        ],
        Phase::Connect => ["The connection is opened.", "Firewalls, the listener, a full backlog; the path."],
        Phase::Tls => {
            ["The handshake, a full one each time.", "The certificate; what ends TLS, and its load."]
        }
        Phase::Send => ["The datapoint is written.", "A receiver that turns away, or whose window is full."],
        Phase::Confirm => [
            "We half-close and read to the end, or for HTTPS to the answer.",
            "A receiver that hangs, or a proxy with no server behind it.",
        ],
    }
}

const fn of_fault(fault: Fault) -> [&'static str; 2] {
    match fault {
        Fault::BadCertificate => [
            "The certificate does not verify: ended or not valid yet, of another name, or of an unknown issuer.",
            "Its end and names, as `aviary probe --format json` shows them; `ca` in `[[service]]`.",
        ],
        Fault::Closed => [
            "The peer ended the connection before the exchange was complete.",
            "The peer's log, and its limits on connections.",
        ],
        Fault::NameNotFound => [
            "The name does not exist, or has no address of the wanted family.",
            "The zone; `family` in `[[service]]`.",
        ],
        Fault::Refused => [
            "The connection was refused: nothing listens there.",
            "Whether the receiver runs, and on which port.",
        ],
        Fault::Reset => [
            "The connection was reset.",
            "A balancer without a server behind it, a firewall that rejects, a receiver that restarts.",
        ],
        Fault::Resolver => {
            ["The name server failed, or refused to answer.", "The name servers of the agent's host."]
        }
        Fault::Status(_) => [
            "The application answered with a status that is not 2xx, which stands beside it.",
            "401 and 403: `api_key`; 404: the path; 429: its limits; 5xx: its log.",
        ],
        Fault::Timeout => [
            "The second of the attempt was over.",
            "The phase: in `connect` a firewall that drops or a dead host, in `confirm` a receiver that hangs.",
        ],
        Fault::TlsProtocol => [
            "The handshake failed otherwise than by the certificate.",
            "Whether the port speaks TLS, and 1.2 or newer; a client certificate that is wanted.",
        ],
        Fault::Unreachable => {
            ["A router said that the address cannot be reached.", "Routes on the way; `traceroute`."]
        }
    }
}

const fn of_local(fault: LocalFault) -> [&'static str; 2] {
    match fault {
        LocalFault::Bug => ["The agent itself failed.", "Its log, which says how. Keep it, and tell us."],
        LocalFault::ClockStep => [
            "The wall clock was stepped: this second was used already, or skipped.",
            "The time service: [the clock](../runbooks/agent-clock-off.md).",
        ],
        LocalFault::NoBuffers => {
            ["The host is out of socket buffers or memory.", "`net.core.wmem_*`, and memory."]
        }
        LocalFault::NoFiles => {
            ["The process or the host is out of files.", "[Open files](../runbooks/files-run-out.md)."]
        }
        LocalFault::NoPorts => [
            "No port for outgoing connections is left towards that address.",
            "`net.ipv4.ip_local_port_range` and `tcp_tw_reuse`; fewer series, or more addresses (`source`).",
        ],
        LocalFault::NoRoute => [
            "The host has no route, or its own firewall forbids the way.",
            "`ip route get ADDRESS`; the rules for outgoing traffic.",
        ],
        LocalFault::Starved => [
            "The agent got no processor time for so long that its measurement means nothing.",
            "[A busy host](../runbooks/agent-skips.md).",
        ],
    }
}

const fn of_evidence(evidence: Evidence) -> [&'static str; 2] {
    match evidence {
        Evidence::Sent => ["Our system took the bytes.", "That anything arrived: all that UDP ever shows."],
        Evidence::KernelAcked => {
            ["The peer's system acknowledged each byte.", "That its program is not frozen."]
        }
        Evidence::PeerClosed => ["The peer read to the end, and closed.", "That it kept what it read."],
        Evidence::AppAcked => ["The application answered that it took it.", "That it is stored."],
        Evidence::Stored => ["It was found in storage.", "Nothing more is to be shown."],
    }
}

const fn of_state(state: State) -> [&'static str; 2] {
    match state {
        State::Blind => [
            "We cannot tell: too few report, or what is stored cannot be read. Never that the service is down.",
            "[What makes it blind](../runbooks/service-blind.md).",
        ],
        State::Degraded => ["More is lost than is acceptable.", "[Loss](../runbooks/loss.md)."],
        State::Down => ["Half or more is lost.", "[Loss](../runbooks/loss.md)."],
        State::Healthy => ["What is lost is acceptable.", "Nothing."],
        State::Starting => ["Too young to say.", "Wait a minute."],
        State::Unproven => [
            "Datapoints are sent, and nothing can show whether they arrive.",
            "[Troubleshooting](../troubleshooting.md#my-udp-is-unproven).",
        ],
    }
}
