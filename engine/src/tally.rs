//! Tells in bounded memory whether two sets of rows, read in different orders, are the same set, and roughly where they
//! differ. Knows numbers and bytes, nothing of what the rows are.

use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::RangeInclusive;

/// Sums of hashes, one for each stretch of sequences: what one side adds, the other takes away.
///
/// A stretch whose sum is zero holds the same rows on both sides; that it is zero by accident has a chance of 1 in 2^64,
/// because the hash is keyed at random. The memory is the same for a thousand rows and for a billion: with more rows
/// the stretches are longer.
pub(crate) struct Tally {
    hasher: RandomState,
    first: u64,
    width: u64,
    sums: Vec<u64>,
}

/// 8 MiB of sums.
const STRETCHES: u64 = 1 << 20;

impl Tally {
    /// For sequences from `first` to `last`. Others are counted too, in the stretch at their end.
    pub(crate) fn new(first: u64, last: u64) -> Tally {
        let span = last.saturating_sub(first);
        let width = span / STRETCHES + 1;
        let stretches = usize::try_from(span / width + 1).expect("at most 2^20");
        Tally { hasher: RandomState::new(), first, width, sums: vec![0; stretches] }
    }

    pub(crate) fn add(&mut self, seq: u64, row: impl Hash) {
        let (hash, sum) = self.place(seq, row);
        *sum = sum.wrapping_add(hash);
    }

    pub(crate) fn take_away(&mut self, seq: u64, row: impl Hash) {
        let (hash, sum) = self.place(seq, row);
        *sum = sum.wrapping_sub(hash);
    }

    fn place(&mut self, seq: u64, row: impl Hash) -> (u64, &mut u64) {
        let hash = self.hasher.hash_one((seq, row));
        let index = self.index(seq);
        (hash, &mut self.sums[index])
    }

    fn index(&self, seq: u64) -> usize {
        let index = usize::try_from(seq.saturating_sub(self.first) / self.width).unwrap_or(usize::MAX);
        index.min(self.sums.len() - 1)
    }

    /// Whether the sides differ in the stretch that `seq` is in.
    pub(crate) fn differs_at(&self, seq: u64) -> bool {
        self.sums[self.index(seq)] != 0
    }

    /// The stretches in which the sides differ. The first and the last stretch reach to the ends of the numbers.
    pub(crate) fn differences(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        let differing = self.sums.iter().enumerate().filter(|(_, sum)| **sum != 0);
        differing.map(|(index, _)| {
            let start = self.first + index as u64 * self.width;
            let end = start.saturating_add(self.width - 1);
            let start = if index == 0 { 0 } else { start };
            start..=if index + 1 == self.sums.len() { u64::MAX } else { end }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_cancel_in_any_order() {
        let mut tally = Tally::new(5, 20);
        for seq in 5..=20 {
            tally.add(seq, ("row", seq));
        }
        for seq in (5..=20).rev() {
            tally.take_away(seq, ("row", seq));
        }
        assert_eq!(tally.differences().count(), 0);
    }

    #[test]
    fn a_difference_is_found_in_its_stretch() {
        const LAST: u64 = 10_000_000;
        for odd in [0, 1, 4_711, LAST, LAST + 1, u64::MAX] {
            let mut tally = Tally::new(1, LAST);
            for seq in (1..=LAST).step_by(1_000) {
                tally.add(seq, b"same");
                tally.take_away(seq, b"same");
            }
            tally.take_away(odd, b"alone");
            let found: Vec<_> = tally.differences().collect();
            assert!(found.len() == 1 && found[0].contains(&odd), "{odd}: {found:?}");
            assert!(tally.differs_at(odd));
            assert!(!tally.differs_at(LAST / 2));
        }
    }

    #[test]
    fn a_row_under_another_sequence_and_a_row_twice_are_differences() {
        let mut tally = Tally::new(1, 3);
        tally.add(1, b"a");
        tally.take_away(2, b"a");
        tally.add(3, b"c");
        tally.take_away(3, b"c");
        tally.take_away(3, b"c");
        assert_eq!(tally.differences().collect::<Vec<_>>(), [0..=1, 2..=2, 3..=u64::MAX]);
    }

    #[test]
    fn one_sequence_and_all_sequences_are_ranges_too() {
        for (first, last) in [(0, 0), (7, 7), (0, u64::MAX)] {
            let mut tally = Tally::new(first, last);
            tally.add(last, b"x");
            assert!(tally.differences().all(|stretch| stretch.contains(&last)));
            assert!(tally.differs_at(last));
        }
    }
}
