//! A persistent MVCC document store with optimistic concurrency control.
//!
//! Every document version has an etag. A write names the etag it builds on and happens only if that version is still
//! current: one atomic compare-and-swap, durable before it is acknowledged. Versions are immutable, so snapshots read
//! a consistent past while writers go on.
//!
//! ```
//! use etagdb::{Error, Precondition, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("shop");
//! let store = Store::open(&path)?;
//! let carts = store.collection("carts")?;
//!
//! // Create: the document must not exist yet.
//! let created = carts.put("ana", br#"{"items":1}"#, Precondition::Absent)?;
//! // Replace what we read: only if this is still the current version.
//! let cart = carts.get("ana")?.expect("just created");
//! let replaced = carts.put("ana", br#"{"items":2}"#, cart.etag)?;
//! // Anyone still holding the first etag lost the race, and learns who won.
//! match carts.put("ana", br#"{"items":9}"#, created.etag) {
//!     Err(Error::Conflict(conflict)) => assert_eq!(conflict.current, Some(replaced.etag)),
//!     other => panic!("the stale write was accepted: {other:?}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * [`Store`] and [`Options`] open a directory; [`Collection`] reads and writes single documents.
//! * [`WriteBatch`] writes many documents of many collections, all or nothing, with checks on others.
//! * [`WriteBatch::submit`] does the same for those who wait as a future ([`CommitHandle`]).
//! * [`Collection::update`] is read-modify-write without a retry loop.
//! * [`Store::transact`] reads and writes any documents as if nobody else did; [`Transaction`] says how.
//! * [`Collection::get_as_of`], [`Store::snapshot_at`] and [`Collection::history`] read what was, by etag, commit or time.
//! * [`Snapshot`] reads the whole store as of one commit; [`ScanRange`] says which ids a scan covers.
//! * [`ChangeFeed`] tells what was committed, in order, and wakes who waits for more; [`Store::register_cursor`] keeps a
//!   reader's place.
//! * [`Collection::typed`] sees documents as values of a serde type; [`Collection::bulk_load`] writes many of them fast.
//! * [`Store::checkpoint`] copies an open store, [`Store::restore`] makes one from the copy, and [`Store::verify`] reads
//!   everything and names what is wrong.
//! * [`Retention`] says how much of a collection's past is kept: by default, ten minutes.
//! * [`DocumentTtl`] and [`CollectionTtl`] say how long documents live.
//! * [`Durability`] says what an acknowledged write survives; [`Error`] says whether anything was written;
//!   [`Store::health`] says since when and why a store takes no writes.
//!
//! What it is not: it does not interpret bodies (they are bytes), does not talk over a network (the `etagdb` binary
//! does), does not replicate, and lets one process at a time open a directory.

mod agreement;
mod backlog;
mod batch;
mod bulk;
mod cache;
mod changes;
mod checkpoint;
mod clock;
mod collection;
mod commit;
mod cursors;
mod derived;
mod directory;
mod document;
mod durable;
mod encoding;
mod epoch;
mod error;
mod etag;
mod expiry;
mod flusher;
mod handle;
mod health;
mod histogram;
mod history;
mod judge;
mod landing;
mod log;
mod maintenance;
mod manifest;
mod manifest_format;
mod options;
mod pages;
mod pending;
mod precondition;
mod queue;
mod read;
mod reads;
mod report;
mod retention;
mod retry;
mod rocks;
mod rows;
mod scan;
mod segment;
mod size;
mod snapshot;
mod stats;
mod store;
mod stripes;
mod sync;
mod tally;
mod transaction;
mod trim;
mod ttl;
mod typed;
mod verify;
mod visible;
mod waiter;
mod watermark;
mod workers;

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
pub use histogram::Histogram;
pub use history::{AsOf, History, Version};
pub use maintenance::Maintained;
pub use options::{Durability, Options};
pub use precondition::Precondition;
pub use report::{Problem, ProblemKind, VerifyProgress, VerifyReport};
pub use retention::Retention;
pub use retry::MAX_TRANSACTION_ATTEMPTS;
pub use scan::{Scan, ScanRange};
pub use size::CollectionSize;
pub use snapshot::Snapshot;
pub use stats::Stats;
pub use store::Store;
pub use transaction::{Committed, Transaction, TransactionScan};
pub use ttl::{CollectionTtl, DocumentTtl, PutOptions};
pub use typed::{Bincode, Encoding, Json, TypedCollection, TypedDocument, TypedScan};
pub use visible::Ready;
pub use watermark::{Pin, PinKind};

/// The guide's programs, which are documentation tests too.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/embedding.md")]
struct Guide;
