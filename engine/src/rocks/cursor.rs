//! Going through rows: those of RocksDB, and between them those that it does not have yet (`backlog`). Owns the order of the
//! two; writes nothing.

use std::cmp::Ordering;
use std::ops::Range;

use rocksdb::DBRawIterator;

use super::{Rocks, VERSIONS, failure};
use crate::backlog::Batches;
use crate::encoding::{self, VersionHeader};
use crate::error::Result;
use crate::rows::RowTypes;

/// Rows of one family that were not in RocksDB at some moment, in the order of their keys.
#[derive(Default)]
pub(super) struct Unapplied {
    batches: Batches,
    places: Vec<Place>,
}

/// Where a row is.
struct Place {
    batch: usize,
    key: Range<usize>,
    value: Range<usize>,
}

impl Unapplied {
    /// The rows of the family of `types` that `is_wanted` by their keys.
    pub(super) fn new(
        batches: Batches,
        types: &RowTypes,
        all: [&RowTypes; 4],
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Unapplied {
        let mut places = Vec::new();
        for (batch, rows) in batches.iter().enumerate() {
            let puts = rows.puts(types, all).filter(|(key, _)| is_wanted(rows.get(key)));
            places.extend(puts.map(|(key, value)| Place { batch, key, value }));
        }
        places.sort_unstable_by(|a, b| batches[a.batch].get(&a.key).cmp(batches[b.batch].get(&b.key)));
        Unapplied { batches, places }
    }

    pub(super) fn row(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let place = self.places.get(index)?;
        let batch = &self.batches[place.batch];
        Some((batch.get(&place.key), batch.get(&place.value)))
    }

    /// How many rows come before `key`, or are at it if that `is_included`.
    fn count_before(&self, key: &[u8], is_included: bool) -> usize {
        self.places.partition_point(|place| match self.batches[place.batch].get(&place.key).cmp(key) {
            Ordering::Less => true,
            Ordering::Equal => is_included,
            Ordering::Greater => false,
        })
    }
}

/// A position among the rows of a family. It sees the rows that were there when it was made, and no others. Whoever goes
/// back has begun at the end or looked for a place from there.
pub(crate) struct Cursor<'a> {
    raw: DBRawIterator<'a>,
    unapplied: Unapplied,
    /// So many of those come before this place, the one at it not included on the way forward, included on the way back.
    before: usize,
    goes_back: bool,
}

impl<'a> Cursor<'a> {
    /// `raw` was made after `unapplied`, and is nowhere yet; so is the cursor.
    pub(super) fn new(raw: DBRawIterator<'a>, unapplied: Unapplied) -> Cursor<'a> {
        Cursor { raw, unapplied, before: 0, goes_back: false }
    }

    /// The row here, key and value; `None` at the end.
    pub(crate) fn row(&self) -> Result<Option<(&[u8], &[u8])>> {
        let stored = self.raw.item();
        if stored.is_none() {
            // The end and a failed read look the same until asked.
            self.raw.status().map_err(failure)?;
        }
        Ok(match self.order() {
            Ordering::Greater => self.next_unapplied(),
            Ordering::Less | Ordering::Equal => stored,
        })
    }

    pub(crate) fn advance(&mut self) {
        let order = self.order();
        if order != Ordering::Greater && self.raw.valid() {
            self.raw.next();
        }
        if order != Ordering::Less {
            self.before += 1;
        }
    }

    pub(crate) fn retreat(&mut self) {
        let order = self.order();
        if order != Ordering::Greater && self.raw.valid() {
            self.raw.prev();
        }
        if order != Ordering::Less {
            self.before = self.before.saturating_sub(1);
        }
    }

    /// Goes to the first row at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.raw.seek(key);
        (self.before, self.goes_back) = (self.unapplied.count_before(key, false), false);
    }

    /// Goes to the last row at or before `key`.
    pub(crate) fn seek_back(&mut self, key: &[u8]) {
        self.raw.seek_for_prev(key);
        (self.before, self.goes_back) = (self.unapplied.count_before(key, true), true);
    }

    /// Goes to the first row of all.
    pub(super) fn seek_to_first(&mut self) {
        self.raw.seek_to_first();
        (self.before, self.goes_back) = (0, false);
    }

    /// Goes to the last row of all.
    pub(super) fn seek_to_last(&mut self) {
        self.raw.seek_to_last();
        (self.before, self.goes_back) = (self.unapplied.places.len(), true);
    }

    fn next_unapplied(&self) -> Option<(&[u8], &[u8])> {
        match self.goes_back {
            false => self.unapplied.row(self.before),
            true => self.unapplied.row(self.before.checked_sub(1)?),
        }
    }

    /// Which of the two rows comes first, the stored one (`Less`) or the unapplied one; `Equal` when they are the same.
    fn order(&self) -> Ordering {
        let Some((unapplied, _)) = self.next_unapplied() else { return Ordering::Less };
        match self.raw.key() {
            None => Ordering::Greater,
            Some(stored) if self.goes_back => unapplied.cmp(stored),
            Some(stored) => stored.cmp(unapplied),
        }
    }
}

/// Finds documents in the rows that were there when it was made, or later.
pub(crate) struct Reader<'a> {
    rocks: &'a Rocks,
    /// The commit up to which `stored` has everything.
    applied: u64,
    stored: Cursor<'a>,
    key: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rocks: &'a Rocks) -> Reader<'a> {
        let applied = rocks.backlog.applied();
        let stored = Cursor::new(rocks.document_rows(), Unapplied::default());
        Reader { rocks, applied, stored, key: Vec::new() }
    }

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
        let mut fresh;
        let cursor = match self.rocks.backlog.has_later(document_prefix, self.applied) {
            false => &mut self.stored,
            true => {
                let unapplied = self.rocks.unapplied(VERSIONS, |key| key.starts_with(document_prefix));
                fresh = Cursor::new(self.rocks.document_rows(), unapplied);
                &mut fresh
            }
        };
        cursor.seek(&self.key);
        let Some((found, value)) = cursor.row()? else { return Ok(None) };
        let (prefix, seq) = encoding::split_version_key(found)?;
        if prefix != document_prefix {
            return Ok(None);
        }
        let (header, body) = VersionHeader::decode(value)?;
        Ok(Some(look(seq, header, body)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::Options;
    use crate::encoding::{FeedKind, VersionKind};
    use crate::rocks::Rows;

    /// What happens between two writes.
    #[derive(Debug, Clone, Copy)]
    enum Then {
        Nothing,
        /// Somebody reads, so the rows up to here are a batch.
        Read,
        /// The oldest batch is brought to RocksDB.
        Apply,
        /// RocksDB has everything, in a file.
        Flush,
    }

    fn then() -> impl Strategy<Value = Then> {
        prop_oneof![4 => Just(Then::Nothing), 3 => Just(Then::Read), 2 => Just(Then::Apply), 1 => Just(Then::Flush)]
    }

    fn prefix(document: usize) -> Vec<u8> {
        encoding::document_prefix(1, format!("doc-{document}").as_bytes()).to_vec()
    }

    fn key(document: usize, seq: u64) -> Vec<u8> {
        let mut key = prefix(document);
        encoding::push_seq(&mut key, seq);
        key
    }

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    /// Writes a version, a feed row and an expiry for each sequence from 1 on.
    fn write(rocks: &Rocks, steps: &[(usize, Then)]) -> [Model; 2] {
        let [mut versions, mut expiries] = [Model::new(), Model::new()];
        for (seq, (document, then)) in (1..).zip(steps) {
            let kind = VersionKind::Document;
            let header = VersionHeader { kind, time_ms: seq, previous: 0, created: 0, ttl_ms: None };
            let (mut rows, body, expiry) = (Rows::default(), format!("body {seq}"), format!("expiry {document}/{seq}"));
            rocks.put_version(&mut rows, &prefix(*document), seq, &header, body.as_bytes());
            rocks.put_feed(&mut rows, seq, FeedKind::Created, 0, &header, (1, &prefix(*document)));
            rocks.put_expiry(&mut rows, expiry.as_bytes(), b"value");
            rocks.write(&mut rows).expect("write");
            let mut value = Vec::new();
            header.encode(&mut value);
            value.extend_from_slice(body.as_bytes());
            versions.insert(key(*document, seq), value);
            expiries.insert(expiry.into_bytes(), b"value".to_vec());
            match then {
                Then::Nothing => {}
                Then::Read => drop(rocks.backlog.batches()),
                Then::Apply => drop(rocks.apply_oldest().expect("apply")),
                Then::Flush => rocks.flush().expect("flush"),
            }
        }
        [versions, expiries]
    }

    fn rest<'a>(mut cursor: Cursor<'a>, step: fn(&mut Cursor<'a>)) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        while let Some((key, value)) = cursor.row().expect("read") {
            rows.push((key.to_vec(), value.to_vec()));
            step(&mut cursor);
        }
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Whatever of the log RocksDB has, all reads find all rows, each once and in order.
        #[test]
        fn rows_are_read_wherever_they_are(
            steps in prop::collection::vec((0..4_usize, then()), 1..40),
            places in prop::collection::vec((0..4_usize, 0..41_u64), 8),
        ) {
            let dir = tempfile::tempdir().expect("temporary directory");
            let options = Options::default();
            let rocks = Rocks::open(&dir.path().join("rocksdb"), &options, true, |_| Ok(())).expect("create");
            let [versions, expiries] = write(&rocks, &steps);
            let rows = |range: Model| range.into_iter().collect::<Vec<_>>();
            prop_assert_eq!(rest(rocks.versions_from_start(), Cursor::advance), rows(versions.clone()));
            prop_assert_eq!(rest(rocks.expiry(b""), Cursor::advance), rows(expiries));
            let newest = steps.len() as u64;
            let fed = rest(rocks.feed(0, u64::MAX), Cursor::advance);
            prop_assert_eq!(fed.len() as u64, newest);
            prop_assert_eq!(rocks.last_feed_row().expect("read"), fed.last().cloned());
            for &(document, seq) in &places {
                let (start, end) = (key(document, seq), encoding::after_document(&prefix(3)));
                let from = versions.range(start.clone()..end.clone()).map(|(key, value)| (key.clone(), value.clone()));
                let from: Vec<_> = from.collect();
                prop_assert_eq!(rest(rocks.versions(&start, end.clone()), Cursor::advance), from.clone());
                let mut back = rest(rocks.versions_back(start.clone(), end), Cursor::retreat);
                back.reverse();
                prop_assert_eq!(back, from);
                let mut cursor = rocks.versions_from_start();
                cursor.seek_back(&start);
                let mut back = rest(cursor, Cursor::retreat);
                back.reverse();
                let up_to = versions.range(..=start.clone()).map(|(key, value)| (key.clone(), value.clone()));
                prop_assert_eq!(back, up_to.collect::<Vec<_>>());

                let at_most = steps[..(seq.min(newest) as usize)].iter().rposition(|(other, _)| *other == document);
                let found = rocks.newest(&prefix(document), seq, |seq, _, body| (seq, body.to_vec())).expect("read");
                let wanted = at_most.map(|index| (index as u64 + 1, format!("body {}", index + 1).into_bytes()));
                prop_assert_eq!(found, wanted);
                let is_there = rocks.version(&prefix(document), seq, |_, _| ()).expect("read").is_some();
                prop_assert_eq!(is_there, versions.contains_key(&start));
                prop_assert_eq!(rocks.has_feed_row(seq).expect("read"), (1..=newest).contains(&seq));
                prop_assert_eq!(rocks.time_of(seq).expect("read"), seq.min(newest));
            }
        }
    }

    /// A row that RocksDB gets between a reader's look at the backlog and its look into RocksDB is there twice.
    #[test]
    fn a_row_that_is_in_both_is_read_once() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let rocks = Rocks::open(&dir.path().join("rocksdb"), &Options::default(), true, |_| Ok(())).expect("create");
        let [versions, _] = write(&rocks, &[(0, Then::Nothing), (1, Then::Nothing), (2, Then::Read), (0, Then::Read)]);
        let unapplied = rocks.unapplied(VERSIONS, |_| true);
        assert!(rocks.apply_oldest().expect("apply"));
        let raw = || rocks.db.raw_iterator_cf(rocks.family(VERSIONS));
        let mut cursor = Cursor::new(raw(), unapplied);
        cursor.seek(b"");
        let forward = rest(cursor, Cursor::advance);
        assert_eq!(forward, versions.clone().into_iter().collect::<Vec<_>>());
        let batches = rocks.unapplied(VERSIONS, |_| true);
        rocks.flush().expect("flush");
        let mut cursor = Cursor::new(raw(), batches);
        cursor.seek_to_last();
        let back = rest(cursor, Cursor::retreat);
        assert_eq!(back, versions.into_iter().rev().collect::<Vec<_>>());
    }
}
