//! The time by which what waits grows old: the wall clock, where it can be believed.

use aviary_core::{Micros, Second, Timestamp};

/// A difference up to this is no reason for doubt.
const DRIFT_SECONDS: u64 = 60;

/// A clock that jumped and says the same for so long was right to.
const DOUBT_US: u64 = 3_600_000_000;

/// A wall clock that jumps is only followed after an hour: one that is wrong by a year for a moment must not make an hour
/// of reports a year old, and have them dropped.
pub(crate) struct Believed {
    wall: Timestamp,
    monotonic: Micros,
    /// Since when the wall clock differs, and by how many seconds.
    doubt: Option<(Micros, i64)>,
}

impl Believed {
    /// Time goes on from now, or from when the newest that waits was made, where that is earlier.
    pub(crate) fn starting(wall: Timestamp, monotonic: Micros, newest: Option<Second>) -> Self {
        Self { wall: newest.map_or(wall, |newest| newest.start().min(wall)), monotonic, doubt: None }
    }

    /// The second to believe in, where the clocks show these.
    pub(crate) fn second(&mut self, wall: Timestamp, monotonic: Micros) -> Second {
        let expected = self.wall.plus(monotonic.since(self.monotonic));
        let ahead = wall.second().0.cast_signed().saturating_sub(expected.second().0.cast_signed());
        let (since, then) = *self.doubt.get_or_insert((monotonic, ahead));
        let is_close = ahead.unsigned_abs() <= DRIFT_SECONDS;
        let is_steady = ahead.abs_diff(then) <= DRIFT_SECONDS;
        if is_close || is_steady && monotonic.since(since) >= DOUBT_US {
            *self = Self { wall, monotonic, doubt: None };
            return wall.second();
        }
        if !is_steady {
            self.doubt = Some((monotonic, ahead));
        }
        expected.second()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_763_690_400;
    const YEAR: u64 = 365 * 86_400;

    #[test]
    fn a_clock_that_jumps_is_followed_once_it_is_steady() {
        let at = |second: u64| (Second(START + second).start(), Micros(second * 1_000_000));
        let (wall, monotonic) = at(0);
        let mut believed = Believed::starting(wall, monotonic, None);
        for second in 0..10_000 {
            let (wall, monotonic) = at(second);
            let (shown, expected) = match second {
                // Wrong by a year for a minute, then half a minute ahead, which is drift.
                100..160 => (wall.plus(YEAR * 1_000_000), second),
                200..5_000 => (wall.plus(30_000_000), second + 30),
                // From here on a day later, as after a sleep, and believed an hour later.
                5_000..8_600 => (wall.plus(86_400_000_000), second + 30),
                8_600.. => (wall.plus(86_400_000_000), second + 86_400),
                _ => (wall, second),
            };
            assert_eq!(believed.second(shown, monotonic), Second(START + expected), "at {second}");
        }
    }

    #[test]
    fn a_start_with_a_wrong_clock_makes_nothing_older() {
        let wall = Second(START + YEAR).start();
        let mut believed = Believed::starting(wall, Micros(0), Some(Second(START)));
        assert_eq!(believed.second(wall, Micros(0)), Second(START));
        assert_eq!(believed.second(Second(START + 90).start(), Micros(50_000_000)), Second(START + 90));
    }
}
