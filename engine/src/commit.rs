//! The only write path: lock stripes, judge, queue, and let one writer lead the queue to disk.
//!
//! # The life of a write
//!
//! 1. The writer takes the stripes of all its keys, in ascending order, and keeps them to the end.
//! 2. It judges its operations in order against the newest visible version of each document, remembering what its
//!    own earlier operations did. The first failure ends it here, with nothing written.
//! 3. It puts its writes into the queue. If nobody leads, it leads; otherwise it sleeps.
//! 4. The leader takes the queue as it stands, gives each write the next commit sequence, encodes all of it into one
//!    RocksDB write batch, writes and (under `Durability::Sync`) syncs it: one log append and one sync for
//!    everybody in the group.
//! 5. The leader publishes the group's last sequence as visible, hands each writer its result, and wakes the first
//!    writer that has queued meanwhile to lead the next group. With an empty queue the leadership lapses: a lone
//!    writer never hands over to another thread.
//!
//! A transaction's batch brings along what it read elsewhere. The leader, whose place in the commit order is the
//! transaction's, refuses it if any of that has changed since (see `reads`); the others of the group go on.
//!
//! # Why it is right
//!
//! * *Judge and write are one atomic step.* Between the judgement and the publication nobody else can write the same
//!   key, because its stripe is held throughout.
//! * *Nobody is told of what a power cut could take back.* Reads look no further than the visible sequence, which moves
//!   only after the sync; a losing writer judges against visible versions too, and gets at its stripe only after the
//!   winner was published or failed. (Under `Buffered` the same holds with "written" in place of "synced".)
//! * *Commits become visible in sequence order, and the log holds them in that order*, because one leader at a time
//!   assigns and writes them. So what a crash leaves is a prefix, and a reader that has seen sequence n has everything
//!   up to n.
//! * *After a failed sync* the kernel may have dropped the dirty pages and called them clean, so syncing again proves
//!   nothing. The outcome of the group is unknown, and no later write may build on it: the store takes no more writes
//!   until it is reopened. A full disk is different: RocksDB refuses all writes by itself until space returns, the
//!   group is never visible in this process, and nothing is built on it.
//!
//! # Rejected
//!
//! * *Releasing stripes before the sync*, with the next writer judging against the pending version. It lifts the
//!   ceiling of one hot key from one write a sync to many, but a loser must then wait for the winner's sync before
//!   it may say so, and everything that builds on a pending version fails with it. It belongs with a cache of heads.
//! * *A committer thread of its own*: a lone writer then pays two thread hand-overs for each write, several times what
//!   the write itself costs without a sync.
//! * *Each writer its own RocksDB write, sequence taken beforehand*: RocksDB groups these as well, but not in sequence
//!   order, so a crash could leave n without n - 1, and visibility needs a list of holes.

use std::cell::{Cell, LazyCell};
use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::batch::{Abort, Action, Change, Operation, validate_body_len, validate_id};
use crate::collection::CollectionState;
use crate::document::{Document, Written};
use crate::encoding::{self, CollectionNumber, ExpiryRow, FeedKind, VersionHeader, VersionKind};
use crate::error::{Conflict, Error, Result};
use crate::reads::{Reads, Validator};
use crate::rocks::{Reader, Rows};
use crate::store::Core;
use crate::ttl::{DocumentTtl, NEVER_MS};
use crate::{CommitSeq, Etag, Precondition};

/// A group closes when its bodies have this many bytes, so that nobody's write waits for an unbounded one.
const GROUP_BYTES: usize = 16 << 20;

/// Writers waiting for a leader, and whether there is one.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    commits: AtomicU64,
    groups: AtomicU64,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Submission>,
    led: bool,
}

/// A judged batch, or the end of a collection, on its way to disk.
struct Submission {
    work: Work,
    waiter: Arc<Waiter>,
}

enum Work {
    /// A batch; and, of a transaction, what it read and did not write.
    Writes(Vec<JudgedWrite>, Option<Reads>),
    Drop(Arc<CollectionState>),
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Work::Writes(writes, _) => writes.iter().map(|write| write.body.len()).sum(),
            Work::Drop(_) => 0,
        }
    }
}

/// A write whose preconditions hold, as long as its stripe is held.
struct JudgedWrite {
    /// The operation whose result it is; `None` for the expiry that a write found to commit first.
    position: Option<usize>,
    collection: Arc<CollectionState>,
    id: Vec<u8>,
    prefix: Vec<u8>,
    kind: VersionKind,
    body: Bytes,
    /// The document's own time to live.
    ttl_ms: Option<u64>,
    /// Whether a tombstone is there because the document expired.
    expired: bool,
    previous: Origin,
    /// The version that was current, where there was a document.
    replaced: Option<Origin>,
    /// `None`: this write makes the document.
    created: Option<Origin>,
    /// Whether it is a batch of its own, whatever else it is submitted with.
    alone: bool,
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
            id: id.to_vec(),
            prefix: prefix.to_vec(),
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

    /// The fixed part of its row, in a batch whose first write is at sequence `start`.
    fn header(&self, start: u64, time_ms: u64) -> VersionHeader {
        VersionHeader {
            kind: self.kind,
            time_ms,
            previous: self.previous.resolve(start),
            created: self.created.map_or(0, |origin| origin.resolve(start)),
            ttl_ms: self.ttl_ms,
        }
    }
}

/// A version that an operation builds on.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// On disk, or none at all (0).
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

/// Where a sleeping writer gets its answer.
#[derive(Default)]
struct Waiter {
    turn: Mutex<Option<Turn>>,
    called: Condvar,
}

enum Turn {
    Lead,
    Done(Result<Vec<Written>>),
}

impl Waiter {
    fn call(&self, turn: Turn) {
        *self.turn.lock() = Some(turn);
        self.called.notify_one();
    }

    fn wait(&self) -> Turn {
        let mut turn = self.turn.lock();
        loop {
            match turn.take() {
                Some(turn) => return turn,
                None => self.called.wait(&mut turn),
            }
        }
    }
}

thread_local! {
    /// Whether this thread runs an update closure, and so holds stripes that a write of its own would wait for.
    static IN_UPDATE: Cell<bool> = const { Cell::new(false) };
}

const WAITS_FOR_ITSELF: &str = "a write inside an update closure would wait for itself";

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
    /// Carries out a batch: all of it, or none of it. Given what a transaction read, only if nothing of that has
    /// changed when the batch gets its place in the commit order.
    pub(crate) fn commit(&self, operations: Vec<Operation<'_>>, reads: Option<Reads>) -> Result<Vec<Option<Written>>> {
        refuse_in_update(WAITS_FOR_ITSELF)?;
        self.health.check()?;
        let mut results = vec![None; operations.len()];
        let guards = self.stripes.lock(operations.iter().map(|operation| &operation.prefix[..]));
        let mut writes = Vec::with_capacity(operations.len());
        self.judge(operations, &mut writes)?;
        if writes.is_empty() && reads.is_none() {
            return Ok(results);
        }
        let positions: Vec<Option<usize>> = writes.iter().map(|write| write.position).collect();
        let written = self.submit(Work::Writes(writes, reads))?;
        drop(guards);
        for (position, written) in positions.into_iter().zip(written) {
            if let Some(position) = position {
                results[position] = Some(written);
            }
        }
        Ok(results)
    }

    /// Carries out each operation as a batch of its own, in order, up to the first that fails; all that come before it
    /// share one write to disk. Returns what was written, and what failed.
    pub(crate) fn commit_each(&self, operations: Vec<Operation<'_>>) -> (Vec<Written>, Result<()>) {
        if let Err(error) = refuse_in_update(WAITS_FOR_ITSELF).and_then(|()| self.health.check()) {
            return (Vec::new(), Err(error));
        }
        let _guards = self.stripes.lock(operations.iter().map(|operation| &operation.prefix[..]));
        let mut writes = Vec::with_capacity(operations.len());
        let judged = self.judge(operations, &mut writes);
        if writes.is_empty() {
            return (Vec::new(), judged);
        }
        for write in &mut writes {
            write.alone = true;
        }
        let asked: Vec<bool> = writes.iter().map(|write| write.position.is_some()).collect();
        match self.submit(Work::Writes(writes, None)) {
            Ok(written) => {
                let written = asked.into_iter().zip(written).filter(|&(asked, _)| asked);
                (written.map(|(_, written)| written).collect(), judged)
            }
            Err(error) => (Vec::new(), Err(error)),
        }
    }

    /// Ends a collection: nothing that is judged later, and nothing queued later, is written to it.
    pub(crate) fn commit_drop(&self, collection: &Arc<CollectionState>) -> Result<()> {
        refuse_in_update("a collection cannot be dropped inside an update closure")?;
        self.health.check()?;
        self.submit(Work::Drop(Arc::clone(collection))).map(drop)
    }

    /// Adds to `writes` what the operations come to, in order, up to the first that may not happen; that one is the
    /// error.
    fn judge(&self, operations: Vec<Operation<'_>>, writes: &mut Vec<JudgedWrite>) -> Result<()> {
        // A batch that has no document twice needs no memory of its earlier operations.
        let remember = has_document_twice(&operations);
        // Made under the stripes of all these documents, so nobody changes them after what it sees.
        let mut reader = None;
        let mut seen: HashMap<Vec<u8>, Current> = HashMap::new();
        // One moment for all operations, and the clock is asked only if some document can expire.
        let now = LazyCell::new(|| self.now_ms());
        for (position, operation) in operations.into_iter().enumerate() {
            let Operation { collection, id, prefix, action } = operation;
            collection.check_live()?;
            let deriver = collection.derived.get();
            let with_body = matches!(action, Action::Update(_)) || deriver.is_some();
            let mut current = match seen.get(&prefix) {
                Some(current) => current.clone(),
                None => self.load(&mut reader, &collection, &prefix, with_body, &now)?,
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
                Action::Update(change) => {
                    let change = current.ask(change).map_err(|Abort| Error::Aborted { position })?;
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
                            self.add_derived(&mut reader, &deriver.target, changes, &mut seen, writes, &now)?;
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
                self.add_derived(&mut reader, &deriver.target, changes, &mut seen, writes, &now)?;
            }
        }
        Ok(())
    }

    /// Adds to `writes` the entries that a write takes away and adds in the collection derived from its own. They need no
    /// stripes: each belongs to the document that is being written.
    fn add_derived<'a>(
        &'a self,
        reader: &mut Option<Reader<'a>>,
        target: &Arc<CollectionState>,
        changes: Vec<(Vec<u8>, bool)>,
        seen: &mut HashMap<Vec<u8>, Current>,
        writes: &mut Vec<JudgedWrite>,
        now: &impl Deref<Target = u64>,
    ) -> Result<()> {
        target.check_live()?;
        for (id, is_new) in changes {
            validate_id(&id).map_err(|message| Error::Invalid(format!("an entry of {:?}: {message}", target.name)))?;
            let prefix = encoding::document_prefix(target.number, &id);
            let current = match seen.get(&prefix) {
                Some(current) => current.clone(),
                None => self.load(reader, target, &prefix, false, now)?,
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

    /// The newest visible state of a document, as it is at `now`.
    fn load<'a>(
        &'a self,
        reader: &mut Option<Reader<'a>>,
        collection: &CollectionState,
        prefix: &[u8],
        with_body: bool,
        now: &impl Deref<Target = u64>,
    ) -> Result<Current> {
        let Some(version) = self.newest_by(reader, prefix, self.visible().get(), with_body)? else {
            return Ok(Current { newest: Origin::Stored(0), document: None, expired: None });
        };
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
        Ok(current)
    }

    /// Waits for the writers of a document that are under way. A writer judged by an earlier time than the caller's
    /// may have found a document that has expired since; what it writes comes before whatever the caller tells.
    pub(crate) fn wait_for_writers(&self, prefix: &[u8]) {
        // Inside an update closure the stripe may be this thread's own, and then nobody else is under way.
        if !IN_UPDATE.get() {
            drop(self.stripes.lock(std::iter::once(prefix)));
        }
    }

    /// Waits for all writers that are under way.
    pub(crate) fn wait_for_all_writers(&self) {
        self.stripes.pass_all();
    }

    fn submit(&self, work: Work) -> Result<Vec<Written>> {
        let waiter = Arc::new(Waiter::default());
        let leads = {
            let mut queue = self.queue.state.lock();
            queue.waiting.push_back(Submission { work, waiter: Arc::clone(&waiter) });
            !std::mem::replace(&mut queue.led, true)
        };
        if !leads && let Turn::Done(result) = waiter.wait() {
            return result;
        }
        self.lead();
        match waiter.wait() {
            Turn::Done(result) => result,
            // A leader's own submission is the oldest in the queue, so its group had it.
            Turn::Lead => unreachable!("the leader is called to lead again"),
        }
    }

    /// Takes one group from the head of the queue to disk, answers its writers, and passes the lead on.
    fn lead(&self) {
        let group = {
            let mut queue = self.queue.state.lock();
            let mut bytes = 0;
            let count = queue.waiting.iter().take_while(|next| {
                let first = bytes == 0;
                bytes += next.work.bytes().max(1);
                first || bytes <= GROUP_BYTES
            });
            let count = count.count();
            queue.waiting.drain(..count).collect::<Vec<_>>()
        };
        let waiters = group.iter().map(|submission| Arc::clone(&submission.waiter)).collect();
        let mut guard = LeadGuard { inner: self, waiters };
        let results = self.write_group(&group);
        guard.waiters.clear();
        // The next leader can be busy while this one wakes its group. The group was published before any of its
        // writers wakes, and so before any of its stripes is free.
        drop(guard);
        for (submission, result) in group.into_iter().zip(results) {
            submission.waiter.call(Turn::Done(result));
        }
    }

    /// Writes a group and publishes it. One result per submission.
    fn write_group(&self, group: &[Submission]) -> Vec<Result<Vec<Written>>> {
        // A failure of the group before this one is known only now.
        if self.health.check().is_err() {
            return group.iter().map(|_| self.health.check().map(|()| Vec::new())).collect();
        }
        let mut clock = self.commit_clock.lock();
        let first = clock.last_assigned + 1;
        let time_ms = self.now_ms().max(clock.last_time_ms);
        let epoch = self.epochs.for_write();
        let mut rows = Rows::default();
        let mut next = first;
        let mut dropped: Vec<CollectionNumber> = Vec::new();
        let mut results = Vec::with_capacity(group.len());
        let reads = group.iter().filter_map(|submission| match &submission.work {
            Work::Writes(_, reads) => reads.as_ref(),
            Work::Drop(_) => None,
        });
        let mut validator = Validator::new(self, reads, clock.last_assigned);
        for submission in group {
            let result = match &submission.work {
                Work::Writes(writes, reads) => {
                    let gone = |write: &&JudgedWrite| {
                        write.collection.check_live().is_err() || dropped.contains(&write.collection.number)
                    };
                    let valid = match writes.iter().find(gone) {
                        Some(write) => Err(write.collection.dropped_error()),
                        None => reads.as_ref().map_or(Ok(()), |reads| validator.check(reads, &dropped)),
                    };
                    valid.map(|()| {
                        let written = self.encode(&mut rows, writes, next, time_ms, epoch.number);
                        next += writes.len() as u64;
                        for (write, written) in writes.iter().zip(&written) {
                            validator.note(&write.prefix, written.seq, write.kind, written.etag);
                        }
                        written
                    })
                }
                Work::Drop(collection) if collection.check_live().is_err() => Err(collection.dropped_error()),
                Work::Drop(collection) => {
                    dropped.push(collection.number);
                    self.encode_drop(&mut rows, collection.number);
                    Ok(Vec::new())
                }
            };
            results.push(result);
        }
        if next == first && dropped.is_empty() {
            return results;
        }
        if next > first && epoch.is_new {
            self.rocks.put_meta(&mut rows, &encoding::epoch_key(first), &epoch.number.to_le_bytes());
        }
        // Whatever happens below, these sequences are used up: a failed write may still come back after a crash.
        clock.last_assigned = next - 1;
        if let Err(error) = self.rocks.write(rows, self.options.syncs()) {
            let fail = self.health.after_failed_write(error);
            // Also those who were refused: it may have been for a write of this very group, which nobody may hear of.
            return results.into_iter().map(|_| Err(fail())).collect();
        }
        clock.last_time_ms = time_ms;
        self.raise_time(time_ms);
        if next > first && epoch.is_new {
            self.epochs.begin(first);
        }
        for (submission, result) in group.iter().zip(&results) {
            match (&submission.work, result) {
                (Work::Drop(collection), _) => collection.mark_dropped(),
                (Work::Writes(writes, _), Ok(written)) => {
                    self.cache_written(writes, written);
                    writes.iter().for_each(|write| write.collection.note_change(next - 1));
                }
                (Work::Writes(..), Err(_)) => {}
            }
        }
        self.queue.groups.fetch_add(1, Ordering::Relaxed);
        self.queue.commits.fetch_add(next - first, Ordering::Relaxed);
        self.publish(CommitSeq::new(next - 1));
        results
    }

    /// Encodes the writes of one batch, the first at sequence `start`.
    fn encode(&self, rows: &mut Rows, writes: &[JudgedWrite], start: u64, time_ms: u64, epoch: u64) -> Vec<Written> {
        let mut key = Vec::new();
        let mut value = Vec::new();
        let mut results = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            let seq = start + index as u64;
            let header = write.header(start, time_ms);
            key.clear();
            key.extend_from_slice(&write.prefix);
            encoding::push_seq(&mut key, seq);
            value.clear();
            header.encode(&mut value);
            value.extend_from_slice(&write.body);
            self.rocks.put_version(rows, &key, &value);

            if let Some(ttl_ms) = header.ttl_ms.filter(|&ttl_ms| ttl_ms != NEVER_MS) {
                let (time_ms, collection) = (time_ms.saturating_add(ttl_ms), write.collection.number);
                let row = ExpiryRow { seq, time_ms, collection, id: &write.id };
                self.rocks.put_expiry(rows, &row.key(), &row.value());
            }
            let kind = match (write.kind, write.created) {
                (VersionKind::Tombstone, _) if write.expired => FeedKind::Expired,
                (VersionKind::Tombstone, _) => FeedKind::Deleted,
                (VersionKind::Document, None) => FeedKind::Created,
                (VersionKind::Document, Some(_)) => FeedKind::Replaced,
            };
            // A batch has at most `MAX_BATCH_OPERATIONS` writes, and as many expiries, so the rest of it always fits.
            let rest = match write.alone {
                false => (writes.len() - index - 1) as u32,
                true => rest_of_unit(&writes[index..]),
            };
            let feed = encoding::feed_value(kind, rest, &header, write.collection.number, &write.id);
            self.rocks.put_feed(rows, &encoding::feed_key(seq), &feed);

            results.push(Written {
                etag: Etag::new(epoch, CommitSeq::new(seq)),
                seq: CommitSeq::new(seq),
                created: CommitSeq::new(created_seq(seq, &header)),
                time_ms,
                replaced: write.replaced.map(|origin| match origin {
                    Origin::Stored(seq) => self.etag(seq),
                    Origin::Batch(_) => Etag::new(epoch, CommitSeq::new(origin.resolve(start))),
                }),
            });
        }
        results
    }

    /// Puts what was written into the cache, before anybody may see it.
    fn cache_written(&self, writes: &[JudgedWrite], written: &[Written]) {
        let start = written.first().map_or(0, |first| first.seq.get());
        for (write, written) in writes.iter().zip(written) {
            // A load would wash out what is asked for again and again.
            if write.alone {
                self.cache.superseded(&write.prefix, written.seq.get());
                continue;
            }
            let header = write.header(start, written.time_ms);
            self.cache.written(&write.prefix, written.seq.get(), header, &write.body);
            if let Some(ttl_ms) = header.ttl_ms {
                self.signal.due_at(written.time_ms.saturating_add(ttl_ms));
            }
        }
    }

    fn encode_drop(&self, rows: &mut Rows, number: CollectionNumber) {
        let (start, end) = (encoding::collection_start(number), encoding::collection_start(number + 1));
        self.rocks.delete_versions(rows, &start, &end);
        self.rocks.delete_meta(rows, &encoding::collection_key(number));
        self.rocks.delete_meta(rows, &encoding::horizon_key(number));
        self.rocks.put_meta(rows, &encoding::dropped_key(number), b"");
    }

    /// How many writes were committed, and in how many groups, since the store was opened.
    pub(crate) fn commit_counts(&self) -> (u64, u64) {
        (self.queue.commits.load(Ordering::Relaxed), self.queue.groups.load(Ordering::Relaxed))
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
fn rest_of_unit(writes: &[JudgedWrite]) -> u32 {
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

/// Passes the lead on when a leader is done, and answers for it when it panics, so that nobody waits for ever.
struct LeadGuard<'a> {
    inner: &'a Core,
    waiters: Vec<Arc<Waiter>>,
}

impl Drop for LeadGuard<'_> {
    fn drop(&mut self) {
        if !self.waiters.is_empty() {
            let fail = self.inner.health.after_failed_write(Error::io("the thread that wrote for this group panicked"));
            for waiter in self.waiters.drain(..) {
                waiter.call(Turn::Done(Err(fail())));
            }
        }
        let mut queue = self.inner.queue.state.lock();
        match queue.waiting.front() {
            Some(next) => next.waiter.call(Turn::Lead),
            None => queue.led = false,
        }
    }
}
