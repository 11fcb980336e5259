//! The orders in which a container's items can be read: by their keys, or by an index.
//!
//! Owns how reading begins after a place that was reached before, and how an entry of an index leads to its item.

use std::cell::Cell;

use bytes::Bytes;
use etagdb::{Collection, Document, ScanRange, Snapshot};
use serde_json::Value;

use crate::catalog::Container;
use crate::continuation::Place;
use crate::headers::Scope;
use crate::index::{self, Choice};
use crate::status::{ApiError, Kind};

/// One way through the items of a container, or of a part of it.
#[derive(Debug)]
pub(crate) enum ItemOrder {
    /// By their storage keys, within a range of these.
    Keys(ScanRange),
    /// By an index; only items with storage keys from the first on and before the second, if there is one.
    Index(Choice, Vec<u8>, Option<Vec<u8>>),
}

/// Items with the keys of their places, in one order.
pub(crate) type Rows<'s> = Box<dyn Iterator<Item = Result<(Bytes, Document), ApiError>> + 's>;

/// What entries of an index say of items.
pub(crate) type Told<'s> = Box<dyn Iterator<Item = Result<Value, ApiError>> + 's>;

impl ItemOrder {
    /// By an index, within a scope.
    pub(crate) fn by_index(choice: Choice, scope: &Scope) -> ItemOrder {
        match scope {
            Scope::Range { start, end } => ItemOrder::Index(choice, start.clone(), end.clone()),
            Scope::Everything { .. } | Scope::Key(_) => ItemOrder::Index(choice, Vec::new(), None),
        }
    }

    /// The number of the index, if it is one.
    pub(crate) fn index_number(&self) -> Option<u16> {
        match self {
            ItemOrder::Keys(_) => None,
            ItemOrder::Index(choice, ..) => Some(choice.number()),
        }
    }

    /// What an index that covers the query tells of the items, without looking at them; `None` in any other order.
    pub(crate) fn told<'s>(
        &'s self,
        container: &'s Container,
        snapshot: &'s Snapshot,
    ) -> Result<Option<Told<'s>>, ApiError> {
        let ItemOrder::Index(choice, start, end) = self else { return Ok(None) };
        if !choice.covers {
            return Ok(None);
        }
        let damaged = || ApiError::new(Kind::InternalServerError, "an entry of an index is damaged");
        let tell = move |entry: Bytes| {
            let key = choice.item_key(&entry).ok_or_else(damaged)?;
            if key < start.as_slice() || end.as_ref().is_some_and(|end| key >= end.as_slice()) {
                return Ok(None);
            }
            choice.item(&entry).ok_or_else(damaged).map(Some)
        };
        let rows = snapshot.scan(entries_of(container)?, &choice.range)?.map(move |row| tell(row?.0));
        Ok(Some(Box::new(rows.filter_map(Result::transpose))))
    }

    /// The items after a place, with the keys by which [`Place::pass`] notes them. By an index those are its entries,
    /// which `passed` counts, also the ones that lead nowhere.
    pub(crate) fn rows<'s>(
        &'s self,
        container: &'s Container,
        snapshot: &'s Snapshot,
        place: &Place,
        passed: &'s Cell<u64>,
    ) -> Result<Rows<'s>, ApiError> {
        match self {
            ItemOrder::Keys(range) => {
                let rows = snapshot.scan(&container.items, &after(range.clone(), place, false))?;
                Ok(Box::new(rows.skip(place.passed as usize).map(|row| Ok(row?))))
            }
            ItemOrder::Index(choice, start, end) => {
                let rows =
                    snapshot.scan(entries_of(container)?, &after(choice.range.clone(), place, choice.reverse))?;
                let follow = move |entry: Bytes| {
                    passed.set(passed.get() + 1);
                    let Some(key) = choice.item_key(&entry) else {
                        return Err(ApiError::new(Kind::InternalServerError, "an entry of an index is damaged"));
                    };
                    if key < start.as_slice() || end.as_ref().is_some_and(|end| key >= end.as_slice()) {
                        return Ok(None);
                    }
                    // An item that has expired is gone before its entries are.
                    let document = snapshot.get(&container.items, key)?;
                    Ok(document.map(|document| (entry, document)))
                };
                let rows = rows.skip(place.passed as usize).map(move |row| follow(row?.0));
                Ok(Box::new(rows.filter_map(Result::transpose)))
            }
        }
    }
}

fn entries_of(container: &Container) -> Result<&Collection, ApiError> {
    let gone = || ApiError::new(Kind::InternalServerError, "the entries of an index are gone");
    container.indexes.entries().ok_or_else(gone)
}

/// What is left of a range after a place.
fn after(range: ScanRange, place: &Place, reverse: bool) -> ScanRange {
    if place.key.is_empty() {
        return range;
    }
    if !reverse {
        return range.after(&place.key);
    }
    // Known by its beginning and a number, the place is among the keys that begin so.
    let end = if place.passed > 0 { index::successor(place.key.clone()) } else { Some(place.key.clone()) };
    end.map_or_else(|| range.clone(), |end| range.clone().before(end))
}
