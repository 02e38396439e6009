//! The dead man's switch: told that we watch at the end of a loop that proved it, and of nothing else.
//!
//! Whoever judges calls [`Switch::looped`] at the end of each of its loops with what it has seen. A timer that told by itself
//! would go on telling when all else has stopped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{Second, Timestamp};
use aviary_notify::{Attempt, Receipt, Refusal, Watchdog};
use tokio::task::JoinHandle;

use super::words::{counted, lasted};

/// The newest second of which somebody reports something is at most so old: three until it is closed, and some.
const SLOT_SECONDS_MAX: u64 = 10;

/// Of so many agents in a hundred the newest report is fresh.
const FRESH_PERCENT_MIN: u64 = 80;

/// Judgement is at most so old.
pub(crate) const JUDGED_US_MAX: u64 = 5_000_000;

/// A page that nobody took within so long is stuck.
pub(crate) const UNTOLD_US_MAX: u64 = 60_000_000;

/// What a loop has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// When it ended.
    pub now: Timestamp,
    /// The newest second of which a slot is known.
    pub newest_slot: Option<Second>,
    /// How many agents there are, but for those that are retired.
    pub agents: u64,
    /// How many of them report.
    pub fresh: u64,
    /// When the newest judgement ended.
    pub judged: Option<Timestamp>,
    /// Since when the oldest page waits that nobody took ([`super::untold_since`]).
    pub untold_since: Option<Timestamp>,
    /// Since when our own canary, whose loss is to be told of every five minutes, is silent.
    pub canary_silent_since: Option<Timestamp>,
}

impl Signs {
    /// Whether too few of the agents that there are report.
    pub(crate) const fn few_report(&self) -> bool {
        self.fresh * 100 < self.agents * FRESH_PERCENT_MIN
    }

    /// The proof that we watch and can page, in a line.
    ///
    /// # Errors
    /// What speaks against it, each in a few words.
    pub fn proof(&self) -> Result<String, Vec<String>> {
        let Self { now, newest_slot, agents, fresh, judged, untold_since, canary_silent_since } = *self;
        let mut doubts = Vec::new();
        match newest_slot.map(|newest| now.second().0.saturating_sub(newest.0)) {
            None => doubts.push("no slot is known".to_owned()),
            Some(age) if age > SLOT_SECONDS_MAX => {
                doubts.push(format!("the newest slot is {} old", lasted(age)));
            }
            Some(_) => {}
        }
        if agents == 0 {
            doubts.push("no agent is known".to_owned());
        } else if self.few_report() {
            doubts.push(format!("{fresh} of {} report", counted(agents, "agent")));
        }
        match judged.map(|judged| now.since(judged)) {
            None => doubts.push("nothing was judged".to_owned()),
            Some(age) if age > JUDGED_US_MAX => {
                doubts.push(format!("the newest judgement is {} old", lasted(age / 1_000_000)));
            }
            Some(_) => {}
        }
        if let Some(age) = untold_since.map(|since| now.since(since)).filter(|age| *age > UNTOLD_US_MAX) {
            doubts.push(format!("a page has waited for {}, and nobody took it", lasted(age / 1_000_000)));
        }
        if let Some(age) = canary_silent_since.map(|since| now.since(since)) {
            doubts.push(format!(
                "our own canary lost, and nobody was told of it for {}",
                lasted(age / 1_000_000)
            ));
        }
        match doubts.is_empty() {
            true => Ok(format!("{fresh} of {} report, and the outbox drains", counted(agents, "agent"))),
            false => Err(doubts),
        }
    }
}

/// Whoever is told that we watch.
pub trait Tell: Send + Sync + 'static {
    /// Tells that we watch; `said` is the proof, in a line.
    fn tell(&self, said: &str, attempt: Attempt) -> impl Future<Output = Result<Receipt, Refusal>> + Send;
}

impl Tell for Watchdog {
    async fn tell(&self, said: &str, attempt: Attempt) -> Result<Receipt, Refusal> {
        Self::tell(self, said, attempt).await
    }
}

/// Tells whoever watches us, after loops that proved themselves.
pub struct Switch<W> {
    watchdog: Arc<W>,
    every_us: u64,
    last: Option<Timestamp>,
    telling: Option<JoinHandle<()>>,
    is_in_doubt: bool,
    figures: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    told: AtomicU64,
    refused: AtomicU64,
    withheld: AtomicU64,
}

/// What a switch has done, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchFigures {
    /// So often it was told.
    pub told: u64,
    /// So often it could not be.
    pub refused: u64,
    /// So many loops had proved nothing when it was time.
    pub withheld: u64,
}

impl<W: Tell> Switch<W> {
    /// One that tells `watchdog`, at most so often.
    pub fn new(watchdog: W, every: Duration) -> Self {
        Self {
            watchdog: Arc::new(watchdog),
            every_us: u64::try_from(every.as_micros()).unwrap_or(u64::MAX),
            last: None,
            telling: None,
            is_in_doubt: false,
            figures: Arc::default(),
        }
    }

    /// A loop has ended that has seen `signs`. It does not wait: telling goes on beside it. To be called in a runtime.
    pub fn looped(&mut self, signs: &Signs) {
        let is_time = self.last.is_none_or(|last| signs.now.since(last) >= self.every_us || signs.now < last);
        let is_telling = self.telling.as_ref().is_some_and(|telling| !telling.is_finished());
        if !is_time || is_telling {
            return;
        }
        let said = match signs.proof() {
            Ok(said) => said,
            Err(doubts) => {
                self.doubt(&doubts);
                return;
            }
        };
        if std::mem::take(&mut self.is_in_doubt) {
            tracing::info!("The dead man's switch is told again that we watch.");
        }
        self.last = Some(signs.now);
        let (watchdog, figures) = (Arc::clone(&self.watchdog), Arc::clone(&self.figures));
        let attempt = Attempt { now: signs.now };
        self.telling = Some(tokio::spawn(async move {
            match watchdog.tell(&said, attempt).await {
                Ok(_) => figures.told.fetch_add(1, Ordering::Relaxed),
                Err(refusal) => {
                    tracing::warn!(reason = refusal.reason.name(), %refusal, "The dead man's switch was not told.");
                    figures.refused.fetch_add(1, Ordering::Relaxed)
                }
            };
        }));
    }

    /// What it has done.
    pub fn figures(&self) -> SwitchFigures {
        let Counts { told, refused, withheld } = &*self.figures;
        let [told, refused, withheld] = [told, refused, withheld].map(|count| count.load(Ordering::Relaxed));
        SwitchFigures { told, refused, withheld }
    }

    /// It is time, and nothing is proved: it is looked at again at the end of the next loop.
    fn doubt(&mut self, doubts: &[String]) {
        if !std::mem::replace(&mut self.is_in_doubt, true) {
            let why = doubts.join("; ");
            tracing::error!(why, "The dead man's switch is not told that we watch: it will page.");
        }
        self.figures.withheld.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicBool};

    use aviary_notify::{Reason, Retry};

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_230_900_000_000);

    fn well() -> Signs {
        Signs {
            now: NOW,
            newest_slot: Some(NOW.second().minus(4)),
            agents: 5,
            fresh: 4,
            judged: Some(NOW),
            untold_since: None,
            canary_silent_since: None,
        }
    }

    fn ago(seconds: u64) -> Option<Timestamp> {
        Some(NOW.second().minus(seconds).start())
    }

    #[test]
    fn a_loop_proves_itself_by_everything_or_not_at_all() {
        let slot = |seconds| Some(NOW.second().minus(seconds));
        let table: [(Signs, Result<&str, &str>); 13] = [
            (well(), Ok("4 of 5 agents report, and the outbox drains")),
            (Signs { agents: 1, fresh: 1, ..well() }, Ok("1 of 1 agent report, and the outbox drains")),
            (Signs { untold_since: ago(60), judged: ago(5), newest_slot: slot(10), ..well() }, Ok("4 of 5")),
            (Signs { newest_slot: None, ..well() }, Err("no slot is known")),
            (Signs { newest_slot: slot(11), ..well() }, Err("the newest slot is 11 s old")),
            (Signs { agents: 0, fresh: 0, ..well() }, Err("no agent is known")),
            (Signs { fresh: 3, ..well() }, Err("3 of 5 agents report")),
            (Signs { fresh: 0, agents: 1, ..well() }, Err("0 of 1 agent report")),
            (Signs { judged: None, ..well() }, Err("nothing was judged")),
            (Signs { judged: ago(6), ..well() }, Err("the newest judgement is 6 s old")),
            (
                Signs { untold_since: ago(90), ..well() },
                Err("a page has waited for 1 min 30 s, and nobody took it"),
            ),
            (
                Signs { canary_silent_since: ago(900), ..well() },
                Err("our own canary lost, and nobody was told of it for 15 min"),
            ),
            (
                Signs { fresh: 0, judged: ago(3_600), ..well() },
                Err("0 of 5 agents report; the newest judgement is 1 h old"),
            ),
        ];
        for (signs, expected) in table {
            match (signs.proof(), expected) {
                (Ok(said), Ok(expected)) => assert!(said.starts_with(expected), "{said}"),
                (Err(doubts), Err(expected)) => assert_eq!(doubts.join("; "), expected),
                (proof, _) => panic!("{signs:?}: {proof:?}"),
            }
        }
    }

    /// Keeps what it is told.
    #[derive(Default)]
    struct Outside {
        told: Mutex<Vec<(Timestamp, String)>>,
        is_away: AtomicBool,
    }

    impl Tell for Arc<Outside> {
        async fn tell(&self, said: &str, attempt: Attempt) -> Result<Receipt, Refusal> {
            if self.is_away.load(Ordering::Relaxed) {
                let text = "watchdog: nobody is there".to_owned();
                return Err(Refusal { reason: Reason::Unreachable, retry: Retry::Later, text });
            }
            self.told.lock().unwrap().push((attempt.now, said.to_owned()));
            Ok(Receipt { reference: None, text: "OK".to_owned() })
        }
    }

    /// Loops each second for so long, seeing `signs`.
    async fn looping(switch: &mut Switch<Arc<Outside>>, from: u64, seconds: u64, signs: Signs) {
        for second in from..from + seconds {
            let shift = second * 1_000_000;
            let newest_slot = signs.newest_slot.map(|slot| slot.plus(second));
            let judged = signs.judged.map(|judged| judged.plus(shift));
            switch.looped(&Signs { now: NOW.plus(shift), newest_slot, judged, ..signs });
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn it_is_told_every_half_minute_while_loops_prove_themselves() {
        let outside = Arc::new(Outside::default());
        let mut switch = Switch::new(Arc::clone(&outside), Watchdog::EVERY);
        looping(&mut switch, 0, 120, well()).await;
        let told: Vec<u64> =
            outside.told.lock().unwrap().iter().map(|(at, _)| at.since(NOW) / 1_000_000).collect();
        assert_eq!(told, [0, 30, 60, 90]);
        // Judgement stands still: nobody is told, and at the first loop that proves itself again somebody is.
        looping(&mut switch, 120, 60, Signs { judged: ago(600), ..well() }).await;
        assert_eq!(outside.told.lock().unwrap().len(), 4);
        assert_eq!(switch.figures(), SwitchFigures { told: 4, refused: 0, withheld: 60 });
        looping(&mut switch, 180, 10, well()).await;
        assert_eq!(outside.told.lock().unwrap().last().unwrap().0, NOW.plus(180_000_000));
        outside.is_away.store(true, Ordering::Relaxed);
        looping(&mut switch, 190, 60, well()).await;
        assert_eq!(switch.figures(), SwitchFigures { told: 5, refused: 2, withheld: 60 });
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_without_a_loop() {
        let outside = Arc::new(Outside::default());
        let mut switch = Switch::new(Arc::clone(&outside), Watchdog::EVERY);
        looping(&mut switch, 0, 1, well()).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(outside.told.lock().unwrap().len(), 1);
    }
}
