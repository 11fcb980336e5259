//! Which items writers race for: the keys with the most refused writes, in bounded memory.
//!
//! Owns one sketch (Metwally, Agrawal, El Abbadi: "Space-Saving", 2005): so many counters, and a key that has none takes
//! over the smallest and inherits its count as a possible error. A key with more than 1/64 of all refusals is always
//! among them. It is touched by refused operations only; a write that succeeds never comes here.

use etagdb::CommitSeq;
use parking_lot::Mutex;

use crate::rid::ContainerRid;

/// How many keys are told apart.
const COUNTERS: usize = 64;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct HotKeys(Mutex<Vec<HotKey>>);

/// A key and how often an operation on it was refused for what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HotKey {
    pub(crate) container: ContainerRid,
    /// The item's storage key.
    pub(crate) key: Box<[u8]>,
    /// At most so many refusals, and at least `count - error`.
    pub(crate) count: u64,
    pub(crate) error: u64,
    /// The newest commit that stood in the way of one.
    pub(crate) last: CommitSeq,
}

impl HotKeys {
    /// Counts a refusal.
    pub(crate) fn refused(&self, container: ContainerRid, key: &[u8], last: CommitSeq) {
        let mut counters = self.0.lock();
        let known = counters.iter_mut().find(|counter| *counter.key == *key && counter.container == container);
        if let Some(counter) = known {
            counter.count += 1;
            counter.last = counter.last.max(last);
            return;
        }
        let new = |error| HotKey { container, key: key.into(), count: error + 1, error, last };
        if counters.len() < COUNTERS {
            counters.push(new(0));
        } else if let Some(smallest) = counters.iter_mut().min_by_key(|counter| counter.count) {
            *smallest = new(smallest.count);
        }
    }

    /// The keys, the one with the most refusals first.
    pub(crate) fn list(&self) -> Vec<HotKey> {
        let mut list = self.0.lock().clone();
        list.sort_by_key(|hot| std::cmp::Reverse(hot.count - hot.error));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINER: ContainerRid = ContainerRid { database: 1, container: 1 };

    #[test]
    fn the_hot_keys_are_found_among_very_many_cold_ones() {
        let sketch = HotKeys::default();
        let mut counted = [0; 3];
        for round in 0u64..30_000 {
            // Keys 0, 1 and 2 get a tenth, a twentieth and a thirtieth of all refusals; each other key one.
            let hot = [(0u64, 10), (1, 20), (2, 30)].iter().find(|(_, every)| round % every == 0).map(|(key, _)| *key);
            if let Some(hot) = hot {
                counted[usize::try_from(hot).unwrap()] += 1;
            }
            sketch.refused(CONTAINER, &hot.unwrap_or(round + 1_000).to_be_bytes(), CommitSeq::new(round));
        }
        let list = sketch.list();
        assert_eq!(list.len(), COUNTERS);
        let first = list.first().unwrap();
        assert_eq!(*first.key, 0u64.to_be_bytes());
        assert!(first.count - first.error <= counted[0] && counted[0] <= first.count, "{first:?} {counted:?}");
    }

    #[test]
    fn the_same_key_in_two_containers_is_two() {
        let sketch = HotKeys::default();
        sketch.refused(CONTAINER, b"a", CommitSeq::new(3));
        sketch.refused(ContainerRid { database: 1, container: 2 }, b"a", CommitSeq::new(4));
        sketch.refused(CONTAINER, b"a", CommitSeq::new(2));
        let list = sketch.list();
        assert_eq!(list.iter().map(|hot| hot.count).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(list[0].last, CommitSeq::new(3));
    }
}
