//! How one agent sees its services by itself: a word for whoever asks at the node, and a reason for nothing else.
//!
//! The last window is [`WINDOW_SECONDS`] of slots that have settled, of the endpoints that a service requires. It is short: whoever
//! looks at a node wants to know how it is, and nobody is woken by this.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::{AcceptableLoss, Endpoint, Evidence, Outcome, Second, Span, verdict::State};
use aviary_wire::report::Roster;

/// How many seconds are looked at.
pub const WINDOW_SECONDS: u64 = 10;

/// Seconds are looked at once they are so old: their slots are closed.
const SETTLED_SECONDS: u64 = 3;

/// Around the newest slot, so many seconds are held.
const KEPT_SECONDS: u64 = WINDOW_SECONDS + 2 * SETTLED_SECONDS;

/// What a service is looked at by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// What it may lose.
    pub acceptable_loss: AcceptableLoss,
    /// What is not required of it.
    pub optional: BTreeSet<Endpoint>,
}

/// The slots of one second.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    delivered: u64,
    lost: u64,
}

#[derive(Debug, Default)]
struct Service {
    since: Second,
    acceptable_loss: AcceptableLoss,
    seconds: BTreeMap<Second, Tally>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Own {
    services: BTreeMap<String, Service>,
    /// The service of each place in the roster whose endpoint is required.
    places: Vec<Option<String>>,
}

impl Own {
    /// These are the series from now on; what is not `looked` at is no service.
    pub fn assign(&mut self, roster: &Roster, looked: &BTreeMap<String, Looked>, now: Second) {
        let is_required = |service: &str, endpoint: &Endpoint| {
            looked.get(service).is_some_and(|looked| !looked.optional.contains(endpoint))
        };
        let series = roster.series.iter();
        self.places = series
            .map(|series| is_required(&series.service, &series.endpoint).then(|| series.service.clone()))
            .collect();
        let mut before = std::mem::take(&mut self.services);
        for (name, looked) in looked {
            let service = before.remove(name).unwrap_or_else(|| Service { since: now, ..Service::default() });
            let acceptable_loss = looked.acceptable_loss;
            self.services.insert(name.clone(), Service { acceptable_loss, ..service });
        }
    }

    /// A slot of the series at this place of the roster was closed.
    pub fn observe(&mut self, series: u32, second: Second, outcome: &Outcome) {
        let Some(Some(name)) = self.places.get(series as usize) else { return };
        let Some(service) = self.services.get_mut(name) else { return };
        let tally = service.seconds.entry(second).or_default();
        match outcome {
            Outcome::Delivered(Evidence::Sent) | Outcome::Local { .. } | Outcome::Missed | Outcome::Muted => {
            }
            Outcome::Delivered(_) => tally.delivered += 1,
            Outcome::Lost { .. } => tally.lost += 1,
        }
        // Slots come about in order. Of a clock that was ahead and set back, nothing is left.
        service.seconds.retain(|at, _| at.0.abs_diff(second.0) <= KEPT_SECONDS);
    }

    /// How the service was seen in the last window before `now`; nothing where there is no such service.
    pub fn state(&self, service: &str, now: Second) -> Option<State> {
        let service = self.services.get(service)?;
        let span = Span::before(now.minus(SETTLED_SECONDS), WINDOW_SECONDS);
        if span.from < service.since {
            return Some(State::Starting);
        }
        let seen = service.seconds.range(span.from..span.until).map(|(_, tally)| tally);
        let (delivered, lost) =
            seen.fold((0, 0), |(delivered, lost), it| (delivered + it.delivered, lost + it.lost));
        let judged = delivered + lost;
        let acceptable = u64::from(service.acceptable_loss.parts_per_million()) * judged;
        Some(if judged == 0 {
            State::Unproven
        } else if lost * 2 >= judged {
            State::Down
        } else if lost * 1_000_000 > acceptable {
            State::Degraded
        } else {
            State::Healthy
        })
    }
}
