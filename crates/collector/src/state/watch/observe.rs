//! What the windows of a service say in a second, and whether it can be judged at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aviary_core::{
    AcceptableLoss, Fault, SeriesId, Span, State as Verdict, Tag, Timestamp,
    detect::{
        self, Bank, Tally, Test, View, WINDOWS,
        gate::{Refusals, is_agreed, is_confirmed, is_refused},
        tail,
    },
    incident::{Firing, Level, Observation, Sight, Unseen},
    ledger::LIVE_SECONDS,
    losses::Cause,
};

use super::{
    Asked, Read, Scene, State, Watch, beside,
    clearing::{cleared, is_gone},
    groups::{Group, Groups, onset},
};

/// What is explained is at most so long: a little less than the ledger holds.
const EXPLAINED_SECONDS_MAX: u64 = LIVE_SECONDS - 60;

/// A window that says that something is lost now.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) level: detect::Level,
    pub(crate) seconds: u64,
    pub(crate) tally: Tally,
    nats: f64,
}

impl State {
    /// What is seen of a service, and where to look for more where something is lost.
    pub(super) fn observe(
        &self,
        name: &str,
        groups: &Groups,
        watch: &mut Watch,
        asked: &Asked,
        read: &mut Read,
        now: Timestamp,
    ) -> (Observation, Option<Scene>) {
        let until = now.second();
        let service = self.service(name);
        let alerting = &service.alerting;
        let min_vantages = service.policy.min_vantages;
        let policy = alerting.policy(min_vantages, service.owner.as_deref(), service.runbook.as_deref());
        let mut seen = Observation {
            sight: self.sight(name, watch),
            is_starting: self.is_starting(name, now),
            counts: self.count(name, groups, watch, asked, read, until),
            ..Observation::quiet(name, policy)
        };
        let Some(judged) = groups.services.get(name) else { return (seen, None) };
        let test = |group: &Group| group.test(alerting.burst);
        if let Some(clearing) = asked.clearing.get(name) {
            if let Some(seconds) = cleared(judged, service.storage, *clearing, &test, &mut watch.rates) {
                watch.cleared.insert(name.to_owned(), until.minus(seconds));
                watch.is_news = true;
                seen.clear = true;
                return (seen, None);
            }
            if is_gone(judged, service.storage, *clearing, &test, &watch.rates) {
                return (seen, None);
            }
        }
        let longest = WINDOWS[WINDOWS.len() - 1];
        let looked_at = match watch.cleared.get(name) {
            Some(from) if until.0 - from.0.min(until.0) < longest => until.0 - from.0.min(until.0),
            _ => {
                watch.cleared.remove(name);
                longest
            }
        };
        let strongest = judged
            .groups
            .iter()
            .flat_map(|group| judged.views(group, service.storage).map(move |bank| (group, bank)))
            .filter_map(|(group, bank)| {
                let test = test(group);
                let found = found(bank, &test, looked_at.saturating_sub(until.0 - bank.until().0));
                Some((group, bank, test, found.first().copied()?, found))
            })
            .max_by(|(.., left, _), (.., right, _)| {
                left.level.cmp(&right.level).then_with(|| left.nats.total_cmp(&right.nats))
            });
        let Some((group, bank, test, first, mut found)) = strongest else { return (seen, None) };
        let looked_at = looked_at.saturating_sub(until.0 - bank.until().0);
        let until = bank.until();
        let life = group.judged_seconds(until);
        // Of those that reach back before its life, each says what the shortest does.
        let mut is_whole = false;
        found.retain(|found| found.seconds < life || !std::mem::replace(&mut is_whole, true));
        let first = sharpest(bank, &test, first, looked_at);
        if found[0].seconds != first.seconds {
            found.insert(0, first);
        }
        seen.onset = Some(onset(bank, first.seconds, life));
        let seconds = first.seconds.min(EXPLAINED_SECONDS_MAX);
        let span = Span::before(until, seconds);
        let tallies = read
            .tallies
            .entry((span, service.storage, judged.final_until))
            .or_insert_with(|| groups.windows(&self.ledger, span, name, service.storage));
        let kin = judged.of_kinds(groups, group);
        let level = |rest| test.level(first.seconds, rest);
        if let Some(why) = self.suspects_alone(groups, &kin, tallies, span, level) {
            watch.set_apart.insert(name.to_owned(), why);
            return (seen, None);
        }
        let worst_of = |numbers: &[u32], cells: &[usize]| worst(numbers, cells, tallies, test.acceptable());
        let (vantages, worst_vantage) = worst_of(&groups.vantage_of, &kin);
        let (networks, worst_network) = worst_of(&groups.network_of, &kin);
        let whole = kin.iter().fold(Tally::default(), |sum, cell| sum + tallies[*cell]);
        let agreed = |worst| is_agreed(&test, first.seconds, whole, worst);
        let all: Vec<usize> = judged.cells.clone().collect();
        (seen.seen_from, _) = worst_of(&groups.vantage_of, &all);
        seen.vantages = if agreed(worst_vantage) { vantages } else { vantages.min(1) };
        seen.networks = if agreed(worst_network) { networks } else { networks.min(1) };
        seen.level = match first.level {
            detect::Level::Firing => Level::Full,
            _ if self.is_refused(groups, &kin, &test, span, tallies) => Level::Full,
            _ => Level::Suspected,
        };
        seen.confirmed = true;
        seen.is_down = judged.is_down(groups, until, first.seconds);
        seen.firing = found
            .iter()
            .map(|found| Firing {
                seconds: found.seconds,
                reach: found.seconds.min(life),
                scheduled: groups.scheduled(group, found.seconds, until).max(found.tally.judged),
                judged: found.tally.judged,
                lost: found.tally.lost,
                threshold: test
                    .needed(found.seconds, found.tally.judged, found.level)
                    .unwrap_or(found.tally.lost),
                acceptable: AcceptableLoss::of_million(group.acceptable),
            })
            .collect();
        let cells = judged.cells.clone();
        let counts = cells
            .map(|cell| aviary_core::extent::Counts {
                judged: tallies[cell].judged,
                lost: tallies[cell].lost,
                acceptable: groups.acceptable[cell],
            })
            .collect();
        let all = read.beside.entry((span, service.storage, judged.final_until));
        let all = all.or_insert_with(|| beside::by_vantage(groups, tallies));
        let beside = beside::of_others(groups, judged.cells.clone(), tallies, all);
        let scene = Scene { fleet: Arc::clone(&judged.population), counts, beside };
        (seen, Some(scene))
    }

    /// That nothing is lost but what agents tell that suspected themselves in `span`, in words: their own controls failed as well.
    fn suspects_alone(
        &self,
        groups: &Groups,
        cells: &[usize],
        tallies: &[Tally],
        span: Span,
        level: impl Fn(Tally) -> detect::Level,
    ) -> Option<String> {
        let suspects = self.agents.iter().filter(|(_, agent)| agent.is_suspect(span));
        let suspects: BTreeSet<&str> = suspects.map(|(vantage, _)| &*vantage.node).collect();
        let (theirs, trusted): (Vec<usize>, Vec<usize>) =
            cells.iter().copied().partition(|cell| suspects.contains(groups.node(*cell)));
        let rest = trusted.into_iter().fold(Tally::default(), |sum, cell| sum + tallies[cell]);
        let is_theirs = !suspects.is_empty() && level(rest) == detect::Level::Quiet;
        is_theirs.then(|| {
            let losing = theirs.into_iter().filter(|cell| tallies[*cell].lost > 0);
            let nodes: BTreeSet<&str> = losing.map(|cell| groups.node(cell)).collect();
            let nodes: Vec<&str> = nodes.into_iter().collect();
            format!("set apart is what {} says, whose own controls fail", nodes.join(", "))
        })
    }

    /// Whether a service can be judged.
    fn sight(&self, name: &str, watch: &Watch) -> Sight {
        let Some(standing) = self.standing.get(name) else { return Sight::Measured };
        if standing.verdict.state != Verdict::Blind {
            return Sight::Measured;
        }
        let mut regions = watch.regions.values();
        let unseen = match &standing.storage_untold {
            Some(_) => Unseen::Storage,
            None if regions.any(|region| !region.is_seen && region.services.contains(name)) => Unseen::Region,
            None => Unseen::Reports,
        };
        let reason = standing.verdict.reason.clone();
        let reason = reason.unwrap_or_else(|| "too little of it is reported".to_owned());
        Sight::CannotTell { reason, unseen }
    }

    /// Whether a service, or this collector, is too young to be trusted.
    pub(in crate::state) fn is_starting(&self, name: &str, now: Timestamp) -> bool {
        // A minute of the ledger from before a restart is as good as a minute of watching.
        let is_new = |standing: &crate::state::Standing| standing.verdict.state == Verdict::Starting;
        let watched = now.second().0.saturating_sub(self.started.0);
        let grace = self.service(name).alerting.start_up_grace;
        watched < aviary_core::verdict::SAMPLES_MIN.min(grace) || self.standing.get(name).is_some_and(is_new)
    }

    /// Whether what is lost was refused, over every protocol.
    fn is_refused(
        &self,
        groups: &Groups,
        cells: &[usize],
        test: &Test,
        span: Span,
        tallies: &[Tally],
    ) -> bool {
        let protocols = |lost: bool| -> BTreeSet<&str> {
            let counts = |cell: &usize| if lost { tallies[*cell].lost } else { tallies[*cell].judged };
            cells.iter().copied().filter(|cell| counts(cell) > 0).map(|cell| groups.protocol(cell)).collect()
        };
        let judged_protocols = protocols(false);
        if judged_protocols.len() < 2 || protocols(true).len() < judged_protocols.len() {
            return false;
        }
        let mut refused: BTreeSet<&str> = BTreeSet::new();
        let mut slots = 0;
        for (_, series, loss) in self.losses.within(span) {
            let SeriesId(place) = series;
            let cell = groups.cell_of.get(place as usize).map_or(usize::MAX, |cell| *cell as usize);
            if loss.cause == Cause::Service(Fault::Refused) && cells.binary_search(&cell).is_ok() {
                slots += 1;
                refused.insert(self.catalog.tag(series, Tag::Protocol));
            }
        }
        let all = cells.iter().map(|cell| tallies[*cell].judged).sum();
        let refusals = Refusals { slots, protocols: refused.len(), judged_protocols: judged_protocols.len() };
        is_refused(test, span.seconds(), all, refusals)
    }
}

/// The windows of a bank that say that something is lost now, the strongest first; of those that are not longer than `looked_at`.
pub(crate) fn found<'a>(bank: impl Into<View<'a>>, test: &Test, looked_at: u64) -> Vec<Found> {
    let bank = bank.into();
    if bank.newest(WINDOWS[WINDOWS.len() - 1]).lost == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    // Where the newest lost nothing, none of its parts did.
    let is_lately = bank.newest(Bank::REACH).lost > 0;
    let windows = WINDOWS.into_iter().filter(|seconds| is_lately || *seconds > Bank::REACH);
    for seconds in windows.take_while(|seconds| *seconds <= looked_at) {
        let tally = bank.newest(seconds);
        let level = test.level(seconds, tally);
        if level > detect::Level::Quiet && is_confirmed(test, bank, seconds) {
            found.push(Found::of(test, seconds, tally, level));
        }
    }
    found.sort_by(|left, right| right.level.cmp(&left.level).then_with(|| right.nats.total_cmp(&left.nats)));
    found
}

/// The span that shows the loss best: as long as the loss itself, where that is known to the second. The windows are but a
/// few of all that it could be. It is not longer than `looked_at` either.
fn sharpest(bank: View<'_>, test: &Test, strongest: Found, looked_at: u64) -> Found {
    if strongest.seconds > bank.reach() {
        return strongest;
    }
    let spans = (1..=bank.reach().min(looked_at))
        .map(|seconds| Found::of(test, seconds, bank.newest(seconds), strongest.level));
    let reach = spans.filter(|found| test.level(found.seconds, found.tally) >= strongest.level);
    reach.fold(strongest, |best, found| if found.nats > best.nats { found } else { best })
}

impl Found {
    fn of(test: &Test, seconds: u64, tally: Tally, level: detect::Level) -> Self {
        let nats = tally.judged as f64 * tail::divergence(tally.loss(), test.acceptable())
            / test.burstiness().dispersion();
        Self { level, seconds, tally, nats }
    }
}

/// How many of those that `numbers` tell apart among `cells` lose more than is acceptable, and what the one lost that lost most.
fn worst(numbers: &[u32], cells: &[usize], tallies: &[Tally], acceptable: f64) -> (usize, Tally) {
    let mut sums: BTreeMap<u32, Tally> = BTreeMap::new();
    for cell in cells {
        *sums.entry(numbers[*cell]).or_default() += tallies[*cell];
    }
    let losing = sums.values().filter(|sum| sum.loss() > acceptable).count();
    let worst = sums.values().max_by_key(|sum| sum.lost).copied().unwrap_or_default();
    (losing, worst)
}
