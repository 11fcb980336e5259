//! Reading a page of the change feed. Owns which rows a feed tells and how many fit; remembers nothing between pages
//! but the collections it met.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::CommitSeq;
use crate::cache::CachedVersion;
use crate::changes::{ChangeKind, FeedEntry, FeedMode, FeedPage, PreviousVersion, Request};
use crate::clock;
use crate::collection::CollectionState;
use crate::document::Document;
use crate::encoding::{self, CollectionNumber, FeedKind, VersionHeader, VersionKind};
use crate::error::{Error, Result};
use crate::rocks::Cursor;
use crate::store::Inner;

/// Rows of the feed are taken in windows of about this many, so that of a document that changes often only its last
/// version in the window is looked up.
const WINDOW_ROWS: usize = 1_024;
/// After so many rows it is time to look at the clock.
const ROWS_PER_LOOK: usize = 64;

/// A row that may concern the feed.
struct Row {
    seq: u64,
    end: u64,
    time_ms: u64,
    kind: FeedKind,
    collection: Arc<CollectionState>,
    id: Bytes,
}

/// Some whole batches of rows.
struct Window {
    rows: Vec<Row>,
    /// The sequence that it reaches to, with rows that do not concern the feed.
    end: u64,
    is_last: bool,
}

struct Page<'a> {
    store: &'a Inner,
    /// What is newest is judged as of this commit, and nothing after it is told.
    newest: CommitSeq,
    after: CommitSeq,
    entries: Vec<FeedEntry>,
    bytes: usize,
    /// When to end, whatever was found.
    deadline: Option<Instant>,
    /// Collections that were found dropped before their handles were told.
    gone: HashSet<CollectionNumber>,
}

/// Reads the page after `after`.
pub(crate) fn read(store: &Inner, request: &mut Request, mut after: CommitSeq) -> Result<FeedPage> {
    let deadline = request.page_time.and_then(clock::deadline);
    loop {
        let newest = store.visible();
        request.check(store, after)?;
        let mut page = Page { store, newest, after, entries: Vec::new(), bytes: 0, deadline, gone: HashSet::new() };
        // A collection in which nothing has happened costs no look at what happened in others.
        let has_news = store.visible.newest_in(&request.scope) > after.get();
        let position = if has_news { page.fill(request)? } else { newest };
        // Collections can be dropped, and history can be dropped, while they are read. Each collection is asked once,
        // so that one that goes this very moment goes with all its entries.
        let is_over = page.is_over();
        let Page { mut entries, mut gone, .. } = page;
        let mut asked = HashSet::new();
        for collection in entries.iter().map(|entry| &entry.collection) {
            if asked.insert(collection.number) && collection.is_dropped() {
                gone.insert(collection.number);
            }
        }
        entries.retain(|entry| !gone.contains(&entry.collection.number));
        request.check(store, after)?;
        let is_end = position == newest;
        if !entries.is_empty() || is_end || is_over {
            let position_etag = (position.get() > 0).then(|| store.etag(position.get()));
            return Ok(FeedPage { entries, position, position_etag, is_end });
        }
        after = position;
    }
}

impl Page<'_> {
    /// Fills the page, and says how far it reaches.
    fn fill(&mut self, request: &mut Request) -> Result<CommitSeq> {
        let mut position = self.after.get();
        let mut cursor = self.store.rocks.feed(position + 1, self.newest.get());
        loop {
            let mut window = self.window(request, &mut cursor)?;
            if request.mode == FeedMode::Latest {
                window.keep_newest();
            }
            for batch in window.rows.chunk_by(|one, next| one.end == next.end) {
                if !self.take(request, batch)? {
                    return Ok(CommitSeq::new(position));
                }
                // What chunks are made of has at least one row.
                position = batch.last().map_or(position, |row| row.end);
                if self.is_full(request) || self.is_over() {
                    return Ok(CommitSeq::new(position));
                }
            }
            position = window.end;
            if window.is_last || self.is_over() {
                return Ok(CommitSeq::new(position));
            }
        }
    }

    /// Takes the rows of the next batches off the cursor.
    fn window(&self, request: &mut Request, cursor: &mut Cursor<'_>) -> Result<Window> {
        let mut window = Window { rows: Vec::new(), end: self.newest.get(), is_last: true };
        let (mut end, mut passed) = (None, 0);
        while let Some((key, value)) = cursor.row()? {
            let row = encoding::feed_row(key, value)?;
            let position = row.position;
            if let Some(end) = end.filter(|&end| end != position.end) {
                let looks = passed >= ROWS_PER_LOOK;
                if window.rows.len() >= WINDOW_ROWS || (looks && self.is_over()) {
                    return Ok(Window { end, is_last: false, ..window });
                }
                passed = if looks { 0 } else { passed };
            }
            passed += 1;
            end = Some(position.end);
            if let Some(collection) = request.in_scope(self.store, row.collection)
                && request.ids.as_ref().is_none_or(|ids| ids.contains(row.id))
            {
                window.rows.push(Row {
                    seq: position.seq,
                    end: position.end,
                    time_ms: position.time_ms,
                    kind: row.kind,
                    collection,
                    id: Bytes::copy_from_slice(row.id),
                });
            }
            cursor.advance();
        }
        Ok(window)
    }

    /// Adds what a batch has to tell; false, and nothing added, when it does not fit behind what is there.
    fn take(&mut self, request: &Request, batch: &[Row]) -> Result<bool> {
        let (entries, bytes) = (self.entries.len(), self.bytes);
        let is_first = entries == 0;
        // Every row of `All` makes an entry, so that too many are known before any is read.
        if !is_first && request.mode == FeedMode::All && entries + batch.len() > request.page_entries {
            return Ok(false);
        }
        for row in batch {
            let Some(entry) = self.entry(request, row)? else { continue };
            self.bytes += bytes_of(&entry);
            self.entries.push(entry);
            if !is_first && (self.entries.len() > request.page_entries || self.bytes > request.page_bytes) {
                self.entries.truncate(entries);
                self.bytes = bytes;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_full(&self, request: &Request) -> bool {
        self.entries.len() >= request.page_entries || self.bytes >= request.page_bytes
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// What a row has to tell; `None` when it is not for this feed after all.
    fn entry(&mut self, request: &Request, row: &Row) -> Result<Option<FeedEntry>> {
        let prefix = encoding::document_prefix(row.collection.number, &row.id);
        let (header, body) = match self.version(request.mode, row, &prefix)? {
            Some((seq, header, body)) if seq == row.seq => (header, body),
            Some((seq, ..)) if seq > row.seq => return Ok(None),
            _ => return self.missing(request, row).map(|()| None),
        };
        let (kind, expected) = match row.kind {
            FeedKind::Created => (ChangeKind::Created, VersionKind::Document),
            FeedKind::Replaced => (ChangeKind::Replaced, VersionKind::Document),
            FeedKind::Deleted => (ChangeKind::Deleted, VersionKind::Tombstone),
            FeedKind::Expired => (ChangeKind::Expired, VersionKind::Tombstone),
        };
        if header.kind != expected {
            let seq = row.seq;
            return Err(Error::Corruption(format!("the feed says {kind:?} of commit {seq}, and its version does not")));
        }
        // What has expired is as good as deleted, though that is not committed yet.
        if request.mode == FeedMode::Latest && row.collection.ttl().is_expired(&header, || self.store.observe_now_ms())
        {
            return Ok(None);
        }
        let previous = match (request.mode, kind) {
            (FeedMode::Latest, _) | (FeedMode::All, ChangeKind::Created) => None,
            (FeedMode::All, _) => Some(self.previous(request, &prefix, &header)?),
        };
        let is_document = header.kind == VersionKind::Document;
        Ok(Some(FeedEntry {
            seq: CommitSeq::new(row.seq),
            batch_end: CommitSeq::new(row.end),
            time_ms: row.time_ms,
            id: row.id.clone(),
            kind,
            etag: self.store.etag(row.seq),
            document: is_document.then(|| self.store.document(row.seq, &header, body)),
            previous,
            collection: Arc::clone(&row.collection),
        }))
    }

    /// The version that a row is about, or one that shows that the row is not for this feed: it need not have its body.
    ///
    /// Versions in memory are used, but what is read here is not put there: a reader of a long past would wash out
    /// what others use now.
    fn version(&self, mode: FeedMode, row: &Row, prefix: &[u8]) -> Result<Option<(u64, VersionHeader, Bytes)>> {
        let cached = self.store.cache.get(prefix, self.newest.get());
        if let Some(CachedVersion { seq, header, body: Some(body) }) = cached {
            if seq == row.seq {
                return Ok(Some((seq, header, body)));
            }
            if seq > row.seq && mode == FeedMode::Latest {
                return Ok(Some((seq, header, Bytes::new())));
            }
        }
        let copy = |header, body: &[u8]| (row.seq, header, Bytes::copy_from_slice(body));
        match mode {
            FeedMode::All => self.store.rocks.version(prefix, row.seq, copy),
            FeedMode::Latest => self.store.rocks.newest(prefix, self.newest.get(), |seq, header, body| {
                if seq == row.seq { copy(header, body) } else { (seq, header, Bytes::new()) }
            }),
        }
    }

    fn previous(&self, request: &Request, prefix: &[u8], header: &VersionHeader) -> Result<PreviousVersion> {
        let etag = self.store.etag(header.previous);
        if !request.previous_images {
            return Ok(PreviousVersion { etag, document: None });
        }
        let document = self.store.rocks.version(prefix, header.previous, |previous, body| {
            let is_document = previous.kind == VersionKind::Document;
            is_document.then(|| self.store.document(header.previous, &previous, Bytes::copy_from_slice(body)))
        })?;
        Ok(PreviousVersion { etag, document: document.flatten() })
    }

    /// Says why a row's version is not there, if there is no good reason.
    fn missing(&mut self, request: &Request, row: &Row) -> Result<()> {
        // Retention moves its horizon before it drops anything.
        request.check(self.store, self.after)?;
        // A drop is told to every handle before its versions are swept away.
        let collection = &row.collection;
        if collection.is_dropped() {
            self.gone.insert(collection.number);
            return request.scope.as_ref().map_or(Ok(()), |_| Err(collection.dropped_error()));
        }
        // Retention drops a version and its row in one step too: a superseded one, which `Latest` would not have told.
        if request.mode == FeedMode::Latest && !self.store.rocks.has_feed_row(row.seq)? {
            return Ok(());
        }
        Err(Error::Corruption(format!(
            "the feed tells of commit {}, and collection {:?} has no version from it",
            row.seq, collection.name
        )))
    }
}

/// Whether the commit left no document behind.
fn is_end(kind: FeedKind) -> bool {
    matches!(kind, FeedKind::Deleted | FeedKind::Expired)
}

impl Window {
    /// Leaves the last row of each document, unless that is its deletion.
    fn keep_newest(&mut self) {
        let mut later: HashSet<(CollectionNumber, &[u8])> = HashSet::with_capacity(self.rows.len());
        let mut keep: Vec<bool> = self
            .rows
            .iter()
            .rev()
            .map(|row| later.insert((row.collection.number, &row.id)) && !is_end(row.kind))
            .collect();
        self.rows.retain(|_| keep.pop().unwrap_or(false));
    }
}

impl Request {
    /// The collection with this number, if the feed is about it and it is there.
    fn in_scope(&mut self, store: &Inner, number: CollectionNumber) -> Option<Arc<CollectionState>> {
        match &self.scope {
            Some(collection) => (collection.number == number).then(|| Arc::clone(collection)),
            None => {
                let known = self.known.entry(number).or_insert_with(|| store.collection_numbered(number));
                known.as_ref().filter(|collection| !collection.is_dropped()).cloned()
            }
        }
    }
}

fn bytes_of(entry: &FeedEntry) -> usize {
    let bytes = |document: &Option<Document>| document.as_ref().map_or(0, |document| document.body.len());
    entry.id.len() + bytes(&entry.document) + entry.previous.as_ref().map_or(0, |previous| bytes(&previous.document))
}
