//! Stored slots as `GET /api/v1/slots` answers them, and what they say.

use std::{collections::BTreeMap, fmt::Display, net::SocketAddr, str::FromStr};

use aviary_core::{
    Evidence, Fault, LocalFault, Outcome, Phase, Second, Series, Span, Tag, Vantage, mark::Storage,
    vantage::ABSENT,
};
use aviary_wire::report::ClosedSlot;
use serde::Deserialize;

/// Seconds of one series, all that there are in a span.
#[derive(Clone, Debug, Deserialize)]
pub struct Stored {
    pub(super) tags: BTreeMap<String, String>,
    pub(super) slots: Vec<Slot>,
}

impl Stored {
    /// The first second that is told.
    pub fn first(&self) -> Option<Second> {
        self.slots.first().map(|slot| Second(slot.second))
    }
}

/// One second of a series.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Slot {
    pub(super) second: u64,
    outcome: Class,
    stored: Option<bool>,
    phase: Option<String>,
    fault: Option<String>,
    status: Option<u16>,
    reached: Option<String>,
    address: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Class {
    Delivered,
    Local,
    Lost,
    Missed,
    Muted,
    Unknown,
    Unproven,
}

/// Slots that are not what `/api/v1/slots` answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableSlots {
    /// A tag or a word that means nothing here.
    #[error("the collector tells a {what} that this version does not know: {why}")]
    Unknown {
        /// What.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// They are of other seconds than were asked for.
    #[error("slots from {first} to {last} were told of the seconds from {} to {}", span.from, span.until)]
    Outside {
        /// The first of them.
        first: Second,
        /// The last of them.
        last: Second,
        /// What was asked for.
        span: Span,
    },
}

/// What a slot says.
pub(super) struct Read {
    pub(super) second: Second,
    /// What its sender told, if he did, and whether he waited for its deadline. The place in the roster is to be set.
    pub(super) closed: Option<(ClosedSlot, bool)>,
    /// What storage told.
    pub(super) storage: Option<Storage>,
}

fn unknown(what: &'static str) -> impl Fn(&dyn Display) -> UnreadableSlots {
    move |why| UnreadableSlots::Unknown { what, why: why.to_string() }
}

fn parse<T: FromStr<Err: Display>>(what: &'static str, text: &str) -> Result<T, UnreadableSlots> {
    text.parse().map_err(|error| unknown(what)(&error))
}

/// The series that has these tags.
pub(super) fn series(tags: &BTreeMap<String, String>) -> Result<Series, UnreadableSlots> {
    let tag = |tag: Tag| {
        tags.get(tag.name()).map(String::as_str).ok_or_else(|| unknown("series")(&format!("it has no {tag}")))
    };
    let optional = |it: Tag| tag(it).map(|value| (value != ABSENT).then(|| value.to_owned()));
    Ok(Series {
        service: tag(Tag::Service)?.to_owned(),
        vantage: Vantage {
            kind: parse("kind", tag(Tag::Kind)?)?,
            region: tag(Tag::Region)?.to_owned(),
            zone: optional(Tag::Zone)?,
            network: optional(Tag::Network)?,
            node: tag(Tag::Node)?.to_owned(),
        },
        endpoint: parse("endpoint", tag(Tag::Endpoint)?)?,
        address: optional(Tag::Address)?.map(|address| parse("address", &address)).transpose()?,
    })
}

impl Slot {
    pub(super) fn read(&self) -> Result<Read, UnreadableSlots> {
        let second = Second(self.second);
        let storage = self.stored.map(|is| if is { Storage::Stored } else { Storage::NotStored });
        let outcome = self.outcome()?;
        let reached = self.reached.as_deref().map(|rung| parse::<Evidence>("rung", rung)).transpose()?;
        let is_deadline = matches!(outcome, Some(Outcome::Lost { fault: Fault::Timeout, .. }));
        let closed = outcome.map(|outcome| {
            (ClosedSlot { series: 0, second, outcome, reached, address: self.address }, is_deadline)
        });
        Ok(Read { second, closed, storage })
    }

    /// What its sender told.
    fn outcome(&self) -> Result<Option<Outcome>, UnreadableSlots> {
        const DELIVERED: Outcome = Outcome::Delivered(Evidence::PeerClosed);
        let phase = || self.phase.as_deref().map(|phase| parse("phase", phase)).transpose();
        let fault = self.fault.as_deref();
        Ok(Some(match self.outcome {
            Class::Unknown => return Ok(None),
            Class::Missed => Outcome::Missed,
            Class::Muted => Outcome::Muted,
            // Whether that is enough is for the rules to say.
            Class::Delivered | Class::Unproven => DELIVERED,
            Class::Local => Outcome::Local {
                phase: phase()?.unwrap_or(Phase::Connect),
                fault: fault.map_or(Ok(LocalFault::Bug), |fault| parse("fault", fault))?,
            },
            Class::Lost => match (phase()?, fault) {
                (Some(phase), Some(name)) => Outcome::Lost { phase, fault: self.fault(name)? },
                // The sender had delivered it, and storage lacks it.
                _ if self.stored == Some(false) => DELIVERED,
                // How is not kept of all.
                _ => Outcome::Lost { phase: Phase::Confirm, fault: Fault::Timeout },
            },
        }))
    }

    fn fault(&self, name: &str) -> Result<Fault, UnreadableSlots> {
        let known = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        match (known, self.status) {
            (Some(Fault::Status(_)), Some(status)) => Ok(Fault::Status(status)),
            (Some(fault), _) => Ok(fault),
            (None, _) => Err(unknown("fault")(&name)),
        }
    }
}
