//! Per-key striped locks. Owns which lock guards a key and the order in which several are taken; never knows what
//! they guard.

use std::hash::BuildHasher;

use crossbeam_utils::CachePadded;
use smallvec::SmallVec;

use crate::sync::{Mutex, MutexGuard, RandomState};

/// A power of two, so that a hash is cut to an index by its low bits. Some writers hold their stripes through a sync, so
/// two writers of different keys must rarely meet: with 64 writers in flight one in 64 finds its stripe taken.
const STRIPES: usize = 4096;

/// Locks by key. Two keys may share a stripe; one key is always guarded by the same one.
pub(crate) struct Stripes {
    locks: Box<[CachePadded<Mutex<()>>]>,
    /// Keyed with a random seed, so that nobody can choose ids that all meet on one stripe.
    hasher: RandomState,
}

/// The stripes of one write, released when dropped.
pub(crate) type Guards<'a> = SmallVec<[MutexGuard<'a, ()>; 2]>;

impl Stripes {
    pub(crate) fn new() -> Stripes {
        Stripes {
            locks: (0..STRIPES).map(|_| CachePadded::new(Mutex::new(()))).collect(),
            hasher: RandomState::default(),
        }
    }

    /// Takes the stripes of all `keys`, each once, in ascending order. Every writer takes them in that order, so no
    /// two can wait for each other.
    pub(crate) fn lock<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Guards<'_> {
        let mut indexes: SmallVec<[usize; 2]> = keys.map(|key| self.index(key)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes.into_iter().map(|index| self.locks[index].lock()).collect()
    }

    /// Takes all there are. Nobody judges anything until they are released.
    pub(crate) fn lock_all(&self) -> Guards<'_> {
        self.locks.iter().map(|lock| lock.lock()).collect()
    }

    fn index(&self, key: &[u8]) -> usize {
        // The cut keeps the low bits, so it may lose the high ones.
        self.hasher.hash_one(key) as usize & (STRIPES - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_stripe_take_it_once() {
        let stripes = Stripes::new();
        let key: &[u8] = b"ana";
        assert_eq!(stripes.lock([key, key, key].into_iter()).len(), 1);
        // The guards are gone, so the same stripe can be taken again.
        assert_eq!(stripes.lock([key].into_iter()).len(), 1);
    }

    #[test]
    fn opposite_orders_do_not_deadlock() {
        let stripes = Stripes::new();
        let keys: Vec<Vec<u8>> = (0..64u32).map(|n| n.to_be_bytes().to_vec()).collect();
        std::thread::scope(|scope| {
            for forwards in [true, false, true, false] {
                let (stripes, keys) = (&stripes, &keys);
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let slices = keys.iter().map(Vec::as_slice);
                        if forwards {
                            drop(stripes.lock(slices));
                        } else {
                            drop(stripes.lock(slices.rev()));
                        }
                    }
                });
            }
        });
    }
}
