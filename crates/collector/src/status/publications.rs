//! All that the public is told: opened with incidents, followed while they last, published by people or, where a service
//! wants that, by a rule.

use std::{collections::BTreeMap, sync::Arc};

use aviary_core::{
    Second,
    incident::{Cause, Incident, State},
};

use super::{
    ServiceStatus,
    publication::{Act, Impact, Publication, Refusal, Stage, Standing, Status, UPDATES_MAX, Words},
    words,
};

/// So many are held; of more, the oldest drafts that nobody has worked on are let go of, and then what was public or was worked
/// on longest ago.
pub(crate) const PUBLICATIONS_MAX: usize = 1_000;

/// What nobody published is held for so long after its incident and after what somebody has done to it: a month.
const DRAFT_SECONDS: u64 = 30 * 86_400;

/// What was public is held for so long after its last change: what the page shows, and as much again in case of questions.
const PUBLIC_SECONDS: u64 = 400 * 86_400;

/// What is over for so long is resolved.
const RESOLVED_AFTER_SECONDS: u64 = 900;

/// From so many updates on the rule does not say any more that it watches: the rest are for people.
const RULE_UPDATES_MAX: usize = UPDATES_MAX - 10;

/// Whom the public is told of, and who lets it know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<BTreeMap<String, ServiceStatus>>);

impl Shown {
    pub(crate) fn new(services: impl IntoIterator<Item = (String, ServiceStatus)>) -> Self {
        let shown = services.into_iter().filter(|(_, service)| !service.is_hidden());
        Self(Arc::new(shown.collect()))
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = (&String, &ServiceStatus)> {
        self.0.iter()
    }

    /// What customers call a service, if they know of it.
    pub(crate) fn name(&self, service: &str) -> Option<String> {
        let shown = self.0.get(service)?;
        Some(shown.name.clone().unwrap_or_else(|| service.to_owned()))
    }

    /// After how many seconds what touches these services is published by itself: if all of them want that.
    fn automatic_after<'s>(&self, services: impl IntoIterator<Item = &'s String>) -> Option<u64> {
        let after = services.into_iter().map(|service| self.0.get(service)?.automatic_after());
        after.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// All publications.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publications {
    held: BTreeMap<String, Publication>,
    shown: Shown,
    /// How each service did when that was last looked at.
    statuses: BTreeMap<String, Status>,
    /// Counts what changed of what is held.
    changes: u64,
    /// What everybody may read: as it was kept last.
    told: Untold,
    /// Counts what changed of what everybody may read.
    revision: u64,
}

/// What everybody may read once it is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Untold {
    /// Of so many changes.
    changes: u64,
    /// The newest incident first.
    public: Vec<Publication>,
}

/// What changed: ids of what is to be kept, and of what is to be let go of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) kept: Vec<String>,
    pub(crate) gone: Vec<String>,
}

impl Publications {
    /// Goes on from what an earlier life left.
    pub(crate) fn restore(&mut self, kept: impl IntoIterator<Item = Publication>) {
        self.held = kept.into_iter().map(|publication| (publication.id.clone(), publication)).collect();
        self.changes += 1;
        if let Some(kept) = self.untold() {
            self.tell(kept);
        }
    }

    /// These services are shown from now on.
    pub(crate) fn show(&mut self, shown: Shown) {
        self.shown = shown;
        self.revision += 1;
    }

    pub(crate) const fn shown(&self) -> &Shown {
        &self.shown
    }

    /// The services do so now.
    pub(crate) fn note_statuses(&mut self, statuses: BTreeMap<String, Status>) {
        self.statuses = statuses;
    }

    /// What has changed of what everybody may read since they were told, if anything has: for [`Self::tell`], once it is kept.
    pub(crate) fn untold(&self) -> Option<Untold> {
        let public = self.held.values().rev().filter(|it| it.standing != Standing::Draft);
        (self.changes != self.told.changes)
            .then(|| Untold { changes: self.changes, public: public.cloned().collect() })
    }

    /// It is kept, and everybody may read it.
    pub(crate) fn tell(&mut self, kept: Untold) {
        self.told = kept;
        self.revision += 1;
    }

    /// Another number than before where anything has changed that everybody may read.
    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Publication> {
        self.held.get(id)
    }

    /// What is or was public, as it was kept last, the newest incident first; nothing of services that are hidden now.
    pub(crate) fn public(&self) -> impl Iterator<Item = &Publication> {
        self.told
            .public
            .iter()
            .filter(|it| it.services.iter().any(|service| self.shown.0.contains_key(service)))
    }

    /// Has somebody do something to what the public is told of `incident`, of which a draft is made where there is none: all of
    /// it or nothing.
    pub(crate) fn act(
        &mut self,
        incident: &Incident,
        acts: Vec<Act>,
        by: &str,
        now: Second,
    ) -> Result<Publication, Refused> {
        let known = self.held.get(incident.id.as_str()).cloned();
        let mut publication = known.or_else(|| self.draft(incident, now)).ok_or(Refused::Hidden)?;
        for act in acts {
            publication.act(act, Some(by), &self.statuses, now.0)?;
        }
        self.changes += 1;
        self.held.insert(publication.id.clone(), publication.clone());
        Ok(publication)
    }

    /// What would be said of `incident` now, if any service that it touches is shown.
    pub(crate) fn draft(&self, incident: &Incident, now: Second) -> Option<Publication> {
        let services = incident.services();
        let services: Vec<&str> =
            services.into_iter().filter(|service| self.shown.name(service).is_some()).collect();
        if services.is_empty() {
            return None;
        }
        let words = words::draft(incident, |service| self.shown.name(service)).unwrap_or_else(|| {
            // What is no loss is only ever published by somebody who finds words for it.
            let names: Vec<String> = services.iter().filter_map(|service| self.shown.name(service)).collect();
            words::Draft {
                title: format!("{}: under investigation", names.join(", ")),
                text: "We are looking into it.".to_owned(),
                impact: Impact::None,
            }
        });
        Some(Publication {
            id: incident.id.to_string(),
            standing: Standing::Draft,
            title: words.title.chars().take(super::publication::TITLE_CHARACTERS_MAX).collect(),
            text: words.text.chars().take(super::publication::TEXT_CHARACTERS_MAX).collect(),
            impact: words.impact,
            services: services.into_iter().map(str::to_owned).collect(),
            since: incident.since.0,
            drafted: now.0,
            published: None,
            changed: now.0,
            over: incident.resolved.map(|at| at.0),
            edited_by: None,
            updates: Vec::new(),
            public_from: 0,
        })
    }

    /// Follows what became of incidents until `now`.
    pub(crate) fn follow<'i>(
        &mut self,
        incidents: impl Iterator<Item = &'i Incident>,
        now: Second,
    ) -> Changed {
        let mut changed = Changed::default();
        for incident in incidents.filter(|it| it.cause == Cause::Loss && it.opened.is_some()) {
            if self.follow_one(incident, now) {
                changed.kept.push(incident.id.to_string());
            }
        }
        for publication in self.held.values_mut() {
            let is_ours = self.shown.automatic_after(&publication.services).is_some();
            let since = publication.over.filter(|_| is_ours && publication.is_unresolved());
            let is_watched = publication.reached(Stage::Monitoring);
            let lasted = is_watched.map_or(publication.updates.len() >= RULE_UPDATES_MAX, |at| {
                at + RESOLVED_AFTER_SECONDS <= now.0
            });
            if let Some(since) = since.filter(|since| lasted && since + RESOLVED_AFTER_SECONDS <= now.0) {
                let act = Act::Update { stage: Some(Stage::Resolved), text: words::resolved(since) };
                if publication.act(act, None, &self.statuses, now.0).is_ok() {
                    changed.kept.push(publication.id.clone());
                }
            }
        }
        changed.gone = self.forget(now);
        if changed != Changed::default() {
            self.changes += 1;
        }
        changed
    }

    /// Follows one incident. Whether anything changed.
    fn follow_one(&mut self, incident: &Incident, now: Second) -> bool {
        let id = incident.id.as_str();
        let fresh = self.draft(incident, now);
        let Some(publication) = self.held.get_mut(id) else {
            // What is silenced was announced, or is nobody else's business; what is over was not worth a draft then.
            let is_there = is_theirs(incident) && incident.silenced_by.is_empty();
            let Some(draft) = fresh.filter(|_| is_there) else { return false };
            self.held.insert(id.to_owned(), draft);
            return true;
        };
        let before = publication.clone();
        publication.over = incident.resolved.map(|at| at.0);
        if let Some(fresh) = fresh.filter(|_| is_theirs(incident)) {
            publication.services.extend(fresh.services);
            if publication.edited_by.is_none() {
                publication.impact = publication.impact.max(fresh.impact);
                if publication.standing == Standing::Draft {
                    (publication.title, publication.text) = (fresh.title, fresh.text);
                }
            }
        }
        if let Some(after) = self.shown.automatic_after(&publication.services)
            && let Some(act) = next(publication, incident, after, now)
        {
            // What is full stays as it is: somebody has said a lot of it.
            _ = publication.act(act, None, &self.statuses, now.0);
        }
        *publication != before
    }

    /// Lets go of what nobody needs any more, and of what there is too much of.
    fn forget(&mut self, now: Second) -> Vec<String> {
        let is_old = |it: &Publication| match it.standing {
            Standing::Draft => it.over.is_some_and(|over| over.max(it.changed) + DRAFT_SECONDS < now.0),
            _ => !it.is_unresolved() && it.changed + PUBLIC_SECONDS < now.0,
        };
        let mut gone: Vec<String> =
            self.held.values().filter(|it| is_old(it)).map(|it| it.id.clone()).collect();
        gone.iter().for_each(|id| _ = self.held.remove(id));
        while self.held.len() > PUBLICATIONS_MAX {
            let rank = |it: &&Publication| {
                let is_of_people = it.standing != Standing::Draft || it.edited_by.is_some();
                (is_of_people, it.is_unresolved(), it.changed)
            };
            let Some(id) = self.held.values().min_by_key(rank).map(|it| it.id.clone()) else { break };
            self.held.remove(&id);
            gone.push(id);
        }
        gone
    }
}

/// Whether customers lose something: neither our own agent alone, nor what is tried out. What they know of already is followed
/// to its end all the same.
fn is_theirs(incident: &Incident) -> bool {
    incident.state.is_active() && incident.sick_agent().is_none() && !incident.is_shadow()
}

/// What the rule does next, where services want one.
fn next(publication: &Publication, incident: &Incident, after: u64, now: Second) -> Option<Act> {
    let opened = incident.opened?;
    let is_lost = is_theirs(incident) && incident.state != State::Recovering;
    match publication.standing {
        Standing::Draft if is_lost && incident.silenced_by.is_empty() && opened.plus(after) <= now => {
            Some(Act::Publish(Words::default()))
        }
        Standing::Published => match (incident.resolved, publication.stage()) {
            (Some(since), Stage::Investigating | Stage::Identified)
                if publication.updates.len() < RULE_UPDATES_MAX =>
            {
                Some(Act::Update { stage: Some(Stage::Monitoring), text: words::monitoring(since.0) })
            }
            // Somebody said that it is watched or over while it was not: that is theirs to say, until it comes back.
            (None, Stage::Monitoring | Stage::Resolved) if is_lost => {
                let said = publication.updates.last().map_or(0, |update| update.at);
                let is_back = incident.reopened.last().is_some_and(|at| at.0 > said);
                is_back
                    .then(|| Act::Update { stage: Some(Stage::Investigating), text: words::BACK.to_owned() })
            }
            _ => None,
        },
        _ => None,
    }
}

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The public knows of none of its services.
    #[error(
        "the status page shows none of its services: see `status` of the services, and [collector.status]"
    )]
    Hidden,
    /// It is not in a state for that.
    #[error(transparent)]
    Act(#[from] Refusal),
}
