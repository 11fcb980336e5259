//! What is in RocksDB's tables: reading rows, counting them, and the upkeep of files. Owns how each question is put to
//! RocksDB; writes nothing. Where rows are read, those that RocksDB does not have yet are read as well; figures leave them
//! out.

use std::sync::atomic::Ordering;

use rocksdb::{CompactOptions, DB, DBRawIterator, ReadOptions};

use super::cursor::{Cursor, Reader, Unapplied};
use super::{EXPIRY, FEED, META, Rocks, VERSIONS, failure};
use crate::encoding::{self, FeedPosition, VersionHeader};
use crate::error::Result;

impl Rocks {
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
        let mut cursor = self.feed_rows();
        cursor.seek_to_last();
        Ok(cursor.row()?.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    /// The sequence at which the batch that wrote `seq` ends; `seq` itself where nothing was written at it.
    pub(crate) fn end_of_batch(&self, seq: u64) -> Result<u64> {
        Ok(self.feed_position(seq)?.map_or(seq, |position| position.end.max(seq)))
    }

    /// When the commit at `seq` was made, or the last one before it that there is a row of; 0 without one.
    pub(crate) fn time_of(&self, seq: u64) -> Result<u64> {
        Ok(self.feed_position(seq)?.map_or(0, |position| position.time_ms))
    }

    /// What the last feed row says that is at `seq` or before it.
    fn feed_position(&self, seq: u64) -> Result<Option<FeedPosition>> {
        let mut cursor = self.feed_rows();
        cursor.seek_back(&encoding::feed_key(seq));
        cursor.row()?.map(|(key, value)| encoding::feed_position(key, value)).transpose()
    }

    /// Whether there is a feed row of this sequence now.
    pub(crate) fn has_feed_row(&self, seq: u64) -> Result<bool> {
        Ok(self.row(FEED, &encoding::feed_key(seq), seq, |_| ())?.is_some())
    }

    /// Shows `look` the row with this key, which commit `seq` has written, if it is there.
    fn row<T>(&self, family: &str, key: &[u8], seq: u64, look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        if seq > self.backlog.applied()
            && let Some((_, value)) = self.unapplied(family, |other| other == key).row(0)
        {
            return Ok(Some(look(value)));
        }
        // Cheaper than an iterator, which is made anew for each row.
        let value = self.db.get_pinned_cf(self.family(family), key).map_err(failure)?;
        Ok(value.map(|value| look(&value)))
    }

    /// The rows of a family that are not in RocksDB now, and whose keys `is_wanted`. RocksDB is to be asked afterwards.
    pub(super) fn unapplied(&self, family: &str, is_wanted: impl Fn(&[u8]) -> bool) -> Unapplied {
        let batches = self.backlog.batches();
        if batches.is_empty() {
            return Unapplied::default();
        }
        let all = [&self.versions, &self.feed, &self.expiry, &self.meta];
        let types = match family {
            VERSIONS => &self.versions,
            FEED => &self.feed,
            EXPIRY => &self.expiry,
            _ => &self.meta,
        };
        Unapplied::new(batches, types, all, is_wanted)
    }

    /// A cursor over the rows of a family with `start <= key`, and `key < end` if there is one; it is nowhere yet.
    fn cursor(&self, family: &str, mut options: ReadOptions, start: &[u8], end: Option<Vec<u8>>) -> Cursor<'_> {
        let unapplied = self.unapplied(family, |key| start <= key && end.as_ref().is_none_or(|end| key < &end[..]));
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        Cursor::new(self.db.raw_iterator_cf_opt(self.family(family), options), unapplied)
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
        Reader::new(self)
    }

    /// The version rows that RocksDB has now, to look for documents in.
    pub(super) fn document_rows(&self) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        // The prefix filters may be used: all that is asked for at a time shares one prefix.
        options.set_prefix_same_as_start(true);
        self.db.raw_iterator_cf_opt(self.family(VERSIONS), options)
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
        let found = self.row(VERSIONS, &key, seq, |value| {
            let (header, body) = VersionHeader::decode(value)?;
            Ok(look(header, body))
        })?;
        found.transpose()
    }

    /// A cursor over version rows with `start <= key < end`, at the first.
    pub(crate) fn versions(&self, start: &[u8], end: Vec<u8>) -> Cursor<'_> {
        let mut cursor = self.cursor(VERSIONS, of_many_documents(), start, Some(end));
        cursor.seek(start);
        cursor
    }

    /// A cursor over all version rows, at the first.
    pub(crate) fn versions_from_start(&self) -> Cursor<'_> {
        self.versions(b"", vec![0xff; 4])
    }

    /// A cursor over version rows with `start <= key < end`, at the last, to be moved backwards.
    pub(crate) fn versions_back(&self, start: Vec<u8>, end: Vec<u8>) -> Cursor<'_> {
        let mut options = of_many_documents();
        options.set_iterate_lower_bound(start.clone());
        let mut cursor = self.cursor(VERSIONS, options, &start, Some(end));
        cursor.seek_to_last();
        cursor
    }

    /// A cursor over the expiry family from `start` on.
    pub(crate) fn expiry(&self, start: &[u8]) -> Cursor<'_> {
        let mut cursor = self.cursor(EXPIRY, ReadOptions::default(), start, None);
        cursor.seek(start);
        cursor
    }

    /// A cursor over the feed rows of the commits `from` to `to`, both included, at the first.
    pub(crate) fn feed(&self, from: u64, to: u64) -> Cursor<'_> {
        let start = encoding::feed_key(from);
        let end = to.checked_add(1).map(|end| encoding::feed_key(end).to_vec());
        let mut cursor = self.cursor(FEED, ReadOptions::default(), &start, end);
        cursor.seek(&start);
        cursor
    }

    /// A cursor over feed rows that is nowhere yet.
    pub(crate) fn feed_rows(&self) -> Cursor<'_> {
        self.cursor(FEED, ReadOptions::default(), b"", None)
    }

    /// A cursor over all rows of a family, at the first, that reads each block from its file and checks it, and leaves
    /// the cache to others.
    pub(crate) fn walk(&self, family: &str) -> Cursor<'_> {
        let mut options = of_all_that_is_there();
        options.set_verify_checksums(true);
        let mut cursor = self.cursor(family, options, b"", None);
        cursor.seek_to_first();
        cursor
    }

    /// As [`walk`](Rocks::walk), over version rows with `start <= key < end`.
    pub(crate) fn walk_versions(&self, start: &[u8], end: Vec<u8>) -> Cursor<'_> {
        let mut cursor = self.cursor(VERSIONS, of_all_that_is_there(), start, Some(end));
        cursor.seek(start);
        cursor
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

/// How documents are gone through.
fn of_many_documents() -> ReadOptions {
    let mut options = ReadOptions::default();
    // Prefix filters know only whole ids, and a scan asks for many.
    options.set_total_order_seek(true);
    options
}

/// As [`of_many_documents`], where what is read is not read again soon.
fn of_all_that_is_there() -> ReadOptions {
    let mut options = of_many_documents();
    options.fill_cache(false);
    options.set_readahead_size(2 << 20);
    options
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
