//! Where loss is: the smallest set of predicates over the tags that explains it.

mod blame;
mod explain;
mod kinds;
mod model;
mod population;
mod questions;
mod search;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use blame::{Attribution, Beside, Grounds, Suspects, blame};
pub use explain::explain;
pub use kinds::of_rules as kinds;
pub use model::Counts;
pub use population::Population;
pub use questions::questions;
pub use words::{percent, summary};

use crate::{Tag, named::named};

/// A conjunction: series whose tags have these values. The empty one is every series.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Predicate(pub BTreeMap<Tag, String>);

/// One cause: series that match lose `loss` of what they send, but for those excepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which series.
    pub matches: Predicate,
    /// Which of them are well: narrower than `matches`.
    pub except: Vec<Predicate>,
    /// The share of their slots that they lose by this cause, 0 to 1.
    pub loss: f64,
    /// The share of all lost slots beyond the acceptable that this cause explains, 0 to 1.
    pub share: f64,
    /// Slots lost in the series that match.
    pub lost: u64,
    /// Slots judged in them: delivered and lost.
    pub judged: u64,
}

/// Where loss is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extent {
    /// The causes, the greatest share first; none where no rule explains the loss.
    pub rules: Vec<Rule>,
    /// The share of the loss that no rule explains, 0 to 1.
    pub scattered: f64,
}

named! {
    /// The answer to a question that a person on call asks.
    pub enum Answer {
        /// What is known fits both.
        CannotTell = "cannot_tell",
        /// It is not so.
        No = "no",
        /// It is so.
        Yes = "yes",
    }
}

impl Answer {
    /// As people say it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::CannotTell => "cannot tell",
            Self::No => "no",
            Self::Yes => "yes",
        }
    }
}

/// What the field asks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Questions {
    /// Just one zone?
    pub one_zone: Answer,
    /// All of one protocol?
    pub one_protocol: Answer,
}

impl Questions {
    /// Nobody has asked.
    pub const UNASKED: Self = Self { one_zone: Answer::CannotTell, one_protocol: Answer::CannotTell };
}

named! {
    /// Whose fault it looks like.
    pub enum Blame {
        /// Nothing tells.
        Unclear = "unclear",
        /// The way from one place to one service.
        Path = "path",
        /// Who reads back what was stored.
        Reader = "reader",
        /// One protocol or node, from everywhere.
        Service = "service",
        /// One place, everything.
        Source = "source",
        /// The collector itself.
        Us = "us",
    }
}

impl Blame {
    /// As people say it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Path => "the way from there to the service",
            Self::Reader => "who reads back what was stored, not the service",
            Self::Service => "the service",
            Self::Source => "where we probe from, not the service",
            Self::Unclear => "cannot tell",
            Self::Us => "this collector, not the service",
        }
    }
}
