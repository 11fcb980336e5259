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
//!
//! # Heads
//!
//! To judge a write takes no body. So of a version that is evicted the *head*, all but its body, is kept, in a part of
//! the bytes of its own, where some six times as many documents have room as there are whole ones of 1 KiB. Both parts
//! of a shard change under its one lock, so all that is said above holds of both: a head may be older than the version
//! that is kept whole, which is asked first, and takes the place of that head when it is evicted itself.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use bytes::Bytes;
use crossbeam_utils::CachePadded;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Lifecycle, Weighter};
use smallvec::SmallVec;

use crate::encoding::{KeyBytes, VersionHeader};
use crate::sync::{Mutex, RandomState};

/// A power of two. Threads that read different documents should rarely meet.
const SHARDS: usize = 64;
/// What an entry costs besides its key and body, about: the allocations' headers and the cache's own tables.
const ENTRY_BYTES: usize = 128;
/// What a head costs: its place in the cache's own tables, with a short prefix.
const HEAD_BYTES: usize = 168;
/// The heads have this part of the bytes.
const HEADS_PART: usize = 4;
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
}

struct Shard {
    versions: Cache<Key, CachedVersion, Weight, BuildHasherDefault<KnownHash>, Evicting>,
    heads: Cache<Key, Head, Weight, BuildHasherDefault<KnownHash>>,
    /// The highest sequence written to a document of this shard.
    last_write: u64,
    hits: u64,
    misses: u64,
}

/// A version without its body.
#[derive(Clone, Copy)]
struct Head {
    seq: u64,
    header: VersionHeader,
}

/// A document prefix and its hash, which chooses both the shard and the place in it. Kept in the cache's own table while
/// it is short: what is compared need not be fetched from elsewhere.
struct Key {
    hash: u64,
    prefix: KeyBytes,
}

/// A [`Key`] that somebody else owns.
#[derive(Clone, Copy)]
struct KeyRef<'a> {
    hash: u64,
    prefix: &'a [u8],
}

impl KeyRef<'_> {
    fn to_key(self) -> Key {
        Key { hash: self.hash, prefix: KeyBytes::from_slice(self.prefix) }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.hash == other.hash && self.prefix == other.prefix
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash && *self.prefix == *key.prefix
    }
}

/// Passes on the hash that a key brings along.
#[derive(Default)]
struct KnownHash(u64);

impl Hasher for KnownHash {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys write one number");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, CachedVersion> for Weight {
    fn weight(&self, key: &Key, version: &CachedVersion) -> u64 {
        (ENTRY_BYTES + key.prefix.len() + version.body.as_ref().map_or(0, Bytes::len)) as u64
    }
}

impl Weighter<Key, Head> for Weight {
    fn weight(&self, key: &Key, _: &Head) -> u64 {
        (HEAD_BYTES + if key.prefix.spilled() { key.prefix.len() } else { 0 }) as u64
    }
}

/// Hands out what is evicted, and what is replaced.
#[derive(Clone)]
struct Evicting;

/// What one insertion has put out. To be dropped when the shard is free again: that gives memory back, and takes as long
/// as all the rest.
type Evicted = SmallVec<[(Key, CachedVersion); 1]>;

impl Lifecycle<Key, CachedVersion> for Evicting {
    type RequestState = Evicted;

    fn on_evict(&self, evicted: &mut Evicted, key: Key, version: CachedVersion) {
        evicted.push((key, version));
    }
}

impl Shard {
    #[must_use]
    fn put(&mut self, key: KeyRef<'_>, version: CachedVersion) -> Evicted {
        let (mut evicted, seq) = (Evicted::new(), version.seq);
        self.versions.insert_with_lifecycle(key.to_key(), version, &mut evicted);
        for (old_key, old) in &evicted {
            let is_replaced = old.seq < seq && key.equivalent(old_key);
            if !is_replaced {
                let old_key = KeyRef { hash: old_key.hash, prefix: &old_key.prefix };
                self.heads.insert(old_key.to_key(), Head { seq: old.seq, header: old.header });
            }
        }
        evicted
    }

    fn count(&mut self, hit: bool) {
        match hit {
            true => self.hits += 1,
            false => self.misses += 1,
        }
    }
}

impl VersionCache {
    /// Keeps about `capacity` bytes; 0 turns it off.
    pub(crate) fn new(capacity: usize) -> VersionCache {
        let share = capacity / SHARDS;
        let shard = || {
            let (hasher, lifecycle) = (BuildHasherDefault::default(), DefaultLifecycle::default());
            let heads = share / HEADS_PART;
            let versions = Cache::with(share / 1024 + 1, (share - heads) as u64, Weight, hasher, Evicting);
            let hasher = BuildHasherDefault::default();
            let heads = Cache::with(heads / HEAD_BYTES + 1, heads as u64, Weight, hasher, lifecycle);
            CachePadded::new(Mutex::new(Shard { versions, heads, last_write: 0, hits: 0, misses: 0 }))
        };
        VersionCache {
            shards: if capacity == 0 { Box::default() } else { (0..SHARDS).map(|_| shard()).collect() },
            hasher: RandomState::default(),
            largest_body: share / LARGEST_BODY_PART,
        }
    }

    /// The newest version at or below `at`, if it is known, body and all. `at` is a visible sequence read before this call.
    pub(crate) fn get(&self, prefix: &[u8], at: u64) -> Option<CachedVersion> {
        let (key, shard) = self.shard(prefix)?;
        let mut shard = shard.lock();
        let is_it = |version: &&CachedVersion| version.seq <= at && version.body.is_some();
        let found = shard.versions.get(&key).filter(is_it).cloned();
        shard.count(found.is_some());
        found
    }

    /// As [`get`](VersionCache::get), for those who need no body.
    pub(crate) fn head(&self, prefix: &[u8], at: u64) -> Option<CachedVersion> {
        let (key, shard) = self.shard(prefix)?;
        let mut shard = shard.lock();
        let whole = shard.versions.get(&key).map(|version| Head { seq: version.seq, header: version.header });
        let found = whole.or_else(|| shard.heads.get(&key).copied()).filter(|head| head.seq <= at);
        shard.count(found.is_some());
        found.map(|Head { seq, header }| CachedVersion { seq, header, body: None })
    }

    /// Offers a version that was the newest at or below `at` when RocksDB was asked.
    pub(crate) fn offer(&self, prefix: &[u8], at: u64, seq: u64, header: VersionHeader, body: &Bytes) {
        let Some((key, shard)) = self.shard(prefix) else { return };
        let mut shard = shard.lock();
        if shard.last_write <= at {
            let evicted = shard.put(key, self.entry(seq, header, body));
            drop(shard);
            drop(evicted);
        }
    }

    /// Puts a version that was just written. Called by the group's leader, in sequence order, before it publishes.
    pub(crate) fn written(&self, prefix: &[u8], seq: u64, header: VersionHeader, body: &Bytes) {
        let Some((key, shard)) = self.shard(prefix) else { return };
        let mut shard = shard.lock();
        shard.last_write = seq;
        let evicted = shard.put(key, self.entry(seq, header, body));
        drop(shard);
        drop(evicted);
    }

    /// Forgets a document of which version `seq` was just written. In place of [`written`](VersionCache::written).
    pub(crate) fn superseded(&self, prefix: &[u8], seq: u64) {
        let Some((key, shard)) = self.shard(prefix) else { return };
        let mut shard = shard.lock();
        shard.last_write = seq;
        shard.versions.remove(&key);
        shard.heads.remove(&key);
    }

    /// Reads that were answered here, and reads that were not, since the store was opened.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(hits, misses), shard| {
            let shard = shard.lock();
            (hits + shard.hits, misses + shard.misses)
        })
    }

    /// What is kept, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |shard: &Shard| shard.versions.weight() + shard.heads.weight();
        self.shards.iter().map(|shard| bytes(&shard.lock())).sum()
    }

    fn entry(&self, seq: u64, header: VersionHeader, body: &Bytes) -> CachedVersion {
        CachedVersion { seq, header, body: (body.len() <= self.largest_body).then(|| body.clone()) }
    }

    fn shard<'a>(&self, prefix: &'a [u8]) -> Option<(KeyRef<'a>, &Mutex<Shard>)> {
        let hash = self.hasher.hash_one(prefix);
        // Bits from the middle: the lowest choose the place in the shard's table, and the highest are compared there.
        let index = (hash >> 40) as usize & (SHARDS - 1);
        self.shards.get(index).map(|shard| (KeyRef { hash, prefix }, &**shard))
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
    fn heads_outlive_their_bodies_and_tell_the_same() {
        let cache = VersionCache::new(4 << 20);
        for n in 1u64..=3000 {
            cache.written(&n.to_be_bytes(), n, header(), &Bytes::from(vec![0; 2000]));
        }
        let count = |found: &dyn Fn(&[u8]) -> Option<CachedVersion>| {
            (1u64..=3000).filter(|n| found(&n.to_be_bytes()).is_some_and(|version| version.seq == *n)).count()
        };
        let (whole, heads) = (count(&|prefix| cache.get(prefix, 3000)), count(&|prefix| cache.head(prefix, 3000)));
        assert!(whole < 2000 && heads == 3000, "{whole} {heads}");
        cache.superseded(&3000u64.to_be_bytes(), 3001);
        assert!(cache.head(&3000u64.to_be_bytes(), 3001).is_none());
        cache.offer(&3000u64.to_be_bytes(), 3000, 3000, header(), &Bytes::new());
        assert!(cache.head(&3000u64.to_be_bytes(), 3001).is_none(), "a late offer");
        cache.written(&2999u64.to_be_bytes(), 3002, header(), &Bytes::new());
        assert!(cache.head(&2999u64.to_be_bytes(), 3001).is_none(), "not visible yet");
    }

    #[test]
    fn a_body_too_large_is_left_out_and_the_rest_kept() {
        let cache = VersionCache::new(1 << 20);
        cache.written(b"a", 1, header(), &Bytes::from(vec![0; 1 << 20]));
        assert!(cache.get(b"a", 1).is_none());
        assert_eq!(cache.head(b"a", 1).map(|head| head.seq), Some(1));
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let cache = VersionCache::new(1 << 20);
        for n in 1u64..=10_000 {
            cache.written(&n.to_be_bytes(), n, header(), &Bytes::from(vec![0; 1000]));
        }
        assert!(cache.bytes() <= 1 << 20, "{}", cache.bytes());
    }

    #[test]
    fn turned_off_it_keeps_nothing() {
        let cache = VersionCache::new(0);
        cache.written(b"a", 1, header(), &Bytes::from("x"));
        assert!(cache.get(b"a", 1).is_none());
    }
}
