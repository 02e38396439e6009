//! Who is told of incidents, from the configuration: what the collector needs to know of them, and the ways to them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use aviary_collector::{
    Alerting, Collector, TestPages,
    delivery::{Delivery, Outside},
};
use aviary_core::page::{Paging, Receiver as Manners};
use aviary_notify::{Outlet, Receiver, Watchdog};
use aviary_probe::{SystemClock, trusted_roots};

use crate::config::{self, Config, secret::Pem};

/// Who is told what, and when not.
pub(super) fn paging(config: &Config) -> Paging {
    let manners = |receiver: &config::receiver::Receiver| {
        let contract = receiver.settings.kind.contract();
        let manners =
            Manners { wakes: contract.wakes, per_minute: contract.per_minute, ..Manners::default() };
        (receiver.settings.name.clone(), manners)
    };
    let of_all = config.collector.as_ref().and_then(|section| section.quiet_hours.as_ref());
    let quiet = config.services.iter().filter_map(|service| {
        let hours = service.alerting.quiet_hours.as_ref().or(of_all)?;
        Some((service.name.clone(), hours.clone()))
    });
    let quiet: BTreeMap<_, _> = quiet.collect();
    Paging::new(config.receivers.iter().map(manners).collect(), config.routes.clone(), quiet)
}

/// When test pages are sent.
pub(super) fn test_pages(config: &Config) -> Option<TestPages> {
    config.collector.as_ref()?.test_pages.clone()
}

/// Under which URL the collector is reached, where it is said.
pub(super) fn url(config: &Config) -> Option<String> {
    Some(config.collector.as_ref()?.url.as_ref()?.to_string())
}

/// What a service wants to be told of.
pub(super) fn alerting(service: &config::service::Service, config: &Config) -> Alerting {
    let is_all_shadow = config.collector.as_ref().is_some_and(|section| section.shadow);
    let alerting = service.alerting.clone();
    Alerting { shadow: alerting.shadow || is_all_shadow, ..alerting }
}

/// The ways to everybody who is told.
///
/// # Errors
/// Names the section that cannot be set up.
pub(super) fn outside(config: &Config) -> anyhow::Result<Outside> {
    let named = |configured: &config::receiver::Receiver| {
        anyhow::Ok((configured.settings.name.clone(), receiver(configured)?))
    };
    let receivers = config.receivers.iter().map(named).collect::<anyhow::Result<_>>()?;
    let watchdog = config.collector.as_ref().and_then(|section| Some((section, section.watchdog.as_ref()?)));
    let watchdog = watchdog.map(|(section, watchdog)| {
        let roots = roots(watchdog.ca.as_ref())?;
        let told = Watchdog::new(&section.name, watchdog.kind.clone(), &roots)?;
        anyhow::Ok((told, watchdog.interval))
    });
    Ok(Outside { receivers, watchdog: watchdog.transpose().context("[collector.watchdog]")? })
}

/// The ways to who is told where nodes are to be.
///
/// # Errors
/// Names the section that cannot be set up.
pub(super) fn outlets(section: &config::collector::Collector) -> anyhow::Result<Vec<Outlet>> {
    let rotation = section.rotation.iter().flat_map(|rotation| &rotation.outlets);
    let outlet = |configured: &config::rotation::Outlet| {
        let place = || format!("[collector.rotation.{}]", configured.kind.name());
        let roots = roots(configured.ca.as_ref()).with_context(place)?;
        Outlet::new(configured.kind.clone(), &roots).with_context(place)
    };
    rotation.map(outlet).collect()
}

/// The way to one receiver.
///
/// # Errors
/// Names it, where it cannot be set up.
pub(super) fn receiver(configured: &config::receiver::Receiver) -> anyhow::Result<Receiver> {
    let place = || format!("[[receiver]] `{}`", configured.settings.name);
    let roots = roots(configured.ca.as_ref()).with_context(place)?;
    Receiver::new(configured.settings.clone(), &roots).with_context(place)
}

fn roots(ca: Option<&Pem>) -> anyhow::Result<Vec<rustls_pki_types::CertificateDer<'static>>> {
    let extra: Vec<&[u8]> = ca.map(|pem| pem.text().as_bytes()).into_iter().collect();
    Ok(trusted_roots(&extra)?)
}

/// Lets `collector` take PagerDuty's word that somebody is on it.
fn subscribe(collector: &Collector, config: &Config) {
    let secrets = config.receivers.iter().filter_map(|receiver| receiver.webhook_secret.as_ref());
    collector.subscribed(secrets.map(config::secret::Secret::expose));
}

/// Begins to tell whoever is to be told.
pub(super) fn deliver(collector: &Collector, config: &Config, outside: Outside) -> Delivery<SystemClock> {
    subscribe(collector, config);
    Delivery::start(collector, outside, SystemClock)
}

/// Tells those of `config` from now on, by the ways `outside`.
pub(super) fn take_on(
    collector: &Collector,
    delivery: &Delivery<SystemClock>,
    config: &Config,
    outside: Outside,
) {
    collector.page_by(paging(config), config.silences.clone(), url(config));
    collector.test_by(test_pages(config));
    subscribe(collector, config);
    delivery.configure(outside);
}
