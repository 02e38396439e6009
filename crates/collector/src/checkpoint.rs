//! The live window as it was at some place of the journal: what a start begins with, so that it has a minute to replay
//! and not a quarter of an hour.
//!
//! What is known of series and agents is copied at one moment, with the number of the first report that is not in it; the
//! slots follow block by block, so that nobody waits for the lock longer than a block takes. They may therefore hold
//! something of later reports as well. That is no matter: these are replayed, and every change of a slot is a join.

pub(crate) mod message;
pub(crate) mod pool;

use std::{
    io::{Read as _, Write as _},
    ops::ControlFlow,
};

use aviary_core::ledger::KeptSlots;
use aviary_store::{Batch, Store, StoreError, Table};
use bytes::Bytes;
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use prost::Message as _;

use crate::journal;

/// The version of what is written here.
const VERSION: u32 = 1;

/// More than any part of a full collector has, unpacked: a bomb is not.
const PART_BYTES_MAX: u64 = 256 << 20;

const HEAD: u8 = 0;
const KEPT: u8 = 1;
const BLOCK: u8 = 2;

/// Why a checkpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(String);

impl Unreadable {
    /// Something in it is not as it should be.
    pub(crate) fn of(what: &str) -> Self {
        Self(format!("{what} does not fit the rest"))
    }

    /// Something in it is refused for this reason.
    pub(crate) fn because(reason: impl ToString) -> Self {
        Self(reason.to_string())
    }

    /// The same for whoever starts the collector.
    pub(crate) fn in_store(self, store: &dyn Store) -> StoreError {
        damaged(store, "checkpoint", self.0)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// The number of the first report that is not in it.
    #[prost(uint64, tag = "2")]
    covers: u64,
    #[prost(uint64, tag = "3")]
    series: u64,
    /// The blocks of slots that belong to it.
    #[prost(uint64, repeated, tag = "4")]
    blocks: Vec<u64>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checkpoint {
    /// The number of the first report that is not in it.
    pub(crate) covers: u64,
    pub(crate) kept: message::Kept,
    /// How many series it has.
    pub(crate) series: usize,
    /// Blocks of 64 seconds by their numbers, packed.
    pub(crate) blocks: Vec<(u64, Vec<u8>)>,
}

impl Checkpoint {
    /// Puts it in the place of the one before, and removes from the journal what is in it.
    pub(crate) fn write(self, store: &dyn Store) -> Result<(), StoreError> {
        let Self { covers, kept, series, blocks } = self;
        let head = Head {
            version: VERSION,
            covers,
            series: series as u64,
            blocks: blocks.iter().map(|(number, _)| *number).collect(),
        };
        let put = |key: Vec<u8>, value: Vec<u8>| (Table::Checkpoint, Bytes::from(key), Bytes::from(value));
        let mut batch = Batch {
            remove: vec![
                (Table::Checkpoint, Bytes::new(), Bytes::from_static(&[u8::MAX])),
                (Table::Journal, Bytes::new(), journal::key(covers)),
            ],
            put: vec![put(vec![HEAD], head.encode_to_vec()), put(vec![KEPT], pack(&kept.encode_to_vec()))],
        };
        batch.put.extend(blocks.into_iter().map(|(number, slots)| put(block_key(number), slots)));
        store.commit(batch)
    }

    /// The checkpoint of `store`, if there is one.
    pub(crate) fn read(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        let mut parts = Vec::new();
        store.range(Table::Checkpoint, &[], &[u8::MAX], &mut |key, value| {
            parts.push((key.to_vec(), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        })?;
        let part = |key: &[u8]| parts.iter().find(|(known, _)| known == key).map(|(_, value)| value);
        let unreadable = |what: &str, reason: String| damaged(store, &format!("checkpoint {what}"), reason);
        let missing = |what: &str| unreadable(what, "it is missing".to_owned());
        let Some(head) = part(&[HEAD]) else {
            return if parts.is_empty() { Ok(None) } else { Err(missing("head")) };
        };
        let head = Head::decode(head.as_ref()).map_err(|error| unreadable("head", error.to_string()))?;
        if head.version > VERSION {
            let (found, known) = (u64::from(head.version), u64::from(VERSION));
            return Err(StoreError::Newer {
                path: format!("the checkpoint in {}", store.place()),
                found,
                known,
            });
        }
        let kept = part(&[KEPT]).ok_or_else(|| missing("series"))?;
        let kept = unpack(kept).map_err(|reason| unreadable("series", reason))?;
        let kept = message::Kept::decode(kept.as_slice())
            .map_err(|error| unreadable("series", error.to_string()))?;
        let mut blocks = Vec::with_capacity(head.blocks.len());
        for number in head.blocks {
            let what = format!("block {number}");
            let block = part(&block_key(number)).ok_or_else(|| missing(&what))?;
            blocks.push((number, block.to_vec()));
        }
        let series = usize::try_from(head.series).map_err(|error| unreadable("head", error.to_string()))?;
        Ok(Some(Self { covers: head.covers, kept, series, blocks }))
    }

    /// The slots of its blocks, unpacked.
    pub(crate) fn take_slots(&mut self) -> Result<Vec<(u64, Vec<KeptSlots>)>, Unreadable> {
        let blocks = std::mem::take(&mut self.blocks);
        let slots = |(number, packed): (u64, Vec<u8>)| Ok((number, unpack_slots(&packed, self.series)?));
        blocks.into_iter().map(slots).collect()
    }
}

fn damaged(store: &dyn Store, place: &str, reason: String) -> StoreError {
    StoreError::Damaged { path: store.place(), place: place.to_owned(), reason }
}

fn block_key(number: u64) -> Vec<u8> {
    [&[BLOCK], number.to_be_bytes().as_slice()].concat()
}

/// The slots of one block: neighbours that are alike stand once, with how many they are.
pub(crate) fn pack_slots(slots: &[KeptSlots]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in slots.chunk_by(PartialEq::eq) {
        bytes.extend_from_slice(&(run.len() as u32).to_le_bytes());
        run.iter().take(1).flatten().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    }
    pack(&bytes)
}

fn unpack_slots(packed: &[u8], series: usize) -> Result<Vec<KeptSlots>, Unreadable> {
    const WORD: usize = size_of::<u64>();
    let bytes = unpack(packed).map_err(Unreadable)?;
    let mut slots = Vec::with_capacity(series);
    let mut rest = bytes.as_slice();
    while let Some((count, tail)) = rest.split_first_chunk::<4>() {
        let count = u32::from_le_bytes(*count) as usize;
        let Some((words, tail)) = tail.split_first_chunk::<{ 4 * WORD }>() else { break };
        if count > series - slots.len() {
            break;
        }
        let word = |index: usize| {
            words
                .iter()
                .skip(index * WORD)
                .take(WORD)
                .rev()
                .fold(0, |word, byte| word << 8 | u64::from(*byte))
        };
        slots.resize(slots.len() + count, [0, 1, 2, 3].map(word));
        rest = tail;
    }
    if slots.len() == series && rest.is_empty() { Ok(slots) } else { Err(Unreadable::of("a block of slots")) }
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a vector takes whatever is written")
}

/// What was packed, which its checksum confirms.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = ZlibDecoder::new(packed).take(PART_BYTES_MAX).read_to_end(&mut bytes);
    match read {
        Ok(_) if bytes.len() as u64 == PART_BYTES_MAX => Err("it is too large".to_owned()),
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use aviary_store::MemoryStore;
    use proptest::prelude::*;

    use super::*;

    fn checkpoint(covers: u64) -> Checkpoint {
        let kept = message::Kept { started: 7, texts: vec!["a".to_owned()], ..message::Kept::default() };
        let blocks = vec![(3, pack_slots(&[[1, 2, 3, 4]; 5])), (4, pack_slots(&[[0; 4]; 5]))];
        Checkpoint { covers, kept, series: 5, blocks }
    }

    #[test]
    fn a_checkpoint_takes_the_place_of_the_one_before_and_of_its_reports() {
        let store = MemoryStore::default();
        assert_eq!(Checkpoint::read(&store).unwrap(), None);
        for number in 0..9 {
            let put = vec![(Table::Journal, journal::key(number), Bytes::from_static(b"report"))];
            store.commit(Batch { put, ..Batch::default() }).unwrap();
        }
        let first = Checkpoint { blocks: vec![(1, pack_slots(&[[9; 4]; 5]))], ..checkpoint(2) };
        first.write(&store).unwrap();
        checkpoint(5).write(&store).unwrap();
        let mut read = Checkpoint::read(&store).unwrap().unwrap();
        assert_eq!(read, checkpoint(5));
        assert_eq!(read.take_slots().unwrap(), [(3, vec![[1, 2, 3, 4]; 5]), (4, vec![[0; 4]; 5])]);
        let mut left = Vec::new();
        store
            .range(Table::Journal, &[], &[u8::MAX], &mut |key, _| {
                left.push(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(left, [5, 6, 7, 8].map(journal::key));
    }

    #[test]
    fn what_is_not_as_it_was_written_is_refused_with_the_place() {
        type Spoil = fn(&mut Vec<u8>);
        let table: [(&[u8], Spoil, &str); 5] = [
            (&[HEAD], |value| value.truncate(1), "checkpoint head"),
            (&[KEPT], |value| value[9] ^= 1, "checkpoint series"),
            (&[KEPT], |value| value.truncate(9), "checkpoint series"),
            (&[HEAD], |value| value[1] = 2, "has format 2, and this version of aviary knows formats up to 1"),
            (&[HEAD], |value| value.splice(.., [8, 1, 34, 1, 99]).for_each(drop), "checkpoint block 99"),
        ];
        for (key, spoil, expected) in table {
            let store = MemoryStore::default();
            checkpoint(5).write(&store).unwrap();
            let mut value = store.get(Table::Checkpoint, key).unwrap().unwrap().to_vec();
            spoil(&mut value);
            let put = vec![(Table::Checkpoint, Bytes::copy_from_slice(key), Bytes::from(value))];
            store.commit(Batch { put, ..Batch::default() }).unwrap();
            let error = Checkpoint::read(&store).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("the memory"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn slots_are_unpacked_as_they_were_and_damage_is_told(
            runs in prop::collection::vec((any::<[u64; 4]>(), 1_usize..5), 0..20),
            (at, bit) in (any::<prop::sample::Index>(), 0_u32..8),
        ) {
            let slots: Vec<KeptSlots> = runs.iter().flat_map(|(slots, count)| vec![*slots; *count]).collect();
            let mut packed = pack_slots(&slots);
            prop_assert_eq!(&unpack_slots(&packed, slots.len()).unwrap(), &slots);
            prop_assert!(unpack_slots(&packed, slots.len() + 1).is_err());
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
            // A few bits of the format's own head mean nothing.
            if let Ok(read) = unpack_slots(&packed, slots.len()) {
                prop_assert_eq!(read, slots);
            }
        }
    }
}
