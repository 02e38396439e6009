//! A host without files, ports or routes left: that is no loss of the service's, and the agent says so.

use std::fs;

use aviary_core::{LocalFault, Outcome, Second, Span};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use super::{Agent, PATIENCE, assert_goes_on, assert_none_lost, assert_true, count, outcomes, pause};
use crate::support::{
    aviary::now,
    cell::{own_network, run_tool},
    receiver::Receiver,
    recorder::Recorder,
};

/// How long it lasts, in milliseconds.
const CUT_OFF: u64 = 6_000;

/// Cuts an agent off and lets it go on. Every second in between is told as `fault` where the agent was cut off all that
/// time, and the agent suspects itself where `suspects`.
fn cut_off(
    (recorder, receiver): (&Recorder, &Receiver),
    (endpoints, control): (&[String], &str),
    fault: &str,
    suspects: bool,
    begin: impl FnOnce(&Agent),
    end: impl FnOnce(&Agent),
) {
    let began = now();
    let mut agent = Agent::start(recorder, endpoints, &format!("controls = [\"{control}\"]"));
    let series = endpoints.len();
    recorder.until(PATIENCE, |said| said.len() == series && said.values().all(|seconds| seconds.len() >= 4));
    let from = now();
    begin(&agent);
    pause(CUT_OFF);
    let until = now();
    end(&agent);
    let ended = now();
    let last = ended.plus(12);
    recorder.until(PATIENCE, |said| said.values().all(|seconds| seconds.contains_key(&last)));
    agent.stop();

    let outcomes = outcomes(recorder, series);
    assert_none_lost(&outcomes);
    assert_true(&outcomes, receiver);
    let known = ["delivered", "missed", "local starved", fault];
    let all = count(&outcomes, Span::new(Second(0), last));
    assert!(all.keys().all(|word| known.contains(&word.as_str())), "{all:?}");
    let during = count(&outcomes, Span::new(from.plus(3), until));
    assert!(during.get(fault).is_some_and(|count| *count >= series), "{during:?}");
    assert_goes_on(&count(&outcomes, Span::new(ended.plus(2), last)));

    let suspect: Vec<_> = recorder.told().into_iter().flat_map(|told| told.self_suspect).collect();
    let is_suspect = |second: &Second| suspect.iter().any(|span| span.contains(*second));
    if suspects {
        assert!(Span::new(from.plus(1), until).iter().filter(is_suspect).count() >= 3, "{suspect:?}");
    }
    // While the whole machine is held up, it is right to suspect itself: the control fails too.
    let is_held_up = |second: &Second| {
        outcomes.values().filter_map(|seconds| seconds.get(second)).any(|outcome| {
            matches!(outcome, Outcome::Missed | Outcome::Local { fault: LocalFault::Starved, .. })
        })
    };
    let mut well = [Span::new(began, from), Span::new(ended.plus(1), last)].into_iter().flat_map(Span::iter);
    assert!(!well.any(|second| is_suspect(&second) && !is_held_up(&second)), "{suspect:?}");
}

fn limit_files(agent: &Agent, most: Option<u64>) {
    let limit = Rlimit { current: most, maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(agent.process.pid()), Resource::Nofile, limit).expect("it is our child");
}

#[test]
fn without_a_file_left_the_agent_says_no_files_and_suspects_itself() {
    let (recorder, receiver) = (Recorder::start(), Receiver::start());
    let endpoints = [receiver.tcp(1), receiver.tcp(2), format!("udp://{}", receiver.address())];
    let before = getrlimit(Resource::Nofile).current;
    let begin = |agent: &Agent| limit_files(agent, Some(3));
    let end = |agent: &Agent| limit_files(agent, before);
    cut_off((&recorder, &receiver), (&endpoints, &receiver.tcp(9)), "local no_files", true, begin, end);
}

#[test]
fn without_a_port_left_the_agent_says_no_ports() {
    own_network("ordeals::cut_off::without_a_port_left_the_agent_says_no_ports", || {
        let (recorder, receiver) = (Recorder::start(), Receiver::start());
        let endpoints = [receiver.tcp(1), receiver.tcp(2)];
        let range = |range: &str| fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();
        // A port is used once in a minute, and the collector has its connection already.
        fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "0").unwrap();
        let begin = |_: &Agent| range("40000 40001");
        let end = |_: &Agent| range("32768 60999");
        cut_off((&recorder, &receiver), (&endpoints, &receiver.tcp(9)), "local no_ports", false, begin, end);
    });
}

#[test]
fn without_a_route_the_agent_says_no_route_and_suspects_itself() {
    own_network("ordeals::cut_off::without_a_route_the_agent_says_no_route_and_suspects_itself", || {
        // The service and the control are elsewhere, and the collector is not.
        let elsewhere = |change: &str| {
            for address in ["192.0.2.1", "192.0.2.2", "192.0.2.9"] {
                run_tool("ip", &format!("address {change} {address}/32 dev lo"));
            }
        };
        elsewhere("add");
        let (recorder, receiver) = (Recorder::start(), Receiver::start());
        let endpoints = [receiver.tcp_at("192.0.2.1"), receiver.tcp_at("192.0.2.2")];
        let control = receiver.tcp_at("192.0.2.9");
        let (begin, end) = (|_: &Agent| elsewhere("del"), |_: &Agent| elsewhere("add"));
        cut_off((&recorder, &receiver), (&endpoints, &control), "local no_route", true, begin, end);
    });
}
