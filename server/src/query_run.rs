//! Running a query over a container's items, one page at a time.
//!
//! Owns how documents reach the query, and where the next page goes on. Every page of a query is of the state that the
//! first one saw.

use std::cell::Cell;
use std::time::Duration;

use etagdb::{Document, ScanRange, Snapshot};
use serde_json::Value;

use crate::abandoned;
use crate::as_of;
use crate::catalog::Container;
use crate::continuation::{Place, Position, Token};
use crate::feed::{Page, Walk};
use crate::figures::Figures;
use crate::headers::{Headers, Scope};
use crate::item_order::ItemOrder;
use crate::query::{Flow, Query};
use crate::query_route::{bytes, refusal};
use crate::service::Service;
use crate::status::{ApiError, Kind};
use crate::wire::Version;

/// A query that has to see everything before its first result ends after this long.
const GATHER_TIME_MAX: Duration = Duration::from_secs(60);
/// How many documents pass between two looks at the clock.
const DOCUMENTS_PER_LOOK: u64 = 256;

/// One page of a query, about to be made.
pub(crate) struct Run<'a> {
    pub(crate) service: &'a Service,
    pub(crate) container: &'a Container,
    pub(crate) headers: Headers<'a>,
    pub(crate) query: &'a Query,
    /// The part of the container that is asked.
    pub(crate) scope: Scope,
    /// The storage keys of the items in it that can matter.
    pub(crate) range: ScanRange,
    /// Whether a page ends where a partition key range does. In the order of an index it cannot.
    pub(crate) by_range: bool,
    /// The query as it was sent.
    pub(crate) body: &'a [u8],
}

/// Where a page begins.
#[derive(Default)]
struct Start {
    place: Place,
    offset: u64,
    /// The index that the pages before it were made by way of; absent on the first page, which may choose.
    index: Option<Option<u16>>,
}

impl Run<'_> {
    /// Makes the page, and the token of the next one if there is more.
    pub(crate) fn page(&self, figures: &mut Figures) -> Result<(Page, Option<String>), ApiError> {
        let what = Walk::what(self.container, self.body, &self.scope);
        let token = self.headers.continuation()?.map(|text| Token::decode(text, &what)).transpose()?;
        let (snapshot, start) = self.start(token)?;
        let order = self.order(&snapshot, start.index)?;
        let sorted = matches!(&order, ItemOrder::Index(choice, ..) if choice.ordered);
        if let ItemOrder::Index(choice, ..) = &order {
            figures.access = choice.access();
        }
        let streams = if sorted { self.query.streams_in_order() } else { self.query.streams() };
        let (page, continuation) = if streams {
            let by_keys = order.index_number().is_none();
            let mut walk = Walk::new(self.container, snapshot, order, start.place, what);
            if self.by_range && by_keys {
                walk.stop_between_ranges();
            }
            self.stream(walk, figures)?
        } else {
            self.gather(&snapshot, &order, sorted, start.offset, &what, figures)?
        };
        figures.results = page.len() as u64;
        figures.result_bytes = page.bytes() as u64;
        Ok((page, continuation))
    }

    /// The state that the query's pages are of, and where this one begins.
    fn start(&self, token: Option<Token>) -> Result<(Snapshot, Start), ApiError> {
        let Some(Token { seq, position }) = token else {
            return Ok((as_of::snapshot(self.service, self.headers)?, Start::default()));
        };
        let (snapshot, found) = Walk::state(self.service, self.container, seq)?;
        let start = match position {
            Position::Document(place) => Start { place: place.within(found), offset: 0, index: Some(None) },
            Position::Offset(offset) => Start { place: Place::default(), offset, index: Some(None) },
            Position::Entry(index, place) => Start { place: place.within(found), offset: 0, index: Some(Some(index)) },
            Position::OffsetBy(index, offset) => Start { place: Place::default(), offset, index: Some(Some(index)) },
        };
        Ok((snapshot, start))
    }

    /// The order in which items are read: that of an index where one helps. All pages keep to the choice of the first.
    fn order(&self, snapshot: &Snapshot, before: Option<Option<u16>>) -> Result<ItemOrder, ApiError> {
        let by_keys = || Ok(ItemOrder::Keys(self.range.clone()));
        // The items of one partition key lie side by side.
        if matches!(self.scope, Scope::Key(_)) || before == Some(None) {
            return by_keys();
        }
        // An item that has expired keeps its entries for a moment, so where items can expire they stand for nothing.
        let may_cover = self.container.definition.default_ttl.is_none();
        match (self.container.indexes.choose(self.query, snapshot, before.flatten(), may_cover)?, before) {
            (Some(choice), _) => Ok(ItemOrder::by_index(choice, &self.scope)),
            (None, None) => by_keys(),
            (None, Some(_)) => Err(ApiError::bad_request(
                "The query cannot go on: the index that its first pages were read by is gone. Begin it again.",
            )),
        }
    }

    /// A page of a query whose results come item by item.
    fn stream(&self, mut walk: Walk<'_>, figures: &mut Figures) -> Result<(Page, Option<String>), ApiError> {
        let mut page = Page::new(self.headers)?;
        let mut results = Vec::new();
        walk.run(|document, delivered| {
            results.clear();
            figures.read(document.body.len());
            self.query.apply(&item(self.container, document)?, &mut results).map_err(refusal)?;
            let count = u32::try_from(results.len()).unwrap_or(u32::MAX);
            for (index, result) in (0..count).zip(&results).skip(*delivered as usize) {
                page.push(bytes(result)?);
                if page.is_full() {
                    if index + 1 < count {
                        *delivered = index + 1;
                    }
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        figures.entries += walk.entries();
        Ok((page, walk.continuation()))
    }

    /// A page of a query whose results depend on one another: all of them are made, for each page anew.
    fn gather(
        &self,
        snapshot: &Snapshot,
        order: &ItemOrder,
        sorted: bool,
        offset: u64,
        what: &[u8],
        figures: &mut Figures,
    ) -> Result<(Page, Option<String>), ApiError> {
        let blind = !self.query.reads_documents();
        let mut page = Page::new(self.headers)?;
        // One more than the page can hold tells whether there is another page.
        let wanted = offset.saturating_add(page.items_max() as u64).saturating_add(1);
        let mut collector = self.query.collect_first(wanted, sorted);
        if let Some(items) = order.told(self.container, snapshot)? {
            for item in items {
                figures.entries += 1;
                if collector.push(&item?).map_err(refusal)? == Flow::Done {
                    break;
                }
                in_time(figures)?;
            }
        } else {
            let entries = Cell::new(0);
            for row in order.rows(self.container, snapshot, &Place::default(), &entries)? {
                let (_, document) = row?;
                let flow = if blind {
                    figures.entries += 1;
                    collector.push(&Value::Null)
                } else {
                    figures.read(document.body.len());
                    collector.push(&item(self.container, &document)?)
                };
                if flow.map_err(refusal)? == Flow::Done {
                    break;
                }
                in_time(figures)?;
            }
            figures.entries += entries.get();
        }
        let results = collector.finish().map_err(refusal)?;
        let mut results = results.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX));
        for result in results.by_ref() {
            page.push(bytes(result)?);
            if page.is_full() {
                break;
            }
        }
        let next = offset + page.len() as u64;
        let more = results.next().is_some();
        let position = || match order.index_number() {
            None => Position::Offset(next),
            Some(number) => Position::OffsetBy(number, next),
        };
        let continuation = more.then(|| Token { seq: snapshot.seq(), position: position() }.encode(what));
        Ok((page, continuation))
    }
}

/// Ends a query that takes too long, or that nobody waits for any more.
fn in_time(figures: &Figures) -> Result<(), ApiError> {
    let passed = figures.documents + figures.entries;
    if !passed.is_multiple_of(DOCUMENTS_PER_LOOK) {
        return Ok(());
    }
    if abandoned::is_abandoned() {
        return Err(ApiError::new(Kind::RequestTimeout, "The client went away."));
    }
    if figures.elapsed() > GATHER_TIME_MAX {
        return Err(ApiError::new(
            Kind::RequestTimeout,
            format!(
                "The query was ended after {} seconds and {passed} documents. Its first result needs all of them; narrow \
                 it, or give its paths an index.",
                GATHER_TIME_MAX.as_secs()
            ),
        ));
    }
    Ok(())
}

/// An item as a query sees it: with its system properties, as a client does.
fn item(container: &Container, document: &Document) -> Result<Value, ApiError> {
    serde_json::from_slice(&Version::of(document).render(container))
        .map_err(|error| ApiError::new(Kind::InternalServerError, format!("a stored item is not JSON: {error}")))
}
