//! Everything a collector knows, and how it changes.

mod agent;
mod check;
mod fleet;
mod judge;
mod kept;
mod schedule;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use aviary_core::{
    Catalog, Evidence, Fault, Ledger, Outcome, Phase, Second, SeriesId, Span, Tag, Timestamp, Vantage,
    catalog::Full,
    ledger::OutOfReach,
    losses::{Cause, Loss, Losses},
    mark::{Mark, Sender, Storage},
    window::Proof,
};
use aviary_wire::report::{ClosedSlot, Gap, Report, Roster};

pub(crate) use self::{agent::AgentSeen, judge::Standing, kept::Texts};
use crate::{
    ServiceOptions,
    events::{Event, Events},
    settled_until,
    stored::StoredSeries,
};

/// The most series of all agents together: what one collector is made for.
const SERIES_MAX: usize = 100_000;

/// The most agents that are remembered, each with its last rosters: the longest silent is forgotten first. An agent
/// whose roster was forgotten sends it again.
const AGENTS_MAX: usize = 10_000;

/// How many losses are kept with their phase, fault and address; the ledger counts all of them all the same.
const LOSSES_MAX: usize = 200_000;

/// Slots may be so many seconds ahead of the collector's clock.
pub(crate) const AHEAD_SECONDS_MAX: u64 = 30;

/// Everything a collector knows.
pub(crate) struct State {
    name: String,
    configured: BTreeMap<String, ServiceOptions>,
    /// The first second of which it was to know anything.
    started: Second,
    /// Since when this process watches.
    watching_since: Second,
    catalog: Catalog,
    ledger: Ledger,
    losses: Losses,
    /// The last rosters of each agent.
    rosters: HashMap<u64, KnownRoster>,
    agents: BTreeMap<Vantage, AgentSeen>,
    events: Events,
    stored: StoredSeries,
    /// Seconds before this are settled.
    settled_until: Second,
    /// Up to here storage may have kept silent about datapoints that it has.
    untold_until: Second,
    standing: BTreeMap<String, Standing>,
    counts: Counts,
    refusal_told: Second,
}

#[derive(Clone)]
struct KnownRoster {
    vantage: Arc<Vantage>,
    since: Second,
    /// The series at each place, with its first full slot.
    series: Arc<[(SeriesId, Second)]>,
}

/// What a collector counted of its own work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reports that were taken.
    pub reports: u64,
    /// Reports that were refused.
    pub refused: u64,
    /// Slots that came too late to be held.
    pub too_old: u64,
    /// Slots that were ahead of the collector's clock.
    pub ahead: u64,
    /// Datapoints found in storage that no series owns.
    pub unowned: u64,
}

/// Why a report is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("roster {0:016x} is not known here; send the report again with its roster")]
    UnknownRoster(u64),
    #[error("region `{claimed}` may not be reported under token `{token}`, which is for `{allowed}` only")]
    Region { claimed: String, token: String, allowed: String },
    #[error("its gaps tell {told} slots, and no agent can have skipped more than {limit}")]
    Gaps { told: u64, limit: u64 },
    #[error("the report speaks of series {place}, and its roster has {series}")]
    Place { place: u64, series: usize },
    #[error(
        "second {second} is {ahead} s ahead of this collector's clock, at most {AHEAD_SECONDS_MAX} s are accepted; \
         compare the clocks of both hosts"
    )]
    Ahead { second: Second, ahead: u64 },
    #[error(
        "{0}; series that are no longer probed are forgotten when the collector is started again, and another \
         collector can take some of the agents"
    )]
    Full(#[from] Full),
}

/// What was done with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) slots: u64,
    pub(crate) too_old: u64,
    pub(crate) ahead: u64,
}

impl State {
    pub(crate) fn new(name: String, services: Vec<ServiceOptions>, now: Timestamp) -> Self {
        Self {
            name,
            configured: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
            started: now.second(),
            watching_since: now.second(),
            catalog: Catalog::new(SERIES_MAX),
            ledger: Ledger::new(now.second().plus(AHEAD_SECONDS_MAX)),
            losses: Losses::new(LOSSES_MAX),
            rosters: HashMap::new(),
            agents: BTreeMap::new(),
            events: Events::default(),
            stored: StoredSeries::default(),
            settled_until: settled_until(now),
            untold_until: Second(0),
            standing: BTreeMap::new(),
            counts: Counts::default(),
            refusal_told: Second(0),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(crate) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) const fn losses(&self) -> &Losses {
        &self.losses
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) const fn agents(&self) -> &BTreeMap<Vantage, AgentSeen> {
        &self.agents
    }

    pub(crate) const fn events(&self) -> &Events {
        &self.events
    }

    /// Notes an event that somebody told.
    pub(crate) fn note_event(&mut self, event: Event) {
        self.events.note(event);
    }

    pub(crate) fn standing(&self) -> impl Iterator<Item = (&str, &Standing)> {
        self.standing.iter().map(|(name, standing)| (name.as_str(), standing))
    }

    /// Judges these services from now on.
    pub(crate) fn configure(&mut self, services: Vec<ServiceOptions>) {
        self.configured = services.into_iter().map(|service| (service.name.clone(), service)).collect();
        for id in self.catalog.ids() {
            let service = self.service(self.catalog.tag(id, Tag::Service));
            let Ok(protocol) = self.catalog.tag(id, Tag::Protocol).parse() else { continue };
            self.ledger.prove(id, Proof::of(protocol, service.counts_as_delivered, service.storage));
        }
    }

    /// What is configured of a service, or the defaults.
    pub(crate) fn service(&self, name: &str) -> ServiceOptions {
        self.configured.get(name).cloned().unwrap_or_else(|| ServiceOptions::unconfigured(name))
    }

    /// Counts a refusal, and returns whether none was told in this second.
    pub(crate) fn refused(&mut self, now: Timestamp) -> bool {
        self.counts.refused += 1;
        std::mem::replace(&mut self.refusal_told, now.second()) != now.second()
    }

    /// Lets time go on.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.ledger.advance(now.second().plus(AHEAD_SECONDS_MAX));
    }

    /// Takes a report whole, or not at all.
    pub(crate) fn take(
        &mut self,
        report: &Report,
        token: Option<(&str, &str)>,
        now: Timestamp,
    ) -> Result<Taken, Refusal> {
        self.advance(now);
        // Whose slots these are, is what the roster says that is known here, if it is.
        let known = self.rosters.get(&report.roster_id);
        let (vantage, series) = match (known, &report.roster) {
            (Some(known), _) => (&*known.vantage, known.series.len()),
            (None, Some(roster)) => (&roster.vantage, roster.series.len()),
            (None, None) => return Err(Refusal::UnknownRoster(report.roster_id)),
        };
        if let Some((token, allowed)) = token
            && vantage.region != allowed
        {
            let (claimed, token, allowed) = (vantage.region.clone(), token.to_owned(), allowed.to_owned());
            return Err(Refusal::Region { claimed, token, allowed });
        }
        check::places(report, series)?;
        check::seconds(report, now)?;
        check::gaps(report, self.ledger.held())?;
        if let Some(roster) = &report.roster {
            self.learn(roster, report.roster_id)?;
        }
        let Some(known) = self.rosters.get(&report.roster_id).cloned() else {
            return Err(Refusal::UnknownRoster(report.roster_id));
        };
        let mut taken = Taken { slots: 0, too_old: 0, ahead: 0 };
        for slot in &report.slots {
            taken.slots += 1;
            match self.close(known.series[slot.series as usize].0, slot) {
                Ok(()) => {}
                Err(OutOfReach::TooOld { .. }) => taken.too_old += 1,
                Err(OutOfReach::TooNew { .. }) => taken.ahead += 1,
            }
        }
        for gap in &report.gaps {
            for (id, _) in &known.series[gap.first as usize..(gap.first + gap.count) as usize] {
                self.skip(*id, gap, &mut taken);
            }
        }
        self.counts.reports += 1;
        self.counts.too_old += taken.too_old;
        self.counts.ahead += taken.ahead;
        self.see(&known, report, now);
        self.warn_of_unheld(&known.vantage, taken);
        Ok(taken)
    }

    /// Says, once for each life of an agent, that its clock or its backlog puts slots out of reach.
    fn warn_of_unheld(&mut self, vantage: &Vantage, taken: Taken) {
        if taken.too_old + taken.ahead == 0 {
            return;
        }
        let Some(agent) = self.agents.get_mut(vantage) else { return };
        if !std::mem::replace(&mut agent.is_warned, true) {
            let Taken { too_old, ahead, .. } = taken;
            let Vantage { node, region, .. } = vantage;
            tracing::warn!(
                node,
                region,
                too_old,
                ahead,
                "Slots of this agent are out of reach: compare its clock with ours."
            );
        }
    }

    fn learn(&mut self, roster: &Roster, id: u64) -> Result<(), Refusal> {
        if self.rosters.contains_key(&id) {
            return Ok(());
        }
        let new = roster.series().filter(|series| self.catalog.find(series).is_none()).count();
        if self.catalog.len() + new > SERIES_MAX {
            return Err(Full { limit: SERIES_MAX }.into());
        }
        let mut ids = Vec::with_capacity(roster.series.len());
        for (series, told) in roster.series().zip(&roster.series) {
            let known = self.catalog.len();
            let id = self.catalog.intern(&series)?;
            let service = self.service(&series.service);
            if id.0 as usize == known {
                let protocol = series.endpoint.protocol();
                let proof = Proof::of(protocol, service.counts_as_delivered, service.storage);
                // What was before this collector is none of its business, unless a slot from then is told.
                self.ledger.register(told.from.max(self.started), proof);
            } else {
                self.ledger.extend_back(id, told.from.max(self.started));
            }
            if service.storage {
                self.stored.carry(id, &told.name);
            }
            ids.push((id, told.from));
        }
        let (vantage, since) = (Arc::new(roster.vantage.clone()), roster.since);
        self.rosters.insert(id, KnownRoster { vantage, since, series: ids.into() });
        Ok(())
    }

    /// Merges one slot, if it is held.
    fn close(&mut self, series: SeriesId, slot: &ClosedSlot) -> Result<(), OutOfReach> {
        let outcome = self.as_it_counts(series, slot.outcome);
        self.ledger.merge(series, slot.second, mark_of(outcome))?;
        self.ledger.extend_back(series, slot.second);
        let reached = slot.reached.or(match slot.outcome {
            Outcome::Delivered(evidence) => Some(evidence),
            _ => None,
        });
        self.note(series, slot.second, outcome, reached, slot.address);
        Ok(())
    }

    /// What an outcome is worth here: bytes that only the peer's kernel acknowledged are lost to a service that counts
    /// from a higher rung, whatever the agent's configuration counted.
    fn as_it_counts(&self, series: SeriesId, outcome: Outcome) -> Outcome {
        let Outcome::Delivered(Evidence::KernelAcked) = outcome else { return outcome };
        let counts =
            self.configured.get(self.catalog.tag(series, Tag::Service)).and_then(|it| it.counts_as_delivered);
        match counts {
            Some(Evidence::KernelAcked | Evidence::Sent) => outcome,
            _ => Outcome::Lost { phase: Phase::Confirm, fault: Fault::Timeout },
        }
    }

    fn skip(&mut self, series: SeriesId, gap: &Gap, taken: &mut Taken) {
        let held = self.ledger.held();
        let inside = gap.span.intersection(held);
        taken.slots += gap.span.seconds();
        taken.too_old += Span::new(gap.span.from, gap.span.until.min(held.from)).seconds();
        taken.ahead += Span::new(gap.span.from.max(held.until), gap.span.until).seconds();
        if inside.is_empty() {
            return;
        }
        self.ledger.merge_span(series, inside, mark_of(gap.outcome));
        self.ledger.extend_back(series, inside.from);
        for second in inside.iter() {
            self.note(series, second, gap.outcome, None, None);
        }
    }

    fn note(
        &mut self,
        series: SeriesId,
        second: Second,
        outcome: Outcome,
        reached: Option<Evidence>,
        address: Option<SocketAddr>,
    ) {
        let (phase, cause) = match outcome {
            Outcome::Lost { phase, fault } => (phase, Cause::Service(fault)),
            Outcome::Local { phase, fault } => (phase, Cause::Local(fault)),
            Outcome::Delivered(_) | Outcome::Missed | Outcome::Muted => return,
        };
        self.losses.note(series, second, Loss { phase, cause, reached, address });
    }

    /// Storage has a datapoint of this name and second.
    pub(crate) fn stored(&mut self, name: &str, second: Second) {
        let Some(series) = self.stored.owner(name) else {
            self.counts.unowned += 1;
            return;
        };
        if self.ledger.merge(series, second, Mark::stored(Storage::Stored)).is_ok() {
            self.stored.shown(series, second);
        }
    }

    pub(crate) fn storage_untold(&mut self, until: Second) {
        self.untold_until = self.untold_until.max(until);
    }
}

/// What an outcome says in four bits. Where nothing can have been sent, storage's part is known at once: nobody waits
/// for storage to confirm what never left.
fn mark_of(outcome: Outcome) -> Mark {
    match outcome {
        Outcome::Delivered(Evidence::Stored) => Mark::new(Sender::Delivered, Storage::Stored),
        Outcome::Delivered(_) => Mark::sent(Sender::Delivered),
        Outcome::Lost { phase: Phase::Dns | Phase::Connect | Phase::Tls, fault: _ }
        | Outcome::Lost { phase: Phase::Confirm, fault: Fault::Refused } => {
            Mark::new(Sender::Lost, Storage::NotStored)
        }
        Outcome::Lost { .. } => Mark::sent(Sender::Lost),
        Outcome::Local { .. } => Mark::sent(Sender::Local),
        Outcome::Missed => Mark::sent(Sender::Missed),
        Outcome::Muted => Mark::sent(Sender::Muted),
    }
}

#[cfg(test)]
mod tests;
