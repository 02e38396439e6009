//! What is measured of each node of the services that are steered.
//!
//! A series is of a node of the service: the vantage's own if that is a loopback; else the one that the configuration names for the
//! endpoint, or the endpoint's host. What an agent tells that is late, suspects itself or shares its vantage with another is
//! left out, and so is each series that ended, never worked or is not required: none of that says anything of a node, and nothing of
//! the other series of the same vantage.

use std::collections::{BTreeMap, HashMap};

use aviary_core::{
    Endpoint, Second, SeriesId, Span, State as Verdict, Tag, Timestamp, Vantage, VantageKind, Window,
    catalog::Grouping,
    ledger::NO_GROUP,
    rotation::{Counted, Evidence, LONG_SECONDS, Measured, Mode, Observer},
    vantage::ABSENT,
};

use super::{ServiceOptions, State};
use crate::settled_until;

/// Who has not reported for so long is not asked.
const HEARD_SECONDS: u64 = 5;

/// A lost slot is known when its attempt is given up, a second after it began, and is told with the report of the second in which
/// that happens: so long after the second that it is of, where it began late in that.
const TELLING_SECONDS: u64 = 2;

/// What all loopbacks of a service are called together.
const LOOPBACK: &str = "loopback";

/// The series of services that are steered, by node and vantage, for as long as the same series are known.
pub(super) struct Steered {
    series: usize,
    /// Each series' cell.
    cell_of: Vec<u32>,
    cells: Vec<Cell>,
    /// The series by service and endpoint.
    endpoints: Grouping,
}

struct Cell {
    service: String,
    node: String,
    vantage: Vantage,
    series: Vec<SeriesId>,
}

/// What was counted in a span.
type Sums = HashMap<Span, Vec<Window>>;

impl State {
    /// What is measured of the services that are steered.
    pub(crate) fn steered(&mut self, now: Timestamp) -> Vec<Evidence> {
        let is_steered = |service: &&ServiceOptions| {
            service.steering.as_ref().is_some_and(|steering| steering.mode != Mode::Off)
        };
        let services: Vec<ServiceOptions> = self.configured.values().filter(is_steered).cloned().collect();
        if services.is_empty() {
            return Vec::new();
        }
        let steered = match self.steered.take().filter(|it| it.series == self.catalog.len()) {
            Some(steered) => steered,
            None => self.cells_of(&services),
        };
        let mut sums = Sums::new();
        let telling = self.telling(&steered, now.second());
        let of_service = |service| self.evidence(service, &steered, &telling, &mut sums, now);
        let evidence = services.iter().filter_map(of_service).collect();
        self.steered = Some(steered);
        evidence
    }

    fn cells_of(&self, services: &[ServiceOptions]) -> Steered {
        let mut places: HashMap<(&str, String, Vantage), u32> = HashMap::new();
        let mut cells: Vec<Cell> = Vec::new();
        let mut cell_of = vec![NO_GROUP; self.catalog.len()];
        for id in self.catalog.ids() {
            let name = self.catalog.tag(id, Tag::Service);
            let Some(service) = services.iter().find(|service| service.name == name) else { continue };
            let Ok(endpoint) = self.catalog.tag(id, Tag::Endpoint).parse::<Endpoint>() else { continue };
            let Some(vantage) = self.vantage(id).filter(|_| service.requires(&endpoint)) else { continue };
            let node = match (vantage.kind, &service.steering) {
                (VantageKind::Loopback, _) => vantage.node.clone(),
                (_, Some(steering)) => steering.node_of(&endpoint),
                (_, None) => continue,
            };
            let place = *places.entry((name, node.clone(), vantage.clone())).or_insert_with(|| {
                cells.push(Cell { service: name.to_owned(), node, vantage, series: Vec::new() });
                cells.len() as u32 - 1
            });
            cells[place as usize].series.push(id);
            cell_of[id.0 as usize] = place;
        }
        let is_steered = |id: SeriesId| cell_of[id.0 as usize] != NO_GROUP;
        let endpoints = self.catalog.group(&[Tag::Service, Tag::Endpoint], is_steered);
        Steered { series: self.catalog.len(), cell_of, cells, endpoints }
    }

    /// The cell of each series that says something of its node: it goes on, and worked once.
    fn telling(&self, steered: &Steered, until: Second) -> Vec<u32> {
        let Steered { cell_of, endpoints, .. } = steered;
        let worked: Vec<bool> =
            endpoints.values.iter().map(|names| self.watch.worked(&names[0], &names[1])).collect();
        let tells = |id: SeriesId, endpoint: u32| {
            endpoint != NO_GROUP && worked[endpoint as usize] && self.goes_on(id, until)
        };
        let series = self.catalog.ids().zip(cell_of).zip(&endpoints.group_of);
        series.map(|((id, cell), endpoint)| if tells(id, *endpoint) { *cell } else { NO_GROUP }).collect()
    }

    fn vantage(&self, id: SeriesId) -> Option<Vantage> {
        let tag = |tag| self.catalog.tag(id, tag).to_owned();
        let known = |text: String| (text != ABSENT).then_some(text);
        Some(Vantage {
            kind: self.catalog.tag(id, Tag::Kind).parse().ok()?,
            region: tag(Tag::Region),
            zone: known(tag(Tag::Zone)),
            network: known(tag(Tag::Network)),
            node: tag(Tag::Node),
        })
    }

    fn evidence(
        &self,
        service: &ServiceOptions,
        steered: &Steered,
        telling: &[u32],
        sums: &mut Sums,
        now: Timestamp,
    ) -> Option<Evidence> {
        let steering = service.steering.as_ref()?;
        let rules = steering.rules.careful();
        let until = now.second();
        let trusted = |cell: &Cell| self.is_trusted(&cell.vantage, Span::before(until, LONG_SECONDS), now);
        let cells: Vec<(usize, &Cell)> = steered
            .cells
            .iter()
            .enumerate()
            .filter(|(_, cell)| *cell.service == *service.name && self.is_alive(cell, until))
            .collect();
        let mut nodes: BTreeMap<String, Option<String>> = steering.nodes.iter().cloned().collect();
        if nodes.is_empty() {
            nodes.extend(steering.named.values().map(|node| (node.clone(), None)));
            let loopbacks = cells.iter().filter(|(_, cell)| cell.vantage.kind == VantageKind::Loopback);
            nodes.extend(loopbacks.map(|(_, cell)| (cell.node.clone(), cell.vantage.zone.clone())));
        }
        let heard: Vec<(usize, &Cell)> =
            cells.into_iter().filter(|(_, cell)| nodes.contains_key(&cell.node) && trusted(cell)).collect();
        // Where storage decides, what it lacks is known once that is settled.
        let ends = [Some((until, true)), service.storage.then(|| (settled_until(now), false))];
        let views = ends.into_iter().flatten().map(|(end, at_best)| {
            // Of the newest only what is known counts: what is not told yet hides a loss for ever, where it is always told late.
            let untold = if at_best { TELLING_SECONDS } else { 0 };
            let newest = (rules.window / 4).max(2) + untold;
            let spans = [newest, rules.window, LONG_SECONDS].map(|it| Span::before(end, it));
            for span in spans {
                let count = || self.ledger.sums(span, telling, steered.cells.len());
                sums.entry(span).or_insert_with(count);
            }
            let measured = |cell: usize| {
                let [newest, window, long] = spans.map(|span| &sums[&span][cell]);
                Measured {
                    newest: counted(newest, false),
                    window: counted(window, at_best),
                    long: counted(long, at_best),
                }
            };
            observers(heard.iter().map(|(place, cell)| (*cell, measured(*place))))
        });
        let views = views.collect();
        Some(Evidence {
            service: service.name.clone(),
            mode: steering.mode,
            rules,
            nodes,
            acceptable: f64::from(service.policy.acceptable_loss.parts_per_million()) / 1e6,
            blind: self.cannot_steer(&service.name, now),
            views,
        })
    }

    /// Why nothing that is measured of a service is to be trusted, where that is so.
    fn cannot_steer(&self, name: &str, now: Timestamp) -> Option<String> {
        let Some(standing) = self.standing.get(name) else { return Some("nobody reports it".to_owned()) };
        if let Some(why) = &standing.storage_untold {
            return Some(why.clone());
        }
        if standing.verdict.state == Verdict::Blind {
            let reason = standing.verdict.reason.clone();
            return Some(reason.unwrap_or_else(|| "too little of it is reported".to_owned()));
        }
        self.is_starting(name, now).then(|| "it is not measured for long enough yet".to_owned())
    }

    fn is_trusted(&self, vantage: &Vantage, span: Span, now: Timestamp) -> bool {
        self.agents.get(vantage).is_some_and(|agent| {
            let is_heard = now.since(agent.last_report) <= HEARD_SECONDS * 1_000_000;
            is_heard && !agent.is_double && !agent.is_suspect(span)
        })
    }

    fn is_alive(&self, cell: &Cell, until: Second) -> bool {
        cell.series.iter().any(|series| self.goes_on(*series, until))
    }

    fn goes_on(&self, series: SeriesId, until: Second) -> bool {
        self.ledger.life(series).until >= until
    }
}

/// What a window says, where what is not known yet is taken for delivered, or for nothing.
const fn counted(window: &Window, at_best: bool) -> Counted {
    let known = window.judged();
    Counted {
        scheduled: window.scheduled,
        judged: if at_best { known + window.unknown } else { known },
        lost: window.lost,
    }
}

/// What was measured, by who did: each vantage by itself, and all loopbacks together.
fn observers<'a>(measured: impl Iterator<Item = (&'a Cell, Measured)>) -> Vec<Observer> {
    let mut found: BTreeMap<Option<&Vantage>, Observer> = BTreeMap::new();
    for (cell, measured) in measured {
        let vantage = &cell.vantage;
        let alone = (vantage.kind != VantageKind::Loopback).then_some(vantage);
        let observer = found.entry(alone).or_insert_with(|| Observer {
            name: alone.map_or_else(|| LOOPBACK.to_owned(), |it| it.node.clone()),
            kind: vantage.kind,
            network: alone.and_then(|it| it.network.clone()).unwrap_or_else(|| ABSENT.to_owned()),
            nodes: BTreeMap::new(),
        });
        let known = observer.nodes.entry(cell.node.clone()).or_default();
        let sums = [
            (&mut known.newest, measured.newest),
            (&mut known.window, measured.window),
            (&mut known.long, measured.long),
        ];
        for (sum, more) in sums {
            sum.scheduled += more.scheduled;
            sum.judged += more.judged;
            sum.lost += more.lost;
        }
    }
    found.into_values().collect()
}
