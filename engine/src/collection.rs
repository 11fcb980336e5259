//! The handle of a collection: single reads and writes. Owns no data of its own; writing is `commit`'s, reading is
//! `snapshot`'s and `scan`'s.

use std::fmt;
use std::panic::RefUnwindSafe;
use std::sync::Arc;

use crate::batch::{Abort, Change, WriteBatch};
use crate::derived::Derived;
use crate::document::{Document, Written};
use crate::encoding::{CollectionNumber, CollectionRecord, Horizon, TtlRecord};
use crate::error::{Error, Result};
use crate::retention::Retention;
use crate::scan::{Scan, ScanRange};
use crate::store::Inner;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::{CollectionTtl, CommitSeq, Precondition, PutOptions};

/// A named set of documents in a store.
///
/// Cheap to clone; all clones, and all handles of one name, are the same collection. Usable from many threads at
/// once. After [`Store::drop_collection`](crate::Store::drop_collection) every call fails with [`Error::Invalid`],
/// also when a collection of the same name has been made anew.
#[derive(Clone)]
pub struct Collection {
    store: Arc<Inner>,
    state: Arc<CollectionState>,
}

/// What all handles of a collection share.
#[derive(Debug)]
pub(crate) struct CollectionState {
    pub(crate) number: CollectionNumber,
    pub(crate) name: String,
    created_ms: u64,
    dropped: AtomicBool,
    retention: Mutex<Retention>,
    /// A `TtlRecord` as a number.
    ttl: AtomicU64,
    /// Raised before the deletions that make it true are written; see `trim`.
    complete: AtomicU64,
    deletes: AtomicU64,
    last_change: AtomicU64,
    pub(crate) derived: Derived,
}

/// As `Inner`: no panic of a caller's closure leaves anything here half done.
impl RefUnwindSafe for CollectionState {}

impl CollectionState {
    /// `last_change`: no commit after it has changed the collection.
    pub(crate) fn new(
        number: CollectionNumber,
        record: CollectionRecord,
        horizon: Horizon,
        last_change: u64,
    ) -> CollectionState {
        CollectionState {
            number,
            name: record.name,
            created_ms: record.created_ms,
            dropped: AtomicBool::new(false),
            retention: Mutex::new(Retention { keep_ms: record.keep_ms, keep_versions: record.keep_versions }),
            ttl: AtomicU64::new(record.ttl.to_number()),
            complete: AtomicU64::new(horizon.complete),
            deletes: AtomicU64::new(horizon.deletes),
            last_change: AtomicU64::new(last_change),
            derived: Derived::default(),
        }
    }

    /// What is stored of a collection with these settings.
    pub(crate) fn record(&self, retention: Retention, ttl: TtlRecord) -> CollectionRecord {
        CollectionRecord {
            name: self.name.clone(),
            created_ms: self.created_ms,
            keep_ms: retention.keep_ms,
            keep_versions: retention.keep_versions,
            ttl,
        }
    }

    pub(crate) fn ttl(&self) -> TtlRecord {
        TtlRecord::from_number(self.ttl.load(Ordering::SeqCst))
    }

    pub(crate) fn set_ttl(&self, ttl: TtlRecord) {
        self.ttl.store(ttl.to_number(), Ordering::SeqCst);
    }

    pub(crate) fn retention(&self) -> Retention {
        *self.retention.lock()
    }

    pub(crate) fn set_retention(&self, retention: Retention) {
        *self.retention.lock() = retention;
    }

    pub(crate) fn horizon(&self) -> Horizon {
        Horizon { complete: self.complete.load(Ordering::SeqCst), deletes: self.deletes.load(Ordering::SeqCst) }
    }

    /// Whether the state as of commit `seq` can be incomplete. Asked after the rows are in view, it speaks for them.
    pub(crate) fn incomplete_at(&self, seq: CommitSeq) -> bool {
        self.complete.load(Ordering::SeqCst) > seq.get()
    }

    pub(crate) fn raise_horizon(&self, horizon: Horizon) {
        self.complete.fetch_max(horizon.complete, Ordering::SeqCst);
        self.deletes.fetch_max(horizon.deletes, Ordering::SeqCst);
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }

    pub(crate) fn check_live(&self) -> Result<()> {
        if self.is_dropped() { Err(self.dropped_error()) } else { Ok(()) }
    }

    pub(crate) fn dropped_error(&self) -> Error {
        Error::Invalid(format!("collection {:?} was dropped", self.name))
    }

    pub(crate) fn mark_dropped(&self) {
        self.dropped.store(true, Ordering::SeqCst);
    }

    /// Notes that a group of commits up to `seq` changed the collection. Called by one leader at a time, in ascending
    /// order, before the group becomes visible.
    pub(crate) fn note_change(&self, seq: u64) {
        // Whoever sees the group as visible has synchronised with its publication, and so with this.
        self.last_change.store(seq, Ordering::Release);
    }

    /// No visible commit after this one has changed the collection. Of commits that the caller saw as visible before.
    pub(crate) fn last_change(&self) -> u64 {
        self.last_change.load(Ordering::Acquire)
    }
}

impl Collection {
    pub(crate) fn new(store: Arc<Inner>, state: Arc<CollectionState>) -> Collection {
        Collection { store, state }
    }

    pub(crate) fn state(&self) -> &Arc<CollectionState> {
        &self.state
    }

    pub(crate) fn store(&self) -> &Arc<Inner> {
        &self.store
    }

    pub(crate) fn belongs_to(&self, store: &Arc<Inner>) -> bool {
        Arc::ptr_eq(&self.store, store)
    }

    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Reads the current version of document `id`, or `None` when there is none.
    ///
    /// Sees every write that was acknowledged before the call, and no write that is not yet as durable as the store's
    /// [`Durability`](crate::Durability) promises. The id that no document can have (empty, or too long) reads as
    /// `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the collection was dropped, [`Error::Corruption`] when the stored version is damaged,
    /// [`Error::Io`] when it cannot be read.
    pub fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<Document>> {
        self.store.get(&self.state, id.as_ref())
    }

    /// Reads the current version of document `id` from the document cache alone: no input or output, and no waiting.
    /// For callers that must not block, such as an event loop.
    ///
    /// What is returned is what [`get`](Collection::get) would return. `None` says only that it is not in memory:
    /// whether there is such a document, `get` knows.
    pub fn get_cached(&self, id: impl AsRef<[u8]>) -> Option<Document> {
        self.store.get_cached(&self.state, id.as_ref())
    }

    /// Writes `body` as the new version of document `id` if `precondition` holds.
    ///
    /// One atomic step: judgement and write cannot be separated by another writer. On return the write is as durable
    /// as the store's [`Durability`](crate::Durability) promises and visible to every read that begins later. Blocks
    /// for the sync. `id`: 1 byte to [`MAX_ID_BYTES`](crate::MAX_ID_BYTES); `body`: up to
    /// [`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES).
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when the precondition fails, with the current etag; otherwise as
    /// [`WriteBatch::commit`].
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{Error, Precondition};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let carts = store.collection("carts")?;
    /// let first = carts.put("ana", "1 pen", Precondition::Absent)?;
    /// let second = carts.put("ana", "2 pens", first.etag)?;
    /// assert_eq!(second.replaced, Some(first.etag));
    /// assert!(matches!(carts.put("ana", "3 pens", first.etag), Err(Error::Conflict(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put(
        &self,
        id: impl AsRef<[u8]>,
        body: impl AsRef<[u8]>,
        precondition: impl Into<Precondition>,
    ) -> Result<Written> {
        let mut batch = self.batch();
        batch.put(self, id, body, precondition);
        commit_one(batch)?.ok_or_else(|| Error::invalid("a put wrote nothing"))
    }

    /// As [`put`](Collection::put), with options: how long the document is to live.
    ///
    /// # Errors
    ///
    /// As [`put`](Collection::put); [`Error::Invalid`] for a time to live of zero.
    pub fn put_with(
        &self,
        id: impl AsRef<[u8]>,
        body: impl AsRef<[u8]>,
        precondition: impl Into<Precondition>,
        options: PutOptions,
    ) -> Result<Written> {
        let mut batch = self.batch();
        batch.put_with(self, id, body, precondition, options);
        commit_one(batch)?.ok_or_else(|| Error::io("a put wrote nothing"))
    }

    /// Deletes document `id` if `precondition` holds; `None` when there was nothing to delete (which only `Any` and
    /// `Absent` let pass). A deletion is a commit: it has a sequence and an etag, and leaves a tombstone.
    ///
    /// # Errors
    ///
    /// As [`put`](Collection::put).
    pub fn delete(&self, id: impl AsRef<[u8]>, precondition: impl Into<Precondition>) -> Result<Option<Written>> {
        let mut batch = self.batch();
        batch.delete(self, id, precondition);
        commit_one(batch)
    }

    /// Reads document `id`, lets `change` decide, and writes what it says, in one atomic step. No retry loop is
    /// needed however many writers there are. See [`WriteBatch::update`] for what `change` may do.
    ///
    /// # Errors
    ///
    /// [`Error::Aborted`] when `change` refuses; otherwise as [`WriteBatch::commit`].
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::Change;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let counters = store.collection("counters")?;
    /// for _ in 0..3 {
    ///     counters.update("visits", |current| {
    ///         let count: u64 = current.and_then(|c| std::str::from_utf8(&c.body).ok()?.parse().ok()).unwrap_or(0);
    ///         Ok(Change::Put((count + 1).to_string().into_bytes()))
    ///     })?;
    /// }
    /// assert_eq!(counters.get("visits")?.expect("counted").body, "3");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update(
        &self,
        id: impl AsRef<[u8]>,
        change: impl FnOnce(Option<&Document>) -> Result<Change, Abort>,
    ) -> Result<Option<Written>> {
        let mut batch = self.batch();
        batch.update(self, id, change);
        commit_one(batch)
    }

    /// Reads the current versions of the documents in `range`, in byte order of their ids or
    /// [backwards](ScanRange::reverse), from a snapshot taken now.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the collection was dropped. Each item can fail as [`get`](Collection::get).
    pub fn scan(&self, range: &ScanRange) -> Result<Scan<'_>> {
        self.store.scan_now(&self.state, range)
    }

    /// The sequence of the newest commit that a [`get`](Collection::get) would see now.
    pub fn last_commit(&self) -> CommitSeq {
        self.store.visible()
    }

    /// How much of the past is kept.
    pub fn retention(&self) -> Retention {
        self.state.retention()
    }

    /// Changes how much of the past is kept, durably. In force at once, for versions that exist already too; what is
    /// no longer kept is dropped in the background. What has been dropped does not come back. Keeping fewer versions
    /// by count than before makes the background work look at every document once. Blocks for a sync.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the collection was dropped, and inside an [`update`](Collection::update) closure;
    /// [`Error::ReadOnly`], [`Error::OutcomeUnknown`] and [`Error::DiskFull`] when the disk does not do its part.
    pub fn set_retention(&self, retention: Retention) -> Result<()> {
        self.store.set_retention(&self.state, retention)
    }

    /// What the collection says of the life of its documents.
    pub fn ttl(&self) -> CollectionTtl {
        CollectionTtl::from_record(self.state.ttl())
    }

    /// Changes what the collection says of the life of its documents, durably. Default:
    /// [`CollectionTtl::Documents`].
    ///
    /// A document expires when its time to live has passed since its last write, to the millisecond of the store's
    /// [`Clock`](crate::Clock), but never by a clock that was set back: time is at least that of the last commit. From
    /// then on it is absent: for every read, scan and precondition, and for an [`update`](Collection::update), at once.
    /// A [`Snapshot`](crate::Snapshot) judges by the time at which it was taken, one of the past by the time of its
    /// commit, and both by what the collections said when they were taken. A write that was judged before the moment
    /// of expiry counts as before it, though its commit comes a little later.
    ///
    /// Soon after, in the background, the expiry is committed: with a sequence, a tombstone and a place in the change
    /// feed. A write that is earlier than that commits the expiry first, in the same batch.
    ///
    /// A change is in force at once for the documents that exist, without writing to them: each expires its time to
    /// live after its last write, which may mean now. [`Off`](CollectionTtl::Off) keeps what has not been committed as
    /// expired yet. Blocks for a sync.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a time to live of zero, when the collection was dropped, and inside an
    /// [`update`](Collection::update) closure; [`Error::ReadOnly`],
    /// [`Error::OutcomeUnknown`] and [`Error::DiskFull`] when the disk does not do its part.
    pub fn set_ttl(&self, ttl: CollectionTtl) -> Result<()> {
        self.store.set_ttl(&self.state, ttl.to_record()?)
    }

    /// The oldest commit as of which every document of this collection still reads as it was; 0 while nothing has
    /// been dropped. [`Store::snapshot_at`](crate::Store::snapshot_at) reads this collection from here on; what is
    /// older is refused, except to snapshots that were there before.
    pub fn horizon(&self) -> CommitSeq {
        CommitSeq::new(self.state.horizon().complete)
    }

    fn batch<'a>(&self) -> WriteBatch<'a> {
        WriteBatch::new(Arc::clone(&self.store), 1)
    }
}

fn commit_one(batch: WriteBatch<'_>) -> Result<Option<Written>> {
    Ok(batch.commit()?.into_iter().next().flatten())
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection").field("name", &self.state.name).finish_non_exhaustive()
    }
}
