//! What a search found, as the rules that people and other programs read.

use super::{
    Extent, Rule,
    model::Counts,
    population::Population,
    search::{Clause, Search, kept, matching},
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
        let whole = -kept(clauses, matched).max(f64::MIN_POSITIVE).ln();
        for (rule, clause) in rules.iter_mut().zip(clauses).enumerate().filter(|(rule, _)| matched >> rule & 1 == 1).map(|found| found.1) {
            rule.lost += cell.lost;
            rule.judged += cell.judged;
            // Where causes overlap, each is due what it adds in log-odds of delivery.
            let part = -(1.0 - clause.loss).max(f64::MIN_POSITIVE).ln();
            if total > 0.0 && whole > 0.0 {
                rule.share += (part / whole).min(1.0) * excess(cell) / total;
            }
        }
    }
    rules.sort_by(|left, right| right.share.total_cmp(&left.share).then_with(|| left.matches.cmp(&right.matches)));
    let explained: f64 = rules.iter().map(|rule| rule.share).sum();
    Extent { rules, scattered: if total > 0.0 { (1.0 - explained).clamp(0.0, 1.0) } else { 0.0 } }
}
