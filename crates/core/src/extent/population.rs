//! Which series there are, by their tags, and every set of them that a predicate can name.
//!
//! What changes only with the configuration is worked out once here, so that a search touches integers alone: the
//! values of each tag are interned in their order, and for each set of tags, a *cuboid*, each cell knows its group and
//! each group its cells. A cuboid whose groups are those of a smaller one is left out: a node that lies in one zone is
//! named without that zone, and a fleet of one service never by its service.

use super::Predicate;
use crate::{Tag, vantage::ABSENT};

/// The group of a cell that lacks one of the cuboid's tags.
pub(super) const NO_GROUP: u32 = u32::MAX;

/// The code of a tag that a cell lacks.
const LACKING: u32 = u32::MAX;

/// A predicate that the population knows: a group of a cuboid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Set {
    pub(super) cuboid: u32,
    pub(super) group: u32,
}

/// The groups that a set of tags makes.
#[derive(Clone)]
pub(super) struct Cuboid {
    /// Its tags, as bits of their places in the population's list.
    pub(super) tags: u16,
    /// Those, and the ones that follow from them, as the zone follows from the node.
    pub(super) implied: u16,
    /// Each cell's group.
    pub(super) group_of: Vec<u32>,
    /// The cells in the order of their groups.
    members: Vec<u32>,
    /// Where each group begins in `members`, and the end.
    starts: Vec<u32>,
}

impl Cuboid {
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn members(&self, group: u32) -> &[u32] {
        let group = group as usize;
        &self.members[self.starts[group] as usize..self.starts[group + 1] as usize]
    }
}

/// Which series there are, by their tags: the cells of a search, and what "6 of 6 regions" counts.
///
/// The cells are the distinct rows in ascending order of their values, the same as the groups of
/// [`crate::catalog::Grouping`]. A tag whose value is [`ABSENT`] is lacking, and no predicate names it.
#[derive(Clone)]
pub struct Population {
    by: Vec<Tag>,
    values: Vec<Vec<String>>,
    rows: Vec<Vec<String>>,
    codes: Vec<u32>,
    cuboids: Vec<Cuboid>,
    /// For each set of tags, the cuboid that has its groups.
    canonical: Vec<u32>,
}

impl Population {
    /// The population of `rows`, each with a value for every tag of `by`, in whatever order and however often.
    ///
    /// # Panics
    /// If a row has another length than `by`.
    pub fn new<R: Into<Vec<String>>>(by: &[Tag], rows: impl IntoIterator<Item = R>) -> Self {
        let mut rows: Vec<Vec<String>> = rows.into_iter().map(Into::into).collect();
        assert!(rows.iter().all(|row| row.len() == by.len()), "a row has a value for each tag");
        rows.sort_unstable();
        rows.dedup();
        let values: Vec<Vec<String>> = (0..by.len())
            .map(|tag| {
                let mut values: Vec<&String> = rows.iter().map(|row| &row[tag]).collect();
                values.sort_unstable();
                values.dedup();
                values.into_iter().filter(|value| *value != ABSENT).cloned().collect()
            })
            .collect();
        let code =
            |tag: usize, value: &String| values[tag].binary_search(value).map_or(LACKING, |at| at as u32);
        let codes =
            rows.iter().flat_map(|row| row.iter().enumerate().map(|(tag, value)| code(tag, value))).collect();
        let mut population =
            Self { by: by.to_vec(), values, rows, codes, cuboids: Vec::new(), canonical: Vec::new() };
        population.find_cuboids();
        population
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The tags of each row, in their order.
    pub fn by(&self) -> &[Tag] {
        &self.by
    }

    /// The values of the cells, in the order in which their counts are wanted.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// The values of `tag` that there are, sorted; none if the rows do not tell it.
    pub fn values_of(&self, tag: Tag) -> &[String] {
        self.place(tag).map_or(&[], |place| &self.values[place])
    }

    /// A cell's value of `tag`, if it has one.
    pub fn tag(&self, cell: usize, tag: Tag) -> Option<&str> {
        let place = self.place(tag)?;
        self.values[place].get(self.code(cell, place) as usize).map(String::as_str)
    }

    /// Whether `predicate` matches a cell.
    pub fn matches(&self, cell: usize, predicate: &Predicate) -> bool {
        predicate.0.iter().all(|(tag, value)| self.tag(cell, *tag) == Some(value))
    }

    /// The cells that `predicate` matches.
    pub fn matching(&self, predicate: &Predicate) -> impl Iterator<Item = usize> {
        (0..self.len()).filter(move |cell| self.matches(*cell, predicate))
    }

    /// The place of `tag` in each row.
    pub(super) fn place(&self, tag: Tag) -> Option<usize> {
        self.by.iter().position(|other| *other == tag)
    }

    /// The values of a tag, sorted.
    pub(super) fn values(&self, place: usize) -> &[String] {
        &self.values[place]
    }

    /// A cell's value of a tag as its place among [`Self::values`]; [`LACKING`] for none.
    pub(super) fn code(&self, cell: usize, place: usize) -> u32 {
        self.codes[cell * self.by.len() + place]
    }

    pub(super) fn cuboids(&self) -> &[Cuboid] {
        &self.cuboids
    }

    /// The cuboid that has the groups which `tags` make.
    pub(super) fn cuboid_of(&self, tags: u16) -> u32 {
        self.canonical[usize::from(tags)]
    }

    pub(super) fn cuboid(&self, set: Set) -> &Cuboid {
        &self.cuboids[set.cuboid as usize]
    }

    pub(super) fn members(&self, set: Set) -> &[u32] {
        self.cuboid(set).members(set.group)
    }

    /// The set of `predicate`'s cells, `None` if it matches none.
    pub(super) fn set(&self, predicate: &Predicate) -> Option<Set> {
        let cell = self.matching(predicate).next()?;
        let tags =
            predicate.0.keys().filter_map(|tag| self.place(*tag)).fold(0, |tags, place| tags | 1 << place);
        let cuboid = self.cuboid_of(tags);
        Some(Set { cuboid, group: self.cuboids[cuboid as usize].group_of[cell] })
    }

    /// The predicate that names `set`.
    pub(super) fn predicate(&self, set: Set) -> Predicate {
        let Some(cell) = self.members(set).first().map(|cell| *cell as usize) else {
            return Predicate::default();
        };
        let tags = self.cuboid(set).tags;
        let named = (0..self.by.len()).filter(|place| tags >> place & 1 == 1);
        Predicate(named.map(|place| (self.by[place], self.rows[cell][place].clone())).collect())
    }

    fn find_cuboids(&mut self) {
        let everything = Cuboid {
            tags: 0,
            implied: 0,
            group_of: vec![0; self.len()],
            members: (0..self.len() as u32).collect(),
            starts: vec![0, self.len() as u32],
        };
        self.cuboids.push(everything);
        self.canonical = vec![0; 1 << self.by.len()];
        // In the order of the numbers every subset of a set of tags comes before it.
        for tags in 1..1_u16 << self.by.len() {
            let parts = || (0..self.by.len()).filter(move |place| tags >> place & 1 == 1);
            let without = |place: usize| tags & !(1 << place);
            let shrunk = parts()
                .map(without)
                .find(|less| self.cuboids[self.canonical[usize::from(*less)] as usize].tags != *less);
            if let Some(less) = shrunk {
                // One of these tags follows from others of them.
                let core = self.cuboids[self.canonical[usize::from(less)] as usize].tags;
                self.canonical[usize::from(tags)] = self.canonical[usize::from(core | (tags & !less))];
                continue;
            }
            let last = parts().next_back().unwrap_or_default();
            let cuboid =
                self.split(&self.cuboids[self.canonical[usize::from(without(last))] as usize], last, tags);
            // Of two that follow from each other the later is left out.
            let same = parts().rev().map(|place| self.canonical[usize::from(without(place))]).find(|less| {
                let less = &self.cuboids[*less as usize];
                less.len() == cuboid.len() && less.members.len() == cuboid.members.len()
            });
            self.canonical[usize::from(tags)] = same.unwrap_or(self.cuboids.len() as u32);
            if same.is_none() {
                self.cuboids.push(cuboid);
            }
        }
        for tags in 1..self.canonical.len() {
            self.cuboids[self.canonical[tags] as usize].implied |= tags as u16;
        }
    }

    /// The cuboid of `tags`, whose groups are those of `coarse` parted by the tag at `place`.
    fn split(&self, coarse: &Cuboid, place: usize, tags: u16) -> Cuboid {
        let mut group_of = vec![NO_GROUP; self.len()];
        let mut sizes: Vec<u32> = Vec::new();
        // The group that a value stands for within the coarse group that was last seen to have it.
        let mut found = vec![(NO_GROUP, 0); self.values[place].len()];
        for group in 0..coarse.len() as u32 {
            for cell in coarse.members(group) {
                let Some(slot) = found.get_mut(self.code(*cell as usize, place) as usize) else { continue };
                if slot.0 != group {
                    *slot = (group, sizes.len() as u32);
                    sizes.push(0);
                }
                group_of[*cell as usize] = slot.1;
                sizes[slot.1 as usize] += 1;
            }
        }
        let mut starts = Vec::with_capacity(sizes.len() + 1);
        starts.push(0);
        let mut end = 0;
        starts.extend(sizes.iter().map(|size| {
            end += size;
            end
        }));
        let mut members = vec![0; end as usize];
        let mut next = starts.clone();
        for (cell, group) in group_of.iter().enumerate().filter(|(_, group)| **group != NO_GROUP) {
            members[next[*group as usize] as usize] = cell as u32;
            next[*group as usize] += 1;
        }
        Cuboid { tags, implied: tags, group_of, members, starts }
    }
}
