//! Incidents as judgement makes them, told to receivers that do as they are told.

mod pages;
mod real;
mod schedules;
mod sending;
mod support;

use aviary_core::{
    AcceptableLoss, Second, Tag,
    extent::{Answer, Blame, Extent, Grounds, Predicate, Questions, Rule},
    incident::{Action, Counts, Event, Firing, Incident, Incidents, Level, Observation, Observed, Policy},
    page::{Attempt, Belief, Message, Notice},
};

use super::*;

/// When it began: 2026-11-21T03:14:52Z.
const BEGAN: Second = Second(1_795_230_892);

/// Such as `region=eu,protocol=udp`; every series where it is empty.
fn predicate(text: &str) -> Predicate {
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
    Predicate(pairs.map(|(tag, value)| (tag.parse().unwrap(), value.to_owned())).collect())
}

/// A service of which nothing is lost, and which has cleared.
fn clear(service: &str) -> Observation {
    let policy = Policy {
        page_after: 8,
        owner: Some(format!("{service} team")),
        runbook: Some(format!("https://runbooks.example.com/{service}")),
        ..Policy::default()
    };
    let questions = Questions { one_zone: Answer::No, one_protocol: Answer::No };
    Observation { clear: true, questions, ..Observation::quiet(service, policy) }
}

/// A service that loses all of these series, beyond doubt.
fn lost(service: &str, rule: &str) -> Observation {
    let rule = Rule { matches: predicate(rule), except: vec![], loss: 1.0, share: 1.0, lost: 48, judged: 48 };
    Observation {
        level: Level::Full,
        firing: vec![Firing {
            seconds: 8,
            reach: 8,
            scheduled: 50,
            judged: 48,
            lost: 48,
            threshold: 4,
            acceptable: AcceptableLoss::default(),
        }],
        confirmed: true,
        clear: false,
        is_down: true,
        seen_from: 5,
        vantages: 5,
        networks: 2,
        extent: Extent { rules: vec![rule], scattered: 0.0 },
        questions: Questions { one_zone: Answer::No, one_protocol: Answer::Yes },
        blame: Blame::Service,
        summary: format!("{service}: udp in every region (6/6), 100 % lost; nothing else"),
        counts: Counts { judged: 48, lost: 48, late: 1 },
        ..clear(service)
    }
}

/// A collector's incidents, second by second.
struct Judge {
    incidents: Incidents,
    now: Second,
}

impl Judge {
    fn new() -> Self {
        Self { incidents: Incidents::new("main"), now: BEGAN }
    }

    /// Takes in an event now; what the outbox is told.
    fn step(&mut self, event: Event) -> Vec<Notice> {
        let told = |action| match action {
            Action::Tell(notice) => Some(notice),
            _ => None,
        };
        self.incidents.step(event, self.now).into_iter().filter_map(told).collect()
    }

    /// Sees the same for so many seconds; what the outbox is told in them.
    fn sees(&mut self, services: &[Observation], seconds: u64) -> Vec<Notice> {
        let mut told = Vec::new();
        for _ in 0..seconds {
            let services = services
                .iter()
                .map(|seen| match seen.level {
                    Level::Quiet => seen.clone(),
                    _ => Observation {
                        lost_seconds: vec![aviary_core::Span::before(self.now.plus(1), 1)],
                        ..seen.clone()
                    },
                })
                .collect();
            told.extend(self.step(Event::Observed(Observed { services, ..Observed::default() })));
            self.now = self.now.plus(1);
        }
        told
    }

    /// The one incident that there is.
    fn one(&self) -> &Incident {
        let mut incidents = self.incidents.iter();
        let one = incidents.next().unwrap();
        assert!(incidents.next().is_none());
        one
    }
}

/// What the outbox asks for when it tells `pager` of the newest state.
fn order(notice: &Notice, message: Message) -> Order {
    let attempt = Attempt {
        number: 0,
        message,
        revision: notice.revision,
        since: BEGAN.plus(8).start(),
        before: Belief::Nothing,
    };
    Order { id: notice.id.clone(), key: notice.key.clone(), receiver: "pager".to_owned(), attempt }
}

fn subject(incident: &Incident, taken: Option<u64>) -> Subject {
    Subject { incident: incident.clone(), taken, around: Around::default() }
}

/// The tags by which routes choose.
fn of_service(service: &str) -> std::collections::BTreeMap<Tag, std::collections::BTreeSet<String>> {
    [(Tag::Service, [service.to_owned()].into())].into()
}
