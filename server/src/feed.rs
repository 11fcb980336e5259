//! Feeds of a container: all its items page by page, and its partition key ranges.
//!
//! Owns the walk over items that read feeds and queries share: which part of the container, from where, at which commit,
//! and when a page is full.

use std::time::{Duration, Instant};

use bytes::Bytes;
use etagdb::{Document, ScanRange, Snapshot};
use http::StatusCode;

use crate::as_of;
use crate::catalog::Container;
use crate::continuation::{Place, Position, Token};
use crate::headers::{Headers, PAGE_ITEMS_DEFAULT, Scope};
use crate::item_key;
use crate::service::{Reply, Service};
use crate::status::ApiError;
use crate::wire::{self, Version};

/// A page ends when it holds this many bytes, whatever its number of items.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A page ends after this long, full or not, so that no request reads a large container to its end.
const PAGE_TIME_MAX: Duration = Duration::from_secs(5);

/// A feed of items.
pub(crate) fn read(service: &Service, container: &Container, headers: Headers<'_>) -> Result<Reply, ApiError> {
    headers.check_session(service.store.last_commit())?;
    let range = range(container, &headers.scope()?)?;
    let mut walk = Walk::begin(service, container, headers, range, b"feed")?;
    let mut page = Page::new(headers)?;
    walk.run(|document, _| {
        page.push(Version::of(document).render(container));
        Ok(page.is_full())
    })?;
    Ok(page.reply(service, container, "Documents", walk.continuation()))
}

/// The partition key ranges: the one there is, then 304 for ever, which is how SDKs learn that they have seen all.
pub(crate) fn key_ranges(service: &Service, container: &Container, headers: Headers<'_>) -> Reply {
    let etag = wire::key_ranges_etag(container);
    let last = service.store.last_commit();
    let reply = if headers.if_none_match_text() == Some(etag.as_bytes()) {
        Reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        let ranges = [wire::key_range(container).to_string().into_bytes()];
        Reply::json(StatusCode::OK, wire::feed(&container.rid.to_string(), "PartitionKeyRanges", &ranges))
            .header("x-ms-item-count", "1")
    };
    reply.header("etag", &etag).container(container, last, last)
}

/// The storage keys that a scope covers.
pub(crate) fn range(container: &Container, scope: &Scope) -> Result<ScanRange, ApiError> {
    let definition = &container.definition.partition_key;
    Ok(match scope {
        Scope::Everything { .. } => ScanRange::all(),
        Scope::Key(key) if key.0.is_empty() || definition.is_full(key) => {
            ScanRange::prefix(item_key::partition_prefix(definition, key))
        }
        Scope::Key(key) if definition.is_prefix(key) => {
            let (start, end) = item_key::epk_range(definition, key);
            ScanRange::all().from(start).to(end)
        }
        Scope::Key(key) => {
            let detail = format!(
                "The container has {} key paths, the request gives {}.",
                definition.paths().len(),
                key.to_header()
            );
            return Err(ApiError::partition_key(&detail));
        }
        Scope::Range { start, end } => {
            let range = ScanRange::all().from(start);
            match end {
                Some(end) => range.to(end),
                None => range,
            }
        }
    })
}

/// A walk over items in key order, at one commit, that can stop after any item and go on in another request.
pub(crate) struct Walk<'a> {
    container: &'a Container,
    snapshot: Snapshot,
    range: ScanRange,
    place: Place,
    /// Names this walk in its tokens.
    what: Vec<u8>,
    started: Instant,
    more: bool,
    /// Documents read so far.
    pub(crate) read: u64,
}

impl<'a> Walk<'a> {
    /// Begins where the request's continuation says, or at the start. `what` tells this feed or query from others.
    pub(crate) fn begin(
        service: &Service,
        container: &'a Container,
        headers: Headers<'_>,
        range: ScanRange,
        what: &[u8],
    ) -> Result<Walk<'a>, ApiError> {
        let what = [container.rid.to_string().as_bytes(), b"\0", what, b"\0", format!("{range:?}").as_bytes()].concat();
        let token = headers.continuation()?.map(|text| Token::decode(text, &what)).transpose()?;
        let (snapshot, place) = match token {
            None => (as_of::snapshot(service, container, headers)?, Place::default()),
            Some(Token { seq, position: Position::Document(place) }) => {
                match container.snapshot_at(&service.store, seq)? {
                    Some(snapshot) => (snapshot, place),
                    // Going on in the present state misses nothing that was there all the time; documents known only by
                    // their number would, so those are read again.
                    None => (service.store.snapshot(), Place { passed: 0, ..place }),
                }
            }
            Some(Token { position: Position::Offset(_), .. }) => {
                return Err(ApiError::bad_request("The continuation token is invalid: it belongs to another query."));
            }
        };
        Ok(Walk { container, snapshot, range, place, what, started: Instant::now(), more: false, read: 0 })
    }

    /// Shows items to `visit` until it says that the page is full, or the items or the time are at their end.
    ///
    /// `visit` is told how many results of the item were delivered before. If it cannot deliver the rest on this page it
    /// raises that number to what has been delivered by now; the next page begins with the same item then.
    pub(crate) fn run(
        &mut self,
        mut visit: impl FnMut(&Document, &mut u32) -> Result<bool, ApiError>,
    ) -> Result<(), ApiError> {
        let mut range = self.range.clone();
        if !self.place.key.is_empty() {
            range = range.after(&self.place.key);
        }
        let passed = self.place.passed as usize;
        let mut full = false;
        for row in self.snapshot.scan(&self.container.items, &range)?.skip(passed) {
            let (key, document) = row?;
            if full {
                self.more = true;
                return Ok(());
            }
            self.read += 1;
            let before = self.place.results;
            let mut results = before;
            full = visit(&document, &mut results)?;
            if results > before {
                // Some of this item's results are for the next page.
                self.place.results = results;
                self.more = true;
                return Ok(());
            }
            self.place.pass(&key);
            full |= self.started.elapsed() > PAGE_TIME_MAX;
        }
        Ok(())
    }

    /// The token of the next page, if there is one.
    pub(crate) fn continuation(&self) -> Option<String> {
        let token = || Token { seq: self.snapshot.seq(), position: Position::Document(self.place.clone()) };
        self.more.then(|| token().encode(&self.what))
    }
}

/// The results of one page.
pub(crate) struct Page {
    items: Vec<Vec<u8>>,
    bytes: usize,
    items_max: usize,
    more: bool,
}

impl Page {
    pub(crate) fn new(headers: Headers<'_>) -> Result<Page, ApiError> {
        let items_max = headers.page_items()?.unwrap_or(PAGE_ITEMS_DEFAULT);
        Ok(Page { items: Vec::new(), bytes: 0, items_max, more: false })
    }

    pub(crate) fn push(&mut self, item: Vec<u8>) {
        self.bytes += item.len();
        self.items.push(item);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.items.len() >= self.items_max || self.bytes >= PAGE_BYTES_MAX
    }

    /// Most items on the page.
    pub(crate) fn items_max(&self) -> usize {
        self.items_max
    }

    /// Notes that something did not fit.
    pub(crate) fn note_more(&mut self) {
        self.more = true;
    }

    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The page as an answer about items of a container.
    pub(crate) fn reply(
        self,
        service: &Service,
        container: &Container,
        name: &str,
        continuation: Option<String>,
    ) -> Reply {
        let last = service.store.last_commit();
        self.plain_reply(&container.rid.to_string(), name, continuation).container(container, last, last)
    }

    /// The page as an answer about anything else.
    pub(crate) fn plain_reply(self, rid: &str, name: &str, continuation: Option<String>) -> Reply {
        let reply = Reply::json(StatusCode::OK, Bytes::from(wire::feed(rid, name, &self.items)))
            .header("x-ms-item-count", &self.items.len().to_string());
        match continuation {
            Some(token) => reply.header("x-ms-continuation", &token),
            None => reply,
        }
    }
}
