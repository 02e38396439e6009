//! Controls: endpoints known as good. When every series fails at once and they do too, the agent suspects itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use aviary_core::{Clock, Endpoint, Outcome, Second, Span};
use aviary_probe::{DEADLINE_US, Network, Prober, Target};
use futures_util::future::join_all;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::batch::shows_network;

/// Seconds are judged once they are so old: their slots are closed, and their controls are back.
const JUDGED_AFTER_SECONDS: u64 = 3;

/// Seconds that nobody judged are forgotten when they are so old.
const KEPT_SECONDS: u64 = 60;

/// How the controls answer, told by the thread that tries them.
#[derive(Clone, Default)]
pub(crate) struct Controls(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    seconds: BTreeMap<Second, Tally>,
    newest: Vec<(Endpoint, bool)>,
}

/// How many showed that the network beyond this host works, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    well: u64,
    failed: u64,
}

impl Controls {
    /// Tries `targets` once a second, on a thread of its own, until `stopped`.
    pub(crate) fn start<N: Network, C: Clock>(
        targets: Vec<Target>,
        prober: Prober<N, C>,
        clock: C,
        mut stopped: watch::Receiver<bool>,
    ) -> std::io::Result<Self> {
        let controls = Self::default();
        if targets.is_empty() {
            return Ok(controls);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let told = controls.clone();
        let targets: Arc<[Target]> = targets.into();
        let mut tries = JoinSet::new();
        let try_each_second = async move {
            loop {
                let second = clock.wall().second();
                let deadline = clock.monotonic().plus(DEADLINE_US);
                let (targets, prober, told) = (Arc::clone(&targets), prober.clone(), told.clone());
                // Not waited for: an attempt that runs to its deadline is not to cost the next second its own.
                tries.spawn(async move {
                    let tried = targets.iter().map(|target| prober.reach(target, deadline));
                    let reached = join_all(tried).await.into_iter().map(|reached| reached.is_ok());
                    told.tell(second, targets.iter().map(|it| it.endpoint().clone()).zip(reached).collect());
                });
                while tries.try_join_next().is_some() {}
                let rest = 1_000_000 - clock.wall().0 % 1_000_000;
                tokio::select! {
                    () = sleep(Duration::from_micros(rest)) => {}
                    _ = stopped.wait_for(|stop| *stop) => return,
                }
            }
        };
        let thread = thread::Builder::new().name("controls".to_owned());
        thread.spawn(move || runtime.block_on(try_each_second))?;
        Ok(controls)
    }

    /// How each control answered when it was last tried.
    pub(crate) fn newest(&self) -> Vec<(Endpoint, bool)> {
        self.lock().newest.clone()
    }

    fn tell(&self, second: Second, reached: Vec<(Endpoint, bool)>) {
        let well = reached.iter().filter(|(_, reached)| *reached).count() as u64;
        let mut state = self.lock();
        // An attempt that ends in the next second still speaks of this one.
        state.seconds.insert(second, Tally { well, failed: reached.len() as u64 - well });
        let oldest = second.minus(KEPT_SECONDS);
        let kept = Span::new(oldest, second.plus(KEPT_SECONDS));
        state.seconds.retain(|second, _| kept.contains(*second));
        state.newest = reached;
    }

    fn at(&self, second: Second) -> Option<Tally> {
        self.lock().seconds.get(&second).copied()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the seconds in which everything failed, the controls as well.
#[derive(Default)]
pub(crate) struct Suspicion {
    seconds: BTreeMap<Second, Tally>,
    is_suspect: bool,
}

impl Suspicion {
    /// A slot of `second` was closed.
    pub(crate) fn observe(&mut self, second: Second, outcome: &Outcome) {
        let tally = self.seconds.entry(second).or_default();
        match outcome {
            it if shows_network(it) => tally.well += 1,
            Outcome::Lost { .. } | Outcome::Local { .. } => tally.failed += 1,
            Outcome::Delivered(_) | Outcome::Missed | Outcome::Muted => {}
        }
    }

    /// The seconds, of those that are old enough now and were not judged before, in which every series that could show
    /// anything failed, and every control too.
    pub(crate) fn judge(&mut self, controls: &Controls, now: Second) -> Vec<Span> {
        let due = now.minus(JUDGED_AFTER_SECONDS);
        let mut later = self.seconds.split_off(&due);
        // Of a clock that was ahead and set back.
        later.split_off(&now.plus(KEPT_SECONDS));
        let mut spans: Vec<Span> = Vec::new();
        for (second, slots) in std::mem::replace(&mut self.seconds, later) {
            let tried = controls.at(second).unwrap_or_default();
            let all_failed = |tally: Tally| tally.failed > 0 && tally.well == 0;
            self.is_suspect = all_failed(slots) && all_failed(tried);
            if !self.is_suspect {
                continue;
            }
            match spans.last_mut() {
                Some(last) if last.until == second => last.until = second.plus(1),
                _ => spans.push(Span::new(second, second.plus(1))),
            }
        }
        spans
    }

    /// Whether the newest second that was judged is one of those.
    pub(crate) const fn is_suspect(&self) -> bool {
        self.is_suspect
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::{Evidence, Fault, Phase};

    use super::*;

    #[test]
    fn the_agent_suspects_itself_only_when_everything_fails() {
        let lost = Outcome::Lost { phase: Phase::Connect, fault: Fault::Timeout };
        let sent = Outcome::Delivered(Evidence::Sent);
        let delivered = Outcome::Delivered(Evidence::PeerClosed);
        let control = |well| ("tcp://192.0.2.1:80".parse().unwrap(), well);
        let table = [
            ("all lost, the control too", vec![lost, lost, sent], vec![control(false)], true),
            ("a control answers", vec![lost, lost], vec![control(false), control(true)], false),
            ("a series is delivered", vec![lost, delivered], vec![control(false)], false),
            ("no controls", vec![lost, lost], vec![], false),
            ("nothing could show anything", vec![sent, Outcome::Missed], vec![control(false)], false),
        ];
        for (name, outcomes, reached, expected) in table {
            let controls = Controls::default();
            let mut suspicion = Suspicion::default();
            for second in [Second(100), Second(101)] {
                outcomes.iter().for_each(|outcome| suspicion.observe(second, outcome));
                controls.tell(second, reached.clone());
            }
            let spans = suspicion.judge(&controls, Second(110));
            let all = vec![Span::new(Second(100), Second(102))];
            assert_eq!(spans, if expected { all } else { vec![] }, "{name}");
            assert_eq!(suspicion.is_suspect(), expected, "{name}");
            assert_eq!(suspicion.judge(&controls, Second(120)), [], "{name}: each second is judged once");
        }
    }
}
