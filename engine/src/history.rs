//! Reading what was: a document or the whole store as of an etag, a commit sequence or a time, and the list of a
//! document's versions. Owns how each of these is turned into a place in the commit order, and how a version that
//! retention dropped is told from one that never was; never drops anything itself.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::batch::validate_id;
use crate::collection::{Collection, CollectionState};
use crate::document::Document;
use crate::encoding::{self, VersionHeader, VersionKind};
use crate::error::{Error, Result};
use crate::judge::created_seq;
use crate::rocks::Cursor;
use crate::snapshot::Snapshot;
use crate::store::Inner;
use crate::{CommitSeq, Etag, clock};

/// A state of the past, by one of its three names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// The state right after the write that made the version with this etag.
    Etag(Etag),
    /// The state after this commit; after the whole batch where it is in the middle of one. Commit 0 is the empty
    /// store.
    Commit(CommitSeq),
    /// The state after the last commit whose time is at or before this one. Commit times are whole milliseconds.
    ///
    /// The answer for a time is the same whenever one asks, once the store's clock is past its millisecond. (A clock
    /// that was set back stands still, as far as commits are concerned, at the time of the newest commit.) Asking for
    /// a time at or after the newest commit's waits for the writes under way: one of them may have that time.
    Time(SystemTime),
}

impl From<Etag> for AsOf {
    fn from(etag: Etag) -> AsOf {
        AsOf::Etag(etag)
    }
}

impl From<CommitSeq> for AsOf {
    fn from(seq: CommitSeq) -> AsOf {
        AsOf::Commit(seq)
    }
}

impl From<SystemTime> for AsOf {
    fn from(time: SystemTime) -> AsOf {
        AsOf::Time(time)
    }
}

/// An entry in the list of a document's versions. [`Collection::get_as_of`] with its etag reads the version itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Version {
    /// The version's name.
    pub etag: Etag,
    /// The commit that wrote it.
    pub seq: CommitSeq,
    /// The commit that made the document come into being. For a tombstone: the document that was deleted.
    pub created: CommitSeq,
    /// When it was committed, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The version before it, tombstones included; `None` for the first. When a list ends with a version that has one,
    /// retention has dropped that and what was before it.
    pub previous: Option<CommitSeq>,
    /// The length of its body, in bytes; 0 for a tombstone.
    pub body_bytes: usize,
    /// Whether it is the trace of a deletion.
    pub tombstone: bool,
}

impl Collection {
    /// Reads document `id` as it was: as of an etag of its own, a commit sequence, or a time (see [`AsOf`]). `None`
    /// when there was no such document then; a tombstone's etag names a state without it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an etag that names no version of this document in this store, a sequence that is not
    /// committed yet, a time to come, or a dropped collection; [`Error::NotRetained`] when retention no longer
    /// keeps what was asked for; [`Error::Corruption`] and [`Error::Io`] when it cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{Error, Precondition};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let carts = store.collection("carts")?;
    /// let first = carts.put("ana", "1 pen", Precondition::Absent)?;
    /// let second = carts.put("ana", "2 pens", first.etag)?;
    /// carts.delete("ana", second.etag)?;
    ///
    /// assert_eq!(carts.get_as_of("ana", first.etag)?.expect("kept").body, "1 pen");
    /// assert_eq!(carts.get_as_of("ana", second.seq)?.expect("kept").body, "2 pens");
    /// assert!(carts.get_as_of("ana", std::time::SystemTime::now())?.is_none());
    /// // An etag is the name of a version of one document.
    /// assert!(matches!(carts.get_as_of("berta", first.etag), Err(Error::Invalid(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_as_of(&self, id: impl AsRef<[u8]>, as_of: impl Into<AsOf>) -> Result<Option<Document>> {
        let (store, id) = (self.store(), id.as_ref());
        let found = match as_of.into() {
            AsOf::Etag(etag) => store.get_by_etag(self.state(), id, etag),
            other => store.resolve(other).and_then(|(at, time_ms)| {
                if validate_id(id).is_err() {
                    return Ok(None);
                }
                store.get_past(self.state(), &encoding::document_prefix(self.state().number, id), at, time_ms)
            }),
        };
        // Afterwards: what a dropped collection had is swept away, and would seem never to have been there.
        self.state().check_live()?;
        found
    }

    /// Lists the versions of document `id`, newest first, tombstones included, as far as retention has kept them. Empty
    /// for an id that no document ever had.
    ///
    /// Read lazily, from a snapshot taken now: writes made meanwhile do not show.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the collection was dropped. Each item can fail as [`get`](Collection::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::Precondition;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let carts = store.collection("carts")?;
    /// let first = carts.put("ana", "1 pen", Precondition::Absent)?;
    /// carts.delete("ana", first.etag)?;
    /// let versions = carts.history("ana")?.collect::<etagdb::Result<Vec<_>>>()?;
    /// assert!(versions[0].tombstone);
    /// assert_eq!((versions[1].etag, versions[1].body_bytes), (first.etag, 5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history(&self, id: impl AsRef<[u8]>) -> Result<History<'_>> {
        History::new(self.store(), self.state(), id.as_ref(), self.store().visible())
    }
}

impl Snapshot {
    /// Lists the versions of document `id` that there were at this snapshot, newest first. See
    /// [`Collection::history`].
    ///
    /// # Errors
    ///
    /// As [`Collection::history`]; [`Error::Invalid`] for a collection of another store.
    pub fn history<'a>(&'a self, collection: &'a Collection, id: impl AsRef<[u8]>) -> Result<History<'a>> {
        self.check_store(collection)?;
        History::new(self.store(), collection.state(), id.as_ref(), self.seq())
    }
}

/// The versions of a document, newest first. An iterator of [`Version`]; after an error it is at its end.
pub struct History<'a> {
    store: &'a Inner,
    /// `None` at the end, and for an id that no document can have.
    cursor: Option<Cursor<'a>>,
}

impl<'a> History<'a> {
    fn new(store: &'a Arc<Inner>, collection: &CollectionState, id: &[u8], at: CommitSeq) -> Result<History<'a>> {
        let cursor = validate_id(id).is_ok().then(|| {
            let prefix = encoding::document_prefix(collection.number, id);
            store.rocks.versions(&version_key(&prefix, at.get()), encoding::after_document(&prefix))
        });
        // When its view of the rows is made: what a dropped collection had is swept away.
        collection.check_live()?;
        Ok(History { store, cursor })
    }

    fn next_version(&mut self) -> Result<Option<Version>> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(None);
        };
        let Some((key, value)) = cursor.row()? else {
            return Ok(None);
        };
        let (_, seq) = encoding::split_version_key(key)?;
        let (header, body) = VersionHeader::decode(value)?;
        let version = Version {
            etag: self.store.etag(seq),
            seq: CommitSeq::new(seq),
            created: CommitSeq::new(created_seq(seq, &header)),
            time_ms: header.time_ms,
            previous: (header.previous != 0).then(|| CommitSeq::new(header.previous)),
            body_bytes: body.len(),
            tombstone: header.kind == VersionKind::Tombstone,
        };
        cursor.advance();
        Ok(Some(version))
    }
}

impl Iterator for History<'_> {
    type Item = Result<Version>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_version();
        if !matches!(next, Ok(Some(_))) {
            self.cursor = None;
        }
        next.transpose()
    }
}

impl fmt::Debug for History<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

impl Inner {
    /// The commit sequence that a state of the past is read at, the last of its batch, and the time by which documents
    /// had expired then.
    pub(crate) fn resolve(&self, as_of: AsOf) -> Result<(CommitSeq, u64)> {
        let seq = match as_of {
            AsOf::Etag(etag) => self.seq_of(etag)?,
            AsOf::Commit(seq) => seq,
            AsOf::Time(time) => return Ok((self.seq_at_time(time)?, clock::to_ms(time))),
        };
        let seq = self.end_of_visible_batch(seq)?;
        Ok((seq, self.rocks.time_of(seq.get())?))
    }

    /// The commit that an etag of this store names.
    fn seq_of(&self, etag: Etag) -> Result<CommitSeq> {
        let seq = etag.seq();
        if seq == CommitSeq::new(0) || seq > self.visible() || self.etag(seq.get()) != etag {
            return Err(Error::Invalid(format!("etag {etag} names no version of this store")));
        }
        Ok(seq)
    }

    /// The last commit at or before a time; the one before the first that is kept where all are later.
    fn seq_at_time(&self, time: SystemTime) -> Result<CommitSeq> {
        let Ok(since_epoch) = time.duration_since(UNIX_EPOCH) else {
            return Ok(CommitSeq::new(0));
        };
        let time_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let newest = self.visible();
        let found = self.search_time(time_ms, newest)?;
        if !found.is_last {
            return Ok(CommitSeq::new(found.seq));
        }
        let now_ms = self.now_ms();
        if time_ms > now_ms {
            return Err(Error::Invalid(format!(
                "the time asked for, {time_ms} ms after 1970, is still to come: now it is {now_ms} ms"
            )));
        }
        // What is on its way has its time already, and it may be this one. What comes later may have it only while it
        // lasts: were it to have a later one, whoever goes on asking for the newest commit's time would drive time ahead
        // of the clock.
        self.settle_time(time_ms.saturating_add(1).min(now_ms));
        Ok(CommitSeq::new(self.search_time(time_ms, self.visible())?.seq))
    }

    /// Searches the feed, whose times never run backwards, for the last commit up to `newest` at or before a time.
    fn search_time(&self, time_ms: u64, newest: CommitSeq) -> Result<FoundTime> {
        let mut cursor = self.rocks.feed(0, newest.get());
        let Some((key, value)) = cursor.row()? else {
            return Ok(FoundTime { seq: newest.get(), is_last: true });
        };
        let first = encoding::feed_position(key, value)?;
        if first.time_ms > time_ms {
            return Ok(FoundTime { seq: first.seq.saturating_sub(1), is_last: false });
        }
        // The row at `found` is at or before the time; a row at or after `end` is not, or there is none.
        let (mut found, mut end) = (first.seq, newest.get() + 1);
        let mut is_last = true;
        while end - found > 1 {
            let middle = found + (end - found) / 2;
            cursor.seek(&encoding::feed_key(middle));
            let row = cursor.row()?.map(|(key, value)| encoding::feed_position(key, value)).transpose()?;
            match row {
                Some(row) if row.time_ms <= time_ms => found = row.seq,
                Some(_) => {
                    end = middle;
                    is_last = false;
                }
                // The last sequences may be those of a write that failed.
                None => end = middle,
            }
        }
        Ok(FoundTime { seq: found, is_last })
    }

    /// The version of a document that an etag names.
    fn get_by_etag(&self, collection: &CollectionState, id: &[u8], etag: Etag) -> Result<Option<Document>> {
        let other = || {
            let id = String::from_utf8_lossy(id);
            Error::Invalid(format!(
                "etag {etag} names no version of document {id:?} in collection {:?}",
                collection.name
            ))
        };
        validate_id(id).map_err(|_| other())?;
        let seq = self.seq_of(etag)?;
        let prefix = encoding::document_prefix(collection.number, id);
        let key = version_key(&prefix, seq.get());
        let mut cursor = self.rocks.versions(&key, encoding::after_document(&prefix));
        if let Some((found, value)) = cursor.row()?
            && found == key
        {
            let (header, body) = VersionHeader::decode(value)?;
            return Ok((header.kind == VersionKind::Document)
                .then(|| self.document(seq.get(), &header, Bytes::copy_from_slice(body))));
        }
        // The version is not there. The feed tells whether it ever was.
        let feed = self.rocks.feed(seq.get(), seq.get());
        let was = match feed.row()? {
            Some((key, value)) => {
                let row = encoding::feed_row(key, value)?;
                (row.collection, row.id) == (collection.number, id)
            }
            None => self.check_retained(Some(collection), seq).is_err(),
        };
        if !was {
            return Err(other());
        }
        cursor.seek_back(&version_key(&prefix, 0));
        let oldest = match cursor.row()?.map(|(key, _)| encoding::split_version_key(key)).transpose()? {
            Some((of, oldest)) if *of == *prefix => CommitSeq::new(oldest),
            _ => self.visible(),
        };
        Err(Error::NotRetained { asked: seq, oldest })
    }

    /// Reads a document as of a commit that nothing may have held since.
    ///
    /// Every version names the one before it. So when the next newer version names another one than was found, the
    /// right one has been dropped.
    fn get_past(
        &self,
        collection: &CollectionState,
        prefix: &[u8],
        at: CommitSeq,
        time_ms: u64,
    ) -> Result<Option<Document>> {
        let mut cursor = self.rocks.versions(&version_key(prefix, at.get()), encoding::after_document(prefix));
        let mut found = None;
        let mut found_seq = 0;
        if let Some((key, value)) = cursor.row()? {
            (_, found_seq) = encoding::split_version_key(key)?;
            let (header, body) = VersionHeader::decode(value)?;
            let present = header.kind == VersionKind::Document && !collection.ttl().is_expired(&header, || time_ms);
            found = present.then(|| self.document(found_seq, &header, Bytes::copy_from_slice(body)));
        }
        // Asked after the rows are in view: it speaks for them.
        if !collection.incomplete_at(at) {
            return Ok(found);
        }
        cursor.seek_back(&version_key(prefix, at.get() + 1));
        if let Some((key, value)) = cursor.row()? {
            let (of, newer) = encoding::split_version_key(key)?;
            let follows = VersionHeader::decode(value)?.0.previous == found_seq;
            if of == prefix && !follows && found_seq != at.get() {
                return Err(Error::NotRetained { asked: at, oldest: CommitSeq::new(newer) });
            }
        }
        if found_seq == 0 {
            self.check_retained(Some(collection), at)?;
        }
        Ok(found)
    }
}

/// What a search for a time found.
struct FoundTime {
    seq: u64,
    /// Whether no later commit was seen, so that one on its way to disk may belong here too.
    is_last: bool,
}

fn version_key(prefix: &[u8], seq: u64) -> Vec<u8> {
    let mut key = prefix.to_vec();
    encoding::push_seq(&mut key, seq);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rocks::Rows;
    use crate::{Precondition, Store};

    /// Drops the versions `from` to `to` of document "a", as retention does.
    fn drop_versions(docs: &Collection, from: u64, to: u64) {
        let prefix = encoding::document_prefix(docs.state().number, b"a");
        let mut rows = Rows::default();
        docs.store().rocks.delete_versions(&mut rows, &version_key(&prefix, to), &version_key(&prefix, from - 1));
        docs.store().rocks.write(&mut rows).expect("write");
        docs.state().raise_horizon(encoding::Horizon { complete: to + 1, deletes: 0 });
    }

    fn refused<T: fmt::Debug>(result: Result<T>) -> (u64, u64) {
        match result {
            Err(Error::NotRetained { asked, oldest }) => (asked.get(), oldest.get()),
            other => panic!("{other:?}"),
        }
    }

    /// Versions 2 to 6 of "a"; 1 and 7 are of others.
    fn fixture() -> (tempfile::TempDir, Collection, Vec<Etag>) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let docs = Store::open(dir.path().join("store")).expect("open").collection("docs").expect("collection");
        let put = |id| docs.put(id, "x", Precondition::Any).expect("put").etag;
        let etags = ["0", "a", "a", "a", "a", "a", "b"].map(put).to_vec();
        (dir, docs, etags)
    }

    #[test]
    fn what_was_dropped_is_told_from_what_never_was() {
        let (_dir, docs, etags) = fixture();
        drop_versions(&docs, 2, 4);
        let read = |seq| docs.get_as_of("a", CommitSeq::new(seq));
        // Nobody can know any more that there was nothing yet at 1.
        assert_eq!([1, 2, 4].map(|seq| refused(read(seq))), [(1, 5), (2, 5), (4, 5)]);
        assert_eq!(refused(docs.get_as_of("a", etags[2])), (3, 5));
        for seq in 5..=7 {
            assert_eq!(read(seq).expect("kept").expect("there").seq.get(), seq.min(6));
        }
        assert!(matches!(docs.get_as_of("a", etags[0]), Err(Error::Invalid(_))), "that of another document");
        assert_eq!(refused(docs.get_as_of("c", CommitSeq::new(1))), (1, 5));
        assert!(docs.get_as_of("c", CommitSeq::new(5)).expect("kept").is_none());
        let list: Vec<Version> = docs.history("a").expect("history").map(|version| version.expect("version")).collect();
        assert_eq!(list.iter().map(|version| version.seq.get()).collect::<Vec<_>>(), [6, 5]);
        assert_eq!(list[1].previous, Some(CommitSeq::new(4)));
    }

    /// An old version that a snapshot holds is not taken for the ones after it.
    #[test]
    fn a_gap_between_kept_versions_is_seen() {
        let (_dir, docs, etags) = fixture();
        drop_versions(&docs, 4, 5);
        let read = |seq| docs.get_as_of("a", CommitSeq::new(seq));
        assert_eq!([4, 5].map(|seq| refused(read(seq))), [(4, 6), (5, 6)]);
        assert_eq!(refused(docs.get_as_of("a", etags[4])), (5, 2));
        assert_eq!([2, 3, 6].map(|seq| read(seq).expect("kept").expect("there").seq.get()), [2, 3, 6]);
    }
}
