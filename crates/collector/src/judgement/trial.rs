//! Test pages: whether a receiver takes what it is sent, by the same outbox and the same sender as any page.
//!
//! `POST /api/v1/receivers/NAME/test`, for tokens with the scope `admin`, sends one and answers 202 with it as it stands;
//! `GET /api/v1/receivers/NAME/test/ID` tells how it goes on:
//!
//! ```json
//! {"id":"01J...","receiver":"oncall","over":true,"said":[
//!   {"at":1763690400,"sent":"taken","text":"took `test`: accepted"},
//!   {"at":1763690401,"sent":"taken","text":"took `test_over`: accepted"}]}
//! ```
//!
//! `sent` is `taken`, `refused` for good, or `not_taken` where it is tried again. It is over when the receiver knows that the
//! test is, or will never take it. Nothing of it is kept for the next start.

use std::collections::VecDeque;

use aviary_core::{
    Second, Timestamp,
    incident::{self, Id},
    page::{self, Sent},
};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::Serialize;

use super::{Judgement, api::flushed, tested::notice};
use crate::{
    Collector,
    error::ApiError,
    visitor::{Admin, Readable},
};

/// So many are known at once, the newest.
const TRIALS_MAX: usize = 64;

/// So much is noted of each, the newest.
const SAID_MAX: usize = 32;

/// The tests that were asked for, by when.
#[derive(Default)]
pub(super) struct Trials(VecDeque<Trial>);

struct Trial {
    id: Id,
    receiver: String,
    said: VecDeque<Said>,
}

/// What came of a message.
#[derive(Clone, Serialize)]
struct Said {
    at: u64,
    sent: &'static str,
    text: String,
}

#[derive(Serialize)]
pub(super) struct Body {
    id: String,
    receiver: String,
    over: bool,
    said: Vec<Said>,
}

impl Trials {
    fn begin(&mut self, id: Id, receiver: &str) {
        while self.0.len() >= TRIALS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Trial { id, receiver: receiver.to_owned(), said: VecDeque::new() });
    }

    /// Notes what came of a message, if it was one of a test.
    pub(super) fn note(&mut self, event: &page::Event, noted: Option<&incident::Event>, now: Second) {
        let page::Event::Finished { id, sent, .. } = event else { return };
        let Some(trial) = self.0.iter_mut().find(|trial| trial.id == *id) else { return };
        let text = match noted {
            Some(incident::Event::Receipt { text, .. }) => text.clone(),
            _ => "nothing is known of what came of it".to_owned(),
        };
        let sent = match sent {
            Sent::Taken { .. } => "taken",
            Sent::Refused(_) => "refused",
            Sent::NotTaken { .. } | Sent::Unknown { .. } => "not_taken",
        };
        if trial.said.len() >= SAID_MAX {
            trial.said.pop_front();
        }
        trial.said.push_back(Said { at: now.0, sent, text });
    }
}

impl Judgement {
    /// Sends a test page to `receiver`.
    ///
    /// # Errors
    /// The receivers that there are, where that is none.
    pub(super) fn test(&self, receiver: &str, now: Timestamp) -> Result<Id, Vec<String>> {
        let mut held = self.held();
        if held.paging.receiver(receiver).is_none() {
            return Err(held.paging.receivers().map(str::to_owned).collect());
        }
        // Several may be asked for in one second.
        let cause = format!("test of {receiver}, step {}", held.steps);
        let notice = notice(&held.name, &cause, now.second());
        let id = notice.id.clone();
        held.trials.begin(id.clone(), receiver);
        held.deliver(page::Event::Test(notice, receiver.to_owned()), now);
        Ok(id)
    }

    /// How a test of `receiver` stands.
    fn trial(&self, receiver: &str, id: &Id) -> Option<Body> {
        let held = self.held();
        let trial = held.trials.0.iter().find(|trial| trial.id == *id && trial.receiver == receiver)?;
        Some(Body {
            id: id.to_string(),
            receiver: receiver.to_owned(),
            over: held.outbox.case(id).is_none(),
            said: trial.said.iter().cloned().collect(),
        })
    }
}

pub(super) fn routes() -> Router<Collector> {
    Router::new()
        .route("/api/v1/receivers/{name}/test", post(begin))
        .route("/api/v1/receivers/{name}/test/{id}", get(look))
}

async fn begin(
    State(collector): State<Collector>,
    _: Admin,
    Path(receiver): Path<String>,
) -> Result<(StatusCode, Json<Body>), ApiError> {
    let id = collector.judgement().test(&receiver, collector.now()).map_err(|there| {
        let there = if there.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are {}", there.join(", "))
        };
        let message = format!("no receiver `{receiver}` is configured here; {there}");
        ApiError::unknown_receiver(message)
    })?;
    flushed(collector.clone()).await?;
    let body = collector.judgement().trial(&receiver, &id).ok_or_else(|| unknown(&receiver, &id))?;
    Ok((StatusCode::ACCEPTED, Json(body)))
}

async fn look(
    Readable(collector): Readable,
    Path((receiver, id)): Path<(String, String)>,
) -> Result<Json<Body>, ApiError> {
    let id = Id::given(&id);
    collector.judgement().trial(&receiver, &id).map(Json).ok_or_else(|| unknown(&receiver, &id))
}

fn unknown(receiver: &str, id: &Id) -> ApiError {
    let message = format!(
        "test `{id}` of receiver `{receiver}` is not known here: it is over, or the collector began anew"
    );
    ApiError::unknown_test(message)
}
