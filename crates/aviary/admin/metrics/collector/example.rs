//! A collector that counts something of everything: what the reference is made from, and tests look at.

use aviary_collector::{
    Counts, JournalFigures, LiveFigures, OutletFigures, Phases, PoolFigures, ReadBackFigures, ReceivedCounts,
    RolloutFigures, RotationFigures, ServiceFigures, SlotCounts, StatusFigures, StoreFigures, TokenCounts,
};
use aviary_core::{
    Protocol, Second, State, Timestamp, Window,
    histogram::Histogram,
    rollout::{HeldState, Phase},
    rotation::{Guard, Mode, State as Of},
};
use aviary_notify::Reason;

use super::{DeliveryFigures, Figures, SwitchFigures};

fn timed(micros: &[u32]) -> Histogram {
    let mut histogram = Histogram::default();
    micros.iter().for_each(|micros| histogram.record(*micros));
    histogram
}

/// Every field is named, so that what is counted anew has to be thought of here.
pub(super) fn example() -> Figures {
    let token = TokenCounts {
        name: "eu\"agents".to_owned(),
        reports: 3,
        slots: 40,
        series: 2,
        refused: vec![("reports", 7), ("bytes", 0)],
    };
    let mut received = ReceivedCounts { arrived: 5, duplicates: 1, ..ReceivedCounts::default() };
    received.delays.record(70_000);
    let mut phases = Phases::default();
    phases[1] = Some(timed(&[300]));
    Figures {
        started: Timestamp(1_763_690_400_500_000),
        counts: Counts { unowned: 9, reports: 21, refused: 4, ..Counts::default() },
        agents: vec![("late", 4)],
        tokens: vec![token],
        strangers: 11,
        pretenders: 12,
        received: vec![("ingest".to_owned(), Protocol::Udp, received)],
        delivery: DeliveryFigures {
            receivers: vec![aviary_collector::delivery::Figures {
                receiver: "oncall".to_owned(),
                delivered: 6,
                refused: vec![(Reason::Timeout, 2)],
                turned_away: 1,
                oldest_held: None,
            }],
            switch: Some(SwitchFigures { told: 8, refused: 0, withheld: 3 }),
        },
        waiting: vec![("oncall".to_owned(), 12)],
        canary_delay: Some(12.5),
        expiries: vec![("token", "eu\"agents".to_owned(), Second(1_771_466_400))],
        rollout: RolloutFigures {
            phase: Some(Phase::Held),
            agents: [(Some(HeldState::Error), 1), (None, 2)].into(),
        },
        rotation: RotationFigures {
            pools: vec![PoolFigures {
                service: "ingest".to_owned(),
                mode: Mode::Live,
                nodes: vec![(Of::In, 2), (Of::Out, 1)],
            }],
            refusals: [(Guard::Budget, 4)].into(),
            refusing: vec![("ingest".to_owned(), Guard::Budget)],
            is_stopped: false,
            outlets: vec![OutletFigures { outlet: "request", confirmed: 3, in_vain: 2, owed: 1 }],
        },
        services: vec![ServiceFigures {
            name: "ingest".to_owned(),
            state: State::Degraded,
            since: Second(1_763_690_300),
            is_silenced: true,
            incidents: 2,
            acceptable_loss_ppm: 5_000,
            vantages: 3,
            protocols: vec![(Protocol::Udp, State::Down), (Protocol::Tcp, State::Healthy)],
            readback: Some((ReadBackFigures { lag_seconds: Some(1.5), series: 6, shown: 4 }, true)),
        }],
        services_left_out: 1,
        slots: vec![SlotCounts {
            service: "ingest".to_owned(),
            protocol: "udp".to_owned(),
            region: "eu".to_owned(),
            total: Window { scheduled: 100, delivered: 90, lost: 10, late: 3, ..Window::default() },
            recent: Window { scheduled: 60, delivered: 30, lost: 10, unknown: 20, ..Window::default() },
        }],
        groups_left_out: 5,
        phases: vec![("ingest".to_owned(), Protocol::Udp, phases)],
        classes: Window { scheduled: 7, delivered: 6, missed: 1, ..Window::default() },
        replaying: Some(0.25),
        is_shutting_down: false,
        intake: 8,
        journal: Some(JournalFigures {
            frames: 50,
            batches: 13,
            bytes: 1_000,
            waiting: 2,
            waiting_bytes: 99,
            waiting_peak: 17,
            busy: 1,
            no_room: 2,
            ended: 3,
            since_checkpoint: 640,
        }),
        store: Some(StoreFigures { bytes: 1 << 20, syncs: timed(&[900, 900]) }),
        live: LiveFigures { views: 2, viewers: 9, refused: 1 },
        status: Some(StatusFigures { as_of: 1_763_690_460, written: 3, failures: 2 }),
        questions: 3,
        losses_without_detail: 4,
        unkept: 5,
        timings_dropped: 6,
    }
}
