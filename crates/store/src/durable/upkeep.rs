//! What a person does with a store: look it through, copy it, put a copy in its place, make its file smaller.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use redb::{Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _, ReadableTableMetadata as _};

use super::{
    CACHE_BYTES, CLOSED, Disk, FILE_NAME, FORMAT, FORMAT_KNOWN, Lock, META, backend::Backend, definition,
    disk_error, failed, make_tables, open, put_in_place, record, set, unforeseen, visit_all,
};
use crate::{
    file::{private, remove_if_there},
    store::{StoreError, Table},
};

/// A copy is written in transactions of so many bytes.
const COPY_BYTES: usize = 8 << 20;

/// How far looking a store through has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// The pages, as a share of 1.
    Pages(f64),
    /// The records: of the first number the second.
    Records(u64, u64),
}

/// What is in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub file_bytes: u64,
    /// What is in each table, in order.
    pub tables: Vec<(Table, Counted)>,
}

/// What is in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Looks at every page and every record of the store at `place`: the directory of a collector that does not run, or a
/// copy. A copy is only read, and its pages as far as records stand on them.
///
/// # Errors
/// [`StoreError::Damaged`] with the first place that is not as it was written.
pub fn verify(place: &Path, progress: impl Fn(Progress) + Clone + 'static) -> Result<Contents, StoreError> {
    let (path, _lock) = resolve(place)?;
    if place.is_dir() {
        let told = progress.clone();
        match open(&path, &Disk::default(), true, move |done| told(Progress::Pages(done))) {
            Ok(database) => drop(database),
            // The records are looked at one by one, where the file lets them be: one of them says where it is.
            Err(error @ StoreError::Damaged { .. }) => {
                return Err(walk(&path, &progress).err().unwrap_or(error));
            }
            Err(error) => return Err(error),
        }
    }
    walk(&path, &progress)
}

/// Visits the records of `tables` in the store at `place`: a directory of a collector that does not run, or a copy.
pub fn dump(
    place: &Path,
    tables: &[Table],
    mut visit: impl FnMut(Table, &[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let (path, _lock) = resolve(place)?;
    reading(&path, |transaction| {
        for &table in tables {
            let mut flow = ControlFlow::Continue(());
            visit_all(transaction, table, &path, &mut |key, value| {
                flow = visit(table, key, value);
                flow
            })?;
            if flow == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    })
}

/// Gives the room of what was removed back to the file system: returns the size of the file before and after, in bytes.
pub fn compact(directory: &Path) -> Result<(u64, u64), StoreError> {
    let (path, _lock) = resolve(directory)?;
    let before = size(&path);
    let disk = Disk::default();
    let mut database = open(&path, &disk, false, |_| {})?;
    let done = || -> Result<(), redb::Error> {
        database.compact()?;
        // What the file needs to be opened at once after a crash is written when it is closed.
        set(&database, CLOSED, 1)
    };
    let mut done = done;
    done().map_err(|error| disk_error(&path, &disk, error))?;
    drop(database);
    Ok((before, size(&path)))
}

/// Puts the copy at `backup` in the place of the store in `directory`, once every page and record of it was found whole.
/// What is there is only replaced with `force`.
pub fn restore(
    backup: &Path,
    directory: &Path,
    force: bool,
    progress: impl Fn(Progress) + Clone + 'static,
) -> Result<Contents, StoreError> {
    if !backup.is_file() {
        return Err(StoreError::missing(backup));
    }
    let _lock = Lock::take(directory)?;
    let path = directory.join(FILE_NAME);
    if path.exists() && !force {
        let reason = "it is there already, and would be lost; move it away, or say --force".to_owned();
        return Err(StoreError::Failed { path: path.display().to_string(), reason });
    }
    let new = path.with_extension("redb.new");
    remove_if_there(&new).map_err(StoreError::io("remove", &new))?;
    let copied = copy_file(backup, &new);
    let checked = copied.and_then(|()| {
        let told = progress.clone();
        drop(open(&new, &Disk::default(), true, move |done| told(Progress::Pages(done)))?);
        walk(&new, &progress)
    });
    match checked {
        Ok(contents) => {
            put_in_place(&new, &path)?;
            Ok(Contents { path, ..contents })
        }
        Err(error) => {
            // The copy that is no good is of no use; the one that it was made of says why.
            _ = fs::remove_file(&new);
            Err(blame(error, backup))
        }
    }
}

/// Copies everything that `transaction` sees of the store at `path` to a new file at `target`; returns its size.
pub(super) fn copy(transaction: &ReadTransaction, path: &Path, target: &Path) -> Result<u64, StoreError> {
    if target.exists() {
        let reason = "it is there already; name another file".to_owned();
        return Err(StoreError::Failed { path: target.display().to_string(), reason });
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = target.with_file_name(name);
    remove_if_there(&part).map_err(StoreError::io("remove", &part))?;
    let written = write_copy(transaction, path, &part).and_then(|()| put_in_place(&part, target));
    if let Err(error) = written {
        // It is of no use to anybody.
        _ = fs::remove_file(&part);
        return Err(error);
    }
    Ok(size(target))
}

fn write_copy(transaction: &ReadTransaction, path: &Path, part: &Path) -> Result<(), StoreError> {
    let disk = Disk::default();
    let file = private().open(part).map_err(StoreError::io("make", part))?;
    let begun = || -> Result<Database, redb::Error> {
        let backend = Backend::new(file, disk.clone())?;
        let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
        make_tables(&database)?;
        Ok(database)
    };
    let database = begun().map_err(|error| disk_error(part, &disk, error))?;
    for table in Table::ALL {
        let mut waiting: Vec<(Bytes, Bytes)> = Vec::new();
        let mut bytes = 0;
        let mut failure = None;
        let write = |waiting: &mut Vec<(Bytes, Bytes)>| {
            append(&database, table, waiting).map_err(|error| disk_error(part, &disk, error))
        };
        visit_all(transaction, table, path, &mut |key, value| {
            bytes += key.len() + value.len();
            waiting.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if bytes < COPY_BYTES {
                return ControlFlow::Continue(());
            }
            bytes = 0;
            match write(&mut waiting) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        write(&mut waiting)?;
    }
    set(&database, CLOSED, 1).map_err(|error| disk_error(part, &disk, error))
}

fn append(database: &Database, table: Table, waiting: &mut Vec<(Bytes, Bytes)>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut open = transaction.open_table(definition(table))?;
        for (key, value) in waiting.drain(..) {
            let mut place = open.insert_reserve(key.as_ref(), value.len() + record::SUM_BYTES)?;
            let (kept, sum) = place.as_mut().split_at_mut(value.len());
            kept.copy_from_slice(&value);
            sum.copy_from_slice(&record::sum(table, &key, &value));
        }
    }
    Ok(transaction.commit()?)
}

/// The file at `place`, with the lock of its directory where that is what is named.
fn resolve(place: &Path) -> Result<(PathBuf, Option<Lock>), StoreError> {
    let path = if place.is_dir() { place.join(FILE_NAME) } else { place.to_owned() };
    if !path.is_file() {
        return Err(StoreError::missing(&path));
    }
    let lock = if place.is_dir() { Some(Lock::take(place)?) } else { None };
    Ok((path, lock))
}

/// Looks at every record.
fn walk(path: &Path, progress: &impl Fn(Progress)) -> Result<Contents, StoreError> {
    let tables = reading(path, |transaction| {
        let mut total = 0;
        for table in Table::ALL {
            let open =
                transaction.open_table(definition(table)).map_err(|error| failed(path)(error.into()))?;
            total += open.len().map_err(|error| failed(path)(error.into()))?;
        }
        let mut done = 0;
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            let mut counted = Counted::default();
            visit_all(transaction, table, path, &mut |key: &[u8], value: &[u8]| {
                counted.records += 1;
                counted.bytes += (key.len() + value.len()) as u64;
                done += 1;
                if done % 10_000 == 0 {
                    progress(Progress::Records(done, total));
                }
                ControlFlow::Continue(())
            })?;
            tables.push((table, counted));
        }
        Ok(tables)
    })?;
    Ok(Contents { path: path.to_owned(), file_bytes: size(path), tables })
}

/// Reads the file at `path` without changing it; where it was not closed well, it is first opened as its collector would.
fn reading<T>(
    path: &Path,
    read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let disk = Disk::default();
    let read = std::panic::AssertUnwindSafe(|| {
        let file = fs::File::open(path).map_err(StoreError::io("open", path))?;
        let opened = || -> Result<ReadOnlyDatabase, redb::Error> {
            let backend = Backend::new(file, disk.clone())?;
            Ok(redb::Builder::new().set_cache_size(CACHE_BYTES).open_read_only_with_backend(backend)?)
        };
        // What is dropped is closed: each lives as long as what is read from it.
        let (read_only, writable);
        let transaction = match opened() {
            Ok(database) => {
                read_only = database;
                read_only.begin_read()
            }
            Err(redb::Error::RepairAborted) => {
                writable = open(path, &disk, false, |_| {})?;
                writable.begin_read()
            }
            Err(error) => return Err(disk_error(path, &disk, error)),
        };
        let transaction = transaction.map_err(|error| failed(path)(error.into()))?;
        let format = || -> Result<Option<u64>, redb::Error> {
            Ok(transaction.open_table(META)?.get(FORMAT)?.map(|number| number.value()))
        };
        let known = FORMAT_KNOWN;
        match format().map_err(failed(path))? {
            Some(found) if found > known => {
                Err(StoreError::Newer { path: path.display().to_string(), found, known })
            }
            _ => read(&transaction),
        }
    });
    std::panic::catch_unwind(read).unwrap_or_else(|_| Err(unforeseen(path)))
}

fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut source = fs::File::open(from).map_err(StoreError::io("open", from))?;
    let mut target = private().open(to).map_err(StoreError::io("make", to))?;
    std::io::copy(&mut source, &mut target).map_err(StoreError::io("write", to))?;
    target.sync_all().map_err(StoreError::io("sync", to))
}

/// The error with the file that a person knows.
fn blame(error: StoreError, backup: &Path) -> StoreError {
    match error {
        StoreError::Damaged { place, reason, .. } => {
            StoreError::Damaged { path: backup.display().to_string(), place, reason }
        }
        StoreError::Newer { found, known, .. } => {
            StoreError::Newer { path: backup.display().to_string(), found, known }
        }
        other => other,
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
