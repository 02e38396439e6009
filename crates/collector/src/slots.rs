//! `GET /api/v1/slots`: the exact seconds of series, with their outcomes.

use aviary_core::{
    SeriesId, Span, Tag, Timestamp, Window,
    losses::Cause,
    mark::{Sender, Storage},
    outcome::Fault,
};
use serde::Serialize;

use crate::{
    closed_until,
    error::ApiError,
    state::State,
    sums::{second, unknown_parameter},
};

/// The most slots of one answer.
const SLOTS_MAX: u64 = 100_000;

/// What was asked: which series, and when.
pub(crate) struct Query {
    tags: Vec<(Tag, String)>,
    span: Span,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    series: Vec<SeriesSlots>,
}

#[derive(Debug, Serialize)]
struct SeriesSlots {
    tags: std::collections::BTreeMap<&'static str, String>,
    slots: Vec<Slot>,
}

#[derive(Debug, Serialize)]
struct Slot {
    second: u64,
    outcome: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    late: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

impl Query {
    /// Reads the parameters: `series=protocol:udp,region:eu-west-1` (any tags), `from` and `until`.
    pub(crate) fn parse(parameters: &[(String, String)], now: Timestamp) -> Result<Self, ApiError> {
        let mut tags = Vec::new();
        let (mut from, mut until) = (None, closed_until(now));
        for (key, value) in parameters {
            match key.as_str() {
                "series" => tags = selector(value)?,
                "from" => from = Some(second("from", value)?),
                "until" => until = second("until", value)?,
                other => return Err(unknown_parameter(other, "series, from, until")),
            }
        }
        let from = from.unwrap_or_else(|| until.minus(60));
        Ok(Self { tags, span: Span::new(from, until) })
    }
}

fn selector(text: &str) -> Result<Vec<(Tag, String)>, ApiError> {
    let one = |part: &str| {
        let (tag, value) = part.split_once(':').ok_or_else(|| {
            let message = format!(
                "series: `{part}` is no TAG:VALUE; write such as series=protocol:udp,region:eu-west-1"
            );
            ApiError::bad("bad_parameter", message)
        })?;
        let tag =
            tag.trim().parse().map_err(|error| ApiError::bad("bad_parameter", format!("series: {error}")))?;
        Ok((tag, value.trim().to_owned()))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

/// The slots that `query` asks for.
pub(crate) fn answer(state: &State, query: &Query) -> Result<Answer, ApiError> {
    let catalog = state.catalog();
    let chosen: Vec<SeriesId> = catalog
        .ids()
        .filter(|id| state.ledger().life(*id).until > query.span.from)
        .filter(|id| query.tags.iter().all(|(tag, value)| catalog.tag(*id, *tag) == value))
        .collect();
    let span = query.span.intersection(state.ledger().held());
    let count = (chosen.len() as u64).saturating_mul(span.seconds());
    if count > SLOTS_MAX {
        let message = format!("{count} slots were asked for, at most {SLOTS_MAX} are given");
        return Err(ApiError::bad("too_many_slots", message).detail("choose fewer series or a shorter span"));
    }
    let series = chosen.into_iter().map(|id| SeriesSlots {
        tags: Tag::ALL.iter().map(|tag| (tag.name(), catalog.tag(id, *tag).to_owned())).collect(),
        slots: span
            .intersection(state.ledger().life(id))
            .iter()
            .filter_map(|second| slot(state, id, second))
            .collect(),
    });
    Ok(Answer { series: series.collect() })
}

fn slot(state: &State, series: SeriesId, second: aviary_core::Second) -> Option<Slot> {
    let mark = state.ledger().mark(series, second).ok()?;
    let mut window = Window::default();
    window.add(mark, state.ledger().proof(series));
    let loss = state.losses().get(series, second).filter(|_| window.lost + window.local > 0);
    let fault = loss.map(|loss| match loss.cause {
        Cause::Local(fault) => fault.name(),
        Cause::Service(fault) => fault.name(),
    });
    let status = loss.and_then(|loss| match loss.cause {
        Cause::Service(Fault::Status(status)) => Some(status),
        _ => None,
    });
    Some(Slot {
        second: second.0,
        outcome: class(&window, mark.sender()),
        late: window.late > 0,
        stored: match mark.storage() {
            Storage::Unknown => None,
            Storage::Stored => Some(true),
            Storage::NotStored => Some(false),
        },
        phase: loss.map(|loss| loss.phase.name()),
        fault,
        status,
        reached: loss.and_then(|loss| loss.reached).map(|rung| rung.name()),
        address: loss.and_then(|loss| loss.address).map(|address| address.to_string()),
    })
}

const fn class(window: &Window, sender: Sender) -> &'static str {
    match sender {
        Sender::Unknown => "unknown",
        Sender::Missed => "missed",
        Sender::Local => "local",
        Sender::Muted => "muted",
        Sender::Delivered | Sender::Lost => {
            if window.delivered > 0 {
                "delivered"
            } else if window.lost > 0 {
                "lost"
            } else if window.unproven > 0 {
                "unproven"
            } else {
                "unknown"
            }
        }
    }
}
