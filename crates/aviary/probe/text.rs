//! Attempts for people: the phases as bars where there is a terminal, and a sentence.

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use aviary_core::{Endpoint, Outcome, Phase, Second, endpoint};
use aviary_probe::Observation;

use super::{
    json::{handshake_name, not_after},
    paint::Paint,
    sentence::{human, sentence},
};

/// The columns of a terminal that nobody has made wider.
const COLUMNS: usize = 80;

/// The columns of the bars of one attempt, which with names and numbers before them fit a line of 80.
const BARS: usize = 52;

/// The columns of the bar of one of several attempts, with room for the URL behind it.
const BAR: usize = 22;

/// What attempts are shown on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) paint: Paint,
    /// Whether bars are drawn.
    pub(super) draws: bool,
}

impl Screen {
    /// As standard output can show it.
    pub(super) fn for_stdout() -> Self {
        Self { paint: Paint::for_stdout(), draws: io::stdout().is_terminal() }
    }

    /// Shows an attempt with each phase on a line.
    pub(super) fn show(
        self,
        out: &mut impl Write,
        endpoint: &Endpoint,
        second: Second,
        observed: &Observation,
    ) -> io::Result<()> {
        let url = self.paint.strong(endpoint);
        let took = human(observed.timings.total_us);
        writeln!(out, "{url}  {} after {took}{}", self.outcome(observed, ""), at(endpoint, observed))?;
        self.say(out, "  ", &sentence(endpoint.protocol(), observed))?;
        let bars = waterfall(observed);
        for (phase, micros) in phases(observed) {
            let bar = match bars.iter().find(|bar| bar.phase == phase) {
                Some(bar) if self.draws => {
                    let cells = self.paint.with(colour(phase, observed), "█".repeat(bar.cells));
                    format!("  {}{cells}", " ".repeat(bar.before))
                }
                _ => String::new(),
            };
            writeln!(out, "  {:<8}{:>8}{bar}", phase.name(), human(micros))?;
        }
        if let Some(tls) = &observed.tls {
            writeln!(
                out,
                "  TLS {}, {}, {} handshake",
                tls.version,
                tls.cipher,
                handshake_name(tls.handshake)
            )?;
            let until = not_after(tls).map_or_else(
                || "an unknown date".to_owned(),
                |until| format!("{} ({})", until.strftime("%F"), when(until.as_second(), second)),
            );
            writeln!(out, "  certificate until {until}")?;
        }
        Ok(())
    }

    /// Shows one of several attempts on a line, with a sentence below it where it was not delivered.
    pub(super) fn show_line(
        self,
        out: &mut impl Write,
        number: u64,
        endpoint: &Endpoint,
        observed: &Observation,
    ) -> io::Result<()> {
        let outcome = self.outcome(observed, "         ");
        let took = human(observed.timings.total_us);
        let phases = if self.draws { self.bar(observed) } else { phase_list(observed) };
        writeln!(out, "{number:>4}  {outcome}  {took:>7}  {phases}  {endpoint}{}", at(endpoint, observed))?;
        if !matches!(observed.outcome, Outcome::Delivered(_)) {
            self.say(out, "      ", &sentence(endpoint.protocol(), observed))?;
        }
        Ok(())
    }

    /// Prints a sentence; on a terminal in lines of [`COLUMNS`], and whole for programs.
    fn say(self, out: &mut impl Write, indent: &str, sentence: &str) -> io::Result<()> {
        if !self.draws {
            return writeln!(out, "{indent}{sentence}");
        }
        let mut line = indent.to_owned();
        for word in sentence.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > COLUMNS && line.len() > indent.len() {
                writeln!(out, "{}", line.trim_end())?;
                line = indent.to_owned();
            }
            line.push_str(word);
            line.push(' ');
        }
        writeln!(out, "{}", line.trim_end())
    }

    /// What the letters in bars mean; nothing where there are none.
    pub(super) fn legend(self) -> Option<String> {
        let entry =
            |phase: &Phase| format!("{} {phase}", self.paint.with(hue(*phase).on_default(), letter(*phase)));
        self.draws.then(|| Phase::ALL.iter().map(entry).collect::<Vec<_>>().join("  "))
    }

    /// The word for the outcome, as wide as `room`.
    fn outcome(self, observed: &Observation, room: &str) -> String {
        let word = match observed.outcome {
            // The host's own fault says nothing of the service.
            Outcome::Local { .. } => "unmeasured",
            outcome => outcome.name(),
        };
        let word = format!("{word:<width$}", width = room.len());
        match observed.outcome {
            Outcome::Delivered(_) => self.paint.good(word),
            Outcome::Lost { .. } => self.paint.bad(word),
            _ => self.paint.with(AnsiColor::Yellow.on_default(), word),
        }
    }

    /// One bar with all phases, each by its letter, so that it can be read without colours too.
    fn bar(self, observed: &Observation) -> String {
        let total: u64 = phases(observed).map(|(_, micros)| u64::from(micros)).sum();
        let mut bar = String::new();
        let (mut spent, mut drawn) = (0, 0);
        for (phase, micros) in phases(observed) {
            spent += u64::from(micros);
            let end = (spent * BAR as u64).checked_div(total).unwrap_or(0) as usize;
            let cells = letter(phase).to_string().repeat(end - drawn);
            drawn = end;
            if !cells.is_empty() {
                bar += &self.paint.with(colour(phase, observed).invert(), cells);
            }
        }
        bar + &" ".repeat(BAR - drawn)
    }
}

/// The address, where the URL does not say it.
fn at(endpoint: &Endpoint, observed: &Observation) -> String {
    match (endpoint.host(), observed.address) {
        (endpoint::Host::Name(_), Some(address)) => format!(" at {address}"),
        _ => String::new(),
    }
}

fn phases(observed: &Observation) -> impl Iterator<Item = (Phase, u32)> {
    Phase::ALL.iter().filter_map(|phase| Some((*phase, observed.timings.get(*phase)?)))
}

fn phase_list(observed: &Observation) -> String {
    phases(observed)
        .map(|(phase, micros)| format!("{phase} {}", human(micros)))
        .collect::<Vec<_>>()
        .join("  ")
}

/// Where a phase's bar stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bar {
    phase: Phase,
    before: usize,
    cells: usize,
}

/// The bars of the phases, each beginning where the one before it ended. What took any time has a cell.
fn waterfall(observed: &Observation) -> Vec<Bar> {
    let total: u64 = phases(observed).map(|(_, micros)| u64::from(micros)).sum();
    let column = |micros: u64| (micros * BARS as u64).checked_div(total).unwrap_or(0) as usize;
    let mut spent = 0;
    phases(observed)
        .map(|(phase, micros)| {
            let from = column(spent);
            spent += u64::from(micros);
            let cells = (column(spent) - from).max(usize::from(micros > 0));
            // The last cell may have to stand in for what is too short to be seen.
            Bar { phase, before: from.min(BARS - cells), cells }
        })
        .collect()
}

const fn letter(phase: Phase) -> char {
    match phase {
        Phase::Dns => 'd',
        Phase::Connect => 'c',
        Phase::Tls => 't',
        Phase::Send => 's',
        Phase::Confirm => 'w',
    }
}

const fn hue(phase: Phase) -> AnsiColor {
    match phase {
        Phase::Dns => AnsiColor::Magenta,
        Phase::Connect => AnsiColor::Blue,
        Phase::Tls => AnsiColor::Cyan,
        Phase::Send => AnsiColor::Yellow,
        Phase::Confirm => AnsiColor::Green,
    }
}

/// The colour of a phase; red is for the one in which an attempt ended badly.
fn colour(phase: Phase, observed: &Observation) -> Style {
    match observed.outcome {
        Outcome::Lost { phase: last, .. } | Outcome::Local { phase: last, .. } if last == phase => {
            AnsiColor::Red.on_default()
        }
        _ => hue(phase).on_default(),
    }
}

/// How far `until`, in seconds since the epoch, is from `now`: `in 41 days`, `in 5 hours`, `ended 3 days ago`.
fn when(until: i64, now: Second) -> String {
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    const YEARS: u64 = 2 * YEAR;
    let now = i64::try_from(now.0).unwrap_or(i64::MAX);
    let distance = until.abs_diff(now);
    let (count, unit) = match distance {
        0..DAY => (distance / HOUR, "hour"),
        DAY..YEARS => (distance / DAY, "day"),
        _ => (distance / YEAR, "year"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if until < now {
        format!("ended {count} {unit}{plural} ago")
    } else {
        format!("in {count} {unit}{plural}")
    }
}
