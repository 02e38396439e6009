//! Phase timings of delivered attempts, as histograms by service, protocol, phase and minute.

use std::collections::{BTreeMap, VecDeque};

use aviary_core::{Phase, Second, Timings, histogram::Histogram};
use aviary_wire::report::PhaseTimings;

use crate::groups::Groups;

/// Minutes that are kept: the current one, and the one before for slots that close after its end.
const MINUTES_KEPT: usize = 2;

/// Histograms of the newest minutes. Each only grows; a report carries those that grew since the last.
#[derive(Default)]
pub(crate) struct MinuteTimings {
    minutes: BTreeMap<Second, BTreeMap<usize, [Grown; Phase::ALL.len()]>>,
    /// The minutes in the order in which they began here. A clock that was ahead and is set back must not make all
    /// minutes to come old ones.
    order: VecDeque<Second>,
}

#[derive(Clone, Default)]
struct Grown {
    histogram: Option<Histogram>,
    since_told: bool,
}

impl MinuteTimings {
    /// Records the phases of an attempt of a series of `group` in the slot at `second`.
    pub(crate) fn record(&mut self, second: Second, group: usize, timings: &Timings) {
        let minute = Second(second.0 - second.0 % 60);
        let groups = self.minutes.entry(minute).or_insert_with(|| {
            self.order.push_back(minute);
            BTreeMap::new()
        });
        let phases = groups.entry(group).or_default();
        for (phase, grown) in Phase::ALL.iter().zip(phases) {
            if let Some(micros) = timings.get(*phase) {
                grown.histogram.get_or_insert_default().record(micros);
                grown.since_told = true;
            }
        }
    }

    /// The histograms that grew since the last call, of the groups that still are.
    pub(crate) fn take(&mut self, known: &Groups) -> Vec<PhaseTimings> {
        let mut taken = Vec::new();
        for (minute, groups) in &mut self.minutes {
            for (group, phases) in groups {
                let Some(group) = known.get(*group) else { continue };
                for (phase, grown) in Phase::ALL.iter().zip(phases) {
                    if let (true, Some(histogram)) = (std::mem::take(&mut grown.since_told), &grown.histogram)
                    {
                        taken.push(PhaseTimings {
                            service: group.service.clone(),
                            protocol: group.protocol,
                            phase: *phase,
                            minute: *minute,
                            histogram: histogram.clone(),
                        });
                    }
                }
            }
        }
        let beyond = self.order.len().saturating_sub(MINUTES_KEPT);
        for minute in self.order.drain(..beyond) {
            self.minutes.remove(&minute);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use aviary_core::Protocol;

    use super::*;

    #[test]
    fn a_report_carries_what_grew_and_a_minute_only_grows() {
        let mut groups = Groups::default();
        let tcp = groups.join("ingest", Protocol::Tcp);
        let mut minutes = MinuteTimings::default();
        let mut timings = Timings::default();
        timings.set(Phase::Connect, 70);
        minutes.record(Second(119), tcp, &timings);
        let first = minutes.take(&groups);
        assert_eq!((first.len(), first[0].minute, first[0].histogram.count()), (1, Second(60), 1));
        assert!(minutes.take(&groups).is_empty());
        minutes.record(Second(119), tcp, &timings);
        minutes.record(Second(120), tcp, &timings);
        let second = minutes.take(&groups);
        assert_eq!(second.iter().map(|timings| timings.histogram.count()).collect::<Vec<_>>(), [2, 1]);
        minutes.record(Second(240), tcp, &timings);
        minutes.take(&groups);
        assert_eq!(minutes.minutes.len(), 2, "old minutes are let go");
    }

    #[test]
    fn a_minute_only_grows_also_after_a_clock_was_ahead() {
        let mut groups = Groups::default();
        let tcp = groups.join("ingest", Protocol::Tcp);
        let mut minutes = MinuteTimings::default();
        let mut timings = Timings::default();
        timings.set(Phase::Connect, 70);
        minutes.record(Second(365 * 86_400), tcp, &timings);
        minutes.take(&groups);
        for count in 1..=59 {
            minutes.record(Second(119 + count), tcp, &timings);
            assert_eq!(minutes.take(&groups)[0].histogram.count(), count);
        }
    }
}
