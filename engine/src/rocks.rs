//! The only file that names RocksDB. Owns its options, turns its errors into ours, and has it and the log (`log`) agree on
//! what was written; knows rows, not documents.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    DBRawIterator, FlushOptions, LogLevel, ReadOptions, ReadTier, SliceTransform, WriteBatch, WriteOptions,
};

use crate::directory::describe;
use crate::encoding::{self, CollectionNumber, FeedKind, VersionHeader};
use crate::error::{Error, Result};
use crate::log::{self, LOG_DIR, Log};
use crate::options::Options;
use crate::rows::RowTypes;
use crate::segment::{self, End};
use tempfile::TempDir;

pub(crate) use crate::rows::Rows;

/// The column families, by what is in them.
pub(crate) const META: &str = rocksdb::DEFAULT_COLUMN_FAMILY_NAME;
pub(crate) const VERSIONS: &str = "versions";
pub(crate) const FEED: &str = "feed";
pub(crate) const EXPIRY: &str = "expiry";

/// An open database and its log.
pub(crate) struct Rocks {
    db: DB,
    log: Log,
    /// Where the files are of a database that is open for reading only and had a log to replay. Goes after it.
    replayed: Option<TempDir>,
    compacting: AtomicBool,
    /// RocksDB has refused the last write.
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
    ///
    /// RocksDB then writes what is in memory to files, for its own log is off; not where its files have failed or have no
    /// space, which it knows. After a failed sync of the log that is right too: it is a first part of all writes, those
    /// that were not acknowledged are known not to be certain, and what was is in the log.
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
        let db = DB::open_cf_descriptors(&database_options(create), path, families(options));
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
        let database = database_options(false);
        let db = DB::open_cf_descriptors_read_only(&database, path, families(options), refuse_log);
        let db = db.map_err(failure)?;
        let end = applied(&db, &ReadOptions::default())?;
        Ok(Rocks::new(db, Log::new(path.with_file_name(LOG_DIR), options.write_buffer_bytes, end)))
    }

    /// Opens the database in `path` for reading only: nothing of it is changed, and nobody may be writing to it. What its
    /// log has in addition is replayed in a directory for temporary files, where the database's own files are seen
    /// through symbolic links. `check`: as for [`open`](Rocks::open).
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
        let files = link_database(path)?;
        let db = DB::open_cf_descriptors(&database_options(false), files.path(), families(options));
        let log = Log::new(directory.clone(), options.write_buffer_bytes, end.position);
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
        let (compacting, has_refused) = (AtomicBool::new(false), AtomicBool::new(false));
        Rocks { db, log, replayed: None, compacting, has_refused, meta, versions, feed, expiry, unlogged }
    }

    /// Writes what is in the log from a position on to memory.
    fn replay(&self, log: &Path, from: u64) -> Result<()> {
        let write = |payload: &[u8]| self.apply(|| WriteBatch::from_data(payload)).map_err(failure);
        segment::read(log, from, write).map(drop)
    }

    /// Makes a copy of the database in the new directory `path`, on disk on return, with everything that was written
    /// before the call, and without a log. Sorted files are shared as hard links where the file system can.
    pub(crate) fn checkpoint(&self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::new(&self.db).map_err(failure)?;
        // Zero: what is in memory is written to files first, and the files of all families are of one moment.
        checkpoint.create_checkpoint_with_log_size(path, 0).map_err(failure)
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        family(&self.db, name)
    }

    /// Writes all rows as one: to the log, which is not synced, and to memory. When this fails, none of them is written,
    /// unless it was for another reason than a full disk.
    pub(crate) fn write(&self, rows: &mut Rows) -> Result<()> {
        let mut log = self.log.writer();
        // Asked without the log, which would grow with each write that is tried on a full disk. Decided under its lock.
        if self.has_refused.load(Ordering::Relaxed) {
            self.apply(WriteBatch::default).map_err(failure)?;
            self.has_refused.store(false, Ordering::Relaxed);
        }
        let written = log.append(rows, &self.meta, || self.persisted())?;
        self.apply(|| rows.to_batch()).map_err(|error| {
            self.has_refused.store(true, Ordering::Relaxed);
            match log.take_back(&written) {
                Ok(()) => failure(error),
                // A disk that is full says so here as well, but of this write it is not known what becomes of it.
                Err(other) => Error::io(format!("{error}; and it could not be taken back: {other}")),
            }
        })
    }

    /// Writes to memory. Where RocksDB is behind with its files, this waits, not RocksDB: a writer that waits there keeps its
    /// place at the head of RocksDB's queue, and a recovery from a full disk, for which it waits, would wait behind it.
    fn apply(&self, batch: impl Fn() -> WriteBatch) -> Result<(), rocksdb::Error> {
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
                done => return done,
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
        self.apply_void_end()?;
        let families = [VERSIONS, FEED, EXPIRY, META].map(|name| self.family(name));
        self.db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(failure)
    }

    /// Where the log ends in void records, has RocksDB know that there is nothing more to come. Otherwise, when the log is
    /// gone, what is void would seem to be missing.
    fn apply_void_end(&self) -> Result<()> {
        let _nobody_writes = self.log.writer();
        let end = self.log.end();
        if applied(&self.db, &ReadOptions::default())? < end {
            let row = || {
                let mut batch = WriteBatch::default();
                batch.put_cf(self.family(META), encoding::APPLIED_KEY, end.to_le_bytes());
                batch
            };
            self.apply(row).map_err(failure)?;
        }
        Ok(())
    }

    /// Up to where in the log everything is in files.
    fn persisted(&self) -> Result<u64> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        applied(&self.db, &options)
    }

    pub(crate) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get_cf(self.family(META), key).map_err(failure)
    }

    /// All metadata rows whose key begins with `prefix`, in key order.
    pub(crate) fn meta_rows(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut rows = Vec::new();
        let mut iterator = self.db.raw_iterator_cf(self.family(META));
        iterator.seek(prefix);
        while let Some((key, value)) = iterator.item() {
            if !key.starts_with(prefix) {
                break;
            }
            rows.push((key.to_vec(), value.to_vec()));
            iterator.next();
        }
        iterator.status().map_err(failure)?;
        Ok(rows)
    }

    /// The last row of the feed.
    pub(crate) fn last_feed_row(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut iterator = self.db.raw_iterator_cf(self.family(FEED));
        iterator.seek_to_last();
        let row = iterator.item().map(|(key, value)| (key.to_vec(), value.to_vec()));
        iterator.status().map_err(failure)?;
        Ok(row)
    }

    /// The sequence at which the batch that wrote `seq` ends; `seq` itself where nothing was written at it.
    pub(crate) fn end_of_batch(&self, seq: u64) -> Result<u64> {
        let mut iterator = self.db.raw_iterator_cf(self.family(FEED));
        iterator.seek_for_prev(encoding::feed_key(seq));
        let Some((key, value)) = iterator.item() else {
            iterator.status().map_err(failure)?;
            return Ok(seq);
        };
        Ok(encoding::feed_position(key, value)?.end.max(seq))
    }

    /// Whether there is a feed row of this sequence now.
    pub(crate) fn has_feed_row(&self, seq: u64) -> Result<bool> {
        let row = self.db.get_pinned_cf(self.family(FEED), encoding::feed_key(seq)).map_err(failure)?;
        Ok(row.is_some())
    }

    /// Shows `look` the newest version at or below `at` of the document with this prefix, if there is one.
    pub(crate) fn newest<T>(
        &self,
        document_prefix: &[u8],
        at: u64,
        look: impl FnOnce(u64, VersionHeader, &[u8]) -> T,
    ) -> Result<Option<T>> {
        self.reader().newest(document_prefix, at, look)
    }

    /// Reads many documents as they are now: cheaper than a [`newest`](Rocks::newest) for each.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let mut options = ReadOptions::default();
        // The prefix filters may be used: all that is asked for at a time shares one prefix.
        options.set_prefix_same_as_start(true);
        Reader { raw: self.db.raw_iterator_cf_opt(self.family(VERSIONS), options), key: Vec::new() }
    }

    /// Shows `look` the version written at `seq` of the document with this prefix, if it is there.
    pub(crate) fn version<T>(
        &self,
        document_prefix: &[u8],
        seq: u64,
        look: impl FnOnce(VersionHeader, &[u8]) -> T,
    ) -> Result<Option<T>> {
        let mut key = Vec::with_capacity(document_prefix.len() + 8);
        key.extend_from_slice(document_prefix);
        encoding::push_seq(&mut key, seq);
        // Cheaper than an iterator, which is made anew for each document.
        let Some(value) = self.db.get_pinned_cf(self.family(VERSIONS), &key).map_err(failure)? else {
            return Ok(None);
        };
        let (header, body) = VersionHeader::decode(&value)?;
        Ok(Some(look(header, body)))
    }

    /// A cursor over version rows with `start <= key < end`, before the first.
    pub(crate) fn versions(&self, start: &[u8], end: Vec<u8>) -> Cursor<'_> {
        let mut options = ReadOptions::default();
        // Prefix filters know only whole ids, and a scan asks for many.
        options.set_total_order_seek(true);
        options.set_iterate_upper_bound(end);
        let mut raw = self.db.raw_iterator_cf_opt(self.family(VERSIONS), options);
        raw.seek(start);
        Cursor { raw }
    }

    /// A cursor over all version rows, before the first.
    pub(crate) fn versions_from_start(&self) -> Cursor<'_> {
        self.versions(b"", vec![0xff; 4])
    }

    /// A cursor over the expiry family from `start` on.
    pub(crate) fn expiry(&self, start: &[u8]) -> Cursor<'_> {
        let mut raw = self.db.raw_iterator_cf(self.family(EXPIRY));
        raw.seek(start);
        Cursor { raw }
    }

    /// A cursor over the feed rows of the commits `from` to `to`, both included, before the first.
    pub(crate) fn feed(&self, from: u64, to: u64) -> Cursor<'_> {
        let mut options = ReadOptions::default();
        if let Some(end) = to.checked_add(1) {
            options.set_iterate_upper_bound(encoding::feed_key(end));
        }
        let mut raw = self.db.raw_iterator_cf_opt(self.family(FEED), options);
        raw.seek(encoding::feed_key(from));
        Cursor { raw }
    }

    /// A cursor over version rows with `start <= key < end`, at the last, to be moved backwards.
    pub(crate) fn versions_back(&self, start: Vec<u8>, end: Vec<u8>) -> Cursor<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(end);
        let mut raw = self.db.raw_iterator_cf_opt(self.family(VERSIONS), options);
        raw.seek_to_last();
        Cursor { raw }
    }

    /// A cursor over all rows of a family, at the first, that reads each block from its file and checks it, and leaves
    /// the cache to others.
    pub(crate) fn walk(&self, family: &str) -> Cursor<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_verify_checksums(true);
        options.fill_cache(false);
        options.set_readahead_size(2 << 20);
        let mut raw = self.db.raw_iterator_cf_opt(self.family(family), options);
        raw.seek_to_first();
        Cursor { raw }
    }

    /// As [`walk`](Rocks::walk), over version rows with `start <= key < end`.
    pub(crate) fn walk_versions(&self, start: &[u8], end: Vec<u8>) -> Cursor<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.fill_cache(false);
        options.set_readahead_size(2 << 20);
        options.set_iterate_upper_bound(end);
        let mut raw = self.db.raw_iterator_cf_opt(self.family(VERSIONS), options);
        raw.seek(start);
        Cursor { raw }
    }

    /// When the commit at `seq` was made, or the last one before it that there is a row of; 0 without one.
    pub(crate) fn time_of(&self, seq: u64) -> Result<u64> {
        let mut iterator = self.db.raw_iterator_cf(self.family(FEED));
        iterator.seek_for_prev(encoding::feed_key(seq));
        let position = iterator.item().map(|(key, value)| encoding::feed_position(key, value)).transpose()?;
        iterator.status().map_err(failure)?;
        Ok(position.map_or(0, |position| position.time_ms))
    }

    /// The families that retention deletes rows of.
    pub(crate) fn trimmed_families(&self) -> [&'static str; 2] {
        [VERSIONS, FEED]
    }

    /// How many rows a family stores, and how many of them only say that another one is deleted.
    pub(crate) fn count_rows(&self, family: &'static str) -> Result<RowCount> {
        let property = |name: &std::ffi::CStr| -> Result<u64> {
            Ok(self.db.property_int_value_cf(self.family(family), name).map_err(failure)?.unwrap_or(0))
        };
        let mut count = RowCount {
            rows: property(c"rocksdb.num-entries-active-mem-table")? + property(c"rocksdb.num-entries-imm-mem-tables")?,
            deletions: property(c"rocksdb.num-deletes-active-mem-table")?
                + property(c"rocksdb.num-deletes-imm-mem-tables")?,
        };
        for file in self.db.live_files().map_err(failure)? {
            if file.column_family_name == family {
                count.rows += file.num_entries;
                count.deletions += file.num_deletions;
            }
        }
        Ok(count)
    }

    /// Rewrites a family without what was deleted, unless it is time to stop. Blocks; writers and the other
    /// compactions go on meanwhile.
    pub(crate) fn compact(&self, family: &'static str, stopped: impl FnOnce() -> bool) {
        self.compacting.store(true, Ordering::SeqCst);
        // Asked after the flag is up: whoever says stop and then sees no flag can count on this not beginning.
        if stopped() {
            self.compacting.store(false, Ordering::SeqCst);
            return;
        }
        let mut options = CompactOptions::default();
        // The default keeps automatic compactions waiting, and they keep writers waiting in the end.
        options.set_exclusive_manual_compaction(false);
        self.db.compact_range_cf_opt(self.family(family), None::<&[u8]>, None::<&[u8]>, &options);
        self.compacting.store(false, Ordering::SeqCst);
    }

    /// Cuts short a [`compact`](Rocks::compact) under way. The database must be closed next: it does no more work in
    /// the background. What the compaction would have done is left for another day.
    pub(crate) fn abandon_compaction(&self) {
        if self.compacting.load(Ordering::SeqCst) {
            // Memory tables first: none are written to files after this. A failure leaves their rows in the log.
            let _ = self.flush();
            self.db.cancel_all_background_work(false);
        }
    }

    /// A cursor over feed rows that is nowhere yet.
    pub(crate) fn feed_rows(&self) -> Cursor<'_> {
        Cursor { raw: self.db.raw_iterator_cf(self.family(FEED)) }
    }

    /// The sorted files of a family, in the order of their first keys.
    pub(crate) fn files(&self, family: &str) -> Result<Vec<SortedFile>> {
        let mut files = Vec::new();
        for file in self.db.live_files().map_err(failure)? {
            if let (Some(start), Some(end)) = (file.start_key, file.end_key)
                && file.column_family_name == family
            {
                files.push(SortedFile { start, end, rows: file.num_entries });
            }
        }
        files.sort_unstable_by(|a, b| a.start.cmp(&b.start));
        Ok(files)
    }

    /// About how many bytes the version rows with `start <= key < end` take up in sorted files, compressed.
    pub(crate) fn versions_disk_bytes(&self, start: &[u8], end: &[u8]) -> u64 {
        let ranges = [rocksdb::Range::new(start, end)];
        self.db.get_approximate_sizes_cf(self.family(VERSIONS), &ranges).into_iter().sum()
    }

    /// How many version rows are in memory tables only.
    pub(crate) fn versions_in_memory(&self) -> u64 {
        self.versions_property(c"rocksdb.num-entries-active-mem-table")
            + self.versions_property(c"rocksdb.num-entries-imm-mem-tables")
    }

    /// About how many rows a family has.
    pub(crate) fn estimate_rows(&self, family: &str) -> u64 {
        let property = self.db.property_int_value_cf(self.family(family), c"rocksdb.estimate-num-keys");
        property.ok().flatten().unwrap_or(0)
    }

    /// Keeps every file on disk that is there now or comes, also those that are needed no more, until the answer is
    /// dropped. Meanwhile a second, read-only handle of the same directory sees the state it was opened at.
    pub(crate) fn keep_files(&self) -> Result<KeptFiles<'_>> {
        self.db.disable_file_deletions().map_err(failure)?;
        Ok(KeptFiles { db: &self.db })
    }

    /// Gives the disk space of a dropped collection back soon: whole files at once, the rest at compaction.
    pub(crate) fn reclaim_versions(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.db.delete_file_in_range_cf(self.family(VERSIONS), start, end).map_err(failure)
    }

    /// A RocksDB property of the version family, in bytes or as a count; 0 when RocksDB does not know it.
    pub(crate) fn versions_property(&self, name: &std::ffi::CStr) -> u64 {
        self.db.property_int_value_cf(self.family(VERSIONS), name).ok().flatten().unwrap_or(0)
    }

    pub(crate) fn put_meta(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.put(&self.meta, key, value);
    }

    pub(crate) fn delete_meta(&self, rows: &mut Rows, key: &[u8]) {
        rows.delete(&self.meta, key);
    }

    /// The version written at `seq` of the document with this prefix.
    pub(crate) fn put_version(&self, rows: &mut Rows, prefix: &[u8], seq: u64, header: &VersionHeader, body: &[u8]) {
        rows.put_version(&self.versions, prefix, seq, header, body);
    }

    pub(crate) fn delete_versions(&self, rows: &mut Rows, start: &[u8], end: &[u8]) {
        rows.delete_range(&self.versions, start, end);
    }

    pub(crate) fn put_expiry(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.put(&self.expiry, key, value);
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

/// A database that can be written to, and is changed by that as little as its files are.
fn link_database(path: &Path) -> Result<TempDir> {
    let files = tempfile::Builder::new().prefix("etagdb-").tempdir().map_err(Error::io)?;
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

/// What [`Rocks::count_rows`] counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowCount {
    pub(crate) rows: u64,
    pub(crate) deletions: u64,
}

/// What a sorted file holds: the rows from one key to another, both included.
pub(crate) struct SortedFile {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
    pub(crate) rows: u64,
}

/// Finds documents in the rows that were there when it was made.
pub(crate) struct Reader<'a> {
    raw: DBRawIterator<'a>,
    key: Vec<u8>,
}

impl Reader<'_> {
    /// As [`Rocks::newest`].
    pub(crate) fn newest<T>(
        &mut self,
        document_prefix: &[u8],
        at: u64,
        look: impl FnOnce(u64, VersionHeader, &[u8]) -> T,
    ) -> Result<Option<T>> {
        self.key.clear();
        self.key.extend_from_slice(document_prefix);
        encoding::push_seq(&mut self.key, at);
        self.raw.seek(&self.key);
        let Some((found, value)) = self.raw.item() else {
            self.raw.status().map_err(failure)?;
            return Ok(None);
        };
        let (prefix, seq) = encoding::split_version_key(found)?;
        if prefix != document_prefix {
            return Ok(None);
        }
        let (header, body) = VersionHeader::decode(value)?;
        Ok(Some(look(seq, header, body)))
    }
}

/// See [`Rocks::keep_files`].
pub(crate) struct KeptFiles<'a> {
    db: &'a DB,
}

impl Drop for KeptFiles<'_> {
    fn drop(&mut self) {
        // It only counts down; what is left over is deleted at the next opening at the latest.
        let _ = self.db.enable_file_deletions();
    }
}

/// A position among the rows of a family. It sees the rows that were there when it was made, and no others.
pub(crate) struct Cursor<'a> {
    raw: DBRawIterator<'a>,
}

impl Cursor<'_> {
    /// The row here, key and value; `None` at the end.
    pub(crate) fn row(&self) -> Result<Option<(&[u8], &[u8])>> {
        let row = self.raw.item();
        if row.is_none() {
            // The end and a failed read look the same until asked.
            self.raw.status().map_err(failure)?;
        }
        Ok(row)
    }

    pub(crate) fn advance(&mut self) {
        self.raw.next();
    }

    pub(crate) fn retreat(&mut self) {
        self.raw.prev();
    }

    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.raw.seek(key);
    }

    /// Goes to the last row at or before `key`, wherever the cursor began.
    pub(crate) fn seek_back(&mut self, key: &[u8]) {
        self.raw.seek_for_prev(key);
    }
}

fn families(options: &Options) -> [ColumnFamilyDescriptor; 4] {
    let cache = Cache::new_hyper_clock_cache(options.cache_bytes, 0);
    [
        ColumnFamilyDescriptor::new(META, family_options(&cache, options)),
        ColumnFamilyDescriptor::new(VERSIONS, versions_options(&cache, options)),
        ColumnFamilyDescriptor::new(FEED, family_options(&cache, options)),
        ColumnFamilyDescriptor::new(EXPIRY, family_options(&cache, options)),
    ]
}

fn database_options(create: bool) -> rocksdb::Options {
    let mut rocks = rocksdb::Options::default();
    rocks.create_if_missing(create);
    rocks.create_missing_column_families(create);
    // Left at its default on purpose: `paranoid_checks` (on: without it background errors vanish).
    //
    // The files of all families are of one moment, which is what their log is replayed from (`log`).
    rocks.set_atomic_flush(true);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    rocks.set_max_background_jobs(i32::try_from(cores.clamp(2, 8)).unwrap_or(2));
    // RocksDB's default keeps every file open. Running out of descriptors once ends writing for good, and a server
    // has connections to hold under the common limit of 1,024.
    rocks.set_max_open_files(512);
    // Writes out dirty pages steadily instead of all at the end of a file; no effect on what is durable.
    rocks.set_bytes_per_sync(1 << 20);
    rocks.set_log_level(LogLevel::Warn);
    rocks.set_keep_log_file_num(4);
    rocks.set_max_log_file_size(4 << 20);
    rocks.set_stats_dump_period_sec(0);
    rocks
}

fn family_options(cache: &Cache, options: &Options) -> rocksdb::Options {
    let mut rocks = rocksdb::Options::default();
    rocks.set_write_buffer_size(options.write_buffer_bytes);
    rocks.set_compression_type(DBCompressionType::Lz4);
    rocks.set_block_based_table_factory(&table_options(cache));
    rocks
}

fn versions_options(cache: &Cache, options: &Options) -> rocksdb::Options {
    let mut rocks = family_options(cache, options);
    let prefix = SliceTransform::create(c"etagdb.document", encoding::filter_prefix, Some(|key: &[u8]| key.len() > 8));
    rocks.set_prefix_extractor(prefix);
    // A read of an id that is only in files need not search the memory tables, and the other way round.
    rocks.set_memtable_prefix_bloom_ratio(0.05);
    let mut table = table_options(cache);
    // Nobody asks for a version by its whole key, so filters hold document prefixes only.
    table.set_whole_key_filtering(false);
    table.set_bloom_filter(10.0, false);
    rocks.set_block_based_table_factory(&table);
    rocks
}

fn table_options(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Index and filter blocks count against the cache, so that memory is what the options say.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
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

    /// A store whose log ended in a void record was refused at the opening after the next, as one that has lost what had
    /// been acknowledged: the log was gone, and what RocksDB had did not reach as far.
    #[test]
    fn what_is_void_at_the_end_of_the_log_is_not_missed_when_the_log_is_gone() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("rocksdb");
        let options = Options::default();
        let written_and_void = |rocks: &Rocks| {
            let mut rows = Rows::default();
            rocks.put_meta(&mut rows, b"a", b"x");
            rocks.write(&mut rows).expect("write");
            let mut log = rocks.log.writer();
            let written = log.append(&mut Rows::default(), &rocks.meta, || Ok(0)).expect("append");
            log.take_back(&written).expect("take back");
        };
        let rocks = Rocks::open(&path, &options, true, |_| Ok(())).expect("create");
        written_and_void(&rocks);
        let mark = rocks.log_end();
        drop(rocks);
        for _ in 0..2 {
            let ends = |end: &End| end.check(mark, "DURABLE");
            drop(Rocks::open(&path, &options, false, ends).expect("open"));
        }
        let rocks = Rocks::open(&path, &options, false, |_| Ok(())).expect("open");
        written_and_void(&rocks);
        rocks.finish().expect("finish");
        assert!(segment::segments(&path.with_file_name(LOG_DIR)).expect("list").is_empty(), "closed without a log");
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
