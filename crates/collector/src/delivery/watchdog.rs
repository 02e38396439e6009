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
const JUDGED_US_MAX: u64 = 5_000_000;

/// A page that nobody took within so long is stuck.
const UNTOLD_US_MAX: u64 = 60_000_000;

const EVERY_US: u64 = Watchdog::EVERY.as_micros() as u64;

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
}

impl Signs {
    /// The proof that we watch and can page, in a line.
    ///
    /// # Errors
    /// What speaks against it, each in a few words.
    pub fn proof(&self) -> Result<String, Vec<String>> {
        let Self { now, newest_slot, agents, fresh, judged, untold_since } = *self;
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
        } else if fresh * 100 < agents * FRESH_PERCENT_MIN {
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
    /// So often it was time, and the loop had proved nothing.
    pub withheld: u64,
}

impl<W: Tell> Switch<W> {
    /// How often it is told at most.
    pub const EVERY: Duration = Watchdog::EVERY;

    /// One that tells `watchdog`.
    pub fn new(watchdog: W) -> Self {
        Self {
            watchdog: Arc::new(watchdog),
            last: None,
            telling: None,
            is_in_doubt: false,
            figures: Arc::default(),
        }
    }

    /// A loop has ended that has seen `signs`. It does not wait: telling goes on beside it. To be called in a runtime.
    pub fn looped(&mut self, signs: &Signs) {
        let is_time = self.last.is_none_or(|last| signs.now.since(last) >= EVERY_US || signs.now < last);
        let is_telling = self.telling.as_ref().is_some_and(|telling| !telling.is_finished());
        if !is_time || is_telling {
            return;
        }
        let said = match signs.proof() {
            Ok(said) => said,
            Err(doubts) => {
                self.doubt(signs.now, &doubts);
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
    fn doubt(&mut self, now: Timestamp, doubts: &[String]) {
        if !std::mem::replace(&mut self.is_in_doubt, true) {
            let why = doubts.join("; ");
            tracing::error!(why, "The dead man's switch is not told that we watch: it will page.");
        }
        // Counted as often as it would have been told.
        let _ = now;
        self.figures.withheld.fetch_add(1, Ordering::Relaxed);
    }
}
