//! What a description may become: longer by a rule or an exception, or refined.

use super::{Clause, Description, LEVELS, RULES_MAX, Search, kept, matching};
use crate::extent::{
    model::{self, Curve, loss_at},
    population::{NO_GROUP, Set},
};

/// How many exceptions a rule has at most.
const EXCEPTIONS_MAX: usize = 4;

/// How many of the most promising rules are weighed exactly before one is added.
const CANDIDATES: usize = 5;

/// By how many times more than its neighbours a rule loses that is kept when those are told as one.
const APART: f64 = 1.1;

impl Search<'_> {
    /// `from` with one rule or one exception more, the most promising.
    pub(super) fn additions(&mut self, from: &Description) -> Vec<Vec<Clause>> {
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
    pub(super) fn new_rules(&mut self, from: &Description) -> Vec<Set> {
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
    pub(super) fn neighbours(&mut self, from: &Description) -> Vec<Vec<Clause>> {
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
