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
//! token tells who it is. Notes are taken for as long as an incident is kept; what is over cannot be acknowledged or resolved.
//!
//! `GET /api/v1/silences` answers `{"silences":[...]}`, `POST` with `{"match":{"region":["eu"]},"until":1763694000,
//! "by":"ada","reason":"new switches"}` holds one more and answers 201 with it, `DELETE /api/v1/silences/ID` ends one now.
//! `from`, which is now otherwise, `announce`, which customers read on the status page, and `hours`, for windows that come
//! back, may be given; `hours` is
//! `{"zone":"Europe/Berlin","days":["sunday"],"from":"02:00","until":"04:00"}`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use aviary_core::{
    Second, Span, Tag, Timestamp,
    fnv::fnv1a,
    incident::{Id, Incident},
    silence::{Hours, Matches, Silence, When},
};
use aviary_store::{StoreError, Table};
use axum::{
    Json, Router,
    body::Body,
    extract::{FromRequest, FromRequestParts as _, Path, Query, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Judgement, kept, record::Record, trial};
use crate::{
    Collector,
    delivery::{beside, explain},
    error::ApiError,
    intake,
    visitor::{Admin, Readable},
};

/// The longest body that is read here.
const BODY_BYTES_MAX: usize = 32 << 10;

/// A note is at most so long.
pub(crate) const TEXT_CHARACTERS_MAX: usize = 1_000;

/// And a text for everybody.
pub(crate) const PUBLIC_CHARACTERS_MAX: usize = 4_000;

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
    Readable(collector): Readable,
    given: Result<Query<Listed>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(Listed { active, limit }) =
        given.map_err(|rejection| ApiError::bad_parameter(rejection.body_text()))?;
    let limit = limit.unwrap_or(LISTED).min(LISTED_MAX);
    let found = blocking(move || collector.incidents(active, limit)).await?;
    let incidents: Vec<Value> = found?.iter().map(short).collect();
    Ok(Json(json!({"incidents": incidents})))
}

async fn one(Readable(collector): Readable, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let (id, incident) = known(&collector, &id).await?;
    let mut body = short(&incident);
    body["record"] = incident.write();
    let case = collector.judgement().case(&id);
    body["receivers"] = case.map_or(Value::Null, |case| case.deliveries.write());
    Ok(Json(body))
}

async fn explanation(Readable(collector): Readable, Path(id): Path<String>) -> Result<String, ApiError> {
    let (_, incident) = known(&collector, &id).await?;
    Ok(collector.explanation(&incident))
}

/// What somebody who may change something says, and who that is.
pub(crate) struct Said {
    pub(crate) by: String,
    pub(crate) text: Option<String>,
    /// Of what the public is told: what stands above it, how far people are, and how much it matters.
    pub(crate) title: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) impact: Option<String>,
}

impl FromRequest<Collector> for Said {
    type Rejection = Response;

    async fn from_request(request: Request, collector: &Collector) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let admin = Admin::from_request_parts(&mut parts, collector).await;
        let admin = admin.map_err(IntoResponse::into_response)?;
        Self::read(&admin, body).await.map_err(IntoResponse::into_response)
    }
}

/// The same as it is sent.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    by: Option<String>,
    text: Option<String>,
    title: Option<String>,
    status: Option<String>,
    impact: Option<String>,
}

impl Said {
    async fn read(admin: &Admin, body: Body) -> Result<Self, ApiError> {
        let body = intake::read(body, BODY_BYTES_MAX, too_large).await?;
        let refuse = |message: String| {
            ApiError::bad_request(message).detail(r#"send such as {"by":"ada","text":"the switch"}"#)
        };
        let Posted { by, text, title, status, impact } = if body.is_empty() {
            Posted::default()
        } else {
            serde_json::from_slice(&body).map_err(|error| refuse(error.to_string()))?
        };
        let is_good =
            |text: &String| !text.trim().is_empty() && text.chars().count() <= PUBLIC_CHARACTERS_MAX;
        if !by.iter().chain(&text).all(is_good) {
            return Err(refuse(format!("`by` and `text` have 1 to {PUBLIC_CHARACTERS_MAX} characters")));
        }
        if by.as_ref().is_some_and(|by| by.chars().count() > TEXT_CHARACTERS_MAX) {
            return Err(refuse(format!("`by` has at most {TEXT_CHARACTERS_MAX} characters")));
        }
        let by = admin.author(by).ok_or_else(|| refuse("say who you are: `by`".to_owned()))?;
        Ok(Self { by, text, title, status, impact })
    }

    /// What somebody says in a note.
    pub(crate) fn noted(&self) -> Result<String, ApiError> {
        let text = self.text.clone().filter(|text| text.chars().count() <= TEXT_CHARACTERS_MAX);
        text.ok_or_else(|| {
            let message =
                format!("a note says something: its \"text\", of 1 to {TEXT_CHARACTERS_MAX} characters");
            ApiError::bad_request(message)
        })
    }
}

async fn acknowledge(
    State(collector): State<Collector>,
    Path(id): Path<String>,
    said: Said,
) -> Result<Json<Value>, ApiError> {
    change(collector, &id, move |judgement, id, now| Ok(judgement.acknowledge(id, &said.by, now))).await
}

async fn resolve(
    State(collector): State<Collector>,
    Path(id): Path<String>,
    said: Said,
) -> Result<Json<Value>, ApiError> {
    change(collector, &id, move |judgement, id, now| Ok(judgement.resolve(id, &said.by, now))).await
}

async fn note(
    State(collector): State<Collector>,
    Path(id): Path<String>,
    said: Said,
) -> Result<Json<Value>, ApiError> {
    let (text, by) = (said.noted()?, said.by);
    change(collector, &id, move |judgement, id, now| judgement.note(id, &by, &text, now)).await
}

async fn silences(Readable(collector): Readable) -> Result<Json<Value>, ApiError> {
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
    announce: Option<String>,
}

async fn silence(
    State(collector): State<Collector>,
    admin: Admin,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let body = intake::read(body, BODY_BYTES_MAX, too_large).await?;
    let refuse = |message: String| {
        ApiError::bad_silence(message)
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
    let author = admin.author(asked.by).unwrap_or_default();
    for text in [&author, &asked.reason].into_iter().chain(&asked.announce) {
        if text.chars().count() > TEXT_CHARACTERS_MAX {
            let message =
                format!("`by`, `reason` and `announce` have at most {TEXT_CHARACTERS_MAX} characters");
            return Err(refuse(message));
        }
    }
    let silence = Silence { id, matches, when, author, reason: asked.reason, announce: asked.announce };
    let body = shown(&silence, now.second());
    collector.judgement().silence(silence, now).map_err(|error| refuse(error.to_string()))?;
    flushed(collector).await?;
    Ok((StatusCode::CREATED, Json(body)))
}

async fn expire(
    State(collector): State<Collector>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let now = collector.now();
    if !collector.judgement().expire(&id, now) {
        let message = format!("silence `{id}` is not held, or has ended; see /api/v1/silences");
        return Err(ApiError::unknown_silence(message));
    }
    flushed(collector).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Collector {
    /// Why it paged, as text for people.
    pub(crate) fn explanation(&self, incident: &Incident) -> String {
        let case = self.judgement().case(&incident.id);
        let text = explain(incident, case.as_ref(), self.now().second());
        match self.subject(&incident.id) {
            Some(subject) => format!("{text}\n{}", beside(&subject.around)),
            None => text,
        }
    }

    /// An incident, also one that was over long ago. Blocks.
    pub(crate) fn incident(&self, id: &Id) -> Result<Option<Incident>, ApiError> {
        if let Some(incident) = self.judgement().incident(id) {
            return Ok(Some(incident));
        }
        let Some(store) = self.judgement().store.as_ref() else { return Ok(None) };
        kept::incident(&**store, id).map_err(unreadable)
    }

    /// The newest incidents, at most `limit`. Blocks.
    pub(crate) fn incidents(&self, is_active: bool, limit: usize) -> Result<Vec<Incident>, ApiError> {
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

/// An incident, also one that was over long ago.
pub(crate) async fn known(collector: &Collector, id: &str) -> Result<(Id, Incident), ApiError> {
    let (id, asked) = (Id::given(id), collector.clone());
    let wanted = id.clone();
    let incident = blocking(move || asked.incident(&wanted)).await??.ok_or_else(|| unknown(&id))?;
    Ok((id, incident))
}

/// Changes an incident, and answers with it as it is once that is kept.
pub(crate) async fn change(
    collector: Collector,
    id: &str,
    step: impl FnOnce(&Judgement, &Id, Timestamp) -> Result<bool, StoreError> + Send + 'static,
) -> Result<Json<Value>, ApiError> {
    let (asked, stepped) = (Id::given(id), collector.clone());
    let changed = blocking(move || step(stepped.judgement(), &asked, stepped.now())).await?;
    let changed = changed.map_err(unreadable)?;
    if changed {
        flushed(collector.clone()).await?;
    }
    let (id, incident) = known(&collector, id).await?;
    if changed { Ok(Json(short(&incident))) } else { Err(refused(&id, &incident)) }
}

pub(crate) async fn flushed(collector: Collector) -> Result<(), ApiError> {
    let kept = blocking(move || collector.judgement().flush()).await?;
    kept.map_err(|error| {
        let message = format!("it is in force, and could not be kept for the next start yet: {error}");
        ApiError::not_kept(message)
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(unreadable)
}

fn unreadable(error: impl ToString) -> ApiError {
    ApiError::incidents_unreadable(error.to_string())
}

fn too_large() -> ApiError {
    let message = format!("a body has at most {BODY_BYTES_MAX} bytes here");
    ApiError::body_too_large(message)
}

pub(crate) fn unknown(id: &Id) -> ApiError {
    let message = format!("incident `{id}` is not known here; see /api/v1/incidents");
    ApiError::unknown_incident(message)
}

/// Nobody can be on what is over, nor on what nobody was told of.
fn refused(id: &Id, incident: &Incident) -> ApiError {
    let message = match incident.resolved {
        Some(at) => format!(
            "incident `{id}` is over since {}: nobody need be on it, and nobody can end it again; a note on it is taken",
            aviary_notify::rfc3339(at.start())
        ),
        None => format!("incident `{id}` is {}: nobody was told of it yet", incident.state),
    };
    ApiError::not_active(message)
}
