//! The protobuf messages, and what of theirs is no column.

use aviary_core::{Micros, Protocol, Second, Span, Timestamp, Vantage, VantageKind, histogram};

use super::{
    CERTIFICATES_MAX, Certificate as ToldCertificate, EVENTS_MAX, Event as ToldEvent, EventKind, GAPS_MAX,
    PhaseTimings, Report as Told, ReportError, Roster as ToldRoster, RosterSeries, SERIES_MAX,
    SUSPECT_SPANS_MAX, TIMINGS_MAX, Version, What, at_most, columns, field, services::Services, text,
    version,
};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Report {
    #[prost(fixed64, tag = "1")]
    pub(super) boot: u64,
    #[prost(uint64, tag = "2")]
    pub(super) sequence: u64,
    #[prost(uint32, tag = "3")]
    pub(super) epoch: u32,
    #[prost(uint64, tag = "4")]
    pub(super) wall_us: u64,
    #[prost(uint64, tag = "5")]
    pub(super) monotonic_us: u64,
    #[prost(string, tag = "6")]
    pub(super) configuration: String,
    #[prost(uint64, tag = "7")]
    pub(super) dropped: u64,
    #[prost(fixed64, tag = "8")]
    pub(super) roster_id: u64,
    #[prost(message, optional, tag = "9")]
    pub(super) roster: Option<Roster>,
    /// The first second that `seconds` speaks of.
    #[prost(uint64, tag = "10")]
    pub(super) first_second: u64,
    #[prost(message, repeated, tag = "11")]
    pub(super) seconds: Vec<columns::SecondRuns>,
    #[prost(message, optional, tag = "12")]
    pub(super) failures: Option<columns::Failures>,
    #[prost(message, repeated, tag = "13")]
    pub(super) gaps: Vec<columns::Gap>,
    #[prost(message, repeated, tag = "14")]
    pub(super) timings: Vec<Timings>,
    #[prost(message, repeated, tag = "16")]
    pub(super) events: Vec<Event>,
    #[prost(message, repeated, tag = "17")]
    pub(super) certificates: Vec<Certificate>,
    #[prost(message, repeated, tag = "18")]
    pub(super) self_suspect: Vec<Suspect>,
    /// Not among `events`: a collector that does not know them is to take the report all the same.
    #[prost(message, repeated, tag = "19")]
    pub(super) paged: Vec<Paged>,
    /// At the same place in every version, as [`Self::version`] is.
    #[prost(string, tag = "20")]
    pub(super) program: String,
    /// 0 is the first.
    #[prost(uint32, tag = "22")]
    pub(super) version: u32,
    /// Absent of an agent that takes its services from elsewhere, or knows no versions of them.
    #[prost(message, optional, tag = "21")]
    pub(super) services: Option<Services>,
    /// True, and encoded last, having the greatest number: protobuf cut between two fields is protobuf, so without this
    /// half a report would pass.
    #[prost(bool, tag = "2047")]
    pub(super) complete: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Event {
    #[prost(uint64, tag = "1")]
    second: u64,
    /// 1 added, 2 removed.
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    host: String,
    #[prost(string, tag = "4")]
    address: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Paged {
    #[prost(uint64, tag = "1")]
    second: u64,
    #[prost(string, tag = "2")]
    service: String,
    #[prost(string, tag = "3")]
    key: String,
    #[prost(string, tag = "4")]
    receiver: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Certificate {
    #[prost(string, tag = "1")]
    endpoint: String,
    #[prost(string, tag = "2")]
    address: String,
    #[prost(int64, tag = "3")]
    not_after: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Suspect {
    #[prost(uint64, tag = "1")]
    from: u64,
    #[prost(uint64, tag = "2")]
    seconds: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Roster {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    region: String,
    #[prost(string, optional, tag = "3")]
    zone: Option<String>,
    #[prost(string, optional, tag = "4")]
    network: Option<String>,
    #[prost(string, tag = "5")]
    node: String,
    #[prost(message, repeated, tag = "6")]
    series: Vec<Series>,
    #[prost(uint64, tag = "7")]
    since: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Series {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    endpoint: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(uint64, tag = "4")]
    from: u64,
    #[prost(string, optional, tag = "5")]
    address: Option<String>,
}

/// A histogram's buckets that are not empty.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Timings {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    protocol: String,
    #[prost(uint32, tag = "3")]
    phase: u32,
    #[prost(uint64, tag = "4")]
    minute: u64,
    /// How far each bucket is from the one before.
    #[prost(uint32, repeated, tag = "5")]
    steps: Vec<u32>,
    #[prost(uint64, repeated, tag = "6")]
    counts: Vec<u64>,
}

impl From<&Told> for Report {
    fn from(told: &Told) -> Self {
        let (first_second, seconds, failures) = columns::write(&told.slots);
        Self {
            boot: told.boot,
            sequence: told.sequence,
            epoch: told.epoch,
            wall_us: told.wall.0,
            monotonic_us: told.monotonic.0,
            configuration: told.configuration.clone(),
            dropped: told.dropped,
            roster_id: told.roster_id,
            roster: told.roster.as_ref().map(Roster::from),
            first_second,
            seconds,
            failures,
            gaps: told.gaps.iter().map(columns::write_gap).collect(),
            timings: told.timings.iter().map(Timings::from).collect(),
            events: told.events.iter().filter_map(Event::of).collect(),
            certificates: told.certificates.iter().map(Certificate::from).collect(),
            self_suspect: told.self_suspect.iter().map(Suspect::from).collect(),
            paged: told.events.iter().filter_map(Paged::of).collect(),
            program: version::program(&told.program),
            version: Version::NEWEST.0,
            services: told.services.as_deref().map(Services::of),
            complete: true,
        }
    }
}

impl TryFrom<Report> for Told {
    type Error = ReportError;

    fn try_from(message: Report) -> Result<Self, ReportError> {
        if !message.complete {
            return Err(ReportError::Malformed("its last field is missing".to_owned()));
        }
        let slots =
            columns::read(message.first_second, &message.seconds, message.failures.unwrap_or_default())?;
        let roster = message.roster.map(ToldRoster::try_from).transpose()?;
        if let Some(roster) = &roster
            && roster.id() != message.roster_id
        {
            return Err(field("roster_id", "is not the hash of the roster beside it"));
        }
        at_most("gaps", message.gaps.len() as u64, GAPS_MAX as u64)?;
        at_most("timings", message.timings.len() as u64, TIMINGS_MAX as u64)?;
        at_most("events", (message.events.len() + message.paged.len()) as u64, EVENTS_MAX as u64)?;
        at_most("certificates", message.certificates.len() as u64, CERTIFICATES_MAX as u64)?;
        at_most("self_suspect", message.self_suspect.len() as u64, SUSPECT_SPANS_MAX as u64)?;
        Ok(Self {
            boot: message.boot,
            sequence: message.sequence,
            epoch: message.epoch,
            wall: Timestamp(message.wall_us),
            monotonic: Micros(message.monotonic_us),
            configuration: text("configuration", message.configuration)?,
            dropped: message.dropped,
            roster_id: message.roster_id,
            roster,
            slots,
            gaps: message.gaps.iter().map(columns::read_gap).collect::<Result<_, _>>()?,
            timings: message.timings.into_iter().map(PhaseTimings::try_from).collect::<Result<_, _>>()?,
            events: message
                .events
                .into_iter()
                .map(ToldEvent::try_from)
                .chain(message.paged.into_iter().map(ToldEvent::try_from))
                .collect::<Result<_, _>>()?,
            certificates: message
                .certificates
                .into_iter()
                .map(ToldCertificate::try_from)
                .collect::<Result<_, _>>()?,
            self_suspect: message.self_suspect.iter().map(Span::from).collect(),
            program: version::program(&message.program),
            version: version::read(message.version),
            services: message.services.map(Services::read),
        })
    }
}

impl From<&ToldRoster> for Roster {
    fn from(roster: &ToldRoster) -> Self {
        let series = roster.series.iter().map(|series| Series {
            service: series.service.clone(),
            endpoint: series.endpoint.to_string(),
            name: series.name.clone(),
            from: series.from.0,
            address: series.address.map(|address| address.to_string()),
        });
        Self {
            kind: roster.vantage.kind.name().to_owned(),
            region: roster.vantage.region.clone(),
            zone: roster.vantage.zone.clone(),
            network: roster.vantage.network.clone(),
            node: roster.vantage.node.clone(),
            series: series.collect(),
            since: roster.since.0,
        }
    }
}

impl TryFrom<Roster> for ToldRoster {
    type Error = ReportError;

    fn try_from(message: Roster) -> Result<Self, ReportError> {
        at_most("series", message.series.len() as u64, SERIES_MAX as u64)?;
        let vantage = Vantage {
            kind: message.kind.parse::<VantageKind>().map_err(|error| field("roster.kind", error))?,
            region: text("roster.region", message.region)?,
            zone: message.zone.map(|zone| text("roster.zone", zone)).transpose()?,
            network: message.network.map(|network| text("roster.network", network)).transpose()?,
            node: text("roster.node", message.node)?,
        };
        let series = message.series.into_iter().map(|series| {
            Ok(RosterSeries {
                service: text("series.service", series.service)?,
                endpoint: text("series.endpoint", series.endpoint)?
                    .parse()
                    .map_err(|error| field("series.endpoint", error))?,
                address: series
                    .address
                    .map(|address| address.parse().map_err(|error| field("series.address", error)))
                    .transpose()?,
                name: text("series.name", series.name)?,
                from: Second(series.from),
            })
        });
        let since = Second(message.since);
        Ok(Self { vantage, since, series: series.collect::<Result<_, ReportError>>()? })
    }
}

impl Event {
    fn of(event: &ToldEvent) -> Option<Self> {
        let What::Address { kind, host, address } = &event.what else { return None };
        let kind = match kind {
            EventKind::AddressAdded => 1,
            EventKind::AddressRemoved => 2,
        };
        Some(Self { second: event.second.0, kind, host: host.clone(), address: address.to_string() })
    }
}

impl Paged {
    fn of(event: &ToldEvent) -> Option<Self> {
        let What::Paged { service, key, receiver } = event.what.clone() else { return None };
        Some(Self { second: event.second.0, service, key, receiver })
    }
}

impl TryFrom<Paged> for ToldEvent {
    type Error = ReportError;

    fn try_from(message: Paged) -> Result<Self, ReportError> {
        let what = What::Paged {
            service: text("paged.service", message.service)?,
            key: text("paged.key", message.key)?,
            receiver: text("paged.receiver", message.receiver)?,
        };
        Ok(Self { second: Second(message.second), what })
    }
}

impl TryFrom<Event> for ToldEvent {
    type Error = ReportError;

    fn try_from(message: Event) -> Result<Self, ReportError> {
        let kind = match message.kind {
            1 => EventKind::AddressAdded,
            2 => EventKind::AddressRemoved,
            other => return Err(field("events.kind", format!("no kind has number {other}"))),
        };
        let address = message.address.parse().map_err(|error| field("events.address", error))?;
        let host = text("events.host", message.host)?;
        Ok(Self { second: Second(message.second), what: What::Address { kind, host, address } })
    }
}

impl From<&ToldCertificate> for Certificate {
    fn from(certificate: &ToldCertificate) -> Self {
        Self {
            endpoint: certificate.endpoint.to_string(),
            address: certificate.address.to_string(),
            not_after: certificate.not_after,
        }
    }
}

impl TryFrom<Certificate> for ToldCertificate {
    type Error = ReportError;

    fn try_from(message: Certificate) -> Result<Self, ReportError> {
        let endpoint = text("certificates.endpoint", message.endpoint)?;
        Ok(Self {
            endpoint: endpoint.parse().map_err(|error| field("certificates.endpoint", error))?,
            address: message.address.parse().map_err(|error| field("certificates.address", error))?,
            not_after: message.not_after,
        })
    }
}

impl From<&Span> for Suspect {
    fn from(span: &Span) -> Self {
        Self { from: span.from.0, seconds: span.seconds() }
    }
}

impl From<&Suspect> for Span {
    fn from(message: &Suspect) -> Self {
        let from = Second(message.from);
        Self::new(from, from.plus(message.seconds))
    }
}

impl From<&PhaseTimings> for Timings {
    fn from(timings: &PhaseTimings) -> Self {
        let mut last = 0;
        let (mut steps, mut counts) = (Vec::new(), Vec::new());
        for (bucket, count) in timings.histogram.buckets() {
            steps.push((bucket - last) as u32);
            counts.push(count);
            last = bucket;
        }
        Self {
            service: timings.service.clone(),
            protocol: timings.protocol.name().to_owned(),
            phase: timings.phase as u32,
            minute: timings.minute.0,
            steps,
            counts,
        }
    }
}

impl TryFrom<Timings> for PhaseTimings {
    type Error = ReportError;

    fn try_from(message: Timings) -> Result<Self, ReportError> {
        if message.steps.len() != message.counts.len() {
            return Err(field("timings.counts", "has another length than `steps`"));
        }
        let mut histogram = histogram::Histogram::default();
        let mut bucket = 0usize;
        for (step, count) in message.steps.iter().zip(&message.counts) {
            bucket = bucket.saturating_add(*step as usize);
            if bucket >= histogram::BUCKETS {
                return Err(field(
                    "timings.steps",
                    format!("leads to bucket {bucket} of {}", histogram::BUCKETS),
                ));
            }
            histogram.add(bucket, *count);
        }
        Ok(Self {
            service: text("timings.service", message.service)?,
            protocol: message
                .protocol
                .parse::<Protocol>()
                .map_err(|error| field("timings.protocol", error))?,
            phase: columns::phase(message.phase)?,
            minute: Second(message.minute),
            histogram,
        })
    }
}
