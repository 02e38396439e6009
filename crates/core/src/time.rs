//! Seconds, spans, instants, and the seam through which time comes in.

use std::fmt;

/// A wall-clock second, counted from the Unix epoch: the time half of a slot, and the timestamp its datapoint claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Second(pub u64);

impl Second {
    /// The second `seconds` after this one.
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// The second `seconds` before this one, or the epoch.
    pub const fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// The instant at which this second begins.
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(Timestamp::PER_SECOND))
    }
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The seconds from `from` up to, not including, `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first second inside.
    pub from: Second,
    /// The first second no longer inside.
    pub until: Second,
}

impl Span {
    /// The span `[from, until)`; empty where `until` is not after `from`.
    pub const fn new(from: Second, until: Second) -> Self {
        Self { from, until }
    }

    /// The `seconds` seconds that end where `until` begins.
    pub const fn before(until: Second, seconds: u64) -> Self {
        Self { from: until.minus(seconds), until }
    }

    /// How many seconds are inside.
    pub const fn seconds(self) -> u64 {
        self.until.0.saturating_sub(self.from.0)
    }

    /// Whether no second is inside.
    pub const fn is_empty(self) -> bool {
        self.seconds() == 0
    }

    /// Whether `second` is inside.
    pub fn contains(self, second: Second) -> bool {
        self.from <= second && second < self.until
    }

    /// The seconds that are inside both.
    pub fn intersection(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }

    /// Each second inside, in order.
    pub fn iter(self) -> impl Iterator<Item = Second> {
        (self.from.0..self.until.0).map(Second)
    }
}

/// An instant of the wall clock, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    const PER_SECOND: u64 = 1_000_000;

    /// The second that this instant lies in.
    pub const fn second(self) -> Second {
        Second(self.0 / Self::PER_SECOND)
    }

    /// The microseconds from `earlier` to this instant, 0 if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The instant `micros` microseconds later.
    pub const fn plus(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// An instant of the monotonic clock, in microseconds from a start that means nothing.
///
/// Latencies and deadlines are measured on this clock, never on the wall's: the wall may be stepped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// The microseconds from `earlier` to this instant, 0 if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The instant `micros` microseconds later.
    pub const fn plus(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// The seam through which time comes in: the real clocks, or the paused ones of a test.
///
/// The two clocks are separate on purpose: a test steps one and lets the other run.
pub trait Clock: Clone + Send + Sync + Unpin + 'static {
    /// The wall clock: which second is it?
    fn wall(&self) -> Timestamp;

    /// The monotonic clock: how long did it take?
    fn monotonic(&self) -> Micros;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_exclude_their_end() {
        let span = Span::before(Second(100), 60);
        assert_eq!(span, Span::new(Second(40), Second(100)));
        assert!(span.contains(Second(40)) && !span.contains(Second(100)));
        assert_eq!(span.iter().count(), 60);
        assert!(span.intersection(Span::new(Second(100), Second(200))).is_empty());
        assert_eq!(Timestamp(1_999_999).second(), Second(1));
    }
}
