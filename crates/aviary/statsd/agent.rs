//! What an agent tells: once a second, what was added since.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{Phase, Protocol, Vantage, graphite::sanitise, histogram::Histogram};

use super::{
    Lines, Naming,
    line::{Line, Value},
};
use crate::admin::{
    Source,
    metrics::middle_us,
    standing::{Class, Group, Standing},
};

/// How many timer samples of a phase are sent in one interval. Where more attempts were timed, these are their quantiles
/// (5 %, 15 %, ... 95 %): the server's percentiles stay right, while its count of samples is not the count of slots;
/// that is what the counters are for.
pub(super) const SAMPLES_MAX: u64 = 10;

/// How many lines may be sent in one interval; what is beyond them waits for the next, as part of its difference.
pub(super) const LINES_MAX: usize = 5_000;

/// How an agent's metrics are named: so that agents which share a server are told apart.
pub(crate) fn agent_naming(vantage: &Vantage, tags: bool) -> Naming {
    let (region, node) = (sanitise(&vantage.region).into_owned(), sanitise(&vantage.node).into_owned());
    if tags {
        Naming::Tags("aviary.agent", vec![("region", region), ("node", node)])
    } else {
        Naming::Plain(format!("aviary.agent.{region}.{node}"))
    }
}

/// What the agent of `standing` tells.
pub(crate) fn of_agent(standing: Source) -> Lines {
    let mut told = Told::default();
    Box::new(move || told.since(&standing()))
}

/// What StatsD has been told of each service and protocol.
#[derive(Default)]
pub(super) struct Told {
    groups: BTreeMap<(String, Protocol), Totals>,
    /// Which group is told first: the one for which there was no room before.
    first: usize,
    dropped: u64,
    skipped: u64,
}

#[derive(Default)]
struct Totals {
    outcomes: BTreeMap<Class, u64>,
    phases: [Option<Histogram>; Phase::ALL.len()],
}

impl Told {
    /// What is to be told of an agent that stands so; afterwards it counts as told.
    pub(super) fn since(&mut self, standing: &Standing) -> Vec<Line> {
        let mut lines = gauges(standing);
        for (name, total, told) in [
            ("slots.dropped", standing.dropped, &mut self.dropped),
            ("slots.skipped", standing.skipped, &mut self.skipped),
        ] {
            let added = added_to(told, total);
            lines.extend(added.map(|count| Line { value: Value::Count(count), ..Line::gauge(name, 0) }));
        }
        let (begun, rest) = standing.groups.split_at(self.first.min(standing.groups.len()));
        for (place, group) in rest.iter().chain(begun).enumerate() {
            if lines.len() >= LINES_MAX {
                self.first = (self.first + place) % standing.groups.len();
                break;
            }
            let totals = self.groups.entry((group.service.clone(), group.protocol)).or_default();
            totals.since(group, &mut lines);
        }
        // Of what was removed nothing is kept; if it comes back, it begins anew.
        if self.groups.len() > standing.groups.len() {
            let are = |group: &Group| (group.service.clone(), group.protocol);
            let there: BTreeSet<_> = standing.groups.iter().map(are).collect();
            self.groups.retain(|group, _| there.contains(group));
        }
        lines
    }
}

impl Totals {
    fn since(&mut self, group: &Group, lines: &mut Vec<Line>) {
        let protocol = group.protocol.graphite_name();
        for (class, total) in &group.outcomes {
            let (outcome, _, fault) = class;
            // Not by phase: phases tell where, and that is what /metrics and the collector are for.
            let mut tags = vec![("service", &*group.service), ("protocol", protocol), ("outcome", *outcome)];
            tags.extend(fault.map(|fault| ("fault", fault)));
            let added = added_to(self.outcomes.entry(*class).or_default(), *total);
            lines.extend(added.map(|count| Line::tagged("slots", &tags, Value::Count(count))));
        }
        for ((phase, now), told) in Phase::ALL.iter().zip(&group.phases).zip(&mut self.phases) {
            let Some(now) = now else { continue };
            let samples = samples(&added(told.as_ref(), now));
            let tags = [("service", &*group.service), ("protocol", protocol), ("phase", phase.name())];
            let timer = |micros| Line::tagged("phase", &tags, Value::Timer(micros / 1e3));
            lines.extend(samples.into_iter().map(timer));
            *told = Some(now.clone());
        }
    }
}

/// What `total` has more than `told`, if it has; one that is below what was told has begun anew.
pub(super) fn added_to(told: &mut u64, total: u64) -> Option<u64> {
    let before = std::mem::replace(told, total);
    let added = if total < before { total } else { total - before };
    (added > 0).then_some(added)
}

fn gauges(standing: &Standing) -> Vec<Line> {
    let Standing { spool, shipping, .. } = standing;
    let gauge = Line::gauge;
    let mut gauges = vec![
        gauge("series", standing.series as u64),
        gauge("series.ticking", standing.ticking as u64),
        gauge("spool.slots", spool.slots),
        gauge("spool.bytes", spool.bytes),
        gauge("reports.failures", u64::from(shipping.failures)),
    ];
    if let Some(offset) = shipping.clock_offset_us {
        gauges.push(gauge("clock.apart_us", offset.unsigned_abs()));
    }
    gauges
}

/// How many durations each bucket has more than it had.
pub(super) fn added(told: Option<&Histogram>, now: &Histogram) -> Vec<(usize, u64)> {
    let told: BTreeMap<usize, u64> = told.into_iter().flat_map(Histogram::buckets).collect();
    let more = |(bucket, count): (usize, u64)| {
        let before = told.get(&bucket).copied().unwrap_or(0);
        let more = if count < before { count } else { count - before };
        (bucket, more)
    };
    now.buckets().map(more).filter(|(_, more)| *more > 0).collect()
}

/// Each of a few durations, or the quantiles of many, in microseconds.
pub(super) fn samples(added: &[(usize, u64)]) -> Vec<f64> {
    let all: u64 = added.iter().map(|(_, count)| count).sum();
    let count = all.min(SAMPLES_MAX);
    let mut samples = Vec::with_capacity(count as usize);
    let (mut place, mut passed) = (added.iter(), 0);
    let mut current = place.next();
    for number in 0..count {
        // The middle of each of `count` equal parts.
        let rank = (2 * number + 1) * all / (2 * count);
        while let Some((_, many)) = current.filter(|(_, many)| passed + many <= rank) {
            passed += many;
            current = place.next();
        }
        samples.extend(current.map(|(bucket, _)| middle_us(*bucket)));
    }
    samples
}
