//! What holds whatever is seen: histories made to empty a pool.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const KINDS: [VantageKind; 3] = [VantageKind::External, VantageKind::Datacentre, VantageKind::Loopback];

/// What an observer tells in a stretch.
#[derive(Clone, Debug)]
struct Told {
    kind: usize,
    network: usize,
    does: Vec<Does>,
}

#[derive(Clone, Debug)]
struct Stretch {
    seconds: u64,
    /// The clock is set by so much first.
    step: i64,
    nodes: usize,
    mode: Mode,
    is_blind: bool,
    is_stopped: bool,
    /// The process is killed first.
    is_killed: bool,
    observers: Vec<Told>,
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![8 => Just(Well), 4 => Just(Bad), 1 => Just(Ails), 1 => Just(Slow), 1 => Just(Nothing)]
}

/// Mostly they agree; else each tells what it likes.
fn observers() -> impl Strategy<Value = Vec<Told>> {
    let one = |does: BoxedStrategy<Vec<Does>>| {
        (0..KINDS.len(), 0usize..3, does).prop_map(|(kind, network, does)| Told { kind, network, does })
    };
    let list = || prop::collection::vec(does(), 24).boxed();
    prop_oneof![
        2 => prop::collection::vec(one(list()), 0..4),
        3 => list().prop_flat_map(move |does| prop::collection::vec(one(Just(does).boxed()), 1..4)),
        3 => (0usize..24).prop_flat_map(move |bad| {
            let does: Vec<Does> = (0..24).map(|node| if node == bad { Bad } else { Well }).collect();
            prop::collection::vec(one(Just(does).boxed()), 2..4)
        }),
    ]
}

prop_compose! {
    fn stretch()(
        seconds in prop_oneof![4 => 1u64..5, 4 => 5u64..90, 1 => 90u64..400],
        step in prop_oneof![12 => Just(0i64), 1 => -4_000i64..4_000, 1 => -90_000_000i64..90_000_000],
        nodes in 1usize..24,
        mode in prop::sample::select(vec![Mode::Live, Mode::Live, Mode::Live, Mode::Live, Mode::DryRun, Mode::Off]),
        is_blind in prop::bool::weighted(0.1),
        is_stopped in prop::bool::weighted(0.05),
        is_killed in prop::bool::weighted(0.15),
        observers in observers(),
    ) -> Stretch {
        Stretch { seconds, step, nodes, mode, is_blind, is_stopped, is_killed, observers }
    }
}

/// A history of which the first stretch says how many nodes and what mode there are in most of the others.
fn history() -> impl Strategy<Value = Vec<Stretch>> {
    (prop::collection::vec(stretch(), 1..9), prop::bool::weighted(0.6)).prop_map(|(mut stretches, same)| {
        let (nodes, mode) = (stretches[0].nodes, stretches[0].mode);
        if same {
            stretches.iter_mut().for_each(|it| (it.nodes, it.mode) = (nodes, mode));
        }
        stretches
    })
}

impl Stretch {
    fn evidence(&self, service: &str) -> Evidence {
        let nodes: Vec<String> = (0..self.nodes).map(|node| format!("n{node:02}")).collect();
        let observer = |(place, told): (usize, &Told)| {
            let does: Vec<(&str, Does)> =
                nodes.iter().map(String::as_str).zip(told.does.iter().copied()).collect();
            observer(&format!("o{place}"), KINDS[told.kind], &format!("net{}", told.network), &does)
        };
        Evidence {
            service: service.to_owned(),
            mode: self.mode,
            rules: Rules::default(),
            nodes: nodes.iter().enumerate().map(|(place, node)| (node.clone(), zone(place))).collect(),
            acceptable: 0.005,
            blind: self.is_blind.then(|| "nobody reports".to_owned()),
            views: vec![self.observers.iter().enumerate().map(observer).collect()],
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            services: vec![self.evidence("a"), self.evidence("b")],
            stopped: self.is_stopped.then(|| "ada".to_owned()),
            ..Seen::default()
        }
    }
}

fn place_of(node: &str) -> usize {
    node.trim_start_matches('n').parse().unwrap()
}

fn zone(place: usize) -> Option<String> {
    (!place.is_multiple_of(5)).then(|| format!("z{}", place % 7))
}

/// The nodes that others are told not to use, or to use less.
fn away(rotation: &Rotation, service: &str, now: Second) -> BTreeSet<String> {
    let advice = rotation.advice(now);
    let Some((_, nodes)) = advice.get(service) else { return BTreeSet::new() };
    let away = nodes.iter().filter(|(_, advice)| advice.weight < 100);
    away.map(|(node, _)| (*node).to_owned()).collect()
}

/// The nodes that are not in by what it remembers, also where nobody renewed the advice.
fn held(rotation: &Rotation, service: &str) -> BTreeSet<String> {
    let pools = rotation.kept().pools;
    pools
        .get(service)
        .filter(|pool| pool.mode == Mode::Live)
        .into_iter()
        .flat_map(|pool| pool.away.keys().cloned())
        .collect()
}

/// Whether the evidence speaks against this very node, worked out by other words than the machine's.
fn is_justified(stretch: &Stretch, node: usize, others_away: &BTreeSet<String>) -> bool {
    let losing = |told: &&Told| matches!(told.does[node], Bad | Slow);
    let witnesses: Vec<&Told> = stretch.observers.iter().filter(losing).collect();
    let differ =
        |by: fn(&Told) -> usize| witnesses.iter().map(|it| by(it)).collect::<BTreeSet<_>>().len() > 1;
    let well_peers = |told: &&&Told| {
        let peers =
            (0..stretch.nodes).filter(|peer| *peer != node && !others_away.contains(&format!("n{peer:02}")));
        peers.filter(|peer| told.does[*peer] == Well).count() > 0
    };
    !stretch.is_blind
        && !stretch.is_stopped
        && witnesses.iter().filter(well_peers).count() >= 2
        && (differ(|it| it.kind) || differ(|it| it.network))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_history_empties_a_pool(history in history()) {
        let mut rotation = Rotation::default();
        let mut now = Second(START);
        let mut clock_was_set = false;
        let mut outs: Vec<(Second, String)> = Vec::new();
        for stretch in &history {
            if stretch.is_killed {
                rotation = Rotation::from_kept(rotation.kept());
            }
            clock_was_set |= stretch.step != 0;
            now = Second(now.0.saturating_add_signed(stretch.step));
            let seen = stretch.seen();
            for second in 0..stretch.seconds {
                now = now.plus(1);
                let before: BTreeMap<&str, BTreeSet<String>> =
                    ["a", "b"].map(|service| (service, held(&rotation, service))).into();
                let actions = rotation.step(&seen, now);
                for service in ["a", "b"] {
                    let away = away(&rotation, service, now);
                    let rules = Rules::default();
                    let stay = stretch.nodes - away.len();
                    prop_assert!(away.is_empty() || stay >= 2 && stay * 2 >= stretch.nodes);
                    prop_assert!(away.is_empty() || stretch.mode == Mode::Live && !stretch.is_stopped);
                    let newly: Vec<&String> = away.difference(&before[service]).collect();
                    prop_assert!(newly.len() <= 1);
                    if let Some(node) = newly.first() {
                        prop_assert!(away.len() <= rules.out_max(stretch.nodes));
                        let place = place_of(node);
                        prop_assert!(is_justified(stretch, place, &before[service]), "{node} of {stretch:?}");
                        // Whoever went along went for the same reason: then it is no single node.
                        let zones: Vec<_> = away.iter().map(|it| zone(place_of(it))).collect();
                        prop_assert_eq!(zones.iter().collect::<BTreeSet<_>>().len(), zones.len());
                    }
                }
                for action in actions.iter().filter(|it| it.is_live && it.what == What::Out) {
                    outs.push((now, action.service.clone()));
                }
                if second < 3 {
                    // Told twice is told once.
                    let once = rotation.clone();
                    prop_assert_eq!(rotation.step(&seen, now), vec![]);
                    prop_assert_eq!(&rotation, &once);
                }
            }
        }
        if !clock_was_set {
            for (place, (at, service)) in outs.iter().enumerate() {
                let earlier = &outs[..place];
                prop_assert!(earlier.iter().all(|(then, of)| of != service || at.0 - then.0 >= 60));
                prop_assert!(earlier.iter().filter(|(then, _)| at.0 - then.0 < 3_600).count() < 5);
            }
        }
    }

    /// Whoever tells first makes no difference, and nor does who else is told of.
    #[test]
    fn the_order_of_what_is_told_makes_no_difference(history in history(), turn in 0usize..4) {
        let (mut one, mut other) = (Rotation::default(), Rotation::default());
        let mut now = Second(START);
        for stretch in &history {
            let seen = stretch.seen();
            let mut turned = seen.clone();
            for observers in turned.services.iter_mut().flat_map(|it| &mut it.views) {
                let by = turn.min(observers.len());
                observers.rotate_left(by);
            }
            for _ in 0..stretch.seconds {
                now = now.plus(1);
                prop_assert_eq!(one.step(&seen, now), other.step(&turned, now));
            }
        }
        prop_assert_eq!(one, other);
    }

    /// A cause that all nodes share, whatever it is and from wherever it is seen, takes none of them out.
    #[test]
    fn what_they_share_takes_none_out(
        nodes in 1usize..24,
        told in prop::collection::vec((0usize..3, 0usize..3, prop::sample::select(vec![Bad, Slow, Ails])), 1..6),
        seconds in 1u64..200,
    ) {
        let observers = told.into_iter().map(|(kind, network, does)| Told { kind, network, does: vec![does; 24] });
        let stretch = Stretch {
            seconds,
            step: 0,
            nodes,
            mode: Mode::Live,
            is_blind: false,
            is_stopped: false,
            is_killed: false,
            observers: observers.collect(),
        };
        let (mut rotation, seen) = (Rotation::default(), stretch.seen());
        for second in 0..seconds {
            rotation.step(&seen, Second(START + second));
        }
        prop_assert_eq!(rotation.ejections().count(), 0);
    }

    /// All that went is back once it was well for long enough, however it went.
    #[test]
    fn whoever_is_well_returns(history in history()) {
        let mut rotation = Rotation::default();
        let mut now = Second(START);
        for stretch in &history {
            now = Second(now.0.saturating_add_signed(stretch.step));
            let seen = stretch.seen();
            for _ in 0..stretch.seconds {
                now = now.plus(1);
                rotation.step(&seen, now);
            }
        }
        let last = history.last().unwrap();
        let well = Told { kind: 0, network: 0, does: vec![Well; 24] };
        let calm = Stretch { is_blind: false, is_stopped: false, observers: vec![well], ..last.clone() }.seen();
        for _ in 0..WAIT_SECONDS_MAX / 2 + 100 {
            now = now.plus(4);
            rotation.step(&calm, now);
        }
        prop_assert!(away(&rotation, "a", now).is_empty());
        prop_assert!(rotation.kept().pools.is_empty());
    }
}
