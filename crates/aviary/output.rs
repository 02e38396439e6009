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

/// A second since the Unix epoch as people read it: RFC 3339, in UTC.
pub(crate) fn moment(second: u64) -> String {
    let known = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    known.map_or_else(|| second.to_string(), |at| at.to_string())
}

/// A length of time as people say it.
pub(crate) fn in_time_words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_with_their_zone_and_lengths_in_two_units() {
        assert_eq!(moment(1_763_690_400), "2025-11-21T02:00:00Z");
        assert_eq!(moment(u64::MAX), u64::MAX.to_string());
        let table =
            [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3_599, "59 min 59 s"), (7_260, "2 h 1 min")];
        for (seconds, expected) in table {
            assert_eq!(in_time_words(seconds), expected);
        }
    }

    #[test]
    fn columns_are_aligned_and_numbers_set_right() {
        let rows = [["tcp", "9/10"], ["pickle+tls", "100/100"]].map(|row| row.map(str::to_owned).to_vec());
        let mut out = Vec::new();
        print_table(&mut out, &["protocol", "delivered"], &rows).unwrap();
        let expected = "protocol    delivered\ntcp              9/10\npickle+tls    100/100\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
