//! What can go wrong with a spool, in words for whoever has to put it right.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why a spool cannot be opened, or why its disk is not used at the moment.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process holds the spool.
    #[error(
        "the spool in {} is in use by process {owner}: stop that process, or give this agent a `data` directory of its own",
        directory.display()
    )]
    InUse {
        /// The spool's directory.
        directory: PathBuf,
        /// The other process's id, as far as it could be read.
        owner: String,
    },
    /// A later version of this program wrote the file.
    #[error(
        "{} has format {found}, and this version of aviary knows formats up to {known}: run the version that wrote it, \
         or move the directory away together with the reports that wait in it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this version knows.
        known: u64,
    },
    /// The system refused something.
    #[error("cannot {action} {}: {source}; {}", path.display(), remedy(source.kind()))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The database refused something.
    #[error("cannot {action} {}: {reason}; look for errors of the disk in the kernel's log", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// More than the spool takes in one piece.
    #[error("{what} has {bytes} bytes, and the spool takes at most {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The largest that is taken.
        limit: u64,
    },
    /// More named values than the spool keeps.
    #[error("the spool keeps {limit} named values and has no room for `{key}`: remove one first")]
    StateFull {
        /// The value that found no room.
        key: String,
        /// How many there may be.
        limit: usize,
    },
}

impl SpoolError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    pub(super) fn database<E: Into<redb::Error>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |error| match error.into() {
            redb::Error::Io(source) => Self::io(action, path)(source),
            other => Self::Database { action, path: path.to_owned(), reason: other.to_string() },
        }
    }

    /// Whether it is a state of the disk, which may pass, rather than something that a person set up wrongly.
    pub(super) fn may_pass(&self) -> bool {
        use io::ErrorKind::{AlreadyExists, NotADirectory, NotFound, PermissionDenied};
        match self {
            Self::Io { source, .. } => {
                !matches!(source.kind(), AlreadyExists | NotADirectory | NotFound | PermissionDenied)
            }
            Self::Database { .. } => true,
            Self::InUse { .. } | Self::Newer { .. } | Self::TooLarge { .. } | Self::StateFull { .. } => false,
        }
    }
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind::{
        AlreadyExists, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    match kind {
        StorageFull | QuotaExceeded => "make room there",
        ReadOnlyFilesystem => "mount it for writing",
        PermissionDenied => "let the user that aviary runs as write there",
        AlreadyExists | NotADirectory | NotFound => "set `data` to a directory that can be made",
        _ => "look for errors of the disk in the kernel's log",
    }
}
