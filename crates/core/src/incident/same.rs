//! When two losses are one: how extents compare.

use std::collections::BTreeSet;

use crate::{
    Tag,
    extent::{Blame, Extent, Predicate},
    vantage::VantageKind,
};

/// A rule of less share than this comes and goes, and does not tell one loss from another.
const SHARE_MIN: f64 = 0.05;

/// The rules of an extent without their figures: which series, but for which. Services are left out, so that what two
/// services lose can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape(pub BTreeSet<(Predicate, BTreeSet<Predicate>)>);

impl Shape {
    /// What remains of an extent, of each rule of which it is known from which kind of vantage all of it is, if from one: a
    /// region outside is then within all that is outside.
    pub fn of(extent: &Extent, kinds: &[Option<VantageKind>]) -> Self {
        let kinds = kinds.iter().copied().chain(std::iter::repeat(None));
        let rules = extent.rules.iter().zip(kinds).filter(|(rule, _)| rule.share >= SHARE_MIN);
        let shapes = rules.map(|(rule, kind)| {
            let mut matches = bare(&rule.matches);
            matches.0.extend(kind.map(|kind| (Tag::Kind, kind.name().to_owned())));
            (matches, rule.except.iter().map(bare).collect())
        });
        Self(shapes.collect())
    }

    /// The series that one predicate means.
    pub fn one(predicate: Predicate) -> Self {
        Self([(predicate, BTreeSet::new())].into())
    }

    /// The rules in one line, such as `protocol=udp;region=eu`.
    pub fn name(&self) -> String {
        let pairs = |matches: &Predicate| {
            let pairs: Vec<String> = matches.0.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
            pairs.join(",")
        };
        self.predicates().map(pairs).collect::<Vec<_>>().join(";")
    }

    /// The predicates, without what is excepted.
    pub fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        self.0.iter().map(|(matches, _)| matches)
    }

    /// Whether it is no wider than another: each of its rules is contained in one of the other's.
    pub fn is_within(&self, other: &Self) -> bool {
        self.predicates().all(|inner| other.predicates().any(|outer| contains(outer, inner)))
    }

    /// Whether two extents of one service are of one loss: the same rules, or one contains the other; and where no rule
    /// explains one of them, nothing says that they differ.
    pub fn is_related(&self, other: &Self) -> bool {
        self.0.is_empty() || other.0.is_empty() || self.is_within(other) || other.is_within(self)
    }

    /// Whether it is every series of its service.
    pub fn is_whole(&self) -> bool {
        self.predicates().any(|matches| matches.0.is_empty())
    }

    /// Whether extents of two services are of one loss: each names a place or a protocol, and one contains the other.
    /// That both are lost whole says nothing but that both are; if they `began_together`, it is taken for one loss.
    pub fn is_shared_with(&self, other: &Self, began_together: bool) -> bool {
        match (self.is_whole(), other.is_whole()) {
            (true, true) => began_together,
            (false, false) => !self.0.is_empty() && !other.0.is_empty() && self.is_related(other),
            _ => false,
        }
    }

    /// The agent that says all of it: the fault is its own then, or the way's from it.
    pub fn sick_agent(&self, blame: Blame) -> Option<&str> {
        let mut nodes: BTreeSet<_> = self.predicates().map(|matches| matches.0.get(&Tag::Node)).collect();
        let is_one = matches!(blame, Blame::Source | Blame::Path) && nodes.len() == 1;
        nodes.pop_first().flatten().filter(|_| is_one).map(String::as_str)
    }

    /// Whether all of it is of series whose tag has this value.
    pub fn is_all_of(&self, tag: Tag, value: &str) -> bool {
        let of = |matches: &Predicate| matches.0.get(&tag).is_some_and(|given| given == value);
        !self.0.is_empty() && self.predicates().all(of)
    }
}

fn bare(predicate: &Predicate) -> Predicate {
    let tags = predicate.0.iter().filter(|(tag, _)| **tag != Tag::Service);
    Predicate(tags.map(|(tag, value)| (*tag, value.clone())).collect())
}

/// Whether every series of `inner` is one of `outer`.
fn contains(outer: &Predicate, inner: &Predicate) -> bool {
    outer.0.iter().all(|(tag, value)| inner.0.get(tag) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::tests::{extent, predicate};

    fn shape(text: &str) -> Shape {
        Shape::of(&extent(text), &[])
    }

    #[test]
    fn one_loss_or_two() {
        // Two extents; whether they are one loss in one service, in two, and in two where both began together.
        let table = [
            ("protocol=udp", "protocol=udp", true, true, true),
            ("protocol=udp", "protocol=udp,region=eu", true, true, true),
            ("protocol=udp", "", true, false, false),
            ("", "", true, false, true),
            ("protocol=udp", "region=eu", false, false, false),
            ("protocol=udp", "protocol=tcp", false, false, false),
            ("region=eu;region=us", "region=us", true, true, true),
            ("region=eu;region=us", "region=us;region=asia", false, false, false),
            ("region=eu;region=us", "region=us,protocol=udp;region=eu,protocol=udp", true, true, true),
            ("scattered", "region=eu", true, false, false),
            ("scattered", "scattered", true, false, false),
            ("service=a,region=eu", "service=b,region=eu", true, true, true),
            ("service=a", "service=b", true, false, true),
        ];
        for (left, right, one, two, together) in table {
            for (left, right) in [(shape(left), shape(right)), (shape(right), shape(left))] {
                assert_eq!(left.is_related(&right), one, "{left:?} {right:?}");
                assert_eq!(left.is_shared_with(&right, false), two, "{left:?} {right:?}");
                assert_eq!(left.is_shared_with(&right, true), together, "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn what_spreads_within_a_kind_of_vantage_is_one_loss() {
        let of = |text: &str, kind| Shape::of(&extent(text), &[Some(kind)]);
        let (outside, nodes) = (VantageKind::External, VantageKind::Loopback);
        for (left, right, one) in [
            (of("region=eu", outside), of("kind=external", outside), true),
            (of("node=n1", nodes), of("kind=loopback", nodes), true),
            (of("node=n1", nodes), of("kind=external", outside), false),
            (of("region=eu", outside), shape(""), true),
        ] {
            assert_eq!(left.is_related(&right), one, "{left:?} {right:?}");
        }
    }

    #[test]
    fn a_rule_of_little_share_tells_nothing() {
        let mut whole = extent("protocol=udp;region=eu");
        whole.rules[1].share = 0.04;
        assert_eq!(Shape::of(&whole, &[]), shape("protocol=udp"));
        assert_eq!(shape("region=eu;protocol=udp,region=us").name(), "protocol=udp,region=us;region=eu");
    }

    #[test]
    fn a_sick_agent_is_one_node_and_not_the_services_fault() {
        for (text, blame, sick) in [
            ("node=n1", Blame::Source, true),
            ("node=n1,protocol=udp;node=n1,protocol=tcp", Blame::Source, true),
            ("node=n1", Blame::Path, true),
            ("node=n1", Blame::Service, false),
            ("node=n1;node=n2", Blame::Source, false),
            ("region=eu", Blame::Source, false),
            ("region=eu", Blame::Path, false),
            ("scattered", Blame::Source, false),
        ] {
            assert_eq!(shape(text).sick_agent(blame), sick.then_some("n1"), "{text}");
        }
        assert_eq!(Shape::one(predicate("region=eu")), shape("region=eu"));
    }
}
