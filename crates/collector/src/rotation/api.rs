//! `GET /v1/nodes/SERVICE` and `/api/v1/rotation`: where nodes are to be, and whether they are steered at all.
//!
//! | route | who | answer |
//! |---|---|---|
//! | `GET /v1/nodes/SERVICE` | may read | `{"service","mode","nodes":{"n1":{"state","weight","reason","evidence","until"}}}` |
//! | `GET /api/v1/rotation` | may read | `{"stopped","services":{"ingest":{"mode","refused"}},"ejections"}` |
//! | `POST /api/v1/rotation/stop`, `.../resume` | may administer | `{"stopped"}` |
//!
//! Whoever gets no answer keeps the last one until its `until`, and has the node in after that.

use std::collections::BTreeMap;

use aviary_core::rotation::{Advice, Mode, Proof};
use aviary_notify::rfc3339;
use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    routing::{get, post},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Collector,
    error::ApiError,
    keeping,
    visitor::{Admin, Readable},
};

#[derive(Serialize)]
struct NodeBody {
    state: &'static str,
    /// In percent.
    weight: u8,
    reason: Option<String>,
    evidence: Option<EvidenceBody>,
    until: String,
}

#[derive(Serialize)]
struct EvidenceBody {
    lost: u64,
    scheduled: u64,
    /// Seconds.
    window: u64,
    vantages: Vec<String>,
    peers: PeersBody,
}

#[derive(Serialize)]
struct PeersBody {
    well: usize,
    lost: u64,
    scheduled: u64,
}

/// What showed that a node is bad, for programs.
pub(super) fn evidence(proof: &Proof) -> Value {
    json!(EvidenceBody::from(proof))
}

impl From<&Proof> for EvidenceBody {
    fn from(proof: &Proof) -> Self {
        Self {
            lost: proof.lost,
            scheduled: proof.scheduled,
            window: proof.window,
            vantages: proof.vantages.clone(),
            peers: PeersBody { well: proof.peers, lost: proof.peers_lost, scheduled: proof.peers_scheduled },
        }
    }
}

impl From<&Advice> for NodeBody {
    fn from(advice: &Advice) -> Self {
        Self {
            state: advice.state.name(),
            weight: advice.weight,
            reason: advice.reason.clone(),
            evidence: advice.proof.as_ref().map(EvidenceBody::from),
            until: rfc3339(advice.until.start()),
        }
    }
}

/// What the API has of steering.
pub(crate) fn routes() -> Router<Collector> {
    Router::new()
        .route("/v1/nodes/{service}", get(nodes))
        .route("/api/v1/rotation", get(status))
        .route("/api/v1/rotation/stop", post(stop))
        .route("/api/v1/rotation/resume", post(resume))
}

async fn nodes(
    Readable(collector): Readable,
    service: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(name) = service.map_err(|rejection| ApiError::bad_parameter(rejection.body_text()))?;
    let steered = collector.state().service(&name).steering.clone().filter(|it| it.mode != Mode::Off);
    if steered.is_none() {
        let message = format!("the nodes of `{name}` are not steered; see [service.rotation]");
        return Err(ApiError::not_steered(message));
    }
    let advised = collector.advised().ok_or_else(|| keeping::not_ready(1.0))?;
    let now = collector.now().second();
    if now >= advised.until {
        // Nothing was judged for a minute: what was advised has ended, and what is now nobody knows.
        let message = "no second was judged for a minute, and what was advised has ended: see /readyz";
        return Err(ApiError::not_judged(message).retry_after(keeping::RETRY_AFTER_SECONDS));
    }
    let (mode, nodes) = advised.services.get(&name).cloned().unwrap_or_default();
    let nodes: BTreeMap<&String, NodeBody> =
        nodes.iter().map(|(node, advice)| (node, NodeBody::from(advice))).collect();
    Ok(Json(json!({"service": name, "mode": mode.name(), "nodes": nodes, "stopped": advised.stopped})))
}

async fn status(Readable(collector): Readable) -> Json<Value> {
    Json(collector.judgement().steering_status())
}

async fn stop(State(collector): State<Collector>, admin: Admin) -> Json<Value> {
    switch(&collector, &admin, true).await
}

async fn resume(State(collector): State<Collector>, admin: Admin) -> Json<Value> {
    switch(&collector, &admin, false).await
}

/// Stops steering or goes on with it: it is on the disk, and holds, before it is answered.
async fn switch(collector: &Collector, admin: &Admin, is_stop: bool) -> Json<Value> {
    let by = admin.author(None).unwrap_or_else(|| "somebody".to_owned());
    let now = collector.now();
    collector.judgement().stop_steering(is_stop.then(|| by.clone()), now);
    match is_stop {
        true => tracing::warn!(by, "Steering was stopped: all nodes are in rotation."),
        false => tracing::warn!(by, "Steering goes on."),
    }
    collector.judge(now).await;
    Json(json!({"stopped": is_stop.then_some(by)}))
}
