//! An incident, with everything that is known of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Cause, Counts, Firing, Flap, Id, Level, Newest, Policy, Seconds, Shape, flap::SAMPLE_SECONDS};
use crate::{
    Second, Span, Tag,
    extent::{Blame, Extent, Grounds, Predicate, Questions},
    named::named,
    page::{Change, Notice, Severity, Urgency},
};

named! {
    /// Where an incident is in its life.
    pub enum State {
        /// Something is lost, and nobody is told yet.
        Suspected = "suspected",
        /// It is there.
        Open = "open",
        /// It is there, and somebody is on it.
        Acknowledged = "acknowledged",
        /// It is there again.
        Reopened = "reopened",
        /// Nothing is lost any more, and that has yet to last.
        Recovering = "recovering",
        /// It is over.
        Resolved = "resolved",
    }
}

impl State {
    /// Whether it was opened and is not over.
    pub const fn is_active(self) -> bool {
        !matches!(self, Self::Suspected | Self::Resolved)
    }
}

/// How an incident came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The clearing test was passed.
    Recovered,
    /// What it was about is not configured any more.
    Removed,
    /// Somebody said so.
    ByHand(String),
    /// It turned out to be the same as another.
    Merged(Id),
    /// What is lost now is lost elsewhere, which is another.
    Superseded(Id),
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recovered => f.write_str("recovered"),
            Self::Removed => f.write_str("removed from the configuration, not recovered"),
            Self::ByHand(who) => write!(f, "resolved by {who}"),
            Self::Merged(id) => write!(f, "the same as incident {id}"),
            Self::Superseded(id) => write!(f, "not lost there any more: what is lost now is incident {id}"),
        }
    }
}

/// Something that happened to an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The first sign.
    Suspected,
    /// It was opened.
    Opened,
    /// It was opened again.
    Reopened,
    /// Others were told.
    Told {
        /// That it is there, or changed.
        change: Change,
        /// How bad it was.
        severity: Severity,
        /// What it was in words.
        summary: String,
    },
    /// Nothing is lost any more.
    Recovering,
    /// It was recovering, and something is lost again.
    LostAgain,
    /// It is over.
    Resolved(Resolution),
    /// Nobody can tell how it does, for this reason.
    CannotTell(String),
    /// It can be told again.
    CanTell,
    /// It comes and goes.
    Flapping,
    /// It comes and goes no more.
    FlappingEnded,
    /// These silences cover it.
    Silenced(BTreeSet<String>),
    /// No silence covers it.
    SilenceEnded,
    /// A service is touched too.
    Joined(String),
    /// A service is not touched any more.
    Left(String),
    /// Another incident turned out to be the same.
    Absorbed(Id),
    /// It became part of a storm.
    InStorm(Id),
    /// It was told late that these seconds were lost.
    Late(Vec<Span>),
    /// Somebody is on it.
    Acknowledged(String),
    /// A node was taken out of rotation or came back, or would have been, or was not: which and why, in words.
    Steered(String),
}

/// What was seen in a second: of the one in which something passed the gates, why it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// When.
    pub at: Second,
    /// For how many seconds it had held.
    pub held: u64,
    /// What the windows said.
    pub level: Level,
    /// The windows that fired, the strongest first.
    pub windows: Vec<Firing>,
    /// So many vantages agreed.
    pub vantages: usize,
    /// In so many networks.
    pub networks: usize,
    /// Where loss was.
    pub extent: Extent,
    /// Whose fault it looked like.
    pub blame: Blame,
    /// Why it looked so, and what spoke against it.
    pub grounds: Grounds,
    /// The extent in words.
    pub summary: String,
}

/// What an incident does to one service; or, where it is not of loss, whatever it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The services: the one that loses, or those that the cause touches.
    pub services: BTreeSet<String>,
    /// What they want to be told of.
    pub policy: Policy,
    /// In words.
    pub summary: String,
    /// It has passed the gates; before that, others are not told of it.
    pub is_in: bool,
    /// Why, when it did.
    pub evidence: Option<Evidence>,
    /// What was seen when most was lost a second.
    pub worst: Option<Evidence>,
    /// What was measured of what is no loss, in a sentence or two.
    pub measured: Option<String>,
    /// It has passed the gates in the newest second.
    pub is_ready: bool,
    /// When it began.
    pub since: Second,
    /// When it was last seen.
    pub seen: Second,
    /// For how many seconds it has held without a break that was seen.
    pub held: u64,
    /// It is lost, or holds.
    pub is_lost: bool,
    /// Since when it is not or does not, where it was or did.
    pub quiet_since: Second,
    /// The clearing test was passed.
    pub is_clear: bool,
    /// Nobody can tell, for this reason.
    pub blind: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// When it was last as bad as that, or worse.
    pub severe: Second,
    /// Where loss is.
    pub extent: Extent,
    /// What is asked first.
    pub questions: Option<Questions>,
    /// Whose fault it looks like.
    pub blame: Blame,
    /// Why it looks so, and what speaks against it.
    pub grounds: Grounds,
    /// The extent that it is known by.
    pub shape: Shape,
    /// Another extent, and since when: it counts once it has lasted.
    pub candidate: Option<(Shape, Second)>,
    /// What the windows said last.
    pub level: Level,
    /// From so many vantages more was lost then than is acceptable.
    pub seen_from: usize,
    /// So many vantages agreed then, and in so many networks.
    pub agreeing: (usize, usize),
    /// The windows that fired last, the strongest first.
    pub windows: Vec<Firing>,
    /// What was counted.
    pub counts: Counts,
    /// The seconds with loss.
    pub lost_seconds: Seconds,
}

impl Part {
    /// It passed the gates, with what it is now as the reason.
    pub(super) fn admit(&mut self, now: Second) {
        self.is_in = true;
        self.evidence = Some(self.as_seen(now));
    }

    /// Keeps what is lost now if that is the most until now; of as much, the newest knows best where.
    pub(super) fn note_worst(&mut self, now: Second) {
        let rate = |windows: &[Firing]| windows.first().map_or(0.0, Firing::lost_per_second);
        if self.worst.as_ref().is_none_or(|worst| rate(&self.windows) >= rate(&worst.windows)) {
            self.worst = Some(self.as_seen(now));
        }
    }

    fn as_seen(&self, now: Second) -> Evidence {
        Evidence {
            at: now,
            held: self.held,
            level: self.level,
            windows: self.windows.clone(),
            vantages: self.agreeing.0,
            networks: self.agreeing.1,
            extent: self.extent.clone(),
            blame: self.blame,
            grounds: self.grounds.clone(),
            summary: self.summary.clone(),
        }
    }

    fn sick_agent(&self) -> Option<&str> {
        self.shape.sick_agent(self.blame)
    }

    /// The share that is lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.windows.first().map_or(0.0, Firing::loss)
    }
}

/// What others know of an incident: it is told again when this changes materially.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When.
    pub at: Second,
    /// How bad it was.
    pub severity: Severity,
    /// Whom it could wake.
    pub urgency: Urgency,
    /// Where it was, by what its parts are known by.
    pub shapes: BTreeMap<String, Shape>,
    /// The greatest share that was lost in a window until then.
    pub loss: f64,
    /// Whether nobody could tell how it did.
    pub is_blind: bool,
    /// Whether it came and went.
    pub is_flapping: bool,
    /// How many times its children had doubled.
    pub doublings: u32,
}

/// Somebody is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// When.
    pub at: Second,
    /// Who.
    pub by: String,
}

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: Second,
    /// Who.
    pub by: String,
    /// What.
    pub text: String,
}

/// What a receiver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When.
    pub at: Second,
    /// Which receiver.
    pub receiver: String,
    /// What.
    pub text: String,
}

/// Reopenings are counted for so long: six hours.
const REOPENS_SECONDS: u64 = 21_600;

/// So many incidents are named as what a storm is made of.
pub const CHILDREN_MAX: usize = 1_024;

/// An incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// By what it is known.
    pub id: Id,
    /// Its one key at every receiver.
    pub key: String,
    /// What it is about.
    pub cause: Cause,
    /// Where it is in its life.
    pub state: State,
    /// When it began.
    pub since: Second,
    /// When it was first opened.
    pub opened: Option<Second>,
    /// When it was reopened.
    pub reopened: Vec<Second>,
    /// When it came to its end.
    pub resolved: Option<Second>,
    /// How.
    pub resolution: Option<Resolution>,
    /// Somebody resolved it, and it has not ended since.
    pub is_hushed: bool,
    /// Nobody can tell how it does.
    pub is_blind: bool,
    /// Counts what others were told.
    pub revision: u64,
    /// What others know.
    pub told: Option<Told>,
    /// What it does to each service.
    pub parts: BTreeMap<String, Part>,
    /// The receivers that hold its alert already, from an agent that was cut off.
    pub held_by: BTreeSet<String>,
    /// The silences that cover it.
    pub silenced_by: BTreeSet<String>,
    /// The storm that it is part of.
    pub storm: Option<Id>,
    /// If it is a storm: the first [`CHILDREN_MAX`] that it is made of.
    pub children: BTreeSet<Id>,
    /// How many there are.
    pub children_total: u64,
    /// When the last child came.
    pub grown: Second,
    /// Whether it comes and goes.
    pub flap: Flap,
    /// Who is on it.
    pub acknowledgements: Newest<Acknowledgement>,
    /// What was said of it.
    pub notes: Newest<Note>,
    /// What receivers said.
    pub receipts: Newest<Receipt>,
    /// What happened to it, and when.
    pub timeline: Newest<(Second, Happened)>,
    /// When it was last handed out to be kept.
    pub saved: Second,
}

impl Incident {
    /// The parts that others are told of.
    pub fn parts(&self) -> impl Iterator<Item = (&String, &Part)> {
        self.parts.iter().filter(|(_, part)| part.is_in)
    }

    pub(super) fn is_opened_loss_of(&self, service: &str) -> bool {
        self.cause == Cause::Loss && self.opened.is_some() && self.parts.contains_key(service)
    }

    /// The services that it touches.
    pub fn services(&self) -> BTreeSet<&str> {
        self.parts().flat_map(|(_, part)| part.services.iter().map(|service| &**service)).collect()
    }

    /// How bad it is: as its worst part.
    pub fn severity(&self) -> Severity {
        self.parts().map(|(_, part)| part.severity).max().unwrap_or(Severity::Info)
    }

    /// Whom it may wake. Once somebody was woken, it stays so.
    pub fn urgency(&self) -> Urgency {
        let urgency = if self.sick_agent().is_some() { Urgency::Ticket } else { self.cause.urgency() };
        self.told.as_ref().map_or(urgency, |told| told.urgency.max(urgency))
    }

    /// The agent that is all that loses, and itself or the way from it to blame.
    pub fn sick_agent(&self) -> Option<&str> {
        let mut parts = self.parts().map(|(_, part)| part).filter(|_| self.cause == Cause::Loss);
        let node = parts.next()?.sick_agent()?;
        parts.all(|part| part.sick_agent().is_some()).then_some(node)
    }

    /// Messages go to the log only: every service wants it so.
    pub fn is_shadow(&self) -> bool {
        self.parts().next().is_some() && self.parts().all(|(_, part)| part.policy.shadow)
    }

    /// Why nobody can tell how it does, where nobody can.
    pub fn blind(&self) -> Option<&str> {
        self.parts().find_map(|(_, part)| part.blind.as_deref())
    }

    /// The part that speaks for it: of the worst, the first that is lost still.
    pub fn worst(&self) -> Option<&Part> {
        let rank = |part: &Part| (part.severity, part.is_lost);
        self.parts().map(|(_, part)| part).reduce(
            |worst, part| {
                if rank(part) > rank(worst) { part } else { worst }
            },
        )
    }

    /// The first line of a page: what its worst part says, and which services there are beside. Of what is over, what it was
    /// at its worst, and not what was left of it.
    pub fn summary(&self) -> String {
        let Some(worst) = self.worst() else { return String::new() };
        let then = worst.worst.as_ref().filter(|_| self.state == State::Resolved);
        let summary = then.map_or(&worst.summary, |then| &then.summary);
        let mut others = self.services();
        others.retain(|service| !worst.services.contains(*service));
        let others: Vec<&str> = others.into_iter().collect();
        match &others[..] {
            [] => summary.clone(),
            _ => format!("{summary}; and so {}", others.join(", ")),
        }
    }

    /// Takes the step that its parts ask for. Whether it recovered.
    pub(super) fn advance(&mut self, now: Second) -> bool {
        let is_over = self.state == State::Resolved;
        let is_lost = !is_over && self.parts().any(|(_, part)| part.is_lost);
        let was_flapping = self.flap.is_flapping;
        self.flap.sample(now.0 / SAMPLE_SECONDS, is_lost);
        if is_over {
            return false;
        }
        if self.flap.is_flapping != was_flapping {
            self.happened(now, if was_flapping { Happened::FlappingEnded } else { Happened::Flapping });
        }
        let blind = self.blind().map(str::to_owned);
        if blind.is_some() != self.is_blind {
            self.is_blind = blind.is_some();
            self.happened(now, blind.map_or(Happened::CanTell, Happened::CannotTell));
        }
        if is_lost && self.state == State::Recovering {
            self.state = self.standing();
            self.happened(now, Happened::LostAgain);
        }
        if is_lost || self.is_blind {
            return false;
        }
        if self.state != State::Recovering {
            self.state = State::Recovering;
            self.happened(now, Happened::Recovering);
        }
        // What is not seen in this second did not pass the test now, and may be lost again.
        let is_clear = self.parts().all(|(_, part)| part.is_clear && part.seen == now);
        is_clear && !self.flap.is_flapping
    }

    /// What the outbox is told.
    pub(super) fn notice(&self, change: Change) -> Notice {
        let mut tags: BTreeMap<Tag, BTreeSet<String>> = BTreeMap::new();
        let services = self.services().into_iter().map(str::to_owned);
        tags.entry(Tag::Service).or_default().extend(services);
        for (_, part) in self.parts() {
            for (tag, value) in part.shape.predicates().flat_map(|predicate| &predicate.0) {
                tags.entry(*tag).or_default().insert(value.clone());
            }
        }
        Notice {
            id: self.id.clone(),
            key: self.key.clone(),
            revision: self.revision,
            reopens: u32::try_from(self.reopened.len()).unwrap_or(u32::MAX),
            change,
            urgency: self.urgency(),
            severity: self.severity(),
            tags,
            shadow: self.is_shadow(),
            held_by: self.held_by.clone(),
        }
    }

    /// A first sign of something, at `now`.
    pub(super) fn suspected(id: Id, key: String, cause: Cause, now: Second) -> Self {
        let mut incident = Self {
            id,
            key,
            cause,
            state: State::Suspected,
            since: now,
            opened: None,
            reopened: Vec::new(),
            resolved: None,
            resolution: None,
            is_hushed: false,
            is_blind: false,
            revision: 0,
            told: None,
            parts: BTreeMap::new(),
            held_by: BTreeSet::new(),
            silenced_by: BTreeSet::new(),
            storm: None,
            children: BTreeSet::new(),
            children_total: 0,
            grown: now,
            flap: Flap::default(),
            acknowledgements: Newest::default(),
            notes: Newest::default(),
            receipts: Newest::default(),
            timeline: Newest::default(),
            saved: now,
        };
        incident.happened(now, Happened::Suspected);
        incident
    }

    /// When it was opened, the last time that it was.
    pub fn opened_last(&self) -> Option<Second> {
        self.reopened.last().copied().or(self.opened)
    }

    /// The state of one that is there.
    pub(super) fn standing(&self) -> State {
        let opened = self.opened_last().unwrap_or(self.since);
        match self.acknowledgements.kept.back() {
            Some(last) if last.at >= opened => State::Acknowledged,
            _ if self.reopened.is_empty() => State::Open,
            _ => State::Reopened,
        }
    }

    /// How often it was reopened within the last six hours, up to five: so often is the clearing test's length doubled.
    pub fn doublings(&self, now: Second) -> u32 {
        let recent = self.reopened.iter().filter(|at| now.0.saturating_sub(at.0) < REOPENS_SECONDS);
        recent.take(5).count() as u32
    }

    /// The series that it is about, as silences are held against them.
    pub(super) fn causes(&self) -> Vec<Predicate> {
        if self.cause != Cause::Loss {
            return vec![self.cause.predicate()];
        }
        let mut causes = Vec::new();
        for (service, part) in self.parts() {
            let of_service = |mut predicate: Predicate| {
                predicate.0.insert(Tag::Service, service.clone());
                predicate
            };
            if part.shape.0.is_empty() {
                causes.push(of_service(Predicate::default()));
            }
            causes.extend(part.shape.predicates().cloned().map(of_service));
        }
        causes
    }

    /// Takes in what somebody says of it, also long after its end.
    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    pub(super) fn happened(&mut self, now: Second, what: Happened) {
        self.timeline.push((now, what));
    }
}
