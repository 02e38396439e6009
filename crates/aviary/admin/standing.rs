//! How an agent stands: what its endpoints, metrics and StatsD tell, in one value.

use std::{collections::BTreeMap, net::SocketAddr};

use aviary_core::{Endpoint, Phase, Protocol, Second, Timestamp, histogram::Histogram};

/// The outcome's name, and the names of its phase and fault where it has them.
pub(crate) type Class = (&'static str, Option<&'static str>, Option<&'static str>);

/// A snapshot, cheap enough to take once a second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// When the agent was started.
    pub(crate) started: Timestamp,
    /// When the snapshot was taken.
    pub(crate) now: Timestamp,
    /// The version of the configuration that runs.
    pub(crate) configuration: String,
    /// How often the wall clock was stepped.
    pub(crate) epoch: u32,
    /// How many series there are.
    pub(crate) series: usize,
    /// How many of them opened a slot within the last three seconds.
    pub(crate) ticking: usize,
    /// What came of the slots since the start, by service and protocol.
    pub(crate) groups: Vec<Group>,
    /// How late attempts started, in microseconds after they were due.
    pub(crate) start_late: Histogram,
    /// How late attempts that ran to their deadline were given up, in microseconds after it.
    pub(crate) abandon_late: Histogram,
    /// Seconds of series that were skipped since the start.
    pub(crate) skipped: u64,
    /// Slots that were dropped unreported since the start.
    pub(crate) dropped: u64,
    /// Beats that a lane was too far behind to take since the start.
    pub(crate) beats_dropped: u64,
    /// What waits for the collector.
    pub(crate) spool: Spool,
    /// How reports get to the collector.
    pub(crate) shipping: Shipping,
    /// The endpoints known as good, and whether the last attempt reached them.
    pub(crate) controls: Vec<(Endpoint, bool)>,
    /// Every series and every control fails at once: the fault is likely our own.
    pub(crate) self_suspect: bool,
    /// When the certificates that were seen expire, in Unix seconds.
    pub(crate) certificates: Vec<(Endpoint, SocketAddr, i64)>,
    /// What became of the last reload.
    pub(crate) reload: Reload,
}

/// The slots of one service over one protocol: totals since the start, which only grow.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The service under test.
    pub(crate) service: String,
    /// How its datapoints are handed over.
    pub(crate) protocol: Protocol,
    /// Slots by what came of them.
    pub(crate) outcomes: BTreeMap<Class, u64>,
    /// How long each phase of delivered attempts took, in the order of [`Phase::ALL`].
    pub(crate) phases: [Option<Histogram>; Phase::ALL.len()],
}

/// What waits for the collector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spool {
    /// Reports.
    pub(crate) records: u64,
    /// Their size.
    pub(crate) bytes: u64,
    /// The slots in them.
    pub(crate) slots: u64,
    /// The oldest of those.
    pub(crate) oldest: Option<Second>,
    /// Whether it is on the disk; `None` where it is to be in memory only.
    pub(crate) on_disk: Option<bool>,
    /// Why it is not.
    pub(crate) last_error: Option<String>,
}

/// How reports get to the collector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shipping {
    /// Reports that a collector took, since the start.
    pub(crate) reports_taken: u64,
    /// When it took the last.
    pub(crate) last_taken: Option<Timestamp>,
    /// Attempts that failed since.
    pub(crate) failures: u32,
    /// Why the last of them failed.
    pub(crate) last_error: Option<String>,
    /// The collector that is, or was last, asked.
    pub(crate) collector: String,
    /// How far its clock is ahead of ours, in microseconds; negative where it is behind.
    pub(crate) clock_offset_us: Option<i64>,
}

/// What became of the last reload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reload {
    /// When it was; `None` if there was none.
    pub(crate) at: Option<Timestamp>,
    /// Why the file was not taken; stands until a good one is loaded.
    pub(crate) error: Option<String>,
}
