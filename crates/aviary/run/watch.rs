//! Noticing that the configuration, or a file that it refers to, has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

/// How often files are looked at. A change is told when two looks in turn saw the same: whoever writes may not be done,
/// and a certificate and its key are two files.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells one state of a file from another. Files that are replaced by a link to others, as Kubernetes does, are
/// other files.
type Trace = Option<(u64, u64, u64, i64, i64)>;

/// Looks at files from time to time.
pub(super) struct Watch {
    files: BTreeSet<PathBuf>,
    /// As they were when the configuration was read.
    known: BTreeMap<PathBuf, Trace>,
}

impl Watch {
    /// Watches `files`, which have just been read.
    pub(super) fn new(files: &BTreeSet<PathBuf>) -> Self {
        Self { files: files.clone(), known: traces(files) }
    }

    /// Waits until one of the files has changed, and is whole again.
    pub(super) async fn changed(&mut self) {
        let mut before = None;
        loop {
            sleep(LOOK_EVERY).await;
            let files = self.files.clone();
            // A file system that hangs holds up nothing but this.
            let Ok(seen) = tokio::task::spawn_blocking(move || traces(&files)).await else { continue };
            if seen != self.known && before.as_ref() == Some(&seen) {
                self.known = seen;
                return;
            }
            before = Some(seen);
        }
    }
}

fn traces(files: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Trace> {
    files.iter().map(|path| (path.clone(), trace(path))).collect()
}

fn trace(path: &Path) -> Trace {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        fs::write(&path, "one").unwrap();
        let mut watch = Watch::new(&[path.clone()].into());
        let nothing = tokio::time::timeout(Duration::from_secs(60), watch.changed()).await;
        assert!(nothing.is_err(), "nothing has changed");
        // As editors and Kubernetes do it.
        let mut next = tempfile::NamedTempFile::new_in(directory.path()).unwrap();
        next.write_all(b"two").unwrap();
        next.persist(&path).unwrap();
        watch.changed().await;
        fs::remove_file(&path).unwrap();
        watch.changed().await;
        let nothing = tokio::time::timeout(Duration::from_secs(60), watch.changed()).await;
        assert!(nothing.is_err(), "each change is told once");
    }
}
