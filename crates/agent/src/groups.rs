//! What came of all slots since the agent's start, by service and protocol: what its metrics show.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{Outcome, Phase, Protocol, Timings, histogram::Histogram};

/// A class of outcomes: what a metric tells apart. The status of an HTTP answer is not part of it, so that the classes
/// are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// Such as `lost`.
    pub outcome: &'static str,
    /// The rung that was reached, of delivered slots.
    pub evidence: Option<&'static str>,
    /// Where the attempt stood, of lost and local slots.
    pub phase: Option<Phase>,
    /// What was wrong, of lost and local slots.
    pub fault: Option<&'static str>,
}

impl Class {
    /// The class of an outcome.
    pub fn of(outcome: &Outcome) -> Self {
        let name = outcome.name();
        let (evidence, phase, fault) = match outcome {
            Outcome::Delivered(evidence) => (Some(evidence.name()), None, None),
            Outcome::Lost { phase, fault } => (None, Some(*phase), Some(fault.name())),
            Outcome::Local { phase, fault } => (None, Some(*phase), Some(fault.name())),
            Outcome::Missed | Outcome::Muted => (None, None, None),
        };
        Self { outcome: name, evidence, phase, fault }
    }
}

/// What came of the slots of one service and protocol. Each number only grows.
#[derive(Clone, Debug)]
pub struct GroupTotals {
    /// The service under test.
    pub service: String,
    /// The protocol.
    pub protocol: Protocol,
    /// Slots by class of outcome.
    pub outcomes: BTreeMap<Class, u64>,
    /// How long each phase took of attempts that were delivered, in microseconds, in the order of [`Phase::ALL`].
    pub phases: [Option<Histogram>; Phase::ALL.len()],
}

/// The groups of the series that are probed, each at a place that stays its own while it has series.
#[derive(Default)]
pub(crate) struct Groups(Vec<Option<GroupTotals>>);

impl Groups {
    /// The place of a group, which is made if it is new.
    pub(crate) fn join(&mut self, service: &str, protocol: Protocol) -> usize {
        let is_it = |group: &Option<GroupTotals>| {
            group.as_ref().is_some_and(|it| it.service == service && it.protocol == protocol)
        };
        if let Some(place) = self.0.iter().position(is_it) {
            return place;
        }
        let group = Some(GroupTotals {
            service: service.to_owned(),
            protocol,
            outcomes: BTreeMap::new(),
            phases: Default::default(),
        });
        match self.0.iter().position(Option::is_none) {
            Some(free) => {
                self.0[free] = group;
                free
            }
            None => {
                self.0.push(group);
                self.0.len() - 1
            }
        }
    }

    /// Forgets the groups that have no series any more.
    pub(crate) fn keep(&mut self, in_use: impl Iterator<Item = usize>) {
        let in_use: BTreeSet<_> = in_use.collect();
        for (place, group) in self.0.iter_mut().enumerate() {
            if !in_use.contains(&place) {
                *group = None;
            }
        }
    }

    pub(crate) fn count(&mut self, place: usize, outcome: &Outcome, slots: u64) {
        if let Some(group) = &mut self.0[place] {
            *group.outcomes.entry(Class::of(outcome)).or_default() += slots;
        }
    }

    pub(crate) fn record(&mut self, place: usize, timings: &Timings) {
        let Some(group) = &mut self.0[place] else { return };
        for (phase, histogram) in Phase::ALL.iter().zip(&mut group.phases) {
            if let Some(micros) = timings.get(*phase) {
                histogram.get_or_insert_default().record(micros);
            }
        }
    }

    pub(crate) fn get(&self, place: usize) -> Option<&GroupTotals> {
        self.0.get(place)?.as_ref()
    }

    pub(crate) fn totals(&self) -> Vec<GroupTotals> {
        self.0.iter().flatten().cloned().collect()
    }
}
