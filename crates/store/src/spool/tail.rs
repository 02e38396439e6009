//! The tail: what came since the last flush, in a file that is only ever appended to.
//!
//! A frame is in the page cache when `append` returns, and so outlives the process; the flush that follows within a
//! second makes durable what is still needed by then, in the database, and starts the tail anew. Each start has a
//! number, and the database knows up to which number it has taken everything in: so a crash between the two, or a
//! power cut that brings back an older tail, adds nothing twice.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use aviary_core::Second;
use bytes::{Buf as _, BufMut as _, Bytes};

use super::{Record, SpoolError};
use crate::file::private;

/// What a file begins with; the byte after it is the format's version.
const MAGIC: &[u8; 7] = b"aviary\0";
const VERSION: u8 = 1;

/// Magic, version, the start's number, checksum.
const HEADER_BYTES: usize = 20;
/// Length and checksum of a frame's payload.
const PREFIX_BYTES: usize = 8;

/// A tail this long is flushed without being asked to.
pub(super) const TAIL_BYTES_MAX: u64 = 64 << 20;

const RECORD: u8 = 1;
const PUT: u8 = 2;
const REMOVE: u8 = 3;

/// One statement of the tail.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    Record(u64, Record),
    Put(String, Bytes),
    Remove(String),
}

/// The open file.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: File,
    /// The number of this start of the tail.
    pub(super) generation: u64,
    length: u64,
    /// A frame may be torn at its end: whatever came after it would not be read again.
    is_torn: bool,
}

/// What a tail held when it was opened.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Held {
    pub(super) frames: Vec<Frame>,
    /// Bytes at the end that are no whole frame.
    pub(super) torn_bytes: u64,
}

impl Tail {
    /// Opens the tail and reads it. Frames of a start up to `taken_in` are in the database already.
    pub(super) fn open(path: PathBuf, taken_in: u64) -> Result<(Self, Held), SpoolError> {
        let file = private().append(true).open(&path).map_err(SpoolError::io("open", &path))?;
        let mut bytes = Vec::new();
        // One flush's worth past the bound, since the bound is looked at after each frame.
        let bytes_max = 2 * TAIL_BYTES_MAX;
        (&file).take(bytes_max).read_to_end(&mut bytes).map_err(SpoolError::io("read", &path))?;
        let mut tail = Self { path, file, generation: taken_in, length: 0, is_torn: true };
        let Some(generation) = header(&tail.path, &bytes)? else {
            tail.restart()?;
            return Ok((tail, Held { frames: Vec::new(), torn_bytes: bytes.len() as u64 }));
        };
        if generation <= taken_in {
            tail.restart()?;
            return Ok((tail, Held::default()));
        }
        let total = bytes.len() as u64;
        let mut rest = Bytes::from(bytes).split_off(HEADER_BYTES);
        let mut frames = Vec::new();
        while let Some(frame) = decode(&mut rest, generation) {
            frames.push(frame);
        }
        let torn_bytes = rest.len() as u64;
        tail.generation = generation;
        tail.length = total - torn_bytes;
        tail.file.set_len(tail.length).map_err(SpoolError::io("shorten", &tail.path))?;
        tail.is_torn = false;
        Ok((tail, Held { frames, torn_bytes }))
    }

    /// Looks whether a later version of this program wrote the tail at `path`, and changes nothing. What cannot be read is
    /// told when it is opened.
    pub(super) fn look(path: &Path) -> Result<(), SpoolError> {
        let Ok(file) = File::open(path) else { return Ok(()) };
        let mut bytes = Vec::new();
        match file.take(HEADER_BYTES as u64).read_to_end(&mut bytes) {
            Ok(_) => header(path, &bytes).map(|_| ()),
            Err(_) => Ok(()),
        }
    }

    /// Writes a frame, so that it outlives this process; not this machine.
    pub(super) fn append(&mut self, frame: &Frame) -> Result<(), SpoolError> {
        let bytes = encode(frame, self.generation);
        let written = if self.is_torn {
            Err(io::Error::other("an earlier write to it failed"))
        } else {
            self.file.write_all(&bytes)
        };
        if let Err(error) = written {
            self.is_torn = true;
            return Err(SpoolError::io("write", &self.path)(error));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Empties the tail: what it held is in the database, or needed no more.
    pub(super) fn restart(&mut self) -> Result<(), SpoolError> {
        self.generation += 1;
        self.is_torn = true;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.put_slice(MAGIC);
        header.put_u8(VERSION);
        header.put_u64_le(self.generation);
        header.put_u32_le(crc32fast::hash(&header));
        // Killed between the two, an empty file is left, which is a tail without frames.
        let begun = self.file.set_len(0).and_then(|()| self.file.write_all(&header));
        begun.map_err(SpoolError::io("begin anew", &self.path))?;
        self.length = HEADER_BYTES as u64;
        self.is_torn = false;
        Ok(())
    }

    /// Whether frames were written since the last start.
    pub(super) const fn has_frames(&self) -> bool {
        self.length > HEADER_BYTES as u64 || self.is_torn
    }

    /// Its length in bytes.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }
}

/// The number of the start that wrote `bytes` at `path`, unless they have no whole header.
fn header(path: &Path, bytes: &[u8]) -> Result<Option<u64>, SpoolError> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let (said, mut checksum) = header.split_at(HEADER_BYTES - 4);
    if !said.starts_with(MAGIC) || crc32fast::hash(said) != checksum.get_u32_le() {
        return Ok(None);
    }
    let found = said[MAGIC.len()];
    if found > VERSION {
        return Err(SpoolError::Newer { path: path.to_owned(), found: found.into(), known: VERSION.into() });
    }
    Ok(Some((&said[MAGIC.len() + 1..]).get_u64_le()))
}

fn encode(frame: &Frame, generation: u64) -> Vec<u8> {
    let size = match frame {
        Frame::Record(_, record) => record.body.len() + 40,
        Frame::Put(key, value) => key.len() + value.len() + 8,
        Frame::Remove(key) => key.len() + 8,
    };
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + size);
    bytes.put_bytes(0, PREFIX_BYTES);
    match frame {
        Frame::Record(id, record) => {
            bytes.put_u8(RECORD);
            for number in [*id, record.roster, record.slots, record.second.0] {
                bytes.put_u64_le(number);
            }
            bytes.put_slice(&record.body);
        }
        Frame::Put(key, value) => {
            bytes.put_u8(PUT);
            // The spool takes no longer keys.
            bytes.put_u8(key.len() as u8);
            bytes.put_slice(key.as_bytes());
            bytes.put_slice(value);
        }
        Frame::Remove(key) => {
            bytes.put_u8(REMOVE);
            bytes.put_slice(key.as_bytes());
        }
    }
    let length = (bytes.len() - PREFIX_BYTES) as u32;
    let checksum = checksum(generation, length, &bytes[PREFIX_BYTES..]);
    (&mut bytes[..4]).put_u32_le(length);
    (&mut bytes[4..PREFIX_BYTES]).put_u32_le(checksum);
    bytes
}

/// Takes the next frame off `bytes`, or nothing where there is no whole one.
fn decode(bytes: &mut Bytes, generation: u64) -> Option<Frame> {
    let mut rest = bytes.clone();
    let length = rest.try_get_u32_le().ok()?;
    let claimed = rest.try_get_u32_le().ok()?;
    if length as usize > rest.len() {
        return None;
    }
    let mut payload = rest.split_to(length as usize);
    if checksum(generation, length, &payload) != claimed {
        return None;
    }
    let frame = match payload.try_get_u8().ok()? {
        RECORD => {
            let mut number = || payload.try_get_u64_le().ok();
            let (id, roster, slots, second) = (number()?, number()?, number()?, Second(number()?));
            Frame::Record(id, Record { roster, slots, second, body: own(&payload) })
        }
        PUT => {
            let length = usize::from(payload.try_get_u8().ok()?);
            if length > payload.len() {
                return None;
            }
            let key = payload.split_to(length);
            Frame::Put(text(&key)?, own(&payload))
        }
        REMOVE => Frame::Remove(text(&payload)?),
        _ => return None,
    };
    *bytes = rest;
    Some(frame)
}

/// A copy, so that one small frame that waits does not hold the whole file in memory.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// The start's number goes in, so that a power cut that leaves pages of an earlier start in the file makes no frames.
fn checksum(generation: u64, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn frames() -> Vec<Frame> {
        let record = |second, body: &'static [u8]| Record {
            roster: 7,
            slots: 3,
            second: Second(second),
            body: Bytes::from_static(body),
        };
        vec![
            Frame::Record(1, record(10, b"first")),
            Frame::Put("roster 7".to_owned(), Bytes::from_static(b"who the series are")),
            Frame::Record(2, record(11, b"")),
            Frame::Remove("roster 6".to_owned()),
            Frame::Record(3, record(12, b"last")),
        ]
    }

    /// A tail of `frames`, and where each of them ends in the file.
    fn written(path: &Path) -> (Vec<u8>, Vec<usize>) {
        let (mut tail, held) = Tail::open(path.to_owned(), 4).unwrap();
        assert_eq!(held, Held::default());
        let append = |frame| {
            tail.append(&frame).unwrap();
            tail.length() as usize
        };
        let ends = frames().into_iter().map(append).collect();
        (fs::read(path).unwrap(), ends)
    }

    #[test]
    fn a_tail_torn_at_any_byte_gives_every_whole_frame_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tail");
        let (bytes, ends) = written(&path);
        for length in 0..=bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let (mut tail, held) = Tail::open(path.clone(), 4).unwrap();
            let whole = ends.iter().filter(|&&end| end <= length).count();
            assert_eq!(held.frames, frames()[..whole], "cut at {length}");
            let kept = ends[..whole].last().copied().unwrap_or(HEADER_BYTES);
            let torn = if length < HEADER_BYTES { length } else { length - kept };
            assert_eq!(held.torn_bytes, torn as u64, "cut at {length}");

            tail.append(&frames()[4]).unwrap();
            drop(tail);
            let (_, held) = Tail::open(path.clone(), 4).unwrap();
            assert_eq!((held.frames.len(), held.torn_bytes), (whole + 1, 0), "cut at {length}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_makes_no_frame_that_was_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tail");
        let (bytes, ends) = written(&path);
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            let (_, held) = Tail::open(path.clone(), 4).unwrap();
            let whole =
                if place < HEADER_BYTES { 0 } else { ends.iter().filter(|&&end| end <= place).count() };
            assert_eq!(held.frames, frames()[..whole], "flipped at {place}");
            assert!(held.torn_bytes > 0);
        }
    }

    #[test]
    fn what_the_database_took_in_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tail");
        let (bytes, _) = written(&path);
        for (taken_in, expected) in [(4, 5), (5, 0), (9, 0)] {
            fs::write(&path, &bytes).unwrap();
            let (tail, held) = Tail::open(path.clone(), taken_in).unwrap();
            assert_eq!((held.frames.len(), held.torn_bytes), (expected, 0), "taken in: {taken_in}");
            assert!(tail.generation > taken_in);
        }
    }

    #[test]
    fn frames_of_an_earlier_start_that_a_power_cut_left_are_no_frames() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tail");
        let (old, ends) = written(&path);
        let (mut tail, _) = Tail::open(path.clone(), 4).unwrap();
        tail.restart().unwrap();
        tail.append(&frames()[0]).unwrap();
        drop(tail);
        let mut mixed = fs::read(&path).unwrap();
        assert_eq!(mixed.len(), ends[0]);
        mixed.extend_from_slice(&old[ends[0]..]);
        fs::write(&path, mixed).unwrap();
        let (_, held) = Tail::open(path, 4).unwrap();
        assert_eq!(held.frames, frames()[..1]);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tail");
        let (mut bytes, _) = written(&path);
        bytes[MAGIC.len()] = VERSION + 1;
        let checksum = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
        (&mut bytes[HEADER_BYTES - 4..HEADER_BYTES]).put_u32_le(checksum);
        fs::write(&path, &bytes).unwrap();
        let refused = Tail::open(path.clone(), 0).unwrap_err();
        assert!(matches!(refused, SpoolError::Newer { found: 2, known: 1, .. }), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "and left as it was");
    }
}
