//! Splunk On-Call, which was VictorOps, by its REST endpoint. Key and routing key stand in the path.

use aviary_core::page::Severity;
use reqwest::Url;
use serde_json::json;

use crate::{
    cut::{cut, cut_bytes},
    http::Http,
    page::Event,
    receiver::Told,
    refusal::{Receipt, Refusal},
    secret::Secret,
};

const MESSAGE_BYTES_MAX: usize = 20_480;
const NAME_MAX: usize = 1_024;

/// An integration of Splunk On-Call's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VictorOps {
    /// Where alerts go, up to the key.
    pub url: Url,
    /// The integration's API key.
    pub key: Secret,
    /// Which team it is for.
    pub routing_key: String,
}

impl VictorOps {
    /// Where alerts go unless told otherwise.
    pub const URL: &'static str = "https://alert.victorops.com/integrations/generic/20131114/alert";

    pub(crate) async fn send(
        &self,
        http: &Http,
        Told { page, text, attempt }: Told<'_>,
    ) -> Result<Receipt, Refusal> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend([self.key.expose(), &self.routing_key]);
        }
        let kind = match (page.event, page.level()) {
            (Event::Resolved, _) => "RECOVERY",
            (_, Severity::Critical | Severity::Error) => "CRITICAL",
            (_, Severity::Warning) => "WARNING",
            (_, Severity::Info) => "INFO",
        };
        let body = json!({
            "message_type": kind,
            "entity_id": page.key,
            "entity_display_name": cut(&page.title(), NAME_MAX),
            "state_message": cut_bytes(text, MESSAGE_BYTES_MAX),
            "state_start_time": page.since.second().0,
            "monitoring_tool": "aviary",
        });
        let answer = http.ask(http.post(url, &body), attempt.now).await?;
        let json = answer.json();
        if json["result"] != "success" {
            return Err(answer.of_a_stranger("Splunk On-Call"));
        }
        Ok(Receipt::new(json["entity_id"].as_str().map(str::to_owned), answer.said()))
    }
}
