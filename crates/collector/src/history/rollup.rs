//! Sums of groups by hour and day, so that a year is quick.
//!
//! Kept for each tuple of the tags that fleets are usually summed by, under the first series that has the tuple. Only
//! what was told and what was muted is in them: what was scheduled, and so what is unknown, follows from the series'
//! lives, which change when nobody touches a block.

use std::{collections::HashMap, sync::Arc};

use aviary_core::{Catalog, SeriesId, Tag, Window, ledger::NO_GROUP};
use bytes::Bytes;

use super::{
    codec,
    varint::{Damage, Reader, put},
};

/// What sums are rolled up by.
pub(crate) const TAGS: [Tag; 6] =
    [Tag::Kind, Tag::Network, Tag::Protocol, Tag::Region, Tag::Service, Tag::Zone];

/// More tuples are not rolled up: then blocks are counted.
pub(super) const TUPLES_MAX: usize = 20_000;

const FORM: u8 = 0x20;

/// For each series, the first one that has the same values of some tags.
#[derive(Debug)]
pub(crate) struct Reps {
    tags: &'static [Tag],
    first: HashMap<Box<str>, SeriesId>,
    of: Arc<Vec<SeriesId>>,
}

impl Reps {
    pub(crate) fn new(tags: &'static [Tag]) -> Self {
        Self { tags, first: HashMap::new(), of: Arc::default() }
    }

    /// For each series of `catalog`, the first that has the same values.
    pub(crate) fn of(&mut self, catalog: &Catalog) -> Arc<Vec<SeriesId>> {
        if self.of.len() < catalog.len() {
            let of = Arc::make_mut(&mut self.of);
            for id in catalog.ids().skip(of.len()) {
                let tuple = tuple(self.tags.iter().map(|tag| catalog.tag(id, *tag)));
                of.push(*self.first.entry(tuple).or_insert(id));
            }
        }
        Arc::clone(&self.of)
    }

    /// The first series that has these values of the tags, if there is one.
    pub(crate) fn find<'a>(&self, values: impl Iterator<Item = &'a str>) -> Option<SeriesId> {
        self.first.get(&tuple(values)).copied()
    }
}

/// Values in a row: none of them has the character between.
fn tuple<'a>(values: impl Iterator<Item = &'a str>) -> Box<str> {
    values.flat_map(|value| [value, "\0"]).collect::<String>().into()
}

/// Series in groups of those that one of them stands for.
pub(super) struct Tuples {
    pub(super) reps: Vec<SeriesId>,
    pub(super) group_of: Vec<u32>,
}

impl Tuples {
    pub(super) fn new(rep_of: &[SeriesId]) -> Self {
        let mut reps = Vec::new();
        let mut group_of = vec![NO_GROUP; rep_of.len()];
        for (place, rep) in rep_of.iter().enumerate() {
            // The first of its tuple stands for it.
            if rep.0 as usize == place {
                group_of[place] = reps.len() as u32;
                reps.push(*rep);
            } else {
                group_of[place] = group_of[rep.0 as usize];
            }
        }
        Self { reps, group_of }
    }
}

/// The sums of tuples as bytes, by the series that stand for them.
pub(super) fn encode(sums: impl Iterator<Item = (SeriesId, Window)>) -> Bytes {
    let mut body = Vec::new();
    let mut next = 0;
    for (rep, window) in sums.filter(|(_, window)| *window != Window::default()) {
        put(&mut body, u64::from(rep.0) - next);
        next = u64::from(rep.0) + 1;
        let Window { scheduled: _, delivered, lost, local, missed, muted, unproven, unknown, late } = window;
        for count in [delivered, lost, local, missed, muted, unproven, unknown, late] {
            put(&mut body, count);
        }
    }
    codec::framed(FORM, &body)
}

/// The sums of tuples in `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<(SeriesId, Window)>, Damage> {
    let (form, body) = codec::unframed(bytes)?;
    if form != FORM {
        return Err(Damage("its form is not known here; a newer aviary may have written it"));
    }
    let mut reader = Reader::new(body);
    let mut sums = Vec::new();
    let mut next = 0u64;
    while reader.left() > 0 {
        let rep = reader.number()?.checked_add(next).filter(|rep| *rep < u64::from(u32::MAX));
        let rep = rep.ok_or(Damage("a series has no number"))?;
        next = rep + 1;
        let mut count = || reader.at_most(u64::MAX >> 8, "a sum is too large");
        let mut window = Window {
            scheduled: 0,
            delivered: count()?,
            lost: count()?,
            local: count()?,
            missed: count()?,
            muted: count()?,
            unproven: count()?,
            unknown: count()?,
            late: count()?,
        };
        let Window { delivered, lost, local, missed, muted, unproven, unknown, .. } = window;
        window.scheduled = delivered + lost + local + missed + muted + unproven + unknown;
        sums.push((SeriesId(rep as u32), window));
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_come_back_as_they_were() {
        let one = Window { scheduled: 9, delivered: 3, lost: 4, muted: 2, late: 1, ..Window::default() };
        let sums = [(SeriesId(0), one), (SeriesId(7), Window::default()), (SeriesId(90_000), one)];
        let bytes = encode(sums.into_iter());
        assert_eq!(decode(&bytes), Ok(vec![sums[0], sums[2]]));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn the_first_of_a_tuple_stands_for_it() {
        let tuples = Tuples::new(&[0, 0, 2, 0, 2, 5].map(SeriesId));
        assert_eq!(tuples.group_of, [0, 0, 1, 0, 1, 2]);
        assert_eq!(tuples.reps, [0, 2, 5].map(SeriesId));
    }
}
