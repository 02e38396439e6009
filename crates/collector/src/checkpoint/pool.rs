//! What several parts of a checkpoint share, held once.

use std::{collections::HashMap, sync::Arc};

use aviary_core::{Second, SeriesId, Span, Vantage, VantageKind};

use super::{Unreadable, message};

/// The series of a roster, each with its first full slot.
pub(crate) type SeriesList = Arc<[(SeriesId, Second)]>;

/// Numbers what is shared, while a checkpoint is made.
#[derive(Default)]
pub(crate) struct Pool {
    vantages: HashMap<Vantage, u32>,
    lists: HashMap<*const (SeriesId, Second), (u32, SeriesList)>,
}

impl Pool {
    /// The number of `vantage`.
    pub(crate) fn vantage(&mut self, vantage: &Vantage) -> u32 {
        if let Some(number) = self.vantages.get(vantage) {
            return *number;
        }
        let number = number(self.vantages.len());
        self.vantages.insert(vantage.clone(), number);
        number
    }

    /// The number of `list`: statements share theirs with rosters.
    pub(crate) fn list(&mut self, list: &SeriesList) -> u32 {
        let next = number(self.lists.len());
        // Held until the end, so that no other list comes to lie where it lies. Empty ones may share a place: they are
        // the same.
        self.lists.entry(list.as_ptr()).or_insert_with(|| (next, Arc::clone(list))).0
    }

    /// Puts what was numbered into `kept`, in order.
    pub(crate) fn finish(self, kept: &mut message::Kept) {
        kept.vantages = in_order(self.vantages).iter().map(message::Vantage::from).collect();
        let lists = self.lists.into_values().map(|(number, list)| (list, number));
        kept.lists = in_order(lists).iter().map(message::SeriesList::from).collect();
    }
}

/// Never cut short: memory has no room for so many.
pub(crate) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What was numbered, in the order of its numbers.
pub(crate) fn in_order<T>(numbered: impl IntoIterator<Item = (T, u32)>) -> Vec<T> {
    let mut all: Vec<_> = numbered.into_iter().collect();
    all.sort_by_key(|(_, number)| *number);
    all.into_iter().map(|(thing, _)| thing).collect()
}

/// What is shared, while a checkpoint is read.
pub(crate) struct Shared {
    texts: Vec<String>,
    vantages: Vec<Arc<Vantage>>,
    lists: Vec<SeriesList>,
    series: usize,
}

impl Shared {
    /// Takes what is shared out of `kept`, which has so many series.
    pub(crate) fn take(kept: &mut message::Kept, series: usize) -> Result<Self, Unreadable> {
        let vantages = kept.vantages.drain(..).map(|it| Vantage::try_from(it).map(Arc::new));
        let vantages = vantages.collect::<Result<_, _>>()?;
        let list = |list: message::SeriesList| -> Result<SeriesList, Unreadable> {
            if list.series.len() != list.from.len() || list.series.iter().any(|id| *id as usize >= series) {
                return Err(Unreadable::of("the series of a roster"));
            }
            Ok(list.series.into_iter().map(SeriesId).zip(list.from.into_iter().map(Second)).collect())
        };
        let lists = kept.lists.drain(..).map(list).collect::<Result<_, _>>()?;
        Ok(Self { texts: std::mem::take(&mut kept.texts), vantages, lists, series })
    }

    pub(crate) fn text(&self, number: u32) -> Result<&str, Unreadable> {
        self.texts.get(number as usize).map(String::as_str).ok_or_else(|| Unreadable::of("a text"))
    }

    pub(crate) fn vantage(&self, number: u32) -> Result<Arc<Vantage>, Unreadable> {
        self.vantages.get(number as usize).cloned().ok_or_else(|| Unreadable::of("a vantage"))
    }

    pub(crate) fn list(&self, number: u32) -> Result<SeriesList, Unreadable> {
        self.lists.get(number as usize).cloned().ok_or_else(|| Unreadable::of("a list of series"))
    }

    pub(crate) fn series(&self, number: u32) -> Result<SeriesId, Unreadable> {
        if (number as usize) < self.series { Ok(SeriesId(number)) } else { Err(Unreadable::of("a series")) }
    }
}

impl From<&Vantage> for message::Vantage {
    fn from(vantage: &Vantage) -> Self {
        let Vantage { kind, region, zone, network, node } = vantage.clone();
        Self { kind: kind.name().to_owned(), region, zone, network, node }
    }
}

impl TryFrom<message::Vantage> for Vantage {
    type Error = Unreadable;

    fn try_from(kept: message::Vantage) -> Result<Self, Unreadable> {
        let message::Vantage { kind, region, zone, network, node } = kept;
        let kind: VantageKind = kind.parse().map_err(Unreadable::because)?;
        Ok(Self { kind, region, zone, network, node })
    }
}

impl From<&SeriesList> for message::SeriesList {
    fn from(list: &SeriesList) -> Self {
        let (series, from) = list.iter().map(|(id, from)| (id.0, from.0)).unzip();
        Self { series, from }
    }
}

impl From<Span> for message::Span {
    fn from(span: Span) -> Self {
        Self { from: span.from.0, until: span.until.0 }
    }
}

impl From<message::Span> for Span {
    fn from(kept: message::Span) -> Self {
        Self::new(Second(kept.from), Second(kept.until))
    }
}
