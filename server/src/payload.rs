//! The bytes of an answer's body, in up to two pieces: an item's stored bytes, shared with the store, and its system
//! properties behind them. Owns how they are handed to the socket, which takes both in one write.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// A body in two pieces, either of which may be empty.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    first: Bytes,
    rest: Bytes,
}

impl Payload {
    pub(crate) fn new(first: Bytes, rest: Bytes) -> Payload {
        // So that what is left is always in `first`, if there is anything.
        if first.is_empty() { Payload { first: rest, rest: Bytes::new() } } else { Payload { first, rest } }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.first
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = [&self.first, &self.rest];
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, count: usize) {
        let of_first = count.min(self.first.len());
        self.first.advance(of_first);
        if self.first.is_empty() {
            self.first = std::mem::take(&mut self.rest);
            self.first.advance(count - of_first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_told_once_wherever_it_is_cut() {
        for (first, rest) in [("", ""), ("", "cd"), ("ab", ""), ("ab", "cde")] {
            let whole = [first, rest].concat();
            for cut in 0..=whole.len() {
                let mut payload = Payload::new(Bytes::from(first), Bytes::from(rest));
                let mut slices = [IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
                let count = payload.chunks_vectored(&mut slices);
                let told: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!(told, whole.as_bytes());
                payload.advance(cut);
                assert_eq!(payload.remaining(), whole.len() - cut);
                assert_eq!(payload.has_remaining(), !payload.chunk().is_empty());
                assert_eq!(payload.copy_to_bytes(whole.len() - cut), &whole.as_bytes()[cut..]);
            }
        }
    }
}
