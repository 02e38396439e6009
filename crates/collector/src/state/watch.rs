//! What is seen of each service in a second: all that incidents are made of.
//!
//! Runs once a second, after the verdicts, and between two seconds where something lost is told: what is looked at then is
//! the same seconds once more, with what is known of them by now. A second is looked at as soon as it has passed: losses are told at once, and of
//! what nobody has told yet the best is taken until the second is closed, or settled where storage decides. So an outage
//! is seen while it happens, and silence is never a loss.
//!
//! **What counts as lost now** is a window that fires and is confirmed by its newest part. A long window goes on to fire
//! when the loss is over and was cleared; so windows that reach back before the clearing are not looked at until they
//! lie behind it.
//!
//! Under the state's lock, integers are summed. Where loss is, and in which words, is worked out afterwards, by
//! [`Seen::explained`].

mod beside;
mod clearing;
mod conditions;
mod counting;
pub(crate) mod groups;
mod late;
mod observe;
mod scene;
mod slow;
mod windows;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aviary_core::{
    Second, Span, State as Verdict, Tag, Timestamp, Window,
    detect::{Bank, Quiet, Tally, WINDOWS},
    extent::Beside,
    incident::{Clearing, Condition, Counts, Level},
};

use self::{
    counting::Counting,
    groups::{Groups, Judged, OLDER_STEP, Older},
};
pub(crate) use self::{
    groups::{Endpoint, Key},
    late::LateAsked,
    observe::found,
    scene::{Scene, Seen},
    windows::WindowSeen,
};
use super::State;
use crate::{
    closed_until,
    history::{Lives, Steps},
    judgement::Pending,
    settled_until,
};

/// What came late, older than banks hold by itself, is read again so often.
const REREAD_SECONDS: u64 = 10;

/// Of more cells than this, what is older than the ledger is not read at a start: long windows fill by and by.
const OLDER_CELLS_MAX: usize = 1_000;

/// What was learnt is kept so often.
const LEARNT_SECONDS: u64 = 3_600;

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
    /// When all was looked at last: what is done once a second is done by then.
    looked: Option<Second>,
    /// Older ones.
    touched_before: Option<Span>,
    /// Seconds that were settled when something was told of them, since that was last looked at.
    told_late: BTreeSet<Second>,
    /// What is known of phases that take too long, to be said in the next second.
    slow: Vec<Condition>,
    /// The end of the minute up to which was looked at how long phases take.
    slow_until: Option<Second>,
    counting: BTreeMap<String, Counting>,
    /// How many slots a second were judged of each group when something began to be lost.
    rates: BTreeMap<Key, f64>,
    regions: BTreeMap<String, Region>,
    /// From where services are looked at.
    nodes: BTreeSet<String>,
    /// What is looked at.
    endpoints: BTreeSet<String>,
    /// All of these in the second before: what is not there any more was taken away.
    places: BTreeSet<(Tag, String)>,
    /// What the windows say of each service, as of the newest second.
    said: BTreeMap<String, Verdict>,
    /// Services of which nothing is lost but for agents that are set apart, and which those are.
    set_apart: BTreeMap<String, String>,
    /// Endpoints worked or losses were cleared since that was last kept.
    is_news: bool,
}

/// Who looks from a region.
#[derive(Debug, Default)]
pub(super) struct Region {
    pub(super) services: BTreeSet<String>,
    pub(super) is_seen: bool,
}

/// What incidents ask about services.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// How loss is to be cleared.
    pub(crate) clearing: BTreeMap<String, Clearing>,
    /// Since when it is counted, and what was counted until when.
    pub(crate) since: BTreeMap<String, (Second, Counts, Second)>,
    /// Services that lose nothing but from agents that are set apart, and which those are.
    pub(crate) set_apart: BTreeMap<String, String>,
    /// The losses that what comes late may change.
    pub(crate) late: Vec<LateAsked>,
}

impl Asked {
    /// Whether somebody was told that a service lost something in `second`.
    fn was_incident(&self, service: &str, second: Second) -> bool {
        self.late.iter().any(|it| it.service == service && it.life.contains(second))
    }
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
    tallies: HashMap<(Span, bool, Second), Vec<Tally>>,
    /// What all services lose from each vantage.
    beside: HashMap<(Span, bool, Second), HashMap<u32, Beside>>,
    windows: HashMap<Span, Vec<Window>>,
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

    /// The seconds of which something was told when they were settled already; none but every [`REREAD_SECONDS`], since what
    /// is late mostly comes in numbers.
    fn told_late(&mut self, now: Timestamp) -> Vec<Span> {
        // Of these all was known, what storage says of them included.
        let settled = settled_until(now).minus(1);
        self.told_late.extend(self.touched.range(..settled));
        if !now.second().0.is_multiple_of(REREAD_SECONDS) {
            return Vec::new();
        }
        let seconds = std::mem::take(&mut self.told_late).into_iter();
        let spans = seconds.map(|second| Span::new(second, second.plus(1))).chain(self.touched_before);
        spans.collect()
    }

    /// What is known of phases that take too long: said once.
    pub(crate) fn take_slow(&mut self, conditions: Vec<Condition>) {
        self.slow = conditions;
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

    /// Whether a slot of an endpoint was ever delivered.
    pub(super) fn worked(&self, service: &str, endpoint: &str) -> bool {
        self.worked.contains_key(&(service.to_owned(), endpoint.to_owned()))
    }

    /// Which agents are set apart, where nothing is lost of a service but for them.
    pub(super) fn set_apart(&self, service: &str) -> Option<&String> {
        self.set_apart.get(service)
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

    /// What is looked at by anybody.
    pub(super) fn note_endpoints(&mut self, endpoints: BTreeSet<String>) {
        self.endpoints = endpoints;
    }

    /// The places from which nobody is to look any more, and the endpoints at which nobody is to.
    fn removed(&mut self) -> Vec<(Tag, String)> {
        let regions = self.regions.keys().map(|region| (Tag::Region, region.clone()));
        let nodes = self.nodes.iter().map(|node| (Tag::Node, node.clone()));
        let endpoints = self.endpoints.iter().map(|endpoint| (Tag::Endpoint, endpoint.clone()));
        let places = regions.chain(nodes).chain(endpoints).collect();
        let before = std::mem::replace(&mut self.places, places);
        before.difference(&self.places).cloned().collect()
    }

    /// What is to be kept of it after the second `until`, if anything.
    fn pending(&mut self, until: Second, is_first: bool) -> Pending {
        let mut pending = Pending::default();
        if is_first && until.0.is_multiple_of(LEARNT_SECONDS) {
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
        let mut groups = self.regroup(until);
        let mut watch = std::mem::take(&mut self.watch);
        let is_first = watch.looked.replace(until) != Some(until);
        let late_told = if is_first { watch.told_late(now) } else { Vec::new() };
        watch.count_again(&late_told, self.ledger.held().from);
        let lost = self.feed(&mut groups, &mut watch, now, is_first);
        let mut read = Read::default();
        let mut services = Vec::new();
        let mut is_quiet: BTreeMap<String, bool> = BTreeMap::new();
        watch.said.clear();
        watch.set_apart.clear();
        for name in self.standing.keys() {
            let seen = self.observe(name, &groups, &mut watch, asked, &mut read, now);
            let (mut observation, scene) = seen;
            if let Some(why) = asked.set_apart.get(name).filter(|_| observation.level != Level::Quiet) {
                watch.set_apart.insert(name.clone(), why.clone());
            }
            is_quiet.insert(
                name.clone(),
                observation.level == Level::Quiet && !asked.clearing.contains_key(name),
            );
            // What never worked is no outage, and the service not well all the same: then the sliding minute says it.
            let never_worked = |judged: &Judged| judged.apart.iter().any(|(apart, _)| apart.never_worked);
            if groups.services.get(name).is_some_and(|judged| !never_worked(judged)) {
                let said = match observation.level {
                    Level::Quiet => Verdict::Healthy,
                    _ if watch.set_apart.contains_key(name) => Verdict::Healthy,
                    _ if observation.is_down => Verdict::Down,
                    _ => Verdict::Degraded,
                };
                watch.said.insert(name.clone(), said);
            }
            let onset = observation.onset.filter(|onset| {
                // Of what began earlier than was known, all of it is to be told.
                asked.since.get(name).is_none_or(|(since, ..)| onset < since)
            });
            observation.lost_seconds = match (onset, groups.services.get(name)) {
                (Some(onset), Some(judged)) => judged.groups[0].lost_since(onset),
                _ => lost.get(name).cloned().unwrap_or_default(),
            };
            services.push((observation, scene));
        }
        if is_first {
            groups.learn(|name, second| {
                is_quiet.get(name).copied().unwrap_or(true) && !asked.was_incident(name, second)
            });
        }
        watch.rates.retain(|key, _| asked.clearing.contains_key(&key.service));
        watch.counting.retain(|name, _| asked.since.contains_key(name));
        let mut conditions = self.conditions(&groups, &watch, now);
        conditions.append(&mut watch.slow);
        let late = self.late_losses(&groups, &late_told, asked, now);
        let removed = watch.removed();
        for name in removed.iter().flat_map(|(tag, value)| groups.services_in(*tag, value)) {
            // What was lost there says nothing of what is left.
            watch.cleared.insert(name.clone(), until);
            watch.is_news = true;
        }
        watch.groups = Some(groups);
        let pending = watch.pending(until, is_first);
        self.watch = watch;
        Seen { services, conditions, late, removed, pending }
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
        // Where series came meanwhile, the groups are made anew, and it is asked again.
        let is_known = wanted.series >= self.ledger.len();
        if let Some(groups) = &mut self.watch.groups
            && is_held
            && is_known
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
    fn feed(
        &self,
        groups: &mut Groups,
        watch: &mut Watch,
        now: Timestamp,
        is_first: bool,
    ) -> BTreeMap<String, Vec<Span>> {
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
        if is_first
            && until.0.is_multiple_of(REREAD_SECONDS)
            && let Some(changed) = watch.touched_before.take()
        {
            groups.reread(&self.ledger, changed);
        }
        lost
    }
}
