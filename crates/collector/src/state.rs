//! Everything a collector knows, and how it changes.

mod agent;
mod check;
mod clock;
mod counted;
mod fleet;
mod judge;
mod kept;
mod past;
mod places;
mod readback;
mod receive;
mod schedule;
mod steer;
mod watch;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aviary_core::{
    Catalog, Evidence, Fault, Ledger, Outcome, Phase, Protocol, Second, SeriesId, Span, Tag, Timestamp,
    Vantage,
    catalog::Full,
    ledger::OutOfReach,
    losses::{Cause, Loss, Losses},
    mark::{Mark, Sender, Storage},
    window::Proof,
};
use aviary_wire::{
    clock::ClockOffset,
    report::{ClosedSlot, Gap, Report, Roster},
};

pub(crate) use self::{
    agent::AgentSeen,
    judge::{Judged, Standing},
    kept::Texts,
    places::{ByPlace, Cells, Place},
    readback::{ReadBack, ReadBackBody},
    watch::{Asked, Endpoint, Key, LateAsked, Seen, Watch, WindowSeen, found},
};
pub use self::{
    counted::{Phases, SlotCounts},
    readback::ReadBackFigures,
};
use crate::{
    ServiceOptions,
    access::Reporter,
    events::{Event, Events},
    received::Received,
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
    rosters: HashMap<RosterKey, KnownRoster>,
    /// How many series were first heard of under each token.
    introduced: BTreeMap<Arc<str>, usize>,
    agents: BTreeMap<Vantage, AgentSeen>,
    events: Events,
    /// What agents told that they paged by themselves, until it is judged.
    paged: Vec<aviary_core::incident::Fallback>,
    stored: StoredSeries,
    received: Received,
    /// The services that are read back.
    read_back: BTreeMap<String, ReadBack>,
    /// Seconds before this are settled.
    settled_until: Second,
    /// Up to here storage may have kept silent about datapoints that it has.
    untold_until: Second,
    standing: BTreeMap<String, Standing>,
    /// None while it is to be made anew.
    judged: Option<Judged>,
    counts: Counts,
    refusal_told: Second,
    past: Option<past::Past>,
    watch: Watch,
    counted: counted::Counted,
    /// None while it is to be made anew.
    steered: Option<steer::Steered>,
}

/// A roster, and the token under which it came. Its id is a hash that whoever likes can meet, so that it alone would let
/// one agent speak for another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct RosterKey {
    /// The token's name.
    pub(crate) token: Arc<str>,
    pub(crate) id: u64,
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
    #[error("node `{claimed}` may not be reported under token `{token}`, which is for `{allowed}` only")]
    Node { claimed: String, token: String, allowed: String },
    #[error("slots that come late wait to be merged, and there is room for no more; come back in a moment")]
    Backlog,
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
        "{0}, and each that was ever reported counts: give nodes names that last, or let another collector take some of \
         the agents"
    )]
    Full(#[from] Full),
    #[error(
        "token `{token}` brought {known} series and may bring {limit}, so that {new} more are not taken; raise its \
         `series` in [[collector.token]], or see why its agents have new names"
    )]
    Series { token: String, known: usize, limit: usize, new: usize },
}

/// What was done with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) slots: u64,
    pub(crate) too_old: u64,
    pub(crate) ahead: u64,
    /// Slots that were lost in seconds that had passed: somebody may have to be woken.
    pub(crate) lost: u64,
}

impl State {
    pub(crate) fn new(name: String, services: Vec<ServiceOptions>, now: Timestamp) -> Self {
        let read_back = services.iter().filter_map(|service| {
            Some((service.name.clone(), ReadBack::new(service.readback.clone()?, now)))
        });
        Self {
            name,
            read_back: read_back.collect(),
            configured: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
            started: now.second(),
            watching_since: now.second(),
            catalog: Catalog::new(SERIES_MAX),
            ledger: Ledger::new(now.second().plus(AHEAD_SECONDS_MAX)),
            losses: Losses::new(LOSSES_MAX),
            rosters: HashMap::new(),
            introduced: BTreeMap::new(),
            agents: BTreeMap::new(),
            events: Events::default(),
            paged: Vec::new(),
            stored: StoredSeries::default(),
            received: Received::default(),
            settled_until: settled_until(now),
            untold_until: Second(0),
            standing: BTreeMap::new(),
            judged: None,
            counts: Counts::default(),
            refusal_told: Second(0),
            past: None,
            watch: Watch::default(),
            counted: counted::Counted::default(),
            steered: None,
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

    pub(crate) const fn received(&self) -> &Received {
        &self.received
    }

    pub(crate) const fn events(&self) -> &Events {
        &self.events
    }

    /// The newest second of which anything was told in this life.
    pub(crate) const fn newest_told(&self) -> Option<Second> {
        self.watch.newest()
    }

    /// What agents told that they paged by themselves, each told once.
    pub(crate) fn take_paged(&mut self) -> Vec<aviary_core::incident::Fallback> {
        std::mem::take(&mut self.paged)
    }

    /// Notes an event that somebody told.
    pub(crate) fn note_event(&mut self, event: Event) {
        self.events.note(event);
    }

    pub(crate) fn standing(&self) -> impl Iterator<Item = (&str, &Standing)> {
        self.standing.iter().map(|(name, standing)| (name.as_str(), standing))
    }

    /// Judges these services from now on.
    pub(crate) fn configure(&mut self, services: Vec<ServiceOptions>, now: Timestamp) {
        self.forget_nameless(&services);
        self.configured = services.into_iter().map(|service| (service.name.clone(), service)).collect();
        self.judged = None;
        self.steered = None;
        self.watch.forget_groups();
        for id in self.catalog.ids() {
            let Ok(protocol) = self.catalog.tag(id, Tag::Protocol).parse() else { continue };
            let proof = self.proof(self.catalog.tag(id, Tag::Service), protocol);
            if self.ledger.proof(id) != proof {
                self.proof_changes(id);
                self.ledger.prove(id, proof);
            }
        }
        self.configure_read_back(now);
    }

    /// What is configured of a service, or the defaults.
    pub(crate) fn service(&self, name: &str) -> Cow<'_, ServiceOptions> {
        let unconfigured = || Cow::Owned(ServiceOptions::unconfigured(name));
        self.configured.get(name).map_or_else(unconfigured, Cow::Borrowed)
    }

    /// What shows delivery to a service over a protocol.
    fn proof(&self, service: &str, protocol: Protocol) -> Proof {
        let service = self.service(service);
        Proof::of(protocol, service.counts_as_delivered, service.storage)
    }

    /// Counts a refusal, and returns whether none was told in this second.
    pub(crate) fn refused(&mut self, now: Timestamp) -> bool {
        self.counts.refused += 1;
        std::mem::replace(&mut self.refusal_told, now.second()) != now.second()
    }

    /// Lets time go on.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.seal(now);
        self.ledger.advance(now.second().plus(AHEAD_SECONDS_MAX));
        self.give_up_waiting(now);
        self.follow();
    }

    /// How many series were first heard of under a token.
    pub(crate) fn introduced(&self, token: &str) -> usize {
        self.introduced.get(token).copied().unwrap_or(0)
    }

    /// Takes a report whole, or not at all. Without a `reporter` it may tell of anybody.
    pub(crate) fn take(
        &mut self,
        report: &Report,
        reporter: Option<&Reporter>,
        now: Timestamp,
    ) -> Result<Taken, Refusal> {
        self.advance(now);
        let anybody = Reporter::default();
        let reporter = reporter.unwrap_or(&anybody);
        let key = RosterKey { token: Arc::clone(&reporter.token), id: report.roster_id };
        // Whose slots these are, is what the roster says that is known here, if it is.
        let known = self.rosters.get(&key);
        let (vantage, series) = match (known, &report.roster) {
            (Some(known), _) => (&*known.vantage, known.series.len()),
            (None, Some(roster)) => (&roster.vantage, roster.series.len()),
            (None, None) => return Err(Refusal::UnknownRoster(report.roster_id)),
        };
        check::vantage(vantage, reporter)?;
        check::places(report, series)?;
        check::seconds(report, now)?;
        check::gaps(report, self.ledger.held(), self.oldest(Second(0)))?;
        self.check_room(report)?;
        if let Some(roster) = &report.roster {
            self.learn(roster, &key, reporter)?;
        }
        let Some(known) = self.rosters.get(&key).cloned() else {
            return Err(Refusal::UnknownRoster(report.roster_id));
        };
        let mut taken = Taken { slots: 0, too_old: 0, ahead: 0, lost: 0 };
        for slot in &report.slots {
            taken.slots += 1;
            match self.close(known.series[slot.series as usize], slot) {
                Ok(is_lost) => taken.lost += u64::from(is_lost && slot.second < now.second()),
                Err(OutOfReach::TooOld { .. }) => taken.too_old += 1,
                Err(OutOfReach::TooNew { .. }) => taken.ahead += 1,
            }
        }
        for gap in &report.gaps {
            for series in &known.series[gap.first as usize..(gap.first + gap.count) as usize] {
                self.skip(*series, gap, &mut taken);
            }
            self.late_gap(&known, gap);
        }
        self.hand_over();
        self.take_timings(&known, report, now);
        self.counts.reports += 1;
        self.counts.too_old += taken.too_old;
        self.counts.ahead += taken.ahead;
        self.see(&known, &key, report, now);
        self.warn_of_unheld(&known.vantage, taken);
        Ok(taken)
    }

    /// Notes what the agent that sent a report had measured of our clock.
    pub(crate) fn measured(&mut self, report: &Report, reporter: &Reporter, measured: ClockOffset) {
        let key = RosterKey { token: Arc::clone(&reporter.token), id: report.roster_id };
        let vantage = self.rosters.get(&key).map(|known| &known.vantage);
        if let Some(agent) = vantage.and_then(|vantage| self.agents.get_mut(&**vantage)) {
            agent.measured(report.boot, measured);
        }
    }

    /// The node of the vantage that sent a report.
    pub(crate) fn node_of(&self, report: &Report, reporter: &Reporter) -> Option<String> {
        let key = RosterKey { token: Arc::clone(&reporter.token), id: report.roster_id };
        self.rosters.get(&key).map(|known| known.vantage.node.clone())
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

    fn learn(&mut self, roster: &Roster, key: &RosterKey, reporter: &Reporter) -> Result<(), Refusal> {
        if self.rosters.contains_key(key) {
            return Ok(());
        }
        let new = roster.series().filter(|series| self.catalog.find(series).is_none()).count();
        check::series(self.introduced(&key.token), new, reporter)?;
        if self.catalog.len() + new > SERIES_MAX {
            return Err(Full { limit: SERIES_MAX }.into());
        }
        let held = self.catalog.len();
        let mut ids = Vec::with_capacity(roster.series.len());
        for (series, told) in roster.series().zip(&roster.series) {
            let known = self.catalog.len();
            let id = self.catalog.intern(&series)?;
            if id.0 as usize == known {
                let proof = self.proof(&series.service, series.endpoint.protocol());
                // What was before this collector is none of its business, unless a slot from then is told.
                self.ledger.register(told.from.max(self.started), proof);
            } else {
                self.ledger.extend_back(id, told.from.max(self.started));
            }
            if self.service(&series.service).storage {
                self.stored.carry(id, &told.name);
                self.received.expect(&told.name);
                self.read_back_as(id, &series.service, &told.name);
            }
            ids.push((id, told.from));
        }
        *self.introduced.entry(Arc::clone(&key.token)).or_default() += self.catalog.len() - held;
        let (vantage, since) = (Arc::new(roster.vantage.clone()), roster.since);
        self.rosters.insert(key.clone(), KnownRoster { vantage, since, series: ids.into() });
        self.receive_waiting();
        Ok(())
    }

    /// Merges one slot of a series and its first full slot, here if it is held, and in the history if it is late. Returns whether
    /// it was lost.
    fn close(&mut self, (series, first): (SeriesId, Second), slot: &ClosedSlot) -> Result<bool, OutOfReach> {
        let outcome = self.as_it_counts(series, slot.outcome);
        let reached = slot.reached.or(match slot.outcome {
            Outcome::Delivered(evidence) => Some(evidence),
            _ => None,
        });
        let loss = loss_of(outcome).map(|loss| Loss { reached, address: slot.address, ..loss });
        let is_late = self.late((series, first), slot.second, mark_of(outcome), loss);
        self.watch.touch(slot.second);
        match self.ledger.merge(series, slot.second, mark_of(outcome)) {
            Err(OutOfReach::TooOld { .. }) if is_late => return Ok(loss.is_some()),
            merged => merged?,
        };
        self.ledger.extend_back(series, slot.second);
        if let Some(loss) = loss {
            self.losses.note(series, slot.second, loss);
        }
        Ok(loss.is_some())
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

    fn skip(&mut self, (series, first): (SeriesId, Second), gap: &Gap, taken: &mut Taken) {
        let held = self.ledger.held();
        let inside = gap.span.intersection(held);
        taken.slots += gap.span.seconds();
        taken.too_old += Span::new(gap.span.from, gap.span.until.min(self.oldest(first))).seconds();
        taken.ahead += Span::new(gap.span.from.max(held.until), gap.span.until).seconds();
        if inside.is_empty() {
            return;
        }
        self.watch.touch_span(inside);
        self.ledger.merge_span(series, inside, mark_of(gap.outcome));
        self.ledger.extend_back(series, inside.from);
        if let Some(loss) = loss_of(gap.outcome) {
            inside.iter().for_each(|second| self.losses.note(series, second, loss));
        }
    }

    /// Storage has a datapoint of this name and second.
    pub(crate) fn stored(&mut self, name: &str, second: Second) {
        let Some(series) = self.stored.owner(name) else {
            self.counts.unowned += 1;
            return;
        };
        let mark = Mark::stored(Storage::Stored);
        let is_late = self.late((series, Second(0)), second, mark, None);
        self.watch.touch(second);
        if self.ledger.merge(series, second, mark).is_ok() || is_late {
            self.stored.shown(series, second);
        }
    }

    /// It is known by itself whether storage has `second` of a series.
    pub(crate) fn told_of_storage(&mut self, series: SeriesId, second: Second, storage: Storage) {
        self.watch.touch(second);
        // What is out of reach is told by nobody.
        _ = self.ledger.merge(series, second, Mark::stored(storage));
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

/// What an outcome that tells of a failure says of it, by itself.
fn loss_of(outcome: Outcome) -> Option<Loss> {
    let (phase, cause) = match outcome {
        Outcome::Lost { phase, fault } => (phase, Cause::Service(fault)),
        Outcome::Local { phase, fault } => (phase, Cause::Local(fault)),
        Outcome::Delivered(_) | Outcome::Missed | Outcome::Muted => return None,
    };
    Some(Loss { phase, cause, reached: None, address: None })
}

#[cfg(test)]
mod tests;
