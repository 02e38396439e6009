//! The collector's store on redb: one file, one process, one transaction a batch.
//!
//! **Architecture invariants:** every commit waits for the disk, and leaves what redb needs to open the file at once
//! after a crash. A full disk changes nothing and passes; a write that the disk did not confirm ends the writing of this
//! process; an altered record is never handed out.

mod backend;
mod lock;
mod record;
mod upkeep;

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use aviary_core::Clock;
use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTableMetadata as _,
    RepairSession, TableDefinition,
};

pub use self::upkeep::{Contents, Counted, Progress, compact, dump, restore, verify};
use self::{
    backend::{Backend, Disk, Failure},
    lock::Lock,
};
use crate::{
    file::{UNFORESEEN, is_damage, look_at_the_disk, private, remove_if_there},
    look::format_of,
    store::{Batch, Store, StoreError, StoreFigures, Table, Visit, check},
};

/// The file's name in its directory.
pub const FILE_NAME: &str = "collector.redb";

/// [`FORMAT`] and [`CLOSED`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The version of what is in the tables.
const FORMAT: &str = "format";
const FORMAT_KNOWN: u64 = 1;

/// Whether the last process ended its use well.
const CLOSED: &str = "closed";

/// redb's own page cache. Its default is a gibibyte.
const CACHE_BYTES: usize = 64 << 20;

/// Of a file up to this size every page is checked when it is opened, which takes a moment. Of a larger one the records
/// are, each when it is read.
const CHECKED_BYTES_MAX: u64 = 32 << 20;

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

/// What a store found when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// There was none before.
    pub is_new: bool,
    /// The process before was killed, or the power went: what it was writing then, and had told nobody of, was taken
    /// back.
    pub was_cut: bool,
    /// The size of the file in bytes.
    pub bytes: u64,
}

/// A store in a file. See the [module](self).
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    disk: Disk,
    /// Not there between a failure and the next use, and after the end.
    database: RwLock<Option<Database>>,
    /// One at a time commits, and mends what failed.
    writing: Mutex<()>,
    /// Why nothing is written or read any more.
    ended: OnceLock<StoreError>,
    found: Found,
    _lock: Lock,
}

impl RedbStore {
    /// Opens the store in `directory`, which is made if it is not there, and locks it.
    ///
    /// # Errors
    /// Another process has it; it is damaged, or of a newer version; the system refuses something.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, Disk::default())
    }

    fn open_with(directory: &Path, disk: Disk) -> Result<Self, StoreError> {
        let lock = Lock::take(directory)?;
        let path = directory.join(FILE_NAME);
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let is_new = bytes == 0;
        if is_new {
            begin(&path, &disk)?;
        }
        let database = open(&path, &disk, !is_new && bytes <= CHECKED_BYTES_MAX, |_| {})?;
        let was_cut = !is_new && number(&database, CLOSED).map_err(failed(&path))? == 0;
        set(&database, CLOSED, 0).map_err(|error| disk_error(&path, &disk, error))?;
        let found = Found { is_new, was_cut, bytes };
        Ok(Self {
            path,
            disk,
            database: RwLock::new(Some(database)),
            writing: Mutex::default(),
            ended: OnceLock::new(),
            found,
            _lock: lock,
        })
    }

    /// What was there when it was opened.
    pub const fn found(&self) -> Found {
        self.found
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Measures from now on by `clock` how long the disk takes to confirm what is written ([`StoreFigures::syncs`]).
    pub fn time_syncs(&self, clock: impl Clock) {
        self.disk.time_syncs(clock);
    }

    /// Visits every record of `table`, in order, as they all were at one moment.
    pub fn all(&self, table: Table, visit: Visit<'_>) -> Result<(), StoreError> {
        self.read(|transaction, path| visit_all(transaction, table, path, visit))
    }

    fn slot(&self) -> RwLockReadGuard<'_, Option<Database>> {
        // It is only ever replaced whole.
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot_mut(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> Result<(), StoreError> {
        self.ended.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Nothing more from now on, for this reason.
    fn end(&self, error: StoreError) -> StoreError {
        self.ended.get_or_init(|| error).clone()
    }

    /// redb refuses everything after the first failure, until the file is opened anew.
    fn open_anew(&self) -> Result<(), StoreError> {
        let mut slot = self.slot_mut();
        drop(slot.take());
        let opened = open(&self.path, &self.disk, false, |_| {});
        // What closing the old one met is of no more interest.
        self.disk.take_failure();
        *slot = Some(opened?);
        Ok(())
    }

    /// What became of a commit that failed.
    fn mend(&self, error: redb::Error) -> StoreError {
        let path = self.path.display().to_string();
        match self.disk.take_failure() {
            Some(Failure::Unsound(reason)) => {
                drop(self.slot_mut().take());
                self.end(StoreError::Unsound { path, reason })
            }
            Some(Failure::Full(reason)) => match self.open_anew() {
                Ok(()) => StoreError::Full { path, reason },
                Err(error) => error,
            },
            None => {
                let error = failed(&self.path)(error);
                if matches!(error, StoreError::Damaged { .. }) {
                    return self.end(error);
                }
                self.open_anew().err().unwrap_or(error)
            }
        }
    }

    fn write(&self, batch: &Batch) -> Result<(), redb::Error> {
        let slot = self.slot();
        let Some(database) = &*slot else { return Err(redb::Error::DatabaseClosed) };
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        for table in Table::ALL {
            let removed = batch.remove.iter().filter(|(of, from, until)| *of == table && from < until);
            let put = batch.put.iter().filter(|(of, ..)| *of == table);
            if removed.clone().next().is_none() && put.clone().next().is_none() {
                continue;
            }
            let mut open = transaction.open_table(definition(table))?;
            for (_, from, until) in removed {
                open.retain_in::<&[u8], _>(from.as_ref()..until.as_ref(), |_, _| false)?;
            }
            for (_, key, value) in put {
                let mut place = open.insert_reserve(key.as_ref(), value.len() + record::SUM_BYTES)?;
                let (kept, sum) = place.as_mut().split_at_mut(value.len());
                kept.copy_from_slice(value);
                sum.copy_from_slice(&record::sum(table, key, value));
            }
        }
        Ok(transaction.commit()?)
    }

    /// Reads at one moment. Whoever reads holds nothing that a commit waits for.
    fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction, &Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.usable()?;
        let transaction = match self.begin_read() {
            // A read failed before, or a commit did and nobody has committed since.
            Err(redb::Error::PreviousIo | redb::Error::DatabaseClosed) => {
                let _one = self.writing();
                self.usable()?;
                match self.begin_read() {
                    Ok(transaction) => Ok(transaction),
                    Err(_) => {
                        self.open_anew()?;
                        self.begin_read()
                    }
                }
            }
            begun => begun,
        }
        .map_err(failed(&self.path))?;
        catch_unwind(AssertUnwindSafe(|| read(&transaction, &self.path)))
            .unwrap_or_else(|_| Err(unforeseen(&self.path)))
    }

    fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        match &*self.slot() {
            Some(database) => Ok(database.begin_read()?),
            None => Err(redb::Error::DatabaseClosed),
        }
    }

    fn visit_range(
        &self,
        table: Table,
        (from, until): (&[u8], &[u8]),
        backwards: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        if from >= until {
            return self.usable();
        }
        self.read(|transaction, path| {
            let open = table_of(transaction, table, path)?;
            let mut range = open.range(from..until).map_err(|error| failed(path)(error.into()))?;
            let mut next = || if backwards { range.next_back() } else { range.next() };
            while let Some(entry) = next() {
                if hand_out(table, entry, path, visit)? == ControlFlow::Break(()) {
                    break;
                }
            }
            Ok(())
        })
    }
}

impl Store for RedbStore {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        check(&batch, || self.path.clone())?;
        let _one = self.writing();
        self.usable()?;
        if self.slot().is_none() {
            self.open_anew()?;
        }
        // redb says itself that an altered file may make it panic.
        match catch_unwind(AssertUnwindSafe(|| self.write(&batch))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.mend(error)),
            Err(_) => Err(self.end(unforeseen(&self.path))),
        }
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.read(|transaction, path| {
            let open = table_of(transaction, table, path)?;
            let kept = open.get(key).map_err(|error| failed(path)(error.into()))?;
            let Some(kept) = kept else { return Ok(None) };
            let value = record::open(table, key, kept.value()).ok_or_else(|| altered(table, key, path))?;
            Ok(Some(Bytes::copy_from_slice(value)))
        })
    }

    fn range(&self, table: Table, from: &[u8], until: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.visit_range(table, (from, until), false, visit)
    }

    fn range_back(
        &self,
        table: Table,
        from: &[u8],
        until: &[u8],
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        self.visit_range(table, (from, until), true, visit)
    }

    fn backup(&self, target: &Path) -> Result<u64, StoreError> {
        self.read(|transaction, path| upkeep::copy(transaction, path, target))
    }

    fn figures(&self) -> StoreFigures {
        let bytes = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        StoreFigures { bytes, syncs: self.disk.syncs() }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn close(&self) {
        let _one = self.writing();
        if let Some(database) = self.slot_mut().take()
            && self.ended.get().is_none()
        {
            // What it cannot say now, the next start finds out by itself.
            _ = catch_unwind(AssertUnwindSafe(|| set(&database, CLOSED, 1)));
            drop(database);
        }
        let reason = "it was closed".to_owned();
        _ = self.ended.set(StoreError::Failed { path: self.path.display().to_string(), reason });
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Makes a new file with empty tables. It appears under its name once it is whole: killed before that, there was none.
fn begin(path: &Path, disk: &Disk) -> Result<(), StoreError> {
    let place = path.with_extension("redb.new");
    remove_if_there(&place).map_err(StoreError::io("remove", &place))?;
    let made = || -> Result<(), redb::Error> {
        let file = private().open(&place)?;
        let backend = Backend::new(file, disk.clone())?;
        let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
        make_tables(&database)?;
        set(&database, CLOSED, 1)
    };
    made().map_err(|error| disk_error(&place, disk, error))?;
    put_in_place(&place, path)
}

/// Gives a file that is whole the name under which it is looked for.
fn put_in_place(place: &Path, path: &Path) -> Result<(), StoreError> {
    fs::rename(place, path).map_err(StoreError::io("rename", place))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(StoreError::io("sync the directory of", path))
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for table in Table::ALL {
        transaction.open_table(definition(table))?;
    }
    transaction.open_table(META)?.insert(FORMAT, FORMAT_KNOWN)?;
    Ok(transaction.commit()?)
}

/// Opens the file at `path`, and looks whether it is one of ours; at every page of it if `checks`.
fn open(
    path: &Path,
    disk: &Disk,
    checks: bool,
    progress: impl Fn(f64) + 'static,
) -> Result<Database, StoreError> {
    let newer = |found| StoreError::Newer { path: path.display().to_string(), found, known: FORMAT_KNOWN };
    if let Some(found) = format_of(path).filter(|found| *found > FORMAT_KNOWN) {
        return Err(newer(found));
    }
    let file = File::options().read(true).write(true).open(path).map_err(StoreError::io("open", path))?;
    look_at_the_disk(&file);
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<(Database, u64), redb::Error> {
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(checks)
            .set_repair_callback(move |session: &mut RepairSession| progress(session.progress()))
            .create_with_backend(Backend::new(file, disk.clone())?)?;
        let format = number(&database, FORMAT)?;
        Ok((database, format))
    }));
    match opened {
        Ok(Ok((_, found))) if found > FORMAT_KNOWN => Err(newer(found)),
        Ok(Ok((database, _))) => Ok(database),
        Ok(Err(error)) => Err(disk_error(path, disk, error)),
        Err(_) => Err(unforeseen(path)),
    }
}

fn number(database: &Database, key: &str) -> Result<u64, redb::Error> {
    let found = database.begin_read()?.open_table(META)?.get(key)?.map(|number| number.value());
    found.ok_or_else(|| redb::Error::Corrupted(format!("it does not say its {key}")))
}

fn set(database: &Database, key: &str, value: u64) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(META)?.insert(key, value)?;
    Ok(transaction.commit()?)
}

fn table_of(
    transaction: &ReadTransaction,
    table: Table,
    path: &Path,
) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, StoreError> {
    transaction.open_table(definition(table)).map_err(|error| failed(path)(error.into()))
}

fn visit_all(
    transaction: &ReadTransaction,
    table: Table,
    path: &Path,
    visit: Visit<'_>,
) -> Result<(), StoreError> {
    let open = table_of(transaction, table, path)?;
    let expected = open.len().map_err(|error| failed(path)(error.into()))?;
    let range = open.range::<&[u8]>(..).map_err(|error| failed(path)(error.into()))?;
    let mut found = 0;
    for entry in range {
        found += 1;
        if hand_out(table, entry, path, visit)? == ControlFlow::Break(()) {
            return Ok(());
        }
    }
    if found == expected {
        return Ok(());
    }
    let reason = format!("it should have {expected} records, and {found} are found");
    Err(StoreError::Damaged { path: path.display().to_string(), place: table.name().to_owned(), reason })
}

type Entry<'a> =
    Result<(redb::AccessGuard<'a, &'static [u8]>, redb::AccessGuard<'a, &'static [u8]>), redb::StorageError>;

/// Shows a record to whoever visits, if it is as it was written.
fn hand_out(
    table: Table,
    entry: Entry<'_>,
    path: &Path,
    visit: Visit<'_>,
) -> Result<ControlFlow<()>, StoreError> {
    let (key, kept) = entry.map_err(|error| failed(path)(error.into()))?;
    let key = key.value();
    let value = record::open(table, key, kept.value()).ok_or_else(|| altered(table, key, path))?;
    Ok(visit(key, value))
}

fn altered(table: Table, key: &[u8], path: &Path) -> StoreError {
    StoreError::Damaged {
        path: path.display().to_string(),
        place: record::place(table, key),
        reason: "its checksum does not fit it".to_owned(),
    }
}

fn damaged_page(path: String, reason: String) -> StoreError {
    let place = "one of its pages (`aviary store verify` looks for the record)".to_owned();
    StoreError::Damaged { path, place, reason }
}

fn unforeseen(path: &Path) -> StoreError {
    damaged_page(path.display().to_string(), UNFORESEEN.to_owned())
}

/// What redb's `error` means, where the disk may have said more.
fn disk_error(path: &Path, disk: &Disk, error: redb::Error) -> StoreError {
    let shown = path.display().to_string();
    match disk.take_failure() {
        Some(Failure::Full(reason)) => StoreError::Full { path: shown, reason },
        Some(Failure::Unsound(reason)) => StoreError::Unsound { path: shown, reason },
        None => failed(path)(error),
    }
}

fn failed(path: &Path) -> impl FnOnce(redb::Error) -> StoreError {
    let path = path.display().to_string();
    move |error| match &error {
        redb::Error::Io(source) if is_damage(&error) => {
            StoreError::Damaged { path, place: "its end".to_owned(), reason: source.to_string() }
        }
        _ if is_damage(&error) => damaged_page(path, error.to_string()),
        redb::Error::DatabaseClosed => StoreError::Failed {
            path,
            reason: "it was opened anew meanwhile, after a failure of the disk; ask again".to_owned(),
        },
        _ => StoreError::Failed { path, reason: error.to_string() },
    }
}
