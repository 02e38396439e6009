//! How results are printed: for people, with tables whose numbers stand to the right, or as JSON.

use std::io::{self, Write};

use clap::ValueEnum;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Prints `rows` below `header`. A column is set to the right where every cell of it below the header begins with a
/// digit or is `-`.
pub(crate) fn print_table(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let columns = header.len();
    let cell = |row: &Vec<String>, column: usize| row.get(column).map_or("", String::as_str).to_owned();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().map(|row| cell(row, column).chars().count());
            cells.chain([header[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let is_number = |text: &str| text == "-" || text.starts_with(|first: char| first.is_ascii_digit());
    let right: Vec<bool> =
        (0..columns).map(|column| rows.iter().all(|row| is_number(&cell(row, column)))).collect();
    let header: Vec<String> = header.iter().map(|&text| text.to_owned()).collect();
    for row in [&header].into_iter().chain(rows) {
        let mut line = String::new();
        for column in 0..columns {
            let (text, width) = (cell(row, column), widths[column]);
            line += &if right[column] { format!("{text:>width$}  ") } else { format!("{text:<width$}  ") };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_set_right() {
        let rows = [["tcp", "9/10"], ["pickle+tls", "100/100"]].map(|row| row.map(str::to_owned).to_vec());
        let mut out = Vec::new();
        print_table(&mut out, &["protocol", "delivered"], &rows).unwrap();
        let expected = "protocol    delivered\ntcp              9/10\npickle+tls    100/100\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
