//! What the API says of the store: whether all of it is taken up, and a copy of it.
//!
//! While a start takes up what was kept, everything below `/api/` answers 503, and `/readyz` ([`crate::health`]) says how far
//! it is. `POST /api/v1/store/backup`
//! with `{"path":"/var/backups/aviary.redb"}`, for tokens with the scope `admin`, copies the store to a file of that name
//! on the collector's host, which must not be there yet, and answers `{"path","bytes"}`.

use std::path::PathBuf;

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Collector, error::ApiError, intake, visitor::Admin};

/// Whoever comes too early is to come back after so many seconds.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 1;

/// The longest body that asks for a copy.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Lets nobody by before all is taken up.
pub(crate) async fn once_ready(State(collector): State<Collector>, request: Request, next: Next) -> Response {
    match ready(&collector) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Whether all is taken up.
pub(crate) fn ready(collector: &Collector) -> Result<(), ApiError> {
    collector.replaying().map_or(Ok(()), |replayed| Err(not_ready(replayed)))
}

/// That this share of what was kept is taken up, and no more.
pub(crate) fn not_ready(replayed: f64) -> ApiError {
    let message = format!(
        "the collector takes up what it kept, of which it has {:.0} %; come back in a moment",
        replayed * 100.0
    );
    ApiError::not_ready(message).retry_after(RETRY_AFTER_SECONDS)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    path: PathBuf,
}

/// `POST /api/v1/store/backup`
pub(crate) async fn backup(
    State(collector): State<Collector>,
    _: Admin,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let too_large = || ApiError::bad_request("a path is not so long");
    let body = intake::read(body, BODY_BYTES_MAX, too_large).await?;
    let asked: Result<Asked, _> = serde_json::from_slice(&body);
    let Ok(Asked { path }) = asked.as_ref().map_err(ToString::to_string).and_then(|asked| {
        if asked.path.is_absolute() { Ok(asked) } else { Err("the path is not absolute".to_owned()) }
    }) else {
        let message = r#"send such as {"path":"/var/backups/aviary.redb"}: a file on the collector's host that is not there yet"#;
        return Err(ApiError::bad_request(message));
    };
    let Some(durable) = &collector.inner.durable else {
        let message = "this collector keeps everything in memory only; set `data` in its [collector]";
        return Err(ApiError::no_store(message));
    };
    let Ok(_one) = durable.copying.try_acquire() else {
        let message = "another copy is being made; come back when that is done";
        return Err(ApiError::busy(message));
    };
    let (of_thread, target) = (collector.clone(), path.clone());
    let copied = tokio::task::spawn_blocking(move || {
        of_thread.inner.durable.as_ref().map(|durable| durable.backup(&target))
    });
    let refuse = |message: String| ApiError::not_copied(message);
    match copied.await {
        Ok(Some(Ok(bytes))) => Ok(Json(json!({"path": path, "bytes": bytes}))),
        Ok(Some(Err(error))) => Err(refuse(error.to_string())),
        Ok(None) => Err(refuse("the store is gone".to_owned())),
        Err(error) => Err(refuse(error.to_string())),
    }
}
