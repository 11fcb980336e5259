//! Writes as data. Owns the operations of a batch and the limits on them; judging and writing them is `commit`'s.

use std::fmt;
use std::sync::Arc;

use crate::collection::{Collection, CollectionState};
use crate::document::{Document, Written};
use crate::encoding::{self, KeyBytes, MAX_BODY_BYTES, MAX_ID_BYTES};
use crate::error::{Error, Result};
use crate::handle::CommitHandle;
use crate::store::Inner;
use crate::{Precondition, PutOptions};

/// Most operations in one batch.
pub const MAX_BATCH_OPERATIONS: usize = 100_000;
/// Most bytes of ids and bodies in one batch.
pub const MAX_BATCH_BYTES: usize = 256 * 1024 * 1024;

/// What an [`update`](WriteBatch::update) closure wants done with the document it was shown. `B` is what it hands back
/// as the new body: bytes, or a value in a [`TypedCollection`](crate::TypedCollection).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<B = Vec<u8>> {
    /// Write this body, whether the document exists or not.
    Put(B),
    /// The same, with options: how long the document is to live.
    PutWith(B, PutOptions),
    /// Delete the document; nothing is written when there is none.
    Delete,
    /// Leave everything as it is.
    Keep,
}

/// What an [`update`](WriteBatch::update) closure returns to refuse: nothing of the batch is written, and the commit
/// fails with [`Error::Aborted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort;

/// Many writes and checks over any documents and collections of one store, all or nothing.
///
/// Operations are judged and applied in the order they were added, and a later one sees the earlier ones. Each write
/// gets its own commit sequence and etag. The whole becomes visible and durable at once: no reader, and no power cut,
/// ever shows a part of it.
///
/// # Examples
///
/// ```
/// use etagdb::{Error, Precondition};
///
/// # let dir = tempfile::tempdir()?;
/// # let store = etagdb::Store::open(dir.path().join("store"))?;
/// let stock = store.collection("stock")?;
/// let orders = store.collection("orders")?;
/// let pen = stock.put("pen", "1 left", Precondition::Absent)?;
///
/// // Sell the last pen, if it is still there and the order is new.
/// let mut batch = store.batch();
/// batch.put(&stock, "pen", "0 left", pen.etag);
/// batch.put(&orders, "order 7", "one pen", Precondition::Absent);
/// batch.commit()?;
///
/// // The same again loses, and says to what.
/// let mut batch = store.batch();
/// batch.put(&orders, "order 8", "one pen", Precondition::Absent);
/// batch.put(&stock, "pen", "0 left", pen.etag);
/// match batch.commit() {
///     Err(Error::Conflict(conflict)) => assert_eq!((conflict.position, &conflict.id[..]), (1, &b"pen"[..])),
///     other => panic!("the last pen was sold twice: {other:?}"),
/// }
/// assert!(orders.get("order 8")?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WriteBatch<'a> {
    store: Arc<Inner>,
    operations: Vec<Operation<'a>>,
    bytes: usize,
    /// The first thing wrong with an operation. Kept until the commit, so that adding can be chained.
    invalid: Option<String>,
}

/// One operation, with its document's place already encoded.
pub(crate) struct Operation<'a> {
    pub(crate) collection: Arc<CollectionState>,
    pub(crate) id: KeyBytes,
    pub(crate) prefix: KeyBytes,
    pub(crate) action: Action<'a>,
}

impl Operation<'_> {
    /// Bytes of its id and body.
    pub(crate) fn bytes(&self) -> usize {
        let body = match &self.action {
            Action::Put(body, ..) => body.len(),
            Action::Delete(_) | Action::Check(_) | Action::Update(_) | Action::Annotate(_) | Action::Expire(_) => 0,
        };
        self.id.len() + body
    }
}

pub(crate) type UpdateFn<'a> = Box<dyn FnOnce(Option<&Document>) -> Result<Change, Abort> + 'a>;

pub(crate) type DescribeFn<'a> = Box<dyn FnOnce(&[Option<u64>]) -> Result<Change, Abort> + 'a>;

pub(crate) enum Action<'a> {
    Put(Vec<u8>, PutOptions, Precondition),
    Delete(Precondition),
    Check(Precondition),
    Update(UpdateFn<'a>),
    Annotate(DescribeFn<'a>),
    /// Commits the expiry of the version at this sequence, if it is current and has expired.
    Expire(u64),
}

impl<'a> WriteBatch<'a> {
    /// An empty batch, with room for so many operations.
    pub(crate) fn new(store: Arc<Inner>, operations: usize) -> WriteBatch<'a> {
        WriteBatch { store, operations: Vec::with_capacity(operations), bytes: 0, invalid: None }
    }

    /// Writes `body` as the new version of document `id` if `precondition` holds. `id`: 1 byte to
    /// [`MAX_ID_BYTES`](crate::MAX_ID_BYTES); `body`: up to [`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES). Anything wrong
    /// is reported by [`commit`](WriteBatch::commit).
    pub fn put(
        &mut self,
        collection: &Collection,
        id: impl AsRef<[u8]>,
        body: impl AsRef<[u8]>,
        precondition: impl Into<Precondition>,
    ) -> &mut Self {
        self.put_with(collection, id, body, precondition, PutOptions::default())
    }

    /// As [`put`](WriteBatch::put), with options: how long the document is to live.
    pub fn put_with(
        &mut self,
        collection: &Collection,
        id: impl AsRef<[u8]>,
        body: impl AsRef<[u8]>,
        precondition: impl Into<Precondition>,
        options: PutOptions,
    ) -> &mut Self {
        self.add(collection, id.as_ref(), Action::Put(body.as_ref().to_vec(), options, precondition.into()))
    }

    /// Deletes document `id` if `precondition` holds. With `Any`, deleting what is not there writes nothing; `Absent`
    /// is then the same as a check.
    pub fn delete(
        &mut self,
        collection: &Collection,
        id: impl AsRef<[u8]>,
        precondition: impl Into<Precondition>,
    ) -> &mut Self {
        self.add(collection, id.as_ref(), Action::Delete(precondition.into()))
    }

    /// Requires `precondition` of document `id` and writes nothing to it.
    pub fn check(
        &mut self,
        collection: &Collection,
        id: impl AsRef<[u8]>,
        precondition: impl Into<Precondition>,
    ) -> &mut Self {
        self.add(collection, id.as_ref(), Action::Check(precondition.into()))
    }

    /// Reads document `id`, lets `change` decide, and writes what it says, all in one atomic step: no other write to
    /// the document can come between, so there is nothing to retry.
    ///
    /// `change` runs while the document's stripe is locked: other writers of the document, and a few of other
    /// documents, wait for it. Keep it short, and make no writes to the store inside it: they are refused with
    /// [`Error::Invalid`], for they would wait for themselves. It is called at most once, and not at all when an
    /// earlier operation fails. A document that an earlier operation of this batch wrote is shown with
    /// [`Etag::NEVER`](crate::Etag::NEVER), sequence 0 and time 0, which it gets only at the commit.
    pub fn update(
        &mut self,
        collection: &Collection,
        id: impl AsRef<[u8]>,
        change: impl FnOnce(Option<&Document>) -> Result<Change, Abort> + 'a,
    ) -> &mut Self {
        self.add(collection, id.as_ref(), Action::Update(Box::new(change)))
    }

    /// Writes a document about this batch: one that names the versions which the batch writes, and is there if and only
    /// if they are. What it can know of them before the commit is their distance.
    ///
    /// `describe` is told of each operation added before how many commits earlier than this document's own its write
    /// will be, or `None` where it writes nothing. Once the document is read, its sequence less the distance is that
    /// write's sequence, and [`Etag::of_same_batch`](crate::Etag::of_same_batch) its etag. All else is as for
    /// [`update`](WriteBatch::update).
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{Change, CommitSeq, Precondition};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let (orders, receipts) = (store.collection("orders")?, store.collection("receipts")?);
    /// let mut batch = store.batch();
    /// batch.put(&orders, "order 7", "one pen", Precondition::Absent);
    /// batch.annotate(&receipts, "request 1", |distances| {
    ///     Ok(Change::Put(distances[0].map(u64::to_be_bytes).unwrap_or_default().to_vec()))
    /// });
    /// let written = batch.commit()?;
    ///
    /// let receipt = receipts.get("request 1")?.expect("written with the order");
    /// let distance = u64::from_be_bytes(receipt.body[..].try_into()?);
    /// let order = receipt.etag.of_same_batch(CommitSeq::new(receipt.seq.get() - distance));
    /// assert_eq!(Some(order), written[0].map(|order| order.etag));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn annotate(
        &mut self,
        collection: &Collection,
        id: impl AsRef<[u8]>,
        describe: impl FnOnce(&[Option<u64>]) -> Result<Change, Abort> + 'a,
    ) -> &mut Self {
        self.add(collection, id.as_ref(), Action::Annotate(Box::new(describe)))
    }

    /// The number of operations added.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether no operation was added.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Judges and writes everything, or nothing. Blocks until the writes are as durable as
    /// [`Durability`](crate::Durability) promises; a reader sees all of them from then on, and none before.
    ///
    /// Returns an entry per operation, `None` where nothing was written: a check, a [`Change::Keep`], a delete of
    /// what was not there.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] for the first failed precondition and [`Error::Aborted`] for the first refusing closure,
    /// in the order of the batch; [`Error::Invalid`] for an operation beyond the limits or of another store;
    /// [`Error::ReadOnly`], [`Error::OutcomeUnknown`] and [`Error::DiskFull`] when the disk does not do its part;
    /// [`Error::Corruption`] and [`Error::Io`] when a current version cannot be read.
    pub fn commit(self) -> Result<Vec<Option<Written>>> {
        if let Some(message) = self.invalid {
            return Err(Error::Invalid(message));
        }
        self.store.commit(self.operations, None)
    }

    /// Judges everything now, queues what is to be written, and returns a future of the rest: what
    /// [`commit`](WriteBatch::commit) would return, or fail with.
    ///
    /// Closures of [`update`](WriteBatch::update) have run on return. Does not wait for a sync, but may read documents from
    /// the disk; under [`Durability::Buffered`](crate::Durability::Buffered), as long as writing is quick, may write this batch
    /// to the log itself, with what others queue meanwhile; and waits while a transaction that writes one of the
    /// documents commits, or while more than 64 MiB of bodies are queued. Batches that are submitted one after the other
    /// are committed in that order, and may share a sync; each is judged by the ones before, whether they are on disk yet or not. Should one of those
    /// fail to get there, this one fails too.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::Precondition;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let log = store.collection("log")?;
    /// let mut on_their_way = Vec::new();
    /// for n in 0..100 {
    ///     let mut batch = store.batch();
    ///     batch.put(&log, format!("{n:03}"), "x", Precondition::Absent);
    ///     on_their_way.push(batch.submit());
    /// }
    /// // Or `handle.await?`.
    /// for handle in on_their_way {
    ///     handle.wait()?;
    /// }
    /// assert_eq!(store.last_commit().get(), 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit(self) -> CommitHandle {
        let judged = match self.invalid {
            Some(message) => Err(Error::Invalid(message)),
            None => self.store.judge_for_handle(self.operations),
        };
        CommitHandle::new(&self.store, judged)
    }

    fn add(&mut self, collection: &Collection, id: &[u8], action: Action<'a>) -> &mut Self {
        let body_bytes = match &action {
            Action::Put(body, ..) => body.len(),
            _ => 0,
        };
        let ttl = match &action {
            Action::Put(_, options, _) => options.ttl.to_header().map(drop),
            _ => Ok(()),
        };
        self.bytes += id.len() + body_bytes;
        if self.invalid.is_none() {
            let position = self.operations.len();
            self.invalid = self
                .wrong_with(collection, id, body_bytes)
                .or_else(|| ttl.err().map(|message| format!("operation {position}: {message}")));
        }
        if self.invalid.is_none() {
            let collection = Arc::clone(collection.state());
            let prefix = encoding::document_prefix(collection.number, id);
            self.operations.push(Operation { collection, id: KeyBytes::from_slice(id), prefix, action });
        }
        self
    }

    fn wrong_with(&self, collection: &Collection, id: &[u8], body_bytes: usize) -> Option<String> {
        let position = self.operations.len();
        if !collection.belongs_to(&self.store) {
            return Some(format!("operation {position}: collection {:?} is of another store", collection.name()));
        }
        if let Err(message) = validate_id(id).and_then(|()| validate_body_len(body_bytes)) {
            return Some(format!("operation {position}: {message}"));
        }
        if position == MAX_BATCH_OPERATIONS {
            return Some(format!("a batch has at most {MAX_BATCH_OPERATIONS} operations"));
        }
        if self.bytes > MAX_BATCH_BYTES {
            return Some(format!("a batch has at most {MAX_BATCH_BYTES} bytes of ids and bodies"));
        }
        None
    }
}

impl fmt::Debug for WriteBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBatch").field("operations", &self.operations.len()).finish_non_exhaustive()
    }
}

pub(crate) fn validate_id(id: &[u8]) -> Result<(), String> {
    match id.len() {
        0 => Err("an id has at least one byte".to_owned()),
        len if len > MAX_ID_BYTES => Err(format!("the id has {len} bytes; at most {MAX_ID_BYTES} are allowed")),
        _ => Ok(()),
    }
}

pub(crate) fn validate_body_len(len: usize) -> Result<(), String> {
    if len > MAX_BODY_BYTES {
        return Err(format!("the body has {len} bytes; at most {MAX_BODY_BYTES} are allowed"));
    }
    Ok(())
}
