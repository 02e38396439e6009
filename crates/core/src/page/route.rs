//! Who is told.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Second, Tag,
    page::notice::{Notice, Severity},
    silence::{Hours, Matches},
};

/// Which incidents a route takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Of these severities; of any where none is named.
    pub severity: BTreeSet<Severity>,
    /// That touch one of the values of each tag.
    pub tags: Matches,
}

impl Choice {
    /// Whether the route takes it.
    pub fn takes(&self, notice: &Notice) -> bool {
        let touches = |(tag, values): (&Tag, &BTreeSet<String>)| {
            notice.tags.get(tag).is_some_and(|touched| !touched.is_disjoint(values))
        };
        (self.severity.is_empty() || self.severity.contains(&notice.severity))
            && self.tags.0.iter().all(touches)
    }
}

/// Who is told when nobody has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// So many seconds after the incident was opened.
    pub after: u64,
    /// These receivers.
    pub notify: Vec<String>,
}

/// Who is told of which incidents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Of these incidents.
    pub choice: Choice,
    /// These receivers, all at once.
    pub notify: Vec<String>,
    /// And these, one step after another.
    pub escalate: Vec<Escalation>,
}

/// How a receiver wants to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// It wakes people: it is not told of what was over before it could be told.
    pub wakes: bool,
    /// It takes so many messages a minute.
    pub per_minute: u32,
    /// It is sent so many at once.
    pub in_flight: usize,
}

/// A receiver that wakes nobody, at a message a second: what chat takes.
impl Default for Receiver {
    fn default() -> Self {
        Self { wakes: false, per_minute: 60, in_flight: 4 }
    }
}

/// Who is told what, and when not: what the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    receivers: Vec<(String, Receiver)>,
    routes: Vec<Route>,
    quiet: BTreeMap<String, Hours>,
}

impl Paging {
    /// The receivers, in the order in which they stand in for each other; the routes, of which the first that takes an
    /// incident is its own, and without any of which every incident goes to every receiver; and by service the hours in
    /// which whatever wakes nobody waits.
    pub fn new(
        receivers: Vec<(String, Receiver)>,
        mut routes: Vec<Route>,
        quiet: BTreeMap<String, Hours>,
    ) -> Self {
        if routes.is_empty() {
            let notify = receivers.iter().map(|(name, _)| name.clone()).collect();
            routes.push(Route { notify, ..Route::default() });
        }
        Self { receivers, routes, quiet }
    }

    /// The receivers' names.
    pub fn receivers(&self) -> impl Iterator<Item = &str> {
        self.receivers.iter().map(|(name, _)| &**name)
    }

    /// How a receiver wants to be treated, where there is such a one.
    pub fn receiver(&self, name: &str) -> Option<Receiver> {
        self.receivers.iter().find(|(given, _)| given == name).map(|(_, receiver)| *receiver)
    }

    /// The route of an incident.
    pub fn route(&self, notice: &Notice) -> Option<&Route> {
        self.routes.iter().find(|route| route.choice.takes(notice))
    }

    /// Whether it is quiet for every service that `notice` touches.
    pub fn is_quiet(&self, notice: &Notice, now: Second) -> bool {
        let quiet = |service| self.quiet.get(service).is_some_and(|hours| hours.around(now).is_some());
        notice
            .tags
            .get(&Tag::Service)
            .is_some_and(|services| !services.is_empty() && services.iter().all(quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::notice;

    #[test]
    fn the_first_route_that_takes_an_incident_is_its_own() {
        let route = |severity: &[Severity], tags: Matches, receiver: &str| Route {
            choice: Choice { severity: severity.iter().copied().collect(), tags },
            notify: vec![receiver.to_owned()],
            ..Route::default()
        };
        let paging = Paging::new(
            vec![],
            vec![
                route(&[Severity::Critical, Severity::Error], Matches::one(Tag::Service, "ingest"), "oncall"),
                route(&[], Matches::one(Tag::Region, "eu").and(Tag::Region, "us"), "network"),
                route(&[Severity::Warning], Matches::default(), "chat"),
            ],
            BTreeMap::new(),
        );
        type Row<'a> = (Severity, &'a [(Tag, &'a str)], Option<&'a str>);
        let table: [Row<'_>; 6] = [
            (Severity::Critical, &[(Tag::Service, "ingest"), (Tag::Region, "eu")], Some("oncall")),
            (Severity::Critical, &[(Tag::Service, "other"), (Tag::Service, "ingest")], Some("oncall")),
            (Severity::Warning, &[(Tag::Service, "ingest"), (Tag::Region, "us")], Some("network")),
            (Severity::Warning, &[(Tag::Service, "ingest")], Some("chat")),
            (Severity::Info, &[(Tag::Region, "asia")], None),
            (Severity::Critical, &[(Tag::Service, "other")], None),
        ];
        for (severity, tags, expected) in table {
            let notice = Notice { severity, tags: Matches::of(tags).0, ..notice("i") };
            let found = paging.route(&notice).map(|route| &*route.notify[0]);
            assert_eq!(found, expected, "{severity} {tags:?}");
        }
    }

    #[test]
    fn without_routes_every_incident_goes_to_every_receiver() {
        let receivers = vec![("a".to_owned(), Receiver::default()), ("b".to_owned(), Receiver::default())];
        let paging = Paging::new(receivers, vec![], BTreeMap::new());
        assert_eq!(paging.route(&notice("i")).unwrap().notify, ["a", "b"]);
    }

    #[test]
    fn it_is_quiet_when_it_is_for_every_service_that_is_touched() {
        let night = Hours::daily("UTC", (22, 0), (7, 0)).unwrap();
        let paging = Paging::new(vec![], vec![], [("ingest".to_owned(), night)].into());
        let touching = |tags: &[(Tag, &str)]| Notice { tags: Matches::of(tags).0, ..notice("i") };
        let (ingest, both) =
            ([(Tag::Service, "ingest")], [(Tag::Service, "ingest"), (Tag::Service, "other")]);
        let (midnight, noon) = (Second(86_400), Second(86_400 + 43_200));
        assert!(paging.is_quiet(&touching(&ingest), midnight));
        assert!(!paging.is_quiet(&touching(&ingest), noon));
        assert!(!paging.is_quiet(&touching(&both), midnight));
        assert!(!paging.is_quiet(&touching(&[]), midnight));
    }
}
