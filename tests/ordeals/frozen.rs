//! An agent that is stopped in its tracks, one that gets no CPU, and collectors that are.

use std::{
    thread,
    time::{Duration, Instant},
};

use aviary_core::{Second, Span};

use super::{
    Agent, PATIENCE, assert_goes_on, assert_none_lost, assert_true, count, outcomes, pause, wait_until,
};
use crate::support::{
    aviary::{Aviary, now},
    receiver::Receiver,
    recorder::Recorder,
    slots::unlike,
};

/// So many series, each at an address of its own.
const SERIES: u8 = 20;

fn start(recorder: &Recorder, receiver: &Receiver) -> Agent {
    let endpoints: Vec<String> = (1..=SERIES).map(|host| receiver.tcp(host)).collect();
    let agent = Agent::start(recorder, &endpoints, "");
    recorder.until(PATIENCE, |said| {
        said.len() == usize::from(SERIES) && said.values().all(|seconds| seconds.len() >= 2)
    });
    agent
}

/// The most datapoints that came within any tenth of a second, of those that came in `span`.
fn most_in_a_tenth(receiver: &Receiver, span: Span) -> usize {
    let mut times: Vec<_> =
        receiver.received().into_iter().filter(|it| span.contains(it.in_second)).map(|it| it.at).collect();
    times.sort();
    let within = |first: usize| {
        times[first..].iter().take_while(|at| **at - times[first] < Duration::from_millis(100)).count()
    };
    (0..times.len()).map(within).max().unwrap_or(0)
}

/// Naps until `end`, and returns by how much the longest nap was too long: for so long this machine held us up.
fn longest_delay(end: Second) -> Duration {
    let mut longest = Duration::ZERO;
    while now() < end {
        let began = Instant::now();
        pause(5);
        longest = longest.max(began.elapsed());
    }
    longest.saturating_sub(Duration::from_millis(5))
}

fn freeze_for(seconds: u64) {
    let (recorder, receiver) = (Recorder::start(), Receiver::start());
    let mut agent = start(&recorder, &receiver);
    pause(1_000);
    agent.process.freeze();
    let frozen = now();
    pause(seconds * 1_000);
    // A slot that is late by less than 50 ms is run, also one of the second before.
    let stood_still = Span::new(frozen.plus(1), now().minus(1));
    agent.process.thaw();
    let thawed = now();
    let after = Span::new(thawed, thawed.plus(3));
    let delay = longest_delay(after.until);
    let end = thawed.plus(12);
    recorder.until(PATIENCE, |said| said.values().all(|seconds| seconds.contains_key(&end)));
    agent.stop();

    let outcomes = outcomes(&recorder, usize::from(SERIES));
    assert_none_lost(&outcomes);
    let came = assert_true(&outcomes, &receiver);
    let during = count(&outcomes, stood_still);
    let not_run: usize =
        during.iter().filter(|(word, _)| *word == "missed" || *word == "local starved").map(|it| it.1).sum();
    assert_eq!(not_run, during.values().sum::<usize>(), "{during:?}");
    assert!(not_run >= (seconds as usize - 2) * usize::from(SERIES), "{during:?}");
    assert_goes_on(&count(&outcomes, Span::new(thawed.plus(2), end)));
    // What was under way when it was frozen may still come; nothing that claims a second long gone is begun.
    for received in came.values().flat_map(|seconds| seconds.values()) {
        assert!(!stood_still.contains(received.second), "{received:?}");
    }
    // What comes while the machine is held up is noted at once afterwards.
    let fair = usize::from(SERIES) * (750 + delay.as_millis() as usize) / 1_000;
    let most = most_in_a_tenth(&receiver, after);
    assert!(
        most <= fair,
        "{most} of {SERIES} within a tenth of a second, where we were held up for {delay:?}: a burst"
    );
}

#[test]
fn twenty_frozen_seconds_are_missed_and_no_burst_follows() {
    // The short one at the same time.
    thread::scope(|scope| {
        scope.spawn(|| freeze_for(3));
        freeze_for(20);
    });
}

#[test]
fn an_agent_that_gets_two_fifths_of_a_cpu_loses_nothing_for_the_service() {
    let (recorder, receiver) = (Recorder::start(), Receiver::start());
    let mut agent = start(&recorder, &receiver);
    let from = now();
    for _ in 0..100 {
        agent.process.freeze();
        pause(60);
        agent.process.thaw();
        pause(40);
    }
    let until = now();
    let end = until.plus(3);
    recorder.until(PATIENCE, |said| said.values().all(|seconds| seconds.contains_key(&end)));
    agent.stop();
    let outcomes = outcomes(&recorder, usize::from(SERIES));
    assert_none_lost(&outcomes);
    assert_true(&outcomes, &receiver);
    let starved = count(&outcomes, Span::new(from, until));
    let known = ["delivered", "local starved", "missed"];
    assert!(starved.keys().all(|word| known.contains(&word.as_str())), "{starved:?}");
    assert!(
        starved.get("delivered").is_some_and(|count| *count >= 20),
        "it goes on as well as it can: {starved:?}"
    );
}

#[test]
fn what_a_hanging_collector_did_not_answer_it_has_once_it_answers() {
    let (recorder, receiver) = (Recorder::start(), Receiver::start());
    let mut agent = start(&recorder, &receiver);
    recorder.hang(true);
    pause(8_000);
    recorder.hang(false);
    let end = now();
    recorder.until(PATIENCE, |said| said.values().all(|seconds| seconds.contains_key(&end)));
    agent.stop();
    let outcomes = outcomes(&recorder, usize::from(SERIES));
    assert_none_lost(&outcomes);
    assert_true(&outcomes, &receiver);
    assert_goes_on(&count(&outcomes, Span::new(Second(0), end)));
}

#[test]
fn a_frozen_collector_of_ours_knows_every_second_after_it_is_thawed() {
    let receiver = Receiver::start();
    let endpoints = [receiver.tcp(1)];
    let service = format!("[[service]]\nname = \"s\"\nendpoints = {endpoints:?}\n");
    let mut collector = Aviary::start(&service);
    let mut agent = Agent::start_with(&format!("http://{}", collector.collector), &endpoints, "", |_, _| {});
    wait_until("the collector is told of something delivered", || {
        let sums = collector.get("/api/v1/sums?window=60s");
        let mut groups = sums["groups"].as_array().expect("a list of groups").iter();
        groups.any(|group| group["delivered"].as_u64() >= Some(1))
    });
    let from = now();
    collector.process().freeze();
    pause(12_000);
    collector.process().thaw();
    let span = Span::new(from, now());
    let slots = collector.closed_slots(span);
    assert_eq!(slots.len(), 1);
    assert_eq!(unlike(&slots["tcp"], "delivered"), []);
    assert_eq!(slots["tcp"].len() as u64, span.seconds());
    agent.stop();
}
