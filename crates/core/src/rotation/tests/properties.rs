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
    /// So many steps, each of so many seconds.
    steps: u64,
    each: u64,
    /// The clock is set by so much first.
    set: i64,
    nodes: usize,
    /// So many names stand beside them, which nobody measures.
    names: usize,
    mode: Mode,
    acceptable: f64,
    is_blind: bool,
    is_stopped: bool,
    /// The process is killed first.
    is_killed: bool,
    /// What they tell of the newest seconds, and of those that are settled where storage decides.
    views: Vec<Vec<Told>>,
}

/// What a node does, as an observer is to understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Nothing,
    Well,
    Between,
    Bad,
}

/// Over eight seconds, or over a minute.
#[derive(Clone, Copy)]
enum Span {
    Short,
    Long,
}

fn does() -> impl Strategy<Value = Does> {
    let seldom = prop::sample::select(vec![Ails, Slow, Few, Mended, Nothing]);
    prop_oneof![8 => Just(Well), 4 => Just(Bad), 4 => seldom]
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
        3 => (0usize..24, prop::sample::select(vec![Bad, Bad, Bad, Slow, Ails, Few])).prop_flat_map(
            move |(bad, how)| {
                let does: Vec<Does> = (0..24).map(|node| if node == bad { how } else { Well }).collect();
                prop::collection::vec(one(Just(does).boxed()), 2..4)
            },
        ),
        // What ails one now ailed most of the others a moment ago.
        1 => (0usize..24, prop::collection::vec(prop::sample::select(vec![Well, Mended, Mended]), 24)).prop_map(
            |(bad, mut does)| {
                does[bad] = Slow;
                (0..2).map(|place| Told { kind: place, network: place, does: does.clone() }).collect()
            },
        ),
        // They agree on one that is bad, and another that has fallen silent, or that one of them has lost its way to.
        2 => (0usize..24, 0usize..24, 2usize..4, prop::bool::ANY).prop_map(|(bad, other, seen_from, is_silent)| {
            let told = |place: usize| {
                let of = |node: usize| match node {
                    _ if node == bad && place != other % 5 => Bad,
                    _ if node == other && is_silent => Nothing,
                    _ => Well,
                };
                Told { kind: place, network: place, does: (0..24).map(of).collect() }
            };
            (0..seen_from).map(told).collect()
        }),
    ]
}

/// Mostly storage does not decide, or has what was seen.
fn views() -> impl Strategy<Value = Vec<Vec<Told>>> {
    prop_oneof![
        4 => observers().prop_map(|told| vec![told]),
        1 => observers().prop_map(|told| vec![told.clone(), told]),
        1 => (observers(), observers()).prop_map(|(newest, settled)| vec![newest, settled]),
    ]
}

prop_compose! {
    fn stretch()(
        steps in prop_oneof![4 => 1u64..5, 4 => 5u64..90, 1 => 90u64..400],
        each in prop_oneof![3 => Just(1u64), 1 => Just(5u64)],
        set in prop_oneof![12 => Just(0i64), 1 => -4_000i64..4_000, 1 => -90_000_000i64..90_000_000],
        nodes in 1usize..24,
        names in prop_oneof![3 => Just(0usize), 1 => 1usize..4, 1 => 1usize..20],
        acceptable in prop::sample::select(vec![0.0, 0.0, 0.005, 0.005, 0.01]),
        mode in prop::sample::select(vec![Mode::Live, Mode::Live, Mode::Live, Mode::Live, Mode::DryRun, Mode::Off]),
        is_blind in prop::bool::weighted(0.1),
        is_stopped in prop::bool::weighted(0.05),
        is_killed in prop::bool::weighted(0.15),
        views in views(),
    ) -> Stretch {
        Stretch { steps, each, set, nodes, names, mode, acceptable, is_blind, is_stopped, is_killed, views }
    }
}

/// A history of which the first stretch says how many nodes and what mode there are in most of the others.
fn history() -> impl Strategy<Value = Vec<Stretch>> {
    (prop::collection::vec(stretch(), 1..9), prop::bool::weighted(0.6)).prop_map(|(mut stretches, same)| {
        let Stretch { nodes, names, mode, acceptable, .. } = stretches[0];
        if same {
            for it in &mut stretches {
                (it.nodes, it.names, it.mode, it.acceptable) = (nodes, names, mode, acceptable);
            }
        }
        stretches
    })
}

fn name(place: usize) -> String {
    format!("n{place:02}")
}

impl Stretch {
    fn listed(&self) -> usize {
        self.nodes + self.names
    }

    /// What a node looks like to an observer.
    fn look(&self, told: &Told, node: usize, span: Span) -> Look {
        let is_none_acceptable = self.acceptable == 0.0;
        match (told.does[node], span) {
            (Nothing, _) => Look::Nothing,
            (Well, _) | (Mended, Span::Short) => Look::Well,
            (Bad, _) | (Slow, Span::Long) => Look::Bad,
            (Slow | Ails, Span::Short) | (Mended, Span::Long) => Look::Between,
            (Ails, Span::Long) if is_none_acceptable => Look::Bad,
            (Few, _) if is_none_acceptable => Look::Between,
            (Ails | Few, _) => Look::Well,
        }
    }

    /// The nodes that somebody measures.
    fn measured(&self) -> Vec<usize> {
        let is_seen = |told: &Told, node: usize| self.look(told, node, Span::Short) != Look::Nothing;
        (0..self.nodes).filter(|node| self.views.iter().flatten().any(|told| is_seen(told, *node))).collect()
    }

    /// Of those such as all who measure them find well.
    fn unharmed(&self) -> Vec<usize> {
        let mut measured = self.measured();
        measured.retain(|node| {
            let mut looks = self.views.iter().flatten().map(|told| self.look(told, *node, Span::Short));
            looks.all(|look| matches!(look, Look::Nothing | Look::Well))
        });
        measured
    }

    fn evidence(&self, service: &str) -> Evidence {
        let nodes: Vec<String> = (0..self.listed()).map(name).collect();
        let observer = |(place, told): (usize, &Told)| {
            let does: Vec<(&str, Does)> =
                nodes[..self.nodes].iter().map(String::as_str).zip(told.does.iter().copied()).collect();
            observer(&format!("o{place}"), KINDS[told.kind], &format!("net{}", told.network), &does)
        };
        Evidence {
            service: service.to_owned(),
            mode: self.mode,
            rules: Rules::default(),
            nodes: nodes.iter().enumerate().map(|(place, node)| (node.clone(), zone(place))).collect(),
            acceptable: self.acceptable,
            blind: self.is_blind.then(|| "nobody reports".to_owned()),
            views: self.views.iter().map(|told| told.iter().enumerate().map(observer).collect()).collect(),
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

/// Whether the evidence speaks against this very node, worked out by other words than the machine's: in one view and one span nobody
/// finds it well, and two that differ find it bad, of whose peers half are well, each by itself.
fn is_justified(stretch: &Stretch, node: usize, others_away: &BTreeSet<String>) -> bool {
    let speaks = |view: &Vec<Told>, span: Span| {
        let look = |told: &Told, node| stretch.look(told, node, span);
        let is_alone = |told: &&Told| {
            let peers =
                (0..stretch.nodes).filter(|peer| *peer != node && !others_away.contains(&name(*peer)));
            let looks: Vec<Look> =
                peers.map(|peer| look(told, peer)).filter(|it| *it != Look::Nothing).collect();
            let well = looks.iter().filter(|it| **it == Look::Well).count();
            well > 0 && well >= looks.len() - well
        };
        let witnesses = view.iter().filter(|told| look(told, node) == Look::Bad).filter(is_alone);
        let witnesses: Vec<&Told> = witnesses.collect();
        let differ =
            |by: fn(&Told) -> usize| witnesses.iter().map(|it| by(it)).collect::<BTreeSet<_>>().len() > 1;
        view.iter().all(|told| look(told, node) != Look::Well)
            && (differ(|it| it.kind) || differ(|it| it.network))
    };
    !stretch.is_blind
        && !stretch.is_stopped
        && stretch.views.iter().any(|view| speaks(view, Span::Short) || speaks(view, Span::Long))
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
            clock_was_set |= stretch.set != 0;
            now = Second(now.0.saturating_add_signed(stretch.set));
            let seen = stretch.seen();
            for second in 0..stretch.steps {
                now = now.plus(stretch.each);
                let before: BTreeMap<&str, BTreeSet<String>> =
                    ["a", "b"].map(|service| (service, held(&rotation, service))).into();
                let actions = rotation.step(&seen, now);
                for service in ["a", "b"] {
                    let away = away(&rotation, service, now);
                    let rules = Rules::default();
                    let stay = stretch.listed() - away.len();
                    prop_assert!(away.is_empty() || stay >= 2 && stay * 2 >= stretch.listed());
                    prop_assert!(away.is_empty() || stretch.mode == Mode::Live && !stretch.is_stopped);
                    let newly: Vec<&String> = away.difference(&before[service]).collect();
                    prop_assert!(newly.len() <= 1);
                    if let Some(node) = newly.first() {
                        // Of those that are measured, since what nobody measures may be a name and no more.
                        let measured = stretch.measured();
                        prop_assert!(away.len() <= rules.out_max(measured.len()), "{away:?} of {stretch:?}");
                        let is_left = |node: &&usize| !away.contains(&name(**node));
                        let stay = stretch.unharmed().iter().filter(is_left).count();
                        prop_assert!(stay >= 2 && stay * 2 >= measured.len(), "{away:?} of {stretch:?}");
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
                    // Told twice is told once; but that another is held back by one who goes is said with the next look.
                    let has_gone = actions.iter().any(|it| it.what == What::Out);
                    let before = rotation.clone();
                    let again = rotation.step(&seen, now);
                    prop_assert!(has_gone || (&rotation, again.len()) == (&before, 0));
                    prop_assert!(again.iter().all(|it| matches!(it.what, What::Refused(_))));
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
            for _ in 0..stretch.steps {
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
        acceptable in prop::sample::select(vec![0.0, 0.005, 0.01]),
        told in prop::collection::vec((0usize..3, 0usize..3, prop::sample::select(vec![Bad, Slow, Ails])), 1..6),
        seconds in 1u64..200,
    ) {
        let observers = told.into_iter().map(|(kind, network, does)| Told { kind, network, does: vec![does; 24] });
        let stretch = Stretch {
            steps: seconds,
            each: 1,
            set: 0,
            nodes,
            names: 0,
            mode: Mode::Live,
            acceptable,
            is_blind: false,
            is_stopped: false,
            is_killed: false,
            views: vec![observers.collect()],
        };
        let (mut rotation, seen) = (Rotation::default(), stretch.seen());
        for second in 0..seconds {
            rotation.step(&seen, Second(START + second));
        }
        prop_assert_eq!(rotation.ejections().count(), 0);
    }

    /// All that went is back once it was well for long enough, however it went; and a few who lost their way to it keep it out no longer.
    #[test]
    fn whoever_is_well_returns(
        history in history(),
        lost in prop::collection::vec(prop::collection::vec(does(), 24), 0..3),
    ) {
        let mut rotation = Rotation::default();
        let mut now = Second(START);
        for stretch in &history {
            now = Second(now.0.saturating_add_signed(stretch.set));
            let seen = stretch.seen();
            for _ in 0..stretch.steps {
                now = now.plus(1);
                rotation.step(&seen, now);
            }
        }
        let last = history.last().unwrap();
        let told = |(place, does): (usize, Vec<Does>)| Told { kind: place % 3, network: place, does };
        // One is enough where nobody says otherwise.
        let well = if lost.is_empty() { 1 } else { Rules::default().min_vantages };
        let observers: Vec<Told> =
            lost.into_iter().chain(vec![vec![Well; 24]; well]).enumerate().map(told).collect();
        let views = vec![observers; last.views.len()];
        let calm = Stretch { is_blind: false, is_stopped: false, names: 0, views, ..last.clone() };
        let calm = Seen { services: vec![calm.evidence("a")], ..Seen::default() };
        for _ in 0..(2 * WAIT_SECONDS_MAX + 400) / 5 {
            now = now.plus(5);
            rotation.step(&calm, now);
        }
        prop_assert!(away(&rotation, "a", now).is_empty());
        prop_assert!(rotation.kept().pools.is_empty());
    }
}
