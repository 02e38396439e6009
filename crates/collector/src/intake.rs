//! Taking reports.

use std::{error::Error as _, net::SocketAddr, time::Duration};

use aviary_wire::report::{REPORT_BYTES_MAX, Report, ReportError};
use axum::{
    Json,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Collector, access::Scope, error::ApiError, state::Refusal};

/// An agent that takes longer to send a report is told to come back.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

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
        && collector.state().refused(collector.now())
    {
        // Told at most once a second: anybody who reaches the port can be refused.
        tracing::warn!(%peer, status = error.status().as_u16(), code = error.code(), reason = error.message(),
            "A report was refused.");
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
    let Some(_place) = collector.admit() else {
        let message = "more reports come than can be read at once; come back in a moment";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message));
    };
    let body = read(body).await?;
    let report = Report::decode(&body).map_err(|error| match error {
        ReportError::TooLarge { .. } => too_large(error.to_string()),
        error => ApiError::bad("bad_report", error.to_string()),
    })?;
    let now = collector.now();
    let taken = collector.state().take(&report, region, now).map_err(|refusal| {
        let (status, code) = match refusal {
            Refusal::UnknownRoster(_) => (StatusCode::BAD_REQUEST, "unknown_roster"),
            Refusal::Region { .. } => (StatusCode::FORBIDDEN, "forbidden_region"),
            Refusal::Gaps { .. } | Refusal::Place { .. } => (StatusCode::BAD_REQUEST, "bad_report"),
            Refusal::Ahead { .. } => (StatusCode::BAD_REQUEST, "clock_ahead"),
            Refusal::Full(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_series"),
        };
        ApiError::new(status, code, refusal.to_string())
    })?;
    Ok(Json(json!({"slots": taken.slots, "too_old": taken.too_old, "ahead": taken.ahead})))
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    let Ok(read) = timeout(BODY_TIMEOUT, to_bytes(body, REPORT_BYTES_MAX)).await else {
        let message = format!("the report did not come within {} s", BODY_TIMEOUT.as_secs());
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "slow_report", message));
    };
    read.map_err(|error| {
        let is_limit = error.source().is_some_and(|source| source.to_string().contains("length limit"));
        if is_limit {
            too_large(format!("a report has at most {REPORT_BYTES_MAX} bytes; send several smaller ones"))
        } else {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "cut_report",
                format!("the report did not come whole: {error}"),
            )
        }
    })
}

fn too_large(message: String) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "report_too_large", message)
}
