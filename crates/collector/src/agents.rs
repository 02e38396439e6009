//! `GET /api/v1/agents`: who reports.

use std::net::SocketAddr;

use aviary_core::{Span, Timestamp, verdict::SEEN_SECONDS};
use serde::Serialize;

use crate::{
    closed_until,
    state::{AgentSeen, State},
};

/// An agent that has been silent for longer is `late`.
const LATE_SECONDS: u64 = 5;

/// An agent that has been silent for longer is `unreachable`.
const UNREACHABLE_SECONDS: u64 = 30;

/// An agent that has reported for a shorter time is `starting`.
const STARTING_SECONDS: u64 = 30;

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    agents: Vec<AgentBody>,
}

#[derive(Debug, Serialize)]
struct AgentBody {
    node: String,
    kind: &'static str,
    region: String,
    zone: Option<String>,
    network: Option<String>,
    state: &'static str,
    /// Seconds since the Unix epoch.
    last_report: u64,
    lag_seconds: f64,
    clock_offset_seconds: f64,
    configuration: String,
    boot: String,
    epoch: u32,
    series: usize,
    dropped_slots: u64,
    /// It suspected itself in its newest closed seconds.
    self_suspect: bool,
    /// Another agent reports from the same vantage.
    double: bool,
    certificates: Vec<CertificateBody>,
}

#[derive(Debug, Serialize)]
struct CertificateBody {
    endpoint: String,
    address: String,
    /// Seconds since the Unix epoch.
    not_after: i64,
}

/// All agents that have reported.
pub(crate) fn all(state: &State, now: Timestamp) -> Answer {
    let newest = Span::before(closed_until(now), SEEN_SECONDS);
    let agents = state.agents().iter().map(|(vantage, agent)| AgentBody {
        node: vantage.node.clone(),
        kind: vantage.kind.name(),
        region: vantage.region.clone(),
        zone: vantage.zone.clone(),
        network: vantage.network.clone(),
        state: standing(agent, now),
        last_report: agent.last_report.second().0,
        lag_seconds: now.since(agent.last_report) as f64 / 1e6,
        clock_offset_seconds: agent.clock_offset_us as f64 / 1e6,
        configuration: agent.configuration.clone(),
        boot: format!("{:016x}", agent.boot),
        epoch: agent.epoch,
        series: agent.series,
        dropped_slots: agent.dropped,
        self_suspect: agent.is_suspect(newest),
        double: agent.is_double,
        certificates: certificates(agent),
    });
    Answer { agents: agents.collect() }
}

fn certificates(agent: &AgentSeen) -> Vec<CertificateBody> {
    let body = |(endpoint, address, not_after): (&str, SocketAddr, i64)| CertificateBody {
        endpoint: endpoint.to_owned(),
        address: address.to_string(),
        not_after,
    };
    agent.certificates().map(body).collect()
}

fn standing(agent: &AgentSeen, now: Timestamp) -> &'static str {
    let silent = now.since(agent.last_report) / 1_000_000;
    if silent > UNREACHABLE_SECONDS {
        "unreachable"
    } else if silent > LATE_SECONDS {
        "late"
    } else if agent.last_report.since(agent.first_report) / 1_000_000 < STARTING_SECONDS {
        "starting"
    } else {
        "reporting"
    }
}
