//! The machine: who goes, who returns, and what holds back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Evidence, FleetRules, Guard, LASTING_SECONDS, LEASE_SECONDS, Mode, NODES_MAX, Proof, REPEATED,
    RETURNING_WEIGHT, Rules, State, WAIT_SECONDS_MAX, evidence::Sight, words,
};
use crate::Second;

/// Between two steps lies no more, or what was well before says nothing of now.
const STEP_SECONDS_MAX: u64 = 5;

/// How often a node was taken out is counted for so long.
const DAY: u64 = 86_400;

const HOUR: u64 = 3_600;

/// A name that nobody measured for so long, while others of the service were measured, is of a node that is gone. Until then it may
/// only have fallen silent.
const GONE_SECONDS: u64 = HOUR;

/// As many of these as the fleet's greatest rate allows in a day, in earnest and dry.
const EJECTIONS_MAX: usize = 2 * 24 * FleetRules::PER_HOUR_MAX;

/// That loss hides for the clearing time is less likely than one in a thousand: ln 1000.
const CLEARING_NATS: f64 = 6.9;

/// All that is seen in a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Of each service that is steered.
    pub services: Vec<Evidence>,
    /// The figures of the fleet.
    pub fleet: FleetRules,
    /// Who stopped us, if somebody did: then all are in.
    pub stopped: Option<String>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nodes are out.
    Out,
    /// They return.
    Returning,
    /// They are in.
    In,
    /// They stay in.
    Refused(Guard),
}

/// Something that happened to nodes of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Of which service.
    pub service: String,
    /// To which nodes.
    pub nodes: Vec<String>,
    /// Whether others are told to do it.
    pub is_live: bool,
    /// What.
    pub what: What,
    /// The same in words, with what shows it.
    pub text: String,
}

/// What whoever balances is told of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Where it is to be.
    pub state: State,
    /// The share of its weight that it is to get, in percent.
    pub weight: u8,
    /// Why, where it is not in; what would be, in a dry run.
    pub reason: Option<String>,
    /// What showed it.
    pub proof: Option<Proof>,
    /// From then on it does not hold, and the node is in.
    pub until: Second,
}

/// Nodes that stay in though they are bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub guard: Guard,
    /// Which.
    pub nodes: Vec<String>,
    /// In words.
    pub text: String,
}

/// A node was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// When.
    pub at: Second,
    /// Of which service.
    pub service: String,
    /// Which.
    pub node: String,
    /// Whether others were told to do it.
    pub is_live: bool,
}

/// A node that is not in, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNode {
    /// Whether it returns already.
    pub state: State,
    /// Since when that is so.
    pub since: Second,
    /// What showed that it is bad.
    pub proof: Proof,
}

/// A service, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPool {
    /// Whether advice is given.
    pub mode: Mode,
    /// The nodes that are not in.
    pub away: BTreeMap<String, KeptNode>,
}

/// What a life leaves to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The services with nodes that are not in.
    pub pools: BTreeMap<String, KeptPool>,
    /// Who was taken out within a day.
    pub ejections: Vec<Ejection>,
}

/// A node that is not in.
#[derive(Clone, Debug, PartialEq)]
struct Away {
    state: State,
    since: Second,
    proof: Proof,
    /// Enough of those who measure it find it well since then.
    well_since: Option<Second>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pool {
    mode: Mode,
    nodes: BTreeSet<String>,
    away: BTreeMap<String, Away>,
    /// The nodes that nobody measures, and for how many seconds in which others were measured.
    silent: BTreeMap<String, u64>,
    refused: Option<Refused>,
}

/// How many nodes there are to be held back by.
struct Count {
    /// Without those that are gone for good.
    known: usize,
    /// That somebody measures now.
    measured: usize,
    /// Of those that are known and in, such as nobody measures now.
    silent: usize,
}

/// Which nodes of which services are in rotation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rotation {
    pools: BTreeMap<String, Pool>,
    ejections: VecDeque<Ejection>,
    looked: Option<Second>,
    refusals: BTreeMap<Guard, u64>,
}

impl Rotation {
    /// What an earlier life left.
    pub fn from_kept(kept: Kept) -> Self {
        let pool = |KeptPool { mode, away }: KeptPool| {
            let away: BTreeMap<String, Away> = away
                .into_iter()
                .map(|(node, KeptNode { state, since, proof })| {
                    (node, Away { state, since, proof, well_since: None })
                })
                .collect();
            Pool { nodes: away.keys().cloned().collect(), away, ..Pool::new(mode) }
        };
        Self {
            pools: kept.pools.into_iter().map(|(service, kept)| (service, pool(kept))).collect(),
            ejections: kept.ejections.into(),
            ..Self::default()
        }
    }

    /// What the next life needs: it changes with an action, and not with time.
    pub fn kept(&self) -> Kept {
        let away = |away: &Away| KeptNode { state: away.state, since: away.since, proof: away.proof.clone() };
        let pools = self.pools.iter().filter(|(_, pool)| !pool.away.is_empty());
        let pools = pools.map(|(service, pool)| {
            let nodes = pool.away.iter().map(|(node, it)| (node.clone(), away(it)));
            (service.clone(), KeptPool { mode: pool.mode, away: nodes.collect() })
        });
        Kept { pools: pools.collect(), ejections: self.ejections.iter().cloned().collect() }
    }

    /// Takes in what is seen at `now`, and says what happened.
    pub fn step(&mut self, seen: &Seen, now: Second) -> Vec<Action> {
        let mut actions = Vec::new();
        let elapsed = self.follow_clock(now);
        self.forget(now);
        let steered: BTreeSet<&str> = seen
            .services
            .iter()
            .filter(|it| it.mode != Mode::Off && seen.stopped.is_none())
            .map(|it| it.service.as_str())
            .collect();
        let why = seen.stopped.as_ref().map_or_else(
            || "the service is not steered any more".to_owned(),
            |by| format!("steering was stopped by {by}"),
        );
        let ended: Vec<String> =
            self.pools.keys().filter(|service| !steered.contains(service.as_str())).cloned().collect();
        for service in ended {
            if let Some(mut pool) = self.pools.remove(&service) {
                pool.all_in(&service, &why, &mut actions);
            }
        }
        for evidence in seen.services.iter().filter(|it| steered.contains(it.service.as_str())) {
            self.pool(evidence, seen.fleet, now, elapsed, &mut actions);
        }
        self.forget(now);
        actions
    }

    /// Lets go of who was taken out longer than a day ago, and is in by now.
    fn forget(&mut self, now: Second) {
        let is_away = |it: &Ejection| {
            let pool = self.pools.get(&it.service).filter(|pool| (pool.mode == Mode::Live) == it.is_live);
            pool.is_some_and(|pool| pool.away.contains_key(&it.node))
        };
        self.ejections.retain(|it| now.0.saturating_sub(it.at.0) < DAY || is_away(it));
    }

    /// What each node of each service is to be told at `now`; what nobody renewed says that it is in.
    pub fn advice(&self, now: Second) -> BTreeMap<&str, (Mode, BTreeMap<&str, Advice>)> {
        let until = self.looked.unwrap_or_default().plus(LEASE_SECONDS);
        let pools = self.pools.iter();
        pools
            .map(|(service, pool)| (service.as_str(), (pool.mode, pool.advice(until, now < until))))
            .collect()
    }

    /// The services of which bad nodes stay in, each with whether it is in earnest.
    pub fn refused(&self) -> impl Iterator<Item = (&str, bool, &Refused)> {
        let pools = self.pools.iter();
        pools.filter_map(|(service, pool)| {
            Some((service.as_str(), pool.mode == Mode::Live, pool.refused.as_ref()?))
        })
    }

    /// The services that are steered, and whether advice is given.
    pub fn modes(&self) -> impl Iterator<Item = (&str, Mode)> {
        self.pools.iter().map(|(service, pool)| (service.as_str(), pool.mode))
    }

    /// How many nodes of a service are where; in a dry run where they would be.
    pub fn states(&self, service: &str) -> Vec<(State, usize)> {
        let Some(pool) = self.pools.get(service) else { return Vec::new() };
        let of = |state: State| match state {
            State::In => pool.nodes.len().saturating_sub(pool.away.len()),
            other => pool.away.values().filter(|away| away.state == other).count(),
        };
        State::ALL.iter().map(|state| (*state, of(*state))).collect()
    }

    /// How often a guard held something back.
    pub const fn refusals(&self) -> &BTreeMap<Guard, u64> {
        &self.refusals
    }

    /// The services with the nodes that were taken out in earnest so often within a day that a person is to look, and how
    /// often.
    pub fn repeated(&self) -> Vec<(&str, &str, usize)> {
        let mut times: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for ejection in self.ejections.iter().filter(|it| it.is_live) {
            *times.entry((&ejection.service, &ejection.node)).or_default() += 1;
        }
        let often = times.into_iter().filter(|(_, times)| *times >= REPEATED);
        often.map(|((service, node), times)| (service, node, times)).collect()
    }

    /// The services with the nodes that have been out in earnest for so long that a person is to look.
    pub fn lasting(&self, now: Second) -> impl Iterator<Item = (&str, &str)> {
        let live = self.pools.iter().filter(|(_, pool)| pool.mode == Mode::Live);
        let away =
            live.flat_map(|(service, pool)| pool.away.iter().map(move |(node, it)| (service, node, it)));
        let lasts =
            move |it: &Away| it.state == State::Out && now.0.saturating_sub(it.since.0) >= LASTING_SECONDS;
        away.filter(move |(.., it)| lasts(it)).map(|(service, node, _)| (service.as_str(), node.as_str()))
    }

    /// Who was taken out within a day, or is still out, the earliest first.
    pub fn ejections(&self) -> impl Iterator<Item = &Ejection> {
        self.ejections.iter()
    }

    /// What lies ahead of a clock that was set back happened now, at the latest; and of a stretch that was slept through
    /// nobody knows that it was well. Returns how many seconds passed in which somebody looked.
    fn follow_clock(&mut self, now: Second) -> u64 {
        let looked = self.looked.replace(now);
        let is_steady = looked.is_some_and(|before| before <= now && now.0 - before.0 <= STEP_SECONDS_MAX);
        for ejection in &mut self.ejections {
            ejection.at = ejection.at.min(now);
        }
        for away in self.pools.values_mut().flat_map(|pool| pool.away.values_mut()) {
            away.since = away.since.min(now);
            away.well_since = away.well_since.filter(|_| is_steady);
        }
        looked.filter(|_| is_steady).map_or(0, |before| now.0 - before.0)
    }

    fn pool(
        &mut self,
        evidence: &Evidence,
        fleet: FleetRules,
        now: Second,
        elapsed: u64,
        actions: &mut Vec<Action>,
    ) {
        let service = &evidence.service;
        let rules = evidence.rules.careful();
        let pool = self.pools.entry(service.clone()).or_insert_with(|| Pool::new(evidence.mode));
        if pool.mode != evidence.mode {
            pool.all_in(service, "the mode is another", actions);
            *pool = Pool::new(evidence.mode);
        }
        pool.list(evidence, &rules, service, actions);
        if evidence.blind.is_some() || evidence.nodes.len() > NODES_MAX {
            pool.away.values_mut().for_each(|away| away.well_since = None);
            pool.refused = None;
            return;
        }
        let sights = {
            let away = pool.away.keys().map(String::as_str).collect();
            evidence.sights(&away)
        };
        pool.note_silent(&sights, elapsed);
        for (node, sight) in &sights {
            let waits = self.ejections.iter().filter(|it| it.is_of(service, node, pool.mode)).count();
            if let Some((what, text)) = pool.follow(node, sight, &rules, waits, now) {
                actions.push(pool.act(service, (*node).to_owned(), what, text));
            }
        }
        let bad: BTreeMap<&str, &Proof> = sights
            .iter()
            .filter(|(node, _)| !pool.is_out(node))
            .filter_map(|(node, sight)| match sight {
                Sight::Bad(proof) => Some((*node, proof)),
                _ => None,
            })
            .collect();
        let Some((node, proof)) = bad
            .iter()
            .max_by(|left, right| left.1.loss().total_cmp(&right.1.loss()).then(right.0.cmp(left.0)))
        else {
            pool.refused = None;
            return;
        };
        // Of those that are lossy in any way, who knows how many are bad in a moment.
        let ailing = sights.iter().filter(|(_, sight)| matches!(sight, Sight::Ailing | Sight::Bad(_)));
        let gone: BTreeSet<&str> =
            ailing.map(|(node, _)| *node).chain(pool.away.keys().map(String::as_str)).collect();
        let within = |seconds: u64| {
            let of_mode = self.ejections.iter().filter(|it| it.is_live == (pool.mode == Mode::Live));
            of_mode.filter(move |it| now.0.saturating_sub(it.at.0) < seconds)
        };
        let count = pool.count();
        let held_back = if let Some(guard) = over_budget(evidence, &rules, &count, &gone) {
            let figure = match guard {
                Guard::Floor => rules.in_min(count.known),
                _ => rules.out_max(count.measured),
            };
            Some((guard, figure as u64))
        } else if within(rules.every).any(|it| it.service == *service) {
            Some((Guard::ServiceRate, rules.every))
        } else {
            let per_hour = fleet.per_hour.min(FleetRules::PER_HOUR_MAX);
            (within(HOUR).count() >= per_hour).then_some((Guard::FleetRate, per_hour as u64))
        };
        let is_live = pool.mode == Mode::Live;
        if let Some((guard, figure)) = held_back {
            let out: Vec<&str> =
                pool.away.keys().map(String::as_str).filter(|it| !bad.contains_key(it)).collect();
            let names: Vec<&str> = bad.keys().copied().collect();
            let limit = match guard {
                Guard::Floor if count.silent > 0 => words::floor(count.known, figure, count.silent),
                Guard::Budget if count.measured < count.known => words::budget(count.measured, figure),
                _ => words::limit(guard, count.known, figure),
            };
            // Where too few are measured nothing is shown of what the bad ones share.
            let is_shared = guard.is_correlated() && (guard != Guard::Floor || count.silent == 0);
            let text = words::refused(is_shared, &names, &out, is_live, &limit);
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let is_known =
                pool.refused.as_ref().is_some_and(|known| known.guard == guard && known.nodes == names);
            if !is_known {
                *self.refusals.entry(guard).or_default() += 1;
                let (service, nodes) = (service.clone(), names.clone());
                actions.push(Action {
                    service,
                    nodes,
                    is_live,
                    what: What::Refused(guard),
                    text: text.clone(),
                });
            }
            pool.refused = Some(Refused { guard, nodes: names, text });
            return;
        }
        pool.refused = None;
        let (node, proof) = ((*node).to_owned(), (*proof).clone());
        self.ejections.push_back(Ejection { at: now, service: service.clone(), node: node.clone(), is_live });
        self.ejections.drain(..self.ejections.len().saturating_sub(EJECTIONS_MAX));
        let times = self.ejections.iter().filter(|it| it.is_of(service, &node, pool.mode)).count();
        let text = words::taken_out(&node, is_live, &proof, wait(&rules, times));
        pool.away.insert(node.clone(), Away { state: State::Out, since: now, proof, well_since: None });
        actions.push(Action { service: service.clone(), nodes: vec![node], is_live, what: What::Out, text });
    }
}

/// What of the budget would not hold if all of `gone` went. Of whom nobody measures it is not known that it is in, and nobody may go
/// because of it.
fn over_budget(evidence: &Evidence, rules: &Rules, count: &Count, gone: &BTreeSet<&str>) -> Option<Guard> {
    if count.known.saturating_sub(count.silent + gone.len()) < rules.in_min(count.known) {
        return Some(Guard::Floor);
    }
    if gone.len() > rules.out_max(count.measured) {
        return Some(Guard::Budget);
    }
    let mut zones = BTreeSet::new();
    // Nodes of which no zone is known may share one.
    let is_shared = gone.iter().any(|node| !zones.insert(evidence.nodes.get(*node)));
    is_shared.then_some(Guard::Zone)
}

/// For how long a node is out that went so often within a day, this time among them.
fn wait(rules: &Rules, times: usize) -> u64 {
    let doubled = rules.readmit_after << times.saturating_sub(1).min(16);
    doubled.min(WAIT_SECONDS_MAX.max(rules.readmit_after))
}

impl Ejection {
    fn is_of(&self, service: &str, node: &str, mode: Mode) -> bool {
        self.service == service && self.node == node && self.is_live == (mode == Mode::Live)
    }
}

impl Advice {
    const fn in_rotation(until: Second) -> Self {
        Self { state: State::In, weight: 100, reason: None, proof: None, until }
    }
}

impl Away {
    fn advice(&self, node: &str, mode: Mode, until: Second) -> Advice {
        let proof = Some(self.proof.clone());
        let reason = words::reason(&self.proof);
        if mode != Mode::Live {
            let would = match self.state {
                State::Returning => format!("{node} would be returning (dry run): {reason}"),
                _ => format!("{node} would be out of rotation (dry run): {reason}"),
            };
            return Advice { reason: Some(would), proof, ..Advice::in_rotation(until) };
        }
        let weight = if self.state == State::Returning { RETURNING_WEIGHT } else { 0 };
        Advice { state: self.state, weight, reason: Some(reason), proof, until }
    }

    /// So long it must be well: until loss of that share would hide for as long less often than once in a thousand times.
    fn clearing(&self, rules: &Rules) -> u64 {
        let a_second = self.proof.lost as f64 / self.proof.window.max(1) as f64;
        let least = if a_second > 0.0 { (CLEARING_NATS / a_second).ceil() as u64 } else { 0 };
        rules.readmit_after.max(least).min(WAIT_SECONDS_MAX.max(rules.readmit_after))
    }
}

impl Pool {
    const fn new(mode: Mode) -> Self {
        Self { mode, nodes: BTreeSet::new(), away: BTreeMap::new(), silent: BTreeMap::new(), refused: None }
    }

    const fn is_live(&self) -> bool {
        matches!(self.mode, Mode::Live)
    }

    /// Whether a node gets nothing already.
    fn is_out(&self, node: &str) -> bool {
        self.away.get(node).is_some_and(|away| away.state == State::Out)
    }

    /// Whether it counts still. What is out keeps its place, whoever measures it.
    fn is_known(&self, node: &str) -> bool {
        self.away.contains_key(node) || self.silent.get(node).is_none_or(|seconds| *seconds < GONE_SECONDS)
    }

    fn known(&self) -> usize {
        self.nodes.iter().filter(|node| self.is_known(node)).count()
    }

    fn count(&self) -> Count {
        let is_silent = |node: &&String| !self.away.contains_key(*node) && self.is_known(node);
        Count {
            known: self.known(),
            measured: self.nodes.len() - self.silent.len(),
            silent: self.silent.keys().filter(is_silent).count(),
        }
    }

    /// Where nobody measures anything, that says nothing of nodes.
    fn note_silent(&mut self, sights: &BTreeMap<&str, Sight>, elapsed: u64) {
        if sights.values().all(|sight| *sight == Sight::Unmeasured) {
            return;
        }
        for (node, sight) in sights {
            match sight {
                Sight::Unmeasured => *self.silent.entry((*node).to_owned()).or_default() += elapsed,
                _ => drop(self.silent.remove(*node)),
            }
        }
    }

    fn act(&self, service: &str, node: String, what: What, text: String) -> Action {
        Action { service: service.to_owned(), nodes: vec![node], is_live: self.is_live(), what, text }
    }

    fn all_in(&mut self, service: &str, why: &str, actions: &mut Vec<Action>) {
        for (node, _) in std::mem::take(&mut self.away) {
            let text = words::back(&node, self.is_live(), why);
            actions.push(self.act(service, node, What::In, text));
        }
    }

    fn advice(&self, until: Second, is_renewed: bool) -> BTreeMap<&str, Advice> {
        let of_node = |node: &String| match self.away.get(node).filter(|_| is_renewed) {
            Some(away) => away.advice(node, self.mode, until),
            None => Advice::in_rotation(until),
        };
        self.nodes.iter().map(|node| (node.as_str(), of_node(node))).collect()
    }

    /// Takes the list of nodes in. Of those that are out, as many return as must be in.
    fn list(&mut self, evidence: &Evidence, rules: &Rules, service: &str, actions: &mut Vec<Action>) {
        self.nodes = evidence.nodes.keys().cloned().collect();
        let gone: Vec<String> =
            self.away.keys().filter(|node| !self.nodes.contains(*node)).cloned().collect();
        for node in gone {
            self.away.remove(&node);
            let text = words::back(&node, self.is_live(), "it is not among the nodes any more");
            actions.push(self.act(service, node, What::In, text));
        }
        self.silent.retain(|node, _| self.nodes.contains(node));
        while !self.away.is_empty() {
            let nodes = self.known();
            if nodes - self.away.len() >= rules.in_min(nodes) {
                return;
            }
            let longest = self.away.iter().min_by_key(|(_, away)| away.since).map(|(node, _)| node.clone());
            let Some(node) = longest else { return };
            self.away.remove(&node);
            let why = words::limit(Guard::Floor, nodes, rules.in_min(nodes) as u64);
            let text = words::back(&node, self.is_live(), &why);
            actions.push(self.act(service, node, What::In, text));
        }
    }

    /// Lets a node that is not in take its next step towards that, and says which. It went `times` times within a day.
    fn follow(
        &mut self,
        node: &str,
        sight: &Sight,
        rules: &Rules,
        times: usize,
        now: Second,
    ) -> Option<(What, String)> {
        let is_live = self.is_live();
        let away = self.away.get_mut(node)?;
        if *sight != Sight::Well {
            away.well_since = None;
            return None;
        }
        let well = now.0.saturating_sub(away.well_since.get_or_insert(now).0);
        let passed = now.0.saturating_sub(away.since.0);
        match away.state {
            State::Out if passed >= wait(rules, times) && well >= away.clearing(rules) => {
                (away.state, away.since) = (State::Returning, now);
                Some((What::Returning, words::returning(node, is_live, RETURNING_WEIGHT)))
            }
            State::Returning if passed.min(well) >= rules.readmit_after => {
                self.away.remove(node);
                Some((What::In, words::back(node, is_live, "it was well while it returned")))
            }
            _ => None,
        }
    }
}
