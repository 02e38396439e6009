//! Leases: what a collector advises for the node that this agent stands on, held for as long as it says and no longer.
//!
//! An agent has no second witness. It never takes its node out by itself, whatever it sees: the node is out only while a
//! collector, which has other witnesses and keeps the budget, says so again and again. Break what all nodes share, with the
//! collector away, and nothing leaves rotation.
//!
//! | what happens | what is held from then on |
//! |---|---|
//! | a collector answers, with advice | that, in the place of whatever was held |
//! | a collector answers, without | nothing |
//! | it refuses, or nobody answers | what was held, until it ends |
//! | `until` has come, by the agent's wall clock and as far as that was off when it was told | nothing |
//! | [`LEASE_MAX_US`] have passed by the monotonic clock since it was asked for, or the time up to `until` | nothing |
//!
//! The last two are told apart so that neither a wall clock that is stepped nor a host that was suspended keeps a node out.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use aviary_core::{Micros, Timestamp};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// No lease is held for longer without being renewed.
pub const LEASE_MAX_US: u64 = 60_000_000;

/// So many are held at once: an agent probes fewer services.
const LEASES_MAX: usize = 1_024;

/// So many characters of a reason are held.
const REASON_MAX: usize = 500;

/// The weight of what returns, where the collector does not say.
const RETURNING_WEIGHT: u8 = 10;

/// What a collector says of the agent's own node, in one service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Advice {
    /// Where the node is to be.
    pub state: Advised,
    /// The share of its usual load that it is to have while it returns, in per cent.
    #[serde(default)]
    pub weight: Option<u8>,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
    /// When the advice ends, by the collector's clock, in microseconds since the Unix epoch.
    pub until_us: u64,
}

/// Where a node is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advised {
    /// Out of rotation.
    Out,
    /// In rotation, with little of its load at first.
    Returning,
}

/// Reads the advice of an answer, by service. What is not understood is no advice: another version may say more, and whoever
/// cannot say clearly that a node is out leaves it in.
pub(crate) fn advice<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Advice>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient<T> {
        Understood(T),
        Else(IgnoredAny),
    }
    let Lenient::Understood(told) = Lenient::<BTreeMap<String, Lenient<Advice>>>::deserialize(from)? else {
        return Ok(BTreeMap::new());
    };
    let understood = told.into_iter().filter_map(|(service, advice)| match advice {
        Lenient::Understood(advice) => Some((service, advice)),
        Lenient::Else(IgnoredAny) => None,
    });
    Ok(understood.take(LEASES_MAX).collect())
}

/// What is held of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Where the node is to be.
    pub state: Advised,
    /// The share of its usual load that it is to have, in per cent: none while it is out.
    pub weight: u8,
    /// Why, for people.
    pub reason: String,
    /// When it ends, by the agent's wall clock.
    pub until: Timestamp,
    /// When it ends at the latest, by the agent's monotonic clock.
    ends: Micros,
}

impl Lease {
    fn is_live(&self, (wall, monotonic): (Timestamp, Micros)) -> bool {
        wall < self.until && monotonic < self.ends
    }
}

/// When a collector was asked, and when it said that it was then.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When it was asked, by the agent's monotonic clock: it cannot have answered before.
    pub began: Micros,
    /// When that was midway to its answer, by the agent's wall clock.
    pub midway: Timestamp,
    /// The same by the collector's; where it does not say, the clocks are taken to agree.
    pub now_us: Option<u64>,
}

/// What is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases(BTreeMap<String, Lease>);

impl Leases {
    /// A collector took a report, and answered this.
    pub fn answered(&mut self, told: BTreeMap<String, Advice>, asked: Asked) {
        let now_us = asked.now_us.unwrap_or(asked.midway.0);
        let lease = |advice: Advice| {
            let left = advice.until_us.saturating_sub(now_us);
            let weight = match advice.state {
                Advised::Out => 0,
                Advised::Returning => advice.weight.unwrap_or(RETURNING_WEIGHT).clamp(1, 100),
            };
            let reason = advice.reason.chars().take(REASON_MAX).collect();
            let ends = asked.began.plus(left.min(LEASE_MAX_US));
            Lease { state: advice.state, weight, reason, until: asked.midway.plus(left), ends }
        };
        self.0 = told.into_iter().map(|(service, advice)| (service, lease(advice))).collect();
    }

    /// The lease that is live at `now`, by the agent's wall clock and its monotonic one.
    pub fn of(&self, service: &str, now: (Timestamp, Micros)) -> Option<&Lease> {
        self.0.get(service).filter(|lease| lease.is_live(now))
    }
}
