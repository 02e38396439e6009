//! What the answers to the newest questions said of the newest seconds of one series, a bit a second.

use aviary_core::{Second, Span};

/// How many seconds a ring holds.
pub(super) const SECONDS: u64 = 128;

/// A set of the newest [`SECONDS`] seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seconds(u128);

impl Seconds {
    pub(super) const fn of(second: Second) -> Self {
        Self(1 << (second.0 % SECONDS))
    }

    /// The seconds of `span`, which is no longer than a ring.
    pub(super) fn in_span(span: Span) -> Self {
        if span.seconds() >= SECONDS {
            return Self(u128::MAX);
        }
        let ones = (1_u128 << span.seconds()) - 1;
        Self(ones.rotate_left((span.from.0 % SECONDS) as u32))
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn has(self, second: Second) -> bool {
        !self.and(Self::of(second)).is_empty()
    }
}

/// What was said of the newest seconds of one series.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ring {
    /// Shown once, and shown again by a later answer: carbon's own memory is shown at once, and lost when carbon ends.
    shown: [Seconds; 2],
    /// Shown for long enough to be on disk.
    stored: Seconds,
    /// Not there, in an answer that may be believed.
    lacking: Seconds,
}

/// What follows from one more answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Follows {
    /// Newly known to be stored.
    pub(super) stored: Seconds,
    /// Lacking in two answers that may be believed.
    pub(super) lacking: Seconds,
}

impl Ring {
    /// Forgets what was said of the seconds whose places others take.
    pub(super) fn forget(&mut self, seconds: Seconds) {
        let Self { shown: [once, again], stored, lacking } = self;
        for held in [once, again, stored, lacking] {
            *held = held.without(seconds);
        }
    }

    /// Which of the seconds `asked` were shown before and are not among `there`.
    pub(super) fn contradicted(&self, asked: Seconds, there: Seconds) -> Seconds {
        self.shown[0].and(asked).without(there)
    }

    /// Which of `seconds` are not known to be stored.
    pub(super) fn not_stored(&self, seconds: Seconds) -> Seconds {
        seconds.without(self.stored)
    }

    /// Takes an answer: of the seconds `asked` those that are `there`. `is_late` tells that the answer before is old
    /// enough for what is shown twice to be on disk, `believed` that what is not there may be believed.
    pub(super) fn answer(
        &mut self,
        asked: Seconds,
        there: Seconds,
        is_late: bool,
        believed: bool,
    ) -> Follows {
        let taken_back = self.contradicted(asked, there);
        let [once, again] = self.shown;
        let long_enough = if is_late { once } else { again };
        let stored = there.and(long_enough).without(self.stored);
        self.stored = self.stored.or(stored);
        self.shown = [once.or(there).without(taken_back), again.or(there.and(once)).without(taken_back)];
        self.lacking = self.lacking.without(there);
        let mut lacking = Seconds::default();
        if believed {
            let absent = asked.without(there).without(self.stored);
            lacking = absent.and(self.lacking);
            self.lacking = self.lacking.or(absent.without(taken_back));
        }
        Follows { stored, lacking }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(list: &[u64]) -> Seconds {
        list.iter().fold(Seconds::default(), |seconds, second| seconds.or(Seconds::of(Second(*second))))
    }

    #[test]
    fn a_span_is_its_seconds_wherever_it_lies() {
        for from in [0, 1, 100, 127, 128, 1_763_690_399] {
            for length in [0, 1, 7, 127, 128] {
                let span = Span::new(Second(from), Second(from + length));
                let each: Vec<u64> = span.iter().map(|second| second.0).collect();
                assert_eq!(Seconds::in_span(span), seconds(&each), "{span:?}");
            }
        }
    }

    /// Answers of one second: `1` there, `0` not there, `x` not there and not to be believed; a `.` before it is a pause
    /// that is long enough.
    fn play(answers: &str) -> String {
        let (mut ring, asked, mut said) = (Ring::default(), seconds(&[5]), String::new());
        let mut is_late = false;
        for answer in answers.chars() {
            if answer == '.' {
                is_late = true;
                continue;
            }
            let there = if answer == '1' { asked } else { Seconds::default() };
            let follows = ring.answer(asked, there, std::mem::take(&mut is_late), answer != 'x');
            said.push(match (follows.stored.is_empty(), follows.lacking.is_empty()) {
                (false, true) => 'S',
                (true, false) => 'L',
                (true, true) => '-',
                (false, false) => '!',
            });
        }
        said
    }

    #[test]
    fn what_follows_from_a_row_of_answers() {
        let table = [
            ("111", "--S"),
            ("1.1", "-S"),
            ("1111", "--S-"),
            ("00", "-L"),
            ("0x0", "--L"),
            ("xxx", "---"),
            // Shown late.
            ("00111", "-L--S"),
            // The flap: popped from the cache before it is on disk.
            ("10111", "----S"),
            ("11011", "-----"),
            ("110111", "-----S"),
            // Shown from memory, and lost with it: what was taken back is as if it had never been asked for.
            ("1000", "---L"),
            ("11000", "----L"),
            // Stored is stored.
            ("1110000", "--S----"),
        ];
        for (answers, expected) in table {
            assert_eq!(play(answers), expected, "{answers}");
        }
    }

    #[test]
    fn other_seconds_in_the_same_place_start_anew() {
        let mut ring = Ring::default();
        let (asked, none) = (seconds(&[5]), Seconds::default());
        ring.answer(asked, none, false, true);
        ring.forget(Seconds::of(Second(5 + SECONDS)));
        assert_eq!(ring.answer(asked, none, false, true).lacking, none);
    }
}
