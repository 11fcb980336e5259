//! Reading documents: the current version, and the one as of a commit that somebody holds. Owns which version that is and
//! whether it has expired; rows are read by `rocks`, and ranges by `scan`.

use bytes::Bytes;

use crate::batch::validate_id;
use crate::cache::CachedVersion;
use crate::collection::CollectionState;
use crate::document::Document;
use crate::encoding::{self, VersionHeader, VersionKind};
use crate::error::Result;
use crate::judge::created_seq;
use crate::rocks::Reader;
use crate::scan::{Scan, ScanRange};
use crate::store::Core;
use crate::ttl::{DocumentTtl, Lifetime};
use crate::{CommitSeq, Etag};

impl Core {
    pub(crate) fn etag(&self, seq: u64) -> Etag {
        Etag::new(self.epochs.of(seq), CommitSeq::new(seq))
    }

    pub(crate) fn document(&self, seq: u64, header: &VersionHeader, body: Bytes) -> Document {
        Document {
            etag: self.etag(seq),
            seq: CommitSeq::new(seq),
            created: CommitSeq::new(created_seq(seq, header)),
            time_ms: header.time_ms,
            ttl: DocumentTtl::from_header(header),
            body,
        }
    }

    /// The newest version of a document at or below the visible sequence `at`, tombstones included. The body may be
    /// left out unless it is asked for.
    pub(crate) fn newest(&self, prefix: &[u8], at: u64, with_body: bool) -> Result<Option<CachedVersion>> {
        self.newest_by(&mut None, prefix, at, with_body)
    }

    /// As [`newest`](Inner::newest), for many documents in turn: `reader` is made when it is first needed, and sees
    /// what is in RocksDB by then.
    pub(crate) fn newest_by<'a>(
        &'a self,
        reader: &mut Option<Reader<'a>>,
        prefix: &[u8],
        at: u64,
        with_body: bool,
    ) -> Result<Option<CachedVersion>> {
        match if with_body { self.cache.get(prefix, at) } else { self.cache.head(prefix, at) } {
            Some(version) => Ok(Some(version)),
            None => self.newest_stored(reader, prefix, at),
        }
    }

    /// As [`newest_by`](Core::newest_by), of a document that is not in the cache.
    fn newest_stored<'a>(
        &'a self,
        reader: &mut Option<Reader<'a>>,
        prefix: &[u8],
        at: u64,
    ) -> Result<Option<CachedVersion>> {
        reader.get_or_insert_with(|| self.rocks.reader()).newest(prefix, at, |seq, header, body| {
            let body = Bytes::copy_from_slice(body);
            self.cache.offer(prefix, at, seq, header, &body);
            CachedVersion { seq, header, body: Some(body) }
        })
    }

    /// Reads the current version of a document.
    pub(crate) fn get(&self, collection: &CollectionState, id: &[u8]) -> Result<Option<Document>> {
        if validate_id(id).is_err() {
            collection.check_live()?;
            return Ok(None);
        }
        let prefix = encoding::document_prefix(collection.number, id);
        let mut waited = false;
        loop {
            let at = self.visible();
            let found = match self.cache.get(&prefix, at.get()) {
                Some(version) => Some(version),
                None => self.newest_stored(&mut None, &prefix, at.get())?,
            };
            // Asked afterwards: what a dropped collection had is swept away, and would seem never to have been there.
            collection.check_live()?;
            // Without a hold, the version that was current at `at` may have been superseded and dropped meanwhile.
            // `trim` says why this ends.
            if collection.incomplete_at(at) {
                continue;
            }
            let present = found.filter(|version| version.header.kind == VersionKind::Document);
            let Some(version) = present else { return Ok(None) };
            if !collection.ttl().is_expired(&version.header, || self.now_ms()) {
                return Ok(Some(self.document(version.seq, &version.header, version.body.unwrap_or_default())));
            }
            if waited {
                return Ok(None);
            }
            // From now on every writer finds it expired, too, and those that did not are waited for.
            self.observe_now_ms();
            self.wait_for_writers(&prefix)?;
            waited = true;
        }
    }

    /// Reads the current version of a document if it is in the cache, body and all.
    pub(crate) fn get_cached(&self, collection: &CollectionState, id: &[u8]) -> Option<Document> {
        collection.check_live().ok()?;
        validate_id(id).ok()?;
        let version = self.cache.get(&encoding::document_prefix(collection.number, id), self.visible().get())?;
        let present = version.header.kind == VersionKind::Document
            && !collection.ttl().is_expired(&version.header, || self.observe_now_ms());
        let body = version.body.filter(|_| present)?;
        Some(self.document(version.seq, &version.header, body))
    }

    /// Reads a document as of commit `at`, for somebody who has a hold there.
    pub(crate) fn get_at(
        &self,
        collection: &CollectionState,
        id: &[u8],
        at: CommitSeq,
        lifetime: Lifetime,
    ) -> Result<Option<Document>> {
        if validate_id(id).is_err() {
            collection.check_live()?;
            return Ok(None);
        }
        let prefix = encoding::document_prefix(collection.number, id);
        // The cache has newest versions only. One that is old enough for `at` is the one that was the newest then.
        let found = match self.cache.get(&prefix, at.get()) {
            Some(version) => Some(version),
            None => self.rocks.newest(&prefix, at.get(), |seq, header, body| {
                let body = (header.kind == VersionKind::Document).then(|| Bytes::copy_from_slice(body));
                CachedVersion { seq, header, body }
            })?,
        };
        // Afterwards, as in `get`.
        collection.check_live()?;
        let present =
            found.filter(|version| version.header.kind == VersionKind::Document && !lifetime.is_over(&version.header));
        Ok(present.map(|version| self.document(version.seq, &version.header, version.body.unwrap_or_default())))
    }

    /// Scans a collection as of commit `at`, for somebody who has a hold there.
    pub(crate) fn scan_at(
        &self,
        collection: &CollectionState,
        range: &ScanRange,
        at: CommitSeq,
        lifetime: Lifetime,
    ) -> Result<Scan<'_>> {
        let scan = Scan::new(self, collection, range, at, lifetime);
        // Afterwards, as in `get`; what is swept away later stays in its view.
        collection.check_live()?;
        Ok(scan)
    }

    /// Scans a collection as it is now.
    pub(crate) fn scan_now(&self, collection: &CollectionState, range: &ScanRange) -> Result<Scan<'_>> {
        loop {
            let at = self.visible();
            // Its view of the rows is made here, and what is dropped later stays in it.
            let lifetime = Lifetime { ttl: collection.ttl(), now_ms: self.observe_now_ms() };
            let scan = self.scan_at(collection, range, at, lifetime)?;
            if !collection.incomplete_at(at) {
                return Ok(scan);
            }
        }
    }
}
