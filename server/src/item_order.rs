//! The orders in which a container's items can be read: by their keys, or by an index.
//!
//! Owns how reading begins after a place that was reached before, and how an entry of an index leads to its item.

use std::cell::Cell;

use bytes::Bytes;
use etagdb::{Document, ScanRange, Snapshot};
use serde_json::Value;

use crate::catalog::Container;
use crate::continuation::Place;
use crate::index::Choice;
use crate::status::{ApiError, Kind};

/// One way through the items of a container, or of a part of it.
#[derive(Debug)]
pub(crate) enum ItemOrder {
    /// By their storage keys, within a range of these.
    Keys(ScanRange),
    /// By an index; only items with storage keys from the first on and before the second, if there is one.
    Index(Choice, Vec<u8>, Option<Vec<u8>>),
}

/// Items with the keys of their places, in one order; a place whose item is not asked for, or gone, has none. Whoever
/// reads is shown these too, so that it can look at the clock.
pub(crate) type Rows<'s> = Box<dyn Iterator<Item = Result<(Bytes, Option<Document>), ApiError>> + 's>;

/// What entries of an index say of items.
pub(crate) type Told<'s> = Box<dyn Iterator<Item = Result<Value, ApiError>> + 's>;

impl ItemOrder {
    /// The number of the index, if it is one.
    pub(crate) fn index_number(&self) -> Option<u16> {
        match self {
            ItemOrder::Keys(_) => None,
            ItemOrder::Index(choice, ..) => Some(choice.number()),
        }
    }

    /// What an index that covers the query tells of the items, without looking at them; `None` in any other order.
    pub(crate) fn told<'s>(&'s self, snapshot: &'s Snapshot) -> Option<Told<'s>> {
        let ItemOrder::Index(choice, start, end) = self else { return None };
        if !choice.covers {
            return None;
        }
        let tell = move |entry: Result<Bytes, ApiError>| {
            let entry = entry?;
            let key = choice.item_key(&entry).ok_or_else(damaged)?;
            if key < start.as_slice() || end.as_ref().is_some_and(|end| key >= end.as_slice()) {
                return Ok(None);
            }
            choice.item(&entry).ok_or_else(damaged).map(Some)
        };
        let entries = entries(choice, snapshot, &Place::default());
        Some(Box::new(entries.map(tell).filter_map(Result::transpose)))
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
                let rows = snapshot.scan(&container.items, &after(range.clone(), place))?;
                let row = |row: Result<_, etagdb::Error>| row.map(|(key, document)| (key, Some(document)));
                Ok(Box::new(rows.skip(place.passed as usize).map(move |read| Ok(row(read)?))))
            }
            ItemOrder::Index(choice, start, end) => {
                let follow = move |entry: Result<Bytes, ApiError>| {
                    let entry = entry?;
                    passed.set(passed.get() + 1);
                    let key = choice.item_key(&entry).ok_or_else(damaged)?;
                    let is_asked = key >= start.as_slice() && end.as_ref().is_none_or(|end| key < end.as_slice());
                    // An item that has expired is gone before its entries are.
                    let document = if is_asked { snapshot.get(&container.items, key)? } else { None };
                    Ok((entry, document))
                };
                Ok(Box::new(entries(choice, snapshot, place).skip(place.passed as usize).map(follow)))
            }
        }
    }
}

/// The entries of an index that are read after a place, one stretch after the other.
fn entries<'s>(
    choice: &'s Choice,
    snapshot: &'s Snapshot,
    place: &Place,
) -> impl Iterator<Item = Result<Bytes, ApiError>> + use<'s> {
    let ranges = choice.ranges(&place.key, place.passed > 0).into_iter();
    ranges.flat_map(|range| {
        let (scan, failed) = match snapshot.scan(&choice.entries, &range) {
            Ok(scan) => (Some(scan), None),
            Err(error) => (None, Some(Err(error.into()))),
        };
        scan.into_iter().flatten().map(|row| Ok(row?.0)).chain(failed)
    })
}

fn damaged() -> ApiError {
    ApiError::new(Kind::InternalServerError, "an entry of an index is damaged")
}

/// What is left of a range of storage keys after a place.
fn after(range: ScanRange, place: &Place) -> ScanRange {
    if place.key.is_empty() { range } else { range.after(&place.key) }
}
