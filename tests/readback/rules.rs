//! Each rule of reading back, on the real thing.

use std::{collections::BTreeMap, thread, time::Duration};

use aviary_core::{Protocol, Second, Span};
use serde_json::Value;

use super::stage::{Stage, lacking, read_unlike, wait_until};
use crate::support::{aviary::now, graphite::Setup, http, slots::Slots, wait::wait_for};

const SOME: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Tls];
const PATIENCE: Duration = Duration::from_secs(120);
const SERVICE: &str = "/api/v1/services/ingest";

/// Whether it is told that nothing can be told of the service, for this reason.
fn is_blind_for(said: &Value, reason: &str) -> bool {
    said["state"] == "blind" && said["reason"].as_str().is_some_and(|told| told.contains(reason))
}

#[test]
fn what_is_stored_is_delivered_over_every_path_udp_included() {
    let stage = Stage::start(Setup { is_cached: true, ..Setup::default() }, Protocol::ALL);
    let span = Span::new(now().plus(4), now().plus(24));
    for (protocol, slots) in stage.read_slots(span) {
        assert_eq!(read_unlike(&slots, "delivered"), [], "{protocol}");
    }
    stage.settles_as_the_disk(span, PATIENCE);
    let said = stage.aviary.wait_for(SERVICE, PATIENCE, |said| said["state"] == "healthy");
    let read_back = &said["readback"];
    assert_eq!((&read_back["series"], &read_back["shown"]), (&6.into(), &6.into()), "{said:#}");
    // The first datapoint of a series, which storage shows later than all others, is none that it lacks.
    for (protocol, slots) in stage.slots(Span::before(now(), 120)) {
        assert_eq!(lacking(&slots), [], "{protocol}");
    }
    assert_eq!((&read_back["duplicates"], &read_back["mangled"]), (&0.into(), &0.into()), "{said:#}");
}

#[test]
fn a_frozen_carbon_stores_late_what_was_given_up_and_a_stopped_one_nothing() {
    let mut stage = Stage::start(Setup::default(), &SOME);
    let begin = now().plus(4);
    wait_until(begin.plus(12));
    stage.service.graphite.freeze_carbon();
    thread::sleep(Duration::from_secs(12));
    stage.service.graphite.thaw_carbon();
    thread::sleep(Duration::from_secs(10));
    stage.service.graphite.stop_carbon();
    thread::sleep(Duration::from_secs(10));
    stage.service.graphite.restart_carbon();
    thread::sleep(Duration::from_secs(8));
    let span = Span::new(begin, now());
    stage.wait_until_read(span.until);
    stage.settles_as_the_disk(span, PATIENCE);
    let said = stage.slots(span);
    let late = said["tcp"].values().filter(|slot| slot.late).count();
    assert!(late >= 8, "what the kernel had taken was stored after the thaw: {late}");
    let lost = said["udp"].values().filter(|slot| slot.outcome.starts_with("lost")).count();
    assert!(lost >= 8, "datagrams to nobody are lost: {lost}");
}

#[test]
fn a_reader_that_is_away_blinds_and_is_caught_up_with() {
    let mut stage = Stage::start(Setup::default(), &SOME);
    let begin = now().plus(4);
    stage.aviary.wait_for(SERVICE, PATIENCE, |said| said["state"] == "healthy");
    stage.service.graphite.web().stop();
    // On a busy machine it may be blind before, because reading falls behind.
    stage
        .aviary
        .wait_for(SERVICE, PATIENCE, |said| is_blind_for(said, "cannot be reached: Connection refused"));
    thread::sleep(Duration::from_secs(20));
    for (protocol, slots) in stage.slots(Span::new(begin, now())) {
        assert_eq!(lacking(&slots), [], "a reader that is away is no loss of {protocol}");
    }
    stage.service.graphite.web().restart();
    stage.aviary.wait_for(SERVICE, PATIENCE, |said| said["state"] == "healthy");
    let span = Span::new(begin, now().minus(15));
    stage.settles_as_the_disk(span, PATIENCE);

    // Frozen, it neither answers nor refuses.
    stage.service.graphite.web().freeze();
    stage.aviary.wait_for(SERVICE, PATIENCE, |said| is_blind_for(said, "does not answer within 3 s"));
    stage.service.graphite.web().thaw();
    stage.aviary.wait_for(SERVICE, PATIENCE, |said| said["state"] == "healthy");
}

#[test]
fn slots_of_a_minute_are_named_and_are_no_loss() {
    let stage = Stage::start(Setup { retentions: None, ..Setup::default() }, &SOME);
    // Before anything is read it is blind for want of an answer.
    let said = stage.aviary.wait_for(SERVICE, PATIENCE, |said| is_blind_for(said, "slots of 60 s"));
    assert!(is_blind_for(&said, "aviary graphite-schema"), "{said:#}");
    let span = Span::new(now().minus(10), now());
    stage.wait_until_read(span.until);
    for (protocol, slots) in stage.slots(span) {
        assert_eq!(read_unlike(&slots, "unknown"), [], "{protocol}");
    }
}

#[test]
fn series_that_carbon_does_not_create_stay_unknown() {
    // It creates one more each minute.
    let stage = Stage::start(Setup { creates_per_minute: "1", ..Setup::default() }, Protocol::ALL);
    let span = Span::new(now().plus(4), now().plus(16));
    stage.wait_until_read(span.until);
    let none_is = || format!("the one that was created is delivered: {:#?}", stage.slots(span));
    let is_one_delivered = |slots: &BTreeMap<String, Slots>| {
        slots.values().any(|slots| read_unlike(slots, "delivered").is_empty())
    };
    let slots = wait_for(PATIENCE, none_is, || Some(stage.slots(span)).filter(is_one_delivered));
    let absent: Vec<_> = Protocol::ALL.iter().filter(|protocol| !stage.is_created(**protocol)).collect();
    assert!(!absent.is_empty(), "{:#?}", stage.said());
    for protocol in absent {
        assert_eq!(read_unlike(&slots[protocol.name()], "unknown"), [], "{protocol}");
    }
}

/// The newest second that graphite-web shows of the last twenty, asked for with `more`.
fn newest(stage: &Stage, more: &str) -> u64 {
    let now = now();
    let name = stage.name(Protocol::Tcp);
    let path = format!("/render?format=json&from={}&until={now}&target={name}{more}", now.minus(20));
    let (status, body) = http::request(stage.service.graphite.http(), "GET", &path, &[], &[], PATIENCE)
        .expect("graphite-web answers");
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let points = answer[0]["datapoints"].as_array().cloned().unwrap_or_default();
    let stored = points.iter().filter(|point| !point[0].is_null());
    stored.map(|point| point[1].as_u64().unwrap()).max().unwrap_or_default()
}

#[test]
fn a_cache_that_lags_by_up_to_a_minute_is_gone_around() {
    let stage = Stage::start(Setup { is_cached: true, ..Setup::default() }, &SOME);
    let begin = now().plus(4);
    wait_until(begin.plus(20));
    // Both ends are rounded to the minute: questions of one minute are one question.
    wait_until(Second(now().0.next_multiple_of(60) + 22));
    let first = newest(&stage, "");
    thread::sleep(Duration::from_secs(8));
    assert_eq!(newest(&stage, ""), first, "the cache knows nothing newer");
    let until = now().plus(30);
    while newest(&stage, "&noCache=1") <= first + 5 {
        assert!(now() < until, "the cache cannot be gone around");
        thread::sleep(Duration::from_secs(1));
    }
    let span = Span::new(begin, now());
    for (protocol, slots) in stage.read_slots(span) {
        assert_eq!(read_unlike(&slots, "delivered"), [], "{protocol}");
    }
    stage.settles_as_the_disk(span, PATIENCE);
}
