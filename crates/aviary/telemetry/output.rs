//! Where lines end: standard error, or a file that can be begun anew while lines are written.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::LogError;

/// The file that the writing thread turns to with its next line.
#[derive(Debug, Default)]
pub(super) struct Next {
    is_there: AtomicBool,
    file: Mutex<Option<File>>,
}

impl Next {
    pub(super) fn put(&self, file: File) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        self.is_there.store(true, Ordering::Release);
    }

    fn take(&self) -> Option<File> {
        // Each line asks; only after a rotation is there a lock to take.
        let is_there = self.is_there.load(Ordering::Relaxed) && self.is_there.swap(false, Ordering::Acquire);
        if is_there { self.file.lock().unwrap_or_else(PoisonError::into_inner).take() } else { None }
    }
}

/// Where the writing thread writes.
#[derive(Debug)]
pub(super) enum Output {
    Stderr(io::Stderr),
    File { file: File, next: Arc<Next> },
}

impl Output {
    pub(super) fn file(file: File) -> (Self, Arc<Next>) {
        let next = Arc::new(Next::default());
        (Self::File { file, next: Arc::clone(&next) }, next)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr(stderr) => stderr.write(bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }

    /// Called with whole lines; only between them may the file change.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr(stderr) => stderr.write_all(line),
            Self::File { file, next } => {
                if let Some(newer) = next.take() {
                    *file = newer;
                }
                file.write_all(line)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stderr(stderr) => stderr.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}

/// Opens a log file to append to; readable by its group, as logs are, and by nobody else.
pub(super) fn open(path: &Path) -> Result<File, LogError> {
    let opened = File::options().create(true).append(true).mode(0o640).open(path);
    opened.map_err(|source| LogError::File { path: path.to_owned(), source })
}
