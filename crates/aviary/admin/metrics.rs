//! `/metrics`: how the agent stands, and what a collector counts, in each of the [formats](format::Format).
//!
//! Every label set is bounded: classes, phases and protocols by their types, services and certificates by
//! [`GROUPS_MAX`] and `CERTIFICATES_MAX`, what a collector counts by itself; and a metric says how many were left out.

mod agent;
mod collector;
mod format;
mod kept;
mod rollout;
mod rotation;
mod watched;

use std::fmt;

use aviary_core::{
    Timestamp,
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

use self::format::series;
pub(crate) use self::{
    agent::{agent_page, agent_series, example_page as example_of_agent},
    collector::{collector_page, collector_series, example_page as example_of_collector},
    format::Format,
    watched::CLASSES,
};
use super::process::Process;

/// How many pairs of service and protocol are told apart; the others are summed as service [`OTHERS`].
const GROUPS_MAX: usize = 240;

/// No service can be called this.
const OTHERS: &str = "(others)";

/// The upper bounds of the buckets of every histogram, in microseconds: powers of two, where our own buckets end.
const BOUNDS_US: [u32; 12] =
    [64, 256, 512, 1 << 10, 1 << 11, 1 << 12, 1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20];

/// What `source` tells, as OpenMetrics text.
fn open_metrics(source: impl Collector) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(source));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
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

    fn build(&mut self) -> fmt::Result {
        self.info("aviary_build", "The program that runs.", &[("version", env!("CARGO_PKG_VERSION"))])
    }

    fn timings(&mut self, name: &str, help: &str, timings: &Histogram) -> fmt::Result {
        let mut metric = self.family(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        timings_of(&mut metric, timings)
    }

    /// This process, which was started at `started`, under the names that every dashboard knows.
    fn process(&mut self, process: &Process, started: Timestamp) -> fmt::Result {
        let Process { files, files_max, cpu_seconds, resident, .. } = process;
        let numbers = [
            ("process_open_fds", "Open files, sockets included.", None, files),
            ("process_max_fds", "How many files may be open.", None, files_max),
            ("process_resident_memory", "Memory in use.", Some(&Unit::Bytes), resident),
        ];
        self.known(&numbers)?;
        let start = seconds(started.0);
        self.gauge("process_start_time", "Unix time of the start.", Some(&Unit::Seconds), &start)?;
        let help = "Processor time spent.";
        let mut cpu = self.family("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        count_of(&mut cpu, cpu_seconds)
    }

    /// What of these is known.
    fn known(&mut self, numbers: &[(&str, &str, Option<&Unit>, &Option<u64>)]) -> fmt::Result {
        for (name, help, unit, number) in numbers {
            if let Some(number) = number {
                self.gauge(name, help, *unit, &signed(*number))?;
            }
        }
        Ok(())
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

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests;
