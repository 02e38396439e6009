//! Reports of the version before, as they were recorded, and reports of this one in the eyes of a reader of then.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod first;
mod meaning;

use std::{fs, path::Path};

use aviary_core::{
    Evidence, Fault, LocalFault, Micros, Outcome, Phase, Protocol, Second, Span, Timestamp, Vantage,
    VantageKind,
    histogram::Histogram,
    rollout::{self, Held, HeldState},
};
use aviary_wire::report::{
    Certificate, ClosedSlot, Event, EventKind, Gap, PhaseTimings, Report, ReportError, Roster, RosterSeries,
    Version, What,
};
use prost::Message as _;

/// What version 1 left, for all crates.
fn recorded(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/versions/1");
    fs::read(directory.join(name)).unwrap()
}

/// The bodies of what was pushed, each behind its length.
fn bodies(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (body, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        bodies.push(body);
        bytes = rest;
    }
    bodies
}

#[test]
fn reports_of_version_1_say_what_they_said_to_the_version_that_made_them() {
    let pushed = recorded("reports.bin");
    let full = recorded("full.bin");
    let mut text = String::new();
    let mut reports = bodies(&pushed);
    assert!(reports.len() > 200, "{} reports", reports.len());
    // What no short life of an agent tells: each field of a report has something there.
    reports.push(&full);
    for bytes in reports {
        let report = Report::decode(bytes).unwrap();
        assert_eq!((report.version, report.program.as_str()), (Version::FIRST, ""));
        text += &meaning::of(&report);
    }
    let then = [recorded("reports.txt"), recorded("full.txt")].concat();
    let then = String::from_utf8(then).unwrap();
    let differs = text.lines().zip(then.lines()).find(|(now, then)| now != then);
    assert_eq!(differs, None);
    assert_eq!(text.lines().count(), then.lines().count());
}

#[test]
fn what_is_encoded_now_is_what_version_1_encoded_with_its_versions_beside() {
    let then = first::Report::decode(recorded("full.bin").as_slice()).unwrap();
    assert_eq!(first::Report::decode(full().encode().as_slice()).unwrap(), then);
}

/// A report in which each field has something.
fn full() -> Report {
    let since = Second(1_763_690_400);
    let series = |(place, endpoint): (usize, &str)| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: endpoint.parse().unwrap(),
        address: (place == 1).then(|| "2001:db8::7".parse().unwrap()),
        name: format!("canary.ingest.{place}"),
        from: since.plus(place as u64),
    };
    let roster = Roster {
        vantage: Vantage {
            kind: VantageKind::Datacentre,
            region: "eu-west-1".to_owned(),
            zone: Some("eu-west-1a".to_owned()),
            network: Some("aws".to_owned()),
            node: "canary-7".to_owned(),
        },
        since,
        series: ["tcp://h:1", "udp://h:2", "https://h/sink"].into_iter().enumerate().map(series).collect(),
    };
    let outcomes = [
        Outcome::Delivered(Evidence::AppAcked),
        Outcome::Lost { phase: Phase::Confirm, fault: Fault::Status(503) },
        Outcome::Local { phase: Phase::Connect, fault: LocalFault::NoPorts },
        Outcome::Missed,
        Outcome::Muted,
        Outcome::Delivered(Evidence::Sent),
    ];
    let slot = |(place, outcome): (usize, Outcome)| {
        let fails = matches!(outcome, Outcome::Lost { .. } | Outcome::Local { .. });
        ClosedSlot {
            series: place as u32 % 3,
            second: since.plus(10 + place as u64 / 3),
            outcome,
            reached: fails.then_some(Evidence::Sent),
            address: fails.then(|| "192.0.2.7:2003".parse().unwrap()),
        }
    };
    let mut histogram = Histogram::default();
    [70, 80, 9_000].into_iter().for_each(|micros| histogram.record(micros));
    let event = |second, what| Event { second: Second(second), what };
    let (host, address) = ("h".to_owned(), "192.0.2.7".parse().unwrap());
    Report {
        boot: 7,
        sequence: 9,
        epoch: 1,
        wall: Timestamp(1_763_690_420_500_000),
        monotonic: Micros(60_500_000),
        configuration: "9f3a".to_owned(),
        dropped: 2,
        roster_id: roster.id(),
        roster: Some(roster),
        slots: outcomes.into_iter().enumerate().map(slot).collect(),
        gaps: vec![Gap {
            first: 0,
            count: 3,
            span: Span::new(since, since.plus(9)),
            outcome: Outcome::Missed,
        }],
        timings: vec![PhaseTimings {
            service: "ingest".to_owned(),
            protocol: Protocol::Tls,
            phase: Phase::Tls,
            minute: since,
            histogram,
        }],
        events: vec![
            event(1_763_690_411, What::Address { kind: EventKind::AddressAdded, host, address }),
            event(
                1_763_690_412,
                What::Paged {
                    service: "ingest".to_owned(),
                    key: "key".to_owned(),
                    receiver: "oncall".to_owned(),
                },
            ),
        ],
        certificates: vec![Certificate {
            endpoint: "tls://h:3".parse().unwrap(),
            address: "192.0.2.7:3".parse().unwrap(),
            not_after: 1_795_000_000,
        }],
        self_suspect: vec![Span::new(since.plus(10), since.plus(11))],
        program: "0.2.0".to_owned(),
        services: Some(vec![Held::new(rollout::Version(7), HeldState::Active)]),
        version: Version::NEWEST,
    }
}

#[test]
fn a_reader_of_version_1_reads_all_of_what_an_agent_says_now_but_its_versions() {
    let report = full();
    let then = first::Report::decode(report.encode().as_slice()).unwrap();
    assert!(then.complete, "it takes it for whole");
    assert_eq!(then.roster_id, report.roster_id);
    // What it knows is all that there is: written again as it understood it, nothing is missing.
    let back = Report::decode(&then.encode_to_vec()).unwrap();
    let known = Report { program: String::new(), version: Version::FIRST, services: None, ..report.clone() };
    assert_eq!(back, known);
    // The roster's bytes travel before a report that waited, and their hash is what it looks at.
    let roster = report.roster.clone().unwrap();
    let apart = [roster.encode_part(), Report { roster: None, ..report }.encode()].concat();
    assert_eq!(first::Report::decode(apart.as_slice()).unwrap(), then);
    assert_eq!(aviary_core::fnv::fnv1a(then.roster.unwrap().encode_to_vec()), roster.id());
}

#[test]
fn a_report_of_a_version_to_come_is_not_half_understood() {
    // All of it is as it is now, but that it says that it means something else.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Says {
        #[prost(string, tag = "20")]
        program: String,
        #[prost(uint32, tag = "22")]
        version: u32,
    }
    let says = Says { program: "9.0.0".to_owned(), version: Version::NEWEST.0 + 1 }.encode_to_vec();
    let error = Report::decode(&[full().encode(), says].concat()).unwrap_err();
    let expected = ReportError::Version { found: Version(3), program: "9.0.0".to_owned() };
    assert_eq!(error, expected);
    assert_eq!(error.to_string(), "report version 3 (of aviary 9.0.0) is not known here, where 1 and 2 are");
}
