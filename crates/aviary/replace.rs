//! Files that are replaced as a whole: whoever reads one finds what was before or what is now, also after the power failed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Has the file at `path` hold `content`. Its mode is `mode`, less what the umask takes away; blocks until it is on the disk.
///
/// # Errors
/// It cannot be written, or the directory cannot: the error names what.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut next = path.as_os_str().to_owned();
    next.push(".new");
    let next = Path::new(&next);
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    // One that an earlier life left may have another mode.
    match fs::remove_file(next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(next)(error)),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(next)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(at(next))?;
    fs::rename(next, path).map_err(at(path))?;
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

/// Makes the directory of `path` where it is not there yet, for its owner alone, as the spool makes it.
///
/// # Errors
/// It cannot be made: the error names it.
pub(crate) fn make_directory_of(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_for_whom_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/kept.json");
        make_directory_of(&path).unwrap();
        fs::write(path.with_file_name("kept.json.new"), "of a life that was killed").unwrap();
        for content in ["one", "another"] {
            replace(&path, content.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        let error = replace(&directory.path().join("nowhere/file"), b"", 0o644).unwrap_err();
        assert!(error.to_string().contains("nowhere/file.new"), "{error}");
    }
}
