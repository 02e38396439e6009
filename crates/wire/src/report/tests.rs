use aviary_core::{
    Fault, LocalFault, VantageKind,
    rollout::{self, HeldState},
};
use proptest::prelude::*;

use super::*;

fn roster(series: usize) -> Roster {
    Roster {
        vantage: Vantage {
            kind: VantageKind::External,
            region: "eu-west-1".to_owned(),
            zone: None,
            network: Some("aws".to_owned()),
            node: "canary-7".to_owned(),
        },
        since: Second(1_763_690_400),
        series: (0..series)
            .map(|place| RosterSeries {
                service: "ingest".to_owned(),
                endpoint: format!("tcp://host-{place}:2003").parse().unwrap(),
                address: (place % 2 == 1).then(|| "2001:db8::7".parse().unwrap()),
                name: format!("canary.ingest.tcp.external.eu-west-1.none.aws.canary-7.host-{place}_2003"),
                from: Second(1_763_690_400),
            })
            .collect(),
    }
}

fn report(slots: Vec<ClosedSlot>) -> Report {
    Report {
        boot: 7,
        sequence: 3,
        epoch: 1,
        wall: Timestamp(1_763_690_460_500_000),
        monotonic: Micros(60_500_000),
        configuration: "9f3a".to_owned(),
        dropped: 2,
        roster_id: 99,
        roster: None,
        slots,
        gaps: Vec::new(),
        timings: Vec::new(),
        events: vec![
            Event {
                second: Second(1_763_690_455),
                what: What::Address {
                    kind: EventKind::AddressAdded,
                    host: "graphite.example.com".to_owned(),
                    address: "192.0.2.7".parse().unwrap(),
                },
            },
            Event {
                second: Second(1_763_690_456),
                what: What::Address {
                    kind: EventKind::AddressRemoved,
                    host: "graphite.example.com".to_owned(),
                    address: "2001:db8::8".parse().unwrap(),
                },
            },
            Event {
                second: Second(1_763_690_457),
                what: What::Paged {
                    service: "ingest".to_owned(),
                    key: "aviary:fallback:ingest".to_owned(),
                    receiver: "oncall".to_owned(),
                },
            },
        ],
        certificates: vec![Certificate {
            endpoint: "tls://graphite.example.com:2030".parse().unwrap(),
            address: "192.0.2.7:2030".parse().unwrap(),
            not_after: 1_795_000_000,
        }],
        self_suspect: vec![Span::new(Second(1_763_690_450), Second(1_763_690_453))],
        program: "0.1.0".to_owned(),
        version: Version::NEWEST,
        services: Some(vec![
            Held::new(rollout::Version(7), HeldState::Active),
            Held {
                version: rollout::Version(8),
                state: HeldState::Error,
                error: "ca.pem: there is no such file".to_owned(),
            },
        ]),
    }
}

#[test]
fn that_services_are_taken_by_version_is_told_apart_from_that_they_are_not() {
    for services in [None, Some(Vec::new()), report(Vec::new()).services] {
        let told = Report { services, ..report(Vec::new()) };
        assert_eq!(Report::decode(&told.encode()).unwrap().services, told.services);
    }
    let silent = Report { services: None, ..report(Vec::new()) };
    let each =
        report(Vec::new()).encode().len() - silent.encode().len() - "ca.pem: there is no such file".len();
    assert!(each <= 40, "{each} bytes each second for two versions");
}

#[test]
fn too_much_about_versions_is_left_out_and_the_slots_are_taken() {
    let long = "\u{e4}".repeat(VERSION_ERROR_BYTES_MAX);
    let long = Held { version: rollout::Version(1), state: HeldState::Error, error: long };
    let told = Report { services: Some(vec![long; VERSIONS_MAX + 1]), ..report(Vec::new()) };
    let read = Report::decode(&told.encode()).unwrap().services.unwrap();
    assert_eq!((read.len(), read[0].error.len()), (VERSIONS_MAX, VERSION_ERROR_BYTES_MAX));
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let phase = prop::sample::select(Phase::ALL);
    let fault = prop_oneof![
        prop::sample::select(Fault::ALL.as_slice())
            .prop_filter("status is below", |fault| !matches!(fault, Fault::Status(_))),
        any::<u16>().prop_map(Fault::Status),
    ];
    prop_oneof![
        prop::sample::select(Evidence::ALL).prop_map(Outcome::Delivered),
        (phase.clone(), fault).prop_map(|(phase, fault)| Outcome::Lost { phase, fault }),
        (phase, prop::sample::select(LocalFault::ALL))
            .prop_map(|(phase, fault)| Outcome::Local { phase, fault }),
        Just(Outcome::Missed),
        Just(Outcome::Muted),
    ]
}

prop_compose! {
    fn any_slot(series: u32, second: u64)(
        outcome in any_outcome(),
        reached in prop::option::of(prop::sample::select(Evidence::ALL)),
        address in prop::option::of((any::<[u8; 4]>(), 1u16..9)),
    ) -> ClosedSlot {
        let fails = matches!(outcome, Outcome::Lost { .. } | Outcome::Local { .. });
        ClosedSlot {
            series, second: Second(1_763_690_400 + second), outcome,
            reached: reached.filter(|_| fails),
            address: address.map(SocketAddr::from).filter(|_| fails),
        }
    }
}

fn any_slots() -> impl Strategy<Value = Vec<ClosedSlot>> {
    prop::collection::btree_set((0u64..5, 0u32..40), 0..80).prop_flat_map(|keys| {
        keys.into_iter().map(|(second, series)| any_slot(series, second)).collect::<Vec<_>>()
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(slots in any_slots(), with_roster: bool) {
        let mut report = report(slots);
        let roster = roster(40);
        report.roster_id = roster.id();
        report.roster = with_roster.then_some(roster);
        report.gaps.push(Gap {
            first: 3,
            count: 4,
            span: Span::new(Second(100), Second(3_700)),
            outcome: Outcome::Local { phase: Phase::Connect, fault: LocalFault::ClockStep },
        });
        let mut histogram = Histogram::default();
        [70, 71, 900, 2_000_000].into_iter().for_each(|micros| histogram.record(micros));
        report.timings.push(PhaseTimings {
            service: "ingest".to_owned(),
            protocol: Protocol::PickleTls,
            phase: Phase::Tls,
            minute: Second(1_763_690_400),
            histogram,
        });
        prop_assert_eq!(Report::decode(&report.encode()), Ok(report));
    }

    #[test]
    fn bytes_that_are_no_report_are_refused_and_never_worse(
        slots in any_slots(), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut report = report(slots);
        let roster = roster(3);
        report.roster_id = roster.id();
        report.roster = Some(roster);
        let bytes = report.encode();
        let mut mangled = bytes.clone();
        mangled[at.index(bytes.len())] = byte;
        _ = Report::decode(&mangled);
        prop_assert!(Report::decode(&bytes[..cut.index(bytes.len())]).is_err(), "a cut report is refused whole");
    }
}

#[test]
fn a_second_of_five_hundred_series_costs_a_few_bytes() {
    let delivered = |series| ClosedSlot {
        series,
        second: Second(1_763_690_400),
        outcome: Outcome::Delivered(Evidence::PeerClosed),
        reached: None,
        address: None,
    };
    let empty = report(Vec::new()).encode().len();
    let all = report((0..500).map(delivered).collect()).encode().len();
    assert!(all - empty <= 16, "{} bytes for 500 slots", all - empty);
    let scattered = report((0..500).filter(|series| series % 2 == 0).map(delivered).collect()).encode().len();
    assert!(scattered - empty <= 600, "{} bytes for 250 scattered slots", scattered - empty);
}

#[test]
fn what_is_wrong_is_named() {
    let error = |report: &message::Report| Report::decode(&report.encode_to_vec()).unwrap_err().to_string();
    let good =
        message::Report { configuration: "x".to_owned(), complete: true, ..message::Report::default() };
    let with = |change: fn(&mut message::Report)| {
        let mut report = good.clone();
        change(&mut report);
        error(&report)
    };
    let runs = |after, runs| columns::SecondRuns { after, runs };
    assert_eq!(with(|report| report.configuration.clear()), "field `configuration`: is missing");
    assert_eq!(
        with(|report| report.roster = Some(message::Roster::default())),
        "field `roster.kind`: `` is not known; it is one of datacentre, external, loopback"
    );
    let mut report = good.clone();
    report.seconds = vec![runs(5, vec![1 << 4 | 1]), runs(5, vec![1 << 4 | 1])];
    assert_eq!(error(&report), "field `seconds.after`: does not rise");
    report.seconds = vec![runs(0, vec![1 << 4 | 6])];
    assert_eq!(error(&report), "field `failures`: has fewer entries than slots failed");
    report.seconds = vec![runs(0, vec![1 << 4 | 13])];
    assert_eq!(error(&report), "field `seconds.runs`: no evidence has number 12");
    report.seconds = vec![runs(0, vec![u32::MAX])];
    assert!(error(&report).contains("at most 10000"), "{}", error(&report));
    report.seconds.clear();
    report.gaps = vec![columns::Gap { seconds: u64::MAX, code: 8, count: 1, ..columns::Gap::default() }];
    assert!(error(&report).starts_with("seconds in a gap"), "{}", error(&report));
    report.gaps = vec![columns::Gap { code: 1, ..columns::Gap::default() }];
    assert_eq!(error(&report), "field `gaps.code`: 1 is no outcome of a gap");
    assert!(matches!(Report::decode(&vec![0; REPORT_BYTES_MAX + 1]), Err(ReportError::TooLarge { .. })));
    assert!(matches!(Report::decode(b"hello"), Err(ReportError::Malformed(_))));
}

#[test]
fn a_roster_can_be_put_before_a_report() {
    let roster = roster(3);
    let bare = Report { roster_id: roster.id(), ..report(Vec::new()) };
    let bytes = [roster.encode_part(), bare.encode()].concat();
    assert_eq!(Report::decode(&bytes), Ok(Report { roster: Some(roster), ..bare }));
}

#[test]
fn a_rosters_hash_covers_all_of_it() {
    let first = roster(3);
    let mut second = first.clone();
    second.series[2].from = Second(5);
    assert_ne!(first.id(), second.id());
    let mut report = report(Vec::new());
    report.roster = Some(first);
    assert!(Report::decode(&report.encode()).unwrap_err().to_string().contains("not the hash"));
}
