//! Looks at a file before it is opened for writing: what a later version of this program wrote is left as it is, to the
//! last byte.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{ReadTransaction, ReadableDatabase as _, StorageBackend, TableDefinition};

/// Where each of our files has the version of what is in its tables, and under which key.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT: &str = "format";

/// redb's own page cache: little is read.
const CACHE_BYTES: usize = 1 << 20;

const PAGE_BYTES: usize = 4_096;

/// So much of a file that was not closed well may be mended in memory. One that takes more is opened without a look.
const MENDED_PAGES_MAX: usize = (64 << 20) / PAGE_BYTES;

/// The format of the file at `path`, if that can be told without changing it.
pub(crate) fn format_of(path: &Path) -> Option<u64> {
    // redb says itself that an altered file may make it panic. What is wrong with it is told when it is opened.
    catch_unwind(AssertUnwindSafe(|| look(path).ok().flatten())).ok().flatten()
}

fn look(path: &Path) -> Result<Option<u64>, redb::Error> {
    let builder = || {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        builder
    };
    match builder().open_read_only_with_backend(Layer::over(path)?) {
        Ok(database) => format(&database.begin_read()?),
        // It was not closed well: redb mends it first, which happens in memory here.
        Err(redb::DatabaseError::RepairAborted) => {
            let database = builder().create_with_backend(Layer::over(path)?)?;
            format(&database.begin_read()?)
        }
        Err(error) => Err(error.into()),
    }
}

fn format(transaction: &ReadTransaction) -> Result<Option<u64>, redb::Error> {
    Ok(transaction.open_table(META)?.get(FORMAT)?.map(|number| number.value()))
}

/// A file that is read, and never written: what is written lies over it, and goes with this.
#[derive(Debug)]
struct Layer {
    file: File,
    file_bytes: u64,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    bytes: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl Layer {
    fn over(path: &Path) -> Result<Self, redb::Error> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let written = Mutex::new(Written { bytes: file_bytes, pages: BTreeMap::new() });
        Ok(Self { file, file_bytes, written })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        // It is of use to nobody once something failed.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page of this number as it stands in the file, with nothing behind its end.
    fn page(&self, number: u64) -> io::Result<Box<[u8; PAGE_BYTES]>> {
        let mut page = Box::new([0; PAGE_BYTES]);
        let from = number * PAGE_BYTES as u64;
        let there = usize::try_from(self.file_bytes.saturating_sub(from)).unwrap_or(PAGE_BYTES);
        let (whole, _) = page.split_at_mut(there.min(PAGE_BYTES));
        self.file.read_exact_at(whole, from)?;
        Ok(page)
    }
}

/// The parts of `length` bytes from `offset` on, page by page: the page's number, where in it, and where in the bytes.
fn parts(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE_BYTES as u64) as usize;
        let count = (length - done).min(PAGE_BYTES - within);
        let part = (at / PAGE_BYTES as u64, within..within + count, done..done + count);
        done += count;
        (count > 0).then_some(part)
    })
}

impl StorageBackend for Layer {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset + out.len() as u64 > written.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, place) in parts(offset, out.len()) {
            match written.pages.get(&number) {
                Some(page) => out[place].copy_from_slice(&page[within]),
                None => out[place].copy_from_slice(&self.page(number)?[within]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written().bytes = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        for (number, within, place) in parts(offset, data.len()) {
            if !written.pages.contains_key(&number) {
                if written.pages.len() == MENDED_PAGES_MAX {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                written.pages.insert(number, self.page(number)?);
            }
            if let Some(page) = written.pages.get_mut(&number) {
                page[within].copy_from_slice(&data[place]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_lies_over_a_file_is_read_and_the_file_stays_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let whole: Vec<u8> = (0..10_000_u32).map(|byte| byte as u8).collect();
        fs::write(&path, &whole).unwrap();
        let layer = Layer::over(&path).unwrap();
        let mut model = whole.clone();
        model.resize(20_000, 0);
        layer.set_len(20_000).unwrap();
        for (at, length) in [(0, 1), (4_090, 12), (9_990, 20), (12_000, 8_000), (100, 9_000)] {
            let data = vec![0xaa; length];
            layer.write(at as u64, &data).unwrap();
            model[at..at + length].copy_from_slice(&data);
            let mut read = vec![0; model.len()];
            layer.read(0, &mut read).unwrap();
            assert!(read == model, "after {length} bytes at {at}");
        }
        assert!(layer.read(19_999, &mut [0, 0]).is_err(), "nothing is behind the end");
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
