//! A RocksDB write batch under construction, as the bytes that RocksDB makes of one. Owns how rows are put into it; never
//! writes it.
//!
//! RocksDB's own builder is called across languages for each row, takes header and body in one piece, which costs a copy
//! of every body, and gives its memory back with each batch. This one is a vector of bytes that is filled in place and
//! used again. What it becomes is what RocksDB has in one record of a log (`WriteBatch::rep_` in RocksDB's
//! `db/write_batch.cc`), which cannot change without making all logs unreadable, and what ours has, too:
//!
//! ```text
//! batch  | 0, u64 | count of rows, u32 LE | rows |
//! row    | tag, u8 | family, varint: not of the default one | key | value, unless it is a deletion |
//! key, value    | length, varint | bytes |
//! ```
//!
//! Tags and families are not assumed but learned: RocksDB is asked once what a row of each kind looks like
//! ([`RowTypes::learn`]).

use std::ops::Range;

use rocksdb::{ColumnFamily, WriteBatch};
use smallvec::SmallVec;

use crate::encoding::{self, CollectionNumber, FeedKind, VersionHeader};
use crate::segment::RECORD_HEAD_BYTES;

const BATCH_HEADER_BYTES: usize = 8 + 4;
/// Where the batch begins: room for the head of its record in the log comes before it.
const BATCH: usize = RECORD_HEAD_BYTES;
/// A batch that has grown beyond this gives its memory back instead of keeping it for the next.
const KEPT_BYTES: usize = 1 << 20;

/// Rows of all families, applied together.
#[derive(Default)]
pub(crate) struct Rows {
    /// Empty, or the room for a record's head and a batch.
    bytes: Vec<u8>,
    count: u32,
    /// Some rows change or delete what may be there, or may be changed themselves.
    changes: bool,
    /// The newest commit that there is a feed row of.
    last_seq: u64,
}

/// What comes before the key in a row of some kind: tag and family.
type RowType = SmallVec<[u8; 6]>;

/// What comes before the key in the rows of one column family.
pub(crate) struct RowTypes {
    put: RowType,
    delete: RowType,
    delete_range: RowType,
}

impl RowTypes {
    /// Asks RocksDB.
    pub(crate) fn learn(family: &ColumnFamily) -> RowTypes {
        // The lengths of empty keys and values are a zero each.
        let ask = |make: &dyn Fn(&mut WriteBatch), zeros: usize| {
            let mut batch = WriteBatch::default();
            make(&mut batch);
            let row = batch.data().get(BATCH_HEADER_BYTES..).unwrap_or_default();
            RowType::from_slice(row.get(..row.len().saturating_sub(zeros)).unwrap_or_default())
        };
        RowTypes {
            put: ask(&|batch| batch.put_cf(family, b"", b""), 2),
            delete: ask(&|batch| batch.delete_cf(family, b""), 1),
            delete_range: ask(&|batch| batch.delete_range_cf(family, b"", b""), 2),
        }
    }
}

impl Rows {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The newest commit that rows are of; 0 without one.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Whether all rows are put under keys that never had a row, and will get no other one.
    pub(crate) fn are_new(&self) -> bool {
        !self.changes
    }

    /// Takes all rows out, and keeps their room.
    pub(crate) fn clear(&mut self) {
        (self.count, self.changes, self.last_seq) = (0, false, 0);
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }

    /// Adds all rows of another batch.
    pub(crate) fn append(&mut self, other: &Rows) {
        if !other.is_empty() {
            self.begin();
            self.changes |= other.changes;
            self.last_seq = self.last_seq.max(other.last_seq);
            self.bytes.extend_from_slice(&other.bytes[BATCH + BATCH_HEADER_BYTES..]);
            self.count_rows(other.count);
        }
    }

    /// Where the keys and values are of the rows that are put into the family of `types`, which is one of `all`.
    pub(crate) fn puts<'a>(
        &'a self,
        types: &'a RowTypes,
        all: [&'a RowTypes; 4],
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + 'a {
        let mut at = BATCH + BATCH_HEADER_BYTES;
        std::iter::from_fn(move || {
            loop {
                let rest = self.bytes.get(at..)?;
                let kinds = all
                    .iter()
                    .flat_map(|types| [(&types.put, true), (&types.delete, false), (&types.delete_range, true)]);
                let (kind, has_value) = kinds.into_iter().find(|(kind, _)| rest.starts_with(kind))?;
                let key = self.bytes_at(at + kind.len())?;
                let value = if has_value { self.bytes_at(key.end)? } else { key.end..key.end };
                at = value.end;
                if *kind == types.put {
                    return Some((key, value));
                }
            }
        })
    }

    /// A key or a value.
    pub(crate) fn get(&self, at: &Range<usize>) -> &[u8] {
        &self.bytes[at.clone()]
    }

    /// What [`push_bytes`] has put at a place.
    fn bytes_at(&self, mut at: usize) -> Option<Range<usize>> {
        let mut len = 0;
        for shift in (0..32).step_by(7) {
            let byte = *self.bytes.get(at)?;
            at += 1;
            len |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(at..at + len);
            }
        }
        None
    }

    /// What RocksDB is to write.
    pub(crate) fn to_batch(&self) -> WriteBatch {
        if self.is_empty() {
            return WriteBatch::default();
        }
        WriteBatch::from_data(self.payload())
    }

    /// The batch.
    pub(crate) fn payload(&self) -> &[u8] {
        self.bytes.get(BATCH..).unwrap_or_default()
    }

    /// The batch, and before it the head of a record.
    pub(crate) fn record(&mut self, head: [u8; RECORD_HEAD_BYTES]) -> &[u8] {
        self.bytes[..BATCH].copy_from_slice(&head);
        &self.bytes
    }

    /// Replaces the end of the value that was put last.
    pub(crate) fn set_last_value(&mut self, value: &[u8]) {
        let at = self.bytes.len() - value.len();
        self.bytes[at..].copy_from_slice(value);
    }

    pub(crate) fn put(&mut self, types: &RowTypes, key: &[u8], value: &[u8]) {
        self.changes = true;
        self.put_new(types, key, value);
    }

    /// A row that is new.
    pub(crate) fn put_new(&mut self, types: &RowTypes, key: &[u8], value: &[u8]) {
        let bytes = self.row(&types.put);
        push_bytes(bytes, key);
        push_bytes(bytes, value);
    }

    pub(crate) fn delete(&mut self, types: &RowTypes, key: &[u8]) {
        self.changes = true;
        push_bytes(self.row(&types.delete), key);
    }

    pub(crate) fn delete_range(&mut self, types: &RowTypes, start: &[u8], end: &[u8]) {
        self.changes = true;
        let bytes = self.row(&types.delete_range);
        push_bytes(bytes, start);
        push_bytes(bytes, end);
    }

    /// A version row, which is new.
    pub(crate) fn put_version(
        &mut self,
        types: &RowTypes,
        document_prefix: &[u8],
        seq: u64,
        header: &VersionHeader,
        body: &[u8],
    ) {
        let bytes = self.row(&types.put);
        push_len(bytes, document_prefix.len() + encoding::SEQ_BYTES);
        bytes.extend_from_slice(document_prefix);
        encoding::push_seq(bytes, seq);
        push_len(bytes, header.encoded_len() + body.len());
        header.encode(bytes);
        bytes.extend_from_slice(body);
    }

    /// A feed row, which is new.
    pub(crate) fn put_feed(
        &mut self,
        types: &RowTypes,
        seq: u64,
        kind: FeedKind,
        rest: u32,
        version: &VersionHeader,
        (collection, id): (CollectionNumber, &[u8]),
    ) {
        // Each version has a feed row after it.
        self.last_seq = self.last_seq.max(seq);
        let bytes = self.row(&types.put);
        push_bytes(bytes, &encoding::feed_key(seq));
        push_len(bytes, encoding::FEED_HEADER_BYTES + id.len());
        encoding::push_feed_value(bytes, kind, rest, version, collection, id);
    }

    /// Begins a row; its key comes next.
    fn row(&mut self, row_type: &RowType) -> &mut Vec<u8> {
        self.begin();
        self.count_rows(1);
        self.bytes.extend_from_slice(row_type);
        &mut self.bytes
    }

    fn begin(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH + BATCH_HEADER_BYTES, 0);
        }
    }

    fn count_rows(&mut self, more: u32) {
        self.count += more;
        let (count, end) = (self.count.to_le_bytes(), BATCH + BATCH_HEADER_BYTES);
        self.bytes[end - count.len()..end].copy_from_slice(&count);
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// A varint of 32 bits: seven of them in each byte, the lowest first, the top bit set in all bytes but the last.
fn push_len(out: &mut Vec<u8>, len: usize) {
    // Ids and bodies are far shorter than four gigabytes (`MAX_BODY_BYTES`).
    let mut rest = len as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::VersionKind;

    fn rocksdb_with_families(path: &std::path::Path) -> rocksdb::DB {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // As many as make the number of one take two bytes.
        let names: Vec<String> = (0..130).map(|n| n.to_string()).collect();
        rocksdb::DB::open_cf(&options, path, names).expect("open")
    }

    #[test]
    fn a_batch_has_the_bytes_that_rocksdb_gives_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let db = rocksdb_with_families(dir.path());
        let long = vec![b'x'; 20_000];
        let header =
            VersionHeader { kind: VersionKind::Document, time_ms: 7, previous: 3, created: 1, ttl_ms: Some(9) };
        for name in [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, "1", "129"] {
            let family = db.cf_handle(name).expect("family");
            let types = RowTypes::learn(family);
            let (mut ours, mut theirs) = (Rows::default(), WriteBatch::default());
            for bytes in [&b""[..], b"a", &long[..127], &long[..128], &long] {
                ours.put(&types, bytes, bytes);
                theirs.put_cf(family, bytes, bytes);
                ours.delete(&types, bytes);
                theirs.delete_cf(family, bytes);
                ours.delete_range(&types, bytes, &long);
                theirs.delete_range_cf(family, bytes, &long);

                ours.put_version(&types, b"prefix", 5, &header, bytes);
                let (mut key, mut value) = (b"prefix".to_vec(), Vec::new());
                encoding::push_seq(&mut key, 5);
                header.encode(&mut value);
                value.extend_from_slice(bytes);
                theirs.put_cf(family, &key, &value);

                ours.put_feed(&types, 5, FeedKind::Created, 2, &header, (4, bytes));
                let mut value = Vec::new();
                encoding::push_feed_value(&mut value, FeedKind::Created, 2, &header, 4, bytes);
                theirs.put_cf(family, encoding::feed_key(5), &value);
            }
            assert_eq!(ours.to_batch().data(), theirs.data(), "{name}");
            assert_eq!(ours.to_batch().len(), theirs.len());
        }
    }

    #[test]
    fn cleared_rows_are_not_written_and_their_room_is_kept_to_a_bound() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let db = rocksdb_with_families(dir.path());
        let types = RowTypes::learn(db.cf_handle("7").expect("family"));
        let mut rows = Rows::default();
        assert!(rows.to_batch().is_empty());
        rows.put(&types, b"a", &vec![0; 2 * KEPT_BYTES]);
        rows.clear();
        assert!(rows.is_empty() && rows.to_batch().is_empty());
        assert!(rows.bytes.capacity() <= KEPT_BYTES, "{}", rows.bytes.capacity());
        rows.put(&types, b"b", b"2");
        db.write(rows.to_batch()).expect("write");
        let family = db.cf_handle("7").expect("family");
        let all: Vec<_> = db.iterator_cf(family, rocksdb::IteratorMode::Start).map(|row| row.expect("row").0).collect();
        assert_eq!(all, [Box::from(&b"b"[..])]);
    }
}
