//! Handing reports to a collector over HTTP, and knowing when to try again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Write as _,
    sync::Arc,
    time::Duration,
};

use aviary_core::Second;
use aviary_probe::TlsError;
use aviary_wire::{
    clock::{self, ClockOffset},
    report::{REPORT_BYTES_MAX, Report},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use reqwest::{StatusCode, Url, header};
use serde::Deserialize;

use crate::{
    lease::{self, Advice},
    versions::{self, ToldVersions},
};

/// A push that takes longer is tried again: the same report twice says the same.
pub(crate) const PUSH_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) const RETRY_MIN: Duration = Duration::from_millis(250);
/// With [`PUSH_TIMEOUT`] before it, a collector that is merely gone is tried at least every five seconds.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A collector that says when to come back is believed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// A collector that does not take our version of reports is asked again so late, unless it says when: somebody has to
/// upgrade something first.
const VERSION_RETRY: Duration = Duration::from_secs(30);

/// Smaller bodies are not worth compressing.
const COMPRESSED_FROM: usize = 4_096;

/// What our collectors call a report that they will never take; any other refusal may be a proxy's.
const FINAL_CODES: [&str; 3] = ["bad_report", "clock_ahead", "report_too_large"];

/// What they call a report of a version that they do not take: not before they, or we, were upgraded.
const VERSION_CODE: &str = "unsupported_version";

/// A bearer token. Shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// Wraps a token.
    pub fn new(token: &str) -> Self {
        Self(token.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A certificate with its key, in PEM, that the agent shows to collectors. The key is shown to nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity(Arc<[u8]>);

impl ClientIdentity {
    /// Wraps a certificate, with those of its issuers after it, and its key.
    pub fn from_pem(certificate: &str, key: &str) -> Self {
        Self(format!("{certificate}\n{key}").into_bytes().into())
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(..)")
    }
}

/// Where reports go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// The base URLs of collectors, tried in turn.
    pub collectors: Vec<String>,
    /// The bearer token.
    pub token: Option<Token>,
    /// PEM certificates to trust beside the system's.
    pub ca: Option<Vec<u8>>,
    /// What the agent shows to collectors that ask who it is.
    pub identity: Option<ClientIdentity>,
}

/// Why reports cannot be pushed as configured.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// No collector.
    #[error("no collector is named: add `collector` to [agent], or a [collector] section to the same file")]
    NoCollector,
    /// Not a URL.
    #[error("collector `{0}` is no URL; write such as https://collector.example.net:8610")]
    Url(String),
    /// A token that no header can carry.
    #[error("the token has characters that an HTTP header cannot carry")]
    Token,
    /// Certificates to trust that are none.
    #[error("agent.ca: {0}")]
    Certificates(#[from] TlsError),
    /// A certificate to show that is none, or does not fit its key.
    #[error(
        "agent.certificate and agent.key: {0}; both must be PEM, and the key the one of the first certificate"
    )]
    Identity(reqwest::Error),
    /// The client could not be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// What talks to collectors as `push` has it: with its token, its roots of trust and its certificate.
///
/// # Errors
/// A token, certificate or key that cannot be used.
pub fn http_client(push: &Push) -> Result<reqwest::Client, PushError> {
    let mut headers = header::HeaderMap::new();
    if let Some(Token(token)) = &push.token {
        let mut bearer =
            header::HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| PushError::Token)?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    let roots = aviary_probe::trusted_roots(push.ca.as_deref().as_slice())?;
    let roots = roots.iter().map(|der| reqwest::Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
    let mut client = reqwest::Client::builder()
        .tls_certs_only(roots)
        .default_headers(headers)
        .timeout(PUSH_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    if let Some(ClientIdentity(pem)) = &push.identity {
        client = client.identity(reqwest::Identity::from_pem(pem).map_err(PushError::Identity)?);
    }
    Ok(client.build()?)
}

/// A report as it is pushed.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) report: Bytes,
    pub(crate) roster_id: u64,
    /// The roster's own bytes, where they are known.
    pub(crate) roster: Option<Bytes>,
}

/// What came of a push.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// A collector has it. With it comes the collector's clock, in microseconds since the Unix epoch, if it told.
    Taken {
        now_us: Option<u64>,
        /// The keys of alerts that it ends from now on.
        adopted: Vec<String>,
        /// What it advises for the agent's own node, by service.
        rotation: BTreeMap<String, Advice>,
        /// Which versions of the services it has, if it told.
        versions: Option<ToldVersions>,
    },
    /// It is to be pushed again at once.
    Again,
    /// No collector will ever take it.
    Refused(String),
    /// It is to be pushed again after so long.
    Later(Duration),
    /// The same, and it was not even looked at.
    Gone(Duration),
}

/// Which of the collectors did not answer, of those that were asked since one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    None,
    Some,
    Each,
}

/// What a collector answered.
enum Answer {
    Taken(Receipt),
    /// It lacks the roster.
    Stranger,
    /// It does not understand compressed bodies.
    Plain,
    Refused(String),
    Later {
        reason: String,
        after: Option<Duration>,
        /// A collector said so, and nobody in between.
        is_collector: bool,
    },
    /// Nobody is there.
    Gone(String),
}

/// Pushes reports, one at a time, to the first collector that takes them.
pub(crate) struct Pusher {
    client: reqwest::Client,
    urls: Vec<Url>,
    current: usize,
    /// The rosters that the current collector is known to have.
    introduced: BTreeSet<u64>,
    compresses: bool,
    /// How far our clock was ahead of the current collector's when it last took a push.
    measured: Option<ClockOffset>,
    /// Pushes that failed in a row.
    failures: u32,
    /// Pushes in a row that no collector answered.
    unanswered: usize,
    last_error: Option<String>,
    /// When the token ends that the last push was taken under, in Unix seconds.
    token_expires: Option<u64>,
    /// Mixed into pauses, other for each agent.
    boot: u64,
}

impl Pusher {
    pub(crate) fn new(push: &Push, boot: u64) -> Result<Self, PushError> {
        let url = |base: &String| {
            let base = if base.ends_with('/') { base.clone() } else { format!("{base}/") };
            Url::parse(&base).and_then(|url| url.join("api/v1/reports")).map_err(|_| PushError::Url(base))
        };
        let urls = push.collectors.iter().map(url).collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(PushError::NoCollector);
        }
        Ok(Self {
            client: http_client(push)?,
            urls,
            current: 0,
            introduced: BTreeSet::new(),
            compresses: true,
            measured: None,
            failures: 0,
            unanswered: 0,
            last_error: None,
            token_expires: None,
            boot,
        })
    }

    /// The collector that is tried next.
    pub(crate) fn collector(&self) -> &Url {
        &self.urls[self.current]
    }

    /// Pushes that failed in a row.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Why the last push failed, while pushes fail.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// When the token ends that the last push was taken under, as the collector said.
    pub(crate) fn token_expires(&self) -> Option<Second> {
        self.token_expires.map(Second)
    }

    /// Which of the collectors did not answer, of those that were asked since one did.
    pub(crate) const fn unanswered(&self) -> Unanswered {
        match self.unanswered {
            0 => Unanswered::None,
            count if count < self.urls.len() => Unanswered::Some,
            _ => Unanswered::Each,
        }
    }

    /// Pushes a report.
    pub(crate) async fn push(&mut self, body: &Body) -> Pushed {
        let introduces = !self.introduced.contains(&body.roster_id);
        let answer = match (introduces, &body.roster) {
            (true, Some(roster)) => self.introduce(roster, &body.report).await,
            _ => self.post(body.report.clone()).await,
        };
        match answer {
            Answer::Gone(_) | Answer::Later { is_collector: false, .. } => self.unanswered += 1,
            _ => self.unanswered = 0,
        }
        match answer {
            Answer::Taken(Receipt { now_us, adopted, token_expires, rotation, services, .. }) => {
                self.token_expires = token_expires;
                if self.failures > 0 {
                    tracing::info!(collector = %self.collector(), "A collector takes reports again.");
                }
                self.failures = 0;
                self.last_error = None;
                self.introduced.insert(body.roster_id);
                Pushed::Taken { now_us, adopted, rotation, versions: services }
            }
            Answer::Stranger if !introduces => {
                self.introduced.remove(&body.roster_id);
                Pushed::Again
            }
            Answer::Stranger if body.roster.is_none() => {
                Pushed::Refused("its roster is no longer known here".to_owned())
            }
            Answer::Stranger => Pushed::Later(self.back_off("it does not accept our roster", None)),
            Answer::Plain => {
                self.compresses = false;
                Pushed::Again
            }
            Answer::Refused(reason) => Pushed::Refused(reason),
            Answer::Later { reason, after, .. } => Pushed::Later(self.back_off(&reason, after)),
            Answer::Gone(reason) => Pushed::Gone(self.back_off(&reason, None)),
        }
    }

    /// Tells the current collector, from the next push on, how far our clock is ahead of its.
    pub(crate) const fn measured(&mut self, measured: ClockOffset) {
        self.measured = Some(measured);
    }

    /// Leaves the current collector alone for the next.
    pub(crate) fn turn(&mut self) {
        self.current = (self.current + 1) % self.urls.len();
        self.introduced.clear();
        self.compresses = true;
        self.measured = None;
    }

    /// Turns to the next collector, and returns how long to wait before: not at all, until each has failed once.
    fn back_off(&mut self, reason: &str, after: Option<Duration>) -> Duration {
        let collector = self.collector();
        if self.failures == 0 {
            tracing::warn!(%collector, reason, "The collector does not take reports; they wait.");
        } else {
            tracing::debug!(%collector, reason, failures = self.failures, "The collector still does not take reports.");
        }
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(reason.to_owned());
        self.turn();
        let rounds = self.failures as usize / self.urls.len();
        if !(self.failures as usize).is_multiple_of(self.urls.len()) {
            return Duration::ZERO;
        }
        if let Some(after) = after {
            return after.clamp(RETRY_MIN, RETRY_AFTER_MAX);
        }
        let ceiling = RETRY_MIN.saturating_mul(1 << rounds.min(10)).min(RETRY_MAX);
        ceiling.mul_f64(0.5 + self.jitter() / 2.0)
    }

    /// From 0 to 1, other for each agent and attempt: a fleet that lost its collector at once comes back spread out.
    fn jitter(&self) -> f64 {
        let mixed = (self.boot ^ u64::from(self.failures)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Pushes a report with its roster, or after it where both together are more than a collector takes.
    async fn introduce(&self, roster: &Bytes, report: &Bytes) -> Answer {
        let together = |report: &[u8]| Bytes::from([roster, report].concat());
        if roster.len() + report.len() <= REPORT_BYTES_MAX {
            return self.post(together(report)).await;
        }
        let Ok(told) = Report::decode(report) else {
            return self.post(report.clone()).await;
        };
        let nothing = Report {
            roster: None,
            slots: Vec::new(),
            gaps: Vec::new(),
            timings: Vec::new(),
            events: Vec::new(),
            certificates: Vec::new(),
            self_suspect: Vec::new(),
            ..told
        };
        match self.post(together(&nothing.encode())).await {
            Answer::Taken(_) => self.post(report.clone()).await,
            other => other,
        }
    }

    async fn post(&self, body: Bytes) -> Answer {
        let request =
            self.client.post(self.collector().clone()).header(header::CONTENT_TYPE, "application/x-protobuf");
        let request = match self.measured {
            Some(measured) => request.header(clock::HEADER, measured.to_string()),
            None => request,
        };
        let compressed =
            if self.compresses && body.len() >= COMPRESSED_FROM { compress(&body) } else { None };
        let is_compressed = compressed.is_some();
        let request = match compressed {
            Some(compressed) => request.header(header::CONTENT_ENCODING, "gzip").body(compressed),
            None => request.body(body),
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Answer::Gone(innermost(&error)),
            Err(error) => {
                return Answer::Later { reason: innermost(&error), after: None, is_collector: false };
            }
        };
        let status = response.status();
        if status.is_success() {
            // A portal on the way says 200 to everything: only a collector tells how many slots it took.
            return match response.json::<Receipt>().await {
                Ok(receipt) => Answer::Taken(receipt),
                Err(_) => {
                    let reason = format!("{status}, but not from a collector");
                    Answer::Later { reason, after: None, is_collector: false }
                }
            };
        }
        let after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let RefusalError { code, message } =
            response.json::<Refusal>().await.map(|refusal| refusal.error).unwrap_or_default();
        let reason = format!("{status} {message}");
        match code.as_str() {
            "unknown_roster" => Answer::Stranger,
            // Whatever it calls that, and whoever on the way says so; of a plain body it would be no reason.
            _ if status == StatusCode::UNSUPPORTED_MEDIA_TYPE && is_compressed => Answer::Plain,
            code if FINAL_CODES.contains(&code) => Answer::Refused(reason),
            VERSION_CODE => {
                let after = Some(after.map_or(VERSION_RETRY, Duration::from_secs));
                Answer::Later { reason, after, is_collector: true }
            }
            // A token can be put right without a restart of this agent, so 401 and 403 wait like everything else.
            code => {
                let after = after.map(Duration::from_secs);
                Answer::Later { reason, after, is_collector: !code.is_empty() }
            }
        }
    }
}

/// The body in gzip; `None` if it cannot be compressed.
fn compress(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[derive(Deserialize)]
struct Receipt {
    /// How many slots it took: what tells a collector from a portal.
    #[serde(rename = "slots")]
    _slots: u64,
    #[serde(default)]
    now_us: Option<u64>,
    #[serde(default)]
    adopted: Vec<String>,
    #[serde(default)]
    token_expires: Option<u64>,
    #[serde(default, deserialize_with = "lease::advice")]
    rotation: BTreeMap<String, Advice>,
    #[serde(default, deserialize_with = "versions::told")]
    services: Option<ToldVersions>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: RefusalError,
}

#[derive(Default, Deserialize)]
struct RefusalError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What went wrong at the bottom: reqwest's own words only say that it did.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pusher(boot: u64, collectors: &[&str]) -> Result<Pusher, PushError> {
        aviary_probe::install_crypto_provider();
        let collectors = collectors.iter().map(|&url| url.to_owned()).collect();
        let token = Some(Token::new("a-token-of-some-length"));
        Pusher::new(&Push { collectors, token, ..Push::default() }, boot)
    }

    #[test]
    fn a_collector_that_is_gone_is_tried_at_least_every_five_seconds() {
        let mut firsts = Vec::new();
        for boot in 0..100 {
            let mut pusher = pusher(boot, &["http://127.0.0.1:1"]).unwrap();
            let pauses: Vec<_> = (0..20).map(|_| pusher.back_off("gone", None)).collect();
            assert!(pauses.iter().all(|pause| *pause + PUSH_TIMEOUT <= Duration::from_secs(5)), "{pauses:?}");
            assert!(pauses[0] < Duration::from_secs(1) && pauses[19] >= Duration::from_secs(1), "{pauses:?}");
            firsts.push(pauses[3]);
        }
        firsts.sort();
        firsts.dedup();
        assert!(firsts.len() > 90, "a fleet comes back spread out");
    }

    #[test]
    fn each_collector_is_tried_before_any_pause_and_one_that_says_when_is_believed() {
        let mut pusher = pusher(1, &["http://127.0.0.1:1", "http://127.0.0.1:2"]).unwrap();
        let say = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(pusher.back_off("busy", say(30)), Duration::ZERO);
        assert_eq!(pusher.collector().as_str(), "http://127.0.0.1:2/api/v1/reports");
        assert_eq!(pusher.back_off("busy", say(30)), Duration::from_secs(30));
        assert_eq!(pusher.collector().as_str(), "http://127.0.0.1:1/api/v1/reports");
        pusher.back_off("busy", None);
        assert_eq!(pusher.back_off("busy", say(86_400)), RETRY_AFTER_MAX);
        pusher.back_off("busy", None);
        assert_eq!(pusher.back_off("busy", say(0)), RETRY_MIN, "no hot loop");
    }

    #[test]
    fn what_cannot_be_pushed_to_is_said_at_start() {
        assert!(matches!(pusher(1, &[]), Err(PushError::NoCollector)));
        assert!(matches!(pusher(1, &["not a url"]), Err(PushError::Url(_))));
        assert!(!format!("{:?}", Token::new("a-token-of-some-length")).contains("length"));
    }

    #[test]
    fn a_key_is_shown_to_nobody() {
        let key = ClientIdentity::from_pem("certificate", "-----BEGIN PRIVATE KEY-----");
        assert_eq!(format!("{key:?}"), "ClientIdentity(..)");
        aviary_probe::install_crypto_provider();
        let push = Push {
            collectors: vec!["https://127.0.0.1:1".to_owned()],
            identity: Some(key),
            ..Push::default()
        };
        let error = Pusher::new(&push, 1).err().unwrap().to_string();
        assert!(error.starts_with("agent.certificate and agent.key: "), "{error}");
    }
}
