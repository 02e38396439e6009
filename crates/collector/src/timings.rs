//! `GET /api/v1/timings`: how long each phase of delivered attempts took.
//!
//! `GET /api/v1/timings?by=protocol,region&window=1h&step=1m[&until=T][&phase=tls]` answers
//!
//! ```json
//! {"groups":[{"by":{"protocol":"tls","region":"eu-west-1"},"phase":"connect","from":1763690340,"until":1763690400,
//!   "count":60,"p50_us":640,"p90_us":704,"p99_us":960}]}
//! ```
//!
//! `by` takes every tag but `endpoint` and `address`: agents measure by service and protocol. Spans are whole minutes, and
//! `until` is left out for the newest that is over. A percentile is known to an eighth: it is the least that its bucket
//! holds. Groups of which nothing was measured are left out.

use std::collections::BTreeMap;

use aviary_core::{Phase, Second, Span, Tag, Timestamp, histogram::Histogram, ledger::NO_GROUP};
use axum::response::Response;
use serde::Serialize;

use crate::{
    Collector, closed_until,
    error::ApiError,
    history::TIMED_TAGS,
    stream::{Out, Stop, stream},
    sums::{check_span, second, seconds, tags, unknown_parameter},
};

const MINUTE: u64 = 60;

/// So many histograms are made at a time.
const HISTOGRAMS_AT_ONCE: u64 = 8_192;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    by: Vec<Tag>,
    span: Span,
    step: u64,
    phase: Option<Phase>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    by: BTreeMap<&'static str, &'a str>,
    phase: &'static str,
    from: u64,
    until: u64,
    count: u64,
    p50_us: Option<u32>,
    p90_us: Option<u32>,
    p99_us: Option<u32>,
}

impl Query {
    /// Reads the parameters of a request made at `now`.
    pub(crate) fn parse(parameters: &[(String, String)], now: Timestamp) -> Result<Self, ApiError> {
        let newest = closed_until(now);
        let mut until = newest.minus(newest.0 % MINUTE);
        let (mut by, mut window, mut step, mut phase) = (Vec::new(), 3_600, None, None);
        for (key, value) in parameters {
            match key.as_str() {
                "by" => by = tags(value)?,
                "window" => window = seconds("window", value)?,
                "until" => until = second("until", value)?,
                "step" => step = Some(seconds("step", value)?),
                "phase" => {
                    let parsed = value.parse();
                    phase = Some(parsed.map_err(|error| ApiError::bad_parameter(format!("phase: {error}")))?);
                }
                other => return Err(unknown_parameter(other, "by, window, until, step, phase")),
            }
        }
        if let Some(tag) = by.iter().find(|tag| !TIMED_TAGS.contains(tag)) {
            let message = format!("by: timings are measured by service and protocol, and not by {tag}");
            return Err(ApiError::bad_parameter(message));
        }
        let step = step.unwrap_or(window);
        for (name, seconds) in [("window", window), ("step", step), ("until", until.0)] {
            if !seconds.is_multiple_of(MINUTE) {
                let message = format!("`{name}` is no whole minute, and timings are kept by the minute");
                return Err(ApiError::bad_parameter(message));
            }
        }
        if !window.is_multiple_of(step) {
            let message = format!("`step` of {step} s does not divide `window` of {window} s");
            return Err(ApiError::bad_parameter(message));
        }
        Ok(Self { by, span: Span::before(until, window), step, phase })
    }
}

/// Answers `query`, row by row.
pub(crate) async fn answer(collector: &Collector, query: Query) -> Result<Response, ApiError> {
    let now = collector.now();
    let (values, group_of) = {
        let mut state = collector.state();
        state.advance(now);
        // A minute that the ledger holds in part is measured in full.
        let whole = Span::new(query.span.from.plus(MINUTE - 1), query.span.until);
        check_span(&state, whole, now)?;
        state.group(&query.by, None, Second(0))
    };
    let asked = collector.clone();
    stream(collector, move |out| write(&asked, &query, &values, &group_of, out)).await
}

/// How long phases took in `span`, which is of whole minutes, by group and phase: of `service`, or of all. Blocks.
pub(crate) fn measured(
    collector: &Collector,
    by: &[Tag],
    service: Option<&str>,
    span: Span,
) -> Result<BTreeMap<(Vec<String>, Phase), Histogram>, ApiError> {
    let (values, group_of) = collector.state().group(by, service, Second(0));
    let mut measured: BTreeMap<(u32, Phase), Histogram> = BTreeMap::new();
    collector.history().timings(span, |timed| {
        let group = group_of.get(timed.series.0 as usize).copied().unwrap_or(NO_GROUP);
        if group != NO_GROUP {
            timed.add_to(measured.entry((group, timed.phase)).or_default());
        }
    })?;
    let named = |((group, phase), histogram)| ((values[group as usize].clone(), phase), histogram);
    Ok(measured.into_iter().map(named).collect())
}

fn write(
    collector: &Collector,
    query: &Query,
    values: &[Vec<String>],
    group_of: &[u32],
    out: &mut Out,
) -> Result<(), Stop> {
    out.write(br#"{"groups":["#)?;
    let steps_at_once = (HISTOGRAMS_AT_ONCE / (values.len() * Phase::ALL.len()).max(1) as u64).max(1);
    let (mut from, mut is_first) = (query.span.from, true);
    while from < query.span.until && !out.is_gone() {
        let until = from.plus(steps_at_once.saturating_mul(query.step)).min(query.span.until);
        let mut measured: BTreeMap<(u64, u32, Phase), Histogram> = BTreeMap::new();
        collector.history().timings(Span::new(from, until), |timed| {
            let group = group_of.get(timed.series.0 as usize).copied().unwrap_or(NO_GROUP);
            if group != NO_GROUP && query.phase.is_none_or(|phase| phase == timed.phase) {
                let step = (timed.minute.0 - query.span.from.0) / query.step;
                timed.add_to(measured.entry((step, group, timed.phase)).or_default());
            }
        })?;
        for ((step, group, phase), histogram) in &measured {
            if !std::mem::take(&mut is_first) {
                out.write(b",")?;
            }
            let from = query.span.from.plus(step * query.step);
            let texts = values[*group as usize].iter().map(String::as_str);
            out.json(&Row {
                by: query.by.iter().map(|tag| tag.name()).zip(texts).collect(),
                phase: phase.name(),
                from: from.0,
                until: from.plus(query.step).0,
                count: histogram.count(),
                p50_us: histogram.quantile(0.5),
                p90_us: histogram.quantile(0.9),
                p99_us: histogram.quantile(0.99),
            })?;
        }
        from = until;
    }
    out.write(b"]}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_timings_cannot_tell_is_refused_with_a_reason() {
        let parse = |query: &[(&str, &str)]| {
            let query: Vec<_> =
                query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            Query::parse(&query, Timestamp(1_763_690_430_000_000)).map_err(|error| error.message().to_owned())
        };
        let newest = parse(&[("window", "2m"), ("step", "1m"), ("phase", "tls")]).unwrap();
        assert_eq!(newest.span, Span::new(Second(1_763_690_280), Second(1_763_690_400)));
        assert_eq!((newest.step, newest.phase), (60, Some(Phase::Tls)));
        let table: [(&[_], &str); 6] = [
            (&[("by", "endpoint")], "not by endpoint"),
            (&[("window", "90s")], "`window` is no whole minute"),
            (&[("until", "61")], "`until` is no whole minute"),
            (&[("window", "5m"), ("step", "2m")], "does not divide"),
            (&[("phase", "total")], "`total` is not known"),
            (&[("service", "x")], "by, window, until, step, phase"),
        ];
        for (query, expected) in table {
            let message = parse(query).unwrap_err();
            assert!(message.contains(expected), "{query:?}: {message}");
        }
    }
}
