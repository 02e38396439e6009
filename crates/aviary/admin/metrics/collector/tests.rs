//! The page of a collector.

use aviary_collector::{
    Counts, JournalFigures, LiveFigures, Phases, ReadBackFigures, ReceivedCounts, ServiceFigures, SlotCounts,
    StatusFigures, StoreFigures, TokenCounts,
};
use aviary_core::{Protocol, Second, State, Timestamp, Window, histogram::Histogram};
use aviary_notify::Reason;

use super::*;

fn timed(micros: &[u32]) -> Histogram {
    let mut histogram = Histogram::default();
    micros.iter().for_each(|micros| histogram.record(*micros));
    histogram
}

#[test]
fn what_a_collector_counts_is_on_its_page() {
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
    let figures = Figures {
        started: Timestamp(1_763_690_400_500_000),
        counts: Counts { unowned: 9, reports: 21, refused: 4, ..Counts::default() },
        agents: vec![("late", 4)],
        tokens: vec![token],
        expiries: vec![("token", "eu\"agents".to_owned(), Second(1_771_466_400))],
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
    };
    let (kind, text) = collector_page(figures.clone(), "").unwrap();
    assert_eq!(kind, Format::OpenMetrics.media_type());
    let udp = "{service=\"ingest\",protocol=\"udp\"}";
    let udp_eu = "service=\"ingest\",protocol=\"udp\",region=\"eu\"";
    for line in [
        "aviary_collector_ready 0",
        "aviary_collector_replayed_ratio 0.25",
        "aviary_collector_series_by_class{class=\"delivered\"} 6",
        "aviary_collector_series_by_class{class=\"missed\"} 1",
        "aviary_service_state{service=\"ingest\",state=\"degraded\"} 1",
        "aviary_service_state{service=\"ingest\",state=\"healthy\"} 0",
        "aviary_service_protocol_state{service=\"ingest\",protocol=\"udp\",state=\"down\"} 1",
        "aviary_service_since_timestamp_seconds{service=\"ingest\"} 1763690300.0",
        "aviary_service_silenced{service=\"ingest\"} 1.0",
        "aviary_service_incidents{service=\"ingest\"} 2.0",
        "aviary_service_acceptable_loss_ratio{service=\"ingest\"} 0.005",
        "aviary_service_vantages{service=\"ingest\"} 3.0",
        "aviary_services_left_out 1",
        &format!("aviary_service_slots_total{{{udp_eu},outcome=\"delivered\"}} 90"),
        &format!("aviary_service_slots_total{{{udp_eu},outcome=\"lost\"}} 10"),
        &format!("aviary_service_slots_late_total{{{udp_eu}}} 3"),
        &format!("aviary_service_recent_slots{{{udp_eu},outcome=\"unknown\"}} 20"),
        &format!("aviary_service_delivery_ratio{{{udp_eu}}} 0.75"),
        "aviary_service_groups_left_out 5",
        "aviary_service_phase_duration_seconds_count{service=\"ingest\",protocol=\"udp\",phase=\"connect\"} 1",
        "aviary_collector_intake_reports_total{result=\"taken\"} 21",
        "aviary_collector_intake_reports_total{result=\"refused\"} 4",
        "aviary_collector_intake_under_way 8",
        "aviary_collector_journal_frames_total 50",
        "aviary_collector_journal_batches_total 13",
        "aviary_collector_journal_written_bytes_total 1000",
        "aviary_collector_journal_waiting 2",
        "aviary_collector_journal_waiting_bytes 99",
        "aviary_collector_journal_waiting_peak 17",
        "aviary_collector_journal_refused_total{reason=\"no_room\"} 2",
        "aviary_collector_journal_disk_bytes 640",
        "aviary_collector_store_bytes 1048576",
        "aviary_collector_store_fsyncs_total 2",
        "aviary_collector_store_fsync_duration_seconds_bucket{le=\"0.001024\"} 2",
        "aviary_collector_readback_lag_seconds{service=\"ingest\"} 1.5",
        "aviary_collector_readback_untold{service=\"ingest\"} 1",
        "aviary_collector_readback_series{service=\"ingest\",shown=\"no\"} 2",
        "aviary_collector_streams_open{kind=\"live\"} 9",
        "aviary_collector_streams_open{kind=\"question\"} 3",
        "aviary_collector_live_views 2",
        "aviary_collector_live_refused_total 1",
        "aviary_collector_status_page_timestamp_seconds 1763690460",
        "aviary_collector_status_page_written_total 3",
        "aviary_collector_status_page_failures_total 2",
        "aviary_collector_losses_without_detail_total 4",
        "aviary_collector_history_unkept_slots_total 5",
        "aviary_collector_timings_dropped_total 6",
        "process_start_time_seconds 1763690400.5",
        "aviary_collector_reports_total{token=\"eu\\\"agents\"} 3",
        "aviary_collector_slots_total{token=\"eu\\\"agents\"} 40",
        "aviary_collector_refused_total{token=\"eu\\\"agents\",reason=\"reports\"} 7",
        "aviary_collector_refused_total{token=\"(unknown)\",reason=\"unauthorized\"} 11",
        "aviary_collector_refused_total{token=\"(unknown)\",reason=\"foreign_headers\"} 12",
        "aviary_collector_credential_expires_timestamp_seconds{credential=\"token\",name=\"eu\\\"agents\"} 1771466400",
        "aviary_collector_series{token=\"eu\\\"agents\"} 2",
        "aviary_collector_agents{state=\"late\"} 4",
        &format!("aviary_collector_received_total{udp} 5"),
        &format!("aviary_collector_received_duplicates_total{udp} 1"),
        &format!("aviary_collector_received_delay_seconds_count{udp} 1"),
        "aviary_collector_received_delay_seconds_bucket{le=\"0.131072\",service=\"ingest\",protocol=\"udp\"} 1",
        "aviary_collector_received_unowned_total 9",
        "aviary_collector_pages_taken_total{receiver=\"oncall\"} 6",
        "aviary_collector_pages_refused_total{receiver=\"oncall\",reason=\"timeout\"} 2",
        "aviary_collector_pages_refused_total{receiver=\"oncall\",reason=\"turned_away\"} 1",
        "aviary_collector_pages_waiting_seconds{receiver=\"oncall\"} 12",
        "aviary_collector_watchdog_total{outcome=\"told\"} 8",
        "aviary_collector_canary_delay_seconds 12.5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let (kind, text) = collector_page(figures, "text/plain").unwrap();
    assert!(kind == Format::PrometheusText.media_type() && !text.contains("# EOF"), "{text}");
}
