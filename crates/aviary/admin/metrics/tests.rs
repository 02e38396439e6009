//! The page as its readers need it.

use aviary_core::{Protocol, Timestamp};

use super::{agent::CERTIFICATES_MAX, *};
use crate::admin::standing::{Group, Shipping, Standing};

fn group(service: &str, delivered: u64) -> Group {
    let mut timings = Histogram::default();
    for micros in [60, 64, 1_000, 999_999, 3_000_000] {
        timings.record(micros);
    }
    Group {
        service: service.to_owned(),
        protocol: Protocol::PickleTls,
        outcomes: [(("delivered", None, None), delivered), (("lost", Some("connect"), Some("refused")), 2)]
            .into(),
        phases: [None, Some(timings), None, None, None],
    }
}

fn page(standing: Standing) -> String {
    agent_page(standing, Process { files: Some(7), ..Process::default() }).unwrap()
}

fn value(text: &str, sample: &str) -> Option<f64> {
    let found = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    found.map(|value| value.parse().unwrap())
}

#[test]
fn what_the_agent_knows_is_on_the_page() {
    let text = page(Standing {
        groups: vec![group("in\"gest", 40)],
        started: Timestamp(1_763_690_400_500_000),
        certificates: vec![("tls://h:1".parse().unwrap(), "[::1]:1".parse().unwrap(), 1_800_000_000)],
        shipping: Shipping { clock_offset_us: Some(-1_500), reports_taken: 3, ..Shipping::default() },
        ..Standing::default()
    });
    let ours = r#"service="in\"gest",protocol="pickle+tls""#;
    let lost = r#"outcome="lost",phase="connect",fault="refused""#;
    let table = [
        (format!(r#"aviary_agent_slots_total{{{ours},outcome="delivered",phase="",fault=""}}"#), 40.0),
        (format!("aviary_agent_slots_total{{{ours},{lost}}}"), 2.0),
        (phase_bucket(ours, "0.000064"), 1.0),
        (phase_bucket(ours, "0.000256"), 2.0),
        (phase_bucket(ours, "0.001024"), 3.0),
        (phase_bucket(ours, "1.048576"), 4.0),
        (phase_bucket(ours, "+Inf"), 5.0),
        (format!(r#"aviary_agent_phase_duration_seconds_count{{{ours},phase="connect"}}"#), 5.0),
        (
            r#"aviary_agent_certificate_not_after_timestamp_seconds{endpoint="tls://h:1",address="[::1]:1"}"#
                .to_owned(),
            1_800_000_000.0,
        ),
        ("aviary_agent_clock_offset_seconds".to_owned(), -0.0015),
        ("aviary_agent_reports_taken_total".to_owned(), 3.0),
        ("aviary_agent_configuration_ok".to_owned(), 1.0),
        ("process_open_fds".to_owned(), 7.0),
        ("process_start_time_seconds".to_owned(), 1_763_690_400.5),
        (format!("aviary_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
    ];
    for (sample, expected) in table {
        assert_eq!(value(&text, &sample), Some(expected), "{sample}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
    let sum = format!(r#"aviary_agent_phase_duration_seconds_sum{{{ours},phase="connect"}}"#);
    let sum = value(&text, &sum).unwrap();
    assert!((3.0..3.2).contains(&sum), "{sum}: what is beyond the last bucket counts as its beginning");
}

fn phase_bucket(group: &str, le: &str) -> String {
    format!(r#"aviary_agent_phase_duration_seconds_bucket{{le="{le}",{group},phase="connect"}}"#)
}

#[test]
fn label_sets_are_bounded_and_what_is_cut_is_summed_and_said() {
    let groups = (0..GROUPS_MAX + 10).map(|number| group(&format!("s{number}"), 5)).collect();
    let certificate = ("tls://h:1".parse().unwrap(), "10.0.0.1:1".parse().unwrap(), 1);
    let certificates = vec![certificate; CERTIFICATES_MAX + 3];
    let text = page(Standing { groups, certificates, ..Standing::default() });
    let others = r#"aviary_agent_slots_total{service="(others)",protocol="pickle+tls",outcome="delivered",phase="",fault=""}"#;
    assert_eq!(value(&text, others), Some(50.0));
    let others = r#"aviary_agent_phase_duration_seconds_count{service="(others)",protocol="pickle+tls",phase="connect"}"#;
    assert_eq!(value(&text, others), Some(50.0));
    assert_eq!(value(&text, "aviary_agent_groups_left_out"), Some(10.0));
    assert_eq!(value(&text, "aviary_agent_certificates_left_out"), Some(3.0));
    let slots = text.lines().filter(|line| line.starts_with("aviary_agent_slots_total{")).count();
    assert_eq!(slots, 2 * (GROUPS_MAX + 1));
}

#[test]
fn older_text_names_families_as_their_samples() {
    let text =
        Format::PrometheusText.write(page(Standing { groups: vec![group("s", 1)], ..Standing::default() }));
    for line in [
        "# HELP aviary_agent_slots_total Slots by what came of them.",
        "# TYPE aviary_agent_slots_total counter",
        "# TYPE aviary_build_info gauge",
        "# TYPE aviary_agent_phase_duration_seconds histogram",
        "# TYPE process_cpu_seconds_total counter",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
}
