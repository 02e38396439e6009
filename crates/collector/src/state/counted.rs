//! What is counted since the start, for whoever keeps counters: slots by what came of them, and how long phases took.
//!
//! The ledger has no counters: its slots change as more is told of them. So slots are counted once, as they stand a minute after
//! their second: storage has spoken by then, and hardly a report is on its way. What is told later is in the history, and not
//! here.

use std::collections::{BTreeMap, HashMap};

use aviary_core::{Catalog, Phase, Protocol, Second, Span, Tag, Timestamp, Window, histogram::Histogram};

use super::State;
use crate::{closed_until, settled_until};

/// Slots are counted so long after their second.
const COUNTED_AFTER_SECONDS: u64 = 60;

/// So many seconds at a time: to look at one of them costs as much.
const STEP_SECONDS: u64 = 10;

/// How many groups are told apart. What comes when there are so many is counted by protocol as [`OTHERS`].
pub(super) const GROUPS_MAX: usize = 1_000;

/// How many services are told apart by their phases, likewise.
const SERVICES_MAX: usize = 240;

/// No service and no region can be called this.
pub(crate) const OTHERS: &str = "(others)";

/// How long each phase took, in the order of [`Phase::ALL`].
pub type Phases = [Option<Histogram>; Phase::ALL.len()];

/// Slots of one service over one protocol from one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotCounts {
    /// The service under test, or `(others)`.
    pub service: String,
    /// How its datapoints are handed over.
    pub protocol: String,
    /// Where its vantages are, or `(others)`.
    pub region: String,
    /// Since the start, as they stood a minute after their second.
    pub total: Window,
    /// In the newest 60 closed seconds.
    pub recent: Window,
}

/// What was counted. See the [module](self).
#[derive(Default)]
pub(super) struct Counted {
    /// In the order in which they came: whoever is told apart stays so.
    groups: Vec<Group>,
    place: HashMap<[String; 3], u32>,
    left_out: usize,
    /// The group of each series that is known.
    group_of: Vec<u32>,
    /// Seconds before this are counted; none is before the first look.
    until: Option<Second>,
    phases: BTreeMap<(String, Protocol), Phases>,
}

struct Group {
    labels: [String; 3],
    total: Window,
}

impl Counted {
    /// Knows all series of `catalog`, which stay what they are.
    fn follow(&mut self, catalog: &Catalog) {
        if self.group_of.len() == catalog.len() {
            return;
        }
        let grouping = catalog.group(&[Tag::Service, Tag::Protocol, Tag::Region], |_| true);
        let places: Vec<u32> = grouping.values.into_iter().map(|values| self.place(values)).collect();
        // Each series is in a group: none was left out.
        self.group_of = grouping.group_of.iter().map(|group| places[*group as usize]).collect();
    }

    fn place(&mut self, values: Vec<String>) -> u32 {
        // As many as there are tags.
        let Ok(mut labels) = <[String; 3]>::try_from(values) else { return 0 };
        if let Some(place) = self.place.get(&labels) {
            return *place;
        }
        let wanted = labels.clone();
        if self.groups.len() >= GROUPS_MAX {
            self.left_out += 1;
            (labels[0], labels[2]) = (OTHERS.to_owned(), OTHERS.to_owned());
        }
        let place = match self.place.get(&labels) {
            Some(place) => *place,
            None => {
                let place = self.groups.len() as u32;
                self.groups.push(Group { labels: labels.clone(), total: Window::default() });
                self.place.insert(labels, place);
                place
            }
        };
        self.place.insert(wanted, place);
        place
    }

    /// Takes what one phase of a service has more than before.
    pub(super) fn measured(
        &mut self,
        service: &str,
        protocol: Protocol,
        phase: Phase,
        add: impl FnOnce(&mut Histogram),
    ) {
        let mut key = (service.to_owned(), protocol);
        if !self.phases.contains_key(&key) && self.phases.len() >= SERVICES_MAX {
            key.0 = OTHERS.to_owned();
        }
        add(self.phases.entry(key).or_default()[phase as usize].get_or_insert_default());
    }
}

impl State {
    /// Counts the seconds that are old enough.
    pub(crate) fn count_slots(&mut self, now: Timestamp) {
        let until = Second(now.second().minus(COUNTED_AFTER_SECONDS).0 / STEP_SECONDS * STEP_SECONDS);
        let span = Span::new(self.counted.until.unwrap_or(until), until);
        self.counted.until = Some(until.max(span.from));
        if span.is_empty() {
            return;
        }
        self.counted.follow(&self.catalog);
        let groups = self.counted.groups.len();
        let sums = self.ledger.sums(span, &self.counted.group_of, groups);
        for (group, sum) in self.counted.groups.iter_mut().zip(sums) {
            group.total += sum;
        }
    }

    /// What was counted of slots, and how many groups are not told apart.
    pub(crate) fn slot_counts(&mut self, now: Timestamp) -> (Vec<SlotCounts>, usize) {
        self.counted.follow(&self.catalog);
        let Counted { groups, group_of, left_out, .. } = &self.counted;
        let recent = self.ledger.sums(Span::before(closed_until(now), 60), group_of, groups.len());
        let counts = groups.iter().zip(recent).map(|(Group { labels, total }, recent)| {
            let [service, protocol, region] = labels.clone();
            SlotCounts { service, protocol, region, total: *total, recent }
        });
        (counts.collect(), *left_out)
    }

    /// What came of the newest settled second, all series together: so many of them are in each class.
    pub(crate) fn series_by_class(&self, now: Timestamp) -> Window {
        let newest = Span::before(settled_until(now), 1);
        let all = vec![0; self.catalog.len()];
        self.ledger.sums(newest, &all, 1).into_iter().sum()
    }

    /// How long phases took, by service and protocol.
    pub(crate) fn phases(&self) -> Vec<(String, Protocol, Phases)> {
        let phases = self.counted.phases.iter();
        phases.map(|((service, protocol), phases)| (service.clone(), *protocol, phases.clone())).collect()
    }
}
