//! Drawing a chart: numbers in, markup out.
//!
//! A lane is as wide as its page and stretches with it; its text stands beside it in HTML, so that it stays readable. Strokes do
//! not stretch (`vector-effect` in the style sheet), so that the loss of one second is seen in a year.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::{Chart, Line, Run};
use crate::{
    events,
    pages::{
        shown::{Shown, Zoom},
        words,
    },
};
use aviary_core::Second;

/// A lane's height in its own units, and where 1.0 and 0.0 are in it.
const HEIGHT: u64 = 40;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 36.0;

/// A time with loss is shown in its surroundings: so many seconds after it are in the picture.
const AROUND_SECONDS: u64 = 20;

impl Chart {
    /// As a section, whose links show the page at `path` with another span.
    pub(crate) fn html(&self, path: &str, shown: &Shown) -> Markup {
        let span = self.until - self.from;
        let back = Shown { until: Some(Second(self.until - span)), ..*shown };
        let forward = Shown { until: shown.until.map(|until| until.plus(span)), ..*shown };
        let now = Shown { until: None, ..*shown };
        html! {
            section id="chart" aria-labelledby="chart-heading" {
                h2 id="chart-heading" { "Delivered per second by protocol" }
                nav.choice aria-label="Span of the chart" {
                    a href=(back.at(path)) { "← earlier" } " "
                    @for zoom in Zoom::ALL {
                        a href=(Shown { zoom: *zoom, ..*shown }.at(path)) aria-current=[(*zoom == shown.zoom).then_some("true")] { (zoom.words()) } " "
                    }
                    @if shown.until.is_some() {
                        a href=(forward.at(path)) { "later →" } " "
                        a href=(now.at(path)) { "now" }
                    }
                }
                @if self.lines.is_empty() {
                    p { "Nothing was probed in this span." }
                } @else {
                    div.lanes {
                        @for line in &self.lines { (self.lane(line)) }
                        p.axis {
                            span { (words::time(self.from)) }
                            span.middle { (words::time(self.from + span / 2)) }
                            span { (words::time(self.until)) }
                        }
                    }
                    p.quiet {
                        "The top of a lane is 1.0: every datapoint of the protocol was delivered. A tick below marks "
                        @if self.step == 1 { "each second" } @else { "each " (words::lasted(self.step)) }
                        " in which something was lost. Where nothing is drawn, nothing was measured or nobody can tell."
                    }
                }
                (self.losses_html(path, shown))
                (self.changes_html())
            }
        }
    }

    fn lane(&self, line: &Line) -> Markup {
        let width = (self.until - self.from) / self.step;
        let marks = self.losses_path(line);
        let changes = self.changes_path();
        html! {
            div.lane {
                span.name { (line.protocol) }
                svg viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(line.said()) {
                    path.full d=(format!("M0 {TOP}H{width}")) {}
                    @if !changes.is_empty() { path.change d=(changes) {} }
                    path.rate d=(self.rate_path(line)) {}
                    @if !marks.is_empty() { path.loss d=(marks) {} }
                }
                span.newest { (line.newest()) }
            }
        }
    }

    fn x(&self, second: u64) -> u64 {
        second.saturating_sub(self.from) / self.step
    }

    /// Steps: level through each run, up or down to the next, and nothing where nothing was judged.
    fn rate_path(&self, line: &Line) -> String {
        let mut path = String::new();
        let mut pen_at = None;
        for Run { from, until, rate, .. } in &line.runs {
            let Some(rate) = rate else {
                pen_at = None;
                continue;
            };
            let (left, right) = (self.x(*from), self.x(*until));
            let y = BOTTOM - (BOTTOM - TOP) * rate;
            // Writing to a string cannot fail.
            _ = match pen_at {
                Some(at) if at == left => write!(path, "V{y:.1}H{right}"),
                _ => write!(path, "M{left} {y:.1}H{right}"),
            };
            pen_at = Some(right);
        }
        path
    }

    /// A bar from 0.0 up through each time with loss, as wide as that.
    fn losses_path(&self, line: &Line) -> String {
        let mut path = String::new();
        for loss in &line.losses {
            let (left, right) = (self.x(loss.from), self.x(loss.until).max(self.x(loss.from) + 1));
            _ = write!(path, "M{left} {BOTTOM}H{right}V{HEIGHT}H{left}Z");
        }
        path
    }

    fn changes_path(&self) -> String {
        self.changes
            .iter()
            .fold(String::new(), |path, change| format!("{path}M{} 0V{HEIGHT}", self.x(change.at)))
    }

    fn losses_html(&self, path: &str, shown: &Shown) -> Markup {
        if self.losses.is_empty() {
            return html! { p { "Nothing was lost in this span." } };
        }
        let times = (self.losses.len() + self.losses_left_out) as u64;
        html! {
            details id="losses" {
                summary { (words::counted(times, "time")) " with loss in this span" }
                ul.times { @for of in &self.losses {
                    @let until = Second(of.loss.until.max(of.loss.from + 60 - AROUND_SECONDS) + AROUND_SECONDS);
                    @let zoom = Zoom::around(until.0 - of.loss.from);
                    li {
                        a href=(Shown { zoom, until: Some(until), ..*shown }.at(path)) { (words::time(of.loss.from)) }
                        ", " @if !of.exact { "within " } (words::lasted(of.loss.until - of.loss.from)) ": "
                        (of.protocol) ", " (words::number(of.loss.lost)) " of " (words::number(of.loss.judged)) " lost"
                    }
                } }
                @if self.losses_left_out > 0 {
                    p { (words::number(self.losses_left_out as u64)) " older ones are not listed: choose a shorter span." }
                }
            }
        }
    }

    fn changes_html(&self) -> Markup {
        if self.changes.is_empty() {
            return html! {};
        }
        html! {
            h3 { "What changed" }
            ul.changes {
                @for change in self.changes.iter().rev() { li { (words::time(change.at)) ": " (said(change)) } }
            }
            @if self.changes_left_out > 0 {
                p { (words::number(self.changes_left_out as u64)) " older ones are not shown." }
            }
        }
    }
}

/// A change in words.
fn said(change: &events::Body) -> String {
    let mut text = change.kind.replace('_', " ");
    if let Some(service) = &change.service {
        text = format!("{text} of {service}");
    }
    if let Some(by) = &change.by {
        text = format!("{text} by {by}");
    }
    match (&change.text, &change.address, &change.host) {
        (Some(said), ..) => format!("{text}: {said}"),
        (None, Some(address), Some(host)) => format!("{text}: {address} of {host}"),
        _ => text,
    }
}

impl Line {
    /// The newest point's rate.
    fn newest(&self) -> String {
        match self.runs.last().and_then(|run| run.rate) {
            // A rate that is not quite 1 is not shown as 1.
            Some(rate) if rate < 1.0 => format!("{:.2}", (rate * 100.0).floor() / 100.0),
            Some(_) => "1.0".to_owned(),
            None => "–".to_owned(),
        }
    }

    /// The lane for those who do not see it.
    fn said(&self) -> String {
        let lost: u64 = self.losses.iter().map(|loss| loss.lost).sum();
        let judged: u64 = self.runs.iter().map(|run| run.delivered + run.lost).sum();
        let loss = match lost {
            0 => "nothing lost".to_owned(),
            lost => {
                let times = words::counted(self.losses.len() as u64, "time");
                format!("{} of {} lost, at {times}", words::number(lost), words::number(judged))
            }
        };
        format!("{}: {loss}; {} in the newest second drawn", self.protocol, self.newest())
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::{Span, detect::Tally};

    use super::*;
    use crate::pages::chart::{Loss, LossOf};

    fn chart(points: &[(u64, u64)], step: u64) -> Chart {
        let points: Vec<(Span, Tally)> = (0..)
            .zip(points)
            .map(|(place, (judged, lost))| {
                let from = Second(place * step);
                (Span::new(from, from.plus(step)), Tally { judged: *judged, lost: *lost })
            })
            .collect();
        let until = step * points.len() as u64;
        Chart {
            span: "1m",
            from: 0,
            until,
            step,
            lines: vec![Line::of("udp".to_owned(), points, Second(until))],
            losses: Vec::new(),
            losses_left_out: 0,
            changes: Vec::new(),
            changes_left_out: 0,
        }
    }

    #[test]
    fn a_line_is_level_where_nothing_changes_and_absent_where_nothing_was_measured() {
        type Points = [(u64, u64)];
        let table: [(&Points, u64, &str, &str); 5] = [
            (&[(1, 0); 60], 1, "M0 8.0H60", ""),
            (&[(2, 0), (2, 1), (2, 2), (2, 0)], 1, "M0 8.0H1V22.0H2V36.0H3V8.0H4", "M1 36H3V40H1Z"),
            (&[(2, 0), (0, 0), (2, 0)], 1, "M0 8.0H1M2 8.0H3", ""),
            (&[(0, 0); 3], 1, "", ""),
            (&[(600, 0), (600, 6)], 600, "M0 8.0H1V8.3H2", "M1 36H2V40H1Z"),
        ];
        for (points, step, rate, loss) in table {
            let chart = chart(points, step);
            let line = &chart.lines[0];
            assert_eq!((chart.rate_path(line), chart.losses_path(line)), (rate.to_owned(), loss.to_owned()));
        }
    }

    #[test]
    fn a_lane_says_what_it_shows() {
        let table: [(&[(u64, u64)], &str); 3] = [
            (&[(6, 0), (6, 0)], "udp: nothing lost; 1.0 in the newest second drawn"),
            (
                &[(6, 1), (6, 0), (1_000, 1)],
                "udp: 2 of 1,012 lost, at 2 times; 0.99 in the newest second drawn",
            ),
            (&[(0, 0)], "udp: nothing lost; – in the newest second drawn"),
        ];
        for (points, expected) in table {
            assert_eq!(chart(points, 1).lines[0].said(), expected);
        }
    }

    #[test]
    fn links_keep_the_view_and_go_to_the_exact_seconds() {
        let mut chart = chart(&[(1, 0); 60], 1);
        (chart.from, chart.until) = (1_000, 1_060);
        let loss = Loss { from: 1_030, until: 1_032, lost: 2, judged: 2 };
        chart.losses.push(LossOf { protocol: "<udp>".to_owned(), loss, exact: true });
        let shown = Shown { zoom: Zoom::Minute, until: Some(Second(1_060)), page: 2, ..Shown::default() };
        let html = chart.html("/a", &shown).into_string();
        for expected in [
            r#"<a href="/a?span=1m&amp;until=1000&amp;page=2">← earlier</a>"#,
            r#"<a href="/a?span=1m&amp;until=1120&amp;page=2">later →</a>"#,
            r#"<a href="/a?span=1m&amp;page=2">now</a>"#,
            r#"<a href="/a?span=1y&amp;until=1060&amp;page=2">1 year</a>"#,
            r#"<a href="/a?span=1m&amp;until=1090&amp;page=2"><time datetime="1970-01-01T00:17:10Z">"#,
            "&lt;udp&gt;, 2 of 2 lost",
        ] {
            assert!(html.contains(expected), "{expected} in {html}");
        }
    }
}
