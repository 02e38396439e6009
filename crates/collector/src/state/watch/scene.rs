//! Where loss is, and in which words: what is worked out without the state's lock.

use std::sync::Arc;

use aviary_core::{
    Tag,
    extent::{self, Beside, Suspects, blame, explain, kinds, questions, summary},
    incident::{Condition, Event, Observation, Observed},
    silence::InForce,
};

use super::groups::Fleet;
use crate::judgement::Pending;

/// What was counted of a service's series while something is lost.
pub(crate) struct Scene {
    pub(super) fleet: Arc<Fleet>,
    pub(super) counts: Vec<extent::Counts>,
    /// What other services lose from each of their vantages.
    pub(super) beside: Vec<Beside>,
}

/// What is seen in a second.
pub(crate) struct Seen {
    pub(crate) services: Vec<(Observation, Option<Scene>)>,
    pub(crate) conditions: Vec<Condition>,
    /// What came late of losses that are told of.
    pub(crate) late: Vec<Event>,
    /// Places from which nobody is to look any more.
    pub(crate) removed: Vec<(Tag, String)>,
    /// What is to be kept beside.
    pub(crate) pending: Pending,
}

impl Seen {
    /// All of it, with where loss is, while `silences` are in force.
    pub(crate) fn explained(self, silences: Vec<InForce>) -> Observed {
        let services = self.services.into_iter().map(|(observation, scene)| match scene {
            Some(scene) => scene.explain(observation),
            None => observation,
        });
        Observed { services: services.collect(), conditions: self.conditions, silences }
    }
}

impl Scene {
    fn explain(self, observation: Observation) -> Observation {
        let population = self.fleet.population();
        let extent = explain(population, &self.counts);
        let questions = questions(population, &self.counts, &extent);
        let suspects = Suspects { beside: self.beside, ..Suspects::default() };
        let attribution = blame(population, &self.counts, &extent, &suspects);
        let summary = summary(population, &self.counts, &extent);
        Observation {
            kinds: kinds(population, &extent),
            extent,
            questions,
            blame: attribution.blame,
            grounds: attribution.grounds,
            summary,
            ..observation
        }
    }
}
