//! Hours that come back every week, in a zone.

use std::{collections::BTreeSet, fmt};

use jiff::{
    civil::{Date, Time, Weekday},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use crate::{Second, Span};

/// Hours on some days of the week, by the clocks of a zone: a maintenance window every Sunday, or the quiet hours of a
/// night. They last less than a day, and belong to the day on which they begin.
///
/// Both ends are readings of the local clock. Where the clocks change:
/// - a time that comes twice is the first of the two as a beginning, and the second as an end, so that the whole is in;
/// - a beginning that the clocks jump over is moved past the gap by the gap's length (as RFC 5545, 3.3.5 has it), which
///   is when a scheduled job runs then, and the hours keep their length.
#[derive(Clone, PartialEq, Eq)]
pub struct Hours {
    zone: TimeZone,
    name: String,
    days: BTreeSet<u8>,
    from: Time,
    until: Time,
}

/// Hours that nobody can keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// No such zone.
    #[error("`{0}` is no time zone of the IANA database: write such as \"Europe/Berlin\" or \"UTC\"")]
    UnknownZone(String),
    /// No such time of day.
    #[error("{hour:02}:{minute:02} is no time of day: hours are 00 to 23, minutes 00 to 59")]
    NoTime {
        /// As given.
        hour: u8,
        /// As given.
        minute: u8,
    },
    /// They would be empty, or a whole day.
    #[error("the hours end as they begin: give another end")]
    Empty,
    /// They would never come.
    #[error("no day is named: leave the days out for every day")]
    NoDay,
}

impl Hours {
    /// From one hour and minute to another, which is on the next day where it is not later; on `days`, by the clocks of
    /// `zone`.
    pub fn new(
        zone: &str,
        days: impl IntoIterator<Item = Weekday>,
        from: (u8, u8),
        until: (u8, u8),
    ) -> Result<Self, HoursError> {
        let found = TimeZoneDatabase::bundled().get(zone);
        let Ok(found) = found else { return Err(HoursError::UnknownZone(zone.to_owned())) };
        let (from, until) = (time_of_day(from)?, time_of_day(until)?);
        let days: BTreeSet<u8> = days.into_iter().map(number).collect();
        if days.is_empty() {
            return Err(HoursError::NoDay);
        }
        if from == until {
            return Err(HoursError::Empty);
        }
        Ok(Self { zone: found, name: zone.to_owned(), days, from, until })
    }

    /// The same on every day of the week.
    pub fn daily(zone: &str, from: (u8, u8), until: (u8, u8)) -> Result<Self, HoursError> {
        Self::new(zone, EVERY_DAY, from, until)
    }

    /// The zone's name, as given.
    pub fn zone(&self) -> &str {
        &self.name
    }

    /// The days on which they begin, Monday first.
    pub fn days(&self) -> impl Iterator<Item = Weekday> {
        EVERY_DAY.into_iter().filter(|day| self.days.contains(&number(*day)))
    }

    /// The hour and minute at which they begin.
    pub fn from(&self) -> (u8, u8) {
        hour_and_minute(self.from)
    }

    /// The hour and minute at which they end.
    pub fn until(&self) -> (u8, u8) {
        hour_and_minute(self.until)
    }

    /// The hours around `second`, where it is in them.
    pub fn around(&self, second: Second) -> Option<Span> {
        let instant = jiff::Timestamp::from_second(i64::try_from(second.0).ok()?).ok()?;
        let today = self.zone.to_datetime(instant).date();
        let yesterday = today.yesterday().ok();
        // They last less than a day, and begin late where the clocks jump over midnight: two days ago, then.
        [yesterday.and_then(|day| day.yesterday().ok()), yesterday, Some(today)]
            .into_iter()
            .flatten()
            .filter_map(|day| self.beginning(day))
            .find(|span| span.contains(second))
    }

    /// The hours around `second`, or those that come next, within a week.
    pub(super) fn next(&self, second: Second) -> Option<Span> {
        let instant = jiff::Timestamp::from_second(i64::try_from(second.0).ok()?).ok()?;
        let today = self.zone.to_datetime(instant).date();
        let days = (-2..=7).filter_map(|days| today.checked_add(jiff::Span::new().days(days)).ok());
        days.filter_map(|day| self.beginning(day)).find(|span| span.until > second)
    }

    /// The hours that begin on `day`, if any do.
    fn beginning(&self, day: Date) -> Option<Span> {
        if !self.days.contains(&number(day.weekday())) {
            return None;
        }
        let last = if self.until > self.from { day } else { day.tomorrow().ok()? };
        let (from, until) = (day.to_datetime(self.from), last.to_datetime(self.until));
        let begins = self.zone.to_ambiguous_timestamp(from);
        let is_jumped_over = matches!(begins.offset(), AmbiguousOffset::Gap { .. });
        let begins = begins.compatible().ok()?;
        let ends = if is_jumped_over {
            begins.checked_add(from.duration_until(until)).ok()?
        } else {
            self.zone.to_ambiguous_timestamp(until).later().ok()?
        };
        let second = |instant: jiff::Timestamp| u64::try_from(instant.as_second()).ok().map(Second);
        Some(Span::new(second(begins)?, second(ends)?))
    }
}

impl fmt::Debug for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Such as `Mon Sun 02:00-04:00 Europe/Berlin`, or `02:00-04:00 UTC` for every day.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days.len() < EVERY_DAY.len() {
            for day in self.days() {
                write!(f, "{} ", short(day))?;
            }
        }
        let ((from_hour, from_minute), (hour, minute)) = (self.from(), self.until());
        write!(f, "{from_hour:02}:{from_minute:02}-{hour:02}:{minute:02} {}", self.name)
    }
}

const EVERY_DAY: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

fn number(day: Weekday) -> u8 {
    day.to_monday_zero_offset().unsigned_abs()
}

const fn short(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

fn time_of_day((hour, minute): (u8, u8)) -> Result<Time, HoursError> {
    let time = i8::try_from(hour).ok().zip(i8::try_from(minute).ok());
    time.and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok())
        .ok_or(HoursError::NoTime { hour, minute })
}

fn hour_and_minute(time: Time) -> (u8, u8) {
    (time.hour().unsigned_abs(), time.minute().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utc(text: &str) -> Second {
        let instant: jiff::Timestamp = text.parse().unwrap();
        Second(u64::try_from(instant.as_second()).unwrap())
    }

    fn told(span: Option<Span>) -> String {
        let Some(span) = span else { return "none".to_owned() };
        let text = |second: Second| {
            jiff::Timestamp::from_second(i64::try_from(second.0).unwrap()).unwrap().to_string()
        };
        format!("{} {}", text(span.from), text(span.until))
    }

    /// Every instant by hand: Berlin jumps at 2026-03-29 01:00 UTC and goes back at 2026-10-25 01:00 UTC; New York at
    /// 2026-03-08 07:00 UTC and 2026-11-01 06:00 UTC.
    #[test]
    fn hours_across_a_change_of_the_clocks() {
        let (berlin, york) = ("Europe/Berlin", "America/New_York");
        let table = [
            // An ordinary night in winter and in summer: the same reading of the clock, an hour apart in UTC.
            (berlin, (2, 0), (4, 0), "2026-01-11T02:00:00Z", "2026-01-11T01:00:00Z 2026-01-11T03:00:00Z"),
            (berlin, (2, 0), (4, 0), "2026-07-12T01:00:00Z", "2026-07-12T00:00:00Z 2026-07-12T02:00:00Z"),
            // Begins in the hour that is jumped over: at 03:00 local, and as long as ever.
            (berlin, (2, 0), (4, 0), "2026-03-29T01:30:00Z", "2026-03-29T01:00:00Z 2026-03-29T03:00:00Z"),
            (berlin, (2, 0), (3, 0), "2026-03-29T01:30:00Z", "2026-03-29T01:00:00Z 2026-03-29T02:00:00Z"),
            (berlin, (2, 30), (3, 30), "2026-03-29T02:00:00Z", "2026-03-29T01:30:00Z 2026-03-29T02:30:00Z"),
            // Around the jump: an hour shorter, for its end is a reading of the clock.
            (berlin, (1, 0), (4, 0), "2026-03-29T00:30:00Z", "2026-03-29T00:00:00Z 2026-03-29T02:00:00Z"),
            // Ends in the hour that is jumped over: where the clock would read it.
            (berlin, (1, 0), (2, 30), "2026-03-29T00:30:00Z", "2026-03-29T00:00:00Z 2026-03-29T01:30:00Z"),
            // In the hour that comes twice: from its first to its second.
            (berlin, (2, 0), (3, 0), "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z 2026-10-25T02:00:00Z"),
            (berlin, (2, 0), (3, 0), "2026-10-25T01:30:00Z", "2026-10-25T00:00:00Z 2026-10-25T02:00:00Z"),
            (berlin, (1, 0), (2, 30), "2026-10-25T01:15:00Z", "2026-10-24T23:00:00Z 2026-10-25T01:30:00Z"),
            (berlin, (2, 0), (3, 0), "2026-10-25T02:00:00Z", "none"),
            // Over midnight, on the night of a change.
            (berlin, (22, 0), (7, 0), "2026-03-29T04:59:59Z", "2026-03-28T21:00:00Z 2026-03-29T05:00:00Z"),
            (berlin, (22, 0), (7, 0), "2026-03-29T05:00:00Z", "none"),
            (berlin, (22, 0), (7, 0), "2026-10-25T05:59:59Z", "2026-10-24T20:00:00Z 2026-10-25T06:00:00Z"),
            (york, (2, 0), (4, 0), "2026-03-08T07:30:00Z", "2026-03-08T07:00:00Z 2026-03-08T09:00:00Z"),
            (york, (1, 0), (2, 0), "2026-11-01T06:30:00Z", "2026-11-01T05:00:00Z 2026-11-01T07:00:00Z"),
            (york, (1, 30), (3, 0), "2026-11-01T05:15:00Z", "none"),
            (york, (1, 30), (3, 0), "2026-11-01T07:45:00Z", "2026-11-01T05:30:00Z 2026-11-01T08:00:00Z"),
            (york, (22, 0), (7, 0), "2026-11-01T11:59:59Z", "2026-11-01T02:00:00Z 2026-11-01T12:00:00Z"),
            ("UTC", (2, 0), (4, 0), "2026-03-29T02:00:00Z", "2026-03-29T02:00:00Z 2026-03-29T04:00:00Z"),
        ];
        for (zone, from, until, at, expected) in table {
            let hours = Hours::daily(zone, from, until).unwrap();
            assert_eq!(told(hours.around(utc(at))), expected, "{hours} at {at}");
        }
    }

    #[test]
    fn they_belong_to_the_day_on_which_they_begin() {
        let hours = Hours::new("Europe/Berlin", [Weekday::Sunday], (22, 0), (6, 0)).unwrap();
        // Sunday 2026-11-22, 22:00 in Berlin is 21:00 UTC.
        for (at, inside) in [
            ("2026-11-22T20:59:59Z", false),
            ("2026-11-22T21:00:00Z", true),
            ("2026-11-23T04:59:59Z", true),
            ("2026-11-23T05:00:00Z", false),
            ("2026-11-23T21:30:00Z", false),
        ] {
            assert_eq!(hours.around(utc(at)).is_some(), inside, "{at}");
        }
        assert_eq!(hours.to_string(), "Sun 22:00-06:00 Europe/Berlin");
    }

    #[test]
    fn what_nobody_can_keep_is_refused() {
        let every = |zone, from, until| Hours::daily(zone, from, until).unwrap_err().to_string();
        assert!(every("Europe/Berlim", (1, 0), (2, 0)).contains("Europe/Berlim"));
        assert!(every("UTC", (24, 0), (2, 0)).contains("24:00"));
        assert!(every("UTC", (200, 0), (2, 0)).contains("200:00"));
        assert!(every("UTC", (2, 60), (2, 0)).contains("02:60"));
        assert_eq!(every("UTC", (2, 0), (2, 0)), HoursError::Empty.to_string());
        assert_eq!(Hours::new("UTC", [], (2, 0), (3, 0)), Err(HoursError::NoDay));
    }

    proptest! {
        /// A reading of the local clock well away from a change is inside exactly when it lies between the two ends.
        #[test]
        fn they_are_what_the_local_clock_reads(
            zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]),
            from in (0u8..24, 0u8..60),
            until in (0u8..24, 0u8..60),
            at in 1_700_000_000u64..1_900_000_000,
        ) {
            prop_assume!(from != until);
            let hours = Hours::daily(zone, from, until).unwrap();
            let instant = |second: u64| jiff::Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
            let tz = TimeZoneDatabase::bundled().get(zone).unwrap();
            let steady = tz.to_offset(instant(at - 90_000)) == tz.to_offset(instant(at + 90_000));
            prop_assume!(steady);
            let local = tz.to_datetime(instant(at));
            let clock = (local.hour().unsigned_abs(), local.minute().unsigned_abs());
            let inside = if from < until { from <= clock && clock < until } else { from <= clock || clock < until };
            prop_assert_eq!(hours.around(Second(at)).is_some(), inside);
        }
    }
}
