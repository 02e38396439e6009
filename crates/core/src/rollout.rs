//! Rolling a version of the services out to the agents of a collector: all of them, or none.
//!
//! A version is offered, and becomes the *candidate*. Each agent fetches it and does everything that can fail without touching
//! what runs (`building`), and then has it `available`, or says why it cannot use it (`error`). Once every agent that counts
//! has it available it is the *active* one, which all take on. An agent that refuses it, or is silent, holds it back; after a while
//! that ends the rollout, and the version that was active has stood all the time.
//!
//! | agent | counts | is ready |
//! |---|---|---|
//! | reports, and takes its services from here by version | yes | while it has the candidate available, or runs it |
//! | was silent for a few seconds | yes | no |
//! | is silent for longer, or retired | no: it takes the active one on when it is back | |
//! | takes its services from elsewhere, or knows no versions | no | |
//!
//! What an agent runs is what the collector calls active: whatever comes in between, all that answer converge to that one version.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{Timestamp, named::named};

/// A version of the services: the first eight bytes of the SHA-256 of their text, written as sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The version of the text with this SHA-256.
    pub fn of_sha256(hash: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *hash;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version of services, which has sixteen hexadecimal digits")]
pub struct NoVersion(String);

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let is_written_so = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_written_so);
        number.map(Self).ok_or_else(|| NoVersion(text.chars().take(80).collect()))
    }
}

named! {
    /// How far an agent is with a version.
    pub enum HeldState {
        /// It was fetched, and is being checked and prepared.
        Building = "building",
        /// Everything that can fail has not failed: it could be taken on.
        Available = "available",
        /// It is what the agent probes by.
        Active = "active",
        /// It cannot be used there.
        Error = "error",
        /// Another has taken its place, and its last attempts end.
        Removing = "removing",
    }
}

/// A version that an agent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub version: Version,
    /// How far the agent is with it.
    pub state: HeldState,
    /// Why it cannot be used there; empty unless it is an error.
    pub error: String,
}

impl Held {
    /// A version in a state that needs no words.
    pub const fn new(version: Version, state: HeldState) -> Self {
        Self { version, state, error: String::new() }
    }
}

/// Whether an agent reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It does.
    Reporting,
    /// Nothing has come for a few seconds.
    Late,
    /// Nothing has come for so long that nobody waits for it.
    Away,
}

/// An agent that takes its services from this collector by version.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Whether it reports.
    pub presence: Presence,
    /// What it said last that it holds.
    pub held: &'a [Held],
}

impl Seen<'_> {
    fn has(&self, version: Version, states: &[HeldState]) -> bool {
        self.held.iter().any(|held| held.version == version && states.contains(&held.state))
    }

    /// Whether a rollout waits for it.
    pub fn counts(&self) -> bool {
        self.presence != Presence::Away
    }

    /// Whether it reports and could take `version` on, or runs it.
    pub fn is_ready_for(&self, version: Version) -> bool {
        self.presence == Presence::Reporting && self.has(version, &[HeldState::Available, HeldState::Active])
    }

    fn holds_back(&self, version: Version) -> bool {
        match self.presence {
            Presence::Reporting => self.has(version, &[HeldState::Error]) && !self.is_ready_for(version),
            Presence::Late => true,
            Presence::Away => false,
        }
    }

    /// How far it is with `version`; none if it says nothing of it. What it does with it comes before what it did.
    pub fn state_of(&self, version: Version) -> Option<HeldState> {
        use HeldState::{Active, Available, Building, Error, Removing};
        [Active, Available, Building, Error, Removing].into_iter().find(|state| self.has(version, &[*state]))
    }
}

named! {
    /// How a rollout goes.
    pub enum Phase {
        /// What is offered is active, and nothing waits.
        Settled = "settled",
        /// Agents prepare the candidate.
        Building = "building",
        /// At least one agent refuses the candidate, or is silent.
        Held = "held",
        /// The time for a rollout was over before all agents had the candidate: what was active stands, and what is offered waits.
        TimedOut = "timed_out",
        /// Somebody went back: what is offered waits.
        RolledBack = "rolled_back",
    }
}

/// What is to become active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which version.
    pub version: Version,
    /// Since when.
    pub since: Timestamp,
    /// An agent held it back, which was said.
    pub was_held: bool,
}

named! {
    /// Why a version is held back.
    pub enum Why {
        /// Not all agents had it available in time.
        TimedOut = "timed_out",
        /// Somebody went back to another.
        RolledBack = "rolled_back",
    }
}

/// What is offered and not rolled out, until it changes or somebody says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Which version.
    pub version: Version,
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub why: Why,
    /// Who went back.
    pub by: Option<String>,
}

/// What a step did, for the log, charts and whoever took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first version of all is active at once: there is nothing that it could be worse than.
    First(Version),
    /// A version is being rolled out.
    Began(Version),
    /// What was being rolled out no longer is, since what is active is offered again.
    Dropped(Version),
    /// An agent holds it back.
    Held(Version),
    /// It is active.
    Activated(Version),
    /// Somebody had it made active before all agents were ready.
    Forced(Version),
    /// Its time was over.
    TimedOut(Version),
    /// Somebody broke its rollout off: what is active stands.
    BrokenOff(Version),
    /// Somebody went back from the first to the second.
    RolledBack(Version, Version),
}

/// Why a command does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// Nothing is being rolled out.
    #[error(
        "nothing is being rolled out; where the last rollout ended without success, begin it again with `aviary rollout retry`"
    )]
    NoCandidate,
    /// No version came before.
    #[error("there is no version to go back to: only the one before the active one is kept, and once")]
    NoPrevious,
    /// Nothing waits to be rolled out.
    #[error("nothing is held back: what the collector's file says is active, or is being rolled out")]
    NothingHeldBack,
}

/// Which versions there are, and which of them agents are to probe by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// What agents are to probe by, and since when; none before the first is offered.
    pub active: Option<(Version, Timestamp)>,
    /// What is to become active.
    pub candidate: Option<Candidate>,
    /// What was active before, if it can be gone back to.
    pub previous: Option<Version>,
    /// What is offered and not rolled out.
    pub held_back: Option<HeldBack>,
}

impl Rollout {
    /// The collector's file says this now. It is rolled out, unless it is what is active, is being rolled out, or was held back.
    pub fn offer(&mut self, version: Version, now: Timestamp) -> Option<Step> {
        let Some((active, _)) = self.active else {
            self.active = Some((version, now));
            return Some(Step::First(version));
        };
        if active == version {
            self.held_back = None;
            return self.candidate.take().map(|dropped| Step::Dropped(dropped.version));
        }
        let is_known = self.candidate.is_some_and(|candidate| candidate.version == version)
            || self.held_back.as_ref().is_some_and(|held| held.version == version);
        if is_known {
            return None;
        }
        Some(self.begin(version, now))
    }

    /// Looks at the agents: makes the candidate active once all that count are ready, and gives it up once it has waited for
    /// `timeout_us` microseconds.
    pub fn look<'a>(
        &mut self,
        agents: impl Iterator<Item = Seen<'a>>,
        timeout_us: u64,
        now: Timestamp,
    ) -> Option<Step> {
        let candidate = self.candidate.as_mut()?;
        let version = candidate.version;
        let (mut is_ready, mut is_held) = (true, false);
        for agent in agents.filter(Seen::counts) {
            is_ready &= agent.is_ready_for(version);
            is_held |= agent.holds_back(version);
        }
        if is_ready {
            self.activate(version, now);
            return Some(Step::Activated(version));
        }
        if now.since(candidate.since) >= timeout_us {
            self.candidate = None;
            self.held_back = Some(HeldBack { version, at: now, why: Why::TimedOut, by: None });
            return Some(Step::TimedOut(version));
        }
        if is_held && !candidate.was_held {
            candidate.was_held = true;
            return Some(Step::Held(version));
        }
        None
    }

    /// Somebody has the candidate made active: it is taken on where it can be.
    ///
    /// # Errors
    /// If there is none.
    pub fn force(&mut self, now: Timestamp) -> Result<Step, NotDone> {
        let Candidate { version, .. } = self.candidate.ok_or(NotDone::NoCandidate)?;
        self.activate(version, now);
        Ok(Step::Forced(version))
    }

    /// `by` goes back: breaks off the rollout that is under way, or else makes the version before active again, at once.
    ///
    /// # Errors
    /// If neither is there.
    pub fn roll_back(&mut self, by: Option<String>, now: Timestamp) -> Result<Step, NotDone> {
        let why = Why::RolledBack;
        if let Some(Candidate { version, .. }) = self.candidate.take() {
            self.held_back = Some(HeldBack { version, at: now, why, by });
            return Ok(Step::BrokenOff(version));
        }
        let (Some((from, _)), Some(to)) = (self.active, self.previous) else {
            return Err(NotDone::NoPrevious);
        };
        self.active = Some((to, now));
        self.previous = None;
        // What timed out waits on: the file still says it.
        self.held_back.get_or_insert(HeldBack { version: from, at: now, why, by });
        Ok(Step::RolledBack(from, to))
    }

    /// Somebody has what was held back, which is what is `offered`, rolled out again.
    ///
    /// # Errors
    /// If nothing is held back.
    pub fn retry(&mut self, offered: Version, now: Timestamp) -> Result<Step, NotDone> {
        let held = self.held_back.as_ref().ok_or(NotDone::NothingHeldBack)?;
        if held.version != offered || self.active.is_none_or(|(active, _)| active == offered) {
            return Err(NotDone::NothingHeldBack);
        }
        Ok(self.begin(offered, now))
    }

    fn begin(&mut self, version: Version, now: Timestamp) -> Step {
        self.held_back = None;
        self.candidate = Some(Candidate { version, since: now, was_held: false });
        Step::Began(version)
    }

    fn activate(&mut self, version: Version, now: Timestamp) {
        self.previous = self.active.map(|(active, _)| active);
        self.active = Some((version, now));
        self.candidate = None;
    }

    /// The versions whose texts are needed: of the one that is active, the one to come, and the one before.
    pub fn needed(&self) -> impl Iterator<Item = Version> {
        let active = self.active.map(|(version, _)| version);
        let candidate = self.candidate.map(|candidate| candidate.version);
        [active, candidate, self.previous].into_iter().flatten()
    }

    /// How it goes.
    pub fn phase<'a>(&self, mut agents: impl Iterator<Item = Seen<'a>>) -> Phase {
        match (&self.candidate, &self.held_back) {
            (Some(candidate), _) if agents.any(|agent| agent.holds_back(candidate.version)) => Phase::Held,
            (Some(_), _) => Phase::Building,
            (None, Some(HeldBack { why: Why::TimedOut, .. })) => Phase::TimedOut,
            (None, Some(HeldBack { why: Why::RolledBack, .. })) => Phase::RolledBack,
            (None, None) => Phase::Settled,
        }
    }

    /// How many of the agents that count are how far with the version that is to become active, or is; `None` are those that
    /// have said nothing of it.
    pub fn tally<'a>(&self, agents: impl Iterator<Item = Seen<'a>>) -> BTreeMap<Option<HeldState>, usize> {
        let newest = self.candidate.map(|candidate| candidate.version);
        let newest = newest.or_else(|| self.active.map(|(version, _)| version));
        let mut tally = BTreeMap::new();
        for agent in agents.filter(Seen::counts) {
            *tally.entry(newest.and_then(|version| agent.state_of(version))).or_default() += 1;
        }
        tally
    }
}
