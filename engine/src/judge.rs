//! Judging: whether the operations of a batch may happen, and what they come to. Owns what one batch knows of the
//! documents it touches; never writes, and never waits for the disk but to read from it.
//!
//! The caller holds the stripes of all documents from before the first is looked at until what was judged is in the
//! queue, so nobody can come between.

use std::cell::{Cell, LazyCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::batch::{Abort, Action, Change, Operation, validate_body_len, validate_id};
use crate::cache::CachedVersion;
use crate::collection::CollectionState;
use crate::document::{Document, Written};
use crate::encoding::{self, KeyBytes, VersionHeader, VersionKind};
use crate::error::{Conflict, Error, Result};
use crate::pending::Head;
use crate::queue::{Basis, Place};
use crate::rocks::Reader;
use crate::store::Core;
use crate::sync::thread_local;
use crate::ttl::DocumentTtl;
use crate::{CommitSeq, Etag, Precondition};

/// A write whose preconditions hold at its place in the commit order.
pub(crate) struct JudgedWrite {
    /// The operation whose result it is; `None` for the expiry that a write found to commit first.
    pub(crate) position: Option<usize>,
    pub(crate) collection: Arc<CollectionState>,
    pub(crate) id: KeyBytes,
    pub(crate) prefix: KeyBytes,
    pub(crate) kind: VersionKind,
    pub(crate) body: Bytes,
    /// The document's own time to live.
    pub(crate) ttl_ms: Option<u64>,
    /// Whether a tombstone is there because the document expired.
    pub(crate) expired: bool,
    previous: Origin,
    /// The version that was current, where there was a document.
    replaced: Option<Origin>,
    /// `None`: this write makes the document.
    pub(crate) created: Option<Origin>,
    /// Whether it is a batch of its own, whatever else it is submitted with.
    pub(crate) alone: bool,
}

impl JudgedWrite {
    /// The commit of an expiry that is over.
    fn expiry(
        position: Option<usize>,
        collection: &Arc<CollectionState>,
        id: &[u8],
        prefix: &[u8],
        expired: &Expired,
    ) -> JudgedWrite {
        JudgedWrite {
            position,
            collection: Arc::clone(collection),
            id: KeyBytes::from_slice(id),
            prefix: KeyBytes::from_slice(prefix),
            kind: VersionKind::Tombstone,
            body: Bytes::new(),
            ttl_ms: None,
            expired: true,
            previous: Origin::Stored(expired.seq),
            replaced: Some(Origin::Stored(expired.seq)),
            created: Some(expired.created),
            alone: false,
        }
    }

    pub(crate) fn receipt(&self) -> Receipt {
        Receipt { position: self.position, created: self.created, replaced: self.replaced }
    }

    /// The fixed part of its row, in a batch whose first write is at sequence `start`.
    pub(crate) fn header(&self, start: u64, time_ms: u64) -> VersionHeader {
        VersionHeader {
            kind: self.kind,
            time_ms,
            previous: self.previous.resolve(start),
            created: self.created.map_or(0, |origin| origin.resolve(start)),
            ttl_ms: self.ttl_ms,
        }
    }
}

/// What is left with the writer of a write that it has queued, to answer with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receipt {
    /// The operation whose result it is.
    pub(crate) position: Option<usize>,
    created: Option<Origin>,
    replaced: Option<Origin>,
}

impl Receipt {
    /// The answer, for the write at `index` of a batch that has got its place.
    pub(crate) fn written(&self, store: &Core, place: Place, index: usize) -> Written {
        let seq = place.start + index as u64;
        let created = self.created.map_or(seq, |origin| origin.resolve(place.start));
        Written {
            etag: store.etag(seq),
            seq: CommitSeq::new(seq),
            created: CommitSeq::new(created),
            time_ms: place.time_ms,
            replaced: self.replaced.map(|origin| store.etag(origin.resolve(place.start))),
        }
    }
}

/// The receipts of a batch, mostly of one write.
pub(crate) type Receipts = SmallVec<[Receipt; 1]>;

/// A version that an operation builds on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// Has its sequence, or is none at all (0).
    Stored(u64),
    /// Written by the batch itself: the index among its writes. It has no sequence yet.
    Batch(usize),
}

impl Origin {
    fn resolve(self, batch_start: u64) -> u64 {
        match self {
            Origin::Stored(seq) => seq,
            Origin::Batch(index) => batch_start + index as u64,
        }
    }
}

thread_local! {
    /// Whether this thread runs an update closure, and so holds stripes that a write of its own would wait for.
    pub(crate) static IN_UPDATE: Cell<bool> = const { Cell::new(false) };
}

pub(crate) const WAITS_FOR_ITSELF: &str = "a write inside an update closure would wait for itself";

/// Refuses what would wait for the stripes that this thread holds, or for somebody who waits for them.
pub(crate) fn refuse_in_update(message: &str) -> Result<()> {
    if IN_UPDATE.get() { Err(Error::invalid(message)) } else { Ok(()) }
}

/// The state of one document while a batch is judged.
#[derive(Clone)]
struct Current {
    /// The newest version, tombstones included; 0 when there is none.
    newest: Origin,
    document: Option<CurrentDocument>,
    /// Set when the newest version is a document that has expired, which is the same as none.
    expired: Option<Expired>,
}

/// A version whose expiry is not committed yet.
#[derive(Debug, Clone)]
struct Expired {
    seq: u64,
    created: Origin,
    /// Loaded only for those who look at it.
    body: Option<Bytes>,
}

#[derive(Clone)]
struct CurrentDocument {
    etag: Etag,
    created: Origin,
    time_ms: u64,
    ttl: DocumentTtl,
    /// Loaded only for those who look at it.
    body: Option<Bytes>,
}

impl Core {
    /// Adds to `writes` what the operations come to, in order, up to the first that may not happen; that one is the
    /// error. Whatever comes of it holds only once `basis` is durable.
    pub(crate) fn judge(
        &self,
        operations: Vec<Operation<'_>>,
        basis: &mut Basis,
        writes: &mut Vec<JudgedWrite>,
    ) -> Result<()> {
        // All of them before the reader is made: what is not pending by then is in what the reader sees.
        let head = |operation: &Operation<'_>| self.pending.get(&operation.prefix, basis.generation);
        let mut heads: SmallVec<[Option<Head>; 1]> = operations.iter().map(head).collect();
        for head in heads.iter().flatten() {
            basis.seq = basis.seq.max(head.seq);
        }
        // A batch that has no document twice needs no memory of its earlier operations.
        let remember = has_document_twice(&operations);
        // Made under the stripes of all these documents, so nobody changes them after what it sees.
        let mut reader = None;
        let mut seen: HashMap<KeyBytes, Current> = HashMap::new();
        // One moment for all operations, and the clock is asked only if some document can expire.
        let now = LazyCell::new(|| self.now_ms());
        for (position, operation) in operations.into_iter().enumerate() {
            let Operation { collection, id, prefix, action } = operation;
            collection.check_live()?;
            let deriver = collection.derived.get();
            let with_body = matches!(action, Action::Update(_)) || deriver.is_some();
            let mut current = match seen.get(&prefix) {
                Some(current) => current.clone(),
                None => match heads[position].take() {
                    Some(head) => self.current(&collection, head.into(), &now),
                    None => self.load(&mut reader, &collection, &prefix, with_body, &now)?,
                },
            };
            if with_body
                && let Some(document) = &mut current.document
                && document.body.is_none()
            {
                let loaded = self.load(&mut reader, &collection, &prefix, true, &now)?;
                document.body = loaded.document.and_then(|document| document.body);
            }
            let etag = current.document.as_ref().map(|document| document.etag);
            let judge = |precondition: Precondition| {
                if precondition.holds(etag) {
                    return Ok(());
                }
                Err(Error::Conflict(Box::new(Conflict {
                    position,
                    collection: collection.name.clone(),
                    id: Bytes::copy_from_slice(&id),
                    expected: precondition,
                    current: etag,
                })))
            };
            let change = match action {
                Action::Put(body, options, precondition) => {
                    judge(precondition)?;
                    Change::PutWith(body, options)
                }
                Action::Delete(precondition) => {
                    judge(precondition)?;
                    Change::Delete
                }
                Action::Check(precondition) => {
                    judge(precondition)?;
                    Change::Keep
                }
                Action::Update(_) | Action::Annotate(_) => {
                    let change = match action {
                        Action::Update(change) => current.ask(change),
                        Action::Annotate(describe) => {
                            // The expiry of what was there before comes first.
                            let own = writes.len() + usize::from(current.expired.is_some());
                            let distances = distances(writes, position, own);
                            current.ask(|_| describe(&distances))
                        }
                        _ => Ok(Change::Keep),
                    };
                    let change = change.map_err(|Abort| Error::Aborted { position })?;
                    if let Change::Put(body) | Change::PutWith(body, _) = &change {
                        validate_body_len(body.len())
                            .map_err(|message| Error::Invalid(format!("operation {position}: {message}")))?;
                    }
                    change
                }
                Action::Expire(seq) => {
                    if let Some(expired) = current.expired.filter(|expired| expired.seq == seq) {
                        writes.push(JudgedWrite::expiry(Some(position), &collection, &id, &prefix, &expired));
                        if let Some(deriver) = &deriver {
                            let changes = deriver.changes(&id, expired.body.as_deref(), None);
                            self.add_derived(&deriver.target, changes, &mut seen, basis, writes, &now)?;
                        }
                    }
                    continue;
                }
            };
            let (kind, body, ttl) = match change {
                Change::Put(body) => (VersionKind::Document, Bytes::from(body), DocumentTtl::Collection),
                Change::PutWith(body, options) => (VersionKind::Document, Bytes::from(body), options.ttl),
                Change::Delete if current.document.is_some() => {
                    (VersionKind::Tombstone, Bytes::new(), DocumentTtl::Collection)
                }
                Change::Delete | Change::Keep => {
                    if remember {
                        seen.insert(prefix, current);
                    }
                    continue;
                }
            };
            let ttl_ms =
                ttl.to_header().map_err(|message| Error::Invalid(format!("operation {position}: {message}")))?;
            let mut before = current.document.as_ref().and_then(|document| document.body.clone());
            if let Some(expired) = current.expired {
                current.newest = Origin::Batch(writes.len());
                writes.push(JudgedWrite::expiry(None, &collection, &id, &prefix, &expired));
                before = expired.body;
            }
            let this = Origin::Batch(writes.len());
            let created = current.document.as_ref().map(|document| document.created);
            if remember {
                let document = (kind == VersionKind::Document).then(|| CurrentDocument {
                    etag: Etag::NEVER,
                    created: created.unwrap_or(this),
                    time_ms: 0,
                    ttl,
                    body: Some(body.clone()),
                });
                seen.insert(prefix.clone(), Current { newest: this, document, expired: None });
            }
            let changes = deriver.map(|deriver| {
                let after = (kind == VersionKind::Document).then_some(&body[..]);
                (deriver.changes(&id, before.as_deref(), after), deriver)
            });
            writes.push(JudgedWrite {
                position: Some(position),
                collection,
                id,
                prefix,
                kind,
                body,
                ttl_ms,
                expired: false,
                previous: current.newest,
                replaced: created.map(|_| current.newest),
                created,
                alone: false,
            });
            if let Some((changes, deriver)) = changes {
                self.add_derived(&deriver.target, changes, &mut seen, basis, writes, &now)?;
            }
        }
        Ok(())
    }

    /// Adds to `writes` the entries that a write takes away and adds in the collection derived from its own. They need no
    /// stripes: each belongs to the document that is being written.
    fn add_derived(
        &self,
        target: &Arc<CollectionState>,
        changes: Vec<(Vec<u8>, bool)>,
        seen: &mut HashMap<KeyBytes, Current>,
        basis: &mut Basis,
        writes: &mut Vec<JudgedWrite>,
        now: &impl Deref<Target = u64>,
    ) -> Result<()> {
        target.check_live()?;
        let mut entries = Vec::with_capacity(changes.len());
        for (id, is_new) in changes {
            validate_id(&id).map_err(|message| Error::Invalid(format!("an entry of {:?}: {message}", target.name)))?;
            let prefix = encoding::document_prefix(target.number, &id);
            let head = self.pending.get(&prefix, basis.generation);
            basis.seq = basis.seq.max(head.as_ref().map_or(0, |head| head.seq));
            entries.push((KeyBytes::from_vec(id), prefix, is_new, head));
        }
        // Made after the last look at what is pending: what is not, is in what this reader sees.
        let mut reader = None;
        for (id, prefix, is_new, head) in entries {
            let current = match (seen.get(&prefix), head) {
                (Some(current), _) => current.clone(),
                (None, Some(head)) => self.current(target, head.into(), now),
                (None, None) => self.load(&mut reader, target, &prefix, false, now)?,
            };
            if is_new == current.document.is_some() {
                continue;
            }
            let created = current.document.as_ref().map(|document| document.created);
            let this = Origin::Batch(writes.len());
            let document = is_new.then(|| CurrentDocument {
                etag: Etag::NEVER,
                created: this,
                time_ms: 0,
                ttl: DocumentTtl::Collection,
                body: Some(Bytes::new()),
            });
            seen.insert(prefix.clone(), Current { newest: this, document, expired: None });
            writes.push(JudgedWrite {
                position: None,
                collection: Arc::clone(target),
                id,
                prefix,
                kind: if is_new { VersionKind::Document } else { VersionKind::Tombstone },
                body: Bytes::new(),
                ttl_ms: None,
                expired: false,
                previous: current.newest,
                replaced: created.map(|_| current.newest),
                created,
                alone: false,
            });
        }
        Ok(())
    }

    /// The newest visible state of a document of which no version is pending, as it is at `now`.
    fn load<'a>(
        &'a self,
        reader: &mut Option<Reader<'a>>,
        collection: &CollectionState,
        prefix: &[u8],
        with_body: bool,
        now: &impl Deref<Target = u64>,
    ) -> Result<Current> {
        Ok(match self.newest_by(reader, prefix, self.visible().get(), with_body)? {
            Some(version) => self.current(collection, version, now),
            None => Current { newest: Origin::Stored(0), document: None, expired: None },
        })
    }

    /// The state of a document whose newest version is `version`, as it is at `now`.
    fn current(&self, collection: &CollectionState, version: CachedVersion, now: &impl Deref<Target = u64>) -> Current {
        let created = Origin::Stored(created_seq(version.seq, &version.header));
        let mut current = Current { newest: Origin::Stored(version.seq), document: None, expired: None };
        if collection.ttl().is_expired(&version.header, || **now) {
            // Nobody who is told of the absence now may be told otherwise later, by a clock that is set back.
            self.raise_time(**now);
            current.expired = Some(Expired { seq: version.seq, created, body: version.body });
        } else if version.header.kind == VersionKind::Document {
            current.document = Some(CurrentDocument {
                etag: self.etag(version.seq),
                created,
                time_ms: version.header.time_ms,
                ttl: DocumentTtl::from_header(&version.header),
                body: version.body,
            });
        }
        current
    }
}

fn has_document_twice(operations: &[Operation<'_>]) -> bool {
    if operations.len() < 2 {
        return false;
    }
    let mut prefixes: Vec<&[u8]> = operations.iter().map(|operation| &operation.prefix[..]).collect();
    prefixes.sort_unstable();
    prefixes.windows(2).any(|pair| pair[0] == pair[1])
}

/// How many of the following writes belong to the first one, where each write asked for is a batch of its own: the
/// expiry that it found comes before it, what is derived of it comes after.
pub(crate) fn rest_of_unit(writes: &[JudgedWrite]) -> u32 {
    let found = |write: &JudgedWrite| write.position.is_none() && write.expired;
    let follow = writes.windows(2).take_while(|pair| match pair[1].position {
        Some(_) => found(&pair[0]),
        None => !pair[1].expired,
    });
    follow.count() as u32
}

/// The sequence that made a document, from one of its versions.
pub(crate) fn created_seq(seq: u64, header: &VersionHeader) -> u64 {
    if header.created == 0 { seq } else { header.created }
}

/// How far before the write at `own` each of the first operations' writes is; an operation has one at most.
fn distances(writes: &[JudgedWrite], operations: usize, own: usize) -> Vec<Option<u64>> {
    let mut distances = vec![None; operations];
    for (index, write) in writes.iter().enumerate() {
        if let Some(distance) = write.position.and_then(|position| distances.get_mut(position)) {
            *distance = Some((own - index) as u64);
        }
    }
    distances
}

impl Current {
    /// Shows the document to an update closure.
    fn ask(&self, change: impl FnOnce(Option<&Document>) -> Result<Change, Abort>) -> Result<Change, Abort> {
        let stored = |origin: Origin| match origin {
            Origin::Stored(seq) => CommitSeq::new(seq),
            Origin::Batch(_) => CommitSeq::new(0),
        };
        let document = self.document.as_ref().map(|document| Document {
            etag: document.etag,
            seq: stored(self.newest),
            created: stored(document.created),
            time_ms: document.time_ms,
            ttl: document.ttl,
            body: document.body.clone().unwrap_or_default(),
        });
        // Restored also when the closure panics: the thread may go on to other writes.
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                IN_UPDATE.set(false);
            }
        }
        IN_UPDATE.set(true);
        let _reset = Reset;
        change(document.as_ref())
    }
}
