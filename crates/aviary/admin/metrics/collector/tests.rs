//! The page of a collector.

use super::*;

#[test]
fn what_a_collector_counts_is_on_its_page() {
    let figures = example::example();
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
