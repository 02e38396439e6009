//! The shortest description of a loss: the rules whose own length, and the surprise that they leave, are least together.
//!
//! All lengths are in nats. A cell's loss is what the rules that match it add up to as independent causes do,
//! `1 - (1 - acceptable) * product(1 - loss)`; an exception takes a cell out of a rule. From nothing, the rule or
//! exception that shortens the description most is added: one pass over a cuboid weighs all its groups at once. Each time the
//! description is refined to a local optimum: rules dropped, made more general, replaced by their parts.
//! Without that two dead regions of three would read as "everything".

use std::collections::HashSet;

use super::{
    model::{self, ALL, COLUMNS, Counts, Curve, Noise, Scores, loss_at},
    population::{Cuboid, NO_GROUP, Population, Set},
};

/// A person reads no more.
const RULES_MAX: usize = 8;

/// How many exceptions a rule has at most.
const EXCEPTIONS_MAX: usize = 4;

/// How many of the most promising rules are weighed exactly before one is added.
const CANDIDATES: usize = 5;

/// By how many times more than its neighbours a rule loses that is kept when those are told as one.
const APART: f64 = 1.1;

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

    /// `from` with one rule or one exception more, the most promising.
    fn additions(&mut self, from: &Description) -> Vec<Vec<Clause>> {
        let longer = self.new_rules(from).into_iter().map(|set| {
            let mut clauses = from.clauses.clone();
            clauses.push(Clause::new(set));
            clauses
        });
        let mut all: Vec<Vec<Clause>> = longer.collect();
        for rule in 0..from.clauses.len() {
            all.extend(self.new_exception(from, rule).into_iter().map(|except| {
                let mut clauses = from.clauses.clone();
                clauses[rule].except.push(except);
                clauses[rule].except.sort_unstable();
                clauses
            }));
        }
        all
    }

    /// The sets that would shorten `from` most as a rule more, about, the best first.
    fn new_rules(&mut self, from: &Description) -> Vec<Set> {
        // What a cell gains at each level, for each class within the same rules.
        let mut rows: Vec<[f32; LEVELS.len()]> = Vec::with_capacity(self.scores.classes());
        let losses = LEVELS.map(loss_at);
        for class in 0..self.scores.classes() as u32 {
            let curve = self.scores.curve(class);
            rows.push(LEVELS.map(|level| (curve[level] - curve[0]) as f32));
        }
        let mut row_of = self.scores.class_of.clone();
        for (cell, row) in self.covered_rows(&from.clauses, &losses, &mut rows) {
            row_of[cell as usize] = row;
        }
        let best: Vec<f32> =
            rows.iter().map(|row| row.iter().fold(0.0, |best: f32, gain| best.max(*gain))).collect();
        let hopeful: Vec<(u32, f32)> = row_of
            .iter()
            .zip(0..)
            .filter_map(|(row, cell)| (best[*row as usize] > 0.0).then_some((cell, best[*row as usize])))
            .collect();

        let mut found: Vec<(f64, Set)> = Vec::with_capacity(CANDIDATES + 1);
        let mut worst = 0.0;
        let mut bounds: Vec<f32> = Vec::new();
        for (index, (cuboid, price)) in (0_u32..).zip(self.population.cuboids().iter().zip(&self.prices)) {
            // No group gains more than its cells can, each at the loss that suits it best.
            bounds.clear();
            bounds.resize(cuboid.len(), 0.0);
            for (cell, gain) in &hopeful {
                let group = cuboid.group_of[*cell as usize];
                if group != NO_GROUP {
                    bounds[group as usize] += gain;
                }
            }
            for (group, bound) in (0_u32..).zip(&bounds) {
                let set = Set { cuboid: index, group };
                if f64::from(*bound) - price <= worst
                    || !self.allowed[index as usize]
                    || from.clauses.iter().any(|clause| clause.set == set)
                {
                    continue;
                }
                let mut sums = [0.0_f32; LEVELS.len()];
                for cell in cuboid.members(group) {
                    sums.iter_mut()
                        .zip(&rows[row_of[*cell as usize] as usize])
                        .for_each(|(sum, gain)| *sum += gain);
                }
                let gain = sums.iter().fold(f32::NEG_INFINITY, |best, sum| best.max(*sum));
                let gain = f64::from(gain) - self.set_price(set);
                if gain > worst {
                    let place = found.partition_point(|(other, _)| *other >= gain);
                    found.insert(place, (gain, set));
                    found.truncate(CANDIDATES);
                    worst = if found.len() == CANDIDATES { found[CANDIDATES - 1].0 } else { 0.0 };
                }
            }
        }
        found.into_iter().map(|found| found.1).collect()
    }

    /// For each cell within rules, the row of what it would gain from one more; new rows are appended.
    fn covered_rows(
        &mut self,
        clauses: &[Clause],
        losses: &[f64; LEVELS.len()],
        rows: &mut Vec<[f32; LEVELS.len()]>,
    ) -> Vec<(u32, u32)> {
        let Self { population, scores, .. } = self;
        let matching = matching(population, clauses);
        let mut known: Vec<(u16, Vec<u32>)> = Vec::new();
        let mut covered = Vec::with_capacity(matching.len());
        for (cell, rules) in matching {
            let place = known.iter().position(|(other, _)| *other == rules).unwrap_or_else(|| {
                known.push((rules, vec![u32::MAX; scores.classes()]));
                known.len() - 1
            });
            let class = scores.class_of[cell as usize];
            let row = &mut known[place].1[class as usize];
            if *row == u32::MAX {
                *row = rows.len() as u32;
                let keep = kept(clauses, rules);
                let curve = scores.curve(class);
                let now = model::at(curve, 1.0 - keep);
                rows.push(losses.map(|loss| (model::at(curve, 1.0 - keep * (1.0 - loss)) - now) as f32));
            }
            covered.push((cell, *row));
        }
        covered
    }

    /// The set that is best excepted from a rule, if any is better outside it.
    fn new_exception(&mut self, from: &Description, rule: usize) -> Option<Set> {
        let clause = &from.clauses[rule];
        if clause.except.len() >= EXCEPTIONS_MAX {
            return None;
        }
        let population = self.population;
        let gains: Vec<(u32, f64)> = matching(population, &from.clauses)
            .into_iter()
            .filter(|(_, rules)| rules >> rule & 1 == 1)
            .map(|(cell, rules)| {
                let curve = self.scores.curve(self.scores.class_of[cell as usize]);
                let (with, without) = (kept(&from.clauses, rules), kept(&from.clauses, rules & !(1 << rule)));
                (cell, model::at(curve, 1.0 - without) - model::at(curve, 1.0 - with))
            })
            .collect();
        let hope: f64 = gains.iter().map(|(_, gain)| gain.max(0.0)).sum();
        let within = population.cuboid(clause.set).implied;
        let mut best: Option<(f64, Set)> = None;
        for (index, cuboid) in (0_u32..).zip(population.cuboids()) {
            let nested = cuboid.implied & within == within && index != clause.set.cuboid;
            if !nested || hope < self.prices[index as usize] {
                continue;
            }
            let mut sums = vec![0.0; cuboid.len()];
            for (cell, gain) in &gains {
                let group = cuboid.group_of[*cell as usize];
                if group != NO_GROUP {
                    sums[group as usize] += gain;
                }
            }
            for (group, sum) in (0_u32..).zip(sums) {
                let set = Set { cuboid: index, group };
                let gain = sum - self.set_price(set);
                if gain > best.map_or(0.0, |best| best.0) && self.is_part(set, clause.set) {
                    best = Some((gain, set));
                }
            }
        }
        best.map(|best| best.1)
    }

    fn is_part(&self, part: Set, whole: Set) -> bool {
        let group_of = &self.population.cuboid(whole).group_of;
        let members = self.population.members(part);
        members.len() < self.population.members(whole).len()
            && members.iter().all(|cell| group_of[*cell as usize] == whole.group)
    }

    /// Whether every cell of `part` is one of `whole`.
    fn within(&self, part: Set, whole: Set) -> bool {
        part == whole || self.is_part(part, whole)
    }

    /// What becomes of `from` when one rule is dropped, loses an exception, is made more general or is replaced by its parts.
    fn neighbours(&mut self, from: &Description) -> Vec<Vec<Clause>> {
        let mut all = Vec::new();
        for (rule, clause) in from.clauses.iter().enumerate() {
            let mut without = from.clauses.clone();
            without.remove(rule);
            all.push(without.clone());
            for except in 0..clause.except.len() {
                let mut clauses = from.clauses.clone();
                clauses[rule].except.remove(except);
                all.push(clauses);
            }
            for general in self.generalised(clause.set) {
                let outside: Vec<Clause> =
                    without.iter().filter(|other| !self.within(other.set, general)).cloned().collect();
                // What lost more than this rule has a cause of its own beside the general one.
                let apart: Vec<Clause> = without
                    .iter()
                    .filter(|other| other.loss > APART * clause.loss || !self.within(other.set, general))
                    .cloned()
                    .collect();
                let wide = Clause { set: general, except: Vec::new(), loss: clause.loss };
                let except = self.quiet_parts(&wide, clause.set);
                let excepting = Clause { except, ..wide.clone() };
                for mut clauses in [Some(apart).filter(|apart| apart.len() > outside.len()), Some(outside)]
                    .into_iter()
                    .flatten()
                {
                    if !excepting.except.is_empty() {
                        all.push(clauses.iter().chain([&excepting]).cloned().collect());
                    }
                    clauses.push(wide.clone());
                    all.push(clauses);
                }
            }
            for place in 0..self.population.by().len() {
                let parts = self.lossy_parts(clause.set, place, RULES_MAX - without.len());
                if !parts.is_empty() {
                    let mut clauses = without.clone();
                    clauses.extend(parts.into_iter().map(Clause::new));
                    all.push(clauses);
                }
            }
        }
        all
    }

    /// The sets that `set` is part of, with one tag less.
    fn generalised(&self, set: Set) -> Vec<Set> {
        let population = self.population;
        let cuboid = population.cuboid(set);
        let cell = population.members(set)[0] as usize;
        let mut wider: Vec<u32> = (0..population.by().len())
            .filter(|place| cuboid.tags >> place & 1 == 1)
            .flat_map(|place| [cuboid.tags & !(1 << place), cuboid.implied & !(1 << place)])
            .map(|tags| population.cuboid_of(tags))
            .filter(|wider| *wider != set.cuboid)
            .collect();
        wider.sort_unstable();
        wider.dedup();
        let sets = wider
            .into_iter()
            .map(|cuboid| Set { cuboid, group: population.cuboids()[cuboid as usize].group_of[cell] });
        sets.filter(|set| self.allowed[set.cuboid as usize]).collect()
    }

    /// Parts of `wide` beside `known` that are well, split as `known` is.
    fn quiet_parts(&self, wide: &Clause, known: Set) -> Vec<Set> {
        let mut parts: Vec<(f64, Set)> = self
            .parts(wide.set, known.cuboid)
            .into_iter()
            .filter(|part| *part != known)
            .filter_map(|part| {
                let gain: f64 = self.curves(part).map(|curve| curve[0] - model::at(curve, wide.loss)).sum();
                let gain = gain - self.set_price(part);
                (gain > 0.0).then_some((gain, part))
            })
            .collect();
        if parts.len() > EXCEPTIONS_MAX {
            return Vec::new();
        }
        parts.sort_unstable_by_key(|part| part.1);
        parts.into_iter().map(|part| part.1).collect()
    }

    /// At most `limit` parts of `set` by the tag at `place` that each lose so much as to be worth a rule.
    fn lossy_parts(&self, set: Set, place: usize, limit: usize) -> Vec<Set> {
        let cuboid = self.population.cuboid_of(self.population.cuboid(set).tags | 1 << place);
        if cuboid == set.cuboid || !self.allowed[cuboid as usize] {
            return Vec::new();
        }
        let mut parts: Vec<(f64, Set)> = self
            .parts(set, cuboid)
            .into_iter()
            .filter_map(|part| {
                let mut sums = [0.0; LEVELS.len()];
                for curve in self.curves(part) {
                    sums.iter_mut().zip(LEVELS).for_each(|(sum, level)| *sum += curve[level] - curve[0]);
                }
                let gain = sums.into_iter().fold(f64::NEG_INFINITY, f64::max) - self.prices[cuboid as usize];
                (gain > 0.0).then_some((gain, part))
            })
            .collect();
        parts.sort_unstable_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        parts.truncate(limit);
        parts.into_iter().map(|part| part.1).collect()
    }

    fn curves(&self, set: Set) -> impl Iterator<Item = &Curve> {
        self.population
            .members(set)
            .iter()
            .map(|cell| self.scores.curve(self.scores.class_of[*cell as usize]))
    }

    /// The groups of a cuboid that lie in `set`.
    fn parts(&self, set: Set, cuboid: u32) -> Vec<Set> {
        let group_of = &self.population.cuboids()[cuboid as usize].group_of;
        let mut groups: Vec<u32> =
            self.population.members(set).iter().map(|cell| group_of[*cell as usize]).collect();
        groups.sort_unstable();
        groups.dedup();
        let sets = groups.into_iter().filter(|group| *group != NO_GROUP).map(|group| Set { cuboid, group });
        sets.filter(|part| self.is_part(*part, set)).collect()
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
