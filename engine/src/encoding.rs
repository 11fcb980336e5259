//! Every byte on disk, drawn field by field. Owns keys and records; never reads or writes anything itself.
//!
//! A store is a directory:
//!
//! ```text
//! FORMAT      "etagdb format 4\n": written last when a store is made, read first when it is opened
//! UNFINISHED  in place of FORMAT while a checkpoint or a restore is being made: not a store yet
//! DURABLE     what is known to be on disk, kept apart from the log (see `durable`)
//! LOCK        held (flock) by the process that writes, or shared by those that read; says who writes, for people
//! log/        what was written last (see `segment`)
//! rocksdb/    one RocksDB database with four column families
//! ```
//!
//! Column family `versions`, one row per version of a document; nothing in it is ever overwritten:
//!
//! ```text
//! key    +------------+---------------+-------+---------------+
//!        | collection | id, escaped   | 00 01 | inverted seq  |
//!        | u32 BE     | 00 -> 00 ff   |       | !seq, u64 BE  |
//!        +------------+---------------+-------+---------------+
//! value  +------+-----------+-------------+-----------+-------+
//!        | kind | time      | previous    | created   | body  |
//!        | u8   | u64 LE ms | u64 LE seq  | u64 LE seq| bytes |
//!        +------+-----------+-------------+-----------+-------+
//! or     | kind | time      | previous    | created   | ttl        | body  |
//!        | = 3  | u64 LE ms | u64 LE seq  | u64 LE seq| u64 LE ms  | bytes |
//!        +------+-----------+-------------+-----------+------------+-------+
//! ```
//!
//! `seq` is the commit sequence of the write. It is inverted so that the newest version of a document comes first,
//! and "the newest version at or below n" is one seek. The escape keeps ids in byte order and makes the encoding of
//! one id never a prefix of another's. `kind`: 1 a document, 2 a tombstone (no body), 3 a document with a time to live
//! of its own (all ones: it never expires). `time`: milliseconds since the
//! Unix epoch. `previous`: the version that this one came after, tombstones included; 0 for the first. `created`: the
//! version that made the document come into being; 0 when it is this one.
//!
//! Column family `feed`, one row per commit sequence, in commit order:
//!
//! ```text
//! key    | seq, u64 BE |
//! value  +------+--------+-----------+------------+------------+-------+
//!        | kind | rest   | time      | previous   | collection | id    |
//!        | u8   | u32 LE | u64 LE ms | u64 LE seq | u32 BE     | bytes |
//!        +------+--------+-----------+------------+------------+-------+
//! ```
//!
//! `kind`: 1 created, 2 replaced, 3 deleted, 4 expired. `rest`: how many writes of the same batch follow, so that any
//! row alone says where its batch ends, also when retention has dropped the others. `time` and `previous` are the
//! version's, kept here too so that this family alone tells the sequence of a time and what each commit superseded.
//!
//! Retention drops a version row and its feed row together, in one write batch that also moves the trim position.
//! The row of the store's last commit is never dropped: the next sequence is read off it.
//!
//! Column family `expiry`, one row per version with a time to live of its own, by the time at which it is up:
//!
//! ```text
//! key    | 00 | time, u64 BE ms   | seq, u64 BE |
//! or     | 01 | collection u32 BE | seq, u64 BE |    its time is up, but in its collection nothing expires now
//! value  | time, u64 LE ms | collection u32 BE | id, bytes |
//! ```
//!
//! A row may outlive its version; whoever finds it looks at the document.
//!
//! Column family `default`, cold metadata (bincode 2, standard configuration, unless said otherwise):
//!
//! ```text
//! "store"                      StoreRecord
//! "applied"                    u64 LE: where in the log the newest batch of this database ends
//! "next-collection"            u32 LE: the next collection number; numbers are never given twice
//! "collection/" number u32 BE  CollectionRecord
//! "swept"                      u64 LE: up to this sequence, feed rows of dropped collections may be missing
//! "dropped/" number u32 BE     empty: a dropped collection of which feed rows may be left
//! "epoch/" seq u64 BE          u64 LE: the epoch of the etags of all versions from this sequence on
//! "cursor/" name               CursorRecord
//! "horizon/" number u32 BE     the collection's Horizon, two sequences: complete u64 LE, deletes u64 LE
//! "trim/" age u64 BE ms        the TrimPosition of the collections that keep versions for this long, two sequences:
//!                              done u64 LE, looked u64 LE
//! "expire/" ttl u64 BE ms      u64 LE: of the collections in which documents live so long by default, all that were
//!                              written up to this sequence have been seen to their end
//! ```
//!
//! A missing `horizon/`, `expire/` or `trim/` row stands for zeros.
//!
//! An epoch begins with the first write after each opening of a store and is stored in the same write batch as that
//! write. So not even a copied directory, an older copy put back, or an acknowledged tail that a power cut took from
//! a `Buffered` store can make two versions share an etag: the next writer works under another random epoch.

mod metadata;

pub(crate) use metadata::*;

use smallvec::SmallVec;

use crate::error::{Error, Result};

/// The number of the on-disk format. It changes with every change to what is drawn above.
pub(crate) const FORMAT: u32 = 4;

/// The contents of the `FORMAT` file.
pub(crate) fn format_file() -> String {
    format!("etagdb format {FORMAT}\n")
}

/// Longest id, in bytes.
pub const MAX_ID_BYTES: usize = 16 * 1024;
/// Longest body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// Longest collection name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// The number of a collection, given once.
pub(crate) type CollectionNumber = u32;

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const TERMINATOR: [u8; 2] = [ESCAPE, 0x01];
pub(crate) const SEQ_BYTES: usize = 8;

/// An id or a document prefix. Short ones need no memory of their own, up to an id that is a UUID in text.
pub(crate) type KeyBytes = SmallVec<[u8; SHORT_KEY_BYTES]>;

const SHORT_KEY_BYTES: usize = 48;

/// The part of a version key that all versions of one document share: collection, escaped id, terminator.
pub(crate) fn document_prefix(collection: CollectionNumber, id: &[u8]) -> KeyBytes {
    let number = collection.to_be_bytes();
    let (id_end, end) = (number.len() + id.len(), number.len() + id.len() + TERMINATOR.len());
    if end <= SHORT_KEY_BYTES && !id.contains(&ESCAPE) {
        // Nearly every id, and every read and write comes by here.
        let mut key = [0; SHORT_KEY_BYTES];
        key[..number.len()].copy_from_slice(&number);
        key[number.len()..id_end].copy_from_slice(id);
        key[id_end..end].copy_from_slice(&TERMINATOR);
        return KeyBytes::from_buf_and_len(key, end);
    }
    let mut key = KeyBytes::with_capacity(end);
    key.extend_from_slice(&number);
    for part in id.split_inclusive(|&byte| byte == ESCAPE) {
        key.extend_from_slice(part);
        if part.ends_with(&[ESCAPE]) {
            key.push(ESCAPED_ZERO);
        }
    }
    key.extend_from_slice(&TERMINATOR);
    key
}

/// The first key after every version of the document with this prefix.
pub(crate) fn after_document(document_prefix: &[u8]) -> Vec<u8> {
    let mut after = document_prefix.to_vec();
    if let Some(last) = after.last_mut() {
        *last = TERMINATOR[1] + 1;
    }
    after
}

/// The first key of a collection, and so the first after the collection before it.
pub(crate) fn collection_start(collection: CollectionNumber) -> [u8; 4] {
    collection.to_be_bytes()
}

/// Appends the inverted sequence to a document prefix: the key of the version written at `seq`, and the place to seek
/// to for the newest version at or below `seq`.
pub(crate) fn push_seq(key: &mut impl Extend<u8>, seq: u64) {
    key.extend((!seq).to_be_bytes());
}

/// Cuts a version key into document prefix and sequence.
pub(crate) fn split_version_key(key: &[u8]) -> Result<(&[u8], u64)> {
    let cut = key.len().checked_sub(SEQ_BYTES).filter(|&cut| cut >= 4 + TERMINATOR.len());
    let Some((prefix, seq)) = cut.map(|cut| key.split_at(cut)) else {
        return Err(Error::Corruption(format!("version key of {} bytes is too short", key.len())));
    };
    Ok((prefix, !u64::from_be_bytes(array(seq))))
}

/// The document prefix of a version key, for RocksDB's prefix filters; the whole key if it is too short to be one.
pub(crate) fn filter_prefix(key: &[u8]) -> &[u8] {
    &key[..key.len().saturating_sub(SEQ_BYTES)]
}

/// The collection of a document prefix; `None` if it is too short to be one.
pub(crate) fn collection_of_prefix(prefix: &[u8]) -> Option<CollectionNumber> {
    prefix.first_chunk().copied().map(u32::from_be_bytes)
}

/// The id in a document prefix.
pub(crate) fn id_of_prefix(prefix: &[u8]) -> Result<Vec<u8>> {
    let damaged = || Error::Corruption(format!("version key {prefix:02x?} holds no id"));
    let escaped = prefix.get(4..).and_then(|rest| rest.strip_suffix(&TERMINATOR)).ok_or_else(damaged)?;
    if !escaped.contains(&ESCAPE) {
        // Nearly every id: nothing to take out, and scans come by here for each document.
        return Ok(escaped.to_vec());
    }
    let mut id = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        if byte == ESCAPE && bytes.next() != Some(&ESCAPED_ZERO) {
            return Err(damaged());
        }
        id.push(byte);
    }
    Ok(id)
}

/// The length of the id in a document prefix that is whole.
pub(crate) fn id_len_of_prefix(prefix: &[u8]) -> usize {
    let escaped = prefix.len().saturating_sub(4 + TERMINATOR.len());
    let zeros = prefix.get(4..4 + escaped).map_or(0, |id| id.iter().filter(|&&byte| byte == ESCAPE).count());
    escaped - zeros
}

/// Whether a version is a document or the trace of its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionKind {
    Document = 1,
    Tombstone = 2,
}

/// The fixed part of a version row's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionHeader {
    pub(crate) kind: VersionKind,
    pub(crate) time_ms: u64,
    pub(crate) previous: u64,
    pub(crate) created: u64,
    /// The document's own time to live; `None`: what its collection says. A tombstone has none.
    pub(crate) ttl_ms: Option<u64>,
}

/// The kind of a document with a time to live of its own.
const DOCUMENT_WITH_TTL: u8 = 3;
pub(crate) const VERSION_HEADER_BYTES: usize = 1 + 8 + 8 + 8;

impl VersionHeader {
    pub(crate) fn encoded_len(&self) -> usize {
        VERSION_HEADER_BYTES + self.ttl_ms.map_or(0, |_| size_of::<u64>())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.ttl_ms.map_or(self.kind as u8, |_| DOCUMENT_WITH_TTL));
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&self.created.to_le_bytes());
        if let Some(ttl_ms) = self.ttl_ms {
            out.extend_from_slice(&ttl_ms.to_le_bytes());
        }
    }

    /// Cuts a row's value into header and body.
    pub(crate) fn decode(value: &[u8]) -> Result<(VersionHeader, &[u8])> {
        let too_short = || Error::Corruption(format!("version record of {} bytes is too short", value.len()));
        let Some((header, mut body)) = value.split_at_checked(VERSION_HEADER_BYTES) else {
            return Err(too_short());
        };
        let mut ttl_ms = None;
        let kind = match header[0] {
            1 => VersionKind::Document,
            2 => VersionKind::Tombstone,
            DOCUMENT_WITH_TTL => {
                let (ttl, rest) = body.split_at_checked(8).ok_or_else(too_short)?;
                ttl_ms = Some(u64::from_le_bytes(array(ttl)));
                body = rest;
                VersionKind::Document
            }
            other => {
                return Err(Error::Corruption(format!("version record has unknown kind {other}")));
            }
        };
        let field = |at: usize| u64::from_le_bytes(array(&header[at..at + 8]));
        Ok((VersionHeader { kind, time_ms: field(1), previous: field(9), created: field(17), ttl_ms }, body))
    }
}

/// What a commit did to its document, as the feed tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedKind {
    Created = 1,
    Replaced = 2,
    Deleted = 3,
    Expired = 4,
}

pub(crate) fn feed_key(seq: u64) -> [u8; 8] {
    seq.to_be_bytes()
}

pub(crate) const FEED_HEADER_BYTES: usize = 1 + 4 + 8 + 8 + 4;

/// Appends the value of a feed row, of `FEED_HEADER_BYTES` and the id. `version`: the header of the version that the
/// commit wrote.
pub(crate) fn push_feed_value(
    out: &mut Vec<u8>,
    kind: FeedKind,
    rest: u32,
    version: &VersionHeader,
    collection: CollectionNumber,
    id: &[u8],
) {
    out.push(kind as u8);
    out.extend_from_slice(&rest.to_le_bytes());
    out.extend_from_slice(&version.time_ms.to_le_bytes());
    out.extend_from_slice(&version.previous.to_le_bytes());
    out.extend_from_slice(&collection.to_be_bytes());
    out.extend_from_slice(id);
}

/// Where a feed row stands: what positions and times are computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedPosition {
    pub(crate) seq: u64,
    pub(crate) time_ms: u64,
    /// The sequence of the last write of its batch.
    pub(crate) end: u64,
}

impl FeedPosition {
    /// Whether it is the last write of its batch.
    pub(crate) fn is_last(&self) -> bool {
        self.seq == self.end
    }
}

/// A whole feed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedRow<'a> {
    pub(crate) position: FeedPosition,
    pub(crate) kind: FeedKind,
    /// The version that the commit superseded; 0 when there was none.
    pub(crate) previous: u64,
    pub(crate) collection: CollectionNumber,
    pub(crate) id: &'a [u8],
}

pub(crate) fn feed_position(key: &[u8], value: &[u8]) -> Result<FeedPosition> {
    feed_row(key, value).map(|row| row.position)
}

pub(crate) fn feed_row<'a>(key: &[u8], value: &'a [u8]) -> Result<FeedRow<'a>> {
    let (Ok(seq), Some((header, id))) = (<[u8; 8]>::try_from(key), value.split_at_checked(FEED_HEADER_BYTES)) else {
        return Err(Error::Corruption(format!("feed row {key:02x?} is too short")));
    };
    let kind = match header[0] {
        1 => FeedKind::Created,
        2 => FeedKind::Replaced,
        3 => FeedKind::Deleted,
        4 => FeedKind::Expired,
        other => return Err(Error::Corruption(format!("feed row {key:02x?} has unknown kind {other}"))),
    };
    let seq = u64::from_be_bytes(seq);
    let rest = u32::from_le_bytes(array(&header[1..5]));
    let Some(end) = seq.checked_add(u64::from(rest)) else {
        return Err(Error::Corruption(format!("feed row {key:02x?} has {rest} more writes in its batch")));
    };
    let position = FeedPosition { seq, time_ms: u64::from_le_bytes(array(&header[5..13])), end };
    let previous = u64::from_le_bytes(array(&header[13..21]));
    Ok(FeedRow { position, kind, previous, collection: u32::from_be_bytes(array(&header[21..25])), id })
}

/// A row of the expiry family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExpiryRow<'a> {
    pub(crate) seq: u64,
    pub(crate) time_ms: u64,
    pub(crate) collection: CollectionNumber,
    pub(crate) id: &'a [u8],
}

const PARKED: u8 = 1;

impl ExpiryRow<'_> {
    pub(crate) fn key(&self) -> Vec<u8> {
        [&[0], &self.time_ms.to_be_bytes()[..], &self.seq.to_be_bytes()].concat()
    }

    /// The key while nothing expires in the collection.
    pub(crate) fn parked_key(&self) -> Vec<u8> {
        [&parked_prefix(self.collection)[..], &self.seq.to_be_bytes()].concat()
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        [&self.time_ms.to_le_bytes()[..], &self.collection.to_be_bytes(), self.id].concat()
    }

    pub(crate) fn decode<'a>(key: &[u8], value: &'a [u8]) -> Result<ExpiryRow<'a>> {
        let seq = key.len().checked_sub(SEQ_BYTES).map(|cut| u64::from_be_bytes(array(&key[cut..])));
        let (Some(seq), Some((header, id))) = (seq, value.split_at_checked(12)) else {
            return Err(Error::Corruption(format!("expiry row {key:02x?} is too short")));
        };
        let time_ms = u64::from_le_bytes(array(&header[..8]));
        Ok(ExpiryRow { seq, time_ms, collection: u32::from_be_bytes(array(&header[8..])), id })
    }
}

pub(crate) fn parked_prefix(collection: CollectionNumber) -> [u8; 5] {
    array(&[&[PARKED], &collection.to_be_bytes()[..]].concat())
}

/// Whether the key is of a row that waits for its collection to let documents expire again.
pub(crate) fn is_parked(key: &[u8]) -> bool {
    key.first() == Some(&PARKED)
}

/// Copies a slice whose length the caller has checked.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes themselves: whoever changes one of these changes the format, and must change its number.
    #[test]
    fn format_4_is_these_bytes() {
        assert_eq!(FORMAT, 4);
        assert_eq!(format_file(), "etagdb format 4\n");

        let mut key = document_prefix(0x0102_0304, b"a\0b");
        push_seq(&mut key, 0x29);
        assert_eq!(key[..], *b"\x01\x02\x03\x04a\x00\xffb\x00\x01\xff\xff\xff\xff\xff\xff\xff\xd6");

        let mut value = Vec::new();
        let header =
            VersionHeader { kind: VersionKind::Tombstone, time_ms: 0x0a0b, previous: 0x28, created: 3, ttl_ms: None };
        header.encode(&mut value);
        assert_eq!(value, b"\x02\x0b\x0a\0\0\0\0\0\0\x28\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(VersionHeader::decode(&value).expect("just written"), (header, &b""[..]));
        assert_eq!(VersionKind::Document as u8, 1);
        let mut value = Vec::new();
        let own = VersionHeader { kind: VersionKind::Document, ttl_ms: Some(0x0102), ..header };
        own.encode(&mut value);
        value.extend_from_slice(b"body");
        assert_eq!(value, b"\x03\x0b\x0a\0\0\0\0\0\0\x28\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0body");
        assert_eq!(VersionHeader::decode(&value).expect("just written"), (own, &b"body"[..]));

        assert_eq!(feed_key(0x29), *b"\0\0\0\0\0\0\0\x29");
        let mut feed = Vec::new();
        push_feed_value(&mut feed, FeedKind::Replaced, 0x0102, &header, 7, b"a\0b");
        assert_eq!(feed, b"\x02\x02\x01\0\0\x0b\x0a\0\0\0\0\0\0\x28\0\0\0\0\0\0\0\0\0\0\x07a\0b");
        assert_eq!((FeedKind::Created as u8, FeedKind::Deleted as u8, FeedKind::Expired as u8), (1, 3, 4));

        assert_eq!(collection_key(7), b"collection/\0\0\0\x07");
        assert_eq!(dropped_key(7), b"dropped/\0\0\0\x07");
        assert_eq!(dropped_of_key(&dropped_key(7)).expect("whole"), 7);
        assert_eq!(epoch_key(0x29), b"epoch/\0\0\0\0\0\0\0\x29");
        let store = StoreRecord { format: 1, created_ms: 0x0102 };
        assert_eq!(encode_record(&store).expect("plain"), b"\x01\xfb\x02\x01");
        let collection = CollectionRecord {
            name: "carts".into(),
            created_ms: 9,
            keep_ms: Some(0x0102),
            keep_versions: 7,
            ttl: TtlRecord::After(8),
        };
        assert_eq!(encode_record(&collection).expect("plain"), b"\x05carts\x09\x01\xfb\x02\x01\x07\x02\x08");
        let collection = CollectionRecord { keep_ms: None, ttl: TtlRecord::Documents, ..collection };
        assert_eq!(encode_record(&collection).expect("plain"), b"\x05carts\x09\x00\x07\x01");

        assert_eq!(expire_key(0x0a0b), b"expire/\0\0\0\0\0\0\x0a\x0b");
        assert_eq!(expire_of_row(&expire_key(9), b"\x29\0\0\0\0\0\0\0").expect("whole"), (9, 0x29));
        let row = ExpiryRow { seq: 0x29, time_ms: 0x0a0b, collection: 7, id: b"a\0b" };
        assert_eq!(row.key(), b"\0\0\0\0\0\0\0\x0a\x0b\0\0\0\0\0\0\0\x29");
        assert_eq!(row.parked_key(), b"\x01\0\0\0\x07\0\0\0\0\0\0\0\x29");
        assert_eq!(row.value(), b"\x0b\x0a\0\0\0\0\0\0\0\0\0\x07a\0b");
        assert_eq!(ExpiryRow::decode(&row.key(), &row.value()).expect("whole"), row);
        assert_eq!(ExpiryRow::decode(&row.parked_key(), &row.value()).expect("whole"), row);
        assert!(is_parked(&row.parked_key()) && !is_parked(&row.key()));

        assert_eq!(horizon_key(7), b"horizon/\0\0\0\x07");
        let horizon = Horizon { complete: 0x29, deletes: 3 };
        assert_eq!(horizon_value(horizon), *b"\x29\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(horizon_of_row(&horizon_key(7), &horizon_value(horizon)).expect("whole"), (7, horizon));
        assert_eq!(trim_key(0x0a0b), b"trim/\0\0\0\0\0\0\x0a\x0b");
        let position = TrimPosition { done: 0x29, looked: 0x31 };
        assert_eq!(trim_value(position), *b"\x29\0\0\0\0\0\0\0\x31\0\0\0\0\0\0\0");
        assert_eq!(trim_of_row(&trim_key(0x0a0b), &trim_value(position)).expect("whole"), (0x0a0b, position));
        assert_eq!(cursor_key("mail"), b"cursor/mail");
        let cursor = CursorRecord { position: 0x29, registered_ms: 9, advanced_ms: 0x0102 };
        assert_eq!(encode_record(&cursor).expect("plain"), b"\x29\x09\xfb\x02\x01");
    }

    #[test]
    fn damaged_records_are_named_and_do_not_panic() {
        assert!(matches!(VersionHeader::decode(b"\x01short"), Err(Error::Corruption(_))));
        assert!(matches!(VersionHeader::decode(&[9; 25]), Err(Error::Corruption(_))));
        assert!(matches!(VersionHeader::decode(&[3; 32]), Err(Error::Corruption(_))));
        assert!(matches!(ExpiryRow::decode(b"short", &[0; 12]), Err(Error::Corruption(_))));
        assert!(matches!(ExpiryRow::decode(&[0; 17], &[0; 11]), Err(Error::Corruption(_))));
        assert!(matches!(split_version_key(b"\0\0\0\x01\0\x01"), Err(Error::Corruption(_))));
        assert!(matches!(id_of_prefix(b"\0\0\0\x01a\0b\0\x01"), Err(Error::Corruption(_))));
        assert!(matches!(feed_position(b"1234567", &[1; 25]), Err(Error::Corruption(_))));
        assert!(matches!(feed_position(b"12345678", &[1; 24]), Err(Error::Corruption(_))));
        assert!(matches!(feed_position(b"12345678", &[9; 25]), Err(Error::Corruption(_))));
        assert!(matches!(feed_position(&[0xff; 8], &[1; 25]), Err(Error::Corruption(_))));
        assert!(matches!(cursor_of_key(b"cursor/\xff"), Err(Error::Corruption(_))));
        assert!(matches!(horizon_of_row(&horizon_key(1), b"short"), Err(Error::Corruption(_))));
        assert!(matches!(trim_of_row(b"trim/", &[0; 8]), Err(Error::Corruption(_))));
        assert!(matches!(decode_record::<StoreRecord>("store record", b"\x01\x02\x03"), Err(Error::Corruption(_))));
        assert!(matches!(collection_of_key(b"collection/"), Err(Error::Corruption(_))));
        assert!(matches!(epoch_of_row(&epoch_key(1), b"short"), Err(Error::Corruption(_))));
    }

    /// Ids made of the bytes that the escape treats specially, and of others.
    fn id() -> impl Strategy<Value = Vec<u8>> {
        let byte = || prop_oneof![Just(0u8), Just(1), Just(2), Just(0xfe), Just(0xff), any::<u8>()];
        // Longer ones have no place in a key of fixed room.
        let around_the_room = prop::collection::vec(1u8.., SHORT_KEY_BYTES - 10..SHORT_KEY_BYTES + 4);
        prop_oneof![4 => prop::collection::vec(byte(), 0..8), 1 => around_the_room, 1 => prop::collection::vec(byte(), 40..60)]
    }

    proptest! {
        #[test]
        fn keys_sort_by_collection_then_id_then_newest_first(
            a in (0u32..3, id(), any::<u64>()),
            b in (0u32..3, id(), any::<u64>()),
        ) {
            let key = |(collection, id, seq): &(u32, Vec<u8>, u64)| {
                let mut key = document_prefix(*collection, id);
                push_seq(&mut key, *seq);
                key
            };
            let order = (a.0, &a.1, std::cmp::Reverse(a.2)).cmp(&(b.0, &b.1, std::cmp::Reverse(b.2)));
            prop_assert_eq!(key(&a).cmp(&key(&b)), order);
        }

        #[test]
        fn ids_and_sequences_come_back(id in id(), seq in any::<u64>()) {
            let mut key = document_prefix(5, &id);
            let prefix = key.clone();
            push_seq(&mut key, seq);
            prop_assert_eq!(split_version_key(&key).expect("whole"), (&prefix[..], seq));
            prop_assert_eq!(filter_prefix(&key), &prefix[..]);
            prop_assert_eq!(id_of_prefix(&prefix).expect("whole"), id.clone());
            prop_assert_eq!(id_len_of_prefix(&prefix), id.len());
            let rest = (seq % 7).min(u64::MAX - seq) as u32;
            let (time_ms, previous) = (seq / 2, seq / 3);
            let version =
                VersionHeader { kind: VersionKind::Document, time_ms, previous, created: 0, ttl_ms: None };
            let mut feed = Vec::new();
            push_feed_value(&mut feed, FeedKind::Created, rest, &version, 5, &id);
            let position = FeedPosition { seq, time_ms, end: seq + u64::from(rest) };
            let row = FeedRow { position, kind: FeedKind::Created, previous, collection: 5, id: &id };
            prop_assert_eq!(feed_row(&feed_key(seq), &feed).expect("whole"), row);
            prop_assert!(*after_document(&prefix) > *key);
        }

        #[test]
        fn a_prefix_of_the_id_is_a_prefix_of_the_key(id in id(), cut in 0usize..8, other in id()) {
            let start = &id[..cut.min(id.len())];
            prop_assert_eq!(
                document_prefix(5, &other).starts_with(document_prefix(5, start).strip_suffix(&TERMINATOR).expect("it ends")),
                other.starts_with(start)
            );
        }
    }
}
