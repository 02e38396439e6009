//! The local example: sink, agent and collector in one process.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    aviary::{Aviary, now},
    ports::Port,
    slots::unlike,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// `config/local.toml`, on free ports, and at work.
fn local(change: impl FnOnce(String) -> String) -> Aviary {
    let text = include_str!("../config/local.toml");
    let mut text: String = text.replace("[collector]", "").replace("listen = \"127.0.0.1:8610\"", "");
    for port in ["2003", "2004", "2030", "2040", "2443", "8611"] {
        text = text.replace(&format!("127.0.0.1:{port}"), &Port::claim().address().to_string());
    }
    let aviary = Aviary::start(&change(text));
    aviary.wait_until_begun(6);
    aviary
}

#[test]
fn all_six_protocols_read_as_delivered() {
    let mut aviary = local(|text| text);
    let from = now();
    aviary.wait_for("/api/v1/services/local", PATIENCE, |local| local["state"] == "healthy");
    let span = aviary_core::Span::new(from, from.plus(20));
    for (protocol, slots) in aviary.closed_slots(span) {
        assert_eq!(unlike(&slots, "delivered"), [], "{protocol}");
        assert_eq!(slots.len() as u64, span.seconds());
    }
    // UDP too, since the sink stores.
    aviary.wait_for("/api/v1/sums?by=protocol&window=3s", PATIENCE, |sums| {
        let groups = sums["groups"].as_array().unwrap();
        let is_whole = |group: &Value| (&group["delivered"], &group["rate"]) == (&json!(3), &json!(1.0));
        groups.len() == 6 && groups.iter().all(is_whole)
    });
    let tells = |log: &String| log.lines().any(|line| line.contains("tcp 10/10"));
    let mut logs = (0..600).map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        aviary.log()
    });
    let log = logs.find(tells).unwrap_or_else(|| panic!("it says how it goes:\n{}", aviary.log()));
    assert!(log.contains("/api/v1/services"), "it says where to look:\n{log}");
    assert!(aviary.stop().success(), "SIGTERM ends it well:\n{}", aviary.log());
}

#[test]
fn the_last_report_is_sent_before_the_end() {
    // A collector that is busy may not take it within the seconds that an end waits; but it does not each time.
    let is_sent = || {
        let mut aviary = local(|text| text);
        assert!(aviary.stop().success());
        let log = aviary.log();
        let is_sent = log.contains("the last report was sent") && !log.contains("ERROR");
        if !is_sent {
            println!("{log}");
        }
        is_sent
    };
    assert!((0..3).any(|_| is_sent()));
}

#[test]
fn a_frozen_agent_misses_and_nothing_is_held_against_the_service() {
    let mut aviary = local(|text| text);
    let from = now();
    aviary.process().freeze();
    std::thread::sleep(Duration::from_secs(6));
    aviary.process().thaw();
    let span = aviary_core::Span::new(from, now().plus(3));
    let mut missed = 0;
    for (protocol, slots) in aviary.closed_slots(span) {
        assert_eq!(slots.len() as u64, span.seconds());
        for (second, slot) in slots {
            // What was in flight when the process was frozen is starved; nothing is the service's loss.
            assert!(!slot.outcome.starts_with("lost"), "{protocol} at {second}: {slot:?}");
            assert_ne!(slot.outcome, "unknown", "{protocol} at {second}");
            missed += usize::from(slot.outcome == "missed");
        }
    }
    assert!(missed >= 6 * 4, "{missed} slots missed");
}
