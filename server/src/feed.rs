//! Feeds of a container: all its items page by page, and its partition key ranges.
//!
//! Owns the walk over items that read feeds and queries share: which part of the container, from where, at which commit,
//! and when a page is full.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etagdb::{CommitSeq, Document, ScanRange, Snapshot};
use http::StatusCode;

use crate::abandoned;
use crate::as_of;
use crate::catalog::Container;
use crate::continuation::{Place, Position, Token};
use crate::headers::{Headers, PAGE_ITEMS_DEFAULT, Scope};
use crate::item_key;
use crate::item_order::ItemOrder;
use crate::service::{Reply, Service};
use crate::status::ApiError;
use crate::wire::{self, Version};

/// A page ends when it holds this many bytes, whatever its number of items.
pub(crate) const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A page ends after this long, full or not, so that no request reads a large container to its end.
pub(crate) const PAGE_TIME_MAX: Duration = Duration::from_secs(5);

/// A feed of items.
pub(crate) fn read(service: &Service, container: &Container, headers: Headers<'_>) -> Result<Reply, ApiError> {
    headers.check_session(service.store.last_commit())?;
    let scope = headers.scope(container)?;
    let range = range(container, &scope)?;
    let mut walk = Walk::begin(service, container, headers, (&scope, range), b"feed")?;
    let mut page = Page::new(headers)?;
    walk.run(|document, _| {
        page.push(Version::of(document).render(container));
        Ok(page.is_full())
    })?;
    Ok(page.reply(service, container, "Documents", walk.continuation()))
}

/// The partition key ranges: all there are, then 304 for ever, which is how SDKs learn that they have seen all.
pub(crate) fn key_ranges(service: &Service, container: &Container, headers: Headers<'_>) -> Reply {
    let etag = wire::key_ranges_etag(container);
    let last = service.store.last_commit();
    let reply = if headers.if_none_match_text() == Some(etag.as_bytes()) {
        Reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        let ranges: Vec<Vec<u8>> = (0..container.ranges.len())
            .map(|number| wire::key_range(container, number).to_string().into_bytes())
            .collect();
        Reply::json(StatusCode::OK, wire::feed(&container.rid.to_string(), "PartitionKeyRanges", &ranges))
            .header("x-ms-item-count", &ranges.len().to_string())
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

/// The same as bounds: storage keys from the first on, and before the second.
pub(crate) fn bounds(container: &Container, scope: &Scope) -> (Vec<u8>, Option<Vec<u8>>) {
    let definition = &container.definition.partition_key;
    match scope {
        Scope::Everything { .. } => (Vec::new(), None),
        Scope::Key(key) if key.0.is_empty() || definition.is_full(key) => {
            let start = item_key::partition_prefix(definition, key);
            // It ends with the separator, above which no byte of an id is.
            let end = [&start[..], &[u8::MAX]].concat();
            (start, Some(end))
        }
        Scope::Key(key) => {
            let (start, end) = item_key::epk_range(definition, key);
            (start, Some(end))
        }
        Scope::Range { start, end } => (start.clone(), end.clone()),
    }
}

/// A walk over items in key order, at one commit, that can stop after any item and go on in another request.
pub(crate) struct Walk<'a> {
    container: &'a Container,
    snapshot: Snapshot,
    order: ItemOrder,
    place: Place,
    /// Names this walk in its tokens.
    what: Vec<u8>,
    started: Instant,
    more: bool,
    /// Whether a page ends where a partition key range does.
    by_range: bool,
    /// Entries of an index that were passed.
    entries: Cell<u64>,
}

impl<'a> Walk<'a> {
    /// Begins a feed where the request's continuation says, or at the start. `what` tells it from others.
    pub(crate) fn begin(
        service: &Service,
        container: &'a Container,
        headers: Headers<'_>,
        (scope, range): (&Scope, ScanRange),
        what: &[u8],
    ) -> Result<Walk<'a>, ApiError> {
        let what = Walk::what(container, what, scope);
        let token = headers.continuation()?.map(|text| Token::decode(text, &what)).transpose()?;
        let (snapshot, place) = match token {
            None => (as_of::snapshot(service, headers)?, Place::default()),
            Some(Token { seq, position: Position::Document(place) }) => {
                Walk::state(service, container, seq).map(|(snapshot, found)| (snapshot, place.within(found)))?
            }
            Some(_) => return Err(Token::of_another()),
        };
        Ok(Walk::new(container, snapshot, ItemOrder::Keys(range), place, what))
    }

    /// Begins at a place.
    pub(crate) fn new(
        container: &'a Container,
        snapshot: Snapshot,
        order: ItemOrder,
        place: Place,
        what: Vec<u8>,
    ) -> Walk<'a> {
        Walk::begun(container, snapshot, order, place, what, Instant::now())
    }

    /// Begins at a place, for a page that somebody has waited for since `started`.
    pub(crate) fn begun(
        container: &'a Container,
        snapshot: Snapshot,
        order: ItemOrder,
        place: Place,
        what: Vec<u8>,
        started: Instant,
    ) -> Walk<'a> {
        Walk { container, snapshot, order, place, what, started, more: false, by_range: false, entries: Cell::new(0) }
    }

    /// The state that a token's pages are of, or else the present one; says which. Going on in the present state misses
    /// nothing that was there all the time.
    pub(crate) fn state(
        service: &Service,
        container: &Container,
        seq: CommitSeq,
    ) -> Result<(Snapshot, bool), ApiError> {
        let found = container.snapshot_at(&service.store, seq)?;
        let is_found = found.is_some();
        Ok((found.unwrap_or_else(|| service.store.snapshot()), is_found))
    }

    /// How many entries of an index were passed.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.get()
    }

    /// What tells the tokens of one feed or query of a container from those of another. A partition key may also be given
    /// as the range of effective keys that begins with it, and a client may change over on the way.
    pub(crate) fn what(container: &Container, what: &[u8], scope: &Scope) -> Vec<u8> {
        let start = match scope {
            Scope::Everything { .. } => Vec::new(),
            Scope::Key(key) => item_key::epk_range(&container.definition.partition_key, key).0,
            Scope::Range { start, .. } => start.clone(),
        };
        [container.rid.to_string().as_bytes(), b"\0", what, b"\0", &start].concat()
    }

    /// Makes a page end where a partition key range does, empty or not, as it does in the service when all are asked.
    pub(crate) fn stop_between_ranges(&mut self) {
        self.by_range = true;
    }

    /// Shows items to `visit` until it says that the page is full, or the items or the time are at their end.
    ///
    /// `visit` is told how many results of the item were delivered before. If it cannot deliver the rest on this page it
    /// raises that number to what has been delivered by now; the next page begins with the same item then.
    pub(crate) fn run(
        &mut self,
        mut visit: impl FnMut(&Document, &mut u32) -> Result<bool, ApiError>,
    ) -> Result<(), ApiError> {
        let next_range = self.by_range.then(|| self.next_range()).flatten();
        let order = match (&self.order, &next_range) {
            (ItemOrder::Keys(range), Some(start)) => &ItemOrder::Keys(range.clone().to(start)),
            (order, _) => order,
        };
        let mut full = false;
        for row in order.rows(self.container, &self.snapshot, &self.place.clone(), &self.entries)? {
            let (key, document) = row?;
            if full {
                self.more = true;
                return Ok(());
            }
            if let Some(document) = document {
                let before = self.place.results;
                let mut results = before;
                full = visit(&document, &mut results)?;
                if results > before {
                    // Some of this item's results are for the next page.
                    self.place.results = results;
                    self.more = true;
                    return Ok(());
                }
            }
            self.place.pass(&key);
            full |= self.started.elapsed() > PAGE_TIME_MAX;
            if abandoned::is_abandoned() {
                return Err(abandoned::refusal());
            }
        }
        if let Some(start) = next_range {
            // No item has a key as short as this one.
            self.place.pass(&start);
            self.more = true;
        }
        Ok(())
    }

    /// Where the partition key range after the present one begins, if there is one.
    fn next_range(&self) -> Option<Vec<u8>> {
        let ranges = &self.container.ranges;
        ranges.bounds(ranges.number_of(&self.place.key)).1
    }

    /// The token of the next page, if there is one.
    pub(crate) fn continuation(&self) -> Option<String> {
        let place = || self.place.clone();
        let position = || match self.order.index_number() {
            None => Position::Document(place()),
            Some(number) => Position::Entry(number, place()),
        };
        self.more.then(|| Token { seq: self.snapshot.seq(), position: position() }.encode(&self.what))
    }
}

/// The results of one page.
pub(crate) struct Page {
    items: Vec<Vec<u8>>,
    bytes: usize,
    items_max: usize,
}

impl Page {
    pub(crate) fn new(headers: Headers<'_>) -> Result<Page, ApiError> {
        let items_max = headers.page_items()?.unwrap_or(PAGE_ITEMS_DEFAULT);
        Ok(Page { items: Vec::new(), bytes: 0, items_max })
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

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
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
