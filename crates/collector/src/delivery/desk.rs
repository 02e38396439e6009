//! The collector as its own delivery sees it.

use aviary_core::{
    Span, Tag,
    incident::{Cause, Id},
};

use super::{Around, Desk, Ended, Subject, also_open, first_causes, last_change};
use crate::Collector;

/// The causes of so many lost slots are looked at: what went wrong first is among them.
const LOSSES_MAX: usize = 10_000;

impl Collector {
    /// An incident as it is now, with what is known beside it; none where it is not held any more.
    pub fn subject(&self, id: &Id) -> Option<Subject> {
        let incident = self.judgement().incident(id)?;
        let others = self.judgement().incidents();
        let state = self.state();
        let services = incident.services();
        let span = Span::new(incident.since, incident.parts().map(|(_, part)| part.seen.plus(1)).max()?);
        let of_these = state.losses().within(span).filter_map(|(_, series, loss)| {
            // What else is lost of a service is no sign of why it is slow, or not seen.
            let is_of_it =
                incident.cause == Cause::Loss && services.contains(state.catalog().tag(series, Tag::Service));
            is_of_it.then_some(loss)
        });
        let worst = incident.worst().and_then(|part| part.services.first());
        let vantages = worst.and_then(|service| {
            let standing = state.standing().find(|(name, _)| name == service);
            standing.map(|(_, standing)| standing.vantages_seen as u64)
        });
        let around = Around {
            collector_url: self.url(),
            vantages: vantages.filter(|vantages| *vantages > 0),
            evidence: first_causes(of_these.take(LOSSES_MAX)),
            against: Vec::new(),
            last_change: last_change(state.events().changes(), &incident),
            also_open: also_open(&others, id),
        };
        drop(state);
        Some(Subject { taken: None, around, incident })
    }
}

impl Desk for Collector {
    fn look_up(&self, id: &Id, receiver: &str) -> Option<Subject> {
        let case = self.judgement().case(id);
        let taken = case.and_then(|case| case.deliveries.get(receiver).and_then(|delivery| delivery.taken));
        Some(Subject { taken, ..self.subject(id)? })
    }

    async fn ended(&self, ended: Ended) {
        let (event, noted) = ended.events();
        let collector = self.clone();
        let keep = move || collector.take_ended(event, noted);
        if let Err(error) = tokio::task::spawn_blocking(keep).await {
            tracing::error!(%error, "What became of a page could not be kept; it is sent again.");
        }
    }

    async fn acknowledge(&self, key: &str, by: String) -> bool {
        let Some(id) = self.judgement().by_key(key) else { return false };
        let collector = self.clone();
        let keep = move || collector.acknowledge(&id, &by);
        tokio::task::spawn_blocking(keep).await.unwrap_or_else(|error| {
            tracing::error!(%error, "An acknowledgement could not be kept.");
            false
        })
    }
}
