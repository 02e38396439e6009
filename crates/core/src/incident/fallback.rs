//! Alerts that agents opened by themselves, while no collector answered them.
//!
//! Such an alert is at one receiver under a key of the service's, and somebody has to end it. Loss of the service that is
//! opened while it stands, or is not told yet, goes on under its key: the receiver is told what is known by then as a
//! change of what it has, wakes nobody again, and is told the end with everybody else. Where the loss was told under a key
//! of its own already, or there is none any more, nothing is told but the end: once no loss of the service is there, and
//! none was seen for a minute. What nobody reports of for a day, or is not configured any more, is ended as well, so
//! that none stays open for ever.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Cause, Id, Incidents, Level, Observation, REOPEN_SECONDS, Sight, machine::Out};
use crate::{
    Second, Tag,
    page::{Change, Notice, Severity, Urgency},
};

/// So many are held; of more, the agents keep what they opened.
pub const FALLBACKS_MAX: usize = 1_024;

/// A service must be well for so long.
const WELL_SECONDS: u64 = 60;

/// Nobody reports of a service for so long: nobody will tell that it is well.
const UNSEEN_SECONDS: u64 = 86_400;

/// An alert that an agent opened by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The service that it saw wholly lost.
    pub service: String,
    /// The alert's key.
    pub key: String,
    /// The receiver that has it.
    pub receiver: String,
    /// When it was opened.
    pub since: Second,
    /// When its service was last judged, or it came to be known.
    pub seen: Second,
    /// Since when the service is well.
    pub well_since: Option<Second>,
    /// When it was ended, or an incident took it over.
    pub over: Option<Second>,
}

impl Fallback {
    /// What an agent told, at `now`.
    pub const fn new(service: String, key: String, receiver: String, since: Second, now: Second) -> Self {
        Self { service, key, receiver, since, seen: now, well_since: None, over: None }
    }

    /// What the outbox is told when it is over: an end to what its receiver holds.
    fn end(&self, collector: &str) -> Notice {
        let cause = format!("fallback {} {}", self.key, self.receiver);
        Notice {
            id: Id::new(collector, &cause, self.since),
            key: self.key.clone(),
            revision: 1,
            reopens: 0,
            change: Change::Resolved,
            urgency: Urgency::Page,
            severity: Severity::Info,
            tags: BTreeMap::from([(Tag::Service, BTreeSet::from([self.service.clone()]))]),
            shadow: false,
            held_by: BTreeSet::from([self.receiver.clone()]),
        }
    }
}

impl Incidents {
    /// The alerts of agents that are held: those that stand, and those that ended within half an hour.
    pub fn fallbacks(&self) -> impl Iterator<Item = &Fallback> {
        self.fallbacks.iter()
    }

    /// An agent told that it paged. It may tell so again, and late.
    pub(super) fn paged(&mut self, told: Fallback, now: Second) {
        let is_same = |held: &Fallback| (&held.key, &held.receiver) == (&told.key, &told.receiver);
        match self.fallbacks.iter().position(is_same) {
            Some(place) if self.fallbacks[place].over.is_none_or(|over| told.since <= over) => return,
            Some(place) => self.fallbacks[place] = told.clone(),
            None if self.fallbacks.len() >= FALLBACKS_MAX => return,
            None => self.fallbacks.push(told.clone()),
        }
        let untold = self.held.values().find(|incident| {
            incident.cause == Cause::Loss
                && incident.state.is_active()
                && incident.told.is_none()
                && incident.parts.contains_key(&told.service)
        });
        if let Some(id) = untold.map(|incident| incident.id.clone()) {
            self.take_over(&id);
        }
        self.follow_spoken_for(now);
    }

    /// Whether an alert of an agent stands for one of these services.
    pub(super) fn has_fallback<'a>(&self, mut services: impl Iterator<Item = &'a String>) -> bool {
        services.any(|service| self.standing_of(service).next().is_some())
    }

    /// Has loss that nobody was told of go on under the key of what an agent told of it.
    pub(super) fn take_over(&mut self, id: &Id) {
        let of_loss = self.held.get(id).filter(|held| held.cause == Cause::Loss);
        let parts = of_loss.into_iter().flat_map(|incident| incident.parts.keys());
        let first = parts.flat_map(|service| self.standing_of(service)).next();
        let Some(key) = first.map(|first| first.key.clone()) else { return };
        let held_by: BTreeSet<String> = self
            .fallbacks
            .iter()
            .filter(|held| held.over.is_none() && held.key == key)
            .map(|held| held.receiver.clone())
            .collect();
        if let Some(incident) = self.held.get_mut(id) {
            (incident.key, incident.held_by) = (key, held_by);
        }
    }

    /// What is seen of a service says whether what an agent told of it is over.
    pub(super) fn see_fallbacks(&mut self, seen: &Observation, now: Second) {
        let is_well = seen.sight == Sight::Measured && seen.level == Level::Quiet && !seen.confirmed;
        for held in self.fallbacks.iter_mut().filter(|held| held.service == seen.service) {
            held.seen = now;
            held.well_since = if is_well { held.well_since.or(Some(now)) } else { None };
        }
    }

    /// Ends what is over, once all that is seen in a second is known.
    pub(super) fn follow_fallbacks(&mut self, now: Second, out: &mut Out) {
        self.follow_spoken_for(now);
        let lasted = |since: Second| now.0.saturating_sub(since.0);
        let is_lost: BTreeSet<&str> = self
            .held
            .values()
            .filter(|incident| incident.cause == Cause::Loss && incident.state.is_active())
            .flat_map(|incident| incident.services())
            .collect();
        for held in self.fallbacks.iter_mut().filter(|held| held.over.is_none()) {
            let is_well = held.well_since.is_some_and(|since| lasted(since) >= WELL_SECONDS)
                && !is_lost.contains(&*held.service);
            if is_well || lasted(held.seen) >= UNSEEN_SECONDS {
                held.over = Some(now);
                out.actions.push(Action::Tell(held.end(&self.collector)));
            }
        }
        self.fallbacks.retain(|held| held.over.is_none_or(|over| lasted(over) <= REOPEN_SECONDS));
    }

    /// A service is not configured any more: nobody will tell that it is well.
    pub(super) fn remove_fallbacks(&mut self, service: &str, now: Second, out: &mut Out) {
        let of_service = |held: &&mut Fallback| held.over.is_none() && held.service == service;
        for held in self.fallbacks.iter_mut().filter(of_service) {
            held.over = Some(now);
            out.actions.push(Action::Tell(held.end(&self.collector)));
        }
    }

    /// What an incident was told for under the same key and to the same receiver ends with it.
    fn follow_spoken_for(&mut self, now: Second) {
        let told = || self.held.values().filter(|incident| incident.told.is_some());
        for held in self.fallbacks.iter_mut().filter(|held| held.over.is_none()) {
            let speaks = told().any(|it| it.key == held.key && it.held_by.contains(&held.receiver));
            if speaks {
                held.over = Some(now);
            }
        }
    }

    fn standing_of(&self, service: &str) -> impl Iterator<Item = &Fallback> {
        self.fallbacks.iter().filter(move |held| held.over.is_none() && held.service == *service)
    }
}
