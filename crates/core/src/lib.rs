//! The pure half of aviary: what a slot is, how slots are kept and summed, and what the sums say of a service.
//!
//! **Architecture invariant:** nothing here reads a clock, opens a socket or a file, spawns a task or knows a
//! serialisation. Time comes in as an argument; wire and configuration formats are structs of their own at the edge.
//! Everything that will one day wake a person is therefore tested with plain functions.
//!
//! The modules in the order of the line that a slot walks:
//! [`endpoint`] and [`vantage`] make a [`series`]; [`plan`] says when each series probes; [`outcome`] is what came of
//! it; [`mark`] is that in four bits, [`ledger`] keeps the marks and [`losses`] what a lost slot needs beside;
//! [`window`] sums them, [`verdict`] judges the sums.
//!
//! From loss to the right page: [`detect`] tells loss from chance, [`extent`] says where it is, [`incident`] leads it from its
//! first sign to its end, [`page`] is the outbox that tells receivers of it, [`silence`] what nobody is to be told of.
//!
//! From loss to a pool without the node that loses: [`rotation`]. From a file to what every agent probes by: [`rollout`].

pub mod catalog;
pub mod detect;
pub mod endpoint;
pub mod extent;
pub mod fnv;
pub mod graphite;
pub mod histogram;
pub mod incident;
pub mod ledger;
pub mod losses;
pub mod mark;
pub mod outcome;
pub mod page;
pub mod plan;
pub mod rollout;
pub mod rotation;
pub mod series;
pub mod silence;
pub mod time;
pub mod vantage;
pub mod verdict;
pub mod window;

mod named;

pub use catalog::{Catalog, Tag};
pub use endpoint::{Endpoint, Protocol};
pub use ledger::{Ledger, SeriesId};
pub use outcome::{Evidence, Fault, LocalFault, Outcome, Phase, Timings};
pub use series::Series;
pub use time::{Clock, Micros, Second, Span, Timestamp};
pub use vantage::{Vantage, VantageKind};
pub use verdict::{AcceptableLoss, State};
pub use window::Window;

/// A name that is not a member of a closed set, with the members that there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not known; it is one of {}", .known.join(", "))]
pub struct UnknownName {
    /// What was given.
    pub given: String,
    /// What would have been right.
    pub known: Vec<&'static str>,
}
