//! How a container's indexes come and go: with its policy, with what queries need, and with what they no longer do.
//!
//! Each change is short: it is written down, the store is told what to derive from now on, and requests see it. Adding
//! the entries of older items, and taking away those of retired indexes, is left to `build`, on the builder's thread.
//! A crash at any point leaves a list that says what is left to do.
//!
//! # Retiring
//!
//! The last commit up to which an index is whole is read under the lock that requests read the list under. A request
//! that saw the index before took its snapshot earlier still, so it is not newer than that commit; one that comes later
//! sees the index retired. Only then is the store told to derive without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use etagdb::{Collection, Error, Retention, ScanRange, Store};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use super::builder::Builder;
use super::demand::{self, Demand};
use super::policy::Policy;
use super::stored::{StoredIndex, StoredList};
use super::{Index, Indexes, Part, Phase, State, build};

impl Indexes {
    /// The indexes of a container whose entries are in the collection of this name. [`Indexes::settle`] must follow
    /// before anything is written to the items; where nothing will be, [`Indexes::show`] does.
    pub(crate) fn new(store: &Store, items: &Collection, name: String, builder: &Builder) -> Arc<Indexes> {
        Arc::new(Indexes {
            store: store.clone(),
            items: items.clone(),
            name,
            change: Mutex::default(),
            state: RwLock::default(),
            writes: Arc::default(),
            demand: Mutex::new(Demand::default()),
            builder: builder.bell(),
        })
    }

    /// Brings the list of indexes in line with a policy; the entries follow in the background.
    ///
    /// # Errors
    /// A store that does not do its part. What is left is done when the store is opened again.
    pub(crate) fn settle(self: &Arc<Self>, policy: &Value, retention: Retention) -> Result<(), Error> {
        let _change = self.change.lock();
        let policy = Arc::new(Policy::parse(policy));
        {
            let mut state = self.state.write();
            state.policy = Arc::clone(&policy);
            state.retention = retention;
            if state.entries.is_none() {
                state.entries = self.store.existing_collection(&self.name);
            }
            if let Some(entries) = state.entries.as_ref().filter(|entries| entries.retention() != retention) {
                entries.set_retention(retention)?;
            }
            if state.entries.is_none() && policy.asked.is_empty() {
                return Ok(());
            }
        }
        self.demand.lock().clear();
        let allowed = |parts: &[Part]| parts.iter().all(|part| policy.allows(&part.place()));
        let mut list = StoredList::load(&self.open_entries()?)?;
        let mut gone = Vec::new();
        for index in list.indexes.iter_mut().filter(|index| index.retired.is_none()) {
            let parts = index.parts();
            let is_asked = policy.asked.contains(&parts);
            let stays = is_asked || (index.needed && allowed(&parts));
            if !stays {
                gone.push(index.number);
            }
            index.needed &= !is_asked;
        }
        for parts in &policy.asked {
            if !list.indexes.iter().any(|index| index.retired.is_none() && index.parts() == *parts) {
                list.add(parts, false)?;
            }
        }
        self.change_to(list, &gone)
    }

    /// Shows queries the indexes that there are, and leaves them as they are.
    ///
    /// # Errors
    /// A list that cannot be read.
    pub(crate) fn show(&self) -> Result<(), Error> {
        let Some(entries) = self.store.existing_collection(&self.name) else { return Ok(()) };
        let list = StoredList::load(&entries)?;
        let mut state = self.state.write();
        state.indexes = list.indexes.iter().map(|index| self.shown(index, &[])).collect();
        state.entries = Some(entries);
        Ok(())
    }

    /// Adds indexes that queries need. Those that are there, or that the policy does not allow, are left out.
    pub(super) fn add_needed(self: &Arc<Self>, wanted: &[Vec<Part>]) -> Result<(), Error> {
        let _change = self.change.lock();
        let policy = Arc::clone(&self.state.read().policy);
        let mut list = StoredList::load(&self.open_entries()?)?;
        for parts in wanted {
            let live = || list.indexes.iter().filter(|index| index.retired.is_none());
            let is_allowed = parts.iter().all(|part| policy.allows(&part.place()));
            let is_there = live().any(|index| index.parts() == *parts);
            if is_allowed && !is_there && live().filter(|index| index.needed).count() < demand::INDEXES_MAX {
                tracing::info!(entries = %self.name, index = %describe(parts), "queries need an index: it is built");
                list.add(parts, true)?;
            }
        }
        self.change_to(list, &[])
    }

    /// Retires indexes that queries needed once, if `is_idle` says so of them.
    pub(super) fn retire_idle(self: &Arc<Self>, is_idle: impl Fn(&Index) -> bool) -> Result<(), Error> {
        let _change = self.change.lock();
        let idle: Vec<Index> = {
            let state = self.state.read();
            let idle = state.indexes.iter().filter(|index| index.needed && !index.is_retired() && is_idle(index));
            idle.cloned().collect()
        };
        if idle.is_empty() {
            return Ok(());
        }
        for index in &idle {
            tracing::info!(entries = %self.name, index = %describe(&index.parts), "no query uses an index: it is dropped");
        }
        let list = StoredList::load(&self.open_entries()?)?;
        self.change_to(list, &idle.iter().map(|index| index.number).collect::<Vec<_>>())
    }

    /// Makes a list the one that counts, with these indexes retired.
    fn change_to(self: &Arc<Self>, mut list: StoredList, gone: &[u16]) -> Result<(), Error> {
        let entries = self.open_entries()?;
        {
            let mut state = self.state.write();
            if state.closed {
                return Ok(());
            }
            let retired = self.store.last_commit();
            for index in list.indexes.iter_mut().filter(|index| gone.contains(&index.number)) {
                index.retired = Some(retired.get());
            }
            let known = std::mem::take(&mut state.indexes);
            state.indexes = list.indexes.iter().map(|index| self.shown(index, &known)).collect();
        }
        list.save(&entries)?;
        self.derive(&entries, &list)?;
        let is_new = |index: &StoredIndex| index.built.is_none() && index.retired.is_none();
        if list.indexes.iter().any(is_new) && self.items.scan(&ScanRange::all())?.next().is_none() {
            // No items, no older ones: every entry there will be comes with its item.
            let built = self.store.last_commit();
            list.indexes.iter_mut().filter(|index| is_new(index)).for_each(|index| index.finish(built));
            self.publish(&entries, &list)?;
            self.derive(&entries, &list)?;
        }
        if list.indexes.iter().any(|index| is_new(index) || index.retired.is_some()) {
            self.builder.ring(self);
        }
        Ok(())
    }

    /// Writes a list down, and shows it to requests.
    pub(super) fn publish(&self, entries: &Collection, list: &StoredList) -> Result<(), Error> {
        list.save(entries)?;
        let mut state = self.state.write();
        let known = std::mem::take(&mut state.indexes);
        state.indexes = list.indexes.iter().map(|index| self.shown(index, &known)).collect();
        Ok(())
    }

    /// An index as requests see it.
    fn shown(&self, index: &StoredIndex, known: &[Index]) -> Index {
        let before = known.iter().find(|known| known.number == index.number);
        let used = || Arc::new(AtomicU64::new(self.writes.load(Ordering::Relaxed)));
        Index {
            number: index.number,
            parts: before.map_or_else(|| index.parts().into(), |known| Arc::clone(&known.parts)),
            needed: index.needed,
            phase: index.phase(),
            used: before.map_or_else(used, |known| Arc::clone(&known.used)),
        }
    }

    /// Tells the store what to derive from now on. When this returns every later write has been judged by it.
    pub(super) fn derive(self: &Arc<Self>, entries: &Collection, list: &StoredList) -> Result<(), Error> {
        let live = list.indexes.iter().filter(|index| index.retired.is_none());
        let live: Vec<(u16, Vec<Part>)> = live.map(|index| (index.number, index.parts())).collect();
        if live.is_empty() {
            return self.items.derive_nothing();
        }
        let writes = Arc::clone(&self.writes);
        let has_needed = list.indexes.iter().any(|index| index.needed && index.retired.is_none());
        let (bell, indexes) = (self.builder.clone(), Arc::downgrade(self));
        let derive = move |key: &[u8], body: &[u8]| {
            // Called for what a write replaces too; the count need not be exact.
            if has_needed && writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(demand::WRITES_PER_LOOK) {
                bell.ring_weakly(&indexes);
            }
            build::entries_of(&live, key, body)
        };
        // An item that is written while an index is built need not have its entries yet.
        let builds = list.indexes.iter().any(|index| index.phase() == Phase::Building);
        if builds { self.items.derive_all_into(entries, derive) } else { self.items.derive_into(entries, derive) }
    }

    /// The collection of the entries, made if it is not there.
    pub(super) fn open_entries(&self) -> Result<Collection, Error> {
        let mut state = self.state.write();
        if let Some(entries) = &state.entries {
            return Ok(entries.clone());
        }
        if state.closed {
            return Err(Error::Invalid(format!("the container of {:?} is gone", self.name)));
        }
        let entries = self.store.collection(&self.name)?;
        if entries.retention() != state.retention {
            entries.set_retention(state.retention)?;
        }
        state.entries = Some(entries.clone());
        Ok(entries)
    }

    /// Ends all upkeep, because the container goes. What is at work ends soon.
    pub(crate) fn close(&self) {
        let _change = self.change.lock();
        let mut state = self.state.write();
        state.closed = true;
        state.indexes.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.read().closed
    }
}

/// The paths of an index, for the log.
fn describe(parts: &[Part]) -> String {
    let part = |part: &Part| format!("{}{}", part.text(), if part.descending { " DESC" } else { "" });
    parts.iter().map(part).collect::<Vec<_>>().join(", ")
}

impl State {
    /// Whether something is left to do in the background.
    pub(super) fn has_work(&self) -> bool {
        !self.closed && self.indexes.iter().any(|index| !matches!(index.phase, Phase::Whole(_)))
    }
}
