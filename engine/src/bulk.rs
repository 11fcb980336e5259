//! Loading many documents. Owns how they are cut into chunks; judging and writing them is `commit`'s, as for all others.
//!
//! A chunk is many single writes that share a log append, a sync and one turn of the commit queue. That is where single
//! puts spend their time, so it is also what there is to gain.
//!
//! # Rejected
//!
//! * *Ingesting sorted files made on the side.* A load would have to hold back everybody else's sequences until its
//!   files are in, two families cannot be ingested as one step through this binding, and a power cut between them would
//!   leave versions that no feed tells of.
//! * *One sync at the end.* Readers would have to wait for the whole load, or be shown what a power cut can take back.

use std::sync::Arc;

use crate::batch::{Action, Operation, validate_body_len, validate_id};
use crate::collection::Collection;
use crate::encoding::{self, KeyBytes};
use crate::error::{Error, Result};
use crate::{CommitSeq, Precondition, PutOptions};

/// A chunk closes with so many documents, or so many bytes of ids and bodies, whichever comes first. Larger ones are no
/// faster, and other writers wait for a whole chunk.
const CHUNK_DOCUMENTS: usize = 2_000;
const CHUNK_BYTES: usize = 4 << 20;

/// What a [bulk load](Collection::bulk_load) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BulkLoaded {
    /// How many documents were written.
    pub documents: u64,
    /// Bytes of their ids and bodies.
    pub bytes: u64,
    /// The commits of the first and the last of them; 0 without any. Other writers' commits can be in between.
    pub first: CommitSeq,
    /// See `first`.
    pub last: CommitSeq,
}

impl Collection {
    /// Writes many documents, several times faster than as many single puts.
    ///
    /// Each document is a commit of its own, judged by `precondition` as in [`put`](Collection::put), with its own
    /// etag, sequence and place in the change feed: with [`Precondition::Absent`] nothing is ever overwritten, with
    /// [`Precondition::Any`] the last one wins, among the documents themselves too. The load as a whole is not atomic:
    /// readers see documents appear in the order given, some thousands at a time, and on return all are as durable as
    /// the store's [`Durability`](crate::Durability) promises.
    ///
    /// Memory is bounded, however many documents there are: some 20 MiB, or three times the largest body if that is
    /// more. `documents` is asked for the next one only when there is room. Other writers go on meanwhile, but those of
    /// a document that shares a stripe with one being written wait for up to 4 MiB. What is loaded does not go into
    /// the document cache.
    ///
    /// The gain is in what many documents share, above all the sync: under `Durability::Buffered`, where single puts
    /// wait for none, it is only two- to threefold. Several loads at once share one log and are no faster than one.
    ///
    /// # Errors
    ///
    /// The first document that fails ends the load: those before it are written, durably, and nothing after it is.
    /// [`Error::Conflict`] when its precondition fails, and its [`position`](crate::Conflict::position) is the
    /// document's among `documents`, from 0; [`Error::Invalid`] for an id or body beyond the limits, naming the
    /// position. After [`Error::DiskFull`], [`Error::OutcomeUnknown`] and others as of
    /// [`WriteBatch::commit`](crate::WriteBatch::commit) some thousands of the documents before may be missing too:
    /// load again with `Any`.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{Error, Precondition};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let words = store.collection("words")?;
    /// let loaded = words.bulk_load((0..5000).map(|n| (format!("{n:04}"), "x")), Precondition::Absent)?;
    /// assert_eq!((loaded.documents, words.get("4711")?.is_some()), (5000, true));
    ///
    /// // Nothing is overwritten, and the first that would have been is named.
    /// match words.bulk_load([("new", "y"), ("0007", "y")], Precondition::Absent) {
    ///     Err(Error::Conflict(conflict)) => assert_eq!((conflict.position, &conflict.id[..]), (1, &b"0007"[..])),
    ///     other => panic!("a document was overwritten: {other:?}"),
    /// }
    /// assert!(words.get("new")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bulk_load<I: AsRef<[u8]>, B: Into<Vec<u8>>>(
        &self,
        documents: impl IntoIterator<Item = (I, B)>,
        precondition: impl Into<Precondition>,
    ) -> Result<BulkLoaded> {
        let precondition = precondition.into();
        let mut load = Load { collection: self, loaded: BulkLoaded::default(), chunk: Vec::new(), chunk_bytes: 0 };
        for (position, (id, body)) in documents.into_iter().enumerate() {
            let (id, body) = (id.as_ref(), body.into());
            if let Err(message) = validate_id(id).and_then(|()| validate_body_len(body.len())) {
                load.write()?;
                return Err(Error::Invalid(format!("document {position}: {message}")));
            }
            load.add(id, body, precondition);
            if load.chunk.len() >= CHUNK_DOCUMENTS || load.chunk_bytes >= CHUNK_BYTES {
                load.write()?;
            }
        }
        load.write()?;
        Ok(load.loaded)
    }
}

struct Load<'a> {
    collection: &'a Collection,
    loaded: BulkLoaded,
    chunk: Vec<Operation<'static>>,
    chunk_bytes: usize,
}

impl Load<'_> {
    fn add(&mut self, id: &[u8], body: Vec<u8>, precondition: Precondition) {
        self.chunk_bytes += id.len() + body.len();
        let collection = Arc::clone(self.collection.state());
        let prefix = encoding::document_prefix(collection.number, id);
        self.chunk.push(Operation {
            collection,
            id: KeyBytes::from_slice(id),
            prefix,
            action: Action::Put(body, PutOptions::default(), precondition),
        });
    }

    fn write(&mut self) -> Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            return Ok(());
        }
        let sizes: Vec<usize> = chunk.iter().map(Operation::bytes).collect();
        self.chunk_bytes = 0;
        let (written, result) = self.collection.store().commit_each(chunk);
        let before = self.loaded.documents;
        if let (Some(first), Some(last)) = (written.first(), written.last()) {
            if before == 0 {
                self.loaded.first = first.seq;
            }
            self.loaded.last = last.seq;
        }
        self.loaded.documents += written.len() as u64;
        self.loaded.bytes += sizes[..written.len()].iter().sum::<usize>() as u64;
        result.map_err(|error| match error {
            Error::Conflict(mut conflict) => {
                conflict.position += usize::try_from(before).unwrap_or(usize::MAX);
                Error::Conflict(conflict)
            }
            other => other,
        })
    }
}
