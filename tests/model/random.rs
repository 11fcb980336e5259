//! Random numbers that a seed makes anew: those of the crash tests, and more ways to ask for them.

#[path = "../durability/random.rs"]
mod numbers;

pub(crate) use numbers::Random;

impl Random {
    pub(crate) fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())].clone()
    }
}
