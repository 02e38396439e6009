//! A check of our own at a Consul agent, beside whatever else checks the instance.
//!
//! | the node is | the check is |
//! |---|---|
//! | in rotation | `passing` |
//! | returning | `warning`, for which an instance may have a weight of its own |
//! | out of it | `critical` |
//!
//! Consul takes a check for critical that was not told for its TTL, which is to fail dead if we do: so the TTL is long, the check
//! begins as passing, an agent that ends withdraws it, and no instance is ever deregistered for it.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use reqwest::{Client, Method, Url, header};
use serde_json::{Value, json};

use super::{Answer, Rotation};
use crate::config;

/// How long Consul may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much of a refusal is repeated.
const QUOTED_MAX: usize = 240;

/// A Consul agent.
pub(super) struct Consul {
    client: Client,
    config: config::steer::Consul,
}

impl Consul {
    /// As it is configured.
    ///
    /// # Errors
    /// A token or authority that cannot be used.
    pub(super) fn new(config: &config::steer::Consul) -> anyhow::Result<Self> {
        let mut headers = header::HeaderMap::new();
        if let Some(token) = &config.token {
            let mut token = header::HeaderValue::try_from(token.expose())
                .ok()
                .context("agent.consul.token: it has characters that an HTTP header cannot carry")?;
            token.set_sensitive(true);
            headers.insert("x-consul-token", token);
        }
        let ca = config.ca.as_ref().map(|pem| pem.text().as_bytes());
        let roots = aviary_probe::trusted_roots(ca.as_slice()).context("agent.consul.ca")?;
        let roots =
            roots.iter().map(|der| reqwest::Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
        let client = Client::builder()
            .tls_certs_only(roots)
            .default_headers(headers)
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, config: config.clone() })
    }

    async fn put(&self, path: &[&str], body: Option<&Value>) -> Result<(), String> {
        let mut url: Url = self.config.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["v1", "agent", "check"]).extend(path);
        }
        let at = url.origin().ascii_serialization();
        let request = self.client.request(Method::PUT, url);
        let request = body.into_iter().fold(request, |request, body| request.json(body));
        let mut response = request.send().await.map_err(|error| format!("{at}: {}", innermost(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let said = response.chunk().await.ok().flatten().unwrap_or_default();
        let said: String = String::from_utf8_lossy(&said).trim().chars().take(QUOTED_MAX).collect();
        Err(format!("{at} answered {status} to {}: {said}", path.join("/")))
    }
}

/// The check of one service.
pub(super) struct Check {
    consul: Arc<Consul>,
    service: String,
    id: String,
    is_registered: bool,
}

impl Check {
    /// The check of `service`, which Consul does not have yet.
    pub(super) fn new(consul: &Arc<Consul>, service: &str) -> Self {
        let id = consul.config.check.replace("{service}", service);
        Self { consul: Arc::clone(consul), service: service.to_owned(), id, is_registered: false }
    }

    /// How often it is told.
    pub(super) fn every(&self) -> Duration {
        self.consul.config.every
    }

    /// Tells it once.
    pub(super) async fn tell(&mut self, answer: &Answer) -> Result<(), String> {
        if !self.is_registered {
            self.register().await?;
        }
        let (status, output) = match answer.rotation {
            Rotation::In => ("passing", format!("in rotation; this agent sees it as {}", answer.state)),
            Rotation::Returning => {
                let reason = answer.reason.as_deref().unwrap_or_default();
                ("warning", format!("returning with {} % of its load: {reason}", answer.weight))
            }
            Rotation::Out => {
                ("critical", format!("out of rotation: {}", answer.reason.as_deref().unwrap_or_default()))
            }
        };
        let body = json!({"Status": status, "Output": output});
        let told = self.consul.put(&["update", &self.id], Some(&body)).await;
        // A Consul agent that began anew, or whose check somebody took away, does not know it any more.
        self.is_registered = told.is_ok();
        told
    }

    async fn register(&self) -> Result<(), String> {
        let config::steer::Consul { instance, ttl, .. } = &self.consul.config;
        let body = json!({
            "ID": self.id,
            "Name": format!("{} is in rotation, as aviary advises", self.service),
            "Notes": "Critical only while aviary's collector says so, or once its agent has been silent for the TTL.",
            "ServiceID": instance.replace("{service}", &self.service),
            "TTL": format!("{}ms", ttl.as_millis()),
            "Status": "passing",
        });
        self.consul.put(&["register"], Some(&body)).await
    }

    /// Takes the check away: nobody will tell it anything any more.
    pub(super) async fn withdraw(&self) -> Result<(), String> {
        self.consul.put(&["deregister", &self.id], None).await
    }
}

/// What went wrong at the bottom: reqwest's own words only say that it did.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
