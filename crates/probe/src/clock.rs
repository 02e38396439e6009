//! The host's clocks.

use std::time::SystemTime;

use aviary_core::{Clock, Micros, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// The host's clocks: `CLOCK_REALTIME` and `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Through the C library, which reads the page that the kernel shows as well: whoever skews the clock of a program from
    /// outside, as our tests do with libfaketime, finds it there.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is to ask")]
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // 584 thousand years fit.
        Timestamp(since.as_micros() as u64)
    }

    fn monotonic(&self) -> Micros {
        let time = clock_gettime(ClockId::Monotonic);
        // It shows no time before its start.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Micros(seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000)
    }
}
