//! `GET /api/v1/report?month=2026-11[&service=S]`: delivery, error budget and unmeasured time of a month (UTC), by service and
//! protocol. The last whole month, if none is named; of one that goes on, what there is of it.
//!
//! *Budget* is how many of the measured slots may be lost: each protocol's by its own acceptable loss. *Spent* is how much of
//! that was, in per cent, rounded up; null where nothing may be lost and something is, and where nothing was measured. *Unmeasured time* is the share that was not measured of
//! the time in which there was something to measure.

use std::collections::BTreeMap;

use aviary_core::{Second, Span, Timestamp, Window, verdict::Policy};
use serde::Serialize;

use super::{
    days::{Counted, Percent, may_lose},
    figures::{Windows, hours_of},
};
use crate::{Collector, error::ApiError, settled_until, sums};

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    month: String,
    span: Span,
    service: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    month: String,
    /// What of the month is in it.
    from: u64,
    until: u64,
    /// All of the month is.
    complete: bool,
    rows: Vec<Row>,
}

/// One service, as a whole or over one protocol.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    service: String,
    protocol: Option<String>,
    planned: u64,
    measured: u64,
    delivered: u64,
    lost: u64,
    late: u64,
    /// Not run, or by the agent's own fault.
    not_measured: u64,
    /// Nobody told.
    cannot_tell: u64,
    /// Told not to probe.
    muted: u64,
    /// Sent, and nothing can show whether it arrived.
    unproven: u64,
    delivery: Option<Percent>,
    measured_fraction: Option<Percent>,
    unmeasured_seconds: u64,
    /// In per cent.
    acceptable_loss: f64,
    /// In slots.
    budget: f64,
    /// In per cent of the budget.
    spent: Option<f64>,
}

impl Query {
    /// Reads the parameters of a request made at `now`.
    pub(crate) fn parse(parameters: &[(String, String)], now: Timestamp) -> Result<Self, ApiError> {
        let (mut month, mut service) = (None, None);
        for (key, value) in parameters {
            match key.as_str() {
                "month" => month = Some(value.clone()),
                "service" => service = Some(value.clone()),
                other => return Err(sums::unknown_parameter(other, "month, service")),
            }
        }
        let month = month.or_else(|| last_month(now));
        let month = month.ok_or_else(|| ApiError::bad_parameter("month: name one, such as 2026-11"))?;
        let span = span(&month).ok_or_else(|| {
            ApiError::bad_parameter(format!("month: `{month}` is no month; write such as 2026-11"))
        })?;
        Ok(Self { month, span, service })
    }

    /// Blocks.
    pub(crate) fn answer(self, collector: &Collector) -> Result<Report, ApiError> {
        let now = collector.now();
        let (known, policies) = {
            let state = collector.state();
            let policies: BTreeMap<String, Policy> =
                state.services().into_iter().map(|service| (service.name, service.policy)).collect();
            (state.known(now).from, policies)
        };
        let span = Span::new(self.span.from.max(known), self.span.until.min(settled_until(now)));
        if span.is_empty() {
            let since = aviary_notify::rfc3339(known.start());
            let first = since.get(..7).unwrap_or_default();
            let message = format!(
                "month: this collector knows nothing of {}, since what it knows begins at {since}; ask for {first} or later",
                self.month
            );
            return Err(ApiError::beyond_history(message));
        }
        let hours = hours_of(collector, span)?;
        let is_wanted = |service: &str| self.service.as_deref().is_none_or(|wanted| wanted == service);
        let rows = rows(&hours, &policies).into_iter().filter(|row| is_wanted(&row.service)).collect();
        let complete = span == self.span;
        Ok(Report { month: self.month, from: span.from.0, until: span.until.0, complete, rows })
    }
}

/// The month before the one that is at `now`.
fn last_month(now: Timestamp) -> Option<String> {
    let at = jiff::Timestamp::from_second(i64::try_from(now.second().0).ok()?).ok()?;
    let first = at.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month();
    let last = first.yesterday().ok()?;
    Some(format!("{:04}-{:02}", last.year(), last.month()))
}

/// From the first second of a month to that of the next, in UTC.
fn span(month: &str) -> Option<Span> {
    let (year, number) =
        month.split_once('-').filter(|(year, number)| year.len() == 4 && number.len() == 2)?;
    let first = jiff::civil::Date::new(year.parse().ok()?, number.parse().ok()?, 1).ok()?;
    let next = first.last_of_month().tomorrow().ok()?;
    let second = |date: jiff::civil::Date| {
        let at = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
        u64::try_from(at).ok().map(Second)
    };
    Some(Span::new(second(first)?, second(next)?))
}

/// A row of each service and, below it, of each of its protocols.
fn rows(hours: &[(Span, Windows)], policies: &BTreeMap<String, Policy>) -> Vec<Row> {
    let mut of: BTreeMap<&str, BTreeMap<&str, Sum>> = BTreeMap::new();
    let mut whole: BTreeMap<&str, Sum> = BTreeMap::new();
    let unknown = Policy::default();
    for (span, windows) in hours {
        let mut there: BTreeMap<&str, bool> = BTreeMap::new();
        for ((service, protocol), window) in windows {
            let budget = may_lose(policies.get(service).unwrap_or(&unknown), protocol, window.judged());
            let sum = of.entry(service).or_default().entry(protocol).or_default();
            sum.add(*window, budget);
            whole.entry(service).or_default().add(*window, budget);
            if window.scheduled > 0 {
                sum.seconds += span.seconds();
                there.insert(service, true);
            }
        }
        for service in there.into_keys() {
            whole.entry(service).or_default().seconds += span.seconds();
        }
    }
    let mut rows = Vec::new();
    for (service, sum) in whole {
        rows.push(sum.row(service, None));
        let protocols = of.remove(service).unwrap_or_default();
        rows.extend(protocols.into_iter().map(|(protocol, sum)| sum.row(service, Some(protocol))));
    }
    rows
}

#[derive(Default)]
struct Sum {
    window: Window,
    /// In millionths of a slot.
    budget: u128,
    /// How long there was something to measure, by the hour.
    seconds: u64,
}

impl Sum {
    fn add(&mut self, window: Window, budget: u128) {
        self.window += window;
        self.budget += budget;
    }

    fn row(&self, service: &str, protocol: Option<&str>) -> Row {
        let window = self.window;
        let counted = Counted::from(window);
        let lost = u128::from(window.lost) * 1_000_000;
        // In thousandths, rounded up: something is never nothing.
        let spent = (lost * 100_000).div_ceil(self.budget.max(1));
        let share = |part: u128, whole: u128| part as f64 / whole.max(1) as f64;
        let unmeasured = u128::from(counted.unmeasured()) * u128::from(self.seconds);
        let unmeasured = unmeasured.div_ceil(u128::from(counted.planned.max(1)));
        Row {
            service: service.to_owned(),
            protocol: protocol.map(str::to_owned),
            planned: counted.planned,
            measured: counted.measured,
            delivered: counted.delivered,
            lost: window.lost,
            late: window.late,
            not_measured: window.local + window.missed,
            cannot_tell: window.unknown,
            muted: window.muted,
            unproven: window.unproven,
            delivery: counted.delivery(),
            measured_fraction: counted.measured_fraction(),
            unmeasured_seconds: u64::try_from(unmeasured).unwrap_or(u64::MAX),
            acceptable_loss: share(self.budget, u128::from(window.judged()) * 10_000),
            budget: self.budget as f64 / 1e6,
            spent: match (self.budget, window.lost) {
                _ if window.judged() == 0 => None,
                (0, 0) => Some(0.0),
                (0, _) => None,
                _ => Some(spent as f64 / 1e3),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::AcceptableLoss;

    use super::*;

    #[test]
    fn a_month_is_of_utc_and_the_last_whole_one_by_default() {
        let table = [
            ("2026-11", Some((1_793_491_200, 1_796_083_200))),
            ("2024-02", Some((1_706_745_600, 1_709_251_200))),
            ("2026-13", None),
            ("2026-1", None),
            ("november", None),
            ("26-11", None),
            ("", None),
        ];
        for (month, expected) in table {
            let expected = expected.map(|(from, until)| Span::new(Second(from), Second(until)));
            assert_eq!(span(month), expected, "{month}");
        }
        let now =
            |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond().unsigned_abs());
        assert_eq!(last_month(now("2026-11-30T23:59:59Z")).as_deref(), Some("2026-10"));
        assert_eq!(last_month(now("2026-01-01T00:00:00Z")).as_deref(), Some("2025-12"));
        let given = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert!(
            Query::parse(&given("month", "soon"), now("2026-11-30T00:00:00Z"))
                .unwrap_err()
                .message()
                .contains("such as 2026-11")
        );
        assert!(Query::parse(&given("day", "1"), now("2026-11-30T00:00:00Z")).is_err());
    }

    #[test]
    fn a_budget_is_of_what_was_measured_and_each_protocol_has_its_own() {
        let window = |delivered, lost, missed| Window {
            scheduled: delivered + lost + missed,
            delivered,
            lost,
            missed,
            ..Window::default()
        };
        let windows = |tcp, udp| -> Windows {
            let key = |protocol: &str| ("ingest".to_owned(), protocol.to_owned());
            [(key("tcp"), tcp), (key("udp"), udp)].into()
        };
        let mut policy = Policy { acceptable_loss: AcceptableLoss::of_million(10_000), ..Policy::default() };
        policy.by_protocol.insert("udp".parse().unwrap(), AcceptableLoss::of_million(100_000));
        let hour = |number: u64| Span::new(Second(number * 3_600), Second((number + 1) * 3_600));
        let hours = [
            (hour(0), windows(window(1_000, 0, 0), window(400, 100, 500))),
            (hour(1), windows(window(990, 10, 0), window(0, 0, 0))),
        ];
        let rows = rows(&hours, &[("ingest".to_owned(), policy)].into());
        let said: Vec<_> = rows
            .iter()
            .map(|row| (row.protocol.as_deref(), row.lost, row.budget, row.spent, row.unmeasured_seconds))
            .collect();
        assert_eq!(
            said,
            [
                (None, 110, 70.0, Some(157.143), 1_200),
                (Some("tcp"), 10, 20.0, Some(50.0), 0),
                (Some("udp"), 100, 50.0, Some(200.0), 1_800),
            ]
        );
        assert_eq!(rows[1].delivery.unwrap().number(), 99.5);
        assert_eq!((rows[1].acceptable_loss, rows[2].acceptable_loss), (1.0, 10.0));
        assert_eq!((rows[0].planned, rows[0].measured, rows[0].not_measured), (3_000, 2_500, 500));
    }

    #[test]
    fn where_nothing_may_be_lost_or_nothing_was_measured_no_share_of_it_is_spent() {
        let spent = |delivered, lost, budget| {
            let mut sum = Sum::default();
            sum.add(Window { scheduled: 9, delivered, lost, ..Window::default() }, budget);
            sum.row("ingest", None).spent
        };
        assert_eq!((spent(9, 0, 0), spent(8, 1, 0)), (Some(0.0), None));
        assert_eq!((spent(0, 0, 0), spent(1, 0, 1_000)), (None, Some(0.0)));
    }
}
