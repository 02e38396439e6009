//! What a collector counts of nodes that are steered.

use std::fmt;

use aviary_collector::{OutletFigures, PoolFigures};
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
        self.outlets(page)?;
        let help = "Whether somebody stopped that nodes are taken out.";
        let mut family = page.family("aviary_rotation_stopped", help, None, MetricType::Gauge)?;
        family.encode_gauge(&i64::from(rotation.is_stopped))
    }

    fn outlets(&self, page: &mut Page<'_>) -> fmt::Result {
        let outlets = &self.figures.rotation.outlets;
        let help = "Nodes of which an outlet has not confirmed where they are to be.";
        let mut family = page.family("aviary_rotation_owed", help, None, MetricType::Gauge)?;
        for OutletFigures { outlet, owed, .. } in outlets {
            family.encode_family(&[("outlet", *outlet)])?.encode_gauge(&signed(*owed as u64))?;
        }
        let help = "Times that an outlet confirmed where a node is to be.";
        let mut family = page.family("aviary_rotation_confirmed", help, None, MetricType::Counter)?;
        for OutletFigures { outlet, confirmed, .. } in outlets {
            count_of(&mut family.encode_family(&[("outlet", *outlet)])?, confirmed)?;
        }
        let help = "Attempts to tell an outlet where a node is to be that came to nothing.";
        let mut family = page.family("aviary_rotation_in_vain", help, None, MetricType::Counter)?;
        for OutletFigures { outlet, in_vain, .. } in outlets {
            count_of(&mut family.encode_family(&[("outlet", *outlet)])?, in_vain)?;
        }
        Ok(())
    }
}
