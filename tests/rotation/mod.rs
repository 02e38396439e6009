//! The feed that heals, as a real haproxy before real carbons sees it.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]

mod lease;
mod scene;

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::haproxy::{Balancer, Standing};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// In rotation, with all of its weight: nothing but the agent is asked.
const IN: (&str, u64) = ("no check", 100);
/// Out of it: with no weight, it is given nothing new.
const OUT: (&str, u64) = ("no check", 0);

/// Waits until haproxy has the servers so, and returns how long that took, and for how long at once this machine held us up
/// meanwhile.
#[track_caller]
fn wait(balancer: &Balancer, patience: u64, expected: [(&str, u64); 3]) -> (Duration, Duration) {
    const NAP: Duration = Duration::from_millis(50);

    let expected = expected.map(|(status, weight)| (status.to_owned(), weight));
    let (began, mut delay) = (Instant::now(), Duration::ZERO);
    loop {
        let servers: Vec<Standing> = balancer.servers().into_values().collect();
        if servers == expected {
            return (began.elapsed(), delay);
        }
        let is_late = began.elapsed() > Duration::from_secs(patience);
        assert!(!is_late, "{servers:?}, and not {expected:?} within {patience} s\n{}", balancer.log());
        let turn = Instant::now();
        thread::sleep(NAP);
        delay = delay.max(turn.elapsed().saturating_sub(NAP));
    }
}
