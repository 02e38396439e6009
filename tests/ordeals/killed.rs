//! kill -9 of the agent, and ends that are none.

use std::thread;

use aviary_core::{LocalFault, Outcome, Span};

use super::{Agent, Dice, PATIENCE, assert_goes_on, assert_true, count, outcomes, pause};
use crate::support::{aviary::now, ports::Port, receiver::Receiver, recorder::Recorder};

/// Kills an agent again and again, `lives` times, each after so many milliseconds, and lets one more life end well. The
/// collector is away while `is_away` says so of a life.
fn kill_again_and_again(seed: u64, lives: u64, (from, until): (u64, u64), is_away: impl Fn(u64) -> bool) {
    let (mut recorder, receiver, nobody) = (Recorder::start(), Receiver::start(), Port::claim());
    let refused = format!("tcp://{}", nobody.address());
    let udp = format!("udp://{}", receiver.address());
    let endpoints = [receiver.tcp(1), receiver.tcp(2), udp, refused.clone()];
    let mut dice = Dice(seed);
    let mut agent = Agent::start(&recorder, &endpoints, "");
    recorder.until(PATIENCE, |said| said.len() == endpoints.len());
    let mut was_away = false;
    for life in 0..lives {
        if is_away(life) != was_away {
            was_away = !was_away;
            if was_away { recorder.close() } else { recorder.open() }
        }
        pause(dice.roll(from, until));
        agent.process.kill();
        agent.process.restart();
    }
    if was_away {
        recorder.open();
    }
    let end = now().plus(3);
    let all = endpoints.len();
    recorder
        .until(PATIENCE, |said| said.len() == all && said.values().all(|seconds| seconds.contains_key(&end)));
    agent.stop();

    let outcomes = outcomes(&recorder, all);
    let came = assert_true(&outcomes, &receiver);
    for (name, seconds) in &outcomes {
        let is_refused = name.ends_with(&refused.replace("tcp://", "").replace(['.', ':'], "_"));
        for (second, outcome) in seconds {
            let is_expected = match outcome {
                Outcome::Missed | Outcome::Local { fault: LocalFault::Starved, .. } => true,
                Outcome::Lost { .. } => is_refused,
                Outcome::Delivered(_) => !is_refused,
                Outcome::Local { .. } | Outcome::Muted => false,
            };
            assert!(is_expected, "{name} at {second}: {outcome:?}");
        }
    }
    // Of a second that was called missed the datapoint may have come: the agent was killed before it knew.
    let told: usize =
        outcomes.values().flatten().filter(|(_, it)| matches!(it, Outcome::Delivered(_))).count();
    let received: usize = came.values().map(|seconds| seconds.len()).sum();
    assert!(told <= received && received - told <= 3 * (lives as usize + 1), "{told} told of {received}");
    assert!(told > 0, "no life was long enough to show anything");
    assert!(!agent.log().contains("ERROR"), "{}", agent.log());
}

#[test]
fn every_second_is_told_once_although_agents_are_killed_a_hundred_times() {
    thread::scope(|scope| {
        scope.spawn(|| kill_again_and_again(1, 18, (300, 2_500), |_| false));
        scope.spawn(|| kill_again_and_again(2, 18, (300, 2_500), |life| life % 4 >= 2));
        // Agents that cannot stay alive.
        scope.spawn(|| kill_again_and_again(3, 32, (300, 1_100), |_| false));
        scope.spawn(|| kill_again_and_again(4, 32, (300, 1_100), |life| life > 0));
    });
}

#[test]
fn the_seconds_between_an_end_and_the_next_start_are_missed_and_reports_of_the_earlier_life_arrive() {
    let (mut recorder, receiver) = (Recorder::start(), Receiver::start());
    let mut agent = Agent::start(&recorder, &[receiver.tcp(1), receiver.tcp(2)], "");
    recorder.until(PATIENCE, |said| said.len() == 2);
    recorder.close();
    let away = now();
    pause(11_000);
    let ended = now();
    agent.stop();
    let gone = now();
    assert!(agent.log().contains("which are kept for the next start"), "{}", agent.log());
    pause(4_000);
    let started = now();
    recorder.open();
    agent.process.restart();
    let again = receiver.runs_from(started);
    let end = again.plus(10);
    recorder.until(PATIENCE, |said| said.values().all(|seconds| seconds.contains_key(&end)));
    agent.stop();

    let outcomes = outcomes(&recorder, 2);
    assert_true(&outcomes, &receiver);
    let between = count(&outcomes, Span::new(gone.plus(1), started));
    assert!(between.len() == 1 && between["missed"] >= 4, "{between:?}");
    let earlier = count(&outcomes, Span::new(away, ended));
    assert_goes_on(&earlier);
    assert_goes_on(&count(&outcomes, Span::new(again, end.plus(1))));
}
