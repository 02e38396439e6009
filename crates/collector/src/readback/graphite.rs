//! `/render` of graphite-web: raw slots of exact names.
//!
//! What is asked and how is what graphite-web's own sources say, and what was measured on 1.1.10: `from` is exclusive and
//! `until` inclusive; `noCache=1`, since its cache rounds both to the minute and so lags by one; no `maxDataPoints`, which
//! averages and drops leading points; names in the body, since no URL holds a fleet. A series that does not exist is left
//! out of the answer, and a slot that holds nothing is null.

use std::{collections::HashMap, sync::Arc};

use aviary_core::{Second, Span};
use serde::Deserialize;
use serde_json::value::RawValue;
use url::form_urlencoded::Serializer;

use super::{
    Readback,
    client::{Client, SetUpError},
    reader::{Reader, Said, Unreadable},
};

/// How many series are asked for at once. Each is a round trip to carbon's cache, 0.55 ms as measured, and Django takes a
/// thousand fields in a form.
const NAMES_AT_ONCE: usize = 250;

/// The most bytes that a datapoint takes in an answer: a number, a timestamp, and what is around them.
const POINT_BYTES_MAX: usize = 64;

/// The same for a series without its points: its name three times, once by its tags, and what is around them.
const SERIES_BYTES_MAX: usize = 4_096;

/// How far back the slots of a series are looked at to find how large they are: two of an hour.
const STEP_SECONDS: u64 = 7_200;

const API: &str = "graphite-web";

/// Asks `/render`.
pub(crate) struct Graphite {
    client: Client,
    resolution: u64,
    sum: String,
}

/// What an answer has of one series: values with their timestamps.
type Points<'a> = Vec<(&'a RawValue, u64)>;

#[derive(Deserialize)]
struct Series<'a> {
    target: String,
    #[serde(borrow)]
    datapoints: Points<'a>,
}

impl Graphite {
    pub(crate) fn new(options: &Readback, resolution: u64, sum: &str) -> Result<Self, SetUpError> {
        let sum = if resolution == 1 { String::new() } else { sum.to_owned() };
        Ok(Self { client: Client::new(options)?, resolution, sum })
    }

    async fn render(&self, names: &[Arc<str>], span: Span) -> Result<Vec<Said>, Unreadable> {
        let targets: Vec<String> = names.iter().map(|name| format!("{name}{}", self.sum)).collect();
        let body = self.ask(&targets, span).await?;
        let mut by_target = self.parse(&body)?;
        let mut said = Vec::with_capacity(targets.len());
        for target in &targets {
            let points = by_target.remove(target.as_str());
            said.push(match points.map(|points| self.slots(&points, span)).transpose()? {
                None => Said::Absent,
                Some(Slots::Told(slots)) => Said::Slots(slots),
                Some(Slots::Coarse(step)) => Said::Coarse(step),
                Some(Slots::Unclear) => Said::Coarse(self.step_of(target, span).await?),
            });
        }
        Ok(said)
    }

    async fn ask(&self, targets: &[String], span: Span) -> Result<Vec<u8>, Unreadable> {
        let points = (span.seconds() / self.resolution + 2) as usize;
        let limit = 4_096 + targets.len() * (SERIES_BYTES_MAX + points * POINT_BYTES_MAX);
        self.client.post("render", self.form(targets, span), limit).await
    }

    fn form(&self, targets: &[String], span: Span) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("format", "json").append_pair("noCache", "1");
        form.append_pair("from", &span.from.minus(1).to_string());
        form.append_pair("until", &span.until.minus(self.resolution).to_string());
        for target in targets {
            form.append_pair("target", target);
        }
        form.finish()
    }

    fn parse<'b>(&self, body: &'b [u8]) -> Result<HashMap<String, Points<'b>>, Unreadable> {
        let series: Vec<Series<'b>> = serde_json::from_slice(body).map_err(|error| {
            let begins = String::from_utf8_lossy(body.get(..40).unwrap_or(body)).escape_debug().to_string();
            self.strange(format!("{error}; it begins `{begins}`"))
        })?;
        Ok(series.into_iter().map(|series| (series.target, series.datapoints)).collect())
    }

    /// The slots of a series, if its points are those of `span`, one for each slot.
    fn slots(&self, points: &[(&RawValue, u64)], span: Span) -> Result<Slots, Unreadable> {
        let step = match points {
            [(_, first), (_, second), ..] if second > first => second - first,
            [_, _, ..] => return Err(self.strange("its timestamps do not grow".to_owned())),
            _ => self.resolution,
        };
        if step != self.resolution {
            return Ok(Slots::Coarse(step));
        }
        let wanted = span.seconds() / self.resolution;
        let is_in_step = (0_u64..)
            .zip(points)
            .all(|(index, (_, timestamp))| *timestamp == span.from.0 + index * self.resolution);
        if !is_in_step || points.is_empty() || points.len() as u64 > wanted {
            return Ok(Slots::Unclear);
        }
        if (points.len() as u64) < wanted {
            // Only one of several slots may as well be a single larger one.
            if points.len() == 1 {
                return Ok(Slots::Unclear);
            }
            let reached = points.last().map_or(span.from, |(_, timestamp)| Second(*timestamp));
            let wanted = span.until.minus(self.resolution);
            return Err(Unreadable::Lags { at: self.client.at(), reached, wanted });
        }
        let value = |(raw, timestamp): &(&RawValue, u64)| match raw.get() {
            "null" => Ok(None),
            // What no f64 holds comes out infinite, and is a value all the same.
            number => match number.parse::<f64>() {
                Ok(value) => Ok(Some((Second(*timestamp), value))),
                Err(_) => Err(self.strange("a value is no number".to_owned())),
            },
        };
        let slots = points.iter().filter_map(|point| value(point).transpose());
        Ok(Slots::Told(slots.collect::<Result<_, _>>()?))
    }

    /// The seconds of a slot of `target`, whose answer did not show it.
    async fn step_of(&self, target: &str, span: Span) -> Result<u64, Unreadable> {
        let wide = Span::before(span.until, STEP_SECONDS);
        let body = self.ask(&[target.to_owned()], wide).await?;
        let steps = self.parse(&body)?;
        let points = steps.get(target).map(Vec::as_slice).unwrap_or_default();
        match points {
            [(_, first), (_, second), ..] if *second > first + self.resolution => Ok(second - first),
            _ => Err(self.strange("its points are not those of the seconds that were asked for".to_owned())),
        }
    }

    fn strange(&self, reason: String) -> Unreadable {
        Unreadable::Strange { at: self.client.at(), api: API, reason }
    }
}

enum Slots {
    Told(Vec<(Second, f64)>),
    Coarse(u64),
    Unclear,
}

impl Reader for Graphite {
    async fn read(&self, names: &[Arc<str>], span: Span) -> Result<Vec<Said>, Unreadable> {
        let mut said = Vec::with_capacity(names.len());
        for names in names.chunks(NAMES_AT_ONCE) {
            said.extend(self.render(names, span).await?);
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests;
