//! Opsgenie, and the operations of Jira Service Management that take its place: the same requests at another address.
//!
//! The `alias` makes what bears it one alert while it is open. Both only promise to look at a request: what comes of it
//! is known to them by the id that the receipt shows.

use aviary_core::page::Severity;
use reqwest::Url;
use serde_json::{Value, json};

use crate::{
    cut::cut,
    http::Http,
    page::{Event, Page},
    receiver::{Told, key_within},
    refusal::{Receipt, Refusal},
    secret::Secret,
};

const MESSAGE_MAX: usize = 130;
const ALIAS_MAX: usize = 512;
const DESCRIPTION_MAX: usize = 15_000;
const NOTE_MAX: usize = 25_000;
const ENTITY_MAX: usize = 512;
const TAGS_MAX: usize = 20;
const TAG_MAX: usize = 50;
/// Of all details together; these leave room for the rest.
const DETAIL_MAX: usize = 1_000;

/// An API integration of Opsgenie's or of Jira Service Management's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opsgenie {
    /// Where alerts go.
    pub url: Url,
    /// The integration's API key.
    pub key: Secret,
}

impl Opsgenie {
    /// Where alerts go unless told otherwise. It answers until April 2027.
    pub const URL: &'static str = "https://api.opsgenie.com/v2/alerts";
    /// The same for Jira Service Management.
    pub const JSM_URL: &'static str = "https://api.atlassian.com/jsm/ops/integration/v2/alerts";

    pub(crate) async fn send(&self, http: &Http, told: Told<'_>) -> Result<Receipt, Refusal> {
        let Told { page, text, .. } = told;
        let alias = key_within(&page.key, ALIAS_MAX);
        let note = json!({ "source": "aviary", "note": cut(text, NOTE_MAX) });
        match page.event {
            Event::Opened => self.post(http, self.url.clone(), &alert(page, text, &alias), told).await,
            Event::Resolved => self.post(http, self.action(&alias, "close"), &note, told).await,
            Event::Updated => {
                // The trigger may never have come: this one is it then, and otherwise the same alert.
                self.post(http, self.url.clone(), &alert(page, text, &alias), told).await?;
                self.post(http, self.action(&alias, "notes"), &note, told).await
            }
        }
    }

    async fn post(&self, http: &Http, url: Url, body: &Value, told: Told<'_>) -> Result<Receipt, Refusal> {
        let request = http.post(url, body).header("authorization", format!("GenieKey {}", self.key.expose()));
        let answer = http.ask(request, told.attempt.now).await?;
        match answer.json()["requestId"].as_str() {
            Some(id) => Ok(Receipt::new(Some(id.to_owned()), answer.said())),
            None => Err(answer.of_a_stranger("Opsgenie")),
        }
    }

    fn action(&self, alias: &str, action: &str) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend([alias, action]);
        }
        url.query_pairs_mut().append_pair("identifierType", "alias");
        url
    }
}

fn alert(page: &Page, text: &str, alias: &str) -> Value {
    let tags: Vec<_> = page.services.iter().take(TAGS_MAX).map(|service| cut(service, TAG_MAX)).collect();
    let mut details =
        json!({ "incident": page.incident, "state": page.state, "severity": page.level().name() });
    for (name, value) in [("url", &page.url), ("runbook", &page.runbook), ("owner", &page.owner)] {
        if let Some(value) = value {
            details[name] = cut(value, DETAIL_MAX).into();
        }
    }
    json!({
        "message": cut(&page.title(), MESSAGE_MAX),
        "alias": alias,
        "description": cut(text, DESCRIPTION_MAX),
        "tags": tags,
        "details": details,
        "entity": cut(&page.services.join(", "), ENTITY_MAX),
        "source": "aviary",
        "priority": match page.level() {
            Severity::Critical => "P1",
            Severity::Error => "P2",
            Severity::Warning => "P3",
            Severity::Info => "P5",
        },
    })
}
