//! An agent that has something of everything to tell: what the reference is made from.

use aviary_core::{Endpoint, Protocol, Second, State, Timestamp, histogram::Histogram};

use crate::{
    admin::{
        process::Process,
        standing::{Discovery, Fallback, Group, Reload, Rotation, Shipping, Spool, Standing},
    },
    steer::{Answer, Rotation as InRotation},
};

/// Every field is named, so that what is told anew has to be thought of here.
pub(super) fn example() -> (Standing, Process) {
    let mut timings = Histogram::default();
    timings.record(1_000);
    let group = Group {
        service: "ingest".to_owned(),
        protocol: Protocol::Tls,
        outcomes: [(("lost", Some("connect"), Some("refused")), 1)].into(),
        phases: [None, Some(timings.clone()), None, None, None],
    };
    let answer = Answer {
        service: "ingest".to_owned(),
        state: State::Down,
        rotation: InRotation::Out,
        weight: 0,
        reason: None,
        until: Some("2025-11-21T02:01:00Z".to_owned()),
    };
    // The name of a host is no part of a metric: what parses is enough.
    let endpoint: Option<Endpoint> = "tls://graphite.example.com:2030".parse().ok();
    let standing = Standing {
        started: Timestamp(1),
        now: Timestamp(2),
        configuration: "0123456789abcdef".to_owned(),
        epoch: 1,
        series: 1,
        ticking: 1,
        groups: vec![group],
        start_late: timings.clone(),
        abandon_late: timings,
        skipped: 1,
        dropped: 1,
        beats_dropped: 1,
        spool: Spool {
            records: 1,
            bytes: 1,
            slots: 1,
            oldest: Some(Second(1)),
            on_disk: Some(true),
            disk_bytes: Some(1),
            last_error: None,
        },
        shipping: Shipping {
            reports_taken: 1,
            last_taken: Some(Timestamp(1)),
            failures: 1,
            last_error: None,
            collector: "https://collector.example.net:8610".to_owned(),
            clock_offset_us: Some(1),
            token_expires: Some(Second(1)),
        },
        controls: endpoint.iter().map(|it| (it.clone(), true)).collect(),
        self_suspect: false,
        certificates: endpoint.into_iter().map(|it| (it, ([192, 0, 2, 1], 2030).into(), 1)).collect(),
        reload: Reload { at: Some(Timestamp(1)), error: None },
        certificate_expires: Some(Second(1)),
        fallback: Some(Fallback { open: 1, taken: 1, in_vain: 1 }),
        discoveries: vec![Discovery {
            service: "ingest".to_owned(),
            name: "srv _graphite._tcp.example.com".to_owned(),
            endpoints: vec![("tcp://graphite-1.example.com:2003".to_owned(), false)],
            trouble: None,
            labels: 1,
        }],
        rotation: Rotation { answers: vec![answer], ..Rotation::default() },
    };
    (standing, Process::example())
}
