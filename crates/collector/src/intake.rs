//! Taking reports.

use std::net::SocketAddr;

use aviary_wire::report::{REPORT_BYTES_MAX, Report, ReportError};
use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};

use crate::{Collector, access::Scope, error::ApiError, state::Refusal};

/// `POST /api/v1/reports`
pub(crate) async fn post(
    State(collector): State<Collector>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let taken = take(&collector, peer, &headers, body).await;
    if let Err(error) = &taken
        && error.code() != "unknown_roster"
    {
        collector.state().refused();
        tracing::warn!(%peer, status = error.status().as_u16(), code = error.code(), "A report was refused.");
    }
    taken
}

async fn take(
    collector: &Collector,
    peer: SocketAddr,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let token = collector.access().allow(Scope::Report, headers, peer.ip())?;
    let region = token.and_then(|rule| Some((rule.name.as_str(), rule.region.as_deref()?)));
    let too_large = || {
        let message = format!("a report has at most {REPORT_BYTES_MAX} bytes; send several smaller ones");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "report_too_large", message)
    };
    let body = to_bytes(body, REPORT_BYTES_MAX).await.map_err(|_| too_large())?;
    let report = Report::decode(&body).map_err(|error| match error {
        ReportError::TooLarge { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "report_too_large", error.to_string())
        }
        error => ApiError::bad("bad_report", error.to_string()),
    })?;
    let now = collector.now();
    let taken = collector.state().take(&report, region, now).map_err(|refusal| {
        let (status, code) = match refusal {
            Refusal::UnknownRoster(_) => (StatusCode::BAD_REQUEST, "unknown_roster"),
            Refusal::Region { .. } => (StatusCode::FORBIDDEN, "forbidden_region"),
            Refusal::Place { .. } => (StatusCode::BAD_REQUEST, "bad_report"),
            Refusal::Ahead { .. } => (StatusCode::BAD_REQUEST, "clock_ahead"),
            Refusal::Full(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_series"),
        };
        ApiError::new(status, code, refusal.to_string())
    })?;
    Ok(Json(json!({"slots": taken.slots, "too_old": taken.too_old})))
}
