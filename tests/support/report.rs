//! Reports by hand, for what no agent of ours would send.

use aviary_core::{Evidence, Outcome, Second, Vantage, VantageKind};
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};

/// The roster of `node` in `region` from `since` on: these endpoints of the service `ingest`, each with its series' name.
pub(crate) fn roster(
    (region, node): (&str, &str),
    since: Second,
    endpoints: impl IntoIterator<Item = (String, String)>,
) -> Roster {
    let vantage = Vantage {
        kind: VantageKind::External,
        region: region.to_owned(),
        zone: None,
        network: None,
        node: node.to_owned(),
    };
    let series = endpoints.into_iter().map(|(endpoint, name)| RosterSeries {
        service: "ingest".to_owned(),
        endpoint: endpoint.parse().unwrap(),
        address: None,
        name,
        from: since,
    });
    Roster { vantage, since, series: series.collect() }
}

/// A report made at `wall` that tells `roster`, and no slot yet.
pub(crate) fn telling(roster: &Roster, wall: Second) -> Report {
    Report {
        boot: 1,
        wall: wall.start(),
        configuration: "test".to_owned(),
        roster_id: roster.id(),
        roster: Some(roster.clone()),
        ..Report::default()
    }
}

/// A slot of the series at this place in its roster, delivered.
pub(crate) fn delivered(series: u32, second: Second) -> ClosedSlot {
    let outcome = Outcome::Delivered(Evidence::PeerClosed);
    ClosedSlot { series, second, outcome, reached: None, address: None }
}
