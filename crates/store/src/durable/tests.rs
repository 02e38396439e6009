use std::sync::atomic::Ordering;

use super::*;

fn put(key: &str, value: &str) -> Batch {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Batch { put: vec![(Table::Journal, bytes(key), bytes(value))], ..Batch::default() }
}

/// A write that may or may not be on the disk is followed by none, whatever the disk says afterwards.
#[test]
fn after_a_sync_that_failed_nothing_more_is_written() {
    // A commit syncs several times, and each may fail.
    for sync in 1..=2 {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let store = RedbStore::open_with(directory.path(), disk.clone()).unwrap();
        store.commit(put("a", "kept")).unwrap();
        disk.failing_sync_in.store(sync, Ordering::SeqCst);
        let error = store.commit(put("b", "not confirmed")).unwrap_err();
        assert!(matches!(error, StoreError::Unsound { .. }), "sync {sync}: {error}");
        assert!(error.to_string().contains("the disk gave up; look at the disk"), "{error}");
        for _ in 0..2 {
            let later = store.commit(put("c", "never")).unwrap_err();
            assert_eq!(later.to_string(), error.to_string());
        }
        assert!(store.get(Table::Journal, b"a").is_err(), "what is in memory is not what is on the disk");
        drop(store);
        let store = RedbStore::open(directory.path()).unwrap();
        assert!(store.found().was_cut);
        assert_eq!(store.get(Table::Journal, b"a").unwrap().unwrap(), "kept");
        assert_eq!(store.get(Table::Journal, b"c").unwrap(), None);
        store.commit(put("c", "now")).unwrap();
    }
}

#[test]
fn a_file_of_a_later_version_is_refused_and_keeps_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    RedbStore::open(directory.path()).unwrap().commit(put("a", "kept")).unwrap();
    let set_format = |format| {
        let database = Database::open(&path).unwrap();
        set(&database, FORMAT, format).unwrap();
    };
    set_format(9);
    let bytes = fs::read(&path).unwrap();
    for error in [
        RedbStore::open(directory.path()).unwrap_err(),
        verify(directory.path(), |_| {}).unwrap_err(),
        dump(directory.path(), &Table::ALL, |_, _, _| ControlFlow::Continue(())).unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("has format 9, and this version of aviary knows formats up to 1"),
            "{error}"
        );
    }
    assert!(fs::read(&path).unwrap() == bytes, "and nothing of it is changed");
    set_format(FORMAT_KNOWN);
    assert_eq!(
        RedbStore::open(directory.path()).unwrap().get(Table::Journal, b"a").unwrap().unwrap(),
        "kept"
    );
}

/// A clock on which each look is a millisecond later than the one before.
#[derive(Clone, Default)]
struct Ticking(std::sync::Arc<std::sync::atomic::AtomicU64>);

impl Clock for Ticking {
    fn wall(&self) -> aviary_core::Timestamp {
        aviary_core::Timestamp(0)
    }

    fn monotonic(&self) -> aviary_core::Micros {
        aviary_core::Micros(self.0.fetch_add(1_000, Ordering::SeqCst))
    }
}

#[test]
fn what_a_store_costs_its_disk_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    let size = |store: &RedbStore| store.figures().bytes;
    assert_eq!(size(&store), fs::metadata(directory.path().join(FILE_NAME)).unwrap().len());
    store.commit(put("a", "untimed")).unwrap();
    assert_eq!(store.figures().syncs.count(), 0);
    store.time_syncs(Ticking::default());
    store.commit(put("b", &"timed".repeat(1 << 20))).unwrap();
    let StoreFigures { bytes, syncs } = store.figures();
    assert!(syncs.count() > 0 && syncs.quantile(1.0) == Some(960), "a millisecond each: {syncs:?}");
    assert!(bytes > 5 << 20, "{bytes}");
}

#[test]
fn a_file_of_a_later_version_that_was_killed_is_left_as_it_was() {
    let (running, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = RedbStore::open(running.path()).unwrap();
    (0..200).for_each(|key| store.commit(put(&key.to_string(), &"kept".repeat(500))).unwrap());
    set(store.slot().as_ref().unwrap(), FORMAT, 9).unwrap();
    let path = killed.path().join(FILE_NAME);
    fs::copy(store.path(), &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let error = RedbStore::open(killed.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9, known: FORMAT_KNOWN, .. }), "{error}");
    assert!(
        fs::read(&path).unwrap() == bytes,
        "also what redb would mend is left to the version that wrote it"
    );

    set(store.slot().as_ref().unwrap(), FORMAT, FORMAT_KNOWN).unwrap();
    fs::copy(store.path(), &path).unwrap();
    let opened = RedbStore::open(killed.path()).unwrap();
    assert!(opened.found().was_cut);
    assert_eq!(opened.get(Table::Journal, b"199").unwrap().unwrap(), "kept".repeat(500));
}
