//! `metrics.md`: every metric, from a page of an agent and one of a collector that have something of everything.

use std::{collections::BTreeSet, fmt, fmt::Write as _};

use super::cell;
use crate::admin::metrics::{example_of_agent, example_of_collector};

const HEAD: &str = "\
# Metrics

Made from the code by `aviary generate reference`. All of it is at `/metrics`, of an agent at `[agent] listen` and of a collector beside its
API, as OpenMetrics, Prometheus' text or JSON, as `Accept` says. Label sets are bounded: what is beyond is summed as `(others)`, and a
metric says how many that are. Counters begin anew with the process. [deploy/prometheus/rules.yml](../../deploy/prometheus/rules.yml) has
alerts over them, and [runbooks](../runbooks/loss.md) what to do then.
";

/// A metric, as its page describes it.
#[derive(Debug, Default)]
pub(super) struct Metric {
    /// As its samples are called.
    pub(super) name: String,
    pub(super) kind: String,
    unit: String,
    pub(super) labels: BTreeSet<String>,
    help: String,
    pub(super) samples: usize,
}

/// The whole page.
pub(super) fn page() -> Result<String, fmt::Error> {
    let mut page = HEAD.to_owned();
    for (title, metrics) in [("Of an agent", of_agent()?), ("Of a collector", of_collector()?)] {
        write!(
            page,
            "\n## {title}\n\n| metric | type | unit | labels | what it is |\n|---|---|---|---|---|\n"
        )?;
        for Metric { name, kind, unit, labels, help, .. } in metrics {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            writeln!(page, "| `{name}` | {kind} | {unit} | {} | {} |", labels.join(", "), cell(&help))?;
        }
    }
    Ok(page)
}

pub(super) fn of_agent() -> Result<Vec<Metric>, fmt::Error> {
    example_of_agent().map(|text| described(&text))
}

pub(super) fn of_collector() -> Result<Vec<Metric>, fmt::Error> {
    example_of_collector().map(|text| described(&text))
}

/// The metrics of an OpenMetrics text, by name.
fn described(text: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                metrics.push(Metric { name: name.to_owned(), help: help.to_owned(), ..Metric::default() });
            }
            (Some("#"), Some(word), Some(_), Some(said)) => {
                let Some(metric) = metrics.last_mut() else { continue };
                match (word, said) {
                    ("UNIT", unit) => unit.clone_into(&mut metric.unit),
                    ("TYPE", kind) => {
                        kind.clone_into(&mut metric.kind);
                        let suffix = match kind {
                            "counter" => "_total",
                            "info" => "_info",
                            _ => "",
                        };
                        metric.name.push_str(suffix);
                    }
                    _ => {}
                }
            }
            _ => {
                let Some(metric) = metrics.last_mut().filter(|_| !line.starts_with('#')) else { continue };
                metric.samples += 1;
                metric.labels.extend(labels(line).filter(|label| *label != "le").map(str::to_owned));
            }
        }
    }
    metrics.sort_by(|one, other| one.name.cmp(&other.name));
    metrics
}

/// The names of the labels of a sample.
fn labels(sample: &str) -> impl Iterator<Item = &str> {
    let (before, _) = sample.rsplit_once("=\"").unwrap_or_default();
    before
        .split("=\"")
        .map(|until| until.rsplit(['{', ',']).next().unwrap_or_default())
        .filter(|label| !label.is_empty())
}
