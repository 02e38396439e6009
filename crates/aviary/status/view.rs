//! What `aviary status --watch` shows: each service, the worst first, then what was delivered by protocol and place.
//!
//! ```text
//! Overview -> tables -> fitted into a Room -> Line: words and what they mean -> painted, or plain
//! ```
//!
//! What is amiss has a sign beside its colour. What finds no room is counted in words, and is what loses the least.

mod fit;

use std::cmp::Reverse;

use aviary_core::{VantageKind, extent::percent};
use serde::Deserialize;

use self::fit::{Block, Mark, Table, clean, more, shortened};
pub(super) use self::fit::{Line, Room};
use super::in_words;
use crate::output::in_time_words;

/// Whoever has no room for so many rows or columns is told a single line.
const ROWS_MIN: usize = 4;
const COLUMNS_MIN: usize = 20;

/// Whoever has so many rows has some for what is for the eye, also where something else finds none.
const ROWS_OF_A_FRAME: usize = 16;

const LEGEND: &str = "! lost  !! half or more  ? cannot tell, not measured  ~ unproven  - not probed";

/// Names are not cut to less.
const NAME_MIN: usize = 12;

/// What rows are, and what of them is worth a word.
const SERVICES: (&str, &str) = ("service", "unwell");
const PROTOCOLS: (&str, &str) = ("protocol", "losing");

/// The operator's first page, as a collector answers it in JSON.
#[derive(Debug, Deserialize)]
pub(super) struct Overview {
    pub(super) now: u64,
    services_total: usize,
    /// The worst first; not all of them where they are many.
    services: Vec<Service>,
    matrix: Matrix,
}

#[derive(Debug, Deserialize)]
struct Service {
    name: String,
    state: String,
    silenced: bool,
    r#where: Option<String>,
    since: u64,
    lost_now: Window,
    lost_minute: Window,
}

#[derive(Debug, Deserialize)]
struct Matrix {
    by: String,
    columns: Vec<String>,
    columns_left_out: usize,
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    /// From which kind of vantage, where there are several.
    kind: Option<String>,
    protocol: String,
    cells: Vec<Option<Window>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Window {
    scheduled: u64,
    delivered: u64,
    lost: u64,
    local: u64,
    missed: u64,
    muted: u64,
    unproven: u64,
    unknown: u64,
}

impl Mark {
    fn of_state(state: &str) -> Self {
        match state {
            "down" => Self::MostlyLost,
            "degraded" => Self::Lost,
            "blind" => Self::Unknown,
            "unproven" | "starting" => Self::Unproven,
            _ => Self::Plain,
        }
    }

    const fn of_window(window: &Window) -> Self {
        let Window { scheduled, delivered, lost, local, missed, unproven, unknown, .. } = *window;
        if lost > 0 {
            return if lost >= delivered { Self::MostlyLost } else { Self::Lost };
        }
        match (unknown + local + missed, unproven, delivered) {
            (1.., _, _) => Self::Unknown,
            (0, 1.., _) => Self::Unproven,
            (0, 0, 0) if scheduled > 0 => Self::Unprobed,
            _ => Self::Plain,
        }
    }
}

/// What `seen` shows, in a `room`.
pub(super) fn lines(seen: &Overview, room: Room) -> Vec<Line> {
    if room.rows < ROWS_MIN || room.columns < COLUMNS_MIN {
        let amiss = seen.services.iter().filter(|service| service.badness() > 0).count();
        let text = more(seen.services_total, amiss, false, SERVICES);
        return vec![Line::plain(text).cut(room.columns)];
    }
    let (services, mut matrix) = (services(seen, room.columns), matrix(&seen.matrix, room.columns));
    // What is for the eye goes first.
    let frame = 2;
    let has_frame = room.rows >= services.len() + matrix.len() + frame || room.rows >= ROWS_OF_A_FRAME;
    if !has_frame && matrix.heading.len() > 1 {
        matrix.heading.remove(0);
    }
    let rows = room.rows - if has_frame { frame } else { 0 };
    let matrix_rows = matrix.len().min((rows / 2).max(rows.saturating_sub(services.len())));
    let mut lines = services.fitted(rows - matrix_rows);
    if has_frame {
        lines.push(Line::plain(""));
    }
    lines.extend(matrix.fitted(matrix_rows));
    if has_frame {
        lines.push(Line::plain(LEGEND));
    }
    lines.into_iter().map(|line| line.cut(room.columns)).collect()
}

impl Service {
    fn badness(&self) -> u64 {
        match self.state.as_str() {
            "down" => 3,
            "degraded" => 2,
            "blind" => 1,
            _ => 0,
        }
    }
}

impl Overview {
    /// Whether no service is degraded, down or blind: the worst are all here.
    pub(super) fn is_well(&self) -> bool {
        self.services.iter().all(|service| service.badness() == 0)
    }
}

impl Row {
    /// The cell in a column, if anything is probed there.
    fn at(&self, column: usize) -> Option<&Window> {
        self.cells.get(column)?.as_ref()
    }
}

fn services(seen: &Overview, columns: usize) -> Block {
    let row = |service: &Service| {
        let mark = Mark::of_state(&service.state);
        let silenced = if service.silenced { ", silenced" } else { "" };
        let loss = |window: &Window| (loss(window), Mark::of_window(window));
        vec![
            (shortened(&clean(&service.name), NAME_MIN.max(columns / 3)), Mark::Plain),
            (format!("{:>2} {}{silenced}", mark.sign(), clean(in_words(&service.state))), mark),
            loss(&service.lost_now),
            loss(&service.lost_minute),
            (in_time_words(seen.now.saturating_sub(service.since)), Mark::Plain),
            (clean(service.r#where.as_deref().unwrap_or_default()), Mark::Plain),
        ]
    };
    let head = ["service", "   state", "lost in 10 s", "in a minute", "for", "where"].map(str::to_owned);
    let rows = seen.services.iter().map(row).collect();
    let table = Table { head: head.into(), rows, right_from: usize::MAX, last_min: 16 };
    let shown = table.fitted(&[0, 1, 2, 5, 3, 4], columns);
    let left_out: Vec<&str> = (0..table.head.len())
        .filter(|column| !shown.contains(column))
        .map(|column| table.head[column].trim())
        .collect();
    let (head, rows) = table.lines(&shown);
    let rows = seen.services.iter().map(Service::badness).zip(rows).collect();
    let of_them = seen.services_total.saturating_sub(seen.services.len());
    let mut below: Vec<String> = Vec::new();
    if of_them > 0 {
        below.push(format!("{of_them} more services, none of them worse"));
    }
    if !left_out.is_empty() {
        below.push(format!("no room for {}: {}", left_out.len(), left_out.join(", ")));
    }
    let heading = match seen.services.is_empty() {
        true => vec![Line::plain("No service is configured or reported here yet.")],
        false => vec![head],
    };
    let below = (!below.is_empty()).then(|| Line::plain(below.join("; ")));
    Block { heading, rows, below, words: SERVICES }
}

fn matrix(matrix: &Matrix, columns: usize) -> Block {
    if matrix.rows.is_empty() {
        let heading = vec![Line::plain("Nothing was probed in the last minute.")];
        return Block { heading, rows: Vec::new(), below: None, words: PROTOCOLS };
    }
    let lost = |cell: Option<&Window>| cell.map_or(0, |window| window.lost);
    let cell = |cell: Option<&Window>| {
        let Some(window) = cell else { return (Mark::Unprobed.sign().to_owned(), Mark::Unprobed) };
        let mark = Mark::of_window(window);
        (format!("{:>2} {}/{}", mark.sign(), window.delivered, window.scheduled), mark)
    };
    let head = ["protocol".to_owned()]
        .into_iter()
        .chain(matrix.columns.iter().map(|place| shortened(&clean(place), NAME_MIN.max(columns / 4))));
    let row = |row: &Row| {
        let cells = (0..matrix.columns.len()).map(|place| cell(row.at(place)));
        let kind = row.kind.as_ref().map(|kind| {
            kind.parse().map_or_else(|_| clean(kind), |kind: VantageKind| kind.words().to_owned())
        });
        let name =
            kind.map_or_else(|| clean(&row.protocol), |kind| format!("{} {kind}", clean(&row.protocol)));
        [(name, Mark::Plain)].into_iter().chain(cells).collect()
    };
    let rows = matrix.rows.iter().map(row).collect();
    let table = Table { head: head.collect(), rows, right_from: 1, last_min: usize::MAX };
    let lost_there = |place: usize| -> u64 { matrix.rows.iter().map(|row| lost(row.at(place))).sum() };
    let mut wanted: Vec<usize> = (0..matrix.columns.len()).collect();
    wanted.sort_by_key(|place| Reverse(lost_there(*place)));
    let wanted: Vec<usize> = [0].into_iter().chain(wanted.into_iter().map(|place| place + 1)).collect();
    let shown = table.fitted(&wanted, columns);
    let left_out: Vec<&usize> = wanted.iter().filter(|column| !shown.contains(column)).collect();
    let losing = left_out.iter().filter(|column| lost_there(***column - 1) > 0).count();
    let mut below = Vec::new();
    if !left_out.is_empty() {
        below.push(more(left_out.len(), losing, shown.len() > 1, (&matrix.by, "losing")));
    }
    if matrix.columns_left_out > 0 {
        below.push(format!("{} more that lose no more than these", matrix.columns_left_out));
    }
    let (head, rows) = table.lines(&shown);
    let lost_of = |row: &Row| row.cells.iter().map(|cell| lost(cell.as_ref())).sum();
    let rows = matrix.rows.iter().map(lost_of).zip(rows).collect();
    let title = format!("Delivered / scheduled in the last minute, by protocol and {}", matrix.by);
    let below = (!below.is_empty()).then(|| Line::plain(below.join("; and ")));
    Block { heading: vec![Line::plain(title), head], rows, below, words: PROTOCOLS }
}

/// What a window says of loss: a share where anything was judged, and otherwise why nothing was.
fn loss(window: &Window) -> String {
    let Window { delivered, lost, local, missed, muted, unproven, unknown, .. } = *window;
    match delivered + lost {
        0 => {}
        _ if lost == 0 => return "none".to_owned(),
        judged => return percent(lost as f64 / judged as f64),
    }
    let most = [
        (unknown, "cannot tell"),
        (local + missed, "not measured"),
        (unproven, "unproven"),
        (muted, "not probed"),
    ];
    let (count, word) = most.into_iter().max_by_key(|(count, _)| *count).unwrap_or_default();
    if count > 0 { word } else { "-" }.to_owned()
}

#[cfg(test)]
mod tests;
