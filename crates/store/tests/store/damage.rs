//! Files that are not as they were written: refused with the place, and nothing of them taken for what was.

use std::{fs, ops::ControlFlow, os::unix::fs::PermissionsExt as _, path::Path};

use aviary_store::{FILE_NAME, RedbStore, Store as _, StoreError, Table, dump, verify};

use crate::put;

/// A store with records that can be found in its file, closed well.
fn made(directory: &Path, records: u32) {
    let store = RedbStore::open(directory).unwrap();
    for number in 0..records {
        let value = format!("value {number:06} {}", "x".repeat(500));
        store.commit(put(Table::Slots, number.to_be_bytes(), value)).unwrap();
    }
}

/// Changes one byte where `text` stands in the file.
fn alter(path: &Path, text: &str) {
    let mut file = fs::read(path).unwrap();
    let places: Vec<_> =
        (0..file.len() - text.len()).filter(|at| file[*at..].starts_with(text.as_bytes())).collect();
    assert!(!places.is_empty());
    for at in places {
        file[at + text.len() - 1] ^= 1;
    }
    fs::write(path, file).unwrap();
}

#[test]
fn an_altered_record_is_never_handed_out_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path(), 50);
    let path = directory.path().join(FILE_NAME);
    alter(&path, "value 000007");
    // A small file is looked through when it is opened.
    let error = RedbStore::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    for error in [
        verify(directory.path(), |_| {}).unwrap_err(),
        verify(&path, |_| {}).unwrap_err(),
        dump(directory.path(), &[Table::Slots], |_, _, _| ControlFlow::Continue(())).unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(said.contains("is damaged at slots 00000007: its checksum does not fit it"), "{said}");
        assert!(said.contains("restore it from a backup"), "{said}");
    }
    let mut before = 0;
    let visited = dump(directory.path(), &[Table::Slots], |_, _, _| {
        before += 1;
        ControlFlow::Continue(())
    });
    assert!(visited.is_err() && before == 7, "what is before it can be read");
}

#[test]
fn a_file_that_is_none_or_was_cut_is_refused() {
    type Spoil = fn(&mut Vec<u8>);
    let table: [(&str, Spoil); 4] = [
        ("text", |file| {
            *file = b"hello, this is no database at all, but it is long enough to be read".repeat(99)
        }),
        ("zeros", |file| file.fill(0)),
        ("half of it", |file| file.truncate(file.len() / 2)),
        ("no header", |file| file[..4_096].fill(0xa5)),
    ];
    for (what, spoil) in table {
        let directory = tempfile::tempdir().unwrap();
        made(directory.path(), 50);
        let path = directory.path().join(FILE_NAME);
        let mut file = fs::read(&path).unwrap();
        spoil(&mut file);
        fs::write(&path, &file).unwrap();
        let error = RedbStore::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{what}: {error}");
        verify(directory.path(), |_| {}).unwrap_err();
    }
}

#[test]
fn one_process_has_it_and_nobody_else_may_read_it() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("made/here");
    let store = RedbStore::open(&directory).unwrap();
    assert!(store.found().is_new);
    for error in [RedbStore::open(&directory).unwrap_err(), verify(&directory, |_| {}).unwrap_err()] {
        let expected = format!("is in use by process {}: stop that process", std::process::id());
        assert!(error.to_string().contains(&expected), "{error}");
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(store.path())), (0o700, 0o600));
    drop(store);
    assert!(!RedbStore::open(&directory).unwrap().found().was_cut);
}
