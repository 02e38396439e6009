//! What is seen of each service in a second: all that incidents are made of.
//!
//! Runs once a second, after the verdicts. A second is looked at as soon as it has passed: losses are told at once, and of
//! what nobody has told yet the best is taken until the second is closed, or settled where storage decides. So an outage
//! is seen while it happens, and silence is never a loss.
//!
//! **What counts as lost now** is a window that fires and is confirmed by its newest part. A long window goes on to fire
//! when the loss is over and was cleared; so windows that reach back before the clearing are not looked at until they
//! lie behind it.
//!
//! Under the state's lock, integers are summed. Where loss is, and in which words, is worked out afterwards, by
//! [`Seen::explained`].

mod conditions;
pub(crate) mod groups;
mod scene;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aviary_core::{
    AcceptableLoss, Fault, Second, SeriesId, Span, State as Verdict, Tag, Timestamp, Window,
    detect::{
        self, Bank, Budget, Quiet, Tally, Test, WINDOWS,
        gate::{Outage, Refusals, is_agreed, is_confirmed, is_refused},
        tail,
    },
    extent::{Blame, Extent, Questions},
    incident::{Clearing, Counts, Firing, Level, Observation, Sight},
    ledger::LIVE_SECONDS,
    losses::Cause,
};

use self::groups::{Group, Groups, Judged, OLDER_STEP, Older};
pub(crate) use self::{
    groups::{Endpoint, Key},
    scene::{Scene, Seen},
};
use super::State;
use crate::{
    closed_until,
    history::{Lives, Steps},
    judgement::Pending,
    settled_until,
};

/// What is explained is at most so long: a little less than the ledger holds.
const EXPLAINED_SECONDS_MAX: u64 = LIVE_SECONDS - 60;

/// What came late, older than banks hold by itself, is read again so often.
const REREAD_SECONDS: u64 = 10;

/// Loss that goes on is seen by as many slots as this over its share, but for one time in a thousand: `ln 1000`.
const HIDDEN_NATS: f64 = 6.9;

/// And looked for in so many seconds at least.
const GONE_SECONDS: u64 = 10;

/// Of more cells than this, what is older than the ledger is not read at a start: long windows fill by and by.
const OLDER_CELLS_MAX: usize = 1_000;

/// What was learnt is kept so often.
const LEARNT_SECONDS: u64 = 3_600;

/// What happened this long ago is counted for good.
const COUNTED_AFTER_SECONDS: u64 = 600;

/// What is watched of services, from second to second.
#[derive(Default)]
pub(crate) struct Watch {
    groups: Option<Groups>,
    /// Endpoints of which a slot was delivered once, and since when.
    worked: BTreeMap<Endpoint, Second>,
    /// What an earlier life learnt.
    learnt: BTreeMap<Key, Quiet>,
    /// When the loss of a service was cleared.
    cleared: BTreeMap<String, Second>,
    /// Seconds of which something was told since they were looked at.
    touched: BTreeSet<Second>,
    /// The newest of all of which something was told.
    newest: Option<Second>,
    /// Older ones.
    touched_before: Option<Span>,
    counting: BTreeMap<String, Counting>,
    /// How many slots a second were judged of each group when something began to be lost.
    rates: BTreeMap<Key, f64>,
    regions: BTreeMap<String, Region>,
    /// From where services are looked at.
    nodes: BTreeSet<String>,
    /// The same of the second before: what is not there any more was taken away.
    places: BTreeSet<(Tag, String)>,
    /// What the windows say of each service, as of the newest second.
    said: BTreeMap<String, Verdict>,
    /// Endpoints worked or losses were cleared since that was last kept.
    is_news: bool,
}

/// Who looks from a region.
#[derive(Debug, Default)]
pub(super) struct Region {
    pub(super) services: BTreeSet<String>,
    pub(super) is_seen: bool,
}

/// What is counted of a loss.
struct Counting {
    since: Second,
    /// Up to `until`.
    counts: Counts,
    until: Second,
}

/// What incidents ask about services.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// How loss is to be cleared.
    pub(crate) clearing: BTreeMap<String, Clearing>,
    /// Since when it is counted, and what was counted until when.
    pub(crate) since: BTreeMap<String, (Second, Counts, Second)>,
}

/// Sums by cell that are asked of the history.
pub(crate) struct OlderWanted {
    pub(crate) lives: Lives,
    pub(crate) cell_of: Vec<u32>,
    pub(crate) cells: usize,
    pub(crate) steps: Steps,
    series: usize,
}

/// What was read of the ledger in a second: by cell, for all services.
#[derive(Default)]
struct Read {
    tallies: HashMap<(u64, bool), Vec<Tally>>,
    windows: HashMap<Span, Vec<Window>>,
}

/// A window that says that something is lost now.
#[derive(Clone, Copy)]
struct Found {
    level: detect::Level,
    seconds: u64,
    tally: Tally,
    nats: f64,
}

impl Watch {
    /// Something was told of `second`.
    pub(super) fn touch(&mut self, second: Second) {
        self.touched.insert(second);
        self.newest = self.newest.max(Some(second));
    }

    /// Something was told of `span`.
    pub(super) fn touch_span(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let newest = Span::new(span.from.max(span.until.minus(Bank::REACH)), span.until);
        self.touched.extend(newest.iter());
        self.touch_before(Span::new(span.from, newest.from));
    }

    fn touch_before(&mut self, span: Span) {
        if !span.is_empty() {
            let known = self.touched_before.unwrap_or(span);
            self.touched_before = Some(super::schedule::hull(known, span));
        }
    }

    /// The newest second of which something was told in this life.
    pub(crate) const fn newest(&self) -> Option<Second> {
        self.newest
    }

    /// Others are configured, or judged in another way.
    pub(super) fn forget_groups(&mut self) {
        if let Some(groups) = &mut self.groups {
            groups.series = usize::MAX;
        }
    }

    /// What the windows say of a service, where they can.
    pub(super) fn says(&self, service: &str) -> Option<Verdict> {
        self.said.get(service).copied()
    }

    /// Who looked from where.
    pub(super) fn note_place(&mut self, region: &str, node: &str, service: &str, is_seen: bool) {
        self.nodes.insert(node.to_owned());
        let known = self.regions.entry(region.to_owned()).or_default();
        known.services.insert(service.to_owned());
        known.is_seen |= is_seen;
    }

    pub(super) fn forget_places(&mut self) {
        self.regions.clear();
        self.nodes.clear();
    }

    /// The places from which nobody is to look any more.
    fn removed(&mut self) -> Vec<(Tag, String)> {
        let regions = self.regions.keys().map(|region| (Tag::Region, region.clone()));
        let places = regions.chain(self.nodes.iter().map(|node| (Tag::Node, node.clone()))).collect();
        let before = std::mem::replace(&mut self.places, places);
        before.difference(&self.places).cloned().collect()
    }

    /// What is to be kept of it after the second `until`, if anything.
    fn pending(&mut self, until: Second) -> Pending {
        let mut pending = Pending::default();
        if until.0.is_multiple_of(LEARNT_SECONDS) {
            let groups = self.groups.iter().flat_map(|groups| groups.services.values());
            let learnt = groups.flat_map(Judged::all);
            pending.put_learnt(learnt.map(|group| (group.key.clone(), *group.learning.quiet())));
        }
        if std::mem::take(&mut self.is_news) {
            pending.put_worked(&self.worked, &self.cleared);
        }
        pending
    }

    /// What was judged and lost of a service in about the newest `seconds`.
    #[cfg(test)]
    pub(crate) fn counted(&self, service: &str, seconds: u64) -> Option<Tally> {
        Some(self.groups.as_ref()?.services.get(service)?.groups[0].bank.newest(seconds))
    }

    /// What an earlier life left.
    pub(crate) fn restore(
        &mut self,
        learnt: BTreeMap<Key, Quiet>,
        worked: BTreeMap<Endpoint, Second>,
        cleared: BTreeMap<String, Second>,
    ) {
        self.learnt = learnt;
        self.worked.extend(worked);
        self.cleared = cleared;
        self.groups = None;
    }
}

impl State {
    #[cfg(test)]
    pub(crate) const fn watched(&self) -> &Watch {
        &self.watch
    }

    pub(crate) const fn watched_mut(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Looks at each service, after it was judged at `now`.
    pub(crate) fn watch(&mut self, now: Timestamp, asked: &Asked) -> Seen {
        let until = now.second();
        let groups = self.regroup(until);
        let mut watch = std::mem::take(&mut self.watch);
        let mut groups = groups;
        let lost = self.feed(&mut groups, &mut watch, now);
        let mut read = Read::default();
        let mut services = Vec::new();
        let mut is_quiet: BTreeMap<String, bool> = BTreeMap::new();
        watch.said.clear();
        for name in self.standing.keys() {
            let seen = self.observe(name, &groups, &mut watch, asked, &mut read, now);
            let (mut observation, scene) = seen;
            is_quiet.insert(
                name.clone(),
                observation.level == Level::Quiet && !asked.clearing.contains_key(name),
            );
            // What never worked is no outage, and the service not well all the same: then the sliding minute says it.
            let never_worked = |judged: &Judged| judged.apart.iter().any(|(apart, _)| apart.never_worked);
            if groups.services.get(name).is_some_and(|judged| !never_worked(judged)) {
                let said = match observation.level {
                    Level::Quiet => Verdict::Healthy,
                    _ if observation.is_down => Verdict::Down,
                    _ => Verdict::Degraded,
                };
                watch.said.insert(name.clone(), said);
            }
            observation.lost_seconds = lost.get(name).cloned().unwrap_or_default();
            services.push((observation, scene));
        }
        groups.learn(|name| is_quiet.get(name).copied().unwrap_or(true));
        watch.rates.retain(|key, _| asked.clearing.contains_key(&key.service));
        watch.counting.retain(|name, _| asked.since.contains_key(name));
        let conditions = self.conditions(&groups, &watch, now);
        watch.groups = Some(groups);
        let (removed, pending) = (watch.removed(), watch.pending(until));
        self.watch = watch;
        Seen { services, conditions, removed, pending }
    }

    /// What is asked of the history for groups whose banks lack what is older than the ledger, if there are such.
    pub(crate) fn older_wanted(&mut self) -> Option<OlderWanted> {
        let groups = self.watch.groups.as_ref()?;
        let lacks = groups.services.values().flat_map(Judged::all).any(|group| group.lacks_older);
        if !lacks || groups.cells() > OLDER_CELLS_MAX {
            return None;
        }
        let seam = self.past.as_ref()?.history.visible_until();
        let widest = 2 * OLDER_STEP * 6;
        let from = Second(groups.until.minus(WINDOWS[WINDOWS.len() - 1]).0 / widest * widest);
        let count = seam.0.saturating_sub(from.0) / OLDER_STEP;
        let steps = Steps { from, seconds: OLDER_STEP, count };
        let (cell_of, cells, series) = (groups.older_cells(), groups.cells(), groups.series);
        let (lives, _) = self.lives()?;
        Some(OlderWanted { lives, cell_of, cells, steps, series })
    }

    /// Fills banks with what the history told, unless other groups are judged by now.
    pub(crate) fn take_older(&mut self, wanted: &OlderWanted, windows: Vec<Window>) {
        let older = Older { span: wanted.steps.whole(), windows };
        let is_held = self.ledger.held().from <= older.span.until;
        if let Some(groups) = &mut self.watch.groups
            && is_held
            && (groups.series, groups.cells()) == (wanted.series, wanted.cells)
        {
            groups.rebuild(&self.ledger, Some(&older));
        }
    }

    /// The groups as they are, or made anew where others are judged by now.
    fn regroup(&mut self, until: Second) -> Groups {
        let series = self.catalog.len();
        let held = self.watch.groups.take();
        let (held, until) = match held {
            Some(mut groups) => {
                let reach = Span::new(until.minus(Bank::REACH), until);
                let works = groups.works(&self.ledger, reach);
                if works.is_empty() && groups.series == series {
                    return groups;
                }
                let works = works.into_iter().map(|endpoint| {
                    let since = reach.iter().find(|second| {
                        let span = Span::new(*second, second.plus(1));
                        groups.works(&self.ledger, span).contains(&endpoint)
                    });
                    (endpoint, since.unwrap_or(reach.from))
                });
                self.watch.worked.extend(works.collect::<Vec<_>>());
                self.watch.is_news = true;
                let until = groups.until;
                groups.series = series;
                (Some(groups), until)
            }
            None => (None, until),
        };
        let make = |held, watch: &Watch| {
            Groups::new(
                &self.catalog,
                &self.ledger,
                &self.configured,
                &watch.worked,
                held,
                &watch.learnt,
                until,
            )
        };
        let mut groups = make(held, &self.watch);
        let works = groups.works(&self.ledger, Span::new(self.ledger.held().from, until));
        if !works.is_empty() {
            // Since when, is not looked for: it worked before this life began.
            self.watch.worked.extend(works.into_iter().map(|endpoint| (endpoint, Second(0))));
            self.watch.is_news = true;
            groups = make(Some(groups), &self.watch);
        }
        groups.rebuild(&self.ledger, None);
        groups
    }

    /// Takes in what was told since the last second. Returns the seconds with loss by service.
    fn feed(&self, groups: &mut Groups, watch: &mut Watch, now: Timestamp) -> BTreeMap<String, Vec<Span>> {
        let until = now.second();
        let reach = until.minus(Bank::REACH);
        let newer = watch.touched.split_off(&reach);
        let older = std::mem::replace(&mut watch.touched, newer);
        if let (Some(first), Some(last)) = (older.first(), older.last()) {
            watch.touch_before(Span::new(*first, last.plus(1)));
        }
        let lost = groups.feed(&self.ledger, &watch.touched, until, |name, before| {
            let untold = self.standing.get(name).is_some_and(|standing| standing.storage_untold.is_some());
            match self.configured.get(name) {
                // What storage has cannot be told, and so neither what it lacks.
                Some(service) if service.storage && untold => before,
                Some(service) if service.storage => settled_until(now).max(before),
                _ => closed_until(now).max(before),
            }
        });
        watch.touched.retain(|second| *second >= until);
        if until.0.is_multiple_of(REREAD_SECONDS)
            && let Some(changed) = watch.touched_before.take()
        {
            groups.reread(&self.ledger, changed);
        }
        lost
    }

    fn observe(
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
            service: name.to_owned(),
            policy,
            sight: self.sight(name, watch),
            is_starting: self.is_starting(name, now),
            level: Level::Quiet,
            firing: Vec::new(),
            confirmed: false,
            clear: false,
            is_down: false,
            vantages: 0,
            networks: 0,
            extent: Extent::default(),
            questions: Questions {
                one_zone: aviary_core::extent::Answer::CannotTell,
                one_protocol: aviary_core::extent::Answer::CannotTell,
            },
            blame: Blame::Unclear,
            summary: String::new(),
            counts: self.count(name, groups, watch, asked, read, until),
            lost_seconds: Vec::new(),
        };
        let Some(judged) = groups.services.get(name) else { return (seen, None) };
        let test = |group: &Group| {
            let acceptable = AcceptableLoss::of_million(group.acceptable);
            Test::new(acceptable, Budget::default(), group.burstiness(alerting.burst))
        };
        if let Some(clearing) = asked.clearing.get(name) {
            if let Some(seconds) = cleared(judged, *clearing, &test, &mut watch.rates) {
                watch.cleared.insert(name.to_owned(), until.minus(seconds));
                watch.is_news = true;
                seen.clear = true;
                return (seen, None);
            }
            if is_gone(judged, *clearing, &test, &watch.rates) {
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
            .filter_map(|group| {
                let test = test(group);
                let found = found(group, &test, looked_at);
                Some((group, test, found.first().copied()?, found))
            })
            .max_by(|left, right| {
                left.2.level.cmp(&right.2.level).then_with(|| left.2.nats.total_cmp(&right.2.nats))
            });
        let Some((group, test, first, mut found)) = strongest else { return (seen, None) };
        let first = sharpest(group, &test, first);
        if found[0].seconds != first.seconds {
            found.insert(0, first);
        }
        let seconds = first.seconds.min(EXPLAINED_SECONDS_MAX);
        let span = Span::before(until, seconds);
        let tallies = read
            .tallies
            .entry((seconds, service.storage))
            .or_insert_with(|| groups.windows(&self.ledger, span, name, service.storage));
        let cells = judged.cells.clone();
        let worst_of =
            |numbers: &[u32]| worst(numbers, &tallies[cells.clone()], cells.start, test.acceptable());
        let (vantages, worst_vantage) = worst_of(&groups.vantage_of);
        let (networks, worst_network) = worst_of(&groups.network_of);
        let whole = cells.clone().fold(Tally::default(), |mut sum, cell| {
            sum += tallies[cell];
            sum
        });
        let agreed = |worst| is_agreed(&test, first.seconds, whole, worst);
        seen.vantages = if agreed(worst_vantage) { vantages } else { vantages.min(1) };
        seen.networks = if agreed(worst_network) { networks } else { networks.min(1) };
        seen.level = match first.level {
            detect::Level::Firing => Level::Full,
            _ if self.is_refused(groups, judged, &test, span, tallies) => Level::Full,
            _ => Level::Suspected,
        };
        seen.confirmed = true;
        seen.is_down = judged.groups[0].bank.newest(first.seconds).loss() >= 0.5;
        seen.firing = found
            .iter()
            .map(|found| Firing {
                seconds: found.seconds,
                scheduled: (group.series * found.seconds).max(found.tally.judged),
                judged: found.tally.judged,
                lost: found.tally.lost,
                threshold: test
                    .needed(found.seconds, found.tally.judged, found.level)
                    .unwrap_or(found.tally.lost),
                acceptable: AcceptableLoss::of_million(group.acceptable),
            })
            .collect();
        let counts = cells
            .map(|cell| aviary_core::extent::Counts {
                judged: tallies[cell].judged,
                lost: tallies[cell].lost,
                acceptable: groups.acceptable[cell],
            })
            .collect();
        let scene = Scene { fleet: std::sync::Arc::clone(&judged.population), counts };
        (seen, Some(scene))
    }

    /// Whether a service can be judged.
    fn sight(&self, name: &str, watch: &Watch) -> Sight {
        let Some(standing) = self.standing.get(name) else { return Sight::Measured };
        if standing.verdict.state != Verdict::Blind {
            return Sight::Measured;
        }
        let is_silence = standing.storage_untold.is_none()
            && watch.regions.values().any(|region| !region.is_seen && region.services.contains(name));
        let reason = standing.verdict.reason.clone();
        let reason = reason.unwrap_or_else(|| "too little of it is reported".to_owned());
        Sight::CannotTell { reason, is_silence }
    }

    /// Whether a service, or this collector, is too young to be trusted.
    fn is_starting(&self, name: &str, now: Timestamp) -> bool {
        // A minute of the ledger from before a restart is as good as a minute of watching.
        let is_new = |standing: &super::Standing| standing.verdict.state == Verdict::Starting;
        let watched = now.second().0.saturating_sub(self.started.0);
        let grace = self.service(name).alerting.start_up_grace;
        watched < aviary_core::verdict::SAMPLES_MIN.min(grace) || self.standing.get(name).is_some_and(is_new)
    }

    /// What was counted of a service since its loss began.
    fn count(
        &self,
        name: &str,
        groups: &Groups,
        watch: &mut Watch,
        asked: &Asked,
        read: &mut Read,
        until: Second,
    ) -> Counts {
        let Some((since, counts, counted_until)) = asked.since.get(name).copied() else {
            return Counts::default();
        };
        let counting = watch.counting.entry(name.to_owned()).or_insert_with(|| {
            // Of an earlier life's count the ledger may know the most again.
            let from = self.ledger.held().from;
            if since >= from {
                Counting { since, counts: Counts::default(), until: since }
            } else {
                Counting { since, counts, until: counted_until.max(from) }
            }
        });
        if counting.since > since {
            *counting =
                Counting { since, counts: Counts::default(), until: since.max(self.ledger.held().from) };
        }
        let mut sum = |span: Span| {
            // Services that began to lose together are read together.
            let windows = read.windows.entry(span).or_insert_with(|| groups.sums(&self.ledger, span));
            let cells = groups.services.get(name).map_or(0..0, |judged| judged.cells.clone());
            let window: Window = windows[cells].iter().copied().sum();
            Counts { judged: window.judged(), lost: window.lost, late: window.late }
        };
        let add = |left: Counts, right: Counts| Counts {
            judged: left.judged + right.judged,
            lost: left.lost + right.lost,
            late: left.late + right.late,
        };
        // In steps, so that those that began apart are read together by and by.
        let settled = Second(until.minus(COUNTED_AFTER_SECONDS).0 / 60 * 60);
        if counting.until < settled {
            counting.counts = add(counting.counts, sum(Span::new(counting.until, settled)));
            counting.until = settled;
        }
        add(counting.counts, sum(Span::new(counting.until, until)))
    }

    /// Whether what is lost was refused, over every protocol.
    fn is_refused(
        &self,
        groups: &Groups,
        judged: &Judged,
        test: &Test,
        span: Span,
        tallies: &[Tally],
    ) -> bool {
        let protocols = |lost: bool| -> BTreeSet<&str> {
            let counts = |cell: &usize| if lost { tallies[*cell].lost } else { tallies[*cell].judged };
            judged.cells.clone().filter(|cell| counts(cell) > 0).map(|cell| groups.protocol(cell)).collect()
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
            if loss.cause == Cause::Service(Fault::Refused) && judged.cells.contains(&cell) {
                slots += 1;
                refused.insert(self.catalog.tag(series, Tag::Protocol));
            }
        }
        let all = judged.cells.clone().map(|cell| tallies[cell].judged).sum();
        let refusals = Refusals { slots, protocols: refused.len(), judged_protocols: judged_protocols.len() };
        is_refused(test, span.seconds(), all, refusals)
    }
}

/// The windows of a group that say that something is lost now, the strongest first; of those that are not longer than `looked_at`.
fn found(group: &Group, test: &Test, looked_at: u64) -> Vec<Found> {
    let bank = &group.bank;
    if bank.newest(WINDOWS[WINDOWS.len() - 1]).lost == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    for seconds in WINDOWS.into_iter().take_while(|seconds| *seconds <= looked_at) {
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
/// few of all that it could be.
fn sharpest(group: &Group, test: &Test, strongest: Found) -> Found {
    if strongest.seconds > Bank::REACH {
        return strongest;
    }
    let spans = (1..=Bank::REACH)
        .map(|seconds| Found::of(test, seconds, group.bank.newest(seconds), strongest.level));
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

/// For how many seconds nothing was lost, if that is long enough for every group of a service.
fn cleared(
    judged: &Judged,
    clearing: Clearing,
    test: &impl Fn(&Group) -> Test,
    rates: &mut BTreeMap<Key, f64>,
) -> Option<u64> {
    let mut longest = 0;
    for group in &judged.groups {
        let rate =
            *rates.entry(group.key.clone()).or_insert_with(|| group.bank.newest(60).judged as f64 / 60.0);
        if rate <= 0.0 || group.series == 0 {
            continue;
        }
        let reopened = (clearing.at_least / 30).max(1).ilog2();
        // Where series were taken away, what is left is all that can be judged.
        let judged_per_second = rate.min(group.series as f64);
        let outage = Outage { loss: clearing.loss.max(f64::MIN_POSITIVE), judged_per_second, reopened };
        if !outage.is_clear(&test(group), &group.bank) {
            return None;
        }
        longest = longest.max(outage.clear_seconds());
    }
    (longest > 0).then_some(longest)
}

/// Whether nothing is lost of any group any more, for as long as a loss that goes on is seen in; it has yet to last.
fn is_gone(
    judged: &Judged,
    clearing: Clearing,
    test: &impl Fn(&Group) -> Test,
    rates: &BTreeMap<Key, f64>,
) -> bool {
    judged.groups.iter().all(|group| {
        let rate = rates.get(&group.key).copied().unwrap_or_default().min(group.series as f64);
        // From a float the cast saturates, which the bound takes care of.
        let hidden = (HIDDEN_NATS / (rate * clearing.loss)).ceil() as u64;
        let newest = group.bank.newest(hidden.clamp(GONE_SECONDS, WINDOWS[WINDOWS.len() - 1]));
        rate <= 0.0 || newest.judged > 0 && newest.loss() <= test(group).acceptable()
    })
}

/// How many of those that `numbers` tell apart lose more than is acceptable, and what the one lost that lost most.
fn worst(numbers: &[u32], tallies: &[Tally], first: usize, acceptable: f64) -> (usize, Tally) {
    let mut sums: BTreeMap<u32, Tally> = BTreeMap::new();
    for (number, tally) in numbers[first..].iter().zip(tallies) {
        *sums.entry(*number).or_default() += *tally;
    }
    let losing = sums.values().filter(|sum| sum.loss() > acceptable).count();
    let worst = sums.values().max_by_key(|sum| sum.lost).copied().unwrap_or_default();
    (losing, worst)
}
