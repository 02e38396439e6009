//! The outbox: who is told what of an incident, until they took it.
//!
//! A pure machine, so that whoever keeps it can do so in the transaction that changes the incident: first what
//! [`Outbox::step`] left is on the disk, then what it asked for is sent. A life that is killed in between leaves messages
//! of which nobody knows whether they arrived, and the next one sends them again under the same key.
//!
//! **What a receiver is told** follows from what it is believed to hold ([`Belief`]) and from whether the incident is
//! there or over. There is one message on its way at a time, so nothing overtakes anything, and only the latest state is
//! ever told:
//!
//! | it holds | the incident is there | the incident is over |
//! |---|---|---|
//! | nothing | opened | nothing for one that wakes people; else one note, fired and recovered |
//! | maybe the opening | opened, again | resolved: if it took the opening, it must not stay open |
//! | the opening | updated, where something changed | resolved |
//! | maybe the end | opened | resolved, again |
//! | maybe the note | opened | the note, again |
//! | the end | opened (it was reopened) | nothing more |
//!
//! **When it is told:** at once, then after 0 to 1, 2, 4, 8, 15, 30, 30.. seconds, or what the receiver asked for, up to a
//! minute; for as long as the incident is there, and for a day after it is over. What is refused for good is kept as
//! dead, and shown. Each receiver has a rate and a number of messages at once of its own, so none slows another.
//!
//! **Who is told:** the incident's route; then its escalation, step by step, until somebody acknowledges. The next step
//! does not wait where everyone refused for good, or nobody took the opening within a minute; after the last step the
//! receivers that were not asked stand in, one by one.

mod backoff;
mod case;
mod delivery;
mod notice;
mod outbox;
mod route;
#[cfg(test)]
mod tests;

pub use backoff::RETRY_AFTER_MAX;
pub use case::{Case, RECEIPT_SECONDS};
pub use delivery::{Attempt, Belief, Dead, Delivery, Message};
pub use notice::{Change, Notice, Severity, Urgency};
pub use outbox::{Action, CASES_MAX, Event, KEPT_SECONDS, Kept, Outbox, SAY_AGAIN_SECONDS, Sent};
pub use route::{Choice, Escalation, Paging, Receiver, Route};
