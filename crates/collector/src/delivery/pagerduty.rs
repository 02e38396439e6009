//! Acknowledgements from PagerDuty: its webhook, version 3.
//!
//! Whoever acknowledges in PagerDuty is on it, and escalation ends. What is posted is signed with HMAC-SHA256 of the body
//! under the subscription's secret, in hexadecimal digits: `X-PagerDuty-Signature: v1=...`, several with commas between them
//! while a secret is being replaced. What is signed and is none of our business is answered 200, since PagerDuty repeats
//! what is not, and ends a subscription that goes on refusing.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::hmac;
use axum::{Json, Router, body::Body, extract::State, http::HeaderMap, routing::post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Desk;
use crate::{error::ApiError, intake};

/// Where PagerDuty posts to.
pub const PATH: &str = "/api/v1/pagerduty";

/// The largest body. What PagerDuty says of an incident is a few KiB.
const BODY_BYTES_MAX: usize = 256 << 10;

const SIGNATURE: &str = "x-pagerduty-signature";

/// Only so many signatures are looked at.
const SIGNATURES_MAX: usize = 8;

/// The longest name of a person that is repeated.
const NAME_CHARACTERS_MAX: usize = 100;

/// The secrets of PagerDuty's subscriptions to us: several where several receivers are PagerDuty's, or while one is being
/// replaced.
#[derive(Default)]
pub struct Secrets(RwLock<Vec<hmac::Key>>);

impl Secrets {
    /// These sign from now on.
    pub fn set<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        let key = |secret: &str| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        // It is only ever replaced whole.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets.into_iter().map(key).collect();
    }

    fn have_signed(&self, body: &[u8], tag: &[u8]) -> bool {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().any(|key| hmac::verify(key, body, tag).is_ok())
    }
}

/// Without the secrets.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets").finish_non_exhaustive()
    }
}

/// PagerDuty's subscriptions to us.
pub struct Subscription<D> {
    desk: Arc<D>,
    secrets: Arc<Secrets>,
    forged: AtomicU64,
}

impl<D> Subscription<D> {
    /// To the incidents of `desk`, signed with one of `secrets`.
    pub const fn new(desk: Arc<D>, secrets: Arc<Secrets>) -> Self {
        Self { desk, secrets, forged: AtomicU64::new(0) }
    }

    /// How many posts were refused because nobody with a secret had signed them.
    pub fn forged(&self) -> u64 {
        self.forged.load(Ordering::Relaxed)
    }

    fn is_signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let given = headers.get_all(SIGNATURE).iter().filter_map(|value| value.to_str().ok());
        let tags = given.flat_map(|value| value.split(',')).take(SIGNATURES_MAX);
        let mut tags = tags.filter_map(|tag| from_hex(tag.trim().strip_prefix("v1=")?));
        tags.any(|tag| self.secrets.have_signed(body, &tag))
    }
}

/// What takes posts at [`PATH`], to be merged into the API. It asks for no token: the signature is one.
pub fn router<D: Desk>(subscription: Arc<Subscription<D>>) -> Router {
    Router::new().route(PATH, post(take::<D>)).with_state(subscription)
}

#[derive(Deserialize)]
struct Posted {
    event: Event,
}

#[derive(Deserialize)]
struct Event {
    event_type: String,
    agent: Option<Agent>,
    data: Option<Data>,
}

/// Whoever did it; nobody where PagerDuty did so by itself.
#[derive(Deserialize)]
struct Agent {
    summary: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    /// The key of the first alert of the incident, which is the one that we sent.
    incident_key: Option<String>,
}

async fn take<D: Desk>(
    State(subscription): State<Arc<Subscription<D>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let body = intake::read(body, BODY_BYTES_MAX, too_large).await?;
    if !subscription.is_signed(&headers, &body) {
        subscription.forged.fetch_add(1, Ordering::Relaxed);
        let message = "the signature is none of this collector's subscription at PagerDuty";
        let detail = "set the secret that PagerDuty showed when the subscription was made";
        return Err(ApiError::bad_signature(message).detail(detail));
    }
    let Posted { event } = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_webhook(format!("this is no webhook of PagerDuty's, version 3: {error}"))
    })?;
    if event.event_type != "incident.acknowledged" {
        return Ok(Json(json!({"acknowledged": false, "because": "it is no acknowledgement"})));
    }
    let key = event.data.and_then(|data| data.incident_key).unwrap_or_default();
    let by = by(event.agent);
    if subscription.desk.acknowledge(&key, by.clone()).await {
        tracing::info!(key, by, "Somebody is on it.");
        return Ok(Json(json!({"acknowledged": true})));
    }
    Ok(Json(json!({"acknowledged": false, "because": "the incident is over, or none of this collector's"})))
}

/// Who acknowledged, such as `Alice by PagerDuty`.
fn by(agent: Option<Agent>) -> String {
    let name = agent.and_then(|agent| agent.summary).unwrap_or_default();
    let name: String = name.chars().filter(|char| !char.is_control()).take(NAME_CHARACTERS_MAX).collect();
    match name.trim() {
        "" => "somebody by PagerDuty".to_owned(),
        name => format!("{name} by PagerDuty"),
    }
}

fn too_large() -> ApiError {
    let message = format!("what PagerDuty posts has at most {BODY_BYTES_MAX} bytes");
    ApiError::webhook_too_large(message)
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pair = |pair: &[u8]| Some(nibble(pair[0])? << 4 | nibble(pair[1])?);
    digits.len().is_multiple_of(2).then(|| digits.as_bytes().chunks_exact(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aviary_core::incident::Id;
    use axum::http::HeaderValue;

    use axum::http::StatusCode;

    use super::*;
    use crate::delivery::{Ended, Subject};

    /// Knows one incident.
    #[derive(Default)]
    struct Known(Mutex<Vec<(String, String)>>);

    impl Desk for Known {
        fn look_up(&self, _: &Id, _: &str) -> Option<Subject> {
            None
        }

        async fn ended(&self, _: Ended) {}

        async fn acknowledge(&self, key: &str, by: String) -> bool {
            let is_known = key == "aviary:main:01JD";
            if is_known {
                self.0.lock().unwrap().push((key.to_owned(), by));
            }
            is_known
        }
    }

    /// By `printf %s '{"event":1}' | openssl dgst -sha256 -hmac pdkey`.
    const OF_PDKEY: &str = "8567f9933e14dc3d2fe0305fa1c08da9371772b1703c379a708a1dac25ab999c";

    fn subscription(secrets: &[&str]) -> Arc<Subscription<Known>> {
        let ours = Secrets::default();
        ours.set(secrets.iter().copied());
        Arc::new(Subscription::new(Arc::default(), Arc::new(ours)))
    }

    fn signed(signature: &str) -> HeaderMap {
        HeaderMap::from_iter([(SIGNATURE.parse().unwrap(), HeaderValue::from_str(signature).unwrap())])
    }

    fn by_key(secret: &str, body: &str) -> HeaderMap {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
        let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        signed(&format!("v1={digits}"))
    }

    #[test]
    fn a_signature_is_checked_as_pagerduty_makes_it() {
        let body = br#"{"event":1}"#;
        let other = "0".repeat(64);
        let table: [(String, &[&str], bool); 9] = [
            (format!("v1={OF_PDKEY}"), &["pdkey"], true),
            (format!("v1={}", OF_PDKEY.to_uppercase()), &["pdkey"], true),
            (format!("v1={other}, v1={OF_PDKEY}"), &["pdkey"], true),
            (format!("v1={OF_PDKEY}"), &["new", "pdkey"], true),
            (format!("v1={OF_PDKEY}"), &["new"], false),
            (format!("v1={OF_PDKEY}"), &[], false),
            (format!("v0={OF_PDKEY}"), &["pdkey"], false),
            (format!("v1={other}"), &["pdkey"], false),
            ("v1=8".to_owned(), &["pdkey"], false),
        ];
        for (signature, secrets, expected) in table {
            let subscription = subscription(secrets);
            assert_eq!(
                subscription.is_signed(&signed(&signature), body),
                expected,
                "{signature} {secrets:?}"
            );
        }
        assert!(!subscription(&["pdkey"]).is_signed(&HeaderMap::new(), body));
        assert!(!subscription(&["pdkey"]).is_signed(&signed(&format!("v1={OF_PDKEY}")), b"{}"));
        assert!(!format!("{:?}", subscription(&["pdkey"]).secrets).contains("pdkey"));
    }

    async fn post(
        subscription: &Arc<Subscription<Known>>,
        headers: HeaderMap,
        body: &str,
    ) -> Result<Value, ApiError> {
        let answer = take(State(Arc::clone(subscription)), headers, Body::from(body.to_owned())).await;
        answer.map(|Json(answer)| answer)
    }

    fn event(kind: &str, key: &str, agent: &Value) -> String {
        json!({"event": {
            "id": "01DEN4HPBQAJ9J", "event_type": kind, "resource_type": "incident",
            "occurred_at": "2026-11-21T03:16:00Z", "agent": agent,
            "data": {"id": "PGR0VU2", "type": "incident", "status": "acknowledged", "incident_key": key},
        }})
        .to_string()
    }

    #[tokio::test]
    async fn whoever_acknowledges_is_on_it() {
        let subscription = subscription(&["pdkey"]);
        let alice = json!({"id": "PUSER", "type": "user_reference", "summary": "Alice"});
        let table = [
            ("incident.acknowledged", "aviary:main:01JD", &alice, true),
            ("incident.acknowledged", "aviary:main:01JD", &Value::Null, true),
            ("incident.acknowledged", "aviary:main:01JE", &alice, false),
            ("incident.acknowledged", "aviary:other:01JD", &alice, false),
            ("incident.acknowledged", "somebody else's", &alice, false),
            ("incident.triggered", "aviary:main:01JD", &alice, false),
        ];
        for (kind, key, agent, expected) in table {
            let body = event(kind, key, agent);
            let answer = post(&subscription, by_key("pdkey", &body), &body).await.unwrap();
            assert_eq!(answer["acknowledged"], expected, "{kind} {key}: {answer}");
        }
        let on_it: Vec<String> =
            subscription.desk.0.lock().unwrap().iter().map(|(_, by)| by.clone()).collect();
        assert_eq!(on_it, ["Alice by PagerDuty", "somebody by PagerDuty"]);
        // What PagerDuty sends when it tries a subscription has no incident.
        let ping =
            r#"{"event":{"id":"01","event_type":"pagey.ping","data":{"message":"Hello","type":"ping"}}}"#;
        assert_eq!(post(&subscription, by_key("pdkey", ping), ping).await.unwrap()["acknowledged"], false);
    }

    #[tokio::test]
    async fn what_nobody_signed_is_refused_and_counted() {
        let subscription = subscription(&["pdkey"]);
        let body = event("incident.acknowledged", "aviary:main:01JD", &Value::Null);
        for headers in [HeaderMap::new(), by_key("other", &body), by_key("pdkey", "another body")] {
            let refused = post(&subscription, headers, &body).await.unwrap_err();
            assert_eq!((refused.status(), refused.code()), (StatusCode::FORBIDDEN, "bad_signature"));
        }
        assert_eq!(subscription.forged(), 3);
        assert!(subscription.desk.0.lock().unwrap().is_empty());
        let large = "x".repeat(BODY_BYTES_MAX + 1);
        let refused = post(&subscription, by_key("pdkey", &large), &large).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let refused = post(&subscription, by_key("pdkey", "{}"), "{}").await.unwrap_err();
        assert_eq!(refused.code(), "bad_webhook");
    }
}
