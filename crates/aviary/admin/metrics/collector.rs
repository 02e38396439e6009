//! What a collector counts.

mod example;

use std::fmt;

use aviary_collector::{
    Figures,
    delivery::{DeliveryFigures, SwitchFigures},
};
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, metrics::MetricType, registry::Unit,
};
use serde_json::{Map, Value};

use super::{Format, Page, count_of, open_metrics, series, signed, timings_of};
use crate::admin::process::Process;

/// Stands for a token where none of ours was shown.
const UNKNOWN: &str = "(unknown)";

/// The page of a collector, for whoever sent this `Accept`, with its media type.
pub(crate) fn collector_page(figures: Figures, accept: &str) -> Option<(&'static str, String)> {
    let format = Format::of(accept);
    let text = open_metrics(Snapshot { figures, process: Process::now() }).ok()?;
    Some((format.media_type(), format.write(text)))
}

/// The page of a collector that counts something of everything, as OpenMetrics text.
pub(crate) fn example_page() -> Result<String, fmt::Error> {
    open_metrics(Snapshot { figures: example::example(), process: Process::example() })
}

/// The same as the series of one object.
pub(crate) fn collector_series(figures: Figures) -> Map<String, Value> {
    let text = open_metrics(Snapshot { figures, process: Process::now() });
    // Writing to memory does not fail.
    text.map(|text| series(&text)).unwrap_or_default()
}

#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) figures: Figures,
    process: Process,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.readiness(&mut page)?;
        self.services(&mut page)?;
        self.slots(&mut page)?;
        self.phases(&mut page)?;
        self.tokens(&mut page)?;
        self.reports(&mut page)?;
        self.intake(&mut page)?;
        self.journal(&mut page)?;
        self.store(&mut page)?;
        self.read_back(&mut page)?;
        self.received(&mut page)?;
        self.delivery(&mut page)?;
        self.canary(&mut page)?;
        self.rotation(&mut page)?;
        self.rollout(&mut page)?;
        self.streams(&mut page)?;
        page.process(&self.process, self.figures.started)?;
        page.build()
    }
}

impl Snapshot {
    fn canary(&self, page: &mut Page<'_>) -> fmt::Result {
        // Before its first loss there is nothing to say.
        let Some(delay) = self.figures.canary_delay else { return Ok(()) };
        let help =
            "How long the last loss of the collector's own canary took from its onset until it was told of.";
        let unit = Some(&Unit::Seconds);
        page.family("aviary_collector_canary_delay", help, unit, MetricType::Gauge)?.encode_gauge(&delay)
    }

    fn tokens(&self, page: &mut Page<'_>) -> fmt::Result {
        let tokens = &self.figures.tokens;
        let help = "Reports that were taken, by token.";
        let mut family = page.family("aviary_collector_reports", help, None, MetricType::Counter)?;
        for token in tokens {
            count_of(&mut family.encode_family(&[("token", token.name.as_str())])?, &token.reports)?;
        }
        let help = "Slots that reports told, by token.";
        let mut family = page.family("aviary_collector_slots", help, None, MetricType::Counter)?;
        for token in tokens {
            count_of(&mut family.encode_family(&[("token", token.name.as_str())])?, &token.slots)?;
        }
        let help = "What was refused, by token and reason.";
        let mut family = page.family("aviary_collector_refused", help, None, MetricType::Counter)?;
        for token in tokens {
            for (reason, count) in &token.refused {
                let labels = [("token", token.name.as_str()), ("reason", *reason)];
                count_of(&mut family.encode_family(&labels)?, count)?;
            }
        }
        let labels = [("token", UNKNOWN), ("reason", "unauthorized")];
        count_of(&mut family.encode_family(&labels)?, &self.figures.strangers)?;
        let labels = [("token", UNKNOWN), ("reason", "foreign_headers")];
        count_of(&mut family.encode_family(&labels)?, &self.figures.pretenders)?;
        let help =
            "Unix time at which a token that was made at run time, or the listener's certificate, ends.";
        let name = "aviary_collector_credential_expires_timestamp";
        let mut family = page.family(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (credential, name, ends) in &self.figures.expiries {
            let labels = [("credential", *credential), ("name", name)];
            family.encode_family(&labels)?.encode_gauge(&signed(ends.0))?;
        }
        let help = "Series that came first under a token.";
        let mut family = page.family("aviary_collector_series", help, None, MetricType::Gauge)?;
        for token in tokens {
            family.encode_family(&[("token", token.name.as_str())])?.encode_gauge(&signed(token.series))?;
        }
        Ok(())
    }

    fn reports(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Agents by what is heard of them.";
        let mut family = page.family("aviary_collector_agents", help, None, MetricType::Gauge)?;
        for (state, agents) in &self.figures.agents {
            family.encode_family(&[("state", *state)])?.encode_gauge(&signed(*agents))?;
        }
        let counts = &self.figures.counts;
        page.counter(
            "aviary_collector_slots_too_old",
            "Slots that came too late to be held.",
            counts.too_old,
        )?;
        let help = "Slots that were ahead of this host's clock.";
        page.counter("aviary_collector_slots_ahead", help, counts.ahead)
    }

    fn delivery(&self, page: &mut Page<'_>) -> fmt::Result {
        let DeliveryFigures { receivers, switch } = &self.figures.delivery;
        let help = "Messages that receivers took.";
        let mut family = page.family("aviary_collector_pages_taken", help, None, MetricType::Counter)?;
        for receiver in receivers {
            let labels = [("receiver", receiver.receiver.as_str())];
            count_of(&mut family.encode_family(&labels)?, &receiver.delivered)?;
        }
        let help = "Attempts to send a message that came to nothing, by receiver and reason.";
        let mut family = page.family("aviary_collector_pages_refused", help, None, MetricType::Counter)?;
        for receiver in receivers {
            let turned_away = [("turned_away", receiver.turned_away)];
            let refused = receiver.refused.iter().map(|(reason, count)| (reason.name(), *count));
            for (reason, count) in refused.chain(turned_away) {
                let labels = [("receiver", receiver.receiver.as_str()), ("reason", reason)];
                count_of(&mut family.encode_family(&labels)?, &count)?;
            }
        }
        let help = "For how long the oldest incident has waited that a receiver is to be told of.";
        let name = "aviary_collector_pages_waiting";
        let mut family = page.family(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for receiver in receivers {
            let name = receiver.receiver.as_str();
            let waiting = self.figures.waiting.iter().find(|(receiver, _)| receiver == name);
            let seconds = waiting.map_or(0, |(_, seconds)| *seconds);
            family.encode_family(&[("receiver", name)])?.encode_gauge(&signed(seconds))?;
        }
        let Some(switch) = switch else { return Ok(()) };
        let help = "Loops of judgement after which the dead man's switch was told, could not be told, or was not to be.";
        let mut family = page.family("aviary_collector_watchdog", help, None, MetricType::Counter)?;
        let SwitchFigures { told, refused, withheld } = switch;
        for (outcome, count) in [("told", told), ("refused", refused), ("withheld", withheld)] {
            count_of(&mut family.encode_family(&[("outcome", outcome)])?, count)?;
        }
        Ok(())
    }

    fn received(&self, page: &mut Page<'_>) -> fmt::Result {
        let received = &self.figures.received;
        type Count = fn(&aviary_collector::ReceivedCounts) -> u64;
        let counters: [(&str, &str, Count); 3] = [
            ("aviary_collector_received", "Slots whose datapoint was forwarded to us.", |it| it.arrived),
            ("aviary_collector_received_duplicates", "Datapoints that were forwarded once more.", |it| {
                it.duplicates
            }),
            (
                "aviary_collector_received_mangled",
                "Datapoints whose value was not the 1 that was sent.",
                |it| it.mangled,
            ),
        ];
        for (name, help, count) in counters {
            let mut family = page.family(name, help, None, MetricType::Counter)?;
            for (service, protocol, counts) in received {
                let labels = [("service", service.as_str()), ("protocol", protocol.name())];
                count_of(&mut family.encode_family(&labels)?, &count(counts))?;
            }
        }
        let help = "From when forwarded datapoints were due to their arrival; the sum is made from buckets.";
        let name = "aviary_collector_received_delay";
        let mut family = page.family(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (service, protocol, counts) in received {
            let labels = [("service", service.as_str()), ("protocol", protocol.name())];
            timings_of(&mut family.encode_family(&labels)?, &counts.delays)?;
        }
        let help = "Datapoints that were forwarded under names that no series owns.";
        page.counter("aviary_collector_received_unowned", help, self.figures.counts.unowned)
    }
}

#[cfg(test)]
mod tests;
