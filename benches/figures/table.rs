//! The table that is printed, and the words below it.

use std::fmt;

/// One figure, as measured.
pub(crate) struct Figure {
    pub(crate) name: String,
    /// What aviary does.
    pub(crate) aviary: String,
    /// What the rival does.
    pub(crate) rival: String,
    /// The two compared, where that is what the goal is about.
    pub(crate) ratio: String,
    /// What is to be reached; empty of a line that only informs.
    pub(crate) goal: String,
    pub(crate) met: bool,
}

impl Figure {
    /// A figure of aviary's alone, which only informs.
    pub(crate) fn told(name: &str, aviary: String) -> Self {
        Self {
            name: name.to_owned(),
            aviary,
            rival: String::new(),
            ratio: String::new(),
            goal: String::new(),
            met: true,
        }
    }
}

/// All figures, and what they mean.
#[derive(Default)]
pub(crate) struct Table {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Table {
    /// Adds a line.
    pub(crate) fn push(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds a paragraph below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["figure", "aviary", "rival", "ratio", "goal", ""].map(str::to_owned);
        let rows = self.figures.iter().map(|figure| {
            let met = match (figure.goal.is_empty(), figure.met) {
                (true, _) => "",
                (false, true) => "met",
                (false, false) => "NOT MET",
            };
            let Figure { name, aviary, rival, ratio, goal, .. } = figure;
            [name, aviary, rival, ratio, goal, &met.to_owned()].map(Clone::clone)
        });
        let rows: Vec<_> = [head].into_iter().chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3, 4, 5].map(width);
        for (index, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
            if index == 0 {
                writeln!(f, "{}", widths.map(|width| "-".repeat(width)).join("  ").trim_end())?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{}", wrapped(note)))
    }
}

/// `text` in lines that a terminal has room for.
fn wrapped(text: &str) -> String {
    const COLUMNS: usize = 110;
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > COLUMNS {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += width;
    }
    lines
}

/// The value in the middle; of an even number the upper of the two.
///
/// # Panics
/// If there is no value.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The least and the greatest of some ratios, in words.
pub(crate) fn least_and_greatest(ratios: &[f64]) -> String {
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = ratios.iter().copied().fold(0.0, f64::max);
    format!("{least:.2} to {greatest:.2}")
}
