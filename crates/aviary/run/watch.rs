//! Noticing that the configuration, or a file that it refers to, has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval},
};

/// How often files are looked at. A change is told when two looks in turn saw the same: whoever writes may not be done,
/// and a certificate and its key are two files.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells one state of a file from another. Files that are replaced by a link to others, as Kubernetes does, are
/// other files.
type Trace = Option<(u64, u64, u64, i64, i64)>;

/// How files were at a moment.
pub(super) type Traces = BTreeMap<PathBuf, Trace>;

/// Looks at files from time to time.
pub(super) struct Watch {
    files: BTreeSet<PathBuf>,
    /// As they were when the configuration was read.
    known: Traces,
    /// As the last look saw them.
    before: Option<Traces>,
    looks: Interval,
    /// A look that is under way: it is not begun anew when whoever waits for it turns to something else.
    looking: Option<JoinHandle<Traces>>,
}

impl Watch {
    /// Watches `files`, which have just been read.
    pub(super) fn new(files: &BTreeSet<PathBuf>) -> Self {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset();
        Self { files: files.clone(), known: traces(files), before: None, looks, looking: None }
    }

    /// How the files are now: to be asked before they are read, so that what changes meanwhile is noticed.
    pub(super) fn look(&self) -> Traces {
        traces(&self.files)
    }

    /// Watches `files` from now on, which were read when they were as `seen`.
    pub(super) fn follow(&mut self, files: &BTreeSet<PathBuf>, mut seen: Traces) {
        self.files.clone_from(files);
        self.known = files
            .iter()
            .map(|path| (path.clone(), seen.remove(path).unwrap_or_else(|| trace(path))))
            .collect();
        (self.before, self.looking) = (None, None);
    }

    /// The files are as `seen`, and were read in vain: they are told again when they change again.
    pub(super) fn dismiss(&mut self, seen: Traces) {
        self.known = seen;
        (self.before, self.looking) = (None, None);
    }

    /// Waits until one of the files has changed, and is whole again. Given up and asked again, it goes on where it was.
    pub(super) async fn changed(&mut self) {
        loop {
            if self.looking.is_none() {
                self.looks.tick().await;
                let files = self.files.clone();
                // A file system that hangs holds up nothing but this.
                self.looking = Some(tokio::task::spawn_blocking(move || traces(&files)));
            }
            let Some(looking) = &mut self.looking else { continue };
            let seen = looking.await;
            self.looking = None;
            let Ok(seen) = seen else { continue };
            if seen != self.known && self.before.as_ref() == Some(&seen) {
                self.known = seen;
                return;
            }
            self.before = Some(seen);
        }
    }
}

fn traces(files: &BTreeSet<PathBuf>) -> Traces {
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

    #[tokio::test(start_paused = true)]
    async fn who_turns_to_something_else_each_second_is_told_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        fs::write(&path, "one").unwrap();
        let mut watch = Watch::new(&[path.clone()].into());
        fs::write(&path, "other").unwrap();
        let mut told = 0;
        for _ in 0..20 {
            told += usize::from(tokio::time::timeout(Duration::from_secs(1), watch.changed()).await.is_ok());
        }
        assert_eq!(told, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_it_is_read_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let (path, token) = (directory.path().join("agent.toml"), directory.path().join("token"));
        fs::write(&path, "one").unwrap();
        let mut watch = Watch::new(&[path.clone()].into());
        let seen = watch.look();
        fs::write(&path, "other").unwrap();
        watch.follow(&[path.clone(), token].into(), seen);
        watch.changed().await;
        let seen = watch.look();
        watch.dismiss(seen);
        let nothing = tokio::time::timeout(Duration::from_secs(60), watch.changed()).await;
        assert!(nothing.is_err(), "what was read in vain is not read again until it changes");
    }
}
