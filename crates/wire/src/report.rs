//! A report: an agent's batch of closed slots, as protobuf.
//!
//! Columns rather than rows: for each second, runs over the agent's roster say what became of each series, four bits
//! of code and a length to a run, and what a loss needs beside stands in columns of its own, in the order of the
//! slots. An agent whose 500 series were all delivered spends two bytes on their second.
//!
//! The roster (who the series are) travels until the collector has confirmed it, and again when it asks; after that
//! its hash stands for it. Every part of a report is a statement, none an increment: the same report twice, late or
//! in another order, says the same. Timing histograms are states of a minute that only grow.
//!
//! Each report says its [`Version`]; `v1` in the path, `/api/v1/reports`, is that of the API. Field numbers are never used
//! again for something else.

mod columns;
mod message;
mod services;
mod version;

use std::net::{IpAddr, SocketAddr};

use aviary_core::{
    Endpoint, Evidence, Micros, Outcome, Phase, Protocol, Second, Series, Span, Timestamp, Vantage,
    fnv::fnv1a, histogram::Histogram, rollout::Held,
};
use prost::Message as _;

pub use self::{
    services::told_reason,
    version::{PROGRAM_CHARACTERS_MAX, Version, version_of},
};

/// The largest report that is decoded, in bytes: an hour of 10,000 series of which every slot was lost is split by the
/// agent into reports far below this.
pub const REPORT_BYTES_MAX: usize = 4 << 20;

/// The most series of one agent, and so of one roster.
pub const SERIES_MAX: usize = 10_000;

/// The most slots that one report may speak of, spans aside.
pub const SLOTS_MAX: usize = 1 << 20;

/// The most gaps of one report.
pub const GAPS_MAX: usize = 10_000;

/// The most timing histograms of one report.
pub const TIMINGS_MAX: usize = 10_000;

/// The most events of one report.
pub const EVENTS_MAX: usize = 1_000;

/// The most certificates of one report.
pub const CERTIFICATES_MAX: usize = 1_000;

/// The most spans in which an agent may suspect itself, of one report.
pub const SUSPECT_SPANS_MAX: usize = 1_000;

/// The most versions of its services that an agent holds at once: what it runs, what it prepares, and what comes to its end.
pub const VERSIONS_MAX: usize = 8;

/// The longest reason why a version cannot be used, in bytes.
pub const VERSION_ERROR_BYTES_MAX: usize = TEXT_BYTES_MAX;

/// The longest span, in seconds: what a report may say of one series in one stroke.
pub const SPAN_SECONDS_MAX: u64 = 400 * 86_400;

const TEXT_BYTES_MAX: usize = 2_048;

/// An agent's batch of closed slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Random at each start of the agent: which life of it speaks.
    pub boot: u64,
    /// The number of this report in that life.
    pub sequence: u64,
    /// How many times the wall clock was stepped in that life.
    pub epoch: u32,
    /// The agent's clocks when the report was made.
    pub wall: Timestamp,
    /// See `wall`.
    pub monotonic: Micros,
    /// The version of the agent's configuration.
    pub configuration: String,
    /// How many closed slots the agent had to drop in that life because the collector was away for too long.
    pub dropped: u64,
    /// The hash of the roster that the series of this report are places in.
    pub roster_id: u64,
    /// The roster itself, unless the collector is known to have it.
    pub roster: Option<Roster>,
    /// Slots closed one by one; no slot twice.
    pub slots: Vec<ClosedSlot>,
    /// Slots closed in one stroke.
    pub gaps: Vec<Gap>,
    /// Timings of attempts that were delivered, by minute.
    pub timings: Vec<PhaseTimings>,
    /// What happened around the agent.
    pub events: Vec<Event>,
    /// When the certificates end that were seen, by address. What is not told again still holds.
    pub certificates: Vec<Certificate>,
    /// Seconds in which every series of the agent failed and so did its controls: it suspects itself.
    pub self_suspect: Vec<Span>,
    /// The version of aviary that made it, such as `0.1.0`, in at most [`PROGRAM_CHARACTERS_MAX`] characters; empty where
    /// it does not say.
    pub program: String,
    /// The version that it was written in. To whoever encodes it, it is no matter: that writes [`Version::NEWEST`].
    pub version: Version,
    /// Of an agent that takes its services from a collector by version: the versions that it holds. None of one that does not.
    pub services: Option<Vec<Held>>,
}

/// Who the series of an agent are. A series is meant by its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Where all of them probe from.
    pub vantage: Vantage,
    /// From here on these are all series of the agent: one of an earlier roster that is not among them ended here.
    pub since: Second,
    /// The series.
    pub series: Vec<RosterSeries>,
}

/// One series of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterSeries {
    /// The service under test.
    pub service: String,
    /// What is probed.
    pub endpoint: Endpoint,
    /// The one address that is probed, where each address of the endpoint's name has a series of its own.
    pub address: Option<IpAddr>,
    /// The Graphite name that its datapoints carry, without an API key.
    pub name: String,
    /// Its first full slot in this life of the agent.
    pub from: Second,
}

impl Roster {
    /// The series at each place, with the vantage they share.
    pub fn series(&self) -> impl Iterator<Item = Series> {
        self.series.iter().map(|series| Series {
            service: series.service.clone(),
            vantage: self.vantage.clone(),
            endpoint: series.endpoint.clone(),
            address: series.address,
        })
    }

    /// The roster as bytes to be put before those of a report without one: protobuf merges what is concatenated, so
    /// an encoded report can wait without its roster and still travel with it.
    pub fn encode_part(&self) -> Vec<u8> {
        message::Report { roster: Some(message::Roster::from(self)), ..message::Report::default() }
            .encode_to_vec()
    }

    /// A hash of everything in it.
    pub fn id(&self) -> u64 {
        fnv1a(message::Roster::from(self).encode_to_vec())
    }
}

/// A slot that was closed, by its series' place in the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSlot {
    /// The series' place in the roster.
    pub series: u32,
    /// The second.
    pub second: Second,
    /// What came of it.
    pub outcome: Outcome,
    /// How far the proof had reached, told of lost and local slots.
    pub reached: Option<Evidence>,
    /// The address that was tried, told of lost and local slots.
    pub address: Option<SocketAddr>,
}

/// Neighbouring series of the roster over a span, all of whose slots had the same outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first series' place in the roster.
    pub first: u32,
    /// How many series from there.
    pub count: u32,
    /// The seconds.
    pub span: Span,
    /// Missed, muted, or local.
    pub outcome: Outcome,
}

/// How long one phase took in the attempts of one minute that were delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseTimings {
    /// The service.
    pub service: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The phase.
    pub phase: Phase,
    /// The minute's first second.
    pub minute: Second,
    /// Microseconds. The state so far: a later report of the same life and minute has at least these counts.
    pub histogram: Histogram,
}

/// Something that happened around the agent and may explain what its slots show, or that it did by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub second: Second,
    /// What.
    pub what: What,
}

/// What happened around an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The addresses of a name changed.
    Address {
        /// How.
        kind: EventKind,
        /// The name.
        host: String,
        /// The address that came or went.
        address: IpAddr,
    },
    /// While no collector answered, the agent paged by itself: a receiver holds an alert that somebody must end.
    Paged {
        /// The service that was wholly lost.
        service: String,
        /// The alert's key.
        key: String,
        /// The receiver's name.
        receiver: String,
    },
}

/// How the addresses of a name changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// A name has an address that it had not.
    AddressAdded,
    /// A name no longer has an address that it had.
    AddressRemoved,
}

/// A certificate that a handshake showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The endpoint whose name it was asked for.
    pub endpoint: Endpoint,
    /// The address that showed it.
    pub address: SocketAddr,
    /// When it ends, in seconds since the Unix epoch.
    pub not_after: i64,
}

/// Why bytes are no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Truncated, or no protobuf of ours at all.
    #[error("the body is truncated or no report: {0}")]
    Malformed(String),
    /// Something is larger than allowed.
    #[error("{what}: {found}, at most {limit} are allowed; send several smaller reports")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A field holds what it may not.
    #[error("field `{field}`: {problem}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// It is of a version that is not understood here: nothing of it is.
    #[error("report version {found}{} is not known here, where {} are", by(program), Version::known())]
    Version {
        /// Which.
        found: Version,
        /// The version of aviary that made it, where it says so.
        program: String,
    },
}

fn by(program: &str) -> String {
    if program.is_empty() { String::new() } else { format!(" (of aviary {program})") }
}

impl Report {
    /// The report as bytes.
    pub fn encode(&self) -> Vec<u8> {
        message::Report::from(self).encode_to_vec()
    }

    /// The report in `bytes`, or why there is none. Nothing of a report with a fault in it is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReportError> {
        at_most("bytes", bytes.len() as u64, REPORT_BYTES_MAX as u64)?;
        version_of(bytes)?;
        let message =
            message::Report::decode(bytes).map_err(|error| ReportError::Malformed(error.to_string()))?;
        Self::try_from(message)
    }
}

fn at_most(what: &'static str, found: u64, limit: u64) -> Result<(), ReportError> {
    if found > limit { Err(ReportError::TooLarge { what, found, limit }) } else { Ok(()) }
}

fn field(field: &'static str, problem: impl ToString) -> ReportError {
    ReportError::Field { field, problem: problem.to_string() }
}

fn text(name: &'static str, text: String) -> Result<String, ReportError> {
    if text.is_empty() {
        return Err(field(name, "is missing"));
    }
    at_most(name, text.len() as u64, TEXT_BYTES_MAX as u64)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
