//! PagerDuty, by its Events API v2.
//!
//! One `dedup_key` per incident: while the alert is open, what bears the key is the same alert. A resolve that comes
//! twice, or of what was never triggered, is accepted and changes nothing. The lengths are those that Alertmanager keeps.

use reqwest::Url;
use serde_json::{Value, json};

use crate::{
    cut::cut,
    document,
    http::Http,
    page::{Event, Page, rfc3339},
    receiver::{Told, key_within},
    refusal::{Receipt, Refusal},
    secret::Secret,
};

const SUMMARY_MAX: usize = 1024;
const KEY_MAX: usize = 255;
const EVENT_BYTES_MAX: usize = 512_000;

/// A service of PagerDuty's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagerDuty {
    /// Where events go.
    pub url: Url,
    /// The integration's routing key.
    pub key: Secret,
}

impl PagerDuty {
    /// Where events go unless told otherwise.
    pub const URL: &'static str = "https://events.pagerduty.com/v2/enqueue";

    pub(crate) async fn send(&self, http: &Http, told: Told<'_>) -> Result<Receipt, Refusal> {
        let answer = http.ask(http.post(self.url.clone(), &self.event(told)), told.attempt.now).await?;
        let json = answer.json();
        if json["status"] != "success" {
            return Err(answer.of_a_stranger("PagerDuty"));
        }
        Ok(Receipt::new(json["dedup_key"].as_str().map(str::to_owned), answer.said()))
    }

    fn event(&self, Told { page, text, .. }: Told<'_>) -> Value {
        let key = key_within(&page.key, KEY_MAX);
        if page.event == Event::Resolved {
            return json!({ "routing_key": self.key.expose(), "event_action": "resolve", "dedup_key": key });
        }
        let mut details = document::data(page);
        details["text"] = text.into();
        let mut event = json!({
            "routing_key": self.key.expose(),
            "event_action": "trigger",
            "dedup_key": key,
            "payload": {
                "summary": cut(&page.title(), SUMMARY_MAX),
                "source": page.services.first().map_or("aviary", String::as_str),
                "severity": page.level().name(),
                "timestamp": rfc3339(page.since),
                "component": page.services.join(", "),
                "class": page.state,
                "custom_details": details,
            },
            "client": "aviary",
            "client_url": page.url,
            "links": links(page),
        });
        if event.to_string().len() > EVENT_BYTES_MAX {
            event["payload"]["custom_details"] = json!({ "text": text });
        }
        event
    }
}

fn links(page: &Page) -> Vec<Value> {
    let runbook = page.runbook.iter().map(|href| json!({ "href": href, "text": "Runbook" }));
    runbook.chain(page.links.iter().map(|link| json!({ "href": link.href, "text": link.text }))).collect()
}
