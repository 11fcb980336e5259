//! Who still needs which version. Owns the list of live snapshots; never drops anything itself.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::CommitSeq;

/// The commit sequences that live snapshots read at, with how many read at each.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    holds: Mutex<BTreeMap<CommitSeq, usize>>,
}

impl Watermark {
    /// Registers a snapshot. `choose` runs under the same lock as [`oldest`](Watermark::oldest), so a snapshot that
    /// has chosen its sequence can not be missed by somebody who computes what may go.
    pub(crate) fn hold(&self, choose: impl FnOnce() -> CommitSeq) -> CommitSeq {
        let mut holds = self.holds.lock();
        let seq = choose();
        *holds.entry(seq).or_insert(0) += 1;
        seq
    }

    pub(crate) fn release(&self, seq: CommitSeq) {
        let mut holds = self.holds.lock();
        if let Some(count) = holds.get_mut(&seq) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&seq);
            }
        }
    }

    /// The oldest sequence that a snapshot reads at, or `newest` where there is none.
    pub(crate) fn oldest(&self, newest: impl FnOnce() -> CommitSeq) -> CommitSeq {
        let holds = self.holds.lock();
        holds.keys().next().copied().unwrap_or_else(newest)
    }

    pub(crate) fn count(&self) -> usize {
        self.holds.lock().values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_hold_counts_until_its_last_release() {
        let watermark = Watermark::default();
        let at = |n| watermark.hold(|| CommitSeq::new(n));
        let oldest = || watermark.oldest(|| CommitSeq::new(99)).get();
        assert_eq!(oldest(), 99);
        let (five, again, nine) = (at(5), at(5), at(9));
        assert_eq!((oldest(), watermark.count()), (5, 3));
        watermark.release(five);
        assert_eq!(oldest(), 5);
        watermark.release(again);
        assert_eq!(oldest(), 9);
        watermark.release(nine);
        assert_eq!((oldest(), watermark.count()), (99, 0));
    }
}
