//! `aviary check --cost`: what probing costs, before it does.
//!
//! Nothing is measured here. A probe is a fresh connection a second with nothing to resume, so that its packets can be counted in
//! advance; each constant below says of what it is made. Bytes are those of IP packets, which is what clouds bill; the link adds 14
//! and more to each packet. A run that was measured is within a tenth of it.
//!
//! Over TCP, out of the agent: SYN, ACK, the datapoint, FIN, the last ACK; into it: SYN, an ACK of the datapoint, FIN.

use std::io::{self, Write};

use aviary_core::{Endpoint, Protocol, Second, Series, Vantage, VantageKind, endpoint::Host};
use aviary_wire::{line, pickle};
use serde_json::{Value, json};

use crate::{
    config::{Config, service::Service},
    graphite_schema::WHISPER_BYTES,
    output::{Format, print_table},
};

/// The header of an IPv4 packet; names are looked up as IPv4 first.
const IPV4: u64 = 20;
/// The header of an IPv6 packet.
const IPV6: u64 = 40;
/// A segment's header: 20 bytes, and 12 of timestamps.
const SEGMENT: u64 = 32;
/// The same of a SYN: 20 bytes, and 20 of options.
const SYN: u64 = 40;
/// What of a segment is left for data where packets have 1,500 bytes.
const SEGMENT_DATA: u64 = 1_448;
/// A datagram's header.
const UDP: u64 = 8;

/// What a TLS 1.3 record adds to what is in it: 5 bytes before it, its type, and a tag of 16.
const RECORD: u64 = 22;
/// The alert that ends a TLS connection, in its record.
const CLOSE: u64 = 24;
/// Out of the agent in a full handshake: the ClientHello with X25519, a name and ciphers (232), ChangeCipherSpec (6), Finished (58 or 74).
const CLIENT_HANDSHAKE: u64 = 302;
/// Into it but for the certificates: ServerHello (127), `ChangeCipherSpec` (6), and in one record (22) extensions (6), what is around
/// the certificates (13), an ECDSA signature (79) and Finished (52); at the end the alert.
const SERVER_HANDSHAKE: u64 = 127 + 6 + 22 + 6 + 13 + 79 + 52 + CLOSE;
/// A leaf and an intermediate certificate, as public authorities sign them (2,600), a longer signature by RSA (180), and what servers
/// send for a resumption that never comes (400).
pub(crate) const CHAIN: u64 = 3_200;

/// The lines before the body of a request over HTTPS but for path and host: POST, type, length, `close`, and who asks.
const REQUEST_HEAD: u64 = 120;
/// An answer of a service that has nothing to say.
const RESPONSE: u64 = 120;

/// The head of a report's request, with a token, and that of its answer.
const REPORT_HEAD: u64 = 300;
const REPORT_ANSWER: u64 = 170;
/// What a report tells of each series a second: its slot, and its share of a minute's timings.
const REPORT_SERIES: u64 = 175;
/// From this size on reports are packed, to two fifths.
const REPORT_PACKED_FROM: u64 = 4_096;

/// A query for a name and its answer but for the name, which stands in each once: 12 bytes of DNS, 6 around the name; 16 for an address.
const QUERY: u64 = 18;
const ADDRESS: u64 = 16;

/// How long the kernel keeps the port of a connection that this side closed first, as every probe does: `TIME_WAIT`.
const TIME_WAIT: u64 = 60;
/// How long Linux' NAT keeps it after that end, and a datagram's: `nf_conntrack_tcp_timeout_time_wait` and `nf_conntrack_udp_timeout`.
const NAT_TCP: u64 = 120;
const NAT_UDP: u64 = 30;

const MONTH_SECONDS: u64 = 30 * 86_400;

/// The fleet to be reckoned for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleet {
    pub(crate) agents: u64,
    pub(crate) regions: u64,
    /// Bytes of the certificates that an endpoint shows.
    pub(crate) chain: u64,
}

/// What one agent costs, a second where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) series: u64,
    /// Over TCP, with TLS or without.
    pub(crate) connections: u64,
    pub(crate) datagrams: u64,
    pub(crate) lookups: u64,
    /// Bytes that leave the agent.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Of both, those of reports to the collector.
    pub(crate) reports: u64,
}

impl Cost {
    fn add(&mut self, (sent, received): (u64, u64)) {
        self.sent += sent;
        self.received += received;
    }

    /// Ports that are in use on the agent's host.
    const fn ports(&self) -> u64 {
        self.connections * TIME_WAIT
    }

    /// And at a Linux host that translates addresses for it.
    const fn nat_ports(&self) -> u64 {
        self.connections * NAT_TCP + self.datagrams * NAT_UDP
    }

    const fn month(&self) -> u64 {
        (self.sent + self.received) * MONTH_SECONDS
    }
}

/// The vantage that is reckoned for: where the file says nothing of one, one outside with names of usual lengths.
fn vantage(config: &Config) -> Vantage {
    let unknown = || Vantage {
        kind: VantageKind::External,
        region: "eu-west-1".to_owned(),
        zone: Some("eu-west-1a".to_owned()),
        network: Some("aws".to_owned()),
        node: "canary-7".to_owned(),
    };
    config.vantage.as_ref().map_or_else(unknown, |vantage| vantage.as_written())
}

/// What an agent with the services of `config` costs: of those, what its kind of vantage probes.
pub(crate) fn of(config: &Config, chain: u64) -> Cost {
    let mut cost = Cost::default();
    let vantage = vantage(config);
    let mut names: Vec<&str> = Vec::new();
    for service in &config.services {
        for it in service.probed(Some(vantage.kind)) {
            let endpoint = &it.endpoint;
            cost.series += 1;
            match endpoint.protocol() {
                Protocol::Udp => cost.datagrams += 1,
                _ => cost.connections += 1,
            }
            cost.add(attempt(service, endpoint, &vantage, chain));
            if let Host::Name(name) = endpoint.host() {
                names.push(name);
            }
        }
    }
    // Series share one look-up a second.
    names.sort_unstable();
    names.dedup();
    cost.lookups = names.len() as u64;
    for name in names {
        let query = IPV4 + UDP + QUERY + name.len() as u64;
        cost.add((query, query + ADDRESS));
    }
    if let Some(agent) = &config.agent {
        let is_tls = agent.collectors.first().is_some_and(|url| url.scheme() == "https");
        let report = report(cost.series, is_tls);
        cost.reports = report.0 + report.1;
        cost.add(report);
    }
    cost
}

/// Bytes out and in of one attempt.
fn attempt(service: &Service, endpoint: &Endpoint, vantage: &Vantage, chain: u64) -> (u64, u64) {
    let series = Series {
        service: service.name.clone(),
        vantage: vantage.clone(),
        endpoint: endpoint.clone(),
        address: None,
    };
    let protocol = endpoint.protocol();
    let key = service.api_key.as_ref().map_or(0, |key| key.expose().len() as u64 + 1);
    let name = series.graphite_name(&service.prefix);
    let second = Second(1_763_690_400);
    let datapoint = key
        + match protocol {
            Protocol::Pickle | Protocol::PickleTls => pickle::encode_frame(&name, 1.0, second).len() as u64,
            Protocol::Tcp | Protocol::Tls | Protocol::Udp | Protocol::Https => {
                let mut text = Vec::new();
                line::encode_into(&mut text, &name, 1.0, second);
                text.len() as u64
            }
        };
    let ip = match endpoint.host() {
        Host::Address(address) if address.is_ipv6() => IPV6,
        Host::Address(_) | Host::Name(_) => IPV4,
    };
    let syn = ip + SYN;
    let segments = |count: u64| count * (ip + SEGMENT);
    match protocol {
        Protocol::Udp => (ip + UDP + datapoint, 0),
        Protocol::Tcp | Protocol::Pickle => (syn + segments(4) + datapoint, syn + segments(2)),
        Protocol::Tls | Protocol::PickleTls => {
            let handshake = SERVER_HANDSHAKE + chain;
            let more = handshake.div_ceil(SEGMENT_DATA) - 1;
            // ACK, hello, the end of the handshake, datapoint, alert and FIN, an ACK; and one of each two that come.
            let sent = syn + segments(7 + more.div_ceil(2)) + CLIENT_HANDSHAKE + RECORD + datapoint + CLOSE;
            (sent, syn + segments(6 + more) + handshake)
        }
        Protocol::Https => {
            let handshake = SERVER_HANDSHAKE + chain;
            let more = handshake.div_ceil(SEGMENT_DATA) - 1;
            let host = endpoint.host().to_string().len() + endpoint.path().len();
            let request = REQUEST_HEAD + host as u64 + datapoint;
            let sent = syn + segments(8 + more.div_ceil(2)) + CLIENT_HANDSHAKE + RECORD + request + CLOSE;
            (sent, syn + segments(7 + more) + handshake + RECORD + RESPONSE)
        }
    }
}

/// Bytes out and in of a second's report about so many series, over a connection that is kept.
fn report(series: u64, is_tls: bool) -> (u64, u64) {
    let plain = series * REPORT_SERIES;
    let body = if plain < REPORT_PACKED_FROM { plain } else { plain * 2 / 5 };
    let record = if is_tls { RECORD } else { 0 };
    let data = REPORT_HEAD + body + record;
    let packets = data.div_ceil(SEGMENT_DATA);
    let header = IPV4 + SEGMENT;
    let sent = data + (packets + 1) * header;
    (sent, REPORT_ANSWER + record + packets.div_ceil(2) * header)
}

/// Prints what `config` costs an agent, and a fleet of them.
pub(crate) fn print(config: &Config, fleet: Fleet, format: Format, out: &mut impl Write) -> io::Result<()> {
    let cost = of(config, fleet.chain);
    let kind = vantage(config).kind;
    match format {
        Format::Json => writeln!(out, "{}", in_json(kind, &cost, fleet)),
        Format::Text if cost.series == 0 => {
            writeln!(
                out,
                "Nothing is probed by this file alone from a vantage of kind {kind}, so that nothing can be reckoned; ask of the collector's file."
            )
        }
        Format::Text => in_text(kind, &cost, fleet, out),
    }
}

fn in_json(kind: VantageKind, cost: &Cost, Fleet { agents, regions, chain }: Fleet) -> Value {
    let times = |factor: u64| {
        json!({"connections_per_second": cost.connections * factor, "datagrams_per_second": cost.datagrams * factor,
            "lookups_per_second": cost.lookups * factor, "sent_bytes_per_second": cost.sent * factor,
            "received_bytes_per_second": cost.received * factor, "report_bytes_per_second": cost.reports * factor,
            "bytes_per_month": cost.month() * factor, "series": cost.series * factor,
            "whisper_bytes": cost.series * WHISPER_BYTES * factor, "time_wait_ports": cost.ports() * factor,
            "nat_ports": cost.nat_ports() * factor})
    };
    json!({"kind": kind.name(), "agent": times(1), "fleet": times(agents), "agents": agents, "regions": regions, "chain_bytes": chain,
        "nat_ports_per_region": cost.nat_ports() * agents.div_ceil(regions)})
}

fn in_text(
    kind: VantageKind,
    cost: &Cost,
    Fleet { agents, regions, .. }: Fleet,
    out: &mut impl Write,
) -> io::Result<()> {
    let row = |what: &str, one: u64, write: fn(u64) -> String| {
        vec![what.to_owned(), write(one), write(one * agents)]
    };
    let number = |number: u64| number.to_string();
    let rows = [
        row("series", cost.series, number),
        row("connections a second", cost.connections, number),
        row("datagrams a second", cost.datagrams, number),
        row("look-ups a second", cost.lookups, number),
        row("sent a second", cost.sent, bytes),
        row("received a second", cost.received, bytes),
        row("  of both, reports", cost.reports, bytes),
        row("traffic in 30 days", cost.month(), bytes),
        row("Whisper files", cost.series * WHISPER_BYTES, bytes),
        row("ports in TIME_WAIT", cost.ports(), number),
        row("ports of a NAT", cost.nat_ports(), number),
    ];
    let fleet = format!("{agents} agents");
    let header = if agents > 1 { vec!["", "an agent", &fleet] } else { vec!["", "an agent"] };
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.into_iter().take(header.len()).collect()).collect();
    print_table(out, &header, &rows)?;
    if regions > 1 {
        let ports = cost.nat_ports() * agents.div_ceil(regions);
        writeln!(out, "{ports} ports of a NAT in each of {regions} regions, if the agents there share one.")?;
    }
    writeln!(
        out,
        "Reckoned for what a vantage of kind {kind} probes, for IPv4, whole handshakes, and datapoints that arrive; a name whose addresses each have a series counts once."
    )
}

/// In the unit that leaves one to three digits.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut amount, mut unit) = (count as f64, 0);
    while amount >= 1_000.0 && unit + 1 < UNITS.len() {
        (amount, unit) = (amount / 1_000.0, unit + 1);
    }
    if unit == 0 { format!("{count} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (2_592_040, "2.6 MB"),
            (3_200_000_000_000, "3.2 TB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn a_report_costs_less_a_series_once_it_is_packed() {
        let of = |series| report(series, false).0;
        assert!(of(1) < of(10) && of(10) < of(20) && of(60) < of(23) * 2, "{} {} {}", of(10), of(20), of(60));
        assert_eq!(report(10, true).0 - of(10), RECORD);
    }
}
