//! Files that are not as they should be, and directories that are not ours.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process,
};

use aviary_core::Second;
use aviary_store::{Limits, Spool, SpoolError};
use bytes::Bytes;

use crate::{WIDE, record, seconds};

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn open(directory: &Path, now: u64) -> Result<Spool, SpoolError> {
    Spool::open(directory, WIDE, Second(now))
}

/// A directory in which two records are in the database and one is in the tail.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path(), 100).unwrap();
    for second in [100, 101] {
        spool.append(record(second, 50_000)).unwrap();
    }
    spool.flush(Second(101)).unwrap();
    spool.append(record(102, 50)).unwrap();
    let path = directory.path().join("spool.redb");
    (directory, path)
}

#[test]
fn nobody_else_can_read_it() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("var/aviary");
    drop(open(&directory, 1).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(files(&directory), ["spool.lock", "spool.redb", "spool.tail"]);
    assert!(files(&directory).iter().all(|name| mode(&directory.join(name)) == 0o600));
}

#[test]
fn a_second_process_is_refused_by_the_name_of_the_first() {
    let (directory, _) = filled();
    let first = open(directory.path(), 200).unwrap();
    let refused = open(directory.path(), 201).unwrap_err();
    let expected = format!(
        "the spool in {} is in use by process {}: stop that process, or give this agent a `data` directory of its own",
        directory.path().display(),
        process::id()
    );
    assert_eq!(refused.to_string(), expected);
    drop(first);
    assert_eq!(seconds(&mut open(directory.path(), 202).unwrap()), [100, 101, 102]);
}

#[test]
fn a_damaged_database_is_set_aside_and_the_tail_is_still_read() {
    let whole = {
        let (_directory, path) = filled();
        fs::read(path).unwrap()
    };
    let zeroed = |from: usize| {
        let mut bytes = whole.clone();
        bytes[from..].fill(0);
        bytes
    };
    // All of the pages in which bodies are, with one bit of each turned over.
    let flipped: Vec<u8> = whole
        .iter()
        .enumerate()
        .map(|(place, byte)| byte ^ u8::from(place > 8_192 && place % 512 == 7))
        .collect();
    let table = [
        ("cut", whole[..whole.len() / 3].to_vec()),
        ("cut to its first page", whole[..4_096].to_vec()),
        ("a few bytes", b"redb".to_vec()),
        ("another thing", vec![0x55; 60_000]),
        ("zeroed behind the head", zeroed(4_096)),
        ("all zeroes", zeroed(0)),
        ("bits turned over", flipped),
    ];
    for (name, bytes) in table {
        let (directory, path) = filled();
        fs::write(&path, &bytes).unwrap();
        let mut spool = open(directory.path(), 300).unwrap();
        assert!(spool.is_on_disk(), "{name}: {:?}", spool.trouble());
        assert_eq!(seconds(&mut spool), [102], "{name}");
        let damaged = spool.recovered().damaged.clone().unwrap();
        assert_eq!(damaged.aside, directory.path().join("spool.redb.damaged-300"), "{name}");
        assert!(!damaged.reason.is_empty());
        assert_eq!(
            fs::read(&damaged.aside).unwrap().len(),
            bytes.len(),
            "{name}: kept for somebody to look at"
        );

        spool.append(record(301, 10)).unwrap();
        spool.flush(Second(301)).unwrap();
        drop(spool);
        fs::write(&path, b"again").unwrap();
        drop(open(directory.path(), 302).unwrap());
        let expected = ["spool.lock", "spool.redb", "spool.redb.damaged-302", "spool.tail"];
        assert_eq!(files(directory.path()), expected, "{name}: one such file at most");
    }
}

#[test]
fn a_process_killed_while_it_made_the_database_leaves_no_damage() {
    for (has_name, left) in [(false, 0), (false, 4_096), (false, 100_000), (true, 100_000)] {
        let (directory, path) = filled();
        let whole = fs::read(&path).unwrap();
        fs::write(directory.path().join("spool.redb.new"), &whole[..left]).unwrap();
        if has_name {
            fs::write(&path, "").unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let mut spool = open(directory.path(), 300).unwrap();
        assert_eq!(spool.recovered().damaged, None);
        assert_eq!(seconds(&mut spool), [102], "of the tail");
        assert_eq!(files(directory.path()), ["spool.lock", "spool.redb", "spool.tail"]);
    }
}

#[test]
fn any_one_bit_turned_over_neither_stops_the_start_nor_is_believed() {
    let whole = {
        let (_directory, path) = filled();
        fs::read(path).unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool.redb");
    for round in 0..150 {
        let mut bytes = whole.clone();
        // The head densely, the rest in strides.
        let place = if round < 50 { round * 7 } else { round * 7_919 % whole.len() };
        bytes[place] ^= 1 << (round % 8);
        fs::write(&path, &bytes).unwrap();
        let mut spool = open(directory.path(), 300).unwrap();
        assert!(spool.is_on_disk(), "at {place}: {:?}", spool.trouble());
        let found = spool.newest(u64::MAX, usize::MAX);
        let is_whole = found.iter().all(|(_, found)| *found == record(found.second.0, 50_000));
        assert!(is_whole, "at {place}");
        assert!(found.len() == 2 || spool.recovered().damaged.is_some(), "at {place}: lost without a word");
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let (directory, path) = filled();
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<'_, &str, u64>::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let tail = directory.path().join("spool.tail");
    let bytes = [&path, &tail].map(|file| fs::read(file).unwrap());
    let refused = open(directory.path(), 300).unwrap_err();
    assert!(matches!(refused, SpoolError::Newer { found: 2, known: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("run the version that wrote it"), "{refused}");
    assert_eq!(files(directory.path()), ["spool.lock", "spool.redb", "spool.tail"]);
    assert!([&path, &tail].map(|file| fs::read(file).unwrap()) == bytes, "and nothing of it is changed");

    let aside = Spool::set_aside(directory.path(), Second(300)).unwrap();
    assert_eq!(aside, directory.path().join("spool.newer-300"));
    assert!(["spool.redb", "spool.tail"].map(|name| fs::read(aside.join(name)).unwrap()) == bytes);
    let mut spool = open(directory.path(), 301).unwrap();
    assert_eq!(seconds(&mut spool), [0_u64; 0]);
    // Somebody who has it in use keeps it.
    assert!(matches!(Spool::set_aside(directory.path(), Second(300)), Err(SpoolError::InUse { .. })));
    drop(spool);
    assert_eq!(
        Spool::set_aside(directory.path(), Second(300)).unwrap(),
        directory.path().join("spool.newer-301"),
        "and what was set aside before stays"
    );
}

#[test]
fn a_newer_tail_is_refused_before_anything_is_changed() {
    let (directory, path) = filled();
    let tail = directory.path().join("spool.tail");
    let mut header = fs::read(&tail).unwrap();
    header[7] = 2;
    let sum = crc32fast::hash(&header[..16]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    fs::write(&tail, &header).unwrap();
    let bytes = fs::read(&path).unwrap();
    let refused = open(directory.path(), 300).unwrap_err();
    assert!(matches!(refused, SpoolError::Newer { found: 2, known: 1, .. }), "{refused}");
    assert!(fs::read(&path).unwrap() == bytes && fs::read(&tail).unwrap() == header);
}

#[test]
fn a_place_that_can_be_no_directory_is_refused_with_the_remedy() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [file.clone(), file.join("below")] {
        let refused = open(&place, 1).unwrap_err().to_string();
        assert!(refused.contains(place.to_str().unwrap()), "{refused}");
        assert!(refused.ends_with("set `data` to a directory that can be made"), "{refused}");
    }
}

#[test]
fn narrower_limits_hold_from_the_first_flush_on() {
    let (directory, _) = filled();
    let narrow = Limits { bytes: 60_000, age_seconds: 1_000 };
    let mut spool = Spool::open(directory.path(), narrow, Second(103)).unwrap();
    let flushed = spool.flush(Second(103)).unwrap();
    assert_eq!((flushed.dropped_records, flushed.dropped_slots), (1, 3));
    assert_eq!(seconds(&mut spool), [101, 102]);
}

#[test]
fn a_lock_file_of_nonsense_is_a_lock_all_the_same() {
    let (directory, _) = filled();
    for nonsense in [&b"\xff\xfe"[..], b"", b"pid of somebody 99999999999999999999"] {
        fs::write(directory.path().join("spool.lock"), nonsense).unwrap();
        let mut spool = open(directory.path(), 90).unwrap();
        let newest = spool.newest(u64::MAX, 1)[0].0;
        assert!(spool.append(record(103, 5)).unwrap() > newest, "ids rise although the clock went back");
        spool.put("key", Bytes::from_static(b"value")).unwrap();
        assert!(matches!(open(directory.path(), 91), Err(SpoolError::InUse { .. })));
    }
}
