//! `GET /api/v1/services`: the verdict of each service, and what it rests on.

use std::collections::BTreeMap;

use aviary_core::{
    VantageKind,
    verdict::{Part, PartVerdict},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    ReceivedCounts,
    error::ApiError,
    judgement::OfService,
    received::UnownedBody,
    state::{ReadBackBody, Standing, State},
    sums::WindowBody,
};

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) services: Vec<ServiceBody>,
    /// What arrived at the sink under names that no series owns, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    unowned: Option<UnownedNames>,
}

#[derive(Debug, Serialize)]
struct UnownedNames {
    datapoints: u64,
    /// The newest, without what may be an API key.
    names: Vec<UnownedBody>,
}

/// What the service forwarded to the sink of this process.
#[derive(Debug, Serialize)]
struct ReceivedBody {
    arrived: u64,
    duplicates: u64,
    mangled: u64,
    /// From when the datapoints were due to their arrival, to within an eighth; what takes over two seconds is told as two.
    delay_seconds: DelayBody,
}

#[derive(Debug, Serialize)]
struct DelayBody {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
}

impl ReceivedBody {
    fn of(counts: &ReceivedCounts) -> Self {
        let quantile = |share| counts.delays.quantile(share).map(|us| f64::from(us) / 1e6);
        let ReceivedCounts { arrived, duplicates, mangled, .. } = *counts;
        let delay_seconds = DelayBody { p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99) };
        Self { arrived, duplicates, mangled, delay_seconds }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ServiceBody {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    /// Why we cannot tell, where that is the state and a reason is known; or from which kind of vantage we cannot; or what is
    /// set apart of what is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Seconds since the Unix epoch.
    pub(crate) since: u64,
    /// Nobody is paged about what is wrong with it.
    pub(crate) silenced: bool,
    /// Where loss is, in words and rule by rule, while an incident is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<String>,
    pub(crate) extent: Vec<Value>,
    /// The incidents that are not over.
    pub(crate) incidents: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readback: Option<ReadBackBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runbook: Option<String>,
    pub(crate) acceptable_loss: String,
    pub(crate) min_vantages: usize,
    pub(crate) vantages_seen: usize,
    pub(crate) window: Spanned,
    pub(crate) protocols: Vec<PartBody>,
    pub(crate) endpoints: Vec<PartBody>,
    /// From each kind of vantage, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) kinds: Vec<PartBody>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Spanned {
    pub(crate) from: u64,
    pub(crate) until: u64,
    #[serde(flatten)]
    pub(crate) window: WindowBody,
}

#[derive(Debug, Serialize)]
pub(crate) struct PartBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    pub(crate) required: bool,
    pub(crate) state: &'static str,
    pub(crate) acceptable_loss: String,
    pub(crate) window: WindowBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<ReceivedBody>,
}

impl ServiceBody {
    /// What it does from each kind of vantage, from where customers are to the node.
    pub(crate) fn kinds_in_order(&self) -> Vec<&PartBody> {
        let mut kinds: Vec<&PartBody> = self.kinds.iter().collect();
        kinds.sort_by_key(|part| part.kind.and_then(|kind| kind.parse().ok()).map(VantageKind::nearness));
        kinds
    }

    /// The kind of vantage from which most is lost, where there are several and something is.
    pub(crate) fn worst_kind(&self) -> Option<&PartBody> {
        let loss = |part: &&&PartBody| {
            part.window.lost as f64 / (part.window.delivered + part.window.lost).max(1) as f64
        };
        let kinds = self.kinds_in_order();
        // Of two that lose as much, the one nearer to customers.
        let worst = kinds.iter().rev().max_by(|left, right| loss(left).total_cmp(&loss(right)));
        worst.copied().filter(|part| part.window.lost > 0)
    }
}

/// All services.
pub(crate) fn all(state: &State, told: &BTreeMap<String, OfService>) -> Answer {
    let datapoints = state.counts().unowned;
    Answer {
        services: state.standing().map(|(name, standing)| body(state, told, name, standing)).collect(),
        unowned: (datapoints > 0).then(|| UnownedNames { datapoints, names: state.received().unowned() }),
    }
}

/// That there is no service of that name, and which there are.
pub(crate) fn unknown(state: &State, name: &str) -> ApiError {
    let known: Vec<_> = state.standing().map(|(name, _)| name).collect();
    let message =
        format!("service `{name}` is neither configured here nor reported; there are: {}", known.join(", "));
    ApiError::unknown_service(message)
}

/// One service, `None` if there is none of that name.
pub(crate) fn one(state: &State, told: &BTreeMap<String, OfService>, name: &str) -> Option<ServiceBody> {
    state
        .standing()
        .find(|(known, _)| *known == name)
        .map(|(name, standing)| body(state, told, name, standing))
}

fn body(
    collector: &State,
    told: &BTreeMap<String, OfService>,
    name: &str,
    standing: &Standing,
) -> ServiceBody {
    let service = collector.service(name);
    let told = told.get(name).cloned().unwrap_or_default();
    let (mut protocols, mut endpoints, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for PartVerdict { part, state, acceptable_loss, window } in &standing.verdict.parts {
        let body = PartBody {
            kind: None,
            protocol: None,
            endpoint: None,
            required: true,
            state: state.name(),
            acceptable_loss: acceptable_loss.to_string(),
            window: WindowBody::from(*window),
            received: None,
        };
        match part {
            Part::Protocol(protocol) => protocols.push(PartBody {
                protocol: Some(protocol.name()),
                received: collector.received().group(name, *protocol).map(ReceivedBody::of),
                ..body
            }),
            Part::Endpoint(url) => endpoints.push(PartBody {
                endpoint: Some(url.clone()),
                required: url.parse().is_ok_and(|endpoint| service.requires(&endpoint)),
                ..body
            }),
            Part::Kind(kind) => kinds.push(PartBody { kind: Some(kind.name()), ..body }),
        }
    }
    ServiceBody {
        name: name.to_owned(),
        state: standing.verdict.state.name(),
        reason: standing.verdict.reason.clone(),
        readback: collector.read_back(name).map(|it| it.body(standing.storage_untold.clone())),
        since: standing.since.0,
        silenced: told.is_silenced,
        summary: told.summary,
        extent: told.extent,
        incidents: told.incidents.iter().map(ToString::to_string).collect(),
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
        kinds,
    }
}
