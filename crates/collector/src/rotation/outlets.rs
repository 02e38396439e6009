//! Tells outlets where nodes are to be, until they confirm it.
//!
//! To each the newest state of a node is told, and nothing of what it was in between; one attempt follows another, so that what is
//! older never comes later. An attempt that failed may have been taken: until another is confirmed nothing is known of that node. A
//! node that is not in is kept as unsettled, with what is kept of steering, until every outlet has confirmed that it is in again; so
//! another life, whose advice may have none of it, goes on to tell that. Each second is looked whether somebody owes an answer,
//! also while nothing is judged: advice ends by itself, and that is told too.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aviary_core::{Second, Timestamp, rotation::State};
use aviary_notify::{NodeAdvice, Outlet};
use tokio::{sync::watch, time::sleep};

use super::{Advised, Node, OutletFigures, Told, api};
use crate::{Collector, Server};

/// How often it is looked whether somebody is to be told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Nobody is told the same again sooner than this, nor later: doubled from attempt to attempt.
const RETRY: (u64, u64) = (1, 60);

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
            .chain(advised.unsettled.iter().cloned())
            .chain(self.told.keys().cloned())
            .chain(self.owed.keys().cloned())
            .collect();
        for node in known {
            let advice = advised.of(&node.0, &node.1, now.second());
            let state = advice.map_or(State::In, |advice| advice.state);
            if self.told.get(&node) == Some(&state) {
                self.owed.remove(&node);
                if state == State::In && !advised.unsettled.contains(&node) {
                    self.told.remove(&node);
                }
            } else if self.owed.get(&node).is_none_or(|owed| owed.state != state) {
                let owed = Owed { state, since: now, attempts: 0, not_before: now.second() };
                self.owed.insert(node, owed);
            }
        }
    }

    /// Those that it confirmed to be in.
    fn is_in(&self) -> BTreeSet<Node> {
        self.told.iter().filter(|(_, state)| **state == State::In).map(|(node, _)| node.clone()).collect()
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
        let mut figures = OutletFigures { outlet: outlet.kind().name(), ..OutletFigures::default() };
        loop {
            figures.owed = ledger.owed.len();
            self.note_outlet(figures, &ledger);
            tokio::select! {
                // The sender lives as long as this collector.
                _ = advised.changed() => {}
                () = sleep(LOOK_EVERY) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            let Some(newest) = advised.borrow_and_update().clone() else { continue };
            ledger.follow(&newest, self.now());
            for node in ledger.due(self.now().second()) {
                // Whatever comes of this attempt, it may have been taken.
                ledger.told.remove(&node);
                self.note_outlet(figures, &ledger);
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
                        figures.confirmed += 1;
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
                        figures.in_vain += 1;
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

    fn note_outlet(&self, figures: OutletFigures, ledger: &Ledger) {
        let told = Told { figures, is_in: ledger.is_in() };
        self.inner.steerer.outlets().insert(figures.outlet, told);
    }
}
