//! What rules would have paged, and when: slots that are stored are lived through again.
//!
//! A state and a judgement of their own, the same code as a collector that runs, take the stored seconds in as reports, one
//! second after another by a clock that is set. What they want to be sent is taken down, and everybody takes it at once. So
//! what is told of stored slots is what a collector with these rules would have done, as far as slots can say:
//!
//! - When a report came is not kept. A slot is taken to be known when its second is over; one that was lost by its deadline,
//!   which ends within the second after, another second later; and what storage lacks once that is settled.
//! - What was decided when a slot was taken in is decided: which rung counted, and what storage was found to have.
//! - Certificates, timings and what agents say of themselves are not kept by the second: tickets about them are not told.
//! - Which way a service usually loses is learnt anew, and long windows are empty, from the first second that is fed.
//! - Nobody acknowledges, so escalations go on to their end.

mod agent;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use aviary_core::{
    Second, Series, SeriesId, Span, Timestamp, Vantage,
    incident::{Id, Incident},
    mark::Storage,
    page::{self, Action, Message, Paging, Sent, Severity, Urgency},
    silence::Silence,
};
use aviary_wire::report::ClosedSlot;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use self::agent::Agent;
pub use self::slots::{Stored, UnreadableSlots};
use crate::{
    CLOSED_AFTER_SECONDS, SETTLE_SECONDS, ServiceOptions,
    judgement::{Judgement, Record as _},
    state::State,
};

/// A series that ended is heard of for so long: until what its last slots came to is known.
const FAREWELL_SECONDS: u64 = 3;

/// What storage has not shown of a second is settled so many seconds after that began.
const SETTLED_AFTER_SECONDS: u64 = CLOSED_AFTER_SECONDS + SETTLE_SECONDS + 1;

/// By what rules slots are judged.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The collector's name.
    pub name: String,
    /// The services, with what they may lose and want to be told of.
    pub services: Vec<ServiceOptions>,
    /// Who is told.
    pub paging: Paging,
    /// What nobody wants to be told of.
    pub silences: Vec<Silence>,
}

/// An incident that somebody would have been told of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// The second in which the first message would have been sent; of one that began as a ticket, the page.
    pub at: u64,
    /// When it began.
    pub since: u64,
    /// The second in which it would have been cleared; none if it was there still at the end.
    pub cleared: Option<u64>,
    /// The services that it touched then.
    pub services: Vec<String>,
    /// Whom it would have woken: `page`, `ticket` or `information`.
    pub urgency: &'static str,
    /// How bad it was when that was told, or became.
    pub severity: &'static str,
    /// What the message would have said.
    pub summary: String,
    /// Where the loss was then, rule by rule, as `/api/v1/incidents` has it.
    pub extent: Vec<Value>,
    /// Who would have been told, escalations included.
    pub to: BTreeSet<String>,
    /// It would have gone to the log only.
    pub shadow: bool,
}

/// Slots that no collector can have stored.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// They are not what `/api/v1/slots` answers.
    #[error("{0}")]
    Unreadable(#[from] UnreadableSlots),
    /// They are more than one collector holds, or otherwise against its rules.
    #[error("the slots are none that a collector takes: {0}")]
    Refused(String),
}

/// Stored slots on their way through judgement.
pub struct Replay {
    state: State,
    judgement: Judgement,
    actions: mpsc::Receiver<Action>,
    /// Seconds before this one are judged.
    next: Second,
    series: Vec<Known>,
    place_of: HashMap<BTreeMap<String, String>, usize>,
    agents: BTreeMap<Vantage, Agent>,
    /// What becomes known in a second.
    to_come: BTreeMap<Second, Coming>,
    /// In the order in which they were told, those from the first on that is not cleared.
    told: VecDeque<(Id, Urgency, Severity, Told)>,
    sequence: u64,
}

/// A series, from the first slot that is told of it.
struct Known {
    series: Series,
    from: Second,
    /// The first second of which nothing was told yet.
    until: Second,
    is_there: bool,
    /// Once it is told of.
    id: Option<SeriesId>,
}

/// What becomes known in a second, each with the series that it is of.
#[derive(Default)]
struct Coming {
    slots: Vec<(usize, ClosedSlot)>,
    storage: Vec<(usize, Second, Storage)>,
    begun: Vec<(usize, Second)>,
    ended: Vec<(usize, Second)>,
}

impl Replay {
    /// Nothing judged yet, by `rules`, from the second `from` on: a collector that starts then.
    pub fn new(rules: Rules, from: Second) -> Self {
        let Rules { name, mut services, paging, silences } = rules;
        for service in &mut services {
            // What it stored is told by the slots.
            service.readback = None;
        }
        let judgement = Judgement::new(&name, None, paging);
        judgement.plan(silences, from.start());
        let actions = judgement.take_actions().unwrap_or_else(|| mpsc::channel(1).1);
        Self {
            state: State::new(name, services, from.start()),
            judgement,
            actions,
            next: from,
            series: Vec::new(),
            place_of: HashMap::new(),
            agents: BTreeMap::new(),
            to_come: BTreeMap::new(),
            told: VecDeque::new(),
            sequence: 0,
        }
    }

    /// Lives through the seconds from where it stands to `until`, of which `stored` is all that is stored. Returns what would
    /// have been told and is cleared, in the order in which it would have been told; what follows something that is not
    /// cleared yet is returned with that.
    ///
    /// # Errors
    /// If these are no slots of these seconds: nothing more is to be fed then.
    pub fn feed(&mut self, stored: Vec<Stored>, until: Second) -> Result<Vec<Told>, ReplayError> {
        // Whoever reads the log wants to know of now, and not of then.
        tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
            let span = Span::new(self.next, until);
            for series in stored {
                self.take(series, span)?;
            }
            self.end_absent(span);
            while self.next < until {
                self.next = self.next.plus(1);
                self.live_through(self.next)?;
            }
            let mut cleared = Vec::new();
            while self.told.front().is_some_and(|(.., told)| told.cleared.is_some()) {
                cleared.extend(self.told.pop_front().map(|(.., told)| told));
            }
            Ok(cleared)
        })
    }

    /// What would have been told and was not returned yet: from the first on that was never cleared.
    pub fn finish(self) -> Vec<Told> {
        self.told.into_iter().map(|(.., told)| told).collect()
    }

    /// So many series were fed so far.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Notes what becomes known when of one series.
    fn take(&mut self, stored: Stored, span: Span) -> Result<(), ReplayError> {
        let Stored { tags, slots } = stored;
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return Ok(()) };
        let (first, last) = (Second(first.second), Second(last.second));
        if first < span.from || last >= span.until {
            return Err(UnreadableSlots::Outside { first, last, span }.into());
        }
        let place = match self.place_of.get(&tags) {
            Some(place) => *place,
            None => {
                let series = slots::series(&tags)?;
                let place = self.series.len();
                self.series.push(Known { series, from: first, until: first, is_there: false, id: None });
                self.place_of.insert(tags, place);
                place
            }
        };
        let known = &mut self.series[place];
        if !known.is_there {
            known.is_there = true;
            self.to_come.entry(first.plus(1)).or_default().begun.push((place, first));
        }
        known.until = last.plus(1);
        let is_stored = self.state.service(&known.series.service).storage;
        for slot in slots {
            let read = slot.read()?;
            let second = read.second;
            if let Some((closed, is_deadline)) = read.closed {
                let at = second.plus(1 + u64::from(is_deadline));
                self.to_come.entry(at).or_default().slots.push((place, closed));
            }
            let storage = read.storage.filter(|_| is_stored);
            if let Some(storage) = storage {
                let after = if storage == Storage::Stored { 1 } else { SETTLED_AFTER_SECONDS };
                self.to_come.entry(second.plus(after)).or_default().storage.push((place, second, storage));
            }
        }
        Ok(())
    }

    /// What is not told of to the end of `span` ended there.
    fn end_absent(&mut self, span: Span) {
        for (place, known) in self.series.iter_mut().enumerate() {
            if known.is_there && known.until < span.until {
                known.is_there = false;
                let at = known.until.plus(FAREWELL_SECONDS).max(span.from.plus(1));
                self.to_come.entry(at).or_default().ended.push((place, known.until));
            }
        }
    }

    /// Takes in what is known by `second`, and judges.
    fn live_through(&mut self, second: Second) -> Result<(), ReplayError> {
        let now = second.start();
        let Coming { slots, storage, begun, ended } = self.to_come.remove(&second).unwrap_or_default();
        self.schedule(begun, ended, now)?;
        let mut by_agent: BTreeMap<&Vantage, Vec<ClosedSlot>> = BTreeMap::new();
        for (place, slot) in slots {
            let vantage = &self.series[place].series.vantage;
            let series = self.agents.get(vantage).and_then(|agent| agent.places.get(&place));
            if let Some(series) = series {
                by_agent.entry(vantage).or_default().push(ClosedSlot { series: *series, ..slot });
            }
        }
        for (vantage, slots) in by_agent {
            let Some(agent) = self.agents.get(vantage) else { continue };
            self.sequence += 1;
            agent.report(&mut self.state, slots, self.sequence, now)?;
        }
        for (place, of, storage) in storage {
            let known = &mut self.series[place];
            known.id = known.id.or_else(|| self.state.catalog().find(&known.series));
            if let Some(id) = known.id {
                self.state.told_of_storage(id, of, storage);
            }
        }
        self.state.judge(now);
        let seen = self.state.watch(now, &self.judgement.asked(now));
        self.judgement.observe(seen, now);
        self.deliver(now);
        self.clear(second);
        Ok(())
    }

    /// Series begin and end: their agents say so.
    fn schedule(
        &mut self,
        begun: Vec<(usize, Second)>,
        ended: Vec<(usize, Second)>,
        now: Timestamp,
    ) -> Result<(), ReplayError> {
        let mut changes: BTreeMap<(Vantage, Second), Vec<(usize, bool)>> = BTreeMap::new();
        let begun = begun.into_iter().map(|(place, since)| (place, since, true));
        for (place, since, begins) in
            begun.chain(ended.into_iter().map(|(place, since)| (place, since, false)))
        {
            let vantage = self.series[place].series.vantage.clone();
            changes.entry((vantage, since)).or_default().push((place, begins));
        }
        for ((vantage, since), changed) in changes {
            let before = self.agents.remove(&vantage).map(|agent| agent.places).unwrap_or_default();
            let mut there: BTreeSet<usize> = before.into_keys().collect();
            for (place, begins) in changed {
                // It may have come back in the meantime.
                let is_there = begins || self.series[place].is_there;
                if is_there {
                    there.insert(place)
                } else {
                    there.remove(&place)
                };
            }
            let agent = Agent::new(vantage.clone(), since, &there, &self.series);
            self.sequence += 1;
            agent.report(&mut self.state, Vec::new(), self.sequence, now)?;
            self.agents.insert(vantage, agent);
        }
        Ok(())
    }

    /// Takes down what is to be sent. Whoever it is for takes it at once.
    fn deliver(&mut self, now: Timestamp) {
        loop {
            // Nothing is kept, so nothing can fail to be.
            _ = self.judgement.flush();
            let Ok(action) = self.actions.try_recv() else { return };
            match action {
                Action::Send { id, receiver, attempt, .. } => {
                    if matches!(attempt.message, Message::Opened | Message::Updated) {
                        self.note(&id, Some(&receiver), false, now);
                    }
                    let sent = Sent::Taken { say_again: None };
                    let event = page::Event::Finished { id, receiver, attempt: attempt.number, sent };
                    self.judgement.ended(event, None, now);
                }
                Action::Log(notice) => self.note(&notice.id, None, true, now),
                Action::Unrouted(id) => self.note(&id, None, false, now),
                Action::Dead { .. } | Action::Done(_) => {}
            }
        }
    }

    /// Somebody is told of an incident, or would be.
    fn note(&mut self, id: &Id, receiver: Option<&str>, shadow: bool, now: Timestamp) {
        let Some(incident) = self.judgement.incident(id).filter(|incident| incident.resolved.is_none())
        else {
            return;
        };
        let (urgency, severity) = (incident.urgency(), incident.severity());
        let known = self.told.iter().position(|(known, .., told)| known == id && told.cleared.is_none());
        let mut to = BTreeSet::new();
        if let Some(place) = known {
            let (_, was_urgent, worst, told) = &mut self.told[place];
            if *was_urgent >= urgency {
                *worst = severity.max(*worst);
                told.severity = worst.name();
                told.to.extend(receiver.map(str::to_owned));
                return;
            }
            // From here on it wakes somebody.
            to = std::mem::take(&mut told.to);
            self.told.remove(place);
        }
        to.extend(receiver.map(str::to_owned));
        let told = Told::of(&incident, to, shadow, now.second());
        self.told.push_back((id.clone(), urgency, severity, told));
    }

    fn clear(&mut self, now: Second) {
        for (id, .., told) in self.told.iter_mut().filter(|(.., told)| told.cleared.is_none()) {
            let is_there = self.judgement.incident(id).is_some_and(|incident| incident.resolved.is_none());
            told.cleared = (!is_there).then_some(now.0);
        }
    }
}

impl Told {
    fn of(incident: &Incident, to: BTreeSet<String>, shadow: bool, now: Second) -> Self {
        let rules = incident.parts().flat_map(|(_, part)| &part.extent.rules);
        Self {
            at: now.0,
            since: incident.since.0,
            cleared: None,
            services: incident.services().into_iter().map(Into::into).collect(),
            urgency: incident.urgency().name(),
            severity: incident.severity().name(),
            summary: incident.summary(),
            extent: rules.map(|rule| rule.write()).collect(),
            to,
            shadow,
        }
    }
}
