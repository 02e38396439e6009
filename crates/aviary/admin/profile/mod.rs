//! Profiles of this process, made one at a time: whoever comes second waits a while, and is told to come back.
//!
//! - **profile**: SIGPROF interrupts whoever spends processor time, 99 times a second of it, and notes the stack. Inside the C
//!   library and the unwinder nothing is noted, since to unwind there could wait for a lock that is held.
//! - **heap**: [`crate::allocator`] notes the stack of an allocation about every 512 KiB, since the start.
//! - **trace**: what the kernel says of each thread, a hundred times a second. Go's format is of goroutines and Go's runtime, which
//!   there are none of here; Chrome's trace events are read by Perfetto and by browsers.

mod cpu;
mod format;
mod heap;
mod trace;

use std::{sync::Arc, time::Duration};

use aviary_core::Clock;
use tokio::{sync::Semaphore, time::timeout};

/// The longest profile.
const SECONDS_MAX: u64 = 300;

/// How long the second waits for the first.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Of this process, whichever of its roles is asked.
static ONE: Semaphore = Semaphore::const_new(1);

/// So many may wait for it.
static WAITING: Semaphore = Semaphore::const_new(4);

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Where processor time goes.
    Cpu {
        /// For so long.
        seconds: u64,
    },
    /// Who holds memory.
    Heap,
    /// Which thread runs when.
    Trace {
        /// For so long.
        seconds: u64,
    },
}

impl Profile {
    const fn seconds(self) -> u64 {
        match self {
            Self::Cpu { seconds } | Self::Trace { seconds } => seconds,
            Self::Heap => 1,
        }
    }

    /// What it may be saved as.
    pub(crate) const fn file_name(self) -> &'static str {
        match self {
            Self::Cpu { .. } => "profile.pb.gz",
            Self::Heap => "heap.pb.gz",
            Self::Trace { .. } => "trace.json",
        }
    }

    /// What it is.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Cpu { .. } | Self::Heap => "application/octet-stream",
            Self::Trace { .. } => "application/json",
        }
    }
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// Another is being made.
    #[error("another profile is being made; come back in {retry_after} s")]
    Busy {
        /// When it is likely done.
        retry_after: u64,
    },
    /// Nobody waits so long.
    #[error("`seconds` is {given}, and a profile takes from 1 to {SECONDS_MAX}")]
    Seconds {
        /// What was asked for.
        given: u64,
    },
    /// The system does not let us.
    #[error("the profile cannot be made: {0}")]
    System(String),
}

/// Makes profiles, one at a time in this process.
pub(crate) struct Profiler {
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Profiler {
    /// Makes profiles, with times by `clock`. From now on it is noted who allocates.
    pub(crate) fn new(clock: impl Clock) -> Arc<Self> {
        crate::allocator::sampled::begin();
        let clock = Box::new(move || clock.wall().0);
        Arc::new(Self { clock })
    }

    /// The bytes of `profile`.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub(crate) async fn make(&self, profile: Profile) -> Result<Vec<u8>, ProfileError> {
        let seconds = profile.seconds();
        if !(1..=SECONDS_MAX).contains(&seconds) {
            return Err(ProfileError::Seconds { given: seconds });
        }
        let busy = || ProfileError::Busy { retry_after: 30 };
        let waits = WAITING.try_acquire().map_err(|_| busy())?;
        let Ok(Ok(_one)) = timeout(WAIT_MAX, ONE.acquire()).await else { return Err(busy()) };
        drop(waits);
        let began_us = (self.clock)();
        match profile {
            Profile::Cpu { seconds } => cpu::profile(seconds, began_us).await,
            Profile::Heap => blocking(move || Ok(heap::profile(began_us))).await,
            Profile::Trace { seconds } => trace::trace(seconds).await,
        }
    }
}

/// What takes a while, on a thread that may.
async fn blocking(
    make: impl FnOnce() -> Result<Vec<u8>, ProfileError> + Send + 'static,
) -> Result<Vec<u8>, ProfileError> {
    let made = tokio::task::spawn_blocking(make).await;
    made.unwrap_or_else(|error| Err(ProfileError::System(error.to_string())))
}
