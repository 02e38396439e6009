//! The dead man's switch: somebody outside who is told all the time that we watch, and pages when that stops.
//!
//! Whoever calls this does so at the end of a loop that proved itself, never from a timer.

use std::{pin::Pin, time::Duration};

use reqwest::Url;
use rustls_pki_types::CertificateDer;

use crate::{
    Alertmanager, Receipt, Refusal, Secret, SetUpError,
    http::Http,
    page::Attempt,
    receiver::{http, in_time},
};

/// Who is told that we watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchdogKind {
    /// By its alert `Watchdog`, which always fires.
    Alertmanager(Alertmanager),
    /// A check of healthchecks.io, or whoever takes the same ping: its URL, which only we may know.
    Ping(Secret),
}

type Telling<'a> = Pin<Box<dyn Future<Output = Result<Receipt, Refusal>> + Send + 'a>>;

/// Tells somebody that we watch.
pub struct Watchdog {
    collector: String,
    kind: WatchdogKind,
    http: Http,
}

impl Watchdog {
    /// How often to tell. healthchecks.io may drop more than five pings a minute; set a period of one minute there, and
    /// a grace of two.
    pub const EVERY: Duration = Duration::from_secs(30);

    /// Sets up the switch of the collector of that name, trusting the certificates of `roots`.
    ///
    /// # Errors
    /// A URL that is none, or none at all.
    pub fn new(
        collector: &str,
        kind: WatchdogKind,
        roots: &[CertificateDer<'_>],
    ) -> Result<Self, SetUpError> {
        match &kind {
            WatchdogKind::Ping(url) if Url::parse(url.expose()).is_err() => return Err(SetUpError::PingUrl),
            WatchdogKind::Alertmanager(it) if it.urls.is_empty() => return Err(SetUpError::Empty("url")),
            _ => {}
        }
        Ok(Self { collector: collector.to_owned(), kind, http: http(roots)? })
    }

    /// Tells that we watch; `said` is the proof, in a line.
    ///
    /// # Errors
    /// Nobody was told. There is nothing to retry: the next one follows soon.
    pub async fn tell(&self, said: &str, attempt: Attempt) -> Result<Receipt, Refusal> {
        let (secrets, telling) = match &self.kind {
            WatchdogKind::Alertmanager(it) => {
                (it.key.iter().collect(), Box::pin(self.alert(it, said, attempt)) as Telling<'_>)
            }
            WatchdogKind::Ping(url) => (vec![url], Box::pin(self.ping(url, said, attempt)) as Telling<'_>),
        };
        in_time("watchdog", &secrets, telling).await
    }

    async fn alert(&self, it: &Alertmanager, said: &str, attempt: Attempt) -> Result<Receipt, Refusal> {
        it.watchdog(&self.http, &self.collector, said, attempt).await
    }

    async fn ping(&self, url: &Secret, said: &str, attempt: Attempt) -> Result<Receipt, Refusal> {
        let url = Url::parse(url.expose())
            .map_err(|_| Refusal::never(crate::Reason::Refused, "the URL is none"))?;
        let request = self.http.post_bytes(url, "text/plain; charset=utf-8", said.as_bytes().to_vec());
        let answer = self.http.ask(request, attempt.now).await?;
        // Just OK: a check that is not known may be answered with 200 and "OK (not found)".
        match answer.body.trim() {
            "OK" => Ok(Receipt::new(None, answer.said())),
            _ => Err(answer.of_a_stranger("a ping")),
        }
    }
}
