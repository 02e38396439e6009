//! What every store promises, asked of each.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use aviary_store::{Batch, MemoryStore, RedbStore, Store, StoreError, Table, VALUE_BYTES_MAX};
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{bytes, keys, put, range, remove};

/// A store to be asked, and what it stands on.
trait Kind {
    fn new() -> Self;
    fn store(&self) -> &dyn Store;
    /// Lets the process end well and start again, where that leaves anything.
    fn again(self) -> Self;
}

struct InMemory(MemoryStore);

impl Kind for InMemory {
    fn new() -> Self {
        Self(MemoryStore::default())
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn again(self) -> Self {
        self
    }
}

struct OnDisk(RedbStore, TempDir);

impl Kind for OnDisk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self(RedbStore::open(directory.path()).unwrap(), directory)
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn again(self) -> Self {
        let Self(store, directory) = self;
        drop(store);
        let store = RedbStore::open(directory.path()).unwrap();
        assert!(!store.found().was_cut && !store.found().is_new);
        Self(store, directory)
    }
}

macro_rules! conformance {
    ($($test:ident),+ $(,)?) => {
        mod in_memory {
            $(#[test] fn $test() { super::$test::<super::InMemory>(); })+
        }
        mod on_disk {
            $(#[test] fn $test() { super::$test::<super::OnDisk>(); })+
        }
    };
}

conformance!(
    keys_are_visited_in_order_within_their_bounds,
    a_batch_happens_whole_and_removes_before_it_puts,
    a_range_is_of_one_moment_while_others_write,
    tables_are_apart,
    what_is_too_large_is_refused_and_changes_nothing,
    it_does_what_a_plain_map_does,
    nothing_can_be_kept_after_the_end,
);

fn keys_are_visited_in_order_within_their_bounds<K: Kind>() {
    let kind = K::new();
    for key in ["b", "a", "c", "aa", ""] {
        kind.store().commit(put(Table::Slots, key, format!("of {key}"))).unwrap();
    }
    let kind = kind.again();
    let store = kind.store();
    let table = [
        ("", "z", vec!["", "a", "aa", "b", "c"]),
        ("a", "b", vec!["a", "aa"]),
        ("aa", "c", vec!["aa", "b"]),
        ("b", "b", vec![]),
        ("c", "a", vec![]),
        ("d", "z", vec![]),
    ];
    for (from, until, expected) in table {
        assert_eq!(keys(store, Table::Slots, from, until), expected, "{from} to {until}");
        let mut back = Vec::new();
        let visited = store.range_back(Table::Slots, from.as_bytes(), until.as_bytes(), &mut |key, value| {
            let key = String::from_utf8(key.to_vec()).unwrap();
            assert_eq!(value, format!("of {key}").as_bytes());
            back.push(key);
            ControlFlow::Continue(())
        });
        visited.unwrap();
        back.reverse();
        assert_eq!(back, expected, "{until} back to {from}");
    }
    let mut seen = 0;
    let visited = store.range(Table::Slots, b"", b"z", &mut |_, _| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    visited.unwrap();
    assert_eq!(seen, 2, "whoever has seen enough sees no more");
    assert_eq!(store.get(Table::Slots, b"aa").unwrap().unwrap(), "of aa");
    assert_eq!(store.get(Table::Slots, b"ab").unwrap(), None);
}

fn a_batch_happens_whole_and_removes_before_it_puts<K: Kind>() {
    let kind = K::new();
    let store = kind.store();
    for key in ["a", "b", "c", "d"] {
        store.commit(put(Table::Journal, key, "old")).unwrap();
    }
    let batch = Batch {
        remove: vec![(Table::Journal, bytes("a"), bytes("c")), (Table::Journal, bytes("z"), bytes("y"))],
        put: vec![
            (Table::Journal, bytes("b"), bytes("new")),
            (Table::Checkpoint, bytes("at"), bytes("4")),
            (Table::Journal, bytes("e"), bytes("first")),
            (Table::Journal, bytes("e"), bytes("last")),
        ],
    };
    store.commit(batch).unwrap();
    let kind = kind.again();
    let store = kind.store();
    let expected = [("b", "new"), ("c", "old"), ("d", "old"), ("e", "last")];
    assert_eq!(
        range(store, Table::Journal, "", "z").unwrap(),
        expected.map(|(key, value)| (bytes(key), bytes(value)))
    );
    assert_eq!(store.get(Table::Checkpoint, b"at").unwrap().unwrap(), "4");
    store.commit(Batch::default()).unwrap();
}

fn a_range_is_of_one_moment_while_others_write<K: Kind>() {
    let kind = K::new();
    let store = kind.store();
    // Each batch makes every value one greater: whoever sees two values in one range saw two moments.
    let count = 200_u32;
    let batch = |value: u32| Batch {
        put: (0..count)
            .map(|key| (Table::Sums, bytes(key.to_be_bytes()), bytes(value.to_be_bytes())))
            .collect(),
        ..Batch::default()
    };
    store.commit(batch(0)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for value in 1..40 {
                store.commit(batch(value)).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut last = 0;
        while !done.load(Ordering::SeqCst) {
            let found = range(store, Table::Sums, 0_u32.to_be_bytes(), count.to_be_bytes()).unwrap();
            let first = found[0].1.clone();
            assert!(found.len() == count as usize && found.iter().all(|(_, value)| *value == first));
            let now = u32::from_be_bytes(first.as_ref().try_into().unwrap());
            assert!(now >= last, "time does not go back");
            last = now;
        }
    });
}

fn tables_are_apart<K: Kind>() {
    let kind = K::new();
    for table in Table::ALL {
        kind.store().commit(put(table, "key", table.name())).unwrap();
    }
    kind.store().commit(remove(Table::Sums, "", "z")).unwrap();
    let kind = kind.again();
    for table in Table::ALL {
        let expected = (table != Table::Sums).then(|| bytes(table.name()));
        assert_eq!(kind.store().get(table, b"key").unwrap(), expected);
    }
}

fn what_is_too_large_is_refused_and_changes_nothing<K: Kind>() {
    let kind = K::new();
    let store = kind.store();
    for (key, value) in [(2_000, 1), (1, VALUE_BYTES_MAX + 1)] {
        let mut batch = put(Table::Slots, "small", "small");
        batch.put.push((Table::Slots, bytes(vec![0; key]), Bytes::from(vec![0; value])));
        let error = store.commit(batch).unwrap_err();
        assert!(matches!(error, StoreError::Failed { .. }), "{error}");
        assert!(error.to_string().contains("larger than it takes"), "{error}");
    }
    assert_eq!(keys(store, Table::Slots, "", "~"), Vec::<String>::new());
    let large = Bytes::from(vec![7; 20 << 20]);
    let batch = Batch { put: vec![(Table::Slots, bytes("large"), large.clone())], ..Batch::default() };
    store.commit(batch).unwrap();
    assert!(store.get(Table::Slots, b"large").unwrap() == Some(large));
}

fn nothing_can_be_kept_after_the_end<K: Kind>() {
    let kind = K::new();
    kind.store().commit(put(Table::Series, "key", "value")).unwrap();
    kind.store().close();
    kind.store().close();
    assert!(kind.store().get(Table::Series, b"key").ok().flatten().is_none());
    let kind = kind.again();
    kind.store().commit(put(Table::Series, "other", "value")).unwrap();
}

/// What can be asked of a store. Keys are of few bytes, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Commit(Batch),
    Again,
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(0_u8..4, 0..4).prop_map(Bytes::from)
}

fn table() -> impl Strategy<Value = Table> {
    prop_oneof![Just(Table::Journal), Just(Table::Slots)]
}

fn step() -> impl Strategy<Value = Step> {
    let remove = prop::collection::vec((table(), key(), key()), 0..3);
    let value = prop_oneof![Just(0_usize), 1_usize..40, 3_000_usize..9_000];
    let put = prop::collection::vec((table(), key(), value), 0..8);
    let commit = (remove, put).prop_map(|(remove, put)| {
        let value = |bytes: usize| Bytes::from(vec![bytes as u8; bytes]);
        let put = put.into_iter().map(|(table, key, bytes)| (table, key, value(bytes))).collect();
        Step::Commit(Batch { remove, put })
    });
    prop_oneof![9 => commit, 1 => Just(Step::Again)]
}

fn it_does_what_a_plain_map_does<K: Kind>() {
    proptest!(ProptestConfig::with_cases(24), |(steps in prop::collection::vec(step(), 1..25), bounds in (key(), key()))| {
        let mut kind = K::new();
        let mut model: BTreeMap<(Table, Bytes), Bytes> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Commit(batch) => {
                    for (table, from, until) in &batch.remove {
                        model.retain(|(of, key), _| of != table || key < from || key >= until);
                    }
                    model.extend(batch.put.iter().cloned().map(|(table, key, value)| ((table, key), value)));
                    kind.store().commit(batch).unwrap();
                }
                Step::Again => kind = kind.again(),
            }
            for table in [Table::Journal, Table::Slots] {
                let all: Vec<_> = model.iter().filter(|((of, _), _)| *of == table)
                    .map(|((_, key), value)| (key.clone(), value.clone())).collect();
                prop_assert_eq!(&range(kind.store(), table, "", [9_u8]).unwrap(), &all);
                let (from, until) = &bounds;
                let inside: Vec<_> = all.into_iter().filter(|(key, _)| from <= key && key < until).collect();
                prop_assert_eq!(range(kind.store(), table, from, until).unwrap(), inside);
            }
        }
    });
}
