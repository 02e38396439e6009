//! What a spool does, wherever it keeps what it has: each case runs on a disk and in memory.

use aviary_core::Second;
use aviary_store::{
    Depth, Limits, RECORD_BYTES_MAX, Record, STATE_BYTES_MAX, STATE_KEY_BYTES_MAX, STATE_VALUES_MAX, Spool,
    SpoolError,
};
use bytes::Bytes;

use crate::{WIDE, all, record, seconds};

macro_rules! conformance {
    ($($case:ident)*) => {
        mod on_disk {
            $(#[test]
            fn $case() {
                let directory = tempfile::tempdir().unwrap();
                super::$case(|limits| {
                    aviary_store::Spool::open(directory.path(), limits, aviary_core::Second(1_000)).unwrap()
                });
            })*
        }
        mod in_memory {
            $(#[test]
            fn $case() {
                super::$case(aviary_store::Spool::in_memory);
            })*
        }
    };
}

conformance! {
    gives_the_newest_first_and_no_more_than_asked_for
    drops_the_oldest_beyond_its_bytes_and_counts_them
    drops_what_is_too_old_at_a_flush
    lets_go_of_what_was_acknowledged
    keeps_named_values_within_bounds
    refuses_a_record_that_is_too_large
    knows_its_depth_and_its_rosters
}

fn gives_the_newest_first_and_no_more_than_asked_for(make: impl FnOnce(Limits) -> Spool) {
    let mut spool = make(WIDE);
    let ids: Vec<_> = (1_000..1_010).map(|second| spool.append(record(second, 100)).unwrap()).collect();
    assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
    for flushed in [false, true] {
        let table = [
            (u64::MAX, 3, 3),
            (u64::MAX, 0, 0),
            (350, 10, 3),
            (300, 10, 3),
            (299, 10, 2),
            // The first comes whatever its size: else it would never be sent.
            (1, 10, 1),
            (u64::MAX, usize::MAX, 10),
        ];
        for (bytes_max, count_max, expected) in table {
            let records = spool.newest(bytes_max, count_max);
            let wanted: Vec<_> = (0..10)
                .rev()
                .take(expected)
                .map(|place| (ids[place], record(1_000 + place as u64, 100)))
                .collect();
            assert_eq!(records, wanted, "{bytes_max} bytes, {count_max} records, flushed: {flushed}");
        }
        spool.flush(Second(1_010)).unwrap();
    }
}

fn drops_the_oldest_beyond_its_bytes_and_counts_them(make: impl FnOnce(Limits) -> Spool) {
    let mut spool = make(Limits { bytes: 1_000, ..WIDE });
    for second in 1_000..1_020 {
        spool.append(record(second, 136)).unwrap();
        // A record costs 64 bytes beside its body: five fit.
        assert!(spool.depth().records <= 5);
        if second % 3 == 0 {
            spool.flush(Second(second)).unwrap();
        }
    }
    assert_eq!(seconds(&mut spool), [1_015, 1_016, 1_017, 1_018, 1_019]);
    assert_eq!(spool.dropped(), (15, 45));
    let flushed = spool.flush(Second(1_020)).unwrap();
    assert_eq!((flushed.dropped_records, flushed.dropped_slots), (2, 6), "since the last flush");
    assert_eq!(spool.flush(Second(1_021)).unwrap().dropped_records, 0, "each is told once");

    let mut empty = record(1_021, 0);
    empty.body = Bytes::new();
    (0..100).for_each(|_| assert!(spool.append(empty.clone()).is_ok()));
    assert_eq!(spool.depth().records, 15, "records without a body are bounded too");
}

fn drops_what_is_too_old_at_a_flush(make: impl FnOnce(Limits) -> Spool) {
    let mut spool = make(Limits { age_seconds: 60, ..WIDE });
    for second in [1_000, 1_001, 1_050] {
        spool.append(record(second, 10)).unwrap();
    }
    for (now, left) in [(1_060, 3), (1_061, 2), (1_000, 2), (1_062, 1), (1_110, 1), (1_111, 0), (9_999, 0)] {
        spool.flush(Second(now)).unwrap();
        assert_eq!(spool.depth().records, left, "at {now}");
    }
    assert_eq!(spool.dropped(), (3, 9));
}

fn lets_go_of_what_was_acknowledged(make: impl FnOnce(Limits) -> Spool) {
    let mut spool = make(WIDE);
    let mut ids: Vec<_> = (1_000..1_004).map(|second| spool.append(record(second, 10)).unwrap()).collect();
    spool.flush(Second(1_004)).unwrap();
    ids.extend((1_004..1_008).map(|second| spool.append(record(second, 10)).unwrap()));
    spool.acknowledge(&[ids[1], ids[5], ids[5]]);
    spool.acknowledge(&[ids[1]]);
    for _ in 0..2 {
        assert_eq!(seconds(&mut spool), [1_000, 1_002, 1_003, 1_004, 1_006, 1_007]);
        spool.flush(Second(1_008)).unwrap();
    }
    spool.acknowledge(&ids);
    assert_eq!((spool.depth(), spool.dropped()), (Depth::default(), (0, 0)));
    assert!(spool.append(record(1_009, 10)).unwrap() > ids[7], "no id comes again");
}

fn keeps_named_values_within_bounds(make: impl FnOnce(Limits) -> Spool) {
    let mut spool = make(WIDE);
    let value = |number: usize| Bytes::from(format!("value {number}"));
    for number in 0..STATE_VALUES_MAX {
        spool.put(&format!("key {number}"), value(number)).unwrap();
    }
    let refused = spool.put("one more", value(0)).unwrap_err();
    assert!(matches!(refused, SpoolError::StateFull { .. }), "{refused}");
    spool.put("key 7", value(99)).unwrap();
    spool.remove("key 8");
    spool.remove("never there");
    spool.put("one more", value(100)).unwrap();
    for _ in 0..2 {
        assert_eq!(spool.get("key 7"), Some(value(99)));
        assert_eq!(spool.get("key 8"), None);
        assert_eq!(spool.get("one more"), Some(value(100)));
        assert_eq!(spool.keys().count(), STATE_VALUES_MAX);
        spool.flush(Second(1_000)).unwrap();
    }
    spool.remove("key 9");
    let table = [("k".repeat(STATE_KEY_BYTES_MAX + 1), 1), ("large".to_owned(), STATE_BYTES_MAX + 1)];
    for (key, bytes) in table {
        let refused = spool.put(&key, Bytes::from(vec![0; bytes])).unwrap_err();
        assert!(matches!(refused, SpoolError::TooLarge { .. }), "{refused}");
    }
    spool.put(&"k".repeat(STATE_KEY_BYTES_MAX), Bytes::from(vec![7; STATE_BYTES_MAX])).unwrap();
    spool.flush(Second(1_001)).unwrap();
    assert_eq!(spool.get(&"k".repeat(STATE_KEY_BYTES_MAX)).unwrap().len(), STATE_BYTES_MAX);
}

fn refuses_a_record_that_is_too_large(make: impl FnOnce(Limits) -> Spool) {
    let mut spool = make(WIDE);
    spool.append(record(1_000, RECORD_BYTES_MAX)).unwrap();
    let refused = spool.append(record(1_001, RECORD_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a report has 8388609 bytes, and the spool takes at most 8388608",
        "and nothing else was dropped for it"
    );
    assert_eq!(seconds(&mut spool), [1_000]);
}

fn knows_its_depth_and_its_rosters(make: impl FnOnce(Limits) -> Spool) {
    let mut spool = make(WIDE);
    assert_eq!(spool.depth(), Depth::default());
    let records: [Record; 3] = [1_000, 1_001, 1_010].map(|second| record(second, 10));
    let ids = records.clone().map(|record| spool.append(record).unwrap());
    for _ in 0..2 {
        let expected = Depth { records: 3, bytes: 30, slots: 9, oldest: Some(Second(1_000)) };
        assert_eq!(spool.depth(), expected);
        assert_eq!(spool.rosters_in_use(), [100, 101].into());
        spool.flush(Second(1_010)).unwrap();
    }
    spool.acknowledge(&ids[..2]);
    assert_eq!(spool.depth(), Depth { records: 1, bytes: 10, slots: 3, oldest: Some(Second(1_010)) });
    assert_eq!(spool.rosters_in_use(), [101].into());
    assert_eq!(all(&mut spool), [(ids[2], records[2].clone())]);
}
