//! An open database: RocksDB, the log (`log`), and what is in the log and not in RocksDB yet (`backlog`). Owns opening,
//! writing and closing, and turns RocksDB's errors into ours; knows rows, not documents. Nothing outside this file, those in
//! `rocks` and `rows` names RocksDB.

mod cursor;
mod settings;
mod tables;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, FlushOptions, ReadOptions, ReadTier, WriteBatch, WriteOptions};
use tempfile::TempDir;

use crate::backlog::Backlog;
use crate::directory::describe;
use crate::encoding::{self, CollectionNumber, FeedKind, VersionHeader};
use crate::error::{Error, Result};
use crate::log::{self, LOG_DIR, Log};
use crate::options::Options;
use crate::rows::RowTypes;
use crate::segment::{self, End};

pub(crate) use cursor::{Cursor, Reader};
use settings::{database_options, families};
pub(crate) use tables::SortedFile;

pub(crate) use crate::rows::Rows;

/// The column families, by what is in them.
pub(crate) const META: &str = rocksdb::DEFAULT_COLUMN_FAMILY_NAME;
pub(crate) const VERSIONS: &str = "versions";
pub(crate) const FEED: &str = "feed";
pub(crate) const EXPIRY: &str = "expiry";

/// Twenty for each document of 1 KiB that has room in the backlog: few others fall on their places.
const BACKLOG_PLACES: usize = 1 << 14;

/// An open database and its log.
pub(crate) struct Rocks {
    db: DB,
    log: Log,
    pub(crate) backlog: Backlog,
    /// Where the files are of a database that is open for reading only and had a log to replay. Goes after it.
    replayed: Option<TempDir>,
    compacting: AtomicBool,
    /// RocksDB has refused the last batch.
    has_refused: AtomicBool,
    /// How rows of each family are written.
    meta: RowTypes,
    versions: RowTypes,
    feed: RowTypes,
    expiry: RowTypes,
    /// Made once: to make it takes as long as to encode a row.
    unlogged: WriteOptions,
}

impl Drop for Rocks {
    /// Ends what RocksDB does in the background before it closes. It would by itself, but only after it has waited for
    /// a recovery from a full disk, which may be waiting for a flush that is never begun any more: for ever.
    fn drop(&mut self) {
        self.db.cancel_all_background_work(false);
    }
}

impl Rocks {
    /// Opens the database in `path`, and replays what its log, beside it, has in addition. A missing database is created
    /// only when `create` says so, because RocksDB takes a directory that lost its `CURRENT` file for a new one and
    /// deletes what else it finds there.
    ///
    /// `check` is shown where the log ends before anything of it is used; what it refuses is left as it is. On return
    /// the log is empty, and all that it had is in files, on disk.
    pub(crate) fn open(
        path: &Path,
        options: &Options,
        create: bool,
        check: impl FnOnce(&End) -> Result<()>,
    ) -> Result<Rocks> {
        let db = DB::open_cf_descriptors(&database_options(create)?, path, families(options));
        let db = db.map_err(failure)?;
        let applied = applied(&db, &ReadOptions::default())?;
        let directory = path.with_file_name(LOG_DIR);
        let end = segment::read(&directory, applied, |_| Ok(()))?;
        check(&end)?;
        let rocks = Rocks::new(db, Log::new(directory.clone(), options.write_buffer_bytes, end.position));
        if end.position > applied {
            rocks.replay(&directory, applied)?;
            rocks.flush_tables()?;
        }
        log::clear(&directory)?;
        Ok(rocks)
    }

    /// Opens what the database in `path` has in files, for reading only: nothing is changed.
    pub(crate) fn open_files(path: &Path, options: &Options) -> Result<Rocks> {
        let refuse_log = false;
        let database = database_options(false)?;
        let db = DB::open_cf_descriptors_read_only(&database, path, families(options), refuse_log);
        let db = db.map_err(failure)?;
        let end = applied(&db, &ReadOptions::default())?;
        Ok(Rocks::new(db, Log::new(path.with_file_name(LOG_DIR), options.write_buffer_bytes, end)))
    }

    /// Opens the database in `path` for reading only: nothing of it is changed, and nobody may be writing to it. What its
    /// log has in addition is replayed into memory, by a database in a directory for temporary files, where the files of
    /// this one are seen through symbolic links. `check`: as for [`open`](Rocks::open).
    pub(crate) fn open_read_only(
        path: &Path,
        options: &Options,
        check: impl FnOnce(&End) -> Result<()>,
    ) -> Result<Rocks> {
        let rocks = Rocks::open_files(path, options)?;
        let (applied, directory) = (rocks.log_end(), path.with_file_name(LOG_DIR));
        let end = segment::read(&directory, applied, |_| Ok(()))?;
        check(&end)?;
        if end.position == applied {
            return Ok(rocks);
        }
        drop(rocks);
        let temporary = std::env::temp_dir();
        Rocks::open_replayed(path, options, applied, end.position, &temporary).map_err(|error| match error {
            Error::Io(cause) | Error::DiskFull(cause) => Error::io(format!(
                "{cause}; a store that was not closed is read by way of the directory for temporary files, which is {}: \
                 set TMPDIR to another one, if that is what failed",
                temporary.display()
            )),
            other => other,
        })
    }

    /// The database in `path` with what its log has from `applied` to `end`, by way of a new directory in `temporary`.
    fn open_replayed(path: &Path, options: &Options, applied: u64, end: u64, temporary: &Path) -> Result<Rocks> {
        let files = link_database(path, temporary)?;
        // Large enough that nothing is written to files.
        let log_bytes = usize::try_from(end - applied).unwrap_or(usize::MAX);
        let buffer_bytes = options.write_buffer_bytes.max(log_bytes.saturating_mul(2));
        let options = options.clone().write_buffer_bytes(buffer_bytes);
        let db = DB::open_cf_descriptors(&database_options(false)?, files.path(), families(&options));
        let directory = path.with_file_name(LOG_DIR);
        let log = Log::new(directory.clone(), options.write_buffer_bytes, end);
        let mut rocks = Rocks::new(db.map_err(failure)?, log);
        rocks.replayed = Some(files);
        rocks.replay(&directory, applied)?;
        Ok(rocks)
    }

    fn new(db: DB, log: Log) -> Rocks {
        let types = |name| RowTypes::learn(family(&db, name));
        let (meta, versions, feed, expiry) = (types(META), types(VERSIONS), types(FEED), types(EXPIRY));
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        unlogged.set_no_slowdown(true);
        let backlog = Backlog::new(BACKLOG_PLACES);
        let (compacting, has_refused) = (AtomicBool::new(false), AtomicBool::new(false));
        Rocks { db, log, backlog, replayed: None, compacting, has_refused, meta, versions, feed, expiry, unlogged }
    }

    /// Writes what is in the log from a position on to memory.
    fn replay(&self, log: &Path, from: u64) -> Result<()> {
        let write = |payload: &[u8]| self.apply(|| WriteBatch::from_data(payload));
        segment::read(log, from, write).map(drop)
    }

    /// Makes a copy of the database in the new directory `path`, on disk on return, with everything that was written
    /// before the call, and without a log. Sorted files are shared as hard links where the file system can.
    pub(crate) fn checkpoint(&self, path: &Path) -> Result<()> {
        self.apply_all()?;
        let checkpoint = Checkpoint::new(&self.db).map_err(failure)?;
        // Zero: what is in memory is written to files first, and the files of all families are of one moment.
        checkpoint.create_checkpoint_with_log_size(path, 0).map_err(failure)
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        family(&self.db, name)
    }

    /// Writes all rows as one, to the log, which is not synced; they come to RocksDB later, and readers find them on return.
    /// Where some of them change or delete rows, RocksDB has them on return as well, unless it takes nothing any more: then
    /// it has them before anything else. When this fails, none of them is written, unless it was for another reason than a
    /// full disk.
    pub(crate) fn write(&self, rows: &mut Rows) -> Result<()> {
        while self.backlog.is_full() && self.apply_oldest()? {}
        let mut log = self.log.writer();
        let are_new = rows.are_new();
        // Asked without the log, which would grow with each write that is tried on a full disk. Decided under its lock.
        if !are_new || self.has_refused.load(Ordering::Relaxed) {
            self.apply_backlog()?;
            self.apply(WriteBatch::default)?;
        }
        log.append(rows, &self.meta, || self.persisted())?;
        self.backlog.push(rows);
        if !are_new {
            // It is in the log: what fails now is told to the next one.
            let _ = self.apply_backlog();
        }
        Ok(())
    }

    /// Brings what is in the log and not in RocksDB there. Nobody writes meanwhile: the caller has the log, or is the one
    /// who writes.
    fn apply_backlog(&self) -> Result<()> {
        self.backlog.close();
        while self.apply_oldest()? {}
        Ok(())
    }

    /// Brings the oldest batch of the backlog to RocksDB, if there is one that does not grow any more.
    pub(crate) fn apply_oldest(&self) -> Result<bool> {
        self.backlog.bring(|rows| self.apply(|| rows.to_batch()))
    }

    /// Writes to memory. Where RocksDB is behind with its files, this waits, not RocksDB: a writer that waits there keeps its
    /// place at the head of RocksDB's queue, and a recovery from a full disk, for which it waits, would wait behind it.
    fn apply(&self, batch: impl Fn() -> WriteBatch) -> Result<()> {
        loop {
            match self.db.write_opt(batch(), &self.unlogged) {
                Err(error) if error.kind() == rocksdb::ErrorKind::Incomplete && is_stall(&error) => {
                    let figure = |name| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
                    let rate = match figure(c"rocksdb.is-write-stopped") {
                        0 => figure(c"rocksdb.actual-delayed-write-rate").max(1 << 20),
                        _ => u64::MAX,
                    };
                    // Each try counts as written where writing is only slowed, so it is to be the last.
                    let micros = 1_000 + 2_000_000 * batch().size_in_bytes() as u64 / rate;
                    std::thread::sleep(Duration::from_micros(micros));
                }
                done => {
                    self.has_refused.store(done.is_err(), Ordering::Relaxed);
                    return done.map_err(failure);
                }
            }
        }
    }

    /// Tries whether writes work, by writing nothing: after a failure RocksDB refuses that too.
    pub(crate) fn try_writing(&self) -> Result<()> {
        self.write(&mut Rows::default())
    }

    /// Where in the log the newest row is.
    pub(crate) fn log_end(&self) -> u64 {
        self.log.end()
    }

    /// Syncs the log: all that was written before this call is on disk on return.
    pub(crate) fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// Writes the memory tables to files, so that their part of the log is needed no more, and gives its space back.
    pub(crate) fn flush(&self) -> Result<()> {
        self.flush_tables()?;
        self.log.drop_before(self.persisted()?, false)
    }

    /// As [`flush`](Rocks::flush), for the last time: the next opening finds no log at all.
    pub(crate) fn finish(&self) -> Result<()> {
        self.flush_tables()?;
        self.log.drop_before(self.persisted()?, true)
    }

    fn flush_tables(&self) -> Result<()> {
        self.apply_all()?;
        let families = [VERSIONS, FEED, EXPIRY, META].map(|name| self.family(name));
        self.db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(failure)
    }

    /// Brings all that is in the log to RocksDB.
    fn apply_all(&self) -> Result<()> {
        let _nobody_writes = self.log.writer();
        self.apply_backlog()
    }

    /// Up to where in the log everything is in files.
    fn persisted(&self) -> Result<u64> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        applied(&self.db, &options)
    }

    pub(crate) fn put_meta(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.put(&self.meta, key, value);
    }

    pub(crate) fn delete_meta(&self, rows: &mut Rows, key: &[u8]) {
        rows.delete(&self.meta, key);
    }

    /// The version written at `seq` of the document with this prefix.
    pub(crate) fn put_version(&self, rows: &mut Rows, prefix: &[u8], seq: u64, header: &VersionHeader, body: &[u8]) {
        self.backlog.note(prefix, seq);
        rows.put_version(&self.versions, prefix, seq, header, body);
    }

    pub(crate) fn delete_versions(&self, rows: &mut Rows, start: &[u8], end: &[u8]) {
        rows.delete_range(&self.versions, start, end);
    }

    pub(crate) fn put_expiry(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.put_new(&self.expiry, key, value);
    }

    pub(crate) fn delete_expiry(&self, rows: &mut Rows, key: &[u8]) {
        rows.delete(&self.expiry, key);
    }

    pub(crate) fn delete_version(&self, rows: &mut Rows, key: &[u8]) {
        rows.delete(&self.versions, key);
    }

    pub(crate) fn delete_feed(&self, rows: &mut Rows, key: &[u8]) {
        rows.delete(&self.feed, key);
    }

    /// What the commit at `seq` did to `document`, of which it wrote this version.
    pub(crate) fn put_feed(
        &self,
        rows: &mut Rows,
        seq: u64,
        kind: FeedKind,
        rest: u32,
        version: &VersionHeader,
        document: (CollectionNumber, &[u8]),
    ) {
        rows.put_feed(&self.feed, seq, kind, rest, version, document);
    }
}

/// Where in the log the newest batch ends that is in the database.
fn applied(db: &DB, options: &ReadOptions) -> Result<u64> {
    let row = db.get_pinned_cf_opt(family(db, META), encoding::APPLIED_KEY, options).map_err(failure)?;
    row.map_or(Ok(0), |value| encoding::position(&value))
}

/// Whether writing is to wait, and not because of a failure, which has its own text.
fn is_stall(error: &rocksdb::Error) -> bool {
    error.to_string().contains("Write stall")
}

/// A database in a new directory in `temporary` that can be written to, and has the sorted files of another one, of which
/// nothing is changed by that: RocksDB writes each sorted file once, gives a new one a number that none of those that it
/// finds has, and what it removes is a link.
fn link_database(path: &Path, temporary: &Path) -> Result<TempDir> {
    let files = tempfile::Builder::new().prefix("etagdb-").tempdir_in(temporary).map_err(Error::io)?;
    for entry in fs::read_dir(path).map_err(|error| describe(path, error))? {
        let source = entry.map_err(|error| describe(path, error))?.path();
        let Some(name) = source.file_name() else { continue };
        let target = files.path().join(name);
        let is_table = source.extension().is_some_and(|extension| extension == "sst");
        let made = if is_table {
            std::path::absolute(&source).and_then(|source| std::os::unix::fs::symlink(source, &target))
        } else {
            match name.to_string_lossy() {
                name if name == "CURRENT" || name == "IDENTITY" || name.starts_with("MANIFEST-") => {
                    fs::copy(&source, &target).map(drop)
                }
                _ => Ok(()),
            }
        };
        made.map_err(|error| describe(&target, error))?;
    }
    Ok(files)
}

fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    // All are opened together or opening fails, and none is ever dropped.
    db.cf_handle(name).expect("column family opened with the database")
}

/// What RocksDB's error means for the caller. Whether a failed *write* leaves its outcome unknown is judged by the
/// commit path, which knows what it was writing.
fn failure(error: rocksdb::Error) -> Error {
    let message = error.to_string();
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Error::Corruption(message),
        // ENOSPC has no kind of its own in RocksDB's C interface; the text is the operating system's.
        _ if message.contains("No space left on device") => Error::DiskFull(error.into()),
        _ => Error::io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::VersionKind;

    #[test]
    fn families_survive_reopen_and_a_lost_current_file_is_no_new_database() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("rocksdb");
        let options = Options::default();
        let rocks = Rocks::open(&path, &options, true, |_| Ok(())).expect("create");
        let mut rows = Rows::default();
        rocks.put_meta(&mut rows, b"store", b"x");
        rocks.write(&mut rows).expect("write");
        drop(rocks);
        let rocks = Rocks::open(&path, &options, false, |_| Ok(())).expect("reopen");
        assert_eq!(rocks.meta(b"store").expect("read"), Some(b"x".to_vec()));
        drop(rocks);
        std::fs::remove_file(path.join("CURRENT")).expect("remove");
        assert!(Rocks::open(&path, &options, false, |_| Ok(())).is_err());
    }

    /// What retention leaves of a batch still says where the batch ends.
    #[test]
    fn any_row_of_a_batch_tells_its_end() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let rocks = Rocks::open(&dir.path().join("rocksdb"), &Options::default(), true, |_| Ok(())).expect("create");
        let mut rows = Rows::default();
        // Of the batches 1..=3, 4..=5 and 7, the rows 2, 3 and 4 are dropped. Nothing was ever written at 6.
        for (seq, rest) in [(1, 2), (5, 0), (7, 0)] {
            let (kind, time_ms, previous) = (VersionKind::Document, 0, 0);
            let version = VersionHeader { kind, time_ms, previous, created: 0, ttl_ms: None };
            rocks.put_feed(&mut rows, seq, FeedKind::Created, rest, &version, (1, b"a"));
        }
        rocks.write(&mut rows).expect("write");
        let ends: Vec<_> = (0..=8).map(|seq| rocks.end_of_batch(seq).expect("read")).collect();
        // Row 4 is gone and no row before it is of its batch: as a position it is as good as the end of that batch,
        // because nothing is left between the two.
        assert_eq!(ends, [0, 3, 3, 3, 4, 5, 6, 7, 8]);
    }
}
