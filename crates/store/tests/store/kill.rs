//! A process that is really killed, at any moment, again and again.

use std::{
    io::{Write as _, stdout},
    path::Path,
};

use aviary_store::{Batch, RedbStore, Store as _, Table, verify};
use bytes::Bytes;

use crate::{
    bytes, range,
    support::killed::{killed, to_be_killed},
};

fn value(number: u64, part: u64) -> Bytes {
    let word = number * 7 + part;
    Bytes::from(word.to_le_bytes().repeat(1 + (number as usize * 37) % 900))
}

/// Commits batches from `first` on, each of a record in two tables and the removal of an old one, and says each number
/// once it is kept.
fn write(directory: &Path, first: u64, count: u64) {
    let store = RedbStore::open(directory).unwrap();
    let mut say = stdout().lock();
    for number in first..first.saturating_add(count) {
        let key = bytes(number.to_be_bytes());
        let old = number.saturating_sub(300).to_be_bytes();
        let batch = Batch {
            remove: vec![(Table::Journal, bytes([]), bytes(old))],
            put: vec![
                (Table::Journal, key.clone(), value(number, 0)),
                (Table::Slots, key, value(number, 1)),
                (Table::Checkpoint, bytes("newest"), bytes(number.to_be_bytes())),
            ],
        };
        store.commit(batch).unwrap();
        writeln!(say, "\nkept {number}").unwrap();
    }
}

/// What is killed in the test below; by itself, a short life that ends well.
#[test]
fn a_writer_leaves_what_it_wrote() {
    if let Some((directory, first)) = to_be_killed() {
        write(&directory, first, u64::MAX);
    }
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 1, 9);
    assert_eq!(verify(directory.path(), |_| {}).unwrap().tables[3].1.records, 9);
}

#[test]
fn nothing_that_was_kept_is_lost_to_forty_kills() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = 1;
    let mut cuts = 0;
    for round in 0..400_u64 {
        // On a slow disk forty write too little to prove anything.
        if round >= 40 && first > 200 {
            break;
        }
        let said = killed("kill::a_writer_leaves_what_it_wrote", directory.path(), first, round);
        let last = said.iter().rev().find_map(|line| line.strip_prefix("kept ")?.parse().ok());

        let store = RedbStore::open(directory.path()).unwrap();
        cuts += u32::from(store.found().was_cut);
        let newest = store.get(Table::Checkpoint, b"newest").unwrap();
        let newest = newest.map_or(0, |bytes| u64::from_be_bytes(bytes.as_ref().try_into().unwrap()));
        assert!(
            newest >= last.unwrap_or(first - 1),
            "round {round}: {last:?} was kept, and {newest} is there"
        );
        let slots = range(&store, Table::Slots, [], [255; 9]).unwrap();
        let expected = (1..=newest).map(|number| (bytes(number.to_be_bytes()), value(number, 1)));
        assert!(slots.into_iter().eq(expected), "round {round}: whole, in order, none missing");
        let journal = range(&store, Table::Journal, [], [255; 9]).unwrap();
        assert_eq!(journal.len() as u64, newest.min(301), "round {round}: what a batch removes goes with it");
        first = newest + 1;
    }
    assert!(first > 200, "only {first} were written: this proves little");
    assert!(cuts > 20, "only {cuts} found that the one before was killed");
    verify(directory.path(), |_| {}).unwrap();
}
