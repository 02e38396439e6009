//! What all connections of one listener share: where datapoints go, and what is done to them on the way.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aviary_core::{Protocol, Second, Timestamp};
use aviary_wire::{
    Datapoint,
    datapoint::{AgeError, LINE_BYTES_MAX, Masked},
    line::{self, LineError},
    pickle::{self, PickleError},
};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tracing::debug;

use crate::{
    Misbehaviour,
    counts::{Count, Counters},
    misbehaviour::is_dropped,
};

/// A datapoint that arrived. `Debug` leaves out the first part of the name, which may be an API key that the sink does
/// not know.
#[derive(Clone, PartialEq)]
pub struct Arrival {
    /// The name, without the API key that it began with.
    pub name: String,
    /// The second that it claims.
    pub second: Second,
    /// The value.
    pub value: f64,
    /// When it was decoded.
    pub at: Timestamp,
    /// How it came.
    pub protocol: Protocol,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("name", &Masked(&self.name))
            .field("second", &self.second.0)
            .field("value", &self.value)
            .field("at", &self.at.0)
            .field("protocol", &self.protocol)
            .finish()
    }
}

/// What of all frames and bodies may be in memory at once, in KiB: a megabyte from each of thousands of connections
/// would be the whole machine.
const LARGE_KIB: usize = 64 << 10;

/// Up to here what is being read is not counted against [`LARGE_KIB`].
const SMALL_BYTES: usize = 16 << 10;

/// What all listeners share.
pub(crate) struct Common {
    pub(crate) wall: Box<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) keys: Vec<String>,
    pub(crate) queue: mpsc::Sender<Arrival>,
    pub(crate) counters: Arc<Counters>,
    large: Semaphore,
}

impl Common {
    pub(crate) fn new(
        wall: Box<dyn Fn() -> Timestamp + Send + Sync>,
        keys: Vec<String>,
        queue: mpsc::Sender<Arrival>,
    ) -> Self {
        Self { wall, keys, queue, counters: Arc::default(), large: Semaphore::new(LARGE_KIB) }
    }
}

/// Where a listener's datapoints go, and how the listener behaves at the moment.
pub(crate) struct Intake {
    pub(crate) protocol: Protocol,
    common: Arc<Common>,
    how: watch::Sender<Misbehaviour>,
    /// How many datapoints came since the misbehaviour was last set.
    number: AtomicU64,
}

impl Intake {
    pub(crate) fn new(protocol: Protocol, common: Arc<Common>) -> Self {
        Self { protocol, common, how: watch::Sender::new(Misbehaviour::None), number: AtomicU64::new(0) }
    }

    pub(crate) fn count(&self, count: Count) {
        self.common.counters.add(self.protocol, count);
    }

    pub(crate) fn keys(&self) -> &[String] {
        &self.common.keys
    }

    pub(crate) fn how(&self) -> Misbehaviour {
        *self.how.borrow()
    }

    pub(crate) fn misbehave(&self, how: Misbehaviour) {
        self.number.store(0, Ordering::Relaxed);
        self.how.send_replace(how);
    }

    /// Waits until the listener is told to behave otherwise than `how`.
    pub(crate) async fn otherwise_than(&self, how: Misbehaviour) {
        // The sender lives as long as `self`, so waiting cannot fail.
        self.how.subscribe().wait_for(|now| *now != how).await.ok();
    }

    /// Waits as long as the misbehaviour says that everything takes.
    pub(crate) async fn be_slow(&self) {
        if let Misbehaviour::Slow { by } = self.how()
            && by > Duration::ZERO
        {
            tokio::time::sleep(by).await;
        }
    }

    /// Room for something large that is to be read, `None` when too much is being read already.
    pub(crate) fn room_for(&self, bytes: usize) -> Option<Option<SemaphorePermit<'_>>> {
        if bytes <= SMALL_BYTES {
            return Some(None);
        }
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.common.large.try_acquire_many(kib).ok().map(Some)
    }

    /// Reads one line and hands its datapoint on; what is refused is counted and said.
    pub(crate) fn take_line(&self, text: &[u8]) -> Result<(), Refused> {
        line::decode(text)
            .map_err(|error| self.refuse(Count::from(&error), Refused::Line(error)))
            .and_then(|datapoint| self.take(datapoint))
    }

    /// Notes a line of which only the first `bytes` bytes were looked at.
    pub(crate) fn refuse_long_line(&self, bytes: usize) {
        debug_assert!(bytes >= LINE_BYTES_MAX, "shorter lines are read");
        let _counted = self.refuse(Count::LongLine, Refused::Line(LineError::TooLong { bytes }));
    }

    /// Reads a pickle and hands its datapoints on; returns how many were refused, and why the first was.
    pub(crate) fn take_pickle(&self, bytes: &[u8]) -> Result<(), (usize, Refused)> {
        let refuse = |error: PickleError| self.refuse(Count::from(&error), Refused::Pickle(error));
        let each = pickle::decode_each(bytes).map_err(|error| (1, refuse(error)))?;
        let mut refused = each.into_iter().filter_map(|read| match read {
            Ok(datapoint) => self.take(datapoint).err(),
            Err(error) => Some(refuse(error)),
        });
        match refused.next() {
            None => Ok(()),
            Some(first) => Err((1 + refused.count(), first)),
        }
    }

    fn take(&self, datapoint: Datapoint) -> Result<(), Refused> {
        let at = (self.common.wall)();
        datapoint
            .check_age(at.second())
            .map_err(|error| self.refuse(Count::from(&error), Refused::Age(error)))?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        if let Misbehaviour::Drop { share } = self.how()
            && is_dropped(number, share)
        {
            self.count(Count::Withheld);
            return Ok(());
        }
        let Datapoint { mut name, value, second } = datapoint;
        if let Some(key) = self.common.keys.iter().find(|key| is_prefixed(&name, key)) {
            name.drain(..=key.len());
        }
        let arrival = Arrival { name, second, value, at, protocol: self.protocol };
        self.count(match self.common.queue.try_send(arrival) {
            Ok(()) => Count::Arrived,
            Err(_) => Count::Overflowed,
        });
        Ok(())
    }

    fn refuse(&self, count: Count, why: Refused) -> Refused {
        self.count(count);
        debug!(protocol = %self.protocol, "refused: {why}");
        why
    }
}

/// Why a datapoint was not handed on. Never shows names.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Line(LineError),
    #[error(transparent)]
    Pickle(PickleError),
    #[error(transparent)]
    Age(AgeError),
}

fn is_prefixed(name: &str, key: &str) -> bool {
    name.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')).is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_whole_first_part() {
        assert!(is_prefixed("key.canary", "key"));
        assert!(!is_prefixed("keys.canary", "key"));
        assert!(!is_prefixed("key", "key"));
    }

    #[test]
    fn debug_leaves_out_what_may_be_a_key() {
        let arrival = Arrival {
            name: "secret.canary".to_owned(),
            second: Second(7),
            value: 1.0,
            at: Timestamp(7_000_001),
            protocol: Protocol::Tcp,
        };
        assert!(!format!("{arrival:?}").contains("secret"));
    }
}
