//! Reading many documents in id order. Owns how superseded and too new versions are passed over.

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;

use crate::CommitSeq;
use crate::collection::CollectionState;
use crate::document::Document;
use crate::encoding::{self, VersionHeader, VersionKind};
use crate::error::Result;
use crate::rocks::Cursor;
use crate::store::Core;
use crate::ttl::Lifetime;

/// After this many superseded versions of one document, seeking past the rest is cheaper than stepping over them.
const STEPS_BEFORE_SEEK: usize = 8;

/// Which ids a scan covers, and in which direction. Ids compare as bytes.
///
/// # Examples
///
/// ```
/// use etagdb::{Precondition, ScanRange};
///
/// # let dir = tempfile::tempdir()?;
/// # let store = etagdb::Store::open(dir.path().join("store"))?;
/// let carts = store.collection("carts")?;
/// for id in ["ana", "anton", "berta"] {
///     carts.put(id, "", Precondition::Any)?;
/// }
/// let ids = |range: &ScanRange| -> etagdb::Result<Vec<_>> {
///     carts.scan(range)?.map(|entry| Ok(entry?.0)).collect()
/// };
/// assert_eq!(ids(&ScanRange::prefix("an"))?, ["ana", "anton"]);
/// // A page ends somewhere; the next one starts after its last id, or before it on the way back.
/// assert_eq!(ids(&ScanRange::all().after("ana"))?, ["anton", "berta"]);
/// assert_eq!(ids(&ScanRange::all().before("berta").reverse())?, ["anton", "ana"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRange {
    start: Bound<Vec<u8>>,
    end: Option<Vec<u8>>,
    reverse: bool,
}

impl ScanRange {
    /// All documents.
    pub fn all() -> ScanRange {
        ScanRange { start: Bound::Unbounded, end: None, reverse: false }
    }

    /// Documents whose id begins with `prefix`.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> ScanRange {
        let prefix = prefix.as_ref();
        ScanRange { start: Bound::Included(prefix.to_vec()), end: successor(prefix), reverse: false }
    }

    /// Only ids at or after `id`.
    pub fn from(self, id: impl AsRef<[u8]>) -> ScanRange {
        self.start_at(Bound::Included(id.as_ref().to_vec()))
    }

    /// Only ids after `id`: how a forward scan goes on where an earlier one stopped.
    pub fn after(self, id: impl AsRef<[u8]>) -> ScanRange {
        self.start_at(Bound::Excluded(id.as_ref().to_vec()))
    }

    /// Only ids at or before `id`.
    pub fn through(self, id: impl AsRef<[u8]>) -> ScanRange {
        // No id comes between one and the same with a zero byte added.
        self.to([id.as_ref(), b"\0"].concat())
    }

    /// Only ids before `id`: how a backward scan goes on where an earlier one stopped. The same as
    /// [`to`](ScanRange::to).
    pub fn before(self, id: impl AsRef<[u8]>) -> ScanRange {
        self.to(id)
    }

    /// From the last id to the first, whichever way it went until now. The bounds stay what they are.
    pub fn reverse(mut self) -> ScanRange {
        self.reverse = true;
        self
    }

    /// Only ids before `id`.
    pub fn to(mut self, id: impl AsRef<[u8]>) -> ScanRange {
        let id = id.as_ref();
        if self.end.as_deref().is_none_or(|end| id < end) {
            self.end = Some(id.to_vec());
        }
        self
    }

    /// Narrows the range; a start before the present one changes nothing.
    fn start_at(mut self, start: Bound<Vec<u8>>) -> ScanRange {
        let rank = |bound: &Bound<Vec<u8>>| match bound {
            Bound::Unbounded => None,
            Bound::Included(id) => Some((id.clone(), false)),
            Bound::Excluded(id) => Some((id.clone(), true)),
        };
        if rank(&start) > rank(&self.start) {
            self.start = start;
        }
        self
    }

    /// Whether the range covers `id`.
    pub(crate) fn contains(&self, id: &[u8]) -> bool {
        let is_after_start = match &self.start {
            Bound::Unbounded => true,
            Bound::Included(start) => id >= start.as_slice(),
            Bound::Excluded(start) => id > start.as_slice(),
        };
        is_after_start && self.end.as_deref().is_none_or(|end| id < end)
    }

    pub(crate) fn is_reverse(&self) -> bool {
        self.reverse
    }

    /// The version keys that the range covers: from the first to before the second.
    pub(crate) fn keys(&self, collection: &CollectionState) -> (Vec<u8>, Vec<u8>) {
        let number = collection.number;
        let start = match &self.start {
            Bound::Unbounded => encoding::collection_start(number).to_vec(),
            Bound::Included(id) => encoding::document_prefix(number, id).into_vec(),
            Bound::Excluded(id) => encoding::after_document(&encoding::document_prefix(number, id)),
        };
        let end = match &self.end {
            None => encoding::collection_start(number + 1).to_vec(),
            Some(id) => encoding::document_prefix(number, id).into_vec(),
        };
        (start, end)
    }
}

/// The smallest id that is greater than every id beginning with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The documents of a range, in byte order of their ids or backwards, all as of one commit sequence.
///
/// An iterator of id and document. After an error it is at its end.
pub struct Scan<'a> {
    store: &'a Core,
    cursor: Cursor<'a>,
    seq: CommitSeq,
    lifetime: Lifetime,
    reverse: bool,
    /// Forwards: the document whose answer is known; its remaining versions are passed over. Backwards: the document
    /// that the cursor is in.
    done: Vec<u8>,
    steps: usize,
    failed: bool,
}

/// A version, copied out of the cursor that goes on.
struct Found {
    seq: u64,
    header: VersionHeader,
    body: Bytes,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(
        store: &'a Core,
        collection: &CollectionState,
        range: &ScanRange,
        seq: CommitSeq,
        lifetime: Lifetime,
    ) -> Scan<'a> {
        let (start, end) = range.keys(collection);
        let cursor = match range.reverse {
            false => store.rocks.versions(&start, end),
            true => store.rocks.versions_back(start, end),
        };
        Scan { store, cursor, seq, lifetime, reverse: range.reverse, done: Vec::new(), steps: 0, failed: false }
    }

    /// The commit sequence that the documents are read at.
    pub fn seq(&self) -> CommitSeq {
        self.seq
    }

    fn next_document(&mut self) -> Result<Option<(Bytes, Document)>> {
        while let Some((key, value)) = self.cursor.row()? {
            let (prefix, seq) = encoding::split_version_key(key)?;
            if prefix == self.done {
                self.steps += 1;
                if self.steps < STEPS_BEFORE_SEEK {
                    self.cursor.advance();
                } else {
                    let past = encoding::after_document(prefix);
                    self.cursor.seek(&past);
                    self.steps = 0;
                }
                continue;
            }
            if seq > self.seq.get() {
                // Newer than the snapshot: its own row, if any, comes later under the same prefix.
                self.steps += 1;
                if self.steps < STEPS_BEFORE_SEEK {
                    self.cursor.advance();
                } else {
                    let mut at = prefix.to_vec();
                    encoding::push_seq(&mut at, self.seq.get());
                    self.cursor.seek(&at);
                    self.steps = 0;
                }
                continue;
            }
            self.done.clear();
            self.done.extend_from_slice(prefix);
            self.steps = 0;
            let (header, body) = VersionHeader::decode(value)?;
            let found = match header.kind {
                VersionKind::Tombstone => None,
                VersionKind::Document if self.lifetime.is_over(&header) => None,
                VersionKind::Document => {
                    let id = Bytes::from(encoding::id_of_prefix(prefix)?);
                    Some((id, self.store.document(seq, &header, Bytes::copy_from_slice(body))))
                }
            };
            self.cursor.advance();
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Backwards, a document's versions come oldest first, and the one that counts is the last at or below the
    /// scan's sequence: the next row must be seen before it is known.
    fn previous_document(&mut self) -> Result<Option<(Bytes, Document)>> {
        let at = self.seq.get();
        let mut found: Option<Found> = None;
        self.done.clear();
        self.steps = 0;
        loop {
            let row = match self.cursor.row()? {
                Some((key, value)) => Some((encoding::split_version_key(key)?, value)),
                None => None,
            };
            match row {
                Some(((prefix, seq), value)) if prefix == self.done => {
                    self.steps += 1;
                    let many = self.steps >= STEPS_BEFORE_SEEK;
                    if seq <= at && !many {
                        found = Some(Found::copy(seq, value)?);
                        self.cursor.retreat();
                    } else if seq <= at {
                        found = self.seek_newest(at)?;
                        self.cursor.seek_back(&self.done);
                    } else if many {
                        // All of this document's versions that are still to come are newer yet.
                        self.cursor.seek_back(&self.done);
                    } else {
                        self.cursor.retreat();
                    }
                }
                next => {
                    // The document that the cursor was in is at its end.
                    let present = |found: &Found| {
                        found.header.kind == VersionKind::Document && !self.lifetime.is_over(&found.header)
                    };
                    if let Some(Found { seq, header, body }) = found.take().filter(present) {
                        let id = Bytes::from(encoding::id_of_prefix(&self.done)?);
                        return Ok(Some((id, self.store.document(seq, &header, body))));
                    }
                    let Some(((prefix, seq), value)) = next else {
                        return Ok(None);
                    };
                    self.done.clear();
                    self.done.extend_from_slice(prefix);
                    self.steps = 0;
                    if seq <= at {
                        found = Some(Found::copy(seq, value)?);
                    }
                    self.cursor.retreat();
                }
            }
        }
    }

    /// Moves the cursor to the newest version at or below `at` of the document it is in.
    fn seek_newest(&mut self, at: u64) -> Result<Option<Found>> {
        let mut key = self.done.clone();
        encoding::push_seq(&mut key, at);
        self.cursor.seek(&key);
        match self.cursor.row()? {
            Some((key, value)) => {
                let (_, seq) = encoding::split_version_key(key)?;
                Found::copy(seq, value).map(Some)
            }
            None => Ok(None),
        }
    }
}

impl Found {
    fn copy(seq: u64, value: &[u8]) -> Result<Found> {
        let (header, body) = VersionHeader::decode(value)?;
        Ok(Found { seq, header, body: Bytes::copy_from_slice(body) })
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<(Bytes, Document)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = if self.reverse { self.previous_document() } else { self.next_document() };
        self.failed = next.is_err();
        next.transpose()
    }
}

impl fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("seq", &self.seq).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_passes_over_trailing_ff() {
        assert_eq!(successor(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(successor(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(successor(b"\xff"), None);
        assert_eq!(successor(b""), None);
    }

    #[test]
    fn what_a_range_covers() {
        let range = ScanRange::all().after("b").to("d");
        assert_eq!(
            ["a", "b", "b\0", "c", "d"].map(|id| range.contains(id.as_bytes())),
            [false, false, true, true, false]
        );
        assert!(ScanRange::prefix("b").contains(b"b\xff") && !ScanRange::prefix("b").contains(b"c"));
        assert!(ScanRange::all().contains(b""));
    }

    #[test]
    fn bounds_only_narrow() {
        let range = ScanRange::prefix("b").from("a").after("c").from("c").to("z").to("d");
        let expected = ScanRange { start: Bound::Excluded(b"c".to_vec()), end: Some(b"c".to_vec()), reverse: false };
        assert_eq!(range, expected);
        assert_eq!(ScanRange::all().through("a").before("b"), ScanRange::all().to("a\0"));
    }
}
