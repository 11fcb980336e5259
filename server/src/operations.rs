//! Operations on items: what each does to the current version, and running many of them as one atomic step.
//!
//! Owns the rules of optimistic concurrency, in one function, [`judge`], that single requests, transactional batches and
//! bulk requests all pass through. Every write is judged inside the store's own step (`WriteBatch::update`), never after
//! a read of ours.
//!
//! The order in which an operation is refused: partition key (400), existence (404, or 409 for a create), etag (412),
//! patch condition (412), the patch itself (400), size (413).

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use etagdb::{Abort, Change, CommitSeq, Document, Error, Etag, Store, WriteBatch, Written};
use http::StatusCode;

use crate::catalog::Container;
use crate::headers::Condition;
use crate::idempotency::{Guard, Notes, Record};
use crate::status::{ApiError, Kind};
use crate::strict::{Conditions, Evaluated};
use crate::wire::Version;

/// What is to be done with an item.
pub(crate) enum Action<'a> {
    Create {
        body: Vec<u8>,
    },
    Upsert {
        body: Vec<u8>,
        if_match: Condition,
    },
    /// `moved_to` is the storage key of the new id, when the body's id is not the one addressed.
    Replace {
        body: Vec<u8>,
        if_match: Condition,
        moved_to: Option<Vec<u8>>,
    },
    Read {
        if_none_match: Condition,
    },
    Delete {
        if_match: Condition,
    },
    /// `apply` makes the new body of the version it is shown, or says why not.
    Patch {
        if_match: Condition,
        apply: Apply<'a>,
    },
    /// Any of the others, under the conditions of RFC 9110 instead of its own.
    Strict {
        conditions: Conditions,
        action: Box<Action<'a>>,
    },
}

impl<'a> Action<'a> {
    /// The same under these conditions instead of its own.
    pub(crate) fn strictly(mut self, conditions: Conditions) -> Action<'a> {
        match &mut self {
            Action::Upsert { if_match: own, .. }
            | Action::Replace { if_match: own, .. }
            | Action::Delete { if_match: own }
            | Action::Patch { if_match: own, .. }
            | Action::Read { if_none_match: own } => *own = Condition::None,
            Action::Create { .. } | Action::Strict { .. } => {}
        }
        Action::Strict { conditions, action: Box::new(self) }
    }

    /// Where a replacement's new storage key is.
    fn moved_to(&mut self) -> Option<&mut Option<Vec<u8>>> {
        match self {
            Action::Replace { moved_to, .. } => Some(moved_to),
            Action::Strict { action, .. } => action.moved_to(),
            _ => None,
        }
    }

    /// Says what comes of the conditions, if any, before the action itself is judged.
    ///
    /// What would be refused without conditions is refused the same with them (section 13.2.1).
    fn evaluate(&self, current: Option<&Version>) -> Evaluated {
        let Action::Strict { conditions, action } = self else { return Evaluated::Proceed };
        match (&**action, current) {
            (Action::Create { .. }, Some(_)) => Evaluated::Proceed,
            (Action::Create { .. } | Action::Upsert { .. }, None) => conditions.evaluate(None, false),
            (_, None) => Evaluated::Proceed,
            (action, Some(_)) => conditions.evaluate(current, matches!(action, Action::Read { .. })),
        }
    }
}

pub(crate) type Apply<'a> = Box<dyn FnOnce(&Version) -> Result<Vec<u8>, ApiError> + 'a>;

/// One operation, addressed.
pub(crate) struct Operation<'a> {
    /// The item's storage key.
    pub(crate) key: Vec<u8>,
    /// Set when the item was addressed by its rid: the item made by this commit, and no later one under the same id.
    pub(crate) created: Option<CommitSeq>,
    pub(crate) action: Action<'a>,
}

/// How one operation ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// 200 or 201, with the version read or written.
    Item(StatusCode, Version),
    /// 204: deleted.
    Deleted,
    /// 304: the version read is the one the client has.
    NotModified(Etag, CommitSeq),
    Refused(ApiError),
    /// 424: not tried, or undone, because another operation of the batch was refused.
    Dependent,
}

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

/// What an allowed operation does.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Put(StatusCode, Vec<u8>),
    Delete,
    Read,
    NotModified,
}

/// Judges one operation against the version it finds: the whole table of optimistic concurrency.
fn judge(action: Action<'_>, created: Option<CommitSeq>, current: Option<&Version>) -> Result<Verdict, ApiError> {
    let current = current.filter(|found| created.is_none_or(|created| found.created == created));
    let hold = |condition: Condition, current: &Version| match condition {
        Condition::None => Ok(()),
        condition if condition.names(current.etag) => Ok(()),
        _ => Err(ApiError::precondition(Some(current.etag)).showing(current)),
    };
    match (action.evaluate(current), current) {
        (Evaluated::Proceed, _) => {}
        (Evaluated::NotModified, _) => return Ok(Verdict::NotModified),
        (Evaluated::Failed, Some(current)) => {
            return Err(ApiError::precondition(Some(current.etag)).showing(current));
        }
        (Evaluated::Failed, None) => return Err(ApiError::precondition(None)),
    }
    match (action, current) {
        (Action::Strict { action, .. }, current) => judge(*action, created, current),
        (Action::Create { body } | Action::Upsert { body, .. }, None) => Ok(Verdict::Put(StatusCode::CREATED, body)),
        (Action::Create { .. }, Some(current)) => Err(ApiError::conflict(Some(current.etag)).showing(current)),
        (_, None) => Err(ApiError::not_found("Entity with the specified id does not exist in the system.")),
        (Action::Upsert { body, if_match } | Action::Replace { body, if_match, .. }, Some(current)) => {
            hold(if_match, current)?;
            Ok(Verdict::Put(StatusCode::OK, body))
        }
        (Action::Delete { if_match }, Some(current)) => {
            hold(if_match, current)?;
            Ok(Verdict::Delete)
        }
        (Action::Read { if_none_match }, Some(current)) => {
            Ok(if if_none_match.names(current.etag) { Verdict::NotModified } else { Verdict::Read })
        }
        (Action::Patch { if_match, apply }, Some(current)) => {
            hold(if_match, current)?;
            Ok(Verdict::Put(StatusCode::OK, apply(current)?))
        }
    }
}

/// Judges a read of the version that was found, without a batch around it.
pub(crate) fn read(operation: Operation<'_>, version: Option<Version>) -> Outcome {
    match (judge(operation.action, operation.created, version.as_ref()), version) {
        (Ok(Verdict::NotModified), Some(version)) => Outcome::NotModified(version.etag, version.seq),
        (Ok(_), Some(version)) => Outcome::Item(StatusCode::OK, version),
        (Ok(_), None) => {
            Outcome::Refused(ApiError::new(Kind::InternalServerError, "an item that is not there was read"))
        }
        (Err(error), _) => Outcome::Refused(error),
    }
}

/// Runs operations in order as one step of the store. An operation that was refused before (its partition key
/// contradicts the request's, say) takes its turn like any other, so the first refusal in order is the one reported.
///
/// # Errors
///
/// Only what stops all of them: a failing disk, a container that is gone, a guard whose key was used for something else.
pub(crate) fn run(
    store: &Store,
    container: &Container,
    operations: Vec<Result<Operation<'_>, ApiError>>,
    mode: Mode,
    guard: Option<&Guard<'_>>,
) -> Result<Ran, ApiError> {
    let done_before = RefCell::new(None);
    let progress = RefCell::new(Progress {
        slots: operations.iter().map(|_| Slot::Waiting).collect(),
        refused: false,
        last_write: HashMap::new(),
        notes: guard.map(|_| Notes::default()),
        mode,
    });
    let mut batch = store.batch();
    if let Some(guard) = guard {
        guard.look(&mut batch, &done_before);
    }
    for (index, operation) in operations.into_iter().enumerate() {
        add(&mut batch, container, index, operation, &progress);
    }
    if let Some(guard) = guard {
        guard.remember(&mut batch, |distances| {
            let progress = progress.borrow();
            Record::of(&progress.slots, progress.notes.as_ref()?, distances)
        });
    }
    let committed = batch.commit();
    if let (Some(document), Some(guard)) = (done_before.into_inner(), guard) {
        return guard.recall(&document);
    }
    let progress = progress.into_inner();
    match committed {
        Ok(written) => Ok(finish(progress, &written)),
        Err(Error::Aborted { .. }) => {
            let outcomes = progress.slots.into_iter().map(|slot| match slot {
                Slot::Refused(error) => Outcome::Refused(error),
                Slot::NotModified(etag, seq) if progress.mode == Mode::AllOrNothing => Outcome::NotModified(etag, seq),
                _ => Outcome::Dependent,
            });
            Ok(Ran { outcomes: outcomes.collect(), commits: None, recalled: false })
        }
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
    mode: Mode,
}

/// How far one operation is. `at` counts the store's operations, of which a move takes three.
#[derive(Debug)]
pub(crate) enum Slot {
    Waiting,
    /// A replacement under another id, allowed by the old one and waiting for the new one.
    Moving(Vec<u8>),
    Wrote {
        status: StatusCode,
        body: Bytes,
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

    fn wrote(&mut self, index: usize, key: Vec<u8>, status: StatusCode, body: Vec<u8>, at: usize) -> Change {
        self.slots[index] = Slot::Wrote { status, body: Bytes::from(body.clone()), at };
        self.last_write.insert(key, at);
        Change::Put(body)
    }
}

/// Adds one of the store's operations. All writes of a run go through here, so that none is missing from its notes.
fn step<'a>(
    batch: &mut WriteBatch<'a>,
    container: &Container,
    key: &[u8],
    progress: &'a RefCell<Progress>,
    change: impl FnOnce(Option<&Document>) -> Result<Change, Abort> + 'a,
) {
    let at = batch.len();
    let own_key = progress.borrow().notes.is_some().then(|| key.to_vec());
    batch.update(&container.items, key, move |document| {
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
    operation: Result<Operation<'a>, ApiError>,
    progress: &'a RefCell<Progress>,
) {
    let at = batch.len();
    let Operation { key, created, mut action } = match operation {
        Ok(operation) => operation,
        Err(error) => {
            // It touches no item; the key is one that no item has.
            step(batch, container, &[0], progress, move |_| {
                let mut progress = progress.borrow_mut();
                if progress.skips() { progress.skip(index) } else { progress.refuse(index, Slot::Refused(error)) }
            });
            return;
        }
    };
    let moved_to = action.moved_to().and_then(Option::take);
    let (own_key, moves) = (key.clone(), moved_to.is_some());
    step(batch, container, &key, progress, move |document| {
        let mut progress = progress.borrow_mut();
        if progress.skips() {
            return progress.skip(index);
        }
        let current = document.map(Version::of);
        match (judge(action, created, current.as_ref()), current) {
            (Ok(Verdict::Put(_, body)), _) if moves => {
                progress.slots[index] = Slot::Moving(body);
                Ok(Change::Keep)
            }
            (Ok(Verdict::Put(status, body)), _) => Ok(progress.wrote(index, own_key, status, body, at)),
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
            (Err(error), _) => progress.refuse(index, Slot::Refused(error)),
        }
    });
    if let Some(new_key) = moved_to {
        // The new id is written before the old one is deleted, so that a refusal here leaves the old one alone.
        let at = batch.len();
        let target = new_key.clone();
        step(batch, container, &target, progress, move |document| {
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
        step(batch, container, &key, progress, move |_| {
            let progress = progress.borrow();
            Ok(if matches!(progress.slots[index], Slot::Wrote { .. }) { Change::Delete } else { Change::Keep })
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
        Slot::Wrote { status, body, at } => {
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

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: &str = "01234567-89ab-cdef-0000-000000000029";

    fn version(created: u64) -> Version {
        let (seq, created) = (CommitSeq::new(9), CommitSeq::new(created));
        Version { body: Bytes::from_static(b"{}"), etag: CURRENT.parse().unwrap(), seq, created, time_ms: 0 }
    }

    /// The verdicts on an absent and on a present item, as statuses, for four conditions.
    fn statuses(action: impl Fn(Condition) -> Action<'static>) -> [[u16; 4]; 2] {
        let conditions = [
            Condition::None,
            Condition::Any,
            Condition::parse(format!("\"{CURRENT}\"").as_bytes()),
            Condition::parse(CURRENT.as_bytes()),
        ];
        [None, Some(version(7))].map(|current| {
            conditions.map(|condition| match judge(action(condition), None, current.as_ref()) {
                Ok(Verdict::Put(status, _)) => status.as_u16(),
                Ok(Verdict::Delete) => 204,
                Ok(Verdict::Read) => 200,
                Ok(Verdict::NotModified) => 304,
                Err(error) => error.kind.status().as_u16(),
            })
        })
    }

    /// Columns: no condition, `*`, the current etag, the current etag without its quotes.
    #[test]
    fn the_table_of_optimistic_concurrency() {
        let create = statuses(|_| Action::Create { body: Vec::new() });
        assert_eq!(create, [[201; 4], [409; 4]]);
        let upsert = statuses(|if_match| Action::Upsert { body: Vec::new(), if_match });
        assert_eq!(upsert, [[201; 4], [200, 200, 200, 412]]);
        let replace = statuses(|if_match| Action::Replace { body: Vec::new(), if_match, moved_to: None });
        assert_eq!(replace, [[404; 4], [200, 200, 200, 412]]);
        let delete = statuses(|if_match| Action::Delete { if_match });
        assert_eq!(delete, [[404; 4], [204, 204, 204, 412]]);
        let read = statuses(|if_none_match| Action::Read { if_none_match });
        assert_eq!(read, [[404; 4], [200, 304, 304, 200]]);
        let patch = statuses(|if_match| Action::Patch { if_match, apply: Box::new(|_| Ok(Vec::new())) });
        assert_eq!(patch, [[404; 4], [200, 200, 200, 412]]);
    }

    #[test]
    fn an_item_made_again_is_not_the_one_its_old_rid_names() {
        let read = || Action::Read { if_none_match: Condition::None };
        let old = Some(CommitSeq::new(7));
        assert_eq!(judge(read(), old, Some(&version(8))).unwrap_err().kind, Kind::NotFound);
        assert_eq!(judge(read(), old, Some(&version(7))).unwrap(), Verdict::Read);
    }
}
