//! What happens to a node from its first loss to its return, and what holds back.

mod properties;

use std::collections::BTreeMap;

use super::*;
use crate::{Second, VantageKind};

pub(super) const START: u64 = 1_800_000_000;

/// What an observer finds of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Well,
    /// Loses all.
    Bad,
    /// Loses a little more than chance.
    Ails,
    /// Loses a fifth, for a minute.
    Slow,
    /// Lost two slots.
    Few,
    /// Lost a fifth of the minute, and nothing of late.
    Mended,
    Nothing,
}

impl Does {
    pub(super) fn measured(self, series: u64) -> Option<Measured> {
        let counted = |seconds: u64, lost: u64| {
            let scheduled = seconds * series;
            Counted { scheduled, judged: scheduled, lost: lost.min(scheduled) }
        };
        let of = |newest: u64, window: u64, long: u64| Measured {
            newest: counted(2, newest),
            window: counted(8, window),
            long: counted(60, long),
        };
        Some(match self {
            Self::Well => of(0, 0, 0),
            Self::Bad => of(2 * series, 8 * series, 8 * series),
            Self::Ails => of(0, 2 * series, 2 * series),
            Self::Slow => of(0, 2 * series, 12 * series),
            Self::Few => of(0, 2, 2),
            Self::Mended => of(0, 0, 12 * series),
            Self::Nothing => return None,
        })
    }
}

pub(super) fn observer(name: &str, kind: VantageKind, network: &str, nodes: &[(&str, Does)]) -> Observer {
    let nodes = nodes.iter().filter_map(|(node, does)| Some(((*node).to_owned(), does.measured(2)?)));
    Observer { name: name.to_owned(), kind, network: network.to_owned(), nodes: nodes.collect() }
}

/// The loopbacks and an agent in the data centre, who agree on what `nodes` do; nodes are in zones of their own.
fn agreed(nodes: &[(&str, Does)]) -> Evidence {
    Evidence {
        service: "ingest".to_owned(),
        mode: Mode::Live,
        rules: Rules::default(),
        nodes: nodes.iter().map(|(node, _)| ((*node).to_owned(), Some(format!("zone of {node}")))).collect(),
        acceptable: 0.005,
        blind: None,
        views: vec![vec![
            observer("dc-1", VantageKind::Datacentre, "dc", nodes),
            observer("loopback", VantageKind::Loopback, "none", nodes),
        ]],
    }
}

struct Stage {
    rotation: Rotation,
    now: u64,
}

impl Stage {
    fn new() -> Self {
        Self { rotation: Rotation::default(), now: START }
    }

    fn seen(&mut self, seen: &Seen) -> Vec<String> {
        self.now += 1;
        let actions = self.rotation.step(seen, Second(self.now));
        actions.into_iter().map(|action| action.text).collect()
    }

    /// For so many seconds this is seen.
    fn sees(&mut self, evidence: &Evidence, seconds: u64) -> Vec<String> {
        let seen = Seen { services: vec![evidence.clone()], ..Seen::default() };
        (0..seconds).flat_map(|_| self.seen(&seen)).collect()
    }

    fn states(&self) -> BTreeMap<String, (State, u8)> {
        let advice = self.rotation.advice(Second(self.now));
        let nodes = advice.into_values().flat_map(|(_, nodes)| nodes);
        nodes.map(|(node, advice)| (node.to_owned(), (advice.state, advice.weight))).collect()
    }

    fn is_in(&self, node: &str) -> bool {
        self.states()[node].0 == State::In
    }
}

use Does::{Ails, Bad, Few, Mended, Nothing, Slow, Well};

const ONE_BAD: [(&str, Does); 3] = [("n1", Well), ("n2", Well), ("n3", Bad)];
const ALL_WELL: [(&str, Does); 3] = [("n1", Well), ("n2", Well), ("n3", Well)];

#[test]
fn one_node_leaves_and_returns() {
    let mut stage = Stage::new();
    assert_eq!(stage.sees(&agreed(&ALL_WELL), 10), [""; 0]);
    let told = stage.sees(&agreed(&ONE_BAD), 100);
    assert_eq!(
        told,
        [
            "n3 was taken out of rotation (live): 32 of 32 slots lost in 8 s from dc-1, loopback, while its 2 peers lost 0 of 64; it returns no sooner than in 60 s"
        ]
    );
    assert_eq!(stage.states()["n3"], (State::Out, 0));
    assert!(stage.is_in("n1") && stage.is_in("n2"));

    // The wait is over, and now it must be well for as long.
    assert_eq!(stage.sees(&agreed(&ALL_WELL), 60), [""; 0]);
    assert_eq!(
        stage.sees(&agreed(&ALL_WELL), 1),
        ["n3 returns at 10 % of its weight (live): it has been well again for long enough"]
    );
    assert_eq!(stage.states()["n3"], (State::Returning, 10));
    assert_eq!(stage.sees(&agreed(&ALL_WELL), 59), [""; 0]);
    assert_eq!(
        stage.sees(&agreed(&ALL_WELL), 1),
        ["n3 is in rotation again (live): it was well while it returned"]
    );
    assert_eq!(stage.states()["n3"], (State::In, 100));
}

#[test]
fn one_that_stays_out_is_for_a_person_until_it_returns() {
    let mut stage = Stage::new();
    stage.sees(&agreed(&ONE_BAD), LASTING_SECONDS);
    let lasting = |stage: &Stage| stage.rotation.lasting(Second(stage.now)).count();
    assert_eq!(lasting(&stage), 0);
    stage.sees(&agreed(&ONE_BAD), 1);
    let known: Vec<_> = stage.rotation.lasting(Second(stage.now)).collect();
    assert_eq!(known, [("ingest", "n3")]);
    // Another life knows it too, and after more than a day it is not forgotten who is out.
    stage.rotation = Rotation::from_kept(stage.rotation.kept());
    stage.sees(&agreed(&ONE_BAD), 90_000);
    assert_eq!((lasting(&stage), stage.rotation.ejections().count()), (1, 1));
    stage.sees(&agreed(&ALL_WELL), 70);
    assert_eq!((stage.states()["n3"].0, lasting(&stage)), (State::Returning, 0));
    stage.sees(&agreed(&ALL_WELL), 70);
    assert_eq!(stage.rotation.ejections().count(), 0);
}

#[test]
fn a_lapse_begins_the_clearing_anew_and_each_time_the_wait_doubles() {
    let mut stage = Stage::new();
    for (times, wait) in [(1, 60), (2, 120), (3, 240)] {
        let told = stage.sees(&agreed(&ONE_BAD), 2);
        assert!(
            told[0].contains(&format!(
                "no sooner than in {}",
                if wait == 60 { "60 s".to_owned() } else { format!("{} min", wait / 60) }
            )),
            "{times}: {told:?}"
        );
        assert_eq!(stage.rotation.repeated().len(), usize::from(times == 3));
        stage.sees(&agreed(&ALL_WELL), wait - 20);
        stage.sees(&agreed(&[("n1", Well), ("n2", Well), ("n3", Ails)]), 1);
        assert_eq!(stage.sees(&agreed(&ALL_WELL), 60), [""; 0], "{times}");
        assert_eq!(stage.sees(&agreed(&ALL_WELL), 1).len(), 1, "{times}");
        // One that is bad again while it returns goes back.
        if times < 3 {
            stage.sees(&agreed(&ALL_WELL), 30);
        }
    }
    let longest = wait_of(20);
    assert_eq!(longest, WAIT_SECONDS_MAX);
}

fn wait_of(times: usize) -> u64 {
    let mut stage = Stage::new();
    let ejection =
        Ejection { at: Second(START), service: "ingest".to_owned(), node: "n3".to_owned(), is_live: true };
    let kept = Kept { ejections: vec![ejection; times - 1], ..Kept::default() };
    stage.rotation = Rotation::from_kept(kept);
    stage.now += 3_600;
    stage.sees(&agreed(&ONE_BAD), 1);
    let out = stage.now;
    while !stage.rotation.advice(Second(stage.now))["ingest"].1["n3"].state.eq(&State::Returning) {
        stage.sees(&agreed(&ALL_WELL), 1);
    }
    stage.now - out
}

#[test]
fn what_is_no_single_node_is_left_alone() {
    let of = |views| Evidence { views: vec![views], ..agreed(&ONE_BAD) };
    let dc = |name, network, nodes: &[_]| observer(name, VantageKind::Datacentre, network, nodes);
    let blind = Evidence { blind: Some("nobody reports".to_owned()), ..agreed(&ONE_BAD) };
    let table = [
        ("it is the node", agreed(&ONE_BAD), true),
        ("from two networks", of(vec![dc("a", "x", &ONE_BAD), dc("b", "y", &ONE_BAD)]), true),
        ("slowly", agreed(&[("n1", Well), ("n2", Well), ("n3", Slow)]), true),
        ("the loopback measures nothing", of(vec![dc("a", "x", &ONE_BAD)]), false),
        ("from two agents in one network", of(vec![dc("a", "x", &ONE_BAD), dc("b", "x", &ONE_BAD)]), false),
        ("all of it", agreed(&[("n1", Bad), ("n2", Bad), ("n3", Bad)]), false),
        ("all but one", agreed(&[("n1", Well), ("n2", Bad), ("n3", Bad)]), false),
        ("another ails", agreed(&[("n1", Ails), ("n2", Well), ("n3", Bad)]), false),
        ("it has no peers", agreed(&[("n3", Bad)]), false),
        ("one peer is too few", agreed(&[("n1", Well), ("n3", Bad)]), false),
        ("nobody measured its peers", agreed(&[("n1", Nothing), ("n2", Nothing), ("n3", Bad)]), false),
        ("nobody can tell", blind, false),
        (
            "one vantage loses all, another only this",
            of(vec![dc("a", "x", &[("n1", Bad), ("n2", Bad), ("n3", Bad)]), dc("b", "y", &ONE_BAD)]),
            false,
        ),
        (
            "from a third it is well: it is the way",
            of(vec![dc("a", "x", &ONE_BAD), dc("b", "y", &ONE_BAD), dc("c", "z", &ALL_WELL)]),
            false,
        ),
        (
            "on the node it is well: it is the way",
            of(vec![
                dc("a", "x", &ONE_BAD),
                dc("b", "y", &ONE_BAD),
                observer("loopback", VantageKind::Loopback, "none", &ALL_WELL),
            ]),
            false,
        ),
        (
            "the node's own loopback says so, and others measure none",
            of(vec![
                dc("a", "x", &ONE_BAD),
                observer("loopback", VantageKind::Loopback, "none", &[("n3", Bad)]),
            ]),
            false,
        ),
    ];
    for (what, evidence, leaves) in table {
        let mut stage = Stage::new();
        stage.sees(&evidence, 20);
        assert_eq!(!stage.is_in("n3"), leaves, "{what}");
        assert!(stage.states().iter().filter(|(_, (state, _))| *state != State::In).count() <= 1, "{what}");
    }
}

#[test]
fn where_two_are_bad_at_once_neither_leaves_and_the_second_stays() {
    let both = agreed(&[("n1", Well), ("n2", Bad), ("n3", Bad)]);
    let mut stage = Stage::new();
    let at_once = stage.sees(&both, 300);
    assert_eq!(
        at_once,
        [
            "2 nodes are bad, none is taken out: of 3 nodes 2 must stay in rotation (n2, n3); this is no failure of single nodes"
        ]
    );
    let mut stage = Stage::new();
    stage.sees(&agreed(&ONE_BAD), 1);
    let later = stage.sees(&both, 300);
    assert_eq!(
        later,
        [
            "1 node is bad, it is not taken out: of 3 nodes 2 must stay in rotation (n2, beside n3 which is out already); this is no failure of single nodes"
        ]
    );
    assert!(stage.is_in("n2") && !stage.is_in("n3"));
    assert_eq!(stage.rotation.refusals()[&Guard::Floor], 1);
    assert_eq!(stage.rotation.refused().count(), 1);
    stage.sees(&agreed(&ONE_BAD), 1);
    assert_eq!(stage.rotation.refused().count(), 0);
}

fn many(bad: &[usize], nodes: usize) -> Evidence {
    let names: Vec<String> = (0..nodes).map(|node| format!("n{node:02}")).collect();
    let does = |node: usize| if bad.contains(&node) { Bad } else { Well };
    let listed: Vec<(&str, Does)> =
        names.iter().enumerate().map(|(node, name)| (name.as_str(), does(node))).collect();
    agreed(&listed)
}

#[test]
fn the_budget_the_zones_and_the_rates_hold() {
    // Of forty nodes four may be out, one a minute.
    let mut stage = Stage::new();
    stage.sees(&many(&[1, 2, 3, 4], 40), 1);
    let out = |stage: &Stage| stage.states().values().filter(|(state, _)| *state == State::Out).count();
    assert_eq!(out(&stage), 1);
    stage.sees(&many(&[1, 2, 3, 4], 40), 59);
    assert_eq!(out(&stage), 1);
    stage.sees(&many(&[1, 2, 3, 4], 40), 121);
    assert_eq!(out(&stage), 4);
    assert_eq!(stage.rotation.refusals().keys().collect::<Vec<_>>(), [&Guard::ServiceRate]);
    let told = stage.sees(&many(&[1, 2, 3, 4, 5], 40), 600);
    assert!(told[0].starts_with("1 node is bad, it is not taken out: of 40 nodes 4 may be out"), "{told:?}");
    assert_eq!(out(&stage), 4);

    // Two of one zone, or of none that is known.
    for zone in [None, Some("a".to_owned())] {
        let mut evidence = many(&[1, 2], 40);
        evidence.nodes.values_mut().for_each(|it| it.clone_from(&zone));
        let mut stage = Stage::new();
        stage.sees(&evidence, 300);
        assert_eq!(out(&stage), 0);
        assert_eq!(stage.rotation.refusals().keys().collect::<Vec<_>>(), [&Guard::Zone]);
    }

    // Of all services five go in an hour.
    let mut stage = Stage::new();
    let services: Vec<Evidence> =
        (0..8).map(|name| Evidence { service: format!("s{name}"), ..agreed(&ONE_BAD) }).collect();
    let seen = Seen { services, ..Seen::default() };
    (0..3_000).for_each(|_| drop(stage.seen(&seen)));
    assert_eq!(stage.rotation.ejections().count(), 5);
    assert_eq!(stage.rotation.refusals()[&Guard::FleetRate], 3);
    (0..700).for_each(|_| drop(stage.seen(&seen)));
    assert_eq!(stage.rotation.ejections().count(), 8);
}

#[test]
fn a_dry_run_says_what_would_be_and_tells_nobody_to_do_it() {
    let mut stage = Stage::new();
    let told = stage.sees(&Evidence { mode: Mode::DryRun, ..agreed(&ONE_BAD) }, 10);
    assert!(
        told[0].starts_with("n3 would be taken out of rotation (dry run): 32 of 32 slots lost"),
        "{told:?}"
    );
    assert_eq!(stage.states()["n3"], (State::In, 100));
    let reason = stage.rotation.advice(Second(stage.now))["ingest"].1["n3"].reason.clone().unwrap();
    assert!(reason.starts_with("n3 would be out of rotation (dry run): 100 % lost"), "{reason}");
    // What was dry is not done in earnest.
    stage.sees(&Evidence { mode: Mode::Live, ..agreed(&ALL_WELL) }, 1);
    assert!(stage.is_in("n3"));
    assert!(stage.rotation.repeated().is_empty());
    assert_eq!(stage.sees(&Evidence { mode: Mode::Off, ..agreed(&ONE_BAD) }, 10), [""; 0]);
}

#[test]
fn whoever_stops_it_has_all_nodes_in() {
    let mut stage = Stage::new();
    stage.sees(&agreed(&ONE_BAD), 1);
    let stopped =
        Seen { services: vec![agreed(&ONE_BAD)], stopped: Some("ada".to_owned()), ..Seen::default() };
    assert_eq!(stage.seen(&stopped), ["n3 is in rotation again (live): steering was stopped by ada"]);
    assert_eq!(stage.seen(&stopped), [""; 0]);
    assert!(stage.states().is_empty());
    // It remembers when it did the last one.
    stage.sees(&agreed(&ONE_BAD), 50);
    assert!(stage.is_in("n3"));
    stage.sees(&agreed(&ONE_BAD), 10);
    assert!(!stage.is_in("n3"));
}

#[test]
fn without_evidence_all_stays_and_without_steps_advice_ends() {
    let mut stage = Stage::new();
    stage.sees(&agreed(&ONE_BAD), 1);
    let blind = Evidence { blind: Some("nobody reports".to_owned()), ..agreed(&ALL_WELL) };
    assert_eq!(stage.sees(&blind, 3_600), [""; 0]);
    assert!(!stage.is_in("n3"));
    let dark = agreed(&[("n1", Nothing), ("n2", Nothing), ("n3", Nothing)]);
    assert_eq!(stage.sees(&dark, 3_600), [""; 0]);
    assert!(!stage.is_in("n3"));
    stage.now += LEASE_SECONDS - 1;
    assert!(!stage.is_in("n3"));
    stage.now += 1;
    assert!(stage.is_in("n3"), "nobody renewed it");
}

#[test]
fn the_next_life_goes_on_where_the_last_was_killed() {
    let mut stage = Stage::new();
    stage.sees(&agreed(&ONE_BAD), 1);
    let kept = stage.rotation.kept();
    stage.rotation = Rotation::from_kept(kept.clone());
    assert_eq!(stage.rotation.kept(), kept);
    stage.sees(&agreed(&[("n1", Well), ("n2", Bad), ("n3", Bad)]), 100);
    assert!(!stage.is_in("n3") && stage.is_in("n2"), "neither the node nor the budget is forgotten");
    stage.sees(&agreed(&ALL_WELL), 200);
    assert!(stage.is_in("n3"));
    assert!(stage.rotation.kept().pools.is_empty());
    assert_eq!(stage.rotation.kept().ejections.len(), 1);
}

#[test]
fn a_clock_that_is_set_back_keeps_nobody_out_for_the_time_that_was() {
    let mut stage = Stage::new();
    stage.sees(&agreed(&ONE_BAD), 1);
    stage.now -= 86_400 * 300;
    let told = stage.sees(&agreed(&ALL_WELL), 200);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(stage.is_in("n3"));
    // And a year ahead says of nothing that it was well meanwhile.
    let mut stage = Stage::new();
    stage.sees(&agreed(&ONE_BAD), 1);
    stage.sees(&agreed(&ALL_WELL), 10);
    stage.now += 86_400 * 300;
    assert_eq!(stage.sees(&agreed(&ALL_WELL), 60), [""; 0]);
}

#[test]
fn nodes_that_vanish_take_their_place_in_the_budget_along() {
    let mut stage = Stage::new();
    stage.sees(&many(&[1], 10), 1);
    let told = stage.sees(&many(&[], 2), 100);
    assert_eq!(told, ["n01 is in rotation again (live): of 2 nodes 2 must stay in rotation"]);
    let mut stage = Stage::new();
    stage.sees(&many(&[9], 10), 1);
    let told = stage.sees(&many(&[], 9), 1);
    assert_eq!(told, ["n09 is in rotation again (live): it is not among the nodes any more"]);
}

/// The same with names beside that nobody measures, all in a zone of their own.
fn beside(names: usize, evidence: Evidence) -> Evidence {
    let mut nodes = evidence.nodes.clone();
    nodes.extend((0..names).map(|name| (format!("old{name:02}"), Some(format!("old zone {name}")))));
    Evidence { nodes, ..evidence }
}

#[test]
fn names_of_nodes_that_are_gone_lend_the_others_nothing() {
    const ONE: [(&str, Does); 3] = [("n1", Bad), ("n2", Well), ("n3", Well)];
    const TWO: [(&str, Does); 3] = [("n1", Bad), ("n2", Bad), ("n3", Well)];
    // Who fell silent a moment ago may be gone, and counts as such.
    let mut stage = Stage::new();
    stage.sees(&beside(17, agreed(&ALL_WELL)), 60);
    assert_eq!(
        stage.sees(&beside(17, agreed(&ONE)), 300),
        [
            "1 node is bad, it is not taken out: of 20 nodes 10 must stay in rotation, and 17 of them are measured by nobody (n1)"
        ]
    );
    // After an hour they are names, and no more; but two of three are no more out than without them.
    stage.sees(&beside(17, agreed(&ALL_WELL)), 3_600);
    let told = stage.sees(&beside(17, agreed(&ONE)), 60);
    assert!(told[0].starts_with("n1 was taken out of rotation (live): "), "{told:?}");
    let told = stage.sees(&beside(17, agreed(&TWO)), 300);
    assert_eq!(
        told,
        [
            "1 node is bad, it is not taken out: of 3 nodes 2 must stay in rotation (n2, beside n1 which is out already); this is no failure of single nodes"
        ]
    );
    assert!(!stage.is_in("n1") && stage.is_in("n2") && stage.is_in("n3"));
}

#[test]
fn whom_nobody_measures_widens_no_budget() {
    let silent = |bad: &[usize], silent: &[usize], nodes: usize| {
        let mut evidence = many(bad, nodes);
        for observer in evidence.views.iter_mut().flatten() {
            observer.nodes.retain(|node, _| !silent.iter().any(|it| *node == format!("n{it:02}")));
        }
        evidence
    };
    // Of twenty two may be out, of eighteen one.
    let mut stage = Stage::new();
    stage.sees(&silent(&[1], &[18, 19], 20), 61);
    let told = stage.sees(&silent(&[1, 2], &[18, 19], 20), 300);
    assert_eq!(
        told,
        [
            "1 node is bad, it is not taken out: of 18 nodes that are measured 1 may be out at once (n02, beside n01 which is out already); this is no failure of single nodes"
        ]
    );
    // One that is out and falls silent keeps its place, for as long as that lasts.
    let mut stage = Stage::new();
    stage.sees(&silent(&[1], &[], 6), 61);
    let told = stage.sees(&silent(&[2], &[1], 6), 7_500);
    assert!(
        told[0].starts_with("1 node is bad, it is not taken out: of 5 nodes that are measured 1 may be out"),
        "{told:?}"
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(!stage.is_in("n01") && stage.is_in("n02"));
    // And one that is out returns where too few others are left for good, and not where all are dark.
    let mut stage = Stage::new();
    stage.sees(&agreed(&ONE_BAD), 1);
    assert_eq!(stage.sees(&agreed(&[("n1", Nothing), ("n2", Nothing), ("n3", Nothing)]), 7_500), [""; 0]);
    assert_eq!(stage.sees(&agreed(&[("n1", Well), ("n2", Nothing), ("n3", Bad)]), 3_590), [""; 0]);
    assert_eq!(
        stage.sees(&agreed(&[("n1", Well), ("n2", Nothing), ("n3", Bad)]), 20)[0],
        "n3 is in rotation again (live): of 2 nodes 2 must stay in rotation"
    );
}

#[test]
fn a_vantage_that_lost_its_way_to_a_node_keeps_nobody_out() {
    let from = |views: [Does; 3]| {
        let nodes = |does| [("n1", does), ("n2", Well), ("n3", Well), ("n4", Well)];
        let [a, b, c] = views.map(nodes);
        let views = vec![
            observer("dc-1", VantageKind::Datacentre, "dc", &a),
            observer("loopback", VantageKind::Loopback, "none", &b),
            observer("far", VantageKind::External, "isp", &c),
        ];
        Evidence { views: vec![views], ..agreed(&a) }
    };
    for lost in [Bad, Ails] {
        let mut stage = Stage::new();
        stage.sees(&from([Bad; 3]), 90);
        let told = stage.sees(&from([Well, Well, lost]), 61);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(stage.states()["n1"], (State::Returning, 10));
        stage.sees(&from([Well, Well, lost]), 61);
        assert!(stage.is_in("n1"));
    }
    // One that finds it well is none too many, and what storage lacks counts as much as what is seen.
    let stored = Evidence {
        views: [from([Well, Well, Bad]).views, from([Ails, Well, Bad]).views].concat(),
        ..from([Well; 3])
    };
    for evidence in [from([Well, Ails, Bad]), from([Ails, Nothing, Well]), stored] {
        let mut stage = Stage::new();
        stage.sees(&from([Bad; 3]), 90);
        assert_eq!(stage.sees(&evidence, 300), [""; 0]);
        assert!(!stage.is_in("n1"));
    }
}

#[test]
fn where_no_loss_is_acceptable_a_lost_second_is_still_none() {
    let lossy = |acceptable: f64, lost: u64| {
        let counted = |seconds: u64, lost: u64| Counted { scheduled: seconds, judged: seconds, lost };
        let mut evidence = Evidence { acceptable, ..agreed(&ONE_BAD) };
        for (node, measured) in evidence.views.iter_mut().flatten().flat_map(|it| &mut it.nodes) {
            let lost = if node == "n3" { lost } else { 0 };
            *measured =
                Measured { newest: counted(2, 0), window: counted(8, lost.min(2)), long: counted(60, lost) };
        }
        evidence
    };
    for (lost, leaves) in [(1, false), (2, false), (3, true), (12, true)] {
        let mut stage = Stage::new();
        stage.sees(&lossy(0.0, lost), 20);
        assert_eq!(!stage.is_in("n3"), leaves, "{lost} of 60 from each");
    }
    for (lost, leaves) in [(3, false), (12, true)] {
        let mut stage = Stage::new();
        stage.sees(&lossy(0.005, lost), 20);
        assert_eq!(!stage.is_in("n3"), leaves, "{lost} of 60 from each, where some is acceptable");
    }
}

#[test]
fn no_figure_is_less_careful_than_its_floor() {
    let reckless = Rules {
        window: 1,
        loss: 0.0,
        max_out: 1.0,
        min_in: 0.0,
        min_vantages: 0,
        every: 0,
        readmit_after: 0,
    };
    let floors = Rules { readmit_after: Rules::READMIT_AFTER_MIN, ..Rules::default() };
    assert_eq!(reckless.careful(), floors);
    let table =
        [(1, 1, 1), (2, 1, 2), (3, 1, 2), (4, 1, 2), (5, 1, 3), (19, 1, 10), (20, 2, 10), (100, 10, 50)];
    for (nodes, out, stay) in table {
        assert_eq!((floors.out_max(nodes), floors.in_min(nodes)), (out, stay), "{nodes}");
    }
}
