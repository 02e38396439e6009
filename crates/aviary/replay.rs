//! `aviary replay`: what the rules of a configuration would have paged, and when.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::bail;
use aviary_collector::replay::{Replay, Stored, Told};
use aviary_core::{Clock as _, Micros, Second, Span};
use aviary_probe::SystemClock;
use clap::Args;
use serde::Deserialize;

use crate::{
    ask::{self, Asker, At},
    config::{self, Environment, Problems, silence::moment_of},
    output::{Format, in_time_words, moment},
    run,
    silence::duration,
};

/// So many slots are asked for at once, about.
const SLOTS_AT_ONCE: u64 = 100_000;

/// And of so many seconds, until it is known how many series there are, and at most.
const SECONDS_AT_FIRST: u64 = 5;
const SECONDS_MAX: u64 = 3_600;

/// So many of the newest seconds are not settled, and what storage lacks is not known.
const SETTLED_AFTER_SECONDS: u64 = 10;

const DAY: u64 = 86_400;

/// Lives through stored slots by the rules of a configuration.
#[derive(Args, Debug)]
pub(crate) struct ReplayArguments {
    /// The configuration by whose services, receivers, routes and silences slots are judged
    #[arg(value_name = "CONFIG")]
    config: PathBuf,

    /// From when, such as 2026-11-21T00:00Z, or 2026-11-21T00:00 with --zone; by default a day before the end
    #[arg(long, value_name = "TIME")]
    from: Option<String>,

    /// Until when; by default now
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// By the clocks of which zone times without an offset are meant
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,

    /// How long before --from to begin: so long windows are known then, and what was open. `0s` for not at all
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = warm_up)]
    warm_up: u64,

    #[command(flatten)]
    at: At,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Deserialize)]
struct Answer {
    series: Vec<Stored>,
}

/// What was printed.
#[derive(Default)]
struct Tally {
    told: usize,
    pages: usize,
}

fn warm_up(given: &str) -> Result<u64, String> {
    if given == "0s" || given == "0" { Ok(0) } else { duration(given) }
}

/// Prints what would have been told. Returns whether nobody would have been.
pub(crate) fn replay(
    arguments: &ReplayArguments,
    out: &mut impl Write,
    environment: &Environment,
    host: &str,
) -> anyhow::Result<bool> {
    let config = match config::load(&arguments.config, environment, host) {
        Ok(config) => config,
        Err(Problems(problems)) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bail!("{} cannot be used:\n{}", arguments.config.display(), problems.join("\n"));
        }
    };
    let span = arguments.span(SystemClock.wall().second())?;
    let asker = arguments.at.asker()?;
    let begun = SystemClock.monotonic();
    let (mut replay, mut tally) = (None, Tally::default());
    let runtime = ask::runtime()?;
    let mut at = span.from.minus(arguments.warm_up);
    let mut seconds = SECONDS_AT_FIRST;
    while at < span.until {
        let part = Span::new(at, at.plus(seconds).min(span.until));
        let stored = runtime.block_on(slots(&asker, part))?;
        at = part.until;
        // Series are told of before their first slot as well.
        seconds = (SLOTS_AT_ONCE / stored.len().max(1) as u64).clamp(1, SECONDS_MAX);
        let first = stored.iter().filter_map(Stored::first).min();
        // What begins later begins then.
        let Some(from) = first.or_else(|| replay.as_ref().map(|_| part.from)) else { continue };
        let replay = replay.get_or_insert_with(|| Replay::new(run::rules(&config), from));
        for told in replay.feed(stored, at)? {
            tally.print(&told, span, arguments.format, out)?;
        }
        out.flush()?;
        progress(at, span, begun);
    }
    end_progress();
    let Some(replay) = replay else {
        bail!("the collector holds no slot from {} to {}", moment(span.from.0), moment(span.until.0));
    };
    let series = replay.series();
    for told in replay.finish() {
        tally.print(&told, span, arguments.format, out)?;
    }
    if arguments.format == Format::Text {
        let took = SystemClock.monotonic().since(begun) as f64 / 1e6;
        let Tally { told, pages } = tally;
        let (pages, others) = (counted(pages, "page"), counted(told - pages, "other message"));
        let span = in_time_words(span.seconds());
        writeln!(out, "{pages} and {others} in {span} of {series} series, replayed in {took:.1} s.")?;
    }
    Ok(tally.told == 0)
}

impl ReplayArguments {
    fn span(&self, now: Second) -> anyhow::Result<Span> {
        let zone = self.zone.as_deref();
        let newest = now.minus(SETTLED_AFTER_SECONDS);
        let until = moment_of("until", self.until.as_deref(), zone, true)?.unwrap_or(newest).min(newest);
        let from = moment_of("from", self.from.as_deref(), zone, false)?.unwrap_or_else(|| until.minus(DAY));
        if from >= until {
            bail!("--from {} is not before --until {}", moment(from.0), moment(until.0));
        }
        Ok(Span::new(from, until))
    }
}

async fn slots(asker: &Asker, span: Span) -> anyhow::Result<Vec<Stored>> {
    let parameters = [("from", span.from.0.to_string()), ("until", span.until.0.to_string())];
    let Answer { series } = asker.get("api/v1/slots", &parameters).await?;
    Ok(series)
}

impl Tally {
    fn print(&mut self, told: &Told, span: Span, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
        // What was told before, while the windows filled, was not asked for.
        if !span.contains(Second(told.at)) {
            return Ok(());
        }
        self.told += 1;
        self.pages += usize::from(told.urgency == "page" && !told.shadow);
        match format {
            Format::Json => writeln!(out, "{}", serde_json::to_string(told)?)?,
            Format::Text => writeln!(out, "{}", line(told))?,
        }
        Ok(())
    }
}

/// `count` of something, in the right number.
fn counted(count: usize, singular: &str) -> String {
    format!("{count} {singular}{}", if count == 1 { "" } else { "s" })
}

/// One line for people.
fn line(told: &Told) -> String {
    let Told { at, cleared, urgency, severity, summary, to, shadow, .. } = told;
    let to = match (shadow, to.is_empty()) {
        (true, _) => "the log only".to_owned(),
        (false, true) => "nobody: no route takes it".to_owned(),
        (false, false) => to.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    let cleared = match cleared {
        Some(over) => format!("cleared {} after {}", moment(*over), in_time_words(over - at)),
        None => "not cleared by the end".to_owned(),
    };
    format!("{} {urgency} {severity} {summary}; {cleared}; to {to}", moment(*at))
}

/// Says how far it is, to whoever waits at a terminal.
fn progress(at: Second, span: Span, begun: Micros) {
    let mut err = io::stderr().lock();
    if io::IsTerminal::is_terminal(&err) {
        let share = Span::new(span.from, at).seconds() as f64 / span.seconds() as f64;
        let took = SystemClock.monotonic().since(begun) / 1_000_000;
        // With standard error closed nobody waits.
        _ = write!(err, "\r{} {:.0} %, {took} s   ", moment(at.0), share * 100.0);
    }
}

fn end_progress() {
    let mut err = io::stderr().lock();
    if io::IsTerminal::is_terminal(&err) {
        _ = writeln!(err);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_line_says_when_what_and_to_whom() {
        let told = Told {
            at: 1_763_690_410,
            since: 1_763_690_400,
            cleared: Some(1_763_690_500),
            services: vec!["ingest".to_owned()],
            urgency: "page",
            severity: "critical",
            summary: "ingest: udp in every region (3/3), 100 % lost; nothing else".to_owned(),
            extent: Vec::new(),
            to: BTreeSet::from(["hook".to_owned(), "oncall".to_owned()]),
            shadow: false,
        };
        let expected = "2025-11-21T02:00:10Z page critical ingest: udp in every region (3/3), 100 % lost; nothing else; \
                        cleared 2025-11-21T02:01:40Z after 1 min 30 s; to hook, oncall";
        assert_eq!(line(&told), expected);
        assert_eq!((counted(1, "page"), counted(0, "page")), ("1 page".to_owned(), "0 pages".to_owned()));
        let open = Told { cleared: None, to: BTreeSet::new(), ..told.clone() };
        assert!(
            line(&open).ends_with("; not cleared by the end; to nobody: no route takes it"),
            "{}",
            line(&open)
        );
        let shadow = Told { shadow: true, to: BTreeSet::new(), ..told };
        assert!(line(&shadow).ends_with("; to the log only"), "{}", line(&shadow));
    }
}
