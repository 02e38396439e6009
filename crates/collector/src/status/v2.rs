//! The JSON that readers of status pages know: the shapes of `/api/v2/` as Atlassian's Statuspage serves them, for whatever
//! polls such pages already. What is ours beside is added, and named so that nobody takes it for theirs.
//!
//! What those shapes have no word for is told by what is nearest and never better: a component of which nobody can tell is
//! `degraded_performance` with `"measured": false`.

use std::collections::BTreeMap;

use aviary_core::Second;
use serde::Serialize;

use super::{
    days::{Counted, Percent},
    publication::{Impact, Publication, Stage, Standing, Status, Update},
    site::{Component, Maintenance, MaintenanceStage, Site, id_of},
};
use crate::delivery::words::rfc3339;

/// So many incidents are listed, the newest.
const LISTED: usize = 50;

#[derive(Debug, Serialize)]
pub(crate) struct Page<'s> {
    id: &'s str,
    name: &'s str,
    url: &'s str,
    time_zone: &'static str,
    /// Until when what is said is known.
    updated_at: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Overall {
    indicator: &'static str,
    description: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ComponentBody {
    id: String,
    name: String,
    status: &'static str,
    created_at: String,
    updated_at: String,
    position: usize,
    description: Option<String>,
    showcase: bool,
    start_date: Option<String>,
    group_id: Option<String>,
    page_id: String,
    group: bool,
    only_show_if_degraded: bool,
    /// Of a group, its members.
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<Vec<String>>,
    #[serde(flatten)]
    ours: Option<Ours>,
}

/// What is ours.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ours {
    /// Whether anybody can tell how it does.
    measured: bool,
    /// The conventional figure, in per cent: what is down counts whole, what is partly down three tenths.
    uptime_90d: Option<Percent>,
    /// What arrived of what was measured, in per cent.
    delivery_90d: Option<Percent>,
    /// How much of what was planned was measured, in per cent.
    measured_fraction: Option<Percent>,
    protocols: Vec<ProtocolBody>,
    /// How it does from each region; `cannot_tell` where nobody there measured anything.
    regions: BTreeMap<String, &'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProtocolBody {
    name: String,
    delivery_90d: Option<Percent>,
    measured_fraction: Option<Percent>,
    /// Each day of which there is anything, the oldest first.
    days: Vec<DayBody>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct DayBody {
    date: String,
    planned: u64,
    measured: u64,
    delivered: u64,
    delivery: Option<Percent>,
    measured_fraction: Option<Percent>,
}

#[derive(Debug, Serialize)]
pub(crate) struct IncidentBody {
    id: String,
    name: String,
    status: &'static str,
    created_at: String,
    updated_at: String,
    monitoring_at: Option<String>,
    resolved_at: Option<String>,
    impact: &'static str,
    shortlink: String,
    started_at: String,
    page_id: String,
    incident_updates: Vec<UpdateBody>,
    components: Vec<ComponentBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_until: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct UpdateBody {
    id: String,
    status: &'static str,
    body: String,
    incident_id: String,
    created_at: String,
    updated_at: String,
    display_at: String,
    affected_components: Vec<AffectedBody>,
    deliver_notifications: bool,
    custom_tweet: Option<String>,
    tweet_id: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AffectedBody {
    code: String,
    name: String,
    old_status: &'static str,
    new_status: &'static str,
}

/// One of the documents.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'s> {
    page: Page<'s>,
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<Vec<ComponentBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incidents: Option<Vec<IncidentBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_maintenances: Option<Vec<IncidentBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Overall>,
}

/// Every document with its path below the page.
pub(crate) fn documents(site: &Site) -> Vec<(&'static str, Document<'_>)> {
    let empty = || Document {
        page: page(site),
        components: None,
        incidents: None,
        scheduled_maintenances: None,
        status: None,
    };
    let unresolved = || incidents(site, |it| it.is_unresolved());
    let planned = |wanted: fn(MaintenanceStage) -> bool| {
        let wanted = site.maintenances.iter().filter(|it| wanted(it.stage));
        Some(wanted.map(|it| maintenance(site, it)).collect())
    };
    let upcoming = |stage| stage == MaintenanceStage::Scheduled;
    let active = |stage| stage == MaintenanceStage::InProgress;
    vec![
        (
            "api/v2/summary.json",
            Document {
                components: Some(components(site)),
                incidents: Some(unresolved()),
                scheduled_maintenances: planned(|stage| stage != MaintenanceStage::Completed),
                status: Some(overall(site)),
                ..empty()
            },
        ),
        ("api/v2/status.json", Document { status: Some(overall(site)), ..empty() }),
        ("api/v2/components.json", Document { components: Some(components(site)), ..empty() }),
        ("api/v2/incidents.json", Document { incidents: Some(incidents(site, |_| true)), ..empty() }),
        ("api/v2/incidents/unresolved.json", Document { incidents: Some(unresolved()), ..empty() }),
        (
            "api/v2/scheduled-maintenances.json",
            Document { scheduled_maintenances: planned(|_| true), ..empty() },
        ),
        (
            "api/v2/scheduled-maintenances/upcoming.json",
            Document { scheduled_maintenances: planned(upcoming), ..empty() },
        ),
        (
            "api/v2/scheduled-maintenances/active.json",
            Document { scheduled_maintenances: planned(active), ..empty() },
        ),
    ]
}

fn page(site: &Site) -> Page<'_> {
    Page {
        id: &site.id,
        name: &site.page.title,
        url: site.page.url(),
        time_zone: "Etc/UTC",
        updated_at: time(site.as_of.0),
    }
}

fn overall(site: &Site) -> Overall {
    let indicator = match site.status() {
        Status::Operational | Status::UnderMaintenance => "none",
        Status::DegradedPerformance => "minor",
        Status::PartialOutage => "major",
        Status::MajorOutage => "critical",
    };
    Overall { indicator, description: site.said() }
}

/// The components, and before those of a group the group itself.
fn components(site: &Site) -> Vec<ComponentBody> {
    let mut bodies = Vec::new();
    for (group, members) in site.groups() {
        let group_id = group.map(|name| id_of("group", name));
        if let (Some(name), Some(id)) = (group, &group_id) {
            let status = members.iter().map(|it| it.now.status).max().unwrap_or(Status::Operational);
            let since = members.iter().map(|it| it.since).max().unwrap_or_default();
            bodies.push(ComponentBody {
                id: id.clone(),
                name: name.to_owned(),
                status: status.name(),
                created_at: created(site, &members),
                updated_at: time(since.0),
                position: 0,
                description: None,
                showcase: false,
                start_date: None,
                group_id: None,
                page_id: site.id.clone(),
                group: true,
                only_show_if_degraded: false,
                components: Some(members.iter().map(|it| it.id.clone()).collect()),
                ours: None,
            });
        }
        bodies.extend(members.iter().map(|it| component(site, it, group_id.clone())));
    }
    (1..).zip(&mut bodies).for_each(|(position, body)| body.position = position);
    bodies
}

fn created(site: &Site, of: &[&Component]) -> String {
    let first = of.iter().filter_map(|it| it.figures.first()).min();
    time(first.map_or(site.as_of.0, |first| site.day(first).0))
}

fn component(site: &Site, it: &Component, group_id: Option<String>) -> ComponentBody {
    let total = it.total();
    let first = it.figures.first().map(|first| site.day(first));
    let protocols = it.figures.protocols.iter().map(|(name, days)| {
        let total = super::figures::ServiceFigures::total(days);
        let day = |(place, day): (usize, &Counted)| DayBody {
            date: date(site.day(place)),
            planned: day.planned,
            measured: day.measured,
            delivered: day.delivered,
            delivery: day.delivery(),
            measured_fraction: day.measured_fraction(),
        };
        ProtocolBody {
            name: name.clone(),
            delivery_90d: total.delivery(),
            measured_fraction: total.measured_fraction(),
            days: days.iter().enumerate().filter(|(_, day)| day.planned > 0).map(day).collect(),
        }
    });
    ComponentBody {
        id: it.id.clone(),
        name: it.name.clone(),
        status: it.now.status.name(),
        created_at: created(site, &[it]),
        updated_at: time(it.since.0),
        position: 0,
        description: it.description.clone(),
        showcase: true,
        start_date: first.map(date),
        group_id,
        page_id: site.id.clone(),
        group: false,
        only_show_if_degraded: false,
        components: None,
        ours: Some(Ours {
            measured: it.now.is_measured,
            uptime_90d: it.figures.down.uptime(total),
            delivery_90d: total.delivery(),
            measured_fraction: total.measured_fraction(),
            protocols: protocols.collect(),
            regions: it
                .now
                .regions
                .iter()
                .map(|(region, status)| (region.clone(), status.map_or("cannot_tell", Status::name)))
                .collect(),
        }),
    }
}

/// Components as they are, where they are named beside an incident: without their history.
fn named<'s>(site: &'s Site, services: impl IntoIterator<Item = &'s String>) -> Vec<ComponentBody> {
    let all = components(site);
    let wanted: Vec<&str> =
        services.into_iter().filter_map(|service| Some(site.component(service)?.id.as_str())).collect();
    let short = |body: ComponentBody| ComponentBody { ours: None, ..body };
    all.into_iter().filter(|body| wanted.contains(&body.id.as_str())).map(short).collect()
}

fn incidents(site: &Site, wanted: impl Fn(&Publication) -> bool) -> Vec<IncidentBody> {
    site.incidents.iter().filter(|it| wanted(it)).take(LISTED).map(|it| incident(site, it)).collect()
}

fn incident(site: &Site, it: &Publication) -> IncidentBody {
    let updates = it.public_updates();
    let first = updates.first().map_or(it.drafted, |(_, update)| update.at);
    IncidentBody {
        id: it.id.clone(),
        name: it.title.clone(),
        status: it.stage().name(),
        created_at: time(first),
        updated_at: time(it.changed),
        monitoring_at: it.reached(Stage::Monitoring).map(time),
        resolved_at: it.reached(Stage::Resolved).map(time),
        impact: if it.standing == Standing::Withdrawn { Impact::None } else { it.impact }.name(),
        shortlink: site.page.link(&format!("incidents/{}.html", it.id)),
        started_at: time(it.since),
        page_id: site.id.clone(),
        incident_updates: updates
            .into_iter()
            .rev()
            .map(|(place, update)| body(site, it, place, update))
            .collect(),
        components: named(site, &it.services),
        scheduled_for: None,
        scheduled_until: None,
    }
}

fn body(site: &Site, it: &Publication, place: usize, update: &Update) -> UpdateBody {
    let before = place.checked_sub(1).and_then(|place| it.updates.get(place));
    let affected = update.services.iter().filter_map(|(service, new)| {
        let component = site.component(service)?;
        let old =
            before.and_then(|before| before.services.get(service)).copied().unwrap_or(Status::Operational);
        Some(AffectedBody {
            code: component.id.clone(),
            name: component.name.clone(),
            old_status: old.name(),
            new_status: new.name(),
        })
    });
    UpdateBody {
        id: format!("{}-{}", it.id, place + 1),
        status: update.stage.name(),
        body: update.text.clone(),
        incident_id: it.id.clone(),
        created_at: time(update.at),
        updated_at: time(update.edited.unwrap_or(update.at)),
        display_at: time(update.at),
        affected_components: affected.collect(),
        deliver_notifications: false,
        custom_tweet: None,
        tweet_id: None,
    }
}

fn maintenance(site: &Site, it: &Maintenance) -> IncidentBody {
    // When it was announced is not kept; readers that look for changes need a time that moves only with what is said.
    let at = match it.stage {
        MaintenanceStage::Completed => it.span.until,
        _ => it.span.from,
    };
    IncidentBody {
        id: it.id.clone(),
        name: it.title(site),
        status: it.stage.name(),
        created_at: time(it.span.from.0),
        updated_at: time(at.0),
        monitoring_at: None,
        resolved_at: (it.stage == MaintenanceStage::Completed).then(|| time(it.span.until.0)),
        impact: "maintenance",
        shortlink: site.page.link(""),
        started_at: time(it.span.from.0),
        page_id: site.id.clone(),
        incident_updates: vec![UpdateBody {
            id: format!("{}-1", it.id),
            status: it.stage.name(),
            body: it.text.clone(),
            incident_id: it.id.clone(),
            created_at: time(at.0),
            updated_at: time(at.0),
            display_at: time(at.0),
            affected_components: Vec::new(),
            deliver_notifications: false,
            custom_tweet: None,
            tweet_id: None,
        }],
        components: named(site, &it.services),
        scheduled_for: Some(time(it.span.from.0)),
        scheduled_until: Some(time(it.span.until.0)),
    }
}

fn time(second: u64) -> String {
    rfc3339(Second(second))
}

/// Such as `2026-11-22`.
pub(crate) fn date(second: Second) -> String {
    let mut date = rfc3339(second);
    date.truncate(10);
    date
}
