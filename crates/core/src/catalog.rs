//! The tags of every series, each text held once.

use indexmap::{IndexMap, IndexSet};

use crate::{
    Series,
    ledger::{NO_GROUP, SeriesId},
    named::named,
};

named! {
    /// By what series can be grouped and chosen.
    pub enum Tag {
        /// The one address that a series goes to.
        Address = "address",
        /// The endpoint's URL.
        Endpoint = "endpoint",
        /// The vantage's kind.
        Kind = "kind",
        /// The vantage's network.
        Network = "network",
        /// The vantage's node.
        Node = "node",
        /// The endpoint's protocol.
        Protocol = "protocol",
        /// The vantage's region.
        Region = "region",
        /// The service.
        Service = "service",
        /// The vantage's zone.
        Zone = "zone",
    }
}

/// A text that the catalog holds; only it can turn it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Symbol(u32);

/// A series' tags, in the order of [`Tag::ALL`].
type Tags = [Symbol; Tag::ALL.len()];

/// The catalog is full: it holds as many series as it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} series are held, which is the limit")]
pub struct Full {
    /// The limit.
    pub limit: usize,
}

/// The tags of every series. A series is its tags: two reports that name the same tags speak of the same series.
pub struct Catalog {
    texts: IndexSet<Box<str>>,
    series: IndexSet<Tags>,
    limit: usize,
}

impl Catalog {
    /// An empty catalog for at most `limit` series.
    pub fn new(limit: usize) -> Self {
        Self { texts: IndexSet::new(), series: IndexSet::new(), limit }
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The id of `series`, which is the next one if it was not known.
    pub fn intern(&mut self, series: &Series) -> Result<SeriesId, Full> {
        if self.series.len() >= self.limit && self.find(series).is_none() {
            return Err(Full { limit: self.limit });
        }
        let mut tags = [Symbol(0); Tag::ALL.len()];
        for (symbol, tag) in tags.iter_mut().zip(Tag::ALL) {
            let text = series.tag(*tag);
            let index = match self.texts.get_index_of(&*text) {
                Some(index) => index,
                None => self.texts.insert_full(text.into()).0,
            };
            *symbol = Symbol(
                u32::try_from(index).expect("texts are fewer than ten a series, and series are limited"),
            );
        }
        if self.series.len() == self.series.capacity() {
            self.series.reserve_exact(self.series.len() / 8 + 64);
        }
        Ok(series_id(self.series.insert_full(tags).0))
    }

    /// The id of `series` if it is known.
    pub fn find(&self, series: &Series) -> Option<SeriesId> {
        let mut tags = [Symbol(0); Tag::ALL.len()];
        for (symbol, tag) in tags.iter_mut().zip(Tag::ALL) {
            *symbol = Symbol(u32::try_from(self.texts.get_index_of(&*series.tag(*tag))?).ok()?);
        }
        self.series.get_index_of(&tags).map(series_id)
    }

    /// The value of `tag` for `series`.
    pub fn tag(&self, series: SeriesId, tag: Tag) -> &str {
        &self.texts[self.series[series.0 as usize][tag as usize].0 as usize]
    }

    /// Every series.
    pub fn ids(&self) -> impl Iterator<Item = SeriesId> + use<> {
        (0..self.series.len()).map(series_id)
    }

    /// Groups the series that `keep` accepts by the values of `by`, each tag named once, the groups sorted by those values.
    pub fn group(&self, by: &[Tag], keep: impl Fn(SeriesId) -> bool) -> Grouping {
        let mut found: IndexMap<Tags, u32> = IndexMap::new();
        let mut group_of = Vec::with_capacity(self.series.len());
        for (index, tags) in self.series.iter().enumerate() {
            group_of.push(if keep(series_id(index)) {
                // The first tags of the key are those asked for, and the rest is the same in every key.
                let mut key = [Symbol(0); Tag::ALL.len()];
                key.iter_mut().zip(by).for_each(|(symbol, tag)| *symbol = tags[*tag as usize]);
                let next = found.len() as u32;
                *found.entry(key).or_insert(next)
            } else {
                NO_GROUP
            });
        }
        let text = |symbol: &Symbol| self.texts[symbol.0 as usize].to_string();
        let values: Vec<Vec<String>> =
            found.keys().map(|key| key.iter().take(by.len()).map(text).collect()).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|left, right| values[*left].cmp(&values[*right]));
        let mut rank = vec![0; values.len()];
        order.iter().enumerate().for_each(|(place, group)| rank[*group] = place as u32);
        group_of
            .iter_mut()
            .filter(|group| **group != NO_GROUP)
            .for_each(|group| *group = rank[*group as usize]);
        let mut values = values;
        values.sort();
        Grouping { by: by.to_vec(), values, group_of }
    }
}

fn series_id(index: usize) -> SeriesId {
    SeriesId(u32::try_from(index).expect("the limit on series is far below"))
}

/// Which series is in which group, and what the groups are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    /// The tags that the groups were made by.
    pub by: Vec<Tag>,
    /// Each group's values of those tags, sorted.
    pub values: Vec<Vec<String>>,
    /// Each series' group, [`NO_GROUP`] for none.
    pub group_of: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::tests::series;

    #[test]
    fn a_series_is_its_tags() {
        let mut catalog = Catalog::new(2);
        let (first, second) = (series("a", "eu", "n1", "tcp://h:1"), series("a", "eu", "n2", "tcp://h:1"));
        assert_eq!(catalog.intern(&first), Ok(SeriesId(0)));
        assert_eq!(catalog.intern(&second), Ok(SeriesId(1)));
        assert_eq!(catalog.intern(&first), Ok(SeriesId(0)));
        assert_eq!(catalog.intern(&series("b", "eu", "n1", "tcp://h:1")), Err(Full { limit: 2 }));
        assert_eq!(catalog.find(&second), Some(SeriesId(1)));
        assert_eq!(catalog.tag(SeriesId(1), Tag::Node), "n2");
        assert_eq!(catalog.tag(SeriesId(1), Tag::Zone), "none");
    }

    #[test]
    fn groups_are_sorted_by_their_values_whatever_came_first() {
        let mut catalog = Catalog::new(9);
        for (region, endpoint) in
            [("us", "udp://h:1"), ("eu", "udp://h:1"), ("eu", "tcp://h:1"), ("us", "tcp://h:1")]
        {
            catalog.intern(&series("a", region, "n", endpoint)).unwrap();
        }
        let grouping = catalog.group(&[Tag::Protocol], |id| catalog.tag(id, Tag::Region) == "eu");
        assert_eq!(grouping.values, [["tcp"], ["udp"]]);
        assert_eq!(grouping.group_of, [NO_GROUP, 1, 0, NO_GROUP]);
        assert_eq!(catalog.group(&[], |_| true).group_of, [0; 4]);
    }
}
