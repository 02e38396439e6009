//! What is seen in a second: all that the machine judges by, as plain data.

use std::fmt;

use crate::{
    AcceptableLoss, Phase, Second, Span, Tag, VantageKind,
    extent::{Blame, Extent, Grounds, Predicate, Questions},
    named::named,
    page::{Severity, Urgency},
    silence::InForce,
};

/// What a service wants to be told of, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For how many seconds loss must hold. 0: at once, without the gates for vantages and bursts.
    pub page_after: u64,
    /// How bad it is if half or more is lost.
    pub down: Severity,
    /// How bad it is if less is lost, and more than is acceptable.
    pub degraded: Severity,
    /// How bad it is if nobody can tell.
    pub blind: Severity,
    /// Of so many vantages that agree the burst need not be waited out; at least two.
    pub min_vantages: usize,
    /// Whose it is.
    pub owner: Option<String>,
    /// What to do.
    pub runbook: Option<String>,
    /// Everything happens, and messages go to the log only.
    pub shadow: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            page_after: 10,
            down: Severity::Critical,
            degraded: Severity::Warning,
            blind: Severity::Error,
            min_vantages: 1,
            owner: None,
            runbook: None,
            shadow: false,
        }
    }
}

/// A window that fires: more is lost in it than chance and the acceptable loss explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// Its length.
    pub seconds: u64,
    /// So much of it lies in the life of its series.
    pub reach: u64,
    /// Slots of the plan in it.
    pub scheduled: u64,
    /// Delivered and lost ones.
    pub judged: u64,
    /// Lost ones.
    pub lost: u64,
    /// So many lost ones fire.
    pub threshold: u64,
    /// What may be lost.
    pub acceptable: AcceptableLoss,
}

impl Firing {
    /// The share that is lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        if self.judged == 0 { 0.0 } else { self.lost as f64 / self.judged as f64 }
    }

    /// How many slots are lost in a second of it.
    pub(super) fn lost_per_second(&self) -> f64 {
        self.lost as f64 / self.seconds.max(1) as f64
    }
}

named! {
    /// What the windows of a service say of loss.
    pub enum Level {
        /// None fires.
        Quiet = "quiet",
        /// Some fire, and it may be no more than a burst of the kind that is usual here.
        Suspected = "suspected",
        /// Some fire, and no usual burst explains it.
        Full = "full",
    }
}

/// Whether a service can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It can.
    Measured,
    /// It cannot: neither loss nor recovery can be told.
    CannotTell {
        /// Why.
        reason: String,
        /// Of what.
        unseen: Unseen,
    },
}

/// Of what nobody can tell how it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// A region: nobody reports from there, which is an incident of its own.
    Region,
    /// What of the service is reported is too little.
    Reports,
    /// What of the service is stored cannot be read.
    Storage,
}

/// What was counted since the onset of an incident, as the ledger has it by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Delivered and lost slots.
    pub judged: u64,
    /// Lost slots.
    pub lost: u64,
    /// Lost slots that were found stored afterwards.
    pub late: u64,
}

/// What is seen of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Of which.
    pub service: String,
    /// What it wants to be told of.
    pub policy: Policy,
    /// Whether it can be judged.
    pub sight: Sight,
    /// It, or whoever judges it, is too young to be trusted.
    pub is_starting: bool,
    /// What its windows say.
    pub level: Level,
    /// Those that fire, the strongest first.
    pub firing: Vec<Firing>,
    /// The short window says so too: it is lost now, and not only was.
    pub confirmed: bool,
    /// The clearing test that [`super::Incidents::clearing`] asks for is passed: enough was judged, and no more than is
    /// acceptable was lost.
    pub clear: bool,
    /// Half or more is lost.
    pub is_down: bool,
    /// From so many vantages more is lost than is acceptable.
    pub seen_from: usize,
    /// So many vantages agree that it is lost; one, where it may be the fault of one.
    pub vantages: usize,
    /// In so many networks.
    pub networks: usize,
    /// Since when it is lost without a break, as far as its strongest window tells; none where nothing is.
    pub onset: Option<Second>,
    /// Where loss is.
    pub extent: Extent,
    /// Of each of its rules, from which kind of vantage all of it is; none where it is from several, or there is but one kind.
    pub kinds: Vec<Option<VantageKind>>,
    /// What is asked first.
    pub questions: Questions,
    /// Whose fault it looks like.
    pub blame: Blame,
    /// Why it looks so, and what speaks against it.
    pub grounds: Grounds,
    /// The extent in words.
    pub summary: String,
    /// What was counted since the onset, see [`super::Incidents::clearing`].
    pub counts: Counts,
    /// Seconds with lost slots that were not told before.
    pub lost_seconds: Vec<Span>,
}

impl Observation {
    /// A service that can be judged and of which nothing is lost; nor has it cleared.
    pub fn quiet(service: &str, policy: Policy) -> Self {
        Self {
            service: service.to_owned(),
            policy,
            sight: Sight::Measured,
            is_starting: false,
            level: Level::Quiet,
            firing: Vec::new(),
            confirmed: false,
            clear: false,
            is_down: false,
            seen_from: 0,
            vantages: 0,
            networks: 0,
            onset: None,
            extent: Extent::default(),
            kinds: Vec::new(),
            questions: Questions::UNASKED,
            blame: Blame::Unclear,
            grounds: Grounds::default(),
            summary: String::new(),
            counts: Counts::default(),
            lost_seconds: Vec::new(),
        }
    }

    /// How bad what is lost is, by the service's policy.
    pub const fn severity(&self) -> Severity {
        if self.is_down { self.policy.down } else { self.policy.degraded }
    }
}

/// What an incident is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// More is lost than is acceptable. Which loss it is, the extents of its parts tell.
    Loss,
    /// Nobody can tell how a service does.
    Blind {
        /// Which service.
        service: String,
    },
    /// Nobody reports from a region.
    SilentRegion {
        /// Which region.
        region: String,
    },
    /// An endpoint of which no slot was ever delivered.
    NeverWorked {
        /// Of which service.
        service: String,
        /// Its URL.
        endpoint: String,
    },
    /// An endpoint that is not required loses more than is acceptable.
    Optional {
        /// Of which service.
        service: String,
        /// Its URL.
        endpoint: String,
    },
    /// An agent that fails its own controls: what it says is set apart.
    SickAgent {
        /// Its node.
        node: String,
    },
    /// A phase takes longer than it should.
    Slow {
        /// Of which service.
        service: String,
        /// Which phase.
        phase: Phase,
    },
    /// A certificate that ends soon.
    Certificate {
        /// Of which service.
        service: String,
        /// The endpoint that shows it.
        endpoint: String,
    },
    /// Bad nodes of a service stay in rotation, since more would have to go than may.
    NotEjected {
        /// Of which service.
        service: String,
    },
    /// A node was taken out of rotation too often in a day.
    Ejected {
        /// Of which service.
        service: String,
        /// Which node.
        node: String,
    },
    /// More incidents than anybody can read.
    Storm,
}

/// Such as `certificate service=ingest,endpoint=tls://h:1`: what tells it from every other, but for loss.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let predicate = self.predicate();
        for (place, (tag, value)) in predicate.0.iter().enumerate() {
            write!(f, "{}{tag}={value}", if place == 0 { ' ' } else { ',' })?;
        }
        match self {
            Self::Slow { phase, .. } => write!(f, ",phase={phase}"),
            // The service's node, which is not a vantage's.
            Self::Ejected { node, .. } => write!(f, ",ejected={node}"),
            _ => Ok(()),
        }
    }
}

impl Cause {
    /// The one spelling of its kind.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Blind { .. } => "blind",
            Self::SilentRegion { .. } => "silent_region",
            Self::NeverWorked { .. } => "never_worked",
            Self::Optional { .. } => "optional",
            Self::SickAgent { .. } => "sick_agent",
            Self::Slow { .. } => "slow",
            Self::Certificate { .. } => "certificate",
            Self::NotEjected { .. } => "not_ejected",
            Self::Ejected { .. } => "ejected",
            Self::Storm => "storm",
        }
    }

    /// Whom it may wake.
    pub const fn urgency(&self) -> Urgency {
        match self {
            Self::Loss | Self::Blind { .. } | Self::SilentRegion { .. } | Self::Storm => Urgency::Page,
            Self::NotEjected { .. } | Self::Ejected { .. } => Urgency::Page,
            Self::NeverWorked { .. }
            | Self::SickAgent { .. }
            | Self::Slow { .. }
            | Self::Certificate { .. } => Urgency::Ticket,
            Self::Optional { .. } => Urgency::Information,
        }
    }

    /// The series that it is about, where its name tells.
    pub fn predicate(&self) -> Predicate {
        let tags: &[(Tag, &String)] = match self {
            Self::Loss | Self::Storm => &[],
            Self::Blind { service }
            | Self::Slow { service, .. }
            | Self::NotEjected { service }
            | Self::Ejected { service, .. } => &[(Tag::Service, service)],
            Self::SilentRegion { region } => &[(Tag::Region, region)],
            Self::SickAgent { node } => &[(Tag::Node, node)],
            Self::NeverWorked { service, endpoint }
            | Self::Optional { service, endpoint }
            | Self::Certificate { service, endpoint } => {
                &[(Tag::Service, service), (Tag::Endpoint, endpoint)]
            }
        };
        Predicate(tags.iter().map(|(tag, value)| (*tag, (*value).clone())).collect())
    }
}

/// Something that holds or does not: all causes but loss. What is not listed in a second cannot be told then, and leaves
/// its incident as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What.
    pub cause: Cause,
    /// Whether it holds.
    pub holds: bool,
    /// For how many seconds it must hold.
    pub after: u64,
    /// How bad it is.
    pub severity: Severity,
    /// The services that it touches.
    pub services: Vec<String>,
    /// In words.
    pub summary: String,
    /// What was measured, in a sentence or two; none where nothing could be.
    pub measured: Option<String>,
    /// Whose fault it looks like.
    pub blame: Blame,
    /// Whose it is.
    pub owner: Option<String>,
    /// What to do.
    pub runbook: Option<String>,
    /// Messages go to the log only.
    pub shadow: bool,
}

/// From so many days before its end on, a certificate is a ticket, unless another number is set.
pub const CERTIFICATE_DAYS: i64 = 21;

/// From so many days before its end on, a certificate is an error, unless another number is set.
pub const CERTIFICATE_DAYS_LAST: i64 = 7;

impl Condition {
    /// What the end of a certificate, so many days from now, means to a service, to which it is a warning from so many days
    /// before it on, and an error from so many.
    pub fn certificate(
        service: &str,
        policy: &Policy,
        endpoint: &str,
        days: i64,
        (warning, error): (i64, i64),
    ) -> Self {
        let summary = match days {
            ..0 => format!("{service}: the certificate of {endpoint} has ended"),
            0 => format!("{service}: the certificate of {endpoint} ends today"),
            1 => format!("{service}: the certificate of {endpoint} ends tomorrow"),
            _ => format!("{service}: the certificate of {endpoint} ends in {days} days"),
        };
        Self {
            cause: Cause::Certificate { service: service.to_owned(), endpoint: endpoint.to_owned() },
            holds: days <= warning,
            after: 0,
            severity: if days <= error { Severity::Error } else { Severity::Warning },
            services: vec![service.to_owned()],
            summary,
            measured: Some(
                "Our own handshakes show when it ends; of what arrives it says nothing.".to_owned(),
            ),
            blame: Blame::Service,
            owner: policy.owner.clone(),
            runbook: policy.runbook.clone(),
            shadow: policy.shadow,
        }
    }
}

/// What is seen in a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Of each service that is judged.
    pub services: Vec<Observation>,
    /// What else holds or does not.
    pub conditions: Vec<Condition>,
    /// The silences in force.
    pub silences: Vec<InForce>,
}

/// What happens to incidents.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A second was judged.
    Observed(Observed),
    /// Somebody is on it.
    Acknowledged {
        /// Which incident.
        id: super::Id,
        /// Who.
        by: String,
    },
    /// Somebody says something of it.
    Noted {
        /// Which incident.
        id: super::Id,
        /// Who.
        by: String,
        /// What.
        text: String,
    },
    /// Somebody says that it is over. Loss that goes on is not told again until it ended once.
    Resolved {
        /// Which incident.
        id: super::Id,
        /// Who.
        by: String,
    },
    /// A receiver took or refused a message.
    Receipt {
        /// Of which incident.
        id: super::Id,
        /// Which receiver.
        receiver: String,
        /// What it said.
        text: String,
    },
    /// It was told late that slots of a service were lost: what is known is set right, and nothing opens.
    Late {
        /// Of which service.
        service: String,
        /// When.
        lost_seconds: Vec<Span>,
        /// What was counted since the onset, as the ledger has it by now.
        counts: Counts,
    },
    /// Something was done with a service's nodes, or was not: it is noted with the loss of that service, the newest one, and
    /// with what is told of such a node, or of nodes that were not left out.
    Steered {
        /// Of which service.
        service: String,
        /// With which nodes.
        nodes: Vec<String>,
        /// What, in words.
        text: String,
    },
    /// An agent that was cut off paged by itself.
    Paged(super::Fallback),
    /// A service, region, node or endpoint is not configured any more.
    Removed {
        /// Which kind.
        tag: Tag,
        /// Which.
        value: String,
    },
}

/// How the clearing test of a service is to be run: over max(60 s, 6.9 / (series * loss), `at_least`), so that loss of
/// that share hides for so long with a probability below one in a thousand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clearing {
    /// Since when the incident is counted.
    pub since: Second,
    /// The share that was lost in the window that told it strongest.
    pub loss: f64,
    /// At least so many seconds: 30, doubled at each reopening.
    pub at_least: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::tests::predicate;

    #[test]
    fn a_cause_is_told_from_every_other() {
        let (service, endpoint) = ("a".to_owned(), "tcp://h:1".to_owned());
        let table = [
            (Cause::Loss, "loss", ""),
            (Cause::Blind { service: service.clone() }, "blind service=a", "service=a"),
            (
                Cause::Optional { service: service.clone(), endpoint },
                "optional endpoint=tcp://h:1,service=a",
                "service=a,endpoint=tcp://h:1",
            ),
            (Cause::Slow { service, phase: Phase::Tls }, "slow service=a,phase=tls", "service=a"),
            (Cause::SilentRegion { region: "eu".to_owned() }, "silent_region region=eu", "region=eu"),
        ];
        for (cause, text, tags) in table {
            assert_eq!((cause.to_string().as_str(), cause.predicate()), (text, predicate(tags)));
        }
    }
}
