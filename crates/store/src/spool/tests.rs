//! A disk that fails to sync: what no file system does on request.

use std::sync::atomic::Ordering;

use super::*;

const LIMITS: Limits = Limits { bytes: 1 << 20, age_seconds: 3_600 };

fn record(second: u64) -> Record {
    Record { roster: 1, slots: 5, second: Second(second), body: Bytes::from(format!("report of {second}")) }
}

fn seconds(spool: &mut Spool) -> Vec<u64> {
    spool.newest(u64::MAX, usize::MAX).iter().map(|(_, record)| record.second.0).collect()
}

#[test]
fn a_failed_sync_loses_nothing_is_told_once_and_is_made_good() {
    let directory = tempfile::tempdir().unwrap();
    let usage = DiskUse::default();
    let mut spool = Spool::open_with(directory.path(), LIMITS, Second(100), usage.clone()).unwrap();
    let first = spool.append(record(100)).unwrap();
    spool.put("roster 1", Bytes::from_static(b"one")).unwrap();
    spool.flush(Second(100)).unwrap();

    // The commit fails, and so does opening the database again.
    spool.append(record(101)).unwrap();
    spool.put("roster 1", Bytes::from_static(b"other")).unwrap();
    usage.failing_syncs.store(u64::MAX, Ordering::Relaxed);
    let failed = spool.flush(Second(101)).unwrap_err();
    assert!(failed.to_string().contains("spool.redb: "), "{failed}");
    assert!(failed.to_string().contains("the disk gave up; look for errors of the disk"), "{failed}");
    assert!(!spool.is_on_disk());
    spool.append(record(102)).unwrap();
    spool.flush(Second(102)).unwrap();
    assert_eq!(seconds(&mut spool), [102, 101, 100], "all bodies are in memory");
    spool.acknowledge(&[first]);
    assert!(spool.flush(Second(112)).is_ok(), "told once");

    usage.failing_syncs.store(0, Ordering::Relaxed);
    spool.flush(Second(115)).unwrap();
    assert!(!spool.is_on_disk(), "not tried before its time");
    let flushed = spool.flush(Second(122)).unwrap();
    assert!(spool.is_on_disk());
    assert_eq!(flushed.recovered.map(|recovered| recovered.records), Some(2));
    assert_eq!((flushed.dropped_records, spool.dropped()), (0, (0, 0)));

    drop(spool);
    let mut spool = Spool::open(directory.path(), LIMITS, Second(200)).unwrap();
    assert_eq!(seconds(&mut spool), [102, 101]);
    assert_eq!(spool.get("roster 1"), Some(Bytes::from_static(b"other")));
}

#[test]
fn a_disk_that_fails_at_the_start_is_joined_with_what_came_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), LIMITS, Second(100)).unwrap();
    let old = [100, 101].map(|second| spool.append(record(second)).unwrap());
    spool.put("closed until", Bytes::from_static(b"101")).unwrap();
    spool.put("roster 1", Bytes::from_static(b"one")).unwrap();
    spool.flush(Second(101)).unwrap();
    spool.append(record(102)).unwrap();
    drop(spool);

    let usage = DiskUse::default();
    usage.failing_syncs.store(u64::MAX, Ordering::Relaxed);
    let mut spool = Spool::open_with(directory.path(), LIMITS, Second(90), usage.clone()).unwrap();
    assert!(!spool.is_on_disk() && spool.trouble().is_some());
    assert_eq!(spool.depth().records, 0);
    let new = spool.append(record(90)).unwrap();
    assert!(new > old[1], "ids rise although the clock went back");
    spool.put("closed until", Bytes::from_static(b"90")).unwrap();

    usage.failing_syncs.store(0, Ordering::Relaxed);
    spool.flush(Second(100)).unwrap();
    assert!(spool.is_on_disk());
    assert_eq!(seconds(&mut spool), [90, 102, 101, 100]);
    assert_eq!(spool.get("closed until"), Some(Bytes::from_static(b"90")), "the younger stands");
    assert_eq!(spool.get("roster 1"), Some(Bytes::from_static(b"one")));
    drop(spool);
    let mut spool = Spool::open(directory.path(), LIMITS, Second(91)).unwrap();
    assert_eq!(seconds(&mut spool), [90, 102, 101, 100]);
}

#[test]
fn a_database_that_fails_between_two_flushes_can_still_be_read_and_sent() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 64 << 20, age_seconds: 3_600 };
    let usage = DiskUse::default();
    let mut spool = Spool::open_with(directory.path(), limits, Second(1), usage.clone()).unwrap();
    // More than is held in memory, so that bodies have to come from the database.
    for second in 1..=12 {
        let body = Bytes::from(vec![second as u8; 1 << 20]);
        spool.append(Record { body, ..record(second) }).unwrap();
        spool.flush(Second(second)).unwrap();
    }
    usage.failing_syncs.store(1, Ordering::Relaxed);
    spool.append(record(13)).unwrap();
    spool.flush(Second(13)).unwrap_err();
    let records = spool.newest(u64::MAX, usize::MAX);
    assert_eq!(records.len(), 13);
    assert!(records[1..].iter().all(|(_, record)| record.body[..] == vec![record.second.0 as u8; 1 << 20]));
    let ids: Vec<RecordId> = records.iter().map(|(id, _)| *id).collect();
    spool.acknowledge(&ids);
    assert!(spool.flush(Second(23)).unwrap().recovered.is_some());
    drop(spool);
    assert_eq!(Spool::open(directory.path(), limits, Second(24)).unwrap().depth(), Depth::default());
}
