//! What a search found, as the rules that people and other programs read.

use super::{
    Extent, Rule,
    model::Counts,
    population::Population,
    search::{Clause, Search, matching},
};

/// Where the loss in `counts` is, one for each cell of `population` and in its order.
///
/// The rules are the shortest description of the loss: each is as long as it takes to name it among all others, and
/// what they leave unexplained costs its surprise.
///
/// # Panics
/// If there are not as many counts as cells.
pub fn explain(population: &Population, counts: &[Counts]) -> Extent {
    let found = Search::new(population, counts).run();
    extent(population, counts, &found.clauses)
}

/// What `clauses` say of `counts`.
pub(super) fn extent(population: &Population, counts: &[Counts], clauses: &[Clause]) -> Extent {
    let excess = |cell: &Counts| (cell.lost as f64 - cell.acceptable * cell.judged as f64).max(0.0);
    // Where causes overlap, each is due what it takes from the logarithm of what is delivered.
    let weight = |clause: &Clause| -(1.0 - clause.loss).max(f64::MIN_POSITIVE).ln();
    let total: f64 = counts.iter().map(excess).sum();
    let mut rules: Vec<Rule> = clauses
        .iter()
        .map(|clause| Rule {
            matches: population.predicate(clause.set),
            except: clause.except.iter().map(|except| population.predicate(*except)).collect(),
            loss: clause.loss,
            share: 0.0,
            lost: 0,
            judged: 0,
        })
        .collect();
    for (cell, matched) in matching(population, clauses) {
        let cell = &counts[cell as usize];
        let matched = |rule: &usize| matched >> rule & 1 == 1;
        let whole: f64 = (0..clauses.len()).filter(matched).map(|rule| weight(&clauses[rule])).sum();
        for rule in (0..clauses.len()).filter(matched) {
            rules[rule].lost += cell.lost;
            rules[rule].judged += cell.judged;
            if total > 0.0 && whole > 0.0 {
                rules[rule].share += weight(&clauses[rule]) / whole * excess(cell) / total;
            }
        }
    }
    rules.sort_by(|left, right| {
        right.share.total_cmp(&left.share).then_with(|| left.matches.cmp(&right.matches))
    });
    let explained: f64 = rules.iter().map(|rule| rule.share).sum();
    Extent { rules, scattered: if total > 0.0 { (1.0 - explained).clamp(0.0, 1.0) } else { 0.0 } }
}
