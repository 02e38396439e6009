//! Pushing reports to a collector, again and again until it has taken them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use aviary_core::{Clock, Micros};
use aviary_probe::TlsError;
use aviary_wire::report::{GAPS_MAX, Report, Roster, TIMINGS_MAX};
use bytes::Bytes;
use reqwest::{Url, header};
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::batch::{Batch, Taken};

/// Reports leave so often when nothing is urgent.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Two reports are at least so far apart, so that a thousand series lost at once are a few reports and not a thousand.
const REPORT_GAP: Duration = Duration::from_millis(20);

/// A push that takes longer is tried again: the same report twice says the same.
const PUSH_TIMEOUT: Duration = Duration::from_secs(3);

const RETRY_MIN: Duration = Duration::from_millis(250);
/// With [`PUSH_TIMEOUT`] before it, a collector that is merely gone is tried at least every five seconds.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A collector that says when to come back is believed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// While no collector takes reports, one is made so often: each second would only repeat the same few bytes of head.
const AWAY_INTERVAL: Duration = Duration::from_secs(5);

/// How many bytes of reports wait for a collector at most; the oldest are dropped beyond, and counted.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// One report carries at most so many slots; more are split.
const SLOTS_PER_REPORT: usize = 65_536;

/// How long the last reports are tried for before the agent ends without having delivered them.
const FAREWELL: Duration = Duration::from_secs(4);

/// How long one push of the farewell may take, so that a collector that hangs leaves time for another.
const FAREWELL_PUSH: Duration = Duration::from_secs(1);

/// A trouble that lasts is told again so often.
const REMIND: Duration = Duration::from_secs(60);

/// What our collectors call a report that they will never take; any other refusal may be a proxy's.
const FINAL_CODES: [&str; 3] = ["bad_report", "clock_ahead", "report_too_large"];

/// A bearer token. Shown to nobody.
#[derive(Clone)]
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

/// Where reports go.
#[derive(Clone, Debug)]
pub struct Push {
    /// The base URLs of collectors, tried in turn.
    pub collectors: Vec<String>,
    /// The bearer token.
    pub token: Option<Token>,
    /// PEM certificates to trust beside the system's.
    pub ca: Option<Vec<u8>>,
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
    /// The client could not be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// Pushes reports, one at a time, to the first collector that takes them: the newest first, since they say how it is
/// now. To the collector the order makes no difference.
pub struct Shipper {
    client: reqwest::Client,
    urls: Vec<Url>,
    current: usize,
    /// The collector is not known to have the roster.
    owes_roster: bool,
    roster_id: u64,
    roster: Bytes,
    configuration: String,
    boot: u64,
    sequence: u64,
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    dropped: u64,
    /// Pushes that failed in a row.
    failures: u32,
    reminded: Option<Micros>,
}

struct Waiting {
    body: Bytes,
    slots: u64,
}

/// What a collector answered.
enum Answer {
    Taken,
    /// It lacks the roster.
    Stranger,
    /// It will never take this report.
    Refused(String),
    /// It could not take it now.
    Later {
        reason: String,
        after: Option<Duration>,
    },
}

impl Shipper {
    /// A shipper of reports on the series of `roster`.
    pub fn new(push: &Push, roster: &Roster, configuration: String, boot: u64) -> Result<Self, PushError> {
        let url = |base: &String| {
            let base = if base.ends_with('/') { base.clone() } else { format!("{base}/") };
            Url::parse(&base).and_then(|url| url.join("api/v1/reports")).map_err(|_| PushError::Url(base))
        };
        let urls = push.collectors.iter().map(url).collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(PushError::NoCollector);
        }
        let mut headers = header::HeaderMap::new();
        if let Some(Token(token)) = &push.token {
            let mut bearer =
                header::HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| PushError::Token)?;
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
        let roots = aviary_probe::trusted_roots(push.ca.as_deref().as_slice())?;
        let roots =
            roots.iter().map(|der| reqwest::Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
        let client = reqwest::Client::builder()
            .tls_certs_only(roots)
            .default_headers(headers)
            .timeout(PUSH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        Ok(Self {
            client: client.build()?,
            urls,
            current: 0,
            owes_roster: true,
            roster_id: roster.id(),
            roster: roster.encode_part().into(),
            configuration,
            boot,
            sequence: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            dropped: 0,
            failures: 0,
            reminded: None,
        })
    }

    /// Ships what `batch` gathers until it is finished and everything was taken, or nobody takes it any more; returns
    /// how many slots were not taken in the end.
    pub async fn run<C: Clock>(mut self, batch: Arc<Batch>, clock: C) -> u64 {
        let mut second = interval(REPORT_INTERVAL);
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = batch.urgent() => sleep(REPORT_GAP).await,
                _ = second.tick() => {}
            }
            if self.gather(&batch, &clock) {
                return self.farewell().await;
            }
            let mut gathered = clock.monotonic();
            while !self.waiting.is_empty() {
                // A push that hangs does not hold up the end: what it carries is pushed again, which says the same.
                let mut pause = tokio::select! {
                    biased;
                    pause = self.push_newest() => pause.unwrap_or_default(),
                    () = batch.until_finished() => Duration::ZERO,
                };
                self.remind(&clock);
                let since = |gathered| clock.monotonic().since(gathered);
                if pause.is_zero()
                    && since(gathered) < REPORT_INTERVAL.as_micros() as u64
                    && !batch.is_finished()
                {
                    continue;
                }
                // Slots go on closing meanwhile: fresh ones are not to wait for the backlog, nor to make a report each
                // while nobody takes any. A long pause is no reason for the batch to overflow.
                loop {
                    let is_away = self.failures > 0;
                    if !is_away || since(gathered) >= AWAY_INTERVAL.as_micros() as u64 {
                        gathered = clock.monotonic();
                        if self.gather(&batch, &clock) {
                            return self.farewell().await;
                        }
                    }
                    let nap = pause.min(AWAY_INTERVAL);
                    tokio::select! {
                        () = sleep(nap) => pause -= nap,
                        () = batch.until_finished() => {}
                    }
                    if batch.is_finished() {
                        self.gather(&batch, &clock);
                        return self.farewell().await;
                    }
                    if pause.is_zero() {
                        break;
                    }
                }
            }
        }
    }

    /// Tries to get everything across, and gives up after a while; returns how many slots were not taken.
    async fn farewell(&mut self) -> u64 {
        let all = async {
            while !self.waiting.is_empty() {
                match timeout(FAREWELL_PUSH, self.push_newest()).await {
                    Ok(None) => {}
                    // It has turned to the next collector already, unless this one only asks for the roster.
                    Ok(Some(pause)) => sleep(pause.min(RETRY_MIN)).await,
                    Err(_) => {
                        self.current = (self.current + 1) % self.urls.len();
                        self.owes_roster = true;
                    }
                }
            }
        };
        // Whether all was taken is seen below.
        _ = timeout(FAREWELL, all).await;
        self.waiting.iter().map(|waiting| waiting.slots).sum()
    }

    /// Makes reports of what waits in the batch, and returns whether that was the last.
    fn gather<C: Clock>(&mut self, batch: &Batch, clock: &C) -> bool {
        let Taken { slots, gaps, timings, epoch, dropped, finished } = batch.take();
        let (mut slots, mut gaps, mut timings) = (slots.into_iter(), gaps.into_iter(), timings.into_iter());
        loop {
            let slots: Vec<_> = slots.by_ref().take(SLOTS_PER_REPORT).collect();
            let gaps: Vec<_> = gaps.by_ref().take(GAPS_MAX).collect();
            let timings: Vec<_> = timings.by_ref().take(TIMINGS_MAX).collect();
            let is_last =
                slots.len() < SLOTS_PER_REPORT && gaps.len() < GAPS_MAX && timings.len() < TIMINGS_MAX;
            let skipped: u64 = gaps.iter().map(|gap| u64::from(gap.count) * gap.span.seconds()).sum();
            let told = slots.len() as u64 + skipped;
            let report = Report {
                boot: self.boot,
                sequence: self.sequence,
                epoch,
                wall: clock.wall(),
                monotonic: clock.monotonic(),
                configuration: self.configuration.clone(),
                dropped: self.dropped + dropped,
                roster_id: self.roster_id,
                roster: None,
                slots,
                gaps,
                timings,
                ..Report::default()
            };
            self.sequence += 1;
            self.enqueue(Waiting { body: report.encode().into(), slots: told });
            if is_last {
                return finished;
            }
        }
    }

    fn enqueue(&mut self, report: Waiting) {
        self.waiting_bytes += report.body.len();
        self.waiting.push_back(report);
        while self.waiting_bytes > WAITING_BYTES_MAX {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= oldest.body.len();
            self.dropped += oldest.slots;
            tracing::error!(
                slots = oldest.slots,
                "No collector took reports for so long that the oldest was dropped."
            );
        }
    }

    /// Pushes the newest report, and returns how long to wait if it was not taken.
    async fn push_newest(&mut self) -> Option<Duration> {
        let report = self.waiting.back()?;
        let body = if self.owes_roster {
            Bytes::from([&self.roster[..], &report.body[..]].concat())
        } else {
            report.body.clone()
        };
        match self.push(body).await {
            Answer::Taken => {
                if self.failures > 0 {
                    let collector = &self.urls[self.current];
                    tracing::info!(%collector, waiting = self.waiting.len() - 1, "A collector takes reports again.");
                }
                self.failures = 0;
                self.reminded = None;
                self.owes_roster = false;
                self.pop();
                None
            }
            Answer::Stranger if !self.owes_roster => {
                self.owes_roster = true;
                Some(Duration::ZERO)
            }
            Answer::Stranger => Some(self.back_off("it does not accept our roster", None)),
            Answer::Refused(reason) => {
                let slots = self.pop();
                self.dropped += slots;
                tracing::error!(
                    reason,
                    slots,
                    "The collector refused a report for good; its slots stay unknown."
                );
                None
            }
            Answer::Later { reason, after } => Some(self.back_off(&reason, after)),
        }
    }

    fn pop(&mut self) -> u64 {
        let Some(report) = self.waiting.pop_back() else { return 0 };
        self.waiting_bytes -= report.body.len();
        report.slots
    }

    /// Turns to the next collector, and returns how long to wait before: not at all, until each has failed once.
    fn back_off(&mut self, reason: &str, after: Option<Duration>) -> Duration {
        let collector = &self.urls[self.current];
        if self.failures == 0 {
            tracing::warn!(%collector, reason, "The collector does not take reports; they wait.");
        } else {
            tracing::debug!(%collector, reason, failures = self.failures, "The collector still does not take reports.");
        }
        self.failures = self.failures.saturating_add(1);
        self.current = (self.current + 1) % self.urls.len();
        self.owes_roster = true;
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

    /// Says again that nobody takes reports, so that a log that was rotated still shows it.
    fn remind<C: Clock>(&mut self, clock: &C) {
        let now = clock.monotonic();
        if self.failures == 0 {
            return;
        }
        let last = *self.reminded.get_or_insert(now);
        if now.since(last) >= REMIND.as_micros() as u64 {
            self.reminded = Some(now);
            let slots: u64 = self.waiting.iter().map(|waiting| waiting.slots).sum();
            let bytes = self.waiting_bytes;
            tracing::warn!(
                slots,
                bytes,
                failures = self.failures,
                "No collector takes reports; they still wait."
            );
        }
    }

    /// From 0 to 1, other for each agent and attempt: a fleet that lost its collector at once comes back spread out.
    fn jitter(&self) -> f64 {
        let mixed = (self.boot ^ u64::from(self.failures)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    async fn push(&self, body: Bytes) -> Answer {
        let request = self.client.post(self.urls[self.current].clone());
        let sent = request.header(header::CONTENT_TYPE, "application/x-protobuf").body(body).send().await;
        let response = match sent {
            Ok(response) => response,
            Err(error) => return Answer::Later { reason: innermost(&error), after: None },
        };
        let status = response.status();
        if status.is_success() {
            // A portal on the way says 200 to everything: only a collector tells how many slots it took.
            let receipt = response.json::<BTreeMap<String, IgnoredAny>>().await.unwrap_or_default();
            return if receipt.contains_key("slots") {
                Answer::Taken
            } else {
                Answer::Later { reason: format!("{status}, but not from a collector"), after: None }
            };
        }
        let after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let RefusalError { code, message } =
            response.json::<Refusal>().await.map(|refusal| refusal.error).unwrap_or_default();
        let reason = format!("{status} {message}");
        match code.as_str() {
            "unknown_roster" => Answer::Stranger,
            code if FINAL_CODES.contains(&code) => Answer::Refused(reason),
            // A token can be put right without a restart of this agent, so 401 and 403 wait like everything else.
            _ => Answer::Later { reason, after: after.map(Duration::from_secs) },
        }
    }
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
    use aviary_core::{Second, Vantage, VantageKind};

    use super::*;

    fn shipper(boot: u64, collectors: &[&str]) -> Result<Shipper, PushError> {
        aviary_probe::install_crypto_provider();
        let vantage = Vantage {
            kind: VantageKind::External,
            region: "eu".to_owned(),
            zone: None,
            network: None,
            node: "n".to_owned(),
        };
        let collectors = collectors.iter().map(|&url| url.to_owned()).collect();
        let push = Push { collectors, token: Some(Token::new("a-token-of-some-length")), ca: None };
        Shipper::new(
            &push,
            &Roster { vantage, since: Second(0), series: Vec::new() },
            "test".to_owned(),
            boot,
        )
    }

    #[test]
    fn a_collector_that_is_gone_is_tried_at_least_every_five_seconds() {
        let mut firsts = Vec::new();
        for boot in 0..100 {
            let mut shipper = shipper(boot, &["http://127.0.0.1:1"]).unwrap();
            let pauses: Vec<_> = (0..20).map(|_| shipper.back_off("gone", None)).collect();
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
        let mut shipper = shipper(1, &["http://127.0.0.1:1", "http://127.0.0.1:2"]).unwrap();
        let say = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(shipper.back_off("busy", say(30)), Duration::ZERO);
        assert_eq!(shipper.urls[shipper.current].as_str(), "http://127.0.0.1:2/api/v1/reports");
        assert_eq!(shipper.back_off("busy", say(30)), Duration::from_secs(30));
        assert_eq!(shipper.urls[shipper.current].as_str(), "http://127.0.0.1:1/api/v1/reports");
        shipper.back_off("busy", None);
        assert_eq!(shipper.back_off("busy", say(86_400)), RETRY_AFTER_MAX);
        shipper.back_off("busy", None);
        assert_eq!(shipper.back_off("busy", say(0)), RETRY_MIN, "no hot loop");
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_is_dropped() {
        let mut shipper = shipper(1, &["http://127.0.0.1:1"]).unwrap();
        let report = || Waiting { body: Bytes::from(vec![0; 1 << 20]), slots: 1 };
        (0..40).for_each(|_| shipper.enqueue(report()));
        assert_eq!((shipper.waiting.len(), shipper.dropped), (32, 8));
        assert!(shipper.waiting_bytes <= WAITING_BYTES_MAX);
    }

    #[test]
    fn what_cannot_be_pushed_to_is_said_at_start() {
        assert!(matches!(shipper(1, &[]), Err(PushError::NoCollector)));
        assert!(matches!(shipper(1, &["not a url"]), Err(PushError::Url(_))));
        assert!(!format!("{:?}", Token::new("a-token-of-some-length")).contains("length"));
    }
}
