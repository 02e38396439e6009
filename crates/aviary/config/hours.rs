//! Hours that come back, by the clocks of a zone: quiet hours, maintenance windows, and when tests may be sent.

use aviary_core::silence::{Hours, HoursError, Weekday};
use jiff::tz::TimeZoneDatabase;

use super::{
    context::Refusal,
    kind::{Kind, choice, some, table, text, values},
    reader::{Reader, closest},
    scalar,
    source::quotable,
};

const DAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

/// Hours on some days of the week, or on all of them.
pub(super) fn hours() -> impl Kind<Output = Hours> {
    table("{ from = \"22:00\", until = \"07:00\", zone = \"Europe/Berlin\" }", read)
}

fn read(reader: &mut Reader<'_>) -> Option<Hours> {
    let days = "the days on which they begin; every day by default";
    let days = reader.optional("days", days, some(choice(DAYS)));
    let from = reader.required("from", "when they begin", time_of_day("22:00"));
    let until = "when they end: on the next day, where that is not later than they begin";
    let until = reader.required("until", until, time_of_day("07:00"));
    let zone = reader.required("zone", "by the clocks of which zone", scalar::line("Europe/Berlin"));

    let days = days.map_or_else(|| DAYS.map(|(_, day)| day).to_vec(), values);
    let hours = Hours::new(&zone?, days, from?, until?);
    let (key, refusal) = match hours {
        Ok(hours) => return Some(hours),
        Err(HoursError::UnknownZone(zone)) => ("zone", unknown_zone(&zone)),
        Err(HoursError::Empty) => {
            ("until", Refusal::new("these hours end as they begin").help("give another end"))
        }
        // A list of no days, or a time that is none, was refused when it was read.
        Err(error @ (HoursError::NoDay | HoursError::NoTime { .. })) => {
            ("days", Refusal::new(error.to_string()))
        }
    };
    reader.refuse(key, refusal);
    None
}

/// Why `zone` is none, and which was probably meant.
pub(super) fn unknown_zone(zone: &str) -> Refusal {
    let database = TimeZoneDatabase::bundled();
    let known: Vec<_> = database.available().collect();
    let help = match closest(zone, known.iter().map(|name| name.as_str())) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => "write such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
    };
    Refusal::new(format!("`{}` is no time zone of the IANA database", quotable(zone))).help(help)
}

/// An hour and a minute.
fn time_of_day(example: &'static str) -> impl Kind<Output = (u8, u8)> {
    text("a time of day", example, |given| {
        // A sign is no digit, and would be parsed.
        let is_number = |digits: &str| digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = |digits: &str| digits.parse::<u8>().ok().filter(|_| is_number(digits));
        let time = given.split_once(':').and_then(|(hour, minute)| number(hour).zip(number(minute)));
        time.filter(|(hour, minute)| *hour < 24 && *minute < 60).ok_or_else(|| {
            Refusal::new(format!("`{}` is no time of day", quotable(given)))
                .help("write hour and minute, from \"00:00\" to \"23:59\"")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalar::tests::read;

    #[test]
    fn times_of_day_have_two_digits_each() {
        for (given, expected) in [("00:00", (0, 0)), ("07:05", (7, 5)), ("23:59", (23, 59))] {
            assert_eq!(read(time_of_day("22:00"), given), Ok(expected));
        }
        for given in ["24:00", "7:05", "07:60", "07", "07:05:00", "+7:05", "", "noon"] {
            assert_eq!(read(time_of_day("22:00"), given), Err(format!("`{given}` is no time of day")));
        }
    }

    #[test]
    fn a_misspelt_zone_is_told_with_the_right_one() {
        for (given, help) in [
            ("Europe/Berlim", "did you mean \"Europe/Berlin\"?"),
            ("america/newyork", "did you mean \"America/New_York\"?"),
            ("Middle-earth/Shire", "write such as \"Europe/Berlin\" or \"UTC\""),
        ] {
            assert_eq!(unknown_zone(given).help.as_deref(), Some(help), "{given}");
        }
    }
}
