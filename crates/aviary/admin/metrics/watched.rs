//! What a collector watches: services, their slots, and how long phases take.

use std::fmt;

use aviary_collector::{ServiceFigures, SlotCounts};
use aviary_core::{Phase, State, Window};
use prometheus_client::{metrics::MetricType, registry::Unit};

use super::{Page, collector::Snapshot, count_of, signed, timings_of};

/// What a slot is, and how many are that: the seven that add up to what was scheduled.
pub(crate) type Class = (&'static str, fn(&Window) -> u64);

pub(crate) const CLASSES: [Class; 7] = [
    ("delivered", |it| it.delivered),
    ("lost", |it| it.lost),
    ("local", |it| it.local),
    ("missed", |it| it.missed),
    ("muted", |it| it.muted),
    ("unproven", |it| it.unproven),
    ("unknown", |it| it.unknown),
];

fn labels(counts: &SlotCounts) -> [(&'static str, &str); 3] {
    [("service", &counts.service), ("protocol", &counts.protocol), ("region", &counts.region)]
}

fn of_class<'a>(counts: &'a SlotCounts, class: &'static str) -> [(&'static str, &'a str); 4] {
    let [service, protocol, region] = labels(counts);
    [service, protocol, region, ("outcome", class)]
}

impl Snapshot {
    pub(super) fn slots(&self, page: &mut Page<'_>) -> fmt::Result {
        let slots = &self.figures.slots;
        let help = "Slots by what came of them, as they stood a minute after their second.";
        let mut family = page.family("aviary_service_slots", help, None, MetricType::Counter)?;
        for counts in slots {
            for (class, count) in CLASSES {
                count_of(&mut family.encode_family(&of_class(counts, class))?, &count(&counts.total))?;
            }
        }
        let help = "Of the slots that were lost: found stored afterwards.";
        let mut family = page.family("aviary_service_slots_late", help, None, MetricType::Counter)?;
        for counts in slots {
            count_of(&mut family.encode_family(&labels(counts))?, &counts.total.late)?;
        }
        // Of what nobody probes any more there is nothing new.
        let alive = || slots.iter().filter(|counts| counts.recent.scheduled > 0);
        let help = "Slots of the newest 60 closed seconds by what came of them.";
        let mut family = page.family("aviary_service_recent_slots", help, None, MetricType::Gauge)?;
        for counts in alive() {
            for (class, count) in CLASSES {
                let value = signed(count(&counts.recent));
                family.encode_family(&of_class(counts, class))?.encode_gauge(&value)?;
            }
        }
        let help = "Delivered of delivered and lost slots in the newest 60 closed seconds.";
        let name = "aviary_service_delivery_ratio";
        let mut family = page.family(name, help, None, MetricType::Gauge)?;
        for (counts, rate) in alive().filter_map(|counts| Some((counts, counts.recent.rate()?))) {
            family.encode_family(&labels(counts))?.encode_gauge(&rate)?;
        }
        let help =
            "Groups of service, protocol and region that are summed as (others), beyond the bound on labels.";
        page.gauge("aviary_service_groups_left_out", help, None, &self.figures.groups_left_out)
    }

    pub(super) fn services(&self, page: &mut Page<'_>) -> fmt::Result {
        let services = &self.figures.services;
        let help = "Whether the service is in this state.";
        let mut family = page.family("aviary_service_state", help, None, MetricType::Gauge)?;
        for service in services {
            for state in State::ALL {
                let labels = [("service", service.name.as_str()), ("state", state.name())];
                family.encode_family(&labels)?.encode_gauge(&i64::from(service.state == *state))?;
            }
        }
        let help = "Whether the service is in this state over this protocol.";
        let mut family = page.family("aviary_service_protocol_state", help, None, MetricType::Gauge)?;
        for service in services {
            for (protocol, now) in &service.protocols {
                for state in State::ALL {
                    let labels = [
                        ("service", service.name.as_str()),
                        ("protocol", protocol.name()),
                        ("state", state.name()),
                    ];
                    family.encode_family(&labels)?.encode_gauge(&i64::from(now == state))?;
                }
            }
        }
        type Number = fn(&ServiceFigures) -> f64;
        let numbers: [(&str, &str, Option<&Unit>, Number); 5] = [
            (
                "aviary_service_since_timestamp",
                "Unix time since which the service is in its state.",
                Some(&Unit::Seconds),
                |it| it.since.0 as f64,
            ),
            ("aviary_service_silenced", "Whether nobody is paged about the service.", None, |it| {
                f64::from(u8::from(it.is_silenced))
            }),
            ("aviary_service_incidents", "Incidents of the service that are not over.", None, |it| {
                it.incidents as f64
            }),
            (
                "aviary_service_acceptable_loss_ratio",
                "The share of slots that the service may lose.",
                None,
                |it| f64::from(it.acceptable_loss_ppm) / 1e6,
            ),
            ("aviary_service_vantages", "Vantages that are seen to probe the service.", None, |it| {
                it.vantages as f64
            }),
        ];
        for (name, help, unit, number) in numbers {
            let mut family = page.family(name, help, unit, MetricType::Gauge)?;
            for service in services {
                let labels = [("service", service.name.as_str())];
                family.encode_family(&labels)?.encode_gauge(&number(service))?;
            }
        }
        let help = "Services that are not told of by name, beyond the bound on labels.";
        page.gauge("aviary_services_left_out", help, None, &self.figures.services_left_out)
    }

    pub(super) fn phases(&self, page: &mut Page<'_>) -> fmt::Result {
        let help =
            "How long each phase of delivered attempts took; the sum is made from buckets, to within 7 %.";
        let name = "aviary_service_phase_duration";
        let mut family = page.family(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (service, protocol, phases) in &self.figures.phases {
            for (phase, timings) in Phase::ALL.iter().zip(phases) {
                let labels =
                    [("service", service.as_str()), ("protocol", protocol.name()), ("phase", phase.name())];
                if let Some(timings) = timings {
                    timings_of(&mut family.encode_family(&labels)?, timings)?;
                }
            }
        }
        Ok(())
    }
}
