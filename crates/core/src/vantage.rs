//! Where probes run from.

use crate::named::named;

named! {
    /// Which question a vantage answers.
    pub enum VantageKind {
        /// Inside the data centre: is it the service, or the network before it?
        Datacentre = "datacentre",
        /// Outside: can customers reach the service?
        External = "external",
        /// On the node itself: is this node well?
        Loopback = "loopback",
    }
}

impl VantageKind {
    /// How near it is to the service: from where customers are, to the node itself.
    pub const fn nearness(self) -> u8 {
        match self {
            Self::External => 0,
            Self::Datacentre => 1,
            Self::Loopback => 2,
        }
    }

    /// From where that is, as people say it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Datacentre => "in the data centre",
            Self::External => "outside",
            Self::Loopback => "on the node itself",
        }
    }

    /// The same of all vantages of the kind.
    pub const fn words_of_many(self) -> &'static str {
        match self {
            Self::Loopback => "on its nodes",
            other => other.words(),
        }
    }
}

/// Where probes run from: the tags that every series of one agent shares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vantage {
    /// Which question it answers.
    pub kind: VantageKind,
    /// The cloud's or data centre's region, such as `eu-west-1`.
    pub region: String,
    /// The availability zone, where there are such.
    pub zone: Option<String>,
    /// The network or provider, where it matters.
    pub network: Option<String>,
    /// The host, by a name that survives its restarts.
    pub node: String,
}

/// What stands for a tag that a vantage does not have, in names and in sums.
pub const ABSENT: &str = "none";
