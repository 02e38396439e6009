use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::Duration,
};

use super::*;
use crate::troubled::{Trouble, Troubled};

/// It fails as it is told to.
#[derive(Default)]
struct Moody {
    /// 0 well, 1 full, 2 unsound.
    mood: AtomicU8,
    commits: AtomicU8,
}

impl Trouble for Moody {
    fn commit(&self) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let (path, reason) = ("a disk".to_owned(), "it says so".to_owned());
        match self.mood.load(Ordering::SeqCst) {
            0 => Ok(()),
            1 => Err(StoreError::Full { path, reason }),
            _ => Err(StoreError::Unsound { path, reason }),
        }
    }
}

fn numbers(store: &Troubled<Moody>) -> Vec<u64> {
    let mut found = Vec::new();
    store
        .range(Table::Journal, &[], &[u8::MAX; 9], &mut |key, _| {
            found.extend(number(key));
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn report() -> Bytes {
    entry(Timestamp(5), "eu", b"report")
}

/// Runs a journal beside `test`, and returns what it told.
fn with_journal(store: &Troubled<Moody>, next: u64, test: impl FnOnce(&Journal)) -> Vec<Told> {
    let journal = Journal::new(next, 0);
    let told = Mutex::new(Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| journal.run(store, |it| told.lock().unwrap().push(it)));
        test(&journal);
        journal.stop();
    });
    told.into_inner().unwrap()
}

#[test]
fn what_waits_together_is_committed_together_and_in_order() {
    let store = Troubled::<Moody>::default();
    let journal = Journal::new(7, 0);
    let waiting: Vec<_> = (0..50).map(|_| journal.append(report())).collect();
    journal.stop();
    journal.run(&store, |told| panic!("{told:?}"));
    assert!(waiting.into_iter().all(|kept| matches!(kept.blocking_recv(), Ok(Ok(())))));
    assert_eq!(numbers(&store), (7..57).collect::<Vec<_>>());
    assert_eq!(store.trouble.commits.load(Ordering::SeqCst), 1);
    assert_eq!(journal.since_checkpoint(), 50 * report().len() as u64);
    let bytes = journal.since_checkpoint();
    let figures = JournalFigures {
        frames: 50,
        batches: 1,
        bytes,
        since_checkpoint: bytes,
        ..JournalFigures::default()
    };
    assert_eq!(journal.figures(), JournalFigures { waiting_peak: 50, ..figures });
    assert_eq!(read(&report()), Ok(Kept { arrived: Timestamp(5), token: "eu", report: b"report" }));
    assert_eq!(read(&[9; 20]), Err(9));
}

#[test]
fn what_a_full_disk_did_not_take_is_refused_until_a_checkpoint_is_kept() {
    let store = Troubled::<Moody>::default();
    let told = with_journal(&store, 0, |journal| {
        assert!(matches!(journal.append(report()).blocking_recv(), Ok(Ok(()))));
        store.trouble.mood.store(1, Ordering::SeqCst);
        for _ in 0..3 {
            let refused = journal.append(report()).blocking_recv();
            assert!(matches!(refused, Ok(Err(NotKept::Later(_)))), "{refused:?}");
        }
        assert!(journal.is_behind());
        let figures = journal.figures();
        assert_eq!((figures.frames, figures.no_room, figures.ended), (1, 3, 0));
        // There is no room for a checkpoint either, and what came meanwhile is told so.
        journal.begin_checkpoint();
        let waiting = journal.append(report());
        let full = StoreError::Full { path: String::new(), reason: String::new() };
        let (has_recovered, told) = journal.end_checkpoint(Err(full));
        assert!(!has_recovered && told.is_none());
        assert!(matches!(waiting.blocking_recv(), Ok(Err(NotKept::Later(_)))));

        store.trouble.mood.store(0, Ordering::SeqCst);
        assert_eq!(
            store.trouble.commits.load(Ordering::SeqCst),
            2,
            "nothing is tried that would leave a hole"
        );
        let covers = journal.begin_checkpoint();
        let mut waiting = journal.append(report());
        thread::sleep(Duration::from_millis(50));
        assert!(waiting.try_recv().is_err(), "it waits for the checkpoint");
        assert!(journal.end_checkpoint(Ok(())).0);
        assert!(matches!(waiting.blocking_recv(), Ok(Ok(()))));
        assert_eq!(numbers(&store), [0, covers]);
    });
    assert!(matches!(told.as_slice(), [Told::Behind(_)]), "{told:?}");
}

#[test]
fn after_a_disk_that_confirmed_nothing_nothing_more_is_tried() {
    let store = Troubled::<Moody>::default();
    let told = with_journal(&store, 0, |journal| {
        store.trouble.mood.store(2, Ordering::SeqCst);
        let refused = journal.append(report()).blocking_recv();
        assert!(matches!(refused, Ok(Err(NotKept::Never(_)))), "{refused:?}");
        store.trouble.mood.store(0, Ordering::SeqCst);
        assert!(matches!(journal.append(report()).blocking_recv(), Ok(Err(NotKept::Never(_)))));
        assert_eq!(store.trouble.commits.load(Ordering::SeqCst), 1);
        assert_eq!(journal.figures().ended, 2);
    });
    assert!(matches!(told.as_slice(), [Told::Ended(_)]), "{told:?}");
}

#[test]
fn a_checkpoint_that_finds_no_room_is_no_reason_to_refuse_reports() {
    let store = Troubled::<Moody>::default();
    with_journal(&store, 0, |journal| {
        journal.begin_checkpoint();
        let full = StoreError::Full { path: String::new(), reason: String::new() };
        journal.end_checkpoint(Err(full));
        assert!(!journal.is_behind());
        assert!(matches!(journal.append(report()).blocking_recv(), Ok(Ok(()))));
    });
}
