//! One datapoint, and what makes it fit to be sent and counted.

use std::fmt;

use aviary_core::{Second, graphite};

/// The longest line, newline included, and the longest name: the floor under every payload that aviary sends
/// (design.md section 5), and well below what every known receiver takes (carbon 16384, a datagram 8192).
pub const LINE_BYTES_MAX: usize = 1024;

/// How far before now a datapoint's second may lie. A relay may queue for hours; what is a day old is a wrong unit
/// or a wrong clock.
pub const AGE_MAX: u64 = 86_400;

/// How far after now a datapoint's second may lie: more than any clock that is synchronised at all is off.
pub const AHEAD_MAX: u64 = 60;

/// A value of a name in a second.
///
/// `Debug` shows the name without its first part, which may be an API key.
#[derive(Clone, PartialEq)]
pub struct Datapoint {
    /// The Graphite name, possibly with an API key as its first part.
    pub name: String,
    /// The value; finite.
    pub value: f64,
    /// The second that the datapoint claims: its timestamp.
    pub second: Second,
}

impl Datapoint {
    /// Whether the datapoint's second is one of which somebody may speak at `now`.
    pub const fn check_age(&self, now: Second) -> Result<(), AgeError> {
        let (second, now) = (self.second.0, now.0);
        if now.saturating_sub(second) > AGE_MAX {
            Err(AgeError::TooOld { by: now - second })
        } else if second.saturating_sub(now) > AHEAD_MAX {
            Err(AgeError::TooNew { by: second - now })
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Datapoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datapoint")
            .field("name", &Masked(&self.name))
            .field("value", &self.value)
            .field("second", &self.second.0)
            .finish()
    }
}

/// Shows a name without its first part, which may be an API key.
pub struct Masked<'a>(pub &'a str);

impl fmt::Debug for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")?;
        self.0.split_once('.').map_or(Ok(()), |(_, rest)| write!(f, ".{rest}"))
    }
}

/// A datapoint's second is too far from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgeError {
    /// Too far in the past.
    #[error(
        "the timestamp is {by} s in the past, more than a day: send Unix time in whole seconds, and check the \
         sender's clock"
    )]
    TooOld {
        /// By how many seconds.
        by: u64,
    },
    /// Too far in the future.
    #[error(
        "the timestamp is {by} s in the future, more than a minute: send Unix time in seconds, not milliseconds, and \
         check the sender's clock"
    )]
    TooNew {
        /// By how many seconds.
        by: u64,
    },
}

/// What is wrong with a name, and at which byte of the line or text. Never shows the name: its first part may be an
/// API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No name.
    #[error("the name is empty; write parts of [A-Za-z0-9_-] between dots")]
    Empty,
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("the name has {bytes} bytes; at most {LINE_BYTES_MAX} are taken")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Two dots in a row, or one at an end: carbon would store `a..b` as `a.b`.
    #[error("the name has an empty part at byte {offset}; leave out the dot")]
    EmptyPart {
        /// Where the part would be.
        offset: usize,
    },
    /// A part that Whisper cannot keep as a file name.
    #[error(
        "the part of the name at byte {offset} has {bytes} bytes; at most {} fit between dots",
        graphite::PART_BYTES_MAX
    )]
    PartTooLong {
        /// Where the part begins.
        offset: usize,
        /// Its length.
        bytes: usize,
    },
    /// A byte that some receiver rewrites, refuses or cannot read back.
    #[error("the name has {} at byte {offset}; only [A-Za-z0-9_-] may stand between dots", Shown(*.byte))]
    Byte {
        /// Where it is.
        offset: usize,
        /// The byte.
        byte: u8,
    },
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a number at all.
    #[error("is not a number; write one such as 1 or 0.5")]
    NotANumber,
    /// Not-a-number, which some receivers drop without a word.
    #[error("is NaN, which cannot be summed; send nothing instead")]
    Nan,
    /// Infinite, or too large for 64 bits of floating point.
    #[error("is infinite or too large, which cannot be summed; send a finite number")]
    Infinite,
}

/// What is wrong with a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecondError {
    /// Not a whole number.
    #[error("is not a whole number; write Unix time in seconds")]
    NotANumber,
    /// Below zero; -1 is "now" to some receivers and a loss to others.
    #[error("is negative; -1 for \"now\" is not taken, write the second itself as Unix time")]
    Negative,
    /// More seconds than can be counted.
    #[error("is too large; write Unix time in seconds")]
    TooLarge,
}

/// Checks that `name`, which begins at byte `base` of what is being read, is a Graphite name that every receiver
/// stores and `/render` reads back.
pub fn check_name(name: &[u8], base: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > LINE_BYTES_MAX {
        return Err(NameError::TooLong { bytes: name.len() });
    }
    let mut offset = base;
    for part in name.split(|byte| *byte == b'.') {
        if let Some(at) = part.iter().position(|byte| !graphite::is_name_byte(*byte)) {
            return Err(NameError::Byte { offset: offset + at, byte: part[at] });
        }
        match part.len() {
            0 => return Err(NameError::EmptyPart { offset }),
            bytes if bytes > graphite::PART_BYTES_MAX => {
                return Err(NameError::PartTooLong { offset, bytes });
            }
            bytes => offset += bytes + 1,
        }
    }
    Ok(())
}

/// `value` if it can be summed.
pub(crate) const fn finite(value: f64) -> Result<f64, ValueError> {
    if value.is_nan() {
        Err(ValueError::Nan)
    } else if value.is_infinite() {
        Err(ValueError::Infinite)
    } else {
        Ok(value)
    }
}

/// Reads a value as text: what Rust calls a number, so no `1_0` and no `0x1`, which Python's receivers differ about.
pub(crate) fn parse_value(text: &[u8]) -> Result<f64, ValueError> {
    let text = std::str::from_utf8(text).map_err(|_| ValueError::NotANumber)?;
    finite(text.parse().map_err(|_| ValueError::NotANumber)?)
}

/// Reads a timestamp as text. A decimal fraction is cut off, as carbon, go-carbon and VictoriaMetrics do.
pub(crate) fn parse_second(text: &[u8]) -> Result<Second, SecondError> {
    let (digits, negative) = text.strip_prefix(b"-").map_or((text, false), |digits| (digits, true));
    let mut halves = digits.splitn(2, |byte| *byte == b'.');
    let whole = halves.next().unwrap_or_default();
    let is_digits = |half: &[u8]| !half.is_empty() && half.iter().all(u8::is_ascii_digit);
    if !is_digits(whole) || !halves.next().is_none_or(is_digits) {
        return Err(SecondError::NotANumber);
    }
    if negative {
        return Err(SecondError::Negative);
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    whole.iter().try_fold(0, add).map(Second).ok_or(SecondError::TooLarge)
}

/// One byte, as a character where it prints.
pub(crate) struct Shown(pub(crate) u8);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            printable if printable.is_ascii_graphic() => write!(f, "`{}`", char::from(printable)),
            byte => write!(f, "0x{byte:02x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_never_shown() {
        let long = "x".repeat(250);
        let table: [(&str, NameError); 9] = [
            ("", NameError::Empty),
            (".secret", NameError::EmptyPart { offset: 7 }),
            ("secret.", NameError::EmptyPart { offset: 14 }),
            ("secret..b", NameError::EmptyPart { offset: 14 }),
            ("secret.b{c}", NameError::Byte { offset: 15, byte: b'{' }),
            ("secret.é", NameError::Byte { offset: 14, byte: 0xc3 }),
            ("secret;a=b", NameError::Byte { offset: 13, byte: b';' }),
            (&long, NameError::PartTooLong { offset: 7, bytes: 250 }),
            (&"secret.".repeat(200), NameError::TooLong { bytes: 1400 }),
        ];
        for (name, expected) in table {
            assert_eq!(check_name(name.as_bytes(), 7), Err(expected), "{name}");
            assert!(!format!("{expected} {expected:?}").contains("secret"));
        }
        for name in ["a", "canary.in-gest.tcp_1", &"x".repeat(249)] {
            assert_eq!(check_name(name.as_bytes(), 0), Ok(()));
        }
    }

    #[test]
    fn timestamps_are_whole_seconds() {
        let table: [(&str, Result<u64, SecondError>); 11] = [
            ("1763690400", Ok(1_763_690_400)),
            ("0", Ok(0)),
            ("1763690400.999", Ok(1_763_690_400)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err(SecondError::TooLarge)),
            ("-1", Err(SecondError::Negative)),
            ("-x", Err(SecondError::NotANumber)),
            ("1e9", Err(SecondError::NotANumber)),
            ("12.", Err(SecondError::NotANumber)),
            (".5", Err(SecondError::NotANumber)),
            ("", Err(SecondError::NotANumber)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_second(text.as_bytes()), expected.map(Second), "{text}");
        }
    }

    #[test]
    fn values_are_finite_numbers() {
        let table: [(&str, Result<f64, ValueError>); 10] = [
            ("1", Ok(1.0)),
            ("-0.5", Ok(-0.5)),
            ("1e0", Ok(1.0)),
            ("1_0", Err(ValueError::NotANumber)),
            ("0x1", Err(ValueError::NotANumber)),
            ("", Err(ValueError::NotANumber)),
            ("\u{661}", Err(ValueError::NotANumber)),
            ("NaN", Err(ValueError::Nan)),
            ("-inf", Err(ValueError::Infinite)),
            ("1e999", Err(ValueError::Infinite)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_value(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_second_far_from_now_is_refused() {
        let now = Second(1_763_690_400);
        let aged = |second| Datapoint { name: "a".to_owned(), value: 1.0, second }.check_age(now);
        assert_eq!(aged(now.minus(AGE_MAX)), Ok(()));
        assert_eq!(aged(now.minus(AGE_MAX + 1)), Err(AgeError::TooOld { by: AGE_MAX + 1 }));
        assert_eq!(aged(now.plus(AHEAD_MAX)), Ok(()));
        assert_eq!(aged(now.plus(AHEAD_MAX + 1)), Err(AgeError::TooNew { by: AHEAD_MAX + 1 }));
        assert!(matches!(aged(Second(u64::MAX)), Err(AgeError::TooNew { .. })));
        assert!(matches!(aged(Second(0)), Err(AgeError::TooOld { .. })));
    }

    #[test]
    fn debug_leaves_out_what_may_be_a_key() {
        let point = Datapoint { name: "secret.canary.tcp".to_owned(), value: 1.0, second: Second(7) };
        assert_eq!(format!("{point:?}"), "Datapoint { name: ….canary.tcp, value: 1.0, second: 7 }");
        assert_eq!(format!("{:?}", Masked("secret")), "…");
    }
}
