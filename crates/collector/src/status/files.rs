//! The page as a directory of files, for whoever hosts it away from here, so that it outlives us.
//!
//! Each file is replaced whole: written beside, then renamed. What leads to others comes after them, the index last, and what
//! nothing leads to any more goes after that, so that at no moment a page leads to what is not there. Only our files are removed: those that this
//! process wrote, and those of an earlier life, which are known by names that only this page gives.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::rendered::Rendered;

/// Ends the name of a file that is not all there yet.
const BESIDE: &str = ".new";

/// What cannot be written, and why.
#[derive(Debug, thiserror::Error)]
#[error(
    "the status page cannot be written to {path}: {reason}; give the user of this process the right to write there, or set another \
     collector.status.directory",
    path = path.display()
)]
pub(crate) struct WriteError {
    path: PathBuf,
    reason: io::Error,
}

/// Writes one page again and again.
#[derive(Debug)]
pub(crate) struct Writer {
    directory: PathBuf,
    /// What stands there, by its path below the directory: the hash of its bytes, empty where an earlier life wrote it.
    /// None until that was looked for.
    written: Option<BTreeMap<String, String>>,
}

impl Writer {
    pub(crate) const fn new(directory: PathBuf) -> Self {
        Self { directory, written: None }
    }

    /// Brings the directory up to date. Blocks. After an error the rest is as it was, and the next call goes on.
    ///
    /// # Errors
    /// Names the first file that cannot be written.
    pub(crate) fn write(&mut self, rendered: &Rendered) -> Result<(), WriteError> {
        let written = match &mut self.written {
            Some(written) => written,
            none => none.insert(left_behind(&self.directory)?),
        };
        let mut paths: Vec<&String> = rendered.paths().collect();
        paths.sort_by_key(|path| turn(path));
        for path in paths {
            let Some(file) = rendered.get(path) else { continue };
            let target = self.directory.join(path);
            // What somebody has taken away is put there again.
            if written.get(path) == Some(&file.tag) && target.is_file() {
                continue;
            }
            replace(&target, &file.bytes).map_err(|reason| WriteError { path: target, reason })?;
            written.insert(path.clone(), file.tag.clone());
        }
        let there: BTreeSet<&String> = rendered.paths().collect();
        let gone: Vec<String> = written.keys().filter(|path| !there.contains(path)).cloned().collect();
        for path in gone {
            let target = self.directory.join(&path);
            match fs::remove_file(&target) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                    return Err(WriteError { path: target, reason });
                }
                _ => _ = written.remove(&path),
            }
        }
        Ok(())
    }
}

/// What an earlier life wrote under names that may be used no more.
fn left_behind(directory: &Path) -> Result<BTreeMap<String, String>, WriteError> {
    let mut found = BTreeMap::new();
    for folder in ["assets", "components", "incidents"] {
        let path = directory.join(folder);
        let entries = match fs::read_dir(&path) {
            // What is not there, or is no directory, holds nothing of ours.
            Err(reason)
                if matches!(reason.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                continue;
            }
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        let entries = entries.map_err(|reason| WriteError { path, reason })?;
        let names = entries.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let ours = names.filter(|name| is_ours(folder, name));
        found.extend(ours.map(|name| (format!("{folder}/{name}"), String::new())));
    }
    Ok(found)
}

/// Whether only this page gives a file such a name: by an id or a hash; or began to, when it was ended.
fn is_ours(folder: &str, name: &str) -> bool {
    let Some((stem, extension)) = name.strip_suffix(BESIDE).unwrap_or(name).rsplit_once('.') else {
        return false;
    };
    let is_hash =
        |text: &str| text.len() == 16 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    let is_id =
        |text: &str| text.len() == 26 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'A'..=b'Z'));
    match (folder, extension) {
        ("assets", "css" | "js" | "svg") => stem
            .rsplit_once('-')
            .is_some_and(|(stem, hash)| matches!(stem, "style" | "script" | "icon") && is_hash(hash)),
        ("components", "html" | "atom") => is_hash(stem),
        ("incidents", "html") => is_id(stem),
        _ => false,
    }
}

/// When a file is written: what pages load, the incidents, the components that lead to them, feeds and documents that lead to
/// both, and the pages that lead to all.
fn turn(path: &str) -> u8 {
    match path {
        "index.html" => 5,
        "history.html" => 4,
        _ if path.starts_with("assets/") => 0,
        _ if path.starts_with("incidents/") => 1,
        _ if path.starts_with("components/") => 2,
        _ => 3,
    }
}

/// Puts `bytes` in the place of what `target` holds, all at once.
fn replace(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = target.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(directory)?;
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(BESIDE);
    let beside = directory.join(name);
    let written = fs::File::create(&beside).and_then(|mut file| {
        io::Write::write_all(&mut file, bytes)?;
        // Otherwise a power cut may leave the new name without its content.
        file.sync_data()
    });
    let moved = written.and_then(|()| fs::rename(&beside, target));
    if moved.is_err() {
        // It may never have come into being; the error that matters is the first.
        _ = fs::remove_file(&beside);
    }
    moved
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn rendered(files: &[(&str, &str)]) -> Rendered {
        let mut rendered = Rendered::default();
        files.iter().for_each(|(path, text)| rendered.add(path, "text/plain", text.as_bytes().to_vec()));
        rendered
    }

    fn found(directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![directory.to_owned()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { waiting.push(path) } else { found.push(path) }
            }
        }
        let mut found: Vec<String> = found
            .iter()
            .map(|path| path.strip_prefix(directory).unwrap().to_string_lossy().into_owned())
            .collect();
        found.sort();
        found
    }

    #[test]
    fn files_are_replaced_whole_and_only_where_they_changed() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(directory.path().join("public"));
        fs::create_dir(directory.path().join("public")).unwrap();
        fs::write(directory.path().join("public/robots.txt"), "not ours").unwrap();
        writer
            .write(&rendered(&[("index.html", "1"), ("api/v2/status.json", "{}"), ("incidents/a.html", "a")]))
            .unwrap();
        let inode = |path: &str| fs::metadata(directory.path().join("public").join(path)).unwrap().ino();
        let (index, status) = (inode("index.html"), inode("api/v2/status.json"));
        // Who reads goes on reading what was there when it was opened.
        let open = fs::File::open(directory.path().join("public/index.html")).unwrap();
        writer.write(&rendered(&[("index.html", "2"), ("api/v2/status.json", "{}")])).unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "1");
        assert_ne!(inode("index.html"), index);
        assert_eq!(inode("api/v2/status.json"), status);
        assert_eq!(
            found(&directory.path().join("public")),
            ["api/v2/status.json", "index.html", "robots.txt"]
        );
        fs::remove_file(directory.path().join("public/api/v2/status.json")).unwrap();
        writer.write(&rendered(&[("index.html", "2"), ("api/v2/status.json", "{}")])).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("public/api/v2/status.json")).unwrap(), "{}");
    }

    #[test]
    fn what_cannot_be_written_is_named_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let public = directory.path().join("public");
        // No right keeps root out, but a file in the place of a directory does.
        fs::write(&public, "in the way").unwrap();
        let mut writer = Writer::new(public.clone());
        let files = rendered(&[("index.html", "1"), ("feed.atom", "2")]);
        let error = writer.write(&files).unwrap_err().to_string();
        assert!(error.contains(&*public.join("feed.atom").to_string_lossy()), "{error}");
        assert!(error.contains("collector.status.directory"), "{error}");
        fs::remove_file(&public).unwrap();
        writer.write(&files).unwrap();
        assert_eq!(found(&public), ["feed.atom", "index.html"]);
        let mode = fs::metadata(public.join("index.html")).unwrap().permissions().mode();
        assert_eq!(mode & 0o400, 0o400);
    }

    #[test]
    fn what_an_earlier_life_left_goes_and_nothing_that_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let ours = [
            "assets/style-0123456789abcdef.css",
            "components/0123456789abcdef.html",
            "components/0123456789abcdef.atom",
            "incidents/01KAJ0000000000000000000ZZ.html",
            "incidents/01KAJ0000000000000000000ZZ.html.new",
        ];
        let foreign = [
            "0123456789abcdef.html",
            "assets/0123456789abcdef.css",
            "assets/style.css",
            "components/readme.html",
            "incidents/0123456789abcdef.html",
            "incidents/post-mortem.html",
        ];
        for path in ours.into_iter().chain(foreign) {
            fs::create_dir_all(directory.path().join(path).parent().unwrap()).unwrap();
            fs::write(directory.path().join(path), "old").unwrap();
        }
        let kept = ["components/0123456789abcdef.html", "index.html"];
        let mut writer = Writer::new(directory.path().to_owned());
        writer.write(&rendered(&kept.map(|path| (path, "new")))).unwrap();
        let mut expected = [foreign.as_slice(), &kept].concat();
        expected.sort_unstable();
        assert_eq!(found(directory.path()), expected);
        assert_eq!(fs::read_to_string(directory.path().join(kept[0])).unwrap(), "new");
    }

    #[test]
    fn what_leads_to_others_comes_after_them() {
        let paths = [
            "assets/style-0.css",
            "incidents/a.html",
            "components/c.atom",
            "components/c.html",
            "api/v2/summary.json",
            "feed.atom",
            "history.html",
            "index.html",
        ];
        // A directory in the place of a file: from there on nothing is written.
        for (place, broken) in paths.into_iter().enumerate() {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir_all(directory.path().join(broken).join("in the way")).unwrap();
            let mut writer = Writer::new(directory.path().to_owned());
            writer.write(&rendered(&paths.map(|path| (path, "")))).unwrap_err();
            let mut expected = paths[..place].to_vec();
            expected.sort_unstable();
            assert_eq!(found(directory.path()), expected, "{broken}");
        }
    }

    #[test]
    fn the_index_comes_last() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("incidents"), "in the way").unwrap();
        let mut writer = Writer::new(directory.path().to_owned());
        let files = rendered(&[
            ("index.html", "leads to incidents/a.html"),
            ("incidents/a.html", "a"),
            ("assets/a.css", ""),
        ]);
        writer.write(&files).unwrap_err();
        assert_eq!(found(directory.path()), ["assets/a.css", "incidents"]);
    }
}
