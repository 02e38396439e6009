//! The feed that heals: which nodes whoever balances is to leave out.
//!
//! ```text
//! state::steer -> core::rotation, in judgement -> [committed] -> advice: API, agent checks, answers to reports
//!                       v every action: the history of the service's incident
//! ```
//!
//! Advice is what is on the disk: a life that is killed has told nobody of a node of which the next one does not know. It
//! ends by itself a minute after the last second that was judged.

mod agent_check;
pub(crate) mod api;
mod outlets;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aviary_core::{
    Endpoint, Second, Timestamp,
    rotation::{Advice, Evidence, FleetRules, Guard, Mode, Rules, Seen, State},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Collector;

/// A node of a service.
pub(crate) type Node = (String, String);

/// How the nodes of a service are steered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steering {
    /// Whether advice is given.
    pub mode: Mode,
    /// Its figures.
    pub rules: Rules,
    /// Its nodes, each with its zone; none named: those whose loopbacks report, and those that endpoints name.
    pub nodes: Vec<(String, Option<String>)>,
    /// The nodes that endpoints name, by URL.
    pub named: BTreeMap<String, String>,
}

/// How nodes are steered, whichever service they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetSteering {
    /// The figures of the fleet.
    pub rules: FleetRules,
    /// While there is such a file, all nodes are in.
    pub stop_file: Option<PathBuf>,
}

/// Where the nodes of a service are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFigures {
    /// Which service.
    pub service: String,
    /// Whether advice is given.
    pub mode: Mode,
    /// How many nodes are where, by what they are advised.
    pub nodes: Vec<(State, usize)>,
}

/// What is counted of steering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationFigures {
    /// Of each service that is steered where its nodes are; a dry run says what would be.
    pub pools: Vec<PoolFigures>,
    /// How often a guard held a node back.
    pub refusals: BTreeMap<Guard, u64>,
    /// The services of which bad nodes stay in now.
    pub refusing: Vec<(String, Guard)>,
    /// Whether somebody stopped it.
    pub is_stopped: bool,
    /// How it goes with those who are told.
    pub outlets: Vec<OutletFigures>,
}

/// How it goes with one who is told where nodes are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutletFigures {
    /// What kind of outlet it is; there is one of each.
    pub outlet: &'static str,
    /// How often it confirmed what it was told.
    pub confirmed: u64,
    /// How many attempts came to nothing.
    pub in_vain: u64,
    /// The nodes of which it has not confirmed where they are to be.
    pub owed: usize,
}

impl Steering {
    /// The node that an endpoint is of.
    pub(crate) fn node_of(&self, endpoint: &Endpoint) -> String {
        self.named.get(&endpoint.to_string()).cloned().unwrap_or_else(|| endpoint.host().to_string())
    }
}

/// What is advised of all services.
#[derive(Debug, Default)]
pub(crate) struct Advised {
    pub(crate) services: BTreeMap<String, (Mode, BTreeMap<String, Advice>)>,
    /// The nodes of which somebody who is told may still believe that they are out.
    pub(crate) unsettled: BTreeSet<Node>,
    /// Who stopped it.
    pub(crate) stopped: Option<String>,
    /// From then on none of it holds.
    pub(crate) until: Second,
}

impl Advised {
    /// What is advised of a node at `now`, where it is known and that holds still.
    pub(crate) fn of(&self, service: &str, node: &str, now: Second) -> Option<&Advice> {
        self.services.get(service)?.1.get(node).filter(|advice| now < advice.until)
    }

    /// The services that the agent on `node` is told of: those for which it is to leave rotation, or returns.
    fn leases(&self, node: &str, now: Second) -> Value {
        let of_node = |(service, (_, nodes)): (&String, &(Mode, BTreeMap<String, Advice>))| {
            let advice = nodes.get(node).filter(|it| it.state != State::In && now < it.until)?;
            let lease = json!({
                "state": advice.state.name(),
                "weight": advice.weight,
                "reason": advice.reason,
                "until_us": advice.until.start().0,
            });
            Some((service.clone(), lease))
        };
        Value::Object(self.services.iter().filter_map(of_node).collect())
    }
}

/// How it goes with an outlet.
#[derive(Clone, Debug, Default)]
struct Told {
    figures: OutletFigures,
    /// The nodes that it confirmed to be in.
    is_in: BTreeSet<Node>,
}

/// What is told of nodes, once a second was judged and kept.
pub(crate) struct Steerer {
    fleet: FleetSteering,
    advised: watch::Sender<Option<Arc<Advised>>>,
    outlets: Mutex<BTreeMap<&'static str, Told>>,
}

impl Steerer {
    pub(crate) fn new(fleet: FleetSteering) -> Self {
        Self { fleet, advised: watch::Sender::new(None), outlets: Mutex::default() }
    }

    /// How it goes with each who is told.
    pub(crate) fn outlet_figures(&self) -> Vec<OutletFigures> {
        self.outlets().values().map(|told| told.figures).collect()
    }

    fn outlets(&self) -> MutexGuard<'_, BTreeMap<&'static str, Told>> {
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that everybody who is told knows to be in.
    fn settled(&self, advised: &Advised, now: Second) -> Vec<Node> {
        let outlets = self.outlets();
        let is_settled = |node: &&Node| {
            let is_away = advised.of(&node.0, &node.1, now).is_some_and(|it| it.state != State::In);
            !is_away && outlets.values().all(|told| told.is_in.contains(*node))
        };
        advised.unsettled.iter().filter(is_settled).cloned().collect()
    }
}

impl Collector {
    /// Takes in what was measured of nodes. Blocks.
    pub(crate) fn steer(&self, services: Vec<Evidence>, now: Timestamp) {
        let Steerer { fleet, .. } = &self.inner.steerer;
        // A directory that cannot be looked into says nothing of the file, and stops nobody.
        let file = fleet.stop_file.as_ref().filter(|file| file.exists());
        let by_file = file.map(|file| format!("the file {}", file.display()));
        self.judgement().steer(Seen { services, fleet: fleet.rules, stopped: by_file }, now);
    }

    /// Lets others know what is advised: it is on the disk.
    pub(crate) fn publish_advice(&self, now: Timestamp) {
        let advised = self.judgement().advised(now);
        let settled = self.inner.steerer.settled(&advised, now.second());
        if !settled.is_empty() {
            self.judgement().settle(&settled);
        }
        self.inner.steerer.advised.send_replace(Some(Arc::new(advised)));
    }

    /// What is advised, once a second was judged.
    pub(crate) fn advised(&self) -> Option<Arc<Advised>> {
        self.inner.steerer.advised.borrow().clone()
    }

    /// What the agent on `node` is told with the answer to its report.
    pub(crate) fn leases(&self, node: &str) -> Option<Value> {
        let leases = self.advised()?.leases(node, self.now().second());
        leases.as_object().is_some_and(|leases| !leases.is_empty()).then_some(leases)
    }
}
