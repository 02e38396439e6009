//! The machine: what happens to incidents, one after another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Acknowledgement, Cause, Clearing, Counts, Event, Fallback, Happened, Id, Incident, Note, Observed, Part,
    Receipt, Resolution, State,
};
use crate::{
    Second, Span, Tag,
    page::{Change, Notice},
    silence::InForce,
};

/// So many incidents are held; what ended longest ago is let go for another, and without such nothing more is opened.
pub const INCIDENTS_MAX: usize = 1_024;

/// What comes back within so long of its end is reopened.
pub const REOPEN_SECONDS: u64 = 1_800;

/// Counts and lost seconds are handed out to be kept this often; all else at once.
const SAVE_SECONDS: u64 = 10;

/// What is to be done, all in one transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Keep the incident as it is now.
    Changed(Id),
    /// Tell the outbox.
    Tell(Notice),
    /// Tell the outbox that somebody is on it.
    Acknowledged(Id),
    /// It is not held here any more: what was kept of it stands.
    Archived(Id),
}

/// What a life leaves to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// All that are held.
    pub incidents: Vec<Incident>,
    /// The pages of the last minute.
    pub openings: Vec<(Second, Id)>,
    /// How many could not be opened, because too many were held.
    pub refused: u64,
    /// What agents told by themselves.
    pub fallbacks: Vec<Fallback>,
}

/// The incidents of a collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Incidents {
    pub(super) collector: String,
    pub(super) held: BTreeMap<Id, Incident>,
    pub(super) openings: VecDeque<(Second, Id)>,
    pub(super) fallbacks: Vec<Fallback>,
    refused: u64,
}

/// What a step has to say.
#[derive(Default)]
pub(super) struct Out {
    pub(super) actions: Vec<Action>,
    pub(super) changed: BTreeSet<Id>,
}

impl Incidents {
    /// None yet. `collector` is its name, and part of every key.
    pub fn new(collector: &str) -> Self {
        Self::from_kept(collector, Kept::default())
    }

    /// What an earlier life left.
    pub fn from_kept(collector: &str, kept: Kept) -> Self {
        let held = kept.incidents.into_iter().map(|incident| (incident.id.clone(), incident)).collect();
        let Kept { openings, refused, fallbacks, .. } = kept;
        Self { collector: collector.to_owned(), held, openings: openings.into(), fallbacks, refused }
    }

    /// What the next life needs.
    pub fn kept(&self) -> Kept {
        Kept {
            incidents: self.held.values().cloned().collect(),
            openings: self.openings.iter().cloned().collect(),
            refused: self.refused,
            fallbacks: self.fallbacks.clone(),
        }
    }

    /// An incident that is held: suspected, there, or over for less than 30 min.
    pub fn get(&self, id: &Id) -> Option<&Incident> {
        self.held.get(id)
    }

    /// All that are held, by their onset.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.held.values()
    }

    /// The pages of the last minute.
    pub fn openings(&self) -> impl Iterator<Item = &(Second, Id)> {
        self.openings.iter()
    }

    /// How many could not be opened, because too many were held.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// How the clearing test of a service is to be run, if it has loss that is to be cleared.
    pub fn clearing(&self, service: &str, now: Second) -> Option<Clearing> {
        let of_service = |incident: &Incident| {
            let part = incident.parts.get(service).filter(|_| incident.cause == Cause::Loss)?;
            let is_sought = incident.state.is_active() && part.is_in || incident.is_hushed;
            let at_least = 30 << incident.doublings(now);
            is_sought.then(|| Clearing { since: incident.since, loss: part.loss(), at_least })
        };
        self.held.values().filter_map(of_service).max_by_key(|clearing| clearing.at_least)
    }

    /// Since when the loss of a service is counted, while there is some: what [`super::Counts`] are to be counted from.
    pub fn since(&self, service: &str) -> Option<Second> {
        let of_service = |held: &&Incident| {
            held.cause == Cause::Loss
                && (held.state != State::Resolved || held.is_hushed)
                && held.parts.contains_key(service)
        };
        self.held.values().filter(of_service).map(|held| held.since).min()
    }

    /// Takes `event` in at `now`.
    pub fn step(&mut self, event: Event, now: Second) -> Vec<Action> {
        let mut out = Out::default();
        match event {
            Event::Observed(observed) => self.observed(observed, now, &mut out),
            Event::Acknowledged { id, by } => {
                if let Some(incident) = self.held.get_mut(&id).filter(|held| held.state.is_active()) {
                    incident.acknowledgements.push(Acknowledgement { at: now, by: by.clone() });
                    incident.happened(now, Happened::Acknowledged(by));
                    if incident.state != State::Recovering {
                        incident.state = incident.standing();
                    }
                    out.actions.push(Action::Acknowledged(id.clone()));
                    out.changed.insert(id);
                }
            }
            Event::Noted { id, by, text } => {
                if let Some(incident) = self.held.get_mut(&id) {
                    incident.note(Note { at: now, by, text });
                    out.changed.insert(id);
                }
            }
            Event::Receipt { id, receiver, text } => {
                if let Some(incident) = self.held.get_mut(&id) {
                    incident.receipts.push(Receipt { at: now, receiver, text });
                    out.changed.insert(id);
                }
            }
            Event::Resolved { id, by } => {
                if let Some(incident) = self.held.get_mut(&id).filter(|held| held.state.is_active()) {
                    let goes_on = incident.parts().any(|(_, part)| !part.is_clear);
                    incident.is_hushed = goes_on;
                    self.resolve(&id, Resolution::ByHand(by), now, &mut out);
                }
            }
            Event::Late { service, lost_seconds, counts } => {
                self.late(&service, &lost_seconds, counts, now, &mut out);
            }
            Event::Steered { service, nodes, text } => self.steered(&service, &nodes, &text, now, &mut out),
            Event::Paged(told) => self.paged(told, now),
            Event::Removed { tag, value } => self.removed(tag, &value, now, &mut out),
        }
        let changed = out.changed.into_iter().filter(|id| self.held.contains_key(id)).map(Action::Changed);
        changed.chain(out.actions).collect()
    }

    fn observed(&mut self, observed: Observed, now: Second, out: &mut Out) {
        let mut settled = Vec::new();
        for condition in observed.conditions {
            self.condition(condition, now);
        }
        let mut services = observed.services;
        services.sort_by(|left, right| left.service.cmp(&right.service));
        for observation in services {
            self.see_fallbacks(&observation, now);
            settled.extend(self.service(observation, now));
        }
        for id in settled {
            self.merge(&id, now, out);
        }
        let (storms, others): (Vec<Id>, Vec<Id>) =
            self.held.keys().cloned().partition(|id| self.held[id].cause == Cause::Storm);
        for id in others {
            self.judge(&id, &observed.silences, now, out);
        }
        // Those that came up in this very second among them.
        let storms: BTreeSet<Id> = storms.into_iter().chain(self.active_storms()).collect();
        for id in storms {
            self.gather(&id, now);
            self.judge(&id, &observed.silences, now, out);
        }
        self.follow_fallbacks(now, out);
        self.archive(now, out);
    }

    /// Lets an incident take its next step, after all that is seen in a second is in its parts.
    fn judge(&mut self, id: &Id, silences: &[InForce], now: Second, out: &mut Out) {
        let Some(incident) = self.held.get_mut(id) else { return };
        if incident.state == State::Suspected {
            if incident.parts.is_empty() {
                self.held.remove(id);
                return;
            }
            if !incident.parts.values().any(|part| part.is_ready) {
                return;
            }
        }
        let id = &if incident.state == State::Suspected { self.open(id, now, out) } else { id.clone() };
        self.admit(id, now, out);
        let Some(incident) = self.held.get_mut(id) else { return };
        let before = incident.timeline.total();
        if incident.advance(now) {
            return self.resolve(id, Resolution::Recovered, now, out);
        }
        if incident.timeline.total() > before
            || incident.state.is_active() && now.0.saturating_sub(incident.saved.0) >= SAVE_SECONDS
        {
            out.changed.insert(id.clone());
        }
        self.tell(id, silences, now, out);
        if let Some(incident) = self.held.get_mut(id).filter(|_| out.changed.contains(id)) {
            incident.saved = now;
        }
    }

    /// Opens what is suspected, or reopens what ended with the same cause. Gives the id of the one that is there now.
    fn open(&mut self, id: &Id, now: Second, out: &mut Out) -> Id {
        // What an agent told of it goes on under that key, and not under an earlier one, which would be another page.
        let fresh = self.held.get(id).filter(|suspected| !self.has_fallback(suspected.parts.keys()));
        let twin = fresh.and_then(|suspected| {
            let candidates = self.held.values().filter(|other| comes_back(other, suspected));
            candidates.max_by_key(|other| other.resolved).map(|other| other.id.clone())
        });
        let opened = match twin {
            Some(twin) => {
                let parts = self.held.remove(id).map(|suspected| suspected.parts).unwrap_or_default();
                if let Some(incident) = self.held.get_mut(&twin) {
                    let earlier = std::mem::replace(&mut incident.parts, parts);
                    for (service, part) in earlier {
                        let Some(now) = incident.parts.get_mut(&service) else { continue };
                        let spans = std::mem::replace(&mut now.lost_seconds, part.lost_seconds).spans;
                        spans.into_iter().for_each(|span| now.lost_seconds.insert(span));
                    }
                    incident.reopened.push(now);
                    incident.reopened.drain(..incident.reopened.len().saturating_sub(super::NEWEST_MAX));
                    (incident.resolved, incident.resolution) = (None, None);
                    (incident.told, incident.storm, incident.is_hushed) = (None, None, false);
                    incident.state = incident.standing();
                    incident.happened(now, Happened::Reopened);
                }
                twin
            }
            None => {
                self.take_over(id);
                if let Some(incident) = self.held.get_mut(id) {
                    incident.opened = Some(now);
                    incident.state = State::Open;
                    incident.happened(now, Happened::Opened);
                }
                id.clone()
            }
        };
        out.changed.insert(opened.clone());
        opened
    }

    /// Ends an incident, and tells whoever was told of it.
    pub(super) fn resolve(&mut self, id: &Id, resolution: Resolution, now: Second, out: &mut Out) {
        let Some(incident) = self.held.get_mut(id) else { return };
        if !incident.state.is_active() {
            if incident.state == State::Suspected {
                self.held.remove(id);
            }
            return;
        }
        incident.state = State::Resolved;
        incident.resolved = Some(now);
        incident.happened(now, Happened::Resolved(resolution.clone()));
        incident.resolution = Some(resolution);
        if incident.told.is_some() {
            incident.revision += 1;
            out.actions.push(Action::Tell(incident.notice(Change::Resolved)));
        }
        incident.held_by.clear();
        out.changed.insert(id.clone());
    }

    /// A first sign of something. `None` if too many are held.
    pub(super) fn suspect(
        &mut self,
        cause: Cause,
        named: &str,
        part: (String, Part),
        now: Second,
    ) -> Option<Id> {
        if self.held.len() >= INCIDENTS_MAX {
            let over = self.held.values().filter_map(|held| Some((held.resolved?, held.id.clone())));
            let Some((_, oldest)) = over.min() else {
                self.refused += 1;
                return None;
            };
            self.held.remove(&oldest);
        }
        let id = Id::new(&self.collector, &format!("{cause} {named}"), now);
        let mut incident = Incident::suspected(id.clone(), id.key(&self.collector), cause, now);
        incident.parts.insert(part.0, part.1);
        self.held.insert(id.clone(), incident);
        Some(id)
    }

    /// Whether there is a loss of `service` that was opened: with that [`Event::Steered`] is noted.
    pub fn has_loss(&self, service: &str) -> bool {
        self.held.values().any(|held| held.is_opened_loss_of(service))
    }

    /// The service and the node of each incident about a node that was left out, until it is over.
    pub fn ejected(&self) -> impl Iterator<Item = (&str, &str)> {
        self.held.values().filter(|held| held.state.is_active()).filter_map(|held| match &held.cause {
            Cause::Ejected { service, node } => Some((service.as_str(), node.as_str())),
            _ => None,
        })
    }

    /// Notes what was done with nodes of a service: with its newest loss, with what is told of one of them, and with what is told
    /// of those that were not left out.
    fn steered(&mut self, service: &str, nodes: &[String], text: &str, now: Second, out: &mut Out) {
        let losses = self.held.values().filter(|held| held.is_opened_loss_of(service));
        let newest =
            losses.max_by_key(|held| (held.resolved.is_none(), held.since)).map(|held| held.id.clone());
        for (id, incident) in &mut self.held {
            let is_about_it = match &incident.cause {
                Cause::Ejected { service: of, node } => of == service && nodes.contains(node),
                Cause::NotEjected { service: of } => of == service,
                _ => newest.as_ref() == Some(id),
            };
            if is_about_it && incident.opened.is_some() {
                incident.happened(now, Happened::Steered(text.to_owned()));
                out.changed.insert(id.clone());
            }
        }
    }

    /// Sets right what came late. It opens nothing: if it is lost still, the next second says so.
    fn late(&mut self, service: &str, spans: &[Span], counts: Counts, now: Second, out: &mut Out) {
        for incident in self.held.values_mut().filter(|held| held.cause == Cause::Loss) {
            let until = incident.resolved.unwrap_or_else(|| now.plus(1));
            let life = Span::new(incident.since, until);
            let touching: Vec<Span> =
                spans.iter().copied().filter(|span| !span.intersection(life).is_empty()).collect();
            let Some(part) = incident.parts.get_mut(service).filter(|_| !touching.is_empty()) else {
                continue;
            };
            touching.iter().for_each(|span| part.lost_seconds.insert(*span));
            part.counts = counts;
            if incident.state != State::Suspected {
                incident.happened(now, Happened::Late(touching));
                out.changed.insert(incident.id.clone());
            }
        }
    }

    /// Closes what is not configured any more: it did not recover, and nothing will tell whether it does.
    fn removed(&mut self, tag: Tag, value: &str, now: Second, out: &mut Out) {
        if tag == Tag::Service {
            self.remove_fallbacks(value, now, out);
        }
        let ids: Vec<Id> = self.held.keys().cloned().collect();
        for id in ids {
            let Some(incident) = self.held.get_mut(&id).filter(|held| held.state != State::Resolved) else {
                continue;
            };
            let is_of = |service: &str, part: &Part| {
                tag == Tag::Service && service == value || part.shape.is_all_of(tag, value)
            };
            let goes = match &incident.cause {
                Cause::Storm => false,
                Cause::Loss => {
                    incident.parts.iter().all(|(service, part)| !part.is_in || is_of(service, part))
                }
                cause => cause.predicate().0.get(&tag).is_some_and(|given| given == value),
            };
            // The last part stays, so that whoever reads of the end reads what it was.
            if goes && incident.state.is_active() {
                self.resolve(&id, Resolution::Removed, now, out);
                continue;
            }
            let leaves = |(service, part): (&String, &Part)| is_of(service, part).then(|| service.clone());
            let leaving: Vec<String> = incident.parts.iter().filter_map(leaves).collect();
            for service in leaving {
                if incident.parts.remove(&service).is_some_and(|part| part.is_in) {
                    incident.happened(now, Happened::Left(service));
                    out.changed.insert(id.clone());
                }
            }
            if incident.parts.is_empty() {
                self.held.remove(&id);
            }
        }
    }

    /// Lets go of what ended so long ago that it cannot be reopened.
    fn archive(&mut self, now: Second, out: &mut Out) {
        self.held.retain(|id, incident| {
            let is_old = incident.resolved.is_some_and(|at| now.0.saturating_sub(at.0) > REOPEN_SECONDS);
            if is_old {
                out.actions.push(Action::Archived(id.clone()));
            }
            !is_old
        });
    }
}

/// Whether `other` is over, and `suspected` is the same come back soon enough.
fn comes_back(other: &Incident, suspected: &Incident) -> bool {
    let is_soon = other.resolved.is_some_and(|at| suspected.since.0.saturating_sub(at.0) <= REOPEN_SECONDS);
    let may = !matches!(other.resolution, Some(Resolution::Merged(_) | Resolution::Removed));
    let is_same = other.cause == suspected.cause
        && (other.cause != Cause::Loss
            || suspected.parts.iter().any(|(service, part)| {
                other.parts.get(service).is_some_and(|was| was.is_in && was.shape.is_related(&part.shape))
            }));
    is_soon && may && is_same && other.cause != Cause::Storm
}
