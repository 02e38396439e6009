//! Which series are alike for judgement: those with equal [`TAGS`].
//!
//! A series that goes to one address of many has that address. Of one that does not, the host of its endpoint stands there, or host and
//! port, where only that tells the endpoints of a service apart: a page has to name the one of several that is dead. A node that
//! looks at itself is named as the node.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aviary_core::{
    Catalog, Endpoint, SeriesId, Tag, VantageKind, catalog::Grouping, ledger::NO_GROUP, vantage::ABSENT,
};

use super::TAGS;

/// Where the service and the address of a cell are among its values.
const SERVICE: usize = 0;
const ADDRESS: usize = TAGS.len() - 1;

/// Of a service with more cells hosts are not told apart: what a second costs to judge grows with the cells.
const CELLS_MAX: usize = 5_000;

/// The series that `keep` accepts by [`TAGS`].
pub(super) fn cells(catalog: &Catalog, keep: impl Fn(SeriesId) -> bool) -> Grouping {
    let plain = catalog.group(&TAGS, &keep);
    let endpoints = catalog.group(&[Tag::Service, Tag::Kind, Tag::Endpoint], &keep);
    let places = places(&endpoints.values);
    let place = |group: u32, endpoint: u32| {
        let has_address = plain.values[group as usize][ADDRESS] != ABSENT;
        places[endpoint as usize].as_deref().filter(|_| !has_address)
    };
    let of_series =
        || plain.group_of.iter().zip(&endpoints.group_of).map(|(group, endpoint)| (*group, *endpoint));
    let kept: BTreeSet<(u32, u32)> = of_series().filter(|(group, _)| *group != NO_GROUP).collect();

    // The groups of a service lie together, and so do its parts.
    let service = |(group, _): &(u32, u32)| plain.values[*group as usize][SERVICE].as_str();
    let mut told: HashMap<(u32, u32), Vec<String>> = HashMap::with_capacity(kept.len());
    for parts in kept.into_iter().collect::<Vec<_>>().chunk_by(|left, right| service(left) == service(right))
    {
        let apart: BTreeSet<_> =
            parts.iter().map(|(group, endpoint)| (group, place(*group, *endpoint))).collect();
        let is_told = apart.len() <= CELLS_MAX;
        told.extend(parts.iter().map(|(group, endpoint)| {
            let mut values = plain.values[*group as usize].clone();
            if let Some(place) = place(*group, *endpoint).filter(|_| is_told) {
                values[ADDRESS] = place.to_owned();
            }
            ((*group, *endpoint), values)
        }));
    }
    let values: BTreeSet<&Vec<String>> = told.values().collect();
    let ranks: HashMap<&Vec<String>, u32> = values.iter().copied().zip(0..).collect();
    let group_of = of_series().map(|part| told.get(&part).map_or(NO_GROUP, |values| ranks[values])).collect();
    Grouping { by: TAGS.to_vec(), values: values.into_iter().cloned().collect(), group_of }
}

/// Of each endpoint of a service, as a kind of vantage looks at it, what tells it from the service's others; none where nothing does.
fn places(endpoints: &[Vec<String>]) -> Vec<Option<String>> {
    let mut places = Vec::with_capacity(endpoints.len());
    for of_service in endpoints.chunk_by(|left, right| left[SERVICE] == right[SERVICE]) {
        let from_elsewhere = |row: &Vec<String>| row[1] != VantageKind::Loopback.name();
        let parsed = of_service.iter().map(|row| row[2].parse().ok().filter(|_| from_elsewhere(row)));
        let parsed: Vec<Option<Endpoint>> = parsed.collect();
        let mut ports: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
        for endpoint in parsed.iter().flatten() {
            ports
                .entry((endpoint.host().to_string(), endpoint.protocol()))
                .or_default()
                .insert(endpoint.port());
        }
        let hosts: BTreeSet<&String> = ports.keys().map(|(host, _)| host).collect();
        let by_port = ports.values().any(|ports| ports.len() > 1);
        let is_told = by_port || hosts.len() > 1;
        places.extend(parsed.iter().map(|endpoint| {
            let endpoint = endpoint.as_ref().filter(|_| is_told)?;
            let host = endpoint.host();
            Some(if by_port { format!("{host}:{}", endpoint.port()) } else { host.to_string() })
        }));
    }
    places
}

#[cfg(test)]
mod tests {
    use aviary_core::{Series, Vantage};

    use super::*;

    /// The kind of vantage of a series, its endpoint and its address.
    type Given<'a> = (VantageKind, &'a str, Option<&'a str>);

    /// What stands in the place of the address of each.
    fn addresses(series: &[Given<'_>]) -> Vec<String> {
        let mut catalog = Catalog::new(series.len());
        for (kind, endpoint, address) in series {
            let node = format!("of-{kind}");
            let vantage = Vantage { kind: *kind, region: "eu".to_owned(), zone: None, network: None, node };
            let address = address.map(|it| it.parse().unwrap());
            let service = "ingest".to_owned();
            catalog
                .intern(&Series { service, vantage, endpoint: endpoint.parse().unwrap(), address })
                .unwrap();
        }
        let Grouping { values, group_of, .. } = cells(&catalog, |_| true);
        assert!(values.is_sorted(), "as the ledger's other groupings are: {values:?}");
        group_of.iter().map(|group| values[*group as usize][ADDRESS].clone()).collect()
    }

    #[test]
    fn endpoints_are_told_apart_by_what_differs() {
        use VantageKind::{External, Loopback};
        let table: [(&[Given<'_>], &[&str]); 6] = [
            (&[(External, "tcp://a:1", None), (External, "udp://a:2", None)], &[ABSENT, ABSENT]),
            (&[(External, "tcp://a:1", None), (External, "tcp://b:1", None)], &["a", "b"]),
            (&[(External, "tcp://a:1", None), (External, "tcp://a:2", None)], &["a:1", "a:2"]),
            (
                &[(External, "tcp://a:1", Some("192.0.2.1")), (External, "tcp://192.0.2.1:1", None)],
                &["192.0.2.1", "192.0.2.1"],
            ),
            (&[(Loopback, "tcp://127.0.0.1:1", None), (External, "tcp://a:1", None)], &[ABSENT, ABSENT]),
            (
                &[
                    (Loopback, "tcp://127.0.0.1:1", None),
                    (External, "tcp://a:1", None),
                    (External, "udp://b:1", None),
                ],
                &[ABSENT, "a", "b"],
            ),
        ];
        for (series, expected) in table {
            assert_eq!(addresses(series), expected, "{series:?}");
        }
    }

    #[test]
    fn hosts_of_very_many_cells_are_not_told_apart() {
        let urls: Vec<String> = (0..=CELLS_MAX).map(|host| format!("tcp://h{host}:1")).collect();
        let of = |count: usize| {
            let series: Vec<_> =
                urls[..count].iter().map(|url| (VantageKind::External, url.as_str(), None)).collect();
            addresses(&series).into_iter().filter(|address| address != ABSENT).count()
        };
        assert_eq!((of(CELLS_MAX), of(CELLS_MAX + 1)), (CELLS_MAX, 0));
    }
}
