//! A store in memory with something wrong with it, for tests.

use std::{fmt, path::Path, sync::Arc};

use aviary_store::{Batch, MemoryStore, Store, StoreError, Table, Visit};
use bytes::Bytes;

/// What is wrong with a store: nothing but what is said otherwise.
pub(crate) trait Trouble: Send + Sync {
    /// Called before a batch is kept, which it may refuse.
    fn commit(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Called before a single key is looked up.
    fn get(&self) {}

    /// What is shown of a value, when it is asked for or visited from the first on.
    fn show<'a>(&self, _: Table, value: &'a [u8]) -> &'a [u8] {
        value
    }
}

/// What is in it stays there when it is closed, to be looked at.
#[derive(Default)]
pub(crate) struct Troubled<T> {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) trouble: T,
}

impl<T> fmt::Debug for Troubled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl<T: Trouble> Store for Troubled<T> {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.trouble.commit()?;
        self.store.commit(batch)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.trouble.get();
        let value = self.store.get(table, key)?;
        Ok(value.map(|value| value.slice_ref(self.trouble.show(table, &value))))
    }

    fn range(&self, table: Table, from: &[u8], until: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.store.range(table, from, until, &mut |key, value| visit(key, self.trouble.show(table, value)))
    }

    fn range_back(
        &self,
        table: Table,
        from: &[u8],
        until: &[u8],
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        self.store.range_back(table, from, until, visit)
    }

    fn backup(&self, target: &Path) -> Result<u64, StoreError> {
        self.store.backup(target)
    }

    fn place(&self) -> String {
        self.store.place()
    }

    fn close(&self) {}
}
