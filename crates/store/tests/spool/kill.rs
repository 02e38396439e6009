//! A process that is really killed, at any moment, again and again.

use std::{
    io::{Write as _, stdout},
    path::Path,
};

use aviary_core::Second;
use aviary_store::Spool;
use bytes::Bytes;

use crate::{
    WIDE, all, record,
    support::killed::{killed, to_be_killed},
};

/// Appends reports from `first` on, a few to a flush, acknowledges every third, and says each thing once it is done.
fn write(directory: &Path, first: u64, count: u64) {
    let mut spool = Spool::open(directory, WIDE, Second(first)).unwrap();
    assert!(spool.is_on_disk());
    let mut say = stdout().lock();
    for second in first..first.saturating_add(count) {
        spool.put("newest", Bytes::from(second.to_string())).unwrap();
        let id = spool.append(record(second, (second as usize * 37) % 9_000)).unwrap();
        writeln!(say, "\nappended {second}").unwrap();
        if second % 3 == 0 {
            writeln!(say, "\nacknowledging {second}").unwrap();
            spool.acknowledge(&[id]);
        }
        if second % 7 == 0 {
            spool.flush(Second(second)).unwrap();
        }
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
    let mut spool = Spool::open(directory.path(), WIDE, Second(10)).unwrap();
    let seconds: Vec<u64> = all(&mut spool).iter().map(|(_, record)| record.second.0).collect();
    // The ninth was acknowledged after the last flush: it comes again, which is harmless.
    assert_eq!(seconds, [1, 2, 4, 5, 7, 8, 9]);
}

#[test]
fn nothing_that_was_appended_is_lost_to_forty_kills() {
    let directory = tempfile::tempdir().unwrap();
    // Without `acknowledged`: it may have been killed between the word and the deed, or between the deed and its flush.
    let (mut appended, mut acknowledged) = (Vec::<u64>::new(), Vec::<u64>::new());
    let mut first = 1;
    for round in 0..400_u64 {
        // On a slow disk forty write too little to prove anything.
        if round >= 40 && first > 1_000 {
            break;
        }
        let said = killed("kill::a_writer_leaves_what_it_wrote", directory.path(), first, round);
        for line in said {
            match line.split_once(' ') {
                Some(("appended", second)) => appended.push(second.parse().unwrap()),
                Some(("acknowledging", second)) => acknowledged.push(second.parse().unwrap()),
                _ => {}
            }
        }

        let mut spool = Spool::open(directory.path(), WIDE, Second(first)).unwrap();
        assert!(spool.is_on_disk(), "{:?}", spool.trouble());
        assert_eq!(spool.recovered().damaged, None, "round {round}");
        let found = all(&mut spool);
        for (_, found) in &found {
            assert_eq!(*found, record(found.second.0, found.body.len()), "round {round}: whole");
        }
        let seconds: Vec<u64> = found.iter().map(|(_, record)| record.second.0).collect();
        assert!(seconds.windows(2).all(|pair| pair[0] < pair[1]), "round {round}: in order, none twice");
        for second in &appended {
            let is_there = seconds.binary_search(second).is_ok();
            assert!(is_there || acknowledged.contains(second), "round {round}: {second} is lost");
        }
        let newest =
            spool.get("newest").map(|value| String::from_utf8(value.to_vec()).unwrap().parse::<u64>());
        assert!(
            newest.map(Result::unwrap) >= appended.last().copied(),
            "round {round}: a value came before its record"
        );
        // All of it is taken, so that the rounds stay quick and what is new is told from what came back.
        let ids: Vec<_> = found.iter().map(|(id, _)| *id).collect();
        first = seconds.last().copied().unwrap_or(first).max(appended.last().copied().unwrap_or(first)) + 1;
        spool.acknowledge(&ids[..ids.len() / 2]);
        spool.flush(Second(first)).unwrap();
        let gone: Vec<u64> = seconds[..ids.len() / 2].to_vec();
        appended.retain(|second| gone.binary_search(second).is_err());
        acknowledged.clear();
        appended.retain(|second| seconds.binary_search(second).is_ok());
    }
    assert!(first > 1_000, "only {first} were written: this proves little");
}
