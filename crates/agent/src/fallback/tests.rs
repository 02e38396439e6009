use aviary_core::{Fault, Phase, Vantage, VantageKind};
use aviary_wire::report::RosterSeries;

use super::*;

const LOST: Outcome = Outcome::Lost { phase: Phase::Connect, fault: Fault::Refused };
const TAKEN: Outcome = Outcome::Delivered(Evidence::PeerClosed);
const TOOK: Sent = Sent::Taken { say_again: None };
const AWAY: Sent = Sent::NotTaken { retry_after: None };
const HUNG: Sent = Sent::Unknown { retry_after: None };
const UDP: Outcome = Outcome::Delivered(Evidence::Sent);

/// What is sent or reported, in a word; what is merely kept is no news.
fn words(actions: &[Action]) -> Vec<&'static str> {
    let word = |action: &Action| match action {
        Action::Keep => None,
        Action::Send { alert, .. } => Some(if alert.closed_us.is_some() { "resolve" } else { "page" }),
        Action::Report { .. } => Some("report"),
        Action::Unheard { .. } => Some("unheard"),
    };
    actions.iter().filter_map(word).collect()
}

/// An agent of three series, the last of which is not required, in a world of its own.
struct World {
    fallback: Fallback,
    now: u64,
    cut_off: Option<u64>,
    is_suspect: bool,
    /// What each series does in a second.
    outcomes: [Outcome; 3],
    /// What the receiver answers.
    answer: Sent,
    said: Vec<(u64, &'static str)>,
}

const AFTER: u64 = 30;

impl World {
    fn new() -> Self {
        Self::living(Kept::default())
    }

    fn living(kept: Kept) -> Self {
        let mut world = Self {
            fallback: Fallback::new(kept, AFTER),
            now: 1_000,
            cut_off: None,
            is_suspect: false,
            outcomes: [TAKEN; 3],
            answer: TOOK,
            said: Vec::new(),
        };
        world.assign();
        world
    }

    fn assign(&mut self) {
        let endpoints = ["tcp://h:1", "udp://h:1", "tcp://h:9"];
        let series = endpoints.map(|endpoint| RosterSeries {
            service: "ingest".to_owned(),
            endpoint: endpoint.parse().unwrap(),
            address: None,
            name: endpoint.to_owned(),
            from: Second(self.now),
        });
        let vantage = Vantage {
            kind: VantageKind::External,
            region: "r".to_owned(),
            zone: None,
            network: None,
            node: "n".to_owned(),
        };
        let roster = Roster { vantage, since: Second(self.now), series: series.into() };
        let optional = [endpoints[2].parse().unwrap()].into();
        let watched = [("ingest".to_owned(), Watched { grace: 60, optional })].into();
        self.fallback.assign(&roster, &watched, Second(self.now));
    }

    /// The same agent after a kill: only what was kept is left.
    fn restart(&mut self) {
        let kept = self.fallback.kept().clone();
        self.fallback = Fallback::new(kept, AFTER);
        self.assign();
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.second();
        }
        self
    }

    fn second(&mut self) {
        self.now += 1;
        for (series, outcome) in self.outcomes.iter().enumerate() {
            self.fallback.observe(series as u32, Second(self.now - 1), outcome);
        }
        let reach = match self.cut_off {
            Some(since) => Reach::Silent { since: Second(since).start(), from: Micros(since * SECOND_US) },
            None => Reach::Answered,
        };
        let monotonic = Micros(self.now * SECOND_US);
        let actions = self.fallback.step((Second(self.now).start(), monotonic), reach, self.is_suspect);
        for action in &actions {
            self.said.extend(words(std::slice::from_ref(action)).into_iter().map(|word| (self.now, word)));
            if let Action::Send { service, .. } = action {
                let answer = self.answer.clone();
                let after = self.fallback.sent(service, &answer, monotonic);
                self.said.extend(words(&after).into_iter().map(|word| (self.now, word)));
            }
        }
    }

    fn outage(&mut self) {
        self.outcomes = [LOST, UDP, TAKEN];
        self.cut_off = Some(self.now);
    }

    fn said(&self) -> Vec<&'static str> {
        self.said.iter().map(|(_, word)| *word).collect()
    }
}

#[test]
fn it_pages_only_where_all_of_it_holds() {
    type Change = fn(&mut World);
    let table: [(&str, Change, bool); 9] = [
        ("cut off, and all lost that shows anything", |_| (), true),
        ("a collector answers", |world| world.cut_off = None, false),
        ("its controls fail too", |world| world.is_suspect = true, false),
        ("a required endpoint is delivered", |world| world.outcomes[1] = TAKEN, false),
        ("one that is not required is lost too", |world| world.outcomes[2] = LOST, true),
        (
            "the agent's own fault",
            |world| {
                world.outcomes[0] =
                    Outcome::Local { phase: Phase::Connect, fault: aviary_core::LocalFault::NoRoute }
            },
            false,
        ),
        ("datagrams show nothing", |world| world.outcomes[0] = UDP, false),
        ("refused datagrams do", |world| world.outcomes[1] = LOST, true),
        ("not probed", |world| world.outcomes[0] = Outcome::Missed, false),
    ];
    for (name, change, pages) in table {
        let mut world = World::new();
        world.run(100).outage();
        change(&mut world);
        world.run(300);
        let expected: &[&str] = if pages { &["page", "report"] } else { &[] };
        assert_eq!(world.said(), expected, "{name}");
    }
}

#[test]
fn it_waits_until_both_have_lasted_and_the_agent_is_old_enough() {
    let mut world = World::new();
    world.run(100).outage();
    let began = world.now;
    world.run(100);
    let told = world.said[0].0 - began;
    assert!((AFTER..=AFTER + SETTLED_SECONDS + 1).contains(&told), "after {told} s");
    let alert = &world.fallback.kept().alerts["ingest"];
    assert_eq!((alert.since, alert.cut_off), (began, began), "since when is said");

    let mut young = World::new();
    young.run(10).outage();
    young.run(49);
    assert_eq!(young.said(), [""; 0], "its grace is not over");
    young.run(5);
    assert_eq!(young.said(), ["page", "report"]);

    let mut never = World::new();
    never.outage();
    never.outcomes[1] = LOST;
    never.run(300);
    assert_eq!(never.said(), [""; 0], "what never worked is no outage");
}

#[test]
fn an_outage_is_one_page_and_one_end_across_any_restart() {
    for restarts_each in [0, 1, 7, 40] {
        let mut world = World::new();
        world.run(100).outage();
        let live = |world: &mut World, seconds: u64| {
            for _ in 0..seconds {
                world.second();
                if restarts_each > 0 && world.now.is_multiple_of(restarts_each) {
                    world.restart();
                }
            }
        };
        live(&mut world, AFTER + 10);
        if restarts_each != 0 {
            // One that is born anew all the time learns nothing; this one has been told.
            world.run(120);
        }
        let pages = |world: &World| world.said().iter().filter(|word| **word == "page").count();
        assert_eq!(pages(&world), 1, "{restarts_each}: {:?}", world.said);
        world.run(100);
        world.outcomes = [TAKEN; 3];
        live(&mut world, 59);
        world.run(100);
        let resolves = world.said().iter().filter(|word| **word == "resolve").count();
        assert_eq!((pages(&world), resolves), (1, 1), "{restarts_each}: {:?}", world.said);
        assert!(world.fallback.kept().alerts.is_empty());
    }
}

#[test]
fn it_is_tried_until_it_is_taken_and_no_longer_than_it_holds() {
    let mut world = World::new();
    world.answer = AWAY;
    world.run(100).outage();
    world.run(300);
    let tries: Vec<u64> = world.said.iter().map(|(at, _)| *at).collect();
    let pauses: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(&pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
    world.outcomes = [TAKEN; 3];
    world.answer = TOOK;
    let before = world.said.len();
    world.run(200);
    assert_eq!(world.said.len(), before, "nobody was told that it was there, and nobody that it is over");

    let mut maybe = World::new();
    maybe.answer = HUNG;
    maybe.run(100).outage();
    maybe.run(60);
    maybe.outcomes = [TAKEN; 3];
    maybe.answer = TOOK;
    maybe.run(200);
    assert_eq!(maybe.said().last(), Some(&"resolve"), "what may have arrived must not stay open");
    assert!(maybe.fallback.kept().alerts.is_empty());

    let mut refused = World::new();
    refused.answer = Sent::Refused("no".to_owned());
    refused.run(100).outage();
    refused.run(300);
    assert_eq!(refused.said(), ["page", "unheard"]);
    refused.restart();
    refused.answer = TOOK;
    refused.run(100);
    assert_eq!(
        refused.said(),
        ["page", "unheard", "page", "report"],
        "another life may have another receiver"
    );
}

#[test]
fn a_collector_that_is_back_has_it_from_then_on() {
    let mut world = World::new();
    world.run(100).outage();
    world.run(60);
    assert_eq!(world.said(), ["page", "report"]);
    world.cut_off = None;
    world.fallback.adopted(&key("another"));
    world.fallback.adopted(&key("ingest"));
    world.run(60);
    world.outage();
    world.run(100);
    assert_eq!(world.said(), ["page", "report"], "cut off again in the same outage");
    world.restart();
    world.outcomes = [TAKEN; 3];
    world.run(200);
    assert_eq!(world.said(), ["page", "report"], "the end is the collector's to tell");
    world.outage();
    world.run(60);
    assert_eq!(world.said(), ["page", "report", "page", "report"], "another outage is another page");

    let mut alone = World::new();
    alone.run(100).outage();
    alone.run(60);
    alone.cut_off = None;
    alone.run(60);
    alone.restart();
    alone.run(1);
    assert_eq!(alone.said(), ["page", "report", "report"], "nobody knows whether it was reported");
    alone.outcomes = [TAKEN; 3];
    alone.run(100);
    assert_eq!(
        alone.said().last(),
        Some(&"resolve"),
        "a collector that did not adopt it leaves it to the agent"
    );

    let mut late = World::new();
    late.answer = AWAY;
    late.run(100).outage();
    late.run(60);
    late.cut_off = None;
    late.answer = TOOK;
    late.run(300);
    assert!(!late.said().contains(&"report") && late.fallback.kept().alerts.is_empty(), "{:?}", late.said);
}
