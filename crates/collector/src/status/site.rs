//! Everything that the public page says, gathered into one value that all its forms are made of.

use std::collections::BTreeMap;

use aviary_core::{
    Second, Span, Tag, Window,
    extent::Predicate,
    fnv::fnv1a,
    incident::{Cause, Incident, State},
    silence::{Silence, When},
    verdict::{self, Policy},
};

use super::{
    StatusPage,
    days::may_lose,
    figures::{Figures, ServiceFigures},
    publication::{Publication, Status},
    publications::Shown,
};

/// Windows of a service's newest minute, by protocol and region.
pub(crate) type Cells = BTreeMap<(String, String), Window>;

/// All that the page says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Site {
    /// Until when it is known.
    pub(crate) as_of: Second,
    /// The page's id: the collector's name.
    pub(crate) id: String,
    pub(crate) page: StatusPage,
    /// When the first day of the bars begins.
    pub(crate) from: Second,
    /// In the order in which they are shown.
    pub(crate) components: Vec<Component>,
    /// What is or was public, the newest first.
    pub(crate) incidents: Vec<Publication>,
    /// The next first.
    pub(crate) maintenances: Vec<Maintenance>,
}

/// A service as customers know it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Component {
    /// The service's own name, which customers are not shown.
    pub(crate) service: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) now: Now,
    /// Since when its status is what it is, as far as this process knows.
    pub(crate) since: Second,
    pub(crate) figures: ServiceFigures,
}

/// How a component does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// As readers of status pages know it. What nobody can tell is no better than degraded.
    pub(crate) status: Status,
    /// Somebody can tell.
    pub(crate) is_measured: bool,
    /// By region, from where it is probed; none where nobody there measured anything.
    pub(crate) regions: BTreeMap<String, Option<Status>>,
}

impl Now {
    /// In words.
    pub(crate) const fn said(&self) -> &'static str {
        if self.is_measured { self.status.said() } else { CANNOT_TELL }
    }
}

/// What is said where nobody can tell.
pub(crate) const CANNOT_TELL: &str = "Cannot tell";

/// What was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maintenance {
    pub(crate) id: String,
    pub(crate) text: String,
    /// Services that it touches, of those that are shown.
    pub(crate) services: Vec<String>,
    pub(crate) span: Span,
    pub(crate) stage: MaintenanceStage,
}

/// How far a maintenance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MaintenanceStage {
    InProgress,
    Scheduled,
    Completed,
}

impl MaintenanceStage {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Scheduled => "scheduled",
            Self::Completed => "completed",
        }
    }

    pub(crate) const fn said(self) -> &'static str {
        match self {
            Self::InProgress => "In progress",
            Self::Scheduled => "Scheduled",
            Self::Completed => "Completed",
        }
    }
}

impl Site {
    /// The component of a service.
    pub(crate) fn component(&self, service: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.service == service)
    }

    /// How all does: as what does worst, and no better than customers are told.
    pub(crate) fn status(&self) -> Status {
        let measured = self.components.iter().map(|component| component.now.status);
        let told = self.incidents.iter().filter_map(Publication::at_best);
        measured.chain(told).max().unwrap_or(Status::Operational)
    }

    /// How all does, in words.
    pub(crate) fn said(&self) -> &'static str {
        match self.status() {
            Status::DegradedPerformance if self.is_only_unmeasured() => "Some Systems Are Not Measured",
            Status::DegradedPerformance => "Partially Degraded Service",
            Status::Operational => "All Systems Operational",
            Status::UnderMaintenance => "Service Under Maintenance",
            Status::PartialOutage => "Partial System Outage",
            Status::MajorOutage => "Major Service Outage",
        }
    }

    /// Nothing that is measured is wrong, and of something nobody can tell.
    pub(crate) fn is_only_unmeasured(&self) -> bool {
        let (measured, unmeasured): (Vec<_>, Vec<_>) =
            self.components.iter().map(|component| &component.now).partition(|now| now.is_measured);
        let told = self.incidents.iter().filter_map(Publication::at_best).next();
        !unmeasured.is_empty()
            && told.is_none()
            && measured.iter().all(|now| now.status < Status::DegradedPerformance)
    }

    /// In which group each component is, in their order; those without one first.
    pub(crate) fn groups(&self) -> Vec<(Option<&str>, Vec<&Component>)> {
        let mut groups: Vec<(Option<&str>, Vec<&Component>)> = Vec::new();
        for component in &self.components {
            match groups.iter_mut().find(|(name, _)| *name == component.group.as_deref()) {
                Some((_, members)) => members.push(component),
                None => groups.push((component.group.as_deref(), vec![component])),
            }
        }
        groups
    }
}

/// An id that says nothing of what it is of.
pub(crate) fn id_of(kind: &str, name: &str) -> String {
    format!("{:016x}", fnv1a(kind.bytes().chain([0]).chain(name.bytes())))
}

/// The components that are shown, in the order of their groups and names.
pub(crate) fn components(
    shown: &Shown,
    mut figures: Figures,
    mut now: BTreeMap<String, Now>,
    since: &BTreeMap<String, (Status, Second)>,
) -> Vec<Component> {
    let mut components: Vec<Component> = shown
        .services()
        .filter_map(|(service, status)| {
            let now = now.remove(service)?;
            Some(Component {
                id: id_of("component", service),
                name: status.name.clone().unwrap_or_else(|| service.clone()),
                description: status.description.clone(),
                group: status.group.clone(),
                since: since.get(service).map_or(Second(0), |(_, since)| *since),
                figures: figures.services.remove(service).unwrap_or_default(),
                now,
                service: service.clone(),
            })
        })
        .collect();
    components.sort_by(|left, right| (&left.group, &left.name).cmp(&(&right.group, &right.name)));
    components
}

/// How a service does, by what is lost in the newest minute and by what people are told of: a loss that passed no gate is no
/// outage, however it looks.
pub(crate) fn now(
    cells: &Cells,
    verdict: Option<verdict::State>,
    is_lossy: bool,
    is_announced: bool,
    policy: &Policy,
) -> Now {
    let has_judged = cells.values().any(|cell| cell.judged() > 0);
    let is_unknown = matches!(
        verdict,
        None | Some(verdict::State::Blind | verdict::State::Starting | verdict::State::Unproven)
    );
    // Of what is lost somebody could tell even where there is no verdict.
    let is_measured = has_judged && (is_lossy || !is_unknown);
    let judged = |cells: &[(&str, &Window)]| status(cells, policy);
    let mut by_region: BTreeMap<&str, Vec<(&str, &Window)>> = BTreeMap::new();
    for ((protocol, region), window) in cells {
        by_region.entry(region).or_default().push((protocol, window));
    }
    let all: Vec<(&str, &Window)> = by_region.values().flatten().copied().collect();
    let status = match (is_announced, is_lossy) {
        (true, _) => Status::UnderMaintenance,
        (false, true) => judged(&all).max(Status::DegradedPerformance),
        (false, false) if !is_measured => Status::DegradedPerformance,
        (false, false) => Status::Operational,
    };
    let region = |(region, windows): (&str, Vec<(&str, &Window)>)| {
        let status = if is_lossy && !is_announced { judged(&windows) } else { status };
        let is_measured = windows.iter().any(|(_, cell)| cell.judged() > 0);
        (region.to_owned(), is_measured.then_some(status))
    };
    Now { status, is_measured, regions: by_region.into_iter().map(region).collect() }
}

/// Half or more lost in half of the cells or more is a major outage, less than 5 % in all is degraded, and else an outage is
/// partial. Cells are named by their protocol, each of which may lose by its own figure.
fn status(cells: &[(&str, &Window)], policy: &Policy) -> Status {
    let judged: Vec<_> = cells.iter().filter(|(_, cell)| cell.judged() > 0).collect();
    let (mut lost, mut all, mut budget) = (0, 0, 0);
    for (protocol, cell) in &judged {
        lost += cell.lost;
        all += cell.judged();
        budget += may_lose(policy, protocol, cell.judged());
    }
    let half = judged.iter().filter(|(_, cell)| cell.lost * 2 >= cell.judged()).count();
    let is_acceptable = u128::from(lost) * 1_000_000 <= budget;
    match () {
        () if judged.is_empty() || is_acceptable => Status::Operational,
        () if half * 2 >= judged.len() => Status::MajorOutage,
        () if lost * 20 < all => Status::DegradedPerformance,
        () => Status::PartialOutage,
    }
}

/// The incidents of loss that people are told of, and that go on.
pub(crate) fn lossy(incidents: &[Incident]) -> impl Iterator<Item = &Incident> {
    incidents.iter().filter(|it| {
        it.cause == Cause::Loss
            && it.state.is_active()
            && it.state != State::Recovering
            && it.sick_agent().is_none()
            && !it.is_shadow()
    })
}

/// Whether what `service` does now is as it was announced, by the silences that are announced and in force: all that is lost
/// is silenced by them, or nothing is lost and one of them covers all of the service. Loss that reaches further is an outage,
/// and a silence of one region makes no maintenance of the others.
pub(crate) fn is_announced<'i>(
    service: &str,
    lossy: impl IntoIterator<Item = &'i Incident>,
    announced: &[Silence],
) -> bool {
    let is_told = |incident: &Incident| {
        let by = &incident.silenced_by;
        !by.is_empty() && by.iter().all(|id| announced.iter().any(|silence| silence.id == *id))
    };
    let mut lossy = lossy.into_iter().filter(|it| it.services().contains(service)).peekable();
    if lossy.peek().is_some() {
        return lossy.all(is_told);
    }
    let whole = Predicate([(Tag::Service, service.to_owned())].into());
    announced.iter().any(|silence| silence.matches.cover(&whole))
}

/// What was announced of these services at `now`.
pub(crate) fn maintenances(silences: &[Silence], shown: &Shown, now: Second) -> Vec<Maintenance> {
    let mut found: Vec<Maintenance> = silences
        .iter()
        .filter_map(|silence| {
            let text = silence.announce.clone()?;
            let named = silence.matches.0.get(&Tag::Service);
            let services: Vec<String> = shown
                .services()
                .map(|(service, _)| service.clone())
                .filter(|service| named.is_none_or(|named| named.contains(service)))
                .collect();
            let (span, stage) = match (silence.when.next(now), &silence.when) {
                (Some(span), _) if span.contains(now) => (span, MaintenanceStage::InProgress),
                (Some(span), _) => (span, MaintenanceStage::Scheduled),
                (None, When::Once(span)) => (*span, MaintenanceStage::Completed),
                (None, When::Recurring(..)) => return None,
            };
            let id = id_of("maintenance", &silence.id);
            (!services.is_empty()).then_some(Maintenance { id, text, services, span, stage })
        })
        .collect();
    found.sort_by(|left, right| (left.stage, left.span, &left.id).cmp(&(right.stage, right.span, &right.id)));
    found
}

#[cfg(test)]
mod tests {
    use aviary_core::{
        AcceptableLoss,
        silence::{Hours, Matches},
    };

    use super::*;
    use crate::status::ServiceStatus;

    fn window(delivered: u64, lost: u64) -> Window {
        Window { scheduled: delivered + lost, delivered, lost, ..Window::default() }
    }

    fn cells(of: &[(&str, &str, u64, u64)]) -> Cells {
        let cell = |&(protocol, region, delivered, lost): &(&str, &str, u64, u64)| {
            ((protocol.to_owned(), region.to_owned()), window(delivered, lost))
        };
        of.iter().map(cell).collect()
    }

    #[test]
    fn a_component_is_as_bad_as_what_is_lost_and_where() {
        use verdict::State::{Blind, Healthy, Starting};
        let well = [("tcp", "eu", 60, 0), ("tcp", "us", 60, 0), ("udp", "eu", 60, 0), ("udp", "us", 60, 0)];
        let two_cells =
            [("tcp", "eu", 0, 60), ("tcp", "us", 60, 0), ("udp", "eu", 30, 30), ("udp", "us", 60, 0)];
        let one_cell =
            [("tcp", "eu", 60, 0), ("tcp", "us", 60, 0), ("udp", "eu", 0, 60), ("udp", "us", 60, 0)];
        let little = [("tcp", "eu", 58, 2), ("tcp", "us", 60, 0), ("udp", "eu", 60, 0), ("udp", "us", 60, 0)];
        let unmeasured = [("tcp", "eu", 0, 0), ("tcp", "us", 0, 0), ("udp", "eu", 0, 0), ("udp", "us", 0, 0)];
        let table = [
            (&well, Some(Healthy), false, false, Status::Operational, true),
            (&two_cells, Some(Healthy), true, false, Status::MajorOutage, true),
            (&one_cell, Some(Healthy), true, false, Status::PartialOutage, true),
            (&little, Some(Healthy), true, false, Status::DegradedPerformance, true),
            // It was told, and the newest minute is well.
            (&well, Some(Healthy), true, false, Status::DegradedPerformance, true),
            (&two_cells, Some(Healthy), true, true, Status::UnderMaintenance, true),
            // It has passed no gate.
            (&one_cell, Some(Healthy), false, false, Status::Operational, true),
            // What nobody can tell is not green.
            (&well, Some(Blind), false, false, Status::DegradedPerformance, false),
            (&well, Some(Starting), false, false, Status::DegradedPerformance, false),
            (&well, None, false, false, Status::DegradedPerformance, false),
            (&unmeasured, Some(Healthy), false, false, Status::DegradedPerformance, false),
            (&unmeasured, Some(Healthy), true, false, Status::DegradedPerformance, false),
            (&one_cell, Some(Blind), true, false, Status::PartialOutage, true),
        ];
        for (of, verdict, is_lossy, is_announced, expected, is_measured) in table {
            let now = now(&cells(of), verdict, is_lossy, is_announced, &Policy::default());
            assert_eq!((now.status, now.is_measured), (expected, is_measured), "{of:?} {verdict:?}");
        }
    }

    #[test]
    fn a_region_is_as_bad_as_what_is_lost_there_and_nobody_can_tell_of_one_without_measurements() {
        use verdict::State::Healthy;
        let lost = [("tcp", "eu", 60, 0), ("tcp", "us", 60, 0), ("udp", "eu", 0, 60), ("udp", "ap", 0, 0)];
        let well = [("tcp", "eu", 60, 0), ("tcp", "us", 60, 0), ("udp", "eu", 60, 0), ("udp", "ap", 0, 0)];
        let table = [(&lost, true, Status::MajorOutage), (&well, false, Status::Operational)];
        for (of, is_lossy, eu) in table {
            let regions = now(&cells(of), Some(Healthy), is_lossy, false, &Policy::default()).regions;
            let expected = [("ap", None), ("eu", Some(eu)), ("us", Some(Status::Operational))];
            assert_eq!(
                regions,
                expected.map(|(region, status)| (region.to_owned(), status)).into(),
                "{of:?}"
            );
        }
    }

    #[test]
    fn what_a_protocol_may_lose_is_no_outage() {
        let mut policy = Policy { acceptable_loss: AcceptableLoss::of_million(10_000), ..Policy::default() };
        policy.by_protocol.insert("udp".parse().unwrap(), AcceptableLoss::of_million(200_000));
        let status = |tcp, udp| {
            let cells = cells(&[("tcp", "eu", 100 - tcp, tcp), ("udp", "eu", 100 - udp, udp)]);
            now(&cells, Some(verdict::State::Healthy), true, false, &policy).regions["eu"].unwrap()
        };
        let table =
            [(1, 20, Status::Operational), (0, 22, Status::PartialOutage), (22, 0, Status::PartialOutage)];
        for (tcp, udp, expected) in table {
            assert_eq!(status(tcp, udp), expected, "{tcp} {udp}");
        }
    }

    #[test]
    fn only_what_is_announced_is_a_maintenance() {
        let shown = Shown::new([
            ("ingest".to_owned(), ServiceStatus::default()),
            ("edge".to_owned(), ServiceStatus::default()),
        ]);
        let silence = |id: &str, matches: Matches, when: When, announce: Option<&str>| Silence {
            id: id.to_owned(),
            matches,
            when,
            author: "ada".to_owned(),
            reason: "host canary-7 is broken".to_owned(),
            announce: announce.map(str::to_owned),
        };
        let once = |from, until| When::Once(Span::new(Second(from), Second(until)));
        let nightly = When::Recurring(
            Hours::daily("UTC", (2, 0), (4, 0)).unwrap(),
            Span::new(Second(0), Second(10 * 86_400)),
        );
        let ingest = Matches::one(Tag::Service, "ingest");
        let silences = [
            silence("quiet", ingest.clone(), once(0, 99_999), None),
            silence("later", ingest.clone(), once(20_000, 30_000), Some("We upgrade.")),
            silence("over", ingest.clone(), once(1_000, 2_000), Some("We upgraded.")),
            silence("other", Matches::one(Tag::Service, "internal"), once(0, 99_999), Some("Nobody's.")),
            silence("nightly", Matches::one(Tag::Region, "eu"), nightly, Some("We clean up.")),
        ];
        let said = |now: u64| -> Vec<String> {
            let found = maintenances(&silences, &shown, Second(now));
            let said = found.iter().map(|it| {
                format!(
                    "{} {}-{} {} {}",
                    it.stage.name(),
                    it.span.from,
                    it.span.until,
                    it.services.join(","),
                    it.text
                )
            });
            said.collect()
        };
        assert_eq!(
            said(10_000),
            [
                "in_progress 7200-14400 edge,ingest We clean up.",
                "scheduled 20000-30000 ingest We upgrade.",
                "completed 1000-2000 ingest We upgraded.",
            ]
        );
        assert_eq!(
            said(25_000)[..2],
            ["in_progress 20000-30000 ingest We upgrade.", "scheduled 93600-100800 edge,ingest We clean up."]
        );
    }
}
