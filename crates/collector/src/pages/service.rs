//! `/SERVICE`: one service, from its verdict down to each series.

use aviary_core::{Second, Tag, silence::Silence};
use maud::{Markup, html};
use serde::Serialize;

use super::{
    chart::Chart,
    incidents::{self, Short},
    matrix::Matrix,
    overview::{Row, lost_now, table},
    series::SeriesList,
    shown::{Shown, service_path},
    timings::Timings,
    words,
};
use crate::{
    Collector,
    error::ApiError,
    services::{self, PartBody, ServiceBody},
    state::WindowSeen,
};

/// So many of the newest incidents are looked through, and so many of the service's shown.
const INCIDENTS_SEARCHED: usize = 100;
const INCIDENTS_SHOWN: usize = 20;

/// One service.
#[derive(Debug, Serialize)]
pub(crate) struct ServicePage {
    now: u64,
    service: ServiceBody,
    short: Row,
    windows: Vec<WindowSeen>,
    matrix: Matrix,
    chart: Chart,
    timings: Timings,
    incidents: Vec<Short>,
    silences: Vec<Silenced>,
    series: SeriesList,
    #[serde(skip)]
    shown: Shown,
}

/// Who does not want to hear of it, and why.
#[derive(Debug, Serialize)]
struct Silenced {
    id: String,
    /// About which series, such as `region eu or us`; of all, if nothing is said.
    about: Vec<String>,
    from: u64,
    until: u64,
    in_force: bool,
    author: String,
    reason: String,
}

impl ServicePage {
    /// Blocks.
    pub(crate) fn gather(collector: &Collector, name: &str, shown: Shown) -> Result<Self, ApiError> {
        let now = collector.now().second();
        let told = collector.judgement().of_services();
        let (service, windows) = {
            let state = collector.state();
            (services::one(&state, &told, name), state.windows_of(name))
        };
        let service = service.ok_or_else(|| {
            let message =
                format!("service `{name}` is neither configured here nor reported; / shows those that are");
            ApiError::unknown_service(message)
        })?;
        let lost_now = lost_now(collector, Some(name))?.remove(name).unwrap_or_else(words::nothing);
        let concerns = |silence: &&Silence| {
            let named = silence.matches.0.get(&Tag::Service);
            silence.when.span().until > now && named.is_none_or(|named| named.contains(name))
        };
        let silences = collector.judgement().silences();
        let incidents = collector.incidents(false, INCIDENTS_SEARCHED)?;
        let of_it = incidents.iter().filter(|incident| incident.services().contains(name));
        Ok(Self {
            now: now.0,
            short: Row::of(&service, lost_now),
            service,
            windows,
            matrix: Matrix::gather(collector, Some(name), shown.by)?,
            chart: Chart::gather(collector, Some(name), &shown)?,
            timings: Timings::gather(collector, name, shown.by)?,
            incidents: of_it.take(INCIDENTS_SHOWN).map(Short::of).collect(),
            silences: silences.iter().filter(concerns).map(|silence| Silenced::of(silence, now)).collect(),
            series: SeriesList::gather(collector, name, &shown),
            shown,
        })
    }

    /// What it is about, and whether that is well.
    pub(crate) fn title(&self) -> String {
        match self.service.state {
            "healthy" => self.service.name.clone(),
            "blind" => format!("(cannot tell) {}", self.service.name),
            state => format!("({state}) {}", self.service.name),
        }
    }

    fn path(&self) -> String {
        service_path(&self.service.name)
    }

    /// What changes of it.
    pub(crate) fn html(&self) -> Markup {
        let (path, ServiceBody { name, owner, runbook, .. }) = (self.path(), &self.service);
        let kinds = self.service.kinds_in_order();
        html! {
            section id="service" aria-labelledby="service-heading" {
                h1 id="service-heading" { (name) }
                (table(std::slice::from_ref(&self.short), self.now, "Its state, and since when."))
                @if let Some(reason) = &self.service.reason { p { (reason) } }
                dl.facts {
                    div { dt { "May lose" } dd { (self.service.acceptable_loss) } }
                    div { dt { "Measured from" } dd { (words::counted(self.service.vantages_seen as u64, "vantage point")) ", at least " (self.service.min_vantages) " wanted" } }
                    @if let Some(owner) = owner { div { dt { "Looked after by" } dd { (owner) } } }
                    @if let Some(runbook) = runbook { div { dt { "Runbook" } dd { (linked(runbook)) } } }
                }
            }
            (self.matrix.html(&path, &self.shown))
            (self.chart.html(&path, &self.shown))
            section id="parts" aria-labelledby="parts-heading" {
                h2 id="parts-heading" { @if kinds.is_empty() { "Protocols and endpoints" } @else { "From where, protocols and endpoints" } }
                div.scroll tabindex="0" role="group" aria-labelledby="parts-heading" {
                    table {
                        caption { "What is judged of each over the last minute." }
                        thead { tr {
                            th scope="col" { "Part" } th scope="col" { "State" } th.number scope="col" { "Delivered / scheduled" }
                            th scope="col" { "Lost" } th.number scope="col" { "May lose" }
                        } }
                        tbody { @for part in kinds.iter().copied().chain(&self.service.protocols).chain(&self.service.endpoints) { (part_html(part)) } }
                    }
                }
            }
            (self.windows_html())
            (self.timings.html())
            section id="incidents" aria-labelledby="incidents-heading" {
                h2 id="incidents-heading" { "Incidents" }
                @if self.incidents.is_empty() { p { "None of the newest is about it." } }
                @else { (incidents::table(&self.incidents, self.now, "incidents-heading")) }
            }
            section id="silences" aria-labelledby="silences-heading" {
                h2 id="silences-heading" { "Silences" }
                @if self.silences.is_empty() { p { "None covers it: whatever is wrong is told." } }
                ul { @for silence in &self.silences { li { (silence.html()) } } }
            }
            (self.series.html(&path, &self.shown))
        }
    }

    fn windows_html(&self) -> Markup {
        html! {
            section id="windows" aria-labelledby="windows-heading" {
                h2 id="windows-heading" { "Windows" }
                @if self.windows.is_empty() { p { "It was not judged yet." } }
                @else {
                    div.scroll tabindex="0" role="group" aria-labelledby="windows-heading" {
                        table {
                            caption { "Whether more is lost than chance and what it may lose explain, from a second to six hours." }
                            thead { tr {
                                th scope="col" { "In" } th.number scope="col" { "Lost" } th.number scope="col" { "Of" }
                                th.number scope="col" { "Too many from" } th scope="col" { "Says" }
                            } }
                            tbody { @for window in &self.windows { tr {
                                th scope="row" { (words::lasted(window.seconds)) }
                                td.number { (words::number(window.lost)) }
                                td.number { (words::number(window.judged)) }
                                td.number { (window.threshold.map_or_else(|| "too short".to_owned(), words::number)) }
                                td { (if window.fires { "▲ too many" } else { "as usual" }) }
                            } } }
                        }
                    }
                }
            }
        }
    }
}

fn part_html(part: &PartBody) -> Markup {
    let kind = part.kind.map(words::kind);
    let name = kind.or(part.protocol).or(part.endpoint.as_deref()).unwrap_or_default();
    html! {
        tr {
            th scope="row" { (name) @if !part.required { span.said { "not required" } } }
            td { (words::state(part.state)) }
            td.number { (words::number(part.window.delivered)) " / " (words::number(part.window.scheduled)) }
            td class=(words::shade(&part.window)) {
                (words::loss(&part.window))
                @if let Some(beside) = words::beside(&part.window) { span.said { (beside) } }
            }
            td.number { (part.acceptable_loss) }
        }
    }
}

/// A link, if it is one that a browser may follow: what a configuration says runs nothing.
pub(crate) fn linked(text: &str) -> Markup {
    html! {
        @if ["https://", "http://", "/runbooks/"].iter().any(|start| text.starts_with(start)) { a href=(text) rel="noreferrer" { (text) } }
        @else { (text) }
    }
}

impl Silenced {
    fn of(silence: &Silence, now: Second) -> Self {
        let span = silence.when.span();
        let about = silence.matches.0.iter().map(|(tag, values)| {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            format!("{tag} {}", values.join(" or "))
        });
        Self {
            id: silence.id.clone(),
            about: about.collect(),
            from: span.from.0,
            until: span.until.0,
            in_force: silence.holds_until(now).is_some(),
            author: silence.author.clone(),
            reason: silence.reason.clone(),
        }
    }

    fn html(&self) -> Markup {
        html! {
            strong { @if self.in_force { "In force" } @else { "Not now" } }
            ", from " (words::time(self.from)) " to " (words::time(self.until)) ": "
            (self.reason) ", by " (self.author)
            @if !self.about.is_empty() { "; " (self.about.join(", ")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_browser_may_follow_is_a_link() {
        let table = [
            (
                "https://r.example/a?b&c",
                r#"<a href="https://r.example/a?b&amp;c" rel="noreferrer">https://r.example/a?b&amp;c</a>"#,
            ),
            ("/runbooks/loss", r#"<a href="/runbooks/loss" rel="noreferrer">/runbooks/loss</a>"#),
            ("javascript:alert(1)", "javascript:alert(1)"),
            ("<b>", "&lt;b&gt;"),
        ];
        for (runbook, expected) in table {
            assert_eq!(linked(runbook).into_string(), expected);
        }
    }
}
