//! `/debug/`: for whoever looks into the process itself. Who may is decided where this is put.
//!
//! | address | answers |
//! |---|---|
//! | `/debug/vars` | every metric, the command line and the requests of the last second, as one JSON object in expvar's form |
//! | `/debug/pprof/profile?seconds=30` | where processor time goes, for `go tool pprof` |
//! | `/debug/pprof/heap` | who holds memory, for `go tool pprof` |
//! | `/debug/pprof/trace?seconds=1` | which thread runs when, as Chrome's trace events, for Perfetto and `chrome://tracing` |
//!
//! Profiles are off unless `profiling = true`, and are made one at a time: see [`profile`](super::profile).

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    error,
    profile::{Profile, ProfileError, Profiler},
    requests::Requests,
};

/// Where every metric is had from.
pub(crate) type Series = Box<dyn Fn() -> Map<String, Value> + Send + Sync>;

/// What is needed to answer.
pub(crate) struct Debug {
    series: Series,
    requests: Arc<Requests>,
    /// None where nobody is to make profiles.
    profiler: Option<Arc<Profiler>>,
}

impl Debug {
    /// Tells of `series` and `requests`, and makes profiles by `profiler`.
    pub(crate) fn new(series: Series, requests: Arc<Requests>, profiler: Option<Arc<Profiler>>) -> Arc<Self> {
        Arc::new(Self { series, requests, profiler })
    }
}

/// The addresses.
pub(crate) fn router(debug: Arc<Debug>) -> Router {
    Router::new()
        .route("/debug/vars", get(vars))
        .route("/debug/pprof/profile", get(profile))
        .route("/debug/pprof/heap", get(heap))
        .route("/debug/pprof/trace", get(trace))
        .with_state(debug)
}

/// The same where nothing else is.
pub(crate) fn alone(debug: Router) -> Router {
    debug.fallback(|uri: Uri| async move {
        let message = format!(
            "{}: nothing but /debug/vars and /debug/pprof/{{profile,heap,trace}} is here; what else there is, is at `listen`",
            uri.path()
        );
        error(StatusCode::NOT_FOUND, "not_found", message)
    })
}

async fn vars(State(debug): State<Arc<Debug>>) -> Json<Value> {
    let mut vars = Map::new();
    vars.insert("cmdline".to_owned(), std::env::args().collect::<Vec<_>>().into());
    vars.insert("requests".to_owned(), debug.requests.last_second());
    vars.extend((debug.series)());
    Json(Value::Object(vars))
}

#[derive(Deserialize)]
struct Asked {
    seconds: Option<u64>,
}

async fn profile(State(debug): State<Arc<Debug>>, Query(asked): Query<Asked>) -> Response {
    made(&debug, Profile::Cpu { seconds: asked.seconds.unwrap_or(30) }).await
}

async fn heap(State(debug): State<Arc<Debug>>) -> Response {
    made(&debug, Profile::Heap).await
}

async fn trace(State(debug): State<Arc<Debug>>, Query(asked): Query<Asked>) -> Response {
    made(&debug, Profile::Trace { seconds: asked.seconds.unwrap_or(1) }).await
}

async fn made(debug: &Debug, profile: Profile) -> Response {
    let Some(profiler) = &debug.profiler else {
        let message = "profiles are off; set profiling = true, and start again".to_owned();
        return error(StatusCode::NOT_FOUND, "no_profiles", message);
    };
    match profiler.make(profile).await {
        Ok(bytes) => {
            let disposition = format!("attachment; filename=\"{}\"", profile.file_name());
            let headers = [
                (header::CONTENT_TYPE, profile.media_type().to_owned()),
                (header::CONTENT_DISPOSITION, disposition),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            ];
            (headers, bytes).into_response()
        }
        Err(ProfileError::Busy { retry_after }) => {
            let body = json!({"error": {"code": "busy",
                "message": format!("another profile is being made; come back in {retry_after} s")}});
            let retry = [(header::RETRY_AFTER, retry_after.to_string())];
            (StatusCode::SERVICE_UNAVAILABLE, retry, Json(body)).into_response()
        }
        Err(problem @ ProfileError::Seconds { .. }) => {
            error(StatusCode::BAD_REQUEST, "bad_parameter", problem.to_string())
        }
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, "not_made", problem.to_string()),
    }
}
