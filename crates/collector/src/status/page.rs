//! The page for people: complete without script, readable at 320 pixels, light and dark, with relative links, so that it may lie
//! anywhere.

use std::sync::LazyLock;

use aviary_core::Second;
use aws_lc_rs::digest::{SHA256, digest};
use maud::{DOCTYPE, Markup, html};

use super::{
    days::Counted,
    figures::DAYS,
    publication::{Publication, Standing, Status},
    site::{CANNOT_TELL, Component, Maintenance, MaintenanceStage, Site},
    v2::date,
    words::moment,
};
use crate::delivery::words::rfc3339;

/// So many incidents that are over are on the first page.
const PAST_SHOWN: usize = 10;

/// A day is so wide, and all of its bar so high.
const WIDTH: usize = 10;
const HEIGHT: f64 = 40.0;

/// What is there at all is drawn at least so high.
const LEAST: f64 = 5.0;

/// The same policy as the listener's, for wherever the files are served.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'";

/// What pages load, under a name with a hash of its content.
pub(crate) struct Asset {
    pub(crate) path: String,
    pub(crate) content: &'static str,
}

pub(crate) static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new(
            "style",
            "css",
            concat!(include_str!("../assets/palette.css"), include_str!("assets/style.css")),
        ),
        Asset::new("script", "js", include_str!("assets/script.js")),
        Asset::new("icon", "svg", include_str!("assets/icon.svg")),
    ]
});

impl Asset {
    fn new(stem: &str, extension: &str, content: &'static str) -> Self {
        let hash = digest(&SHA256, content.as_bytes());
        let digits: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { path: format!("assets/{stem}-{digits}.{extension}"), content }
    }
}

/// A page's place, its title, and what leads from it to the others.
struct Place<'p> {
    title: String,
    /// From here to the first page: empty, or `../`.
    root: &'static str,
    feed: &'p str,
    is_dated: bool,
}

fn document(site: &Site, place: &Place<'_>, main: &Markup) -> String {
    let Place { title, root, feed, is_dated } = place;
    let [style, script, icon] = &*ASSETS;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                link rel="stylesheet" href={ (root) (style.path) };
                link rel="icon" type="image/svg+xml" href={ (root) (icon.path) };
                link rel="alternate" type="application/atom+xml" title=(title) href={ (root) (feed) };
                script src={ (root) (script.path) } defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    p.brand { a href={ (root) "index.html" } { (site.page.title) } }
                    nav aria-label="Pages" {
                        a href={ (root) "index.html" } { "Status" } " "
                        a href={ (root) "history.html" } { "History" } " "
                        a href={ (root) (feed) } { "Atom feed" }
                    }
                }
                main id="main" tabindex="-1" { (main) }
                footer {
                    @if *is_dated {
                        p.quiet id="as-of" role="status" data-as-of=(site.as_of.0) { "As of " (moment(site.as_of)) }
                    }
                    p.quiet {
                        "Times are UTC. For programs: "
                        a href={ (root) "api/v2/summary.json" } { "summary.json" }
                        @if let Some(contact) = &site.page.contact { ". Contact: " (contact) }
                        "."
                    }
                }
            }
        }
    };
    page.into_string()
}

/// The first page.
pub(crate) fn index(site: &Site) -> String {
    let (open, past): (Vec<_>, Vec<_>) = site.incidents.iter().partition(|it| it.is_unresolved());
    let planned: Vec<_> =
        site.maintenances.iter().filter(|it| it.stage != MaintenanceStage::Completed).collect();
    let main = html! {
        (patterns())
        div class={ "overall " (class(site.status(), !site.is_only_unmeasured())) } {
            span.shape aria-hidden="true" { (shape(site.status(), !site.is_only_unmeasured())) }
            h1 { (site.said()) }
        }
        @if !open.is_empty() {
            section aria-labelledby="now" {
                h2 id="now" { "What is wrong now" }
                @for it in open { (summary(site, it, "")) }
            }
        }
        @if !planned.is_empty() {
            section aria-labelledby="planned" {
                h2 id="planned" { "Scheduled maintenance" }
                @for it in planned { (maintenance(site, it)) }
            }
        }
        @for (group, members) in site.groups() {
            section aria-label=(group.unwrap_or("Components")) {
                h2 { (group.unwrap_or("Components")) }
                @for component in members { (bars(site, component, Some("components/"))) }
            }
        }
        @if site.components.is_empty() { p { "Nothing is shown here yet." } }
        (legend())
        section aria-labelledby="past" {
            h2 id="past" { "Past incidents" }
            @if past.is_empty() { p { "None was published." } }
            @for it in past.iter().take(PAST_SHOWN) { (summary(site, it, "")) }
            @if past.len() > PAST_SHOWN { p { a href="history.html" { "All past incidents" } } }
        }
    };
    let title = format!("{} – {}", site.said(), site.page.title);
    document(site, &Place { title, root: "", feed: "feed.atom", is_dated: true }, &main)
}

/// One component, day by day.
pub(crate) fn component(site: &Site, it: &Component) -> String {
    let protocols: Vec<&String> = it.figures.protocols.keys().collect();
    let first = it.figures.first().unwrap_or(DAYS);
    let main = html! {
        (patterns())
        h1 { (it.name) }
        (bars(site, it, None))
        (legend())
        section aria-labelledby="days" {
            h2 id="days" { "Day by day" }
            div.scroll tabindex="0" role="group" aria-labelledby="days" {
                table {
                    caption { "The newest first. Today is not over." }
                    thead { tr { th scope="col" { "Day" } @for protocol in &protocols { th scope="col" { (protocol) } } } }
                    tbody {
                        @for place in (first..DAYS).rev() {
                            tr {
                                th scope="row" { (date(site.day(place))) @if place + 1 == DAYS { " (so far)" } }
                                @for protocol in &protocols { td { (it.figures.protocols[*protocol][place].said()) } }
                            }
                        }
                    }
                }
            }
        }
        section aria-labelledby="incidents" {
            h2 id="incidents" { "Incidents" }
            @let touching: Vec<_> = site.incidents.iter().filter(|incident| incident.services.contains(&it.service)).collect();
            @if touching.is_empty() { p { "None was published." } }
            @for incident in touching.iter().take(PAST_SHOWN) { (summary(site, incident, "../")) }
        }
    };
    let title = format!("{} – {}", it.name, site.page.title);
    let feed = format!("components/{}.atom", it.id);
    document(site, &Place { title, root: "../", feed: &feed, is_dated: true }, &main)
}

/// One incident, with all that was said of it.
pub(crate) fn incident(site: &Site, it: &Publication) -> String {
    let main = html! {
        h1 { (it.title) }
        p class=(it.impact.name()) { strong { (state(it)) } }
        (about(site, it))
        (updates(it))
    };
    let title = format!("{} – {}", it.title, site.page.title);
    document(site, &Place { title, root: "../", feed: "feed.atom", is_dated: false }, &main)
}

/// Every incident, by month.
pub(crate) fn history(site: &Site) -> String {
    let month = |it: &Publication| rfc3339(Second(it.since)).chars().take(7).collect::<String>();
    let mut months: Vec<(String, Vec<&Publication>)> = Vec::new();
    for it in &site.incidents {
        match months.last_mut().filter(|(name, _)| *name == month(it)) {
            Some((_, members)) => members.push(it),
            None => months.push((month(it), vec![it])),
        }
    }
    let over: Vec<_> =
        site.maintenances.iter().filter(|it| it.stage == MaintenanceStage::Completed).collect();
    let main = html! {
        h1 { "History" }
        @if months.is_empty() { p { "No incident was published." } }
        @for (month, members) in &months {
            section id=(month) {
                h2 { (month) }
                @for it in members { (summary(site, it, "")) }
            }
        }
        @if !over.is_empty() {
            section {
                h2 { "Maintenance that is over" }
                @for it in over { (maintenance(site, it)) }
            }
        }
    };
    let title = format!("History – {}", site.page.title);
    document(site, &Place { title, root: "", feed: "feed.atom", is_dated: false }, &main)
}

/// An incident among others, with the newest that was said of it.
fn summary(site: &Site, it: &Publication, root: &str) -> Markup {
    let updates = it.public_updates();
    html! {
        article.incident {
            h3 { a href={ (root) "incidents/" (it.id) ".html" } { (it.title) } }
            p class=(it.impact.name()) { strong { (state(it)) } }
            (about(site, it))
            @if let Some((_, update)) = updates.last() {
                p.words { (update.text) }
                p.quiet { (time(update.at)) @if let Some(at) = update.edited { ", changed " (time(at)) } }
            }
        }
    }
}

/// How far it is, and how much it matters.
fn state(it: &Publication) -> String {
    match it.standing {
        Standing::Withdrawn => "Withdrawn".to_owned(),
        _ => format!("{} · {}", it.stage().said(), it.impact.said()),
    }
}

/// What it touches, and since when.
fn about(site: &Site, it: &Publication) -> Markup {
    let names: Vec<&str> =
        it.services.iter().filter_map(|service| Some(site.component(service)?.name.as_str())).collect();
    html! {
        p.quiet {
            (names.join(", ")) ", since " (time(it.since))
            @if let Some(over) = it.over { " until " (time(over)) }
        }
    }
}

fn updates(it: &Publication) -> Markup {
    html! {
        ul.updates {
            @for (_, update) in it.public_updates().into_iter().rev() {
                li {
                    strong { (update.stage.said()) } " " (time(update.at))
                    @if let Some(at) = update.edited { span.quiet { ", changed " (time(at)) } }
                    p.words { (update.text) }
                }
            }
        }
    }
}

fn maintenance(site: &Site, it: &Maintenance) -> Markup {
    html! {
        article.incident {
            h3 { (it.title(site)) }
            p.under_maintenance { strong { (it.stage.said()) } }
            p.quiet { (time(it.span.from.0)) " to " (time(it.span.until.0)) }
            p.words { (it.text) }
        }
    }
}

/// A component with its state and a bar for each protocol; the page that says more of it lies below `more`.
fn bars(site: &Site, it: &Component, more: Option<&str>) -> Markup {
    let total = it.total();
    html! {
        article.component {
            header {
                @match more {
                    Some(more) => h3 { a href={ (more) (it.id) ".html" } { (it.name) } },
                    None => h2 { "Now and in ninety days" },
                }
                span class={ "status " (class(it.now.status, it.now.is_measured)) } {
                    span.shape aria-hidden="true" { (shape(it.now.status, it.now.is_measured)) } " " (it.now.said())
                }
            }
            @if let Some(description) = &it.description { p.quiet { (description) } }
            @if it.now.regions.len() > 1 && it.now.is_measured {
                ul.regions {
                    @for (region, status) in &it.now.regions {
                        @let (is_measured, shown) = (status.is_some(), status.unwrap_or(Status::DegradedPerformance));
                        li class=(class(shown, is_measured)) { span.shape aria-hidden="true" { (shape(shown, is_measured)) } " " (region) ": " (status.map_or(CANNOT_TELL, Status::said)) }
                    }
                }
            }
            @if it.figures.protocols.is_empty() { p.quiet { "No data yet." } }
            dl.protocols {
                @for (protocol, days) in &it.figures.protocols {
                    div {
                        dt { strong { (protocol) } span { (super::figures::ServiceFigures::total(days).said()) } }
                        dd { (bar(site, protocol, days)) }
                    }
                }
            }
            @if it.figures.first().is_some() {
                p.ends aria-hidden="true" { span { (date(site.from)) } span { "today" } }
                p.quiet {
                    "In ninety days: " (total.said())
                    @if let Some(uptime) = it.figures.down.uptime(total) {
                        ". Uptime, as status pages usually count it: " (uptime.said())
                    }
                    "."
                }
            }
        }
    }
}

/// Ninety days of one protocol.
fn bar(site: &Site, protocol: &str, days: &[Counted]) -> Markup {
    let total = super::figures::ServiceFigures::total(days);
    let label = format!("{protocol} over ninety days: {}", total.said());
    let lossy = days.iter().filter(|day| day.lost() > 0).count();
    let label = match lossy {
        0 => label,
        1 => format!("{label}; something was lost on one day"),
        _ => format!("{label}; something was lost on {lossy} days"),
    };
    html! {
        svg.bars role="img" aria-label=(label) viewBox={ "0 0 " (WIDTH * days.len()) " " (HEIGHT) } preserveAspectRatio="none" {
            @for (place, day) in days.iter().enumerate() {
                g { title { (date(site.day(place))) ": " (day.said()) } (column(place * WIDTH, *day)) }
            }
        }
    }
}

/// A day: what was measured in full height, what of it was lost from below, by the square root, so that little is seen; what
/// was not measured hatched from above.
fn column(x: usize, day: Counted) -> Markup {
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let at_least = |height: f64| height.max(LEAST);
    if day.planned == 0 {
        return html! { rect.bar-none x=(x) y=(HEIGHT - 2.0) width=(WIDTH - 2) height="2" {} };
    }
    let blind = match day.unmeasured() {
        0 => 0.0,
        unmeasured if day.measured == 0 || unmeasured == day.planned => HEIGHT,
        unmeasured => at_least(share(unmeasured, day.planned) * HEIGHT).min(HEIGHT - LEAST),
    };
    let measured = HEIGHT - blind;
    let lost = match day.lost() {
        0 => 0.0,
        lost => at_least(share(lost, day.measured).sqrt() * measured).min(measured),
    };
    let width = WIDTH - 2;
    html! {
        @if blind > 0.0 { rect x=(x) y="0" width=(width) height={ (format!("{blind:.1}")) } fill="url(#hatch)" {} }
        @if measured > lost { rect.bar-good x=(x) y={ (format!("{blind:.1}")) } width=(width) height={ (format!("{:.1}", measured - lost)) } {} }
        @if lost > 0.0 { rect.bar-bad x=(x) y={ (format!("{:.1}", HEIGHT - lost)) } width=(width) height={ (format!("{lost:.1}")) } {} }
    }
}

/// The hatching that all bars share.
fn patterns() -> Markup {
    html! {
        svg.defs aria-hidden="true" {
            defs {
                pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect.hatch-ground width="6" height="6" {}
                    line.hatch-line x1="0" y1="0" x2="0" y2="6" {}
                }
            }
        }
    }
}

fn legend() -> Markup {
    let sample = |markup: Markup| html! { svg aria-hidden="true" viewBox="0 0 8 40" preserveAspectRatio="none" { (markup) } };
    let of = |planned, measured, delivered| column(0, Counted { planned, measured, delivered });
    html! {
        ul.legend {
            li { (sample(of(1, 1, 1))) "delivered" }
            li { (sample(of(100, 100, 80))) "lost, the more the higher" }
            li { (sample(of(10, 5, 5))) "not measured" }
            li { (sample(of(0, 0, 0))) "no data" }
        }
    }
}

const fn shape(status: Status, is_measured: bool) -> &'static str {
    match (status, is_measured) {
        (_, false) => "?",
        (Status::Operational, _) => "●",
        (Status::UnderMaintenance, _) => "◆",
        (Status::DegradedPerformance, _) => "▲",
        (Status::PartialOutage, _) => "◧",
        (Status::MajorOutage, _) => "■",
    }
}

const fn class(status: Status, is_measured: bool) -> &'static str {
    if is_measured { status.name() } else { "cannot-tell" }
}

fn time(second: u64) -> Markup {
    html! { time datetime=(rfc3339(Second(second))) { (moment(Second(second))) } }
}
