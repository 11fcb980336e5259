//! The only file that names RocksDB. Owns its options and turns its errors into ours; knows rows, not documents.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    DBRawIterator, LogLevel, ReadOptions, SliceTransform, WriteOptions,
};

use crate::encoding::{self, VersionHeader};
use crate::error::{Error, Result};
use crate::options::Options;

const META: &str = rocksdb::DEFAULT_COLUMN_FAMILY_NAME;
const VERSIONS: &str = "versions";
const FEED: &str = "feed";
const EXPIRY: &str = "expiry";

/// An open database.
pub(crate) struct Rocks {
    db: DB,
    compacting: AtomicBool,
}

/// A write batch under construction: rows of all families, applied together.
#[derive(Default)]
pub(crate) struct Rows {
    batch: rocksdb::WriteBatch,
}

impl Rocks {
    /// Opens the database in `path`. A missing database is created only when `create` says so, because RocksDB takes
    /// a directory that lost its `CURRENT` file for a new one and deletes what else it finds there.
    pub(crate) fn open(path: &Path, options: &Options, create: bool) -> Result<Rocks> {
        let cache = Cache::new_hyper_clock_cache(options.cache_bytes, 0);
        let families = [
            ColumnFamilyDescriptor::new(META, family_options(&cache, options)),
            ColumnFamilyDescriptor::new(VERSIONS, versions_options(&cache, options)),
            ColumnFamilyDescriptor::new(FEED, family_options(&cache, options)),
            ColumnFamilyDescriptor::new(EXPIRY, family_options(&cache, options)),
        ];
        let db = DB::open_cf_descriptors(&database_options(options, create), path, families).map_err(failure)?;
        Ok(Rocks { db, compacting: AtomicBool::new(false) })
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        // All are opened together or opening fails, and none is ever dropped.
        self.db.cf_handle(name).expect("column family opened with the database")
    }

    /// Writes all rows as one. With `sync`, returns when the log is on disk.
    pub(crate) fn write(&self, rows: Rows, sync: bool) -> Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(rows.batch, &options).map_err(failure)
    }

    /// Syncs the log: all that was written before this call is on disk on return.
    pub(crate) fn sync(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(failure)
    }

    /// Writes the memory tables to files, so that the next open has no log to replay.
    pub(crate) fn flush(&self) -> Result<()> {
        for name in [VERSIONS, FEED, EXPIRY, META] {
            self.db.flush_cf(self.family(name)).map_err(failure)?;
        }
        Ok(())
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
        iterator.seek(encoding::feed_key(seq));
        let mut end = seq;
        while let Some((key, value)) = iterator.item() {
            let row = encoding::feed_position(key, value)?;
            // A batch has consecutive sequences, so a gap is nobody's.
            if row.seq != end || row.last {
                break;
            }
            end += 1;
            iterator.next();
        }
        iterator.status().map_err(failure)?;
        Ok(end)
    }

    /// Shows `look` the newest version at or below `at` of the document with this prefix, if there is one.
    pub(crate) fn newest<T>(
        &self,
        document_prefix: &[u8],
        at: u64,
        look: impl FnOnce(u64, VersionHeader, &[u8]) -> T,
    ) -> Result<Option<T>> {
        let mut options = ReadOptions::default();
        // The prefix filters may be used: all that is asked for shares one prefix.
        options.set_prefix_same_as_start(true);
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(VERSIONS), options);
        let mut key = Vec::with_capacity(document_prefix.len() + 8);
        key.extend_from_slice(document_prefix);
        encoding::push_seq(&mut key, at);
        iterator.seek(&key);
        let Some((found, value)) = iterator.item() else {
            iterator.status().map_err(failure)?;
            return Ok(None);
        };
        let (prefix, seq) = encoding::split_version_key(found)?;
        if prefix != document_prefix {
            return Ok(None);
        }
        let (header, body) = VersionHeader::decode(value)?;
        Ok(Some(look(seq, header, body)))
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

    /// A cursor over the feed from sequence `start` on.
    pub(crate) fn feed(&self, start: u64) -> Cursor<'_> {
        let mut raw = self.db.raw_iterator_cf(self.family(FEED));
        raw.seek(encoding::feed_key(start));
        Cursor { raw }
    }

    /// A cursor over the expiry family from `start` on.
    pub(crate) fn expiry(&self, start: &[u8]) -> Cursor<'_> {
        let mut raw = self.db.raw_iterator_cf(self.family(EXPIRY));
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

    /// Gives the disk space of a dropped collection back soon: whole files at once, the rest at compaction.
    pub(crate) fn reclaim_versions(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.db.delete_file_in_range_cf(self.family(VERSIONS), start, end).map_err(failure)
    }

    /// A RocksDB property of the version family, in bytes or as a count; 0 when RocksDB does not know it.
    pub(crate) fn versions_property(&self, name: &std::ffi::CStr) -> u64 {
        self.db.property_int_value_cf(self.family(VERSIONS), name).ok().flatten().unwrap_or(0)
    }

    pub(crate) fn put_meta(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.batch.put_cf(self.family(META), key, value);
    }

    pub(crate) fn delete_meta(&self, rows: &mut Rows, key: &[u8]) {
        rows.batch.delete_cf(self.family(META), key);
    }

    pub(crate) fn put_version(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.batch.put_cf(self.family(VERSIONS), key, value);
    }

    pub(crate) fn delete_versions(&self, rows: &mut Rows, start: &[u8], end: &[u8]) {
        rows.batch.delete_range_cf(self.family(VERSIONS), start, end);
    }

    pub(crate) fn put_expiry(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.batch.put_cf(self.family(EXPIRY), key, value);
    }

    pub(crate) fn delete_expiry(&self, rows: &mut Rows, key: &[u8]) {
        rows.batch.delete_cf(self.family(EXPIRY), key);
    }

    pub(crate) fn delete_version(&self, rows: &mut Rows, key: &[u8]) {
        rows.batch.delete_cf(self.family(VERSIONS), key);
    }

    pub(crate) fn delete_feed(&self, rows: &mut Rows, key: &[u8]) {
        rows.batch.delete_cf(self.family(FEED), key);
    }

    pub(crate) fn put_feed(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.batch.put_cf(self.family(FEED), key, value);
    }
}

/// What [`Rocks::count_rows`] counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowCount {
    pub(crate) rows: u64,
    pub(crate) deletions: u64,
}

/// A position among rows. It sees the rows that were there when it was made, and no others.
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

    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.raw.seek(key);
    }
}

fn database_options(options: &Options, create: bool) -> rocksdb::Options {
    let mut rocks = rocksdb::Options::default();
    rocks.create_if_missing(create);
    rocks.create_missing_column_families(create);
    // Left at RocksDB's defaults on purpose: `paranoid_checks` (on: without it background errors vanish),
    // `recycle_log_file_num` and `wal_bytes_per_sync` (off: both are known to leave holes in a log after a power
    // cut), `manual_wal_flush` (off).
    //
    // A crash replays at most this much log. Without it the rarely written families would hold old logs for ever.
    rocks.set_max_total_wal_size(2 * options.write_buffer_bytes as u64);
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

    #[test]
    fn families_survive_reopen_and_a_lost_current_file_is_no_new_database() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("rocksdb");
        let options = Options::default();
        let rocks = Rocks::open(&path, &options, true).expect("create");
        let mut rows = Rows::default();
        rocks.put_meta(&mut rows, b"store", b"x");
        rocks.write(rows, true).expect("write");
        drop(rocks);
        let rocks = Rocks::open(&path, &options, false).expect("reopen");
        assert_eq!(rocks.meta(b"store").expect("read"), Some(b"x".to_vec()));
        drop(rocks);
        std::fs::remove_file(path.join("CURRENT")).expect("remove");
        assert!(Rocks::open(&path, &options, false).is_err());
    }
}
