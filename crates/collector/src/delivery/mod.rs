//! Delivery: takes what the outbox wants sent to its receivers, and brings back what they said.
//!
//! ```text
//! judgement: outbox, kept  -- Order -->  Sender  -- Page -->  Notify: a receiver
//!     ^--------------- Ended ---------------v <------ receipt or refusal
//! ```
//!
//! Whoever keeps incidents is met through [`Desk`] alone: it is asked for an incident as it is now, so that a page that
//! waited says what is so when it leaves, and is told what became of each message. What is sent when, in which order
//! and to whom is the outbox's ([`aviary_core::page`]); here every order is one attempt.
//!
//! Beside it: [`page_of`] and [`explain()`] say an incident in words, to a receiver and to whoever asks; [`Switch`] tells
//! the dead man's switch that we watch, after a loop that proved it; [`pagerduty`] takes acknowledgements.
//!
//! **Architecture invariant:** no receiver slows another, nor whoever judges: each has its own few attempts at once and
//! its own bounded queue, and what finds that full is handed back at once. An order that is older than the outbox's
//! patience is handed back as well, so that nothing overtakes what followed it.

mod around;
mod desk;
pub(crate) mod explain;
mod notify;
mod page;
pub mod pagerduty;
mod running;
mod sender;
#[cfg(test)]
mod tests;
mod waiting;
mod watchdog;
pub(crate) mod words;

use aviary_core::{
    incident::{self, Id, Incident},
    page::{self as outbox, Attempt, Sent},
};

pub use around::{Around, Changed, also_open, first_causes, last_change};
pub use explain::{beside, explain};
pub use notify::{Notify, sent_of};
pub use page::{bare_page, page_of, test_page};
pub use running::{Delivery, DeliveryFigures, Outside};
pub use sender::{Figures, Sender};
pub use waiting::{oldest_waiting, untold_since};
pub(crate) use watchdog::{JUDGED_US_MAX, UNTOLD_US_MAX};
pub use watchdog::{Signs, Switch, SwitchFigures, Tell};
pub(crate) use words::{lasted, rfc3339};

/// A message that is to be sent: what the outbox asks for, once it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Of which incident.
    pub id: Id,
    /// The incident's one key.
    pub key: String,
    /// To which receiver.
    pub receiver: String,
    /// What it says, of which state, and which attempt it is.
    pub attempt: Attempt,
}

impl Order {
    /// What `action` asks to be sent, if it asks for that.
    pub fn of(action: outbox::Action) -> Option<Self> {
        match action {
            outbox::Action::Send { id, key, receiver, attempt, .. } => {
                Some(Self { id, key, receiver, attempt })
            }
            _ => None,
        }
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Of which incident.
    pub id: Id,
    /// At which receiver.
    pub receiver: String,
    /// Which attempt.
    pub attempt: u64,
    /// What came of it.
    pub sent: Sent,
    /// What is to be kept with the incident: that it was taken, or refused for good. Without it, it is tried again.
    pub receipt: Option<String>,
}

impl Ended {
    /// What the outbox is told of it, and what the incident, where that is to keep it.
    pub fn events(self) -> (outbox::Event, Option<incident::Event>) {
        let Self { id, receiver, attempt, sent, receipt } = self;
        let receipt =
            receipt.map(|text| incident::Event::Receipt { id: id.clone(), receiver: receiver.clone(), text });
        (outbox::Event::Finished { id, receiver, attempt, sent }, receipt)
    }
}

/// An incident as it is now, for a page to one receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The incident.
    pub incident: Incident,
    /// The state of it that the receiver took last ([`aviary_core::page::Delivery::taken`]).
    pub taken: Option<u64>,
    /// What is known beside it.
    pub around: Around,
}

/// Whoever keeps incidents and the outbox, as delivery sees it.
pub trait Desk: Send + Sync + 'static {
    /// The incident as it is now, also if it is long over; none where nothing is kept of it. Called from a task that may
    /// not wait for a disk.
    fn look_up(&self, id: &Id, receiver: &str) -> Option<Subject>;

    /// Takes in what became of an order, see [`Ended::events`].
    fn ended(&self, ended: Ended) -> impl Future<Output = ()> + Send;

    /// Notes that `by` is on the incident that receivers know by `key`. Whether there is such a one that is not over.
    fn acknowledge(&self, key: &str, by: String) -> impl Future<Output = bool> + Send;
}
