//! Outlets of advice: who is told where a node is to be, until they took it.
//!
//! A webhook is sent a signed `node.advise`, by Standard Webhooks. Any other system is sent a request of which method, URL,
//! headers and body are the operator's, with the node's names in them. What is put into the URL is percent-encoded, and what is
//! put into a body of JSON is a JSON text: a node cannot be called something that makes it another request.

use std::fmt;

use aviary_core::Timestamp;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value as Fact, context};
use reqwest::{Method, Url, header};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::{
    address::{PublicOnly, System, private_literal},
    http::Http,
    page::rfc3339,
    receiver::{SetUpError, in_time},
    refusal::{Reason, Receipt, Refusal},
    secret::Secret,
    webhook::{SigningKey, Webhook},
};

/// The largest body.
const BODY_BYTES_MAX: usize = 20_000;

/// The steps that one template may take.
const STEPS_MAX: u64 = 20_000;

/// Where a node is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeAdvice {
    /// Of which service.
    pub service: String,
    /// Which node.
    pub node: String,
    /// `in`, `out` or `returning`.
    pub state: &'static str,
    /// The share of its weight that it is to get, in percent.
    pub weight: u8,
    /// Why, where it is not in.
    pub reason: Option<String>,
    /// What showed it.
    pub evidence: Value,
    /// Since when.
    pub since: Timestamp,
}

/// A request of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Such as `PUT`.
    pub method: String,
    /// A template.
    pub url: String,
    /// Each a name and a value; a value may be a secret, and none is a template.
    pub headers: Vec<(String, Secret)>,
    /// A template; what it is given is JSON texts, with their quotes.
    pub body: Option<String>,
    /// Answers of these statuses confirm it too, beside 2xx.
    pub statuses: Vec<u16>,
    /// Whether its address may be private or loopback.
    pub allow_private: bool,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutletKind {
    /// Told by a request of the operator's.
    Request(Request),
    /// Told by `node.advise`.
    Webhook(Webhook),
}

/// Tells one of them.
pub struct Outlet {
    kind: OutletKind,
    way: Way,
}

enum Way {
    Request { http: Http, templates: Box<Environment<'static>>, method: Method },
    Webhook { http: Http, key: SigningKey },
}

const URL: &str = "url";
const BODY: &str = "body";

impl NodeAdvice {
    /// What templates are tried with.
    fn sample() -> Self {
        Self {
            service: "ingest".to_owned(),
            node: "n1".to_owned(),
            state: "out",
            weight: 0,
            reason: Some("48 of 48 slots lost".to_owned()),
            evidence: Value::Null,
            since: Timestamp(0),
        }
    }
}

impl OutletKind {
    /// What it is called by people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Webhook(_) => "webhook",
        }
    }

    /// What can be known of it without a connection.
    ///
    /// # Errors
    /// Settings that no attempt could succeed with.
    pub fn check(&self) -> Result<(), SetUpError> {
        match self {
            Self::Request(request) => request.check().map(drop),
            Self::Webhook(webhook) => webhook.check().map(drop),
        }
    }

    fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Request(request) => request.headers.iter().map(|(_, value)| value).collect(),
            Self::Webhook(webhook) => vec![&webhook.secret],
        }
    }
}

impl Request {
    fn check(&self) -> Result<(Environment<'static>, Method), SetUpError> {
        let method = Method::from_bytes(self.method.as_bytes());
        let method = method.map_err(|_| SetUpError::Method(self.method.clone()))?;
        for (name, value) in &self.headers {
            let is_name = header::HeaderName::from_bytes(name.as_bytes()).is_ok();
            if !is_name || header::HeaderValue::from_str(value.expose()).is_err() {
                return Err(SetUpError::Header(name.clone()));
            }
        }
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_auto_escape_callback(|_| AutoEscape::None);
        templates.set_fuel(Some(STEPS_MAX));
        let sources = [(URL, Some(&self.url)), (BODY, self.body.as_ref())];
        for (name, source) in sources.into_iter().filter_map(|(name, source)| Some((name, source?))) {
            let added = templates.add_template_owned(name, source.clone());
            added.map_err(|error| SetUpError::RequestTemplate(name, error.to_string()))?;
        }
        let url = self
            .made(&templates, &NodeAdvice::sample())
            .map_err(|(name, why)| SetUpError::RequestTemplate(name, why))?
            .0;
        if let Some(address) = private_literal(&url).filter(|_| !self.allow_private) {
            return Err(SetUpError::PrivateAddress(address));
        }
        Ok((templates, method))
    }

    /// Whether it is another request for another service.
    pub fn tells_services_apart(&self) -> bool {
        let Ok((templates, _)) = self.check() else { return false };
        let of = |service: &str| {
            let advice = NodeAdvice { service: service.to_owned(), ..NodeAdvice::sample() };
            self.made(&templates, &advice).ok()
        };
        of("a") != of("b")
    }

    /// The URL and the body for `advice`, or which of the two cannot be made and why.
    fn made(
        &self,
        templates: &Environment<'static>,
        advice: &NodeAdvice,
    ) -> Result<(Url, Option<String>), (&'static str, String)> {
        let render = |name: &'static str, facts: Fact| {
            let rendered = templates.get_template(name).and_then(|template| template.render(facts));
            rendered.map_err(|error| (name, error.to_string()))
        };
        if let Some(dots) =
            [&advice.service, &advice.node].into_iter().find(|it| matches!(it.as_str(), "." | ".."))
        {
            return Err((URL, format!("`{dots}` in a path is another path")));
        }
        let url = render(URL, facts(advice, encoded))?;
        let url: Url =
            url.trim().parse().map_err(|error| (URL, format!("what it makes is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err((URL, "what it makes is no http:// or https:// URL".to_owned()));
        }
        let quoted = |text: &str| Value::from(text).to_string();
        let body = self.body.as_ref().map(|_| render(BODY, facts(advice, quoted))).transpose()?;
        if body.as_ref().is_some_and(|body| body.len() > BODY_BYTES_MAX) {
            return Err((BODY, format!("it has more than {BODY_BYTES_MAX} bytes")));
        }
        Ok((url, body))
    }

    async fn send(
        &self,
        (http, templates, method): (&Http, &Environment<'static>, &Method),
        advice: &NodeAdvice,
        now: Timestamp,
    ) -> Result<Receipt, Refusal> {
        let (url, body) = self.made(templates, advice).map_err(|(name, why)| {
            Refusal::never(Reason::Refused, format!("no {name} can be made: {why}"))
        })?;
        let mut request = http.request(method.clone(), url);
        for (name, value) in &self.headers {
            request = request.header(name, value.expose());
        }
        if let Some(body) = body {
            let is_typed = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
            let json = (!is_typed).then_some((header::CONTENT_TYPE, "application/json"));
            request = json.into_iter().fold(request, |request, (name, value)| request.header(name, value));
            request = request.body(body);
        }
        let answer = http.ask_for(request, &self.statuses, now).await?;
        Ok(Receipt::new(None, answer.said()))
    }
}

/// What templates are given, each text as `written`.
fn facts(advice: &NodeAdvice, written: impl Fn(&str) -> String) -> Fact {
    context! {
        service => written(&advice.service),
        node => written(&advice.node),
        state => written(advice.state),
        weight => advice.weight,
        is_in => advice.state == "in",
        reason => written(advice.reason.as_deref().unwrap_or_default()),
        since => written(&rfc3339(advice.since)),
    }
}

/// A text as a part of a URL's path or query.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

impl Outlet {
    /// Sets one up that trusts the certificates of `roots`, in DER, and no others.
    ///
    /// # Errors
    /// Settings that no attempt could succeed with.
    pub fn new(kind: OutletKind, roots: &[CertificateDer<'_>]) -> Result<Self, SetUpError> {
        let http = |allow_private: bool| Http::new(roots, (!allow_private).then(|| PublicOnly::new(System)));
        let way = match &kind {
            OutletKind::Request(request) => {
                let (templates, method) = request.check()?;
                Way::Request { http: http(request.allow_private)?, templates: Box::new(templates), method }
            }
            OutletKind::Webhook(webhook) => {
                Way::Webhook { key: webhook.check()?, http: http(webhook.allow_private)? }
            }
        };
        Ok(Self { kind, way })
    }

    /// What it is.
    pub const fn kind(&self) -> &OutletKind {
        &self.kind
    }

    /// Tells it, once, within [`crate::ATTEMPT_TIMEOUT`].
    ///
    /// # Errors
    /// A refusal that says whether the same may be taken another time.
    pub async fn send(&self, advice: &NodeAdvice, now: Timestamp) -> Result<Receipt, Refusal> {
        let who = format!("rotation {} for {}/{}", self.kind.name(), advice.service, advice.node);
        in_time(&who, &self.kind.secrets(), Box::pin(self.tell(advice, now))).await
    }

    async fn tell(&self, advice: &NodeAdvice, now: Timestamp) -> Result<Receipt, Refusal> {
        match (&self.kind, &self.way) {
            (OutletKind::Request(request), Way::Request { http, templates, method }) => {
                request.send((http, templates, method), advice, now).await
            }
            (OutletKind::Webhook(webhook), Way::Webhook { http, key }) => {
                let id =
                    format!("{}-{}-{}-{}", advice.service, advice.node, advice.state, advice.since.second());
                let body = json!({"type": "node.advise", "timestamp": rfc3339(advice.since), "data": {
                    "service": advice.service, "node": advice.node, "state": advice.state,
                    "weight": advice.weight, "reason": advice.reason, "evidence": advice.evidence,
                }});
                webhook.send_signed(http, key, &id, body.to_string().into_bytes(), now).await
            }
            (kind, _) => {
                Err(Refusal::never(Reason::Refused, format!("it was not set up as a {}", kind.name())))
            }
        }
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outlet").field(&self.kind.name()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, body: Option<&str>) -> Request {
        Request {
            method: "PUT".to_owned(),
            url: url.to_owned(),
            headers: vec![("authorization".to_owned(), Secret::new("Bearer hunter2"))],
            body: body.map(str::to_owned),
            statuses: Vec::new(),
            allow_private: false,
        }
    }

    fn advice(node: &str) -> NodeAdvice {
        NodeAdvice {
            service: "ingest".to_owned(),
            node: node.to_owned(),
            state: "out",
            weight: 0,
            reason: Some("it is \"bad\"".to_owned()),
            evidence: Value::Null,
            since: Timestamp(0),
        }
    }

    #[test]
    fn no_name_of_a_node_makes_it_another_request() {
        let request = request(
            "https://lb.example.net/nodes/{{ node }}",
            Some("{\"node\": {{ node }}, \"why\": {{ reason }}}"),
        );
        let (templates, _) = request.check().unwrap();
        let made = |node: &str| request.made(&templates, &advice(node));
        let table = [
            ("n1", "https://lb.example.net/nodes/n1"),
            ("a/../../admin?x=1#y", "https://lb.example.net/nodes/a%2F..%2F..%2Fadmin%3Fx%3D1%23y"),
            ("n 1\u{e9}", "https://lb.example.net/nodes/n%201%C3%A9"),
        ];
        for (node, url) in table {
            let (made, body) = made(node).unwrap();
            assert_eq!(made.as_str(), url);
            let body: Value = serde_json::from_str(&body.unwrap()).unwrap();
            assert_eq!(body, json!({"node": node, "why": "it is \"bad\""}));
        }
        assert!(made("..").is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before() {
        let table = [
            ("https://lb.example.net/{{ nod }}", None),
            ("https://lb.example.net/{{ node", None),
            ("ftp://lb.example.net/{{ node }}", None),
            ("{{ node }}", None),
            ("https://10.0.0.1/{{ node }}", None),
            ("https://lb.example.net/", Some("{{ weigth }}")),
        ];
        for (url, body) in table {
            assert!(request(url, body).check().is_err(), "{url}");
        }
        assert!(
            Request { method: "P U T".to_owned(), ..request("https://a.example/", None) }.check().is_err()
        );
        let bad = [("a b".to_owned(), Secret::new("x"))];
        assert!(Request { headers: bad.to_vec(), ..request("https://a.example/", None) }.check().is_err());
        assert!(!format!("{:?}", request("https://a.example/", None)).contains("hunter2"));
    }
}
