//! The loop of judgement: once a second what is seen, and what follows from it. Where something lost is told of a second that
//! was looked at already, it is looked at once more, and nobody waits for the next one: whoever is to be woken is woken
//! up to a second sooner.

use std::{pin::pin, sync::Arc, time::Duration};

use aviary_core::{Timestamp, rotation::Evidence};
use aviary_store::StoreError;
use tokio::{sync::watch, time::sleep};

use crate::{Collector, history::Tally, state::Seen};

/// Woken so much too late, this process was stalled or its host suspended.
const STALL_US: u64 = 3_000_000;

/// Between two looks lies so many times what the last one took, so that looking for losses takes a small share of a core,
/// however many come.
const REST: u64 = 50;

impl Collector {
    pub(crate) async fn judge_each_second(self, mut stopped: watch::Receiver<bool>) {
        let mut last = self.monotonic();
        loop {
            let now = self.now();
            let awake = self.monotonic();
            if awake.since(last) > STALL_US {
                // What storage told meanwhile still waits to be read: the stall is ours, and no loss.
                self.storage_untold();
            }
            last = awake;
            if self.replaying().is_none() {
                self.judge(now).await;
            }
            let rest = 1_000_000 - self.now().0 % 1_000_000;
            let mut next = pin!(sleep(Duration::from_micros(rest)));
            let mut began = awake;
            loop {
                let lost = async {
                    sleep(Duration::from_micros(self.monotonic().since(began) * REST)).await;
                    self.inner.lost.notified().await;
                };
                tokio::select! {
                    () = &mut next => break,
                    () = lost => {}
                    _ = stopped.wait_for(|stop| *stop) => return,
                }
                began = self.monotonic();
                if self.replaying().is_none() {
                    self.look_again(self.now()).await;
                }
            }
        }
    }

    /// Judges the second that is now, keeps what follows, and hands over what is to be told, as one that is served does each
    /// second. Blocks.
    pub fn judge_now(&self) {
        self.judge_at(self.now());
    }

    fn judge_at(&self, now: Timestamp) {
        let (seen, steered) = self.look(now);
        self.follow_up(seen, steered, now);
    }

    /// The same on a thread that may wait for the disk. A second that cannot be judged is said, and the next one is; whoever
    /// watches us is not told meanwhile that we watch.
    pub(crate) async fn judge(&self, now: Timestamp) {
        let collector = self.clone();
        not_judged(tokio::task::spawn_blocking(move || collector.judge_at(now)).await);
    }

    /// Looks once more at seconds that were judged.
    async fn look_again(&self, now: Timestamp) {
        let collector = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let asked = collector.judgement().asked(now);
            let seen = collector.state().watch(now, &asked);
            collector.judgement().observe(seen, now);
            collector.keep_judgement();
        });
        not_judged(looked.await);
    }

    /// What is seen of each service at `now`.
    fn look(&self, now: Timestamp) -> (Seen, Vec<Evidence>) {
        let asked = self.judgement().asked(now);
        let mut state = self.state();
        state.judge(now);
        state.count_slots(now);
        let seen = state.watch(now, &asked);
        let steered = state.steered(now);
        (seen, steered)
    }

    /// Takes in what was seen. Blocks.
    fn follow_up(&self, seen: Seen, steered: Vec<Evidence>, now: Timestamp) {
        let paged = self.state().take_paged();
        paged.into_iter().for_each(|told| self.judgement().paged(told, now));
        self.steer(steered, now);
        self.judgement().observe(seen, now);
        self.expire_incidents(now);
        self.keep_uses(now);
        // Whoever stops it is not to wait for a disk without room.
        if self.keep_judgement() || self.judgement().is_steering_stopped() {
            self.publish_advice(now);
        }
        self.roll_out(now);
        self.read_older();
        self.read_timings(now);
        self.sign(now);
    }

    /// Lets go of incidents that are over for as long as anything is retained, a few each minute. Blocks.
    fn expire_incidents(&self, now: Timestamp) {
        if now.second().0.is_multiple_of(60)
            && let Err(error) = self.judgement().let_go_before(self.history().retained_from(now.second()))
        {
            tracing::warn!("Incidents of long ago stay: {error}");
        }
    }

    /// Keeps each ten minutes when tokens were used last. Blocks.
    fn keep_uses(&self, now: Timestamp) {
        if now.second().0.is_multiple_of(600)
            && let Err(error) = self.access().issued().keep_uses()
        {
            tracing::warn!("When tokens were used last is not kept: {error}");
        }
    }

    /// Looks once a minute how long phases take; what is found is said in the next second. Blocks.
    fn read_timings(&self, now: Timestamp) {
        let Some(wanted) = self.state().slow_wanted(now) else { return };
        match wanted.conditions(self.history()) {
            Ok(conditions) => self.state().watched_mut().take_slow(conditions),
            Err(error) => tracing::warn!("Nobody can tell how long phases take: {error}"),
        }
    }

    /// Commits what judgement changed. Whether that is on the disk. Blocks.
    pub(crate) fn keep_judgement(&self) -> bool {
        let kept = self.judgement().flush();
        let is_kept = kept.is_ok();
        if let Err(error) = kept {
            tracing::error!("Incidents are not kept: {error}");
            if let (Some(durable), StoreError::Unsound { .. }) = (&self.inner.durable, &error) {
                durable.fail(Arc::new(error));
            }
        }
        is_kept
    }

    /// Reads what banks lack of the time before the ledger, after a start. Blocks.
    fn read_older(&self) {
        let Some(wanted) = self.state().older_wanted() else { return };
        let mut tally = Tally::new(&wanted.lives, &wanted.cell_of, wanted.cells, wanted.steps);
        match self.history().tally(&mut tally, wanted.steps.whole(), None, None, &|| true) {
            Ok(()) => {
                let windows = tally.finish();
                self.state().take_older(&wanted, windows);
            }
            Err(error) => {
                tracing::warn!("Long windows begin anew, since the history cannot be read: {error}")
            }
        }
    }
}

/// Says where a second could not be judged.
fn not_judged(judged: Result<(), tokio::task::JoinError>) {
    if let Err(error) = judged {
        tracing::error!(%error, "A second could not be judged.");
    }
}
