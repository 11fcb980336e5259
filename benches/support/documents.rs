//! Documents to write: ids in an order that is none, and bodies of which no two are the same.

/// Bytes that bodies are cut out of. Larger than what compression looks back on.
const POOL_BYTES: usize = 1 << 20;

/// Random numbers that are the same in every run (xorshift).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Random {
        Random(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_add(1).wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The id of document `number`: 16 bytes.
pub fn key(number: u64) -> [u8; 16] {
    let mut key = *b"doc-000000000000";
    let mut rest = number;
    for digit in key.iter_mut().rev().take(12) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// All numbers below `count`, each once, far from ascending.
pub fn shuffled(count: u64) -> impl Iterator<Item = u64> {
    // A permutation of the numbers below a power of two, as the factor is odd; some of them are too large.
    let size = count.next_power_of_two();
    (0..size).map(move |n| n.wrapping_mul(2_654_435_761) % size).filter(move |&n| n < count)
}

/// Makes bodies that compress about as well as real documents do, to half, and are all different.
#[derive(Debug)]
pub struct Bodies {
    pool: Vec<u8>,
    body: Vec<u8>,
    random: Random,
    writer: u64,
    made: u64,
}

impl Bodies {
    /// Bodies of `bytes` bytes (at least 16), different from those of every other `writer`.
    pub fn new(writer: u64, bytes: usize) -> Bodies {
        let mut random = Random::new(writer);
        let pool = (0..POOL_BYTES + bytes).map(|n| if n % 2 == 0 { b'a' } else { random.below(256) as u8 }).collect();
        Bodies { pool, body: vec![0; bytes], random, writer, made: 0 }
    }

    /// The next body.
    pub fn make(&mut self) -> &[u8] {
        let start = self.random.below(POOL_BYTES as u64) as usize;
        let end = start + self.body.len();
        self.body.copy_from_slice(&self.pool[start..end]);
        self.body[..8].copy_from_slice(&self.writer.to_le_bytes());
        self.body[8..16].copy_from_slice(&self.made.to_le_bytes());
        self.made += 1;
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn shuffling_loses_and_repeats_nothing() {
        let numbers: Vec<u64> = shuffled(1000).collect();
        assert_eq!((numbers.len(), numbers.iter().collect::<HashSet<_>>().len()), (1000, 1000));
        let ascents = numbers.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
        assert!(ascents < 10, "{ascents}");
    }

    #[test]
    fn no_body_comes_twice() {
        let mut writers = [Bodies::new(0, 100), Bodies::new(1, 100)];
        let bodies: HashSet<Vec<u8>> = (0..200).map(|n| writers[n % 2].make().to_vec()).collect();
        assert_eq!(bodies.len(), 200);
    }
}
