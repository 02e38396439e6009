//! Incidents and silences over HTTP.
//!
//! `GET /api/v1/incidents[?active=true&limit=100]` answers the newest first, each in short:
//!
//! ```json
//! {"incidents":[{"id":"01J...","key":"aviary:main:01J...","cause":"loss","state":"open","severity":"critical",
//!   "urgency":"page","services":["ingest"],"summary":"ingest: udp in every region (6/6), 100 % lost; nothing else",
//!   "since":1763690392,"opened":1763690400,"resolved":null,"acknowledged_by":null,"silenced_by":[],"suspected":false}]}
//! ```
//!
//! `GET /api/v1/incidents/ID` adds `record`, which is all that is kept of it, and `receivers`, who was told of it;
//! `GET .../explanation` says why it paged, as text for people. For tokens with the scope `admin`: `POST .../ack` and
//! `.../resolve` with `{"by":"ada"}`, `POST .../notes` with `{"by":"ada","text":"the switch"}`. `by` may be left out where a
//! token tells who it is.
//!
//! `GET /api/v1/silences` answers `{"silences":[...]}`, `POST` with `{"match":{"region":["eu"]},"until":1763694000,
//! "by":"ada","reason":"new switches"}` holds one more and answers 201 with it, `DELETE /api/v1/silences/ID` ends one now.
//! `from`, which is now otherwise, and `hours`, for windows that come back, may be given; `hours` is
//! `{"zone":"Europe/Berlin","days":["sunday"],"from":"02:00","until":"04:00"}`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use aviary_core::{
    Second, Span, Tag,
    fnv::fnv1a,
    incident::{Id, Incident},
    silence::{Hours, Matches, Silence, When},
};
use aviary_store::Table;
use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, Path, Query, State},
    http::{HeaderMap, StatusCode},
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{record::Record, trial};
use crate::{
    Collector, Peer,
    access::Scope,
    delivery::{beside, explain},
    error::ApiError,
    intake,
};

/// The longest body that is read here.
const BODY_BYTES_MAX: usize = 16 << 10;

/// A text that somebody gives is at most so long.
const TEXT_CHARACTERS_MAX: usize = 1_000;

/// So many incidents are listed unless told otherwise, and at most.
const LISTED: usize = 100;
const LISTED_MAX: usize = 1_000;

pub(crate) fn routes() -> Router<Collector> {
    Router::new()
        .route("/api/v1/incidents", get(all))
        .route("/api/v1/incidents/{id}", get(one))
        .route("/api/v1/incidents/{id}/ack", post(acknowledge))
        .route("/api/v1/incidents/{id}/explanation", get(explanation))
        .route("/api/v1/incidents/{id}/notes", post(note))
        .route("/api/v1/incidents/{id}/resolve", post(resolve))
        .route("/api/v1/silences", get(silences).post(silence))
        .route("/api/v1/silences/{id}", delete(expire))
        .merge(trial::routes())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    #[serde(default)]
    active: bool,
    limit: Option<usize>,
}

async fn all(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    given: Result<Query<Listed>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    collector.access().allow(Scope::Read, &headers, peer.ip())?;
    let Query(Listed { active, limit }) =
        given.map_err(|rejection| ApiError::bad("bad_parameter", rejection.body_text()))?;
    let limit = limit.unwrap_or(LISTED).min(LISTED_MAX);
    let found = blocking(move || collector.incidents(active, limit)).await?;
    let incidents: Vec<Value> = found?.iter().map(short).collect();
    Ok(Json(json!({"incidents": incidents})))
}

async fn one(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    collector.access().allow(Scope::Read, &headers, peer.ip())?;
    let id = Id::given(&id);
    let known = id.clone();
    let judgement = collector.clone();
    let incident = blocking(move || judgement.incident(&known)).await??.ok_or_else(|| unknown(&id))?;
    let mut body = short(&incident);
    body["record"] = incident.write();
    let case = collector.judgement().case(&id);
    body["receivers"] = case.map_or(Value::Null, |case| case.deliveries.write());
    Ok(Json(body))
}

async fn explanation(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<String, ApiError> {
    collector.access().allow(Scope::Read, &headers, peer.ip())?;
    let id = Id::given(&id);
    let (known, judgement) = (id.clone(), collector.clone());
    let incident = blocking(move || judgement.incident(&known)).await??.ok_or_else(|| unknown(&id))?;
    let case = collector.judgement().case(&id);
    let mut text = explain(&incident, case.as_ref(), collector.now().second());
    if let Some(subject) = collector.subject(&id) {
        text = format!("{text}\n{}", beside(&subject.around));
    }
    Ok(text)
}

/// What is told of whoever asks for something.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    by: Option<String>,
    text: Option<String>,
}

async fn acknowledge(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (by, _) = said(&collector, &headers, peer, body).await?;
    let (id, now) = (Id::given(&id), collector.now());
    if !collector.judgement().acknowledge(&id, &by, now) {
        return Err(over(&collector, &id));
    }
    kept(collector, id).await
}

async fn resolve(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (by, _) = said(&collector, &headers, peer, body).await?;
    let (id, now) = (Id::given(&id), collector.now());
    if !collector.judgement().resolve(&id, &by, now) {
        return Err(over(&collector, &id));
    }
    kept(collector, id).await
}

async fn note(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (by, text) = said(&collector, &headers, peer, body).await?;
    let text =
        text.ok_or_else(|| ApiError::bad("bad_request", r#"a note says something: send its "text""#))?;
    let (id, now) = (Id::given(&id), collector.now());
    if !collector.judgement().note(&id, &by, &text, now) {
        return Err(over(&collector, &id));
    }
    kept(collector, id).await
}

async fn silences(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    collector.access().allow(Scope::Read, &headers, peer.ip())?;
    let now = collector.now().second();
    let silences: Vec<Value> =
        collector.judgement().silences().iter().map(|silence| shown(silence, now)).collect();
    Ok(Json(json!({"silences": silences})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(rename = "match", default)]
    matches: BTreeMap<String, BTreeSet<String>>,
    from: Option<u64>,
    until: u64,
    hours: Option<Value>,
    by: Option<String>,
    reason: String,
}

async fn silence(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let by = collector.access().allow(Scope::Admin, &headers, peer.ip())?.map(|rule| rule.name.clone());
    let body = intake::read(body, BODY_BYTES_MAX, too_large).await?;
    let refuse = |message: String| {
        ApiError::bad("bad_silence", message)
            .detail(r#"send such as {"match":{"region":["eu"]},"until":1763694000,"by":"ada","reason":"new switches"}"#)
    };
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| refuse(error.to_string()))?;
    let now = collector.now();
    let mut matches = Matches::default();
    for (tag, values) in asked.matches {
        let tag: Tag = tag.parse().map_err(|error| refuse(format!("match: {error}")))?;
        matches.0.insert(tag, values);
    }
    let span = Span::new(asked.from.map_or_else(|| now.second(), Second), Second(asked.until));
    let when = match asked.hours {
        None => When::Once(span),
        Some(hours) => {
            let hours = Hours::read(&hours).map_err(|error| refuse(format!("hours: {error}")))?;
            When::Recurring(hours, span)
        }
    };
    let id = format!("{:016x}", fnv1a(body.iter().copied().chain(now.0.to_be_bytes())));
    let author = asked.by.or(by).unwrap_or_default();
    for text in [&author, &asked.reason] {
        if text.chars().count() > TEXT_CHARACTERS_MAX {
            return Err(refuse(format!("`by` and `reason` have at most {TEXT_CHARACTERS_MAX} characters")));
        }
    }
    let silence = Silence { id, matches, when, author, reason: asked.reason };
    let body = shown(&silence, now.second());
    collector.judgement().silence(silence, now).map_err(|error| refuse(error.to_string()))?;
    flushed(collector).await?;
    Ok((StatusCode::CREATED, Json(body)))
}

async fn expire(
    State(collector): State<Collector>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    collector.access().allow(Scope::Admin, &headers, peer.ip())?;
    let now = collector.now();
    if !collector.judgement().expire(&id, now) {
        let message = format!("silence `{id}` is not held, or has ended; see /api/v1/silences");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_silence", message));
    }
    flushed(collector).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Collector {
    /// An incident, also one that was over long ago. Blocks.
    fn incident(&self, id: &Id) -> Result<Option<Incident>, ApiError> {
        if let Some(incident) = self.judgement().incident(id) {
            return Ok(Some(incident));
        }
        let Some(store) = self.judgement().store.as_ref() else { return Ok(None) };
        let found = store.get(Table::Incidents, id.as_str().as_bytes()).map_err(unreadable)?;
        found.map(|bytes| Incident::of_bytes(&bytes).map_err(unreadable)).transpose()
    }

    /// The newest incidents, at most `limit`. Blocks.
    fn incidents(&self, is_active: bool, limit: usize) -> Result<Vec<Incident>, ApiError> {
        let held = self.judgement().incidents();
        let mut found: BTreeMap<Id, Incident> =
            held.into_iter().map(|incident| (incident.id.clone(), incident)).collect();
        if let Some(store) = self.judgement().store.as_ref().filter(|_| !is_active) {
            let mut damage = None;
            let (mut left, until) = (limit, [u8::MAX]);
            let visited = store.range_back(Table::Incidents, &[], &until, &mut |_, value| {
                match Incident::of_bytes(value) {
                    // What is held is newer than what is kept.
                    Ok(incident) => _ = found.entry(incident.id.clone()).or_insert(incident),
                    Err(error) => damage = Some(unreadable(error)),
                }
                left = left.saturating_sub(1);
                if left == 0 || damage.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            visited.map_err(unreadable)?;
            if let Some(damage) = damage {
                return Err(damage);
            }
        }
        let wanted = found.into_values().rev().filter(|it| !is_active || it.state.is_active());
        Ok(wanted.take(limit).collect())
    }
}

fn short(incident: &Incident) -> Value {
    let acknowledged = incident.acknowledgements.kept.back();
    json!({
        "id": incident.id.as_str(),
        "key": incident.key,
        "cause": incident.cause.name(),
        "about": incident.cause.predicate().write(),
        "state": incident.state.name(),
        "severity": incident.severity().name(),
        "urgency": incident.urgency().name(),
        "services": incident.services(),
        "summary": incident.summary(),
        "since": incident.since.0,
        "opened": incident.opened.write(),
        "resolved": incident.resolved.write(),
        "resolution": incident.resolution.as_ref().map(ToString::to_string),
        "acknowledged_by": acknowledged.map(|by| &by.by),
        "silenced_by": incident.silenced_by,
        "cannot_tell": incident.blind(),
        "flapping": incident.flap.is_flapping,
    })
}

fn shown(silence: &Silence, now: Second) -> Value {
    let mut body = silence.write();
    body["in_force"] = silence.holds_until(now).is_some().into();
    body
}

/// Who wants something, and what is said.
async fn said(
    collector: &Collector,
    headers: &HeaderMap,
    peer: std::net::SocketAddr,
    body: Body,
) -> Result<(String, Option<String>), ApiError> {
    let token = collector.access().allow(Scope::Admin, headers, peer.ip())?.map(|rule| rule.name.clone());
    let body = intake::read(body, BODY_BYTES_MAX, too_large).await?;
    let refuse = |message: String| {
        ApiError::bad("bad_request", message).detail(r#"send such as {"by":"ada","text":"the switch"}"#)
    };
    let said: Said = if body.is_empty() {
        Said::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| refuse(error.to_string()))?
    };
    let is_good = |text: &String| !text.trim().is_empty() && text.chars().count() <= TEXT_CHARACTERS_MAX;
    if !said.by.iter().chain(&said.text).all(is_good) {
        return Err(refuse(format!("`by` and `text` have 1 to {TEXT_CHARACTERS_MAX} characters")));
    }
    let by = said.by.or(token).ok_or_else(|| refuse("say who you are: `by`".to_owned()))?;
    Ok((by, said.text))
}

/// Answers with the incident as it is once that is kept.
async fn kept(collector: Collector, id: Id) -> Result<Json<Value>, ApiError> {
    flushed(collector.clone()).await?;
    let incident = collector.judgement().incident(&id).ok_or_else(|| unknown(&id))?;
    Ok(Json(short(&incident)))
}

pub(super) async fn flushed(collector: Collector) -> Result<(), ApiError> {
    let kept = blocking(move || collector.judgement().flush()).await?;
    kept.map_err(|error| {
        let message = format!("it is in force, and could not be kept for the next start yet: {error}");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_kept", message)
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(unreadable)
}

fn unreadable(error: impl ToString) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "incidents_unreadable", error.to_string())
}

fn too_large() -> ApiError {
    let message = format!("a body has at most {BODY_BYTES_MAX} bytes here");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn unknown(id: &Id) -> ApiError {
    let message = format!("incident `{id}` is not known here; see /api/v1/incidents");
    ApiError::new(StatusCode::NOT_FOUND, "unknown_incident", message)
}

/// What is over is not changed any more.
fn over(collector: &Collector, id: &Id) -> ApiError {
    match collector.judgement().incident(id) {
        Some(incident) => {
            let message = format!("incident `{id}` is {}, and nobody can change that", incident.state);
            ApiError::new(StatusCode::CONFLICT, "not_active", message)
        }
        None => unknown(id),
    }
}
