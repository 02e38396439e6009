//! The addresses of the API.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRequestParts, Path, Query, Request, State, rejection::PathRejection},
    http::{StatusCode, Uri, request::Parts},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use tokio::sync::watch;

pub(crate) use crate::visitor::Readable;
use crate::{
    Collector,
    access::Scope,
    agents,
    delivery::pagerduty::{self, Subscription},
    document,
    error::ApiError,
    events, figures, health, intake, judgement, keeping, pages, rollout, rotation, services, slots, status,
    sums, timings, tokens,
    visitor::{Admin, Refused, Visitor},
};

/// What agents need and no more: reports.
pub(crate) fn intake_only(collector: Collector) -> Router {
    Router::new()
        .route("/api/v1/reports", post(intake::post))
        .route_layer(middleware::from_fn_with_state(collector.clone(), keeping::once_ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(collector)
}

/// Everything, until `stopped`: then those who are told of what comes are told no more.
pub(crate) fn router(collector: Collector, stopped: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/api/v1/reports", post(intake::post))
        .route("/api/v1/services", get(services_all))
        .route("/api/v1/services/{name}", get(service))
        .route("/api/v1/services.toml", get(document::get))
        .route("/api/v1/sums", get(sums_of))
        .route("/api/v1/slots", get(slots_of))
        .route("/api/v1/timings", get(timings_of))
        .route("/api/v1/agents", get(agents_all))
        .route("/api/v1/events", get(events_of).post(event))
        .route("/api/v1/store/backup", post(keeping::backup))
        .merge(judgement::routes())
        .merge(status::routes())
        .merge(tokens::routes())
        .merge(rotation::api::routes())
        .merge(rollout::api::routes())
        .route_layer(middleware::from_fn_with_state(collector.clone(), keeping::once_ready))
        .merge(pages::routes(stopped))
        .merge(health::routes())
        .route("/metrics", get(figures::metrics))
        .route("/v1/metrics", get(figures::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(collector.clone())
        .merge(acknowledgements(collector))
}

/// Where PagerDuty tells that somebody is on it.
fn acknowledgements(collector: Collector) -> Router {
    let subscription = Subscription::new(Arc::new(collector.clone()), collector.pagerduty());
    pagerduty::router(Arc::new(subscription))
        .route_layer(middleware::from_fn_with_state(collector, keeping::once_ready))
}

/// Lets nobody by but those who may administer the collector.
pub(crate) async fn admins_only(_: Admin, request: Request, next: Next) -> Response {
    next.run(request).await
}

/// What is asked after the question mark, in its order.
pub(crate) struct Parameters(pub(crate) Vec<(String, String)>);

impl FromRequestParts<Collector> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, collector: &Collector) -> Result<Self, ApiError> {
        let given = Query::from_request_parts(parts, collector).await;
        given
            .map(|Query(parameters)| Self(parameters))
            .map_err(|rejection| ApiError::bad_parameter(rejection.body_text()))
    }
}

async fn services_all(Readable(collector): Readable) -> Result<Json<services::Answer>, ApiError> {
    let told = collector.judgement().of_services();
    Ok(Json(services::all(&collector.state(), &told)))
}

async fn service(
    Readable(collector): Readable,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<services::ServiceBody>, ApiError> {
    let Path(name) = name.map_err(|rejection| ApiError::bad_parameter(rejection.body_text()))?;
    let told = collector.judgement().of_services();
    let state = collector.state();
    services::one(&state, &told, &name).map(Json).ok_or_else(|| services::unknown(&state, &name))
}

async fn sums_of(Readable(collector): Readable, Parameters(given): Parameters) -> Result<Response, ApiError> {
    let query = sums::Query::parse(&given, collector.now())?;
    sums::answer(&collector, query).await
}

async fn slots_of(
    Readable(collector): Readable,
    Parameters(given): Parameters,
) -> Result<Response, ApiError> {
    let query = slots::Query::parse(&given, collector.now())?;
    slots::answer(&collector, query).await
}

async fn timings_of(
    Readable(collector): Readable,
    Parameters(given): Parameters,
) -> Result<Response, ApiError> {
    let query = timings::Query::parse(&given, collector.now())?;
    timings::answer(&collector, query).await
}

async fn agents_all(
    Readable(collector): Readable,
    Parameters(given): Parameters,
) -> Result<Json<agents::Answer>, ApiError> {
    let now = collector.now();
    let states = agents::states(&given)?;
    Ok(Json(agents::all(&collector.state(), &states, collector.access(), now)))
}

async fn events_of(
    Readable(collector): Readable,
    Parameters(given): Parameters,
) -> Result<Json<events::Answer>, ApiError> {
    let span = events::span(&given, collector.now())?;
    Ok(Json(collector.state().events().answer(span)))
}

async fn event(
    State(collector): State<Collector>,
    visitor: Visitor,
    body: Body,
) -> Result<(StatusCode, Json<events::Body>), Refused> {
    let caller = visitor.may(Scope::Report)?;
    let body = intake::read(body, events::EVENT_BYTES_MAX, events::too_large).await?;
    let by = caller.author(None);
    let event = events::Event::parse(&body, by.as_deref(), collector.now())?;
    let shown = event.body();
    collector.state().note_event(event);
    Ok((StatusCode::CREATED, Json(shown)))
}

async fn not_found(uri: Uri) -> ApiError {
    let path = uri.path();
    let message = if path.starts_with("/api/") && !path.starts_with("/api/v1/") {
        format!(
            "{path}: this collector speaks version 1 of the API, below /api/v1/; upgrade it, or use an older agent"
        )
    } else {
        format!(
            "{path}: nothing is here; see / for people, and /api/v1/services, /api/v1/sums, /api/v1/slots, /api/v1/timings, /api/v1/agents, \
             /api/v1/incidents, /api/v1/silences, /api/v1/events, /api/v1/tokens, /services/health"
        )
    };
    ApiError::not_found(message)
}

async fn method_not_allowed(method: axum::http::Method, uri: Uri) -> ApiError {
    let message = format!("{method} is not understood at {}", uri.path());
    ApiError::method_not_allowed(message)
}
