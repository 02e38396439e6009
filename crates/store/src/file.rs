//! What the spool's files and the store's have in common, with redb in them or without.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use redb::{StorageBackend as _, backends::FileBackend};
use rustix::{
    fs::{Advice, FallocateFlags, fadvise, fallocate},
    io::Errno,
};

/// What is said when redb panicked, which it says itself that an altered file may make it do.
pub(crate) const UNFORESEEN: &str = "reading it failed in a way that redb did not foresee";

/// How to open a file for reading and writing that is made if need be, and that nobody else may read.
pub(crate) fn private() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// Has the system forget what it holds of a file in memory: a write that failed leaves pages there that the disk does
/// not have.
pub(crate) fn look_at_the_disk(file: &File) {
    // Where the file system has no such thing, there is no disk either.
    let _no_disk = fadvise(file, 0, None, Advice::DontNeed).is_err();
}

/// Makes redb's `file`, which `handle` has open too, longer, and takes the space at once: so what a full disk refuses
/// is growth, and never a page inside the file. Without that redb could not even delete on a full disk, since it never
/// writes over a page that is in use.
pub(crate) fn grow(file: &FileBackend, handle: &File, old: u64, len: u64) -> io::Result<()> {
    match fallocate(handle, FallocateFlags::empty(), old, len - old) {
        Ok(()) => Ok(()),
        // A file system that cannot do it.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.set_len(len),
        Err(error) => {
            // Some keep what they had taken until there was no more; that it is given back changes no error.
            _ = file.set_len(old);
            Err(error.into())
        }
    }
}

/// Whether the file itself is at fault, and not the disk or the system.
pub(crate) fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        redb::Error::Corrupted(_)
        | redb::Error::RepairAborted
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableDoesNotExist(_) => true,
        _ => false,
    }
}
