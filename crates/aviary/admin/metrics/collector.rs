//! What a collector counts.

use std::fmt;

use aviary_collector::{
    Figures,
    delivery::{DeliveryFigures, SwitchFigures},
};
use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{
    OPEN_METRICS, PROMETHEUS_TEXT, Page, count_of, prometheus_text, signed, timings_of, wants_prometheus_text,
};

/// Stands for a token where none of ours was shown.
const UNKNOWN: &str = "(unknown)";

/// The page of a collector, for whoever sent this `Accept`, with its media type.
pub(crate) fn collector_page(figures: Figures, accept: &str) -> Option<(&'static str, String)> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(figures)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).ok()?;
    if wants_prometheus_text(accept) {
        return Some((PROMETHEUS_TEXT, prometheus_text(&text)));
    }
    Some((OPEN_METRICS, text))
}

#[derive(Debug)]
struct Snapshot(Figures);

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.tokens(&mut page)?;
        self.reports(&mut page)?;
        self.received(&mut page)?;
        self.delivery(&mut page)?;
        self.canary(&mut page)?;
        page.info("aviary_build", "The program that runs.", &[("version", env!("CARGO_PKG_VERSION"))])
    }
}

impl Snapshot {
    fn canary(&self, page: &mut Page<'_>) -> fmt::Result {
        // Before its first loss there is nothing to say.
        let Some(delay) = self.0.canary_delay else { return Ok(()) };
        let help =
            "How long the last loss of the collector's own canary took from its onset until it was told of.";
        let unit = Some(&Unit::Seconds);
        page.family("aviary_collector_canary_delay", help, unit, MetricType::Gauge)?.encode_gauge(&delay)
    }

    fn tokens(&self, page: &mut Page<'_>) -> fmt::Result {
        let tokens = &self.0.tokens;
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
        count_of(&mut family.encode_family(&labels)?, &self.0.strangers)?;
        let labels = [("token", UNKNOWN), ("reason", "foreign_headers")];
        count_of(&mut family.encode_family(&labels)?, &self.0.pretenders)?;
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
        for (state, agents) in &self.0.agents {
            family.encode_family(&[("state", *state)])?.encode_gauge(&signed(*agents))?;
        }
        let counts = &self.0.counts;
        page.counter(
            "aviary_collector_slots_too_old",
            "Slots that came too late to be held.",
            counts.too_old,
        )?;
        let help = "Slots that were ahead of this host's clock.";
        page.counter("aviary_collector_slots_ahead", help, counts.ahead)
    }

    fn delivery(&self, page: &mut Page<'_>) -> fmt::Result {
        let DeliveryFigures { receivers, switch } = &self.0.delivery;
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
            let waiting = self.0.waiting.iter().find(|(receiver, _)| receiver == name);
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
        let received = &self.0.received;
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
        page.counter("aviary_collector_received_unowned", help, self.0.counts.unowned)
    }
}

#[cfg(test)]
mod tests {
    use aviary_collector::{Counts, ReceivedCounts, TokenCounts};
    use aviary_core::Protocol;
    use aviary_notify::Reason;

    use super::*;

    #[test]
    fn what_a_collector_counts_is_on_its_page() {
        let token = TokenCounts {
            name: "eu\"agents".to_owned(),
            reports: 3,
            slots: 40,
            series: 2,
            refused: vec![("reports", 7), ("bytes", 0)],
        };
        let mut received = ReceivedCounts { arrived: 5, duplicates: 1, ..ReceivedCounts::default() };
        received.delays.record(70_000);
        let figures = Figures {
            counts: Counts { unowned: 9, ..Counts::default() },
            agents: vec![("late", 4)],
            tokens: vec![token],
            strangers: 11,
            pretenders: 12,
            received: vec![("ingest".to_owned(), Protocol::Udp, received)],
            delivery: DeliveryFigures {
                receivers: vec![aviary_collector::delivery::Figures {
                    receiver: "oncall".to_owned(),
                    delivered: 6,
                    refused: vec![(Reason::Timeout, 2)],
                    turned_away: 1,
                    oldest_held: None,
                }],
                switch: Some(SwitchFigures { told: 8, refused: 0, withheld: 3 }),
            },
            waiting: vec![("oncall".to_owned(), 12)],
            canary_delay: Some(12.5),
        };
        let (kind, text) = collector_page(figures.clone(), "").unwrap();
        assert_eq!(kind, OPEN_METRICS);
        let udp = "{service=\"ingest\",protocol=\"udp\"}";
        for line in [
            "aviary_collector_reports_total{token=\"eu\\\"agents\"} 3",
            "aviary_collector_slots_total{token=\"eu\\\"agents\"} 40",
            "aviary_collector_refused_total{token=\"eu\\\"agents\",reason=\"reports\"} 7",
            "aviary_collector_refused_total{token=\"(unknown)\",reason=\"unauthorized\"} 11",
            "aviary_collector_refused_total{token=\"(unknown)\",reason=\"foreign_headers\"} 12",
            "aviary_collector_series{token=\"eu\\\"agents\"} 2",
            "aviary_collector_agents{state=\"late\"} 4",
            &format!("aviary_collector_received_total{udp} 5"),
            &format!("aviary_collector_received_duplicates_total{udp} 1"),
            &format!("aviary_collector_received_delay_seconds_count{udp} 1"),
            "aviary_collector_received_delay_seconds_bucket{le=\"0.131072\",service=\"ingest\",protocol=\"udp\"} 1",
            "aviary_collector_received_unowned_total 9",
            "aviary_collector_pages_taken_total{receiver=\"oncall\"} 6",
            "aviary_collector_pages_refused_total{receiver=\"oncall\",reason=\"timeout\"} 2",
            "aviary_collector_pages_refused_total{receiver=\"oncall\",reason=\"turned_away\"} 1",
            "aviary_collector_pages_waiting_seconds{receiver=\"oncall\"} 12",
            "aviary_collector_watchdog_total{outcome=\"told\"} 8",
            "aviary_collector_canary_delay_seconds 12.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let (kind, text) = collector_page(figures, "text/plain").unwrap();
        assert!(kind == PROMETHEUS_TEXT && !text.contains("# EOF"), "{text}");
    }
}
