//! What is told: one message about an incident, as plain data that whoever keeps incidents fills in.

use std::collections::BTreeSet;

use aviary_core::{
    AcceptableLoss, Timestamp,
    extent::{Answer, Blame, Questions, Rule},
    named,
    page::Severity,
};

use crate::cut::{cut, one_line};

/// The longest summary.
const LINE_MAX: usize = 1024;
/// The longest line of a list, and the longest list: with all of them, what follows in the text is still there.
const ITEM_MAX: usize = 256;
const LINES_MAX: usize = 10;
/// The most services and causes: programs read them all.
const NAMES_MAX: usize = 50;
/// The longest URL that everybody takes.
const URL_BYTES_MAX: usize = 2048;

named! {
    /// What a message is about.
    pub enum Event {
        /// An incident opened, or opened again.
        Opened = "opened",
        /// Its extent or severity changed.
        Updated = "updated",
        /// It is over.
        Resolved = "resolved",
    }
}

/// One message about an incident.
///
/// Two attempts to deliver the same message carry the same page; what differs between them is an [`Attempt`].
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The incident's one key, such as `aviary:main:01J...`: receivers take what bears it for the same page.
    pub key: String,
    /// The incident's id.
    pub incident: String,
    /// Which message of its incident this is. With the incident it names the message, whatever the attempt.
    pub sequence: u64,
    /// What it is about.
    pub event: Event,
    /// Whether it is a test: nobody need act. It is marked so everywhere, and informational.
    pub test: bool,
    /// When the message came about.
    pub at: Timestamp,
    /// How bad it is.
    pub severity: Severity,
    /// How bad it was said to be in earlier messages: a receiver may know the incident under these.
    pub told_as: BTreeSet<Severity>,
    /// The services that it touches, the one that it began with first.
    pub services: Vec<String>,
    /// The incident's state, by its name.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// Who, what, where and how much, in one line.
    pub summary: String,
    /// Where the loss is.
    pub rules: Vec<Rule>,
    /// The sums over the window that fired; none where nothing could be measured.
    pub window: Option<Sums>,
    /// What was measured where that is no window, in a sentence or two.
    pub measured: Option<String>,
    /// What was lost in all, of what is over.
    pub total: Option<Total>,
    /// What may be lost.
    pub acceptable: Option<AcceptableLoss>,
    /// How many vantage points see it.
    pub vantages: Option<Share>,
    /// What the field asks first.
    pub questions: Questions,
    /// Whose fault it looks like.
    pub blame: Blame,
    /// What speaks against that, a line each.
    pub against: Vec<String>,
    /// The first causes and what else speaks for that, a line each.
    pub evidence: Vec<String>,
    /// What changed last, such as a deploy.
    pub last_change: Option<String>,
    /// What changed since the message before, a line each.
    pub changed: Vec<String>,
    /// What else is wrong at the time, a line each.
    pub also_open: Vec<String>,
    /// Whose service it is.
    pub owner: Option<String>,
    /// What to do, as a URL.
    pub runbook: Option<String>,
    /// The incident itself, as a URL.
    pub url: Option<String>,
    /// Where to look further.
    pub links: Vec<Link>,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub of: u64,
    /// How many of them.
    pub count: u64,
}

/// The sums of a window, in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Its length.
    pub seconds: u64,
    /// The slots of the plan.
    pub scheduled: u64,
    /// What arrived in time.
    pub delivered: u64,
    /// What did not.
    pub lost: u64,
}

/// What was lost in all, from the onset to the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Total {
    /// Delivered and lost slots.
    pub judged: u64,
    /// Lost slots.
    pub lost: u64,
    /// In how many seconds something was lost.
    pub seconds: u64,
    /// The share that was lost when most was, 0 to 1.
    pub worst: f64,
}

/// Where to look further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it shows.
    pub text: String,
    /// Where it is, as a URL.
    pub href: String,
}

/// What differs between two attempts to deliver the same page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it is made.
    pub now: Timestamp,
}

impl Page {
    /// The first message about `incident`, informational, of which nothing else is known.
    pub fn about(incident: &str, key: &str, event: Event, at: Timestamp) -> Self {
        Self {
            key: key.to_owned(),
            incident: incident.to_owned(),
            sequence: 1,
            event,
            test: false,
            at,
            severity: Severity::Info,
            told_as: BTreeSet::new(),
            services: Vec::new(),
            state: String::new(),
            since: at,
            summary: String::new(),
            rules: Vec::new(),
            window: None,
            measured: None,
            total: None,
            acceptable: None,
            vantages: None,
            questions: Questions::UNASKED,
            blame: Blame::Unclear,
            against: Vec::new(),
            evidence: Vec::new(),
            last_change: None,
            changed: Vec::new(),
            also_open: Vec::new(),
            owner: None,
            runbook: None,
            url: None,
            links: Vec::new(),
        }
    }

    /// How bad it is: a test is never more than informational.
    pub fn level(&self) -> Severity {
        if self.test { Severity::Info } else { self.severity }
    }

    /// The name of the message, which is the one of its template.
    pub fn message(&self) -> &'static str {
        match self.event {
            Event::Opened if self.test => "test",
            event => event.name(),
        }
    }

    /// The summary, and before it what must not be overlooked.
    pub(crate) fn title(&self) -> String {
        let test = if self.test { "TEST: " } else { "" };
        let over = if self.event == Event::Resolved { "RESOLVED: " } else { "" };
        format!("{test}{over}{}", self.summary)
    }

    /// The same with every text in one line and every list within a bound, so that no receiver's limits are met by
    /// dropping the whole.
    pub(crate) fn bounded(&self) -> Self {
        let line = |text: &String| cut(&one_line(text), LINE_MAX).into_owned();
        let optional = |text: &Option<String>| text.as_ref().map(line);
        // Half a URL leads nowhere.
        let url = |url: &Option<String>| url.clone().filter(|url| url.len() <= URL_BYTES_MAX);
        Self {
            services: self.services.iter().take(NAMES_MAX).map(line).collect(),
            state: line(&self.state),
            summary: line(&self.summary),
            rules: self.rules.iter().take(NAMES_MAX).cloned().collect(),
            measured: optional(&self.measured),
            against: lines(&self.against),
            evidence: lines(&self.evidence),
            last_change: optional(&self.last_change),
            changed: lines(&self.changed),
            also_open: lines(&self.also_open),
            owner: optional(&self.owner),
            runbook: url(&self.runbook),
            url: url(&self.url),
            links: self
                .links
                .iter()
                .filter(|link| link.href.len() <= URL_BYTES_MAX)
                .take(LINES_MAX)
                .cloned()
                .collect(),
            ..self.clone()
        }
    }

    /// A page of which nothing is known but what every page has.
    pub(crate) fn bare() -> Self {
        let incident = "01JD6V5V6F9Z7W3R4Q2N8M0K1H";
        let at = Timestamp(1_795_230_900_000_000);
        Self {
            severity: Severity::Error,
            services: vec!["ingest".to_owned()],
            state: "open".to_owned(),
            since: Timestamp(1_795_230_892_000_000),
            summary: "ingest: we cannot see eu-west-1".to_owned(),
            ..Self::about(incident, &format!("aviary:main:{incident}"), Event::Opened, at)
        }
    }

    /// A page of which everything is known.
    pub(crate) fn full() -> Self {
        let text = |text: &str| text.to_owned();
        let matches = [(aviary_core::Tag::Protocol, text("udp"))].into();
        Self {
            event: Event::Opened,
            severity: Severity::Critical,
            summary: text("ingest: udp in every region (6/6), 100 % lost; nothing else"),
            rules: vec![Rule {
                matches: aviary_core::extent::Predicate(matches),
                except: Vec::new(),
                loss: 1.0,
                share: 1.0,
                lost: 48,
                judged: 48,
            }],
            window: Some(Sums { seconds: 8, scheduled: 48, delivered: 0, lost: 48 }),
            total: Some(Total { judged: 480, lost: 52, seconds: 9, worst: 1.0 }),
            acceptable: Some(AcceptableLoss::default()),
            vantages: Some(Share { count: 6, of: 6 }),
            questions: Questions { one_zone: Answer::No, one_protocol: Answer::Yes },
            blame: Blame::Service,
            against: vec![text("tcp and tls from the same vantage points lose nothing")],
            evidence: vec![text("confirm timeout, 40 of 48"), text("connect refused, 8 of 48")],
            last_change: Some(text("deploy ingest 4.2, 2026-11-21T03:12:00Z")),
            changed: vec![text("was us-east-1 only")],
            also_open: vec![text("billing: degraded since 2026-11-21T01:00:00Z")],
            owner: Some(text("ingest team")),
            runbook: Some(text("https://runbooks.example.com/ingest")),
            url: Some(text("https://collector.example.net/incidents/01JD6V5V6F9Z7W3R4Q2N8M0K1H")),
            links: vec![Link { text: text("graph"), href: text("https://graphs.example.com/ingest") }],
            ..Self::bare()
        }
    }
}

/// The first of these lines, and how many more there are.
pub(crate) fn lines(lines: &[String]) -> Vec<String> {
    let mut kept: Vec<String> =
        lines.iter().take(LINES_MAX).map(|line| cut(&one_line(line), ITEM_MAX).into_owned()).collect();
    if lines.len() > LINES_MAX {
        kept.push(format!("and {} more", lines.len() - LINES_MAX));
    }
    kept
}

/// An instant as people and programs read it: RFC 3339, in UTC, whole seconds.
pub fn rfc3339(at: Timestamp) -> String {
    let second =
        i64::try_from(at.second().0).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    second.unwrap_or(jiff::Timestamp::MAX).to_string()
}
