//! Nobody is woken by what is acceptable.

use super::*;

const SIX: [&str; 6] =
    ["tcp://h:1", "tls://h:2", "udp://h:3", "pickle://h:4", "pickle+tls://h:5", "https://h/sink"];

/// An hour unoptimised; a day in a release.
const SECONDS: u64 = if cfg!(debug_assertions) { 3_600 } else { 86_400 };

/// A number that is another for each slot, or for each stretch of `seconds` of a series.
fn draw(region: &str, endpoint: &str, number: u64) -> u64 {
    let hash = fnv1a(region.bytes().chain([0]).chain(endpoint.bytes()).chain(number.to_be_bytes()));
    (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

/// One in ten thousand is lost, each by itself: a tenth of what is acceptable.
fn apart(region: &str, endpoint: &str, second: u64) -> Option<Outcome> {
    Some(if draw(region, endpoint, second).is_multiple_of(10_000) { TIMED_OUT } else { DELIVERED })
}

/// As many, in bursts of four seconds.
fn in_bursts(region: &str, endpoint: &str, second: u64) -> Option<Outcome> {
    Some(if draw(region, endpoint, second / 4).is_multiple_of(10_000) { TIMED_OUT } else { DELIVERED })
}

#[test]
fn nothing_opens_at_a_tenth_of_what_is_acceptable() {
    for (how, script) in [("apart", apart as Script), ("in bursts", in_bursts)] {
        let mut stage = Stage::probing(ServiceOptions::unconfigured("ingest"), &SIX);
        for _ in 0..SECONDS / 600 {
            stage.run(600, script);
            // They are needed for a restart, and there is none.
            stage.reports.clear();
            let opened: Vec<_> =
                stage.judgement.incidents().into_iter().filter(|it| it.opened.is_some()).collect();
            assert_eq!(opened, [], "{how}");
        }
        assert_eq!(stage.told(), [], "{how}");
        let lost = REGIONS.iter().flat_map(|region| SIX.iter().map(move |endpoint| (region, endpoint)));
        let lost =
            lost.flat_map(|(region, endpoint)| (0..SECONDS).map(|second| script(region, endpoint, second)));
        let lost = lost.filter(|outcome| *outcome == Some(TIMED_OUT)).count() as u64;
        let mean = SECONDS * 18 / 10_000;
        assert!((mean / 3..=mean * 3).contains(&lost), "{how}: {lost} are lost, of about {mean}");
    }
}

/// Of three endpoints one, seen from one network, for less than the two minutes after which seconds are learnt from.
#[test]
fn what_a_short_incident_lost_is_not_taken_for_usual() {
    const THREE: [&str; 3] = ["tcp://a:1", "tcp://b:1", "tcp://c:1"];
    let one: Script = |_, endpoint, _| Some(if endpoint == "tcp://a:1" { TIMED_OUT } else { DELIVERED });
    let mut stage = Stage::probing(ServiceOptions::unconfigured("ingest"), &THREE);
    stage.rosters.iter_mut().for_each(|roster| roster.vantage.network = None);
    stage.run(600, well);
    let mut waits = Vec::new();
    let summaries = |stage: &Stage| stage.losses().iter().map(Incident::summary).collect::<Vec<_>>();
    for _ in 0..3 {
        let began = stage.second;
        stage.run(50, one);
        let (paged, message) = *stage.told().last().unwrap();
        assert_eq!(message, Message::Opened, "lost since {began}: {:?}", stage.told());
        waits.push(paged - began);
        stage.run(300, well);
        assert_eq!(stage.told().last().unwrap().1, Message::Resolved, "{:?}", stage.told());
    }
    assert!(waits.iter().all(|wait| *wait <= 20), "{waits:?}");
    let summary = "ingest: address a (1/3 addresses) in every region (3/3), 100 % lost: the address, not the network; nothing else";
    assert!(summaries(&stage).iter().all(|it| it == summary), "{:?}", summaries(&stage));
}
