//! The database: what waited longer than a second, durable.

use std::{
    fs::{self, File},
    io,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aviary_core::Second;
use bytes::Bytes;
use redb::{
    ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, StorageBackend, TableDefinition,
    backends::FileBackend,
};

use super::{Record, SpoolError, waiting::Head};
use crate::{
    file::{UNFORESEEN, grow, is_damage, look_at_the_disk, private, remove_if_there},
    look::format_of,
};

/// Roster, slots, second and body, by id.
const RECORDS: TableDefinition<'_, u64, (u64, u64, u64, &[u8])> = TableDefinition::new("records");
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
/// [`FORMAT`] and [`TAKEN_IN`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The version of what is in the tables.
const FORMAT: &str = "format";
const FORMAT_KNOWN: u64 = 1;

/// The last start of the tail that is in the tables.
const TAKEN_IN: &str = "taken_in";

/// redb's own page cache: a spool is written far more than it is read. Its default is a gibibyte.
const CACHE_BYTES: usize = 4 << 20;

/// The open database.
#[derive(Debug)]
pub(super) struct Database {
    database: redb::Database,
    path: PathBuf,
}

/// All that a database holds, bodies aside.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) taken_in: u64,
    pub(super) records: Vec<(u64, Head)>,
    pub(super) state: Vec<(String, Bytes)>,
}

/// What one transaction changes.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    pub(super) insert: Vec<(u64, &'a Head, &'a Bytes)>,
    pub(super) delete: Vec<RangeInclusive<u64>>,
    pub(super) put: Vec<(&'a str, &'a Bytes)>,
    pub(super) remove: Vec<&'a str>,
    pub(super) taken_in: u64,
}

/// Why a database could not be opened.
#[derive(Debug)]
pub(super) enum Unopened {
    /// The file is there, and is none of ours or not whole.
    Damaged(String),
    /// Anything else.
    Error(SpoolError),
}

impl Database {
    /// Opens the database at `path`, or makes one, and reads what it holds. Every page is checked on the way: of a file
    /// that was damaged nothing is believed.
    pub(super) fn open(path: PathBuf, disk: &DiskUse) -> Result<(Self, Contents), Unopened> {
        let is_new = fs::metadata(&path).map_or(true, |metadata| metadata.len() == 0);
        if let Some(found) = format_of(&path).filter(|found| *found > FORMAT_KNOWN) {
            return Err(Unopened::Error(SpoolError::Newer { path, found, known: FORMAT_KNOWN }));
        }
        // A file appears under its name once it is whole: killed before that, there was none.
        let place = if is_new { path.with_extension("redb.new") } else { path.clone() };
        if is_new {
            let removed = remove_if_there(&place).map_err(SpoolError::io("remove", &place));
            removed.map_err(Unopened::Error)?;
        }
        let opened = private().open(&place).map_err(SpoolError::io("open", &place));
        let file = opened.map_err(Unopened::Error)?;
        look_at_the_disk(&file);
        // redb says itself that an altered file may make it panic, and a spool is no reason not to start.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let backend =
                Backend { handle: file.try_clone()?, file: FileBackend::new(file)?, disk: disk.clone() };
            let database = redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(!is_new)
                .create_with_backend(backend)?;
            let contents = read(&database)?;
            Ok((database, contents))
        }));
        match opened {
            Ok(Ok((database, Some(contents)))) if contents.0 > FORMAT_KNOWN => {
                drop(database);
                Err(Unopened::Error(SpoolError::Newer { path, found: contents.0, known: FORMAT_KNOWN }))
            }
            Ok(Ok((database, Some((_, contents))))) => Ok((Self { database, path }, contents)),
            Ok(Ok((database, None))) => {
                let database = Self { database, path };
                database.begin().map_err(Unopened::Error)?;
                let renamed = fs::rename(&place, &database.path).map_err(SpoolError::io("rename", &place));
                renamed.map_err(Unopened::Error)?;
                Ok((database, Contents::default()))
            }
            Ok(Err(error)) if is_damage(&error) => Err(Unopened::Damaged(error.to_string())),
            Ok(Err(error)) => Err(Unopened::Error(SpoolError::database("open", &path)(error))),
            Err(_) => Err(Unopened::Damaged(UNFORESEEN.to_owned())),
        }
    }

    /// Makes the tables of a new file.
    fn begin(&self) -> Result<(), SpoolError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            transaction.open_table(RECORDS)?;
            transaction.open_table(STATE)?;
            transaction.open_table(META)?.insert(FORMAT, FORMAT_KNOWN)?;
            Ok(transaction.commit()?)
        };
        write().map_err(SpoolError::database("begin", &self.path))
    }

    /// Makes `changes` durable, all or none, with one fsync.
    pub(super) fn commit(&self, changes: &Changes<'_>) -> Result<(), SpoolError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut records = transaction.open_table(RECORDS)?;
                for run in &changes.delete {
                    records.retain_in(run.clone(), |_, _| false)?;
                }
                for (id, head, body) in &changes.insert {
                    records.insert(*id, (head.roster, head.slots, head.second.0, body.as_ref()))?;
                }
                let mut state = transaction.open_table(STATE)?;
                for key in &changes.remove {
                    state.remove(*key)?;
                }
                for (key, value) in &changes.put {
                    state.insert(*key, value.as_ref())?;
                }
                transaction.open_table(META)?.insert(TAKEN_IN, changes.taken_in)?;
            }
            Ok(transaction.commit()?)
        };
        write().map_err(SpoolError::database("write", &self.path))
    }

    /// The record of `id`.
    pub(super) fn record(&self, id: u64) -> Result<Option<Record>, SpoolError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(RECORDS)?;
            let found = table.get(id)?;
            Ok(found.map(|found| {
                let (roster, slots, second, body) = found.value();
                Record { roster, slots, second: Second(second), body: Bytes::copy_from_slice(body) }
            }))
        };
        read().map_err(SpoolError::database("read", &self.path))
    }

    /// Gives the space of what was deleted back to the file system.
    pub(super) fn compact(&mut self) -> Result<(), SpoolError> {
        self.database.compact().map(|_| ()).map_err(SpoolError::database("compact", &self.path))
    }

    /// The size of the file in bytes; 0 if the system does not say.
    pub(super) fn file_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }
}

/// The format and what is there, unless the tables were never made.
fn read(database: &redb::Database) -> Result<Option<(u64, Contents)>, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let number = |key| Ok::<_, redb::Error>(meta.get(key)?.map_or(0, |number| number.value()));
    let format = number(FORMAT)?;
    let mut contents = Contents { taken_in: number(TAKEN_IN)?, ..Contents::default() };
    if format > FORMAT_KNOWN {
        return Ok(Some((format, contents)));
    }
    let records = transaction.open_table(RECORDS)?;
    contents.records.reserve(usize::try_from(records.len()?).unwrap_or_default());
    for entry in records.iter()? {
        let (id, value) = entry?;
        let (roster, slots, second, body) = value.value();
        let head = Head { roster, slots, second: Second(second), bytes: body.len() as u64 };
        contents.records.push((id.value(), head));
    }
    for entry in transaction.open_table(STATE)?.iter()? {
        let (key, value) = entry?;
        contents.state.push((key.value().to_owned(), Bytes::copy_from_slice(value.value())));
    }
    Ok(Some((format, contents)))
}

/// Moves a damaged file out of the way, for somebody to look at. At most one such file is kept: whatever damages files
/// again and again is not to fill the disk as well.
pub(super) fn set_aside(path: &Path, now: Second) -> Result<PathBuf, SpoolError> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!("{}.damaged-", name(path));
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let entries = fs::read_dir(directory).map_err(SpoolError::io("read", directory))?;
    for earlier in entries.flatten().map(|entry| entry.path()) {
        if name(&earlier).starts_with(&prefix) {
            fs::remove_file(&earlier).map_err(SpoolError::io("remove", &earlier))?;
        }
    }
    let aside = directory.join(format!("{prefix}{now}"));
    fs::rename(path, &aside).map_err(SpoolError::io("rename", path))?;
    Ok(aside)
}

/// How the disk is used.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskUse {
    syncs: Arc<AtomicU64>,
    /// How many syncs to fail from now on: what no file system does on request.
    #[cfg(test)]
    pub(super) failing_syncs: Arc<AtomicU64>,
}

impl DiskUse {
    /// How often the disk was waited for.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }
}

/// redb's file, counting. It takes no locks on it: the directory has one of its own, which holds the tail too.
#[derive(Debug)]
struct Backend {
    /// The same file, for what redb does not know of.
    handle: File,
    file: FileBackend,
    disk: DiskUse,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let old = self.file.len()?;
        if len > old { grow(&self.file, &self.handle, old, len) } else { self.file.set_len(len) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.syncs.fetch_add(1, Ordering::Relaxed);
        #[cfg(test)]
        if self.disk.failing_syncs.load(Ordering::Relaxed) > 0 {
            self.disk.failing_syncs.fetch_sub(1, Ordering::Relaxed);
            return Err(io::Error::other("the disk gave up"));
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
