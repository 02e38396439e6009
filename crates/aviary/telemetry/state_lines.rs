//! One line when a series turns from delivering to losing or back, and never one per probe.
//!
//! A series loses when [`TURNS_AT`] of its last [`KEPT`] measured slots were lost, and delivers again when none of them
//! was: a slot lost now and then is the collector's to judge, and an outage that flickers is one outage. What the agent
//! did not measure says nothing either way. However many series turn at once, the lines are bounded: beyond
//! [`BURST`] at once and one a second, series that turned alike are told in one line.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
};

use aviary_core::{Endpoint, Outcome, Protocol, Second};

/// How many measured slots of a series are looked back on.
const KEPT: u32 = 10;

/// How many of them were lost when a series is said to lose.
const TURNS_AT: u32 = 3;

/// How many lines may be written at once; spent lines come back one a second.
const BURST: u32 = 10;

/// What a line calls a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SeriesLabel {
    /// The service under test.
    pub(crate) service: String,
    /// What is probed.
    pub(crate) endpoint: Endpoint,
    /// The one address that it goes to, where each address of a name has a series of its own.
    pub(crate) address: Option<IpAddr>,
}

impl fmt::Display for SeriesLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, endpoint, address } = self;
        write!(f, "{service} {endpoint}")?;
        address.map_or(Ok(()), |address| write!(f, " at {address}"))
    }
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateLine {
    /// Whether it tells of loss: worth a warning. Otherwise of its end.
    pub(crate) losing: bool,
    /// The sentence.
    pub(crate) text: String,
}

impl StateLine {
    /// Writes it to the log.
    pub(crate) fn log(&self) {
        if self.losing {
            tracing::warn!("{}", self.text);
        } else {
            tracing::info!("{}", self.text);
        }
    }
}

/// What turns the outcomes of every series into lines.
pub(crate) struct StateLines {
    labels: Vec<SeriesLabel>,
    states: Vec<State>,
    /// Turns that no line has told yet, one a series at most.
    turned: BTreeMap<u32, Turn>,
    budget: u32,
    refilled: Option<Second>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The last measured slots, the newest in the lowest bit; set where lost.
    history: u16,
    losing: bool,
    /// Since the first of the lost slots that made it lose.
    spell: Spell,
}

/// A time in which slots were lost.
#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    from: Second,
    /// After the last lost slot.
    until: Second,
    measured: u64,
    lost: u64,
    /// Measured since the last loss: not part of the spell.
    trailing: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// The outcome that turned it.
    Loses(Outcome),
    /// What it lost, of how many measured slots, within how many seconds.
    Delivers { lost: u64, measured: u64, seconds: u64 },
}

impl StateLines {
    /// For series that are numbered as `labels` are; all are taken to deliver until they are seen to lose.
    pub(crate) fn new(labels: Vec<SeriesLabel>) -> Self {
        let states = vec![State::default(); labels.len()];
        Self { labels, states, turned: BTreeMap::new(), budget: BURST, refilled: None }
    }

    /// Other series from now on. Those that stay are not told of again for that: one that loses goes on losing.
    pub(crate) fn relabel(&mut self, labels: Vec<SeriesLabel>) {
        let earlier: HashMap<&SeriesLabel, usize> = self.labels.iter().zip(0..).collect();
        let mut states = vec![State::default(); labels.len()];
        let mut turned = BTreeMap::new();
        for (number, label) in labels.iter().enumerate() {
            let Some(place) = earlier.get(label) else { continue };
            states[number] = self.states[*place];
            if let Some(turn) = self.turned.remove(&(*place as u32)) {
                turned.insert(number as u32, turn);
            }
        }
        (self.labels, self.states, self.turned) = (labels, states, turned);
    }

    /// What came of the slot of `series` at `second`; each slot once, in the order of seconds. A series that has no label
    /// is not told of.
    pub(crate) fn observe(&mut self, second: Second, series: u32, outcome: &Outcome) {
        let Some(state) = self.states.get_mut(series as usize) else { return };
        let lost = match outcome {
            Outcome::Delivered(_) => false,
            Outcome::Lost { .. } => true,
            Outcome::Local { .. } | Outcome::Missed | Outcome::Muted => return,
        };
        if let Some(turn) = state.observe(second, lost, *outcome) {
            self.turned.insert(series, turn);
        }
    }

    /// The lines to write at `now`: to be asked for once a second.
    pub(crate) fn lines(&mut self, now: Second) -> Vec<StateLine> {
        let earned = self.refilled.map_or(0, |at| now.0.saturating_sub(at.0));
        self.refilled = Some(now);
        self.budget = self.budget.saturating_add(earned.min(u64::from(BURST)) as u32).min(BURST);
        if self.turned.is_empty() || self.budget == 0 {
            return Vec::new();
        }
        let turned = std::mem::take(&mut self.turned);
        let room = self.budget as usize;
        let lines = if turned.len() <= room {
            turned.iter().map(|(series, turn)| self.line(*series, *turn)).collect()
        } else {
            self.summary(&turned, room)
        };
        self.budget = self.budget.saturating_sub(lines.len() as u32);
        lines
    }

    fn line(&self, series: u32, turn: Turn) -> StateLine {
        // `observe` lets no other number in.
        let label = &self.labels[series as usize];
        match turn {
            Turn::Loses(outcome) => StateLine {
                losing: true,
                text: format!("{label} loses: {}; {TURNS_AT} of its last seconds were lost.", why(&outcome)),
            },
            Turn::Delivers { lost, measured, seconds } => StateLine {
                losing: false,
                text: format!(
                    "{label} delivers again: {lost} of {measured} slots were lost within {seconds} s."
                ),
            },
        }
    }

    /// Series that turned alike in one line each, the largest groups first, in at most `room` lines.
    fn summary(&self, turned: &BTreeMap<u32, Turn>, room: usize) -> Vec<StateLine> {
        // Which way, of which service and protocol, and why: how many series, and how many slots they lost.
        type Alike<'l> = (bool, &'l str, Protocol, String);
        let mut groups: BTreeMap<Alike<'_>, (u64, u64)> = BTreeMap::new();
        for (series, turn) in turned {
            let SeriesLabel { service, endpoint, .. } = &self.labels[*series as usize];
            let (losing, reason, slots) = match turn {
                Turn::Loses(outcome) => (true, why(outcome), 0),
                Turn::Delivers { lost, .. } => (false, String::new(), *lost),
            };
            let (count, lost) =
                groups.entry((losing, service.as_str(), endpoint.protocol(), reason)).or_default();
            *count += 1;
            *lost += slots;
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        let told = if groups.len() <= room { groups.len() } else { room - 1 };
        let rest = groups.split_off(told);
        let mut lines: Vec<StateLine> = groups
            .into_iter()
            .map(|((losing, service, protocol, reason), (count, lost))| StateLine {
                losing,
                text: if losing {
                    format!("{count} series of {service} now lose: {protocol} {reason}.")
                } else {
                    format!("{count} series of {service} deliver again: {protocol}; {lost} slots were lost.")
                },
            })
            .collect();
        if !rest.is_empty() {
            let count = |losing| {
                rest.iter().filter(|((is, ..), _)| *is == losing).map(|(_, (count, _))| count).sum::<u64>()
            };
            let (lose, deliver) = (count(true), count(false));
            lines.push(StateLine {
                losing: lose > 0,
                text: format!("{lose} more series now lose, and {deliver} more deliver again."),
            });
        }
        lines
    }
}

impl State {
    fn observe(&mut self, second: Second, lost: bool, outcome: Outcome) -> Option<Turn> {
        self.history = ((self.history << 1) | u16::from(lost)) & ((1 << KEPT) - 1);
        self.spell.measured += 1;
        if lost {
            if self.spell.lost == 0 {
                self.spell = Spell { from: second, until: second, measured: 1, lost: 0, trailing: 0 };
            }
            self.spell.lost += 1;
            self.spell.until = second.plus(1);
            self.spell.trailing = 0;
        } else {
            self.spell.trailing += 1;
        }
        let losses = self.history.count_ones();
        if losses == 0 {
            let Spell { from, until, measured, lost, trailing } = std::mem::take(&mut self.spell);
            let was_losing = std::mem::take(&mut self.losing);
            return was_losing.then(|| Turn::Delivers {
                lost,
                measured: measured - trailing,
                seconds: until.0.saturating_sub(from.0),
            });
        }
        let turns = !self.losing && losses >= TURNS_AT;
        self.losing |= turns;
        turns.then_some(Turn::Loses(outcome))
    }
}

/// The phase and fault, as people say them.
fn why(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Lost { phase, fault } => format!("{phase} {}", fault.name().replace('_', " ")),
        // Only a lost slot turns a series to losing.
        other => other.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::{Evidence, Fault, LocalFault, Phase};

    use super::*;

    const DELIVERED: Outcome = Outcome::Delivered(Evidence::PeerClosed);
    const TIMEOUT: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Timeout };
    const RESET: Outcome = Outcome::Lost { phase: Phase::Confirm, fault: Fault::Reset };
    const STARVED: Outcome = Outcome::Local { phase: Phase::Connect, fault: LocalFault::Starved };

    fn labels(service: &str, count: usize) -> Vec<SeriesLabel> {
        let label = |number: usize| SeriesLabel {
            service: service.to_owned(),
            endpoint: format!("tcp://10.0.0.1:{}", 1_000 + number).parse().unwrap(),
            address: None,
        };
        (0..count).map(label).collect()
    }

    /// The lines of one series over these outcomes, each with the place in the row after which it came.
    fn told(outcomes: &str) -> Vec<(usize, String)> {
        let mut lines = StateLines::new(labels("ingest", 1));
        let mut told = Vec::new();
        for (place, outcome) in outcomes.chars().enumerate() {
            let outcome = match outcome {
                '.' => DELIVERED,
                't' => TIMEOUT,
                'r' => RESET,
                's' => STARVED,
                'm' => Outcome::Missed,
                other => panic!("{other}"),
            };
            let second = Second(1_000 + place as u64);
            lines.observe(second, 0, &outcome);
            told.extend(lines.lines(second).into_iter().map(|line| (place, line.text)));
        }
        told
    }

    #[test]
    fn a_series_is_told_of_when_it_turns() {
        let loses = |at, why| {
            (at, format!("ingest tcp://10.0.0.1:1000 loses: {why}; 3 of its last seconds were lost."))
        };
        let delivers = |at, how| (at, format!("ingest tcp://10.0.0.1:1000 delivers again: {how}."));
        let table: &[(&str, Vec<(usize, String)>)] = &[
            ("....................", vec![]),
            // A slot now and then.
            ("..t........t........t..........t", vec![]),
            ("tttt", vec![loses(2, "connect timeout")]),
            // The newest loss says why.
            (".ttr", vec![loses(3, "confirm reset")]),
            (
                "..ttttt..........",
                vec![loses(4, "connect timeout"), delivers(16, "5 of 5 slots were lost within 5 s")],
            ),
            // Flickering is one spell.
            (
                "t.t.t.t.t.t..........",
                vec![loses(4, "connect timeout"), delivers(20, "6 of 11 slots were lost within 11 s")],
            ),
            // What was not measured neither makes nor ends a spell.
            ("ssssmmmmm", vec![]),
            ("tsmtsmt", vec![loses(6, "connect timeout")]),
            ("tttsssssssssssssssss", vec![loses(2, "connect timeout")]),
            (
                "ttt..........ttt",
                vec![
                    loses(2, "connect timeout"),
                    delivers(12, "3 of 3 slots were lost within 3 s"),
                    loses(15, "connect timeout"),
                ],
            ),
        ];
        for (outcomes, expected) in table {
            assert_eq!(&told(outcomes), expected, "{outcomes}");
        }
    }

    #[test]
    fn a_series_that_stays_is_not_told_of_again() {
        let mut lines = StateLines::new(labels("ingest", 3));
        (0..5).for_each(|second| lines.observe(Second(second), 2, &TIMEOUT));
        assert_eq!(lines.lines(Second(4)).len(), 1);
        lines.relabel(labels("ingest", 4).into_iter().rev().collect());
        for second in (5..20).map(Second) {
            lines.observe(second, 1, &TIMEOUT);
            assert_eq!(lines.lines(second), [], "it was told of before the series were numbered anew");
        }
        lines.relabel(labels("ingest", 3));
        let mut told = Vec::new();
        for second in (20..35).map(Second) {
            (0..3).for_each(|series| lines.observe(second, series, &DELIVERED));
            told.extend(lines.lines(second).into_iter().map(|line| line.text));
        }
        assert_eq!(
            told,
            ["ingest tcp://10.0.0.1:1002 delivers again: 20 of 20 slots were lost within 20 s."]
        );
    }

    #[test]
    fn thousands_that_turn_at_once_are_told_in_a_few_lines() {
        let mut all = labels("ingest", 312);
        all.extend(labels("web", 5_000));
        let mut lines = StateLines::new(all);
        let mut told = Vec::new();
        for second in (100..103).map(Second) {
            for series in 0..5_312 {
                lines.observe(second, series, if series < 312 { &TIMEOUT } else { &RESET });
            }
            told.extend(lines.lines(second));
        }
        let texts: Vec<_> = told.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "5000 series of web now lose: tcp confirm reset.",
                "312 series of ingest now lose: tcp connect timeout."
            ]
        );
        for second in (103..113).map(Second) {
            for series in 0..312 {
                lines.observe(second, series, &DELIVERED);
            }
            told.extend(lines.lines(second));
        }
        assert_eq!(told.len(), 3);
        assert_eq!(
            told[2],
            StateLine {
                losing: false,
                text: "312 series of ingest deliver again: tcp; 936 slots were lost.".to_owned()
            }
        );
    }

    #[test]
    fn lines_are_bounded_whatever_turns() {
        let all: Vec<_> = (0..40).flat_map(|service| labels(&format!("s{service}"), 5)).collect();
        let mut lines = StateLines::new(all);
        let mut count = 0;
        // Each series turns every ten seconds or so, for ten minutes.
        for second in 0..600 {
            for series in 0..200 {
                let lost = (second + u64::from(series) * 7) % 26 < 10;
                lines.observe(Second(second), series, if lost { &TIMEOUT } else { &DELIVERED });
            }
            let now = lines.lines(Second(second));
            assert!(now.len() <= BURST as usize);
            count += now.len();
        }
        assert!((100..=600 + BURST as usize).contains(&count), "{count} lines");
        assert!(lines.turned.len() <= 200);
    }

    #[test]
    fn more_kinds_than_lines_leave_a_rest() {
        let all: Vec<_> = (0..30).flat_map(|service| labels(&format!("s{service:02}"), 2)).collect();
        let mut lines = StateLines::new(all);
        for second in 0..3 {
            for series in 0..60 {
                lines.observe(Second(second), series, &TIMEOUT);
            }
        }
        let told = lines.lines(Second(3));
        assert_eq!(told.len(), 10);
        assert_eq!(told[9].text, "42 more series now lose, and 0 more deliver again.");
        assert!(told[9].losing);
        assert!(lines.lines(Second(3)).is_empty(), "told once");
        lines.observe(Second(4), 1_000, &TIMEOUT);
    }
}
