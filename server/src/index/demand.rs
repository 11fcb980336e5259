//! What queries read in vain for want of an index, and how much of it is too much.
//!
//! # The bounds
//!
//! Making an index costs a pass over the items and a write of an entry for each; a query without it costs a pass. So
//! queries that would have used one index have to waste [`PASSES`] passes over the items before it is made, and at least
//! [`WASTE_MIN`] documents: a container that is small enough to be read in milliseconds is left alone. An index is kept
//! while it is used; one that [`IDLE_WRITES_MIN`] writes, and [`PASSES`] times as many as there are items, have carried
//! along without any query that used it, has cost as much as making it anew would, and goes.
//!
//! # Why not every path
//!
//! Each index is more to write. An import of 171,075 places, 64 at a time and synced, on four cores:
//!
//! | indexes | places a second | on disk |
//! |---|---|---|
//! | none | 18,300 | 20 MB |
//! | one path | 13,000 | 33 MB |
//! | three paths | 10,800 | 53 MB |
//! | all nine paths, array elements too | 8,500 | 121 MB |
//!
//! The first costs a third because items must then be read as JSON twice; the rest is rows. Nine paths are few, and a
//! container pays for all of them whether anybody asks or not; so wildcards build nothing of themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use etagdb::Error;

use super::{Indexes, Part};

/// Most indexes of a container that are there because queries need them.
pub(super) const INDEXES_MAX: usize = 16;
/// So many passes over all items must have been in vain.
const PASSES: u64 = 3;
/// And so many documents.
const WASTE_MIN: u64 = 20_000;
/// An index that no query uses stays for at least so many writes.
const IDLE_WRITES_MIN: u64 = 1_000_000;
/// After so many writes to a container with such indexes, somebody looks whether they are used.
pub(super) const WRITES_PER_LOOK: u64 = 65_536;
/// Most indexes that are wished for at a time.
const WISHES_MAX: usize = 32;

/// The indexes that would have helped queries.
#[derive(Debug, Default)]
pub(super) struct Demand(Vec<Wish>);

#[derive(Debug)]
struct Wish {
    parts: Vec<Part>,
    /// Documents that queries have read in vain.
    wasted: u64,
    /// From so many on somebody looks at it.
    enough: u64,
}

impl Demand {
    /// Counts documents that were read in vain for want of an index; says whether there is one to be looked at.
    fn add(&mut self, parts: Vec<Part>, wasted: u64) -> bool {
        let place = match self.0.iter().position(|wish| wish.parts == parts) {
            Some(place) => place,
            None => {
                if self.0.len() == WISHES_MAX {
                    let least = self.0.iter().enumerate().min_by_key(|(_, wish)| wish.wasted);
                    if let Some(least) = least.map(|(place, _)| place) {
                        self.0.swap_remove(least);
                    }
                }
                self.0.push(Wish { parts, wasted: 0, enough: WASTE_MIN });
                self.0.len() - 1
            }
        };
        self.0.get_mut(place).is_some_and(|wish| {
            wish.wasted = wish.wasted.saturating_add(wasted);
            wish.wasted >= wish.enough
        })
    }

    /// Forgets everything: another policy allows other indexes.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn is_due(&self) -> bool {
        self.0.iter().any(|wish| wish.wasted >= wish.enough)
    }

    /// Takes the wishes that have cost enough in a container with so many items.
    fn take(&mut self, items: u64) -> Vec<Vec<Part>> {
        let enough = items.saturating_mul(PASSES).max(WASTE_MIN);
        let (due, rest) = std::mem::take(&mut self.0).into_iter().partition(|wish| wish.wasted >= enough);
        self.0 = rest;
        self.0.iter_mut().for_each(|wish| wish.enough = enough);
        let due: Vec<Wish> = due;
        due.into_iter().map(|wish| wish.parts).collect()
    }
}

impl Indexes {
    /// Notes that a query read so many documents in vain which an index of these parts would have spared it.
    pub(crate) fn wish(self: &Arc<Self>, parts: Vec<Part>, wasted: u64) {
        {
            let state = self.state.read();
            let is_allowed = || parts.iter().all(|part| state.policy.allows(&part.place()));
            let is_there = || state.indexes.iter().any(|index| !index.is_retired() && index.parts[..] == parts[..]);
            if wasted == 0 || is_there() || !is_allowed() {
                return;
            }
        }
        if self.demand.lock().add(parts, wasted) {
            self.builder.ring(self);
        }
    }

    /// Does what is to do: makes the indexes that queries need, drops those that they do not, and brings entries in line.
    pub(super) fn look_after(self: &Arc<Self>, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        if self.is_closed() || !self.store.is_writable() {
            return Ok(());
        }
        let has_needed = self.state.read().indexes.iter().any(|index| index.needed && !index.is_retired());
        if has_needed {
            let writes = self.writes.load(Ordering::Relaxed);
            let least = self.items.size_estimate()?.documents.saturating_mul(PASSES).max(IDLE_WRITES_MIN);
            self.retire_idle(|index| writes.saturating_sub(index.used.load(Ordering::Relaxed)) > least)?;
        }
        if self.demand.lock().is_due() {
            let items = self.items.size_estimate()?.documents;
            let wanted = self.demand.lock().take(items);
            if !wanted.is_empty() {
                self.add_needed(&wanted)?;
            }
        }
        match self.catch_up(stop) {
            // The container went meanwhile.
            Err(_) if self.is_closed() => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(name: &str) -> Vec<Part> {
        vec![Part { path: vec![name.to_owned()], element: None, descending: false }]
    }

    #[test]
    fn an_index_is_due_when_its_want_has_cost_as_much_as_it_would() {
        let mut demand = Demand::default();
        assert!(!demand.add(parts("a"), WASTE_MIN - 1));
        assert!(!demand.add(parts("b"), 1));
        assert!(demand.add(parts("a"), 1) && demand.is_due());
        // Of a large container that is not enough; nobody looks again until it is.
        assert!(demand.take(WASTE_MIN).is_empty() && !demand.is_due());
        assert!(!demand.add(parts("a"), 2 * WASTE_MIN - 1));
        assert!(demand.add(parts("a"), 1));
        assert_eq!(demand.take(WASTE_MIN), [parts("a")]);
        assert!(demand.take(0).is_empty());
    }

    #[test]
    fn wishes_are_bounded_and_the_least_goes_first() {
        let mut demand = Demand::default();
        for number in 0..WISHES_MAX as u64 {
            demand.add(parts(&format!("p{number}")), 100 - number);
        }
        demand.add(parts("more"), 1);
        assert_eq!(demand.0.len(), WISHES_MAX);
        assert!(!demand.0.iter().any(|wish| wish.parts == parts(&format!("p{}", WISHES_MAX - 1))));
    }
}
