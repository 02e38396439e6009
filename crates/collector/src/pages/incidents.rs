//! `/incidents`: what was wrong, the newest first.

use aviary_core::incident::Incident;
use maud::{Markup, html};
use serde::Serialize;

use super::{
    shown::{incident_path, service_path},
    words,
};
use crate::{Collector, error::ApiError};

/// So many incidents are listed, the newest.
const LISTED: usize = 100;

/// The newest incidents.
#[derive(Debug, Serialize)]
pub(crate) struct Incidents {
    now: u64,
    incidents: Vec<Short>,
    /// There are older ones.
    more: bool,
}

/// An incident in short.
#[derive(Debug, Serialize)]
pub(crate) struct Short {
    pub(crate) id: String,
    pub(crate) cause: &'static str,
    pub(crate) state: &'static str,
    pub(crate) severity: &'static str,
    pub(crate) services: Vec<String>,
    pub(crate) summary: String,
    pub(crate) since: u64,
    pub(crate) resolved: Option<u64>,
    pub(crate) acknowledged_by: Option<String>,
    pub(crate) silenced: bool,
}

impl Short {
    pub(crate) fn of(incident: &Incident) -> Self {
        Self {
            id: incident.id.to_string(),
            cause: incident.cause.name(),
            state: incident.state.name(),
            severity: incident.severity().name(),
            services: incident.services().into_iter().map(str::to_owned).collect(),
            summary: incident.summary(),
            since: incident.since.0,
            resolved: incident.resolved.map(|at| at.0),
            acknowledged_by: incident.acknowledgements.kept.back().map(|last| last.by.clone()),
            silenced: !incident.silenced_by.is_empty(),
        }
    }

    /// Where it is in its life, in a word and a shape.
    pub(crate) fn state_html(&self) -> Markup {
        let (shape, class) = match self.state {
            "resolved" => ("●", "healthy"),
            "suspected" => ("○", "unproven"),
            "recovering" => ("◌", "starting"),
            "acknowledged" => ("▲", "degraded"),
            _ => ("■", "down"),
        };
        html! {
            span class={ "state " (class) } { span.shape aria-hidden="true" { (shape) } " " (self.state) }
            @if self.silenced { " " span.silenced { "silenced" } }
        }
    }
}

impl Incidents {
    /// Blocks.
    pub(crate) fn gather(collector: &Collector) -> Result<Self, ApiError> {
        let mut found = collector.incidents(false, LISTED + 1)?;
        let more = found.len() > LISTED;
        found.truncate(LISTED);
        let now = collector.now().second().0;
        Ok(Self { now, incidents: found.iter().map(Short::of).collect(), more })
    }

    /// What changes of it.
    pub(crate) fn html(&self) -> Markup {
        html! {
            section id="incidents" aria-labelledby="incidents-heading" {
                h1 id="incidents-heading" { "Incidents" }
                @if self.incidents.is_empty() {
                    p { "There was none." }
                } @else {
                    (table(&self.incidents, self.now, "incidents-heading"))
                }
                @if self.more { p { "There are older ones: see " code { "/api/v1/incidents?limit=1000" } "." } }
            }
        }
    }
}

/// Incidents as a table, which is a part of what `heading` is over.
pub(crate) fn table(incidents: &[Short], now: u64, heading: &str) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby=(heading) {
            table {
                caption { "The newest first." }
                thead { tr {
                    th scope="col" { "What" }
                    th scope="col" { "State" }
                    th scope="col" { "Severity" }
                    th scope="col" { "Services" }
                    th scope="col" { "Since" }
                    th scope="col" { "Lasted" }
                } }
                tbody { @for incident in incidents { tr {
                    th.said-wide scope="row" { a href=(incident_path(&incident.id)) { (incident.summary) } }
                    td {
                        (incident.state_html())
                        @if let Some(by) = &incident.acknowledged_by { span.said { (by) " is on it" } }
                    }
                    td { (incident.severity) }
                    td { @for service in &incident.services { a href=(service_path(service)) { (service) } " " } }
                    td { (words::time(incident.since)) }
                    td { (words::lasted(incident.resolved.unwrap_or(now).saturating_sub(incident.since))) }
                } } }
            }
        }
    }
}
