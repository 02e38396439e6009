//! A wall clock that is set, leaps and drifts: libfaketime before the agent's own, which nobody else sees.

use std::{fs, net::SocketAddr, thread};

use aviary_core::{Outcome, Second, Span};

use super::{Agent, PATIENCE, pause, wait_until};
use crate::support::{
    aviary::now,
    clock::libfaketime,
    http,
    ports::Port,
    receiver::Receiver,
    recorder::{Recorder, Said, summary, word},
};

const HOUR: u64 = 3_600;

/// An agent whose wall clock is set through a file.
struct Skewed {
    agent: Agent,
    recorder: Recorder,
    receiver: Receiver,
    listen: Port,
}

impl Skewed {
    #[track_caller]
    fn start() -> Self {
        let (recorder, receiver, listen) = (Recorder::start(), Receiver::start(), Port::claim());
        let udp = format!("udp://{}", receiver.address());
        let endpoints = [receiver.tcp(1), receiver.tcp(2), receiver.tcp(3), udp];
        let more = format!("listen = \"{}\"", listen.address());
        let agent = Agent::start_with(&recorder.url(), &endpoints, &more, |command, dir| {
            fs::write(dir.join("clock"), "+0").expect("the temporary directory can be written");
            command
                .env("LD_PRELOAD", libfaketime())
                .env("FAKETIME_TIMESTAMP_FILE", dir.join("clock"))
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1");
        });
        recorder.until(PATIENCE, |said| said.len() == 4 && said.values().all(|seconds| seconds.len() >= 3));
        Self { agent, recorder, receiver, listen }
    }

    /// Sets the clock so far ahead of, or behind, the real one.
    fn set(&self, offset: f64) {
        let (file, next) = (self.agent.path("clock"), self.agent.path("clock.next"));
        fs::write(&next, format!("{offset:+.3}")).expect("the temporary directory can be written");
        fs::rename(next, file).expect("the temporary directory can be written");
    }

    /// Waits until every series was delivered in the second that the agent's clock shows now or one soon after.
    #[track_caller]
    fn wait_until_it_goes_on(&self, offset: i64) {
        let from = Second(now().0.saturating_add_signed(offset)).plus(2);
        let delivered =
            |outcomes: &Vec<Outcome>| outcomes.iter().any(|it| matches!(it, Outcome::Delivered(_)));
        self.recorder.until(PATIENCE, |said| {
            said.values().all(|series| {
                series.range(from..from.plus(60)).filter(|(_, outcomes)| delivered(outcomes)).count() >= 2
            })
        });
    }

    /// What `/readyz` says, once that is 200.
    #[track_caller]
    fn wait_until_ready(&self) {
        let address: SocketAddr = self.listen.address();
        wait_until("200 of /readyz", || {
            let answer = http::request(address, "GET", "/readyz", &[], &[], PATIENCE);
            answer.is_ok_and(|(status, _)| status == 200)
        });
    }
}

/// The merged outcome of each second, as a collector merges them: what the clock jumped over may have its turn later.
fn merged(said: &Said, span: Span) -> Vec<(String, Second, String)> {
    let mut all = Vec::new();
    for (name, series) in said {
        for second in span.iter() {
            let rank = |outcome: &&Outcome| match outcome {
                Outcome::Missed => 1,
                Outcome::Local { .. } => 2,
                Outcome::Delivered(_) => 3,
                Outcome::Lost { .. } => 4,
                Outcome::Muted => 5,
            };
            let outcome = series.get(&second).and_then(|outcomes| outcomes.iter().max_by_key(rank));
            all.push((name.clone(), second, outcome.map_or_else(|| "nothing".to_owned(), word)));
        }
    }
    all
}

#[test]
fn a_clock_that_leaps_an_hour_and_comes_back_costs_no_second_and_sends_none_twice() {
    let mut skewed = Skewed::start();
    let started = now();
    let leapt = now();
    skewed.set(HOUR as f64);
    let ahead = now();
    skewed.wait_until_it_goes_on(HOUR as i64);
    skewed.wait_until_ready();
    let back = now();
    skewed.set(0.0);
    let right = now();
    skewed.wait_until_it_goes_on(0);
    skewed.wait_until_ready();
    let end = now();
    let last = end.minus(2);
    skewed.recorder.until(PATIENCE, |said| said.values().all(|seconds| seconds.contains_key(&last)));
    skewed.agent.stop();

    let said = skewed.recorder.said();
    skewed.receiver.each_once();
    let is_told = |words: &[&str], span: Span| {
        let mut told = merged(&said, span);
        told.retain(|(.., outcome)| !words.contains(&outcome.as_str()));
        // A machine that is busy may not have got to a few.
        let are_few = told.len() <= merged(&said, span).len() / 2;
        told.retain(|(.., outcome)| !(are_few && outcome == "missed"));
        assert!(told.is_empty(), "{told:?}\n{}", summary(&said));
    };
    is_told(&["delivered", "local starved"], Span::new(started, leapt));
    // As the agent notices, one slot may be cut short, and the first full second of the new time is its next.
    is_told(&["delivered", "local starved", "missed", "local clock_step"], Span::new(leapt, end));
    is_told(&["delivered", "local starved", "missed", "local clock_step"], Span::new(end, leapt.plus(HOUR)));
    is_told(&["delivered", "local starved"], Span::new(ahead.plus(HOUR + 3), back.plus(HOUR - 1)));
    is_told(&["delivered", "local starved"], Span::new(right.plus(3), end.minus(1)));
    let told = skewed.recorder.told();
    let epochs: Vec<_> = told.iter().map(|told| told.epoch).collect();
    assert!(epochs.contains(&1) && epochs.ends_with(&[2]), "{epochs:?}");
    assert!(skewed.agent.log().contains("The wall clock was stepped"), "{}", skewed.agent.log());
}

#[test]
fn a_clock_set_back_an_hour_repeats_no_datapoint_and_falls_silent_for_none() {
    let mut skewed = Skewed::start();
    // As many seconds as are to come again.
    skewed.recorder.until(PATIENCE, |said| said.values().all(|seconds| seconds.len() >= 6));
    skewed.set(-(HOUR as f64));
    skewed.wait_until_it_goes_on(-(HOUR as i64));
    skewed.wait_until_ready();
    // To where it has been already: what was sent then is not sent again.
    let first = skewed.recorder.said().values().map(|it| *it.keys().next_back().unwrap()).max().unwrap();
    let behind = now().0 - first.0 + 5;
    skewed.set(-(behind as f64));
    pause(8_000);
    skewed.wait_until_ready();
    skewed.agent.stop();
    let said = skewed.recorder.said();
    skewed.receiver.each_once();
    for (name, series) in &said {
        for (second, outcomes) in series {
            let is_lost = outcomes.iter().any(|it| matches!(it, Outcome::Lost { .. }));
            assert!(!is_lost, "{name} at {second}: {outcomes:?}");
        }
    }
    let repeated = said.values().flat_map(|series| series.values()).filter(|outcomes| {
        let words: Vec<_> = outcomes.iter().map(word).collect();
        words == ["delivered", "local clock_step"]
    });
    assert!(repeated.count() >= 2, "{}", summary(&said));
}

#[test]
fn a_clock_that_is_off_by_a_second_and_a_half_or_drifts_is_ridden_without_a_gap() {
    // Whether no second was missed, and nothing was taken for a step. A machine that is busy may do either, but not each time.
    let is_ridden = |steps: &[f64]| {
        let mut skewed = Skewed::start();
        let from = now();
        for offset in steps {
            skewed.set(*offset);
            pause(500);
        }
        pause(4_000);
        skewed.wait_until_ready();
        let until = now().minus(4);
        skewed.agent.stop();
        let said = skewed.recorder.said();
        skewed.receiver.each_once();
        let mut others = merged(&said, Span::new(from, until));
        others.retain(|(.., outcome)| !["delivered", "local starved"].contains(&outcome.as_str()));
        let is_ridden = others.is_empty() && skewed.recorder.told().iter().all(|told| told.epoch == 0);
        if !is_ridden {
            println!("{steps:?}: {others:?}\n{}", summary(&said));
        }
        is_ridden
    };
    let ride = |steps: Vec<f64>| assert!((0..3).any(|_| is_ridden(&steps)), "{steps:?}");
    thread::scope(|scope| {
        scope.spawn(|| ride(vec![1.5]));
        scope.spawn(|| ride(vec![-1.5]));
        ride((1..=15).map(|step| f64::from(step) / 10.0).collect());
    });
}
