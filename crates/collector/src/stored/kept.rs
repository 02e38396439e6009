//! What storage is known to show, in a checkpoint.

use aviary_core::Second;

use super::StoredSeries;
use crate::checkpoint::{Unreadable, message, pool::Shared};

impl StoredSeries {
    /// The names that series carry, and those that several do.
    pub(crate) fn keep(&self) -> (Vec<message::StoredName>, Vec<String>) {
        // Whose storage is read back is a matter of the configuration.
        let Self { owners, names, shared, first, read_back: _ } = self;
        let kept = names.iter().map(|(series, name)| message::StoredName {
            series: series.0,
            name: name.to_string(),
            is_owner: owners.get(name) == Some(series),
            first: first.get(series).map(|first| first.0),
        });
        (kept.collect(), shared.iter().map(ToString::to_string).collect())
    }

    /// What [`Self::keep`] told.
    pub(crate) fn restore(
        names: Vec<message::StoredName>,
        shared_names: Vec<String>,
        shared: &Shared,
    ) -> Result<Self, Unreadable> {
        let mut stored = Self {
            shared: shared_names.into_iter().map(String::into_boxed_str).collect(),
            ..Self::default()
        };
        for kept in names {
            let series = shared.series(kept.series)?;
            if kept.is_owner {
                stored.owners.insert(kept.name.as_str().into(), series);
            }
            if let Some(first) = kept.first {
                stored.first.insert(series, Second(first));
            }
            stored.names.insert(series, kept.name.into());
        }
        Ok(stored)
    }
}
