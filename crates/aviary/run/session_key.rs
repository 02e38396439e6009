//! What the collector signs sessions of browsers with: kept beside its data, so that a restart signs nobody out.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aviary_collector::SessionKey;

use crate::replace::replace;

/// The file in the directory of the data. Whoever reads it can be anybody to this collector.
const FILE: &str = "sessions.key";

/// Random bytes for a key.
pub(super) fn random() -> anyhow::Result<[u8; SessionKey::BYTES]> {
    let mut bytes = [0; SessionKey::BYTES];
    // So few are given whole.
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    filled.context("the system gives no random numbers")?;
    Ok(bytes)
}

/// The key of the collector with its data in `directory`; a new one where there is none yet.
pub(super) async fn kept(directory: PathBuf) -> anyhow::Result<SessionKey> {
    let path = directory.join(FILE);
    let of_thread = path.clone();
    let key = tokio::task::spawn_blocking(move || read_or_make(&of_thread, random()?)).await?;
    Ok(SessionKey::new(&key.with_context(|| format!("collector.data: {}", path.display()))?))
}

fn read_or_make(path: &Path, random: [u8; SessionKey::BYTES]) -> anyhow::Result<[u8; SessionKey::BYTES]> {
    match File::open(path) {
        Ok(mut file) => {
            let mut key = [0; SessionKey::BYTES];
            let is_whole = file.read_exact(&mut key).is_ok() && matches!(file.read(&mut [0]), Ok(0));
            anyhow::ensure!(
                is_whole,
                "it is no key to sign sessions with; remove it, and everybody signs in again"
            );
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A life that is killed while it writes leaves nothing that looks like a key.
            replace(path, &random, 0o600)?;
            Ok(random)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        assert_eq!(read_or_make(&path, [1; 32]).unwrap(), [1; 32]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(&path, [2; 32]).unwrap(), [1; 32], "the next life has the same");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        for wrong in [0, 31, 33] {
            std::fs::write(&path, vec![7; wrong]).unwrap();
            let error = read_or_make(&path, [2; 32]).unwrap_err().to_string();
            assert!(error.contains("remove it"), "{error}");
        }
    }
}
