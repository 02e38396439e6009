//! What a receiver is told of an incident: the page, from what is kept of it.
//!
//! Everything here is a function of the incident as it is when the message leaves, of which state of it the receiver took
//! before, and of a few things that only the collector knows ([`Around`]). What is not known is left out, and never guessed.

use aviary_core::{
    Second, Tag,
    extent::{Blame, Questions, Rule, percent},
    incident::{Cause, Firing, Happened, Incident, Part, Resolution},
    page::{Message, Severity},
};
use aviary_notify::{Event, Page, Share, Sums};

use super::{
    Around, Order, Subject,
    words::{counted, rfc3339},
};

/// A smaller share that no rule explains is not worth a word.
const SCATTERED_MIN: f64 = 0.01;

/// The page that `order` asks for.
pub fn page_of(order: &Order, subject: &Subject) -> Page {
    let Subject { incident, taken, around } = subject;
    let message = order.attempt.message;
    let event = event_of(message);
    let worst = incident.worst();
    let window = worst.and_then(strongest);
    let told = incident.told.as_ref();
    let url = around.collector_url.as_ref();
    Page {
        key: order.key.clone(),
        incident: order.id.to_string(),
        sequence: order.attempt.revision,
        event,
        test: false,
        at: told_at(incident, event).start(),
        severity: told.map_or_else(|| incident.severity(), |told| told.severity),
        told_as: tellings(incident).map(|telling| telling.severity).collect(),
        services: services(incident),
        state: incident.state.name().to_owned(),
        since: incident.since.start(),
        summary: summary(incident, message),
        rules: rules(incident),
        window: window.map(sums),
        acceptable: window.map(|window| window.acceptable),
        vantages: worst.and_then(|part| seen_from(incident, part, around.vantages)),
        questions: worst.and_then(|part| part.questions).unwrap_or(Questions::UNASKED),
        blame: worst.map_or(Blame::Unclear, |part| part.blame),
        against: against(incident, around),
        evidence: evidence(incident, around),
        last_change: around.last_change.clone(),
        changed: taken.map(|taken| changed(incident, taken)).unwrap_or_default(),
        also_open: around.also_open.clone(),
        owner: worst.and_then(|part| part.policy.owner.clone()),
        runbook: worst.and_then(|part| part.policy.runbook.clone()),
        url: url.map(|url| format!("{}/incidents/{}", url.trim_end_matches('/'), order.id)),
        links: Vec::new(),
    }
}

/// The page of a test, or of its end: nothing is there to be told of.
pub fn test_page(order: &Order) -> Page {
    let is_over = order.attempt.message == Message::TestOver;
    let text = if is_over { "the test is over" } else { "a test of this receiver" };
    Page {
        test: true,
        // The end is another message, of the same state.
        sequence: order.attempt.revision + u64::from(is_over),
        state: "test".to_owned(),
        ..bare_page(order, &format!("{text} (`{}`): nothing is wrong", order.receiver))
    }
}

/// The page of an incident of which nothing is kept any more: its key is enough for a receiver to end it.
pub fn bare_page(order: &Order, summary: &str) -> Page {
    let Order { id, key, attempt, .. } = order;
    Page {
        sequence: attempt.revision,
        state: "resolved".to_owned(),
        summary: summary.to_owned(),
        ..Page::about(id.as_str(), key, event_of(attempt.message), attempt.since)
    }
}

const fn event_of(message: Message) -> Event {
    match message {
        Message::Opened | Message::Test => Event::Opened,
        Message::Updated => Event::Updated,
        Message::Resolved | Message::FiredAndRecovered | Message::TestOver => Event::Resolved,
    }
}

/// When the message came about, whatever the attempt.
fn told_at(incident: &Incident, event: Event) -> Second {
    let told = incident.told.as_ref().map_or(incident.since, |told| told.at);
    match event {
        Event::Opened | Event::Updated => told,
        Event::Resolved => incident.resolved.unwrap_or(told),
    }
}

/// The services that it touches, the one that it began with first.
fn services(incident: &Incident) -> Vec<String> {
    let mut parts: Vec<&Part> = incident.parts().map(|(_, part)| part).collect();
    parts.sort_by_key(|part| part.since);
    let mut services: Vec<String> = Vec::new();
    for service in parts.iter().flat_map(|part| &part.services) {
        if !services.contains(service) {
            services.push(service.clone());
        }
    }
    services
}

/// The first line, with how it ended where that is not that it recovered.
fn summary(incident: &Incident, message: Message) -> String {
    let mut text = incident.summary();
    if message == Message::FiredAndRecovered {
        text.push_str("; it was over before this could be told");
    }
    match &incident.resolution {
        None | Some(Resolution::Recovered) => {}
        Some(other) => text.push_str(&format!("; {other}")),
    }
    if incident.state.is_active() && incident.blind().is_some() {
        text.push_str("; by now nobody can tell how it does");
    }
    text
}

/// The causes of the loss, those of the worst part first. Of several services, each says whose it is.
fn rules(incident: &Incident) -> Vec<Rule> {
    let mut parts: Vec<(&String, &Part)> = incident.parts().collect();
    parts.sort_by_key(|(_, part)| std::cmp::Reverse((part.severity, part.is_lost)));
    let is_one = parts.len() <= 1;
    let mut rules = Vec::new();
    for (service, part) in parts {
        for mut rule in part.extent.rules.iter().cloned() {
            if !is_one {
                rule.matches.0.entry(Tag::Service).or_insert_with(|| service.clone());
            }
            rules.push(rule);
        }
    }
    rules
}

/// The window that tells a part's loss strongest: of now, or of when it passed the gates.
fn strongest(part: &Part) -> Option<&Firing> {
    part.windows.first().or_else(|| part.evidence.as_ref()?.windows.first())
}

const fn sums(window: &Firing) -> Sums {
    Sums {
        seconds: window.seconds,
        scheduled: window.scheduled,
        delivered: window.judged.saturating_sub(window.lost),
        lost: window.lost,
    }
}

fn seen_from(incident: &Incident, part: &Part, of: Option<u64>) -> Option<Share> {
    let of = of.filter(|of| *of > 0 && incident.cause == Cause::Loss)?;
    Some(Share { of, count: (part.seen_from as u64).min(of) })
}

fn against(incident: &Incident, around: &Around) -> Vec<String> {
    let mut against = around.against.clone();
    let worst = incident.worst().filter(|_| incident.cause == Cause::Loss);
    if let Some(part) = worst.filter(|part| part.extent.scattered >= SCATTERED_MIN) {
        against.push(format!(
            "{} of the loss is scattered: no cause explains it",
            percent(part.extent.scattered)
        ));
    }
    if let Some(Share { of, count }) = worst.and_then(|part| seen_from(incident, part, around.vantages))
        && count < of
    {
        against.push(format!("{} of {of} do not see it", counted(of - count, "vantage point")));
    }
    against
}

/// What went wrong first, why the blame is what it is, and that it came back.
fn evidence(incident: &Incident, around: &Around) -> Vec<String> {
    let grounds = incident.worst().map_or(&[][..], |part| &part.grounds);
    around.evidence.iter().chain(grounds).cloned().chain(came_back(incident)).collect()
}

fn came_back(incident: &Incident) -> Option<String> {
    let last = incident.reopened.last()?;
    let often = counted(incident.reopened.len() as u64, "time");
    Some(format!("it was over and came back, {often}, last at {}", rfc3339(*last)))
}

/// A state that others were told.
struct Telling<'a> {
    revision: u64,
    /// Where it stands in the timeline.
    place: usize,
    severity: Severity,
    summary: &'a str,
}

/// What others were told, the newest first. The newest of all has the incident's revision; that it was over was one of them
/// if it had been told that it was there.
fn tellings(incident: &Incident) -> impl Iterator<Item = Telling<'_>> {
    let mut revision = incident.revision;
    let mut is_over = false;
    incident.timeline.kept.iter().enumerate().rev().filter_map(move |(place, (_, happened))| {
        match happened {
            Happened::Resolved(_) => is_over = true,
            Happened::Opened | Happened::Reopened => is_over = false,
            Happened::Told { severity, summary, .. } => {
                revision = revision.saturating_sub(u64::from(std::mem::take(&mut is_over)));
                let telling = Telling { revision, place, severity: *severity, summary };
                revision = revision.saturating_sub(1);
                return Some(telling);
            }
            _ => {}
        }
        None
    })
}

/// What is new since the state that a receiver took.
fn changed(incident: &Incident, taken: u64) -> Vec<String> {
    let Some(then) = tellings(incident).find(|telling| telling.revision == taken) else { return Vec::new() };
    let mut lines = Vec::new();
    let severity = incident.told.as_ref().map_or(then.severity, |told| told.severity);
    if then.severity != severity {
        lines.push(format!("severity {severity}, was {}", then.severity));
    }
    if then.summary != incident.summary() {
        lines.push(format!("was {}", then.summary));
    }
    // Of each kind of news the newest: what came and went in between is told by how it is now.
    let mut news: Vec<(&'static str, &str, String)> = Vec::new();
    for (_, happened) in incident.timeline.kept.iter().skip(then.place + 1) {
        if let Some((kind, whose, text)) = news_in(happened) {
            news.retain(|(other, whom, _)| (*other, *whom) != (kind, whose));
            news.push((kind, whose, text));
        }
    }
    lines.extend(news.into_iter().map(|(_, _, text)| text));
    lines
}

/// What has happened, as news: of which kind, of whom, and what.
fn news_in(happened: &Happened) -> Option<(&'static str, &str, String)> {
    Some(match happened {
        Happened::Acknowledged(by) => ("acknowledged", "", format!("{by} is on it")),
        Happened::CannotTell(reason) => ("sight", "", format!("nobody can tell how it does: {reason}")),
        Happened::CanTell => ("sight", "", "it can be told again how it does".to_owned()),
        Happened::Flapping => ("flapping", "", "it comes and goes".to_owned()),
        Happened::FlappingEnded => ("flapping", "", "it comes and goes no more".to_owned()),
        Happened::Joined(service) => ("touched", service.as_str(), format!("{service} is touched too")),
        Happened::Left(service) => {
            ("touched", service.as_str(), format!("{service} is not touched any more"))
        }
        Happened::Absorbed(id) => {
            ("absorbed", id.as_str(), format!("incident {id} is the same, and part of it now"))
        }
        Happened::Reopened => ("reopened", "", "it was over, and came back".to_owned()),
        Happened::Suspected
        | Happened::Opened
        | Happened::Told { .. }
        | Happened::Recovering
        | Happened::LostAgain
        | Happened::Resolved(_)
        | Happened::Silenced(_)
        | Happened::SilenceEnded
        | Happened::InStorm(_)
        | Happened::Late(_) => return None,
    })
}
