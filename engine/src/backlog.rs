//! Rows that are in the log and not in RocksDB yet. Owns them until RocksDB has them; whoever reads RocksDB reads these as
//! well.
//!
//! # Why
//!
//! What makes a write durable is the log. To put its rows into RocksDB's memory tables takes about as long as everything
//! else that is done for a write that is not synced, most of it spent waiting for memory; and the log takes one write at
//! a time. So a writer leaves its rows here, and is answered when they are in the log. A thread of the store's own brings
//! them to RocksDB in the order of the log, many writes as one batch.
//!
//! # Why nobody misses a row
//!
//! A reader takes the batches that are here, and looks into RocksDB afterwards. A batch goes only when RocksDB has it. So
//! every row is in one of the two, and one that is in both is the same: what stays here is *new*, under keys that never had
//! a row and will get no other one (versions, the feed, expiries). What changes or deletes rows is written when nothing else
//! is here, and whoever writes it brings it to RocksDB before anything else gets into the log. Should RocksDB refuse it at
//! that very moment, readers find these rows as they were: they are settings, of which the store has copies in memory, and
//! upkeep, of which nothing depends on when it happens.
//!
//! Most readers look for one document, of which nothing is here. They learn that without a lock: for each place of a table
//! on which ids fall it is noted which is the newest commit of a document there, before that commit is visible; and up to
//! which commit RocksDB has everything.
//!
//! # When RocksDB refuses
//!
//! Its own files may be out of space. What is here stays then, readers find it as before, and no more writes are taken
//! before RocksDB has it. If the store is closed first, the next opening replays it from the log.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::Result;
use crate::rocks::Rows;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, RandomState};
use crate::workers::Summons;

/// A batch of so many bytes is brought to RocksDB: the more writes it has, the less RocksDB's own work weighs. Smaller ones
/// wait until somebody reads.
const BATCH_BYTES: usize = 64 << 10;
/// With so many bytes here, whoever writes brings some of them to RocksDB first.
const BACKLOG_BYTES: usize = 1 << 20;

/// Rows on their way from the log to RocksDB.
pub(crate) struct Backlog {
    batches: Mutex<Growing>,
    /// Written under the lock of the batches; 0 when there are none.
    bytes: AtomicUsize,
    /// Held by whoever brings a batch to RocksDB.
    turn: Mutex<()>,
    /// How the thread is called that does it.
    pub(crate) summons: Summons,
    /// By places on which documents fall: the newest commit of any of them, or a later one.
    newest: Box<[AtomicU64]>,
    hasher: RandomState,
    /// The commit up to which RocksDB has everything that was here.
    applied: AtomicU64,
}

#[derive(Default)]
struct Growing {
    /// The newest rows.
    open: Rows,
    /// Batches that do not change any more, the oldest first.
    closed: VecDeque<Arc<Rows>>,
    /// Empty, with the room of a batch that has left.
    spare: Rows,
}

/// What is in the backlog at some moment, the oldest first.
pub(crate) type Batches = SmallVec<[Arc<Rows>; 2]>;

impl Growing {
    fn close(&mut self) {
        if !self.open.is_empty() {
            let open = std::mem::replace(&mut self.open, std::mem::take(&mut self.spare));
            self.closed.push_back(Arc::new(open));
        }
    }
}

impl Backlog {
    /// An empty one. Two documents of which one was written lately are told apart with `places` to one.
    pub(crate) fn new(places: usize) -> Backlog {
        Backlog {
            batches: Mutex::default(),
            bytes: AtomicUsize::new(0),
            turn: Mutex::default(),
            summons: Summons::default(),
            newest: (0..places).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::default(),
            applied: AtomicU64::new(0),
        }
    }

    /// Notes that a version of the document with this prefix will be here, before anybody may look for it.
    pub(crate) fn note(&self, prefix: &[u8], seq: u64) {
        self.place(prefix).fetch_max(seq, Ordering::SeqCst);
    }

    /// The commit up to which RocksDB has everything. Asked before RocksDB is.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// Whether a visible version of the document with this prefix may have come after commit `applied`.
    pub(crate) fn has_later(&self, prefix: &[u8], applied: u64) -> bool {
        self.place(prefix).load(Ordering::SeqCst) > applied
    }

    fn place(&self, prefix: &[u8]) -> &AtomicU64 {
        &self.newest[self.hasher.hash_one(prefix) as usize % self.newest.len()]
    }

    /// Adds rows that have just been written to the log. Called in the order of the log.
    pub(crate) fn push(&self, rows: &mut Rows) {
        let mut batches = self.batches.lock();
        if rows.len() >= BACKLOG_BYTES {
            batches.close();
            batches.open = std::mem::take(rows);
            self.bytes.fetch_add(batches.open.len(), Ordering::SeqCst);
        } else {
            let before = batches.open.len();
            batches.open.append(rows);
            self.bytes.fetch_add(batches.open.len() - before, Ordering::SeqCst);
        }
        if batches.open.len() < BATCH_BYTES {
            return;
        }
        batches.close();
        drop(batches);
        self.summons.call();
    }

    /// All that is here, for whoever reads; afterwards it comes to RocksDB, so that the next reader need not look here.
    pub(crate) fn batches(&self) -> Batches {
        if self.bytes() == 0 {
            return Batches::new();
        }
        let mut batches = self.batches.lock();
        batches.close();
        let all = batches.closed.iter().cloned().collect();
        drop(batches);
        self.summons.call();
        all
    }

    /// Has `write` bring the oldest of the batches that do not grow any more to RocksDB. When that fails, it stays. False
    /// when there was none.
    pub(crate) fn bring(&self, write: impl FnOnce(&Rows) -> Result<()>) -> Result<bool> {
        let _turn = self.turn.lock();
        let Some(oldest) = self.batches.lock().closed.front().cloned() else { return Ok(false) };
        write(&oldest)?;
        let mut batches = self.batches.lock();
        batches.closed.pop_front();
        self.applied.fetch_max(oldest.last_seq(), Ordering::SeqCst);
        self.bytes.fetch_sub(oldest.len(), Ordering::SeqCst);
        // Unless somebody reads it.
        if let Ok(mut rows) = Arc::try_unwrap(oldest) {
            rows.clear();
            batches.spare = rows;
        }
        Ok(true)
    }

    /// Has the newest rows be a batch that does not grow any more.
    pub(crate) fn close(&self) {
        self.batches.lock().close();
    }

    /// Bytes of rows that are here at this moment.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes() >= BACKLOG_BYTES
    }
}
