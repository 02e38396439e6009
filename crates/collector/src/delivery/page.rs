//! What a receiver is told of an incident: the page, from what is kept of it.
//!
//! Everything here is a function of the incident as it is when the message leaves, of which state of it the receiver took
//! before, and of a few things that only the collector knows ([`Around`]). What is not known is left out, and never guessed.

use aviary_core::{
    Second, Tag,
    extent::{Blame, Extent, Grounds, Questions, Rule, percent},
    incident::{Cause, Firing, Happened, Incident, Part, Resolution, State},
    page::{Message, Severity},
};
use aviary_notify::{Event, Page, Share, Sums, Total};

use super::{
    Around, Order, Subject,
    words::{counted, rfc3339},
};
use crate::runbooks;

/// A smaller share that no rule explains is not worth a word.
const SCATTERED_MIN: f64 = 0.01;

/// The page that `order` asks for.
pub fn page_of(order: &Order, subject: &Subject) -> Page {
    let Subject { incident, taken, around } = subject;
    let message = order.attempt.message;
    let event = event_of(message);
    let worst = incident.worst();
    let picture = worst.map(|part| Picture::of(incident, part));
    let window = picture.as_ref().and_then(|picture| picture.window);
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
        measured: worst.and_then(|part| part.measured.clone()),
        total: total(incident),
        acceptable: window.map(|window| window.acceptable),
        vantages: worst.and_then(|part| seen_from(incident, part, around.vantages)),
        questions: worst.and_then(|part| part.questions).unwrap_or(Questions::UNASKED),
        blame: picture.as_ref().map_or(Blame::Unclear, |picture| picture.blame),
        against: against(incident, picture.as_ref(), around),
        evidence: evidence(incident, picture.as_ref(), around),
        last_change: around.last_change.clone(),
        changed: taken.map(|taken| changed(incident, taken)).unwrap_or_default(),
        also_open: around.also_open.clone(),
        owner: worst.and_then(|part| part.policy.owner.clone()),
        runbook: worst.and_then(|part| runbooks::of(&incident.cause, part, url.map(String::as_str))),
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
    // As others are told it, so that what a message says is corrected by another.
    if incident.state.is_active() && incident.told.as_ref().is_some_and(|told| told.is_blind) {
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
        for mut rule in Picture::of(incident, part).extent.rules.iter().cloned() {
            if !is_one {
                rule.matches.0.entry(Tag::Service).or_insert_with(|| service.clone());
            }
            rules.push(rule);
        }
    }
    rules
}

/// What is shown of a part: what it is now; and once all is over, what it was at its worst, and not what was left of it.
struct Picture<'a> {
    /// The window that tells the loss strongest: of then, or of when it passed the gates.
    window: Option<&'a Firing>,
    extent: &'a Extent,
    blame: Blame,
    grounds: &'a Grounds,
}

impl<'a> Picture<'a> {
    fn of(incident: &Incident, part: &'a Part) -> Self {
        let gates = || part.evidence.as_ref()?.windows.first();
        match part.worst.as_ref().filter(|_| incident.state == State::Resolved) {
            Some(then) => Self {
                window: then.windows.first().or_else(gates),
                extent: &then.extent,
                blame: then.blame,
                grounds: &then.grounds,
            },
            None => Self {
                window: part.windows.first().or_else(gates),
                extent: &part.extent,
                blame: part.blame,
                grounds: &part.grounds,
            },
        }
    }
}

/// What was lost in all of what is over: of all its services together, and the greatest share of any.
fn total(incident: &Incident) -> Option<Total> {
    if incident.cause != Cause::Loss || incident.state != State::Resolved {
        return None;
    }
    let parts = || incident.parts().map(|(_, part)| part);
    let judged = parts().map(|part| part.counts.judged).sum();
    (judged > 0).then(|| Total {
        judged,
        lost: parts().map(|part| part.counts.lost).sum(),
        seconds: parts().map(|part| part.lost_seconds.total()).max().unwrap_or_default(),
        worst: parts()
            .filter_map(|part| Picture::of(incident, part).window)
            .map(Firing::loss)
            .fold(0.0, f64::max),
    })
}

const fn sums(window: &Firing) -> Sums {
    Sums {
        seconds: window.reach,
        scheduled: window.scheduled,
        delivered: window.judged.saturating_sub(window.lost),
        lost: window.lost,
    }
}

fn seen_from(incident: &Incident, part: &Part, of: Option<u64>) -> Option<Share> {
    let of = of.filter(|of| *of > 0 && incident.cause == Cause::Loss)?;
    Some(Share { of, count: (part.seen_from as u64).min(of) })
}

/// How many vantage points do not see it, where that is known; none where all do.
fn blind_to_it(incident: &Incident, around: &Around) -> Option<String> {
    let Share { of, count } = seen_from(incident, incident.worst()?, around.vantages)?;
    let verb = if of - count == 1 { "does" } else { "do" };
    (count < of).then(|| format!("{} of {of} {verb} not see it", counted(of - count, "vantage point")))
}

/// Whether a place is at fault: then it speaks for it that others do not see it.
const fn is_of_a_place(blame: Blame) -> bool {
    matches!(blame, Blame::Source | Blame::Path)
}

fn against(incident: &Incident, picture: Option<&Picture<'_>>, around: &Around) -> Vec<String> {
    let mut against = around.against.clone();
    let Some(Picture { extent, blame, grounds, .. }) = picture else { return against };
    against.extend(grounds.against.iter().cloned());
    if extent.scattered >= SCATTERED_MIN {
        against.push(format!("{} of the loss is scattered: no cause explains it", percent(extent.scattered)));
    }
    against.extend(blind_to_it(incident, around).filter(|_| !is_of_a_place(*blame)));
    against
}

/// What went wrong first, why the blame is what it is, that it came back, and what was done with a node.
fn evidence(incident: &Incident, picture: Option<&Picture<'_>>, around: &Around) -> Vec<String> {
    let mut evidence = around.evidence.clone();
    if let Some(Picture { blame, grounds, .. }) = picture {
        evidence.extend(grounds.evidence.iter().cloned());
        evidence.extend(blind_to_it(incident, around).filter(|_| is_of_a_place(*blame)));
    }
    evidence.extend(came_back(incident));
    evidence.extend(steered(incident));
    evidence
}

/// What was done last with a node, or was not.
fn steered(incident: &Incident) -> Option<String> {
    incident.timeline.kept.iter().rev().find_map(|(_, happened)| match happened {
        Happened::Steered(text) => Some(text.clone()),
        _ => None,
    })
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
        Happened::Steered(text) => ("steered", text.as_str(), text.clone()),
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
