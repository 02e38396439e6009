//! "Just one zone?" and "all of one protocol?", answered by how much longer the other answer takes to tell.

use super::{
    Answer, Counts, Extent, Population, Questions,
    population::Set,
    search::{Clause, Description, Search},
};
use crate::Tag;

/// An answer is given if the best description that says otherwise is longer by this many nats: twenty to one.
const MARGIN: f64 = 3.0;

/// Answers what the field asks first; `extent` is what [`explain`](super::explain()) made of `counts`.
///
/// Yes means that all of one zone, or of one protocol, is lost, of all services or of one, and nothing else; where a region has but one
/// zone, or a service but one protocol, nobody can tell.
pub fn questions(population: &Population, counts: &[Counts], extent: &Extent) -> Questions {
    let mut search = Search::new(population, counts);
    let clauses = extent.rules.iter().filter_map(|rule| {
        let sets = |predicates: &[super::Predicate]| {
            predicates.iter().filter_map(|one| population.set(one)).collect()
        };
        Some(Clause { except: sets(&rule.except), ..Clause::new(population.set(&rule.matches)?) })
    });
    let first = search.weigh(clauses.collect());
    search.learn(&first);
    let best = search.weigh(first.clauses);
    Questions {
        one_zone: ask(&mut search, &best, Tag::Zone),
        one_protocol: ask(&mut search, &best, Tag::Protocol),
    }
}

fn ask(search: &mut Search<'_>, best: &Description, tag: Tag) -> Answer {
    let population = search.population;
    let bit = |tag| population.place(tag).map_or(0, |place| 1 << place);
    let wanted = bit(tag);
    if population.values_of(tag).is_empty() {
        // A place that nobody named a zone of: only that it is more than one can be told.
        let in_many = best.clauses.iter().any(|clause| regions(population, clause.set) > 1);
        return if in_many { Answer::No } else { Answer::CannotTell };
    }
    let forms = [wanted, wanted | bit(Tag::Service)].map(|tags| population.cuboid_of(tags));
    let is_form = |set: Set| forms.contains(&set.cuboid);
    if forms.iter().any(|form| population.cuboids()[*form as usize].tags & wanted == 0) {
        // There is but one value: that it is lost and that all is lost are the same.
        let all_of_it =
            matches!(best.clauses.as_slice(), [clause] if is_form(clause.set) && clause.except.is_empty());
        return if all_of_it || best.clauses.is_empty() { Answer::CannotTell } else { Answer::No };
    }
    let yes = search.best_alone(&|cuboid| forms.contains(&cuboid));
    let no = match best.clauses.as_slice() {
        [clause] if is_form(clause.set) && clause.except.is_empty() => {
            search.descend_within(&|cuboid| !forms.contains(&cuboid))
        }
        _ => best.clone(),
    };
    match yes {
        Some(yes) if yes.cost + MARGIN <= no.cost => Answer::Yes,
        Some(yes) if yes.cost < no.cost + MARGIN => Answer::CannotTell,
        _ => Answer::No,
    }
}

fn regions(population: &Population, set: Set) -> usize {
    let mut regions: Vec<Option<&str>> =
        population.members(set).iter().map(|cell| population.tag(*cell as usize, Tag::Region)).collect();
    regions.sort_unstable();
    regions.dedup();
    regions.len()
}
