//! The engine's own files, compiled over other primitives: the locks, atomics and threads of a scheduler that decides
//! at each of them who goes on, and a disk in memory in place of RocksDB and the log. Owns which files are taken as they
//! are and which are replaced; the engine knows nothing of it.
//!
//! Replaced are `sync.rs`, so that nothing runs but what the scheduler chose; `rocks.rs`, whose writes and syncs are steps
//! that others can come between and that can fail; and `directory.rs` and `durable.rs`, which are about files. Left out
//! is what only looks at files: verification, sizes.

// What is left out is missed by functions that only it calls.
#![allow(dead_code)]

mod directory;
pub mod disk;
mod durable;
mod rocks;
mod sync;

#[path = "../../engine/src"]
mod engine {
    pub(crate) mod backlog;
    pub(crate) mod batch;
    pub(crate) mod bulk;
    pub(crate) mod cache;
    pub(crate) mod changes;
    pub(crate) mod checkpoint;
    pub(crate) mod clock;
    pub(crate) mod collection;
    pub(crate) mod commit;
    pub(crate) mod cursors;
    pub(crate) mod derived;
    pub(crate) mod document;
    pub(crate) mod encoding;
    pub(crate) mod epoch;
    pub(crate) mod error;
    pub(crate) mod etag;
    pub(crate) mod expiry;
    pub(crate) mod flusher;
    pub(crate) mod handle;
    pub(crate) mod health;
    pub(crate) mod histogram;
    pub(crate) mod history;
    pub(crate) mod judge;
    pub(crate) mod landing;
    pub(crate) mod maintenance;
    pub(crate) mod options;
    pub(crate) mod pages;
    pub(crate) mod pending;
    pub(crate) mod precondition;
    pub(crate) mod queue;
    pub(crate) mod read;
    pub(crate) mod reads;
    pub(crate) mod retention;
    pub(crate) mod retry;
    pub(crate) mod scan;
    pub(crate) mod snapshot;
    pub(crate) mod store;
    pub(crate) mod stripes;
    pub(crate) mod transaction;
    pub(crate) mod trim;
    pub(crate) mod ttl;
    pub(crate) mod visible;
    pub(crate) mod waiter;
    pub(crate) mod watermark;
    pub(crate) mod workers;
}
pub(crate) use engine::*;

pub use batch::{Abort, Change, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS, WriteBatch};
pub use bulk::BulkLoaded;
pub use changes::{ChangeFeed, ChangeKind, FeedEntry, FeedMode, FeedPage, FeedStart, PreviousVersion, Tail};
pub use clock::{Clock, SystemClock};
pub use collection::Collection;
pub use cursors::FeedCursor;
pub use document::{Document, Written};
pub use encoding::{MAX_BODY_BYTES, MAX_ID_BYTES, MAX_NAME_BYTES};
pub use error::{Cause, Conflict, Error, Result, Undecodable};
pub use etag::{CommitSeq, Etag, ParseEtagError};
pub use handle::CommitHandle;
pub use health::StoreHealth;
pub use history::{AsOf, History, Version};
pub use maintenance::Maintained;
pub use options::{Durability, Options};
pub use precondition::Precondition;
pub use retention::Retention;
pub use retry::MAX_TRANSACTION_ATTEMPTS;
pub use scan::{Scan, ScanRange};
pub use snapshot::Snapshot;
pub use store::Store;
pub use transaction::{Committed, Transaction, TransactionScan};
pub use ttl::{CollectionTtl, DocumentTtl, PutOptions};
pub use visible::Ready;
pub use watermark::{Pin, PinKind};
