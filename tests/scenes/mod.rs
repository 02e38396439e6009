//! What somebody is told: a fleet of three regions before a real Graphite, of which one thing after another breaks, and the
//! page of each, word for word.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]

mod border;
mod fleet;
mod front;
mod lost;
mod unseen;
pub(crate) mod unsteady;
mod words;
