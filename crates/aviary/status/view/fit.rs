//! Tables and lines that find room on a screen, or are counted.

use std::cmp::Reverse;

use anstyle::{AnsiColor, Style};

use crate::probe::paint::Paint;

/// What stands between two columns.
const GAP: &str = "  ";

/// How much can be shown.
#[derive(Clone, Copy, Debug)]
pub(in crate::status) struct Room {
    pub(in crate::status) columns: usize,
    pub(in crate::status) rows: usize,
}

impl Room {
    /// Where lines are as long, and as many, as they are.
    pub(in crate::status) const BOUNDLESS: Self = Self { columns: usize::MAX, rows: usize::MAX };
}

/// What a word means, which no colour says alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Plain,
    Unprobed,
    Unproven,
    Unknown,
    Lost,
    /// Half of it or more.
    MostlyLost,
}

impl Mark {
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Unprobed => "-",
            Self::Unproven => "~",
            Self::Unknown => "?",
            Self::Lost => "!",
            Self::MostlyLost => "!!",
        }
    }

    /// They differ in brightness too, for whoever sees few colours or none.
    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Unprobed | Self::Unproven => Style::new().dimmed(),
            Self::Unknown => AnsiColor::Cyan.on_default(),
            Self::Lost => AnsiColor::Yellow.on_default().bold(),
            Self::MostlyLost => Style::new().bold().invert(),
        }
    }
}

/// A line: words, and what each means.
#[derive(Clone, Debug)]
pub(in crate::status) struct Line(Vec<(String, Mark)>);

impl Line {
    pub(in crate::status) fn plain(text: impl Into<String>) -> Self {
        Self(vec![(text.into(), Mark::Plain)])
    }

    /// What is not as it should be.
    pub(in crate::status) fn amiss(text: &str) -> Self {
        Self(vec![(clean(text), Mark::MostlyLost)])
    }

    /// As it is written, with colours if there are to be any.
    pub(in crate::status) fn painted(&self, paint: Paint) -> String {
        let painted = |(text, mark): &(String, Mark)| paint.with(mark.style(), text);
        self.0.iter().map(painted).collect::<String>().trim_end().to_owned()
    }

    /// No longer than `columns`, and where it was, that shows.
    pub(in crate::status) fn cut(self, columns: usize) -> Self {
        let whole: String = self.0.iter().map(|(text, _)| text.as_str()).collect();
        if whole.trim_end().chars().count() <= columns {
            return self;
        }
        let mut left = columns.saturating_sub(1);
        let mut cut = Vec::new();
        for (text, mark) in self.0 {
            let part: String = text.chars().take(left).collect();
            left -= part.chars().count();
            cut.push((part, mark));
        }
        cut.push(("…".to_owned(), Mark::Plain));
        Self(cut)
    }
}

/// `text` without what a terminal would obey: names come from whoever reports.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

pub(super) fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

/// A table of which some columns may find no room.
pub(super) struct Table {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<(String, Mark)>>,
    /// From this column on, cells are set to the right.
    pub(super) right_from: usize,
    /// The last column may be cut to so many letters.
    pub(super) last_min: usize,
}

impl Table {
    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].0.chars().count());
        cells.chain([self.head[column].chars().count()]).max().unwrap_or(0)
    }

    /// Those of `wanted`, the most wanted first, that find room beside each other, as they stand.
    pub(super) fn fitted(&self, wanted: &[usize], room: usize) -> Vec<usize> {
        let mut used = 0;
        let fits = |column: &&usize| {
            let is_last = **column + 1 == self.head.len();
            let width = if is_last { self.width(**column).min(self.last_min) } else { self.width(**column) };
            used += width + if used == 0 { 0 } else { GAP.len() };
            used <= room
        };
        let mut shown: Vec<usize> = wanted.iter().take_while(fits).copied().collect();
        shown.sort_unstable();
        shown
    }

    /// The head and the rows, as far as `columns` go.
    pub(super) fn lines(&self, columns: &[usize]) -> (Line, Vec<Line>) {
        let widths: Vec<usize> = (0..self.head.len()).map(|column| self.width(column)).collect();
        let line = |cells: &[(String, Mark)]| {
            let padded = columns.iter().enumerate().flat_map(|(place, &column)| {
                let (text, mark) = &cells[column];
                let pad = " ".repeat(widths[column].saturating_sub(text.chars().count()));
                let (before, after) =
                    if column < self.right_from { ("", pad.as_str()) } else { (pad.as_str(), "") };
                let gap = if place == 0 { "" } else { GAP };
                [
                    (format!("{gap}{before}"), Mark::Plain),
                    (text.clone(), *mark),
                    (after.to_owned(), Mark::Plain),
                ]
            });
            Line(padded.collect())
        };
        let head: Vec<(String, Mark)> = self.head.iter().map(|text| (text.clone(), Mark::Plain)).collect();
        (line(&head), self.rows.iter().map(|row| line(row)).collect())
    }
}

/// Rows under a heading, of which some may find no room.
pub(super) struct Block {
    pub(super) heading: Vec<Line>,
    /// Each with how bad it is; 0 is not worth a word.
    pub(super) rows: Vec<(u64, Line)>,
    /// What is said below of columns that find no room.
    pub(super) below: Option<Line>,
    /// What a row is, and what of it is worth a word.
    pub(super) words: (&'static str, &'static str),
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.heading.len() + self.rows.len() + usize::from(self.below.is_some())
    }

    /// No more than `room` lines, of which one counts the rows that find none: those that are the least bad.
    pub(super) fn fitted(self, room: usize) -> Vec<Line> {
        let whole = self.len();
        let Self { mut heading, rows, below, words } = self;
        let line = |(_, line)| line;
        if whole <= room {
            heading.extend(rows.into_iter().map(line).chain(below));
            return heading;
        }
        let places = room.saturating_sub(heading.len() + 1 + usize::from(below.is_some()));
        let mut worst: Vec<usize> = (0..rows.len()).collect();
        worst.sort_by_key(|place| Reverse(rows[*place].0));
        let (shown, left_out) = worst.split_at(places.min(rows.len()));
        let amiss = left_out.iter().filter(|place| rows[**place].0 > 0).count();
        let more = Line::plain(more(left_out.len(), amiss, places > 0, words));
        if places == 0 {
            return [more].into_iter().chain(below).take(room).collect();
        }
        let shown =
            rows.iter().enumerate().filter(|(place, _)| shown.contains(place)).map(|(_, row)| row.clone());
        heading.extend(shown.map(line).chain([more]).chain(below));
        heading
    }
}

/// Such as `3 more services, 1 of them unwell`.
pub(super) fn more(count: usize, amiss: usize, is_more: bool, (noun, word): (&str, &str)) -> String {
    let more = if is_more { " more" } else { "" };
    let plural = if count == 1 { "" } else { "s" };
    let of_them = if amiss == 0 { "none".to_owned() } else { amiss.to_string() };
    format!("{count}{more} {noun}{plural}, {of_them} of them {word}")
}
