//! Who may ask the agent what.
//!
//! | configured | `/health/SERVICE` | health (`/healthz`, `/readyz`, `/healthcheck`, `/deepcheck` and their other names) | everything else |
//! |---|---|---|---|
//! | neither | everybody, all of it | everybody, all of it | everybody |
//! | `read_token` | everybody; reasons, whoever shows the token | everybody; what errors say, with files and addresses in them, whoever shows it | whoever shows it |
//! | `probe_auth = true` too | the same | whoever shows it | whoever shows it |
//!
//! Whoever balances asks for `/health/SERVICE`, and takes a 401 for "out": a key that is changed on all nodes must not empty a pool.
//!
//! It is a layer around all routes, so that a route that is added is closed like the others.

use std::sync::Arc;

use aviary_collector::SecretHash;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::error;

/// What is for everybody unless `probe_auth` says otherwise.
const HEALTH: [&str; 6] = ["/healthz", "/v1/health", "/readyz", "/v1/ready", "/healthcheck", "/deepcheck"];

/// Where the node is to be, in each service: for everybody.
const HEALTH_OF_SERVICES: &str = "/health/";

/// Who may ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    /// What they are recognised by; absent: everybody may.
    pub(crate) read_token: Option<SecretHash>,
    /// Whether health is for them alone, too, but for where the node is to be.
    pub(crate) probe_auth: bool,
}

/// Whether whoever asks may know more than states.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayRead(pub(super) bool);

/// Lets by who may, and says so to the route.
pub(super) async fn stand(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let may_read = guard.read_token.is_none_or(|token| shows(request.headers(), &token));
    let path = request.uri().path();
    let is_health = !guard.probe_auth && HEALTH.contains(&path);
    let is_for_everybody = is_health || path.starts_with(HEALTH_OF_SERVICES);
    if may_read || is_for_everybody {
        request.extensions_mut().insert(MayRead(may_read));
        return next.run(request).await;
    }
    let message =
        "send `Authorization: Bearer TOKEN` with the `read_token` of this agent's [agent]".to_owned();
    let mut response = error(StatusCode::UNAUTHORIZED, "unauthorized", message);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn shows(headers: &HeaderMap, token: &SecretHash) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = given.and_then(|given| given.split_once(' '));
    bearer.is_some_and(|(scheme, secret)| {
        scheme.eq_ignore_ascii_case("bearer") && SecretHash::of(secret.trim()) == *token
    })
}
