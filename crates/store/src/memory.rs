//! A store that forgets everything when its process ends: for tests, and for a collector without a data directory.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::store::{Batch, Store, StoreError, Table, Visit, check};

/// Keeps everything in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<BTreeMap<(Table, Bytes), Bytes>>,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Table, Bytes), Bytes>> {
        // Nothing panics between the parts of a batch.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys and values of a range, shared and not copied: whoever visits them holds no lock.
    fn held(&self, table: Table, from: &[u8], until: &[u8]) -> Vec<(Bytes, Bytes)> {
        if from >= until {
            return Vec::new();
        }
        let bound = |key: &[u8]| (table, Bytes::copy_from_slice(key));
        let tables = self.lock();
        let range = tables.range((Bound::Included(bound(from)), Bound::Excluded(bound(until))));
        range.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        check(&batch, || PathBuf::from("the memory"))?;
        let mut tables = self.lock();
        for (table, from, until) in batch.remove.into_iter().filter(|(_, from, until)| from < until) {
            let gone: Vec<_> =
                tables.range((table, from)..(table, until)).map(|(key, _)| key.clone()).collect();
            gone.iter().for_each(|key| drop(tables.remove(key)));
        }
        tables.extend(batch.put.into_iter().map(|(table, key, value)| ((table, key), value)));
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock().get(&(table, Bytes::copy_from_slice(key))).cloned())
    }

    fn range(&self, table: Table, from: &[u8], until: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        for (key, value) in self.held(table, from, until) {
            if visit(&key, &value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn range_back(
        &self,
        table: Table,
        from: &[u8],
        until: &[u8],
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        for (key, value) in self.held(table, from, until).into_iter().rev() {
            if visit(&key, &value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn backup(&self, target: &Path) -> Result<u64, StoreError> {
        let reason = "what is only in memory is not copied; set `data` in [collector]".to_owned();
        Err(StoreError::Failed { path: target.display().to_string(), reason })
    }

    fn place(&self) -> String {
        "the memory".to_owned()
    }

    fn close(&self) {
        self.lock().clear();
    }
}
