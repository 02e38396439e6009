//! What a spool costs the disk.

use std::fs;

use aviary_core::Second;
use aviary_store::Spool;
use bytes::Bytes;

use crate::{WIDE, record, seconds};

#[test]
fn a_second_costs_one_sync_and_one_that_was_taken_at_once_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), WIDE, Second(100)).unwrap();
    let mut syncs = spool.syncs();
    let mut cost = |spool: &mut Spool, now| {
        spool.flush(Second(now)).unwrap();
        let cost = spool.syncs() - syncs;
        syncs = spool.syncs();
        cost
    };
    assert_eq!(cost(&mut spool, 100), 0, "nothing happened");
    // Taken within the second: nothing but the tail ever has it.
    for now in 101..110 {
        for _ in 0..5 {
            let id = spool.append(record(now, 5_000)).unwrap();
            spool.acknowledge(&[id]);
        }
        assert_eq!(cost(&mut spool, now), 0);
        assert!(fs::metadata(directory.path().join("spool.tail")).unwrap().len() < 100);
    }
    // The collector is slow: each second's records are taken in the next.
    let mut before = Vec::new();
    for now in 110..130 {
        let ids = (0..5).map(|_| spool.append(record(now, 5_000)).unwrap()).collect();
        spool.put("newest", Bytes::from(now.to_string())).unwrap();
        spool.acknowledge(&std::mem::replace(&mut before, ids));
        assert_eq!(cost(&mut spool, now), 1);
        assert_eq!(cost(&mut spool, now), 0, "nothing since");
    }
    // The value that it has already.
    spool.put("newest", Bytes::from("129")).unwrap();
    assert_eq!(cost(&mut spool, 130), 0);
}

#[test]
fn a_file_that_a_backlog_blew_up_shrinks_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), WIDE, Second(1_000)).unwrap();
    let file_bytes = || fs::metadata(directory.path().join("spool.redb")).unwrap().len();
    for second in 1_000..1_400 {
        spool.append(record(second, 100_000)).unwrap();
        spool.flush(Second(second)).unwrap();
    }
    let full = file_bytes();
    assert!(full > 40_000_000);
    // The newest go first, as an agent sends them; a few stay.
    let mut now = 1_400;
    while spool.depth().records > 5 {
        let ids: Vec<_> = spool.newest(2_000_000, 15).iter().map(|(id, _)| *id).collect();
        spool.acknowledge(&ids);
        spool.flush(Second(now)).unwrap();
        now += 1;
    }
    let left = seconds(&mut spool);
    for _ in 0..120 {
        spool.flush(Second(now)).unwrap();
        now += 1;
    }
    assert!(file_bytes() < 16 << 20, "{full} bytes became {}", file_bytes());
    assert_eq!(seconds(&mut spool), left);
    drop(spool);
    let mut spool = Spool::open(directory.path(), WIDE, Second(now)).unwrap();
    assert_eq!(seconds(&mut spool), left);
    assert_eq!(spool.recovered().damaged, None);
}

#[test]
fn bodies_that_left_memory_come_back_from_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), WIDE, Second(1_000)).unwrap();
    for second in 1_000..1_200 {
        spool.append(record(second, 100_000)).unwrap();
        if second % 20 == 0 {
            spool.flush(Second(second)).unwrap();
        }
    }
    spool.flush(Second(1_200)).unwrap();
    let records = spool.newest(u64::MAX, usize::MAX);
    assert_eq!(records.len(), 200);
    assert!(records.iter().all(|(_, found)| *found == record(found.second.0, 100_000)));
}

#[test]
fn a_tail_that_nobody_flushes_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), WIDE, Second(1)).unwrap();
    let tail_bytes = || fs::metadata(directory.path().join("spool.tail")).unwrap().len();
    for second in 0..20 {
        spool.append(record(second, 8_000_000)).unwrap();
        assert!(tail_bytes() <= 72 << 20);
    }
    assert_eq!(seconds(&mut spool), (0..20).collect::<Vec<_>>());
}
