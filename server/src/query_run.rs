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
use crate::feed::{self, Page, Walk};
use crate::figures::Figures;
use crate::headers::{Headers, Scope};
use crate::index::{Ask, Choice};
use crate::item_order::ItemOrder;
use crate::partition_key::PartitionKey;
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
    /// Whether that is one item.
    pub(crate) single: bool,
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
    /// Whether they were made item by item.
    streams: Option<bool>,
}

impl Start {
    fn within(place: Place, index: Option<u16>) -> Start {
        Start { place, offset: 0, index: Some(index), streams: Some(true) }
    }

    fn at(offset: u64, index: Option<u16>) -> Start {
        Start { place: Place::default(), offset, index: Some(index), streams: Some(false) }
    }
}

fn cannot_go_on() -> ApiError {
    ApiError::bad_request(
        "The query cannot go on: the index that its first pages were read by is gone. Begin it again.",
    )
}

impl Run<'_> {
    /// Makes the page, and the token of the next one if there is more.
    pub(crate) fn page(&self, figures: &mut Figures) -> Result<(Page, Option<String>), ApiError> {
        let what = Walk::what(self.container, self.body, &self.scope);
        let token = self.headers.continuation()?.map(|text| Token::decode(text, &what)).transpose()?;
        let (snapshot, start) = self.start(token)?;
        let ask = self.ask(&snapshot);
        let choice = self.choose(&ask, start.index)?;
        if let Some(choice) = &choice {
            figures.access = choice.access();
        }
        let wanted = ask.wanted(choice.as_ref());
        let sorted = choice.as_ref().is_some_and(|choice| choice.ordered);
        let streams = if sorted { self.query.streams_in_order() } else { self.query.streams() };
        if start.streams.is_some_and(|before| before != streams) {
            return Err(cannot_go_on());
        }
        let by_keys = choice.is_none();
        let order = match choice {
            Some(choice) => {
                let (from, to) = ask.keys;
                ItemOrder::Index(choice, from, to)
            }
            None => ItemOrder::Keys(self.range.clone()),
        };
        let (page, continuation) = if streams {
            let mut walk = Walk::begun(self.container, snapshot, order, start.place, what, figures.started);
            if self.by_range && by_keys {
                walk.stop_between_ranges();
            }
            self.stream(walk, figures)?
        } else {
            self.gather(&snapshot, &order, sorted, start.offset, &what, figures)?
        };
        figures.results = page.len() as u64;
        figures.result_bytes = page.bytes() as u64;
        if let Some(parts) = wanted {
            self.container.indexes.wish(parts, figures.documents.saturating_sub(figures.results));
        }
        Ok((page, continuation))
    }

    /// The state that the query's pages are of, and where this one begins.
    fn start(&self, token: Option<Token>) -> Result<(Snapshot, Start), ApiError> {
        let Some(Token { seq, position }) = token else {
            return Ok((as_of::snapshot(self.service, self.headers)?, Start::default()));
        };
        let (snapshot, found) = Walk::state(self.service, self.container, seq)?;
        let start = match position {
            Position::Document(place) => Start::within(place.within(found), None),
            Position::Entry(index, place) => Start::within(place.within(found), Some(index)),
            Position::Offset(offset) => Start::at(offset, None),
            Position::OffsetBy(index, offset) => Start::at(offset, Some(index)),
        };
        Ok((snapshot, start))
    }

    /// What an index is asked.
    fn ask<'s>(&'s self, snapshot: &'s Snapshot) -> Ask<'s> {
        let definition = &self.container.definition;
        let key = match &self.scope {
            Scope::Key(PartitionKey(components)) => {
                let values = definition.partition_key.paths().zip(components);
                values.filter_map(|(path, component)| Some((path.to_vec(), component.value()?))).collect()
            }
            Scope::Everything { .. } | Scope::Range { .. } => Vec::new(),
        };
        let keys = feed::bounds(self.container, &self.scope);
        // An item that has expired keeps its entries for a moment, so where items can expire they stand for nothing.
        Ask { query: self.query, snapshot, key, keys, may_cover: definition.default_ttl.is_none() }
    }

    /// The index by which items are read, if one helps. All pages keep to the choice of the first.
    fn choose(&self, ask: &Ask<'_>, before: Option<Option<u16>>) -> Result<Option<Choice>, ApiError> {
        let is_hidden = matches!(&self.scope, Scope::Key(key) if ask.key.len() < key.0.len());
        // A partition key without a value says nothing that an index knows; and one item is read by its key.
        if self.single || is_hidden || before == Some(None) {
            return Ok(None);
        }
        match (self.container.indexes.choose(ask, before.flatten())?, before) {
            (None, Some(_)) => Err(cannot_go_on()),
            (choice, _) => Ok(choice),
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
        // Documents, or entries of an index.
        let mut passed = 0;
        if let Some(items) = order.told(snapshot) {
            for item in items {
                passed += 1;
                in_time(figures, passed)?;
                figures.entries += 1;
                if collector.push(&item?).map_err(refusal)? == Flow::Done {
                    break;
                }
            }
        } else {
            let entries = Cell::new(0);
            for row in order.rows(self.container, snapshot, &Place::default(), &entries)? {
                passed += 1;
                in_time(figures, passed)?;
                let (_, Some(document)) = row? else { continue };
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

/// Ends a query that takes too long, or that nobody waits for any more; called for each document that it passes.
fn in_time(figures: &Figures, passed: u64) -> Result<(), ApiError> {
    if !passed.is_multiple_of(DOCUMENTS_PER_LOOK) {
        return Ok(());
    }
    if abandoned::is_abandoned() {
        return Err(abandoned::refusal());
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::{HeaderMap, HeaderValue};
    use serde_json::json;

    use super::*;
    use crate::index::tests::{Fixture, item, path};

    /// A page of a query that was begun so long ago, going on after another page.
    fn late(
        fixture: &Fixture,
        text: &str,
        ago: Duration,
        after: Option<&str>,
    ) -> Result<(usize, Option<String>), String> {
        let container = fixture.service.catalog.container(&path("c")).expect("there");
        let query = crate::query::parse_with(text, Vec::new(), &[]).expect(text);
        let mut headers = HeaderMap::new();
        if let Some(token) = after {
            headers.insert("x-ms-continuation", HeaderValue::from_str(token).expect("text"));
        }
        let run = Run {
            service: &fixture.service,
            container: &container,
            headers: Headers(&headers),
            query: &query,
            scope: Scope::Everything { routed: true },
            range: ScanRange::all(),
            single: false,
            by_range: false,
            body: text.as_bytes(),
        };
        let mut figures = Figures::begin();
        figures.started = Instant::now().checked_sub(ago).expect("the machine has been up for a while");
        run.page(&mut figures).map(|(page, token)| (page.len(), token)).map_err(|error| error.message)
    }

    fn filled(policy: serde_json::Value) -> Fixture {
        let fixture = Fixture::new();
        fixture.make("c", &policy);
        for number in 0..600 {
            fixture.write("c", &item(number, Some(json!(number % 2)), None), false);
        }
        fixture
    }

    #[test]
    fn a_page_that_takes_too_long_ends_where_the_next_one_begins() {
        for policy in [json!({"indexingMode": "none"}), json!({"includedPaths": [{"path": "/a/?"}]})] {
            let fixture = filled(policy);
            let text = "SELECT VALUE c.id FROM c WHERE c.a = 0";
            let (mut results, mut pages) = (0, 0);
            let mut token: Option<String> = None;
            loop {
                // The first pages have been waited for longer than a page may take.
                let ago = if pages < 20 { Duration::from_secs(60) } else { Duration::ZERO };
                let (count, next) = late(&fixture, text, ago, token.as_deref()).expect("a page");
                results += count;
                pages += 1;
                assert!(count <= 1 || pages > 20);
                match next {
                    Some(next) => token = Some(next),
                    None => break,
                }
            }
            assert_eq!(results, 300);
            assert!(pages > 20);
        }
    }

    #[test]
    fn a_query_that_needs_everything_ends_after_its_time() {
        let fixture = filled(json!({"includedPaths": [{"path": "/a/?"}]}));
        let text = |order: &str| format!("SELECT VALUE c.id FROM c WHERE c.a = 0 ORDER BY {order}");
        for (order, ago) in [("c.id", GATHER_TIME_MAX), ("c.id DESC", GATHER_TIME_MAX)] {
            let error = late(&fixture, &text(order), ago, None).expect_err("too late");
            assert!(error.contains("ended after 60 seconds and"), "{error}");
            assert!(late(&fixture, &text(order), Duration::ZERO, None).is_ok());
        }
        let covered = late(&fixture, "SELECT VALUE COUNT(c.a) FROM c", GATHER_TIME_MAX, None).expect_err("too late");
        assert!(covered.contains("narrow it"), "{covered}");
    }
}
