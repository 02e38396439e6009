//! Health, for machines: whoever may know nothing else may ask here, without a token, unless `probe_auth = true`.
//!
//! | address | answers | because |
//! |---|---|---|
//! | `/healthz`, `/v1/health` | 200 whenever the process serves | who asks whether it lives starts it again otherwise |
//! | `/readyz`, `/v1/ready` | 200 `ready` | |
//! | | 503 `not_ready` with `replayed` and Retry-After, while a start takes up what was kept | nothing is taken until then |
//! | | 503 `shutting_down` from SIGTERM on, whatever else | whoever balances is to look elsewhere before the listener goes |
//! | each of these | 401, or 403 with a token that may not read, where `probe_auth = true` | who asks is to be known |
//! | `/healthcheck`, `/deepcheck` | 200, or 500 where a check failed | see [`checks`] |
//! | `/services/health` | 200 when every service is `healthy` | it is asked whether all is well |
//! | | 503 where one is `degraded` or `down`, also where that is silenced | a silence is about pages, and loss stays loss |
//! | | 503 where one is `starting`, `blind` or `unproven` | what nobody can tell is not known to be well |
//! | | 503 where there is no service | nothing is watched, so that nothing is known to be well |
//! | | 503 `not_ready` while a start takes up what was kept | nothing can be told yet |
//! | `/SERVICE/health` | 503 when it is `down`, also where that is silenced | half or more is lost: send elsewhere |
//! | | 200 when it is `healthy` or `degraded` | most arrives; to take the service out would lose all of it |
//! | | 200 when it is `starting`, `blind` or `unproven` | that *we* cannot tell must take nobody out of service |
//! | | 200 `starting`, whatever the name, while a start takes up what was kept | so must our own restart not |
//! | | 404 `unknown_service` where it is neither configured nor reported | a name that was mistyped is to be found at once |
//!
//! `/services/health` is a question, and `/SERVICE/health` a switch: what steers traffic must fail static, and the state is
//! in its body all the same. [`service`] says what else is.
//!
//! **Who is nobody here** gets the same status, and is told states: whether a check is well, and of what it is; the state of a
//! service, by region and node. What errors say, with paths of files and addresses in them, why something is not well, where loss
//! is in words, and what is counted, is for those who may read.

mod checks;
mod service;
#[cfg(test)]
mod tests;

use axum::{
    Json, Router,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::{Value, json};

pub(crate) use self::service::Newest;
use crate::{Collector, Counts, keeping::RETRY_AFTER_SECONDS, visitor::Onlooker};

/// The addresses, of which none waits until the collector is ready.
pub(crate) fn routes() -> Router<Collector> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/v1/health", get(healthz))
        .route("/readyz", get(readyz))
        .route("/v1/ready", get(readyz))
        .route("/healthcheck", get(checks::of_itself))
        .route("/deepcheck", get(checks::of_others))
        .route("/services/health", get(service::all))
        .route("/{service}/health", get(service::one))
}

async fn healthz(Onlooker { collector, may_read }: Onlooker) -> Json<Value> {
    let uptime_ms = collector.uptime_us() / 1_000;
    let version = env!("CARGO_PKG_VERSION");
    if !may_read {
        return Json(json!({"status": "ok", "version": version, "uptime_ms": uptime_ms}));
    }
    let state = collector.state();
    let Counts { reports, refused, too_old, ahead, unowned } = state.counts();
    let (held, dropped) = state.events().counts();
    Json(json!({
        "status": "ok",
        "name": state.name(),
        "version": version,
        "uptime_ms": uptime_ms,
        "series": state.catalog().len(),
        "reports": {"taken": reports, "refused": refused},
        "slots": {"too_old": too_old, "ahead": ahead, "losses_without_detail": state.losses().dropped(),
            "unkept": state.history().map_or(0, |history| history.unkept())},
        "timings_dropped": state.history().map_or(0, |history| history.timings_dropped()),
        "events": {"held": held, "dropped": dropped},
        "stored_points_of_no_series": unowned,
    }))
}

async fn readyz(Onlooker { collector, .. }: Onlooker) -> Response {
    let body = if collector.is_shutting_down() {
        json!({"status": "shutting_down"})
    } else if let Some(replayed) = collector.replaying() {
        json!({"status": "not_ready", "replayed": (replayed * 100.0).floor() / 100.0})
    } else {
        return Json(json!({"status": "ready"})).into_response();
    };
    let retry = [(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS))];
    (StatusCode::SERVICE_UNAVAILABLE, retry, Json(body)).into_response()
}
