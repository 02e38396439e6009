//! What a collector counts of the services that it hands out.

use std::fmt;

use aviary_collector::RolloutFigures;
use aviary_core::rollout::{HeldState, Phase};
use prometheus_client::metrics::MetricType;

use super::{Page, collector::Snapshot, signed};

impl Snapshot {
    pub(super) fn rollout(&self, page: &mut Page<'_>) -> fmt::Result {
        let RolloutFigures { phase: Some(phase), agents } = &self.figures.rollout else { return Ok(()) };
        let help = "How the services that are handed out are rolled out: 1 for the state that it is in, 0 for the others.";
        let mut family = page.family("aviary_collector_rollout_state", help, None, MetricType::Gauge)?;
        for state in Phase::ALL {
            family.encode_family(&[("state", state.name())])?.encode_gauge(&i64::from(state == phase))?;
        }
        let help =
            "Agents by how far they are with the version of the services that is to become active, or is.";
        let mut family = page.family("aviary_collector_rollout_agents", help, None, MetricType::Gauge)?;
        let states = HeldState::ALL.iter().map(|state| (Some(*state), state.name()));
        for (state, name) in states.chain([(None, "none")]) {
            let count = agents.get(&state).copied().unwrap_or(0);
            family.encode_family(&[("state", name)])?.encode_gauge(&signed(count as u64))?;
        }
        Ok(())
    }
}
