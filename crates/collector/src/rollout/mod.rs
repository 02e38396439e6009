//! Which version of the services agents probe by: what the collector's file says, once all of them can.
//!
//! ```text
//! file -> offer -> core::rollout -> [committed] -> answers to reports: which versions there are -> agents
//!                       ^ each second: what reports say that agents hold
//! ```
//!
//! What agents are told is on the disk: a life that is killed has told nobody of a version of which the next one does not know. What the
//! collector itself judges by is its file, at once. Without a store all of this lives as long as the process, and what the file says
//! at a start is active at once.

pub(crate) mod api;
mod kept;
#[cfg(test)]
mod tests;
mod words;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{
    Timestamp, Vantage,
    rollout::{Held, HeldState, NotDone, Phase, Presence, Rollout, Seen, Step, Version},
};
use aviary_store::{Store, StoreError};
use serde_json::{Value, json};

use crate::{
    Collector,
    agents::{AgentState, LATE_SECONDS, UNREACHABLE_SECONDS},
    document::Document,
    events::Event,
    state::{AgentSeen, State},
};

/// How long a rollout may take, where nobody says.
pub const ROLLOUT_TIMEOUT: Duration = Duration::from_secs(600);

/// So many agents are named in an event; of more, the number is said.
const NAMED_MAX: usize = 3;

/// How the services that are handed out are rolled out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutFigures {
    /// How it goes.
    pub phase: Option<Phase>,
    /// How many of the agents that count are how far with the version that is to become active, or is; `None` are those that have
    /// said nothing of it.
    pub agents: BTreeMap<Option<HeldState>, usize>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotChanged {
    #[error(transparent)]
    NotDone(#[from] NotDone),
    #[error("the rollout cannot be kept: {0}")]
    Store(#[from] StoreError),
}

/// What holds now.
#[derive(Clone, Default)]
pub(crate) struct Versions {
    pub(crate) rollout: Rollout,
    documents: BTreeMap<Version, Arc<Document>>,
    /// What the file says; nothing where it has nothing to hand out.
    pub(crate) offered: Option<Arc<Document>>,
}

/// The versions of the services.
pub(crate) struct Rollouts {
    held: RwLock<Arc<Versions>>,
    /// One change follows another.
    changing: Mutex<()>,
    store: Option<Arc<dyn Store>>,
    timeout_us: AtomicU64,
}

impl Rollouts {
    /// Those that `store` holds at `now`.
    pub(crate) fn open(
        store: Option<Arc<dyn Store>>,
        timeout: Option<Duration>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let versions = store.as_deref().map(|store| kept::read(store, now)).transpose()?;
        let rollouts = Self {
            held: RwLock::new(Arc::new(versions.unwrap_or_default())),
            changing: Mutex::default(),
            store,
            timeout_us: AtomicU64::default(),
        };
        rollouts.set_timeout(timeout.unwrap_or(ROLLOUT_TIMEOUT));
        Ok(rollouts)
    }

    pub(crate) fn set_timeout(&self, timeout: Duration) {
        let timeout_us = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        self.timeout_us.store(timeout_us, Ordering::Relaxed);
    }

    pub(crate) fn timeout_us(&self) -> u64 {
        self.timeout_us.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Arc<Versions> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the change that `change` makes, once it is on the disk. Blocks.
    fn change(
        &self,
        change: impl FnOnce(&mut Versions) -> Result<Option<Step>, NotDone>,
    ) -> Result<Option<Step>, NotChanged> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.now();
        let mut after = Versions::clone(&before);
        let step = change(&mut after)?;
        if after.rollout != before.rollout {
            let offered = after.offered.iter().map(|document| (document.version(), Arc::clone(document)));
            after.documents.extend(offered);
            let needed: Vec<Version> = after.rollout.needed().collect();
            after.documents.retain(|version, _| needed.contains(version));
            if let Some(store) = &self.store {
                store.commit(kept::changes(&before, &after))?;
            }
        }
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        Ok(step)
    }
}

impl Versions {
    /// What agents are to probe by, or the version that is asked for.
    pub(crate) fn document(&self, version: Option<Version>) -> Option<Arc<Document>> {
        self.offered.as_ref()?;
        let version = version.or_else(|| self.rollout.active.map(|(active, _)| active))?;
        self.documents.get(&version).cloned()
    }

    /// What an agent is told with the answer to its report.
    fn told(&self) -> Option<Value> {
        self.offered.as_ref()?;
        let (active, _) = self.rollout.active?;
        let mut told = json!({"active": active.to_string()});
        if let Some(candidate) = self.rollout.candidate {
            told["candidate"] = json!(candidate.version.to_string());
        }
        Some(told)
    }
}

/// An agent that takes its services from here by version.
pub(crate) struct Taker<'s> {
    pub(crate) vantage: &'s Vantage,
    pub(crate) presence: Presence,
    pub(crate) held: &'s [Held],
}

impl<'s> Taker<'s> {
    fn of(vantage: &'s Vantage, agent: &'s AgentSeen, started: Timestamp, now: Timestamp) -> Option<Self> {
        let held = agent.services.as_deref()?;
        let seconds = |since: Timestamp| now.since(since) / 1_000_000;
        // What was told to an earlier life of ours may be of an earlier life of the agent: it is to say it again, and has time to.
        let is_told_again = agent.last_report >= started;
        let silent = seconds(agent.last_report.max(started));
        let is_retired = AgentState::of(agent, now) == AgentState::Retired;
        let presence = match silent {
            silent if silent > UNREACHABLE_SECONDS => Presence::Away,
            silent if silent > LATE_SECONDS && is_retired => Presence::Away,
            silent if silent > LATE_SECONDS => Presence::Late,
            _ => Presence::Reporting,
        };
        Some(Self { vantage, presence, held: if is_told_again { held } else { &[] } })
    }

    pub(crate) const fn seen(&self) -> Seen<'s> {
        Seen { presence: self.presence, held: self.held }
    }

    /// Why it holds `version` back, if it does.
    pub(crate) fn objection(&self, version: Version) -> Option<&'s str> {
        if self.presence == Presence::Late { Some("it is silent") } else { self.refusal(version) }
    }

    /// Why it cannot use `version`, if it says so.
    pub(crate) fn refusal(&self, version: Version) -> Option<&'s str> {
        let held = self.held.iter().find(|it| it.version == version && it.state == HeldState::Error)?;
        Some(if held.error.is_empty() { "it does not say why" } else { &held.error })
    }
}

impl Collector {
    /// The agents that take their services from here by version.
    pub(crate) fn takers<'s>(&self, state: &'s State, now: Timestamp) -> Vec<Taker<'s>> {
        let started = self.inner.started_at;
        let agents = state.agents().iter();
        agents.filter_map(|(vantage, agent)| Taker::of(vantage, agent, started, now)).collect()
    }

    /// Hands out what the file says now, once agents can take it on. Blocks.
    pub(crate) fn offer(&self, document: Option<String>) {
        let now = self.now();
        let document = document.map(Document::new).map(Arc::new);
        let offered = self.inner.rollouts.change(|versions| {
            versions.offered.clone_from(&document);
            Ok(document.as_ref().and_then(|document| versions.rollout.offer(document.version(), now)))
        });
        match offered {
            Ok(step) => step.into_iter().for_each(|step| self.announce(step, None, &[], now)),
            Err(error) => tracing::error!("The services are not rolled out: {error}"),
        }
    }

    /// Looks at what agents hold of the version that is being rolled out. Blocks.
    pub(crate) fn roll_out(&self, now: Timestamp) {
        if self.inner.rollouts.now().rollout.candidate.is_none() {
            return;
        }
        let mut objections = Vec::new();
        let looked = self.inner.rollouts.change(|versions| {
            let state = self.state();
            let takers = self.takers(&state, now);
            if let Some(candidate) = versions.rollout.candidate {
                objections = words::objections(&takers, candidate.version, NAMED_MAX);
            }
            let timeout_us = self.inner.rollouts.timeout_us();
            Ok(versions.rollout.look(takers.iter().map(Taker::seen), timeout_us, now))
        });
        match looked {
            Ok(step) => step.into_iter().for_each(|step| self.announce(step, None, &objections, now)),
            Err(error) => tracing::error!("The rollout waits: {error}"),
        }
    }

    /// Does what somebody says to a rollout. Blocks.
    pub(crate) fn command_rollout(
        &self,
        by: Option<&str>,
        command: impl FnOnce(&mut Rollout, Option<Version>, Timestamp) -> Result<Step, NotDone>,
    ) -> Result<Step, NotChanged> {
        let now = self.now();
        let step = self.inner.rollouts.change(|versions| {
            let offered = versions.offered.as_ref().map(|document| document.version());
            command(&mut versions.rollout, offered, now).map(Some)
        })?;
        // A command that is done takes a step.
        let step = step.ok_or(NotDone::NoCandidate)?;
        self.announce(step, by, &[], now);
        Ok(step)
    }

    /// Which versions there are, for an agent that knows what to do with them.
    pub(crate) fn versions_told(&self) -> Option<Value> {
        self.inner.rollouts.now().told()
    }

    /// How the rollout goes, for metrics.
    pub(crate) fn rollout_figures(&self) -> RolloutFigures {
        let (now, versions) = (self.now(), self.inner.rollouts.now());
        if versions.offered.is_none() {
            return RolloutFigures::default();
        }
        let state = self.state();
        let takers = self.takers(&state, now);
        let seen = || takers.iter().map(Taker::seen);
        let rollout = &versions.rollout;
        RolloutFigures { phase: Some(rollout.phase(seen())), agents: rollout.tally(seen()) }
    }

    /// Says a step in the log, and to charts and pages.
    fn announce(&self, step: Step, by: Option<&str>, objections: &[String], now: Timestamp) {
        let (kind, text) = words::step(step, by, objections);
        match step {
            Step::Held(_) | Step::TimedOut(_) => tracing::warn!("Services: {text}."),
            _ => tracing::info!("Services: {text}."),
        }
        // Nothing changed for anybody by the first.
        if !matches!(step, Step::First(_)) {
            self.state().note_event(Event::of_ours(kind, text, now.second()));
        }
    }
}
