//! Figures about an open store. Owns what they mean; each is counted where it comes from.

use std::time::Duration;

use crate::CommitSeq;
use crate::histogram::Histogram;
use crate::store::Store;
use crate::watermark::Pin;

/// Figures about an open store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The newest visible commit.
    pub last_commit: CommitSeq,
    /// The oldest commit sequence that a live snapshot reads at or a registered cursor stands at; `last_commit`
    /// without any.
    pub watermark: CommitSeq,
    /// What keeps old versions from being dropped, the one with the oldest sequence first: which snapshot,
    /// transaction or cursor it is, at which sequence, since when.
    pub pins: Vec<Pin>,
    /// Live snapshots.
    pub snapshots: usize,
    /// Registered cursors.
    pub cursors: usize,
    /// Change feeds that wait for a commit at this moment.
    pub waiting_feeds: usize,
    /// Writes committed since the store was opened.
    pub commits: u64,
    /// Groups that they became durable in. `commits / groups` is how many writes shared a sync.
    pub groups: u64,
    /// How many writes each of these groups had.
    pub group_sizes: Histogram,
    /// What each sync of the log took, in microseconds; none under [`Durability::Buffered`](crate::Durability), whose log is
    /// synced in the background.
    pub sync_micros: Histogram,
    /// Bytes of bodies on their way to disk at this moment. Writers wait before they would make it more than 64 MiB.
    pub queued_bytes: usize,
    /// Bytes of rows that are in the log and not in RocksDB's memory tables yet, at this moment. Whoever writes while there is
    /// 1 MiB of them brings some there first.
    pub unapplied_bytes: usize,
    /// Time spent writing these groups to the log, and syncing them; a group is written while the one before is synced.
    pub group_time: Duration,
    /// About how many version rows there are, superseded ones and tombstones included (RocksDB's
    /// `rocksdb.estimate-num-keys`).
    pub versions_estimate: u64,
    /// Bytes of all version rows in sorted files (RocksDB's `rocksdb.total-sst-files-size`).
    pub versions_bytes: u64,
    /// Reads of current versions that were answered from the document cache since the store was opened.
    pub cache_hits: u64,
    /// Reads of current versions that were not.
    pub cache_misses: u64,
    /// Bytes in the document cache at this moment, at most
    /// [`document_cache_bytes`](crate::Options::document_cache_bytes).
    pub cache_bytes: u64,
}

impl Store {
    /// Figures about the store. Cheap: no documents are read.
    pub fn stats(&self) -> Stats {
        let inner = self.inner();
        let (group_sizes, sync_micros) = inner.landings.histograms();
        let (cache_hits, cache_misses) = inner.cache.counts();
        Stats {
            last_commit: self.last_commit(),
            watermark: self.watermark(),
            pins: inner.watermark.pins(),
            snapshots: inner.watermark.snapshots(),
            cursors: inner.cursors.count(),
            waiting_feeds: inner.visible.waiting(),
            commits: group_sizes.sum(),
            groups: group_sizes.count(),
            group_sizes,
            sync_micros,
            queued_bytes: inner.queue.bytes(),
            unapplied_bytes: inner.rocks.backlog.bytes(),
            group_time: inner.landings.time(),
            versions_estimate: inner.rocks.versions_property(c"rocksdb.estimate-num-keys"),
            versions_bytes: inner.rocks.versions_property(c"rocksdb.total-sst-files-size"),
            cache_hits,
            cache_misses,
            cache_bytes: inner.cache.bytes(),
        }
    }
}
