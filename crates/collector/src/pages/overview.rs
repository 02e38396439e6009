//! `/`: every service, the worst first; then where loss is, and since when.

use aviary_core::{State, Tag};
use maud::{Markup, html};
use serde::Serialize;

use super::{
    chart::Chart,
    matrix::Matrix,
    shown::{Shown, incident_path, service_path},
    words,
};
use crate::{
    Collector, closed_until, error::ApiError, history::Steps, services::ServiceBody, sums, sums::WindowBody,
};

/// So many services are on one page.
const SERVICES_A_PAGE: usize = 100;

/// What is lost now is what is lost of so many seconds.
pub(crate) const NOW_SECONDS: u64 = 10;

/// Every service in short.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    /// When it was gathered.
    now: u64,
    /// How many services there are, on this page and others.
    services_total: usize,
    services: Vec<Row>,
    matrix: Matrix,
    chart: Chart,
    #[serde(skip)]
    shown: Shown,
}

/// A service in short.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    pub(crate) state: &'static str,
    silenced: bool,
    /// Where loss is, in words, or why we cannot tell.
    #[serde(rename = "where")]
    where_it_is: Option<String>,
    since: u64,
    incidents: Vec<String>,
    /// Of the newest seconds.
    lost_now: WindowBody,
    /// Of what was judged: the newest minute of what the service requires.
    lost_minute: WindowBody,
    /// Where there are several kinds of vantage and something was lost in that minute: from which most was, and how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_most: Option<(&'static str, WindowBody)>,
}

impl Row {
    pub(crate) fn of(body: &ServiceBody, lost_now: WindowBody) -> Self {
        Self {
            name: body.name.clone(),
            state: body.state,
            silenced: body.silenced,
            where_it_is: body.summary.clone().or_else(|| body.reason.clone()),
            since: body.since,
            incidents: body.incidents.clone(),
            lost_now,
            lost_minute: body.window.window,
            lost_most: body.worst_kind().and_then(|part| Some((part.kind?, part.window))),
        }
    }
}

/// What is lost now by service, or of one. Blocks.
pub(crate) fn lost_now(
    collector: &Collector,
    service: Option<&str>,
) -> Result<std::collections::BTreeMap<String, WindowBody>, ApiError> {
    let until = closed_until(collector.now());
    let steps = Steps { from: until.minus(NOW_SECONDS), seconds: NOW_SECONDS, count: 1 };
    let sums = sums::sums(collector, &[Tag::Service], service, steps)?;
    Ok(sums.values.into_iter().flatten().zip(sums.windows.into_iter().map(WindowBody::from)).collect())
}

impl Overview {
    /// Blocks.
    pub(crate) fn gather(collector: &Collector, shown: Shown) -> Result<Self, ApiError> {
        let now = collector.now().second().0;
        let told = collector.judgement().of_services();
        let mut lost_now = lost_now(collector, None)?;
        let mut services = crate::services::all(&collector.state(), &told).services;
        let rank = |body: &ServiceBody| body.state.parse::<State>().map_or(u8::MAX, words::rank);
        services.sort_by(|left, right| rank(left).cmp(&rank(right)).then_with(|| left.name.cmp(&right.name)));
        let services_total = services.len();
        let here =
            services.iter().skip((shown.page - 1).saturating_mul(SERVICES_A_PAGE)).take(SERVICES_A_PAGE);
        let row = |body| {
            let body: &ServiceBody = body;
            Row::of(body, lost_now.remove(&body.name).unwrap_or_else(words::nothing))
        };
        Ok(Self {
            now,
            services_total,
            services: here.map(row).collect(),
            matrix: Matrix::gather(collector, None, shown.by)?,
            chart: Chart::gather(collector, None, &shown)?,
            shown,
        })
    }

    /// How many are not well, so that a tab in the background says it.
    pub(crate) fn title(&self) -> String {
        let unwell = self.services.iter().filter(|row| matches!(row.state, "down" | "degraded")).count();
        match unwell {
            0 => "Services".to_owned(),
            unwell => format!("({unwell}) Services"),
        }
    }

    /// What changes of it.
    pub(crate) fn html(&self) -> Markup {
        html! {
            section id="services" aria-labelledby="services-heading" {
                h1 id="services-heading" { "Services" }
                @if self.services.is_empty() {
                    p { "No service is configured or reported here yet. An agent that probes one shows it." }
                } @else {
                    (table(&self.services, self.now, "The state of each service, the worst first."))
                }
                (pages("/", &self.shown, self.services_total, SERVICES_A_PAGE))
            }
            (self.matrix.html("/", &self.shown))
            (self.chart.html("/", &self.shown))
        }
    }
}

/// Services in short. The roles are written out, because on a narrow screen a row is no table's row to every browser.
pub(crate) fn table(rows: &[Row], now: u64, caption: &str) -> Markup {
    html! {
        table.verdicts role="table" {
            caption { (caption) }
            thead role="rowgroup" { tr role="row" {
                th scope="col" role="columnheader" { "Service" }
                th scope="col" role="columnheader" { "State" }
                th scope="col" role="columnheader" { "Lost in " (NOW_SECONDS) " s" }
                th scope="col" role="columnheader" { "In a minute" }
                th scope="col" role="columnheader" { "Where" }
                th scope="col" role="columnheader" { "Since" }
            } }
            tbody role="rowgroup" { @for row in rows { (row_html(row, now)) } }
        }
    }
}

fn row_html(row: &Row, now: u64) -> Markup {
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { a href=(service_path(&row.name)) { (row.name) } }
            td role="cell" {
                (words::state(row.state))
                @if row.silenced { " " span.silenced { "silenced" } }
            }
            td.loss role="cell" { span.label { "lost in " (NOW_SECONDS) " s " } span class=(words::shade(&row.lost_now)) { (words::loss(&row.lost_now)) } }
            td.loss role="cell" { span.label { "in a minute " } span class=(words::shade(&row.lost_minute)) { (words::loss(&row.lost_minute)) }
                @if let Some((kind, window)) = &row.lost_most { span.said { (words::kind(kind)) ": " (words::loss(window)) } }
            }
            td.where role="cell" {
                @match (&row.where_it_is, row.incidents.first()) {
                    (Some(said), Some(id)) => { a href=(incident_path(id)) { (said) } }
                    (Some(said), None) => { (said) }
                    (None, Some(id)) => { a href=(incident_path(id)) { "incident" } }
                    (None, None) => { span.quiet { "nothing to tell" } }
                }
            }
            td role="cell" { span.label { "since " } (words::since(row.since, now)) }
        }
    }
}

/// The way through a list of `total`, if that is longer than a page.
pub(crate) fn pages(path: &str, shown: &Shown, total: usize, each: usize) -> Markup {
    let last = total.div_ceil(each).max(1);
    if last == 1 {
        return html! {};
    }
    html! {
        nav.choice aria-label="Pages of the list" {
            "Page " (shown.page) " of " (last) " "
            @if shown.page > 1 { a href=(Shown { page: shown.page - 1, ..*shown }.at(path)) { "← before" } " " }
            @if shown.page < last { a href=(Shown { page: shown.page + 1, ..*shown }.at(path)) { "after →" } }
        }
    }
}
