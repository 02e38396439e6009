//! The Graphite line: `name value timestamp\n`.

use std::io::Write;

use aviary_core::Second;

use crate::datapoint::{
    Datapoint, LINE_BYTES_MAX, NameError, SecondError, ValueError, check_name, parse_second, parse_value,
};

/// Why a line is no datapoint: which field, at which byte of the line, and what would be right.
///
/// Never shows the line: its first part may be an API key, and fields may have been swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("the line has {bytes} bytes and a newline; at most {LINE_BYTES_MAX} in all are taken")]
    TooLong {
        /// Its length, as far as it was read.
        bytes: usize,
    },
    /// Not three fields.
    #[error("the line has {found} fields; write NAME VALUE TIMESTAMP, separated by spaces")]
    Fields {
        /// How many there are.
        found: usize,
    },
    /// A broken name.
    #[error(transparent)]
    Name(NameError),
    /// A broken value.
    #[error("the value at byte {offset} {problem}")]
    Value {
        /// Where the field begins.
        offset: usize,
        /// What is wrong.
        problem: ValueError,
    },
    /// A broken timestamp.
    #[error("the timestamp at byte {offset} {problem}")]
    Second {
        /// Where the field begins.
        offset: usize,
        /// What is wrong.
        problem: SecondError,
    },
}

/// `datapoint` as a line, newline included.
pub fn encode(datapoint: &Datapoint) -> Vec<u8> {
    let mut line = Vec::with_capacity(datapoint.name.len() + 24);
    encode_into(&mut line, &datapoint.name, datapoint.value, datapoint.second);
    line
}

/// Appends a line to `out`, newline included. The name is taken as it is; one that [`check_name`] refuses makes a
/// line that receivers refuse.
pub fn encode_into(out: &mut Vec<u8>, name: &str, value: f64, second: Second) {
    out.extend_from_slice(name.as_bytes());
    let plain = value == 0.0 || (1e-5..1e15).contains(&value.abs());
    // Digits without an exponent where a person would write them so; 300 zeros would not fit a line.
    let written =
        if plain { writeln!(out, " {value} {second}") } else { writeln!(out, " {value:e} {second}") };
    written.expect("writing to a Vec does not fail");
}

/// Reads one line, without its newline.
///
/// Strict where receivers differ: exactly three fields, a plain name, a finite value, a timestamp of whole seconds (a
/// decimal fraction is cut off, as carbon does). Spaces and tabs may stand around the fields, `\r` at the end.
pub fn decode(line: &[u8]) -> Result<Datapoint, LineError> {
    if line.len() >= LINE_BYTES_MAX {
        return Err(LineError::TooLong { bytes: line.len() });
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut fields = Fields { line, at: 0 };
    let (Some(name), Some(value), Some(second), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(LineError::Fields { found: Fields { line, at: 0 }.count() });
    };
    let text = |(from, until): (usize, usize)| &line[from..until];
    check_name(text(name), name.0).map_err(LineError::Name)?;
    Ok(Datapoint {
        name: String::from_utf8_lossy(text(name)).into_owned(),
        value: parse_value(text(value)).map_err(|problem| LineError::Value { offset: value.0, problem })?,
        second: parse_second(text(second))
            .map_err(|problem| LineError::Second { offset: second.0, problem })?,
    })
}

/// The fields of a line: where each begins and ends.
struct Fields<'a> {
    line: &'a [u8],
    at: usize,
}

impl Iterator for Fields<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let from = self.at + self.line[self.at..].iter().position(|byte| !is_space(byte))?;
        let until =
            self.line[from..].iter().position(is_space).map_or(self.line.len(), |length| from + length);
        self.at = until;
        Some((from, until))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(name: &str, value: f64, second: u64) -> Datapoint {
        Datapoint { name: name.to_owned(), value, second: Second(second) }
    }

    #[test]
    fn a_line_is_name_value_timestamp() {
        let table = [
            (1.0, "a.b 1 1763690400\n"),
            (0.0, "a.b 0 1763690400\n"),
            (-2.5, "a.b -2.5 1763690400\n"),
            (1e300, "a.b 1e300 1763690400\n"),
        ];
        for (value, expected) in table {
            assert_eq!(encode(&point("a.b", value, 1_763_690_400)), expected.as_bytes());
        }
    }

    #[test]
    fn separators_are_runs_of_spaces_and_tabs() {
        for line in ["a.b 1 7", "a.b\t1\t7", "  a.b \t 1   7 ", "a.b 1 7\r", "a.b 1.0 7.9"] {
            assert_eq!(decode(line.as_bytes()), Ok(point("a.b", 1.0, 7)), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_line_says_where_and_shows_nothing() {
        let long = format!("secret.{} 1 7", "x.".repeat(600));
        let table: [(&str, &str); 14] = [
            ("", "has 0 fields; write NAME VALUE TIMESTAMP"),
            ("secret.b 1", "has 2 fields"),
            ("secret.b 1 7 8", "has 4 fields"),
            ("secret.b nan 7", "the value at byte 9 is NaN"),
            ("secret.b inf 7", "the value at byte 9 is infinite"),
            ("secret.b 0x1 7", "the value at byte 9 is not a number"),
            ("1 secret.b 7", "the value at byte 2 is not a number"),
            ("1 7 secret.b", "the timestamp at byte 4 is not a whole number"),
            ("secret.b 1 -1", "the timestamp at byte 11 is negative; -1 for \"now\" is not taken"),
            ("secret.b 1 99999999999999999999", "the timestamp at byte 11 is too large"),
            ("secret..b 1 7", "empty part at byte 7"),
            ("  secret.[b 1 7", "has `[` at byte 9"),
            ("secret.b\u{0} 1 7", "has 0x00 at byte 8"),
            (&long, "at most 1024"),
        ];
        for (line, expected) in table {
            let error = decode(line.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{line}: {error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
        let longest = format!("{}x 1 1763690400", "x.".repeat(505));
        assert_eq!(longest.len(), LINE_BYTES_MAX);
        assert!(decode(longest.as_bytes()).is_err(), "no room for its newline");
        assert!(decode(&longest.as_bytes()[2..]).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            name in "[A-Za-z0-9_-]{1,40}(\\.[A-Za-z0-9_-]{1,40}){0,9}",
            value in any::<f64>().prop_filter("finite", |value| value.is_finite()),
            second in any::<u64>(),
        ) {
            let mut line = encode(&point(&name, value, second));
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert_eq!(decode(&line), Ok(point(&name, value, second)));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..1100)) {
            prop_assert!(decode(&bytes).is_ok_and(|point| point.value.is_finite()) || decode(&bytes).is_err());
        }

        #[test]
        fn what_is_decoded_is_a_datapoint(line in "[a.]{1,4}[ \t]{1,2}[-0-9.einfa]{1,6}[ \t][-0-9.]{1,12}[ \r]?") {
            if let Ok(point) = decode(line.as_bytes()) {
                prop_assert!(point.value.is_finite() && check_name(point.name.as_bytes(), 0).is_ok());
                let again = encode(&point);
                prop_assert_eq!(decode(&again[..again.len() - 1]), Ok(point));
            }
        }
    }
}
