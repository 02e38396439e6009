//! The series of a service, those that lose the most first, each with its last minute.

use std::cmp::Reverse;

use aviary_core::{SeriesId, Span, Tag, ledger::NO_GROUP};
use maud::{Markup, html};
use serde::Serialize;

use super::{overview::pages, shown::Shown, words};
use crate::{Collector, closed_until, slots::live_slot, sums::WindowBody};

/// So many seconds of each are shown.
const SECONDS: u64 = 60;

/// So many series are on one page.
const SERIES_A_PAGE: usize = 50;

/// The series of a service.
#[derive(Debug, Serialize)]
pub(crate) struct SeriesList {
    from: u64,
    until: u64,
    series_total: usize,
    series: Vec<One>,
}

/// One series and its last minute.
#[derive(Debug, Serialize)]
struct One {
    protocol: String,
    endpoint: String,
    address: Option<String>,
    region: String,
    zone: String,
    network: String,
    node: String,
    window: WindowBody,
    slots: Vec<Run>,
}

/// Slots of one outcome that follow each other.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Run {
    from: u64,
    until: u64,
    outcome: &'static str,
}

impl SeriesList {
    /// Blocks.
    pub(crate) fn gather(collector: &Collector, service: &str, shown: &Shown) -> Self {
        let span = Span::before(closed_until(collector.now()), SECONDS);
        let mut state = collector.state();
        let (_, mut place_of) = state.group(&[], Some(service), span.from);
        let mut ids = Vec::new();
        for (id, place) in (0..).map(SeriesId).zip(&mut place_of) {
            if *place != NO_GROUP {
                *place = ids.len() as u32;
                ids.push(id);
            }
        }
        let windows = state.ledger().sums(span, &place_of, ids.len());
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|place| Reverse(windows[*place].lost));
        let here = order.into_iter().skip((shown.page - 1).saturating_mul(SERIES_A_PAGE)).take(SERIES_A_PAGE);
        let series = here.map(|place| {
            let id = ids[place];
            let tag = |tag| state.catalog().tag(id, tag).to_owned();
            let alive = span.intersection(state.ledger().life(id));
            let slots =
                alive.iter().filter_map(|second| Some((second.0, live_slot(&state, id, second)?.outcome)));
            One {
                protocol: tag(Tag::Protocol),
                endpoint: tag(Tag::Endpoint),
                address: Some(tag(Tag::Address)).filter(|address| address != aviary_core::vantage::ABSENT),
                region: tag(Tag::Region),
                zone: tag(Tag::Zone),
                network: tag(Tag::Network),
                node: tag(Tag::Node),
                window: windows[place].into(),
                slots: runs(slots),
            }
        });
        let series = series.collect();
        Self { from: span.from.0, until: span.until.0, series_total: ids.len(), series }
    }

    /// As a section of the page at `path`.
    pub(crate) fn html(&self, path: &str, shown: &Shown) -> Markup {
        html! {
            section id="series" aria-labelledby="series-heading" {
                h2 id="series-heading" { "Series" }
                p { (self.series_total) " series, those that lose the most first." }
                div.scroll tabindex="0" role="group" aria-labelledby="series-heading" {
                    table {
                        caption { "Each second from " (words::time(self.from)) " to " (words::time(self.until)) ". A tall bar was lost, a short one delivered; an open one was not measured, or nobody can tell." }
                        thead { tr {
                            th scope="col" { "Endpoint" } th scope="col" { "From" } th scope="col" { "Last minute" } th scope="col" { "Lost" }
                        } }
                        tbody { @for one in &self.series { tr {
                            th scope="row" { (one.endpoint) @if let Some(address) = &one.address { span.said { (address) } } }
                            td { (one.region) span.said { (one.node) } }
                            td { (one.strip(self.from, self.until)) }
                            td class=(words::shade(&one.window)) { (words::loss(&one.window)) span.said { (one.window.delivered) " / " (one.window.scheduled) } }
                        } } }
                    }
                }
                (pages(path, shown, self.series_total, SERIES_A_PAGE))
            }
        }
    }
}

/// What follows each other and is alike, as one.
fn runs(slots: impl IntoIterator<Item = (u64, &'static str)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (second, outcome) in slots {
        match runs.last_mut().filter(|last| last.until == second && last.outcome == outcome) {
            Some(last) => last.until += 1,
            None => runs.push(Run { from: second, until: second + 1, outcome }),
        }
    }
    runs
}

/// The class, top and height of a bar: what is lost stands out by its height as well.
const fn bar(outcome: &str) -> (&'static str, u64, u64) {
    match outcome.as_bytes() {
        b"delivered" => ("delivered", 8, 4),
        b"lost" => ("lost", 0, 12),
        _ => ("untold", 5, 7),
    }
}

impl One {
    fn strip(&self, from: u64, until: u64) -> Markup {
        html! {
            svg.strip viewBox=(format!("0 0 {} 12", until - from)) preserveAspectRatio="none" role="img" aria-label=(self.said()) {
                @for run in &self.slots {
                    @let (class, y, height) = bar(run.outcome);
                    rect class=(class) x=(run.from - from) y=(y) width=(run.until - run.from) height=(height) {}
                }
            }
        }
    }

    /// The strip for those who do not see it.
    fn said(&self) -> String {
        let beside = words::beside(&self.window).map(|beside| format!(", {beside}")).unwrap_or_default();
        let lost = self.slots.iter().filter(|run| run.outcome == "lost");
        let times: Vec<String> = lost
            .map(|run| {
                let clock = words::rfc3339(aviary_core::Second(run.from));
                let clock = clock.get(11..19).unwrap_or_default().to_owned();
                format!("{} from {clock}", words::lasted(run.until - run.from))
            })
            .collect();
        let lost =
            if times.is_empty() { "none lost".to_owned() } else { format!("lost {}", times.join(", ")) };
        format!("{} delivered, {lost}{beside}", self.window.delivered)
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::Window;

    use super::*;

    #[test]
    fn a_strip_says_when_it_lost() {
        let outcomes = ["delivered", "delivered", "lost", "lost", "unknown", "delivered", "lost"];
        let slots = runs((1_763_690_400..).zip(outcomes));
        assert_eq!(slots.len(), 5);
        assert_eq!(slots[1], Run { from: 1_763_690_402, until: 1_763_690_404, outcome: "lost" });
        let window = Window { scheduled: 7, delivered: 3, lost: 3, unknown: 1, ..Window::default() };
        let text = || String::new();
        let one = One {
            protocol: text(),
            endpoint: text(),
            address: None,
            region: text(),
            zone: text(),
            network: text(),
            node: text(),
            window: window.into(),
            slots,
        };
        assert_eq!(one.said(), "3 delivered, lost 2 s from 02:00:02, 1 s from 02:00:06, 1 cannot tell");
        let html = one.strip(1_763_690_400, 1_763_690_460).into_string();
        assert!(html.contains(r#"<rect class="lost" x="2" y="0" width="2" height="12">"#), "{html}");
    }
}
