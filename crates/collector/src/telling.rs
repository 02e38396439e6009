//! The collector towards whoever is told of incidents, and whoever tells it of them.

use std::sync::{Arc, PoisonError};

use aviary_core::{
    Timestamp,
    incident::{self, Id},
    page::{self, Paging},
    silence::Silence,
};
use tokio::sync::{mpsc, watch};

use crate::{
    Collector, TestPages,
    delivery::{DeliveryFigures, Signs, pagerduty},
};

impl Collector {
    /// Tells these receivers of incidents from now on, holds these silences of the configuration in the place of those that
    /// it had, and is reached under this URL.
    pub fn page_by(&self, paging: Paging, silences: Vec<Silence>, url: Option<String>) {
        let now = self.now();
        *self.inner.url.lock().unwrap_or_else(PoisonError::into_inner) = url;
        self.judgement().configure(paging, now);
        self.judgement().plan(silences, now);
    }

    /// Sends test pages so from now on, or none.
    pub fn test_by(&self, pages: Option<TestPages>) {
        self.judgement().test_by(pages);
    }

    /// How many seconds the last loss of our own canary took from its onset until it was told of: it loses all each five
    /// minutes, and takes the way to a page.
    pub fn canary_delay(&self) -> Option<f64> {
        self.judgement().canary_delay()
    }

    /// Since when our own canary is silent, where it is: then nobody would hear of a loss either, and whoever watches us is
    /// not to be told that we watch.
    pub fn canary_silent_since(&self) -> Option<Timestamp> {
        self.judgement().canary_silent_since(self.now())
    }

    /// What is to be told to whom, each once it is kept, for the one who does it; none if somebody has it already.
    /// [`Self::take_ended`] is to say what came of each message.
    pub(crate) fn page_actions(&self) -> Option<mpsc::Receiver<page::Action>> {
        self.judgement().take_actions()
    }

    /// Notes what came of an attempt to tell somebody of an incident, and with the incident what is to be `noted` of it. It may
    /// wait for the disk.
    pub(crate) fn take_ended(&self, event: page::Event, noted: Option<incident::Event>) {
        self.judgement().ended(event, noted, self.now());
        self.keep_judgement();
    }

    /// Notes that somebody is on an incident, and returns whether there is such a one that is not over. It may wait for the
    /// disk.
    pub fn acknowledge(&self, id: &Id, by: &str) -> bool {
        let is_there = self.judgement().acknowledge(id, by, self.now());
        self.keep_judgement();
        is_there
    }

    /// What each loop of judgement sees at its end: whoever waits for the next one knows whether we still judge.
    pub fn signs(&self) -> watch::Receiver<Option<Signs>> {
        self.inner.signs.subscribe()
    }

    pub(crate) fn show_signs(&self, signs: Signs) {
        self.inner.signs.send_replace(Some(signs));
    }

    /// Takes acknowledgements from PagerDuty that are signed with one of `secrets` from now on.
    pub fn subscribed<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        self.inner.pagerduty.set(secrets);
    }

    pub(crate) fn pagerduty(&self) -> Arc<pagerduty::Secrets> {
        Arc::clone(&self.inner.pagerduty)
    }

    pub(crate) fn show_delivery(&self, figures: impl Fn() -> DeliveryFigures + Send + Sync + 'static) {
        *self.inner.delivery.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(figures));
    }

    pub(crate) fn delivery_figures(&self) -> DeliveryFigures {
        let delivery = self.inner.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        delivery.as_ref().map(|figures| figures()).unwrap_or_default()
    }

    pub(crate) fn url(&self) -> Option<String> {
        self.inner.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
