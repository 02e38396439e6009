//! What was measured of each node, and what that shows.
//!
//! Who measures is an [`Observer`]: a vantage that reaches several nodes; or all loopback vantages of a service together, of which each
//! measures its own, so that the loopbacks of the others are the peers of one.

use std::collections::{BTreeMap, BTreeSet};

use super::{LONG_FACTOR, LONG_SECONDS, Mode, Rules};
use crate::{VantageKind, detect::tail};

/// What a node loses is no chance if chance loses as much less often than this.
const CHANCE_BAD: f64 = 1e-6;

/// A node is well if chance loses as much no less often than this.
const CHANCE_WELL: f64 = 1e-3;

/// Where nothing at all is acceptable each loss would be no chance: then it is the least share that can be written, as in
/// [`crate::detect`].
const ACCEPTABLE_MIN: f64 = 1e-6;

/// What loses no more slots than this is none to go, however few are acceptable.
const LOST_FEW: u64 = 2;

/// What was counted of a node by an observer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Slots of the plan.
    pub scheduled: u64,
    /// Those that say something, with what nobody told yet taken for delivered.
    pub judged: u64,
    /// Lost ones.
    pub lost: u64,
}

/// What an observer measured of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Over the newest quarter of the window that is told: where what is not known yet counts for nothing, some seconds more.
    pub newest: Counted,
    /// Over the window.
    pub window: Counted,
    /// Over [`LONG_SECONDS`].
    pub long: Counted,
}

/// Who measures nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observer {
    /// What people call it: the vantage's node, or `loopback`.
    pub name: String,
    /// Which question it answers.
    pub kind: VantageKind,
    /// Its network; the same for all that have none.
    pub network: String,
    /// What it measured of each node.
    pub nodes: BTreeMap<String, Measured>,
}

/// What is known of a service in a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Of which.
    pub service: String,
    /// Whether advice is given.
    pub mode: Mode,
    /// Its figures.
    pub rules: Rules,
    /// The nodes that are steered, each with its zone.
    pub nodes: BTreeMap<String, Option<String>>,
    /// What may be lost, 0 to 1.
    pub acceptable: f64,
    /// Why nobody can tell, where nobody can.
    pub blind: Option<String>,
    /// What observers measured that can be trusted; where storage decides, once in the newest seconds and once in those that are
    /// settled.
    pub views: Vec<Vec<Observer>>,
}

/// What shows that a node is bad.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// What they lost of it.
    pub lost: u64,
    /// Of so many slots of the plan.
    pub scheduled: u64,
    /// In so many seconds.
    pub window: u64,
    /// Who.
    pub vantages: Vec<String>,
    /// So many of its peers were well.
    pub peers: usize,
    /// What those lost.
    pub peers_lost: u64,
    /// Of so many slots of the plan.
    pub peers_scheduled: u64,
}

impl Proof {
    /// The share that was lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.lost as f64 / self.scheduled.max(1) as f64
    }
}

/// What is seen of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sight {
    /// Nobody measured it.
    Unmeasured,
    /// Whoever measured it finds it well; where it is out, enough of them do.
    Well,
    /// Somebody does not; and it is not shown that it is the node.
    Ailing,
    /// It is the node.
    Bad(Proof),
}

/// What an observer finds of a node in one of the two spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Unmeasured,
    Well,
    Ailing,
    Bad,
}

/// Which of the two kinds of loss is looked for.
#[derive(Clone, Copy)]
enum Kind {
    /// Much, in the window.
    Fast,
    /// Less, over a minute.
    Slow,
}

impl Counted {
    fn loss(self) -> f64 {
        if self.judged == 0 { 0.0 } else { self.lost as f64 / self.judged as f64 }
    }

    fn is_chance(self, acceptable: f64, chance: f64) -> bool {
        self.lost == 0 || !tail::binomial_is_rare(self.lost as f64, self.judged as f64, acceptable, chance)
    }
}

impl Kind {
    const ALL: [Self; 2] = [Self::Fast, Self::Slow];

    const fn counted(self, measured: &Measured) -> Counted {
        match self {
            Self::Fast => measured.window,
            Self::Slow => measured.long,
        }
    }

    const fn seconds(self, rules: &Rules) -> u64 {
        match self {
            Self::Fast => rules.window,
            Self::Slow => LONG_SECONDS,
        }
    }
}

impl Evidence {
    /// What is seen of each node, where `away` are those that are out already, which say nothing of others.
    pub(super) fn sights(&self, away: &BTreeSet<&str>) -> BTreeMap<&str, Sight> {
        let nodes = self.nodes.keys().map(|node| (node.as_str(), self.sight(node, away)));
        nodes.collect()
    }

    fn sight(&self, node: &str, away: &BTreeSet<&str>) -> Sight {
        let looks = self.views.iter().flat_map(|view| Kind::ALL.map(|kind| (view, kind)));
        if let Some(proof) = looks.filter_map(|(view, kind)| self.proof(view, kind, node, away)).next() {
            return Sight::Bad(proof);
        }
        // Those that went return as they would have stayed: whom enough find well is well, though one lost its own way there.
        let enough = if away.contains(node) { self.rules.careful().min_vantages } else { usize::MAX };
        let mut seen = Sight::Unmeasured;
        for view in &self.views {
            let found = view.iter().map(|observer| self.finds(observer, Kind::Fast, node));
            let (mut well, mut others) = (0, 0);
            for finding in found {
                match finding {
                    Finding::Unmeasured => {}
                    Finding::Well => well += 1,
                    Finding::Ailing | Finding::Bad => others += 1,
                }
            }
            if others > 0 && well < enough {
                return Sight::Ailing;
            }
            if well > 0 {
                seen = Sight::Well;
            }
        }
        seen
    }

    fn finds(&self, observer: &Observer, kind: Kind, node: &str) -> Finding {
        let Some(measured) = observer.nodes.get(node) else { return Finding::Unmeasured };
        let counted = kind.counted(measured);
        // A little of a span may not be told yet, and a series may be young.
        if counted.judged == 0 || counted.judged * 4 < kind.seconds(&self.rules) * 3 {
            return Finding::Unmeasured;
        }
        let acceptable = self.acceptable.max(ACCEPTABLE_MIN);
        let is_lost = match kind {
            Kind::Fast => counted.loss() >= self.rules.loss && measured.newest.loss() >= self.rules.loss,
            Kind::Slow => counted.loss() >= LONG_FACTOR * acceptable && measured.window.loss() > acceptable,
        };
        if is_lost && counted.lost > LOST_FEW && !counted.is_chance(acceptable, CHANCE_BAD) {
            Finding::Bad
        } else if counted.is_chance(acceptable, CHANCE_WELL) {
            Finding::Well
        } else {
            Finding::Ailing
        }
    }

    /// What shows that it is the node, if that is so.
    fn proof(&self, view: &[Observer], kind: Kind, node: &str, away: &BTreeSet<&str>) -> Option<Proof> {
        let mut witnesses: Vec<&Observer> = Vec::new();
        let (mut kinds, mut networks) = (BTreeSet::new(), BTreeSet::new());
        let mut proof = Proof { window: kind.seconds(&self.rules), ..Proof::default() };
        let mut well = BTreeSet::new();
        for observer in view {
            match self.finds(observer, kind, node) {
                // From there it is reached: what is lost elsewhere is lost on the way.
                Finding::Well => return None,
                Finding::Unmeasured | Finding::Ailing => continue,
                Finding::Bad => {}
            }
            let peers = self.nodes.keys().filter(|peer| *peer != node && !away.contains(peer.as_str()));
            let found: Vec<(&String, Finding)> =
                peers.map(|peer| (peer, self.finds(observer, kind, peer))).collect();
            let measured = found.iter().filter(|(_, found)| *found != Finding::Unmeasured).count();
            let of_it: Vec<&String> =
                found.iter().filter(|(_, found)| *found == Finding::Well).map(|(peer, _)| *peer).collect();
            // What ails most of what it sees is its own, or wider.
            if of_it.is_empty() || of_it.len() * 2 < measured {
                continue;
            }
            let sum = |counted: Counted, lost: &mut u64, scheduled: &mut u64| {
                *lost += counted.lost;
                *scheduled += counted.scheduled.max(counted.judged);
            };
            sum(kind.counted(&observer.nodes[node]), &mut proof.lost, &mut proof.scheduled);
            for peer in of_it {
                sum(kind.counted(&observer.nodes[peer]), &mut proof.peers_lost, &mut proof.peers_scheduled);
                well.insert(peer);
            }
            kinds.insert(observer.kind);
            networks.insert(observer.network.as_str());
            witnesses.push(observer);
        }
        let is_agreed = witnesses.len() >= self.rules.min_vantages && (kinds.len() > 1 || networks.len() > 1);
        proof.vantages = witnesses.into_iter().map(|observer| observer.name.clone()).collect();
        proof.vantages.sort();
        proof.peers = well.len();
        is_agreed.then_some(proof)
    }
}
