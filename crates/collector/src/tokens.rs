//! Tokens over HTTP: made, listed and revoked while the collector runs, by those who may administer it.
//!
//! `POST /api/v1/tokens` with `{"name":"eu-agents","scope":["report"],"region":"eu-west-1","expires":1771466400,
//! "secret":"sha256:..."}` answers 201 with the token; `scope` is to report where nothing is said, and `region`, `node` and `expires`
//! may be left out. The secret itself stays with whoever thought it up. With `"rotate":true` the token of that name gets a second
//! secret, and the first one ends after `overlap` seconds, a day where nothing is said. `GET` answers `{"tokens":[...]}`, with those of
//! the configuration, which `"configured":true` marks. `DELETE /api/v1/tokens/NAME` ends a token now, and `?old=true` only the older
//! one of two secrets.
//!
//! `GET /api/v1/whoami` says to whoever shows something who that makes them, what they may, where, and until when.
//!
//! Moments are in whole seconds since the Unix epoch.

use aviary_core::{Second, Timestamp};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{delete, get},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Collector,
    access::{
        Scope, SecretHash,
        issued::{NotIssued, Secret, Token, Wanted},
    },
    error::ApiError,
    intake,
    visitor::{Admin, Refused, Visitor},
};

/// What ends within so many seconds is warned of.
pub(crate) const WARNED_SECONDS: u64 = 14 * 86_400;

/// How long the older of two secrets is worth something, where nobody says.
const OVERLAP_SECONDS: u64 = 86_400;

/// And at most: who wants longer wants two tokens.
const OVERLAP_SECONDS_MAX: u64 = 90 * 86_400;

/// The longest name of a token, a region or a node.
const NAME_CHARACTERS_MAX: usize = 100;

/// The longest body that is read here.
const BODY_BYTES_MAX: usize = 8 << 10;

pub(crate) fn routes() -> Router<Collector> {
    Router::new()
        .route("/api/v1/tokens", get(all).post(make))
        .route("/api/v1/tokens/{name}", delete(revoke))
        .route("/api/v1/whoami", get(whoami))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    name: String,
    scope: Option<Vec<Scope>>,
    region: Option<String>,
    node: Option<String>,
    expires: Option<u64>,
    secret: String,
    #[serde(default)]
    rotate: bool,
    overlap: Option<u64>,
    by: Option<String>,
}

async fn all(_: Admin, State(collector): State<Collector>) -> Json<Value> {
    let now = collector.now().second();
    let configured = collector.access().configured().map(|(reporter, scopes)| {
        json!({"name": *reporter.token, "configured": true, "scope": scopes,
            "region": reporter.region.as_deref(), "node": reporter.node.as_deref()})
    });
    let made = collector.access().issued().all();
    let made = made.iter().map(|(name, token)| shown(name, token, now));
    Json(json!({"tokens": configured.chain(made).collect::<Vec<_>>()}))
}

fn shown(name: &str, token: &Token, now: Second) -> Value {
    let seconds = |second: Option<Second>| second.map(|second| second.0);
    let secret = |it: &Secret| {
        json!({"since": it.since.0, "expires": seconds(it.until), "last_used": seconds(it.used()),
            "expired": it.has_ended(now)})
    };
    json!({"name": name, "configured": false, "scope": token.scopes(), "region": token.region, "node": token.node,
        "created": token.created.0, "by": token.by, "expires": seconds(token.until()), "last_used": seconds(token.used()),
        "secrets": token.secrets.iter().map(secret).collect::<Vec<_>>()})
}

async fn make(
    admin: Admin,
    State(collector): State<Collector>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let too_large = || {
        let message = format!("a token is told of in at most {BODY_BYTES_MAX} bytes");
        ApiError::token_too_large(message)
    };
    let body = intake::read(body, BODY_BYTES_MAX, too_large).await?;
    let now = collector.now();
    let mut posted: Posted =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad_token(error.to_string()))?;
    posted.by = admin.author(posted.by);
    let (rotate, overlap) = (posted.rotate, posted.overlap.unwrap_or(OVERLAP_SECONDS));
    let wanted = posted.wanted(now)?;
    if collector.access().is_configured(&wanted.name) {
        let message = format!("`{}` stands in the collector's configuration; change it there", wanted.name);
        return Err(ApiError::token_configured(message));
    }
    let (name, by) = (wanted.name.clone(), wanted.by.clone().unwrap_or_default());
    let changed = change(&collector, move |collector| {
        let issued = collector.access().issued();
        if rotate {
            issued.rotate(&wanted.name, (wanted.secret, wanted.until), overlap, now.second())
        } else {
            issued.issue(wanted, now.second())
        }
    });
    let token = changed.await?;
    tracing::info!(token = name, by, rotate, "A token was made, or given another secret.");
    let mut answer = shown(&name, &token, now.second());
    answer["kept"] = collector.access().issued().are_kept().into();
    answer["url"] = json!(collector.url());
    Ok((StatusCode::CREATED, Json(answer)))
}

impl Posted {
    /// What is asked for, if it can be meant.
    fn wanted(self, now: Timestamp) -> Result<Wanted, ApiError> {
        let Self { name, scope, region, node, expires, secret, rotate, overlap, by } = self;
        let refuse = |message: String| Err(ApiError::bad_token(message));
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if !(1..=NAME_CHARACTERS_MAX).contains(&name.len()) || !name.bytes().all(is_good) {
            return refuse(format!(
                "a token's name has 1 to {NAME_CHARACTERS_MAX} characters of A-Z, a-z, 0-9, `_` and `-`"
            ));
        }
        let is_line = |text: &String| {
            (1..=NAME_CHARACTERS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        };
        if !region.iter().chain(&node).chain(&by).all(is_line) {
            return refuse(format!(
                "`region`, `node` and `by` are one line of 1 to {NAME_CHARACTERS_MAX} characters"
            ));
        }
        if expires.is_some_and(|expires| expires <= now.second().0) {
            return refuse("`expires` has passed; say a second in the future, or leave it out".to_owned());
        }
        if scope.as_ref().is_some_and(Vec::is_empty) {
            return refuse("`scope` allows nothing; say report, read or admin, or leave it out".to_owned());
        }
        if rotate && (scope.is_some() || region.is_some() || node.is_some()) {
            let message = "a second secret changes nothing of what the token allows; leave out `scope`, `region` and `node`";
            return refuse(message.to_owned());
        }
        if overlap.is_some_and(|overlap| !rotate || overlap > OVERLAP_SECONDS_MAX) {
            return refuse(format!(
                "`overlap` goes with `rotate`, and is {OVERLAP_SECONDS_MAX} seconds at most"
            ));
        }
        // Not repeated: it may be the secret itself.
        let secret = SecretHash::parse(&secret).map_err(|error| ApiError::bad_token(error.to_string()))?;
        let scopes = scope.unwrap_or_else(|| vec![Scope::Report]);
        Ok(Wanted { name, scopes, region, node, secret, until: expires.map(Second), by })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {
    #[serde(default)]
    old: bool,
}

async fn revoke(
    admin: Admin,
    State(collector): State<Collector>,
    Path(name): Path<String>,
    given: Result<Query<Revoked>, axum::extract::rejection::QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(Revoked { old }) = given.map_err(|rejection| ApiError::bad_parameter(rejection.body_text()))?;
    let token = name.clone();
    change(&collector, move |collector| collector.access().issued().revoke(&name, old)).await?;
    let by = admin.author(None).unwrap_or_default();
    tracing::info!(token, by, only_older = old, "A token was revoked, or one of its secrets.");
    Ok(StatusCode::NO_CONTENT)
}

/// Changes something on a thread that may wait for the disk.
async fn change<T: Send + 'static>(
    collector: &Collector,
    change: impl FnOnce(&Collector) -> Result<T, NotIssued> + Send + 'static,
) -> Result<T, ApiError> {
    let collector = collector.clone();
    let changed = tokio::task::spawn_blocking(move || change(&collector)).await;
    let changed = changed.map_err(|error| {
        let message = format!("the token could not be changed here: {error}");
        ApiError::internal(message)
    })?;
    changed.map_err(|error| {
        let message = error.to_string();
        match error {
            NotIssued::Exists(_) | NotIssued::Taken | NotIssued::Rotating(_) | NotIssued::Full => {
                ApiError::token_refused(message)
            }
            NotIssued::Unknown(_) | NotIssued::NoOlder(_) => ApiError::unknown_token(message),
            NotIssued::Store(_) => ApiError::not_kept(message),
        }
    })
}

async fn whoami(visitor: Visitor) -> Result<Json<Value>, Refused> {
    let caller = visitor.known()?;
    let entrance = caller.entrance();
    let reporter = entrance.reporter();
    let answer = json!({"name": caller.name(), "known_by": caller.known(), "scope": caller.scopes(),
        "region": reporter.region.as_deref(), "node": reporter.node.as_deref(),
        "expires": caller.until().map(|until| until.0)});
    Ok(Json(answer))
}

impl Collector {
    /// What ends some day, and when: tokens that were made at run time by their names, and the listener's certificate. What is
    /// being rotated ends with its newer secret.
    pub(crate) fn expiries(&self) -> Vec<(&'static str, String, Second)> {
        let issued = self.access().issued().all();
        let tokens = issued.into_iter().filter_map(|(name, token)| Some(("token", name, token.until()?)));
        let certificate = self.inner.certificate_ends.load(std::sync::atomic::Ordering::Relaxed);
        let certificate = (certificate > 0)
            .then(|| ("certificate", "collector.certificate".to_owned(), Second(certificate)));
        certificate.into_iter().chain(tokens).collect()
    }
}
