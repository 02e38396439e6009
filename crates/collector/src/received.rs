//! The receiving side: what the service under test forwards to us.
//!
//! A datapoint that arrives is stored, as far as its customer can tell: it closes the stored plane of its slot, whatever
//! its value, and is timed from the instant at which its series was due. What is forwarded twice is counted, and so is a
//! value other than the 1 that was sent. A name that no series owns, be it somebody else's or rewritten on the way, is
//! counted, and the newest few are shown so that a rule of a relay can be found.
//!
//! A datapoint may be faster than the first report of its agent, so that nobody knows its name yet: such ones wait a
//! while before they are nobody's.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use aviary_core::{Protocol, Second, SeriesId, Timestamp, graphite::is_name_byte, histogram::Histogram};
use serde::Serialize;

/// How many names that nobody owns are shown.
const SHOWN_MAX: usize = 8;

/// The longest name that is shown.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// How many services are told apart; the others are counted as [`OTHERS`].
const SERVICES_MAX: usize = 240;

/// No service can be called this.
const OTHERS: &str = "(others)";

/// How many beginnings of our own names are known, to tell what may be shown.
const PREFIXES_MAX: usize = 64;

/// A datapoint that the service under test forwarded to us.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrived<'a> {
    /// The name, without an API key.
    pub name: &'a str,
    /// The second that it claims.
    pub second: Second,
    /// The value.
    pub value: f64,
    /// When it came.
    pub at: Timestamp,
}

/// What arrived of the series of one service over one protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedCounts {
    /// Slots whose datapoint came.
    pub arrived: u64,
    /// Datapoints that came once more.
    pub duplicates: u64,
    /// Datapoints whose value was not the 1 that was sent.
    pub mangled: u64,
    /// Microseconds from when they were due to their arrival, by the sender's clock and ours.
    pub delays: Histogram,
}

/// What was received and is known of it.
#[derive(Default)]
pub(crate) struct Received {
    groups: BTreeMap<Box<str>, BTreeMap<Protocol, ReceivedCounts>>,
    pub(crate) recent: HashMap<SeriesId, Recent>,
    pub(crate) waiting: VecDeque<Waiting>,
    /// The first parts of the names that series carry.
    prefixes: BTreeSet<Box<str>>,
    unowned: VecDeque<UnownedBody>,
}

/// A name that no series owns, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct UnownedBody {
    name: String,
    datapoints: u64,
    /// The second in which the newest came.
    last: u64,
}

/// A datapoint that waits for somebody to own its name.
pub(crate) struct Waiting {
    pub(crate) name: Box<str>,
    pub(crate) second: Second,
    pub(crate) value: f64,
    pub(crate) at: Timestamp,
}

/// Which of the newest 64 seconds of a series came.
#[derive(Clone, Copy, Default)]
pub(crate) struct Recent {
    newest: Second,
    seen: u64,
}

impl Recent {
    /// Notes that `second` came; whether it had come before, where that is still known.
    pub(crate) fn note(&mut self, second: Second) -> Option<bool> {
        let ahead = second.0.saturating_sub(self.newest.0);
        if ahead > 0 {
            let shift = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
            self.newest = second;
            return Some(false);
        }
        let bit = u32::try_from(self.newest.0 - second.0).ok().and_then(|age| 1_u64.checked_shl(age))?;
        let before = self.seen & bit != 0;
        self.seen |= bit;
        Some(before)
    }
}

impl Received {
    /// A series carries `name`.
    pub(crate) fn expect(&mut self, name: &str) {
        let first = name.split('.').next().unwrap_or_default();
        if !self.prefixes.contains(first) && self.prefixes.len() < PREFIXES_MAX {
            self.prefixes.insert(first.into());
        }
    }

    /// What arrived, by service and protocol.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&str, Protocol, &ReceivedCounts)> {
        self.groups.iter().flat_map(|(service, protocols)| {
            protocols.iter().map(move |(protocol, counts)| (&**service, *protocol, counts))
        })
    }

    /// What arrived of one service over one protocol.
    pub(crate) fn group(&self, service: &str, protocol: Protocol) -> Option<&ReceivedCounts> {
        self.groups.get(service)?.get(&protocol)
    }

    /// The newest names that no series owns.
    pub(crate) fn unowned(&self) -> Vec<UnownedBody> {
        self.unowned.iter().cloned().collect()
    }

    /// The counts of one service over one protocol, to be added to.
    pub(crate) fn counts(&mut self, service: &str, protocol: Protocol) -> &mut ReceivedCounts {
        let is_full = self.groups.len() >= SERVICES_MAX && !self.groups.contains_key(service);
        let service = if is_full { OTHERS } else { service };
        if !self.groups.contains_key(service) {
            self.groups.insert(service.into(), BTreeMap::new());
        }
        self.groups.entry(service.into()).or_default().entry(protocol).or_default()
    }

    /// Nobody owns `name`, which came at `at`.
    pub(crate) fn note_unowned(&mut self, name: &str, at: Timestamp) {
        let name = shown(name, &self.prefixes);
        let known = self.unowned.iter().position(|known| known.name == name);
        let before = known.and_then(|place| self.unowned.remove(place)).map_or(0, |known| known.datapoints);
        self.unowned.truncate(SHOWN_MAX - 1);
        self.unowned.push_front(UnownedBody { name, datapoints: before + 1, last: at.second().0 });
    }
}

/// A name as everybody may see it. Its first parts may be an API key, unless they are how our own names begin.
fn shown(name: &str, prefixes: &BTreeSet<Box<str>>) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let ours = parts.iter().position(|part| prefixes.contains(*part));
    let rest = match ours {
        Some(0) => return sanitised(name),
        Some(place) => parts[place..].join("."),
        None if parts.len() > 2 => parts[parts.len() - 1].to_owned(),
        None => return "…".to_owned(),
    };
    format!("….{}", sanitised(&rest))
}

fn sanitised(text: &str) -> String {
    let fits = |char: char| char == '.' || u8::try_from(char).is_ok_and(is_name_byte);
    text.chars().take(SHOWN_CHARACTERS_MAX).map(|char| if fits(char) { char } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_from_where_it_is_ours() {
        let prefixes = BTreeSet::from([Box::from("canary")]);
        let table = [
            ("canary.ingest.tcp", "canary.ingest.tcp"),
            ("0a1b-key.canary.ingest.tcp", "….canary.ingest.tcp"),
            ("relay.0a1b-key.canary.x", "….canary.x"),
            ("0a1b-key.servers.load", "….load"),
            ("0a1b-key.load", "…"),
            ("0a1b-key", "…"),
            ("", "…"),
            ("canary.\u{1b}[31m\n", "canary.__31m_"),
        ];
        for (name, expected) in table {
            assert_eq!(shown(name, &prefixes), expected);
        }
        assert_eq!(shown(&format!("canary.{}", "x".repeat(1_000)), &prefixes).len(), SHOWN_CHARACTERS_MAX);
    }

    #[test]
    fn a_second_that_came_is_remembered_for_a_minute() {
        let mut recent = Recent::default();
        let table = [
            (1_000, Some(false)),
            (1_000, Some(true)),
            (1_003, Some(false)),
            (1_002, Some(false)),
            (1_002, Some(true)),
            (1_000, Some(true)),
            (1_063, Some(false)),
            (1_000, Some(true)),
            (999, None),
            (1_001, Some(false)),
            (5_000, Some(false)),
            (4_999, Some(false)),
            (5_000, Some(true)),
        ];
        for (second, expected) in table {
            assert_eq!(recent.note(Second(second)), expected, "{second}");
        }
    }

    #[test]
    fn only_the_newest_names_are_kept() {
        let mut received = Received::default();
        received.expect("canary.ingest");
        for number in 0..20 {
            received.note_unowned(&format!("canary.n{number}"), Timestamp(number * 1_000_000));
        }
        received.note_unowned("canary.n15", Timestamp(30_000_000));
        let names: Vec<_> =
            received.unowned().into_iter().map(|it| (it.name, it.datapoints, it.last)).collect();
        assert_eq!(names.len(), SHOWN_MAX);
        assert_eq!(names[0], ("canary.n15".to_owned(), 2, 30));
        assert_eq!(names[7], ("canary.n12".to_owned(), 1, 12));
    }
}
