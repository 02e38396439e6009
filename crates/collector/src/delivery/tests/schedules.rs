//! Seeded schedules of receivers that fail in every way and of lives that end at any instant: at a receiver that honours
//! keys each incident is one page and one resolve.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use aviary_notify::{Reason, Retry};
use tokio::time::sleep;

use super::support::{Does, PAGER, Scripted, Stage};

const SCHEDULES: u64 = 200;

/// Until here nobody can rely on anything.
const BAD_MILLIS: u64 = 300_000;

/// Numbers that look random, and are the same for the same seed.
struct Dice(AtomicU64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `sides` (SplitMix64).
    fn roll(&self, sides: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn does(&self) -> Does {
        match self.roll(9) {
            0 => Does::Refuses(Reason::ServerError, Retry::Later),
            1 => Does::Refuses(Reason::RateLimited, Retry::After(Duration::from_secs(1 + self.roll(90)))),
            2 => Does::Refuses(Reason::Unreachable, Retry::Later),
            3 => Does::Refuses(Reason::Transport, Retry::Later),
            4 => Does::TakesAndFails(Reason::ServerError),
            5 => Does::TakesAndFails(Reason::Transport),
            6 => Does::Hangs(false),
            7 => Does::Hangs(true),
            _ => Does::Takes,
        }
    }
}

/// A receiver that fails as dice have it while all is bad.
fn unreliable(seed: u64) -> Scripted {
    let dice = Dice::new(seed);
    Scripted::new(move |millis| if millis < BAD_MILLIS { dice.does() } else { Does::Takes })
}

async fn run(seed: u64) {
    let dice = Dice::new(seed);
    let mut stage = Stage::new(&[("a", PAGER, unreliable(seed ^ 1)), ("b", PAGER, unreliable(seed ^ 2))]);
    // Half of them are over before anybody can rely on anything: then it may be that nobody was told at all.
    let is_early = dice.roll(2) == 0;
    let opens = dice.roll(5_000);
    let resolves = if is_early { opens + 1 + dice.roll(200_000) } else { 400_000 + dice.roll(60_000) };
    let mut events = vec![(opens, 0), (resolves, 1_000)];
    events.extend(
        (1..1 + dice.roll(6)).map(|revision| (opens + 1 + revision * (1 + dice.roll(60_000)), revision + 1)),
    );
    events.retain(|(at, _)| *at <= resolves);
    events.sort_unstable();
    let mut ends: Vec<u64> = (0..dice.roll(12)).map(|_| dice.roll(470_000)).collect();
    // Some lives end just when something is under way.
    ends.extend([opens + dice.roll(40), resolves + dice.roll(40)]);
    ends.sort_unstable();
    let mut now = 0;
    let (mut events, mut ends) = (events.into_iter().peekable(), ends.into_iter().peekable());
    loop {
        let next = [events.peek().map(|(at, _)| *at), ends.peek().copied()].into_iter().flatten().min();
        let Some(next) = next else { break };
        sleep(Duration::from_millis(next - now)).await;
        now = next;
        while ends.next_if(|at| *at == now).is_some() {
            stage.kill();
        }
        while let Some((_, revision)) = events.next_if(|(at, _)| *at == now) {
            match revision {
                0 => stage.office.open("i"),
                1_000 => stage.office.resolve("i"),
                revision => stage.office.update("i", revision),
            }
        }
    }
    // Until all has been well for a while.
    sleep(Duration::from_millis(BAD_MILLIS.saturating_sub(now) + 200_000)).await;
    for name in ["a", "b"] {
        let log = stage.log(name);
        let pages = if is_early { log.pages.min(1) } else { 1 };
        let all = (log.pages, log.resolves, log.overtaken);
        assert_eq!(all, (pages, pages, 0), "seed {seed}, receiver {name}: {:?}", log.came);
    }
    assert_eq!(stage.office.cases(), 0, "seed {seed}");
}

#[test]
fn each_incident_is_one_page_and_one_resolve() {
    for seed in 0..SCHEDULES {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(run(seed.wrapping_mul(0x5851_f42d_4c95_7f2d)));
    }
}
