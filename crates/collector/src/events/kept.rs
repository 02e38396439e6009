//! Events in a checkpoint.

use aviary_core::Second;

use super::{Event, EventKind, Events, What};
use crate::checkpoint::{
    Unreadable, message,
    pool::{Pool, Shared},
};

impl Events {
    /// The events that are held.
    pub(crate) fn keep(&self, pool: &mut Pool) -> Vec<message::Event> {
        let kept = |event: &Event| {
            let nothing = message::Event { at: event.at.0, ..message::Event::default() };
            match &event.what {
                What::Address { kind, host, address, vantage } => message::Event {
                    kind: address_kind(*kind).to_owned(),
                    host: host.clone(),
                    address: address.to_string(),
                    vantage: pool.vantage(vantage),
                    ..nothing
                },
                What::Told { kind, text, service, by } => message::Event {
                    kind: kind.clone(),
                    text: text.clone(),
                    service: service.clone(),
                    by: by.clone(),
                    ..nothing
                },
            }
        };
        self.held.iter().map(kept).collect()
    }

    /// The events of which [`Self::keep`] told.
    pub(crate) fn restore(kept: Vec<message::Event>, shared: &Shared) -> Result<Self, Unreadable> {
        let mut events = Self::default();
        for kept in kept {
            let kinds = [EventKind::AddressAdded, EventKind::AddressRemoved];
            let what = match kinds.into_iter().find(|kind| address_kind(*kind) == kept.kind) {
                Some(kind) => What::Address {
                    kind,
                    host: kept.host,
                    address: kept.address.parse().map_err(Unreadable::because)?,
                    vantage: shared.vantage(kept.vantage)?,
                },
                None => {
                    let message::Event { kind, text, service, by, .. } = kept;
                    What::Told { kind, text, service, by }
                }
            };
            events.note(Event { at: Second(kept.at), what });
        }
        Ok(events)
    }
}

/// No event that somebody tells may be called so.
const fn address_kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::AddressAdded => "address_added",
        EventKind::AddressRemoved => "address_removed",
    }
}
