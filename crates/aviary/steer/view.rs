//! How the agent itself sees its services, fed with what it reports.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aviary_agent::{
    News,
    own::{Looked, Own},
};
use aviary_core::{Clock as _, Second, verdict::State};
use aviary_probe::SystemClock;

use crate::config::Config;

/// What the agent sees.
#[derive(Debug, Default)]
pub(crate) struct View(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    looked: BTreeMap<String, Looked>,
    own: Own,
}

impl View {
    /// Of the services of `config`.
    pub(crate) fn of(config: &Config) -> Self {
        let view = Self::default();
        view.take_on(config);
        view
    }

    /// These are the services, from the next roster on.
    pub(crate) fn take_on(&self, config: &Config) {
        let looked = config.services.iter().map(|service| {
            let optional = service.endpoints.iter().filter(|it| !it.required);
            let optional = optional.map(|it| it.endpoint.clone()).collect();
            let acceptable_loss = service.policy.acceptable_loss;
            (service.name.clone(), Looked { acceptable_loss, optional })
        });
        self.inner().looked = looked.collect();
    }

    /// Takes in what the agent reports.
    pub(crate) fn hear(&self, news: &News<'_>) {
        let Inner { looked, own } = &mut *self.inner();
        match *news {
            News::Roster(roster) => own.assign(roster, looked, SystemClock.wall().second()),
            News::Slot { series, second, outcome } => own.observe(series, second, outcome),
            News::Second(_) => {}
        }
    }

    /// The services.
    pub(super) fn services(&self) -> Vec<String> {
        self.inner().looked.keys().cloned().collect()
    }

    /// How a service was seen in the last window before `now`; nothing where there is no such service.
    pub(super) fn state(&self, service: &str, now: Second) -> Option<State> {
        let inner = self.inner();
        inner.looked.contains_key(service).then(|| inner.own.state(service, now).unwrap_or(State::Starting))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each piece of news is taken whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl View {
    /// Of services with these names, of which nothing was seen.
    pub(super) fn naming(services: &[&str]) -> Self {
        let looked = services.iter().map(|service| ((*service).to_owned(), Looked::default())).collect();
        Self(Mutex::new(Inner { looked, own: Own::default() }))
    }
}
