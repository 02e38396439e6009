//! A verdict's life: what is suspected, opened, told, and over.
//!
//! A pure machine, stepped with what is seen each second and with what people say: [`Incidents::step`] gives what is to be
//! kept and what the outbox is to be told, both in one transaction. It is a function of what it is given, so replay and
//! a second collector name the same incidents and tell the same.
//!
//! **The states of an incident** ([`State`]):
//!
//! | state | what is seen | becomes | is told |
//! |---|---|---|---|
//! | | loss, or a condition holds | suspected | nothing |
//! | suspected | neither any more | nothing; it is dropped | nothing |
//! | suspected | the gates are passed | open; or what ended within 30 min with the same cause is reopened, under its id | opened |
//! | open, acknowledged, reopened | nothing lost any more | recovering | nothing |
//! | | somebody is on it | acknowledged | that escalation ends |
//! | recovering | lost again | as before | nothing |
//! | recovering | the clearing test is passed by all, and nothing flaps | resolved | resolved |
//! | any that is there | nobody can tell | the same, marked: no data is no loss and no recovery | updated, once it has stood |
//! | any that is there | extent or severity changes materially | the same | updated |
//! | any that is there | not configured any more | resolved, as removed and not as recovered | resolved |
//! | any that is there | somebody says that it is over | resolved; if it goes on, is no wider and no worse, it is not told again for 30 min | resolved |
//!
//! **The gates:** the service is not starting; the short window confirms, so what came late opens nothing; it held for
//! `page_after`, or a minute where only windows of ten minutes and more fire; and either two vantages in two networks
//! agree, or no burst of the usual kind explains it ([`Level::Full`]). With `page_after` of 0 the last two fall away.
//!
//! **Changes that are told** (material ones), at most one a minute but for what got worse, and one in 15 min while it
//! flaps: the severity (less only after five minutes of it); the services; the rules, once other ones have stood for
//! 15 s; the share lost, once it doubled; that nobody can tell, or can again but for moments, once that has stood for 15 s; that it flaps, or
//! no more.
//!
//! **One cause is one incident** ([`Shape`]). The loss of one service goes on under the same incident as long as its rules
//! are the same, or one set contains the other. Another service joins if both name the same place or protocol, or both
//! began to be lost whole within a minute. Rules that share nothing with what they were become an incident of their own
//! once they stand and pass the gates; the earlier one is then over, if nothing else is left of it. Two that come to be
//! the same are merged into the older. More than five pages in a minute become a storm: one incident that stands for those
//! that follow.
//!
//! **An agent that was cut off** may have paged by itself: what it told goes on under its key ([`Fallback`]).
//!
//! **Silences** cover an incident if every rule is within one of them. It is then opened, counted and kept as ever, and not
//! told; it is told once it reaches further, or is still lost when the silence ends.

mod fallback;
mod flap;
mod id;
mod loss;
mod machine;
mod newest;
mod observe;
mod record;
mod same;
mod tell;
#[cfg(test)]
mod tests;

pub use fallback::{FALLBACKS_MAX, Fallback};
pub use flap::Flap;
pub use id::Id;
pub use machine::{Action, INCIDENTS_MAX, Incidents, Kept, REOPEN_SECONDS};
pub use newest::{NEWEST_MAX, Newest, Seconds};
pub use observe::{
    CERTIFICATE_DAYS, CERTIFICATE_DAYS_LAST, Cause, Clearing, Condition, Counts, Event, Firing, Level,
    Observation, Observed, Policy, Sight, Unseen,
};
pub use record::{
    Acknowledgement, CHILDREN_MAX, Evidence, Happened, Incident, Note, Part, Receipt, Resolution, State, Told,
};
pub use same::Shape;
