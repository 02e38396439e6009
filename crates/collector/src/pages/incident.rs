//! `/incidents/ID`: what happened, what shows it, who was told, and what people said.

use std::collections::BTreeSet;

use aviary_core::{
    Second, Span, Tag,
    incident::{Cause, Id, Incident},
    losses,
};
use maud::{Markup, html};
use serde::Serialize;

use super::{
    chart::Chart,
    incidents::Short,
    service::linked,
    shown::{Shown, Zoom, incident_path, service_path},
    words,
};
use crate::{
    Collector,
    access::{Caller, Scope},
    delivery::explain::{held, in_words},
    error::ApiError,
    judgement::api::{TEXT_CHARACTERS_MAX, unknown},
    runbooks,
    status::{self, Publication},
};

mod public;

/// So many lost slots are shown one by one, the first ones: they tell the most of what began.
const SLOTS_MAX: usize = 100;

/// So many losses are looked at for them.
const LOSSES_MAX: usize = 20_000;

/// So many seconds are drawn before an incident and after it.
const AROUND_SECONDS: u64 = 60;

/// All that is known of an incident.
#[derive(Debug, Serialize)]
pub(crate) struct IncidentPage {
    now: u64,
    #[serde(flatten)]
    short: Short,
    key: String,
    opened: Option<u64>,
    resolution: Option<String>,
    silenced_by: Vec<SilencedBy>,
    /// Where it is written what to do.
    runbook: Option<String>,
    /// The same as `aviary explain` prints.
    explanation: String,
    timeline: Vec<Said>,
    timeline_left_out: u64,
    parts: Vec<Part>,
    /// Lost slots that are still held one by one.
    slots: Vec<LostSlot>,
    /// There are later ones.
    more_slots: bool,
    receivers: Vec<Receiver>,
    receipts: Vec<Said>,
    notes: Vec<Said>,
    /// What the public is told; nothing, where no service of it is shown.
    public: Option<Publication>,
    chart: Option<Chart>,
    #[serde(skip)]
    shown: Shown,
}

/// Something with its time.
#[derive(Debug, Serialize)]
struct Said {
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    text: String,
}

/// A silence for which nobody is paged.
#[derive(Debug, Serialize)]
struct SilencedBy {
    id: String,
    /// `None` once it has ended.
    until: Option<u64>,
    by: Option<String>,
    reason: Option<String>,
}

impl SilencedBy {
    fn all(collector: &Collector, incident: &Incident, now: Second) -> Vec<Self> {
        let held = collector.judgement().silences();
        let of = |id: &String| {
            let silence = held.iter().find(|silence| silence.id == *id);
            Self {
                id: id.clone(),
                until: silence.and_then(|silence| silence.holds_until(now)).map(|until| until.0),
                by: silence.map(|silence| silence.author.clone()),
                reason: silence.map(|silence| silence.reason.clone()),
            }
        };
        incident.silenced_by.iter().map(of).collect()
    }

    fn html(&self) -> Markup {
        html! {
            @if let Some(by) = &self.by { (by) } @else { (self.id) }
            @if let Some(until) = self.until { " until " (words::time(until)) } @else { ", which has ended" }
            @if let Some(reason) = &self.reason { ": " (reason) }
        }
    }
}

/// What it does to one service.
#[derive(Debug, Serialize)]
struct Part {
    service: String,
    summary: String,
    /// Whose fault it looks like, in words, what speaks for that and what against it.
    blame: &'static str,
    evidence: Vec<String>,
    against: Vec<String>,
    lost: u64,
    judged: u64,
    late: u64,
    /// The exact seconds with loss.
    lost_seconds: Vec<Lost>,
    lost_seconds_left_out: u64,
}

#[derive(Debug, Serialize)]
struct Lost {
    from: u64,
    until: u64,
}

/// A lost slot with its cause.
#[derive(Debug, Serialize)]
struct LostSlot {
    second: u64,
    service: String,
    protocol: String,
    region: String,
    node: String,
    phase: &'static str,
    fault: String,
    reached: Option<&'static str>,
    address: Option<String>,
}

#[derive(Debug, Serialize)]
struct Receiver {
    name: String,
    holds: String,
}

impl IncidentPage {
    /// Blocks.
    pub(crate) fn gather(collector: &Collector, id: &str, shown: Shown) -> Result<Self, ApiError> {
        let id = Id::given(id);
        let incident = collector.incident(&id)?.ok_or_else(|| unknown(&id))?;
        let now = collector.now().second();
        let end = incident.resolved.unwrap_or(now);
        // Without a view that was asked for, all of it with a little around it.
        let shown = if shown == Shown::default() {
            let zoom = Zoom::around(end.0.saturating_sub(incident.since.0) + 2 * AROUND_SECONDS);
            Shown { zoom, until: incident.resolved.map(|at| at.plus(AROUND_SECONDS)), ..shown }
        } else {
            shown
        };
        let services = incident.services();
        let chart = match services.iter().next() {
            Some(service) if services.len() == 1 => Some(Chart::gather(collector, Some(service), &shown)?),
            Some(_) => Some(Chart::gather(collector, None, &shown)?),
            None => None,
        };
        let (slots, more_slots) = lost_slots(collector, &incident, Span::new(incident.since, end.plus(1)));
        let case = collector.judgement().case(&id);
        let receivers = case.iter().flat_map(|case| &case.deliveries);
        let said =
            |at: Second, by: Option<&str>, text: String| Said { at: at.0, by: by.map(str::to_owned), text };
        Ok(Self {
            now: now.0,
            short: Short::of(&incident),
            key: incident.key.clone(),
            opened: incident.opened.map(|at| at.0),
            resolution: incident.resolution.as_ref().map(ToString::to_string),
            silenced_by: SilencedBy::all(collector, &incident, now),
            runbook: incident.worst().and_then(|part| runbooks::of(&incident.cause, part, Some(""))),
            explanation: collector.explanation(&incident),
            timeline: incident.timeline.kept.iter().map(|(at, it)| said(*at, None, in_words(it))).collect(),
            timeline_left_out: incident.timeline.dropped,
            parts: incident.parts().map(|(service, part)| Part::of(service, part)).collect(),
            slots,
            more_slots,
            receivers: receivers
                .map(|(name, delivery)| Receiver { name: name.clone(), holds: held(delivery) })
                .collect(),
            receipts: incident
                .receipts
                .kept
                .iter()
                .map(|receipt| said(receipt.at, Some(&receipt.receiver), receipt.text.clone()))
                .collect(),
            notes: incident
                .notes
                .kept
                .iter()
                .map(|note| said(note.at, Some(&note.by), note.text.clone()))
                .collect(),
            public: status::seen(collector, &incident),
            chart,
            shown,
        })
    }

    /// What it is about.
    pub(crate) fn title(&self) -> String {
        format!("Incident: {}", self.short.summary)
    }

    fn path(&self) -> String {
        incident_path(&self.short.id)
    }

    /// What changes of it.
    pub(crate) fn html(&self) -> Markup {
        let Self { short, .. } = self;
        html! {
            section id="incident" aria-labelledby="incident-heading" {
                h1 id="incident-heading" { (short.summary) }
                dl.facts {
                    div { dt { "State" } dd { (short.state_html()) @if let Some(how) = &self.resolution { ": " (how) } } }
                    div { dt { "Severity" } dd { (short.severity) } }
                    div { dt { "Cause" } dd { (short.cause.replace('_', " ")) } }
                    div { dt { "Since" } dd { (words::since(short.since, self.now)) } }
                    @match short.resolved {
                        Some(at) => { div { dt { "Over" } dd { (words::time(at)) ", after " (words::lasted(at.saturating_sub(short.since))) } } }
                        None => {}
                    }
                    @if let Some(at) = self.opened { div { dt { "Told first" } dd { (words::time(at)) } } }
                    div { dt { "On it" } dd { (short.acknowledged_by.as_deref().unwrap_or("nobody said so")) } }
                    @if !self.silenced_by.is_empty() { div { dt { "Silenced by" } dd { @for silence in &self.silenced_by { div { (silence.html()) } } } } }
                    div { dt { "Services" } dd { @for service in &short.services { a href=(service_path(service)) { (service) } " " } } }
                    @if let Some(runbook) = &self.runbook { div { dt { "Runbook" } dd { (linked(runbook)) } } }
                    div { dt { "Key" } dd { code { (self.key) } } }
                }
            }
            @if let Some(chart) = &self.chart { (chart.html(&self.path(), &self.shown)) }
            section id="timeline" aria-labelledby="timeline-heading" {
                h2 id="timeline-heading" { "What happened" }
                @if self.timeline_left_out > 0 { p { (words::number(self.timeline_left_out)) " older entries are not kept." } }
                ol.times { @for said in &self.timeline { li { (words::time(said.at)) " " (said.text) } } }
            }
            (self.evidence_html())
            section id="told" aria-labelledby="told-heading" {
                h2 id="told-heading" { "Who was told" }
                @if self.receivers.is_empty() && self.receipts.is_empty() { p { "Nobody." } }
                ul.times {
                    @for receiver in &self.receivers { li { strong { (receiver.name) } " " (receiver.holds) } }
                    @for receipt in &self.receipts { li { (words::time(receipt.at)) " " strong { (receipt.by.as_deref().unwrap_or_default()) } ": " (receipt.text) } }
                }
            }
            section id="explanation" aria-labelledby="explanation-heading" {
                h2 id="explanation-heading" { "Why it paged" }
                pre tabindex="0" { (self.explanation) }
            }
            section id="notes" aria-labelledby="notes-heading" {
                h2 id="notes-heading" { "What people said" }
                @if self.notes.is_empty() { p { "Nothing yet." } }
                ul.times { @for note in &self.notes { li { (words::time(note.at)) " " strong { (note.by.as_deref().unwrap_or_default()) } ": " (note.text) } } }
            }
            @if let Some(publication) = &self.public { (public::html(publication)) }
        }
    }

    fn evidence_html(&self) -> Markup {
        html! {
            section id="evidence" aria-labelledby="evidence-heading" {
                h2 id="evidence-heading" { "What shows it" }
                @for part in &self.parts {
                    h3 { (part.service) }
                    p { (part.summary) }
                    @if !(part.evidence.is_empty() && part.against.is_empty()) {
                        p { "Whose fault it looks like: " (part.blame) "." }
                        ul {
                            @for ground in &part.evidence { li { (ground) } }
                            @for ground in &part.against { li { "But " (ground) } }
                        }
                    }
                    p {
                        (words::number(part.lost)) " of " (words::number(part.judged)) " lost since it began"
                        @if part.late > 0 { ", of which " (words::number(part.late)) " were found stored later" }
                        "."
                    }
                    @if !part.lost_seconds.is_empty() {
                        details {
                            summary { "The exact seconds with loss" }
                            @if part.lost_seconds_left_out > 0 { p { (words::number(part.lost_seconds_left_out)) " older seconds are not kept." } }
                            ul.times { @for lost in &part.lost_seconds { li { (lost.html()) } } }
                        }
                    }
                }
                @if !self.slots.is_empty() {
                    details {
                    summary { "The first lost slots, one by one" }
                    div.scroll tabindex="0" role="group" aria-label="The first lost slots" {
                        table {
                            caption {
                                "Each with the phase and fault in which it was lost"
                                @if self.more_slots { "; later ones are not shown" }
                                "."
                            }
                            thead { tr {
                                th scope="col" { "Second" } th scope="col" { "Protocol" } th scope="col" { "From" }
                                th scope="col" { "Phase" } th scope="col" { "Fault" } th scope="col" { "Had reached" }
                                th scope="col" { "Address" }
                            } }
                            tbody { @for slot in &self.slots { tr {
                                th scope="row" { (words::time(slot.second)) }
                                td { (slot.protocol) }
                                td { (slot.region) ", " (slot.node) }
                                td { (slot.phase) }
                                td { (slot.fault) }
                                td { (slot.reached.map_or_else(|| "nothing".to_owned(), |it| it.replace('_', " "))) }
                                td { (slot.address.as_deref().unwrap_or("none")) }
                            } } }
                        }
                    }
                    }
                }
            }
        }
    }

    /// What people can say of it. Outside of what changes, so that nothing is taken from under their hands.
    pub(crate) fn forms(&self, caller: &Caller) -> Markup {
        let is_active = !matches!(self.short.state, "resolved" | "suspected");
        if !caller.may(Scope::Admin) {
            return html! { p.quiet { "Notes and acknowledgements are taken from whoever has the scope " code { "admin" } "." } };
        }
        let author = caller.author(None);
        let by = match &author {
            Some(name) => html! { p { "As " strong { (name) } } },
            None => {
                html! { p { label for="by" { "Your name" } input id="by" name="by" required maxlength="100" autocomplete="username"; } }
            }
        };
        html! {
            section aria-labelledby="say-heading" {
                h2 id="say-heading" { "Say something" }
                form method="post" action=(format!("{}/notes", self.path())) {
                    (by)
                    p {
                        label for="text" { "Note" }
                        textarea id="text" name="text" required rows="3" maxlength=(TEXT_CHARACTERS_MAX) {}
                    }
                    p.buttons {
                        button type="submit" { "Add the note" }
                        @if is_active {
                            " " button type="submit" formaction=(format!("{}/ack", self.path())) formnovalidate { "I am on it" }
                        }
                    }
                }
            }
            @if let Some(publication) = &self.public { (public::forms(&self.path(), publication, author.is_some())) }
        }
    }
}

impl Part {
    fn of(service: &str, part: &aviary_core::incident::Part) -> Self {
        Self {
            service: service.to_owned(),
            summary: part.summary.clone(),
            blame: part.blame.words(),
            evidence: part.grounds.evidence.clone(),
            against: part.grounds.against.clone(),
            lost: part.counts.lost,
            judged: part.counts.judged,
            late: part.counts.late,
            lost_seconds: part
                .lost_seconds
                .spans
                .iter()
                .map(|span| Lost { from: span.from.0, until: span.until.0 })
                .collect(),
            lost_seconds_left_out: part.lost_seconds.dropped,
        }
    }
}

impl Lost {
    fn html(&self) -> Markup {
        html! {
            (words::time(self.from))
            @if self.until > self.from + 1 {
                " to " (words::time(self.until - 1)) ", " (words::lasted(self.until - self.from))
            }
        }
    }
}

/// The first lost slots of what the incident is about that are held one by one, and whether there are more.
fn lost_slots(collector: &Collector, incident: &Incident, span: Span) -> (Vec<LostSlot>, bool) {
    if incident.cause != Cause::Loss {
        return (Vec::new(), false);
    }
    let services: BTreeSet<&str> = incident.services();
    let state = collector.state();
    let catalog = state.catalog();
    let mut slots = Vec::new();
    for (second, series, loss) in state.losses().within(span).take(LOSSES_MAX) {
        let losses::Cause::Service(fault) = loss.cause else { continue };
        let tag = |tag| catalog.tag(series, tag).to_owned();
        if !services.contains(catalog.tag(series, Tag::Service)) {
            continue;
        }
        if slots.len() >= SLOTS_MAX {
            return (slots, true);
        }
        slots.push(LostSlot {
            second: second.0,
            service: tag(Tag::Service),
            protocol: tag(Tag::Protocol),
            region: tag(Tag::Region),
            node: tag(Tag::Node),
            phase: loss.phase.name(),
            fault: match fault {
                aviary_core::Fault::Status(status) => format!("status {status}"),
                fault => fault.name().replace('_', " "),
            },
            reached: loss.reached.map(|rung| rung.name()),
            address: loss.address.map(|address| address.to_string()),
        });
    }
    (slots, false)
}
