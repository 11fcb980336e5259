//! How entries come about for items that exist already, and how they go away with their index.
//!
//! From the moment at which an index is named to the store, every write takes care of its own entries. What a snapshot
//! taken after that still shows is added in batches that check that the items have not been written since; those that
//! have, need nothing. Until all of it is done no query uses the index.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use etagdb::{Collection, CommitSeq, Document, Error, Precondition, ScanRange, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Index, Indexes, Part, asked, entry};

/// The id of the list of indexes.
const LIST: [u8; 2] = [0xFF, 0xFE];
/// Items whose entries are added in one batch. Their stripes are locked through its sync.
const ITEMS_PER_BATCH: usize = 256;
/// Entries that are deleted in one batch.
const DELETES_PER_BATCH: usize = 2048;

/// Which indexes there are.
#[derive(Debug, Default, Serialize, Deserialize)]
struct StoredList {
    next: u16,
    indexes: Vec<StoredIndex>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredIndex {
    number: u16,
    parts: Vec<StoredPart>,
    /// Absent while entries of older items may be missing, and once entries may have been taken away.
    built: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct StoredPart {
    path: Vec<String>,
    descending: bool,
}

impl From<&Part> for StoredPart {
    fn from(part: &Part) -> StoredPart {
        StoredPart { path: part.path.clone(), descending: part.descending }
    }
}

impl StoredIndex {
    fn parts(&self) -> Vec<Part> {
        self.parts.iter().map(|part| Part { path: part.path.clone(), descending: part.descending }).collect()
    }
}

/// The entries of an item as it is stored.
fn entries_of(indexes: &[(u16, Vec<Part>)], key: &[u8], body: &[u8]) -> Vec<Vec<u8>> {
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
    /// Brings the indexes of a container in line with its policy: builds what is asked for and not there. `name` is the
    /// name of the collection that the entries are in. What is there and not asked for stays until
    /// [`Indexes::drop_rest`]. `before` are the indexes that requests may be using.
    ///
    /// # Errors
    /// A store that does not do its part. The indexes are as they were then, but for entries that nobody reads.
    pub(crate) fn open(
        store: &Store,
        items: &Collection,
        name: &str,
        policy: &Value,
        before: &Indexes,
    ) -> Result<Indexes, Error> {
        let asked = asked(policy);
        if asked.is_empty() && store.existing_collection(name).is_none() {
            return Ok(Indexes::default());
        }
        let entries = store.collection(name)?;
        let mut list = stored(&entries)?;
        for parts in &asked {
            let parts: Vec<StoredPart> = parts.iter().map(StoredPart::from).collect();
            if !list.indexes.iter().any(|index| index.parts == parts) {
                list.indexes.push(StoredIndex { number: list.next, parts, built: None });
                // With the last number used up, the next index would be taken for the bytes after it.
                list.next =
                    list.next.checked_add(1).filter(|next| *next < u16::from_be_bytes(LIST)).ok_or_else(|| {
                        Error::Invalid(format!("the container of {name} has had too many indexes; make it anew"))
                    })?;
            }
        }
        save(&entries, &list)?;
        derive(items, &entries, &list)?;
        let wanted = |index: &StoredIndex| asked.contains(&index.parts());
        let missing: Vec<_> = list.indexes.iter().filter(|index| wanted(index) && index.built.is_none()).collect();
        let missing: Vec<(u16, Vec<Part>)> = missing.into_iter().map(|index| (index.number, index.parts())).collect();
        if !missing.is_empty() {
            add_entries(store, items, &entries, &missing)?;
            let built = store.last_commit().get();
            for index in
                list.indexes.iter_mut().filter(|index| missing.iter().any(|(number, _)| *number == index.number))
            {
                index.built = Some(built);
            }
            save(&entries, &list)?;
        }
        let usable = list.indexes.iter().filter(|index| wanted(index)).filter_map(|index| {
            let known = before.list.iter().find(|known| known.number == index.number);
            known.cloned().or_else(|| {
                Some(Arc::new(Index {
                    number: index.number,
                    parts: index.parts(),
                    built: CommitSeq::new(index.built?),
                    live: AtomicBool::new(true),
                }))
            })
        });
        let list = usable.collect();
        Ok(Indexes { entries: Some(entries), list })
    }

    /// Takes away the entries of indexes that are not among these any more. `before` are those that requests may be
    /// using: none begins to use them from now on, and those that have a snapshot keep what they see.
    pub(crate) fn drop_rest(&self, store: &Store, items: &Collection, before: &Indexes) -> Result<(), Error> {
        let Some(entries) = self.entries.as_ref().or(before.entries.as_ref()) else { return Ok(()) };
        let kept: BTreeSet<u16> = self.list.iter().map(|index| index.number).collect();
        for index in before.list.iter().filter(|index| !kept.contains(&index.number)) {
            index.live.store(false, Ordering::SeqCst);
        }
        let mut list = stored(entries)?;
        let (stay, go): (Vec<_>, Vec<_>) = list.indexes.into_iter().partition(|index| kept.contains(&index.number));
        if go.is_empty() {
            return Ok(());
        }
        let gone: Vec<u16> = go.iter().map(|index| index.number).collect();
        // Not complete from here on, also for whoever opens the store after a crash.
        list.indexes =
            stay.into_iter().chain(go.into_iter().map(|index| StoredIndex { built: None, ..index })).collect();
        save(entries, &list)?;
        list.indexes.retain(|index| kept.contains(&index.number));
        derive(items, entries, &list)?;
        for number in gone {
            delete_all(store, entries, &number.to_be_bytes())?;
            delete_all(store, entries, &[&super::INEXACT[..], &number.to_be_bytes()].concat())?;
        }
        save(entries, &list)
    }

    /// Compares the entries with what the items give rise to; says how many are missing and how many are too many.
    #[cfg(test)]
    pub(crate) fn disagreements(&self, store: &Store, items: &Collection) -> Result<(u64, u64), Error> {
        let Some(entries) = &self.entries else { return Ok((0, 0)) };
        let indexes: Vec<_> = self.list.iter().map(|index| (index.number, index.parts.clone())).collect();
        let snapshot = store.snapshot();
        let (mut missing, mut due) = (0, 0);
        for row in snapshot.scan(items, &ScanRange::all())? {
            let (key, document) = row?;
            for entry in entries_of(&indexes, &key, &document.body) {
                due += 1;
                if snapshot.get(entries, &entry)?.is_none() {
                    missing += 1;
                }
            }
        }
        let mut found = 0;
        for row in snapshot.scan(entries, &ScanRange::all())? {
            found += u64::from(row?.0[..] != LIST);
        }
        // Entries of items that have expired go soon after them.
        Ok((missing, (found + missing).saturating_sub(due)))
    }
}

/// Tells the store what to derive from now on.
fn derive(items: &Collection, entries: &Collection, list: &StoredList) -> Result<(), Error> {
    let indexes: Vec<(u16, Vec<Part>)> = list.indexes.iter().map(|index| (index.number, index.parts())).collect();
    if indexes.is_empty() {
        return items.derive_nothing();
    }
    items.derive_into(entries, move |key, body| entries_of(&indexes, key, body))
}

fn stored(entries: &Collection) -> Result<StoredList, Error> {
    match entries.get(LIST)? {
        None => Ok(StoredList::default()),
        Some(document) => serde_json::from_slice(&document.body)
            .map_err(|error| Error::Invalid(format!("the list of indexes in {:?}: {error}", entries.name()))),
    }
}

fn save(entries: &Collection, list: &StoredList) -> Result<(), Error> {
    let body = serde_json::to_vec(list).map_err(|error| Error::Invalid(error.to_string()))?;
    // Nothing is written when nothing has changed: a store that is only opened stays as it is.
    if entries.get(LIST)?.is_none_or(|document| document.body[..] != body[..]) {
        entries.put(LIST, body, Precondition::Any)?;
    }
    Ok(())
}

/// Adds the entries of the items that were there before the store knew of the indexes.
fn add_entries(
    store: &Store,
    items: &Collection,
    entries: &Collection,
    indexes: &[(u16, Vec<Part>)],
) -> Result<(), Error> {
    let snapshot = store.snapshot();
    let mut chunk = Vec::with_capacity(ITEMS_PER_BATCH);
    for row in snapshot.scan(items, &ScanRange::all())? {
        let (key, document) = row?;
        chunk.push((key.to_vec(), document));
        if chunk.len() == ITEMS_PER_BATCH {
            add_chunk(store, items, entries, indexes, &chunk)?;
            chunk.clear();
        }
    }
    add_chunk(store, items, entries, indexes, &chunk)
}

fn add_chunk(
    store: &Store,
    items: &Collection,
    entries: &Collection,
    indexes: &[(u16, Vec<Part>)],
    chunk: &[(Vec<u8>, Document)],
) -> Result<(), Error> {
    let mut batch = store.batch();
    for (key, document) in chunk {
        batch.check(items, key, document.etag);
        for entry in entries_of(indexes, key, &document.body) {
            batch.put(entries, entry, [], Precondition::Any);
        }
    }
    match (batch.commit(), chunk) {
        (Ok(_), _) => Ok(()),
        // Whoever has written it since has taken care of its entries.
        (Err(Error::Conflict(_)), [_]) => Ok(()),
        (Err(Error::Conflict(_)), _) => {
            let (one, other) = chunk.split_at(chunk.len() / 2);
            add_chunk(store, items, entries, indexes, one)?;
            add_chunk(store, items, entries, indexes, other)
        }
        (Err(error), _) => Err(error),
    }
}

fn delete_all(store: &Store, entries: &Collection, prefix: &[u8]) -> Result<(), Error> {
    loop {
        let mut ids = Vec::new();
        for row in entries.scan(&ScanRange::prefix(prefix))?.take(DELETES_PER_BATCH) {
            ids.push(row?.0);
        }
        if ids.is_empty() {
            return Ok(());
        }
        let mut batch = store.batch();
        for id in &ids {
            batch.delete(entries, id, Precondition::Any);
        }
        batch.commit()?;
    }
}
