//! How long each phase takes, by place.

use std::collections::BTreeMap;

use aviary_core::{Phase, Span, Tag};
use maud::{Markup, html};
use serde::Serialize;

use super::words::number;
use crate::{Collector, closed_until, error::ApiError, timings::measured};

/// So many seconds are looked at, which are whole minutes.
const SECONDS: u64 = 600;

/// So many places are shown.
const PLACES_MAX: usize = 100;

/// How long each phase of delivered attempts took.
#[derive(Debug, Serialize)]
pub(crate) struct Timings {
    by: &'static str,
    from: u64,
    until: u64,
    places: Vec<Place>,
    places_left_out: usize,
}

#[derive(Debug, Serialize)]
struct Place {
    place: String,
    /// In the order of the phases; none where there is no such phase.
    phases: Vec<Option<Took>>,
}

#[derive(Debug, Serialize)]
struct Took {
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
        let mut found: BTreeMap<String, BTreeMap<Phase, Took>> = BTreeMap::new();
        for ((values, phase), histogram) in measured(collector, &[place], Some(service), span)? {
            let took = Took {
                phase: phase.name(),
                count: histogram.count(),
                p50_us: histogram.quantile(0.5),
                p90_us: histogram.quantile(0.9),
                p99_us: histogram.quantile(0.99),
            };
            found.entry(values.into_iter().next().unwrap_or_default()).or_default().insert(phase, took);
        }
        let places_left_out = found.len().saturating_sub(PLACES_MAX);
        let place_of = |(place, mut phases): (String, BTreeMap<Phase, Took>)| Place {
            place,
            phases: Phase::ALL.iter().map(|phase| phases.remove(phase)).collect(),
        };
        let places = found.into_iter().take(PLACES_MAX).map(place_of).collect();
        Ok(Self { by: place.name(), from: span.from.0, until: span.until.0, places, places_left_out })
    }

    /// As a section.
    pub(crate) fn html(&self) -> Markup {
        html! {
            section id="timings" aria-labelledby="timings-heading" {
                h2 id="timings-heading" { "How long each phase takes, by " (self.by) }
                @if self.places.is_empty() {
                    p { "Nothing was measured in the last ten whole minutes." }
                } @else {
                    div.scroll tabindex="0" role="group" aria-labelledby="timings-heading" {
                        table {
                            caption { "Half of the delivered attempts of the last ten whole minutes, 90 and 99 of 100 were as quick as this (p50, p90, p99), to within an eighth." }
                            thead { tr {
                                th scope="col" { (self.by) }
                                @for phase in Phase::ALL { th scope="col" { (phase) } }
                            } }
                            tbody { @for place in &self.places { tr {
                                th scope="row" { (place.place) }
                                @for took in &place.phases { (took_html(took.as_ref())) }
                            } } }
                        }
                    }
                    @if self.places_left_out > 0 { p { (self.places_left_out) " more are not shown." } }
                }
            }
        }
    }
}

fn took_html(took: Option<&Took>) -> Markup {
    let Some(Took { count, p50_us, p90_us, p99_us, .. }) = took else {
        return html! { td.absent { span.quiet { "none" } } };
    };
    html! {
        td {
            @for (name, micros) in [("p50", p50_us), ("p90", p90_us), ("p99", p99_us)] {
                span.figure { (name) " " (micros.map_or_else(String::new, duration)) }
            }
            span.said { "of " (number(*count)) }
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
