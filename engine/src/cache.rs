//! Newest versions in memory, so that a hot read and the judging of a write ask no RocksDB. Owns which are kept, and
//! that none of them is ever out of date.
//!
//! # Why it is coherent
//!
//! The question is always "the newest version at or below `at`", where `at` was the visible sequence at some moment
//! before the cache is asked.
//!
//! * *No entry is too old.* The leader of a group puts every version it has written here **before** it publishes
//!   them. So when a reader has seen `at`, the entries of all versions up to `at` have been made, and each replaced
//!   its predecessor. An entry can only be too new (written, not yet published): then its sequence is above `at`, and
//!   the reader asks RocksDB instead.
//! * *No reader brings back what was replaced.* A reader that missed reads RocksDB and offers what it found. Between
//!   its read and its offer a newer version may have come and, in the cache, gone again. Each shard therefore
//!   remembers the highest sequence written to it, and takes an offer read at `at` only when that is not above `at`.
//!
//! Scans and reads of the past do not pass through here, so they wash nothing out. What stays is decided by S3-FIFO:
//! an entry asked for only once is the first to go.

use std::hash::BuildHasher;

use bytes::Bytes;
use crossbeam_utils::CachePadded;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use crate::encoding::VersionHeader;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, RandomState};

/// A power of two. Threads that read different documents should rarely meet.
const SHARDS: usize = 64;
/// What an entry costs besides its key and body, about: the two allocations' headers and the cache's own tables.
const ENTRY_BYTES: usize = 128;
/// A body is kept when it has at most this part of its shard's share; of larger ones only the rest of the version is.
const LARGEST_BODY_PART: usize = 8;

/// A version of a document that was the newest when it was put here.
#[derive(Debug, Clone)]
pub(crate) struct CachedVersion {
    pub(crate) seq: u64,
    pub(crate) header: VersionHeader,
    /// `None` when the body is too large to be kept.
    pub(crate) body: Option<Bytes>,
}

/// The cache, by document prefix.
pub(crate) struct VersionCache {
    /// Empty when the cache is turned off.
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    hasher: RandomState,
    largest_body: usize,
    hits: CachePadded<AtomicU64>,
    misses: CachePadded<AtomicU64>,
}

struct Shard {
    versions: Cache<Box<[u8]>, CachedVersion, Weight>,
    /// The highest sequence written to a document of this shard.
    last_write: u64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Box<[u8]>, CachedVersion> for Weight {
    fn weight(&self, prefix: &Box<[u8]>, version: &CachedVersion) -> u64 {
        (ENTRY_BYTES + prefix.len() + version.body.as_ref().map_or(0, Bytes::len)) as u64
    }
}

impl VersionCache {
    /// Keeps about `capacity` bytes; 0 turns it off.
    pub(crate) fn new(capacity: usize) -> VersionCache {
        let share = capacity / SHARDS;
        let shard = || {
            let versions = Cache::with_weighter(share / 1024 + 1, share as u64, Weight);
            CachePadded::new(Mutex::new(Shard { versions, last_write: 0 }))
        };
        VersionCache {
            shards: if capacity == 0 { Box::default() } else { (0..SHARDS).map(|_| shard()).collect() },
            hasher: RandomState::new(),
            largest_body: share / LARGEST_BODY_PART,
            hits: CachePadded::default(),
            misses: CachePadded::default(),
        }
    }

    /// The newest version at or below `at`, if it is known. `at` is a visible sequence read before this call.
    pub(crate) fn get(&self, prefix: &[u8], at: u64) -> Option<CachedVersion> {
        let found = self.shard(prefix)?.lock().versions.get(prefix).filter(|version| version.seq <= at).cloned();
        // Counters for people; they order nothing.
        let count = if found.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Offers a version that was the newest at or below `at` when RocksDB was asked.
    pub(crate) fn offer(&self, prefix: &[u8], at: u64, seq: u64, header: VersionHeader, body: &Bytes) {
        let Some(shard) = self.shard(prefix) else { return };
        let mut shard = shard.lock();
        if shard.last_write <= at {
            shard.versions.insert(prefix.into(), self.entry(seq, header, body));
        }
    }

    /// Puts a version that was just written. Called by the group's leader, in sequence order, before it publishes.
    pub(crate) fn written(&self, prefix: &[u8], seq: u64, header: VersionHeader, body: &Bytes) {
        let Some(shard) = self.shard(prefix) else { return };
        let mut shard = shard.lock();
        shard.last_write = seq;
        shard.versions.insert(prefix.into(), self.entry(seq, header, body));
    }

    /// Forgets a document of which version `seq` was just written. In place of [`written`](VersionCache::written).
    pub(crate) fn superseded(&self, prefix: &[u8], seq: u64) {
        let Some(shard) = self.shard(prefix) else { return };
        let mut shard = shard.lock();
        shard.last_write = seq;
        shard.versions.remove(prefix);
    }

    /// Reads that were answered here, and reads that were not, since the store was opened.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    fn entry(&self, seq: u64, header: VersionHeader, body: &Bytes) -> CachedVersion {
        CachedVersion { seq, header, body: (body.len() <= self.largest_body).then(|| body.clone()) }
    }

    fn shard(&self, prefix: &[u8]) -> Option<&Mutex<Shard>> {
        // The cut keeps the low bits, so it may lose the high ones.
        let index = self.hasher.hash_one(prefix) as usize & (SHARDS - 1);
        self.shards.get(index).map(|shard| &**shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::VersionKind;

    fn header() -> VersionHeader {
        VersionHeader { kind: VersionKind::Document, time_ms: 0, previous: 0, created: 0, ttl_ms: None }
    }

    fn seq(cache: &VersionCache, at: u64) -> Option<u64> {
        cache.get(b"a", at).map(|version| version.seq)
    }

    #[test]
    fn a_version_that_is_not_visible_yet_is_not_shown() {
        let cache = VersionCache::new(1 << 20);
        cache.written(b"a", 5, header(), &Bytes::from("x"));
        assert_eq!((seq(&cache, 4), seq(&cache, 5), seq(&cache, 9)), (None, Some(5), Some(5)));
        assert_eq!(cache.counts(), (2, 1));
    }

    /// The reader was slow: it read version 1 at sequence 1, and meanwhile version 2 came.
    #[test]
    fn a_late_offer_does_not_bring_back_a_replaced_version() {
        let cache = VersionCache::new(1 << 20);
        cache.written(b"a", 2, header(), &Bytes::from("new"));
        cache.offer(b"a", 1, 1, header(), &Bytes::from("old"));
        assert_eq!(seq(&cache, 2), Some(2));
        cache.offer(b"a", 2, 2, header(), &Bytes::from("new"));
        assert_eq!(seq(&cache, 2), Some(2));
    }

    #[test]
    fn a_superseded_version_is_gone_and_not_brought_back() {
        let cache = VersionCache::new(1 << 20);
        cache.written(b"a", 1, header(), &Bytes::from("old"));
        cache.superseded(b"a", 2);
        cache.offer(b"a", 1, 1, header(), &Bytes::from("old"));
        assert_eq!(seq(&cache, 2), None);
    }

    #[test]
    fn a_body_too_large_is_left_out_and_the_rest_kept() {
        let cache = VersionCache::new(1 << 20);
        cache.written(b"a", 1, header(), &Bytes::from(vec![0; 1 << 20]));
        assert!(cache.get(b"a", 1).expect("kept").body.is_none());
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let cache = VersionCache::new(1 << 20);
        for n in 1u64..=10_000 {
            cache.written(&n.to_be_bytes(), n, header(), &Bytes::from(vec![0; 1000]));
        }
        let weight: u64 = cache.shards.iter().map(|shard| shard.lock().versions.weight()).sum();
        assert!(weight <= 1 << 20, "{weight}");
    }

    #[test]
    fn turned_off_it_keeps_nothing() {
        let cache = VersionCache::new(0);
        cache.written(b"a", 1, header(), &Bytes::from("x"));
        assert!(cache.get(b"a", 1).is_none());
    }
}
