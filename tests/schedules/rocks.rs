//! The engine's `rocks.rs` over a disk in memory. Owns rows, not documents; nothing of RocksDB is in it.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use crate::backlog::Backlog;
use crate::disk::{self, Change, Disk, FEED, META, VERSIONS};
use crate::encoding::{self, CollectionNumber, FeedKind, VersionHeader};
use crate::error::Result;
use crate::options::Options;

const EXPIRY: usize = 3;

/// Where a log ends: how many records it has.
pub(crate) type End = u64;

pub(crate) struct Rocks {
    disk: Disk,
    pub(crate) backlog: Backlog,
}

#[derive(Default)]
pub(crate) struct Rows {
    changes: Vec<Change>,
    are_old: bool,
    last_seq: u64,
}

impl Rows {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// As if they were so long that every second commit makes a batch of the backlog, and some twenty are too many.
    pub(crate) fn len(&self) -> usize {
        self.changes.len() * (30 << 10)
    }

    pub(crate) fn are_new(&self) -> bool {
        !self.are_old
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(crate) fn append(&mut self, other: &Rows) {
        self.last_seq = self.last_seq.max(other.last_seq);
        self.changes.extend_from_slice(&other.changes);
    }

    fn change(&mut self, change: Change) {
        self.are_old = true;
        self.changes.push(change);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.changes.capacity() > 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Rows { changes: std::mem::take(&mut self.changes), ..Rows::default() };
        self.changes.clear();
    }
}

/// What the engine compacts by; there is nothing to compact.
pub(crate) struct RowCount {
    pub(crate) rows: u64,
    pub(crate) deletions: u64,
}

impl Rocks {
    pub(crate) fn open(
        path: &Path,
        options: &Options,
        _: bool,
        check: impl FnOnce(&End) -> Result<()>,
    ) -> Result<Rocks> {
        Rocks::open_read_only(path, options, check)
    }

    pub(crate) fn open_read_only(
        path: &Path,
        options: &Options,
        check: impl FnOnce(&End) -> Result<()>,
    ) -> Result<Rocks> {
        let rocks = Rocks::open_files(path, options)?;
        check(&rocks.log_end())?;
        Ok(rocks)
    }

    pub(crate) fn open_files(path: &Path, _: &Options) -> Result<Rocks> {
        Ok(Rocks { disk: Disk::at(path)?, backlog: Backlog::new(2) })
    }

    pub(crate) fn write(&self, rows: &mut Rows) -> Result<()> {
        while self.backlog.is_full() && self.apply_oldest()? {}
        let _writer = self.disk.writer();
        let are_new = rows.are_new();
        if !are_new || self.disk.has_refused() {
            self.apply_backlog()?;
            self.disk.apply(&[])?;
        }
        self.disk.append(rows.changes.clone())?;
        self.backlog.push(rows);
        if !are_new {
            let _ = self.apply_backlog();
        }
        Ok(())
    }

    fn apply_backlog(&self) -> Result<()> {
        self.backlog.close();
        while self.apply_oldest()? {}
        Ok(())
    }

    pub(crate) fn apply_oldest(&self) -> Result<bool> {
        self.backlog.bring(|rows| self.disk.apply(&rows.changes))
    }

    fn apply_all(&self) -> Result<()> {
        let _nobody_writes = self.disk.writer();
        self.apply_backlog()
    }

    /// The rows as they are now: those that the database does not have yet are looked for first.
    fn rows(&self) -> Arc<disk::Rows> {
        let batches = self.backlog.batches();
        let mut rows = self.disk.rows();
        for batch in batches {
            disk::apply(Arc::make_mut(&mut rows), &batch.changes);
        }
        rows
    }

    pub(crate) fn try_writing(&self) -> Result<()> {
        self.write(&mut Rows::default())
    }

    pub(crate) fn log_end(&self) -> u64 {
        self.disk.log_end()
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.disk.sync()
    }

    pub(crate) fn flush(&self) -> Result<()> {
        self.apply_all()?;
        self.disk.sync()
    }

    pub(crate) fn finish(&self) -> Result<()> {
        self.flush()
    }

    fn cursor(&self, family: usize, start: Vec<u8>, end: Option<Vec<u8>>) -> Cursor<'_> {
        let mut cursor = Cursor { rows: self.rows(), family, start, end, at: None, of: std::marker::PhantomData };
        cursor.seek(&cursor.start.clone());
        cursor
    }

    pub(crate) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.rows()[META].get(key).cloned())
    }

    pub(crate) fn meta_rows(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let rows = self.rows();
        let found = rows[META].range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    pub(crate) fn last_feed_row(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        Ok(self.rows()[FEED].last_key_value().map(|(key, value)| (key.clone(), value.clone())))
    }

    fn feed_position(&self, seq: u64) -> Result<Option<encoding::FeedPosition>> {
        let rows = self.rows();
        let row = rows[FEED].range(..=encoding::feed_key(seq).to_vec()).next_back();
        row.map(|(key, value)| encoding::feed_position(key, value)).transpose()
    }

    pub(crate) fn end_of_batch(&self, seq: u64) -> Result<u64> {
        Ok(self.feed_position(seq)?.map_or(seq, |position| position.end.max(seq)))
    }

    pub(crate) fn has_feed_row(&self, seq: u64) -> Result<bool> {
        Ok(self.rows()[FEED].contains_key(&encoding::feed_key(seq)[..]))
    }

    pub(crate) fn time_of(&self, seq: u64) -> Result<u64> {
        Ok(self.feed_position(seq)?.map_or(0, |position| position.time_ms))
    }

    pub(crate) fn newest<T>(
        &self,
        document_prefix: &[u8],
        at: u64,
        look: impl FnOnce(u64, VersionHeader, &[u8]) -> T,
    ) -> Result<Option<T>> {
        self.reader().newest(document_prefix, at, look)
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        let applied = self.backlog.applied();
        Reader { rocks: self, applied, rows: self.disk.rows() }
    }

    pub(crate) fn version<T>(
        &self,
        document_prefix: &[u8],
        seq: u64,
        look: impl FnOnce(VersionHeader, &[u8]) -> T,
    ) -> Result<Option<T>> {
        let mut key = document_prefix.to_vec();
        encoding::push_seq(&mut key, seq);
        let rows = self.rows();
        let Some(value) = rows[VERSIONS].get(&key) else { return Ok(None) };
        let (header, body) = VersionHeader::decode(value)?;
        Ok(Some(look(header, body)))
    }

    pub(crate) fn versions(&self, start: &[u8], end: Vec<u8>) -> Cursor<'_> {
        self.cursor(VERSIONS, start.to_vec(), Some(end))
    }

    pub(crate) fn versions_from_start(&self) -> Cursor<'_> {
        self.versions(b"", vec![0xff; 4])
    }

    pub(crate) fn versions_back(&self, start: Vec<u8>, end: Vec<u8>) -> Cursor<'_> {
        let mut cursor = self.cursor(VERSIONS, start, Some(end.clone()));
        cursor.at = cursor.last_before(Bound::Excluded(end));
        cursor
    }

    pub(crate) fn expiry(&self, start: &[u8]) -> Cursor<'_> {
        let mut cursor = self.cursor(EXPIRY, Vec::new(), None);
        cursor.seek(start);
        cursor
    }

    pub(crate) fn feed(&self, from: u64, to: u64) -> Cursor<'_> {
        let end = to.checked_add(1).map(|end| encoding::feed_key(end).to_vec());
        let mut cursor = self.cursor(FEED, Vec::new(), end);
        cursor.seek(&encoding::feed_key(from));
        cursor
    }

    pub(crate) fn feed_rows(&self) -> Cursor<'_> {
        self.cursor(FEED, Vec::new(), None)
    }

    pub(crate) fn trimmed_families(&self) -> [&'static str; 2] {
        ["versions", "feed"]
    }

    pub(crate) fn count_rows(&self, _: &'static str) -> Result<RowCount> {
        Ok(RowCount { rows: 0, deletions: 0 })
    }

    pub(crate) fn compact(&self, _: &'static str, _: impl FnOnce() -> bool) {}

    pub(crate) fn abandon_compaction(&self) {}

    /// Files are removed at once, whatever becomes of the log.
    pub(crate) fn reclaim_versions(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.disk.forget_versions(start, end);
        Ok(())
    }

    pub(crate) fn checkpoint(&self, path: &Path) -> Result<()> {
        self.apply_all()?;
        self.disk.copy(path);
        Ok(())
    }

    pub(crate) fn put_meta(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.change(Change::Put(META, key.to_vec(), value.to_vec()));
    }

    pub(crate) fn delete_meta(&self, rows: &mut Rows, key: &[u8]) {
        rows.change(Change::Delete(META, key.to_vec()));
    }

    pub(crate) fn put_version(&self, rows: &mut Rows, prefix: &[u8], seq: u64, header: &VersionHeader, body: &[u8]) {
        self.backlog.note(prefix, seq);
        let (mut key, mut value) = (prefix.to_vec(), Vec::new());
        encoding::push_seq(&mut key, seq);
        header.encode(&mut value);
        value.extend_from_slice(body);
        rows.changes.push(Change::Put(VERSIONS, key, value));
    }

    pub(crate) fn delete_version(&self, rows: &mut Rows, key: &[u8]) {
        rows.change(Change::Delete(VERSIONS, key.to_vec()));
    }

    pub(crate) fn delete_versions(&self, rows: &mut Rows, start: &[u8], end: &[u8]) {
        rows.change(Change::DeleteRange(VERSIONS, start.to_vec(), end.to_vec()));
    }

    pub(crate) fn put_expiry(&self, rows: &mut Rows, key: &[u8], value: &[u8]) {
        rows.changes.push(Change::Put(EXPIRY, key.to_vec(), value.to_vec()));
    }

    pub(crate) fn delete_expiry(&self, rows: &mut Rows, key: &[u8]) {
        rows.change(Change::Delete(EXPIRY, key.to_vec()));
    }

    pub(crate) fn put_feed(
        &self,
        rows: &mut Rows,
        seq: u64,
        kind: FeedKind,
        rest: u32,
        version: &VersionHeader,
        (collection, id): (CollectionNumber, &[u8]),
    ) {
        rows.last_seq = rows.last_seq.max(seq);
        let mut value = Vec::new();
        encoding::push_feed_value(&mut value, kind, rest, version, collection, id);
        rows.changes.push(Change::Put(FEED, encoding::feed_key(seq).to_vec(), value));
    }

    pub(crate) fn delete_feed(&self, rows: &mut Rows, key: &[u8]) {
        rows.change(Change::Delete(FEED, key.to_vec()));
    }
}

/// Finds documents in the rows that were there when it was made, or later.
pub(crate) struct Reader<'a> {
    rocks: &'a Rocks,
    applied: u64,
    rows: Arc<disk::Rows>,
}

impl Reader<'_> {
    pub(crate) fn newest<T>(
        &mut self,
        document_prefix: &[u8],
        at: u64,
        look: impl FnOnce(u64, VersionHeader, &[u8]) -> T,
    ) -> Result<Option<T>> {
        let mut key = document_prefix.to_vec();
        encoding::push_seq(&mut key, at);
        let rows = match self.rocks.backlog.has_later(document_prefix, self.applied) {
            false => Arc::clone(&self.rows),
            true => self.rocks.rows(),
        };
        let Some((found, value)) = rows[VERSIONS].range(key..).next() else { return Ok(None) };
        let (prefix, seq) = encoding::split_version_key(found)?;
        if prefix != document_prefix {
            return Ok(None);
        }
        let (header, body) = VersionHeader::decode(value)?;
        Ok(Some(look(seq, header, body)))
    }
}

/// A position among the rows of a family that were there when it was made.
pub(crate) struct Cursor<'a> {
    rows: Arc<disk::Rows>,
    family: usize,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    at: Option<Vec<u8>>,
    of: std::marker::PhantomData<&'a Rocks>,
}

impl Cursor<'_> {
    pub(crate) fn row(&self) -> Result<Option<(&[u8], &[u8])>> {
        let row = self.at.as_ref().and_then(|at| self.rows[self.family].get_key_value(at));
        Ok(row.map(|(key, value)| (&key[..], &value[..])))
    }

    fn first_after(&self, bound: Bound<Vec<u8>>) -> Option<Vec<u8>> {
        let (key, _) = self.rows[self.family].range((bound, Bound::Unbounded)).next()?;
        self.end.as_ref().is_none_or(|end| key < end).then(|| key.clone())
    }

    fn last_before(&self, bound: Bound<Vec<u8>>) -> Option<Vec<u8>> {
        let (key, _) = self.rows[self.family].range((Bound::Unbounded, bound)).next_back()?;
        (*key >= self.start).then(|| key.clone())
    }

    pub(crate) fn advance(&mut self) {
        self.at = self.at.take().and_then(|at| self.first_after(Bound::Excluded(at)));
    }

    pub(crate) fn retreat(&mut self) {
        self.at = self.at.take().and_then(|at| self.last_before(Bound::Excluded(at)));
    }

    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.at = self.first_after(Bound::Included(key.to_vec()));
    }

    pub(crate) fn seek_back(&mut self, key: &[u8]) {
        self.at = self.last_before(Bound::Included(key.to_vec()));
    }
}
