//! The long part of upkeep: adding the entries of items that were there before their index, and taking away those of
//! indexes that are retired.
//!
//! From the moment at which the store derives an index's entries, every write takes care of its own: of all of them, as
//! long as an index is built, for what it replaces need not have any. What a snapshot taken after that still shows is
//! added in batches that check that the items have not been written since; those that have, need nothing. How far that has come is written down now and then, so a restart goes on from there: the entries
//! added until then have been kept right by every write since.

use std::sync::Arc;

use bytes::Bytes;
use etagdb::{Collection, Document, Error, Precondition, ScanRange};
use serde_json::Value;

use super::stored::{LIST, StoredList};
use super::{INEXACT, Indexes, Part, Phase, entry};

/// Items whose entries are added in one batch. Their stripes are locked through its sync.
const ITEMS_PER_BATCH: usize = 256;
/// Entries that are deleted in one batch.
const DELETES_PER_BATCH: usize = 2048;
/// After so many batches what has been reached is written down.
const BATCHES_PER_NOTE: u64 = 64;

/// The entries of an item as it is stored.
pub(super) fn entries_of(indexes: &[(u16, Vec<Part>)], key: &[u8], body: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    // Every stored item is JSON; of anything else an index could say nothing.
    if let Ok(item) = serde_json::from_slice::<Value>(body) {
        for (number, parts) in indexes {
            entry::entries(*number, parts, &item, key, &mut out);
        }
    }
    out
}

impl Indexes {
    /// Adds and takes away entries until nothing is left to do, or `stop` says so.
    ///
    /// # Errors
    /// A store that does not do its part. What was left is found again when the store is opened.
    pub(super) fn catch_up(self: &Arc<Self>, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        while !stop() && !self.is_closed() && self.state.read().has_work() {
            let entries = self.open_entries()?;
            let list = StoredList::load(&entries)?;
            let building: Vec<_> = list.indexes.iter().filter(|index| index.phase() == Phase::Building).collect();
            let Some(first) = building.first() else { return self.clean(&entries, stop) };
            // Those that have come equally far are built in one pass.
            let start = first.reached();
            let together = building.iter().filter(|index| index.reached() == start);
            let together: Vec<(u16, Vec<Part>)> = together.map(|index| (index.number, index.parts())).collect();
            if self.build(&entries, &together, start, stop)? {
                let _change = self.change.lock();
                if self.is_closed() {
                    return Ok(());
                }
                let built = self.store.last_commit();
                let mut list = StoredList::load(&entries)?;
                for (number, _) in together {
                    // Retired meanwhile, it stays so.
                    if let Some(index) = list.find(number).filter(|index| index.retired.is_none()) {
                        index.finish(built);
                    }
                }
                self.publish(&entries, &list)?;
                self.derive(&entries, &list)?;
                self.state.write().progress = None;
            }
        }
        Ok(())
    }

    /// Adds the entries of older items; says whether of all of them.
    fn build(
        &self,
        entries: &Collection,
        indexes: &[(u16, Vec<Part>)],
        start: Option<(Vec<u8>, u64)>,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, Error> {
        let (range, mut done) = match start {
            Some((key, done)) => (ScanRange::all().after(key), done),
            None => (ScanRange::all(), 0),
        };
        let all = self.items.size_estimate()?.documents;
        let snapshot = self.store.snapshot();
        let mut rows = snapshot.scan(&self.items, &range)?;
        let mut last = None;
        for batch in 0_u64.. {
            self.state.write().progress = Some((done, all.max(done)));
            let stops = stop() || self.is_closed();
            if let Some(last) = last.take().filter(|_| stops || batch.is_multiple_of(BATCHES_PER_NOTE)) {
                self.note(entries, indexes, last, done)?;
            }
            if stops {
                return Ok(false);
            }
            let chunk = rows.by_ref().take(ITEMS_PER_BATCH).collect::<Result<Vec<_>, _>>()?;
            if chunk.is_empty() {
                break;
            }
            self.add(entries, indexes, &chunk)?;
            done += chunk.len() as u64;
            last = chunk.into_iter().next_back().map(|(key, _)| key);
        }
        Ok(true)
    }

    /// Writes down how far a build has come.
    fn note(&self, entries: &Collection, indexes: &[(u16, Vec<Part>)], last: Bytes, done: u64) -> Result<(), Error> {
        let _change = self.change.lock();
        if self.is_closed() {
            return Ok(());
        }
        let mut list = StoredList::load(entries)?;
        for (number, _) in indexes {
            if let Some(index) = list.find(*number) {
                index.reach(&last, done);
            }
        }
        list.save(entries)
    }

    fn add(
        &self,
        entries: &Collection,
        indexes: &[(u16, Vec<Part>)],
        chunk: &[(Bytes, Document)],
    ) -> Result<(), Error> {
        let mut batch = self.store.batch();
        for (key, document) in chunk {
            batch.check(&self.items, key, document.etag);
            let mut of_item = entries_of(indexes, key, &document.body);
            of_item.sort_unstable();
            of_item.dedup();
            for entry in of_item {
                batch.put(entries, entry, [], Precondition::Any);
            }
        }
        match (batch.commit(), chunk) {
            (Ok(_), _) => Ok(()),
            // Whoever has written it since has taken care of its entries.
            (Err(Error::Conflict(_)), [_]) => Ok(()),
            (Err(Error::Conflict(_)), _) => {
                let (one, other) = chunk.split_at(chunk.len() / 2);
                self.add(entries, indexes, one)?;
                self.add(entries, indexes, other)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Takes away the entries of retired indexes, and forgets those that no kept state needs any more.
    fn clean(&self, entries: &Collection, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        let list = StoredList::load(entries)?;
        let retired: Vec<u16> =
            list.indexes.iter().filter(|index| index.retired.is_some()).map(|index| index.number).collect();
        for number in &retired {
            for prefix in [number.to_be_bytes().to_vec(), [INEXACT, number.to_be_bytes()].concat()] {
                if !self.delete_all(entries, &prefix, stop)? {
                    return Ok(());
                }
            }
        }
        let _change = self.change.lock();
        let mut list = StoredList::load(entries)?;
        let horizon = entries.horizon();
        list.indexes.retain(|index| match index.phase() {
            Phase::Retired(from, to) => !retired.contains(&index.number) || (from <= to && horizon <= to),
            Phase::Building | Phase::Whole(_) => true,
        });
        self.publish(entries, &list)
    }

    /// Deletes everything with this prefix; says whether it came to the end.
    fn delete_all(&self, entries: &Collection, prefix: &[u8], stop: &dyn Fn() -> bool) -> Result<bool, Error> {
        loop {
            if stop() || self.is_closed() {
                return Ok(false);
            }
            let mut batch = self.store.batch();
            for row in entries.scan(&ScanRange::prefix(prefix))?.take(DELETES_PER_BATCH) {
                batch.delete(entries, row?.0, Precondition::Any);
            }
            if batch.is_empty() {
                return Ok(true);
            }
            batch.commit()?;
        }
    }
}

/// Whether an id in the collection of entries is one, and not the list.
pub(super) fn is_entry(id: &[u8]) -> bool {
    id != LIST
}
