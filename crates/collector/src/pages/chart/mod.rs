//! The sum-rate chart: what share of each protocol's datapoints was delivered, second by second.
//!
//! Each protocol has a lane of its own, so that lines at 1.0 do not hide each other. What is alike is one run, so that a
//! chart on which little happens is small. The newest seconds, of which not everybody has told yet, are not drawn; what is
//! known to be lost of them is marked at once.

mod draw;

use std::collections::BTreeMap;

use aviary_core::{Second, Span, Tag, Timestamp, detect::Tally, ledger::by_second};
use serde::Serialize;

use super::shown::Shown;
use crate::{Collector, closed_until, error::ApiError, events, history::Steps, sums};

/// So many times with loss are listed, the newest.
const LOSSES_MAX: usize = 100;

/// So many slots are looked at to tell the listed times to the second: of all series, in all those seconds.
const SLOTS_MAX: u64 = 20_000_000;

/// So many changes are marked, the newest.
const CHANGES_MAX: usize = 50;

/// What was delivered over time, by protocol.
#[derive(Debug, Serialize)]
pub(crate) struct Chart {
    span: &'static str,
    from: u64,
    until: u64,
    /// So many seconds are one point.
    step: u64,
    lines: Vec<Line>,
    /// The newest times with loss, the newest first.
    losses: Vec<LossOf>,
    losses_left_out: usize,
    changes: Vec<events::Body>,
    changes_left_out: usize,
}

/// One protocol.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    protocol: String,
    runs: Vec<Run>,
    /// Points with loss that follow each other are one.
    losses: Vec<Loss>,
}

/// Points of one rate that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Run {
    from: u64,
    until: u64,
    delivered: u64,
    lost: u64,
    /// None where nothing was judged.
    rate: Option<f64>,
}

/// When something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Loss {
    from: u64,
    until: u64,
    lost: u64,
    judged: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct LossOf {
    protocol: String,
    #[serde(flatten)]
    loss: Loss,
    /// To the second; otherwise to the chart's step.
    exact: bool,
}

/// What was judged and lost of a protocol, step by step.
type Tallies = BTreeMap<String, Vec<Tally>>;

impl Chart {
    /// Of `service`, or of all. Blocks.
    pub(crate) fn gather(
        collector: &Collector,
        service: Option<&str>,
        shown: &Shown,
    ) -> Result<Self, ApiError> {
        let now = collector.now();
        let (seconds, step) = shown.zoom.seconds_and_step();
        let newest = closed_until(now);
        let end = shown.until.map_or(newest, |until| until.min(newest));
        let until = Second(end.0.div_ceil(step) * step);
        let steps = Steps { from: until.minus(seconds), seconds: step, count: seconds / step };
        let (held_from, known_from, changes) = {
            let state = collector.state();
            let changes = state.events().answer(steps.whole()).events;
            (state.ledger().held().from, state.known(now).from, changes)
        };
        let tail = if shown.until.is_none() && step == 1 { now.second() } else { until };
        let (first, tallies) = if step == 1 && steps.from >= held_from {
            (steps.from, live(collector, service, Span::new(steps.from, tail), now))
        } else {
            // What nobody can know of is not asked for.
            let first = steps.from.max(Second(known_from.0 / step * step)).min(until);
            let count = (until.0 - first.0) / step;
            (first, stored(collector, service, Steps { from: first, count, ..steps })?)
        };
        let of_service = |change: &events::Body| {
            service.is_none_or(|service| change.service.as_deref().is_none_or(|named| named == service))
        };
        let mut changes: Vec<_> = changes.into_iter().filter(of_service).collect();
        let changes_left_out = changes.len().saturating_sub(CHANGES_MAX);
        changes.drain(..changes_left_out);
        let lines = tallies.into_iter().map(|(protocol, tallies)| {
            let at = |place: u64| first.plus(place * step);
            let points =
                (0..).zip(tallies).map(|(place, tally)| (Span::new(at(place), at(place + 1)), tally));
            Line::of(protocol, points, until)
        });
        let lines: Vec<Line> = lines.collect();
        let of = |line: &Line| {
            let protocol = line.protocol.clone();
            let losses = line.losses.clone().into_iter();
            losses
                .map(move |loss| LossOf { protocol: protocol.clone(), loss, exact: step == 1 })
                .collect::<Vec<_>>()
        };
        let mut losses: Vec<LossOf> = lines.iter().flat_map(of).collect();
        losses.sort_by(|left, right| {
            right.loss.from.cmp(&left.loss.from).then(left.protocol.cmp(&right.protocol))
        });
        let mut losses_left_out = losses.len().saturating_sub(LOSSES_MAX);
        losses.truncate(LOSSES_MAX);
        if step > 1 {
            losses = to_the_second(collector, service, losses, known_from)?;
            losses_left_out += losses.len().saturating_sub(LOSSES_MAX);
            losses.truncate(LOSSES_MAX);
        }
        Ok(Self {
            span: shown.zoom.name(),
            from: steps.from.0,
            until: until.0,
            step,
            lines,
            losses,
            losses_left_out,
            changes,
            changes_left_out,
        })
    }
}

impl Line {
    /// A line of points that follow each other; of those from `closed` on only what was lost is told.
    fn of(protocol: String, points: impl IntoIterator<Item = (Span, Tally)>, closed: Second) -> Self {
        let (mut runs, mut losses): (Vec<Run>, Vec<Loss>) = (Vec::new(), Vec::new());
        for (span, Tally { judged, lost }) in points {
            let (from, until) = (span.from.0, span.until.0);
            if lost > 0 {
                match losses.last_mut().filter(|last| last.until == from) {
                    Some(last) => {
                        *last = Loss { until, lost: last.lost + lost, judged: last.judged + judged, ..*last };
                    }
                    None => losses.push(Loss { from, until, lost, judged }),
                }
            }
            if span.from >= closed {
                continue;
            }
            let delivered = judged - lost;
            let rate = (judged > 0).then(|| delivered as f64 / judged as f64);
            match runs.last_mut().filter(|last| last.rate == rate) {
                Some(last) => {
                    *last =
                        Run { until, delivered: last.delivered + delivered, lost: last.lost + lost, ..*last };
                }
                None => runs.push(Run { from, until, delivered, lost, rate }),
            }
        }
        Self { protocol, runs, losses }
    }
}

/// What the ledger says of each second of `span`, in one pass over each of its blocks.
fn live(collector: &Collector, service: Option<&str>, span: Span, now: Timestamp) -> Tallies {
    let (values, mut group_of) = {
        let mut state = collector.state();
        state.advance(now);
        state.group(&[Tag::Protocol], service, span.from)
    };
    let at_best_from = vec![Second(u64::MAX); values.len()];
    let mut tallies = vec![vec![Tally::default(); span.seconds() as usize]; values.len()];
    let block_seconds = by_second::SECONDS as u64;
    for number in span.from.0 / block_seconds..span.until.0.div_ceil(block_seconds) {
        // Block by block, so that reports wait for one and not for all.
        let state = collector.state();
        let series = state.ledger().len();
        group_of.resize(group_of.len().max(series), aviary_core::ledger::NO_GROUP);
        let which = by_second::Which { group_of: &group_of, at_best_from: &at_best_from, begins: &[] };
        let block = state.ledger().by_second(number, span, which);
        drop(state);
        let inside = block.span();
        if inside.is_empty() {
            continue;
        }
        let first = (inside.from.0 - span.from.0) as usize;
        for (group, tallies) in (0..).zip(&mut tallies) {
            let mut row = [Tally::default(); by_second::SECONDS];
            block.add_to(&[group], &mut row);
            let inside = &mut tallies[first..first + inside.seconds() as usize];
            inside.iter_mut().zip(row).for_each(|(tally, counted)| *tally += counted);
        }
    }
    values.into_iter().flatten().zip(tallies).collect()
}

/// When exactly something was lost at these times, the newest first, as far as [`SLOTS_MAX`] goes; of the rest as it is.
fn to_the_second(
    collector: &Collector,
    service: Option<&str>,
    losses: Vec<LossOf>,
    known_from: Second,
) -> Result<Vec<LossOf>, ApiError> {
    let mut seconds_left = SLOTS_MAX / collector.state().ledger().len().max(1) as u64;
    // Protocols that lost something at the same time follow each other.
    let mut looked_at: Option<(Steps, Tallies)> = None;
    let mut told = Vec::with_capacity(losses.len());
    for of in losses {
        let span = Span::new(Second(of.loss.from).max(known_from), Second(of.loss.until));
        let steps = Steps { from: span.from, seconds: 1, count: span.seconds() };
        if looked_at.as_ref().is_none_or(|(known, _)| *known != steps) {
            let Some(left) = seconds_left.checked_sub(steps.count) else {
                told.push(of);
                continue;
            };
            seconds_left = left;
            looked_at = Some((steps, stored(collector, service, steps)?));
        }
        let tallies = looked_at.iter().filter_map(|(_, tallies)| tallies.get(&of.protocol)).flatten();
        let points = (0..).zip(tallies).map(|(second, tally)| (steps.span(second), *tally));
        let found = Line::of(String::new(), points, span.until).losses.into_iter().rev();
        told.extend(found.map(|loss| LossOf { protocol: of.protocol.clone(), loss, exact: true }));
    }
    Ok(told)
}

/// The same from the history, or across both.
fn stored(collector: &Collector, service: Option<&str>, steps: Steps) -> Result<Tallies, ApiError> {
    let sums = sums::sums(collector, &[Tag::Protocol], service, steps)?;
    let groups = sums.values.len();
    let of = |group: usize| {
        let windows = sums.windows.iter().skip(group).step_by(groups.max(1));
        windows.map(|window| Tally { judged: window.judged(), lost: window.lost }).collect()
    };
    let tallies: Vec<Vec<Tally>> = (0..groups).map(of).collect();
    Ok(sums.values.into_iter().flatten().zip(tallies).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(u64, u64)], closed: u64) -> Line {
        let points = (0..).zip(points).map(|(second, (judged, lost))| {
            (Span::new(Second(second), Second(second + 1)), Tally { judged: *judged, lost: *lost })
        });
        Line::of("udp".to_owned(), points, Second(closed))
    }

    #[test]
    fn points_of_one_rate_are_one_run_and_what_nobody_measured_is_a_gap() {
        let line = line(&[(6, 0), (6, 0), (6, 3), (0, 0), (7, 0)], 5);
        let run = |from, until, delivered, lost, rate| Run { from, until, delivered, lost, rate };
        assert_eq!(
            line.runs,
            [
                run(0, 2, 12, 0, Some(1.0)),
                run(2, 3, 3, 3, Some(0.5)),
                run(3, 4, 0, 0, None),
                run(4, 5, 7, 0, Some(1.0)),
            ]
        );
        assert_eq!(line.losses, [Loss { from: 2, until: 3, lost: 3, judged: 6 }]);
    }

    #[test]
    fn of_seconds_that_are_not_closed_only_loss_is_told() {
        let line = line(&[(6, 0), (6, 1), (3, 3), (2, 0)], 1);
        assert_eq!(line.runs.last().map(|run| run.until), Some(1));
        assert_eq!(line.losses, [Loss { from: 1, until: 3, lost: 4, judged: 9 }], "one time with loss");
    }
}
