//! A fleet of a thousand series an agent, and what its agents tell.

use aviary_core::{Evidence, Fault, Outcome, Phase, Protocol, Second, Span, Vantage, VantageKind};
use aviary_wire::report::{ClosedSlot, Report, Roster, RosterSeries};

use crate::stage::Loss;

/// When it begins.
pub(crate) const START: u64 = 1_763_690_400;

/// Series of one agent.
const PER_AGENT: usize = 1_000;

pub(crate) struct Fleet {
    services: usize,
    rosters: Vec<Roster>,
}

impl Fleet {
    /// Each agent looks at as many of the services as its series allow, over six protocols.
    pub(crate) fn new(services: usize, agents: usize) -> Self {
        Self { services, rosters: (0..agents).map(|agent| roster(agent, services)).collect() }
    }

    pub(crate) const fn services(&self) -> usize {
        self.services
    }

    pub(crate) fn series(&self) -> usize {
        self.rosters.len() * PER_AGENT
    }

    /// What every agent tells of `span`, the first report of each with its roster.
    pub(crate) fn told(&self, span: Span, loss: Loss, is_first: bool) -> impl Iterator<Item = Vec<u8>> {
        self.rosters.iter().enumerate().map(move |(agent, roster)| {
            let slots = span.iter().flat_map(|second| {
                (0..PER_AGENT as u32).map(move |series| slot(agent as u64, second, series, loss))
            });
            let report = Report {
                boot: 1 + agent as u64,
                sequence: span.from.0,
                wall: span.until.start(),
                configuration: "bench".to_owned(),
                roster_id: roster.id(),
                roster: is_first.then(|| roster.clone()),
                slots: slots.collect(),
                ..Report::default()
            };
            report.encode()
        })
    }
}

fn roster(agent: usize, services: usize) -> Roster {
    let series = (0..PER_AGENT).map(|place| {
        let protocol = Protocol::ALL[place % 6];
        // Neighbours look at others where one cannot look at all.
        let service = (place / 6 + agent * (PER_AGENT / 6)) % services;
        let host = place / 6 / services;
        let path = if protocol == Protocol::Https { "/api/v1/sink" } else { "" };
        let url = format!("{protocol}://host-{host}.example.net:{}{path}", 2_003 + place % 6);
        RosterSeries {
            service: format!("service-{service}"),
            endpoint: url.parse().expect("it is one"),
            address: None,
            name: format!("canary.{agent}.{place}"),
            from: Second(START),
        }
    });
    let vantage = Vantage {
        kind: VantageKind::External,
        region: format!("region-{}", agent % 12),
        zone: Some(format!("zone-{}", agent % 3)),
        network: Some("aws".to_owned()),
        node: format!("canary-{agent}.example.net"),
    };
    Roster { vantage, since: Second(START), series: series.collect() }
}

fn slot(agent: u64, second: Second, series: u32, loss: Loss) -> ClosedSlot {
    let mixed =
        (second.0 * 1_000_003 + agent * 7_919 + u64::from(series)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let is_lost = match loss {
        Loss::Seldom => (mixed >> 32).is_multiple_of(1_000),
        Loss::Protocol => series % 6 == 1,
    };
    let outcome = if is_lost {
        Outcome::Lost { phase: Phase::Confirm, fault: Fault::Timeout }
    } else {
        Outcome::Delivered(Evidence::Stored)
    };
    ClosedSlot { series, second, outcome, reached: None, address: None }
}
