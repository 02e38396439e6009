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
        let Some(judged) = judged else { return Vec::new() };
        let Some(group) = judged.groups.first() else { return Vec::new() };
        let service = self.service(service);
        let test = group.test(service.alerting.burst);
        let window = |seconds: u64| {
            // Of several views that of which more is found, which is the one that pages.
            let seen = judged.views(group, service.storage).map(|bank| bank.newest(seconds));
            let (level, tally) = seen
                .map(|tally| (test.level(seconds, tally), tally))
                .reduce(|best, other| if other.0 > best.0 { other } else { best })
                .unwrap_or_default();
            WindowSeen {
                seconds,
                judged: tally.judged,
                lost: tally.lost,
                threshold: test.needed(seconds, tally.judged, Level::Suspected),
                fires: level >= Level::Suspected,
            }
        };
        WINDOWS.into_iter().map(window).collect()
    }
}
