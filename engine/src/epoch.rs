//! Which epoch a version's etag belongs to. Owns the list of epochs; the rows on disk are written by `commit` and
//! read at open.

use uuid::Uuid;

use crate::sync::atomic::{AtomicBool, Ordering};

/// The epochs of a store, by the commit sequence they begin at.
#[derive(Debug)]
pub(crate) struct Epochs {
    /// Those of earlier openings, in order.
    earlier: Vec<(u64, u64)>,
    /// The epoch of this opening's writes, and the first sequence that can be one of them.
    number: u64,
    first: u64,
    /// Whether it has a row.
    is_written: AtomicBool,
}

/// The epoch that a write is made under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteEpoch {
    pub(crate) number: u64,
    /// Whether its row has yet to be written, together with the write.
    pub(crate) is_new: bool,
}

impl Epochs {
    /// `earlier` in ascending order of their first sequence; `last`: the last sequence that belongs to one of them.
    pub(crate) fn new(earlier: Vec<(u64, u64)>, last: u64) -> Epochs {
        // 64 of a random UUID's bits; 61 to 64 of them are random, whichever half is taken.
        let number = Uuid::new_v4().as_u64_pair().1;
        Epochs { earlier, number, first: last + 1, is_written: AtomicBool::new(false) }
    }

    pub(crate) fn for_write(&self) -> WriteEpoch {
        WriteEpoch { number: self.number, is_new: !self.is_written.load(Ordering::Relaxed) }
    }

    /// Its row is on disk, with the first write under it.
    pub(crate) fn written(&self) {
        // Only leaders read and write this, one at a time, and they hand over under the lock of the queue.
        self.is_written.store(true, Ordering::Relaxed);
    }

    /// The epoch of the version written at `seq`.
    pub(crate) fn of(&self, seq: u64) -> u64 {
        if seq >= self.first {
            return self.number;
        }
        let after = self.earlier.partition_point(|&(first, _)| first <= seq);
        // A store's first write begins its first epoch, and opening checks that: there is always one.
        after.checked_sub(1).map_or(0, |index| self.earlier[index].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_belongs_to_the_last_epoch_begun_at_or_before_it() {
        let epochs = Epochs::new(vec![(1, 100), (5, 500)], 7);
        let number = epochs.for_write().number;
        assert!(epochs.for_write().is_new);
        assert_eq!([1, 4, 5, 7, 8, 9].map(|seq| epochs.of(seq)), [100, 100, 500, 500, number, number]);
        epochs.written();
        assert!(!epochs.for_write().is_new);
    }

    #[test]
    fn no_two_openings_share_an_epoch() {
        assert_ne!(Epochs::new(Vec::new(), 0).for_write().number, Epochs::new(Vec::new(), 0).for_write().number);
    }
}
