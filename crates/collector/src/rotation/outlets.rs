//! Tells outlets where nodes are to be, until they confirm it.
//!
//! To each the newest state of a node is told, and nothing of what it was in between; one attempt follows another, so that what is
//! older never comes later. What this life does not know to be confirmed is told again: of nodes that are not in, and of those that
//! went within a day.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{Second, Timestamp, rotation::State};
use aviary_notify::{NodeAdvice, Outlet};
use tokio::sync::watch;

use super::{Advised, api};
use crate::{Collector, Server};

/// Nobody is told the same again sooner than this, nor later: doubled from attempt to attempt.
const RETRY: (u64, u64) = (1, 60);

/// A node of a service.
type Node = (String, String);

/// What one outlet knows.
#[derive(Default)]
struct Ledger {
    /// What it confirmed.
    told: BTreeMap<Node, State>,
    /// What it has not, and how often it was tried.
    owed: BTreeMap<Node, Owed>,
}

struct Owed {
    state: State,
    since: Timestamp,
    attempts: u32,
    not_before: Second,
}

impl Ledger {
    /// What it is to be told by now.
    fn follow(&mut self, advised: &Advised, now: Timestamp) {
        let away = advised.services.iter().flat_map(|(service, (_, nodes))| {
            let away = nodes.iter().filter(|(_, advice)| advice.state != State::In);
            away.map(|(node, _)| (service.clone(), node.clone()))
        });
        let known: BTreeSet<Node> = away
            .chain(advised.recent.iter().cloned())
            .chain(self.told.keys().cloned())
            .chain(self.owed.keys().cloned())
            .collect();
        for node in known {
            let advice = advised.of(&node.0, &node.1, now.second());
            let state = advice.map_or(State::In, |advice| advice.state);
            if self.told.get(&node) == Some(&state) {
                self.owed.remove(&node);
                if state == State::In && !advised.recent.contains(&node) {
                    self.told.remove(&node);
                }
            } else if self.owed.get(&node).is_none_or(|owed| owed.state != state) {
                let owed = Owed { state, since: now, attempts: 0, not_before: now.second() };
                self.owed.insert(node, owed);
            }
        }
    }

    fn due(&self, now: Second) -> Vec<Node> {
        // A clock that was set back makes nobody wait for the time that was.
        let is_due = |owed: &Owed| owed.not_before <= now || owed.not_before.0 - now.0 > RETRY.1;
        self.owed.iter().filter(|(_, owed)| is_due(owed)).map(|(node, _)| node.clone()).collect()
    }
}

impl Collector {
    /// Tells these outlets of each node that leaves or comes back.
    pub fn serve_outlets(&self, outlets: Vec<Outlet>) -> Vec<Server> {
        let serve = |outlet: Outlet| {
            let (stop, stopped) = watch::channel(false);
            let http = tokio::spawn(self.clone().tell_outlet(outlet, stopped));
            Server { stop, http, own_work: Vec::new() }
        };
        outlets.into_iter().map(serve).collect()
    }

    async fn tell_outlet(self, outlet: Outlet, mut stopped: watch::Receiver<bool>) {
        let mut advised = self.inner.steerer.advised.subscribe();
        let mut ledger = Ledger::default();
        loop {
            tokio::select! {
                // The sender lives as long as this collector.
                _ = advised.changed() => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            let Some(newest) = advised.borrow_and_update().clone() else { continue };
            ledger.follow(&newest, self.now());
            for node in ledger.due(self.now().second()) {
                let Some(owed) = ledger.owed.get_mut(&node) else { continue };
                let advice = newest.of(&node.0, &node.1, self.now().second());
                let message = NodeAdvice {
                    service: node.0.clone(),
                    node: node.1.clone(),
                    state: owed.state.name(),
                    weight: advice.map_or(100, |advice| advice.weight),
                    reason: advice.and_then(|advice| advice.reason.clone()),
                    evidence: advice
                        .and_then(|advice| advice.proof.as_ref())
                        .map_or_else(Default::default, api::evidence),
                    since: owed.since,
                };
                let (name, service, node_name) = (outlet.kind().name(), &node.0, &node.1);
                match outlet.send(&message, self.now()).await {
                    Ok(receipt) => {
                        tracing::info!(
                            service,
                            node = node_name,
                            state = owed.state.name(),
                            said = receipt.text,
                            "The {name} was told where the node is to be."
                        );
                        let state = owed.state;
                        ledger.owed.remove(&node);
                        ledger.told.insert(node, state);
                    }
                    Err(refusal) => {
                        if owed.attempts == 0 {
                            tracing::warn!(
                                service,
                                node = node_name,
                                state = owed.state.name(),
                                "The {name} is told again where the node is to be: {refusal}."
                            );
                        }
                        let wait = (RETRY.0 << owed.attempts.min(6)).min(RETRY.1);
                        owed.attempts += 1;
                        owed.not_before = self.now().second().plus(wait);
                    }
                }
                if *stopped.borrow() {
                    return;
                }
                // What was advised meanwhile comes first.
                if advised.has_changed().unwrap_or(false) {
                    break;
                }
            }
        }
    }
}
