//! `GET /api/v1/sums`: delivered and scheduled by any set of tags.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{Second, Span, Tag, Timestamp, Window, ledger::NO_GROUP};
use axum::response::Response;
use serde::Serialize;

use crate::{
    Collector, closed_until,
    error::ApiError,
    history::{Chunk, Lives, ROLLED_TAGS, Steps, Tally, chunks_of},
    state::State,
    stream::{Out, Stop, stream},
};

/// So many windows are made at a time: an answer has as many rows as were asked for, and only a part of it is ever held.
const WINDOWS_AT_ONCE: u64 = 1 << 16;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    by: Vec<Tag>,
    span: Span,
    step: u64,
    service: Option<String>,
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
    pub(crate) scheduled: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) local: u64,
    pub(crate) missed: u64,
    pub(crate) muted: u64,
    pub(crate) unproven: u64,
    pub(crate) unknown: u64,
    pub(crate) late: u64,
    pub(crate) rate: Option<f64>,
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
            return Err(ApiError::bad_parameter(message));
        }
        Ok(Self { by: by.unwrap_or_default(), span, step, service })
    }
}

/// What is needed of the state to answer, read once.
struct Question {
    query: Query,
    values: Vec<Vec<String>>,
    group_of: Vec<u32>,
}

/// Answers `query`, row by row.
pub(crate) async fn answer(collector: &Collector, query: Query) -> Result<Response, ApiError> {
    let now = collector.now();
    let (values, group_of) = {
        let mut state = collector.state();
        state.advance(now);
        check_span(&state, query.span, now)?;
        state.group(&query.by, query.service.as_deref(), query.span.from)
    };
    let question = Question { query, values, group_of };
    let asked = collector.clone();
    stream(collector, move |out| question.write(&asked, out)).await
}

/// Refuses what nobody can know of: what was before the first second that is kept, or has not come yet.
pub(crate) fn check_span(state: &State, span: Span, now: Timestamp) -> Result<(), ApiError> {
    let known = state.known(now);
    if known.from <= span.from && span.until <= known.until {
        return Ok(());
    }
    let message = format!(
        "this collector holds the seconds from {} to {}, and {} to {} was asked for; ask for another or shorter span",
        known.from, known.until, span.from, span.until
    );
    Err(ApiError::beyond_history(message))
}

/// What was counted of groups over equal steps.
pub(crate) struct Sums {
    /// Each group's values of the tags it was asked by, sorted.
    pub(crate) values: Vec<Vec<String>>,
    /// Step by step, those of each in the order of the groups.
    pub(crate) windows: Vec<Window>,
}

/// Sums the series of `service`, or all, by `by` over `steps`, of which no second is before the first that is kept. Blocks.
pub(crate) fn sums(
    collector: &Collector,
    by: &[Tag],
    service: Option<&str>,
    steps: Steps,
) -> Result<Sums, ApiError> {
    let now = collector.now();
    let (values, group_of) = {
        let mut state = collector.state();
        state.advance(now);
        state.group(by, service, steps.from)
    };
    let service = service.map(str::to_owned);
    let query = Query { by: by.to_vec(), span: steps.whole(), step: steps.seconds, service };
    let mut question = Question { query, values, group_of };
    let windows = question.windows(collector, steps, &mut None, &|| true);
    let windows = windows.map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Gone => ApiError::internal("nobody asks any more"),
    })?;
    Ok(Sums { values: question.values, windows })
}

impl Question {
    fn write(mut self, collector: &Collector, out: &mut Out) -> Result<(), Stop> {
        out.write(br#"{"groups":["#)?;
        let steps = self.query.span.seconds() / self.query.step;
        let groups = self.values.len() as u64;
        let mut past = None;
        let (mut step, mut is_first) = (0, true);
        while step < steps && groups > 0 {
            let count = (WINDOWS_AT_ONCE / groups).clamp(1, steps - step);
            let from = self.query.span.from.plus(step * self.query.step);
            let part = Steps { from, seconds: self.query.step, count };
            let windows = self.windows(collector, part, &mut past, &|| !out.is_gone())?;
            for (row, window) in (0..).zip(windows) {
                let values = &self.values[(row % groups) as usize];
                let by = self.query.by.iter().map(|tag| tag.name()).zip(values.iter().cloned()).collect();
                let span = part.span(row / groups);
                let row = Row { by, from: span.from.0, until: span.until.0, window: window.into() };
                if !std::mem::take(&mut is_first) {
                    out.write(b",")?;
                }
                out.json(&row)?;
            }
            step += count;
        }
        out.write(b"]}")
    }

    /// The windows of `steps` by group: before the seam from the history, after it from the ledger.
    fn windows(
        &mut self,
        collector: &Collector,
        steps: Steps,
        past: &mut Option<PastQuestion>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Window>, Stop> {
        let (groups, whole) = (self.values.len(), steps.whole());
        loop {
            let seam = collector.history().visible_until();
            let stored = Span::new(whole.from, whole.until.min(seam));
            let mut windows = if stored.is_empty() {
                vec![Window::default(); steps.count as usize * groups]
            } else {
                let past =
                    past.get_or_insert_with(|| PastQuestion::new(collector, &self.query, &self.group_of));
                let mut tally = Tally::new(&past.lives, &self.group_of, groups, steps);
                let (rolled, chunks) = (past.rolled.as_deref(), Some(&past.chunks));
                collector.history().tally(&mut tally, stored, rolled, chunks, goes_on)?;
                tally.schedule(stored);
                tally.finish()
            };
            if self.add_live(collector, steps, seam, &mut windows) {
                return Ok(windows);
            }
        }
    }

    /// Adds what the ledger holds from `seam` on; `false` if it no longer does.
    fn add_live(
        &mut self,
        collector: &Collector,
        steps: Steps,
        seam: Second,
        windows: &mut [Window],
    ) -> bool {
        let groups = self.values.len();
        for step in 0..steps.count {
            let span = steps.span(step);
            let live = Span::new(span.from.max(seam), span.until);
            if live.is_empty() {
                continue;
            }
            // Step by step, so that reports wait for one sum and not for all.
            let state = collector.state();
            if state.ledger().held().from > live.from && collector.history().visible_until() > seam {
                return false;
            }
            // Series that came meanwhile were not asked for.
            let series = state.ledger().len();
            self.group_of.resize(self.group_of.len().max(series), NO_GROUP);
            let sums = state.ledger().sums(live, &self.group_of, groups);
            drop(state);
            let place = step as usize * groups;
            windows[place..place + groups].iter_mut().zip(sums).for_each(|(window, sum)| *window += sum);
        }
        true
    }
}

/// What a question needs beside where it reaches into the past.
struct PastQuestion {
    lives: Lives,
    /// The group of each series that stands for others in what is rolled up, if that can answer the question.
    rolled: Option<Vec<u32>>,
    chunks: BTreeSet<Chunk>,
}

impl PastQuestion {
    fn new(collector: &Collector, query: &Query, group_of: &[u32]) -> Self {
        let (lives, rep_of) = collector.state().lives().unwrap_or_default();
        let is_rolled = query.by.iter().all(|tag| ROLLED_TAGS.contains(tag));
        let rolled = is_rolled.then(|| {
            let mut rolled = vec![NO_GROUP; rep_of.len()];
            for (rep, group) in rep_of.iter().zip(group_of).filter(|(_, group)| **group != NO_GROUP) {
                rolled[rep.0 as usize] = *group;
            }
            rolled
        });
        Self { lives, rolled, chunks: chunks_of(group_of) }
    }
}

pub(crate) fn tags(list: &str) -> Result<Vec<Tag>, ApiError> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut tags = Vec::new();
    for name in names {
        let tag: Tag = name.parse().map_err(|error| ApiError::bad_parameter(format!("by: {error}")))?;
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
        ApiError::bad_parameter(message)
    })
}

/// A second since the Unix epoch.
pub(crate) fn second(parameter: &str, text: &str) -> Result<Second, ApiError> {
    text.parse().map(Second).map_err(|_| {
        let message = format!("{parameter}: `{text}` is no second; write whole seconds since the Unix epoch");
        ApiError::bad_parameter(message)
    })
}

pub(crate) fn unknown_parameter(given: &str, known: &str) -> ApiError {
    ApiError::bad_parameter(format!("parameter `{given}` is not known; there are {known}"))
}
