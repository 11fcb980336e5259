//! Versions that are on their way to disk: the heads that the next writers of these documents are judged against. Owns
//! nothing but them; who may be told of them is the queue's to say.
//!
//! A head is put here by its writer, under the document's stripe, and taken away by the leader once it is visible. A
//! later head of the same document replaces it. So a writer that holds the stripe and finds no head has everything that
//! was ever judged of the document in what is visible, and one that finds a head has it in the head.
//!
//! When a group fails, all that was judged since is void: heads carry the generation they were judged in, and those of
//! an earlier one count as absent.

use std::collections::HashMap;
use std::hash::BuildHasher;

use bytes::Bytes;
use crossbeam_utils::CachePadded;

use crate::cache::CachedVersion;
use crate::encoding::{KeyBytes, VersionHeader};
use crate::sync::{Mutex, RandomState};

/// A power of two. Held for no longer than it takes to look something up.
const SHARDS: usize = 64;

/// The newest version of a document, before it is visible.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) header: VersionHeader,
    pub(crate) body: Bytes,
    pub(crate) generation: u64,
}

impl From<Head> for CachedVersion {
    fn from(head: Head) -> CachedVersion {
        CachedVersion { seq: head.seq, header: head.header, body: Some(head.body) }
    }
}

type Shard = HashMap<KeyBytes, Head, RandomState>;

/// The heads, by document prefix.
pub(crate) struct Pending {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    /// Keyed with a random seed, so that nobody can choose ids that all meet in one shard.
    hasher: RandomState,
}

impl Pending {
    pub(crate) fn new() -> Pending {
        Pending { shards: (0..SHARDS).map(|_| CachePadded::default()).collect(), hasher: RandomState::default() }
    }

    /// The head of a document, if it has one that was judged in `generation`.
    pub(crate) fn get(&self, prefix: &[u8], generation: u64) -> Option<Head> {
        self.shard(prefix).lock().get(prefix).filter(|head| head.generation == generation).cloned()
    }

    pub(crate) fn insert(&self, prefix: &[u8], head: Head) {
        let shard = self.shard(prefix);
        let prefix = KeyBytes::from_slice(prefix);
        // The one it replaces is dropped outside the lock.
        let replaced = shard.lock().insert(prefix, head);
        drop(replaced);
    }

    /// Takes the head of a document away if it is still the one at `seq`.
    pub(crate) fn remove(&self, prefix: &[u8], seq: u64) {
        let mut shard = self.shard(prefix).lock();
        if shard.get(prefix).is_some_and(|head| head.seq == seq) {
            let removed = shard.remove(prefix);
            drop(shard);
            drop(removed);
        }
    }

    /// Takes all heads of earlier generations away. Those of `generation` stay: it has begun, and its writers do not wait
    /// for this.
    pub(crate) fn begin(&self, generation: u64) {
        for shard in &self.shards {
            shard.lock().retain(|_, head| head.generation >= generation);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, prefix: &[u8]) -> &Mutex<Shard> {
        // The cut keeps the low bits, so it may lose the high ones.
        &self.shards[self.hasher.hash_one(prefix) as usize & (SHARDS - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::VersionKind;

    /// A lost update after a full disk: writers of the generation that began were judged, their heads were dropped with
    /// those that had failed, and the next writers of these documents were judged by what was before both.
    #[test]
    fn heads_of_the_generation_that_begins_stay() {
        let pending = Pending::new();
        let head = |seq, generation| {
            let header =
                VersionHeader { kind: VersionKind::Document, time_ms: 0, previous: 0, created: 0, ttl_ms: None };
            Head { seq, header, body: Bytes::new(), generation }
        };
        pending.insert(b"failed", head(5, 0));
        pending.insert(b"begun", head(6, 1));
        pending.begin(1);
        assert_eq!(pending.get(b"begun", 1).map(|head| head.seq), Some(6));
        assert_eq!(pending.count(), 1);
    }
}
