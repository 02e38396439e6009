//! Which phases take longer than they should, once a minute.
//!
//! A service says how long each phase may take for 99 of 100 slots. Five whole minutes are looked at, of all its vantages
//! together, and of fewer than 500 slots nothing is said: of so many five may be slower, and whether it were three or nine is
//! chance. So slots that surely took longer (those of buckets that begin above the limit) are held against one in a hundred
//! as lost slots are held against what is acceptable, and only what happens by chance once in a hundred thousand looks is
//! slow: about twice as many as there may be, of a minute's 360 slots. It is well again where no more than one in a hundred
//! took longer, over five minutes and 500 slots again; in between nothing is said.

use std::collections::BTreeMap;

use aviary_core::{
    Phase, Span, Tag, Timestamp,
    detect::tail,
    extent::Blame,
    histogram::{Histogram, lower_bound},
    incident::{Cause, Condition},
    ledger::NO_GROUP,
    page::Severity,
};

use super::{State, conditions::policy};
use crate::{
    ServiceOptions,
    history::{History, HistoryError},
};

/// So many seconds after a minute's end agents have told all of it.
const TOLD_AFTER_SECONDS: u64 = 15;

const MINUTE: u64 = 60;

/// So much is looked at.
const WINDOW_SECONDS: u64 = 300;

/// Of fewer slots nothing is said.
const SAMPLES_MIN: u64 = 500;

/// The share of slots that may take longer.
const SLOWER_SHARE: f64 = 0.01;

/// As improbable must it be that what is seen is chance.
const CHANCE_MAX: f64 = 1e-5;

/// What is asked of the timings.
pub(crate) struct SlowWanted {
    span: Span,
    services: Vec<ServiceOptions>,
    /// Each series' service.
    group_of: Vec<u32>,
}

impl State {
    /// What is to be looked at now, once a minute: as soon as a minute is told of, or later where judgement was held up then. A new
    /// life looks at once.
    pub(crate) fn slow_wanted(&mut self, now: Timestamp) -> Option<SlowWanted> {
        let told = now.second().minus(TOLD_AFTER_SECONDS);
        let until = told.minus(told.0 % MINUTE);
        if self.watched_mut().slow_until.replace(until) == Some(until) {
            return None;
        }
        let span = Span::before(until, WINDOW_SECONDS);
        let (values, group_of) = self.group(&[Tag::Service], None, span.from);
        let services = values.iter().map(|values| self.service(&values[0]).into_owned()).collect();
        Some(SlowWanted { span, services, group_of })
    }
}

impl SlowWanted {
    /// Which phases are slow, and which are not. Reads what was measured; may wait for the disk.
    pub(crate) fn conditions(&self, history: &History) -> Result<Vec<Condition>, HistoryError> {
        let mut measured: BTreeMap<(u32, Phase), Histogram> = BTreeMap::new();
        if self.services.iter().any(|service| !service.alerting.latency_p99.is_empty()) {
            history.timings(self.span, |timed| {
                let group = self.group_of.get(timed.series.0 as usize).copied().unwrap_or(NO_GROUP);
                let service = self.services.get(group as usize);
                if service.is_some_and(|service| service.alerting.latency_p99.contains_key(&timed.phase)) {
                    timed.add_to(measured.entry((group, timed.phase)).or_default());
                }
            })?;
        }
        let mut conditions = Vec::new();
        for (group, service) in (0..).zip(&self.services) {
            for phase in Phase::ALL.iter().copied() {
                match service.alerting.latency_p99.get(&phase) {
                    // Whatever was said of it once is not asked for any more.
                    None => conditions.push(slow(service, phase, None)),
                    Some(limit) => conditions.extend(
                        measured
                            .get(&(group, phase))
                            .and_then(|histogram| judged(service, phase, *limit, histogram)),
                    ),
                }
            }
        }
        Ok(conditions)
    }
}

/// What a histogram says of a phase, if it is enough to say something.
fn judged(service: &ServiceOptions, phase: Phase, limit: u64, histogram: &Histogram) -> Option<Condition> {
    let count = histogram.count();
    let above = histogram.buckets().filter(|(bucket, _)| u64::from(lower_bound(*bucket)) > limit);
    let slower: u64 = above.map(|(_, count)| count).sum();
    let is_slow = slower > 0 && tail::binomial_is_rare(slower as f64, count as f64, SLOWER_SHARE, CHANCE_MAX);
    let is_well = slower as f64 <= SLOWER_SHARE * count as f64;
    if count < SAMPLES_MIN || !is_slow && !is_well {
        return None;
    }
    let p99 = histogram.quantile(0.99).unwrap_or_default();
    let summary = format!(
        "{}: {phase} takes {} ms for one in a hundred, and may take {} ms",
        service.name,
        millis(u64::from(p99)),
        millis(limit)
    );
    let minutes = WINDOW_SECONDS / MINUTE;
    let measured = format!("In {minutes} min {slower} of {count} took longer; one in a hundred may.");
    Some(slow(service, phase, is_slow.then_some((summary, measured))))
}

/// A phase that is slow, with what is said of it and what was measured; none of one that is not.
fn slow(service: &ServiceOptions, phase: Phase, said: Option<(String, String)>) -> Condition {
    let policy = policy(service);
    Condition {
        cause: Cause::Slow { service: service.name.clone(), phase },
        holds: said.is_some(),
        after: 0,
        severity: Severity::Warning,
        services: vec![service.name.clone()],
        measured: said.as_ref().map(|(_, measured)| measured.clone()),
        summary: said.map(|(summary, _)| summary).unwrap_or_default(),
        blame: Blame::Unclear,
        owner: policy.owner,
        runbook: policy.runbook,
        shadow: policy.shadow,
    }
}

/// Such as `12.5`, or `200`.
fn millis(micros: u64) -> f64 {
    (micros as f64 / 100.0).round() / 10.0
}
