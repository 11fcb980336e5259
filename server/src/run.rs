//! Running operations: many of them as one atomic step of the store, and waiting for it without a thread.
//!
//! Owns the store's batch for a run, the closures in it that let [`judge`] decide, and what became of each operation. A
//! run has two halves: operations are judged and queued, and then the disk is waited for. The first may take a lock or
//! read from the disk, for a short time; the second takes as long as a sync, and is a future.
//!
//! # Where operations are judged
//!
//! On the runtime's own thread, if the one item is in memory: then judging reads nothing, and going to another thread
//! would cost more than the judging itself. It can still wait for a stripe, which others hold while they judge, and for
//! room in the store's queue, which is there after one write of the disk. Everything else is judged by a bounded number
//! of threads that may block.
//!
//! # When nobody waits any more
//!
//! A request whose client went away is dropped wherever it waits. Before its operations are queued nothing has happened;
//! afterwards the store commits them all or fails them all, whether anybody asks or not, together with the record of the
//! `Idempotency-Key`. What is dropped with the request early are the turns of unique keys; they only save others from
//! planning in vain.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use etagdb::{
    Abort, Change, Collection, CommitHandle, CommitSeq, Document, DocumentTtl, Error, Etag, PutOptions, Store,
    WriteBatch, Written,
};
use http::StatusCode;

use crate::catalog::Container;
use crate::idempotency::{Guard, Notes, Record};
use crate::operations::{NewBody, Operation, Outcome, Verdict, judge};
use crate::status::{ApiError, Kind};
use crate::threads::Threads;
use crate::unique::Plan;
use crate::wire::Version;

/// How often a write of a container with unique keys is planned. Writers take turns, so that only an item's expiry, or the
/// moment after a guard's, can be in the way of a plan.
const ATTEMPTS_MAX: usize = 100;
/// A body of more bytes is not parsed or judged on a thread of the runtime.
pub(crate) const SMALL_BODY_BYTES: usize = 64 * 1024;

/// What running operations came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcomes: Vec<Outcome>,
    /// First and last commit of the whole, if anything was written.
    pub(crate) commits: Option<(CommitSeq, CommitSeq)>,
    /// Whether it was done before, and this is only what it came to then.
    pub(crate) recalled: bool,
}

/// What a refused operation means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing of the whole happens.
    AllOrNothing,
    /// The others happen.
    EachAlone,
    /// Those before it happen, those after it do not.
    UntilRefused,
}

/// What is to be run: operations in order, as one step of the store. An operation that was refused before (its partition
/// key contradicts the request's, say) takes its turn like any other, so the first refusal in order is the one reported.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) store: Store,
    pub(crate) container: Arc<Container>,
    pub(crate) operations: Vec<Result<Operation, ApiError>>,
    pub(crate) mode: Mode,
    pub(crate) guard: Option<Arc<Guard>>,
}

impl Run {
    /// Runs, and waits for the disk as a future.
    ///
    /// # Errors
    ///
    /// Only what stops all operations: a failing disk, a container that is gone, a guard whose key was used for something
    /// else.
    pub(crate) async fn run(self, judges: &Threads) -> Result<Ran, ApiError> {
        let guard = self.guard.clone();
        let guard = guard.as_deref();
        if self.container.unique.is_none() {
            let here = self.is_in_memory();
            let submit = move || self.attempt(submit);
            let attempt = if here { submit() } else { judges.run(submit).await? }?;
            return attempt.ended(guard).await?.ok_or_else(lost);
        }
        let container = Arc::clone(&self.container);
        let mut turns = Vec::new();
        for turn in container.unique.iter().flat_map(|unique| unique.turns(&self.operations)) {
            turns.push(turn.lock().await);
        }
        for _ in 0..ATTEMPTS_MAX {
            let run = self.clone();
            let attempt = judges.run(move || run.attempt(submit)).await??;
            if let Some(ran) = attempt.ended(guard).await? {
                return Ok(ran);
            }
        }
        Err(lost())
    }

    /// Runs, and blocks for the disk. Not for asynchronous code.
    ///
    /// # Errors
    ///
    /// As [`run`](Run::run).
    pub(crate) fn run_blocking(self) -> Result<Ran, ApiError> {
        let guard = self.guard.clone();
        let attempt = |run: Run| {
            let Attempt { progress, done_before, ended } = run.attempt(commit)?;
            conclude(progress, done_before, guard.as_deref(), ended)
        };
        let container = Arc::clone(&self.container);
        let Some(unique) = &container.unique else { return attempt(self)?.ok_or_else(lost) };
        let _turns: Vec<_> = unique.turns(&self.operations).map(tokio::sync::Mutex::blocking_lock).collect();
        for _ in 0..ATTEMPTS_MAX {
            if let Some(ran) = attempt(self.clone())? {
                return Ok(ran);
            }
        }
        Err(lost())
    }

    /// Whether judging it needs no input and next to no time.
    fn is_in_memory(&self) -> bool {
        let [Ok(operation)] = self.operations.as_slice() else { return false };
        self.guard.is_none()
            && operation.body_bytes() <= SMALL_BODY_BYTES
            && operation.keys().count() == 1
            && self.container.items.get_cached(&operation.key).is_some()
    }

    /// Judges all operations once, and has the batch that they make end one way or another.
    fn attempt<T>(self, end: impl FnOnce(WriteBatch<'_>) -> T) -> Result<Attempt<T>, ApiError> {
        let Run { store, container, operations, mode, guard } = self;
        let plans = match &container.unique {
            Some(unique) => unique.plan(&container, &operations, mode)?.into_iter().map(Some).collect(),
            None => Vec::new(),
        };
        let done_before = RefCell::new(None);
        let progress = RefCell::new(Progress {
            slots: operations.iter().map(|_| Slot::Waiting).collect(),
            refused: false,
            last_write: HashMap::new(),
            notes: guard.is_some().then(Notes::default),
            is_outdated: false,
            mode,
        });
        // Until the record of this request is in the queue, its period stays.
        let held = guard.as_deref().map(Guard::hold).transpose()?;
        let mut batch = store.batch();
        if let Some(held) = &held {
            held.look(&mut batch, &done_before);
        }
        let plans = plans.into_iter().chain(std::iter::repeat_with(|| None));
        for (index, (operation, plan)) in operations.into_iter().zip(plans).enumerate() {
            add(&mut batch, &container, index, operation, plan, &progress);
        }
        if let Some(held) = &held {
            held.remember(&mut batch, |distances| {
                let progress = progress.borrow();
                Record::of(&progress.slots, progress.notes.as_ref()?, distances)
            });
        }
        let ended = end(batch);
        drop(held);
        Ok(Attempt { progress: progress.into_inner(), done_before: done_before.into_inner(), ended })
    }
}

// Functions, because a batch's lifetime is that of one attempt.

fn submit(batch: WriteBatch<'_>) -> CommitHandle {
    batch.submit()
}

fn commit(batch: WriteBatch<'_>) -> Result<Vec<Option<Written>>, Error> {
    batch.commit()
}

fn lost() -> ApiError {
    ApiError::new(Kind::InternalServerError, "an item kept changing while it was written")
}

/// Operations that were judged once.
struct Attempt<T> {
    progress: Progress,
    /// What is remembered of the same request, if it was made before.
    done_before: Option<Document>,
    ended: T,
}

impl Attempt<CommitHandle> {
    /// Waits for the end. `None`, with nothing written, if an item is not the one that its plan was made for.
    async fn ended(self, guard: Option<&Guard>) -> Result<Option<Ran>, ApiError> {
        let Attempt { progress, done_before, ended } = self;
        conclude(progress, done_before, guard, ended.await)
    }
}

/// What an attempt came to. `None`, with nothing written, if an item is not the one that its plan was made for.
fn conclude(
    progress: Progress,
    done_before: Option<Document>,
    guard: Option<&Guard>,
    committed: Result<Vec<Option<Written>>, Error>,
) -> Result<Option<Ran>, ApiError> {
    match committed {
        Ok(written) => Ok(Some(finish(progress, &written))),
        Err(Error::Aborted { .. }) => {
            if let (Some(document), Some(guard)) = (done_before, guard) {
                return guard.recall(&document).map(Some);
            }
            if progress.is_outdated {
                return Ok(None);
            }
            let outcomes = progress.slots.into_iter().map(|slot| match slot {
                Slot::Refused(error) => Outcome::Refused(error),
                Slot::NotModified(etag, seq) if progress.mode == Mode::AllOrNothing => Outcome::NotModified(etag, seq),
                _ => Outcome::Dependent,
            });
            Ok(Some(Ran { outcomes: outcomes.collect(), commits: None, recalled: false }))
        }
        // Also for a request that was found to be made before: what it did may not be on disk after all.
        Err(error) => Err(error.into()),
    }
}

/// What the closures of one run share.
struct Progress {
    slots: Vec<Slot>,
    refused: bool,
    /// Which of the store's operations wrote a key last, for reads that follow it in the same run.
    last_write: HashMap<Vec<u8>, usize>,
    /// What the store's operations wrote, for a run that is to be remembered.
    notes: Option<Notes>,
    /// Whether an item or a guard was not as it was planned for.
    is_outdated: bool,
    mode: Mode,
}

/// How far one operation is. `at` counts the store's operations, of which a move takes three.
#[derive(Debug)]
pub(crate) enum Slot {
    Waiting,
    /// A replacement under another id, allowed by the old one and waiting for the new one.
    Moving(NewBody),
    Wrote {
        status: StatusCode,
        body: Bytes,
        ttl: DocumentTtl,
        at: usize,
    },
    ReadStored(Version),
    ReadWritten {
        body: Bytes,
        at: usize,
    },
    NotModified(Etag, CommitSeq),
    Deleted,
    Refused(ApiError),
    Dependent,
}

impl Progress {
    /// Tells whether an earlier refusal ends the run without undoing it.
    fn skips(&self) -> bool {
        self.refused && self.mode == Mode::UntilRefused
    }

    fn skip(&mut self, index: usize) -> Result<Change, Abort> {
        self.slots[index] = Slot::Dependent;
        Ok(Change::Keep)
    }

    /// Records a refusal, and tells the store what it means.
    fn refuse(&mut self, index: usize, slot: Slot) -> Result<Change, Abort> {
        self.slots[index] = slot;
        self.refused = true;
        if self.mode == Mode::AllOrNothing { Err(Abort) } else { Ok(Change::Keep) }
    }

    /// Ends the attempt: what was planned is not what is there.
    fn outdated(&mut self) -> Result<Change, Abort> {
        self.is_outdated = true;
        Err(Abort)
    }

    fn wrote(&mut self, index: usize, key: Vec<u8>, status: StatusCode, body: NewBody, at: usize) -> Change {
        self.slots[index] = Slot::Wrote { status, body: Bytes::from(body.bytes.clone()), ttl: body.ttl, at };
        // One that is alone is followed by nobody.
        if self.slots.len() > 1 {
            self.last_write.insert(key, at);
        }
        Change::PutWith(body.bytes, PutOptions::default().document_ttl(body.ttl))
    }
}

/// Adds one of the store's operations. All writes of a run go through here, so that none is missing from its notes.
fn step<'a>(
    batch: &mut WriteBatch<'a>,
    collection: &Collection,
    key: &[u8],
    progress: &'a RefCell<Progress>,
    change: impl FnOnce(Option<&Document>) -> Result<Change, Abort> + 'a,
) {
    let at = batch.len();
    let own_key = progress.borrow().notes.is_some().then(|| key.to_vec());
    batch.update(collection, key, move |document| {
        let change = change(document)?;
        if let (Some(key), Some(notes)) = (own_key, &mut progress.borrow_mut().notes) {
            notes.note(at, &key, document, &change);
        }
        Ok(change)
    });
}

/// Adds the store's operations for one of ours.
fn add<'a>(
    batch: &mut WriteBatch<'a>,
    container: &'a Container,
    index: usize,
    operation: Result<Operation, ApiError>,
    mut plan: Option<Plan>,
    progress: &'a RefCell<Progress>,
) {
    let at = batch.len();
    let Operation { key, created, mut action } = match operation {
        Ok(operation) => operation,
        Err(error) => {
            // It touches no item; the key is one that no item has.
            step(batch, &container.items, &[0], progress, move |_| {
                let mut progress = progress.borrow_mut();
                if progress.skips() { progress.skip(index) } else { progress.refuse(index, Slot::Refused(error)) }
            });
            return;
        }
    };
    let moved_to = action.moved_to().and_then(Option::take);
    let (own_key, moves) = (key.clone(), moved_to.is_some());
    let planned = plan.as_ref().map(|plan| plan.expected);
    let taken = plan.as_mut().and_then(|plan| plan.taken.take());
    step(batch, &container.items, &key, progress, move |document| {
        let mut progress = progress.borrow_mut();
        if progress.skips() {
            return progress.skip(index);
        }
        let current = document.map(Version::of);
        if planned.is_some_and(|expected| expected != current.as_ref().map(|version| version.etag)) {
            return progress.outdated();
        }
        let verdict = judge(action, created, current.as_ref());
        if let (Ok(Verdict::Put(..)), Some(taken)) = (&verdict, taken) {
            return progress.refuse(index, Slot::Refused(taken));
        }
        match (verdict, current) {
            (Ok(Verdict::Put(_, body)), _) if moves => {
                progress.slots[index] = Slot::Moving(body);
                Ok(Change::Keep)
            }
            (Ok(Verdict::Put(status, body)), _) => Ok(progress.wrote(index, own_key, status, body, at)),
            (Ok(Verdict::Held), _) => {
                progress.slots[index] = Slot::Deleted;
                Ok(Change::Keep)
            }
            (Ok(Verdict::Delete), _) => {
                progress.slots[index] = Slot::Deleted;
                Ok(Change::Delete)
            }
            (Ok(Verdict::Read), Some(version)) => {
                progress.slots[index] = match progress.last_write.get(&own_key) {
                    Some(at) if version.etag == Etag::NEVER => Slot::ReadWritten { body: version.body, at: *at },
                    _ => Slot::ReadStored(version),
                };
                Ok(Change::Keep)
            }
            (Ok(Verdict::NotModified), Some(version)) => {
                progress.refuse(index, Slot::NotModified(version.etag, version.seq))
            }
            (Ok(Verdict::Read | Verdict::NotModified), None) => {
                progress.refuse(index, Slot::Refused(ApiError::not_found("The item is not there.")))
            }
            (Err(error), _) => progress.refuse(index, Slot::Refused(error.about(own_key))),
        }
    });
    if let Some(new_key) = moved_to {
        // The new id is written before the old one is deleted, so that a refusal here leaves the old one alone.
        let at = batch.len();
        let target = new_key.clone();
        step(batch, &container.items, &target, progress, move |document| {
            let mut progress = progress.borrow_mut();
            let slot = std::mem::replace(&mut progress.slots[index], Slot::Waiting);
            let Slot::Moving(body) = slot else {
                progress.slots[index] = slot;
                return Ok(Change::Keep);
            };
            match document {
                Some(taken) => {
                    let taken = ApiError::conflict(Some(taken.etag)).showing(&Version::of(taken));
                    progress.refuse(index, Slot::Refused(taken))
                }
                None => Ok(progress.wrote(index, new_key, StatusCode::OK, body, at)),
            }
        });
        step(batch, &container.items, &key, progress, move |_| {
            let progress = progress.borrow();
            Ok(if matches!(progress.slots[index], Slot::Wrote { .. }) { Change::Delete } else { Change::Keep })
        });
    }
    if let (Some(plan), Some(unique)) = (plan, &container.unique) {
        add_guards(batch, &unique.guards, index, plan, progress);
    }
}

/// Adds what an operation does to the guards of unique keys, once it has written or deleted its item.
fn add_guards<'a>(
    batch: &mut WriteBatch<'a>,
    guards: &Collection,
    index: usize,
    plan: Plan,
    progress: &'a RefCell<Progress>,
) {
    let Plan { before, after, release, hold, .. } = plan;
    let owners = Arc::new((before, after));
    for guard in release {
        let owners = Arc::clone(&owners);
        step(batch, guards, &guard, progress, move |document| {
            let is_done = matches!(progress.borrow().slots[index], Slot::Wrote { .. } | Slot::Deleted);
            let is_own = document.is_some_and(|document| document.body == owners.0);
            Ok(if is_done && is_own { Change::Delete } else { Change::Keep })
        });
    }
    for guard in hold {
        let owners = Arc::clone(&owners);
        step(batch, guards, &guard, progress, move |document| {
            let mut progress = progress.borrow_mut();
            let Slot::Wrote { ttl, .. } = progress.slots[index] else { return Ok(Change::Keep) };
            match document {
                Some(taken) if taken.body != owners.0 && taken.body != owners.1 => progress.outdated(),
                // A guard lives as long as its item, so it is written with every version.
                _ => Ok(Change::PutWith(owners.1.clone(), PutOptions::default().document_ttl(ttl))),
            }
        });
    }
}

/// Gives every slot the version it got at the commit.
fn finish(progress: Progress, written: &[Option<Written>]) -> Ran {
    let outcomes = outcomes(progress.slots, |body, at| match written.get(at) {
        Some(Some(written)) => Some(Version::written(body, written)),
        _ => None,
    });
    let mut commits = written.iter().flatten().map(|written| written.seq);
    let first = commits.next();
    let last = commits.next_back().or(first);
    Ran { outcomes, commits: first.zip(last), recalled: false }
}

/// How the operations ended. `version` knows what the store's operation at a position wrote.
pub(crate) fn outcomes(slots: Vec<Slot>, version: impl Fn(Bytes, usize) -> Option<Version>) -> Vec<Outcome> {
    let lost =
        || Outcome::Refused(ApiError::new(Kind::InternalServerError, "the store reported no version for a write"));
    let outcome = |slot| match slot {
        Slot::Wrote { status, body, at, .. } => {
            version(body, at).map_or_else(lost, |version| Outcome::Item(status, version))
        }
        Slot::ReadWritten { body, at } => {
            version(body, at).map_or_else(lost, |version| Outcome::Item(StatusCode::OK, version))
        }
        Slot::ReadStored(version) => Outcome::Item(StatusCode::OK, version),
        Slot::NotModified(etag, seq) => Outcome::NotModified(etag, seq),
        Slot::Deleted => Outcome::Deleted,
        Slot::Refused(error) => Outcome::Refused(error),
        Slot::Waiting | Slot::Moving(_) | Slot::Dependent => Outcome::Dependent,
    };
    slots.into_iter().map(outcome).collect()
}
