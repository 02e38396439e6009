//! Who reports the series of a vantage again.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{Micros, Second, Timestamp, Vantage};
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};

use super::{Known, ReplayError};
use crate::state::{Refusal, State};

/// Who reports some series.
pub(super) struct Agent {
    roster: Roster,
    roster_id: u64,
    /// The place in the roster of each of its series.
    pub(super) places: BTreeMap<usize, u32>,
}

impl Agent {
    /// One that reports those of `series` that are `there` from `since` on.
    pub(super) fn new(vantage: Vantage, since: Second, there: &BTreeSet<usize>, series: &[Known]) -> Self {
        let of = |place: &usize| {
            let Known { series, from, .. } = &series[*place];
            let (service, endpoint) = (series.service.clone(), series.endpoint.clone());
            RosterSeries {
                service,
                endpoint,
                address: series.address,
                name: format!("replay.{place}"),
                from: *from,
            }
        };
        let roster = Roster { vantage, since, series: there.iter().map(of).collect() };
        let places = there.iter().copied().zip(0..).collect();
        Self { roster_id: roster.id(), roster, places }
    }

    /// Tells `state` what became of `slots`.
    pub(super) fn report(
        &self,
        state: &mut State,
        slots: Vec<ClosedSlot>,
        sequence: u64,
        now: Timestamp,
    ) -> Result<(), ReplayError> {
        let mut report = Report {
            boot: 1,
            sequence,
            wall: now,
            monotonic: Micros(now.0),
            roster_id: self.roster_id,
            slots,
            ..Report::default()
        };
        let mut taken = state.take(&report, None, now);
        if matches!(taken, Err(Refusal::UnknownRoster(_))) {
            report.roster = Some(self.roster.clone());
            taken = state.take(&report, None, now);
        }
        taken.map(|_| ()).map_err(|refusal| ReplayError::Refused(refusal.to_string()))
    }
}
