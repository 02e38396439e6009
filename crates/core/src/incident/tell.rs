//! When others are told of an incident, and when a storm stands for it.

use std::collections::BTreeSet;

use super::{
    Action, CHILDREN_MAX, Cause, Happened, Id, Incident, Incidents, Part, Policy, Shape, State, Told,
    loss::SETTLE_SECONDS, machine::Out,
};
use crate::{
    Second,
    page::{Change, Severity, Urgency},
    silence::{self, InForce},
};

/// Between two updates of an incident, but for what got worse.
const UPDATE_SECONDS: u64 = 60;

/// Between two updates of one that flaps.
const FLAPPING_SECONDS: u64 = 900;

/// So many pages in so many seconds are told by themselves; what follows is a storm.
const STORM_PAGES: usize = 5;
const STORM_SECONDS: u64 = 60;

impl Told {
    /// What there is to be told of an incident.
    fn of(incident: &Incident, now: Second) -> Self {
        let lost = incident.parts().filter(|(_, part)| part.is_lost).map(|(_, part)| part.loss());
        let before = incident.told.as_ref().map_or(0.0, |told| told.loss);
        Self {
            at: now,
            severity: incident.severity(),
            urgency: incident.urgency(),
            shapes: incident.parts().map(|(service, part)| (service.clone(), part.shape.clone())).collect(),
            loss: lost.fold(before, f64::max),
            is_blind: is_blind(incident, now),
            is_flapping: incident.flap.is_flapping,
            doublings: incident.children_total.max(1).ilog2(),
        }
    }

    /// Whether `self` is news to who was told `earlier`.
    fn is_news(&self, earlier: &Self) -> bool {
        self.severity != earlier.severity
            || self.urgency != earlier.urgency
            || self.shapes != earlier.shapes
            || self.is_blind != earlier.is_blind
            || self.is_flapping != earlier.is_flapping
            || self.doublings > earlier.doublings
            || earlier.loss > 0.0 && self.loss >= 2.0 * earlier.loss
    }

    /// Whether it may be told at once, or has waited.
    fn is_due(&self, earlier: &Self) -> bool {
        let gap = if self.is_flapping && earlier.is_flapping { FLAPPING_SECONDS } else { UPDATE_SECONDS };
        let is_worse = self.severity > earlier.severity || self.urgency > earlier.urgency;
        self.at.0.saturating_sub(earlier.at.0) >= gap || is_worse
    }
}

/// Whether it is to be said that nobody can tell: once that has stood, and until somebody could for as long. Moments do not
/// count: where storage answers slowly whoever reads it falls behind for a second or two, again and again.
fn is_blind(incident: &Incident, now: Second) -> bool {
    let sights = incident.timeline.kept.iter().rev().filter_map(|(since, what)| match what {
        Happened::CannotTell(_) => Some((*since, true)),
        Happened::CanTell => Some((*since, false)),
        _ => None,
    });
    let was_told = incident.told.as_ref().is_some_and(|told| told.is_blind);
    let mut until = now;
    for (since, is_blind) in sights {
        if is_blind && until.0.saturating_sub(since.0) >= SETTLE_SECONDS {
            let is_there = incident.is_blind && until == now;
            let is_over = !incident.is_blind && now.0.saturating_sub(until.0) >= SETTLE_SECONDS;
            return is_there || was_told && !is_over;
        }
        until = since;
    }
    // It was only ever for moments, or so long ago that it is forgotten.
    was_told && incident.is_blind
}

impl Incidents {
    /// Tells of an incident that is there, if there is something to tell, and nothing that speaks against it.
    pub(super) fn tell(&mut self, id: &Id, silences: &[InForce], now: Second, out: &mut Out) {
        let Some(incident) = self.held.get_mut(id).filter(|held| held.state.is_active()) else { return };
        let silenced_by = if incident.cause == Cause::Storm {
            BTreeSet::new()
        } else {
            silence::covering(silences, &incident.causes()).unwrap_or_default()
        };
        if silenced_by != incident.silenced_by {
            let what = match silenced_by.is_empty() {
                true => Happened::SilenceEnded,
                false => Happened::Silenced(silenced_by.clone()),
            };
            incident.happened(now, what);
            incident.silenced_by = silenced_by;
            out.changed.insert(id.clone());
        }
        if !incident.silenced_by.is_empty() || incident.storm.is_some() {
            return;
        }
        let told = Told::of(incident, now);
        let change = match &incident.told {
            None if !incident.parts().any(|(_, part)| part.is_lost) => return,
            None => Change::Opened,
            Some(earlier) if told.is_news(earlier) && told.is_due(earlier) => Change::Updated,
            Some(_) => return,
        };
        let is_page =
            told.urgency == Urgency::Page && incident.cause != Cause::Storm && !incident.is_shadow();
        if change == Change::Opened && is_page && self.is_in_storm(id, now, out) {
            return;
        }
        let Some(incident) = self.held.get_mut(id) else { return };
        incident.revision += 1;
        let (severity, summary) = (told.severity, incident.summary());
        incident.told = Some(told);
        incident.happened(now, Happened::Told { change, severity, summary });
        out.actions.push(Action::Tell(incident.notice(change)));
        out.changed.insert(id.clone());
    }

    /// Whether a page is one too many for a minute, and a storm stands for it.
    fn is_in_storm(&mut self, id: &Id, now: Second, out: &mut Out) -> bool {
        let is_recent = |at: Second| now.0.saturating_sub(at.0) < STORM_SECONDS;
        self.openings.retain(|(at, _)| is_recent(*at));
        let rages =
            |held: &&Incident| held.cause == Cause::Storm && held.state.is_active() && is_recent(held.grown);
        let storm = self.held.values().find(rages).map(|storm| storm.id.clone());
        if storm.is_none() && self.openings.len() < STORM_PAGES {
            self.openings.push_back((now, id.clone()));
            return false;
        }
        let mut children: Vec<Id> = vec![id.clone()];
        let storm = match storm {
            Some(storm) => storm,
            None => {
                children.extend(self.openings.drain(..).map(|(_, id)| id));
                let storm = Id::new(&self.collector, "storm", now);
                let mut incident =
                    Incident::suspected(storm.clone(), storm.key(&self.collector), Cause::Storm, now);
                incident.state = State::Open;
                incident.opened = Some(now);
                incident.happened(now, Happened::Opened);
                self.held.insert(storm.clone(), incident);
                storm
            }
        };
        for child in &children {
            if let Some(incident) = self.held.get_mut(child) {
                incident.storm = Some(storm.clone());
                incident.happened(now, Happened::InStorm(storm.clone()));
                out.changed.insert(child.clone());
            }
        }
        if let Some(incident) = self.held.get_mut(&storm) {
            incident.grown = now;
            incident.children_total += children.len() as u64;
            let room = CHILDREN_MAX.saturating_sub(incident.children.len());
            incident.children.extend(children.into_iter().take(room));
            out.changed.insert(storm);
        }
        true
    }

    /// The storms that are not over.
    pub(super) fn active_storms(&self) -> Vec<Id> {
        let storms = self.held.values().filter(|held| held.cause == Cause::Storm && held.state.is_active());
        storms.map(|storm| storm.id.clone()).collect()
    }

    /// Sums up what a storm is made of by now.
    pub(super) fn gather(&mut self, id: &Id, now: Second) {
        let children: Vec<&Incident> =
            self.held.values().filter(|held| held.storm.as_ref() == Some(id)).collect();
        let there = || children.iter().filter(|child| child.state.is_active());
        let services: BTreeSet<String> =
            children.iter().flat_map(|child| child.services()).map(str::to_owned).collect();
        let severity = there().map(|child| child.severity()).max().unwrap_or(Severity::Info);
        let is_lost = there().any(|child| child.parts().any(|(_, part)| part.is_lost));
        let is_clear = there().next().is_none();
        let Some(storm) = self.held.get_mut(id).filter(|held| held.state.is_active()) else { return };
        let total = storm.children_total;
        let part = storm.parts.entry(String::new());
        let part = part.or_insert_with(|| Part::new(BTreeSet::new(), Policy::default(), now));
        part.services.extend(services);
        // What was worst stays said until all is over.
        part.severity = part.severity.max(severity);
        (part.is_in, part.is_lost, part.is_clear, part.seen) = (true, is_lost, is_clear, now);
        part.shape = Shape::default();
        let names: Vec<&str> = part.services.iter().map(|service| &**service).collect();
        part.summary = format!("{total} incidents at once: {}", names.join(", "));
        part.measured = Some("Each of them says what was measured of it.".to_owned());
    }
}
