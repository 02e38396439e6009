//! What a collector tells: what was added to slots, reports and pages since, and how services and agents are.
//!
//! | plain, after `aviary.collector.NAME` | with tags, after `aviary.collector` | |
//! |---|---|---|
//! | `slots.SERVICE.PROTOCOL.REGION.OUTCOME` | `slots` `#service,protocol,region,outcome` | counter, a minute late |
//! | `services.STATE`, `agents.STATE` | `services`, `agents` `#state` | gauges: how many are in it |
//! | `incidents.SERVICE` | `incidents` `#service` | gauge: those that are not over |
//! | `reports.taken`, `reports.refused` | `reports` `#result` | counters |
//! | `pages.RECEIVER.taken`, `.refused` | `pages` `#receiver,result` | counters |
//! | `journal.waiting` | `journal.waiting` | gauge |

use std::collections::BTreeMap;

use aviary_collector::{Figures, SlotCounts};
use aviary_core::{State, graphite::sanitise};

use super::{
    Lines, Naming,
    agent::added_to,
    line::{Line, Value},
};
use crate::admin::metrics::CLASSES;

/// How the metrics of the collector called `name` are named.
pub(crate) fn collector_naming(name: &str, tags: bool) -> Naming {
    let name = sanitise(name).into_owned();
    if tags {
        Naming::Tags("aviary.collector", vec![("collector", name)])
    } else {
        Naming::Plain(format!("aviary.collector.{name}"))
    }
}

/// What the collector of `figures` tells.
pub(crate) fn of_collector(figures: impl Fn() -> Figures + Send + 'static) -> Lines {
    let mut told = Told::default();
    Box::new(move || told.since(&figures()))
}

/// What StatsD has been told, by the plain names of counters: as many as the collector tells apart.
#[derive(Default)]
pub(super) struct Told(BTreeMap<String, u64>);

impl Told {
    /// What is to be told of a collector that has counted so; afterwards it counts as told.
    pub(super) fn since(&mut self, figures: &Figures) -> Vec<Line> {
        let mut lines = gauges(figures);
        for counts in &figures.slots {
            let SlotCounts { service, protocol, region, total, .. } = counts;
            for (outcome, count) in CLASSES {
                let tags = [
                    ("service", &**service),
                    ("protocol", &**protocol),
                    ("region", &**region),
                    ("outcome", outcome),
                ];
                lines.extend(self.added("slots", &tags, count(total)));
            }
        }
        for (result, count) in [("taken", figures.counts.reports), ("refused", figures.counts.refused)] {
            lines.extend(self.added("reports", &[("result", result)], count));
        }
        for receiver in &figures.delivery.receivers {
            let refused = receiver.refused.iter().map(|(_, count)| count).sum::<u64>() + receiver.turned_away;
            for (result, count) in [("taken", receiver.delivered), ("refused", refused)] {
                lines.extend(self.added(
                    "pages",
                    &[("receiver", &receiver.receiver), ("result", result)],
                    count,
                ));
            }
        }
        lines
    }

    fn added(&mut self, name: &'static str, tags: &[(&'static str, &str)], total: u64) -> Option<Line> {
        let line = named(name, tags, Value::Count(0));
        let told = self.0.entry(line.plain.clone()).or_default();
        let added = added_to(told, total)?;
        Some(Line { value: Value::Count(added), ..line })
    }
}

/// A metric whose plain name has its tags after its name.
fn named(name: &'static str, tags: &[(&'static str, &str)], value: Value) -> Line {
    let line = Line::tagged(name, tags, value);
    let plain = format!("{name}.{}", line.plain);
    line.plainly(plain)
}

fn gauges(figures: &Figures) -> Vec<Line> {
    let mut gauges = Vec::new();
    for state in State::ALL {
        let count = figures.services.iter().filter(|service| service.state == *state).count();
        gauges.push(named("services", &[("state", state.name())], Value::Gauge(count as u64)));
    }
    for (state, count) in &figures.agents {
        gauges.push(named("agents", &[("state", state)], Value::Gauge(*count)));
    }
    for service in &figures.services {
        let count = Value::Gauge(service.incidents as u64);
        gauges.push(named("incidents", &[("service", &service.name)], count));
    }
    if let Some(journal) = &figures.journal {
        gauges.push(Line::gauge("journal.waiting", journal.waiting as u64));
    }
    gauges
}
