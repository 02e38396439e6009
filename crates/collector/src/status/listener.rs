//! The page on an address of its own, for everybody: the same bytes as the files.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tower_http::compression::CompressionLayer;

use crate::Collector;

/// As the pages' own, and nobody puts them into a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// What is asked again within so many seconds may come from a cache.
const CACHED: &str = "public, max-age=15";

/// What has its hash in its name never changes.
const CACHED_FOR_GOOD: &str = "public, max-age=31536000, immutable";

pub(super) fn router(collector: Collector) -> Router {
    let all = get(file).layer(CompressionLayer::new());
    // For who balances: that the page is old is said on the page, and by `/healthcheck` of the collector.
    Router::new().route("/healthz", get(async || "ok\n")).fallback_service(all.with_state(collector))
}

async fn file(State(collector): State<Collector>, uri: Uri, asked: HeaderMap) -> Response {
    let Some(rendered) = collector.status_page().rendered() else {
        let retry = [(header::RETRY_AFTER, "2")];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, "The status page is being made.\n").into_response();
    };
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let Some(file) = rendered.get(path) else {
        return (StatusCode::NOT_FOUND, "Nothing is here: see /index.html.\n").into_response();
    };
    // Compressed or not, it is the same: a weak tag.
    let tag = format!("W/\"{}\"", file.tag);
    let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|tags| tags.split(','))
        .any(|known| matches!(known.trim(), "*") || known.trim() == tag);
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => file.bytes.clone().into_response(),
    };
    let caching = if path.starts_with("assets/") { CACHED_FOR_GOOD } else { CACHED };
    let headers: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_TYPE, file.kind),
        (header::CACHE_CONTROL, caching),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
