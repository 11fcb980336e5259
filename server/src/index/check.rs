//! Whether the entries of indexes and the items agree, both ways: what `etagdb verify` says of indexes.
//!
//! Reads one snapshot and writes nothing. It needs no catalog: the list of a container's indexes lies beside their
//! entries, and says what there should be.

use etagdb::{Collection, Error, ScanRange, Snapshot, Store};

use super::build::{entries_of, is_entry};
use super::stored::{LIST, StoredList};
use super::{INEXACT, Part, Phase, entry};
use crate::contents::Contents;

/// Problems that are listed one by one.
const LISTED_MAX: usize = 100;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexReport {
    /// Indexes that were looked at.
    pub indexes: u64,
    /// Entries that were found.
    pub entries: u64,
    /// Entries that items should have and do not.
    pub missing: u64,
    /// Entries that no item gives rise to.
    pub stray: u64,
    /// A line for each of the first hundred.
    pub problems: Vec<String>,
}

impl IndexReport {
    /// Whether entries and items agree.
    pub fn is_sound(&self) -> bool {
        self.missing == 0 && self.stray == 0 && self.problems.is_empty()
    }

    fn list(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < LISTED_MAX {
            self.problems.push(problem());
        }
    }
}

/// Compares the entries of all indexes in a store with the items that they are of.
///
/// # Errors
///
/// A store that cannot be read. What disagrees is no error: it is in the report.
pub fn verify_indexes(store: &Store) -> Result<IndexReport, Error> {
    let mut report = IndexReport::default();
    let snapshot = store.snapshot();
    for name in store.collections() {
        let Some((items, entries)) = Contents::indexed(store, &name) else { continue };
        match snapshot.get(&entries, LIST)?.map(|list| StoredList::read(&entries, &list.body)).transpose() {
            Ok(list) => compare(&snapshot, &items, &entries, &list.unwrap_or_default(), &mut report)?,
            Err(error) => report.list(|| error.to_string()),
        }
    }
    Ok(report)
}

fn compare(
    snapshot: &Snapshot,
    items: &Collection,
    entries: &Collection,
    list: &StoredList,
    report: &mut IndexReport,
) -> Result<(), Error> {
    let live = list.indexes.iter().filter(|index| index.retired.is_none());
    let live: Vec<(u16, Vec<Part>)> = live.map(|index| (index.number, index.parts())).collect();
    let is_whole = |index: &&super::stored::StoredIndex| matches!(index.phase(), Phase::Whole(_));
    let whole = list.indexes.iter().filter(is_whole).map(|index| (index.number, index.parts()));
    let whole: Vec<(u16, Vec<Part>)> = whole.collect();
    report.indexes += list.indexes.len() as u64;
    for row in snapshot.scan(items, &ScanRange::all())? {
        let (key, document) = row?;
        for entry in entries_of(&whole, &key, &document.body) {
            if snapshot.get(entries, &entry)?.is_none() {
                report.missing += 1;
                report.list(|| format!("{}: an item at {} has no entry {}", entries.name(), hex(&key), hex(&entry)));
            }
        }
    }
    // An item that has expired is gone for readers before its entries are.
    let expires = items.ttl() != etagdb::CollectionTtl::Off;
    for row in snapshot.scan(entries, &ScanRange::all())? {
        let id = row?.0;
        if !is_entry(&id) {
            continue;
        }
        report.entries += 1;
        let is_inexact = id.starts_with(&INEXACT);
        let number = id.get(if is_inexact { 2..4 } else { 0..2 }).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        // Those of retired indexes are on their way out.
        if list.indexes.iter().any(|index| Some(index.number) == number && index.retired.is_some()) {
            continue;
        }
        let index = live.iter().find(|(known, _)| Some(*known) == number);
        let key = index.and_then(|(_, parts)| if is_inexact { id.get(4..) } else { entry::item_key(parts, &id) });
        let item = key.map(|key| Ok((key, snapshot.get(items, key)?))).transpose()?;
        let is_due = match (index, item) {
            (Some(index), Some((key, Some(document)))) => {
                entries_of(std::slice::from_ref(index), key, &document.body).iter().any(|due| due[..] == id[..])
            }
            (Some(_), Some((_, None))) => expires,
            _ => false,
        };
        if !is_due {
            report.stray += 1;
            report.list(|| format!("{}: no item gives rise to the entry {}", entries.name(), hex(&id)));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
