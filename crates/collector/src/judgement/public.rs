//! What the public is told of incidents, kept with them: in the same batch, and so in the same transaction.

use std::collections::BTreeMap;

use aviary_core::{Timestamp, incident::Incident};

use super::{Held, Judgement};
use crate::status::{Act, Changed, Publication, Refused, Shown, Status};

impl Judgement {
    /// The public is told of these services from now on.
    pub(crate) fn show(&self, shown: Shown) {
        self.held().publications.show(shown);
    }

    /// What the public is told of, and all that was published, the newest first.
    pub(crate) fn public(&self) -> (Shown, Vec<Publication>) {
        let held = self.held();
        (held.publications.shown().clone(), held.publications.public().cloned().collect())
    }

    /// Another number than before where something of that has changed.
    pub(crate) fn public_revision(&self) -> u64 {
        self.held().publications.revision()
    }

    /// The services do so now, as the public sees it.
    pub(crate) fn note_statuses(&self, statuses: BTreeMap<String, Status>) {
        self.held().publications.note_statuses(statuses);
    }

    /// What the public is told of an incident, or would be; nothing where no service of it is shown.
    pub(crate) fn publication(&self, incident: &Incident, now: Timestamp) -> Option<Publication> {
        let held = self.held();
        let known = held.publications.get(incident.id.as_str()).cloned();
        known.or_else(|| held.publications.draft(incident, now.second()))
    }

    /// Has somebody do something about what the public is told of an incident: all of it or nothing.
    pub(crate) fn tell_public(
        &self,
        incident: &Incident,
        acts: Vec<Act>,
        by: &str,
        now: Timestamp,
    ) -> Result<Publication, Refused> {
        let mut held = self.held();
        let publication = held.publications.act(incident, acts, by, now.second())?;
        held.pending.put_publication(&publication);
        Ok(publication)
    }
}

impl Held {
    /// Brings what the public is told up to what became of incidents.
    pub(super) fn follow_in_public(&mut self, now: Timestamp) {
        let Changed { kept, gone } = self.publications.follow(self.incidents.iter(), now.second());
        for id in kept {
            if let Some(publication) = self.publications.get(&id) {
                self.pending.put_publication(publication);
            }
        }
        for id in gone {
            self.pending.remove_publication(&id);
        }
    }
}
