//! Running a query over a container's items, one page at a time.
//!
//! Owns how documents reach the query, and where the next page goes on. Every page of a query is of the state that the
//! first one saw.

use std::time::Duration;

use etagdb::{CommitSeq, Document, ScanRange, Snapshot};
use serde_json::Value;

use crate::as_of;
use crate::catalog::Container;
use crate::continuation::{Position, Token};
use crate::feed::{Page, Walk};
use crate::figures::Figures;
use crate::headers::{Headers, Scope};
use crate::query::{Flow, Query};
use crate::query_route::{bytes, offset, refusal};
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
    /// Whether a page ends where a partition key range does.
    pub(crate) by_range: bool,
    /// The query as it was sent.
    pub(crate) body: &'a [u8],
}

impl Run<'_> {
    /// Makes the page, and the token of the next one if there is more.
    pub(crate) fn page(&self, figures: &mut Figures) -> Result<(Page, Option<String>), ApiError> {
        let (page, continuation) = if self.query.streams() { self.stream(figures)? } else { self.gather(figures)? };
        figures.results = page.len() as u64;
        figures.result_bytes = page.bytes() as u64;
        Ok((page, continuation))
    }

    /// A page of a query whose results come item by item.
    fn stream(&self, figures: &mut Figures) -> Result<(Page, Option<String>), ApiError> {
        let mut walk =
            Walk::begin(self.service, self.container, self.headers, (&self.scope, self.range.clone()), self.body)?;
        if self.by_range {
            walk.stop_between_ranges();
        }
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
        Ok((page, walk.continuation()))
    }

    /// A page of a query whose results depend on one another: all of them are made, for each page anew.
    fn gather(&self, figures: &mut Figures) -> Result<(Page, Option<String>), ApiError> {
        let what = Walk::what(self.container, self.body, &self.scope);
        let (offset, seq) = offset(self.headers, &what)?;
        let snapshot = self.snapshot(seq)?;
        let blind = !self.query.reads_documents();
        let mut collector = self.query.collect();
        for row in snapshot.scan(&self.container.items, &self.range)? {
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
        let results = collector.finish().map_err(refusal)?;
        let mut page = Page::new(self.headers)?;
        let mut results = results.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX));
        for result in results.by_ref() {
            page.push(bytes(result)?);
            if page.is_full() {
                break;
            }
        }
        let next = offset + page.len() as u64;
        let more = results.next().is_some();
        let continuation = more.then(|| Token { seq: snapshot.seq(), position: Position::Offset(next) }.encode(&what));
        Ok((page, continuation))
    }

    /// The state that the query's pages are of.
    fn snapshot(&self, seq: Option<CommitSeq>) -> Result<Snapshot, ApiError> {
        let store = &self.service.store;
        match seq {
            None => as_of::snapshot(self.service, self.headers),
            // Where that state is gone, the present one is the best there is.
            Some(seq) => Ok(self.container.snapshot_at(store, seq)?.unwrap_or_else(|| store.snapshot())),
        }
    }
}

/// Ends a query that takes too long.
fn in_time(figures: &Figures) -> Result<(), ApiError> {
    let passed = figures.documents + figures.entries;
    if passed.is_multiple_of(DOCUMENTS_PER_LOOK) && figures.elapsed() > GATHER_TIME_MAX {
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
