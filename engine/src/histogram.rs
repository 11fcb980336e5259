//! Counts of how large something was. Owns the ranges; what is counted is its owner's.

use crate::sync::atomic::{AtomicU64, Ordering};

/// Ranges: up to 1, 2, 4 and so on; the last one is open.
const RANGES: usize = 32;

/// How often a quantity was in which range, since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; RANGES],
    sum: u64,
}

impl Histogram {
    /// The ranges in ascending order: the largest quantity in each, and how many there were. Powers of two; the last,
    /// [`u64::MAX`], takes all that are beyond the others.
    ///
    /// # Examples
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// store.collection("carts")?.put("ana", "1 pen", etagdb::Precondition::Any)?;
    /// let sizes = store.stats().group_sizes;
    /// assert_eq!(sizes.ranges().next(), Some((1, 1)), "one group of one write");
    /// assert_eq!((sizes.count(), sizes.sum()), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let largest = |index| if index == RANGES - 1 { u64::MAX } else { 1u64 << index };
        self.counts.iter().enumerate().map(move |(index, count)| (largest(index), *count))
    }

    /// How many quantities there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All quantities together.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// A [`Histogram`] that is being made. Figures for people; they order nothing.
#[derive(Default)]
pub(crate) struct Recorder {
    counts: [AtomicU64; RANGES],
    sum: AtomicU64,
}

impl Recorder {
    pub(crate) fn record(&self, quantity: u64) {
        let bits = u64::BITS - quantity.saturating_sub(1).leading_zeros();
        self.counts[(bits as usize).min(RANGES - 1)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(quantity, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        let mut histogram = Histogram { sum: self.sum.load(Ordering::Relaxed), ..Histogram::default() };
        for (count, recorded) in histogram.counts.iter_mut().zip(&self.counts) {
            *count = recorded.load(Ordering::Relaxed);
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_counted_in_the_first_range_that_it_fits() {
        let recorder = Recorder::default();
        for quantity in [0, 1, 2, 3, 4, 5, 1 << 30, (1 << 30) + 1, u64::MAX >> 1] {
            recorder.record(quantity);
        }
        let counted: Vec<_> = recorder.read().ranges().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(1, 2), (2, 1), (4, 2), (8, 1), (1 << 30, 1), (u64::MAX, 2)]);
        assert_eq!(recorder.read().count(), 9);
    }
}
