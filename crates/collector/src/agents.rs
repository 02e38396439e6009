//! `GET /api/v1/agents[?state=late,unreachable]`: who reports, and under which tokens.
//!
//! | state | means |
//! |---|---|
//! | `starting` | it was started, and has reported for less than half a minute |
//! | `reporting` | it reports |
//! | `late` | nothing has come for more than 5 s |
//! | `unreachable` | nothing has come for more than 30 s |
//! | `retired` | the same, and it had nothing to probe any more; or nothing has come for a day |
//!
//! Whatever the state, the slots of an agent that is silent stay unknown until it, or its spool, tells. `clock_offset_seconds`
//! is how far its clock is ahead of ours, give or take `clock_uncertainty_seconds`; where that is null, it is so far ahead
//! at least.

use std::net::SocketAddr;

use aviary_core::{Span, Timestamp, UnknownName, named, verdict::SEEN_SECONDS};
use serde::Serialize;

use crate::{
    TokenCounts,
    access::Access,
    closed_until,
    error::ApiError,
    rollout::api::HeldBody,
    state::{AgentSeen, State},
    sums::unknown_parameter,
};

/// An agent that has been silent for longer is `late`.
pub(crate) const LATE_SECONDS: u64 = 5;

/// An agent that has been silent for longer is `unreachable`.
pub(crate) const UNREACHABLE_SECONDS: u64 = 30;

/// An agent that has been silent for longer is `retired`: nobody waits for it.
pub(crate) const RETIRED_SECONDS: u64 = 86_400;

/// An agent that has reported for a shorter time is `starting`.
const STARTING_SECONDS: u64 = 30;

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) agents: Vec<AgentBody>,
    /// Every token to report with; `(none)` is whoever needs none.
    pub(crate) tokens: Vec<TokenBody>,
    /// Requests that showed no token of this collector where one was asked for.
    pub(crate) strangers: u64,
    /// Requests that said who they are in the proxy's headers, and did not come from it.
    pub(crate) pretenders: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct TokenBody {
    pub(crate) name: String,
    pub(crate) reports: u64,
    pub(crate) slots: u64,
    /// Those that it brought: new to this collector when they came.
    pub(crate) series: u64,
    pub(crate) refused: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AgentBody {
    pub(crate) node: String,
    pub(crate) kind: &'static str,
    pub(crate) region: String,
    pub(crate) zone: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) state: &'static str,
    /// Seconds since the Unix epoch.
    pub(crate) last_report: u64,
    pub(crate) lag_seconds: f64,
    pub(crate) clock_offset_seconds: f64,
    pub(crate) clock_uncertainty_seconds: Option<f64>,
    pub(crate) configuration: String,
    /// The version of aviary that it runs; null where its reports do not say, which is before report version 2.
    pub(crate) program: Option<String>,
    /// The version of its reports.
    pub(crate) report_version: u32,
    /// The versions of its services that it holds; none where it does not take them from this collector by version.
    pub(crate) services: Option<Vec<HeldBody>>,
    pub(crate) boot: String,
    pub(crate) epoch: u32,
    pub(crate) series: usize,
    pub(crate) dropped_slots: u64,
    /// The token that it shows, if one is asked for.
    pub(crate) token: Option<String>,
    /// It suspected itself in its newest closed seconds.
    pub(crate) self_suspect: bool,
    /// Another agent reports from the same vantage.
    pub(crate) double: bool,
    pub(crate) certificates: Vec<CertificateBody>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CertificateBody {
    pub(crate) endpoint: String,
    pub(crate) address: String,
    /// Seconds since the Unix epoch.
    pub(crate) not_after: i64,
}

named! {
    /// An agent's state, as design.md has it.
    pub(crate) enum AgentState {
        Starting = "starting",
        Reporting = "reporting",
        Late = "late",
        Unreachable = "unreachable",
        Retired = "retired",
    }
}

impl AgentState {
    pub(crate) fn of(agent: &AgentSeen, now: Timestamp) -> Self {
        let silent = now.since(agent.last_report) / 1_000_000;
        if silent > RETIRED_SECONDS || (agent.series == 0 && silent > LATE_SECONDS) {
            Self::Retired
        } else if silent > UNREACHABLE_SECONDS {
            Self::Unreachable
        } else if silent > LATE_SECONDS {
            Self::Late
        } else if agent.last_report.since(agent.first_report) / 1_000_000 < STARTING_SECONDS {
            Self::Starting
        } else {
            Self::Reporting
        }
    }
}

impl State {
    /// How many agents there are, but for those that are retired, and how many of them report.
    pub(crate) fn agents_reporting(&self, now: Timestamp) -> (u64, u64) {
        let states = self.agents().values().map(|agent| AgentState::of(agent, now));
        states.fold((0, 0), |(agents, fresh), state| match state {
            AgentState::Retired => (agents, fresh),
            AgentState::Late | AgentState::Unreachable => (agents + 1, fresh),
            AgentState::Starting | AgentState::Reporting => (agents + 1, fresh + 1),
        })
    }
}

/// Which states are asked for; all, where nothing is said.
pub(crate) fn states(parameters: &[(String, String)]) -> Result<Vec<AgentState>, ApiError> {
    let mut wanted = Vec::new();
    for (key, value) in parameters {
        if key != "state" {
            return Err(unknown_parameter(key, "state"));
        }
        for name in value.split(',').map(str::trim) {
            let known = name.parse().map_err(|UnknownName { known, .. }| {
                let names = known.join(", ");
                ApiError::bad_parameter(format!("`{name}` is no state of an agent; there are {names}"))
            })?;
            wanted.push(known);
        }
    }
    Ok(if wanted.is_empty() { AgentState::ALL.to_vec() } else { wanted })
}

/// The agents that have reported and are in one of the `states`.
pub(crate) fn all(state: &State, states: &[AgentState], access: &Access, now: Timestamp) -> Answer {
    let newest = Span::before(closed_until(now), SEEN_SECONDS);
    let agents = state.agents().iter().map(|(vantage, agent)| (vantage, agent, AgentState::of(agent, now)));
    let wanted = agents.filter(|(.., is)| states.contains(is));
    let agents = wanted.map(|(vantage, agent, is)| {
        let offset = agent.clock_offset();
        AgentBody {
            node: vantage.node.clone(),
            kind: vantage.kind.name(),
            region: vantage.region.clone(),
            zone: vantage.zone.clone(),
            network: vantage.network.clone(),
            state: is.name(),
            last_report: agent.last_report.second().0,
            lag_seconds: now.since(agent.last_report) as f64 / 1e6,
            clock_offset_seconds: offset.us as f64 / 1e6,
            clock_uncertainty_seconds: offset.uncertainty_us.map(|us| f64::from(us) / 1e6),
            configuration: agent.configuration.clone(),
            program: Some(agent.program.clone()).filter(|program| !program.is_empty()),
            report_version: agent.version.0,
            services: agent.services.as_ref().map(|held| held.iter().map(HeldBody::from).collect()),
            boot: format!("{:016x}", agent.boot),
            epoch: agent.epoch,
            series: agent.series,
            dropped_slots: agent.dropped,
            token: Some(agent.roster.token.to_string()).filter(|name| !name.is_empty()),
            self_suspect: agent.is_suspect(newest),
            double: agent.is_double,
            certificates: certificates(agent),
        }
    });
    let token = |counts: TokenCounts| TokenBody {
        name: counts.name,
        reports: counts.reports,
        slots: counts.slots,
        series: counts.series,
        refused: counts
            .refused
            .into_iter()
            .map(|(reason, count)| (reason.to_owned(), count.into()))
            .collect(),
    };
    Answer {
        agents: agents.collect(),
        tokens: access.counts(|token| state.introduced(token)).into_iter().map(token).collect(),
        strangers: access.strangers(),
        pretenders: access.pretenders(),
    }
}

fn certificates(agent: &AgentSeen) -> Vec<CertificateBody> {
    let body = |(endpoint, address, not_after): (&str, SocketAddr, i64)| CertificateBody {
        endpoint: endpoint.to_owned(),
        address: address.to_string(),
        not_after,
    };
    agent.certificates().map(body).collect()
}
