//! `aviary silence`: what nobody is to be paged about, until when, and why.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use anyhow::{Context as _, anyhow, bail};
use aviary_core::{Clock as _, Second, Tag};
use aviary_probe::SystemClock;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ask::{self, At},
    config::silence::moment_of,
    output::{Format, moment, print_table},
};

/// Lists silences, adds one, or ends one.
#[derive(Args, Debug)]
pub(crate) struct SilenceArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the silences that are held, those of the configuration included
    List {
        #[command(flatten)]
        at: At,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Page nobody about some series for a while: what is lost is counted and shown all the same
    Add(Box<Added>),
    /// End a silence now
    Expire {
        /// The silence's id; of one that the configuration has, `config:` and its name
        #[arg(value_name = "ID", value_parser = id)]
        id: String,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args, Debug)]
struct Added {
    /// Which series: those with one of the values of each tag that is named
    #[arg(long = "match", value_name = "TAG=VALUE,...", required = true, value_parser = tag_and_values)]
    matches: Vec<(Tag, Vec<String>)>,
    /// For how long, such as 2h or 90m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, required_unless_present = "until")]
    lasts: Option<u64>,
    /// When it begins, such as 2026-11-22T02:00Z, or 2026-11-22T02:00 with --zone; by default now
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// When it ends, also where it comes back until then
    #[arg(long, value_name = "TIME", conflicts_with = "lasts")]
    until: Option<String>,
    /// By the clocks of which zone times without an offset, and hours, are meant
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Only in these hours between the two, such as 02:00-04:00
    #[arg(long, value_name = "HH:MM-HH:MM", requires = "zone")]
    hours: Option<String>,
    /// Only where the hours begin on these days of the week
    #[arg(long, value_name = "DAYS", value_delimiter = ',', requires = "hours", value_parser = DAYS)]
    days: Vec<String>,
    /// Who you are; by default the name of the token
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Why, for whoever wonders tonight why nobody was paged
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// What customers read of it on the status page, as scheduled maintenance; by default nothing
    #[arg(long, value_name = "TEXT")]
    announce: Option<String>,
    #[command(flatten)]
    at: At,
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

#[derive(Debug, Deserialize)]
struct Answer {
    silences: Vec<Value>,
}

/// A silence as the collector tells it.
#[derive(Debug, Deserialize)]
struct Silence {
    id: String,
    matches: BTreeMap<String, BTreeSet<String>>,
    when: When,
    author: String,
    reason: String,
    in_force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum When {
    Once(Between),
    Recurring { hours: Hours, within: Between },
}

/// From one second to before another.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Between {
    from: u64,
    until: u64,
}

#[derive(Debug, Deserialize)]
struct Hours {
    zone: String,
    days: Vec<String>,
    from: String,
    until: String,
}

/// Lists silences, adds one, or ends one.
pub(crate) fn silence(arguments: &SilenceArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let runtime = ask::runtime()?;
    match &arguments.what {
        What::List { at, format } => {
            let asker = at.asker()?;
            let answer: Answer = runtime.block_on(asker.get("api/v1/silences", &[]))?;
            print(&answer.silences, SystemClock.wall().second(), *format, out)?;
        }
        What::Add(added) => {
            let now = SystemClock.wall().second();
            let body = added.body(now)?;
            let asker = added.at.asker()?;
            let body: Value = runtime.block_on(asker.tell(Method::POST, "api/v1/silences", &body))?;
            let silence = read(&body)?;
            writeln!(out, "{}: {} {}", silence.id, silence.about(), silence.held(now))?;
        }
        What::Expire { id, at } => {
            let asker = at.asker()?;
            let path = format!("api/v1/silences/{id}");
            runtime.block_on(asker.tell::<()>(Method::DELETE, &path, &Value::Null))?;
            writeln!(out, "{id}: ended")?;
        }
    }
    Ok(true)
}

impl Added {
    /// What the collector is asked for at `now`.
    fn body(&self, now: Second) -> anyhow::Result<Value> {
        let zone = self.zone.as_deref();
        let from = moment_of("from", self.from.as_deref(), zone, false)?.unwrap_or(now);
        let until = match (moment_of("until", self.until.as_deref(), zone, true)?, self.lasts) {
            (Some(until), _) => until,
            (None, Some(seconds)) => from.plus(seconds),
            (None, None) => bail!("say until when: --for or --until"),
        };
        let mut matches: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (tag, values) in &self.matches {
            matches.entry(tag.name()).or_default().extend(values.iter().map(String::as_str));
        }
        let mut body = json!({"match": matches, "from": from.0, "until": until.0, "by": self.author, "reason": self.reason});
        if let Some(announce) = &self.announce {
            body["announce"] = announce.as_str().into();
        }
        if let Some(hours) = &self.hours {
            let (from, until) = hours.split_once('-').ok_or_else(|| {
                anyhow!("--hours: `{hours}` is no pair of times: write such as 02:00-04:00")
            })?;
            let days =
                if self.days.is_empty() { DAYS.map(str::to_owned).to_vec() } else { self.days.clone() };
            body["hours"] = json!({"zone": self.zone, "days": days, "from": from, "until": until});
        }
        Ok(body)
    }
}

fn print(bodies: &[Value], now: Second, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    if format == Format::Json {
        bodies.iter().try_for_each(|body| writeln!(out, "{body}"))?;
        return Ok(());
    }
    if bodies.is_empty() {
        writeln!(out, "No silence is held.")?;
        return Ok(());
    }
    let row = |body| {
        let silence = read(body)?;
        let (about, held) = (silence.about(), silence.held(now));
        Ok(vec![silence.id, about, held, silence.author, silence.reason])
    };
    let rows = bodies.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    print_table(out, &["id", "about", "when", "author", "reason"], &rows)?;
    Ok(())
}

fn read(body: &Value) -> anyhow::Result<Silence> {
    Silence::deserialize(body).context("the collector answers otherwise than this version understands")
}

impl Silence {
    /// Such as `region eu-west-1 or us-east-1, protocol udp`.
    fn about(&self) -> String {
        let one = |(tag, values): (&String, &BTreeSet<String>)| {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            format!("{tag} {}", values.join(" or "))
        };
        match self.matches.is_empty() {
            true => "everything".to_owned(),
            false => self.matches.iter().map(one).collect::<Vec<_>>().join(", "),
        }
    }

    /// When it holds, seen from `now`.
    fn held(&self, now: Second) -> String {
        let (When::Once(Between { from, until }) | When::Recurring { within: Between { from, until }, .. }) =
            self.when;
        let hours = match &self.when {
            When::Once(_) => String::new(),
            When::Recurring { hours: Hours { zone, days, from, until }, .. } => {
                let days = if days.len() == DAYS.len() { "every day".to_owned() } else { days.join(", ") };
                format!(", {days} {from}-{until} {zone}")
            }
        };
        if until <= now.0 {
            return format!("ended {}", moment(until));
        }
        let until = format!("until {}{hours}", moment(until));
        match (self.in_force, from > now.0) {
            (true, _) => format!("in force, {until}"),
            (false, true) => format!("from {} {until}", moment(from)),
            (false, false) => format!("not now, {until}"),
        }
    }
}

fn tag_and_values(given: &str) -> Result<(Tag, Vec<String>), String> {
    let (tag, values) = given.split_once('=').ok_or("write such as region=eu-west-1")?;
    let tag = tag.trim().parse::<Tag>().map_err(|error| error.to_string())?;
    let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
    match values.iter().any(String::is_empty) {
        true => Err(format!("a value of `{tag}` is empty: write such as region=eu-west-1")),
        false => Ok((tag, values)),
    }
}

/// A silence's id.
fn id(given: &str) -> Result<String, String> {
    ask::name(given.strip_prefix("config:").unwrap_or(given)).map(|_| given.to_owned())
}

/// A duration such as `2h`, in whole seconds.
pub(crate) fn duration(given: &str) -> Result<u64, String> {
    let seconds = given.parse::<jiff::SignedDuration>().ok().map(|duration| duration.as_secs());
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "it is no duration: write such as 90m, 2h or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        added: Added,
    }

    const NOW: u64 = 1_763_690_400;

    fn body(arguments: &[&str]) -> Result<Value, String> {
        let usual = ["silence", "--reason", "new switches", "--author", "ada"];
        let line = Line::try_parse_from(usual.iter().chain(arguments)).map_err(|error| error.to_string())?;
        line.added.body(Second(NOW)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_is_asked_for_is_what_was_said() {
        let body = body(&[
            "--match",
            "region=eu,us",
            "--match",
            "region=ap",
            "--match",
            "protocol=udp",
            "--for",
            "2h",
        ]);
        let expected = json!({"match": {"protocol": ["udp"], "region": ["ap", "eu", "us"]}, "from": NOW,
            "until": NOW + 7_200, "by": "ada", "reason": "new switches"});
        assert_eq!(body.unwrap(), expected);
    }

    #[test]
    fn times_are_by_the_clocks_that_were_named() {
        let span = |arguments: &[&str]| {
            let body = body(&[&["--match", "region=eu"], arguments].concat()).unwrap();
            (moment(body["from"].as_u64().unwrap()), moment(body["until"].as_u64().unwrap()))
        };
        let berlin = ["--from", "2026-11-22T02:00", "--until", "2026-11-22T04:00", "--zone", "Europe/Berlin"];
        let at = |from: &str, until: &str| (from.to_owned(), until.to_owned());
        assert_eq!(span(&berlin), at("2026-11-22T01:00:00Z", "2026-11-22T03:00:00Z"));
        let offset = ["--from", "2026-11-22T02:00:00+09:00", "--for", "1h", "--zone", "Europe/Berlin"];
        assert_eq!(span(&offset), at("2026-11-21T17:00:00Z", "2026-11-21T18:00:00Z"));
        // Half past two comes twice on that morning: the whole of both is in.
        let twice = ["--from", "2026-10-25T02:30", "--until", "2026-10-25T02:30", "--zone", "Europe/Berlin"];
        assert_eq!(span(&twice), at("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"));
    }

    #[test]
    fn hours_come_back_on_the_days_that_were_named() {
        let given =
            ["--match", "region=eu", "--for", "720h", "--zone", "Europe/Berlin", "--hours", "02:00-04:00"];
        let hours =
            |days: Value| json!({"zone": "Europe/Berlin", "days": days, "from": "02:00", "until": "04:00"});
        assert_eq!(body(&given).unwrap()["hours"], hours(json!(DAYS)));
        let sundays = body(&[&given[..], &["--days", "sunday"]].concat()).unwrap();
        assert_eq!(sundays["hours"], hours(json!(["sunday"])));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_for_what_it_lacks() {
        let eu = ["--match", "region=eu"];
        let table: [(&[&str], &str); 7] = [
            (&["--for", "2h"], "--match"),
            (&["--match", "colour=red", "--for", "2h"], "`colour` is not known"),
            (&["--match", "region=", "--for", "2h"], "a value of `region` is empty"),
            (&["--match", "region=eu"], "--for"),
            (&["--match", "region=eu", "--until", "2026-11-22T04:00"], "does not say by whose clocks"),
            (&["--match", "region=eu", "--for", "2 fortnights"], "it is no duration"),
            (&["--match", "region=eu", "--for", "2h", "--hours", "02:00-04:00"], "--zone"),
        ];
        for (arguments, expected) in table {
            let error = body(arguments).unwrap_err();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
        let zone = body(&[&eu[..], &["--until", "2026-11-22T04:00", "--zone", "Europe/Berlim"]].concat());
        assert!(zone.unwrap_err().contains("did you mean \"Europe/Berlin\"?"));
    }

    #[test]
    fn a_silence_says_when_it_holds() {
        let hours = || Hours {
            zone: "UTC".to_owned(),
            days: vec!["sunday".to_owned()],
            from: "02:00".to_owned(),
            until: "04:00".to_owned(),
        };
        let held = |when, in_force| {
            let matches = BTreeMap::new();
            let (id, author, reason) = (String::new(), String::new(), String::new());
            Silence { id, matches, when, author, reason, in_force }.held(Second(NOW))
        };
        let until = "until 2025-11-21T04:00:00Z";
        assert_eq!(
            held(When::Once(Between { from: NOW, until: NOW + 7_200 }), true),
            format!("in force, {until}")
        );
        assert_eq!(
            held(When::Once(Between { from: NOW + 3_600, until: NOW + 7_200 }), false),
            format!("from 2025-11-21T03:00:00Z {until}")
        );
        assert_eq!(
            held(When::Once(Between { from: NOW - 7_200, until: NOW }), false),
            "ended 2025-11-21T02:00:00Z"
        );
        let recurring =
            When::Recurring { hours: hours(), within: Between { from: NOW - 60, until: NOW + 7_200 } };
        assert_eq!(held(recurring, false), format!("not now, {until}, sunday 02:00-04:00 UTC"));
    }
}
