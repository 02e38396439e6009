//! Waiting for what comes in its own time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long between two looks.
const BETWEEN: Duration = Duration::from_millis(100);

/// What `look` finds, as soon as it finds something. Panics with what `lacking` says where it finds nothing within `patience`.
#[track_caller]
pub(crate) fn wait_for<T>(
    patience: Duration,
    lacking: impl Fn() -> String,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {}", lacking());
        thread::sleep(BETWEEN);
    }
}

/// Waits until `is_so`. Panics with what `lacking` says where it is not within `patience`.
#[track_caller]
pub(crate) fn wait_until(patience: Duration, lacking: impl Fn() -> String, mut is_so: impl FnMut() -> bool) {
    wait_for(patience, lacking, || is_so().then_some(()));
}
