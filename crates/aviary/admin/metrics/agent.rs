//! How an agent stands.

mod example;

use std::{borrow::Cow, collections::BTreeMap, fmt};

use aviary_core::{Phase, Protocol, histogram::Histogram};
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, metrics::MetricType, registry::Unit,
};
use serde_json::{Map, Value};

use super::{GROUPS_MAX, OTHERS, Page, count_of, open_metrics, seconds, series, signed, timings_of};
use crate::admin::{
    process::Process,
    readiness::readiness,
    standing::{Class, Discovery, Group, Rotation, Standing},
};

/// The page of an agent that has something of everything to tell, as OpenMetrics text.
pub(crate) fn example_page() -> Result<String, fmt::Error> {
    let (standing, process) = example::example();
    agent_page(standing, process)
}

/// How many certificates are told of.
pub(super) const CERTIFICATES_MAX: usize = 1_000;

/// How the agent stands, as OpenMetrics text.
///
/// # Errors
/// None in practice: writing to memory does not fail.
pub(crate) fn agent_page(standing: Standing, process: Process) -> Result<String, fmt::Error> {
    open_metrics(Snapshot { standing, process })
}

/// The same as the series of one object.
pub(crate) fn agent_series(standing: Standing, process: Process) -> Map<String, Value> {
    // Writing to memory does not fail.
    agent_page(standing, process).map(|text| series(&text)).unwrap_or_default()
}

#[derive(Debug)]
struct Snapshot {
    standing: Standing,
    process: Process,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.slots(&mut page)?;
        self.schedule(&mut page)?;
        self.spool_and_shipping(&mut page)?;
        self.surroundings(&mut page)?;
        self.discoveries(&mut page)?;
        self.rotation(&mut page)?;
        page.process(&self.process, self.standing.started)?;
        self.host(&mut page)
    }
}

impl Snapshot {
    fn slots(&self, page: &mut Page<'_>) -> fmt::Result {
        let (groups, left_out) = bounded(&self.standing.groups);
        let mut slots =
            page.family("aviary_agent_slots", "Slots by what came of them.", None, MetricType::Counter)?;
        for group in groups.iter() {
            for ((outcome, phase, fault), count) in &group.outcomes {
                let labels = [
                    ("service", group.service.as_str()),
                    ("protocol", group.protocol.name()),
                    ("outcome", outcome),
                    ("phase", phase.unwrap_or_default()),
                    ("fault", fault.unwrap_or_default()),
                ];
                count_of(&mut slots.encode_family(&labels)?, count)?;
            }
        }
        let help =
            "How long each phase of delivered attempts took; the sum is made from buckets, to within 7 %.";
        let mut phases =
            page.family("aviary_agent_phase_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for group in groups.iter() {
            for (phase, timings) in Phase::ALL.iter().zip(&group.phases) {
                let labels = [
                    ("service", group.service.as_str()),
                    ("protocol", group.protocol.name()),
                    ("phase", phase.name()),
                ];
                if let Some(timings) = timings {
                    timings_of(&mut phases.encode_family(&labels)?, timings)?;
                }
            }
        }
        let help =
            "Pairs of service and protocol that are summed as service (others), beyond the bound on labels.";
        page.gauge("aviary_agent_groups_left_out", help, None, &left_out)
    }

    fn schedule(&self, page: &mut Page<'_>) -> fmt::Result {
        let it = &self.standing;
        let is_ready = readiness(it).reasons.is_empty();
        page.gauge("aviary_agent_ready", "Whether the agent does its work.", None, &i64::from(is_ready))?;
        page.gauge("aviary_agent_series", "Series of this agent.", None, &it.series)?;
        let help = "Series that opened a slot within the last three seconds.";
        page.gauge("aviary_agent_series_ticking", help, None, &it.ticking)?;
        let help = "How late attempts started, after they were due.";
        page.timings("aviary_agent_start_lateness", help, &it.start_late)?;
        let help = "How late attempts that ran to their deadline were given up, after it.";
        page.timings("aviary_agent_abandon_lateness", help, &it.abandon_late)?;
        page.counter("aviary_agent_slots_skipped", "Seconds of series that were not run.", it.skipped)?;
        page.counter("aviary_agent_slots_dropped", "Slots that were dropped unreported.", it.dropped)?;
        let help = "Beats of the ticker that a lane was too far behind to take.";
        page.counter("aviary_agent_beats_dropped", help, it.beats_dropped)?;
        page.counter(
            "aviary_agent_clock_steps",
            "Times that the wall clock was stepped.",
            u64::from(it.epoch),
        )
    }

    fn spool_and_shipping(&self, page: &mut Page<'_>) -> fmt::Result {
        let (spool, shipping) = (&self.standing.spool, &self.standing.shipping);
        page.gauge(
            "aviary_agent_spool_records",
            "Reports that wait for the collector.",
            None,
            &signed(spool.records),
        )?;
        let help = "Size of the reports that wait for the collector.";
        page.gauge("aviary_agent_spool", help, Some(&Unit::Bytes), &signed(spool.bytes))?;
        page.gauge(
            "aviary_agent_spool_slots",
            "Slots that wait for the collector.",
            None,
            &signed(spool.slots),
        )?;
        if let Some(oldest) = spool.oldest {
            let help = "Unix time of the oldest slot that waits for the collector.";
            page.gauge("aviary_agent_spool_oldest_timestamp", help, Some(&Unit::Seconds), &signed(oldest.0))?;
        }
        if let Some(bytes) = spool.disk_bytes {
            let help = "Size of the spool's files.";
            page.gauge("aviary_agent_spool_disk", help, Some(&Unit::Bytes), &signed(bytes))?;
        }
        if let Some(on_disk) = spool.on_disk {
            let help = "Whether what waits for the collector is on disk, as configured.";
            page.gauge("aviary_agent_spool_on_disk", help, None, &i64::from(on_disk))?;
        }
        page.counter("aviary_agent_reports_taken", "Reports that a collector took.", shipping.reports_taken)?;
        if let Some(taken) = shipping.last_taken {
            let help = "Unix time at which a collector took the last report.";
            page.gauge("aviary_agent_report_taken_timestamp", help, Some(&Unit::Seconds), &seconds(taken.0))?;
        }
        let help = "Attempts to report that failed since the last that was taken.";
        page.gauge("aviary_agent_report_failures", help, None, &i64::from(shipping.failures))?;
        if let Some(offset) = shipping.clock_offset_us {
            let help = "How far the collector's clock is ahead of this host's.";
            let offset = offset as f64 / 1e6;
            page.gauge("aviary_agent_clock_offset", help, Some(&Unit::Seconds), &offset)?;
        }
        let Some(fallback) = &self.standing.fallback else { return Ok(()) };
        let help = "Alerts at the fallback receiver that this agent is to end.";
        page.gauge("aviary_agent_fallback_open", help, None, &signed(fallback.open))?;
        let help = "Messages that the fallback receiver took.";
        page.counter("aviary_agent_fallback_taken", help, fallback.taken)?;
        let help = "Attempts to tell the fallback receiver that came to nothing.";
        page.counter("aviary_agent_fallback_in_vain", help, fallback.in_vain)?;
        Ok(())
    }

    fn surroundings(&self, page: &mut Page<'_>) -> fmt::Result {
        let it = &self.standing;
        let help = "Whether the last attempt reached an endpoint that is known as good.";
        let mut controls = page.family("aviary_agent_control_up", help, None, MetricType::Gauge)?;
        for (endpoint, reached) in &it.controls {
            controls
                .encode_family(&[("endpoint", endpoint.to_string())])?
                .encode_gauge(&i64::from(*reached))?;
        }
        let help = "Whether every series and every control fails at once.";
        page.gauge("aviary_agent_self_suspect", help, None, &i64::from(it.self_suspect))?;

        let help = "Unix time at which the certificate of an address expires.";
        let name = "aviary_agent_certificate_not_after_timestamp";
        let mut certificates = page.family(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (endpoint, address, not_after) in it.certificates.iter().take(CERTIFICATES_MAX) {
            let labels = [("endpoint", endpoint.to_string()), ("address", address.to_string())];
            certificates.encode_family(&labels)?.encode_gauge(not_after)?;
        }
        let help = "Unix time at which what the agent shows the collector ends.";
        let name = "aviary_agent_credential_expires_timestamp";
        let mut credentials = page.family(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (credential, ends) in
            [("certificate", it.certificate_expires), ("token", it.shipping.token_expires)]
        {
            if let Some(ends) = ends {
                credentials.encode_family(&[("credential", credential)])?.encode_gauge(&signed(ends.0))?;
            }
        }
        let help = "Certificates that are not told of, beyond the bound on labels.";
        let left_out = it.certificates.len().saturating_sub(CERTIFICATES_MAX);
        page.gauge("aviary_agent_certificates_left_out", help, None, &left_out)?;

        let help = "Whether the configuration was taken when it was last loaded.";
        page.gauge("aviary_agent_configuration_ok", help, None, &i64::from(it.reload.error.is_none()))?;
        if let Some(at) = it.reload.at {
            let help = "Unix time of the last reload.";
            page.gauge("aviary_agent_reload_timestamp", help, Some(&Unit::Seconds), &seconds(at.0))?;
        }
        let help = "The configuration that runs.";
        page.info("aviary_agent_configuration", help, &[("version", it.configuration.as_str())])?;
        page.build()
    }

    fn discoveries(&self, page: &mut Page<'_>) -> fmt::Result {
        type Figure = fn(&Discovery) -> usize;
        let figures: [(&str, &str, Figure); 4] = [
            ("aviary_agent_discovered_endpoints", "Endpoints that are found.", |it| it.counts().0),
            (
                "aviary_agent_discovered_endpoints_going",
                "Endpoints that were found and are answered no more, within their grace.",
                |it| it.counts().1,
            ),
            (
                "aviary_agent_discovery_ok",
                "Whether the last answer was taken; otherwise what was found before stands.",
                |it| usize::from(it.trouble.is_none()),
            ),
            (
                "aviary_agent_discovery_labels_ignored",
                "Labels in the last answer, of which nothing is made.",
                |it| usize::try_from(it.labels).unwrap_or(usize::MAX),
            ),
        ];
        let discoveries = || self.standing.discoveries.iter().take(GROUPS_MAX);
        for (name, help, figure) in figures.into_iter().filter(|_| discoveries().next().is_some()) {
            let mut family = page.family(name, help, None, MetricType::Gauge)?;
            for it in discoveries() {
                let labels = [("service", it.service.as_str()), ("discovery", it.name.as_str())];
                family.encode_family(&labels)?.encode_gauge(&signed(figure(it) as u64))?;
            }
        }
        Ok(())
    }

    fn rotation(&self, page: &mut Page<'_>) -> fmt::Result {
        let Rotation { answers, counted } = &self.standing.rotation;
        let leases = answers.iter().filter(|answer| answer.until.is_some()).count();
        let help = "Services for which a collector has this node out of rotation, or returning.";
        page.gauge("aviary_agent_rotation_leases", help, None, &leases)?;
        let help = "The share of its usual load that this node is to have, from 0 to 1.";
        let name = "aviary_agent_rotation_weight";
        let mut weights = page.family(name, help, None, MetricType::Gauge)?;
        for answer in answers.iter().take(GROUPS_MAX) {
            let weight = f64::from(answer.weight) / 100.0;
            weights.encode_family(&[("service", answer.service.as_str())])?.encode_gauge(&weight)?;
        }
        let help = "Answers to whoever asked whether this node is to be in rotation.";
        let mut asked = page.family("aviary_agent_rotation_answers", help, None, MetricType::Counter)?;
        for (by, rotation, count) in counted.answers() {
            let labels = [("by", by.name()), ("rotation", rotation.name())];
            count_of(&mut asked.encode_family(&labels)?, &count)?;
        }
        let help = "Times that whoever is told of this node took it.";
        let mut told = page.family("aviary_agent_rotation_told", help, None, MetricType::Counter)?;
        for (by, count, _) in counted.tellings() {
            count_of(&mut told.encode_family(&[("by", by.name())])?, &count)?;
        }
        let help = "Attempts to tell of this node that came to nothing.";
        let mut in_vain = page.family("aviary_agent_rotation_in_vain", help, None, MetricType::Counter)?;
        for (by, _, count) in counted.tellings() {
            count_of(&mut in_vain.encode_family(&[("by", by.name())])?, &count)?;
        }
        Ok(())
    }

    fn host(&self, page: &mut Page<'_>) -> fmt::Result {
        let Process { memory_max, tcp, time_wait, udp, port_range, .. } = &self.process;
        let range = port_range.map(|(from, to)| u64::from(to.saturating_sub(from)) + 1);
        page.known(&[
            ("aviary_agent_memory_max", "Memory that there is.", Some(&Unit::Bytes), memory_max),
            ("aviary_agent_tcp_sockets", "TCP sockets in use in this network namespace.", None, tcp),
            ("aviary_agent_tcp_time_wait", "Closed TCP connections that hold their port.", None, time_wait),
            ("aviary_agent_udp_sockets", "UDP sockets in use in this network namespace.", None, udp),
            ("aviary_agent_ports", "Ports for outgoing connections to one destination.", None, &range),
        ])
    }
}

/// As many groups as have labels of their own, the rest summed by protocol; and how many those are.
fn bounded(groups: &[Group]) -> (Cow<'_, [Group]>, usize) {
    if groups.len() <= GROUPS_MAX {
        return (Cow::Borrowed(groups), 0);
    }
    let (own, rest) = groups.split_at(GROUPS_MAX);
    let mut others: BTreeMap<Protocol, Group> = BTreeMap::new();
    for group in rest {
        let sum = others.entry(group.protocol).or_insert_with(|| Group {
            service: OTHERS.to_owned(),
            protocol: group.protocol,
            outcomes: BTreeMap::<Class, u64>::new(),
            phases: Default::default(),
        });
        for (class, count) in &group.outcomes {
            *sum.outcomes.entry(*class).or_default() += count;
        }
        for (sum, more) in sum.phases.iter_mut().zip(&group.phases) {
            for (bucket, count) in more.iter().flat_map(Histogram::buckets) {
                sum.get_or_insert_default().add(bucket, count);
            }
        }
    }
    (own.iter().cloned().chain(others.into_values()).collect(), rest.len())
}
