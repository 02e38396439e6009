//! `GET /api/v1/services`: the verdict of each service, and what it rests on.

use aviary_core::verdict::{Part, PartVerdict};
use serde::Serialize;

use crate::{
    state::{ReadBack, ReadBackBody, Standing, State},
    sums::WindowBody,
};

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    services: Vec<ServiceBody>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ServiceBody {
    name: String,
    state: &'static str,
    /// Why we cannot tell, where that is the state and a reason is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Seconds since the Unix epoch.
    since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    readback: Option<ReadBackBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runbook: Option<String>,
    acceptable_loss: String,
    min_vantages: usize,
    vantages_seen: usize,
    window: Spanned,
    protocols: Vec<PartBody>,
    endpoints: Vec<PartBody>,
}

#[derive(Debug, Serialize)]
struct Spanned {
    from: u64,
    until: u64,
    #[serde(flatten)]
    window: WindowBody,
}

#[derive(Debug, Serialize)]
struct PartBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    required: bool,
    state: &'static str,
    acceptable_loss: String,
    window: WindowBody,
}

/// All services.
pub(crate) fn all(state: &State) -> Answer {
    Answer { services: state.standing().map(|(name, standing)| body(state, name, standing)).collect() }
}

/// One service, `None` if there is none of that name.
pub(crate) fn one(state: &State, name: &str) -> Option<ServiceBody> {
    state.standing().find(|(known, _)| *known == name).map(|(name, standing)| body(state, name, standing))
}

fn body(state: &State, name: &str, standing: &Standing) -> ServiceBody {
    let service = state.service(name);
    let (mut protocols, mut endpoints) = (Vec::new(), Vec::new());
    for PartVerdict { part, state, acceptable_loss, window } in &standing.verdict.parts {
        let (state, acceptable_loss) = (state.name(), acceptable_loss.to_string());
        let window = WindowBody::from(*window);
        match part {
            Part::Protocol(protocol) => protocols.push(PartBody {
                protocol: Some(protocol.name()),
                endpoint: None,
                required: true,
                state,
                acceptable_loss,
                window,
            }),
            Part::Endpoint(url) => endpoints.push(PartBody {
                protocol: None,
                endpoint: Some(url.clone()),
                required: url.parse().is_ok_and(|endpoint| service.requires(&endpoint)),
                state,
                acceptable_loss,
                window,
            }),
        }
    }
    ServiceBody {
        name: name.to_owned(),
        state: standing.verdict.state.name(),
        reason: standing.verdict.reason.clone(),
        readback: state.read_back(name).map(ReadBack::body),
        since: standing.since.0,
        owner: service.owner.clone(),
        runbook: service.runbook.clone(),
        acceptable_loss: service.policy.acceptable_loss.to_string(),
        min_vantages: service.policy.min_vantages,
        vantages_seen: standing.vantages_seen,
        window: Spanned {
            from: standing.span.from.0,
            until: standing.span.until.0,
            window: standing.verdict.window.into(),
        },
        protocols,
        endpoints,
    }
}
