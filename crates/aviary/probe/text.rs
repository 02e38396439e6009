//! Attempts for people: the phases as bars where there is a terminal, and a sentence.

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use aviary_core::{Endpoint, Outcome, Phase, Second, endpoint};
use aviary_probe::{Handshake, Observation};

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

/// The columns of an outcome's word.
const OUTCOME: usize = "not measured".len();

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
        writeln!(out, "{url}  {} after {took}{}", self.outcome(observed, 0), at(endpoint, observed))?;
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
            // Of one that failed no more is known than when the certificate ended.
            if tls.handshake != Handshake::Failed {
                writeln!(
                    out,
                    "  TLS {}, {}, {} handshake",
                    tls.version,
                    tls.cipher,
                    handshake_name(tls.handshake)
                )?;
            }
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
        let outcome = self.outcome(observed, OUTCOME);
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
        // A number and its unit stay together.
        let sentence = sentence.replace(" ms", "\u{a0}ms").replace(" us", "\u{a0}us");
        for word in sentence.split(' ').map(|word| word.replace('\u{a0}', " ")) {
            if line.chars().count() + 1 + word.chars().count() > COLUMNS && line.len() > indent.len() {
                writeln!(out, "{}", line.trim_end())?;
                line = indent.to_owned();
            }
            line.push_str(&word);
            line.push(' ');
        }
        writeln!(out, "{}", line.trim_end())
    }

    /// What the letters in bars mean; nothing where there are none.
    pub(super) fn legend(self) -> Option<String> {
        let entry = |phase: &Phase| {
            let waits = if *phase == Phase::Confirm { " (waiting)" } else { "" };
            format!("{} {phase}{waits}", self.paint.with(hue(*phase).on_default(), letter(*phase)))
        };
        self.draws.then(|| Phase::ALL.iter().map(entry).collect::<Vec<_>>().join("  "))
    }

    /// The word for the outcome, as wide as `room` at least.
    fn outcome(self, observed: &Observation, room: usize) -> String {
        let word = match observed.outcome {
            // The host's own fault says nothing of the service.
            Outcome::Local { .. } => "not measured",
            outcome => outcome.name(),
        };
        let word = format!("{word:<room$}");
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

#[cfg(test)]
mod tests {
    use aviary_core::{Evidence, Fault, Timings};
    use aviary_probe::TlsFacts;

    use super::*;

    /// A terminal without colours.
    const DRAWN: Screen = Screen { paint: Paint::off(), draws: true };
    const NOW: Second = Second(1_763_690_400);

    fn observed(outcome: Outcome, phases: [u32; 5]) -> Observation {
        let mut timings = Timings::default();
        timings.total_us = phases.iter().fold(0, |total: u32, micros| total.saturating_add(*micros));
        for (phase, micros) in Phase::ALL.iter().zip(phases) {
            timings.set(*phase, micros);
        }
        let address = Some("192.0.2.7:2030".parse().unwrap());
        Observation { outcome, timings, address, reached: None, tls: None }
    }

    fn shown(screen: Screen, url: &str, observed: &Observation) -> String {
        let mut out = Vec::new();
        screen.show(&mut out, &url.parse().unwrap(), NOW, observed).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bars_begin_where_the_one_before_ended() {
        let mut seen = observed(Outcome::Delivered(Evidence::PeerClosed), [0, 100, 800, 1, 99]);
        seen.tls = Some(TlsFacts {
            version: "1.3",
            cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
            handshake: Handshake::Full,
            not_after: Some(NOW.0 as i64 + 41 * 86_400 + 5),
        });
        let expected = "\
tls://h.example:2030  delivered after 1.0 ms at 192.0.2.7:2030
  the peer read everything and closed
  dns         0 us
  connect   100 us  █████
  tls       800 us       █████████████████████████████████████████
  send        1 us                                                █
  confirm    99 us                                                ██████
  TLS 1.3, TLS13_AES_256_GCM_SHA384, full handshake
  certificate until 2026-01-01 (in 41 days)
";
        let shown = shown(DRAWN, "tls://h.example:2030", &seen);
        let trimmed: String = shown.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        assert_eq!(trimmed, expected);
    }

    #[test]
    fn no_line_is_longer_than_a_terminal_and_programs_get_sentences_whole() {
        let seen =
            observed(Outcome::Lost { phase: Phase::Tls, fault: Fault::TlsProtocol }, [900_000, 9, 1, 1, 1]);
        let url = "tls://127.0.0.1:2030";
        let drawn = shown(DRAWN, url, &seen);
        assert!(drawn.lines().all(|line| line.chars().count() <= COLUMNS), "{drawn}");
        let plain = shown(Screen { draws: false, ..DRAWN }, url, &seen);
        assert!(
            !plain.contains('█') && plain.lines().nth(1).unwrap().ends_with("such as TLS 1.1 only"),
            "{plain}"
        );
    }

    #[test]
    fn what_took_any_time_has_a_cell_and_none_leaves_the_line() {
        let table = [
            [0; 5],
            [0, 0, 0, 0, 1],
            [1; 5],
            [1_000_000, 1, 1, 1, 1],
            [u32::MAX; 5],
            [1, 1, 1, 1, 1_000_000],
        ];
        for phases in table {
            let seen = observed(Outcome::Missed, phases);
            for (bar, micros) in waterfall(&seen).iter().zip(phases) {
                assert!(bar.before + bar.cells <= BARS, "{phases:?}: {bar:?}");
                assert_eq!(bar.cells > 0, micros > 0, "{phases:?}: {bar:?}");
            }
            assert_eq!(DRAWN.bar(&seen).chars().count(), BAR, "{phases:?}");
        }
    }

    #[test]
    fn one_bar_of_several_attempts_reads_without_colours() {
        let seen = observed(Outcome::Delivered(Evidence::PeerClosed), [0, 500, 500, 0, 100]);
        assert_eq!(DRAWN.bar(&seen), "ccccccccccttttttttttww");
        assert_eq!(DRAWN.legend().unwrap(), "d dns  c connect  t tls  s send  w confirm (waiting)");
    }

    #[test]
    fn how_far_a_certificate_reaches() {
        let day = 86_400;
        let table = [
            (41 * day + 7, "in 41 days"),
            (day, "in 1 day"),
            (5 * 3600, "in 5 hours"),
            (-1, "ended 0 hours ago"),
            (-3 * day, "ended 3 days ago"),
            (800 * day, "in 2 years"),
        ];
        for (after, expected) in table {
            assert_eq!(when(NOW.0 as i64 + after, NOW), expected);
        }
    }
}
