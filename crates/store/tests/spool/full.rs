//! A disk that is full: a small file system of its own, in a mount namespace of its own.

use std::fs;

use aviary_core::Second;
use aviary_store::{Limits, Spool};
use bytes::Bytes;

use crate::{record, seconds, support::small_disk::on_a_small_disk};

const LIMITS: Limits = Limits { bytes: 64 << 20, age_seconds: 86_400 };

#[test]
fn a_disk_that_fills_up_loses_nothing_while_the_process_lives() {
    on_a_small_disk("full::a_disk_that_fills_up_loses_nothing_while_the_process_lives", 8, |directory| {
        let mut spool = Spool::open(directory, LIMITS, Second(1_000)).unwrap();
        assert!(spool.is_on_disk());
        let mut now = 1_000;
        let mut failure = None;
        while failure.is_none() {
            spool.append(record(now, 300_000)).unwrap();
            failure = spool.flush(Second(now)).err();
            now += 1;
            assert!(now < 1_100, "8 MiB are full by now");
        }
        let failure = failure.unwrap().to_string();
        assert!(failure.contains(directory.to_str().unwrap()), "{failure}");
        assert!(failure.ends_with("(os error 28); make room there"), "{failure}");
        assert!(!spool.is_on_disk());

        spool.put("roster", Bytes::from_static(b"new")).unwrap();
        for _ in 0..50 {
            spool.append(record(now, 300_000)).unwrap();
            spool.flush(Second(now)).unwrap();
            now += 1;
        }
        assert_eq!(seconds(&mut spool), (1_000..now).collect::<Vec<_>>());
        assert_eq!(spool.dropped(), (0, 0));
        assert!(!spool.is_on_disk());

        // The collector takes most of it, and what is left has room.
        let ids: Vec<_> =
            spool.newest(u64::MAX, spool.depth().records as usize - 4).iter().map(|(id, _)| *id).collect();
        spool.acknowledge(&ids);
        now += 10;
        spool.flush(Second(now)).unwrap();
        assert!(spool.is_on_disk(), "{}", spool.trouble().unwrap());
        drop(spool);
        let mut spool = Spool::open(directory, LIMITS, Second(now)).unwrap();
        assert_eq!(seconds(&mut spool), [1_000, 1_001, 1_002, 1_003]);
        assert_eq!(spool.get("roster"), Some(Bytes::from_static(b"new")));
    });
}

#[test]
fn a_disk_that_is_full_at_the_start_is_used_once_there_is_room() {
    on_a_small_disk("full::a_disk_that_is_full_at_the_start_is_used_once_there_is_room", 4, |parent| {
        let directory = parent.join("agent");
        let ballast = parent.join("ballast");
        // It ends where the disk does.
        fs::write(&ballast, vec![1; 5 << 20]).unwrap_err();
        let mut spool = Spool::open(&directory, LIMITS, Second(1_000)).unwrap();
        assert!(!spool.is_on_disk());
        let trouble = spool.trouble().unwrap().to_string();
        assert!(trouble.ends_with("make room there"), "{trouble}");
        spool.append(record(1_000, 1_000)).unwrap();
        spool.flush(Second(1_001)).unwrap();

        fs::remove_file(&ballast).unwrap();
        spool.append(record(1_001, 1_000)).unwrap();
        spool.flush(Second(1_009)).unwrap();
        assert!(!spool.is_on_disk(), "not tried before its time");
        assert!(spool.flush(Second(1_010)).unwrap().recovered.is_some());
        assert!(spool.is_on_disk());
        drop(spool);
        assert_eq!(seconds(&mut Spool::open(&directory, LIMITS, Second(1_011)).unwrap()), [1_000, 1_001]);
    });
}

#[test]
fn a_tail_that_found_no_room_is_made_good_by_the_next_flush_that_does() {
    on_a_small_disk(
        "full::a_tail_that_found_no_room_is_made_good_by_the_next_flush_that_does",
        16,
        |directory| {
            let mut spool = Spool::open(directory, LIMITS, Second(1_000)).unwrap();
            spool.append(record(1_000, 1_000)).unwrap();
            spool.flush(Second(1_000)).unwrap();
            let ballast = directory.join("ballast");
            fs::write(&ballast, vec![1; 16 << 20]).unwrap_err();
            spool.append(record(1_001, 20_000)).unwrap();
            assert!(!spool.is_on_disk());
            let failure = spool.trouble().unwrap().to_string();
            assert!(failure.contains("spool.tail"), "{failure}");
            assert_eq!(spool.flush(Second(1_001)).unwrap_err().to_string(), failure);
            spool.append(record(1_002, 10)).unwrap();

            fs::remove_file(&ballast).unwrap();
            let flushed = spool.flush(Second(1_011)).unwrap();
            assert!(flushed.recovered.is_some() && spool.is_on_disk());
            spool.append(record(1_012, 10)).unwrap();
            drop(spool);
            let mut spool = Spool::open(directory, LIMITS, Second(1_013)).unwrap();
            assert_eq!(seconds(&mut spool), [1_000, 1_001, 1_002, 1_012]);
            assert_eq!(spool.recovered().torn_bytes, 0);
        },
    );
}
