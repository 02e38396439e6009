//! What the outbox is told of an incident.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Tag, incident::Id, named::named};

named! {
    /// How bad it is, as receivers have it; from the least.
    pub enum Severity {
        /// Good to know.
        Info = "info",
        /// To be looked at.
        Warning = "warning",
        /// To be looked at now.
        Error = "error",
        /// To be mended now.
        Critical = "critical",
    }
}

named! {
    /// Whom it may wake; from the least.
    pub enum Urgency {
        /// Nobody: told, and no more.
        Information = "information",
        /// Nobody: quiet hours hold it back.
        Ticket = "ticket",
        /// Somebody: nothing holds it back.
        Page = "page",
    }
}

named! {
    /// What became of an incident.
    pub enum Change {
        /// It is there, or there again.
        Opened = "opened",
        /// It changed materially.
        Updated = "updated",
        /// It is over.
        Resolved = "resolved",
    }
}

/// What the outbox is told of an incident: what it needs to choose receivers and an order. The words are made of the
/// incident itself when a message is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which incident.
    pub id: Id,
    /// Its one key at every receiver.
    pub key: String,
    /// Counts what was told of it: a later state has a higher one.
    pub revision: u64,
    /// How often it was opened again.
    pub reopens: u32,
    /// What became of it.
    pub change: Change,
    /// Whom it may wake.
    pub urgency: Urgency,
    /// How bad it is.
    pub severity: Severity,
    /// What routes choose by: the services, and the values that its rules name.
    pub tags: BTreeMap<Tag, BTreeSet<String>>,
    /// It goes to the log only.
    pub shadow: bool,
    /// These hold its alert already, under its key: an agent told them.
    pub held_by: BTreeSet<String>,
}
