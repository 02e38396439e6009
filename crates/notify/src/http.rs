//! HTTP as receivers need it: one question, an answer of bounded size, from nowhere else; and what the answer means.

use std::{error::Error, time::Duration};

use aviary_core::Timestamp;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, dns::Resolve, header};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use crate::{
    address::NotPublic,
    cut::{cut, one_line},
    refusal::{Reason, Refusal, Retry},
};

/// The largest answer that is read. What receivers say is a few hundred bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How much of an answer is repeated to people.
const QUOTED_MAX: usize = 240;

/// The longest time that a receiver may ask us to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// Asks receivers over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Http(reqwest::Client);

/// An answer that is a success as far as its status says.
pub(crate) struct Answer {
    /// Who gave it, as may be shown.
    at: String,
    status: StatusCode,
    pub(crate) body: String,
}

impl Http {
    /// Trusts `roots` and nobody else. With a `resolver`, names are looked up by that one.
    pub(crate) fn new<R: Resolve + 'static>(
        roots: &[CertificateDer<'_>],
        resolver: Option<R>,
    ) -> Result<Self, reqwest::Error> {
        let roots =
            roots.iter().map(|der| reqwest::Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
        let mut client = reqwest::Client::builder()
            .tls_certs_only(roots)
            .redirect(reqwest::redirect::Policy::none())
            // Pages are rare: a connection kept from the last one is more likely dead than useful.
            .pool_max_idle_per_host(0)
            // Whoever keeps the outbox tries again, and knows what it counts as.
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent(concat!("aviary/", env!("CARGO_PKG_VERSION")));
        if let Some(resolver) = resolver {
            client = client.dns_resolver(resolver);
        }
        Ok(Self(client.build()?))
    }

    /// A question to `url` that carries `body`.
    pub(crate) fn post(&self, url: Url, body: &Value) -> RequestBuilder {
        self.0.post(url).json(body)
    }

    /// A question to `url` that carries `body` as it is.
    pub(crate) fn post_bytes(&self, url: Url, content_type: &'static str, body: Vec<u8>) -> RequestBuilder {
        self.0.post(url).header(header::CONTENT_TYPE, content_type).body(body)
    }

    /// A question to `url` by `method`.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.0.request(method, url)
    }

    /// The answer to `request`, which is asked at `now`.
    pub(crate) async fn ask(&self, request: RequestBuilder, now: Timestamp) -> Result<Answer, Refusal> {
        self.ask_for(request, &[], now).await
    }

    /// The same, where these statuses are a success as well.
    pub(crate) async fn ask_for(
        &self,
        request: RequestBuilder,
        statuses: &[u16],
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let request = request.build().map_err(|error| {
            Refusal::never(Reason::Refused, format!("no request can be made: {}", innermost(&error)))
        })?;
        let at = request.url().origin().ascii_serialization();
        let mut response = self.0.execute(request).await.map_err(|error| broken(&at, &error))?;
        let status = response.status();
        if status.is_success() || statuses.contains(&status.as_u16()) {
            let body =
                read(&mut response, ANSWER_BYTES_MAX, &at).await?.ok_or_else(|| too_large(&at, status))?;
            return Ok(Answer { at, status, body });
        }
        let after = retry_after(response.headers(), now);
        let location =
            response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned);
        // What comes after the beginning would not be repeated to anybody.
        let body = read(&mut response, ANSWER_BYTES_MAX, &at).await.ok().flatten().unwrap_or_default();
        Err(refused(&at, status, after, &body, location.as_deref()))
    }
}

impl Answer {
    /// What the receiver said, in a line.
    pub(crate) fn said(&self) -> String {
        said(&self.at, self.status, &self.body)
    }

    /// The body as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The refusal of a success that `who` does not speak so: a portal on the way says 200 to everything.
    pub(crate) fn of_a_stranger(&self, who: &str) -> Refusal {
        let text =
            format!("{}, which is not how {who} answers: is a proxy or portal in the way?", self.said());
        Refusal::later(Reason::Stranger, text)
    }
}

/// Reads the body; `None` if it is larger than `limit`.
async fn read(response: &mut Response, limit: usize, at: &str) -> Result<Option<String>, Refusal> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(at, &error))? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(String::from_utf8_lossy(&body).into_owned()))
}

fn too_large(at: &str, status: StatusCode) -> Refusal {
    let limit = ANSWER_BYTES_MAX / 1024;
    let text =
        format!("{at} answered {status} with more than {limit} KiB, which no receiver does: check `url`");
    Refusal::never(Reason::AnswerTooLarge, text)
}

/// What an answer other than a success means.
fn refused(
    at: &str,
    status: StatusCode,
    after: Option<Duration>,
    body: &str,
    location: Option<&str>,
) -> Refusal {
    let (reason, remedy) = match status.as_u16() {
        300..=399 => {
            // Nothing but the origin: the rest may hold a key.
            let to = location.and_then(|to| Url::parse(to).ok()).map(|to| to.origin().ascii_serialization());
            let to = to.unwrap_or_else(|| "elsewhere".to_owned());
            let text = format!(
                "{at} answered {status} and points to {to}: redirects are not followed, correct `url`"
            );
            return Refusal::never(Reason::Redirect, text);
        }
        401 | 403 => (Reason::Unauthorized, "check its key or secret"),
        408 => (Reason::Timeout, ""),
        429 => (Reason::RateLimited, ""),
        425 | 500..=599 => (Reason::ServerError, ""),
        404 | 410 => (Reason::Refused, "it is not or no longer there: check `url` and the key"),
        _ => (Reason::Refused, "check its configuration"),
    };
    let said = said(at, status, body);
    match (remedy, after) {
        ("", Some(after)) => {
            let text = format!("{said}; it asks us to wait {} s", after.as_secs());
            Refusal { reason, retry: Retry::After(after), text }
        }
        ("", None) => Refusal::later(reason, said),
        (remedy, _) => Refusal::never(reason, format!("{said}; {remedy}")),
    }
}

fn said(at: &str, status: StatusCode, body: &str) -> String {
    match one_line(body) {
        body if body.is_empty() => format!("{at} answered {status}"),
        body => format!("{at} answered {status}: {}", cut(&body, QUOTED_MAX)),
    }
}

/// What a connection that came to nothing means.
fn broken(at: &str, error: &reqwest::Error) -> Refusal {
    if let Some(private) = find::<NotPublic>(error) {
        return Refusal::never(Reason::PrivateAddress, format!("nothing was sent to {at}: {private}"));
    }
    let reason = innermost(error);
    if is_certificate(&reason) {
        return Refusal::later(Reason::Certificate, certificate(at, &reason));
    }
    let what = if error.is_connect() { Reason::Unreachable } else { Reason::Transport };
    Refusal::later(what, format!("{at} cannot be reached: {reason}"))
}

/// Whether these are rustls' words for a peer whose certificate does not verify. Its types are another room's to name.
pub(crate) fn is_certificate(reason: &str) -> bool {
    reason.starts_with("invalid peer certificate")
}

/// What a person is told of such a certificate.
pub(crate) fn certificate(at: &str, reason: &str) -> String {
    format!("nothing was sent to {at}: {reason}; renew its certificate, or name its authority in `ca`")
}

/// The error, and what caused it down to the bottom.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// What went wrong at the bottom: whatever lies above names the URL, and so may name a key.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let bottom = chain(error).last().unwrap_or(error);
    match bottom.downcast_ref::<reqwest::Error>() {
        Some(_) => "the connection failed".to_owned(),
        None => bottom.to_string(),
    }
}

/// How long to wait by the header `Retry-After`: seconds, or a date.
fn retry_after(headers: &header::HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            u64::try_from(date.as_second()).unwrap_or_default().saturating_sub(now.second().0)
        }
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_try_again() {
        let table = [
            (301, Reason::Redirect, false),
            (400, Reason::Refused, false),
            (401, Reason::Unauthorized, false),
            (403, Reason::Unauthorized, false),
            (404, Reason::Refused, false),
            (408, Reason::Timeout, true),
            (410, Reason::Refused, false),
            (413, Reason::Refused, false),
            (422, Reason::Refused, false),
            (425, Reason::ServerError, true),
            (429, Reason::RateLimited, true),
            (500, Reason::ServerError, true),
            (501, Reason::ServerError, true),
            (503, Reason::ServerError, true),
            (599, Reason::ServerError, true),
        ];
        for (status, reason, retryable) in table {
            let refusal = refused("https://a.example", StatusCode::from_u16(status).unwrap(), None, "", None);
            assert_eq!((refusal.reason, refusal.is_retryable()), (reason, retryable), "{status}");
        }
    }

    #[test]
    fn a_receiver_may_say_when_to_come_back_in_two_ways() {
        let now = Timestamp(1_795_230_900_000_000);
        let table = [
            ("30", Some(30)),
            (" 1 ", Some(1)),
            ("0", Some(0)),
            ("Sat, 21 Nov 2026 03:15:40 GMT", Some(40)),
            ("Sat, 21 Nov 2026 03:14:00 GMT", Some(0)),
            ("Thu, 01 Jan 2099 00:00:00 GMT", Some(86_400)),
            ("99999999", Some(86_400)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ];
        for (text, expected) in table {
            let headers = [(header::RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}
