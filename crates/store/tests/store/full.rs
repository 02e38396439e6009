//! A disk that is full: a small file system of its own, in a mount namespace of its own.

use std::{fs, ops::ControlFlow};

use aviary_store::{Batch, RedbStore, Store as _, StoreError, Table};
use bytes::Bytes;

use crate::{bytes, put, range, remove, support::small_disk::on_a_small_disk};

fn record(number: u32) -> Batch {
    let value = Bytes::from(vec![number as u8; 100_000]);
    Batch { put: vec![(Table::Slots, bytes(number.to_be_bytes()), value)], ..Batch::default() }
}

fn count(store: &RedbStore) -> usize {
    range(store, Table::Slots, [], [255; 5]).unwrap().len()
}

#[test]
fn a_full_disk_changes_nothing_and_what_was_removed_makes_room() {
    on_a_small_disk("full::a_full_disk_changes_nothing_and_what_was_removed_makes_room", 16, |directory| {
        let store = RedbStore::open(directory).unwrap();
        let mut kept = 0;
        let error = loop {
            match store.commit(record(kept)) {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 200, "16 MiB are full by now");
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert!(error.to_string().contains("free some on its disk, and it goes on by itself"), "{error}");
        assert!(kept > 20, "{kept} records are little of 16 MiB");
        for _ in 0..3 {
            assert!(matches!(store.commit(record(kept)), Err(StoreError::Full { .. })));
            assert_eq!(count(&store), kept as usize, "what was there can be read");
        }
        // A batch that both removes and puts changes nothing either where it finds no room.
        let large: Vec<_> = (1_000..1_100).flat_map(|number| record(number).put).collect();
        let both = Batch { put: large, ..remove(Table::Slots, [], 1_u32.to_be_bytes()) };
        assert!(matches!(store.commit(both), Err(StoreError::Full { .. })));
        assert_eq!(count(&store), kept as usize);

        store.commit(remove(Table::Slots, [], (kept / 2).to_be_bytes())).unwrap();
        for number in 0..kept / 4 {
            store.commit(record(10_000 + number)).unwrap();
        }
        drop(store);
        let store = RedbStore::open(directory).unwrap();
        assert!(!store.found().was_cut);
        assert_eq!(count(&store), (kept - kept / 2 + kept / 4) as usize);
    });
}

#[test]
fn it_goes_on_by_itself_when_others_make_room() {
    on_a_small_disk("full::it_goes_on_by_itself_when_others_make_room", 16, |directory| {
        let store = RedbStore::open(directory).unwrap();
        store.commit(put(Table::Journal, "first", "value")).unwrap();
        let ballast = directory.join("ballast");
        // It ends where the disk does.
        fs::write(&ballast, vec![1; 32 << 20]).unwrap_err();
        let mut refused = false;
        for number in 0..200 {
            refused = matches!(store.commit(record(number)), Err(StoreError::Full { .. }));
            if refused {
                break;
            }
        }
        assert!(refused);
        let reader = store.range(Table::Journal, b"", b"z", &mut |_, _| ControlFlow::Continue(()));
        reader.unwrap();
        fs::remove_file(&ballast).unwrap();
        store.commit(record(1_000)).unwrap();
        assert_eq!(store.get(Table::Journal, b"first").unwrap().unwrap(), "value");
    });
}

#[test]
fn a_store_that_finds_no_room_at_all_is_not_begun() {
    on_a_small_disk("full::a_store_that_finds_no_room_at_all_is_not_begun", 4, |parent| {
        let ballast = parent.join("ballast");
        fs::write(&ballast, vec![1; 5 << 20]).unwrap_err();
        let directory = parent.join("data");
        let error = RedbStore::open(&directory).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        fs::remove_file(&ballast).unwrap();
        assert!(RedbStore::open(&directory).unwrap().found().is_new);
    });
}
