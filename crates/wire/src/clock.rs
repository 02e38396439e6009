//! How far two clocks are apart, as an agent tells it beside its reports.
//!
//! Not in the report, which may wait for hours and go to another collector than the one that was measured: it stands in
//! the header [`HEADER`] of a push, as `OFFSET;UNCERTAINTY`, both whole microseconds.
//!
//! An agent reads its own clock before and after a push, and the collector's from the receipt, which was written in
//! between. So the difference is known to within half the time that the push took, whatever part of it the way there
//! took and whatever part the way back.

use std::{fmt, num::ParseIntError, str::FromStr};

/// The header of a push that tells what the agent measured by an earlier push to the same collector.
pub const HEADER: &str = "aviary-clock";

/// A measurement of one clock by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// How far the agent's wall clock is ahead of the collector's, in microseconds.
    pub offset_us: i64,
    /// It is that, give or take so many microseconds.
    pub uncertainty_us: u32,
}

/// A text that is no measurement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{HEADER}` is two whole numbers of microseconds with a semicolon between them, such as -1520;310")]
pub struct ClockOffsetError;

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.offset_us, self.uncertainty_us)
    }
}

impl FromStr for ClockOffset {
    type Err = ClockOffsetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (offset, uncertainty) = text.split_once(';').ok_or(ClockOffsetError)?;
        let refuse = |_: ParseIntError| ClockOffsetError;
        let offset_us = offset.trim().parse().map_err(refuse)?;
        let uncertainty_us = uncertainty.trim().parse().map_err(refuse)?;
        Ok(Self { offset_us, uncertainty_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        for (offset_us, uncertainty_us) in [(0, 0), (-1_520, 310), (i64::MIN, u32::MAX)] {
            let measured = ClockOffset { offset_us, uncertainty_us };
            assert_eq!(measured.to_string().parse(), Ok(measured));
        }
        for text in ["", "1", "1;", ";1", "1;-1", "1.5;2", "1;2;3", "x;1", "9223372036854775808;1"] {
            assert_eq!(text.parse::<ClockOffset>(), Err(ClockOffsetError), "{text}");
        }
    }
}
