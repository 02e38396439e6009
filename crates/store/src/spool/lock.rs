//! Who owns a spool's directory, and which ids this opening of it gives out.

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    process,
};

use aviary_core::Second;

use super::SpoolError;
use crate::file::private;

const NAME: &str = "spool.lock";

/// More than a lock file ever has.
const BYTES_MAX: u64 = 64;

/// The directory is ours for as long as this lives, also against a copy of ourselves; the kernel ends it with us.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// The number of this opening: greater than that of any before.
    pub(super) opening: u32,
}

impl Lock {
    /// Takes the lock, and notes in its file who holds it. The number of the opening is the second in which it happens
    /// unless the clock went back since the last: so it rises even where the file was lost.
    pub(super) fn take(directory: &Path, now: Second) -> Result<Self, SpoolError> {
        let path = directory.join(NAME);
        let mut file = private().open(&path).map_err(SpoolError::io("open", &path))?;
        let locked = file.try_lock();
        let mut text = String::new();
        // Not UTF-8 is nothing that we wrote: then the lock has no owner's name and no number, and does its work.
        let _unreadable = (&file).take(BYTES_MAX).read_to_string(&mut text).is_err();
        let mut words = text.split_whitespace();
        let owner = words.next();
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = owner.unwrap_or("of unknown id").to_owned();
                return Err(SpoolError::InUse { directory: directory.to_owned(), owner });
            }
            Err(TryLockError::Error(error)) => return Err(SpoolError::io("lock", &path)(error)),
        }
        let before = words.next().and_then(|word| word.parse::<u32>().ok());
        let opening = opening(now).max(before.map_or(0, |before| before.saturating_add(1)));
        let mut write = || {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(format!("{} {opening}\n", process::id()).as_bytes())?;
            file.sync_data()
        };
        write().map_err(SpoolError::io("write", &path))?;
        Ok(Self { file, opening })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that somebody is just starting has our files open for a moment, and with them the lock. The kernel
        // would let go of it a little later; there is nothing to be done about an error.
        let _later = self.file.unlock().is_err();
    }
}

/// The number of an opening in the second `now`, for all that the clock knows.
pub(super) fn opening(now: Second) -> u32 {
    u32::try_from(now.0).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_ends_with_its_owner_though_a_child_has_the_file_open() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path(), Second(7)).unwrap();
        // What a fork has until it executes something else.
        let _of_the_child = first.file.try_clone().unwrap();
        assert!(matches!(Lock::take(directory.path(), Second(8)), Err(SpoolError::InUse { .. })));
        drop(first);
        assert_eq!(Lock::take(directory.path(), Second(8)).unwrap().opening, 8);
    }

    #[test]
    fn the_number_of_the_opening_rises_whatever_the_clock_does() {
        let directory = tempfile::tempdir().unwrap();
        for (now, expected) in [(100, 100), (100, 101), (5, 102), (1_000, 1_000), (u64::MAX, u32::MAX)] {
            assert_eq!(Lock::take(directory.path(), Second(now)).unwrap().opening, expected);
        }
    }
}
