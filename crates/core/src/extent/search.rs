//! The shortest description of a loss: the rules whose own length, and the surprise that they leave, are least together.
//!
//! All lengths are in nats. A cell's loss is what the rules that match it add up to as independent causes do,
//! `1 - (1 - acceptable) * product(1 - loss)`; an exception takes a cell out of a rule. From nothing, the rule or
//! exception that shortens the description most is added: one pass over a cuboid weighs all its groups at once. Each time the
//! description is refined to a local optimum: rules dropped, made more general, replaced by their parts.
//! Without that two dead regions of three would read as "everything".

mod moves;

use std::collections::HashSet;

use super::{
    model::{self, ALL, COLUMNS, Counts, Curve, Noise, Scores, loss_at},
    population::{Cuboid, NO_GROUP, Population, Set},
};

/// A person reads no more.
const RULES_MAX: usize = 8;

/// The columns at which every group of every cuboid is weighed: from 1 % to all.
const LEVELS: [usize; 8] = [8, 12, 16, 20, 24, 29, 35, ALL];

/// Lengths that differ by less are equal; then the smaller description in the order of its sets is taken.
const EQUAL: f64 = 1e-6;

/// One cause: cells of a set, but for those excepted, lose so much.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clause {
    pub(super) set: Set,
    pub(super) except: Vec<Set>,
    pub(super) loss: f64,
}

impl Clause {
    pub(super) fn new(set: Set) -> Self {
        Self { set, except: Vec::new(), loss: 0.0 }
    }
}

/// A set of causes, and how long it takes to tell them and what they leave to chance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Description {
    pub(super) clauses: Vec<Clause>,
    /// Nats.
    pub(super) cost: f64,
}

impl Description {
    fn key(&self) -> Key {
        key(&self.clauses)
    }

    /// Shorter, or as short and simpler.
    fn better(&self, other: &Self) -> bool {
        if (self.cost - other.cost).abs() > EQUAL {
            return self.cost < other.cost;
        }
        (self.clauses.len(), self.key()) < (other.clauses.len(), other.key())
    }
}

type Key = Vec<(Set, Vec<Set>)>;

fn key(clauses: &[Clause]) -> Key {
    clauses.iter().map(|clause| (clause.set, clause.except.clone())).collect()
}

/// Cells that the same rules match.
struct Atom {
    /// The rules, as bits.
    rules: u16,
    curve: Curve,
}

/// A search over one population and its counts.
pub(super) struct Search<'a> {
    pub(super) population: &'a Population,
    pub(super) scores: Scores,
    /// Of which cuboids rules may be made.
    allowed: Vec<bool>,
    /// What it takes to name a group of each cuboid.
    prices: Vec<f64>,
    /// The slots judged in each group of each cuboid.
    judged: Vec<Vec<f64>>,
    /// Each cell's rules while a description is weighed, as bits; empty otherwise.
    rules_of: Vec<u16>,
    weighed: HashSet<Key>,
}

impl<'a> Search<'a> {
    /// # Panics
    /// If there are not as many counts as cells.
    pub(super) fn new(population: &'a Population, counts: &[Counts]) -> Self {
        assert_eq!(population.len(), counts.len(), "each cell has its counts");
        let varying = (0..population.by().len()).filter(|place| population.values(*place).len() > 1).count();
        let price = |cuboid: &Cuboid| {
            let tags = cuboid.tags.count_ones() as usize;
            (cuboid.len().max(1) as f64).ln() + ln_choose(varying, tags) + 0.7 * tags as f64 + 1.0
        };
        let judged = |cuboid: &Cuboid| {
            let mut judged = vec![0.0; cuboid.len()];
            for (group, cell) in cuboid.group_of.iter().zip(counts).filter(|(group, _)| **group != NO_GROUP) {
                judged[*group as usize] += cell.judged as f64;
            }
            judged
        };
        Self {
            population,
            scores: Scores::new(counts, Noise::default()),
            allowed: vec![true; population.cuboids().len()],
            judged: population.cuboids().iter().map(judged).collect(),
            prices: population.cuboids().iter().map(price).collect(),
            rules_of: vec![0; population.len()],
            weighed: HashSet::new(),
        }
    }

    /// The shortest description that is found: once with the noise that a fleet usually has, once with what that taught.
    pub(super) fn run(&mut self) -> Description {
        let first = self.descend(Vec::new());
        self.learn(&first);
        self.descend(first.clauses)
    }

    /// The best description by rules of the cuboids that `allowed` accepts alone.
    pub(super) fn descend_within(&mut self, allowed: &dyn Fn(u32) -> bool) -> Description {
        self.allowed = (0..self.population.cuboids().len() as u32).map(allowed).collect();
        let found = self.descend(Vec::new());
        self.allowed.fill(true);
        found
    }

    /// The best description by one rule of the cuboids that `allowed` accepts.
    pub(super) fn best_alone(&mut self, allowed: &dyn Fn(u32) -> bool) -> Option<Description> {
        self.allowed = (0..self.population.cuboids().len() as u32).map(allowed).collect();
        let nothing = self.weigh(Vec::new());
        let rules = self.new_rules(&nothing);
        self.allowed.fill(true);
        let weighed = rules.into_iter().map(|set| self.weigh(vec![Clause::new(set)]));
        weighed.reduce(|best, next| if next.better(&best) { next } else { best })
    }

    /// Learns from what `description` covers and leaves what the noise is.
    pub(super) fn learn(&mut self, description: &Description) {
        let atoms = self.tally(&description.clauses);
        let mut uncovered = vec![0; self.scores.classes()];
        let mut covered = Vec::new();
        self.scores.class_of.iter().for_each(|class| uncovered[*class as usize] += 1);
        for (rules, classes) in atoms {
            let loss = 1.0 - kept(&description.clauses, rules);
            for (class, cells) in classes.iter().enumerate().filter(|(_, cells)| **cells > 0) {
                uncovered[class] -= cells;
                covered.push((class as u32, loss, *cells));
            }
        }
        let noise = self.scores.learn(&uncovered, &covered);
        self.scores.set_noise(noise);
    }

    fn descend(&mut self, start: Vec<Clause>) -> Description {
        self.weighed.clear();
        let mut best = self.weigh(start);
        loop {
            best = self.refine(best);
            if let Some(longer) = self.best_of(&best, Self::additions) {
                best = longer;
            } else {
                return best;
            }
        }
    }

    fn refine(&mut self, mut best: Description) -> Description {
        while let Some(better) = self.best_of(&best, Self::neighbours) {
            best = better;
        }
        best
    }

    /// The best of what `moves` makes of `from`, if it is better than that.
    fn best_of(
        &mut self,
        from: &Description,
        moves: impl Fn(&mut Self, &Description) -> Vec<Vec<Clause>>,
    ) -> Option<Description> {
        let mut best: Option<Description> = None;
        for mut clauses in moves(self, from) {
            sort(&mut clauses);
            if clauses.len() > RULES_MAX || !self.weighed.insert(key(&clauses)) {
                continue;
            }
            let found = self.weigh(clauses);
            if found.better(best.as_ref().unwrap_or(from)) {
                best = Some(found);
            }
        }
        best
    }

    /// Fits the losses of `clauses`, and weighs the description that they make.
    pub(super) fn weigh(&mut self, mut clauses: Vec<Clause>) -> Description {
        sort(&mut clauses);
        let atoms: Vec<Atom> = self
            .tally(&clauses)
            .into_iter()
            .map(|(rules, classes)| {
                let mut curve = [0.0; COLUMNS];
                for (class, cells) in classes.iter().enumerate().filter(|(_, cells)| **cells > 0) {
                    let cells = f64::from(*cells);
                    curve
                        .iter_mut()
                        .zip(self.scores.curve(class as u32))
                        .for_each(|(sum, score)| *sum += cells * score);
                }
                Atom { rules, curve }
            })
            .collect();
        let likely = fit(&mut clauses, &atoms);
        let quiet = self.scores.quiet() - atoms.iter().map(|atom| atom.curve[0]).sum::<f64>();
        let told = clauses.iter().map(|clause| self.price(clause)).sum::<f64>();
        Description { cost: told - likely - quiet, clauses }
    }

    /// For each set of rules that match cells, how many of each class.
    fn tally(&mut self, clauses: &[Clause]) -> Vec<(u16, Vec<u32>)> {
        let Self { population, scores, rules_of, .. } = self;
        for (rule, clause) in clauses.iter().enumerate() {
            mark(population, rules_of, rule, clause);
        }
        let mut tallies: Vec<(u16, Vec<u32>)> = Vec::new();
        // Where the tally of each set of rules is, one more than its place.
        let mut places = [0_u8; 1 << RULES_MAX];
        for cell in clauses.iter().flat_map(|clause| population.members(clause.set)) {
            let rules = std::mem::take(&mut rules_of[*cell as usize]);
            if rules == 0 {
                continue;
            }
            let place = &mut places[usize::from(rules)];
            if *place == 0 {
                tallies.push((rules, vec![0; scores.classes()]));
                *place = tallies.len() as u8;
            }
            tallies[usize::from(*place) - 1].1[scores.class_of[*cell as usize] as usize] += 1;
        }
        tallies
    }

    /// What it takes to tell a clause. An exception costs as much as a rule, so that whichever are fewer are told: those
    /// of a tag's values that lose, or those that do not.
    fn price(&self, clause: &Clause) -> f64 {
        let sets = clause.except.iter().chain([&clause.set]);
        sets.map(|set| self.set_price(*set)).sum()
    }

    fn set_price(&self, set: Set) -> f64 {
        self.prices[set.cuboid as usize] + self.loss_price(set)
    }

    /// What it takes to tell a loss as exactly as the slots of `set` show it. Slots of one cell say less than those of many.
    fn loss_price(&self, set: Set) -> f64 {
        let judged = self.judged[set.cuboid as usize][set.group as usize];
        let each = judged / self.population.members(set).len() as f64;
        0.5 * (judged / (1.0 + (each - 1.0).max(0.0) * self.scores.noise.spread)).max(1.0).ln()
    }
}

fn sort(clauses: &mut [Clause]) {
    clauses.sort_unstable_by(|left, right| (left.set, &left.except).cmp(&(right.set, &right.except)));
}

/// The cells that rules match, with those as bits.
pub(super) fn matching(population: &Population, clauses: &[Clause]) -> Vec<(u32, u16)> {
    let mut rules_of = vec![0_u16; population.len()];
    for (rule, clause) in clauses.iter().enumerate() {
        mark(population, &mut rules_of, rule, clause);
    }
    (0..).zip(rules_of).filter(|(_, rules)| *rules != 0).collect()
}

/// Sets the bit of a rule for each cell that it matches.
fn mark(population: &Population, rules_of: &mut [u16], rule: usize, clause: &Clause) {
    for cell in population.members(clause.set) {
        rules_of[*cell as usize] |= 1 << rule;
    }
    for cell in clause.except.iter().flat_map(|except| population.members(*except)) {
        rules_of[*cell as usize] &= !(1 << rule);
    }
}

/// The share of a cell's slots that `rules` leave, of those that would be delivered without them.
pub(super) fn kept(clauses: &[Clause], rules: u16) -> f64 {
    let matching = clauses.iter().enumerate().filter(|(rule, _)| rules >> rule & 1 == 1);
    matching.map(|(_, clause)| 1.0 - clause.loss).product()
}

/// Sets the losses of `clauses` to what makes `atoms` most likely, each in turn; returns how likely.
fn fit(clauses: &mut [Clause], atoms: &[Atom]) -> f64 {
    clauses.iter_mut().for_each(|clause| clause.loss = 0.0);
    let overlap = atoms.iter().any(|atom| atom.rules.count_ones() > 1);
    for _ in 0..if overlap { 4 } else { 1 } {
        for rule in 0..clauses.len() {
            let bit = 1 << rule;
            let parts: Vec<(&Curve, f64)> = atoms
                .iter()
                .filter(|atom| atom.rules & bit != 0)
                .map(|atom| (&atom.curve, kept(clauses, atom.rules & !bit)))
                .collect();
            let likely = |loss: f64| -> f64 {
                parts.iter().map(|(curve, keep)| model::at(curve, 1.0 - keep * (1.0 - loss))).sum()
            };
            let in_column = |column: usize| -> f64 {
                let score = |(curve, keep): &(&Curve, f64)| {
                    if *keep == 1.0 {
                        curve[column]
                    } else {
                        model::at(curve, 1.0 - keep * (1.0 - loss_at(column)))
                    }
                };
                parts.iter().map(score).sum()
            };
            let mut best = (0..1).chain(LEVELS).fold((0, f64::NEG_INFINITY), |best, column| {
                let score = in_column(column);
                if score > best.1 { (column, score) } else { best }
            });
            // Up the hill that the levels showed.
            while let Some(next) = [best.0.saturating_sub(1), (best.0 + 1).min(ALL)]
                .into_iter()
                .map(|column| (column, in_column(column)))
                .find(|next| next.1 > best.1)
            {
                best = next;
            }
            clauses[rule].loss = loss_at(best.0);
            if (2..ALL - 1).contains(&best.0) {
                // The vertex of the parabola through the best column and its neighbours, in log-odds.
                let (left, right) = (in_column(best.0 - 1), in_column(best.0 + 1));
                let bend = left - 2.0 * best.1 + right;
                let offset = if bend < 0.0 { (0.5 * (left - right) / bend).clamp(-0.5, 0.5) } else { 0.0 };
                let vertex = model::loss_between(best.0, offset);
                if likely(vertex) > best.1 {
                    clauses[rule].loss = vertex;
                }
            }
        }
    }
    atoms.iter().map(|atom| model::at(&atom.curve, 1.0 - kept(clauses, atom.rules))).sum()
}

/// The logarithm of how many ways there are to choose `few` of `all`.
fn ln_choose(all: usize, few: usize) -> f64 {
    (0..few.min(all)).map(|place| ((all - place) as f64 / (place + 1) as f64).ln()).sum()
}
