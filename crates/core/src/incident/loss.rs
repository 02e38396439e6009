//! Which incident a loss belongs to: what is seen of a service, or of a condition, goes into a part.

use std::collections::BTreeSet;

use super::{
    Cause, Condition, Counts, Happened, Id, Incident, Incidents, Level, Observation, Part, Policy,
    Resolution, Seconds, Shape, Sight, State, Unseen, machine::Out,
};
use crate::{
    Second,
    extent::{Blame, Extent, Grounds},
    page::Severity,
};

/// Other rules must stand for so long before they count, and that nobody can tell, or can again, before it is told.
pub(super) const SETTLE_SECONDS: u64 = 15;

/// What is less severe must be so for as long before it counts: what is half lost swings around the half.
const SEVERE_SECONDS: u64 = 300;

/// Services that are lost whole are lost together if they began within so long.
const TOGETHER_SECONDS: u64 = 60;

/// A second that nobody saw adds this much at most to how long something has held.
const UNSEEN_SECONDS: u64 = 2;

/// If only windows of this length and more fire, loss is slow, and must hold for so long.
const SLOW_WINDOW_SECONDS: u64 = 600;
const SLOW_HOLD_SECONDS: u64 = 60;

/// That nobody can tell how a service does is told after so long at the earliest.
const BLIND_SECONDS: u64 = 30;

/// A condition must be gone for so long, doubled at each reopening.
const CONDITION_CLEAR_SECONDS: u64 = 60;

/// So many vantages, in as many networks, must agree at least.
const AGREEING_MIN: usize = 2;

/// What is said of a service of which nobody can tell what is stored, and of which too little is reported.
const UNREAD: &str = "Nothing says that the service lost anything: by what its senders saw, no more is lost than may be. Only what \
                      is stored cannot be told.";
const UNREPORTED: &str = "Nothing says that the service lost anything: too little of it is reported to tell.";

/// The name of the one part of what is not loss.
const WHOLE: &str = "";

impl Part {
    pub(super) fn new(services: BTreeSet<String>, policy: Policy, now: Second) -> Self {
        Self {
            services,
            policy,
            summary: String::new(),
            is_in: false,
            evidence: None,
            worst: None,
            measured: None,
            is_ready: false,
            since: now,
            seen: now,
            held: 0,
            is_lost: false,
            quiet_since: now,
            is_clear: false,
            blind: None,
            severity: Severity::Info,
            severe: now,
            extent: Extent::default(),
            questions: None,
            blame: Blame::Unclear,
            grounds: Grounds::default(),
            shape: Shape::default(),
            candidate: None,
            level: Level::Quiet,
            seen_from: 0,
            agreeing: (0, 0),
            windows: Vec::new(),
            counts: Counts::default(),
            lost_seconds: Seconds::default(),
        }
    }

    /// It is lost, or holds, at `now`.
    fn hold(&mut self, severity: Severity, now: Second) {
        if self.is_lost {
            self.held += now.0.saturating_sub(self.seen.0).min(UNSEEN_SECONDS);
        } else {
            (self.held, self.is_lost) = (0, true);
        }
        self.is_clear = false;
        self.blind = None;
        self.seen = now;
        let is_long = now.0.saturating_sub(self.severe.0) >= SEVERE_SECONDS;
        if severity >= self.severity || !self.is_in || is_long {
            (self.severity, self.severe) = (severity, now);
        }
    }

    /// It is not, any more.
    fn rest(&mut self, is_clear: bool, now: Second) {
        if self.is_lost {
            self.quiet_since = now;
        }
        (self.is_lost, self.is_ready, self.is_clear) = (false, false, is_clear);
        (self.blind, self.candidate, self.seen) = (None, None, now);
    }

    /// Nobody can tell. How long it has held stands still.
    fn cannot_tell(&mut self, reason: &str, now: Second) {
        (self.is_clear, self.is_ready, self.seen) = (false, false, now);
        self.blind = Some(reason.to_owned());
    }

    /// Takes in what is seen of a loss. Whether it came to be known by other rules.
    fn lose(&mut self, seen: Observation, shape: Shape, hold_min: u64, now: Second) -> bool {
        self.hold(seen.severity(), now);
        if let Some(onset) = seen.onset.filter(|_| !self.is_in) {
            // What was lost before anything could be told of it belongs to it.
            self.since = self.since.min(onset);
        }
        let agrees =
            seen.vantages >= seen.policy.min_vantages.max(AGREEING_MIN) && seen.networks >= AGREEING_MIN;
        let is_slow = seen.firing.iter().all(|window| window.seconds >= SLOW_WINDOW_SECONDS);
        let at_once = seen.policy.page_after == 0;
        let holds_for = match seen.policy.page_after {
            0 => 0,
            after if is_slow && !seen.firing.is_empty() => after.max(SLOW_HOLD_SECONDS),
            after => after,
        };
        self.is_ready = !seen.is_starting
            && seen.confirmed
            && self.held >= holds_for.max(hold_min)
            && (at_once || agrees || seen.level == Level::Full);
        let has_changed = self.settle(shape, now);
        self.summary = seen.summary;
        self.policy = seen.policy;
        self.extent = seen.extent;
        if self.candidate.is_none() {
            // Whose fault it looks like is said of the rules that it is known by.
            (self.blame, self.grounds) = (seen.blame, seen.grounds);
        }
        self.questions = Some(seen.questions);
        (self.level, self.seen_from) = (seen.level, seen.seen_from);
        self.agreeing = (seen.vantages, seen.networks);
        self.windows = seen.firing;
        self.counts = seen.counts;
        self.note_worst(now);
        seen.lost_seconds.into_iter().for_each(|span| self.lost_seconds.insert(span));
        has_changed
    }

    /// Other rules count once they have stood; before anybody is told, at once.
    fn settle(&mut self, shape: Shape, now: Second) -> bool {
        if shape == self.shape {
            self.candidate = None;
            return false;
        }
        let since = match &self.candidate {
            Some((candidate, since)) if *candidate == shape => *since,
            _ => now,
        };
        if self.is_in && now.0.saturating_sub(since.0) < SETTLE_SECONDS {
            self.candidate = Some((shape, since));
            return false;
        }
        (self.shape, self.candidate) = (shape, None);
        true
    }
}

impl Incidents {
    /// Takes in what is seen of a service. Gives the incident that came to be known by other rules by it.
    pub(super) fn service(&mut self, seen: Observation, now: Second) -> Option<Id> {
        let unseen = match &seen.sight {
            Sight::CannotTell { reason, unseen } => Some((reason.clone(), *unseen)),
            Sight::Measured => None,
        };
        self.blind(&seen, unseen.as_ref(), now);
        if unseen.is_some() {
            return None;
        }
        if seen.level == Level::Quiet {
            self.quiet(&seen, now);
            return None;
        }
        let shape = Shape::of(&seen.extent, &seen.kinds);
        let home = self.home(&seen.service, &shape);
        let is_known = home.as_ref().is_some_and(|id| self.held[id].state.is_active());
        if !is_known && (self.is_hushed(&seen, &shape, now) || self.is_set_apart(&shape, seen.blame)) {
            for incident in self.held.values_mut().filter(|held| held.state == State::Suspected) {
                incident.parts.remove(&seen.service);
            }
            return None;
        }
        let home = home.or_else(|| self.shared(&seen.service, &shape, seen.onset.unwrap_or(now)));
        // What it lost elsewhere it does not lose now, and has not cleared; what was only suspected is dropped.
        let mut is_astray = false;
        for incident in self.held.values_mut() {
            let is_other = Some(&incident.id) != home.as_ref() && is_loss_there(incident);
            let Some(part) = incident.parts.get_mut(&seen.service).filter(|_| is_other) else { continue };
            if part.is_in {
                part.rest(false, now);
                is_astray = true;
            } else {
                incident.parts.remove(&seen.service);
            }
        }
        let hold_min = if is_astray { SETTLE_SECONDS } else { 0 };
        let service = seen.service.clone();
        if let Some(incident) = home.and_then(|id| self.held.get_mut(&id)) {
            let part = incident.parts.entry(service.clone());
            let part = part.or_insert_with(|| Part::new([service].into(), seen.policy.clone(), now));
            let has_changed = part.lose(seen, shape, hold_min, now);
            if incident.state == State::Suspected {
                incident.since = incident.since.min(part.since);
            }
            return has_changed.then(|| incident.id.clone());
        }
        let mut part = Part::new([service.clone()].into(), seen.policy.clone(), now);
        let name = format!("{service} {}", shape.name());
        part.lose(seen, shape, hold_min, now);
        let since = part.since;
        let id = self.suspect(Cause::Loss, &name, (service, part), now);
        if let Some(incident) = id.and_then(|id| self.held.get_mut(&id)) {
            incident.since = since;
        }
        None
    }

    /// The incident under which the loss of a service goes on.
    fn home(&self, service: &str, shape: &Shape) -> Option<Id> {
        let with = |incident: &&Incident| {
            is_loss_there(incident)
                && incident.parts.get(service).is_some_and(|part| part.shape.is_related(shape))
        };
        let found = self.held.values().filter(with).min_by_key(|incident| !incident.parts[service].is_in);
        found.map(|incident| incident.id.clone())
    }

    /// The incident of other services that the loss of a service is part of.
    fn shared(&self, service: &str, shape: &Shape, onset: Second) -> Option<Id> {
        let with = |incident: &&Incident| {
            is_loss_there(incident)
                && incident.parts.iter().any(|(other, part)| {
                    let together = onset.0.abs_diff(part.since.0) <= TOGETHER_SECONDS;
                    other != service && part.is_lost && part.shape.is_shared_with(shape, together)
                })
        };
        let found = self.held.values().filter(with).min_by_key(|incident| incident.state == State::Suspected);
        found.map(|incident| incident.id.clone())
    }

    /// Somebody said that it is over, it never ended since, and is no wider and no worse than it was: then it is kept
    /// with what is over.
    fn is_hushed(&mut self, seen: &Observation, shape: &Shape, now: Second) -> bool {
        for incident in self.held.values_mut().filter(|held| held.is_hushed && held.cause == Cause::Loss) {
            let part = incident.parts.get_mut(&seen.service);
            let is_no_more =
                |part: &&mut Part| shape.is_within(&part.shape) && seen.severity() <= part.severity;
            if let Some(part) = part.filter(is_no_more) {
                part.counts = seen.counts;
                part.seen = now;
                seen.lost_seconds.iter().for_each(|span| part.lost_seconds.insert(*span));
                return true;
            }
        }
        false
    }

    /// It is lost for one agent alone, and that one is known to be sick: what it says tells nothing.
    fn is_set_apart(&self, shape: &Shape, blame: Blame) -> bool {
        self.held.values().any(|incident| match &incident.cause {
            Cause::SickAgent { node } => {
                incident.state.is_active()
                    && shape.is_all_of(crate::Tag::Node, node)
                    && shape.sick_agent(blame).is_some()
            }
            _ => false,
        })
    }

    /// A service of which nothing is lost.
    fn quiet(&mut self, seen: &Observation, now: Second) {
        for incident in self.held.values_mut().filter(|held| held.cause == Cause::Loss) {
            let Some(part) = incident.parts.get_mut(&seen.service) else { continue };
            if incident.state == State::Resolved {
                incident.is_hushed &= !seen.clear;
            } else if part.is_in {
                part.rest(seen.clear, now);
                part.counts = seen.counts;
            } else {
                incident.parts.remove(&seen.service);
            }
        }
    }

    /// Whether nobody can tell how a service does: a mark on what is there, and otherwise an incident of its own, but
    /// where the silence of a region is one already.
    fn blind(&mut self, seen: &Observation, unseen: Option<&(String, Unseen)>, now: Second) {
        let mut is_marked = false;
        if let Some((reason, _)) = unseen {
            for incident in self.held.values_mut().filter(|held| is_loss_there(held)) {
                if let Some(part) = incident.parts.get_mut(&seen.service) {
                    part.cannot_tell(reason, now);
                    is_marked |= part.is_in;
                }
            }
        }
        let cause = Cause::Blind { service: seen.service.clone() };
        let is_there = self.held.values().any(|held| held.cause == cause && is_followed(held));
        let is_silence = unseen.is_none_or(|(_, unseen)| *unseen == Unseen::Region);
        let is_explained = is_marked || is_silence || seen.is_starting;
        if is_explained && !is_there {
            return;
        }
        let text = unseen.map_or("", |(reason, _)| reason);
        let (blame, measured) = match unseen {
            Some((_, Unseen::Storage)) => (Blame::Reader, UNREAD),
            _ => (Blame::Unclear, UNREPORTED),
        };
        self.condition(
            Condition {
                cause,
                holds: unseen.is_some(),
                after: seen.policy.page_after.max(BLIND_SECONDS),
                severity: seen.policy.blind,
                services: vec![seen.service.clone()],
                summary: format!("{}: we cannot tell how it does: {text}", seen.service),
                measured: Some(measured.to_owned()),
                blame,
                owner: seen.policy.owner.clone(),
                runbook: seen.policy.runbook.clone(),
                shadow: seen.policy.shadow,
            },
            now,
        );
    }

    /// Takes in what is seen of a condition.
    pub(super) fn condition(&mut self, seen: Condition, now: Second) {
        let mut same = self.held.values_mut().filter(|held| held.cause == seen.cause);
        if !seen.holds {
            for incident in same {
                if incident.state == State::Suspected {
                    incident.parts.clear();
                    continue;
                }
                incident.is_hushed = false;
                let clear_after = CONDITION_CLEAR_SECONDS << incident.doublings(now);
                if let Some(part) = incident.parts.get_mut(WHOLE) {
                    part.rest(false, now);
                    part.is_clear = now.0.saturating_sub(part.quiet_since.0) >= clear_after;
                }
            }
            return;
        }
        let there = same.find(|held| is_followed(held)).map(|held| held.id.clone());
        let policy = Policy {
            owner: seen.owner,
            runbook: seen.runbook,
            shadow: seen.shadow,
            page_after: seen.after,
            ..Policy::default()
        };
        let take = |part: &mut Part| {
            part.hold(seen.severity, now);
            part.is_ready = part.held >= seen.after;
            part.services.extend(seen.services);
            (part.summary, part.measured, part.blame) = (seen.summary, seen.measured, seen.blame);
        };
        match there.and_then(|id| self.held.get_mut(&id)) {
            Some(incident) => {
                let part = incident.parts.entry(WHOLE.to_owned());
                let part = part.or_insert_with(|| Part::new(BTreeSet::new(), policy.clone(), now));
                part.policy = policy;
                take(part);
            }
            None => {
                let mut part = Part::new(BTreeSet::new(), policy, now);
                part.shape = Shape::one(seen.cause.predicate());
                take(&mut part);
                self.suspect(seen.cause, "", (WHOLE.to_owned(), part), now);
            }
        }
    }

    /// Lets in the parts of an open incident that passed the gates. What they lost elsewhere is over there.
    pub(super) fn admit(&mut self, id: &Id, now: Second, out: &mut Out) {
        let Some(incident) = self.held.get_mut(id).filter(|held| held.state.is_active()) else { return };
        let is_first = incident.parts().next().is_none();
        let mut services = Vec::new();
        for (service, part) in &mut incident.parts {
            if part.is_ready && !part.is_in {
                part.admit(now);
                services.push(service.clone());
            }
        }
        if services.is_empty() || incident.cause != Cause::Loss {
            return;
        }
        out.changed.insert(id.clone());
        for service in &services {
            if !is_first {
                incident.happened(now, Happened::Joined(service.clone()));
            }
        }
        let others: Vec<Id> = self.held.keys().filter(|other| *other != id).cloned().collect();
        for other in others {
            let Some(incident) = self.held.get_mut(&other).filter(|held| is_loss_there(held)) else {
                continue;
            };
            let leaving: Vec<&String> =
                services.iter().filter(|service| incident.parts.contains_key(*service)).collect();
            if leaving.is_empty() {
                continue;
            }
            if incident.parts().all(|(service, _)| leaving.contains(&service)) {
                self.resolve(&other, Resolution::Superseded(id.clone()), now, out);
                continue;
            }
            for service in leaving {
                incident.parts.remove(service);
                incident.happened(now, Happened::Left(service.clone()));
            }
            out.changed.insert(other);
        }
    }

    /// Makes one of two incidents that came to be of one loss: the one that is there, or the older.
    pub(super) fn merge(&mut self, id: &Id, now: Second, out: &mut Out) {
        let Some(one) = self.held.get(id).filter(|held| is_loss_there(held)) else { return };
        let is_same = |other: &&Incident| {
            let pairs = one.parts.iter().flat_map(|part| other.parts.iter().map(move |other| (part, other)));
            let mut lost = pairs.filter(|((_, left), (_, right))| left.is_lost && right.is_lost);
            other.id != one.id
                && is_loss_there(other)
                && lost.any(|((service, left), (other, right))| {
                    let together = left.since.0.abs_diff(right.since.0) <= TOGETHER_SECONDS;
                    service != other && left.shape.is_shared_with(&right.shape, together)
                })
        };
        let rank = |incident: &Incident| (incident.state == State::Suspected, incident.id.clone());
        let Some(other) = self.held.values().filter(is_same).min_by_key(|other| rank(other)) else { return };
        let (stays, goes) = if rank(one) < rank(other) { (one, other) } else { (other, one) };
        let (stays, goes, since) = (stays.id.clone(), goes.id.clone(), stays.since.min(goes.since));
        let parts = self.held.get(&goes).map(|gone| gone.parts.clone()).unwrap_or_default();
        let was_told = self.held.get(&goes).is_some_and(|gone| gone.state.is_active());
        if let Some(incident) = self.held.get_mut(&stays) {
            incident.since = since;
            for (service, part) in parts {
                incident.parts.entry(service).or_insert(part);
            }
            if was_told {
                incident.happened(now, Happened::Absorbed(goes.clone()));
            }
            out.changed.insert(stays.clone());
        }
        self.resolve(&goes, Resolution::Merged(stays), now, out);
    }
}

/// Whether an incident takes in what is seen: it is not over, or somebody only said so.
const fn is_followed(incident: &Incident) -> bool {
    !matches!(incident.state, State::Resolved) || incident.is_hushed
}

/// Whether an incident is of loss, and not over.
fn is_loss_there(incident: &Incident) -> bool {
    incident.cause == Cause::Loss && incident.state != State::Resolved
}
