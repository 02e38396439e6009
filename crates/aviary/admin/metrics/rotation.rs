//! What a collector counts of nodes that are steered.

use std::fmt;

use aviary_collector::PoolFigures;
use aviary_core::rotation::Guard;
use prometheus_client::metrics::MetricType;

use super::{Page, collector::Snapshot, count_of, signed};

impl Snapshot {
    pub(super) fn rotation(&self, page: &mut Page<'_>) -> fmt::Result {
        let rotation = &self.figures.rotation;
        if rotation.pools.is_empty() && !rotation.is_stopped {
            return Ok(());
        }
        let help =
            "Nodes of a service by where they are advised to be; in a dry run, by where they would be.";
        let mut family = page.family("aviary_rotation_nodes", help, None, MetricType::Gauge)?;
        for PoolFigures { service, mode, nodes } in &rotation.pools {
            for (state, nodes) in nodes {
                let labels = [("service", service.as_str()), ("mode", mode.name()), ("state", state.name())];
                family.encode_family(&labels)?.encode_gauge(&signed(*nodes as u64))?;
            }
        }
        let help = "Times that bad nodes were not taken out, by what held them back.";
        let mut family = page.family("aviary_rotation_refused", help, None, MetricType::Counter)?;
        for guard in Guard::ALL {
            let count = rotation.refusals.get(guard).copied().unwrap_or(0);
            count_of(&mut family.encode_family(&[("reason", guard.name())])?, &count)?;
        }
        let help = "Whether bad nodes of the service stay in rotation now, by what holds them back.";
        let mut family = page.family("aviary_rotation_refusing", help, None, MetricType::Gauge)?;
        for (service, guard) in &rotation.refusing {
            let labels = [("service", service.as_str()), ("reason", guard.name())];
            family.encode_family(&labels)?.encode_gauge(&1_i64)?;
        }
        let help = "Whether somebody stopped that nodes are taken out.";
        let mut family = page.family("aviary_rotation_stopped", help, None, MetricType::Gauge)?;
        family.encode_gauge(&i64::from(rotation.is_stopped))
    }
}
