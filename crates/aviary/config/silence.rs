//! `[[silence]]`: what nobody is to be paged about, until when, and why.

use aviary_core::{
    Second, Span,
    silence::{Silence, When},
};
use jiff::{
    civil::DateTime,
    fmt::temporal::DateTimeParser,
    tz::{Disambiguation, TimeZoneDatabase},
};
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::{
    context::{Context, Given, Refusal, Value},
    hours::{hours, unknown_zone},
    kind::{Kind, table},
    reader::Reader,
    scalar,
    source::quotable,
    tags::{Tagged, matches, tags},
};

/// A silence, and where the tags stand that it is about.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) tags: Vec<Tagged>,
    /// The silence, if all of it could be read.
    pub(super) silence: Option<Silence>,
}

/// Reads one `[[silence]]`.
pub(super) fn silence(reader: &mut Reader<'_>) -> Option<Draft> {
    let name = reader.required("name", "what it is called by", scalar::name("switches"));
    let read_tags = |reader: &mut Reader<'_>| {
        let tags = tags(reader);
        if tags.is_empty() && reader.is_empty() {
            let help = "name a tag with its values, such as region = [\"eu-west-1\"]";
            reader
                .refuse_whole(Refusal::new("without a tag, nobody would be paged about anything").help(help));
        }
        Some(tags)
    };
    let about = "which series: for each tag that is named, those with one of its values";
    let tags = reader.required("match", about, table("{ region = [\"eu-west-1\"] }", read_tags));
    let from = Moment(Disambiguation::Compatible);
    let from = reader.optional("from", "when it begins; at once by default", from);
    let until = Moment(Disambiguation::Later);
    let until = reader.required("until", "when it ends, also where it comes back until then", until);
    let about = "hours that come back between the two; absent: all of the time between them";
    let hours = reader.optional("hours", about, hours());
    let has_hours = reader.has("hours");
    let author = reader.required("author", "who asked for it", scalar::line("ada"));
    let reason = reader.required("reason", "why, for whoever wonders at night", scalar::line("new switches"));
    let about = "what customers read of it on the status page, as scheduled maintenance; absent: nothing";
    let announce = reader.optional("announce", about, scalar::line("We replace switches."));

    let span = until.map(|until| Span::new(from.unwrap_or_default(), until));
    if span.is_some_and(|span| span.is_empty()) {
        let refusal =
            Refusal::new("the silence ends before it begins").help("give an end after its beginning");
        reader.refuse("until", refusal);
    }
    let (name, tags) = (name?, tags.unwrap_or_default());
    let when = match hours {
        Some(hours) => span.map(|span| When::Recurring(hours, span)),
        // Hours that could not be read are accounted for by a problem.
        None => span.filter(|_| !has_hours).map(When::Once),
    };
    let silence = when.zip(author).zip(reason).map(|((when, author), reason)| Silence {
        id: name.clone(),
        matches: matches(&tags),
        when,
        author,
        reason,
        announce,
    });
    Some(Draft { name, tags, silence })
}

/// The second that a person means by `given`, a date and time with an offset, or by the clocks of `zone`; what it lacks
/// otherwise.
fn moment(given: &str, zone: Option<&str>, is_end: bool) -> Result<Second, String> {
    let moment = Moment(if is_end { Disambiguation::Later } else { Disambiguation::Compatible });
    let is_local = given.parse::<jiff::Timestamp>().is_err() && !given.contains('[');
    let parsed = match zone.filter(|_| is_local) {
        Some(zone) => moment.parse(&format!("{given}[{zone}]")),
        None => moment.parse(given),
    };
    parsed.map_err(|Refusal { message, help }| match help {
        Some(help) => format!("{message}: {help}"),
        None => message,
    })
}

/// The same of the command line's `--name`, where it is given.
///
/// # Errors
/// Names it.
pub(crate) fn moment_of(
    name: &str,
    given: Option<&str>,
    zone: Option<&str>,
    is_end: bool,
) -> anyhow::Result<Option<Second>> {
    let read = |given| moment(given, zone, is_end);
    given.map(read).transpose().map_err(|why| anyhow::anyhow!("--{name}: {why}"))
}

/// A date and time with the zone that it is of: as TOML has it with an offset, or as text with an offset or a zone in
/// brackets. Where the clocks of a zone read the time twice, the beginning of a silence is the first of the two, and its
/// end the second, so that the whole is in.
struct Moment(Disambiguation);

impl Moment {
    fn parse(&self, given: &str) -> Result<Second, Refusal> {
        let such_as = "write such as 2026-11-22T04:00:00Z, or \"2026-11-22T04:00[Europe/Berlin]\"";
        let none = || Refusal::new(format!("`{}` is no date and time", quotable(given))).help(such_as);
        let zone = given.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')).map(|(_, zone)| zone);
        let instant = match zone {
            Some(zone) if TimeZoneDatabase::bundled().get(zone).is_err() => return Err(unknown_zone(zone)),
            Some(_) => DateTimeParser::new()
                .disambiguation(self.0)
                .parse_zoned_with(&TimeZoneDatabase::bundled(), given)
                .map(|zoned| zoned.timestamp()),
            None if given.parse::<jiff::Timestamp>().is_err() && given.parse::<DateTime>().is_ok() => {
                let message = format!("`{}` does not say by whose clocks", quotable(given));
                return Err(Refusal::new(message).help(such_as));
            }
            None => given.parse(),
        };
        let second = instant.ok().and_then(|instant| u64::try_from(instant.as_second()).ok());
        second.map(Second).ok_or_else(none)
    }
}

impl Kind for Moment {
    type Output = Second;

    fn expected(&self) -> String {
        "a date and time".to_owned()
    }

    fn example(&self, path: &str) -> String {
        match path.rsplit('.').next() {
            None | Some("") => "2026-11-22T04:00:00Z".to_owned(),
            Some(key) => format!("{key} = 2026-11-22T04:00:00Z"),
        }
    }

    fn fits(&self, value: Value<'_>) -> bool {
        value.text().is_some() || value.toml().is_some_and(|value| value.as_datetime().is_some())
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<Second> {
        let parsed = match value.given {
            Given::Variable(text) => self.parse(text),
            Given::Toml(DeValue::String(text)) => self.parse(text),
            Given::Toml(DeValue::Datetime(datetime)) => self.parse(&datetime.to_string()),
            Given::Toml(_) => {
                self.refuse_type(value, context);
                return None;
            }
        };
        parsed.map_err(|refusal| context.refuse(value.path, refusal)).ok()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "examples": ["2026-11-22T04:00:00Z", "2026-11-22T04:00[Europe/Berlin]"] })
    }

    fn written(&self, text: &str) -> toml::Value {
        text.parse().map_or_else(|_| text.into(), toml::Value::Datetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalar::tests::read;

    #[test]
    fn a_moment_has_a_zone() {
        let second =
            |text: &str| Second(u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_second()).unwrap());
        let table = [
            ("2026-11-22T04:00:00Z", "2026-11-22T04:00:00Z"),
            ("2026-11-22T04:00:00+01:00", "2026-11-22T03:00:00Z"),
            ("2026-11-22T04:00[Europe/Berlin]", "2026-11-22T03:00:00Z"),
            ("2026-07-22T04:00[Europe/Berlin]", "2026-07-22T02:00:00Z"),
            ("2026-11-22T04:00[UTC]", "2026-11-22T04:00:00Z"),
        ];
        for (given, expected) in table {
            assert_eq!(read(Moment(Disambiguation::Compatible), given), Ok(second(expected)), "{given}");
        }
        // Half past two comes twice on that morning, at 00:30 and at 01:30 UTC.
        let twice = "2026-10-25T02:30[Europe/Berlin]";
        assert_eq!(read(Moment(Disambiguation::Compatible), twice), Ok(second("2026-10-25T00:30:00Z")));
        assert_eq!(read(Moment(Disambiguation::Later), twice), Ok(second("2026-10-25T01:30:00Z")));
    }

    #[test]
    fn what_is_no_moment_is_refused_for_what_it_lacks() {
        let table = [
            ("2026-11-22T04:00:00", "`2026-11-22T04:00:00` does not say by whose clocks"),
            ("2026-11-22", "`2026-11-22` does not say by whose clocks"),
            ("2026-11-22T04:00[Europe/Berlim]", "`Europe/Berlim` is no time zone of the IANA database"),
            ("2026-11-31T04:00[UTC]", "`2026-11-31T04:00[UTC]` is no date and time"),
            ("1926-11-22T04:00:00Z", "`1926-11-22T04:00:00Z` is no date and time"),
            ("tomorrow", "`tomorrow` is no date and time"),
            ("", "`` is no date and time"),
        ];
        for (given, message) in table {
            assert_eq!(read(Moment(Disambiguation::Compatible), given), Err(message.to_owned()));
        }
    }
}
