use aviary_core::{Clock, Micros, Second, VantageKind};
use aviary_store::MemoryStore;
use aviary_wire::report::{Report, Roster, RosterSeries};

use super::*;
use crate::Options;

const NOW: Second = Second(1_763_690_400);

/// A clock that a test sets.
#[derive(Clone, Default)]
struct Set(Arc<AtomicU64>);

impl Set {
    fn to(&self, seconds: u64) {
        self.0.store(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for Set {
    fn wall(&self) -> Timestamp {
        NOW.start().plus(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Micros {
        Micros(self.0.load(Ordering::Relaxed))
    }
}

fn collector(store: Option<&Arc<MemoryStore>>, text: &str, clock: &Set) -> Collector {
    let options = Options {
        services_document: Some(text.to_owned()),
        store: store.map(|store| Arc::clone(store) as Arc<dyn Store>),
        ..Options::default()
    };
    let collector = Collector::new(options, clock.clone()).unwrap();
    while collector.replaying().is_some() {
        std::thread::yield_now();
    }
    collector
}

fn version(text: &str) -> Version {
    Document::new(text.to_owned()).version()
}

fn handed_out(collector: &Collector) -> String {
    collector.services_document(None).unwrap().text().to_owned()
}

/// The agent `node` reports that it holds this.
fn report(collector: &Collector, node: &str, sequence: u64, held: Option<Vec<Held>>) {
    let vantage = Vantage {
        kind: VantageKind::External,
        region: "eu".to_owned(),
        zone: None,
        network: None,
        node: node.to_owned(),
    };
    let one = RosterSeries {
        service: "ingest".to_owned(),
        endpoint: "tcp://192.0.2.1:2003".parse().unwrap(),
        address: None,
        name: format!("canary.{node}"),
        from: NOW,
    };
    let roster = Roster { vantage, since: NOW, series: vec![one] };
    let report = Report {
        boot: 1,
        sequence,
        wall: collector.now(),
        configuration: "c".to_owned(),
        roster_id: roster.id(),
        roster: Some(roster),
        services: held,
        ..Report::default()
    };
    collector.state().take(&report, None, collector.now()).unwrap();
}

fn holds(running: &str, other: Option<(&str, HeldState)>) -> Option<Vec<Held>> {
    let other = other.map(|(text, state)| Held::new(version(text), state));
    Some([Held::new(version(running), HeldState::Active)].into_iter().chain(other).collect())
}

#[test]
fn what_is_told_outlives_the_process_and_what_was_rolled_back_waits() {
    let (store, clock) = (Arc::new(MemoryStore::default()), Set::default());
    let first = collector(Some(&store), "a", &clock);
    assert_eq!(handed_out(&first), "a", "there is nothing that the first could be worse than");
    report(&first, "n1", 1, holds("a", None));
    first.offer(Some("b".to_owned()));
    first.roll_out(first.now());
    assert_eq!(handed_out(&first), "a");
    let told = json!({"active": version("a").to_string(), "candidate": version("b").to_string()});
    assert_eq!(first.versions_told(), Some(told));
    assert_eq!(first.services_document(Some(version("b"))).unwrap().text(), "b");

    // Killed and started again, also with another file: that takes the candidate's place.
    let second = collector(Some(&store), "b", &clock);
    assert_eq!(second.rollout_body(second.now()).candidate.unwrap().version, version("b").to_string());
    let second = collector(Some(&store), "c", &clock);
    assert_eq!(second.rollout_body(second.now()).candidate.unwrap().version, version("c").to_string());
    assert!(second.services_document(Some(version("b"))).is_none(), "nobody needs it any more");
    second.command_rollout(Some("ada"), |rollout, _, now| rollout.force(now)).unwrap();
    assert_eq!(handed_out(&second), "c");
    second
        .command_rollout(Some("ada"), |rollout, _, now| rollout.roll_back(Some("ada".to_owned()), now))
        .unwrap();
    assert_eq!(handed_out(&second), "a");

    let third = collector(Some(&store), "c", &clock);
    assert_eq!((handed_out(&third).as_str(), third.rollout_body(third.now()).state), ("a", "rolled_back"));
    assert_eq!(third.rollout_body(third.now()).held_back.unwrap().by.as_deref(), Some("ada"));
    let in_memory = collector(None, "c", &clock);
    assert_eq!(handed_out(&in_memory), "c");
}

#[test]
fn agents_that_report_are_waited_for_and_those_that_are_silent_for_a_while() {
    let clock = Set::default();
    let collector = collector(None, "a", &clock);
    collector.offer(Some("b".to_owned()));
    report(&collector, "n1", 1, holds("a", Some(("b", HeldState::Available))));
    report(&collector, "n2", 1, holds("a", None));
    report(&collector, "elsewhere", 1, None);
    // When it is; how it goes then, whether the second agent is waited for, and what it is said to object.
    let table = [
        (1, "building", true, None),
        (7, "held", true, Some("it is silent")),
        (29, "held", true, Some("it is silent")),
        (32, "settled", false, None),
    ];
    for (second, state, counts, objection) in table {
        clock.to(second);
        report(&collector, "n1", 1 + second, holds("a", Some(("b", HeldState::Available))));
        collector.roll_out(collector.now());
        let body = collector.rollout_body(collector.now());
        let n2 = body.agents.iter().find(|agent| agent.node == "n2").unwrap();
        let is = (body.state, n2.counts, n2.objection.as_deref());
        assert_eq!(is, (state, counts, objection), "after {second} s");
        assert_eq!(body.others, 1, "whose file is its own");
    }
    assert_eq!(handed_out(&collector), "b");
}
