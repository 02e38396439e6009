//! What a person does with a store.

use std::{
    fs,
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use aviary_store::{
    Batch, FILE_NAME, Progress, RedbStore, Store, StoreError, Table, compact, dump, restore, verify,
};
use bytes::Bytes;

use crate::{bytes, put, range, remove};

fn filled(store: &dyn Store, records: u32) {
    for chunk in (0..records).collect::<Vec<_>>().chunks(500) {
        let record = |number: &u32| {
            (Table::Slots, bytes(number.to_be_bytes()), Bytes::from(vec![*number as u8; 2_000]))
        };
        store.commit(Batch { put: chunk.iter().map(record).collect(), ..Batch::default() }).unwrap();
    }
}

#[test]
fn verify_says_what_is_there_and_how_far_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    filled(&store, 25_000);
    store.commit(put(Table::Events, "key", "value")).unwrap();
    drop(store);
    let told = Arc::<Mutex<Vec<Progress>>>::default();
    let teller = Arc::clone(&told);
    let contents = verify(directory.path(), move |progress| teller.lock().unwrap().push(progress)).unwrap();
    assert_eq!(contents.path, directory.path().join(FILE_NAME));
    let found = contents.tables.iter().filter(|(_, counted)| counted.records > 0);
    let found: Vec<_> = found.map(|(table, counted)| (*table, counted.records, counted.bytes)).collect();
    assert_eq!(found, [(Table::Slots, 25_000, 25_000 * 2_004), (Table::Events, 1, 8)]);
    assert_eq!(contents.tables.len(), Table::ALL.len());
    let told = told.lock().unwrap();
    assert!(told.iter().any(|it| matches!(it, Progress::Pages(_))), "{told:?}");
    assert!(told.contains(&Progress::Records(20_000, 25_001)), "{told:?}");
    let nowhere = verify(&directory.path().join("nowhere"), |_| {}).unwrap_err();
    assert!(nowhere.to_string().contains("it is not there"), "{nowhere}");
}

#[test]
fn a_copy_made_while_others_write_is_of_one_moment_and_answers_the_same_when_restored() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = RedbStore::open(directory.path()).unwrap();
    filled(&store, 5_000);
    store.commit(put(Table::Sums, "slots", 5_000_u32.to_be_bytes())).unwrap();
    let copy = other.path().join("copy.redb");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 5_000_u32;
            while !stop.load(Ordering::SeqCst) {
                let mut batch = put(Table::Slots, number.to_be_bytes(), [7; 100]);
                number += 1;
                batch.put.push((Table::Sums, bytes("slots"), bytes(number.to_be_bytes())));
                store.commit(batch).unwrap();
            }
        });
        let bytes = store.backup(&copy).unwrap();
        assert_eq!(bytes, fs::metadata(&copy).unwrap().len());
        stop.store(true, Ordering::SeqCst);
    });
    assert!(store.backup(&copy).unwrap_err().to_string().contains("is there already"));
    let contents = verify(&copy, |_| {}).unwrap();

    let error = restore(&copy, directory.path(), false, |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    let restored = other.path().join("data");
    restore(&copy, &restored, false, |_| {}).unwrap();
    let error = restore(&copy, &restored, false, |_| {}).unwrap_err();
    assert!(error.to_string().contains("say --force"), "{error}");
    restore(&copy, &restored, true, |_| {}).unwrap();
    let again = RedbStore::open(&restored).unwrap();
    assert!(!again.found().was_cut);
    let slots = range(&again, Table::Slots, [], [255; 5]).unwrap();
    let said = again.get(Table::Sums, b"slots").unwrap().unwrap();
    assert_eq!(said, (slots.len() as u32).to_be_bytes()[..], "one moment of both tables");
    assert_eq!(contents.tables[3].1.records, slots.len() as u64);
    let original = range(&store, Table::Slots, [], [255; 5]).unwrap();
    assert!(slots.len() >= 5_000 && original.starts_with(&slots));
}

#[test]
fn a_copy_that_is_no_good_replaces_nothing() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = RedbStore::open(directory.path()).unwrap();
    store.commit(put(Table::Slots, "key", "a value that can be found")).unwrap();
    let copy = other.path().join("copy.redb");
    store.backup(&copy).unwrap();
    drop(store);
    let mut file = fs::read(&copy).unwrap();
    let at = file.windows(7).position(|window| window == b"a value").unwrap();
    file[at] ^= 1;
    fs::write(&copy, file).unwrap();
    let error = restore(&copy, directory.path(), true, |_| {}).unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { path, .. } if *path == copy.display().to_string()),
        "{error}"
    );
    let store = RedbStore::open(directory.path()).unwrap();
    assert_eq!(store.get(Table::Slots, b"key").unwrap().unwrap(), "a value that can be found");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "the file and its lock");
}

#[test]
fn what_was_removed_is_given_back_and_the_rest_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    filled(&store, 20_000);
    store.commit(remove(Table::Slots, 100_u32.to_be_bytes(), [255; 5])).unwrap();
    drop(store);
    let (before, after) = compact(directory.path()).unwrap();
    assert!(after * 10 < before, "{before} to {after}");
    let mut keys = 0;
    dump(directory.path(), &Table::ALL, |table, key, value| {
        assert!(table == Table::Slots && key.len() == 4 && value.len() == 2_000);
        keys += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(keys, 100);
    assert!(!RedbStore::open(directory.path()).unwrap().found().was_cut);
}
