//! `GET /services/health` and `GET /SERVICE/health`: the state of services, and of each from where it is probed.
//!
//! ```json
//! {"service":"ingest","state":"down","status":"down (silenced until 2026-11-22T03:00:00Z)","since":1795231700,
//!  "silenced_until":1795316400,"summary":"all TCP, everywhere",
//!  "regions":{"eu":{"state":"down","delivered":0,"lost":240,"rate":0.0}},
//!  "nodes":{"probe-1":{"state":"down","delivered":0,"lost":240,"rate":0.0}}}
//! ```
//!
//! `/services/health` answers `{"all_healthy":false,"services":[...]}` with these. A region or node is judged by the newest
//! closed minute alone and what its service may lose, as if it were all there is: so it may be `degraded` while the service,
//! which is judged over windows of many lengths, is not. Of many, those that are not healthy come first, and
//! `regions_left_out` and `nodes_left_out` say how many are not there. `reason` and `summary` are for those who may read.

use std::{collections::BTreeMap, sync::Arc};

use aviary_core::{Second, State as Of};
use axum::{
    Json,
    extract::{Path, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use crate::{
    Collector, closed_until,
    error::ApiError,
    judgement::OfService,
    keeping, services,
    state::{ByPlace, Cells, Place, Standing},
    visitor::Onlooker,
};

/// So many regions, and so many nodes, are told of one service: anybody may ask, and an answer stays below 50 KiB.
const PLACES_MAX: usize = 200;

/// What the newest closed minute says by place, made once for all who ask in a second.
#[derive(Default)]
pub(crate) struct Newest {
    cells: Option<Cells>,
    made: Option<(Second, Arc<BTreeMap<String, ByPlace>>)>,
}

impl Collector {
    /// What the newest closed minute says of each service by place.
    async fn newest_by_place(&self) -> Result<Arc<BTreeMap<String, ByPlace>>, ApiError> {
        let mut newest = Arc::clone(&self.inner.newest_by_place).lock_owned().await;
        let (collector, now) = (self.clone(), self.now());
        let until = closed_until(now);
        if let Some((_, made)) = newest.made.as_ref().filter(|(made_until, _)| *made_until == until) {
            return Ok(Arc::clone(made));
        }
        let made = tokio::task::spawn_blocking(move || {
            let cells = newest.cells.take();
            let (cells, looked) = collector.state().look_by_place(cells, now);
            let made = Arc::new(looked.judge(&cells));
            (newest.cells, newest.made) = (Some(cells), Some((until, Arc::clone(&made))));
            made
        });
        made.await.map_err(|error| ApiError::internal(format!("not judged by place: {error}")))
    }
}

#[derive(Debug, Serialize)]
struct Answer {
    all_healthy: bool,
    services: Vec<Body>,
}

#[derive(Debug, Default, Serialize)]
struct Body {
    service: String,
    state: &'static str,
    /// The state in words, with what is to be known beside it.
    status: String,
    /// Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    silenced_until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    regions: BTreeMap<String, PlaceBody>,
    nodes: BTreeMap<String, PlaceBody>,
    #[serde(skip_serializing_if = "is_zero")]
    regions_left_out: usize,
    #[serde(skip_serializing_if = "is_zero")]
    nodes_left_out: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct PlaceBody {
    pub(super) state: &'static str,
    delivered: u64,
    lost: u64,
    rate: Option<f64>,
}

impl From<&Place> for PlaceBody {
    fn from(place: &Place) -> Self {
        let Place { state, window } = place;
        let (delivered, lost, rate) = (window.delivered, window.lost, window.rate());
        Self { state: state.name(), delivered, lost, rate }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Body {
    fn new(name: &str, standing: &Standing, told: Option<&OfService>, places: Option<&ByPlace>) -> Self {
        let (state, reason) = (standing.verdict.state, standing.verdict.reason.clone());
        let silenced_until = told.and_then(|told| told.silenced_until);
        let (regions, regions_left_out) = bounded(places.map(|places| &places.regions));
        let (nodes, nodes_left_out) = bounded(places.map(|places| &places.nodes));
        Self {
            service: name.to_owned(),
            state: state.name(),
            status: status(state, told.is_some_and(|told| told.is_silenced), silenced_until),
            since: Some(standing.since.0),
            silenced_until: silenced_until.map(|until| until.0),
            reason,
            summary: told.and_then(|told| told.summary.clone()),
            regions,
            nodes,
            regions_left_out,
            nodes_left_out,
        }
    }

    /// The same for somebody who may only know states, unless they `may_read`.
    fn told_to(self, may_read: bool) -> Self {
        if may_read { self } else { Self { reason: None, summary: None, ..self } }
    }
}

/// The first [`PLACES_MAX`] of these, those that are not healthy before all others, and how many are left out.
pub(super) fn bounded(places: Option<&BTreeMap<String, Place>>) -> (BTreeMap<String, PlaceBody>, usize) {
    let mut places: Vec<_> = places.into_iter().flatten().collect();
    places.sort_by_key(|(_, place)| place.state == Of::Healthy);
    let left_out = places.len().saturating_sub(PLACES_MAX);
    let told = places.into_iter().take(PLACES_MAX);
    (told.map(|(name, place)| (name.clone(), place.into())).collect(), left_out)
}

/// A state in words: what somebody reads who was not woken by it has to say so.
fn status(state: Of, is_silenced: bool, until: Option<Second>) -> String {
    let said = match state {
        Of::Blind => "cannot tell",
        Of::Degraded | Of::Down | Of::Healthy | Of::Starting | Of::Unproven => state.name(),
    };
    // A time that no calendar has is none.
    let until = until.and_then(|until| jiff::Timestamp::from_second(i64::try_from(until.0).ok()?).ok());
    match (is_silenced && state != Of::Healthy, until) {
        (false, _) => said.to_owned(),
        (true, Some(until)) => format!("{said} (silenced until {until})"),
        (true, None) => format!("{said} (silenced)"),
    }
}

/// `GET /services/health`
pub(super) async fn all(Onlooker { collector, may_read }: Onlooker) -> Result<Response, ApiError> {
    if let Some(replayed) = collector.replaying() {
        return Err(keeping::not_ready(replayed));
    }
    let places = collector.newest_by_place().await?;
    let told = collector.judgement().of_services();
    let state = collector.state();
    let body = |(name, standing): (&str, _)| {
        Body::new(name, standing, told.get(name), places.get(name)).told_to(may_read)
    };
    let services: Vec<Body> = state.standing().map(body).collect();
    drop(state);
    let all_healthy = !services.is_empty() && services.iter().all(|it| it.state == Of::Healthy.name());
    let status = if all_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(Answer { all_healthy, services })).into_response())
}

/// `GET /SERVICE/health`
pub(super) async fn one(
    Onlooker { collector, may_read }: Onlooker,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|rejection| ApiError::bad_parameter(rejection.body_text()))?;
    if let Some(replayed) = collector.replaying() {
        let state = Of::Starting.name();
        let reason = Some(keeping::not_ready(replayed).message().to_owned());
        let body = Body { service: name, state, status: state.to_owned(), reason, ..Body::default() };
        return Ok(Json(body).into_response());
    }
    let places = collector.newest_by_place().await?;
    let told = collector.judgement().of_services();
    let state = collector.state();
    let Some((name, standing)) = state.standing().find(|(known, _)| *known == name) else {
        return Err(services::unknown(&state, &name));
    };
    let status = match standing.verdict.state {
        Of::Down => StatusCode::SERVICE_UNAVAILABLE,
        Of::Blind | Of::Degraded | Of::Healthy | Of::Starting | Of::Unproven => StatusCode::OK,
    };
    let body = Body::new(name, standing, told.get(name), places.get(name)).told_to(may_read);
    Ok((status, Json(body)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_read_is_told_no_reasons() {
        let body = || Body {
            state: "blind",
            reason: Some("https://10.0.0.9/render does not answer".to_owned()),
            summary: Some("tcp from canary-7".to_owned()),
            ..Body::default()
        };
        let told = |may_read| serde_json::to_string(&body().told_to(may_read)).unwrap();
        assert!(told(true).contains("10.0.0.9") && told(true).contains("canary-7"));
        assert!(!told(false).contains("10.0.0.9") && !told(false).contains("canary-7"));
        assert!(told(false).contains(r#""state":"blind""#));
    }
}
