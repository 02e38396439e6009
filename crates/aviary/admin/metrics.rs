//! `/metrics`: how the agent stands, and what a collector counts, in OpenMetrics or in the older text of Prometheus.
//!
//! Every label set is bounded: classes, phases and protocols by their types, services and certificates by
//! [`GROUPS_MAX`] and [`CERTIFICATES_MAX`], and a metric says how many were left out.

mod collector;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use aviary_core::{
    Phase, Protocol,
    histogram::{self, Histogram},
};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet,
    },
    metrics::MetricType,
    registry::{Registry, Unit},
};

pub(crate) use self::collector::collector_page;
use super::{
    process::Process,
    standing::{Class, Group, Standing},
};

/// How many pairs of service and protocol are told apart; the others are summed as service [`OTHERS`].
const GROUPS_MAX: usize = 240;

/// No service can be called this.
const OTHERS: &str = "(others)";

/// How many certificates are told of.
const CERTIFICATES_MAX: usize = 1_000;

/// The upper bounds of the buckets of every histogram, in microseconds: powers of two, where our own buckets end.
const BOUNDS_US: [u32; 12] =
    [64, 256, 512, 1 << 10, 1 << 11, 1 << 12, 1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20];

/// Whether a request with this `Accept` wants the older text: OpenMetrics is for whoever does not say.
pub(super) fn wants_prometheus_text(accept: &str) -> bool {
    !accept.contains("application/openmetrics-text") && accept.contains("text/plain")
}

/// The media type of [`open_metrics`].
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The media type of [`prometheus_text`].
pub(super) const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How the agent stands, as OpenMetrics text.
///
/// # Errors
/// None in practice: writing to memory does not fail.
pub(super) fn open_metrics(standing: Standing, process: Process) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot { standing, process }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The same in the text format 0.0.4 of Prometheus, which names families as their samples, and knows neither units nor
/// information nor an end.
pub(super) fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            // Which name it helps with is known only from the type, on the next line.
            (Some("#"), Some("HELP"), Some(_), Some(rest)) => help = Some(rest),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (name, kind) = match kind {
                    "counter" => (format!("{name}_total"), kind),
                    "info" => (format!("{name}_info"), "gauge"),
                    _ => (name.to_owned(), kind),
                };
                if let Some(help) = help.take() {
                    // Writing to memory does not fail.
                    _ = writeln!(text, "# HELP {name} {help}");
                }
                _ = writeln!(text, "# TYPE {name} {kind}");
            }
            (Some("#"), ..) => {}
            _ => _ = writeln!(text, "{line}"),
        }
    }
    text
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
        self.process(&mut page)
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
        page.info("aviary_build", "The program that runs.", &[("version", env!("CARGO_PKG_VERSION"))])
    }

    /// Under the names that every dashboard knows.
    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let Process { files, files_max, cpu_seconds, resident, memory_max, tcp, time_wait, udp, port_range } =
            &self.process;
        let range = port_range.map(|(from, to)| u64::from(to.saturating_sub(from)) + 1);
        let numbers = [
            ("process_open_fds", "Open files, sockets included.", None, files),
            ("process_max_fds", "How many files may be open.", None, files_max),
            ("process_resident_memory", "Memory in use.", Some(&Unit::Bytes), resident),
            ("aviary_agent_memory_max", "Memory that there is.", Some(&Unit::Bytes), memory_max),
            ("aviary_agent_tcp_sockets", "TCP sockets in use in this network namespace.", None, tcp),
            ("aviary_agent_tcp_time_wait", "Closed TCP connections that hold their port.", None, time_wait),
            ("aviary_agent_udp_sockets", "UDP sockets in use in this network namespace.", None, udp),
            ("aviary_agent_ports", "Ports for outgoing connections to one destination.", None, &range),
        ];
        for (name, help, unit, number) in numbers {
            if let Some(number) = number {
                page.gauge(name, help, unit, &signed(*number))?;
            }
        }
        let start = seconds(self.standing.started.0);
        page.gauge("process_start_time", "Unix time of the start.", Some(&Unit::Seconds), &start)?;
        let help = "Processor time spent.";
        let mut cpu = page.family("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        count_of(&mut cpu, cpu_seconds)
    }
}

/// What a collector writes to, with less ceremony.
struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    /// The metric is called `name`, and its unit if it has one.
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        count_of(&mut self.family(name, help, None, MetricType::Counter)?, &value)
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: &impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge)?.encode_gauge(value)
    }

    fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.family(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    fn timings(&mut self, name: &str, help: &str, timings: &Histogram) -> fmt::Result {
        let mut metric = self.family(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        timings_of(&mut metric, timings)
    }
}

fn count_of(metric: &mut MetricEncoder<'_>, value: &impl EncodeCounterValue) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, _, f64>(value, None)
}

/// Our many buckets as a few, cumulated by the encoder.
fn timings_of(metric: &mut MetricEncoder<'_>, timings: &Histogram) -> fmt::Result {
    let mut buckets: Vec<(f64, u64)> = BOUNDS_US.iter().map(|bound| (f64::from(*bound) / 1e6, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    let (mut sum, mut all) = (0.0, 0);
    for (bucket, count) in timings.buckets() {
        let (lower, count) = (histogram::lower_bound(bucket), count);
        buckets[BOUNDS_US.partition_point(|bound| *bound <= lower)].1 += count;
        sum += middle_us(bucket) / 1e6 * count as f64;
        all += count;
    }
    metric.encode_histogram::<NoLabelSet>(sum, all, &buckets, None)
}

/// What stands for every duration of a bucket, in microseconds; the last has no end, and so its beginning does.
pub(crate) fn middle_us(bucket: usize) -> f64 {
    let lower = histogram::lower_bound(bucket);
    let last = if bucket + 1 < histogram::BUCKETS { histogram::lower_bound(bucket + 1) - 1 } else { lower };
    f64::midpoint(f64::from(lower), f64::from(last))
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

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests;
