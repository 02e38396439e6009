//! What the public is told, over HTTP, and the report of a month.
//!
//! `GET /api/v1/incidents/ID/public` answers the draft or what was published, with who said what. For tokens with the scope
//! `admin`, `POST /api/v1/incidents/ID/public/ACT` with `{"by":"ada","title":...,"text":...,"status":...,"impact":...}` does
//! one of these, and answers the same:
//!
//! | act | does | takes |
//! |---|---|---|
//! | `edit` | other words: of a draft, and of the newest update of what is public; not of what was withdrawn | `title`, `text`, `impact`, any of them |
//! | `publish` | shows it to everybody, once more if it was withdrawn, in other words if some are given | the same, or none |
//! | `update` | says more | `text`; `status`: `investigating`, `identified`, `monitoring`, `resolved` |
//! | `post-mortem` | says what was learnt, once it is resolved | `text` |
//! | `unpublish` | says that it should not have been public, in the place of all that was said | `text`: why |

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{Act, Impact, Publication, Refused, Stage, Words, report};
use crate::{
    Collector,
    api::{Parameters, Readable},
    error::ApiError,
    judgement::api::{Said, flushed, known},
};

pub(crate) fn routes() -> Router<Collector> {
    Router::new()
        .route("/api/v1/incidents/{id}/public", get(public))
        .route("/api/v1/incidents/{id}/public/{act}", post(act))
        .route("/api/v1/report", get(month))
}

async fn public(
    Readable(collector): Readable,
    Path(id): Path<String>,
) -> Result<Json<Publication>, ApiError> {
    let (id, incident) = known(&collector, &id).await?;
    collector
        .judgement()
        .publication(&incident, collector.now())
        .map(Json)
        .ok_or_else(|| refused(id.as_str(), &Refused::Hidden))
}

async fn act(
    State(collector): State<Collector>,
    Path((id, act)): Path<(String, String)>,
    said: Said,
) -> Result<Json<Publication>, ApiError> {
    tell(&collector, &id, &act, said).await.map(Json)
}

/// Has somebody do something about what the public is told; it is kept when this returns.
pub(crate) async fn tell(
    collector: &Collector,
    id: &str,
    act: &str,
    said: Said,
) -> Result<Publication, ApiError> {
    let by = said.by.clone();
    let acts = acts(act, said)?;
    let (id, incident) = known(collector, id).await?;
    let told = collector.judgement().tell_public(&incident, acts, &by, collector.now());
    let publication = told.map_err(|error| refused(id.as_str(), &error))?;
    flushed(collector.clone()).await?;
    Ok(publication)
}

/// What is told of an incident, for who may read it. Nothing, where no service of it is shown.
pub(crate) fn seen(collector: &Collector, incident: &aviary_core::incident::Incident) -> Option<Publication> {
    collector.judgement().publication(incident, collector.now())
}

fn acts(act: &str, Said { text, title, status, impact, .. }: Said) -> Result<Vec<Act>, ApiError> {
    let impact = impact.map(|given| named("impact", &given, &Impact::ALL, Impact::name)).transpose()?;
    let stage = status.map(|given| named("status", &given, &Stage::ALL, Stage::name)).transpose()?;
    let wanted = |text: Option<String>| {
        text.ok_or_else(|| ApiError::bad_request(format!("`{act}` says something: give its text")))
    };
    let words = |text| Words { title: title.clone(), text, impact };
    Ok(match act {
        "edit" => vec![Act::Edit(words(text))],
        "publish" => vec![Act::Publish(words(text))],
        "update" => vec![Act::Update { stage, text: wanted(text)? }],
        "post-mortem" => vec![Act::PostMortem(wanted(text)?)],
        "unpublish" => vec![Act::Withdraw(wanted(text)?)],
        other => {
            return Err(unknown("act", other, &["edit", "publish", "update", "post-mortem", "unpublish"]));
        }
    })
}

/// The one of `all` that is called so.
fn named<T: Copy>(what: &str, given: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, ApiError> {
    let names: Vec<&str> = all.iter().map(|it| name(*it)).collect();
    all.iter().copied().find(|it| name(*it) == given).ok_or_else(|| unknown(what, given, &names))
}

fn unknown(what: &str, given: &str, known: &[&str]) -> ApiError {
    ApiError::bad_request(format!("{what} `{given}` is not known; there are {}", known.join(", ")))
}

fn refused(id: &str, refused: &Refused) -> ApiError {
    let message = format!("incident `{id}`: {refused}");
    ApiError::not_published(message)
}

async fn month(
    Readable(collector): Readable,
    Parameters(given): Parameters,
) -> Result<Json<Value>, ApiError> {
    let query = report::Query::parse(&given, collector.now())?;
    let place = collector.question().ok_or_else(|| {
        let message = "more questions are asked than can be answered at once; come back in a moment";
        ApiError::busy(message)
    })?;
    let report = tokio::task::spawn_blocking(move || {
        let _place = place;
        query.answer(&collector)
    });
    let report = report.await.map_err(|error| ApiError::internal(error.to_string()))??;
    Ok(Json(json!(report)))
}
