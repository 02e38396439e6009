//! From what is seen each second to whom is told of it: incidents, the outbox and silences, behind one lock.
//!
//! ```text
//! watch -> incidents -> outbox -> [committed] -> actions, for whoever delivers
//!             ^ acknowledged, noted    ^ what came of each
//! ```
//!
//! **Written before told.** Every step leaves what it changed in a batch. [`Judgement::flush`] commits what waits, and only
//! then hands over what is to be sent: a page whose incident is not on the disk was never sent. A life that is killed in
//! between leaves what it committed, and the next one sends that again under the same key. Only a disk without room is
//! not waited for: whoever is to be woken is woken, and told again after a crash.

pub(crate) mod api;
mod canary;
mod kept;
mod options;
mod public;
mod record;
mod steering;
mod tested;
#[cfg(test)]
mod tests;
mod trial;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aviary_core::{
    Second, Span, Timestamp,
    fnv::fnv1a,
    incident::{self, Cause, Fallback, Id, Incident, Incidents, Note, Observed},
    page::{self, Case, Outbox, Paging},
    silence::{Silence, SilenceError, Silences, When},
};
use aviary_store::{Store, StoreError};
use serde_json::Value;
use tokio::sync::mpsc;

pub(crate) use self::{
    api::routes,
    kept::{Life, Pending},
    record::Record,
};
use self::{canary::Canary, steering::Steering, trial::Trials};
pub use self::{
    options::{Alerting, Burst},
    tested::TestPages,
};
use crate::{
    delivery::{oldest_waiting, untold_since},
    state::{Asked, LateAsked, Seen},
    status::Publications,
};

/// So many actions wait for whoever delivers; more wait here, as many as receivers take at once.
const ACTIONS_MAX: usize = 256;

/// And so many here; of more, the oldest are dropped: a message of which nothing is heard is asked for again.
const WAITING_MAX: usize = 4_096;

/// How the ids of silences begin that stand in the configuration.
const PLANNED: &str = "config:";

/// Whether the configuration says it, and not somebody by the API.
fn is_planned(silence: &Silence) -> bool {
    silence.id.starts_with(PLANNED)
}

/// Incidents, the outbox and silences.
pub(crate) struct Judgement {
    held: Mutex<Held>,
    store: Option<Arc<dyn Store>>,
    /// One commit follows another.
    committing: Mutex<()>,
    actions: mpsc::Sender<page::Action>,
    untaken: Mutex<Option<mpsc::Receiver<page::Action>>>,
}

/// What incidents say of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfService {
    /// Those that are not over.
    pub(crate) incidents: Vec<Id>,
    /// Where loss is, in words.
    pub(crate) summary: Option<String>,
    /// Where loss is, rule by rule.
    pub(crate) extent: Vec<Value>,
    /// A silence covers one of them.
    pub(crate) is_silenced: bool,
    /// Until when nothing is told of what they cover, where all of them have an end that is known.
    pub(crate) silenced_until: Option<Second>,
}

struct Held {
    incidents: Incidents,
    outbox: Outbox,
    silences: Silences,
    /// What the public is told.
    publications: Publications,
    paging: Paging,
    pending: Pending,
    /// What is to be done once the pending is kept.
    actions: VecDeque<page::Action>,
    /// Incidents that are over, for as long as somebody is to be told so.
    over: BTreeMap<Id, Incident>,
    /// The cases as they were last handed to be kept.
    cases: BTreeMap<Id, Case>,
    /// The machine's own record, as it was last handed to be kept.
    machine: Vec<u8>,
    steps: u64,
    trials: Trials,
    name: String,
    test_pages: Option<TestPages>,
    /// When the hours began in which test pages were sent last.
    tested: Option<Second>,
    /// None until a second was observed.
    canary: Option<Canary>,
    steering: Steering,
}

impl Judgement {
    /// Nothing yet, of the collector `name`, which is part of every key.
    pub(crate) fn new(name: &str, store: Option<Arc<dyn Store>>, paging: Paging) -> Self {
        let (actions, untaken) = mpsc::channel(ACTIONS_MAX);
        let held = Held {
            incidents: Incidents::new(name),
            outbox: Outbox::default(),
            silences: Silences::default(),
            publications: Publications::default(),
            paging,
            pending: Pending::default(),
            actions: VecDeque::new(),
            over: BTreeMap::new(),
            cases: BTreeMap::new(),
            machine: Vec::new(),
            steps: 0,
            trials: Trials::default(),
            name: name.to_owned(),
            test_pages: None,
            tested: None,
            canary: None,
            steering: Steering::default(),
        };
        Self {
            held: Mutex::new(held),
            store,
            committing: Mutex::new(()),
            actions,
            untaken: Mutex::new(Some(untaken)),
        }
    }

    /// Goes on from what an earlier life left.
    pub(crate) fn restore(&self, name: &str, life: Life) {
        let mut held = self.held();
        held.incidents = Incidents::from_kept(name, life.incidents);
        held.tested = life.tested;
        held.over = life.over;
        held.cases = life.outbox.cases.clone();
        held.outbox = Outbox::from_kept(life.outbox);
        let configured = std::mem::take(&mut held.silences);
        let told = life.silences.into_iter().filter(|silence| !is_planned(silence));
        held.silences = Silences::from_kept(told.chain(configured.kept().cloned()));
        held.publications.restore(life.publications);
        held.steering = Steering::from_kept(life.steering);
    }

    /// What is to be done, for the one who does it; none if somebody has it.
    pub(crate) fn take_actions(&self) -> Option<mpsc::Receiver<page::Action>> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What incidents ask about services.
    pub(crate) fn asked(&self, now: Timestamp) -> Asked {
        let held = self.held();
        let now = now.second();
        let mut asked = Asked::default();
        let of_loss = held.incidents.iter().filter(|incident| incident.cause == Cause::Loss);
        for (service, part) in of_loss.flat_map(|incident| &incident.parts) {
            if let Some(clearing) = held.incidents.clearing(service, now) {
                asked.clearing.insert(service.clone(), clearing);
            }
            if let Some(since) = held.incidents.since(service) {
                asked.since.insert(service.clone(), (since, part.counts, part.seen));
            }
        }
        let active = held.incidents.iter().filter(|it| it.cause == Cause::Loss && it.state.is_active());
        let (sick, other): (Vec<_>, Vec<_>) = active.partition(|it| it.sick_agent().is_some());
        for (incident, node) in sick.iter().filter_map(|incident| Some((incident, incident.sick_agent()?))) {
            let why = format!("set apart is what {node} says, from where alone something is lost");
            asked.set_apart.extend(incident.services().into_iter().map(|it| (it.to_owned(), why.clone())));
        }
        let lost_otherwise = other.iter().flat_map(|incident| incident.services());
        lost_otherwise.for_each(|service| _ = asked.set_apart.remove(service));
        for incident in held.incidents.iter().filter(|it| it.cause == Cause::Loss && it.opened.is_some()) {
            let life = Span::new(incident.since, incident.resolved.unwrap_or(now));
            asked.late.extend(incident.parts().map(|(service, part)| LateAsked {
                service: service.clone(),
                life,
                is_over: incident.resolved.is_some(),
                lost: part.lost_seconds.spans.clone(),
                counts: part.counts,
            }));
        }
        asked
    }

    /// Takes in what was seen at `now`, and lets time go on in the outbox. Where loss is, is worked out without the lock.
    pub(crate) fn observe(&self, mut seen: Seen, now: Timestamp) {
        self.keep(std::mem::take(&mut seen.pending));
        for (tag, value) in std::mem::take(&mut seen.removed) {
            self.removed(tag, &value, now);
        }
        let silences = self.held().silences.in_force(now.second());
        let late = std::mem::take(&mut seen.late);
        let mut observed = seen.explained(silences);
        let held = self.held();
        let told = held.incidents.ejected().collect();
        observed.conditions.extend(held.steering.conditions(&observed.services, told, now.second()));
        drop(held);
        self.observed(observed, now);
        for event in late {
            self.held().step(event, now);
        }
    }

    fn observed(&self, observed: Observed, now: Timestamp) {
        let mut held = self.held();
        held.step(incident::Event::Observed(observed), now);
        held.note_steered(now);
        held.deliver(page::Event::Tick, now);
        held.test_pages(now);
        held.follow_in_public(now);
        held.canary.get_or_insert_with(|| Canary::new(now)).step(now);
        held.keep_all();
    }

    /// Whether an alert that an agent opened at this receiver can be ended from here.
    pub(crate) fn can_end(&self, receiver: &str) -> bool {
        self.held().paging.receiver(receiver).is_some()
    }

    /// An agent that was cut off paged by itself. At a receiver that is not known here, that is its own to end.
    pub(crate) fn paged(&self, told: Fallback, now: Timestamp) {
        if self.can_end(&told.receiver) {
            self.held().step(incident::Event::Paged(told), now);
        }
    }

    /// Somebody is on it. Whether there is such an incident that is not over.
    pub(crate) fn acknowledge(&self, id: &Id, by: &str, now: Timestamp) -> bool {
        let mut held = self.held();
        let is_there = held.incidents.get(id).is_some_and(|incident| incident.state.is_active());
        if is_there {
            held.step(incident::Event::Acknowledged { id: id.clone(), by: by.to_owned() }, now);
        }
        is_there
    }

    /// Somebody says something of it, also of what was over long ago, for as long as it is kept. Whether there is such an
    /// incident. Blocks.
    ///
    /// # Errors
    /// Where what is kept of it cannot be read.
    pub(crate) fn note(&self, id: &Id, by: &str, text: &str, now: Timestamp) -> Result<bool, StoreError> {
        let (by, text) = (by.to_owned(), text.to_owned());
        // What is on its way to the disk is there before it is read.
        let _one = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.held();
        if held.incidents.get(id).is_some() {
            held.step(incident::Event::Noted { id: id.clone(), by, text }, now);
            return Ok(true);
        }
        let waiting = held.pending.incident(id);
        drop(held);
        let kept = match (waiting, &self.store) {
            (Some(waiting), _) => waiting,
            (None, Some(store)) => kept::incident(&**store, id)?,
            (None, None) => None,
        };
        let Some(mut incident) = kept else { return Ok(false) };
        incident.note(Note { at: now.second(), by, text });
        let mut held = self.held();
        held.pending.put_incident(&incident);
        if let Some(over) = held.over.get_mut(id) {
            *over = incident;
        }
        Ok(true)
    }

    /// Somebody says that it is over. Whether there is such an incident that was not.
    pub(crate) fn resolve(&self, id: &Id, by: &str, now: Timestamp) -> bool {
        let mut held = self.held();
        let is_there = held.incidents.get(id).is_some_and(|incident| incident.state.is_active());
        if is_there {
            held.step(incident::Event::Resolved { id: id.clone(), by: by.to_owned() }, now);
        }
        is_there
    }

    /// What came of an attempt to tell somebody, and what is to be noted of it with the incident.
    pub(crate) fn ended(&self, event: page::Event, noted: Option<incident::Event>, now: Timestamp) {
        let mut held = self.held();
        held.trials.note(&event, noted.as_ref(), now.second());
        if let Some(noted) = noted {
            held.step(noted, now);
        }
        held.deliver(event, now);
    }

    /// Holds the silences of the configuration that have not ended, in the place of those that it had before; what is wrong
    /// with one is said, and others are held.
    pub(crate) fn plan(&self, silences: Vec<Silence>, now: Timestamp) {
        let mut held = self.held();
        let before: Vec<Silence> =
            held.silences.kept().filter(|silence| is_planned(silence)).cloned().collect();
        for silence in before {
            held.silences.expire(&silence.id, now.second());
        }
        for mut silence in silences {
            if silence.when.span().until <= now.second() {
                continue;
            }
            silence.id.insert_str(0, PLANNED);
            if let Err(error) = held.silences.add(silence, now.second()) {
                tracing::warn!("{error}");
            }
        }
        held.keep_silences();
    }

    /// Takes a silence in.
    pub(crate) fn silence(&self, silence: Silence, now: Timestamp) -> Result<(), SilenceError> {
        let mut held = self.held();
        held.silences.add(silence, now.second())?;
        held.keep_silences();
        Ok(())
    }

    /// Ends a silence now. Whether there is such a one that had not ended.
    pub(crate) fn expire(&self, id: &str, now: Timestamp) -> bool {
        let mut held = self.held();
        let is_there = held.silences.expire(id, now.second());
        held.keep_silences();
        is_there
    }

    /// All silences that are held.
    pub(crate) fn silences(&self) -> Vec<Silence> {
        self.held().silences.kept().cloned().collect()
    }

    /// Others are to be told, or in another way.
    pub(crate) fn configure(&self, paging: Paging, now: Timestamp) {
        let mut held = self.held();
        held.paging = paging;
        held.deliver(page::Event::Configured, now);
    }

    /// Sends test pages so from now on, or none.
    pub(crate) fn test_by(&self, pages: Option<TestPages>) {
        self.held().test_pages = pages;
    }

    /// How many seconds the last loss of our own canary took from its onset until it was told of.
    pub(crate) fn canary_delay(&self) -> Option<f64> {
        self.held().canary.as_ref().and_then(Canary::delay_seconds)
    }

    /// Since when our own canary is silent, where it is: then nobody would hear of a loss either.
    pub(crate) fn canary_silent_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.held().canary.as_ref().and_then(|canary| canary.silent_since(now))
    }

    /// Lets go of some of what was over before `from`, of what is kept. Blocks.
    ///
    /// # Errors
    /// Where it cannot be read; nothing is removed then.
    pub(crate) fn let_go_before(&self, from: Second) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let old = kept::over_before(&**store, from)?;
        let mut held = self.held();
        for id in old {
            // Of what is held something may be told yet.
            if held.incidents.get(&id).is_none() && !held.over.contains_key(&id) {
                held.pending.remove_incident(&id);
            }
        }
        Ok(())
    }

    /// A service, region, node or endpoint is not configured any more.
    pub(crate) fn removed(&self, tag: aviary_core::Tag, value: &str, now: Timestamp) {
        self.held().step(incident::Event::Removed { tag, value: value.to_owned() }, now);
    }

    /// An incident as it is now, if it is held: suspected, there, over for less than half an hour, or for as long as somebody is
    /// to be told so.
    pub(crate) fn incident(&self, id: &Id) -> Option<Incident> {
        let held = self.held();
        held.incidents.get(id).or_else(|| held.over.get(id)).cloned()
    }

    /// Since when the oldest page waits that nobody has taken.
    pub(crate) fn untold_since(&self) -> Option<Timestamp> {
        untold_since(&self.held().outbox)
    }

    /// By receiver since when the oldest incident waits that it is to be told of.
    pub(crate) fn waiting(&self, now: Timestamp) -> BTreeMap<String, Timestamp> {
        let held = self.held();
        oldest_waiting(&held.outbox, &held.paging, now)
    }

    /// The incident that receivers know by `key`, if it is held.
    pub(crate) fn by_key(&self, key: &str) -> Option<Id> {
        let held = self.held();
        held.incidents.iter().find(|incident| incident.key == key).map(|incident| incident.id.clone())
    }

    /// Every incident that is held.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        self.held().incidents.iter().cloned().collect()
    }

    /// What incidents say of each service that something is lost of.
    pub(crate) fn of_services(&self) -> BTreeMap<String, OfService> {
        let held = self.held();
        let mut services: BTreeMap<String, OfService> = BTreeMap::new();
        for incident in held.incidents.iter().filter(|incident| incident.state.is_active()) {
            for (service, part) in incident.parts() {
                for service in part.services.iter().chain([service]).filter(|service| !service.is_empty()) {
                    let known = services.entry(service.clone()).or_default();
                    if known.incidents.contains(&incident.id) {
                        continue;
                    }
                    known.incidents.push(incident.id.clone());
                    if !incident.silenced_by.is_empty() {
                        let until = held.silenced_until(incident);
                        // Somebody is told of something as soon as the first is not covered any more.
                        known.silenced_until = match known.is_silenced {
                            true => known.silenced_until.min(until),
                            false => until,
                        };
                        known.is_silenced = true;
                    }
                    if incident.cause == Cause::Loss {
                        known.summary.get_or_insert_with(|| part.summary.clone());
                        known.extent.extend(part.extent.rules.iter().map(Record::write));
                    }
                }
            }
        }
        services
    }

    /// What was told of an incident to whom, while somebody is still to be told something.
    pub(crate) fn case(&self, id: &Id) -> Option<Case> {
        self.held().outbox.case(id).cloned()
    }

    /// Keeps something beside, with whatever waits.
    fn keep(&self, more: Pending) {
        self.held().pending.append(more);
    }

    /// Commits what waits, then hands over what is to be done. Blocks.
    ///
    /// # Errors
    /// If it could not be kept: it still waits, and is tried with the next. Where the disk has no room, what is to be done is
    /// handed over all the same.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let _one = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let (pending, mut actions, untold) = {
            let mut held = self.held();
            let untold = held.publications.untold();
            (std::mem::take(&mut held.pending), std::mem::take(&mut held.actions), untold)
        };
        let kept = match &self.store {
            Some(store) if !pending.is_empty() => store.commit(pending.batch()),
            _ => Ok(()),
        };
        let is_kept = kept.is_ok();
        if is_kept || matches!(kept, Err(StoreError::Full { .. })) {
            while let Some(action) = actions.pop_front() {
                if let Err(mpsc::error::TrySendError::Full(action)) = self.actions.try_send(action) {
                    actions.push_front(action);
                    break;
                }
            }
        }
        let mut held = self.held();
        if let Some(untold) = untold.filter(|_| is_kept) {
            held.publications.tell(untold);
        }
        if !is_kept {
            // What came meanwhile is newer.
            let newer = std::mem::replace(&mut held.pending, pending);
            held.pending.append(newer);
        }
        actions.append(&mut held.actions);
        let beyond = actions.len().saturating_sub(WAITING_MAX);
        actions.drain(..beyond);
        held.actions = actions;
        kept
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Each machine takes its steps whole; one that panicked has kept nothing of its step.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Lets incidents take a step, and tells the outbox what follows.
    fn step(&mut self, event: incident::Event, now: Timestamp) {
        for action in self.incidents.step(event, now.second()) {
            match action {
                incident::Action::Changed(id) => {
                    if let Some(incident) = self.incidents.get(&id) {
                        self.pending.put_incident(incident);
                        if incident.resolved.is_some() && self.outbox.case(&id).is_some() {
                            self.over.insert(id, incident.clone());
                        }
                    }
                }
                incident::Action::Tell(notice) => self.deliver(page::Event::Told(notice), now),
                incident::Action::Acknowledged(id) => self.deliver(page::Event::Acknowledged(id), now),
                // What was kept of it stands.
                incident::Action::Archived(_) => {}
            }
        }
    }

    /// Until when the last of the silences holds that cover an incident; none where one of them comes and goes by the hour.
    fn silenced_until(&self, incident: &Incident) -> Option<Second> {
        let covers = self.silences.kept().filter(|silence| incident.silenced_by.contains(&silence.id));
        let ends = covers.map(|silence| match &silence.when {
            When::Once(span) => Some(span.until),
            When::Recurring(..) => None,
        });
        ends.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Lets the outbox take a step; what it asks for waits until that is kept.
    fn deliver(&mut self, event: page::Event, now: Timestamp) {
        self.steps += 1;
        let seed = fnv1a(now.0.to_be_bytes().into_iter().chain(self.steps.to_be_bytes()));
        let mut touched = BTreeSet::new();
        match &event {
            page::Event::Told(notice) | page::Event::Test(notice, _) => _ = touched.insert(notice.id.clone()),
            page::Event::Acknowledged(id) | page::Event::Finished { id, .. } => {
                _ = touched.insert(id.clone())
            }
            page::Event::Configured | page::Event::Tick => {}
        }
        let actions = self.outbox.step(event, &self.paging, now, seed);
        for action in &actions {
            match action {
                page::Action::Send { id, .. } | page::Action::Unrouted(id) | page::Action::Done(id) => {
                    touched.insert(id.clone());
                }
                page::Action::Dead { id, receiver, why } => {
                    touched.insert(id.clone());
                    let (id, receiver) = (id.clone(), receiver.clone());
                    let text = format!("will not take it: {why}");
                    self.step(incident::Event::Receipt { id, receiver, text }, now);
                }
                page::Action::Log(_) => {}
            }
        }
        for id in &touched {
            self.keep_case(id);
        }
        self.actions.extend(actions);
    }

    fn keep_case(&mut self, id: &Id) {
        let case = self.outbox.case(id);
        if case == self.cases.get(id) {
            return;
        }
        self.pending.put_case(id, case);
        match case.cloned() {
            Some(case) => {
                self.cases.insert(id.clone(), case);
            }
            None => {
                self.cases.remove(id);
                self.over.remove(id);
            }
        }
    }

    /// Keeps whatever else changed with time.
    fn keep_all(&mut self) {
        let known = self.cases.keys().chain(self.outbox.cases().map(|(id, _)| id));
        let ids: BTreeSet<Id> = known.cloned().collect();
        for id in &ids {
            self.keep_case(id);
        }
        let machine = kept::machine(&self.incidents);
        if machine != self.machine {
            self.pending.put_machine(&machine);
            self.machine = machine;
        }
    }

    fn keep_silences(&mut self) {
        let silences: Vec<Silence> = self.silences.kept().cloned().collect();
        self.pending.put_silences(&silences);
    }
}
