//! What each window of a service holds, and what would be too much: for people.

use aviary_core::detect::{Level, WINDOWS};
use serde::Serialize;

use crate::state::State;

/// One window of a service, as of the newest second that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WindowSeen {
    /// Its length.
    pub(crate) seconds: u64,
    /// Delivered and lost slots.
    pub(crate) judged: u64,
    /// Lost ones.
    pub(crate) lost: u64,
    /// So many lost ones are more than chance; none where all of them would not be.
    pub(crate) threshold: Option<u64>,
    /// It holds more than chance.
    pub(crate) fires: bool,
}

impl State {
    /// The windows of a service, the shortest first; none before it was judged.
    pub(crate) fn windows_of(&self, service: &str) -> Vec<WindowSeen> {
        let judged = self.watch.groups.as_ref().and_then(|groups| groups.services.get(service));
        let Some(group) = judged.and_then(|judged| judged.groups.first()) else { return Vec::new() };
        let test = group.test(self.service(service).alerting.burst);
        let window = |seconds: u64| {
            let tally = group.bank.newest(seconds);
            WindowSeen {
                seconds,
                judged: tally.judged,
                lost: tally.lost,
                threshold: test.needed(seconds, tally.judged, Level::Suspected),
                fires: test.level(seconds, tally) >= Level::Suspected,
            }
        };
        WINDOWS.into_iter().map(window).collect()
    }
}
