//! From which kinds of vantage something is lost, and from which it is well.

use std::collections::BTreeSet;

use super::{Phrase, Scene, Spread, list, named, of_how_many};
use crate::{
    Tag,
    extent::kinds::{self, OfKind, PLACES, Place},
    vantage::VantageKind,
};

impl Scene<'_> {
    /// Which network it is that `vantages` lose through, where those behind it are well.
    pub(super) fn network(&self, phrase: &Phrase, vantages: &BTreeSet<Place<'_>>) -> &'static str {
        let named = |kind: VantageKind| phrase.matches[&Tag::Kind].iter().any(|known| known == kind.name());
        let is_well = |kind| {
            self.beside(std::slice::from_ref(phrase)).iter().any(|(known, of)| *known == kind && of.is_well)
        };
        let is_of_less = |tag: &Tag| *tag == Tag::Address || *tag != Tag::Kind && PLACES.contains(tag);
        if vantages.len() < 2 || !named(VantageKind::External) || phrase.matches.keys().any(is_of_less) {
            ""
        } else if is_well(VantageKind::Loopback) {
            ": the network in front of the nodes, not the service"
        } else if is_well(VantageKind::Datacentre) {
            ": the way from outside, not the service"
        } else {
            ""
        }
    }

    /// Names the kinds of vantage that a phrase is all of, be it told by what is excepted or by what only they have, such as a
    /// network: what they are is said best by that.
    pub(super) fn name_kinds(&self, phrase: &mut Phrase) {
        let cells = self.cells(phrase);
        let own = kinds::among(self.population, &cells);
        let mut tags = phrase.matches.keys().chain(phrase.except.iter().flat_map(|except| except.0.keys()));
        let is_of_all = own.len() >= self.population.values_of(Tag::Kind).len();
        if is_of_all || !tags.any(|tag| PLACES.contains(tag)) {
            return;
        }
        let mut matches = phrase.matches.clone();
        matches.retain(|tag, _| !PLACES.contains(tag));
        matches.insert(Tag::Kind, own.iter().map(|kind| kind.name().to_owned()).collect());
        let named = Phrase { matches, except: Vec::new(), loss: phrase.loss };
        if self.cells(&named) == cells {
            *phrase = named;
        }
    }

    /// From where, if a phrase names a place: "eu-1 only (1/6 regions)", "node n3 on itself only (1/6 nodes)".
    pub(super) fn place(&self, phrase: &Phrase, cells: &[usize], only: &str) -> Option<String> {
        let is_named = |tag: &Tag| *tag != Tag::Kind && phrase.matches.contains_key(tag);
        let fixed: Vec<Tag> = PLACES.into_iter().filter(is_named).collect();
        let narrowest = *fixed.first()?;
        let values = &phrase.matches[&narrowest];
        let mut place =
            fixed.iter().map(|tag| named(*tag, &phrase.matches[tag])).collect::<Vec<_>>().join(", ");
        let own = kinds::among(self.population, cells);
        let all = self.population.values_of(Tag::Kind).len();
        if own.len() < all {
            let kind = |kind: &VantageKind| match (kind, narrowest, values.len()) {
                (VantageKind::Loopback, Tag::Node, 1) => "on itself".to_owned(),
                (VantageKind::Loopback, Tag::Node, _) => "on themselves".to_owned(),
                _ => kind.words_of_many().to_owned(),
            };
            place = format!("{place} {}", list(&own.iter().map(kind).collect::<Vec<_>>()));
        }
        // Of how many values there are where these are looked at from.
        let is_alike =
            |cell: &usize| kinds::kind(self.population, *cell).is_some_and(|kind| own.contains(&kind));
        let alike = (0..self.population.len()).filter(is_alike);
        let all: BTreeSet<&str> = alike.filter_map(|cell| self.population.tag(cell, narrowest)).collect();
        Some(format!("{place}{only}{}", of_how_many(narrowest, values.len(), all.len())))
    }

    /// From which kinds of vantage, where there are several: "outside only (2/2 regions)", "outside (2/2) and on its nodes
    /// (6/6)".
    pub(super) fn of_kinds(&self, phrase: &Phrase, cells: &[usize], only: &str) -> Option<String> {
        if !kinds::are_many(self.population) {
            return None;
        }
        let only = if phrase.matches.contains_key(&Tag::Kind) { only } else { "" };
        let sums = kinds::sums(self.population, self.counts, cells.iter().copied());
        if let [(kind, of)] = sums.as_slice() {
            let Spread { lossy, all, unmeasured } = self.spread(cells, Tag::Region);
            let unmeasured = match unmeasured.as_slice() {
                [] => String::new(),
                names => format!(", {} not measured", list(names)),
            };
            let quorum = match (kind, all) {
                (VantageKind::Loopback, _) => format!("{}/{} nodes", of.vantages - of.well, of.vantages),
                (_, 2..) => format!("{lossy}/{all} regions{unmeasured}"),
                _ if of.vantages == 1 => "1/1 vantage".to_owned(),
                _ => format!("{}/{} vantages", of.vantages - of.well, of.vantages),
            };
            return Some(format!("{}{only} ({quorum})", kind.words_of_many()));
        }
        let each = sums.iter().map(|(kind, of)| {
            format!("{} ({}/{})", kind.words_of_many(), of.vantages - of.well, of.vantages)
        });
        (!sums.is_empty()).then(|| format!("{}{only}", list(&each.collect::<Vec<_>>())))
    }

    /// What each kind of vantage measures that does not lose what `phrases` say.
    fn beside(&self, phrases: &[Phrase]) -> Vec<(VantageKind, OfKind)> {
        let lost: Vec<usize> = phrases.iter().flat_map(|phrase| self.cells(phrase)).collect();
        let losing: BTreeSet<Place<'_>> =
            lost.iter().map(|cell| kinds::vantage(self.population, *cell)).collect();
        let is_beside = |cell: &usize| !losing.contains(&kinds::vantage(self.population, *cell));
        kinds::sums(self.population, self.counts, (0..self.population.len()).filter(is_beside))
    }

    /// "well on its peers (5 of 5), outside (2 of 2) and in the data centre (1 of 1)", where kinds of vantage are told apart.
    pub(super) fn well_elsewhere(&self, phrases: &[Phrase]) -> Option<String> {
        if !kinds::are_many(self.population) {
            return None;
        }
        let lost: Vec<usize> = phrases.iter().flat_map(|phrase| self.cells(phrase)).collect();
        let own = kinds::sums(self.population, self.counts, lost);
        let place = |kind: VantageKind| {
            let others = own.iter().find(|(known, _)| *known == kind).map(|(_, of)| of.vantages);
            match (kind, others) {
                (_, None) => kind.words_of_many().to_owned(),
                (VantageKind::Loopback, Some(1)) => "on its peers".to_owned(),
                (VantageKind::Loopback, Some(_)) => "on the other nodes".to_owned(),
                (_, Some(_)) => format!("elsewhere {}", kind.words_of_many()),
            }
        };
        let beside = self.beside(phrases);
        let is_own = |kind| own.iter().any(|(known, _)| *known == kind);
        // Those that are like the ones that lose first.
        let (like, unlike): (Vec<_>, Vec<_>) = beside.into_iter().partition(|(kind, _)| is_own(*kind));
        let (measured, unmeasured): (Vec<_>, Vec<_>) =
            like.into_iter().chain(unlike).partition(|(_, of)| of.vantages > 0);
        let well = measured.iter().filter(|(_, of)| of.well > 0);
        let well: Vec<String> =
            well.map(|(kind, of)| format!("{} ({} of {})", place(*kind), of.well, of.vantages)).collect();
        let unmeasured: Vec<String> = unmeasured.into_iter().map(|(kind, _)| place(kind)).collect();
        let parts = [("well", well), ("not measured", unmeasured)];
        let parts = parts.into_iter().filter(|(_, places)| !places.is_empty());
        let parts: Vec<String> = parts.map(|(how, places)| format!("{how} {}", list(&places))).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
