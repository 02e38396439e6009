//! `/api/v1/events`: what changed around the services and agents, for charts and pages.
//!
//! `GET /api/v1/events?from=T&until=T` answers, oldest first,
//!
//! ```json
//! {"events":[
//!   {"at":1763690400,"kind":"address_added","host":"graphite.example.com","address":"192.0.2.7",
//!    "vantage":{"kind":"external","region":"eu-west-1","zone":null,"network":"aws","node":"canary-7"}},
//!   {"at":1763690410,"kind":"deploy","text":"release 42","service":"ingest","by":"ci"}]}
//! ```
//!
//! `kind` is `address_added` or `address_removed` of what agents saw, `agent_paged` where one that was cut off paged by
//! itself, `store_full` and
//! `store_recovered` what became of this collector's disk, and `rollout_began`, `rollout_held`, `rollout_active`, `rollout_forced`,
//! `rollout_timed_out`, `rollout_broken_off`, `rollout_dropped` and `rolled_back` what became of a version of the services. Whoever has a token to report with tells of other
//! changes by `POST /api/v1/events` with `{"kind":"deploy","text":"release 42","service":"ingest","at":1763690410}`,
//! where `service` and `at` may be left out, and gets `201` with the event; `by` is the name of the token.
//! An event that is told again is the same event.

mod kept;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use aviary_core::{Second, Span, Timestamp, Vantage};
use aviary_wire::report::{self, EventKind};
use serde::{Deserialize, Serialize};

use crate::{
    delivery::Changed,
    error::ApiError,
    state::AHEAD_SECONDS_MAX,
    sums::{second, unknown_parameter},
};

/// The most events that are held; the oldest are dropped and counted.
const EVENTS_MAX: usize = 10_000;

/// That an agent that was cut off paged by itself.
const AGENT_PAGED: &str = "agent_paged";

/// The longest body of an event that is told.
pub(crate) const EVENT_BYTES_MAX: usize = 16 << 10;

const KIND_CHARACTERS_MAX: usize = 32;
const TEXT_CHARACTERS_MAX: usize = 1_000;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    at: Second,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Address { kind: EventKind, host: String, address: IpAddr, vantage: Arc<Vantage> },
    Told { kind: String, text: String, service: Option<String>, by: Option<String> },
}

/// The newest events.
#[derive(Default)]
pub(crate) struct Events {
    held: BTreeSet<Event>,
    dropped: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) events: Vec<Body>,
}

/// An event as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Body {
    pub(crate) at: u64,
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vantage: Option<VantageBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
}

#[derive(Debug, Serialize)]
struct VantageBody {
    kind: &'static str,
    region: String,
    zone: Option<String>,
    network: Option<String>,
    node: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    kind: String,
    text: String,
    service: Option<String>,
    at: Option<u64>,
}

impl Event {
    /// What the agent at `vantage` saw.
    pub(crate) fn seen(event: &report::Event, vantage: Arc<Vantage>) -> Self {
        let what = match event.what.clone() {
            report::What::Address { kind, host, address } => What::Address { kind, host, address, vantage },
            report::What::Paged { service, key, receiver } => What::Told {
                kind: AGENT_PAGED.to_owned(),
                text: format!("no collector answered it, and it paged `{receiver}` by itself, as {key}"),
                service: Some(service),
                by: Some(vantage.node.clone()),
            },
        };
        Self { at: event.second, what }
    }

    /// What this collector has to tell of itself.
    pub(crate) fn of_ours(kind: &str, text: String, at: Second) -> Self {
        Self { at, what: What::Told { kind: kind.to_owned(), text, service: None, by: None } }
    }

    /// What somebody told with the token called `by`.
    pub(crate) fn parse(body: &[u8], by: Option<&str>, now: Timestamp) -> Result<Self, ApiError> {
        let refuse = |message: String| {
            ApiError::bad_event(message)
                .detail(r#"send such as {"kind":"deploy","text":"release 42","service":"ingest"}"#)
        };
        let posted: Posted = serde_json::from_slice(body)
            .map_err(|error| refuse(format!("the event is not as it should be: {error}")))?;
        let is_word = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                && (1..=KIND_CHARACTERS_MAX).contains(&text.len())
        };
        if !is_word(&posted.kind) || posted.kind.starts_with("address_") {
            return Err(refuse(format!(
                "`kind` is one word of at most {KIND_CHARACTERS_MAX} letters, digits, `_` and `-`, and none of \
                 the agents' own address_added and address_removed"
            )));
        }
        let texts = [("text", Some(&posted.text)), ("service", posted.service.as_ref())];
        for (field, text) in texts.into_iter().filter_map(|(field, text)| Some((field, text?))) {
            if text.trim().is_empty() || text.chars().count() > TEXT_CHARACTERS_MAX {
                return Err(refuse(format!("`{field}` has 1 to {TEXT_CHARACTERS_MAX} characters")));
            }
        }
        let at = posted.at.map_or_else(|| now.second(), Second);
        if at > now.second().plus(AHEAD_SECONDS_MAX) {
            let message =
                format!("`at` {at} is not yet: it is {} here; tell it when it happens", now.second());
            return Err(refuse(message));
        }
        let Posted { kind, text, service, .. } = posted;
        Ok(Self { at, what: What::Told { kind, text, service, by: by.map(str::to_owned) } })
    }

    /// The event as the API shows it.
    pub(crate) fn body(&self) -> Body {
        let body = Body {
            at: self.at.0,
            kind: String::new(),
            host: None,
            address: None,
            vantage: None,
            text: None,
            service: None,
            by: None,
        };
        match self.what.clone() {
            What::Address { kind, host, address, vantage } => {
                let Vantage { kind: place, region, zone, network, node } = Vantage::clone(&vantage);
                Body {
                    kind: name(kind).to_owned(),
                    host: Some(host),
                    address: Some(address),
                    vantage: Some(VantageBody { kind: place.name(), region, zone, network, node }),
                    ..body
                }
            }
            What::Told { kind, text, service, by } => Body { kind, text: Some(text), service, by, ..body },
        }
    }
}

/// What the API calls it.
const fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::AddressAdded => "address_added",
        EventKind::AddressRemoved => "address_removed",
    }
}

impl Event {
    /// The same as a page says it.
    fn changed(&self) -> Changed<'_> {
        let at = self.at;
        match &self.what {
            What::Address { kind, host, address, vantage } => Changed {
                at,
                kind: name(*kind),
                text: format!("{address} of {host}").into(),
                service: None,
                by: Some(&vantage.node),
            },
            What::Told { kind, text, service, by } => {
                Changed { at, kind, text: text.into(), service: service.as_deref(), by: by.as_deref() }
            }
        }
    }
}

impl Events {
    /// What changed around the services, as a page says it: not what became of us.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Changed<'_>> {
        let is_ours =
            |changed: &Changed<'_>| matches!(changed.kind, AGENT_PAGED | "store_full" | "store_recovered");
        self.held.iter().map(Event::changed).filter(move |changed| !is_ours(changed))
    }

    /// Notes an event, unless it is known, or older than all that a full table holds.
    pub(crate) fn note(&mut self, event: Event) {
        let is_beyond =
            self.held.len() >= EVENTS_MAX && self.held.first().is_some_and(|oldest| event < *oldest);
        if is_beyond {
            return;
        }
        self.held.insert(event);
        while self.held.len() > EVENTS_MAX {
            self.held.pop_first();
            self.dropped += 1;
        }
    }

    /// How many are held, and how many were dropped.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (self.held.len(), self.dropped)
    }

    /// The events of `span`.
    pub(crate) fn answer(&self, span: Span) -> Answer {
        let inside = self.held.iter().filter(|event| span.contains(event.at));
        Answer { events: inside.map(Event::body).collect() }
    }
}

/// Reads the parameters `from` and `until` of a request made at `now`; without them, everything that is held.
pub(crate) fn span(parameters: &[(String, String)], now: Timestamp) -> Result<Span, ApiError> {
    let (mut from, mut until) = (Second(0), now.second().plus(AHEAD_SECONDS_MAX + 1));
    for (key, value) in parameters {
        match key.as_str() {
            "from" => from = second("from", value)?,
            "until" => until = second("until", value)?,
            other => return Err(unknown_parameter(other, "from, until")),
        }
    }
    Ok(Span::new(from, until))
}

/// A body that is no event for its size alone.
pub(crate) fn too_large() -> ApiError {
    let message = format!("an event has at most {EVENT_BYTES_MAX} bytes");
    ApiError::event_too_large(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_763_690_400_000_000);

    #[test]
    fn an_event_is_read_or_refused_with_a_reason() {
        let parsed = Event::parse(br#"{"kind":"deploy","text":"release 42"}"#, Some("ci"), NOW).unwrap();
        let shown = serde_json::to_value(parsed.body()).unwrap();
        let expected =
            serde_json::json!({"at": 1_763_690_400, "kind": "deploy", "text": "release 42", "by": "ci"});
        assert_eq!(shown, expected);
        let table = [
            (r#"{"kind":"deploy"}"#, "missing field `text`"),
            (r#"{"kind":"de ploy","text":"x"}"#, "one word"),
            (r#"{"kind":"address_added","text":"x"}"#, "agents' own"),
            (r#"{"kind":"deploy","text":" "}"#, "`text` has 1 to"),
            (r#"{"kind":"deploy","text":"x","at":1763690500}"#, "is not yet"),
            (r#"{"kind":"deploy","text":"x","when":1}"#, "unknown field `when`"),
        ];
        for (body, expected) in table {
            let error = Event::parse(body.as_bytes(), None, NOW).unwrap_err();
            assert!(error.message().contains(expected), "{body}: {}", error.message());
        }
    }

    #[test]
    fn the_newest_events_are_held_once_each() {
        let mut events = Events::default();
        let told = |at: usize| {
            let body = format!(r#"{{"kind":"deploy","text":"x","at":{at}}}"#);
            Event::parse(body.as_bytes(), None, NOW).unwrap()
        };
        for at in (0..EVENTS_MAX + 5).chain(0..EVENTS_MAX) {
            events.note(told(at));
        }
        assert_eq!(events.counts(), (EVENTS_MAX, 5), "a repeat of what was dropped changes nothing");
        assert_eq!(events.answer(Span::new(Second(0), Second(7))).events.len(), 2);
    }
}
