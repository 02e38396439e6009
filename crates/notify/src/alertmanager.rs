//! Alertmanager, by its API v2.
//!
//! An alert is its set of labels, so labels hold nothing that changes in an incident's life: but for the severity, by
//! which everybody routes. When that changes, the alert under the severity told before is resolved beside the new one.
//! Alertmanager forgets what is not told again: see [`Resend`].

use std::{collections::BTreeMap, time::Duration};

use aviary_core::page::Severity;
use futures_util::future::join_all;
use reqwest::Url;
use serde_json::{Value, json};

use crate::{
    http::Http,
    page::{Attempt, Event, Page, rfc3339},
    receiver::{Resend, Told},
    refusal::{Reason, Receipt, Refusal},
    secret::Secret,
};

/// How long a firing alert lives that is not told again.
const LIFE: Duration = Duration::from_secs(4 * 60);

/// One of several that does not answer must not use up the time of the attempt, which others have taken.
const PEER_TIMEOUT: Duration = Duration::from_secs(4);

/// One Alertmanager, or all of those that form a cluster. Never a balancer in front of them: each must hear it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alertmanager {
    /// Their base URLs.
    pub urls: Vec<Url>,
    /// A bearer token, for a proxy in front of them.
    pub key: Option<Secret>,
}

impl Alertmanager {
    /// Alertmanager wants to be told again, as Prometheus does.
    pub(crate) const RESEND: Resend =
        Resend { every: Duration::from_secs(60), resolved_for: Duration::from_secs(5 * 60) };

    pub(crate) async fn send(&self, http: &Http, told: Told<'_>) -> Result<Receipt, Refusal> {
        self.post(http, &alerts(told), told.attempt).await
    }

    /// The alert that always fires, by which a receiver behind Alertmanager notices that `collector` is silent.
    pub(crate) async fn watchdog(
        &self,
        http: &Http,
        collector: &str,
        said: &str,
        attempt: Attempt,
    ) -> Result<Receipt, Refusal> {
        let labels = [("alertname", "Watchdog"), ("severity", "none"), ("collector", collector)];
        let annotations = BTreeMap::from([
            ("summary", "aviary watches and can page: that this alert stops is the alarm"),
            ("description", said),
        ]);
        let ends = rfc3339(attempt.now.plus(micros(LIFE)));
        let alert = json!({ "labels": BTreeMap::from(labels), "annotations": annotations, "endsAt": ends });
        self.post(http, &json!([alert]), attempt).await
    }

    /// Tells all of them. It is told when one has taken it: they tell each other.
    async fn post(&self, http: &Http, alerts: &Value, attempt: Attempt) -> Result<Receipt, Refusal> {
        let told = join_all(self.urls.iter().map(|url| self.post_to(http, url, alerts, attempt))).await;
        let (taken, refused): (Vec<_>, Vec<_>) = told.into_iter().partition(Result::is_ok);
        let texts =
            || refused.iter().filter_map(|result| result.as_ref().err()).map(|refusal| refusal.text.as_str());
        if let Some(Ok(said)) = taken.into_iter().next() {
            let others: String = texts().map(|text| format!("; but {text}")).collect();
            return Ok(Receipt::new(None, said + &others));
        }
        let text = texts().collect::<Vec<_>>().join("; ");
        // If one of them may take it later, all are asked again.
        let refusal = refused.into_iter().filter_map(Result::err).max_by_key(Refusal::is_retryable);
        Err(refusal.map_or_else(
            || Refusal::never(Reason::Refused, "no `url` is set"),
            |refusal| Refusal { text, ..refusal },
        ))
    }

    async fn post_to(
        &self,
        http: &Http,
        base: &Url,
        alerts: &Value,
        attempt: Attempt,
    ) -> Result<String, Refusal> {
        let mut url = base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v2", "alerts"]);
        }
        let request = http.post(url, alerts);
        let request = match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        };
        let late = |_| {
            let text = format!(
                "{} did not answer within {} s",
                base.origin().ascii_serialization(),
                PEER_TIMEOUT.as_secs()
            );
            Refusal::later(Reason::Timeout, text)
        };
        let answer =
            tokio::time::timeout(PEER_TIMEOUT, http.ask(request, attempt.now)).await.map_err(late)??;
        // Alertmanager's answer is empty; a portal's is a page.
        if answer.body.trim_start().starts_with('<') {
            return Err(answer.of_a_stranger("Alertmanager"));
        }
        Ok(answer.said())
    }
}

/// The alert of the page, and those of the severities that it had before, resolved.
fn alerts(told: Told<'_>) -> Value {
    let page = told.page;
    let before = page.told_as.iter().filter(|severity| **severity != page.level() && !page.test);
    before
        .map(|severity| alert(told, *severity, true))
        .chain([alert(told, page.level(), page.event == Event::Resolved)])
        .collect()
}

fn alert(Told { page, text, attempt }: Told<'_>, severity: Severity, is_over: bool) -> Value {
    let mut annotations = BTreeMap::from([
        ("summary", page.title()),
        ("description", text.to_owned()),
        ("services", page.services.join(", ")),
        ("state", page.state.clone()),
    ]);
    annotations.extend(page.runbook.clone().map(|url| ("runbook_url", url)));
    annotations.extend(page.owner.clone().map(|owner| ("owner", owner)));
    // What ends in the future fires. An end before the beginning would be refused.
    let ends = match is_over {
        true => page.at.min(attempt.now).max(page.since),
        false => attempt.now.plus(micros(LIFE)),
    };
    let mut alert = json!({
        "labels": labels(page, severity),
        "annotations": annotations,
        "startsAt": rfc3339(page.since),
        "endsAt": rfc3339(ends),
    });
    if let Some(url) = &page.url {
        alert["generatorURL"] = url.as_str().into();
    }
    alert
}

fn labels(page: &Page, severity: Severity) -> BTreeMap<&'static str, &str> {
    let mut labels = BTreeMap::from([
        ("alertname", if page.test { "AviaryTest" } else { "AviaryIncident" }),
        ("incident", page.incident.as_str()),
        ("severity", severity.name()),
    ]);
    labels.extend(page.services.first().map(|service| ("service", service.as_str())));
    labels
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use aviary_core::Timestamp;

    use super::*;

    fn told_at(page: &Page, now: Timestamp) -> Value {
        alerts(Told { page, text: "text", attempt: Attempt { now } })
    }

    #[test]
    fn a_changed_severity_resolves_the_alert_under_the_one_before() {
        let page = Page { told_as: [Severity::Warning, Severity::Critical].into(), ..Page::full() };
        let alerts = told_at(&page, page.at);
        let shown: Vec<_> = alerts
            .as_array()
            .unwrap()
            .iter()
            .map(|alert| (&alert["labels"]["severity"], &alert["endsAt"]))
            .collect();
        let (over, later) = (json!("2026-11-21T03:15:00Z"), json!("2026-11-21T03:19:00Z"));
        assert_eq!(shown, [(&json!("warning"), &over), (&json!("critical"), &later)]);
        assert_eq!(alerts[0]["labels"]["incident"], alerts[1]["labels"]["incident"]);
    }

    #[test]
    fn an_end_is_never_in_the_future_nor_before_the_beginning() {
        let resolved = Page { event: Event::Resolved, ..Page::full() };
        // Told again minutes later, it still ended when it ended; and our clock may be behind.
        for (now, expected) in [
            (resolved.at.plus(240_000_000), "2026-11-21T03:15:00Z"),
            (Timestamp(resolved.at.0 - 3_000_000), "2026-11-21T03:14:57Z"),
            (Timestamp(resolved.at.0 - 60_000_000), "2026-11-21T03:14:52Z"),
        ] {
            assert_eq!(told_at(&resolved, now)[0]["endsAt"], expected);
        }
    }
}
