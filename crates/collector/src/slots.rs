//! `GET /api/v1/slots`: the exact seconds of series, with their outcomes.

use std::collections::BTreeMap;

use aviary_core::{
    Second, SeriesId, Span, Tag, Timestamp, Window,
    losses::{Cause, Loss},
    mark::{Mark, Sender, Storage},
    outcome::Fault,
    window::Proof,
};
use axum::response::Response;
use serde::Serialize;

use crate::{
    Collector, closed_until,
    error::ApiError,
    history::Value,
    state::State,
    stream::{Out, Stop, stream},
    sums::{second, unknown_parameter},
};

/// What was asked: which series, and when.
pub(crate) struct Query {
    tags: Vec<(Tag, String)>,
    span: Span,
}

/// A slot as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Slot {
    pub(crate) second: u64,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) late: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reached: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
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
            ApiError::bad_parameter(message)
        })?;
        let tag = tag.trim().parse().map_err(|error| ApiError::bad_parameter(format!("series: {error}")))?;
        Ok((tag, value.trim().to_owned()))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

/// Answers `query`, series by series.
pub(crate) async fn answer(collector: &Collector, query: Query) -> Result<Response, ApiError> {
    let now = collector.now();
    let (chosen, span) = {
        let mut state = collector.state();
        state.advance(now);
        let span = query.span.intersection(state.known(now));
        (chosen(&state, &query), span)
    };
    let asked = collector.clone();
    stream(collector, move |out| {
        out.write(br#"{"series":["#)?;
        for (place, id) in chosen.into_iter().enumerate() {
            if place > 0 {
                out.write(b",")?;
            }
            series(&asked, id, span, out)?;
        }
        out.write(b"]}")
    })
    .await
}

fn chosen(state: &State, query: &Query) -> Vec<SeriesId> {
    let catalog = state.catalog();
    let is_asked = |id: &SeriesId| query.tags.iter().all(|(tag, value)| catalog.tag(*id, *tag) == value);
    catalog.ids().filter(|id| state.ledger().life(*id).until > query.span.from).filter(is_asked).collect()
}

/// Writes the slots of one series.
fn series(collector: &Collector, id: SeriesId, span: Span, out: &mut Out) -> Result<(), Stop> {
    let (tags, life, seam, live) = {
        let state = collector.state();
        let catalog = state.catalog();
        let tags: BTreeMap<_, _> =
            Tag::ALL.iter().map(|tag| (tag.name(), catalog.tag(id, *tag).to_owned())).collect();
        let seam = state.history().map_or(Second(0), |history| history.visible_until());
        // All of it, before the ledger lets go of any.
        let live = Span::new(span.from.max(seam), span.until).intersection(state.ledger().life(id));
        let live = live.iter().filter_map(|second| Some((second, live_slot(&state, id, second)?)));
        (tags, state.life(id), seam, live.collect::<Vec<_>>())
    };
    out.write(br#"{"tags":"#)?;
    out.json(&tags)?;
    out.write(br#","slots":["#)?;
    let mut writer = Writer { out, is_first: true };
    let stored = Span::new(span.from, span.until.min(seam)).intersection(life.span);
    if !stored.is_empty() {
        let mut stopped = None;
        collector.history().slots(id, stored, |run, value| {
            stopped = life.slots(run, value, &mut |part, slot| writer.run(part, slot)).err();
            stopped.is_none()
        })?;
        if let Some(stop) = stopped {
            return Err(stop);
        }
    }
    for (second, slot) in live {
        writer.run(Span::new(second, second.plus(1)), slot)?;
    }
    out.write(b"]}")
}

/// Writes slots that are alike as fast as their seconds can be told.
struct Writer<'a> {
    out: &'a mut Out,
    is_first: bool,
}

impl Writer<'_> {
    fn run(&mut self, span: Span, slot: Slot) -> Result<(), Stop> {
        const HEAD: &str = r#"{"second":"#;
        let whole = serde_json::to_string(&Slot { second: 0, ..slot }).map_err(Stop::unwritable)?;
        // Whatever follows the second, which comes first.
        let rest = whole.get(HEAD.len() + 1..).unwrap_or_default();
        let mut from = span.from;
        while from < span.until {
            let digits = from.0.to_string();
            let mut line = format!(",{HEAD}{digits}{rest}").into_bytes();
            let digits = 1 + HEAD.len()..1 + HEAD.len() + digits.len();
            // From one second to the next only the last digits change.
            loop {
                let comma = usize::from(std::mem::take(&mut self.is_first));
                self.out.write(&line[comma..])?;
                from = from.plus(1);
                if from == span.until || !count_up(&mut line[digits.clone()]) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Adds one to a number in decimal digits; `false` if it needs one digit more.
fn count_up(digits: &mut [u8]) -> bool {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return true;
        }
        *digit = b'0';
    }
    false
}

/// One series' life, as far as its slots need it.
pub(crate) struct LifeOf {
    /// When it was scheduled.
    pub(crate) span: Span,
    /// Where agents were told not to probe it.
    pub(crate) pauses: Vec<Span>,
    /// What showed delivery, each until when; the last for good.
    pub(crate) proofs: Vec<(Second, Proof)>,
}

impl LifeOf {
    /// Cuts a run of stored slots where what they mean changes.
    fn slots(
        &self,
        run: Span,
        value: Value,
        visit: &mut impl FnMut(Span, Slot) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut at = run.from;
        while at < run.until {
            let pause = self.pauses.iter().find(|pause| at < pause.until);
            let is_paused = pause.is_some_and(|pause| pause.contains(at));
            let turns = pause.map_or(run.until, |pause| if is_paused { pause.until } else { pause.from });
            let proof = self.proofs.iter().find(|(until, _)| at < *until);
            let (proved, proof) = proof.copied().unwrap_or_else(|| (Second(u64::MAX), Proof::default()));
            let until = run.until.min(turns).min(proved);
            let is_muted = is_paused && value.mark.sender() == Sender::Unknown;
            let mark = if is_muted { Mark::sent(Sender::Muted) } else { value.mark };
            visit(Span::new(at, until), slot(mark, proof, value.loss.as_ref()))?;
            at = until;
        }
        Ok(())
    }
}

/// What is known of a slot that the ledger holds.
pub(crate) fn live_slot(state: &State, series: SeriesId, second: Second) -> Option<Slot> {
    let mark = state.ledger().mark(series, second).ok()?;
    Some(slot(mark, state.ledger().proof(series), state.losses().get(series, second)))
}

/// A slot, whose second is told elsewhere.
fn slot(mark: Mark, proof: Proof, loss: Option<&Loss>) -> Slot {
    let mut window = Window::default();
    window.add(mark, proof);
    let loss = loss.filter(|_| window.lost + window.local > 0);
    let fault = loss.map(|loss| match loss.cause {
        Cause::Local(fault) => fault.name(),
        Cause::Service(fault) => fault.name(),
    });
    let status = loss.and_then(|loss| match loss.cause {
        Cause::Service(Fault::Status(status)) => Some(status),
        _ => None,
    });
    Slot {
        second: 0,
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
    }
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

#[cfg(test)]
mod tests {
    use super::count_up;

    #[test]
    fn digits_count_as_numbers_do() {
        for number in [0_u64, 8, 9, 10, 199, 999, 1_763_690_399, 1_763_699_999] {
            let mut digits = number.to_string().into_bytes();
            let fits = count_up(&mut digits);
            let next = (number + 1).to_string();
            assert_eq!(fits, next.len() == digits.len(), "{number}");
            assert!(!fits || next.as_bytes() == digits, "{number}");
        }
    }
}
