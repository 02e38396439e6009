//! `GET /api/v1/sums`: delivered and scheduled by any set of tags.

use std::collections::BTreeMap;

use aviary_core::{Second, Span, Tag, Timestamp, Window};
use serde::Serialize;

use crate::{closed_until, error::ApiError, state::State};

/// The most rows of one answer.
const ROWS_MAX: u64 = 50_000;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    by: Vec<Tag>,
    span: Span,
    step: u64,
    service: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    groups: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    by: BTreeMap<&'static str, String>,
    from: u64,
    until: u64,
    #[serde(flatten)]
    window: WindowBody,
}

/// A window as the API shows it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct WindowBody {
    scheduled: u64,
    delivered: u64,
    lost: u64,
    local: u64,
    missed: u64,
    muted: u64,
    unproven: u64,
    unknown: u64,
    late: u64,
    rate: Option<f64>,
}

impl From<Window> for WindowBody {
    fn from(window: Window) -> Self {
        let Window { scheduled, delivered, lost, local, missed, muted, unproven, unknown, late } = window;
        Self {
            scheduled,
            delivered,
            lost,
            local,
            missed,
            muted,
            unproven,
            unknown,
            late,
            rate: window.rate(),
        }
    }
}

impl Query {
    /// Reads the parameters of a request made at `now`.
    pub(crate) fn parse(parameters: &[(String, String)], now: Timestamp) -> Result<Self, ApiError> {
        let mut by = None;
        let (mut window, mut until, mut step, mut service) = (60, closed_until(now), None, None);
        for (key, value) in parameters {
            match key.as_str() {
                "by" => by = Some(tags(value)?),
                "window" => window = seconds("window", value)?,
                "until" => until = second("until", value)?,
                "step" => step = Some(seconds("step", value)?),
                "service" => service = Some(value.clone()),
                other => return Err(unknown_parameter(other, "by, window, until, step, service")),
            }
        }
        let span = Span::before(until, window);
        let step = step.unwrap_or(window);
        if !window.is_multiple_of(step) {
            let message = format!("`step` of {step} s does not divide `window` of {window} s");
            return Err(ApiError::bad("bad_parameter", message));
        }
        Ok(Self { by: by.unwrap_or_default(), span, step, service })
    }
}

/// Sums what `query` asks for.
pub(crate) fn answer(state: &State, query: &Query) -> Result<Answer, ApiError> {
    let held = state.ledger().held();
    if query.span.from < held.from || query.span.until > held.until {
        let message = format!(
            "this collector holds the seconds from {} to {}, and {} to {} was asked for; ask for another or shorter span",
            held.from, held.until, query.span.from, query.span.until
        );
        return Err(ApiError::bad("beyond_history", message));
    }
    let catalog = state.catalog();
    let wanted = |id| {
        let is_asked = query.service.as_ref().is_none_or(|service| catalog.tag(id, Tag::Service) == service);
        is_asked && state.ledger().life(id).until > query.span.from
    };
    let grouping = catalog.group(&query.by, wanted);
    let steps = query.span.seconds() / query.step;
    let rows = steps.saturating_mul(grouping.values.len() as u64);
    if rows > ROWS_MAX {
        let message = format!("the answer would have {rows} rows, at most {ROWS_MAX} are given");
        return Err(ApiError::bad("too_many_rows", message).detail("take a larger step or fewer tags"));
    }
    let mut groups = Vec::with_capacity(rows as usize);
    for step in 0..steps {
        let from = query.span.from.plus(step * query.step);
        let span = Span::new(from, from.plus(query.step));
        let windows = state.ledger().sums(span, &grouping.group_of, grouping.values.len());
        for (values, window) in grouping.values.iter().zip(windows) {
            let by = query.by.iter().map(|tag| tag.name()).zip(values.iter().cloned()).collect();
            groups.push(Row { by, from: span.from.0, until: span.until.0, window: window.into() });
        }
    }
    Ok(Answer { groups })
}

fn tags(list: &str) -> Result<Vec<Tag>, ApiError> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut tags = Vec::new();
    for name in names {
        let tag: Tag =
            name.parse().map_err(|error| ApiError::bad("bad_parameter", format!("by: {error}")))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// A duration such as `60s`, `5m` or `1h`, in whole seconds.
pub(crate) fn seconds(parameter: &str, text: &str) -> Result<u64, ApiError> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| {
        (duration.subsec_nanos() == 0)
            .then_some(duration.as_secs())
            .and_then(|seconds| u64::try_from(seconds).ok())
    });
    parsed.filter(|seconds| *seconds > 0).ok_or_else(|| {
        let message =
            format!("{parameter}: `{text}` is no duration of whole seconds; write such as 60s, 5m or 1h");
        ApiError::bad("bad_parameter", message)
    })
}

/// A second since the Unix epoch.
pub(crate) fn second(parameter: &str, text: &str) -> Result<Second, ApiError> {
    text.parse().map(Second).map_err(|_| {
        let message = format!("{parameter}: `{text}` is no second; write whole seconds since the Unix epoch");
        ApiError::bad("bad_parameter", message)
    })
}

pub(crate) fn unknown_parameter(given: &str, known: &str) -> ApiError {
    ApiError::bad("bad_parameter", format!("parameter `{given}` is not known; there are {known}"))
}
