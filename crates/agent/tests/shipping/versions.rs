//! Collectors of other versions: one that answers as those of version 1 did, and one that does not take ours.

use std::{fs, path::Path};

use aviary_core::Clock as _;
use aviary_probe::SystemClock;

use crate::{
    assert_delivered,
    rig::{Answer, Peer, agent, clear, millis, slots, whole},
    seconds_taken, taken, tells, until_dropped,
};

/// What a collector of version 1 answered, as it was recorded.
fn recorded(name: &str) -> Answer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../../tests/fixtures/versions/1/answers/{name}.http"));
    let answer = fs::read_to_string(file).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let retry = head.contains("retry-after: 1\r\n");
    let headers = if retry {
        "Content-Type: application/json\r\nRetry-After: 1\r\n"
    } else {
        "Content-Type: application/json\r\n"
    };
    Answer::Say { status, headers, body: body.to_owned() }
}

#[tokio::test]
async fn an_agent_lives_with_what_a_collector_of_version_1_answers() {
    // Each of these once, and what was taken in between: none of them loses a slot.
    let passing = [
        "not_ready",
        "too_fast",
        "unauthorized",
        "forbidden_region",
        "unknown_roster",
        "too_large_for_token",
    ];
    for refusal in passing {
        let mut turn = 0;
        let peer = Peer::start(move |_| {
            turn += 1;
            match turn {
                3 => recorded(refusal),
                turn if turn % 2 == 0 => recorded("adopted"),
                _ => recorded("taken"),
            }
        })
        .await;
        let agent = agent(&[&peer], 3, clear);
        let told = peer.until(|told| told.iter().filter(|told| told.answer.is_taken()).count() >= 4).await;
        assert!(!told[2].answer.is_taken(), "{refusal}");
        let standing = agent.observer().standing();
        assert!(standing.shipping.clock_offset_us.is_some(), "{refusal}: `now_us` is understood");
        assert!(standing.shipping.token_expires.is_some(), "{refusal}: `token_expires` is understood");
        assert_eq!(
            agent.observer().take_adopted().first().map(String::as_str),
            Some("aviary:fallback:ingest")
        );
        assert_eq!(agent.stop().await, 0, "{refusal}");
        let mut all: Vec<_> = peer
            .told()
            .iter()
            .filter(|told| told.answer.is_taken())
            .flat_map(|told| slots(&told.report))
            .map(|(place, second, _)| (place, second))
            .collect();
        all.sort_unstable();
        let (first, last) = (all[0].1, all[all.len() - 1].1);
        all.dedup();
        assert_eq!(all.len() as u64, 3 * (last.0 + 1 - first.0), "{refusal}: every slot of every second");
    }
    // And these are for good, as they were.
    for refusal in ["bad_report", "report_too_large"] {
        let peer = Peer::start(|_| recorded("taken")).await;
        let agent = agent(&[&peer], 3, clear);
        // A second that is still to come.
        let bad = SystemClock.wall().second().plus(2);
        peer.answers(move |report| recorded(if tells(report, bad) { refusal } else { "taken" }));
        until_dropped(&peer, bad, &agent).await;
        assert_eq!(agent.stop().await, 0, "{refusal}");
    }
}

#[tokio::test]
async fn a_collector_that_does_not_take_our_version_is_asked_slowly_and_has_everything_once_it_does() {
    let refuse = || {
        Answer::Say {
        status: 400,
        headers: "Content-Type: application/json\r\nRetry-After: 5\r\n",
        body: r#"{"error":{"code":"unsupported_version","message":"the report has version 2, upgrade this collector","detail":null}}"#
            .to_owned(),
    }
    };
    let old = Peer::start(move |_| refuse()).await;
    let agent = agent(&[&old], 3, clear);
    let told = old.until(|told| told.len() >= 3).await;
    let apart: Vec<_> = told.windows(2).map(|pair| millis(pair[0].at, pair[1].at)).collect();
    assert!(apart.iter().all(|apart| (4_900..25_000).contains(apart)), "asked again after {apart:?} ms");
    let standing = agent.observer().standing();
    let error = standing.shipping.last_error.unwrap();
    assert!(error.contains("the report has version 2, upgrade this collector"), "{error}");
    assert!(standing.spool.slots >= 20, "{} slots wait", standing.spool.slots);
    // It was upgraded.
    old.answers(|_| Answer::Take);
    old.until(|told| taken(told) >= 3).await;
    assert_eq!(agent.stop().await, 0, "nothing is left, and nothing was dropped");
    assert!(old.told().iter().all(|told| told.report.dropped == 0));
    assert_delivered(&whole(&[&old]));
}

#[tokio::test]
async fn of_two_collectors_the_one_that_takes_our_version_is_found_at_once() {
    let old = Peer::start(|_| Answer::error(400, "unsupported_version")).await;
    let new = Peer::start(|_| Answer::Take).await;
    let agent = agent(&[&old, &new], 3, clear);
    let told = new.until(|told| seconds_taken(told) >= 4).await;
    // Where no other is left, the pause is of half a minute.
    assert!(millis(old.told()[0].at, told[0].at) < 10_000);
    assert_eq!(old.told().len(), 1, "and stayed with");
    assert_eq!(agent.stop().await, 0);
    assert_delivered(&whole(&[&new]));
}
