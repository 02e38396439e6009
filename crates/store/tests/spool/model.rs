//! Random lives of a spool, ended at any point, against a model of what must be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use aviary_core::Second;
use aviary_store::{Limits, Record, RecordId, Spool};
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{all, record};

const LIMITS: Limits = Limits { bytes: 4_000, age_seconds: 40 };

#[derive(Clone, Copy, Debug)]
enum Step {
    Append {
        bytes: usize,
    },
    /// The record at that share of what waits, and so many after it.
    Acknowledge {
        place: prop::sample::Index,
        count: usize,
    },
    Put {
        key: usize,
        value: u8,
    },
    Remove {
        key: usize,
    },
    Flush {
        seconds: u64,
    },
    /// The process ends as a process should.
    Close,
    /// The process is killed: what it had written is there, and nobody said good-bye.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..400_usize).prop_map(|bytes| Step::Append { bytes }),
        3 => (any::<prop::sample::Index>(), 1..4_usize)
            .prop_map(|(place, count)| Step::Acknowledge { place, count }),
        2 => (0..3_usize, any::<u8>()).prop_map(|(key, value)| Step::Put { key, value }),
        1 => (0..3_usize).prop_map(|key| Step::Remove { key }),
        4 => (0..15_u64).prop_map(|seconds| Step::Flush { seconds }),
        1 => Just(Step::Close),
        2 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..60)
}

struct World {
    directory: TempDir,
    spool: Option<Spool>,
    now: u64,
    /// What must be there.
    waiting: BTreeMap<RecordId, Record>,
    /// What left since the last flush: a restart may bring it back, since to say it twice is harmless.
    left: BTreeMap<RecordId, Record>,
    state: BTreeMap<String, Bytes>,
    given: BTreeSet<RecordId>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = Some(Spool::open(directory.path(), LIMITS, Second(1_000)).unwrap());
        let (waiting, left, state, given) = Default::default();
        Self { directory, spool, now: 1_000, waiting, left, state, given }
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    fn drop_beyond(&mut self, by_age: bool) {
        while let Some(oldest) = self.waiting.first_entry() {
            let is_old = by_age && oldest.get().second.0 + LIMITS.age_seconds < self.now;
            let cost: usize = self.waiting.values().map(|record| record.body.len() + 64).sum();
            if !is_old && cost as u64 <= LIMITS.bytes {
                break;
            }
            let (id, record) = self.waiting.pop_first().unwrap();
            self.left.insert(id, record);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { bytes } => {
                let record = record(self.now, bytes);
                let id = self.spool().append(record.clone()).unwrap();
                assert!(self.given.last().is_none_or(|last| *last < id), "ids rise and none comes again");
                self.given.insert(id);
                self.waiting.insert(id, record);
                self.drop_beyond(false);
            }
            Step::Acknowledge { place, count } => {
                if self.waiting.is_empty() {
                    return;
                }
                let place = place.index(self.waiting.len());
                let ids: Vec<RecordId> = self.waiting.keys().copied().skip(place).take(count).collect();
                self.spool().acknowledge(&ids);
                for id in ids {
                    let record = self.waiting.remove(&id).unwrap();
                    self.left.insert(id, record);
                }
            }
            Step::Put { key, value } => {
                let (key, value) = (format!("key {key}"), Bytes::from(vec![value; 9]));
                self.spool().put(&key, value.clone()).unwrap();
                self.state.insert(key, value);
            }
            Step::Remove { key } => {
                let key = format!("key {key}");
                self.spool().remove(&key);
                self.state.remove(&key);
            }
            Step::Flush { seconds } => {
                self.now += seconds;
                let now = Second(self.now);
                self.spool().flush(now).unwrap();
                self.drop_beyond(true);
                self.left.clear();
            }
            Step::Close => {
                self.spool = None;
                self.reopen();
            }
            Step::Kill => {
                let copy = copied(self.directory.path());
                self.spool = None;
                self.directory = copy;
                self.reopen();
            }
        }
    }

    fn reopen(&mut self) {
        let mut spool = Spool::open(self.directory.path(), LIMITS, Second(self.now)).unwrap();
        assert!(spool.is_on_disk());
        let recovered = spool.recovered().clone();
        assert_eq!((recovered.torn_bytes, recovered.damaged), (0, None));
        let found: BTreeMap<_, _> = all(&mut spool).into_iter().collect();
        assert_eq!(found.len() as u64, recovered.records);
        for (id, record) in &self.waiting {
            assert_eq!(found.get(id), Some(record), "nothing that waits is lost");
        }
        for (id, record) in &found {
            let known = self.waiting.get(id).or_else(|| self.left.get(id));
            assert_eq!(known, Some(record), "what left before a flush stays away");
        }
        self.waiting = found;
        self.left.clear();
        self.spool = Some(spool);
    }

    fn check(&mut self) {
        let expected: Vec<_> = self.waiting.iter().map(|(id, record)| (*id, record.clone())).collect();
        assert_eq!(all(self.spool()), expected);
        let state: BTreeMap<_, _> = self
            .spool
            .iter()
            .flat_map(|spool| spool.keys().map(|key| (key.to_owned(), spool.get(key).unwrap())))
            .collect();
        assert_eq!(state, self.state);
    }
}

/// The files as a killed process would leave them.
fn copied(directory: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_waits_is_there_whatever_happened(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check();
        }
        world.step(Step::Kill);
        world.check();
    }
}
