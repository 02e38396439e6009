//! Everything a collector knows, and how it changes.

use std::collections::{BTreeMap, HashMap};

use aviary_core::{
    Catalog, Endpoint, Fault, Ledger, Outcome, Phase, Second, SeriesId, Span, Tag, Timestamp, Vantage,
    catalog::Full,
    losses::{Cause, Loss, Losses},
    mark::{Mark, Sender, Storage},
    verdict::{self, JUDGED_SECONDS, SEEN_SECONDS, Sums, Verdict},
    window::Proof,
};
use aviary_wire::report::{ClosedSlot, Gap, Report, Roster};

use crate::{ServiceOptions, closed_until, settled_until};

/// The most series of all agents together: what one collector is made for.
const SERIES_MAX: usize = 100_000;

/// The most rosters that are remembered; an agent whose roster was forgotten sends it again.
const ROSTERS_MAX: usize = 10_000;

/// How many losses are kept with their phase, fault and address; the ledger counts all of them all the same.
const LOSSES_MAX: usize = 200_000;

/// Slots may be so many seconds ahead of the collector's clock.
pub(crate) const AHEAD_SECONDS_MAX: u64 = 30;

/// Everything a collector knows.
pub(crate) struct State {
    name: String,
    configured: BTreeMap<String, ServiceOptions>,
    started: Second,
    catalog: Catalog,
    ledger: Ledger,
    losses: Losses,
    rosters: HashMap<u64, KnownRoster>,
    agents: BTreeMap<Vantage, AgentSeen>,
    /// Series whose datapoints storage may show, by the name that they carry.
    names: HashMap<Box<str>, SeriesId>,
    /// The first second that storage has shown of each of those series.
    first_stored: HashMap<SeriesId, Second>,
    /// Seconds before this are settled.
    settled_until: Second,
    /// Up to here storage may have kept silent about datapoints that it has.
    untold_until: Second,
    standing: BTreeMap<String, Standing>,
    counts: Counts,
}

struct KnownRoster {
    vantage: Vantage,
    ids: Vec<SeriesId>,
    used: Second,
}

/// What is known of an agent.
pub(crate) struct AgentSeen {
    pub(crate) first_report: Timestamp,
    pub(crate) last_report: Timestamp,
    pub(crate) boot: u64,
    pub(crate) epoch: u32,
    pub(crate) configuration: String,
    pub(crate) dropped: u64,
    pub(crate) series: usize,
    /// How far the agent's wall clock was ahead of ours when its newest report arrived, its way included.
    pub(crate) clock_offset_us: i64,
}

/// A service's verdict, and since when it has been that state.
pub(crate) struct Standing {
    pub(crate) verdict: Verdict,
    pub(crate) since: Second,
    pub(crate) span: Span,
    pub(crate) vantages_seen: usize,
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
    #[error("the report speaks of series {place}, and its roster has {series}")]
    Place { place: u64, series: usize },
    #[error(
        "second {second} is {ahead} s ahead of this collector's clock, at most {AHEAD_SECONDS_MAX} s are accepted; \
         compare the clocks of both hosts"
    )]
    Ahead { second: Second, ahead: u64 },
    #[error("{0}; remove what is no longer probed, or start another collector")]
    Full(#[from] Full),
}

/// What was done with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) slots: u64,
    pub(crate) too_old: u64,
}

impl State {
    pub(crate) fn new(name: String, services: Vec<ServiceOptions>, now: Timestamp) -> Self {
        Self {
            name,
            configured: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
            started: now.second(),
            catalog: Catalog::new(SERIES_MAX),
            ledger: Ledger::new(now.second().plus(AHEAD_SECONDS_MAX)),
            losses: Losses::new(LOSSES_MAX),
            rosters: HashMap::new(),
            agents: BTreeMap::new(),
            names: HashMap::new(),
            first_stored: HashMap::new(),
            settled_until: settled_until(now),
            untold_until: Second(0),
            standing: BTreeMap::new(),
            counts: Counts::default(),
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

    pub(crate) fn standing(&self) -> impl Iterator<Item = (&str, &Standing)> {
        self.standing.iter().map(|(name, standing)| (name.as_str(), standing))
    }

    /// What is configured of a service, or the defaults.
    pub(crate) fn service(&self, name: &str) -> ServiceOptions {
        self.configured.get(name).cloned().unwrap_or_else(|| ServiceOptions::unconfigured(name))
    }

    pub(crate) const fn refused(&mut self) {
        self.counts.refused += 1;
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
        let vantage = match &report.roster {
            Some(roster) => &roster.vantage,
            None => match self.rosters.get(&report.roster_id) {
                Some(known) => &known.vantage,
                None => return Err(Refusal::UnknownRoster(report.roster_id)),
            },
        };
        if let Some((token, allowed)) = token
            && vantage.region != allowed
        {
            let (claimed, token, allowed) = (vantage.region.clone(), token.to_owned(), allowed.to_owned());
            return Err(Refusal::Region { claimed, token, allowed });
        }
        let series = match &report.roster {
            Some(roster) => roster.series.len(),
            None => self.rosters[&report.roster_id].ids.len(),
        };
        check_places(report, series)?;
        self.check_seconds(report, now)?;
        if let Some(roster) = &report.roster {
            self.learn(roster, report.roster_id, now)?;
        }
        let Some(known) = self.rosters.get_mut(&report.roster_id) else {
            return Err(Refusal::UnknownRoster(report.roster_id));
        };
        known.used = now.second();
        let (ids, vantage) = (known.ids.clone(), known.vantage.clone());
        let mut taken = Taken { slots: 0, too_old: 0 };
        for slot in &report.slots {
            taken.slots += 1;
            taken.too_old += u64::from(!self.close(ids[slot.series as usize], slot));
        }
        for gap in &report.gaps {
            for id in &ids[gap.first as usize..(gap.first + gap.count) as usize] {
                taken.slots += gap.span.seconds();
                taken.too_old += self.ledger.merge_span(*id, gap.span, mark_of(gap.outcome));
            }
        }
        self.counts.reports += 1;
        self.counts.too_old += taken.too_old;
        self.see(vantage, report, ids.len(), now);
        Ok(taken)
    }

    fn check_seconds(&self, report: &Report, now: Timestamp) -> Result<(), Refusal> {
        let seconds = report.slots.iter().map(|slot| slot.second);
        let ends = report.gaps.iter().map(|gap| gap.span.until.minus(1));
        match seconds.chain(ends).max() {
            Some(second) if second.0 > now.second().0 + AHEAD_SECONDS_MAX => {
                Err(Refusal::Ahead { second, ahead: second.0 - now.second().0 })
            }
            _ => Ok(()),
        }
    }

    fn learn(&mut self, roster: &Roster, id: u64, now: Timestamp) -> Result<(), Refusal> {
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
            // A first slot long ago says nothing of the seconds before this collector was there to be told.
            let from = told.from.max(self.ledger.held().from);
            if id.0 as usize == known {
                let service = self.service(&series.service);
                let protocol = series.endpoint.protocol();
                let proof = Proof::of(protocol, service.counts_as_delivered, service.storage);
                self.ledger.register(from, proof);
                if service.storage {
                    self.names.insert(told.name.as_str().into(), id);
                }
            } else {
                self.ledger.extend_back(id, from);
            }
            ids.push(id);
        }
        if self.rosters.len() >= ROSTERS_MAX
            && let Some(oldest) = self.rosters.iter().min_by_key(|(_, roster)| roster.used).map(|(id, _)| *id)
        {
            self.rosters.remove(&oldest);
        }
        self.rosters.insert(id, KnownRoster { vantage: roster.vantage.clone(), ids, used: now.second() });
        Ok(())
    }

    /// Merges one slot, and returns whether it is recent enough to be held.
    fn close(&mut self, series: SeriesId, slot: &ClosedSlot) -> bool {
        let held = self.ledger.merge(series, slot.second, mark_of(slot.outcome)).is_ok();
        let loss = |phase, cause| Loss { phase, cause, reached: slot.reached, address: slot.address };
        match slot.outcome {
            Outcome::Lost { phase, fault } if held => {
                self.losses.note(series, slot.second, loss(phase, Cause::Service(fault)));
            }
            Outcome::Local { phase, fault } if held => {
                self.losses.note(series, slot.second, loss(phase, Cause::Local(fault)));
            }
            _ => {}
        }
        held
    }

    fn see(&mut self, vantage: Vantage, report: &Report, series: usize, now: Timestamp) {
        let agent = self.agents.entry(vantage).or_insert_with(|| AgentSeen {
            first_report: now,
            last_report: now,
            boot: report.boot,
            epoch: report.epoch,
            configuration: String::new(),
            dropped: 0,
            series,
            clock_offset_us: 0,
        });
        agent.last_report = agent.last_report.max(now);
        agent.boot = report.boot;
        agent.epoch = report.epoch;
        agent.configuration.clone_from(&report.configuration);
        agent.dropped = report.dropped;
        agent.series = series;
        agent.clock_offset_us = report.wall.0.cast_signed().saturating_sub(now.0.cast_signed());
    }

    /// Storage has a datapoint of this name and second.
    pub(crate) fn stored(&mut self, name: &str, second: Second) {
        let Some(series) = self.names.get(name).copied() else {
            self.counts.unowned += 1;
            return;
        };
        if self.ledger.merge(series, second, Mark::stored(Storage::Stored)).is_ok() {
            self.first_stored.entry(series).and_modify(|first| *first = second.min(*first)).or_insert(second);
        }
    }

    pub(crate) fn storage_untold(&mut self, until: Second) {
        self.untold_until = self.untold_until.max(until);
    }

    /// Says of settled seconds that storage lacks what it has not shown; only of series that it has shown before.
    fn settle(&mut self, now: Timestamp) {
        let until = settled_until(now);
        let from = self.settled_until.max(self.untold_until.plus(1));
        for (series, first) in &self.first_stored {
            let span = Span::new(from.max(*first), until);
            if !span.is_empty() {
                self.ledger.merge_span(*series, span, Mark::stored(Storage::NotStored));
            }
        }
        self.settled_until = self.settled_until.max(until);
    }

    /// Judges each service over the newest closed seconds.
    pub(crate) fn judge(&mut self, now: Timestamp) {
        self.advance(now);
        self.settle(now);
        self.losses.forget_before(self.ledger.held().from);
        let until = closed_until(now);
        let span = Span::before(until, JUDGED_SECONDS);
        let by_endpoint = self.catalog.group(&[Tag::Service, Tag::Endpoint], |_| true);
        let windows = self.ledger.sums(span, &by_endpoint.group_of, by_endpoint.values.len());
        let by_vantage = [Tag::Service, Tag::Kind, Tag::Region, Tag::Zone, Tag::Network, Tag::Node];
        let vantages = self.catalog.group(&by_vantage, |_| true);
        let seen = Span::before(until, SEEN_SECONDS);
        let seen = self.ledger.sums(seen, &vantages.group_of, vantages.values.len());

        let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
        for (values, window) in vantages.values.iter().zip(&seen) {
            sums.entry(&values[0]).or_default().vantages_seen +=
                usize::from(window.unknown < window.scheduled);
        }
        for (values, window) in by_endpoint.values.iter().zip(windows) {
            // The catalog's texts of this tag are endpoints.
            let Ok(endpoint) = values[1].parse::<Endpoint>() else { continue };
            let configured = self.configured.get(&values[0]);
            let required = configured.is_none_or(|service| !service.optional.contains(&values[1]));
            sums.entry(&values[0]).or_default().endpoints.push((endpoint, window, required));
        }
        for name in self.configured.keys() {
            sums.entry(name).or_default();
        }
        let watched_seconds = now.second().0.saturating_sub(self.started.0);
        let judged: Vec<_> = sums.into_iter().map(|(name, sums)| (name.to_owned(), sums)).collect();
        for (name, mut sums) in judged {
            sums.watched_seconds = watched_seconds;
            let verdict = verdict::judge(&self.service(&name).policy, &sums);
            let vantages_seen = sums.vantages_seen;
            let before = self.standing.get(&name).map(|standing| (standing.verdict.state, standing.since));
            let since = match before {
                Some((state, since)) if state == verdict.state => since,
                _ => now.second(),
            };
            if let Some((before, _)) = before
                && before != verdict.state
            {
                tracing::info!(service = name, state = %verdict.state, %before, lost = verdict.window.lost,
                    judged = verdict.window.judged(), "The service's state changed.");
            }
            self.standing.insert(name, Standing { verdict, since, span, vantages_seen });
        }
    }
}

fn check_places(report: &Report, series: usize) -> Result<(), Refusal> {
    let slots = report.slots.iter().map(|slot| u64::from(slot.series) + 1);
    let gaps = report.gaps.iter().map(|gap: &Gap| u64::from(gap.first) + u64::from(gap.count));
    match slots.chain(gaps).max() {
        Some(place) if place > series as u64 => Err(Refusal::Place { place: place - 1, series }),
        _ => Ok(()),
    }
}

/// What an outcome says in four bits. Where nothing can have been sent, storage's part is known at once: nobody waits
/// for storage to confirm what never left.
fn mark_of(outcome: Outcome) -> Mark {
    match outcome {
        Outcome::Delivered(aviary_core::Evidence::Stored) => Mark::new(Sender::Delivered, Storage::Stored),
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
