//! What the newest closed minute says of a service from each region and node.
//!
//! It takes two steps, so that the state is locked for the sums alone: [`State::look_by_place`] copies what is needed, and
//! [`Looked::judge`] says what follows, by the same function as of the whole service.

use std::collections::BTreeMap;

use aviary_core::{
    Endpoint, Span, Tag, Timestamp, Window,
    catalog::Grouping,
    verdict::{self, JUDGED_SECONDS, SEEN_SECONDS, Sums},
};

use super::State;
use crate::{ServiceOptions, closed_until};

/// The series of one service, region, node and endpoint each: the same until others come.
pub(crate) struct Cells {
    series: usize,
    grouping: Grouping,
    /// The endpoint of each.
    endpoints: Vec<Option<Endpoint>>,
}

/// What there is to judge.
pub(crate) struct Looked {
    /// Of each cell the newest closed minute, and whether anything is known of its newest seconds; none where nobody probes
    /// it any more.
    cells: Vec<Option<(Window, bool)>>,
    services: BTreeMap<String, OfService>,
}

struct OfService {
    options: ServiceOptions,
    storage_untold: Option<String>,
    watched_seconds: u64,
}

/// A service from where it is probed, by name.
#[derive(Default)]
pub(crate) struct ByPlace {
    pub(crate) regions: BTreeMap<String, Place>,
    pub(crate) nodes: BTreeMap<String, Place>,
}

/// What a minute says of a service from one place.
pub(crate) struct Place {
    pub(crate) state: verdict::State,
    pub(crate) window: Window,
}

impl State {
    /// What there is to judge of the services by region and node, and its cells, which are those that were `known` while
    /// they hold.
    pub(crate) fn look_by_place(&mut self, known: Option<Cells>, now: Timestamp) -> (Cells, Looked) {
        self.advance(now);
        let known = known.filter(|cells| cells.series == self.catalog.len());
        let cells = known.unwrap_or_else(|| {
            let by = [Tag::Service, Tag::Region, Tag::Node, Tag::Endpoint];
            let grouping = self.catalog.group(&by, |_| true);
            // The catalog's texts of this tag are endpoints.
            let endpoints = grouping.values.iter().map(|values| values[3].parse().ok()).collect();
            Cells { series: self.catalog.len(), grouping, endpoints }
        });
        let span = Span::before(closed_until(now), JUDGED_SECONDS);
        let goes_on = |id| self.ledger.life(id).until >= span.until;
        let (minute, is_live) = self.live_sums(span, &cells.grouping, goes_on);
        let (newest, _) = self.live_sums(Span::before(span.until, SEEN_SECONDS), &cells.grouping, goes_on);
        let windows = minute.into_iter().zip(newest).zip(is_live);
        let cell = |((minute, newest), is_live): ((Window, Window), bool)| {
            is_live.then_some((minute, newest.unknown < newest.scheduled))
        };
        let watched_seconds = now.second().0.saturating_sub(self.watching_since.0);
        let services = self.standing.iter().map(|(name, standing)| {
            let (options, storage_untold) =
                (self.service(name).into_owned(), standing.storage_untold.clone());
            (name.clone(), OfService { options, storage_untold, watched_seconds })
        });
        let (windows, services) = (windows.map(cell).collect(), services.collect());
        (cells, Looked { cells: windows, services })
    }
}

/// What is added up of one place.
#[derive(Default)]
struct Added<'c> {
    endpoints: BTreeMap<&'c Endpoint, Window>,
    is_seen: bool,
}

impl<'c> Added<'c> {
    fn add(&mut self, endpoint: &'c Endpoint, window: Window, is_seen: bool) {
        *self.endpoints.entry(endpoint).or_default() += window;
        self.is_seen |= is_seen;
    }

    fn judge(self, service: &OfService) -> Place {
        let OfService { options, storage_untold, watched_seconds } = service;
        // How many have to look is asked of a service, and not of one place.
        let policy = verdict::Policy { min_vantages: 1, ..options.policy.clone() };
        let endpoints = self.endpoints.into_iter();
        let sums = Sums {
            endpoints: endpoints.map(|(it, sum)| (it.clone(), sum, options.requires(it))).collect(),
            vantages_seen: usize::from(self.is_seen),
            watched_seconds: *watched_seconds,
            storage_untold: storage_untold.clone(),
            ..Sums::default()
        };
        let verdict = verdict::judge(&policy, &sums);
        Place { state: verdict.state, window: verdict.window }
    }
}

impl Looked {
    /// What it says of each service by place.
    pub(crate) fn judge(&self, cells: &Cells) -> BTreeMap<String, ByPlace> {
        let mut added: BTreeMap<&str, [BTreeMap<&str, Added<'_>>; 2]> = BTreeMap::new();
        let known = cells.grouping.values.iter().zip(&cells.endpoints).zip(&self.cells);
        for ((values, endpoint), cell) in known {
            let [service, region, node, _] = &values[..] else { continue };
            let (Some(endpoint), Some((window, is_seen))) = (endpoint, *cell) else { continue };
            let [regions, nodes] = added.entry(service).or_default();
            regions.entry(region).or_default().add(endpoint, window, is_seen);
            nodes.entry(node).or_default().add(endpoint, window, is_seen);
        }
        let judged = added.into_iter().filter_map(|(name, places)| {
            let service = self.services.get(name)?;
            let judge = |places: BTreeMap<&str, Added<'_>>| {
                places.into_iter().map(|(place, added)| (place.to_owned(), added.judge(service))).collect()
            };
            let [regions, nodes] = places.map(judge);
            Some((name.to_owned(), ByPlace { regions, nodes }))
        });
        judged.collect()
    }
}
