//! The store, with what is not yet committed to it in front.
//!
//! Whoever reads sees a change as soon as it is made, and all of it or nothing; it is committed in batches, by one
//! thread, and while a disk takes its time nobody else waits. What a kill takes with it is told again by the journal.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use aviary_store::{Batch, Store, StoreError, Table};
use bytes::Bytes;

/// Changes that are not committed beyond so many bytes are too many: the disk has been full for long.
pub(crate) const WAITING_BYTES_MAX: usize = 64 << 20;

/// Changes in front of the store: removals first.
#[derive(Clone, Debug, Default)]
struct Layer {
    remove: Vec<(Table, Bytes, Bytes)>,
    put: BTreeMap<(Table, Bytes), Bytes>,
}

impl Layer {
    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.put.is_empty()
    }

    fn bytes(&self) -> usize {
        self.put.iter().map(|((_, key), value)| key.len() + value.len()).sum()
    }

    /// What it says of a key: a value, that there is none, or nothing.
    fn get(&self, table: Table, key: &Bytes) -> Option<Option<Bytes>> {
        match self.put.get(&(table, key.clone())) {
            Some(value) => Some(Some(value.clone())),
            None => self.removes(table, key).then_some(None),
        }
    }

    fn removes(&self, table: Table, key: &[u8]) -> bool {
        self.remove.iter().any(|(of, from, until)| *of == table && **from <= *key && *key < **until)
    }

    /// Makes the changes of `later`, which came after these.
    fn make(&mut self, later: Self) {
        self.put.retain(|(table, key), _| !later.removes(*table, key));
        self.remove.extend(
            later.remove.into_iter().filter(|removal| !self.remove.contains(removal)).collect::<Vec<_>>(),
        );
        self.put.extend(later.put);
    }

    fn batch(&self) -> Batch {
        let put = self.put.iter().map(|((table, key), value)| (*table, key.clone(), value.clone()));
        Batch { remove: self.remove.clone(), put: put.collect() }
    }
}

#[derive(Debug, Default)]
struct Layers {
    /// Being committed.
    earlier: Option<Arc<Layer>>,
    later: Layer,
}

impl Layers {
    /// From the first that counts.
    fn each(&self) -> impl Iterator<Item = &Layer> {
        [Some(&self.later), self.earlier.as_deref()].into_iter().flatten()
    }
}

/// The store, with what is not yet committed to it in front.
#[derive(Debug)]
pub(crate) struct Shelf {
    store: Arc<dyn Store>,
    layers: RwLock<Layers>,
}

/// Changes to be made together.
#[derive(Debug, Default)]
pub(crate) struct Changes(Layer);

impl Changes {
    pub(crate) fn put(&mut self, table: Table, key: Bytes, value: Bytes) {
        self.0.put.insert((table, key), value);
    }

    /// Removes the keys from `from` to before `until`. What is put in the same changes stays.
    pub(crate) fn remove(&mut self, table: Table, from: Bytes, until: Bytes) {
        let removal = (table, from, until);
        if !self.0.remove.contains(&removal) {
            self.0.remove.push(removal);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Shelf {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, layers: RwLock::default() }
    }

    /// Makes `changes`: from now on they are seen.
    pub(crate) fn make(&self, changes: Changes) {
        self.write().later.make(changes.0);
    }

    /// How many bytes wait to be committed.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.read().each().map(Layer::bytes).sum()
    }

    /// Commits what was changed. Where that fails it goes on waiting, and is seen all the same.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        let earlier = {
            let mut layers = self.write();
            if layers.later.is_empty() {
                return Ok(());
            }
            let later = Arc::new(std::mem::take(&mut layers.later));
            layers.earlier = Some(Arc::clone(&later));
            later
        };
        let done = self.store.commit(earlier.batch());
        let mut layers = self.write();
        layers.earlier = None;
        if done.is_err() {
            let later = std::mem::replace(&mut layers.later, Layer::clone(&earlier));
            layers.later.make(later);
        }
        done
    }

    /// What is there at one moment: changes wait as long as this is held.
    pub(crate) fn view(&self) -> View<'_> {
        View { store: &*self.store, layers: self.read() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        // Every change is made by one call that does not panic half-way.
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is there at one moment.
pub(crate) struct View<'a> {
    store: &'a dyn Store,
    layers: RwLockReadGuard<'a, Layers>,
}

impl View<'_> {
    pub(crate) fn get(&self, table: Table, key: &Bytes) -> Result<Option<Bytes>, StoreError> {
        match self.layers.each().find_map(|layer| layer.get(table, key)) {
            Some(said) => Ok(said),
            None => self.store.get(table, key),
        }
    }

    /// The keys from `from` to before `until`, with their values.
    pub(crate) fn range(
        &self,
        table: Table,
        from: &Bytes,
        until: &Bytes,
    ) -> Result<BTreeMap<Bytes, Bytes>, StoreError> {
        let mut found = BTreeMap::new();
        self.store.range(table, from, until, &mut |key, value| {
            found.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            ControlFlow::Continue(())
        })?;
        for layer in [self.layers.earlier.as_deref(), Some(&self.layers.later)].into_iter().flatten() {
            found.retain(|key, _| !layer.removes(table, key));
            found.extend(between(layer, table, from, until));
        }
        Ok(found)
    }

    /// The first key from `from` to before `until`.
    pub(crate) fn first(
        &self,
        table: Table,
        from: &Bytes,
        until: &Bytes,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut first = None;
        self.store.range(table, from, until, &mut |key, _| {
            if self.layers.each().any(|layer| layer.removes(table, key)) {
                return ControlFlow::Continue(());
            }
            first = Some(Bytes::copy_from_slice(key));
            ControlFlow::Break(())
        })?;
        let later = &self.layers.later;
        let newest = between(later, table, from, until).map(|(key, _)| key).next();
        let before = self.layers.earlier.iter().flat_map(|layer| between(layer, table, from, until));
        let before = before.map(|(key, _)| key).find(|key| !later.removes(table, key));
        Ok(first.into_iter().chain(newest).chain(before).min())
    }
}

fn between(layer: &Layer, table: Table, from: &Bytes, until: &Bytes) -> impl Iterator<Item = (Bytes, Bytes)> {
    let until = until.max(from);
    let bounds = (Bound::Included((table, from.clone())), Bound::Excluded((table, until.clone())));
    layer.put.range(bounds).map(|((_, key), value)| (key.clone(), value.clone()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::troubled::{Trouble, Troubled};

    /// No room, as long as it is told so.
    #[derive(Default)]
    struct Small {
        is_full: AtomicBool,
    }

    impl Trouble for Small {
        fn commit(&self) -> Result<(), StoreError> {
            if self.is_full.load(Ordering::Relaxed) {
                return Err(StoreError::Full { path: "test".to_owned(), reason: "no room".to_owned() });
            }
            Ok(())
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8),
        Remove(u8, u8),
        Replace(u8, u8, u8),
        Commit { is_full: bool },
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..20, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
            (0u8..20, 0u8..20).prop_map(|(from, until)| Step::Remove(from, until)),
            (0u8..20, 0u8..20, 0u8..20).prop_map(|(from, until, key)| Step::Replace(from, until, key)),
            any::<bool>().prop_map(|is_full| Step::Commit { is_full }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_changed_is_seen_whether_or_not_it_is_committed(steps in prop::collection::vec(any_step(), 0..40)) {
            let store = Arc::new(Troubled::<Small>::default());
            let shelf = Shelf::new(Arc::clone(&store) as Arc<dyn Store>);
            let key = |key: u8| Bytes::from(vec![key]);
            let mut model = BTreeMap::new();
            for step in steps {
                let mut changes = Changes::default();
                match step {
                    Step::Put(at, value) => {
                        changes.put(Table::Slots, key(at), key(value));
                        model.insert(key(at), key(value));
                    }
                    Step::Remove(from, until) => {
                        changes.remove(Table::Slots, key(from), key(until));
                        model.retain(|known, _| *known < key(from) || *known >= key(until));
                    }
                    Step::Replace(from, until, at) => {
                        changes.put(Table::Slots, key(at), key(7));
                        changes.remove(Table::Slots, key(from), key(until));
                        model.retain(|known, _| *known < key(from) || *known >= key(until));
                        model.insert(key(at), key(7));
                    }
                    Step::Commit { is_full } => {
                        store.trouble.is_full.store(is_full, Ordering::Relaxed);
                        prop_assert!(shelf.commit().is_ok() || is_full);
                    }
                }
                shelf.make(changes);
                let view = shelf.view();
                let (zero, five, fifteen, end) = (key(0), key(5), key(15), key(99));
                prop_assert_eq!(&view.range(Table::Slots, &zero, &end).unwrap(), &model);
                let first = view.first(Table::Slots, &five, &fifteen).unwrap();
                prop_assert_eq!(first.as_ref(), model.range(five..fifteen).next().map(|it| it.0));
                for at in (0..20).map(key) {
                    prop_assert_eq!(view.get(Table::Slots, &at).unwrap(), model.get(&at).cloned());
                }
            }
            store.trouble.is_full.store(false, Ordering::Relaxed);
            shelf.commit().unwrap();
            prop_assert_eq!(shelf.waiting_bytes(), 0);
        }
    }
}
