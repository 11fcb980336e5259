//! Transactions: reads from one snapshot, writes kept aside, all of it judged at commit. Owns the read set and the
//! pending writes; that the reads still hold is validated by `reads`, and the writing is `commit`'s.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{Action, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS, Operation, validate_body_len, validate_id};
use crate::collection::{Collection, CollectionState};
use crate::document::{Document, Written};
use crate::encoding::{self, CollectionNumber, KeyBytes, TtlRecord};
use crate::error::{Conflict, Error, Result};
use crate::reads::{Expiring, PrefixRange, Reads};
use crate::scan::{Scan, ScanRange};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::watermark::PinKind;
use crate::{CommitSeq, Etag, Precondition, PutOptions};

/// Reads and writes over any documents and collections of one store that happen as if nothing else did.
///
/// # Isolation
///
/// Transactions are *strictly serializable*: the outcome is that of running them one after the other, and one that
/// begins after another was acknowledged comes after it. In detail:
///
/// * All reads are from one snapshot of the store, taken at [`Store::begin`], with the transaction's own writes on top.
///   Nobody else sees those before the commit.
/// * [`commit`](Transaction::commit) writes everything or nothing. It writes only if nothing that was read has changed
///   since the snapshot: no document that was read, present or absent, and no document in a range that was scanned,
///   be it changed, added or deleted. A scan that was not read to its end counts as far as it was read. So there is no
///   lost update, no write skew and no phantom.
/// * A transaction that wrote nothing commits without any check, and cannot fail: it stands at its snapshot.
/// * Single writes and batches are transactions of one step, and take part on the same terms.
///
/// It is optimistic: no lock is held between the calls, transactions wait for nobody, and of those that contradict each
/// other the first to commit wins. The losers get [`Error::Conflict`] and run again, which [`Store::transact`] does.
///
/// A transaction holds the watermark of its snapshot while it lives, so it should not live for long. Dropping it
/// without a commit leaves no trace. After a commit there is nothing left to use: `commit` takes it away.
///
/// # Limits
///
/// A transaction names at most [`MAX_BATCH_OPERATIONS`](crate::MAX_BATCH_OPERATIONS) documents and ranges, read or
/// written, with at most [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES) of their ids and bodies. To read more than that
/// without writing, use a [`Snapshot`].
///
/// # Examples
///
/// ```
/// use etagdb::{Error, Precondition, ScanRange};
///
/// # let dir = tempfile::tempdir()?;
/// # let store = etagdb::Store::open(dir.path().join("store"))?;
/// let doctors = store.collection("doctors on call")?;
/// doctors.put("ana", "", Precondition::Absent)?;
/// doctors.put("berta", "", Precondition::Absent)?;
///
/// // Each goes off call, having seen that another one stays.
/// let mut ana = store.begin();
/// let mut berta = store.begin();
/// assert_eq!(ana.scan(&doctors, &ScanRange::all())?.count(), 2);
/// assert_eq!(berta.scan(&doctors, &ScanRange::all())?.count(), 2);
/// ana.delete(&doctors, "ana", Precondition::Any)?;
/// berta.delete(&doctors, "berta", Precondition::Any)?;
///
/// ana.commit()?;
/// match berta.commit() {
///     Err(Error::Conflict(conflict)) => assert_eq!(conflict.id, "ana"),
///     other => panic!("nobody is on call: {other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a transaction that is not committed writes nothing"]
pub struct Transaction {
    snapshot: Snapshot,
    reads: RefCell<ReadSet>,
    /// By document prefix.
    writes: BTreeMap<KeyBytes, PendingWrite>,
    /// Ids and bodies in `writes`.
    write_bytes: usize,
    /// How many writes were made, those that replaced an earlier one included.
    writes_made: u64,
}

#[derive(Default)]
struct ReadSet {
    /// By document prefix, the version that was read.
    documents: BTreeMap<KeyBytes, Option<Etag>>,
    ranges: Vec<PrefixRange>,
    collections: BTreeMap<CollectionNumber, Arc<CollectionState>>,
    /// Of the documents that were there, the first to expire.
    expiring: Option<Expiring>,
    /// Ids in `documents`, and of the bounds of ranges.
    bytes: usize,
}

impl ReadSet {
    /// Takes note of when a document that was read expires, if it ever does.
    fn note_expiry(&mut self, ttl: TtlRecord, collection: &str, id: &[u8], document: &Document) {
        let own_ms = document.ttl.to_header().unwrap_or_default();
        let Some(ms) = ttl.end_ms(document.time_ms, own_ms) else { return };
        if self.expiring.as_ref().is_none_or(|first| ms < first.ms) {
            let (collection, id) = (collection.to_owned(), Bytes::copy_from_slice(id));
            self.expiring = Some(Expiring { ms, collection, id, etag: document.etag });
        }
    }
}

/// What is to become of a document. The last write to it wins.
struct PendingWrite {
    order: u64,
    collection: Arc<CollectionState>,
    id: Bytes,
    /// `None`: delete it.
    body: Option<Bytes>,
    options: PutOptions,
}

impl PendingWrite {
    fn bytes(&self) -> usize {
        self.id.len() + self.body.as_ref().map_or(0, Bytes::len)
    }

    /// The document as this transaction sees it.
    fn document(&self) -> Option<Document> {
        let unknown = CommitSeq::new(0);
        let body = self.body.clone()?;
        let ttl = self.options.ttl;
        Some(Document { etag: Etag::NEVER, seq: unknown, created: unknown, time_ms: 0, ttl, body })
    }
}

impl Store {
    /// Begins a transaction on a snapshot of the store as it is now. Costs no input or output.
    pub fn begin(&self) -> Transaction {
        Transaction {
            snapshot: Snapshot::new(Arc::clone(self.inner()), PinKind::Transaction),
            reads: RefCell::default(),
            writes: BTreeMap::new(),
            write_bytes: 0,
            writes_made: 0,
        }
    }
}

impl Transaction {
    /// The commit sequence of the snapshot that this transaction reads.
    pub fn seq(&self) -> CommitSeq {
        self.snapshot.seq()
    }

    /// Reads document `id`, or `None` when there is none.
    ///
    /// A document that this transaction wrote is shown with [`Etag::NEVER`] and with 0 for its sequences and its time:
    /// it gets these at the commit.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::get`]; [`Error::Invalid`] also when the transaction would name too many documents.
    pub fn get(&self, collection: &Collection, id: impl AsRef<[u8]>) -> Result<Option<Document>> {
        self.read(collection, id.as_ref())
    }

    /// Reads the documents in `range`, in byte order of their ids or backwards, those that this transaction wrote included (see
    /// [`get`](Transaction::get)).
    ///
    /// What the scan has passed over counts as read, whether there was a document or not. As long as the scan lives,
    /// the transaction cannot write.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::scan`]; [`Error::Invalid`] also when the transaction would name too many ranges.
    pub fn scan<'a>(&'a self, collection: &'a Collection, range: &ScanRange) -> Result<TransactionScan<'a>> {
        let base = self.snapshot.scan(collection, range)?;
        let state = collection.state();
        let (start, end) = range.keys(state);
        let mut reads = self.reads.borrow_mut();
        check_room(self.names(&reads) + 1, self.bytes(&reads) + start.len() + end.len())?;
        reads.bytes += start.len() + end.len();
        // Nothing is read yet. The scan widens the range as it goes, not when it is dropped: it may be leaked instead.
        let index = reads.ranges.len();
        let first = if range.is_reverse() { &end } else { &start };
        reads.ranges.push((first.clone(), first.clone()));
        reads.collections.entry(state.number).or_insert_with(|| Arc::clone(state));
        drop(reads);
        let own = if start < end {
            self.writes.range::<[u8], _>((Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice())))
        } else {
            btree_map::Range::default()
        };
        let reverse = range.is_reverse();
        Ok(TransactionScan {
            txn: self,
            base: Some(base.peekable()),
            own: OwnWrites { range: own, reverse }.peekable(),
            index,
            collection: Arc::clone(state),
            ttl: self.snapshot.lifetime(collection).ttl,
            reverse,
            bound: if reverse { start } else { end },
        })
    }

    /// Makes `body` the new version of document `id` at the commit, if `precondition` holds of what this transaction
    /// sees. Any precondition but [`Precondition::Any`] counts as a read of the document. `id`: 1 byte to
    /// [`MAX_ID_BYTES`](crate::MAX_ID_BYTES); `body`: up to [`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES).
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when the precondition fails; [`Error::Invalid`] for an id or body beyond its limit, a
    /// collection of another store, or when the transaction would grow too large; otherwise as
    /// [`get`](Transaction::get). The transaction's writes are then as they were before the call, and it can go on.
    pub fn put(
        &mut self,
        collection: &Collection,
        id: impl AsRef<[u8]>,
        body: impl AsRef<[u8]>,
        precondition: impl Into<Precondition>,
    ) -> Result<()> {
        self.put_with(collection, id, body, precondition, PutOptions::default())
    }

    /// As [`put`](Transaction::put), with options: how long the document is to live.
    ///
    /// # Errors
    ///
    /// As [`put`](Transaction::put); [`Error::Invalid`] for a time to live of zero.
    pub fn put_with(
        &mut self,
        collection: &Collection,
        id: impl AsRef<[u8]>,
        body: impl AsRef<[u8]>,
        precondition: impl Into<Precondition>,
        options: PutOptions,
    ) -> Result<()> {
        let body = body.as_ref();
        validate_body_len(body.len()).and_then(|()| options.ttl.to_header().map(drop)).map_err(Error::Invalid)?;
        let body = Some(Bytes::copy_from_slice(body));
        self.write(collection, id.as_ref(), body, options, precondition.into())
    }

    /// Deletes document `id` at the commit, if `precondition` holds of what this transaction sees. Deleting what is not
    /// there writes nothing.
    ///
    /// # Errors
    ///
    /// As [`put`](Transaction::put).
    pub fn delete(
        &mut self,
        collection: &Collection,
        id: impl AsRef<[u8]>,
        precondition: impl Into<Precondition>,
    ) -> Result<()> {
        self.write(collection, id.as_ref(), None, PutOptions::default(), precondition.into())
    }

    /// Writes everything, or nothing. Blocks until the writes are as durable as [`Durability`](crate::Durability)
    /// promises; a reader sees all of them from then on, and none before. Without writes it returns at once.
    ///
    /// A document that was written more than once is written once, as it was left. The writes get consecutive commit
    /// sequences, in the order in which the transaction made them.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when something that was read has changed or expired since the snapshot, with the document
    /// that did;
    /// [`Error::Invalid`] when a collection that was read or written was dropped; otherwise as
    /// [`WriteBatch::commit`](crate::WriteBatch::commit).
    pub fn commit(self) -> Result<Committed> {
        let Transaction { snapshot, reads, writes, .. } = self;
        let store = snapshot.store();
        if writes.is_empty() {
            return Ok(Committed { seq: snapshot.seq(), writes: Vec::new() });
        }
        let ReadSet { mut documents, mut ranges, collections, expiring, .. } = reads.into_inner();
        let mut writes: Vec<(KeyBytes, PendingWrite)> = writes.into_iter().collect();
        writes.sort_unstable_by_key(|(_, write)| write.order);
        let mut operations = Vec::with_capacity(writes.len());
        let mut names = Vec::with_capacity(writes.len());
        for (prefix, PendingWrite { collection, id, body, options, .. }) in writes {
            let read = documents.remove(&prefix);
            if body.is_none() && read == Some(None) {
                // There was nothing, and there shall be nothing: no more than a read.
                documents.insert(prefix, None);
                continue;
            }
            let precondition = match read {
                None => Precondition::Any,
                Some(None) => Precondition::Absent,
                Some(Some(etag)) => Precondition::Match(etag),
            };
            let action = match body {
                Some(body) => Action::Put(body.into(), options, precondition),
                None => Action::Delete(precondition),
            };
            names.push((prefix.clone(), id.clone()));
            operations.push(Operation { collection, id: KeyBytes::from_slice(&id), prefix, action });
        }
        if operations.is_empty() {
            return Ok(Committed { seq: snapshot.seq(), writes: Vec::new() });
        }
        ranges.extend(documents.into_keys().map(|prefix| (prefix.to_vec(), encoding::after_document(&prefix))));
        let reads = Reads::new(snapshot.seq(), snapshot.judgement(), ranges, collections);
        let mut reads = reads.with_expiring(expiring);
        let reads = if reads.is_empty() {
            None
        } else {
            store.validate_visible(&mut reads)?;
            Some(reads)
        };
        let results = store.commit(operations, reads).map_err(without_position)?;
        let written = |((prefix, id), written): (_, Option<_>)| Some(CommittedWrite { prefix, id, written: written? });
        let mut writes: Vec<CommittedWrite> = names.into_iter().zip(results).filter_map(written).collect();
        writes.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix));
        let seq = writes.iter().map(|write| write.written.seq).max().unwrap_or(snapshot.seq());
        Ok(Committed { seq, writes })
    }

    /// Gives the transaction up: nothing is written. The same as dropping it.
    pub fn abort(self) {}

    fn read(&self, collection: &Collection, id: &[u8]) -> Result<Option<Document>> {
        self.snapshot.check_store(collection)?;
        let state = collection.state();
        state.check_live()?;
        if validate_id(id).is_err() {
            return Ok(None);
        }
        let prefix = encoding::document_prefix(state.number, id);
        if let Some(write) = self.writes.get(&prefix) {
            return Ok(write.document());
        }
        let mut reads = self.reads.borrow_mut();
        let is_new = !reads.documents.contains_key(&prefix);
        if is_new {
            check_room(self.names(&reads) + 1, self.bytes(&reads) + id.len())?;
        }
        let found = self.snapshot.get(collection, id)?;
        if is_new {
            if let Some(document) = &found {
                reads.note_expiry(self.snapshot.lifetime(collection).ttl, &state.name, id, document);
            }
            reads.bytes += id.len();
            reads.documents.insert(prefix, found.as_ref().map(|document| document.etag));
            reads.collections.entry(state.number).or_insert_with(|| Arc::clone(state));
        }
        Ok(found)
    }

    fn write(
        &mut self,
        collection: &Collection,
        id: &[u8],
        body: Option<Bytes>,
        options: PutOptions,
        precondition: Precondition,
    ) -> Result<()> {
        self.snapshot.check_store(collection)?;
        let state = collection.state();
        state.check_live()?;
        validate_id(id).map_err(Error::Invalid)?;
        let prefix = encoding::document_prefix(state.number, id);
        let write = PendingWrite {
            order: self.writes_made,
            collection: Arc::clone(state),
            id: Bytes::copy_from_slice(id),
            body,
            options,
        };
        let replaced = self.writes.get(&prefix);
        let freed = replaced.map_or(0, PendingWrite::bytes);
        {
            let reads = self.reads.borrow();
            let names = self.names(&reads) + usize::from(replaced.is_none());
            check_room(names, self.bytes(&reads) - freed + write.bytes())?;
        }
        if precondition != Precondition::Any {
            let current = self.read(collection, id)?.map(|document| document.etag);
            if !precondition.holds(current) {
                return Err(Error::Conflict(Box::new(Conflict {
                    position: 0,
                    collection: state.name.clone(),
                    id: write.id,
                    expected: precondition,
                    current,
                })));
            }
        }
        self.writes_made += 1;
        self.write_bytes = self.write_bytes - freed + write.bytes();
        self.writes.insert(prefix, write);
        Ok(())
    }

    fn names(&self, reads: &ReadSet) -> usize {
        self.writes.len() + reads.documents.len() + reads.ranges.len()
    }

    fn bytes(&self, reads: &ReadSet) -> usize {
        self.write_bytes + reads.bytes
    }
}

fn check_room(names: usize, bytes: usize) -> Result<()> {
    if names > MAX_BATCH_OPERATIONS {
        return Err(Error::Invalid(format!(
            "a transaction names at most {MAX_BATCH_OPERATIONS} documents and ranges; use a snapshot to read more"
        )));
    }
    if bytes > MAX_BATCH_BYTES {
        return Err(Error::Invalid(format!("a transaction has at most {MAX_BATCH_BYTES} bytes of ids and bodies")));
    }
    Ok(())
}

/// The batch that a transaction comes to is its own affair, and so are the positions in it.
fn without_position(error: Error) -> Error {
    match error {
        Error::Conflict(mut conflict) => {
            conflict.position = 0;
            Error::Conflict(conflict)
        }
        other => other,
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("seq", &self.seq())
            .field("writes", &self.writes.len())
            .finish_non_exhaustive()
    }
}

/// What a transaction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    seq: CommitSeq,
    /// By document prefix; with the id.
    writes: Vec<CommittedWrite>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct CommittedWrite {
    prefix: KeyBytes,
    id: Bytes,
    written: Written,
}

impl Committed {
    /// The ids of the documents that were written.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &[u8]> {
        self.writes.iter().map(|write| &write.id[..])
    }

    /// The sequence of the transaction's last write; that of its snapshot when it wrote nothing.
    pub fn seq(&self) -> CommitSeq {
        self.seq
    }

    /// What was written to document `id`; `None` when nothing was.
    pub fn written(&self, collection: &Collection, id: impl AsRef<[u8]>) -> Option<&Written> {
        let prefix = encoding::document_prefix(collection.state().number, id.as_ref());
        let index = self.writes.binary_search_by(|write| write.prefix.cmp(&prefix)).ok()?;
        Some(&self.writes[index].written)
    }
}

/// The documents of a range as a transaction sees them, in byte order of their ids or backwards. An iterator of id and
/// document. After an error it is at its end.
pub struct TransactionScan<'a> {
    txn: &'a Transaction,
    /// The snapshot's documents; `None` after an error.
    base: Option<Peekable<Scan<'a>>>,
    /// The transaction's own writes.
    own: Peekable<OwnWrites<'a>>,
    /// Which of the transaction's ranges this is.
    index: usize,
    collection: Arc<CollectionState>,
    ttl: TtlRecord,
    reverse: bool,
    /// Where the range ends; on the way back, where it starts.
    bound: Vec<u8>,
}

/// A transaction's writes in a range, in the order of a scan.
struct OwnWrites<'a> {
    range: btree_map::Range<'a, KeyBytes, PendingWrite>,
    reverse: bool,
}

impl<'a> Iterator for OwnWrites<'a> {
    type Item = &'a PendingWrite;

    fn next(&mut self) -> Option<Self::Item> {
        let next = if self.reverse { self.range.next_back() } else { self.range.next() };
        next.map(|(_, write)| write)
    }
}

impl TransactionScan<'_> {
    /// Takes note that everything up to this document was read, or up to the bound.
    fn has_read_to(&mut self, last: Option<&[u8]>) {
        let last = last.map(|id| encoding::document_prefix(self.collection.number, id));
        let range = &mut self.txn.reads.borrow_mut().ranges[self.index];
        match (self.reverse, last) {
            (false, Some(prefix)) => range.1 = encoding::after_document(&prefix),
            (true, Some(prefix)) => range.0 = prefix.into_vec(),
            (false, None) => range.1 = std::mem::take(&mut self.bound),
            (true, None) => range.0 = std::mem::take(&mut self.bound),
        }
    }

    fn next_document(&mut self) -> Result<Option<(Bytes, Document)>> {
        let Some(base) = &mut self.base else {
            return Ok(None);
        };
        let reverse = self.reverse;
        loop {
            let stored = match base.peek() {
                Some(Ok((id, _))) => Some(id),
                Some(Err(_)) => return base.next().transpose(),
                None => None,
            };
            let comes_first = |own: &&PendingWrite| match stored {
                None => true,
                Some(stored) if reverse => own.id >= stored,
                Some(stored) => own.id <= stored,
            };
            let Some(own) = self.own.next_if(comes_first) else {
                let next = base.next().transpose()?;
                if let Some((id, document)) = &next {
                    self.txn.reads.borrow_mut().note_expiry(self.ttl, &self.collection.name, id, document);
                }
                return Ok(next);
            };
            if stored == Some(&own.id) {
                base.next();
            }
            if let Some(document) = own.document() {
                return Ok(Some((own.id.clone(), document)));
            }
        }
    }
}

impl Iterator for TransactionScan<'_> {
    type Item = Result<(Bytes, Document)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.base.as_ref()?;
        let next = self.next_document();
        match &next {
            Ok(Some((id, _))) => self.has_read_to(Some(id)),
            Ok(None) => self.has_read_to(None),
            Err(_) => {}
        }
        if !matches!(next, Ok(Some(_))) {
            self.base = None;
        }
        next.transpose()
    }
}

impl fmt::Debug for TransactionScan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionScan").field("seq", &self.txn.seq()).finish_non_exhaustive()
    }
}
