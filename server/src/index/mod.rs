//! Indexes over the items of a container: which there are, and the entries that an item has in them.
//!
//! # Which indexes there are
//!
//! A path that the indexing policy includes by itself (`/country/?`) has an index of its own, and so has each list of
//! `compositeIndexes`. A wildcard (`/*`, the policy of a container that names none) *allows* an index for every path
//! below it, and has one made of those that queries turn out to need: `demand` counts what queries read in vain for want
//! of an index, and when that has cost about as much as making one would, `upkeep` makes it in the background. An index
//! that came so, and has then been carried along by many writes without a query that used it, is dropped again. Both
//! bounds are those of renting against buying: whatever queries and writes come, all of it costs at most a small
//! multiple of what the best choice made with foresight would have cost.
//!
//! The other way would be an entry for each scalar path of each item, as the service has it. The figures are in
//! `demand`, beside the bounds that follow from them: each index makes a write dearer, and of a typical item's ten or
//! twenty paths queries use two or three.
//!
//! # When an index is used
//!
//! Only for a snapshot in which it has an entry for each item. An index is *building* while the entries of older items
//! are added, *whole* from a commit on, and *retired* at a later one: it still serves the pages of queries that began
//! before, for as long as their state is kept. Entries are documents without bodies in a collection of their own,
//! derived from the items by the store in the batch of each write. An entry is its id:
//!
//! ```text
//! u16 index | values, one for each path | storage key of the item
//! FF FF | u16 index | storage key of the item        the item's entry does not say all of its values: see `entry`
//! FF FE                                              which indexes there are, as JSON: see `stored`
//! ```
//!
//! This file owns the indexes as requests see them. `policy` says what is asked for and allowed, `entry` owns the bytes of
//! values, `upkeep` and `build` how indexes come and go, `builder` the thread on which they do, `choose` which index helps
//! a query, `demand` which would have, `check` whether entries and items agree.

mod build;
mod builder;
mod check;
mod choose;
mod demand;
mod entry;
mod policy;
mod stored;
#[cfg(test)]
pub(crate) mod tests;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use etagdb::{Collection, CommitSeq, Error, Retention, ScanRange, Snapshot, Store};
use parking_lot::{Mutex, RwLock};

use crate::query::ValuePlace;
use demand::Demand;
use policy::Policy;

pub(crate) use builder::Builder;
pub use check::{IndexReport, verify_indexes};
pub(crate) use choose::{Ask, Choice};

/// Most indexes that a policy can ask for.
const INDEXES_MAX: usize = 64;
/// Where the items whose entries say less than all are listed.
const INEXACT: [u8; 2] = [0xFF, 0xFF];

/// One path of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) path: Vec<String>,
    /// The path inside of the elements of the array there, in an index of elements. Such an index has no other part.
    pub(crate) element: Option<Vec<String>>,
    pub(crate) descending: bool,
}

impl Part {
    fn at(place: &ValuePlace) -> Part {
        Part { path: place.path.clone(), element: place.element.clone(), descending: false }
    }

    fn place(&self) -> ValuePlace {
        ValuePlace { path: self.path.clone(), element: self.element.clone() }
    }

    fn is_at(&self, place: &ValuePlace) -> bool {
        self.path == place.path && self.element == place.element
    }

    /// The path as a policy writes it.
    fn text(&self) -> String {
        let element =
            self.element.iter().flat_map(|inner| std::iter::once("[]").chain(inner.iter().map(String::as_str)));
        let names: Vec<&str> = self.path.iter().map(String::as_str).chain(element).collect();
        format!("/{}", names.join("/"))
    }
}

/// How far an index has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Writes add their entries; those of older items are being added.
    Building,
    /// From this commit on there is an entry for each item.
    Whole(CommitSeq),
    /// There was, up to the second commit. Writes do not add entries any more, and those there are go.
    Retired(CommitSeq, CommitSeq),
}

/// An index.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    number: u16,
    pub(crate) parts: Arc<[Part]>,
    /// Whether it is there because queries needed it, and not because the policy asks for it.
    needed: bool,
    phase: Phase,
    /// The container's count of writes when a query last used it.
    used: Arc<AtomicU64>,
}

impl Index {
    /// Whether it has an entry for each item that a snapshot shows.
    fn is_whole_in(&self, snapshot: &Snapshot) -> bool {
        match self.phase {
            Phase::Building => false,
            Phase::Whole(from) => from <= snapshot.seq(),
            Phase::Retired(from, to) => from <= snapshot.seq() && snapshot.seq() <= to,
        }
    }

    fn is_retired(&self) -> bool {
        matches!(self.phase, Phase::Retired(..))
    }
}

/// The indexes of one container.
#[derive(Debug)]
pub(crate) struct Indexes {
    store: Store,
    items: Collection,
    /// The name of the collection that the entries are in. It is made with the first index.
    name: String,
    /// Held while the indexes are changed: changes come one after the other. Not held while entries are added.
    change: Mutex<()>,
    state: RwLock<State>,
    /// How many items were written, since the store was opened.
    writes: Arc<AtomicU64>,
    demand: Mutex<Demand>,
    builder: builder::Bell,
}

/// What requests see.
#[derive(Debug, Default)]
struct State {
    entries: Option<Collection>,
    indexes: Vec<Index>,
    policy: Arc<Policy>,
    retention: Retention,
    /// How many items have been looked at for the indexes that are being built, and of how many.
    progress: Option<(u64, u64)>,
    /// The container is gone.
    closed: bool,
}

impl Indexes {
    /// The collection that the entries are in.
    pub(crate) fn entries(&self) -> Option<Collection> {
        self.state.read().entries.clone()
    }

    /// How much of what the policy asks for is there, in percent, as the service counts it.
    pub(crate) fn progress(&self) -> u64 {
        let state = self.state.read();
        let is_due = |index: &Index| !index.needed && index.phase == Phase::Building;
        if !state.indexes.iter().any(is_due) {
            return 100;
        }
        let (done, all) = state.progress.unwrap_or((0, 1));
        (done.saturating_mul(100) / all.max(1)).min(99)
    }

    /// The indexes that are whole in a snapshot.
    fn usable(&self, snapshot: &Snapshot) -> Vec<Index> {
        let state = self.state.read();
        if state.entries.as_ref().is_none_or(|entries| entries.horizon() > snapshot.seq()) {
            return Vec::new();
        }
        state.indexes.iter().filter(|index| index.is_whole_in(snapshot)).cloned().collect()
    }

    /// Whether the entries of an index say all of the values of each item.
    fn is_exact(&self, index: &Index, snapshot: &Snapshot) -> Result<bool, Error> {
        let Some(entries) = self.entries() else { return Ok(false) };
        let inexact = [INEXACT, index.number.to_be_bytes()].concat();
        let first = snapshot.scan(&entries, &ScanRange::prefix(inexact))?.next().transpose()?;
        Ok(first.is_none())
    }

    fn note_use(&self, index: &Index) {
        index.used.store(self.writes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
