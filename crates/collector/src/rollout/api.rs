//! `/api/v1/rollout`: which version of the services agents probe by, and what becomes of the next one.
//!
//! | route | who | answer |
//! |---|---|---|
//! | `GET /api/v1/rollout` | may read | see [`Body`] |
//! | `POST /api/v1/rollout/force` | may administer | the candidate is active now, for those that can take it on |
//! | `POST /api/v1/rollout/rollback` | may administer | the rollout under way is broken off, or the version before is active again |
//! | `POST /api/v1/rollout/retry` | may administer | what was held back is rolled out again |
//!
//! Each of the three answers `{"done":"..."}`, or `409` with why there is nothing to do. Moments are in whole seconds since the Unix epoch.

use aviary_core::{
    Timestamp,
    rollout::{Held, HeldBack, NotDone, Rollout, Seen, Step, Version},
};
use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{NotChanged, Taker, words};
use crate::{
    Collector,
    error::ApiError,
    visitor::{Admin, Readable},
};

/// How a rollout goes, for programs and pages.
#[derive(Debug, Serialize)]
pub(crate) struct Body {
    /// `settled`, `building`, `held`, `timed_out` or `rolled_back`.
    pub(crate) state: &'static str,
    pub(crate) active: Option<ActiveBody>,
    pub(crate) candidate: Option<CandidateBody>,
    /// What `rollback` goes back to while there is no candidate.
    pub(crate) previous: Option<String>,
    /// What the file says and is not rolled out.
    pub(crate) held_back: Option<HeldBackBody>,
    /// How long a rollout may take.
    pub(crate) timeout_seconds: u64,
    /// The agents that take their services from here by version.
    pub(crate) agents: Vec<TakerBody>,
    /// How many agents do not: their own files say what they probe, or they know no versions.
    pub(crate) others: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct ActiveBody {
    pub(crate) version: String,
    pub(crate) since: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct CandidateBody {
    pub(crate) version: String,
    pub(crate) since: u64,
    /// When it is given up.
    pub(crate) until: u64,
    /// So many of the agents that are waited for have it available.
    pub(crate) ready: usize,
    pub(crate) waited_for: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct HeldBackBody {
    pub(crate) version: String,
    pub(crate) at: u64,
    /// `timed_out` or `rolled_back`.
    pub(crate) why: &'static str,
    pub(crate) by: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct TakerBody {
    pub(crate) node: String,
    pub(crate) region: String,
    pub(crate) kind: &'static str,
    /// Whether a rollout waits for it: it is not away.
    pub(crate) counts: bool,
    /// Why it holds the candidate back, or cannot take the active version on.
    pub(crate) objection: Option<String>,
    pub(crate) versions: Vec<HeldBody>,
}

/// A version that an agent holds.
#[derive(Debug, Serialize)]
pub(crate) struct HeldBody {
    pub(crate) version: String,
    pub(crate) state: &'static str,
    pub(crate) error: Option<String>,
}

impl From<&Held> for HeldBody {
    fn from(held: &Held) -> Self {
        let Held { version, state, error } = held;
        let error = Some(error.clone()).filter(|error| !error.is_empty());
        Self { version: version.to_string(), state: state.name(), error }
    }
}

impl Collector {
    /// How the rollout goes.
    pub(crate) fn rollout_body(&self, now: Timestamp) -> Body {
        let versions = self.inner.rollouts.now();
        let rollout = &versions.rollout;
        let timeout_us = self.inner.rollouts.timeout_us();
        let state = self.state();
        let takers = self.takers(&state, now);
        let others = state.agents().len() - takers.len();
        let seen = || takers.iter().map(Taker::seen);
        let is_ready = |version: Version| seen().filter(|agent| agent.is_ready_for(version)).count();
        Body {
            state: rollout.phase(seen()).name(),
            active: rollout
                .active
                .map(|(version, since)| ActiveBody { version: version.to_string(), since: since.second().0 }),
            candidate: rollout.candidate.map(|it| CandidateBody {
                version: it.version.to_string(),
                since: it.since.second().0,
                until: it.since.plus(timeout_us).second().0,
                ready: is_ready(it.version),
                waited_for: seen().filter(Seen::counts).count(),
            }),
            previous: rollout.previous.map(|version| version.to_string()),
            held_back: rollout.held_back.as_ref().map(HeldBackBody::from),
            timeout_seconds: timeout_us / 1_000_000,
            agents: takers.iter().map(|taker| TakerBody::of(taker, rollout)).collect(),
            others,
        }
    }
}

impl From<&HeldBack> for HeldBackBody {
    fn from(held: &HeldBack) -> Self {
        let HeldBack { version, at, why, by } = held;
        Self { version: version.to_string(), at: at.second().0, why: why.name(), by: by.clone() }
    }
}

impl TakerBody {
    fn of(taker: &Taker<'_>, rollout: &Rollout) -> Self {
        let counts = taker.seen().counts();
        let objection = match (rollout.candidate, rollout.active) {
            (Some(candidate), _) if counts => taker.objection(candidate.version),
            (None, Some((active, _))) => taker.refusal(active),
            _ => None,
        };
        Self {
            node: taker.vantage.node.clone(),
            region: taker.vantage.region.clone(),
            kind: taker.vantage.kind.name(),
            counts,
            objection: objection.map(str::to_owned),
            versions: taker.held.iter().map(HeldBody::from).collect(),
        }
    }
}

/// What the API has of rollouts.
pub(crate) fn routes() -> Router<Collector> {
    Router::new()
        .route("/api/v1/rollout", get(status))
        .route("/api/v1/rollout/force", post(force))
        .route("/api/v1/rollout/rollback", post(roll_back))
        .route("/api/v1/rollout/retry", post(retry))
}

async fn status(Readable(collector): Readable) -> Json<Body> {
    Json(collector.rollout_body(collector.now()))
}

async fn force(State(collector): State<Collector>, admin: Admin) -> Result<Json<Value>, ApiError> {
    command(collector, &admin, |rollout, _, _, now| rollout.force(now)).await
}

async fn roll_back(State(collector): State<Collector>, admin: Admin) -> Result<Json<Value>, ApiError> {
    command(collector, &admin, |rollout, by, _, now| rollout.roll_back(by, now)).await
}

async fn retry(State(collector): State<Collector>, admin: Admin) -> Result<Json<Value>, ApiError> {
    command(collector, &admin, |rollout, _, offered, now| {
        rollout.retry(offered.ok_or(NotDone::NothingHeldBack)?, now)
    })
    .await
}

/// What is done to a rollout: by whom, with what the file says, and when.
type Command = fn(&mut Rollout, Option<String>, Option<Version>, Timestamp) -> Result<Step, NotDone>;

/// It is on the disk, and holds, before it is answered.
async fn command(collector: Collector, admin: &Admin, command: Command) -> Result<Json<Value>, ApiError> {
    let by = admin.author(None);
    let done = tokio::task::spawn_blocking(move || {
        let author = by.clone();
        let step = collector
            .command_rollout(by.as_deref(), |rollout, offered, now| command(rollout, author, offered, now))?;
        Ok::<_, NotChanged>(words::step(step, by.as_deref(), &[]).1)
    });
    let done = done.await.map_err(|error| ApiError::internal(error.to_string()))?;
    let done = done.map_err(|error| match error {
        NotChanged::NotDone(_) => ApiError::no_rollout(error.to_string()),
        NotChanged::Store(_) => ApiError::not_kept(error.to_string()),
    })?;
    Ok(Json(json!({"done": done})))
}
