//! Sleeping to an instant, as precisely as the kernel lets a thread.

use std::num::NonZero;

use aviary_core::Micros;
use rustix::{thread::ClockId, time::Timespec};

/// Lets this thread's sleeps end on time instead of up to 50 us late, as the agent's ticker does.
pub(crate) fn be_precise() {
    // Best effort there as here.
    _ = rustix::thread::set_current_timer_slack(NonZero::new(1));
}

/// Sleeps until `at` on the monotonic clock.
pub(crate) fn sleep_until(at: Micros) {
    let until = Timespec {
        tv_sec: i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX),
        tv_nsec: (at.0 % 1_000_000 * 1_000) as _,
    };
    while rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &until).is_err() {}
}
