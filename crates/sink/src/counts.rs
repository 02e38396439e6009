//! What the sink counts: everything that came, and what became of what was not handed on.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use aviary_core::{Protocol, named};
use aviary_wire::{
    datapoint::AgeError,
    line::LineError,
    pickle::{ItemError, PickleError},
};

named! {
    /// What is counted, per protocol.
    pub enum Count {
        /// Connections accepted, or datagrams received.
        Connections = "connections",
        /// Connections reset at once because as many are open as may be.
        TurnedAway = "turned_away",
        /// Connections that could not be accepted: the host is out of files or memory.
        NotAccepted = "not_accepted",
        /// TLS handshakes that failed or took too long.
        Handshakes = "failed_handshakes",
        /// Connections that broke, or were reset by the peer, before their end.
        Broken = "broken_connections",
        /// Connections that were cut because nothing whole came for too long.
        Idle = "idle_connections",
        /// HTTP requests refused: method, key, size or content.
        Requests = "refused_requests",

        /// Datapoints handed on.
        Arrived = "arrived",
        /// Datapoints withheld, as the misbehaviour says.
        Withheld = "withheld",
        /// Datapoints lost because the queue of arrivals, or the memory for what is being read, was full.
        Overflowed = "overflowed",

        /// Lines that are not three fields.
        BadLine = "bad_lines",
        /// Lines that are too long.
        LongLine = "long_lines",
        /// Datapoints whose name is broken.
        BadName = "bad_names",
        /// Datapoints whose value is no finite number.
        BadValue = "bad_values",
        /// Datapoints whose timestamp is no second.
        BadSecond = "bad_seconds",
        /// Datapoints of a second far in the past.
        TooOld = "too_old",
        /// Datapoints of a second far in the future.
        TooNew = "too_new",
        /// Lengths before a pickle that cannot be one.
        BadFrame = "bad_frames",
        /// Pickles that are damaged, or ask for more than lists, tuples, text and numbers.
        BadPickle = "bad_pickles",
        /// Last lines without a newline, and frames that were cut.
        Unfinished = "unfinished",
    }
}

const PROTOCOLS: usize = Protocol::ALL.len();
const KINDS: usize = Count::ALL.len();

/// What was counted since the sink was started. `Debug` shows what is not 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Counts([[u64; KINDS]; PROTOCOLS]);

impl Counts {
    /// How many of `count` there were over `protocol`.
    pub const fn get(&self, protocol: Protocol, count: Count) -> u64 {
        self.0[protocol as usize][count as usize]
    }

    /// How many of `count` there were in all.
    pub fn total(&self, count: Count) -> u64 {
        self.0.iter().map(|counts| counts[count as usize]).sum()
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each =
            Protocol::ALL.iter().flat_map(|protocol| Count::ALL.iter().map(move |count| (*protocol, *count)));
        let counted = each.map(|(protocol, count)| ((protocol, count), self.get(protocol, count)));
        f.debug_map().entries(counted.filter(|(_, times)| *times > 0)).finish()
    }
}

/// The counters behind [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Counters([[AtomicU64; KINDS]; PROTOCOLS]);

impl Counters {
    pub(crate) fn add(&self, protocol: Protocol, count: Count) {
        self.0[protocol as usize][count as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        Counts(self.0.each_ref().map(|counts| counts.each_ref().map(|count| count.load(Ordering::Relaxed))))
    }
}

impl From<&LineError> for Count {
    fn from(error: &LineError) -> Self {
        match error {
            LineError::TooLong { .. } => Self::LongLine,
            LineError::Fields { .. } => Self::BadLine,
            LineError::Name(_) => Self::BadName,
            LineError::Value { .. } => Self::BadValue,
            LineError::Second { .. } => Self::BadSecond,
        }
    }
}

impl From<&PickleError> for Count {
    fn from(error: &PickleError) -> Self {
        match error {
            PickleError::Datapoint { problem: ItemError::Name(_), .. } => Self::BadName,
            PickleError::Datapoint { problem: ItemError::Second(_), .. } => Self::BadSecond,
            PickleError::Datapoint { problem: ItemError::Value(_), .. } => Self::BadValue,
            _ => Self::BadPickle,
        }
    }
}

impl From<&AgeError> for Count {
    fn from(error: &AgeError) -> Self {
        match error {
            AgeError::TooOld { .. } => Self::TooOld,
            AgeError::TooNew { .. } => Self::TooNew,
        }
    }
}
