//! The agent's page at `/`: what it probes and how that goes, as it knows by itself, and where the fleet is seen. HTML for people,
//! and the same as JSON for who asks for it.
//!
//! Whether a service is well is not for one agent to say: that is the collector's, to which the page leads.

use std::collections::BTreeMap;

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, header},
    response::{Html, IntoResponse as _, Response},
};
use maud::{DOCTYPE, Markup, html};
use serde::Serialize;

use super::{
    readiness::{Readiness, readiness},
    standing::{Discovery, Standing},
};
use crate::steer::{Answer, Rotation};

/// Nothing is loaded from elsewhere, nothing runs, and nobody puts it into a frame.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// What the page says.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    status: &'static str,
    reasons: Vec<String>,
    warnings: Vec<String>,
    configuration: String,
    series: usize,
    ticking: usize,
    since: u64,
    slots: Vec<Slots>,
    discoveries: Vec<Discovery>,
    collector: Collector,
    rotation: Vec<Answer>,
}

/// The slots of one service over one protocol, since the start.
#[derive(Debug, Serialize)]
struct Slots {
    service: String,
    protocol: &'static str,
    outcomes: BTreeMap<&'static str, u64>,
}

/// Where the fleet is seen, and how old what it has of this agent is.
#[derive(Debug, Serialize)]
struct Collector {
    url: String,
    /// Seconds since it took a report; none before the first.
    report_taken_seconds_ago: Option<u64>,
    slots_waiting: u64,
    last_error: Option<String>,
}

/// The outcomes that have a column.
const OUTCOMES: [(&str, &str); 5] = [
    ("delivered", "delivered"),
    ("lost", "lost"),
    ("local", "not measured: this host"),
    ("missed", "not measured: not run"),
    ("muted", "not measured: told not to"),
];

/// Where people look, of where reports go.
fn root(reports: &str) -> String {
    let root = reports.trim_end_matches('/');
    root.strip_suffix("/api/v1/reports").unwrap_or(root).to_owned()
}

impl Page {
    /// Of an agent that stands so.
    pub(super) fn of(standing: Standing) -> Self {
        let Readiness { reasons, warnings } = readiness(&standing);
        let slots = standing.groups.iter().map(|group| {
            let mut outcomes: BTreeMap<&'static str, u64> = BTreeMap::new();
            for ((outcome, ..), count) in &group.outcomes {
                *outcomes.entry(outcome).or_default() += count;
            }
            Slots { service: group.service.clone(), protocol: group.protocol.name(), outcomes }
        });
        let taken = standing.shipping.last_taken.map(|at| standing.now.since(at) / 1_000_000);
        Self {
            status: if reasons.is_empty() { "ready" } else { "not_ready" },
            reasons,
            warnings,
            series: standing.series,
            ticking: standing.ticking,
            since: standing.started.second().0,
            slots: slots.collect(),
            discoveries: standing.discoveries,
            collector: Collector {
                report_taken_seconds_ago: taken,
                slots_waiting: standing.spool.slots,
                url: root(&standing.shipping.collector),
                last_error: standing.shipping.last_error,
            },
            configuration: standing.configuration,
            rotation: standing.rotation.answers,
        }
    }

    /// As whoever asks wants it.
    pub(super) fn answer(self, headers: &HeaderMap) -> Response {
        let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accept = accept.collect::<Vec<_>>().join(",");
        let mut response = if accept.contains("application/json") && !accept.contains("text/html") {
            Json(self).into_response()
        } else {
            Html(self.html().into_string()).into_response()
        };
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CACHE_CONTROL, "no-store"),
            (header::VARY, "accept"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn html(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { "Agent – aviary" }
                    link rel="stylesheet" href="/style.css";
                }
                body { main {
                    h1 { "Agent" }
                    p {
                        strong { (self.status.replace('_', " ")) } ": "
                        (self.ticking) " of " (self.series) " series opened a second within the last 3 s."
                    }
                    @for said in self.reasons.iter().chain(&self.warnings) { p role="alert" { (said) } }
                    (self.rotation())
                    (self.collector())
                    (self.slots())
                    (self.found())
                    p { "Configuration " code { (self.configuration) } ". More: "
                        @for (place, path) in ["/readyz", "/healthcheck", "/deepcheck", "/metrics"].iter().enumerate() {
                            @if place > 0 { ", " }
                            a href=(path) { (path) }
                        }
                    }
                } }
            }
        }
    }

    fn collector(&self) -> Markup {
        let Collector { url, report_taken_seconds_ago, slots_waiting, last_error } = &self.collector;
        html! {
            h2 { "The fleet" }
            p {
                @if url.starts_with("http") {
                    "How services are is seen at the collector, " a href=(format!("{url}/")) { (url) }
                    ", and this agent among others at " a href=(format!("{url}/agents")) { "its agents" } ". "
                }
                @match report_taken_seconds_ago {
                    Some(seconds) => { "It took a report " (seconds) " s ago: what it shows of this agent is as old." }
                    None => { "It has not taken a report of this agent yet." }
                }
                " " (slots_waiting) " seconds of series wait to be told."
                @if let Some(error) = last_error { " The last error: " (error) }
            }
        }
    }

    fn found(&self) -> Markup {
        html! {
            @for Discovery { service, name, endpoints, trouble, .. } in &self.discoveries {
                h2 { "Found for " (service) ": " (name) }
                @if let Some(trouble) = trouble { p role="alert" { (trouble) "; what was found last stands." } }
                ul { @for (endpoint, is_going) in endpoints {
                    li { (endpoint) @if *is_going { ", answered no more" } }
                } }
            }
        }
    }

    /// Nothing of a node that is simply in rotation: most agents stand on none.
    fn rotation(&self) -> Markup {
        let advised = self.rotation.iter().filter(|answer| answer.rotation != Rotation::In);
        html! {
            @for Answer { service, rotation, weight, reason, until, .. } in advised {
                p role="alert" {
                    @match rotation {
                        Rotation::Returning => { (service) ": this node returns with " (weight) " % of its load" }
                        Rotation::Out | Rotation::In => { (service) ": this node is out of rotation" }
                    }
                    @if let Some(until) = until { ", until " (until) " unless the collector says so again" }
                    @if let Some(reason) = reason { ": " (reason) }
                }
            }
        }
    }

    fn slots(&self) -> Markup {
        html! {
            h2 { "Its own series" }
            div.scroll tabindex="0" role="group" aria-label="Its own series" { table {
                caption { "Seconds of series since the start, as this agent saw them; what was stored the collector knows." }
                thead { tr {
                    th scope="col" { "Service" } th scope="col" { "Protocol" }
                    @for (_, words) in OUTCOMES { th scope="col" { (words) } }
                } }
                tbody { @for slots in &self.slots { tr {
                    th scope="row" { (slots.service) } th scope="row" { (slots.protocol) }
                    @for (outcome, _) in OUTCOMES { td { (slots.outcomes.get(outcome).copied().unwrap_or(0)) } }
                } } }
            } }
        }
    }
}

/// `GET /style.css`
pub(super) async fn style() -> Response {
    let kind =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (kind, include_str!("page/style.css")).into_response()
}
