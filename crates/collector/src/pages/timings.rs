//! How long each phase takes, by place.

use aviary_core::{Phase, Span, Tag};
use maud::{Markup, html};
use serde::Serialize;

use crate::{Collector, closed_until, error::ApiError, timings::measured};

/// So many seconds are looked at, which are whole minutes.
const SECONDS: u64 = 600;

/// So many rows are shown.
const ROWS_MAX: usize = 200;

/// How long each phase of delivered attempts took.
#[derive(Debug, Serialize)]
pub(crate) struct Timings {
    by: &'static str,
    from: u64,
    until: u64,
    rows: Vec<Row>,
    rows_left_out: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    place: String,
    phase: &'static str,
    count: u64,
    p50_us: Option<u32>,
    p90_us: Option<u32>,
    p99_us: Option<u32>,
}

impl Timings {
    /// Of `service`, by phase and `place`. Blocks.
    pub(crate) fn gather(collector: &Collector, service: &str, place: Tag) -> Result<Self, ApiError> {
        let newest = closed_until(collector.now());
        let span = Span::before(newest.minus(newest.0 % 60), SECONDS);
        let found = measured(collector, &[place], Some(service), span)?;
        let row =
            |((values, phase), histogram): ((Vec<String>, Phase), aviary_core::histogram::Histogram)| Row {
                place: values.into_iter().next().unwrap_or_default(),
                phase: phase.name(),
                count: histogram.count(),
                p50_us: histogram.quantile(0.5),
                p90_us: histogram.quantile(0.9),
                p99_us: histogram.quantile(0.99),
            };
        let mut rows: Vec<Row> = found.into_iter().map(row).collect();
        let rows_left_out = rows.len().saturating_sub(ROWS_MAX);
        rows.truncate(ROWS_MAX);
        Ok(Self { by: place.name(), from: span.from.0, until: span.until.0, rows, rows_left_out })
    }

    pub(crate) fn html(&self) -> Markup {
        html! {
            section id="timings" aria-labelledby="timings-heading" {
                h2 id="timings-heading" { "How long each phase takes, by " (self.by) }
                @if self.rows.is_empty() {
                    p { "Nothing was measured in the last ten whole minutes." }
                } @else {
                    div.scroll tabindex="0" role="group" aria-labelledby="timings-heading" {
                        table {
                            caption { "Delivered attempts of the last ten whole minutes. Half, nine of ten and 99 of 100 were as quick as this, to within an eighth." }
                            thead { tr {
                                th scope="col" { (self.by) } th scope="col" { "phase" } th.number scope="col" { "attempts" }
                                th.number scope="col" { "p50" } th.number scope="col" { "p90" } th.number scope="col" { "p99" }
                            } }
                            tbody { @for row in &self.rows { tr {
                                th scope="row" { (row.place) }
                                td { (row.phase) }
                                td.number { (super::words::number(row.count)) }
                                @for quantile in [row.p50_us, row.p90_us, row.p99_us] { td.number { (quantile.map_or_else(String::new, duration)) } }
                            } } }
                        }
                    }
                    @if self.rows_left_out > 0 { p { (self.rows_left_out) " more rows are not shown." } }
                }
            }
        }
    }
}

/// Microseconds in the unit in which they have few digits.
fn duration(micros: u32) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{:.1} ms", f64::from(micros) / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", f64::from(micros) / 1e3),
        _ => format!("{:.2} s", f64::from(micros) / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_have_units_and_few_digits() {
        let table =
            [(0, "0 µs"), (640, "640 µs"), (1_500, "1.5 ms"), (123_456, "123 ms"), (1_250_000, "1.25 s")];
        for (micros, expected) in table {
            assert_eq!(duration(micros), expected);
        }
    }
}
