//! What was injected beside what aviary made of it.

use std::fmt;

/// One fault of the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(super) fault: String,
    /// How many packets, datagrams or connections were hit, of how many that could have been.
    pub(super) injected: String,
    pub(super) measured: String,
    /// Between which rates the true one lies, at 99 %; and that the nominal one does not, where it does not.
    pub(super) interval: String,
    pub(super) said: String,
    pub(super) page: String,
    /// What was to be otherwise.
    pub(super) wrong: Vec<String>,
}

/// All of them, in columns.
pub(crate) struct Table(pub(crate) Vec<Row>);

impl Table {
    /// What is not as it was to be, a line each.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let rows = self.0.iter().filter(|row| !row.wrong.is_empty());
        rows.map(|row| format!("{}: {}", row.fault, row.wrong.join(", "))).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head =
            ["fault", "injected", "measured", "99 % interval", "right", "page", "said"].map(str::to_owned);
        let rows = self.0.iter().map(|row| {
            let right = if row.wrong.is_empty() { "yes".to_owned() } else { "NO".to_owned() };
            let Row { fault, injected, measured, interval, said, page, .. } = row.clone();
            [fault, injected, measured, interval, right, page, said]
        });
        let rows: Vec<_> = [head].into_iter().chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}
