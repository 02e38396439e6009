//! The matrix: what was delivered of the last minute by protocol and place. A row is a protocol, so that a bad row means
//! "all of it" and a bad column "just there". Where there are several kinds of vantage, each has rows of its own: what is lost
//! outside is not to be looked for among a thousand nodes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use aviary_core::{Second, Tag, VantageKind};
use maud::{Markup, html};
use serde::Serialize;

use super::{
    shown::{COLUMNS, Shown},
    words,
};
use crate::{Collector, closed_until, error::ApiError, history::Steps, sums, sums::WindowBody};

/// So many seconds are summed.
const SECONDS: u64 = 60;

/// So many places are shown, those that lose the most.
const COLUMNS_MAX: usize = 60;

/// What was delivered by protocol and place.
#[derive(Debug, Serialize)]
pub(crate) struct Matrix {
    by: &'static str,
    from: u64,
    until: u64,
    /// The places.
    columns: Vec<String>,
    /// There are so many more, none of which loses more.
    columns_left_out: usize,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    /// From which kind of vantage; none where there is but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    protocol: String,
    /// In the order of the columns; none where nothing is probed.
    cells: Vec<Option<WindowBody>>,
}

impl Matrix {
    /// Of `service`, or of all. Blocks.
    pub(crate) fn gather(collector: &Collector, service: Option<&str>, by: Tag) -> Result<Self, ApiError> {
        let until = closed_until(collector.now());
        let steps = Steps { from: until.minus(SECONDS), seconds: SECONDS, count: 1 };
        let tags = [Tag::Protocol, Tag::Kind, by];
        // Each tag is named once.
        let tags = if by == Tag::Kind { &tags[..2] } else { &tags[..] };
        let sums = sums::sums(collector, tags, service, steps)?;
        let windows = sums.windows.into_iter().map(WindowBody::from);
        let cells = sums.values.into_iter().zip(windows).map(|(mut values, window)| {
            let last = values.last().cloned();
            values.extend(last.filter(|_| by == Tag::Kind));
            (values, window)
        });
        Ok(Self::of(by, (steps.from, until), cells))
    }

    fn of(
        by: Tag,
        (from, until): (Second, Second),
        cells: impl IntoIterator<Item = (Vec<String>, WindowBody)>,
    ) -> Self {
        let cells: Vec<_> = cells.into_iter().filter(|(_, window)| window.scheduled > 0).collect();
        let kinds: BTreeSet<VantageKind> =
            cells.iter().filter_map(|(values, _)| values[1].parse().ok()).collect();
        // Where the kinds are the columns, they are no rows.
        let are_told_apart = kinds.len() > 1 && by != Tag::Kind;
        let kind_of = |name: &str| {
            let kind = name.parse().ok().filter(|_| are_told_apart);
            kind.map(|kind: VantageKind| (kind.nearness(), kind))
        };
        let mut rows: BTreeMap<_, BTreeMap<String, WindowBody>> = BTreeMap::new();
        let mut lost: BTreeMap<String, u64> = BTreeMap::new();
        for (values, window) in cells {
            let [protocol, kind, place] = values.try_into().unwrap_or_default();
            *lost.entry(place.clone()).or_default() += window.lost;
            rows.entry((kind_of(&kind), protocol)).or_default().insert(place, window);
        }
        let mut columns: Vec<String> = lost.keys().cloned().collect();
        columns.sort_by_key(|place| Reverse(lost[place]));
        let columns_left_out = columns.len().saturating_sub(COLUMNS_MAX);
        columns.truncate(COLUMNS_MAX);
        columns.sort();
        let row = |((kind, protocol), mut found): ((Option<(_, VantageKind)>, String), BTreeMap<_, _>)| Row {
            kind: kind.map(|(_, kind)| kind.name()),
            protocol,
            cells: columns.iter().map(|place| found.remove(place)).collect(),
        };
        let rows = rows.into_iter().map(row).collect();
        Self { by: by.name(), from: from.0, until: until.0, columns, columns_left_out, rows }
    }

    /// As a table, with links to the other tags that it can have as columns.
    pub(crate) fn html(&self, path: &str, shown: &Shown) -> Markup {
        html! {
            section id="matrix" aria-labelledby="matrix-heading" {
                h2 id="matrix-heading" { "Delivered by protocol and " (self.by) }
                nav.choice aria-label="Columns of the matrix" {
                    "By "
                    @for tag in COLUMNS {
                        a href=(Shown { by: tag, ..*shown }.at(path)) aria-current=[(tag == shown.by).then_some("true")] { (tag) }
                        " "
                    }
                }
                @if self.rows.is_empty() {
                    p { "Nothing was probed in the last " (SECONDS) " s." }
                } @else {
                    div.scroll tabindex="0" role="group" aria-labelledby="matrix-heading" {
                        table.matrix {
                            caption {
                                "Delivered / scheduled, and the share that was lost, from " (words::time(self.from)) " to " (words::time(self.until)) "."
                            }
                            thead { tr {
                                th scope="col" { "protocol" }
                                @for place in &self.columns { th scope="col" { (place) } }
                            } }
                            tbody { @for row in &self.rows { tr {
                                th scope="row" { (row.protocol) @if let Some(kind) = row.kind { span.said { (words::kind(kind)) } } }
                                @for cell in &row.cells { (cell_html(cell.as_ref())) }
                            } } }
                        }
                    }
                    @if self.columns_left_out > 0 {
                        p { (words::number(self.columns_left_out as u64)) " more are not shown: none of them loses more than these." }
                    }
                }
            }
        }
    }
}

fn cell_html(window: Option<&WindowBody>) -> Markup {
    let Some(window) = window else {
        return html! { td.absent { span.quiet { "not probed" } } };
    };
    html! {
        td class=(words::shade(window)) {
            span.figure { (words::number(window.delivered)) " / " (words::number(window.scheduled)) }
            span.said { (words::loss(window)) }
            @if let Some(beside) = words::beside(window).filter(|_| window.delivered + window.lost > 0) {
                span.said { (beside) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::Window;

    use super::*;

    fn cell(protocol: &str, place: &str, delivered: u64, lost: u64) -> (Vec<String>, WindowBody) {
        let window = Window { scheduled: delivered + lost, delivered, lost, ..Window::default() };
        (vec![protocol.to_owned(), "external".to_owned(), place.to_owned()], window.into())
    }

    fn matrix(cells: Vec<(Vec<String>, WindowBody)>) -> Matrix {
        Matrix::of(Tag::Region, (Second(60), Second(120)), cells)
    }

    #[test]
    fn a_row_is_a_protocol_and_a_column_a_place() {
        let cells = vec![
            cell("udp", "us", 0, 60),
            cell("tcp", "eu", 60, 0),
            cell("udp", "eu", 30, 30),
            cell("tls", "gone", 0, 0),
        ];
        let matrix = matrix(cells);
        assert_eq!(matrix.columns, ["eu", "us"]);
        let told: Vec<(&str, Vec<Option<u64>>)> = matrix
            .rows
            .iter()
            .map(|row| {
                (row.protocol.as_str(), row.cells.iter().map(|cell| cell.map(|it| it.delivered)).collect())
            })
            .collect();
        assert_eq!(told, [("tcp", vec![Some(60), None]), ("udp", vec![Some(30), Some(0)])]);
        let html = matrix.html("/", &Shown::default()).into_string();
        for expected in [
            r#"<th scope="row">udp</th><td class="shade-4"><span class="figure">30 / 60</span><span class="said">50 % lost</span>"#,
            r#"<td class="absent"><span class="quiet">not probed</span></td>"#,
            r#"<a href="/?by=zone">zone</a>"#,
            r#"<a href="/" aria-current="true">region</a>"#,
        ] {
            assert!(html.contains(expected), "{expected} in {html}");
        }
    }

    #[test]
    fn each_kind_of_vantage_has_rows_of_its_own() {
        let of_kind = |kind: &str, place, lost| {
            let (mut values, window) = cell("tcp", place, 60 - lost, lost);
            kind.clone_into(&mut values[1]);
            (values, window)
        };
        let cells = || {
            vec![of_kind("loopback", "dc", 0), of_kind("datacentre", "dc", 1), of_kind("external", "eu", 60)]
        };
        let matrix = matrix(cells());
        let rows: Vec<_> =
            matrix.rows.iter().map(|row| (row.kind, row.cells[0].map(|cell| cell.lost))).collect();
        assert_eq!(
            rows,
            [(Some("external"), None), (Some("datacentre"), Some(1)), (Some("loopback"), Some(0))]
        );
        let html = matrix.html("/", &Shown::default()).into_string();
        for expected in ["outside", "in the data centre", "on the node itself"] {
            let row = format!(r#"<th scope="row">tcp<span class="said">{expected}</span></th>"#);
            assert!(html.contains(&row), "{row} in {html}");
        }
        let of_columns = cells()
            .into_iter()
            .map(|(values, window)| (vec![values[0].clone(), values[1].clone(), values[1].clone()], window));
        let by_kind = Matrix::of(Tag::Kind, (Second(60), Second(120)), of_columns);
        assert_eq!((by_kind.rows.len(), by_kind.columns.len()), (1, 3), "the columns say it");
    }

    #[test]
    fn of_too_many_places_those_that_lose_the_most_are_shown() {
        let cells =
            (0..COLUMNS_MAX as u64 + 5).map(|place| cell("tcp", &format!("{place:03}"), 60, place)).collect();
        let matrix = matrix(cells);
        assert_eq!((matrix.columns.len(), matrix.columns_left_out), (COLUMNS_MAX, 5));
        assert_eq!(matrix.columns[0], "005");
    }

    #[test]
    fn names_are_text_and_never_markup() {
        let name = "<script>alert('&\"')</script>";
        let html = matrix(vec![cell(name, name, 1, 0)]).html("/", &Shown::default()).into_string();
        assert!(!html.contains("<script>"), "{html}");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }
}
