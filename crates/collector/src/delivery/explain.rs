//! Why it paged, as a person would tell it: what `aviary explain` prints.

use std::{collections::BTreeMap, fmt::Display};

use aviary_core::{
    Second,
    extent::{Blame, Extent, percent},
    incident::{Evidence, Firing, Happened, Incident, Level, Newest, Part, State},
    page::{Belief, Case, Change, Delivery},
};

use super::Around;
use super::words::{counted, lasted, rfc3339, rule};

/// Everything that is kept of `incident`, and what became of it at each receiver as far as the outbox still holds that, as
/// text for people.
pub fn explain(incident: &Incident, case: Option<&Case>, now: Second) -> String {
    let mut text = Text::default();
    // Of what is only suspected nobody is told, and nothing said.
    let suspected = incident.parts.values().next().filter(|_| incident.state == State::Suspected);
    let summary = suspected.map_or_else(|| incident.summary(), |part| part.summary.clone());
    text.line(0, format!("{}: {summary}", incident.id));
    text.line(0, standing(incident, now));
    if !incident.silenced_by.is_empty() {
        let silences: Vec<&str> = incident.silenced_by.iter().map(|id| &**id).collect();
        text.line(0, format!("Silenced by {}: counted, and not told.", silences.join(", ")));
    }
    if let Some(storm) = &incident.storm {
        text.line(0, format!("Part of the storm {storm}, which is told instead."));
    }
    if incident.children_total > 0 {
        text.line(0, format!("Stands for {}.", counted(incident.children_total, "incident")));
    }
    for (service, part) in &incident.parts {
        describe(&mut text, service, part);
    }
    told(&mut text, incident, case);
    list(&mut text, "What people said", &incident.notes, |note| {
        (note.at, format!("{}: {}", note.by, note.text))
    });
    list(&mut text, "What happened", &incident.timeline, |(at, happened)| (*at, in_words(happened)));
    text.0.join("\n")
}

/// What is known beside an incident, as text that follows [`explain`]'s; empty where nothing is.
pub fn beside(around: &Around) -> String {
    let mut text = Text::default();
    let last_change: Vec<String> = around.last_change.iter().cloned().collect();
    let lists = [
        ("What went wrong in lost slots:", &around.evidence),
        ("What speaks against it:", &around.against),
        ("What changed last:", &last_change),
        ("What else is wrong:", &around.also_open),
    ];
    for (heading, lines) in lists.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        text.heading(heading);
        lines.iter().for_each(|line| text.line(1, line));
    }
    text.0.join("\n")
}

/// Lines of text.
#[derive(Default)]
struct Text(Vec<String>);

impl Text {
    fn line(&mut self, indent: usize, line: impl Display) {
        self.0.push(format!("{:1$}{line}", "", 2 * indent));
    }

    fn lines(&mut self, indent: usize, lines: impl IntoIterator<Item = impl Display>) {
        lines.into_iter().for_each(|line| self.line(indent, line));
    }

    fn heading(&mut self, heading: impl Display) {
        self.0.push(String::new());
        self.line(0, heading);
    }
}

fn standing(incident: &Incident, now: Second) -> String {
    let (severity, state, cause) = (incident.severity(), incident.state, incident.cause.name());
    let since = rfc3339(incident.since);
    let head = match (incident.resolved, &incident.resolution) {
        (Some(at), Some(resolution)) if state == State::Resolved => {
            let took = lasted(at.0.saturating_sub(incident.since.0));
            format!("{severity} {cause}, from {since} to {}, {took}: {resolution}", rfc3339(at))
        }
        _ => {
            let lasts = lasted(now.0.saturating_sub(incident.since.0));
            format!("{severity} {cause}, {state}, since {since}, {lasts}")
        }
    };
    match incident.opened {
        Some(opened) => {
            let after = lasted(opened.0.saturating_sub(incident.since.0));
            format!("{head}. Opened {after} after the first sign.")
        }
        None => format!("{head}. Not opened: nobody was told."),
    }
}

fn describe(text: &mut Text, service: &str, part: &Part) {
    let whose = if service.is_empty() { "it" } else { service };
    match &part.evidence {
        Some(evidence) => {
            text.heading(format!("Why {whose} was told, at {}: {}", rfc3339(evidence.at), evidence.summary));
            passed(text, part, evidence);
        }
        None => {
            text.heading(format!("Suspected, and not told: {}", part.summary));
            windows(text, &part.windows);
        }
    }
    text.lines(1, part.measured.iter());
    if part.windows.is_empty() && part.extent == Extent::default() {
        if part.blame != Blame::Unclear {
            text.line(1, format!("Whose fault: {}.", part.blame.words()));
        }
        text.lines(1, part.blind.iter().map(unseen));
        return;
    }
    let is_same = part.evidence.as_ref().is_some_and(|evidence| {
        evidence.windows == part.windows && evidence.extent == part.extent && evidence.summary == part.summary
    });
    if part.evidence.is_some() && !is_same {
        text.line(0, format!("Last seen, at {}: {}", rfc3339(part.seen), part.summary));
        windows(text, &part.windows);
        extent(text, &part.extent);
    }
    if let Some(worst) = &part.worst
        && worst.summary != part.summary
        && part.evidence.as_ref().is_none_or(|evidence| evidence.summary != worst.summary)
    {
        text.line(0, format!("At its worst, at {}: {}", rfc3339(worst.at), worst.summary));
        windows(text, &worst.windows);
        extent(text, &worst.extent);
    }
    if let Some(questions) = part.questions {
        let (zone, protocol) = (questions.one_zone.words(), questions.one_protocol.words());
        text.line(1, format!("Just one zone? {zone}. All of one protocol? {protocol}."));
        // Of what is over, what was said at its worst; what was left of it tells little.
        let (blame, grounds) = match &part.worst {
            Some(worst) if !part.is_lost => (worst.blame, &worst.grounds),
            _ => (part.blame, &part.grounds),
        };
        text.line(1, format!("Whose fault: {}.", blame.words()));
        text.lines(2, grounds.evidence.iter().map(|ground| format!("For it: {ground}.")));
        text.lines(2, grounds.against.iter().map(|ground| format!("Against it: {ground}.")));
    }
    let counts = part.counts;
    if counts.judged > 0 {
        let late = match counts.late {
            0 => String::new(),
            late => format!(", of which {late} were found stored later"),
        };
        text.line(1, format!("Since it began {} of {} lost{late}.", counts.lost, counts.judged));
    }
    if let (Some(first), Some(last)) = (part.lost_seconds.spans.first(), part.lost_seconds.spans.last()) {
        let total = counted(part.lost_seconds.total(), "second");
        let (from, until) = (rfc3339(first.from), rfc3339(last.until));
        text.line(1, format!("{total} with loss, between {from} and {until}."));
    }
    text.lines(1, part.blind.iter().map(unseen));
}

fn unseen(reason: &String) -> String {
    format!("By now nobody can tell how it does: {reason}.")
}

fn passed(text: &mut Text, part: &Part, evidence: &Evidence) {
    let (held, asked) = (lasted(evidence.held), lasted(part.policy.page_after));
    text.line(1, format!("It had held for {held}; {asked} are asked."));
    if evidence.windows.is_empty() {
        return;
    }
    let level = match evidence.level {
        Level::Quiet => "no window fired",
        Level::Suspected => "it could have been a burst as usual",
        Level::Full => "no usual burst explains it",
    };
    let vantages = counted(evidence.vantages as u64, "vantage point");
    let networks = counted(evidence.networks as u64, "network");
    text.line(1, format!("By its windows {level}; {vantages} in {networks} agreed."));
    windows(text, &evidence.windows);
    extent(text, &evidence.extent);
}

fn windows(text: &mut Text, windows: &[Firing]) {
    for window in windows {
        let Firing { seconds, reach, scheduled, judged, lost, threshold, acceptable } = window;
        let (span, share) = (lasted(*seconds), percent(window.loss()));
        let life = match reach < seconds {
            true => format!(", of which {} since its first probe,", lasted(*reach)),
            false => String::new(),
        };
        let missing = match scheduled.saturating_sub(*judged) {
            0 => String::new(),
            missing => format!(", {missing} not measured"),
        };
        let may = acceptable.to_string().replace('%', " %");
        text.line(
            1,
            format!("In {span}{life} {lost} of {judged} lost ({share}){missing}; {may} may be lost, and {threshold} are too many."),
        );
    }
}

fn extent(text: &mut Text, extent: &Extent) {
    for cause in &extent.rules {
        text.line(1, format!("Cause: {}.", rule(cause)));
    }
    // What rounds to nothing is none.
    let scattered = percent(extent.scattered);
    if scattered != percent(0.0) {
        text.line(1, format!("{scattered} of the loss is scattered: no cause explains it."));
    }
}

fn told(text: &mut Text, incident: &Incident, case: Option<&Case>) {
    text.heading("Who was told:");
    let none = BTreeMap::new();
    let deliveries = case.map_or(&none, |case| &case.deliveries);
    for (receiver, delivery) in deliveries {
        text.line(1, format!("{receiver} {}", held(delivery)));
    }
    for receipt in &incident.receipts.kept {
        text.line(1, format!("{} {}: {}", rfc3339(receipt.at), receipt.receiver, receipt.text));
    }
    if deliveries.is_empty() && incident.receipts.kept.is_empty() {
        text.line(1, "nobody");
    }
    match incident.acknowledgements.kept.back() {
        Some(last) => text.line(1, format!("{} is on it since {}.", last.by, rfc3339(last.at))),
        None => text.line(1, "Nobody said that he is on it."),
    }
}

/// What a receiver holds, as far as is known.
pub(crate) fn held(delivery: &Delivery) -> String {
    let belief = match delivery.belief {
        Belief::Nothing => "was not told",
        Belief::MaybeOpen => "may have been told that it is there",
        Belief::Open => "knows that it is there",
        Belief::MaybeClosed => "may have been told that it is over",
        Belief::MaybeNoted => "may have been told that it was there and is over",
        Belief::Closed => "knows that it is over",
    };
    let sent = counted(delivery.sent, "message");
    let vain = match delivery.in_vain {
        0 => String::new(),
        vain => format!(", the last {vain} in vain"),
    };
    let dead = match &delivery.dead {
        Some(dead) => format!("; it refuses `{}` for good: {}", dead.message, dead.why),
        None => String::new(),
    };
    format!("{belief}; {sent}{vain}{dead}.")
}

/// What there is of something, each with its time.
fn list<T>(text: &mut Text, heading: &str, newest: &Newest<T>, line: impl Fn(&T) -> (Second, String)) {
    if newest.kept.is_empty() {
        return;
    }
    text.heading(format!("{heading}:"));
    if newest.dropped > 0 {
        text.line(1, format!("({} older ones are not kept)", newest.dropped));
    }
    for one in &newest.kept {
        let (at, said) = line(one);
        text.line(1, format!("{} {said}", rfc3339(at)));
    }
}

/// What happened, in a few words.
pub(crate) fn in_words(happened: &Happened) -> String {
    match happened {
        Happened::Suspected => "the first sign".to_owned(),
        Happened::Opened => "opened".to_owned(),
        Happened::Reopened => "opened again".to_owned(),
        Happened::Told { change, severity, summary } => {
            let what = match change {
                Change::Opened => "that it is there",
                Change::Updated => "that it changed",
                Change::Resolved => "that it is over",
            };
            format!("told {what}, {severity}: {summary}")
        }
        Happened::Recovering => "nothing is lost any more".to_owned(),
        Happened::LostAgain => "lost again".to_owned(),
        Happened::Resolved(resolution) => format!("over: {resolution}"),
        Happened::CannotTell(reason) => format!("nobody can tell how it does: {reason}"),
        Happened::CanTell => "it can be told again how it does".to_owned(),
        Happened::Flapping => "it comes and goes".to_owned(),
        Happened::FlappingEnded => "it comes and goes no more".to_owned(),
        Happened::Silenced(silences) => {
            let silences: Vec<&str> = silences.iter().map(|id| &**id).collect();
            format!("silenced by {}", silences.join(", "))
        }
        Happened::SilenceEnded => "no silence covers it any more".to_owned(),
        Happened::Joined(service) => format!("{service} is touched too"),
        Happened::Left(service) => format!("{service} is not touched any more"),
        Happened::Absorbed(id) => format!("incident {id} is the same, and part of it from here on"),
        Happened::InStorm(id) => format!("part of the storm {id} from here on"),
        Happened::Late(spans) => {
            let seconds = counted(spans.iter().map(|span| span.seconds()).sum(), "second");
            format!("{seconds} with loss were told late")
        }
        Happened::Acknowledged(by) => format!("{by} is on it"),
        Happened::Steered(text) => text.clone(),
    }
}
