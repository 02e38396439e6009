//! Which nodes of a service are to be left out for a while, by a machine that would rather do nothing.
//!
//! A pure machine, stepped each second with what observers measured of each node: [`Rotation::step`] says what changed, and
//! [`Rotation::advice`] what whoever balances is told of each node until when.
//!
//! **The states of a node:**
//!
//! | state | weight | what is seen | becomes |
//! |---|---|---|---|
//! | in | 100 | it is bad, by all of the guards | out |
//! | out | 0 | it was well for the clearing time, and the wait is over | returning |
//! | returning | 10 | it was well for the first wait | in |
//! | | | it is bad, by all of the guards but the budget, of which it is a part | out, for twice as long |
//! | out, returning | | too few would be left, it is steered no more, or somebody stopped us | in, at once |
//! | any | | nobody can tell | the same |
//!
//! **The guards.** *A single node:* it loses half ([`Rules::loss`]) over [`Rules::window`] and still does, or ten times what is
//! acceptable over a minute; two vantages say so, in two networks or of two kinds; nobody who measured it finds it well; and
//! from each of them at least half of its peers are well in the same window. So what is wider, a vantage's own fault or a
//! part of the way is none of ours ([`evidence`]). *The budget:* of a service at most a tenth is out, but one may be; one in a
//! zone; never less than half are in, nor less than two. Whoever else is not well in that second counts as well: where more
//! would have to go than may, what went is left out and nothing new goes, since that is no failure of single nodes. Whom nobody measures
//! counts as gone for what must stay, and for nothing in what may go; a name that nobody measured for an hour, while others were,
//! counts for neither. *The rate:* one a minute of
//! a service, five an hour of the fleet. *The wait:* a minute, doubled by each time in a day up to half an hour. *The return:* it is not bad, and all
//! that measure it find it well, or as many as it takes to say that it is bad: one that lost its own way there holds nobody out.
//!
//! **What fails, fails static.** Without evidence everything stays as it is; advice that nobody renews ends after
//! [`LEASE_SECONDS`], in rotation. All that is kept ([`Kept`]) is who is out and who was: a life that is killed forgets neither. A
//! clock that is set back makes nothing wait for the time that was.

mod evidence;
mod machine;
#[cfg(test)]
mod tests;
mod words;

pub use evidence::{Counted, Evidence, Measured, Observer, Proof};
pub use machine::{Action, Advice, Ejection, Kept, KeptNode, KeptPool, Refused, Rotation, Seen, What};

use crate::named::named;

/// Advice that is not renewed ends so many seconds after it was given.
pub const LEASE_SECONDS: u64 = 60;

/// The slow kind of loss is measured over so many seconds.
pub const LONG_SECONDS: u64 = 60;

/// And is so many times what is acceptable.
pub const LONG_FACTOR: f64 = 10.0;

/// The weight of a node that returns, in percent.
pub const RETURNING_WEIGHT: u8 = 10;

/// Nodes wait at most so long before they return, unless the first wait is longer.
pub const WAIT_SECONDS_MAX: u64 = 1_800;

/// A node that was taken out so often in a day is for a person to look at.
pub const REPEATED: usize = 3;

/// So is one that has been out for so many seconds.
pub const LASTING_SECONDS: u64 = 3_600;

/// The most nodes of a service that are steered.
pub const NODES_MAX: usize = 4_096;

named! {
    /// Whether advice is given.
    pub enum Mode {
        /// Nothing is worked out.
        Off = "off",
        /// It is worked out and kept, and nobody is told to do it.
        DryRun = "dry-run",
        /// It is given.
        Live = "live",
    }
}

/// Nobody is told to do anything before somebody wants it.
impl Default for Mode {
    fn default() -> Self {
        Self::DryRun
    }
}

named! {
    /// Where a node is.
    pub enum State {
        /// It gets its share.
        In = "in",
        /// It gets nothing.
        Out = "out",
        /// It gets a tenth of its share.
        Returning = "returning",
    }
}

named! {
    /// What holds back that a node that is lossy is taken out.
    pub enum Guard {
        /// More would have to go than may.
        Budget = "budget",
        /// Two of one zone would have to go.
        Zone = "zone",
        /// Too few would be left.
        Floor = "floor",
        /// Another of the service went less than a minute ago.
        ServiceRate = "service_rate",
        /// As many of the fleet went as may in an hour.
        FleetRate = "fleet_rate",
    }
}

impl Guard {
    /// Whether it says that this is no failure of single nodes, which a person is to know.
    pub const fn is_correlated(self) -> bool {
        matches!(self, Self::Budget | Self::Zone | Self::Floor)
    }
}

/// The figures of a service. [`Rules::careful`] holds the floors, which no configuration lowers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// So many seconds are looked at.
    pub window: u64,
    /// The share of them that a node must lose, 0 to 1.
    pub loss: f64,
    /// Of a service's nodes at most this share is out, 0 to 1; one may be in any case.
    pub max_out: f64,
    /// At least this share is in, 0 to 1; two in any case.
    pub min_in: f64,
    /// So many vantages must say so.
    pub min_vantages: usize,
    /// So many seconds lie between two nodes of a service.
    pub every: u64,
    /// So many seconds a node is out the first time.
    pub readmit_after: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            window: 8,
            loss: 0.5,
            max_out: 0.1,
            min_in: 0.5,
            min_vantages: 2,
            every: 60,
            readmit_after: 60,
        }
    }
}

impl Rules {
    /// The shortest first wait.
    pub const READMIT_AFTER_MIN: u64 = 10;

    /// The longest window: as much as is measured beside it.
    pub const WINDOW_MAX: u64 = LONG_SECONDS;

    /// The same, with each figure at least as careful as its default; but a node may wait for less than a minute.
    #[must_use]
    pub fn careful(self) -> Self {
        let Self { window, loss, max_out, min_in, min_vantages, every, .. } = Self::default();
        Self {
            window: self.window.clamp(window, Self::WINDOW_MAX),
            loss: self.loss.clamp(loss, 1.0),
            max_out: self.max_out.clamp(0.0, max_out),
            min_in: self.min_in.clamp(min_in, 1.0),
            min_vantages: self.min_vantages.max(min_vantages),
            every: self.every.max(every),
            readmit_after: self.readmit_after.max(Self::READMIT_AFTER_MIN),
        }
    }

    /// How many of so many nodes may be out.
    pub fn out_max(&self, nodes: usize) -> usize {
        ((nodes as f64 * self.max_out) as usize).max(1)
    }

    /// How many of so many nodes must stay in; all, where there are no more.
    pub fn in_min(&self, nodes: usize) -> usize {
        ((nodes as f64 * self.min_in).ceil() as usize).max(2).min(nodes)
    }
}

/// The figures of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetRules {
    /// So many nodes of all services are taken out in an hour.
    pub per_hour: usize,
}

impl FleetRules {
    /// As many as may ever be.
    pub const PER_HOUR_MAX: usize = 5;
}

impl Default for FleetRules {
    fn default() -> Self {
        Self { per_hour: Self::PER_HOUR_MAX }
    }
}
