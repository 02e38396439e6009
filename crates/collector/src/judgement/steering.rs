//! Which nodes are to be left out, kept with the incidents whose history says why.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aviary_core::{
    Second, Timestamp,
    extent::Blame,
    incident::{self, Cause, Condition, Observation},
    page::Severity,
    rotation::{
        Action, Advice, Ejection, Kept, KeptNode, KeptPool, LEASE_SECONDS, Proof, Rotation, Seen, State, What,
    },
};
use serde_json::{Value, json};

use super::{
    Held, Judgement,
    record::{Damage, Record, records},
};
use crate::rotation::{Advised, Node, PoolFigures, RotationFigures};

/// A node leaves before anybody is told of its loss: what was done waits for so long for an incident to be noted with.
const UNNOTED_SECONDS: u64 = 120;

/// So much of it waits.
const UNNOTED_MAX: usize = 64;

/// Somebody stopped steering.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stop {
    at: Second,
    by: String,
}

/// What is kept of steering.
#[derive(Debug, Default)]
pub(super) struct Steering {
    rotation: Rotation,
    stop: Option<Stop>,
    unsettled: Unsettled,
    /// Who stopped it when it was last looked at.
    stopped: Option<String>,
    /// What was done, until there is a loss that it is noted with.
    unnoted: VecDeque<(Second, Action)>,
    /// It as it was last handed to be kept.
    kept: KeptSteering,
}

/// What one life leaves to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptSteering {
    machine: Kept,
    stop: Option<Stop>,
    unsettled: Unsettled,
}

/// Nodes of services that were not in, until whoever is told is known to know that they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unsettled(BTreeSet<Node>);

/// So many are remembered.
const UNSETTLED_MAX: usize = 10_000;

impl Steering {
    /// What an earlier life left.
    pub(super) fn from_kept(kept: KeptSteering) -> Self {
        let rotation = Rotation::from_kept(kept.machine.clone());
        let (stop, unsettled) = (kept.stop.clone(), kept.unsettled.clone());
        Self { rotation, stop, unsettled, kept, ..Self::default() }
    }

    /// What is to be kept, where that is another than it was.
    fn changed(&mut self) -> Option<Vec<u8>> {
        let (stop, unsettled) = (self.stop.clone(), self.unsettled.clone());
        let kept = KeptSteering { machine: self.rotation.kept(), stop, unsettled };
        if kept == self.kept {
            return None;
        }
        let bytes = kept.bytes();
        self.kept = kept;
        Some(bytes)
    }

    /// Remembers who is not in, before anybody is told.
    fn note_unsettled(&mut self, now: Second) {
        for (service, (_, nodes)) in self.rotation.advice(now) {
            let away = nodes.into_iter().filter(|(_, advice)| advice.state != State::In);
            self.unsettled.0.extend(away.map(|(node, _)| (service.to_owned(), node.to_owned())));
        }
        while self.unsettled.0.len() > UNSETTLED_MAX {
            self.unsettled.0.pop_first();
        }
    }

    /// What a person is to know of it, for the services of which something is observed. Of nodes of which somebody was `told`,
    /// also that it is over, which is known for longer than that they were out.
    pub(super) fn conditions(
        &self,
        services: &[Observation],
        told: BTreeSet<(&str, &str)>,
        now: Second,
    ) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let often = self.rotation.repeated();
        let lasting: BTreeSet<(&str, &str)> = self.rotation.lasting(now).collect();
        let mut nodes = told;
        nodes.extend(&lasting);
        nodes.extend(often.iter().map(|(service, node, _)| (*service, *node)));
        for Observation { service, policy, .. } in services {
            let condition = |cause: Cause, holds: bool, summary: String| Condition {
                cause,
                holds,
                after: 0,
                severity: Severity::Error,
                services: vec![service.clone()],
                summary,
                measured: None,
                blame: Blame::Unclear,
                owner: policy.owner.clone(),
                runbook: policy.runbook.clone(),
                shadow: policy.shadow,
            };
            let refused = self
                .rotation
                .refused()
                .find(|(of, is_live, refused)| of == service && *is_live && refused.guard.is_correlated());
            let text = refused.map(|(.., refused)| format!("{service}: {}", refused.text));
            let (holds, text) = (text.is_some(), text.unwrap_or_default());
            conditions.push(condition(Cause::NotEjected { service: service.clone() }, holds, text));
            for (_, node) in nodes.iter().filter(|(of, _)| of == service) {
                let times = often.iter().find(|(of, it, _)| of == service && it == node);
                let what = match times {
                    Some((.., times)) => {
                        Some(format!("was taken out of rotation {times} times within a day"))
                    }
                    None => lasting
                        .contains(&(service.as_str(), *node))
                        .then(|| "has been out of rotation for more than an hour".to_owned()),
                };
                let summary = what.map(|what| format!("{service}: {node} {what}: it needs a person"));
                let (service, node) = (service.clone(), (*node).to_owned());
                let holds = summary.is_some();
                conditions.push(condition(
                    Cause::Ejected { service, node },
                    holds,
                    summary.unwrap_or_default(),
                ));
            }
        }
        conditions
    }
}

impl Held {
    /// Notes what was done with nodes: once there is a loss to note it with, or none came of it.
    pub(super) fn note_steered(&mut self, now: Timestamp) {
        for (at, action) in std::mem::take(&mut self.steering.unnoted) {
            let is_old = now.second().0.saturating_sub(at.0) >= UNNOTED_SECONDS;
            if is_old || self.incidents.has_loss(&action.service) {
                let Action { service, nodes, text, .. } = action;
                self.step(incident::Event::Steered { service, nodes, text }, now);
            } else {
                self.steering.unnoted.push_back((at, action));
            }
        }
    }
}

impl Judgement {
    /// Takes in what was measured of nodes at `now`. Each thing that is done is noted with the service's incident.
    pub(crate) fn steer(&self, mut seen: Seen, now: Timestamp) {
        let mut held = self.held();
        let by_api = held.steering.stop.as_ref().map(|stop| stop.by.clone());
        seen.stopped = seen.stopped.or(by_api);
        held.steering.stopped.clone_from(&seen.stopped);
        let actions = held.steering.rotation.step(&seen, now.second());
        for action in actions {
            let (service, text) = (&action.service, &action.text);
            match action.what {
                What::Out | What::Refused(_) => tracing::warn!(service, "{text}."),
                What::Returning | What::In => tracing::info!(service, "{text}."),
            }
            held.steering.unnoted.push_back((now.second(), action));
        }
        let beyond = held.steering.unnoted.len().saturating_sub(UNNOTED_MAX);
        held.steering.unnoted.drain(..beyond);
        held.note_steered(now);
        held.steering.note_unsettled(now.second());
        if let Some(bytes) = held.steering.changed() {
            held.pending.put_steering(bytes);
        }
    }

    /// What is advised at `now`.
    pub(crate) fn advised(&self, now: Timestamp) -> Advised {
        let held = self.held();
        let steering = &held.steering;
        let owned = |nodes: BTreeMap<&str, Advice>| {
            nodes.into_iter().map(|(node, advice)| (node.to_owned(), advice)).collect()
        };
        let services = steering.rotation.advice(now.second()).into_iter();
        Advised {
            services: services.map(|(name, (mode, nodes))| (name.to_owned(), (mode, owned(nodes)))).collect(),
            unsettled: steering.unsettled.0.clone(),
            stopped: steering.stopped.clone(),
            until: now.second().plus(LEASE_SECONDS),
        }
    }

    /// Whoever is told knows that these are in. It is kept with the next commit: told once more, they would be no worse.
    pub(crate) fn settle(&self, nodes: &[Node]) {
        let mut held = self.held();
        nodes.iter().for_each(|node| _ = held.steering.unsettled.0.remove(node));
        if let Some(bytes) = held.steering.changed() {
            held.pending.put_steering(bytes);
        }
    }

    /// Stops steering in the name of `by`, or goes on with it.
    pub(crate) fn stop_steering(&self, by: Option<String>, now: Timestamp) {
        let mut held = self.held();
        held.steering.stop = by.map(|by| Stop { at: now.second(), by });
        if let Some(bytes) = held.steering.changed() {
            held.pending.put_steering(bytes);
        }
    }

    /// Whether somebody stopped it.
    pub(crate) fn is_steering_stopped(&self) -> bool {
        self.held().steering.stopped.is_some()
    }

    /// What people are told of steering.
    pub(crate) fn steering_status(&self) -> Value {
        let held = self.held();
        let Steering { rotation, stopped, .. } = &held.steering;
        let refused: BTreeMap<&str, Value> = rotation
            .refused()
            .map(|(service, _, it)| {
                (service, json!({"guard": it.guard.name(), "nodes": it.nodes, "text": it.text}))
            })
            .collect();
        let services = rotation.modes().map(|(service, mode)| {
            let refused = refused.get(service).cloned().unwrap_or_default();
            (service.to_owned(), json!({"mode": mode.name(), "refused": refused}))
        });
        let ejections: Vec<Value> = rotation.ejections().map(Record::write).collect();
        json!({
            "stopped": stopped,
            "services": services.collect::<serde_json::Map<_, _>>(),
            "ejections": ejections,
        })
    }

    /// What is counted of it.
    pub(crate) fn steering_figures(&self) -> RotationFigures {
        let held = self.held();
        let Steering { rotation, stopped, .. } = &held.steering;
        let pools = rotation.modes().map(|(service, mode)| PoolFigures {
            service: service.to_owned(),
            mode,
            nodes: rotation.states(service),
        });
        RotationFigures {
            pools: pools.collect(),
            refusals: rotation.refusals().clone(),
            refusing: rotation.refused().map(|(service, _, it)| (service.to_owned(), it.guard)).collect(),
            is_stopped: stopped.is_some(),
            // Those who are told are beside judgement.
            outlets: Vec::new(),
        }
    }
}

/// Records of versions before this was kept lack it.
impl Record for Unsettled {
    fn write(&self) -> Value {
        json!(self.0)
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        let nodes: Option<BTreeSet<Node>> = serde::Deserialize::deserialize(value)
            .map_err(|error: serde_json::Error| Damage::of(error.to_string()))?;
        Ok(Self(nodes.unwrap_or_default()))
    }
}

records! {
    Ejection { at, service, node, is_live }
    Kept { pools, ejections }
    KeptNode { state, since, proof }
    KeptPool { mode, away }
    KeptSteering { machine, stop, unsettled }
    Proof { lost, scheduled, window, vantages, peers, peers_lost, peers_scheduled }
    Stop { at, by }
}
