//! A collector that is away, for longer than an agent lives and for longer than its spool holds.

use aviary_core::{Outcome, Span};

use super::{Agent, PATIENCE, assert_goes_on, assert_true, count, outcomes, pause};
use crate::support::{aviary::now, receiver::Receiver, recorder::Recorder};

#[test]
fn a_collector_that_was_away_gets_everything_although_the_agent_was_killed_meanwhile() {
    let (mut recorder, receiver) = (Recorder::start(), Receiver::start());
    let udp = format!("udp://{}", receiver.address());
    let mut agent = Agent::start(&recorder, &[receiver.tcp(1), receiver.tcp(2), udp], "");
    recorder.until(PATIENCE, |said| said.len() == 3);
    recorder.close();
    let away = now();
    pause(11_000);
    let running = now();
    agent.process.kill();
    let killed = now();
    pause(1_500);
    let restarting = now();
    agent.process.restart();
    let again = receiver.runs_from(restarting);
    pause(11_000);
    recorder.open();
    let back = now();
    // It is tried every few seconds, and then tells everything at once.
    let everything = |said: &crate::support::recorder::Said| {
        said.values().all(|seconds| seconds.range(away..back).count() as u64 == back.0 - away.0)
    };
    recorder.until(PATIENCE, everything);
    agent.stop();

    let outcomes = outcomes(&recorder, 3);
    assert_true(&outcomes, &receiver);
    for span in [Span::new(away, running.minus(1)), Span::new(again, back)] {
        assert_goes_on(&count(&outcomes, span));
    }
    let between = count(&outcomes, Span::new(killed.plus(1), restarting.plus(1)));
    assert_eq!(between.keys().collect::<Vec<_>>(), ["missed"], "{between:?}");
}

#[test]
fn what_waited_for_too_long_is_dropped_oldest_first_and_both_log_and_report_say_how_much() {
    let (mut recorder, receiver) = (Recorder::start(), Receiver::start());
    let spool = "spool = { size = \"1MiB\", age = \"3s\" }";
    let mut agent = Agent::start(&recorder, &[receiver.tcp(1), receiver.tcp(2)], spool);
    recorder.until(PATIENCE, |said| said.len() == 2 && said.values().all(|seconds| seconds.len() >= 2));
    recorder.close();
    pause(9_000);
    recorder.open();
    let end = now().plus(2);
    recorder.until(PATIENCE, |said| said.values().all(|seconds| seconds.contains_key(&end)));
    agent.stop();

    let said = recorder.said();
    let dropped = recorder.told().iter().map(|told| told.dropped).max().unwrap_or(0);
    let missing: u64 = said
        .values()
        .map(|seconds| {
            let (first, last) = (seconds.keys().next().unwrap(), seconds.keys().next_back().unwrap());
            last.0 + 1 - first.0 - seconds.len() as u64
        })
        .sum();
    assert!(missing >= 4, "{missing} slots are unknown");
    // What grows too old while the collector takes it is dropped as well, and not missing: at most what waited when the collector
    // was back, which is four seconds of two series.
    assert!((missing..=missing + 8).contains(&dropped), "{missing} are unknown, and {dropped} were dropped");
    // The oldest: what is unknown lies in one piece, and what came since is there.
    for seconds in said.values() {
        let known: Vec<_> = seconds.keys().map(|second| second.0).collect();
        assert_eq!(known.windows(2).filter(|pair| pair[1] > pair[0] + 1).count(), 1, "{known:?}");
        assert!(seconds.values().all(|it| it.len() == 1 && !matches!(it[0], Outcome::Lost { .. })));
    }
    assert!(agent.log().contains("the oldest were dropped"), "{}", agent.log());
}
