//! Who owns a store's directory.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    process,
};

use crate::{file::private, store::StoreError};

const NAME: &str = "collector.lock";

/// More than a lock file ever has.
const BYTES_MAX: u64 = 64;

/// The directory is ours for as long as this lives, also against a copy of ourselves; the kernel ends it with us.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Makes the directory if it is not there, takes its lock, and notes in the lock's file who holds it.
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(StoreError::io("make", directory))?;
        let path = directory.join(NAME);
        let mut file = private().open(&path).map_err(StoreError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Not UTF-8 is nothing that we wrote: then the lock has no owner's name, and does its work.
                let is_read = (&file).take(BYTES_MAX).read_to_string(&mut text).is_ok();
                let owner = text.split_whitespace().next().filter(|_| is_read);
                let owner = owner.unwrap_or("of unknown id").to_owned();
                return Err(StoreError::InUse { path: directory.display().to_string(), owner });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
        }
        let mut write = || {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(format!("{}\n", process::id()).as_bytes())
        };
        // The name only serves whoever is kept out; a disk without room for it is no reason not to start.
        _ = write();
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that somebody is just starting has our files open for a moment, and with them the lock. The kernel
        // would let go of it a little later; there is nothing to be done about an error.
        let _later = self.file.unlock().is_err();
    }
}
