//! Silences and maintenance windows: a view on pages, never on what is counted.
//!
//! A silence names tags, has an end, an author and a reason, and holds once or in [`Hours`] that come back. What it covers
//! wholly is an incident like any other, opened, counted and shown, and marked as silenced; nobody is paged about it. A
//! cause that reaches further than the silence is paged, and so is one that goes on when the silence ends.
//!
//! Zones come from the database that jiff carries in the program ([`jiff::tz::TimeZoneDatabase::bundled`]): nothing here
//! reads `/usr/share/zoneinfo`, and two collectors of one version agree on when a window begins.

mod hours;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub use hours::{Hours, HoursError};
pub use jiff::civil::Weekday;

use crate::{Second, Span, Tag, extent::Predicate};

/// So many silences are held; one more is refused.
pub const SILENCES_MAX: usize = 1_000;

/// A silence that has ended is listed for so long.
const LISTED_SECONDS: u64 = 86_400;

/// Which series: for each tag, the values that it may have. Without a tag, every series.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Matches(pub BTreeMap<Tag, BTreeSet<String>>);

impl Matches {
    /// The series whose tag has this value.
    pub fn one(tag: Tag, value: &str) -> Self {
        Self::default().and(tag, value)
    }

    /// The series that have one of the values that are named for each tag.
    pub fn of(tags: &[(Tag, &str)]) -> Self {
        tags.iter().fold(Self::default(), |matches, (tag, value)| matches.and(*tag, value))
    }

    /// Those of them whose tag has this value, or another that was named for it.
    #[must_use]
    pub fn and(mut self, tag: Tag, value: &str) -> Self {
        self.0.entry(tag).or_default().insert(value.to_owned());
        self
    }

    /// Whether every series that `predicate` means is meant.
    pub fn cover(&self, predicate: &Predicate) -> bool {
        self.0.iter().all(|(tag, values)| predicate.0.get(tag).is_some_and(|value| values.contains(value)))
    }
}

/// When a silence holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// In these seconds.
    Once(Span),
    /// In hours that come back, those that begin inside these seconds.
    Recurring(Hours, Span),
}

impl When {
    /// From when until when it can hold.
    pub const fn span(&self) -> Span {
        match self {
            Self::Once(span) | Self::Recurring(_, span) => *span,
        }
    }

    /// When it holds at `now`, or holds next, as far as that is within a week.
    pub fn next(&self, now: Second) -> Option<Span> {
        match self {
            Self::Once(span) => (span.until > now).then_some(*span),
            Self::Recurring(hours, within) => {
                let next = hours.next(now.max(within.from))?;
                let span = Span::new(next.from.max(within.from), next.until.min(within.until));
                (!span.is_empty() && span.until > now).then_some(span)
            }
        }
    }
}

/// Who does not want to be paged about what, until when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// By what it is expired.
    pub id: String,
    /// About which series.
    pub matches: Matches,
    /// When it holds.
    pub when: When,
    /// Who asked for it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// What customers are told of it; nothing, where it is nobody else's business.
    pub announce: Option<String>,
}

/// A silence that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// The end is not after the beginning.
    #[error("silence `{id}` ends before it begins: give an end after its beginning")]
    Backwards {
        /// Which.
        id: String,
    },
    /// It has ended already.
    #[error("silence `{id}` has ended already: give an end in the future")]
    Ended {
        /// Which.
        id: String,
    },
    /// Nobody stands for it.
    #[error("silence `{id}` has no {what}: say it, for whoever wonders tonight why nobody was paged")]
    Unsaid {
        /// Which.
        id: String,
        /// What is not said.
        what: &'static str,
    },
    /// There are too many.
    #[error("{SILENCES_MAX} silences are held, which is the limit: expire some")]
    TooMany,
}

impl Silence {
    /// Whether it is fit to be held at `now`.
    pub fn check(&self, now: Second) -> Result<(), SilenceError> {
        let id = || self.id.clone();
        for (text, what) in [(&self.author, "author"), (&self.reason, "reason")] {
            if text.trim().is_empty() {
                return Err(SilenceError::Unsaid { id: id(), what });
            }
        }
        let span = self.when.span();
        if span.is_empty() {
            return Err(SilenceError::Backwards { id: id() });
        }
        if span.until <= now {
            return Err(SilenceError::Ended { id: id() });
        }
        Ok(())
    }

    /// Until when it holds without a break, where it holds at `now`.
    pub fn holds_until(&self, now: Second) -> Option<Second> {
        let span = match &self.when {
            When::Once(span) => *span,
            When::Recurring(hours, within) => {
                let around = hours.around(now)?;
                Span::new(around.from.max(within.from), around.until.min(within.until))
            }
        };
        span.contains(now).then_some(span.until)
    }
}

/// A silence that holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Which.
    pub id: String,
    /// About which series.
    pub matches: Matches,
}

/// The silences in force that cover all of `causes` together, each cause wholly by one of them; `None` where one is not
/// covered, and so is to be paged.
pub fn covering<'a>(
    in_force: &[InForce],
    causes: impl IntoIterator<Item = &'a Predicate>,
) -> Option<BTreeSet<String>> {
    let mut covering = BTreeSet::new();
    for cause in causes {
        covering.insert(in_force.iter().find(|silence| silence.matches.cover(cause))?.id.clone());
    }
    (!covering.is_empty()).then_some(covering)
}

/// All silences.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Silences {
    held: BTreeMap<String, Silence>,
}

impl Silences {
    /// Those that were kept. Later ones of the same id stand.
    pub fn from_kept(kept: impl IntoIterator<Item = Silence>) -> Self {
        Self { held: kept.into_iter().map(|silence| (silence.id.clone(), silence)).collect() }
    }

    /// All that are held, by their ids: those that hold, will hold, and ended within a day.
    pub fn kept(&self) -> impl Iterator<Item = &Silence> {
        self.held.values()
    }

    /// Takes `silence` in, in the place of another of its id.
    pub fn add(&mut self, silence: Silence, now: Second) -> Result<(), SilenceError> {
        silence.check(now)?;
        self.forget(now);
        if self.held.len() >= SILENCES_MAX && !self.held.contains_key(&silence.id) {
            return Err(SilenceError::TooMany);
        }
        self.held.insert(silence.id.clone(), silence);
        Ok(())
    }

    /// Ends a silence now. Whether there is such a one that had not ended.
    pub fn expire(&mut self, id: &str, now: Second) -> bool {
        let Some(silence) = self.held.get_mut(id).filter(|silence| silence.when.span().until > now) else {
            return false;
        };
        match &mut silence.when {
            When::Once(span) | When::Recurring(_, span) => span.until = now,
        }
        true
    }

    /// Those that hold at `now`.
    pub fn in_force(&self, now: Second) -> Vec<InForce> {
        let holding = self.held.values().filter(|silence| silence.holds_until(now).is_some());
        holding.map(|silence| InForce { id: silence.id.clone(), matches: silence.matches.clone() }).collect()
    }

    /// Lets go of what ended more than a day ago.
    fn forget(&mut self, now: Second) {
        self.held.retain(|_, silence| silence.when.span().until.plus(LISTED_SECONDS) > now);
    }
}

impl fmt::Debug for Silences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.held.values()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicate(tags: &[(Tag, &str)]) -> Predicate {
        Predicate(tags.iter().map(|(tag, value)| (*tag, (*value).to_owned())).collect())
    }

    fn silence(id: &str, when: When) -> Silence {
        let matches = Matches::one(Tag::Region, "eu");
        Silence {
            id: id.into(),
            matches,
            when,
            author: "ada".into(),
            reason: "new switches".into(),
            announce: None,
        }
    }

    fn once(from: u64, until: u64) -> When {
        When::Once(Span::new(Second(from), Second(until)))
    }

    #[test]
    fn a_silence_covers_what_is_no_wider_than_itself() {
        use Tag::{Protocol, Region, Service};
        let eu = Matches::one(Region, "eu");
        let eu_or_us_udp = eu.clone().and(Region, "us").and(Protocol, "udp");
        type Row<'a> = (&'a Matches, &'a [(Tag, &'a str)], bool);
        let table: [Row<'_>; 8] = [
            (&eu, &[(Region, "eu")], true),
            (&eu, &[(Region, "eu"), (Protocol, "udp")], true),
            (&eu, &[(Region, "us")], false),
            (&eu, &[], false),
            (&eu, &[(Service, "ingest")], false),
            (&eu_or_us_udp, &[(Region, "us"), (Protocol, "udp")], true),
            (&eu_or_us_udp, &[(Region, "us")], false),
            (&Matches::default(), &[], true),
        ];
        for (matches, tags, covered) in table {
            assert_eq!(matches.cover(&predicate(tags)), covered, "{matches:?} {tags:?}");
        }
    }

    #[test]
    fn every_cause_must_be_covered() {
        let in_force =
            |id: &str, region| InForce { id: id.into(), matches: Matches::one(Tag::Region, region) };
        let both = [in_force("a", "eu"), in_force("b", "us")];
        let (eu, us, asia) = (
            predicate(&[(Tag::Region, "eu")]),
            predicate(&[(Tag::Region, "us")]),
            predicate(&[(Tag::Region, "asia")]),
        );
        assert_eq!(covering(&both, [&eu, &us]), Some(["a".to_owned(), "b".to_owned()].into()));
        assert_eq!(covering(&both, [&eu]), Some(["a".to_owned()].into()));
        assert_eq!(covering(&both, [&eu, &asia]), None);
        assert_eq!(covering(&both, []), None, "what nobody can name is not covered");
    }

    #[test]
    fn it_holds_from_its_beginning_to_its_end_and_can_be_ended_before() {
        let mut silences = Silences::default();
        silences.add(silence("s", once(100, 200)), Second(50)).unwrap();
        for (now, holds) in [(99, 0), (100, 1), (199, 1), (200, 0)] {
            assert_eq!(silences.in_force(Second(now)).len(), holds, "{now}");
        }
        assert!(silences.expire("s", Second(150)));
        assert!(silences.in_force(Second(150)).is_empty());
        assert!(!silences.expire("s", Second(151)) && !silences.expire("t", Second(151)));
    }

    #[test]
    fn a_window_that_comes_back_holds_in_its_hours_until_its_end() {
        let hours = Hours::daily("UTC", (2, 0), (4, 0)).unwrap();
        let day = 86_400;
        let within = Span::new(Second(0), Second(3 * day + 3 * 3_600));
        let silence = silence("nightly", When::Recurring(hours, within));
        for (now, until) in [
            (2 * 3_600, Some(4 * 3_600)),
            (5 * 3_600, None),
            (day + 3 * 3_600, Some(day + 4 * 3_600)),
            (3 * day + 2 * 3_600, Some(3 * day + 3 * 3_600)),
            (4 * day + 2 * 3_600, None),
        ] {
            assert_eq!(silence.holds_until(Second(now)), until.map(Second), "{now}");
        }
        let hour = 3_600;
        for (now, next) in [
            (0, Some((2 * hour, 4 * hour))),
            (3 * hour, Some((2 * hour, 4 * hour))),
            (4 * hour, Some((day + 2 * hour, day + 4 * hour))),
            (2 * day + 5 * hour, Some((3 * day + 2 * hour, 3 * day + 3 * hour))),
            (3 * day + 3 * hour, None),
        ] {
            let next = next.map(|(from, until)| Span::new(Second(from), Second(until)));
            assert_eq!(silence.when.next(Second(now)), next, "{now}");
        }
    }

    #[test]
    fn a_silence_without_an_end_an_author_or_a_reason_is_refused() {
        let mut silences = Silences::default();
        let good = silence("s", once(100, 200));
        for (silence, expected) in [
            (Silence { when: once(100, 100), ..good.clone() }, "before it begins"),
            (Silence { when: once(10, 50), ..good.clone() }, "ended already"),
            (Silence { author: " ".into(), ..good.clone() }, "no author"),
            (Silence { reason: String::new(), ..good.clone() }, "no reason"),
        ] {
            assert!(silences.add(silence, Second(50)).unwrap_err().to_string().contains(expected));
        }
        assert_eq!(silences, Silences::default());
    }

    #[test]
    fn they_are_bounded_and_what_ended_long_ago_makes_room() {
        let mut silences = Silences::default();
        for number in 0..SILENCES_MAX {
            silences.add(silence(&number.to_string(), once(0, 100)), Second(1)).unwrap();
        }
        assert_eq!(silences.add(silence("more", once(0, 100)), Second(1)), Err(SilenceError::TooMany));
        let later = Second(200 + LISTED_SECONDS);
        silences.add(silence("more", once(0, later.0 + 1)), later).unwrap();
        assert_eq!(silences.kept().count(), 1);
        assert_eq!(Silences::from_kept(silences.kept().cloned()), silences);
    }
}
