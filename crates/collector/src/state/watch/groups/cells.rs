//! Which series are alike for judgement: those with equal [`TAGS`].
//!
//! A series that goes to one address of many has that address. Of one that does not, the host of its endpoint stands there, or host and
//! port, where only that tells the endpoints of a service apart: a page has to name the one of several that is dead. A node that
//! looks at itself is named as the node.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aviary_core::{
    Catalog, Endpoint, SeriesId, Tag, VantageKind, catalog::Grouping, ledger::NO_GROUP, vantage::ABSENT,
};

use super::{KIND, TAGS};

/// Where the address of a cell is among its values; the endpoint follows while cells are made.
const ADDRESS: usize = TAGS.len() - 1;

/// Of a service with more cells hosts are not told apart: what a second costs to judge grows with the cells.
const CELLS_MAX: usize = 5_000;

/// What of the endpoints of a service tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Host,
    HostAndPort,
}

/// The series that `keep` accepts by [`TAGS`].
pub(super) fn cells(catalog: &Catalog, keep: impl Fn(SeriesId) -> bool) -> Grouping {
    let by: Vec<Tag> = TAGS.into_iter().chain([Tag::Endpoint]).collect();
    let Grouping { values, group_of, .. } = catalog.group(&by, keep);
    let endpoints: HashMap<&str, Option<Endpoint>> =
        values.iter().map(|row| row[ADDRESS + 1].as_str()).map(|url| (url, url.parse().ok())).collect();
    let mut rows = Vec::with_capacity(values.len());
    for rows_of_one in values.chunk_by(|left, right| left[0] == right[0]) {
        let known = told_apart(rows_of_one, &endpoints);
        let told = |by: Option<By>| -> Vec<Vec<String>> {
            rows_of_one
                .iter()
                .map(|row| cell(row, by, endpoints[row[ADDRESS + 1].as_str()].as_ref()))
                .collect()
        };
        let apart = told(known);
        let is_too_many = apart.iter().collect::<BTreeSet<_>>().len() > CELLS_MAX;
        rows.extend(if is_too_many { told(None) } else { apart });
    }
    let found: BTreeMap<Vec<String>, ()> = rows.iter().cloned().map(|row| (row, ())).collect();
    let rank: HashMap<&Vec<String>, u32> = found.keys().zip(0..).collect();
    let rank_of = |group: u32| if group == NO_GROUP { NO_GROUP } else { rank[&rows[group as usize]] };
    let group_of = group_of.into_iter().map(rank_of).collect();
    Grouping { by: TAGS.to_vec(), values: found.keys().cloned().collect(), group_of }
}

/// Whether the endpoints that are looked at from elsewhere are told apart by their hosts; none where there is nothing to tell.
fn told_apart(rows: &[Vec<String>], endpoints: &HashMap<&str, Option<Endpoint>>) -> Option<By> {
    let mut ports: BTreeMap<(&str, String), BTreeSet<u16>> = BTreeMap::new();
    let mut hosts: BTreeSet<String> = BTreeSet::new();
    for row in rows.iter().filter(|row| is_from_elsewhere(row)) {
        let Some(endpoint) = &endpoints[row[ADDRESS + 1].as_str()] else { continue };
        let host = endpoint.host().to_string();
        hosts.insert(host.clone());
        ports.entry((endpoint.protocol().name(), host)).or_default().insert(endpoint.port());
    }
    if ports.values().any(|ports| ports.len() > 1) {
        return Some(By::HostAndPort);
    }
    (hosts.len() > 1).then_some(By::Host)
}

fn is_from_elsewhere(row: &[String]) -> bool {
    row[KIND] != VantageKind::Loopback.name()
}

fn cell(row: &[String], by: Option<By>, endpoint: Option<&Endpoint>) -> Vec<String> {
    let mut cell = row[..=ADDRESS].to_vec();
    if let (Some(by), Some(endpoint), true, ABSENT) = (by, endpoint, is_from_elsewhere(row), &*cell[ADDRESS])
    {
        cell[ADDRESS] = match by {
            By::Host => endpoint.host().to_string(),
            By::HostAndPort => format!("{}:{}", endpoint.host(), endpoint.port()),
        };
    }
    cell
}
